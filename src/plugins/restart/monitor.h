/* SPDX-License-Identifier: Apache-2.0 */
/* io.containerd.monitor.container.v1 restart: keeps tasks in the state that labels of their
 * containers ask for.
 *
 *     containerd.io/restart.status              running or stopped: what is wanted; a container
 * without it is left alone containerd.io/restart.policy              no, always (also ""),
 * on-failure[:n], unless-stopped containerd.io/restart.count               how often it was
 * restarted; written by the monitor containerd.io/restart.loguri              where the output of
 * restarted tasks goes containerd.io/restart.explicitly-stopped  true: unless-stopped does not
 * apply
 *
 * One thread looks at all such containers of all namespaces once an interval, and earlier at those
 * whose tasks exit or whose records change. A task that ends again and again is restarted after
 * pauses that grow up to the interval. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/labels.h"

struct db;
struct event_exchange;
struct pool;
struct runtime;
struct restart_monitor;

struct restart_options {
	struct db *db;
	struct event_exchange *events;
	struct pool *pool; /* restarts run there */
	struct runtime *runtime;
	int64_t interval_ns; /* 0 = 10 s */
};

int restart_monitor_start(const struct restart_options *o, struct restart_monitor **ret,
			  struct err *err) _must_check_;
/* Cancels and waits for what is under way; nothing is started any more. While the pool and the loop
 * still run. May be called again. */
void restart_monitor_stop(struct restart_monitor *m);
/* Stops, frees. */
void restart_monitor_free(struct restart_monitor *m);

/* ---- the rules, for the monitor and its tests ---- */

enum restart_kind { RESTART_NO, RESTART_ALWAYS, RESTART_ON_FAILURE, RESTART_UNLESS_STOPPED };

struct restart_policy {
	enum restart_kind kind;
	int64_t max_retries; /* 0 = any number */
};

/* -ERR_INVALID_ARGUMENT `restart policy "x" not supported` and the like. */
int restart_policy_parse(const char *text, struct restart_policy *ret,
			 struct err *err) _must_check_;
/* May a task that does not run be started? @exit_status 0 when it never ran. 1, 0, or an error of
 * the policy. */
int restart_wanted(const struct labels *l, uint32_t exit_status, struct err *err) _must_check_;
/* The pause before the next start of a task that ran for @ran_ns (-1: could not be started), after
 * one of @last_ns. */
int64_t restart_pause(int64_t last_ns, int64_t ran_ns, int64_t interval_ns);
