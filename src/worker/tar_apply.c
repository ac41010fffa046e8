/* SPDX-License-Identifier: Apache-2.0 */
/* The loop over the entries of an archive (libarchive parses, but for some names (tar_heads.h);
 * this file decides and writes).
 *
 * Entry names are cleaned, the directory part is looked up inside the root (tree.h), and everything
 * happens relative to that directory's descriptor with its last component, never following it. An
 * entry replaces what has its name; only a directory that is there already stays and gets the new
 * attributes. Times of directories are set at the end, since making something in them changes them;
 * one that the layer does not name has its old time back then.
 *
 * A hard link has the attributes of what it links to; those in its own header are ignored.
 */
#include "worker/tar_apply.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/cleanup.h"
#include "base/path.h"
#include "base/str.h"
#include "worker/pathset.h"
#include "worker/tar_write.h"
#include "worker/tree.h"

#define HOLE (64u << 10) /* zeroes are looked for in units of this size, */
#define HOLE_MIN \
	(4u << 10) /* or what is left of one at the end of a block, but not less than this */
#define XATTR_LIST (64u << 10)
#define DIR_TIMES_MAX (512u << 20)
#define WHITEOUT ".wh."
#define WHITEOUT_META ".wh..wh."
#define WHITEOUT_OPAQUE ".wh..wh..opq"

struct dir_times {
	const char *path;
	struct timespec times[2];
};

struct apply {
	const struct tar_apply_options *o;
	struct tree tree;
	bool stale; /* the entry removed something that may be on the way to the tree's cached
		       directory */
	struct archive *archive;
	struct tar_heads heads;
	struct err *read_err; /* why reading failed */
	int read_failed;
	bool in_entry;	 /* a header was read */
	bool file_whole; /* all data of the last file has come */

	struct arena *arena; /* of dirs */
	struct dir_times *dirs;
	size_t n_dirs, cap_dirs;
	struct pathset seen; /* what this layer made, when whiteouts delete */
};

/* One entry on its way. */
struct entry {
	struct archive_entry *ae;
	const char *name;    /* as in the archive */
	const char *link;    /* target of a link, NULL = none */
	bool hard;	     /* it is a hard link */
	char path[PATH_MAX]; /* cleaned */
	char dir[PATH_MAX];  /* of path */
	const char *base;    /* last component, in path */
	int parent;	     /* descriptor of dir, the tree's */
	uid_t uid;
	gid_t gid;
	mode_t mode;
	struct timespec times[2];
};

static void split(const char *path, char dir[PATH_MAX], const char **ret_base)
{
	const char *slash = strrchr(path, '/');

	snprintf(dir, PATH_MAX, "%.*s", slash ? (int)(slash - path) : 0, path);
	*ret_base = slash ? slash + 1 : path;
}

/* For look-ups by names of the archive's: that something is not there is its fault, not an answer
 * to the client. */
static int bad_path(struct err *err, int errnum, const char *what)
{
	errnum = abs(errnum);
	if (errnum == ENOENT || errnum == ENOTDIR || errnum == ELOOP || errnum == ENAMETOOLONG)
		return err_set(err, ERR_INVALID_ARGUMENT, "%s: %s", what, strerrordesc_np(errnum));
	return err_errno(err, errnum, "%s", what);
}

/* Removes what is there. */
static int remove_old(struct apply *a, struct entry *e, struct err *err)
{
	int r = rm_rf(e->parent, e->base);

	if (r < 0)
		return err_errno(err, r, "remove what it replaces");
	a->stale = true;
	return 0;
}

/* ---- attributes ---- */

static const char *opaque_name(const struct apply *a)
{
	return a->o->userxattr ? "user.overlay.opaque" : "trusted.overlay.opaque";
}

static int set_opaque(const struct apply *a, int dir, struct err *err)
{
	if (fchdir(dir) < 0)
		return err_errno(err, errno, "enter directory");
	if (setxattr(".", opaque_name(a), "y", 1, 0) < 0)
		return err_errno(err, errno, "set %s", opaque_name(a));
	return 0;
}

/* True when an attribute that could not be set may be left out: the file system has none of this
 * kind, or it is one that only the initial namespace's root may set. */
