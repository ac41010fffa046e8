/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots: a tree of file system layers, of which only committed ones have children.
 *
 * An active snapshot is written through its mounts; a committed one never changes; a view is read
 * only. Keys are unique in a namespace and snapshotter.
 *
 * Two layers. A snapshotter is a back end: a const table of functions with private state; its keys
 * are global. The namespaced layer (snapshot_*) maps a client's key to the back end's
 * "<namespace>/<seq>/<key>" in the database. Any thread; results live in ctx's arena.
 */
#pragma once

#include <time.h>

#include "base/labels.h"
#include "core/db.h"
#include "core/filter.h"
#include "oci/descriptor.h"

enum snapshot_kind { SNAPSHOT_UNKNOWN, SNAPSHOT_VIEW, SNAPSHOT_ACTIVE, SNAPSHOT_COMMITTED };

struct snapshot_info {
	enum snapshot_kind kind;
	const char *name;
	const char *parent; /* "" when none */
	struct labels labels;
	struct timespec created_at, updated_at;
};

struct snapshot_usage {
	int64_t size;
	int64_t inodes;
};

struct snapshotter;

struct snapshotter_ops {
	int (*stat)(struct ctx *ctx, struct snapshotter *s, const char *key,
		    struct snapshot_info *ret, struct err *err);
	/* @paths: labels, labels.K; n 0 = labels. */
	int (*update)(struct ctx *ctx, struct snapshotter *s, const struct snapshot_info *info,
		      char *const *paths, size_t n, struct snapshot_info *ret, struct err *err);
	int (*usage)(struct ctx *ctx, struct snapshotter *s, const char *key,
		     struct snapshot_usage *ret, struct err *err);
	int (*mounts)(struct ctx *ctx, struct snapshotter *s, const char *key, struct mounts *ret,
		      struct err *err);
	/* SNAPSHOT_ACTIVE or SNAPSHOT_VIEW on @parent ("" = empty). */
	int (*prepare)(struct ctx *ctx, struct snapshotter *s, enum snapshot_kind kind,
		       const char *key, const char *parent, const struct labels *labels,
		       struct mounts *ret, struct err *err);
	/* @parent: rebase of a snapshot without parent ("" = none). */
	int (*commit)(struct ctx *ctx, struct snapshotter *s, const char *name, const char *key,
		      const char *parent, const struct labels *labels, struct err *err);
	int (*remove)(struct ctx *ctx, struct snapshotter *s, const char *key, struct err *err);
	/* All of them, in key order; stops when @fn returns non-zero and returns that. */
	int (*walk)(struct ctx *ctx, struct snapshotter *s,
		    int (*fn)(void *arg, const struct snapshot_info *info), void *arg,
		    struct err *err);
	/* Removes directories that no record names. NULL = Unimplemented. */
	int (*cleanup)(struct ctx *ctx, struct snapshotter *s, struct err *err);
	void (*free)(struct snapshotter *s);
};

struct snapshotter {
	const struct snapshotter_ops *ops;
	const char *name; /* overlayfs, native, ... */
	bool can_rebase;
	bool own_cleanup; /* cleanup is the collector's; clients are told that there is none */
	/* Another process, which may take its time: no transaction is held over its calls. It may
	 * say -ERR_ALREADY_EXISTS to a prepare with the label containerd.io/snapshot.ref when it
	 * has, or can get, that snapshot by itself. */
	bool remote;
	bool slow_commit; /* no transaction is held over a commit either */
};

int snapshot_stat(struct ctx *ctx, struct db *db, const char *snapshotter, const char *key,
		  struct snapshot_info *ret, struct err *err) _must_check_;
int snapshot_update(struct ctx *ctx, struct db *db, const char *snapshotter,
		    const struct snapshot_info *info, char *const *paths, size_t n,
		    struct snapshot_info *ret, struct err *err) _must_check_;
int snapshot_usage(struct ctx *ctx, struct db *db, const char *snapshotter, const char *key,
		   struct snapshot_usage *ret, struct err *err) _must_check_;
int snapshot_mounts(struct ctx *ctx, struct db *db, const char *snapshotter, const char *key,
		    struct mounts *ret, struct err *err) _must_check_;
/* Makes an active snapshot (or a view) @key on @parent ("" for an empty one) and returns how to
 * mount it; nothing is mounted yet.
 *
 * -ERR_NOT_FOUND        @parent does not exist
 * -ERR_INVALID_ARGUMENT @parent is not committed
 * -ERR_ALREADY_EXISTS   @key is taken, or the label containerd.io/snapshot.ref names one that
 * exists Publishes /snapshot/prepare (not for views). */
int snapshot_prepare(struct ctx *ctx, struct db *db, const char *snapshotter,
		     enum snapshot_kind kind, const char *key, const char *parent,
		     const struct labels *labels, struct mounts *ret, struct err *err) _must_check_;
int snapshot_commit(struct ctx *ctx, struct db *db, const char *snapshotter, const char *name,
		    const char *key, const char *parent, const struct labels *labels,
		    struct err *err) _must_check_;
int snapshot_remove(struct ctx *ctx, struct db *db, const char *snapshotter, const char *key,
		    struct err *err) _must_check_;
int snapshot_list(struct ctx *ctx, struct db *db, const char *snapshotter, const struct filter *f,
		  struct snapshot_info **ret, size_t *ret_n, struct err *err) _must_check_;
/* Whether its snapshots may come from elsewhere than layers: see struct snapshotter. */
bool snapshot_is_remote(struct db *db, const char *snapshotter);
int snapshot_cleanup(struct ctx *ctx, struct db *db, const char *snapshotter,
		     struct err *err) _must_check_;
const char *snapshot_kind_name(enum snapshot_kind k); /* Unknown View Active Committed */
