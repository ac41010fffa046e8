/* SPDX-License-Identifier: Apache-2.0 */
/* The end of pods: their sandbox exits, they are stopped, they are removed. Both calls may be
 * repeated until they succeed. */
#include <signal.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/str.h"
#include "base/time.h"
#include "core/lease.h"
#include "core/sandbox.h"
#include "cri/event.h"
#include "cri/network.h"
#include "cri/nri.h"
#include "cri/podsandbox.h"
#include "cri/stats.h"
#include "cri/task.h"
#include "cri/timers.h"
#include "event/loop.h"
#include "event/pool.h"

/* ---- the exit of a sandbox ---- */

/* In the list from the beginning of the wait to its end; all on the loop. */
struct watch {
	struct watch *next;
	struct cri *c;
	struct cri_pod *p;
	struct sandbox_controller *controller;
	struct sandbox_wait *wait;
	struct sandbox_exit x;
	struct err err;
};

static void watch_free(struct watch *w)
{
	cri_object_unref(&w->p->o);
	free(w);
}

static void list_remove(struct watch *w)
{
	for (struct watch **p = &w->c->watches; *p; p = &(*p)->next)
		if (*p == w) {
			*p = w->next;
			return;
		}
}

/* The pod is down, whatever else: those that wait for it go on. */
static void record_exit(struct cri_pod *p, const struct sandbox_exit *x)
{
	struct timespec at = x && !time_is_zero(x->at) ? x->at : time_now();
	MUTEX_GUARD(&p->o.lock);

	p->state = CRI_POD_NOTREADY;
	p->pid = 0;
	p->exit_status = x ? x->status : 255;
	p->exited_at = at.tv_sec * NSEC_PER_SEC + at.tv_nsec;
	pthread_cond_broadcast(&p->o.changed);
}

void cri_pod_exited(struct ctx *ctx, struct cri *c, struct cri_pod *p, const struct sandbox_exit *x)
{
	struct runtime_exit unused;
	struct err err = ERR_INIT;

	record_exit(p, x);
	if (cri_task_delete(ctx, c, p->o.id, &unused, &err) < 0 && err.kind != ERR_NOT_FOUND)
		log_warn("sandbox %s: delete its task: %s", p->o.id, err.text);
	cri_event(ctx, c, p, p->o.id, RUNTIME__V1__CONTAINER_EVENT_TYPE__CONTAINER_STOPPED_EVENT);
}

static void handle_exit(void *arg)
{
	struct watch *w = arg;
	_cleanup_arena_ struct arena *a = arena_new(0);
	struct ctx ctx = cri_background(w->c, a, w->c->config->defer_cleanup_timeout_ns);

	if (w->err.kind)
		log_warn("sandbox %s: its end was not seen: %s", w->p->o.id, w->err.text);
	if (a)
		cri_pod_exited(&ctx, w->c, w->p, w->err.kind ? NULL : &w->x);
	else
		record_exit(w->p, w->err.kind ? NULL : &w->x);
	watch_free(w);
}

static void on_exit_of_pod(void *arg, const struct sandbox_exit *x, const struct err *err)
{
	struct watch *w = arg;

	list_remove(w);
	if (x)
		w->x = *x;
	else
		err_copy(&w->err, err);
	/* A daemon that stops leaves its pods as they are. */
	if (w->c->stopping || pool_submit(w->c->o.pool, handle_exit, w) < 0)
		watch_free(w);
}

static void begin_watch(void *arg)
{
	struct watch *w = arg;

	if (w->c->stopping) {
		watch_free(w);
		return;
	}
	w->next = w->c->watches;
	w->c->watches = w;
	if (w->controller->ops->wait(w->controller, CRI_NS, w->p->o.id, on_exit_of_pod, w, &w->wait,
				     &w->err) < 0)
		on_exit_of_pod(w, NULL, &w->err);
}

