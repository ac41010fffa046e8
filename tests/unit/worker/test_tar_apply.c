/* SPDX-License-Identifier: Apache-2.0 */
/* Archives applied to a temporary directory. Runs with and without privileges. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <locale.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "tarball.h"
#include "worker/tar_apply.h"
#include "worker/tree.h"

#define ADD(...) tarball_add(&f->tar, &(struct tarent){__VA_ARGS__})

struct fixture {
	char dir[32];
	int top, target, lower;
	struct buf tar;
	struct tar_apply_options o;
	size_t at, block;
	struct err err;
	int64_t entries;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	strcpy(f->dir, "/tmp/tar_apply.XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	f->top = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(mkdirat(f->top, "target", 0755), 0);
	assert_int_equal(mkdirat(f->top, "lower", 0755), 0);
	f->target = openat(f->top, "target", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	f->lower = openat(f->top, "lower", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	f->o = (struct tar_apply_options){
		.root_fd = f->target,
		.lower_fds = &f->lower,
		.n_lowers = 1,
		.overlay = true,
		.userxattr = geteuid() != 0,
		.keep_owner = geteuid() != 0,
		.max_entries = 1000,
		.max_file = 1 << 24,
	};
	f->block = 700; /* no multiple of anything */
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	close(f->target);
	close(f->lower);
	close(f->top);
	rm_rf(AT_FDCWD, f->dir);
	buf_done(&f->tar);
	free(f);
	return 0;
}

static ssize_t next(void *arg, const void **ret, struct err *err)
{
	struct fixture *f = arg;
	size_t n = MIN(f->block, f->tar.len - f->at);

	*ret = f->tar.data + f->at;
	f->at += n;
	return (ssize_t)n;
}

static int apply(struct fixture *f)
{
	f->at = 0;
	f->err = ERR_INIT;
	return tar_apply(&f->o, next, f, &f->entries, &f->err);
}

static void apply_ok(struct fixture *f)
{
	tarball_end(&f->tar);
	if (apply(f) != 0)
		fail_msg("%s", f->err.text);
}

static void apply_fails(struct fixture *f, int kind, const char *text)
{
	tarball_end(&f->tar);
	assert_int_equal(apply(f), -kind);
	if (!strstr(f->err.text, text))
		fail_msg("%s", f->err.text);
}

static struct stat st_of(struct fixture *f, const char *path)
{
	struct stat st;

