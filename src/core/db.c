/* SPDX-License-Identifier: Apache-2.0 */
#include "core/db.h"

#include <errno.h>
#include <stdlib.h>

#include "base/str.h"
#include "core/db_internal.h"
#include "core/snapshot.h"

/* A function of ours on its way through bolt, which knows only errno: the error travels beside. */
struct call {
	int (*fn)(struct bolt_tx *tx, void *arg, struct err *err);
	void *arg;
	struct err err;
	int rc;
};

/* May run on another thread than the caller's (who waits), and more than once. */
static int call_run(struct bolt_tx *tx, void *arg)
{
	struct call *c = arg;

	c->err = ERR_INIT;
	c->rc = c->fn(tx, c->arg, &c->err);
	return c->rc < 0 ? -ECANCELED : 0;
}

static int call_result(const struct call *c, int rc, struct err *err)
{
	if (c->rc < 0)
		return err_copy(err, &c->err);
	return rc < 0 ? err_errno(err, rc, "metadata") : 0;
}

int db_check_namespace(const struct ctx *ctx, struct err *err)
{
	const char *ns;

	return ctx_namespace(ctx, &ns, err);
}

int db_update_locked(struct db *db, int (*fn)(struct bolt_tx *tx, void *arg, struct err *err),
		     void *arg, struct err *err)
{
	struct call c = {.fn = fn, .arg = arg};

	return call_result(&c, bolt_update(db->bolt, call_run, &c), err);
}

int db_update_always(struct db *db, int (*fn)(struct bolt_tx *tx, void *arg, struct err *err),
		     void *arg, struct err *err)
{
	int rc;

	{
		READ_GUARD(&db->gc_lock);
		rc = db_update_locked(db, fn, arg, err);
	}
	if (rc == 0)
		db_mark_dirty(db, false);
	return rc;
}

int db_update(struct ctx *ctx, struct db *db,
	      int (*fn)(struct bolt_tx *tx, void *arg, struct err *err), void *arg, struct err *err)
{
	int rc = ctx_check(ctx, err);

	return rc < 0 ? rc : db_update_always(db, fn, arg, err);
}

int db_view(struct ctx *ctx, struct db *db,
	    int (*fn)(struct bolt_tx *tx, void *arg, struct err *err), void *arg, struct err *err)
{
	struct call c = {.fn = fn, .arg = arg};

	(void)ctx;
	return call_result(&c, bolt_view(db->bolt, call_run, &c), err);
}

void db_mark_dirty(struct db *db, bool deletion)
{
	MUTEX_GUARD(&db->hook_lock);

	if (db->hook)
		db->hook(db->hook_arg, deletion);
}

void db_on_mutation(struct db *db, void (*fn)(void *arg, bool deletion), void *arg)
{
	MUTEX_GUARD(&db->hook_lock);

	db->hook = fn;
	db->hook_arg = arg;
}

static int rwlock_new(pthread_rwlock_t *l)
{
	pthread_rwlockattr_t attr;
	int rc = pthread_rwlockattr_init(&attr);

	if (rc)
		return -rc;
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	rc = pthread_rwlock_init(l, &attr);
	pthread_rwlockattr_destroy(&attr);
	return -rc;
}

static int locks_new(struct db *db)
{
	int rc = rwlock_new(&db->gc_lock);

	if (rc < 0)
		return rc;
	rc = rwlock_new(&db->content_lock);
	if (rc < 0) {
		pthread_rwlock_destroy(&db->gc_lock);
		return rc;
	}
	rc = -pthread_mutex_init(&db->hook_lock, NULL);
	if (rc < 0) {
		pthread_rwlock_destroy(&db->gc_lock);
		pthread_rwlock_destroy(&db->content_lock);
	}
	return rc;
}

int db_open(const struct db_options *o, struct db **ret, struct err *err)
{
	struct bolt_options bo = {
		.no_freelist_sync = true,
		.no_sync = o->no_sync,
		.mode = 0644,
		.lock_timeout_ns = o->lock_timeout_ns,
	};
	struct db *db = calloc(1, sizeof(*db));
	int rc;

	if (!db)
		return err_nomem(err);
	rc = locks_new(db);
	if (rc < 0) {
		free(db);
		return err_errno(err, rc, "make locks");
	}
	db->content_isolated = o->content_isolated;
	db->content = o->content;
	db->events = o->events;
	db->content_dirty =
		true; /* what an earlier run left undone is found by the first collection */
	rc = bolt_open(o->path, &bo, &db->bolt);
	if (rc < 0)
		rc = err_errno(err, rc, "open `%s`", o->path);
	else if (schema_migrate(db->bolt, err) < 0)
		rc = err_prefix(err, "migrate `%s`", o->path);
	if (rc < 0) {
		db_close(db);
		return rc;
	}
	*ret = db;
	return 0;
}

void db_close(struct db *db)
{
	if (!db)
		return;
	if (db->bolt)
		bolt_close(db->bolt);
	for (size_t i = 0; i < db->n_snapshotters; i++) {
		pthread_rwlock_destroy(&db->snapshotters[i].lock);
		pthread_mutex_destroy(&db->snapshotters[i].commit_lock);
	}
	pthread_rwlock_destroy(&db->gc_lock);
	pthread_rwlock_destroy(&db->content_lock);
	pthread_mutex_destroy(&db->hook_lock);
	free(db);
}

int db_add_snapshotter(struct db *db, struct snapshotter *sn, struct err *err)
{
	struct db_snapshotter *s;
	int rc;

	if (db->n_snapshotters == DB_SNAPSHOTTERS_MAX)
		return err_set(err, ERR_RESOURCE_EXHAUSTED, "more than %d snapshotters",
			       DB_SNAPSHOTTERS_MAX);
	for (size_t i = 0; i < db->n_snapshotters; i++)
		if (streq(db->snapshotters[i].sn->name, sn->name))
			return err_set(err, ERR_ALREADY_EXISTS, "snapshotter \"%s\"", sn->name);
	s = &db->snapshotters[db->n_snapshotters];
	rc = rwlock_new(&s->lock);
	if (rc < 0)
		return err_errno(err, rc, "make locks");
	pthread_mutex_init(&s->commit_lock, NULL);
	s->sn = sn;
	s->dirty = true;
	db->n_snapshotters++;
	return 0;
}

struct db_snapshotter *db_find_snapshotter(struct db *db, const char *name, struct err *err)
{
	if (str_empty(name)) {
		err_set(err, ERR_INVALID_ARGUMENT, "snapshotter argument missing");
		return NULL;
	}
	for (size_t i = 0; i < db->n_snapshotters; i++)
		if (streq(db->snapshotters[i].sn->name, name))
			return &db->snapshotters[i];
	err_set(err, ERR_INVALID_ARGUMENT, "snapshotter not loaded: %s", name);
	return NULL;
}

int db_snapshotter(struct db *db, const char *name, struct snapshotter **ret, struct err *err)
{
	struct db_snapshotter *s = db_find_snapshotter(db, name, err);

	if (!s)
		return -ERR_INVALID_ARGUMENT;
	*ret = s->sn;
	return 0;
}

struct content_store *db_content(struct db *db)
{
	return db->content;
}

struct event_exchange *db_events(struct db *db)
{
	return db->events;
}

void db_publish(struct ctx *ctx, struct db *db, const char *topic, const ProtobufCMessage *msg)
{
	if (db->events)
		(void)event_publish(ctx, db->events, topic, msg, NULL);
}
