/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>

#include "core/container.h"
#include "core/gc.h"
#include "core/image.h"
#include "core/lease.h"
#include "core/schema.h"
#include "fake_snapshotter.h"

#define PAST "2001-01-01T00:00:00Z"
#define FUTURE "2999-01-01T00:00:00Z"

static const struct timespec now_please;

/* Puts @text as a blob with one label (@key NULL = none); returns its digest. */
static const char *blob(struct fix *f, const char *text, const char *key, const char *value)
{
	struct digest *d = arena_new_obj(f->arena, struct digest);
	struct labels l = {0};
	struct descriptor desc = {.digest = d->text, .size = (int64_t)strlen(text)};

	digest_of(DIGEST_SHA256, text, strlen(text), d);
	if (key)
		l = make_labels(f->arena, key, value, NULL);
	assert_ok(content_put(&f->ctx, f->db, text, &desc, text, &l, &f->err));
	return d->text;
}

static void image(struct fix *f, const char *name, const char *digest, const char *key,
		  const char *value)
{
	struct image i = {.name = name, .target = {.digest = digest, .media_type = "x", .size = 1}};

	if (key)
		i.labels = make_labels(f->arena, key, value, NULL);
	assert_ok(image_create(&f->ctx, f->db, &i, now_please, &i, &f->err));
}

static void layer(struct fix *f, const char *name, const char *parent, const char *key,
		  const char *value)
{
	struct labels l = {0};
	struct mounts m;

	if (key)
		l = make_labels(f->arena, key, value, NULL);
	assert_ok(snapshot_prepare(&f->ctx, f->db, "fake", SNAPSHOT_ACTIVE, "tmp", parent, NULL, &m,
				   &f->err));
	assert_ok(snapshot_commit(&f->ctx, f->db, "fake", name, "tmp", "", &l, &f->err));
}

static void collect(struct fix *f)
{
	assert_ok(gc_run(&f->ctx, f->db, &f->err));
}

static bool has_blob(struct fix *f, const char *digest)
{
	struct content_info i, stored;
	bool recorded = content_info(&f->ctx, f->db, digest, &i, NULL) == 0;

	/* Nobody else uses it in these tests: record and bytes go together. */
	assert_int_equal(recorded,
			 f->content->ops->info(&f->ctx, f->content, digest, &stored, NULL) == 0);
	return recorded;
}

static bool has_layer(struct fix *f, struct fake *s, const char *name)
{
	const char *suffix = arena_printf(f->arena, "/%s", name);
	struct snapshot_info i;
	bool recorded = snapshot_stat(&f->ctx, f->db, "fake", name, &i, NULL) == 0;
	bool stored = false;

	for (size_t k = 0; k < s->n; k++)
		stored |= str_has_suffix(s->v[k].name, suffix);
	assert_int_equal(recorded, stored);
	return recorded;
}

static bool has_image(struct fix *f, const char *name)
{
	struct image i;

	return image_get(&f->ctx, f->db, name, &i, NULL) == 0;
}

static void image_keeps_what_its_target_refers_to(void **state)
{
	struct fix *f = *state;
	struct fake s;
	const char *layer_blob, *config, *manifest, *index, *stray;

	fake_init(&s, f);
	layer(f, "l1", "", NULL, NULL);
	layer(f, "l2", "l1", NULL, NULL);
	layer(f, "stray", "l1", NULL, NULL);
	layer_blob = blob(f, "layer", NULL, NULL);
	config = blob(f, "config", "containerd.io/gc.ref.snapshot.fake", "l2");
	manifest = blob(f, "manifest", "containerd.io/gc.ref.content.config", config);
	index = blob(f, "index", "containerd.io/gc.ref.content.m.0", manifest);
	stray = blob(f, "stray", "containerd.io/gc.ref.content.0", layer_blob);
	image(f, "x", index, "containerd.io/gc.ref.content/l", layer_blob);
	collect(f);
	assert_true(has_blob(f, index));
	assert_true(has_blob(f, manifest));
	assert_true(has_blob(f, config));
	assert_true(has_blob(f, layer_blob));
	assert_false(has_blob(f, stray));
	assert_true(has_layer(f, &s, "l1"));
	assert_true(has_layer(f, &s, "l2"));
	assert_false(has_layer(f, &s, "stray"));
	assert_int_equal(s.cleanups, 1);
	/* One whose cleanup is the collector's has none for clients. */
	assert_ok(snapshot_cleanup(&f->ctx, f->db, "fake", &f->err));
	assert_int_equal(s.cleanups, 2);
	s.base.own_cleanup = true;
	assert_err(snapshot_cleanup(&f->ctx, f->db, "fake", &f->err), ERR_UNIMPLEMENTED,
		   "snapshotter does not implement Cleanup method: not implemented");
	assert_ok(image_delete(&f->ctx, f->db, "x", NULL, &f->err));
	collect(f);
	assert_int_equal(s.cleanups, 3);
	assert_false(has_blob(f, index));
	assert_false(has_blob(f, layer_blob));
	assert_false(has_layer(f, &s, "l1"));
	assert_int_equal(s.n, 0);
	/* Children went before their parents. */
	assert_non_null(strstr(s.removed[0], "/stray"));
	assert_non_null(strstr(s.removed[1], "/l2"));
	assert_non_null(strstr(s.removed[2], "/l1"));
}

