/* SPDX-License-Identifier: Apache-2.0 */
/* See storage.h for the layout. Every public function is one transaction: a struct op says what is
 * wanted, a function of the transaction does it, and storage_run() tells apart what failed: the
 * function (its error is set) or the database. */
#include "plugins/snapshotter/storage.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "base/time.h"
#include "core/mask.h"
#include "core/schema.h"

#define UVARINT_MAX 10
#define LINK_MAX_LEN (2 * UVARINT_MAX + 1)
#define PARENTS_MAX 65536 /* of a chain: a file that has more is damaged */
#define LOCK_TIMEOUT_NS (10 * NSEC_PER_SEC)

struct storage {
	pthread_mutex_t lock; /* guards db's opening */
	struct bolt *db;
	char path[];
};

/* One call: arguments, results, and the error of the function that ran. */
struct op {
	struct ctx *ctx;
	int (*fn)(struct bolt_tx *tx, struct op *op);
	const char *key, *name, *parent;
	enum snapshot_kind kind;
	const struct labels *labels;
	const struct snapshot_info *update;
	char *const *paths;
	size_t n_paths;
	struct snapshot_usage usage;

	uint64_t id;
	struct snapshot_info info;
	struct storage_snapshot snapshot;
	struct snapshot_info *list;
	uint64_t *ids;
	size_t n;

	struct err *err;
	int failed;
};

int storage_new(const char *path, struct storage **ret, struct err *err)
{
	size_t n = strlen(path) + 1;
	struct storage *st = calloc(1, sizeof(*st) + n);

	if (!st)
		return err_nomem(err);
	memcpy(st->path, path, n);
	pthread_mutex_init(&st->lock, NULL);
	*ret = st;
	return 0;
}

void storage_free(struct storage *st)
{
	if (!st)
		return;
	if (st->db)
		bolt_close(st->db);
	pthread_mutex_destroy(&st->lock);
	free(st);
}

static int storage_db(struct storage *st, struct bolt **ret, struct err *err)
{
	MUTEX_GUARD(&st->lock);
	if (!st->db) {
		struct bolt_options o = {.mode = 0600, .lock_timeout_ns = LOCK_TIMEOUT_NS};
		int r = bolt_open(st->path, &o, &st->db);

		if (r < 0)
			return err_errno(err, r, "open `%s`", st->path);
	}
	*ret = st->db;
	return 0;
}

static int op_run(struct bolt_tx *tx, void *arg)
{
	struct op *op = arg;

	op->failed = op->fn(tx, op);
	return op->failed;
}

static int storage_run(struct storage *st, bool writable, struct op *op)
{
	struct bolt *db = NULL;
	int r = storage_db(st, &db, op->err);

	if (r < 0)
		return r;
	r = writable ? bolt_update(db, op_run, op) : bolt_view(db, op_run, op);
	if (r >= 0)
		return 0;
	if (op->failed < 0)
		return op->failed;
	return err_errno(op->err, r, "%s `%s`", writable ? "update" : "read", st->path);
}

static int db_failed(struct op *op, int r)
{
	return err_errno(op->err, r, "snapshot %s", op->key ? op->key : "list");
}

/* ---- Encodings ---- */

static size_t uvarint_encode(uint64_t v, uint8_t *out)
{
	size_t n = 0;

	for (; v >= 0x80; v >>= 7)
		out[n++] = (uint8_t)(v | 0x80);
	out[n++] = (uint8_t)v;
	return n;
}

static bool uvarint_decode(struct bolt_slice s, uint64_t *ret)
{
	const uint8_t *p = s.data;
	uint64_t v = 0;

	for (size_t i = 0; i < s.len && i < UVARINT_MAX; i++) {
		if (i == UVARINT_MAX - 1 && p[i] > 1)
			return false;
		v |= (uint64_t)(p[i] & 0x7f) << (7 * i);
		if (!(p[i] & 0x80)) {
			*ret = v;
			return true;
		}
	}
	return false;
}

