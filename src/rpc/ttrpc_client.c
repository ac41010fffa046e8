/* SPDX-License-Identifier: Apache-2.0 */
/* ttrpc client: one connection, streams told apart by odd ids that rise as requests are written. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/time.h"
#include "protos.h"
#include "rpc/ttrpc.h"
#include "rpc/ttrpc_conn.h"

/* Decoded size of a response's envelope. */
#define ENVELOPE_MAX ((size_t)16 << 20)

struct tstream {
	struct rpc_stream s; /* first */
	uint32_t id;
	bool out_done; /* half closed by us */
};

struct ttrpc_client {
	struct rpc_client base; /* first */
	struct ttrpc_conn conn;
	uint32_t next_id;
	loop_fn on_close;
	void *arg;
};

static struct ttrpc_client *client_of(struct ttrpc_conn *conn)
{
	return (struct ttrpc_client *)((char *)conn - offsetof(struct ttrpc_client, conn));
}

/* ---- Sending ---- */

/* Takes the only message of the request along when it is known to be the only one. */
static struct rpc_msg *request_payload(struct tstream *t, uint8_t *ret_flags)
{
	struct rpc_pipe *p = &t->s.pipe;
	struct rpc_msg *m = NULL;

	MUTEX_GUARD(&p->mu);
	*ret_flags = t->s.unary ? 0 : TTRPC_REMOTE_OPEN;
	if (p->out_eof && p->out.count == 1) {
		m = rpc_queue_pop(&p->out);
		t->out_done = true;
		if (!t->s.unary)
			*ret_flags = TTRPC_REMOTE_CLOSED;
	}
	return m;
}

static void stream_flush(struct rpc_stream *s)
{
	struct tstream *t = (struct tstream *)s;
	struct ttrpc_client *c = (struct ttrpc_client *)s->client;
	bool eof;

	ttrpc_conn_resume(&c->conn, &s->pipe, false);
	if (t->out_done)
		return;
	pthread_mutex_lock(&s->pipe.mu);
	eof = s->pipe.out_eof;
	pthread_mutex_unlock(&s->pipe.mu);
	ttrpc_conn_queue_data(&c->conn, &s->pipe, t->id);
	if (!eof)
		return;
	t->out_done = true;
	if (ttrpc_conn_queue_message(&c->conn, t->id, TTRPC_DATA,
				     TTRPC_REMOTE_CLOSED | TTRPC_NO_DATA, NULL) < 0)
		rpc_stream_end(s, ERR_RESOURCE_EXHAUSTED, "out of memory");
}

static void stream_open(struct rpc_stream *s)
{
	struct tstream *t = (struct tstream *)s;
	struct ttrpc_client *c = (struct ttrpc_client *)s->client;
	Ttrpc__Request req = TTRPC__REQUEST__INIT;
	Ttrpc__KeyValue kv = TTRPC__KEY_VALUE__INIT;
	Ttrpc__KeyValue *md[] = {&kv};
	_cleanup_(rpc_msg_freep) struct rpc_msg *m = NULL;
	uint8_t flags;

	if (c->next_id > UINT32_MAX - 2) {
		rpc_stream_end(s, ERR_UNAVAILABLE, "ttrpc: no stream ids left");
		return;
	}
	m = request_payload(t, &flags);
	req.service = (char *)s->service;
	req.method = (char *)s->method;
	if (m) {
		req.payload.data = m->p;
		req.payload.len = m->n;
	}
	if (s->deadline)
		req.timeout_nano = MAX(s->deadline - time_mono(), (int64_t)1);
	if (*s->ns) {
		kv.key = (char *)"containerd-namespace-ttrpc";
		kv.value = (char *)s->ns;
		req.metadata = md;
		req.n_metadata = 1;
	}
	if (protobuf_c_message_get_packed_size(&req.base) > TTRPC_MAX) {
		rpc_stream_end(s, ERR_RESOURCE_EXHAUSTED, "ttrpc: the request is too large");
		return;
	}
	t->id = c->next_id;
	c->next_id += 2;
	if (ttrpc_conn_queue_message(&c->conn, t->id, TTRPC_REQUEST, flags, &req.base) < 0)
		rpc_stream_end(s, ERR_RESOURCE_EXHAUSTED, "out of memory");
	else if (!t->out_done)
		stream_flush(s);
}

/* The protocol has no way to tell the server. */
static void stream_reset(struct rpc_stream *s)
{
	struct ttrpc_client *c = (struct ttrpc_client *)s->client;

	ttrpc_conn_resume(&c->conn, &s->pipe, true);
}

static void stream_done(struct rpc_stream *s)
{
}

/* ---- Receiving ---- */

static struct tstream *stream_find(struct ttrpc_client *c, uint32_t id)
{
	struct rpc_stream *s = c->base.streams;

	while (s && ((struct tstream *)s)->id != id)
		s = s->next;
	return (struct tstream *)s;
}

static void stream_finish(struct ttrpc_client *c, struct tstream *t, int kind, const char *text)
{
	ttrpc_conn_resume(&c->conn, &t->s.pipe, true);
	rpc_stream_end(&t->s, kind, text);
}

