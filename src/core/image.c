/* SPDX-License-Identifier: Apache-2.0 */
/* v1/<namespace>/images/<name>: see schema.h and docs/bolt-schema. Of the target's annotations the
 * record keeps the strings only, in a bucket beside [target]. */
#include "core/image.h"

#include "base/digest.h"
#include "base/str.h"
#include "base/time.h"
#include "core/db_internal.h"
#include "core/lease.h"
#include "core/mask.h"
#include "core/schema.h"

#define LABEL_EXPIRE "containerd.io/gc.expire"

struct image_call {
	struct ctx *ctx;
	const char *name;
	const struct image *in;
	struct timespec epoch;
	char *const *paths;
	size_t n_paths;
	bool replaced; /* the target is another than before */
	const char *target_digest;
	const struct filter *filter;
	struct image one;
	struct image *all;
	size_t n_all, cap;
};

/* ---- records ---- */

static int record_read(struct arena *a, struct bolt_bucket *b, const char *name, struct image *ret)
{
	struct image i = {.name = arena_strdup(a, name),
			  .target = {.media_type = "", .digest = ""}};
	struct bolt_bucket *target = b ? bolt_bucket(b, bolt_s("target")) : NULL;
	int rc = b && i.name ? 0 : -ENOMEM;

	if (rc == 0)
		rc = schema_get_labels(a, b, "labels", &i.labels);
	if (rc == 0)
		rc = schema_get_labels(a, b, "annotations", &i.target.annotations);
	if (rc == 0 && target)
		rc = schema_get_str(a, target, "digest", &i.target.digest);
	if (rc == 0 && target)
		rc = schema_get_str(a, target, "mediatype", &i.target.media_type);
	if (rc < 0)
		return rc;
	if (target)
		i.target.size = schema_get_int(target, "size");
	i.created_at = schema_get_time(b, "createdat");
	i.updated_at = schema_get_time(b, "updatedat");
	*ret = i;
	return 0;
}

static int record_write(struct bolt_bucket *b, const struct image *i)
{
	struct bolt_bucket *target;
	int rc = schema_put_times(b, i->created_at, i->updated_at);

	if (rc == 0)
		rc = schema_put_labels(b, "labels", &i->labels);
	if (rc == 0)
		rc = schema_put_labels(b, "annotations", &i->target.annotations);
	if (rc == 0)
		rc = bolt_bucket_create_if_missing(b, bolt_s("target"), &target);
	if (rc == 0)
		rc = schema_put_str(target, "digest", i->target.digest);
	if (rc == 0)
		rc = schema_put_str(target, "mediatype", i->target.media_type);
	return rc < 0 ? rc : schema_put_int(target, "size", i->target.size);
}

