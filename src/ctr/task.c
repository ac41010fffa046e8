/* SPDX-License-Identifier: Apache-2.0 */
/* Life of an attached process: signals are blocked first (from then on nothing can end ctr before
 * it has cleaned up), streams opened, process created, waited for, started; then one poll() over
 * the exit, signals and the end of our input. After the exit the process is deleted, for which the
 * shim waits until all output is in the FIFOs, and only then is the copying stopped. */
#include "ctr/task.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>

#include "base/fd.h"
#include "base/time.h"
#include "client/process.h"
#include "sys/cgroup.h"

#define FIFO_DIR "/run/containerd/fifo"

struct process {
	struct ctr *c;
	const char *id, *exec_id;
	const struct task_options *o;
	struct client_io *io;
	struct client_wait *wait;
	int signal_fd;
};

static bool flag_bool(const struct ctr *c, const char *name)
{
	return ctr_has_flag(c, name) && ctr_bool(c, name);
}

static const char *flag_string(const struct ctr *c, const char *name)
{
	return ctr_has_flag(c, name) ? ctr_string(c, name) : "";
}

void task_options_from_flags(const struct ctr *c, struct task_options *ret)
{
	*ret = (struct task_options){
		.terminal = flag_bool(c, "tty"),
		.detach = flag_bool(c, "detach"),
		.null_io = flag_bool(c, "null-io"),
		.no_pivot = flag_bool(c, "no-pivot"),
		.fifo_dir = flag_string(c, "fifo-dir"),
		.log_uri = flag_string(c, "log-uri"),
		.pid_file = flag_string(c, "pid-file"),
	};
}

/* The runtime will put a process into a cgroup: what that waits for can begin now. */
void task_announce(void)
{
	if (geteuid() == 0)
		cgroup_attach_ahead();
}

