/* SPDX-License-Identifier: Apache-2.0 */
/* containerd.services.tasks.v1.Tasks: mostly the shim's own calls, one for one.
 *
 * Wait holds no thread: the call is deferred, and finished by the answer of the shim's Wait. */
#include <stdlib.h>

#include "base/log.h"
#include "base/str.h"
#include "base/time.h"
#include "core/filter.h"
#include "event/loop.h"
#include "plugins/runtime/checkpoint.h"
#include "plugins/runtime/runtime.h"
#include "services/pb.h"
#include "services/services.h"

#define TA(x) Containerd__Services__Tasks__V1__##x
#define SH(x) Containerd__Task__V3__##x
#define SHD(x) containerd__task__v3__##x##__descriptor
#define EMPTY google__protobuf__empty__descriptor

/* The task of a container that must exist: what is missing is told apart. */
static int find(struct rpc_call *call, const char *id, struct task **ret, struct err *err)
{
	struct services *s = rpc_data(call);
	struct ctx *ctx = rpc_ctx(call);
	struct container c;
	/* A task is there only when its container is, so the record is read only to say which one
	 * is missing. */
	struct err absent = ERR_INIT;
	int e = runtime_get(ctx, s->runtime, id, ret, err);
	if (e == -ERR_NOT_FOUND && container_get(ctx, s->db, id, &c, &absent) == -ERR_NOT_FOUND)
		return err_set(err, ERR_NOT_FOUND, "container \"%s\" in namespace \"%s\"", id,
			       ctx->ns);
	return e;
}

static int create(struct rpc_call *call, const void *req, struct err *err)
{
	const TA(CreateTaskRequest) *r = req;
	struct ctx *ctx = rpc_ctx(call);
	struct services *s = rpc_data(call);
	struct mounts rootfs;
	TA(CreateTaskResponse) resp = CONTAINERD__SERVICES__TASKS__V1__CREATE_TASK_RESPONSE__INIT;
	struct runtime_create c = {.id = r->container_id,
				   .rootfs = &rootfs,
				   .stdin_path = r->stdin,
				   .stdout_path = r->stdout,
				   .stderr_path = r->stderr,
				   .terminal = r->terminal,
				   .options = pb_any_get(r->options),
				   .runtime_path = r->runtime_path,
				   .task_api_address = r->task_api_address,
				   .task_api_version = r->task_api_version};
	if (r->checkpoint) {
		int e = pb_descriptor_get(ctx->arena, r->checkpoint, &c.checkpoint_content, err);
		if (e < 0)
			return e;
		c.checkpoint = labels_get(&c.checkpoint_content.annotations, "RestoreFromPath");
	}
	int e = pb_mounts_get(ctx->arena, r->rootfs, r->n_rootfs, &rootfs, err);
	if (e == 0)
		e = runtime_create(ctx, s->runtime, &c, &resp.pid, err);
	resp.container_id = r->container_id;
	return e < 0 ? e : rpc_send(call, &resp.base, err);
}

static int start(struct rpc_call *call, const void *req, struct err *err)
{
	const TA(StartRequest) *r = req;
	struct ctx *ctx = rpc_ctx(call);
	_cleanup_(task_unrefp) struct task *t = NULL;
	SH(StartRequest) sr = CONTAINERD__TASK__V3__START_REQUEST__INIT;
	SH(StartResponse) * sresp;
	TA(StartResponse) resp = CONTAINERD__SERVICES__TASKS__V1__START_RESPONSE__INIT;
	int e = find(call, r->container_id, &t, err);
	sr.id = r->container_id;
	sr.exec_id = r->exec_id;
	if (e == 0)
		e = task_call(ctx, t, "Start", &sr.base, &SHD(start_response), &sresp, err);
	if (e < 0)
		return e;
	resp.pid = sresp->pid;
	return rpc_send(call, &resp.base, err);
}

