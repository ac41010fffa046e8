/* SPDX-License-Identifier: Apache-2.0 */
/* Sandboxes behind shims: see shim_controller.h, and plugins/runtime/live.h for what a sandbox
 * shares with a task. When its shim dies, `shim delete` is run and the bundle removed. */
#include "plugins/sandbox/shim_controller.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/log.h"
#include "base/path.h"
#include "base/str.h"
#include "base/time.h"
#include "core/pb.h"
#include "plugins/runtime/live.h"
#include "plugins/runtime/shim_log.h"
#include "protos.h"

#define SBX(x) Containerd__Runtime__Sandbox__V1__##x
#define SBXD(x) containerd__runtime__sandbox__v1__##x##__descriptor
#define SERVICE "containerd.runtime.sandbox.v1.Sandbox"

struct shim_controller {
	struct sandbox_controller base;
	struct live_shims all;
};

static struct shim_controller *self(struct sandbox_controller *c)
{
	return (struct shim_controller *)c;
}

/* ---- shims ---- */

/* With a reference. */
static int shim_find(struct shim_controller *c, const char *ns, const char *id,
		     struct live_shim **ret, struct err *err)
{
	_cleanup_live_shim_ struct live_shim *s = live_shim_find(&c->all, ns, id);
	if (!s || s->state != LIVE_READY)
		return err_set(err, ERR_NOT_FOUND, "sandbox %s", id);
	*ret = TAKE_PTR(s);
	return 0;
}

static int shim_get(struct ctx *ctx, struct sandbox_controller *c, const char *id,
		    struct live_shim **ret, struct err *err)
{
	const char *ns;
	int r = ctx_namespace(ctx, &ns, err);
	return r < 0 ? r : shim_find(self(c), ns, id, ret, err);
}

static int call(struct ctx *ctx, struct live_shim *s, const char *method,
		const ProtobufCMessage *req, const ProtobufCMessageDescriptor *desc, void *ret,
		struct err *err)
{
	if (!s->client)
		return err_set(err, ERR_UNAVAILABLE, "shim of sandbox %s is gone", s->id);
	return rpc_call(s->client, ctx, SERVICE, method, req, desc, ret, err);
}

static void shim_bury(struct ctx *ctx, struct live_shim *s)
{
	struct bundle b;
	struct runtime_exit x;
	if (live_shim_bundle(ctx->arena, s, &b, NULL) < 0)
		return;
	live_shim_clear(ctx, s, &b, true, &x);
	live_shim_remove(s);
}

/* ---- create ---- */

static int shim_launch(struct ctx *ctx, struct live_shim *s, const struct sandbox *sb,
		       const struct bundle *b, bool *ret_started, struct err *err)
{
	const struct runtime_options *o = &s->all->o;
	struct shim_address addr;
	char *binary;
	int r = shim_binary(ctx, sb->runtime_name, &binary, err);
	if (r == 0)
		r = live_shim_set(&s->binary, binary, err);
	if (r == 0)
		r = shim_log_open(o->loop, ctx->arena, b, &s->log, err);
	if (r == 0)
		r = shim_start(ctx, o, b, s->ns, s->id, binary, &sb->runtime_options, &addr, err);
	if (r < 0)
		return r;
	*ret_started = true;
	return live_shim_reach(s, &addr, err);
}

static int call_create(struct ctx *ctx, struct live_shim *s, const struct bundle *b,
		       const struct sandbox *sb, const struct sandbox_create_options *o,
		       struct err *err)
{
	SBX(CreateSandboxRequest)
	req = CONTAINERD__RUNTIME__SANDBOX__V1__CREATE_SANDBOX_REQUEST__INIT;
	SBX(CreateSandboxResponse) * resp;
	int r = pb_mounts_put(ctx->arena, &o->rootfs, &req.rootfs, &req.n_rootfs, err);
	if (r == 0)
		r = pb_labels_put(ctx->arena, &o->annotations,
				  &SBXD(create_sandbox_request__annotations_entry),
				  &req.annotations, &req.n_annotations, err);
	if (r < 0)
		return r;
	req.sandbox_id = s->id;
	req.bundle_path = b->path;
	req.netns_path = (char *)str_or(o->netns_path, "");
	req.options = pb_any_put(ctx->arena, &o->options);
	if (o->options.type_url && !req.options)
		return err_nomem(err);
	r = call(ctx, s, "CreateSandbox", &req.base, &SBXD(create_sandbox_response), &resp, err);
	if (r == -ERR_UNIMPLEMENTED)
		return err_prefix(err, "runtime %s cannot run sandboxes: its shim %s",
				  sb->runtime_name, s->binary);
	return r;
}

