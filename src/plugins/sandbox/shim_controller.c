/* SPDX-License-Identifier: Apache-2.0 */
/* Sandboxes behind shims: see shim_controller.h.
 *
 * All sandboxes are in one list under one lock, which is held for look-ups only. One is there from
 * the moment its creation begins and leaves the list with its bundle. References keep the
 * connection alive; the last one ends it, on the loop. When a connection ends although nobody shut
 * the sandbox down, its shim has died: a pool job runs `shim delete` and removes the bundle. */
#include "plugins/sandbox/shim_controller.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/path.h"
#include "base/str.h"
#include "base/time.h"
#include "event/loop.h"
#include "event/pool.h"
#include "plugins/runtime/shim.h"
#include "plugins/runtime/shim_log.h"
#include "protos.h"
#include "rpc/ttrpc.h"

#define SBX(x) Containerd__Runtime__Sandbox__V1__##x
#define SBXD(x) containerd__runtime__sandbox__v1__##x##__descriptor
#define SERVICE "containerd.runtime.sandbox.v1.Sandbox"
#define BINARY_MAX 4096

enum state { CREATING, READY, ENDING, DEAD };

struct sandbox_shim {
	struct shim_controller *ctl;
	struct sandbox_shim *next; /* under the lock */
	atomic_int refs;
	atomic_int state;
	atomic_bool closed; /* the connection has ended */
	char *ns, *id;
	char *binary;  /* "" when unknown */
	char *address; /* with its protocol; "" until it is known */
	int version;   /* of the task API */
	struct rpc_client *client;
	struct shim_log *log;
};

struct shim_controller {
	struct sandbox_controller base;
	struct runtime_options o;
	pthread_mutex_t lock;
	struct sandbox_shim *list;
	atomic_bool closing; /* no more cleaning up after shims */
	atomic_bool stopped; /* the loop does not run any more */
};

static struct shim_controller *self(struct sandbox_controller *c)
{
	return (struct shim_controller *)c;
}

/* ---- the list ---- */

static void shim_free(void *arg)
{
	struct sandbox_shim *s = arg;
	shim_log_free(s->log);
	if (s->client)
		rpc_client_free(s->client);
	free(s->ns);
	free(s->id);
	free(s->binary);
	free(s->address);
	free(s);
}

static void shim_unref(struct sandbox_shim *s)
{
	if (atomic_fetch_sub(&s->refs, 1) != 1)
		return;
	if (atomic_load(&s->ctl->stopped))
		shim_free(s);
	else if (loop_post(s->ctl->o.loop, shim_free, s) < 0)
		log_error("sandbox %s in namespace %s: no memory to free it", s->id, s->ns);
}
DEFINE_CLEANUP(struct sandbox_shim *, shim_unref)
#define _cleanup_shim_ _cleanup_(shim_unrefp)

static struct sandbox_shim **slot(struct shim_controller *c, const char *ns, const char *id)
{
	struct sandbox_shim **p = &c->list;
	while (*p && (!streq((*p)->ns, ns) || !streq((*p)->id, id)))
		p = &(*p)->next;
	return p;
}

static int shim_add(struct shim_controller *c, const char *ns, const char *id,
		    struct sandbox_shim **ret, struct err *err)
{
	struct sandbox_shim *s = calloc(1, sizeof(*s));
	if (!s)
		return err_nomem(err);
	s->ctl = c;
	s->refs = 2; /* the list's and the caller's */
	s->state = CREATING;
	s->version = 3;
	s->ns = strdup(ns);
	s->id = strdup(id);
	s->binary = strdup("");
	s->address = strdup("");
	if (!s->ns || !s->id || !s->binary || !s->address) {
		shim_free(s);
		return err_nomem(err);
	}
	MUTEX_GUARD(&c->lock);
	struct sandbox_shim **p = slot(c, ns, id);
	if (*p) {
		shim_free(s);
		return err_set(err, ERR_ALREADY_EXISTS, "sandbox %s already running", id);
	}
	*p = s;
	*ret = s;
	return 0;
}

static void shim_remove(struct sandbox_shim *s)
{
	struct shim_controller *c = s->ctl;
	pthread_mutex_lock(&c->lock);
	struct sandbox_shim **p = &c->list;
	while (*p && *p != s)
		p = &(*p)->next;
	bool found = *p;
	if (found)
		*p = s->next;
	pthread_mutex_unlock(&c->lock);
	if (found)
		shim_unref(s);
}

