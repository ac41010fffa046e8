/* SPDX-License-Identifier: Apache-2.0 */
/* err, buf, arena, str, ident, labels, digest, time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/digest.h"
#include "base/err.h"
#include "base/labels.h"
#include "base/str.h"
#include "base/time.h"

static struct arena *arena;

static int setup(void **state)
{
	(void)state;
	arena = arena_new(0);
	return arena ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	arena_free(arena);
	return 0;
}

static void error_text_ends_with_its_kind_once(void **state)
{
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(err_set(&err, ERR_NOT_FOUND, "image `%s`", "x"), -ERR_NOT_FOUND);
	assert_string_equal(err.text, "image `x`: not found");
	assert_int_equal(err_set(&err, ERR_NOT_FOUND, "x: not found"), -ERR_NOT_FOUND);
	assert_string_equal(err.text, "x: not found");
	assert_int_equal(err_prefix(&err, "unpack %d", 1), -ERR_NOT_FOUND);
	assert_string_equal(err.text, "unpack 1: x: not found");
	err_set(&err, ERR_UNKNOWN, "odd");
	assert_string_equal(err.text, "odd");
	err_set_raw(&err, ERR_NOT_FOUND, "raw");
	assert_string_equal(err.text, "raw");
	assert_int_equal(err_set(NULL, ERR_ABORTED, "nobody listens"), -ERR_ABORTED);
}

static void errno_becomes_a_kind(void **state)
{
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(err_errno(&err, -ENOENT, "open `%s`", "/x"), -ERR_NOT_FOUND);
	assert_string_equal(err.text, "open `/x`: no such file or directory: not found");
	assert_int_equal(err_errno(&err, EEXIST, "x"), -ERR_ALREADY_EXISTS);
	assert_int_equal(err_errno(&err, EACCES, "x"), -ERR_PERMISSION_DENIED);
	assert_int_equal(err_errno(&err, ENOSPC, "x"), -ERR_RESOURCE_EXHAUSTED);
	assert_int_equal(err_errno(&err, EIO, "x"), -ERR_UNKNOWN);
}

static void long_errors_are_cut_not_overrun(void **state)
{
	struct err err = ERR_INIT;
	char *text = malloc(10000);

	(void)state;
	memset(text, 'a', 9999);
	text[9999] = 0;
	err_set(&err, ERR_INTERNAL, "%s", text);
	assert_true(strlen(err.text) < ERR_TEXT_MAX);
	err_prefix(&err, "%s", text);
	assert_true(strlen(err.text) < ERR_TEXT_MAX);
	free(text);
}

static void codes_and_kinds_map_both_ways(void **state)
{
	(void)state;
	for (int code = 1; code <= 16; code++)
		assert_int_equal(err_kind_from_code(code, "text"), code);
	assert_int_equal(err_code(-ERR_UNAVAILABLE), 14);
	assert_int_equal(err_code(ERR_CONFLICT), ERR_FAILED_PRECONDITION);
	assert_int_equal(err_code(0), 0);
}

static void buffer_grows_consumes_and_is_taken(void **state)
{
	struct buf b = BUF_INIT;
	size_t n;
	char *p;

	(void)state;
	for (int i = 0; i < 10000; i++)
		assert_int_equal(buf_printf(&b, "%d,", i % 10), 0);
	assert_int_equal(b.len, 20000);
	assert_int_equal(b.data[b.len], 0);
	buf_consume(&b, 19996);
	assert_string_equal(b.data, "8,9,");
	buf_add(&b, "\0x", 2);
	assert_int_equal(b.len, 6);
	p = buf_take(&b, &n);
	assert_int_equal(n, 6);
	assert_memory_equal(p, "8,9,\0x", 7);
	free(p);
	assert_null(b.data);
	assert_int_equal(b.len, 0);
	buf_adds(&b, "again");
	buf_clear(&b);
	assert_int_equal(b.len, 0);
	buf_done(&b);
	buf_done(&b);
}

static void arena_memory_is_aligned_cleared_and_limited(void **state)
{
	struct arena *small = arena_new(4096);
	char *array = NULL;
	size_t cap = 0;

	(void)state;
	for (size_t n = 1; n < 5000; n += 7) {
		char *p = arena_zalloc(arena, n);

		assert_int_equal((uintptr_t)p % 16, 0);
		for (size_t i = 0; i < n; i++)
			assert_int_equal(p[i], 0);
		memset(p, 0xff, n);
	}
	assert_string_equal(arena_printf(arena, "%s-%d", "a", 1), "a-1");
	assert_string_equal(arena_strndup(arena, "abc", 2), "ab");
	assert_null(arena_strdup(arena, NULL));
	assert_null(arena_calloc(arena, SIZE_MAX / 2, 3));
	assert_null(arena_alloc(small, 100000));
	assert_non_null(arena_alloc(small, 100));
	arena_free(small);
	for (size_t i = 0; i < 3000; i++) {
		array = arena_grow(arena, array, &cap, i + 1, 1);
		assert_true(cap > i);
		array[i] = (char)i;
	}
	for (size_t i = 0; i < 3000; i++)
		assert_int_equal(array[i], (char)i);
	assert_null(arena_grow(arena, array, &cap, SIZE_MAX / 4, 16));
	arena_reset(arena);
	assert_non_null(arena_alloc(arena, 10));
}

static void numbers_are_whole_strings_in_range(void **state)
{
	uint64_t u = 7;
	int64_t i = 7;

	(void)state;
	assert_int_equal(str_to_u64("18446744073709551615", 10, &u), 0);
	assert_true(u == UINT64_MAX);
	assert_int_equal(str_to_u64("18446744073709551616", 10, &u), -ERANGE);
	assert_int_equal(str_to_u64("-1", 10, &u), -EINVAL);
	assert_int_equal(str_to_u64(" 1", 10, &u), -EINVAL);
	assert_int_equal(str_to_u64("1x", 10, &u), -EINVAL);
	assert_int_equal(str_to_u64("", 10, &u), -EINVAL);
	assert_true(u == UINT64_MAX);
	assert_int_equal(str_to_u64("777", 8, &u), 0);
	assert_int_equal(u, 511);
	assert_int_equal(str_to_i64("-9223372036854775808", 10, &i), 0);
	assert_true(i == INT64_MIN);
	assert_int_equal(str_to_i64("9223372036854775808", 10, &i), -ERANGE);
	assert_int_equal(str_to_i64("--1", 10, &i), -EINVAL);
}

static void strings_split_and_match(void **state)
{
	char hex[9];
	size_t n;
	char **v;

	(void)state;
	v = str_split(arena, "a,,b", ',', &n);
	assert_int_equal(n, 3);
	assert_string_equal(v[1], "");
	assert_string_equal(v[2], "b");
	assert_null(v[3]);
	v = str_split(arena, "", ',', &n);
	assert_int_equal(n, 0);
	assert_null(v[0]);
	assert_true(str_has_suffix("a-service", "-service"));
	assert_false(str_has_suffix("e", "ee"));
	assert_string_equal(str_skip("sha256:x", "sha256:"), "x");
	assert_null(str_skip("sha", "sha256:"));
	hex_encode("\x01\xab\xff\x00", 4, hex);
	assert_string_equal(hex, "01abff00");
}

static void sizes_are_told_as_ctr_does(void **state)
{
	char s[32];

	(void)state;
	str_size_binary(2 * 1024 * 1024, s);
	assert_string_equal(s, "2.0 MiB");
	str_size_binary(12, s);
	assert_string_equal(s, "12.0 B");
	str_size_decimal(422, s);
	assert_string_equal(s, "422B");
	str_size_decimal(2058000, s);
	assert_string_equal(s, "2.058MB");
}

static void identifiers_are_checked(void **state)
{
	static const char *const good[] = {
		"a", "a-b", "A.b_c-9", "0",
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
	static const char *const bad[] = {
		"",
		"-a",
		"a-",
		"a--b",
		"a b",
		"a/b",
		".",
		"\xc3\xa9",
		"a\n",
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
	struct err err = ERR_INIT;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		assert_int_equal(ident_validate(good[i], &err), 0);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(ident_validate(bad[i], &err), -ERR_INVALID_ARGUMENT);
}

static void labels_stay_sorted_and_unique(void **state)
{
	struct labels l = {0}, copy = {0};
	struct err err = ERR_INIT;
	char *big = arena_zalloc(arena, 4097);

	(void)state;
	for (int i = 99; i >= 0; i--)
		assert_int_equal(labels_set(arena, &l, arena_printf(arena, "k%02d", i), "v"), 0);
	assert_int_equal(labels_set(arena, &l, "k50", "new"), 0);
	assert_int_equal(l.n, 100);
	for (size_t i = 1; i < l.n; i++)
		assert_true(strcmp(l.v[i - 1].key, l.v[i].key) < 0);
	assert_string_equal(labels_get(&l, "k50"), "new");
	assert_null(labels_get(&l, "k"));
	assert_int_equal(labels_copy(arena, &copy, &l), 0);
	labels_unset(&l, "k50");
	labels_unset(&l, "absent");
	assert_null(labels_get(&l, "k50"));
	assert_int_equal(l.n, 99);
	assert_string_equal(labels_get(&copy, "k50"), "new");
	memset(big, 'x', 4094);
	assert_int_equal(labels_set(arena, &l, "k1", big), 0);
	assert_int_equal(labels_validate(&l, &err), 0);
	big[4094] = 'x';
	assert_int_equal(labels_set(arena, &l, "k1", big), 0);
	assert_int_equal(labels_validate(&l, &err), -ERR_INVALID_ARGUMENT);
}

static void digests_are_right_and_checked(void **state)
{
	static const char *const bad[] = {
		"",
		"sha256:",
		"sha256",
		":x",
		"md5:00",
		"sha256:00",
		"sha256:G3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b85"};
	struct hasher *h = hasher_new(DIGEST_SHA512);
	struct digest d;
	char hex[65];

	(void)state;
	digest_of(DIGEST_SHA256, "", 0, &d);
	assert_string_equal(
		d.text, "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
	assert_int_equal(digest_validate(d.text, NULL), 0);
	assert_true(str_has_prefix(digest_hex(d.text), "e3b0"));
	sha256_hex("abc", 3, hex);
	assert_string_equal(hex,
			    "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	hasher_update(h, "a", 1);
	hasher_digest(h, &d); /* in between: does not end it */
	hasher_update(h, "bc", 2);
	hasher_digest(h, &d);
	assert_true(str_has_prefix(d.text, "sha512:ddaf35a193617abacc417349ae204131"));
	assert_int_equal(digest_alg(d.text), DIGEST_SHA512);
	hasher_free(h);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(digest_validate(bad[i], NULL), -ERR_INVALID_ARGUMENT);
}

