/* SPDX-License-Identifier: Apache-2.0 */
/* Tasks and their shims: see runtime.h.
 *
 * Tasks are in one hash table under one lock, which is held for look-ups only. A task is there from
 * the moment its creation begins (so that a second one of the same id is refused) and leaves it
 * with its bundle. References keep the connection alive; it is closed with the last. When a
 * connection ends without a deletion under way, the shim has died: a pool job runs `shim delete`,
 * tells the exit, and removes the bundle.
 */
#include "plugins/runtime/runtime.h"

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
#include "base/trace.h"
#include "core/event.h"
#include "event/loop.h"
#include "event/pool.h"
#include "core/sandbox.h"
#include "plugins/runtime/checkpoint.h"
#include "plugins/runtime/join.h"
#include "plugins/runtime/shim.h"
#include "plugins/runtime/shim_log.h"
#include "protos.h"
#include "rpc/ttrpc.h"

#define BUCKETS 1024u

enum state { CREATING, READY, DELETING, DEAD };

struct task {
	struct runtime *rt;
	struct task *next; /* in the bucket, under the lock */
	atomic_int refs;
	atomic_int state;
	atomic_bool closed; /* the connection has ended */
	char *ns, *id;
	char *binary;  /* of the shim; "" when unknown */
	char *sandbox; /* whose shim this is; "" = the task's own */
	int version;   /* of the task API */
	struct rpc_client *client;
	struct shim_log *log;
	uint32_t pid;
};

struct runtime {
	struct runtime_options o;
	pthread_mutex_t lock;
	struct task *buckets[BUCKETS];
	atomic_bool closing; /* no more cleaning up after shims */
	atomic_bool stopped; /* the loop does not run any more */
};

static const char *service_name(const struct task *t)
{
	return t->version >= 3 ? "containerd.task.v3.Task" : "containerd.task.v2.Task";
}

/* ---- table ---- */

static size_t bucket(const char *ns, const char *id)
{
	uint32_t h = 2166136261u;
	for (; *ns; ns++)
		h = (h ^ (unsigned char)*ns) * 16777619u;
	for (; *id; id++)
		h = (h ^ (unsigned char)*id) * 16777619u;
	return h % BUCKETS;
}

static struct task **slot(struct runtime *rt, const char *ns, const char *id)
{
	struct task **p = &rt->buckets[bucket(ns, id)];
	while (*p && (!streq((*p)->ns, ns) || !streq((*p)->id, id)))
		p = &(*p)->next;
	return p;
}

static void task_free(struct task *t)
{
	shim_log_free(t->log);
	if (t->client)
		rpc_client_free(t->client);
	free(t->ns);
	free(t->id);
	free(t->binary);
	free(t->sandbox);
	free(t);
}

static void task_free_posted(void *arg)
{
	task_free(arg);
}

/* The last reference may go in a callback of the task's own connection, and its log is the loop's:
 * the end comes in a turn of its own there. */
void task_unref(struct task *t)
{
	if (atomic_fetch_sub(&t->refs, 1) != 1)
		return;
	if (atomic_load(&t->rt->stopped))
		task_free(t);
	else if (loop_post(t->rt->o.loop, task_free_posted, t) < 0)
		log_error("task %s in namespace %s: no memory to free it", t->id, t->ns);
}

static int task_add(struct runtime *rt, const char *ns, const char *id, struct task **ret,
		    struct err *err)
{
	struct task *t = calloc(1, sizeof(*t));
	if (!t)
		return err_nomem(err);
	t->rt = rt;
	t->refs = 2; /* the table's and the caller's */
	t->state = CREATING;
	t->version = 3;
	t->ns = strdup(ns);
	t->id = strdup(id);
	t->binary = strdup("");
	t->sandbox = strdup("");
	if (!t->ns || !t->id || !t->binary || !t->sandbox) {
		task_free(t);
		return err_nomem(err);
	}
	MUTEX_GUARD(&rt->lock);
	struct task **p = slot(rt, ns, id);
	if (*p) {
		task_free(t);
		return err_set(err, ERR_ALREADY_EXISTS, "task %s", id);
	}
	*p = t;
	*ret = t;
	return 0;
}

