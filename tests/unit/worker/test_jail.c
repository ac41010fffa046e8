/* SPDX-License-Identifier: Apache-2.0 */
/* What the jails leave, tried from inside: each test enters one in a child process. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "worker/jail.h"

/* Runs @fn in a child that is in the jail of "fetch"; returns what it returned. */
static int in_fetch_jail(int (*fn)(void))
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0)
		_exit(jail_fetch(NULL) < 0 ? 100 : fn());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static char file[] = "/tmp/jail.XXXXXX";
static int file_fd;

static int open_for_writing(void)
{
	static const int flags[] = {O_WRONLY, O_RDWR, O_RDONLY | O_CREAT, O_RDONLY | O_TRUNC,
				    O_WRONLY | O_APPEND};
	char self[64];

	snprintf(self, sizeof(self), "/proc/self/fd/%d", file_fd);
	for (size_t i = 0; i < ARRAY_LEN(flags); i++)
		if (open(file, flags[i], 0600) >= 0 || open(self, flags[i], 0600) >= 0)
			return 1 + (int)i;
	if (open("/tmp", O_TMPFILE | O_RDWR, 0600) >= 0)
		return 10;
	if (creat("/tmp/jail.new", 0600) >= 0 || mkdir("/tmp/jail.dir", 0700) == 0 ||
	    unlink(file) == 0 || rename(file, "/tmp/jail.new") == 0 || chmod(file, 0666) == 0)
		return 11;
	return memfd_create("x", 0) >= 0 ? 12 : 0;
}

/* One that it has all the same, by a mistake. */
static int write_to_an_open_file(void)
{
	if (ftruncate(file_fd, 0) == 0 || pwrite(file_fd, "x", 1, 0) >= 0 ||
	    fallocate(file_fd, 0, 0, 10) == 0)
		return 1;
	if (mmap(NULL, 1, PROT_READ, MAP_SHARED, file_fd, 0) == MAP_FAILED)
		return 2;
	return 0;
}

static int use_pipes_and_sockets(void)
{
	int p[2], s[2];
	char c;

	if (pipe2(p, O_CLOEXEC | O_NONBLOCK) < 0 || write(p[1], "x", 1) != 1 ||
	    read(p[0], &c, 1) != 1)
		return 1;
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, s) < 0 || write(s[1], "x", 1) != 1)
		return 2;
	return open("/etc/passwd", O_RDONLY) >= 0 ? 0 : 3;
}

static void files_cannot_be_opened_for_writing(void **state)
{
	assert_int_equal(in_fetch_jail(open_for_writing), 0);
}

static void open_files_cannot_be_cut_or_written_at_an_offset(void **state)
{
	struct stat st;

	assert_int_equal(in_fetch_jail(write_to_an_open_file), 0);
	assert_int_equal(fstat(file_fd, &st), 0);
	assert_int_equal(st.st_size, 3);
}

static void pipes_sockets_and_reading_stay(void **state)
{
	assert_int_equal(in_fetch_jail(use_pipes_and_sockets), 0);
}

static int group_setup(void **state)
{
	file_fd = mkstemp(file);
	/* What anybody may write is refused, too. */
	return file_fd >= 0 && fchmod(file_fd, 0666) == 0 && write(file_fd, "abc", 3) == 3 ? 0 : -1;
}

static int group_teardown(void **state)
{
	close(file_fd);
	return unlink(file);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(files_cannot_be_opened_for_writing),
		cmocka_unit_test(open_files_cannot_be_cut_or_written_at_an_offset),
		cmocka_unit_test(pipes_sockets_and_reading_stay),
	};

	return cmocka_run_group_tests_name("jail", tests, group_setup, group_teardown);
}
