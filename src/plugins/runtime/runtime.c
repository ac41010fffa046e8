/* SPDX-License-Identifier: Apache-2.0 */
/* Tasks and their shims: see runtime.h, and live.h for what a task shares with a sandbox. When its
 * shim dies, `shim delete` is run, the exit is told, and the bundle removed. A struct task is a
 * struct live_shim whose fields nobody else sees.
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
#include "core/pb.h"
#include "core/sandbox.h"
#include "event/pool.h"
#include "plugins/runtime/checkpoint.h"
#include "plugins/runtime/join.h"
#include "plugins/runtime/live.h"
#include "plugins/runtime/shim_log.h"
#include "protos.h"
#include "sys/cgroup.h"

#define NO_CGROUP -2

struct runtime {
	struct live_shims all;
	atomic_bool ahead; /* a job is at the wait for cgroups, and has the descriptor below */
	int procs_fd;	   /* of a cgroup; -1 = not open, NO_CGROUP = there is none for us */
};

static struct task *to_task(struct live_shim *t)
{
	return (struct task *)t;
}

static struct live_shim *of_task(const struct task *t)
{
	return (struct live_shim *)t;
}

static const char *service_name(const struct live_shim *t)
{
	return t->version >= 3 ? "containerd.task.v3.Task" : "containerd.task.v2.Task";
}

/* ---- table ---- */

void task_unref(struct task *t)
{
	live_shim_unref(of_task(t));
}

/* With a reference. */
static int task_get(struct ctx *ctx, struct runtime *rt, const char *id, struct live_shim **ret,
		    struct err *err)
{
	_cleanup_live_shim_ struct live_shim *t = NULL;
	const char *ns;
	int r = ctx_namespace(ctx, &ns, err);
	if (r < 0)
		return r;
	t = live_shim_find(&rt->all, ns, id);
	if (!t || t->state == LIVE_CREATING || t->state == LIVE_DEAD)
		return err_set_raw(err, ERR_NOT_FOUND, "task %s not found", id);
	*ret = TAKE_PTR(t);
	return 0;
}

int runtime_get(struct ctx *ctx, struct runtime *rt, const char *id, struct task **ret,
		struct err *err)
{
	struct live_shim *t;
	int r = task_get(ctx, rt, id, &t, err);
	if (r == 0)
		*ret = to_task(t);
	return r;
}

struct listing {
	struct arena *arena;
	char **ids;
	struct task **tasks;
	size_t n, cap;
};

static int list_id(void *arg, struct live_shim *t)
{
	struct listing *l = arg;
	l->ids = arena_grow(l->arena, l->ids, &l->cap, l->n + 1, sizeof(char *));
	if (!l->ids)
		return -ENOMEM;
	l->ids[l->n] = arena_strdup(l->arena, t->id);
	return l->ids[l->n++] ? 0 : -ENOMEM;
}

int runtime_list(struct ctx *ctx, struct runtime *rt, char ***ret, size_t *ret_n, struct err *err)
{
	struct listing l = {.arena = ctx->arena};
	const char *ns;
	int r = ctx_namespace(ctx, &ns, err);
	if (r < 0)
		return r;
	if (live_shims_each(&rt->all, ns, list_id, &l) < 0)
		return err_nomem(err);
	*ret = l.ids;
	*ret_n = l.n;
	return 0;
}

static int list_task(void *arg, struct live_shim *t)
{
	struct listing *l = arg;
	struct task **grown =
		arena_grow(l->arena, l->tasks, &l->cap, l->n + 1, sizeof(struct task *));
	if (!grown)
		return -ENOMEM;
	l->tasks = grown;
	l->tasks[l->n++] = to_task(live_shim_ref(t));
	return 0;
}

