/* SPDX-License-Identifier: Apache-2.0 */
/* Containers and processes: memory, look-up, their ends, and the queues of operations. */
#include "shim/shim.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/str.h"
#include "base/time.h"

/* How long the end of init waits for the ends of other processes to come first. */
#define ENDING_NS (10 * NSEC_PER_SEC)

static void init_end_check(struct container *c);
static void oom_tell(struct container *c);

struct container *container_find(struct shim *s, const char *id, struct err *err)
{
	for (struct container *c = s->containers; c; c = c->next)
		if (c->visible && streq(c->id, id))
			return c;
	err_set(err, ERR_NOT_FOUND, "container not created");
	return NULL;
}

struct proc *proc_find(struct shim *s, const char *id, const char *exec_id, struct err *err)
{
	struct container *c = container_find(s, id, err);

	if (!c)
		return NULL;
	if (!*exec_id)
		return &c->init;
	for (struct proc *p = c->execs; p; p = p->next)
		if (streq(p->id, exec_id))
			return p;
	err_set(err, ERR_NOT_FOUND, "process does not exist %s", exec_id);
	return NULL;
}

int proc_init(struct proc *p, struct container *c, const char *id, const char *in, const char *out,
	      const char *err, bool terminal)
{
	p->c = c;
	p->id = strdup(id);
	p->in = strdup(in);
	p->out = strdup(out);
	p->err = strdup(err);
	p->terminal = terminal;
	return p->id && p->in && p->out && p->err ? 0 : -ENOMEM;
}

struct container *container_new(struct shim *s, const char *id, const char *bundle)
{
	struct container *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->shim = s;
	c->oom = CGROUP_OOM_INIT;
	c->init.c = c;
	c->id = strdup(id);
	c->bundle = strdup(bundle);
	if (!c->id || !c->bundle) {
		container_remove(c);
		return NULL;
	}
	return c;
}

void container_link(struct container *c)
{
	c->next = c->shim->containers;
	c->shim->containers = c;
	server_held(c->shim);
}

/* ---- end of life ---- */

static void proc_done(struct proc *p)
{
	free(p->id);
	free(p->in);
	free(p->out);
	free(p->err);
	free(p->spec);
}

static void exec_free(void *arg)
{
	struct proc *p = arg;

	proc_done(p);
	free(p);
}

static void container_free(void *arg)
{
	struct container *c = arg;

	while (c->execs) {
		struct proc *p = c->execs;

		c->execs = p->next;
		exec_free(p);
	}
	proc_done(&c->init);
	runtime_done(&c->rt);
	free(c->id);
	free(c->bundle);
	free(c->rootfs_upper);
	free(c->criu_work_path);
	free(c->checkpoint);
	free(c->cgroup);
	free(c);
}

static void op_free(struct op *op)
{
	console_socket_done(&op->console);
	if (op->held)
		reaper_release(op->p->c->shim->reaper);
	free(op->text);
	free(op->text2);
	for (char **s = op->args; s && *s; s++)
		free(*s);
	free(op->args);
	arena_free(op->arena);
	free(op);
}

static void waiters_tell(struct proc *p, const struct err *err)
{
	Containerd__Task__V2__WaitResponse resp = CONTAINERD__TASK__V2__WAIT_RESPONSE__INIT;
	Google__Protobuf__Timestamp at;

	resp.exit_status = p->status;
	resp.exited_at = timestamp_of(p->exited_at, &at);
	while (p->waiters) {
		struct waiter *w = p->waiters;
		struct err failure = ERR_INIT;
		const struct err *e = err;

		p->waiters = w->next;
		if (!e && rpc_send(w->call, &resp.base, &failure) < 0)
			e = &failure;
		rpc_finish(w->call, e);
		free(w);
	}
}

void proc_waiters_tell(struct proc *p)
{
	waiters_tell(p, NULL);
}

void container_waiters_fail(struct container *c, const struct err *err)
{
	waiters_tell(&c->init, err);
	for (struct proc *p = c->execs; p; p = p->next)
		waiters_tell(p, err);
}

/* Detaches from everything; the memory stays for callers up the stack. */
static void proc_detach(struct proc *p)
{
	struct err gone = ERR_INIT;

	err_set(&gone, ERR_NOT_FOUND, "process %s was deleted", p->id ? p->id : "");
	waiters_tell(p, &gone);
	while (p->ops) {
		struct op *op = p->ops;

		p->ops = op->next;
		rpc_finish(op->call, &gone);
		op_free(op);
	}
	p->ops_last = NULL;
	reaper_unwatch(p->c->shim->reaper, &p->watch);
	pio_free(p->io);
	p->io = NULL;
}

