/* SPDX-License-Identifier: Apache-2.0 */
/* An image as a container needs it: its configuration for one platform, and its layers as a
 * snapshot. */
#pragma once

#include "ctr/ctr.h"
#include "oci/descriptor.h"
#include "oci/manifest.h"

struct image {
	const char *name;
	struct labels labels; /* of the image's record */
	const char *manifest_digest, *config_digest;
	json_t *document; /* the configuration; image_done() */
	json_t *config;	  /* its member "config", borrowed; NULL when absent */
	struct descriptor *layers;
	const char **diff_ids;
	size_t n_layers;      /* of both */
	const char *chain_id; /* of all layers, "" when there are none */
};
#define _cleanup_image_ _cleanup_(image_done)

/* Follows image -> index -> manifest -> configuration. @platform "" = this host's.
 * -ERR_NOT_FOUND: no such image, no content, no manifest for the platform. */
int image_load(struct ctr *c, const char *name, const char *platform, struct image *ret,
	       struct err *err) _must_check_;
void image_done(struct image *i);

/* Makes sure that the chain of snapshots is there; unpacks what is missing. c->ctx should hold a
 * lease meanwhile. */
int image_unpack(struct ctr *c, const struct image *i, const char *snapshotter, bool sync_fs,
		 struct err *err) _must_check_;

/* The manifest or index of an index that suits @want best; one without a platform comes last.
 * -ERR_NOT_FOUND */
int image_choose_child(const struct manifest *m, const struct platform *want,
		       struct descriptor *ret, struct err *err) _must_check_;