static bool xattr_optional(const char *name, int errnum)
{
	if (errnum == ENOTSUP)
		return true;
	return errnum == EPERM &&
	       (str_has_prefix(name, "trusted.") ||
		(str_has_prefix(name, "security.") && !streq(name, "security.capability")));
}

/* By descriptor, or by name in e->parent when @fd is -1. */
static int set_xattrs(struct entry *e, int fd, struct err *err)
{
	const char *name;
	const void *value;
	size_t size;

	if (archive_entry_xattr_reset(e->ae) == 0)
		return 0;
	if (fd < 0 && fchdir(e->parent) < 0)
		return err_errno(err, errno, "enter directory");
	while (archive_entry_xattr_next(e->ae, &name, &value, &size) == ARCHIVE_OK) {
		int r;

		if (!name || tree_xattr_is_overlay(name))
			continue;
		r = fd >= 0 ? fsetxattr(fd, name, value, size, 0)
			    : lsetxattr(e->base, name, value, size, 0);
		if (r < 0 && !xattr_optional(name, errno)) {
			char q[128];

			return err_errno(err, errno, "set attribute %s",
					 tree_quote(name, q, sizeof(q)));
		}
	}
	return 0;
}

/* Those that a directory has from the layers below and that this layer's entry may not say again.
 * What the host's security modules gave it stays. */
static int clear_xattrs(struct entry *e, struct err *err)
{
	_cleanup_free_ char *list = malloc(XATTR_LIST);
	ssize_t n;

	if (!list)
		return err_nomem(err);
	if (fchdir(e->parent) < 0)
		return err_errno(err, errno, "enter directory");
	n = llistxattr(e->base, list, XATTR_LIST);
	if (n < 0)
		return errno == ENOTSUP ? 0 : err_errno(err, errno, "list attributes");
	for (const char *p = list; p < list + n; p += strlen(p) + 1) {
		if (tree_xattr_is_overlay(p) ||
		    (str_has_prefix(p, "security.") && !streq(p, "security.capability")))
			continue;
		if (lremovexattr(e->base, p) < 0 && errno != ENODATA && errno != ENOTSUP &&
		    errno != EPERM)
			return err_errno(err, errno, "remove attribute");
	}
	return 0;
}

/* Everything but the time, which is set for directories at the end. Order: a change of owner drops
 * capabilities and setuid bits. */
static int set_attributes(struct apply *a, struct entry *e, bool link, struct err *err)
{
	int r;

	if (!a->o->keep_owner &&
	    fchownat(e->parent, e->base, e->uid, e->gid, AT_SYMLINK_NOFOLLOW) < 0)
		return err_errno(err, errno, "set owner %u:%u", e->uid, e->gid);
	r = set_xattrs(e, -1, err);
	if (r < 0)
		return r;
	if (!link && fchmodat(e->parent, e->base, e->mode, 0) < 0)
		return err_errno(err, errno, "set mode");
	return 0;
}

static int set_times(struct entry *e, struct err *err)
{
	if (utimensat(e->parent, e->base, e->times, AT_SYMLINK_NOFOLLOW) < 0)
		return err_errno(err, errno, "set time");
	return 0;
}

/* Times before 1970 and beyond what 64 bits of nanoseconds hold become 1970. */
static struct timespec bounded(int64_t sec, long nsec)
{
	if (sec < 0 || sec > INT64_MAX / 1000000000 - 1 || nsec < 0 || nsec > 999999999)
		return (struct timespec){0};
	return (struct timespec){.tv_sec = sec, .tv_nsec = nsec};
}

static void entry_times(struct entry *e)
{
	struct timespec m = bounded(archive_entry_mtime(e->ae), archive_entry_mtime_nsec(e->ae));
	struct timespec t = m;

	if (archive_entry_atime_is_set(e->ae))
		t = bounded(archive_entry_atime(e->ae), archive_entry_atime_nsec(e->ae));
	if (t.tv_sec < m.tv_sec || (t.tv_sec == m.tv_sec && t.tv_nsec < m.tv_nsec))
		t = m;
	e->times[0] = t;
	e->times[1] = m;
}

/* ---- regular files ---- */

static bool is_zero(const char *p, size_t n)
{
	return p[0] == 0 && memcmp(p, p + 1, n - 1) == 0;
}

