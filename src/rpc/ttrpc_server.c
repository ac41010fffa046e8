/* SPDX-License-Identifier: Apache-2.0 */
/* ttrpc server: connections with their calls, all on the loop.
 *
 * A call is in its connection's list from its request until its last frame is queued. Replies leave
 * in the order in which calls end. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/str.h"
#include "base/time.h"
#include "protos.h"
#include "rpc/listener.h"
#include "rpc/ttrpc.h"
#include "rpc/ttrpc_conn.h"

/* Decoded size of a request's envelope. */
#define ENVELOPE_MAX ((size_t)16 << 20)
/* Answers that wait for a peer that does not read. */
#define OUT_MAX ((size_t)16 << 20)

struct tconn;

struct ttrpc_server {
	struct rpc_server core; /* first */
	struct ttrpc_server_options options;
	struct rpc_listener *listeners;
	struct tconn *conns;
	struct ttrpc_conn *dirty;
	bool draining;
	loop_fn drain_fn;
	void *drain_arg;
};

struct tcall {
	struct rpc_call call; /* first */
	struct tconn *conn;   /* NULL once it is over on the wire */
	struct tcall *next, *prev;
	uint32_t id;
	bool in_eof;
};

struct tconn {
	struct ttrpc_conn conn; /* first */
	struct ttrpc_server *server;
	struct tconn *next, *prev;
	struct tcall *calls;
	uint32_t last_id;
};

/* ---- Connections ---- */

static void drain_check(struct ttrpc_server *s)
{
	loop_fn fn = s->drain_fn;

	if (!s->draining || s->conns || !fn)
		return;
	s->drain_fn = NULL;
	fn(s->drain_arg);
}

static void conn_dirty(struct tconn *c)
{
	if (c->conn.dirty)
		return;
	c->conn.dirty = true;
	c->conn.dirty_next = c->server->dirty;
	c->server->dirty = &c->conn;
}

static void call_unlink(struct tcall *t)
{
	struct tconn *c = t->conn;

	if (t->prev)
		t->prev->next = t->next;
	else
		c->calls = t->next;
	if (t->next)
		t->next->prev = t->prev;
	t->next = t->prev = NULL;
	t->conn = NULL;
	ttrpc_conn_resume(&c->conn, &t->call.pipe, true);
	rpc_call_detach(&t->call);
}

static void conn_free(struct tconn *c)
{
	struct ttrpc_server *s = c->server;

	if (c->conn.dirty) {
		struct ttrpc_conn **p = &s->dirty;

		while (*p != &c->conn)
			p = &(*p)->dirty_next;
		*p = c->conn.dirty_next;
	}
	c->conn.dead = true;
	while (c->calls)
		call_unlink(c->calls);
	ttrpc_conn_done(&c->conn);
	if (c->prev)
		c->prev->next = c->next;
	else
		s->conns = c->next;
	if (c->next)
		c->next->prev = c->prev;
	free(c);
	drain_check(s);
}

static void conn_closed(struct ttrpc_conn *conn)
{
	conn_free((struct tconn *)conn);
}

static void conn_written(struct ttrpc_conn *conn)
{
	struct tconn *c = (struct tconn *)conn;

	if (c->server->draining && !c->calls)
		conn_free(c);
}

static void server_flushed(struct rpc_hub *h)
{
	struct ttrpc_server *s = (struct ttrpc_server *)h;

	while (s->dirty) {
		struct ttrpc_conn *c = s->dirty;

		s->dirty = c->dirty_next;
		c->dirty = false;
		if (!ttrpc_conn_write(c))
			conn_closed(c);
		else if (!c->out.head)
			conn_written(c);
	}
}

/* ---- Replies ---- */

static void status_queue(struct tconn *c, uint32_t id, int code, const char *text)
{
	Google__Rpc__Status st = GOOGLE__RPC__STATUS__INIT;
	Ttrpc__Response resp = TTRPC__RESPONSE__INIT;

	st.code = code;
	st.message = (char *)text;
	resp.status = &st;
	if (ttrpc_conn_queue_message(&c->conn, id, TTRPC_RESPONSE, 0, &resp.base) < 0)
		c->conn.dead = true;
	conn_dirty(c);
}