static void task_remove(struct task *t)
{
	struct runtime *rt = t->rt;
	pthread_mutex_lock(&rt->lock);
	struct task **p = slot(rt, t->ns, t->id);
	bool found = *p == t;
	if (found)
		*p = t->next;
	pthread_mutex_unlock(&rt->lock);
	if (found)
		task_unref(t);
}

int runtime_get(struct ctx *ctx, struct runtime *rt, const char *id, struct task **ret,
		struct err *err)
{
	const char *ns;
	int r = ctx_namespace(ctx, &ns, err);
	if (r < 0)
		return r;
	MUTEX_GUARD(&rt->lock);
	struct task *t = *slot(rt, ns, id);
	if (!t || t->state == CREATING || t->state == DEAD)
		return err_set_raw(err, ERR_NOT_FOUND, "task %s not found", id);
	atomic_fetch_add(&t->refs, 1);
	*ret = t;
	return 0;
}

int runtime_list(struct ctx *ctx, struct runtime *rt, char ***ret, size_t *ret_n, struct err *err)
{
	const char *ns;
	char **ids = NULL;
	size_t n = 0, cap = 0;
	int r = ctx_namespace(ctx, &ns, err);
	if (r < 0)
		return r;
	MUTEX_GUARD(&rt->lock);
	for (size_t i = 0; i < BUCKETS; i++)
		for (struct task *t = rt->buckets[i]; t; t = t->next) {
			if (!streq(t->ns, ns) || t->state == CREATING || t->state == DEAD)
				continue;
			char **grown = arena_grow(ctx->arena, ids, &cap, n + 1, sizeof(char *));
			if (!grown)
				return err_nomem(err);
			ids = grown;
			ids[n] = arena_strdup(ctx->arena, t->id);
			if (!ids[n++])
				return err_nomem(err);
		}
	*ret = ids;
	*ret_n = n;
	return 0;
}

int runtime_tasks(struct ctx *ctx, struct runtime *rt, struct task ***ret, size_t *ret_n,
		  struct err *err)
{
	struct task **v = NULL;
	size_t n = 0, cap = 0;
	MUTEX_GUARD(&rt->lock);
	for (size_t i = 0; i < BUCKETS; i++)
		for (struct task *t = rt->buckets[i]; t; t = t->next) {
			if (t->state == CREATING || t->state == DEAD)
				continue;
			struct task **grown =
				arena_grow(ctx->arena, v, &cap, n + 1, sizeof(struct task *));
			if (!grown) {
				while (n > 0) /* the table has them still: none is the last */
					atomic_fetch_sub(&v[--n]->refs, 1);
				return err_nomem(err);
			}
			v = grown;
			v[n++] = t;
			atomic_fetch_add(&t->refs, 1);
		}
	*ret = v;
	*ret_n = n;
	return 0;
}

const char *task_namespace(const struct task *t)
{
	return t->ns;
}

const char *task_id(const struct task *t)
{
	return t->id;
}

int64_t runtime_state_timeout(const struct runtime *rt)
{
	return rt->o.state_timeout_ns;
}

struct db *runtime_db(const struct runtime *rt)
{
	return rt->o.db;
}

int64_t runtime_stats_timeout(const struct runtime *rt)
{
	return rt->o.stats_timeout_ns;
}

/* ---- calls ---- */

int task_call(struct ctx *ctx, struct task *t, const char *method, const ProtobufCMessage *req,
	      const ProtobufCMessageDescriptor *resp_desc, void *ret_resp, struct err *err)
{
	TRACE_SPAN("shim", method, "id", t->id);
	if (!t->client)
		return err_set(err, ERR_UNAVAILABLE, "shim of task %s is gone", t->id);
	return rpc_call(t->client, ctx, service_name(t), method, req, resp_desc, ret_resp, err);
}

int task_call_async(struct task *t, const char *method, const ProtobufCMessage *req,
		    int64_t timeout_ns, rpc_done_fn fn, void *arg, struct rpc_pending **ret,
		    struct err *err)
{
	return rpc_call_async(t->client, t->ns, service_name(t), method, req, timeout_ns, fn, arg,
			      ret, err);
}

