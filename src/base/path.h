/* SPDX-License-Identifier: Apache-2.0 */
/* Paths. Return 0 or -errno. Paths inside somebody else's file system go through
 * path_open_in_root() only. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "base/arena.h"

/* Joins with exactly one "/" between; @b absolute is appended all the same. NULL = no memory. */
char *path_join(struct arena *a, const char *x, const char *y);
/* @p itself, or below the working directory when it is relative. NULL = no memory, or no such
 * directory. */
const char *path_absolute(struct arena *a, const char *p);
/* Last component, in place ("" for "/"). */
const char *path_base(const char *p);
/* All but the last component: "/" or "." where nothing is left. */
char *path_dir(struct arena *a, const char *p);

/* mkdir -p; existing directories are left as they are, made ones get @mode (not masked by umask
 * only for the last). */
int mkdir_p(const char *path, mode_t mode);

/* Removes a tree, not following links nor crossing into what is mounted below (-EBUSY then). Absent
 * is fine. */
int rm_rf(int dirfd, const char *path);

/* openat2(RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS) below @rootfd: absolute links and ".." stay
 * inside. Where the kernel lacks openat2 the path is walked component by component with the same
 * meaning. O_CLOEXEC is added. Returns the descriptor or -errno. */
int path_open_in_root(int rootfd, const char *path, int flags, mode_t mode);

/* The directory @path below @rootfd for reading, also when the path is longer than the kernel
 * takes. Returns the descriptor or -errno. */
#define DEEP_PATH_MAX (1u << 20) /* longer ones are refused by who makes them */
int path_open_deep(int rootfd, const char *path);

/* Total of allocated bytes (st_blocks * 512) and number of inodes below @fd, hard links counted
 * once, as `du` does. */
int dir_usage(int dirfd, const char *path, int64_t *ret_bytes, int64_t *ret_inodes);
