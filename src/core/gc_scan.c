/* SPDX-License-Identifier: Apache-2.0 */
/* Reads all records of the database, and what collectors report, into a graph; see gc_scan.h. */
#include "core/gc_scan.h"

#include "base/str.h"
#include "base/time.h"
#include "core/db_internal.h"
#include "core/schema.h"

#define LABEL_GC "containerd.io/gc."
#define LABEL_USED_AT "containerd.io/gc.cond.value-usedat"

struct scan {
	struct db *db;
	struct gc_graph *g;
	struct timespec now;
	/* of the namespace at hand */
	const char *ns;
	struct bolt_bucket *bucket;
	bool flat; /* of the lease at hand */
};

static struct gc_node *node(struct scan *s, unsigned int type, struct bolt_slice key)
{
	return gc_graph_node(s->g, type, s->ns, key);
}

static struct gc_node *snapshot_node(struct scan *s, struct bolt_slice sn, struct bolt_slice key)
{
	const char *k = arena_printf(s->g->arena, "%.*s/%.*s", (int)sn.len, (const char *)sn.data,
				     (int)key.len, (const char *)key.data);

	return k ? node(s, GC_SNAPSHOT, bolt_s(k)) : NULL;
}

/* Calls @fn for each sub-bucket of @b (NULL = none). */
static int each(struct scan *s, struct bolt_bucket *b,
		int (*fn)(struct scan *s, struct bolt_slice key, struct bolt_bucket *b))
{
	struct bolt_cursor c;
	struct bolt_item it;
	int rc = 0;

	if (!b)
		return 0;
	bolt_cursor_init(&c, b);
	for (bool ok = bolt_first(&c, &it); rc == 0 && ok; ok = bolt_next(&c, &it)) {
		struct bolt_bucket *sub;

		if (!it.is_bucket)
			continue;
		sub = bolt_bucket(b, it.key);
		rc = sub ? fn(s, it.key, sub) : -ENOMEM;
	}
	return rc;
}

/* ---- labels ---- */

/* True when @key is @name, or @name and a suffix behind "." or "/". */
static bool is_label(struct bolt_slice key, const char *name)
{
	size_t n = strlen(name);
	const char *k = key.data;

	return key.len >= n && memcmp(k, name, n) == 0 &&
	       (key.len == n || k[n] == '.' || k[n] == '/');
}

/* True when @key is @prefix and a snapshotter, which ends at a "/". */
static bool is_snapshot_label(struct bolt_slice key, const char *prefix, struct bolt_slice *ret_sn)
{
	size_t n = strlen(prefix);
	const char *k = key.data, *slash;

	if (key.len <= n || memcmp(k, prefix, n) != 0)
		return false;
	slash = memchr(k + n, '/', key.len - n);
	*ret_sn = bolt_b(k + n, slash ? (size_t)(slash - k) - n : key.len - n);
	return true;
}

/* What "<prefix>content", "<prefix>snapshot.x" and so on name; NULL with *@ret_rc 0 when @key is no
 * such label. */
static struct gc_node *named(struct scan *s, struct bolt_slice key, struct bolt_slice value,
			     int *ret_rc)
{
	static const struct {
		const char *name;
		enum gc_type type;
	} types[] = {{"content", GC_CONTENT}, {"image", GC_IMAGE}, {"container", GC_CONTAINER}};
	struct gc_node *n = NULL;
	struct bolt_slice sn;

	*ret_rc = 0;
	if (is_snapshot_label(key, "snapshot.", &sn)) {
		n = snapshot_node(s, sn, value);
		*ret_rc = n ? 0 : -ENOMEM;
		return n;
	}
	for (size_t i = 0; i < ARRAY_LEN(types); i++) {
		if (!is_label(key, types[i].name))
			continue;
		n = node(s, types[i].type, value);
		*ret_rc = n ? 0 : -ENOMEM;
		return n;
	}
	for (size_t i = 0; i < s->db->n_collectors; i++) {
		if (!is_label(key, s->db->collectors[i].label))
			continue;
		n = node(s, GC_COLLECTOR + (unsigned int)i, value);
		*ret_rc = n ? 0 : -ENOMEM;
		return n;
	}
	return NULL;
}

