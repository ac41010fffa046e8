/* SPDX-License-Identifier: Apache-2.0 */
/* One collection:
 *
 *     1  with gc_lock held for writing, so that no record changes: read all into a graph, mark,
 * delete the records that were not reached 2  publish what was deleted 3  for each snapshotter that
 * may have too much, with its lock held for writing: remove what no record names, children first;
 *        then without the lock its directories
 *     4  the same for the content store's blobs and ingests
 *
 * Steps 3 and 4 look at the records again: what was named in the meantime stays. They are left out
 * while nothing was deleted (the dirty flags, which are set at start). A back end that fails is
 * logged and tried again by the next collection.
 */
#include "core/gc.h"

#include "base/log.h"
#include "base/str.h"
#include "core/content.h"
#include "core/db_internal.h"
#include "core/gc_graph.h"
#include "core/gc_scan.h"
#include "core/schema.h"
#include "core/snapshot.h"
#include "protos.h"

int gc_add_collector(struct db *db, const struct gc_collector *c, struct err *err)
{
	WRITE_GUARD(&db->gc_lock);

	if (db->n_collectors == DB_COLLECTORS_MAX)
		return err_set(err, ERR_RESOURCE_EXHAUSTED, "more than %d collectors",
			       DB_COLLECTORS_MAX);
	db->collectors[db->n_collectors++] = *c;
	return 0;
}

void gc_remove_collector(struct db *db, const void *arg)
{
	size_t n = 0;
	WRITE_GUARD(&db->gc_lock);

	for (size_t i = 0; i < db->n_collectors; i++)
		if (db->collectors[i].arg != arg)
			db->collectors[n++] = db->collectors[i];
	db->n_collectors = n;
}

/* ---- records ---- */

struct collection {
	struct db *db;
	struct gc_graph graph;
	bool began[DB_COLLECTORS_MAX];
};

static int scan(struct bolt_tx *tx, void *arg)
{
	struct collection *c = arg;

	return gc_scan_records(c->db, tx, &c->graph);
}

static bool is_dead(const struct gc_node *n)
{
	return n->present && n->mark == GC_WHITE;
}

static int delete_key(struct bolt_bucket *b, const char *key)
{
	return b ? schema_drop(b, key) : 0;
}

/* Also from its parent's list of children, when that stays. */
static int delete_snapshot(struct bolt_tx *tx, const struct gc_node *n)
{
	const char *slash = strchr(n->key, '/');
	struct bolt_bucket *all, *b, *parent = NULL;
	struct bolt_slice name;
	char sn[256];
	int rc = 0;

	if (!slash || (size_t)(slash - n->key) >= sizeof(sn))
		return -EBADMSG;
	memcpy(sn, n->key, (size_t)(slash - n->key));
	sn[slash - n->key] = 0;
	all = SCHEMA_FIND(tx, n->ns, "snapshots", sn);
	b = all ? bolt_bucket(all, bolt_s(slash + 1)) : NULL;
	if (!b)
		return 0;
	if (bolt_get(b, bolt_s("parent"), &name) && name.len)
		parent = bolt_bucket(all, name);
	if (parent)
		parent = bolt_bucket(parent, bolt_s("children"));
	if (parent)
		rc = bolt_delete(parent, bolt_s(slash + 1));
	return rc < 0 ? rc : bolt_bucket_delete(all, bolt_s(slash + 1));
}

static int sweep(struct bolt_tx *tx, void *arg, struct err *err)
{
	struct collection *c = arg;
	int rc = 0;

	for (const struct gc_node *n = c->graph.first; rc == 0 && n; n = n->next) {
		if (!is_dead(n))
			continue;
		switch (n->type) {
		case GC_CONTENT:
			rc = delete_key(SCHEMA_FIND(tx, n->ns, "content", "blob"), n->key);
			break;
		case GC_INGEST:
			rc = delete_key(SCHEMA_FIND(tx, n->ns, "content", "ingests"), n->key);
			break;
		case GC_IMAGE:
			rc = delete_key(SCHEMA_FIND(tx, n->ns, "images"), n->key);
			break;
		case GC_LEASE:
			rc = delete_key(SCHEMA_FIND(tx, n->ns, "leases"), n->key);
			break;
		case GC_SNAPSHOT:
			rc = delete_snapshot(tx, n);
			break;
		default:
			break;
		}
		if (rc < 0)
			return err_errno(err, rc, "sweep %s of namespace %s", n->key, n->ns);
	}
	return 0;
}