int runtime_tasks(struct ctx *ctx, struct runtime *rt, struct task ***ret, size_t *ret_n,
		  struct err *err)
{
	struct listing l = {.arena = ctx->arena};
	if (live_shims_each(&rt->all, NULL, list_task, &l) < 0) {
		while (l.n > 0)
			task_unref(l.tasks[--l.n]);
		return err_nomem(err);
	}
	*ret = l.tasks;
	*ret_n = l.n;
	return 0;
}

const char *task_namespace(const struct task *t)
{
	return of_task(t)->ns;
}

const char *task_id(const struct task *t)
{
	return of_task(t)->id;
}

int64_t runtime_state_timeout(const struct runtime *rt)
{
	return rt->all.o.state_timeout_ns;
}

struct db *runtime_db(const struct runtime *rt)
{
	return rt->all.o.db;
}

int64_t runtime_stats_timeout(const struct runtime *rt)
{
	return rt->all.o.stats_timeout_ns;
}

/* ---- calls ---- */

static int call(struct ctx *ctx, struct live_shim *t, const char *method,
		const ProtobufCMessage *req, const ProtobufCMessageDescriptor *resp_desc,
		void *ret_resp, struct err *err)
{
	TRACE_SPAN("shim", method, "id", t->id);
	if (!t->client)
		return err_set(err, ERR_UNAVAILABLE, "shim of task %s is gone", t->id);
	return rpc_call(t->client, ctx, service_name(t), method, req, resp_desc, ret_resp, err);
}

/* A shim may have promised version 3 and have 2 only. */
static int call_first(struct ctx *ctx, struct live_shim *t, const char *method,
		      const ProtobufCMessage *req, const ProtobufCMessageDescriptor *resp_desc,
		      void *ret_resp, struct err *err)
{
	int r = call(ctx, t, method, req, resp_desc, ret_resp, err);
	if (r != -ERR_UNIMPLEMENTED || t->version != 3)
		return r;
	t->version = 2;
	return call(ctx, t, method, req, resp_desc, ret_resp, err);
}

int task_call(struct ctx *ctx, struct task *t, const char *method, const ProtobufCMessage *req,
	      const ProtobufCMessageDescriptor *resp_desc, void *ret_resp, struct err *err)
{
	return call(ctx, of_task(t), method, req, resp_desc, ret_resp, err);
}

int task_call_async(struct task *task, const char *method, const ProtobufCMessage *req,
		    int64_t timeout_ns, rpc_done_fn fn, void *arg, struct rpc_pending **ret,
		    struct err *err)
{
	struct live_shim *t = of_task(task);
	return rpc_call_async(t->client, t->ns, service_name(t), method, req, timeout_ns, fn, arg,
			      ret, err);
}

/* ---- death ---- */

static int publish_exit(struct ctx *ctx, struct live_shim *t, const struct runtime_exit *x,
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
	int r = event_publish(ctx, t->all->o.events, "/tasks/exit", &ex.base, err);
	return r < 0 ? r : event_publish(ctx, t->all->o.events, "/tasks/delete", &del.base, err);
}

/* What is left of a task whose shim is gone: the runtime's container, mounts, bundle. */
static void task_bury(struct ctx *ctx, struct live_shim *t)
{
	struct bundle b;
	struct err err = ERR_INIT;
	struct runtime_exit x = {.pid = t->pid, .status = 255, .at = time_now()};
	if (live_shim_bundle(ctx->arena, t, &b, &err) < 0)
		return;
	live_shim_clear(ctx, t, &b, true, &x);
	rootfs_deactivate(ctx, &t->all->o, t->id);
	/* Who hears of it may make the task anew. */
	live_shim_remove(t);
	if (publish_exit(ctx, t, &x, &err) < 0)
		log_error("task %s in namespace %s: publish exit: %s", t->id, t->ns, err.text);
}

/* ---- create ---- */

