/* SPDX-License-Identifier: Apache-2.0 */
/* Starting processes: see spawn.h.
 *
 * The child shares our memory until it execs (CLONE_VM | CLONE_VFORK), so it makes system calls
 * only and writes nothing but its own frame and the struct that tells why it failed. All signals
 * are blocked around the clone, so that no handler of ours runs in there.
 */
#include "sys/spawn.h"

#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <poll.h>
#include <sanitizer/asan_interface.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "base/str.h"
#include "base/time.h"

#define STACK_SIZE (64u << 10)
#define FDS_MAX 128
#define DRAIN_ROUNDS 512 /* reads: more than pipes hold by default */

extern char **environ;

struct child {
	const struct spawn_options *o;
	const char *path;
	char *const *env;
	int null_fd;
	int fds[FDS_MAX]; /* moved out of the way of 0..nfds+2 */
	size_t nfds;
	int exec_fd, root_fd; /* likewise */
	pid_t parent;
	/* what the child tells */
	int error;
	const char *step;
};

static int fail(struct child *c, const char *step)
{
	c->error = errno ? errno : EINVAL;
	c->step = step;
	return 127;
}

static int move_fd(int fd, int base)
{
	return fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, base);
}

static int setup_fds(struct child *c)
{
	/* Copies above the range first, so that no target overwrites a source. */
	int base = 3 + (int)c->o->nfds;
	int want[3] = {c->o->stdin_fd, c->o->stdout_fd, c->o->stderr_fd};
	for (size_t i = 0; i < c->nfds; i++) {
		int from = i < 3 ? (want[i] < 0 ? c->null_fd : want[i]) : c->o->fds[i - 3];
		c->fds[i] = fcntl(from, F_DUPFD, base);
		if (c->fds[i] < 0)
			return -1;
	}
	c->exec_fd = move_fd(c->o->exec_fd, base);
	c->root_fd = move_fd(c->o->jail ? c->o->jail->root_fd : -1, base);
	if ((c->o->exec_fd >= 0 && c->exec_fd < 0) ||
	    (c->o->jail && c->o->jail->root_fd >= 0 && c->root_fd < 0))
		return -1;
	for (size_t i = 0; i < c->nfds; i++)
		if (dup2(c->fds[i], (int)i) < 0)
			return -1;
	return (int)syscall(SYS_close_range, (unsigned int)c->nfds, ~0U, CLOSE_RANGE_CLOEXEC);
}

/* Before the change of ids, which takes the capability that this needs. Who has it not cannot:
 * EPERM. */
static int drop_bounding(uint64_t keep)
{
	for (int cap = 0; cap < 64; cap++) {
		if (keep >> cap & 1)
			continue;
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0) {
			if (errno == EINVAL)
				break; /* beyond the last capability */
			if (errno != EPERM)
				return -1;
		}
	}
	return 0;
}

static int set_caps(uint64_t keep)
{
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct d[2];
	for (int i = 0; i < 2; i++) {
		uint32_t bits = (uint32_t)(keep >> (32 * i));
		d[i] = (struct __user_cap_data_struct){
			.effective = bits, .permitted = bits, .inheritable = bits};
	}
	if (syscall(SYS_capset, &h, d) < 0)
		return -1;
	/* Without these a user other than root would lose them in the exec. */
	for (int cap = 0; cap < 64; cap++)
		if (keep >> cap & 1 && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0) < 0)
			return -1;
	return 0;
}

