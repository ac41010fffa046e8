/* SPDX-License-Identifier: Apache-2.0 */
/* gRPC client: one HTTP/2 connection, a stream a call.
 *
 * A stream ends for its caller when the trailers are there; what HTTP/2 still does with it
 * afterwards is nobody's concern (its user data is NULL then). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "base/time.h"
#include "rpc/grpc.h"
#include "rpc/grpc_conn.h"
#include "version.h"

#define KEEPALIVE_GRACE_NS (20 * NSEC_PER_SEC)
/* Between two PINGs without an answer to a call between them: what gRPC's servers in Go allow. */
#define KEEPALIVE_SPACE_NS (305 * NSEC_PER_SEC)

struct gstream {
	struct rpc_stream s; /* first */
	int32_t id;	     /* 0 = no request submitted */
	struct grpc_reader reader;
	size_t held;
	bool deferred;
	bool sent_end; /* our half is closed */
	/* From the answer's headers and trailers: */
	int http_status;
	int status; /* -1 = none yet */
	char *message;
};

struct grpc_client {
	struct rpc_client base; /* first */
	struct h2_conn h2;
	nghttp2_session_callbacks *callbacks;
	struct loop_source *keepalive;
	int64_t keepalive_ns;
	bool pinged;	   /* and nothing came since */
	bool watching;	   /* the timer runs */
	bool heard;	   /* something of a call came since the last PING */
	int64_t last_ping; /* 0 = none yet */
};

static struct grpc_client *client_of(struct h2_conn *h2)
{
	return (struct grpc_client *)((char *)h2 - offsetof(struct grpc_client, h2));
}

/* ---- Sending ---- */

static ssize_t stream_read(nghttp2_session *session, int32_t id, uint8_t *buf, size_t room,
			   uint32_t *flags, nghttp2_data_source *source, void *user_data)
{
	struct gstream *g = nghttp2_session_get_stream_user_data(session, id);
	bool end;
	ssize_t n;

	if (!g)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	n = h2_pipe_read(&g->s.pipe, buf, room, false, &end);
	if (n < 0) {
		g->deferred = true;
		return NGHTTP2_ERR_DEFERRED;
	}
	if (end) {
		*flags |= NGHTTP2_DATA_FLAG_EOF;
		g->sent_end = true;
	}
	return n;
}

static void stream_credit(struct gstream *g)
{
	struct grpc_client *c = (struct grpc_client *)g->s.client;

	h2_credit(&c->h2, &g->s.pipe, g->id, &g->held, grpc_reader_partial(&g->reader), g->s.unary);
}

static void stream_flush(struct rpc_stream *s)
{
	struct gstream *g = (struct gstream *)s;
	struct grpc_client *c = (struct grpc_client *)s->client;

	stream_credit(g);
	if (!g->deferred)
		return;
	g->deferred = false;
	nghttp2_session_resume_data(c->h2.session, g->id);
}

static void stream_open(struct rpc_stream *s)
{
	struct gstream *g = (struct gstream *)s;
	struct grpc_client *c = (struct grpc_client *)s->client;
	nghttp2_data_provider provider = {.read_callback = stream_read};
	_cleanup_free_ char *path = NULL;
	char timeout[16];
	nghttp2_nv nv[12];
	size_t n = 0;

	g->status = -1;
	g->reader.max = c->base.max_recv;
	if (c->keepalive && !c->watching) {
		c->watching = true;
		loop_timer_set(c->keepalive, time_mono() + c->keepalive_ns);
	}
	if (!nghttp2_session_check_request_allowed(c->h2.session)) {
		atomic_store(&c->base.lost, true);
		rpc_stream_end(s, ERR_UNAVAILABLE, "the server is closing the connection");
		return;
	}
	if (asprintf(&path, "/%s/%s", s->service, s->method) < 0) {
		path = NULL;
		rpc_stream_end(s, ERR_RESOURCE_EXHAUSTED, "out of memory");
		return;
	}
	nv[n++] = H2_NV(":method", "POST");
	nv[n++] = H2_NV(":scheme", "http");
	nv[n++] = H2_NV(":path", path);
	nv[n++] = H2_NV(":authority", "localhost");
	nv[n++] = H2_NV("content-type", "application/grpc");
	nv[n++] = H2_NV("user-agent", PACKAGE "/" VERSION);
	nv[n++] = H2_NV("te", "trailers");
	if (s->deadline) {
		grpc_timeout_format(s->deadline - time_mono(), timeout);
		nv[n++] = H2_NV("grpc-timeout", timeout);
	}
	if (*s->ns)
		nv[n++] = H2_NV("containerd-namespace", s->ns);
	if (*s->lease)
		nv[n++] = H2_NV("containerd-lease", s->lease);
	g->id = nghttp2_submit_request(c->h2.session, NULL, nv, n, &provider, g);
	if (g->id < 0) {
		g->id = 0;
		rpc_stream_end(s, ERR_UNAVAILABLE, "the connection takes no more calls");
	}
}