static int delete (struct rpc_call *call, const void *req, struct err *err)
{
	const TA(DeleteTaskRequest) *r = req;
	struct ctx *ctx = rpc_ctx(call);
	struct services *s = rpc_data(call);
	_cleanup_(task_unrefp) struct task *t = NULL;
	struct runtime_exit x;
	TA(DeleteResponse) resp = CONTAINERD__SERVICES__TASKS__V1__DELETE_RESPONSE__INIT;
	int e = find(call, r->container_id, &t, err);
	if (e == 0)
		e = runtime_delete(ctx, s->runtime, r->container_id, &x, err);
	if (e < 0)
		return e;
	resp.id = r->container_id;
	resp.pid = x.pid;
	resp.exit_status = x.status;
	resp.exited_at = pb_time_put(ctx->arena, x.at);
	return rpc_send(call, &resp.base, err);
}

static int delete_process(struct rpc_call *call, const void *req, struct err *err)
{
	const TA(DeleteProcessRequest) *r = req;
	struct ctx *ctx = rpc_ctx(call);
	_cleanup_(task_unrefp) struct task *t = NULL;
	SH(DeleteRequest) sr = CONTAINERD__TASK__V3__DELETE_REQUEST__INIT;
	SH(DeleteResponse) * sresp;
	TA(DeleteResponse) resp = CONTAINERD__SERVICES__TASKS__V1__DELETE_RESPONSE__INIT;
	if (str_empty(r->exec_id))
		return err_set(err, ERR_INVALID_ARGUMENT, "exec id cannot be empty");
	int e = find(call, r->container_id, &t, err);
	sr.id = r->container_id;
	sr.exec_id = r->exec_id;
	if (e == 0)
		e = task_call(ctx, t, "Delete", &sr.base, &SHD(delete_response), &sresp, err);
	if (e < 0)
		return e;
	resp.id = r->exec_id;
	resp.pid = sresp->pid;
	resp.exit_status = sresp->exit_status;
	resp.exited_at = sresp->exited_at;
	return rpc_send(call, &resp.base, err);
}

/* State of a process of @t; @id is what the answer calls it. */
static int process(struct rpc_call *call, struct task *t, const char *container_id,
		   const char *exec_id, Containerd__V1__Types__Process **ret, struct err *err)
{
	struct services *s = rpc_data(call);
	struct ctx *ctx = rpc_ctx(call);
	struct ctx timed = {.arena = ctx->arena,
			    .ns = ctx->ns,
			    .lease = "",
			    .deadline = time_mono() + runtime_state_timeout(s->runtime)};
	SH(StateRequest) sr = CONTAINERD__TASK__V3__STATE_REQUEST__INIT;
	SH(StateResponse) * st;
	if (ctx->deadline && ctx->deadline < timed.deadline)
		timed.deadline = ctx->deadline;
	sr.id = (char *)container_id;
	sr.exec_id = (char *)exec_id;
	int e = task_call(&timed, t, "State", &sr.base, &SHD(state_response), &st, err);
	if (e < 0)
		return e;
	Containerd__V1__Types__Process *p =
		pb_new(ctx->arena, &containerd__v1__types__process__descriptor);
	if (!p)
		return err_nomem(err);
	p->container_id = (char *)container_id;
	p->id = st->id;
	p->pid = st->pid;
	p->status = st->status;
	p->stdin = st->stdin;
	p->stdout = st->stdout;
	p->stderr = st->stderr;
	p->terminal = st->terminal;
	p->exit_status = st->exit_status;
	p->exited_at = st->exited_at;
	*ret = p;
	return 0;
}

static int get(struct rpc_call *call, const void *req, struct err *err)
{
	const TA(GetRequest) *r = req;
	_cleanup_(task_unrefp) struct task *t = NULL;
	TA(GetResponse) resp = CONTAINERD__SERVICES__TASKS__V1__GET_RESPONSE__INIT;
	int e = find(call, r->container_id, &t, err);
	if (e == 0)
		e = process(call, t, r->container_id, r->exec_id, &resp.process, err);
	return e < 0 ? e : rpc_send(call, &resp.base, err);
}