/* Asks the shim to end: the sandbox service does it, or else, where it has none, the task service.
 * Best effort. */
static void shim_dismiss(struct ctx *ctx, struct live_shim *s)
{
	SBX(ShutdownSandboxRequest)
	req = CONTAINERD__RUNTIME__SANDBOX__V1__SHUTDOWN_SANDBOX_REQUEST__INIT;
	SBX(ShutdownSandboxResponse) * resp;
	Containerd__Task__V2__ShutdownRequest old = CONTAINERD__TASK__V2__SHUTDOWN_REQUEST__INIT;
	static const char *const services[] = {"containerd.task.v3.Task",
					       "containerd.task.v2.Task"};
	struct ctx own = {.arena = ctx->arena, .ns = s->ns, .lease = ""};
	int64_t limit = s->all->o.shutdown_timeout_ns;
	if (!s->client)
		return;
	req.sandbox_id = old.id = s->id;
	old.now = true;
	own.deadline = time_mono() + limit;
	if (call(&own, s, "ShutdownSandbox", &req.base, &SBXD(shutdown_sandbox_response), &resp,
		 NULL) == 0)
		return;
	for (size_t i = 0; i < ARRAY_LEN(services); i++) {
		own.deadline = time_mono() + limit;
		if (rpc_call(s->client, &own, services[i], "Shutdown", &old.base,
			     &google__protobuf__empty__descriptor, NULL,
			     NULL) != -ERR_UNIMPLEMENTED)
			return;
	}
}

static void create_undo(struct ctx *ctx, struct live_shim *s, const struct bundle *b, bool started)
{
	struct ctx own = {.arena = ctx->arena, .ns = s->ns, .lease = ""};
	struct runtime_exit x;
	shim_dismiss(&own, s);
	live_shim_clear(&own, s, b, started, &x);
}

static int create(struct ctx *ctx, struct sandbox_controller *base, const struct sandbox *sb,
		  const struct sandbox_create_options *o, struct err *err)
{
	struct shim_controller *c = self(base);
	const char *ns;
	struct bundle b;
	struct live_shim *s;
	bool started = false;
	int r = ctx_namespace(ctx, &ns, err);
	if (r == 0)
		r = ident_validate(sb->id, err);
	if (r == 0 && str_empty(sb->runtime_name))
		r = err_set(err, ERR_INVALID_ARGUMENT, "sandbox %s: no runtime name", sb->id);
	if (r == 0)
		r = bundle_at(ctx->arena, c->all.o.root, c->all.o.state, ns, sb->id, &b, err);
	if (r == 0)
		r = live_shim_add(&c->all, ns, sb->id, &s, err);
	if (r < 0)
		return r;
	_cleanup_live_shim_ _unused_ struct live_shim *guard = s;
	r = bundle_create(ctx->arena, &b, &sb->spec, err);
	if (r == 0) {
		r = shim_launch(ctx, s, sb, &b, &started, err);
		if (r < 0)
			err_prefix(err, "failed to start new shim for sandbox %s", sb->id);
		else
			r = call_create(ctx, s, &b, sb, o, err);
		if (r < 0 && started)
			err_prefix(err, "failed to create sandbox %s", sb->id);
		if (r < 0)
			create_undo(ctx, s, &b, started);
	}
	if (r < 0) {
		atomic_store(&s->state, LIVE_DEAD);
		live_shim_remove(s);
		return r;
	}
	live_shim_ready(s);
	return 0;
}

/* ---- the end ---- */

/* What is left of a sandbox whose shim has been told to end. */
static int shim_discard(struct ctx *ctx, struct live_shim *s, struct err *err)
{
	struct bundle b;
	int r = live_shim_bundle(ctx->arena, s, &b, err);
	if (r == 0)
		r = bundle_remove(ctx->arena, &b, err);
	live_shim_remove(s);
	return r;
}

