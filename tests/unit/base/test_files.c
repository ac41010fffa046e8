/* SPDX-License-Identifier: Apache-2.0 */
/* path, fd. With NO_OPENAT2 in the environment the kernel seems not to have that system call. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"

struct fixture {
	struct arena *arena;
	char dir[64];
	int fd; /* of dir */
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (!f)
		return -1;
	f->arena = arena_new(0);
	strcpy(f->dir, "/tmp/test_files.XXXXXX");
	if (!f->arena || !mkdtemp(f->dir))
		return -1;
	f->fd = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*state = f;
	return f->fd < 0 ? -1 : 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	int r = rm_rf(AT_FDCWD, f->dir);

	close(f->fd);
	arena_free(f->arena);
	free(f);
	return r;
}

static void put(struct fixture *f, const char *path, const char *text)
{
	assert_int_equal(file_write(f->fd, path, text, strlen(text), 0644), 0);
}

static const char *content(struct fixture *f, int fd)
{
	char *text;
	size_t n;

	assert_int_equal(fd_read_all(f->arena, fd, 1000, &text, &n), 0);
	assert_int_equal(strlen(text), n);
	close(fd);
	return text;
}

static void paths_join_and_part(void **state)
{
	struct fixture *f = *state;

	assert_string_equal(path_join(f->arena, "/a", "b"), "/a/b");
	assert_string_equal(path_join(f->arena, "/a/", "/b"), "/a/b");
	assert_string_equal(path_base("/a/b"), "b");
	assert_string_equal(path_base("b"), "b");
	assert_string_equal(path_dir(f->arena, "/a/b"), "/a");
	assert_string_equal(path_dir(f->arena, "/a"), "/");
	assert_string_equal(path_dir(f->arena, "a"), ".");
}