void exec_remove(struct proc *p)
{
	for (struct proc **q = &p->c->execs; *q; q = &(*q)->next) {
		if (*q == p) {
			*q = p->next;
			break;
		}
	}
	proc_detach(p);
	if (loop_post(p->c->shim->loop, exec_free, p) < 0)
		log_error("out of memory");
}

void container_remove(struct container *c)
{
	for (struct container **q = &c->shim->containers; *q; q = &(*q)->next) {
		if (*q == c) {
			*q = c->next;
			break;
		}
	}
	c->visible = false;
	proc_detach(&c->init);
	for (struct proc *p = c->execs; p; p = p->next)
		proc_detach(p);
	loop_source_free(c->oom_source);
	loop_source_free(c->ending_timer);
	c->oom_source = c->ending_timer = NULL;
	cgroup_oom_close(&c->oom);
	if (loop_post(c->shim->loop, container_free, c) < 0)
		log_error("out of memory");
	server_held(c->shim);
	sandbox_check(c->shim);
}

/* ---- events ---- */

void event_send(struct container *c, const char *topic, const ProtobufCMessage *msg)
{
	publisher_send(c->shim->publisher, topic, msg);
}

static void exit_tell(struct proc *p)
{
	Containerd__Events__TaskExit e = CONTAINERD__EVENTS__TASK_EXIT__INIT;
	Google__Protobuf__Timestamp at;

	p->state = PROC_STOPPED;
	if (p->io)
		pio_exited(p->io);
	e.container_id = p->c->id;
	e.id = p->id;
	e.pid = (uint32_t)p->pid;
	e.exit_status = p->status;
	e.exited_at = timestamp_of(p->exited_at, &at);
	event_send(p->c, "/tasks/exit", &e.base);
	waiters_tell(p, NULL);
	if (p->c->shim->sandbox && proc_is_init(p))
		sandbox_check(p->c->shim);
}

/* ---- ends of processes ---- */

static bool execs_live(const struct container *c)
{
	for (const struct proc *p = c->execs; p; p = p->next)
		if (p->starting || p->state == PROC_RUNNING)
			return true;
	return false;
}

bool container_deleting(const struct container *c)
{
	const struct op *op = c->init.ops;

	return op && op->run == init_delete_run && op->started;
}

static void init_end(struct container *c)
{
	loop_source_free(c->ending_timer);
	c->ending_timer = NULL;
	c->init_ending = false;
	c->paused = c->pausing = false;
	exit_tell(&c->init);
	/* A Delete of a created container waits for this. */
	if (container_deleting(c))
		init_delete_run(c->init.ops);
}

static void on_ending_timeout(void *arg)
{
	struct container *c = arg;

	if (c->init_ending && !c->killing_all)
		init_end(c);
}

static void init_end_check(struct container *c)
{
	if (!c->init_ending || c->killing_all)
		return;
	if (!execs_live(c)) {
		init_end(c);
		return;
	}
	if (!c->ending_timer && loop_add_timer(c->shim->loop, time_mono() + ENDING_NS,
					       on_ending_timeout, c, &c->ending_timer) < 0)
		init_end(c);
}

static void on_killed_all(void *arg, const struct runtime_result *res)
{
	struct container *c = arg;
	struct err err = ERR_INIT;

	c->killing_all = false;
	if (res->status) {
		runtime_failure(res, "kill all processes", &err);
		log_warn("container %s: %s", c->id, err.text);
	}
	init_end_check(c);
}

static void init_ended(struct container *c)
{
	struct runtime_io io = RUNTIME_IO_NONE;
	struct err err = ERR_INIT;

	c->init_ending = true;
	/* The kernel's notice may come after the end that it was the cause of, or never, when the
	 * group goes first. */
	if (cgroup_oom_last_check(&c->oom) > 0)
		oom_tell(c);
	if (!c->private_pidns) {
		c->killing_all = true;
		if (runtime_start(c->shim->reaper, &c->rt, &io,
				  (const char *const[]){"kill", "--all", c->id, "9", NULL},
				  on_killed_all, c, &err) < 0) {
			c->killing_all = false;
			log_warn("container %s: kill all processes: %s", c->id, err.text);
		}
	}
	init_end_check(c);
}

