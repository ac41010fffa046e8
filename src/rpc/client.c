/* SPDX-License-Identifier: Apache-2.0 */
/* Calls of a client, independent of the transport.
 *
 * Every call is a stream. Its outcome is known to the loop first (rpc_stream_end), which wakes the
 * waiting thread or runs the callback. The loop holds a reference from the first flush until the
 * outcome; the caller holds another. */
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "base/time.h"
#include "rpc/internal.h"

static void stream_free(struct rpc_pipe *p)
{
	struct rpc_stream *s = (struct rpc_stream *)p;

	s->client->ops->done(s);
	rpc_pipe_done(p);
	free(s->names);
	free(s);
}

static void stream_deadline(void *arg)
{
	struct rpc_stream *s = arg;

	rpc_pipe_ref(&s->pipe);
	s->client->ops->reset(s);
	rpc_stream_end(s, ERR_DEADLINE_EXCEEDED, "context deadline exceeded");
	s->client->hub.ops->flushed(&s->client->hub);
	rpc_pipe_unref(&s->pipe);
}

static void stream_link(struct rpc_stream *s)
{
	struct rpc_client *c = s->client;

	rpc_pipe_ref(&s->pipe);
	s->linked = true;
	s->next = c->streams;
	if (s->next)
		s->next->prev = s;
	c->streams = s;
}

static void stream_unlink(struct rpc_stream *s)
{
	if (s->prev)
		s->prev->next = s->next;
	else
		s->client->streams = s->next;
	if (s->next)
		s->next->prev = s->prev;
	s->next = s->prev = NULL;
	s->linked = false;
}

/* The callback of an async call, from what has been received. */
static void stream_report(struct rpc_stream *s)
{
	_cleanup_(rpc_msg_freep) struct rpc_msg *m = NULL;
	struct err err = ERR_INIT;
	rpc_done_fn fn = TAKE_PTR(s->fn);

	pthread_mutex_lock(&s->pipe.mu);
	if (s->pipe.end_kind)
		rpc_pipe_error(&s->pipe, &err);
	else if (!(m = rpc_queue_pop(&s->pipe.in)))
		err_set_raw(&err, ERR_INTERNAL, "the peer sent no reply");
	pthread_mutex_unlock(&s->pipe.mu);
	fn(s->arg, m ? m->p : NULL, m ? m->n : 0, err.kind ? &err : NULL);
}

void rpc_stream_end(struct rpc_stream *s, int kind, const char *text)
{
	bool drop = kind == ERR_CANCELED || kind == ERR_DEADLINE_EXCEEDED;

	if (s->over)
		return;
	s->over = true;
	loop_source_free(TAKE_PTR(s->timer));
	rpc_pipe_end(&s->pipe, kind, text, drop && s->unary);
	if (s->fn)
		stream_report(s);
	if (s->linked) {
		stream_unlink(s);
		rpc_pipe_unref(&s->pipe);
	}
}

static void stream_open(struct rpc_stream *s)
{
	struct rpc_client *c = s->client;

	if (c->dead) {
		rpc_stream_end(s, ERR_UNAVAILABLE, c->dead_text);
		return;
	}
	stream_link(s);
	if (s->deadline &&
	    loop_add_timer(c->hub.loop, s->deadline, stream_deadline, s, &s->timer) < 0) {
		rpc_stream_end(s, ERR_RESOURCE_EXHAUSTED, "out of memory");
		return;
	}
	c->ops->open(s);
}

static void stream_flush(struct rpc_pipe *p)
{
	struct rpc_stream *s = (struct rpc_stream *)p;
	bool canceled;

	if (s->over)
		return;
	pthread_mutex_lock(&p->mu);
	canceled = s->canceled;
	pthread_mutex_unlock(&p->mu);
	if (canceled) {
		if (s->linked)
			s->client->ops->reset(s);
		rpc_stream_end(s, ERR_CANCELED, "context canceled");
		return;
	}
	if (!s->linked)
		stream_open(s);
	else
		s->client->ops->flush(s);
}

static const struct rpc_pipe_ops stream_ops = {.flush = stream_flush, .free = stream_free};

void rpc_client_init(struct rpc_client *c, struct loop *l, const struct rpc_hub_ops *hops,
		     const struct rpc_client_ops *ops)
{
	rpc_hub_init(&c->hub, l, hops);
	c->ops = ops;
}

