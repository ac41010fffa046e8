/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of struct db, for core's own files.
 *
 * Locks, in the order in which they are taken:
 *   content_lock     read: a call that works with blobs and ingests of the back end and records
 * them; write: removing from the back end what no record names. So a blob that a commit has found
 * or made does not vanish before its record is written. <snapshotter>.lock   the same for a
 * snapshotter's back end gc_lock          read: a write transaction; write: mark and sweep of
 * records bolt's own       writers one after the other None of them is taken twice by a thread. The
 * reader-writer locks prefer writers, so that a busy daemon is collected too.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "core/db.h"
#include "core/event.h"
#include "core/gc.h"

#define DB_SNAPSHOTTERS_MAX 64
#define DB_COLLECTORS_MAX 8

struct db_snapshotter {
	struct snapshotter *sn;
	pthread_rwlock_t lock;
	pthread_mutex_t commit_lock; /* of a remote or slow one, before all of bolt's */
	atomic_bool dirty;	     /* the back end may have more than the records name */
};

struct db {
	struct bolt *bolt;
	bool content_isolated;
	struct content_store *content;
	struct event_exchange *events;
	pthread_rwlock_t gc_lock;
	pthread_rwlock_t content_lock;
	atomic_bool content_dirty;
	struct db_snapshotter snapshotters[DB_SNAPSHOTTERS_MAX]; /* fixed once requests run */
	size_t n_snapshotters;
	struct gc_collector collectors[DB_COLLECTORS_MAX]; /* likewise */
	size_t n_collectors;
	pthread_mutex_t hook_lock; /* guards the two below, held during the call */
	void (*hook)(void *arg, bool deletion);
	void *hook_arg;
};

static inline void rwlock_unlockp(pthread_rwlock_t **l)
{
	if (*l)
		pthread_rwlock_unlock(*l);
}

static inline pthread_rwlock_t *rwlock_read(pthread_rwlock_t *l)
{
	pthread_rwlock_rdlock(l);
	return l;
}

static inline pthread_rwlock_t *rwlock_write(pthread_rwlock_t *l)
{
	pthread_rwlock_wrlock(l);
	return l;
}

/* Until the end of the enclosing block. */
#define RWLOCK_GUARD_(f, m, l) _cleanup_(rwlock_unlockp) _unused_ pthread_rwlock_t *guard_##l = f(m)
#define RWLOCK_GUARD__(f, m, l) RWLOCK_GUARD_(f, m, l)
#define READ_GUARD(m) RWLOCK_GUARD__(rwlock_read, m, __LINE__)
#define WRITE_GUARD(m) RWLOCK_GUARD__(rwlock_write, m, __LINE__)

/* NULL with @err as of db_snapshotter(). */
struct db_snapshotter *db_find_snapshotter(struct db *db, const char *name, struct err *err);

/* Runs @fn in a write transaction without taking gc_lock: for who holds it for writing. */
int db_update_locked(struct db *db, int (*fn)(struct bolt_tx *tx, void *arg, struct err *err),
		     void *arg, struct err *err) _must_check_;

/* db_update() for what must be done also after the request was canceled or ran out of time. */
int db_update_always(struct db *db, int (*fn)(struct bolt_tx *tx, void *arg, struct err *err),
		     void *arg, struct err *err) _must_check_;

/* "" and NULL namespaces fail here: the check that every namespaced call begins with. */
int db_check_namespace(const struct ctx *ctx, struct err *err) _must_check_;

/* Publishes what has happened already: that it can not be told is no failure of it. */
void db_publish(struct ctx *ctx, struct db *db, const char *topic, const ProtobufCMessage *msg);

/* schema_migrate.c: brings the buckets to SCHEMA_VERSION. */
int schema_migrate(struct bolt *b, struct err *err) _must_check_;
