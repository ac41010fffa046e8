/* SPDX-License-Identifier: Apache-2.0 */
/* Namespaces: a name and labels. Made explicitly, or by the first write into it. Results live in
 * ctx's arena. */
#pragma once

#include "base/labels.h"
#include "core/db.h"

struct namespace_info {
	const char *name;
	struct labels labels;
};

/* -ERR_ALREADY_EXISTS, -ERR_INVALID_ARGUMENT. Publishes nothing: the service does. */
int namespace_create(struct ctx *ctx, struct db *db, const char *name, const struct labels *labels,
		     struct err *err) _must_check_;
int namespace_labels(struct ctx *ctx, struct db *db, const char *name, struct labels *ret,
		     struct err *err) _must_check_; /* unknown: empty, OK */
/* Sets what @paths (labels.K) name of @labels, where a value that is absent or "" removes; with @n
 * 0 all of them and no others. All or nothing. Makes the namespace when it does not exist, as
 * clients rely on. *@ret: all labels afterwards. -ERR_INVALID_ARGUMENT. */
int namespace_update(struct ctx *ctx, struct db *db, const char *name, const struct labels *labels,
		     char *const *paths, size_t n, struct labels *ret,
		     struct err *err) _must_check_;
int namespace_list(struct ctx *ctx, struct db *db, struct namespace_info **ret, size_t *ret_n,
		   struct err *err) _must_check_;
/* -ERR_NOT_FOUND; -ERR_FAILED_PRECONDITION `namespace "x" must be empty, but it still has images,
 * blobs, ...`. */
int namespace_delete(struct ctx *ctx, struct db *db, const char *name,
		     struct err *err) _must_check_;
