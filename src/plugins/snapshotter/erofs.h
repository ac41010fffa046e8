/* SPDX-License-Identifier: Apache-2.0 */
/* io.containerd.snapshotter.v1.erofs */
#pragma once

#include <stdbool.h>

#include "core/snapshot.h"

enum erofs_verity { EROFS_VERITY_AUTO, EROFS_VERITY_OFF };

struct erofs_options {
	const char *const *mount_options; /* added to every overlay; NULL-terminated or NULL;
					     outlives the snapshotter */
	bool fsverity;		  /* layers are sealed with fs-verity, and only such mounted */
	bool immutable;		  /* layers have the attribute i of chattr(1) */
	int64_t size;		  /* > 0: what is written goes into an ext4 of this size */
	enum erofs_verity verity; /* whether the hash trees of layers that have one are used */
};

/* The snapshotter at @root (absolute; made when absent). Freed by its ops->free.
 *
 * -ERR_UNIMPLEMENTED  the kernel has no EROFS, or the file system of @root no fs-verity where that
 * is wanted; and what overlay_check() says, but with a size */
int erofs_new(const char *root, const struct erofs_options *o, struct snapshotter **ret,
	      struct err *err) _must_check_;

/* For the plugin's capabilities: whether mounts map ids. */
bool erofs_remaps_ids(const struct snapshotter *s);
