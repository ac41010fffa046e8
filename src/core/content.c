/* SPDX-License-Identifier: Apache-2.0 */
/* What a namespace has: v1/<namespace>/content/blob/<digest> for each blob, .../ingests/<ref> for
 * each ingest. The bytes are the store's and shared by all namespaces; the garbage collector
 * removes those that no record names.
 */
#include "core/content.h"

#include <stdlib.h>

#include "base/fd.h"
#include "base/str.h"
#include "base/time.h"
#include "core/content_internal.h"
#include "core/db_internal.h"
#include "core/lease.h"
#include "core/mask.h"
#include "core/schema.h"
#include "protos.h"

#define READ_PIECE (1 << 20)

struct content_call {
	struct ctx *ctx;
	const char *digest;
	const char *ref;
	const struct content_info *in;
	char *const *paths;
	size_t n_paths;
	const struct filter *filter;
	struct content_info one;
	struct content_info *all;
	size_t n_all, cap;
	const char *backend_ref, *expected;
};

/* ---- records ---- */

struct bolt_bucket *content_tx_find(struct ctx *ctx, struct bolt_tx *tx, const char *digest)
{
	return SCHEMA_FIND(tx, ctx->ns, "content", "blob", digest);
}

static int record_read(struct arena *a, struct bolt_bucket *b, const char *digest,
		       struct content_info *ret)
{
	struct content_info i = {.digest = arena_strdup(a, digest)};
	int rc = b && i.digest ? schema_get_labels(a, b, "labels", &i.labels) : -ENOMEM;

	if (rc < 0)
		return rc;
	i.size = schema_get_int(b, "size");
	i.created_at = schema_get_time(b, "createdat");
	i.updated_at = schema_get_time(b, "updatedat");
	*ret = i;
	return 0;
}

int content_tx_create(struct ctx *ctx, struct bolt_tx *tx, const char *digest, int64_t size,
		      const struct labels *labels, struct err *err)
{
	struct timespec now = time_now();
	struct bolt_bucket *all, *b;
	int rc = SCHEMA_MAKE(tx, &all, ctx->ns, "content", "blob");

	if (rc == 0)
		rc = bolt_bucket_create(all, bolt_s(digest), &b);
	if (rc == -EEXIST)
		return err_set(err, ERR_ALREADY_EXISTS, "content %s", digest);
	if (rc == 0)
		rc = schema_put_times(b, now, now);
	if (rc == 0)
		rc = schema_put_int(b, "size", size);
	if (rc == 0)
		rc = schema_put_labels(b, "labels", labels);
	return rc < 0 ? err_errno(err, rc, "write content %s", digest) : 0;
}

int content_tx_forget_ingest(struct ctx *ctx, struct bolt_tx *tx, const char *ref, struct err *err)
{
	struct bolt_bucket *ingests = SCHEMA_FIND(tx, ctx->ns, "content", "ingests");
	int rc = ingests ? schema_drop(ingests, ref) : 0;

	if (rc < 0)
		return err_errno(err, rc, "delete ingest %s", ref);
	return lease_tx_remove(ctx, tx, "ingests", ref, err);
}

static int begin(struct ctx *ctx, const char *digest, struct err *err)
{
	int rc = db_check_namespace(ctx, err);

	return rc < 0 ? rc : digest_validate(digest, err);
}

static int not_found(const char *digest, struct err *err)
{
	return err_set(err, ERR_NOT_FOUND, "content digest %s", digest);
}

static int read_back(struct content_call *c, struct bolt_bucket *b, const char *digest,
		     struct err *err)
{
	int rc = record_read(c->ctx->arena, b, digest, &c->one);

	return rc < 0 ? err_errno(err, rc, "read content %s", digest) : 0;
}

/* ---- blobs ---- */

static int info(struct bolt_tx *tx, void *arg, struct err *err)
{
	struct content_call *c = arg;
	struct bolt_bucket *b = content_tx_find(c->ctx, tx, c->digest);

	return b ? read_back(c, b, c->digest, err) : not_found(c->digest, err);
}

int content_info(struct ctx *ctx, struct db *db, const char *digest, struct content_info *ret,
		 struct err *err)
{
	struct content_call c = {.ctx = ctx, .digest = digest};
	int rc = begin(ctx, digest, err);

	if (rc == 0)
		rc = db_view(ctx, db, info, &c, err);
	if (rc == 0)
		*ret = c.one;
	return rc;
}

