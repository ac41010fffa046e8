/* SPDX-License-Identifier: Apache-2.0 */
/* Images as the kubelet sees them: by the digest of their config, with all their names.
 *
 * A cache over the image records of the namespace, kept up by image events (other clients pull,
 * too). Any thread; results live in ctx's arena. */
#pragma once

#include "cri/internal.h"

struct cri_image {
	const char *id;		       /* sha256:<config digest> */
	const char *chain_id;	       /* of its snapshot */
	const char *const *references; /* all names, NULL-terminated, sorted */
	int64_t size;		       /* compressed */
	const json_t *spec; /* the image document (config.config is in there); borrowed, lives as
			       long as ctx's arena's owner holds the image */
	const char *user;   /* config.User */
	const char *stop_signal;
	bool pinned;
};

int cri_images_new(struct cri *c, struct cri_images **ret, struct err *err) _must_check_;
/* Reads the images of the namespace, and follows the events from then on. */
int cri_images_load(struct ctx *ctx, struct cri_images *i, struct err *err) _must_check_;
void cri_images_stop(struct cri_images *i);
void cri_images_free(struct cri_images *i);

/* By id (or a prefix), digest or name (normalised). -ERR_NOT_FOUND `image "x": not found`. @spec is
 * a copy of the caller's: json_decref when done. */
int cri_image_resolve(struct ctx *ctx, struct cri_images *i, const char *ref, struct cri_image *ret,
		      json_t **ret_spec, struct err *err) _must_check_;
/* Pulls unless it is there (the pause image). */
int cri_image_ensure(struct ctx *ctx, struct cri *c, const char *ref, const char *snapshotter,
		     struct cri_image *ret, json_t **ret_spec, struct err *err) _must_check_;
/* Makes sure that the image is unpacked in @snapshotter; returns the chain ID to prepare on. */
int cri_image_unpack(struct ctx *ctx, struct cri *c, const struct cri_image *i,
		     const char *snapshotter, const char **ret_chain, struct err *err) _must_check_;

/* Size of a snapshot as last measured; false = not yet. */
bool cri_snapshot_usage(struct cri_images *i, const char *snapshotter, const char *key,
			int64_t *ret_bytes, int64_t *ret_inodes, int64_t *ret_at_ns);
