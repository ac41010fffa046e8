/* SPDX-License-Identifier: Apache-2.0 */
/* String maps: labels and annotations. An array sorted by key, in an arena; small, so search is
 * linear or binary and a change copies nothing but the slot. Keys are unique. A zeroed struct is an
 * empty map. */
#pragma once

#include "base/arena.h"
#include "base/err.h"

struct label {
	const char *key;
	const char *value;
};

struct labels {
	struct label *v;
	size_t n;
	size_t cap;
};

/* NULL when absent. */
const char *labels_get(const struct labels *l, const char *key);
/* Sets (copies key and value into the arena); replaces an existing value. 0 or -ENOMEM. */
int labels_set(struct arena *a, struct labels *l, const char *key, const char *value);
void labels_unset(struct labels *l, const char *key);
/* Deep copy. 0 or -ENOMEM. */
int labels_copy(struct arena *a, struct labels *to, const struct labels *from);
/* key and value together at most 4096 bytes: -ERR_INVALID_ARGUMENT with containerd's text. */
int labels_validate(const struct labels *l, struct err *err) _must_check_;