static void end_watches(void *arg)
{
	struct cri *c = arg;

	for (struct watch *w = c->watches, *next; w; w = next) {
		next = w->next;
		if (w->controller->ops->wait_cancel(w->controller, w->wait)) {
			list_remove(w);
			watch_free(w);
		}
	}
}

void cri_pod_watches_stop(struct cri *c)
{
	if (loop_post(c->o.loop, end_watches, c) < 0)
		log_error("CRI: end the waits for pods: no memory");
}

int cri_pod_watch(struct cri *c, struct cri_pod *p, struct err *err)
{
	struct watch *w = calloc(1, sizeof(*w));

	if (!w)
		return err_nomem(err);
	*w = (struct watch){.c = c, .p = p};
	int r = cri_controller_of(c, p, &w->controller, err);
	cri_object_ref(&p->o);
	if (r == 0 && loop_post(c->o.loop, begin_watch, w) < 0)
		r = err_nomem(err);
	if (r < 0)
		watch_free(w);
	return r;
}

/* ---- stop ---- */

static int wait_down(struct ctx *ctx, struct cri_pod *p, struct err *err)
{
	MUTEX_GUARD(&p->o.lock);
	while (p->state == CRI_POD_READY) {
		int r = cri_object_wait(ctx, &p->o, err);
		if (r < 0)
			return err_prefix(err, "wait for the end of sandbox %s", p->o.id);
	}
	return 0;
}

static int stop_containers(struct ctx *ctx, struct cri *c, struct cri_pod *p, struct err *err)
{
	struct cri_container **v;
	size_t n;
	int r = cri_pod_containers(ctx, c, p->o.id, &v, &n, err);

	if (r < 0)
		return r;
	for (size_t i = 0; r == 0 && i < n; i++)
		r = cri_container_stop(ctx, c, v[i], err);
	cri_objects_unref((struct cri_object **)v, n);
	return r;
}

static int stop_sandbox(struct ctx *ctx, struct cri *c, struct cri_pod *p, struct err *err)
{
	struct sandbox_controller *controller;
	struct err own = ERR_INIT;
	enum cri_pod_state state;
	int r = cri_controller_of(c, p, &controller, err);

	if (r < 0)
		return r;
	pthread_mutex_lock(&p->o.lock);
	state = p->state;
	pthread_mutex_unlock(&p->o.lock);
	if (state == CRI_POD_NOTREADY)
		return 0;
	r = controller->ops->stop(ctx, controller, p->o.id, 0, &own);
	if (r < 0 && r != -ERR_NOT_FOUND)
		return err_copy(err, &own);
	if (state == CRI_POD_UNKNOWN) {
		record_exit(p, NULL);
		return 0;
	}
	return wait_down(ctx, p, err);
}

/* Begun. */
static int stop(struct ctx *ctx, struct cri *c, struct cri_pod *p, struct err *err)
{
	int64_t begin = time_mono();
	int r = stop_containers(ctx, c, p, err);

	if (r == 0)
		r = stop_sandbox(ctx, c, p, err);
	if (r == 0) {
		cri_timer_add_handler(c, CRI_TIMER_SANDBOX_RUNTIME_STOP, p->handler, begin);
		r = nri_stop_pod(ctx, c->nri, p, err);
	}
	if (r == 0)
		r = cri_pod_unmount_shm(ctx->arena, c, p->o.id, err);
	if (r == 0)
		r = cri_pod_drop_namespaces(ctx, c, p, true, err);
	if (r == 0)
		r = cri_pod_drop_image_volumes(ctx, c, p->o.id, err);
	return r < 0 ? err_prefix(err, "failed to stop sandbox \"%s\"", p->o.id) : 0;
}

static int begin(struct rpc_call *call, const char *id, struct cri **ret_c, struct cri_pod **ret,
		 struct err *err)
{
	struct err absent = ERR_INIT;
	int r = cri_of(call, ret_c, err);

