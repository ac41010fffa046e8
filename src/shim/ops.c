/* SPDX-License-Identifier: Apache-2.0 */
/* Operations on a whole container that only run the OCI runtime: pause, resume, kill, update, list
 * of processes, checkpoint. */
#include "shim/shim.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "shim/jscan.h"

#define PS_MAX (4u << 20)
#define PIDS_MAX 100000

/* "running", "created", ...: what the container is now. */
static const char *state_name(const struct container *c)
{
	if (c->init.ended || c->init.state == PROC_STOPPED)
		return "stopped";
	if (c->paused)
		return "paused";
	return c->init.state == PROC_RUNNING ? "running" : "created";
}

/* Fails the operation when the container is not in state @wanted. */
static bool refuse_unless(struct op *op, const char *verb, const char *wanted)
{
	const char *is = state_name(op->p->c);

	if (streq(is, wanted))
		return false;
	err_set(&op->failure, ERR_UNKNOWN,
		streq(is, "created") ? "cannot %s task in %s state" : "cannot %s a %s container",
		verb, is);
	op_fail(op, &op->failure);
	return true;
}

static bool failed(struct op *op, const struct runtime_result *res, const char *what)
{
	if (!res->status)
		return false;
	runtime_failure(res, what, &op->failure);
	op_fail(op, &op->failure);
	return true;
}

/* ---- pause, resume ---- */

static void pause_done(void *arg, const struct runtime_result *res)
{
	struct op *op = arg;
	struct container *c = op->p->c;
	Containerd__Events__TaskPaused e = CONTAINERD__EVENTS__TASK_PAUSED__INIT;

	c->pausing = false;
	if (failed(op, res, "OCI runtime pause failed"))
		return;
	c->paused = c->init.state == PROC_RUNNING;
	e.container_id = c->id;
	event_send(c, "/tasks/paused", &e.base);
	op_reply(op, NULL);
}

void pause_run(struct op *op)
{
	struct container *c = op->p->c;
	struct runtime_io io = RUNTIME_IO_NONE;

	if (refuse_unless(op, "pause", "running"))
		return;
	c->pausing = true;
	if (runtime_start(c->shim->reaper, &c->rt, &io, (const char *const[]){"pause", c->id, NULL},
			  pause_done, op, &op->failure) < 0) {
		c->pausing = false;
		op_fail(op, &op->failure);
	}
}

static void resume_done(void *arg, const struct runtime_result *res)
{
	struct op *op = arg;
	struct container *c = op->p->c;
	Containerd__Events__TaskResumed e = CONTAINERD__EVENTS__TASK_RESUMED__INIT;

	if (failed(op, res, "OCI runtime resume failed"))
		return;
	c->paused = false;
	e.container_id = c->id;
	event_send(c, "/tasks/resumed", &e.base);
	op_reply(op, NULL);
}

void resume_run(struct op *op)
{
	struct container *c = op->p->c;
	struct runtime_io io = RUNTIME_IO_NONE;

	if (!refuse_unless(op, "resume", "paused"))
		op_runtime(op, &io, (const char *const[]){"resume", c->id, NULL}, resume_done);
}

/* ---- kill ---- */

static bool text_has_any(const char *text, const char *const *words)
{
	for (; *words; words++)
		if (strcasestr(text, *words))
			return true;
	return false;
}

static void kill_done(void *arg, const struct runtime_result *res)
{
	static const char *const finished[] = {"process already finished", "container not running",
					       "is not running",	   "no such process",
					       "container is stopped",	   NULL};
	static const char *const missing[] = {"does not exist", "no such file", NULL};
	struct op *op = arg;
	struct err err = ERR_INIT;

	/* Where it was allowed no cgroup runc finds nobody, whether it says so or not; with the
	 * first process go the others of its pid namespace. */
	bool killed =
		op->all && op->signal == SIGKILL && !op->p->ended && kill(op->p->pid, SIGKILL) == 0;
	if (!res->status || killed) {
		op_reply(op, NULL);
		return;
	}
	runtime_failure(res, "unknown error after kill", &err);
	if (op->p->ended || text_has_any(err.text, finished))
		err_set(&op->failure, ERR_NOT_FOUND, "process already finished");
	else if (text_has_any(err.text, missing))
		err_set(&op->failure, ERR_NOT_FOUND, "no such container");
	else
		op->failure = err;
	op_fail(op, &op->failure);
}

void kill_run(struct op *op)
{
	struct container *c = op->p->c;
	struct runtime_io io = RUNTIME_IO_NONE;
	const char *args[5];
	char number[16];
	size_t n = 0;

	if ((op->p->ended && !op->all) || !op->p->pid) {
		err_set(&op->failure, op->p->pid ? ERR_NOT_FOUND : ERR_FAILED_PRECONDITION, "%s",
			op->p->pid ? "process already finished" : "process not created");
		op_fail(op, &op->failure);
		return;
	}
	snprintf(number, sizeof(number), "%u", op->signal);
	args[n++] = "kill";
	if (op->all)
		args[n++] = "--all";
	args[n++] = c->id;
	args[n++] = number;
	args[n] = NULL;
	op_runtime(op, &io, args, kill_done);
}

