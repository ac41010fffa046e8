/* SPDX-License-Identifier: Apache-2.0 */
/* A step of the walk handles a directory that both trees have, or only the upper one: it lists and
 * sorts the names of both and merges the lists. Everything is looked up by one name in an open
 * directory and no link is followed, so nothing outside of the trees is ever seen. What vanishes
 * between listing and looking counts as absent.
 */
#include "worker/tree_diff.h"

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "worker/tree.h"

#define NAMES_MAX (512u << 20) /* memory for the names of a directory */
#define XATTRS_MAX (16u << 20)
#define CHUNK (64u << 10)

struct diff {
	const struct tree_diff_options *o;
	struct buf path;
	struct arena *scratch;
};

static int fail(struct diff *d, struct err *err, int errnum, const char *what)
{
	char q[512];

	return err_errno(err, errnum, "%s \"%s\"", what,
			 tree_quote(d->path.len ? d->path.data : "/", q, sizeof(q)));
}

/* ---- attributes ---- */

static bool xattr_wanted(const char *name)
{
	/* A name with this sign can not be told from its value in a pax record. */
	if (tree_xattr_is_overlay(name) || strchr(name, '='))
		return false;
	return str_has_prefix(name, "user.") || streq(name, "security.capability") ||
	       str_has_prefix(name, "system.posix_acl_");
}

/* The value may grow between asking for its size and reading it. */
static int xattr_read(struct arena *a, const char *file, struct tar_xattr *x)
{
	for (;;) {
		ssize_t n = lgetxattr(file, x->name, NULL, 0);
		void *p;

		if (n < 0)
			return -errno;
		p = arena_alloc(a, (size_t)n + 1);
		if (!p)
			return -ENOMEM;
		n = lgetxattr(file, x->name, p, (size_t)n);
		if (n < 0 && errno == ERANGE)
			continue;
		if (n < 0)
			return -errno;
		x->value = p;
		x->size = (size_t)n;
		return 0;
	}
}

static int xattr_names(struct arena *a, const char *file, char **ret, size_t *ret_n)
{
	for (;;) {
		ssize_t n = llistxattr(file, NULL, 0);
		char *p;

		if (n < 0 && errno == ENOTSUP)
			n = 0;
		if (n < 0)
			return -errno;
		p = arena_alloc(a, (size_t)n + 1);
		if (!p)
			return -ENOMEM;
		if (n > 0)
			n = llistxattr(file, p, (size_t)n);
		if (n < 0 && errno == ERANGE)
			continue;
		if (n < 0)
			return -errno;
		p[n] = 0;
		*ret = p;
		*ret_n = (size_t)n;
		return 0;
	}
}

static int xattr_order(const void *a, const void *b)
{
	const struct tar_xattr *x = a, *y = b;

	return strcmp(x->name, y->name);
}

int tree_xattrs(struct arena *a, int dir, const char *name, struct tar_xattr **ret, size_t *ret_n)
{
	struct tar_xattr *v = NULL;
	size_t n = 0, cap = 0, len;
	char *names;
	int r;

	if (fchdir(dir) < 0)
		return -errno;
	r = xattr_names(a, name, &names, &len);
	if (r < 0)
		return r;
	for (const char *p = names; p < names + len; p += strlen(p) + 1) {
		if (!xattr_wanted(p))
			continue;
		v = arena_grow(a, v, &cap, n + 1, sizeof(*v));
		if (!v)
			return -ENOMEM;
		v[n].name = p;
		r = xattr_read(a, name, &v[n]);
		if (r == 0)
			n++;
		else if (r != -ENODATA)
			return r;
	}
	if (n > 0)
		qsort(v, n, sizeof(*v), xattr_order);
	*ret = v;
	*ret_n = n;
	return 0;
}

static int same_xattrs(struct diff *d, int lower, int upper, const char *name)
{
	struct tar_xattr *x, *y;
	size_t n, m;
	int r;

	arena_reset(d->scratch);
	r = tree_xattrs(d->scratch, lower, name, &x, &n);
	if (r == 0)
		r = tree_xattrs(d->scratch, upper, name, &y, &m);
	if (r < 0)
		return r;
	if (n != m)
		return false;
	for (size_t i = 0; i < n; i++)
		if (!streq(x[i].name, y[i].name) || x[i].size != y[i].size ||
		    memcmp(x[i].value, y[i].value, x[i].size) != 0)
			return false;
	return true;
}

