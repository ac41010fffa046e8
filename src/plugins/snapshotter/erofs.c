/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots as layers of an overlay, each an image of the file system EROFS.
 *
 *     <root>/metadata.db
 *     <root>/snapshots/<id>/.erofslayer   of active ones: a differ may put layer.erofs here
 *                          /layer.erofs   what the layer adds; of committed ones
 *                          /layer.erofs.dmverity   root hash of the image's hash tree, if any
 *                          /fs            upper directory; of committed ones empty, with the
 * owner and mode of the layer's top
 *                          /work          the kernel's; of active ones, without a size
 *                          /rwlayer.img   with a size: the ext4 with upper/ and work/
 *
 * The images of the committed snapshots and the overlay on top of them are a list of mounts, the
 * last of which names the others by their place (see plugins/mounts/transform.h). Committing makes
 * the image of what is in fs (or in the ext4), unless a differ has made it from the layer. That
 * takes its time, so no transaction of meta.db is held over a commit. An immutable image becomes an
 * ordinary one before its directory is removed.
 */
#include "plugins/snapshotter/erofs.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/fsverity.h>
#include <linux/stat.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/path.h"
#include "base/str.h"
#include "core/erofs.h"
#include "plugins/differ/temp_mount.h"
#include "plugins/snapshotter/local.h"
#include "plugins/snapshotter/overlay_check.h"
#include "plugins/snapshotter/top.h"
#include "sys/mount.h"

#define LABEL_SIZE "containerd.io/snapshot/max-size"
#define RWLAYER "rwlayer.img"

struct erofs {
	struct local l;
	struct erofs_options o;
	bool remap;
};

static struct erofs *erofs_of(const struct snapshotter *s)
{
	return (struct erofs *)((char *)s - offsetof(struct erofs, l.s));
}

/* Of what is written; the ext4 counts with the blocks it has, when it is there. */
static int layer_usage(struct ctx *ctx, struct local *l, uint64_t id, struct snapshot_usage *ret,
		       struct err *err)
{
	char *rw = local_path(ctx->arena, l, id, RWLAYER);
	struct stat st;
	int r;

	if (!rw)
		return err_nomem(err);
	r = top_usage(ctx, l, id, ret, err);
	if (r >= 0 && lstat(rw, &st) == 0) {
		ret->size += st.st_blocks * 512;
		ret->inodes++;
	}
	return r;
}

/* ---- Mounts ---- */

/* A list of mounts while it is put together. */
struct list {
	struct ctx *ctx;
	const struct erofs *o;
	const struct storage_snapshot *s;
	struct mounts m;
	bool failed; /* no memory */
};

static char *list_path(const struct list *l, uint64_t id, const char *leaf)
{
	return local_path(l->ctx->arena, &l->o->l, id, leaf);
}

static struct mount *list_add(struct list *l, const char *type, const char *source,
			      size_t max_options)
{
	struct mount *m = &l->m.v[l->m.n++];

	*m = (struct mount){.type = type,
			    .source = source,
			    .target = "",
			    .options = arena_new_array(l->ctx->arena, const char *, max_options)};
	l->failed |= !source || !m->options;
	return m;
}

static void option_add(struct list *l, struct mount *m, const char *option)
{
	if (!option || !m->options)
		l->failed = true;
	else
		m->options[m->n_options++] = option;
}

static int seal_check(const char *path, struct err *err)
{
	struct statx st;

	if (statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_TYPE, &st) < 0)
		return err_errno(err, errno, "failed to check fsverity status: `%s`", path);
	return st.stx_attributes & STATX_ATTR_VERITY
		       ? 0
		       : err_set(err, ERR_FAILED_PRECONDITION, "fsverity is not enabled on %s",
				 path);
}

