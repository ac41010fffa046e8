/* SPDX-License-Identifier: Apache-2.0 */
#include "core/container.h"
#include "core/image.h"
#include "core/lease.h"
#include "core/namespace.h"
#include "core/schema.h"
#include "util.h"

#define DIGEST_A "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define DIGEST_B "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

static const struct timespec now_please;

/* ---- encodings ---- */

static void varint_is_go_s(void **state)
{
	static const struct {
		int64_t v;
		const char *bytes;
		size_t n;
	} t[] = {
		{0, "\x00", 1},	      {1, "\x02", 1},
		{-1, "\x01", 1},      {4, "\x08", 1},
		{422, "\xcc\x06", 2}, {INT64_MIN, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 10},
	};
	uint8_t out[SCHEMA_VARINT_MAX];

	for (size_t i = 0; i < ARRAY_LEN(t); i++) {
		int64_t back = 7;

		assert_int_equal(schema_varint_encode(t[i].v, out), t[i].n);
		assert_memory_equal(out, t[i].bytes, t[i].n);
		assert_int_equal(schema_varint_decode(out, t[i].n, &back), t[i].n);
		assert_true(back == t[i].v);
		assert_int_equal(schema_varint_decode(out, t[i].n - 1, &back), 0);
	}
	assert_int_equal(
		schema_varint_decode("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 10, &(int64_t){0}),
		0);
}

static void time_is_go_s(void **state)
{
	/* 2024-01-02T03:04:05.000000006Z */
	static const uint8_t go[] = {1,	   0, 0, 0, 0x0e, 0xdd, 0x25, 0x74,
				     0x25, 0, 0, 0, 6,	  0xff, 0xff};
	struct timespec t = {1704164645, 6}, back;
	uint8_t out[SCHEMA_TIME_MAX];

	assert_int_equal(schema_time_encode(t, out), 15);
	assert_memory_equal(out, go, 15);
	assert_true(schema_time_decode(out, 15, &back));
	assert_true(time_cmp(t, back) == 0);
	out[0] = 2;
	out[15] = 30;
	assert_true(schema_time_decode(out, 16, &back));
	assert_true(time_cmp(t, back) == 0);
	assert_false(schema_time_decode(out, 15, &back));
	assert_false(schema_time_decode(out, 3, &back));
}

static void any_survives_and_damage_is_seen(void **state)
{
	struct fix *f = *state;
	struct any v = {"types.containerd.io/x", "\x00\x01{}", 4}, back;
	_cleanup_buf_ struct buf out = BUF_INIT;

	assert_int_equal(schema_any_encode(&v, &out), 0);
	assert_int_equal(schema_any_decode(f->arena, out.data, out.len, &back), 0);
	assert_string_equal(back.type_url, v.type_url);
	assert_int_equal(back.len, 4);
	assert_memory_equal(back.value, v.value, 4);
	assert_int_equal(schema_any_decode(f->arena, out.data, out.len - 1, &back), -EBADMSG);
	assert_int_equal(schema_any_decode(f->arena, "\x08\x01", 2, &back), -EBADMSG);
}

/* ---- namespaces ---- */

static void namespace_lives_from_create_to_delete(void **state)
{
	struct fix *f = *state;
	struct labels l = make_labels(f->arena, "a", "1", "empty", "", NULL), got;
	struct namespace_info *all;
	size_t n;

	assert_ok(namespace_create(&f->ctx, f->db, "two", &l, &f->err));
	assert_ok(namespace_create(&f->ctx, f->db, "one", NULL, &f->err));
	assert_err(namespace_create(&f->ctx, f->db, "two", NULL, &f->err), ERR_ALREADY_EXISTS,
		   "namespace \"two\": already exists");
	assert_err(namespace_create(&f->ctx, f->db, "a..b", NULL, &f->err), ERR_INVALID_ARGUMENT,
		   "identifier \"a..b\" must match ^[A-Za-z0-9]+(?:[._-](?:[A-Za-z0-9]+))*$: "
		   "invalid argument");
	assert_ok(namespace_list(&f->ctx, f->db, &all, &n, &f->err));
	assert_int_equal(n, 2);
	assert_string_equal(all[0].name, "one");
	assert_int_equal(all[0].labels.n, 0);
	assert_int_equal(all[1].labels.n, 1);
	assert_ok(namespace_label(f, "two", "b", "2"));
	assert_ok(namespace_label(f, "two", "a", ""));
	assert_ok(namespace_labels(&f->ctx, f->db, "two", &got, &f->err));
	assert_int_equal(got.n, 1);
	assert_string_equal(labels_get(&got, "b"), "2");
	assert_ok(namespace_labels(&f->ctx, f->db, "unknown", &got, &f->err));
	assert_int_equal(got.n, 0);
	assert_ok(namespace_label(f, "made-by-label", "b", "2"));
	assert_ok(namespace_labels(&f->ctx, f->db, "made-by-label", &got, &f->err));
	assert_string_equal(labels_get(&got, "b"), "2");
	assert_err(namespace_create(&f->ctx, f->db, "made-by-label", NULL, &f->err),
		   ERR_ALREADY_EXISTS, "namespace \"made-by-label\": already exists");
	assert_err(namespace_label(f, "version", "b", "2"), ERR_INVALID_ARGUMENT,
		   "namespace name \"version\" is reserved: invalid argument");
	assert_ok(namespace_delete(&f->ctx, f->db, "two", &f->err));
	assert_err(namespace_delete(&f->ctx, f->db, "two", &f->err), ERR_NOT_FOUND,
		   "namespace \"two\": not found");
}

static void update_of_a_namespace_is_all_or_nothing(void **state)
{
	struct fix *f = *state;
	char *long_value = memset(arena_zalloc(f->arena, 5001), 'x', 5000);
	struct labels l = make_labels(f->arena, "a", "1", "b", long_value, NULL), got;
	char *paths[] = {(char *)"labels.a", (char *)"labels.b", (char *)"name"};

	assert_ok(namespace_label(f, "one", "old", "0"));
	assert_int_equal(namespace_update(&f->ctx, f->db, "one", &l, paths, 2, &got, &f->err),
			 -ERR_INVALID_ARGUMENT);
	assert_int_equal(namespace_update(&f->ctx, f->db, "one", &l, NULL, 0, &got, &f->err),
			 -ERR_INVALID_ARGUMENT);
	paths[1] = paths[2];
	assert_err(namespace_update(&f->ctx, f->db, "one", &l, paths, 2, &got, &f->err),
		   ERR_INVALID_ARGUMENT, "cannot update \"name\" field: invalid argument");
	assert_ok(namespace_labels(&f->ctx, f->db, "one", &got, &f->err));
	assert_int_equal(got.n, 1);
	assert_string_equal(labels_get(&got, "old"), "0");
	/* What is not named is not looked at. */
	assert_ok(namespace_update(&f->ctx, f->db, "one", &l, paths, 1, &got, &f->err));
	assert_int_equal(got.n, 2);
	l = make_labels(f->arena, "c", "3", "empty", "", NULL);
	assert_ok(namespace_update(&f->ctx, f->db, "one", &l, NULL, 0, &got, &f->err));
	assert_int_equal(got.n, 1);
	assert_string_equal(labels_get(&got, "c"), "3");
}

static struct image sample_image(const char *name)
{
	return (struct image){
		.name = name,
		.target = {.digest = DIGEST_A, .media_type = "application/x", .size = 7},
	};
}

static struct container sample_container(const char *id)
{
	return (struct container){
		.id = id,
		.image = "busybox",
		.runtime_name = "io.containerd.runc.v2",
		.spec = {"types.containerd.io/spec", "{}", 2},
	};
}

static void namespace_with_objects_is_not_deleted(void **state)
{
	struct fix *f = *state;
	struct image i = sample_image("x");
	struct container c = sample_container("c");

	assert_ok(image_create(&f->ctx, f->db, &i, now_please, &i, &f->err));
	assert_ok(container_create(&f->ctx, f->db, &c, &c, &f->err));
	assert_err(namespace_delete(&f->ctx, f->db, "default", &f->err), ERR_FAILED_PRECONDITION,
		   "namespace \"default\" must be empty, but it still has images, containers: "
		   "failed precondition");
	assert_ok(image_delete(&f->ctx, f->db, "x", NULL, &f->err));
	assert_ok(container_delete(&f->ctx, f->db, "c", &f->err));
	assert_ok(namespace_delete(&f->ctx, f->db, "default", &f->err));
}

/* ---- containers ---- */

static void container_is_stored_as_given(void **state)
{
	struct fix *f = *state;
	struct any_entry ext[] = {{"x", {"t", "v", 1}}};
	struct container c = sample_container("c1"), got;

	c.labels = make_labels(f->arena, "k", "v", "gone", "", NULL);
	c.snapshotter = "overlayfs";
	c.snapshot_key = "key";
	c.sandbox_id = "pod";
	c.runtime_options = (struct any){"opts", "o", 1};
	c.extensions = ext;
	c.n_extensions = 1;
	assert_ok(container_create(&f->ctx, f->db, &c, &got, &f->err));
	assert_false(time_is_zero(got.created_at));
	memset(&got, 0, sizeof(got));
	assert_ok(container_get(&f->ctx, f->db, "c1", &got, &f->err));
	assert_string_equal(got.image, "busybox");
	assert_string_equal(got.runtime_name, "io.containerd.runc.v2");
	assert_string_equal(got.runtime_options.type_url, "opts");
	assert_string_equal(got.snapshotter, "overlayfs");
	assert_string_equal(got.snapshot_key, "key");
	assert_string_equal(got.sandbox_id, "pod");
	assert_int_equal(got.labels.n, 1);
	assert_int_equal(got.n_extensions, 1);
	assert_string_equal(got.extensions[0].value.type_url, "t");
	assert_int_equal(got.spec.len, 2);
	assert_err(container_create(&f->ctx, f->db, &c, &got, &f->err), ERR_ALREADY_EXISTS,
		   "container \"c1\": already exists");
	assert_err(container_get(&f->ctx, f->db, "no", &got, &f->err), ERR_NOT_FOUND,
		   "container \"no\" in namespace \"default\": not found");
}

static void container_create_validates(void **state)
{
	struct fix *f = *state;
	struct container c = sample_container("a b"), got;

	assert_int_equal(container_create(&f->ctx, f->db, &c, &got, &f->err),
			 -ERR_INVALID_ARGUMENT);
	c = sample_container("a");
	c.runtime_name = NULL;
	assert_int_equal(container_create(&f->ctx, f->db, &c, &got, &f->err),
			 -ERR_INVALID_ARGUMENT);
	c = sample_container("a");
	c.snapshot_key = "k";
	assert_int_equal(container_create(&f->ctx, f->db, &c, &got, &f->err),
			 -ERR_INVALID_ARGUMENT);
	f->ctx.ns = "";
	assert_err(container_create(&f->ctx, f->db, &c, &got, &f->err), ERR_FAILED_PRECONDITION,
		   "namespace is required: failed precondition");
}

static void container_update_obeys_the_mask(void **state)
{
	struct fix *f = *state;
	char *paths[] = {"labels.a", "extensions.y"};
	char *bad[] = {"runtime"};
	struct any_entry ext[] = {{"x", {"t", "v", 1}}, {"y", {"t2", "w", 1}}};
	struct container c = sample_container("c1"), got;

	c.labels = make_labels(f->arena, "a", "1", "b", "2", NULL);
	c.extensions = ext;
	c.n_extensions = 1;
	assert_ok(container_create(&f->ctx, f->db, &c, &got, &f->err));
	c.labels = make_labels(f->arena, "a", "", "b", "3", NULL);
	c.image = "other";
	c.extensions = ext;
	c.n_extensions = 2;
	assert_ok(container_update(&f->ctx, f->db, &c, paths, 2, &got, &f->err));
	assert_null(labels_get(&got.labels, "a"));
	assert_string_equal(labels_get(&got.labels, "b"), "2");
	assert_string_equal(got.image, "busybox");
	assert_int_equal(got.n_extensions, 2);
	assert_err(container_update(&f->ctx, f->db, &c, bad, 1, &got, &f->err),
		   ERR_INVALID_ARGUMENT,
		   "cannot update \"runtime\" field on \"c1\": invalid argument");
	/* Without a mask all is replaced but what can not change; extensions only ever come. */
	c.n_extensions = 0;
	assert_ok(container_update(&f->ctx, f->db, &c, NULL, 0, &got, &f->err));
	assert_string_equal(got.image, "other");
	assert_string_equal(labels_get(&got.labels, "b"), "3");
	assert_int_equal(got.n_extensions, 2);
	c.runtime_name = "another";
	assert_int_equal(container_update(&f->ctx, f->db, &c, NULL, 0, &got, &f->err),
			 -ERR_INVALID_ARGUMENT);
}

/* A map on the wire may have a key more than once. */
static void of_extensions_with_one_key_the_last_counts(void **state)
{
	struct fix *f = *state;
	char *paths[] = {"extensions.x"};
	struct container c = sample_container("c1"), got;
	struct any_entry ext[100];

	for (size_t i = 0; i < ARRAY_LEN(ext); i++)
		ext[i] = (struct any_entry){"x", {i < 99 ? "t" : "last", "v", 1}};
	assert_ok(container_create(&f->ctx, f->db, &c, &got, &f->err));
	c.extensions = ext;
	c.n_extensions = ARRAY_LEN(ext);
	assert_ok(container_update(&f->ctx, f->db, &c, paths, 1, &got, &f->err));
	assert_int_equal(got.n_extensions, 1);
	assert_string_equal(got.extensions[0].value.type_url, "last");
}

static void lists_are_in_bytewise_order_and_filtered(void **state)
{
	struct fix *f = *state;
	static const char *const ids[] = {"b", "B", "a-1", "a"};
	const char *filter = "id~=^a";
	struct container c, *all;
	struct filter *parsed;
	size_t n;

	for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
		c = sample_container(ids[i]);
		assert_ok(container_create(&f->ctx, f->db, &c, &c, &f->err));
	}
	assert_ok(container_list(&f->ctx, f->db, NULL, &all, &n, &f->err));
	assert_int_equal(n, 4);
	assert_string_equal(all[0].id, "B");
	assert_string_equal(all[1].id, "a");
	assert_string_equal(all[2].id, "a-1");
	assert_ok(filter_parse(f->arena, &filter, 1, &parsed, &f->err));
	assert_ok(container_list(&f->ctx, f->db, parsed, &all, &n, &f->err));
	assert_int_equal(n, 2);
	f->ctx.ns = "elsewhere";
	assert_ok(container_list(&f->ctx, f->db, NULL, &all, &n, &f->err));
	assert_int_equal(n, 0);
}