static int write_all(int fd, const char *p, size_t n, int64_t off, struct err *err)
{
	while (n > 0) {
		ssize_t w = pwrite(fd, p, n, off);

		if (w < 0 && errno == EINTR)
			continue;
		if (w < 0)
			return err_errno(err, errno, "write");
		p += w;
		off += w;
		n -= (size_t)w;
	}
	return 0;
}

/* Writes a block of a new file, but leaves holes for runs of zeroes. */
static int write_block(int fd, const char *p, size_t n, int64_t off, struct err *err)
{
	const char *from = p; /* not yet written */
	int64_t from_off = off;

	while (n > 0) {
		size_t unit = MIN(n, HOLE - (size_t)(off % HOLE));

		if (unit >= HOLE_MIN && is_zero(p, unit)) {
			int r = write_all(fd, from, (size_t)(p - from), from_off, err);

			if (r < 0)
				return r;
			from = p + unit;
			from_off = off + (int64_t)unit;
		}
		p += unit;
		off += (int64_t)unit;
		n -= unit;
	}
	return write_all(fd, from, (size_t)(p - from), from_off, err);
}

static int archive_fail(struct apply *a, struct err *err)
{
	const char *text = archive_error_string(a->archive);
	char q[256];

	if (a->read_failed)
		return err_copy(err, a->read_err);
	if (archive_errno(a->archive) == ENOMEM)
		return err_nomem(err);
	return err_set(err, ERR_INVALID_ARGUMENT, "read archive: %s",
		       tree_quote(text ? text : "damaged", q, sizeof(q)));
}

/* A sparse file's map may come before it. */
static int next_data(struct apply *a, const void **ret, size_t *ret_n, la_int64_t *ret_off)
{
	int r;

	tar_heads_count(&a->heads, true);
	r = archive_read_data_block(a->archive, ret, ret_n, ret_off);
	tar_heads_count(&a->heads, false);
	return r;
}

static int write_data(struct apply *a, struct entry *e, int fd, struct err *err)
{
	int64_t size = archive_entry_size(e->ae), end = 0;
	const void *p;
	size_t n;
	la_int64_t off;
	int r;

	if (size < 0 || size > a->o->max_file)
		return err_set(err, ERR_RESOURCE_EXHAUSTED, "size %lld is beyond the limit",
			       (long long)size);
	if (size == 0)
		return 0;
	a->file_whole = false;
	while ((r = next_data(a, &p, &n, &off)) == ARCHIVE_OK || r == ARCHIVE_WARN) {
		if (off < end || off > size || (int64_t)n > size - off)
			return err_set(err, ERR_INVALID_ARGUMENT,
				       "data beyond the end of the file");
		r = write_block(fd, p, n, off, err);
		if (r < 0)
			return r;
		end = off + (int64_t)n;
		a->file_whole = end == size;
	}
	if (r != ARCHIVE_EOF)
		return archive_fail(a, err);
	/* The end may be a hole, of ours or of the archive's. */
	if (ftruncate(fd, size) < 0)
		return err_errno(err, errno, "set size");
	return 0;
}

static int apply_file(struct apply *a, struct entry *e, struct err *err)
{
	int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
	_cleanup_close_ int fd = openat(e->parent, e->base, flags, 0600);
	int r;

	if (fd < 0 && errno == EEXIST) {
		r = remove_old(a, e, err);
		if (r < 0)
			return r;
		fd = openat(e->parent, e->base, flags, 0600);
	}
	if (fd < 0)
		return err_errno(err, errno, "create file");
	r = write_data(a, e, fd, err);
	if (r < 0)
		return r;
	if (!a->o->keep_owner && fchown(fd, e->uid, e->gid) < 0)
		return err_errno(err, errno, "set owner %u:%u", e->uid, e->gid);
	r = set_xattrs(e, fd, err);
	if (r < 0)
		return r;
	if (fchmod(fd, e->mode) < 0)
		return err_errno(err, errno, "set mode");
	if (futimens(fd, e->times) < 0)
		return err_errno(err, errno, "set time");
	return 0;
}

/* ---- other types ---- */

