/* SPDX-License-Identifier: Apache-2.0 */
/* v1/<namespace>/snapshots/<snapshotter>/<key>: the client's key, and in `name` the back end's
 * "<namespace>/<n>/<key>".
 *
 * To prepare takes three steps, as the back end's work is not part of a transaction that may be run
 * again: the next number is read and the answers that need no back end are given; the back end
 * makes the snapshot; the record is written and the number taken, or the back end's snapshot
 * removed again. A number that was read by two, or that a crash kept from being taken, is a matter
 * of names only when the key is the same, too: the back end has that name then, and the number is
 * drawn, before it is used, in a transaction of its own. To commit is one transaction of its own
 * with the back end's commit as the last step before its end. To remove takes the record away; the
 * back end is cleaned by the garbage collector. The snapshotter's lock keeps it away while a back
 * end has what no record names yet.
 *
 * Of the labels the back end gets only those that are meant for it.
 */
#include "core/snapshot.h"

#include "base/str.h"
#include "base/time.h"
#include "base/trace.h"
#include "core/db_internal.h"
#include "core/lease.h"
#include "core/record.h"
#include "core/schema.h"
#include "protos.h"

#define LABEL_BACKEND_PREFIX "containerd.io/snapshot/"
#define LABEL_REF "containerd.io/snapshot.ref"
#define NUMBERS_MAX 16 /* drawn for one snapshot */

struct record {
	const char *key, *name, *parent; /* client's, back end's, client's */
	struct labels labels;
	struct timespec created, updated;
};

struct snapshot_call {
	struct ctx *ctx;
	struct db *db;
	struct db_snapshotter *s;
	const char *key;
	const char *parent;
	const struct labels *labels;
	struct labels backend_labels;
	struct record rec;
	/* prepare */
	const char *target; /* the label snapshot.ref, or "" */
	bool target_exists;
	uint64_t number; /* in backend_key */
	const char *backend_key, *backend_parent;
	/* update */
	char *const *paths;
	size_t n_paths;
	/* list */
	struct record *all;
	size_t n_all;
};

/* ---- records ---- */

#define AT(member) RECORD_AT(record, member)

static const struct record_field record_fields[] = {
	{.key = "name", AT(name)},
	{.key = "parent", AT(parent)},
	{.key = "labels", .mask = "labels", .type = RECORD_LABELS, AT(labels)},
	{.key = "createdat", .type = RECORD_CREATED, AT(created)},
	{.key = "updatedat", .type = RECORD_UPDATED, AT(updated)},
};

static int record_validate(const void *rec, struct err *err)
{
	const struct record *r = rec;

	return labels_validate(&r->labels, err) < 0 ? err_prefix(err, "info.Labels") : 0;
}

/* How a record is read and its labels are changed; the rest is done here. */
static const struct record_kind records = {
	.mask_noun = "snapshot ",
	.size = sizeof(struct record),
	.key_offset = offsetof(struct record, key),
	.fields = record_fields,
	.n_fields = ARRAY_LEN(record_fields),
	.validate = record_validate,
};

/* Also lists it among its parent's children. */
static int record_link(struct bolt_bucket *all, const struct record *r)
{
	struct bolt_bucket *b, *children;
	int rc = bolt_bucket_create(all, bolt_s(r->key), &b);

	if (rc == 0)
		rc = schema_put_str(b, "name", r->name);
	if (rc == 0)
		rc = schema_put_times(b, r->created, r->updated);
	if (rc == 0)
		rc = schema_put_labels(b, "labels", &r->labels);
	if (rc < 0 || !*r->parent)
		return rc;
	rc = schema_put_str(b, "parent", r->parent);
	b = bolt_bucket(all, bolt_s(r->parent));
	if (rc == 0)
		rc = b ? bolt_bucket_create_if_missing(b, bolt_s("children"), &children) : -ENOENT;
	return rc < 0 ? rc : schema_put_str(children, r->key, "");
}

static int record_unlink(struct bolt_bucket *all, const struct record *r)
{
	struct bolt_bucket *b = *r->parent ? bolt_bucket(all, bolt_s(r->parent)) : NULL;
	int rc = 0;

	b = b ? bolt_bucket(b, bolt_s("children")) : NULL;
	if (b)
		rc = bolt_delete(b, bolt_s(r->key));
	return rc < 0 ? rc : bolt_bucket_delete(all, bolt_s(r->key));
}

