/* SPDX-License-Identifier: Apache-2.0 */
/* The default AppArmor profile, on a host that a directory stands for: its parser is a script that
 * keeps what it was given. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "oci/apparmor.h"

struct fixture {
	struct arena *a;
	char dir[32];
	struct apparmor_host host;
	struct ctx ctx;
};

static const char *in(struct fixture *f, const char *name)
{
	return path_join(f->a, f->dir, name);
}

static void put(struct fixture *f, const char *name, const char *text, mode_t mode)
{
	const char *path = in(f, name);

	assert_int_equal(mkdir_p(path_dir(f->a, path), 0755), 0);
	assert_int_equal(file_write(AT_FDCWD, path, text, strlen(text), mode), 0);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->a = arena_new(0);
	strcpy(f->dir, "/tmp/apparmor.XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	f->ctx.arena = f->a;
	f->host = (struct apparmor_host){.parser = in(f, "parser"),
					 .etc = in(f, "etc"),
					 .profiles = in(f, "profiles"),
					 .enabled = in(f, "enabled"),
					 .current = in(f, "current")};
	put(f, "profiles", "docker-default (enforce)\nan odd name (complain)\nhalf\n", 0644);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	rm_rf(AT_FDCWD, f->dir);
	arena_free(f->a);
	free(f);
	return 0;
}

static const char *profile(struct fixture *f, const char *name)
{
	const char *text = NULL;

	assert_int_equal(apparmor_default_profile(f->a, &f->host, name, &text, NULL), 0);
	return text;
}

static void is_enabled_when_the_kernel_says_yes(void **state)
{
	struct fixture *f = *state;

	assert_false(apparmor_enabled(&f->host));
	put(f, "enabled", "N\n", 0644);
	assert_false(apparmor_enabled(&f->host));
	put(f, "enabled", "Y\n", 0644);
	assert_true(apparmor_enabled(&f->host));
}

static void finds_loaded_profiles_by_their_whole_name(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;

	assert_int_equal(apparmor_loaded(&f->host, "docker-default", NULL), 0);
	assert_int_equal(apparmor_loaded(&f->host, "an odd name", NULL), 0);
	assert_int_equal(apparmor_loaded(&f->host, "docker", &err), -ERR_NOT_FOUND);
	assert_string_equal(err.text, "apparmor profile not found docker: not found");
	assert_int_equal(apparmor_loaded(&f->host, "half", NULL), -ERR_NOT_FOUND);
}

static void a_host_without_the_list_has_no_apparmor(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;

	unlink(in(f, "profiles"));
	assert_int_equal(apparmor_loaded(&f->host, "x", NULL), -ERR_FAILED_PRECONDITION);
	assert_int_equal(apparmor_load_default(&f->ctx, &f->host, "x", &err),
			 -ERR_FAILED_PRECONDITION);
	assert_non_null(strstr(err.text, "apparmor is not enabled"));
}

static void profile_denies_mounts_and_confines_signals(void **state)
{
	struct fixture *f = *state;
	const char *text = profile(f, "mine");

	assert_non_null(strstr(text, "@{PROC}=/proc/\n"));
	assert_null(strstr(text, "#include"));
	assert_null(strstr(text, "abi <"));
	assert_non_null(
		strstr(text, "profile \"mine\" flags=(attach_disconnected,mediate_deleted) {"));
	assert_non_null(strstr(text, "\n  deny mount,\n"));
	assert_non_null(strstr(text, "\n  deny /sys/kernel/security/** rwklx,\n"));
	assert_non_null(strstr(text, "\n  signal (send,receive) peer=\"mine\",\n"));
	assert_non_null(strstr(text, "\n  signal (receive) peer=\"unconfined\",\n"));
	assert_non_null(strstr(text, "\n  ptrace (trace,tracedby,read,readby) peer=\"mine\",\n"));
}

static void profile_uses_what_the_host_has(void **state)
{
	struct fixture *f = *state;
	const char *text;

	put(f, "etc/abi/3.0", "", 0644);
	put(f, "etc/tunables/global", "", 0644);
	put(f, "etc/abstractions/base", "", 0644);
	put(f, "current", "/usr/bin/containerd (enforce)\n", 0644);
	text = profile(f, "mine");
	assert_true(str_has_prefix(text, "abi <abi/3.0>,\n#include <tunables/global>\n"));
	assert_null(strstr(text, "@{PROC}="));
	assert_non_null(strstr(text, "\n  #include <abstractions/base>\n"));
	assert_non_null(strstr(text, "\n  signal (receive) peer=\"/usr/bin/containerd\",\n"));
}

static void names_that_would_end_the_quotes_are_refused(void **state)
{
	struct fixture *f = *state;
	static const char *const names[] = {"", "a\"b", "a\nb", "a\\"};
	const char *text = NULL;

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		assert_int_equal(apparmor_default_profile(f->a, &f->host, names[i], &text, NULL),
				 -ERR_INVALID_ARGUMENT);
		assert_int_equal(apparmor_load_default(&f->ctx, &f->host, names[i], NULL),
				 -ERR_INVALID_ARGUMENT);
	}
	assert_null(text);
}

static void a_loaded_profile_is_left_as_it_is(void **state)
{
	struct fixture *f = *state;

	/* There is no parser to be run. */
	assert_int_equal(apparmor_load_default(&f->ctx, &f->host, "docker-default", NULL), 0);
}

static void parser_gets_the_profile(void **state)
{
	struct fixture *f = *state;
	char *text;
	size_t n;

	put(f, "parser",
	    arena_printf(f->a, "#!/bin/sh\n[ \"$*\" = -Kr ] || exit 2\nexec cat > %s/got\n",
			 f->dir),
	    0755);
	assert_int_equal(apparmor_load_default(&f->ctx, &f->host, "mine", NULL), 0);
	assert_int_equal(file_read(f->a, AT_FDCWD, in(f, "got"), 65536, &text, &n), 0);
	assert_string_equal(text, profile(f, "mine"));
}

static void a_parser_that_fails_is_told(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;

	put(f, "parser", "#!/bin/sh\ncat >/dev/null\necho bad rule >&2\nexit 3\n", 0755);
	assert_int_equal(apparmor_load_default(&f->ctx, &f->host, "mine", &err), -ERR_UNKNOWN);
	assert_non_null(strstr(err.text, "bad rule"));
	assert_non_null(strstr(err.text, "exit status 3"));
	unlink(in(f, "parser"));
	assert_int_equal(apparmor_load_default(&f->ctx, &f->host, "mine", &err), -ERR_NOT_FOUND);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(is_enabled_when_the_kernel_says_yes),
		T(finds_loaded_profiles_by_their_whole_name),
		T(a_host_without_the_list_has_no_apparmor),
		T(profile_denies_mounts_and_confines_signals),
		T(profile_uses_what_the_host_has),
		T(names_that_would_end_the_quotes_are_refused),
		T(a_loaded_profile_is_left_as_it_is),
		T(parser_gets_the_profile),
		T(a_parser_that_fails_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
