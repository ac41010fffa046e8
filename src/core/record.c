/* SPDX-License-Identifier: Apache-2.0 */
/* See record.h. What create and update return is read back from the bucket. */
#include "core/record.h"

#include "base/str.h"
#include "base/time.h"
#include "core/db_internal.h"
#include "core/mask.h"
#include "core/schema.h"

#define EACH_FIELD(f, k) \
	for (const struct record_field *f = (k)->fields; f < (k)->fields + (k)->n_fields; f++)

struct record_call {
	struct ctx *ctx;
	const struct record_kind *k;
	const char *key;
	const struct record_change *ch;
	const struct filter *filter;
	const void *arg;
	void *one;
	void *all;
	size_t n_all, cap;
};

static void *member(void *rec, const struct record_field *f)
{
	return (char *)rec + f->offset;
}

static const void *member_of(const void *rec, const struct record_field *f)
{
	return (const char *)rec + f->offset;
}

static size_t *count_of(void *rec, const struct record_field *f)
{
	return (size_t *)((char *)rec + f->count);
}

static const char *key_of(const struct record_kind *k, const void *rec)
{
	return *(const char *const *)((const char *)rec + k->key_offset);
}

/* ---- errors ---- */

/* `container "x"`, with @doing and a blank before it. */
static const char *what(struct arena *a, const struct record_kind *k, const char *doing,
			const char *key)
{
	const char *quote = k->unquoted ? "" : "\"";
	const char *text = arena_printf(a, "%s%s %s%s%s", doing, k->noun, quote, key, quote);

	return text ? text : k->noun;
}

static int not_found(struct record_call *c, enum record_step step, bool any, struct err *err)
{
	if (c->k->not_found)
		return c->k->not_found(c->ctx, step, any, c->key, err);
	return err_set(err, ERR_NOT_FOUND, "%s", what(c->ctx->arena, c->k, "", c->key));
}

/* ---- a record and its bucket ---- */

static int field_read(struct arena *a, const struct record_field *f, struct bolt_bucket *b,
		      void *rec)
{
	void *p = member(rec, f);

	switch ((enum record_type)f->type) {
	case RECORD_STR:
		return schema_get_str(a, b, f->key, p);
	case RECORD_INT:
		*(int64_t *)p = schema_get_int(b, f->key);
		return 0;
	case RECORD_CREATED:
	case RECORD_UPDATED:
		*(struct timespec *)p = schema_get_time(b, f->key);
		return 0;
	case RECORD_LABELS:
		return schema_get_labels(a, b, f->key, p);
	case RECORD_ANY:
		return schema_get_any(a, b, f->key, p);
	case RECORD_ANY_MAP:
		return schema_get_any_map(a, b, f->key, p, count_of(rec, f));
	}
	return -EINVAL;
}

int record_read(struct arena *a, const struct record_kind *k, struct bolt_bucket *b,
		const char *key, void *ret)
{
	char *id = arena_strdup(a, key);
	struct bolt_bucket *at = b;
	const char *within = "";
	int rc = b && id ? 0 : -ENOMEM;

	memset(ret, 0, k->size);
	memcpy((char *)ret + k->key_offset, &id, sizeof(id));
	EACH_FIELD(f, k)
	{
		if (rc == 0 && !streq(within, f->bucket)) {
			at = *f->bucket ? bolt_bucket(b, bolt_s(f->bucket)) : b;
			within = f->bucket;
		}
		if (rc == 0 && at)
			rc = field_read(a, f, at, ret);
		else if (f->type == RECORD_STR)
			*(const char **)member(ret, f) = "";
	}
	return rc;
}

static int field_write(const struct record_field *f, struct bolt_bucket *b, const void *rec)
{
	const void *p = member_of(rec, f);
	const struct timespec *t = p;

	switch ((enum record_type)f->type) {
	case RECORD_STR:
		return schema_put_str(b, f->key, *(const char *const *)p);
	case RECORD_INT:
		return schema_put_int(b, f->key, *(const int64_t *)p);
	case RECORD_CREATED:
		return time_is_zero(*t) ? 0 : schema_put_time(b, f->key, *t);
	case RECORD_UPDATED:
		return schema_put_time(b, f->key, *t);
	case RECORD_LABELS:
		return schema_put_labels(b, f->key, p);
	case RECORD_ANY:
		return schema_put_any(b, f->key, p);
	case RECORD_ANY_MAP:
		return schema_put_any_map(b, f->key, *(struct any_entry *const *)p,
					  *count_of((void *)rec, f));
	}
	return -EINVAL;
}

static int record_write(const struct record_kind *k, struct bolt_bucket *b, const void *rec)
{
	int rc = 0;

	EACH_FIELD(f, k)
	{
		struct bolt_bucket *at = b;

		if (rc == 0 && *f->bucket)
			rc = bolt_bucket_create_if_missing(b, bolt_s(f->bucket), &at);
		if (rc == 0)
			rc = field_write(f, at, rec);
	}
	return rc;
}

