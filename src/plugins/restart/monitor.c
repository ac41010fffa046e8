/* SPDX-License-Identifier: Apache-2.0 */
/* The restart monitor: see monitor.h.
 *
 * One entry for each container that has the status label, kept from one pass to the next. A pass
 * over all of them runs once an interval; between, only entries are looked at that are due: some
 * time after their task's exit, or when their record changed. What is to be done about a task is a
 * pool job, of which an entry has one at most.
 *
 * Entries are added and freed by the monitor's thread only; their fields and the list are under the
 * lock. The event exchange calls on publishers' threads, and only marks entries there. */
#include "plugins/restart/monitor.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/str.h"
#include "base/time.h"
#include "core/container.h"
#include "core/event.h"
#include "event/pool.h"
#include "plugins/restart/labels.h"
#include "plugins/restart/task.h"
#include "protos.h"

#define INTERVAL_NS (10 * NSEC_PER_SEC)
#define JOB_NS (120 * NSEC_PER_SEC) /* limit of one restart */

struct entry {
	struct entry *next;
	struct restart_monitor *m;
	char *ns, *id;
	bool listed;	     /* in the pass under way */
	bool busy;	     /* a job has it */
	bool stop;	     /* what the job is to do: stop, else start */
	bool exited;	     /* while it was busy */
	int64_t due;	     /* when to look at it between passes; 0 = not */
	int64_t started;     /* by a job of ours; 0 = not */
	int64_t pause;	     /* the last one */
	int64_t created_for; /* since when its task is seen created but not started; 0 = is not */
};

struct restart_monitor {
	struct restart_options o;
	struct ctx base; /* parent of all work: its cancellation is the monitor's end */
	struct event_subscription *sub;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed; /* on the monotonic clock */
	struct entry *entries;
	size_t jobs;
	bool stopping, stopped;
};

/* ---- entries ---- */

static struct entry *entry_find(struct restart_monitor *m, const char *ns, const char *id)
{
	struct entry *e = m->entries;
	while (e && (!streq(e->id, id) || !streq(e->ns, ns)))
		e = e->next;
	return e;
}

static void entry_free(struct entry *e)
{
	free(e->ns);
	free(e->id);
	free(e);
}

static struct entry *entry_get(struct restart_monitor *m, const char *ns, const char *id)
{
	struct entry *e = entry_find(m, ns, id);
	if (e)
		return e;
	e = calloc(1, sizeof(*e));
	if (!e)
		return NULL;
	e->m = m;
	e->ns = strdup(ns);
	e->id = strdup(id);
	if (!e->ns || !e->id) {
		entry_free(e);
		return NULL;
	}
	e->next = m->entries;
	m->entries = e;
	return e;
}

static void entries_sweep(struct restart_monitor *m)
{
	for (struct entry **p = &m->entries; *p;) {
		struct entry *e = *p;
		if (e->listed || e->busy) {
			p = &e->next;
			continue;
		}
		*p = e->next;
		entry_free(e);
	}
}

/* Its task has ended, or could not be started (@ran_ns -1): when to try again. */
static void entry_pause(struct entry *e, int64_t ran_ns)
{
	e->pause = restart_pause(e->pause, ran_ns, e->m->o.interval_ns);
	e->due = time_mono() + e->pause;
	pthread_cond_broadcast(&e->m->changed);
}

/* ---- events ---- */

static void entry_exited(struct restart_monitor *m, const char *ns, const char *id)
{
	MUTEX_GUARD(&m->lock);
	struct entry *e = entry_find(m, ns, id);
	if (!e)
		return;
	if (e->busy)
		e->exited = true;
	else
		entry_pause(e, e->started ? time_mono() - e->started : INT64_MAX);
}

static void entry_changed(struct restart_monitor *m, const char *ns, const char *id)
{
	MUTEX_GUARD(&m->lock);
	struct entry *e = entry_find(m, ns, id);
	/* The job's own changes are of no interest, and pauses are kept. */
	if (!e || e->busy || e->due)
		return;
	e->due = time_mono();
	pthread_cond_broadcast(&m->changed);
}

static bool any_entries(struct restart_monitor *m)
{
	MUTEX_GUARD(&m->lock);
	return m->entries != NULL;
}

static void on_event(void *arg, const struct event *e)
{
	struct restart_monitor *m = arg;
	bool is_exit = streq(e->topic, "/tasks/exit");
	if ((!is_exit && !streq(e->topic, "/containers/update")) || !any_entries(m))
		return;
	if (is_exit) {
		Containerd__Events__TaskExit *x =
			containerd__events__task_exit__unpack(NULL, e->payload_len, e->payload);
		if (x && streq(x->id, x->container_id)) /* not an exec */
			entry_exited(m, e->ns, x->id);
		if (x)
			containerd__events__task_exit__free_unpacked(x, NULL);
		return;
	}
	Containerd__Events__ContainerUpdate *u =
		containerd__events__container_update__unpack(NULL, e->payload_len, e->payload);
	if (u) {
		entry_changed(m, e->ns, u->id);
		containerd__events__container_update__free_unpacked(u, NULL);
	}
}