static void expect_job(void *arg)
{
	struct runtime *rt = arg;
	TRACE_SPAN("runtime", "wait for cgroups ahead");

	if (rt->procs_fd == -1) {
		int fd = cgroup_procs_open();
		rt->procs_fd = fd < 0 ? NO_CGROUP : fd;
	}
	/* Where there is none, or it may not be written to, the runtime waits. */
	if (rt->procs_fd >= 0 && cgroup_attach_dead(rt->procs_fd) == -ENODEV) {
		close(rt->procs_fd);
		rt->procs_fd = -1;
	}
	atomic_store(&rt->ahead, false);
}

void runtime_expect(struct runtime *rt)
{
	if (atomic_exchange(&rt->ahead, true))
		return;
	if (pool_submit(rt->all.o.pool, expect_job, rt) < 0)
		atomic_store(&rt->ahead, false);
}

static int call_create(struct ctx *ctx, struct live_shim *t, const struct runtime_create *c,
		       const struct mounts *rootfs, const struct bundle *b,
		       const struct any *options, uint32_t *ret_pid, struct err *err)
{
	Containerd__Task__V3__CreateTaskRequest req =
		CONTAINERD__TASK__V3__CREATE_TASK_REQUEST__INIT;
	Containerd__Task__V3__CreateTaskResponse *resp;
	int r = pb_mounts_put(ctx->arena, rootfs, &req.rootfs, &req.n_rootfs, err);
	if (r < 0)
		return r;
	req.id = t->id;
	req.bundle = b->path;
	req.terminal = c->terminal;
	req.stdin = (char *)c->stdin_path;
	req.stdout = (char *)c->stdout_path;
	req.stderr = (char *)c->stderr_path;
	req.checkpoint = (char *)str_or(c->checkpoint, "");
	req.options = pb_any_put(ctx->arena, options);
	if (options->type_url && !req.options)
		return err_nomem(err);
	r = call_first(ctx, t, "Create", &req.base,
		       &containerd__task__v3__create_task_response__descriptor, &resp, err);
	if (r < 0)
		return r;
	t->pid = resp->pid;
	*ret_pid = resp->pid;
	return 0;
}

static void shutdown_done(void *arg, const uint8_t *resp, size_t n, const struct err *err)
{
	live_shim_leaving(arg, false);
	live_shim_unref(arg); /* the last reference closes the connection */
}

/* Tells the shim that it may go; it does when it has no other containers. Nobody waits for it but
 * the next of this name. The
 * shim of a sandbox goes with that, unless the sandbox is gone already. */
static void task_shutdown(struct ctx *ctx, struct live_shim *t)
{
	Containerd__Task__V3__ShutdownRequest req = CONTAINERD__TASK__V3__SHUTDOWN_REQUEST__INIT;
	if (!str_empty(t->sandbox) && sandbox_has_shim(ctx->arena, &t->all->o, t->ns, t->sandbox))
		return;
	req.id = t->id;
	live_shim_ref(t);
	live_shim_leaving(t, true);
	if (rpc_call_async(t->client, t->ns, service_name(t), "Shutdown", &req.base,
			   t->all->o.shutdown_timeout_ns, shutdown_done, t, NULL, NULL) < 0)
		shutdown_done(t, NULL, 0, NULL);
}

/* Undoes a creation that failed on the way. */
static void create_undo(struct ctx *ctx, struct live_shim *t, const struct bundle *b, bool started)
{
	struct runtime_exit x;
	/* The client's request may be over; its remains are not. */
	struct ctx own = {.arena = ctx->arena, .ns = ctx->ns, .lease = ""};
	if (t->client) {
		/* The shim may still be at it: this waits until it is not. */
		Containerd__Task__V3__DeleteRequest req =
			CONTAINERD__TASK__V3__DELETE_REQUEST__INIT;
		Containerd__Task__V3__DeleteResponse *resp;
		req.id = t->id;
		own.deadline = time_mono() + t->all->o.cleanup_timeout_ns;
		(void)!call(&own, t, "Delete", &req.base,
			    &containerd__task__v3__delete_response__descriptor, &resp, NULL);
		own.deadline = 0;
		task_shutdown(&own, t);
	}
	if (atomic_load(&t->closed))
		started = true; /* the sandbox's shim has died of it */
	live_shim_clear(&own, t, b, started, &x);
	rootfs_deactivate(&own, &t->all->o, t->id);
}

