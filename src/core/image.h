/* SPDX-License-Identifier: Apache-2.0 */
/* Images: a name for a descriptor. Needs ctx's namespace. Results live in ctx's arena. */
#pragma once

#include <time.h>

#include "core/db.h"
#include "core/filter.h"
#include "oci/descriptor.h"

struct image {
	const char *name;
	struct labels labels;
	struct descriptor target;
	struct timespec created_at, updated_at;
};

int image_get(struct ctx *ctx, struct db *db, const char *name, struct image *ret,
	      struct err *err) _must_check_;
int image_list(struct ctx *ctx, struct db *db, const struct filter *f, struct image **ret,
	       size_t *ret_n, struct err *err) _must_check_;
/* @epoch: both times when not zero. */
int image_create(struct ctx *ctx, struct db *db, const struct image *i, struct timespec epoch,
		 struct image *ret, struct err *err) _must_check_;
int image_update(struct ctx *ctx, struct db *db, const struct image *i, char *const *paths,
		 size_t n, struct timespec epoch, struct image *ret, struct err *err) _must_check_;
/* @target_digest: guard, NULL or "" = any. */
int image_delete(struct ctx *ctx, struct db *db, const char *name, const char *target_digest,
		 struct err *err) _must_check_;
const char *image_field(const void *image, const char *const *path, size_t n);
