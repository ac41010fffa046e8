/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"
#include "shim/jscan.h"
#include "shim/sealed.h"
#include "sys/spawn.h"

#define ARGS_MAX 64
#define LOG_TAIL_MAX (64u << 10)

static bool in_path(const char *name, char file[PATH_MAX])
{
	const char *path = str_or(getenv("PATH"),
				  "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");

	while (*path) {
		size_t n = strcspn(path, ":");

		if (n > 0 && snprintf(file, PATH_MAX, "%.*s/%s", (int)n, path, name) < PATH_MAX &&
		    access(file, X_OK) == 0)
			return true;
		path += n;
		path += *path == ':';
	}
	return false;
}

static const char *program_name(const char *binary)
{
	char file[PATH_MAX];

	if (*binary)
		return binary;
	return !in_path("runc", file) && in_path("crun", file) ? "crun" : "runc";
}

const char *runtime_program(const struct runtime *rt)
{
	return program_name(rt->binary);
}

/* Where execvp() would find it, NULL = nowhere. */
static const char *program_path(const char *name, char found[PATH_MAX])
{
	return strchr(name, '/') ? name : in_path(name, found) ? found : NULL;
}

void runtime_ahead(const char *binary, struct sealed *ret)
{
	char found[PATH_MAX];
	const char *path = program_path(program_name(binary), found);

	if (path && sealed_get(ret, path) < 0)
		return; /* the start will see why */
}

int runtime_init(struct runtime *rt, const char *ns, const char *bundle, const char *binary,
		 const char *root, bool systemd_cgroup)
{
	struct runtime x = {.binary = strdup(binary ? binary : ""),
			    .systemd_cgroup = systemd_cgroup};

	if (asprintf(&x.root, "%s/%s", str_or(root, RUNTIME_ROOT_DEFAULT), ns) < 0)
		x.root = NULL;
	if (asprintf(&x.log, "%s/log.json", bundle) < 0)
		x.log = NULL;
	if (!x.binary || !x.root || !x.log) {
		runtime_done(&x);
		return -ENOMEM;
	}
	*rt = x;
	return 0;
}

void runtime_done(struct runtime *rt)
{
	free(rt->binary);
	free(rt->root);
	free(rt->log);
	sealed_drop(&rt->program);
	*rt = (struct runtime){NULL};
}

void runtime_trim(struct runtime *rt)
{
	sealed_drop(&rt->program);
}

static int argv_build(const struct runtime *rt, const char *const *args, const char *argv[ARGS_MAX],
		      struct err *err)
{
	size_t n = 0;

	argv[n++] = runtime_program(rt);
	argv[n++] = "--root";
	argv[n++] = rt->root;
	argv[n++] = "--log";
	argv[n++] = rt->log;
	argv[n++] = "--log-format";
	argv[n++] = "json";
	if (rt->systemd_cgroup)
		argv[n++] = "--systemd-cgroup";
	for (; *args; args++) {
		if (n == ARGS_MAX - 1)
			return err_set(err, ERR_INVALID_ARGUMENT,
				       "too many arguments for the OCI runtime");
		argv[n++] = *args;
	}
	argv[n] = NULL;
	return 0;
}

struct run {
	struct reaper *reaper;
	struct reaper_watch watch;
	struct runtime_result res;
	runtime_fn fn;
	void *arg;
};

static void run_ended(void *arg, int status, struct timespec at)
{
	struct run *run = arg;

	run->res.status = status;
	run->fn(run->arg, &run->res);
	if (run->res.out_fd >= 0)
		close(run->res.out_fd);
	free(run);
}

static int memory_file(const char *name, const void *p, size_t n)
{
	_cleanup_close_ int fd = memfd_create(name, MFD_CLOEXEC);
	int r;

	if (fd < 0)
		return -errno;
	r = n ? fd_write_full(fd, p, n) : 0;
	if (r < 0)
		return r;
	if (n && lseek(fd, 0, SEEK_SET) < 0)
		return -errno;
	return TAKE_FD(fd);
}

static off_t log_size(const struct runtime *rt)
{
	struct stat st;

	return stat(rt->log, &st) < 0 ? 0 : st.st_size;
}

/* From a sealed copy where that helps; whatever comes in the way of that, from its file. */
static int program_spawn(struct runtime *rt, struct spawn_options *o, pid_t *ret_pid,
			 struct err *err)
{
	char found[PATH_MAX];
	const char *path = program_path(o->path, found);
	int fd = path ? sealed_get(&rt->program, path) : -1;

	if (fd >= 0) {
		o->exec_fd = fd;
		if (spawn(o, ret_pid, NULL, NULL) == 0)
			return 0;
		o->exec_fd = -1;
	}
	return spawn(o, ret_pid, NULL, err);
}

