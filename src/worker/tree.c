/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "base/path.h"
#include "base/str.h"

#define LINKS_MAX 16 /* dangling links followed while making one directory */
#define XATTR_LIST (64u << 10)
#define XATTR_VALUE (64u << 10)

struct tree_kept {
	const char *path; /* in kept_paths */
	struct timespec times[2];
};

void tree_init(struct tree *t, int root, const int *lowers, size_t n_lowers, bool chown)
{
	t->root = root;
	t->lowers = lowers;
	t->n_lowers = n_lowers;
	t->chown = chown;
	t->cached_fd = -1;
}

void tree_done(struct tree *t)
{
	tree_forget(t);
	pathset_done(&t->kept_paths);
	free(t->kept);
}

void tree_forget(struct tree *t)
{
	fd_closep(&t->cached_fd);
	t->cached_fd = -1;
}

int tree_clean(const char *name, char ret[PATH_MAX])
{
	size_t len = 0;

	while (*name) {
		size_t n;

		name += strspn(name, "/");
		n = strcspn(name, "/");
		if (n == 2 && name[0] == '.' && name[1] == '.') {
			while (len > 0 && ret[len - 1] != '/')
				len--;
			if (len > 0)
				len--;
		} else if (n > 0 && !(n == 1 && name[0] == '.')) {
			if (len + n + 2 > PATH_MAX)
				return -ENAMETOOLONG;
			if (len > 0)
				ret[len++] = '/';
			memcpy(ret + len, name, n);
			len += n;
		}
		name += n;
	}
	ret[len] = '\0';
	return 0;
}

static void cache(struct tree *t, const char *dir, int fd)
{
	tree_forget(t);
	t->cached_fd = fd;
	t->cached_kept = false;
	strcpy(t->cached, dir);
}

int tree_open_dir(struct tree *t, const char *dir, int *ret_fd)
{
	int fd;

	if (!*dir) {
		*ret_fd = t->root;
		return 0;
	}
	if (t->cached_fd < 0 || !streq(t->cached, dir)) {
		fd = path_open_in_root(t->root, dir, O_PATH | O_DIRECTORY, 0);
		if (fd < 0)
			return fd;
		cache(t, dir, fd);
	}
	*ret_fd = t->cached_fd;
	return 0;
}

bool tree_xattr_is_overlay(const char *name)
{
	return str_has_prefix(name, "trusted.overlay.") || str_has_prefix(name, "user.overlay.");
}

/* What the file system or our privileges do not allow is left out. */
static int copy_xattrs(int from, int to)
{
	_cleanup_free_ char *list = malloc(XATTR_LIST), *value = malloc(XATTR_VALUE);
	ssize_t n, v;

	if (!list || !value)
		return -ENOMEM;
	n = flistxattr(from, list, XATTR_LIST);
	if (n < 0)
		return errno == ENOTSUP ? 0 : -errno;
	for (const char *p = list; p < list + n; p += strlen(p) + 1) {
		if (tree_xattr_is_overlay(p))
			continue;
		v = fgetxattr(from, p, value, XATTR_VALUE);
		if (v < 0 && (errno == ENODATA || errno == ENOTSUP || errno == EPERM))
			continue;
		if (v < 0)
			return -errno;
		if (fsetxattr(to, p, value, (size_t)v, 0) < 0 && errno != ENOTSUP && errno != EPERM)
			return -errno;
	}
	return 0;
}

static int copy_attributes(const struct tree *t, int from, const struct stat *st, int to)
{
	struct timespec times[2] = {st->st_atim, st->st_mtim};
	int r;

	if (t->chown && fchown(to, st->st_uid, st->st_gid) < 0)
		return -errno;
	r = copy_xattrs(from, to);
	if (r < 0)
		return r;
	if (fchmod(to, st->st_mode & 07777) < 0 || futimens(to, times) < 0)
		return -errno;
	return 0;
}

/* 1 when nothing below @dir, a lower directory or the root, is seen at @path through it, because a
 * directory on the way there hides it; @path itself is not there. */
static int hides(const struct tree *t, int dir, const char *path)
{
	char up[PATH_MAX];

	if (!t->opaque)
		return 0;
	snprintf(up, sizeof(up), "%s", path);
	for (char *slash; (slash = strrchr(up, '/'));) {
		*slash = '\0';

		_cleanup_close_ int fd = path_open_in_root(dir, up, O_RDONLY | O_DIRECTORY, 0);
		char v;

		if (fd == -ENOENT)
			continue;
		if (fd < 0)
			return fd;
		if (fgetxattr(fd, t->opaque, &v, 1) == 1 && v == 'y')
			return 1;
	}
	return 0;
}

/* The first lower directory that has @path decides: anything but a directory there (a whiteout too)
 * means that the new one has nothing to do with it. */
