/* SPDX-License-Identifier: Apache-2.0 */
/* A sandbox controller in another process. */
#include <errno.h>
#include <stdlib.h>

#include "base/str.h"
#include "core/pb.h"
#include "plugins/proxy/backends.h"

#define SB(x) Containerd__Services__Sandbox__V1__##x
#define INIT(x) CONTAINERD__SERVICES__SANDBOX__V1__CONTROLLER_##x##__INIT
#define DESC(x) containerd__services__sandbox__v1__##x##__descriptor
#define TY(x) Containerd__Types__##x
#define TYD(x) containerd__types__##x##__descriptor
#define SERVICE (&DESC(controller))

struct proxy_controller {
	struct sandbox_controller base;
	struct proxy *proxy;
};

struct sandbox_wait {
	struct proxy_pending *pending;
	sandbox_wait_fn fn;
	void *arg;
};

static struct proxy *proxy_of(struct sandbox_controller *c)
{
	return ((struct proxy_controller *)c)->proxy;
}

static char *name_of(struct sandbox_controller *c)
{
	return (char *)proxy_name(proxy_of(c));
}

static int call(struct ctx *ctx, struct sandbox_controller *c, const char *method,
		const ProtobufCMessage *req, int64_t limit_ns, void *ret_resp, struct err *err)
{
	return proxy_call(proxy_of(c), ctx, SERVICE, method, req, limit_ns, ret_resp, err);
}

/* ---- messages ---- */

static int extensions_put(struct arena *a, const struct sandbox *s, TY(Sandbox) * m)
{
	m->extensions = arena_new_array(a, TY(Sandbox__ExtensionsEntry) *, s->n_extensions + 1);
	if (!m->extensions)
		return -ENOMEM;
	for (size_t i = 0; i < s->n_extensions; i++) {
		TY(Sandbox__ExtensionsEntry) *e = pb_new(a, &TYD(sandbox__extensions_entry));

		if (!e)
			return -ENOMEM;
		e->key = (char *)s->extensions[i].key;
		e->value = pb_any_put(a, &s->extensions[i].value);
		m->extensions[m->n_extensions++] = e;
	}
	return 0;
}

static int sandbox_put(struct arena *a, const struct sandbox *s, TY(Sandbox) * *ret,
		       struct err *err)
{
	TY(Sandbox) *m = pb_new(a, &TYD(sandbox));

	if (!m || !(m->runtime = pb_new(a, &TYD(sandbox__runtime))) ||
	    !(m->created_at = pb_time_put(a, s->created_at)) ||
	    !(m->updated_at = pb_time_put(a, s->updated_at)) || extensions_put(a, s, m) < 0)
		return err_nomem(err);
	m->sandbox_id = (char *)s->id;
	m->sandboxer = (char *)str_or(s->sandboxer, "");
	m->runtime->name = (char *)str_or(s->runtime_name, "");
	m->runtime->options = pb_any_put(a, &s->runtime_options);
	m->spec = pb_any_put(a, &s->spec);
	*ret = m;
	return pb_labels_put(a, &s->labels, &TYD(sandbox__labels_entry), &m->labels, &m->n_labels,
			     err);
}

/* ---- calls ---- */

static int proxy_create(struct ctx *ctx, struct sandbox_controller *c, const struct sandbox *s,
			const struct sandbox_create_options *o, struct err *err)
{
	SB(ControllerCreateRequest) req = INIT(CREATE_REQUEST);
	int r = sandbox_put(ctx->arena, s, &req.sandbox, err);

	if (r == 0)
		r = pb_mounts_put(ctx->arena, &o->rootfs, &req.rootfs, &req.n_rootfs, err);
	if (r == 0)
		r = pb_labels_put(ctx->arena, &o->annotations,
				  &DESC(controller_create_request__annotations_entry),
				  &req.annotations, &req.n_annotations, err);
	if (r < 0)
		return r;
	req.sandbox_id = (char *)s->id;
	req.sandboxer = name_of(c);
	req.options = pb_any_put(ctx->arena, &o->options);
	req.netns_path = (char *)str_or(o->netns_path, "");
	return call(ctx, c, "Create", &req.base, PROXY_SLOW_NS, NULL, err);
}

