/* SPDX-License-Identifier: Apache-2.0 */
/* v1/<namespace>/mounts/<name> and v1/<namespace>/leases/<lease>/<name>; the sequence of v1 gives
 * ids. */
#include "plugins/mounts/record.h"

#include "base/buf.h"
#include "base/str.h"
#include "base/time.h"
#include "core/schema.h"

#define UVARINT_MAX 10

/* ---- encodings ---- */

static int put_uvarint(struct bolt_bucket *b, const char *key, uint64_t v)
{
	uint8_t out[UVARINT_MAX];
	size_t n = 0;
	for (; v >= 0x80; v >>= 7)
		out[n++] = (uint8_t)(v | 0x80);
	out[n++] = (uint8_t)v;
	return bolt_put(b, bolt_s(key), bolt_b(out, n));
}

/* 0 when absent or damaged. */
static uint64_t get_uvarint(struct bolt_bucket *b, const char *key)
{
	struct bolt_slice s;
	uint64_t v = 0;
	if (!bolt_get(b, bolt_s(key), &s))
		return 0;
	const uint8_t *p = s.data;
	for (size_t i = 0; i < s.len && i < UVARINT_MAX; i++) {
		v |= (uint64_t)(p[i] & 0x7f) << (7 * i);
		if (!(p[i] & 0x80))
			return v;
	}
	return 0;
}

static int put_options(struct bolt_bucket *b, const struct mount *m)
{
	_cleanup_buf_ struct buf out = BUF_INIT;
	for (size_t i = 0; i < m->n_options; i++) {
		if (i)
			buf_addc(&out, 0);
		buf_adds(&out, m->options[i]);
	}
	if (!buf_ok(&out))
		return -ENOMEM;
	return m->n_options ? bolt_put(b, bolt_s("options"), bolt_b(out.data, out.len)) : 0;
}

static int get_options(struct arena *a, struct bolt_bucket *b, struct mount *m)
{
	struct bolt_slice s;
	size_t cap = 0;
	if (!bolt_get(b, bolt_s("options"), &s))
		return 0;
	char *p = arena_alloc(a, s.len + 1), *end = p ? p + s.len : NULL;
	if (!p)
		return -ENOMEM;
	memcpy(p, s.data, s.len);
	*end = 0;
	for (; p <= end; p += strlen(p) + 1) {
		m->options = arena_grow(a, m->options, &cap, m->n_options + 1, sizeof(*m->options));
		if (!m->options)
			return -ENOMEM;
		m->options[m->n_options++] = p;
	}
	return 0;
}

/* ---- parts of a record ---- */

static int put_system(struct bolt_bucket *b, const struct mounts *system)
{
	struct bolt_bucket *all, *one;
	int r = schema_drop(b, "system");
	if (r == 0)
		r = bolt_bucket_create(b, bolt_s("system"), &all);
	for (size_t i = 0; r == 0 && i < system->n; i++) {
		uint8_t key = (uint8_t)i;
		const struct mount *m = &system->v[i];
		r = bolt_bucket_create(all, bolt_b(&key, 1), &one);
		if (r == 0)
			r = schema_put_str(one, "type", m->type);
		if (r == 0)
			r = schema_put_str(one, "source", m->source);
		if (r == 0)
			r = schema_put_str(one, "target", m->target);
		if (r == 0)
			r = put_options(one, m);
	}
	return r;
}

static int put_active(struct bolt_bucket *b, const struct mount_activation *act)
{
	struct bolt_bucket *all, *one;
	int r = schema_drop(b, "active");
	if (r == 0)
		r = bolt_bucket_create(b, bolt_s("active"), &all);
	for (size_t i = 0; r == 0 && i < act->n_active; i++) {
		uint8_t key = (uint8_t)i;
		const struct mount_active *m = &act->active[i];
		r = bolt_bucket_create(all, bolt_b(&key, 1), &one);
		if (r == 0)
			r = schema_put_str(one, "type", m->mount.type);
		if (r == 0)
			r = schema_put_str(one, "mp", m->mount_point);
		if (r == 0)
			r = schema_put_time(one, "mat", m->mounted_at);
	}
	return r;
}

