/* SPDX-License-Identifier: Apache-2.0 */
/* metadata.db: which snapshots a snapshotter has, what they are made from, and the numbers of their
 * directories.
 *
 *     v1 / snapshots / <key> / id (uvarint), kind (a byte), parent, createdat, updatedat, labels/,
 * and of committed ones inodes, size (varint) / parents   / <uvarint id of the parent> 00 <uvarint
 * id of the child> = the child's key
 *
 * The sequence of the snapshots bucket is the last id; ids are never given twice. The file is that
 * of containerd's own snapshotters and is opened by the first call that needs it. Keys that this
 * code does not know are left alone by it and by containerd alike; a mark "not durable yet" on a
 * committed snapshot has its place beside size and inodes.
 *
 * Any thread; updates of several threads share commits. Results live in ctx's arena.
 */
#pragma once

#include "base/cleanup.h"
#include "core/snapshot.h"

struct storage;

/* What is to be mounted: ids of directories, the nearest parent first. */
struct storage_snapshot {
	enum snapshot_kind kind;
	uint64_t id;
	uint64_t *parent_ids;
	size_t n_parents;
	struct labels labels;
};

/* @path of metadata.db; its directory must exist by the first use. */
int storage_new(const char *path, struct storage **ret, struct err *err) _must_check_;
void storage_free(struct storage *st);

/* Each of the results may be NULL. The usage is that of committed snapshots, else zero.
 * -ERR_NOT_FOUND. */
int storage_info(struct ctx *ctx, struct storage *st, const char *key, uint64_t *ret_id,
		 struct snapshot_info *ret, struct snapshot_usage *ret_usage,
		 struct err *err) _must_check_;

/* Of an active snapshot or a view: -ERR_FAILED_PRECONDITION `requested snapshot K not active or
 * view`. */
int storage_get(struct ctx *ctx, struct storage *st, const char *key, struct storage_snapshot *ret,
		struct err *err) _must_check_;

/* -ERR_ALREADY_EXISTS, -ERR_NOT_FOUND (the parent), -ERR_INVALID_ARGUMENT (it is not committed). */
int storage_create(struct ctx *ctx, struct storage *st, enum snapshot_kind kind, const char *key,
		   const char *parent, const struct labels *labels, struct storage_snapshot *ret,
		   struct err *err) _must_check_;

/* The active snapshot @key becomes the committed @name, under the same id. @parent "" keeps the one
 * it has; another is for a snapshot that has none. */
int storage_commit(struct ctx *ctx, struct storage *st, const char *key, const char *name,
		   const char *parent, const struct labels *labels, struct snapshot_usage usage,
		   struct err *err) _must_check_;

/* Takes the record away. -ERR_FAILED_PRECONDITION `cannot remove snapshot with child`. */
int storage_remove(struct ctx *ctx, struct storage *st, const char *key, uint64_t *ret_id,
		   enum snapshot_kind *ret_kind, struct err *err) _must_check_;

/* @paths: labels, labels.K; n 0 = labels. */
int storage_update(struct ctx *ctx, struct storage *st, const struct snapshot_info *info,
		   char *const *paths, size_t n, struct snapshot_info *ret,
		   struct err *err) _must_check_;

/* All of them, in key order. @fn runs outside of the transaction; what it returns other than 0 ends
 * the walk and is returned. */
int storage_walk(struct ctx *ctx, struct storage *st,
		 int (*fn)(void *arg, const struct snapshot_info *info, uint64_t id), void *arg,
		 struct err *err) _must_check_;

/* Ids of all snapshots, ascending. */
int storage_ids(struct ctx *ctx, struct storage *st, uint64_t **ret, size_t *ret_n,
		struct err *err) _must_check_;

DEFINE_CLEANUP(struct storage *, storage_free)
