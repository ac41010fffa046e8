/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by content.c (what is there) and content_writer.c (what comes). */
#pragma once

#include "core/content.h"

/* A blob record's bucket v1/<ctx's namespace>/content/blob/<digest>; NULL when absent. */
struct bolt_bucket *content_tx_find(struct ctx *ctx, struct bolt_tx *tx, const char *digest);

/* Makes the record; -ERR_ALREADY_EXISTS. */
int content_tx_create(struct ctx *ctx, struct bolt_tx *tx, const char *digest, int64_t size,
		      const struct labels *labels, struct err *err) _must_check_;

/* Forgets the ingest @ref and takes it out of ctx's lease; absent is fine. */
int content_tx_forget_ingest(struct ctx *ctx, struct bolt_tx *tx, const char *ref,
			     struct err *err) _must_check_;
