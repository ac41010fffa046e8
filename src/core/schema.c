/* SPDX-License-Identifier: Apache-2.0 */
#include "core/schema.h"

#include "base/str.h"

/* Seconds from 0001-01-01 to 1970-01-01, both UTC. */
#define YEAR1_OFFSET 62135596800LL

#define BUCKET_V1 "v1"

/* ---- encodings ---- */

static size_t uvarint_encode(uint64_t v, uint8_t *out)
{
	size_t n = 0;

	while (v >= 0x80) {
		out[n++] = (uint8_t)(v | 0x80);
		v >>= 7;
	}
	out[n++] = (uint8_t)v;
	return n;
}

static size_t uvarint_decode(const uint8_t *p, size_t n, uint64_t *ret)
{
	uint64_t v = 0;

	for (size_t i = 0; i < n && i < SCHEMA_VARINT_MAX; i++) {
		if (i == SCHEMA_VARINT_MAX - 1 && p[i] > 1)
			return 0;
		v |= (uint64_t)(p[i] & 0x7f) << (7 * i);
		if (!(p[i] & 0x80)) {
			*ret = v;
			return i + 1;
		}
	}
	return 0;
}

size_t schema_varint_encode(int64_t v, uint8_t out[SCHEMA_VARINT_MAX])
{
	uint64_t u = (uint64_t)v << 1;

	return uvarint_encode(v < 0 ? ~u : u, out);
}

size_t schema_varint_decode(const void *p, size_t n, int64_t *ret)
{
	uint64_t u;
	size_t used = uvarint_decode(p, n, &u);

	if (used)
		*ret = u & 1 ? (int64_t) ~(u >> 1) : (int64_t)(u >> 1);
	return used;
}

size_t schema_time_encode(struct timespec t, uint8_t out[SCHEMA_TIME_MAX])
{
	uint64_t sec = (uint64_t)t.tv_sec + (uint64_t)YEAR1_OFFSET;
	uint32_t nsec = (uint32_t)t.tv_nsec;

	out[0] = 1;
	for (int i = 0; i < 8; i++)
		out[1 + i] = (uint8_t)(sec >> (56 - 8 * i));
	for (int i = 0; i < 4; i++)
		out[9 + i] = (uint8_t)(nsec >> (24 - 8 * i));
	out[13] = out[14] = 0xff;
	return 15;
}

bool schema_time_decode(const void *p, size_t n, struct timespec *ret)
{
	const uint8_t *b = p;
	uint64_t sec = 0;
	uint32_t nsec = 0;

	if (n < 15 || !((b[0] == 1 && n == 15) || (b[0] == 2 && n == 16)))
		return false;
	for (int i = 0; i < 8; i++)
		sec = sec << 8 | b[1 + i];
	for (int i = 0; i < 4; i++)
		nsec = nsec << 8 | b[9 + i];
	if (nsec >= 1000000000U || (sec == 0 && nsec == 0)) {
		*ret = (struct timespec){0}; /* Go's zero time is ours */
		return nsec < 1000000000U;
	}
	/* The zone is only how it would be shown. */
	ret->tv_sec = (time_t)(int64_t)(sec - (uint64_t)YEAR1_OFFSET);
	ret->tv_nsec = nsec;
	return true;
}

int schema_any_encode(const struct any *v, struct buf *out)
{
	uint8_t head[1 + SCHEMA_VARINT_MAX];
	size_t len = v->type_url ? strlen(v->type_url) : 0;

	if (len) {
		head[0] = 1 << 3 | 2;
		buf_add(out, head, 1 + uvarint_encode(len, head + 1));
		buf_add(out, v->type_url, len);
	}
	if (v->len) {
		head[0] = 2 << 3 | 2;
		buf_add(out, head, 1 + uvarint_encode(v->len, head + 1));
		buf_add(out, v->value, v->len);
	}
	return buf_ok(out) ? 0 : -ENOMEM;
}

