/* SPDX-License-Identifier: Apache-2.0 */
/* Shims that run: what those of tasks and those of sandboxes have in common.
 *
 * All of one plugin are in one hash table under one lock, which is held for look-ups only. One is
 * there from the moment its creation begins (so that a second one of the same id is refused) and
 * leaves it with its bundle. References keep the connection alive; the last one ends it, on the
 * loop. When a connection ends although nobody asked the shim to go, it has died: a pool job cleans
 * up after it.
 *
 * Any thread, unless a function says otherwise. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "plugins/runtime/shim.h"

#define LIVE_SHIM_BUCKETS 1024u

enum live_state { LIVE_CREATING, LIVE_READY, LIVE_ENDING, LIVE_DEAD };

struct live_shim {
	struct live_shims *all;
	struct live_shim *next;		 /* in the bucket, under the lock */
	struct live_shim *older, *newer; /* of all that exist, under the lock */
	atomic_int refs;
	atomic_int state;
	atomic_bool closed; /* the connection has ended */
	bool leaving;	    /* was told to go and has not answered yet, under the lock */
	char *ns, *id;
	char *binary;  /* "" when unknown */
	char *address; /* with its protocol; "" until it is known */
	char *sandbox; /* whose shim a task has joined; "" = its own */
	int version;   /* of the task API */
	uint32_t pid;  /* of a task */
	struct rpc_client *client;
	struct shim_log *log;
};

struct live_shims {
	struct runtime_options o;
	const char *noun, *taken; /* "task"; what ALREADY_EXISTS says after the id */
	/* Cleans up after a shim that is gone, and removes it. Blocks. */
	void (*bury)(struct ctx *ctx, struct live_shim *s);
	pthread_mutex_t lock;
	pthread_cond_t left; /* one is not leaving any more */
	size_t n_leaving;
	struct live_shim *buckets[LIVE_SHIM_BUCKETS];
	struct live_shim *newest; /* also of those that left the table and have references */
	struct live_shim *dead;	  /* that have none: the loop's to free */
	atomic_bool closing;	  /* no more cleaning up after shims */
	atomic_bool stopped;	  /* the loop does not run any more */
};

/* o, noun, taken and bury are set. */
void live_shims_init(struct live_shims *all);
/* As of runtime_quiesce(), runtime_disconnect() and runtime_free(). */
void live_shims_quiesce(struct live_shims *all);
void live_shims_disconnect(struct live_shims *all);
void live_shims_destroy(struct live_shims *all);

/* A new one, CREATING, with a reference. -ERR_ALREADY_EXISTS */
int live_shim_add(struct live_shims *all, const char *ns, const char *id, struct live_shim **ret,
		  struct err *err) _must_check_;
/* With a reference; NULL when it is not there. */
struct live_shim *live_shim_find(struct live_shims *all, const char *ns, const char *id);
/* Takes it out of the table, once. */
void live_shim_remove(struct live_shim *s);
struct live_shim *live_shim_ref(struct live_shim *s);
void live_shim_unref(struct live_shim *s);
DEFINE_CLEANUP(struct live_shim *, live_shim_unref)
#define _cleanup_live_shim_ _cleanup_(live_shim_unrefp)

/* Calls @fn for each that is READY or ENDING, of namespace @ns (NULL = all), under the lock, until
 * it returns non-zero. */
int live_shims_each(struct live_shims *all, const char *ns,
		    int (*fn)(void *arg, struct live_shim *s), void *arg);

/* Replaces one of the texts above. */
int live_shim_set(char **to, const char *text, struct err *err) _must_check_;
int live_shim_bundle(struct arena *a, const struct live_shim *s, struct bundle *ret,
		     struct err *err) _must_check_;
/* Connects. */
int live_shim_reach(struct live_shim *s, const struct shim_address *addr,
		    struct err *err) _must_check_;
/* The same for the shim of an earlier daemon, as the bundle says where it is. */
int live_shim_reload(struct arena *a, struct live_shim *s, const struct bundle *b,
		     struct err *err) _must_check_;
/* From now on calls reach it, and its death is noticed. */
void live_shim_ready(struct live_shim *s);
/* READY becomes ENDING: nobody else ends it, and its death is expected. */
bool live_shim_end(struct live_shim *s);

/* Around the call that tells it to go, which nobody waits for ... */
void live_shim_leaving(struct live_shim *s, bool leaving);
/* ... but who starts a shim of the same name: that would be led to a socket that is about to go. As
 * long as the call may take at most. */
void live_shim_wait_turn(struct live_shim *s);

/* Runs `shim delete` (where @deletes, and the binary is known) and removes the bundle; what fails
 * is logged. */
void live_shim_clear(struct ctx *ctx, struct live_shim *s, const struct bundle *b, bool deletes,
		     struct runtime_exit *ret);

/* Calls @fn for each bundle of an earlier daemon, with a shim just added, and ctx of its namespace.
 * Blocks; the loop must run. */
int live_shims_load(struct ctx *ctx, struct live_shims *all,
		    void (*fn)(struct ctx *ctx, struct live_shim *s, const struct bundle *b),
		    struct err *err) _must_check_;