static int inherit(const struct tree *t, const char *path, int to)
{
	int hidden = t->n_lowers ? hides(t, t->root, path) : 0;

	for (size_t i = 0; hidden == 0 && i < t->n_lowers; i++) {
		_cleanup_close_ int fd =
			path_open_in_root(t->lowers[i], path, O_RDONLY | O_DIRECTORY, 0);
		struct stat st;

		if (fd == -ENOENT) {
			hidden = hides(t, t->lowers[i], path);
			continue;
		}
		if (fd < 0)
			return 0;
		if (fstat(fd, &st) < 0)
			return -errno;
		return copy_attributes(t, fd, &st, to);
	}
	return MIN(hidden, 0);
}

/* ---- times ---- */

static int keep(struct tree *t, const char *dir, int fd)
{
	struct tree_kept *k;
	struct stat st;
	int r;

	if (!*dir)
		return 0;
	r = pathset_add_alone(&t->kept_paths, dir, &dir);
	if (r <= 0)
		return r;
	if (t->n_kept == t->cap_kept) {
		size_t cap = t->cap_kept ? t->cap_kept * 2 : 64;
		void *p = reallocarray(t->kept, cap, sizeof(*t->kept));

		if (!p)
			return -ENOMEM;
		t->kept = p;
		t->cap_kept = cap;
	}
	if (fstat(fd, &st) < 0)
		return -errno;
	k = &t->kept[t->n_kept++];
	*k = (struct tree_kept){dir, {st.st_atim, st.st_mtim}};
	return 0;
}

int tree_keep_times(struct tree *t, const char *dir, int fd)
{
	int r;

	if (t->cached_kept && streq(dir, t->cached))
		return 0;
	r = keep(t, dir, fd);
	if (r == 0 && t->cached_fd >= 0 && streq(dir, t->cached))
		t->cached_kept = true;
	return r;
}

int tree_restore_times(struct tree *t)
{
	/* Should links have given one directory several names, the oldest time comes last. */
	for (size_t i = t->n_kept; i-- > 0;) {
		_cleanup_close_ int fd =
			path_open_in_root(t->root, t->kept[i].path, O_PATH | O_DIRECTORY, 0);

		if (fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP)
			continue;
		if (fd < 0)
			return fd;
		if (utimensat(fd, "", t->kept[i].times, AT_EMPTY_PATH) < 0)
			return -errno;
	}
	return 0;
}

/* ---- making ---- */

static int make_path(struct tree *t, const char *path, int depth, int *ret_fd);

/* @name in @parent is a link to nowhere: makes the directory it points to. @prefix is the link's
 * own path. */
static int make_link_target(struct tree *t, int parent, const char *prefix, const char *name,
			    int depth, int *ret_fd)
{
	char link[PATH_MAX], path[2 * PATH_MAX];
	const char *slash = strrchr(prefix, '/');
	ssize_t n;

	if (depth >= LINKS_MAX)
		return -ELOOP;
	n = readlinkat(parent, name, link, sizeof(link) - 1);
	if (n < 0)
		return errno == EINVAL ? -ENOTDIR : -errno;
	link[n] = '\0';
	if (link[0] == '/' || !slash)
		n = snprintf(path, sizeof(path), "%s", link);
	else
		n = snprintf(path, sizeof(path), "%.*s/%s", (int)(slash - prefix), prefix, link);
	if (n >= PATH_MAX)
		return -ENAMETOOLONG;
	return make_path(t, path, depth + 1, ret_fd);
}

static void parent_of(const char *path, char ret[PATH_MAX])
{
	const char *slash = strrchr(path, '/');

	snprintf(ret, PATH_MAX, "%.*s", slash ? (int)(slash - path) : 0, path);
}

/* One missing directory. */
static int make_one(struct tree *t, int parent, const char *prefix, const char *name, int depth,
		    int *ret_fd)
{
	_cleanup_close_ int fd = -1;
	char dir[PATH_MAX];
	int r;

	parent_of(prefix, dir);
	r = keep(t, dir, parent);
	if (r < 0)
		return r;
	if (mkdirat(parent, name, 0755) < 0) {
		if (errno != EEXIST)
			return -errno;
		return make_link_target(t, parent, prefix, name, depth, ret_fd);
	}
	fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fchmod(fd, 0755) < 0)
		return -errno;
	r = inherit(t, prefix, fd);
	if (r < 0)
		return r;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

/* @path: may hold "..", which the kernel resolves inside the root. */
static int make_path(struct tree *t, const char *path, int depth, int *ret_fd)
{
	_cleanup_close_ int fd = -1;
	char prefix[PATH_MAX];
	const char *p = path;

	while (*(p += strspn(p, "/"))) {
		size_t n = strcspn(p, "/");
		char name[NAME_MAX + 1];
		int next, r;

		if (n > NAME_MAX)
			return -ENAMETOOLONG;
		memcpy(name, p, n);
		name[n] = '\0';
		p += n;
		memcpy(prefix, path, (size_t)(p - path));
		prefix[p - path] = '\0';
		next = path_open_in_root(t->root, prefix, O_PATH | O_DIRECTORY, 0);
		if (next == -ENOENT) {
			r = make_one(t, fd < 0 ? t->root : fd, prefix, name, depth, &next);
			if (r < 0)
				return r;
		}
		if (next < 0)
			return next;
		fd_closep(&fd);
		fd = next;
	}
	if (fd < 0) {
		fd = fcntl(t->root, F_DUPFD_CLOEXEC, 0);
		if (fd < 0)
			return -errno;
	}
	*ret_fd = TAKE_FD(fd);
	return 0;
}