/* The last frame of a call that ended with OK. */
static void reply_queue(struct tcall *t)
{
	struct tconn *c = t->conn;
	struct rpc_pipe *p = &t->call.pipe;
	struct rpc_msg *m;

	if (rpc_kind_streams_out(t->call.entry->method->kind)) {
		ttrpc_conn_queue_data(&c->conn, p, t->id);
		if (ttrpc_conn_queue_message(&c->conn, t->id, TTRPC_DATA,
					     TTRPC_REMOTE_CLOSED | TTRPC_NO_DATA, NULL) < 0)
			c->conn.dead = true;
		return;
	}
	pthread_mutex_lock(&p->mu);
	m = rpc_queue_pop(&p->out);
	pthread_mutex_unlock(&p->mu);
	if (!m)
		return;
	ttrpc_response_wrap(m);
	ttrpc_frame_wrap(m, t->id, TTRPC_RESPONSE, 0);
	ttrpc_conn_queue(&c->conn, m);
}

static void call_flush(struct rpc_pipe *p)
{
	struct tcall *t = (struct tcall *)p;
	struct tconn *c = t->conn;
	_cleanup_free_ char *copy = NULL;
	const char *text = "";
	int code = 0;
	bool over;

	rpc_call_flush(&t->call);
	if (!c)
		return;
	ttrpc_conn_resume(&c->conn, p, false);
	pthread_mutex_lock(&p->mu);
	over = rpc_call_status(&t->call, &code, &text);
	if (over)
		copy = strdup(text);
	pthread_mutex_unlock(&p->mu);
	conn_dirty(c);
	if (t->call.entry && rpc_kind_streams_out(t->call.entry->method->kind))
		ttrpc_conn_queue_data(&c->conn, p, t->id);
	if (!over)
		return;
	if (code)
		status_queue(c, t->id, code, copy ? copy : "");
	else
		reply_queue(t);
	call_unlink(t);
}

static void call_free(struct rpc_pipe *p)
{
	struct tcall *t = (struct tcall *)p;

	rpc_call_done(&t->call);
	free(t);
}

static const struct rpc_pipe_ops call_ops = {.flush = call_flush, .free = call_free};

/* ---- Requests ---- */

static int unknown(struct ttrpc_server *s, const char *service, const char *method, struct err *err)
{
	for (size_t i = 0; i < s->core.n_services; i++)
		if (streq(s->core.services[i]->desc->name, service))
			return err_set_raw(err, ERR_UNIMPLEMENTED, "method %s", method);
	return err_set_raw(err, ERR_UNIMPLEMENTED, "service %s", service);
}

static int call_metadata(struct tcall *t, const Ttrpc__Request *req)
{
	for (size_t i = 0; i < req->n_metadata; i++) {
		char *key = req->metadata[i]->key;
		int r;

		for (char *k = key; *k; k++)
			*k = (char)tolower((unsigned char)*k);
		r = rpc_call_add_metadata(&t->call, key, strlen(key), req->metadata[i]->value,
					  strlen(req->metadata[i]->value));
		if (r < 0)
			return r;
	}
	rpc_call_set_namespace(&t->call, "containerd-namespace-ttrpc", NULL);
	return 0;
}

static struct tcall *call_new(struct tconn *c, uint32_t id)
{
	struct tcall *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	if (rpc_call_init(&t->call, &c->server->core, &call_ops) < 0) {
		free(t);
		return NULL;
	}
	t->id = id;
	t->conn = c;
	t->next = c->calls;
	if (t->next)
		t->next->prev = t;
	c->calls = t;
	return t;
}

static int call_deadline(struct tcall *t, int64_t timeout)
{
	int64_t now = time_mono();

	if (timeout <= 0)
		return 0;
	return rpc_call_set_deadline(&t->call,
				     timeout > INT64_MAX - now ? INT64_MAX : now + timeout);
}

