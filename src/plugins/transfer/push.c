/* SPDX-License-Identifier: Apache-2.0 */
/* Push: from the content store to a registry.
 *
 * First the image is walked and everything noted that will be sent: blobs in any order, manifests
 * and indexes after all that they name. Then up to max_uploads pool jobs send the blobs, and the
 * calling thread, when all of them are there, the documents one by one; the last one gets the tag.
 * So nobody finds a tag whose image is not whole. The worker gets each blob's file open for
 * reading only. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"
#include "base/time.h"
#include "oci/platform.h"
#include "oci/reference.h"
#include "plugins/transfer/internal.h"

#define DEPTH_MAX 8 /* of indexes in indexes */
#define OBJECTS_MAX 16384
#define MOUNT_FROM_MAX 16 /* repositories that one token is asked for */
#define TICK_S 1

struct object {
	struct descriptor desc;
	const char *name;	/* in progress reports */
	const char *mount_from; /* "" = nowhere */
};

struct list {
	struct object *v;
	size_t n, cap;
};

struct push {
	struct ctx *ctx;
	struct transfer *t;
	const struct transfer_push *o;
	struct reference ref;
	const char *source_key;
	struct list blobs, documents;
	struct fetch *fetch;
	struct reporter rep;
	pthread_mutex_t lock; /* what follows */
	pthread_cond_t changed;
	size_t next; /* blob */
	int running;
	bool stop;
	struct err err; /* of the first that failed */
};

/* ---- what is to be sent ---- */

static bool is_there(const struct list *l, const char *digest)
{
	for (size_t i = 0; i < l->n; i++)
		if (streq(l->v[i].desc.digest, digest))
			return true;
	return false;
}

static int list_add(struct push *p, struct list *l, const struct descriptor *d, struct err *err)
{
	struct arena *a = p->ctx->arena;
	struct content_info info;

	if (p->blobs.n + p->documents.n >= OBJECTS_MAX)
		return err_set(err, ERR_INVALID_ARGUMENT, "image has more than %d objects",
			       OBJECTS_MAX);
	int r = content_info(p->ctx, p->t->o.db, d->digest, &info, err);
	if (r < 0)
		return r;
	if (info.size != d->size)
		return err_set(err, ERR_FAILED_PRECONDITION,
			       "content %s has %lld bytes, its descriptor says %lld", d->digest,
			       (long long)info.size, (long long)d->size);
	struct object *grown = arena_grow(a, l->v, &l->cap, l->n + 1, sizeof(*grown));
	struct object o = {.desc = *d, .name = descriptor_ref_key(a, d)};
	o.mount_from =
		source_nearest(a, labels_get(&info.labels, p->source_key), p->ref.repository);
	if (!grown || !o.name)
		return err_nomem(err);
	l->v = grown;
	l->v[l->n++] = o;
	return 0;
}

static bool may_be_distributed(const char *media_type)
{
	return !strstr(media_type, ".nondistributable.") && !strstr(media_type, ".foreign.");
}

static int add_blob(struct push *p, const struct descriptor *d, struct err *err)
{
	if (is_there(&p->blobs, d->digest) ||
	    (!p->o->non_distributable && !may_be_distributed(d->media_type)))
		return 0;
	return list_add(p, &p->blobs, d, err);
}

static int walk(struct push *p, const struct descriptor *d, int depth, struct err *err);

static int walk_child(struct push *p, const struct manifest_child *c, int depth, struct err *err)
{
	const struct descriptor *d = &c->desc;

	if (c->has_platform && p->o->n_platforms &&
	    platforms_rank(p->o->platforms, p->o->n_platforms, &c->platform) < 0)
		return 0;
	if (!media_is_index(d->media_type) && !media_is_manifest(d->media_type))
		return add_blob(p, d, err);
	int r = walk(p, d, depth, err);
	if (r != -ERR_NOT_FOUND || !c->has_platform)
		return r;
	char *platform = platform_format(p->ctx->arena, &c->platform);
	return platform ? err_prefix(err, "platform %s was not pulled", platform) : err_nomem(err);
}