static struct bolt_bucket *find_all(struct snapshot_call *c, struct bolt_tx *tx)
{
	return SCHEMA_FIND(tx, c->ctx->ns, "snapshots", c->s->sn->name);
}

static int no_snapshot(const char *key, struct err *err)
{
	return err_set(err, ERR_NOT_FOUND, "snapshot %s does not exist", key);
}

/* The record of c->key into c->rec. */
static int find(struct bolt_tx *tx, void *arg, struct err *err)
{
	struct snapshot_call *c = arg;
	struct bolt_bucket *all = find_all(c, tx);
	struct bolt_bucket *b = all ? bolt_bucket(all, bolt_s(c->key)) : NULL;

	if (!b)
		return no_snapshot(c->key, err);
	return record_read(c->ctx->arena, &records, b, c->key, &c->rec) < 0 ? err_nomem(err) : 0;
}

static int lease_type(struct snapshot_call *c, const char **ret, struct err *err)
{
	*ret = arena_printf(c->ctx->arena, "snapshots/%s", c->s->sn->name);
	return *ret ? 0 : err_nomem(err);
}

static int lease_add(struct snapshot_call *c, struct bolt_tx *tx, const char *key, struct err *err)
{
	const char *type;
	int rc = lease_type(c, &type, err);

	return rc < 0 ? rc : lease_tx_add(c->ctx, tx, type, key, err);
}

static int lease_remove(struct snapshot_call *c, struct bolt_tx *tx, const char *key,
			struct err *err)
{
	const char *type;
	int rc = lease_type(c, &type, err);

	return rc < 0 ? rc : lease_tx_remove(c->ctx, tx, type, key, err);
}

static int begin(struct snapshot_call *c, const char *snapshotter, struct err *err)
{
	int rc = db_check_namespace(c->ctx, err);

	if (rc < 0)
		return rc;
	c->s = db_find_snapshotter(c->db, snapshotter, err);
	if (!c->s)
		return -ERR_INVALID_ARGUMENT;
	if (c->key && !*c->key)
		return err_set(err, ERR_INVALID_ARGUMENT, "snapshot key must not be empty");
	return 0;
}

/* Checks c->labels and selects those for the back end. */
static int select_labels(struct snapshot_call *c, const struct labels *labels, struct err *err)
{
	static const struct labels none;

	c->labels = labels ? labels : &none;
	if (labels_validate(c->labels, err) < 0)
		return err_prefix(err, "info.Labels");
	for (size_t i = 0; i < c->labels->n; i++) {
		const struct label *l = &c->labels->v[i];

		if (!str_has_prefix(l->key, LABEL_BACKEND_PREFIX) && !streq(l->key, LABEL_REF))
			continue;
		if (labels_set(c->ctx->arena, &c->backend_labels, l->key, l->value) < 0)
			return err_nomem(err);
	}
	return 0;
}

/* ---- reading ---- */

/* What the client sees: the record, over what the back end knows. */
static int info_merge(struct arena *a, const struct record *r, const struct snapshot_info *backend,
		      struct snapshot_info *ret, struct err *err)
{
	struct snapshot_info i = {.kind = backend->kind,
				  .name = r->key,
				  .parent = r->parent,
				  .created_at = r->created,
				  .updated_at = r->updated};

	if (labels_copy(a, &i.labels, &backend->labels) < 0)
		return err_nomem(err);
	for (size_t k = 0; k < r->labels.n; k++)
		if (labels_set(a, &i.labels, r->labels.v[k].key, r->labels.v[k].value) < 0)
			return err_nomem(err);
	*ret = i;
	return 0;
}

static int stat_record(struct snapshot_call *c, const struct record *r, struct snapshot_info *ret,
		       struct err *err)
{
	struct snapshotter *sn = c->s->sn;
	struct snapshot_info backend = {0};
	int rc = sn->ops->stat(c->ctx, sn, r->name, &backend, err);

	return rc < 0 ? rc : info_merge(c->ctx->arena, r, &backend, ret, err);
}

int snapshot_stat(struct ctx *ctx, struct db *db, const char *snapshotter, const char *key,
		  struct snapshot_info *ret, struct err *err)
{
	struct snapshot_call c = {.ctx = ctx, .db = db, .key = key};
	int rc = begin(&c, snapshotter, err);

