/* SPDX-License-Identifier: Apache-2.0 */
/* From changes to entries of an archive.
 *
 * Directories that did not change themselves are written before the first change below them, for
 * their owners and modes.
 *
 * Of several names of a file the first that is written carries the data, the others are hard links
 * to it. A name that did not change counts when another name of the same file did: then it is
 * written behind that one, because whoever applies the layer makes a new file.
 *
 * Removed names have no time of their own. They get that of the directory they were in, which
 * changed when they were removed, so that the same trees give the same archive.
 */
#include "worker/layer.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/fd.h"
#include "base/str.h"
#include "worker/pathset.h"
#include "worker/tar_write.h"
#include "worker/tree.h"
#include "worker/tree_diff.h"

#define WHITEOUT ".wh."
#define CHUNK (256u << 10)
#define LINKS_MAX (512u << 20) /* memory for names of files with several */
#define XATTRS_MAX (16u << 20) /* and for the attributes of one entry */

struct name {
	struct name *next;
	const char *path;
};

/* A file with several names. */
struct inode {
	dev_t dev;
	ino_t ino;
	const char *source; /* the name that was written; NULL = none yet */
	struct name *names; /* not written, latest first */
};

struct layer {
	const struct layer_options *o;
	struct compressor *out;
	int64_t entries;
	struct buf header;
	char *chunk;
	struct arena *scratch; /* of one entry */
	struct pathset dirs;   /* written */

	struct arena *arena;  /* of inodes and their names */
	struct inode *inodes; /* open addressing, at most half full; source and names NULL = free */
	size_t n_inodes, cap_inodes;
};

/* ---- entries ---- */

static struct timespec not_after(const struct timespec *epoch, struct timespec t)
{
	if (epoch &&
	    (t.tv_sec > epoch->tv_sec || (t.tv_sec == epoch->tv_sec && t.tv_nsec > epoch->tv_nsec)))
		return *epoch;
	return t;
}

static int write_header(struct layer *l, const struct tar_header *h, struct err *err)
{
	buf_clear(&l->header);
	if (tar_write_header(&l->header, h) < 0)
		return err_nomem(err);
	l->entries++;
	return compressor_write(l->out, l->header.data, l->header.len, err);
}

static int write_padding(struct layer *l, int64_t size, struct err *err)
{
	static const char zeroes[TAR_BLOCK];

	return compressor_write(l->out, zeroes, (size_t)(-size & (TAR_BLOCK - 1)), err);
}

/* As many bytes as the header says. */
static int write_data(struct layer *l, int fd, int64_t size, struct err *err)
{
	for (int64_t left = size; left > 0;) {
		ssize_t n = fd_read_full(fd, l->chunk, (size_t)MIN(left, (int64_t)CHUNK));
		int r;

		if (n < 0)
			return err_errno(err, (int)n, "read");
		if (n == 0)
			return err_set(err, ERR_FAILED_PRECONDITION,
				       "file got shorter while it was read");
		r = compressor_write(l->out, l->chunk, (size_t)n, err);
		if (r < 0)
			return r;
		left -= n;
	}
	return write_padding(l, size, err);
}

static int open_file(int dir, const char *name, struct stat *ret, struct err *err)
{
	/* Not to wait for a writer, should it have become a fifo. */
	int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0)
		return err_errno(err, errno, "open");
	if (fstat(fd, ret) < 0 || !S_ISREG(ret->st_mode)) {
		close(fd);
		return err_set(err, ERR_FAILED_PRECONDITION, "file was replaced while it was read");
	}
	return fd;
}

static int read_link(struct layer *l, int dir, const char *name, const char **ret, struct err *err)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(dir, name, target, sizeof(target));

	if (n < 0)
		return err_errno(err, errno, "read symbolic link");
	*ret = arena_strndup(l->scratch, target, (size_t)n);
	return *ret ? 0 : err_nomem(err);
}

static enum tar_type type_of(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFDIR:
		return TAR_DIR;
	case S_IFLNK:
		return TAR_SYMLINK;
	case S_IFCHR:
		return TAR_CHAR;
	case S_IFBLK:
		return TAR_BLOCK_DEVICE;
	case S_IFIFO:
		return TAR_FIFO;
	default:
		return TAR_FILE;
	}
}

