/* SPDX-License-Identifier: Apache-2.0 */
/* Files in the directories that an overlay lays over each other, read without mounting it. */
#pragma once

#include "base/arena.h"
#include "sys/mount.h"

/* The text of the file @dir/@name (of one part each) as the mount @m, an overlay or a bind, would
 * show it: "" when it is absent, @max bytes at most. -EAGAIN: only a mount can tell. For root. */
int layers_file_read(struct arena *a, const struct mount_spec *m, const char *dir, const char *name,
		     size_t max, char **ret);