/* ---- images ---- */

static void image_may_be_of_any_time(void **state)
{
	struct fix *f = *state;
	struct timespec far = {.tv_sec = INT64_MAX, .tv_nsec = 1};
	struct image i = sample_image("far"), got;

	assert_ok(image_create(&f->ctx, f->db, &i, far, &got, &f->err));
	assert_int_equal(got.created_at.tv_sec, INT64_MAX);
	assert_int_equal(got.created_at.tv_nsec, 1);
}

static void image_create_validates(void **state)
{
	struct fix *f = *state;
	struct image i = sample_image("x"), got;

	i.target.size = 0;
	assert_err(image_create(&f->ctx, f->db, &i, now_please, &got, &f->err),
		   ERR_INVALID_ARGUMENT, "target.Size must be greater than zero: invalid argument");
	i.target.size = 1;
	i.target.digest = "sha256:12";
	assert_err(image_create(&f->ctx, f->db, &i, now_please, &got, &f->err),
		   ERR_INVALID_ARGUMENT,
		   "target.Digest \"sha256:12\" invalid: invalid checksum digest length: "
		   "invalid argument");
	i = sample_image("");
	assert_err(image_create(&f->ctx, f->db, &i, now_please, &got, &f->err),
		   ERR_INVALID_ARGUMENT, "image name must not be empty: invalid argument");
	i = sample_image("x");
	i.target.media_type = NULL;
	assert_int_equal(image_create(&f->ctx, f->db, &i, now_please, &got, &f->err),
			 -ERR_INVALID_ARGUMENT);
}

