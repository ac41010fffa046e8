/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"

struct fix {
	struct arena *a;
	char dir[64];
};

static bool own_mounts;

static int group_setup(void **state)
{
	own_mounts = geteuid() == 0 && unshare(CLONE_NEWNS) == 0 &&
		     mount(NULL, "/", NULL, MS_PRIVATE | MS_REC, NULL) == 0;
	return 0;
}

static int setup(void **state)
{
	struct fix *f = calloc(1, sizeof(*f));
	assert_non_null(f);
	f->a = arena_new(0);
	strcpy(f->dir, "/tmp/test-fd-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fix *f = *state;
	assert_int_equal(rm_rf(AT_FDCWD, f->dir), 0);
	arena_free(f->a);
	free(f);
	return 0;
}

static char *in(struct fix *f, const char *name)
{
	return path_join(f->a, f->dir, name);
}

static int count(const char *dir)
{
	DIR *d = opendir(dir);
	int n = -2;
	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

/* ---- unix sockets ---- */

static void listening_sets_mode_and_makes_the_directory(void **state)
{
	struct fix *f = *state;
	struct stat st;
	int fd;
	mode_t old = umask(077);
	assert_int_equal(unix_listen(in(f, "a/b/s.sock"), geteuid(), getegid(), 0666, &fd), 0);
	umask(old);
	assert_int_equal(stat(in(f, "a/b/s.sock"), &st), 0);
	assert_true(S_ISSOCK(st.st_mode));
	assert_int_equal(st.st_mode & 0777, 0666);
	assert_int_equal(stat(in(f, "a/b"), &st), 0);
	assert_int_equal(st.st_mode & 0777, 0711);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	close(fd);
}

static void only_a_stale_socket_is_replaced(void **state)
{
	struct fix *f = *state;
	int fd, got = -7;
	/* What is no socket stays. */
	assert_int_equal(file_write(AT_FDCWD, in(f, "file"), "x", 1, 0600), 0);
	assert_int_equal(unix_listen(in(f, "file"), geteuid(), getegid(), 0600, &got), -EEXIST);
	assert_int_equal(access(in(f, "file"), F_OK), 0);
	/* A live one of another type, which cannot be connected to as a stream. */
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	strcpy(sa.sun_path, in(f, "seq"));
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(unix_listen(in(f, "seq"), geteuid(), getegid(), 0600, &got), -EADDRINUSE);
	assert_int_equal(access(in(f, "seq"), F_OK), 0);
	close(fd);
	assert_int_equal(got, -7);
}

static void server_too_busy_to_accept_is_alive(void **state)
{
	struct fix *f = *state;
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int c[8], got, n = 0;
	strcpy(sa.sun_path, in(f, "s"));
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(listen(fd, 0), 0);
	for (; n < 8; n++) {
		c[n] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		if (connect(c[n], (struct sockaddr *)&sa, sizeof(sa)) < 0)
			break;
	}
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(unix_listen(in(f, "s"), geteuid(), getegid(), 0600, &got), -EADDRINUSE);
	for (; n >= 0; n--)
		close(c[n]);
	close(fd);
}

static void abstract_sockets_have_no_file(void **state)
{
	char name[108], longest[109];
	int fd, again, c;
	snprintf(name, sizeof(name), "@test-fd-%d", (int)getpid());
	assert_int_equal(unix_listen(name, 0, 0, 0600, &fd), 0);
	assert_int_equal(unix_listen(name, 0, 0, 0600, &again), -EADDRINUSE);
	assert_int_equal(unix_connect(name, &c), 0);
	close(c);
	close(fd);
	assert_int_equal(unix_connect(name, &c), -ECONNREFUSED);
	memset(longest, '0', sizeof(longest));
	memcpy(longest, name, strlen(name));
	longest[108] = 0;
	assert_int_equal(unix_listen(longest, 0, 0, 0600, &fd), 0);
	assert_int_equal(unix_connect(longest, &c), 0);
	close(c);
	close(fd);
	char toolong[120];
	memset(toolong, 'x', sizeof(toolong) - 1);
	toolong[0] = '@';
	toolong[sizeof(toolong) - 1] = 0;
	assert_int_equal(unix_listen(toolong, 0, 0, 0600, &fd), -ENAMETOOLONG);
}

static void long_and_relative_paths_listen(void **state)
{
	struct fix *f = *state;
	char deep[400] = "";
	int fd, c, here = open(".", O_PATH | O_CLOEXEC);
	for (int i = 0; i < 12; i++)
		strcat(deep, "a-rather-long-directory-name/");
	strcat(deep, "s");
	assert_int_equal(chdir(f->dir), 0);
	assert_int_equal(unix_listen(deep, geteuid(), getegid(), 0600, &fd), 0);
	assert_int_equal(unix_connect(deep, &c), 0);
	assert_int_equal(fchdir(here), 0);
	close(here);
	close(c);
	assert_int_equal(unix_connect(in(f, deep), &c), 0);
	close(c);
	close(fd);
	/* A name that does not fit behind the directory's descriptor either. */
	char name[200];
	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = 0;
	assert_int_equal(unix_listen(in(f, name), geteuid(), getegid(), 0600, &fd), -ENAMETOOLONG);
	assert_int_equal(unix_connect(in(f, "missing/dir/with/quite/a/long/name/so/that/the/"
					    "directory/is/opened/first/"
					    "as/it/does/not/fit/into/an/address/s"),
				      &c),
			 -ENOENT);
}

/* ---- messages ---- */

static void surplus_descriptors_are_closed(void **state)
{
	int pair[2], fds[20], got[4];
	char c;
	size_t n = 4;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	for (size_t i = 0; i < 20; i++)
		fds[i] = pair[0];
	int before = count("/proc/self/fd");
	assert_int_equal(fd_send_msg(pair[0], "x", 1, fds, 20), 0);
	assert_int_equal(fd_recv_msg(pair[1], &c, 1, got, &n), 1);
	assert_int_equal(n, 4);
	assert_int_equal(count("/proc/self/fd"), before + 4);
	for (size_t i = 0; i < 4; i++)
		close(got[i]);
	/* Not wanted at all. */
	assert_int_equal(fd_send_msg(pair[0], "x", 1, fds, 3), 0);
	assert_int_equal(fd_recv_msg(pair[1], &c, 1, NULL, NULL), 1);
	assert_int_equal(count("/proc/self/fd"), before);
	assert_int_equal(fd_send_msg(pair[0], "x", 1, fds, 254), -EINVAL);
	close(pair[0]);
	n = 4;
	assert_int_equal(fd_recv_msg(pair[1], &c, 1, got, &n), 0);
	assert_int_equal(n, 0);
	assert_int_equal(fd_send_msg(pair[1], "x", 1, NULL, 0), -EPIPE); /* and no signal */
	close(pair[1]);
}

static void *read_slowly(void *arg)
{
	int fd = *(int *)arg;
	static char buf[70000];
	size_t sum = 0;
	ssize_t n;
	while ((n = fd_read_full(fd, buf, sizeof(buf))) > 0) {
		sum += (size_t)n;
		usleep(1000);
	}
	return (void *)sum;
}

static void full_write_waits_for_a_descriptor_that_does_not_block(void **state)
{
	int p[2];
	pthread_t t;
	void *sum;
	static char big[1 << 20];
	assert_int_equal(pipe2(p, O_CLOEXEC | O_NONBLOCK), 0);
	assert_int_equal(pthread_create(&t, NULL, read_slowly, &p[0]), 0);
	assert_int_equal(fd_write_full(p[1], big, sizeof(big)), 0);
	close(p[1]);
	pthread_join(t, &sum);
	assert_int_equal((size_t)sum, sizeof(big));
	assert_int_equal(fd_set_nonblock(p[0], false), 0);
	assert_int_equal(fcntl(p[0], F_GETFL) & O_NONBLOCK, 0);
	assert_int_equal(fd_set_cloexec(p[0], false), 0);
	assert_int_equal(fcntl(p[0], F_GETFD), 0);
	close(p[0]);
}

/* ---- files ---- */

static void replacing_a_file_that_fails_leaves_the_old_one_alone(void **state)
{
	struct fix *f = *state;
	struct rlimit old, small = {.rlim_cur = 4096, .rlim_max = RLIM_INFINITY};
	static char big[8192];
	char *text;
	assert_int_equal(file_write_atomic(AT_FDCWD, in(f, "x"), "old", 3, 0600, false), 0);
	getrlimit(RLIMIT_FSIZE, &old);
	small.rlim_max = old.rlim_max;
	signal(SIGXFSZ, SIG_IGN);
	setrlimit(RLIMIT_FSIZE, &small);
	int r = file_write_atomic(AT_FDCWD, in(f, "x"), big, sizeof(big), 0600, true);
	setrlimit(RLIMIT_FSIZE, &old);
	assert_int_equal(r, -EFBIG);
	assert_int_equal(file_read(f->a, AT_FDCWD, in(f, "x"), 10, &text, NULL), 0);
	assert_string_equal(text, "old");
	assert_int_equal(mkdir(in(f, "dir"), 0700), 0);
	assert_true(file_write_atomic(AT_FDCWD, in(f, "dir"), "x", 1, 0600, false) < 0);
	assert_int_equal(file_write_atomic(AT_FDCWD, in(f, "none/x"), "x", 1, 0600, false),
			 -ENOENT);
	assert_int_equal(count(f->dir), 2);
	assert_int_equal(dir_sync(AT_FDCWD, f->dir), 0);
	assert_int_equal(dir_sync(AT_FDCWD, in(f, "none")), -ENOENT);
}

static void replacing_a_link_does_not_follow_it(void **state)
{
	struct fix *f = *state;
	struct stat st;
	char *text;
	assert_int_equal(file_write(AT_FDCWD, in(f, "target"), "old", 3, 0600), 0);
	assert_int_equal(symlink("target", in(f, "link")), 0);
	assert_int_equal(file_write_atomic(AT_FDCWD, in(f, "link"), "new", 3, 0600, false), 0);
	assert_int_equal(lstat(in(f, "link"), &st), 0);
	assert_true(S_ISREG(st.st_mode));
	assert_int_equal(file_read(f->a, AT_FDCWD, in(f, "target"), 10, &text, NULL), 0);
	assert_string_equal(text, "old");
}

static void pipes_are_read_to_their_end_up_to_the_limit(void **state)
{
	struct fix *f = *state;
	int p[2];
	char *text;
	size_t n;
	for (size_t i = 9; i <= 11; i++) {
		assert_int_equal(pipe2(p, O_CLOEXEC), 0);
		assert_int_equal(write(p[1], "0123456789a", i), i);
		close(p[1]);
		assert_int_equal(fd_read_all(f->a, p[0], 10, &text, &n), i > 10 ? -EFBIG : 0);
		if (i <= 10)
			assert_int_equal(n, i);
		close(p[0]);
	}
	/* Files whose size is not known beforehand. */
	assert_int_equal(file_read(f->a, AT_FDCWD, "/proc/self/status", 1 << 16, &text, &n), 0);
	assert_true(n > 100);
	assert_int_equal(file_read(f->a, AT_FDCWD, "/proc/self/status", 10, &text, &n), -EFBIG);
	assert_int_equal(file_read(f->a, AT_FDCWD, "/", 10, &text, &n), -EISDIR);
}

/* ---- trees ---- */

static void removal_stops_at_mounts_of_the_same_file_system_too(void **state)
{
	struct fix *f = *state;
	if (!own_mounts)
		skip();
	assert_int_equal(mkdir_p(in(f, "data"), 0700), 0);
	assert_int_equal(mkdir_p(in(f, "tree/a/mnt"), 0700), 0);
	assert_int_equal(mkdir_p(in(f, "tree/b"), 0700), 0);
	assert_int_equal(file_write(AT_FDCWD, in(f, "data/precious"), "x", 1, 0600), 0);
	assert_int_equal(file_write(AT_FDCWD, in(f, "tree/file"), "x", 1, 0600), 0);
	assert_int_equal(file_write(AT_FDCWD, in(f, "tree/b/gone"), "x", 1, 0600), 0);
	assert_int_equal(mount(in(f, "data"), in(f, "tree/a/mnt"), NULL, MS_BIND, NULL), 0);
	assert_int_equal(mount(in(f, "data/precious"), in(f, "tree/file"), NULL, MS_BIND, NULL), 0);
	assert_int_equal(rm_rf(AT_FDCWD, in(f, "tree")), -EBUSY);
	assert_int_equal(access(in(f, "data/precious"), F_OK), 0);
	assert_int_equal(access(in(f, "tree/b"), F_OK), -1); /* the rest went */
	/* The tree itself may be a mount. */
	assert_int_equal(rm_rf(AT_FDCWD, in(f, "tree/a/mnt")), -EBUSY);
	assert_int_equal(access(in(f, "data/precious"), F_OK), 0);
	assert_int_equal(umount2(in(f, "tree/a/mnt"), MNT_DETACH), 0);
	assert_int_equal(umount2(in(f, "tree/file"), MNT_DETACH), 0);
	assert_int_equal(rm_rf(AT_FDCWD, in(f, "tree")), 0);
	assert_int_equal(access(in(f, "tree"), F_OK), -1);
}

static void usage_counts_each_inode_of_hundreds_of_links_once(void **state)
{
	struct fix *f = *state;
	int64_t bytes, inodes, more, again;
	for (int i = 0; i < 400; i++)
		assert_int_equal(file_write(AT_FDCWD, in(f, arena_printf(f->a, "f%d", i)),
					    "content", 7, 0600),
				 0);
	assert_int_equal(dir_usage(AT_FDCWD, f->dir, &bytes, &inodes), 0);
	assert_int_equal(inodes, 401);
	assert_int_equal(mkdir(in(f, "links"), 0700), 0);
	for (int i = 0; i < 400; i++)
		assert_int_equal(link(in(f, arena_printf(f->a, "f%d", i)),
				      in(f, arena_printf(f->a, "links/l%d", i))),
				 0);
	assert_int_equal(symlink("/", in(f, "links/root")), 0);
	assert_int_equal(dir_usage(AT_FDCWD, f->dir, &more, &again), 0);
	assert_int_equal(again, 401 + 2);
	assert_true(more >= bytes);
	assert_int_equal(dir_usage(AT_FDCWD, in(f, "none"), &more, &again), -ENOENT);
	assert_int_equal(dir_usage(AT_FDCWD, in(f, "f1"), &more, &again), -ENOTDIR);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(listening_sets_mode_and_makes_the_directory),
		T(only_a_stale_socket_is_replaced),
		T(server_too_busy_to_accept_is_alive),
		T(abstract_sockets_have_no_file),
		T(long_and_relative_paths_listen),
		T(surplus_descriptors_are_closed),
		T(full_write_waits_for_a_descriptor_that_does_not_block),
		T(replacing_a_file_that_fails_leaves_the_old_one_alone),
		T(replacing_a_link_does_not_follow_it),
		T(pipes_are_read_to_their_end_up_to_the_limit),
		T(removal_stops_at_mounts_of_the_same_file_system_too),
		T(usage_counts_each_inode_of_hundreds_of_links_once),
	};
	return cmocka_run_group_tests(tests, group_setup, NULL);
}
