/* SPDX-License-Identifier: Apache-2.0 */
/* The request that brings a token: it asks for an upgrade to WebSocket or to SPDY/3.1, and names
 * the protocols of streams that its sender knows, of which the first that we know is taken. */
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/str.h"
#include "cri/streaming_internal.h"

#define SPDY "SPDY/3.1"
#define ACCEPTED "X-Accepted-Stream-Protocol-Versions"
#define VERSION "X-Stream-Protocol-Version"

struct protocol {
	const char *name; /* "" = none was asked for */
	int version;
	bool base64;
};

static const struct protocol spdy_command[] = {
	{"v4.channel.k8s.io", 4, false},
	{"v3.channel.k8s.io", 3, false},
	{"v2.channel.k8s.io", 2, false},
	{"channel.k8s.io", 1, false},
	{"", 1, false},
	{NULL, 0, false},
};
static const struct protocol spdy_forward[] = {
	{"portforward.k8s.io", 1, false},
	{"", 1, false},
	{NULL, 0, false},
};
static const struct protocol websocket_command[] = {
	{"", 1, false},
	{"channel.k8s.io", 1, false},
	{"base64.channel.k8s.io", 1, true},
	{"v4.channel.k8s.io", 4, false},
	{"v4.base64.channel.k8s.io", 4, true},
	{"v5.channel.k8s.io", 5, false},
	{NULL, 0, false},
};
static const struct protocol websocket_forward[] = {
	{"", 4, false},
	{"v4.channel.k8s.io", 4, false},
	{"v4.base64.channel.k8s.io", 4, true},
	{NULL, 0, false},
};

/* ---- headers ---- */

/* Whether one of the comma-separated words of the header @name is @word. */
static bool header_has(const struct front_request *q, const char *name, const char *word)
{
	struct front_header h;

	for (size_t i = 0; front_request_header_at(q, i, &h); i++) {
		const char *p = h.value;

		if (strcasecmp(h.name, name) != 0)
			continue;
		while (*p) {
			size_t n;

			p += strspn(p, " \t,");
			n = strcspn(p, " \t,");
			if (n == strlen(word) && strncasecmp(p, word, n) == 0)
				return true;
			p += n;
		}
	}
	return false;
}

static const struct protocol *find(const struct protocol *list, const char *name, size_t n)
{
	for (; list->name; list++)
		if (strlen(list->name) == n && memcmp(list->name, name, n) == 0)
			return list;
	return NULL;
}

/* NULL = what is asked for is not known here. */
static const struct protocol *negotiate(const struct front_request *q, const char *header,
					const struct protocol *known)
{
	struct front_header h;
	bool asked = false;

	for (size_t i = 0; front_request_header_at(q, i, &h); i++) {
		const char *p = h.value;

		if (strcasecmp(h.name, header) != 0)
			continue;
		while (*(p += strspn(p, " \t,"))) {
			size_t n = strcspn(p, " \t,");
			const struct protocol *found = find(known, p, n);

			if (found)
				return found;
			asked = true;
			p += n;
		}
	}
	return asked ? NULL : find(known, "", 0);
}

/* ---- answers ---- */

static void refuse_protocol(struct front_request *q, const struct protocol *known)
{
	static const char text[] = "unable to upgrade: unable to negotiate protocol\n";
	struct front_header h[8];
	size_t n = 0;

	for (; known->name; known++)
		if (*known->name && n < ARRAY_LEN(h))
			h[n++] = (struct front_header){ACCEPTED, known->name};
	front_reply_headers(q, 403, "text/plain; charset=utf-8", h, n, text, strlen(text));
}

static void refuse_error(struct front_request *q, const struct err *err)
{
	char seconds[16];
	struct front_header h = {"Retry-After", seconds};

	snprintf(seconds, sizeof(seconds), "%d", STREAM_TOKEN_SECONDS);
	if (err->kind == ERR_RESOURCE_EXHAUSTED)
		front_reply_headers(q, 429, "text/plain; charset=utf-8", &h, 1, err->text,
				    strlen(err->text));
	else
		front_reply_text(q, err->kind == ERR_UNAVAILABLE ? 503 : 500, "%s", err->text);
}

/* Which streams a client has. */
static void streams_of(const struct stream_request *q, bool resize, const char *ret[6])
{
	size_t n = 0;

	ret[n++] = "error";
	if (q->in)
		ret[n++] = "stdin";
	if (q->out)
		ret[n++] = "stdout";
	if (q->err)
		ret[n++] = "stderr";
	if (resize)
		ret[n++] = "resize";
	ret[n] = NULL;
}

