/* SPDX-License-Identifier: Apache-2.0 */
/* SPDY/3.1 frames of a server: bytes in, events out; and the frames that a server sends.
 *
 * Neither streams nor sockets are known here. Header blocks are compressed with one zlib stream a
 * direction, which begins with a dictionary that both sides know; each block is inflated, wanted or
 * not, since the next one depends on it. Sizes are limited: a control frame to SPDY_CONTROL_MAX
 * bytes, what its block inflates to SPDY_BLOCK_MAX. Data is handed on piecewise and never kept. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

#define SPDY_CONTROL_MAX (16u << 10)
#define SPDY_BLOCK_MAX (16u << 10)
#define SPDY_HEADERS_MAX 32
#define SPDY_WINDOW 65536 /* of a stream and of the session, until said otherwise */

enum spdy_status {
	SPDY_PROTOCOL_ERROR = 1,
	SPDY_INVALID_STREAM = 2,
	SPDY_REFUSED_STREAM = 3,
	SPDY_CANCEL = 5,
	SPDY_INTERNAL_ERROR = 6,
	SPDY_STREAM_IN_USE = 8,
};

struct spdy_header { /* NUL-terminated, until the return of the callback */
	const char *name, *value;
};

/* Any but 0 ends spdy_feed(), which returns it. A member that is NULL is not called. */
struct spdy_events {
	int (*open)(void *arg, uint32_t id, const struct spdy_header *h, size_t n, bool fin);
	int (*data)(void *arg, uint32_t id, const void *p, size_t n, bool fin);
	int (*reset)(void *arg, uint32_t id);
	int (*window)(void *arg, uint32_t id, uint32_t delta); /* id 0: of the session */
	int (*initial_window)(void *arg, uint32_t size);       /* of streams */
	int (*ping)(void *arg, uint32_t id);
	int (*goaway)(void *arg);
};

struct spdy;

/* NULL = no memory. */
struct spdy *spdy_new(const struct spdy_events *events, void *arg);
void spdy_free(struct spdy *s);

/* 0; -EPROTO: not SPDY, or over a limit; -ENOMEM; or what an event returned. After a failure
 * nothing more may be fed. */
int spdy_feed(struct spdy *s, const void *p, size_t n);

/* Frames, added to @out, which remembers a lack of memory. */
void spdy_reply(struct spdy *s, struct buf *out, uint32_t id); /* accepts a stream */
void spdy_data(struct buf *out, uint32_t id, const void *p, size_t n, bool fin);
void spdy_reset(struct buf *out, uint32_t id, enum spdy_status status);
void spdy_ping(struct buf *out, uint32_t id);
void spdy_goaway(struct buf *out, uint32_t last_id, uint32_t status);
void spdy_window(struct buf *out, uint32_t id, uint32_t delta);
