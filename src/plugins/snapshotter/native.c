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
#include "plugins/snapshotter/local.h"

static int native_usage(struct ctx *ctx, struct local *l, uint64_t id, struct snapshot_usage *ret,
			struct err *err)
{
	char name[24];
	int r;

	(void)snprintf(name, sizeof(name), "%llu", (unsigned long long)id);
	r = dir_usage(snapdirs_fd(l->dirs), name, &ret->size, &ret->inodes);
	return r < 0 ? err_errno(err, r, "disk usage of `%s/snapshots/%s`", l->root, name) : 0;
}

static bool has_directory(const struct storage_snapshot *s)
{
	return s->kind == SNAPSHOT_ACTIVE || s->n_parents == 0;
}

static int native_mounts(struct ctx *ctx, struct local *l, const struct storage_snapshot *s,
			 struct mounts *ret, struct err *err)
{
	struct mount *m = arena_new_obj(ctx->arena, struct mount);
	const char **options = arena_new_array(ctx->arena, const char *, 2);

	if (!m || !options)
		return err_nomem(err);
	options[0] = "rbind";
	options[1] = s->kind == SNAPSHOT_VIEW ? "ro" : "rw";
	*m = (struct mount){
		.type = "bind",
		.source = arena_printf(
			ctx->arena, "%s/snapshots/%llu", l->root,
			(unsigned long long)(has_directory(s) ? s->id : s->parent_ids[0])),
		.target = "",
		.options = options,
		.n_options = 2,
	};
	if (!m->source)
		return err_nomem(err);
	*ret = (struct mounts){.v = m, .n = 1};
	return 0;
}

static int parent_copy(struct ctx *ctx, struct local *l, const struct storage_snapshot *s,
		       const char *temp, struct err *err)
{
	char parent[24];
	int r;

	if (!s->n_parents)
		return 0;
	(void)snprintf(parent, sizeof(parent), "%llu", (unsigned long long)s->parent_ids[0]);
	r = tree_copy(ctx, snapdirs_fd(l->dirs), parent, temp, err);
	return r < 0 && err ? err_prefix(err, "copying of parent failed") : r;
}

static int native_make(struct ctx *ctx, struct local *l, const struct storage_snapshot *s,
		       struct err *err)
{
	return has_directory(s) ? local_dir_make(ctx, l, s, 0755, parent_copy, err) : 0;
}

static int native_finish(struct ctx *ctx, struct local *l, uint64_t id,
			 const struct snapshot_info *info, const char *parent,
			 struct snapshot_usage *ret, struct err *err)
{
	/* A new parent would need its files in here. */
	if (!str_empty(parent) && !streq(parent, info->parent))
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "native snapshotter can not move snapshot %s to parent \"%s\"",
			       info->name, parent);
	return info->kind == SNAPSHOT_ACTIVE ? native_usage(ctx, l, id, ret, err) : 0;
}

static const struct local_ops native_local = {
	.mounts_failed = "failed to get snapshot mount",
	.usage = native_usage,
	.make = native_make,
	.mounts = native_mounts,
	.finish = native_finish,
};

static int native_remove(struct ctx *ctx, struct snapshotter *s, const char *key, struct err *err)
{
	struct local *l = local_of(s);
	enum snapshot_kind kind;
	uint64_t id;
	int r = storage_remove(ctx, l->storage, key, &id, &kind, err);

	if (r < 0)
		return err ? err_prefix(err, "failed to remove snapshot") : r;
	return snapdirs_remove(l->dirs, id, err);
}

static const struct snapshotter_ops native_ops = {
	.stat = local_stat,
	.update = local_update,
	.usage = local_usage,
	.mounts = local_mounts,
	.prepare = local_prepare,
	.commit = local_commit,
	.remove = native_remove,
	.walk = local_walk,
	.cleanup = local_cleanup,
	.free = local_free,
};

int native_new(const char *root, struct snapshotter **ret, struct err *err)
{
	struct local *l = calloc(1, sizeof(*l));
	int r;

	if (!l)
		return err_nomem(err);
	l->s = (struct snapshotter){.ops = &native_ops, .name = "native", .own_cleanup = true};
	l->ops = &native_local;
	r = local_init(l, root, err);
	if (r < 0) {
		local_free(&l->s);
		return r;
	}
	*ret = &l->s;
	return 0;
}