static void image_lives_from_create_to_delete(void **state)
{
	struct fix *f = *state;
	struct timespec epoch = {1000, 0};
	struct image i = sample_image("docker.io/library/x:latest"), got;
	char *paths[] = {"labels.b", "annotations.z"};

	i.labels = make_labels(f->arena, "a", "1", NULL);
	i.target.annotations = make_labels(f->arena, "n", "1", NULL);
	assert_ok(image_create(&f->ctx, f->db, &i, epoch, &got, &f->err));
	assert_int_equal(got.created_at.tv_sec, 1000);
	assert_err(image_create(&f->ctx, f->db, &i, epoch, &got, &f->err), ERR_ALREADY_EXISTS,
		   "image \"docker.io/library/x:latest\": already exists");
	i.labels = make_labels(f->arena, "b", "2", NULL);
	i.target.annotations = make_labels(f->arena, "z", "2", NULL);
	i.target.digest = DIGEST_B;
	assert_ok(image_update(&f->ctx, f->db, &i, paths, 2, now_please, &got, &f->err));
	assert_int_equal(got.labels.n, 2);
	assert_int_equal(got.target.annotations.n, 2);
	assert_string_equal(got.target.digest, DIGEST_A);
	assert_int_equal(got.created_at.tv_sec, 1000);
	assert_true(got.updated_at.tv_sec > 1000);
	assert_ok(image_update(&f->ctx, f->db, &i, NULL, 0, now_please, &got, &f->err));
	assert_int_equal(got.labels.n, 1);
	assert_string_equal(got.target.digest, DIGEST_B);
	assert_err(image_delete(&f->ctx, f->db, i.name, DIGEST_A, &f->err), ERR_NOT_FOUND,
		   "image \"docker.io/library/x:latest\" has target " DIGEST_B ", not " DIGEST_A
		   ": not found");
	assert_ok(image_delete(&f->ctx, f->db, i.name, DIGEST_B, &f->err));
	assert_err(image_get(&f->ctx, f->db, "x", &got, &f->err), ERR_NOT_FOUND,
		   "image \"x\": not found");
}