/* Nobody waits for it any more. */
static void stream_forget(struct gstream *g, uint32_t error_code)
{
	struct grpc_client *c = (struct grpc_client *)g->s.client;

	if (!g->id || !c->h2.session)
		return;
	nghttp2_session_set_stream_user_data(c->h2.session, g->id, NULL);
	nghttp2_submit_rst_stream(c->h2.session, NGHTTP2_FLAG_NONE, g->id, error_code);
}

static void stream_reset(struct rpc_stream *s)
{
	stream_forget((struct gstream *)s, NGHTTP2_CANCEL);
}

static void stream_done(struct rpc_stream *s)
{
	struct gstream *g = (struct gstream *)s;

	grpc_reader_done(&g->reader);
	free(g->message);
}

/* ---- Receiving ---- */

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
		     size_t nname, const uint8_t *value, size_t nvalue, uint8_t flags,
		     void *user_data)
{
	struct gstream *g = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
	const char *k = (const char *)name, *v = (const char *)value;
	uint64_t code;

	/* nghttp2 ends names and values with NUL. */
	if (!g || frame->hd.type != NGHTTP2_HEADERS)
		return 0;
	if (streq(k, ":status")) {
		g->http_status = str_to_u64(v, 10, &code) < 0 ? 0 : (int)MIN(code, (uint64_t)999);
	} else if (streq(k, "grpc-status")) {
		g->status = str_to_u64(v, 10, &code) < 0 ? ERR_UNKNOWN
							 : (int)MIN(code, (uint64_t)INT16_MAX);
	} else if (streq(k, "grpc-message") && nvalue <= RPC_METADATA_MAX) {
		free(g->message);
		g->message = strndup(v, nvalue);
		if (g->message)
			grpc_message_decode(g->message);
	}
	return 0;
}

/* For an answer that is HTTP but not gRPC. */
static int kind_from_http(int status)
{
	switch (status) {
	case 400:
		return ERR_INTERNAL;
	case 401:
		return ERR_UNAUTHENTICATED;
	case 403:
		return ERR_PERMISSION_DENIED;
	case 404:
		return ERR_UNIMPLEMENTED;
	case 429:
	case 502:
	case 503:
	case 504:
		return ERR_UNAVAILABLE;
	default:
		return ERR_UNKNOWN;
	}
}