/* The image of snapshot @id. */
static int layer_add(struct list *l, uint64_t id, struct err *err)
{
	struct arena *a = l->ctx->arena;
	char *image = list_path(l, id, EROFS_LAYER),
	     *hashes = list_path(l, id, EROFS_LAYER ".dmverity");
	struct mount *m = list_add(l, "erofs", image, 3);
	int r;

	if (l->failed || !hashes)
		return err_nomem(err);
	if (access(image, F_OK) < 0)
		return err_errno(err, errno, "failed to find valid erofs layer blob: `%s`", image);
	r = l->o->o.fsverity ? seal_check(image, err) : 0;
	if (r < 0)
		return r;
	option_add(l, m, "ro");
	option_add(l, m, "loop");
	if (l->o->o.verity == EROFS_VERITY_OFF)
		return 0;
	if (access(hashes, F_OK) == 0)
		option_add(l, m, arena_printf(a, "X-containerd.dmverity=%s", hashes));
	else if (errno != ENOENT)
		return err_errno(err, errno, "failed to access dm-verity metadata `%s`", hashes);
	return 0;
}

static int64_t size_of(const struct list *l)
{
	const char *text = labels_get(&l->s->labels, LABEL_SIZE);
	int64_t n;

	return text && str_to_i64(text, 10, &n) == 0 && n > 0 ? n : l->o->o.size;
}

/* The ext4. */
static void writable_add(struct list *l, const char *mode)
{
	struct arena *a = l->ctx->arena;
	struct mount *m = list_add(l, "mkfs/ext4", list_path(l, l->s->id, RWLAYER), 4);

	option_add(l, m, "X-containerd.mkfs.fs=ext4");
	option_add(l, m, arena_printf(a, "X-containerd.mkfs.size=%lld", (long long)size_of(l)));
	option_add(l, m, mode);
	option_add(l, m, "loop");
}

/* Without a layer below: just where it is written. */
static void bind_add(struct list *l)
{
	const char *mode = l->s->kind == SNAPSHOT_VIEW ? "ro" : "rw";
	struct mount *m;

	if (l->o->o.size) {
		writable_add(l, mode);
		m = list_add(l, "format/mkdir/bind", "{{ mount 0 }}/upper", 3);
		option_add(l, m, "X-containerd.mkdir.path={{ mount 0 }}/upper:0755");
	} else {
		m = list_add(l, "bind", list_path(l, l->s->id, "fs"), 2);
	}
	option_add(l, m, mode);
	option_add(l, m, "rbind");
}

static void overlay_options(struct list *l, struct mount *m, size_t first, size_t last)
{
	const char *uids = labels_get(&l->s->labels, LABEL_UIDMAP);
	const char *gids = labels_get(&l->s->labels, LABEL_GIDMAP);
	struct arena *a = l->ctx->arena;

	if (l->s->kind == SNAPSHOT_ACTIVE && l->o->o.size) {
		option_add(l, m, "X-containerd.mkdir.path={{ mount 0 }}/upper:0755");
		option_add(l, m, "X-containerd.mkdir.path={{ mount 0 }}/work:0755");
		option_add(l, m, "workdir={{ mount 0 }}/work");
		option_add(l, m, "upperdir={{ mount 0 }}/upper");
	} else if (l->s->kind == SNAPSHOT_ACTIVE) {
		char *work = list_path(l, l->s->id, "work"), *up = list_path(l, l->s->id, "fs");

		option_add(l, m, work ? arena_printf(a, "workdir=%s", work) : NULL);
		option_add(l, m, up ? arena_printf(a, "upperdir=%s", up) : NULL);
	}
	if (l->o->remap && uids)
		option_add(l, m, arena_printf(a, "uidmap=%s", uids));
	if (l->o->remap && gids)
		option_add(l, m, arena_printf(a, "gidmap=%s", gids));
	option_add(l, m,
		   first == last ? arena_printf(a, "lowerdir={{ mount %zu }}", first)
				 : arena_printf(a, "lowerdir={{ overlay %zu %zu }}", first, last));
}

