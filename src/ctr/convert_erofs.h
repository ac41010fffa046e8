/* SPDX-License-Identifier: Apache-2.0 */
/* Layers as EROFS images, for `ctr images convert --erofs`. */
#pragma once

#include "base/digest.h"
#include "ctr/convert.h"
#include "ctr/scratch.h"

/* Whether @media_type is that of a layer that can become one. */
bool convert_erofs_takes(const char *media_type);

/* The layers of one image: a layer may leave out directories that those below it have. */
struct erofs_trees {
	struct scratch scratch; /* its path is NULL before the first */
	size_t made;
	int fds[62]; /* the nearest ones, the topmost last */
	size_t n;
};
void erofs_trees_done(struct erofs_trees *t);

/* Unpacks the layer @d into a temporary directory upon those in @trees, which it joins, makes an
 * image of that, and writes it to the content store with @labels and containerd.io/uncompressed.
 * Needs root, for owners and devices.
 *
 * @ret_diff_id  of the image as it is mounted
 * @ret_size     of the blob, whose digest is @ret */
int convert_erofs_layer(struct ctr *c, const struct convert_options *o, struct erofs_trees *trees,
			const struct descriptor *d, struct labels *labels, struct digest *ret,
			int64_t *ret_size, struct digest *ret_diff_id,
			struct err *err) _must_check_;
