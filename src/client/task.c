/* SPDX-License-Identifier: Apache-2.0 */
/* Calls about tasks and their processes, and the wait for an exit. */
#include "client/client.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>

#include "base/time.h"
#include "client/internal.h"

int client_task_get(struct client *c, struct ctx *ctx, const char *id, const char *exec_id,
		    PB_TASK_TYPES(Process) * *ret, struct err *err)
{
	PB_TASKS(GetRequest) req = PB_TASKS_INIT(GET_REQUEST);
	PB_TASKS(GetResponse) * resp;
	int r;

	req.container_id = (char *)id;
	req.exec_id = (char *)exec_id;
	r = client_call(c, ctx, PB_TASKS_SERVICE, "Get", &req.base, &resp, err);
	if (r < 0)
		return r;
	if (!resp->process)
		return err_set(err, ERR_INTERNAL, "task \"%s\" came empty", id);
	*ret = resp->process;
	return 0;
}

int client_task_start(struct client *c, struct ctx *ctx, const char *id, const char *exec_id,
		      uint32_t *ret_pid, struct err *err)
{
	PB_TASKS(StartRequest) req = PB_TASKS_INIT(START_REQUEST);
	PB_TASKS(StartResponse) * resp;
	int r;

	req.container_id = (char *)id;
	req.exec_id = (char *)exec_id;
	r = client_call(c, ctx, PB_TASKS_SERVICE, "Start", &req.base, &resp, err);
	if (r == 0)
		*ret_pid = resp->pid;
	return r;
}

int client_task_kill(struct client *c, struct ctx *ctx, const char *id, const char *exec_id,
		     int signal, bool all, struct err *err)
{
	PB_TASKS(KillRequest) req = PB_TASKS_INIT(KILL_REQUEST);

	req.container_id = (char *)id;
	req.exec_id = (char *)exec_id;
	req.signal = (uint32_t)signal;
	req.all = all;
	return client_call(c, ctx, PB_TASKS_SERVICE, "Kill", &req.base, NULL, err);
}

int client_task_delete_request(struct client *c, struct ctx *ctx, const char *id,
			       const char *exec_id, struct rpc_stream **ret, struct err *err)
{
	PB_TASKS(DeleteTaskRequest) task = PB_TASKS_INIT(DELETE_TASK_REQUEST);
	PB_TASKS(DeleteProcessRequest) process = PB_TASKS_INIT(DELETE_PROCESS_REQUEST);

	task.container_id = process.container_id = (char *)id;
	process.exec_id = (char *)exec_id;
	return *exec_id ? client_stream(c, ctx, PB_TASKS_SERVICE, "DeleteProcess", &process.base,
					ret, err)
			: client_stream(c, ctx, PB_TASKS_SERVICE, "Delete", &task.base, ret, err);
}

int client_task_delete_receive(struct ctx *ctx, struct rpc_stream *s, uint32_t *ret_status,
			       struct err *err)
{
	PB_TASKS(DeleteResponse) * resp;
	int r = client_reply(ctx, s, &containerd__services__tasks__v1__delete_response__descriptor,
			     &resp, err);

	if (r == 0 && ret_status)
		*ret_status = resp->exit_status;
	return r;
}

int client_task_delete(struct client *c, struct ctx *ctx, const char *id, const char *exec_id,
		       uint32_t *ret_status, struct err *err)
{
	struct rpc_stream *s;
	int r = client_task_delete_request(c, ctx, id, exec_id, &s, err);

	return r < 0 ? r : client_task_delete_receive(ctx, s, ret_status, err);
}

int client_task_resize(struct client *c, struct ctx *ctx, const char *id, const char *exec_id,
		       uint32_t width, uint32_t height, struct err *err)
{
	PB_TASKS(ResizePtyRequest) req = PB_TASKS_INIT(RESIZE_PTY_REQUEST);

	req.container_id = (char *)id;
	req.exec_id = (char *)exec_id;
	req.width = width;
	req.height = height;
	return client_call(c, ctx, PB_TASKS_SERVICE, "ResizePty", &req.base, NULL, err);
}

int client_task_close_stdin(struct client *c, struct ctx *ctx, const char *id, const char *exec_id,
			    struct err *err)
{
	PB_TASKS(CloseIORequest) req = PB_TASKS_INIT(CLOSE_IOREQUEST);

	req.container_id = (char *)id;
	req.exec_id = (char *)exec_id;
	req.stdin = true;
	return client_call(c, ctx, PB_TASKS_SERVICE, "CloseIO", &req.base, NULL, err);
}

int client_task_resume(struct client *c, struct ctx *ctx, const char *id, struct err *err)
{
	PB_TASKS(ResumeTaskRequest) req = PB_TASKS_INIT(RESUME_TASK_REQUEST);

	req.container_id = (char *)id;
	return client_call(c, ctx, PB_TASKS_SERVICE, "Resume", &req.base, NULL, err);
}

