/* SPDX-License-Identifier: Apache-2.0 */
/* The wait that comes with moving a process into a cgroup, taken beforehand.
 *
 * The kernel guards such a move with a lock for which the first comer waits for a grace period of
 * RCU, 6 to 20 ms; who comes while that one is at it, or soon after, does not wait again. A process
 * that moves into the group where it is already takes the lock like any other, and changes nothing.
 *
 * A daemon must not do that, since it would undo what somebody else does with it at that moment. It
 * moves a child that has ended, which takes the lock too, and which the kernel leaves where it is.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "sys/cgroup.h"

#define STACK_SIZE (16u << 10)

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

int cgroup_procs_open(void)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	struct cgroup_dirs dirs;
	const char *dir;
	char *text, *path;
	int fd, r = a ? cgroup_text_read(a, getpid(), &text) : -ENOMEM;

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
	return fd < 0 ? -errno : fd;
}

int cgroup_attach_self(void)
{
	_cleanup_close_ int fd = cgroup_procs_open();

	if (fd < 0)
		return fd;
	return write(fd, "0", 1) < 0 ? -errno : 0;
}

/* ---- a child that has ended ---- */

static int end_at_once(void *arg)
{
	return 0;
}

/* It shares our memory for as long as it lives, which is over when this returns: its pid is what is
 * left of it. Nobody is told of its end, and only who asks for such children by name waits for
 * it. */
static pid_t dead_child(void)
{
	_Alignas(16) char stack[STACK_SIZE];
	sigset_t all, old;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pid_t pid = clone(end_at_once, stack + sizeof(stack), CLONE_VM | CLONE_VFORK, NULL);
	int saved = errno;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return pid < 0 ? -saved : pid;
}

int cgroup_attach_dead(int procs_fd)
{
	pid_t pid = dead_child();
	char text[16];
	int n, r;

	if (pid < 0)
		return pid;
	n = snprintf(text, sizeof(text), "%d", (int)pid);
	r = write(procs_fd, text, (size_t)n) < 0 ? -errno : 0;
	while (waitid(P_PID, (id_t)pid, NULL, WEXITED | __WALL) < 0 && errno == EINTR)
		;
	return r;
}

/* ---- in a thread ---- */

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
