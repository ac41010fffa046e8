/* SPDX-License-Identifier: Apache-2.0 */
/* `start`: makes the socket, becomes the server in a forked child, and answers the daemon.
 *
 * The child does not exec: it is this program already, and what it has touched so far is little.
 * The socket listens before the answer is written, so the daemon's first call waits in the backlog
 * at worst. Nothing but the answer goes to standard output and error, which the daemon reads
 * together up to their end: the server holds neither.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "shim/bootstrap.h"
#include "shim/bundle.h"
#include "shim/options.h"
#include "shim/shim.h"
#include "sys/cgroup.h"

#define STDIN_MAX (4u << 20)
#define LISTEN_FD 3

/* A pod's containers share the shim of the pod. */
static int group_find(const struct bootstrap *b, char *out, size_t cap, struct err *err)
{
	static const char *const keys[] = {"io.containerd.runc.v2.group",
					   "io.kubernetes.cri.sandbox-id", NULL};
	int r = bundle_annotation(".", keys, out, cap);

	if (r < 0 && r != -ENOENT) /* a sandbox may have none */
		return err_errno(err, r, "read config.json");
	if (r <= 0 || !*out)
		snprintf(out, cap, "%s", b->id);
	return 0;
}

/* -EADDRINUSE: another shim of the group serves there. The lock keeps two shims that start at once
 * from removing each other's socket. */
static int socket_listen(const struct bootstrap *b, const char *path, int *ret_fd)
{
	int r = mkdir_p(b->socket_dir, 0700);

	if (r < 0 && r != -EEXIST)
		return r;

	_cleanup_close_ int dir = open(b->socket_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (dir < 0 || flock(dir, LOCK_EX) < 0)
		return -errno;
	return unix_listen(path, geteuid(), getegid(), 0600, ret_fd);
}

static bool is_true(const char *s)
{
	return !str_empty(s) && !streq(s, "0") && strcasecmp(s, "false") != 0 &&
	       strcasecmp(s, "f") != 0;
}

/* Descriptors of the server: null, null, the bundle's log, the socket; nothing else. */
static int descriptors_setup(int listen_fd)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC),
	    log = open("log", O_WRONLY | O_NONBLOCK | O_CLOEXEC);

	if (null < 0)
		return -errno;
	/* Out of the way of the numbers to be set. */
	listen_fd = fcntl(listen_fd, F_DUPFD_CLOEXEC, 10);
	null = fcntl(null, F_DUPFD_CLOEXEC, 10);
	log = log < 0 ? null : fcntl(log, F_DUPFD_CLOEXEC, 10);
	if (listen_fd < 0 || null < 0 || log < 0)
		return -errno;
	if (dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(log, 2) < 0 ||
	    dup3(listen_fd, LISTEN_FD, O_CLOEXEC) < 0)
		return -errno;
	if (syscall(SYS_close_range, LISTEN_FD + 1, ~0U, 0) < 0)
		for (int fd = LISTEN_FD + 1; fd < 1024; fd++)
			close(fd);
	return 0;
}

static _noreturn_ void server_become(const struct shim_args *args, const struct bootstrap *b,
				     const char *binary, int listen_fd, const char *socket_path)
{
	static const char *const not_for_runtimes[] = {"NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID",
						       "LISTEN_FDNAMES"};
	struct server_options o = {
		.listen_fd = LISTEN_FD,
		.ns = b->ns,
		.id = b->id,
		.ttrpc_address = b->ttrpc_address,
		.socket_path = socket_path,
		.binary = binary,
	};

	setpgid(0, 0);
	if (descriptors_setup(listen_fd) < 0)
		_exit(1);
	for (size_t i = 0; i < ARRAY_LEN(not_for_runtimes); i++)
		unsetenv(not_for_runtimes[i]);
	if (is_true(getenv("SCHED_CORE")) &&
	    prctl(PR_SCHED_CORE, PR_SCHED_CORE_CREATE, 0, PR_SCHED_CORE_SCOPE_PROCESS_GROUP, 0) < 0)
		log_warn("core scheduling: %s", strerror(errno));
	/* In a list of processes the server does not look like a start that hangs. */
	memset((char *)args->action, 0, strlen(args->action));
	log_setup(b->log_level, false);
	if (chdir("/") < 0)
		log_warn("change to /: %s", strerror(errno));
	exit(server_run(&o) < 0 ? 1 : 0);
}

/* One more than the daemon's, so that the kernel takes shims first; not being allowed to is fine.
 */
