/* SPDX-License-Identifier: Apache-2.0 */
/* What the snapshotters have in common that keep their snapshots on this machine.
 *
 *     <root>/metadata.db       the records, see storage.h
 *     <root>/snapshots/<id>    what belongs to them, see dirs.h
 *
 * Such a snapshotter begins with a struct local. Its table of operations names the functions
 * local_*() where they do what it needs, and its own where it needs something else; what differs
 * inside of the shared ones is its struct local_ops. What is common is the order of things: a
 * record is made before what belongs to it and removed before it, and no transaction is held over
 * work on files. So a failure, or a crash, leaves what no record names, and cleanup takes that
 * away.
 *
 * Threads: as snapshotters; nothing here changes after the snapshotter is made.
 */
#pragma once

#include <stddef.h>

#include "plugins/snapshotter/dirs.h"
#include "plugins/snapshotter/storage.h"

struct local;

struct local_ops {
	const char *mounts_failed; /* what stands before an error of mounts about the record */
	/* How much the active snapshot @id holds by now. */
	int (*usage)(struct ctx *ctx, struct local *l, uint64_t id, struct snapshot_usage *ret,
		     struct err *err);
	/* Makes what belongs to a new record; see local_dir_make(). */
	int (*make)(struct ctx *ctx, struct local *l, const struct storage_snapshot *s,
		    struct err *err);
	int (*mounts)(struct ctx *ctx, struct local *l, const struct storage_snapshot *s,
		      struct mounts *ret, struct err *err);
	/* Before the record of @id is committed: checks (it may be of any kind), finishes an active
	 * one, which may get @parent only now ("" = no), and tells its usage, which is zero else.
	 */
	int (*finish)(struct ctx *ctx, struct local *l, uint64_t id,
		      const struct snapshot_info *info, const char *parent,
		      struct snapshot_usage *ret, struct err *err);
	/* After it is committed; may be NULL. */
	void (*committed)(struct ctx *ctx, struct local *l, uint64_t id);
};

struct local {
	struct snapshotter s;
	const struct local_ops *ops;
	struct storage *storage;
	struct snapdirs *dirs;
	char *root;
	bool lazy_remove; /* what belongs to a removed record is left to cleanup */
};

static inline struct local *local_of(const struct snapshotter *s)
{
	return (struct local *)((char *)s - offsetof(struct local, s));
}

/* Makes @root (absolute) with its directory, and what is not the snapshotter's own in @l. @l, which
 * is all zero but s and ops, is to be freed by local_free() on failure, too. */
int local_init(struct local *l, const char *root, struct err *err) _must_check_;

/* @root/snapshots/@id/@leaf; NULL = no memory. */
char *local_path(struct arena *a, const struct local *l, uint64_t id, const char *leaf);

/* snapshots/<id> of @s with @mode, filled by @fill as long as it has another name, @temp. */
int local_dir_make(struct ctx *ctx, struct local *l, const struct storage_snapshot *s, mode_t mode,
		   int (*fill)(struct ctx *ctx, struct local *l, const struct storage_snapshot *s,
			       const char *temp, struct err *err),
		   struct err *err) _must_check_;

/* ---- For tables of operations: see struct snapshotter_ops ---- */

int local_stat(struct ctx *ctx, struct snapshotter *s, const char *key, struct snapshot_info *ret,
	       struct err *err);
int local_update(struct ctx *ctx, struct snapshotter *s, const struct snapshot_info *info,
		 char *const *paths, size_t n, struct snapshot_info *ret, struct err *err);
int local_usage(struct ctx *ctx, struct snapshotter *s, const char *key, struct snapshot_usage *ret,
		struct err *err);
int local_mounts(struct ctx *ctx, struct snapshotter *s, const char *key, struct mounts *ret,
		 struct err *err);
int local_prepare(struct ctx *ctx, struct snapshotter *s, enum snapshot_kind kind, const char *key,
		  const char *parent, const struct labels *labels, struct mounts *ret,
		  struct err *err);
int local_commit(struct ctx *ctx, struct snapshotter *s, const char *name, const char *key,
		 const char *parent, const struct labels *labels, struct err *err);
int local_remove(struct ctx *ctx, struct snapshotter *s, const char *key, struct err *err);
int local_walk(struct ctx *ctx, struct snapshotter *s,
	       int (*fn)(void *arg, const struct snapshot_info *info), void *arg, struct err *err);
int local_cleanup(struct ctx *ctx, struct snapshotter *s, struct err *err);
/* Frees the snapshotter, of which @s is the very beginning. */
void local_free(struct snapshotter *s);
