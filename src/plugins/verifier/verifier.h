/* SPDX-License-Identifier: Apache-2.0 */
/* Image verifiers: whether an image may be pulled is asked after its name was resolved, before its
 * content is fetched. */
#pragma once

#include "base/ctx.h"
#include "oci/descriptor.h"

struct verdict {
	bool ok;
	const char *reason; /* in ctx's arena */
};

struct image_verifier;

struct image_verifier_ops {
	/* An error is no verdict: the image is not pulled then. Blocks; any thread. */
	int (*verify)(struct ctx *ctx, struct image_verifier *v, const char *name,
		      const struct descriptor *d, struct verdict *ret, struct err *err);
	void (*free)(struct image_verifier *v);
};

struct image_verifier {
	const struct image_verifier_ops *ops;
	const char *name; /* bindir */
};
