/* SPDX-License-Identifier: Apache-2.0 */
/* Channels as streams of SPDY/3.1.
 *
 * Flow control: what the client may send is told by WINDOW_UPDATE as its bytes are passed on, but
 * nobody is punished who sends more (he waits in TCP). What we send counts against the client's
 * windows from its first WINDOW_UPDATE or SETTINGS on; the clients of Kubernetes send neither, and
 * would wait for ever for more than the first 64 KiB. */
#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "worker/tunnel.h"

#define TELL (16u << 10) /* consumed bytes that are worth a WINDOW_UPDATE */

/* ---- what is sent ---- */

static size_t room(const struct tunnel *t, const struct channel *c)
{
	int64_t n = MIN(t->window, c->window);

	return !t->flow ? PIECE_MAX : n <= 0 ? 0 : MIN((size_t)n, PIECE_MAX);
}

static void write_data(struct tunnel *t, struct channel *c, const void *p, size_t n)
{
	spdy_data(&t->out, c->id, p, n, false);
	c->window -= (int64_t)n;
	t->window -= (int64_t)n;
}

static void end(struct tunnel *t, struct channel *c)
{
	spdy_data(&t->out, c->id, NULL, 0, true);
}

static void consumed(struct tunnel *t, struct channel *c, size_t n)
{
	t->consumed += (uint32_t)n;
	if (t->consumed >= TELL) {
		spdy_window(&t->out, 0, t->consumed);
		t->consumed = 0;
	}
	if (!c || c->in_end)
		return;
	c->consumed += (uint32_t)n;
	if (c->consumed >= TELL) {
		spdy_window(&t->out, c->id, c->consumed);
		c->consumed = 0;
	}
}

static void finish(struct tunnel *t, bool fault)
{
	spdy_goaway(&t->out, t->last_id, fault ? SPDY_PROTOCOL_ERROR : 0);
}

/* ---- what comes ---- */

static const char *header(const struct spdy_header *h, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (streq(h[i].name, name))
			return h[i].value;
	return NULL;
}

static bool role_of(const struct tunnel *t, const char *type, enum channel_role *ret)
{
	static const struct {
		const char *name;
		enum channel_role role;
		bool ports, command;
	} roles[] = {
		{"error", CHANNEL_ERROR, true, true},	 {"stdin", CHANNEL_STDIN, false, true},
		{"stdout", CHANNEL_STDOUT, false, true}, {"stderr", CHANNEL_STDERR, false, true},
		{"resize", CHANNEL_RESIZE, false, true}, {"data", CHANNEL_DATA, true, false},
	};

	for (size_t i = 0; i < ARRAY_LEN(roles); i++)
		if (streq(roles[i].name, type) && (t->ports ? roles[i].ports : roles[i].command)) {
			*ret = roles[i].role;
			return true;
		}
	return false;
}

/* A stream of a forwarded port: the pair is found by its request, or, of old clients, by its
 * number. */
static bool port_headers(struct channel *c, const struct spdy_header *h, size_t n)
{
	const char *port = header(h, n, "port"), *request = header(h, n, "requestid");
	uint64_t v;

	if (!port || str_to_u64(port, 10, &v) < 0 || v == 0 || v > UINT16_MAX)
		return false;
	c->port = (uint16_t)v;
	if (!request) {
		snprintf(c->request, sizeof(c->request), "#%u",
			 c->role == CHANNEL_ERROR ? c->id : c->id - 2);
		return true;
	}
	if (strlen(request) > REQUEST_MAX)
		return false;
	memcpy(c->request, request, strlen(request) + 1);
	return true;
}

static int on_open(void *arg, uint32_t id, const struct spdy_header *h, size_t n, bool fin)
{
	struct tunnel *t = arg;
	const char *type = header(h, n, "streamtype");
	enum channel_role role = CHANNEL_ERROR;
	struct channel *c = NULL;

	if (id % 2 == 0 || id <= t->last_id) {
		spdy_reset(&t->out, id, SPDY_PROTOCOL_ERROR);
		return 0;
	}
	t->last_id = id;
	if (type && role_of(t, type, &role) && (t->ports || !channel_by_role(t, role)))
		c = channel_new(t, id, role);
	if (!c || (t->ports && !port_headers(c, h, n))) {
		if (c)
			channel_drop(c);
		spdy_reset(&t->out, id, SPDY_REFUSED_STREAM);
		return 0;
	}
	spdy_reply(t->spdy, &t->out, id);
	c->in_end = fin;
	if (t->ports)
		ports_opened(c);
	else
		tunnel_check_open(t);
	return 0;
}

static int on_data(void *arg, uint32_t id, const void *p, size_t n, bool fin)
{
	struct tunnel *t = arg;
	struct channel *c = channel_by_id(t, id);
	int r;

	/* Of a stream that has ended. */
	if (!c) {
		consumed(t, NULL, n);
		return id == 0 ? -EPROTO : 0;
	}
	r = channel_input(c, p, n);
	if (r == 0 && fin)
		channel_input_end(c);
	return r;
}

static int on_reset(void *arg, uint32_t id)
{
	struct tunnel *t = arg;
	struct channel *c = channel_by_id(t, id);

	if (!c)
		return 0;
	c->out_done = true;
	if (t->ports) {
		ports_over(c);
		return 0;
	}
	/* A command's stream keeps its place; its descriptor goes. */
	c->in_end = true;
	channel_shut(c);
	return 0;
}

static int on_window(void *arg, uint32_t id, uint32_t delta)
{
	struct tunnel *t = arg;
	struct channel *c = id ? channel_by_id(t, id) : NULL;
	int64_t *w = id == 0 ? &t->window : c ? &c->window : NULL;

	t->flow = true;
	if (!w)
		return 0;
	*w += delta;
	return *w > INT32_MAX ? -EPROTO : 0;
}

static int on_initial_window(void *arg, uint32_t size)
{
	struct tunnel *t = arg;
	int64_t more = (int64_t)size - t->first_window;

	t->flow = true;
	t->first_window = size;
	for (struct channel *c = t->channels; c; c = c->next)
		c->window += more;
	return 0;
}

static int on_ping(void *arg, uint32_t id)
{
	struct tunnel *t = arg;

	/* Ours would be even, and there are none. */
	if (id % 2 == 1)
		spdy_ping(&t->out, id);
	return 0;
}

static int start(struct tunnel *t)
{
	static const struct spdy_events events = {
		.open = on_open,
		.data = on_data,
		.reset = on_reset,
		.window = on_window,
		.initial_window = on_initial_window,
		.ping = on_ping,
	};

	t->window = t->first_window = SPDY_WINDOW;
	t->spdy = spdy_new(&events, t);
	return t->spdy ? 0 : -ENOMEM;
}

static int input(struct tunnel *t, const void *p, size_t n)
{
	return spdy_feed(t->spdy, p, n);
}

const struct framing framing_spdy = {
	.start = start,
	.input = input,
	.room = room,
	.write = write_data,
	.end = end,
	.consumed = consumed,
	.finish = finish,
};
