/* SPDX-License-Identifier: Apache-2.0 */
/* gRPC server: connections with their calls, all on the loop.
 *
 * A call belongs to its HTTP/2 stream from the HEADERS until the stream closes (the session's user
 * data of the stream is the stream's reference). A unary reply leaves with its trailers in one
 * write; an error without messages is one HEADERS frame. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "base/time.h"
#include "rpc/grpc.h"
#include "rpc/grpc_conn.h"
#include "rpc/listener.h"

#define PATH_MAX_LEN 1024
#define DRAIN_PING "drainack"
/* From one look at the connections that are left to the next. */
#define DRAIN_LOOK_NS (500 * NSEC_PER_MSEC)

struct gconn;

struct grpc_server {
	struct rpc_server core; /* first */
	size_t max_connections;
	uint32_t max_streams;
	int64_t handshake_timeout;
	nghttp2_session_callbacks *callbacks;
	nghttp2_option *option;
	struct rpc_listener *listeners;
	struct gconn *conns;
	size_t n_conns;
	struct h2_conn *dirty;
	bool draining;
	struct loop_source *grace; /* while it drains */
	int64_t drain_end;
	loop_fn drain_fn;
	void *drain_arg;
};

struct gcall {
	struct rpc_call call; /* first */
	struct gconn *conn;   /* NULL once the stream is closed */
	struct gcall *next, *prev;
	int32_t id;
	struct grpc_reader reader;
	size_t held;
	char *req_path;
	int http_status; /* of the answer */
	bool post, grpc_type, bad_header;
	bool malformed;	     /* against HTTP/2's rules for headers; see header_check() */
	unsigned int pseudo; /* bits of those seen */
	bool regular;	     /* one that is no pseudo-header was seen */
	char encoding[32];
	char timeout[16];
	bool got_message, in_eof;
	bool responded, deferred;
};

struct gconn {
	struct h2_conn h2; /* first */
	struct grpc_server *server;
	struct gconn *next, *prev;
	struct gcall *calls;
	struct loop_source *handshake;
};

/* ---- Calls: sending ---- */

static void conn_dirty(struct gconn *c)
{
	if (c->h2.dirty)
		return;
	c->h2.dirty = true;
	c->h2.dirty_next = c->server->dirty;
	c->server->dirty = &c->h2;
}

/* The status as trailers, or (@head) as the whole answer. Zero or nghttp2's error. */
static int status_submit(struct gcall *g, int code, const char *text, bool head)
{
	_cleanup_buf_ struct buf msg = BUF_INIT;
	char number[12], http[12];
	nghttp2_nv nv[8];
	size_t n = 0;
	nghttp2_session *session = g->conn->h2.session;

	snprintf(number, sizeof(number), "%d", code);
	snprintf(http, sizeof(http), "%d", g->http_status);
	grpc_message_encode(&msg, text);
	if (head) {
		nv[n++] = H2_NV(":status", http);
		nv[n++] = H2_NV("content-type", "application/grpc");
		if (g->encoding[0])
			nv[n++] = H2_NV("grpc-accept-encoding", "identity");
	}
	nv[n++] = H2_NV("grpc-status", number);
	if (msg.len > 0 && buf_ok(&msg))
		nv[n++] = H2_NV("grpc-message", msg.data);
	return head ? nghttp2_submit_response(session, g->id, nv, n, NULL)
		    : nghttp2_submit_trailer(session, g->id, nv, n);
}

static ssize_t call_read(nghttp2_session *session, int32_t id, uint8_t *buf, size_t room,
			 uint32_t *flags, nghttp2_data_source *source, void *user_data)
{
	struct gcall *g = nghttp2_session_get_stream_user_data(session, id);
	_cleanup_free_ char *copy = NULL;
	const char *text = "";
	int code = 0;
	bool over, end;
	ssize_t n;

	if (!g)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	pthread_mutex_lock(&g->call.pipe.mu);
	over = rpc_call_status(&g->call, &code, &text);
	if (over)
		copy = strdup(text);
	pthread_mutex_unlock(&g->call.pipe.mu);
	n = h2_pipe_read(&g->call.pipe, buf, room, over, &end);
	if (n < 0) {
		g->deferred = true;
		return NGHTTP2_ERR_DEFERRED;
	}
	/* Finished between the two looks: the flush that follows resumes. */
	if (end && !over) {
		g->deferred = n == 0;
		return n ? n : NGHTTP2_ERR_DEFERRED;
	}
	if (end) {
		*flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
		if (status_submit(g, code, copy ? copy : "", false) != 0)
			return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	}
	return n;
}