static int remember_dir(struct apply *a, const struct entry *e, struct err *err)
{
	struct dir_times *d;

	if (a->n_dirs == a->cap_dirs) {
		size_t cap = a->cap_dirs ? a->cap_dirs * 2 : 64;
		void *p = reallocarray(a->dirs, cap, sizeof(*a->dirs));

		if (!p)
			return err_nomem(err);
		a->dirs = p;
		a->cap_dirs = cap;
	}
	d = &a->dirs[a->n_dirs];
	d->path = arena_strdup(a->arena, e->path);
	if (!d->path)
		return err_nomem(err);
	memcpy(d->times, e->times, sizeof(d->times));
	a->n_dirs++;
	return 0;
}

static bool is_whiteout(const struct stat *st)
{
	return S_ISCHR(st->st_mode) && st->st_rdev == makedev(0, 0);
}

static int apply_dir(struct apply *a, struct entry *e, struct err *err)
{
	bool opaque = false;
	int r;

	if (mkdirat(e->parent, e->base, 0700) < 0) {
		struct stat st;

		if (errno != EEXIST)
			return err_errno(err, errno, "create directory");
		if (fstatat(e->parent, e->base, &st, AT_SYMLINK_NOFOLLOW) < 0)
			return err_errno(err, errno, "look at what is there");
		if (!S_ISDIR(st.st_mode)) {
			/* A whiteout before: the new directory must not show what the layers below
			 * have there. */
			opaque = a->o->overlay && is_whiteout(&st);
			r = remove_old(a, e, err);
			if (r < 0)
				return r;
			if (mkdirat(e->parent, e->base, 0700) < 0)
				return err_errno(err, errno, "create directory");
		} else {
			r = clear_xattrs(e, err);
			if (r < 0)
				return r;
		}
	}
	if (opaque) {
		_cleanup_close_ int fd =
			openat(e->parent, e->base, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

		if (fd < 0)
			return err_errno(err, errno, "open directory");
		r = set_opaque(a, fd, err);
		if (r < 0)
			return r;
	}
	r = set_attributes(a, e, false, err);
	if (r < 0)
		return r;
	return remember_dir(a, e, err);
}

static int apply_symlink(struct apply *a, struct entry *e, struct err *err)
{
	const char *to = e->link;
	int r;

	if (str_empty(to))
		return err_set(err, ERR_INVALID_ARGUMENT, "symbolic link without a target");
	r = symlinkat(to, e->parent, e->base);
	if (r < 0 && errno == EEXIST) {
		r = remove_old(a, e, err);
		if (r < 0)
			return r;
		r = symlinkat(to, e->parent, e->base);
	}
	if (r < 0)
		return err_errno(err, errno, "create symbolic link");
	r = set_attributes(a, e, true, err);
	return r < 0 ? r : set_times(e, err);
}

static int apply_node(struct apply *a, struct entry *e, mode_t type, struct err *err)
{
	mode_t mode = (e->mode & 0777) | type;
	dev_t dev = 0;
	int r;

	if (type != S_IFIFO)
		dev = makedev((unsigned)archive_entry_rdevmajor(e->ae),
			      (unsigned)archive_entry_rdevminor(e->ae));
	r = mknodat(e->parent, e->base, mode, dev);
	if (r < 0 && errno == EEXIST) {
		r = remove_old(a, e, err);
		if (r < 0)
			return r;
		r = mknodat(e->parent, e->base, mode, dev);
	}
	if (r < 0 && errno == EPERM && type != S_IFIFO && a->o->skip_devices)
		return 0;
	if (r < 0)
		return err_errno(err, errno, "create device %u:%u", major(dev), minor(dev));
	r = set_attributes(a, e, false, err);
	return r < 0 ? r : set_times(e, err);
}

static int link_target(struct apply *a, const char *path, int *ret_fd, const char **ret_base,
		       char dir[PATH_MAX])
{
	int r, fd;

	split(path, dir, ret_base);
	r = tree_open_dir(&a->tree, dir, &fd);
	if (r < 0)
		return r;
	/* The tree's descriptor may change with the next look-up. */
	*ret_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (*ret_fd < 0)
		return -errno;
	if (faccessat(*ret_fd, *ret_base, F_OK, AT_SYMLINK_NOFOLLOW) < 0) {
		r = -errno;
		close(*ret_fd);
		*ret_fd = -1;
		return r;
	}
	return 0;
}

static int apply_hardlink(struct apply *a, struct entry *e, struct err *err)
{
	char target[PATH_MAX], dir[PATH_MAX], q[512];
	_cleanup_close_ int from = -1;
	const char *to = e->link, *base;
	int r;

	if (str_empty(to) || tree_clean(to, target) < 0)
		return err_set(err, ERR_INVALID_ARGUMENT, "hard link without a valid target");
	tree_quote(to, q, sizeof(q));
	if (streq(target, e->path))
		return err_set(err, ERR_INVALID_ARGUMENT, "hard link to itself");
	r = link_target(a, target, &from, &base, dir);
	if (r == -ENOENT && a->o->overlay) {
		r = tree_copy_up(&a->tree, target);
		if (r == 0)
			r = link_target(a, target, &from, &base, dir);
	}
	if (r < 0) {
		bad_path(err, r, q);
		return err_prefix(err, "hard link's target");
	}
	r = tree_make_dir(&a->tree, e->dir, &e->parent);
	if (r < 0)
		return bad_path(err, r, "make its directory");
	r = linkat(from, base, e->parent, e->base, 0);
	if (r < 0 && errno == EEXIST) {
		r = remove_old(a, e, err);
		if (r < 0)
			return r;
		r = linkat(from, base, e->parent, e->base, 0);
	}
	if (r < 0)
		return err_errno(err, errno, "create hard link to %s", q);
	return 0;
}

/* ---- whiteouts ---- */

/* Below directory @path, open as @dir (taken over): removes what this layer has not made. */
static int clear_lower(struct apply *a, int dir, const char *path, int depth, struct err *err)
{
	_cleanup_closedir_ DIR *d = fdopendir(dir);
	struct dirent *de;

	if (!d) {
		close(dir);
		return err_errno(err, errno, "read directory");
	}
	if (depth > PATH_MAX / 2)
		return err_set(err, ERR_INVALID_ARGUMENT, "directories too deep");
	while ((de = readdir(d))) {
		_cleanup_free_ char *child = NULL;
		int fd, r;

		if (streq(de->d_name, ".") || streq(de->d_name, ".."))
			continue;
		if (asprintf(&child, "%s%s%s", path, *path ? "/" : "", de->d_name) < 0)
			return err_nomem(err);
		if (!pathset_has(&a->seen, child)) {
			r = rm_rf(dirfd(d), de->d_name);
			if (r < 0)
				return err_errno(err, r, "empty directory");
			continue;
		}
		fd = openat(dirfd(d), de->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0)
			continue;
		r = clear_lower(a, fd, child, depth + 1, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int apply_opaque(struct apply *a, struct entry *e, struct err *err)
{
	int fd;

	if (a->o->overlay)
		return set_opaque(a, e->parent, err);
	fd = openat(e->parent, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_errno(err, errno, "open directory");
	a->stale = true;
	return clear_lower(a, fd, e->dir, 0, err);
}

static int overlay_whiteout(struct apply *a, struct entry *e, const char *name, struct err *err)
{
	if (mknodat(e->parent, name, S_IFCHR, makedev(0, 0)) < 0) {
		_cleanup_close_ int fd = -1;

		if (errno != EEXIST)
			return err_errno(err, errno, "create whiteout");
		/* The layer itself has made it: that stays, but a directory no longer shows the
		 * layers below. */
		fd = openat(e->parent, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		return fd < 0 ? 0 : set_opaque(a, fd, err);
	}
	if (!a->o->keep_owner && fchownat(e->parent, name, e->uid, e->gid, AT_SYMLINK_NOFOLLOW) < 0)
		return err_errno(err, errno, "set owner of whiteout");
	return 0;
}

static int apply_whiteout(struct apply *a, struct entry *e, struct err *err)
{
	const char *name = e->base + strlen(WHITEOUT);
	int r;

	if (streq(e->base, WHITEOUT_OPAQUE))
		return apply_opaque(a, e, err);
	if (!*name || streq(name, ".") || streq(name, ".."))
		return err_set(err, ERR_INVALID_ARGUMENT, "invalid whiteout name");
	if (a->o->overlay)
		return overlay_whiteout(a, e, name, err);
	r = rm_rf(e->parent, name);
	if (r < 0)
		return err_errno(err, r, "remove");
	a->stale = true;
	return 0;
}

/* ---- entries ---- */

static int apply_typed(struct apply *a, struct entry *e, struct err *err)
{
	mode_t type = archive_entry_filetype(e->ae);

	if (e->hard)
		return apply_hardlink(a, e, err);
	switch (type) {
	case S_IFREG:
		return apply_file(a, e, err);
	case S_IFDIR:
		return apply_dir(a, e, err);
	case S_IFLNK:
		return apply_symlink(a, e, err);
	case S_IFCHR:
	case S_IFBLK:
	case S_IFIFO:
		return apply_node(a, e, type, err);
	default:
		return err_set(err, ERR_INVALID_ARGUMENT, "unknown type of entry");
	}
}

static void entry_names(struct entry *e, const struct tar_heads *h)
{
	const char *hard = archive_entry_hardlink(e->ae);

	e->name = h->path ? h->path : archive_entry_pathname(e->ae);
	e->hard = hard || h->type == TAR_LINK;
	e->link = h->link ? h->link : hard ? hard : archive_entry_symlink(e->ae);
}

static int entry_init(struct entry *e, struct archive_entry *ae, const struct tar_heads *h,
		      struct err *err)
{
	int64_t uid = archive_entry_uid(ae), gid = archive_entry_gid(ae);

	e->ae = ae;
	entry_names(e, h);
	if (!e->name)
		return err_set(err, ERR_INVALID_ARGUMENT, "entry without a name");
	if (tree_clean(e->name, e->path) < 0)
		return err_set(err, ERR_INVALID_ARGUMENT, "name is too long");
	/* The all-ones id means "leave as is" to chown. */
	if (uid < 0 || uid >= UINT32_MAX || gid < 0 || gid >= UINT32_MAX)
		return err_set(err, ERR_INVALID_ARGUMENT, "owner out of range");
	split(e->path, e->dir, &e->base);
	e->uid = (uid_t)uid;
	e->gid = (gid_t)gid;
	e->mode = archive_entry_mode(ae) & 07777;
	entry_times(e);
	return 0;
}

static int apply_one(struct apply *a, struct archive_entry *ae, struct err *err)
{
	struct entry e;
	char q[512];
	int r = entry_init(&e, ae, &a->heads, err);

	if (r < 0)
		goto fail;
	if (!*e.path)
		return 0; /* the root's own entry: the snapshot has made it */
	if (str_has_prefix(e.path, WHITEOUT_META) && !streq(e.path, WHITEOUT_OPAQUE))
		return 0; /* aufs' own directories */
	if (a->stale)
		tree_forget(&a->tree);
	a->stale = false;
	r = tree_make_dir(&a->tree, e.dir, &e.parent);
	if (r == 0)
		r = tree_keep_times(&a->tree, e.dir, e.parent);
	if (r < 0) {
		bad_path(err, r, "make its directory");
		goto fail;
	}
	if (str_has_prefix(e.base, WHITEOUT)) {
		r = apply_whiteout(a, &e, err);
	} else {
		r = apply_typed(a, &e, err);
		if (r == 0 && !a->o->overlay && pathset_add(&a->seen, e.path) < 0)
			r = err_nomem(err);
	}
	if (r == 0)
		return 0;
fail:
	if (a->tree.wanted_lowers)
		err_set(err, ERR_ABORTED, "it needs the layers below");
	return err_prefix(err, "apply layer entry \"%s\"",
			  tree_quote(e.name ? e.name : "", q, sizeof(q)));
}

/* A directory without an entry of its own is as old as it was before. */
static int apply_dir_times(struct apply *a, struct err *err)
{
	int restored;

	tree_forget(&a->tree);
	restored = tree_restore_times(&a->tree);
	if (restored < 0)
		return err_errno(err, restored, "set times of directories");
	for (size_t i = 0; i < a->n_dirs; i++) {
		const struct dir_times *d = &a->dirs[i];
		char dir[PATH_MAX], q[512];
		const char *base;
		struct stat st;
		int fd, r;

		split(d->path, dir, &base);
		r = tree_open_dir(&a->tree, dir, &fd);
		/* A later entry may have removed or replaced it. */
		if (r == 0 && fstatat(fd, base, &st, AT_SYMLINK_NOFOLLOW) < 0)
			r = -errno;
		if (r == 0 && !S_ISDIR(st.st_mode))
			continue;
		if (r == 0 && utimensat(fd, base, d->times, AT_SYMLINK_NOFOLLOW) < 0)
			r = -errno;
		if (r < 0 && r != -ENOENT && r != -ENOTDIR)
			return err_errno(err, r, "set time of directory \"%s\"",
					 tree_quote(d->path, q, sizeof(q)));
	}
	return 0;
}

static la_ssize_t read_cb(struct archive *archive, void *arg, const void **ret)
{
	struct apply *a = arg;
	ssize_t n = tar_heads_read(&a->heads, ret, a->read_err);

	if (n < 0) {
		a->read_failed = (int)n;
		archive_set_error(archive, EIO, "read error");
		return ARCHIVE_FATAL;
	}
	/* Some tools end an archive with the last file's last byte; Go's reader takes that, so the
	 * block is filled up here. Data is never made up. */
	if (n == 0 && a->file_whole && a->heads.taken % TAR_BLOCK) {
		static const char zero[TAR_BLOCK];
		*ret = zero;
		n = (ssize_t)(TAR_BLOCK - a->heads.taken % TAR_BLOCK);
		a->heads.taken += (uint64_t)n;
	}
	return n;
}

static int next_header(struct apply *a, struct archive_entry **ret)
{
	int r;

	if (a->in_entry) {
		/* What nobody wanted of the last one's data. */
		if (archive_read_data_skip(a->archive) == ARCHIVE_FATAL)
			return ARCHIVE_FATAL;
		tar_heads_begin(&a->heads, (uint64_t)archive_filter_bytes(a->archive, 0));
	}
	r = archive_read_next_header(a->archive, ret);
	if (tar_heads_end(&a->heads, (uint64_t)archive_filter_bytes(a->archive, 0)) < 0) {
		archive_set_error(a->archive, ENOMEM, "Out of memory");
		return ARCHIVE_FATAL;
	}
	a->in_entry = r == ARCHIVE_OK || r == ARCHIVE_WARN;
	return r;
}

static int apply_entries(struct apply *a, int64_t *ret_entries, struct err *err)
{
	struct archive_entry *ae;
	int64_t n = 0;
	int r;

	tar_heads_begin(&a->heads, 0);
	if (archive_read_support_format_tar(a->archive) != ARCHIVE_OK ||
	    archive_read_support_format_empty(a->archive) != ARCHIVE_OK ||
	    archive_read_open(a->archive, a, NULL, read_cb, NULL) != ARCHIVE_OK)
		return archive_fail(a, err);
	while ((r = next_header(a, &ae)) == ARCHIVE_OK || r == ARCHIVE_WARN) {
		if (++n > a->o->max_entries)
			return err_set(err, ERR_RESOURCE_EXHAUSTED,
				       "layer holds more than %lld entries",
				       (long long)a->o->max_entries);
		r = apply_one(a, ae, err);
		if (r < 0)
			return r;
	}
	if (r != ARCHIVE_EOF)
		return archive_fail(a, err);
	*ret_entries = n;
	return apply_dir_times(a, err);
}

int tar_apply(const struct tar_apply_options *o, tar_read_fn fn, void *arg, int64_t *ret_entries,
	      struct err *err)
{
	struct err read_err = ERR_INIT;
	struct apply a = {.o = o, .heads = {.fn = fn, .arg = arg}, .read_err = &read_err};
	_cleanup_close_ int cwd = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	int r;

	tree_init(&a.tree, o->root_fd, o->lower_fds, o->overlay ? o->n_lowers : 0, !o->keep_owner);
	a.tree.alone = o->overlay && o->alone;
	a.tree.opaque = o->overlay ? opaque_name(&a) : NULL;
	a.arena = arena_new(DIR_TIMES_MAX);
	a.archive = archive_read_new();
	r = a.arena && a.archive ? apply_entries(&a, ret_entries, err) : err_nomem(err);
	archive_read_free(a.archive);
	tar_heads_done(&a.heads);
	pathset_done(&a.seen);
	arena_free(a.arena);
	free(a.dirs);
	tree_done(&a.tree);
	if (cwd >= 0 && fchdir(cwd) < 0 && r == 0)
		r = err_errno(err, errno, "return to working directory");
	return r;
}