static int list(struct bolt_tx *tx, void *arg, struct err *err)
{
	struct content_call *c = arg;
	struct arena *a = c->ctx->arena;
	struct bolt_bucket *b = SCHEMA_FIND(tx, c->ctx->ns, "content", "blob");
	const char **digests;
	size_t n;

	c->n_all = 0;
	if (schema_keys(a, b, true, &digests, &n) < 0)
		return err_nomem(err);
	for (size_t i = 0; i < n; i++) {
		int rc = read_back(c, bolt_bucket(b, bolt_s(digests[i])), digests[i], err);

		if (rc < 0)
			return rc;
		if (!filter_match(c->filter, content_info_field, &c->one))
			continue;
		c->all = arena_grow(a, c->all, &c->cap, c->n_all + 1, sizeof(*c->all));
		if (!c->all)
			return err_nomem(err);
		c->all[c->n_all++] = c->one;
	}
	return 0;
}

int content_list(struct ctx *ctx, struct db *db, const struct filter *f, struct content_info **ret,
		 size_t *ret_n, struct err *err)
{
	struct content_call c = {.ctx = ctx, .filter = f};
	int rc = db_check_namespace(ctx, err);

	if (rc == 0)
		rc = db_view(ctx, db, list, &c, err);
	if (rc == 0) {
		*ret = c.all;
		*ret_n = c.n_all;
	}
	return rc;
}

static int update(struct bolt_tx *tx, void *arg, struct err *err)
{
	static char *const labels[] = {"labels"};
	struct content_call *c = arg;
	struct bolt_bucket *b = content_tx_find(c->ctx, tx, c->digest);
	char *const *paths = c->n_paths ? c->paths : labels;
	size_t n = c->n_paths ? c->n_paths : 1;
	const char *key;
	int rc;

	if (!b)
		return not_found(c->digest, err);
	rc = read_back(c, b, c->digest, err);
	for (size_t i = 0; rc == 0 && i < n; i++) {
		if (!mask_field(paths[i], "labels", &key))
			return err_set(err, ERR_INVALID_ARGUMENT,
				       "cannot update \"%s\" field on content info \"%s\"",
				       paths[i], c->digest);
		if (mask_labels(c->ctx->arena, &c->one.labels, &c->in->labels, key) < 0)
			return err_nomem(err);
	}
	if (rc < 0)
		return rc;
	if (labels_validate(&c->one.labels, err) < 0)
		return err_prefix(err, "info.Labels");
	rc = schema_put_labels(b, "labels", &c->one.labels);
	if (rc == 0)
		rc = schema_put_time(b, "updatedat", time_now());
	if (rc < 0)
		return err_errno(err, rc, "write content %s", c->digest);
	return read_back(c, b, c->digest, err);
}

int content_update(struct ctx *ctx, struct db *db, const struct content_info *in,
		   char *const *paths, size_t n, struct content_info *ret, struct err *err)
{
	struct content_call c = {
		.ctx = ctx, .digest = in->digest, .in = in, .paths = paths, .n_paths = n};
	int rc = begin(ctx, in->digest, err);

	if (rc == 0)
		rc = db_update(ctx, db, update, &c, err);
	if (rc == 0)
		*ret = c.one;
	return rc;
}

static int delete (struct bolt_tx *tx, void *arg, struct err *err)
{
	struct content_call *c = arg;
	int rc;

	if (!content_tx_find(c->ctx, tx, c->digest))
		return not_found(c->digest, err);
	rc = lease_tx_remove(c->ctx, tx, "content", c->digest, err);
	if (rc < 0)
		return rc;
	rc = bolt_bucket_delete(SCHEMA_FIND(tx, c->ctx->ns, "content", "blob"), bolt_s(c->digest));
	return rc < 0 ? err_errno(err, rc, "delete content %s", c->digest) : 0;
}

int content_delete(struct ctx *ctx, struct db *db, const char *digest, struct err *err)
{
	Containerd__Events__ContentDelete event = CONTAINERD__EVENTS__CONTENT_DELETE__INIT;
	struct content_call c = {.ctx = ctx, .digest = digest};
	int rc = begin(ctx, digest, err);

	if (rc == 0)
		rc = db_update(ctx, db, delete, &c, err);
	if (rc < 0)
		return rc;
	db->content_dirty = true;
	db_mark_dirty(db, true);
	event.digest = (char *)digest;
	db_publish(ctx, db, "/content/delete", &event.base);
	return 0;
}

