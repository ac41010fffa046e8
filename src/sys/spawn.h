/* SPDX-License-Identifier: Apache-2.0 */
/* Starting processes: the only place that forks.
 *
 * vfork-like (CLONE_VM | CLONE_VFORK | CLONE_PIDFD), nothing is allocated between fork and exec,
 * signal mask and dispositions are reset, every descriptor that is not listed is closed. Any
 * thread. */
#pragma once

#include <stdbool.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/arena.h"
#include "base/ctx.h"
#include "base/err.h"

/* What a confined child gives up, in the order in which it does. The worker finishes its jail
 * (seccomp) itself. */
struct spawn_jail {
	bool mount_ns, net_ns, pid_ns, ipc_ns, uts_ns; /* new namespaces (unshare in the child) */
	int root_fd;  /* directory to chroot into (fchdir + chroot "."), -1 = none */
	bool set_ids; /* setgroups(0), setresgid, setresuid */
	uid_t uid;
	gid_t gid;
	uint64_t keep_caps; /* capabilities kept in all sets, as a bit mask; others leave the
			       bounding set too */
	bool drop_caps;	    /* apply keep_caps */
	bool no_new_privs;
};

struct spawn_options {
	const char *
		path; /* absolute, or a name looked up in the PATH of @env (else of this process) */
	char *const *argv;
	char *const *env;		    /* NULL = this process's */
	const char *cwd;		    /* NULL = inherited */
	int stdin_fd, stdout_fd, stderr_fd; /* -1 = /dev/null */
	const int *fds;			    /* become 3, 4, ... in the child */
	size_t nfds;
	bool new_pgroup, new_session;
	int ctty_fd;   /* becomes the controlling terminal; needs new_session; -1 = none. 0 is not
			  valid here */
	int pdeathsig; /* 0 = none */
	const struct spawn_jail *jail; /* NULL = none */
	int exec_fd;		       /* execveat of this instead of path when >= 0 (set -1) */
	int cgroup_fd;		       /* CLONE_INTO_CGROUP (v2) when >= 0; -1 = none */
	const struct ctx *ctx;	       /* of spawn_run(); NULL = none */
};

#define SPAWN_OPTIONS_INIT                       \
	((struct spawn_options){.stdin_fd = -1,  \
				.stdout_fd = -1, \
				.stderr_fd = -1, \
				.ctty_fd = -1,   \
				.exec_fd = -1,   \
				.cgroup_fd = -1})

/* Starts; an exec that fails is reported here (-ERR_NOT_FOUND `start "x": executable file not found
 * in $PATH`...).
 * *@ret_pidfd is close-on-exec and the caller's (may be NULL: then the caller reaps by pid). */
int spawn(const struct spawn_options *o, pid_t *ret_pid, int *ret_pidfd,
	  struct err *err) _must_check_;

/* Runs to the end: feeds @in (may be NULL) to its standard input, collects at most @max bytes of
 * standard output and error (together when @ret_err is NULL) into the arena; kills it, and its
 * process group when it has its own, at the deadline (monotonic ns, 0 = none), or 2 s after ctx is
 * over: what is about to end may do so, and be undone in order.
 * *@ret_status is what waitid gave as for WIFEXITED: exit code, or 128 + signal. */
int spawn_run(struct arena *a, const struct spawn_options *o, const void *in, size_t in_len,
	      size_t max, int64_t deadline, char **ret_out, size_t *ret_out_len, char **ret_err,
	      int *ret_status, struct err *err) _must_check_;

/* Waits for @pidfd; exit code or 128 + signal; -errno. */
int pidfd_wait(int pidfd);
int pidfd_kill(int pidfd, int sig);
/* Exit code or 128 + signal out of siginfo. */
int siginfo_status(const siginfo_t *si);

/* Absolute path of this executable's directory in the arena. */
char *self_exe_dir(struct arena *a);
