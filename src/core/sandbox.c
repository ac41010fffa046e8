/* SPDX-License-Identifier: Apache-2.0 */
/* v1/<namespace>/sandboxes/<id>: see schema.h and docs/bolt-schema. What create and update return
 * is read back from the record, so the client sees what is stored. */
#include "core/sandbox.h"

#include "base/str.h"
#include "base/time.h"
#include "core/db_internal.h"
#include "core/mask.h"
#include "core/schema.h"

struct sandbox_call {
	struct ctx *ctx;
	const char *id;
	const struct sandbox *in;
	char *const *paths;
	size_t n_paths;
	const struct filter *filter;
	struct sandbox one;
	struct sandbox *all;
	size_t n_all, cap;
};

/* ---- records ---- */

static int record_read(struct arena *a, struct bolt_bucket *b, const char *id, struct sandbox *ret)
{
	struct sandbox s = {.id = arena_strdup(a, id), .runtime_name = ""};
	struct bolt_bucket *runtime = b ? bolt_bucket(b, bolt_s("runtime")) : NULL;
	int rc = b && s.id ? 0 : -ENOMEM;

	if (rc == 0)
		rc = schema_get_labels(a, b, "labels", &s.labels);
	if (rc == 0)
		rc = schema_get_str(a, b, "sandboxer", &s.sandboxer);
	if (rc == 0)
		rc = schema_get_any(a, b, "spec", &s.spec);
	if (rc == 0)
		rc = schema_get_any_map(a, b, "extensions", &s.extensions, &s.n_extensions);
	if (rc == 0 && runtime)
		rc = schema_get_str(a, runtime, "name", &s.runtime_name);
	if (rc == 0 && runtime)
		rc = schema_get_any(a, runtime, "options", &s.runtime_options);
	if (rc < 0)
		return rc;
	s.created_at = schema_get_time(b, "createdat");
	s.updated_at = schema_get_time(b, "updatedat");
	*ret = s;
	return 0;
}

static int record_write(struct bolt_bucket *b, const struct sandbox *s)
{
	struct bolt_bucket *runtime;
	int rc = schema_put_times(b, s->created_at, s->updated_at);

	if (rc == 0)
		rc = schema_put_labels(b, "labels", &s->labels);
	if (rc == 0)
		rc = schema_put_any_map(b, "extensions", s->extensions, s->n_extensions);
	if (rc == 0)
		rc = schema_put_any(b, "spec", &s->spec);
	if (rc == 0)
		rc = schema_put_str(b, "sandboxer", s->sandboxer);
	if (rc == 0)
		rc = bolt_bucket_create_if_missing(b, bolt_s("runtime"), &runtime);
	if (rc == 0)
		rc = schema_put_str(runtime, "name", s->runtime_name);
	return rc < 0 ? rc : schema_put_any(runtime, "options", &s->runtime_options);
}

static int sandbox_validate(const struct sandbox *s, struct err *err)
{
	if (ident_validate(s->id, err) < 0)
		return err_prefix(err, "sandbox.ID");
	for (size_t i = 0; i < s->n_extensions; i++)
		if (str_empty(s->extensions[i].key))
			return err_set(err, ERR_INVALID_ARGUMENT,
				       "sandbox.Extension keys must not be zero-length");
	if (labels_validate(&s->labels, err) < 0)
		return err_prefix(err, "sandbox.Labels");
	return 0;
}

/* The namespace's sandboxes. */
static int find_all(struct sandbox_call *c, struct bolt_tx *tx, struct bolt_bucket **ret,
		    struct err *err)
{
	struct bolt_bucket *b = schema_find_object(c->ctx, tx, "sandboxes");

	if (!b)
		return err_set(err, ERR_NOT_FOUND, "no sandbox buckets");
	*ret = b;
	return 0;
}

static int read_one(struct sandbox_call *c, struct bolt_bucket *all, const char *id,
		    struct bolt_bucket **ret, struct err *err)
{
	struct bolt_bucket *b = bolt_bucket(all, bolt_s(id));
	int rc;

	if (!b)
		return err_set(err, ERR_NOT_FOUND, "bucket \"%s\" not found", id);
	rc = record_read(c->ctx->arena, b, id, &c->one);
	if (rc < 0)
		return err_errno(err, rc, "read sandbox \"%s\"", id);
	*ret = b;
	return 0;
}

