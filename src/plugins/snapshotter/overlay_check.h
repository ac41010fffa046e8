/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel and a file system can do for overlays. */
#pragma once

#include <stdbool.h>

#include "base/err.h"

struct overlay_support {
	bool in_userns;
	bool userxattr; /* the option is needed */
	bool index;	/* the option index= exists */
	bool idmap;	/* lower layers may be id-mapped */
};

/* Tries in a temporary directory below @root, without mounting anything where somebody could see
 * it.
 *
 * -ERR_FAILED_PRECONDITION  the file system tells no entry types, or can not hold an overlay
 * -ERR_UNIMPLEMENTED        the kernel has no overlay */
int overlay_check(const char *root, struct overlay_support *ret, struct err *err) _must_check_;

/* True in a user namespace other than the first. */
bool overlay_in_userns(void);
