/* SPDX-License-Identifier: Apache-2.0 */
/* Copying a tree of files so that nothing tells the copy from the original: owners, modes, times,
 * extended attributes, hard links among its files, devices, sockets, holes. Blocks are shared where
 * the file system can. */
#pragma once

#include "base/ctx.h"

/* Copies the directory @from (relative to @dirfd) onto the existing empty directory @to. Names are
 * taken one at a time from open directories and no link is followed, so the tree may be anybody's;
 * it must not change meanwhile. Ends with -ERR_CANCELED when @ctx does. On failure @to holds a
 * part. */
int tree_copy(struct ctx *ctx, int dirfd, const char *from, const char *to,
	      struct err *err) _must_check_;
