/* SPDX-License-Identifier: Apache-2.0 */
/* v1/<namespace>/sandboxes/<id>: see record.h and docs/bolt-schema. */
#include "core/sandbox.h"

#include "base/str.h"
#include "core/db_internal.h"
#include "core/lease.h"
#include "core/record.h"

#define AT(member) RECORD_AT(sandbox, member)

static const struct record_field fields[] = {
	{.key = "labels", .mask = "labels", .type = RECORD_LABELS, .filter = true, AT(labels)},
	{.key = "extensions",
	 .mask = "extensions",
	 .type = RECORD_ANY_MAP,
	 AT(extensions),
	 .count = offsetof(struct sandbox, n_extensions)},
	{.key = "spec", .mask = "spec", .type = RECORD_ANY, AT(spec)},
	{.key = "sandboxer", AT(sandboxer)},
	{.bucket = "runtime",
	 .key = "name",
	 .mask = "runtime",
	 .immutable = "Runtime.Name",
	 AT(runtime_name)},
	{.bucket = "runtime",
	 .key = "options",
	 .mask = "runtime",
	 .type = RECORD_ANY,
	 AT(runtime_options)},
	{.key = "createdat", .type = RECORD_CREATED, AT(created_at)},
	{.key = "updatedat", .type = RECORD_UPDATED, AT(updated_at)},
};

static int sandbox_validate(const void *rec, struct err *err)
{
	const struct sandbox *s = rec;

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

/* containerd's texts. */
static int not_found(struct ctx *ctx, enum record_step step, bool any, const char *id,
		     struct err *err)
{
	if (!any)
		return err_set(err, ERR_NOT_FOUND, "no sandbox buckets");
	if (step == RECORD_DELETE)
		return err_set(err, ERR_NOT_FOUND,
			       "failed to delete sandbox \"%s\": bucket not found", id);
	return err_set(err, ERR_NOT_FOUND, "bucket \"%s\" not found", id);
}

/* @arg: whether it comes with a lease. */
static int sandbox_stored(struct ctx *ctx, struct bolt_tx *tx, const void *old, const void *rec,
			  void *arg, struct err *err)
{
	return arg ? lease_tx_create(ctx, tx, ((const struct sandbox *)rec)->id, err) : 0;
}

static const struct record_kind kind = {
	.bucket = {"sandboxes"},
	.noun = "sandbox",
	.mask_noun = "sandbox ",
	.key = "id",
	.size = sizeof(struct sandbox),
	.key_offset = offsetof(struct sandbox, id),
	.fields = fields,
	.n_fields = ARRAY_LEN(fields),
	.validate = sandbox_validate,
	.not_found = not_found,
	.stored = sandbox_stored,
};

int sandbox_get(struct ctx *ctx, struct db *db, const char *id, struct sandbox *ret,
		struct err *err)
{
	return record_get(ctx, db, &kind, id, ret, err);
}

int sandbox_list(struct ctx *ctx, struct db *db, const struct filter *f, struct sandbox **ret,
		 size_t *ret_n, struct err *err)
{
	return record_list(ctx, db, &kind, f, ret, ret_n, err);
}

static int create(struct ctx *ctx, struct db *db, const struct sandbox *in, bool leased,
		  struct sandbox *ret, struct err *err)
{
	struct record_change ch = {.in = in, .arg = leased ? &leased : NULL};
	int rc = db_check_namespace(ctx, err);

	if (rc < 0)
		return rc;
	if (sandbox_validate(in, err) < 0)
		return err_prefix(err, "failed to validate sandbox");
	return record_create(ctx, db, &kind, &ch, ret, err);
}

int sandbox_create(struct ctx *ctx, struct db *db, const struct sandbox *in, struct sandbox *ret,
		   struct err *err)
{
	return create(ctx, db, in, false, ret, err);
}

int sandbox_create_leased(struct ctx *ctx, struct db *db, const struct sandbox *in,
			  struct sandbox *ret, struct err *err)
{
	return create(ctx, db, in, true, ret, err);
}

int sandbox_update(struct ctx *ctx, struct db *db, const struct sandbox *in, char *const *paths,
		   size_t n, struct sandbox *ret, struct err *err)
{
	struct record_change ch = {.in = in, .paths = paths, .n_paths = n};

	return record_update(ctx, db, &kind, &ch, ret, err);
}

int sandbox_delete(struct ctx *ctx, struct db *db, const char *id, struct err *err)
{
	return record_delete(ctx, db, &kind, id, NULL, err);
}