static int get_system(struct arena *a, struct bolt_bucket *all, struct mounts *ret)
{
	struct bolt_cursor c;
	struct bolt_item it;
	size_t cap = 0;
	bolt_cursor_init(&c, all);
	for (bool ok = bolt_first(&c, &it); ok; ok = bolt_next(&c, &it)) {
		struct bolt_bucket *b = it.is_bucket ? bolt_bucket(all, it.key) : NULL;
		if (!b)
			continue;
		ret->v = arena_grow(a, ret->v, &cap, ret->n + 1, sizeof(*ret->v));
		if (!ret->v)
			return -ENOMEM;
		struct mount *m = &ret->v[ret->n++];
		*m = (struct mount){0};
		int r = schema_get_str(a, b, "type", &m->type);
		if (r == 0)
			r = schema_get_str(a, b, "source", &m->source);
		if (r == 0)
			r = schema_get_str(a, b, "target", &m->target);
		if (r == 0)
			r = get_options(a, b, m);
		if (r < 0)
			return r;
	}
	return 0;
}

static int get_active(struct arena *a, struct bolt_bucket *all, struct mount_activation *ret)
{
	struct bolt_cursor c;
	struct bolt_item it;
	size_t cap = 0;
	bolt_cursor_init(&c, all);
	for (bool ok = bolt_first(&c, &it); ok; ok = bolt_next(&c, &it)) {
		struct bolt_bucket *b = it.is_bucket ? bolt_bucket(all, it.key) : NULL;
		if (!b)
			continue;
		ret->active =
			arena_grow(a, ret->active, &cap, ret->n_active + 1, sizeof(*ret->active));
		if (!ret->active)
			return -ENOMEM;
		struct mount_active *m = &ret->active[ret->n_active++];
		*m = (struct mount_active){.mount = {.source = "", .target = ""},
					   .mounted_at = schema_get_time(b, "mat")};
		int r = schema_get_str(a, b, "type", &m->mount.type);
		if (r == 0)
			r = schema_get_str(a, b, "mp", &m->mount_point);
		if (r < 0)
			return r;
	}
	return 0;
}

static int get_record(struct arena *a, struct bolt_bucket *b, const char *name,
		      struct mount_activation *ret)
{
	struct mount_activation act = {.name = arena_strdup(a, name), .id = get_uvarint(b, "id")};
	struct bolt_bucket *active = bolt_bucket(b, bolt_s("active")),
			   *system = bolt_bucket(b, bolt_s("system"));
	int r = act.name ? schema_get_labels(a, b, "labels", &act.labels) : -ENOMEM;
	if (r == 0)
		r = schema_get_str(a, b, "lease", &act.lease);
	if (r == 0 && active)
		r = get_active(a, active, &act);
	if (r == 0 && system)
		r = get_system(a, system, &act.system);
	act.done = active != NULL;
	if (r == 0)
		*ret = act;
	return r;
}

/* ---- transactions ---- */

/* What functions in transactions work on. */
struct op {
	struct arena *a;
	const char *ns, *name;
	const struct mount_activation *in;
	uint64_t id;
	struct mount_activation *v;
	const char **spaces;
	size_t n, cap, cap_spaces;
};

static int tx_create(struct bolt_tx *tx, void *arg)
{
	struct op *o = arg;
	struct bolt_bucket *v1, *all, *b, *lease;
	int r = bolt_bucket_create_if_missing(bolt_root(tx), bolt_s("v1"), &v1);
	if (r == 0)
		r = SCHEMA_MAKE(tx, &all, o->ns, "mounts");
	if (r == 0)
		r = bolt_bucket_create(all, bolt_s(o->in->name), &b); /* -EEXIST */
	if (r == 0)
		r = bolt_next_sequence(v1, &o->id);
	if (r == 0)
		r = put_uvarint(b, "id", o->id);
	struct timespec now = time_now();
	if (r == 0)
		r = schema_put_times(b, now, now);
	if (r == 0)
		r = schema_put_labels(b, "labels", &o->in->labels);
	if (r == 0)
		r = put_system(b, &o->in->system);
	if (r < 0 || str_empty(o->in->lease))
		return r;
	r = schema_put_str(b, "lease", o->in->lease);
	if (r == 0)
		r = SCHEMA_MAKE(tx, &lease, o->ns, "leases", o->in->lease);
	return r < 0 ? r : bolt_put(lease, bolt_s(o->in->name), bolt_s(""));
}

static int tx_finish(struct bolt_tx *tx, void *arg)
{
	struct op *o = arg;
	struct bolt_bucket *b = SCHEMA_FIND(tx, o->ns, "mounts", o->in->name);
	int r = b ? put_active(b, o->in) : -ENOENT;
	if (r == 0)
		r = put_system(b, &o->in->system);
	return r < 0 ? r : schema_put_time(b, "updatedat", time_now());
}

