/* SPDX-License-Identifier: Apache-2.0 */
/* Users of a container, looked up in the layers of its snapshot. Only root may do that: for others
 * the tests are skipped. */
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
#include <sys/xattr.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "base/path.h"
#include "client/rootfs.h"

struct fixture {
	struct arena *arena;
	char dir[64];
	PB_TYPES(Mount) mount, *mounts[1];
	char *options[3];
	struct client_mounts list;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (!f)
		return -1;
	strcpy(f->dir, "/tmp/test_rootfs.XXXXXX");
	f->arena = arena_new(0);
	if (!f->arena || !mkdtemp(f->dir))
		return -1;
	containerd__types__mount__init(&f->mount);
	f->mount.type = f->mount.source = (char *)"overlay";
	f->options[0] = arena_printf(f->arena, "workdir=%s/work", f->dir);
	f->options[1] = arena_printf(f->arena, "upperdir=%s/upper", f->dir);
	f->options[2] = arena_printf(f->arena, "lowerdir=%s/middle:%s/lower", f->dir, f->dir);
	f->mount.options = f->options;
	f->mount.n_options = 3;
	f->mounts[0] = &f->mount;
	f->list = (struct client_mounts){f->mounts, 1};
	for (const char *const *d = (const char *const[]){"work", "upper", "middle", "lower", NULL};
	     *d; d++)
		if (mkdir(arena_printf(f->arena, "%s/%s", f->dir, *d), 0755) < 0)
			return -1;
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	int r = rm_rf(AT_FDCWD, f->dir);

	arena_free(f->arena);
	free(f);
	return r;
}

static char *at(struct fixture *f, const char *layer, const char *name)
{
	return arena_printf(f->arena, "%s/%s/etc%s%s", f->dir, layer, *name ? "/" : "", name);
}

static void put(struct fixture *f, const char *layer, const char *name, const char *text)
{
	if (mkdir(at(f, layer, ""), 0755) < 0)
		assert_int_equal(errno, EEXIST);
	assert_int_equal(file_write(AT_FDCWD, at(f, layer, name), text, strlen(text), 0644), 0);
}

/* uid of "alice", or a negative error. */
static int look_up(struct fixture *f)
{
	struct user_ids u;
	struct ctx ctx = {.arena = f->arena, .ns = "", .lease = ""};
	int r = client_rootfs_user(NULL, &ctx, NULL, &f->list, "alice", &u, NULL);

	return r < 0 ? r : (int)u.uid;
}

static void topmost_file_counts(void **state)
{
	struct fixture *f = *state;

	if (geteuid() != 0)
		skip();
	put(f, "lower", "passwd", "alice:x:100:100::/:/bin/sh\n");
	assert_int_equal(look_up(f), 100);
	put(f, "middle", "group", "alice:x:5:\n");
	assert_int_equal(look_up(f), 100);
	put(f, "middle", "passwd", "alice:x:200:100::/:/bin/sh\n");
	assert_int_equal(look_up(f), 200);
	put(f, "upper", "passwd", "alice:x:300:100::/:/bin/sh\n");
	assert_int_equal(look_up(f), 300);
}

static void opaque_directory_hides_what_is_below(void **state)
{
	struct fixture *f = *state;

	if (geteuid() != 0)
		skip();
	put(f, "lower", "passwd", "alice:x:100:100::/:/bin/sh\n");
	put(f, "middle", "group", "");
	if (setxattr(at(f, "middle", ""), "trusted.overlay.opaque", "y", 1, 0) < 0)
		skip();
	assert_true(look_up(f) < 0);
}

/* These are left to a mount, which the test's environment may refuse: but never is the file from
 * below found. */
static void what_is_no_plain_file_is_not_passed_by(void **state)
{
	struct fixture *f = *state;

	if (geteuid() != 0)
		skip();
	put(f, "lower", "passwd", "alice:x:100:100::/:/bin/sh\n");
	put(f, "middle", "other", "alice:x:200:100::/:/bin/sh\n");
	assert_int_equal(symlink("other", at(f, "middle", "passwd")), 0);
	assert_int_not_equal(look_up(f), 100);
	assert_int_equal(unlink(at(f, "middle", "passwd")), 0);
	if (mknod(at(f, "middle", "passwd"), S_IFCHR, 0) < 0)
		skip();
	assert_true(look_up(f) < 0);
}

static void bind_mount_is_one_layer(void **state)
{
	struct fixture *f = *state;

	if (geteuid() != 0)
		skip();
	f->mount.type = (char *)"bind";
	f->mount.source = arena_printf(f->arena, "%s/lower", f->dir);
	put(f, "lower", "passwd", "alice:x:100:100::/:/bin/sh\n");
	assert_int_equal(look_up(f), 100);
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(topmost_file_counts),
		TEST(opaque_directory_hides_what_is_below),
		TEST(what_is_no_plain_file_is_not_passed_by),
		TEST(bind_mount_is_one_layer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