/* Header of what @st says, whose target, attributes and name in the archive are looked up. */
static int header_init(struct layer *l, const char *path, int dir, const char *name,
		       const struct stat *st, struct tar_header *ret, struct err *err)
{
	struct tar_header h = {
		.path = path,
		.type = type_of(st->st_mode),
		.mode = st->st_mode & 07777,
		.uid = st->st_uid,
		.gid = st->st_gid,
		.mtime = not_after(l->o->epoch, st->st_mtim),
	};
	struct tar_xattr *xattrs = NULL;
	int r;

	if (h.type == TAR_FILE)
		h.size = st->st_size;
	if (h.type == TAR_CHAR || h.type == TAR_BLOCK_DEVICE)
		h.dev = st->st_rdev;
	if (h.type == TAR_DIR && !(h.path = arena_printf(l->scratch, "%s/", path)))
		return err_nomem(err);
	if (h.type == TAR_FILE || h.type == TAR_DIR) {
		r = tree_xattrs(l->scratch, dir, name, &xattrs, &h.n_xattrs);
		if (r < 0)
			return err_errno(err, r, "read attributes");
		h.xattrs = xattrs;
	}
	if (h.type == TAR_SYMLINK) {
		r = read_link(l, dir, name, &h.link, err);
		if (r < 0)
			return r;
	}
	*ret = h;
	return 0;
}

/* Whole entry @path, which is @name in @dir; the directories above it have been written. */
static int write_entry(struct layer *l, const char *path, int dir, const char *name,
		       const struct stat *st, struct err *err)
{
	_cleanup_close_ int fd = -1;
	struct tar_header h;
	struct stat now = *st;
	int r;

	arena_reset(l->scratch);
	if (S_ISREG(st->st_mode)) {
		fd = open_file(dir, name, &now, err);
		if (fd < 0)
			return fd;
	}
	r = header_init(l, path, dir, name, &now, &h, err);
	if (r == 0)
		r = write_header(l, &h, err);
	if (r == 0 && fd >= 0)
		r = write_data(l, fd, h.size, err);
	if (r == 0 && h.type == TAR_DIR && pathset_add(&l->dirs, path) < 0)
		r = err_nomem(err);
	return r;
}

/* ---- directories above ---- */