	if (fstatat(f->target, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
		fail_msg("%s is not there", path);
	return st;
}

static bool exists(int dir, const char *path)
{
	return faccessat(dir, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void assert_content(int dir, const char *path, const char *want)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	char *p;
	size_t n;

	if (file_read(a, dir, path, 1 << 20, &p, &n) < 0)
		fail_msg("%s is not there", path);
	assert_string_equal(p, want);
}

static void entries_get_mode_time_and_content(void **state)
{
	struct fixture *f = *state;
	struct stat st;

	ADD(.name = "d/", .type = '5', .mode = 01711, .mtime = 1000);
	ADD(.name = "d/f", .type = '0', .data = "hello", .mode = 04750, .mtime = 2000);
	ADD(.name = "d/l", .type = '2', .link = "/nowhere", .mtime = 3000);
	ADD(.name = "d/h", .type = '1', .link = "d/f");
	ADD(.name = "d/p", .type = '6', .mode = 0620);
	apply_ok(f);
	st = st_of(f, "d");
	assert_int_equal(st.st_mode, S_IFDIR | 01711);
	assert_int_equal(st.st_mtime, 1000);
	st = st_of(f, "d/f");
	assert_int_equal(st.st_mode, S_IFREG | 04750);
	assert_int_equal(st.st_mtime, 2000);
	assert_int_equal(st.st_nlink, 2);
	assert_content(f->target, "d/h", "hello");
	st = st_of(f, "d/l");
	assert_int_equal(st.st_mtime, 3000);
	assert_true(S_ISFIFO(st_of(f, "d/p").st_mode));
	assert_int_equal(f->entries, 5);
}

static void pax_gives_long_names_fractions_and_attributes(void **state)
{
	struct fixture *f = *state;
	char name[300], value[8];

	memset(name, 'n', 250);
	strcpy(name + 250, "/\xc3\xa9");
	tarball_pax(&f->tar, "path", name);
	ADD(.name = "short", .type = '0', .data = "x");
	apply_ok(f);
	assert_content(f->target, name, "x");

	buf_clear(&f->tar);
	tarball_pax(&f->tar, "mtime", "1234.5");
	ADD(.name = "frac", .type = '0');
	tarball_pax(&f->tar, "SCHILY.xattr.user.k", "val");
	ADD(.name = "xattr", .type = '0');
	tarball_pax(&f->tar, "SCHILY.xattr.user.overlay.redirect", "evil");
	ADD(.name = "evil", .type = '0');
	apply_ok(f);
	assert_int_equal(st_of(f, "frac").st_mtim.tv_nsec, 500000000);
	_cleanup_close_ int fd = openat(f->target, "xattr", O_RDONLY | O_CLOEXEC);
	_cleanup_close_ int evil = openat(f->target, "evil", O_RDONLY | O_CLOEXEC);
	if (fgetxattr(fd, "user.k", value, sizeof(value)) < 0 && errno == ENOTSUP)
		skip();
	assert_int_equal(fgetxattr(fd, "user.k", value, sizeof(value)), 3);
	assert_true(fgetxattr(evil, "user.overlay.redirect", value, sizeof(value)) < 0);
}

static void assert_link(struct fixture *f, const char *path, const char *want)
{
	char to[PATH_MAX] = "";

	assert_true(readlinkat(f->target, path, to, sizeof(to) - 1) > 0);
	assert_string_equal(to, want);
}

/* A file system knows bytes: neither are two characters made one, nor is there one that may not be.
 */
static void names_of_pax_headers_are_bytes(void **state)
{
	static const size_t blocks[] = {1, 512, 700, 1 << 20};
	struct fixture *f = *state;

	tarball_pax(&f->tar, "path", "e\xcc\x81"); /* would be composed */
	ADD(.name = "short", .type = '0', .data = "1");
	tarball_pax(&f->tar, "path", "latin-\xe9");
	ADD(.name = "short", .type = '0', .data = "2");
	tarball_pax(&f->tar, "linkpath", "to-\xe9");
	ADD(.name = "symbolic", .type = '2');
	tarball_pax(&f->tar, "linkpath", "latin-\xe9");
	ADD(.name = "hard", .type = '1');
	tarball_pax(&f->tar, "linkpath", "e\xcc\x81");
	ADD(.name = "hard2", .type = '1');
	ADD(.name = "././@LongLink", .type = 'L', .data = "long-\xe9", .len = 7);
	tarball_pax(&f->tar, "mtime", "1.5");
	ADD(.name = "short", .type = '0', .data = "3");
	tarball_end(&f->tar);
	for (size_t i = 0; i < ARRAY_LEN(blocks); i++) {
		f->block = blocks[i];
		if (apply(f) != 0)
			fail_msg("blocks of %zu: %s", f->block, f->err.text);
		assert_content(f->target, "e\xcc\x81", "1");
		assert_content(f->target, "latin-\xe9", "2");
		assert_link(f, "symbolic", "to-\xe9");
		assert_content(f->target, "hard", "2");
		assert_content(f->target, "hard2", "1");
		assert_content(f->target, "long-\xe9", "3");
		assert_false(exists(f->target, "short"));
	}
}

static void names_stay_inside(void **state)
{
	struct fixture *f = *state;

	ADD(.name = "../../up", .type = '0', .data = "1");
	ADD(.name = "/abs", .type = '0', .data = "2");
	ADD(.name = "a/../b/./c", .type = '0', .data = "3");
	ADD(.name = "out", .type = '2', .link = "../../../..");
	ADD(.name = "out/through", .type = '0', .data = "4");
	ADD(.name = "root", .type = '2', .link = "/");
	ADD(.name = "root/tmp/x", .type = '0', .data = "5");
	ADD(.name = "./", .type = '5', .mode = 0700);
	apply_ok(f);
	assert_content(f->target, "up", "1");
	assert_content(f->target, "abs", "2");
	assert_content(f->target, "b/c", "3");
	assert_content(f->target, "through", "4");
	assert_content(f->target, "tmp/x", "5");
	assert_false(exists(f->top, "up"));
	assert_int_equal(st_of(f, ".").st_mode & 0777, 0755);
}

static void link_to_nowhere_on_the_way_is_made_inside(void **state)
{
	struct fixture *f = *state;

	ADD(.name = "l", .type = '2', .link = "/new/dir");
	ADD(.name = "l/f", .type = '0', .data = "x");
	apply_ok(f);
	assert_content(f->target, "new/dir/f", "x");
}

static void hard_link_out_of_the_tree_is_refused(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(file_write(f->top, "secret", "s", 1, 0600), 0);
	ADD(.name = "h", .type = '1', .link = "../secret");
	apply_fails(f, ERR_INVALID_ARGUMENT,
		    "apply layer entry \"h\": hard link's target: ../secret");
}

static void hard_link_to_itself_is_refused(void **state)
{
	struct fixture *f = *state;

	ADD(.name = "h", .type = '0', .data = "x");
	ADD(.name = "./h", .type = '1', .link = "h");
	apply_fails(f, ERR_INVALID_ARGUMENT, "to itself");
	assert_content(f->target, "h", "x");
}

static void loops_of_links_are_refused(void **state)
{
	struct fixture *f = *state;

	ADD(.name = "a", .type = '2', .link = "b");
	ADD(.name = "b", .type = '2', .link = "a");
	ADD(.name = "a/x", .type = '0');
	apply_fails(f, ERR_INVALID_ARGUMENT, "apply layer entry \"a/x\"");
	buf_clear(&f->tar);
	ADD(.name = "c", .type = '2', .link = "c/d");
	ADD(.name = "c/x", .type = '0');
	apply_fails(f, ERR_INVALID_ARGUMENT, "apply layer entry \"c/x\"");
}

static void file_as_parent_is_refused(void **state)
{
	struct fixture *f = *state;

	ADD(.name = "f", .type = '0');
	ADD(.name = "f/x", .type = '0');
	apply_fails(f, ERR_INVALID_ARGUMENT, "Not a directory");
}

static void entry_replaces_what_was_there(void **state)
{
	struct fixture *f = *state;

	ADD(.name = "x/y/z", .type = '0', .data = "1");
	ADD(.name = "x", .type = '0', .data = "file");
	ADD(.name = "l", .type = '2', .link = "target");
	ADD(.name = "target", .type = '5', .mode = 0755);
	ADD(.name = "l", .type = '5', .mode = 0755);
	ADD(.name = "l/in", .type = '0', .data = "2");
	ADD(.name = "k", .type = '2', .link = "victim");
	ADD(.name = "victim", .type = '0', .data = "untouched");
	ADD(.name = "k", .type = '0', .data = "new");
	apply_ok(f);
	assert_content(f->target, "x", "file");
	assert_true(S_ISDIR(st_of(f, "l").st_mode));
	assert_false(exists(f->target, "target/in"));
	assert_content(f->target, "victim", "untouched");
	assert_content(f->target, "k", "new");
}

static void overlay_whiteouts_become_devices(void **state)
{
	struct fixture *f = *state;
	struct stat st;

	ADD(.name = "d/.wh.gone", .type = '0');
	ADD(.name = ".wh..wh.plnk/x", .type = '0');
	apply_ok(f);
	st = st_of(f, "d/gone");
	assert_true(S_ISCHR(st.st_mode));
	assert_int_equal(st.st_rdev, makedev(0, 0));
	assert_false(exists(f->target, ".wh..wh.plnk"));
	assert_false(exists(f->target, "d/.wh.gone"));
}

static void overlay_opaque_is_an_attribute(void **state)
{
	struct fixture *f = *state;
	const char *name = f->o.userxattr ? "user.overlay.opaque" : "trusted.overlay.opaque";
	const char *dirs[] = {"d", "before", "after"};
	char value[4];

	ADD(.name = "d/.wh..wh..opq", .type = '0');
	ADD(.name = ".wh.before", .type = '0');
	ADD(.name = "before", .type = '5', .mode = 0755);
	ADD(.name = "after", .type = '5', .mode = 0755);
	ADD(.name = ".wh.after", .type = '0');
	tarball_end(&f->tar);
	if (apply(f) < 0 && strstr(f->err.text, "not supported"))
		skip();
	assert_int_equal(f->err.kind, 0);
	for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
		_cleanup_close_ int fd =
			openat(f->target, dirs[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		assert_int_equal(fgetxattr(fd, name, value, sizeof(value)), 1);
		assert_int_equal(value[0], 'y');
	}
}

static void plain_whiteouts_delete_what_the_layer_has_not_made(void **state)
{
	struct fixture *f = *state;

	f->o.overlay = false;
	assert_int_equal(mkdirat(f->target, "d", 0755), 0);
	assert_int_equal(mkdirat(f->target, "d/sub", 0755), 0);
	assert_int_equal(file_write(f->target, "d/old", "x", 1, 0600), 0);
	assert_int_equal(file_write(f->target, "d/sub/old", "x", 1, 0600), 0);
	assert_int_equal(mkdirat(f->target, "gone", 0755), 0);
	assert_int_equal(file_write(f->target, "gone/f", "x", 1, 0600), 0);
	ADD(.name = "d/sub/new", .type = '0', .data = "n");
	ADD(.name = "d/.wh..wh..opq", .type = '0');
	ADD(.name = ".wh.gone", .type = '0');
	ADD(.name = ".wh.never", .type = '0');
	apply_ok(f);
	assert_content(f->target, "d/sub/new", "n");
	assert_false(exists(f->target, "d/old"));
	assert_false(exists(f->target, "d/sub/old"));
	assert_false(exists(f->target, "gone"));
}

static void whiteout_of_dot_names_is_refused(void **state)
{
	struct fixture *f = *state;
	const char *names[] = {"d/.wh..", "d/.wh...", ".wh."};

	f->o.overlay = false;
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		buf_clear(&f->tar);
		ADD(.name = "d/f", .type = '0', .data = "x");
		ADD(.name = names[i], .type = '0');
		apply_fails(f, ERR_INVALID_ARGUMENT, "invalid whiteout name");
		assert_content(f->target, "d/f", "x");
	}
}

static void parents_come_from_the_layers_below(void **state)
{
	struct fixture *f = *state;
	struct stat st;

	assert_int_equal(mkdirat(f->lower, "var", 0755), 0);
	assert_int_equal(mkdirat(f->lower, "var/lib", 0755), 0);
	assert_int_equal(fchmodat(f->lower, "var/lib", 01770, 0), 0);
	assert_int_equal(mkdirat(f->lower, "var/lib/x", 0700), 0);
	ADD(.name = "var/lib/x/f", .type = '0', .data = "1");
	ADD(.name = "other/f", .type = '0', .data = "1");
	apply_ok(f);
	st = st_of(f, "var/lib");
	assert_int_equal(st.st_mode & 07777, 01770);
	st = st_of(f, "var/lib/x");
	assert_int_equal(st.st_mode & 07777, 0700);
	st = st_of(f, "other");
	assert_int_equal(st.st_mode & 07777, 0755);
}

static void make_old_dir(int at, const char *path, int64_t mtime)
{
	const struct timespec times[2] = {{.tv_sec = mtime}, {.tv_sec = mtime, .tv_nsec = 7}};

	assert_int_equal(mkdirat(at, path, 0755), 0);
	assert_int_equal(utimensat(at, path, times, 0), 0);
}

static void assert_old(struct fixture *f, const char *path, int64_t mtime)
{
	struct stat st = st_of(f, path);

	assert_int_equal(st.st_mtim.tv_sec, mtime);
	assert_int_equal(st.st_mtim.tv_nsec, 7);
}

static void directories_that_a_layer_does_not_name_keep_their_time(void **state)
{
	struct fixture *f = *state;

	make_old_dir(f->lower, "a", 1000);
	make_old_dir(f->lower, "a/b", 2000);
	assert_int_equal(file_write(f->lower, "a/b/orig", "x", 1, 0644), 0);
	make_old_dir(f->lower, "c", 3000);
	for (int i = 0; i < 2; i++) {
		const struct timespec t[2] = {{.tv_sec = i ? 1000 : 2000, .tv_nsec = 7},
					      {.tv_sec = i ? 1000 : 2000, .tv_nsec = 7}};

		assert_int_equal(utimensat(f->lower, i ? "a" : "a/b", t, 0), 0);
	}
	ADD(.name = "a/b/f", .type = '0', .data = "1");
	ADD(.name = "h", .type = '1', .link = "a/b/orig");
	ADD(.name = "c/.wh.x", .type = '0', .data = "");
	ADD(.name = "c", .type = '5', .mtime = 4000);
	ADD(.name = "c/late", .type = '0', .data = "1");
	apply_ok(f);
	assert_old(f, "a", 1000);
	assert_old(f, "a/b", 2000);
	assert_int_equal(st_of(f, "c").st_mtime, 4000);
}

static void directories_in_place_keep_their_time_too(void **state)
{
	struct fixture *f = *state;

	f->o.overlay = false;
	make_old_dir(f->target, "a", 1000);
	make_old_dir(f->target, "a/b", 2000);
	make_old_dir(f->target, "a/b/gone", 2000);
	assert_int_equal(symlinkat("a/b", f->target, "link"), 0);
	for (int i = 0; i < 2; i++) {
		const struct timespec t[2] = {{.tv_sec = i ? 1000 : 2000, .tv_nsec = 7},
					      {.tv_sec = i ? 1000 : 2000, .tv_nsec = 7}};

		assert_int_equal(utimensat(f->target, i ? "a" : "a/b", t, 0), 0);
	}
	ADD(.name = "link/f", .type = '0', .data = "1");
	ADD(.name = "a/b/.wh.gone", .type = '0', .data = "");
	ADD(.name = "a/g", .type = '0', .data = "1");
	apply_ok(f);
	assert_false(exists(f->target, "a/b/gone"));
	assert_old(f, "a", 1000);
	assert_old(f, "a/b", 2000);
}

static void what_replaces_a_directory_has_its_own_time(void **state)
{
	struct fixture *f = *state;

	ADD(.name = "d", .type = '5', .mtime = 1000);
	ADD(.name = "d/f", .type = '0', .data = "1");
	ADD(.name = "d", .type = '0', .data = "2", .mtime = 2000);
	apply_ok(f);
	assert_int_equal(st_of(f, "d").st_mtime, 2000);
}

static void attributes_of_a_directory_are_its_last_entrys(void **state)
{
	struct fixture *f = *state;
	char path[64], value[8];

	f->o.overlay = false;
	assert_int_equal(mkdirat(f->target, "d", 0755), 0);
	snprintf(path, sizeof(path), "%s/target/d", f->dir);
	if (setxattr(path, "user.old", "1", 1, 0) < 0)
		skip(); /* not on this file system */
	tarball_pax(&f->tar, "SCHILY.xattr.user.new", "2");
	ADD(.name = "d", .type = '5', .mtime = 1000);
	apply_ok(f);
	assert_int_equal(getxattr(path, "user.old", value, sizeof(value)), -1);
	assert_int_equal(getxattr(path, "user.new", value, sizeof(value)), 1);
}

static void hard_link_copies_its_target_up(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(mkdirat(f->lower, "d", 0750), 0);
	assert_int_equal(file_write(f->lower, "d/orig", "below", 5, 0640), 0);
	ADD(.name = "h", .type = '1', .link = "d/orig");
	apply_ok(f);
	assert_content(f->target, "d/orig", "below");
	assert_int_equal(st_of(f, "h").st_nlink, 2);
	assert_int_equal(st_of(f, "h").st_mode & 07777, 0640);
	assert_int_equal(st_of(f, "d").st_mode & 07777, 0750);
	assert_int_equal(unlinkat(f->target, "h", 0), 0);
	assert_content(f->lower, "d/orig", "below");
}

/* What a layer in between has hidden is not there: neither a link's target nor a directory's mode.
 */
static void what_an_opaque_directory_hides_is_not_found(void **state)
{
	struct fixture *f = *state;
	const char *name = f->o.userxattr ? "user.overlay.opaque" : "trusted.overlay.opaque";
	_cleanup_close_ int middle = -1, opaque = -1;

	assert_int_equal(mkdirat(f->lower, "d", 0755), 0);
	assert_int_equal(mkdirat(f->lower, "d/sub", 0700), 0);
	assert_int_equal(file_write(f->lower, "d/sub/orig", "below", 5, 0640), 0);
	assert_int_equal(mkdirat(f->top, "middle", 0755), 0);
	middle = openat(f->top, "middle", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(mkdirat(middle, "d", 0755), 0);
	opaque = openat(middle, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fsetxattr(opaque, name, "y", 1, 0) < 0)
		skip();
	const int lowers[] = {middle, f->lower};
	f->o.lower_fds = lowers;
	f->o.n_lowers = 2;
	ADD(.name = "d/sub/f", .type = '0', .data = "1");
	ADD(.name = "h", .type = '1', .link = "d/sub/orig");
	apply_fails(f, ERR_INVALID_ARGUMENT, "hard link's target");
	assert_int_equal(st_of(f, "d/sub").st_mode & 07777, 0755);
	assert_false(exists(f->target, "d/sub/orig"));
	assert_false(exists(f->target, "h"));
}

static void what_the_layer_itself_hides_is_not_found(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(mkdirat(f->lower, "d", 0755), 0);
	assert_int_equal(mkdirat(f->lower, "d/sub", 0700), 0);
	assert_int_equal(file_write(f->lower, "d/orig", "below", 5, 0640), 0);
	ADD(.name = "d", .type = '5', .mode = 0755);
	ADD(.name = "d/.wh..wh..opq", .type = '0');
	ADD(.name = "d/sub/f", .type = '0', .data = "1");
	ADD(.name = "h", .type = '1', .link = "d/orig");
	tarball_end(&f->tar);
	assert_true(apply(f) < 0);
	if (strstr(f->err.text, "not supported"))
		skip();
	assert_non_null(strstr(f->err.text, "hard link's target"));
	assert_int_equal(st_of(f, "d/sub").st_mode & 07777, 0755);
	assert_false(exists(f->target, "d/orig"));
}

static void layer_that_is_alone_may_name_all_that_it_needs(void **state)
{
	struct fixture *f = *state;

	f->o.alone = true;
	ADD(.name = "d", .type = '5', .mode = 0700);
	ADD(.name = "d/.wh.gone", .type = '0');
	ADD(.name = "d/orig", .type = '0', .data = "1");
	ADD(.name = "h", .type = '1', .link = "d/orig");
	apply_ok(f);
	assert_int_equal(st_of(f, "h").st_nlink, 2);
	assert_true(S_ISCHR(st_of(f, "d/gone").st_mode));
}

static void layer_that_is_alone_needs_its_parents(void **state)
{
	struct fixture *f = *state;

	f->o.alone = true;
	ADD(.name = "var/f", .type = '0', .data = "1");
	apply_fails(f, ERR_ABORTED, "needs the layers below");
	assert_int_equal(faccessat(f->target, "var", F_OK, 0), -1);
}

static void layer_that_is_alone_needs_a_link_s_target(void **state)
{
	struct fixture *f = *state;

	f->o.alone = true;
	ADD(.name = "h", .type = '1', .link = "orig");
	apply_fails(f, ERR_ABORTED, "needs the layers below");
}

static void zeroes_are_not_written(void **state)
{
	struct fixture *f = *state;
	size_t size = 3 << 20;
	_cleanup_free_ char *p = calloc(1, size);
	struct stat st;

	p[1 << 20] = 'x';
	ADD(.name = "z", .type = '0', .data = p, .len = size);
	f->block = 100000;
	apply_ok(f);
	st = st_of(f, "z");
	assert_int_equal(st.st_size, size);
	assert_true(st.st_blocks * 512 < 256 << 10);
	_cleanup_close_ int fd = openat(f->target, "z", O_RDONLY | O_CLOEXEC);
	_cleanup_free_ char *q = malloc(size);
	assert_int_equal(fd_pread_full(fd, q, size, 0), size);
	assert_memory_equal(p, q, size);
}

static void limits_hold(void **state)
{
	struct fixture *f = *state;

	f->o.max_entries = 3;
	for (int i = 0; i < 4; i++)
		ADD(.name = "f", .type = '0');
	apply_fails(f, ERR_RESOURCE_EXHAUSTED, "more than 3 entries");
	f->o.max_entries = 10;
	f->o.max_file = 4;
	buf_clear(&f->tar);
	ADD(.name = "f", .type = '0', .data = "12345");
	apply_fails(f, ERR_RESOURCE_EXHAUSTED, "beyond the limit");
}

static void add_records(struct fixture *f, const char *records)
{
	tarball_header(&f->tar, &(struct tarent){.name = "pax", .type = 'x'}, strlen(records));
	tarball_data(&f->tar, records, strlen(records));
}

/* A sparse file as GNU tar writes it: its map comes before its data. */
static void add_sparse(struct fixture *f, const char *map, size_t n, const char *data)
{
	_cleanup_buf_ struct buf b = BUF_INIT;

	add_records(f, "22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n"
		       "28 GNU.sparse.name=sparse-\xe9\n31 GNU.sparse.realsize=1000000\n");
	tarball_data(&b, map, n);
	buf_adds(&b, data);
	ADD(.name = "short", .type = '0', .data = b.data, .len = b.len);
}

static void sparse_files_are_as_they_were(void **state)
{
	static const char map[] = "2\n500000\n3\n1000000\n0\n";
	struct fixture *f = *state;
	char p[3];

	add_sparse(f, map, strlen(map), "abc");
	ADD(.name = "next", .type = '0', .data = "x");
	apply_ok(f);
	assert_int_equal(st_of(f, "sparse-\xe9").st_size, 1000000);
	_cleanup_close_ int fd = openat(f->target, "sparse-\xe9", O_RDONLY | O_CLOEXEC);
	assert_int_equal(fd_pread_full(fd, p, 3, 500000), 3);
	assert_memory_equal(p, "abc", 3);
	assert_content(f->target, "next", "x");
}

/* It would be kept in memory, twenty times as large. */
static void endless_sparse_map_is_refused(void **state)
{
	static const char count[] = "9999999\n";
	_cleanup_buf_ struct buf map = BUF_INIT;
	struct fixture *f = *state;

	buf_adds(&map, count);
	while (map.len < 9 << 20)
		buf_adds(&map, "0\n0\n0\n0\n0\n0\n0\n0\n");
	f->block = 256 << 10;
	add_sparse(f, map.data, map.len, "");
	apply_fails(f, ERR_INVALID_ARGUMENT, "header is longer than");
}

static void damaged_archives_are_refused(void **state)
{
	struct fixture *f = *state;

	ADD(.name = "f", .type = '0', .data = "12345");
	f->tar.len = 514; /* within the data */
	assert_int_equal(apply(f), -ERR_INVALID_ARGUMENT);
	buf_clear(&f->tar);
	ADD(.name = "f", .type = '0', .data = "12345");
	ADD(.name = "g", .type = '0', .data = "12345");
	f->tar.data[1024] ^= 1;
	apply_fails(f, ERR_INVALID_ARGUMENT, "read archive");
	buf_clear(&f->tar);
	for (int i = 0; i < 200; i++)
		buf_adds(&f->tar, "not an archive ");
	assert_int_equal(apply(f), -ERR_INVALID_ARGUMENT);
}

/* As some tools write them, and Go's reader takes them. */
static void archive_without_final_padding_is_fine(void **state)
{
	struct fixture *f = *state;

	ADD(.name = "f", .type = '0', .data = "12345");
	f->tar.len = 512 + 5;
	apply_ok(f);
	assert_int_equal(st_of(f, "f").st_size, 5);
}

static void empty_archives_are_fine(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(apply(f), 0);
	assert_int_equal(f->entries, 0);
	apply_ok(f);
	assert_int_equal(f->entries, 0);
}

static void unprintable_names_are_escaped_in_errors(void **state)
{
	struct fixture *f = *state;

	ADD(.name = "a\x01\xff", .type = '1', .link = "b");
	apply_fails(f, ERR_INVALID_ARGUMENT, "\"a\\x01\\xff\"");
}

static void names_are_cleaned(void **state)
{
	static const char *const v[][2] = {
		{"", ""},	  {"/", ""},	  {".", ""},	       {"..", ""},
		{"a//b/", "a/b"}, {"../a", "a"},  {"a/..", ""},	       {"a/../../b", "b"},
		{"./a/.", "a"},	  {"...", "..."}, {"a/b/../c", "a/c"}, {".a/..b", ".a/..b"},
	};
	char out[PATH_MAX];

	for (size_t i = 0; i < ARRAY_LEN(v); i++) {
		assert_int_equal(tree_clean(v[i][0], out), 0);
		assert_string_equal(out, v[i][1]);
	}
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(entries_get_mode_time_and_content),
		TEST(pax_gives_long_names_fractions_and_attributes),
		TEST(names_of_pax_headers_are_bytes),
		TEST(names_stay_inside),
		TEST(link_to_nowhere_on_the_way_is_made_inside),
		TEST(hard_link_out_of_the_tree_is_refused),
		TEST(hard_link_to_itself_is_refused),
		TEST(loops_of_links_are_refused),
		TEST(file_as_parent_is_refused),
		TEST(entry_replaces_what_was_there),
		TEST(overlay_whiteouts_become_devices),
		TEST(overlay_opaque_is_an_attribute),
		TEST(plain_whiteouts_delete_what_the_layer_has_not_made),
		TEST(whiteout_of_dot_names_is_refused),
		TEST(parents_come_from_the_layers_below),
		TEST(directories_that_a_layer_does_not_name_keep_their_time),
		TEST(directories_in_place_keep_their_time_too),
		TEST(what_replaces_a_directory_has_its_own_time),
		TEST(attributes_of_a_directory_are_its_last_entrys),
		TEST(hard_link_copies_its_target_up),
		TEST(what_an_opaque_directory_hides_is_not_found),
		TEST(what_the_layer_itself_hides_is_not_found),
		TEST(layer_that_is_alone_may_name_all_that_it_needs),
		TEST(layer_that_is_alone_needs_its_parents),
		TEST(layer_that_is_alone_needs_a_link_s_target),
		TEST(zeroes_are_not_written),
		TEST(limits_hold),
		TEST(sparse_files_are_as_they_were),
		TEST(endless_sparse_map_is_refused),
		TEST(damaged_archives_are_refused),
		TEST(archive_without_final_padding_is_fine),
		TEST(empty_archives_are_fine),
		TEST(unprintable_names_are_escaped_in_errors),
		cmocka_unit_test(names_are_cleaned),
	};

	setlocale(LC_CTYPE, "C.UTF-8"); /* as role_unpack() does */
	return cmocka_run_group_tests_name("tar_apply", tests, NULL, NULL);
}