static void container_keeps_its_snapshot(void **state)
{
	struct fix *f = *state;
	struct container c = {
		.id = "c", .runtime_name = "r", .snapshotter = "fake", .snapshot_key = "rw"};
	struct mounts m;
	struct fake s;

	fake_init(&s, f);
	layer(f, "base", "", NULL, NULL);
	assert_ok(snapshot_prepare(&f->ctx, f->db, "fake", SNAPSHOT_ACTIVE, "rw", "base", NULL, &m,
				   &f->err));
	assert_ok(container_create(&f->ctx, f->db, &c, &c, &f->err));
	collect(f);
	assert_true(has_layer(f, &s, "rw"));
	assert_true(has_layer(f, &s, "base"));
	assert_ok(container_delete(&f->ctx, f->db, "c", &f->err));
	collect(f);
	assert_false(has_layer(f, &s, "rw"));
	assert_false(has_layer(f, &s, "base"));
}

static void root_label_keeps_content_and_snapshots(void **state)
{
	struct fix *f = *state;
	const char *kept, *referred;
	struct fake s;

	fake_init(&s, f);
	layer(f, "base", "", NULL, NULL);
	layer(f, "kept", "base", "containerd.io/gc.root", "x");
	layer(f, "gone", "base", NULL, NULL);
	referred = blob(f, "b", NULL, NULL);
	kept = blob(f, "a", "containerd.io/gc.root", "x");
	image(f, "expired", referred, "containerd.io/gc.expire", PAST);
	collect(f);
	assert_true(has_blob(f, kept));
	assert_true(has_layer(f, &s, "kept"));
	assert_true(has_layer(f, &s, "base"));
	assert_false(has_layer(f, &s, "gone"));
	assert_false(has_blob(f, referred));
	assert_false(has_image(f, "expired"));
}

static void lease_keeps_until_it_ends_or_expires(void **state)
{
	struct fix *f = *state;
	struct labels past = make_labels(f->arena, "containerd.io/gc.expire", PAST, NULL);
	struct labels bad = make_labels(f->arena, "containerd.io/gc.expire", "tomorrow", NULL);
	struct lease l, *all;
	const char *a, *b, *c;
	struct fake s;
	size_t n;

	fake_init(&s, f);
	assert_ok(lease_create(&f->ctx, f->db, "live", NULL, &l, &f->err));
	assert_ok(lease_create(&f->ctx, f->db, "over", &past, &l, &f->err));
	assert_ok(lease_create(&f->ctx, f->db, "odd", &bad, &l, &f->err));
	f->ctx.lease = "live";
	a = blob(f, "a", NULL, NULL);
	layer(f, "kept", "", NULL, NULL);
	f->ctx.lease = "over";
	b = blob(f, "b", NULL, NULL);
	layer(f, "gone", "", NULL, NULL);
	f->ctx.lease = "odd";
	c = blob(f, "c", NULL, NULL);
	f->ctx.lease = "";
	collect(f);
	assert_true(has_blob(f, a));
	assert_true(has_layer(f, &s, "kept"));
	assert_false(has_blob(f, b));
	assert_false(has_layer(f, &s, "gone"));
	assert_true(has_blob(f, c));
	assert_ok(lease_list(&f->ctx, f->db, NULL, &all, &n, &f->err));
	assert_int_equal(n, 2);
	assert_ok(lease_delete(&f->ctx, f->db, "live", &f->err));
	collect(f);
	assert_false(has_blob(f, a));
	assert_false(has_layer(f, &s, "kept"));
}