/* ---- comparing: 1 = same, 0 = not, -errno ---- */

static int same_content(int lower, int upper, const char *name)
{
	int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
	_cleanup_close_ int a = openat(lower, name, flags), b = openat(upper, name, flags);
	_cleanup_free_ char *p = malloc(2 * CHUNK);

	if (a < 0 || b < 0)
		return -errno;
	if (!p)
		return -ENOMEM;
	for (;;) {
		ssize_t n = fd_read_full(a, p, CHUNK), m = fd_read_full(b, p + CHUNK, CHUNK);

		if (n < 0 || m < 0)
			return (int)MIN(n, m);
		if (n != m || memcmp(p, p + CHUNK, (size_t)n) != 0)
			return false;
		if (n < (ssize_t)CHUNK)
			return true;
	}
}

static int same_link(int lower, int upper, const char *name)
{
	char a[PATH_MAX], b[PATH_MAX];
	ssize_t n = readlinkat(lower, name, a, sizeof(a)),
		m = readlinkat(upper, name, b, sizeof(b));

	if (n < 0 || m < 0)
		return -errno;
	return n == m && memcmp(a, b, (size_t)n) == 0;
}

static int same(struct diff *d, int lower, int upper, const char *name, const struct stat *a,
		const struct stat *b)
{
	bool type_has_xattrs = S_ISREG(a->st_mode) || S_ISDIR(a->st_mode);
	int r = 1;

	if (a->st_dev == b->st_dev && a->st_ino == b->st_ino)
		return 1;
	if (a->st_mode != b->st_mode || a->st_uid != b->st_uid || a->st_gid != b->st_gid ||
	    a->st_rdev != b->st_rdev)
		return 0;
	if (!S_ISDIR(a->st_mode) &&
	    (a->st_size != b->st_size || a->st_mtim.tv_sec != b->st_mtim.tv_sec ||
	     a->st_mtim.tv_nsec != b->st_mtim.tv_nsec))
		return 0;
	if (type_has_xattrs)
		r = same_xattrs(d, lower, upper, name);
	if (r == 1 && S_ISLNK(a->st_mode))
		r = same_link(lower, upper, name);
	if (r == 1 && S_ISREG(a->st_mode) && a->st_size > 0 && a->st_mtim.tv_nsec == 0)
		r = same_content(lower, upper, name);
	return r;
}

/* ---- names of a directory ---- */

struct names {
	struct arena *arena;
	const char **v;
	size_t n;
};

static void names_done(struct names *l)
{
	arena_free(l->arena);
}