/* Starts a shim for the task, or joins that of the sandbox. */
static int task_shim(struct ctx *ctx, struct live_shim *t, const struct container *ct,
		     const struct runtime_create *c, const struct bundle *b,
		     const struct any *options, bool *ret_started, struct err *err)
{
	const struct runtime_options *o = &t->all->o;
	struct shim_address addr;
	const char *runtime = str_empty(c->runtime_path) ? ct->runtime_name : c->runtime_path;
	char *binary = NULL;
	int joins = sandbox_shim_find(ctx, o, t->ns, t->id, ct->sandbox_id, c->task_api_address,
				      c->task_api_version, &addr, err);
	if (joins < 0)
		return joins;
	/* One that joins needs it only when the shim dies. */
	int r = shim_binary(ctx, runtime, &binary, joins ? NULL : err);
	if (r < 0 && !joins)
		return r;
	r = live_shim_set(&t->binary, r < 0 ? "" : binary, err);
	if (r == 0 && joins)
		r = live_shim_set(&t->sandbox, str_or(ct->sandbox_id, t->id), err);
	if (r == 0 && joins)
		r = shim_join(ctx->arena, b, t->sandbox, &addr, err);
	else if (r == 0)
		r = shim_log_open(o->loop, ctx->arena, b, &t->log, err);
	if (r == 0 && !joins) {
		live_shim_wait_turn(t);
		r = shim_start(ctx, o, b, t->ns, t->id, binary, options, &addr, err);
		*ret_started = r == 0;
	}
	if (r == 0)
		r = live_shim_reach(t, &addr, err);
	return r < 0 && joins ? err_prefix(err, "join sandbox %s", t->sandbox) : r;
}

static int task_start(struct ctx *ctx, struct live_shim *t, const struct container *ct,
		      const struct runtime_create *c, const struct bundle *b, bool *ret_started,
		      uint32_t *ret_pid, struct err *err)
{
	struct mounts rootfs;
	struct any options = c->options.type_url ? c->options : ct->runtime_options;
	int r = task_shim(ctx, t, ct, c, b, &options, ret_started, err);
	if (r == 0 && c->container)
		r = c->recorded(c->recorded_arg, err);
	if (r == 0)
		r = rootfs_activate(ctx, &t->all->o, t->id, c->rootfs, &rootfs, err);
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
	struct live_shim *t;
	bool started = false;
	runtime_expect(rt);
	int r = ctx_namespace(ctx, &ns, err);
	if (r == 0 && c.container)
		ct = *c.container;
	else if (r == 0)
		r = container_get(ctx, rt->all.o.db, c.id, &ct, err);
	if (r == 0 && !ct.spec.type_url)
		r = err_set(err, ERR_INVALID_ARGUMENT, "container %s has no spec", c.id);
	if (r == 0)
		r = create_options_read(ctx->arena, ct.runtime_name, &c, err);
	if (r == 0)
		r = bundle_at(ctx->arena, rt->all.o.root, rt->all.o.state, ns, c.id, &b, err);
	if (r == 0)
		r = live_shim_add(&rt->all, ns, c.id, &t, err);
	if (r < 0)
		return r;
	_cleanup_live_shim_ _unused_ struct live_shim *guard = t;
	r = bundle_create(ctx->arena, &b, &ct.spec, err);
	if (r == 0) {
		if (str_empty(c.checkpoint) && c.checkpoint_content.digest)
			r = checkpoint_unpack(ctx, rt->all.o.db, &b, &c.checkpoint_content,
					      &c.checkpoint, err);
		if (r == 0)
			r = task_start(ctx, t, &ct, &c, &b, &started, ret_pid, err);
		if (r < 0)
			create_undo(ctx, t, &b, started);
	}
	if (r < 0) {
		atomic_store(&t->state, LIVE_DEAD);
		live_shim_remove(t);
		return r;
	}
	live_shim_ready(t);
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
	else if (pool_submit(rt->all.o.pool, sweep_job, s) < 0)
		sweep_job(s);
}

