/* SPDX-License-Identifier: Apache-2.0 */
/* The copier holds a descriptor of the directory it reads and of the one it writes, per level; a
 * directory deeper than LEVELS_MAX is made and put off, to be opened again by its path from the
 * top. Everything is addressed by (directory, name). What system calls offer only for paths
 * (attributes of links and devices) goes through /proc/self/fd/<directory>/<name>.
 *
 * Order for one object: make it (mode 0600 or 0700), contents, owner, mode (changing the owner
 * clears set-id bits), attributes (changing the owner clears capabilities; an access list may
 * refine the mode), times; a directory's after what is in it.
 */
#include "plugins/snapshotter/copy.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"

#define LEVELS_MAX 32 /* of recursion */
#define XATTR_LIST_MAX_ 65536
#define XATTR_VALUE_MAX 65536
#define CHUNK (1 << 20)
#define CHECK_EVERY 256

/* A file with more than one name, and the first name it got in the copy. */
struct first_name {
	dev_t dev;
	ino_t ino;
	const char *path;
};

/* A directory that was made, but not filled yet. */
struct deep_dir {
	struct deep_dir *next;
	char path[]; /* below the top */
};

struct copier {
	struct ctx *ctx;
	struct arena *arena; /* paths of links, buffers */
	int from_root, to_root;
	struct deep_dir *deep;
	struct buf path;	  /* of the object at hand, below the top */
	const char *step;	  /* what failed */
	struct first_name *links; /* open addressing, a power of two */
	size_t n_links, cap_links;
	char *names, *value; /* attributes */
	char *chunk;
	unsigned int count;
};

#define FAIL(c, s) ((c)->step = (s), -errno)

/* ---- Hard links ---- */

static struct first_name *link_slot(struct first_name *v, size_t cap, const struct stat *st)
{
	uint64_t h = ((uint64_t)st->st_ino ^ ((uint64_t)st->st_dev << 40)) * 0x9e3779b97f4a7c15ULL;
	size_t i = (size_t)(h >> 32) & (cap - 1);

	while (v[i].path && (v[i].ino != st->st_ino || v[i].dev != st->st_dev))
		i = (i + 1) & (cap - 1);
	return &v[i];
}

static int link_remember(struct copier *c, const struct stat *st)
{
	struct first_name *slot;

	if (2 * (c->n_links + 1) > c->cap_links) {
		size_t cap = c->cap_links ? 2 * c->cap_links : 64;
		struct first_name *v = calloc(cap, sizeof(*v));

		if (!v)
			return -ENOMEM;
		for (size_t i = 0; i < c->cap_links; i++) {
			struct stat key = {.st_dev = c->links[i].dev, .st_ino = c->links[i].ino};

			if (c->links[i].path)
				*link_slot(v, cap, &key) = c->links[i];
		}
		free(c->links);
		c->links = v;
		c->cap_links = cap;
	}
	slot = link_slot(c->links, c->cap_links, st);
	*slot = (struct first_name){st->st_dev, st->st_ino, arena_strdup(c->arena, c->path.data)};
	c->n_links++;
	return slot->path ? 0 : -ENOMEM;
}

/* 1 when the name now is a link to what was copied before, 0 when there is nothing to link to. */
static int link_try(struct copier *c, const struct stat *st, int to, const char *name)
{
	struct first_name *slot = c->n_links ? link_slot(c->links, c->cap_links, st) : NULL;

	if (!slot || !slot->path)
		return 0;
	if (linkat(c->to_root, slot->path, to, name, 0) == 0)
		return 1;
	/* Too deep to be named from the top, or too many links: then it is a copy. */
	return errno == ENAMETOOLONG || errno == EMLINK ? 0 : FAIL(c, "link");
}

/* ---- Attributes ---- */

struct object {
	char path[64 + NAME_MAX + 1]; /* /proc/self/fd/... */
};

