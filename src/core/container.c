/* SPDX-License-Identifier: Apache-2.0 */
/* v1/<namespace>/containers/<id>: see schema.h and docs/bolt-schema. What create and update return
 * is read back from the record, so the client sees what is stored. */
#include "core/container.h"

#include "base/str.h"
#include "base/time.h"
#include "core/db_internal.h"
#include "core/mask.h"
#include "core/schema.h"

struct container_call {
	struct ctx *ctx;
	const char *id;
	const struct container *in;
	char *const *paths;
	size_t n_paths;
	const struct filter *filter;
	struct container one;
	struct container *all;
	size_t n_all, cap;
};

/* ---- records ---- */

static int record_read(struct arena *a, struct bolt_bucket *b, const char *id,
		       struct container *ret)
{
	struct container c = {.id = arena_strdup(a, id), .runtime_name = ""};
	struct bolt_bucket *runtime = b ? bolt_bucket(b, bolt_s("runtime")) : NULL;
	int rc = b && c.id ? 0 : -ENOMEM;

	if (rc == 0)
		rc = schema_get_labels(a, b, "labels", &c.labels);
	if (rc == 0)
		rc = schema_get_str(a, b, "image", &c.image);
	if (rc == 0)
		rc = schema_get_str(a, b, "snapshotter", &c.snapshotter);
	if (rc == 0)
		rc = schema_get_str(a, b, "snapshotKey", &c.snapshot_key);
	if (rc == 0)
		rc = schema_get_str(a, b, "sandboxid", &c.sandbox_id);
	if (rc == 0)
		rc = schema_get_any(a, b, "spec", &c.spec);
	if (rc == 0)
		rc = schema_get_any_map(a, b, "extensions", &c.extensions, &c.n_extensions);
	if (rc == 0 && runtime)
		rc = schema_get_str(a, runtime, "name", &c.runtime_name);
	if (rc == 0 && runtime)
		rc = schema_get_any(a, runtime, "options", &c.runtime_options);
	if (rc < 0)
		return rc;
	c.created_at = schema_get_time(b, "createdat");
	c.updated_at = schema_get_time(b, "updatedat");
	*ret = c;
	return 0;
}

static int record_write(struct bolt_bucket *b, const struct container *c)
{
	struct bolt_bucket *runtime;
	int rc = schema_put_times(b, c->created_at, c->updated_at);

	if (rc == 0)
		rc = schema_put_any(b, "spec", &c->spec);
	if (rc == 0)
		rc = schema_put_str(b, "image", c->image);
	if (rc == 0)
		rc = schema_put_str(b, "snapshotter", c->snapshotter);
	if (rc == 0)
		rc = schema_put_str(b, "snapshotKey", c->snapshot_key);
	if (rc == 0)
		rc = schema_put_str(b, "sandboxid", c->sandbox_id);
	if (rc == 0)
		rc = bolt_bucket_create_if_missing(b, bolt_s("runtime"), &runtime);
	if (rc == 0)
		rc = schema_put_str(runtime, "name", c->runtime_name);
	if (rc == 0)
		rc = schema_put_any(runtime, "options", &c->runtime_options);
	if (rc == 0)
		rc = schema_put_any_map(b, "extensions", c->extensions, c->n_extensions);
	return rc < 0 ? rc : schema_put_labels(b, "labels", &c->labels);
}

static int container_validate(const struct container *c, struct err *err)
{
	if (ident_validate(c->id, err) < 0)
		return err_prefix(err, "container.ID");
	for (size_t i = 0; i < c->n_extensions; i++)
		if (str_empty(c->extensions[i].key))
			return err_set(err, ERR_INVALID_ARGUMENT,
				       "container.Extension keys must not be zero-length");
	if (labels_validate(&c->labels, err) < 0)
		return err_prefix(err, "containers.Labels");
	if (str_empty(c->runtime_name))
		return err_set(err, ERR_INVALID_ARGUMENT, "container.Runtime.Name must be set");
	if (!str_empty(c->snapshot_key) && str_empty(c->snapshotter))
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "container.Snapshotter must be set if container.SnapshotKey is set");
	return 0;
}

