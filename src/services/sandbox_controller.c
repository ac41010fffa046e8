/* SPDX-License-Identifier: Apache-2.0 */
/* containerd.services.sandbox.v1.Controller: to the controller that the client names, and the
 * events about it.
 *
 * Wait holds no thread: the call is deferred, and finished by the controller. */
#include <stdlib.h>

#include "base/log.h"
#include "base/str.h"
#include "base/time.h"
#include "core/event.h"
#include "event/loop.h"
#include "plugins/sandbox/controller.h"
#include "services/sandbox_pb.h"
#include "services/services.h"

#define SB(x) Containerd__Services__Sandbox__V1__##x
#define SBD(x) containerd__services__sandbox__v1__##x##__descriptor
#define TY(x) Containerd__Types__##x
#define TYD(x) containerd__types__##x##__descriptor
#define ANSWER_MAX (1u << 20)

static int controller(struct rpc_call *call, const char *name, struct sandbox_controller **ret,
		      struct err *err)
{
	struct services *s = rpc_data(call);
	return sandbox_controllers_get(s->sandboxers, name, ret, err);
}

/* What has been done stays done when nobody can be told of it. */
static void publish(struct ctx *ctx, struct event_exchange *x, const char *topic,
		    const ProtobufCMessage *msg)
{
	struct err err = ERR_INIT;
	if (event_publish(ctx, x, topic, msg, &err) < 0)
		log_error("publish %s: %s", topic, err.text);
}

static int create(struct rpc_call *call, const void *req, struct err *err)
{
	const SB(ControllerCreateRequest) *r = req;
	struct ctx *ctx = rpc_ctx(call);
	struct services *s = rpc_data(call);
	struct sandbox_controller *c;
	struct sandbox b = {.id = r->sandbox_id, .runtime_name = "", .sandboxer = r->sandboxer};
	struct sandbox_create_options o = {.options = pb_any_get(r->options),
					   .netns_path = r->netns_path};
	Containerd__Events__SandboxCreate ev = CONTAINERD__EVENTS__SANDBOX_CREATE__INIT;
	SB(ControllerCreateResponse)
	resp = CONTAINERD__SERVICES__SANDBOX__V1__CONTROLLER_CREATE_RESPONSE__INIT;
	int e = controller(call, r->sandboxer, &c, err);
	if (e == 0 && r->sandbox)
		e = sandbox_from_pb(ctx->arena, r->sandbox, &b, err);
	if (e == 0)
		e = pb_mounts_get(ctx->arena, r->rootfs, r->n_rootfs, &o.rootfs, err);
	if (e == 0)
		e = pb_labels_get(ctx->arena, r->annotations, r->n_annotations, &o.annotations,
				  err);
	if (e == 0)
		e = c->ops->create(ctx, c, &b, &o, err);
	if (e < 0)
		return e;
	ev.sandbox_id = (char *)b.id;
	publish(ctx, s->events, "/sandboxes/create", &ev.base);
	resp.sandbox_id = (char *)b.id;
	return rpc_send(call, &resp.base, err);
}

static int start(struct rpc_call *call, const void *req, struct err *err)
{
	const SB(ControllerStartRequest) *r = req;
	struct ctx *ctx = rpc_ctx(call);
	struct services *s = rpc_data(call);
	struct sandbox_controller *c;
	struct sandbox_instance in = {0};
	Containerd__Events__SandboxStart ev = CONTAINERD__EVENTS__SANDBOX_START__INIT;
	SB(ControllerStartResponse)
	resp = CONTAINERD__SERVICES__SANDBOX__V1__CONTROLLER_START_RESPONSE__INIT;
	int e = controller(call, r->sandboxer, &c, err);
	if (e == 0)
		e = c->ops->start(ctx, c, r->sandbox_id, &in, err);
	if (e < 0)
		return e;
	ev.sandbox_id = (char *)in.id;
	publish(ctx, s->events, "/sandboxes/start", &ev.base);
	resp.sandbox_id = (char *)in.id;
	resp.pid = in.pid;
	resp.created_at = pb_time_put(ctx->arena, in.created_at);
	resp.address = (char *)str_or(in.address, "");
	resp.version = in.version;
	resp.spec = pb_any_put(ctx->arena, &in.spec);
	e = pb_labels_put(ctx->arena, &in.labels, &SBD(controller_start_response__labels_entry),
			  &resp.labels, &resp.n_labels, err);
	return e < 0 ? e : rpc_send(call, &resp.base, err);
}

