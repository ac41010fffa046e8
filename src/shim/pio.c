/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/pio.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "base/time.h"
#include "shim/pump.h"
#include "shim/sink.h"
#include "shim/stdio_uri.h"
#include "sys/console.h"
#include "sys/spawn.h"

#define DRAIN_NS (10 * NSEC_PER_SEC)
#define DRAIN_IDLE_NS (2 * NSEC_PER_SEC)
#define DRAIN_LOOK_NS (250 * NSEC_PER_MSEC)
#define LOGGER_READY_NS (60 * NSEC_PER_SEC)
#define LOGGER_TERM_NS (12 * NSEC_PER_SEC)

struct pio {
	struct loop *loop;
	struct reaper *reaper;
	bool terminal;
	int child[3];
	int in_fifo, in_hold,
		in_pipe;    /* until started: fifo, our write end of it, our end of the pipe */
	int src[2], dst[2]; /* the same of the outputs; dst -1: thrown away or read by the logger */
	int log_read[2];    /* the logger's ends, held so that its death does not break the pipe */
	int master;
	struct pump in, out[2];
	struct sink *sink; /* instead of @out, NULL = none */
	/* logger */
	struct reaper_watch logger;
	bool must_say_ready;
	int ready_fd;
	struct loop_source *ready_source;
	struct loop_source *timer; /* logger gets ready; drain; logger ends */
	pio_ready_fn ready_fn;
	pio_fn done_fn;
	void *arg;
	bool finishing, killed;
	int64_t finish_at, moved_at; /* the drain began; something was seen to have moved */
	uint64_t moved;		     /* by then */
};

static void fd_drop(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void child_close(struct pio *p)
{
	for (int i = 0; i < 3; i++)
		fd_drop(&p->child[i]);
}

void pio_free(struct pio *p)
{
	if (!p)
		return;
	if (p->logger.pid) {
		kill(p->logger.pid, SIGKILL);
		reaper_unwatch(p->reaper, &p->logger);
	}
	loop_source_free(p->timer);
	loop_source_free(p->ready_source);
	pump_stop(&p->in);
	child_close(p);
	sink_free(p->sink);
	for (int i = 0; i < 2; i++) {
		pump_stop(&p->out[i]);
		fd_drop(&p->src[i]);
		fd_drop(&p->dst[i]);
		fd_drop(&p->log_read[i]);
	}
	fd_drop(&p->in_fifo);
	fd_drop(&p->in_hold);
	fd_drop(&p->in_pipe);
	fd_drop(&p->master);
	fd_drop(&p->ready_fd);
	free(p);
}

/* ---- opening ---- */

/* @ours stays here, @theirs goes to the process. */
static int pipe_open(const struct pio_options *o, bool we_write, int *ours, int *theirs)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	*ours = fds[we_write];
	*theirs = fds[!we_write];
	if ((o->uid || o->gid) && fchown(fds[0], o->uid, o->gid) < 0)
		return -errno;
	return 0;
}

static int stdin_open(struct pio *p, const struct pio_options *o, const struct stdio_uri *u,
		      struct err *err)
{
	int r;