/* ---- death ---- */

static int publish_exit(struct ctx *ctx, struct task *t, const struct runtime_exit *x,
			struct err *err)
{
	Google__Protobuf__Timestamp at = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
	Containerd__Events__TaskExit ex = CONTAINERD__EVENTS__TASK_EXIT__INIT;
	Containerd__Events__TaskDelete del = CONTAINERD__EVENTS__TASK_DELETE__INIT;
	at.seconds = x->at.tv_sec;
	at.nanos = (int32_t)x->at.tv_nsec;
	ex.container_id = ex.id = t->id;
	ex.pid = x->pid;
	ex.exit_status = x->status;
	ex.exited_at = &at;
	del.container_id = t->id;
	del.pid = x->pid;
	del.exit_status = x->status;
	del.exited_at = &at;
	int r = event_publish(ctx, t->rt->o.events, "/tasks/exit", &ex.base, err);
	return r < 0 ? r : event_publish(ctx, t->rt->o.events, "/tasks/delete", &del.base, err);
}

/* What is left of a task whose shim is gone: the runtime's container, mounts, bundle. */
static void task_bury(struct ctx *ctx, struct task *t)
{
	struct bundle b;
	struct err err = ERR_INIT;
	struct runtime_exit x = {.pid = t->pid, .status = 255, .at = time_now()};
	struct runtime *rt = t->rt;
	if (bundle_at(ctx->arena, rt->o.root, rt->o.state, t->ns, t->id, &b, &err) < 0)
		return;
	if (!str_empty(t->binary) &&
	    shim_delete(ctx, &rt->o, &b, t->ns, t->id, t->binary, &x, &err) < 0)
		log_warn("task %s in namespace %s: %s", t->id, t->ns, err.text);
	if (bundle_remove(ctx->arena, &b, &err) < 0)
		log_error("task %s in namespace %s: %s", t->id, t->ns, err.text);
	rootfs_deactivate(ctx, &rt->o, t->id);
	/* Who hears of it may make the task anew. */
	task_remove(t);
	if (publish_exit(ctx, t, &x, &err) < 0)
		log_error("task %s in namespace %s: publish exit: %s", t->id, t->ns, err.text);
}

static void death_job(void *arg)
{
	struct task *t = arg;
	struct ctx ctx = {.arena = arena_new(0), .ns = t->ns, .lease = ""};
	if (ctx.arena) {
		log_warn("task %s in namespace %s: its shim has died; cleaning up", t->id, t->ns);
		task_bury(&ctx, t);
	}
	arena_free(ctx.arena);
	task_unref(t);
}

/* Cleans up after a shim, once, unless a deletion is under way. */
static void task_died(struct task *t)
{
	int ready = READY;
	if (atomic_load(&t->rt->closing) ||
	    !atomic_compare_exchange_strong(&t->state, &ready, DEAD))
		return;
	atomic_fetch_add(&t->refs, 1);
	if (pool_submit(t->rt->o.pool, death_job, t) < 0) {
		log_error("task %s in namespace %s: its shim has died, and no thread to clean up",
			  t->id, t->ns);
		atomic_fetch_sub(&t->refs, 1);
	}
}

/* The connection ended. The task is alive: it frees its client before itself. */
static void shim_closed(void *arg)
{
	struct task *t = arg;
	atomic_store(&t->closed, true);
	task_died(t);
}

/* From now on calls reach the task. */
static void task_ready(struct task *t)
{
	atomic_store(&t->state, READY);
	if (atomic_load(&t->closed))
		task_died(t);
}

/* ---- create ---- */

static int task_connect(struct task *t, const struct shim_address *addr, struct err *err)
{
	_cleanup_close_ int fd = -1;
	int r = shim_connect(addr, &fd, err);
	if (r < 0)
		return r;
	t->version = addr->version;
	r = ttrpc_client_new(t->rt->o.loop, TAKE_FD(fd), shim_closed, t, &t->client);
	return r < 0 ? err_errno(err, r, "shim of task %s", t->id) : 0;
}