/* An answer about many tasks goes on without one of them: the log says which, and why. */
static void left_out(const struct ctx *ctx, const char *id, const char *what, const struct err *err)
{
	if (err->kind != ERR_NOT_FOUND)
		log_warn("%s of task %s in namespace %s: %s", what, id, ctx->ns, err->text);
}

static int list(struct rpc_call *call, const void *req, struct err *err)
{
	struct ctx *ctx = rpc_ctx(call);
	struct services *s = rpc_data(call);
	char **ids;
	size_t n;
	TA(ListTasksResponse) resp = CONTAINERD__SERVICES__TASKS__V1__LIST_TASKS_RESPONSE__INIT;
	int e = runtime_list(ctx, s->runtime, &ids, &n, err);
	if (e < 0)
		return e;
	resp.tasks = arena_new_array(ctx->arena, Containerd__V1__Types__Process *, n + 1);
	if (!resp.tasks)
		return err_nomem(err);
	for (size_t i = 0; i < n; i++) {
		_cleanup_(task_unrefp) struct task *t = NULL;
		struct err left = ERR_INIT;
		/* One that went meanwhile is left out, and so is one that does not answer. */
		int got = runtime_get(ctx, s->runtime, ids[i], &t, &left);
		if (got == 0)
			got = process(call, t, ids[i], "", &resp.tasks[resp.n_tasks], &left);
		if (got == 0)
			resp.n_tasks++;
		else
			left_out(ctx, ids[i], "list", &left);
	}
	return rpc_send(call, &resp.base, err);
}

static int kill_(struct rpc_call *call, const void *req, struct err *err)
{
	const TA(KillRequest) *r = req;
	_cleanup_(task_unrefp) struct task *t = NULL;
	SH(KillRequest) sr = CONTAINERD__TASK__V3__KILL_REQUEST__INIT;
	int e = find(call, r->container_id, &t, err);
	sr.id = r->container_id;
	sr.exec_id = r->exec_id;
	sr.signal = r->signal;
	sr.all = r->all;
	if (e == 0)
		e = task_call(rpc_ctx(call), t, "Kill", &sr.base, &EMPTY, NULL, err);
	return e < 0 ? e : pb_send_empty(call, err);
}

static int exec(struct rpc_call *call, const void *req, struct err *err)
{
	const TA(ExecProcessRequest) *r = req;
	_cleanup_(task_unrefp) struct task *t = NULL;
	SH(ExecProcessRequest) sr = CONTAINERD__TASK__V3__EXEC_PROCESS_REQUEST__INIT;
	if (str_empty(r->exec_id))
		return err_set(err, ERR_INVALID_ARGUMENT, "exec id cannot be empty");
	int e = ident_validate(r->exec_id, err);
	if (e == 0)
		e = find(call, r->container_id, &t, err);
	sr.id = r->container_id;
	sr.exec_id = r->exec_id;
	sr.terminal = r->terminal;
	sr.stdin = r->stdin;
	sr.stdout = r->stdout;
	sr.stderr = r->stderr;
	sr.spec = r->spec;
	if (e == 0) {
		runtime_expect(((struct services *)rpc_data(call))->runtime);
		e = task_call(rpc_ctx(call), t, "Exec", &sr.base, &EMPTY, NULL, err);
	}
	return e < 0 ? e : pb_send_empty(call, err);
}

static int resize_pty(struct rpc_call *call, const void *req, struct err *err)
{
	const TA(ResizePtyRequest) *r = req;
	_cleanup_(task_unrefp) struct task *t = NULL;
	SH(ResizePtyRequest) sr = CONTAINERD__TASK__V3__RESIZE_PTY_REQUEST__INIT;
	int e = find(call, r->container_id, &t, err);
	sr.id = r->container_id;
	sr.exec_id = r->exec_id;
	sr.width = r->width;
	sr.height = r->height;
	if (e == 0)
		e = task_call(rpc_ctx(call), t, "ResizePty", &sr.base, &EMPTY, NULL, err);
	return e < 0 ? e : pb_send_empty(call, err);
}

