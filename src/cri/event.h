/* SPDX-License-Identifier: Apache-2.0 */
/* GetContainerEvents: what happens to pods and containers, complete and in order.
 *
 * Every event gets a place in one sequence; each subscriber has a queue that never blocks a
 * publisher: one that does not read is cut off with ResourceExhausted when its queue is full, and
 * lists anew. Events that nobody was there for are kept for 5 minutes (1000 events, 256 KiB) for
 * the first that comes. Any thread. */
#pragma once

#include "cri/internal.h"

int cri_events_new(struct cri *c, struct cri_events **ret, struct err *err) _must_check_;
/* Ends the streams. */
void cri_events_stop(struct cri_events *e);
void cri_events_free(struct cri_events *e);

/* @id: of the container, or of the pod itself. The statuses are taken now, so that the event shows
 * the state that it announces: call it after the change, before another may follow (between begin
 * and end). A failure is logged, since what happened has happened. */
void cri_event(struct ctx *ctx, struct cri *c, struct cri_pod *pod, const char *id,
	       Runtime__V1__ContainerEventType type);