/* ---- jobs ---- */

static void job_end(struct entry *e, int r)
{
	struct restart_monitor *m = e->m;
	MUTEX_GUARD(&m->lock);
	e->busy = false;
	e->created_for = 0;
	if (r < 0) {
		entry_pause(e, -1);
	} else if (!e->stop) {
		e->started = time_mono();
		/* Perhaps that of the task before it: a look does no harm. */
		if (e->exited)
			entry_pause(e, 0);
	}
	m->jobs--;
	pthread_cond_broadcast(&m->changed);
}

static void job_run(void *arg)
{
	struct entry *e = arg;
	struct restart_monitor *m = e->m;
	_cleanup_arena_ struct arena *a = arena_new(0);
	struct ctx ctx = {.arena = a,
			  .ns = e->ns,
			  .lease = "",
			  .deadline = time_mono() + JOB_NS,
			  .parent = &m->base};
	struct err err = ERR_INIT;
	int r = a ? 0 : err_nomem(&err);
	if (r == 0)
		r = e->stop ? restart_task_stop(&ctx, &m->o, e->id, &err)
			    : restart_task_start(&ctx, &m->o, e->id, &err);
	if (r < 0)
		log_warn("restart monitor: %s container %s in namespace %s: %s",
			 e->stop ? "stop" : "start", e->id, e->ns, err.text);
	else
		log_debug("restart monitor: %s container %s in namespace %s",
			  e->stop ? "stopped" : "started", e->id, e->ns);
	job_end(e, r);
}

/* The lock is held. */
static void job_start(struct entry *e, bool stop)
{
	struct restart_monitor *m = e->m;
	if (m->stopping)
		return;
	e->busy = true;
	e->stop = stop;
	e->exited = false;
	m->jobs++;
	if (pool_submit(m->o.pool, job_run, e) == 0)
		return;
	m->jobs--;
	e->busy = false;
	entry_pause(e, -1);
}

/* ---- what is wanted, and what is ---- */

/* A client may be between making a container, its task, and the task's start: that time is left to
 * it. */
static bool is_in_making(struct entry *e, enum restart_state state, struct timespec created_at)
{
	int64_t now = time_mono(), interval = e->m->o.interval_ns;
	if (state == TASK_CREATED) {
		if (!e->created_for)
			e->created_for = now;
		return now - e->created_for < interval;
	}
	e->created_for = 0;
	if (state != TASK_ABSENT || e->started)
		return false;
	struct timespec t = time_now();
	int64_t age_s = t.tv_sec - created_at.tv_sec;
	return age_s >= 0 && age_s <= interval / NSEC_PER_SEC;
}

/* The lock is held. */
static void entry_decide(struct entry *e, const struct container_ref *c, enum restart_state state,
			 uint32_t status)
{
	const char *want = str_or(labels_get(&c->labels, RESTART_STATUS), "");
	struct err err = ERR_INIT;
	if (e->busy || e->due > time_mono())
		return;
	e->due = 0;
	if (streq(want, "stopped")) {
		if (state != TASK_ABSENT && state != TASK_STOPPED)
			job_start(e, true);
		return;
	}
	if (!streq(want, "running") || state == TASK_RUNNING || state == TASK_PAUSED ||
	    is_in_making(e, state, c->created_at))
		return;
	int r = restart_wanted(&c->labels, status, &err);
	if (r < 0)
		log_warn("restart monitor: container %s in namespace %s: %s", c->id, c->ns,
			 err.text);
	else if (r > 0)
		job_start(e, false);
}

static void entry_look(struct restart_monitor *m, struct ctx *ctx, struct entry *e,
		       const struct container_ref *c)
{
	enum restart_state state;
	uint32_t status;
	struct err err = ERR_INIT;
	int r = restart_task_state(ctx, m->o.runtime, c->id, &state, &status, &err);
	MUTEX_GUARD(&m->lock);
	if (r == 0) {
		entry_decide(e, c, state, status);
		return;
	}
	e->due = 0;
	if (!m->stopping)
		log_warn("restart monitor: state of task %s in namespace %s: %s", c->id, c->ns,
			 err.text);
}

/* ---- passes ---- */

static void pass_all(struct restart_monitor *m, struct ctx *ctx)
{
	struct container_ref *v;
	size_t n;
	struct err err = ERR_INIT;
	if (container_list_labelled(ctx, m->o.db, RESTART_STATUS, &v, &n, &err) < 0) {
		log_error("restart monitor: %s", err.text);
		return;
	}
	pthread_mutex_lock(&m->lock);
	for (struct entry *e = m->entries; e; e = e->next)
		e->listed = false;
	pthread_mutex_unlock(&m->lock);
	for (size_t i = 0; i < n; i++) {
		pthread_mutex_lock(&m->lock);
		struct entry *e = entry_get(m, v[i].ns, v[i].id);
		if (e)
			e->listed = true;
		pthread_mutex_unlock(&m->lock);
		ctx->ns = v[i].ns;
		if (e && ctx_check(ctx, NULL) == 0)
			entry_look(m, ctx, e, &v[i]);
	}
	MUTEX_GUARD(&m->lock);
	entries_sweep(m);
}