static int overlay_add(struct list *l, struct err *err)
{
	const char *const *extra = l->o->o.mount_options;
	size_t first, n_extra = 0;
	struct mount *m;

	if (l->s->kind == SNAPSHOT_ACTIVE && l->o->o.size)
		writable_add(l, "rw");
	first = l->m.n;
	for (size_t i = 0; i < l->s->n_parents; i++) {
		int r = layer_add(l, l->s->parent_ids[i], err);

		if (r < 0)
			return r;
	}
	while (extra && extra[n_extra])
		n_extra++;
	m = list_add(l, "format/mkdir/overlay", "overlay", n_extra + 8);
	overlay_options(l, m, first, l->m.n - 2);
	for (size_t i = 0; i < n_extra; i++)
		option_add(l, m, extra[i]);
	return 0;
}

static int layer_mounts(struct ctx *ctx, struct local *local, const struct storage_snapshot *s,
			struct mounts *ret, struct err *err)
{
	struct list l = {.ctx = ctx, .o = erofs_of(&local->s), .s = s};
	const char *own = local_path(ctx->arena, local, s->id, EROFS_LAYER);
	int r = 0;

	l.m.v = arena_new_array(ctx->arena, struct mount, s->n_parents + 3);
	if (!l.m.v || !own)
		return err_nomem(err);
	if (s->kind == SNAPSHOT_ACTIVE && access(own, F_OK) == 0)
		return err_set(err, ERR_FAILED_PRECONDITION,
			       "`%s` has a layer already and is to be committed", own);
	if (s->n_parents == 0)
		bind_add(&l);
	else if (s->n_parents == 1 && s->kind == SNAPSHOT_VIEW)
		r = layer_add(&l, s->parent_ids[0], err);
	else
		r = overlay_add(&l, err);
	if (r == 0 && l.failed)
		r = err_nomem(err);
	if (r == 0)
		*ret = l.m;
	return r;
}

/* ---- Making ---- */

static int layer_fill(struct ctx *ctx, struct local *l, const struct storage_snapshot *s,
		      const char *temp, struct err *err)
{
	/* With a size what is written is elsewhere. */
	int r = top_make(ctx, l, s, temp, !erofs_of(&l->s)->o.size, err);
	char *mark;

	if (r < 0 || s->kind != SNAPSHOT_ACTIVE)
		return r;
	mark = arena_printf(ctx->arena, "%s/" EROFS_MARK, temp);
	if (!mark)
		return err_nomem(err);
	r = file_write(snapdirs_fd(l->dirs), mark, "", 0, 0644);
	return r < 0 ? err_errno(err, r, "make `%s`", mark) : 0;
}

static int layer_make(struct ctx *ctx, struct local *l, const struct storage_snapshot *s,
		      struct err *err)
{
	return local_dir_make(ctx, l, s, 0700, layer_fill, err);
}

/* ---- Committing ---- */

struct convert {
	struct ctx *ctx;
	const struct erofs *o;
	const char *dir, *fs, *rwlayer;
};

/* In a mount namespace of its own. */
static int convert_writable(void *arg, struct err *err)
{
	static const char *const options[] = {"ro", "loop", "noload"};
	struct convert *c = arg;
	const struct mount_spec spec = {.type = "ext4",
					.source = c->rwlayer,
					.options = (char *const *)options,
					.n_options = ARRAY_LEN(options)};
	struct erofs_request q = {.dir = c->dir,
				  .tree = arena_printf(c->ctx->arena, "%s/upper", c->fs)};
	int r = q.tree ? mount_spec_mount(&spec, c->fs, err) : err_nomem(err);

	return r < 0 ? r : erofs_make(c->ctx, &q, err);
}

/* The image of what was written. */
static int convert(struct ctx *ctx, const struct erofs *o, uint64_t id, struct err *err)
{
	struct convert c = {.ctx = ctx,
			    .o = o,
			    .dir = local_path(ctx->arena, &o->l, id, ""),
			    .fs = local_path(ctx->arena, &o->l, id, "fs"),
			    .rwlayer = local_path(ctx->arena, &o->l, id, RWLAYER)};
	struct erofs_request q = {.dir = c.dir, .tree = c.fs};
	struct stat st;

	if (!c.dir || !c.fs || !c.rwlayer)
		return err_nomem(err);
	if (lstat(c.rwlayer, &st) == 0)
		return mount_ns_run(convert_writable, &c, err);
	return errno == ENOENT ? erofs_make(ctx, &q, err)
			       : err_errno(err, errno, "writable layer `%s`", c.rwlayer);
}