static int response_submit(struct gcall *g)
{
	nghttp2_data_provider provider = {.read_callback = call_read};
	nghttp2_nv nv[] = {H2_NV(":status", "200"), H2_NV("content-type", "application/grpc")};

	return nghttp2_submit_response(g->conn->h2.session, g->id, nv, ARRAY_LEN(nv), &provider);
}

static void call_credit(struct gcall *g)
{
	bool gone = !g->call.entry || !rpc_kind_streams_in(g->call.entry->method->kind);

	h2_credit(&g->conn->h2, &g->call.pipe, g->id, &g->held, grpc_reader_partial(&g->reader),
		  gone);
}

static void call_flush(struct rpc_pipe *p)
{
	struct gcall *g = (struct gcall *)p;
	_cleanup_free_ char *copy = NULL;
	const char *text = "";
	int code = 0, r = 0;
	bool over, has;

	rpc_call_flush(&g->call);
	if (!g->conn)
		return;
	call_credit(g);
	pthread_mutex_lock(&p->mu);
	over = rpc_call_status(&g->call, &code, &text);
	has = p->out.head;
	if (over)
		copy = strdup(text);
	pthread_mutex_unlock(&p->mu);
	if (!g->responded && (has || over)) {
		g->responded = true;
		r = over && code && !has ? status_submit(g, code, copy ? copy : "", true)
					 : response_submit(g);
	} else if (g->deferred && (has || over)) {
		g->deferred = false;
		r = nghttp2_session_resume_data(g->conn->h2.session, g->id);
	}
	if (r != 0)
		nghttp2_submit_rst_stream(g->conn->h2.session, NGHTTP2_FLAG_NONE, g->id,
					  NGHTTP2_INTERNAL_ERROR);
	conn_dirty(g->conn);
}

static void call_free(struct rpc_pipe *p)
{
	struct gcall *g = (struct gcall *)p;

	rpc_call_done(&g->call);
	grpc_reader_done(&g->reader);
	free(g->req_path);
	free(g);
}

static const struct rpc_pipe_ops call_ops = {.flush = call_flush, .free = call_free};

static void call_unlink(struct gcall *g)
{
	if (g->prev)
		g->prev->next = g->next;
	else
		g->conn->calls = g->next;
	if (g->next)
		g->next->prev = g->prev;
	g->next = g->prev = NULL;
	g->conn = NULL;
	rpc_call_detach(&g->call);
}

/* ---- Calls: receiving ---- */

/* Ends it with an error now, whether the handler runs or not. */
static void call_fail(struct gcall *g, const struct err *err)
{
	if (g->call.started) {
		rpc_call_cancel(&g->call, err->kind, err->text);
		rpc_pipe_mark(&g->call.pipe);
	} else {
		rpc_call_reject(&g->call, err);
	}
}

static bool call_over(struct gcall *g)
{
	MUTEX_GUARD(&g->call.pipe.mu);
	return g->call.pipe.ended || g->call.finished;
}

static int type_check(struct gcall *g, struct err *err)
{
	if (!g->post) {
		g->http_status = 405;
		return err_set_raw(err, ERR_INTERNAL, "gRPC requests use the method POST");
	}
	if (!g->grpc_type) {
		g->http_status = 415;
		return err_set_raw(err, ERR_INVALID_ARGUMENT, "invalid gRPC request content-type");
	}
	if (g->bad_header || !g->req_path)
		return err_set_raw(err, ERR_RESOURCE_EXHAUSTED,
				   "the request's headers are too large");
	return 0;
}

static int timeout_apply(struct gcall *g, struct err *err)
{
	int64_t now = time_mono(), ns;
	int r;

	if (!g->timeout[0])
		return 0;
	if (grpc_timeout_parse(g->timeout, &ns) < 0)
		return err_set_raw(err, ERR_INTERNAL, "malformed grpc-timeout: \"%s\"", g->timeout);
	if (ns == 0)
		return err_set_raw(err, ERR_DEADLINE_EXCEEDED, "context deadline exceeded");
	r = rpc_call_set_deadline(&g->call, ns > INT64_MAX - now ? INT64_MAX : now + ns);
	return r < 0 ? err_errno(err, r, "set the deadline") : 0;
}

