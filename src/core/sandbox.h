/* SPDX-License-Identifier: Apache-2.0 */
/* Sandboxes: the record of an environment that tasks share. A controller, which is another plugin,
 * brings it to life.
 *
 * Needs ctx's namespace. Results live in ctx's arena. */
#pragma once

#include <time.h>

#include "base/labels.h"
#include "core/container.h" /* struct any */
#include "core/db.h"
#include "core/filter.h"

struct sandbox {
	const char *id;
	struct labels labels;
	const char *runtime_name;
	struct any runtime_options;
	struct any spec;
	const char *sandboxer; /* name of the controller */
	struct timespec created_at, updated_at;
	struct any_entry *extensions;
	size_t n_extensions;
};

/* -ERR_NOT_FOUND `no sandbox buckets`, `bucket "x" not found`: containerd's texts. */
int sandbox_get(struct ctx *ctx, struct db *db, const char *id, struct sandbox *ret,
		struct err *err) _must_check_;
int sandbox_list(struct ctx *ctx, struct db *db, const struct filter *f, struct sandbox **ret,
		 size_t *ret_n, struct err *err) _must_check_;
/* Validates, sets created_at and updated_at. -ERR_ALREADY_EXISTS. */
int sandbox_create(struct ctx *ctx, struct db *db, const struct sandbox *s, struct sandbox *ret,
		   struct err *err) _must_check_;
/* With a lease of the same id in the same commit. */
int sandbox_create_leased(struct ctx *ctx, struct db *db, const struct sandbox *s,
			  struct sandbox *ret, struct err *err) _must_check_;
/* @paths: labels, labels.K, extensions, extensions.K, runtime, spec; n 0 = all four, and then the
 * runtime's name must be what it was. Extensions that are stored already stay. */
int sandbox_update(struct ctx *ctx, struct db *db, const struct sandbox *s, char *const *paths,
		   size_t n, struct sandbox *ret, struct err *err) _must_check_;
int sandbox_delete(struct ctx *ctx, struct db *db, const char *id, struct err *err) _must_check_;