static int setup_jail(struct child *c, const struct spawn_jail *j)
{
	int ns = (j->mount_ns ? CLONE_NEWNS : 0) | (j->net_ns ? CLONE_NEWNET : 0) |
		 (j->ipc_ns ? CLONE_NEWIPC : 0) | (j->uts_ns ? CLONE_NEWUTS : 0) |
		 (j->pid_ns ? CLONE_NEWPID : 0);
	if (ns && unshare(ns) < 0)
		return fail(c, "unshare");
	if (c->root_fd >= 0 && (fchdir(c->root_fd) < 0 || chroot(".") < 0))
		return fail(c, "chroot");
	if (j->drop_caps && drop_bounding(j->keep_caps) < 0)
		return fail(c, "drop capabilities");
	if (j->set_ids) {
		if (j->drop_caps && j->keep_caps && prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
			return fail(c, "keep capabilities");
		/* The raw calls: glibc's would tell the other threads, which are not ours to
		 * change. */
		if (syscall(SYS_setgroups, 0, NULL) < 0 ||
		    syscall(SYS_setresgid, j->gid, j->gid, j->gid) < 0 ||
		    syscall(SYS_setresuid, j->uid, j->uid, j->uid) < 0)
			return fail(c, "set user and group");
	}
	if (j->drop_caps && set_caps(j->keep_caps) < 0)
		return fail(c, "drop capabilities");
	if (j->no_new_privs && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return fail(c, "set no_new_privs");
	return 0;
}

static void reset_signals(void)
{
	struct sigaction dfl = {.sa_handler = SIG_DFL};
	for (int s = 1; s < NSIG; s++)
		sigaction(s, &dfl, NULL); /* those that cannot be changed need not be */
}

static int run_child(void *arg)
{
	struct child *c = arg;
	const struct spawn_options *o = c->o;
	sigset_t none;
	reset_signals();
	if (o->new_session) {
		if (setsid() < 0)
			return fail(c, "setsid");
	} else if (o->new_pgroup && setpgid(0, 0) < 0) {
		return fail(c, "setpgid");
	}
	if (o->ctty_fd > 0 && ioctl(o->ctty_fd, TIOCSCTTY, 0) < 0)
		return fail(c, "set controlling terminal");
	if (o->cwd && chdir(o->cwd) < 0)
		return fail(c, "change directory");
	if (setup_fds(c) < 0)
		return fail(c, "set up descriptors");
	if (o->jail) {
		int r = setup_jail(c, o->jail);
		if (r)
			return r;
	}
	/* After the change of ids, which would clear it. */
	if (o->pdeathsig && (prctl(PR_SET_PDEATHSIG, o->pdeathsig) < 0 || getppid() != c->parent))
		return fail(c, "set parent death signal");
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (o->exec_fd >= 0)
		syscall(SYS_execveat, c->exec_fd, "", o->argv, c->env, AT_EMPTY_PATH);
	else
		execve(c->path, o->argv, c->env);
	return fail(c, NULL);
}

static const char *env_path(char *const *env)
{
	for (; env && *env; env++) {
		const char *p = str_skip(*env, "PATH=");
		if (p)
			return p;
	}
	return "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
}

/* Finds @name in PATH; empty entries, which mean the working directory, are skipped. */
static int find_program(const char *name, char *const *env, char out[PATH_MAX])
{
	if (strchr(name, '/')) {
		if (strlen(name) >= PATH_MAX)
			return -ENAMETOOLONG;
		strcpy(out, name);
		return 0;
	}
	int found = -ENOENT;
	for (const char *p = env_path(env); *p;) {
		size_t n = strcspn(p, ":");
		if (n && (size_t)snprintf(out, PATH_MAX, "%.*s/%s", (int)n, p, name) < PATH_MAX) {
			if (access(out, X_OK) == 0)
				return 0;
			if (errno == EACCES)
				found = -EACCES;
		}
		p += n + (p[n] == ':');
	}
	return found;
}

static pid_t start(struct child *c, int *pidfd)
{
	char *stack = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	if (stack == MAP_FAILED)
		return -1;
	sigset_t all, old;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int flags = CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD;
	pid_t pid = clone(run_child, stack + STACK_SIZE, flags, c, pidfd);
	int saved = errno;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	/* The child left its frames by exec: their marks must not meet the next user of these
	 * addresses. */
	ASAN_UNPOISON_MEMORY_REGION(stack, STACK_SIZE);
	munmap(stack, STACK_SIZE);
	errno = saved;
	return pid;
}

/* A cgroup is joined by the parent, right after the start: the v2 way through clone3 needs a
 * stack-switching trampoline of its own. */
static void join_cgroup(int cgroup_fd, pid_t pid)
{
	_cleanup_close_ int fd = openat(cgroup_fd, "cgroup.procs", O_WRONLY | O_CLOEXEC);
	if (fd >= 0)
		dprintf(fd, "%d", (int)pid);
}

int spawn(const struct spawn_options *o, pid_t *ret_pid, int *ret_pidfd, struct err *err)
{
	char path[PATH_MAX] = "";
	_cleanup_close_ int null_fd = -1, pidfd = -1;
	struct child c = {
		.o = o, .path = path, .env = o->env ? o->env : environ, .parent = getpid()};
	if (o->nfds + 3 > FDS_MAX)
		return err_set(err, ERR_INVALID_ARGUMENT, "start \"%s\": too many descriptors",
			       o->path);
	c.nfds = o->nfds + 3;
	if (o->exec_fd < 0) {
		int r = find_program(o->path, c.env, path);
		if (r == -ENOENT)
			return err_set(err, ERR_NOT_FOUND,
				       "start \"%s\": executable file not found in $PATH", o->path);
		if (r < 0)
			return err_errno(err, r, "start \"%s\"", o->path);
	}
	null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null_fd < 0)
		return err_errno(err, errno, "open /dev/null");
	c.null_fd = null_fd;
	pid_t pid = start(&c, &pidfd);
	if (pid < 0)
		return err_errno(err, errno, "start \"%s\"", o->path);
	if (c.error) {
		waitid(P_PID, (id_t)pid, NULL, WEXITED);
		if (c.step)
			return err_errno(err, c.error, "start \"%s\": %s", o->path, c.step);
		return err_errno(err, c.error, "start \"%s\"", o->path);
	}
	if (o->cgroup_fd >= 0)
		join_cgroup(o->cgroup_fd, pid);
	if (ret_pid)
		*ret_pid = pid;
	if (ret_pidfd)
		*ret_pidfd = TAKE_FD(pidfd);
	return 0;
}

int siginfo_status(const siginfo_t *si)
{
	return si->si_code == CLD_EXITED ? si->si_status : 128 + si->si_status;
}

int pidfd_wait(int pidfd)
{
	siginfo_t si = {0};
	while (waitid(P_PIDFD, (id_t)pidfd, &si, WEXITED) < 0)
		if (errno != EINTR)
			return -errno;
	return siginfo_status(&si);
}

int pidfd_kill(int pidfd, int sig)
{
	return syscall(SYS_pidfd_send_signal, pidfd, sig, NULL, 0) < 0 ? -errno : 0;
}

/* ---- spawn_run ---- */

#define CTX_TICK_MS 100 /* how late a cancellation may be noticed */
#define CTX_GRACE_NS (2 * NSEC_PER_SEC)

struct run {
	int in, out, err, pidfd;
	pid_t group; /* 0 = none of its own */
	const struct ctx *ctx;
	int64_t give_up; /* when ctx is over */
	const char *in_data;
	size_t in_left, max;
	struct buf out_buf, err_buf;
};

static void run_done(struct run *r)
{
	fd_closep(&r->in);
	fd_closep(&r->out);
	fd_closep(&r->err);
	if (r->pidfd >= 0) {
		/* Not reaped yet: the number is still its own. */
		if (r->group > 0)
			kill(-r->group, SIGKILL);
		pidfd_kill(r->pidfd, SIGKILL);
		pidfd_wait(r->pidfd);
		close(r->pidfd);
	}
	buf_done(&r->out_buf);
	buf_done(&r->err_buf);
}

/* What is over @max is read and dropped, so that the child does not hang on a full pipe. */
static void run_read(int *fd, struct buf *b, size_t max)
{
	char chunk[4096];
	ssize_t n = read(*fd, chunk, sizeof(chunk));
	if (n > 0)
		buf_add(b, chunk, MIN((size_t)n, max - MIN(max, b->len)));
	else if (n == 0 || (errno != EINTR && errno != EAGAIN)) {
		close(*fd);
		*fd = -1;
	}
}

static void run_write(struct run *r)
{
	ssize_t n = r->in_left ? write(r->in, r->in_data, r->in_left) : 0;
	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n > 0) {
		r->in_data += n;
		r->in_left -= (size_t)n;
	}
	if (n < 0 || r->in_left == 0) {
		close(r->in);
		r->in = -1;
	}
}