static int read_back(struct container_call *c, struct bolt_bucket *b, const char *id,
		     struct err *err)
{
	int rc = record_read(c->ctx->arena, b, id, &c->one);

	return rc < 0 ? err_errno(err, rc, "read container \"%s\"", id) : 0;
}

/* ---- reading ---- */

static int not_found(struct container_call *c, struct err *err)
{
	return err_set(err, ERR_NOT_FOUND, "container \"%s\" in namespace \"%s\"", c->id,
		       c->ctx->ns);
}

static int get(struct bolt_tx *tx, void *arg, struct err *err)
{
	struct container_call *c = arg;
	struct bolt_bucket *b = SCHEMA_FIND(tx, c->ctx->ns, "containers", c->id);

	return b ? read_back(c, b, c->id, err) : not_found(c, err);
}

int container_get(struct ctx *ctx, struct db *db, const char *id, struct container *ret,
		  struct err *err)
{
	struct container_call c = {.ctx = ctx, .id = id};
	int rc = db_check_namespace(ctx, err);

	if (rc == 0)
		rc = db_view(ctx, db, get, &c, err);
	if (rc == 0)
		*ret = c.one;
	return rc;
}

static int list(struct bolt_tx *tx, void *arg, struct err *err)
{
	struct container_call *c = arg;
	struct arena *a = c->ctx->arena;
	struct bolt_bucket *b = schema_find_object(c->ctx, tx, "containers");
	const char **ids;
	size_t n;

	c->n_all = 0;
	if (schema_keys(a, b, true, &ids, &n) < 0)
		return err_nomem(err);
	for (size_t i = 0; i < n; i++) {
		int rc = read_back(c, bolt_bucket(b, bolt_s(ids[i])), ids[i], err);

		if (rc < 0)
			return rc;
		if (!filter_match(c->filter, container_field, &c->one))
			continue;
		c->all = arena_grow(a, c->all, &c->cap, c->n_all + 1, sizeof(*c->all));
		if (!c->all)
			return err_nomem(err);
		c->all[c->n_all++] = c->one;
	}
	return 0;
}

int container_list(struct ctx *ctx, struct db *db, const struct filter *f, struct container **ret,
		   size_t *ret_n, struct err *err)
{
	struct container_call c = {.ctx = ctx, .filter = f};
	int rc = db_check_namespace(ctx, err);

	if (rc == 0)
		rc = db_view(ctx, db, list, &c, err);
	if (rc == 0) {
		*ret = c.all;
		*ret_n = c.n_all;
	}
	return rc;
}

/* ---- by label, in all namespaces ---- */

struct labelled_call {
	struct ctx *ctx;
	const char *key;
	struct container_ref *v;
	size_t n, cap;
};

/* Only what has the label is copied: of a thousand containers few may have it. */
static int labelled_add(struct labelled_call *c, const char *ns, struct bolt_slice id,
			struct bolt_bucket *b)
{
	struct arena *a = c->ctx->arena;
	struct bolt_bucket *labels = bolt_bucket(b, bolt_s("labels"));
	struct container_ref *r;
	struct bolt_slice v;

	if (!labels || !bolt_get(labels, bolt_s(c->key), &v))
		return 0;
	c->v = arena_grow(a, c->v, &c->cap, c->n + 1, sizeof(*c->v));
	if (!c->v)
		return -ENOMEM;
	r = &c->v[c->n++];
	*r = (struct container_ref){.ns = ns, .id = schema_key(a, id)};
	r->created_at = schema_get_time(b, "createdat");
	return r->id ? schema_get_labels(a, b, "labels", &r->labels) : -ENOMEM;
}

