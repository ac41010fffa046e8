/* SPDX-License-Identifier: Apache-2.0 */
/* What snapshots take on the disk: measured when somebody asks, and kept for the configured period.
 */
#include <stdlib.h>

#include "base/log.h"
#include "base/str.h"
#include "base/time.h"
#include "core/snapshot.h"
#include "cri/image.h"
#include "cri/usage.h"

/* Of one snapshotter. */
struct measured {
	char *name;
	int64_t at_mono, at; /* at: unix ns */
	struct usage *v;     /* sorted by key */
	size_t n;
};

struct usage {
	char *key;
	int64_t bytes, inodes;
};

struct cri_usage {
	pthread_mutex_t lock; /* held while measuring: who asks meanwhile gets the same answer */
	struct measured *v;
	size_t n;
};

static void measured_clear(struct measured *m)
{
	for (size_t i = 0; i < m->n; i++)
		free(m->v[i].key);
	free(m->v);
	m->v = NULL;
	m->n = 0;
}

static int usage_cmp(const void *a, const void *b)
{
	return strcmp(((const struct usage *)a)->key, ((const struct usage *)b)->key);
}

struct cri_usage *cri_usage_new(const struct cri_config *c)
{
	struct cri_usage *u = calloc(1, sizeof(*u));

	if (!u)
		return NULL;
	u->v = calloc(c->n_handlers + 1, sizeof(*u->v));
	pthread_mutex_init(&u->lock, NULL);
	if (u->v)
		return u;
	cri_usage_free(u);
	return NULL;
}

void cri_usage_free(struct cri_usage *u)
{
	if (!u)
		return;
	for (size_t i = 0; i < u->n; i++) {
		measured_clear(&u->v[i]);
		free(u->v[i].name);
	}
	free(u->v);
	pthread_mutex_destroy(&u->lock);
	free(u);
}

static int measure(struct ctx *ctx, struct cri *c, struct measured *m, struct err *err)
{
	struct snapshot_info *infos;
	size_t n;
	int r = snapshot_list(ctx, c->o.db, m->name, NULL, &infos, &n, err);

	if (r < 0)
		return r;
	_cleanup_(measured_clear) struct measured got = {.v = calloc(n + 1, sizeof(*got.v))};
	if (!got.v)
		return err_nomem(err);
	for (size_t i = 0; i < n; i++) {
		struct snapshot_usage u;
		struct err own = ERR_INIT;
		/* One may go away meanwhile. */
		if (snapshot_usage(ctx, c->o.db, m->name, infos[i].name, &u, &own) < 0) {
			/* What is left out because nobody waits any more must not stay out. */
			r = ctx_check(ctx, err);
			if (r < 0)
				return r;
			if (own.kind != ERR_NOT_FOUND)
				log_warn("size of snapshot %s: %s", infos[i].name, own.text);
			continue;
		}
		got.v[got.n] = (struct usage){strdup(infos[i].name), u.size, u.inodes};
		if (!got.v[got.n].key)
			return err_nomem(err);
		got.n++;
	}
	qsort(got.v, got.n, sizeof(*got.v), usage_cmp);
	measured_clear(m);
	m->v = TAKE_PTR(got.v);
	m->n = got.n;
	got.n = 0;
	struct timespec now = time_now();
	m->at_mono = time_mono();
	m->at = now.tv_sec * NSEC_PER_SEC + now.tv_nsec;
	return 0;
}

/* Locked. */
static int fresh(struct ctx *ctx, struct cri *c, const char *snapshotter, struct measured **ret,
		 struct err *err)
{
	struct cri_usage *u = c->usage;
	struct measured *m = NULL;

	for (size_t i = 0; i < u->n && !m; i++)
		if (streq(u->v[i].name, snapshotter))
			m = &u->v[i];
	if (!m) {
		if (u->n > c->config->n_handlers)
			return err_set(err, ERR_INTERNAL, "more snapshotters than handlers");
		m = &u->v[u->n];
		m->name = strdup(snapshotter);
		if (!m->name)
			return err_nomem(err);
		u->n++;
	}
	*ret = m;
	if (m->at_mono &&
	    time_mono() - m->at_mono < c->config->snapshot_stats_period_s * NSEC_PER_SEC)
		return 0;
	return measure(ctx, c, m, err);
}