static void mark_backends_dirty(struct collection *c, const struct gc_node *n)
{
	struct db *db = c->db;

	if (n->type == GC_CONTENT || n->type == GC_INGEST)
		db->content_dirty = true;
	for (size_t i = 0; n->type == GC_SNAPSHOT && i < db->n_snapshotters; i++) {
		const char *rest = str_skip(n->key, db->snapshotters[i].sn->name);

		if (rest && *rest == '/')
			db->snapshotters[i].dirty = true;
	}
}

static int mark_and_sweep(struct collection *c, struct err *err)
{
	size_t n_dead = 0;
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < c->db->n_collectors; i++) {
		rc = gc_scan_collector(c->db, i, &c->graph);
		c->began[i] = rc == 0;
	}
	if (rc == 0)
		rc = bolt_view(c->db->bolt, scan, c);
	if (rc == 0)
		rc = gc_graph_mark(&c->graph);
	if (rc < 0)
		return err_errno(err, rc, "mark");
	for (const struct gc_node *n = c->graph.first; n; n = n->next)
		n_dead += is_dead(n) && n->type < GC_COLLECTOR;
	if (n_dead) {
		rc = db_update_locked(c->db, sweep, c, err);
		if (rc < 0)
			return rc;
	}
	for (const struct gc_node *n = c->graph.first; n; n = n->next)
		if (is_dead(n))
			mark_backends_dirty(c, n);
	return 0;
}

/* Tells collectors what is dead; nothing when the collection failed. */
static void end_collectors(struct collection *c, bool failed)
{
	for (size_t i = 0; i < c->db->n_collectors; i++) {
		struct gc_resource *dead = NULL;
		size_t n_dead = 0, cap = 0;

		if (!c->began[i])
			continue;
		for (const struct gc_node *n = c->graph.first; n && !failed; n = n->next) {
			if (n->type != GC_COLLECTOR + i || !is_dead(n))
				continue;
			dead = arena_grow(c->graph.arena, dead, &cap, n_dead + 1, sizeof(*dead));
			if (!dead) {
				n_dead = 0;
				break;
			}
			dead[n_dead++] = (struct gc_resource){.ns = n->ns, .name = n->key};
		}
		c->db->collectors[i].end(c->db->collectors[i].arg, dead, n_dead);
	}
}

static void publish(struct ctx *ctx, struct collection *c)
{
	Containerd__Services__Images__V1__ImageDelete image =
		CONTAINERD__SERVICES__IMAGES__V1__IMAGE_DELETE__INIT;
	Containerd__Events__SnapshotRemove snapshot = CONTAINERD__EVENTS__SNAPSHOT_REMOVE__INIT;
	const char *ns = ctx->ns;

	for (const struct gc_node *n = c->graph.first; n; n = n->next) {
		const char *slash = strchr(n->key, '/');

		if (!is_dead(n))
			continue;
		ctx->ns = n->ns;
		if (n->type == GC_IMAGE) {
			image.name = (char *)n->key;
			db_publish(ctx, c->db, "/images/delete", &image.base);
		} else if (n->type == GC_SNAPSHOT && slash) {
			snapshot.key = (char *)slash + 1;
			snapshot.snapshotter =
				arena_strndup(ctx->arena, n->key, (size_t)(slash - n->key));
			if (snapshot.snapshotter)
				db_publish(ctx, c->db, "/snapshot/remove", &snapshot.base);
		}
	}
	ctx->ns = ns;
}

/* ---- snapshotters ---- */

struct clean {
	struct ctx *ctx;
	struct db *db;
	struct db_snapshotter *s;
	struct gc_graph set; /* names of the back end that are recorded: present */
};