int runtime_delete(struct ctx *ctx, struct runtime *rt, const char *id, struct runtime_exit *ret,
		   struct err *err)
{
	_cleanup_live_shim_ struct live_shim *t = NULL;
	struct bundle b;
	Containerd__Task__V3__DeleteRequest req = CONTAINERD__TASK__V3__DELETE_REQUEST__INIT;
	Containerd__Task__V3__DeleteResponse *resp;
	int r = task_get(ctx, rt, id, &t, err);
	if (r == 0)
		r = live_shim_bundle(ctx->arena, t, &b, err);
	if (r < 0)
		return r;
	if (!live_shim_end(t))
		return err_set_raw(err, ERR_NOT_FOUND, "task %s not found", id);
	req.id = t->id;
	r = call(ctx, t, "Delete", &req.base, &containerd__task__v3__delete_response__descriptor,
		 &resp, err);
	if (r < 0 && r != -ERR_NOT_FOUND) {
		live_shim_ready(t);
		return r;
	}
	*ret = (struct runtime_exit){.pid = t->pid, .status = 255, .at = time_now()};
	if (r == 0) {
		ret->pid = resp->pid;
		ret->status = resp->exit_status;
		if (resp->exited_at)
			ret->at = pb_time_get(resp->exited_at);
	}
	task_shutdown(ctx, t);
	char *hidden[2] = {NULL, NULL};
	r = bundle_hide(ctx->arena, &b, hidden, err);
	sweep_later(rt, hidden);
	rootfs_deactivate(ctx, &rt->all.o, t->id);
	live_shim_remove(t);
	return r;
}

/* ---- load ---- */

/* Reconnects to one task of an earlier daemon; false: there is no shim any more. */
static bool task_reconnect(struct ctx *ctx, struct live_shim *t, const struct bundle *b,
			   struct err *err)
{
	Containerd__Task__V3__ConnectRequest req = CONTAINERD__TASK__V3__CONNECT_REQUEST__INIT;
	Containerd__Task__V3__ConnectResponse *resp;
	struct ctx timed = {.arena = ctx->arena,
			    .ns = ctx->ns,
			    .lease = "",
			    .deadline = time_mono() + t->all->o.load_timeout_ns};
	if (live_shim_reload(ctx->arena, t, b, err) < 0)
		return false;
	req.id = t->id;
	if (call_first(&timed, t, "Connect", &req.base,
		       &containerd__task__v3__connect_response__descriptor, &resp, err) < 0)
		return false;
	t->pid = resp->task_pid;
	return true;
}

/* The shim's binary where the bundle does not say it. */
static void load_binary(struct ctx *ctx, struct live_shim *t)
{
	struct container ct;
	char *path;
	if (str_empty(t->binary) && container_get(ctx, t->all->o.db, t->id, &ct, NULL) == 0 &&
	    shim_binary(ctx, ct.runtime_name, &path, NULL) == 0)
		(void)!live_shim_set(&t->binary, path, NULL);
}

static void load_sandbox(struct ctx *ctx, struct live_shim *t, const struct bundle *b)
{
	char *path = path_join(ctx->arena, b->path, "sandbox"), *text;
	if (path && file_read(ctx->arena, AT_FDCWD, path, 4096, &text, NULL) == 0)
		(void)!live_shim_set(&t->sandbox, text, NULL);
}

