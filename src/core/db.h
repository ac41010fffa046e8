/* SPDX-License-Identifier: Apache-2.0 */
/* Metadata database: meta.db in containerd's bucket schema (docs/bolt-schema), over bolt.
 *
 * Every noun of core (namespace, container, image, content, snapshot, lease, sandbox) keeps its
 * records here and has its functions in a header of its own. Updates go through db_update(), which
 * shares commits between threads and keeps the garbage collector out while they run. Any thread.
 */
#pragma once

#include <stdbool.h>

#include "base/ctx.h"
#include "bolt/bolt.h"

struct db;
struct content_store;
struct snapshotter;
struct event_exchange;

struct db_options {
	const char *path;
	bool no_sync;
	bool content_isolated;	       /* content_sharing_policy = isolated */
	int64_t lock_timeout_ns;       /* io.containerd.timeout.bolt.open */
	struct content_store *content; /* back end, borrowed */
	struct event_exchange *events; /* borrowed */
};

/* Opens, migrates, and leaves version 4. The daemon's directories must exist. */
int db_open(const struct db_options *o, struct db **ret, struct err *err) _must_check_;
void db_close(struct db *db);

/* Before the first request: makes @sn known under its name. Borrowed. */
int db_add_snapshotter(struct db *db, struct snapshotter *sn, struct err *err) _must_check_;
/* By name; -ERR_INVALID_ARGUMENT "snapshotter argument missing", "snapshotter not loaded: X". */
int db_snapshotter(struct db *db, const char *name, struct snapshotter **ret,
		   struct err *err) _must_check_;
struct content_store *db_content(struct db *db);
struct event_exchange *db_events(struct db *db);

/* Runs @fn in one (shared) write transaction; it may be run again from the start, so it keeps its
 * results in variables that it sets, and allocates from ctx->arena only. It returns 0 or a negative
 * kind with @err filled. */
int db_update(struct ctx *ctx, struct db *db,
	      int (*fn)(struct bolt_tx *tx, void *arg, struct err *err), void *arg,
	      struct err *err) _must_check_;
int db_view(struct ctx *ctx, struct db *db,
	    int (*fn)(struct bolt_tx *tx, void *arg, struct err *err), void *arg,
	    struct err *err) _must_check_;

/* Tells the collector that something became collectable (a deletion), or only that the database
 * changed. */
void db_mark_dirty(struct db *db, bool deletion);
/* Called after each change with the two flags; the scheduler's hook. NULL to unset. */
void db_on_mutation(struct db *db, void (*fn)(void *arg, bool deletion), void *arg);
