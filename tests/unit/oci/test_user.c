/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "oci/user.h"

static const char passwd[] = "root:x:0:0:root:/root:/bin/sh\n"
			     "# broken\n"
			     "short:x:9\n"
			     "web:x:1001:1002:Web:/home:/bin/sh\n"
			     "last:x:5:6::/:";
static const char group[] =
	"root:x:0:\nweb:x:1002:\nextra:x:1003:web,root\nmore:x:1004:webby,web\ndup:x:1002:web";

struct result {
	struct user_ids u;
	struct err err;
	int r;
};

static struct result resolve(struct arena *a, const char *user)
{
	struct result x = {.err = ERR_INIT};

	x.r = user_resolve(a, user, passwd, group, &x.u, &x.err);
	return x;
}

static void names_and_numbers_resolve(void **state)
{
	static const struct {
		const char *user;
		uint32_t uid, gid;
		size_t n_gids;
	} cases[] = {
		{"", 0, 0, 2},		 {"root", 0, 0, 2},	  {"web", 1001, 1002, 3},
		{"1001", 1001, 1002, 3}, {"77", 77, 0, 1},	  {"web:extra", 1001, 1003, 1},
		{"5:6", 5, 6, 1},	 {"77:web", 77, 1002, 1}, {"last", 5, 6, 1},
	};
	struct arena *a _cleanup_arena_ = arena_new(0);

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct result x = resolve(a, cases[i].user);

		if (x.r < 0)
			fail_msg("%s: %s", cases[i].user, x.err.text);
		assert_int_equal(x.u.uid, cases[i].uid);
		assert_int_equal(x.u.gid, cases[i].gid);
		assert_int_equal(x.u.n_gids, cases[i].n_gids);
		assert_int_equal(x.u.gids[0], cases[i].gid);
	}
}

static void unknown_names_are_not_found(void **state)
{
	struct arena *a _cleanup_arena_ = arena_new(0);

	assert_int_equal(resolve(a, "nobody").r, -ERR_NOT_FOUND);
	assert_int_equal(resolve(a, "web:nogroup").r, -ERR_NOT_FOUND);
	assert_int_equal(resolve(a, "we").r, -ERR_NOT_FOUND);
	assert_int_equal(resolve(a, "short").r, -ERR_NOT_FOUND);
}

static void malformed_users_are_refused(void **state)
{
	struct arena *a _cleanup_arena_ = arena_new(0);

	assert_int_equal(resolve(a, ":").r, -ERR_INVALID_ARGUMENT);
	assert_int_equal(resolve(a, "web:").r, -ERR_INVALID_ARGUMENT);
	assert_int_equal(resolve(a, ":web").r, -ERR_INVALID_ARGUMENT);
	assert_true(resolve(a, "99999999999").r < 0);
	assert_true(resolve(a, "4294967295").r < 0);
}

static void root_needs_no_files(void **state)
{
	struct arena *a _cleanup_arena_ = arena_new(0);
	struct user_ids u;
	struct err err;

	assert_int_equal(user_resolve(a, "", "", "", &u, &err), 0);
	assert_int_equal(u.uid, 0);
	assert_int_equal(u.n_gids, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_and_numbers_resolve),
		cmocka_unit_test(unknown_names_are_not_found),
		cmocka_unit_test(malformed_users_are_refused),
		cmocka_unit_test(root_needs_no_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
