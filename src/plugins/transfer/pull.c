/* SPDX-License-Identifier: Apache-2.0 */
/* Pull: from a registry into the content store, and on into snapshots while it is still coming.
 *
 * The calling thread resolves, walks from the index to the manifests, and unpacks; up to
 * max_downloads pool jobs fetch layers meanwhile, each into its ingest, through one
 * containerd-worker. A fetched byte comes through a pipe, is digested and written here, and can be
 * read by whoever unpacks the layer as soon as it is counted. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>

#include "base/str.h"
#include "base/time.h"
#include "core/lease.h"
#include "oci/platform.h"
#include "oci/reference.h"
#include "plugins/transfer/internal.h"
#include "plugins/verifier/verifier.h"

#define DEPTH_MAX 8 /* of indexes in indexes */
#define DOCUMENTS_MAX \
	4160 /* manifests and indexes of one image, each counted as often as it is named */
#define RETRY_NS (100 * NSEC_PER_MSEC)
#define TELL_NS (50 * NSEC_PER_MSEC) /* between two progress reports of a blob */
#define TELL_BYTES (256 << 10)	     /* or between two looks of who unpacks it, if that is sooner */

struct image_part { /* a manifest that was chosen */
	struct manifest manifest;
	struct image_config config;
	struct platform platform;
	const char *digest; /* of the manifest */
	bool wanted;	    /* false: its metadata only */
};

struct part_unpack {
	const struct image_part *part;
	struct unpack u;
};

struct pull {
	struct ctx *ctx;
	struct transfer *t;
	const struct transfer_store *to;
	struct fetch *fetch;
	struct reporter rep;
	struct reference ref;
	const char *source_key; /* containerd.io/distribution.source.<host> */
	struct image_part *parts;
	size_t n_parts, cap_parts, n_documents;
	const char *image;	     /* as it is called */
	struct part_unpack *unpacks; /* as many as the destination names, at most */
	size_t n_unpacks;
	const char **fetched; /* digests of manifests and indexes */
	size_t n_fetched, cap_fetched;
	/* layers and who fetches them */
	struct layer **layers;
	size_t n_layers, cap_layers, next_layer; /* next_layer under the lock */
	int running;
	struct ctx **job_ctx;
	bool stop;
	pthread_mutex_t lock;
	pthread_cond_t changed;
};

/* ---- labels ---- */

/* Labels of a blob that is there already: the new ones are added. */
static int label_existing(struct pull *p, struct ctx *ctx, const char *digest,
			  const struct labels *labels, struct err *err)
{
	struct content_info info;
	int r = content_info(ctx, p->t->o.db, digest, &info, err);
	if (r < 0)
		return r;
	char **paths = arena_new_array(ctx->arena, char *, labels->n + 1);
	struct content_info set = {.digest = digest};
	size_t n = 0;
	for (size_t i = 0; paths && i < labels->n; i++) {
		const char *have = labels_get(&info.labels, labels->v[i].key),
			   *want = labels->v[i].value;
		if (streq(labels->v[i].key, p->source_key))
			want = source_value(ctx->arena, have, want);
		if (want && have && streq(have, want))
			continue;
		paths[n] = arena_printf(ctx->arena, "labels.%s", labels->v[i].key);
		if (!want || !paths[n++] ||
		    labels_set(ctx->arena, &set.labels, labels->v[i].key, want) < 0)
			return err_nomem(err);
	}
	if (!paths)
		return err_nomem(err);
	return n ? content_update(ctx, p->t->o.db, &set, paths, n, &info, err) : 0;
}

static int pull_max_downloads(const struct pull *p)
{
	return p->to->max_downloads > 0 ? p->to->max_downloads : p->t->o.max_downloads;
}

/* ---- one blob ---- */

struct blob {
	struct pull *p;
	struct ctx *ctx;
	const struct descriptor *d;
	const char *name;
	struct layer *layer; /* NULL for metadata */
	struct content_writer *w;
	int64_t off;	 /* bytes in the ingest */
	int64_t avail;	 /* of them, what the unpacker was told */
	int64_t told_at; /* when both were told last, monotonic */
};

static void blob_done(struct blob *b)
{
	content_writer_close(b->w);
}

/* Tells who unpacks the layer how far it may read. */
static void blob_tell_unpacker(struct blob *b)
{
	b->avail = b->off;
	if (!b->layer)
		return;
	MUTEX_GUARD(&b->p->lock);
	b->layer->avail = b->off;
	pthread_cond_broadcast(&b->p->changed);
}