static size_t link_encode(uint64_t parent, uint64_t child, uint8_t out[LINK_MAX_LEN])
{
	size_t n = uvarint_encode(parent, out);

	out[n++] = 0;
	return n + uvarint_encode(child, out + n);
}

/* ---- Records ---- */

static struct bolt_bucket *snapshots_of(struct bolt_tx *tx)
{
	return SCHEMA_FIND(tx, "snapshots");
}

static struct bolt_bucket *record_find(struct bolt_tx *tx, const char *key)
{
	struct bolt_bucket *b = snapshots_of(tx);

	return b && *key ? bolt_bucket(b, bolt_s(key)) : NULL;
}

static uint64_t record_id(struct bolt_bucket *b)
{
	struct bolt_slice s;
	uint64_t id = 0;

	if (!bolt_get(b, bolt_s("id"), &s) || !uvarint_decode(s, &id))
		return 0;
	return id;
}

static enum snapshot_kind record_kind(struct bolt_bucket *b)
{
	struct bolt_slice s;

	if (!bolt_get(b, bolt_s("kind"), &s) || s.len != 1 ||
	    *(const uint8_t *)s.data > SNAPSHOT_COMMITTED)
		return SNAPSHOT_UNKNOWN;
	return *(const uint8_t *)s.data;
}

static int record_info(struct arena *a, struct bolt_bucket *b, const char *name,
		       struct snapshot_info *ret)
{
	struct snapshot_info i = {.kind = record_kind(b)};
	int r = schema_get_str(a, b, "parent", &i.parent);

	if (r >= 0)
		r = schema_get_labels(a, b, "labels", &i.labels);
	if (r < 0)
		return r;
	i.name = name;
	i.created_at = schema_get_time(b, "createdat");
	i.updated_at = schema_get_time(b, "updatedat");
	*ret = i;
	return 0;
}

static int record_put(struct bolt_bucket *b, uint64_t id, enum snapshot_kind kind,
		      const char *parent, const struct labels *labels)
{
	struct timespec now = time_now();
	uint8_t k = (uint8_t)kind, buf[UVARINT_MAX];
	int r = bolt_put(b, bolt_s("id"), bolt_b(buf, uvarint_encode(id, buf)));

	if (r >= 0)
		r = bolt_put(b, bolt_s("kind"), bolt_b(&k, 1));
	if (r >= 0 && *parent)
		r = schema_put_str(b, "parent", parent);
	if (r >= 0)
		r = schema_put_times(b, now, now);
	if (r >= 0 && labels)
		r = schema_put_labels(b, "labels", labels);
	return r;
}

static int link_put(struct bolt_tx *tx, uint64_t parent, uint64_t child, const char *key)
{
	struct bolt_bucket *links;
	uint8_t k[LINK_MAX_LEN];
	int r = SCHEMA_MAKE(tx, &links, "parents");

	if (r < 0)
		return r;
	return bolt_put(links, bolt_b(k, link_encode(parent, child, k)), bolt_s(key));
}

/* Ids of the chain that begins with the snapshot @parent. */
static int parents_collect(struct bolt_tx *tx, struct op *op, const char *parent,
			   struct storage_snapshot *s)
{
	struct arena *a = op->ctx->arena;
	size_t cap = 0;

	while (*parent) {
		struct bolt_bucket *b = record_find(tx, parent);
		int r;

		if (!b)
			return err_set(op->err, ERR_NOT_FOUND, "missing parent \"%s\" bucket",
				       parent);
		if (s->n_parents == PARENTS_MAX)
			return err_set(op->err, ERR_DATA_LOSS,
				       "parents of snapshot %s make a circle", op->key);
		s->parent_ids =
			arena_grow(a, s->parent_ids, &cap, s->n_parents + 1, sizeof(uint64_t));
		if (!s->parent_ids)
			return err_nomem(op->err);
		s->parent_ids[s->n_parents++] = record_id(b);
		r = schema_get_str(a, b, "parent", &parent);
		if (r < 0)
			return db_failed(op, r);
	}
	return 0;
}

