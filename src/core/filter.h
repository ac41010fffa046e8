/* SPDX-License-Identifier: Apache-2.0 */
/* Filter language of containerd's List calls: `name==foo,labels."a.b"~=^x`. The strings of one call
 * are alternatives (or), the selectors inside one string must all match (and). */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"
#include "base/err.h"

struct filter; /* in the arena that it was parsed into */

/* @n 0, or any empty string: matches everything (*@ret NULL). -ERR_INVALID_ARGUMENT
 * `filters: parse error: [before >|x|< after]: msg`. A filter holds compiled regular expressions:
 * filter_free() before the arena goes. */
int filter_parse(struct arena *a, const char *const *filters, size_t n, struct filter **ret,
		 struct err *err) _must_check_;
void filter_free(struct filter *f); /* NULL is fine */

/* Value of the field at @path (split at dots, unquoted) of @obj, or NULL when it is not present. */
typedef const char *(*filter_field_fn)(const void *obj, const char *const *path, size_t n);
bool filter_match(const struct filter *f, filter_field_fn fn, const void *obj);

/* The rest of a path joined with "." and looked up in labels: what adaptors do with labels.K. */
struct labels;
const char *filter_label(const struct labels *l, const char *const *path, size_t n);

DEFINE_CLEANUP(struct filter *, filter_free)
#define _cleanup_filter_ _cleanup_(filter_freep)
