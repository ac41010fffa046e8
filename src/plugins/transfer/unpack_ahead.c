/* SPDX-License-Identifier: Apache-2.0 */
/* Layers into snapshots, several at a time, for a snapshotter that can give a snapshot its parent
 * when it is committed.
 *
 * Up to max_unpacks pool jobs take the layers in order; each is unpacked into a snapshot without a
 * parent, with its whiteouts kept. The calling thread commits the snapshots in order, each onto the
 * one before. A layer that turns out to depend on those below it (directories that it does not name
 * itself, links into them) is unpacked again by the calling thread when its turn has come: so the
 * result is the same as in unpack.c.
 *
 * Nothing stays of what was not committed. */
#include <errno.h>
#include <stdlib.h>

#include "base/str.h"
#include "plugins/transfer/internal.h"

enum piece_state {
	PIECE_WAITING,
	PIECE_UNPACKED, /* into the snapshot @key */
	PIECE_THERE,	/* the committed snapshot exists */
	PIECE_IN_TURN,	/* depends on those below */
	PIECE_FAILED,
};

struct piece {
	enum piece_state state; /* under the lock */
	const char *key, *chain, *parent;
	struct labels labels;
	struct err err;
};

struct ahead {
	struct unpack *u;
	struct piece *pieces;
	pthread_mutex_t lock; /* what follows */
	pthread_cond_t changed;
	size_t next;
	int running;
	bool stop;
};

struct job {
	struct ahead *a;
	struct ctx ctx;
};

/* ---- jobs ---- */

/* PIECE_*, or a negative kind. */
static int piece_unpack(struct unpack *u, size_t i, struct piece *p, struct err *err)
{
	struct layer *l = u->layers[i];
	struct descriptor applied;
	struct mounts m;
	int r = snapshot_prepare(u->ctx, u->t->o.db, u->snapshotter, SNAPSHOT_ACTIVE, p->key, "",
				 &p->labels, &m, err);

	if (r == -ERR_ALREADY_EXISTS) {
		r = unpack_wait(l, err);
		return r < 0 ? r : PIECE_THERE;
	}
	if (r < 0)
		return r;
	report_object(u->rep, "extracting", l->name, &l->desc, 0, l->desc.size);
	r = unpack_apply(u, l, &m, i > 0, &applied, err);
	if (r == 0)
		r = unpack_check(u, i, &applied, err);
	if (r == 0)
		return PIECE_UNPACKED;
	unpack_drop(u, p->key);
	if (r == -ERR_ABORTED && i > 0)
		return PIECE_IN_TURN;
	return err_prefix(err, "extract layer %s", l->desc.digest);
}

static bool take_next(struct ahead *a, size_t *ret)
{
	MUTEX_GUARD(&a->lock);
	if (a->stop || a->next == a->u->n)
		return false;
	*ret = a->next++;
	return true;
}

static void job_run(void *arg)
{
	struct job *j = arg;
	struct ahead *a = j->a;
	struct unpack mine = *a->u;
	size_t i;

	mine.ctx = &j->ctx;
	while (take_next(a, &i)) {
		struct piece *p = &a->pieces[i];
		struct err err = ERR_INIT;
		int r = ctx_check(&j->ctx, &err);

		if (r == 0)
			r = piece_unpack(&mine, i, p, &err);
		arena_reset(j->ctx.arena);
		pthread_mutex_lock(&a->lock);
		p->state = r < 0 ? PIECE_FAILED : (enum piece_state)r;
		if (r < 0)
			err_copy(&p->err, &err);
		pthread_cond_broadcast(&a->changed);
		pthread_mutex_unlock(&a->lock);
	}
	MUTEX_GUARD(&a->lock);
	a->running--;
	pthread_cond_broadcast(&a->changed);
}

static int job_start(struct ahead *a, struct job *j)
{
	const struct ctx *ctx = a->u->ctx;
	int r;

	j->a = a;
	j->ctx.ns = ctx->ns;
	j->ctx.lease = ctx->lease;
	j->ctx.deadline = ctx->deadline;
	j->ctx.parent = ctx;
	j->ctx.arena = arena_new(0);
	pthread_mutex_lock(&a->lock);
	a->running++;
	pthread_mutex_unlock(&a->lock);
	r = j->ctx.arena ? pool_submit(a->u->t->o.pool, job_run, j) : -ENOMEM;
	if (r == 0)
		return 0;
	arena_free(TAKE_PTR(j->ctx.arena));
	pthread_mutex_lock(&a->lock);
	a->running--;
	pthread_mutex_unlock(&a->lock);
	return r;
}

/* ---- in order ---- */