int schema_any_decode(struct arena *a, const void *data, size_t n, struct any *ret)
{
	const uint8_t *p = data, *end = p + n;
	struct any v = {.type_url = "", .value = ""};

	while (p < end) {
		uint64_t tag, len;
		size_t used = uvarint_decode(p, (size_t)(end - p), &tag);

		if (!used)
			return -EBADMSG;
		p += used;
		used = uvarint_decode(p, (size_t)(end - p), &len);
		/* All fields of an Any are of the length-delimited kind. */
		if ((tag & 7) != 2 || !used || len > (uint64_t)(end - p) - used)
			return -EBADMSG;
		p += used;
		if (tag >> 3 == 1 && !(v.type_url = arena_strndup(a, (const char *)p, len)))
			return -ENOMEM;
		if (tag >> 3 == 2) {
			v.value = arena_memdup(a, p, len);
			v.len = len;
			if (!v.value)
				return -ENOMEM;
		}
		p += len;
	}
	*ret = v;
	return 0;
}

/* ---- buckets ---- */

struct bolt_bucket *schema_find(struct bolt_tx *tx, const char *const *path, size_t n)
{
	struct bolt_bucket *b = bolt_bucket(bolt_root(tx), bolt_s(BUCKET_V1));

	for (size_t i = 0; b && i < n; i++)
		b = bolt_bucket(b, bolt_s(path[i]));
	return b;
}

int schema_make(struct bolt_tx *tx, const char *const *path, size_t n, struct bolt_bucket **ret)
{
	struct bolt_bucket *b;
	int rc = bolt_bucket_create_if_missing(bolt_root(tx), bolt_s(BUCKET_V1), &b);

	for (size_t i = 0; rc == 0 && i < n; i++) {
		struct bolt_bucket *parent = b;

		rc = bolt_bucket_create_if_missing(parent, bolt_s(path[i]), &b);
	}
	if (rc == 0)
		*ret = b;
	return rc;
}

int schema_drop(struct bolt_bucket *b, const char *name)
{
	int rc = bolt_bucket_delete(b, bolt_s(name));

	return rc == -ENOENT ? 0 : rc;
}

const char *schema_key(struct arena *a, struct bolt_slice s)
{
	return arena_strndup(a, s.data, s.len);
}

int schema_keys(struct arena *a, struct bolt_bucket *b, bool buckets, const char ***ret,
		size_t *ret_n)
{
	struct bolt_cursor c;
	struct bolt_item it;
	const char **v = NULL;
	size_t n = 0, cap = 0;

	if (b) {
		bolt_cursor_init(&c, b);
		for (bool ok = bolt_first(&c, &it); ok; ok = bolt_next(&c, &it)) {
			if (it.is_bucket != buckets)
				continue;
			v = arena_grow(a, v, &cap, n + 1, sizeof(*v));
			if (!v || !(v[n] = schema_key(a, it.key)))
				return -ENOMEM;
			n++;
		}
	}
	*ret = v;
	*ret_n = n;
	return 0;
}

/* ---- values ---- */

int schema_get_str(struct arena *a, struct bolt_bucket *b, const char *key, const char **ret)
{
	struct bolt_slice s;
	char *copy;

	if (!bolt_get(b, bolt_s(key), &s)) {
		*ret = "";
		return 0;
	}
	copy = arena_strndup(a, s.data, s.len);
	if (!copy)
		return -ENOMEM;
	*ret = copy;
	return 0;
}

struct timespec schema_get_time(struct bolt_bucket *b, const char *key)
{
	struct timespec t = {0};
	struct bolt_slice s;

	if (bolt_get(b, bolt_s(key), &s) && !schema_time_decode(s.data, s.len, &t))
		t = (struct timespec){0};
	return t;
}

int64_t schema_get_int(struct bolt_bucket *b, const char *key)
{
	struct bolt_slice s;
	int64_t v = 0;

	if (bolt_get(b, bolt_s(key), &s) && !schema_varint_decode(s.data, s.len, &v))
		v = 0;
	return v;
}

