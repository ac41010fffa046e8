/* SPDX-License-Identifier: Apache-2.0 */
/* StartContainer, and how a container's status changes. */
#include <pthread.h>
#include <stdio.h>

#include "base/log.h"
#include "base/path.h"
#include "base/str.h"
#include "base/time.h"
#include "core/snapshot.h"
#include "cri/container.h"
#include "cri/event.h"
#include "cri/io.h"
#include "cri/nri.h"
#include "cri/restore.h"
#include "cri/runtime_features.h"
#include "cri/spec_internal.h"
#include "rpc/pb_json.h"

#define START_ERROR_CODE 128

static int64_t now_ns(void)
{
	struct timespec t = time_now();
	return t.tv_sec * NSEC_PER_SEC + t.tv_nsec;
}

/* The copy is worked on outside of the lock; @changing keeps others out meanwhile. */
int cri_container_change(struct cri *c, struct cri_container *k,
			 void (*fn)(struct cri_status *s, void *arg), void *arg, struct err *err)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	char *dir = a ? cri_container_root(c, a, k->o.id) : NULL;
	struct cri_status s;

	if (!dir)
		return err_nomem(err);
	pthread_mutex_lock(&k->o.lock);
	while (k->changing)
		pthread_cond_wait(&k->o.changed, &k->o.lock);
	if (k->removed) {
		pthread_mutex_unlock(&k->o.lock);
		return 0;
	}
	k->changing = true;
	s = k->status;
	pthread_mutex_unlock(&k->o.lock);
	fn(&s, arg);
	int r = cri_status_write(a, dir, &s, err);
	pthread_mutex_lock(&k->o.lock);
	if (r == 0)
		k->status = s;
	k->changing = false;
	pthread_cond_broadcast(&k->o.changed);
	pthread_mutex_unlock(&k->o.lock);
	return r;
}

struct cri_pod *cri_container_pod(struct cri *c, const struct cri_container *k)
{
	struct cri_pod *p = NULL;
	return cri_table_get(c->pods, k->pod_id, &p, NULL) == 0 ? p : NULL;
}

static uint32_t host_id(CRI(IDMapping) * *v, size_t n)
{
	return n ? v[0]->host_id : 0;
}

int cri_container_io_options(struct ctx *ctx, struct cri *c, struct cri_container *k,
			     struct cri_io_options *ret, struct err *err)
{
	const CRI(UserNamespace) *u =
		cri_namespaces(cri_security(k->config)->namespace_options)->userns_options;
	bool mapped = u && u->mode == RUNTIME__V1__NAMESPACE_MODE__POD;
	char *state = cri_container_state_dir(c, ctx->arena, k->o.id),
	     *dir = state ? path_join(ctx->arena, state, "io") : NULL;

	if (!dir)
		return err_nomem(err);
	*ret = (struct cri_io_options){
		.dir = dir,
		.id = k->o.id,
		.stdin_ = k->config->stdin,
		.stdin_once = k->config->stdin_once,
		.tty = k->config->tty,
		.log_path = k->log_path,
		.max_line = c->config->max_container_log_line_size,
		.shim_writes_log = k->runtime && cri_runtime_features(ctx, c, k->runtime).shim_log,
		.uid = mapped ? host_id(u->uids, u->n_uids) : 0,
		.gid = mapped ? host_id(u->gids, u->n_gids) : 0};
	return 0;
}

/* ---- start ---- */

struct start {
	struct ctx *ctx;
	struct cri *c;
	struct cri_pod *p;
	struct cri_container *k;
	uint32_t pid;
	bool created; /* the task */
	bool restores;
};

/* The status, written on a thread of its own. */
struct running {
	struct start *s;
	struct err err;
	int result;
};

static int may_start(struct cri_container *k, struct err *err)
{
	MUTEX_GUARD(&k->o.lock);
	CRI(ContainerState) state = cri_status_state(&k->status);

	if (k->removing)
		return err_set(err, ERR_UNKNOWN,
			       "container is in removing state, can't be started");
	if (state != RUNTIME__V1__CONTAINER_STATE__CONTAINER_CREATED)
		return err_set(err, ERR_UNKNOWN, "container is in %s state",
			       protobuf_c_enum_descriptor_get_value(
				       &runtime__v1__container_state__descriptor, (int)state)
				       ->name);
	k->starting = true;
	return 0;
}

