/* SPDX-License-Identifier: Apache-2.0 */
/* ttrpc's frames: u32 length, u32 stream id (both big endian), u8 type, u8 flags, payload. Private
 * to rpc/. */
#pragma once

#include "rpc/internal.h"

#define TTRPC_HEADER 10
#define TTRPC_MAX ((size_t)4 << 20)
/* What a message may have, so that it fits into a frame with the Response around it. */
#define TTRPC_MESSAGE_MAX (TTRPC_MAX - 8)

enum ttrpc_type { TTRPC_REQUEST = 1, TTRPC_RESPONSE = 2, TTRPC_DATA = 3 };
enum ttrpc_flags { TTRPC_REMOTE_CLOSED = 1, TTRPC_REMOTE_OPEN = 2, TTRPC_NO_DATA = 4 };

struct ttrpc_header {
	uint32_t len;
	uint32_t id;
	uint8_t type;
	uint8_t flags;
};

/* Assembles frames from bytes as they come. Zeroed is fresh. */
struct ttrpc_reader {
	uint8_t head[TTRPC_HEADER];
	size_t n_head;
	struct ttrpc_header h;
	struct rpc_msg *msg; /* NULL while skipping an oversized payload */
	size_t got;
};

void ttrpc_reader_done(struct ttrpc_reader *r);
/* Consumes from *@p. 1 = a frame is complete: *@ret_msg is the caller's, or NULL when its payload
 * was over TTRPC_MAX and skipped. 0 = all consumed, -ENOMEM. */
int ttrpc_reader_feed(struct ttrpc_reader *r, const uint8_t **p, size_t *n,
		      struct ttrpc_header *ret_h, struct rpc_msg **ret_msg);
/* Puts the header before @m (what it has in front of p counts). */
void ttrpc_frame_wrap(struct rpc_msg *m, uint32_t id, uint8_t type, uint8_t flags);
/* Makes @m the payload of a ttrpc.Response. */
void ttrpc_response_wrap(struct rpc_msg *m);
