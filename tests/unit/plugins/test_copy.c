/* SPDX-License-Identifier: Apache-2.0 */
/* Nothing tells the copy of a tree from the original. */
#include "util.h"

#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/xattr.h>

#include "plugins/snapshotter/copy.h"

static int setup(void **state)
{
	struct fix *f = fix_new();

	*state = f;
	return mkdir(in(f, "from"), 0755) || mkdir(in(f, "to"), 0700);
}

static int copy(struct fix *f)
{
	_cleanup_close_ int fd = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return tree_copy(&f->ctx, fd, "from", "to", &f->err);
}

static struct stat stat_of(struct fix *f, const char *path)
{
	struct stat st;

	assert_int_equal(lstat(in(f, path), &st), 0);
	return st;
}

static void same_meta(struct fix *f, const char *name)
{
	struct stat a = stat_of(f, arena_printf(f->arena, "from/%s", name));
	struct stat b = stat_of(f, arena_printf(f->arena, "to/%s", name));

	assert_int_equal(a.st_mode, b.st_mode);
	assert_int_equal(a.st_uid, b.st_uid);
	assert_int_equal(a.st_gid, b.st_gid);
	assert_int_equal(a.st_size, b.st_size);
	assert_int_equal(a.st_rdev, b.st_rdev);
	assert_int_equal(a.st_nlink, b.st_nlink);
	assert_memory_equal(&a.st_mtim, &b.st_mtim, sizeof(a.st_mtim));
}

static void set_times(struct fix *f, const char *path, time_t t)
{
	struct timespec ts[2] = {{t, 123}, {t, 456789}};

	assert_int_equal(utimensat(AT_FDCWD, in(f, path), ts, AT_SYMLINK_NOFOLLOW), 0);
}

static void files_keep_contents_owner_mode_and_times(void **state)
{
	struct fix *f = *state;
	char *text;
	size_t n;

	put_file(in(f, "from/file"), "contents");
	put_file(in(f, "from/empty"), "");
	assert_int_equal(mkdir(in(f, "from/dir"), 0750), 0);
	put_file(in(f, "from/dir/inner"), "more");
	if (privileged)
		assert_int_equal(chown(in(f, "from/file"), 17, 18), 0);
	assert_int_equal(chmod(in(f, "from/file"), 06755), 0);
	assert_int_equal(chmod(in(f, "from/dir/inner"), 0), 0);
	assert_int_equal(chmod(in(f, "from/dir"), 03750), 0);
	set_times(f, "from/file", 1000);
	set_times(f, "from/dir", 2000);
	set_times(f, "from", 3000);
	if (!privileged)
		assert_int_equal(chmod(in(f, "from/dir/inner"), 0400), 0);
	assert_ok(copy(f));
	same_meta(f, "file");
	same_meta(f, "empty");
	same_meta(f, "dir");
	same_meta(f, "dir/inner");
	same_meta(f, ".");
	assert_int_equal(file_read(f->arena, AT_FDCWD, in(f, "to/file"), 100, &text, &n), 0);
	assert_string_equal(text, "contents");
}

static void links_keep_their_targets(void **state)
{
	struct fix *f = *state;
	char target[32] = "";

	assert_int_equal(symlink("/nowhere/at/all", in(f, "from/link")), 0);
	if (privileged)
		assert_int_equal(lchown(in(f, "from/link"), 5, 6), 0);
	set_times(f, "from/link", 1234);
	assert_ok(copy(f));
	same_meta(f, "link");
	assert_int_equal(readlink(in(f, "to/link"), target, sizeof(target) - 1), 15);
	assert_string_equal(target, "/nowhere/at/all");
}

