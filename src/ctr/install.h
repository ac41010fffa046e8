/* SPDX-License-Identifier: Apache-2.0 */
/* Copies programs out of somebody else's file system. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

struct install {
	const char *to; /* directory on the host; made when absent */
	bool libs;	/* "lib" besides "bin" */
	bool replace;	/* files that are there */
	size_t n_files; /* that were copied */
};

/* Copies bin (and lib) of the tree at the open directory @root. Links inside the tree are followed
 * inside of it only; nothing is written through a link of the host that lies below @to. Owner and
 * set-id bits are not taken over. Links are copied when they stay in their directory.
 *
 * -ERR_ALREADY_EXISTS a file is there and is not to be replaced; those before it are copied
 * -ERR_NOT_FOUND      there is nothing to copy
 * -ERR_INVALID_ARGUMENT a link that leads elsewhere, or directories nested too deeply */
int install_tree(struct install *i, int root, struct err *err) _must_check_;