/* A shim in which no task was ever created, because the daemon ended before: it knows no container
 * of that name. One whose container has ended knows it still. The shim of a sandbox has none by
 * its nature. */
static bool task_leaked(struct ctx *ctx, struct live_shim *t)
{
	Containerd__Task__V3__StateRequest req = CONTAINERD__TASK__V3__STATE_REQUEST__INIT;
	Containerd__Task__V3__StateResponse *resp;
	struct sandbox record;
	struct err err = ERR_INIT;
	struct ctx timed = {.arena = ctx->arena,
			    .ns = ctx->ns,
			    .lease = "",
			    .deadline = time_mono() + t->all->o.load_timeout_ns};
	req.id = t->id;
	if (call(&timed, t, "State", &req.base, &containerd__task__v3__state_response__descriptor,
		 &resp, &err) != -ERR_NOT_FOUND)
		return false;
	return sandbox_get(ctx, t->all->o.db, t->id, &record, &err) == -ERR_NOT_FOUND;
}

/* Nothing is published: nobody was told of it. */
static void task_discard(struct ctx *ctx, struct live_shim *t, const struct bundle *b)
{
	log_warn("task %s in namespace %s was never created: removing its shim", t->id, t->ns);
	atomic_store(&t->state, LIVE_DEAD);
	create_undo(ctx, t, b, str_empty(t->sandbox));
	live_shim_remove(t);
}

static void load_one(struct ctx *ctx, struct live_shim *t, const struct bundle *b)
{
	struct err err = ERR_INIT;
	load_binary(ctx, t);
	load_sandbox(ctx, t, b);
	if (task_reconnect(ctx, t, b, &err)) {
		if (task_leaked(ctx, t))
			task_discard(ctx, t, b);
		else
			live_shim_ready(t);
		return;
	}
	log_warn("load task %s in namespace %s: %s; cleaning up", t->id, ctx->ns, err.text);
	atomic_store(&t->state, LIVE_DEAD);
	task_bury(ctx, t);
}

static void work_dirs_clean(struct ctx *ctx, struct runtime *rt, const char *ns)
{
	char *path = path_join(ctx->arena, rt->all.o.root, ns);
	_cleanup_closedir_ DIR *d = path ? opendir(path) : NULL;
	for (struct dirent *e; d && (e = readdir(d));) {
		if (streq(e->d_name, ".") || streq(e->d_name, ".."))
			continue;
		_cleanup_live_shim_ struct live_shim *task =
			live_shim_find(&rt->all, ns, e->d_name);
		if (!task && rm_rf(dirfd(d), e->d_name) < 0)
			log_warn("cannot remove %s/%s", path, e->d_name);
	}
}

/* Work directories without a task: after a reboot, all of them. */
static void work_clean(struct ctx *ctx, struct runtime *rt)
{
	_cleanup_closedir_ DIR *d = opendir(rt->all.o.root);
	for (struct dirent *e; d && (e = readdir(d));)
		if (e->d_name[0] != '.')
			work_dirs_clean(ctx, rt, e->d_name);
}

int runtime_load(struct ctx *ctx, struct runtime *rt, struct err *err)
{
	int r = live_shims_load(ctx, &rt->all, load_one, err);
	if (r == 0)
		work_clean(ctx, rt);
	return r;
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
	rt->all.o = *o;
	rt->all.noun = "task";
	rt->all.taken = "";
	rt->all.bury = task_bury;
	rt->procs_fd = -1;
	live_shims_init(&rt->all);
	*ret = rt;
	return 0;
}

void runtime_quiesce(struct runtime *rt)
{
	live_shims_quiesce(&rt->all);
}

void runtime_disconnect(struct runtime *rt)
{
	live_shims_disconnect(&rt->all);
}

void runtime_free(struct runtime *rt)
{
	if (!rt)
		return;
	live_shims_destroy(&rt->all);
	fd_closep(&rt->procs_fd);
	free(rt);
}