static int parent_check(struct bolt_tx *tx, struct op *op, const char *parent,
			struct bolt_bucket **ret)
{
	struct bolt_bucket *b = record_find(tx, parent);

	if (!b)
		return err_set(op->err, ERR_NOT_FOUND, "missing parent \"%s\" bucket", parent);
	if (record_kind(b) != SNAPSHOT_COMMITTED)
		return err_set(op->err, ERR_INVALID_ARGUMENT,
			       "parent \"%s\" is not committed snapshot", parent);
	*ret = b;
	return 0;
}

static int record_missing(struct op *op)
{
	return err_set(op->err, ERR_NOT_FOUND, "snapshot %s does not exist", op->key);
}

/* ---- Looking ---- */

static int info_fn(struct bolt_tx *tx, struct op *op)
{
	struct bolt_bucket *b = record_find(tx, op->key);
	const char *name = arena_strdup(op->ctx->arena, op->key);
	int r;

	if (!b)
		return record_missing(op);
	if (!name)
		return err_nomem(op->err);
	r = record_info(op->ctx->arena, b, name, &op->info);
	if (r < 0)
		return db_failed(op, r);
	op->id = record_id(b);
	op->usage.size = schema_get_int(b, "size");
	op->usage.inodes = schema_get_int(b, "inodes");
	return 0;
}

int storage_info(struct ctx *ctx, struct storage *st, const char *key, uint64_t *ret_id,
		 struct snapshot_info *ret, struct snapshot_usage *ret_usage, struct err *err)
{
	struct op op = {.ctx = ctx, .fn = info_fn, .key = key, .err = err};
	int r = storage_run(st, false, &op);

	if (r < 0)
		return r;
	if (ret_id)
		*ret_id = op.id;
	if (ret)
		*ret = op.info;
	if (ret_usage)
		*ret_usage = op.usage;
	return 0;
}

static int get_fn(struct bolt_tx *tx, struct op *op)
{
	struct bolt_bucket *b = record_find(tx, op->key);
	struct storage_snapshot s = {0};
	const char *parent = "";
	int r;

	if (!b)
		return record_missing(op);
	s.id = record_id(b);
	s.kind = record_kind(b);
	if (s.kind != SNAPSHOT_ACTIVE && s.kind != SNAPSHOT_VIEW)
		return err_set(op->err, ERR_FAILED_PRECONDITION,
			       "requested snapshot %s not active or view", op->key);
	r = schema_get_str(op->ctx->arena, b, "parent", &parent);
	if (r >= 0)
		r = schema_get_labels(op->ctx->arena, b, "labels", &s.labels);
	if (r < 0)
		return db_failed(op, r);
	r = parents_collect(tx, op, parent, &s);
	if (r < 0)
		return r;
	op->snapshot = s;
	return 0;
}

int storage_get(struct ctx *ctx, struct storage *st, const char *key, struct storage_snapshot *ret,
		struct err *err)
{
	struct op op = {.ctx = ctx, .fn = get_fn, .key = key, .err = err};
	int r = storage_run(st, false, &op);

	if (r >= 0)
		*ret = op.snapshot;
	return r;
}

static int walk_fn(struct bolt_tx *tx, struct op *op)
{
	struct bolt_bucket *all = snapshots_of(tx);
	size_t cap = 0, id_cap = 0;
	struct bolt_cursor c;
	struct bolt_item i;

	op->n = 0;
	if (!all)
		return 0;
	bolt_cursor_init(&c, all);
	for (bool more = bolt_first(&c, &i); more; more = bolt_next(&c, &i)) {
		struct bolt_bucket *b = i.is_bucket ? bolt_bucket(all, i.key) : NULL;
		const char *name;

		if (!b)
			continue;
		op->list = arena_grow(op->ctx->arena, op->list, &cap, op->n + 1, sizeof(*op->list));
		op->ids = arena_grow(op->ctx->arena, op->ids, &id_cap, op->n + 1, sizeof(*op->ids));
		name = schema_key(op->ctx->arena, i.key);
		if (!op->list || !op->ids || !name ||
		    record_info(op->ctx->arena, b, name, &op->list[op->n]) < 0)
			return err_nomem(op->err);
		op->ids[op->n++] = record_id(b);
	}
	return 0;
}