static void blob_tell(struct blob *b)
{
	int64_t now = time_mono();
	if (now - b->told_at >= TELL_NS || b->off == b->d->size) {
		b->told_at = now;
		blob_tell_unpacker(b);
		report_object(&b->p->rep, "downloading", b->name, b->d, b->off, b->d->size);
	} else if (b->off - b->avail >= TELL_BYTES) {
		blob_tell_unpacker(b);
	}
}

static int blob_sink(void *arg, int64_t offset, const void *p, size_t n, struct err *err)
{
	struct blob *b = arg;
	if (offset < b->off) {
		/* Before it is cut: what is not counted is not read. */
		b->off = 0;
		blob_tell_unpacker(b);
		int r = content_writer_truncate(b->w, err);
		if (r < 0)
			return r;
	}
	int r = content_writer_write(b->w, p, n, err);
	if (r < 0)
		return r;
	b->off = offset + (int64_t)n;
	blob_tell(b);
	return 0;
}

/* For who unpacks the layer: the ingest, to be read as it grows. */
static int blob_share(struct blob *b, struct err *err)
{
	struct err why = ERR_INIT;
	int fd = content_writer_data_fd(b->w, &why);
	/* Bytes in another process: the layer is unpacked when it is whole. */
	if (fd == -ERR_UNIMPLEMENTED)
		return 0;
	if (fd < 0)
		return err_copy(err, &why);
	fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (fd < 0)
		return err_errno(err, errno, "duplicate a descriptor");
	MUTEX_GUARD(&b->p->lock);
	b->layer->fd = fd;
	b->layer->avail = b->avail = b->off;
	pthread_cond_broadcast(&b->p->changed);
	return 0;
}

/* Opens the ingest; while somebody else writes the same blob, waits for them. 1 = the blob is there
 * already. */
static int blob_open(struct blob *b, struct err *err)
{
	const char *key = descriptor_ref_key(b->ctx->arena, b->d);
	if (!key)
		return err_nomem(err);
	for (;;) {
		int r = content_writer_open(b->ctx, b->p->t->o.db, key, b->d->size, b->d->digest,
					    &b->w, err);
		if (r == -ERR_ALREADY_EXISTS)
			return 1;
		if (r != -ERR_UNAVAILABLE)
			return r;
		r = ctx_check(b->ctx, err);
		if (r < 0)
			return r;
		report_object(&b->p->rep, "waiting", b->name, b->d, 0, b->d->size);
		nanosleep(&(struct timespec){.tv_nsec = RETRY_NS}, NULL);
	}
}

/* How many requests may fetch this layer: what other layers leave of max_downloads. */
static size_t blob_jobs(struct blob *b)
{
	struct pull *p = b->p;
	size_t max = (size_t)pull_max_downloads(p), open = 0;
	MUTEX_GUARD(&p->lock);
	for (size_t i = 0; i < p->n_layers; i++)
		open += p->layers[i]->state == LAYER_WAITING ||
			p->layers[i]->state == LAYER_LOADING;
	return max / MAX(MIN(open, max), (size_t)1);
}

static int blob_run(struct blob *b, const struct fetch_descriptor *d, struct err *err)
{
	int64_t part = b->p->t->o.part_bytes, left = d->size - b->off;
	if (b->layer && part > 0 && left > part) {
		struct parts_request q = {.fetch = b->p->fetch,
					  .pool = b->p->t->o.pool,
					  .d = d,
					  .offset = b->off,
					  .part_bytes = part,
					  .n_jobs = blob_jobs(b),
					  .sink = blob_sink,
					  .arg = b};
		q.n_jobs = MIN(q.n_jobs, (size_t)((left + part - 1) / part));
		int r = q.n_jobs > 1 ? parts_fetch(b->ctx, &q, err) : -ERR_UNIMPLEMENTED;
		if (r != -ERR_UNIMPLEMENTED)
			return r;
	}
	return fetch_blob(b->p->fetch, b->ctx, d, b->off, blob_sink, b, err);
}