static int call_create(struct ctx *ctx, struct task *t, const struct runtime_create *c,
		       const struct mounts *rootfs, const struct bundle *b,
		       const struct any *options, uint32_t *ret_pid, struct err *err)
{
	Containerd__Task__V3__CreateTaskRequest req =
		CONTAINERD__TASK__V3__CREATE_TASK_REQUEST__INIT;
	Containerd__Task__V3__CreateTaskResponse *resp;
	Google__Protobuf__Any any = GOOGLE__PROTOBUF__ANY__INIT;
	size_t n = rootfs->n;
	Containerd__Types__Mount *m = arena_new_array(ctx->arena, Containerd__Types__Mount, n + 1);
	Containerd__Types__Mount **mv =
		arena_new_array(ctx->arena, Containerd__Types__Mount *, n + 1);
	if (!m || !mv)
		return err_nomem(err);
	for (size_t i = 0; i < n; i++) {
		const struct mount *from = &rootfs->v[i];
		containerd__types__mount__init(&m[i]);
		m[i].type = (char *)from->type;
		m[i].source = (char *)from->source;
		m[i].target = (char *)str_or(from->target, "");
		m[i].options = (char **)from->options;
		m[i].n_options = from->n_options;
		mv[i] = &m[i];
	}
	req.id = t->id;
	req.bundle = b->path;
	req.rootfs = mv;
	req.n_rootfs = n;
	req.terminal = c->terminal;
	req.stdin = (char *)c->stdin_path;
	req.stdout = (char *)c->stdout_path;
	req.stderr = (char *)c->stderr_path;
	req.checkpoint = (char *)str_or(c->checkpoint, "");
	if (options->type_url) {
		any.type_url = (char *)options->type_url;
		any.value = (ProtobufCBinaryData){.data = (uint8_t *)options->value,
						  .len = options->len};
		req.options = &any;
	}
	const ProtobufCMessageDescriptor *desc =
		&containerd__task__v3__create_task_response__descriptor;
	int r = task_call(ctx, t, "Create", &req.base, desc, &resp, err);
	if (r == -ERR_UNIMPLEMENTED && t->version == 3) {
		t->version = 2; /* a shim that promised version 3 and has 2 only */
		r = task_call(ctx, t, "Create", &req.base, desc, &resp, err);
	}
	if (r < 0)
		return r;
	t->pid = resp->pid;
	*ret_pid = resp->pid;
	return 0;
}

static void shutdown_done(void *arg, const uint8_t *resp, size_t n, const struct err *err)
{
	task_unref(arg); /* the last reference closes the connection */
}

/* Tells the shim that it may go; it does when it has no other containers. Nobody waits for it. The
 * shim of a sandbox goes with that, unless the sandbox is gone already. */
static void task_shutdown(struct ctx *ctx, struct task *t)
{
	Containerd__Task__V3__ShutdownRequest req = CONTAINERD__TASK__V3__SHUTDOWN_REQUEST__INIT;
	if (!str_empty(t->sandbox) && sandbox_has_shim(ctx->arena, &t->rt->o, t->ns, t->sandbox))
		return;
	req.id = t->id;
	atomic_fetch_add(&t->refs, 1);
	if (rpc_call_async(t->client, t->ns, service_name(t), "Shutdown", &req.base,
			   t->rt->o.shutdown_timeout_ns, shutdown_done, t, NULL, NULL) < 0)
		task_unref(t);
}