/* The top of an image that a differ has made becomes that of fs, which children are made after;
 * what is no EROFS is noticed here. */
static int top_take(struct ctx *ctx, const struct erofs *o, uint64_t id, struct err *err)
{
	struct mount v[1];
	struct list l = {.ctx = ctx, .o = o, .m = {.v = v}};
	struct temp_mount t = TEMP_MOUNT_INIT;
	const char *fs = local_path(ctx->arena, &o->l, id, "fs");
	struct erofs plain = *o;
	struct stat st;
	int r;

	plain.o.fsverity = false; /* not yet */
	l.o = &plain;
	r = fs ? layer_add(&l, id, err) : err_nomem(err);
	if (r < 0 || v[0].n_options > 2) /* what is only to be read with checks is not read now */
		return r;
	r = temp_mount(ctx, &l.m, &t, err);
	if (r == 0 && (fstat(t.fd, &st) < 0 || lchown(fs, st.st_uid, st.st_gid) < 0 ||
		       chmod(fs, st.st_mode & 07777) < 0))
		r = err_errno(err, errno, "take over the top of the layer to `%s`", fs);
	temp_mount_done(&t);
	return r;
}

static int flag_set(int fd, bool immutable)
{
	int flags, want;

	if (ioctl(fd, FS_IOC_GETFLAGS, &flags) < 0)
		return -errno;
	want = immutable ? flags | FS_IMMUTABLE_FL : flags & ~FS_IMMUTABLE_FL;
	return want == flags || ioctl(fd, FS_IOC_SETFLAGS, &want) == 0 ? 0 : -errno;
}

static int verity_enable(int fd)
{
	struct fsverity_enable_arg arg = {
		.version = 1, .hash_algorithm = FS_VERITY_HASH_ALG_SHA256, .block_size = 4096};

	return ioctl(fd, FS_IOC_ENABLE_VERITY, &arg) == 0 || errno == EEXIST ? 0 : -errno;
}

static int seal(const struct erofs *o, const char *image, struct snapshot_usage *ret,
		struct err *err)
{
	_cleanup_close_ int fd = open(image, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;
	int r = 0;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(err, errno, "open `%s`", image);
	*ret = (struct snapshot_usage){.size = st.st_blocks * 512, .inodes = 1};
	if (o->o.fsverity)
		r = verity_enable(fd);
	if (r < 0)
		return err_errno(err, r, "failed to enable fsverity: `%s`", image);
	r = o->o.immutable ? flag_set(fd, true) : 0;
	if (r < 0) /* as containerd: this is only against accidents */
		log_warn("failed to set IMMUTABLE_FL for %s: %s", image, strerror(-r));
	return 0;
}

static int layer_finish(struct ctx *ctx, struct local *l, uint64_t id,
			const struct snapshot_info *info, const char *parent,
			struct snapshot_usage *ret, struct err *err)
{
	const struct erofs *o = erofs_of(&l->s);
	const char *image;
	bool made;
	int r = 0;