int storage_walk(struct ctx *ctx, struct storage *st,
		 int (*fn)(void *arg, const struct snapshot_info *info, uint64_t id), void *arg,
		 struct err *err)
{
	struct op op = {.ctx = ctx, .fn = walk_fn, .err = err};
	int r = storage_run(st, false, &op);

	for (size_t i = 0; r == 0 && i < op.n; i++)
		r = fn(arg, &op.list[i], op.ids[i]);
	return r;
}

static int id_cmp(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static int ids_fn(struct bolt_tx *tx, struct op *op)
{
	struct bolt_bucket *all = snapshots_of(tx);
	struct bolt_cursor c;
	struct bolt_item i;
	size_t cap = 0;

	op->n = 0;
	if (!all)
		return 0;
	bolt_cursor_init(&c, all);
	for (bool more = bolt_first(&c, &i); more; more = bolt_next(&c, &i)) {
		struct bolt_bucket *b = i.is_bucket ? bolt_bucket(all, i.key) : NULL;

		/* A record that can not be read must not look like a directory without one. */
		if (!b || record_id(b) == 0)
			return err_set(op->err, ERR_DATA_LOSS, "snapshot %.*s has no id",
				       (int)MIN(i.key.len, 256), (const char *)i.key.data);
		op->ids = arena_grow(op->ctx->arena, op->ids, &cap, op->n + 1, sizeof(*op->ids));
		if (!op->ids)
			return err_nomem(op->err);
		op->ids[op->n++] = record_id(b);
	}
	if (op->n)
		qsort(op->ids, op->n, sizeof(*op->ids), id_cmp);
	return 0;
}

int storage_ids(struct ctx *ctx, struct storage *st, uint64_t **ret, size_t *ret_n, struct err *err)
{
	struct op op = {.ctx = ctx, .fn = ids_fn, .err = err};
	int r = storage_run(st, false, &op);

	if (r < 0)
		return r;
	*ret = op.ids;
	*ret_n = op.n;
	return 0;
}

/* ---- Changing ---- */

static int create_fn(struct bolt_tx *tx, struct op *op)
{
	struct bolt_bucket *all, *b, *p = NULL;
	struct storage_snapshot s = {.kind = op->kind};
	int r = SCHEMA_MAKE(tx, &all, "snapshots");

	if (r < 0)
		return db_failed(op, r);
	if (*op->parent) {
		r = parent_check(tx, op, op->parent, &p);
		if (r < 0)
			return r;
		r = parents_collect(tx, op, op->parent, &s);
		if (r < 0)
			return r;
	}
	if (bolt_bucket(all, bolt_s(op->key)))
		return err_set(op->err, ERR_ALREADY_EXISTS, "snapshot %s", op->key);
	r = bolt_bucket_create(all, bolt_s(op->key), &b);
	if (r >= 0)
		r = bolt_next_sequence(all, &s.id);
	if (r >= 0)
		r = record_put(b, s.id, op->kind, op->parent, op->labels);
	if (r >= 0 && p)
		r = link_put(tx, s.parent_ids[0], s.id, op->key);
	if (r >= 0 && op->labels)
		r = labels_copy(op->ctx->arena, &s.labels, op->labels);
	if (r < 0)
		return db_failed(op, r);
	op->snapshot = s;
	return 0;
}

static int key_check(const char *key, const char *what, struct err *err)
{
	if (str_empty(key))
		return err_set(err, ERR_INVALID_ARGUMENT, "snapshot %s must not be empty", what);
	return 0;
}

int storage_create(struct ctx *ctx, struct storage *st, enum snapshot_kind kind, const char *key,
		   const char *parent, const struct labels *labels, struct storage_snapshot *ret,
		   struct err *err)
{
	struct op op = {.ctx = ctx,
			.fn = create_fn,
			.key = key,
			.parent = parent ? parent : "",
			.kind = kind,
			.labels = labels,
			.err = err};
	int r = key_check(key, "key", err);

	if (r < 0)
		return r;
	if (kind != SNAPSHOT_ACTIVE && kind != SNAPSHOT_VIEW)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "snapshot type %d not allowed; should be active or view", (int)kind);
	r = storage_run(st, true, &op);
	if (r >= 0)
		*ret = op.snapshot;
	return r;
}

