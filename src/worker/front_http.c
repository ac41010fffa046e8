/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/1.1 on libmicrohttpd. A request that is complete goes to the daemon as a message, and its
 * connection sleeps until the answer is there. An answer's body is a file (sent as it is), a pipe
 * (the connection sleeps while it is empty), or the bytes that an upgraded connection exchanges
 * with a socket of the daemon. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/str.h"
#include "worker/front.h"
#include "worker/tunnel.h"

#define PIECE (16u << 10)

enum state { HTTP_READING, HTTP_ASKED, HTTP_ANSWERED, HTTP_OVER };

struct http_request {
	struct front *front;
	struct http_request *prev, *next;
	struct MHD_Connection *connection;
	int64_t id; /* 0 = the daemon does not know of it */
	size_t listener;
	enum state state;
	bool too_large;
	struct buf body;
	json_t *reply;	  /* the daemon's answer */
	struct source fd; /* and what came with it */
	struct MHD_UpgradeResponseHandle *upgraded;
};

/* ---- small answers of our own ---- */

static enum MHD_Result refuse(struct MHD_Connection *c, unsigned status)
{
	const char *text = MHD_get_reason_phrase_for(status);
	struct MHD_Response *r =
		MHD_create_response_from_buffer(strlen(text), (void *)text, MHD_RESPMEM_PERSISTENT);
	enum MHD_Result k = MHD_NO;

	if (r) {
		(void)MHD_add_response_header(r, "Content-Type", "text/plain; charset=utf-8");
		k = MHD_queue_response(c, status, r);
		MHD_destroy_response(r);
	}
	return k;
}

/* ---- requests ---- */

static enum MHD_Result add_pair(void *arg, enum MHD_ValueKind kind, const char *key,
				const char *value)
{
	json_t *list = arg, *pair = json_pack("[s,s]", key, value ? value : "");

	(void)kind;
	/* What is not UTF-8 has no pair; the caller counts. */
	if (pair)
		(void)json_array_append_new(list, pair);
	return MHD_YES;
}

/* NULL = not UTF-8, or no memory. */
static json_t *pairs(struct MHD_Connection *c, enum MHD_ValueKind kind)
{
	json_t *list = json_array();
	int n = list ? MHD_get_connection_values(c, kind, add_pair, list) : 0;

	if (list && n >= 0 && json_array_size(list) == (size_t)n)
		return list;
	json_decref(list);
	return NULL;
}

static json_t *request_message(struct http_request *q, const char *url, const char *method)
{
	const char *body = q->body.data ? q->body.data : "";
	json_t *query = pairs(q->connection, MHD_GET_ARGUMENT_KIND),
	       *headers = pairs(q->connection, MHD_HEADER_KIND);

	/* Taken over even when it fails. */
	return json_pack("{s:{s:I,s:i,s:s,s:s,s:o,s:o,s:s%}}", "request", "id", (json_int_t)q->id,
			 "listener", (int)q->listener, "method", method, "path", url, "query",
			 query, "headers", headers, "body", body, q->body.len);
}

/* All of the request is here. */
static enum MHD_Result ask(struct http_request *q, const char *url, const char *method)
{
	struct front *f = q->front;
	json_t *m;

	if (q->too_large)
		return refuse(q->connection, MHD_HTTP_CONTENT_TOO_LARGE);
	/* The daemon takes no message with a NUL, and would take this process for broken. */
	if (q->body.len > 0 && memchr(q->body.data, 0, q->body.len))
		return refuse(q->connection, MHD_HTTP_BAD_REQUEST);
	q->id = ++f->last_id;
	m = request_message(q, url, method);
	if (!m) {
		q->id = 0;
		return refuse(q->connection, MHD_HTTP_BAD_REQUEST);
	}
	q->state = HTTP_ASKED;
	MHD_suspend_connection(q->connection);
	front_send(f, m, -1);
	return MHD_YES;
}

static void request_free(struct http_request *q)
{
	struct front *f = q->front;

	source_set(f, &q->fd, 0);
	if (q->fd.fd >= 0)
		close(q->fd.fd);
	if (q->prev)
		q->prev->next = q->next;
	else
		f->requests = q->next;
	if (q->next)
		q->next->prev = q->prev;
	json_decref(q->reply);
	buf_done(&q->body);
	free(q);
}

static void on_completed(void *arg, struct MHD_Connection *c, void **state,
			 enum MHD_RequestTerminationCode why)
{
	(void)arg;
	(void)c;
	(void)why;
	if (*state)
		request_free(TAKE_PTR(*state));
}

static size_t *connection_listener(struct MHD_Connection *c)
{
	const union MHD_ConnectionInfo *i =
		MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

	return i ? i->socket_context : NULL;
}

