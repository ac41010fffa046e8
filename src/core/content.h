/* SPDX-License-Identifier: Apache-2.0 */
/* Content: blobs by digest, and ingests on their way to become blobs.
 *
 * Two layers. The store (content_store_*) is a directory: blobs/<alg>/<hex>, ingest/<sha256 of
 * ref>/; it knows no namespaces. The namespaced layer (content_*) keeps what each namespace sees in
 * the database, shares the bytes, and is what services and pull use.
 *
 * Durability: a commit returns after data, directory and record are on the disk.
 * A writer belongs to one thread at a time; everything else is for any thread. Results live in
 * ctx's arena.
 */
#pragma once

#include <time.h>

#include "base/digest.h"
#include "base/labels.h"
#include "core/db.h"
#include "core/filter.h"
#include "oci/descriptor.h"

struct content_info {
	const char *digest;
	int64_t size;
	struct timespec created_at, updated_at;
	struct labels labels;
};

struct content_status {
	const char *ref;
	int64_t offset, total;
	const char *expected; /* "" unless the writer shares an existing blob */
	struct timespec started_at, updated_at;
};

/* ---- store: src/plugins/content/store.c is the local one; the table leaves room for proxies ----
 */

struct content_store;
struct content_store_writer;

/* Takes bytes in their order; an error ends what gives them. */
typedef int content_sink(void *arg, const void *p, size_t n, struct err *err);

struct content_store_ops {
	/* Size and times; -ERR_NOT_FOUND. */
	int (*info)(struct ctx *ctx, struct content_store *s, const char *digest,
		    struct content_info *ret, struct err *err);
	/* A read-only descriptor of the blob (regular file), the caller's. */
	int (*open)(struct ctx *ctx, struct content_store *s, const char *digest, int *ret_fd,
		    int64_t *ret_size, struct err *err);
	/* @size bytes from @offset on, which are there, without a file. NULL: by open(). */
	int (*read)(struct ctx *ctx, struct content_store *s, const char *digest, int64_t offset,
		    int64_t size, content_sink *fn, void *arg, struct err *err);
	int (*remove)(struct ctx *ctx, struct content_store *s, const char *digest,
		      struct err *err);
	/* Every blob's digest; stops when @fn returns non-zero and returns that. */
	int (*walk)(struct ctx *ctx, struct content_store *s,
		    int (*fn)(void *arg, const struct content_info *info), void *arg,
		    struct err *err);
	int (*status)(struct ctx *ctx, struct content_store *s, const char *ref,
		      struct content_status *ret, struct err *err);
	int (*list_status)(struct ctx *ctx, struct content_store *s, struct content_status **ret,
			   size_t *ret_n, struct err *err);
	int (*abort)(struct ctx *ctx, struct content_store *s, const char *ref, struct err *err);
	/* Opens or resumes the ingest @ref. -ERR_UNAVAILABLE `ref R locked for ...` while another
	 * writer has it. */
	int (*writer)(struct ctx *ctx, struct content_store *s, const char *ref, int64_t total,
		      const char *expected, struct content_store_writer **ret, struct err *err);
	void (*free)(struct content_store *s);
};

struct content_store {
	const struct content_store_ops *ops;
};

struct content_store_writer_ops {
	int (*status)(struct content_store_writer *w, struct content_status *ret,
		      struct err *err); /* ref NULL: the caller knows it */
	int (*write)(struct content_store_writer *w, const void *p, size_t n, struct err *err);
	int (*truncate)(struct content_store_writer *w, int64_t size, struct err *err); /* 0 only */
	/* Digest of what was written so far. */
	int (*digest)(struct content_store_writer *w, struct digest *ret, struct err *err);
	/* The ingest's file (borrowed), for this process to read what was written so far.
	 * -ERR_UNIMPLEMENTED where there is no file. */
	int (*data_fd)(struct content_store_writer *w, struct err *err);
	/* Checks size (0 = any) and digest ("" = any), syncs, renames. -ERR_FAILED_PRECONDITION;
	 * -ERR_ALREADY_EXISTS (ingest removed). */
	int (*commit)(struct content_store_writer *w, int64_t size, const char *expected,
		      struct digest *ret, struct err *err);
	void (*close)(
		struct content_store_writer *w); /* keeps the ingest unless committed; frees */
};