	if (info->kind != SNAPSHOT_ACTIVE)
		return 0;
	image = local_path(ctx->arena, l, id, EROFS_LAYER);
	if (!image)
		return err_nomem(err);
	made = access(image, F_OK) == 0;
	if (made)
		r = top_take(ctx, o, id, err);
	else if (!o->o.size)
		r = top_rebase(ctx, l, id, info, parent, err);
	if (r == 0 && !made)
		r = convert(ctx, o, id, err);
	return r < 0 ? r : seal(o, image, ret, err);
}

static void dir_empty(int dirfd, const char *path)
{
	int fd = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	_cleanup_closedir_ DIR *d = fd < 0 ? NULL : fdopendir(fd);

	for (struct dirent *e; d && (e = readdir(d));)
		if (!streq(e->d_name, ".") && !streq(e->d_name, ".."))
			(void)rm_rf(fd, e->d_name);
}

/* What the image was made of. */
static void leftovers_remove(struct ctx *ctx, struct local *l, uint64_t id)
{
	char *name = arena_printf(ctx->arena, "%llu", (unsigned long long)id);
	_cleanup_close_ int fd = name ? openat(snapdirs_fd(l->dirs), name,
					       O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
				      : -1;

	if (fd < 0)
		return;
	dir_empty(fd, "fs");
	(void)unlinkat(fd, RWLAYER, 0);
}

static const struct local_ops layer_ops = {
	.mounts_failed = "failed to get active mount",
	.usage = layer_usage,
	.make = layer_make,
	.mounts = layer_mounts,
	.finish = layer_finish,
	.committed = leftovers_remove,
};

/* ---- Removing ---- */

/* Also what another daemon may have left mounted. */
static void release(int dirfd, const char *name)
{
	_cleanup_close_ int dir =
		openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	_cleanup_close_ int fd =
		dir < 0 ? -1 : openat(dir, EROFS_LAYER, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d/fs", dir);
	if (dir >= 0)
		(void)!mount_unmount_all(path, MNT_DETACH | UMOUNT_NOFOLLOW, NULL);
	if (fd >= 0)
		(void)flag_set(fd, false);
}

bool erofs_remaps_ids(const struct snapshotter *s)
{
	return erofs_of(s)->remap;
}

static const struct snapshotter_ops erofs_ops = {
	.stat = local_stat,
	.update = local_update,
	.usage = local_usage,
	.mounts = local_mounts,
	.prepare = local_prepare,
	.commit = local_commit,
	.remove = local_remove,
	.walk = local_walk,
	.cleanup = local_cleanup,
	.free = local_free,
};

/* ---- Starting ---- */

static int kernel_check(struct err *err)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	size_t len;
	char *text;

	if (overlay_in_userns())
		return err_set(err, ERR_UNIMPLEMENTED, "EROFS is not mounted in user namespaces");
	if (!a)
		return err_nomem(err);
	if (file_read(a, AT_FDCWD, "/proc/filesystems", 64u << 10, &text, &len) < 0 ||
	    !strstr(text, "\terofs\n"))
		return err_set(err, ERR_UNIMPLEMENTED,
			       "EROFS unsupported, please `modprobe erofs`");
	return 0;
}

static int verity_check(const char *root, struct err *err)
{
	_cleanup_free_ char *path = NULL;
	_cleanup_close_ int fd = -1, ro = -1;
	int r;

	if (asprintf(&path, "%s/verity-XXXXXX", root) < 0)
		return err_nomem(err);
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		return err_errno(err, errno, "make a file in `%s`", root);
	ro = open(path, O_RDONLY | O_CLOEXEC);
	(void)unlink(path);
	fd_closep(&fd);
	fd = -1;
	r = ro < 0 ? -errno : verity_enable(ro);
	return r < 0 ? err_set(err, ERR_UNIMPLEMENTED,
			       "fsverity is not supported on the filesystem of \"%s\" (%s)", root,
			       strerror(-r))
		     : 0;
}

int erofs_new(const char *root, const struct erofs_options *opt, struct snapshotter **ret,
	      struct err *err)
{
	struct erofs *o = calloc(1, sizeof(*o));
	struct overlay_support can = {0};
	int r;

	if (!o)
		return err_nomem(err);
	o->l.s = (struct snapshotter){.ops = &erofs_ops, .name = "erofs", .slow_commit = true};
	o->l.ops = &layer_ops;
	o->o = *opt;
	r = kernel_check(err);
	if (r >= 0)
		r = local_init(&o->l, root, err);
	if (r >= 0)
		r = overlay_check(root, &can, err);
	if (r == -ERR_FAILED_PRECONDITION && opt->size)
		r = 0; /* what is written is on the ext4 */
	if (r >= 0 && opt->fsverity)
		r = verity_check(root, err);
	if (r < 0) {
		local_free(&o->l.s);
		return r;
	}
	snapdirs_set_release(o->l.dirs, release);
	o->remap = can.idmap;
	o->l.s.can_rebase = !can.in_userns;
	*ret = &o->l.s;
	return 0;
}