void rpc_client_die(struct rpc_client *c, const char *text)
{
	if (!c->dead)
		snprintf(c->dead_text, sizeof(c->dead_text), "%s", text);
	c->dead = true;
	atomic_store(&c->lost, true);
	while (c->streams)
		rpc_stream_end(c->streams, ERR_UNAVAILABLE, c->dead_text);
}

static void client_teardown(void *arg)
{
	struct rpc_client *c = arg;

	rpc_client_die(c, "the client is closed");
	rpc_hub_close(&c->hub);
	c->ops->close(c);
	rpc_hub_unref(&c->hub);
}

void rpc_client_free(struct rpc_client *c)
{
	if (loop_is_current(c->hub.loop) || loop_post(c->hub.loop, client_teardown, c) < 0)
		client_teardown(c);
}

bool rpc_client_lost(struct rpc_client *c)
{
	return atomic_load(&c->lost);
}

static char *name_put(char **p, const char *s)
{
	char *at = *p;
	size_t n = strlen(s) + 1;

	memcpy(at, s, n);
	*p += n;
	return at;
}

static struct rpc_stream *stream_new(struct rpc_client *c, const char *ns, const char *lease,
				     int64_t deadline, const char *service, const char *method)
{
	struct rpc_stream *s = calloc(1, c->ops->stream_size);
	char *p;

	if (!s)
		return NULL;
	s->names = p = malloc(strlen(ns) + strlen(lease) + strlen(service) + strlen(method) + 4);
	if (!p) {
		free(s);
		return NULL;
	}
	s->ns = name_put(&p, ns);
	s->lease = name_put(&p, lease);
	s->service = name_put(&p, service);
	s->method = name_put(&p, method);
	s->client = c;
	s->deadline = deadline;
	rpc_pipe_init(&s->pipe, &c->hub, &stream_ops);
	return s;
}

/* After the client was freed nobody else would end it. */
static void stream_mark(struct rpc_stream *s)
{
	if (!rpc_pipe_mark(&s->pipe))
		rpc_pipe_end(&s->pipe, ERR_UNAVAILABLE, "the client is closed", false);
}

static int stream_new_unary(struct rpc_client *c, const char *ns, const char *lease,
			    int64_t deadline, const char *service, const char *method,
			    const ProtobufCMessage *req, struct rpc_stream **ret, struct err *err)
{
	struct rpc_msg *m;
	struct rpc_stream *s = NULL;
	int r = rpc_msg_pack(&c->hub, req, c->max_send, &m, err);

	if (r < 0)
		return r;
	s = stream_new(c, ns, lease, deadline, service, method);
	if (!s) {
		rpc_msg_free(m);
		return err_nomem(err);
	}
	s->unary = true;
	rpc_queue_push(&s->pipe.out, m);
	s->pipe.out_eof = s->pipe.in_whole = true;
	*ret = s;
	return 0;
}

int rpc_call(struct rpc_client *c, struct ctx *ctx, const char *service, const char *method,
	     const ProtobufCMessage *req, const ProtobufCMessageDescriptor *resp_desc,
	     void *ret_resp, struct err *err)
{
	_cleanup_(rpc_stream_freep) struct rpc_stream *s = NULL;
	_cleanup_(rpc_msg_freep) struct rpc_msg *m = NULL;
	struct rpc_msg *more = NULL;
	int r = ctx_check(ctx, err);

	if (r < 0)
		return r;
	if (loop_is_current(c->hub.loop))
		return err_set(err, ERR_FAILED_PRECONDITION, "call of %s would block the loop",
			       method);
	r = stream_new_unary(c, str_or(ctx->ns, ""), str_or(ctx->lease, ""), ctx->deadline, service,
			     method, req, &s, err);
	if (r < 0)
		return r;
	stream_mark(s);
	r = rpc_pipe_take(&s->pipe, ctx, &m, err);
	if (r < 0)
		return r;
	if (r == 0)
		return err_set_raw(err, ERR_INTERNAL, "the peer sent no reply");
	/* The status comes after the message. */
	r = rpc_pipe_take(&s->pipe, ctx, &more, err);
	if (r < 0)
		return r;
	if (r > 0) {
		rpc_msg_free(more);
		return err_set_raw(err, ERR_INTERNAL, "the peer sent more than one reply");
	}
	return ret_resp ? rpc_unpack(ctx->arena, resp_desc, m->p, m->n, ret_resp, err) : 0;
}

