/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "worker/challenge.h"

struct fixture {
	struct arena *a;
	struct challenges c;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->a = arena_new(1 << 20);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	arena_free(f->a);
	free(f);
	return 0;
}

static void parse(struct fixture *f, const char *value)
{
	assert_int_equal(challenges_parse(f->a, value, &f->c), 0);
}

static void assert_param(struct fixture *f, const char *scheme, const char *key, const char *want)
{
	const struct challenge *c = challenges_find(&f->c, scheme);
	const char *v;

	assert_non_null(c);
	v = labels_get(&c->params, key);
	if (!want) {
		assert_null(v);
		return;
	}
	assert_non_null(v);
	assert_string_equal(v, want);
}

static void bearer_with_quoted_parameters(void **state)
{
	struct fixture *f = *state;

	parse(f, "Bearer realm=\"https://auth.docker.io/token\",service=\"registry.docker.io\","
		 "scope=\"repository:library/busybox:pull,push\"");
	assert_int_equal(f->c.n, 1);
	assert_param(f, "bearer", "realm", "https://auth.docker.io/token");
	assert_param(f, "bearer", "service", "registry.docker.io");
	assert_param(f, "bearer", "scope", "repository:library/busybox:pull,push");
}

static void spaces_case_and_escapes(void **state)
{
	struct fixture *f = *state;

	parse(f, "  BEARER  Realm = \"a\\\"b\" ,, SERVICE=plain , error=\"x\"");
	assert_param(f, "bearer", "realm", "a\"b");
	assert_param(f, "bearer", "service", "plain");
	assert_param(f, "bearer", "error", "x");
}

static void several_in_one_value_and_in_several(void **state)
{
	struct fixture *f = *state;

	parse(f, "Negotiate, Basic realm=\"r1\", charset=\"UTF-8\", Bearer realm=\"r2\",service=s");
	parse(f, "Digest abc==, NTLM");
	assert_int_equal(f->c.n, 5);
	assert_param(f, "negotiate", "realm", NULL);
	assert_param(f, "basic", "realm", "r1");
	assert_param(f, "basic", "charset", "UTF-8");
	assert_param(f, "bearer", "realm", "r2");
	assert_param(f, "bearer", "charset", NULL);
	assert_non_null(challenges_find(&f->c, "ntlm"));
}

static void first_value_of_a_parameter_counts(void **state)
{
	struct fixture *f = *state;

	parse(f, "Bearer realm=a,realm=b");
	assert_param(f, "bearer", "realm", "a");
}

static void nonsense_does_no_harm(void **state)
{
	struct fixture *f = *state;
	static const char *const v[] = {"",
					",,,",
					"=",
					"\"",
					"Bearer realm=\"open",
					"Bearer realm=\"x\\",
					"Bearer =",
					"Bearer a=,b=",
					"\x80\xff",
					"Basic realm",
					"a b c, d=e f=g"};
	char longest[20000];

	for (size_t i = 0; i < sizeof(v) / sizeof(*v); i++)
		parse(f, v[i]);
	for (size_t i = 0; i < sizeof(longest); i++)
		longest[i] = "a, b=c"[i % 6];
	longest[sizeof(longest) - 1] = '\0';
	parse(f, longest);
	assert_true(f->c.n <= 32);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(bearer_with_quoted_parameters),
		TEST(spaces_case_and_escapes),
		TEST(several_in_one_value_and_in_several),
		TEST(first_value_of_a_parameter_counts),
		TEST(nonsense_does_no_harm),
	};

	return cmocka_run_group_tests_name("challenge", tests, NULL, NULL);
}
