/* SPDX-License-Identifier: Apache-2.0 */
/* Layer bytes as stored to the plain tar stream: gzip (any number of members), zstd (any number of
 * frames) or nothing to do, recognised by the first bytes. One thread at a time. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "base/err.h"

/* At most @n bytes into @p; 0 = end, negative = -errno. */
typedef ssize_t (*inflate_read_fn)(void *arg, void *p, size_t n);

struct inflate;

/* NULL = no memory. */
struct inflate *inflate_new(inflate_read_fn fn, void *arg);
void inflate_free(struct inflate *f);

/* Fills @p with @n bytes, fewer only at the end of the stream; the count, or a negative kind:
 * -ERR_INVALID_ARGUMENT when the stream is damaged or ends early, else what reading returned. After
 * an error it must not be called again. */
ssize_t inflate_read(struct inflate *f, void *p, size_t n, struct err *err) _must_check_;

/* Bytes of input read so far. */
int64_t inflate_input(const struct inflate *f);

DEFINE_CLEANUP(struct inflate *, inflate_free)