static int blob_transfer(struct blob *b, struct err *err)
{
	struct content_status st;
	struct fetch_descriptor fd = {.size = b->d->size};
	int r = content_writer_status(b->w, &st, err);
	if (r < 0)
		return r;
	if (st.offset > 0 && st.offset == b->d->size)
		return 0; /* another namespace has it, or the last download was whole */
	if (st.offset > b->d->size) {
		r = content_writer_truncate(b->w, err);
		if (r < 0)
			return r;
		st.offset = 0;
	}
	b->off = st.offset;
	r = b->layer ? blob_share(b, err) : 0;
	if (r < 0)
		return r;
	strncpy(fd.media_type, b->d->media_type, sizeof(fd.media_type) - 1);
	strncpy(fd.digest.text, b->d->digest, sizeof(fd.digest.text) - 1);
	report_object(&b->p->rep, "downloading", b->name, b->d, st.offset, b->d->size);
	return blob_run(b, &fd, err);
}

/* Gets one blob into the content store, with labels (the source's is added). */
static int blob_fetch(struct pull *p, struct ctx *ctx, const struct descriptor *d,
		      struct layer *layer, const struct labels *labels, struct err *err)
{
	_cleanup_(blob_done) struct blob b = {.p = p, .ctx = ctx, .d = d, .layer = layer};
	struct labels all = {0};
	struct digest got;
	b.name = descriptor_ref_key(ctx->arena, d);
	if (!b.name || (labels && labels_copy(ctx->arena, &all, labels) < 0) ||
	    labels_set(ctx->arena, &all, p->source_key, p->ref.repository) < 0)
		return err_nomem(err);
	int r = blob_open(&b, err);
	if (r == 0) {
		r = blob_transfer(&b, err);
		if (r == 0)
			r = content_writer_commit(ctx, b.w, d->size, d->digest, &all, &got, err);
		/* Wrong bytes are of no use to the next attempt. */
		if (r == -ERR_FAILED_PRECONDITION)
			(void)!content_writer_truncate(b.w, NULL);
		if (r == 0) {
			report_object(&p->rep, "complete", b.name, d, d->size, d->size);
			return 0;
		}
		if (r == -ERR_ALREADY_EXISTS)
			r = 1;
	}
	if (r == 1) {
		report_object(&p->rep, "already exists", b.name, d, d->size, d->size);
		return label_existing(p, ctx, d->digest, &all, err);
	}
	return err_prefix(err, "fetch %s", d->digest);
}

/* ---- layers in parallel ---- */

static void layer_end(struct pull *p, struct layer *l, int r, const struct err *err)
{
	MUTEX_GUARD(&p->lock);
	l->state = r < 0 ? LAYER_FAILED : LAYER_DONE;
	if (r < 0) {
		l->err = *err;
		p->stop = true;
		/* Nobody will take those that are waiting: who waits for them must know. */
		for (size_t i = 0; i < p->n_layers; i++)
			if (p->layers[i]->state == LAYER_WAITING) {
				p->layers[i]->state = LAYER_FAILED;
				p->layers[i]->err = *err;
			}
	} else {
		l->avail = l->desc.size;
	}
	pthread_cond_broadcast(&p->changed);
}

static struct layer *layer_next(struct pull *p)
{
	MUTEX_GUARD(&p->lock);
	while (p->next_layer < p->n_layers && p->layers[p->next_layer]->absent)
		p->next_layer++;
	if (p->stop || p->next_layer == p->n_layers)
		return NULL;
	struct layer *l = p->layers[p->next_layer++];
	l->state = LAYER_LOADING;
	return l;
}

struct job {
	struct pull *p;
	struct ctx ctx;
};

static void job_run(void *arg)
{
	struct job *j = arg;
	struct pull *p = j->p;
	struct layer *l;
	while ((l = layer_next(p))) {
		struct err err = ERR_INIT;
		int r = ctx_check(&j->ctx, &err);
		if (r == 0)
			r = blob_fetch(p, &j->ctx, &l->desc, l, NULL, &err);
		layer_end(p, l, r, &err);
		arena_reset(j->ctx.arena);
	}
	pthread_mutex_lock(&p->lock);
	p->running--;
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
}

/* The jobs, and the end of all of them. */
struct jobs {
	struct pull *p;
	struct job *v;
	size_t n;
};

static void jobs_cancel(struct jobs *js)
{
	for (size_t i = 0; i < js->n; i++)
		atomic_store(&js->v[i].ctx.canceled, true);
}

/* Waits for all, and passes the client's cancellation on. Layers that nobody took any more count as
 * failed. */
