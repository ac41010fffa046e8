/* SPDX-License-Identifier: Apache-2.0 */
/* The ends of containers.
 *
 * Exits and OOM kills come as events of the namespace, in the order in which the shim sent them, so
 * an exit is never seen before the kill that caused it. Each exit is handled by a job of the pool:
 * the rest of the output is waited for, the task is deleted, the status is written, the event is
 * told. What fails is tried again later, with pauses that double. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/str.h"
#include "base/time.h"
#include "core/event.h"
#include "cri/container.h"
#include "cri/event.h"
#include "cri/io.h"
#include "cri/nri.h"
#include "cri/stats_internal.h"
#include "event/loop.h"
#include "event/pool.h"
#include "rpc/rpc.h"

#define PAUSE_MIN_NS (1 * NSEC_PER_SEC)
#define PAUSE_MAX_NS (300 * NSEC_PER_SEC)
#define DRAIN_NS (10 * NSEC_PER_SEC)

struct cri_exits {
	struct cri *c;
	struct event_subscription *sub;
};

struct job {
	struct cri *c;
	struct cri_container *k;
	struct runtime_exit x;
	bool untold; /* no event came of it: nor, maybe, of what it was the end of */
	bool first;  /* nobody had written it down before */
	int64_t pause_ns;
	struct loop_source *timer;
};

static void job_free(struct job *j)
{
	pthread_mutex_lock(&j->k->o.lock);
	j->k->exits--;
	pthread_mutex_unlock(&j->k->o.lock);
	cri_object_unref(&j->k->o);
	free(j);
}

/* Of the same exit there may be two jobs side by side: of what a recovery has found, and of an
 * event that the shim had kept for the daemon meanwhile. One is the first. */
static void set_exited(struct cri_status *s, void *arg)
{
	struct job *j = arg;

	/* Whatever its status file would have said: it has ended. */
	s->unknown = false;
	j->first = !s->finished_at;
	if (!j->first)
		return;
	s->pid = 0;
	s->finished_at = j->x.at.tv_sec * NSEC_PER_SEC + j->x.at.tv_nsec;
	s->exit_code = (int32_t)j->x.status;
	if (j->k->oom && j->x.status)
		s->reason = "OOMKilled";
}

/* A kill for memory while no daemon ran is told later than the exit is found, or by nobody. */
static void look_for_oom(struct ctx *ctx, struct job *j)
{
	struct cri_sample s;

	if (!j->untold || j->x.status != 128 + SIGKILL ||
	    cri_stats_of_task(ctx, j->c, j->k->o.id, &s) < 0 || !sample_has(&s, SAMPLE_OOM_KILLS) ||
	    !s.v[SAMPLE_OOM_KILLS])
		return;
	pthread_mutex_lock(&j->k->o.lock);
	j->k->oom = true;
	pthread_mutex_unlock(&j->k->o.lock);
}

static int handle(struct ctx *ctx, struct job *j, struct err *err)
{
	struct cri_container *k = j->k;
	struct runtime_exit unused;
	struct err own = ERR_INIT;
	_cleanup_io_ struct cri_io *io = NULL;

	pthread_mutex_lock(&k->o.lock);
	while (k->starting)
		pthread_cond_wait(&k->o.changed, &k->o.lock);
	io = k->io ? cri_io_ref(k->io) : NULL;
	pthread_mutex_unlock(&k->o.lock);
	if (io) {
		struct ctx drain = cri_background(j->c, ctx->arena, DRAIN_NS);
		cri_io_finish(&drain, io);
	}
	look_for_oom(ctx, j);
	int r = cri_task_delete(ctx, j->c, k->o.id, &unused, &own);
	if (r < 0 && r != -ERR_NOT_FOUND)
		return err_copy(err, &own);
	j->first = false;
	r = cri_container_change(j->c, k, set_exited, j, err);
	if (r < 0 || !j->first)
		return r;
	struct cri_pod *p = cri_container_pod(j->c, k);
	if (p) {
		cri_event(ctx, j->c, p, k->o.id,
			  RUNTIME__V1__CONTAINER_EVENT_TYPE__CONTAINER_STOPPED_EVENT);
		r = nri_stop_container(ctx, j->c->nri, p, k, err);
		cri_object_unref(&p->o);
	}
	return r;
}

static void again(void *arg);

static void run(void *arg)
{
	struct job *j = arg;
	_cleanup_arena_ struct arena *a = arena_new(0);
	struct ctx ctx = cri_background(j->c, a, j->c->config->defer_cleanup_timeout_ns);
	struct err err = ERR_INIT;
	int r = a ? handle(&ctx, j, &err) : err_nomem(&err);

	if (r == 0 || j->c->stopping) {
		job_free(j);
		return;
	}
	log_error("container %s: handle its exit: %s; again in %lld s", j->k->o.id, err.text,
		  (long long)(j->pause_ns / NSEC_PER_SEC));
	if (loop_post(j->c->o.loop, again, j) < 0)
		job_free(j);
}

