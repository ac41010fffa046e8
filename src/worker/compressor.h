/* SPDX-License-Identifier: Apache-2.0 */
/* A layer's bytes on their way out: digested, then compressed, then written to a descriptor.
 *
 * What comes out depends on the bytes and the format only, not on the number of processors nor on
 * how the bytes were handed in. One thread at a time. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/digest.h"
#include "base/err.h"

enum compression { COMPRESSION_NONE, COMPRESSION_GZIP, COMPRESSION_ZSTD };

/* "none", "gzip", "zstd". -ERR_INVALID_ARGUMENT */
int compression_parse(const char *name, enum compression *ret, struct err *err) _must_check_;

struct compressor;

/* How many threads are worth their while here. To be asked before entering a jail. */
unsigned compressor_threads(void);

/* Starts @threads (at least 1) where the format can use them. @fd stays the caller's. More than
 * @max_bytes of input are -ERR_RESOURCE_EXHAUSTED. */
int compressor_new(enum compression format, unsigned threads, int fd, int64_t max_bytes,
		   struct compressor **ret, struct err *err) _must_check_;
void compressor_free(struct compressor *c);

/* After an error nothing but compressor_free() may be called. */
int compressor_write(struct compressor *c, const void *p, size_t n, struct err *err) _must_check_;
/* Writes all that is left; sha256 and size of the input. */
int compressor_finish(struct compressor *c, struct digest *ret_digest, int64_t *ret_size,
		      struct err *err) _must_check_;

DEFINE_CLEANUP(struct compressor *, compressor_free)