static int run_spawn(struct run *run, struct runtime *rt, const struct runtime_io *io,
		     const char *const *args, struct err *err)
{
	const char *argv[ARGS_MAX];
	struct spawn_options o = SPAWN_OPTIONS_INIT;
	_cleanup_close_ int in = -1;
	pid_t pid;
	int r = argv_build(rt, args, argv, err);

	if (r < 0)
		return r;
	if (io->in) {
		in = memory_file("stdin", io->in, io->in_len);
		if (in < 0)
			return err_errno(err, in, "standard input of the OCI runtime");
	}
	if (io->capture) {
		run->res.out_fd = memory_file("stdout", NULL, 0);
		if (run->res.out_fd < 0)
			return err_errno(err, run->res.out_fd,
					 "standard output of the OCI runtime");
	}
	o.path = argv[0];
	o.argv = (char *const *)argv;
	o.stdin_fd = io->in ? in : io->fds[0];
	o.stdout_fd = io->capture ? run->res.out_fd : io->fds[1];
	o.stderr_fd = io->fds[2];
	o.pdeathsig = SIGKILL;
	r = program_spawn(rt, &o, &pid, err);
	if (r < 0)
		return r;
	reaper_watch(run->reaper, &run->watch, pid, run_ended, run);
	return 0;
}

int runtime_start(struct reaper *r, struct runtime *rt, const struct runtime_io *io,
		  const char *const *args, runtime_fn fn, void *arg, struct err *err)
{
	struct run *run = calloc(1, sizeof(*run));
	int e;

	if (!run)
		return err_nomem(err);
	run->reaper = r;
	run->res = (struct runtime_result){.rt = rt, .out_fd = -1, .log_from = log_size(rt)};
	run->fn = fn;
	run->arg = arg;
	e = run_spawn(run, rt, io, args, err);
	if (e < 0) {
		if (run->res.out_fd >= 0)
			close(run->res.out_fd);
		free(run);
	}
	return e;
}

int runtime_run(const struct runtime *rt, const char *const *args, int64_t deadline,
		struct err *err)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	struct runtime_result res = {.rt = rt, .out_fd = -1, .log_from = log_size(rt)};
	struct spawn_options o = SPAWN_OPTIONS_INIT;
	const char *argv[ARGS_MAX];
	int r;

	if (!a)
		return err_nomem(err);
	r = argv_build(rt, args, argv, err);
	if (r < 0)
		return r;
	o.path = argv[0];
	o.argv = (char *const *)argv;
	r = spawn_run(a, &o, NULL, 0, LOG_TAIL_MAX, deadline, NULL, NULL, NULL, &res.status, err);
	if (r < 0)
		return r;
	return res.status ? runtime_failure(&res, args[0], err) : 0;
}

bool runtime_log_last_error(const char *p, size_t n, char *out, size_t cap)
{
	bool found = false;

	while (n > 0) {
		const char *nl = memchr(p, '\n', n);
		size_t len = nl ? (size_t)(nl - p) : n;
		struct jspan line, level, msg;

		if (jscan_value(p, len, &line) == 0 && jscan_member(line, "level", &level) == 1 &&
		    jscan_string_is(level, "error") && jscan_member(line, "msg", &msg) == 1) {
			int r = jscan_string(msg, out, cap);

			if (r == -ENAMETOOLONG) {
				size_t keep = MIN(msg.n - 2, cap - 1);

				memcpy(out, msg.p + 1, keep);
				out[keep] = '\0';
				r = 0;
			}
			found |= r == 0;
		}
		len += nl != NULL;
		p += len;
		n -= len;
	}
	return found;
}

int runtime_failure(const struct runtime_result *res, const char *what, struct err *err)
{
	_cleanup_close_ int fd = open(res->rt->log, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	_cleanup_free_ char *tail = malloc(LOG_TAIL_MAX);
	char msg[1536];
	struct stat st;
	ssize_t n = -1;

	if (fd >= 0 && tail && fstat(fd, &st) == 0) {
		off_t from = MAX(res->log_from, st.st_size - (off_t)LOG_TAIL_MAX);

		n = fd_pread_full(fd, tail, LOG_TAIL_MAX, from);
	}
	if (n > 0 && runtime_log_last_error(tail, (size_t)n, msg, sizeof(msg)))
		return err_set_raw(err, ERR_UNKNOWN, "%s: %s", what, msg);
	if (res->status > 128)
		return err_set_raw(err, ERR_UNKNOWN, "%s: %s was ended by signal %d", what,
				   runtime_program(res->rt), res->status - 128);
	return err_set_raw(err, ERR_UNKNOWN, "%s: %s gave exit status %d and no reason", what,
			   runtime_program(res->rt), res->status);
}

int runtime_output(struct arena *a, const struct runtime_result *res, size_t max, char **ret,
		   size_t *ret_len)
{
	if (res->out_fd < 0)
		return -EBADF;
	if (lseek(res->out_fd, 0, SEEK_SET) < 0)
		return -errno;
	return fd_read_all(a, res->out_fd, max, ret, ret_len);
}