/* Adds the value of @key of each bucket in @all. */
static int add_values(struct clean *c, struct bolt_bucket *all, unsigned int type, const char *key)
{
	struct bolt_cursor cur;
	struct bolt_item it;

	if (!all)
		return 0;
	bolt_cursor_init(&cur, all);
	for (bool ok = bolt_first(&cur, &it); ok; ok = bolt_next(&cur, &it)) {
		struct bolt_bucket *b = it.is_bucket ? bolt_bucket(all, it.key) : NULL;
		struct bolt_slice v = it.key;
		struct gc_node *n;

		if (!b)
			continue;
		if (key && !(bolt_get(b, bolt_s(key), &v) && v.len))
			continue;
		n = gc_graph_node(&c->set, type, "", v);
		if (!n)
			return -ENOMEM;
		n->present = true;
	}
	return 0;
}

static int add_recorded_snapshots(struct bolt_tx *tx, void *arg)
{
	struct clean *c = arg;
	const char **names;
	size_t n;
	int rc = schema_keys(c->set.arena, schema_find(tx, NULL, 0), true, &names, &n);

	for (size_t i = 0; rc == 0 && i < n; i++)
		rc = add_values(c, SCHEMA_FIND(tx, names[i], "snapshots", c->s->sn->name),
				GC_SNAPSHOT, "name");
	return rc;
}

/* Of what the back end has: user = its parent's node, count = its children (with one's own
 * existence as 1). */
static int add_backend_snapshot(void *arg, const struct snapshot_info *i)
{
	struct clean *c = arg;
	struct gc_node *n = gc_graph_node(&c->set, GC_SNAPSHOT, "", bolt_s(i->name)), *parent;

	if (!n)
		return -ENOMEM;
	n->count++;
	if (str_empty(i->parent))
		return 0;
	parent = gc_graph_node(&c->set, GC_SNAPSHOT, "", bolt_s(i->parent));
	if (!parent)
		return -ENOMEM;
	parent->count++;
	n->user = parent;
	return 0;
}

/* Removes @n, and then its ancestors that have no other child and no record. */
static int remove_upward(struct clean *c, struct gc_node *n, struct err *err)
{
	struct snapshotter *sn = c->s->sn;

	while (n && !n->present && n->count == 1) {
		struct gc_node *parent = n->user;
		int rc = sn->ops->remove(c->ctx, sn, n->key, err);

		if (rc < 0 && rc != -ERR_NOT_FOUND)
			return rc;
		n->count = 0;
		if (parent)
			parent->count--;
		n = parent;
	}
	return 0;
}

static int clean_snapshots(struct clean *c, struct err *err)
{
	struct snapshotter *sn = c->s->sn;
	struct err one = ERR_INIT;
	int rc, first = 0;
	WRITE_GUARD(&c->s->lock);

	c->s->dirty = false;
	rc = bolt_view(c->db->bolt, add_recorded_snapshots, c);
	if (rc < 0)
		return err_errno(err, rc, "read records");
	rc = sn->ops->walk(c->ctx, sn, add_backend_snapshot, c, err);
	if (rc < 0)
		return rc == -ENOMEM ? err_nomem(err) : rc;
	for (struct gc_node *n = c->set.first; n; n = n->next) {
		rc = remove_upward(c, n, &one);
		if (rc < 0 && first == 0)
			first = err_copy(err, &one);
	}
	return first;
}

static void clean_snapshotter(struct ctx *ctx, struct db *db, struct db_snapshotter *s)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	struct ctx own = {.arena = a, .ns = "", .lease = "", .deadline = ctx->deadline};
	struct clean c = {.ctx = &own, .db = db, .s = s};
	struct err err = ERR_INIT;
	int rc, x;

	if (!a || gc_graph_init(&c.set, a) < 0)
		rc = err_nomem(&err);
	else
		rc = clean_snapshots(&c, &err);
	/* Also when a removal failed: the directories of the others are to go. */
	x = a && s->sn->ops->cleanup ? s->sn->ops->cleanup(&own, s->sn, rc < 0 ? NULL : &err) : 0;
	if (rc == 0)
		rc = x;
	if (rc < 0 && rc != -ERR_UNIMPLEMENTED) {
		s->dirty = true;
		log_at(LOG_WARN, LOG_FIELDS("snapshotter", s->sn->name, "error", err.text),
		       "snapshot garbage collection failed");
	}
}