static void flat_lease_keeps_no_label_references(void **state)
{
	struct fix *f = *state;
	struct labels flat = make_labels(f->arena, "containerd.io/gc.flat", "1", NULL);
	struct lease_resource held = {.id = "top", .type = "snapshots/fake"};
	const char *child, *parent;
	struct lease l;
	struct fake s;

	fake_init(&s, f);
	assert_ok(lease_create(&f->ctx, f->db, "flat", &flat, &l, &f->err));
	child = blob(f, "child", NULL, NULL);
	layer(f, "base", "", NULL, NULL);
	layer(f, "top", "base", "containerd.io/gc.ref.content", child);
	f->ctx.lease = "flat";
	parent = blob(f, "parent", "containerd.io/gc.ref.content", child);
	f->ctx.lease = "";
	assert_ok(lease_add_resource(&f->ctx, f->db, "flat", &held, &f->err));
	collect(f);
	assert_true(has_blob(f, parent));
	assert_false(has_blob(f, child));
	assert_true(has_layer(f, &s, "top"));
	assert_true(has_layer(f, &s, "base"));
}

static void back_reference_keeps_its_carrier(void **state)
{
	struct fix *f = *state;
	struct container c = {.id = "c", .runtime_name = "r"};
	const char *root, *by_content, *by_image, *by_none;
	struct fake s;

	fake_init(&s, f);
	root = blob(f, "root", "containerd.io/gc.root", "x");
	by_content = blob(f, "1", "containerd.io/gc.bref.content.a", root);
	by_image = blob(f, "2", "containerd.io/gc.bref.image", "img");
	by_none = blob(f, "3", "containerd.io/gc.bref.image", "nosuch");
	image(f, "img", root, NULL, NULL);
	image(f, "tied", root, "containerd.io/gc.expire", PAST);
	layer(f, "by-container", "", "containerd.io/gc.bref.container", "c");
	layer(f, "by-snapshot", "", "containerd.io/gc.bref.snapshot.fake/x", "by-container");
	assert_ok(container_create(&f->ctx, f->db, &c, &c, &f->err));
	collect(f);
	assert_true(has_blob(f, by_content));
	assert_true(has_blob(f, by_image));
	assert_false(has_blob(f, by_none));
	assert_true(has_layer(f, &s, "by-container"));
	assert_true(has_layer(f, &s, "by-snapshot"));
	assert_false(has_image(f, "tied"));
	assert_ok(container_delete(&f->ctx, f->db, "c", &f->err));
	collect(f);
	assert_false(has_layer(f, &s, "by-container"));
	assert_false(has_layer(f, &s, "by-snapshot"));
}

static void condition_keeps_a_snapshot_that_was_used_lately(void **state)
{
	struct fix *f = *state;
	char recently[40];
	struct timespec t = time_now();
	const char *cond = "containerd.io/gc.cond.snapshot.fake";
	const char *used = "containerd.io/gc.cond.value-usedat";
	struct fake s;

	fake_init(&s, f);
	t.tv_sec -= 3600;
	time_format_rfc3339(t, recently);
	layer(f, "lately", "", used, recently);
	layer(f, "long-ago", "", used, PAST);
	layer(f, "never", "", NULL, NULL);
	image(f, "a", blob(f, "a", NULL, NULL), cond, "usedat<24h|lately");
	image(f, "b", blob(f, "b", NULL, NULL), cond, "usedat<24h|long-ago");
	image(f, "c", blob(f, "c", NULL, NULL), cond, "usedat<24h,usedat>1s|never");
	collect(f);
	assert_true(has_layer(f, &s, "lately"));
	assert_false(has_layer(f, &s, "long-ago"));
	assert_false(has_layer(f, &s, "never"));
}

static void references_stay_inside_of_a_namespace(void **state)
{
	struct fix *f = *state;
	const char *d = blob(f, "a", NULL, NULL);
	struct content_info i;

	f->ctx.ns = "other";
	image(f, "x", d, NULL, NULL);
	f->ctx.ns = "default";
	collect(f);
	assert_int_equal(content_info(&f->ctx, f->db, d, &i, &f->err), -ERR_NOT_FOUND);
}

