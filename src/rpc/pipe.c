/* SPDX-License-Identifier: Apache-2.0 */
/* Message queues between the loop and other threads; see internal.h. */
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "base/time.h"
#include "rpc/internal.h"

/* How often a waiter looks at a context that somebody may cancel. */
#define CANCEL_POLL_NS (100 * NSEC_PER_MSEC)
/* A reader that took so much tells the transport, which then gives the peer new window. */
#define TAKEN_MARK ((size_t)256 << 10)

struct rpc_msg *rpc_msg_new(size_t n)
{
	struct rpc_msg *m;

	if (n > SIZE_MAX - sizeof(*m) - RPC_MSG_ROOM)
		return NULL;
	m = malloc(sizeof(*m) + RPC_MSG_ROOM + n);
	if (!m)
		return NULL;
	m->next = NULL;
	m->owner = NULL;
	m->framed = false;
	m->p = m->buf + RPC_MSG_ROOM;
	m->n = m->size = n;
	return m;
}

void rpc_msg_free(struct rpc_msg *m)
{
	free(m);
}

void rpc_queue_push(struct rpc_queue *q, struct rpc_msg *m)
{
	m->next = NULL;
	if (q->tail)
		q->tail->next = m;
	else
		q->head = m;
	q->tail = m;
	q->count++;
	q->bytes += m->size;
}

struct rpc_msg *rpc_queue_pop(struct rpc_queue *q)
{
	struct rpc_msg *m = q->head;

	if (!m)
		return NULL;
	q->head = m->next;
	if (!q->head)
		q->tail = NULL;
	m->next = NULL;
	q->count--;
	q->bytes -= m->size;
	return m;
}

void rpc_queue_clear(struct rpc_queue *q)
{
	struct rpc_msg *m;

	while ((m = rpc_queue_pop(q)))
		rpc_msg_free(m);
}

static int too_large(const struct rpc_hub *h, size_t n, size_t max, struct err *err)
{
	return err_set_raw(err, ERR_RESOURCE_EXHAUSTED,
			   "%s: trying to send message larger than max (%zu vs. %zu)", h->ops->name,
			   n, max);
}

int rpc_msg_pack(const struct rpc_hub *h, const ProtobufCMessage *msg, size_t max,
		 struct rpc_msg **ret, struct err *err)
{
	size_t n = protobuf_c_message_get_packed_size(msg);
	struct rpc_msg *m;

	if (n > max)
		return too_large(h, n, max, err);
	m = rpc_msg_new(n);
	if (!m)
		return err_nomem(err);
	protobuf_c_message_pack(msg, m->p);
	*ret = m;
	return 0;
}

int rpc_msg_copy(const struct rpc_hub *h, const void *p, size_t n, size_t max, struct rpc_msg **ret,
		 struct err *err)
{
	struct rpc_msg *m;

	if (n > max)
		return too_large(h, n, max, err);
	m = rpc_msg_new(n);
	if (!m)
		return err_nomem(err);
	if (n)
		memcpy(m->p, p, n);
	*ret = m;
	return 0;
}

/* ---- Hub ---- */

void rpc_hub_init(struct rpc_hub *h, struct loop *l, const struct rpc_hub_ops *ops)
{
	h->ops = ops;
	h->loop = l;
	atomic_init(&h->refs, 1);
	pthread_mutex_init(&h->mu, NULL);
}

void rpc_hub_ref(struct rpc_hub *h)
{
	atomic_fetch_add_explicit(&h->refs, 1, memory_order_relaxed);
}

void rpc_hub_unref(struct rpc_hub *h)
{
	if (atomic_fetch_sub_explicit(&h->refs, 1, memory_order_acq_rel) != 1)
		return;
	pthread_mutex_destroy(&h->mu);
	h->ops->free(h);
}

static struct rpc_pipe *hub_pop(struct rpc_hub *h)
{
	struct rpc_pipe *p;

	MUTEX_GUARD(&h->mu);
	p = h->dirty_head;
	if (!p)
		return NULL;
	h->dirty_head = p->dirty_next;
	if (!h->dirty_head)
		h->dirty_tail = NULL;
	h->n_dirty--;
	p->dirty_next = NULL;
	p->dirty = false;
	return p;
}

static void hub_flush(struct rpc_hub *h, size_t n)
{
	struct rpc_pipe *p;

	while (n-- > 0 && (p = hub_pop(h))) {
		p->ops->flush(p);
		rpc_pipe_unref(p);
	}
	h->ops->flushed(h);
}

