/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/str.h"
#include "oci/reference.h"

#define HEX "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9"
#define DIGEST "sha256:" HEX

static void full_references_come_apart(void **state)
{
	static const struct {
		const char *text, *host, *repository, *object, *tag, *digest;
	} cases[] = {
		{"docker.io/library/busybox:latest", "docker.io", "library/busybox", "latest",
		 "latest", ""},
		{"localhost:5000/a/b:v1@" DIGEST, "localhost:5000", "a/b", "v1@" DIGEST, "v1",
		 DIGEST},
		{"ghcr.io/x@" DIGEST, "ghcr.io", "x", "@" DIGEST, "", DIGEST},
		{"[::1]:5000/x:y", "[::1]:5000", "x", "y", "y", ""},
		{"k8s.gcr.io/pause:3.9", "k8s.gcr.io", "pause", "3.9", "3.9", ""},
	};
	_cleanup_arena_ struct arena *a = arena_new(0);

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct reference r;
		struct err err;

		if (reference_parse(a, cases[i].text, &r, &err) < 0)
			fail_msg("%s: %s", cases[i].text, err.text);
		assert_string_equal(r.host, cases[i].host);
		assert_string_equal(r.repository, cases[i].repository);
		assert_string_equal(r.object, cases[i].object);
		assert_string_equal(r.tag, cases[i].tag);
		assert_string_equal(r.digest, cases[i].digest);
		assert_string_equal(r.locator, arena_printf(a, "%s/%s", r.host, r.repository));
	}
}

static void references_without_object_are_refused(void **state)
{
	static const char *const cases[] = {"docker.io/library/busybox", "localhost:5000",
					    "localhost:5000/x", "busybox"};
	_cleanup_arena_ struct arena *a = arena_new(0);

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct reference r;
		struct err err;

		assert_int_equal(reference_parse(a, cases[i], &r, &err), -ERR_INVALID_ARGUMENT);
		assert_string_equal(err.text, "object required: invalid argument");
	}
}

static void broken_references_are_refused(void **state)
{
	static const char *const cases[] = {
		"",
		"http://docker.io/x:y",
		"docker.io/x:",
		"docker.io/x@",
		"docker.io/x@sha256:12",
		"docker.io/x:a b",
		"docker.io/x:-a",
		"docker.io//x:y",
		"docker.io/x/:y",
		"docker.io/../x:y",
		"docker.io/x%2fy:z",
		"docker.io/x?ns=y:z",
		"docker.io:port/x:y",
		"docker.io:99999/x:y",
		"/x:y",
		"user@docker.io/x:y",
		"[::1/x:y",
		"docker.io/x:y/z",
	};
	_cleanup_arena_ struct arena *a = arena_new(0);

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct reference r;
		struct err err = ERR_INIT;

		if (reference_parse(a, cases[i], &r, &err) != -ERR_INVALID_ARGUMENT)
			fail_msg("%s is accepted", cases[i]);
		assert_true(str_has_prefix(err.text, "invalid reference format"));
	}
}

static void familiar_names_are_completed(void **state)
{
	static const char *const cases[][2] = {
		{"busybox", "docker.io/library/busybox:latest"},
		{"busybox:1.36", "docker.io/library/busybox:1.36"},
		{"busybox@" DIGEST, "docker.io/library/busybox@" DIGEST},
		{"busybox:a@" DIGEST, "docker.io/library/busybox:a@" DIGEST},
		{"foo/bar", "docker.io/foo/bar:latest"},
		{"index.docker.io/foo", "docker.io/library/foo:latest"},
		{"docker.io/foo", "docker.io/library/foo:latest"},
		{"localhost/foo", "localhost/foo:latest"},
		{"localhost:5000/foo", "localhost:5000/foo:latest"},
		{"reg.example.com/a/b/c:d", "reg.example.com/a/b/c:d"},
		{"Host/foo", "Host/foo:latest"},
		{"a__b/c---d.e_f", "docker.io/a__b/c---d.e_f:latest"},
	};
	_cleanup_arena_ struct arena *a = arena_new(0);

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct err err;
		char *full;

		if (reference_normalize(a, cases[i][0], &full, &err) < 0)
			fail_msg("%s: %s", cases[i][0], err.text);
		assert_string_equal(full, cases[i][1]);
	}
}

static void names_that_no_registry_takes_are_refused(void **state)
{
	static const char *const cases[] = {"",	    "Foo",   "docker.io/Foo", HEX,  "-a",   "a-",
					    "a..b", "a___b", "a._b",	      "a/", "a//b", "a:b:c",
					    " a",   "a b",   "localhost:5000"};
	_cleanup_arena_ struct arena *a = arena_new(0);

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct err err = ERR_INIT;
		char *full;

		if (streq(cases[i], "localhost:5000")) /* a repository named localhost with a tag:
							  that is how it reads */
			assert_int_equal(reference_normalize(a, cases[i], &full, &err), 0);
		else if (reference_normalize(a, cases[i], &full, &err) != -ERR_INVALID_ARGUMENT)
			fail_msg("%s is accepted", cases[i]);
	}
}

static void upper_case_is_named_in_the_error(void **state)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	struct err err;
	char *full;

	assert_int_equal(reference_normalize(a, "docker.io/library/Foo", &full, &err),
			 -ERR_INVALID_ARGUMENT);
	assert_non_null(strstr(err.text, "repository name (library/Foo) must be lowercase"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(full_references_come_apart),
		cmocka_unit_test(references_without_object_are_refused),
		cmocka_unit_test(broken_references_are_refused),
		cmocka_unit_test(familiar_names_are_completed),
		cmocka_unit_test(names_that_no_registry_takes_are_refused),
		cmocka_unit_test(upper_case_is_named_in_the_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