/* Undoes a creation that failed on the way. */
static void create_undo(struct ctx *ctx, struct task *t, const struct bundle *b, bool started)
{
	struct runtime_exit x;
	struct err err = ERR_INIT;
	/* The client's request may be over; its remains are not. */
	struct ctx own = {.arena = ctx->arena, .ns = ctx->ns, .lease = ""};
	if (t->client) {
		/* The shim may still be at it: this waits until it is not. */
		Containerd__Task__V3__DeleteRequest req =
			CONTAINERD__TASK__V3__DELETE_REQUEST__INIT;
		Containerd__Task__V3__DeleteResponse *resp;
		req.id = t->id;
		own.deadline = time_mono() + t->rt->o.cleanup_timeout_ns;
		(void)!task_call(&own, t, "Delete", &req.base,
				 &containerd__task__v3__delete_response__descriptor, &resp, NULL);
		own.deadline = 0;
		task_shutdown(&own, t);
	}
	if (atomic_load(&t->closed) && !str_empty(t->binary))
		started = true; /* the sandbox's shim has died of it */
	if (started && shim_delete(&own, &t->rt->o, b, t->ns, t->id, t->binary, &x, &err) < 0)
		log_warn("task %s in namespace %s: %s", t->id, t->ns, err.text);
	if (bundle_remove(ctx->arena, b, &err) < 0)
		log_error("task %s in namespace %s: %s", t->id, t->ns, err.text);
	rootfs_deactivate(&own, &t->rt->o, t->id);
}

static int text_set(char **to, const char *text, struct err *err)
{
	char *copy = strdup(text);
	if (!copy)
		return err_nomem(err);
	free(*to);
	*to = copy;
	return 0;
}

/* Starts a shim for the task, or joins that of the sandbox. */
static int task_shim(struct ctx *ctx, struct task *t, const struct container *ct,
		     const struct runtime_create *c, const struct bundle *b,
		     const struct any *options, bool *ret_started, struct err *err)
{
	struct runtime *rt = t->rt;
	struct shim_address addr;
	const char *runtime = str_empty(c->runtime_path) ? ct->runtime_name : c->runtime_path;
	char *binary = NULL;
	int joins = sandbox_shim_find(ctx, &rt->o, t->ns, t->id, ct->sandbox_id,
				      c->task_api_address, c->task_api_version, &addr, err);
	if (joins < 0)
		return joins;
	/* One that joins needs it only when the shim dies. */
	int r = shim_binary(ctx, runtime, &binary, joins ? NULL : err);
	if (r < 0 && !joins)
		return r;
	r = text_set(&t->binary, r < 0 ? "" : binary, err);
	if (r == 0 && joins)
		r = text_set(&t->sandbox, str_or(ct->sandbox_id, t->id), err);
	if (r == 0 && joins)
		r = shim_join(ctx->arena, b, t->sandbox, &addr, err);
	else if (r == 0)
		r = shim_log_open(rt->o.loop, ctx->arena, b, &t->log, err);
	if (r == 0 && !joins) {
		r = shim_start(ctx, &rt->o, b, t->ns, t->id, binary, options, &addr, err);
		*ret_started = r == 0;
	}
	if (r == 0)
		r = task_connect(t, &addr, err);
	return r < 0 && joins ? err_prefix(err, "join sandbox %s", t->sandbox) : r;
}

static int task_start(struct ctx *ctx, struct task *t, const struct container *ct,
		      const struct runtime_create *c, const struct bundle *b, bool *ret_started,
		      uint32_t *ret_pid, struct err *err)
{
	struct mounts rootfs;
	struct any options = c->options.type_url ? c->options : ct->runtime_options;
	int r = rootfs_activate(ctx, &t->rt->o, t->id, c->rootfs, &rootfs, err);
	if (r == 0)
		r = task_shim(ctx, t, ct, c, b, &options, ret_started, err);
	if (r == 0)
		r = call_create(ctx, t, c, &rootfs, b, &options, ret_pid, err);
	return r;
}