static int shutdown_(struct ctx *ctx, struct sandbox_controller *base, const char *id,
		     struct err *err)
{
	_cleanup_live_shim_ struct live_shim *s = NULL;
	SBX(ShutdownSandboxRequest)
	req = CONTAINERD__RUNTIME__SANDBOX__V1__SHUTDOWN_SANDBOX_REQUEST__INIT;
	SBX(ShutdownSandboxResponse) * resp;
	int r = shim_get(ctx, base, id, &s, err);
	if (r < 0)
		return r;
	if (!live_shim_end(s))
		return err_set(err, ERR_NOT_FOUND, "sandbox %s", id);
	req.sandbox_id = s->id;
	r = call(ctx, s, "ShutdownSandbox", &req.base, &SBXD(shutdown_sandbox_response), &resp,
		 err);
	if (r < 0 && r != -ERR_UNAVAILABLE && !atomic_load(&s->closed)) {
		live_shim_ready(s);
		return err_prefix(err, "failed to shutdown sandbox");
	}
	if (r < 0) {
		/* It died of it. */
		struct ctx own = {.arena = ctx->arena, .ns = s->ns, .lease = ""};
		shim_bury(&own, s);
		return 0;
	}
	r = shim_discard(ctx, s, err);
	return r < 0 ? err_prefix(err, "failed to delete sandbox shim") : 0;
}

/* A sandbox that cannot be started goes. */
static void start_failed(struct ctx *ctx, struct live_shim *s)
{
	struct err err = ERR_INIT;
	if (!live_shim_end(s))
		return;
	shim_dismiss(ctx, s);
	if (shim_discard(ctx, s, &err) < 0)
		log_error("sandbox %s in namespace %s: %s", s->id, s->ns, err.text);
}

static int start(struct ctx *ctx, struct sandbox_controller *base, const char *id,
		 struct sandbox_instance *ret, struct err *err)
{
	_cleanup_live_shim_ struct live_shim *s = NULL;
	SBX(StartSandboxRequest)
	req = CONTAINERD__RUNTIME__SANDBOX__V1__START_SANDBOX_REQUEST__INIT;
	SBX(StartSandboxResponse) * resp;
	int r = shim_get(ctx, base, id, &s, err);
	if (r < 0)
		return r;
	req.sandbox_id = s->id;
	r = call(ctx, s, "StartSandbox", &req.base, &SBXD(start_sandbox_response), &resp, err);
	if (r == -ERR_FAILED_PRECONDITION) /* it runs, or ran, already: that is no harm */
		return err_prefix(err, "failed to start sandbox %s", id);
	if (r < 0) {
		start_failed(ctx, s);
		return err_prefix(err, "failed to start sandbox %s", id);
	}
	*ret = (struct sandbox_instance){.id = arena_strdup(ctx->arena, s->id),
					 .pid = resp->pid,
					 .address = arena_strdup(ctx->arena, s->address),
					 .version = (uint32_t)s->version,
					 .spec = pb_any_get(resp->spec)};
	ret->created_at = pb_time_get(resp->created_at);
	return ret->id && ret->address ? 0 : err_nomem(err);
}

static int stop(struct ctx *ctx, struct sandbox_controller *base, const char *id,
		uint32_t timeout_secs, struct err *err)
{
	_cleanup_live_shim_ struct live_shim *s = NULL;
	SBX(StopSandboxRequest) req = CONTAINERD__RUNTIME__SANDBOX__V1__STOP_SANDBOX_REQUEST__INIT;
	SBX(StopSandboxResponse) * resp;
	struct err own = ERR_INIT;
	int r = shim_get(ctx, base, id, &s, &own);
	if (r == -ERR_NOT_FOUND)
		return 0;
	if (r < 0)
		return err_copy(err, &own);
	req.sandbox_id = s->id;
	req.timeout_secs = timeout_secs;
	r = call(ctx, s, "StopSandbox", &req.base, &SBXD(stop_sandbox_response), &resp, &own);
	if (r == 0 || r == -ERR_NOT_FOUND || r == -ERR_UNAVAILABLE)
		return 0;
	err_copy(err, &own);
	return err_prefix(err, "failed to stop sandbox");
}

/* ---- wait ---- */

struct sandbox_wait {
	struct live_shim *shim;
	sandbox_wait_fn fn;
	void *arg;
	struct rpc_pending *pending;
};

static void wait_free(struct sandbox_wait *w)
{
	live_shim_unref(w->shim);
	free(w);
}

static void wait_answered(void *arg, const uint8_t *p, size_t n, const struct err *err)
{
	struct sandbox_wait *w = arg;
	struct err own = ERR_INIT;
	struct sandbox_exit x = {0};
	SBX(WaitSandboxResponse) *resp = NULL;
	if (!err) {
		resp = containerd__runtime__sandbox__v1__wait_sandbox_response__unpack(NULL, n, p);
		if (!resp)
			err_set(&own, ERR_INTERNAL, "answer of the shim of sandbox %s",
				w->shim->id);
	} else {
		err_copy(&own, err);
		err_prefix(&own, "failed to wait sandbox %s", w->shim->id);
	}
	if (resp) {
		x.status = resp->exit_status;
		x.at = pb_time_get(resp->exited_at);
		containerd__runtime__sandbox__v1__wait_sandbox_response__free_unpacked(resp, NULL);
	}
	w->fn(w->arg, own.kind ? NULL : &x, own.kind ? &own : NULL);
	wait_free(w);
}

