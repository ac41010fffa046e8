/* SPDX-License-Identifier: Apache-2.0 */
/* A blob of the content store through a worker, and in another compression, as a further blob. */
#pragma once

#include "base/digest.h"
#include "core/worker.h"
#include "ctr/ctr.h"
#include "oci/descriptor.h"

/* Writes it through the ingest @ref and gives it @labels. c->ctx should hold a lease: nothing else
 * keeps the new blob. -ERR_DATA_LOSS when the bytes of @d are not those of its digest. */
int recompress_blob(struct ctr *c, const struct descriptor *d, enum pack_compression compression,
		    const char *ref, const struct labels *labels, struct digest *ret,
		    int64_t *ret_size, struct err *err) _must_check_;

/* Calls @work with a pipe that the blob comes out of while it runs; it need not read to the end.
 * -ERR_DATA_LOSS when the bytes are not those of the digest. */
int blob_feed(struct ctr *c, const struct descriptor *d,
	      int (*work)(void *arg, int input, struct err *err), void *arg,
	      struct err *err) _must_check_;
