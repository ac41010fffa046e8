/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots as layers of an overlay.
 *
 *     <root>/metadata.db
 *     <root>/snapshots/<id>/fs      what the layer adds
 *                          /work    of active ones: the kernel's
 *
 * A chain of snapshots is mounted with the directories of the committed ones as lower directories,
 * nearest first. What needs no overlay is a bind mount: the first layer, and a view of exactly one.
 * Committing renames nothing: the record of the active snapshot becomes that of a committed one
 * with the same id. Directories are removed by cleanup, unless the options say at once; see dirs.h
 * for what a crash leaves.
 */
#include "plugins/snapshotter/overlayfs.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/path.h"
#include "base/str.h"
#include "plugins/snapshotter/dirs.h"
#include "plugins/snapshotter/overlay_check.h"
#include "plugins/snapshotter/top.h"

#define LABEL_UPPERDIR "containerd.io/snapshot/overlay.upperdir"

struct overlayfs {
	struct snapshotter s;
	struct storage *storage;
	struct snapdirs *dirs;
	char *root;
	char **options; /* configured, then what the kernel needs */
	size_t n_options;
	bool upperdir_label, sync_remove, slow_chown, remap;
};

static struct overlayfs *overlayfs_of(const struct snapshotter *s)
{
	return (struct overlayfs *)((char *)s - offsetof(struct overlayfs, s));
}

static char *path_of(struct arena *a, const struct overlayfs *o, uint64_t id, const char *leaf)
{
	return snapdir_path(a, o->root, id, leaf);
}

/* ---- Looking ---- */

static int label_upperdir(struct ctx *ctx, const struct overlayfs *o, uint64_t id,
			  struct snapshot_info *info, struct err *err)
{
	char *path;

	if (!o->upperdir_label)
		return 0;
	path = path_of(ctx->arena, o, id, "fs");
	if (!path || labels_set(ctx->arena, &info->labels, LABEL_UPPERDIR, path) < 0)
		return err_nomem(err);
	return 0;
}

static int overlayfs_stat(struct ctx *ctx, struct snapshotter *s, const char *key,
			  struct snapshot_info *ret, struct err *err)
{
	struct overlayfs *o = overlayfs_of(s);
	struct snapshot_info info;
	uint64_t id;
	int r = storage_info(ctx, o->storage, key, &id, &info, NULL, err);

	if (r >= 0)
		r = label_upperdir(ctx, o, id, &info, err);
	if (r >= 0)
		*ret = info;
	return r;
}

static int overlayfs_update(struct ctx *ctx, struct snapshotter *s,
			    const struct snapshot_info *info, char *const *paths, size_t n,
			    struct snapshot_info *ret, struct err *err)
{
	struct overlayfs *o = overlayfs_of(s);
	struct snapshot_info updated;
	uint64_t id;
	int r = storage_update(ctx, o->storage, info, paths, n, &updated, err);

	if (r >= 0 && o->upperdir_label) {
		r = storage_info(ctx, o->storage, info->name, &id, NULL, NULL, err);
		if (r >= 0)
			r = label_upperdir(ctx, o, id, &updated, err);
	}
	if (r >= 0)
		*ret = updated;
	return r;
}

static int usage_of(struct ctx *ctx, const struct overlayfs *o, uint64_t id,
		    struct snapshot_usage *ret, struct err *err)
{
	char *path = path_of(ctx->arena, o, id, "fs");
	int r;

	if (!path)
		return err_nomem(err);
	r = dir_usage(AT_FDCWD, path, &ret->size, &ret->inodes);
	return r < 0 ? err_errno(err, r, "disk usage of `%s`", path) : 0;
}

static int overlayfs_usage(struct ctx *ctx, struct snapshotter *s, const char *key,
			   struct snapshot_usage *ret, struct err *err)
{
	struct overlayfs *o = overlayfs_of(s);
	struct snapshot_info info;
	struct snapshot_usage u;
	uint64_t id;
	int r = storage_info(ctx, o->storage, key, &id, &info, &u, err);

	if (r >= 0 && info.kind == SNAPSHOT_ACTIVE)
		r = usage_of(ctx, o, id, &u, err);
	if (r >= 0)
		*ret = u;
	return r;
}

