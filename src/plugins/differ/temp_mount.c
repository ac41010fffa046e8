/* SPDX-License-Identifier: Apache-2.0 */
/* A thread's mount namespace is separate as soon as the thread has left the one it shared; the
 * other threads stay where they are. */
#include "plugins/differ/temp_mount.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/str.h"
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
	const struct mount_spec *specs;
	size_t n;
	struct temp_mount *mount;
	struct err *err;
	int result;
};

static int job_run(struct job *j)
{
	struct temp_mount *m = j->mount;
	int r;

	if (unshare(CLONE_NEWNS) < 0)
		return err_errno(j->err, errno, "make a mount namespace");
	if (mount(NULL, "/", NULL, MS_SLAVE | MS_REC, NULL) < 0)
		return err_errno(j->err, errno, "make mounts private");
	m->ns_fd = open("/proc/thread-self/ns/mnt", O_RDONLY | O_CLOEXEC);
	if (m->ns_fd < 0)
		return err_errno(j->err, errno, "open mount namespace");
	r = mount_specs_mount(j->specs, j->n, m->dir, j->err);
	if (r < 0)
		return r;
	m->fd = dir_open(m->dir, j->err);
	return m->fd < 0 ? m->fd : 0;
}

static void *thread_main(void *arg)
{
	struct job *j = arg;

	j->result = job_run(j);
	return NULL;
}

int temp_mount(struct ctx *ctx, const struct mounts *mounts, struct temp_mount *ret,
	       struct err *err)
{
	struct mount_spec *specs = arena_new_array(ctx->arena, struct mount_spec, mounts->n + 1);
	struct job job = {.specs = specs, .n = mounts->n, .mount = ret, .err = err};
	const char *tmp = str_or(getenv("TMPDIR"), "/tmp");
	pthread_t thread;
	int r;

	if (!specs)
		return err_nomem(err);
	for (size_t i = 0; i < mounts->n; i++)
		specs[i] = (struct mount_spec){
			.type = mounts->v[i].type,
			.source = mounts->v[i].source,
			.target = mounts->v[i].target,
			.options = (char *const *)mounts->v[i].options,
			.n_options = mounts->v[i].n_options,
		};
	r = snprintf(ret->dir, sizeof(ret->dir), "%s/containerd-mountXXXXXX", tmp);
	if (r < 0 || (size_t)r >= sizeof(ret->dir) || !mkdtemp(ret->dir)) {
		ret->dir[0] = 0;
		return err_errno(err, r >= (int)sizeof(ret->dir) ? ENAMETOOLONG : errno,
				 "make temporary directory in `%s`", tmp);
	}
	r = pthread_create(&thread, NULL, thread_main, &job);
	if (r != 0)
		return err_errno(err, r, "start thread");
	pthread_join(thread, NULL);
	return job.result;
}

void temp_mount_done(struct temp_mount *m)
{
	fd_closep(&m->fd);
	fd_closep(&m->ns_fd);
	if (m->dir[0])
		(void)rmdir(m->dir);
	*m = TEMP_MOUNT_INIT;
}
