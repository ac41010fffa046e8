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

#include "base/str.h"
#include "plugins/snapshotter/local.h"
#include "plugins/snapshotter/overlay_check.h"
#include "plugins/snapshotter/top.h"

#define LABEL_UPPERDIR "containerd.io/snapshot/overlay.upperdir"

struct overlayfs {
	struct local l;
	char **options; /* configured, then what the kernel needs */
	size_t n_options;
	bool upperdir_label, slow_chown, remap;
};

static struct overlayfs *overlayfs_of(const struct snapshotter *s)
{
	return (struct overlayfs *)((char *)s - offsetof(struct overlayfs, l.s));
}

/* ---- Looking ---- */

static int label_upperdir(struct ctx *ctx, const struct overlayfs *o, uint64_t id,
			  struct snapshot_info *info, struct err *err)
{
	char *path;

	if (!o->upperdir_label)
		return 0;
	path = local_path(ctx->arena, &o->l, id, "fs");
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
	int r = storage_info(ctx, o->l.storage, key, &id, &info, NULL, err);

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
	int r = storage_update(ctx, o->l.storage, info, paths, n, &updated, err);

	if (r >= 0 && o->upperdir_label) {
		r = storage_info(ctx, o->l.storage, info->name, &id, NULL, NULL, err);
		if (r >= 0)
			r = label_upperdir(ctx, o, id, &updated, err);
	}
	if (r >= 0)
		*ret = updated;
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

	return storage_walk(ctx, w.o->l.storage, walk_one, &w, err);
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
		buf_printf(&b, "%s%s/snapshots/%llu/fs", i ? ":" : "", o->l.root,
			   (unsigned long long)s->parent_ids[i]);
	return buf_ok(&b) ? arena_strdup(a, b.data) : NULL;
}

static void bind_mount(struct options *opt, const struct overlayfs *o, uint64_t id, bool ro,
		       struct mount *ret)
{
	options_add(opt, ro ? "ro" : "rw");
	options_add(opt, "rbind");
	ret->type = "bind";
	ret->source = local_path(opt->a, &o->l, id, "fs");
	opt->failed |= !ret->source;
}

static void overlay_mount(struct options *opt, const struct overlayfs *o,
			  const struct storage_snapshot *s, struct mount *ret)
{
	if (s->kind == SNAPSHOT_ACTIVE) {
		char *work = local_path(opt->a, &o->l, s->id, "work"),
		     *up = local_path(opt->a, &o->l, s->id, "fs");

		options_add(opt, work ? arena_printf(opt->a, "workdir=%s", work) : NULL);
		options_add(opt, up ? arena_printf(opt->a, "upperdir=%s", up) : NULL);
	}
	options_add(opt, lowerdir_option(opt->a, o, s));
	for (size_t i = 0; i < o->n_options; i++)
		options_add(opt, arena_strdup(opt->a, o->options[i]));
	ret->type = "overlay";
	ret->source = "overlay";
}

static int layer_mounts(struct ctx *ctx, struct local *l, const struct storage_snapshot *s,
			struct mounts *ret, struct err *err)
{
	const struct overlayfs *o = overlayfs_of(&l->s);
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

/* ---- Making ---- */

static int layer_fill(struct ctx *ctx, struct local *l, const struct storage_snapshot *s,
		      const char *temp, struct err *err)
{
	return top_make(ctx, l, s, temp, true, err);
}

static int layer_make(struct ctx *ctx, struct local *l, const struct storage_snapshot *s,
		      struct err *err)
{
	return local_dir_make(ctx, l, s, 0700, layer_fill, err);
}

static int layer_finish(struct ctx *ctx, struct local *l, uint64_t id,
			const struct snapshot_info *info, const char *parent,
			struct snapshot_usage *ret, struct err *err)
{
	int r;

	if (info->kind != SNAPSHOT_ACTIVE)
		return 0;
	r = top_usage(ctx, l, id, ret, err);
	return r < 0 ? r : top_rebase(ctx, l, id, info, parent, err);
}

static const struct local_ops layer_ops = {
	.mounts_failed = "failed to get active mount",
	.usage = top_usage,
	.make = layer_make,
	.mounts = layer_mounts,
	.finish = layer_finish,
};

static void overlayfs_free(struct snapshotter *s)
{
	struct overlayfs *o = overlayfs_of(s);

	for (size_t i = 0; i < o->n_options; i++)
		free(o->options[i]);
	free(o->options);
	local_free(s);
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
	.usage = local_usage,
	.mounts = local_mounts,
	.prepare = local_prepare,
	.commit = local_commit,
	.remove = local_remove,
	.walk = overlayfs_walk,
	.cleanup = local_cleanup,
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
	int r;

	if (!o)
		return err_nomem(err);
	o->l.s = (struct snapshotter){.ops = &overlayfs_ops, .name = "overlayfs"};
	o->l.ops = &layer_ops;
	o->l.lazy_remove = !opt->sync_remove;
	o->upperdir_label = opt->upperdir_label;
	o->slow_chown = opt->slow_chown;
	r = local_init(&o->l, root, err);
	if (r >= 0)
		r = overlay_check(root, &can, err);
	if (r >= 0)
		r = options_choose(o, opt, &can, err);
	if (r < 0) {
		overlayfs_free(&o->l.s);
		return r;
	}
	o->remap = can.idmap;
	o->l.s.can_rebase = !can.in_userns;
	*ret = &o->l.s;
	return 0;
}