static void oom_score_set(pid_t pid)
{
	char path[64], text[32] = "";
	int64_t score;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", (int)getppid());

	_cleanup_close_ int in = open(path, O_RDONLY | O_CLOEXEC);

	n = in < 0 ? -1 : read(in, text, sizeof(text) - 1);
	if (n <= 0)
		return;
	text[strcspn(text, "\n")] = '\0';
	if (str_to_i64(text, 10, &score) < 0)
		return;
	score = MIN(score + 1, 1000);
	snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", (int)pid);

	_cleanup_close_ int out = open(path, O_WRONLY | O_CLOEXEC);

	n = snprintf(text, sizeof(text), "%d", (int)score);
	if (out >= 0 && write(out, text, (size_t)n) < 0)
		return; /* see above */
}

static int server_place(struct arena *a, const char *cgroup, pid_t pid, struct err *err)
{
	int r = *cgroup ? cgroup_join(a, cgroup, pid) : 0;

	if (r < 0)
		return err_errno(err, r, "failed to join cgroup %s", cgroup);
	oom_score_set(pid);
	return 0;
}

/* Files that a daemon finds in the bundle: 1.x reads the address, 2.3 follows the link to the
 * sockets. */
static int bundle_note(const struct bootstrap *b, const struct buf *answer, struct err *err)
{
	int r = 0;

	if (!b->current)
		r = file_write_atomic(AT_FDCWD, "address", answer->data, answer->len, 0644, false);
	else if (b->socket_dir_given && symlink(b->socket_dir, "s") < 0 && errno != EEXIST)
		r = -errno;
	return r < 0 ? err_errno(err, r, "write into the bundle") : 0;
}

static void server_undo(pid_t pid, const char *socket_path)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	unlink(socket_path);
}

/* *@ret_pid stays 0 when the group's shim is there already. */
static int server_start(struct arena *a, const struct shim_args *args, const struct bootstrap *b,
			const char *socket_path, pid_t *ret_pid, struct err *err)
{
	Containerd__Runc__V1__Options *o;
	_cleanup_close_ int fd = -1;
	pid_t pid;
	int r = options_unpack(a, b->options, &o, err);

	if (r < 0)
		return r;
	r = socket_listen(b, socket_path, &fd);
	if (r == -EADDRINUSE)
		return 0;
	if (r < 0)
		return err_errno(err, r, "listen on `%s`", socket_path);
	pid = fork();
	if (pid < 0) {
		r = err_errno(err, errno, "fork");
		unlink(socket_path);
		return r;
	}
	if (pid == 0)
		server_become(args, b, o->binary_name, TAKE_FD(fd), socket_path);
	r = server_place(a, o->shim_cgroup, pid, err);
	if (r < 0)
		server_undo(pid, socket_path);
	else
		*ret_pid = pid;
	return r;
}

/* A daemon that does not live to read the answer leaves no shim behind. */
static int answer(const struct buf *text, pid_t pid, const char *socket_path, struct err *err)
{
	int r;

	signal(SIGPIPE, SIG_IGN);
	r = fd_write_full(1, text->data, text->len);
	if (r < 0 && pid)
		server_undo(pid, socket_path);
	return r < 0 ? err_errno(err, r, "write the answer") : 0;
}

int action_start(const struct shim_args *args, struct err *err)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	_cleanup_buf_ struct buf text = BUF_INIT;
	char group[512], socket_path[SOCKET_PATH_MAX + 1];
	struct bootstrap b;
	char *in = NULL;
	size_t n = 0;
	pid_t pid = 0;
	int r;

	if (!a)
		return err_nomem(err);
	r = fd_read_all(a, 0, STDIN_MAX, &in, &n);
	if (r < 0)
		return err_errno(err, r, "read standard input");
	r = bootstrap_parse(a, args, in, n, getenv("TTRPC_ADDRESS"), getenv("GRPC_ADDRESS"), &b,
			    err);
	if (r == 0)
		r = group_find(&b, group, sizeof(group), err);
	if (r == 0)
		r = bootstrap_socket_path(&b, group, socket_path, err);
	if (r < 0)
		return r;
	if (bootstrap_answer(&b, socket_path, &text) < 0)
		return err_nomem(err);
	r = bundle_note(&b, &text, err);
	if (r == 0)
		r = server_start(a, args, &b, socket_path, &pid, err);
	return r < 0 ? r : answer(&text, pid, socket_path, err);
}