static void hard_links_stay_hard_links(void **state)
{
	struct fix *f = *state;

	assert_int_equal(mkdir(in(f, "from/d"), 0755), 0);
	for (int i = 0; i < 100; i++) { /* more than the table begins with */
		char *a = in(f, arena_printf(f->arena, "from/a%d", i)),
		     *b = in(f, arena_printf(f->arena, "from/d/b%d", i));

		put_file(a, a);
		assert_int_equal(link(a, b), 0);
	}
	assert_int_equal(symlink("x", in(f, "from/s1")), 0);
	assert_int_equal(link(in(f, "from/s1"), in(f, "from/s2")), 0);
	assert_ok(copy(f));
	for (int i = 0; i < 100; i++) {
		struct stat a = stat_of(f, arena_printf(f->arena, "to/a%d", i));
		struct stat b = stat_of(f, arena_printf(f->arena, "to/d/b%d", i));
		struct stat o = stat_of(f, arena_printf(f->arena, "from/a%d", i));

		assert_int_equal(a.st_ino, b.st_ino);
		assert_int_not_equal(a.st_ino, o.st_ino);
	}
	assert_int_equal(stat_of(f, "to/s1").st_ino, stat_of(f, "to/s2").st_ino);
}

static void devices_and_sockets_are_made(void **state)
{
	NEED_ROOT();
	struct fix *f = *state;

	assert_int_equal(mknod(in(f, "from/null"), S_IFCHR | 0666, makedev(1, 3)), 0);
	assert_int_equal(mknod(in(f, "from/block"), S_IFBLK | 0600, makedev(7, 9)), 0);
	assert_int_equal(mknod(in(f, "from/whiteout"), S_IFCHR, makedev(0, 0)), 0);
	assert_int_equal(mknod(in(f, "from/fifo"), S_IFIFO | 0620, 0), 0);
	assert_int_equal(mknod(in(f, "from/socket"), S_IFSOCK | 0755, 0), 0);
	assert_ok(copy(f));
	same_meta(f, "null");
	same_meta(f, "block");
	same_meta(f, "whiteout");
	same_meta(f, "fifo");
	same_meta(f, "socket");
}

static void attributes_are_kept(void **state)
{
	NEED_ROOT();
	static const unsigned char caps[20] = {0x01, 0, 0, 2, 0x00, 0x20};
	struct fix *f = *state;
	char v[64];

	put_file(in(f, "from/file"), "x");
	assert_int_equal(chown(in(f, "from/file"), 3, 3), 0);
	assert_int_equal(setxattr(in(f, "from/file"), "security.capability", caps, sizeof(caps), 0),
			 0);
	assert_int_equal(setxattr(in(f, "from"), "trusted.overlay.opaque", "y", 1, 0), 0);
	assert_int_equal(symlink("x", in(f, "from/link")), 0);
	assert_int_equal(lsetxattr(in(f, "from/link"), "trusted.mark", "1", 1, 0), 0);
	assert_ok(copy(f));
	assert_int_equal(getxattr(in(f, "to/file"), "security.capability", v, sizeof(v)),
			 sizeof(caps));
	assert_memory_equal(v, caps, sizeof(caps));
	assert_int_equal(getxattr(in(f, "to"), "trusted.overlay.opaque", v, sizeof(v)), 1);
	assert_int_equal(lgetxattr(in(f, "to/link"), "trusted.mark", v, sizeof(v)), 1);
}