struct walk {
	struct ctx *ctx;
	const struct overlayfs *o;
	int (*fn)(void *arg, const struct snapshot_info *info);
	void *arg;
	struct err *err;
};

static int walk_one(void *arg, const struct snapshot_info *info, uint64_t id)
{
	struct walk *w = arg;
	struct snapshot_info i = *info;
	int r = label_upperdir(w->ctx, w->o, id, &i, w->err);

	return r < 0 ? r : w->fn(w->arg, &i);
}

static int overlayfs_walk(struct ctx *ctx, struct snapshotter *s,
			  int (*fn)(void *arg, const struct snapshot_info *info), void *arg,
			  struct err *err)
{
	struct walk w = {ctx, overlayfs_of(s), fn, arg, err};

	return storage_walk(ctx, w.o->storage, walk_one, &w, err);
}

/* ---- Mounts ---- */

/* Options of one mount while they are put together. */
struct options {
	struct arena *a;
	const char **v;
	size_t n;
	bool failed;
};

static void options_add(struct options *o, const char *s)
{
	if (s)
		o->v[o->n++] = s;
	else
		o->failed = true;
}

/* "lowerdir=/r/snapshots/3/fs:/r/snapshots/2/fs": in one piece, chains are long. */
static char *lowerdir_option(struct arena *a, const struct overlayfs *o,
			     const struct storage_snapshot *s)
{
	_cleanup_buf_ struct buf b = BUF_INIT;

	buf_adds(&b, "lowerdir=");
	for (size_t i = 0; i < s->n_parents; i++)
		buf_printf(&b, "%s%s/snapshots/%llu/fs", i ? ":" : "", o->root,
			   (unsigned long long)s->parent_ids[i]);
	return buf_ok(&b) ? arena_strdup(a, b.data) : NULL;
}

static void bind_mount(struct options *opt, const struct overlayfs *o, uint64_t id, bool ro,
		       struct mount *ret)
{
	options_add(opt, ro ? "ro" : "rw");
	options_add(opt, "rbind");
	ret->type = "bind";
	ret->source = path_of(opt->a, o, id, "fs");
	opt->failed |= !ret->source;
}

static void overlay_mount(struct options *opt, const struct overlayfs *o,
			  const struct storage_snapshot *s, struct mount *ret)
{
	if (s->kind == SNAPSHOT_ACTIVE) {
		char *work = path_of(opt->a, o, s->id, "work"),
		     *up = path_of(opt->a, o, s->id, "fs");

		options_add(opt, work ? arena_printf(opt->a, "workdir=%s", work) : NULL);
		options_add(opt, up ? arena_printf(opt->a, "upperdir=%s", up) : NULL);
	}
	options_add(opt, lowerdir_option(opt->a, o, s));
	for (size_t i = 0; i < o->n_options; i++)
		options_add(opt, arena_strdup(opt->a, o->options[i]));
	ret->type = "overlay";
	ret->source = "overlay";
}

static int mounts_of(struct ctx *ctx, const struct overlayfs *o, const struct storage_snapshot *s,
		     struct mounts *ret, struct err *err)
{
	struct mount *m = arena_new_obj(ctx->arena, struct mount);
	struct options opt = {.a = ctx->arena};
	const char *uids = labels_get(&s->labels, LABEL_UIDMAP);
	const char *gids = labels_get(&s->labels, LABEL_GIDMAP);

	opt.v = arena_new_array(ctx->arena, const char *, o->n_options + 5);
	if (!m || !opt.v)
		return err_nomem(err);
	if (o->remap && uids)
		options_add(&opt, arena_printf(ctx->arena, "uidmap=%s", uids));
	if (o->remap && gids)
		options_add(&opt, arena_printf(ctx->arena, "gidmap=%s", gids));
	if (s->n_parents == 0)
		bind_mount(&opt, o, s->id, s->kind == SNAPSHOT_VIEW, m);
	else if (s->n_parents == 1 && s->kind == SNAPSHOT_VIEW)
		bind_mount(&opt, o, s->parent_ids[0], true, m);
	else
		overlay_mount(&opt, o, s, m);
	if (opt.failed)
		return err_nomem(err);
	m->target = "";
	m->options = opt.v;
	m->n_options = opt.n;
	*ret = (struct mounts){.v = m, .n = 1};
	return 0;
}