static void image_s_target_is_updated_as_a_whole(void **state)
{
	struct fix *f = *state;
	struct image i = sample_image("x"), got;
	char *target[] = {"target"}, *bad[] = {"target.digest"};

	i.labels = make_labels(f->arena, "a", "1", NULL);
	i.target.annotations = make_labels(f->arena, "n", "1", NULL);
	assert_ok(image_create(&f->ctx, f->db, &i, now_please, &got, &f->err));
	i.labels = make_labels(f->arena, "b", "2", NULL);
	i.target =
		(struct descriptor){.digest = DIGEST_B, .media_type = "application/y", .size = 8};
	assert_ok(image_update(&f->ctx, f->db, &i, target, 1, now_please, &got, &f->err));
	assert_string_equal(got.target.digest, DIGEST_B);
	assert_string_equal(got.target.media_type, "application/y");
	assert_int_equal(got.target.size, 8);
	assert_int_equal(got.target.annotations.n, 0);
	assert_string_equal(labels_get(&got.labels, "a"), "1");
	assert_null(labels_get(&got.labels, "b"));
	assert_err(image_update(&f->ctx, f->db, &i, bad, 1, now_please, &got, &f->err),
		   ERR_INVALID_ARGUMENT,
		   "cannot update \"target.digest\" field on image \"x\": invalid argument");
}

