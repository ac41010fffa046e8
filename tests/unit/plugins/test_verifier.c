/* SPDX-License-Identifier: Apache-2.0 */
/* Programs that judge images. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "base/time.h"
#include "plugins/verifier/bindir.h"

#define DIGEST "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

struct fix {
	char dir[64], bin[96];
	struct arena *arena;
	struct ctx ctx;
	struct image_verifier *v;
	struct verdict verdict;
	struct err err;
};

static int setup(void **state)
{
	struct fix *f = calloc(1, sizeof(*f));
	assert_non_null(f);
	strcpy(f->dir, "/tmp/test-verifier-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->bin, sizeof(f->bin), "%s/bin", f->dir);
	f->arena = arena_new(0);
	f->ctx = (struct ctx){.arena = f->arena, .ns = "default", .lease = ""};
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fix *f = *state;
	f->v->ops->free(f->v);
	arena_free(f->arena);
	rm_rf(AT_FDCWD, f->dir);
	free(f);
	return 0;
}

static void program(struct fix *f, const char *name, const char *script)
{
	char path[256];
	char *text = arena_printf(f->arena, "#!/bin/sh\n%s\n", script);
	assert_int_equal(mkdir_p(f->bin, 0755), 0);
	snprintf(path, sizeof(path), "%s/%s", f->bin, name);
	assert_int_equal(file_write(AT_FDCWD, path, text, strlen(text), 0755), 0);
}

static int verify(struct fix *f, int64_t max, int64_t timeout)
{
	struct bindir_options o = {.dir = f->bin, .max = max, .timeout_ns = timeout};
	struct descriptor d = {.media_type = "application/vnd.oci.image.index.v1+json",
			       .digest = DIGEST,
			       .size = 42};
	if (f->v)
		f->v->ops->free(f->v);
	f->err = ERR_INIT;
	assert_int_equal(bindir_verifier_new(&o, &f->v, &f->err), 0);
	return f->v->ops->verify(&f->ctx, f->v, "docker.io/library/x:1", &d, &f->verdict, &f->err);
}

static void without_verifiers_all_passes(void **state)
{
	struct fix *f = *state;
	assert_int_equal(verify(f, 10, NSEC_PER_SEC), 0);
	assert_true(f->verdict.ok);
	assert_int_equal(mkdir(f->bin, 0755), 0);
	assert_int_equal(verify(f, 10, NSEC_PER_SEC), 0);
	assert_true(f->verdict.ok);
}

static void verifier_is_told_the_image_and_its_descriptor(void **state)
{
	struct fix *f = *state;
	char *text,
		*script = arena_printf(
			f->arena, "cat > %s/in; echo \"$@\" > %s/args; echo ' fine '; echo no >&2",
			f->dir, f->dir);
	program(f, "one", script);
	assert_int_equal(verify(f, 10, 60 * NSEC_PER_SEC), 0);
	assert_true(f->verdict.ok);
	assert_string_equal(f->verdict.reason, "one => fine");
	assert_int_equal(file_read(f->arena, AT_FDCWD, arena_printf(f->arena, "%s/args", f->dir),
				   4096, &text, NULL),
			 0);
	assert_string_equal(text, "-name docker.io/library/x:1 -digest " DIGEST
				  " -stdin-media-type application/vnd.oci.descriptor.v1+json\n");
	assert_int_equal(file_read(f->arena, AT_FDCWD, arena_printf(f->arena, "%s/in", f->dir),
				   4096, &text, NULL),
			 0);
	assert_string_equal(
		text,
		"{\"mediaType\":\"application/vnd.oci.image.index.v1+json\",\"digest\":\"" DIGEST
		"\",\"size\":42}");
}

static void first_refusal_ends_it(void **state)
{
	struct fix *f = *state;
	program(f, "1", "echo yes");
	program(f, "2", "echo bad image; exit 3");
	program(f, "3", arena_printf(f->arena, "touch %s/third", f->dir));
	assert_int_equal(verify(f, -1, 60 * NSEC_PER_SEC), 0);
	assert_false(f->verdict.ok);
	assert_string_equal(f->verdict.reason,
			    "verifier 2 rejected image (exit code 3): bad image");
	assert_int_not_equal(access(arena_printf(f->arena, "%s/third", f->dir), F_OK), 0);
}

static void all_must_agree_in_the_order_of_names(void **state)
{
	struct fix *f = *state;
	program(f, "b", "echo second");
	program(f, "a", "echo first");
	assert_int_equal(verify(f, 2, 60 * NSEC_PER_SEC), 0);
	assert_true(f->verdict.ok);
	assert_string_equal(f->verdict.reason, "a => first, b => second");
	assert_int_equal(verify(f, 1, 60 * NSEC_PER_SEC), 0);
	assert_string_equal(f->verdict.reason, "a => first");
	assert_int_equal(verify(f, -1, 60 * NSEC_PER_SEC), 0);
	assert_string_equal(f->verdict.reason, "a => first, b => second");
}

static void what_cannot_be_run_gives_no_verdict(void **state)
{
	struct fix *f = *state;
	program(f, "x", "exit 0");
	assert_int_equal(chmod(arena_printf(f->arena, "%s/x", f->bin), 0644), 0);
	assert_true(verify(f, 10, 60 * NSEC_PER_SEC) < 0);
	assert_true(str_has_prefix(f->err.text, "failed to call verifier x: "));
	/* No directory at all. */
	rm_rf(AT_FDCWD, f->bin);
	assert_int_equal(file_write(AT_FDCWD, f->bin, "", 0, 0644), 0);
	assert_true(verify(f, 10, 60 * NSEC_PER_SEC) < 0);
	assert_true(str_has_prefix(f->err.text, "failed to list directory contents"));
}

