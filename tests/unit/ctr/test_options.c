/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/str.h"
#include "ctr/options.h"
#include "ctr/task.h"

static void mount_is_read_with_all_its_names(void **state)
{
	struct arena *a _cleanup_arena_ = arena_new(0);
	struct err err;
	struct mount m;

	assert_int_equal(option_mount(a, "type=bind,src=/tmp,dst=/host,options=rbind:ro", &m, &err),
			 0);
	assert_string_equal(m.type, "bind");
	assert_string_equal(m.source, "/tmp");
	assert_string_equal(m.target, "/host");
	assert_int_equal(m.n_options, 2);
	assert_string_equal(m.options[0], "rbind");
	assert_string_equal(m.options[1], "ro");
	assert_int_equal(option_mount(a, "source=a=b,target=/t", &m, &err), 0);
	assert_string_equal(m.source, "a=b");
	assert_string_equal(m.target, "/t");
	assert_string_equal(m.type, "");
	assert_int_equal(m.n_options, 0);
}

static void quoted_mount_field_keeps_commas_and_quotes(void **state)
{
	struct arena *a _cleanup_arena_ = arena_new(0);
	struct err err;
	struct mount m;

	assert_int_equal(option_mount(a, "\"src=/a,\"\"b\",dst=/c", &m, &err), 0);
	assert_string_equal(m.source, "/a,\"b");
	assert_string_equal(m.target, "/c");
}

static void bad_mounts_are_refused(void **state)
{
	static const char *const bad[] = {"",
					  "type=bind",
					  "dst",
					  "dst=/a,foo=b",
					  "\"dst=/a",
					  "\"dst=/a\"x",
					  "src=/a,options=ro"};
	struct arena *a _cleanup_arena_ = arena_new(0);
	struct mount m;
	struct err err;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (option_mount(a, bad[i], &m, &err) != -ERR_INVALID_ARGUMENT)
			fail_msg("%s was taken", bad[i]);
}

static void id_mapping_has_three_numbers(void **state)
{
	static const char *const bad[] = {
		"",	"0",	  "0:1",   "0:1:2:3", "a:1:2", "0:1:0", "0:1:4294967296",
		"0::2", "0:1:2:", "-1:0:1"};
	struct idmap m;
	struct err err;

	assert_int_equal(option_idmap("0:100000:65536", &m, &err), 0);
	assert_int_equal(m.container, 0);
	assert_int_equal(m.host, 100000);
	assert_int_equal(m.size, 65536);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (option_idmap(bad[i], &m, &err) != -ERR_INVALID_ARGUMENT)
			fail_msg("%s was taken", bad[i]);
}

static void namespaces_have_short_names_too(void **state)
{
	struct arena *a _cleanup_arena_ = arena_new(0);
	const char *type, *path;
	struct err err;

	assert_int_equal(option_namespace(a, "net:/proc/1/ns/net", &type, &path, &err), 0);
	assert_string_equal(type, "network");
	assert_string_equal(path, "/proc/1/ns/net");
	assert_int_equal(option_namespace(a, "pid", &type, &path, &err), -ERR_INVALID_ARGUMENT);
	assert_int_equal(option_namespace(a, "foo:/x", &type, &path, &err), -ERR_INVALID_ARGUMENT);
	assert_int_equal(option_namespace(a, "pid:", &type, &path, &err), -ERR_INVALID_ARGUMENT);
}

static void limits_are_one_number_or_two(void **state)
{
	uint64_t soft, hard;
	struct err err;

	assert_int_equal(option_rlimit("100", &soft, &hard, &err), 0);
	assert_int_equal(soft, 100);
	assert_int_equal(hard, 100);
	assert_int_equal(option_rlimit("100:200", &soft, &hard, &err), 0);
	assert_int_equal(hard, 200);
	assert_int_equal(option_rlimit("200:100", &soft, &hard, &err), -ERR_INVALID_ARGUMENT);
	assert_int_equal(option_rlimit("x", &soft, &hard, &err), -ERR_INVALID_ARGUMENT);
	assert_int_equal(option_rlimit("1:2:3", &soft, &hard, &err), -ERR_INVALID_ARGUMENT);
}

static void signals_have_names_and_numbers(void **state)
{
	static const char *const bad[] = {"",
					  "0",
					  "65",
					  "FOO",
					  "SIG",
					  "SIGRTMIN+99",
					  "RTMIN-1",
					  "99999999999999999999",
					  "SIGTERMSIGTERMSIGTERM"};
	static const struct {
		const char *text;
		int signo;
	} good[] = {{"SIGTERM", SIGTERM},
		    {"term", SIGTERM},
		    {"9", SIGKILL},
		    {"sigusr1", SIGUSR1},
		    {"KILL", SIGKILL}};
	int s;

	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		assert_int_equal(signal_parse(good[i].text, &s), 0);
		assert_int_equal(s, good[i].signo);
	}
	assert_int_equal(signal_parse("RTMIN+3", &s), 0);
	assert_int_equal(s, SIGRTMIN + 3);
	assert_int_equal(signal_parse("SIGRTMAX-2", &s), 0);
	assert_int_equal(s, SIGRTMAX - 2);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (signal_parse(bad[i], &s) == 0)
			fail_msg("%s was taken", bad[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mount_is_read_with_all_its_names),
		cmocka_unit_test(quoted_mount_field_keeps_commas_and_quotes),
		cmocka_unit_test(bad_mounts_are_refused),
		cmocka_unit_test(id_mapping_has_three_numbers),
		cmocka_unit_test(namespaces_have_short_names_too),
		cmocka_unit_test(limits_are_one_number_or_two),
		cmocka_unit_test(signals_have_names_and_numbers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
