/* SPDX-License-Identifier: Apache-2.0 */
/* v1/<namespace>/leases/<id>: what a lease holds are keys without value in the buckets content,
 * ingests, images and snapshots/<snapshotter> of the lease. Whether the resource exists is not
 * asked. */
#include "core/lease.h"

#include "base/digest.h"
#include "base/str.h"
#include "base/time.h"
#include "core/db_internal.h"
#include "core/record.h"
#include "core/schema.h"

#define LEASE_GUARD_SECONDS (24 * 3600)
#define TYPE_PARTS_MAX 2

struct lease_call {
	struct ctx *ctx;
	const char *id;
	const struct lease_resource *resource;
	struct lease_resource *resources;
	size_t n, cap;
};

/* ---- the lease itself ---- */

#define AT(member) RECORD_AT(lease, member)

static const struct record_field fields[] = {
	{.key = "labels", .type = RECORD_LABELS, .filter = true, AT(labels)},
	{.key = "createdat", .type = RECORD_CREATED, AT(created_at)},
};

static const struct record_kind kind = {
	.bucket = {"leases"},
	.noun = "lease",
	.key = "id",
	.size = sizeof(struct lease),
	.key_offset = offsetof(struct lease, id),
	.fields = fields,
	.n_fields = ARRAY_LEN(fields),
};

static const char *id_generate(struct arena *a)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	uint8_t r[3];
	uint32_t v;

	random_bytes(r, sizeof(r));
	v = (uint32_t)r[0] << 16 | (uint32_t)r[1] << 8 | r[2];
	return arena_printf(a, "%ld-%c%c%c%c", time_now().tv_nsec, digits[v >> 18],
			    digits[v >> 12 & 63], digits[v >> 6 & 63], digits[v & 63]);
}

int lease_create(struct ctx *ctx, struct db *db, const char *id, const struct labels *labels,
		 struct lease *ret, struct err *err)
{
	struct lease in = {.labels = labels ? *labels : (struct labels){0}};
	struct record_change ch = {.in = &in};
	int rc = db_check_namespace(ctx, err);

	if (rc < 0)
		return rc;
	if (labels_validate(&in.labels, err) < 0)
		return err_prefix(err, "lease.Labels");
	in.id = str_empty(id) ? id_generate(ctx->arena) : id;
	return in.id ? record_create(ctx, db, &kind, &ch, ret, err) : err_nomem(err);
}

int lease_tx_create(struct ctx *ctx, struct bolt_tx *tx, const char *id, struct err *err)
{
	struct lease in = {.id = id};
	struct record_change ch = {.in = &in};

	return record_tx_create(ctx, tx, &kind, &ch, err);
}

int lease_check(struct ctx *ctx, struct db *db, const char *id, struct err *err)
{
	struct lease l;

	return record_get(ctx, db, &kind, id, &l, err);
}

int lease_delete(struct ctx *ctx, struct db *db, const char *id, struct err *err)
{
	return record_delete(ctx, db, &kind, id, NULL, err);
}

int lease_list(struct ctx *ctx, struct db *db, const struct filter *f, struct lease **ret,
	       size_t *ret_n, struct err *err)
{
	return record_list(ctx, db, &kind, f, ret, ret_n, err);
}

/* ---- resources ---- */

static struct bolt_bucket *lease_find(struct lease_call *c, struct bolt_tx *tx, struct err *err)
{
	struct bolt_bucket *b = record_tx_find(c->ctx, tx, &kind, c->id);

	if (!b)
		err_set(err, ERR_NOT_FOUND, "lease \"%s\"", c->id);
	return b;
}

/* The buckets below the lease in which @type's resources are kept: one, or snapshots and the
 * snapshotter. */