static int name_order(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Sorted; of -1 there are none. */
static int names_read(int fd, struct names *ret)
{
	_cleanup_closedir_ DIR *dir = NULL;
	struct dirent *de;
	size_t cap = 0;

	if (fd < 0)
		return 0;
	fd = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	dir = fdopendir(fd);
	if (!dir) {
		close(fd);
		return -ENOMEM;
	}
	ret->arena = arena_new(NAMES_MAX);
	if (!ret->arena)
		return -ENOMEM;
	while (errno = 0, (de = readdir(dir))) {
		if (streq(de->d_name, ".") || streq(de->d_name, ".."))
			continue;
		ret->v = arena_grow(ret->arena, ret->v, &cap, ret->n + 1, sizeof(*ret->v));
		if (!ret->v || !(ret->v[ret->n] = arena_strdup(ret->arena, de->d_name)))
			return -ENOMEM;
		ret->n++;
	}
	if (errno != 0)
		return -errno;
	if (ret->n > 0)
		qsort(ret->v, ret->n, sizeof(*ret->v), name_order);
	return 0;
}

static bool names_have(const struct names *l, const char *name)
{
	return l->n > 0 && bsearch(&name, l->v, l->n, sizeof(*l->v), name_order);
}

/* ---- the walk ---- */

static int walk(struct diff *d, int lower, int upper, int changed, struct err *err);

/* 1 = there, 0 = absent, -errno. */
static int look(int dir, const char *name, struct stat *ret)
{
	if (fstatat(dir, name, ret, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	return !(S_ISCHR(ret->st_mode) && ret->st_rdev == makedev(0, 0));
}

static int open_child(int dir, const char *name)
{
	return openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

static int tell(struct diff *d, enum change_kind kind, int dir, const char *name,
		const struct stat *st, struct err *err)
{
	const struct change c = {
		.kind = kind,
		.path = d->path.data,
		.dir = dir,
		.name = name,
		.st = st,
	};

	return d->o->fn(d->o->arg, &c, err);
}

/* Into directory @name of upper; of lower and changed where they have it. */
static int descend(struct diff *d, int lower, int upper, int changed, const char *name,
		   struct err *err)
{
	_cleanup_close_ int l = -1, c = -1, u = open_child(upper, name);

	if (u < 0 && errno == ENOENT)
		return 0;
	if (u < 0)
		return fail(d, err, errno, "open directory");
	if (lower >= 0) {
		l = open_child(lower, name);
		if (l < 0)
			return fail(d, err, errno, "open lower directory");
		if (changed >= 0)
			c = open_child(changed, name);
	}
	return walk(d, l, u, c, err);
}

/* The path of the entry is d's. @in_lower, @in_upper: the name was listed there. */
static int entry(struct diff *d, int lower, int upper, int changed, const char *name, bool in_lower,
		 bool in_upper, struct err *err)
{
	struct stat a, b;
	int has_a = in_lower ? look(lower, name, &a) : 0;
	int has_b = in_upper ? look(upper, name, &b) : 0;
	int r = has_a < 0 ? has_a : has_b;

	if (r < 0)
		return fail(d, err, r, "look at");
	if (!has_b)
		return has_a ? tell(d, CHANGE_DELETED, upper, name, NULL, err) : 0;
	if (!has_a) {
		r = tell(d, CHANGE_ADDED, upper, name, &b, err);
	} else {
		r = same(d, lower, upper, name, &a, &b);
		if (r < 0)
			return fail(d, err, r, "compare");
		if (r == 0)
			r = tell(d, CHANGE_MODIFIED, upper, name, &b, err);
		else if (!S_ISDIR(b.st_mode) && b.st_nlink > 1)
			r = tell(d, CHANGE_UNCHANGED, upper, name, &b, err);
		else
			r = 0;
	}
	if (r < 0 || !S_ISDIR(b.st_mode))
		return r;
	return descend(d, has_a && S_ISDIR(a.st_mode) ? lower : -1, upper, changed, name, err);
}

static int push(struct diff *d, const char *name, struct err *err)
{
	if (d->path.len + strlen(name) + 2 > PATH_MAX) {
		char q[512];

		return err_set(err, ERR_FAILED_PRECONDITION, "path of \"%s\" is too long",
			       tree_quote(name, q, sizeof(q)));
	}
	if (d->path.len > 0)
		buf_addc(&d->path, '/');
	buf_adds(&d->path, name);
	return buf_ok(&d->path) ? 0 : err_nomem(err);
}

static void pop(struct diff *d, size_t len)
{
	d->path.len = len;
	d->path.data[len] = 0;
}

static int merge(struct diff *d, int lower, int upper, int changed, const struct names *l,
		 const struct names *u, const struct names *c, struct err *err)
{
	size_t i = 0, j = 0, len = d->path.len;

	while (i < l->n || j < u->n) {
		int order = i == l->n ? 1 : j == u->n ? -1 : strcmp(l->v[i], u->v[j]);
		const char *name = order <= 0 ? l->v[i] : u->v[j];
		int r;

		i += order <= 0;
		j += order >= 0;
		if (order == 0 && changed >= 0 && !names_have(c, name))
			continue;
		r = push(d, name, err);
		if (r == 0)
			r = entry(d, lower, upper, changed, name, order <= 0, order >= 0, err);
		if (r < 0)
			return r;
		pop(d, len);
	}
	return 0;
}

static int walk(struct diff *d, int lower, int upper, int changed, struct err *err)
{
	_cleanup_(names_done) struct names l = {0};
	_cleanup_(names_done) struct names u = {0};
	_cleanup_(names_done) struct names c = {0};
	int r = names_read(lower, &l);

	if (r == 0)
		r = names_read(upper, &u);
	if (r == 0)
		r = names_read(changed, &c);
	if (r < 0)
		return fail(d, err, r, "read directory");
	return merge(d, lower, upper, changed, &l, &u, &c, err);
}

int tree_diff(const struct tree_diff_options *o, struct err *err)
{
	_cleanup_arena_ struct arena *scratch = arena_new(XATTRS_MAX);
	struct diff d = {.o = o, .scratch = scratch};
	int r;

	if (!scratch)
		return err_nomem(err);
	r = walk(&d, o->lower, o->upper, o->changed, err);
	buf_done(&d.path);
	return r;
}