static struct object object_at(int dirfd, const char *name)
{
	struct object o;

	(void)snprintf(o.path, sizeof(o.path), "/proc/self/fd/%d/%s", dirfd, name);
	return o;
}

static int xattrs_copy(struct copier *c, const char *from, const char *to)
{
	ssize_t n = llistxattr(from, c->names, XATTR_LIST_MAX_);

	if (n < 0)
		return errno == EOPNOTSUPP ? 0 : FAIL(c, "list attributes");
	for (ssize_t at = 0; at < n; at += (ssize_t)strlen(c->names + at) + 1) {
		const char *name = c->names + at;
		ssize_t len = lgetxattr(from, name, c->value, XATTR_VALUE_MAX);

		if (len < 0) {
			if (errno == ENODATA || errno == EOPNOTSUPP)
				continue;
			return FAIL(c, "read attribute");
		}
		if (lsetxattr(to, name, c->value, (size_t)len, 0) == 0 || errno == EOPNOTSUPP)
			continue;
		/* Labels are the security module's affair, and may be refused. */
		if (errno == EPERM && str_has_prefix(name, "security.") &&
		    !streq(name, "security.capability"))
			continue;
		return FAIL(c, "set attribute");
	}
	return 0;
}

/* Owner, mode, attributes and times of the object @name in @to. */
static int meta_copy(struct copier *c, int from, const char *from_name, int to, const char *to_name,
		     const struct stat *st)
{
	const struct timespec times[2] = {st->st_atim, st->st_mtim};
	struct object a = object_at(from, from_name), b = object_at(to, to_name);
	int r;

	if (fchownat(to, to_name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW) < 0)
		return FAIL(c, "chown");
	if (!S_ISLNK(st->st_mode) && fchmodat(to, to_name, st->st_mode & 07777, 0) < 0)
		return FAIL(c, "chmod");
	r = xattrs_copy(c, a.path, b.path);
	if (r < 0)
		return r;
	if (utimensat(to, to_name, times, AT_SYMLINK_NOFOLLOW) < 0)
		return FAIL(c, "set times");
	return 0;
}

/* ---- Contents ---- */

/* By hand, where the kernel can not copy between the two files. */
static int range_copy_slowly(struct copier *c, int in, int out, off_t at, off_t end)
{
	if (!c->chunk && !(c->chunk = arena_alloc(c->arena, CHUNK)))
		return -ENOMEM;
	while (at < end) {
		size_t want = (size_t)MIN(end - at, (off_t)CHUNK);
		ssize_t n = fd_pread_full(in, c->chunk, want, at);
		int r;

		if (n <= 0)
			return n < 0 ? (int)n : -EIO;
		r = fd_pwrite_full(out, c->chunk, (size_t)n, at);
		if (r < 0)
			return r;
		at += n;
		if (ctx_check(c->ctx, NULL) < 0)
			return -ECANCELED;
	}
	return 0;
}

static int range_copy(struct copier *c, int in, int out, off_t at, off_t end)
{
	while (at < end) {
		off_t i = at, o = at;
		ssize_t n =
			copy_file_range(in, &i, out, &o, (size_t)MIN(end - at, (off_t)1 << 30), 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EXDEV && errno != EINVAL && errno != ENOSYS &&
		    errno != EOPNOTSUPP && errno != EPERM)
			return -errno;
		if (n <= 0)
			return range_copy_slowly(c, in, out, at, end);
		at += n;
		if (ctx_check(c->ctx, NULL) < 0)
			return -ECANCELED;
	}
	return 0;
}

