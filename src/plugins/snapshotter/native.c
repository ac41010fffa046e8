/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots as full copies: for file systems that can do nothing better, and as the reference of
 * the others.
 *
 *     <root>/metadata.db
 *     <root>/snapshots/<id>/    the whole tree
 *
 * An active snapshot is a copy of its parent; a view with a parent is the parent's directory,
 * mounted read only, and has no directory of its own. Directories that a crash left behind go at
 * cleanup.
 */
#include "plugins/snapshotter/native.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/path.h"
#include "base/str.h"
#include "plugins/snapshotter/copy.h"
#include "plugins/snapshotter/dirs.h"

struct native {
	struct snapshotter s;
	struct storage *storage;
	struct snapdirs *dirs;
	char *root;
};

static struct native *native_of(struct snapshotter *s)
{
	return (struct native *)((char *)s - offsetof(struct native, s));
}

static int native_stat(struct ctx *ctx, struct snapshotter *s, const char *key,
		       struct snapshot_info *ret, struct err *err)
{
	return storage_info(ctx, native_of(s)->storage, key, NULL, ret, NULL, err);
}

static int native_update(struct ctx *ctx, struct snapshotter *s, const struct snapshot_info *info,
			 char *const *paths, size_t n, struct snapshot_info *ret, struct err *err)
{
	return storage_update(ctx, native_of(s)->storage, info, paths, n, ret, err);
}

static int usage_of(struct native *n, uint64_t id, struct snapshot_usage *ret, struct err *err)
{
	char name[24];
	int r;

	(void)snprintf(name, sizeof(name), "%llu", (unsigned long long)id);
	r = dir_usage(snapdirs_fd(n->dirs), name, &ret->size, &ret->inodes);
	return r < 0 ? err_errno(err, r, "disk usage of `%s/snapshots/%s`", n->root, name) : 0;
}

static int native_usage(struct ctx *ctx, struct snapshotter *s, const char *key,
			struct snapshot_usage *ret, struct err *err)
{
	struct native *n = native_of(s);
	struct snapshot_info info;
	struct snapshot_usage u;
	uint64_t id;
	int r = storage_info(ctx, n->storage, key, &id, &info, &u, err);

	if (r >= 0 && info.kind == SNAPSHOT_ACTIVE)
		r = usage_of(n, id, &u, err);
	if (r >= 0)
		*ret = u;
	return r;
}

static int mounts_of(struct ctx *ctx, struct native *n, const struct storage_snapshot *s,
		     struct mounts *ret, struct err *err)
{
	bool own = s->kind == SNAPSHOT_ACTIVE || s->n_parents == 0;
	struct mount *m = arena_new_obj(ctx->arena, struct mount);
	const char **options = arena_new_array(ctx->arena, const char *, 2);

	if (!m || !options)
		return err_nomem(err);
	options[0] = "rbind";
	options[1] = s->kind == SNAPSHOT_VIEW ? "ro" : "rw";
	*m = (struct mount){
		.type = "bind",
		.source = arena_printf(ctx->arena, "%s/snapshots/%llu", n->root,
				       (unsigned long long)(own ? s->id : s->parent_ids[0])),
		.target = "",
		.options = options,
		.n_options = 2,
	};
	if (!m->source)
		return err_nomem(err);
	*ret = (struct mounts){.v = m, .n = 1};
	return 0;
}

static int native_mounts(struct ctx *ctx, struct snapshotter *s, const char *key,
			 struct mounts *ret, struct err *err)
{
	struct native *n = native_of(s);
	struct storage_snapshot snap;
	int r = storage_get(ctx, n->storage, key, &snap, err);

	if (r < 0)
		return err ? err_prefix(err, "failed to get snapshot mount") : r;
	return mounts_of(ctx, n, &snap, ret, err);
}

/* Fills new-<random> with the parent's tree and gives it its number. */
static int directory_make(struct ctx *ctx, struct native *n, const struct storage_snapshot *s,
			  struct err *err)
{
	struct snapdir_temp t = {0};
	int r = snapdirs_begin(n->dirs, 0755, &t, err);

	if (r >= 0 && s->n_parents) {
		char parent[24];

		(void)snprintf(parent, sizeof(parent), "%llu",
			       (unsigned long long)s->parent_ids[0]);
		r = tree_copy(ctx, snapdirs_fd(n->dirs), parent, t.name, err);
		if (r < 0 && err)
			err_prefix(err, "copying of parent failed");
	}
	if (r >= 0)
		r = snapdirs_install(n->dirs, &t, s->id, err);
	snapdirs_abort(n->dirs, &t);
	return r;
}