static int list_labelled(struct bolt_tx *tx, void *arg, struct err *err)
{
	struct labelled_call *c = arg;
	const char **names;
	size_t n;
	int rc = schema_keys(c->ctx->arena, schema_find(tx, NULL, 0), true, &names, &n);

	c->n = 0;
	for (size_t i = 0; rc == 0 && i < n; i++) {
		struct bolt_bucket *all = SCHEMA_FIND(tx, names[i], "containers");
		struct bolt_cursor cur;
		struct bolt_item it;

		if (!all)
			continue;
		bolt_cursor_init(&cur, all);
		for (bool ok = bolt_first(&cur, &it); rc == 0 && ok; ok = bolt_next(&cur, &it)) {
			struct bolt_bucket *b = it.is_bucket ? bolt_bucket(all, it.key) : NULL;

			rc = b ? labelled_add(c, names[i], it.key, b) : 0;
		}
	}
	return rc < 0 ? err_errno(err, rc, "list containers labelled %s", c->key) : 0;
}

int container_list_labelled(struct ctx *ctx, struct db *db, const char *key,
			    struct container_ref **ret, size_t *ret_n, struct err *err)
{
	struct labelled_call c = {.ctx = ctx, .key = key};
	int rc = db_view(ctx, db, list_labelled, &c, err);

	if (rc == 0) {
		*ret = c.v;
		*ret_n = c.n;
	}
	return rc;
}

const char *container_field(const void *container, const char *const *path, size_t n)
{
	const struct container *c = container;
	const char *v = NULL;

	if (n == 0)
		return NULL;
	if (streq(path[0], "labels"))
		return filter_label(&c->labels, path + 1, n - 1);
	if (streq(path[0], "id"))
		v = c->id;
	else if (streq(path[0], "image"))
		v = c->image;
	else if (streq(path[0], "runtime") && n > 1 && streq(path[1], "name"))
		v = c->runtime_name;
	return str_empty(v) ? NULL : v;
}

/* ---- changing ---- */

static int create(struct bolt_tx *tx, void *arg, struct err *err)
{
	struct container_call *c = arg;
	struct container rec = *c->in;
	struct bolt_bucket *all, *b;
	int rc = schema_make_object(c->ctx, tx, "containers", &all, err);

	if (rc < 0)
		return rc;
	rc = bolt_bucket_create(all, bolt_s(rec.id), &b);
	if (rc == -EEXIST)
		return err_set(err, ERR_ALREADY_EXISTS, "container \"%s\"", rec.id);
	rec.created_at = rec.updated_at = time_now();
	if (rc == 0)
		rc = record_write(b, &rec);
	if (rc < 0)
		return err_errno(err, rc, "write container \"%s\"", rec.id);
	return read_back(c, b, rec.id, err);
}

int container_create(struct ctx *ctx, struct db *db, const struct container *in,
		     struct container *ret, struct err *err)
{
	struct container_call c = {.ctx = ctx, .in = in};
	int rc = db_check_namespace(ctx, err);

	if (rc < 0)
		return rc;
	if (container_validate(in, err) < 0)
		return err_prefix(err, "create container failed validation");
	rc = db_update(ctx, db, create, &c, err);
	if (rc == 0)
		*ret = c.one;
	return rc;
}

/* @to->extensions gets what is to be written: the record keeps what is not named. */
static int extension_select(struct arena *a, struct container *to, const struct container *from,
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
	for (size_t i = 0; i < from->n_extensions; i++)
		if (streq(from->extensions[i].key, key))
			v[to->n_extensions++] = from->extensions[i];
	to->extensions = v;
	return 0;
}

