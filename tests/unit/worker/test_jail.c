/* SPDX-License-Identifier: Apache-2.0 */
/* What the jails leave, tried from inside: each test enters one in a child process. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "worker/jail.h"

/* Runs @fn in a child that is in @jail; returns what it returned. */
static int in_jail(int (*jail)(struct err *err), int (*fn)(void))
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0)
		_exit(jail(NULL) < 0 ? 100 : fn());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static int in_fetch_jail(int (*fn)(void))
{
	return in_jail(jail_fetch, fn);
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

static int accept_only;

static int accept_and_nothing_else(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET};
	int s[2];

	if (open("/etc/passwd", O_RDONLY) >= 0 || open("/", O_PATH) >= 0)
		return 1;
	if (socket(AF_INET, SOCK_STREAM, 0) >= 0 || socket(AF_UNIX, SOCK_STREAM, 0) >= 0 ||
	    connect(accept_only, (struct sockaddr *)&a, sizeof(a)) == 0)
		return 2;
	if (mmap(NULL, 1, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED)
		return 3;
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, s) < 0 || write(s[1], "x", 1) != 1)
		return 4;
	return accept4(accept_only, NULL, NULL, SOCK_CLOEXEC) >= 0 ? 0 : 5;
}

/* The network is another one, but what listens does so where it did. */
static void a_front_can_accept_and_nothing_else(void **state)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof(a);
	int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	accept_only = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(accept_only, (struct sockaddr *)&a, n), 0);
	assert_int_equal(listen(accept_only, 1), 0);
	assert_int_equal(getsockname(accept_only, (struct sockaddr *)&a, &n), 0);
	assert_int_equal(connect(client, (struct sockaddr *)&a, n), 0);
	assert_int_equal(in_jail(jail_front, accept_and_nothing_else), 0);
	close(client);
	close(accept_only);
}

/* What is open is all there is. */
static int reach_out(void)
{
	char c;

	if (open("/etc/passwd", O_RDONLY) >= 0 || open(file, O_WRONLY) >= 0 ||
	    open("/tmp", O_TMPFILE | O_RDWR, 0600) >= 0)
		return 1;
	if (socket(AF_UNIX, SOCK_STREAM, 0) >= 0 || socket(AF_INET, SOCK_STREAM, 0) >= 0)
		return 2;
	if (geteuid() == 0)
		return 3;
	return pread(file_fd, &c, 1, 0) == 1 && c == 'a' ? 0 : 4;
}

static void recompression_has_only_what_was_open(void **state)
{
	assert_int_equal(in_jail(jail_recompress, reach_out), 0);
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

/* Our own are one thing, those of another process of the same user something else. */
static int touch_others(void)
{
	struct rlimit l;

	if (syscall(SYS_tgkill, getpid(), gettid(), 0) < 0 || getrlimit(RLIMIT_NOFILE, &l) < 0 ||
	    setrlimit(RLIMIT_NOFILE, &l) < 0)
		return 1;
	if (kill(getppid(), 0) == 0 || syscall(SYS_tgkill, getppid(), getppid(), 0) == 0)
		return 2;
	return prlimit(getppid(), RLIMIT_NOFILE, NULL, &l) == 0 ? 3 : 0;
}

static int jail_unpack_tmp(struct err *err)
{
	_cleanup_close_ int fd = open("/tmp", O_PATH | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -1 : jail_unpack(fd, NULL, 0, false, err);
}

static void other_processes_are_neither_signalled_nor_limited(void **state)
{
	assert_int_equal(in_jail(jail_fetch, touch_others), 0);
	assert_int_equal(in_jail(jail_unpack_tmp, touch_others), 0);
	assert_int_equal(in_jail(jail_recompress, touch_others), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(files_cannot_be_opened_for_writing),
		cmocka_unit_test(open_files_cannot_be_cut_or_written_at_an_offset),
		cmocka_unit_test(pipes_sockets_and_reading_stay),
		cmocka_unit_test(a_front_can_accept_and_nothing_else),
		cmocka_unit_test(recompression_has_only_what_was_open),
		cmocka_unit_test(other_processes_are_neither_signalled_nor_limited),
	};

	return cmocka_run_group_tests_name("jail", tests, group_setup, group_teardown);
}