static void jobs_end(struct jobs *js)
{
	struct pull *p = js->p;
	pthread_mutex_lock(&p->lock);
	while (p->running) {
		struct timespec until;
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_sec += 1;
		pthread_cond_timedwait(&p->changed, &p->lock, &until);
		if (p->stop || ctx_check(p->ctx, NULL) < 0)
			jobs_cancel(js);
	}
	pthread_mutex_unlock(&p->lock);
	for (size_t i = 0; i < js->n; i++)
		arena_free(js->v[i].ctx.arena);
	for (size_t i = 0; i < p->n_layers; i++)
		if (p->layers[i]->fd >= 0)
			close(p->layers[i]->fd);
	js->n = 0;
}

static int jobs_start(struct pull *p, struct jobs *js, struct err *err)
{
	size_t n = MIN(p->n_layers, (size_t)pull_max_downloads(p));
	js->p = p;
	js->v = arena_new_array(p->ctx->arena, struct job, n + 1);
	if (!js->v)
		return err_nomem(err);
	for (; js->n < n; js->n++) {
		struct job *j = &js->v[js->n];
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
		if (r < 0) {
			arena_free(j->ctx.arena);
			pthread_mutex_lock(&p->lock);
			p->running--;
			p->stop = true;
			pthread_mutex_unlock(&p->lock);
			return err_errno(err, r, "start a download");
		}
	}
	return 0;
}

static struct layer *layer_add(struct pull *p, const struct descriptor *d)
{
	for (size_t i = 0; i < p->n_layers; i++)
		if (streq(p->layers[i]->desc.digest, d->digest))
			return p->layers[i];
	struct arena *a = p->ctx->arena;
	struct layer **grown =
		arena_grow(a, p->layers, &p->cap_layers, p->n_layers + 1, sizeof(struct layer *));
	struct layer *l = grown ? arena_new_obj(a, struct layer) : NULL;
	if (!l)
		return NULL;
	*l = (struct layer){.desc = *d,
			    .name = descriptor_ref_key(a, d),
			    .lock = &p->lock,
			    .changed = &p->changed,
			    .fd = -1};
	if (!l->name)
		return NULL;
	p->layers = grown;
	p->layers[p->n_layers++] = l;
	return l;
}

/* ---- metadata ---- */

static int read_manifest(struct pull *p, const struct descriptor *d, struct manifest *ret,
			 struct err *err)
{
	char *text;
	size_t n;
	int r = content_read(p->ctx, p->t->o.db, d->digest, MANIFEST_MAX, &text, &n, err);
	if (r == 0)
		r = manifest_parse(p->ctx->arena, d->media_type, text, n, ret, err);
	return r < 0 ? err_prefix(err, "manifest %s", d->digest) : 0;
}

/* A manifest or index: fetched, and labelled with its children when those are known. */
static int fetch_manifest(struct pull *p, const struct descriptor *d, struct manifest *ret,
			  struct err *err)
{
	struct content_info info;
	struct labels labels = {0};
	if (d->size > MANIFEST_MAX)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "manifest %s of %lld bytes is larger than %u", d->digest,
			       (long long)d->size, MANIFEST_MAX);
	if (++p->n_documents > DOCUMENTS_MAX)
		return err_set(err, ERR_INVALID_ARGUMENT, "more than %d manifests and indexes",
			       DOCUMENTS_MAX);
	/* What is named again is here and labelled. */
	for (size_t i = 0; i < p->n_fetched; i++)
		if (streq(p->fetched[i], d->digest))
			return read_manifest(p, d, ret, err);
	const char **grown = arena_grow(p->ctx->arena, p->fetched, &p->cap_fetched,
					p->n_fetched + 1, sizeof(*grown));
	if (!grown)
		return err_nomem(err);
	p->fetched = grown;
	int r = blob_fetch(p, p->ctx, d, NULL, NULL, err);
	if (r == 0)
		r = read_manifest(p, d, ret, err);
	if (r < 0)
		return r;
	p->fetched[p->n_fetched++] = d->digest;
	if (manifest_gc_labels(p->ctx->arena, ret, &labels) < 0)
		return err_nomem(err);
	r = content_info(p->ctx, p->t->o.db, d->digest, &info, err);
	return r < 0 ? r : label_existing(p, p->ctx, d->digest, &labels, err);
}