	if (u->kind == STDIO_NULL)
		return 0;
	if (u->kind != STDIO_FIFO)
		return err_set(err, ERR_INVALID_ARGUMENT, "stdin `%s` is no fifo", o->in);
	p->in_fifo = open(u->path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (p->in_fifo < 0)
		return err_errno(err, errno, "open stdin fifo `%s`", u->path);
	p->in_hold = open(u->path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	if (p->in_hold < 0)
		return err_errno(err, errno, "open stdin fifo `%s`", u->path);
	if (o->terminal)
		return 0;
	r = pipe_open(o, true, &p->in_pipe, &p->child[0]);
	return r < 0 ? err_errno(err, r, "pipe for stdin") : 0;
}

static int path_open(const char *path, int *ret_fd)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return -errno;
	*ret_fd = open(path, S_ISFIFO(st.st_mode) ? O_RDWR | O_NONBLOCK | O_CLOEXEC
						  : O_WRONLY | O_APPEND | O_CLOEXEC);
	return *ret_fd < 0 ? -errno : 0;
}

static int log_file_open(struct arena *a, const char *path, int *ret_fd)
{
	char *dir = path_dir(a, path);
	int r;

	if (!dir)
		return -ENOMEM;
	r = mkdir_p(dir, 0755);
	if (r < 0 && r != -EEXIST)
		return r;
	*ret_fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
	return *ret_fd < 0 ? -errno : 0;
}

/* Output @i to a fifo or file. */
static int output_open(struct pio *p, const struct pio_options *o, struct arena *a, int i,
		       const struct stdio_uri *u, struct err *err)
{
	static const char *const names[] = {"stdout", "stderr"};
	int r;

	if (u->kind == STDIO_NULL)
		return 0;
	r = u->kind == STDIO_FILE ? log_file_open(a, u->path, &p->dst[i])
				  : path_open(u->path, &p->dst[i]);
	if (r < 0)
		return err_errno(err, r, "open %s `%s`", names[i], u->path);
	if (o->terminal)
		return 0;
	r = pipe_open(o, false, &p->src[i], &p->child[i + 1]);
	return r < 0 ? err_errno(err, r, "pipe for %s", names[i]) : 0;
}

static int k8s_log_start(struct pio *p, const struct pio_options *o, const struct stdio_uri *u,
			 const struct stdio_uri *errors, struct err *err)
{
	struct sink_options s = {.loop = o->loop,
				 .socket = u->path,
				 .log = u->log,
				 .limit = u->max,
				 .terminal = o->terminal,
				 .active = o->active,
				 .active_arg = o->active_arg};
	int r;

	if (errors->kind != STDIO_NULL && errors->kind != STDIO_K8S_LOG)
		return err_set(err, ERR_INVALID_ARGUMENT, "stderr `%s` beside a log of Kubernetes",
			       o->err);
	r = sink_open(&s, &p->sink, err);
	if (r < 0 || o->terminal)
		return r;
	r = pipe_open(o, false, &p->src[0], &p->child[1]);
	if (r == 0 && errors->kind != STDIO_NULL)
		r = pipe_open(o, false, &p->src[1], &p->child[2]);
	return r < 0 ? err_errno(err, r, "pipe for output") : 0;
}

/* ---- logger ---- */

static void tell_ready(struct pio *p, const struct err *err)
{
	pio_ready_fn fn = p->ready_fn;

	loop_source_free(p->ready_source);
	loop_source_free(p->timer);
	p->ready_source = p->timer = NULL;
	fd_drop(&p->ready_fd);
	p->ready_fn = NULL;
	fn(p->arg, err);
}

static void on_ready(struct loop_source *s, int fd, uint32_t events, void *arg)
{
	struct pio *p = arg;
	struct err err = ERR_INIT;
	char byte;
	ssize_t n = read(fd, &byte, 1);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0 || (n == 0 && p->must_say_ready)) {
		err_set(&err, ERR_UNKNOWN, "logging binary ended without having become ready");
		tell_ready(p, &err);
		return;
	}
	tell_ready(p, NULL);
}

static void on_ready_timeout(void *arg)
{
	struct err err = ERR_INIT;

	err_set(&err, ERR_DEADLINE_EXCEEDED, "logging binary did not become ready");
	tell_ready(arg, &err);
}

static void finish_done(struct pio *p)
{
	pio_fn fn = p->done_fn;
	void *arg = p->arg;

	pio_free(p);
	fn(arg);
}

static void on_logger_end(void *arg, int status, struct timespec at)
{
	struct pio *p = arg;

	if (p->finishing)
		finish_done(p);
}

static char **logger_argv(struct arena *a, const struct stdio_uri *u)
{
	char **argv = arena_new_array(a, char *, u->n_args + 2);

	if (!argv)
		return NULL;
	argv[0] = u->path;
	memcpy(argv + 1, u->args, u->n_args * sizeof(*argv));
	return argv;
}

static int logger_spawn(struct pio *p, const struct pio_options *o, struct arena *a,
			const struct stdio_uri *u, int ready, struct err *err)
{
	struct spawn_options s = SPAWN_OPTIONS_INIT;
	int fds[] = {p->log_read[0], p->log_read[1], ready};
	char *env[] = {arena_printf(a, "CONTAINER_ID=%s", o->id),
		       arena_printf(a, "CONTAINER_NAMESPACE=%s", o->ns), NULL};
	char **argv = logger_argv(a, u);
	pid_t pid;
	int r;

	if (!argv || !env[0] || !env[1])
		return err_nomem(err);
	s.path = u->path;
	s.argv = argv;
	s.env = env;
	s.fds = fds;
	s.nfds = ARRAY_LEN(fds);
	r = spawn(&s, &pid, NULL, err);
	if (r < 0)
		return err_prefix(err, "start logging binary");
	reaper_watch(p->reaper, &p->logger, pid, on_logger_end, p);
	return 0;
}

