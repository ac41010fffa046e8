/* SPDX-License-Identifier: Apache-2.0 */
/* v1/<namespace>/containers/<id>: see record.h and docs/bolt-schema. */
#include "core/container.h"

#include "base/str.h"
#include "core/db_internal.h"
#include "core/record.h"
#include "core/schema.h"

/* ---- records ---- */

#define AT(member) RECORD_AT(container, member)

static const struct record_field fields[] = {
	{.key = "labels", .mask = "labels", .type = RECORD_LABELS, .filter = true, AT(labels)},
	{.key = "spec", .mask = "spec", .type = RECORD_ANY, AT(spec)},
	{.key = "extensions",
	 .mask = "extensions",
	 .type = RECORD_ANY_MAP,
	 AT(extensions),
	 .count = offsetof(struct container, n_extensions)},
	{.key = "image", .mask = "image", .filter = true, AT(image)},
	{.key = "snapshotter", .immutable = "Snapshotter", AT(snapshotter)},
	{.key = "snapshotKey", .mask = "snapshotkey", AT(snapshot_key)},
	{.key = "sandboxid", AT(sandbox_id)},
	{.bucket = "runtime",
	 .key = "name",
	 .immutable = "Runtime.Name",
	 .filter = true,
	 AT(runtime_name)},
	{.bucket = "runtime", .key = "options", .type = RECORD_ANY, AT(runtime_options)},
	{.key = "createdat", .type = RECORD_CREATED, AT(created_at)},
	{.key = "updatedat", .type = RECORD_UPDATED, AT(updated_at)},
};

static int container_validate(const void *rec, struct err *err)
{
	const struct container *c = rec;

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

static int not_found(struct ctx *ctx, enum record_step step, bool any, const char *id,
		     struct err *err)
{
	if (step == RECORD_UPDATE)
		return err_set(err, ERR_NOT_FOUND, "container \"%s\"", id);
	return err_set(err, ERR_NOT_FOUND, "container \"%s\" in namespace \"%s\"", id, ctx->ns);
}

static const struct record_kind kind = {
	.bucket = {"containers"},
	.noun = "container",
	.key = "id",
	.size = sizeof(struct container),
	.key_offset = offsetof(struct container, id),
	.fields = fields,
	.n_fields = ARRAY_LEN(fields),
	.validate = container_validate,
	.not_found = not_found,
};

int container_get(struct ctx *ctx, struct db *db, const char *id, struct container *ret,
		  struct err *err)
{
	return record_get(ctx, db, &kind, id, ret, err);
}

int container_list(struct ctx *ctx, struct db *db, const struct filter *f, struct container **ret,
		   size_t *ret_n, struct err *err)
{
	return record_list(ctx, db, &kind, f, ret, ret_n, err);
}

int container_create(struct ctx *ctx, struct db *db, const struct container *in,
		     struct container *ret, struct err *err)
{
	struct record_change ch = {.in = in};
	int rc = db_check_namespace(ctx, err);

	if (rc < 0)
		return rc;
	if (container_validate(in, err) < 0)
		return err_prefix(err, "create container failed validation");
	return record_create(ctx, db, &kind, &ch, ret, err);
}

int container_update(struct ctx *ctx, struct db *db, const struct container *in, char *const *paths,
		     size_t n, struct container *ret, struct err *err)
{
	struct record_change ch = {.in = in, .paths = paths, .n_paths = n};
	int rc = db_check_namespace(ctx, err);

	if (rc < 0)
		return rc;
	if (str_empty(in->id))
		return err_set(err, ERR_INVALID_ARGUMENT, "must specify a container id");
	return record_update(ctx, db, &kind, &ch, ret, err);
}

int container_delete(struct ctx *ctx, struct db *db, const char *id, struct err *err)
{
	return record_delete(ctx, db, &kind, id, NULL, err);
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