static int call_check(struct gcall *g, struct err *err)
{
	struct rpc_server *core = g->call.server;
	int r = type_check(g, err);

	if (r < 0)
		return r;
	if (g->encoding[0] && !streq(g->encoding, "identity"))
		return err_set_raw(err, ERR_UNIMPLEMENTED,
				   "grpc: message encoding \"%s\" is not supported", g->encoding);
	g->call.entry = rpc_server_find(core, g->req_path);
	if (!g->call.entry) {
		g->call.path = TAKE_PTR(g->req_path);
		return rpc_server_why(core, g->call.path, err);
	}
	rpc_call_set_namespace(&g->call, "containerd-namespace", "containerd-lease");
	return timeout_apply(g, err);
}

static void call_headers(struct gcall *g)
{
	struct err err = ERR_INIT;

	if (call_check(g, &err) < 0)
		call_fail(g, &err);
	else if (rpc_kind_streams_in(g->call.entry->method->kind))
		rpc_call_dispatch(&g->call);
}

static void call_eof(struct gcall *g)
{
	struct err err = ERR_INIT;

	g->in_eof = true;
	if (call_over(g))
		return;
	rpc_pipe_push_eof(&g->call.pipe);
	if (grpc_reader_partial(&g->reader) > 0)
		err_set_raw(&err, ERR_INTERNAL, "the request ends inside of a message");
	else if (!g->call.started && !g->got_message)
		err_set_raw(&err, ERR_INTERNAL, "the request has no message");
	if (err.kind)
		call_fail(g, &err);
	else if (!g->call.started)
		rpc_call_dispatch(&g->call);
}

static void call_data(struct gcall *g, const uint8_t *p, size_t n)
{
	struct err err = ERR_INIT;
	struct rpc_msg *m;
	int r;

	while ((r = grpc_reader_feed(&g->reader, &p, &n, &m, &err)) > 0) {
		if (!rpc_kind_streams_in(g->call.entry->method->kind) && g->got_message) {
			rpc_msg_free(m);
			err_set_raw(&err, ERR_INTERNAL, "the request has more than one message");
			call_fail(g, &err);
			return;
		}
		g->got_message = true;
		rpc_pipe_push(&g->call.pipe, m);
	}
	if (r < 0)
		call_fail(g, &err);
}

/* ---- Session callbacks ---- */

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user_data)
{
	struct gconn *c = user_data;
	struct gcall *g;

	if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
		return 0;
	g = calloc(1, sizeof(*g));
	if (!g)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	if (rpc_call_init(&g->call, &c->server->core, &call_ops) < 0) {
		free(g);
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	}
	g->id = frame->hd.stream_id;
	g->reader.max = c->server->core.max_recv;
	g->http_status = 200;
	g->conn = c;
	g->next = c->calls;
	if (g->next)
		g->next->prev = g;
	c->calls = g;
	nghttp2_session_set_stream_user_data(session, g->id, g);
	return 0;
}

static bool is(const uint8_t *p, size_t n, const char *s)
{
	return n == strlen(s) && memcmp(p, s, n) == 0;
}

static void copy_value(struct gcall *g, char *to, size_t room, const uint8_t *v, size_t n)
{
	if (n >= room) {
		g->bad_header = true;
		return;
	}
	memcpy(to, v, n);
	to[n] = '\0';
}

static bool type_ok(const uint8_t *v, size_t n)
{
	static const char type[] = "application/grpc";
	size_t k = sizeof(type) - 1;

	return n >= k && memcmp(v, type, k) == 0 && (n == k || v[k] == '+' || v[k] == ';');
}

/* HTTP's rules for the headers of requests, but one: clients of gRPC that dial a path (kubelets and
 * crictl among them) send it as :authority, which it cannot be, and nghttp2 would refuse them. So
 * nghttp2 does not check, and this does. */