/* All that may end a program by its default; faults are left alone. */
static int block_signals(int *ret_fd, struct err *err)
{
	static const int own[] = {SIGSEGV, SIGBUS, SIGFPE,  SIGILL,  SIGABRT,
				  SIGTRAP, SIGSYS, SIGPIPE, SIGCHLD, SIGURG};
	sigset_t s;
	int fd;

	sigfillset(&s);
	for (size_t i = 0; i < ARRAY_LEN(own); i++)
		sigdelset(&s, own[i]);
	pthread_sigmask(SIG_BLOCK, &s, NULL);
	fd = signalfd(-1, &s, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		return err_errno(err, errno, "receive signals");
	*ret_fd = fd;
	return 0;
}

static int open_io(struct process *p, struct err *err)
{
	const struct task_options *o = p->o;
	int r;

	if (o->terminal && !o->detach && !o->null_io) {
		r = client_io_check_terminal(err);
		if (r < 0)
			return r;
	}
	return client_io_new(
		&(struct client_io_options){
			.dir = *o->fifo_dir ? o->fifo_dir : FIFO_DIR,
			.id = *p->exec_id ? p->exec_id : p->id,
			.terminal = o->terminal,
			.null = o->null_io,
			.log_uri = o->log_uri,
		},
		&p->io, err);
}

static void process_done(struct process *p)
{
	if (p->wait)
		client_wait_free(p->wait);
	if (p->io)
		client_io_free(p->io);
	fd_closep(&p->signal_fd);
}

/* ---- Attached ---- */

static void resize(struct process *p)
{
	uint32_t width, height;
	struct err ignored = ERR_INIT;

	/* The process may be gone by now. */
	if (client_io_window(&width, &height) &&
	    client_task_resize(p->c->client, &p->c->ctx, p->id, p->exec_id, width, height,
			       &ignored) < 0)
		return;
}

static int forward_signals(struct process *p, struct err *err)
{
	struct signalfd_siginfo si;

	while (read(p->signal_fd, &si, sizeof(si)) == (ssize_t)sizeof(si)) {
		struct err e = ERR_INIT;
		int r;

		if (p->o->terminal && si.ssi_signo == SIGWINCH) {
			resize(p);
			continue;
		}
		r = client_task_kill(p->c->client, &p->c->ctx, p->id, p->exec_id, (int)si.ssi_signo,
				     false, &e);
		if (r == -ERR_UNAVAILABLE)
			return err_copy(err, &e);
		if (r < 0 && r != -ERR_NOT_FOUND)
			ctr_warn("send signal %u: %s", si.ssi_signo, e.text);
	}
	return 0;
}

static int supervise(struct process *p, int stdin_ended, uint32_t *ret_status, struct err *err)
{
	struct client *client = p->c->client;
	int r;

	for (;;) {
		struct pollfd f[] = {
			{.fd = client_wait_fd(p->wait), .events = POLLIN},
			{.fd = p->signal_fd, .events = POLLIN},
			{.fd = stdin_ended, .events = POLLIN},
			{.fd = client_io_failed_fd(p->io), .events = POLLIN},
			{.fd = client_poll_fd(client), .events = POLLIN},
		};
		int n = poll(f, ARRAY_LEN(f), client_poll_timeout(client));

		if (n < 0 && errno != EINTR)
			return err_errno(err, errno, "poll");
		if (n == 0 || f[4].revents) {
			r = client_poll(client, err);
			if (r < 0)
				return r;
		}
		if (f[0].revents)
			return client_wait_result(p->wait, ret_status, err);
		if (f[1].revents) {
			r = forward_signals(p, err);
			if (r < 0)
				return r;
		}
		if (f[2].revents) {
			struct err e = ERR_INIT;

			stdin_ended = -1;
			r = client_task_close_stdin(p->c->client, &p->c->ctx, p->id, p->exec_id,
						    &e);
			if (r == -ERR_UNAVAILABLE)
				return err_copy(err, &e);
		}
		if (f[3].revents)
			return client_io_finish(p->io, err);
	}
}

/* The process has been started: until its end, its exit status. */
static int stay(struct process *p, struct err *err)
{
	int stdin_ended = client_io_stdin_ended_fd(p->io);
	struct rpc_stream *deletion _cleanup_(rpc_stream_freep) = NULL;
	uint32_t status = 0;
	int r;

	r = client_io_run(p->io, err);
	if (r < 0)
		return r;
	if (p->o->terminal)
		resize(p);
	r = supervise(p, stdin_ended, &status, err);
	if (r < 0)
		return r;
	r = client_task_delete_request(p->c->client, &p->c->ctx, p->id, p->exec_id, &deletion, err);
	if (r == 0)
		r = client_poll(p->c->client, err);
	/* Meanwhile. */
	client_io_remove(p->io);
	if (r == 0)
		r = client_task_delete_receive(&p->c->ctx, TAKE_PTR(deletion), NULL, err);
	if (r < 0 && r != -ERR_NOT_FOUND)
		return err_prefix(err, "delete the process");
	r = client_io_finish(p->io, err);
	return r < 0 ? r : (int)(status & 255);
}

static int write_pid_file(const char *path, uint32_t pid, struct err *err)
{
	char text[16];
	int n = snprintf(text, sizeof(text), "%u", pid), r;

	r = file_write_atomic(AT_FDCWD, path, text, (size_t)n, 0644, false);
	return r < 0 ? err_errno(err, r, "write the pid file `%s`", path) : 0;
}

/* Waits for and starts what was created. */
static int start(struct process *p, uint32_t pid, struct err *err)
{
	struct ctr *c = p->c;
	int r = 0;

	if (!p->o->detach)
		r = client_wait_new(c->client, &c->ctx, p->id, p->exec_id, &p->wait, err);
	if (r == 0 && *p->o->pid_file && pid)
		r = write_pid_file(p->o->pid_file, pid, err);
	if (r == 0)
		r = client_task_start(c->client, &c->ctx, p->id, p->exec_id, &pid, err);
	if (r < 0)
		return r;
	if (*p->o->pid_file && *p->exec_id)
		r = write_pid_file(p->o->pid_file, pid, err);
	if (r == 0 && !p->o->detach)
		return stay(p, err);
	if (r == 0)
		client_io_leave(p->io);
	return r;
}

/* Something failed after the process was made: nothing of it may stay behind. Our terminal goes
 * back first. */
static void undo(struct process *p)
{
	struct err e = ERR_INIT;

	if (client_io_finish(p->io, &e) < 0)
		e = ERR_INIT;
	p->c->ctx.deadline = 0;
	if (client_task_remove(p->c->client, &p->c->ctx, p->id, p->exec_id, true, NULL, &e) < 0 &&
	    e.kind != ERR_NOT_FOUND && e.kind != ERR_UNAVAILABLE)
		ctr_warn("delete the process: %s", e.text);
}

/* ---- First process ---- */

static int create_task(struct process *p, uint32_t *ret_pid, struct err *err)
{
	struct client_task_options o = {
		.no_pivot = p->o->no_pivot,
		.io_uid = p->o->io_uid,
		.io_gid = p->o->io_gid,
		.terminal = p->o->terminal,
		.rootfs = p->o->rootfs,
		.checkpoint = p->o->checkpoint,
	};
	int r = open_io(p, err);

	if (r < 0)
		return r;
	o.io = p->io;
	return client_task_create(p->c->client, &p->c->ctx, p->id, &o, ret_pid, err);
}

int task_run(struct ctr *c, const char *id, const struct task_options *o, struct err *err)
{
	struct process p _cleanup_(process_done) = {
		.c = c, .id = id, .exec_id = "", .o = o, .signal_fd = -1};
	uint32_t pid;
	int r = 0;

	if (!o->detach)
		r = block_signals(&p.signal_fd, err);
	if (r == 0)
		r = create_task(&p, &pid, err);
	if (r < 0)
		return r;
	if (o->created)
		r = o->created(o->created_arg, pid, err);
	if (r == 0)
		r = start(&p, pid, err);
	if (r < 0)
		undo(&p);
	return r;
}

/* ---- Further processes ---- */

static int create_exec(struct process *p, const char *json, size_t len, struct err *err)
{
	int r = open_io(p, err);

	return r < 0 ? r
		     : client_task_exec(p->c->client, &p->c->ctx, p->id, p->exec_id, json, len,
					p->o->terminal, p->io, err);
}

int task_exec(struct ctr *c, const char *id, const char *exec_id, const char *process, size_t len,
	      const struct task_options *o, struct err *err)
{
	struct process p _cleanup_(process_done) = {
		.c = c, .id = id, .exec_id = exec_id, .o = o, .signal_fd = -1};
	int r = 0;

	if (!o->detach)
		r = block_signals(&p.signal_fd, err);
	if (r == 0)
		r = create_exec(&p, process, len, err);
	if (r < 0)
		return r;
	r = start(&p, 0, err);
	if (r < 0)
		undo(&p);
	return r;
}

int task_attach(struct ctr *c, const char *id, struct err *err)
{
	struct task_options o = {.fifo_dir = "", .log_uri = "", .pid_file = ""};
	struct process p _cleanup_(process_done) = {
		.c = c, .id = id, .exec_id = "", .o = &o, .signal_fd = -1};
	PB_TASK_TYPES(Process) * task;
	int r;

	r = client_task_get(c->client, &c->ctx, id, "", &task, err);
	if (r < 0)
		return r;
	o.terminal = task->terminal;
	if (o.terminal) {
		r = client_io_check_terminal(err);
		if (r < 0)
			return r;
	}
	r = block_signals(&p.signal_fd, err);
	if (r == 0)
		r = client_io_attach(task->stdin, task->stdout, task->stderr, task->terminal, &p.io,
				     err);
	if (r == 0)
		r = client_wait_new(c->client, &c->ctx, id, "", &p.wait, err);
	if (r == 0)
		r = stay(&p, err);
	if (r >= 0)
		client_io_remove_fifos(c->ctx.arena, task->stdin, task->stdout, task->stderr);
	return r;
}

/* ---- Stop ---- */

#define STOP_SIGNAL_LABEL "io.containerd.image.config.stop-signal"
#define STOP_SECONDS_MAX ((uint64_t)86400)

int task_stop_signal(struct ctr *c, const char *id, int *ret, struct err *err)
{
	PB_CONTAINERS(Container) * container;
	const char *name = ctr_string(c, "signal");
	struct labels l;
	int r;

	r = client_container_get(c->client, &c->ctx, id, &container, err);
	if (r < 0)
		return r;
	if (PB_LABELS_IN(c->ctx.arena, container->labels, container->n_labels, &l) < 0)
		return err_nomem(err);
	if (!*name)
		name = str_or(labels_get(&l, STOP_SIGNAL_LABEL), "SIGTERM");
	if (signal_parse(name, ret) < 0)
		return err_set(err, ERR_INVALID_ARGUMENT, "unknown signal \"%s\"", name);
	return 0;
}

/* 1 = it has ended within the time, 0 = it has not. */
static int wait_for(struct client *client, const struct client_wait *w, uint64_t seconds,
		    struct err *err)
{
	int64_t end = time_mono() + (int64_t)MIN(seconds, STOP_SECONDS_MAX) * NSEC_PER_SEC;

	for (;;) {
		struct pollfd f[] = {
			{.fd = client_wait_fd(w), .events = POLLIN},
			{.fd = client_poll_fd(client), .events = POLLIN},
		};
		int64_t left = MAX(end - time_mono(), (int64_t)0) / NSEC_PER_MSEC;
		int due = client_poll_timeout(client);
		int n = poll(f, ARRAY_LEN(f), due < 0 || due > left ? (int)left : due);

		if (n < 0 && errno != EINTR)
			return err_errno(err, errno, "poll");
		if (n > 0 && f[0].revents)
			return 1;
		if (n == 0 && time_mono() >= end)
			return 0;
		if (n >= 0 && client_poll(client, err) < 0)
			return -(int)err->kind;
	}
}

/* What has ended takes no signal, which is fine. */
static int kill_gently(struct ctr *c, const char *id, int signal, bool all, struct err *err)
{
	struct err e = ERR_INIT;
	int r = client_task_kill(c->client, &c->ctx, id, "", signal, all, &e);

	return r == 0 || r == -ERR_NOT_FOUND ? 0 : err_copy(err, &e);
}

static int signal_and_wait(struct ctr *c, const char *id, int signal, uint64_t seconds,
			   struct err *err)
{
	struct client_wait *w _cleanup_(client_wait_freep) = NULL;
	uint32_t status;
	int r;

	r = client_wait_new(c->client, &c->ctx, id, "", &w, err);
	if (r == 0)
		r = kill_gently(c, id, signal, false, err);
	if (r == 0)
		r = wait_for(c->client, w, seconds, err);
	if (r == 0)
		r = kill_gently(c, id, SIGKILL, true, err);
	return r < 0 ? r : client_wait_result(w, &status, err);
}

int task_clear(struct ctr *c, const char *id, struct err *err)
{
	PB_TASK_TYPES(Process) * task;
	struct err e = ERR_INIT;
	int r;

	r = client_task_get(c->client, &c->ctx, id, "", &task, &e);
	if (r == 0 && task->status == CONTAINERD__V1__TYPES__STATUS__STOPPED)
		r = client_task_remove(c->client, &c->ctx, id, "", false, NULL, &e);
	return r == 0 || r == -ERR_NOT_FOUND ? 0 : err_copy(err, &e);
}

int task_stop(struct ctr *c, const char *id, int signal, uint64_t seconds, struct err *err)
{
	PB_TASK_TYPES(Process) * task;
	struct err e = ERR_INIT;
	int r;

	r = client_task_get(c->client, &c->ctx, id, "", &task, &e);
	if (r < 0)
		return r == -ERR_NOT_FOUND ? 0 : err_copy(err, &e);
	/* A frozen process takes no signal. */
	if (task->status == CONTAINERD__V1__TYPES__STATUS__PAUSED)
		r = client_task_resume(c->client, &c->ctx, id, err);
	if (r == 0 && task->status != CONTAINERD__V1__TYPES__STATUS__STOPPED)
		r = signal_and_wait(c, id, signal, seconds, err);
	return r < 0 ? r : task_clear(c, id, err);
}