static void response_received(struct ttrpc_client *c, struct tstream *t, const struct rpc_msg *m)
{
	_cleanup_arena_ struct arena *a = arena_new(ENVELOPE_MAX);
	struct err err = ERR_INIT;
	Ttrpc__Response *resp;
	struct rpc_msg *reply;

	if (!a) {
		stream_finish(c, t, ERR_RESOURCE_EXHAUSTED, "out of memory");
		return;
	}
	if (rpc_unpack(a, &ttrpc__response__descriptor, m->p, m->n, &resp, &err) < 0) {
		stream_finish(c, t, err.kind, err.text);
		return;
	}
	if (resp->status && resp->status->code) {
		stream_finish(c, t, err_kind_from_code(resp->status->code, resp->status->message),
			      resp->status->message);
		return;
	}
	if (rpc_msg_copy(&c->base.hub, resp->payload.data, resp->payload.len, SIZE_MAX, &reply,
			 &err) < 0) {
		stream_finish(c, t, err.kind, err.text);
		return;
	}
	rpc_pipe_push(&t->s.pipe, reply);
	stream_finish(c, t, 0, NULL);
}

static void data_received(struct ttrpc_client *c, struct tstream *t, const struct ttrpc_header *h,
			  struct rpc_msg *m)
{
	if (h->flags & TTRPC_NO_DATA)
		rpc_msg_free(m);
	else
		rpc_pipe_push(&t->s.pipe, m);
	if (h->flags & TTRPC_REMOTE_CLOSED)
		stream_finish(c, t, 0, NULL);
	else
		ttrpc_conn_pause(&c->conn, &t->s.pipe);
}

static void frame_received(struct ttrpc_conn *conn, const struct ttrpc_header *h, struct rpc_msg *m)
{
	struct ttrpc_client *c = client_of(conn);
	struct tstream *t = stream_find(c, h->id);
	char text[96];

	if (!t) {
		rpc_msg_free(m);
	} else if (!m) {
		snprintf(text, sizeof(text), "message length %u exceed maximum message size of %zu",
			 h->len, TTRPC_MAX);
		stream_finish(c, t, ERR_RESOURCE_EXHAUSTED, text);
	} else if (h->type == TTRPC_DATA) {
		data_received(c, t, h, m);
	} else {
		if (h->type == TTRPC_RESPONSE)
			response_received(c, t, m);
		rpc_msg_free(m);
	}
}

/* ---- Connection ---- */

static void client_lost(struct ttrpc_client *c)
{
	loop_fn fn = c->on_close;

	rpc_hub_ref(&c->base.hub);
	c->on_close = NULL;
	rpc_client_die(&c->base, "ttrpc: closed");
	ttrpc_conn_done(&c->conn);
	if (fn)
		fn(c->arg);
	rpc_hub_unref(&c->base.hub);
}

static void conn_closed(struct ttrpc_conn *conn)
{
	client_lost(client_of(conn));
}

static void client_flushed(struct rpc_hub *h)
{
	struct ttrpc_client *c = (struct ttrpc_client *)h;

	if (!c->base.dead && !ttrpc_conn_write(&c->conn))
		client_lost(c);
}

static void client_close(struct rpc_client *base)
{
	struct ttrpc_client *c = (struct ttrpc_client *)base;

	c->on_close = NULL;
	ttrpc_conn_done(&c->conn);
}

static void client_free(struct rpc_hub *h)
{
	free(h);
}

static const struct rpc_hub_ops hub_ops = {
	.name = "ttrpc", .flushed = client_flushed, .free = client_free};

static const struct rpc_client_ops client_ops = {
	.stream_size = sizeof(struct tstream),
	.open = stream_open,
	.flush = stream_flush,
	.reset = stream_reset,
	.done = stream_done,
	.close = client_close,
};

static const struct ttrpc_conn_ops conn_ops = {.frame = frame_received, .closed = conn_closed};

/* The rest of ttrpc_client_new(), on the loop. */
static void client_attach(void *arg)
{
	struct ttrpc_client *c = arg;
	int fd = c->conn.fd;

	c->conn.fd = -1;
	if (ttrpc_conn_init(&c->conn, c->base.hub.loop, fd, &conn_ops) < 0) {
		close(fd);
		client_lost(c);
	}
	rpc_hub_unref(&c->base.hub);
}

int ttrpc_client_new(struct loop *l, int fd, loop_fn on_close, void *arg, struct rpc_client **ret)
{
	struct ttrpc_client *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	rpc_client_init(&c->base, l, &hub_ops, &client_ops);
	c->base.max_recv = TTRPC_MAX;
	c->base.max_send = TTRPC_MESSAGE_MAX;
	c->next_id = 1;
	c->on_close = on_close;
	c->arg = arg;
	c->conn.fd = fd;
	rpc_hub_ref(&c->base.hub);
	if (loop_is_current(l)) {
		client_attach(c);
	} else {
		r = loop_post(l, client_attach, c);
		if (r < 0) {
			free(c);
			return r;
		}
	}
	*ret = &c->base;
	return 0;
}