static bool header_check(struct gcall *g, const uint8_t *name, size_t nname, const uint8_t *value,
			 size_t nvalue)
{
	static const char *const pseudo[] = {":method", ":path", ":scheme", ":authority"};
	static const char *const of_connections[] = {"connection", "keep-alive", "proxy-connection",
						     "transfer-encoding", "upgrade"};

	if (!nghttp2_check_header_value(value, nvalue))
		return false;
	for (unsigned int i = 0; i < ARRAY_LEN(pseudo); i++) {
		if (!is(name, nname, pseudo[i]))
			continue;
		if (g->regular || (g->pseudo & 1u << i))
			return false;
		if (i == 1 && (!nvalue || value[0] != '/'))
			return false;
		g->pseudo |= 1u << i;
		return true;
	}
	g->regular = true;
	for (size_t i = 0; i < ARRAY_LEN(of_connections); i++)
		if (is(name, nname, of_connections[i]))
			return false;
	return nname && name[0] != ':' && nghttp2_check_header_name(name, nname);
}

/* Method, path and scheme must be there. */
static bool headers_whole(const struct gcall *g)
{
	return !g->malformed && (g->pseudo & 7) == 7;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
		     size_t nname, const uint8_t *value, size_t nvalue, uint8_t flags,
		     void *user_data)
{
	struct gcall *g = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);

	if (!g || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
		return 0;
	if (g->malformed || !header_check(g, name, nname, value, nvalue)) {
		g->malformed = true;
		return 0;
	}
	if (is(name, nname, ":path") && nvalue <= PATH_MAX_LEN)
		g->req_path = g->req_path ? g->req_path : strndup((const char *)value, nvalue);
	else if (is(name, nname, ":method"))
		g->post = is(value, nvalue, "POST");
	else if (is(name, nname, "content-type"))
		g->grpc_type = type_ok(value, nvalue);
	else if (is(name, nname, "grpc-encoding"))
		copy_value(g, g->encoding, sizeof(g->encoding), value, nvalue);
	else if (is(name, nname, "grpc-timeout"))
		copy_value(g, g->timeout, sizeof(g->timeout), value, nvalue);
	else if (nname && name[0] != ':' &&
		 rpc_call_add_metadata(&g->call, (const char *)name, nname, (const char *)value,
				       nvalue) < 0)
		g->bad_header = true;
	return 0;
}

static void handshake_over(struct gconn *c)
{
	loop_source_free(TAKE_PTR(c->handshake));
}

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *user_data)
{
	struct gconn *c = user_data;
	struct gcall *g;

	if (frame->hd.type == NGHTTP2_SETTINGS)
		handshake_over(c);
	if (frame->hd.type == NGHTTP2_PING && (frame->hd.flags & NGHTTP2_FLAG_ACK) &&
	    c->server->draining && memcmp(frame->ping.opaque_data, DRAIN_PING, 8) == 0)
		nghttp2_submit_goaway(session, NGHTTP2_FLAG_NONE,
				      nghttp2_session_get_last_proc_stream_id(session),
				      NGHTTP2_NO_ERROR, NULL, 0);
	if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA)
		return 0;
	g = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
	if (!g)
		return 0;
	if (!headers_whole(g))
		return nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, g->id,
						 NGHTTP2_PROTOCOL_ERROR);
	if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST)
		call_headers(g);
	if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM)
		call_eof(g);
	return 0;
}

static int on_data_chunk(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data,
			 size_t n, void *user_data)
{
	struct gcall *g = nghttp2_session_get_stream_user_data(session, id);

	/* A stream that is not read holds back its own window, never the connection's. */
	nghttp2_session_consume_connection(session, n);
	if (!g || !g->call.entry || call_over(g)) {
		nghttp2_session_consume_stream(session, id, n);
		return 0;
	}
	g->held += n;
	call_data(g, data, n);
	call_credit(g);
	return 0;
}

/* A reply that is complete before the request: the client need not send the rest. */
static int on_frame_send(nghttp2_session *session, const nghttp2_frame *frame, void *user_data)
{
	struct gcall *g;

	if (frame->hd.type != NGHTTP2_HEADERS || !(frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
		return 0;
	g = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
	if (g && !g->in_eof)
		nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id,
					  NGHTTP2_NO_ERROR);
	return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t error_code,
			   void *user_data)
{
	struct gcall *g = nghttp2_session_get_stream_user_data(session, id);

	if (g) {
		nghttp2_session_set_stream_user_data(session, id, NULL);
		call_unlink(g);
	}
	return 0;
}

static int callbacks_new(nghttp2_session_callbacks **ret)
{
	nghttp2_session_callbacks *cb;

	if (nghttp2_session_callbacks_new(&cb) != 0)
		return -ENOMEM;
	nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin_headers);
	nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
	nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame_recv);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data_chunk);
	nghttp2_session_callbacks_set_on_frame_send_callback(cb, on_frame_send);
	nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_stream_close);
	*ret = cb;
	return 0;
}