static void ingest_lives_until_its_time_or_with_its_lease(void **state)
{
	struct fix *f = *state;
	struct content_status *st;
	struct content_writer *w;
	struct lease l;
	size_t n;

	assert_ok(lease_create(&f->ctx, f->db, "l", NULL, &l, &f->err));
	assert_ok(content_writer_open(&f->ctx, f->db, "free", 0, "", &w, &f->err));
	content_writer_close(w);
	f->ctx.lease = "l";
	assert_ok(content_writer_open(&f->ctx, f->db, "leased", 0, "", &w, &f->err));
	content_writer_close(w);
	f->ctx.lease = "";
	collect(f);
	assert_ok(content_list_status(&f->ctx, f->db, NULL, &st, &n, &f->err));
	assert_int_equal(n, 2);
	assert_ok(lease_delete(&f->ctx, f->db, "l", &f->err));
	collect(f);
	assert_ok(content_list_status(&f->ctx, f->db, NULL, &st, &n, &f->err));
	assert_int_equal(n, 1);
	assert_string_equal(st[0].ref, "free");
	assert_ok(f->content->ops->list_status(&f->ctx, f->content, &st, &n, &f->err));
	assert_int_equal(n, 1);
}

static int expire_ingest(struct bolt_tx *tx, void *arg, struct err *err)
{
	return schema_put_time(SCHEMA_FIND(tx, "default", "content", "ingests", "r"), "expireat",
			       (struct timespec){1, 0});
}

static void expired_ingest_is_removed(void **state)
{
	struct fix *f = *state;
	struct content_writer *w;
	struct content_status *st;
	size_t n;

	assert_ok(content_writer_open(&f->ctx, f->db, "r", 0, "", &w, &f->err));
	content_writer_close(w);
	assert_ok(db_update(&f->ctx, f->db, expire_ingest, NULL, &f->err));
	collect(f);
	assert_ok(f->content->ops->list_status(&f->ctx, f->content, &st, &n, &f->err));
	assert_int_equal(n, 0);
}

static void ingests_of_a_deleted_namespace_are_removed(void **state)
{
	struct fix *f = *state;
	struct content_status *v;
	struct content_writer *w;
	size_t n;

	collect(f);
	assert_ok(content_writer_open(&f->ctx, f->db, "left", 0, "", &w, &f->err));
	assert_ok(content_writer_write(w, "abc", 3, &f->err));
	content_writer_close(w);
	collect(f);
	assert_ok(f->content->ops->list_status(&f->ctx, f->content, &v, &n, &f->err));
	assert_int_equal(n, 1);
	assert_ok(namespace_delete(&f->ctx, f->db, "default", &f->err));
	collect(f);
	assert_ok(f->content->ops->list_status(&f->ctx, f->content, &v, &n, &f->err));
	assert_int_equal(n, 0);
}

static void ingest_of_shared_content_keeps_the_bytes(void **state)
{
	struct fix *f = *state;
	const char *d = blob(f, "abc", NULL, NULL);
	struct content_writer *w;
	struct digest got;

	f->ctx.ns = "other";
	assert_ok(content_writer_open(&f->ctx, f->db, "r", 0, d, &w, &f->err));
	f->ctx.ns = "default";
	assert_ok(content_delete(&f->ctx, f->db, d, &f->err));
	collect(f);
	f->ctx.ns = "other";
	assert_ok(content_writer_commit(&f->ctx, w, 3, d, NULL, &got, &f->err));
	content_writer_close(w);
	assert_true(has_blob(f, d));
}

static void leftovers_of_an_earlier_run_are_removed(void **state)
{
	struct fix *f = *state;
	struct content_store_writer *w;
	struct content_status *st;
	struct digest d;
	struct fake s;
	size_t n;

	fake_init(&s, f);
	fake_add(&s, SNAPSHOT_COMMITTED, "default/1/a", "", NULL);
	fake_add(&s, SNAPSHOT_ACTIVE, "default/2/b", "default/1/a", NULL);
	assert_ok(f->content->ops->writer(&f->ctx, f->content, "x", 0, "", &w, &f->err));
	assert_ok(w->ops->write(w, "abc", 3, &f->err));
	assert_ok(w->ops->commit(w, 0, "", &d, &f->err));
	w->ops->close(w);
	assert_ok(f->content->ops->writer(&f->ctx, f->content, "y", 0, "", &w, &f->err));
	w->ops->close(w);
	collect(f);
	assert_int_equal(s.n, 0);
	assert_false(has_blob(f, d.text));
	assert_ok(f->content->ops->list_status(&f->ctx, f->content, &st, &n, &f->err));
	assert_int_equal(n, 0);
}