int tree_make_dir(struct tree *t, const char *dir, int *ret_fd)
{
	int r = tree_open_dir(t, dir, ret_fd), fd;

	if (r != -ENOENT)
		return r;
	if (t->alone) {
		t->wanted_lowers = true;
		return -ENOLINK;
	}
	r = make_path(t, dir, 0, &fd);
	if (r < 0)
		return r;
	cache(t, dir, fd);
	*ret_fd = fd;
	return 0;
}

static int copy_data(int from, int to)
{
	char buf[32 << 10];
	ssize_t n;
	off_t done = 0;

	while ((n = copy_file_range(from, NULL, to, NULL, 1 << 30, 0)) > 0)
		done += n;
	if (n == 0)
		return 0;
	if (done > 0 || (errno != EXDEV && errno != EINVAL && errno != EOPNOTSUPP &&
			 errno != ENOSYS && errno != EPERM))
		return -errno;
	while ((n = read(from, buf, sizeof(buf))) > 0)
		for (ssize_t off = 0, w; off < n; off += w) {
			w = write(to, buf + off, (size_t)(n - off));
			if (w < 0)
				return -errno;
		}
	return n < 0 ? -errno : 0;
}

static int copy_file(const struct tree *t, int lower, const char *path, const struct stat *st,
		     int parent, const char *name)
{
	_cleanup_close_ int from = path_open_in_root(lower, path, O_RDONLY | O_NOFOLLOW, 0),
			    to = -1;
	int r;

	if (from < 0)
		return from;
	to = openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (to < 0)
		return -errno;
	r = copy_data(from, to);
	if (r < 0)
		return r;
	return copy_attributes(t, from, st, to);
}

static int copy_link(const struct tree *t, int from, const struct stat *st, int parent,
		     const char *name)
{
	struct timespec times[2] = {st->st_atim, st->st_mtim};
	char link[PATH_MAX];
	ssize_t n = readlinkat(from, "", link, sizeof(link) - 1);

	if (n < 0)
		return -errno;
	link[n] = '\0';
	if (symlinkat(link, parent, name) < 0)
		return -errno;
	if (t->chown && fchownat(parent, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	return utimensat(parent, name, times, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

int tree_copy_up(struct tree *t, const char *path)
{
	const char *name = path_base(path);
	int hidden;

	if (t->alone) {
		t->wanted_lowers = true;
		return -ENOLINK;
	}
	hidden = hides(t, t->root, path);
	for (size_t i = 0; hidden == 0 && i < t->n_lowers; i++) {
		_cleanup_close_ int fd =
			path_open_in_root(t->lowers[i], path, O_PATH | O_NOFOLLOW, 0);
		char dir[PATH_MAX];
		struct stat st;
		int parent, r;

		if (fd == -ENOENT) {
			hidden = hides(t, t->lowers[i], path);
			continue;
		}
		if (fd < 0)
			return fd == -ENOTDIR ? -ENOENT : fd;
		if (fstat(fd, &st) < 0)
			return -errno;
		if (S_ISCHR(st.st_mode) && st.st_rdev == makedev(0, 0))
			return -ENOENT;
		if (!S_ISREG(st.st_mode) && !S_ISLNK(st.st_mode))
			return -EPERM;
		parent_of(path, dir);
		r = tree_make_dir(t, dir, &parent);
		if (r == 0)
			r = tree_keep_times(t, dir, parent);
		if (r < 0)
			return r;
		if (S_ISLNK(st.st_mode))
			return copy_link(t, fd, &st, parent, name);
		return copy_file(t, t->lowers[i], path, &st, parent, name);
	}
	return hidden < 0 ? hidden : -ENOENT;
}

/* Length of the UTF-8 sequence at @s, 0 when it is none or not to be shown. */
static size_t utf8_len(const unsigned char *s)
{
	size_t n = s[0] < 0x80 ? 1 : s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
	unsigned min[] = {0, 0, 0x80, 0x800, 0x10000};
	unsigned c;

	if (s[0] < 0x80)
		return s[0] >= 0x20 && s[0] != 0x7f;
	if (s[0] < 0xc2 || s[0] > 0xf4)
		return 0;
	c = s[0] & (0xffu >> (n + 1));
	for (size_t i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (s[i] & 0x3f);
	}
	if (c < min[n] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000) || (c >= 0x80 && c < 0xa0))
		return 0;
	return n;
}

const char *tree_quote(const char *name, char *out, size_t size)
{
	const unsigned char *s = (const unsigned char *)name;
	size_t len = 0;

	while (*s) {
		size_t n = utf8_len(s), need = n ? n : 4;

		if (len + need + 4 > size) {
			strcpy(out + len, "...");
			return out;
		}
		if (n)
			memcpy(out + len, s, n);
		else
			snprintf(out + len, 5, "\\x%02x", *s);
		len += need;
		s += n ? n : 1;
	}
	out[len] = '\0';
	return out;
}