int cri_snapshot_usage(struct ctx *ctx, struct cri *c, const char *snapshotter, const char *key,
		       int64_t *ret_bytes, int64_t *ret_inodes, int64_t *ret_at_ns, struct err *err)
{
	MUTEX_GUARD(&c->usage->lock);
	struct usage want = {.key = (char *)key}, *u;
	struct measured *m;
	int r = fresh(ctx, c, snapshotter, &m, err);

	if (r < 0)
		return r;
	u = m->n ? bsearch(&want, m->v, m->n, sizeof(*m->v), usage_cmp) : NULL;
	/* One that is younger than the measurement: not measured yet. */
	*ret_bytes = u ? u->bytes : 0;
	*ret_inodes = u ? u->inodes : 0;
	*ret_at_ns = u ? m->at : 0;
	return 0;
}

static CRI(UInt64Value) * number(struct arena *a, int64_t v)
{
	CRI(UInt64Value) *m = arena_new_obj(a, CRI(UInt64Value));

	if (m) {
		*m = (CRI(UInt64Value))CRI_INIT(UINT64_VALUE);
		m->value = (uint64_t)v;
	}
	return m;
}

static int filesystem(struct ctx *ctx, struct cri *c, const char *snapshotter,
		      CRI(FilesystemUsage) * *ret, struct err *err)
{
	CRI(FilesystemUsage) *f = arena_new_obj(ctx->arena, CRI(FilesystemUsage));
	CRI(FilesystemIdentifier) *id = arena_new_obj(ctx->arena, CRI(FilesystemIdentifier));
	int64_t bytes = 0, inodes = 0;
	struct measured *m;

	if (!f || !id)
		return err_nomem(err);
	MUTEX_GUARD(&c->usage->lock);
	int r = fresh(ctx, c, snapshotter, &m, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < m->n; i++) {
		bytes += m->v[i].bytes;
		inodes += m->v[i].inodes;
	}
	*f = (CRI(FilesystemUsage))CRI_INIT(FILESYSTEM_USAGE);
	*id = (CRI(FilesystemIdentifier))CRI_INIT(FILESYSTEM_IDENTIFIER);
	id->mountpoint =
		(char *)str_or(c->o.snapshotter_root(c->o.snapshotter_arg, snapshotter), "");
	f->timestamp = m->at;
	f->fs_id = id;
	f->used_bytes = number(ctx->arena, bytes);
	f->inodes_used = number(ctx->arena, inodes);
	*ret = f;
	return f->used_bytes && f->inodes_used ? 0 : err_nomem(err);
}

int cri_image_fs_info(struct rpc_call *call, const void *req, struct err *err)
{
	CRI(ImageFsInfoResponse) resp = CRI_INIT(IMAGE_FS_INFO_RESPONSE);
	struct ctx *ctx = rpc_ctx(call);
	struct cri *c;
	int r = cri_of(call, &c, err);

	if (r < 0)
		return r;
	const char **names = arena_new_array(ctx->arena, const char *, c->config->n_handlers + 1);
	resp.image_filesystems =
		arena_new_array(ctx->arena, CRI(FilesystemUsage) *, c->config->n_handlers + 1);
	if (!names || !resp.image_filesystems)
		return err_nomem(err);
	for (size_t i = 0; r == 0 && i <= c->config->n_handlers; i++) {
		const char *s =
			i == 0 ? c->config->snapshotter
			       : cri_config_snapshotter(c->config, &c->config->handlers[i - 1]);
		bool known = false;
		for (size_t k = 0; k < resp.n_image_filesystems; k++)
			known = known || streq(names[k], s);
		if (known)
			continue;
		names[resp.n_image_filesystems] = s;
		r = filesystem(ctx, c, s, &resp.image_filesystems[resp.n_image_filesystems], err);
		resp.n_image_filesystems += r == 0;
	}
	return r < 0 ? r : rpc_send(call, &resp.base, err);
}
