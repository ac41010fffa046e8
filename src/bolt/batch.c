/* SPDX-License-Identifier: Apache-2.0 */
/* bolt_update(): commits that are shared.
 *
 * Callers queue up. One leads: it begins a transaction, runs the functions of all that wait one
 * after the other, commits once, and gives each its result. Who comes while it writes and syncs
 * waits, and the first of these leads the next round. So two syncs serve as many callers as arrive
 * during one commit.
 *
 * When a function fails, what it changed can not be told from what the others changed: the
 * transaction is rolled back, the failed one gets its error and leaves, and the rest runs again.
 * When the commit of several fails, each is tried alone, so that one which is too large for the
 * disk does not take the others with it. Transactions belong to a thread: the leader is that thread
 * for the round.
 */
#include "base/trace.h"
#include "bolt/internal.h"

#define ROUND_MAX 256

struct round {
	struct bolt *db;
	struct bolt_update_call *first, **end;
	size_t n;
	bool closed; /* one has failed: who comes now waits for the next round, so that this one
			ends */
};

static void round_take(struct round *round)
{
	struct bolt *db = round->db;

	MUTEX_GUARD(&db->queue_lock);
	while (db->queue && round->n < ROUND_MAX && !round->closed) {
		struct bolt_update_call *c = db->queue;

		db->queue = c->next;
		c->next = NULL;
		*round->end = c;
		round->end = &c->next;
		round->n++;
	}
	if (!db->queue)
		db->queue_end = &db->queue;
}

/* Takes the call at @at out of the round and gives it its result. */
static void round_answer(struct round *round, struct bolt_update_call **at, int result)
{
	struct bolt_update_call *c = *at;

	*at = c->next;
	if (!c->next)
		round->end = at;
	round->n--;

	MUTEX_GUARD(&round->db->queue_lock);
	c->result = result;
	c->done = true;
	pthread_cond_signal(&c->cond);
}

static int call_run(struct bolt_update_call *c, struct bolt_tx *tx)
{
	int r = c->fn(tx, c->arg);

	return r < 0 ? r : tx->err;
}

enum round_result { ROUND_DONE, ROUND_AGAIN, ROUND_ALONE };

/* All of the round in one transaction. ROUND_AGAIN: one failed and is answered, the rest has to run
 * again. ROUND_ALONE: the commit failed. */
static enum round_result round_run(struct round *round)
{
	struct bolt_tx *tx;
	int r;

	r = bolt_begin(round->db, true, &tx);
	round_take(round);
	if (r == 0) {
		for (struct bolt_update_call **c = &round->first; *c; c = &(*c)->next) {
			r = call_run(*c, tx);
			if (r < 0) {
				bolt_rollback(tx);
				round_answer(round, c, r);
				round->closed = true;
				return round->n ? ROUND_AGAIN : ROUND_DONE;
			}
			if (!(*c)->next)
				round_take(round);
		}
		r = bolt_commit(tx);
		if (r < 0 && round->n > 1)
			return ROUND_ALONE;
	}
	while (round->first)
		round_answer(round, &round->first, r);
	return ROUND_DONE;
}

static void round_run_alone(struct round *round)
{
	while (round->first) {
		struct bolt_tx *tx;
		int r;

		r = bolt_begin(round->db, true, &tx);
		if (r == 0) {
			r = call_run(round->first, tx);
			if (r < 0)
				bolt_rollback(tx);
			else
				r = bolt_commit(tx);
		}
		round_answer(round, &round->first, r);
	}
}

static void round_lead(struct bolt *db)
{
	struct round round = {.db = db, .end = &round.first};
	enum round_result r;

	do {
		r = round_run(&round);
	} while (r == ROUND_AGAIN);
	if (r == ROUND_ALONE)
		round_run_alone(&round);

	MUTEX_GUARD(&db->queue_lock);
	if (db->queue) {
		db->queue->lead = true;
		pthread_cond_signal(&db->queue->cond);
	} else {
		db->queue_led = false;
	}
}

int bolt_update(struct bolt *db, int (*fn)(struct bolt_tx *tx, void *arg), void *arg)
{
	struct bolt_update_call call = {.fn = fn, .arg = arg, .cond = PTHREAD_COND_INITIALIZER};
	TRACE_SPAN("bolt", "update");
	bool lead;

	if (db->o.read_only)
		return -EROFS;
	pthread_mutex_lock(&db->queue_lock);
	*db->queue_end = &call;
	db->queue_end = &call.next;
	lead = !db->queue_led;
	db->queue_led = true;
	while (!lead && !call.done && !call.lead)
		pthread_cond_wait(&call.cond, &db->queue_lock);
	lead = lead || call.lead;
	pthread_mutex_unlock(&db->queue_lock);
	if (lead)
		round_lead(db);
	pthread_cond_destroy(&call.cond);
	return call.result;
}

int bolt_view(struct bolt *db, int (*fn)(struct bolt_tx *tx, void *arg), void *arg)
{
	struct bolt_tx *tx;
	int r;

	r = bolt_begin(db, false, &tx);
	if (r < 0)
		return r;
	r = fn(tx, arg);
	if (r >= 0)
		r = tx->err;
	bolt_rollback(tx);
	return r;
}
