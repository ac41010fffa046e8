/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "base/path.h"
#include "ctr/scratch.h"

static char top[] = "/tmp/scratch-XXXXXX";
static char template[64];

static int setup(void **state)
{
	if (!mkdtemp(top))
		return -1;
	snprintf(template, sizeof(template), "%s/XXXXXX", top);
	return 0;
}

static int teardown(void **state)
{
	rm_rf(AT_FDCWD, top);
	memcpy(top + strlen(top) - 6, "XXXXXX", 6);
	return 0;
}

/* Nothing is left in @top. */
static bool is_empty(void)
{
	return rmdir(top) == 0 && mkdir(top, 0700) == 0;
}

static void fill(const struct scratch *s)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/sub", s->path);
	assert_int_equal(mkdir(path, 0700), 0);
	snprintf(path, sizeof(path), "%s/sub/file", s->path);
	assert_int_equal(file_write(AT_FDCWD, path, "x", 1, 0600), 0);
}

static void it_goes_with_all_that_is_in_it(void **state)
{
	struct scratch s = {};
	struct err err = ERR_INIT;
	sigset_t now;

	for (int i = 0; i < 2; i++) {
		assert_int_equal(scratch_make(template, &s, &err), 0);
		fill(&s);
		scratch_done(&s);
		assert_null(s.path);
		assert_true(is_empty());
	}
	scratch_done(&s);
	pthread_sigmask(SIG_BLOCK, NULL, &now);
	assert_false(sigismember(&now, SIGINT));
}

static void one_that_cannot_be_made_is_an_error(void **state)
{
	struct scratch s = {};
	struct err err = ERR_INIT;

	assert_int_equal(scratch_make("/nowhere/at/all-XXXXXX", &s, &err), -ERR_NOT_FOUND);
	assert_non_null(strstr(err.text, "/nowhere/at/all-XXXXXX"));
	assert_null(s.path);
}

/* How a process ends that gets @number while it has a directory. */
static int end_of_one_that_gets(int number, bool ignored)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		struct scratch s = {};
		struct err err = ERR_INIT;

		signal(number, ignored ? SIG_IGN : SIG_DFL);
		if (scratch_make(template, &s, &err) < 0)
			_exit(99);
		fill(&s);
		kill(getpid(), number);
		/* Only by the signal, or not at all. */
		for (int i = 0; !ignored && i < 600; i++)
			usleep(100000);
		scratch_done(&s);
		_exit(7);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void a_signal_takes_it_along(void **state)
{
	static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};

	for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++) {
		int status = end_of_one_that_gets(numbers[i], false);

		assert_true(WIFSIGNALED(status));
		assert_int_equal(WTERMSIG(status), numbers[i]);
		assert_true(is_empty());
	}
}

static void a_signal_that_is_ignored_stays_ignored(void **state)
{
	int status = end_of_one_that_gets(SIGHUP, true);

	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 7);
	assert_true(is_empty());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(it_goes_with_all_that_is_in_it, setup, teardown),
		cmocka_unit_test_setup_teardown(one_that_cannot_be_made_is_an_error, setup,
						teardown),
		cmocka_unit_test_setup_teardown(a_signal_takes_it_along, setup, teardown),
		cmocka_unit_test_setup_teardown(a_signal_that_is_ignored_stays_ignored, setup,
						teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
