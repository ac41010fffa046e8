/* SPDX-License-Identifier: Apache-2.0 */
/* Deprecated features in use. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "base/str.h"
#include "base/time.h"
#include "core/deprecation.h"

static void what_was_used_is_listed_with_its_last_time(void **state)
{
	_cleanup_(deprecations_freep) struct deprecations *d = deprecations_new();
	struct deprecation_warning v[DEPRECATIONS_N];
	struct timespec before = time_now(), first;

	assert_non_null(d);
	assert_int_equal(deprecations_list(d, v), 0);
	deprecation_emit(d, DEPRECATION_CRI_REGISTRY_MIRRORS);
	deprecation_emit(d, DEPRECATION_CGROUP_V1);
	assert_int_equal(deprecations_list(d, v), 2);
	assert_string_equal(v[0].id, "io.containerd.deprecation/cgroup-v1");
	assert_string_equal(v[1].id, "io.containerd.deprecation/cri-registry-mirrors");
	assert_true(time_cmp(v[0].last, before) >= 0);
	first = v[0].last;
	deprecation_emit(d, DEPRECATION_CGROUP_V1);
	assert_int_equal(deprecations_list(d, v), 2);
	assert_true(time_cmp(v[0].last, first) >= 0);
}

static void each_has_an_id_of_its_own_and_a_message(void **state)
{
	_cleanup_(deprecations_freep) struct deprecations *d = deprecations_new();
	struct deprecation_warning v[DEPRECATIONS_N];

	for (int i = 0; i < DEPRECATIONS_N; i++)
		deprecation_emit(d, (enum deprecation)i);
	assert_int_equal(deprecations_list(d, v), DEPRECATIONS_N);
	for (int i = 0; i < DEPRECATIONS_N; i++) {
		assert_true(str_has_prefix(v[i].id, "io.containerd.deprecation/"));
		assert_true(strlen(v[i].message) > 20);
		assert_true(i == 0 || strcmp(v[i - 1].id, v[i].id) < 0);
	}
}

static void what_does_not_exist_is_ignored(void **state)
{
	_cleanup_(deprecations_freep) struct deprecations *d = deprecations_new();
	struct deprecation_warning v[DEPRECATIONS_N];

	deprecation_emit(NULL, DEPRECATION_CGROUP_V1);
	deprecation_emit(d, DEPRECATIONS_N);
	assert_int_equal(deprecations_list(d, v), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_used_is_listed_with_its_last_time),
		cmocka_unit_test(each_has_an_id_of_its_own_and_a_message),
		cmocka_unit_test(what_does_not_exist_is_ignored),
	};

	return cmocka_run_group_tests_name("deprecation", tests, NULL, NULL);
}