int runtime_create(struct ctx *ctx, struct runtime *rt, const struct runtime_create *wanted,
		   uint32_t *ret_pid, struct err *err)
{
	struct runtime_create c = *wanted;
	const char *ns;
	struct container ct;
	struct bundle b;
	struct task *t;
	bool started = false;
	int r = ctx_namespace(ctx, &ns, err);
	if (r == 0)
		r = container_get(ctx, rt->o.db, c.id, &ct, err);
	if (r == 0 && !ct.spec.type_url)
		r = err_set(err, ERR_INVALID_ARGUMENT, "container %s has no spec", c.id);
	if (r == 0)
		r = create_options_read(ctx->arena, ct.runtime_name, &c, err);
	if (r == 0)
		r = bundle_at(ctx->arena, rt->o.root, rt->o.state, ns, c.id, &b, err);
	if (r == 0)
		r = task_add(rt, ns, c.id, &t, err);
	if (r < 0)
		return r;
	_cleanup_(task_unrefp) _unused_ struct task *guard = t;
	r = bundle_create(ctx->arena, &b, &ct.spec, err);
	if (r == 0) {
		if (str_empty(c.checkpoint) && c.checkpoint_content.digest)
			r = checkpoint_unpack(ctx, rt->o.db, &b, &c.checkpoint_content,
					      &c.checkpoint, err);
		if (r == 0)
			r = task_start(ctx, t, &ct, &c, &b, &started, ret_pid, err);
		if (r < 0)
			create_undo(ctx, t, &b, started);
	}
	if (r < 0) {
		atomic_store(&t->state, DEAD);
		task_remove(t);
		return r;
	}
	task_ready(t);
	return 0;
}

/* ---- delete ---- */

struct sweep {
	char *hidden[2];
};

static void sweep_job(void *arg)
{
	struct sweep *s = arg;
	struct err err = ERR_INIT;
	if (bundle_sweep(s->hidden, &err) < 0)
		log_error("%s", err.text);
	free(s->hidden[0]);
	free(s->hidden[1]);
	free(s);
}

/* The names are free already: nobody waits for the files to go. */
static void sweep_later(struct runtime *rt, char *const hidden[2])
{
	struct sweep *s = calloc(1, sizeof(*s));
	for (int i = 0; s && i < 2; i++)
		s->hidden[i] = hidden[i] ? strdup(hidden[i]) : NULL;
	if (!s)
		log_error("no memory to remove %s", str_or(hidden[0], ""));
	else if (pool_submit(rt->o.pool, sweep_job, s) < 0)
		sweep_job(s);
}

int runtime_delete(struct ctx *ctx, struct runtime *rt, const char *id, struct runtime_exit *ret,
		   struct err *err)
{
	_cleanup_(task_unrefp) struct task *t = NULL;
	struct bundle b;
	Containerd__Task__V3__DeleteRequest req = CONTAINERD__TASK__V3__DELETE_REQUEST__INIT;
	Containerd__Task__V3__DeleteResponse *resp;
	int r = runtime_get(ctx, rt, id, &t, err);
	if (r == 0)
		r = bundle_at(ctx->arena, rt->o.root, rt->o.state, t->ns, t->id, &b, err);
	if (r < 0)
		return r;
	int ready = READY;
	if (!atomic_compare_exchange_strong(&t->state, &ready, DELETING))
		return err_set_raw(err, ERR_NOT_FOUND, "task %s not found", id);
	req.id = t->id;
	r = task_call(ctx, t, "Delete", &req.base,
		      &containerd__task__v3__delete_response__descriptor, &resp, err);
	if (r < 0 && r != -ERR_NOT_FOUND) {
		task_ready(t);
		return r;
	}
	*ret = (struct runtime_exit){.pid = t->pid, .status = 255, .at = time_now()};
	if (r == 0) {
		ret->pid = resp->pid;
		ret->status = resp->exit_status;
		if (resp->exited_at)
			ret->at = (struct timespec){.tv_sec = resp->exited_at->seconds,
						    .tv_nsec = resp->exited_at->nanos};
	}
	task_shutdown(ctx, t);
	char *hidden[2] = {NULL, NULL};
	r = bundle_hide(ctx->arena, &b, hidden, err);
	sweep_later(rt, hidden);
	rootfs_deactivate(ctx, &rt->o, t->id);
	task_remove(t);
	return r;
}

/* ---- load ---- */

