/* SPDX-License-Identifier: Apache-2.0 */
/* What can be told about an image from its documents in the content store: size, platforms,
 * completeness, and the whole tree. */
#pragma once

#include "client/image.h"
#include "ctr/ctr.h"

/* Adds the sizes of @target and of what of it is for @want. On failure *@sum has what was known
 * until then. */
int image_walk_size(struct ctr *c, const struct descriptor *target, const struct platform *want,
		    int64_t *sum, struct err *err) _must_check_;
/* "linux/amd64,linux/arm64", "-" when nothing says. */
int image_walk_platforms(struct ctr *c, const struct descriptor *target, const char **ret,
			 struct err *err) _must_check_;

/* Reads the documents of @n images together into c->documents, as far as the two above need them.
 * @targets is used up. */
int image_walk_prefetch(struct ctr *c, struct descriptor *targets, size_t n,
			const struct platform *host, struct err *err) _must_check_;

struct image_check {
	bool available;		      /* index and manifest are there, so the rest is known */
	size_t n_required, n_present; /* configuration and layers */
	int64_t required, present;    /* bytes */
};
/* A manifest that is not there is no error. */
int image_walk_check(struct ctr *c, const struct descriptor *target, const struct platform *want,
		     struct image_check *ret, struct err *err) _must_check_;

/* Prints descriptors as a tree, with their JSON when @content. */
int image_walk_print(struct ctr *c, const struct descriptor *target, bool content,
		     struct err *err) _must_check_;
