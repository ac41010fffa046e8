/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"

static char dir[64];
static char output[65536];

static int setup(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/test_main.XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	return rm_rf(AT_FDCWD, dir);
}

/* Runs the program with @args in the directory of the test; leaves what it writes (both streams) in
 * output, returns its status. */
static int run(const char *args)
{
	const char *program = getenv("CONTAINERD_STUB");
	char command[1024];
	FILE *f;
	size_t n;
	int status;

	if (!program)
		skip();
	snprintf(command, sizeof(command), "cd %s && exec %s %s 2>&1", dir, program, args);
	f = popen(command, "r");
	assert_non_null(f);
	n = fread(output, 1, sizeof(output) - 1, f);
	output[n] = 0;
	status = pclose(f);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void write_config(const char *text)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/c.toml", dir);
	assert_int_equal(file_write(AT_FDCWD, path, text, strlen(text), 0644), 0);
}

static void version_names_package_version_and_revision(void **state)
{
	(void)state;
	assert_int_equal(run("--version"), 0);
	assert_true(str_has_prefix(output, "containerd containerd-c 2.3.4+c0.1.0 "));
	assert_int_equal(run("-v"), 0);
	assert_true(str_has_prefix(output, "containerd containerd-c "));
}

static void options_reach_the_daemon(void **state)
{
	(void)state;
	write_config("version = 4\n[plugins.'io.containerd.server.v1.grpc']\nuid = 9\n");
	assert_int_equal(run("-c c.toml -l debug --address /a.sock --root=/r -state /s"), 0);
	assert_non_null(strstr(
		output, "root=/r state=/s level=debug grpc=/a.sock ttrpc=/a.sock.ttrpc uid=9\n"));
	assert_int_equal(run("--config c.toml"), 0);
	assert_non_null(
		strstr(output, "root=/var/lib/containerd state=/run/containerd level=info "));
}

static void empty_options_are_not_given(void **state)
{
	(void)state;
	write_config("version = 4\nroot = '/r'\nstate = '/s'\n[debug]\nlevel = 'debug'\n"
		     "[plugins.'io.containerd.server.v1.grpc']\naddress = '/a.sock'\n");
	assert_int_equal(run("-c c.toml --root '' --state= --address '' -l ''"), 0);
	assert_non_null(strstr(output, "root=/r state=/s level=debug grpc=/a.sock "));
}

static void failures_are_told_and_exit_with_1(void **state)
{
	(void)state;
	assert_int_equal(run("-c missing.toml"), 1);
	assert_non_null(strstr(output, "containerd: open `missing.toml`: "));
	write_config("version = 4\nx = 1\n");
	assert_int_equal(run("-c c.toml"), 1);
	assert_string_equal(output,
			    "containerd: c.toml:2:1: key `x`: unknown key: invalid argument\n");
	write_config("version = 4\noom_score = 13\n");
	assert_int_equal(run("-c c.toml"), 1);
	assert_string_equal(output, "containerd: unlucky: unavailable\n");
	write_config("version = 4\n");
	assert_int_equal(run("-c c.toml -l loud"), 1);
	assert_non_null(strstr(output, "log level `loud`"));
	assert_int_equal(run("--nonsense"), 1);
	assert_non_null(strstr(output, "nonsense"));
}

static void config_dump_tolerates_a_missing_file(void **state)
{
	char *first;

	(void)state;
	assert_int_equal(run("config default"), 0);
	assert_true(str_has_prefix(output, "version = 4\nroot = '/var/lib/containerd'\n"));
	first = strdup(output);
	assert_int_equal(run("-c missing.toml config dump"), 0);
	assert_string_equal(output, first);
	free(first);
	write_config("version = 3\n[grpc]\naddress = '/g'\n");
	assert_int_equal(run("-c c.toml config migrate"), 0);
	assert_non_null(strstr(output, "level=warning msg=\"c.toml: migrated from version 3"));
	assert_non_null(
		strstr(output, "  [plugins.'io.containerd.server.v1.grpc']\n    address = '/g'\n"));
}

static void help_is_shown_for_commands(void **state)
{
	(void)state;
	assert_int_equal(run("--help"), 0);
	assert_non_null(strstr(output, "-c, --config FILE"));
	assert_non_null(strstr(output, "    --state DIR"));
	assert_int_equal(run("help config"), 0);
	assert_non_null(strstr(output, "migrate"));
	assert_int_equal(run("config"), 0);
	assert_non_null(strstr(output, "dump"));
	assert_int_equal(run("frobnicate"), 3);
	assert_string_equal(output, "No help topic for 'frobnicate'\n");
	assert_int_equal(run("config frobnicate"), 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(version_names_package_version_and_revision, setup,
						teardown),
		cmocka_unit_test_setup_teardown(options_reach_the_daemon, setup, teardown),
		cmocka_unit_test_setup_teardown(empty_options_are_not_given, setup, teardown),
		cmocka_unit_test_setup_teardown(failures_are_told_and_exit_with_1, setup, teardown),
		cmocka_unit_test_setup_teardown(config_dump_tolerates_a_missing_file, setup,
						teardown),
		cmocka_unit_test_setup_teardown(help_is_shown_for_commands, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