/* The parent of what is committed: the one it has, or the new one of a snapshot without. */
static int commit_parent(struct op *op, struct bolt_bucket *active, const char **ret)
{
	const char *parent = "";
	int r = schema_get_str(op->ctx->arena, active, "parent", &parent);

	if (r < 0)
		return db_failed(op, r);
	if (*parent && !str_empty(op->parent) && !streq(parent, op->parent))
		return err_set(op->err, ERR_INVALID_ARGUMENT,
			       "snapshot %s has parent \"%s\" and can not be moved to \"%s\"",
			       op->key, parent, op->parent);
	*ret = *parent ? parent : op->parent;
	return 0;
}

static int commit_write(struct bolt_tx *tx, struct op *op, struct bolt_bucket *all,
			const char *parent, uint64_t parent_id)
{
	uint64_t id = op->id;
	struct bolt_bucket *b;
	int r = bolt_bucket_create(all, bolt_s(op->name), &b);

	if (r >= 0)
		r = record_put(b, id, SNAPSHOT_COMMITTED, parent, op->labels);
	if (r >= 0)
		r = schema_put_int(b, "inodes", op->usage.inodes);
	if (r >= 0)
		r = schema_put_int(b, "size", op->usage.size);
	if (r >= 0)
		r = bolt_bucket_delete(all, bolt_s(op->key));
	if (r >= 0 && *parent)
		r = link_put(tx, parent_id, id, op->name);
	return r;
}

static int commit_fn(struct bolt_tx *tx, struct op *op)
{
	struct bolt_bucket *all, *active, *p = NULL;
	uint64_t parent_id = 0;
	const char *parent = "";
	int r = SCHEMA_MAKE(tx, &all, "snapshots");

	if (r < 0)
		return db_failed(op, r);
	if (bolt_bucket(all, bolt_s(op->name)))
		return err_set(op->err, ERR_ALREADY_EXISTS, "committed snapshot %s", op->name);
	active = record_find(tx, op->key);
	if (!active)
		return err_set(op->err, ERR_NOT_FOUND, "failed to get active snapshot \"%s\"",
			       op->key);
	if (record_kind(active) != SNAPSHOT_ACTIVE)
		return err_set(op->err, ERR_FAILED_PRECONDITION, "snapshot \"%s\" is not active",
			       op->key);
	r = commit_parent(op, active, &parent);
	if (r < 0)
		return r;
	if (*parent) {
		r = parent_check(tx, op, parent, &p);
		if (r < 0)
			return r;
		parent_id = record_id(p);
	}
	op->id = record_id(active);
	r = commit_write(tx, op, all, parent, parent_id);
	return r < 0 ? db_failed(op, r) : 0;
}

int storage_commit(struct ctx *ctx, struct storage *st, const char *key, const char *name,
		   const char *parent, const struct labels *labels, struct snapshot_usage usage,
		   struct err *err)
{
	struct op op = {.ctx = ctx,
			.fn = commit_fn,
			.key = key,
			.name = name,
			.parent = parent ? parent : "",
			.labels = labels,
			.usage = usage,
			.err = err};
	int r = key_check(name, "name", err);

