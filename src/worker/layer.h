/* SPDX-License-Identifier: Apache-2.0 */
/* A layer made of what is different between two trees (tree_diff.h): a tar with removed names as
 * ".wh.NAME" files, and with the directories above each change. */
#pragma once

#include <stdint.h>
#include <time.h>

#include "base/err.h"
#include "worker/compressor.h"

struct layer_options {
	int lower, upper, changed; /* as in struct tree_diff_options */
	const struct timespec
		*epoch; /* no entry is newer than this; NULL = they are what they are */
};

/* Writes the whole archive; finishing @out is left to the caller. The same trees give the same
 * bytes. Moves the working directory.
 *
 * -ERR_FAILED_PRECONDITION  upper changes while it is read */
int layer_write(const struct layer_options *o, struct compressor *out, int64_t *ret_entries,
		struct err *err) _must_check_;
