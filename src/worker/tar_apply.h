/* SPDX-License-Identifier: Apache-2.0 */
/* A layer's tar stream applied to a directory: entries made or replaced, whiteouts turned into what
 * the directory needs.
 *
 * The umask should be 0. Changes the working directory while it runs. One call at a time in a
 * process. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "worker/tar_heads.h"

struct tar_apply_options {
	int root_fd;
	const int *lower_fds; /* overlay: topmost first */
	size_t n_lowers;
	bool overlay; /* whiteouts become 0:0 devices and opaque attributes; else they delete */
	bool alone;   /* overlay: there are lower directories, but not here; a layer that needs them
			 ends with -ERR_ABORTED */
	bool userxattr;	   /* user.overlay.opaque instead of trusted.overlay.opaque */
	bool keep_owner;   /* do not change owners: for processes that may not */
	bool skip_devices; /* in a user namespace: devices that may not be made are left out */
	int64_t max_entries;
	int64_t max_file; /* logical size of one file (sparse files can claim any) */
};

/* Reads until the archive's end, not the stream's.
 *
 * -ERR_INVALID_ARGUMENT not a tar archive, damaged, or an entry that may not be;
 * -ERR_RESOURCE_EXHAUSTED a limit or the disk; what @fn returned; else by errno. */
int tar_apply(const struct tar_apply_options *o, tar_read_fn fn, void *arg, int64_t *ret_entries,
	      struct err *err) _must_check_;