int schema_get_labels(struct arena *a, struct bolt_bucket *b, const char *name, struct labels *ret)
{
	struct bolt_bucket *lb = bolt_bucket(b, bolt_s(name));
	struct labels l = {0};
	struct bolt_cursor c;
	struct bolt_item it;

	if (lb) {
		bolt_cursor_init(&c, lb);
		for (bool ok = bolt_first(&c, &it); ok; ok = bolt_next(&c, &it)) {
			struct label *e;

			if (it.is_bucket)
				continue;
			/* In key order already, so appending keeps it sorted. */
			l.v = arena_grow(a, l.v, &l.cap, l.n + 1, sizeof(*l.v));
			if (!l.v)
				return -ENOMEM;
			e = &l.v[l.n++];
			e->key = schema_key(a, it.key);
			e->value = schema_key(a, it.value);
			if (!e->key || !e->value)
				return -ENOMEM;
		}
	}
	*ret = l;
	return 0;
}

int schema_get_any(struct arena *a, struct bolt_bucket *b, const char *key, struct any *ret)
{
	struct bolt_slice s;

	*ret = (struct any){0};
	return bolt_get(b, bolt_s(key), &s) ? schema_any_decode(a, s.data, s.len, ret) : 0;
}

int schema_get_any_map(struct arena *a, struct bolt_bucket *b, const char *name,
		       struct any_entry **ret, size_t *ret_n)
{
	struct bolt_bucket *mb = bolt_bucket(b, bolt_s(name));
	struct any_entry *v = NULL;
	size_t n = 0, cap = 0;
	struct bolt_cursor c;
	struct bolt_item it;
	int rc;

	if (mb) {
		bolt_cursor_init(&c, mb);
		for (bool ok = bolt_first(&c, &it); ok; ok = bolt_next(&c, &it)) {
			if (it.is_bucket)
				continue;
			v = arena_grow(a, v, &cap, n + 1, sizeof(*v));
			if (!v || !(v[n].key = schema_key(a, it.key)))
				return -ENOMEM;
			rc = schema_any_decode(a, it.value.data, it.value.len, &v[n++].value);
			if (rc < 0)
				return rc;
		}
	}
	*ret = v;
	*ret_n = n;
	return 0;
}

int schema_put_str(struct bolt_bucket *b, const char *key, const char *value)
{
	return bolt_put(b, bolt_s(key), bolt_s(value ? value : ""));
}

int schema_put_time(struct bolt_bucket *b, const char *key, struct timespec t)
{
	uint8_t v[SCHEMA_TIME_MAX];

	return bolt_put(b, bolt_s(key), bolt_b(v, schema_time_encode(t, v)));
}

int schema_put_times(struct bolt_bucket *b, struct timespec created, struct timespec updated)
{
	int rc = 0;

	if (created.tv_sec || created.tv_nsec)
		rc = schema_put_time(b, "createdat", created);
	return rc < 0 ? rc : schema_put_time(b, "updatedat", updated);
}

int schema_put_int(struct bolt_bucket *b, const char *key, int64_t n)
{
	uint8_t v[SCHEMA_VARINT_MAX];

	return bolt_put(b, bolt_s(key), bolt_b(v, schema_varint_encode(n, v)));
}

int schema_put_labels(struct bolt_bucket *b, const char *name, const struct labels *l)
{
	struct bolt_bucket *lb = NULL;
	int rc = schema_drop(b, name);

	for (size_t i = 0; rc == 0 && i < l->n; i++) {
		if (str_empty(l->v[i].value))
			continue;
		if (!lb)
			rc = bolt_bucket_create(b, bolt_s(name), &lb);
		if (rc == 0)
			rc = schema_put_str(lb, l->v[i].key, l->v[i].value);
	}
	return rc;
}

int schema_put_any(struct bolt_bucket *b, const char *key, const struct any *v)
{
	_cleanup_buf_ struct buf out = BUF_INIT;
	int rc;

	if (!v->type_url)
		return bolt_delete(b, bolt_s(key));
	rc = schema_any_encode(v, &out);
	return rc < 0 ? rc : bolt_put(b, bolt_s(key), bolt_b(out.data, out.len));
}

int schema_put_any_map(struct bolt_bucket *b, const char *name, const struct any_entry *v, size_t n)
{
	struct bolt_bucket *mb;
	int rc = 0;

	if (n)
		rc = bolt_bucket_create_if_missing(b, bolt_s(name), &mb);
	for (size_t i = 0; rc == 0 && i < n; i++)
		rc = schema_put_any(mb, v[i].key, &v[i].value);
	return rc;
}
