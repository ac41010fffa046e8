/* SPDX-License-Identifier: Apache-2.0 */
/* Images in another form: the tree of documents is rewritten from the leaves up, and what did not
 * change keeps its bytes. */
#pragma once

#include "ctr/ctr.h"
#include "oci/descriptor.h"

struct convert_options {
	bool uncompress; /* layers */
	bool oci;	 /* Docker's media types become OCI's */
	bool erofs;	 /* layers become EROFS images; @erofs_zstd: compressed as a whole */
	bool erofs_zstd;
	const char *erofs_compressors; /* of mkfs.erofs, "" or NULL = none */
	const char *const *erofs_options;
	size_t n_erofs_options;
	const struct platform *platforms;
	size_t n_platforms; /* of an index only these stay; 0 = all */
};

/* Reads and writes content only; c->ctx must hold a lease until an image names @ret. @ret lives in
 * the arena, and is @target where nothing changes.
 *
 * -ERR_NOT_FOUND  an index has nothing for the platforms, or content is missing */
int convert_image(struct ctr *c, const struct convert_options *o, const struct descriptor *target,
		  struct descriptor *ret, struct err *err) _must_check_;

/* What Docker calls @media_type in OCI's words; others stay as they are. */
const char *convert_media_type(const char *media_type);
/* The media type of a layer without its compression; NULL when it has none, or one that is not
 * known. */
const char *convert_uncompressed_type(const char *media_type);