static int type_path(struct arena *a, const struct lease_resource *r,
		     const char *path[TYPE_PARTS_MAX], size_t *ret_n, struct err *err)
{
	const char *slash = strchr(r->type, '/');

	*ret_n = 1;
	path[0] = r->type;
	if (streq(r->type, "ingests") || streq(r->type, "images"))
		return 0;
	if (streq(r->type, "content"))
		return digest_validate(r->id, err);
	if (str_has_prefix(r->type, "snapshots/") && slash[1] && !strchr(slash + 1, '/')) {
		path[0] = "snapshots";
		path[1] = arena_strdup(a, slash + 1);
		*ret_n = 2;
		return path[1] ? 0 : err_nomem(err);
	}
	if (streq(r->type, "snapshots") || str_has_prefix(r->type, "snapshots/") ||
	    str_has_prefix(r->type, "content/") || str_has_prefix(r->type, "ingests/") ||
	    str_has_prefix(r->type, "images/"))
		return err_set(err, ERR_INVALID_ARGUMENT, "invalid resource type %s", r->type);
	return err_set(err, ERR_UNIMPLEMENTED, "resource type %s not supported yet", r->type);
}

static int resource_add(struct ctx *ctx, struct bolt_bucket *lease, const struct lease_resource *r,
			struct err *err)
{
	const char *path[TYPE_PARTS_MAX];
	size_t n;
	struct bolt_bucket *b = lease;
	int rc = type_path(ctx->arena, r, path, &n, err);

	if (rc < 0)
		return rc;
	for (size_t i = 0; rc == 0 && i < n; i++) {
		struct bolt_bucket *parent = b;

		rc = bolt_bucket_create_if_missing(parent, bolt_s(path[i]), &b);
	}
	if (rc == 0)
		rc = bolt_put(b, bolt_s(r->id), bolt_s(""));
	return rc < 0 ? err_errno(err, rc, "add %s %s to lease", r->type, r->id) : 0;
}

static int resource_remove(struct ctx *ctx, struct bolt_bucket *lease,
			   const struct lease_resource *r, struct err *err)
{
	const char *path[TYPE_PARTS_MAX];
	size_t n;
	int rc = type_path(ctx->arena, r, path, &n, err);

	if (rc < 0)
		return rc;
	for (size_t i = 0; lease && i < n; i++)
		lease = bolt_bucket(lease, bolt_s(path[i]));
	if (lease)
		rc = bolt_delete(lease, bolt_s(r->id));
	return rc < 0 ? err_errno(err, rc, "remove %s %s from lease", r->type, r->id) : 0;
}

static int add_resource(struct bolt_tx *tx, void *arg, struct err *err)
{
	struct lease_call *c = arg;
	struct bolt_bucket *b = lease_find(c, tx, err);

	return b ? resource_add(c->ctx, b, c->resource, err) : -ERR_NOT_FOUND;
}

int lease_add_resource(struct ctx *ctx, struct db *db, const char *id,
		       const struct lease_resource *r, struct err *err)
{
	struct lease_call c = {.ctx = ctx, .id = id, .resource = r};
	int rc = db_check_namespace(ctx, err);

	return rc < 0 ? rc : db_update(ctx, db, add_resource, &c, err);
}

static int delete_resource(struct bolt_tx *tx, void *arg, struct err *err)
{
	struct lease_call *c = arg;
	struct bolt_bucket *b = lease_find(c, tx, err);

	return b ? resource_remove(c->ctx, b, c->resource, err) : -ERR_NOT_FOUND;
}

int lease_delete_resource(struct ctx *ctx, struct db *db, const char *id,
			  const struct lease_resource *r, struct err *err)
{
	struct lease_call c = {.ctx = ctx, .id = id, .resource = r};
	int rc = db_check_namespace(ctx, err);

	if (rc == 0)
		rc = db_update(ctx, db, delete_resource, &c, err);
	if (rc == 0)
		db_mark_dirty(db, true);
	return rc;
}

static int collect(struct lease_call *c, struct bolt_bucket *b, const char *type)
{
	struct arena *a = c->ctx->arena;
	const char **keys;
	size_t n;
	int rc = schema_keys(a, b, false, &keys, &n);

	for (size_t i = 0; rc == 0 && i < n; i++) {
		c->resources =
			arena_grow(a, c->resources, &c->cap, c->n + 1, sizeof(*c->resources));
		if (!c->resources)
			return -ENOMEM;
		c->resources[c->n++] = (struct lease_resource){.id = keys[i], .type = type};
	}
	return rc;
}