	if (rc == 0)
		rc = db_view(ctx, db, find, &c, err);
	return rc < 0 ? rc : stat_record(&c, &c.rec, ret, err);
}

int snapshot_usage(struct ctx *ctx, struct db *db, const char *snapshotter, const char *key,
		   struct snapshot_usage *ret, struct err *err)
{
	struct snapshot_call c = {.ctx = ctx, .db = db, .key = key};
	int rc = begin(&c, snapshotter, err);

	if (rc == 0)
		rc = db_view(ctx, db, find, &c, err);
	return rc < 0 ? rc : c.s->sn->ops->usage(ctx, c.s->sn, c.rec.name, ret, err);
}

int snapshot_mounts(struct ctx *ctx, struct db *db, const char *snapshotter, const char *key,
		    struct mounts *ret, struct err *err)
{
	struct snapshot_call c = {.ctx = ctx, .db = db, .key = key};
	int rc = begin(&c, snapshotter, err);

	if (rc == 0)
		rc = db_view(ctx, db, find, &c, err);
	return rc < 0 ? rc : c.s->sn->ops->mounts(ctx, c.s->sn, c.rec.name, ret, err);
}

static int list(struct bolt_tx *tx, void *arg, struct err *err)
{
	struct snapshot_call *c = arg;
	struct arena *a = c->ctx->arena;
	struct bolt_bucket *all = find_all(c, tx);
	const char **keys;

	if (schema_keys(a, all, true, &keys, &c->n_all) < 0)
		return err_nomem(err);
	c->all = arena_new_array(a, struct record, c->n_all + 1);
	if (!c->all)
		return err_nomem(err);
	for (size_t i = 0; i < c->n_all; i++)
		if (record_read(a, &records, bolt_bucket(all, bolt_s(keys[i])), keys[i],
				&c->all[i]) < 0)
			return err_nomem(err);
	return 0;
}

const char *snapshot_kind_name(enum snapshot_kind k)
{
	static const char *const names[] = {"Unknown", "View", "Active", "Committed"};

	return (unsigned int)k < ARRAY_LEN(names) ? names[k] : names[0];
}

static const char *snapshot_field(const void *info, const char *const *path, size_t n)
{
	static const char *const kinds[] = {NULL, "view", "active", "committed"};
	const struct snapshot_info *i = info;
	const char *v = NULL;

	if (n == 0)
		return NULL;
	if (streq(path[0], "labels"))
		return filter_label(&i->labels, path + 1, n - 1);
	if (streq(path[0], "kind"))
		v = (unsigned int)i->kind < ARRAY_LEN(kinds) ? kinds[i->kind] : NULL;
	else if (streq(path[0], "name"))
		v = i->name;
	else if (streq(path[0], "parent"))
		return i->parent ? i->parent : ""; /* one that has none has an empty one */
	return str_empty(v) ? NULL : v;
}

int snapshot_list(struct ctx *ctx, struct db *db, const char *snapshotter, const struct filter *f,
		  struct snapshot_info **ret, size_t *ret_n, struct err *err)
{
	struct snapshot_call c = {.ctx = ctx, .db = db};
	struct snapshot_info *v;
	size_t n = 0;
	int rc = begin(&c, snapshotter, err);

	if (rc == 0)
		rc = db_view(ctx, db, list, &c, err);
	if (rc < 0)
		return rc;
	v = arena_new_array(ctx->arena, struct snapshot_info, c.n_all + 1);
	if (!v)
		return err_nomem(err);
	for (size_t i = 0; i < c.n_all; i++) {
		rc = stat_record(&c, &c.all[i], &v[n], err);
		/* Lost by the back end, or removed at this moment. */
		if (rc < 0 && rc != -ERR_NOT_FOUND)
			return rc;
		if (rc == 0 && filter_match(f, snapshot_field, &v[n]))
			n++;
	}
	*ret = v;
	*ret_n = n;
	return 0;
}

/* ---- prepare ---- */

/* Back end's name for @key and c->number. */
static int numbered_name(struct snapshot_call *c, const char *key, const char **ret,
			 struct err *err)
{
	*ret = arena_printf(c->ctx->arena, "%s/%llu/%s", c->ctx->ns, (unsigned long long)c->number,
			    key);
	return *ret ? 0 : err_nomem(err);
}

