/* SPDX-License-Identifier: Apache-2.0 */
/* Paths: see path.h. */
#include "base/path.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/str.h"

char *path_join(struct arena *a, const char *x, const char *y)
{
	size_t n = strlen(x);
	while (n > 0 && x[n - 1] == '/')
		n--;
	while (*y == '/')
		y++;
	if (n == 0 && *x != '/')
		return arena_strdup(a, y);
	return *y ? arena_printf(a, "%.*s/%s", (int)n, x, y)
		  : arena_strndup(a, n ? x : "/", n ? n : 1);
}

const char *path_absolute(struct arena *a, const char *p)
{
	char cwd[PATH_MAX];
	if (*p == '/')
		return p;
	return getcwd(cwd, sizeof(cwd)) ? path_join(a, cwd, p) : NULL;
}

const char *path_base(const char *p)
{
	const char *slash = strrchr(p, '/');
	return slash ? slash + 1 : p;
}

char *path_dir(struct arena *a, const char *p)
{
	const char *slash = strrchr(p, '/');
	if (!slash)
		return arena_strdup(a, ".");
	while (slash > p && slash[-1] == '/')
		slash--;
	return slash == p ? arena_strdup(a, "/") : arena_strndup(a, p, (size_t)(slash - p));
}

int mkdir_p(const char *path, mode_t mode)
{
	char copy[PATH_MAX];
	size_t n = strlen(path);
	if (n == 0)
		return -EINVAL;
	if (n >= sizeof(copy))
		return -ENAMETOOLONG;
	memcpy(copy, path, n + 1);
	if (mkdir(copy, mode) == 0)
		return chmod(copy, mode) < 0 ? -errno : 0;
	if (errno == ENOENT) {
		for (char *p = copy + 1; (p = strchr(p, '/')); p++) {
			*p = 0;
			if (mkdir(copy, mode | 0111) < 0 && errno != EEXIST)
				return -errno;
			*p = '/';
		}
		if (mkdir(copy, mode) == 0)
			return chmod(copy, mode) < 0 ? -errno : 0;
	}
	if (errno != EEXIST)
		return -errno;
	struct stat st;
	if (stat(copy, &st) < 0)
		return -errno;
	return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

#define LEVELS_MAX 32 /* of recursion, and of descriptors; a deeper tree goes on from its top */

struct removal {
	uint64_t mount;
	int top;	/* directory being removed, -1 = not open yet */
	uint64_t moved; /* directories that were moved there, because they are too deep */
};

static int rm_at(struct removal *rm, int dirfd, const char *name, int depth);

/* The tree may be deeper than there are descriptors, or bytes in a path: what is far down is moved
 * to its top. */
static int rm_move_up(struct removal *rm, int dirfd, const char *name)
{
	char to[40];
	for (;;) {
		snprintf(to, sizeof(to), ".deep-%llx", (unsigned long long)rm->moved++);
		if (renameat2(dirfd, name, rm->top, to, RENAME_NOREPLACE) == 0 || errno == ENOENT)
			return 0;
		if (errno != EEXIST)
			return -errno;
	}
}

static int rm_children(struct removal *rm, int fd, int depth)
{
	DIR *d = fdopendir(fd);
	if (!d) {
		int r = -errno;
		close(fd);
		return r;
	}
	_cleanup_closedir_ DIR *guard = d;
	uint64_t moved = rm->moved;
	int first = 0;
	if (depth == 1)
		rm->top = dirfd(guard);
	for (;;) {
		errno = 0;
		struct dirent *e = readdir(guard);
		if (!e && errno == 0 && depth == 1 && moved != rm->moved) {
			moved = rm->moved;
			rewinddir(guard);
			continue;
		}
		if (!e)
			return errno && first == 0 ? -errno : first;
		if (streq(e->d_name, ".") || streq(e->d_name, ".."))
			continue;
		int r = rm_at(rm, dirfd(guard), e->d_name, depth);
		if (r < 0 && first == 0)
			first = r;
	}
}

/* What tells a mount point, a bind of the same file system too. Where the kernel does not say, the
 * device has to do. */
static int mount_id(int fd, uint64_t *ret)
{
	struct statx st;
	if (statx(fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &st) < 0)
		return -errno;
	*ret = st.stx_mask & STATX_MNT_ID ? st.stx_mnt_id
					  : (uint64_t)st.stx_dev_major << 32 | st.stx_dev_minor;
	return 0;
}

static int rm_at(struct removal *rm, int dirfd, const char *name, int depth)
{
	uint64_t here;
	if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM && errno != EBUSY)
		return -errno;
	int saved = errno;
	int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : errno == ENOTDIR ? -saved : -errno;
	if (mount_id(fd, &here) < 0 || here != rm->mount) {
		close(fd);
		return -EBUSY;
	}
	if (depth > LEVELS_MAX) {
		close(fd);
		return rm_move_up(rm, dirfd, name);
	}
	int r = rm_children(rm, fd, depth + 1);
	if (unlinkat(dirfd, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		return r < 0 ? r : -errno;
	return 0;
}

int rm_rf(int dirfd, const char *path)
{
	struct removal rm = {.top = -1};
	_cleanup_arena_ struct arena *a = arena_new(0);
	char *parent = a ? path_dir(a, path) : NULL;
	if (!parent)
		return -ENOMEM;
	/* The tree must be on the mount that its parent is on: a mount point is not removed, nor
	 * emptied. */
	_cleanup_close_ int fd = openat(dirfd, parent, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	int r = mount_id(fd, &rm.mount);
	return r < 0 ? r : rm_at(&rm, dirfd, path, 0);
}

/* ---- lookups below a root ---- */

#define LINKS_MAX 40

/* Splits the first component off @*p; returns its length. */
static size_t component(const char **p)
{
	while (**p == '/')
		(*p)++;
	return strcspn(*p, "/");
}

struct walk {
	int rootfd;
	char rest[PATH_MAX * 2];
	int dirs[256]; /* dirs[0] is a duplicate of the root; the last is where we stand */
	size_t n;
	int links;
};

static void walk_done(struct walk *w)
{
	for (size_t i = 0; i < w->n; i++)
		close(w->dirs[i]);
}

static void walk_to_root(struct walk *w)
{
	while (w->n > 1)
		close(w->dirs[--w->n]);
}

/* Puts the target of a link before what is left of the path. */
static int walk_follow(struct walk *w, const char *name, const char *after)
{
	char target[PATH_MAX], joined[PATH_MAX * 2];
	ssize_t n = readlinkat(w->dirs[w->n - 1], name, target, sizeof(target) - 1);
	if (n < 0)
		return -errno;
	target[n] = 0;
	if (++w->links > LINKS_MAX)
		return -ELOOP;
	if ((size_t)n + strlen(after) + 2 > sizeof(joined))
		return -ENAMETOOLONG;
	if (target[0] == '/')
		walk_to_root(w);
	memcpy(joined, target, (size_t)n);
	joined[n] = '/';
	strcpy(joined + n + 1, after);
	strcpy(w->rest, joined);
	return 0;
}

/* One component that is not the last, or a link. 0 = go on. */
static int walk_step(struct walk *w, const char *name, const char *after)
{
	if (streq(name, "."))
		return memmove(w->rest, after, strlen(after) + 1), 0;
	if (streq(name, "..")) {
		if (w->n > 1)
			close(w->dirs[--w->n]);
		return memmove(w->rest, after, strlen(after) + 1), 0;
	}
	struct stat st;
	if (fstatat(w->dirs[w->n - 1], name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (S_ISLNK(st.st_mode))
		return walk_follow(w, name, after);
	if (!S_ISDIR(st.st_mode))
		return -ENOTDIR;
	if (w->n == ARRAY_LEN(w->dirs))
		return -ENAMETOOLONG;
	int fd = openat(w->dirs[w->n - 1], name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	w->dirs[w->n++] = fd;
	memmove(w->rest, after, strlen(after) + 1);
	return 0;
}

static int open_walking(int rootfd, const char *path, int flags, mode_t mode)
{
	struct walk w = {.rootfd = rootfd};
	if (strlen(path) >= sizeof(w.rest))
		return -ENAMETOOLONG;
	strcpy(w.rest, path);
	w.dirs[0] = fcntl(rootfd, F_DUPFD_CLOEXEC, 0);
	if (w.dirs[0] < 0)
		return -errno;
	w.n = 1;
	int r;
	for (;;) {
		const char *p = w.rest;
		char name[NAME_MAX + 1];
		size_t n = component(&p);
		if (n > NAME_MAX) {
			r = -ENAMETOOLONG;
			break;
		}
		memcpy(name, p, n);
		name[n] = 0;
		const char *after = p + n;
		while (*after == '/')
			after++;
		bool last = *after == 0;
		struct stat st;
		if (n == 0 || (last && (streq(name, ".") || streq(name, "..")))) {
			if (streq(name, "..") && w.n > 1)
				close(w.dirs[--w.n]);
			r = openat(w.dirs[w.n - 1], ".", flags & ~(O_CREAT | O_EXCL), mode);
			r = r < 0 ? -errno : r;
			break;
		}
		if (last && ((flags & O_NOFOLLOW) ||
			     fstatat(w.dirs[w.n - 1], name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
			     !S_ISLNK(st.st_mode))) {
			r = openat(w.dirs[w.n - 1], name, flags | O_NOFOLLOW, mode);
			r = r < 0 ? -errno : r;
			break;
		}
		r = walk_step(&w, name, after);
		if (r < 0)
			break;
	}
	walk_done(&w);
	return r;
}

int path_open_in_root(int rootfd, const char *path, int flags, mode_t mode)
{
	struct open_how how = {
		.flags = (uint64_t)(flags | O_CLOEXEC),
		.mode = flags & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY)) ? mode : 0,
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
	};
	for (int tries = 0; tries < 100; tries++) {
		long fd = syscall(SYS_openat2, rootfd, path, &how, sizeof(how));
		if (fd >= 0)
			return (int)fd;
		if (errno == ENOSYS || errno == EPERM)
			break; /* old kernel, or a seccomp filter that does not know the call */
		if (errno != EAGAIN && errno != EINTR) /* EAGAIN: a rename raced with ".." */
			return -errno;
	}
	return open_walking(rootfd, path, flags | O_CLOEXEC, mode);
}

int path_open_deep(int rootfd, const char *path)
{
	char piece[NAME_MAX + 64]; /* small: without openat2 each component takes a descriptor */
	int fd = fcntl(rootfd, F_DUPFD_CLOEXEC, 3);
	if (fd < 0)
		return -errno;
	while (*path) {
		size_t n = strnlen(path, sizeof(piece));
		/* A piece ends where a component does. */
		if (n == sizeof(piece))
			for (n--; n > 0 && path[n] != '/';)
				n--;
		memcpy(piece, path, n);
		piece[n] = 0;
		int next = n ? path_open_in_root(fd, piece, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0)
			     : -ENAMETOOLONG;
		close(fd);
		if (next < 0)
			return next;
		fd = next;
		path += n;
		path += strspn(path, "/");
	}
	return fd;
}

/* ---- usage ---- */

/* A directory that is too deep for now: its path from the top. */
struct deep_dir {
	struct deep_dir *next;
	char path[];
};

struct usage {
	int64_t bytes, inodes;
	struct deep_dir *deep; /* still to be walked */
	const char *base;      /* of the walk at hand, from the top */
	struct {
		dev_t dev;
		ino_t ino;
	} * seen; /* inodes with several links, an open-addressed table */
	size_t n, cap;
};

static int usage_seen(struct usage *u, const struct stat *st, bool *ret_new)
{
	if (u->n * 2 >= u->cap) {
		size_t cap = u->cap ? u->cap * 2 : 256;
		__typeof__(u->seen) table = calloc(cap, sizeof(*table));
		if (!table)
			return -ENOMEM;
		for (size_t i = 0; i < u->cap; i++) {
			if (!u->seen[i].ino)
				continue;
			size_t j = (u->seen[i].ino * 0x9e3779b97f4a7c15ULL) & (cap - 1);
			while (table[j].ino)
				j = (j + 1) & (cap - 1);
			table[j] = u->seen[i];
		}
		free(u->seen);
		u->seen = table;
		u->cap = cap;
	}
	size_t j = (st->st_ino * 0x9e3779b97f4a7c15ULL) & (u->cap - 1);
	for (; u->seen[j].ino; j = (j + 1) & (u->cap - 1))
		if (u->seen[j].ino == st->st_ino && u->seen[j].dev == st->st_dev) {
			*ret_new = false;
			return 0;
		}
	u->seen[j].ino = st->st_ino;
	u->seen[j].dev = st->st_dev;
	u->n++;
	*ret_new = true;
	return 0;
}

static int usage_add(struct usage *u, const struct stat *st)
{
	bool new = true;
	if (st->st_nlink > 1 && !S_ISDIR(st->st_mode)) {
		int r = usage_seen(u, st, &new);
		if (r < 0)
			return r;
	}
	if (new) {
		u->bytes += (int64_t)st->st_blocks * 512;
		u->inodes++;
	}
	return 0;
}

/* How the walk got to a directory. */
struct level {
	const struct level *up;
	const char *name;
	int depth;
};

static int usage_defer(struct usage *u, const struct level *l)
{
	size_t n = strlen(u->base);
	for (const struct level *x = l; x; x = x->up)
		n += strlen(x->name) + 1;
	if (n > DEEP_PATH_MAX)
		return -ENAMETOOLONG;
	struct deep_dir *d = malloc(sizeof(*d) + n + 1);
	if (!d)
		return -ENOMEM;
	char *p = d->path + n;
	*p = 0;
	for (const struct level *x = l; x; x = x->up) {
		size_t len = strlen(x->name);
		p -= len;
		memcpy(p, x->name, len);
		*--p = '/';
	}
	memcpy(d->path, u->base, (size_t)(p - d->path));
	d->next = u->deep;
	u->deep = d;
	return 0;
}

static int usage_dir(struct usage *u, int fd, const struct level *at);

/* Down into @name of @dir, now or later. */
static int usage_down(struct usage *u, int dir, const char *name, const struct level *at)
{
	struct level l = {.up = at, .name = name, .depth = at ? at->depth + 1 : 1};
	if (l.depth > LEVELS_MAX)
		return usage_defer(u, &l);
	int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	return usage_dir(u, fd, &l);
}

static int usage_dir(struct usage *u, int fd, const struct level *at)
{
	DIR *d = fdopendir(fd);
	if (!d) {
		int r = -errno;
		close(fd);
		return r;
	}
	_cleanup_closedir_ DIR *guard = d;
	for (;;) {
		errno = 0;
		struct dirent *e = readdir(guard);
		if (!e)
			return -errno;
		if (streq(e->d_name, ".") || streq(e->d_name, ".."))
			continue;
		struct stat st;
		if (fstatat(dirfd(guard), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
			if (errno == ENOENT)
				continue; /* removed meanwhile: it is in use */
			return -errno;
		}
		int r = usage_add(u, &st);
		if (r == 0 && S_ISDIR(st.st_mode))
			r = usage_down(u, dirfd(guard), e->d_name, at);
		if (r < 0)
			return r;
	}
}

/* What was put off, until nothing is. */
static int usage_rest(struct usage *u, int root, int r)
{
	while (u->deep) {
		_cleanup_free_ struct deep_dir *d = u->deep;
		u->deep = d->next;
		if (r < 0)
			continue;
		int fd = path_open_deep(root, d->path);
		if (fd < 0) {
			r = fd == -ENOENT ? 0 : fd;
			continue;
		}
		u->base = d->path;
		r = usage_dir(u, fd, NULL);
	}
	return r;
}

int dir_usage(int dirfd, const char *path, int64_t *ret_bytes, int64_t *ret_inodes)
{
	struct usage u = {.base = ""};
	struct stat st;
	_cleanup_close_ int root = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int fd = root < 0 ? -1 : fcntl(root, F_DUPFD_CLOEXEC, 3);
	if (fd < 0)
		return -errno;
	int r = fstat(fd, &st) < 0 ? -errno : usage_add(&u, &st);
	if (r < 0)
		close(fd);
	else
		r = usage_rest(&u, root, usage_dir(&u, fd, NULL));
	free(u.seen);
	if (r < 0)
		return r;
	*ret_bytes = u.bytes;
	*ret_inodes = u.inodes;
	return 0;
}