static void long_label_is_refused(void **state)
{
	struct fix *f = *state;
	struct image i = sample_image("x");
	char value[4097];

	memset(value, 'v', 4096);
	value[4096] = 0;
	i.labels = make_labels(f->arena, "long", value, NULL);
	assert_err(
		image_create(&f->ctx, f->db, &i, now_please, &i, &f->err), ERR_INVALID_ARGUMENT,
		"image.Labels: label key and value length (4100 bytes) greater than maximum size "
		"(4096 bytes), key: long: invalid argument");
}

/* ---- leases ---- */

static void lease_holds_resources(void **state)
{
	struct fix *f = *state;
	struct lease_resource r[] = {{DIGEST_A, "content"},
				     {"k", "snapshots/overlayfs"},
				     {"ref", "ingests"},
				     {"x", "foo"}};
	struct lease l;
	struct lease *all;
	struct lease_resource *got;
	size_t n;

	assert_ok(lease_create(&f->ctx, f->db, "l1", NULL, &l, &f->err));
	assert_err(lease_create(&f->ctx, f->db, "l1", NULL, &l, &f->err), ERR_ALREADY_EXISTS,
		   "lease \"l1\": already exists");
	for (int i = 0; i < 3; i++)
		assert_ok(lease_add_resource(&f->ctx, f->db, "l1", &r[i], &f->err));
	assert_err(lease_add_resource(&f->ctx, f->db, "l1", &r[3], &f->err), ERR_UNIMPLEMENTED,
		   "resource type foo not supported yet: not implemented");
	assert_err(lease_add_resource(&f->ctx, f->db, "x", &r[0], &f->err), ERR_NOT_FOUND,
		   "lease \"x\": not found");
	assert_ok(lease_list_resources(&f->ctx, f->db, "l1", &got, &n, &f->err));
	assert_int_equal(n, 3);
	assert_string_equal(got[2].type, "snapshots/overlayfs");
	assert_string_equal(got[2].id, "k");
	assert_ok(lease_delete_resource(&f->ctx, f->db, "l1", &r[1], &f->err));
	assert_ok(lease_delete_resource(&f->ctx, f->db, "l1", &r[1], &f->err));
	assert_ok(lease_list_resources(&f->ctx, f->db, "l1", &got, &n, &f->err));
	assert_int_equal(n, 2);
	assert_ok(lease_create(&f->ctx, f->db, "", NULL, &l, &f->err));
	assert_non_null(strchr(l.id, '-'));
	assert_int_equal(strlen(strchr(l.id, '-')), 5);
	assert_ok(lease_list(&f->ctx, f->db, NULL, &all, &n, &f->err));
	assert_int_equal(n, 2);
	assert_ok(lease_delete(&f->ctx, f->db, "l1", &f->err));
	assert_err(lease_delete(&f->ctx, f->db, "l1", &f->err), ERR_NOT_FOUND,
		   "lease \"l1\": not found");
}

