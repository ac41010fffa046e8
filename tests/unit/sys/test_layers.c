/* SPDX-License-Identifier: Apache-2.0 */
/* Which mounts can be looked into without mounting them; what is found there is tested with the
 * users of containers (client/test_rootfs.c). */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/fd.h"
#include "base/path.h"
#include "sys/layers.h"

struct fixture {
	struct arena *a;
	char dir[64];
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	char *etc;

	assert_non_null(f);
	strcpy(f->dir, "/tmp/test_layers.XXXXXX");
	f->a = arena_new(0);
	assert_non_null(mkdtemp(f->dir));
	etc = arena_printf(f->a, "%s/etc", f->dir);
	assert_int_equal(mkdir(etc, 0755), 0);
	*state = f;
	return file_write(AT_FDCWD, arena_printf(f->a, "%s/passwd", etc), "text", 4, 0644);
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	int r = rm_rf(AT_FDCWD, f->dir);

	arena_free(f->a);
	free(f);
	return r;
}

static int look(struct fixture *f, const char *type, const char *target, char *option, char **ret)
{
	char *options[] = {option};
	struct mount_spec m = {.type = type,
			       .source = f->dir,
			       .target = target,
			       .options = options,
			       .n_options = 1};

	return layers_file_read(f->a, &m, "etc", "passwd", 100, ret);
}

static void a_bind_is_looked_into(void **state)
{
	struct fixture *f = *state;
	char *text;

	assert_int_equal(look(f, "bind", "", (char *)"ro", &text), 0);
	assert_string_equal(text, "text");
	assert_int_equal(look(f, "bind", NULL, (char *)"ro", &text), 0);
}

static void an_overlay_is_looked_into(void **state)
{
	struct fixture *f = *state;
	char *text;

	assert_int_equal(look(f, "overlay", "",
			      arena_printf(f->a, "lowerdir=%s/etc:%s", f->dir, f->dir), &text),
			 0);
	assert_string_equal(text, "text");
	assert_int_equal(
		look(f, "overlay", "", arena_printf(f->a, "lowerdir=%s/etc", f->dir), &text), 0);
	assert_string_equal(text, "");
}

static void what_only_a_mount_can_tell_is_refused(void **state)
{
	struct fixture *f = *state;
	char *text = NULL;

	assert_int_equal(look(f, "erofs", "", (char *)"ro", &text), -EAGAIN);
	assert_int_equal(look(f, "bind", "/below", (char *)"ro", &text), -EAGAIN);
	assert_int_equal(look(f, "overlay", "", (char *)"ro", &text), -EAGAIN);
	assert_int_equal(look(f, "overlay", "", (char *)"lowerdir=relative", &text), -EAGAIN);
	assert_int_equal(
		look(f, "overlay", "", arena_printf(f->a, "lowerdir=%s\\:x", f->dir), &text),
		-EAGAIN);
	assert_int_equal(look(f, "overlay", "",
			      arena_printf(f->a, "lowerdir=%s/absent:%s", f->dir, f->dir), &text),
			 -EAGAIN);
	assert_null(text);
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_bind_is_looked_into),
		TEST(an_overlay_is_looked_into),
		TEST(what_only_a_mount_can_tell_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
