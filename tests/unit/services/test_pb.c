/* SPDX-License-Identifier: Apache-2.0 */
/* Conversions between core's values and messages. */
#include "harness.h"

static int setup(void **state)
{
	struct harness *h = calloc(1, sizeof(*h));
	assert_non_null(h);
	h->arena = arena_new(0);
	*state = h;
	return 0;
}

static int teardown(void **state)
{
	struct harness *h = *state;
	arena_free(h->arena);
	free(h);
	return 0;
}

static void labels_survive_both_ways(void **state)
{
	struct harness *h = *state;
	struct labels l = {0}, back;
	Containerd__Services__Images__V1__Image m = CONTAINERD__SERVICES__IMAGES__V1__IMAGE__INIT,
						*copy;
	labels_set(h->arena, &l, "b", "2");
	labels_set(h->arena, &l, "a", "");
	assert_ok(pb_labels_put(h->arena, &l,
				&containerd__services__images__v1__image__labels_entry__descriptor,
				&m.labels, &m.n_labels, &h->err));
	/* Through the wire: what protobuf-c makes of it is what a client sends. */
	size_t n;
	uint8_t *p = rpc_pack(h->arena, &m.base, &n);
	assert_ok(rpc_unpack(h->arena, m.base.descriptor, p, n, &copy, &h->err));
	assert_ok(pb_labels_get(h->arena, copy->labels, copy->n_labels, &back, &h->err));
	assert_int_equal(back.n, 2);
	assert_string_equal(labels_get(&back, "a"), "");
	assert_string_equal(labels_get(&back, "b"), "2");
	assert_ok(pb_labels_get(h->arena, NULL, 0, &back, &h->err));
	assert_int_equal(back.n, 0);
}

static void nanoseconds_beyond_a_second_are_seconds(void **state)
{
	static const struct {
		int64_t seconds;
		int32_t nanos;
		int64_t sec;
		long nsec;
	} cases[] = {{100, 5, 100, 5},
		     {100, -5, 99, 999999995},
		     {100, 2000000000, 102, 0},
		     {0, INT32_MIN, -3, 852516352},
		     {INT64_MAX, INT32_MAX, INT64_MAX, 147483647},
		     {INT64_MIN, -1, INT64_MIN, 999999999}};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		Google__Protobuf__Timestamp t = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
		t.seconds = cases[i].seconds;
		t.nanos = cases[i].nanos;
		struct timespec ts = pb_time_get(&t);
		assert_int_equal(ts.tv_sec, cases[i].sec);
		assert_int_equal(ts.tv_nsec, cases[i].nsec);
	}
}

static void entry_without_key_or_value_is_empty_strings(void **state)
{
	/* labels (field 2): an empty entry, and one with a key only, twice. */
	static const uint8_t wire[] = {0x12, 0,	   0x12, 3,   0x0a, 1, 'k', 0x12,
				       6,    0x0a, 1,	 'k', 0x12, 1, 'v'};
	struct harness *h = *state;
	Containerd__Services__Images__V1__Image *m;
	struct labels l;
	assert_ok(rpc_unpack(h->arena, &containerd__services__images__v1__image__descriptor, wire,
			     sizeof(wire), &m, &h->err));
	assert_int_equal(m->n_labels, 3);
	assert_ok(pb_labels_get(h->arena, m->labels, m->n_labels, &l, &h->err));
	assert_int_equal(l.n, 2);
	assert_string_equal(labels_get(&l, ""), "");
	assert_string_equal(labels_get(&l, "k"), "v"); /* the last one counts */
}

static void times_and_anys_may_be_absent(void **state)
{
	struct harness *h = *state;
	struct timespec t = pb_time_get(NULL);
	assert_true(time_is_zero(t));
	t = (struct timespec){.tv_sec = -5, .tv_nsec = 999999999};
	struct timespec back = pb_time_get(pb_time_put(h->arena, t));
	assert_int_equal(time_cmp(t, back), 0);
	struct any any = pb_any_get(NULL);
	assert_null(any.type_url);
	assert_null(pb_any_put(h->arena, &any));
	any = (struct any){"t", "\0x", 2};
	struct any got = pb_any_get(pb_any_put(h->arena, &any));
	assert_string_equal(got.type_url, "t");
	assert_int_equal(got.len, 2);
	assert_memory_equal(got.value, "\0x", 2);
}

static void descriptors_and_mounts_survive(void **state)
{
	struct harness *h = *state;
	struct descriptor d, back;
	assert_ok(pb_descriptor_get(h->arena, NULL, &d, &h->err));
	assert_string_equal(d.media_type, "");
	assert_string_equal(d.digest, "");
	d = (struct descriptor){.media_type = "m", .digest = "d", .size = 1LL << 40};
	labels_set(h->arena, &d.annotations, "k", "v");
	assert_ok(pb_descriptor_get(h->arena, pb_descriptor_put(h->arena, &d, &h->err), &back,
				    &h->err));
	assert_string_equal(back.media_type, "m");
	assert_int_equal(back.size, 1LL << 40);
	assert_string_equal(labels_get(&back.annotations, "k"), "v");
	const char *options[] = {"ro", "bind"};
	struct mount v[] = {{.type = "bind", .source = "/s", .options = options, .n_options = 2},
			    {.type = "x", .source = "y"}};
	struct mounts m = {.v = v, .n = 2}, mback;
	Containerd__Types__Mount **pb;
	size_t n;
	assert_ok(pb_mounts_put(h->arena, &m, &pb, &n, &h->err));
	assert_string_equal(pb[0]->target, "");
	assert_ok(pb_mounts_get(h->arena, pb, n, &mback, &h->err));
	assert_int_equal(mback.n, 2);
	assert_string_equal(mback.v[0].options[1], "bind");
	assert_int_equal(mback.v[1].n_options, 0);
}

static void memory_that_runs_out_is_an_error(void **state)
{
	struct harness *h = *state;
	struct labels l = {0}, back;
	Containerd__Services__Images__V1__Image m = CONTAINERD__SERVICES__IMAGES__V1__IMAGE__INIT;
	char key[16];
	for (int i = 0; i < 200; i++) {
		snprintf(key, sizeof(key), "key-%d", i);
		labels_set(h->arena, &l, key, key);
	}
	_cleanup_arena_ struct arena *small = arena_new(4096);
	assert_int_equal(
		pb_labels_put(small, &l,
			      &containerd__services__images__v1__image__labels_entry__descriptor,
			      &m.labels, &m.n_labels, &h->err),
		-ERR_RESOURCE_EXHAUSTED);
	assert_int_equal(m.n_labels, 0);
	assert_ok(pb_labels_put(h->arena, &l,
				&containerd__services__images__v1__image__labels_entry__descriptor,
				&m.labels, &m.n_labels, &h->err));
	assert_int_equal(pb_labels_get(small, m.labels, m.n_labels, &back, &h->err),
			 -ERR_RESOURCE_EXHAUSTED);
	struct descriptor d = {.media_type = "m", .digest = "d", .annotations = l};
	assert_null(pb_descriptor_put(small, &d, &h->err));
	assert_int_equal(h->err.kind, ERR_RESOURCE_EXHAUSTED);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(labels_survive_both_ways),
		T(entry_without_key_or_value_is_empty_strings),
		T(nanoseconds_beyond_a_second_are_seconds),
		T(times_and_anys_may_be_absent),
		T(descriptors_and_mounts_survive),
		T(memory_that_runs_out_is_an_error),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
