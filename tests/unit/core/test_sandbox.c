/* SPDX-License-Identifier: Apache-2.0 */
#include "core/gc.h"
#include "core/lease.h"
#include "core/sandbox.h"
#include "core/schema.h"
#include "util.h"

static const struct any spec_any = {"types/Spec", "{\"a\":1}", 7},
			options_any = {"types/Options", "\x08\x01", 2};

static struct sandbox sample(struct fix *f, const char *id)
{
	struct any_entry *e = arena_new_array(f->arena, struct any_entry, 1);

	e[0] = (struct any_entry){"one", {"types/One", "1", 1}};
	return (struct sandbox){.id = id,
				.labels = make_labels(f->arena, "k", "v", "none", "", NULL),
				.runtime_name = "io.containerd.runc.v2",
				.runtime_options = options_any,
				.spec = spec_any,
				.sandboxer = "podsandbox",
				.extensions = e,
				.n_extensions = 1};
}

static void create(struct fix *f, const char *id)
{
	struct sandbox s = sample(f, id), out;

	assert_ok(sandbox_create(&f->ctx, f->db, &s, &out, &f->err));
}

static void assert_any(struct any a, struct any b)
{
	assert_string_equal(a.type_url, b.type_url);
	assert_int_equal(a.len, b.len);
	assert_memory_equal(a.value, b.value, b.len);
}

static void what_was_created_is_read_back(void **state)
{
	struct fix *f = *state;
	struct sandbox s = sample(f, "s1"), made, got;

	assert_ok(sandbox_create(&f->ctx, f->db, &s, &made, &f->err));
	assert_ok(sandbox_get(&f->ctx, f->db, "s1", &got, &f->err));
	assert_string_equal(got.id, "s1");
	assert_string_equal(got.sandboxer, "podsandbox");
	assert_string_equal(got.runtime_name, "io.containerd.runc.v2");
	assert_any(got.runtime_options, options_any);
	assert_any(got.spec, spec_any);
	assert_int_equal(got.n_extensions, 1);
	assert_string_equal(got.extensions[0].key, "one");
	assert_any(got.extensions[0].value, s.extensions[0].value);
	assert_int_equal(got.labels.n, 1); /* empty values are not stored */
	assert_string_equal(labels_get(&got.labels, "k"), "v");
	assert_true(got.created_at.tv_sec > 1700000000);
	assert_true(time_cmp(got.created_at, got.updated_at) == 0);
	assert_true(time_cmp(got.created_at, made.created_at) == 0);
	assert_err(sandbox_create(&f->ctx, f->db, &s, &made, &f->err), ERR_ALREADY_EXISTS,
		   "sandbox \"s1\": already exists");
}

static void sandbox_and_its_lease_come_together_or_not_at_all(void **state)
{
	struct fix *f = *state;
	struct sandbox s = sample(f, "s1"), out;
	struct lease l;

	assert_err(lease_check(&f->ctx, f->db, "s1", &f->err), ERR_NOT_FOUND,
		   "lease \"s1\": not found");
	assert_ok(sandbox_create_leased(&f->ctx, f->db, &s, &out, &f->err));
	assert_ok(lease_check(&f->ctx, f->db, "s1", &f->err));
	assert_ok(sandbox_delete(&f->ctx, f->db, "s1", &f->err));
	assert_err(sandbox_create_leased(&f->ctx, f->db, &s, &out, &f->err), ERR_ALREADY_EXISTS,
		   "lease \"s1\": already exists");
	assert_err(sandbox_get(&f->ctx, f->db, "s1", &out, &f->err), ERR_NOT_FOUND,
		   "bucket \"s1\" not found");
	assert_ok(lease_delete(&f->ctx, f->db, "s1", &f->err));
	assert_ok(lease_create(&f->ctx, f->db, "s1", NULL, &l, &f->err));
	assert_ok(sandbox_create(&f->ctx, f->db, &s, &out, &f->err));
}

static int look_at_record(struct bolt_tx *tx, void *arg, struct err *err)
{
	struct bolt_bucket *b = SCHEMA_FIND(tx, "default", "sandboxes", "s1");
	struct bolt_slice v;

	assert_non_null(b);
	assert_true(bolt_get(b, bolt_s("createdat"), &v) && v.len == 15);
	assert_true(bolt_get(b, bolt_s("updatedat"), &v));
	assert_true(bolt_get(b, bolt_s("spec"), &v));
	assert_true(bolt_get(b, bolt_s("sandboxer"), &v));
	assert_int_equal(v.len, strlen("podsandbox"));
	assert_non_null(bolt_bucket(b, bolt_s("labels")));
	assert_non_null(bolt_bucket(b, bolt_s("extensions")));
	b = bolt_bucket(b, bolt_s("runtime"));
	assert_non_null(b);
	assert_true(bolt_get(b, bolt_s("name"), &v));
	assert_true(bolt_get(b, bolt_s("options"), &v));
	return 0;
}

