/* SPDX-License-Identifier: Apache-2.0 */
/* Moves bytes from one descriptor to another on the loop, without a copy where the kernel can
 * (splice), without a buffer at rest. When the destination is full nothing is read: the writer on
 * the other side stalls, nothing is lost. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "event/loop.h"

struct pump;
/* The source ended, or the destination broke; both descriptors are closed. */
typedef void (*pump_fn)(void *arg);

struct pump {
	struct loop *loop;
	int src, dst; /* -1: not running; dst -1 while running: bytes are thrown away */
	bool running;
	bool copy;  /* splice does not do for these */
	bool file;  /* dst cannot be polled and never blocks */
	bool noted; /* a failing file has been told of */
	struct loop_source *src_source, *dst_source;
	char *pend; /* read, not yet written */
	size_t pend_len;
	uint64_t moved; /* bytes */
	pump_fn fn;
	void *arg;
};

#define PUMP_INIT ((struct pump){.src = -1, .dst = -1})

/* Takes both descriptors over, whatever happens; both are made non-blocking. 0 or -errno (closed
 * then). @fn at most once, from the loop. */
int pump_start(struct pump *p, struct loop *l, int src, int dst, pump_fn fn, void *arg);
/* Stops without a call back; closes. */
void pump_stop(struct pump *p);