static int read_back(struct record_call *c, struct bolt_bucket *b, const char *key, void *ret,
		     struct err *err)
{
	struct arena *a = c->ctx->arena;
	int rc = record_read(a, c->k, b, key, ret);

	return rc < 0 ? err_errno(err, rc, "%s", what(a, c->k, "read ", key)) : 0;
}

/* ---- filters and masks ---- */

const char *record_field(const struct record_kind *k, const void *rec, const char *const *path,
			 size_t n)
{
	const char *v = NULL;

	if (n == 0)
		return NULL;
	if (streq(path[0], k->key))
		v = key_of(k, rec);
	EACH_FIELD(f, k)
	{
		size_t deep = *f->bucket ? 1 : 0;

		if (!f->filter || n <= deep || (deep && !streq(path[0], f->bucket)) ||
		    !streq(path[deep], f->key))
			continue;
		if (f->type == RECORD_LABELS)
			return filter_label(member_of(rec, f), path + deep + 1, n - deep - 1);
		v = *(const char *const *)member_of(rec, f);
	}
	return str_empty(v) ? NULL : v;
}

/* @to gets what is to be written: the record keeps what is not named. Of entries with the same key
 * the last counts, as in any map on the wire. */
static int any_map_set(struct arena *a, const struct record_field *f, void *to, const void *from,
		       const char *key)
{
	const struct any_entry *have = *(struct any_entry *const *)member(to, f);
	const struct any_entry *more = *(struct any_entry *const *)member_of(from, f);
	size_t n_have = *count_of(to, f), n_more = *count_of((void *)from, f), n = 0;
	struct any_entry *v = arena_new_array(a, struct any_entry, n_have + n_more + 1);

	if (!v)
		return -ENOMEM;
	for (; n < n_have; n++)
		v[n] = have[n];
	for (size_t i = 0; i < n_more; i++)
		if (!key || streq(more[i].key, key))
			v[n++] = more[i];
	*(struct any_entry **)member(to, f) = v;
	*count_of(to, f) = n;
	return 0;
}

static int field_set(struct arena *a, const struct record_field *f, void *to, const void *from,
		     const char *key)
{
	void *p = member(to, f);
	const void *q = member_of(from, f);

	switch ((enum record_type)f->type) {
	case RECORD_STR:
		*(const char **)p = *(const char *const *)q;
		return 0;
	case RECORD_INT:
		*(int64_t *)p = *(const int64_t *)q;
		return 0;
	case RECORD_CREATED:
	case RECORD_UPDATED:
		*(struct timespec *)p = *(const struct timespec *)q;
		return 0;
	case RECORD_LABELS:
		return mask_labels(a, p, q, key);
	case RECORD_ANY:
		*(struct any *)p = *(const struct any *)q;
		return 0;
	case RECORD_ANY_MAP:
		return any_map_set(a, f, to, from, key);
	}
	return -EINVAL;
}

/* Whether @path names @f; the entry of a map that it names, if it names one. */
static bool path_names(const struct record_field *f, const char *path, const char **ret_key)
{
	bool map = f->type == RECORD_LABELS || f->type == RECORD_ANY_MAP;

	*ret_key = NULL;
	if (!*f->mask)
		return false;
	if (*f->group && streq(path, f->group))
		return true;
	return map ? mask_field(path, f->mask, ret_key) : streq(path, f->mask);
}

static int mask_path(struct arena *a, const struct record_kind *k, void *to, const void *from,
		     const char *path, struct err *err)
{
	bool known = false;
	const char *key;

	EACH_FIELD(f, k)
	{
		if (path ? !path_names(f, path, &key) : !*f->mask)
			continue;
		known = true;
		if (field_set(a, f, to, from, path ? key : NULL) < 0)
			return err_nomem(err);
	}
	if (known)
		return 0;
	return err_set(err, ERR_INVALID_ARGUMENT, "cannot update \"%s\" field on %s\"%s\"", path,
		       k->mask_noun, key_of(k, from));
}

static int check_immutable(const struct record_kind *k, const void *to, const void *from,
			   struct err *err)
{
	EACH_FIELD(f, k)
	{
		const char *is = *(const char *const *)member_of(to, f);
		const char *want = *(const char *const *)member_of(from, f);

		if (*f->immutable && !streq(is, str_or(want, "")))
			return err_set(err, ERR_INVALID_ARGUMENT, "%s.%s field is immutable",
				       k->noun, f->immutable);
	}
	return 0;
}

