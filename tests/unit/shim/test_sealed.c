/* SPDX-License-Identifier: Apache-2.0 */
/* Sealed copies: of crun, and of nothing else. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "base/path.h"
#include "shim/runtime.h"
#include "shim/sealed.h"

static char dir[64], crun[128];

static int setup(void **state)
{
	strcpy(dir, "/tmp/test_sealed.XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	snprintf(crun, sizeof(crun), "%s/crun", dir);
	return 0;
}

static int teardown(void **state)
{
	return rm_rf(AT_FDCWD, dir);
}

static void copy_file(const char *from, const char *to)
{
	int in = open(from, O_RDONLY | O_CLOEXEC), out = creat(to, 0755);
	char b[65536];
	ssize_t n;

	assert_true(in >= 0 && out >= 0);
	while ((n = read(in, b, sizeof(b))) > 0)
		assert_int_equal(write(out, b, (size_t)n), n);
	assert_int_equal(n, 0);
	close(in);
	close(out);
}

static void copy_of_crun_runs_and_cannot_be_written(void **state)
{
	char *argv[] = {(char *)"crun", NULL}, *env[] = {NULL};
	int fd, status;
	pid_t pid;

	copy_file("/bin/true", crun);
	fd = sealed_copy(crun);
	assert_true(fd >= 0);
	assert_int_equal(fcntl(fd, F_GET_SEALS),
			 F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
	assert_int_equal(pwrite(fd, "x", 1, 0), -1);
	assert_int_equal(errno, EPERM);
	pid = fork();
	if (pid == 0) {
		fexecve(fd, argv, env);
		_exit(99);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	close(fd);
}

static void other_programs_are_left_alone(void **state)
{
	char runc[128];

	snprintf(runc, sizeof(runc), "%s/runc", dir);
	copy_file("/bin/true", runc);
	assert_int_equal(sealed_copy(runc), -ENOEXEC);
}

static void script_of_that_name_is_left_alone(void **state)
{
	assert_int_equal(file_write(AT_FDCWD, crun, "#!/bin/sh\n", 10, 0755), 0);
	assert_int_equal(sealed_copy(crun), -ENOEXEC);
}

static void empty_and_too_large_files_are_left_alone(void **state)
{
	assert_int_equal(file_write(AT_FDCWD, crun, "", 0, 0755), 0);
	assert_int_equal(sealed_copy(crun), -ENOEXEC);
	assert_int_equal(truncate(crun, 100 << 20), 0);
	assert_int_equal(sealed_copy(crun), -ENOEXEC);
}

static void program_with_set_id_bits_is_left_alone(void **state)
{
	copy_file("/bin/true", crun);
	assert_int_equal(chmod(crun, 04755), 0);
	assert_int_equal(sealed_copy(crun), -ENOEXEC);
}

static void missing_file_is_told(void **state)
{
	assert_int_equal(sealed_copy(crun), -ENOENT);
	assert_int_equal(mkdir(crun, 0755), 0);
	assert_int_equal(sealed_copy(crun), -ENOEXEC);
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

static void copy_made_ahead_is_the_one_that_is_started(void **state)
{
	struct sealed s = {false};
	int fd;

	copy_file("/bin/true", crun);
	runtime_ahead(crun, &s);
	assert_true(s.made);
	fd = s.fd;
	assert_int_equal(sealed_get(&s, crun), fd);
	sealed_drop(&s);
}

static void nothing_is_made_ahead_of_a_program_that_is_started_by_its_path(void **state)
{
	struct sealed s = {false};
	char path[160];

	runtime_ahead(crun, &s); /* is not there */
	assert_false(s.made);
	snprintf(path, sizeof(path), "%s/runc", dir);
	copy_file("/bin/true", path);
	runtime_ahead(path, &s);
	assert_false(s.made);
	runtime_ahead("no-such-program-in-the-path", &s);
	assert_false(s.made);
}

static void copy_is_kept_while_the_file_is_the_same(void **state)
{
	struct sealed s = {false};
	int fd;

	copy_file("/bin/true", crun);
	fd = sealed_get(&s, crun);
	assert_true(fd >= 0);
	assert_int_equal(sealed_get(&s, crun), fd);
	sealed_drop(&s);
	assert_int_equal(fcntl(fd, F_GETFD), -1);
	sealed_drop(&s);
}

static void copy_is_made_anew_when_the_file_was_replaced(void **state)
{
	struct sealed s = {false};
	struct stat st, want;

	copy_file("/bin/true", crun);
	assert_true(sealed_get(&s, crun) >= 0);
	assert_int_equal(unlink(crun), 0);
	assert_int_equal(sealed_get(&s, crun), -ENOENT);
	copy_file("/bin/sh", crun);
	assert_int_equal(stat(crun, &want), 0);
	assert_true(sealed_get(&s, crun) >= 0);
	assert_int_equal(fstat(s.fd, &st), 0);
	assert_int_equal(st.st_size, want.st_size);
	sealed_drop(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(copy_of_crun_runs_and_cannot_be_written),
		TEST(other_programs_are_left_alone),
		TEST(script_of_that_name_is_left_alone),
		TEST(empty_and_too_large_files_are_left_alone),
		TEST(program_with_set_id_bits_is_left_alone),
		TEST(missing_file_is_told),
		TEST(copy_made_ahead_is_the_one_that_is_started),
		TEST(nothing_is_made_ahead_of_a_program_that_is_started_by_its_path),
		TEST(copy_is_kept_while_the_file_is_the_same),
		TEST(copy_is_made_anew_when_the_file_was_replaced),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