static int list_resources(struct bolt_tx *tx, void *arg, struct err *err)
{
	static const char *const plain[] = {"content", "images", "ingests"};
	struct lease_call *c = arg;
	struct bolt_bucket *b = lease_find(c, tx, err), *snapshots;
	const char **names;
	size_t n;
	int rc = 0;

	if (!b)
		return -ERR_NOT_FOUND;
	c->n = 0;
	for (size_t i = 0; rc == 0 && i < ARRAY_LEN(plain); i++)
		rc = collect(c, bolt_bucket(b, bolt_s(plain[i])), plain[i]);
	snapshots = bolt_bucket(b, bolt_s("snapshots"));
	if (rc == 0)
		rc = schema_keys(c->ctx->arena, snapshots, true, &names, &n);
	for (size_t i = 0; rc == 0 && i < n; i++) {
		const char *type = arena_printf(c->ctx->arena, "snapshots/%s", names[i]);

		rc = type ? collect(c, bolt_bucket(snapshots, bolt_s(names[i])), type) : -ENOMEM;
	}
	return rc < 0 ? err_nomem(err) : 0;
}

int lease_list_resources(struct ctx *ctx, struct db *db, const char *id,
			 struct lease_resource **ret, size_t *ret_n, struct err *err)
{
	struct lease_call c = {.ctx = ctx, .id = id};
	int rc = db_check_namespace(ctx, err);

	if (rc == 0)
		rc = db_view(ctx, db, list_resources, &c, err);
	if (rc == 0) {
		*ret = c.resources;
		*ret_n = c.n;
	}
	return rc;
}

int lease_tx_add(struct ctx *ctx, struct bolt_tx *tx, const char *type, const char *id,
		 struct err *err)
{
	struct lease_resource r = {.id = id, .type = type};
	struct bolt_bucket *b;

	if (str_empty(ctx->lease))
		return 0;
	b = SCHEMA_FIND(tx, ctx->ns, "leases", ctx->lease);
	if (!b)
		return err_set(err, ERR_NOT_FOUND, "lease does not exist");
	return resource_add(ctx, b, &r, err);
}

int lease_tx_remove(struct ctx *ctx, struct bolt_tx *tx, const char *type, const char *id,
		    struct err *err)
{
	struct lease_resource r = {.id = id, .type = type};

	if (str_empty(ctx->lease))
		return 0;
	return resource_remove(ctx, SCHEMA_FIND(tx, ctx->ns, "leases", ctx->lease), &r, err);
}

/* ---- guard ---- */

static int delete (struct bolt_tx *tx, void *arg, struct err *err)
{
	struct lease_call *c = arg;

	return record_tx_delete(c->ctx, tx, &kind, c->id, NULL, err);
}

int lease_guard_begin(struct ctx *ctx, struct db *db, struct lease_guard *ret, struct err *err)
{
	struct timespec until = time_now();
	char text[40];
	struct label expire = {"containerd.io/gc.expire", text};
	struct labels labels = {&expire, 1, 1};
	struct lease l;
	int rc;

	if (!str_empty(ctx->lease)) {
		ret->id = "";
		return 0;
	}
	until.tv_sec += LEASE_GUARD_SECONDS;
	time_format_rfc3339(until, text);
	rc = lease_create(ctx, db, "", &labels, &l, err);
	if (rc == 0)
		ret->id = ctx->lease = l.id;
	return rc;
}

void lease_guard_end(struct ctx *ctx, struct db *db, struct lease_guard *g)
{
	struct lease_call c = {.ctx = ctx, .id = g->id};

	if (str_empty(g->id))
		return;
	ctx->lease = "";
	g->id = "";
	/* Where this fails, the lease expires. */
	if (db_update_always(db, delete, &c, NULL) == 0)
		db_mark_dirty(db, true);
}