/* ---- Connections ---- */

static void drain_check(struct grpc_server *s)
{
	loop_fn fn = s->drain_fn;

	if (!s->draining || s->conns || !fn)
		return;
	s->drain_fn = NULL;
	loop_source_free(TAKE_PTR(s->grace));
	fn(s->drain_arg);
}

static void conn_free(struct gconn *c)
{
	struct grpc_server *s = c->server;

	if (c->h2.dirty) {
		struct h2_conn **p = &s->dirty;

		while (*p != &c->h2)
			p = &(*p)->dirty_next;
		*p = c->h2.dirty_next;
	}
	while (c->calls)
		call_unlink(c->calls);
	handshake_over(c);
	h2_conn_done(&c->h2);
	if (c->prev)
		c->prev->next = c->next;
	else if (s->conns == c)
		s->conns = c->next;
	if (c->next)
		c->next->prev = c->prev;
	s->n_conns--;
	free(c);
	drain_check(s);
}

static void conn_closed(struct h2_conn *h2)
{
	conn_free((struct gconn *)h2);
}

static void handshake_timeout(void *arg)
{
	conn_free(arg);
}

static void server_flushed(struct rpc_hub *h)
{
	struct grpc_server *s = (struct grpc_server *)h;

	while (s->dirty) {
		struct h2_conn *c = s->dirty;

		s->dirty = c->dirty_next;
		c->dirty = false;
		if (!h2_conn_write(c))
			conn_closed(c);
	}
}

static int conn_setup(struct gconn *c, int fd)
{
	struct grpc_server *s = c->server;
	int r;

	if (nghttp2_session_server_new2(&c->h2.session, s->callbacks, c, s->option) != 0)
		return -ENOMEM;
	r = h2_submit_settings(c->h2.session, s->max_streams);
	if (r < 0)
		return r;
	r = loop_add_timer(s->core.hub.loop, time_mono() + s->handshake_timeout, handshake_timeout,
			   c, &c->handshake);
	if (r < 0)
		return r;
	return h2_conn_init(&c->h2, s->core.hub.loop, fd, conn_closed);
}

static void accepted(void *arg, int fd)
{
	struct grpc_server *s = arg;
	struct gconn *c;

	c = s->n_conns < s->max_connections ? calloc(1, sizeof(*c)) : NULL;
	if (!c) {
		close(fd);
		return;
	}
	c->server = s;
	c->h2.fd = -1;
	if (conn_setup(c, fd) < 0) {
		handshake_over(c);
		h2_conn_done(&c->h2);
		free(c);
		close(fd);
		return;
	}
	c->next = s->conns;
	if (c->next)
		c->next->prev = c;
	s->conns = c;
	s->n_conns++;
	if (!h2_conn_write(&c->h2))
		conn_free(c);
}

/* ---- Server ---- */

static void server_free(struct rpc_hub *h)
{
	struct grpc_server *s = (struct grpc_server *)h;

	rpc_server_done(&s->core);
	nghttp2_session_callbacks_del(s->callbacks);
	nghttp2_option_del(s->option);
	free(s);
}

static const struct rpc_hub_ops hub_ops = {
	.name = "grpc", .flushed = server_flushed, .free = server_free};

int grpc_server_new(struct loop *l, struct pool *p, const struct grpc_server_options *o,
		    struct grpc_server **ret)
{
	static const struct grpc_server_options none;
	struct grpc_server *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	if (!o)
		o = &none;
	rpc_hub_init(&s->core.hub, l, &hub_ops);
	s->core.pool = p;
	s->core.max_recv = MIN(o->max_recv ? o->max_recv : RPC_MESSAGE_MAX, (size_t)UINT32_MAX);
	s->core.max_send = MIN(o->max_send ? o->max_send : RPC_MESSAGE_MAX, (size_t)UINT32_MAX);
	s->core.on_done = o->on_done;
	s->core.on_done_arg = o->on_done_arg;
	s->max_connections = o->max_connections ? o->max_connections : 4096;
	s->max_streams = (uint32_t)MIN(o->max_streams ? o->max_streams : 1000, (size_t)INT32_MAX);
	s->handshake_timeout =
		o->handshake_timeout_ns ? o->handshake_timeout_ns : 20 * NSEC_PER_SEC;
	s->option = h2_options();
	if (s->option)
		nghttp2_option_set_no_http_messaging(s->option, 1);
	if (!s->option || callbacks_new(&s->callbacks) < 0) {
		rpc_hub_unref(&s->core.hub);
		return -ENOMEM;
	}
	*ret = s;
	return 0;
}