/* Reconnects to one task of an earlier daemon; false: there is no shim any more. */
static bool task_reconnect(struct ctx *ctx, struct task *t, const struct bundle *b, struct err *err)
{
	struct shim_address addr;
	Containerd__Task__V3__ConnectRequest req = CONTAINERD__TASK__V3__CONNECT_REQUEST__INIT;
	Containerd__Task__V3__ConnectResponse *resp;
	const ProtobufCMessageDescriptor *desc =
		&containerd__task__v3__connect_response__descriptor;
	struct ctx timed = {.arena = ctx->arena,
			    .ns = ctx->ns,
			    .lease = "",
			    .deadline = time_mono() + t->rt->o.load_timeout_ns};
	if (shim_address_load(ctx->arena, b, &addr, err) < 0 ||
	    shim_log_open(t->rt->o.loop, ctx->arena, b, &t->log, err) < 0 ||
	    task_connect(t, &addr, err) < 0)
		return false;
	req.id = t->id;
	int r = task_call(&timed, t, "Connect", &req.base, desc, &resp, err);
	if (r == -ERR_UNIMPLEMENTED && t->version == 3) {
		t->version = 2;
		r = task_call(&timed, t, "Connect", &req.base, desc, &resp, err);
	}
	if (r < 0)
		return false;
	t->pid = resp->task_pid;
	return true;
}

static void load_binary(struct ctx *ctx, struct task *t, const struct bundle *b)
{
	char *path = path_join(ctx->arena, b->path, "shim-binary-path"), *text;
	struct container ct;
	if (!path || file_read(ctx->arena, AT_FDCWD, path, 4096, &text, NULL) < 0) {
		if (container_get(ctx, t->rt->o.db, t->id, &ct, NULL) < 0 ||
		    shim_binary(ctx, ct.runtime_name, &text, NULL) < 0)
			return;
	}
	char *copy = strdup(text);
	if (copy) {
		free(t->binary);
		t->binary = copy;
	}
}

static void load_sandbox(struct ctx *ctx, struct task *t, const struct bundle *b)
{
	char *path = path_join(ctx->arena, b->path, "sandbox"), *text;
	if (path && file_read(ctx->arena, AT_FDCWD, path, 4096, &text, NULL) == 0)
		(void)!text_set(&t->sandbox, text, NULL);
}

/* A shim in which no task was ever created, because the daemon ended before: it knows no container
 * of that name. One whose container has ended knows it still. The shim of a sandbox has none by
 * its nature. */
static bool task_leaked(struct ctx *ctx, struct task *t)
{
	Containerd__Task__V3__StateRequest req = CONTAINERD__TASK__V3__STATE_REQUEST__INIT;
	Containerd__Task__V3__StateResponse *resp;
	struct sandbox record;
	struct err err = ERR_INIT;
	struct ctx timed = {.arena = ctx->arena,
			    .ns = ctx->ns,
			    .lease = "",
			    .deadline = time_mono() + t->rt->o.load_timeout_ns};
	req.id = t->id;
	if (task_call(&timed, t, "State", &req.base,
		      &containerd__task__v3__state_response__descriptor, &resp,
		      &err) != -ERR_NOT_FOUND)
		return false;
	return sandbox_get(ctx, t->rt->o.db, t->id, &record, &err) == -ERR_NOT_FOUND;
}

/* Nothing is published: nobody was told of it. */
static void task_discard(struct ctx *ctx, struct task *t, const struct bundle *b)
{
	log_warn("task %s in namespace %s was never created: removing its shim", t->id, t->ns);
	atomic_store(&t->state, DEAD);
	create_undo(ctx, t, b, str_empty(t->sandbox) && !str_empty(t->binary));
	task_remove(t);
}

static void load_one(struct ctx *ctx, struct runtime *rt, const char *id)
{
	struct bundle b;
	struct task *t;
	struct err err = ERR_INIT;
	if (bundle_at(ctx->arena, rt->o.root, rt->o.state, ctx->ns, id, &b, &err) < 0)
		return;
	if (rmdir(b.path) == 0) /* made, and never filled */
		return;
	if (task_add(rt, ctx->ns, id, &t, &err) < 0) {
		log_error("load task %s in namespace %s: %s", id, ctx->ns, err.text);
		return;
	}
	_cleanup_(task_unrefp) _unused_ struct task *guard = t;
	load_binary(ctx, t, &b);
	load_sandbox(ctx, t, &b);
	if (task_reconnect(ctx, t, &b, &err)) {
		if (task_leaked(ctx, t))
			task_discard(ctx, t, &b);
		else
			task_ready(t);
		return;
	}
	log_warn("load task %s in namespace %s: %s; cleaning up", id, ctx->ns, err.text);
	atomic_store(&t->state, DEAD);
	task_bury(ctx, t);
}

