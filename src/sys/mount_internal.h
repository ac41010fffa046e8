/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of sys/mount share. Functions return 0 or -errno unless they take a struct err. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"
#include "base/err.h"
#include "sys/mount.h"
#include "sys/userns.h"

/* Options of a mount_spec, taken apart. Strings live in the arena of the call. */
struct mount_plan {
	const char *type, *source, *target; /* target: resolved, may be /proc/self/fd/N */
	unsigned long flags;		    /* MS_*, without propagation */
	unsigned long propagation[8];	    /* in the order given */
	size_t n_propagation;
	const char **data; /* what the file system gets */
	size_t n_data;
	const char *uidmap, *gidmap; /* "ctr:host:len[,...]" or NULL */
	bool loop;
};

/* The data joined with commas; NULL = no memory. */
char *plan_data(struct arena *a, const struct mount_plan *p);

/* Mounts an overlay whose data does not fit into a page. */
int overlay_mount_long(struct arena *a, const struct mount_plan *p, struct err *err) _must_check_;
/* Its two ways: layer by layer (-EINVAL before Linux 6.5), or lower directories relative to what
 * they share (-E2BIG when that does not help). */
int overlay_mount_new(struct arena *a, const struct mount_plan *p) _must_check_;
int overlay_mount_relative(struct arena *a, const struct mount_plan *p) _must_check_;
/* Splits "lowerdir=..." at its unescaped colons, escapes kept; NULL = no memory. */
const char **overlay_lowers(struct arena *a, const char *value, size_t *ret_n);
/* The deepest directory that all of @v are in or are; NULL when there is none but "/" (or no
 * memory). */
char *overlay_common_dir(struct arena *a, const char *const *v, size_t n);

/* Replaces what is mounted at @target by an id-mapped clone of it. */
int mount_idmap_in_place(const char *target, bool recursive, int userns_fd) _must_check_;
/* Mounts an id-mapped clone of the directory @source at @target. */
int mount_idmapped_bind(const char *source, const char *target, bool recursive,
			int userns_fd) _must_check_;
/* Moves the top mount of @target away from what is mounted below it there, which goes. */
int mount_drop_below(const char *target) _must_check_;

/* Attaches a free loop device to the file; it detaches itself after the last use. @path of at least
 * 32 bytes. */
int loop_attach(const char *file, bool read_only, char *path, int *ret_fd) _must_check_;
