/* SPDX-License-Identifier: Apache-2.0 */
/* How long operations take that succeed: histograms for the metrics server. Any thread. */
#pragma once

#include "base/buf.h"
#include "cri/internal.h"

enum cri_timer {
	CRI_TIMER_SANDBOX_LIST,
	CRI_TIMER_SANDBOX_CREATE_NETWORK,
	CRI_TIMER_SANDBOX_DELETE_NETWORK,
	CRI_TIMER_SANDBOX_RUNTIME_CREATE,
	CRI_TIMER_SANDBOX_RUNTIME_STOP,
	CRI_TIMER_SANDBOX_REMOVE,
	CRI_TIMER_CONTAINER_LIST,
	CRI_TIMER_CONTAINER_REMOVE,
	CRI_TIMER_CONTAINER_CREATE,
	CRI_TIMER_CONTAINER_STOP,
	CRI_TIMER_CONTAINER_START,
	CRI_TIMER_N
};

/* NULL = no memory. */
struct cri_timers *cri_timers_new(const struct cri_config *c);
void cri_timers_free(struct cri_timers *t); /* NULL is fine */

/* An operation that began at @begin (monotonic) has succeeded. @h whose runtime it was with; not
 * looked at where the timer has no such label; NULL = not known, not counted then. */
void cri_timer_add(struct cri *c, enum cri_timer which, const struct cri_handler *h, int64_t begin);
