/* SPDX-License-Identifier: Apache-2.0 */
/* Leases: hold resources against the garbage collector. Needs ctx's namespace. Results live in
 * ctx's arena. */
#pragma once

#include <time.h>

#include "base/labels.h"
#include "core/db.h"
#include "core/filter.h"

struct lease {
	const char *id;
	struct timespec created_at;
	struct labels labels;
};

struct lease_resource {
	const char *id;
	const char *type; /* content, ingests, images, snapshots/<snapshotter> */
};

/* @id "" = generated. */
int lease_create(struct ctx *ctx, struct db *db, const char *id, const struct labels *labels,
		 struct lease *ret, struct err *err) _must_check_;
int lease_delete(struct ctx *ctx, struct db *db, const char *id, struct err *err) _must_check_;
int lease_list(struct ctx *ctx, struct db *db, const struct filter *f, struct lease **ret,
	       size_t *ret_n, struct err *err) _must_check_;
int lease_add_resource(struct ctx *ctx, struct db *db, const char *id,
		       const struct lease_resource *r, struct err *err) _must_check_;
int lease_delete_resource(struct ctx *ctx, struct db *db, const char *id,
			  const struct lease_resource *r, struct err *err) _must_check_;
int lease_list_resources(struct ctx *ctx, struct db *db, const char *id,
			 struct lease_resource **ret, size_t *ret_n, struct err *err) _must_check_;

/* Whether there is one: 0, -ERR_NOT_FOUND. */
int lease_check(struct ctx *ctx, struct db *db, const char *id, struct err *err) _must_check_;

/* In a write transaction of another noun: makes one without labels. -ERR_ALREADY_EXISTS */
int lease_tx_create(struct ctx *ctx, struct bolt_tx *tx, const char *id,
		    struct err *err) _must_check_;
/* In a write transaction of another noun: adds to ctx->lease when the call carries one.
 * -ERR_NOT_FOUND "lease does not exist". */
int lease_tx_add(struct ctx *ctx, struct bolt_tx *tx, const char *type, const char *id,
		 struct err *err) _must_check_;
int lease_tx_remove(struct ctx *ctx, struct bolt_tx *tx, const char *type, const char *id,
		    struct err *err) _must_check_;

/* A lease of the daemon's own around a piece of work: made with gc.expire in 24 h and set into
 * ctx->lease when ctx has none; lease_guard_end() removes it (best effort). */
struct lease_guard {
	const char *id; /* "" = the client's own lease is in use */
};
int lease_guard_begin(struct ctx *ctx, struct db *db, struct lease_guard *ret,
		      struct err *err) _must_check_;
void lease_guard_end(struct ctx *ctx, struct db *db, struct lease_guard *g);
