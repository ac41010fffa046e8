/* SPDX-License-Identifier: Apache-2.0 */
/* Mounting what snapshotters and clients describe: type, source, options as in fstab. */
#pragma once

/* This header hides the C library's of the same name, so it brings that along. */
#include_next <sys/mount.h>

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

struct mount_spec {
	const char *type;
	const char *source;
	const char *target; /* below @root, "" or NULL = @root itself */
	char *const *options;
	size_t n_options;
};

/* Mounts @m at @root. Options become flags where mount(2) has them (ro, rw, bind, rbind, nosuid,
 * ..., propagation), the rest is data. An overlay whose data is longer than a page is mounted from
 * a child process that sits in the common directory of its lower layers. A read-only bind is
 * remounted. */
int mount_spec_mount(const struct mount_spec *m, const char *root, struct err *err) _must_check_;
int mount_specs_mount(const struct mount_spec *m, size_t n, const char *root,
		      struct err *err) _must_check_;
/* Until nothing is mounted at @target; absent is fine. @flags: MNT_DETACH, UMOUNT_NOFOLLOW. */
int mount_unmount_all(const char *target, int flags, struct err *err) _must_check_;
/* Whether the kernel and the file system of the directory @dir do id-mapped mounts, and this
 * process may make them. */
bool mount_idmap_supported(const char *dir);
