/* SPDX-License-Identifier: Apache-2.0 */
/* bolt: a B+tree in one file, as go.etcd.io/bbolt 1.4 writes it (file format version 2).
 *
 * Copy-on-write pages, one writer, readers that never block; two meta pages with checksums;
 * fdatasync before the meta page. Transactions are made, used and ended by one thread; different
 * threads may have read transactions at the same time as one writes. A long reader keeps pages from
 * being reused, nothing else. Keys 1..32768 bytes in bytewise order; values at most 2^31-2; buckets
 * nest.
 *
 * Returns 0 or -errno: -ENOENT bucket or key not found, -EEXIST bucket already exists, -EISDIR
 * incompatible value (a bucket where a key is wanted or the reverse), -EINVAL key required or
 * invalid key, -EROFS tx not writable, -EFBIG too large, -ETIMEDOUT lock, -EBADMSG invalid database
 * (bad magic, version, checksum, or a broken page), -ENOSPC, -EIO, -ENOMEM.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/buf.h"
#include "base/cleanup.h"

struct bolt;
struct bolt_tx;
struct bolt_bucket;

struct bolt_options {
	bool no_freelist_sync;	 /* meta.freelist = ffffffffffffffff, the list is rebuilt at open
				    (meta.db) */
	bool no_sync;		 /* no fdatasync: loses data at a power cut */
	bool read_only;		 /* flock shared */
	unsigned int mode;	 /* of a new file; 0 = 0600 */
	int64_t lock_timeout_ns; /* 0 = for ever */
};

/* Bytes in the file's mapping or in the transaction; valid until the transaction ends or, in a
 * write transaction, until the next change. */
struct bolt_slice {
	const void *data;
	size_t len;
};

static inline struct bolt_slice bolt_s(const char *s)
{
	return (struct bolt_slice){s, strlen(s)};
}

static inline struct bolt_slice bolt_b(const void *p, size_t n)
{
	return (struct bolt_slice){p, n};
}

/* Opens or makes @path and locks it. Checks both meta pages; a file whose last commit is broken
 * falls back to the one before. */
int bolt_open(const char *path, const struct bolt_options *o, struct bolt **ret) _must_check_;
/* All transactions must have ended. */
void bolt_close(struct bolt *db);
/* Lets go of the pages of the file that this process has touched: they stay in the kernel's cache,
 * and are mapped again when they are read. For who has just read all of it. Any thread. */
void bolt_trim(struct bolt *db);

int bolt_begin(struct bolt *db, bool writable,
	       struct bolt_tx **ret) _must_check_; /* a second writer waits */
int bolt_commit(struct bolt_tx *tx) _must_check_;  /* ends the transaction, also when it fails */
void bolt_rollback(struct bolt_tx *tx);		   /* NULL is fine; ends read transactions too */

/* Runs @fn in a write transaction and commits. Callers that wait at the same time share one
 * transaction and one sync: the first runs the others' functions in turn; when one fails (returns <
 * 0), the transaction is taken back and the rest runs again without it, so @fn must bear being run
 * again. Returns @fn's negative result or the commit's; after 0 it is on the disk. */
int bolt_update(struct bolt *db, int (*fn)(struct bolt_tx *tx, void *arg), void *arg) _must_check_;
/* The same for reading. */
int bolt_view(struct bolt *db, int (*fn)(struct bolt_tx *tx, void *arg), void *arg) _must_check_;

/* The root bucket: holds buckets only. Buckets are owned by their transaction. */
struct bolt_bucket *bolt_root(struct bolt_tx *tx);
bool bolt_writable(const struct bolt_tx *tx);

/* NULL when absent (or not a bucket, or no memory). */
struct bolt_bucket *bolt_bucket(struct bolt_bucket *b, struct bolt_slice key);
/* Walks @n keys down; NULL when one is absent. */
struct bolt_bucket *bolt_bucket_path(struct bolt_bucket *b, const struct bolt_slice *keys,
				     size_t n);
int bolt_bucket_create(struct bolt_bucket *b, struct bolt_slice key,
		       struct bolt_bucket **ret) _must_check_;
int bolt_bucket_create_if_missing(struct bolt_bucket *b, struct bolt_slice key,
				  struct bolt_bucket **ret) _must_check_;
int bolt_bucket_delete(struct bolt_bucket *b,
		       struct bolt_slice key) _must_check_; /* the whole tree below */
uint64_t bolt_sequence(const struct bolt_bucket *b);
int bolt_set_sequence(struct bolt_bucket *b, uint64_t v) _must_check_;
int bolt_next_sequence(struct bolt_bucket *b, uint64_t *ret) _must_check_; /* first is 1 */

/* False when absent or a bucket. */
bool bolt_get(struct bolt_bucket *b, struct bolt_slice key, struct bolt_slice *ret);
int bolt_put(struct bolt_bucket *b, struct bolt_slice key, struct bolt_slice value) _must_check_;
int bolt_delete(struct bolt_bucket *b, struct bolt_slice key) _must_check_; /* absent is fine */

/* Cursor over keys and buckets of one bucket, bytewise ascending. Not valid after a change of the
 * bucket (seek again). No allocation: on the stack. */
struct bolt_cursor {
	struct bolt_bucket *bucket;
	int depth;
	struct {
		void *page; /* page or node */
		unsigned int index;
		bool is_node;
	} stack[32];
};

struct bolt_item {
	struct bolt_slice key;
	struct bolt_slice value; /* empty for a bucket */
	bool is_bucket;
};

void bolt_cursor_init(struct bolt_cursor *c, struct bolt_bucket *b);
bool bolt_first(struct bolt_cursor *c, struct bolt_item *ret);
bool bolt_last(struct bolt_cursor *c, struct bolt_item *ret);
bool bolt_next(struct bolt_cursor *c, struct bolt_item *ret);
bool bolt_prev(struct bolt_cursor *c, struct bolt_item *ret);
bool bolt_seek(struct bolt_cursor *c, struct bolt_slice key,
	       struct bolt_item *ret); /* first key >= @key */

/* Walks every reachable page: overlaps, pages both free and used, unreachable pages, keys out of
 * order. Each finding is a line in @report. Returns the number of findings or -errno. */
int bolt_check(struct bolt_tx *tx, struct buf *report) _must_check_;

/* Decodes a file image (fuzzing, tools): true when a meta page is valid; never reads outside of it.
 */
bool bolt_probe(const void *p, size_t n);

DEFINE_CLEANUP(struct bolt *, bolt_close)
DEFINE_CLEANUP(struct bolt_tx *, bolt_rollback)