int grpc_server_add(struct grpc_server *s, const struct rpc_service *service)
{
	return rpc_server_add(&s->core, service);
}

int grpc_server_listen(struct grpc_server *s, int fd)
{
	return rpc_listener_add(&s->listeners, s->core.hub.loop, fd, accepted, s);
}

void grpc_server_take(struct grpc_server *s, int fd)
{
	if (s->draining)
		close(fd);
	else
		accepted(s, fd);
}

void grpc_server_stats(const struct grpc_server *s, rpc_stats_fn fn, void *arg)
{
	for (size_t i = 0; i < s->core.n_entries; i++) {
		const struct rpc_entry *e = &s->core.entries[i];

		fn(arg, e->service, e->method, e->stats);
	}
}

const struct rpc_service *const *grpc_server_services(const struct grpc_server *s, size_t *ret_n)
{
	*ret_n = s->core.n_services;
	return s->core.services;
}

static void drain_posted(void *arg)
{
	drain_check(arg);
}

/* A client that sleeps does not answer our notice: it is not waited for when it has no calls. When
 * time is up, what is left is cut off. */
static void drain_look(void *arg)
{
	struct grpc_server *s = arg;
	int64_t now = time_mono();
	struct gconn *next;

	for (struct gconn *c = s->conns; c; c = next) {
		bool last = s->conns == c && !c->next;

		next = c->next;
		if (now < s->drain_end && (c->calls || c->h2.want_out))
			continue;
		conn_free(c);
		if (last)
			return;
	}
	loop_timer_set(s->grace, MIN(now + DRAIN_LOOK_NS, s->drain_end));
}

/* Calls that wait for what may never happen must not hold up the end. */
static void waits_end(struct gconn *c)
{
	struct err err = ERR_INIT;
	struct gcall *next;

	err_set_raw(&err, ERR_UNAVAILABLE, "the server is stopping");
	for (struct gcall *g = c->calls; g; g = next) {
		next = g->next;
		if (atomic_load(&g->call.waits) && !call_over(g))
			call_fail(g, &err);
	}
}

void grpc_server_drain(struct grpc_server *s, int64_t grace_ns, loop_fn fn, void *arg)
{
	struct gconn *next;

	if (s->draining)
		return;
	rpc_listeners_free(&s->listeners);
	s->draining = true;
	/* A client may have sent calls that we have not seen: the last stream is only named after a
	 * round trip. */
	for (struct gconn *c = s->conns; c; c = next) {
		next = c->next;
		waits_end(c);
		nghttp2_submit_shutdown_notice(c->h2.session);
		nghttp2_submit_ping(c->h2.session, NGHTTP2_FLAG_NONE, (const uint8_t *)DRAIN_PING);
		if (!h2_conn_write(&c->h2))
			conn_free(c);
	}
	s->drain_fn = fn;
	s->drain_arg = arg;
	s->drain_end = time_mono() + MAX(grace_ns, (int64_t)1);
	if (!s->conns) {
		loop_post(s->core.hub.loop, drain_posted, s);
	} else if (loop_add_timer(s->core.hub.loop, MIN(time_mono() + DRAIN_LOOK_NS, s->drain_end),
				  drain_look, s, &s->grace) < 0) {
		s->drain_end = 0;
		drain_look(s);
	}
}

void grpc_server_free(struct grpc_server *s)
{
	if (!s)
		return;
	rpc_listeners_free(&s->listeners);
	s->drain_fn = NULL;
	loop_source_free(TAKE_PTR(s->grace));
	while (s->conns)
		conn_free(s->conns);
	rpc_hub_abandon(&s->core.hub);
}
