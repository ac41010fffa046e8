/* SPDX-License-Identifier: Apache-2.0 */
/* Layers into snapshots, one upon the other; unpack_ahead.c has another way.
 *
 * A layer that is in the content store is unpacked from there. One that is still being downloaded
 * is fed through a pipe by a job of its own, which follows the ingest as it grows; what was
 * unpacked becomes a snapshot only after the download's digest has turned out right. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"
#include "base/time.h"
#include "plugins/transfer/internal.h"

#define FEED_CHUNK (1u << 20)
#define PIPE_SIZE (1 << 20)

/* ---- following a download ---- */

struct feed {
	struct layer *layer;
	int out;   /* write end; closed by the job */
	bool done; /* under the layer's lock */
};

/* Waits until there is more than @off, or it is over. Returns what there is, or -1 when the
 * download failed. */
static int64_t feed_wait(struct layer *l, int64_t off, int *ret_fd)
{
	MUTEX_GUARD(l->lock);
	while (l->state != LAYER_FAILED && l->state != LAYER_DONE && l->avail <= off)
		pthread_cond_wait(l->changed, l->lock);
	*ret_fd = l->fd;
	return l->state == LAYER_FAILED ? -1 : l->avail;
}

/* What was counted is gone: a server that could not resume begins anew, and by now less is counted.
 */
static bool feed_restarted(struct layer *l)
{
	MUTEX_GUARD(l->lock);
	return l->state == LAYER_LOADING;
}

static void feed_job(void *arg)
{
	struct feed *f = arg;
	struct layer *l = f->layer;
	int64_t off = 0;
	int fd;
	char *chunk = malloc(FEED_CHUNK);
	while (chunk) {
		int64_t avail = feed_wait(l, off, &fd);
		if (avail <= off)
			break;
		ssize_t n = pread(fd, chunk, (size_t)MIN(avail - off, (int64_t)FEED_CHUNK), off);
		if (n == 0 && feed_restarted(l))
			continue;
		if (n <= 0 || fd_write_full(f->out, chunk, (size_t)n) < 0)
			break; /* the reader tells what went wrong: a short archive, or its own
				  error */
		off += n;
	}
	free(chunk);
	close(f->out);
	pthread_mutex_lock(l->lock);
	f->done = true;
	pthread_cond_broadcast(l->changed);
	pthread_mutex_unlock(l->lock);
}

/* Until the download is over: its error, or 0. */
int unpack_wait(struct layer *l, struct err *err)
{
	MUTEX_GUARD(l->lock);
	while (l->state != LAYER_DONE && l->state != LAYER_FAILED)
		pthread_cond_wait(l->changed, l->lock);
	return l->state == LAYER_FAILED ? err_copy(err, &l->err) : 0;
}

static const struct differs *differs_of(const struct unpack *u)
{
	static const struct differs none;
	const struct transfer_options *o = &u->t->o;
	for (size_t i = 0; i < o->n_rules; i++)
		if (streq(o->rules[i].snapshotter, u->snapshotter) && o->rules[i].differs.n)
			return &o->rules[i].differs;
	if (!o->n_rules && o->erofs_differs.n && streq(u->snapshotter, "erofs"))
		return &o->erofs_differs;
	return o->differs ? o->differs : &none;
}

static int apply(struct unpack *u, struct layer *l, int fd, const struct mounts *m, bool alone,
		 struct descriptor *ret, struct err *err)
{
	struct apply_request q = {
		.desc = &l->desc, .fd = fd, .mounts = m, .sync_fs = u->sync_fs, .alone = alone};
	int r = u->no_decryption ? 0 : decrypt_payloads(u->ctx->arena, &q, err);

	return r < 0 ? r : differs_apply(u->ctx, differs_of(u), &q, ret, err);
}

static int apply_following(struct unpack *u, struct layer *l, const struct mounts *m, bool alone,
			   struct descriptor *ret, struct err *err)
{
	int p[2];
	if (pipe2(p, O_CLOEXEC) < 0)
		return err_errno(err, errno, "pipe");
	fcntl(p[1], F_SETPIPE_SZ, PIPE_SIZE);
	struct feed f = {.layer = l, .out = p[1]};
	int r = pool_submit(u->t->o.pool, feed_job, &f);
	if (r < 0) {
		close(p[0]);
		close(p[1]);
		return err_errno(err, r, "follow the download of %s", l->desc.digest);
	}
	r = apply(u, l, p[0], m, alone, ret, err);
	close(p[0]);
	pthread_mutex_lock(l->lock);
	while (!f.done)
		pthread_cond_wait(l->changed, l->lock);
	pthread_mutex_unlock(l->lock);
	/* A failed download is the reason, a broken archive only what follows from it. */
	struct err load = ERR_INIT;
	int w = unpack_wait(l, &load);
	return w < 0 ? err_copy(err, &load) : r;
}

