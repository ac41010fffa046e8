/* SPDX-License-Identifier: Apache-2.0 */
/* Most often the files lie open in the layers, and are read from there: a mount is much work, and
 * the more of it the more mounts the host has. What cannot be told in this way is left to the
 * kernel.
 *
 * The thread leaves the process's mount namespace for a private copy, so what it mounts is gone
 * with it whatever happens. The paths are somebody else's: they are opened below the root only. */
#include "client/rootfs.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "sys/layers.h"
#include "sys/mount.h"

#define FILE_MAX ((size_t)4 << 20)

struct lookup {
	struct arena *arena;
	const struct client_mounts *mounts;
	const char *dir;
	char *passwd, *group;
	struct err err;
	int result;
};

static int read_file(struct arena *a, int root, const char *path, char **ret, struct err *err)
{
	int fd _cleanup_close_ = path_open_in_root(root, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
	struct stat st;
	size_t len;
	int r;

	*ret = arena_strdup(a, "");
	if (fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP)
		return *ret ? 0 : err_nomem(err);
	if (fd < 0)
		return err_errno(err, fd, "open `%s` of the container", path);
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return *ret ? 0 : err_nomem(err);
	r = fd_read_all(a, fd, FILE_MAX, ret, &len);
	return r < 0 ? err_errno(err, r, "read `%s` of the container", path) : 0;
}

static int read_files(struct lookup *l)
{
	int root _cleanup_close_ = open(l->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int r;

	if (root < 0)
		return err_errno(&l->err, errno, "open the root file system `%s`", l->dir);
	r = read_file(l->arena, root, "etc/passwd", &l->passwd, &l->err);
	return r < 0 ? r : read_file(l->arena, root, "etc/group", &l->group, &l->err);
}

static void to_spec(const PB_TYPES(Mount) * m, struct mount_spec *ret)
{
	*ret = (struct mount_spec){.type = m->type,
				   .source = m->source,
				   .target = m->target,
				   .options = m->options,
				   .n_options = m->n_options};
}

static int layers_read(struct lookup *l)
{
	struct mount_spec m;
	int r;

	if (geteuid() != 0 || l->mounts->n != 1)
		return -EAGAIN;
	to_spec(l->mounts->v[0], &m);
	r = layers_file_read(l->arena, &m, "etc", "passwd", FILE_MAX, &l->passwd);
	return r < 0 ? r : layers_file_read(l->arena, &m, "etc", "group", FILE_MAX, &l->group);
}

/* ---- In a mount ---- */

/* An overlay that is only read: the upper directory becomes the top lower one, so that nobody
 * else's overlay is disturbed. */
static int read_only_mount(struct arena *a, const PB_TYPES(Mount) * m, struct mount_spec *ret,
			   struct err *err)
{
	char **options = arena_new_array(a, char *, m->n_options + 1);
	const char *upper = NULL, *lower = NULL;
	size_t n = 0;

	if (!options)
		return err_nomem(err);
	for (size_t i = 0; i < m->n_options; i++) {
		const char *o = m->options[i];

		if (str_has_prefix(o, "upperdir="))
			upper = str_skip(o, "upperdir=");
		else if (str_has_prefix(o, "lowerdir="))
			lower = str_skip(o, "lowerdir=");
		else if (!str_has_prefix(o, "workdir=") && !streq(o, "rw"))
			options[n++] = m->options[i];
	}
	if (lower) {
		options[n] = upper ? arena_printf(a, "lowerdir=%s:%s", upper, lower)
				   : arena_printf(a, "lowerdir=%s", lower);
		if (!options[n++])
			return err_nomem(err);
	} else
		options[n++] = (char *)"ro";
	*ret = (struct mount_spec){.type = m->type,
				   .source = m->source,
				   .target = m->target,
				   .options = options,
				   .n_options = n};
	return 0;
}

static int mount_all(struct lookup *l)
{
	int r;

	if (unshare(CLONE_NEWNS) < 0)
		return err_errno(&l->err, errno, "make a mount namespace");
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return err_errno(&l->err, errno, "make the mounts private");
	for (size_t i = 0; i < l->mounts->n; i++) {
		struct mount_spec m;

		r = read_only_mount(l->arena, l->mounts->v[i], &m, &l->err);
		if (r == 0)
			r = mount_spec_mount(&m, l->dir, &l->err);
		if (r < 0)
			return r;
	}
	return 0;
}

static void *lookup_thread(void *arg)
{
	struct lookup *l = arg;

	l->result = mount_all(l);
	if (l->result == 0)
		l->result = read_files(l);
	return NULL;
}

static int lookup_mounted(struct lookup *l, struct err *err)
{
	char dir[] = "/tmp/ctr-rootfs-XXXXXX";
	pthread_t thread;
	int r;

	if (!mkdtemp(dir))
		return err_errno(err, errno, "make a directory in /tmp");
	l->dir = dir;
	r = pthread_create(&thread, NULL, lookup_thread, l);
	if (r == 0)
		pthread_join(thread, NULL);
	rmdir(dir);
	if (r > 0)
		return err_errno(err, r, "start a thread");
	return l->result < 0 ? err_copy(err, &l->err) : 0;
}

/* ---- By the mount manager ---- */

static bool needs_manager(const struct client_mounts *m)
{
	bool needed = false;

	for (size_t i = 0; i < m->n; i++)
		needed |= strchr(m->v[i]->type, '/') != NULL;
	return needed;
}

/* File systems in files, which a running container may write to, are looked at only. */
static int files_read_only(struct arena *a, struct client_mounts *m, bool *ret_changed,
			   struct err *err)
{
	PB_TYPES(Mount) **v = arena_new_array(a, PB_TYPES(Mount) *, m->n + 1);

	for (size_t i = 0; v && i < m->n; i++) {
		PB_TYPES(Mount) *one = arena_new_obj(a, PB_TYPES(Mount));
		char **options = arena_new_array(a, char *, m->v[i]->n_options + 2);
		size_t n = 0;

		if (!one || !options)
			return err_nomem(err);
		*one = *m->v[i];
		v[i] = one;
		if (!str_has_prefix(one->type, "mkfs/"))
			continue;
		for (size_t k = 0; k < one->n_options; k++)
			if (!streq(one->options[k], "rw"))
				options[n++] = one->options[k];
		options[n++] = (char *)"ro";
		options[n++] = (char *)"noload";
		*ret_changed = true;
		one->options = options;
		one->n_options = n;
	}
	if (!v)
		return err_nomem(err);
	m->v = v;
	return 0;
}

static int activate(struct client *c, struct ctx *ctx, const char *name, struct client_mounts *m,
		    struct err *err)
{
	PB_MOUNTS(ActivateRequest) req = PB_MOUNTS_INIT(ACTIVATE_REQUEST);
	PB_MOUNTS(ActivateResponse) * resp;
	int r;

	req.name = (char *)name;
	req.mounts = m->v;
	req.n_mounts = m->n;
	req.temporary = true;
	r = client_call(c, ctx, PB_MOUNTS_SERVICE, "Activate", &req.base, &resp, err);
	if (r < 0)
		return r;
	if (!resp->info)
		return err_set(err, ERR_INTERNAL, "activation came empty");
	*m = (struct client_mounts){resp->info->system, resp->info->n_system};
	return 0;
}

static int lookup_managed(struct client *c, struct ctx *ctx, struct lookup *l, struct err *err)
{
	PB_MOUNTS(DeactivateRequest) req = PB_MOUNTS_INIT(DEACTIVATE_REQUEST);
	struct client_mounts m = *l->mounts;
	struct err e = ERR_INIT, late = ERR_INIT;
	bool changed = false;
	unsigned char bytes[8];
	char hex[2 * sizeof(bytes) + 1];
	int r;

	random_bytes(bytes, sizeof(bytes));
	hex_encode(bytes, sizeof(bytes), hex);
	req.name = arena_printf(ctx->arena, "rootfs-%s", hex);
	if (!req.name)
		return err_nomem(err);
	r = files_read_only(ctx->arena, &m, &changed, err);
	if (r == 0)
		r = activate(c, ctx, req.name, &m, changed ? &e : err);
	/* One that was never written to has to be made first. */
	if (r < 0 && changed) {
		m = *l->mounts;
		r = activate(c, ctx, req.name, &m, err);
	}
	if (r < 0)
		return r;
	l->mounts = &m;
	r = lookup_mounted(l, err);
	if (client_call(c, ctx, PB_MOUNTS_SERVICE, "Deactivate", &req.base, NULL, &late) < 0 &&
	    r == 0)
		r = err_copy(err, &late);
	return r;
}

int client_rootfs_user(struct client *c, struct ctx *ctx, const char *dir,
		       const struct client_mounts *mounts, const char *user, struct user_ids *ret,
		       struct err *err)
{
	struct lookup l = {.arena = ctx->arena, .mounts = mounts, .dir = dir, .err = ERR_INIT};
	int r;

	if (dir) {
		r = read_files(&l);
		r = r < 0 ? err_copy(err, &l.err) : 0;
	} else {
		r = layers_read(&l);
		if (r < 0)
			r = needs_manager(mounts) ? lookup_managed(c, ctx, &l, err)
						  : lookup_mounted(&l, err);
	}
	return r < 0 ? r : user_resolve(ctx->arena, user, l.passwd, l.group, ret, err);
}
