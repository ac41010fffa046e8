/* SPDX-License-Identifier: Apache-2.0 */
/* A thread's mount namespace is separate as soon as the thread has left the one it shared; the
 * other threads stay where they are. */
#include "plugins/differ/temp_mount.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/str.h"
#include "plugins/mounts/transform.h"
#include "sys/mount.h"

int dir_open(const char *path, struct err *err)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? err_errno(err, errno, "open `%s`", path) : fd;
}

const char *mount_option_value(const struct mount *m, const char *prefix)
{
	const char *v = NULL, *s;

	for (size_t i = 0; i < m->n_options; i++)
		if ((s = str_skip(m->options[i], prefix)))
			v = s;
	return v;
}

bool mount_option_given(const struct mount *m, const char *name)
{
	for (size_t i = 0; i < m->n_options; i++)
		if (streq(m->options[i], name))
			return true;
	return false;
}

struct job {
	struct ctx *ctx;
	const struct mounts *mounts;
	struct temp_mount *mount;
	struct err *err;
	bool detach; /* the descriptor is that of a copy that belongs to no namespace */
};

static struct mount_spec spec_of(const struct mount *m)
{
	return (struct mount_spec){
		.type = m->type,
		.source = m->source,
		.target = m->target,
		.options = (char *const *)m->options,
		.n_options = m->n_options,
	};
}

static int mount_over(struct job *j)
{
	struct mount_spec *specs =
		arena_new_array(j->ctx->arena, struct mount_spec, j->mounts->n + 1);

	if (!specs)
		return err_nomem(j->err);
	for (size_t i = 0; i < j->mounts->n; i++)
		specs[i] = spec_of(&j->mounts->v[i]);
	return mount_specs_mount(specs, j->mounts->n, j->mount->dir, j->err);
}

/* Each at <dir>/<n>; *@ret_top is the last one's. */
static int mount_beside(struct job *j, const char **ret_top)
{
	struct arena *a = j->ctx->arena;
	struct mount_active *done = arena_new_array(a, struct mount_active, j->mounts->n + 1);
	const char *dir = j->mount->dir;

	if (!done)
		return err_nomem(j->err);
	if (mount("tmpfs", dir, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0700") < 0)
		return err_errno(j->err, errno, "mount a tmpfs at `%s`", dir);
	for (size_t i = 0; i < j->mounts->n; i++) {
		char *point = arena_printf(a, "%s/%zu", dir, i);
		struct mount_spec spec;
		int r;

		if (!point)
			return err_nomem(j->err);
		/* Who may name mounts here may mount anything: no directory is off limits. */
		r = mount_transform(j->ctx, NULL, &j->mounts->v[i], done, i, &done[i].mount,
				    j->err);
		if (r == 0 && mkdir(point, 0700) < 0)
			r = err_errno(j->err, errno, "make `%s`", point);
		spec = spec_of(&done[i].mount);
		if (r == 0)
			r = mount_spec_mount(&spec, point, j->err);
		if (r < 0)
			return r;
		done[i].mount_point = *ret_top = point;
	}
	return 0;
}

static bool has_transform(const struct mounts *m)
{
	for (size_t i = 0; i < m->n; i++)
		if (mount_has_transform(m->v[i].type))
			return true;
	return false;
}

static int mount_all(void *arg, struct err *err)
{
	struct job *j = arg;
	struct temp_mount *m = j->mount;
	const char *top = m->dir;
	int r;

	m->ns_fd = open("/proc/thread-self/ns/mnt", O_RDONLY | O_CLOEXEC);
	if (m->ns_fd < 0)
		return err_errno(err, errno, "open mount namespace");
	r = has_transform(j->mounts) ? mount_beside(j, &top) : mount_over(j);
	if (r < 0)
		return r;
	if (!j->detach) {
		m->fd = dir_open(top, err);
		return m->fd < 0 ? m->fd : 0;
	}
	m->fd = open_tree(AT_FDCWD, top, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	return m->fd < 0 ? err_errno(err, errno, "copy the mount at `%s`", top) : 0;
}

struct ns_run {
	int (*fn)(void *arg, struct err *err);
	void *arg;
	struct err *err;
	int result;
};

static int ns_enter(struct err *err)
{
	if (unshare(CLONE_NEWNS) < 0)
		return err_errno(err, errno, "make a mount namespace");
	if (mount(NULL, "/", NULL, MS_SLAVE | MS_REC, NULL) < 0)
		return err_errno(err, errno, "make mounts private");
	return 0;
}

static void *thread_main(void *arg)
{
	struct ns_run *n = arg;

	n->result = ns_enter(n->err);
	if (n->result == 0)
		n->result = n->fn(n->arg, n->err);
	return NULL;
}

int mount_ns_run(int (*fn)(void *arg, struct err *err), void *arg, struct err *err)
{
	struct ns_run n = {.fn = fn, .arg = arg, .err = err};
	pthread_t thread;
	int r = pthread_create(&thread, NULL, thread_main, &n);

	if (r != 0)
		return err_errno(err, r, "start thread");
	pthread_join(thread, NULL);
	return n.result;
}

static int mount_somewhere(struct ctx *ctx, const struct mounts *mounts, bool detach,
			   struct temp_mount *ret, struct err *err)
{
	struct job job = {.ctx = ctx, .mounts = mounts, .mount = ret, .err = err, .detach = detach};
	const char *tmp = str_or(getenv("TMPDIR"), "/tmp");
	int r;

	r = snprintf(ret->dir, sizeof(ret->dir), "%s/containerd-mountXXXXXX", tmp);
	if (r < 0 || (size_t)r >= sizeof(ret->dir) || !mkdtemp(ret->dir)) {
		ret->dir[0] = 0;
		return err_errno(err, r >= (int)sizeof(ret->dir) ? ENAMETOOLONG : errno,
				 "make temporary directory in `%s`", tmp);
	}
	return mount_ns_run(mount_all, &job, err);
}

int temp_mount(struct ctx *ctx, const struct mounts *mounts, struct temp_mount *ret,
	       struct err *err)
{
	return mount_somewhere(ctx, mounts, false, ret, err);
}

int temp_mount_attach(struct ctx *ctx, const struct mounts *mounts, const char *target,
		      struct err *err)
{
	struct temp_mount t = TEMP_MOUNT_INIT;
	int r = mount_somewhere(ctx, mounts, true, &t, err);

	if (r == 0 && move_mount(t.fd, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		r = err_errno(err, errno, "mount at `%s`", target);
	temp_mount_done(&t);
	return r;
}

void temp_mount_done(struct temp_mount *m)
{
	fd_closep(&m->fd);
	fd_closep(&m->ns_fd);
	if (m->dir[0])
		(void)rmdir(m->dir);
	*m = TEMP_MOUNT_INIT;
}