/* `usedat<24h` or `usedat>24h`: how long ago that was. */
static bool condition_holds(struct scan *s, const char *text, struct timespec used)
{
	const char *op = str_skip(text, "usedat");
	int64_t limit, age;

	if (!op || (*op != '<' && *op != '>') || duration_parse(op + 1, &limit) < 0)
		return false;
	if (s->now.tv_sec - used.tv_sec > INT64_MAX / NSEC_PER_SEC / 2 ||
	    used.tv_sec - s->now.tv_sec > INT64_MAX / NSEC_PER_SEC / 2)
		age = used.tv_sec < s->now.tv_sec ? INT64_MAX : INT64_MIN;
	else
		age = (int64_t)(s->now.tv_sec - used.tv_sec) * NSEC_PER_SEC + s->now.tv_nsec -
		      used.tv_nsec;
	return *op == '<' ? age < limit : age > limit;
}

/* containerd.io/gc.cond.snapshot.<snapshotter> = <condition>[,<condition>]|<key>: while one of the
 * conditions holds for the snapshot, it lives as long as who carries the label. */
static int conditional(struct scan *s, struct gc_node *carrier, struct bolt_slice key,
		       struct bolt_slice value)
{
	struct arena *a = s->g->arena;
	char *text = arena_strndup(a, value.data, value.len), *bar, **conditions, *used_text;
	struct bolt_bucket *b = bolt_bucket(s->bucket, bolt_s("snapshots"));
	struct bolt_slice sn, used_value;
	struct timespec used;
	size_t n;

	if (!is_snapshot_label(key, "snapshot.", &sn) && !is_snapshot_label(key, "snapshot/", &sn))
		return 0;
	bar = text ? strchr(text, '|') : NULL;
	if (!bar)
		return text ? 0 : -ENOMEM;
	*bar++ = 0;
	b = b ? bolt_bucket(b, sn) : NULL;
	b = b ? bolt_bucket(b, bolt_s(bar)) : NULL;
	b = b ? bolt_bucket(b, bolt_s("labels")) : NULL;
	if (!b || !bolt_get(b, bolt_s(LABEL_USED_AT), &used_value))
		return 0;
	used_text = arena_strndup(a, used_value.data, used_value.len);
	conditions = str_split(a, text, ',', &n);
	if (!used_text || !conditions)
		return -ENOMEM;
	if (time_parse_rfc3339(used_text, &used) < 0)
		return 0;
	for (size_t i = 0; i < n; i++)
		if (condition_holds(s, conditions[i], used))
			return gc_graph_edge(s->g, carrier, snapshot_node(s, sn, bolt_s(bar)),
					     false);
	return 0;
}

/* One label of @carrier. */
static int label(struct scan *s, struct gc_node *carrier, struct bolt_slice key,
		 struct bolt_slice value)
{
	const size_t n = strlen(LABEL_GC);
	const char *k = (const char *)key.data + n;
	size_t len = key.len - n;
	struct gc_node *other;
	int rc;

	if (key.len <= n || memcmp(key.data, LABEL_GC, n) != 0)
		return 0;
	if (len > 4 && memcmp(k, "ref.", 4) == 0) {
		other = named(s, bolt_b(k + 4, len - 4), value, &rc);
		return other ? gc_graph_edge(s->g, carrier, other, false) : rc;
	}
	if (len > 5 && memcmp(k, "bref.", 5) == 0) {
		other = named(s, bolt_b(k + 5, len - 5), value, &rc);
		return other ? gc_graph_edge(s->g, other, carrier, false) : rc;
	}
	if (len >= 4 && memcmp(k, "root", 4) == 0)
		return carrier->type == GC_CONTENT || carrier->type == GC_SNAPSHOT ||
				       carrier->type >= GC_COLLECTOR
			       ? gc_graph_root(s->g, carrier, GC_FULL)
			       : 0;
	if (len > 5 && memcmp(k, "cond.", 5) == 0 &&
	    (carrier->type == GC_CONTENT || carrier->type == GC_IMAGE))
		return conditional(s, carrier, bolt_b(k + 5, len - 5), value);
	return 0;
}

static int labels(struct scan *s, struct gc_node *carrier, struct bolt_bucket *record)
{
	struct bolt_bucket *b = bolt_bucket(record, bolt_s("labels"));
	struct bolt_slice prefix = bolt_s(LABEL_GC);
	struct bolt_cursor c;
	struct bolt_item it;
	int rc = 0;

	if (!b)
		return 0;
	bolt_cursor_init(&c, b);
	for (bool ok = bolt_seek(&c, prefix, &it); rc == 0 && ok; ok = bolt_next(&c, &it)) {
		if (it.key.len < prefix.len || memcmp(it.key.data, prefix.data, prefix.len) != 0)
			break;
		if (!it.is_bucket)
			rc = label(s, carrier, it.key, it.value);
	}
	return rc;
}