/* With a reference. */
static int shim_find(struct shim_controller *c, const char *ns, const char *id,
		     struct sandbox_shim **ret, struct err *err)
{
	MUTEX_GUARD(&c->lock);
	struct sandbox_shim *s = *slot(c, ns, id);
	if (!s || s->state != READY)
		return err_set(err, ERR_NOT_FOUND, "sandbox %s", id);
	atomic_fetch_add(&s->refs, 1);
	*ret = s;
	return 0;
}

static int shim_get(struct ctx *ctx, struct sandbox_controller *c, const char *id,
		    struct sandbox_shim **ret, struct err *err)
{
	const char *ns;
	int r = ctx_namespace(ctx, &ns, err);
	return r < 0 ? r : shim_find(self(c), ns, id, ret, err);
}

static int call(struct ctx *ctx, struct sandbox_shim *s, const char *method,
		const ProtobufCMessage *req, const ProtobufCMessageDescriptor *desc, void *ret,
		struct err *err)
{
	if (!s->client)
		return err_set(err, ERR_UNAVAILABLE, "shim of sandbox %s is gone", s->id);
	return rpc_call(s->client, ctx, SERVICE, method, req, desc, ret, err);
}

/* ---- death ---- */

static void shim_bury(struct ctx *ctx, struct sandbox_shim *s)
{
	struct shim_controller *c = s->ctl;
	struct bundle b;
	struct err err = ERR_INIT;
	struct runtime_exit x;
	if (bundle_at(ctx->arena, c->o.root, c->o.state, s->ns, s->id, &b, &err) < 0)
		return;
	if (!str_empty(s->binary) &&
	    shim_delete(ctx, &c->o, &b, s->ns, s->id, s->binary, &x, &err) < 0)
		log_warn("sandbox %s in namespace %s: %s", s->id, s->ns, err.text);
	if (bundle_remove(ctx->arena, &b, &err) < 0)
		log_error("sandbox %s in namespace %s: %s", s->id, s->ns, err.text);
	shim_remove(s);
}

static void death_job(void *arg)
{
	struct sandbox_shim *s = arg;
	struct ctx ctx = {.arena = arena_new(0), .ns = s->ns, .lease = ""};
	if (ctx.arena) {
		log_warn("sandbox %s in namespace %s: its shim has died; cleaning up", s->id,
			 s->ns);
		shim_bury(&ctx, s);
	}
	arena_free(ctx.arena);
	shim_unref(s);
}

static void shim_died(struct sandbox_shim *s)
{
	int ready = READY;
	if (atomic_load(&s->ctl->closing) ||
	    !atomic_compare_exchange_strong(&s->state, &ready, DEAD))
		return;
	atomic_fetch_add(&s->refs, 1);
	if (pool_submit(s->ctl->o.pool, death_job, s) < 0) {
		log_error(
			"sandbox %s in namespace %s: its shim has died, and no thread to clean up",
			s->id, s->ns);
		atomic_fetch_sub(&s->refs, 1);
	}
}

/* The connection ended. The sandbox is alive: it frees its client before itself. */
static void shim_closed(void *arg)
{
	struct sandbox_shim *s = arg;
	atomic_store(&s->closed, true);
	shim_died(s);
}

static void shim_ready(struct sandbox_shim *s)
{
	atomic_store(&s->state, READY);
	if (atomic_load(&s->closed))
		shim_died(s);
}

/* ---- create ---- */

static int shim_reach(struct sandbox_shim *s, const struct shim_address *addr, struct err *err)
{
	_cleanup_close_ int fd = -1;
	char *address;
	int r = shim_connect(addr, &fd, err);
	if (r < 0)
		return r;
	if (asprintf(&address, "%s+%s", addr->protocol, addr->address) < 0)
		return err_nomem(err);
	free(s->address);
	s->address = address;
	s->version = addr->version;
	r = ttrpc_client_new(s->ctl->o.loop, TAKE_FD(fd), shim_closed, s, &s->client);
	return r < 0 ? err_errno(err, r, "shim of sandbox %s", s->id) : 0;
}

