/* SPDX-License-Identifier: Apache-2.0 */
/* When to collect. A thread sleeps until one of these is due:
 *
 *     asked for          a caller waits: after schedule_delay
 *     many deletions     deletion_threshold is reached: after schedule_delay
 *     deletions, or      one deletion, or mutation_threshold changes: when the pause since the last
 * collection is long enough that changes            collecting takes at most pause_threshold of all
 * time
 *
 * The first collection comes startup_delay after the start. While nothing changes the thread does
 * not wake up.
 */
#include "core/gc.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/time.h"

#define MIN_COLLECTION_NS (5 * NSEC_PER_MSEC)
#define RETRY_NS NSEC_PER_SEC
#define POLL_NS (100 * NSEC_PER_MSEC)
#define PAUSE_THRESHOLD_MAX 0.5
#define NEVER INT64_MAX

struct gc_scheduler {
	struct db *db;
	struct gc_options o;
	pthread_t thread;
	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t changed;
	bool stop;
	int64_t deletions, mutations; /* since the last collection began */
	int64_t triggered_at;	      /* NEVER = nobody asked */
	int64_t last;	  /* end of the last collection; start of the thread before the first */
	int64_t interval; /* pause after it */
	bool ran;
	int64_t total_ns;
	int64_t n_collections;
	uint64_t begun, ended; /* numbers of collections */
	uint64_t last_failed;  /* number of the last that failed */
};

static int64_t after(int64_t t, int64_t delay)
{
	return delay > NEVER - t ? NEVER : t + delay;
}

/* Monotonic time at which the next collection is to begin, NEVER while there is no reason. */
static int64_t due(const struct gc_scheduler *s)
{
	int64_t t = s->triggered_at, pause = after(s->last, s->interval);

	if (!s->ran)
		return MIN(t, pause);
	if (s->deletions > 0 ||
	    (s->o.mutation_threshold > 0 && s->mutations >= s->o.mutation_threshold))
		t = MIN(t, pause);
	return t;
}

static void trigger(struct gc_scheduler *s)
{
	s->triggered_at = MIN(s->triggered_at, after(time_mono(), s->o.schedule_delay_ns));
	pthread_cond_broadcast(&s->changed);
}

static void on_mutation(void *arg, bool deletion)
{
	struct gc_scheduler *s = arg;
	MUTEX_GUARD(&s->lock);

	if (deletion)
		s->deletions++;
	else
		s->mutations++;
	if (s->o.deletion_threshold > 0 && s->deletions >= s->o.deletion_threshold)
		trigger(s);
	else if (due(s) != NEVER)
		pthread_cond_broadcast(&s->changed);
}

/* With the lock held; until @at or a change. */
static void wait_until(struct gc_scheduler *s, int64_t at)
{
	struct timespec ts = {.tv_sec = at / NSEC_PER_SEC, .tv_nsec = at % NSEC_PER_SEC};

	if (at == NEVER)
		pthread_cond_wait(&s->changed, &s->lock);
	else
		pthread_cond_timedwait(&s->changed, &s->lock, &ts);
}

static int collect(struct gc_scheduler *s)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	struct ctx ctx = {.arena = a, .ns = "", .lease = ""};
	struct err err = ERR_INIT;
	int rc = a ? gc_run(&ctx, s->db, &err) : err_nomem(&err);

	if (rc < 0)
		log_at(LOG_ERROR, LOG_FIELDS("error", err.text), "garbage collection failed");
	return rc;
}

/* With the lock held. */
static void account(struct gc_scheduler *s, int64_t took, bool failed)
{
	double average;

	s->last = time_mono();
	s->ran = true;
	if (failed) {
		s->last_failed = s->ended;
		s->interval = after(s->interval, RETRY_NS);
		s->deletions++; /* tried again */
		return;
	}
	s->total_ns += took;
	s->n_collections++;
	average = (double)s->total_ns / (double)s->n_collections;
	if (average < MIN_COLLECTION_NS)
		average = MIN_COLLECTION_NS;
	s->interval =
		s->o.pause_threshold > 0 ? (int64_t)(average / s->o.pause_threshold - average) : 0;
}

static void *run(void *arg)
{
	struct gc_scheduler *s = arg;
	MUTEX_GUARD(&s->lock);

	while (!s->stop) {
		int64_t at = due(s), begin = time_mono();
		int rc;

		if (at > begin) {
			wait_until(s, at);
			continue;
		}
		s->deletions = s->mutations = 0;
		s->triggered_at = NEVER;
		s->begun++;
		pthread_mutex_unlock(&s->lock);
		rc = collect(s);
		pthread_mutex_lock(&s->lock);
		s->ended = s->begun;
		account(s, time_mono() - begin, rc < 0);
		pthread_cond_broadcast(&s->changed);
	}
	return NULL;
}

static int scheduler_init(struct gc_scheduler *s)
{
	pthread_condattr_t attr;
	int rc = pthread_condattr_init(&attr);

	if (rc)
		return -rc;
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	rc = pthread_cond_init(&s->changed, &attr);
	pthread_condattr_destroy(&attr);
	if (rc)
		return -rc;
	pthread_mutex_init(&s->lock, NULL);
	rc = pthread_create(&s->thread, NULL, run, s);
	if (rc) {
		pthread_mutex_destroy(&s->lock);
		pthread_cond_destroy(&s->changed);
	}
	return -rc;
}

int gc_scheduler_start(struct db *db, const struct gc_options *o, struct gc_scheduler **ret,
		       struct err *err)
{
	struct gc_scheduler *s = calloc(1, sizeof(*s));
	int rc;

	if (!s)
		return err_nomem(err);
	s->db = db;
	s->o = *o;
	if (!(s->o.pause_threshold >= 0))
		s->o.pause_threshold = 0;
	if (s->o.pause_threshold > PAUSE_THRESHOLD_MAX)
		s->o.pause_threshold = PAUSE_THRESHOLD_MAX;
	s->triggered_at = NEVER;
	s->last = time_mono();
	s->interval = o->startup_delay_ns;
	rc = scheduler_init(s);
	if (rc < 0) {
		free(s);
		return err_errno(err, rc, "start garbage collection");
	}
	db_on_mutation(db, on_mutation, s);
	*ret = s;
	return 0;
}

int gc_scheduler_wait(struct ctx *ctx, struct gc_scheduler *s, struct err *err)
{
	uint64_t wanted;
	int rc = 0;
	MUTEX_GUARD(&s->lock);

	wanted = s->begun + 1;
	trigger(s);
	while (rc == 0 && s->ended < wanted) {
		if (s->stop)
			return err_set(err, ERR_UNAVAILABLE, "gc stopped");
		/* A cancellation does not wake us: look now and then. */
		wait_until(s, after(time_mono(), POLL_NS));
		rc = ctx_check(ctx, err);
	}
	if (rc == 0 && s->last_failed >= wanted)
		rc = err_set(err, ERR_UNKNOWN, "gc failed");
	return rc;
}

void gc_scheduler_stop(struct gc_scheduler *s)
{
	if (!s)
		return;
	db_on_mutation(s->db, NULL, NULL);
	pthread_mutex_lock(&s->lock);
	s->stop = true;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
	pthread_join(s->thread, NULL);
	pthread_mutex_destroy(&s->lock);
	pthread_cond_destroy(&s->changed);
	free(s);
}
