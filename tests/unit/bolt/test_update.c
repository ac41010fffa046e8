/* SPDX-License-Identifier: Apache-2.0 */
/* bolt_update(): many threads share commits, nothing is lost, who fails fails alone. */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "bolt/internal.h"
#include "util.h"

#define THREADS 16
#define EACH 60

static _Atomic unsigned int syncs;

int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);
int __wrap_fdatasync(int fd)
{
	atomic_fetch_add(&syncs, 1);
	return __real_fdatasync(fd);
}

struct worker {
	struct bolt *db;
	int id, failing;
	pthread_t t;
};

struct job {
	int id, n, error;
};

static int job_run(struct bolt_tx *tx, void *arg)
{
	const struct job *j = arg;
	struct bolt_bucket *b;
	char key[32];
	int r;

	r = bolt_bucket_create_if_missing(bolt_root(tx), bolt_s("b"), &b);
	if (r < 0)
		return r;
	snprintf(key, sizeof(key), "%d-%d", j->id, j->n);
	r = bolt_put(b, bolt_s(key), bolt_s("v"));
	return r < 0 ? r : j->error;
}

static void *work(void *arg)
{
	struct worker *w = arg;

	for (int i = 0; i < EACH; i++) {
		struct job j = {w->id, i, w->failing && i % 3 == 0 ? -(1000 + w->id) : 0};

		if (bolt_update(w->db, job_run, &j) != j.error)
			return arg;
	}
	return NULL;
}

static void run_workers(struct bolt *db, int failing)
{
	struct worker w[THREADS];

	for (int i = 0; i < THREADS; i++) {
		w[i] = (struct worker){.db = db, .id = i, .failing = i < failing};
		assert_int_equal(pthread_create(&w[i].t, NULL, work, &w[i]), 0);
	}
	for (int i = 0; i < THREADS; i++) {
		void *res;

		pthread_join(w[i].t, &res);
		assert_null(res);
	}
}

static void verify(struct bolt *db, int failing)
{
	struct bolt_tx *tx = begin(db, false);
	struct bolt_bucket *b = bolt_bucket(bolt_root(tx), bolt_s("b"));
	char key[32];

	for (int i = 0; i < THREADS; i++) {
		for (int n = 0; n < EACH; n++) {
			snprintf(key, sizeof(key), "%d-%d", i, n);
			assert_int_equal(bolt_get(b, bolt_s(key), NULL),
					 i >= failing || n % 3 != 0);
		}
	}
	bolt_rollback(tx);
	check_clean(db);
}

static void concurrent_updates_lose_nothing(void **state)
{
	struct bolt *db = open_with(*state, (struct bolt_options){0});

	run_workers(db, 0);
	verify(db, 0);
	bolt_close(db);
	db = open_with(*state, (struct bolt_options){0});
	verify(db, 0);
	bolt_close(db);
}

static void *work_once(void *arg)
{
	struct worker *w = arg;
	struct job j = {w->id, 0, w->failing ? -EPROTO : 0};

	return bolt_update(w->db, job_run, &j) == j.error ? NULL : arg;
}

static int queue_length(struct bolt *db)
{
	int n = 0;

	MUTEX_GUARD(&db->queue_lock);
	for (const struct bolt_update_call *c = db->queue; c; c = c->next)
		n++;
	return n;
}

/* While another transaction holds the file, all callers queue up; then one commit does. */
static void waiting_updates_share_one_commit(void **state)
{
	struct bolt *db = open_with(*state, (struct bolt_options){0});

	for (int failing = 0; failing < 3; failing++) {
		struct bolt_tx *tx = begin(db, true);
		struct worker w[THREADS];

		for (int i = 0; i < THREADS; i++) {
			w[i] = (struct worker){.db = db, .id = i, .failing = i < failing};
			assert_int_equal(pthread_create(&w[i].t, NULL, work_once, &w[i]), 0);
		}
		while (queue_length(db) < THREADS)
			sched_yield();
		atomic_store(&syncs, 0);
		bolt_rollback(tx);
		for (int i = 0; i < THREADS; i++) {
			void *res;

			pthread_join(w[i].t, &res);
			assert_null(res);
		}
		assert_int_equal(atomic_load(&syncs), 2);
	}
	check_clean(db);
	bolt_close(db);
}

static void failing_update_does_not_hurt_others(void **state)
{
	struct bolt *db = open_with(*state, (struct bolt_options){.no_freelist_sync = true});

	run_workers(db, THREADS / 2);
	verify(db, THREADS / 2);
	bolt_close(db);
}

static int change_nothing(struct bolt_tx *tx, void *arg)
{
	return bolt_bucket(bolt_root(tx), bolt_s("absent")) ? -1 : 0;
}

static void update_without_a_change_does_not_sync(void **state)
{
	struct bolt *db = open_with(*state, (struct bolt_options){0});

	atomic_store(&syncs, 0);
	assert_int_equal(bolt_update(db, change_nothing, NULL), 0);
	assert_int_equal(atomic_load(&syncs), 0);
	bolt_close(db);
}

struct pair_reader {
	struct bolt *db;
	_Atomic bool stop;
	_Atomic int seen;
};

static int pair_write(struct bolt_tx *tx, void *arg)
{
	struct bolt_bucket *b;
	int r;

	r = bolt_bucket_create_if_missing(bolt_root(tx), bolt_s("b"), &b);
	if (r == 0)
		r = bolt_put(b, bolt_s("left"), bolt_b(arg, sizeof(int)));
	if (r == 0)
		r = bolt_put(b, bolt_s("right"), bolt_b(arg, sizeof(int)));
	return r;
}

static int pair_read(struct bolt_tx *tx, void *arg)
{
	struct bolt_bucket *b = bolt_bucket(bolt_root(tx), bolt_s("b"));
	struct bolt_slice x, y;

	if (!b)
		return 0;
	if (!bolt_get(b, bolt_s("left"), &x) || !bolt_get(b, bolt_s("right"), &y))
		return -EIO;
	return slice_is(x, y.data, y.len) ? 0 : -EIO;
}

static void *read_pairs(void *arg)
{
	struct pair_reader *p = arg;

	while (!atomic_load(&p->stop)) {
		if (bolt_view(p->db, pair_read, NULL) != 0)
			return arg;
		atomic_fetch_add(&p->seen, 1);
	}
	return NULL;
}

static void readers_in_threads_see_whole_transactions(void **state)
{
	struct bolt *db = open_fast(*state);
	struct pair_reader p = {.db = db};
	pthread_t t[3];

	for (int i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&t[i], NULL, read_pairs, &p), 0);
	for (int i = 0; i < 1000 || atomic_load(&p.seen) < 1000; i++)
		assert_int_equal(bolt_update(db, pair_write, &i), 0);
	atomic_store(&p.stop, true);
	for (int i = 0; i < 3; i++) {
		void *res;

		pthread_join(t[i], &res);
		assert_null(res);
	}
	check_clean(db);
	bolt_close(db);
}

#define T(f) cmocka_unit_test_setup_teardown(f, dir_setup, dir_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(concurrent_updates_lose_nothing),
		T(waiting_updates_share_one_commit),
		T(failing_update_does_not_hurt_others),
		T(update_without_a_change_does_not_sync),
		T(readers_in_threads_see_whole_transactions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
