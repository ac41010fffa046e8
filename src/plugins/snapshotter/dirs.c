/* SPDX-License-Identifier: Apache-2.0 */
#include "plugins/snapshotter/dirs.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/path.h"
#include "base/str.h"

#define NAME_TRIES 16

struct snapdirs {
	int fd;
	pthread_mutex_t lock;
	struct snapdir_temp *working; /* lock */
	void (*release)(int dirfd, const char *name);
};

struct id_name {
	char text[24];
};

static struct id_name id_name(uint64_t id)
{
	struct id_name n;

	(void)snprintf(n.text, sizeof(n.text), "%llu", (unsigned long long)id);
	return n;
}

static void temp_name(const char *prefix, char out[32])
{
	uint64_t v;

	random_bytes(&v, sizeof(v));
	(void)snprintf(out, 32, "%s-%016llx", prefix, (unsigned long long)v);
}

int snapdirs_new(const char *root, struct snapdirs **ret, struct err *err)
{
	_cleanup_(snapdirs_freep) struct snapdirs *d = calloc(1, sizeof(*d));
	_cleanup_close_ int rootfd = -1;
	int r;

	if (!d)
		return err_nomem(err);
	d->fd = -1;
	pthread_mutex_init(&d->lock, NULL);
	r = mkdir_p(root, 0700);
	if (r < 0)
		return err_errno(err, r, "make directory `%s`", root);
	rootfd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (rootfd < 0)
		return err_errno(err, errno, "open `%s`", root);
	if (mkdirat(rootfd, "snapshots", 0700) < 0 && errno != EEXIST)
		return err_errno(err, errno, "make directory `%s/snapshots`", root);
	d->fd = openat(rootfd, "snapshots", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (d->fd < 0)
		return err_errno(err, errno, "open `%s/snapshots`", root);
	*ret = TAKE_PTR(d);
	return 0;
}

void snapdirs_free(struct snapdirs *d)
{
	if (!d)
		return;
	if (d->fd >= 0)
		close(d->fd);
	pthread_mutex_destroy(&d->lock);
	free(d);
}

int snapdirs_fd(const struct snapdirs *d)
{
	return d->fd;
}

void snapdirs_set_release(struct snapdirs *d, void (*release)(int dirfd, const char *name))
{
	d->release = release;
}

static int tree_remove(struct snapdirs *d, const char *name)
{
	if (d->release)
		d->release(d->fd, name);
	return rm_rf(d->fd, name);
}

/* ---- Names in work (with the lock) ---- */

static void working_add(struct snapdirs *d, struct snapdir_temp *t)
{
	t->next = d->working;
	d->working = t;
}

static void working_drop(struct snapdirs *d, struct snapdir_temp *t)
{
	struct snapdir_temp **p = &d->working;

	while (*p && *p != t)
		p = &(*p)->next;
	if (*p)
		*p = t->next;
	t->name[0] = 0;
}

static bool working_has(const struct snapdirs *d, const char *name)
{
	for (const struct snapdir_temp *t = d->working; t; t = t->next)
		if (streq(t->name, name))
			return true;
	return false;
}

/* Moves @name out of the way, under a name that only @t knows. */
static int move_aside(struct snapdirs *d, const char *name, char out[32])
{
	for (int i = 0; i < NAME_TRIES; i++) {
		temp_name("rm", out);
		if (renameat2(d->fd, name, d->fd, out, RENAME_NOREPLACE) == 0)
			return 0;
		if (errno != EEXIST)
			return -errno;
	}
	return -EEXIST;
}

/* ---- In ---- */

int snapdirs_begin(struct snapdirs *d, mode_t mode, struct snapdir_temp *t, struct err *err)
{
	MUTEX_GUARD(&d->lock);
	for (int i = 0; i < NAME_TRIES; i++) {
		temp_name("new", t->name);
		if (mkdirat(d->fd, t->name, 0700) == 0) {
			working_add(d, t);
			if (mode != 0700 && fchmodat(d->fd, t->name, mode, 0) < 0)
				return err_errno(err, errno, "chmod `%s`", t->name);
			return 0;
		}
		if (errno != EEXIST)
			break;
	}
	t->name[0] = 0;
	return err_errno(err, errno, "failed to create temp dir");
}

int snapdirs_install(struct snapdirs *d, struct snapdir_temp *t, uint64_t id, struct err *err)
{
	struct id_name to = id_name(id);
	char aside[32];

	MUTEX_GUARD(&d->lock);
	for (int i = 0; i < 2; i++) {
		int r;

		if (renameat2(d->fd, t->name, d->fd, to.text, RENAME_NOREPLACE) == 0) {
			working_drop(d, t);
			return 0;
		}
		if (errno != EEXIST && errno != ENOTEMPTY)
			break;
		r = move_aside(d, to.text, aside);
		if (r < 0)
			return err_errno(err, r, "move left-overs `snapshots/%s` aside", to.text);
	}
	return err_errno(err, errno, "failed to rename `%s` to `snapshots/%s`", t->name, to.text);
}

void snapdirs_abort(struct snapdirs *d, struct snapdir_temp *t)
{
	if (!t->name[0])
		return;
	(void)tree_remove(d, t->name); /* what stays is garbage for a cleanup */
	MUTEX_GUARD(&d->lock);
	working_drop(d, t);
}

/* ---- Out ---- */

int snapdirs_remove(struct snapdirs *d, uint64_t id, struct err *err)
{
	struct id_name from = id_name(id);
	struct snapdir_temp t;
	int r;

	{
		MUTEX_GUARD(&d->lock);
		r = move_aside(d, from.text, t.name);
		if (r == -ENOENT)
			return 0;
		if (r < 0)
			return err_errno(err, r, "remove `snapshots/%s`", from.text);
		working_add(d, &t);
	}
	r = tree_remove(d, t.name);
	{
		MUTEX_GUARD(&d->lock);
		working_drop(d, &t);
	}
	if (r < 0)
		return err_errno(err, r, "remove `snapshots/%s`", from.text);
	return 0;
}

static bool id_known(const char *name, const uint64_t *ids, size_t n)
{
	struct id_name back;
	uint64_t id;
	size_t lo = 0;

	if (str_to_u64(name, 10, &id) < 0)
		return false;
	back = id_name(id);
	if (!streq(back.text, name)) /* 007 is nobody's */
		return false;
	for (size_t hi = n; lo < hi;) {
		size_t mid = lo + (hi - lo) / 2;

		if (ids[mid] < id)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < n && ids[lo] == id;
}

/* Names in snapshots/, in the arena. */
static int names_list(struct snapdirs *d, struct arena *a, const char ***ret, size_t *ret_n)
{
	_cleanup_closedir_ DIR *dir = NULL;
	const char **v = NULL;
	size_t n = 0, cap = 0;
	int fd = openat(d->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	dir = fdopendir(fd);
	if (!dir) {
		close(fd);
		return -ENOMEM;
	}
	for (struct dirent *e; errno = 0, (e = readdir(dir));) {
		if (streq(e->d_name, ".") || streq(e->d_name, ".."))
			continue;
		v = arena_grow(a, v, &cap, n + 1, sizeof(*v));
		if (!v || !(v[n] = arena_strdup(a, e->d_name)))
			return -ENOMEM;
		n++;
	}
	if (errno)
		return -errno;
	*ret = v;
	*ret_n = n;
	return 0;
}

/* Moves all garbage aside. The names are read before the records: a directory has its number only
 * after its record is committed, and with the lock held no directory gets a number between the two.
 */
static int garbage_take(struct ctx *ctx, struct snapdirs *d, struct storage *st,
			struct snapdir_temp **ret, size_t *ret_n, struct err *err)
{
	struct snapdir_temp *v;
	const char **names = NULL;
	uint64_t *ids = NULL;
	size_t n = 0, n_ids = 0, taken = 0;
	int r;

	MUTEX_GUARD(&d->lock);
	r = names_list(d, ctx->arena, &names, &n);
	if (r < 0)
		return err_errno(err, r, "list snapshots");
	r = storage_ids(ctx, st, &ids, &n_ids, err);
	if (r < 0)
		return r;
	v = arena_new_array(ctx->arena, struct snapdir_temp, n + 1);
	if (!v)
		return err_nomem(err);
	for (size_t i = 0; i < n; i++) {
		if (id_known(names[i], ids, n_ids) || working_has(d, names[i]))
			continue;
		if (move_aside(d, names[i], v[taken].name) >= 0)
			working_add(d, &v[taken++]);
	}
	*ret = v;
	*ret_n = taken;
	return 0;
}

int snapdirs_cleanup(struct ctx *ctx, struct snapdirs *d, struct storage *st, struct err *err)
{
	struct snapdir_temp *v = NULL;
	uint64_t *ids;
	size_t n = 0;
	int r, first = 0;

	/* Opens the database before the lock is taken: that may wait. */
	r = storage_ids(ctx, st, &ids, &n, err);
	if (r < 0)
		return r;
	r = garbage_take(ctx, d, st, &v, &n, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++) {
		r = tree_remove(d, v[i].name);
		if (r < 0 && first == 0)
			first = err_errno(err, r, "remove `snapshots/%s`", v[i].name);
		MUTEX_GUARD(&d->lock);
		working_drop(d, &v[i]);
	}
	return first;
}
