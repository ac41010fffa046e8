/* SPDX-License-Identifier: Apache-2.0 */
/* The directory that a layer is unpacked into, as a place where paths of an archive are looked up
 * and made.
 *
 * Paths are cleaned (tree_clean): relative, without ".", ".." and empty parts; "" is the root
 * itself. Symbolic links on the way are resolved with the tree as root, so nothing is ever found or
 * made outside. Not thread safe. Return 0 or -errno. */
#pragma once

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"
#include "worker/pathset.h"

struct tree_kept;

struct tree {
	int root;
	const int *lowers; /* overlay's lower directories, topmost first; may be none */
	size_t n_lowers;
	const char *opaque; /* attribute of a directory that hides those of its name in lower ones;
			       NULL = none does */
	bool chown;	    /* false where the process may not: owners are left as they come */
	bool alone; /* the lower directories are not known: what would depend on them ends with
		       -ENOLINK */
	bool wanted_lowers; /* that has happened */
	/* The last parent directory that was used: archives list a directory's files one after the
	 * other. */
	int cached_fd;
	char cached[PATH_MAX];
	bool cached_kept; /* its time is among the kept ones */
	/* Times of directories as they were before something in them was changed. */
	struct pathset kept_paths;
	struct tree_kept *kept;
	size_t n_kept, cap_kept;
};

void tree_init(struct tree *t, int root, const int *lowers, size_t n_lowers, bool chown);
void tree_done(struct tree *t);

/* -ENAMETOOLONG */
int tree_clean(const char *name, char ret[PATH_MAX]);

/* Descriptor (O_PATH, the tree's, valid until the next call with this tree) of directory @dir;
 * -ENOENT, -ENOTDIR. */
int tree_open_dir(struct tree *t, const char *dir, int *ret_fd);
/* The same, but makes what is missing: with owner, mode, times and attributes of the lower
 * directories' one where there is one, else root's and 0755. */
int tree_make_dir(struct tree *t, const char *dir, int *ret_fd);
/* To be called before something in the directory is made or removed that tree_make_dir() has just
 * given: what it was last changed at is kept, the first time, but not of the root. */
int tree_keep_times(struct tree *t, const char *dir, int fd);
/* Gives all directories the times that were kept; one that is there no more is left out. */
int tree_restore_times(struct tree *t);
/* To be called when a directory or link was removed or replaced. */
void tree_forget(struct tree *t);

/* Copies a regular file or symbolic link @path from the lower directories to where it is missing;
 * -ENOENT when no layer has it. */
int tree_copy_up(struct tree *t, const char *path);

/* Attributes that overlayfs gives a meaning of its own: never taken from an archive nor copied. */
bool tree_xattr_is_overlay(const char *name);

/* Writes @name with control characters and what is not UTF-8 escaped, shortened to fit. Returns
 * @out. */
const char *tree_quote(const char *name, char *out, size_t size);