/* On the loop. */
static void due(void *arg)
{
	struct job *j = arg;

	loop_source_free(j->timer);
	j->timer = NULL;
	if (j->c->stopping || pool_submit(j->c->o.pool, run, j) < 0)
		job_free(j);
}

static void again(void *arg)
{
	struct job *j = arg;

	if (j->c->stopping ||
	    loop_add_timer(j->c->o.loop, time_mono() + j->pause_ns, due, j, &j->timer) < 0) {
		job_free(j);
		return;
	}
	j->pause_ns = MIN(j->pause_ns * 2, PAUSE_MAX_NS);
}

static int exited(struct cri *c, struct cri_container *k, const struct runtime_exit *x, bool untold)
{
	struct job *j = calloc(1, sizeof(*j));

	if (!j)
		return -ENOMEM;
	*j = (struct job){.c = c, .k = k, .x = *x, .untold = untold, .pause_ns = PAUSE_MIN_NS};
	if (time_is_zero(j->x.at))
		j->x.at = time_now();
	cri_object_ref(&k->o);
	pthread_mutex_lock(&k->o.lock);
	k->exits++;
	pthread_mutex_unlock(&k->o.lock);
	int r = c->stopping ? 0 : pool_submit(c->o.pool, run, j);
	if (c->stopping || r < 0)
		job_free(j);
	return r;
}

int cri_container_exited(struct cri *c, struct cri_container *k, const struct runtime_exit *x)
{
	return exited(c, k, x, true);
}

/* ---- events ---- */

static void on_exit_event(struct cri_exits *e, struct arena *a, const struct event *ev)
{
	Containerd__Events__TaskExit *m;
	struct cri_container *k;

	if (rpc_unpack(a, &containerd__events__task_exit__descriptor, ev->payload, ev->payload_len,
		       &m, NULL) < 0 ||
	    !streq(m->id, m->container_id) ||
	    cri_table_get(e->c->containers, m->container_id, &k, NULL) < 0)
		return;
	struct runtime_exit x = {.pid = m->pid, .status = m->exit_status, .at = ev->timestamp};
	if (m->exited_at)
		x.at = (struct timespec){m->exited_at->seconds, m->exited_at->nanos};
	if (streq(k->o.id, m->container_id) && exited(e->c, k, &x, false) < 0)
		log_error("container %s: its exit is not handled: no memory", k->o.id);
	cri_object_unref(&k->o);
}

static void on_oom_event(struct cri_exits *e, struct arena *a, const struct event *ev)
{
	Containerd__Events__TaskOOM *m;
	struct cri_container *k;

	if (rpc_unpack(a, &containerd__events__task_oom__descriptor, ev->payload, ev->payload_len,
		       &m, NULL) < 0 ||
	    cri_table_get(e->c->containers, m->container_id, &k, NULL) < 0)
		return;
	pthread_mutex_lock(&k->o.lock);
	k->oom = true;
	pthread_mutex_unlock(&k->o.lock);
	cri_object_unref(&k->o);
}

/* On the publisher's thread: nothing here blocks. */
static void on_event(void *arg, const struct event *ev)
{
	struct cri_exits *e = arg;
	_cleanup_arena_ struct arena *a = arena_new(0);

	if (!a)
		log_error("CRI: an event is lost: no memory");
	else if (streq(ev->topic, "/tasks/exit"))
		on_exit_event(e, a, ev);
	else if (streq(ev->topic, "/tasks/oom"))
		on_oom_event(e, a, ev);
}

int cri_exits_new(struct cri *c, struct cri_exits **ret, struct err *err)
{
	static const char *const filters[] = {"namespace==" CRI_NS ",topic==\"/tasks/exit\"",
					      "namespace==" CRI_NS ",topic==\"/tasks/oom\""};
	struct cri_exits *e = calloc(1, sizeof(*e));

	if (!e)
		return err_nomem(err);
	e->c = c;
	int r = event_subscribe(c->o.events, filters, ARRAY_LEN(filters), on_event, e, &e->sub,
				err);
	if (r < 0)
		free(e);
	else
		*ret = e;
	return r;
}

void cri_exits_stop(struct cri_exits *e)
{
	if (e && e->sub)
		event_unsubscribe(TAKE_PTR(e->sub));
}

void cri_exits_free(struct cri_exits *e)
{
	cri_exits_stop(e);
	free(e);
}
