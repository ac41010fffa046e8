/* SPDX-License-Identifier: Apache-2.0 */
/* The default seccomp profile: what capabilities change in it. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/str.h"
#include "oci/seccomp.h"

/* The rule that names @name and has (or has not) arguments; NULL. */
static const json_t *rule_of(const json_t *profile, const char *name, bool args)
{
	size_t i, k;
	json_t *r, *n;

	json_array_foreach (json_arr(profile, "syscalls"), i, r)
		json_array_foreach (json_arr(r, "names"), k, n)
			if (streq(json_string_value(n), name) &&
			    (json_arr(r, "args") != NULL) == args)
				return r;
	return NULL;
}

static json_t *profile_with(struct arena *a, const char *cap)
{
	struct err err = ERR_INIT;
	json_t *profile = NULL;
	json_t *spec = json_pack("{s:{s:{s:[s]}}}", "process", "capabilities", "bounding", cap);

	assert_non_null(spec);
	assert_int_equal(seccomp_default(a, spec, &profile, &err), 0);
	json_decref(spec);
	return profile;
}

static void ordinary_calls_pass_and_the_rest_fails(void **state)
{
	struct arena *a = arena_new(0);
	json_t *p = profile_with(a, "CAP_CHOWN");

	assert_string_equal(json_str(p, "defaultAction", ""), "SCMP_ACT_ERRNO");
	assert_non_null(rule_of(p, "openat", false));
	assert_non_null(rule_of(p, "execve", false));
	assert_null(rule_of(p, "mount", false));
	assert_null(rule_of(p, "kexec_load", false));
	assert_null(rule_of(p, "io_uring_setup", false));
	assert_non_null(rule_of(p, "socket", true));
	assert_null(rule_of(p, "socket", false));
	json_decref(p);
	arena_free(a);
}

static void clone_makes_no_namespaces_without_the_capability(void **state)
{
	struct arena *a = arena_new(0);
	json_t *p = profile_with(a, "CAP_CHOWN");
	const json_t *r = rule_of(p, "clone3", false);

	assert_non_null(rule_of(p, "clone", true));
	assert_null(rule_of(p, "clone", false));
	assert_int_equal(json_int(r, "errnoRet", 0), ENOSYS);
	json_decref(p);
	arena_free(a);
}

static void capability_adds_its_calls(void **state)
{
	struct arena *a = arena_new(0);
	json_t *p = profile_with(a, "CAP_SYS_ADMIN");

	assert_non_null(rule_of(p, "mount", false));
	assert_non_null(rule_of(p, "clone", false));
	assert_null(rule_of(p, "clone", true));
	assert_string_equal(json_str(rule_of(p, "clone3", false), "action", ""), "SCMP_ACT_ALLOW");
	assert_null(rule_of(p, "reboot", false));
	json_decref(p);
	p = profile_with(a, "CAP_SYS_BOOT");
	assert_non_null(rule_of(p, "reboot", false));
	json_decref(p);
	arena_free(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ordinary_calls_pass_and_the_rest_fails),
		cmocka_unit_test(clone_makes_no_namespaces_without_the_capability),
		cmocka_unit_test(capability_adds_its_calls),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
