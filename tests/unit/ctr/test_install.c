/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "ctr/install.h"

static char top[] = "/tmp/install-XXXXXX";
static char to[64];

static const char *in(const char *path)
{
	static char out[4][200];
	static int i;

	i = (i + 1) % 4;
	snprintf(out[i], sizeof(out[i]), "%s/%s", top, path);
	return out[i];
}

static void put(const char *path, const char *text, mode_t mode)
{
	assert_int_equal(file_write(AT_FDCWD, in(path), text, strlen(text), mode), 0);
	assert_int_equal(chmod(in(path), mode), 0);
}

static int setup(void **state)
{
	if (!mkdtemp(top))
		return -1;
	snprintf(to, sizeof(to), "%s/to", top);
	mkdir(in("root"), 0755);
	mkdir(in("root/bin"), 0755);
	mkdir(in("root/lib"), 0755);
	return 0;
}

static int teardown(void **state)
{
	rm_rf(AT_FDCWD, top);
	memcpy(top + strlen(top) - 6, "XXXXXX", 6);
	return 0;
}

static int install(bool libs, bool replace, struct err *err)
{
	struct install i = {.to = to, .libs = libs, .replace = replace};
	int root _cleanup_close_ = open(in("root"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return install_tree(&i, root, err);
}

static void has(const char *path, const char *text)
{
	struct arena *a _cleanup_arena_ = arena_new(0);
	size_t len;
	char *got;

	assert_int_equal(file_read(a, AT_FDCWD, in(path), 1000, &got, &len), 0);
	assert_string_equal(got, text);
}

static void programs_are_copied_without_set_id_bits(void **state)
{
	struct err err = ERR_INIT;
	struct stat st;

	put("root/bin/tool", "program", 04777);
	put("root/lib/libx.so.1", "library", 0644);
	assert_int_equal(symlink("libx.so.1", in("root/lib/libx.so")), 0);
	assert_int_equal(install(false, false, &err), 0);
	has("to/bin/tool", "program");
	assert_int_equal(stat(in("to/bin/tool"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0755);
	assert_int_equal(access(in("to/lib"), F_OK), -1);
	assert_int_equal(install(true, true, &err), 0);
	has("to/lib/libx.so", "library");
}

static void what_is_there_is_replaced_only_when_asked(void **state)
{
	struct err err = ERR_INIT;

	put("root/bin/tool", "one", 0755);
	assert_int_equal(install(false, false, &err), 0);
	put("root/bin/tool", "two", 0755);
	assert_int_equal(install(false, false, &err), -ERR_ALREADY_EXISTS);
	has("to/bin/tool", "one");
	assert_int_equal(install(false, true, &err), 0);
	has("to/bin/tool", "two");
	assert_int_equal(access(in("to/bin/.ctr-install"), F_OK), -1);
}

static void links_of_the_image_stay_in_the_image(void **state)
{
	struct err err = ERR_INIT;

	assert_int_equal(rmdir(in("root/bin")), 0);
	assert_int_equal(symlink("/usr/bin", in("root/bin")), 0);
	mkdir(in("root/usr"), 0755);
	mkdir(in("root/usr/bin"), 0755);
	put("root/usr/bin/only-mine", "x", 0755);
	assert_int_equal(install(false, false, &err), 0);
	has("to/bin/only-mine", "x");
	assert_int_equal(access(in("to/bin/ls"), F_OK), -1);
}

static void links_that_lead_elsewhere_are_refused(void **state)
{
	static const char *const targets[] = {"/etc/passwd", "../../x", "..", "sub/x"};

	for (size_t i = 0; i < ARRAY_LEN(targets); i++) {
		struct err err = ERR_INIT;

		unlink(in("root/bin/evil"));
		assert_int_equal(symlink(targets[i], in("root/bin/evil")), 0);
		assert_int_equal(install(false, true, &err), -ERR_INVALID_ARGUMENT);
	}
}

static void nothing_is_written_through_links_of_the_host(void **state)
{
	struct err err = ERR_INIT;

	put("victim", "mine", 0644);
	put("root/bin/tool", "theirs", 0755);
	mkdir(to, 0755);
	mkdir(in("to/bin"), 0755);
	assert_int_equal(symlink(in("victim"), in("to/bin/tool")), 0);
	assert_int_equal(symlink(in("victim"), in("to/bin/.ctr-install")), 0);
	assert_int_equal(install(false, true, &err), 0);
	has("victim", "mine");
	has("to/bin/tool", "theirs");
}

static void an_image_without_programs_is_an_error(void **state)
{
	struct err err = ERR_INIT;

	assert_int_equal(install(true, false, &err), -ERR_NOT_FOUND);
	assert_int_equal(mkfifo(in("root/bin/fifo"), 0600), 0);
	assert_int_equal(install(false, false, &err), -ERR_INVALID_ARGUMENT);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(programs_are_copied_without_set_id_bits),
		TEST(what_is_there_is_replaced_only_when_asked),
		TEST(links_of_the_image_stay_in_the_image),
		TEST(links_that_lead_elsewhere_are_refused),
		TEST(nothing_is_written_through_links_of_the_host),
		TEST(an_image_without_programs_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