	return r < 0 ? r : storage_run(st, true, &op);
}

static bool has_child(struct bolt_tx *tx, uint64_t id)
{
	struct bolt_bucket *links = SCHEMA_FIND(tx, "parents");
	struct bolt_cursor c;
	struct bolt_item i;
	uint8_t k[LINK_MAX_LEN];
	size_t n = uvarint_encode(id, k);

	if (!links)
		return false;
	k[n++] = 0;
	bolt_cursor_init(&c, links);
	return bolt_seek(&c, bolt_b(k, n), &i) && i.key.len > n && memcmp(i.key.data, k, n) == 0;
}

static int remove_fn(struct bolt_tx *tx, struct op *op)
{
	struct bolt_bucket *b = record_find(tx, op->key), *p;
	struct bolt_bucket *links = SCHEMA_FIND(tx, "parents");
	const char *parent = "";
	uint8_t k[LINK_MAX_LEN];
	int r;

	if (!b)
		return record_missing(op);
	op->id = record_id(b);
	op->kind = record_kind(b);
	if (has_child(tx, op->id))
		return err_set(op->err, ERR_FAILED_PRECONDITION,
			       "cannot remove snapshot with child");
	r = schema_get_str(op->ctx->arena, b, "parent", &parent);
	if (r < 0)
		return db_failed(op, r);
	p = record_find(tx, parent);
	if (*parent && p && links)
		r = bolt_delete(links, bolt_b(k, link_encode(record_id(p), op->id, k)));
	if (r >= 0)
		r = bolt_bucket_delete(snapshots_of(tx), bolt_s(op->key));
	return r < 0 ? db_failed(op, r) : 0;
}

int storage_remove(struct ctx *ctx, struct storage *st, const char *key, uint64_t *ret_id,
		   enum snapshot_kind *ret_kind, struct err *err)
{
	struct op op = {.ctx = ctx, .fn = remove_fn, .key = key, .err = err};
	int r = storage_run(st, true, &op);

	if (r < 0)
		return r;
	*ret_id = op.id;
	*ret_kind = op.kind;
	return 0;
}

static int update_labels(struct op *op, struct labels *l)
{
	struct arena *a = op->ctx->arena;
	const char *key;
	int r = op->n_paths ? 0 : mask_labels(a, l, &op->update->labels, NULL);

	for (size_t i = 0; r >= 0 && i < op->n_paths; i++) {
		if (!mask_field(op->paths[i], "labels", &key))
			return err_set(op->err, ERR_INVALID_ARGUMENT,
				       "cannot update \"%s\" field on snapshot \"%s\"",
				       op->paths[i], op->key);
		r = mask_labels(a, l, &op->update->labels, key);
	}
	return r < 0 ? err_nomem(op->err) : 0;
}

static int update_fn(struct bolt_tx *tx, struct op *op)
{
	struct bolt_bucket *b;
	int r = info_fn(tx, op);

	if (r < 0)
		return r;
	b = record_find(tx, op->key);
	r = update_labels(op, &op->info.labels);
	if (r < 0)
		return r;
	op->info.updated_at = time_now();
	r = schema_put_labels(b, "labels", &op->info.labels);
	if (r >= 0)
		r = schema_put_time(b, "updatedat", op->info.updated_at);
	return r < 0 ? db_failed(op, r) : 0;
}

int storage_update(struct ctx *ctx, struct storage *st, const struct snapshot_info *info,
		   char *const *paths, size_t n, struct snapshot_info *ret, struct err *err)
{
	struct op op = {.ctx = ctx,
			.fn = update_fn,
			.key = info->name,
			.update = info,
			.paths = paths,
			.n_paths = n,
			.err = err};
	int r = storage_run(st, true, &op);

	if (r >= 0)
		*ret = op.info;
	return r;
}