static int wait_(struct sandbox_controller *base, const char *ns, const char *id,
		 sandbox_wait_fn fn, void *arg, struct sandbox_wait **ret, struct err *err)
{
	SBX(WaitSandboxRequest) req = CONTAINERD__RUNTIME__SANDBOX__V1__WAIT_SANDBOX_REQUEST__INIT;
	struct live_shim *s;
	int r = shim_find(self(base), ns, id, &s, err);
	if (r < 0)
		return r;
	struct sandbox_wait *w = calloc(1, sizeof(*w));
	if (!w) {
		live_shim_unref(s);
		return err_nomem(err);
	}
	*w = (struct sandbox_wait){.shim = s, .fn = fn, .arg = arg};
	req.sandbox_id = s->id;
	r = rpc_call_async(s->client, s->ns, SERVICE, "WaitSandbox", &req.base, 0, wait_answered, w,
			   &w->pending, err);
	if (r < 0) {
		wait_free(w);
		return r;
	}
	*ret = w;
	return 0;
}

static bool wait_cancel(struct sandbox_controller *base, struct sandbox_wait *w)
{
	if (!rpc_pending_cancel(w->pending))
		return false;
	wait_free(w);
	return true;
}

/* ---- questions ---- */

static int platform(struct ctx *ctx, struct sandbox_controller *base, const char *id,
		    struct platform *ret, struct err *err)
{
	_cleanup_live_shim_ struct live_shim *s = NULL;
	SBX(PlatformRequest) req = CONTAINERD__RUNTIME__SANDBOX__V1__PLATFORM_REQUEST__INIT;
	SBX(PlatformResponse) * resp;
	int r = shim_get(ctx, base, id, &s, err);
	if (r < 0)
		return r;
	req.sandbox_id = s->id;
	r = call(ctx, s, "Platform", &req.base, &SBXD(platform_response), &resp, err);
	if (r < 0)
		return err_prefix(err, "failed to get sandbox platform");
	*ret = (struct platform){"", "", "", ""};
	if (resp->platform)
		*ret = (struct platform){resp->platform->os, resp->platform->architecture,
					 resp->platform->variant, ""};
	return 0;
}

static int status(struct ctx *ctx, struct sandbox_controller *base, const char *id, bool verbose,
		  struct sandbox_status *ret, struct err *err)
{
	_cleanup_live_shim_ struct live_shim *s = NULL;
	SBX(SandboxStatusRequest)
	req = CONTAINERD__RUNTIME__SANDBOX__V1__SANDBOX_STATUS_REQUEST__INIT;
	SBX(SandboxStatusResponse) * resp;
	struct sandbox_status st = {.id = id, .state = "", .address = ""};
	struct err own = ERR_INIT;
	int r = shim_get(ctx, base, id, &s, &own);
	if (r == -ERR_NOT_FOUND) {
		st.exited_at = time_now();
		*ret = st;
		return 0;
	}
	if (r < 0)
		return err_copy(err, &own);
	req.sandbox_id = s->id;
	req.verbose = verbose;
	r = call(ctx, s, "SandboxStatus", &req.base, &SBXD(sandbox_status_response), &resp, err);
	if (r < 0)
		return err_prefix(err, "failed to query sandbox %s status", id);
	st.id = resp->sandbox_id;
	st.pid = resp->pid;
	st.state = resp->state;
	st.created_at = pb_time_get(resp->created_at);
	st.exited_at = pb_time_get(resp->exited_at);
	st.extra = pb_any_get(resp->extra);
	st.version = (uint32_t)s->version;
	st.address = arena_strdup(ctx->arena, s->address);
	if (!st.address)
		return err_nomem(err);
	r = pb_labels_get(ctx->arena, resp->info, resp->n_info, &st.info, err);
	if (r < 0)
		return r;
	*ret = st;
	return 0;
}

