/* SPDX-License-Identifier: Apache-2.0 */
/* Documents of many images, asked for together: one round trip for all instead of one for each.
 * What could not be read is asked for again by who needs it, and then told. */
#pragma once

#include "ctr/ctr.h"

struct document;

struct documents {
	struct arena *arena;
	struct document **table; /* by digest; open addressing, at most half full */
	size_t n, n_table;
};

/* In @a; -ENOMEM. */
int documents_init(struct documents *d, struct arena *a);
/* Reads those of the @n blobs that are not there yet. */
int documents_fetch(struct documents *d, struct ctr *c, const char *const *digests, size_t n,
		    size_t max, struct err *err) _must_check_;
/* NULL when it is not there. */
const char *documents_get(const struct documents *d, const char *digest, size_t *ret_len);
/* From @d (may be NULL), else from the daemon. */
int documents_read(const struct documents *d, struct ctr *c, const char *digest, size_t max,
		   const char **ret, size_t *ret_len, struct err *err) _must_check_;
