/* SPDX-License-Identifier: Apache-2.0 */
/* One blob by several requests at a time, each for a part of it.
 *
 * Pool jobs take the parts in order, each with a buffer of one part's size. Whose part is next in
 * the blob passes its bytes on as they come; the others keep theirs until it is their turn. So the
 * receiver gets the blob in order, as from one request. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "plugins/transfer/internal.h"

struct parts {
	const struct parts_request *q;
	struct ctx *ctx;
	pthread_mutex_t lock; /* what follows */
	pthread_cond_t changed;
	int64_t next;  /* where the part begins that is to be taken next */
	int64_t given; /* what the receiver has: it belongs to whose part that is in */
	int running;
	bool stop;
	struct err err;
};

struct job {
	struct parts *s;
	struct ctx ctx;
	char *buf;
	int64_t begin, end; /* of the part */
	int64_t have, given;
};

static bool take_next(struct parts *s, struct job *j)
{
	MUTEX_GUARD(&s->lock);
	if (s->stop || s->next == s->q->d->size)
		return false;
	j->begin = j->have = j->given = s->next;
	j->end = MIN(s->q->d->size, j->begin + s->q->part_bytes);
	s->next = j->end;
	return true;
}

static bool is_my_turn(struct parts *s, const struct job *j)
{
	MUTEX_GUARD(&s->lock);
	return s->given == j->given;
}

/* What was kept goes to the receiver; nobody else gives it anything until the part is over. */
static int pass_on(struct job *j, struct err *err)
{
	struct parts *s = j->s;
	int64_t n = j->have - j->given;
	int r = n ? s->q->sink(s->q->arg, j->given, j->buf + (j->given - j->begin), (size_t)n, err)
		  : 0;

	if (r < 0)
		return r;
	j->given = j->have;
	MUTEX_GUARD(&s->lock);
	s->given = j->given;
	pthread_cond_broadcast(&s->changed);
	return 0;
}

static int on_bytes(void *arg, int64_t offset, const void *p, size_t n, struct err *err)
{
	struct job *j = arg;

	if (offset != j->have || (int64_t)n > j->end - j->have)
		return err_set(err, ERR_INTERNAL, "bytes out of order");
	memcpy(j->buf + (offset - j->begin), p, n);
	j->have += (int64_t)n;
	return is_my_turn(j->s, j) ? pass_on(j, err) : 0;
}

/* The rest of the part, in its turn. */
static int finish_part(struct job *j, struct err *err)
{
	struct parts *s = j->s;
	bool stop;

	/* All of it was passed on as it came, and the next part may be on its way. */
	if (j->given == j->end)
		return 0;
	pthread_mutex_lock(&s->lock);
	while (!s->stop && s->given != j->given)
		pthread_cond_wait(&s->changed, &s->lock);
	stop = s->stop;
	pthread_mutex_unlock(&s->lock);
	if (stop)
		return err_set_raw(err, ERR_CANCELED, "context canceled");
	return pass_on(j, err);
}

static void job_run(void *arg)
{
	struct job *j = arg;
	struct parts *s = j->s;
	struct err err = ERR_INIT;
	int r = 0;

	while (r == 0 && take_next(s, j)) {
		r = fetch_blob_part(s->q->fetch, &j->ctx, s->q->d, j->begin, j->end - j->begin,
				    on_bytes, j, &err);
		if (r == 0)
			r = finish_part(j, &err);
	}
	MUTEX_GUARD(&s->lock);
	if (r < 0 && !s->stop) {
		s->stop = true;
		err_copy(&s->err, &err);
	}
	s->running--;
	pthread_cond_broadcast(&s->changed);
}

static int job_start(struct parts *s, struct job *j)
{
	int r;

	j->s = s;
	j->ctx.ns = s->ctx->ns;
	j->ctx.lease = s->ctx->lease;
	j->ctx.deadline = s->ctx->deadline;
	j->ctx.parent = s->ctx;
	j->ctx.arena = arena_new(0);
	j->buf = malloc((size_t)s->q->part_bytes);
	pthread_mutex_lock(&s->lock);
	s->running++;
	pthread_mutex_unlock(&s->lock);
	r = j->ctx.arena && j->buf ? pool_submit(s->q->pool, job_run, j) : -ENOMEM;
	if (r == 0)
		return 0;
	pthread_mutex_lock(&s->lock);
	s->running--;
	pthread_mutex_unlock(&s->lock);
	return r;
}

/* Until no job runs; the first that fails ends the others. */
static void jobs_end(struct parts *s, struct job *jobs, size_t n)
{
	pthread_mutex_lock(&s->lock);
	while (s->running) {
		pthread_cond_wait(&s->changed, &s->lock);
		for (size_t i = 0; s->stop && i < n; i++)
			atomic_store(&jobs[i].ctx.canceled, true);
	}
	pthread_mutex_unlock(&s->lock);
	for (size_t i = 0; i < n; i++) {
		arena_free(jobs[i].ctx.arena);
		free(jobs[i].buf);
	}
}

int parts_fetch(struct ctx *ctx, const struct parts_request *q, struct err *err)
{
	struct parts s = {.q = q, .ctx = ctx, .next = q->offset, .given = q->offset};
	struct job *jobs = calloc(q->n_jobs, sizeof(*jobs));
	size_t n = 0;
	int r = 0;

	if (!jobs)
		return err_nomem(err);
	pthread_mutex_init(&s.lock, NULL);
	pthread_cond_init(&s.changed, NULL);
	while (r == 0 && n < q->n_jobs)
		r = job_start(&s, &jobs[n++]);
	jobs_end(&s, jobs, n);
	pthread_cond_destroy(&s.changed);
	pthread_mutex_destroy(&s.lock);
	free(jobs);
	if (s.err.kind)
		return err_copy(err, &s.err);
	/* Where one job could be started the others were not needed. */
	if (s.given != q->d->size)
		return err_errno(err, r, "start a download");
	return 0;
}