static int proxy_start(struct ctx *ctx, struct sandbox_controller *c, const char *id,
		       struct sandbox_instance *ret, struct err *err)
{
	SB(ControllerStartRequest) req = INIT(START_REQUEST);
	SB(ControllerStartResponse) * resp;
	struct sandbox_instance in;
	int r;

	req.sandbox_id = (char *)id;
	req.sandboxer = name_of(c);
	r = call(ctx, c, "Start", &req.base, PROXY_SLOW_NS, &resp, err);
	if (r < 0)
		return r;
	in = (struct sandbox_instance){.id = str_empty(resp->sandbox_id) ? id : resp->sandbox_id,
				       .pid = resp->pid,
				       .created_at = pb_time_get(resp->created_at),
				       .address = resp->address,
				       .version = resp->version,
				       .spec = pb_any_get(resp->spec)};
	r = pb_labels_get(ctx->arena, resp->labels, resp->n_labels, &in.labels, err);
	if (r == 0)
		*ret = in;
	return r;
}

static int proxy_platform(struct ctx *ctx, struct sandbox_controller *c, const char *id,
			  struct platform *ret, struct err *err)
{
	SB(ControllerPlatformRequest) req = INIT(PLATFORM_REQUEST);
	SB(ControllerPlatformResponse) * resp;
	int r;

	req.sandbox_id = (char *)id;
	req.sandboxer = name_of(c);
	r = call(ctx, c, "Platform", &req.base, PROXY_QUICK_NS, &resp, err);
	if (r < 0)
		return r;
	*ret = (struct platform){"", "", "", ""};
	if (resp->platform)
		*ret = (struct platform){resp->platform->os, resp->platform->architecture,
					 resp->platform->variant, resp->platform->os_version};
	return 0;
}

static int proxy_stop(struct ctx *ctx, struct sandbox_controller *c, const char *id,
		      uint32_t timeout_secs, struct err *err)
{
	SB(ControllerStopRequest) req = INIT(STOP_REQUEST);

	req.sandbox_id = (char *)id;
	req.sandboxer = name_of(c);
	req.timeout_secs = timeout_secs;
	return call(ctx, c, "Stop", &req.base, PROXY_SLOW_NS + (int64_t)timeout_secs * NSEC_PER_SEC,
		    NULL, err);
}

static void wait_done(void *arg, const uint8_t *p, size_t n, const struct err *err)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	SB(ControllerWaitResponse) * resp;
	struct sandbox_wait *w = arg;
	struct sandbox_exit x;
	struct err own = ERR_INIT;

	if (!err && (a ? rpc_unpack(a, &DESC(controller_wait_response), p, n, &resp, &own)
		       : err_nomem(&own)) < 0)
		err = &own;
	if (!err)
		x = (struct sandbox_exit){.status = resp->exit_status,
					  .at = pb_time_get(resp->exited_at)};
	w->fn(w->arg, err ? NULL : &x, err);
	free(w);
}

static int proxy_wait(struct sandbox_controller *c, const char *ns, const char *id,
		      sandbox_wait_fn fn, void *arg, struct sandbox_wait **ret, struct err *err)
{
	SB(ControllerWaitRequest) req = INIT(WAIT_REQUEST);
	struct sandbox_wait *w = malloc(sizeof(*w));
	int r;

	if (!w)
		return err_nomem(err);
	*w = (struct sandbox_wait){.fn = fn, .arg = arg};
	req.sandbox_id = (char *)id;
	req.sandboxer = name_of(c);
	r = proxy_call_async(proxy_of(c), ns, SERVICE, "Wait", &req.base, wait_done, w, &w->pending,
			     err);
	if (r < 0) {
		free(w);
		return r;
	}
	*ret = w;
	return 0;
}