static enum piece_state piece_wait(struct ahead *a, const struct piece *p)
{
	MUTEX_GUARD(&a->lock);
	while (p->state == PIECE_WAITING)
		pthread_cond_wait(&a->changed, &a->lock);
	return p->state;
}

static int piece_commit(struct unpack *u, size_t i, struct piece *p, struct err *err)
{
	struct layer *l = u->layers[i];
	struct db *db = u->t->o.db;
	int r = snapshot_commit(u->ctx, db, u->snapshotter, p->chain, p->key, p->parent, &p->labels,
				err);

	/* Failed, or somebody else was faster. */
	if (r < 0)
		unpack_drop(u, p->key);
	if (r < 0 && r != -ERR_ALREADY_EXISTS)
		return err_prefix(err, "extract layer %s", l->desc.digest);
	report_object(u->rep, "extracted", l->name, &l->desc, l->desc.size, l->desc.size);
	return content_label(u->ctx, db, l->desc.digest, "containerd.io/uncompressed",
			     u->diff_ids[i], err);
}

static int piece_finish(struct ahead *a, size_t i, struct err *err)
{
	struct unpack *u = a->u;
	struct piece *p = &a->pieces[i];
	enum piece_state state = piece_wait(a, p);

	switch (state) {
	case PIECE_THERE:
		report_object(u->rep, "extracted", u->layers[i]->name, &u->layers[i]->desc,
			      u->layers[i]->desc.size, u->layers[i]->desc.size);
		return content_label(u->ctx, u->t->o.db, u->layers[i]->desc.digest,
				     "containerd.io/uncompressed", u->diff_ids[i], err);
	case PIECE_UNPACKED:
		/* Whatever comes of it, it is not to be removed once more. */
		p->state = PIECE_THERE;
		return piece_commit(u, i, p, err);
	case PIECE_IN_TURN:
		return unpack_layer(u, i, p->parent, p->chain, err);
	default:
		return err_copy(err, &p->err);
	}
}

static int pieces_new(struct unpack *u, struct piece **ret, struct err *err)
{
	struct arena *a = u->ctx->arena;
	struct piece *v = arena_new_array(a, struct piece, u->n + 1);
	const char *parent = "";

	for (size_t i = 0; v && i < u->n; i++) {
		v[i] = (struct piece){.chain = chain_id(a, u->diff_ids, i + 1), .parent = parent};
		v[i].key = v[i].chain ? unpack_key(a, v[i].chain) : NULL;
		if (!v[i].key || unpack_labels(u, i, v[i].chain, parent, &v[i].labels) < 0)
			return err_nomem(err);
		parent = v[i].chain;
	}
	if (!v)
		return err_nomem(err);
	*ret = v;
	return 0;
}

/* Ends the jobs and removes what they have left. */
static void jobs_end(struct ahead *a, struct job *jobs, size_t n)
{
	struct unpack *u = a->u;

	pthread_mutex_lock(&a->lock);
	a->stop = true;
	for (size_t i = 0; i < n; i++)
		atomic_store(&jobs[i].ctx.canceled, true);
	while (a->running)
		pthread_cond_wait(&a->changed, &a->lock);
	pthread_mutex_unlock(&a->lock);
	for (size_t i = 0; i < n; i++)
		arena_free(jobs[i].ctx.arena);
	for (size_t i = 0; i < u->n; i++)
		if (a->pieces[i].state == PIECE_UNPACKED)
			unpack_drop(u, a->pieces[i].key);
}

int unpack_ahead(struct unpack *u, const char **ret_chain, struct err *err)
{
	struct ahead a = {.u = u};
	size_t n = MIN(u->n, (size_t)u->t->o.max_unpacks), started = 0;
	struct job *jobs = arena_new_array(u->ctx->arena, struct job, n + 1);
	int r = jobs ? pieces_new(u, &a.pieces, err) : err_nomem(err);

	if (r < 0)
		return r;
	pthread_mutex_init(&a.lock, NULL);
	pthread_cond_init(&a.changed, NULL);
	for (; r == 0 && started < n; started++) {
		int x = job_start(&a, &jobs[started]);

		/* One is enough. */
		if (x < 0 && started == 0)
			r = err_errno(err, x, "start unpacking");
		if (x < 0)
			break;
	}
	for (size_t i = 0; r == 0 && i < u->n; i++) {
		r = ctx_check(u->ctx, err);
		if (r == 0)
			r = piece_finish(&a, i, err);
	}
	jobs_end(&a, jobs, started);
	pthread_cond_destroy(&a.changed);
	pthread_mutex_destroy(&a.lock);
	if (r == 0)
		*ret_chain = a.pieces[u->n - 1].chain;
	return r;
}