static int load_namespace(struct ctx *ctx, struct runtime *rt, const char *ns, struct err *err)
{
	char *path = path_join(ctx->arena, rt->o.state, ns);
	_cleanup_closedir_ DIR *d = path ? opendir(path) : NULL;
	struct ctx own = {.arena = ctx->arena, .ns = ns, .lease = ""};
	if (!d)
		return err_errno(err, errno, "open %s", path ? path : ns);
	for (struct dirent *e; (e = readdir(d));) {
		if (streq(e->d_name, ".") || streq(e->d_name, ".."))
			continue;
		if (e->d_name[0] == '.') {
			(void)!rm_rf(dirfd(d), e->d_name); /* a removal that was cut off */
			continue;
		}
		char *id = arena_strdup(ctx->arena, e->d_name);
		if (id)
			load_one(&own, rt, id);
	}
	return 0;
}

static void work_dirs_clean(struct ctx *ctx, struct runtime *rt, const char *ns)
{
	char *path = path_join(ctx->arena, rt->o.root, ns);
	_cleanup_closedir_ DIR *d = path ? opendir(path) : NULL;
	for (struct dirent *e; d && (e = readdir(d));) {
		if (streq(e->d_name, ".") || streq(e->d_name, ".."))
			continue;
		pthread_mutex_lock(&rt->lock);
		bool task = *slot(rt, ns, e->d_name);
		pthread_mutex_unlock(&rt->lock);
		if (!task && rm_rf(dirfd(d), e->d_name) < 0)
			log_warn("cannot remove %s/%s", path, e->d_name);
	}
}

/* Work directories without a task: after a reboot, all of them. */
static void work_clean(struct ctx *ctx, struct runtime *rt)
{
	_cleanup_closedir_ DIR *d = opendir(rt->o.root);
	for (struct dirent *e; d && (e = readdir(d));)
		if (e->d_name[0] != '.')
			work_dirs_clean(ctx, rt, e->d_name);
}

int runtime_load(struct ctx *ctx, struct runtime *rt, struct err *err)
{
	_cleanup_closedir_ DIR *d = opendir(rt->o.state);
	if (!d)
		return errno == ENOENT ? 0 : err_errno(err, errno, "open %s", rt->o.state);
	for (struct dirent *e; (e = readdir(d));) {
		if (e->d_name[0] == '.')
			continue;
		char *ns = arena_strdup(ctx->arena, e->d_name);
		int r = ns ? load_namespace(ctx, rt, ns, err) : err_nomem(err);
		if (r < 0)
			return r;
	}
	work_clean(ctx, rt);
	return 0;
}

int runtime_new(const struct runtime_options *o, struct runtime **ret, struct err *err)
{
	int r = mkdir_p(o->root, 0711);
	if (r == 0)
		r = mkdir_p(o->state, 0711);
	if (r < 0)
		return err_errno(err, r, "make %s", o->state);
	struct runtime *rt = calloc(1, sizeof(*rt));
	if (!rt)
		return err_nomem(err);
	rt->o = *o;
	pthread_mutex_init(&rt->lock, NULL);
	*ret = rt;
	return 0;
}

void runtime_quiesce(struct runtime *rt)
{
	atomic_store(&rt->closing, true);
}

void runtime_disconnect(struct runtime *rt)
{
	for (size_t i = 0; i < BUCKETS; i++)
		while (rt->buckets[i])
			task_remove(rt->buckets[i]);
}

void runtime_free(struct runtime *rt)
{
	if (!rt)
		return;
	atomic_store(&rt->stopped, true);
	runtime_disconnect(rt); /* after a start that failed there may be some */
	pthread_mutex_destroy(&rt->lock);
	free(rt);
}