/* Copies what holds data; the rest is a hole in the copy as well. */
static int data_copy(struct copier *c, int in, int out, off_t size)
{
	off_t at = 0;

	if (size == 0 || ioctl(out, FICLONE, in) == 0)
		return 0;
	if (ftruncate(out, size) < 0)
		return -errno;
	while (at < size) {
		off_t data = lseek(in, at, SEEK_DATA), hole;
		int r;

		if (data < 0 && errno == ENXIO) /* only a hole is left */
			return 0;
		if (data < 0)
			return range_copy(c, in, out, at, size);
		hole = lseek(in, data, SEEK_HOLE);
		if (hole < 0)
			return -errno;
		r = range_copy(c, in, out, data, MIN(hole, size));
		if (r < 0)
			return r;
		at = hole;
	}
	return 0;
}

static int file_copy(struct copier *c, int from, int to, const char *name, const struct stat *st)
{
	_cleanup_close_ int in = -1, out = -1;
	int r;

	in = openat(from, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOATIME | O_CLOEXEC);
	if (in < 0 && errno == EPERM) /* not ours, and no privilege */
		in = openat(from, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (in < 0)
		return FAIL(c, "open");
	out = openat(to, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (out < 0)
		return FAIL(c, "create");
	r = data_copy(c, in, out, st->st_size);
	if (r < 0)
		c->step = "copy";
	return r;
}

static int symlink_copy(struct copier *c, int from, int to, const char *name)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(from, name, target, sizeof(target) - 1);

	if (n < 0)
		return FAIL(c, "read link");
	target[n] = 0;
	return symlinkat(target, to, name) < 0 ? FAIL(c, "symlink") : 0;
}

/* ---- Walking ---- */

static int dir_copy(struct copier *c, int from, int to, int depth);

static int subdir_defer(struct copier *c)
{
	struct deep_dir *d = c->path.len <= DEEP_PATH_MAX
				     ? arena_alloc(c->arena, sizeof(*d) + c->path.len + 1)
				     : NULL;

	if (!d)
		return c->path.len > DEEP_PATH_MAX ? -ENAMETOOLONG : -ENOMEM;
	memcpy(d->path, c->path.data, c->path.len + 1);
	d->next = c->deep;
	c->deep = d;
	return 1;
}

/* Fills @name of @to, which is there. */
static int subdir_fill(struct copier *c, int from, int to, const char *name, int depth)
{
	int in, out;

	in = openat(from, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (in < 0)
		return FAIL(c, "open");
	out = openat(to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (out < 0) {
		int r = FAIL(c, "open");

		close(in);
		return r;
	}
	return dir_copy(c, in, out, depth);
}

/* 1 = put off */
static int subdir_copy(struct copier *c, int from, int to, const char *name, int depth)
{
	if (mkdirat(to, name, 0700) < 0)
		return FAIL(c, "make directory");
	return depth >= LEVELS_MAX ? subdir_defer(c) : subdir_fill(c, from, to, name, depth + 1);
}

/* The directory that holds what @path names. */
static int parent_open(struct copier *c, int root, const char *path, int *ret_fd)
{
	const char *dir = path_dir(c->arena, path);
	int fd = dir ? path_open_deep(root, dir) : -ENOMEM;

	if (fd < 0) {
		c->step = "open the directory of";
		return fd;
	}
	*ret_fd = fd;
	return 0;
}

static int deep_copy(struct copier *c, const struct deep_dir *d)
{
	_cleanup_close_ int from = -1, to = -1;
	const char *name = path_base(d->path);
	struct stat st;
	int r;

	buf_clear(&c->path);
	buf_printf(&c->path, "%s", d->path);
	if (!buf_ok(&c->path))
		return -ENOMEM;
	r = parent_open(c, c->from_root, d->path, &from);
	if (r == 0)
		r = parent_open(c, c->to_root, d->path, &to);
	if (r < 0)
		return r;
	if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return FAIL(c, "stat");
	r = subdir_fill(c, from, to, name, 0);
	return r < 0 ? r : meta_copy(c, from, name, to, name, &st);
}

static int object_copy(struct copier *c, int from, int to, const char *name, int depth)
{
	struct stat st;
	int r;

	if (++c->count % CHECK_EVERY == 0 && ctx_check(c->ctx, NULL) < 0)
		return -ECANCELED;
	if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return FAIL(c, "stat");
	if (!S_ISDIR(st.st_mode) && st.st_nlink > 1) {
		r = link_try(c, &st, to, name);
		if (r != 0)
			return r < 0 ? r : 0;
	}
	if (S_ISDIR(st.st_mode))
		r = subdir_copy(c, from, to, name, depth);
	else if (S_ISREG(st.st_mode))
		r = file_copy(c, from, to, name, &st);
	else if (S_ISLNK(st.st_mode))
		r = symlink_copy(c, from, to, name);
	else
		r = mknodat(to, name, (st.st_mode & S_IFMT) | 0600, st.st_rdev) < 0
			    ? FAIL(c, "make node")
			    : 0;
	if (r > 0) /* its attributes come when it is filled */
		return 0;
	if (r == 0)
		r = meta_copy(c, from, name, to, name, &st);
	if (r >= 0 && !S_ISDIR(st.st_mode) && st.st_nlink > 1)
		r = link_remember(c, &st);
	return r;
}

/* Takes both descriptors. */
static int dir_copy(struct copier *c, int from, int to, int depth)
{
	_cleanup_close_ int out = to;
	_cleanup_closedir_ DIR *d = fdopendir(from);
	size_t len = c->path.len;

	if (!d) {
		close(from);
		return -ENOMEM;
	}
	for (struct dirent *e; errno = 0, (e = readdir(d));) {
		int r;

		if (streq(e->d_name, ".") || streq(e->d_name, ".."))
			continue;
		buf_printf(&c->path, "%s%s", len ? "/" : "", e->d_name);
		if (!buf_ok(&c->path))
			return -ENOMEM;
		r = object_copy(c, from, out, e->d_name, depth);
		if (r < 0)
			return r;
		c->path.len = len;
		c->path.data[len] = 0;
	}
	return errno ? FAIL(c, "read directory") : 0;
}

static int top_copy(struct copier *c, int dirfd, const char *from, const char *to)
{
	struct stat st;
	int in, out, r;

	if (fstatat(dirfd, from, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return FAIL(c, "stat");
	c->from_root = openat(dirfd, from, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (c->from_root < 0)
		return FAIL(c, "open");
	in = fcntl(c->from_root, F_DUPFD_CLOEXEC, 3);
	if (in < 0)
		return FAIL(c, "open");
	out = fcntl(c->to_root, F_DUPFD_CLOEXEC, 3);
	if (out < 0) {
		r = FAIL(c, "open");
		close(in);
		return r;
	}
	r = dir_copy(c, in, out, 0);
	while (r >= 0 && c->deep) {
		const struct deep_dir *d = c->deep;

		c->deep = d->next;
		r = deep_copy(c, d);
	}
	return r < 0 ? r : meta_copy(c, dirfd, from, dirfd, to, &st);
}

int tree_copy(struct ctx *ctx, int dirfd, const char *from, const char *to, struct err *err)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	_cleanup_close_ int to_root =
		openat(dirfd, to, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct copier c = {
		.ctx = ctx, .arena = a, .from_root = -1, .to_root = to_root, .step = "copy"};
	int r;

	if (to_root < 0)
		return err_errno(err, errno, "open `%s`", to);
	if (!a || !(c.names = arena_alloc(a, XATTR_LIST_MAX_)) ||
	    !(c.value = arena_alloc(a, XATTR_VALUE_MAX)))
		return err_nomem(err);
	r = top_copy(&c, dirfd, from, to);
	if (r == -ECANCELED)
		r = ctx_check(ctx, err);
	else if (r < 0)
		r = err_errno(err, r, "%s `%s`", c.step, c.path.len ? c.path.data : ".");
	fd_closep(&c.from_root);
	free(c.links);
	buf_done(&c.path);
	return r;
}