static void record_has_containerd_s_keys(void **state)
{
	struct fix *f = *state;

	create(f, "s1");
	assert_ok(db_view(&f->ctx, f->db, look_at_record, NULL, &f->err));
}

static void what_is_not_there_is_told_apart(void **state)
{
	struct fix *f = *state;
	struct sandbox s = sample(f, "s1"), *all;
	size_t n = 7;

	assert_err(sandbox_get(&f->ctx, f->db, "s1", &s, &f->err), ERR_NOT_FOUND,
		   "no sandbox buckets: not found");
	assert_err(sandbox_update(&f->ctx, f->db, &s, NULL, 0, &s, &f->err), ERR_NOT_FOUND,
		   "no sandbox buckets: not found");
	assert_err(sandbox_delete(&f->ctx, f->db, "s1", &f->err), ERR_NOT_FOUND,
		   "no sandbox buckets: not found");
	assert_ok(sandbox_list(&f->ctx, f->db, NULL, &all, &n, &f->err));
	assert_int_equal(n, 0);
	create(f, "other");
	assert_err(sandbox_get(&f->ctx, f->db, "s1", &s, &f->err), ERR_NOT_FOUND,
		   "bucket \"s1\" not found");
	assert_err(sandbox_update(&f->ctx, f->db, &s, NULL, 0, &s, &f->err), ERR_NOT_FOUND,
		   "bucket \"s1\" not found");
	assert_int_equal(sandbox_delete(&f->ctx, f->db, "s1", &f->err), -ERR_NOT_FOUND);
	f->ctx.ns = "elsewhere";
	assert_err(sandbox_get(&f->ctx, f->db, "other", &s, &f->err), ERR_NOT_FOUND,
		   "no sandbox buckets: not found");
	f->ctx.ns = "";
	assert_err(sandbox_get(&f->ctx, f->db, "other", &s, &f->err), ERR_FAILED_PRECONDITION,
		   "namespace is required: failed precondition");
}

static void what_is_not_valid_is_not_created(void **state)
{
	struct fix *f = *state;
	struct sandbox s = sample(f, "a..b"), out;

	assert_int_equal(sandbox_create(&f->ctx, f->db, &s, &out, &f->err), -ERR_INVALID_ARGUMENT);
	s = sample(f, "s1");
	s.extensions[0].key = "";
	assert_int_equal(sandbox_create(&f->ctx, f->db, &s, &out, &f->err), -ERR_INVALID_ARGUMENT);
	s = sample(f, "s1");
	s.labels = make_labels(f->arena, "k", arena_printf(f->arena, "%05000d", 1), NULL);
	assert_int_equal(sandbox_create(&f->ctx, f->db, &s, &out, &f->err), -ERR_INVALID_ARGUMENT);
	assert_err(sandbox_get(&f->ctx, f->db, "s1", &s, &f->err), ERR_NOT_FOUND,
		   "no sandbox buckets: not found");
}

static void update_changes_the_named_fields_only(void **state)
{
	struct fix *f = *state;
	struct any_entry two[] = {{"two", {"types/Two", "2", 1}},
				  {"three", {"types/Three", "3", 1}}};
	struct sandbox s = {.id = "s1",
			    .labels = make_labels(f->arena, "a", "1", "b", "2", NULL),
			    .runtime_name = "other.runtime.v1",
			    .spec = {"types/New", "n", 1},
			    .sandboxer = "changed",
			    .extensions = two,
			    .n_extensions = 2},
		       got;
	char *one[] = {(char *)"labels.a"}, *ext[] = {(char *)"extensions.two"},
	     *more[] = {(char *)"labels", (char *)"runtime", (char *)"spec"},
	     *bad[] = {(char *)"sandboxer"};

	create(f, "s1");
	assert_ok(sandbox_update(&f->ctx, f->db, &s, one, 1, &got, &f->err));
	assert_int_equal(got.labels.n, 2);
	assert_string_equal(labels_get(&got.labels, "k"), "v");
	assert_string_equal(labels_get(&got.labels, "a"), "1");
	assert_any(got.spec, spec_any);
	assert_true(time_cmp(got.updated_at, got.created_at) > 0);

	assert_ok(sandbox_update(&f->ctx, f->db, &s, ext, 1, &got, &f->err));
	assert_int_equal(got.n_extensions, 2);
	assert_string_equal(got.extensions[0].key, "one");
	assert_string_equal(got.extensions[1].key, "two");

	assert_ok(sandbox_update(&f->ctx, f->db, &s, more, 3, &got, &f->err));
	assert_string_equal(got.runtime_name, "other.runtime.v1");
	assert_null(got.runtime_options.type_url);
	assert_any(got.spec, s.spec);
	assert_null(labels_get(&got.labels, "k"));
	assert_string_equal(labels_get(&got.labels, "b"), "2");
	assert_string_equal(got.sandboxer, "podsandbox");

	assert_err(sandbox_update(&f->ctx, f->db, &s, bad, 1, &got, &f->err), ERR_INVALID_ARGUMENT,
		   "cannot update \"sandboxer\" field on sandbox \"s1\": invalid argument");
}

