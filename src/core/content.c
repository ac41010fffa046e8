/* SPDX-License-Identifier: Apache-2.0 */
/* What a namespace has: v1/<namespace>/content/blob/<digest> for each blob, .../ingests/<ref> for
 * each ingest. The bytes are the store's and shared by all namespaces; the garbage collector
 * removes those that no record names.
 */
#include "core/content.h"

#include <stdlib.h>

#include "base/fd.h"
#include "base/str.h"
#include "core/content_internal.h"
#include "core/db_internal.h"
#include "core/lease.h"
#include "core/record.h"
#include "core/schema.h"
#include "protos.h"

#define READ_PIECE (1 << 20)

struct content_call {
	struct ctx *ctx;
	const char *ref;
	const char *backend_ref, *expected;
};

/* ---- blobs ---- */

#define AT(member) RECORD_AT(content_info, member)

static const struct record_field fields[] = {
	{.key = "labels", .mask = "labels", .type = RECORD_LABELS, .filter = true, AT(labels)},
	{.key = "size", .type = RECORD_INT, AT(size)},
	{.key = "createdat", .type = RECORD_CREATED, AT(created_at)},
	{.key = "updatedat", .type = RECORD_UPDATED, AT(updated_at)},
};

static int info_validate(const void *rec, struct err *err)
{
	const struct content_info *i = rec;

	return labels_validate(&i->labels, err) < 0 ? err_prefix(err, "info.Labels") : 0;
}

static int not_found(struct ctx *ctx, enum record_step step, bool any, const char *digest,
		     struct err *err)
{
	return err_set(err, ERR_NOT_FOUND, "content digest %s", digest);
}

static int removing(struct ctx *ctx, struct bolt_tx *tx, struct bolt_bucket *b, const char *digest,
		    const void *arg, struct err *err)
{
	return lease_tx_remove(ctx, tx, "content", digest, err);
}

static void removed(struct db *db)
{
	db->content_dirty = true;
}

static const struct record_kind kind = {
	.bucket = {"content", "blob"},
	.noun = "content",
	.unquoted = true,
	.mask_noun = "content info ",
	.key = "digest",
	.size = sizeof(struct content_info),
	.key_offset = offsetof(struct content_info, digest),
	.fields = fields,
	.n_fields = ARRAY_LEN(fields),
	.validate = info_validate,
	.not_found = not_found,
	.removing = removing,
	.removed = removed,
};

struct bolt_bucket *content_tx_find(struct ctx *ctx, struct bolt_tx *tx, const char *digest)
{
	return record_tx_find(ctx, tx, &kind, digest);
}

int content_tx_create(struct ctx *ctx, struct bolt_tx *tx, const char *digest, int64_t size,
		      const struct labels *labels, struct err *err)
{
	struct content_info in = {.digest = digest, .size = size, .labels = *labels};
	struct record_change ch = {.in = &in};

	return record_tx_create(ctx, tx, &kind, &ch, err);
}

static int begin(struct ctx *ctx, const char *digest, struct err *err)
{
	int rc = db_check_namespace(ctx, err);

	return rc < 0 ? rc : digest_validate(digest, err);
}

int content_info(struct ctx *ctx, struct db *db, const char *digest, struct content_info *ret,
		 struct err *err)
{
	int rc = begin(ctx, digest, err);

	return rc < 0 ? rc : record_get(ctx, db, &kind, digest, ret, err);
}

int content_list(struct ctx *ctx, struct db *db, const struct filter *f, struct content_info **ret,
		 size_t *ret_n, struct err *err)
{
	return record_list(ctx, db, &kind, f, ret, ret_n, err);
}

int content_update(struct ctx *ctx, struct db *db, const struct content_info *in,
		   char *const *paths, size_t n, struct content_info *ret, struct err *err)
{
	struct record_change ch = {.in = in, .paths = paths, .n_paths = n};
	int rc = begin(ctx, in->digest, err);

	return rc < 0 ? rc : record_update(ctx, db, &kind, &ch, ret, err);
}

int content_delete(struct ctx *ctx, struct db *db, const char *digest, struct err *err)
{
	Containerd__Events__ContentDelete event = CONTAINERD__EVENTS__CONTENT_DELETE__INIT;
	int rc = begin(ctx, digest, err);

	if (rc == 0)
		rc = record_delete(ctx, db, &kind, digest, NULL, err);
	if (rc < 0)
		return rc;
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

int content_tx_forget_ingest(struct ctx *ctx, struct bolt_tx *tx, const char *ref, struct err *err)
{
	struct bolt_bucket *ingests = SCHEMA_FIND(tx, ctx->ns, "content", "ingests");
	int rc = ingests ? schema_drop(ingests, ref) : 0;

	if (rc < 0)
		return err_errno(err, rc, "delete ingest %s", ref);
	return lease_tx_remove(ctx, tx, "ingests", ref, err);
}

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

static const char *content_status_field(const void *obj, const char *const *path, size_t n)
{
	const struct content_status *s = obj;

	return n > 0 && streq(path[0], "ref") && !str_empty(s->ref) ? s->ref : NULL;
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
