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
#include "plugins/snapshotter/dirs.h"
#include "plugins/snapshotter/overlay_check.h"
#include "plugins/snapshotter/top.h"
#include "sys/mount.h"

#define LABEL_SIZE "containerd.io/snapshot/max-size"
#define RWLAYER "rwlayer.img"

struct erofs {
	struct snapshotter s;
	struct storage *storage;
	struct snapdirs *dirs;
	char *root;
	struct erofs_options o;
	bool remap;
};

static struct erofs *erofs_of(const struct snapshotter *s)
{
	return (struct erofs *)((char *)s - offsetof(struct erofs, s));
}

static char *path_of(struct arena *a, const struct erofs *o, uint64_t id, const char *leaf)
{
	return snapdir_path(a, o->root, id, leaf);
}

/* ---- Looking ---- */

static int erofs_stat(struct ctx *ctx, struct snapshotter *s, const char *key,
		      struct snapshot_info *ret, struct err *err)
{
	return storage_info(ctx, erofs_of(s)->storage, key, NULL, ret, NULL, err);
}

static int erofs_update(struct ctx *ctx, struct snapshotter *s, const struct snapshot_info *info,
			char *const *paths, size_t n, struct snapshot_info *ret, struct err *err)
{
	return storage_update(ctx, erofs_of(s)->storage, info, paths, n, ret, err);
}

/* Of what is written; the ext4 counts with the blocks it has, when it is there. */
static int active_usage(struct ctx *ctx, const struct erofs *o, uint64_t id,
			struct snapshot_usage *ret, struct err *err)
{
	char *fs = path_of(ctx->arena, o, id, "fs"), *rw = path_of(ctx->arena, o, id, RWLAYER);
	struct stat st;
	int r;

	if (!fs || !rw)
		return err_nomem(err);
	r = dir_usage(AT_FDCWD, fs, &ret->size, &ret->inodes);
	if (r < 0)
		return err_errno(err, r, "disk usage of `%s`", fs);
	if (lstat(rw, &st) == 0) {
		ret->size += st.st_blocks * 512;
		ret->inodes++;
	}
	return 0;
}

static int erofs_usage(struct ctx *ctx, struct snapshotter *s, const char *key,
		       struct snapshot_usage *ret, struct err *err)
{
	struct erofs *o = erofs_of(s);
	struct snapshot_info info;
	struct snapshot_usage u;
	uint64_t id;
	int r = storage_info(ctx, o->storage, key, &id, &info, &u, err);

	if (r >= 0 && info.kind == SNAPSHOT_ACTIVE)
		r = active_usage(ctx, o, id, &u, err);
	if (r >= 0)
		*ret = u;
	return r;
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

static int erofs_walk(struct ctx *ctx, struct snapshotter *s,
		      int (*fn)(void *arg, const struct snapshot_info *info), void *arg,
		      struct err *err)
{
	struct walk w = {fn, arg};

	return storage_walk(ctx, erofs_of(s)->storage, walk_one, &w, err);
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
	char *image = path_of(a, l->o, id, EROFS_LAYER),
	     *hashes = path_of(a, l->o, id, EROFS_LAYER ".dmverity");
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
	struct mount *m = list_add(l, "mkfs/ext4", path_of(a, l->o, l->s->id, RWLAYER), 4);

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
		m = list_add(l, "bind", path_of(l->ctx->arena, l->o, l->s->id, "fs"), 2);
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
		char *work = path_of(a, l->o, l->s->id, "work"),
		     *up = path_of(a, l->o, l->s->id, "fs");

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

static int mounts_of(struct ctx *ctx, const struct erofs *o, const struct storage_snapshot *s,
		     struct mounts *ret, struct err *err)
{
	struct list l = {.ctx = ctx, .o = o, .s = s};
	const char *own = path_of(ctx->arena, o, s->id, EROFS_LAYER);
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

static int erofs_mounts(struct ctx *ctx, struct snapshotter *s, const char *key, struct mounts *ret,
			struct err *err)
{
	struct erofs *o = erofs_of(s);
	struct storage_snapshot snap;
	int r = storage_get(ctx, o->storage, key, &snap, err);

