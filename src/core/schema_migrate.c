/* SPDX-License-Identifier: Apache-2.0 */
/* Migrations of meta.db, in one transaction, from the version in the file up to SCHEMA_VERSION.
 *
 *     1  every snapshot is listed among its parent's children
 *     2  content/ingest (ref -> name in the back end) becomes content/ingests/<ref>/ref
 *     3  nothing
 *     4  sandboxes move from <namespace>/sandboxes at the top to v1/<namespace>/sandboxes
 *
 * A file without v1 is new. A file that is newer than we are is left as it is: its schema only ever
 * grew.
 */
#include "base/str.h"
#include "core/db_internal.h"
#include "core/schema.h"

#define BUCKET_DEPTH_MAX 32

struct migration {
	struct arena *arena;
	struct bolt_tx *tx;
};

/* Calls @fn for each sub-bucket; the keys are collected first, as @fn changes buckets. */
static int each_bucket(struct migration *m, struct bolt_bucket *b,
		       int (*fn)(struct migration *m, struct bolt_bucket *parent, const char *key,
				 struct bolt_bucket *child))
{
	const char **keys;
	size_t n;
	int rc = schema_keys(m->arena, b, true, &keys, &n);

	for (size_t i = 0; rc == 0 && i < n; i++) {
		struct bolt_bucket *child = bolt_bucket(b, bolt_s(keys[i]));

		rc = child ? fn(m, b, keys[i], child) : -ENOMEM;
	}
	return rc;
}

static int snapshot_link(struct migration *m, struct bolt_bucket *snapshots, const char *key,
			 struct bolt_bucket *snapshot)
{
	struct bolt_bucket *parent, *children;
	const char *name;
	int rc = schema_get_str(m->arena, snapshot, "parent", &name);

	if (rc < 0 || !*name)
		return rc;
	parent = bolt_bucket(snapshots, bolt_s(name));
	if (!parent)
		return 0;
	rc = bolt_bucket_create_if_missing(parent, bolt_s("children"), &children);
	return rc < 0 ? rc : bolt_put(children, bolt_s(key), bolt_s(""));
}

static int snapshotter_link(struct migration *m, struct bolt_bucket *parent, const char *key,
			    struct bolt_bucket *snapshots)
{
	(void)parent;
	(void)key;
	return each_bucket(m, snapshots, snapshot_link);
}

static int namespace_link(struct migration *m, struct bolt_bucket *parent, const char *key,
			  struct bolt_bucket *ns)
{
	struct bolt_bucket *b = bolt_bucket(ns, bolt_s("snapshots"));

	(void)parent;
	(void)key;
	return b ? each_bucket(m, b, snapshotter_link) : 0;
}

static int namespace_ingests(struct migration *m, struct bolt_bucket *parent, const char *key,
			     struct bolt_bucket *ns)
{
	struct bolt_bucket *content = bolt_bucket(ns, bolt_s("content")), *old, *ingests, *b;
	const char **refs, *name;
	size_t n;
	int rc;

	(void)parent;
	(void)key;
	old = content ? bolt_bucket(content, bolt_s("ingest")) : NULL;
	if (!old)
		return 0;
	rc = bolt_bucket_create_if_missing(content, bolt_s("ingests"), &ingests);
	if (rc == 0)
		rc = schema_keys(m->arena, old, false, &refs, &n);
	for (size_t i = 0; rc == 0 && i < n; i++) {
		rc = schema_get_str(m->arena, old, refs[i], &name);
		if (rc == 0)
			rc = bolt_bucket_create_if_missing(ingests, bolt_s(refs[i]), &b);
		if (rc == 0)
			rc = schema_put_str(b, "ref", name);
	}
	return rc < 0 ? rc : schema_drop(content, "ingest");
}

static int bucket_copy(struct migration *m, struct bolt_bucket *to, struct bolt_bucket *from,
		       int depth)
{
	const char **keys, *value;
	size_t n;
	int rc = depth > BUCKET_DEPTH_MAX ? -EBADMSG : bolt_set_sequence(to, bolt_sequence(from));

	if (rc == 0)
		rc = schema_keys(m->arena, from, false, &keys, &n);
	for (size_t i = 0; rc == 0 && i < n; i++) {
		struct bolt_slice s;

		if (!bolt_get(from, bolt_s(keys[i]), &s))
			return -EBADMSG;
		value = arena_memdup(m->arena, s.data, s.len);
		rc = value ? bolt_put(to, bolt_s(keys[i]), bolt_b(value, s.len)) : -ENOMEM;
	}
	if (rc == 0)
		rc = schema_keys(m->arena, from, true, &keys, &n);
	for (size_t i = 0; rc == 0 && i < n; i++) {
		struct bolt_bucket *child, *src = bolt_bucket(from, bolt_s(keys[i]));

		if (!src)
			return -ENOMEM;
		rc = bolt_bucket_create_if_missing(to, bolt_s(keys[i]), &child);
		if (rc == 0)
			rc = bucket_copy(m, child, src, depth + 1);
	}
	return rc;
}

static int namespace_sandboxes(struct migration *m, struct bolt_bucket *root, const char *key,
			       struct bolt_bucket *old)
{
	struct bolt_bucket *from, *to;
	int rc;

	if (streq(key, "v1"))
		return 0;
	from = bolt_bucket(old, bolt_s("sandboxes"));
	if (from) {
		rc = SCHEMA_MAKE(m->tx, &to, key, "sandboxes");
		if (rc == 0)
			rc = bucket_copy(m, to, from, 0);
		if (rc < 0)
			return rc;
	}
	return schema_drop(root, key);
}

static int migrate(struct bolt_tx *tx, void *arg)
{
	struct migration m = {.arena = arg, .tx = tx};
	struct bolt_bucket *v1 = schema_find(tx, NULL, 0);
	int64_t version = v1 ? schema_get_int(v1, "version") : SCHEMA_VERSION;
	int rc = v1 ? 0 : schema_make(tx, NULL, 0, &v1);

	if (rc == 0 && version < 1)
		rc = each_bucket(&m, v1, namespace_link);
	if (rc == 0 && version < 2)
		rc = each_bucket(&m, v1, namespace_ingests);
	if (rc == 0 && version < 4)
		rc = each_bucket(&m, bolt_root(tx), namespace_sandboxes);
	return rc < 0 ? rc : schema_put_int(v1, "version", SCHEMA_VERSION);
}

static int version_read(struct bolt_tx *tx, void *arg)
{
	struct bolt_bucket *v1 = schema_find(tx, NULL, 0);

	*(int64_t *)arg = v1 ? schema_get_int(v1, "version") : -1;
	return 0;
}

int schema_migrate(struct bolt *b, struct err *err)
{
	int64_t version = -1;
	_cleanup_arena_ struct arena *a = NULL;
	int rc = bolt_view(b, version_read, &version);

	if (rc < 0)
		return err_errno(err, rc, "read version");
	if (version >= SCHEMA_VERSION)
		return 0;
	a = arena_new(0);
	if (!a)
		return err_nomem(err);
	rc = bolt_update(b, migrate, a);
	return rc < 0 ? err_errno(err, rc, "from version %lld", (long long)version) : 0;
}