/* ---- reading ---- */

static int get(struct bolt_tx *tx, void *arg, struct err *err)
{
	struct sandbox_call *c = arg;
	struct bolt_bucket *all, *b;
	int rc = find_all(c, tx, &all, err);

	return rc < 0 ? rc : read_one(c, all, c->id, &b, err);
}

int sandbox_get(struct ctx *ctx, struct db *db, const char *id, struct sandbox *ret,
		struct err *err)
{
	struct sandbox_call c = {.ctx = ctx, .id = id};
	int rc = db_check_namespace(ctx, err);

	if (rc == 0)
		rc = db_view(ctx, db, get, &c, err);
	if (rc == 0)
		*ret = c.one;
	return rc;
}

static int list(struct bolt_tx *tx, void *arg, struct err *err)
{
	struct sandbox_call *c = arg;
	struct arena *a = c->ctx->arena;
	struct bolt_bucket *all = schema_find_object(c->ctx, tx, "sandboxes"), *b;
	const char **ids;
	size_t n;

	c->n_all = 0;
	if (schema_keys(a, all, true, &ids, &n) < 0)
		return err_nomem(err);
	for (size_t i = 0; i < n; i++) {
		int rc = read_one(c, all, ids[i], &b, err);

		if (rc < 0)
			return rc;
		if (!filter_match(c->filter, sandbox_field, &c->one))
			continue;
		c->all = arena_grow(a, c->all, &c->cap, c->n_all + 1, sizeof(*c->all));
		if (!c->all)
			return err_nomem(err);
		c->all[c->n_all++] = c->one;
	}
	return 0;
}

int sandbox_list(struct ctx *ctx, struct db *db, const struct filter *f, struct sandbox **ret,
		 size_t *ret_n, struct err *err)
{
	struct sandbox_call c = {.ctx = ctx, .filter = f};
	int rc = db_check_namespace(ctx, err);

	if (rc == 0)
		rc = db_view(ctx, db, list, &c, err);
	if (rc == 0) {
		*ret = c.all;
		*ret_n = c.n_all;
	}
	return rc;
}

const char *sandbox_field(const void *sandbox, const char *const *path, size_t n)
{
	const struct sandbox *s = sandbox;

	if (n > 0 && streq(path[0], "labels"))
		return filter_label(&s->labels, path + 1, n - 1);
	return n > 0 && streq(path[0], "id") && !str_empty(s->id) ? s->id : NULL;
}

/* ---- changing ---- */

static int create(struct bolt_tx *tx, void *arg, struct err *err)
{
	struct sandbox_call *c = arg;
	struct sandbox rec = *c->in;
	struct bolt_bucket *all, *b;
	int rc = schema_make_object(c->ctx, tx, "sandboxes", &all, err);

	if (rc < 0)
		return rc;
	rc = bolt_bucket_create(all, bolt_s(rec.id), &b);
	if (rc == -EEXIST)
		return err_set(err, ERR_ALREADY_EXISTS, "sandbox \"%s\"", rec.id);
	rec.created_at = rec.updated_at = time_now();
	if (rc == 0)
		rc = record_write(b, &rec);
	if (rc < 0)
		return err_errno(err, rc, "write sandbox \"%s\"", rec.id);
	return read_one(c, all, rec.id, &b, err);
}

int sandbox_create(struct ctx *ctx, struct db *db, const struct sandbox *in, struct sandbox *ret,
		   struct err *err)
{
	struct sandbox_call c = {.ctx = ctx, .in = in};
	int rc = db_check_namespace(ctx, err);

	if (rc < 0)
		return rc;
	if (sandbox_validate(in, err) < 0)
		return err_prefix(err, "failed to validate sandbox");
	rc = db_update(ctx, db, create, &c, err);
	if (rc == 0)
		*ret = c.one;
	return rc;
}