	if (r < 0)
		return err ? err_prefix(err, "failed to get active mount") : r;
	return mounts_of(ctx, o, &snap, ret, err);
}

/* ---- Making ---- */

static int layer_fill(struct ctx *ctx, const struct erofs *o, const struct storage_snapshot *s,
		      const char *temp, struct err *err)
{
	_cleanup_close_ int fd =
		openat(snapdirs_fd(o->dirs), temp, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r;

	if (fd < 0)
		return err_errno(err, errno, "open `%s`", temp);
	if (mkdirat(fd, "fs", 0755) < 0 || fchmodat(fd, "fs", 0755, 0) < 0)
		return err_errno(err, errno, "make directory `%s/fs`", temp);
	if (s->kind == SNAPSHOT_ACTIVE) {
		if (!o->o.size &&
		    (mkdirat(fd, "work", 0711) < 0 || fchmodat(fd, "work", 0711, 0) < 0))
			return err_errno(err, errno, "make directory `%s/work`", temp);
		r = file_write(fd, EROFS_MARK, "", 0, 0644);
		if (r < 0)
			return err_errno(err, r, "make `%s/%s`", temp, EROFS_MARK);
	}
	/* With a size what is written is elsewhere. */
	return o->o.size ? 0 : top_fit(ctx, o->root, s, fd, "fs", err);
}

static int layer_make(struct ctx *ctx, const struct erofs *o, const struct storage_snapshot *s,
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

static int erofs_prepare(struct ctx *ctx, struct snapshotter *s, enum snapshot_kind kind,
			 const char *key, const char *parent, const struct labels *labels,
			 struct mounts *ret, struct err *err)
{
	struct erofs *o = erofs_of(s);
	struct storage_snapshot snap;
	uint64_t id;
	int r = storage_create(ctx, o->storage, kind, key, parent, labels, &snap, err);

	if (r < 0)
		return err ? err_prefix(err, "failed to create snapshot") : r;
	r = layer_make(ctx, o, &snap, err);
	if (r >= 0)
		r = mounts_of(ctx, o, &snap, ret, err);
	if (r < 0 && storage_remove(ctx, o->storage, key, &id, &kind, NULL) >= 0)
		(void)!snapdirs_remove(o->dirs, id, NULL);
	return r;
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
			    .dir = path_of(ctx->arena, o, id, ""),
			    .fs = path_of(ctx->arena, o, id, "fs"),
			    .rwlayer = path_of(ctx->arena, o, id, RWLAYER)};
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
	const char *fs = path_of(ctx->arena, o, id, "fs");
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

static int layer_finish(struct ctx *ctx, const struct erofs *o, uint64_t id,
			const struct snapshot_info *info, const char *parent,
			struct snapshot_usage *ret, bool *ret_made, struct err *err)
{
	const char *image = path_of(ctx->arena, o, id, EROFS_LAYER);
	int r = 0;

	if (!image)
		return err_nomem(err);
	*ret_made = access(image, F_OK) < 0;
	if (!*ret_made)
		r = top_take(ctx, o, id, err);
	else if (!o->o.size && !*info->parent && !str_empty(parent))
		r = top_rebase(ctx, o->root, o->storage, id, &info->labels, parent, err);
	if (r == 0 && *ret_made)
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
static void leftovers_remove(struct arena *a, const struct erofs *o, uint64_t id)
{
	char *name = arena_printf(a, "%llu", (unsigned long long)id);
	_cleanup_close_ int fd = name ? openat(snapdirs_fd(o->dirs), name,
					       O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
				      : -1;

	if (fd < 0)
		return;
	dir_empty(fd, "fs");
	(void)unlinkat(fd, RWLAYER, 0);
}

static int erofs_commit(struct ctx *ctx, struct snapshotter *s, const char *name, const char *key,
			const char *parent, const struct labels *labels, struct err *err)
{
	struct erofs *o = erofs_of(s);
	struct snapshot_info info;
	struct snapshot_usage u = {0};
	bool made = false;
	uint64_t id;
	int r = storage_info(ctx, o->storage, key, &id, &info, NULL, err);

	if (r >= 0 && info.kind == SNAPSHOT_ACTIVE)
		r = layer_finish(ctx, o, id, &info, parent, &u, &made, err);
	if (r < 0)
		return r;
	r = storage_commit(ctx, o->storage, key, name, parent, labels, u, err);
	if (r == 0)
		leftovers_remove(ctx->arena, o, id);
	return r < 0 && err ? err_prefix(err, "failed to commit snapshot %s", key) : r;
}

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

static int erofs_remove(struct ctx *ctx, struct snapshotter *s, const char *key, struct err *err)
{
	struct erofs *o = erofs_of(s);
	enum snapshot_kind kind;
	uint64_t id;
	int r = storage_remove(ctx, o->storage, key, &id, &kind, err);

	if (r < 0)
		return err ? err_prefix(err, "failed to remove snapshot %s", key) : r;
	return snapdirs_remove(o->dirs, id, err);
}

static int erofs_cleanup(struct ctx *ctx, struct snapshotter *s, struct err *err)
{
	struct erofs *o = erofs_of(s);

	return snapdirs_cleanup(ctx, o->dirs, o->storage, err);
}

static void erofs_free(struct snapshotter *s)
{
	struct erofs *o = erofs_of(s);

	storage_free(o->storage);
	snapdirs_free(o->dirs);
	free(o->root);
	free(o);
}

bool erofs_remaps_ids(const struct snapshotter *s)
{
	return erofs_of(s)->remap;
}

static const struct snapshotter_ops erofs_ops = {
	.stat = erofs_stat,
	.update = erofs_update,
	.usage = erofs_usage,
	.mounts = erofs_mounts,
	.prepare = erofs_prepare,
	.commit = erofs_commit,
	.remove = erofs_remove,
	.walk = erofs_walk,
	.cleanup = erofs_cleanup,
	.free = erofs_free,
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
	_cleanup_free_ char *db = NULL;
	int r;

	if (!o)
		return err_nomem(err);
	o->s = (struct snapshotter){.ops = &erofs_ops, .name = "erofs", .slow_commit = true};
	o->o = *opt;
	o->root = strdup(root);
	if (!o->root || asprintf(&db, "%s/metadata.db", root) < 0)
		r = err_nomem(err);
	else
		r = kernel_check(err);
	if (r >= 0)
		r = snapdirs_new(root, &o->dirs, err);
	if (r >= 0)
		r = overlay_check(root, &can, err);
	if (r == -ERR_FAILED_PRECONDITION && opt->size)
		r = 0; /* what is written is on the ext4 */
	if (r >= 0 && opt->fsverity)
		r = verity_check(root, err);
	if (r >= 0)
		r = storage_new(db, &o->storage, err);
	if (r < 0) {
		erofs_free(&o->s);
		return r;
	}
	snapdirs_set_release(o->dirs, release);
	o->remap = can.idmap;
	o->s.can_rebase = !can.in_userns;
	*ret = &o->s;
	return 0;
}