static void proc_ended(struct proc *p)
{
	struct container *c = p->c;

	if (proc_is_init(p)) {
		init_ended(c);
		return;
	}
	exit_tell(p);
	init_end_check(c);
}

static void on_reaped(void *arg, int status, struct timespec at)
{
	struct proc *p = arg;

	p->ended = true;
	p->status = (uint32_t)status;
	p->exited_at = at;
	if (!p->starting)
		proc_ended(p);
}

void proc_track(struct proc *p, int pid)
{
	p->pid = pid;
	reaper_watch(p->c->shim->reaper, &p->watch, pid, on_reaped, p);
}

void proc_start_ended(struct proc *p)
{
	p->starting = false;
	if (p->ended && p->state != PROC_STOPPED)
		proc_ended(p);
	else
		init_end_check(p->c);
}

/* ---- out of memory ---- */

static void oom_tell(struct container *c)
{
	Containerd__Events__TaskOOM e = CONTAINERD__EVENTS__TASK_OOM__INIT;

	e.container_id = c->id;
	event_send(c, "/tasks/oom", &e.base);
}

static void on_oom(struct loop_source *s, int fd, uint32_t events, void *arg)
{
	struct container *c = arg;
	int r = cgroup_oom_check(&c->oom);

	if (r < 0) {
		loop_source_free(c->oom_source);
		c->oom_source = NULL;
		cgroup_oom_close(&c->oom);
		return;
	}
	if (r > 0)
		oom_tell(c);
}

void container_watch_oom(struct container *c)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	struct cgroup_dirs dirs;
	char *text;
	int r = a ? cgroup_text_read(a, c->init.pid, &text) : -ENOMEM;

	if (r < 0) /* it has ended already */
		return;
	free(c->cgroup);
	c->cgroup = strdup(text);
	r = cgroup_dirs_find(a, text, &dirs);
	if (r == 0)
		r = cgroup_oom_open(&dirs, &c->oom);
	if (r == 0)
		r = loop_add_fd(c->shim->loop, c->oom.fd, EPOLLIN, on_oom, c, &c->oom_source);
	if (r < 0 && r != -EOPNOTSUPP)
		log_warn("container %s: watch for out of memory: %s", c->id, strerror(-r));
}

/* ---- operations ---- */

struct op *op_new(struct proc *p, struct rpc_call *call, void (*run)(struct op *op))
{
	struct op *op = calloc(1, sizeof(*op));

	if (!op)
		return NULL;
	op->p = p;
	op->call = call;
	op->run = run;
	op->console = CONSOLE_SOCKET_INIT;
	return op;
}

void ops_run(struct proc *p)
{
	if (p->ops_busy)
		return;
	p->ops_busy = true;
	while (p->ops && !p->ops->started) {
		p->ops->started = true;
		p->ops->run(p->ops);
	}
	p->ops_busy = false;
}

void op_add(struct op *op)
{
	struct proc *p = op->p;

	if (p->ops)
		p->ops_last->next = op;
	else
		p->ops = op;
	p->ops_last = op;
	ops_run(p);
}

void op_fail_last(struct op *op, const struct err *err)
{
	struct proc *p = op->p;

	rpc_finish(op->call, err);
	server_active(p->c->shim);
	p->ops = op->next;
	if (!p->ops)
		p->ops_last = NULL;
	op_free(op);
}

void op_reply_last(struct op *op, const ProtobufCMessage *msg)
{
	Google__Protobuf__Empty empty = GOOGLE__PROTOBUF__EMPTY__INIT;
	struct err err = ERR_INIT;
	int r = rpc_send(op->call, msg ? msg : &empty.base, &err);

	op_fail_last(op, r < 0 ? &err : NULL);
}

void op_reply(struct op *op, const ProtobufCMessage *msg)
{
	struct proc *p = op->p;

	op_reply_last(op, msg);
	ops_run(p);
}

void op_fail(struct op *op, const struct err *err)
{
	struct proc *p = op->p;

	op_fail_last(op, err);
	ops_run(p);
}

void op_runtime(struct op *op, const struct runtime_io *io, const char *const *args, runtime_fn fn)
{
	struct container *c = op->p->c;
	struct err err = ERR_INIT;

	if (runtime_start(c->shim->reaper, &c->rt, io, args, fn, op, &err) < 0)
		op_fail(op, &err);
}