int record_mask(struct arena *a, const struct record_kind *k, void *to, const void *from,
		char *const *paths, size_t n, struct err *err)
{
	int rc = n ? 0 : check_immutable(k, to, from, err);

	if (rc == 0 && !n)
		rc = mask_path(a, k, to, from, NULL, err);
	for (size_t i = 0; rc == 0 && i < n; i++)
		rc = mask_path(a, k, to, from, paths[i], err);
	return rc == 0 && k->validate ? k->validate(to, err) : rc;
}

/* ---- in a transaction ---- */

/* The bucket of all records of the kind, @ret_all, and of c->key. */
static struct bolt_bucket *find(struct record_call *c, struct bolt_tx *tx,
				struct bolt_bucket **ret_all)
{
	const char *path[] = {c->ctx->ns, c->k->bucket[0], c->k->bucket[1]};
	struct bolt_bucket *all = schema_find(tx, path, *c->k->bucket[1] ? 3 : 2);

	*ret_all = all;
	return all && c->key ? bolt_bucket(all, bolt_s(c->key)) : NULL;
}

static int get(struct bolt_tx *tx, void *arg, struct err *err)
{
	struct record_call *c = arg;
	struct bolt_bucket *all, *b = find(c, tx, &all);

	return b ? read_back(c, b, c->key, c->one, err) : not_found(c, RECORD_GET, all, err);
}

struct filtered {
	const struct record_kind *k;
	const void *rec;
};

static const char *filtered_field(const void *obj, const char *const *path, size_t n)
{
	const struct filtered *x = obj;

	return record_field(x->k, x->rec, path, n);
}

static int list(struct bolt_tx *tx, void *arg, struct err *err)
{
	struct record_call *c = arg;
	struct arena *a = c->ctx->arena;
	struct bolt_bucket *all;
	const char **keys;
	size_t n;

	find(c, tx, &all);
	c->n_all = 0;
	if (schema_keys(a, all, true, &keys, &n) < 0)
		return err_nomem(err);
	for (size_t i = 0; i < n; i++) {
		struct filtered x = {.k = c->k};
		char *one;
		int rc;

		c->all = arena_grow(a, c->all, &c->cap, c->n_all + 1, c->k->size);
		if (!c->all)
			return err_nomem(err);
		x.rec = one = (char *)c->all + c->n_all * c->k->size;
		rc = read_back(c, bolt_bucket(all, bolt_s(keys[i])), keys[i], one, err);
		if (rc < 0)
			return rc;
		if (filter_match(c->filter, filtered_field, &x))
			c->n_all++;
	}
	return 0;
}

/* Both times; of a change the second. */
static void set_times(const struct record_kind *k, void *rec, struct timespec when, bool new)
{
	when = time_is_zero(when) ? time_now() : when;
	EACH_FIELD(f, k)
	{
		if (f->type == RECORD_UPDATED || (f->type == RECORD_CREATED && new))
			*(struct timespec *)member(rec, f) = when;
	}
}

static int store(struct record_call *c, struct bolt_tx *tx, struct bolt_bucket *b, const void *old,
		 const void *rec, struct err *err)
{
	int rc = record_write(c->k, b, rec);

	if (rc < 0)
		return err_errno(err, rc, "%s", what(c->ctx->arena, c->k, "write ", c->key));
	if (c->k->stored)
		rc = c->k->stored(c->ctx, tx, old, rec, c->ch->arg, err);
	return rc < 0 ? rc : read_back(c, b, c->key, c->one, err);
}

static int create(struct bolt_tx *tx, void *arg, struct err *err)
{
	struct record_call *c = arg;
	const struct record_kind *k = c->k;
	const char *path[] = {c->ctx->ns, k->bucket[0], k->bucket[1]};
	struct arena *a = c->ctx->arena;
	void *rec = arena_memdup(a, c->ch->in, k->size);
	struct bolt_bucket *all, *b;
	int rc = schema_make(tx, path, *k->bucket[1] ? 3 : 2, &all);

	if (!rec)
		return err_nomem(err);
	if (rc < 0)
		return err_errno(err, rc, "make bucket `%s` of namespace `%s`", k->bucket[0],
				 c->ctx->ns);
	rc = bolt_bucket_create(all, bolt_s(c->key), &b);
	if (rc == -EEXIST)
		return err_set(err, ERR_ALREADY_EXISTS, "%s", what(a, k, "", c->key));
	if (rc < 0)
		return err_errno(err, rc, "%s", what(a, k, "write ", c->key));
	set_times(k, rec, c->ch->when, true);
	return store(c, tx, b, NULL, rec, err);
}