static int shim_launch(struct ctx *ctx, struct sandbox_shim *s, const struct sandbox *sb,
		       const struct bundle *b, bool *ret_started, struct err *err)
{
	struct shim_controller *c = s->ctl;
	struct shim_address addr;
	char *binary, *copy;
	int r = shim_binary(ctx, sb->runtime_name, &binary, err);
	if (r < 0)
		return r;
	copy = strdup(binary);
	if (!copy)
		return err_nomem(err);
	free(s->binary);
	s->binary = copy;
	r = shim_log_open(c->o.loop, ctx->arena, b, &s->log, err);
	if (r == 0)
		r = shim_start(ctx, &c->o, b, s->ns, s->id, binary, &sb->runtime_options, &addr,
			       err);
	if (r < 0)
		return r;
	*ret_started = true;
	return shim_reach(s, &addr, err);
}

static int mounts_pack(struct arena *a, const struct mounts *m, Containerd__Types__Mount ***ret)
{
	Containerd__Types__Mount *v = arena_new_array(a, Containerd__Types__Mount, m->n + 1);
	Containerd__Types__Mount **pv = arena_new_array(a, Containerd__Types__Mount *, m->n + 1);
	if (!v || !pv)
		return -ENOMEM;
	for (size_t i = 0; i < m->n; i++) {
		containerd__types__mount__init(&v[i]);
		v[i].type = (char *)m->v[i].type;
		v[i].source = (char *)m->v[i].source;
		v[i].target = (char *)str_or(m->v[i].target, "");
		v[i].options = (char **)m->v[i].options;
		v[i].n_options = m->v[i].n_options;
		pv[i] = &v[i];
	}
	*ret = pv;
	return 0;
}

static int notes_pack(struct arena *a, const struct labels *l,
		      SBX(CreateSandboxRequest__AnnotationsEntry) * **ret)
{
	typedef SBX(CreateSandboxRequest__AnnotationsEntry) entry;
	entry *v = arena_new_array(a, entry, l->n + 1);
	entry **pv = arena_new_array(a, entry *, l->n + 1);
	if (!v || !pv)
		return -ENOMEM;
	for (size_t i = 0; i < l->n; i++) {
		containerd__runtime__sandbox__v1__create_sandbox_request__annotations_entry__init(
			&v[i]);
		v[i].key = (char *)l->v[i].key;
		v[i].value = (char *)l->v[i].value;
		pv[i] = &v[i];
	}
	*ret = pv;
	return 0;
}

static Google__Protobuf__Any *any_pack(const struct any *any, Google__Protobuf__Any *storage)
{
	if (!any->type_url)
		return NULL;
	google__protobuf__any__init(storage);
	storage->type_url = (char *)any->type_url;
	storage->value = (ProtobufCBinaryData){any->len, (uint8_t *)any->value};
	return storage;
}

static struct any any_unpack(const Google__Protobuf__Any *any)
{
	return any ? (struct any){any->type_url, any->value.data, any->value.len} : (struct any){};
}

static int call_create(struct ctx *ctx, struct sandbox_shim *s, const struct bundle *b,
		       const struct sandbox *sb, const struct sandbox_create_options *o,
		       struct err *err)
{
	SBX(CreateSandboxRequest)
	req = CONTAINERD__RUNTIME__SANDBOX__V1__CREATE_SANDBOX_REQUEST__INIT;
	SBX(CreateSandboxResponse) * resp;
	Google__Protobuf__Any options;
	req.sandbox_id = s->id;
	req.bundle_path = b->path;
	req.netns_path = (char *)str_or(o->netns_path, "");
	req.options = any_pack(&o->options, &options);
	req.n_rootfs = o->rootfs.n;
	req.n_annotations = o->annotations.n;
	if (mounts_pack(ctx->arena, &o->rootfs, &req.rootfs) < 0 ||
	    notes_pack(ctx->arena, &o->annotations, &req.annotations) < 0)
		return err_nomem(err);
	int r = call(ctx, s, "CreateSandbox", &req.base, &SBXD(create_sandbox_response), &resp,
		     err);
	if (r == -ERR_UNIMPLEMENTED)
		return err_prefix(err, "runtime %s cannot run sandboxes: its shim %s",
				  sb->runtime_name, s->binary);
	return r;
}