static int image_validate(const struct image *i, struct err *err)
{
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

static int read_back(struct image_call *c, struct bolt_bucket *b, const char *name, struct err *err)
{
	int rc = record_read(c->ctx->arena, b, name, &c->one);

	return rc < 0 ? err_errno(err, rc, "read image \"%s\"", name) : 0;
}

/* An image that may expire is held by the lease under which it was made. */
static int lease_image(struct image_call *c, struct bolt_tx *tx, const struct image *i,
		       struct err *err)
{
	if (!labels_get(&i->labels, LABEL_EXPIRE))
		return 0;
	return lease_tx_add(c->ctx, tx, "images", i->name, err);
}

/* ---- reading ---- */

static int get(struct bolt_tx *tx, void *arg, struct err *err)
{
	struct image_call *c = arg;
	struct bolt_bucket *b = SCHEMA_FIND(tx, c->ctx->ns, "images", c->name);

	if (!b)
		return err_set(err, ERR_NOT_FOUND, "image \"%s\"", c->name);
	return read_back(c, b, c->name, err);
}

int image_get(struct ctx *ctx, struct db *db, const char *name, struct image *ret, struct err *err)
{
	struct image_call c = {.ctx = ctx, .name = name};
	int rc = db_check_namespace(ctx, err);

	if (rc == 0)
		rc = db_view(ctx, db, get, &c, err);
	if (rc == 0)
		*ret = c.one;
	return rc;
}

static int list(struct bolt_tx *tx, void *arg, struct err *err)
{
	struct image_call *c = arg;
	struct arena *a = c->ctx->arena;
	struct bolt_bucket *b = schema_find_object(c->ctx, tx, "images");
	const char **names;
	size_t n;

	c->n_all = 0;
	if (schema_keys(a, b, true, &names, &n) < 0)
		return err_nomem(err);
	for (size_t i = 0; i < n; i++) {
		int rc = read_back(c, bolt_bucket(b, bolt_s(names[i])), names[i], err);

		if (rc < 0)
			return rc;
		if (!filter_match(c->filter, image_field, &c->one))
			continue;
		c->all = arena_grow(a, c->all, &c->cap, c->n_all + 1, sizeof(*c->all));
		if (!c->all)
			return err_nomem(err);
		c->all[c->n_all++] = c->one;
	}
	return 0;
}

int image_list(struct ctx *ctx, struct db *db, const struct filter *f, struct image **ret,
	       size_t *ret_n, struct err *err)
{
	struct image_call c = {.ctx = ctx, .filter = f};
	int rc = db_check_namespace(ctx, err);

	if (rc == 0)
		rc = db_view(ctx, db, list, &c, err);
	if (rc == 0) {
		*ret = c.all;
		*ret_n = c.n_all;
	}
	return rc;
}

const char *image_field(const void *image, const char *const *path, size_t n)
{
	const struct image *i = image;
	const char *v = NULL;

	if (n == 0)
		return NULL;
	if (streq(path[0], "labels"))
		return filter_label(&i->labels, path + 1, n - 1);
	if (streq(path[0], "annotations"))
		return filter_label(&i->target.annotations, path + 1, n - 1);
	if (streq(path[0], "name"))
		v = i->name;
	else if (streq(path[0], "target") && n > 1 && streq(path[1], "digest"))
		v = i->target.digest;
	else if (streq(path[0], "target") && n > 1 && streq(path[1], "mediatype"))
		v = i->target.media_type;
	return str_empty(v) ? NULL : v;
}

/* ---- changing ---- */

static int create(struct bolt_tx *tx, void *arg, struct err *err)
{
	struct image_call *c = arg;
	struct image rec = *c->in;
	struct bolt_bucket *all, *b;
	int rc = schema_make_object(c->ctx, tx, "images", &all, err);

	if (rc < 0)
		return rc;
	rc = bolt_bucket_create(all, bolt_s(rec.name), &b);
	if (rc == -EEXIST)
		return err_set(err, ERR_ALREADY_EXISTS, "image \"%s\"", rec.name);
	rec.created_at = rec.updated_at = time_is_zero(c->epoch) ? time_now() : c->epoch;
	if (rc == 0)
		rc = record_write(b, &rec);
	if (rc < 0)
		return err_errno(err, rc, "write image \"%s\"", rec.name);
	rc = lease_image(c, tx, &rec, err);
	return rc < 0 ? rc : read_back(c, b, rec.name, err);
}

int image_create(struct ctx *ctx, struct db *db, const struct image *in, struct timespec epoch,
		 struct image *ret, struct err *err)
{
	struct image_call c = {.ctx = ctx, .in = in, .epoch = epoch};
	int rc = db_check_namespace(ctx, err);

	if (rc == 0)
		rc = image_validate(in, err);
	if (rc == 0)
		rc = db_update(ctx, db, create, &c, err);
	if (rc == 0)
		*ret = c.one;
	return rc;
}

static int update_path(struct arena *a, struct image *to, const struct image *from,
		       const char *path, struct err *err)
{
	const char *key;
	int rc = 0;

	if (mask_field(path, "labels", &key)) {
		rc = mask_labels(a, &to->labels, &from->labels, key);
	} else if (mask_field(path, "annotations", &key)) {
		rc = mask_labels(a, &to->target.annotations, &from->target.annotations, key);
	} else if (streq(path, "target")) {
		to->target = from->target;
	} else {
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "cannot update \"%s\" field on image \"%s\"", path, from->name);
	}
	return rc < 0 ? err_nomem(err) : 0;
}

