/* SPDX-License-Identifier: Apache-2.0 */
/* Garbage collection: mark from the roots over labels and records, sweep records, then let the back
 * ends drop what no record names.
 *
 * The scheduler runs on a thread of its own; thresholds as containerd's gc.v1.scheduler. */
#pragma once

#include "base/labels.h"
#include "core/db.h"

struct gc_options {
	double pause_threshold;
	int deletion_threshold;
	int mutation_threshold;
	int64_t schedule_delay_ns;
	int64_t startup_delay_ns;
};

struct gc_scheduler;

/* Resources that live outside of the database and are collected with it: mounts, streams. */
struct gc_resource {
	const char *ns;
	const char *name;
	bool active;		     /* a root for a reason of its own */
	const char *lease;	     /* held by this one, NULL or "" = none */
	const struct labels *labels; /* back references, gc.root; may be NULL */
};

struct gc_collector {
	const char *label; /* what labels call it: containerd.io/gc.ref.<label> */
	/* Reports all of them with @add, whose failure it returns; from here to @end they must not
	 * become more alive than they are. */
	int (*begin)(void *arg, int (*add)(void *scan, const struct gc_resource *r), void *scan);
	/* Called once after each @begin that returned 0, also when the collection failed: those are
	 * not referred to. */
	void (*end)(void *arg, const struct gc_resource *dead, size_t n);
	void *arg;
};

/* Any time, also between collections. @c is copied. -ERR_RESOURCE_EXHAUSTED */
int gc_add_collector(struct db *db, const struct gc_collector *c, struct err *err) _must_check_;
/* The collector whose arg is @arg; waits for a collection that is under way. */
void gc_remove_collector(struct db *db, const void *arg);

/* One collection, now, on this thread. */
int gc_run(struct ctx *ctx, struct db *db, struct err *err) _must_check_;
int gc_scheduler_start(struct db *db, const struct gc_options *o, struct gc_scheduler **ret,
		       struct err *err) _must_check_;
/* Waits until a collection that began after this call has finished: deletes with sync=true. */
int gc_scheduler_wait(struct ctx *ctx, struct gc_scheduler *s, struct err *err) _must_check_;
void gc_scheduler_stop(struct gc_scheduler *s); /* and frees; NULL is fine */