/* The same, with a number drawn from the bucket's counter. */
static int backend_name(struct snapshot_call *c, struct bolt_bucket *all, const char *key,
			const char **ret, struct err *err)
{
	int rc = bolt_next_sequence(all, &c->number);

	if (rc < 0)
		return err_errno(err, rc, "number snapshot %s", key);
	return numbered_name(c, key, ret, err);
}

static int find_parent(struct snapshot_call *c, struct bolt_bucket *all, struct err *err)
{
	struct bolt_bucket *b;

	c->backend_parent = "";
	if (!*c->parent)
		return 0;
	b = !all ? NULL : bolt_bucket(all, bolt_s(c->parent));
	if (!b)
		return err_set(err, ERR_NOT_FOUND, "parent snapshot %s does not exist", c->parent);
	return schema_get_str(c->ctx->arena, b, "name", &c->backend_parent) < 0 ? err_nomem(err)
										: 0;
}

/* What there is to say without the back end. @all may be NULL. */
static int check_prepare(struct snapshot_call *c, struct bolt_tx *tx, struct bolt_bucket *all,
			 struct err *err)
{
	const char *lease = c->ctx->lease;

	c->target_exists = *c->target && all && bolt_bucket(all, bolt_s(c->target));
	if (c->target_exists)
		return 0;
	if (all && bolt_bucket(all, bolt_s(c->key)))
		return err_set(err, ERR_ALREADY_EXISTS, "snapshot \"%s\"", c->key);
	if (!str_empty(lease) && !SCHEMA_FIND(tx, c->ctx->ns, "leases", lease))
		return err_set(err, ERR_NOT_FOUND, "lease does not exist");
	return find_parent(c, all, err);
}

static int look(struct bolt_tx *tx, void *arg, struct err *err)
{
	struct snapshot_call *c = arg;
	struct bolt_bucket *all = find_all(c, tx);
	int rc = check_prepare(c, tx, all, err);

	if (rc < 0 || c->target_exists)
		return rc;
	c->number = (all ? bolt_sequence(all) : 0) + 1;
	return numbered_name(c, c->key, &c->backend_key, err);
}

static int reserve(struct bolt_tx *tx, void *arg, struct err *err)
{
	struct snapshot_call *c = arg;
	struct bolt_bucket *all;
	int rc = SCHEMA_MAKE(tx, &all, c->ctx->ns, "snapshots", c->s->sn->name);

	if (rc < 0)
		return err_errno(err, rc, "make bucket of %s", c->s->sn->name);
	rc = check_prepare(c, tx, all, err);
	if (rc < 0)
		return rc;
	if (c->target_exists)
		return lease_add(c, tx, c->target, err);
	return backend_name(c, all, c->key, &c->backend_key, err);
}

static int record(struct bolt_tx *tx, void *arg, struct err *err)
{
	struct snapshot_call *c = arg;
	struct bolt_bucket *all;
	int rc = SCHEMA_MAKE(tx, &all, c->ctx->ns, "snapshots", c->s->sn->name);

	if (rc == 0)
		rc = record_link(all, &c->rec);
	if (rc == -EEXIST)
		return err_set(err, ERR_ALREADY_EXISTS, "snapshot \"%s\"", c->rec.key);
	if (rc == -ENOENT)
		return err_set(err, ERR_NOT_FOUND, "parent snapshot %s does not exist",
			       c->rec.parent);
	if (rc == 0 && c->number > bolt_sequence(all))
		rc = bolt_set_sequence(all, c->number);
	if (rc < 0)
		return err_errno(err, rc, "write snapshot %s", c->rec.key);
	return lease_add(c, tx, c->rec.key, err);
}

static int target_exists(const struct snapshot_call *c, struct err *err)
{
	return err_set(err, ERR_ALREADY_EXISTS, "target snapshot \"%s\"", c->target);
}

static int match_target(void *arg, const struct snapshot_info *i)
{
	struct snapshot_call *c = arg;
	const char *ref = labels_get(&i->labels, LABEL_REF);

	if (i->kind != SNAPSHOT_COMMITTED || !ref || !streq(ref, c->target) ||
	    !streq(i->parent ? i->parent : "", c->backend_parent))
		return 0;
	c->backend_key = arena_strdup(c->ctx->arena, i->name);
	return c->backend_key ? 1 : -ENOMEM;
}

/* The back end says that it has the snapshot which the client is about to make: it is given that
 * name here. */
