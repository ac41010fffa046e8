/* SPDX-License-Identifier: Apache-2.0 */
#include "plugins/snapshotter/local.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int local_init(struct local *l, const char *root, struct err *err)
{
	_cleanup_free_ char *db = NULL;
	int r;

	l->root = strdup(root);
	if (!l->root || asprintf(&db, "%s/metadata.db", root) < 0)
		return err_nomem(err);
	r = snapdirs_new(root, &l->dirs, err);
	return r < 0 ? r : storage_new(db, &l->storage, err);
}

void local_free(struct snapshotter *s)
{
	struct local *l = local_of(s);

	storage_free(l->storage);
	snapdirs_free(l->dirs);
	free(l->root);
	free(l);
}

char *local_path(struct arena *a, const struct local *l, uint64_t id, const char *leaf)
{
	return arena_printf(a, "%s/snapshots/%llu/%s", l->root, (unsigned long long)id, leaf);
}

/* ---- Looking ---- */

int local_stat(struct ctx *ctx, struct snapshotter *s, const char *key, struct snapshot_info *ret,
	       struct err *err)
{
	return storage_info(ctx, local_of(s)->storage, key, NULL, ret, NULL, err);
}

int local_update(struct ctx *ctx, struct snapshotter *s, const struct snapshot_info *info,
		 char *const *paths, size_t n, struct snapshot_info *ret, struct err *err)
{
	return storage_update(ctx, local_of(s)->storage, info, paths, n, ret, err);
}

int local_usage(struct ctx *ctx, struct snapshotter *s, const char *key, struct snapshot_usage *ret,
		struct err *err)
{
	struct local *l = local_of(s);
	struct snapshot_info info;
	struct snapshot_usage u;
	uint64_t id;
	int r = storage_info(ctx, l->storage, key, &id, &info, &u, err);

	if (r >= 0 && info.kind == SNAPSHOT_ACTIVE)
		r = l->ops->usage(ctx, l, id, &u, err);
	if (r >= 0)
		*ret = u;
	return r;
}

int local_mounts(struct ctx *ctx, struct snapshotter *s, const char *key, struct mounts *ret,
		 struct err *err)
{
	struct local *l = local_of(s);
	struct storage_snapshot snap;
	int r = storage_get(ctx, l->storage, key, &snap, err);

	if (r < 0)
		return err ? err_prefix(err, "%s", l->ops->mounts_failed) : r;
	return l->ops->mounts(ctx, l, &snap, ret, err);
}

struct walk {
	int (*fn)(void *arg, const struct snapshot_info *info);
	void *arg;
};

static int walk_one(void *arg, const struct snapshot_info *info, uint64_t id)
{
	struct walk *w = arg;

	return w->fn(w->arg, info);
}

int local_walk(struct ctx *ctx, struct snapshotter *s,
	       int (*fn)(void *arg, const struct snapshot_info *info), void *arg, struct err *err)
{
	struct walk w = {fn, arg};

	return storage_walk(ctx, local_of(s)->storage, walk_one, &w, err);
}

/* ---- Making ---- */

int local_dir_make(struct ctx *ctx, struct local *l, const struct storage_snapshot *s, mode_t mode,
		   int (*fill)(struct ctx *ctx, struct local *l, const struct storage_snapshot *s,
			       const char *temp, struct err *err),
		   struct err *err)
{
	struct snapdir_temp t = {0};
	int r = snapdirs_begin(l->dirs, mode, &t, err);

	if (r >= 0)
		r = fill(ctx, l, s, t.name, err);
	if (r >= 0)
		r = snapdirs_install(l->dirs, &t, s->id, err);
	snapdirs_abort(l->dirs, &t);
	return r;
}

int local_prepare(struct ctx *ctx, struct snapshotter *s, enum snapshot_kind kind, const char *key,
		  const char *parent, const struct labels *labels, struct mounts *ret,
		  struct err *err)
{
	struct local *l = local_of(s);
	struct storage_snapshot snap;
	uint64_t id;
	int r = storage_create(ctx, l->storage, kind, key, parent, labels, &snap, err);

	if (r < 0)
		return err ? err_prefix(err, "failed to create snapshot") : r;
	r = l->ops->make(ctx, l, &snap, err);
	if (r >= 0)
		r = l->ops->mounts(ctx, l, &snap, ret, err);
	if (r < 0 && storage_remove(ctx, l->storage, key, &id, &kind, NULL) >= 0)
		(void)!snapdirs_remove(l->dirs, id, NULL);
	return r;
}

int local_commit(struct ctx *ctx, struct snapshotter *s, const char *name, const char *key,
		 const char *parent, const struct labels *labels, struct err *err)
{
	struct local *l = local_of(s);
	struct snapshot_info info;
	struct snapshot_usage u = {0};
	uint64_t id;
	int r = storage_info(ctx, l->storage, key, &id, &info, NULL, err);

	if (r >= 0)
		r = l->ops->finish(ctx, l, id, &info, parent, &u, err);
	if (r < 0)
		return r;
	r = storage_commit(ctx, l->storage, key, name, parent, labels, u, err);
	if (r < 0)
		return err ? err_prefix(err, "failed to commit snapshot %s", key) : r;
	if (l->ops->committed)
		l->ops->committed(ctx, l, id);
	return 0;
}

/* ---- Removing ---- */

int local_remove(struct ctx *ctx, struct snapshotter *s, const char *key, struct err *err)
{
	struct local *l = local_of(s);
	enum snapshot_kind kind;
	uint64_t id;
	int r = storage_remove(ctx, l->storage, key, &id, &kind, err);

	if (r < 0)
		return err ? err_prefix(err, "failed to remove snapshot %s", key) : r;
	return l->lazy_remove ? 0 : snapdirs_remove(l->dirs, id, err);
}

int local_cleanup(struct ctx *ctx, struct snapshotter *s, struct err *err)
{
	struct local *l = local_of(s);

	return snapdirs_cleanup(ctx, l->dirs, l->storage, err);
}