static void times_read_and_write_rfc3339(void **state)
{
	static const char *const bad[] = {"",
					  "2020-01-01",
					  "2020-13-01T00:00:00Z",
					  "2020-01-01T24:00:00Z",
					  "2020-01-01T00:00:00",
					  "2020-01-01T00:00:00.Z",
					  "2020-01-01T00:00:00+1:00",
					  "2020-01-01T00:00:00Zx"};
	struct timespec t;
	char s[40];

	(void)state;
	assert_int_equal(time_parse_rfc3339("2024-02-29T23:59:59.5+01:30", &t), 0);
	time_format_rfc3339(t, s);
	assert_string_equal(s, "2024-02-29T22:29:59.5Z");
	assert_int_equal(time_parse_rfc3339("1970-01-01T00:00:01.000000001Z", &t), 0);
	assert_int_equal(t.tv_sec, 1);
	assert_int_equal(t.tv_nsec, 1);
	t.tv_nsec = 0;
	time_format_rfc3339(t, s);
	assert_string_equal(s, "1970-01-01T00:00:01Z");
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(time_parse_rfc3339(bad[i], &t), -EINVAL);
}

static void durations_read_and_write_as_go_does(void **state)
{
	static const struct {
		const char *text;
		int64_t ns;
		const char *canonical;
	} good[] = {
		{"0", 0, "0s"},
		{"1h2m3.5s", 3723500000000, "1h2m3.5s"},
		{"300ms", 300000000, "300ms"},
		{"5m", 300000000000, "5m0s"},
		{"-1.5h", -5400000000000, "-1h30m0s"},
		{"1us", 1000, "1\xc2\xb5s"},
		{"100ns", 100, "100ns"},
		{"1.5us", 1500, "1.5\xc2\xb5s"},
		{".5s", 500000000, "500ms"},
		{"+2s", 2000000000, "2s"},
		{"2562047h47m16.854775807s", INT64_MAX, "2562047h47m16.854775807s"},
	};
	static const char *const bad[] = {"",	 "1", "s",  "1x",  "1s ",
					  " 1s", "-", ".s", "1h1", "9223372036855s1"};
	int64_t ns;
	char s[40];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		assert_int_equal(duration_parse(good[i].text, &ns), 0);
		assert_true(ns == good[i].ns);
		duration_format(ns, s);
		assert_string_equal(s, good[i].canonical);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_true(duration_parse(bad[i], &ns) < 0);
	assert_true(duration_parse("9223372037s", &ns) < 0);
	assert_true(duration_parse("99999999999999999999h", &ns) < 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(error_text_ends_with_its_kind_once),
		T(errno_becomes_a_kind),
		T(long_errors_are_cut_not_overrun),
		T(codes_and_kinds_map_both_ways),
		T(buffer_grows_consumes_and_is_taken),
		T(arena_memory_is_aligned_cleared_and_limited),
		T(numbers_are_whole_strings_in_range),
		T(strings_split_and_match),
		T(sizes_are_told_as_ctr_does),
		T(identifiers_are_checked),
		T(labels_stay_sorted_and_unique),
		T(digests_are_right_and_checked),
		T(times_read_and_write_rfc3339),
		T(durations_read_and_write_as_go_does),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