static int link_target(struct snapshot_call *c, struct err *err)
{
	struct snapshotter *sn = c->s->sn;
	struct timespec now = time_now();
	struct err why = err ? *err : ERR_INIT;
	int rc = sn->ops->walk(c->ctx, sn, match_target, c, err);

	if (rc == -ENOMEM)
		return err_nomem(err);
	if (rc < 0)
		return rc;
	if (rc == 0) {
		err_copy(err, &why);
		return -ERR_ALREADY_EXISTS;
	}
	c->rec = (struct record){.key = c->target,
				 .name = c->backend_key,
				 .parent = c->parent,
				 .labels = *c->labels,
				 .created = now,
				 .updated = now};
	rc = db_update_always(c->db, record, c, err);
	return rc == 0 || rc == -ERR_ALREADY_EXISTS ? target_exists(c, err) : rc;
}

static void publish_prepare(const struct snapshot_call *c)
{
	Containerd__Events__SnapshotPrepare e = CONTAINERD__EVENTS__SNAPSHOT_PREPARE__INIT;

	e.key = (char *)c->key;
	e.parent = (char *)c->parent;
	e.snapshotter = (char *)c->s->sn->name;
	db_publish(c->ctx, c->db, "/snapshot/prepare", &e.base);
}

/* With a target the back end's "already exists" may be about that instead of the name. */
static bool name_taken(struct snapshot_call *c)
{
	struct snapshotter *sn = c->s->sn;
	struct snapshot_info i;

	return !*c->target || sn->ops->stat(c->ctx, sn, c->backend_key, &i, NULL) == 0;
}

/* Step two, with another number while the name is taken by what nobody has recorded. */
static int prepare_backend(struct snapshot_call *c, enum snapshot_kind kind, struct mounts *ret,
			   struct err *err)
{
	struct snapshotter *sn = c->s->sn;
	int rc;

	for (int i = 0;; i++) {
		rc = sn->ops->prepare(c->ctx, sn, kind, c->backend_key, c->backend_parent,
				      &c->backend_labels, ret, err);
		if (rc != -ERR_ALREADY_EXISTS || i == NUMBERS_MAX || !name_taken(c))
			return rc;
		rc = db_update(c->ctx, c->db, reserve, c, err);
		if (rc < 0)
			return rc;
		/* Somebody has made it meanwhile, and the lease has it. */
		if (c->target_exists)
			return target_exists(c, err);
	}
}

/* Steps two and three. */
static int prepare(struct snapshot_call *c, enum snapshot_kind kind, struct mounts *ret,
		   struct err *err)
{
	struct snapshotter *sn = c->s->sn;
	struct timespec now;
	struct mounts mounts = {0};
	int rc = prepare_backend(c, kind, &mounts, err);

	if (rc == -ERR_ALREADY_EXISTS && *c->target && !c->target_exists)
		return link_target(c, err);
	if (rc < 0)
		return rc;
	now = time_now();
	c->rec = (struct record){.key = c->key,
				 .name = c->backend_key,
				 .parent = c->parent,
				 .labels = *c->labels,
				 .created = now,
				 .updated = now};
	rc = db_update_always(c->db, record, c, err);
	if (rc < 0) {
		/* What can not be taken back now, the collector finds. */
		if (sn->ops->remove(c->ctx, sn, c->backend_key, NULL) < 0) {
			c->s->dirty = true;
			db_mark_dirty(c->db, true);
		}
		return rc;
	}
	*ret = mounts;
	return 0;
}

int snapshot_prepare(struct ctx *ctx, struct db *db, const char *snapshotter,
		     enum snapshot_kind kind, const char *key, const char *parent,
		     const struct labels *labels, struct mounts *ret, struct err *err)
{
	TRACE_SPAN("snapshot", "prepare", "key", key);
	struct snapshot_call c = {
		.ctx = ctx, .db = db, .key = key ? key : "", .parent = parent ? parent : ""};
	int rc = begin(&c, snapshotter, err);

	if (rc == 0)
		rc = select_labels(&c, labels, err);
	if (rc < 0)
		return rc;
	c.target = labels_get(c.labels, LABEL_REF);
	if (!c.target)
		c.target = "";
	{
		READ_GUARD(&c.s->lock);

		rc = ctx_check(ctx, err);
		if (rc == 0)
			rc = db_view(ctx, db, look, &c, err);
		if (rc == 0 && c.target_exists)
			rc = db_update(ctx, db, reserve, &c, err);
		if (rc == 0)
			rc = c.target_exists ? target_exists(&c, err) : prepare(&c, kind, ret, err);
	}
	if (rc == 0 && kind == SNAPSHOT_ACTIVE)
		publish_prepare(&c);
	return rc;
}