int content_open(struct ctx *ctx, struct db *db, const char *digest, int *ret_fd, int64_t *ret_size,
		 struct err *err)
{
	struct content_info i;
	int rc = content_info(ctx, db, digest, &i, err);

	return rc < 0 ? rc
		      : db->content->ops->open(ctx, db->content, digest, ret_fd, ret_size, err);
}

static int read_file(int fd, const char *digest, int64_t offset, int64_t size, content_sink *fn,
		     void *arg, struct err *err)
{
	_cleanup_free_ uint8_t *piece = malloc((size_t)MIN(size, (int64_t)READ_PIECE) + 1);
	int rc = 0;

	if (!piece)
		return err_nomem(err);
	while (rc == 0 && size > 0) {
		ssize_t n =
			fd_pread_full(fd, piece, (size_t)MIN(size, (int64_t)READ_PIECE), offset);

		if (n < 0)
			return err_errno(err, (int)n, "read content %s", digest);
		if (n == 0)
			return err_set(err, ERR_DATA_LOSS, "content %s is shorter than its record",
				       digest);
		rc = fn(arg, piece, (size_t)n, err);
		offset += n;
		size -= n;
	}
	return rc;
}

int content_read_part(struct ctx *ctx, struct db *db, const char *digest, int64_t offset,
		      int64_t size, content_sink *fn, void *arg, struct err *err)
{
	const struct content_store_ops *ops = db->content->ops;
	_cleanup_close_ int fd = -1;
	struct content_info i;
	int64_t total;
	int rc = content_info(ctx, db, digest, &i, err);

	if (rc < 0)
		return rc;
	total = i.size;
	if (!ops->read)
		rc = ops->open(ctx, db->content, digest, &fd, &total, err);
	if (rc < 0)
		return rc;
	offset = MAX(offset, (int64_t)0);
	if (offset > total)
		return err_set(err, ERR_OUT_OF_RANGE, "read past object length %lld bytes",
			       (long long)total);
	if (size <= 0 || size > total - offset)
		size = total - offset;
	return ops->read ? ops->read(ctx, db->content, digest, offset, size, fn, arg, err)
			 : read_file(fd, digest, offset, size, fn, arg, err);
}

int content_read(struct ctx *ctx, struct db *db, const char *digest, size_t max, char **ret,
		 size_t *ret_len, struct err *err)
{
	_cleanup_close_ int fd = -1;
	struct digest d;
	int64_t size;
	size_t n;
	char *p;
	int rc = content_open(ctx, db, digest, &fd, &size, err);

	if (rc < 0)
		return rc;
	if (size < 0 || (uint64_t)size > max)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "content %s has %lld bytes, more than %zu", digest, (long long)size,
			       max);
	rc = fd_read_all(ctx->arena, fd, max, &p, &n);
	if (rc < 0)
		return err_errno(err, rc, "read content %s", digest);
	digest_of(digest_alg(digest), p, n, &d);
	if (!streq(d.text, digest))
		return err_set(err, ERR_DATA_LOSS, "content %s is damaged: its digest is %s",
			       digest, d.text);
	*ret = p;
	*ret_len = n;
	return 0;
}

/* ---- ingests ---- */

static int ingest_record(struct arena *a, struct bolt_bucket *b, const char **ret_ref,
			 const char **ret_expected)
{
	int rc = b ? schema_get_str(a, b, "ref", ret_ref) : -ENOMEM;

	return rc < 0 ? rc : schema_get_str(a, b, "expected", ret_expected);
}

static int ingest_find(struct bolt_tx *tx, void *arg, struct err *err)
{
	struct content_call *c = arg;
	struct bolt_bucket *b = SCHEMA_FIND(tx, c->ctx->ns, "content", "ingests", c->ref);

	if (!b)
		return err_set(err, ERR_NOT_FOUND, "reference %s", c->ref);
	return ingest_record(c->ctx->arena, b, &c->backend_ref, &c->expected) < 0 ? err_nomem(err)
										  : 0;
}