static int walk(struct push *p, const struct descriptor *d, int depth, struct err *err)
{
	struct manifest m;
	char *text;
	size_t n;

	if (is_there(&p->documents, d->digest))
		return 0;
	if (depth > DEPTH_MAX)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "index %s: more than %d indexes in one another", d->digest,
			       DEPTH_MAX);
	if (!media_is_index(d->media_type) && !media_is_manifest(d->media_type))
		return err_set(err, ERR_UNIMPLEMENTED,
			       "image %s is of type \"%s\", not a manifest or index", d->digest,
			       d->media_type);
	int r = ctx_check(p->ctx, err);
	if (r == 0)
		r = content_read(p->ctx, p->t->o.db, d->digest, MANIFEST_MAX, &text, &n, err);
	if (r == 0)
		r = manifest_parse(p->ctx->arena, d->media_type, text, n, &m, err);
	if (r < 0)
		return err_prefix(err, "manifest %s", d->digest);
	for (size_t i = 0; r == 0 && i < m.n_manifests; i++)
		r = walk_child(p, &m.manifests[i], depth + 1, err);
	if (r == 0 && !m.is_index)
		r = add_blob(p, &m.config, err);
	for (size_t i = 0; r == 0 && i < m.n_layers; i++)
		r = add_blob(p, &m.layers[i], err);
	return r < 0 ? r : list_add(p, &p->documents, d, err);
}

/* Repositories that tokens are wanted for: each once, the first ones when there are many. */
static int mount_sources(struct push *p, struct session_push *ret, struct err *err)
{
	const char **v = arena_new_array(p->ctx->arena, const char *, MOUNT_FROM_MAX);

	if (!v)
		return err_nomem(err);
	*ret = (struct session_push){.mount_from = v};
	for (size_t i = 0; i < p->blobs.n; i++) {
		struct object *o = &p->blobs.v[i];
		size_t k = 0;

		while (k < ret->n_mount_from && !streq(v[k], o->mount_from))
			k++;
		if (!*o->mount_from || k < ret->n_mount_from)
			continue;
		if (k == MOUNT_FROM_MAX)
			o->mount_from = "";
		else
			v[ret->n_mount_from++] = o->mount_from;
	}
	return 0;
}

/* ---- sending ---- */

struct sending {
	struct push *p;
	const struct object *o;
};

static void on_progress(void *arg, int64_t sent)
{
	const struct sending *s = arg;

	report_object(&s->p->rep, "uploading", s->o->name, &s->o->desc, sent, s->o->desc.size);
}

static int send_object(struct push *p, struct ctx *ctx, const struct object *o, const char *tag,
		       struct err *err)
{
	struct fetch_descriptor d = {.size = o->desc.size};
	struct sending s = {p, o};
	struct push_options po = {
		.reference = tag, .mount_from = o->mount_from, .progress = on_progress, .arg = &s};
	_cleanup_close_ int fd = -1;
	enum push_result result;
	int64_t size;

	if (strlen(o->desc.media_type) >= sizeof(d.media_type))
		return err_set(err, ERR_INVALID_ARGUMENT, "media type of %s is too long",
			       o->desc.digest);
	strcpy(d.media_type, o->desc.media_type);
	strcpy(d.digest.text, o->desc.digest);
	int r = content_open(ctx, p->t->o.db, o->desc.digest, &fd, &size, err);
	if (r < 0)
		return r;
	on_progress(&s, 0);
	r = fetch_push(p->fetch, ctx, &d, fd, &po, &result, err);
	if (r == 0)
		report_object(&p->rep, result == PUSH_SENT ? "complete" : "already exists", o->name,
			      &o->desc, o->desc.size, o->desc.size);
	return r;
}

struct job {
	struct push *p;
	struct ctx ctx;
};

static const struct object *next_blob(struct push *p)
{
	MUTEX_GUARD(&p->lock);
	return p->stop || p->next == p->blobs.n ? NULL : &p->blobs.v[p->next++];
}

static void job_failed(struct push *p, const struct err *err)
{
	MUTEX_GUARD(&p->lock);
	if (!p->err.kind)
		err_copy(&p->err, err);
	p->stop = true;
	pthread_cond_broadcast(&p->changed);
}

static void job_run(void *arg)
{
	struct job *j = arg;
	struct push *p = j->p;
	const struct object *o;

	while ((o = next_blob(p))) {
		struct err err = ERR_INIT;
		int r = ctx_check(&j->ctx, &err);

		if (r == 0)
			r = send_object(p, &j->ctx, o, "", &err);
		if (r < 0)
			job_failed(p, &err);
		arena_reset(j->ctx.arena);
	}
	MUTEX_GUARD(&p->lock);
	p->running--;
	pthread_cond_broadcast(&p->changed);
}

/* Until no job runs; passes the client's cancellation, and the end of one job, on to all. */
static void jobs_wait(struct push *p, struct job *jobs, size_t n)
{
	pthread_mutex_lock(&p->lock);
	while (p->running) {
		struct timespec until;

		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_sec += TICK_S;
		pthread_cond_timedwait(&p->changed, &p->lock, &until);
		for (size_t i = 0; i < n; i++)
			if (p->stop || ctx_check(p->ctx, NULL) < 0)
				atomic_store(&jobs[i].ctx.canceled, true);
	}
	pthread_mutex_unlock(&p->lock);
	for (size_t i = 0; i < n; i++)
		arena_free(jobs[i].ctx.arena);
}

