/* SPDX-License-Identifier: Apache-2.0 */
/* What gRPC puts into HTTP/2: length-prefixed messages, timeouts, percent-encoded texts. Private to
 * rpc/. */
#pragma once

#include "base/buf.h"
#include "rpc/internal.h"

#define GRPC_PREFIX 5

/* Assembles messages from DATA as it comes. Zeroed, then max set, is fresh. */
struct grpc_reader {
	size_t max;
	uint8_t head[GRPC_PREFIX];
	size_t n_head;
	struct rpc_msg *msg;
	size_t got;
};

void grpc_reader_done(struct grpc_reader *r);
/* Consumes from *@p. 1 = *@ret is the caller's, 0 = all consumed, negative kind: compressed or too
 * large message, no memory; the reader is of no use after that. */
int grpc_reader_feed(struct grpc_reader *r, const uint8_t **p, size_t *n, struct rpc_msg **ret,
		     struct err *err);
/* Bytes of a message that has begun. */
static inline size_t grpc_reader_partial(const struct grpc_reader *r)
{
	return r->n_head + r->got;
}

/* Puts the prefix before @m. */
void grpc_frame_wrap(struct rpc_msg *m);

/* "100m" and the like into nanoseconds (saturating); -EINVAL. */
int grpc_timeout_parse(const char *s, int64_t *ret_ns);
/* At most 8 digits and a unit: 16 bytes. */
void grpc_timeout_format(int64_t ns, char out[16]);

/* grpc-message: bytes outside of printable ASCII, and "%", as %XX. */
void grpc_message_encode(struct buf *b, const char *s);
/* In place; stray "%" stay. */
void grpc_message_decode(char *s);