int rpc_call_async(struct rpc_client *c, const char *ns, const char *service, const char *method,
		   const ProtobufCMessage *req, int64_t timeout_ns, rpc_done_fn fn, void *arg,
		   struct rpc_pending **ret, struct err *err)
{
	int64_t deadline = timeout_ns > 0 ? time_mono() + timeout_ns : 0;
	struct rpc_stream *s = NULL;
	int r = stream_new_unary(c, str_or(ns, ""), "", deadline, service, method, req, &s, err);

	if (r < 0)
		return r;
	s->fn = fn;
	s->arg = arg;
	if (ret)
		*ret = (struct rpc_pending *)s;
	/* The mark's reference keeps it until the loop has its own. */
	if (!rpc_pipe_mark(&s->pipe)) {
		rpc_pipe_unref(&s->pipe);
		return err_set_raw(err, ERR_UNAVAILABLE, "the client is closed");
	}
	rpc_pipe_unref(&s->pipe);
	return 0;
}

bool rpc_pending_cancel(struct rpc_pending *p)
{
	struct rpc_stream *s = (struct rpc_stream *)p;

	if (!s->fn)
		return false;
	s->fn = NULL;
	pthread_mutex_lock(&s->pipe.mu);
	s->canceled = true;
	pthread_mutex_unlock(&s->pipe.mu);
	rpc_pipe_mark(&s->pipe);
	return true;
}

/* ---- Streams ---- */

int rpc_stream_open(struct rpc_client *c, struct ctx *ctx, const char *service, const char *method,
		    struct rpc_stream **ret, struct err *err)
{
	struct rpc_stream *s = NULL;
	int r = ctx_check(ctx, err);

	if (r < 0)
		return r;
	s = stream_new(c, str_or(ctx->ns, ""), str_or(ctx->lease, ""), ctx->deadline, service,
		       method);
	if (!s)
		return err_nomem(err);
	*ret = s;
	return 0;
}

int rpc_stream_send(struct rpc_stream *s, const ProtobufCMessage *msg, struct err *err)
{
	struct rpc_msg *m;
	int r = rpc_msg_pack(&s->client->hub, msg, s->client->max_send, &m, err);

	if (r < 0)
		return r;
	r = rpc_pipe_put(&s->pipe, m, RPC_STREAM_SHARE, true, s->ctx, err);
	if (r < 0)
		return r;
	stream_mark(s);
	return 0;
}

int rpc_stream_close_send(struct rpc_stream *s, struct err *err)
{
	int r = 0;

	pthread_mutex_lock(&s->pipe.mu);
	if (s->pipe.ended && s->pipe.end_kind)
		r = rpc_pipe_error(&s->pipe, err);
	s->pipe.out_eof = true;
	pthread_mutex_unlock(&s->pipe.mu);
	stream_mark(s);
	return r;
}

int rpc_stream_recv(struct rpc_stream *s, struct arena *arena,
		    const ProtobufCMessageDescriptor *desc, void *ret, struct err *err)
{
	_cleanup_(rpc_msg_freep) struct rpc_msg *m = NULL;
	bool opened;
	int r;

	/* Nothing may have been sent yet. */
	opened = atomic_exchange(&s->reading, true);
	if (!opened)
		stream_mark(s);
	r = rpc_pipe_take(&s->pipe, s->ctx, &m, err);
	if (r <= 0)
		return r;
	r = rpc_unpack(arena, desc, m->p, m->n, ret, err);
	return r < 0 ? r : 1;
}

void rpc_stream_bind(struct rpc_stream *s, const struct ctx *ctx)
{
	s->ctx = ctx;
}

void rpc_stream_cancel(struct rpc_stream *s)
{
	pthread_mutex_lock(&s->pipe.mu);
	s->canceled = true;
	pthread_mutex_unlock(&s->pipe.mu);
	rpc_pipe_end(&s->pipe, ERR_CANCELED, "context canceled", true);
	rpc_pipe_mark(&s->pipe);
}

void rpc_stream_free(struct rpc_stream *s)
{
	bool ended;

	pthread_mutex_lock(&s->pipe.mu);
	ended = s->pipe.ended;
	s->pipe.in_closed = true;
	pthread_mutex_unlock(&s->pipe.mu);
	if (!ended)
		rpc_stream_cancel(s);
	rpc_pipe_unref(&s->pipe);
}