static int tx_delete(struct bolt_tx *tx, void *arg)
{
	struct op *o = arg;
	struct bolt_bucket *all = SCHEMA_FIND(tx, o->ns, "mounts"), *leases, *lease;
	struct bolt_bucket *b = all ? bolt_bucket(all, bolt_s(o->name)) : NULL;
	struct bolt_slice id;
	struct bolt_cursor c;
	struct bolt_item it;
	_cleanup_free_ char *name = NULL;
	int r = 0;
	if (!b)
		return 0;
	leases = SCHEMA_FIND(tx, o->ns, "leases");
	if (leases && bolt_get(b, bolt_s("lease"), &id) && id.len) {
		name = strndup(id.data, id.len); /* changes move what the slice points to */
		if (!name)
			return -ENOMEM;
		lease = bolt_bucket(leases, bolt_s(name));
		r = lease ? bolt_delete(lease, bolt_s(o->name)) : 0;
		if (r == 0 && lease) {
			bolt_cursor_init(&c, lease);
			if (!bolt_first(&c, &it))
				r = bolt_bucket_delete(leases, bolt_s(name));
		}
	}
	return r < 0 ? r : bolt_bucket_delete(all, bolt_s(o->name));
}

static int tx_get(struct bolt_tx *tx, void *arg)
{
	struct op *o = arg;
	struct bolt_bucket *b = SCHEMA_FIND(tx, o->ns, "mounts", o->name);
	return b ? get_record(o->a, b, o->name, o->v) : -ENOENT;
}

static int list_one(struct op *o, const char *ns, struct bolt_bucket *all)
{
	const char **names;
	size_t n;
	int r = schema_keys(o->a, all, true, &names, &n);
	for (size_t i = 0; r == 0 && i < n; i++) {
		o->v = arena_grow(o->a, o->v, &o->cap, o->n + 1, sizeof(*o->v));
		o->spaces =
			arena_grow(o->a, o->spaces, &o->cap_spaces, o->n + 1, sizeof(*o->spaces));
		struct bolt_bucket *b = bolt_bucket(all, bolt_s(names[i]));
		if (!o->v || !o->spaces || !b)
			return -ENOMEM;
		o->spaces[o->n] = ns;
		r = get_record(o->a, b, names[i], &o->v[o->n++]);
	}
	return r;
}

static int tx_list(struct bolt_tx *tx, void *arg)
{
	struct op *o = arg;
	const char **spaces = &o->ns;
	size_t n = 1;
	int r = o->ns ? 0 : schema_keys(o->a, schema_find(tx, NULL, 0), true, &spaces, &n);
	o->n = 0;
	for (size_t i = 0; r == 0 && i < n; i++)
		r = list_one(o, spaces[i], SCHEMA_FIND(tx, spaces[i], "mounts"));
	return r;
}

/* ---- calls ---- */

int mount_record_create(struct bolt *db, const char *ns, const struct mount_activation *act,
			uint64_t *ret_id, struct err *err)
{
	struct op o = {.ns = ns, .in = act};
	int r = bolt_update(db, tx_create, &o);
	if (r == -EEXIST)
		return err_set(err, ERR_ALREADY_EXISTS, "mount \"%s\"", act->name);
	if (r < 0)
		return err_errno(err, r, "write mount \"%s\"", act->name);
	*ret_id = o.id;
	return 0;
}

int mount_record_finish(struct bolt *db, const char *ns, const struct mount_activation *act,
			struct err *err)
{
	struct op o = {.ns = ns, .in = act};
	int r = bolt_update(db, tx_finish, &o);
	return r < 0 ? err_errno(err, r, "write mount \"%s\"", act->name) : 0;
}

int mount_record_delete(struct bolt *db, const char *ns, const char *name, struct err *err)
{
	struct op o = {.ns = ns, .name = name};
	int r = bolt_update(db, tx_delete, &o);
	return r < 0 ? err_errno(err, r, "delete mount \"%s\"", name) : 0;
}

int mount_record_get(struct arena *a, struct bolt *db, const char *ns, const char *name,
		     struct mount_activation *ret, struct err *err)
{
	struct mount_activation act;
	struct op o = {.a = a, .ns = ns, .name = name, .v = &act};
	int r = bolt_view(db, tx_get, &o);
	if (r == -ENOENT)
		return err_set(err, ERR_NOT_FOUND, "mount \"%s\"", name);
	if (r < 0)
		return err_errno(err, r, "read mount \"%s\"", name);
	*ret = act;
	return 0;
}

int mount_record_list(struct arena *a, struct bolt *db, const char *ns,
		      struct mount_activation **ret, const char ***ret_ns, size_t *ret_n,
		      struct err *err)
{
	struct op o = {.a = a, .ns = ns};
	int r = bolt_view(db, tx_list, &o);
	if (r < 0)
		return err_errno(err, r, "read mounts");
	*ret = o.v;
	if (ret_ns)
		*ret_ns = o.spaces;
	*ret_n = o.n;
	return 0;
}