static int close_io(struct rpc_call *call, const void *req, struct err *err)
{
	const TA(CloseIORequest) *r = req;
	_cleanup_(task_unrefp) struct task *t = NULL;
	SH(CloseIORequest) sr = CONTAINERD__TASK__V3__CLOSE_IOREQUEST__INIT;
	int e = find(call, r->container_id, &t, err);
	sr.id = r->container_id;
	sr.exec_id = r->exec_id;
	sr.stdin = r->stdin;
	if (e == 0)
		e = task_call(rpc_ctx(call), t, "CloseIO", &sr.base, &EMPTY, NULL, err);
	return e < 0 ? e : pb_send_empty(call, err);
}

static int pause_(struct rpc_call *call, const void *req, struct err *err)
{
	const TA(PauseTaskRequest) *r = req;
	_cleanup_(task_unrefp) struct task *t = NULL;
	SH(PauseRequest) sr = CONTAINERD__TASK__V3__PAUSE_REQUEST__INIT;
	int e = find(call, r->container_id, &t, err);
	sr.id = r->container_id;
	if (e == 0)
		e = task_call(rpc_ctx(call), t, "Pause", &sr.base, &EMPTY, NULL, err);
	return e < 0 ? e : pb_send_empty(call, err);
}

static int resume(struct rpc_call *call, const void *req, struct err *err)
{
	const TA(ResumeTaskRequest) *r = req;
	_cleanup_(task_unrefp) struct task *t = NULL;
	SH(ResumeRequest) sr = CONTAINERD__TASK__V3__RESUME_REQUEST__INIT;
	int e = find(call, r->container_id, &t, err);
	sr.id = r->container_id;
	if (e == 0)
		e = task_call(rpc_ctx(call), t, "Resume", &sr.base, &EMPTY, NULL, err);
	return e < 0 ? e : pb_send_empty(call, err);
}

static int list_pids(struct rpc_call *call, const void *req, struct err *err)
{
	const TA(ListPidsRequest) *r = req;
	_cleanup_(task_unrefp) struct task *t = NULL;
	SH(PidsRequest) sr = CONTAINERD__TASK__V3__PIDS_REQUEST__INIT;
	SH(PidsResponse) * sresp;
	TA(ListPidsResponse) resp = CONTAINERD__SERVICES__TASKS__V1__LIST_PIDS_RESPONSE__INIT;
	int e = find(call, r->container_id, &t, err);
	sr.id = r->container_id;
	if (e == 0)
		e = task_call(rpc_ctx(call), t, "Pids", &sr.base, &SHD(pids_response), &sresp, err);
	if (e < 0)
		return e;
	resp.processes = sresp->processes;
	resp.n_processes = sresp->n_processes;
	return rpc_send(call, &resp.base, err);
}

static int update(struct rpc_call *call, const void *req, struct err *err)
{
	const TA(UpdateTaskRequest) *r = req;
	struct ctx *ctx = rpc_ctx(call);
	_cleanup_(task_unrefp) struct task *t = NULL;
	struct labels notes;
	SH(UpdateTaskRequest) sr = CONTAINERD__TASK__V3__UPDATE_TASK_REQUEST__INIT;
	int e = find(call, r->container_id, &t, err);
	if (e == 0)
		e = pb_labels_get(ctx->arena, r->annotations, r->n_annotations, &notes, err);
	if (e == 0)
		e = pb_labels_put(ctx->arena, &notes, &SHD(update_task_request__annotations_entry),
				  &sr.annotations, &sr.n_annotations, err);
	sr.id = r->container_id;
	sr.resources = r->resources;
	if (e == 0)
		e = task_call(ctx, t, "Update", &sr.base, &EMPTY, NULL, err);
	return e < 0 ? e : pb_send_empty(call, err);
}

