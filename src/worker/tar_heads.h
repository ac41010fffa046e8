/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes of an archive on their way to libarchive, which reads through here: what it takes for
 * headers is limited, and names are told as they are written.
 *
 * libarchive composes the characters of a name in a pax header (NFC) and gives up on a link's
 * target that is not UTF-8. A file system's names are bytes, so these are taken from the header
 * itself. It also keeps as much of a sparse file's map as there is, of which a few compressed bytes
 * can make gigabytes. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"

#define TAR_HEADS_MAX (8u << 20) /* of one entry, its sparse map included */

/* Gives the next block of the stream, valid until the next call; length, 0 = end, negative kind. */
typedef ssize_t (*tar_read_fn)(void *arg, const void **ret, struct err *err);

struct tar_heads { /* zero-initialised but for the first two */
	tar_read_fn fn;
	void *arg;
	uint64_t taken; /* bytes of the archive so far */
	bool counting;
	size_t counted; /* since tar_heads_count() */
	/* the last block */
	const char *block;
	size_t n;
	/* of the header that is being read */
	bool recording;
	uint64_t start;
	struct buf raw; /* what came in blocks before the last one */
	/* of the header that was read; valid until the next one; NULL = as libarchive says */
	const char *path, *link;
	char type;
};

void tar_heads_done(struct tar_heads *h);

/* A block, as @fn gives it; -ERR_INVALID_ARGUMENT when headers are over the limit. */
ssize_t tar_heads_read(struct tar_heads *h, const void **ret, struct err *err);

/* What is read from now on belongs to a header, or (@on false) is data of any length. */
void tar_heads_count(struct tar_heads *h, bool on);
/* A header begins at byte @start of the archive (the first one: before libarchive reads anything);
 * counts, too. */
void tar_heads_begin(struct tar_heads *h, uint64_t start);
/* It ended before byte @end: path, link and type are set. -ENOMEM */
int tar_heads_end(struct tar_heads *h, uint64_t end);
