/* SPDX-License-Identifier: Apache-2.0 */
/* Byte streams of the transfer service over google.protobuf.Any: the reader grants credit
 * (WindowUpdate), the writer sends Data of at most 32 KiB within it, and half-closes at the end. */
#pragma once

#include "services/services.h"

struct byte_source; /* a client's bytes, as the read end of a pipe */

int byte_source_open(struct ctx *ctx, struct services *s, const char *stream,
		     struct byte_source **ret, struct err *err) _must_check_;
int byte_source_fd(const struct byte_source *b); /* borrowed */
/* What there is of at most @n bytes; 0 = the end, negative = error. Waits, and ends with the ctx
 * that it was opened in. */
ssize_t byte_source_read(struct byte_source *b, void *p, size_t n, struct err *err) _must_check_;
/* Ends it and frees. Takes in what is left; reports what went wrong with the stream itself, and
 * when ctx ended meanwhile. @abandon: what is left unread does not matter. */
int byte_source_close(struct byte_source *b, bool abandon, struct err *err);

struct byte_sink; /* bytes to a client */

int byte_sink_open(struct ctx *ctx, struct services *s, const char *stream, struct byte_sink **ret,
		   struct err *err) _must_check_;
int byte_sink_write(void *sink, const void *p, size_t n, struct err *err); /* waits for credit */
void byte_sink_close(struct byte_sink *b); /* ends the stream and frees */