static int job_start(struct push *p, struct job *j)
{
	j->p = p;
	j->ctx.ns = p->ctx->ns;
	j->ctx.lease = p->ctx->lease;
	j->ctx.deadline = p->ctx->deadline;
	j->ctx.parent = p->ctx;
	j->ctx.arena = arena_new(0);
	pthread_mutex_lock(&p->lock);
	p->running++;
	pthread_mutex_unlock(&p->lock);
	int r = j->ctx.arena ? pool_submit(p->t->o.pool, job_run, j) : -ENOMEM;
	if (r == 0)
		return 0;
	arena_free(TAKE_PTR(j->ctx.arena));
	pthread_mutex_lock(&p->lock);
	p->running--;
	pthread_mutex_unlock(&p->lock);
	return r;
}

static int send_blobs(struct push *p, struct err *err)
{
	size_t max = p->o->max_uploads > 0 ? (size_t)p->o->max_uploads
					   : (size_t)p->t->o.max_uploads,
	       n = MIN(p->blobs.n, max), started = 0;
	struct job *jobs = arena_new_array(p->ctx->arena, struct job, n + 1);

	if (!jobs)
		return err_nomem(err);
	for (size_t i = 0; i < p->blobs.n; i++)
		report_object(&p->rep, "waiting", p->blobs.v[i].name, &p->blobs.v[i].desc, 0,
			      p->blobs.v[i].desc.size);
	for (; started < n; started++) {
		int r = job_start(p, &jobs[started]);

		if (r < 0) {
			struct err e = ERR_INIT;

			err_errno(&e, r, "start an upload");
			job_failed(p, &e);
			break;
		}
	}
	jobs_wait(p, jobs, started);
	if (p->err.kind)
		return err_copy(err, &p->err);
	return ctx_check(p->ctx, err);
}

static int send_documents(struct push *p, struct err *err)
{
	for (size_t i = 0; i < p->documents.n; i++) {
		/* The root is the last. */
		const char *tag = i + 1 == p->documents.n ? p->ref.tag : "";
		int r = send_object(p, p->ctx, &p->documents.v[i], tag, err);

		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- the whole ---- */

static int push_image(struct push *p, const struct transfer_registry *to, struct err *err)
{
	struct session_push sp;
	struct image image;
	struct arena *a = p->ctx->arena;
	char *text = arena_printf(a, "Pushing to %s", to->reference);

	if (!text)
		return err_nomem(err);
	report_step(&p->rep, text);
	int r = image_get(p->ctx, p->t->o.db, p->o->name, &image, err);
	if (r < 0)
		return r;
	if (*p->ref.digest && !streq(p->ref.digest, image.target.digest))
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "the reference names %s, but image \"%s\" is %s", p->ref.digest,
			       p->o->name, image.target.digest);
	r = walk(p, &image.target, 0, err);
	if (r == 0)
		r = mount_sources(p, &sp, err);
	if (r == 0)
		r = session_open(p->ctx, p->t, to, &p->ref, &sp, &p->fetch, err);
	if (r < 0)
		return r;
	report_step(&p->rep, "pushing content");
	r = send_blobs(p, err);
	if (r == 0)
		r = send_documents(p, err);
	if (r < 0)
		return r;
	report_step(&p->rep, "pushed content");
	if ((text = arena_printf(a, "Completed push to %s", to->reference)))
		report_step(&p->rep, text);
	return 0;
}

int transfer_push(struct ctx *ctx, struct transfer *t, const struct transfer_push *from,
		  const struct transfer_registry *to, const struct transfer_watch *watch,
		  struct err *err)
{
	struct push p = {.ctx = ctx, .t = t, .o = from};
	int r = reference_parse(ctx->arena, to->reference, &p.ref, err);

	if (r < 0)
		return r;
	p.source_key = source_key(ctx->arena, p.ref.host);
	if (!p.source_key)
		return err_nomem(err);
	reporter_init(&p.rep, watch);
	pthread_mutex_init(&p.lock, NULL);
	pthread_cond_init(&p.changed, NULL);
	r = push_image(&p, to, err);
	if (r < 0)
		err_prefix(err, "push \"%s\"", to->reference);
	fetch_free(p.fetch);
	pthread_cond_destroy(&p.changed);
	pthread_mutex_destroy(&p.lock);
	reporter_done(&p.rep);
	return r;
}