/* ---- update ---- */

static void update_done(void *arg, const struct runtime_result *res)
{
	struct op *op = arg;

	if (!failed(op, res, "OCI runtime update failed"))
		op_reply(op, NULL);
}

void update_run(struct op *op)
{
	struct container *c = op->p->c;
	struct runtime_io io = RUNTIME_IO_NONE;

	if (streq(state_name(c), "stopped")) {
		err_set(&op->failure, ERR_UNKNOWN, "cannot update a stopped container");
		op_fail(op, &op->failure);
		return;
	}
	io.in = op->text;
	io.in_len = strlen(op->text);
	op_runtime(op, &io, (const char *const[]){"update", "--resources=-", c->id, NULL},
		   update_done);
}

/* ---- processes ---- */

/* Details of a process that an Exec made; NULL for others. */
static Google__Protobuf__Any *details(struct arena *a, const struct container *c, int64_t pid)
{
	for (const struct proc *p = c->execs; p; p = p->next) {
		Containerd__Runc__V1__ProcessDetails d =
			CONTAINERD__RUNC__V1__PROCESS_DETAILS__INIT;
		Google__Protobuf__Any *any;

		if (p->pid != pid || p->ended)
			continue;
		any = arena_new_obj(a, Google__Protobuf__Any);
		if (!any)
			return NULL;
		google__protobuf__any__init(any);
		d.exec_id = p->id;
		any->type_url = (char *)d.base.descriptor->name;
		any->value.data = rpc_pack(a, &d.base, &any->value.len);
		return any;
	}
	return NULL;
}

static int pids_reply(struct op *op, struct arena *a, struct jspan list)
{
	Containerd__Task__V2__PidsResponse resp = CONTAINERD__TASK__V2__PIDS_RESPONSE__INIT;
	size_t pos = 0, cap = 0;
	struct jspan item;
	int64_t pid;

	while (resp.n_processes < PIDS_MAX && jscan_next_item(list, &pos, &item) == 1) {
		Containerd__V1__Types__ProcessInfo *info =
			arena_new_obj(a, Containerd__V1__Types__ProcessInfo);

		resp.processes = arena_grow(a, resp.processes, &cap, resp.n_processes + 1,
					    sizeof(*resp.processes));
		if (!info || !resp.processes)
			return -ENOMEM;
		if (jscan_int(item, &pid) < 0 || pid <= 0 || pid > INT32_MAX)
			return -EINVAL;
		containerd__v1__types__process_info__init(info);
		info->pid = (uint32_t)pid;
		info->info = details(a, op->p->c, pid);
		resp.processes[resp.n_processes++] = info;
	}
	op_reply(op, &resp.base);
	return 0;
}

static void pids_done(void *arg, const struct runtime_result *res)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	struct op *op = arg;
	struct jspan list;
	char *text;
	size_t n;
	int r;

	if (failed(op, res, "list processes"))
		return;
	r = a ? runtime_output(a, res, PS_MAX, &text, &n) : -ENOMEM;
	if (r == 0 && jscan_value(text, n, &list) < 0)
		r = -EINVAL;
	if (r == 0)
		r = pids_reply(op, a, list);
	if (r < 0) {
		err_errno(&op->failure, r, "process list of the OCI runtime");
		op_fail(op, &op->failure);
	}
}

void pids_run(struct op *op)
{
	struct container *c = op->p->c;
	struct runtime_io io = RUNTIME_IO_NONE;

	io.capture = true;
	op_runtime(op, &io, (const char *const[]){"ps", "--format", "json", c->id, NULL},
		   pids_done);
}

/* ---- checkpoint: the arguments were made by the call ---- */

static void checkpoint_done(void *arg, const struct runtime_result *res)
{
	struct op *op = arg;
	const char *bundle = op->p->c->bundle;
	char from[PATH_MAX], to[PATH_MAX];

	if (res->status &&
	    snprintf(from, sizeof(from), "%s/dump.log", bundle) < (int)sizeof(from) &&
	    snprintf(to, sizeof(to), "%s/criu-dump.log", bundle) < (int)sizeof(to))
		rename(from, to); /* it is there when criu got that far and worked in the bundle */
	if (!failed(op, res, "OCI runtime checkpoint failed"))
		op_reply(op, NULL);
}

void checkpoint_run(struct op *op)
{
	struct runtime_io io = RUNTIME_IO_NONE;

	/* A paused container too: clients pause it first. */
	if (op->p->c->paused || !refuse_unless(op, "checkpoint", "running"))
		op_runtime(op, &io, (const char *const *)op->args, checkpoint_done);
}