struct seen {
	char text[256];
};

static void on_event(void *arg, const struct event *e)
{
	struct seen *s = arg;
	size_t n = strlen(s->text);

	snprintf(s->text + n, sizeof(s->text) - n, "%s in %s;", e->topic, e->ns);
}

static void deletions_of_images_and_snapshots_are_published(void **state)
{
	struct fix *f = *state;
	struct event_subscription *sub;
	struct seen seen = {""};
	struct fake s;

	fake_init(&s, f);
	f->ctx.ns = "some";
	image(f, "x", blob(f, "a", NULL, NULL), "containerd.io/gc.expire", PAST);
	layer(f, "l", "", NULL, NULL);
	f->ctx.ns = "";
	assert_ok(event_subscribe(f->events, NULL, 0, on_event, &seen, &sub, &f->err));
	collect(f);
	assert_string_equal(seen.text, "/images/delete in some;/snapshot/remove in some;");
	event_unsubscribe(sub);
}

/* ---- collectors ---- */

struct mounts_of_test {
	struct gc_resource v[3];
	char dead[64];
	int ends;
};

static int mounts_begin(void *arg, int (*add)(void *scan, const struct gc_resource *r), void *scan)
{
	struct mounts_of_test *m = arg;
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < ARRAY_LEN(m->v); i++)
		rc = add(scan, &m->v[i]);
	return rc;
}

static void mounts_end(void *arg, const struct gc_resource *dead, size_t n)
{
	struct mounts_of_test *m = arg;

	m->ends++;
	m->dead[0] = 0;
	for (size_t i = 0; i < n; i++)
		strcat(m->dead, dead[i].name);
}

static void resources_elsewhere_are_collected_too(void **state)
{
	struct fix *f = *state;
	struct container c = {.id = "c", .runtime_name = "r"};
	struct labels bref = make_labels(f->arena, "containerd.io/gc.bref.container", "c", NULL);
	struct mounts_of_test m = {.v = {{.ns = "default", .name = "a", .labels = &bref},
					 {.ns = "default", .name = "b", .lease = "l"},
					 {.ns = "default", .name = "d"}}};
	struct gc_collector collector = {"mount", mounts_begin, mounts_end, &m};
	struct lease l;

	assert_ok(gc_add_collector(f->db, &collector, &f->err));
	assert_ok(lease_create(&f->ctx, f->db, "l", NULL, &l, &f->err));
	assert_ok(container_create(&f->ctx, f->db, &c, &c, &f->err));
	collect(f);
	assert_string_equal(m.dead, "d");
	assert_ok(container_delete(&f->ctx, f->db, "c", &f->err));
	assert_ok(lease_delete(&f->ctx, f->db, "l", &f->err));
	image(f, "x", blob(f, "x", NULL, NULL), "containerd.io/gc.ref.mount.1", "d");
	collect(f);
	assert_string_equal(m.dead, "ab");
	assert_int_equal(m.ends, 2);
}

/* ---- scheduler ---- */

static void waiting_collects_at_once(void **state)
{
	struct fix *f = *state;
	struct gc_options o = {.pause_threshold = 0.02,
			       .mutation_threshold = 100,
			       .startup_delay_ns = 3600 * NSEC_PER_SEC};
	struct gc_scheduler *gc;
	const char *d = blob(f, "a", NULL, NULL);

	assert_ok(gc_scheduler_start(f->db, &o, &gc, &f->err));
	assert_ok(gc_scheduler_wait(&f->ctx, gc, &f->err));
	assert_false(has_blob(f, d));
	f->ctx.deadline = 1;
	assert_int_equal(gc_scheduler_wait(&f->ctx, gc, &f->err), -ERR_DEADLINE_EXCEEDED);
	f->ctx.deadline = 0;
	gc_scheduler_stop(gc);
}

struct signalled {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool seen;
};

static void on_image_delete(void *arg, const struct event *e)
{
	struct signalled *s = arg;

	pthread_mutex_lock(&s->lock);
	s->seen = true;
	pthread_cond_signal(&s->cond);
	pthread_mutex_unlock(&s->lock);
}