/* Status of an ingest whose record is known; @ref is the client's name for it. */
static int ingest_status(struct ctx *ctx, struct db *db, const char *ref, const char *backend_ref,
			 const char *expected, struct content_status *ret, struct err *err)
{
	struct content_info shared;
	int rc;

	if (*expected) {
		rc = db->content->ops->info(ctx, db->content, expected, &shared, err);
		if (rc < 0)
			return rc;
		*ret = (struct content_status){
			.offset = shared.size, .total = shared.size, .expected = expected};
	} else {
		rc = db->content->ops->status(ctx, db->content, backend_ref, ret, err);
		if (rc == -ERR_NOT_FOUND)
			return err_set(err, ERR_NOT_FOUND, "reference %s", ref);
		if (rc < 0)
			return rc;
	}
	ret->ref = ref;
	return 0;
}

int content_status(struct ctx *ctx, struct db *db, const char *ref, struct content_status *ret,
		   struct err *err)
{
	struct content_call c = {.ctx = ctx, .ref = ref};
	int rc = db_check_namespace(ctx, err);

	if (rc == 0)
		rc = db_view(ctx, db, ingest_find, &c, err);
	if (rc < 0)
		return rc;
	return ingest_status(ctx, db, ref, c.backend_ref, c.expected, ret, err);
}

struct ingest_entry {
	const char *ref, *backend_ref, *expected;
};

struct ingest_list {
	struct ctx *ctx;
	struct ingest_entry *v;
	size_t n;
};

static int list_ingests(struct bolt_tx *tx, void *arg, struct err *err)
{
	struct ingest_list *l = arg;
	struct arena *a = l->ctx->arena;
	struct bolt_bucket *b = SCHEMA_FIND(tx, l->ctx->ns, "content", "ingests");
	const char **refs;

	if (schema_keys(a, b, true, &refs, &l->n) < 0)
		return err_nomem(err);
	l->v = arena_new_array(a, struct ingest_entry, l->n + 1);
	if (!l->v)
		return err_nomem(err);
	for (size_t i = 0; i < l->n; i++) {
		l->v[i].ref = refs[i];
		if (ingest_record(a, bolt_bucket(b, bolt_s(refs[i])), &l->v[i].backend_ref,
				  &l->v[i].expected) < 0)
			return err_nomem(err);
	}
	return 0;
}

int content_list_status(struct ctx *ctx, struct db *db, const struct filter *f,
			struct content_status **ret, size_t *ret_n, struct err *err)
{
	struct ingest_list l = {.ctx = ctx};
	struct content_status *v;
	size_t n = 0;
	int rc = db_check_namespace(ctx, err);

	if (rc == 0)
		rc = db_view(ctx, db, list_ingests, &l, err);
	if (rc < 0)
		return rc;
	v = arena_new_array(ctx->arena, struct content_status, l.n + 1);
	if (!v)
		return err_nomem(err);
	for (size_t i = 0; i < l.n; i++) {
		rc = ingest_status(ctx, db, l.v[i].ref, l.v[i].backend_ref, l.v[i].expected, &v[n],
				   err);
		/* It may end while we look. */
		if (rc < 0 && rc != -ERR_NOT_FOUND)
			return rc;
		if (rc == 0 && filter_match(f, content_status_field, &v[n]))
			n++;
	}
	*ret = v;
	*ret_n = n;
	return 0;
}

static int abort_ingest(struct bolt_tx *tx, void *arg, struct err *err)
{
	struct content_call *c = arg;
	int rc = ingest_find(tx, arg, err);

	return rc < 0 ? rc : content_tx_forget_ingest(c->ctx, tx, c->ref, err);
}

int content_abort(struct ctx *ctx, struct db *db, const char *ref, struct err *err)
{
	struct content_call c = {.ctx = ctx, .ref = ref};
	int rc = db_check_namespace(ctx, err);
	READ_GUARD(&db->content_lock);

	if (rc == 0)
		rc = db_update(ctx, db, abort_ingest, &c, err);
	if (rc < 0)
		return rc;
	if (!*c.expected)
		rc = db->content->ops->abort(ctx, db->content, c.backend_ref, err);
	return rc == -ERR_NOT_FOUND ? 0 : rc;
}

/* ---- filters ---- */

const char *content_info_field(const void *obj, const char *const *path, size_t n)
{
	const struct content_info *i = obj;

	if (n == 0)
		return NULL;
	if (streq(path[0], "labels"))
		return filter_label(&i->labels, path + 1, n - 1);
	return streq(path[0], "digest") && !str_empty(i->digest) ? i->digest : NULL;
}

const char *content_status_field(const void *obj, const char *const *path, size_t n)
{
	const struct content_status *s = obj;

	return n > 0 && streq(path[0], "ref") && !str_empty(s->ref) ? s->ref : NULL;
}