/* Until the process has ended and its output is drained. A grandchild that keeps the pipes open, or
 * goes on writing, does not hold us up. */
static int run_pump(struct run *r, int64_t deadline, const char *name, struct err *err)
{
	size_t rounds = 0; /* since it has ended */
	for (bool ended = false; rounds < DRAIN_ROUNDS; rounds += ended) {
		struct pollfd p[4] = {{.fd = r->in, .events = POLLOUT},
				      {.fd = r->out, .events = POLLIN},
				      {.fd = r->err, .events = POLLIN},
				      {.fd = ended ? -1 : r->pidfd, .events = POLLIN}};
		int ms = r->ctx ? CTX_TICK_MS : -1;
		if (r->ctx && ctx_check(r->ctx, NULL) < 0 && !r->give_up)
			r->give_up = time_mono() + CTX_GRACE_NS;
		if (r->give_up && time_mono() >= r->give_up && ctx_check(r->ctx, err) < 0)
			return err_prefix(err, "run \"%s\"", name);
		if (deadline) {
			int64_t left = deadline - time_mono();
			if (left <= 0)
				return err_set(err, ERR_DEADLINE_EXCEEDED, "run \"%s\"", name);
			left = left / NSEC_PER_MSEC + 1;
			ms = (int)MIN(left, ms < 0 ? (int64_t)INT_MAX : (int64_t)ms);
		}
		if (ended)
			ms = 0;
		int n = poll(p, 4, ms);
		if (n < 0 && errno != EINTR)
			return err_errno(err, errno, "run \"%s\": poll", name);
		if (n <= 0) {
			if (n == 0 && ended)
				return 0;
			continue;
		}
		if (p[0].revents)
			run_write(r);
		if (p[1].revents)
			run_read(&r->out, &r->out_buf, r->max);
		if (p[2].revents)
			run_read(&r->err, &r->err_buf, r->max);
		if (p[3].revents)
			ended = true;
		if (ended && r->out < 0 && r->err < 0)
			return 0;
	}
	return 0;
}