	if (r < 0)
		return r;
	r = cri_table_get((*ret_c)->pods, id, ret, &absent);
	if (r == -ERR_NOT_FOUND)
		return 0;
	if (r < 0)
		return err_copy(err, &absent);
	r = cri_object_begin(rpc_ctx(call), &(*ret)->o, err);
	if (r < 0) {
		cri_object_unref(&(*ret)->o);
		*ret = NULL;
	}
	return r;
}

int cri_stop_pod_sandbox(struct rpc_call *call, const void *req, struct err *err)
{
	const CRI(StopPodSandboxRequest) *q = req;
	CRI(StopPodSandboxResponse) resp = CRI_INIT(STOP_POD_SANDBOX_RESPONSE);
	struct cri_pod *p = NULL;
	struct cri *c;
	int r = begin(call, q->pod_sandbox_id, &c, &p, err);

	if (r == 0 && p) {
		r = stop(rpc_ctx(call), c, p, err);
		cri_object_end(&p->o);
		cri_object_unref(&p->o);
	}
	return r < 0 ? r : rpc_send(call, &resp.base, err);
}

/* ---- remove ---- */

static int remove_containers(struct ctx *ctx, struct cri *c, struct cri_pod *p, struct err *err)
{
	struct cri_container **v;
	size_t n;
	int r = cri_pod_containers(ctx, c, p->o.id, &v, &n, err);

	if (r < 0)
		return r;
	for (size_t i = 0; r == 0 && i < n; i++)
		r = cri_container_remove(ctx, c, v[i], err);
	cri_objects_unref((struct cri_object **)v, n);
	return r;
}

/* 0 for what is not there. */
static int absent_ok(int r, struct err *own, struct err *err)
{
	return r == -ERR_NOT_FOUND ? 0 : r < 0 ? err_copy(err, own) : 0;
}

int cri_pod_remove_records(struct ctx *ctx, struct cri *c, const char *id, struct err *err)
{
	struct err own = ERR_INIT;
	int r = absent_ok(lease_delete(ctx, c->o.db, id, &own), &own, err);

	own = ERR_INIT;
	return r < 0 ? r : absent_ok(sandbox_delete(ctx, c->o.db, id, &own), &own, err);
}

static int remove_pod(struct ctx *ctx, struct cri *c, struct cri_pod *p, struct err *err)
{
	struct sandbox_controller *controller;
	struct err own = ERR_INIT;
	/* By a request that was before this one in line. */
	if (p->removed)
		return 0;
	int r = stop(ctx, c, p, err);

	if (r == 0)
		r = remove_containers(ctx, c, p, err);
	if (r == 0)
		r = cri_controller_of(c, p, &controller, err);
	if (r == 0)
		r = absent_ok(controller->ops->shutdown(ctx, controller, p->o.id, &own), &own, err);
	if (r == 0)
		r = nri_remove_pod(ctx, c->nri, p, err);
	if (r == 0)
		r = cri_pod_remove_records(ctx, c, p->o.id, err);
	if (r < 0)
		return err_prefix(err, "failed to remove sandbox \"%s\"", p->o.id);
	p->removed = true; /* read between begin and end only */
	cri_event(ctx, c, p, p->o.id, RUNTIME__V1__CONTAINER_EVENT_TYPE__CONTAINER_DELETED_EVENT);
	cri_stats_forget(c->stats, p->o.id);
	cri_table_remove(c->pods, p->o.id);
	cri_table_release(c->pods, p->o.id);
	return 0;
}

int cri_remove_pod_sandbox(struct rpc_call *call, const void *req, struct err *err)
{
	const CRI(RemovePodSandboxRequest) *q = req;
	CRI(RemovePodSandboxResponse) resp = CRI_INIT(REMOVE_POD_SANDBOX_RESPONSE);
	struct cri_pod *p = NULL;
	struct cri *c;
	int r = begin(call, q->pod_sandbox_id, &c, &p, err);

	if (r == 0 && p) {
		r = remove_pod(rpc_ctx(call), c, p, err);
		cri_object_end(&p->o);
		cri_object_unref(&p->o);
	}
	return r < 0 ? r : rpc_send(call, &resp.base, err);
}