static void stream_conclude(struct gstream *g)
{
	const char *text = str_or(g->message, "");
	char http[64];
	bool partial = grpc_reader_partial(&g->reader) > 0;

	if (!g->sent_end)
		stream_forget(g, NGHTTP2_CANCEL);
	if (g->status > 0) {
		rpc_stream_end(&g->s, err_kind_from_code(g->status, text), text);
	} else if (g->status == 0) {
		rpc_stream_end(&g->s, partial ? ERR_INTERNAL : 0,
			       partial ? "the answer ends inside of a message" : NULL);
	} else if (g->http_status != 200) {
		snprintf(http, sizeof(http), "unexpected HTTP status %d", g->http_status);
		rpc_stream_end(&g->s, kind_from_http(g->http_status), http);
	} else {
		rpc_stream_end(&g->s, ERR_INTERNAL, "the server ended the stream without a status");
	}
}

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *user_data)
{
	struct grpc_client *c = user_data;
	struct gstream *g;

	c->pinged = false;
	if (frame->hd.type == NGHTTP2_GOAWAY)
		atomic_store(&c->base.lost, true);
	if (frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA)
		c->heard = true;
	if ((frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA) ||
	    !(frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
		return 0;
	g = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
	if (!g)
		return 0;
	rpc_pipe_ref(&g->s.pipe);
	stream_conclude(g);
	nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, NULL);
	rpc_pipe_unref(&g->s.pipe);
	return 0;
}

static void stream_data(struct gstream *g, const uint8_t *p, size_t n)
{
	struct err err = ERR_INIT;
	struct rpc_msg *m;
	int r;

	while ((r = grpc_reader_feed(&g->reader, &p, &n, &m, &err)) > 0)
		rpc_pipe_push(&g->s.pipe, m);
	if (r == 0) {
		stream_credit(g);
		return;
	}
	stream_forget(g, NGHTTP2_CANCEL);
	rpc_stream_end(&g->s, err.kind, err.text);
}

static int on_data_chunk(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data,
			 size_t n, void *user_data)
{
	struct gstream *g = nghttp2_session_get_stream_user_data(session, id);

	nghttp2_session_consume_connection(session, n);
	if (!g || g->http_status != 200) {
		nghttp2_session_consume_stream(session, id, n);
		return 0;
	}
	g->held += n;
	stream_data(g, data, n);
	return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t error_code,
			   void *user_data)
{
	struct gstream *g = nghttp2_session_get_stream_user_data(session, id);
	char text[96];
	int kind;

	if (!g)
		return 0;
	nghttp2_session_set_stream_user_data(session, id, NULL);
	g->id = 0;
	switch (error_code) {
	case NGHTTP2_REFUSED_STREAM:
		kind = ERR_UNAVAILABLE;
		break;
	case NGHTTP2_CANCEL:
		kind = ERR_CANCELED;
		break;
	case NGHTTP2_ENHANCE_YOUR_CALM:
		kind = ERR_RESOURCE_EXHAUSTED;
		break;
	default:
		kind = ERR_INTERNAL;
	}
	snprintf(text, sizeof(text), "the server reset the stream: %s",
		 nghttp2_http2_strerror(error_code));
	rpc_stream_end(&g->s, kind, text);
	return 0;
}

static int callbacks_new(nghttp2_session_callbacks **ret)
{
	nghttp2_session_callbacks *cb;

	if (nghttp2_session_callbacks_new(&cb) != 0)
		return -ENOMEM;
	nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
	nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame_recv);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data_chunk);
	nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_stream_close);
	*ret = cb;
	return 0;
}

/* ---- Connection ---- */

static void client_lost(struct grpc_client *c, const char *text)
{
	loop_source_free(TAKE_PTR(c->keepalive));
	rpc_hub_ref(&c->base.hub);
	c->base.dead = true;
	atomic_store(&c->base.lost, true);
	snprintf(c->base.dead_text, sizeof(c->base.dead_text), "%s", text);
	h2_conn_done(&c->h2);
	rpc_client_die(&c->base, text);
	rpc_hub_unref(&c->base.hub);
}

static void conn_closed(struct h2_conn *h2)
{
	client_lost(client_of(h2), "the connection is closed");
}

static void client_flushed(struct rpc_hub *h)
{
	struct grpc_client *c = (struct grpc_client *)h;

	if (!c->base.dead && !h2_conn_write(&c->h2))
		conn_closed(&c->h2);
}

/* When the next PING is due: after a time of silence, and not too soon after the one before. */
static int64_t keepalive_due(const struct grpc_client *c)
{
	int64_t due = c->h2.last_recv + c->keepalive_ns;

	return c->last_ping && !c->heard ? MAX(due, c->last_ping + KEEPALIVE_SPACE_NS) : due;
}

