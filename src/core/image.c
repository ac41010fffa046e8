/* SPDX-License-Identifier: Apache-2.0 */
/* v1/<namespace>/images/<name>: see record.h and docs/bolt-schema. Of the target's annotations the
 * record keeps the strings only, in a bucket beside [target]. */
#include "core/image.h"

#include "base/digest.h"
#include "base/str.h"
#include "core/db_internal.h"
#include "core/lease.h"
#include "core/record.h"

#define LABEL_EXPIRE "containerd.io/gc.expire"

#define AT(member) RECORD_AT(image, member)

static const struct record_field fields[] = {
	{.key = "labels", .mask = "labels", .type = RECORD_LABELS, .filter = true, AT(labels)},
	{.key = "annotations",
	 .mask = "annotations",
	 .group = "target",
	 .type = RECORD_LABELS,
	 .filter = true,
	 AT(target.annotations)},
	{.bucket = "target", .key = "digest", .mask = "target", .filter = true, AT(target.digest)},
	{.bucket = "target",
	 .key = "mediatype",
	 .mask = "target",
	 .filter = true,
	 AT(target.media_type)},
	{.bucket = "target", .key = "size", .mask = "target", .type = RECORD_INT, AT(target.size)},
	{.key = "createdat", .type = RECORD_CREATED, AT(created_at)},
	{.key = "updatedat", .type = RECORD_UPDATED, AT(updated_at)},
};

static int image_validate(const void *rec, struct err *err)
{
	const struct image *i = rec;

	if (str_empty(i->name))
		return err_set(err, ERR_INVALID_ARGUMENT, "image name must not be empty");
	if (labels_validate(&i->labels, err) < 0)
		return err_prefix(err, "image.Labels");
	if (digest_validate(i->target.digest, err) < 0)
		return err_prefix(err, "target.Digest \"%s\" invalid",
				  i->target.digest ? i->target.digest : "");
	if (i->target.size <= 0)
		return err_set(err, ERR_INVALID_ARGUMENT, "target.Size must be greater than zero");
	if (str_empty(i->target.media_type))
		return err_set(err, ERR_INVALID_ARGUMENT, "target.MediaType must be set");
	return 0;
}

/* An image that may expire is held by the lease under which it was made. @arg: set when the target
 * is another than before. */
static int stored(struct ctx *ctx, struct bolt_tx *tx, const void *old, const void *rec, void *arg,
		  struct err *err)
{
	const struct image *was = old, *is = rec;
	bool *replaced = arg;

	if (was)
		*replaced = !streq(was->target.digest, is->target.digest);
	if (!labels_get(&is->labels, LABEL_EXPIRE))
		return 0;
	return lease_tx_add(ctx, tx, "images", is->name, err);
}

static int removing(struct ctx *ctx, struct bolt_tx *tx, struct bolt_bucket *b, const char *name,
		    const void *arg, struct err *err);

static const struct record_kind kind = {
	.bucket = {"images"},
	.noun = "image",
	.mask_noun = "image ",
	.key = "name",
	.size = sizeof(struct image),
	.key_offset = offsetof(struct image, name),
	.fields = fields,
	.n_fields = ARRAY_LEN(fields),
	.validate = image_validate,
	.stored = stored,
	.removing = removing,
};

/* @arg: the digest that the target must have, NULL or "" = any. */
static int removing(struct ctx *ctx, struct bolt_tx *tx, struct bolt_bucket *b, const char *name,
		    const void *arg, struct err *err)
{
	const char *digest = arg;
	struct image is;
	int rc = 0;

	if (!str_empty(digest))
		rc = record_read(ctx->arena, &kind, b, name, &is);
	if (rc < 0)
		return err_errno(err, rc, "read image \"%s\"", name);
	if (!str_empty(digest) && !streq(is.target.digest, digest))
		return err_set(err, ERR_NOT_FOUND, "image \"%s\" has target %s, not %s", name,
			       is.target.digest, digest);
	return lease_tx_remove(ctx, tx, "images", name, err);
}

int image_get(struct ctx *ctx, struct db *db, const char *name, struct image *ret, struct err *err)
{
	return record_get(ctx, db, &kind, name, ret, err);
}

int image_list(struct ctx *ctx, struct db *db, const struct filter *f, struct image **ret,
	       size_t *ret_n, struct err *err)
{
	return record_list(ctx, db, &kind, f, ret, ret_n, err);
}

const char *image_field(const void *image, const char *const *path, size_t n)
{
	return record_field(&kind, image, path, n);
}

int image_create(struct ctx *ctx, struct db *db, const struct image *in, struct timespec epoch,
		 struct image *ret, struct err *err)
{
	struct record_change ch = {.in = in, .when = epoch};
	int rc = db_check_namespace(ctx, err);

	if (rc == 0)
		rc = image_validate(in, err);
	return rc < 0 ? rc : record_create(ctx, db, &kind, &ch, ret, err);
}

int image_update(struct ctx *ctx, struct db *db, const struct image *in, char *const *paths,
		 size_t n, struct timespec epoch, struct image *ret, struct err *err)
{
	bool replaced = false;
	struct record_change ch = {
		.in = in, .paths = paths, .n_paths = n, .when = epoch, .arg = &replaced};
	int rc = db_check_namespace(ctx, err);

	if (rc < 0)
		return rc;
	if (str_empty(in->name))
		return err_set(err, ERR_INVALID_ARGUMENT, "image name is required for update");
	rc = record_update(ctx, db, &kind, &ch, ret, err);
	/* Maybe nobody else refers to the old one. */
	if (rc == 0 && replaced)
		db_mark_dirty(db, true);
	return rc;
}

int image_delete(struct ctx *ctx, struct db *db, const char *name, const char *target_digest,
		 struct err *err)
{
	return record_delete(ctx, db, &kind, name, target_digest, err);
}