static int platform(struct rpc_call *call, const void *req, struct err *err)
{
	const SB(ControllerPlatformRequest) *r = req;
	struct sandbox_controller *c;
	struct platform p = {"", "", "", ""};
	TY(Platform) msg = CONTAINERD__TYPES__PLATFORM__INIT;
	SB(ControllerPlatformResponse)
	resp = CONTAINERD__SERVICES__SANDBOX__V1__CONTROLLER_PLATFORM_RESPONSE__INIT;
	int e = controller(call, r->sandboxer, &c, err);
	if (e == 0)
		e = c->ops->platform(rpc_ctx(call), c, r->sandbox_id, &p, err);
	if (e < 0)
		return e;
	msg.os = (char *)p.os;
	msg.architecture = (char *)p.arch;
	msg.variant = (char *)str_or(p.variant, "");
	msg.os_version = (char *)str_or(p.os_version, "");
	resp.platform = &msg;
	return rpc_send(call, &resp.base, err);
}

static int stop(struct rpc_call *call, const void *req, struct err *err)
{
	const SB(ControllerStopRequest) *r = req;
	struct sandbox_controller *c;
	SB(ControllerStopResponse)
	resp = CONTAINERD__SERVICES__SANDBOX__V1__CONTROLLER_STOP_RESPONSE__INIT;
	int e = controller(call, r->sandboxer, &c, err);
	if (e == 0)
		e = c->ops->stop(rpc_ctx(call), c, r->sandbox_id, r->timeout_secs, err);
	return e < 0 ? e : rpc_send(call, &resp.base, err);
}

static int status(struct rpc_call *call, const void *req, struct err *err)
{
	const SB(ControllerStatusRequest) *r = req;
	struct ctx *ctx = rpc_ctx(call);
	struct sandbox_controller *c;
	struct sandbox_status st = {0};
	SB(ControllerStatusResponse)
	resp = CONTAINERD__SERVICES__SANDBOX__V1__CONTROLLER_STATUS_RESPONSE__INIT;
	int e = controller(call, r->sandboxer, &c, err);
	if (e == 0)
		e = c->ops->status(ctx, c, r->sandbox_id, r->verbose, &st, err);
	if (e < 0)
		return e;
	resp.sandbox_id = (char *)st.id;
	resp.pid = st.pid;
	resp.state = (char *)str_or(st.state, "");
	resp.created_at = pb_time_put(ctx->arena, st.created_at);
	resp.exited_at = pb_time_put(ctx->arena, st.exited_at);
	resp.extra = pb_any_put(ctx->arena, &st.extra);
	resp.address = (char *)str_or(st.address, "");
	resp.version = st.version;
	e = pb_labels_put(ctx->arena, &st.info, &SBD(controller_status_response__info_entry),
			  &resp.info, &resp.n_info, err);
	return e < 0 ? e : rpc_send(call, &resp.base, err);
}

static int shutdown_(struct rpc_call *call, const void *req, struct err *err)
{
	const SB(ControllerShutdownRequest) *r = req;
	struct sandbox_controller *c;
	SB(ControllerShutdownResponse)
	resp = CONTAINERD__SERVICES__SANDBOX__V1__CONTROLLER_SHUTDOWN_RESPONSE__INIT;
	int e = controller(call, r->sandboxer, &c, err);
	if (e == 0)
		e = c->ops->shutdown(rpc_ctx(call), c, r->sandbox_id, err);
	return e < 0 ? e : rpc_send(call, &resp.base, err);
}

static int metrics(struct rpc_call *call, const void *req, struct err *err)
{
	const SB(ControllerMetricsRequest) *r = req;
	struct ctx *ctx = rpc_ctx(call);
	struct sandbox_controller *c;
	struct sandbox_metric m = {0};
	TY(Metric) msg = CONTAINERD__TYPES__METRIC__INIT;
	SB(ControllerMetricsResponse)
	resp = CONTAINERD__SERVICES__SANDBOX__V1__CONTROLLER_METRICS_RESPONSE__INIT;
	int e = controller(call, r->sandboxer, &c, err);
	if (e == 0)
		e = c->ops->metrics(ctx, c, r->sandbox_id, &m, err);
	if (e < 0)
		return e;
	msg.id = (char *)m.id;
	msg.timestamp = pb_time_put(ctx->arena, m.at);
	msg.data = pb_any_put(ctx->arena, &m.data);
	resp.metrics = &msg;
	return rpc_send(call, &resp.base, err);
}