/* ---- commit ---- */

/* c->rec becomes the record of the committed snapshot; *@ret_rebase is the back end's parent when
 * it gets one only now. */
static int commit_plan(struct snapshot_call *c, struct bolt_bucket *all, const char *name,
		       struct record *ret, const char **ret_rebase, struct err *err)
{
	struct timespec now = time_now();
	int rc;

	*ret_rebase = "";
	*ret = (struct record){.key = name,
			       .parent = c->rec.parent,
			       .labels = *c->labels,
			       .created = now,
			       .updated = now};
	if (*c->parent && *c->rec.parent && !streq(c->parent, c->rec.parent))
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "snapshot %s has parent %s, it can not be committed on %s", c->key,
			       c->rec.parent, c->parent);
	if (*c->parent && !*c->rec.parent) {
		if (!c->s->sn->can_rebase)
			return err_set(err, ERR_UNIMPLEMENTED, "snapshotter %s can not rebase",
				       c->s->sn->name);
		rc = find_parent(c, all, err);
		if (rc < 0)
			return rc;
		ret->parent = c->parent;
		*ret_rebase = c->backend_parent;
	}
	return backend_name(c, all, name, &ret->name, err);
}

/* The record of what was active becomes @new. */
static int commit_record(struct snapshot_call *c, struct bolt_tx *tx, const char *name,
			 const struct record *new, struct err *err)
{
	struct bolt_bucket *all = find_all(c, tx);
	int rc = all ? record_unlink(all, &c->rec) : -ENOENT;

	if (rc == 0)
		rc = record_link(all, new);
	if (rc < 0)
		return err_errno(err, rc, "write snapshot %s", name);
	rc = lease_remove(c, tx, c->key, err);
	return rc < 0 ? rc : lease_add(c, tx, name, err);
}

/* The last step: with another number while the name is taken by what a commit that was cut off has
 * left, which the records know nothing of. */
static int commit_backend(struct snapshot_call *c, struct bolt_bucket *all, struct record *new,
			  const char *rebase, struct err *err)
{
	struct snapshotter *sn = c->s->sn;
	struct bolt_bucket *b;
	int rc;

	for (int i = 0;; i++) {
		rc = sn->ops->commit(c->ctx, sn, new->name, c->rec.name, rebase, &c->backend_labels,
				     err);
		if (rc != -ERR_ALREADY_EXISTS || i == NUMBERS_MAX)
			return rc;
		rc = backend_name(c, all, new->key, &new->name, err);
		if (rc < 0)
			return rc;
		b = bolt_bucket(all, bolt_s(new->key));
		rc = b ? schema_put_str(b, "name", new->name) : -ENOENT;
		if (rc < 0)
			return err_errno(err, rc, "write snapshot %s", new->key);
	}
}

static int commit_tx(struct snapshot_call *c, struct bolt_tx *tx, const char *name, struct err *err)
{
	struct snapshotter *sn = c->s->sn;
	struct bolt_bucket *all;
	struct record new;
	const char *rebase = "";
	int rc = SCHEMA_MAKE(tx, &all, c->ctx->ns, "snapshots", sn->name);

	if (rc < 0)
		return err_errno(err, rc, "make bucket of %s", sn->name);
	if (bolt_bucket(all, bolt_s(name)))
		return err_set(err, ERR_ALREADY_EXISTS, "snapshot \"%s\"", name);
	rc = find(tx, c, err);
	if (rc == 0)
		rc = commit_plan(c, all, name, &new, &rebase, err);
	if (rc < 0)
		return rc;
	rc = commit_record(c, tx, name, &new, err);
	return rc < 0 ? rc : commit_backend(c, all, &new, rebase, err);
}

/* For a back end in another process, or one with much to do, in three steps: nobody else's update
 * waits for it. Commits of one snapshotter come one after the other, so that a name that was free
 * still is; what is left of one that failed after the second step is collected. */
struct remote_commit {
	struct snapshot_call *c;
	const char *name, *rebase;
	struct record new;
};