static int read_config(struct pull *p, const struct descriptor *d, struct image_config *ret,
		       struct err *err)
{
	char *text;
	size_t n;
	if (!media_is_config(d->media_type)) {
		*ret = (struct image_config){0}; /* an artifact that is no image */
		return 0;
	}
	int r = content_read(p->ctx, p->t->o.db, d->digest, MANIFEST_MAX, &text, &n, err);
	if (r == 0)
		r = image_config_parse(p->ctx->arena, text, n, ret, err);
	return r < 0 ? err_prefix(err, "config %s", d->digest) : 0;
}

static int add_manifest(struct pull *p, const struct descriptor *d, const struct platform *platform,
			bool wanted, struct err *err)
{
	struct image_part part = {.wanted = wanted, .digest = d->digest};
	int r = fetch_manifest(p, d, &part.manifest, err);
	if (r == 0)
		r = blob_fetch(p, p->ctx, &part.manifest.config, NULL, NULL, err);
	if (r == 0)
		r = read_config(p, &part.manifest.config, &part.config, err);
	if (r < 0)
		return r;
	part.platform = platform ? *platform : part.config.platform;
	struct image_part *grown =
		arena_grow(p->ctx->arena, p->parts, &p->cap_parts, p->n_parts + 1, sizeof(*grown));
	if (!grown)
		return err_nomem(err);
	p->parts = grown;
	p->parts[p->n_parts++] = part;
	for (size_t i = 0; wanted && i < part.manifest.n_layers; i++)
		if (!layer_add(p, &part.manifest.layers[i]))
			return err_nomem(err);
	return 0;
}

static int walk(struct pull *p, const struct descriptor *d, int depth, struct err *err);

static int walk_index(struct pull *p, const struct manifest *m, int depth, struct err *err)
{
	bool *take = arena_new_array(p->ctx->arena, bool, m->n_manifests + 1);
	size_t taken;
	if (!take || index_choose(p->ctx->arena, m, p->to, take, &taken) < 0)
		return err_nomem(err);
	/* Others are left out when that many are enough. */
	bool rest =
		p->to->all_metadata && (!p->to->manifest_limit || taken < p->to->manifest_limit);
	for (size_t i = 0; i < m->n_manifests; i++) {
		const struct manifest_child *c = &m->manifests[i];
		int r = 0;
		if (media_is_index(c->desc.media_type) && take[i])
			r = walk(p, &c->desc, depth + 1, err);
		else if (media_is_manifest(c->desc.media_type) && (take[i] || rest))
			r = add_manifest(p, &c->desc, c->has_platform ? &c->platform : NULL,
					 take[i], err);
		if (r < 0)
			return r;
	}
	return taken || depth ? 0
			      : err_set(err, ERR_NOT_FOUND, "no match for platform in manifest");
}

static int walk(struct pull *p, const struct descriptor *d, int depth, struct err *err)
{
	struct manifest m;
	if (depth > DEPTH_MAX)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "index %s: more than %d indexes in one another", d->digest,
			       DEPTH_MAX);
	if (media_is_manifest(d->media_type))
		return add_manifest(p, d, NULL, true, err);
	if (!media_is_index(d->media_type))
		return err_set(err, ERR_UNIMPLEMENTED,
			       "image %s is of type \"%s\", not a manifest or index", d->digest,
			       d->media_type);
	int r = fetch_manifest(p, d, &m, err);
	return r < 0 ? r : walk_index(p, &m, depth, err);
}

/* ---- unpack ---- */

static int plan_part(struct pull *p, const struct image_part *part, const char *snapshotter,
		     struct err *err)
{
	const struct manifest *m = &part->manifest;
	struct arena *a = p->ctx->arena;
	if (!media_is_config(m->config.media_type))
		return 0;
	if (part->config.n_diff_ids != m->n_layers)
		return err_set(
			err, ERR_INVALID_ARGUMENT,
			"mismatched image rootfs and manifest layers: %zu diff ids, %zu layers",
			part->config.n_diff_ids, m->n_layers);
	struct unpack u = {.ctx = p->ctx,
			   .t = p->t,
			   .rep = &p->rep,
			   .snapshotter = snapshotter,
			   .config_digest = m->config.digest,
			   .diff_ids = part->config.diff_ids,
			   .n = m->n_layers,
			   .sync_fs = p->to->sync_fs || p->t->o.sync_fs,
			   .no_decryption = p->to->no_decryption,
			   .image = p->image,
			   .manifest_digest = part->digest};
	u.layers = arena_new_array(a, struct layer *, u.n + 1);
	for (size_t i = 0; u.layers && i < u.n; i++)
		if (!(u.layers[i] = layer_add(p, &m->layers[i])))
			return err_nomem(err);
	if (!u.layers)
		return err_nomem(err);
	p->unpacks[p->n_unpacks++] = (struct part_unpack){.part = part, .u = u};
	return unpack_probe(&p->unpacks[p->n_unpacks - 1].u, err);
}

