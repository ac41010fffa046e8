/* SPDX-License-Identifier: Apache-2.0 */
/* What is different between two directory trees: both are walked side by side, in the order of
 * their names, and each difference is told.
 *
 * An entry counts as modified when type, mode, owner, device number or attributes differ; when it
 * is no directory, also by size and time of modification. Files whose times have no fraction of a
 * second on both sides are compared by content, since archives cut fractions off. A character
 * device 0:0 is overlayfs's mark for a removed name and counts as absent.
 */
#pragma once

#include <sys/stat.h>

#include "base/arena.h"
#include "base/err.h"
#include "worker/tar_write.h"

enum change_kind {
	CHANGE_ADDED,
	CHANGE_MODIFIED,
	CHANGE_DELETED,	  /* what is below it is not told of */
	CHANGE_UNCHANGED, /* told of entries with several hard links only */
};

struct change {
	enum change_kind kind;
	const char *path;      /* relative to the root, which itself is not told of */
	int dir;	       /* upper's directory that holds it, for reading */
	const char *name;      /* in that directory */
	const struct stat *st; /* upper's; NULL when deleted */
};

struct tree_diff_options {
	int lower; /* directories; -1 = nothing: all of upper is added */
	int upper;
	/* A directory that has a name for each entry that may differ, and for the directories
	 * above it: the upper directory, when upper is an overlay of that over lower. What has no
	 * name there is not looked at. -1 = none. */
	int changed;
	int (*fn)(void *arg, const struct change *c, struct err *err);
	void *arg;
};

/* Returns what @fn returns when that is negative. Moves the working directory.
 * -ERR_FAILED_PRECONDITION when a path is too long for an archive. */
int tree_diff(const struct tree_diff_options *o, struct err *err) _must_check_;

/* Attributes of entry @name of @dir that belong to a layer, sorted by name, into @a: not those of
 * the host's security policy nor overlayfs's own. Moves the working directory. 0 or -errno. */
int tree_xattrs(struct arena *a, int dir, const char *name, struct tar_xattr **ret, size_t *ret_n);