/* The directory that holds @path, for reading; the caller's. */
static int open_parent(struct layer *l, const char *path, const char **ret_name, struct err *err)
{
	_cleanup_close_ int fd = openat(l->o->upper, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	const char *slash;

	while (fd >= 0 && (slash = strchr(path, '/'))) {
		char name[NAME_MAX + 1];
		int next;

		snprintf(name, sizeof(name), "%.*s", (int)(slash - path), path);
		next = openat(fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		close(fd);
		fd = next;
		path = slash + 1;
	}
	if (fd < 0)
		return err_errno(err, errno, "open directory");
	*ret_name = path;
	return TAKE_FD(fd);
}

static int write_dir(struct layer *l, const char *path, struct err *err)
{
	const char *name;
	struct stat st;
	_cleanup_close_ int dir = open_parent(l, path, &name, err);

	if (dir < 0)
		return dir;
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_errno(err, errno, "look at directory");
	if (!S_ISDIR(st.st_mode))
		return err_set(err, ERR_FAILED_PRECONDITION,
			       "directory was replaced while it was read");
	return write_entry(l, path, dir, name, &st, err);
}

/* The directories above @path that have not been written. */
static int write_parents(struct layer *l, const char *path, struct err *err)
{
	_cleanup_free_ char *dir = strdup(path);
	char *end = dir ? strrchr(dir, '/') : NULL;
	int r = dir ? 0 : err_nomem(err);

	if (!end)
		return r;
	*end = 0;
	if (pathset_has(&l->dirs, dir))
		return 0;
	for (char *slash = strchr(dir, '/'); r == 0 && slash; slash = strchr(slash + 1, '/')) {
		*slash = 0;
		if (!pathset_has(&l->dirs, dir))
			r = write_dir(l, dir, err);
		*slash = '/';
	}
	return r < 0 ? r : write_dir(l, dir, err);
}

/* ---- hard links ---- */

static size_t inode_slot(const struct inode *v, size_t cap, dev_t dev, ino_t ino)
{
	uint64_t h = ((uint64_t)ino ^ (uint64_t)dev << 40) * 0x9e3779b97f4a7c15;
	size_t i = (size_t)(h >> 20) & (cap - 1);

	while ((v[i].source || v[i].names) && (v[i].dev != dev || v[i].ino != ino))
		i = (i + 1) & (cap - 1);
	return i;
}

static int inodes_grow(struct layer *l)
{
	size_t cap = l->cap_inodes ? l->cap_inodes * 2 : 1024;
	struct inode *v = calloc(cap, sizeof(*v));

	if (!v)
		return -ENOMEM;
	for (size_t i = 0; i < l->cap_inodes; i++) {
		const struct inode *x = &l->inodes[i];

		if (x->source || x->names)
			v[inode_slot(v, cap, x->dev, x->ino)] = *x;
	}
	free(l->inodes);
	l->inodes = v;
	l->cap_inodes = cap;
	return 0;
}

/* That of @st, which is free when new: the caller gives it a source or a name. NULL = no memory. */
static struct inode *inode_find(struct layer *l, const struct stat *st)
{
	struct inode *x;

	if (l->n_inodes * 2 >= l->cap_inodes && inodes_grow(l) < 0)
		return NULL;
	x = &l->inodes[inode_slot(l->inodes, l->cap_inodes, st->st_dev, st->st_ino)];
	if (!x->source && !x->names)
		l->n_inodes++;
	x->dev = st->st_dev;
	x->ino = st->st_ino;
	return x;
}

static int write_link(struct layer *l, const char *path, const char *source, const struct stat *st,
		      struct err *err)
{
	const struct tar_header h = {
		.path = path,
		.link = source,
		.type = TAR_LINK,
		.mode = st->st_mode & 07777,
		.uid = st->st_uid,
		.gid = st->st_gid,
		.mtime = not_after(l->o->epoch, st->st_mtim),
	};
	int r = write_parents(l, path, err);

	return r < 0 ? r : write_header(l, &h, err);
}

/* The names that waited for the file to be written, in the order in which they came. */
static int write_names(struct layer *l, struct name *latest, const char *source,
		       const struct stat *st, struct err *err)
{
	struct name *first = NULL;

	while (latest) {
		struct name *next = latest->next;

		latest->next = first;
		first = latest;
		latest = next;
	}
	for (; first; first = first->next) {
		int r = write_link(l, first->path, source, st, err);

		if (r < 0)
			return r;
	}
	return 0;
}

static int linked(struct layer *l, const struct change *c, struct err *err)
{
	struct inode *x = inode_find(l, c->st);
	const char *path = x ? arena_strdup(l->arena, c->path) : NULL;
	struct name *n, *waiting;
	int r;

	if (!path)
		return err_nomem(err);
	if (x->source)
		return write_link(l, path, x->source, c->st, err);
	if (c->kind == CHANGE_UNCHANGED) {
		n = arena_new_obj(l->arena, struct name);
		if (!n)
			return err_nomem(err);
		*n = (struct name){.next = x->names, .path = path};
		x->names = n;
		return 0;
	}
	waiting = x->names;
	x->names = NULL;
	x->source = path;
	r = write_parents(l, path, err);
	if (r == 0)
		r = write_entry(l, path, c->dir, c->name, c->st, err);
	return r < 0 ? r : write_names(l, waiting, path, c->st, err);
}

/* ---- changes ---- */

static int removed(struct layer *l, const struct change *c, struct err *err)
{
	size_t dir_len = strlen(c->path) - strlen(c->name);
	struct tar_header h = {.type = TAR_FILE};
	struct stat st;
	int r = write_parents(l, c->path, err);

	if (r < 0)
		return r;
	if (fstat(c->dir, &st) < 0)
		return err_errno(err, errno, "look at directory");
	h.mtime.tv_sec = l->o->epoch ? l->o->epoch->tv_sec : st.st_mtim.tv_sec;
	arena_reset(l->scratch);
	h.path = arena_printf(l->scratch, "%.*s" WHITEOUT "%s", (int)dir_len, c->path, c->name);
	return h.path ? write_header(l, &h, err) : err_nomem(err);
}

static int change(void *arg, const struct change *c, struct err *err)
{
	struct layer *l = arg;
	char q[512];
	int r;

	if (c->kind == CHANGE_DELETED) {
		r = removed(l, c, err);
	} else if (S_ISSOCK(c->st->st_mode)) {
		return 0;
	} else if (!S_ISDIR(c->st->st_mode) && c->st->st_nlink > 1) {
		r = linked(l, c, err);
	} else {
		r = write_parents(l, c->path, err);
		if (r == 0)
			r = write_entry(l, c->path, c->dir, c->name, c->st, err);
	}
	return r < 0 ? err_prefix(err, "pack \"%s\"", tree_quote(c->path, q, sizeof(q))) : 0;
}

static int write_all(struct layer *l, struct err *err)
{
	const struct tree_diff_options o = {
		.lower = l->o->lower,
		.upper = l->o->upper,
		.changed = l->o->changed,
		.fn = change,
		.arg = l,
	};
	static const char end[2 * TAR_BLOCK];
	int r;

	l->arena = arena_new(LINKS_MAX);
	l->scratch = arena_new(XATTRS_MAX);
	l->chunk = malloc(CHUNK);
	if (!l->arena || !l->scratch || !l->chunk)
		return err_nomem(err);
	r = tree_diff(&o, err);
	return r < 0 ? r : compressor_write(l->out, end, sizeof(end), err);
}

int layer_write(const struct layer_options *o, struct compressor *out, int64_t *ret_entries,
		struct err *err)
{
	struct layer l = {.o = o, .out = out};
	int r = write_all(&l, err);

	if (r == 0)
		*ret_entries = l.entries;
	arena_free(l.arena);
	arena_free(l.scratch);
	free(l.chunk);
	free(l.inodes);
	pathset_done(&l.dirs);
	buf_done(&l.header);
	return r;
}
