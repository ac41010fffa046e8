/* SPDX-License-Identifier: Apache-2.0 */
/* An image as a container needs it: its configuration for one platform, and its layers as a
 * snapshot. */
#pragma once

#include "base/json.h"
#include "client/client.h"
#include "oci/descriptor.h"
#include "oci/manifest.h"

struct client_image {
	const char *name;
	struct labels labels; /* of the image's record */
	const char *manifest_digest, *config_digest;
	json_t *document; /* the configuration; client_image_done() */
	json_t *config;	  /* its member "config", borrowed; NULL when absent */
	struct descriptor *layers;
	const char **diff_ids;
	size_t n_layers;      /* of both */
	const char *chain_id; /* of all layers, "" when there are none */
};
#define _cleanup_client_image_ _cleanup_(client_image_done)

/* Follows image -> index -> manifest -> configuration. @platform "" = this host's.
 * -ERR_NOT_FOUND: no such image, no content, no manifest for the platform. */
int client_image_load(struct client *c, struct ctx *ctx, const char *name, const char *platform,
		      struct client_image *ret, struct err *err) _must_check_;
void client_image_done(struct client_image *i);

/* Makes sure that the chain of snapshots is there; unpacks what is missing. @ctx should hold a
 * lease meanwhile. */
int client_image_unpack(struct client *c, struct ctx *ctx, const struct client_image *i,
			const char *snapshotter, bool sync_fs, struct err *err) _must_check_;

/* A snapshot @key on the image's chain, which is unpacked when it turns out to be missing: it
 * hardly ever is, and asking first takes a call. As client_snapshot_prepare() and
 * client_image_unpack(). */
int client_image_prepare(struct client *c, struct ctx *ctx, const struct client_image *i,
			 const char *snapshotter, const char *key, bool view,
			 const struct labels *labels, bool sync_fs, struct client_mounts *ret,
			 struct err *err) _must_check_;

/* The manifest or index of an index that suits @want best; one without a platform comes last.
 * -ERR_NOT_FOUND */
int client_image_choose(const struct manifest *m, const struct platform *want,
			struct descriptor *ret, struct err *err) _must_check_;
