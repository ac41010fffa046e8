/* SPDX-License-Identifier: Apache-2.0 */
/* What operations take and how many there are: histograms, counters and a gauge for the metrics
 * server, with the names and labels that containerd gives them. Any thread; nothing blocks. */
#pragma once

#include "base/buf.h"
#include "cri/internal.h"

enum cri_timer {
	CRI_TIMER_SANDBOX_LIST,
	CRI_TIMER_SANDBOX_CREATE_NETWORK,
	CRI_TIMER_SANDBOX_DELETE_NETWORK,
	CRI_TIMER_SANDBOX_RUNTIME_CREATE, /* runtime: its type */
	CRI_TIMER_SANDBOX_RUNTIME_STOP,	  /* runtime: name of the handler, as the pod has it */
	CRI_TIMER_SANDBOX_REMOVE,	  /* the same */
	CRI_TIMER_CONTAINER_LIST,
	CRI_TIMER_CONTAINER_REMOVE, /* runtime: its type, also of those below */
	CRI_TIMER_CONTAINER_CREATE,
	CRI_TIMER_CONTAINER_STOP,
	CRI_TIMER_CONTAINER_START,
	CRI_TIMER_CONTAINER_CHECKPOINT,
	CRI_TIMER_N
};

/* NULL = no memory. */
struct cri_timers *cri_timers_new(const struct cri_config *c);
void cri_timers_free(struct cri_timers *t); /* NULL is fine */

/* An operation that began at @begin (monotonic) has succeeded, for a timer without a label ... */
void cri_timer_add(struct cri *c, enum cri_timer which, int64_t begin);
/* ... and for one with: the runtime that it was with. @h NULL = not known, not counted then.
 * @name: the pod's own name of the handler. */
void cri_timer_add_runtime(struct cri *c, enum cri_timer which, const struct cri_handler *h,
			   int64_t begin);
void cri_timer_add_handler(struct cri *c, enum cri_timer which, const char *name, int64_t begin);

/* A call of the network's plugins, whatever came of it. */
enum cri_network_op { CRI_NETWORK_SET_UP, CRI_NETWORK_TEAR_DOWN, CRI_NETWORK_OP_N };
void cri_count_network(struct cri *c, enum cri_network_op op, int64_t begin, bool failed);

/* Around a pull. @bytes that came from the registry. */
void cri_count_pull_begin(struct cri *c);
void cri_count_pull_end(struct cri *c, int64_t begin, uint64_t bytes, bool failed);

/* Events of containers that nobody was there for. */
void cri_count_event_dropped(struct cri *c);
