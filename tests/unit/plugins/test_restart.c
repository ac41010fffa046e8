/* SPDX-License-Identifier: Apache-2.0 */
/* The rules of the restart monitor. What it does with tasks is in the system tests. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/str.h"
#include "base/time.h"
#include "plugins/restart/labels.h"
#include "plugins/restart/monitor.h"

static void policy_is_read(void **state)
{
	static const struct {
		const char *text;
		enum restart_kind kind;
		int64_t max;
	} t[] = {
		{"", RESTART_ALWAYS, 0},
		{"no", RESTART_NO, 0},
		{"always", RESTART_ALWAYS, 0},
		{"unless-stopped", RESTART_UNLESS_STOPPED, 0},
		{"on-failure", RESTART_ON_FAILURE, 0},
		{"on-failure:3", RESTART_ON_FAILURE, 3},
		{"on-failure:0", RESTART_ON_FAILURE, 0},
	};
	for (size_t i = 0; i < ARRAY_LEN(t); i++) {
		struct restart_policy p;
		assert_int_equal(restart_policy_parse(t[i].text, &p, NULL), 0);
		assert_int_equal(p.kind, t[i].kind);
		assert_int_equal(p.max_retries, t[i].max);
	}
}

static void what_is_no_policy_is_refused(void **state)
{
	static const char *const bad[] = {"never",
					  "Always",
					  "always:3",
					  "no:",
					  "unless-stopped:1",
					  ":1",
					  "on-failure:",
					  "on-failure:x",
					  "on-failure:-1",
					  "on-failur",
					  "on-failure:9999999999999999999"};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct restart_policy p = {.max_retries = 7};
		struct err err = ERR_INIT;
		assert_int_equal(restart_policy_parse(bad[i], &p, &err), -ERR_INVALID_ARGUMENT);
		assert_non_null(strstr(err.text, bad[i]));
		assert_int_equal(p.max_retries, 7);
	}
}

static int wanted(const char *policy, const char *count, const char *stopped, uint32_t status)
{
	struct arena *a = arena_new(0);
	struct labels l = {0};
	if (policy)
		assert_int_equal(labels_set(a, &l, RESTART_POLICY, policy), 0);
	if (count)
		assert_int_equal(labels_set(a, &l, RESTART_COUNT, count), 0);
	if (stopped)
		assert_int_equal(labels_set(a, &l, RESTART_EXPLICITLY_STOPPED, stopped), 0);
	int r = restart_wanted(&l, status, NULL);
	arena_free(a);
	return r;
}

static void policy_decides_about_a_restart(void **state)
{
	assert_int_equal(wanted(NULL, NULL, NULL, 0), 1);
	assert_int_equal(wanted("always", "1000", "true", 0), 1);
	assert_int_equal(wanted("no", NULL, NULL, 1), 0);
	assert_int_equal(wanted("on-failure", NULL, NULL, 0), 0);
	assert_int_equal(wanted("on-failure", "1000", NULL, 1), 1);
	assert_int_equal(wanted("on-failure:2", NULL, NULL, 1), 1);
	assert_int_equal(wanted("on-failure:2", "1", NULL, 1), 1);
	assert_int_equal(wanted("on-failure:2", "2", NULL, 1), 0);
	assert_int_equal(wanted("on-failure:2", "nonsense", NULL, 1), 1);
	assert_int_equal(wanted("on-failure:2", NULL, NULL, 0), 0);
	assert_int_equal(wanted("unless-stopped", NULL, NULL, 0), 1);
	assert_int_equal(wanted("unless-stopped", NULL, "false", 0), 1);
	assert_int_equal(wanted("unless-stopped", NULL, "true", 0), 0);
	assert_int_equal(wanted("nonsense", NULL, NULL, 1), -ERR_INVALID_ARGUMENT);
}

static void pauses_grow_up_to_the_interval(void **state)
{
	const int64_t s = NSEC_PER_SEC, interval = 10 * s;
	int64_t p = 0;
	static const int expected[] = {1, 2, 4, 8, 10, 10};
	for (size_t i = 0; i < ARRAY_LEN(expected); i++) {
		p = restart_pause(p, i % 2 ? -1 : s, interval);
		assert_int_equal(p, expected[i] * s);
	}
	assert_int_equal(restart_pause(p, 60 * s, interval), s);
	assert_int_equal(restart_pause(0, 0, s / 10), s / 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(policy_is_read),
		cmocka_unit_test(what_is_no_policy_is_refused),
		cmocka_unit_test(policy_decides_about_a_restart),
		cmocka_unit_test(pauses_grow_up_to_the_interval),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
