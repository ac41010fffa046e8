/* SPDX-License-Identifier: Apache-2.0 */
/* Field masks of the Update calls: paths such as `labels`, `labels.containerd.io/gc.root`,
 * `target`. Any thread. */
#pragma once

#include <stdbool.h>

#include "base/labels.h"

/* True when @path is `<field>` (then *@ret_key is NULL) or `<field>.<key>`. */
bool mask_field(const char *path, const char *field, const char **ret_key);

/* Applies one mask path over a map: the whole of it (@key NULL) or one entry; an entry that is
 * absent or "" in @from is removed. Copies into the arena. -ENOMEM. */
int mask_labels(struct arena *a, struct labels *to, const struct labels *from, const char *key);