static void hub_posted(void *arg)
{
	struct rpc_hub *h = arg;

	rpc_hub_run(h);
	rpc_hub_unref(h);
}

/* False when it could not be posted: the next mark tries again. */
static void hub_post(struct rpc_hub *h)
{
	rpc_hub_ref(h);
	if (loop_post(h->loop, hub_posted, h) == 0)
		return;
	pthread_mutex_lock(&h->mu);
	h->posted = false;
	pthread_mutex_unlock(&h->mu);
	rpc_hub_unref(h);
}

void rpc_hub_run(struct rpc_hub *h)
{
	size_t n;
	bool again;

	pthread_mutex_lock(&h->mu);
	n = h->n_dirty;
	h->posted = false;
	pthread_mutex_unlock(&h->mu);
	hub_flush(h, n);
	pthread_mutex_lock(&h->mu);
	again = h->dirty_head && !h->posted && !h->closed;
	if (again)
		h->posted = true;
	pthread_mutex_unlock(&h->mu);
	if (again)
		hub_post(h);
}

void rpc_hub_close(struct rpc_hub *h)
{
	pthread_mutex_lock(&h->mu);
	h->closed = true;
	pthread_mutex_unlock(&h->mu);
	hub_flush(h, SIZE_MAX);
}

void rpc_hub_abandon(struct rpc_hub *h)
{
	bool posted;

	rpc_hub_close(h);
	pthread_mutex_lock(&h->mu);
	posted = h->posted;
	pthread_mutex_unlock(&h->mu);
	/* What was posted will not run and cannot drop its reference. */
	if (posted && !loop_is_current(h->loop))
		rpc_hub_unref(h);
	rpc_hub_unref(h);
}

/* ---- Pipe ---- */

void rpc_pipe_init(struct rpc_pipe *p, struct rpc_hub *h, const struct rpc_pipe_ops *ops)
{
	pthread_condattr_t attr;

	p->ops = ops;
	p->hub = h;
	rpc_hub_ref(h);
	atomic_init(&p->refs, 1);
	pthread_mutex_init(&p->mu, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&p->cond, &attr);
	pthread_condattr_destroy(&attr);
}

void rpc_pipe_done(struct rpc_pipe *p)
{
	rpc_queue_clear(&p->in);
	rpc_queue_clear(&p->out);
	free(p->end_text);
	pthread_cond_destroy(&p->cond);
	pthread_mutex_destroy(&p->mu);
}

void rpc_pipe_ref(struct rpc_pipe *p)
{
	atomic_fetch_add_explicit(&p->refs, 1, memory_order_relaxed);
}

void rpc_pipe_unref(struct rpc_pipe *p)
{
	struct rpc_hub *h = p->hub;

	if (atomic_fetch_sub_explicit(&p->refs, 1, memory_order_acq_rel) != 1)
		return;
	p->ops->free(p);
	rpc_hub_unref(h);
}

bool rpc_pipe_mark(struct rpc_pipe *p)
{
	struct rpc_hub *h = p->hub;
	bool post = false;

	pthread_mutex_lock(&h->mu);
	if (h->closed) {
		pthread_mutex_unlock(&h->mu);
		return false;
	}
	if (!p->dirty) {
		rpc_pipe_ref(p);
		p->dirty = true;
		if (h->dirty_tail)
			h->dirty_tail->dirty_next = p;
		else
			h->dirty_head = p;
		h->dirty_tail = p;
		h->n_dirty++;
	}
	if (!h->posted)
		post = h->posted = true;
	/* Keeps the hub while it is posted to, even if the pipe goes meanwhile. */
	rpc_hub_ref(h);
	pthread_mutex_unlock(&h->mu);
	if (post)
		hub_post(h);
	rpc_hub_unref(h);
	return true;
}

bool rpc_pipe_end(struct rpc_pipe *p, int kind, const char *text, bool drop_in)
{
	MUTEX_GUARD(&p->mu);
	if (p->ended)
		return false;
	p->ended = true;
	p->end_kind = kind;
	p->end_text = text ? strdup(text) : NULL;
	rpc_queue_clear(&p->out);
	if (drop_in)
		rpc_queue_clear(&p->in);
	pthread_cond_broadcast(&p->cond);
	return true;
}