int client_task_metrics(struct client *c, struct ctx *ctx, const char *id, PB_TYPES(Metric) * *ret,
			ProtobufCMessage **ret_data, struct err *err)
{
	PB_TASKS(MetricsRequest) req = PB_TASKS_INIT(METRICS_REQUEST);
	const ProtobufCMessageDescriptor *type;
	PB_TASKS(MetricsResponse) * resp;
	PB_TASK_TYPES(Process) * task;
	PB_TYPES(Metric) * m;
	char *filter;
	int r;

	/* The text for a missing task comes from here. */
	r = client_task_get(c, ctx, id, "", &task, err);
	if (r < 0)
		return r;
	filter = arena_printf(ctx->arena, "id==%s", id);
	if (!filter)
		return err_nomem(err);
	req.filters = &filter;
	req.n_filters = 1;
	r = client_call(c, ctx, PB_TASKS_SERVICE, "Metrics", &req.base, &resp, err);
	if (r < 0)
		return r;
	if (resp->n_metrics == 0 || !resp->metrics[0]->data)
		return err_set(err, ERR_NOT_FOUND, "metrics of task \"%s\"", id);
	m = resp->metrics[0];
	type = client_any_type(m->data->type_url);
	if (!type)
		return err_set(err, ERR_UNIMPLEMENTED, "metrics of type \"%s\"", m->data->type_url);
	*ret = m;
	return rpc_unpack(ctx->arena, type, m->data->value.data, m->data->value.len, ret_data, err);
}

/* ---- Wait ---- */

/* Two references: the caller's and the pending call's. result is written by the loop before done,
 * and read after it. */
struct client_wait {
	struct loop *loop;
	atomic_int refs;
	struct rpc_pending *pending;
	int event_fd;
	atomic_bool done;
	int result;
	uint32_t status;
	struct err err;
};

static void wait_unref(struct client_wait *w)
{
	if (atomic_fetch_sub(&w->refs, 1) > 1)
		return;
	fd_closep(&w->event_fd);
	free(w);
}

static void wait_done(void *arg, const uint8_t *resp, size_t n, const struct err *err)
{
	struct client_wait *w = arg;
	struct arena *a _cleanup_arena_ = arena_new(0);
	PB_TASKS(WaitResponse) * m;

	if (err)
		w->result = err_copy(&w->err, err);
	else if (!a)
		w->result = err_nomem(&w->err);
	else
		w->result =
			rpc_unpack(a, &containerd__services__tasks__v1__wait_response__descriptor,
				   resp, n, &m, &w->err);
	if (w->result == 0)
		w->status = m->exit_status;
	atomic_store(&w->done, true);
	eventfd_write(w->event_fd, 1);
	wait_unref(w);
}

int client_wait_new(struct client *c, struct ctx *ctx, const char *id, const char *exec_id,
		    struct client_wait **ret, struct err *err)
{
	PB_TASKS(WaitRequest) req = PB_TASKS_INIT(WAIT_REQUEST);
	int64_t timeout = ctx->deadline ? MAX(ctx->deadline - time_mono(), 1) : 0;
	struct client_wait *w = calloc(1, sizeof(*w));
	int r;

	if (!w)
		return err_nomem(err);
	w->loop = c->loop;
	w->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	atomic_init(&w->refs, 2);
	if (w->event_fd < 0) {
		r = err_errno(err, errno, "make an eventfd");
		free(w);
		return r;
	}
	req.container_id = (char *)id;
	req.exec_id = (char *)exec_id;
	r = rpc_call_async(c->rpc, ctx->ns, PB_TASKS_SERVICE->name, "Wait", &req.base, timeout,
			   wait_done, w, &w->pending, err);
	if (r < 0) {
		fd_closep(&w->event_fd);
		free(w);
		return r;
	}
	*ret = w;
	return 0;
}

int client_wait_fd(const struct client_wait *w)
{
	return w->event_fd;
}

int client_wait_result(struct client_wait *w, uint32_t *ret_status, struct err *err)
{
	struct pollfd p = {.fd = w->event_fd, .events = POLLIN};

	while (!atomic_load(&w->done) && loop_is_driven(w->loop)) {
		int r = loop_run_once(w->loop, -1);

		if (r < 0)
			return err_errno(err, r, "run the connection's loop");
	}
	while (!atomic_load(&w->done))
		if (poll(&p, 1, -1) < 0 && errno != EINTR)
			return err_errno(err, errno, "poll");
	if (w->result < 0)
		return err_copy(err, &w->err);
	*ret_status = w->status;
	return 0;
}

/* On the loop: gives up the call's reference when the call has not ended, then the caller's. */
static void wait_cancel(void *arg)
{
	struct client_wait *w = arg;

	if (!atomic_load(&w->done) && rpc_pending_cancel(w->pending))
		wait_unref(w);
	wait_unref(w);
}

void client_wait_free(struct client_wait *w)
{
	if (atomic_load(&w->done) || loop_post(w->loop, wait_cancel, w) < 0)
		wait_unref(w);
}
