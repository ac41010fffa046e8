/* SPDX-License-Identifier: Apache-2.0 */
/* The wait that comes with moving a process into a cgroup, taken beforehand.
 *
 * The kernel guards such a move with a lock for which the first comer waits for a grace period of
 * RCU, 6 to 20 ms; who comes while that one is at it, or soon after, does not wait again. A process
 * that moves into the group where it is already takes the lock like any other, and changes nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "sys/cgroup.h"

/* Any hierarchy will do: they share the lock. */
static const char *any_dir(const struct cgroup_dirs *d)
{
	static const enum cgroup_controller plain[] = {CGROUP_PIDS, CGROUP_BLKIO, CGROUP_MEMORY,
						       CGROUP_CPUACCT};

	if (d->unified)
		return d->dir;
	for (size_t i = 0; i < sizeof(plain) / sizeof(*plain); i++)
		if (d->v1[plain[i]])
			return d->v1[plain[i]];
	return NULL;
}

int cgroup_attach_self(void)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	_cleanup_close_ int fd = -1;
	struct cgroup_dirs dirs;
	const char *dir;
	char *text, *path;
	int r = a ? cgroup_text_read(a, getpid(), &text) : -ENOMEM;

	if (r == 0)
		r = cgroup_dirs_find(a, text, &dirs);
	if (r < 0)
		return r;
	dir = any_dir(&dirs);
	if (!dir)
		return -ENOENT;
	path = arena_printf(a, "%s/cgroup.procs", dir);
	if (!path)
		return -ENOMEM;
	fd = open(path, O_WRONLY | O_CLOEXEC);
	return fd < 0 || write(fd, "0", 1) < 0 ? -errno : 0;
}

static void *attach_thread(void *arg)
{
	/* Who may not, or has no cgroups, waits later. */
	(void)!cgroup_attach_self();
	return NULL;
}

void cgroup_attach_ahead(void)
{
	sigset_t all, old;
	pthread_attr_t attr;
	pthread_t thread;

	if (pthread_attr_init(&attr) != 0)
		return;
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	(void)!pthread_create(&thread, &attr, attach_thread, NULL);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
}