/* The handler's options with the owner of the streams, for a user namespace. */
static int task_options(struct start *s, const struct cri_io_options *io, struct any *ret,
			struct err *err)
{
	Containerd__Runc__V1__Options *o;
	size_t n;
	int r = cri_runtime_options(s->ctx->arena, s->k->runtime, ret, err);

	if (r < 0 || (!io->uid && !io->gid) ||
	    (ret->type_url && !streq(ret->type_url, "containerd.runc.v1.Options")))
		return r;
	r = rpc_unpack(s->ctx->arena, &containerd__runc__v1__options__descriptor, ret->value,
		       ret->len, &o, err);
	if (r < 0)
		return r;
	o->io_uid = io->uid;
	o->io_gid = io->gid;
	void *p = rpc_pack(s->ctx->arena, &o->base, &n);
	*ret = (struct any){"containerd.runc.v1.Options", p, n};
	return p ? 0 : err_nomem(err);
}

static void drop_io(struct start *s, struct ctx *ctx)
{
	pthread_mutex_lock(&s->k->o.lock);
	struct cri_io *io = TAKE_PTR(s->k->io);
	pthread_mutex_unlock(&s->k->o.lock);
	if (io) {
		cri_io_finish(ctx, io);
		cri_io_free(io);
	}
}

static int create_with_io(struct start *s, struct cri_task_create *o,
			  const struct cri_io_options *io, struct err *err)
{
	int r = cri_io_new(s->ctx, s->c, io, &s->k->io, err);

	if (r < 0)
		return r;
	o->stdin_path = cri_io_stdin(s->k->io);
	o->stdout_path = cri_io_stdout(s->k->io);
	o->stderr_path = cri_io_stderr(s->k->io);
	r = cri_task_create(s->ctx, s->c, o, &s->pid, err);
	s->created = r == 0;
	return r;
}

/* A pod may have been made by a daemon with another shim, which the container joins and which knows
 * nothing of logs, whatever the handler's own shim says of itself. */
static bool shim_cannot_log(const struct cri_io_options *io, const struct err *err)
{
	return io->shim_writes_log && strstr(err->text, "unknown STDIO scheme");
}

static int create_task(struct start *s, struct err *err)
{
	struct cri_task_create o = {.id = s->k->o.id,
				    .terminal = s->k->config->tty,
				    .runtime_path = s->k->runtime->path,
				    .checkpoint =
					    cri_restore_path(s->c, s->ctx->arena, s->k->o.id)};
	struct cri_io_options io;
	struct mounts rootfs;
	struct err own = ERR_INIT;
	int r = cri_container_io_options(s->ctx, s->c, s->k, &io, err);

	if (r == 0)
		r = snapshot_mounts(s->ctx, s->c->o.db, s->k->snapshotter, s->k->snapshot_key,
				    &rootfs, err);
	if (r == 0)
		r = task_options(s, &io, &o.options, err);
	if (r < 0)
		return r;
	o.rootfs = &rootfs;
	s->restores = o.checkpoint;
	r = create_with_io(s, &o, &io, &own);
	if (r < 0 && shim_cannot_log(&io, &own)) {
		drop_io(s, s->ctx);
		io.shim_writes_log = false;
		own = ERR_INIT;
		r = create_with_io(s, &o, &io, &own);
	}
	return r < 0 ? err_copy(err, &own) : 0;
}

static void set_running(struct cri_status *st, void *arg)
{
	struct start *s = arg;

	st->pid = s->pid;
	st->started_at = now_ns();
}

static void set_pid(struct cri_status *st, void *arg)
{
	if (!st->finished_at)
		st->pid = ((struct start *)arg)->pid;
}

/* What is restored has its process only now. */
static int restored(struct start *s, struct err *err)
{
	struct cri_task_info t;
	int r = cri_task_info(s->ctx, s->c, s->k->o.id, &t, err);

	if (r < 0)
		return r;
	s->pid = t.pid;
	r = cri_container_change(s->c, s->k, set_pid, s, err);
	if (r == 0)
		cri_restore_drop(s->c, s->ctx->arena, s->k->o.id);
	return r;
}

struct failure {
	const char *message;
};

static void set_failed(struct cri_status *st, void *arg)
{
	const struct failure *f = arg;

	st->pid = 0;
	st->finished_at = now_ns();
	st->exit_code = START_ERROR_CODE;
	st->reason = "StartError";
	st->message = f->message;
}