static bool proxy_wait_cancel(struct sandbox_controller *c, struct sandbox_wait *w)
{
	if (!proxy_pending_cancel(w->pending))
		return false;
	free(w);
	return true;
}

static int proxy_status(struct ctx *ctx, struct sandbox_controller *c, const char *id, bool verbose,
			struct sandbox_status *ret, struct err *err)
{
	SB(ControllerStatusRequest) req = INIT(STATUS_REQUEST);
	SB(ControllerStatusResponse) * resp;
	struct sandbox_status s;
	int r;

	req.sandbox_id = (char *)id;
	req.sandboxer = name_of(c);
	req.verbose = verbose;
	r = call(ctx, c, "Status", &req.base, PROXY_QUICK_NS, &resp, err);
	if (r < 0)
		return r;
	s = (struct sandbox_status){.id = str_empty(resp->sandbox_id) ? id : resp->sandbox_id,
				    .pid = resp->pid,
				    .state = resp->state,
				    .created_at = pb_time_get(resp->created_at),
				    .exited_at = pb_time_get(resp->exited_at),
				    .extra = pb_any_get(resp->extra),
				    .address = resp->address,
				    .version = resp->version};
	r = pb_labels_get(ctx->arena, resp->info, resp->n_info, &s.info, err);
	if (r == 0)
		*ret = s;
	return r;
}

static int proxy_shutdown(struct ctx *ctx, struct sandbox_controller *c, const char *id,
			  struct err *err)
{
	SB(ControllerShutdownRequest) req = INIT(SHUTDOWN_REQUEST);

	req.sandbox_id = (char *)id;
	req.sandboxer = name_of(c);
	return call(ctx, c, "Shutdown", &req.base, PROXY_SLOW_NS, NULL, err);
}

static int proxy_metrics(struct ctx *ctx, struct sandbox_controller *c, const char *id,
			 struct sandbox_metric *ret, struct err *err)
{
	SB(ControllerMetricsRequest) req = INIT(METRICS_REQUEST);
	SB(ControllerMetricsResponse) * resp;
	int r;

	req.sandbox_id = (char *)id;
	req.sandboxer = name_of(c);
	r = call(ctx, c, "Metrics", &req.base, PROXY_QUICK_NS, &resp, err);
	if (r < 0)
		return r;
	*ret = (struct sandbox_metric){.id = id};
	if (resp->metrics)
		*ret = (struct sandbox_metric){.id = resp->metrics->id,
					       .at = pb_time_get(resp->metrics->timestamp),
					       .data = pb_any_get(resp->metrics->data)};
	return 0;
}

static int proxy_update(struct ctx *ctx, struct sandbox_controller *c, const char *id,
			const struct sandbox *s, char *const *paths, size_t n, struct err *err)
{
	SB(ControllerUpdateRequest) req = INIT(UPDATE_REQUEST);
	int r = sandbox_put(ctx->arena, s, &req.sandbox, err);

	if (r < 0)
		return r;
	req.sandbox_id = (char *)id;
	req.sandboxer = name_of(c);
	req.fields = (char **)paths;
	req.n_fields = n;
	return call(ctx, c, "Update", &req.base, PROXY_SLOW_NS, NULL, err);
}

static void controller_free(struct sandbox_controller *c)
{
	free(c);
}

static const struct sandbox_controller_ops ops = {
	.create = proxy_create,
	.start = proxy_start,
	.platform = proxy_platform,
	.stop = proxy_stop,
	.wait = proxy_wait,
	.wait_cancel = proxy_wait_cancel,
	.status = proxy_status,
	.shutdown = proxy_shutdown,
	.metrics = proxy_metrics,
	.update = proxy_update,
	.free = controller_free,
};

int proxy_controller_new(struct proxy *p, struct sandbox_controller **ret, struct err *err)
{
	struct proxy_controller *c = calloc(1, sizeof(*c));

	if (!c)
		return err_nomem(err);
	c->base.ops = &ops;
	c->proxy = p;
	*ret = &c->base;
	return 0;
}