/* Which part goes into which snapshotter, and what the snapshotters have already. */
static int plan_unpacks(struct pull *p, struct err *err)
{
	p->unpacks = arena_new_array(p->ctx->arena, struct part_unpack, p->to->n_unpacks + 1);
	if (!p->unpacks)
		return err_nomem(err);
	for (size_t i = 0; i < p->to->n_unpacks; i++) {
		const struct transfer_unpack *u = &p->to->unpacks[i];
		const struct image_part *best = NULL;
		const struct transfer_unpack_rule *rule;
		const char *snapshotter;
		int best_rank = -1;
		int r = unpack_rule(p->t, u, &rule, &snapshotter, err);
		if (r < 0)
			return r;
		for (size_t j = 0; j < p->n_parts; j++) {
			int rank = platforms_rank(&u->platform, 1, &p->parts[j].platform);
			if (!p->parts[j].wanted || rank < 0 || (best && rank >= best_rank))
				continue;
			best = &p->parts[j];
			best_rank = rank;
		}
		/* An image of another platform may be pulled, to be looked at or passed on. */
		if (best && unpack_rule_covers(rule, &best->manifest))
			r = plan_part(p, best, snapshotter, err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* True when @part is unpacked and the layer @at of it need not be. */
static bool is_there(const struct pull *p, const struct image_part *part, size_t at)
{
	bool any = false;
	for (size_t i = 0; i < p->n_unpacks; i++) {
		if (p->unpacks[i].part != part)
			continue;
		if (at >= p->unpacks[i].u.n_there)
			return false;
		any = true;
	}
	return any;
}

static bool is_needed(const struct pull *p, const struct layer *l)
{
	for (size_t i = 0; i < p->n_parts; i++) {
		const struct image_part *part = &p->parts[i];
		for (size_t k = 0; part->wanted && k < part->manifest.n_layers; k++)
			if (streq(part->manifest.layers[k].digest, l->desc.digest) &&
			    !is_there(p, part, k))
				return true;
	}
	return false;
}

/* Layers whose snapshots a remote snapshotter has, or gets by itself, are not downloaded. */
static int skip_layers(struct pull *p, struct err *err)
{
	for (size_t i = 0; p->n_unpacks && i < p->n_layers; i++) {
		struct layer *l = p->layers[i];
		struct content_info info;
		struct err why = ERR_INIT;
		if (is_needed(p, l))
			continue;
		int r = content_info(p->ctx, p->t->o.db, l->desc.digest, &info, &why);
		if (r < 0 && r != -ERR_NOT_FOUND)
			return err_copy(err, &why);
		if (r == 0)
			continue;
		l->absent = true;
		l->state = LAYER_DONE;
	}
	return 0;
}

static int unpack_all(struct pull *p, struct err *err)
{
	int r = 0;
	for (size_t i = 0; r == 0 && i < p->n_unpacks; i++)
		r = unpack_image(&p->unpacks[i].u, err);
	return r;
}

static int wait_layers(struct pull *p, struct err *err)
{
	MUTEX_GUARD(&p->lock);
	for (size_t i = 0; i < p->n_layers; i++) {
		while (p->layers[i]->state != LAYER_DONE && p->layers[i]->state != LAYER_FAILED)
			pthread_cond_wait(&p->changed, &p->lock);
	}
	for (size_t i = 0; i < p->n_layers; i++)
		if (p->layers[i]->state == LAYER_FAILED)
			return err_copy(err, &p->layers[i]->err);
	return 0;
}

static int layers_and_snapshots(struct pull *p, struct err *err)
{
	struct jobs js = {.p = p};
	int r = plan_unpacks(p, err);
	if (r == 0)
		r = skip_layers(p, err);
	if (r == 0)
		r = jobs_start(p, &js, err);
	if (r == 0)
		r = unpack_all(p, err);
	if (r == 0)
		r = wait_layers(p, err);
	if (r < 0) {
		pthread_mutex_lock(&p->lock);
		p->stop = true;
		pthread_mutex_unlock(&p->lock);
		jobs_cancel(&js);
	}
	jobs_end(&js);
	for (size_t i = 0; i < p->n_unpacks; i++)
		unpack_done(&p->unpacks[i].u);
	return r;
}

/* ---- the whole ---- */

/* Before anything of the image is fetched. */
static int verify_image(struct pull *p, const char *name, const struct descriptor *target,
			struct err *err)
{
	struct image_verifier *v = p->t->o.verifier;
	struct verdict verdict;
	if (!v)
		return 0;
	int r = v->ops->verify(p->ctx, v, name, target, &verdict, err);
	if (r < 0)
		return err_prefix(
			err, "blocked pull of %s with digest %s: image verifier %s returned error",
			name, target->digest, v->name);
	if (verdict.ok)
		return 0;
	return err_set_raw(err, ERR_UNKNOWN,
			   "image verifier %s blocked pull of %s with digest %s for reason: %s",
			   v->name, name, target->digest, verdict.reason);
}

/* Before anything is fetched. */
static int check_unpacks(struct pull *p, struct err *err)
{
	const struct transfer_unpack_rule *rule;
	const char *snapshotter;
	int r = 0;
	for (size_t i = 0; r == 0 && i < p->to->n_unpacks; i++)
		r = unpack_rule(p->t, &p->to->unpacks[i], &rule, &snapshotter, err);
	return r;
}

static int pull_image(struct pull *p, const struct transfer_registry *from, struct err *err)
{
	struct fetch_descriptor fd;
	struct arena *a = p->ctx->arena;
	char *text = arena_printf(a, "Resolving from %s", from->reference);
	if (!text)
		return err_nomem(err);
	report_step(&p->rep, text);
	int r = check_unpacks(p, err);
	if (r < 0)
		return r;
	r = session_open(p->ctx, p->t, from, &p->ref, NULL, &p->fetch, err);
	if (r == 0)
		r = fetch_resolve(p->fetch, p->ctx, &fd, err);
	if (r < 0)
		return err_prefix(err, "failed to resolve image \"%s\"", from->reference);
	struct descriptor target = {
		.media_type = fd.media_type, .digest = fd.digest.text, .size = fd.size};
	r = digest_validate(target.digest, err);
	if (r < 0)
		return err_prefix(err, "registry's answer for \"%s\"", from->reference);
	r = verify_image(p, from->reference, &target, err);
	if (r < 0)
		return r;
	if ((text = arena_printf(a, "Pulling from %s", from->reference)))
		report_step(&p->rep, text);
	report_step(&p->rep, "fetching image content");
	r = walk(p, &target, 0, err);
	if (r == 0)
		r = layers_and_snapshots(p, err);
	if (r < 0)
		return err_prefix(err, "pull \"%s\"", from->reference);
	r = store_pulled(p->ctx, p->t, p->to, str_or(p->to->name, from->reference), &target,
			 &p->rep, err);
	if (r == 0 && (text = arena_printf(a, "Completed pull from %s", from->reference)))
		report_step(&p->rep, text);
	return r;
}

int transfer_pull(struct ctx *ctx, struct transfer *t, const struct transfer_registry *from,
		  const struct transfer_store *to, const struct transfer_watch *watch,
		  struct err *err)
{
	struct pull p = {.ctx = ctx, .t = t, .to = to, .image = from->reference};
	struct lease_guard lease;
	int r = reference_parse(ctx->arena, from->reference, &p.ref, err);
	if (r < 0)
		return r;
	p.source_key = source_key(ctx->arena, p.ref.host);
	if (!p.source_key)
		return err_nomem(err);
	r = lease_guard_begin(ctx, t->o.db, &lease, err);
	if (r < 0)
		return r;
	reporter_init(&p.rep, watch);
	pthread_mutex_init(&p.lock, NULL);
	pthread_cond_init(&p.changed, NULL);
	r = pull_image(&p, from, err);
	if (p.fetch)
		fetch_free(p.fetch);
	pthread_cond_destroy(&p.changed);
	pthread_mutex_destroy(&p.lock);
	reporter_done(&p.rep);
	lease_guard_end(ctx, t->o.db, &lease);
	return r;
}