static int metrics(struct ctx *ctx, struct sandbox_controller *base, const char *id,
		   struct sandbox_metric *ret, struct err *err)
{
	_cleanup_live_shim_ struct live_shim *s = NULL;
	SBX(SandboxMetricsRequest)
	req = CONTAINERD__RUNTIME__SANDBOX__V1__SANDBOX_METRICS_REQUEST__INIT;
	SBX(SandboxMetricsResponse) * resp;
	int r = shim_get(ctx, base, id, &s, err);
	if (r < 0)
		return r;
	req.sandbox_id = s->id;
	r = call(ctx, s, "SandboxMetrics", &req.base, &SBXD(sandbox_metrics_response), &resp, err);
	if (r < 0)
		return r;
	if (!resp->metrics)
		return err_set(err, ERR_NOT_FOUND, "metrics of sandbox %s", id);
	*ret = (struct sandbox_metric){.id = resp->metrics->id,
				       .data = pb_any_get(resp->metrics->data),
				       .at = pb_time_get(resp->metrics->timestamp)};
	return 0;
}

/* The protocol of shims has no word for it. */
static int update(struct ctx *ctx, struct sandbox_controller *base, const char *id,
		  const struct sandbox *sb, char *const *paths, size_t n, struct err *err)
{
	return 0;
}

/* ---- load ---- */

/* False: there is no shim any more. Any answer of the service means that there is one. */
static bool shim_found(struct ctx *ctx, struct live_shim *s, const struct bundle *b,
		       struct err *err)
{
	SBX(PingRequest) req = CONTAINERD__RUNTIME__SANDBOX__V1__PING_REQUEST__INIT;
	SBX(PingResponse) * resp;
	struct ctx timed = {.arena = ctx->arena,
			    .ns = s->ns,
			    .lease = "",
			    .deadline = time_mono() + s->all->o.load_timeout_ns};
	if (live_shim_reload(ctx->arena, s, b, err) < 0)
		return false;
	req.sandbox_id = s->id;
	int r = call(&timed, s, "PingSandbox", &req.base, &SBXD(ping_response), &resp, err);
	return r == 0 || r == -ERR_UNIMPLEMENTED;
}

static void load_one(struct ctx *ctx, struct live_shim *s, const struct bundle *b)
{
	struct sandbox record;
	struct err err = ERR_INIT, absent = ERR_INIT;
	bool found = shim_found(ctx, s, b, &err);
	if (found && sandbox_get(ctx, s->all->o.db, s->id, &record, &absent) == -ERR_NOT_FOUND) {
		log_warn("sandbox %s in namespace %s has no record any more: removing it", s->id,
			 ctx->ns);
		shim_dismiss(ctx, s);
		found = false;
	} else if (!found) {
		log_warn("load sandbox %s in namespace %s: %s; cleaning up", s->id, ctx->ns,
			 err.text);
	}
	if (found) {
		live_shim_ready(s);
		return;
	}
	atomic_store(&s->state, LIVE_DEAD);
	shim_bury(ctx, s);
}

int shim_controller_load(struct ctx *ctx, struct sandbox_controller *base, struct err *err)
{
	return live_shims_load(ctx, &self(base)->all, load_one, err);
}

/* ---- the controller ---- */

void shim_controller_quiesce(struct sandbox_controller *c)
{
	live_shims_quiesce(&self(c)->all);
}

void shim_controller_disconnect(struct sandbox_controller *c)
{
	live_shims_disconnect(&self(c)->all);
}

static void free_(struct sandbox_controller *base)
{
	struct shim_controller *c = self(base);
	live_shims_destroy(&c->all);
	free(c);
}

static const struct sandbox_controller_ops ops = {.create = create,
						  .start = start,
						  .platform = platform,
						  .stop = stop,
						  .wait = wait_,
						  .wait_cancel = wait_cancel,
						  .status = status,
						  .shutdown = shutdown_,
						  .metrics = metrics,
						  .update = update,
						  .free = free_};

static int dir_make(const char *path, struct err *err)
{
	int r = mkdir_p(path, 0700);
	/* An older containerd made it 0711. */
	if (r == 0 && chmod(path, 0700) < 0)
		r = -errno;
	return r < 0 ? err_errno(err, r, "make %s", path) : 0;
}

int shim_controller_new(const struct runtime_options *o, struct sandbox_controller **ret,
			struct err *err)
{
	int r = dir_make(o->root, err);
	if (r == 0)
		r = dir_make(o->state, err);
	if (r < 0)
		return r;
	struct shim_controller *c = calloc(1, sizeof(*c));
	if (!c)
		return err_nomem(err);
	c->base.ops = &ops;
	c->all.o = *o;
	c->all.noun = "sandbox";
	c->all.taken = " already running";
	c->all.bury = shim_bury;
	live_shims_init(&c->all);
	*ret = &c->base;
	return 0;
}