struct content_store_writer {
	const struct content_store_writer_ops *ops;
};

/* The local store at @root (made when absent). */
int content_store_local_new(const char *root, struct content_store **ret,
			    struct err *err) _must_check_;

/* ---- namespaced ---- */

int content_info(struct ctx *ctx, struct db *db, const char *digest, struct content_info *ret,
		 struct err *err) _must_check_;
int content_list(struct ctx *ctx, struct db *db, const struct filter *f, struct content_info **ret,
		 size_t *ret_n, struct err *err) _must_check_;
/* @paths: labels, labels.K; n 0 = labels. */
int content_update(struct ctx *ctx, struct db *db, const struct content_info *info,
		   char *const *paths, size_t n, struct content_info *ret,
		   struct err *err) _must_check_;
int content_delete(struct ctx *ctx, struct db *db, const char *digest,
		   struct err *err) _must_check_;
/* Read-only descriptor of the blob, if the namespace has it. */
int content_open(struct ctx *ctx, struct db *db, const char *digest, int *ret_fd, int64_t *ret_size,
		 struct err *err) _must_check_;
/* A part of it, in pieces of at most 1 MiB. @size <= 0, or more than there is: to the end.
 * -ERR_OUT_OF_RANGE @offset is beyond the end. */
int content_read_part(struct ctx *ctx, struct db *db, const char *digest, int64_t offset,
		      int64_t size, content_sink *fn, void *arg, struct err *err) _must_check_;
/* Whole blob into the arena; -ERR_INVALID_ARGUMENT when larger than @max. Verifies the digest. */
int content_read(struct ctx *ctx, struct db *db, const char *digest, size_t max, char **ret,
		 size_t *ret_len, struct err *err) _must_check_;
int content_status(struct ctx *ctx, struct db *db, const char *ref, struct content_status *ret,
		   struct err *err) _must_check_;
int content_list_status(struct ctx *ctx, struct db *db, const struct filter *f,
			struct content_status **ret, size_t *ret_n, struct err *err) _must_check_;
int content_abort(struct ctx *ctx, struct db *db, const char *ref, struct err *err) _must_check_;

struct content_writer;
/* -ERR_ALREADY_EXISTS when @expected ("" = unknown) is in this namespace (the lease gets it);
 * -ERR_UNAVAILABLE when locked. When another namespace has @expected and sharing is on, the writer
 * needs no data: status offset = total = size. */
int content_writer_open(struct ctx *ctx, struct db *db, const char *ref, int64_t total,
			const char *expected, struct content_writer **ret,
			struct err *err) _must_check_;
int content_writer_status(struct content_writer *w, struct content_status *ret,
			  struct err *err) _must_check_;
int content_writer_write(struct content_writer *w, const void *p, size_t n,
			 struct err *err) _must_check_;
int content_writer_truncate(struct content_writer *w, struct err *err) _must_check_;
int content_writer_digest(struct content_writer *w, struct digest *ret,
			  struct err *err) _must_check_;
/* The ingest's file (>= 0, borrowed): for reading along in this process, never for another. */
int content_writer_data_fd(struct content_writer *w, struct err *err);
/* Labels replace. Adds to the lease. Publishes /content/create. */
int content_writer_commit(struct ctx *ctx, struct content_writer *w, int64_t size,
			  const char *expected, const struct labels *labels, struct digest *ret,
			  struct err *err) _must_check_;
void content_writer_close(struct content_writer *w); /* NULL is fine */
DEFINE_CLEANUP(struct content_writer *, content_writer_close)

/* Convenience: @p as a blob with labels; exists already = OK (labels are merged then). */
int content_put(struct ctx *ctx, struct db *db, const char *ref, const struct descriptor *d,
		const void *p, const struct labels *labels, struct err *err) _must_check_;
