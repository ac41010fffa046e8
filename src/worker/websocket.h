/* SPDX-License-Identifier: Apache-2.0 */
/* WebSocket (RFC 6455) of a server: bytes in, pieces of messages out; and the frames that a server
 * sends. A message's payload is unmasked and handed on piecewise, so it needs no limit. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

#define WEBSOCKET_CONTROL_MAX 125

enum websocket_opcode {
	WEBSOCKET_CONTINUATION = 0,
	WEBSOCKET_TEXT = 1,
	WEBSOCKET_BINARY = 2,
	WEBSOCKET_CLOSE = 8,
	WEBSOCKET_PING = 9,
	WEBSOCKET_PONG = 10,
};

/* Any but 0 ends websocket_feed(), which returns it. */
struct websocket_events {
	/* A piece of a message: @n may be 0; @last: the message ends with it. */
	int (*message)(void *arg, const void *p, size_t n, bool last);
	/* A whole ping, pong, or close. */
	int (*control)(void *arg, enum websocket_opcode opcode, const void *p, size_t n);
};

struct websocket { /* zero-initialised but for the first two */
	const struct websocket_events *events;
	void *arg;
	uint8_t head[14];
	size_t n_head;
	uint64_t left; /* of the payload */
	unsigned mask_at;
	bool in_payload, in_message;
	uint8_t payload[WEBSOCKET_CONTROL_MAX]; /* of a control frame */
	size_t n_payload;
};

/* 0; -EPROTO: not as it should be; or what an event returned. After a failure nothing more may be
 * fed. */
int websocket_feed(struct websocket *w, const void *p, size_t n);

/* The head of a frame that is one whole message of @n bytes, or a control frame. */
void websocket_head(struct buf *out, enum websocket_opcode opcode, size_t n);
/* A close frame; @code 1000 = all is well, 1002 = the peer's fault. */
void websocket_close(struct buf *out, uint16_t code);

/* Base64 in pieces. */
struct base64 {
	uint32_t bits;
	unsigned n; /* characters of a group */
	unsigned pad;
};
/* Decodes into @out, which has room for @n + 2 bytes; -EINVAL. */
int base64_decode(struct base64 *d, const char *p, size_t n, uint8_t *out, size_t *ret_n);
/* Whether nothing is missing at the end; begins anew. */
bool base64_end(struct base64 *d);
void base64_encode(struct buf *out, const void *p, size_t n);
