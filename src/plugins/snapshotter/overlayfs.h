/* SPDX-License-Identifier: Apache-2.0 */
/* io.containerd.snapshotter.v1.overlayfs */
#pragma once

#include <stdbool.h>

#include "core/snapshot.h"

struct overlayfs_options {
	bool upperdir_label; /* label containerd.io/snapshot/overlay.upperdir in what stat, update
				and walk tell */
	bool sync_remove;    /* directories go with their record; else at the next cleanup */
	bool slow_chown;     /* clients may chown layers where the kernel can not map ids */
	char *const *mount_options; /* added to every overlay; copied */
	size_t n_mount_options;
};

/* The snapshotter at @root (absolute; made when absent). Freed by its ops->free.
 *
 * -ERR_FAILED_PRECONDITION  the file system of @root tells no entry types, or can not hold an
 * overlay -ERR_UNIMPLEMENTED        the kernel has no overlay */
int overlayfs_new(const char *root, const struct overlayfs_options *o, struct snapshotter **ret,
		  struct err *err) _must_check_;

/* For the plugin's capabilities: whether mounts map ids (remap-ids), and whether only they do
 * (only-remap-ids). */
bool overlayfs_remaps_ids(const struct snapshotter *s);
bool overlayfs_only_remaps_ids(const struct snapshotter *s);