static void keepalive_tick(void *arg)
{
	struct grpc_client *c = arg;
	int64_t now = time_mono(), due = keepalive_due(c);

	if (c->pinged) {
		client_lost(c, "the server does not answer: keepalive timeout");
		return;
	}
	if (!c->base.streams) {
		c->watching = false;
		return;
	}
	if (now < due) {
		loop_timer_set(c->keepalive, due);
		return;
	}
	c->pinged = true;
	c->heard = false;
	c->last_ping = now;
	nghttp2_submit_ping(c->h2.session, NGHTTP2_FLAG_NONE, NULL);
	loop_timer_set(c->keepalive, now + KEEPALIVE_GRACE_NS);
	client_flushed(&c->base.hub);
}

static void client_close(struct rpc_client *base)
{
	struct grpc_client *c = (struct grpc_client *)base;

	loop_source_free(TAKE_PTR(c->keepalive));
	if (c->h2.session) {
		nghttp2_session_terminate_session(c->h2.session, NGHTTP2_NO_ERROR);
		h2_conn_write(&c->h2);
	}
	h2_conn_done(&c->h2);
}

static void client_free(struct rpc_hub *h)
{
	struct grpc_client *c = (struct grpc_client *)h;

	nghttp2_session_callbacks_del(c->callbacks);
	free(c);
}

static const struct rpc_hub_ops hub_ops = {
	.name = "grpc", .flushed = client_flushed, .free = client_free};

static const struct rpc_client_ops client_ops = {
	.stream_size = sizeof(struct gstream),
	.open = stream_open,
	.flush = stream_flush,
	.reset = stream_reset,
	.done = stream_done,
	.close = client_close,
};

/* The rest of grpc_client_new(), on the loop. */
static void client_attach(void *arg)
{
	struct grpc_client *c = arg;
	struct loop *l = c->base.hub.loop;
	int fd = c->h2.fd, r = 0;

	c->h2.fd = -1;
	if (c->keepalive_ns)
		r = loop_add_timer(l, 0, keepalive_tick, c, &c->keepalive);
	if (r == 0)
		r = h2_conn_init(&c->h2, l, fd, conn_closed);
	if (r < 0) {
		close(fd);
		client_lost(c, "out of memory");
	} else {
		client_flushed(&c->base.hub);
	}
	rpc_hub_unref(&c->base.hub);
}

static int session_setup(struct grpc_client *c)
{
	nghttp2_option *o = h2_options();
	int r;

	if (!o)
		return -ENOMEM;
	r = callbacks_new(&c->callbacks);
	if (r == 0 && nghttp2_session_client_new2(&c->h2.session, c->callbacks, c, o) != 0)
		r = -ENOMEM;
	nghttp2_option_del(o);
	if (r < 0)
		return r;
	return h2_submit_settings(c->h2.session, 0);
}

int grpc_client_new(struct loop *l, int fd, const struct grpc_client_options *o,
		    struct rpc_client **ret)
{
	struct grpc_client *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	rpc_client_init(&c->base, l, &hub_ops, &client_ops);
	c->base.max_recv =
		MIN(o && o->max_recv ? o->max_recv : RPC_MESSAGE_MAX, (size_t)UINT32_MAX);
	c->base.max_send = RPC_MESSAGE_MAX;
	c->keepalive_ns = o ? o->keepalive_ns : 0;
	c->h2.fd = -1;
	r = session_setup(c);
	if (r == 0) {
		c->h2.fd = fd;
		rpc_hub_ref(&c->base.hub);
		if (loop_is_current(l))
			client_attach(c);
		else
			r = loop_post(l, client_attach, c);
	}
	if (r < 0) {
		c->h2.fd = -1;
		h2_conn_done(&c->h2);
		client_free(&c->base.hub);
		return r;
	}
	*ret = &c->base;
	return 0;
}