/* Asks the shim to end: the sandbox service does it, or else, where it has none, the task service.
 * Best effort. */
static void shim_dismiss(struct ctx *ctx, struct sandbox_shim *s)
{
	SBX(ShutdownSandboxRequest)
	req = CONTAINERD__RUNTIME__SANDBOX__V1__SHUTDOWN_SANDBOX_REQUEST__INIT;
	SBX(ShutdownSandboxResponse) * resp;
	Containerd__Task__V2__ShutdownRequest old = CONTAINERD__TASK__V2__SHUTDOWN_REQUEST__INIT;
	static const char *const services[] = {"containerd.task.v3.Task",
					       "containerd.task.v2.Task"};
	struct ctx own = {.arena = ctx->arena, .ns = s->ns, .lease = ""};
	int64_t limit = s->ctl->o.shutdown_timeout_ns;
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

static void create_undo(struct ctx *ctx, struct sandbox_shim *s, const struct bundle *b,
			bool started)
{
	struct shim_controller *c = s->ctl;
	struct ctx own = {.arena = ctx->arena, .ns = s->ns, .lease = ""};
	struct runtime_exit x;
	struct err err = ERR_INIT;
	shim_dismiss(&own, s);
	if (started && shim_delete(&own, &c->o, b, s->ns, s->id, s->binary, &x, &err) < 0)
		log_warn("sandbox %s in namespace %s: %s", s->id, s->ns, err.text);
	if (bundle_remove(ctx->arena, b, &err) < 0)
		log_error("sandbox %s in namespace %s: %s", s->id, s->ns, err.text);
}

static int create(struct ctx *ctx, struct sandbox_controller *base, const struct sandbox *sb,
		  const struct sandbox_create_options *o, struct err *err)
{
	struct shim_controller *c = self(base);
	const char *ns;
	struct bundle b;
	struct sandbox_shim *s;
	bool started = false;
	int r = ctx_namespace(ctx, &ns, err);
	if (r == 0)
		r = ident_validate(sb->id, err);
	if (r == 0 && str_empty(sb->runtime_name))
		r = err_set(err, ERR_INVALID_ARGUMENT, "sandbox %s: no runtime name", sb->id);
	if (r == 0)
		r = bundle_at(ctx->arena, c->o.root, c->o.state, ns, sb->id, &b, err);
	if (r == 0)
		r = shim_add(c, ns, sb->id, &s, err);
	if (r < 0)
		return r;
	_cleanup_shim_ _unused_ struct sandbox_shim *guard = s;
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
		atomic_store(&s->state, DEAD);
		shim_remove(s);
		return r;
	}
	shim_ready(s);
	return 0;
}

/* ---- the end ---- */

/* What is left of a sandbox whose shim has been told to end. */
static int shim_discard(struct ctx *ctx, struct sandbox_shim *s, struct err *err)
{
	struct shim_controller *c = s->ctl;
	struct bundle b;
	int r = bundle_at(ctx->arena, c->o.root, c->o.state, s->ns, s->id, &b, err);
	if (r == 0)
		r = bundle_remove(ctx->arena, &b, err);
	shim_remove(s);
	return r;
}