/* True when the record has gc.expire and that time is over; a value that is no time is ignored. */
static bool is_expired(struct scan *s, struct bolt_bucket *record)
{
	struct bolt_bucket *b = bolt_bucket(record, bolt_s("labels"));
	struct timespec until;
	struct bolt_slice v;
	char text[64];

	if (!b || !bolt_get(b, bolt_s(LABEL_GC "expire"), &v) || v.len >= sizeof(text))
		return false;
	memcpy(text, v.data, v.len);
	text[v.len] = 0;
	return time_parse_rfc3339(text, &until) == 0 && time_cmp(until, s->now) < 0;
}

/* ---- records ---- */

static struct gc_node *present(struct gc_node *n)
{
	if (n)
		n->present = true;
	return n;
}

/* Each key of the lease's bucket @name is a root. */
static int leased(struct scan *s, struct bolt_bucket *b, unsigned int type, struct bolt_slice sn)
{
	struct bolt_cursor c;
	struct bolt_item it;
	int rc = 0;

	if (!b)
		return 0;
	bolt_cursor_init(&c, b);
	for (bool ok = bolt_first(&c, &it); rc == 0 && ok; ok = bolt_next(&c, &it)) {
		struct gc_node *n;

		if (it.is_bucket)
			continue;
		n = sn.data ? snapshot_node(s, sn, it.key) : node(s, type, it.key);
		rc = gc_graph_root(s->g, n, s->flat && type != GC_INGEST ? GC_FLAT : GC_FULL);
	}
	return rc;
}

static int leased_snapshots(struct scan *s, struct bolt_slice sn, struct bolt_bucket *b)
{
	return leased(s, b, GC_SNAPSHOT, sn);
}

static int lease(struct scan *s, struct bolt_slice key, struct bolt_bucket *b)
{
	struct gc_node *n = present(node(s, GC_LEASE, key));
	struct bolt_bucket *l = bolt_bucket(b, bolt_s("labels"));
	const struct bolt_slice none = {0};
	struct bolt_slice v;
	int rc;

	if (!n)
		return -ENOMEM;
	if (is_expired(s, b))
		return 0;
	s->flat = l && bolt_get(l, bolt_s(LABEL_GC "flat"), &v);
	rc = gc_graph_root(s->g, n, GC_FULL);
	if (rc == 0)
		rc = leased(s, bolt_bucket(b, bolt_s("content")), GC_CONTENT, none);
	if (rc == 0)
		rc = leased(s, bolt_bucket(b, bolt_s("images")), GC_IMAGE, none);
	if (rc == 0)
		rc = leased(s, bolt_bucket(b, bolt_s("ingests")), GC_INGEST, none);
	return rc < 0 ? rc : each(s, bolt_bucket(b, bolt_s("snapshots")), leased_snapshots);
}

static int image(struct scan *s, struct bolt_slice key, struct bolt_bucket *b)
{
	struct gc_node *n = present(node(s, GC_IMAGE, key));
	struct bolt_bucket *target = bolt_bucket(b, bolt_s("target"));
	struct bolt_slice digest;
	int rc = n ? 0 : -ENOMEM;

	if (rc == 0 && target && bolt_get(target, bolt_s("digest"), &digest))
		rc = gc_graph_edge(s->g, n, node(s, GC_CONTENT, digest), true);
	if (rc == 0)
		rc = labels(s, n, b);
	return rc < 0 || is_expired(s, b) ? rc : gc_graph_root(s->g, n, GC_FULL);
}

static int blob(struct scan *s, struct bolt_slice key, struct bolt_bucket *b)
{
	struct gc_node *n = present(node(s, GC_CONTENT, key));

	return n ? labels(s, n, b) : -ENOMEM;
}

static int ingest(struct scan *s, struct bolt_slice key, struct bolt_bucket *b)
{
	struct gc_node *n = present(node(s, GC_INGEST, key));
	struct timespec until = schema_get_time(b, "expireat");
	struct bolt_slice expected;
	int rc = n ? 0 : -ENOMEM;

	if (rc == 0 && bolt_get(b, bolt_s("expected"), &expected) && expected.len)
		rc = gc_graph_edge(s->g, n, node(s, GC_CONTENT, expected), true);
	if (rc < 0 || time_is_zero(until) || time_cmp(until, s->now) < 0)
		return rc;
	return gc_graph_root(s->g, n, GC_FULL);
}