static int apply_stored(struct unpack *u, struct layer *l, const struct mounts *m, bool alone,
			struct descriptor *ret, struct err *err)
{
	int r = unpack_wait(l, err);
	return r < 0 ? r : apply(u, l, -1, m, alone, ret, err);
}

int unpack_apply(struct unpack *u, struct layer *l, const struct mounts *m, bool alone,
		 struct descriptor *ret, struct err *err)
{
	pthread_mutex_lock(l->lock);
	while (l->state == LAYER_WAITING || (l->state == LAYER_LOADING && l->fd < 0))
		pthread_cond_wait(l->changed, l->lock);
	enum layer_state state = l->state;
	pthread_mutex_unlock(l->lock);
	if (state != LAYER_LOADING)
		return apply_stored(u, l, m, alone, ret, err);
	struct err why = ERR_INIT;
	int r = apply_following(u, l, m, alone, ret, &why);
	/* Only a differ of another process knows the type: it reads what is stored. */
	if (r == -ERR_UNIMPLEMENTED)
		return apply_stored(u, l, m, alone, ret, err);
	return r < 0 ? err_copy(err, &why) : 0;
}

/* ---- snapshots ---- */

const char *unpack_key(struct arena *a, const char *chain)
{
	static const char letters[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	unsigned char r[4];
	char tail[5] = "";
	random_bytes(r, sizeof(r));
	for (int i = 0; i < 4; i++)
		tail[i] = letters[r[i] & 63];
	return arena_printf(a, "extract-%ld-%s %s", time_now().tv_nsec, tail, chain);
}

#define LABEL_PREFIX "containerd.io/snapshot/"
#define LABEL_MAX 4096 /* key and value */

/* The image and the layers from this one on, for snapshotters that get them from the registry
 * themselves. */
static int annotate(struct unpack *u, size_t i, struct labels *ret)
{
	static const char key[] = LABEL_PREFIX "cri.image-layers";
	struct arena *a = u->ctx->arena;
	_cleanup_buf_ struct buf layers = BUF_INIT;
	for (size_t k = i; k < u->n; k++) {
		const char *d = u->layers[k]->desc.digest;
		if (sizeof(key) + layers.len + strlen(d) + 1 > LABEL_MAX)
			break;
		buf_printf(&layers, "%s%s", layers.len ? "," : "", d);
	}
	int r = buf_ok(&layers) ? labels_set(a, ret, key, layers.data) : -ENOMEM;
	if (r == 0)
		r = labels_set(a, ret, LABEL_PREFIX "cri.image-ref", str_or(u->image, ""));
	if (r == 0)
		r = labels_set(a, ret, LABEL_PREFIX "cri.manifest-digest",
			       str_or(u->manifest_digest, ""));
	return r < 0 ? r
		     : labels_set(a, ret, LABEL_PREFIX "cri.layer-digest",
				  u->layers[i]->desc.digest);
}

static bool wants_annotations(const struct unpack *u)
{
	const struct transfer_options *o = &u->t->o;
	for (size_t i = 0; i < o->n_annotated; i++)
		if (streq(o->annotated[i], u->snapshotter))
			return true;
	return false;
}

int unpack_labels(struct unpack *u, size_t i, const char *chain, const char *parent,
		  struct labels *ret)
{
	struct arena *a = u->ctx->arena;
	const struct labels *own = &u->layers[i]->desc.annotations;
	int r = 0;
	for (size_t k = 0; r == 0 && k < own->n; k++)
		if (str_has_prefix(own->v[k].key, LABEL_PREFIX))
			r = labels_set(a, ret, own->v[k].key, own->v[k].value);
	if (r == 0 && wants_annotations(u))
		r = annotate(u, i, ret);
	if (r == 0)
		r = labels_set(a, ret, "containerd.io/snapshot.ref", chain);
	if (r == 0)
		r = labels_set(a, ret, LABEL_PREFIX "diff-id", u->diff_ids[i]);
	if (r == 0 && *parent)
		r = labels_set(a, ret, LABEL_PREFIX "parent", parent);
	return r;
}

int unpack_check(const struct unpack *u, size_t i, const struct descriptor *applied,
		 struct err *err)
{
	if (streq(applied->digest, u->diff_ids[i]))
		return 0;
	return err_set(err, ERR_FAILED_PRECONDITION,
		       "wrong diff id \"%s\" calculated on extraction \"%s\"", u->diff_ids[i],
		       applied->digest);
}

void unpack_drop(struct unpack *u, const char *key)
{
	struct ctx ctx = {.arena = u->ctx->arena, .ns = u->ctx->ns, .lease = u->ctx->lease};

	(void)!snapshot_remove(&ctx, u->t->o.db, u->snapshotter, key, NULL);
}

static int unpack_into(struct unpack *u, size_t i, const char *chain, const char *key,
		       const struct mounts *m, const struct labels *labels, struct err *err)
{
	struct layer *l = u->layers[i];
	struct descriptor applied;
	report_object(u->rep, "extracting", l->name, &l->desc, 0, l->desc.size);
	int r = unpack_apply(u, l, m, false, &applied, err);
	if (r == 0)
		r = unpack_check(u, i, &applied, err);
	if (r < 0)
		return err_prefix(err, "extract layer %s", l->desc.digest);
	r = snapshot_commit(u->ctx, u->t->o.db, u->snapshotter, chain, key, "", labels, err);
	return r == -ERR_ALREADY_EXISTS ? 1 : r;
}

static int prepare(struct unpack *u, size_t i, const char *parent, const char *chain,
		   struct labels *labels, const char **ret_key, struct mounts *ret, struct err *err)
{
	const char *key = unpack_key(u->ctx->arena, chain);
	if (!key || unpack_labels(u, i, chain, parent, labels) < 0)
		return err_nomem(err);
	int r = snapshot_prepare(u->ctx, u->t->o.db, u->snapshotter, SNAPSHOT_ACTIVE, key, parent,
				 labels, ret, err);
	if (r == 0)
		*ret_key = key;
	return r;
}

int unpack_layer(struct unpack *u, size_t i, const char *parent, const char *chain, struct err *err)
{
	struct ctx *ctx = u->ctx;
	struct db *db = u->t->o.db;
	struct layer *l = u->layers[i];
	struct labels labels = {0};
	struct mounts m;
	const char *key = NULL;
	int r = 0;
	if (i < u->n_there) {
		r = -ERR_ALREADY_EXISTS;
	} else if (i == u->n_there && u->prepared) {
		key = TAKE_PTR(u->prepared);
		m = u->mounts;
		if (unpack_labels(u, i, chain, parent, &labels) < 0)
			r = err_nomem(err);
	} else {
		r = prepare(u, i, parent, chain, &labels, &key, &m, err);
	}
	if (r == -ERR_ALREADY_EXISTS) {
		r = l->absent ? 0 : unpack_wait(l, err);
	} else if (key) {
		if (r == 0)
			r = unpack_into(u, i, chain, key, &m, &labels, err);
		if (r != 0) /* failed, or somebody else was faster */
			unpack_drop(u, key);
	}
	if (r < 0)
		return r;
	report_object(u->rep, "extracted", l->name, &l->desc, l->desc.size, l->desc.size);
	return l->absent ? 0
			 : content_label(ctx, db, l->desc.digest, "containerd.io/uncompressed",
					 u->diff_ids[i], err);
}

int unpack_probe(struct unpack *u, struct err *err)
{
	const char *parent = "";
	if (!snapshot_is_remote(u->t->o.db, u->snapshotter))
		return 0;
	for (; u->n_there < u->n && !u->prepared; u->n_there++) {
		const char *chain = chain_id(u->ctx->arena, u->diff_ids, u->n_there + 1);
		struct labels labels = {0};
		if (!chain)
			return err_nomem(err);
		int r = prepare(u, u->n_there, parent, chain, &labels, &u->prepared, &u->mounts,
				err);
		if (r == 0)
			break;
		if (r != -ERR_ALREADY_EXISTS)
			return r;
		parent = chain;
	}
	return 0;
}

void unpack_done(struct unpack *u)
{
	if (u->prepared)
		unpack_drop(u, u->prepared);
	u->prepared = NULL;
}

static int unpack_in_turn(struct unpack *u, const char **ret_chain, struct err *err)
{
	struct ctx *ctx = u->ctx;
	const char *parent = "";
	for (size_t i = 0; i < u->n; i++) {
		const char *chain = chain_id(ctx->arena, u->diff_ids, i + 1);
		if (!chain)
			return err_nomem(err);
		int r = ctx_check(ctx, err);
		if (r == 0)
			r = unpack_layer(u, i, parent, chain, err);
		if (r < 0)
			return r;
		parent = chain;
	}
	*ret_chain = parent;
	return 0;
}

int unpack_image(struct unpack *u, struct err *err)
{
	const char *chain;
	struct snapshotter *sn;
	if (!u->n)
		return 0;
	int r = db_snapshotter(u->t->o.db, u->snapshotter, &sn, err);
	if (r == 0)
		r = u->n > 1 && u->t->o.max_unpacks > 1 && sn->can_rebase && !sn->remote
			    ? unpack_ahead(u, &chain, err)
			    : unpack_in_turn(u, &chain, err);
	if (r < 0)
		return r;
	char *label =
		arena_printf(u->ctx->arena, "containerd.io/gc.ref.snapshot.%s", u->snapshotter);
	return label ? content_label(u->ctx, u->t->o.db, u->config_digest, label, chain, err)
		     : err_nomem(err);
}
