/* SPDX-License-Identifier: Apache-2.0 */
/* What pods and containers have in common: an id, a reserved name, a place in a table, a life by
 * references, and at most one operation that changes them at a time.
 *
 * An object's arena holds what never changes and what replaces changing strings: a string that was
 * read under the lock stays valid while a reference is held, even when it has been replaced since.
 * What changes is guarded by the object's lock, which is never held across anything that blocks.
 * Operations that block (stop, remove, start) are serialised by cri_object_begin(), which waits no
 * longer than the request may; so a pod in trouble blocks only requests about itself.
 *
 * Any thread. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/arena.h"
#include "base/ctx.h"
#include "base/err.h"

#define CRI_ID_LEN 64 /* hex digits of 32 random bytes */

struct cri_object {
	const char *id;	  /* in @arena */
	const char *name; /* as it is reserved */
	struct arena *arena;
	pthread_mutex_t lock;
	pthread_cond_t changed; /* CLOCK_MONOTONIC */
	bool busy;
	atomic_uint refs;
	void (*release)(struct cri_object *o); /* before the arena is freed; or NULL */
};

/* A zeroed struct, of @size bytes that begin with a cri_object, in an arena of its own, with one
 * reference. */
int cri_object_new(size_t size, const char *id, const char *name,
		   void (*release)(struct cri_object *o), void *ret /* T ** */,
		   struct err *err) _must_check_;
void cri_object_ref(struct cri_object *o);
void cri_object_unref(struct cri_object *o); /* NULL is fine */

/* Waits until nobody else operates on @o, and then is the one. -ERR_DEADLINE_EXCEEDED,
 * -ERR_CANCELED: the request is over. */
int cri_object_begin(struct ctx *ctx, struct cri_object *o, struct err *err) _must_check_;
void cri_object_end(struct cri_object *o);
/* Under the lock: waits for a broadcast of @changed, at most until ctx is over (looked at ten times
 * a second, since nothing wakes for a cancellation). */
int cri_object_wait(struct ctx *ctx, struct cri_object *o, struct err *err) _must_check_;

static inline void cri_object_endp(struct cri_object **o)
{
	if (*o)
		cri_object_end(*o);
}

struct cri_table;

/* @noun "sandbox" or "container", for errors. NULL = no memory. */
struct cri_table *cri_table_new(const char *noun);
/* Drops the table's references. */
void cri_table_free(struct cri_table *t);

/* Reserves @name for @id, before anything is made. Again by the same id is fine.
 * -ERR_UNKNOWN `failed to reserve sandbox name "n": name "n" is reserved for "id"`, as containerd
 * says it. */
int cri_table_reserve(struct cri_table *t, const char *name, const char *id,
		      struct err *err) _must_check_;
/* What @id has reserved. */
void cri_table_release(struct cri_table *t, const char *id);

/* Takes a reference of its own. -ERR_ALREADY_EXISTS. */
int cri_table_add(struct cri_table *t, struct cri_object *o, struct err *err) _must_check_;
/* Drops it; absent is fine. */
void cri_table_remove(struct cri_table *t, const char *id);
/* By id, or by a prefix of it that only one has; with a reference.
 * -ERR_NOT_FOUND `an error occurred when try to find container "x": not found`;
 * -ERR_INVALID_ARGUMENT an empty or an ambiguous id. */
int cri_table_get(struct cri_table *t, const char *id, void *ret /* T ** */,
		  struct err *err) _must_check_;
/* All, in order of their ids, each with a reference, in an array in @a. */
int cri_table_list(struct cri_table *t, struct arena *a, struct cri_object ***ret, size_t *ret_n,
		   struct err *err) _must_check_;
void cri_objects_unref(struct cri_object **v, size_t n);
size_t cri_table_count(struct cri_table *t);

/* A new id. */
void cri_id_new(char ret[CRI_ID_LEN + 1]);