static int shutdown_(struct ctx *ctx, struct sandbox_controller *base, const char *id,
		     struct err *err)
{
	_cleanup_shim_ struct sandbox_shim *s = NULL;
	SBX(ShutdownSandboxRequest)
	req = CONTAINERD__RUNTIME__SANDBOX__V1__SHUTDOWN_SANDBOX_REQUEST__INIT;
	SBX(ShutdownSandboxResponse) * resp;
	int r = shim_get(ctx, base, id, &s, err);
	if (r < 0)
		return r;
	int ready = READY;
	if (!atomic_compare_exchange_strong(&s->state, &ready, ENDING))
		return err_set(err, ERR_NOT_FOUND, "sandbox %s", id);
	req.sandbox_id = s->id;
	r = call(ctx, s, "ShutdownSandbox", &req.base, &SBXD(shutdown_sandbox_response), &resp,
		 err);
	if (r < 0 && r != -ERR_UNAVAILABLE && !atomic_load(&s->closed)) {
		shim_ready(s);
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
static void start_failed(struct ctx *ctx, struct sandbox_shim *s)
{
	int ready = READY;
	struct err err = ERR_INIT;
	if (!atomic_compare_exchange_strong(&s->state, &ready, ENDING))
		return;
	shim_dismiss(ctx, s);
	if (shim_discard(ctx, s, &err) < 0)
		log_error("sandbox %s in namespace %s: %s", s->id, s->ns, err.text);
}

static int start(struct ctx *ctx, struct sandbox_controller *base, const char *id,
		 struct sandbox_instance *ret, struct err *err)
{
	_cleanup_shim_ struct sandbox_shim *s = NULL;
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
					 .spec = any_unpack(resp->spec)};
	if (resp->created_at)
		ret->created_at =
			(struct timespec){resp->created_at->seconds, resp->created_at->nanos};
	return ret->id && ret->address ? 0 : err_nomem(err);
}

static int stop(struct ctx *ctx, struct sandbox_controller *base, const char *id,
		uint32_t timeout_secs, struct err *err)
{
	_cleanup_shim_ struct sandbox_shim *s = NULL;
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
	struct sandbox_shim *shim;
	sandbox_wait_fn fn;
	void *arg;
	struct rpc_pending *pending;
};

static void wait_free(struct sandbox_wait *w)
{
	shim_unref(w->shim);
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
		if (resp->exited_at)
			x.at = (struct timespec){resp->exited_at->seconds, resp->exited_at->nanos};
		containerd__runtime__sandbox__v1__wait_sandbox_response__free_unpacked(resp, NULL);
	}
	w->fn(w->arg, own.kind ? NULL : &x, own.kind ? &own : NULL);
	wait_free(w);
}