static int update(struct bolt_tx *tx, void *arg, struct err *err)
{
	struct image_call *c = arg;
	struct bolt_bucket *b = SCHEMA_FIND(tx, c->ctx->ns, "images", c->name);
	struct image rec;
	int rc;

	if (!b)
		return err_set(err, ERR_NOT_FOUND, "image \"%s\"", c->name);
	rc = read_back(c, b, c->name, err);
	if (rc < 0)
		return rc;
	rec = c->one;
	for (size_t i = 0; i < c->n_paths; i++) {
		rc = update_path(c->ctx->arena, &rec, c->in, c->paths[i], err);
		if (rc < 0)
			return rc;
	}
	if (!c->n_paths) {
		rec.labels = c->in->labels;
		rec.target = c->in->target;
	}
	rc = image_validate(&rec, err);
	if (rc < 0)
		return rc;
	c->replaced = !streq(c->one.target.digest, rec.target.digest);
	rec.updated_at = time_is_zero(c->epoch) ? time_now() : c->epoch;
	rc = record_write(b, &rec);
	if (rc < 0)
		return err_errno(err, rc, "write image \"%s\"", c->name);
	rc = lease_image(c, tx, &rec, err);
	return rc < 0 ? rc : read_back(c, b, c->name, err);
}

int image_update(struct ctx *ctx, struct db *db, const struct image *in, char *const *paths,
		 size_t n, struct timespec epoch, struct image *ret, struct err *err)
{
	struct image_call c = {.ctx = ctx,
			       .name = in->name,
			       .in = in,
			       .epoch = epoch,
			       .paths = paths,
			       .n_paths = n};
	int rc = db_check_namespace(ctx, err);

	if (rc < 0)
		return rc;
	if (str_empty(in->name))
		return err_set(err, ERR_INVALID_ARGUMENT, "image name is required for update");
	rc = db_update(ctx, db, update, &c, err);
	/* Maybe nobody else refers to the old one. */
	if (rc == 0 && c.replaced)
		db_mark_dirty(db, true);
	if (rc == 0)
		*ret = c.one;
	return rc;
}

static int delete (struct bolt_tx *tx, void *arg, struct err *err)
{
	struct image_call *c = arg;
	struct bolt_bucket *all = schema_find_object(c->ctx, tx, "images");
	struct bolt_bucket *b = all ? bolt_bucket(all, bolt_s(c->name)) : NULL;
	int rc;

	if (!b)
		return err_set(err, ERR_NOT_FOUND, "image \"%s\"", c->name);
	if (!str_empty(c->target_digest)) {
		rc = read_back(c, b, c->name, err);
		if (rc < 0)
			return rc;
		if (!streq(c->one.target.digest, c->target_digest))
			return err_set(err, ERR_NOT_FOUND, "image \"%s\" has target %s, not %s",
				       c->name, c->one.target.digest, c->target_digest);
	}
	rc = lease_tx_remove(c->ctx, tx, "images", c->name, err);
	if (rc < 0)
		return rc;
	rc = bolt_bucket_delete(all, bolt_s(c->name));
	return rc < 0 ? err_errno(err, rc, "delete image \"%s\"", c->name) : 0;
}

int image_delete(struct ctx *ctx, struct db *db, const char *name, const char *target_digest,
		 struct err *err)
{
	struct image_call c = {.ctx = ctx, .name = name, .target_digest = target_digest};
	int rc = db_check_namespace(ctx, err);

	if (rc == 0)
		rc = db_update(ctx, db, delete, &c, err);
	if (rc == 0)
		db_mark_dirty(db, true);
	return rc;
}
