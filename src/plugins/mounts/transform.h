/* SPDX-License-Identifier: Apache-2.0 */
/* Mount types with prefixes, applied from the left: `format/mkdir/overlay` is an overlay whose text
 * has places to be filled, and for which directories are made.
 *
 *     format/   {{ source N }}, {{ target N }}, {{ mount N }} (mount point), {{ overlay A B }}
 * (mount points A to B, joined by ":") of earlier mounts of the list, in source, target and options
 *     mkdir/    option X-containerd.mkdir.path=PATH[:mode]: makes PATH (mode octal, 0700)
 *     mkfs/     options X-containerd.mkfs.size=, .fs= (ext2, ext3, ext4, xfs; ext4), .uuid=: makes
 * a file system in the file that is the source, unless it exists */
#pragma once

#include "plugins/mounts/manager.h"

bool mount_has_transform(const char *type);
/* @type without them: what is mounted in the end. */
const char *mount_plain_type(const char *type);
bool mount_has_format(const char *type);

/* Bytes, with k, m, g or t for binary multiples, which "b" or "ib" may follow.
 * -ERR_INVALID_ARGUMENT. */
int mount_size_parse(const char *text, int64_t *ret, struct err *err) _must_check_;

/* @done: the mounts before it. Paths must lie below one of @roots; NULL = anywhere. */
int mount_transform(struct ctx *ctx, const char *const *roots, const struct mount *in,
		    const struct mount_active *done, size_t n_done, struct mount *ret,
		    struct err *err) _must_check_;