static void update_without_fields_keeps_the_runtime_s_name(void **state)
{
	struct fix *f = *state;
	struct sandbox s = {.id = "s1", .runtime_name = "other", .sandboxer = ""}, got;

	create(f, "s1");
	assert_err(sandbox_update(&f->ctx, f->db, &s, NULL, 0, &got, &f->err), ERR_INVALID_ARGUMENT,
		   "sandbox.Runtime.Name field is immutable: invalid argument");
	s.runtime_name = "io.containerd.runc.v2";
	assert_ok(sandbox_update(&f->ctx, f->db, &s, NULL, 0, &got, &f->err));
	assert_int_equal(got.labels.n, 0);
	assert_null(got.spec.type_url);
	assert_int_equal(got.n_extensions, 1); /* these are not removed */
}

static void list_is_filtered_by_id_and_label(void **state)
{
	static const char *const by_id[] = {"id==s2"}, *const by_label[] = {"labels.k==v"},
				 *const other[] = {"runtime==x"};
	struct fix *f = *state;
	_cleanup_filter_ struct filter *f1 = NULL, *f2 = NULL, *f3 = NULL;
	struct sandbox *all;
	size_t n;

	create(f, "s2");
	create(f, "s1");
	assert_ok(filter_parse(f->arena, by_id, 1, &f1, &f->err));
	assert_ok(filter_parse(f->arena, by_label, 1, &f2, &f->err));
	assert_ok(filter_parse(f->arena, other, 1, &f3, &f->err));
	assert_ok(sandbox_list(&f->ctx, f->db, NULL, &all, &n, &f->err));
	assert_int_equal(n, 2);
	assert_string_equal(all[0].id, "s1");
	assert_ok(sandbox_list(&f->ctx, f->db, f1, &all, &n, &f->err));
	assert_int_equal(n, 1);
	assert_string_equal(all[0].id, "s2");
	assert_ok(sandbox_list(&f->ctx, f->db, f2, &all, &n, &f->err));
	assert_int_equal(n, 2);
	assert_ok(sandbox_list(&f->ctx, f->db, f3, &all, &n, &f->err));
	assert_int_equal(n, 0);
}

static void what_a_sandbox_s_label_names_lives_as_long_as_the_sandbox(void **state)
{
	struct fix *f = *state;
	struct digest d;
	struct descriptor desc = {.digest = d.text, .size = 4};
	struct content_info info;
	struct sandbox s = sample(f, "s1"), out;

	digest_of(DIGEST_SHA256, "kept", 4, &d);
	assert_ok(content_put(&f->ctx, f->db, "ref", &desc, "kept", NULL, &f->err));
	s.labels = make_labels(f->arena, "containerd.io/gc.ref.content.0", d.text, NULL);
	assert_ok(sandbox_create(&f->ctx, f->db, &s, &out, &f->err));
	assert_ok(gc_run(&f->ctx, f->db, &f->err));
	assert_ok(content_info(&f->ctx, f->db, d.text, &info, &f->err));
	assert_ok(sandbox_get(&f->ctx, f->db, "s1", &out, &f->err));
	assert_ok(sandbox_delete(&f->ctx, f->db, "s1", &f->err));
	assert_ok(gc_run(&f->ctx, f->db, &f->err));
	assert_int_equal(content_info(&f->ctx, f->db, d.text, &info, NULL), -ERR_NOT_FOUND);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, fix_setup, fix_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(what_was_created_is_read_back),
		T(sandbox_and_its_lease_come_together_or_not_at_all),
		T(record_has_containerd_s_keys),
		T(what_is_not_there_is_told_apart),
		T(what_is_not_valid_is_not_created),
		T(update_changes_the_named_fields_only),
		T(update_without_fields_keeps_the_runtime_s_name),
		T(list_is_filtered_by_id_and_label),
		T(what_a_sandbox_s_label_names_lives_as_long_as_the_sandbox),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