static struct entry *next_due(struct restart_monitor *m, int64_t now)
{
	MUTEX_GUARD(&m->lock);
	struct entry *e = m->entries;
	while (e && (e->busy || !e->due || e->due > now))
		e = e->next;
	return e;
}

/* An entry that was looked at is not due any more, or later. */
static void pass_due(struct restart_monitor *m, struct ctx *ctx)
{
	int64_t now = time_mono();
	for (struct entry *e; ctx_check(ctx, NULL) == 0 && (e = next_due(m, now));) {
		struct container c;
		ctx->ns = e->ns;
		if (container_get(ctx, m->o.db, e->id, &c, NULL) < 0) {
			MUTEX_GUARD(&m->lock);
			e->due = 0; /* deleted: the next pass over all drops it */
			continue;
		}
		struct container_ref ref = {
			.ns = e->ns, .id = e->id, .labels = c.labels, .created_at = c.created_at};
		entry_look(m, ctx, e, &ref);
	}
}

/* Sleeps until the next pass is due; false at the end. */
static bool wait_for_work(struct restart_monitor *m, int64_t all_at)
{
	MUTEX_GUARD(&m->lock);
	for (;;) {
		int64_t at = all_at;
		if (m->stopping)
			return false;
		for (struct entry *e = m->entries; e; e = e->next)
			if (e->due && !e->busy && e->due < at)
				at = e->due;
		if (at <= time_mono())
			return true;
		struct timespec ts = {.tv_sec = at / NSEC_PER_SEC, .tv_nsec = at % NSEC_PER_SEC};
		pthread_cond_timedwait(&m->changed, &m->lock, &ts);
	}
}

static void *monitor_main(void *arg)
{
	struct restart_monitor *m = arg;
	int64_t all_at = time_mono();
	while (wait_for_work(m, all_at)) {
		_cleanup_arena_ struct arena *a = arena_new(0);
		struct ctx ctx = {.arena = a, .ns = "", .lease = "", .parent = &m->base};
		bool all = time_mono() >= all_at;
		if (a && all)
			pass_all(m, &ctx);
		else if (a)
			pass_due(m, &ctx);
		if (all)
			all_at = time_mono() + m->o.interval_ns;
	}
	return NULL;
}

/* ---- life ---- */

static int monitor_new(const struct restart_options *o, struct restart_monitor **ret,
		       struct err *err)
{
	struct restart_monitor *m = calloc(1, sizeof(*m));
	pthread_condattr_t attr;
	if (!m)
		return err_nomem(err);
	m->o = *o;
	if (m->o.interval_ns <= 0)
		m->o.interval_ns = INTERVAL_NS;
	pthread_mutex_init(&m->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&m->changed, &attr);
	pthread_condattr_destroy(&attr);
	*ret = m;
	return 0;
}

int restart_monitor_start(const struct restart_options *o, struct restart_monitor **ret,
			  struct err *err)
{
	static const char *const filters[] = {"topic==\"/tasks/exit\"",
					      "topic==\"/containers/update\""};
	struct restart_monitor *m;
	int r = monitor_new(o, &m, err);
	if (r < 0)
		return r;
	r = event_subscribe(o->events, filters, ARRAY_LEN(filters), on_event, m, &m->sub, err);
	if (r == 0) {
		r = -pthread_create(&m->thread, NULL, monitor_main, m);
		if (r < 0)
			r = err_errno(err, r, "start a thread");
	}
	if (r < 0) {
		m->stopped = true;
		restart_monitor_free(m);
		return r;
	}
	*ret = m;
	return 0;
}

void restart_monitor_stop(struct restart_monitor *m)
{
	if (m->stopped)
		return;
	m->stopped = true;
	atomic_store(&m->base.canceled, true);
	pthread_mutex_lock(&m->lock);
	m->stopping = true;
	pthread_cond_broadcast(&m->changed);
	pthread_mutex_unlock(&m->lock);
	pthread_join(m->thread, NULL);
	pthread_mutex_lock(&m->lock);
	while (m->jobs)
		pthread_cond_wait(&m->changed, &m->lock);
	pthread_mutex_unlock(&m->lock);
}

void restart_monitor_free(struct restart_monitor *m)
{
	if (!m)
		return;
	restart_monitor_stop(m);
	if (m->sub)
		event_unsubscribe(m->sub);
	while (m->entries) {
		struct entry *e = m->entries;
		m->entries = e->next;
		entry_free(e);
	}
	pthread_cond_destroy(&m->changed);
	pthread_mutex_destroy(&m->lock);
	free(m);
}