static void holes_stay_holes(void **state)
{
	struct fix *f = *state;
	_cleanup_close_ int fd = open(in(f, "from/sparse"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	struct stat st;
	char *text;
	size_t n;

	assert_int_equal(pwrite(fd, "begin", 5, 0), 5);
	assert_int_equal(pwrite(fd, "middle", 6, 8 << 20), 6);
	assert_int_equal(ftruncate(fd, 16 << 20), 0);
	assert_ok(copy(f));
	st = stat_of(f, "to/sparse");
	assert_int_equal(st.st_size, 16 << 20);
	assert_true(st.st_blocks * 512 < 1 << 20);
	assert_int_equal(file_read(f->arena, AT_FDCWD, in(f, "to/sparse"), 32 << 20, &text, &n), 0);
	assert_memory_equal(text, "begin", 5);
	assert_memory_equal(text + (8 << 20), "middle", 6);
}

static void files_on_another_file_system_are_copied_too(void **state)
{
	NEED_ROOT();
	struct fix *f = *state;
	_cleanup_free_ char *big = malloc(5000000);
	char *text;
	size_t n;

	assert_int_equal(mount("tmpfs", in(f, "to"), "tmpfs", 0, "mode=0700"), 0);
	for (size_t i = 0; i < 5000000; i++)
		big[i] = (char)(i * 7 / 3);
	assert_int_equal(file_write(AT_FDCWD, in(f, "from/big"), big, 5000000, 0644), 0);
	assert_ok(copy(f));
	assert_int_equal(file_read(f->arena, AT_FDCWD, in(f, "to/big"), 6000000, &text, &n), 0);
	assert_int_equal(n, 5000000);
	assert_memory_equal(text, big, n);
	assert_int_equal(umount2(in(f, "to"), MNT_DETACH), 0);
}

static void links_are_not_followed(void **state)
{
	struct fix *f = *state;

	assert_int_equal(mkdir(in(f, "outside"), 0755), 0);
	put_file(in(f, "outside/secret"), "x");
	assert_int_equal(symlink("../outside", in(f, "from/dir")), 0);
	assert_ok(copy(f));
	assert_true(S_ISLNK(stat_of(f, "to/dir").st_mode));
}

static void deep_trees_are_copied(void **state)
{
	struct fix *f = *state;
	int fd = open(in(f, "from"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	for (int i = 0; i < 1000; i++) {
		struct timespec then[2] = {{1000 + i, 1}, {2000 + i, 2}};
		int next;

		assert_int_equal(mkdirat(fd, "a-directory-with-a-name-of-some-length", 0755), 0);
		assert_int_equal(futimens(fd, then), 0);
		next = openat(fd, "a-directory-with-a-name-of-some-length",
			      O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		close(fd);
		fd = next;
	}
	/* Beyond PATH_MAX: two names of one file become two files, and all is there. */
	assert_int_equal(file_write(fd, "x", "x", 1, 0644), 0);
	assert_int_equal(linkat(fd, "x", fd, "y", 0), 0);
	close(fd);
	assert_ok(copy(f));
	int64_t a, b, na, nb;
	assert_int_equal(dir_usage(AT_FDCWD, in(f, "from"), &a, &na), 0);
	assert_int_equal(dir_usage(AT_FDCWD, in(f, "to"), &b, &nb), 0);
	assert_int_equal(na + 1, nb);
	/* The attributes of those half way down, too. */
	a = open(in(f, "from"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	b = open(in(f, "to"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (int i = 0; i < 100; i++) {
		struct stat sa, sb;
		int next;

		assert_int_equal(fstat((int)a, &sa), 0);
		assert_int_equal(fstat((int)b, &sb), 0);
		assert_int_equal(sa.st_mtim.tv_sec, 2000 + i);
		assert_memory_equal(&sa.st_mtim, &sb.st_mtim, sizeof(sa.st_mtim));
		assert_int_equal(sa.st_mode, sb.st_mode);
		next = openat((int)a, "a-directory-with-a-name-of-some-length",
			      O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		close((int)a);
		a = next;
		next = openat((int)b, "a-directory-with-a-name-of-some-length",
			      O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		close((int)b);
		b = next;
	}
	close((int)a);
	close((int)b);
}

static void the_failing_object_is_named(void **state)
{
	struct fix *f = *state;

	assert_int_equal(mkdir(in(f, "from/d"), 0755), 0);
	put_file(in(f, "from/d/file"), "");
	assert_int_equal(mkdir(in(f, "to/d"), 0755), 0);
	assert_int_equal(copy(f), -ERR_ALREADY_EXISTS);
	assert_true(str_has_prefix(f->err.text, "make directory `d`"));
}

#define T(t) cmocka_unit_test_setup_teardown(t, setup, fix_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(files_keep_contents_owner_mode_and_times),
		T(links_keep_their_targets),
		T(hard_links_stay_hard_links),
		T(devices_and_sockets_are_made),
		T(attributes_are_kept),
		T(holes_stay_holes),
		T(files_on_another_file_system_are_copied_too),
		T(links_are_not_followed),
		T(deep_trees_are_copied),
		T(the_failing_object_is_named),
	};

	return cmocka_run_group_tests(tests, group_setup, NULL);
}
