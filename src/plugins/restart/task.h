/* SPDX-License-Identifier: Apache-2.0 */
/* What the restart monitor does with one task. Functions block; any thread but the loop's. ctx has
 * the namespace. */
#pragma once

#include "core/container.h"
#include "plugins/restart/monitor.h"

enum restart_state { TASK_ABSENT, TASK_CREATED, TASK_RUNNING, TASK_PAUSED, TASK_STOPPED };

/* *@ret_exit is of a stopped task, else 0. */
int restart_task_state(struct ctx *ctx, struct runtime *rt, const char *id, enum restart_state *ret,
		       uint32_t *ret_exit, struct err *err) _must_check_;
/* Removes what there is of an earlier task, counts, and starts the container's task anew. */
int restart_task_start(struct ctx *ctx, const struct restart_options *o, const char *id,
		       struct err *err) _must_check_;
/* Kills and deletes the task; fine when there is none. */
int restart_task_stop(struct ctx *ctx, const struct restart_options *o, const char *id,
		      struct err *err) _must_check_;