static void guard_uses_the_lease_of_the_client_or_its_own(void **state)
{
	struct fix *f = *state;
	struct lease_guard g;
	struct lease *all;
	size_t n;

	assert_ok(lease_guard_begin(&f->ctx, f->db, &g, &f->err));
	assert_string_equal(f->ctx.lease, g.id);
	assert_ok(lease_list(&f->ctx, f->db, NULL, &all, &n, &f->err));
	assert_int_equal(n, 1);
	assert_non_null(labels_get(&all[0].labels, "containerd.io/gc.expire"));
	/* It goes also when the request was canceled. */
	f->ctx.canceled = true;
	lease_guard_end(&f->ctx, f->db, &g);
	f->ctx.canceled = false;
	assert_string_equal(f->ctx.lease, "");
	assert_ok(lease_list(&f->ctx, f->db, NULL, &all, &n, &f->err));
	assert_int_equal(n, 0);
	f->ctx.lease = "mine";
	assert_ok(lease_guard_begin(&f->ctx, f->db, &g, &f->err));
	assert_string_equal(g.id, "");
	lease_guard_end(&f->ctx, f->db, &g);
	assert_string_equal(f->ctx.lease, "mine");
}

/* ---- the file ---- */

static void records_survive_a_restart(void **state)
{
	struct fix *f = *state;
	struct image i = sample_image("x");

	assert_ok(image_create(&f->ctx, f->db, &i, now_please, &i, &f->err));
	db_close(f->db);
	fix_open(f);
	assert_ok(image_get(&f->ctx, f->db, "x", &i, &f->err));
	assert_string_equal(i.target.digest, DIGEST_A);
}

static int old_schema(struct bolt_tx *tx, void *arg)
{
	struct bolt_bucket *b, *parent;
	int rc = SCHEMA_MAKE(tx, &parent, "ns", "snapshots", "native", "p");

	if (rc == 0)
		rc = SCHEMA_MAKE(tx, &b, "ns", "snapshots", "native", "c");
	if (rc == 0)
		rc = schema_put_str(b, "parent", "p");
	if (rc == 0)
		rc = SCHEMA_MAKE(tx, &b, "ns", "content", "ingest");
	if (rc == 0)
		rc = schema_put_str(b, "r", "ns/1/r");
	if (rc == 0)
		rc = schema_put_int(schema_find(tx, NULL, 0), "version", 0);
	if (rc == 0)
		rc = bolt_bucket_create_if_missing(bolt_root(tx), bolt_s("ns"), &b);
	if (rc == 0)
		rc = bolt_bucket_create_if_missing(b, bolt_s("sandboxes"), &b);
	if (rc == 0)
		rc = bolt_bucket_create_if_missing(b, bolt_s("pod"), &b);
	return rc < 0 ? rc : schema_put_str(b, "sandboxer", "shim");
}