static int overlayfs_mounts(struct ctx *ctx, struct snapshotter *s, const char *key,
			    struct mounts *ret, struct err *err)
{
	struct overlayfs *o = overlayfs_of(s);
	struct storage_snapshot snap;
	int r = storage_get(ctx, o->storage, key, &snap, err);

	if (r < 0) {
		if (err)
			err_prefix(err, "failed to get active mount");
		return r;
	}
	return mounts_of(ctx, o, &snap, ret, err);
}

/* ---- Making ---- */

static int layer_fill(struct ctx *ctx, const struct overlayfs *o, const struct storage_snapshot *s,
		      const char *temp, struct err *err)
{
	_cleanup_close_ int fd =
		openat(snapdirs_fd(o->dirs), temp, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return err_errno(err, errno, "open `%s`", temp);
	if (mkdirat(fd, "fs", 0755) < 0 || fchmodat(fd, "fs", 0755, 0) < 0)
		return err_errno(err, errno, "make directory `%s/fs`", temp);
	if (s->kind == SNAPSHOT_ACTIVE &&
	    (mkdirat(fd, "work", 0711) < 0 || fchmodat(fd, "work", 0711, 0) < 0))
		return err_errno(err, errno, "make directory `%s/work`", temp);
	return top_fit(ctx, o->root, s, fd, "fs", err);
}

static int layer_make(struct ctx *ctx, const struct overlayfs *o, const struct storage_snapshot *s,
		      struct err *err)
{
	struct snapdir_temp t = {0};
	int r = snapdirs_begin(o->dirs, 0700, &t, err);

	if (r >= 0)
		r = layer_fill(ctx, o, s, t.name, err);
	if (r >= 0)
		r = snapdirs_install(o->dirs, &t, s->id, err);
	snapdirs_abort(o->dirs, &t);
	return r;
}

static int overlayfs_prepare(struct ctx *ctx, struct snapshotter *s, enum snapshot_kind kind,
			     const char *key, const char *parent, const struct labels *labels,
			     struct mounts *ret, struct err *err)
{
	struct overlayfs *o = overlayfs_of(s);
	struct storage_snapshot snap;
	uint64_t id;
	int r = storage_create(ctx, o->storage, kind, key, parent, labels, &snap, err);

	if (r < 0) {
		if (err)
			err_prefix(err, "failed to create snapshot");
		return r;
	}
	r = layer_make(ctx, o, &snap, err);
	if (r >= 0)
		r = mounts_of(ctx, o, &snap, ret, err);
	if (r < 0 && storage_remove(ctx, o->storage, key, &id, &kind, NULL) >= 0)
		(void)!snapdirs_remove(o->dirs, id, NULL);
	return r;
}

static int overlayfs_commit(struct ctx *ctx, struct snapshotter *s, const char *name,
			    const char *key, const char *parent, const struct labels *labels,
			    struct err *err)
{
	struct overlayfs *o = overlayfs_of(s);
	struct snapshot_info info;
	struct snapshot_usage u = {0};
	uint64_t id;
	int r = storage_info(ctx, o->storage, key, &id, &info, NULL, err);

	if (r >= 0 && info.kind == SNAPSHOT_ACTIVE)
		r = usage_of(ctx, o, id, &u, err);
	if (r >= 0 && info.kind == SNAPSHOT_ACTIVE && !*info.parent && !str_empty(parent))
		r = top_rebase(ctx, o->root, o->storage, id, &info.labels, parent, err);
	if (r < 0)
		return r;
	r = storage_commit(ctx, o->storage, key, name, parent, labels, u, err);
	if (r < 0 && err)
		err_prefix(err, "failed to commit snapshot %s", key);
	return r;
}

/* ---- Removing ---- */

static int overlayfs_remove(struct ctx *ctx, struct snapshotter *s, const char *key,
			    struct err *err)
{
	struct overlayfs *o = overlayfs_of(s);
	enum snapshot_kind kind;
	uint64_t id;
	int r = storage_remove(ctx, o->storage, key, &id, &kind, err);

	if (r < 0) {
		if (err)
			err_prefix(err, "failed to remove snapshot %s", key);
		return r;
	}
	return o->sync_remove ? snapdirs_remove(o->dirs, id, err) : 0;
}

static int overlayfs_cleanup(struct ctx *ctx, struct snapshotter *s, struct err *err)
{
	struct overlayfs *o = overlayfs_of(s);

	return snapdirs_cleanup(ctx, o->dirs, o->storage, err);
}

static void overlayfs_free(struct snapshotter *s)
{
	struct overlayfs *o = overlayfs_of(s);

	storage_free(o->storage);
	snapdirs_free(o->dirs);
	for (size_t i = 0; i < o->n_options; i++)
		free(o->options[i]);
	free(o->options);
	free(o->root);
	free(o);
}

bool overlayfs_remaps_ids(const struct snapshotter *s)
{
	return overlayfs_of(s)->remap;
}

bool overlayfs_only_remaps_ids(const struct snapshotter *s)
{
	return !overlayfs_of(s)->slow_chown;
}

static const struct snapshotter_ops overlayfs_ops = {
	.stat = overlayfs_stat,
	.update = overlayfs_update,
	.usage = overlayfs_usage,
	.mounts = overlayfs_mounts,
	.prepare = overlayfs_prepare,
	.commit = overlayfs_commit,
	.remove = overlayfs_remove,
	.walk = overlayfs_walk,
	.cleanup = overlayfs_cleanup,
	.free = overlayfs_free,
};

/* ---- Starting ---- */

static int option_keep(struct overlayfs *o, const char *s)
{
	o->options[o->n_options] = strdup(s);
	if (!o->options[o->n_options])
		return -ENOMEM;
	o->n_options++;
	return 0;
}

static bool options_name(const struct overlayfs_options *opt, const char *name)
{
	for (size_t i = 0; i < opt->n_mount_options; i++) {
		const char *rest = str_skip(opt->mount_options[i], name);

		if (rest && (*rest == 0 || *rest == '='))
			return true;
	}
	return false;
}

static int options_choose(struct overlayfs *o, const struct overlayfs_options *opt,
			  const struct overlay_support *can, struct err *err)
{
	int r = 0;

	o->options = calloc(opt->n_mount_options + 2, sizeof(*o->options));
	if (!o->options)
		return err_nomem(err);
	for (size_t i = 0; r >= 0 && i < opt->n_mount_options; i++)
		r = option_keep(o, opt->mount_options[i]);
	if (r >= 0 && can->userxattr && !options_name(opt, "userxattr"))
		r = option_keep(o, "userxattr");
	if (r >= 0 && can->index && !options_name(opt, "index"))
		r = option_keep(o, "index=off");
	return r < 0 ? err_nomem(err) : 0;
}

int overlayfs_new(const char *root, const struct overlayfs_options *opt, struct snapshotter **ret,
		  struct err *err)
{
	struct overlayfs *o = calloc(1, sizeof(*o));
	struct overlay_support can = {0};
	_cleanup_free_ char *db = NULL;
	int r;

	if (!o)
		return err_nomem(err);
	o->s = (struct snapshotter){.ops = &overlayfs_ops, .name = "overlayfs"};
	o->upperdir_label = opt->upperdir_label;
	o->sync_remove = opt->sync_remove;
	o->slow_chown = opt->slow_chown;
	o->root = strdup(root);
	if (!o->root || asprintf(&db, "%s/metadata.db", root) < 0)
		r = err_nomem(err);
	else
		r = snapdirs_new(root, &o->dirs, err);
	if (r >= 0)
		r = overlay_check(root, &can, err);
	if (r >= 0)
		r = options_choose(o, opt, &can, err);
	if (r >= 0)
		r = storage_new(db, &o->storage, err);
	if (r < 0) {
		overlayfs_free(&o->s);
		return r;
	}
	o->remap = can.idmap;
	o->s.can_rebase = !can.in_userns;
	*ret = &o->s;
	return 0;
}
