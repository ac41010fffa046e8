/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/str.h"
#include "oci/platform.h"

static struct platform parse(struct arena *a, const char *text)
{
	struct platform p;
	struct err err;

	if (platform_parse(a, text, &p, &err) < 0)
		fail_msg("%s: %s", text, err.text);
	return p;
}

static void texts_are_parsed_and_written(void **state)
{
	static const char *const cases[][2] = {
		{"linux/amd64", "linux/amd64"},
		{"linux/x86_64", "linux/amd64"},
		{"Linux/AMD64", "linux/amd64"},
		{"linux/amd64/v1", "linux/amd64"},
		{"linux/amd64/v3", "linux/amd64/v3"},
		{"linux/arm", "linux/arm"},
		{"linux/arm/7", "linux/arm/v7"},
		{"linux/armhf", "linux/arm"},
		{"linux/armel", "linux/arm/v6"},
		{"linux/aarch64", "linux/arm64"},
		{"linux/arm64/v8", "linux/arm64/v8"},
		{"linux/arm64/9.0", "linux/arm64/v9"},
		{"macos/arm64", "darwin/arm64"},
		{"windows(10.0.17763)/amd64", "windows(10.0.17763)/amd64"},
		{"windows()/amd64", "windows/amd64"},
		{"s390x", "linux/s390x"},
		{"i386", "linux/386"},
	};
	_cleanup_arena_ struct arena *a = arena_new(0);

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct platform p = parse(a, cases[i][0]);

		assert_string_equal(platform_format(a, &p), cases[i][1]);
	}
}

static void a_word_gets_the_rest_from_the_host(void **state)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	struct platform host, p;

	assert_int_equal(platform_host(a, &host), 0);
	p = parse(a, "windows");
	assert_string_equal(p.os, "windows");
	assert_string_equal(p.arch, host.arch);
	p = parse(a, "riscv64");
	assert_string_equal(p.os, "linux");
	assert_string_equal(p.arch, "riscv64");
#ifdef __x86_64__
	assert_string_equal(platform_format(a, &host), "linux/amd64");
#endif
}

static void broken_texts_are_refused(void **state)
{
	static const char *const cases[] = {
		"",	  "*",	      "linux/*", "a/b/c/d",	 "nonsense", "linux//v7",
		"linux/", "li nux/x", "linux(1", "linux(a b)/x", "(1)/x",    "/"};
	_cleanup_arena_ struct arena *a = arena_new(0);

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct platform p;
		struct err err;

		if (platform_parse(a, cases[i], &p, &err) != -ERR_INVALID_ARGUMENT)
			fail_msg("%s is accepted", cases[i]);
	}
}

static void ranks_follow_the_preference(void **state)
{
	static const struct {
		const char *want, *have;
		int rank;
	} cases[] = {
		{"linux/amd64", "linux/amd64", 0},
		{"linux/amd64", "linux/x86_64", 0},
		{"linux/amd64", "linux/386", 1},
		{"linux/amd64", "linux/amd64/v2", -1},
		{"linux/amd64", "linux/arm64", -1},
		{"linux/amd64", "windows/amd64", -1},
		{"linux/amd64/v3", "linux/amd64/v3", 0},
		{"linux/amd64/v3", "linux/amd64/v2", 1},
		{"linux/amd64/v3", "linux/amd64", 2},
		{"linux/amd64/v3", "linux/386", 3},
		{"linux/arm64", "linux/arm64", 0},
		{"linux/arm64", "linux/arm64/v8", 0},
		{"linux/arm64", "linux/arm/v8", 1},
		{"linux/arm64", "linux/arm/v7", 2},
		{"linux/arm64", "linux/arm", 2},
		{"linux/arm64", "linux/arm/v5", 4},
		{"linux/arm64", "linux/arm64/v9", -1},
		{"linux/arm64/v8.2", "linux/arm64/v8.1", 1},
		{"linux/arm64/v8.2", "linux/arm64", 2},
		{"linux/arm64/v8.2", "linux/arm/v8", 3},
		{"linux/arm64/v9", "linux/arm64/v8.5", 1},
		{"linux/arm64/v9", "linux/arm64", 6},
		{"linux/arm64/v9.1", "linux/arm64/v9", 1},
		{"linux/arm64/v9.1", "linux/arm64/v8.6", 2},
		{"linux/arm", "linux/arm/v7", 0},
		{"linux/arm", "linux/arm/v6", 1},
		{"linux/arm/v6", "linux/arm/v5", 1},
		{"linux/arm/v6", "linux/arm/v7", -1},
		{"linux/s390x", "linux/s390x", 0},
	};
	_cleanup_arena_ struct arena *a = arena_new(0);

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct platform w = parse(a, cases[i].want), h = parse(a, cases[i].have);

		if (platform_rank(&w, &h) != cases[i].rank)
			fail_msg("%s on %s: %d", cases[i].have, cases[i].want,
				 platform_rank(&w, &h));
	}
}

static void absent_members_count_as_empty(void **state)
{
	struct platform p = {.arch = "amd64"}, none = {0};

	assert_int_equal(platform_rank(&(struct platform){"linux", "amd64", "", ""}, &p), 0);
	assert_int_equal(platform_rank(&p, &none), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(texts_are_parsed_and_written),
		cmocka_unit_test(a_word_gets_the_rest_from_the_host),
		cmocka_unit_test(broken_texts_are_refused),
		cmocka_unit_test(ranks_follow_the_preference),
		cmocka_unit_test(absent_members_count_as_empty),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