static int check_new_schema(struct bolt_tx *tx, void *arg, struct err *err)
{
	struct arena *a = arg;
	const char *s;
	struct bolt_slice v;
	struct bolt_bucket *b;

	assert_non_null(b = SCHEMA_FIND(tx, "ns", "snapshots", "native", "p", "children"));
	assert_true(bolt_get(b, bolt_s("c"), &v));
	assert_non_null(b = SCHEMA_FIND(tx, "ns", "content", "ingests", "r"));
	assert_int_equal(schema_get_str(a, b, "ref", &s), 0);
	assert_string_equal(s, "ns/1/r");
	assert_null(SCHEMA_FIND(tx, "ns", "content", "ingest"));
	assert_non_null(b = SCHEMA_FIND(tx, "ns", "sandboxes", "pod"));
	assert_int_equal(schema_get_str(a, b, "sandboxer", &s), 0);
	assert_string_equal(s, "shim");
	assert_null(bolt_bucket(bolt_root(tx), bolt_s("ns")));
	assert_int_equal(schema_get_int(schema_find(tx, NULL, 0), "version"), 4);
	return 0;
}

static void old_schema_is_migrated(void **state)
{
	struct fix *f = *state;
	struct bolt_options o = {.no_freelist_sync = true};
	struct bolt *b;

	db_close(f->db);
	f->db = NULL;
	unlink(f->path);
	assert_int_equal(bolt_open(f->path, &o, &b), 0);
	assert_int_equal(bolt_update(b, old_schema, NULL), 0);
	bolt_close(b);
	fix_open(f);
	assert_ok(db_view(&f->ctx, f->db, check_new_schema, f->arena, &f->err));
}

/* ---- short of memory ---- */

static int all_calls(struct ctx *ctx, struct db *db, struct err *err)
{
	struct label l = {"k", "v"};
	struct any_entry ext = {"x", {"t", "v", 1}};
	struct container c = sample_container("c1"), *cs;
	struct image i = sample_image("x"), *is;
	struct namespace_info *ns;
	struct lease lease, *ls;
	size_t n;
	int rc;

	i.labels = c.labels = (struct labels){&l, 1, 1};
	c.extensions = &ext;
	c.n_extensions = 1;
	rc = image_create(ctx, db, &i, now_please, &i, err);
	if (rc == 0 || rc == -ERR_ALREADY_EXISTS)
		rc = image_list(ctx, db, NULL, &is, &n, err);
	if (rc == 0)
		rc = container_create(ctx, db, &c, &c, err);
	if (rc == 0 || rc == -ERR_ALREADY_EXISTS)
		rc = container_list(ctx, db, NULL, &cs, &n, err);
	if (rc == 0)
		rc = lease_create(ctx, db, "l", &c.labels, &lease, err);
	if (rc == 0 || rc == -ERR_ALREADY_EXISTS)
		rc = lease_list(ctx, db, NULL, &ls, &n, err);
	return rc < 0 ? rc : namespace_list(ctx, db, &ns, &n, err);
}

static void arena_that_is_full_is_an_error_like_others(void **state)
{
	struct fix *f = *state;
	int rc = -1, failures = 0;

	for (size_t limit = 1; rc < 0 && limit < 100000; limit += 64) {
		_cleanup_arena_ struct arena *a = arena_new(limit);
		struct ctx ctx = {.arena = a, .ns = "default", .lease = ""};

		f->err = ERR_INIT;
		rc = all_calls(&ctx, f->db, &f->err);
		if (rc < 0 && rc != -ERR_RESOURCE_EXHAUSTED)
			fail_msg("limit %zu: %s", limit, f->err.text);
		failures += rc < 0;
	}
	assert_int_equal(rc, 0);
	assert_true(failures > 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, fix_setup, fix_teardown)
		cmocka_unit_test(varint_is_go_s),
		cmocka_unit_test(time_is_go_s),
		T(any_survives_and_damage_is_seen),
		T(namespace_lives_from_create_to_delete),
		T(update_of_a_namespace_is_all_or_nothing),
		T(namespace_with_objects_is_not_deleted),
		T(container_is_stored_as_given),
		T(container_create_validates),
		T(container_update_obeys_the_mask),
		T(of_extensions_with_one_key_the_last_counts),
		T(lists_are_in_bytewise_order_and_filtered),
		T(image_may_be_of_any_time),
		T(image_create_validates),
		T(image_lives_from_create_to_delete),
		T(image_s_target_is_updated_as_a_whole),
		T(long_label_is_refused),
		T(lease_holds_resources),
		T(guard_uses_the_lease_of_the_client_or_its_own),
		T(records_survive_a_restart),
		T(old_schema_is_migrated),
		T(arena_that_is_full_is_an_error_like_others),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