static int update(struct rpc_call *call, const void *req, struct err *err)
{
	const SB(ControllerUpdateRequest) *r = req;
	struct ctx *ctx = rpc_ctx(call);
	struct sandbox_controller *c;
	struct sandbox b;
	SB(ControllerUpdateResponse)
	resp = CONTAINERD__SERVICES__SANDBOX__V1__CONTROLLER_UPDATE_RESPONSE__INIT;
	int e = controller(call, r->sandboxer, &c, err);
	if (e == 0 && !r->sandbox)
		return err_set(err, ERR_UNKNOWN, "sandbox can not be nil");
	if (e == 0)
		e = sandbox_from_pb(ctx->arena, r->sandbox, &b, err);
	if (e == 0)
		e = c->ops->update(ctx, c, r->sandbox_id, &b, r->fields, r->n_fields, err);
	return e < 0 ? e : rpc_send(call, &resp.base, err);
}

/* ---- Wait ---- */

/* One wait. Everything after the handler's return happens on the loop, so the answer and the
 * cancellation cannot meet. */
struct waiter {
	struct rpc_call *call;
	struct services *services;
	struct sandbox_controller *controller;
	struct sandbox_wait *wait;
	char *ns, *id;
};

static void waiter_free(struct waiter *w)
{
	free(w->ns);
	free(w->id);
	free(w);
}

static void waiter_finish(struct waiter *w, const struct err *err)
{
	rpc_finish(w->call, err); /* on the loop: the cancel callback cannot come any more */
	waiter_free(w);
}

static int wait_tell(struct waiter *w, struct ctx *ctx, const struct sandbox_exit *x,
		     struct err *err)
{
	Containerd__Events__SandboxExit ev = CONTAINERD__EVENTS__SANDBOX_EXIT__INIT;
	SB(ControllerWaitResponse)
	resp = CONTAINERD__SERVICES__SANDBOX__V1__CONTROLLER_WAIT_RESPONSE__INIT;
	size_t n;
	ev.sandbox_id = w->id;
	ev.exit_status = resp.exit_status = x->status;
	ev.exited_at = resp.exited_at = pb_time_put(ctx->arena, x->at);
	publish(ctx, w->services->events, "/sandboxes/exit", &ev.base);
	uint8_t *p = rpc_pack(ctx->arena, &resp.base, &n);
	return p ? rpc_send_packed_nowait(w->call, p, n, ANSWER_MAX, err) : err_nomem(err);
}

static void wait_answer(void *arg, const struct sandbox_exit *x, const struct err *err)
{
	struct waiter *w = arg;
	struct err own = ERR_INIT;
	struct ctx ctx = {.arena = arena_new(0), .ns = w->ns, .lease = ""};
	if (!err && (ctx.arena ? wait_tell(w, &ctx, x, &own) : err_nomem(&own)) < 0)
		err = &own;
	arena_free(ctx.arena);
	waiter_finish(w, err);
}

static void wait_canceled(void *arg)
{
	struct waiter *w = arg;
	struct err err = ERR_INIT;
	if (!w->controller->ops->wait_cancel(w->controller, w->wait))
		return; /* the answer is on its way here */
	err_set(&err, ERR_CANCELED, "%s", "");
	waiter_finish(w, &err);
}

static void wait_begin(void *arg)
{
	struct waiter *w = arg;
	struct err err = ERR_INIT;
	if (w->controller->ops->wait(w->controller, w->ns, w->id, wait_answer, w, &w->wait, &err) <
	    0)
		waiter_finish(w, &err);
	else
		rpc_on_cancel(w->call, wait_canceled, w);
}

static int wait_(struct rpc_call *call, const void *req, struct err *err)
{
	const SB(ControllerWaitRequest) *r = req;
	struct services *s = rpc_data(call);
	struct sandbox_controller *c;
	const char *ns;
	int e = controller(call, r->sandboxer, &c, err);
	if (e == 0)
		e = ctx_namespace(rpc_ctx(call), &ns, err);
	if (e < 0)
		return e;
	struct waiter *w = calloc(1, sizeof(*w));
	if (!w)
		return err_nomem(err);
	*w = (struct waiter){.call = call,
			     .services = s,
			     .controller = c,
			     .ns = strdup(ns),
			     .id = strdup(r->sandbox_id)};
	if (!w->ns || !w->id) {
		waiter_free(w);
		return err_nomem(err);
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
	{"Create", RPC_UNARY, create},	    {"Start", RPC_UNARY, start},
	{"Platform", RPC_UNARY, platform},  {"Stop", RPC_UNARY, stop},
	{"Wait", RPC_UNARY, wait_},	    {"Status", RPC_UNARY, status},
	{"Shutdown", RPC_UNARY, shutdown_}, {"Metrics", RPC_UNARY, metrics},
	{"Update", RPC_UNARY, update},
};

SERVICE(sandbox_controller, &containerd__services__sandbox__v1__controller__descriptor, methods)