/* Takes @q and @s over. */
static void upgrade(struct front_request *q, struct cri_streaming *s, struct stream_request *s_q,
		    bool websocket, const struct protocol *p)
{
	const char *streams[6];
	struct front_header h[2] = {{"Upgrade", websocket ? "websocket" : SPDY},
				    {websocket ? "Sec-WebSocket-Protocol" : VERSION, p->name}};
	bool forward = s_q->kind == STREAM_FORWARD;
	struct front_session x = {.websocket = websocket,
				  .base64 = p->base64,
				  .close_signal = websocket && p->version >= 5,
				  .forward = forward,
				  .streams = forward ? NULL : streams,
				  .create_ms = STREAM_CREATE_MS,
				  .idle_ms = stream_idle_ms(s)};
	_cleanup_free_ int32_t *ports = NULL;
	struct err err = ERR_INIT;
	int pair[2];

	streams_of(s_q, s_q->tty && p->version >= 3, streams);
	/* The session's thread owns the request from its start on. */
	ports = calloc(s_q->n_ports + 1, sizeof(*ports));
	if (!ports || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
		stream_request_free(s_q);
		front_reply_text(q, 503, "out of descriptors or memory");
		return;
	}
	if (s_q->n_ports > 0)
		memcpy(ports, s_q->ports, s_q->n_ports * sizeof(*ports));
	x.ports = ports;
	x.n_ports = s_q->n_ports;
	if (stream_session_start(s, s_q, p->version >= 4, pair[0], &err) < 0) {
		close(pair[1]);
		refuse_error(q, &err);
		return;
	}
	front_reply_session(q, h, *p->name ? 2 : 1, &x, pair[1]);
}

static void serve_websocket(struct front_request *q, struct cri_streaming *s,
			    struct stream_request *s_q)
{
	bool forward = s_q->kind == STREAM_FORWARD;
	const char *version = front_request_header(q, "Sec-WebSocket-Version");
	const struct protocol *p = negotiate(q, "Sec-WebSocket-Protocol",
					     forward ? websocket_forward : websocket_command);
	struct front_header h = {"Sec-WebSocket-Version", "13"};

	if (!front_request_header(q, "Sec-WebSocket-Key") || !version || !streq(version, "13"))
		front_reply_headers(q, 400, NULL, &h, 1, NULL, 0);
	else if (!streq(front_method(q), "GET"))
		front_reply_text(q, 405, "a WebSocket is asked for by GET");
	else if (!p)
		front_reply_text(q, 403, "unable to upgrade: unable to negotiate protocol");
	else if (forward && s_q->n_ports == 0)
		front_reply_text(q, 400, "no ports were asked for");
	else if (forward && s_q->n_ports > 64)
		front_reply_text(q, 400, "more than 64 ports were asked for");
	else
		upgrade(q, s, TAKE_PTR(s_q), true, p);
	stream_request_free(s_q);
}

static void serve_spdy(struct front_request *q, struct cri_streaming *s, struct stream_request *s_q)
{
	const struct protocol *known = s_q->kind == STREAM_FORWARD ? spdy_forward : spdy_command,
			      *p = negotiate(q, VERSION, known);

	if (!p)
		refuse_protocol(q, known);
	else if (!header_has(q, "Connection", "upgrade") || !header_has(q, "Upgrade", SPDY))
		front_reply_text(q, 400, "unable to upgrade: missing upgrade headers in request");
	else
		upgrade(q, s, TAKE_PTR(s_q), false, p);
	stream_request_free(s_q);
}

static void serve(struct front_request *q, struct cri_streaming *s, enum stream_kind kind)
{
	const char *token = strrchr(front_path(q), '/') + 1;
	const char *before = strchr(front_path(q) + 1, '/') + 1;
	/* The path is "/<what>/<token>" and nothing more. */
	struct stream_request *s_q = token == before ? stream_token_use(s, token) : NULL;

	if (!s_q || s_q->kind != kind) {
		stream_request_free(s_q);
		front_reply_text(q, 404, "404 page not found");
	} else if (header_has(q, "Upgrade", "websocket") &&
		   header_has(q, "Connection", "upgrade")) {
		serve_websocket(q, s, s_q);
	} else {
		serve_spdy(q, s, s_q);
	}
}

void stream_http_exec(struct front_request *q, void *arg)
{
	serve(q, arg, STREAM_EXEC);
}

void stream_http_attach(struct front_request *q, void *arg)
{
	serve(q, arg, STREAM_ATTACH);
}

void stream_http_forward(struct front_request *q, void *arg)
{
	serve(q, arg, STREAM_FORWARD);
}
