/* SPDX-License-Identifier: Apache-2.0 */
/* The pool, built for the test with a short idle time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

#include "base/time.h"
#include "event/pool.h"

static void sem_wait_or_fail(sem_t *s)
{
	struct timespec ts;
	clock_gettime(CLOCK_REALTIME, &ts);
	ts.tv_sec += 60;
	if (sem_timedwait(s, &ts) < 0)
		fail_msg("the event did not come");
}

/* ---- growth ---- */

struct crowd {
	sem_t entered, leave;
};

static void crowd_job(void *arg)
{
	struct crowd *c = arg;
	sem_post(&c->entered);
	sem_wait(&c->leave);
}

static void job_never_waits_behind_blocked_ones(void **state)
{
	enum { N = 60 };
	struct crowd c;
	struct pool *p;
	sem_init(&c.entered, 0, 0);
	sem_init(&c.leave, 0, 0);
	assert_int_equal(pool_new(0, &p), 0);
	assert_int_equal(pool_size(p), 0);
	for (int i = 0; i < N; i++)
		assert_int_equal(pool_submit(p, crowd_job, &c), 0);
	/* None leaves before all are in. */
	for (int i = 0; i < N; i++)
		sem_wait_or_fail(&c.entered);
	assert_int_equal(pool_size(p), N);
	for (int i = 0; i < N; i++)
		sem_post(&c.leave);
	pool_free(p);
}

/* The same, with jobs that come one by one, each while all before it are blocked. */
static void single_job_behind_blocked_ones_is_run(void **state)
{
	struct crowd c;
	struct pool *p;
	sem_init(&c.entered, 0, 0);
	sem_init(&c.leave, 0, 0);
	assert_int_equal(pool_new(0, &p), 0);
	for (int i = 0; i < 10; i++) {
		assert_int_equal(pool_submit(p, crowd_job, &c), 0);
		sem_wait_or_fail(&c.entered);
	}
	for (int i = 0; i < 10; i++)
		sem_post(&c.leave);
	pool_free(p);
}

struct chain {
	struct pool *p;
	sem_t inner;
	atomic_int done;
};

static void chain_inner(void *arg)
{
	struct chain *c = arg;
	sem_post(&c->inner);
}

/* Waits for a job that it has submitted itself. */
static void chain_outer(void *arg)
{
	struct chain *c = arg;
	if (pool_submit(c->p, chain_inner, c) == 0)
		sem_wait(&c->inner);
	atomic_fetch_add(&c->done, 1);
}

static void jobs_that_wait_for_their_own_jobs_do_not_starve(void **state)
{
	struct chain c = {.done = 0};
	sem_init(&c.inner, 0, 0);
	assert_int_equal(pool_new(0, &c.p), 0);
	for (int i = 0; i < 50; i++)
		assert_int_equal(pool_submit(c.p, chain_outer, &c), 0);
	pool_free(c.p);
	assert_int_equal(atomic_load(&c.done), 50);
}

static void pool_does_not_grow_beyond_its_maximum(void **state)
{
	struct crowd c;
	struct pool *p;
	sem_init(&c.entered, 0, 0);
	sem_init(&c.leave, 0, 0);
	assert_int_equal(pool_new(3, &p), 0);
	for (int i = 0; i < 8; i++)
		assert_int_equal(pool_submit(p, crowd_job, &c), 0);
	for (int i = 0; i < 3; i++)
		sem_wait_or_fail(&c.entered);
	assert_int_equal(pool_size(p), 3);
	/* The others follow as places become free. */
	for (int i = 0; i < 5; i++) {
		sem_post(&c.leave);
		sem_wait_or_fail(&c.entered);
		assert_true(pool_size(p) <= 3);
	}
	for (int i = 0; i < 3; i++)
		sem_post(&c.leave);
	pool_free(p);
}

static void tiny_job(void *arg)
{
	atomic_fetch_add((atomic_int *)arg, 1);
}

/* The most threads that crowds of a hundred jobs have made. */
static size_t crowds(void)
{
	struct pool *p;
	atomic_int n = 0;
	size_t most = 0;
	assert_int_equal(pool_new(0, &p), 0);
	for (int burst = 0; burst < 20; burst++) {
		for (int i = 0; i < 100; i++)
			assert_int_equal(pool_submit(p, tiny_job, &n), 0);
		for (int i = 0; i < 20000 && atomic_load(&n) < (burst + 1) * 100; i++)
			nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
		size_t size = pool_size(p);
		most = size > most ? size : most;
	}
	pool_free(p);
	assert_int_equal(atomic_load(&n), 2000);
	return most;
}

static void crowd_of_quick_jobs_needs_no_crowd_of_threads(void **state)
{
	size_t least = crowds();
	/* One a job would be a hundred, always; on a machine that is short of time some are
	 * started. */
	for (int i = 0; i < 10 && least >= 50; i++) {
		size_t most = crowds();
		least = most < least ? most : least;
	}
	assert_true(least < 50);
}

/* ---- order, ends ---- */