static int logger_open(struct pio *p, const struct pio_options *o, struct arena *a,
		       const struct stdio_uri *u, struct err *err)
{
	_cleanup_close_ int ready_write = -1;
	int r;

	/* The logger reads what the process writes; with a terminal we write instead of the
	 * process. */
	for (int i = 0; i < 2; i++) {
		r = pipe_open(o, false, &p->log_read[i],
			      o->terminal ? &p->dst[i] : &p->child[i + 1]);
		if (r < 0)
			return err_errno(err, r, "pipe for the logging binary");
	}
	r = pipe_open(&(struct pio_options){.uid = 0}, false, &p->ready_fd, &ready_write);
	if (r == 0)
		r = fd_set_nonblock(p->ready_fd, true);
	if (r < 0)
		return err_errno(err, r, "pipe for the logging binary");
	p->must_say_ready = u->must_say_ready;
	r = logger_spawn(p, o, a, u, ready_write, err);
	if (r < 0)
		return r;
	r = loop_add_fd(p->loop, p->ready_fd, EPOLLIN, on_ready, p, &p->ready_source);
	if (r == 0)
		r = loop_add_timer(p->loop, time_mono() + LOGGER_READY_NS, on_ready_timeout, p,
				   &p->timer);
	return r < 0 ? err_errno(err, r, "wait for the logging binary") : 0;
}

static int outputs_open(struct pio *p, const struct pio_options *o, struct arena *a,
			struct err *err)
{
	struct stdio_uri out, errors;
	int r = stdio_uri_parse(a, o->out, &out, err);

	if (r < 0)
		return r;
	if (out.kind == STDIO_BINARY)
		return logger_open(p, o, a, &out, err);
	if (out.kind == STDIO_FILE) {
		errors = out;
	} else {
		r = stdio_uri_parse(a, o->err, &errors, err);
		if (r < 0)
			return r;
		if (out.kind == STDIO_K8S_LOG)
			return k8s_log_start(p, o, &out, &errors, err);
		if (errors.kind == STDIO_BINARY || errors.kind == STDIO_K8S_LOG)
			return err_set(err, ERR_INVALID_ARGUMENT,
				       "stderr `%s` without the same stdout", o->err);
	}
	r = output_open(p, o, a, 0, &out, err);
	if (r < 0 || o->terminal)
		return r;
	return output_open(p, o, a, 1, &errors, err);
}

static struct pio *pio_new(const struct pio_options *o)
{
	struct pio *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->loop = o->loop;
	p->reaper = o->reaper;
	p->terminal = o->terminal;
	p->in = p->out[0] = p->out[1] = PUMP_INIT;
	p->in_fifo = p->in_hold = p->in_pipe = p->master = p->ready_fd = -1;
	for (int i = 0; i < 2; i++)
		p->src[i] = p->dst[i] = p->log_read[i] = -1;
	for (int i = 0; i < 3; i++)
		p->child[i] = -1;
	return p;
}

int pio_open(const struct pio_options *o, pio_ready_fn fn, void *arg, struct pio **ret,
	     struct err *err)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	struct pio *p = a ? pio_new(o) : NULL;
	struct stdio_uri in;
	int r;

	if (!p)
		return err_nomem(err);
	r = stdio_uri_parse(a, o->in, &in, err);
	if (r == 0)
		r = stdin_open(p, o, &in, err);
	if (r == 0)
		r = outputs_open(p, o, a, err);
	if (r < 0) {
		pio_free(p);
		return r;
	}
	*ret = p;
	if (p->ready_fd < 0) {
		fn(arg, NULL);
		return 0;
	}
	p->ready_fn = fn;
	p->arg = arg;
	return 0;
}

int pio_child_fd(const struct pio *p, int i)
{
	return p->child[i];
}

/* ---- running ---- */

static void finish_step(struct pio *p);

static void on_pump_end(void *arg)
{
	struct pio *p = arg;

	if (p->finishing)
		finish_step(p);
}