static struct http_request *request_new(struct front *f, struct MHD_Connection *c)
{
	struct http_request *q = calloc(1, sizeof(*q));
	const size_t *listener = connection_listener(c);

	if (!q)
		return NULL;
	q->front = f;
	q->connection = c;
	q->fd.fd = -1;
	q->listener = listener ? *listener : 0;
	q->next = f->requests;
	if (q->next)
		q->next->prev = q;
	f->requests = q;
	return q;
}

static enum MHD_Result begin(struct http_request *q)
{
	const char *length = MHD_lookup_connection_value(q->connection, MHD_HEADER_KIND,
							 MHD_HTTP_HEADER_CONTENT_LENGTH);
	uint64_t n;

	/* Nobody has to send what nobody will read. */
	if (length && str_to_u64(length, 10, &n) == 0 && n > BODY_MAX)
		return refuse(q->connection, MHD_HTTP_CONTENT_TOO_LARGE);
	return MHD_YES;
}

static enum MHD_Result respond(struct http_request *q);

static enum MHD_Result on_request(void *arg, struct MHD_Connection *c, const char *url,
				  const char *method, const char *version, const char *data,
				  size_t *n, void **state)
{
	struct http_request *q = *state;

	(void)version;
	if (!q) {
		q = request_new(arg, c);
		*state = q;
		return q ? begin(q) : MHD_NO;
	}
	if (*n > 0) {
		if (q->body.len + *n > BODY_MAX || buf_add(&q->body, data, *n) < 0)
			q->too_large = true;
		*n = 0;
		return MHD_YES;
	}
	switch (q->state) {
	case HTTP_READING:
		return ask(q, url, method);
	case HTTP_ANSWERED:
		return respond(q);
	default:
		return MHD_YES;
	}
}

/* ---- responses ---- */

/* The daemon writes again, or has closed. */
static void on_pipe(struct source *s, uint32_t events)
{
	struct http_request *q =
		(struct http_request *)((char *)s - offsetof(struct http_request, fd));

	(void)events;
	source_set(q->front, s, 0);
	MHD_resume_connection(q->connection);
	q->front->http_touched = true;
}

static ssize_t read_pipe(void *arg, uint64_t pos, char *p, size_t room)
{
	struct http_request *q = arg;
	ssize_t n;

	(void)pos;
	do
		n = read(q->fd.fd, p, room);
	while (n < 0 && errno == EINTR);
	if (n > 0)
		return n;
	if (n == 0)
		return MHD_CONTENT_READER_END_OF_STREAM;
	if (errno != EAGAIN || source_set(q->front, &q->fd, EPOLLIN) < 0)
		return MHD_CONTENT_READER_END_WITH_ERROR;
	MHD_suspend_connection(q->connection);
	return 0;
}

/* The relay of an upgraded connection has ended. */
static void upgrade_closed(void *arg)
{
	struct http_request *q = arg;

	(void)MHD_upgrade_action(q->upgraded, MHD_UPGRADE_ACTION_CLOSE);
	q->front->http_touched = true;
}

static void on_upgraded(void *arg, struct MHD_Connection *c, void *state, const char *extra,
			size_t n_extra, MHD_socket sock, struct MHD_UpgradeResponseHandle *urh)
{
	struct http_request *q = arg;
	struct relay *r = NULL;

	(void)c;
	(void)state;
	q->upgraded = urh;
	if (json_obj(q->reply, "session")) {
		tunnel_start(q->front, sock, upgrade_closed, q, json_obj(q->reply, "session"),
			     TAKE_FD(q->fd.fd), extra, n_extra);
		return;
	}
	if (fd_set_nonblock(sock, true) == 0)
		r = relay_new(q->front, sock);
	if (!r) {
		(void)MHD_upgrade_action(urh, MHD_UPGRADE_ACTION_CLOSE);
		return;
	}
	r->closed = upgrade_closed;
	r->arg = q;
	relay_set_peer(r, TAKE_FD(q->fd.fd));
	if (relay_push(r, extra, n_extra) < 0)
		relay_kill(r);
	else
		relay_pump(r);
}

static struct MHD_Response *response_new(struct http_request *q)
{
	const char *body = json_str(q->reply, "body", "none");
	struct stat st;

	if (streq(body, "file") && q->fd.fd >= 0 && fstat(q->fd.fd, &st) == 0)
		return MHD_create_response_from_fd((size_t)st.st_size, TAKE_FD(q->fd.fd));
	if (q->fd.fd >= 0 && fd_set_nonblock(q->fd.fd, true) < 0)
		return NULL;
	if (streq(body, "pipe") && q->fd.fd >= 0)
		return MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, PIECE, read_pipe, q,
							 NULL);
	if ((streq(body, "upgrade") || streq(body, "session")) && q->fd.fd >= 0)
		return MHD_create_response_for_upgrade(on_upgraded, q);
	return MHD_create_response_from_buffer(0, (void *)"", MHD_RESPMEM_PERSISTENT);
}

