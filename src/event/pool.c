/* SPDX-License-Identifier: Apache-2.0 */
/* Elastic pool: see pool.h.
 *
 * Jobs are queued. One thread is spare: it is called when more jobs are queued than threads are
 * idle, and leaves them to the threads that are there as long as these end some, for a crowd of
 * quick jobs needs no crowd of threads. When none has ended for GRACE_NS (the threads are blocked),
 * or a job has waited for WAIT_MAX_NS, the spare thread takes it, and another one becomes spare
 * before the job is run; so a crowd of blocking jobs gets its threads one after the other without
 * further waiting. Threads are detached, have small stacks (STACK_SIZE), and end after IDLE_NS
 * without work. pool_free() waits until all are gone.
 */
#include "event/pool.h"

#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

#include "base/time.h"

#ifndef IDLE_NS
#define IDLE_NS (5 * NSEC_PER_SEC)
#endif
#define GRACE_NS (300000LL)
#define WAIT_MAX_NS (5 * NSEC_PER_MSEC)
#define STACK_SIZE (256u << 10)

struct job {
	struct job *next;
	void (*fn)(void *arg);
	void *arg;
	int64_t at; /* when it was submitted */
};

struct pool {
	pthread_mutex_t lock;
	pthread_cond_t work, call, done; /* call: for the spare thread */
	struct job *jobs, **jobs_end;
	size_t queued, threads, idle, max;
	int64_t ended; /* when the last job did */
	bool spare;    /* there is a spare thread */
	bool resting;  /* and it waits to be called */
	bool closing;
};

static void *worker(void *arg);

/* Called with the lock held. Signals stay blocked in workers: they are the loop's. Those are left
 * that are meant for a thread: of a profiler's timer, and the real-time ones. */
static int start_thread(struct pool *p)
{
	pthread_attr_t attr;
	pthread_t t;
	sigset_t all, old;
	int r = pthread_attr_init(&attr);
	if (r)
		return -r;
	pthread_attr_setstacksize(&attr, MAX((size_t)STACK_SIZE, (size_t)PTHREAD_STACK_MIN));
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	sigfillset(&all);
	sigdelset(&all, SIGPROF);
	for (int s = SIGRTMIN; s <= SIGRTMAX; s++)
		sigdelset(&all, s);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	p->threads++;
	p->spare = true;
	r = pthread_create(&t, &attr, worker, p);
	if (r) {
		p->threads--;
		p->spare = false;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	return -r;
}

/* Calls the spare thread if the queue needs it. */
static int grow(struct pool *p)
{
	if (p->queued <= p->idle)
		return 0;
	if (!p->spare)
		return p->threads < p->max ? start_thread(p) : 0;
	if (p->resting) {
		p->resting = false;
		pthread_cond_signal(&p->call);
	}
	return 0;
}

static int wait_until(struct pool *p, pthread_cond_t *c, int64_t at)
{
	struct timespec until = {.tv_sec = at / NSEC_PER_SEC, .tv_nsec = at % NSEC_PER_SEC};
	return pthread_cond_timedwait(c, &p->lock, &until);
}

/* Until the threads that are there do not get on; false: not needed any more. */
static bool be_spare(struct pool *p)
{
	int r = 0;
	while (!p->closing && (p->jobs || r != ETIMEDOUT)) {
		int64_t now = time_mono(), at = now + IDLE_NS;
		if (p->jobs) {
			at = MIN(MAX(p->jobs->at, p->ended) + GRACE_NS, p->jobs->at + WAIT_MAX_NS);
			if (p->threads == 1 || at <= now)
				break;
		}
		bool rest = p->resting = !p->jobs;
		r = wait_until(p, &p->call, at);
		p->resting = false;
		if (!rest || p->jobs)
			r = 0;
	}
	p->spare = false;
	return p->jobs;
}

static struct job *next_job(struct pool *p)
{
	int64_t end = time_mono() + IDLE_NS;
	p->idle++;
	int r = 0;
	while (!p->jobs && !p->closing && r != ETIMEDOUT)
		r = wait_until(p, &p->work, end);
	p->idle--;
	struct job *j = p->jobs;
	if (j) {
		p->jobs = j->next;
		if (!p->jobs)
			p->jobs_end = &p->jobs;
		p->queued--;
		(void)!grow(p); /* it failed: whoever ends its job first goes on */
	}
	return j;
}

static void *worker(void *arg)
{
	struct pool *p = arg;
	struct job *j;
	pthread_mutex_lock(&p->lock);
	bool needed = be_spare(p);
	while (needed && (j = next_job(p))) {
		pthread_mutex_unlock(&p->lock);
		j->fn(j->arg);
		free(j);
		pthread_mutex_lock(&p->lock);
		p->ended = time_mono();
	}
	bool last = --p->threads == 0;
	if (last)
		pthread_cond_broadcast(&p->done);
	pthread_mutex_unlock(&p->lock);
	/* Nothing has happened for a while: what the busy time left on the heap goes back. */
	if (last)
		malloc_trim(0);
	return NULL;
}

int pool_submit(struct pool *p, void (*fn)(void *arg), void *arg)
{
	struct job *j = malloc(sizeof(*j));
	if (!j)
		return -ENOMEM;
	*j = (struct job){.fn = fn, .arg = arg, .at = time_mono()};
	MUTEX_GUARD(&p->lock);
	struct job **end = p->jobs_end;
	*end = j;
	p->jobs_end = &j->next;
	p->queued++;
	if (grow(p) < 0 && p->threads == 0) {
		*end = NULL;
		p->jobs_end = end;
		p->queued--;
		free(j);
		return -EAGAIN;
	}
	pthread_cond_signal(&p->work);
	return 0;
}

size_t pool_size(struct pool *p)
{
	MUTEX_GUARD(&p->lock);
	return p->threads;
}

int pool_new(size_t max, struct pool **ret)
{
	struct pool *p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->work, &attr);
	pthread_cond_init(&p->call, &attr);
	pthread_cond_init(&p->done, NULL);
	pthread_condattr_destroy(&attr);
	p->jobs_end = &p->jobs;
	p->max = max ? max : 4096;
	*ret = p;
	return 0;
}

void pool_free(struct pool *p)
{
	pthread_mutex_lock(&p->lock);
	p->closing = true;
	pthread_cond_broadcast(&p->work);
	pthread_cond_broadcast(&p->call);
	while (p->threads)
		pthread_cond_wait(&p->done, &p->lock);
	pthread_mutex_unlock(&p->lock);
	pthread_cond_destroy(&p->work);
	pthread_cond_destroy(&p->call);
	pthread_cond_destroy(&p->done);
	pthread_mutex_destroy(&p->lock);
	free(p);
}
