/* SPDX-License-Identifier: Apache-2.0 */
/* A set of paths, with the directories above each. Zeroed is empty. Not thread safe. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"

struct pathset {
	struct arena *arena; /* made with the first path */
	const char **slots;
	size_t n, cap;
};

void pathset_done(struct pathset *s);
/* Adds @path and each directory above it. 0 or -ENOMEM. */
int pathset_add(struct pathset *s, const char *path);
/* Adds @path alone: 1 (*@ret_path: its copy in the set), 0 = it was there, or -ENOMEM. Not to be
 * mixed with pathset_add(). */
int pathset_add_alone(struct pathset *s, const char *path, const char **ret_path);
bool pathset_has(const struct pathset *s, const char *path);