static int update_path(struct arena *a, struct container *to, const struct container *from,
		       const char *path, struct err *err)
{
	const char *key;
	int rc = 0;

	if (mask_field(path, "labels", &key))
		rc = mask_labels(a, &to->labels, &from->labels, key);
	else if (mask_field(path, "extensions", &key))
		rc = extension_select(a, to, from, key);
	else if (streq(path, "spec"))
		to->spec = from->spec;
	else if (streq(path, "image"))
		to->image = from->image;
	else if (streq(path, "snapshotkey"))
		to->snapshot_key = from->snapshot_key;
	else
		return err_set(err, ERR_INVALID_ARGUMENT, "cannot update \"%s\" field on \"%s\"",
			       path, from->id);
	return rc < 0 ? err_nomem(err) : 0;
}

static int update_apply(struct container_call *c, struct container *to, struct err *err)
{
	static char *const all[] = {"labels", "spec", "extensions", "image", "snapshotkey"};
	char *const *paths = c->n_paths ? c->paths : all;
	size_t n = c->n_paths ? c->n_paths : ARRAY_LEN(all);

	if (!c->n_paths) {
		if (!streq(to->snapshotter, c->in->snapshotter ? c->in->snapshotter : ""))
			return err_set(err, ERR_INVALID_ARGUMENT,
				       "container.Snapshotter field is immutable");
		if (!streq(to->runtime_name, c->in->runtime_name ? c->in->runtime_name : ""))
			return err_set(err, ERR_INVALID_ARGUMENT,
				       "container.Runtime.Name field is immutable");
	}
	/* Extensions that are stored already stay without being written again. */
	to->extensions = NULL;
	to->n_extensions = 0;
	for (size_t i = 0; i < n; i++) {
		int rc = update_path(c->ctx->arena, to, c->in, paths[i], err);

		if (rc < 0)
			return rc;
	}
	return container_validate(to, err);
}

static int update(struct bolt_tx *tx, void *arg, struct err *err)
{
	struct container_call *c = arg;
	struct bolt_bucket *b = SCHEMA_FIND(tx, c->ctx->ns, "containers", c->id);
	struct container rec;
	int rc;

	if (!b)
		return err_set(err, ERR_NOT_FOUND, "container \"%s\"", c->id);
	rc = read_back(c, b, c->id, err);
	if (rc < 0)
		return rc;
	rec = c->one;
	rc = update_apply(c, &rec, err);
	if (rc < 0)
		return rc;
	rec.updated_at = time_now();
	rc = record_write(b, &rec);
	if (rc < 0)
		return err_errno(err, rc, "write container \"%s\"", c->id);
	return read_back(c, b, c->id, err);
}

int container_update(struct ctx *ctx, struct db *db, const struct container *in, char *const *paths,
		     size_t n, struct container *ret, struct err *err)
{
	struct container_call c = {
		.ctx = ctx, .id = in->id, .in = in, .paths = paths, .n_paths = n};
	int rc = db_check_namespace(ctx, err);

	if (rc < 0)
		return rc;
	if (str_empty(in->id))
		return err_set(err, ERR_INVALID_ARGUMENT, "must specify a container id");
	rc = db_update(ctx, db, update, &c, err);
	if (rc == 0)
		*ret = c.one;
	return rc;
}

static int delete (struct bolt_tx *tx, void *arg, struct err *err)
{
	struct container_call *c = arg;
	struct bolt_bucket *all = schema_find_object(c->ctx, tx, "containers");
	int rc;

	if (!all || !bolt_bucket(all, bolt_s(c->id)))
		return not_found(c, err);
	rc = bolt_bucket_delete(all, bolt_s(c->id));
	return rc < 0 ? err_errno(err, rc, "delete container \"%s\"", c->id) : 0;
}

int container_delete(struct ctx *ctx, struct db *db, const char *id, struct err *err)
{
	struct container_call c = {.ctx = ctx, .id = id};
	int rc = db_check_namespace(ctx, err);

	if (rc == 0)
		rc = db_update(ctx, db, delete, &c, err);
	if (rc == 0)
		db_mark_dirty(db, true);
	return rc;
}
