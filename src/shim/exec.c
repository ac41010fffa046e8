/* SPDX-License-Identifier: Apache-2.0 */
/* Processes that join a container: start and delete. */
#include "shim/shim.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fd.h"
#include "shim/bundle.h"

/* op->text: the process document's file, op->text2: the pid file. */

static void start_failed(struct op *op)
{
	struct proc *p = op->p;

	if (op->text)
		unlink(op->text);
	pio_free(p->io);
	p->io = NULL;
	op_fail_last(op, &op->failure);
	p->start_failed = true;
	proc_waiters_tell(p);
	proc_start_ended(p);
	ops_run(p); /* which may be another start, with a state of its own */
}

static void started_tell(struct op *op)
{
	struct proc *p = op->p;
	Containerd__Events__TaskExecStarted e = CONTAINERD__EVENTS__TASK_EXEC_STARTED__INIT;
	Containerd__Task__V2__StartResponse resp = CONTAINERD__TASK__V2__START_RESPONSE__INIT;

	p->state = PROC_RUNNING;
	free(TAKE_PTR(p->spec));
	e.container_id = p->c->id;
	e.exec_id = p->id;
	e.pid = resp.pid = (uint32_t)p->pid;
	event_send(p->c, "/tasks/exec-started", &e.base);
	op_reply(op, &resp.base);
	proc_start_ended(p);
}

static void start_done(void *arg, const struct runtime_result *res)
{
	struct op *op = arg;
	struct proc *p = op->p;
	int pid, r;

	if (res->status) {
		runtime_failure(res, "OCI runtime exec failed", &op->failure);
		start_failed(op);
		return;
	}
	r = bundle_pid_read(op->text2, &pid);
	if (r < 0) {
		err_errno(&op->failure, r, "failed to retrieve OCI runtime exec pid");
		start_failed(op);
		return;
	}
	unlink(op->text);
	if (op_io_start(op, &op->failure) < 0) {
		reaper_kill(p->c->shim->reaper, pid, SIGKILL);
		start_failed(op);
		return;
	}
	proc_track(p, pid);
	started_tell(op);
}

static void start_ready(void *arg, const struct err *err)
{
	struct op *op = arg;
	struct proc *p = op->p;
	struct container *c = p->c;
	struct runtime_io io = RUNTIME_IO_NONE;
	const char *args[16];
	size_t n = 0;

	if (err) {
		op->failure = *err;
		start_failed(op);
		return;
	}
	args[n++] = "exec";
	args[n++] = "--process";
	args[n++] = op->text;
	if (p->terminal) {
		args[n++] = "--console-socket";
		args[n++] = op->console.path;
	}
	args[n++] = "--detach";
	args[n++] = "--pid-file";
	args[n++] = op->text2;
	args[n++] = c->id;
	args[n] = NULL;
	for (int i = 0; i < 3; i++)
		io.fds[i] = pio_child_fd(p->io, i);
	reaper_hold(c->shim->reaper);
	op->held = true;
	if (runtime_start(c->shim->reaper, &c->rt, &io, args, start_done, op, &op->failure) < 0)
		start_failed(op);
}

static int files_prepare(struct op *op, struct err *err)
{
	struct proc *p = op->p;
	_cleanup_buf_ struct buf doc = BUF_INIT;
	struct jspan span;
	int r;

	if (asprintf(&op->text, "%s/%s.process.json", p->c->bundle, p->id) < 0 ||
	    asprintf(&op->text2, "%s/%s.pid", p->c->bundle, p->id) < 0)
		return err_nomem(err);
	r = jscan_value(p->spec, strlen(p->spec), &span);
	if (r == 0)
		r = process_with_terminal(span, p->terminal, &doc);
	if (r < 0)
		return err_errno(err, r, "process document of exec %s", p->id);
	r = file_write(AT_FDCWD, op->text, doc.data, doc.len, 0600);
	return r < 0 ? err_errno(err, r, "write `%s`", op->text) : 0;
}

static bool start_refused(struct op *op)
{
	struct proc *p = op->p;
	struct container *c = p->c;

	if (p->state == PROC_STOPPED)
		err_set(&op->failure, ERR_UNKNOWN, "cannot start a stopped process");
	else if (p->state == PROC_RUNNING)
		err_set(&op->failure, ERR_UNKNOWN, "cannot start a running process");
	else if (c->init.ended || c->init.state == PROC_STOPPED)
		err_set(&op->failure, ERR_FAILED_PRECONDITION,
			"container %s init process is not running", c->id);
	else if (container_deleting(c))
		err_set(&op->failure, ERR_FAILED_PRECONDITION, "container %s is being deleted",
			c->id);
	return op->failure.kind != 0;
}

void exec_start_run(struct op *op)
{
	if (start_refused(op)) {
		op_fail(op, &op->failure);
		return;
	}
	op->p->starting = true;
	op->p->start_failed = false;
	if (files_prepare(op, &op->failure) < 0 || op_console_open(op, &op->failure) < 0 ||
	    op_io_open(op, start_ready, &op->failure) < 0)
		start_failed(op);
}

/* ---- delete ---- */

static void delete_done(void *arg)
{
	struct op *op = arg;
	struct proc *p = op->p;
	struct container *c = p->c;
	Containerd__Task__V2__DeleteResponse resp = CONTAINERD__TASK__V2__DELETE_RESPONSE__INIT;
	Google__Protobuf__Timestamp at;

	resp.pid = (uint32_t)p->pid;
	resp.exit_status = p->status;
	resp.exited_at = timestamp_of(p->exited_at, &at);
	op_reply_last(op, &resp.base);
	exec_remove(p);
	if (container_deleting(c))
		init_delete_run(c->init.ops);
}

void exec_delete_run(struct op *op)
{
	struct proc *p = op->p;
	char path[PATH_MAX];

	if (p->state == PROC_RUNNING) {
		err_set(&op->failure, ERR_UNKNOWN, "cannot delete a running process");
		op_fail(op, &op->failure);
		return;
	}
	snprintf(path, sizeof(path), "%s/%s.pid", p->c->bundle, p->id);
	unlink(path);
	if (p->io)
		pio_finish(TAKE_PTR(p->io), delete_done, op);
	else
		delete_done(op);
}