static void open_in_root_stays_inside(void **state)
{
	struct fixture *f = *state;
	int root;

	assert_int_equal(mkdir_p(path_join(f->arena, f->dir, "root/etc/deep"), 0755), 0);
	put(f, "secret", "outside");
	put(f, "root/secret", "inside");
	put(f, "root/etc/x", "x");
	assert_int_equal(symlinkat("/secret", f->fd, "root/etc/absolute"), 0);
	assert_int_equal(symlinkat("../../../secret", f->fd, "root/etc/up"), 0);
	assert_int_equal(symlinkat("/etc", f->fd, "root/etc/deep/dir"), 0);
	assert_int_equal(symlinkat("loop", f->fd, "root/loop"), 0);
	root = openat(f->fd, "root", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(root >= 0);
	assert_string_equal(content(f, path_open_in_root(root, "etc/absolute", O_RDONLY, 0)),
			    "inside");
	assert_string_equal(content(f, path_open_in_root(root, "etc/up", O_RDONLY, 0)), "inside");
	assert_string_equal(content(f, path_open_in_root(root, "../../secret", O_RDONLY, 0)),
			    "inside");
	assert_string_equal(content(f, path_open_in_root(root, "/etc/deep/dir/x", O_RDONLY, 0)),
			    "x");
	assert_int_equal(path_open_in_root(root, "loop", O_RDONLY, 0), -ELOOP);
	assert_int_equal(path_open_in_root(root, "etc/none", O_RDONLY, 0), -ENOENT);
	assert_int_equal(path_open_in_root(root, "etc/x/y", O_RDONLY, 0), -ENOTDIR);
	assert_int_equal(path_open_in_root(root, "etc/up", O_RDONLY | O_NOFOLLOW, 0), -ELOOP);
	close(path_open_in_root(root, "etc/new", O_WRONLY | O_CREAT | O_EXCL, 0600));
	assert_int_equal(faccessat(root, "etc/new", F_OK, 0), 0);
	close(root);
}

static void removing_a_tree_leaves_what_links_point_to(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(mkdir_p(path_join(f->arena, f->dir, "a/b/c"), 0700), 0);
	assert_int_equal(mkdir_p(path_join(f->arena, f->dir, "keep"), 0755), 0);
	put(f, "keep/x", "x");
	put(f, "a/b/c/y", "y");
	assert_int_equal(symlinkat("../keep", f->fd, "a/link"), 0);
	assert_int_equal(fchmodat(f->fd, "a/b/c", 0, 0), 0);
	assert_int_equal(rm_rf(f->fd, "a"), 0);
	assert_int_equal(faccessat(f->fd, "a", F_OK, 0), -1);
	assert_int_equal(faccessat(f->fd, "keep/x", F_OK, 0), 0);
	assert_int_equal(rm_rf(f->fd, "a"), 0);
	assert_int_equal(rm_rf(f->fd, "keep/x"), 0);
}

/* Deeper than a thread's stack, the open descriptors and a path allow. */
static void deep_trees_are_measured_and_removed(void **state)
{
	enum { DEPTH = 3000 };
	struct fixture *f = *state;
	const char *name = "dir";
	int64_t bytes, inodes;
	int fd = dup(f->fd);

	for (int i = 0; i < DEPTH; i++) {
		int next;

		assert_int_equal(mkdirat(fd, name, 0755), 0);
		assert_int_equal(file_write(fd, "file", "x", 1, 0644), 0);
		next = openat(fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		assert_true(next >= 0);
		close(fd);
		fd = next;
	}
	close(fd);
	assert_int_equal(dir_usage(f->fd, name, &bytes, &inodes), 0);
	assert_int_equal(inodes, 2 * DEPTH - 1);
	assert_int_equal(rm_rf(f->fd, name), 0);
	assert_int_equal(faccessat(f->fd, name, F_OK, 0), -1);
	assert_int_equal(faccessat(f->fd, "file", F_OK, 0), 0);
}

static void usage_counts_hard_links_once(void **state)
{
	struct fixture *f = *state;
	int64_t bytes, inodes, more, again;

	put(f, "x", "content");
	assert_int_equal(dir_usage(f->fd, ".", &bytes, &inodes), 0);
	assert_int_equal(inodes, 2);
	assert_int_equal(linkat(f->fd, "x", f->fd, "y", 0), 0);
	assert_int_equal(dir_usage(f->fd, ".", &more, &again), 0);
	assert_int_equal(again, 2);
	assert_int_equal(more, bytes);
}

static void files_are_read_up_to_a_limit_and_replaced_at_once(void **state)
{
	struct fixture *f = *state;
	struct stat st;
	size_t n;
	char *p;

	assert_int_equal(file_write_atomic(f->fd, "a", "one", 3, 0640, true), 0);
	assert_int_equal(file_write_atomic(f->fd, "a", "two2", 4, 0640, false), 0);
	assert_int_equal(file_read(f->arena, f->fd, "a", 4, &p, &n), 0);
	assert_string_equal(p, "two2");
	assert_int_equal(n, 4);
	assert_int_equal(file_read(f->arena, f->fd, "a", 3, &p, &n), -EFBIG);
	assert_int_equal(file_read(f->arena, f->fd, "b", 3, &p, &n), -ENOENT);
	assert_int_equal(fstatat(f->fd, "a", &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0640);
}

static void descriptors_travel_over_a_socket(void **state)
{
	struct fixture *f = *state;
	int pair[2], got[2], pipefd[2];
	size_t n = ARRAY_LEN(got);
	char text[8];

	(void)f;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(pipe(pipefd), 0);
	assert_true(fd_send_msg(pair[0], "hi", 2, pipefd, 1) >= 0);
	assert_int_equal(fd_recv_msg(pair[1], text, sizeof(text), got, &n), 2);
	assert_int_equal(n, 1);
	assert_true(fcntl(got[0], F_GETFD) & FD_CLOEXEC);
	assert_int_equal(fd_write_full(pipefd[1], "data", 4), 0);
	assert_int_equal(fd_read_full(got[0], text, 4), 4);
	assert_memory_equal(text, "data", 4);
	close(pipefd[0]);
	close(pipefd[1]);
	close(got[0]);
	close(pair[0]);
	close(pair[1]);
}

static void unix_socket_listens_once_and_replaces_a_stale_file(void **state)
{
	struct fixture *f = *state;
	char *path = path_join(
		f->arena, f->dir,
		"a-directory-with-quite-a-long-name/another-directory-with-quite-a-long-name/"
		"and-a-socket-whose-path-does-not-fit.sock");
	int fd = -1, second = -1, client = -1;

	assert_true(strlen(path) > 108);
	assert_int_equal(unix_listen(path, geteuid(), getegid(), 0660, &fd), 0);
	assert_int_equal(unix_listen(path, geteuid(), getegid(), 0660, &second), -EADDRINUSE);
	assert_int_equal(unix_connect(path, &client), 0);
	close(client);
	close(fd);
	assert_true(unix_connect(path, &client) < 0);
	assert_int_equal(unix_listen(path, geteuid(), getegid(), 0660, &fd), 0);
	close(fd);
}

static int hide_openat2(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat2, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog program = {.len = ARRAY_LEN(code), .filter = code};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
		return -errno;
	return syscall(SYS_openat2, -1, "", NULL, 0) < 0 && errno == ENOSYS ? 0 : -1;
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(paths_join_and_part),
		T(open_in_root_stays_inside),
		T(removing_a_tree_leaves_what_links_point_to),
		T(deep_trees_are_measured_and_removed),
		T(usage_counts_hard_links_once),
		T(files_are_read_up_to_a_limit_and_replaced_at_once),
		T(descriptors_travel_over_a_socket),
		T(unix_socket_listens_once_and_replaces_a_stale_file),
	};

	if (getenv("NO_OPENAT2") && hide_openat2() < 0)
		return EXIT_FAILURE;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