static void idle_threads_end_and_the_pool_starts_anew(void **state)
{
	struct crowd c;
	struct pool *p;
	sem_init(&c.entered, 0, 0);
	sem_init(&c.leave, 0, 0);
	assert_int_equal(pool_new(0, &p), 0);
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 5; i++)
			assert_int_equal(pool_submit(p, crowd_job, &c), 0);
		for (int i = 0; i < 5; i++)
			sem_wait_or_fail(&c.entered);
		for (int i = 0; i < 5; i++)
			sem_post(&c.leave);
		for (int i = 0; i < 60000 && pool_size(p) > 0; i++)
			nanosleep(&(struct timespec){.tv_nsec = NSEC_PER_MSEC}, NULL);
		assert_int_equal(pool_size(p), 0);
	}
	pool_free(p);
}

struct many {
	atomic_int count;
	struct pool *p;
};

static void count_job(void *arg)
{
	struct many *m = arg;
	atomic_fetch_add(&m->count, 1);
}

static void pool_free_waits_for_all_jobs(void **state)
{
	struct many m = {.count = 0};
	assert_int_equal(pool_new(2, &m.p), 0);
	for (int i = 0; i < 20000; i++)
		assert_int_equal(pool_submit(m.p, count_job, &m), 0);
	pool_free(m.p);
	assert_int_equal(atomic_load(&m.count), 20000);
}

static void *submit_many(void *arg)
{
	struct many *m = arg;
	for (int i = 0; i < 5000; i++)
		if (pool_submit(m->p, count_job, m) < 0)
			return arg;
	return NULL;
}

static void any_thread_may_submit(void **state)
{
	struct many m = {.count = 0};
	pthread_t t[8];
	void *failed;
	assert_int_equal(pool_new(0, &m.p), 0);
	for (int i = 0; i < 8; i++)
		assert_int_equal(pthread_create(&t[i], NULL, submit_many, &m), 0);
	for (int i = 0; i < 8; i++) {
		pthread_join(t[i], &failed);
		assert_null(failed);
	}
	pool_free(m.p);
	assert_int_equal(atomic_load(&m.count), 8 * 5000);
}

struct order {
	int next, wrong;
};

struct ordered {
	struct order *o;
	int n;
};

static void ordered_job(void *arg)
{
	struct ordered *j = arg;
	j->o->wrong += j->o->next++ != j->n;
}

static void one_thread_runs_jobs_in_order(void **state)
{
	static struct ordered jobs[1000];
	struct order o = {0};
	struct pool *p;
	assert_int_equal(pool_new(1, &p), 0);
	for (int i = 0; i < 1000; i++) {
		jobs[i] = (struct ordered){&o, i};
		assert_int_equal(pool_submit(p, ordered_job, &jobs[i]), 0);
	}
	pool_free(p);
	assert_int_equal(o.next, 1000);
	assert_int_equal(o.wrong, 0);
}

static void mask_job(void *arg)
{
	pthread_sigmask(SIG_SETMASK, NULL, arg);
}

static void signals_are_blocked_in_workers(void **state)
{
	struct pool *p;
	sigset_t set;
	sigemptyset(&set);
	assert_int_equal(pool_new(0, &p), 0);
	assert_int_equal(pool_submit(p, mask_job, &set), 0);
	pool_free(p);
	assert_int_equal(sigismember(&set, SIGTERM), 1);
	assert_int_equal(sigismember(&set, SIGPIPE), 1);
	assert_int_equal(sigismember(&set, SIGPROF), 0); /* a profiler's */
	pthread_sigmask(SIG_SETMASK, NULL, &set);
	assert_int_equal(sigismember(&set, SIGTERM), 0);
}

/* Submitters that come and go, jobs that block for a moment, threads that end in between. */
static void nap_job(void *arg)
{
	struct many *m = arg;
	nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
	atomic_fetch_add(&m->count, 1);
}

static void *submit_naps(void *arg)
{
	struct many *m = arg;
	for (int i = 0; i < 60; i++) {
		(void)!pool_submit(m->p, nap_job, m);
		nanosleep(&(struct timespec){.tv_nsec = (i % 20 == 0 ? 60 : 1) * NSEC_PER_MSEC},
			  NULL);
	}
	return NULL;
}

static void nothing_is_lost_when_threads_end_and_start(void **state)
{
	struct many m = {.count = 0};
	pthread_t t[4];
	assert_int_equal(pool_new(0, &m.p), 0);
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&t[i], NULL, submit_naps, &m), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	pool_free(m.p);
	assert_int_equal(atomic_load(&m.count), 4 * 60);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(job_never_waits_behind_blocked_ones),
		cmocka_unit_test(single_job_behind_blocked_ones_is_run),
		cmocka_unit_test(jobs_that_wait_for_their_own_jobs_do_not_starve),
		cmocka_unit_test(pool_does_not_grow_beyond_its_maximum),
		cmocka_unit_test(crowd_of_quick_jobs_needs_no_crowd_of_threads),
		cmocka_unit_test(idle_threads_end_and_the_pool_starts_anew),
		cmocka_unit_test(pool_free_waits_for_all_jobs),
		cmocka_unit_test(any_thread_may_submit),
		cmocka_unit_test(one_thread_runs_jobs_in_order),
		cmocka_unit_test(signals_are_blocked_in_workers),
		cmocka_unit_test(nothing_is_lost_when_threads_end_and_start),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