/* ---- content ---- */

static int add_recorded_content(struct bolt_tx *tx, void *arg)
{
	struct clean *c = arg;
	const char **names;
	size_t n;
	int rc = schema_keys(c->set.arena, schema_find(tx, NULL, 0), true, &names, &n);

	for (size_t i = 0; rc == 0 && i < n; i++) {
		struct bolt_bucket *ingests = SCHEMA_FIND(tx, names[i], "content", "ingests");

		rc = add_values(c, SCHEMA_FIND(tx, names[i], "content", "blob"), GC_CONTENT, NULL);
		if (rc == 0)
			rc = add_values(c, ingests, GC_CONTENT, "expected");
		if (rc == 0)
			rc = add_values(c, ingests, GC_INGEST, "ref");
	}
	return rc;
}

static int add_stored_blob(void *arg, const struct content_info *i)
{
	struct clean *c = arg;

	return gc_graph_node(&c->set, GC_CONTENT, "", bolt_s(i->digest)) ? 0 : -ENOMEM;
}

static int remove_content(struct clean *c, struct err *err)
{
	struct content_store *s = c->db->content;
	struct err one = ERR_INIT;
	int rc, first = 0;

	for (const struct gc_node *n = c->set.first; n; n = n->next) {
		if (n->present)
			continue;
		rc = n->type == GC_CONTENT ? s->ops->remove(c->ctx, s, n->key, &one)
					   : s->ops->abort(c->ctx, s, n->key, &one);
		if (rc < 0 && rc != -ERR_NOT_FOUND && first == 0)
			first = err_copy(err, &one);
	}
	return first;
}

static int clean_store(struct clean *c, struct err *err)
{
	struct content_store *s = c->db->content;
	struct content_status *ingests;
	size_t n;
	int rc;
	WRITE_GUARD(&c->db->content_lock);

	c->db->content_dirty = false;
	rc = bolt_view(c->db->bolt, add_recorded_content, c);
	if (rc < 0)
		return err_errno(err, rc, "read records");
	rc = s->ops->walk(c->ctx, s, add_stored_blob, c, err);
	if (rc < 0)
		return rc == -ENOMEM ? err_nomem(err) : rc;
	rc = s->ops->list_status(c->ctx, s, &ingests, &n, err);
	for (size_t i = 0; rc == 0 && i < n; i++)
		if (!gc_graph_node(&c->set, GC_INGEST, "", bolt_s(ingests[i].ref)))
			rc = err_nomem(err);
	return rc < 0 ? rc : remove_content(c, err);
}

static void clean_content(struct ctx *ctx, struct db *db)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	struct ctx own = {.arena = a, .ns = "", .lease = "", .deadline = ctx->deadline};
	struct clean c = {.ctx = &own, .db = db};
	struct err err = ERR_INIT;
	int rc;

	if (!a || gc_graph_init(&c.set, a) < 0)
		rc = err_nomem(&err);
	else
		rc = clean_store(&c, &err);
	if (rc < 0) {
		db->content_dirty = true;
		log_at(LOG_WARN, LOG_FIELDS("error", err.text),
		       "content garbage collection failed");
	}
}

/* ---- all of it ---- */

int gc_run(struct ctx *ctx, struct db *db, struct err *err)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	struct collection c = {.db = db};
	int rc;

	if (!a || gc_graph_init(&c.graph, a) < 0)
		return err_nomem(err);
	{
		WRITE_GUARD(&db->gc_lock);

		rc = mark_and_sweep(&c, err);
		end_collectors(&c, rc < 0);
	}
	if (rc < 0)
		return rc;
	publish(ctx, &c);
	/* Content first: that needs no room on the disk, as a snapshotter's records do. */
	if (db->content && db->content_dirty)
		clean_content(ctx, db);
	for (size_t i = 0; i < db->n_snapshotters; i++)
		if (db->snapshotters[i].dirty)
			clean_snapshotter(ctx, db, &db->snapshotters[i]);
	bolt_trim(db->bolt);
	return 0;
}
