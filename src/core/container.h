/* SPDX-License-Identifier: Apache-2.0 */
/* Containers: the record of what a task is to be made from. Needs ctx's namespace. Results live in
 * ctx's arena. */
#pragma once

#include <time.h>

#include "base/labels.h"
#include "core/db.h"
#include "core/filter.h"

/* google.protobuf.Any, unopened; type_url NULL = absent. */
struct any {
	const char *type_url;
	const void *value;
	size_t len;
};

struct any_entry {
	const char *key;
	struct any value;
};

struct container {
	const char *id;
	struct labels labels;
	const char *image;
	const char *runtime_name;
	struct any runtime_options;
	struct any spec;
	const char *snapshotter;
	const char *snapshot_key;
	const char *sandbox_id;
	struct timespec created_at, updated_at;
	struct any_entry *extensions;
	size_t n_extensions;
};

int container_get(struct ctx *ctx, struct db *db, const char *id, struct container *ret,
		  struct err *err) _must_check_;
int container_list(struct ctx *ctx, struct db *db, const struct filter *f, struct container **ret,
		   size_t *ret_n, struct err *err) _must_check_;
/* Validates (behaviours: containers service), sets created_at and updated_at. */
int container_create(struct ctx *ctx, struct db *db, const struct container *c,
		     struct container *ret, struct err *err) _must_check_;
/* @paths: the field mask, n 0 = replace everything that may be replaced. */
int container_update(struct ctx *ctx, struct db *db, const struct container *c, char *const *paths,
		     size_t n, struct container *ret, struct err *err) _must_check_;
int container_delete(struct ctx *ctx, struct db *db, const char *id, struct err *err) _must_check_;

/* A container by its name and labels only. */
struct container_ref {
	const char *ns, *id;
	struct labels labels;
	struct timespec created_at;
};

/* Those of all namespaces that have the label @key, whatever its value; ctx needs no namespace. */
int container_list_labelled(struct ctx *ctx, struct db *db, const char *key,
			    struct container_ref **ret, size_t *ret_n,
			    struct err *err) _must_check_;