static int pipe_pair(int *ours, int *theirs, bool we_write)
{
	int p[2];
	if (pipe2(p, O_CLOEXEC) < 0)
		return -errno;
	*ours = p[we_write];
	*theirs = p[!we_write];
	return fd_set_nonblock(*ours, true);
}

static int run_start(struct run *r, const struct spawn_options *o, bool with_in, bool own_err,
		     struct err *err)
{
	_cleanup_close_ int in = -1, out = -1, errfd = -1;
	struct spawn_options opts = *o;
	int e = with_in ? pipe_pair(&r->in, &in, true) : 0;
	if (e == 0)
		e = pipe_pair(&r->out, &out, false);
	if (e == 0 && own_err)
		e = pipe_pair(&r->err, &errfd, false);
	if (e < 0)
		return err_errno(err, e, "start \"%s\": pipe", o->path);
	if (with_in)
		opts.stdin_fd = in;
	opts.stdout_fd = out;
	opts.stderr_fd = own_err ? errfd : out;
	pid_t pid;
	e = spawn(&opts, &pid, &r->pidfd, err);
	if (e == 0 && (opts.new_pgroup || opts.new_session))
		r->group = pid;
	return e;
}

int spawn_run(struct arena *a, const struct spawn_options *o, const void *in, size_t in_len,
	      size_t max, int64_t deadline, char **ret_out, size_t *ret_out_len, char **ret_err,
	      int *ret_status, struct err *err)
{
	_cleanup_(run_done) struct run r = {.in = -1,
					    .out = -1,
					    .err = -1,
					    .pidfd = -1,
					    .in_data = in,
					    .in_left = in_len,
					    .ctx = o->ctx,
					    .max = max};
	int e = run_start(&r, o, in != NULL, ret_err != NULL, err);
	if (e < 0)
		return e;
	e = run_pump(&r, deadline, o->path, err);
	if (e < 0)
		return e;
	int status = pidfd_wait(r.pidfd);
	close(r.pidfd);
	r.pidfd = -1;
	if (status < 0)
		return err_errno(err, status, "wait for \"%s\"", o->path);
	char *out = arena_alloc(a, r.out_buf.len + 1);
	char *errs = arena_alloc(a, r.err_buf.len + 1);
	if (!out || !errs)
		return err_nomem(err);
	memcpy(out, r.out_buf.data ? r.out_buf.data : "", r.out_buf.len + 1);
	memcpy(errs, r.err_buf.data ? r.err_buf.data : "", r.err_buf.len + 1);
	if (ret_out)
		*ret_out = out;
	if (ret_out_len)
		*ret_out_len = r.out_buf.len;
	if (ret_err)
		*ret_err = errs;
	*ret_status = status;
	return 0;
}

char *self_exe_dir(struct arena *a)
{
	char path[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
	if (n <= 0)
		return NULL;
	path[n] = 0;
	char *slash = strrchr(path, '/');
	if (!slash)
		return NULL;
	*slash = 0;
	return arena_strdup(a, path);
}
