/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes on their way from one descriptor to another, for a thread that polls several of them.
 *
 * A flow either waits for its source or has bytes that its destination did not take yet. When the
 * destination breaks the bytes are thrown away (or, for input, the flow ends); when the source ends
 * the destination is closed behind the last byte. One thread. */
#pragma once

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

#define CRI_FLOW_BUF 32768

struct cri_flow {
	int src, dst;	 /* -1 = closed, or none */
	bool is_input;	 /* ends with its destination */
	bool keep;	 /* the destination stays open: bytes do not come from @src */
	uint64_t room;	 /* bytes that still go to the destination */
	size_t off, len; /* of the bytes that wait */
	struct pollfd *src_poll, *dst_poll; /* of this round, NULL = not in it */
	char *buf;
};

#define CRI_FLOW_INIT ((struct cri_flow){.src = -1, .dst = -1})

/* Takes both over and makes them non-blocking. @limit 0 = none. -ENOMEM */
int cri_flow_start(struct cri_flow *f, int src, int dst, bool is_input, uint64_t limit);
void cri_flow_done(struct cri_flow *f);
/* Neither more to read nor to write. */
static inline bool cri_flow_ended(const struct cri_flow *f)
{
	return f->src < 0 && !f->len;
}
/* Adds at most two entries to @v. */
void cri_flow_poll(struct cri_flow *f, struct pollfd *v, nfds_t *n);
/* After poll(). */
void cri_flow_step(struct cri_flow *f);
/* Writes what waits, as far as it goes. */
void cri_flow_write(struct cri_flow *f);
