/* SPDX-License-Identifier: Apache-2.0 */
/* io.containerd.monitor.task.v1 cgroups: the resource use of all tasks, for who measures them.
 *
 * Shims are asked when somebody wants to know; nothing is kept between two questions. */
#pragma once

#include "plugins/runtime/runtime.h"

struct task_metric {
	const char *ns, *id;
	struct timespec at;
	struct any stats; /* an io.containerd.cgroups.v1.Metrics or .v2.Metrics */
};

/* Asks the shims of all tasks of all namespaces at the same time, each for at most
 * io.containerd.timeout.metrics.shimstats; who does not answer, or has nothing to tell, is left
 * out. Sorted by namespace and id, in ctx's arena; ctx needs no namespace. Blocks: never on the
 * loop's thread. */
int runtime_metrics(struct ctx *ctx, struct runtime *rt, struct task_metric **ret, size_t *ret_n,
		    struct err *err) _must_check_;