static int remote_plan(struct bolt_tx *tx, void *arg, struct err *err)
{
	struct remote_commit *rc = arg;
	struct snapshot_call *c = rc->c;
	struct bolt_bucket *all;
	int r = SCHEMA_MAKE(tx, &all, c->ctx->ns, "snapshots", c->s->sn->name);

	if (r < 0)
		return err_errno(err, r, "make bucket of %s", c->s->sn->name);
	if (bolt_bucket(all, bolt_s(rc->name)))
		return err_set(err, ERR_ALREADY_EXISTS, "snapshot \"%s\"", rc->name);
	r = find(tx, c, err);
	return r < 0 ? r : commit_plan(c, all, rc->name, &rc->new, &rc->rebase, err);
}

static int remote_record(struct bolt_tx *tx, void *arg, struct err *err)
{
	struct remote_commit *rc = arg;

	return commit_record(rc->c, tx, rc->name, &rc->new, err);
}

static int commit_remote(struct snapshot_call *c, const char *name, struct err *err)
{
	struct remote_commit rc = {.c = c, .name = name};
	struct snapshotter *sn = c->s->sn;
	int r;
	READ_GUARD(&c->s->lock);
	MUTEX_GUARD(&c->s->commit_lock);

	for (int i = 0;; i++) {
		r = db_update(c->ctx, c->db, remote_plan, &rc, err);
		if (r < 0)
			return r;
		r = sn->ops->commit(c->ctx, sn, rc.new.name, c->rec.name, rc.rebase,
				    &c->backend_labels, err);
		if (r == 0)
			break;
		/* As in commit_backend(). */
		if (r != -ERR_ALREADY_EXISTS || i == NUMBERS_MAX)
			return r;
	}
	r = db_update_always(c->db, remote_record, &rc, err);
	if (r < 0)
		c->s->dirty = true;
	return r;
}

/* A transaction of its own: what the back end does can not be run again. */
static int commit(struct snapshot_call *c, const char *name, struct err *err)
{
	_cleanup_(bolt_rollbackp) struct bolt_tx *tx = NULL;
	int rc;
	READ_GUARD(&c->s->lock);
	READ_GUARD(&c->db->gc_lock);

	rc = bolt_begin(c->db->bolt, true, &tx);
	if (rc < 0)
		return err_errno(err, rc, "metadata");
	rc = commit_tx(c, tx, name, err);
	if (rc < 0)
		return rc;
	rc = bolt_commit(TAKE_PTR(tx));
	if (rc < 0)
		c->s->dirty = true;
	return rc < 0 ? err_errno(err, rc, "metadata") : 0;
}

int snapshot_commit(struct ctx *ctx, struct db *db, const char *snapshotter, const char *name,
		    const char *key, const char *parent, const struct labels *labels,
		    struct err *err)
{
	Containerd__Events__SnapshotCommit e = CONTAINERD__EVENTS__SNAPSHOT_COMMIT__INIT;
	TRACE_SPAN("snapshot", "commit", "key", key);
	struct snapshot_call c = {
		.ctx = ctx, .db = db, .key = key ? key : "", .parent = parent ? parent : ""};
	int rc = begin(&c, snapshotter, err);

	if (rc == 0 && str_empty(name))
		rc = err_set(err, ERR_INVALID_ARGUMENT, "snapshot name must not be empty");
	if (rc == 0)
		rc = select_labels(&c, labels, err);
	if (rc == 0)
		rc = ctx_check(ctx, err);
	if (rc == 0)
		rc = c.s->sn->remote || c.s->sn->slow_commit ? commit_remote(&c, name, err)
							     : commit(&c, name, err);
	if (rc < 0)
		return rc;
	db_mark_dirty(db, false);
	e.key = (char *)key;
	e.name = (char *)name;
	e.snapshotter = (char *)c.s->sn->name;
	db_publish(ctx, db, "/snapshot/commit", &e.base);
	return 0;
}

/* ---- remove, update, clean ---- */

/* A list that names a child which is gone counts for nothing: other collectors leave such. */
static bool has_children(struct bolt_bucket *all, const char *key)
{
	struct bolt_bucket *b = bolt_bucket(all, bolt_s(key));
	struct bolt_cursor cur;
	struct bolt_item it;

	b = b ? bolt_bucket(b, bolt_s("children")) : NULL;
	if (!b)
		return false;
	bolt_cursor_init(&cur, b);
	for (bool ok = bolt_first(&cur, &it); ok; ok = bolt_next(&cur, &it))
		if (bolt_bucket(all, it.key))
			return true;
	return false;
}