static int call_begin(struct tcall *t, const Ttrpc__Request *req, uint8_t flags, struct err *err)
{
	struct ttrpc_server *s = t->conn->server;
	_cleanup_free_ char *path = NULL;
	struct rpc_msg *m;
	int r;

	if (asprintf(&path, "/%s/%s", req->service, req->method) < 0) {
		path = NULL;
		return err_nomem(err);
	}
	t->call.entry = rpc_server_find(&s->core, path);
	if (!t->call.entry) {
		t->call.path = TAKE_PTR(path);
		return unknown(s, req->service, req->method, err);
	}
	r = call_metadata(t, req);
	if (r == -E2BIG)
		return err_set(err, ERR_RESOURCE_EXHAUSTED, "metadata of the request is too large");
	if (r == 0)
		r = call_deadline(t, req->timeout_nano);
	if (r < 0)
		return err_errno(err, r, "set up the call");
	if (req->payload.len > 0 || !(flags & TTRPC_REMOTE_OPEN)) {
		r = rpc_msg_copy(&s->core.hub, req->payload.data, req->payload.len, SIZE_MAX, &m,
				 err);
		if (r < 0)
			return r;
		rpc_pipe_push(&t->call.pipe, m);
	}
	t->in_eof = !(flags & TTRPC_REMOTE_OPEN);
	if (t->in_eof)
		rpc_pipe_push_eof(&t->call.pipe);
	return 0;
}

static void request_received(struct tconn *c, const struct ttrpc_header *h, struct rpc_msg *m)
{
	_cleanup_arena_ struct arena *a = arena_new(ENVELOPE_MAX);
	struct err err = ERR_INIT;
	Ttrpc__Request *req;
	struct tcall *t;

	if (h->id <= c->last_id) {
		status_queue(c, h->id, ERR_INVALID_ARGUMENT,
			     "StreamID cannot be re-used and must increment");
		return;
	}
	c->last_id = h->id;
	t = a ? call_new(c, h->id) : NULL;
	if (!t) {
		status_queue(c, h->id, ERR_RESOURCE_EXHAUSTED, "out of memory");
		return;
	}
	if (rpc_unpack(a, &ttrpc__request__descriptor, m->p, m->n, &req, &err) < 0 ||
	    call_begin(t, req, h->flags, &err) < 0) {
		rpc_call_reject(&t->call, &err);
		return;
	}
	/* A request that needs a first message and whose client streams gets it from a data frame.
	 */
	if (rpc_kind_streams_in(t->call.entry->method->kind) || t->call.pipe.in.head || t->in_eof)
		rpc_call_dispatch(&t->call);
}

static struct tcall *call_find(struct tconn *c, uint32_t id)
{
	struct tcall *t = c->calls;

	while (t && t->id != id)
		t = t->next;
	return t;
}

static void call_fail(struct tcall *t, int kind, const char *text)
{
	rpc_call_cancel(&t->call, kind, text);
	rpc_pipe_mark(&t->call.pipe);
}

static void data_received(struct tconn *c, const struct ttrpc_header *h, struct rpc_msg *m)
{
	struct tcall *t = call_find(c, h->id);
	bool closed = h->flags & TTRPC_REMOTE_CLOSED;

	if (!t) {
		rpc_msg_free(m);
		status_queue(c, h->id, ERR_INVALID_ARGUMENT, "StreamID is no longer active");
		return;
	}
	if (t->in_eof || (m->n > 0 && (h->flags & TTRPC_NO_DATA))) {
		rpc_msg_free(m);
		call_fail(t, ERR_INVALID_ARGUMENT,
			  t->in_eof ? "data on a closed stream" : "unexpected data");
		return;
	}
	if (h->flags & TTRPC_NO_DATA)
		rpc_msg_free(m);
	else
		rpc_pipe_push(&t->call.pipe, m);
	if (closed) {
		t->in_eof = true;
		rpc_pipe_push_eof(&t->call.pipe);
	}
	if (!t->call.started)
		rpc_call_dispatch(&t->call);
	ttrpc_conn_pause(&c->conn, &t->call.pipe);
}