static void slow_verifier_is_killed_with_its_children(void **state)
{
	struct fix *f = *state;
	struct stat st;
	char *pid_file = arena_printf(f->arena, "%s/pid", f->dir), *text;
	program(f, "slow",
		arena_printf(f->arena, "sleep 1000 & echo $! > %s.new; mv %s.new %s; wait",
			     pid_file, pid_file, pid_file));
	int64_t began = time_mono();
	/* Longer on a machine that does not come to write the file, and much shorter than the
	 * sleep. */
	for (int64_t s = 3; s < 100 && stat(pid_file, &st) < 0; s *= 5)
		assert_int_equal(verify(f, 10, s * NSEC_PER_SEC), -ERR_DEADLINE_EXCEEDED);
	assert_true(time_mono() - began < 900 * NSEC_PER_SEC);
	assert_int_equal(file_read(f->arena, AT_FDCWD, pid_file, 64, &text, NULL), 0);
	char *proc = arena_printf(f->arena, "/proc/%ld/exe", atol(text));
	for (int i = 0; i < 60000 && stat(proc, &st) == 0; i++)
		usleep(1000);
	assert_int_not_equal(stat(proc, &st), 0);
}

static void much_output_is_cut_and_unread_input_does_no_harm(void **state)
{
	struct fix *f = *state;
	program(f, "loud", "exec 0<&-; head -c 1000000 /dev/zero | tr '\\0' x; exit 1");
	assert_int_equal(verify(f, 10, 60 * NSEC_PER_SEC), 0);
	assert_false(f->verdict.ok);
	assert_true(strlen(f->verdict.reason) < (33u << 10));
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	signal(SIGPIPE, SIG_IGN); /* as the daemon does */
	const struct CMUnitTest tests[] = {
		T(without_verifiers_all_passes),
		T(verifier_is_told_the_image_and_its_descriptor),
		T(first_refusal_ends_it),
		T(all_must_agree_in_the_order_of_names),
		T(what_cannot_be_run_gives_no_verdict),
		T(slow_verifier_is_killed_with_its_children),
		T(much_output_is_cut_and_unread_input_does_no_harm),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