static int update(struct bolt_tx *tx, void *arg, struct err *err)
{
	struct record_call *c = arg;
	const struct record_kind *k = c->k;
	struct arena *a = c->ctx->arena;
	struct bolt_bucket *all, *b = find(c, tx, &all);
	char *old = arena_alloc(a, 2 * k->size), *rec = old ? old + k->size : NULL;
	int rc;

	if (!b)
		return not_found(c, RECORD_UPDATE, all, err);
	if (!old)
		return err_nomem(err);
	rc = read_back(c, b, c->key, old, err);
	if (rc < 0)
		return rc;
	memcpy(rec, old, k->size);
	/* Entries that are stored already stay without being written again. */
	EACH_FIELD(f, k)
	{
		if (f->type == RECORD_ANY_MAP)
			*count_of(rec, f) = 0;
	}
	rc = record_mask(a, k, rec, c->ch->in, c->ch->paths, c->ch->n_paths, err);
	if (rc < 0)
		return rc;
	set_times(k, rec, c->ch->when, false);
	return store(c, tx, b, old, rec, err);
}

static int delete (struct bolt_tx *tx, void *arg, struct err *err)
{
	struct record_call *c = arg;
	struct bolt_bucket *all, *b = find(c, tx, &all);
	int rc = 0;

	if (!b)
		return not_found(c, RECORD_DELETE, all, err);
	if (c->k->removing)
		rc = c->k->removing(c->ctx, tx, b, c->key, c->arg, err);
	if (rc < 0)
		return rc;
	rc = bolt_bucket_delete(all, bolt_s(c->key));
	return rc < 0 ? err_errno(err, rc, "%s", what(c->ctx->arena, c->k, "delete ", c->key)) : 0;
}

struct bolt_bucket *record_tx_find(struct ctx *ctx, struct bolt_tx *tx, const struct record_kind *k,
				   const char *key)
{
	struct record_call c = {.ctx = ctx, .k = k, .key = key};
	struct bolt_bucket *all;

	return find(&c, tx, &all);
}

int record_tx_create(struct ctx *ctx, struct bolt_tx *tx, const struct record_kind *k,
		     const struct record_change *ch, struct err *err)
{
	struct record_call c = {.ctx = ctx, .k = k, .key = key_of(k, ch->in), .ch = ch};

	c.one = arena_alloc(ctx->arena, k->size);
	return c.one ? create(tx, &c, err) : err_nomem(err);
}

int record_tx_delete(struct ctx *ctx, struct bolt_tx *tx, const struct record_kind *k,
		     const char *key, const void *arg, struct err *err)
{
	struct record_call c = {.ctx = ctx, .k = k, .key = key, .arg = arg};

	return delete (tx, &c, err);
}

/* ---- calls ---- */

typedef int tx_fn(struct bolt_tx *tx, void *arg, struct err *err);

/* Runs @fn, which sets c->one, for @ret. */
static int run(struct record_call *c, struct db *db, bool write, tx_fn *fn, void *ret,
	       struct err *err)
{
	int rc = db_check_namespace(c->ctx, err);

	if (rc < 0)
		return rc;
	c->one = arena_alloc(c->ctx->arena, c->k->size);
	if (!c->one)
		return err_nomem(err);
	rc = write ? db_update(c->ctx, db, fn, c, err) : db_view(c->ctx, db, fn, c, err);
	if (rc == 0 && ret)
		memcpy(ret, c->one, c->k->size);
	return rc;
}

int record_get(struct ctx *ctx, struct db *db, const struct record_kind *k, const char *key,
	       void *ret, struct err *err)
{
	struct record_call c = {.ctx = ctx, .k = k, .key = key};

	return run(&c, db, false, get, ret, err);
}

int record_list(struct ctx *ctx, struct db *db, const struct record_kind *k, const struct filter *f,
		void *ret_v, size_t *ret_n, struct err *err)
{
	struct record_call c = {.ctx = ctx, .k = k, .filter = f};
	int rc = run(&c, db, false, list, NULL, err);

	if (rc == 0) {
		memcpy(ret_v, &c.all, sizeof(c.all));
		*ret_n = c.n_all;
	}
	return rc;
}

int record_create(struct ctx *ctx, struct db *db, const struct record_kind *k,
		  const struct record_change *ch, void *ret, struct err *err)
{
	struct record_call c = {.ctx = ctx, .k = k, .key = key_of(k, ch->in), .ch = ch};

	return run(&c, db, true, create, ret, err);
}

int record_update(struct ctx *ctx, struct db *db, const struct record_kind *k,
		  const struct record_change *ch, void *ret, struct err *err)
{
	struct record_call c = {.ctx = ctx, .k = k, .key = key_of(k, ch->in), .ch = ch};

	return run(&c, db, true, update, ret, err);
}

int record_delete(struct ctx *ctx, struct db *db, const struct record_kind *k, const char *key,
		  const void *arg, struct err *err)
{
	struct record_call c = {.ctx = ctx, .k = k, .key = key, .arg = arg};
	int rc = run(&c, db, true, delete, NULL, err);

	if (rc < 0)
		return rc;
	if (k->removed)
		k->removed(db);
	db_mark_dirty(db, true);
	return 0;
}