static int remove_record(struct bolt_tx *tx, void *arg, struct err *err)
{
	struct snapshot_call *c = arg;
	struct bolt_bucket *all = find_all(c, tx);
	int rc = find(tx, c, err);

	if (rc < 0)
		return rc;
	if (has_children(all, c->key))
		return err_set(err, ERR_FAILED_PRECONDITION, "cannot remove snapshot with child");
	rc = record_unlink(all, &c->rec);
	if (rc < 0)
		return err_errno(err, rc, "delete snapshot %s", c->key);
	return lease_remove(c, tx, c->key, err);
}

int snapshot_remove(struct ctx *ctx, struct db *db, const char *snapshotter, const char *key,
		    struct err *err)
{
	Containerd__Events__SnapshotRemove e = CONTAINERD__EVENTS__SNAPSHOT_REMOVE__INIT;
	struct snapshot_call c = {.ctx = ctx, .db = db, .key = key};
	int rc = begin(&c, snapshotter, err);

	if (rc == 0)
		rc = db_update(ctx, db, remove_record, &c, err);
	if (rc < 0)
		return rc;
	c.s->dirty = true;
	db_mark_dirty(db, true);
	e.key = (char *)key;
	e.snapshotter = (char *)c.s->sn->name;
	db_publish(ctx, db, "/snapshot/remove", &e.base);
	return 0;
}

static int update(struct bolt_tx *tx, void *arg, struct err *err)
{
	struct snapshot_call *c = arg;
	struct arena *a = c->ctx->arena;
	struct record in = {.key = c->key, .labels = *c->labels};
	struct bolt_bucket *b;
	int rc = find(tx, c, err);

	if (rc == 0)
		rc = record_mask(a, &records, &c->rec, &in, c->paths, c->n_paths, err);
	if (rc < 0)
		return rc;
	b = bolt_bucket(find_all(c, tx), bolt_s(c->key));
	c->rec.updated = time_now();
	rc = b ? schema_put_labels(b, "labels", &c->rec.labels) : -ENOMEM;
	if (rc == 0)
		rc = schema_put_time(b, "updatedat", c->rec.updated);
	if (rc == 0)
		rc = schema_get_labels(a, b, "labels", &c->rec.labels);
	return rc < 0 ? err_errno(err, rc, "write snapshot %s", c->key) : 0;
}

int snapshot_update(struct ctx *ctx, struct db *db, const char *snapshotter,
		    const struct snapshot_info *info, char *const *paths, size_t n,
		    struct snapshot_info *ret, struct err *err)
{
	struct snapshot_call c = {
		.ctx = ctx, .db = db, .key = info->name, .paths = paths, .n_paths = n};
	struct snapshot_info in = {0}, backend = {0};
	int rc = begin(&c, snapshotter, err);

	c.labels = &info->labels;
	if (rc == 0)
		rc = db_update(ctx, db, update, &c, err);
	if (rc == 0)
		rc = select_labels(&c, &c.rec.labels, err);
	if (rc < 0)
		return rc;
	in.name = c.rec.name;
	in.labels = c.backend_labels;
	rc = c.s->sn->ops->update(ctx, c.s->sn, &in, NULL, 0, &backend, err);
	return rc < 0 ? rc : info_merge(ctx->arena, &c.rec, &backend, ret, err);
}

bool snapshot_is_remote(struct db *db, const char *snapshotter)
{
	struct db_snapshotter *s = db_find_snapshotter(db, snapshotter, NULL);

	return s && s->sn->remote;
}

int snapshot_cleanup(struct ctx *ctx, struct db *db, const char *snapshotter, struct err *err)
{
	struct snapshot_call c = {.ctx = ctx, .db = db};
	int rc = begin(&c, snapshotter, err);

	if (rc < 0)
		return rc;
	if (!c.s->sn->ops->cleanup || c.s->sn->own_cleanup)
		return err_set(err, ERR_UNIMPLEMENTED,
			       "snapshotter does not implement Cleanup method");
	return c.s->sn->ops->cleanup(ctx, c.s->sn, err);
}