static void frame_oversized(struct tconn *c, const struct ttrpc_header *h)
{
	struct tcall *t = h->type == TTRPC_DATA ? call_find(c, h->id) : NULL;
	char text[96];

	snprintf(text, sizeof(text), "message length %u exceed maximum message size of %zu", h->len,
		 TTRPC_MAX);
	if (t)
		call_fail(t, ERR_RESOURCE_EXHAUSTED, text);
	else
		status_queue(c, h->id, ERR_RESOURCE_EXHAUSTED, text);
}

static void frame_received(struct ttrpc_conn *conn, const struct ttrpc_header *h, struct rpc_msg *m)
{
	struct tconn *c = (struct tconn *)conn;

	if (!m) {
		frame_oversized(c, h);
	} else if (h->type != TTRPC_REQUEST && h->type != TTRPC_DATA) {
		rpc_msg_free(m);
	} else if (h->id % 2 == 0) {
		rpc_msg_free(m);
		status_queue(c, h->id, ERR_INVALID_ARGUMENT,
			     "StreamID must be odd for client initiated streams");
	} else if (h->type == TTRPC_DATA) {
		data_received(c, h, m);
	} else {
		request_received(c, h, m);
		rpc_msg_free(m);
	}
}

static const struct ttrpc_conn_ops conn_ops = {
	.frame = frame_received, .closed = conn_closed, .written = conn_written};

/* ---- Server ---- */

static bool peer_ok(int fd)
{
	struct ucred cred;
	socklen_t n = sizeof(cred);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &n) == 0 && cred.uid == geteuid() &&
	       cred.gid == getegid();
}

static void accepted(void *arg, int fd)
{
	struct ttrpc_server *s = arg;
	struct tconn *c = calloc(1, sizeof(*c));

	if (c)
		c->conn.out_max = OUT_MAX;
	if (c && (!s->options.check_peer || peer_ok(fd)) &&
	    ttrpc_conn_init(&c->conn, s->core.hub.loop, fd, &conn_ops) == 0) {
		c->server = s;
		c->next = s->conns;
		if (c->next)
			c->next->prev = c;
		s->conns = c;
		return;
	}
	free(c);
	close(fd);
}

static void server_free(struct rpc_hub *h)
{
	struct ttrpc_server *s = (struct ttrpc_server *)h;
	struct ttrpc_server_options o = s->options;

	rpc_server_done(&s->core);
	free(s);
	if (o.released)
		o.released(o.released_arg);
}

static const struct rpc_hub_ops hub_ops = {
	.name = "ttrpc", .flushed = server_flushed, .free = server_free};

int ttrpc_server_new(struct loop *l, struct pool *pool, const struct ttrpc_server_options *o,
		     struct ttrpc_server **ret)
{
	struct ttrpc_server *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	rpc_hub_init(&s->core.hub, l, &hub_ops);
	s->core.pool = pool;
	s->core.max_recv = TTRPC_MAX;
	s->core.max_send = TTRPC_MESSAGE_MAX;
	if (o)
		s->options = *o;
	*ret = s;
	return 0;
}

int ttrpc_server_add(struct ttrpc_server *s, const struct rpc_service *service)
{
	return rpc_server_add(&s->core, service);
}

int ttrpc_server_listen(struct ttrpc_server *s, int fd)
{
	return rpc_listener_add(&s->listeners, s->core.hub.loop, fd, accepted, s);
}

void ttrpc_server_adopt(struct ttrpc_server *s, int fd)
{
	accepted(s, fd);
}

static void drain_posted(void *arg)
{
	drain_check(arg);
}

void ttrpc_server_drain(struct ttrpc_server *s, loop_fn fn, void *arg)
{
	struct tconn *next;

	rpc_listeners_free(&s->listeners);
	s->draining = true;
	for (struct tconn *c = s->conns; c; c = next) {
		next = c->next;
		if (!c->calls && !c->conn.out.head)
			conn_free(c);
	}
	s->drain_fn = fn;
	s->drain_arg = arg;
	if (!s->conns)
		loop_post(s->core.hub.loop, drain_posted, s);
}

void ttrpc_server_free(struct ttrpc_server *s)
{
	if (!s)
		return;
	rpc_listeners_free(&s->listeners);
	s->draining = false;
	while (s->conns)
		conn_free(s->conns);
	rpc_hub_abandon(&s->core.hub);
}