static int wait_(struct sandbox_controller *base, const char *ns, const char *id,
		 sandbox_wait_fn fn, void *arg, struct sandbox_wait **ret, struct err *err)
{
	SBX(WaitSandboxRequest) req = CONTAINERD__RUNTIME__SANDBOX__V1__WAIT_SANDBOX_REQUEST__INIT;
	struct sandbox_shim *s;
	int r = shim_find(self(base), ns, id, &s, err);
	if (r < 0)
		return r;
	struct sandbox_wait *w = calloc(1, sizeof(*w));
	if (!w) {
		shim_unref(s);
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
	_cleanup_shim_ struct sandbox_shim *s = NULL;
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

static int info_unpack(struct arena *a, const SBX(SandboxStatusResponse) * resp, struct labels *ret)
{
	for (size_t i = 0; i < resp->n_info; i++)
		if (labels_set(a, ret, resp->info[i]->key, resp->info[i]->value) < 0)
			return -ENOMEM;
	return 0;
}

static int status(struct ctx *ctx, struct sandbox_controller *base, const char *id, bool verbose,
		  struct sandbox_status *ret, struct err *err)
{
	_cleanup_shim_ struct sandbox_shim *s = NULL;
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
	if (resp->created_at)
		st.created_at =
			(struct timespec){resp->created_at->seconds, resp->created_at->nanos};
	if (resp->exited_at)
		st.exited_at = (struct timespec){resp->exited_at->seconds, resp->exited_at->nanos};
	st.extra = any_unpack(resp->extra);
	st.version = (uint32_t)s->version;
	st.address = arena_strdup(ctx->arena, s->address);
	if (!st.address || info_unpack(ctx->arena, resp, &st.info) < 0)
		return err_nomem(err);
	*ret = st;
	return 0;
}

static int metrics(struct ctx *ctx, struct sandbox_controller *base, const char *id,
		   struct sandbox_metric *ret, struct err *err)
{
	_cleanup_shim_ struct sandbox_shim *s = NULL;
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
				       .data = any_unpack(resp->metrics->data)};
	if (resp->metrics->timestamp)
		ret->at = (struct timespec){resp->metrics->timestamp->seconds,
					    resp->metrics->timestamp->nanos};
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
static bool shim_found(struct ctx *ctx, struct sandbox_shim *s, const struct bundle *b,
		       struct err *err)
{
	SBX(PingRequest) req = CONTAINERD__RUNTIME__SANDBOX__V1__PING_REQUEST__INIT;
	SBX(PingResponse) * resp;
	struct shim_address addr;
	struct ctx timed = {.arena = ctx->arena,
			    .ns = s->ns,
			    .lease = "",
			    .deadline = time_mono() + s->ctl->o.load_timeout_ns};
	char *path = path_join(ctx->arena, b->path, "shim-binary-path"), *text;
	if (path && file_read(ctx->arena, AT_FDCWD, path, BINARY_MAX, &text, NULL) == 0) {
		char *copy = strdup(text);
		if (copy) {
			free(s->binary);
			s->binary = copy;
		}
	}
	if (shim_address_load(ctx->arena, b, &addr, err) < 0 ||
	    shim_log_open(s->ctl->o.loop, ctx->arena, b, &s->log, err) < 0 ||
	    shim_reach(s, &addr, err) < 0)
		return false;
	req.sandbox_id = s->id;
	int r = call(&timed, s, "PingSandbox", &req.base, &SBXD(ping_response), &resp, err);
	return r == 0 || r == -ERR_UNIMPLEMENTED;
}

static void load_one(struct ctx *ctx, struct shim_controller *c, const char *id)
{
	struct bundle b;
	struct sandbox_shim *s;
	struct sandbox record;
	struct err err = ERR_INIT, absent = ERR_INIT;
	if (bundle_at(ctx->arena, c->o.root, c->o.state, ctx->ns, id, &b, &err) < 0)
		return;
	if (rmdir(b.path) == 0) /* made, and never filled */
		return;
	if (shim_add(c, ctx->ns, id, &s, &err) < 0) {
		log_error("load sandbox %s in namespace %s: %s", id, ctx->ns, err.text);
		return;
	}
	_cleanup_shim_ _unused_ struct sandbox_shim *guard = s;
	bool found = shim_found(ctx, s, &b, &err);
	if (found && sandbox_get(ctx, c->o.db, id, &record, &absent) == -ERR_NOT_FOUND) {
		log_warn("sandbox %s in namespace %s has no record any more: removing it", id,
			 ctx->ns);
		shim_dismiss(ctx, s);
		found = false;
	} else if (!found) {
		log_warn("load sandbox %s in namespace %s: %s; cleaning up", id, ctx->ns, err.text);
	}
	if (found) {
		shim_ready(s);
		return;
	}
	atomic_store(&s->state, DEAD);
	shim_bury(ctx, s);
}

static void load_namespace(struct ctx *ctx, struct shim_controller *c, const char *ns)
{
	char *path = path_join(ctx->arena, c->o.state, ns);
	_cleanup_closedir_ DIR *d = path ? opendir(path) : NULL;
	struct ctx own = {.arena = ctx->arena, .ns = ns, .lease = ""};
	for (struct dirent *e; d && (e = readdir(d));) {
		if (streq(e->d_name, ".") || streq(e->d_name, ".."))
			continue;
		if (e->d_name[0] == '.') {
			(void)!rm_rf(dirfd(d), e->d_name); /* a removal that was cut off */
			continue;
		}
		char *id = arena_strdup(ctx->arena, e->d_name);
		if (id)
			load_one(&own, c, id);
	}
}

int shim_controller_load(struct ctx *ctx, struct sandbox_controller *base, struct err *err)
{
	struct shim_controller *c = self(base);
	_cleanup_closedir_ DIR *d = opendir(c->o.state);
	if (!d)
		return err_errno(err, errno, "open %s", c->o.state);
	for (struct dirent *e; (e = readdir(d));) {
		if (e->d_name[0] == '.')
			continue;
		char *ns = arena_strdup(ctx->arena, e->d_name);
		if (!ns)
			return err_nomem(err);
		load_namespace(ctx, c, ns);
	}
	return 0;
}

/* ---- the controller ---- */

void shim_controller_quiesce(struct sandbox_controller *c)
{
	atomic_store(&self(c)->closing, true);
}

void shim_controller_disconnect(struct sandbox_controller *c)
{
	while (self(c)->list)
		shim_remove(self(c)->list);
}

static void free_(struct sandbox_controller *base)
{
	struct shim_controller *c = self(base);
	atomic_store(&c->stopped, true);
	shim_controller_disconnect(base); /* after a start that failed there may be some */
	pthread_mutex_destroy(&c->lock);
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
	c->o = *o;
	pthread_mutex_init(&c->lock, NULL);
	*ret = &c->base;
	return 0;
}
