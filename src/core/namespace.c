/* SPDX-License-Identifier: Apache-2.0 */
/* A namespace is the bucket v1/<name>; its own labels are in [labels] there, which the first write
 * of an object does not make. */
#include "core/namespace.h"

#include "base/str.h"
#include "core/db_internal.h"
#include "core/schema.h"

struct ns_call {
	struct ctx *ctx;
	const char *name;
	const struct labels *labels;
	const char **keys;
	struct labels ret;
	struct namespace_info *infos;
	size_t n; /* of keys, or of infos */
};

static int ns_create(struct bolt_tx *tx, void *arg, struct err *err)
{
	struct ns_call *c = arg;
	struct bolt_bucket *b;
	int rc;

	if (SCHEMA_FIND(tx, c->name))
		return err_set(err, ERR_ALREADY_EXISTS, "namespace \"%s\"", c->name);
	rc = SCHEMA_MAKE(tx, &b, c->name, "labels");
	for (size_t i = 0; rc == 0 && i < c->labels->n; i++)
		if (!str_empty(c->labels->v[i].value))
			rc = schema_put_str(b, c->labels->v[i].key, c->labels->v[i].value);
	return rc < 0 ? err_errno(err, rc, "write namespace \"%s\"", c->name) : 0;
}

/* A name under which a namespace can be made: the top bucket has a key of its own beside them. */
static int new_name_validate(const char *name, struct err *err)
{
	int rc = ident_validate(name, err);

	if (rc == 0 && streq(name, "version"))
		rc = err_set(err, ERR_INVALID_ARGUMENT, "namespace name \"%s\" is reserved", name);
	return rc;
}

int namespace_create(struct ctx *ctx, struct db *db, const char *name, const struct labels *labels,
		     struct err *err)
{
	static const struct labels none;
	struct ns_call c = {.ctx = ctx, .name = name, .labels = labels ? labels : &none};
	int rc = new_name_validate(name, err);

	if (rc < 0)
		return rc;
	if (labels_validate(c.labels, err) < 0)
		return err_prefix(err, "namespace.Labels");
	return db_update(ctx, db, ns_create, &c, err);
}

static int ns_labels(struct bolt_tx *tx, void *arg, struct err *err)
{
	struct ns_call *c = arg;
	struct bolt_bucket *b = SCHEMA_FIND(tx, c->name);

	c->ret = (struct labels){0};
	if (b && schema_get_labels(c->ctx->arena, b, "labels", &c->ret) < 0)
		return err_nomem(err);
	return 0;
}

int namespace_labels(struct ctx *ctx, struct db *db, const char *name, struct labels *ret,
		     struct err *err)
{
	struct ns_call c = {.ctx = ctx, .name = name};
	int rc = ident_validate(name, err);

	if (rc == 0)
		rc = db_view(ctx, db, ns_labels, &c, err);
	if (rc == 0)
		*ret = c.ret;
	return rc;
}

static int label_write(struct bolt_bucket *b, const char *key, const char *value)
{
	return str_empty(value) ? bolt_delete(b, bolt_s(key)) : schema_put_str(b, key, value);
}

/* Sets c->labels, of which c->keys are to be written, or all and no others. */
static int ns_update(struct bolt_tx *tx, void *arg, struct err *err)
{
	struct ns_call *c = arg;
	struct bolt_bucket *b = SCHEMA_FIND(tx, c->name, "labels");
	struct labels have = {0};
	int rc = 0;

	if (c->n || c->labels->n)
		rc = SCHEMA_MAKE(tx, &b, c->name, "labels");
	if (rc == 0 && b && !c->n)
		rc = schema_get_labels(c->ctx->arena, SCHEMA_FIND(tx, c->name), "labels", &have);
	for (size_t i = 0; rc == 0 && i < have.n; i++)
		rc = bolt_delete(b, bolt_s(have.v[i].key));
	for (size_t i = 0; rc == 0 && !c->n && i < c->labels->n; i++)
		rc = label_write(b, c->labels->v[i].key, c->labels->v[i].value);
	for (size_t i = 0; rc == 0 && i < c->n; i++)
		rc = label_write(b, c->keys[i], labels_get(c->labels, c->keys[i]));
	if (rc < 0)
		return err_errno(err, rc, "write labels of namespace \"%s\"", c->name);
	return ns_labels(tx, arg, err);
}

/* The keys that @paths name. */
static int mask_keys(struct arena *a, char *const *paths, size_t n, const char ***ret,
		     struct err *err)
{
	const char **keys = arena_new_array(a, const char *, n + 1);

	if (!keys)
		return err_nomem(err);
	for (size_t i = 0; i < n; i++) {
		keys[i] = str_skip(paths[i], "labels.");
		if (!keys[i])
			return err_set(err, ERR_INVALID_ARGUMENT, "cannot update \"%s\" field",
				       paths[i]);
	}
	*ret = keys;
	return 0;
}