static void add_headers(struct MHD_Response *r, const json_t *list)
{
	size_t i;
	json_t *pair;

	json_array_foreach (list, i, pair) {
		const char *name = json_string_value(json_array_get(pair, 0)),
			   *value = json_string_value(json_array_get(pair, 1));

		if (name && value)
			(void)MHD_add_response_header(r, name, value);
	}
}

/* What a WebSocket client gets, to know that its request was understood. */
static void add_accept(struct http_request *q, struct MHD_Response *r)
{
	static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
	const char *key =
		MHD_lookup_connection_value(q->connection, MHD_HEADER_KIND, "Sec-WebSocket-Key");
	_cleanup_buf_ struct buf b = BUF_INIT, text = BUF_INIT;
	uint8_t sum[20];

	if (!key || buf_printf(&b, "%s%s", key, guid) < 0 ||
	    gnutls_hash_fast(GNUTLS_DIG_SHA1, b.data, b.len, sum) < 0)
		return;
	base64_encode(&text, sum, sizeof(sum));
	if (buf_ok(&text))
		(void)MHD_add_response_header(r, "Sec-WebSocket-Accept", text.data);
}

static enum MHD_Result respond(struct http_request *q)
{
	const char *protocol = json_str(json_obj(q->reply, "session"), "protocol", "");
	struct MHD_Response *r = response_new(q);
	unsigned status = (unsigned)json_int(q->reply, "status", 500);
	enum MHD_Result k;

	q->state = HTTP_OVER;
	if (!r)
		return refuse(q->connection, MHD_HTTP_INTERNAL_SERVER_ERROR);
	add_headers(r, json_arr(q->reply, "headers"));
	if (streq(protocol, "websocket"))
		add_accept(q, r);
	k = MHD_queue_response(q->connection, status, r);
	MHD_destroy_response(r);
	/* An upgrade of an HTTP/1.0 client, say. */
	return k == MHD_YES ? k : refuse(q->connection, MHD_HTTP_BAD_REQUEST);
}

void web_answer(struct front *f, const json_t *reply, int fd)
{
	int64_t id = json_int(reply, "id", 0);
	struct http_request *q = f->requests;

	while (q && q->id != id)
		q = q->next;
	if (!q || id == 0 || q->state != HTTP_ASKED) {
		if (fd >= 0)
			close(fd);
		return;
	}
	q->reply = json_incref((json_t *)reply);
	q->fd = (struct source){.fn = on_pipe, .fd = fd};
	q->state = HTTP_ANSWERED;
	MHD_resume_connection(q->connection);
	f->http_touched = true;
}

/* ---- the server ---- */

/* A connection remembers the listener that it came through. */
static size_t accepting;

static void on_connection(void *arg, struct MHD_Connection *c, void **context,
			  enum MHD_ConnectionNotificationCode what)
{
	static const size_t numbers[LISTENERS_MAX] = {0, 1, 2, 3, 4, 5, 6, 7};

	(void)arg;
	(void)c;
	if (what == MHD_CONNECTION_NOTIFY_STARTED)
		*context = (void *)&numbers[accepting % LISTENERS_MAX];
}

void web_accept(struct front *f, int fd, const struct sockaddr *addr, socklen_t len,
		size_t listener)
{
	accepting = listener;
	(void)MHD_add_connection(f->http, fd, addr, len);
	f->http_touched = true;
}

static void on_epoll(struct source *s, uint32_t events)
{
	struct front *f = (struct front *)((char *)s - offsetof(struct front, http_source));

	(void)events;
	f->http_touched = true;
}

int web_start(struct front *f, struct err *err)
{
	const union MHD_DaemonInfo *i;

	f->http = MHD_start_daemon(
		MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME |
			MHD_ALLOW_UPGRADE,
		0, NULL, NULL, on_request, f, MHD_OPTION_NOTIFY_COMPLETED, on_completed, f,
		MHD_OPTION_NOTIFY_CONNECTION, on_connection, f, MHD_OPTION_CONNECTION_LIMIT,
		(unsigned)f->max_connections, MHD_OPTION_CONNECTION_TIMEOUT, IDLE_SECONDS,
		MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HEAD_MAX, MHD_OPTION_STRICT_FOR_CLIENT,
		1, MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_END);
	i = f->http ? MHD_get_daemon_info(f->http, MHD_DAEMON_INFO_EPOLL_FD) : NULL;
	if (!i)
		return err_set(err, ERR_UNAVAILABLE, "start the HTTP server");
	f->http_source = (struct source){.fn = on_epoll, .fd = i->epoll_fd};
	if (source_set(f, &f->http_source, EPOLLIN) < 0)
		return err_errno(err, errno, "watch the HTTP server");
	return 0;
}