static int container(struct scan *s, struct bolt_slice key, struct bolt_bucket *b)
{
	struct gc_node *n = present(node(s, GC_CONTAINER, key));
	struct bolt_slice sn, snapshot;
	int rc = gc_graph_root(s->g, n, GC_FULL);

	if (rc == 0 && bolt_get(b, bolt_s("snapshotter"), &sn) && sn.len &&
	    bolt_get(b, bolt_s("snapshotKey"), &snapshot))
		rc = gc_graph_edge(s->g, n, snapshot_node(s, sn, snapshot), true);
	return rc < 0 ? rc : labels(s, n, b);
}

static int sandbox(struct scan *s, struct bolt_slice key, struct bolt_bucket *b)
{
	struct gc_node *n = present(node(s, GC_SANDBOX, key));
	int rc = gc_graph_root(s->g, n, GC_FULL);

	return rc < 0 ? rc : labels(s, n, b);
}

static int snapshots(struct scan *s, struct bolt_slice sn, struct bolt_bucket *all)
{
	struct bolt_cursor c;
	struct bolt_item it;
	int rc = 0;

	bolt_cursor_init(&c, all);
	for (bool ok = bolt_first(&c, &it); rc == 0 && ok; ok = bolt_next(&c, &it)) {
		struct bolt_slice parent;
		struct bolt_bucket *b;
		struct gc_node *n;

		if (!it.is_bucket)
			continue;
		b = bolt_bucket(all, it.key);
		n = present(snapshot_node(s, sn, it.key));
		if (!b || !n)
			return -ENOMEM;
		if (bolt_get(b, bolt_s("parent"), &parent) && parent.len)
			rc = gc_graph_edge(s->g, n, snapshot_node(s, sn, parent), true);
		if (rc == 0)
			rc = labels(s, n, b);
	}
	return rc;
}

static int namespace(struct scan *s, struct bolt_slice key, struct bolt_bucket *b)
{
	struct bolt_bucket *content = bolt_bucket(b, bolt_s("content"));
	int rc;

	s->ns = schema_key(s->g->arena, key);
	if (!s->ns)
		return -ENOMEM;
	s->bucket = b;
	rc = each(s, bolt_bucket(b, bolt_s("leases")), lease);
	if (rc == 0)
		rc = each(s, bolt_bucket(b, bolt_s("images")), image);
	if (rc == 0 && content)
		rc = each(s, bolt_bucket(content, bolt_s("blob")), blob);
	if (rc == 0 && content)
		rc = each(s, bolt_bucket(content, bolt_s("ingests")), ingest);
	if (rc == 0)
		rc = each(s, bolt_bucket(b, bolt_s("containers")), container);
	if (rc == 0)
		rc = each(s, bolt_bucket(b, bolt_s("snapshots")), snapshots);
	return rc < 0 ? rc : each(s, bolt_bucket(b, bolt_s("sandboxes")), sandbox);
}

int gc_scan_records(struct db *db, struct bolt_tx *tx, struct gc_graph *g)
{
	struct scan s = {.db = db, .g = g, .now = time_now()};

	return each(&s, schema_find(tx, NULL, 0), namespace);
}

/* ---- collectors ---- */

struct collector_scan {
	struct scan scan;
	unsigned int type;
};

static int collector_add(void *arg, const struct gc_resource *r)
{
	struct collector_scan *c = arg;
	struct scan *s = &c->scan;
	struct gc_node *n, *l;
	int rc = 0;

	s->ns = arena_strdup(s->g->arena, r->ns);
	n = s->ns ? present(node(s, c->type, bolt_s(r->name))) : NULL;
	if (!n)
		return -ENOMEM;
	if (r->active)
		rc = gc_graph_root(s->g, n, GC_FULL);
	if (rc == 0 && !str_empty(r->lease)) {
		l = node(s, GC_LEASE, bolt_s(r->lease));
		rc = gc_graph_edge(s->g, l, n, true);
	}
	for (size_t i = 0; rc == 0 && r->labels && i < r->labels->n; i++)
		rc = label(s, n, bolt_s(r->labels->v[i].key), bolt_s(r->labels->v[i].value));
	return rc;
}

int gc_scan_collector(struct db *db, size_t i, struct gc_graph *g)
{
	struct collector_scan c = {.scan = {.db = db, .g = g, .now = time_now()},
				   .type = GC_COLLECTOR + (unsigned int)i};

	return db->collectors[i].begin(db->collectors[i].arg, collector_add, &c);
}