/* fd_drop without closing: it belongs to a pump now. */
static int give(int *fd)
{
	return TAKE_FD(*fd);
}

static int start_terminal(struct pio *p)
{
	int r = 0, copy;

	copy = fcntl(p->master, F_DUPFD_CLOEXEC, 3);
	if (copy < 0)
		return -errno;
	r = p->sink ? sink_start(p->sink, 0, copy, on_pump_end, p)
		    : pump_start(&p->out[0], p->loop, copy, give(&p->dst[0]), on_pump_end, p);
	fd_drop(&p->dst[1]);
	if (r < 0 || p->in_fifo < 0)
		return r;
	copy = fcntl(p->master, F_DUPFD_CLOEXEC, 3);
	if (copy < 0)
		return -errno;
	return pump_start(&p->in, p->loop, give(&p->in_fifo), copy, NULL, NULL);
}

static int start_pipes(struct pio *p)
{
	int r = 0;

	for (int i = 0; i < 2 && r == 0; i++)
		if (p->src[i] >= 0 && p->sink)
			r = sink_start(p->sink, i, give(&p->src[i]), on_pump_end, p);
		else if (p->src[i] >= 0)
			r = pump_start(&p->out[i], p->loop, give(&p->src[i]), give(&p->dst[i]),
				       on_pump_end, p);
	if (r == 0 && p->in_fifo >= 0)
		r = pump_start(&p->in, p->loop, give(&p->in_fifo), give(&p->in_pipe), NULL, NULL);
	return r;
}

int pio_start(struct pio *p, int console, struct err *err)
{
	int r;

	child_close(p);
	p->master = console;
	r = console >= 0 ? start_terminal(p) : start_pipes(p);
	return r < 0 ? err_errno(err, r, "move input and output") : 0;
}

int pio_resize(struct pio *p, unsigned width, unsigned height)
{
	return p->master < 0 ? -ENOTTY : console_resize(p->master, width, height);
}

void pio_close_stdin(struct pio *p)
{
	fd_drop(&p->in_hold);
}

void pio_exited(struct pio *p)
{
	pump_stop(&p->in);
	fd_drop(&p->in_hold);
}

/* ---- finishing ---- */

static void on_logger_timeout(void *arg)
{
	struct pio *p = arg;

	if (p->logger.pid)
		kill(p->logger.pid, SIGKILL);
}

static uint64_t output_moved(const struct pio *p)
{
	return p->out[0].moved + p->out[1].moved + (p->sink ? sink_moved(p->sink) : 0);
}

static void drain_end(struct pio *p)
{
	pump_stop(&p->out[0]);
	pump_stop(&p->out[1]);
	if (p->sink)
		sink_stop(p->sink);
	finish_step(p);
}

static void on_drain_look(void *arg)
{
	struct pio *p = arg;
	uint64_t moved = output_moved(p);
	int64_t now = time_mono();

	if (moved != p->moved) {
		p->moved = moved;
		p->moved_at = now;
	}
	if (now - p->finish_at < DRAIN_NS && now - p->moved_at < DRAIN_IDLE_NS)
		loop_timer_set(p->timer, now + DRAIN_LOOK_NS);
	else
		drain_end(p);
}

static void finish_step(struct pio *p)
{
	if (p->out[0].running || p->out[1].running || (p->sink && sink_running(p->sink))) {
		if (!p->timer && loop_add_timer(p->loop, time_mono() + DRAIN_LOOK_NS, on_drain_look,
						p, &p->timer) < 0)
			drain_end(p);
		return;
	}
	if (!p->logger.pid) {
		finish_done(p);
		return;
	}
	if (p->killed)
		return;
	p->killed = true;
	fd_drop(&p->log_read[0]);
	fd_drop(&p->log_read[1]);
	loop_source_free(p->timer);
	p->timer = NULL;
	kill(p->logger.pid, SIGTERM);
	if (loop_add_timer(p->loop, time_mono() + LOGGER_TERM_NS, on_logger_timeout, p, &p->timer) <
	    0)
		kill(p->logger.pid, SIGKILL);
}

void pio_finish(struct pio *p, pio_fn fn, void *arg)
{
	pio_exited(p);
	child_close(p);
	p->finishing = true;
	p->finish_at = p->moved_at = time_mono();
	p->moved = output_moved(p);
	p->done_fn = fn;
	p->arg = arg;
	finish_step(p);
}
