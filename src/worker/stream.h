/* SPDX-License-Identifier: Apache-2.0 */
/* A layer's uncompressed bytes, block by block: one thread reads and inflates, one digests, the
 * caller consumes. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "base/digest.h"
#include "base/err.h"

struct stream;

/* Starts the threads. @fd stays the caller's and is read from its current offset; it may be a pipe.
 * @max_bytes of uncompressed data; more is -ERR_RESOURCE_EXHAUSTED. */
int stream_new(int fd, int64_t max_bytes, struct stream **ret, struct err *err) _must_check_;
/* Stops the threads, also while they wait for input. NULL is fine. */
void stream_free(struct stream *s);

/* Next block (valid until the next call); its length, 0 = end, or the error of reading or
 * inflating. */
ssize_t stream_next(struct stream *s, const void **ret, struct err *err) _must_check_;

/* Reads what is left, and gives the sha256 and size of the whole. */
int stream_finish(struct stream *s, struct digest *ret_digest, int64_t *ret_size,
		  struct err *err) _must_check_;

/* Bytes of input read so far. Any thread. */
int64_t stream_input(struct stream *s);

DEFINE_CLEANUP(struct stream *, stream_free)