static int checkpoint(struct rpc_call *call, const void *req, struct err *err)
{
	const TA(CheckpointTaskRequest) *r = req;
	struct ctx *ctx = rpc_ctx(call);
	struct services *s = rpc_data(call);
	struct any options = pb_any_get(r->options);
	struct checkpoint cp = {0};
	Containerd__Types__Descriptor *v[ARRAY_LEN(cp.v)];
	TA(CheckpointTaskResponse)
	resp = CONTAINERD__SERVICES__TASKS__V1__CHECKPOINT_TASK_RESPONSE__INIT;
	int e = runtime_checkpoint(ctx, s->runtime, r->container_id, &options, &cp, err);
	if (e < 0)
		return e;
	for (; resp.n_descriptors < cp.n; resp.n_descriptors++) {
		v[resp.n_descriptors] =
			pb_descriptor_put(ctx->arena, &cp.v[resp.n_descriptors], err);
		if (!v[resp.n_descriptors])
			return -err->kind;
	}
	resp.descriptors = v;
	return rpc_send(call, &resp.base, err);
}

/* ---- Metrics ---- */

struct metrics_subject {
	const char *id, *ns;
};

static const char *metrics_field(const void *obj, const char *const *path, size_t n)
{
	const struct metrics_subject *m = obj;
	if (n == 1 && streq(path[0], "id"))
		return m->id;
	if (n == 1 && streq(path[0], "namespace"))
		return m->ns;
	return NULL;
}

static int metric_one(struct rpc_call *call, const char *id, Containerd__Types__Metric **ret,
		      struct err *err)
{
	struct ctx *ctx = rpc_ctx(call);
	struct services *s = rpc_data(call);
	_cleanup_(task_unrefp) struct task *t = NULL;
	SH(StatsRequest) sr = CONTAINERD__TASK__V3__STATS_REQUEST__INIT;
	SH(StatsResponse) * sresp;
	int e = runtime_get(ctx, s->runtime, id, &t, err);
	sr.id = (char *)id;
	if (e == 0)
		e = task_call(ctx, t, "Stats", &sr.base, &SHD(stats_response), &sresp, err);
	if (e < 0)
		return e;
	Containerd__Types__Metric *m = pb_new(ctx->arena, &containerd__types__metric__descriptor);
	if (!m)
		return err_nomem(err);
	m->timestamp = pb_time_put(ctx->arena, time_now());
	m->id = (char *)id;
	m->data = sresp->stats;
	*ret = m;
	return 0;
}

static int metrics(struct rpc_call *call, const void *req, struct err *err)
{
	const TA(MetricsRequest) *r = req;
	struct ctx *ctx = rpc_ctx(call);
	struct services *s = rpc_data(call);
	_cleanup_filter_ struct filter *f = NULL;
	char **ids;
	size_t n;
	TA(MetricsResponse) resp = CONTAINERD__SERVICES__TASKS__V1__METRICS_RESPONSE__INIT;
	int e = filter_parse(ctx->arena, (const char *const *)r->filters, r->n_filters, &f, err);
	if (e < 0)
		return err_set_raw(err, ERR_UNKNOWN, "%s", err->text);
	e = runtime_list(ctx, s->runtime, &ids, &n, err);
	if (e < 0)
		return e;
	resp.metrics = arena_new_array(ctx->arena, Containerd__Types__Metric *, n + 1);
	if (!resp.metrics)
		return err_nomem(err);
	for (size_t i = 0; i < n; i++) {
		struct metrics_subject m = {ids[i], ctx->ns};
		struct err left = ERR_INIT;
		if (!filter_match(f, metrics_field, &m))
			continue;
		if (metric_one(call, ids[i], &resp.metrics[resp.n_metrics], &left) == 0)
			resp.n_metrics++;
		else
			left_out(ctx, ids[i], "metrics", &left);
	}
	return rpc_send(call, &resp.base, err);
}