/* The container has ended without ever having run; nobody starts it again. */
static void fail(struct start *s, const struct err *why)
{
	struct ctx bg = cri_background(s->c, s->ctx->arena, s->c->config->defer_cleanup_timeout_ns);
	struct failure f = {.message = arena_strdup(s->k->o.arena, why->text)};
	struct err err = ERR_INIT;

	if (s->created && cri_task_destroy(&bg, s->c, s->k->o.id, &err) < 0)
		log_error("container %s: the task that failed to start: %s", s->k->o.id, err.text);
	drop_io(s, &bg);
	err = ERR_INIT;
	f.message = f.message ? f.message : "";
	if (cri_container_change(s->c, s->k, set_failed, &f, &err) < 0)
		log_error("container %s: %s", s->k->o.id, err.text);
}

static void *record_running(void *arg)
{
	struct running *w = arg;

	w->result = cri_container_change(w->s->c, w->s->k, set_running, w->s, &w->err);
	return NULL;
}

/* Running is recorded while the process starts, and nobody hears of it before both are done. What
 * the recovery finds else is a task, which says itself whether it ran. */
static int run_task(struct start *s, struct err *err)
{
	struct running w = {.s = s, .err = ERR_INIT};
	pthread_t thread;

	if (pthread_create(&thread, NULL, record_running, &w) != 0) {
		record_running(&w);
		return w.result < 0 ? err_copy(err, &w.err)
				    : cri_task_start(s->ctx, s->c, s->k->o.id, err);
	}
	int r = cri_task_start(s->ctx, s->c, s->k->o.id, err);
	pthread_join(thread, NULL);
	return r < 0 || w.result == 0 ? r : err_copy(err, &w.err);
}

static int start(struct start *s, struct err *err)
{
	int r = create_task(s, err);

	if (r == 0) {
		nri_event(s->ctx, s->c->nri, NRI_START_CONTAINER, s->p, s->k);
		r = run_task(s, err);
	}
	if (r == 0 && s->restores)
		r = restored(s, err);
	if (r == 0) {
		MUTEX_GUARD(&s->k->o.lock);
		s->k->begun = true;
	}
	if (r < 0) {
		/* The image of the error stays in the status, whole. */
		struct err own = ERR_INIT, *e = err ? err : &own;
		err_prefix(e, "failed to start container \"%s\"", s->k->o.id);
		fail(s, e);
	}
	return r;
}

int cri_start_container(struct rpc_call *call, const void *req, struct err *err)
{
	const CRI(StartContainerRequest) *q = req;
	CRI(StartContainerResponse) resp = CRI_INIT(START_CONTAINER_RESPONSE);
	_cleanup_container_ struct cri_container *k = NULL;
	_cleanup_pod_ struct cri_pod *p = NULL;
	struct start s = {.ctx = rpc_ctx(call)};
	int r = cri_of(call, &s.c, err);

	if (r == 0)
		r = cri_table_get(s.c->containers, q->container_id, &k, err);
	if (r == 0)
		r = cri_object_begin(s.ctx, &k->o, err);
	if (r < 0)
		return r;
	s.k = k;
	s.p = p = cri_container_pod(s.c, k);
	r = may_start(k, err);
	if (r < 0)
		err_prefix(err, "failed to set starting state for container \"%s\"", k->o.id);
	else {
		r = p ? cri_pod_is_ready(p, err)
		      : err_set(err, ERR_NOT_FOUND, "sandbox \"%s\" of container \"%s\"", k->pod_id,
				k->o.id);
		if (r == 0)
			r = start(&s, err);
		if (r == 0) {
			cri_event(s.ctx, s.c, p, k->o.id,
				  RUNTIME__V1__CONTAINER_EVENT_TYPE__CONTAINER_STARTED_EVENT);
			nri_event(s.ctx, s.c->nri, NRI_POST_START_CONTAINER, p, k);
		}
		/* Its exit is told from here on. */
		pthread_mutex_lock(&k->o.lock);
		k->starting = false;
		pthread_cond_broadcast(&k->o.changed);
		pthread_mutex_unlock(&k->o.lock);
	}
	cri_object_end(&k->o);
	return r < 0 ? r : rpc_send(call, &resp.base, err);
}
