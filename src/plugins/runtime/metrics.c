/* SPDX-License-Identifier: Apache-2.0 */
/* Metrics of all tasks: see metrics.h. The answers come on the loop, each into its own slot; the
 * caller waits until the last has come, which the time limit of each call brings about. */
#include "plugins/runtime/metrics.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/str.h"
#include "base/time.h"
#include "protos.h"

#define STATS_MAX (1u << 20)

struct round;

struct question {
	struct round *round;
	struct task *task;
	uint8_t *answer; /* packed; NULL = none */
	size_t n;
	struct timespec at;
};

struct round {
	pthread_mutex_t lock;
	pthread_cond_t done;
	size_t open;
	struct question *v;
	size_t n;
};

static void answered(void *arg, const uint8_t *p, size_t n, const struct err *err)
{
	struct question *q = arg;
	uint8_t *copy = !err && n <= STATS_MAX ? malloc(n + 1) : NULL;
	if (err && err->kind != ERR_NOT_FOUND)
		log_debug("metrics of task %s in namespace %s: %s", task_id(q->task),
			  task_namespace(q->task), err->text);
	if (copy && n)
		memcpy(copy, p, n);
	MUTEX_GUARD(&q->round->lock);
	q->answer = copy;
	q->n = n;
	q->at = time_now();
	if (--q->round->open == 0)
		pthread_cond_signal(&q->round->done);
}

static void ask_all(struct round *r, struct runtime *rt, struct task *const *tasks)
{
	for (size_t i = 0; i < r->n; i++) {
		Containerd__Task__V3__StatsRequest req = CONTAINERD__TASK__V3__STATS_REQUEST__INIT;
		struct question *q = &r->v[i];
		*q = (struct question){.round = r, .task = tasks[i]};
		req.id = (char *)task_id(q->task);
		pthread_mutex_lock(&r->lock);
		r->open++;
		pthread_mutex_unlock(&r->lock);
		if (task_call_async(q->task, "Stats", &req.base, runtime_stats_timeout(rt),
				    answered, q, NULL, NULL) == 0)
			continue;
		pthread_mutex_lock(&r->lock);
		r->open--;
		pthread_mutex_unlock(&r->lock);
	}
	pthread_mutex_lock(&r->lock);
	while (r->open > 0)
		pthread_cond_wait(&r->done, &r->lock);
	pthread_mutex_unlock(&r->lock);
}

static int unpack(struct ctx *ctx, const struct question *q, struct task_metric *ret)
{
	Containerd__Task__V3__StatsResponse *resp;
	int r = rpc_unpack(ctx->arena, &containerd__task__v3__stats_response__descriptor, q->answer,
			   q->n, &resp, NULL);
	if (r < 0 || !resp->stats || str_empty(resp->stats->type_url))
		return -ERR_NOT_FOUND;
	*ret = (struct task_metric){
		.ns = arena_strdup(ctx->arena, task_namespace(q->task)),
		.id = arena_strdup(ctx->arena, task_id(q->task)),
		.at = q->at,
		.stats = {resp->stats->type_url, resp->stats->value.data, resp->stats->value.len}};
	return ret->ns && ret->id ? 0 : -ERR_RESOURCE_EXHAUSTED;
}

static int by_name(const void *a, const void *b)
{
	const struct task_metric *x = a, *y = b;
	int r = strcmp(x->ns, y->ns);
	return r ? r : strcmp(x->id, y->id);
}

int runtime_metrics(struct ctx *ctx, struct runtime *rt, struct task_metric **ret, size_t *ret_n,
		    struct err *err)
{
	struct round round = {.lock = PTHREAD_MUTEX_INITIALIZER, .done = PTHREAD_COND_INITIALIZER};
	struct task **tasks;
	int r = runtime_tasks(ctx, rt, &tasks, &round.n, err);
	if (r < 0)
		return r;
	struct task_metric *v = arena_new_array(ctx->arena, struct task_metric, round.n + 1);
	size_t n = 0;
	round.v = arena_new_array(ctx->arena, struct question, round.n + 1);
	if (v && round.v)
		ask_all(&round, rt, tasks);
	for (size_t i = 0; i < round.n; i++) {
		if (v && round.v && round.v[i].answer && unpack(ctx, &round.v[i], &v[n]) == 0)
			n++;
		if (round.v)
			free(round.v[i].answer);
		task_unref(tasks[i]);
	}
	if (!v || !round.v)
		return err_nomem(err);
	qsort(v, n, sizeof(*v), by_name);
	*ret = v;
	*ret_n = n;
	return 0;
}