/* @to->extensions gets what is to be written: the record keeps what is not named. */
static int extension_select(struct arena *a, struct sandbox *to, const struct sandbox *from,
			    const char *key)
{
	struct any_entry *v;

	if (!key) {
		to->extensions = from->extensions;
		to->n_extensions = from->n_extensions;
		return 0;
	}
	v = arena_new_array(a, struct any_entry, to->n_extensions + 1);
	if (!v)
		return -ENOMEM;
	if (to->n_extensions)
		memcpy(v, to->extensions, to->n_extensions * sizeof(*v));
	to->extensions = v;
	for (size_t i = 0; i < from->n_extensions; i++)
		if (streq(from->extensions[i].key, key)) {
			v[to->n_extensions++] = from->extensions[i];
			break;
		}
	return 0;
}

static int update_path(struct arena *a, struct sandbox *to, const struct sandbox *from,
		       const char *path, struct err *err)
{
	const char *key;
	int rc = 0;

	if (mask_field(path, "labels", &key)) {
		rc = mask_labels(a, &to->labels, &from->labels, key);
	} else if (mask_field(path, "extensions", &key)) {
		rc = extension_select(a, to, from, key);
	} else if (streq(path, "runtime")) {
		to->runtime_name = from->runtime_name;
		to->runtime_options = from->runtime_options;
	} else if (streq(path, "spec")) {
		to->spec = from->spec;
	} else {
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "cannot update \"%s\" field on sandbox \"%s\"", path, from->id);
	}
	return rc < 0 ? err_nomem(err) : 0;
}

static int update_apply(struct sandbox_call *c, struct sandbox *to, struct err *err)
{
	static char *const all[] = {"labels", "extensions", "spec", "runtime"};
	char *const *paths = c->n_paths ? c->paths : all;
	size_t n = c->n_paths ? c->n_paths : ARRAY_LEN(all);

	if (!c->n_paths && !streq(to->runtime_name, str_or(c->in->runtime_name, "")))
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "sandbox.Runtime.Name field is immutable");
	/* Extensions that are stored already stay without being written again. */
	to->extensions = NULL;
	to->n_extensions = 0;
	for (size_t i = 0; i < n; i++) {
		int rc = update_path(c->ctx->arena, to, c->in, paths[i], err);

		if (rc < 0)
			return rc;
	}
	return sandbox_validate(to, err);
}

static int update(struct bolt_tx *tx, void *arg, struct err *err)
{
	struct sandbox_call *c = arg;
	struct bolt_bucket *all, *b;
	struct sandbox rec;
	int rc = find_all(c, tx, &all, err);

	if (rc == 0)
		rc = read_one(c, all, c->id, &b, err);
	if (rc < 0)
		return rc;
	rec = c->one;
	rc = update_apply(c, &rec, err);
	if (rc < 0)
		return rc;
	rec.updated_at = time_now();
	rc = record_write(b, &rec);
	if (rc < 0)
		return err_errno(err, rc, "write sandbox \"%s\"", c->id);
	return read_one(c, all, c->id, &b, err);
}

int sandbox_update(struct ctx *ctx, struct db *db, const struct sandbox *in, char *const *paths,
		   size_t n, struct sandbox *ret, struct err *err)
{
	struct sandbox_call c = {.ctx = ctx, .id = in->id, .in = in, .paths = paths, .n_paths = n};
	int rc = db_check_namespace(ctx, err);

	if (rc == 0)
		rc = db_update(ctx, db, update, &c, err);
	if (rc == 0)
		*ret = c.one;
	return rc;
}

static int delete (struct bolt_tx *tx, void *arg, struct err *err)
{
	struct sandbox_call *c = arg;
	struct bolt_bucket *all;
	int rc = find_all(c, tx, &all, err);

	if (rc < 0)
		return rc;
	if (!bolt_bucket(all, bolt_s(c->id)))
		return err_set(err, ERR_NOT_FOUND,
			       "failed to delete sandbox \"%s\": bucket not found", c->id);
	rc = bolt_bucket_delete(all, bolt_s(c->id));
	return rc < 0 ? err_errno(err, rc, "failed to delete sandbox \"%s\"", c->id) : 0;
}

int sandbox_delete(struct ctx *ctx, struct db *db, const char *id, struct err *err)
{
	struct sandbox_call c = {.ctx = ctx, .id = id};
	int rc = db_check_namespace(ctx, err);

	if (rc == 0)
		rc = db_update(ctx, db, delete, &c, err);
	if (rc == 0)
		db_mark_dirty(db, true);
	return rc;
}