/* Only what is written. */
static int update_validate(const struct ns_call *c, struct err *err)
{
	int rc = c->n ? 0 : labels_validate(c->labels, err);

	for (size_t i = 0; rc == 0 && i < c->n; i++) {
		struct label one = {c->keys[i], str_or(labels_get(c->labels, c->keys[i]), "")};

		rc = labels_validate(&(struct labels){&one, 1, 1}, err);
	}
	return rc;
}

int namespace_update(struct ctx *ctx, struct db *db, const char *name, const struct labels *labels,
		     char *const *paths, size_t n, struct labels *ret, struct err *err)
{
	struct ns_call c = {.ctx = ctx, .name = name, .labels = labels, .n = n};
	int rc = mask_keys(ctx->arena, paths, n, &c.keys, err);

	if (rc == 0)
		rc = new_name_validate(name, err);
	if (rc < 0)
		return rc;
	if (update_validate(&c, err) < 0)
		return err_prefix(err, "namespace.Labels");
	rc = db_update(ctx, db, ns_update, &c, err);
	if (rc == 0)
		*ret = c.ret;
	return rc;
}

static int ns_list(struct bolt_tx *tx, void *arg, struct err *err)
{
	struct ns_call *c = arg;
	struct arena *a = c->ctx->arena;
	const char **names;

	if (schema_keys(a, schema_find(tx, NULL, 0), true, &names, &c->n) < 0)
		return err_nomem(err);
	c->infos = arena_new_array(a, struct namespace_info, c->n + 1);
	if (!c->infos)
		return err_nomem(err);
	for (size_t i = 0; i < c->n; i++) {
		struct bolt_bucket *b = SCHEMA_FIND(tx, names[i]);

		c->infos[i].name = names[i];
		if (!b || schema_get_labels(a, b, "labels", &c->infos[i].labels) < 0)
			return err_nomem(err);
	}
	return 0;
}

int namespace_list(struct ctx *ctx, struct db *db, struct namespace_info **ret, size_t *ret_n,
		   struct err *err)
{
	struct ns_call c = {.ctx = ctx};
	int rc = db_view(ctx, db, ns_list, &c, err);

	if (rc == 0) {
		*ret = c.infos;
		*ret_n = c.n;
	}
	return rc;
}

static bool bucket_has_any(struct bolt_bucket *b)
{
	struct bolt_cursor cur;
	struct bolt_item it;

	if (!b)
		return false;
	bolt_cursor_init(&cur, b);
	return bolt_first(&cur, &it);
}

/* What is left, as the error lists it; "" = nothing that counts. */
static const char *ns_remains(struct arena *a, struct bolt_tx *tx, const char *name)
{
	struct bolt_bucket *snapshots = SCHEMA_FIND(tx, name, "snapshots");
	const struct {
		const char *what;
		struct bolt_bucket *b;
	} kinds[] = {
		{"images", SCHEMA_FIND(tx, name, "images")},
		{"blobs", SCHEMA_FIND(tx, name, "content", "blob")},
		{"containers", SCHEMA_FIND(tx, name, "containers")},
	};
	const char *text = "", **names;
	size_t n;

	for (size_t i = 0; text && i < ARRAY_LEN(kinds); i++)
		if (bucket_has_any(kinds[i].b))
			text = arena_printf(a, "%s%s%s", text, *text ? ", " : "", kinds[i].what);
	if (schema_keys(a, snapshots, true, &names, &n) < 0)
		return NULL;
	for (size_t i = 0; text && i < n; i++)
		if (bucket_has_any(bolt_bucket(snapshots, bolt_s(names[i]))))
			text = arena_printf(a, "%s%ssnapshots on \"%s\" snapshotter", text,
					    *text ? ", " : "", names[i]);
	return text;
}

static int ns_delete(struct bolt_tx *tx, void *arg, struct err *err)
{
	struct ns_call *c = arg;
	const char *remains;
	int rc;

	if (!SCHEMA_FIND(tx, c->name))
		return err_set(err, ERR_NOT_FOUND, "namespace \"%s\"", c->name);
	remains = ns_remains(c->ctx->arena, tx, c->name);
	if (!remains)
		return err_nomem(err);
	if (*remains)
		return err_set(err, ERR_FAILED_PRECONDITION,
			       "namespace \"%s\" must be empty, but it still has %s", c->name,
			       remains);
	rc = bolt_bucket_delete(schema_find(tx, NULL, 0), bolt_s(c->name));
	return rc < 0 ? err_errno(err, rc, "delete namespace \"%s\"", c->name) : 0;
}

int namespace_delete(struct ctx *ctx, struct db *db, const char *name, struct err *err)
{
	struct ns_call c = {.ctx = ctx, .name = name};
	int rc = ident_validate(name, err);

	if (rc == 0)
		rc = db_update(ctx, db, ns_delete, &c, err);
	if (rc < 0)
		return rc;
	/* Its ingests and leases went with it; what they kept is the collector's. */
	db->content_dirty = true;
	db_mark_dirty(db, true);
	return 0;
}