static int native_prepare(struct ctx *ctx, struct snapshotter *s, enum snapshot_kind kind,
			  const char *key, const char *parent, const struct labels *labels,
			  struct mounts *ret, struct err *err)
{
	struct native *n = native_of(s);
	struct storage_snapshot snap;
	int r = storage_create(ctx, n->storage, kind, key, parent, labels, &snap, err);

	if (r < 0)
		return err ? err_prefix(err, "failed to create snapshot") : r;
	if (kind == SNAPSHOT_ACTIVE || snap.n_parents == 0)
		r = directory_make(ctx, n, &snap, err);
	if (r >= 0)
		r = mounts_of(ctx, n, &snap, ret, err);
	if (r < 0) {
		enum snapshot_kind k;
		uint64_t id;

		if (storage_remove(ctx, n->storage, key, &id, &k, NULL) >= 0)
			(void)!snapdirs_remove(n->dirs, id, NULL);
	}
	return r;
}

static int native_commit(struct ctx *ctx, struct snapshotter *s, const char *name, const char *key,
			 const char *parent, const struct labels *labels, struct err *err)
{
	struct native *n = native_of(s);
	struct snapshot_info info;
	struct snapshot_usage u = {0};
	uint64_t id;
	int r = storage_info(ctx, n->storage, key, &id, &info, NULL, err);

	/* A new parent would need its files in here. */
	if (r >= 0 && !str_empty(parent) && !streq(parent, info.parent))
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "native snapshotter can not move snapshot %s to parent \"%s\"", key,
			       parent);
	if (r >= 0 && info.kind == SNAPSHOT_ACTIVE)
		r = usage_of(n, id, &u, err);
	if (r < 0)
		return r;
	r = storage_commit(ctx, n->storage, key, name, parent, labels, u, err);
	if (r < 0 && err)
		err_prefix(err, "failed to commit snapshot %s", key);
	return r;
}

static int native_remove(struct ctx *ctx, struct snapshotter *s, const char *key, struct err *err)
{
	struct native *n = native_of(s);
	enum snapshot_kind kind;
	uint64_t id;
	int r = storage_remove(ctx, n->storage, key, &id, &kind, err);

	if (r < 0)
		return err ? err_prefix(err, "failed to remove snapshot") : r;
	return snapdirs_remove(n->dirs, id, err);
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

static int native_walk(struct ctx *ctx, struct snapshotter *s,
		       int (*fn)(void *arg, const struct snapshot_info *info), void *arg,
		       struct err *err)
{
	struct walk w = {fn, arg};

	return storage_walk(ctx, native_of(s)->storage, walk_one, &w, err);
}

static int native_cleanup(struct ctx *ctx, struct snapshotter *s, struct err *err)
{
	struct native *n = native_of(s);

	return snapdirs_cleanup(ctx, n->dirs, n->storage, err);
}

static void native_free(struct snapshotter *s)
{
	struct native *n = native_of(s);

	storage_free(n->storage);
	snapdirs_free(n->dirs);
	free(n->root);
	free(n);
}

static const struct snapshotter_ops native_ops = {
	.stat = native_stat,
	.update = native_update,
	.usage = native_usage,
	.mounts = native_mounts,
	.prepare = native_prepare,
	.commit = native_commit,
	.remove = native_remove,
	.walk = native_walk,
	.cleanup = native_cleanup,
	.free = native_free,
};

int native_new(const char *root, struct snapshotter **ret, struct err *err)
{
	struct native *n = calloc(1, sizeof(*n));
	_cleanup_free_ char *db = NULL;
	int r;

	if (!n)
		return err_nomem(err);
	n->s = (struct snapshotter){.ops = &native_ops, .name = "native", .own_cleanup = true};
	n->root = strdup(root);
	if (!n->root || asprintf(&db, "%s/metadata.db", root) < 0)
		r = err_nomem(err);
	else
		r = snapdirs_new(root, &n->dirs, err);
	if (r >= 0)
		r = storage_new(db, &n->storage, err);
	if (r < 0) {
		native_free(&n->s);
		return r;
	}
	*ret = &n->s;
	return 0;
}