static void deletion_is_followed_by_a_collection(void **state)
{
	struct fix *f = *state;
	struct gc_options o = {.pause_threshold = 0.5, .startup_delay_ns = 0};
	struct signalled s = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false};
	const char *filter = "topic==\"/images/delete\"";
	struct event_subscription *sub;
	struct gc_scheduler *gc;
	const char *d;

	assert_ok(event_subscribe(f->events, &filter, 1, on_image_delete, &s, &sub, &f->err));
	d = blob(f, "a", "containerd.io/gc.root", "x");
	assert_ok(gc_scheduler_start(f->db, &o, &gc, &f->err));
	/* The first collection is over: what comes now is the deletion's. */
	assert_ok(gc_scheduler_wait(&f->ctx, gc, &f->err));
	image(f, "x", d, "containerd.io/gc.expire", PAST);
	assert_ok(content_delete(&f->ctx, f->db, d, &f->err));
	pthread_mutex_lock(&s.lock);
	while (!s.seen)
		pthread_cond_wait(&s.cond, &s.lock);
	pthread_mutex_unlock(&s.lock);
	gc_scheduler_stop(gc);
	event_unsubscribe(sub);
}

/* ---- at the same time ---- */

struct writers {
	struct fix *f;
	int number;
};

static void *write_blobs(void *arg)
{
	struct writers *w = arg;
	_cleanup_arena_ struct arena *a = arena_new(0);
	struct ctx ctx = {.arena = a, .ns = arena_printf(a, "ns%d", w->number), .lease = ""};
	struct err err = ERR_INIT;

	for (int i = 0; i < 40; i++) {
		struct lease_guard g;
		char text[32];
		struct digest d;
		struct descriptor desc = {.digest = d.text};
		char *back;
		size_t n;

		/* The same bytes from all namespaces: each must find them after its commit. */
		snprintf(text, sizeof(text), "blob %d", i);
		digest_of(DIGEST_SHA256, text, strlen(text), &d);
		desc.size = (int64_t)strlen(text);
		if (lease_guard_begin(&ctx, w->f->db, &g, &err) < 0 ||
		    content_put(&ctx, w->f->db, "ref", &desc, text, NULL, &err) < 0 ||
		    content_read(&ctx, w->f->db, d.text, 100, &back, &n, &err) < 0)
			return arena_strdup(w->f->arena, err.text);
		lease_guard_end(&ctx, w->f->db, &g);
	}
	return NULL;
}

static void *collect_often(void *arg)
{
	atomic_bool *stop = ((void **)arg)[1];
	struct fix *f = ((void **)arg)[0];

	while (!*stop) {
		_cleanup_arena_ struct arena *a = arena_new(0);
		struct ctx ctx = {.arena = a, .ns = "", .lease = ""};

		if (gc_run(&ctx, f->db, NULL) < 0)
			return "gc failed";
	}
	return NULL;
}

static void leased_content_survives_collections_at_the_same_time(void **state)
{
	struct fix *f = *state;
	atomic_bool stop = false;
	void *args[] = {f, &stop};
	struct writers w[4];
	pthread_t t[4], collector;
	void *error;

	assert_int_equal(pthread_create(&collector, NULL, collect_often, args), 0);
	for (int i = 0; i < 4; i++) {
		w[i] = (struct writers){f, i};
		assert_int_equal(pthread_create(&t[i], NULL, write_blobs, &w[i]), 0);
	}
	for (int i = 0; i < 4; i++) {
		pthread_join(t[i], &error);
		if (error)
			print_message("%s\n", (char *)error);
		assert_null(error);
	}
	stop = true;
	pthread_join(collector, &error);
	assert_null(error);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, fix_setup, fix_teardown)
		T(image_keeps_what_its_target_refers_to),
		T(container_keeps_its_snapshot),
		T(root_label_keeps_content_and_snapshots),
		T(lease_keeps_until_it_ends_or_expires),
		T(flat_lease_keeps_no_label_references),
		T(back_reference_keeps_its_carrier),
		T(condition_keeps_a_snapshot_that_was_used_lately),
		T(references_stay_inside_of_a_namespace),
		T(ingest_lives_until_its_time_or_with_its_lease),
		T(expired_ingest_is_removed),
		T(ingests_of_a_deleted_namespace_are_removed),
		T(ingest_of_shared_content_keeps_the_bytes),
		T(leftovers_of_an_earlier_run_are_removed),
		T(deletions_of_images_and_snapshots_are_published),
		T(resources_elsewhere_are_collected_too),
		T(waiting_collects_at_once),
		T(deletion_is_followed_by_a_collection),
		T(leased_content_survives_collections_at_the_same_time),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