/* ---- Wait ---- */

/* One wait. Everything after the handler's return happens on the loop, so the answer and the
 * cancellation cannot meet. */
struct waiter {
	struct rpc_call *call;
	struct task *task;
	struct rpc_pending *pending;
	char *id, *exec_id;
};

static void waiter_free(struct waiter *w)
{
	if (w->task)
		task_unref(w->task);
	free(w->id);
	free(w->exec_id);
	free(w);
}

static void waiter_finish(struct waiter *w, const struct err *err)
{
	rpc_finish(w->call, err); /* on the loop: the cancel callback cannot come any more */
	waiter_free(w);
}

static void wait_answer(void *arg, const uint8_t *p, size_t n, const struct err *err)
{
	struct waiter *w = arg;
	struct err own = ERR_INIT;
	/* Status and time have the same numbers in both messages, so the bytes go through as they
	 * are. */
	if (!err && rpc_send_packed_nowait(w->call, p, n, 1u << 20, &own) < 0)
		err = &own;
	waiter_finish(w, err);
}

static void wait_canceled(void *arg)
{
	struct waiter *w = arg;
	struct err err = ERR_INIT;
	if (!rpc_pending_cancel(w->pending))
		return; /* the answer is on its way here */
	err_set(&err, ERR_CANCELED, "%s", "");
	waiter_finish(w, &err);
}

static void wait_begin(void *arg)
{
	struct waiter *w = arg;
	struct err err = ERR_INIT;
	SH(WaitRequest) sr = CONTAINERD__TASK__V3__WAIT_REQUEST__INIT;
	sr.id = w->id;
	sr.exec_id = w->exec_id;
	if (task_call_async(w->task, "Wait", &sr.base, 0, wait_answer, w, &w->pending, &err) < 0)
		waiter_finish(w, &err);
	else
		rpc_on_cancel(w->call, wait_canceled, w);
}

static int wait_(struct rpc_call *call, const void *req, struct err *err)
{
	const TA(WaitRequest) *r = req;
	struct services *s = rpc_data(call);
	struct waiter *w = calloc(1, sizeof(*w));
	if (!w)
		return err_nomem(err);
	int e = find(call, r->container_id, &w->task, err);
	w->call = call;
	w->id = strdup(r->container_id);
	w->exec_id = strdup(r->exec_id);
	if (e == 0 && (!w->id || !w->exec_id))
		e = err_nomem(err);
	if (e < 0) {
		waiter_free(w);
		return e;
	}
	int deferred = rpc_defer_wait(call);
	if (loop_post(s->loop, wait_begin, w) == 0)
		return deferred;
	waiter_free(w);
	err_nomem(err);
	rpc_finish(call, err);
	return deferred;
}

static const struct rpc_method methods[] = {
	{"Create", RPC_UNARY, create},
	{"Start", RPC_UNARY, start},
	{"Delete", RPC_UNARY, delete},
	{"DeleteProcess", RPC_UNARY, delete_process},
	{"Get", RPC_UNARY, get},
	{"List", RPC_UNARY, list},
	{"Kill", RPC_UNARY, kill_},
	{"Exec", RPC_UNARY, exec},
	{"ResizePty", RPC_UNARY, resize_pty},
	{"CloseIO", RPC_UNARY, close_io},
	{"Pause", RPC_UNARY, pause_},
	{"Resume", RPC_UNARY, resume},
	{"ListPids", RPC_UNARY, list_pids},
	{"Checkpoint", RPC_UNARY, checkpoint},
	{"Update", RPC_UNARY, update},
	{"Metrics", RPC_UNARY, metrics},
	{"Wait", RPC_UNARY, wait_},
};

SERVICE(tasks, &containerd__services__tasks__v1__tasks__descriptor, methods)
