/* SPDX-License-Identifier: Apache-2.0 */
/* Images as the kubelet sees them: by the digest of their config, with all their names.
 *
 * A table of the images of the namespace for this host, kept up by image events (other clients pull
 * and remove, too). It has what lists need; an image's document is read when somebody asks for it.
 * Any thread; results live in ctx's arena. */
#pragma once

#include "cri/internal.h"
#include "oci/descriptor.h"

struct cri_image {
	const char *id;		       /* sha256:<config digest> */
	const char *chain_id;	       /* of its snapshot */
	const char *const *references; /* all names, NULL-terminated, sorted */
	int64_t size;		       /* compressed: manifest, config and layers */
	const char *user;	       /* config.User */
	const char *stop_signal;
	bool pinned;
	bool checkpoint;	  /* its files are a container's checkpoint: restore.h */
	struct descriptor target; /* what its names point to: an index or a manifest */
};

int cri_images_new(struct cri *c, struct cri_images **ret, struct err *err) _must_check_;
/* Reads the images of the namespace, and follows the events from then on. */
int cri_images_load(struct ctx *ctx, struct cri_images *i, struct err *err) _must_check_;
void cri_images_stop(struct cri_images *i);
void cri_images_free(struct cri_images *i);

/* By id (or a prefix of it that only one has), digest or name (normalised).
 * -ERR_NOT_FOUND `image "x": not found`.
 * @ret_spec  the image's document, which the caller decrefs; NULL = not wanted */
int cri_image_resolve(struct ctx *ctx, struct cri_images *i, const char *ref, struct cri_image *ret,
		      json_t **ret_spec, struct err *err) _must_check_;
/* What people call it: its first tag, else its first digest, else its id. */
const char *cri_image_name(const struct cri_image *i);
/* All, sorted by id. */
int cri_image_list(struct ctx *ctx, struct cri_images *i, struct cri_image **ret, size_t *ret_n,
		   struct err *err) _must_check_;
/* The manifest for this host of what an image's name points to. -ERR_NOT_FOUND */
struct manifest;
int cri_image_manifest(struct ctx *ctx, struct cri *c, const struct descriptor *target,
		       struct manifest *ret, struct err *err) _must_check_;
/* Looks at the record @name again: it has been made, changed or removed. */
int cri_image_refresh(struct ctx *ctx, struct cri_images *i, const char *name,
		      struct err *err) _must_check_;

/* What other clients have brought is the kubelet's, too: gives @img the labels of what was pulled
 * here, and its id as a further name, unless it has them. */
struct image;
int cri_image_adopt(struct ctx *ctx, struct cri *c, const struct image *img,
		    struct err *err) _must_check_;

/* Pulls @ref (normalised) for @snapshotter, as PullImage does; *@ret_id in ctx's arena. */
struct cri_pull {
	const char *ref;
	const char *snapshotter;
	const CRI(AuthConfig) * auth; /* NULL = none */
};
int cri_image_pull(struct ctx *ctx, struct cri *c, const struct cri_pull *p, const char **ret_id,
		   struct err *err) _must_check_;
/* Pulls unless it is there (the pause image). */
int cri_image_ensure(struct ctx *ctx, struct cri *c, const char *ref, const char *snapshotter,
		     struct cri_image *ret, json_t **ret_spec, struct err *err) _must_check_;
/* Makes sure that the image is unpacked in @snapshotter; returns the chain ID to prepare on. */
int cri_image_unpack(struct ctx *ctx, struct cri *c, const struct cri_image *i,
		     const char *snapshotter, const char **ret_chain, struct err *err) _must_check_;

/* The deprecated registry tables of the configuration, written as a directory of hosts.toml files
 * below the plugin's state directory, at start. *@ret "" = there are none. */
int cri_registry_write(struct cri *c, struct arena *a, const char **ret,
		       struct err *err) _must_check_;

/* Size of a snapshot: measured when somebody asks and the last measurement is older than the
 * configured period. @ret_at_ns unix time of it. */
int cri_snapshot_usage(struct ctx *ctx, struct cri *c, const char *snapshotter, const char *key,
		       int64_t *ret_bytes, int64_t *ret_inodes, int64_t *ret_at_ns,
		       struct err *err) _must_check_;