void rpc_pipe_push(struct rpc_pipe *p, struct rpc_msg *m)
{
	MUTEX_GUARD(&p->mu);
	if (p->in_closed || p->in_eof || p->ended) {
		rpc_msg_free(m);
		return;
	}
	rpc_queue_push(&p->in, m);
	if (!p->in_whole)
		pthread_cond_broadcast(&p->cond);
}

void rpc_pipe_push_eof(struct rpc_pipe *p)
{
	MUTEX_GUARD(&p->mu);
	p->in_eof = true;
	pthread_cond_broadcast(&p->cond);
}

int rpc_pipe_error(const struct rpc_pipe *p, struct err *err)
{
	if (!p->end_kind)
		return err_set_raw(err, ERR_UNAVAILABLE, "the stream has ended");
	return err_set_raw(err, p->end_kind, "%s",
			   p->end_text ? p->end_text : err_kind_text(p->end_kind));
}

/* A loop without a thread: the change comes from this one. */
static int pipe_drive(struct rpc_pipe *p, int timeout_ms, struct err *err)
{
	int r;

	pthread_mutex_unlock(&p->mu);
	r = loop_run_once(p->hub->loop, timeout_ms);
	pthread_mutex_lock(&p->mu);
	return r < 0 ? err_errno(err, r, "run the connection's loop") : 0;
}

/* Waits for a change; pipe.mu held. */
static int pipe_wait(struct rpc_pipe *p, const struct ctx *ctx, struct err *err)
{
	bool driven = loop_is_driven(p->hub->loop);
	struct timespec ts;
	int64_t at;
	int r = ctx ? ctx_check(ctx, err) : 0;

	if (r < 0)
		return r;
	if (driven)
		return pipe_drive(p, ctx ? (int)(CANCEL_POLL_NS / NSEC_PER_MSEC) : -1, err);
	if (!ctx) {
		pthread_cond_wait(&p->cond, &p->mu);
		return 0;
	}
	at = time_mono() + CANCEL_POLL_NS;
	ts.tv_sec = at / NSEC_PER_SEC;
	ts.tv_nsec = at % NSEC_PER_SEC;
	pthread_cond_timedwait(&p->cond, &p->mu, &ts);
	return 0;
}

int rpc_pipe_take(struct rpc_pipe *p, const struct ctx *ctx, struct rpc_msg **ret, struct err *err)
{
	struct rpc_msg *m;
	bool mark = false;
	int r;

	pthread_mutex_lock(&p->mu);
	for (;;) {
		/* What came before the end is still read. */
		if (p->in.head)
			break;
		if (p->ended) {
			r = p->end_kind ? rpc_pipe_error(p, err) : 0;
			goto out;
		}
		if (p->in_eof) {
			r = 0;
			goto out;
		}
		if (loop_is_current(p->hub->loop)) {
			r = err_set(err, ERR_FAILED_PRECONDITION, "receive would block the loop");
			goto out;
		}
		r = pipe_wait(p, ctx, err);
		if (r < 0)
			goto out;
	}
	m = rpc_queue_pop(&p->in);
	p->taken += m->n;
	if (p->taken >= TAKEN_MARK || (p->want_drain && !p->in.head)) {
		p->taken = 0;
		p->want_drain = false;
		mark = true;
	}
	*ret = m;
	r = 1;
out:
	pthread_mutex_unlock(&p->mu);
	if (mark)
		rpc_pipe_mark(p);
	return r;
}

int rpc_pipe_put(struct rpc_pipe *p, struct rpc_msg *m, size_t limit, bool block,
		 const struct ctx *ctx, struct err *err)
{
	_cleanup_(rpc_msg_freep) struct rpc_msg *own = m;
	int r;

	if (loop_is_current(p->hub->loop))
		block = false;
	MUTEX_GUARD(&p->mu);
	while (!p->ended && !p->out_eof && p->out.bytes + p->unsent >= limit) {
		if (!block)
			return err_set(err, ERR_RESOURCE_EXHAUSTED, "%zu bytes wait in the stream",
				       p->out.bytes + p->unsent);
		p->writers++;
		r = pipe_wait(p, ctx, err);
		p->writers--;
		if (r < 0)
			return r;
	}
	if (p->ended)
		return rpc_pipe_error(p, err);
	if (p->out_eof)
		return err_set(err, ERR_FAILED_PRECONDITION, "send after the end of the stream");
	rpc_queue_push(&p->out, TAKE_PTR(own));
	return 0;
}
