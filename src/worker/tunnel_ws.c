/* SPDX-License-Identifier: Apache-2.0 */
/* Channels by WebSocket: the first byte of a message is the channel's number (a digit in the base64
 * forms, whose messages are text). A command has stdin 0, stdout 1, stderr 2, error 3, resize 4; of
 * the forwarded port i, data is 2i and error 2i+1. With close_signal (v5) a message [255, n] ends
 * channel n. */
#include <errno.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "worker/tunnel.h"

#define SIGNAL_CLOSE 255

/* ---- what is sent ---- */

static size_t room(const struct tunnel *t, const struct channel *c)
{
	(void)t;
	(void)c;
	return PIECE_MAX;
}

static void write_message(struct tunnel *t, struct channel *c, const void *p, size_t n)
{
	if (t->base64) {
		websocket_head(&t->out, WEBSOCKET_TEXT, 1 + (n + 2) / 3 * 4);
		(void)buf_addc(&t->out, (char)('0' + c->id));
		base64_encode(&t->out, p, n);
		return;
	}
	websocket_head(&t->out, WEBSOCKET_BINARY, 1 + n);
	(void)buf_addc(&t->out, (char)c->id);
	(void)buf_add(&t->out, p, n);
}

/* There is no way to say it but the end of the connection. */
static void end(struct tunnel *t, struct channel *c)
{
	(void)t;
	(void)c;
}

static void consumed(struct tunnel *t, struct channel *c, size_t n)
{
	(void)t;
	(void)c;
	(void)n;
}

static void finish(struct tunnel *t, bool fault)
{
	websocket_close(&t->out, fault ? 1002 : 1000);
}

/* ---- what comes ---- */

static int payload(struct tunnel *t, const uint8_t *p, size_t n)
{
	struct channel *c = channel_by_id(t, (uint32_t)t->at);
	uint8_t plain[4096 + 4];

	if (!c) {
		/* It was dropped, or never was. */
		return 0;
	}
	if (t->base64) {
		int r = n > 4096 ? -EPROTO
				 : base64_decode(&c->base64, (const char *)p, n, plain, &n);
		if (r < 0)
			return r;
		p = plain;
	}
	return channel_input(c, p, n);
}

static void message_ended(struct tunnel *t)
{
	struct channel *c = t->at >= 0 ? channel_by_id(t, (uint32_t)t->at) : NULL;

	/* Half a group at a message's end is not passed on. */
	if (c && t->base64)
		(void)base64_end(&c->base64);
	t->at = -1;
	t->at_close = false;
}

static int on_message(void *arg, const void *data, size_t n, bool last)
{
	struct tunnel *t = arg;
	const uint8_t *p = data;
	int r = 0;

	if (n > 0 && t->at < 0) {
		t->at = t->base64 ? *p - '0' : *p;
		t->at = t->at < 0 ? SIGNAL_CLOSE : t->at;
		t->at_close = t->close_signal && t->at == SIGNAL_CLOSE;
		p++;
		n--;
	}
	if (n > 0 && t->at_close) {
		struct channel *c = channel_by_id(t, t->base64 ? (uint32_t)(*p - '0') : *p);

		if (c)
			channel_input_end(c);
	} else if (n > 0) {
		r = payload(t, p, n);
	}
	if (last)
		message_ended(t);
	return r;
}

static int on_control(void *arg, enum websocket_opcode opcode, const void *p, size_t n)
{
	struct tunnel *t = arg;

	if (opcode == WEBSOCKET_PING) {
		websocket_head(&t->out, WEBSOCKET_PONG, n);
		(void)buf_add(&t->out, p, n);
	} else if (opcode == WEBSOCKET_CLOSE) {
		tunnel_finish(t, n == 1);
	}
	return 0;
}

/* ---- the beginning ---- */

static int start_command(struct tunnel *t)
{
	static const enum channel_role order[] = {CHANNEL_STDIN, CHANNEL_STDOUT, CHANNEL_STDERR,
						  CHANNEL_ERROR, CHANNEL_RESIZE};
	struct channel *c;

	for (uint32_t i = 0; i < ARRAY_LEN(order); i++)
		if ((t->wanted & 1u << order[i]) && !channel_new(t, i, order[i]))
			return -ENOMEM;
	/* So that the client knows. */
	c = channel_by_role(t, CHANNEL_STDOUT);
	c = c ? c : channel_by_role(t, CHANNEL_STDERR);
	c = c ? c : channel_by_role(t, CHANNEL_ERROR);
	if (c)
		write_message(t, c, "", 0);
	tunnel_check_open(t);
	return 0;
}

/* Each channel tells its port first, little endian. */
static int start_ports(struct tunnel *t)
{
	for (uint32_t i = 0; i < t->n_ports; i++) {
		struct channel *data = channel_new(t, 2 * i, CHANNEL_DATA),
			       *error = channel_new(t, 2 * i + 1, CHANNEL_ERROR);
		uint8_t port[2] = {(uint8_t)t->port_list[i], (uint8_t)(t->port_list[i] >> 8)};

		if (!data || !error)
			return -ENOMEM;
		data->port = error->port = t->port_list[i];
		data->request[0] = error->request[0] = (char)(i + 1);
		write_message(t, data, port, sizeof(port));
		write_message(t, error, port, sizeof(port));
	}
	for (struct channel *c = t->channels; c; c = c->next)
		ports_opened(c);
	return 0;
}

static const struct websocket_events events = {.message = on_message, .control = on_control};

static int start(struct tunnel *t)
{
	t->ws.events = &events;
	t->ws.arg = t;
	t->at = -1;
	return t->ports ? start_ports(t) : start_command(t);
}

static int input(struct tunnel *t, const void *p, size_t n)
{
	return websocket_feed(&t->ws, p, n);
}

const struct framing framing_websocket = {
	.start = start,
	.input = input,
	.room = room,
	.write = write_message,
	.end = end,
	.consumed = consumed,
	.finish = finish,
};
