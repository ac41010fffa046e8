/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "ctr/docker_auth.h"

#include <fcntl.h>

static int setup(void **state)
{
	*state = arena_new(0);
	return *state ? 0 : -1;
}

static int teardown(void **state)
{
	arena_free(*state);
	return 0;
}

static int find(struct arena *a, const char *text, const char *host, struct client_auth *ret)
{
	struct err err = ERR_INIT;

	return docker_auth_find(a, text, strlen(text), host, "", ret, &err);
}

/* "bob:sec:ret" */
#define AUTH "Ym9iOnNlYzpyZXQ="

static void user_and_password_are_decoded(void **state)
{
	struct client_auth auth;

	assert_int_equal(find(*state, "{\"auths\":{\"reg:5000\":{\"auth\":\"" AUTH "\"}}}",
			      "reg:5000", &auth),
			 0);
	assert_string_equal(auth.username, "bob");
	assert_string_equal(auth.secret, "sec:ret");
	assert_false(auth.token);
}

static void entry_is_found_by_host_whatever_its_url(void **state)
{
	static const struct {
		const char *entry, *host;
		bool found;
	} cases[] = {
		{"https://reg/v2/", "reg", true},
		{"http://reg", "reg", true},
		{"reg", "reg:5000", false},
		{"reg:5000", "reg", false},
		{"https://index.docker.io/v1/", "docker.io", true},
		{"https://index.docker.io/v1/", "registry-1.docker.io", true},
		{"docker.io", "registry-1.docker.io", true},
		{"registry.example.org", "example.org", false},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char *text = arena_printf(*state, "{\"auths\":{\"%s\":{\"auth\":\"" AUTH "\"}}}",
					  cases[i].entry);
		struct client_auth auth;

		assert_int_equal(find(*state, text, cases[i].host, &auth),
				 cases[i].found ? 0 : -ERR_NOT_FOUND);
	}
}

static void identity_token_comes_before_the_password(void **state)
{
	struct client_auth auth;

	assert_int_equal(find(*state,
			      "{\"auths\":{\"reg\":{\"auth\":\"" AUTH
			      "\",\"identitytoken\":\"tok\"}}}",
			      "reg", &auth),
			 0);
	assert_true(auth.token);
	assert_string_equal(auth.username, "");
	assert_string_equal(auth.secret, "tok");
}

static void plain_user_and_password_are_taken(void **state)
{
	struct client_auth auth;

	assert_int_equal(find(*state,
			      "{\"auths\":{\"reg\":{\"username\":\"u\",\"password\":\"p\"}}}",
			      "reg", &auth),
			 0);
	assert_string_equal(auth.username, "u");
	assert_string_equal(auth.secret, "p");
}

static void entries_that_cannot_be_read_are_errors(void **state)
{
	static const struct {
		const char *text;
		int result;
	} cases[] = {
		{"{", -ERR_INVALID_ARGUMENT},
		{"{\"auths\":{\"reg\":{\"auth\":\"!!\"}}}", -ERR_INVALID_ARGUMENT},
		{"{\"auths\":{\"reg\":{\"auth\":\"Ym9i\"}}}", -ERR_INVALID_ARGUMENT}, /* no colon */
		{"{\"auths\":{\"reg\":{\"auth\":\"AAAA\"}}}", -ERR_INVALID_ARGUMENT}, /* NUL */
		{"{\"auths\":{\"reg\":{\"auth\":\"Ym9iOg=x\"}}}", -ERR_INVALID_ARGUMENT},
		{"{\"auths\":{\"reg\":{}}}", -ERR_NOT_FOUND},
		{"{\"auths\":{\"reg\":7}}", -ERR_NOT_FOUND},
		{"{\"auths\":[]}", -ERR_NOT_FOUND},
		{"[]", -ERR_NOT_FOUND},
		{"{\"credsStore\":7}", -ERR_NOT_FOUND},
		{"{\"credsStore\":\"../x\"}", -ERR_INVALID_ARGUMENT},
		{"{\"credsStore\":\"that-is-not-there\"}", -ERR_NOT_FOUND},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct client_auth auth;

		assert_int_equal(find(*state, cases[i].text, "reg", &auth), cases[i].result);
	}
}

static void file_is_found_by_environment_or_home(void **state)
{
	static const char text[] = "{\"auths\":{\"reg\":{\"auth\":\"" AUTH "\"}}}";
	char dir[] = "/tmp/test-docker-auth-XXXXXX";
	struct err err = ERR_INIT;
	struct client_auth auth;

	assert_non_null(mkdtemp(dir));
	assert_int_equal(mkdir_p(path_join(*state, dir, ".docker"), 0700), 0);
	unsetenv("DOCKER_CONFIG");
	setenv("HOME", dir, 1);
	assert_int_equal(docker_auth_load(*state, "reg", "", &auth, &err), -ERR_NOT_FOUND);
	assert_int_equal(file_write(AT_FDCWD, path_join(*state, dir, ".docker/config.json"), text,
				    strlen(text), 0600),
			 0);
	assert_int_equal(docker_auth_load(*state, "reg", "", &auth, &err), 0);
	setenv("DOCKER_CONFIG", dir, 1);
	assert_int_equal(docker_auth_load(*state, "reg", "", &auth, &err), -ERR_NOT_FOUND);
	assert_int_equal(file_write(AT_FDCWD, path_join(*state, dir, "config.json"), text,
				    strlen(text), 0600),
			 0);
	assert_int_equal(docker_auth_load(*state, "reg", "", &auth, &err), 0);
	assert_string_equal(auth.username, "bob");
	assert_int_equal(rm_rf(AT_FDCWD, dir), 0);
}

static void longest_repository_wins(void **state)
{
	/* "bob:sec:ret", "a:1", "b:2" */
	static const char text[] = "{\"auths\":{\"reg\":{\"auth\":\"" AUTH "\"},"
				   "\"reg/team\":{\"auth\":\"YTox\"},"
				   "\"reg/team/app\":{\"auth\":\"Yjoy\"}}}";
	static const struct {
		const char *repository, *user;
	} cases[] = {
		{"team/app", "b"}, {"team/app/x", "b"},	 {"team/apple", "a"},
		{"team", "a"},	   {"teams/app", "bob"}, {"", "bob"},
	};
	struct client_auth auth;
	struct err err = ERR_INIT;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		assert_int_equal(docker_auth_find(*state, text, strlen(text), "reg",
						  cases[i].repository, &auth, &err),
				 0);
		assert_string_equal(auth.username, cases[i].user);
	}
}

static void helpers_are_asked_before_the_entries(void **state)
{
	static const char program[] =
		"#!/bin/sh\n"
		"read -r server\n"
		"case $1-$server in\n"
		"get-reg) echo '{\"Username\":\"h\",\"Secret\":\"s\"}' ;;\n"
		"get-https://index.docker.io/v1/) echo "
		"'{\"Username\":\"<token>\",\"Secret\":\"tok\"}' ;;\n"
		"get-broken) exit 3 ;;\n"
		"*) echo credentials not found in native keychain; exit 1 ;;\n"
		"esac\n";
	static const char text[] =
		"{\"credsStore\":\"none\",\"credHelpers\":{\"reg\":\"one\","
		"\"docker.io\":\"one\",\"broken\":\"one\",\"other\":\"one\"},"
		"\"auths\":{\"reg\":{\"auth\":\"" AUTH "\"},\"other\":{\"auth\":\"" AUTH "\"}}}";
	char dir[] = "/tmp/test-docker-auth-XXXXXX";
	const char *path = getenv("PATH");
	struct client_auth auth;

	assert_non_null(mkdtemp(dir));
	assert_int_equal(file_write(AT_FDCWD, path_join(*state, dir, "docker-credential-one"),
				    program, strlen(program), 0755),
			 0);
	setenv("PATH", arena_printf(*state, "%s:%s", dir, path), 1);
	assert_int_equal(find(*state, text, "reg", &auth), 0);
	assert_string_equal(auth.username, "h");
	assert_string_equal(auth.secret, "s");
	assert_int_equal(find(*state, text, "registry-1.docker.io", &auth), 0);
	assert_true(auth.token);
	assert_string_equal(auth.secret, "tok");
	/* It does not know that one: the file does. */
	assert_int_equal(find(*state, text, "other", &auth), 0);
	assert_string_equal(auth.username, "bob");
	assert_int_equal(find(*state, text, "broken", &auth), -ERR_INVALID_ARGUMENT);
	setenv("PATH", path, 1);
	assert_int_equal(rm_rf(AT_FDCWD, dir), 0);
}

static void file_of_podman_is_found(void **state)
{
	static const char text[] = "{\"auths\":{\"reg\":{\"auth\":\"" AUTH "\"}}}";
	char dir[] = "/tmp/test-docker-auth-XXXXXX";
	struct err err = ERR_INIT;
	struct client_auth auth;
	char *file;

	assert_non_null(mkdtemp(dir));
	file = path_join(*state, dir, "containers/auth.json");
	assert_int_equal(mkdir_p(path_join(*state, dir, "containers"), 0700), 0);
	assert_int_equal(file_write(AT_FDCWD, file, text, strlen(text), 0600), 0);
	unsetenv("DOCKER_CONFIG");
	setenv("HOME", dir, 1);
	setenv("XDG_RUNTIME_DIR", dir, 1);
	assert_int_equal(docker_auth_load(*state, "reg", "", &auth, &err), 0);
	unsetenv("XDG_RUNTIME_DIR");
	assert_int_equal(docker_auth_load(*state, "reg", "", &auth, &err), -ERR_NOT_FOUND);
	setenv("REGISTRY_AUTH_FILE", file, 1);
	assert_int_equal(docker_auth_load(*state, "reg", "", &auth, &err), 0);
	assert_string_equal(auth.username, "bob");
	unsetenv("REGISTRY_AUTH_FILE");
	assert_int_equal(rm_rf(AT_FDCWD, dir), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(user_and_password_are_decoded, setup, teardown),
		cmocka_unit_test_setup_teardown(entry_is_found_by_host_whatever_its_url, setup,
						teardown),
		cmocka_unit_test_setup_teardown(identity_token_comes_before_the_password, setup,
						teardown),
		cmocka_unit_test_setup_teardown(plain_user_and_password_are_taken, setup, teardown),
		cmocka_unit_test_setup_teardown(entries_that_cannot_be_read_are_errors, setup,
						teardown),
		cmocka_unit_test_setup_teardown(file_is_found_by_environment_or_home, setup,
						teardown),
		cmocka_unit_test_setup_teardown(longest_repository_wins, setup, teardown),
		cmocka_unit_test_setup_teardown(helpers_are_asked_before_the_entries, setup,
						teardown),
		cmocka_unit_test_setup_teardown(file_of_podman_is_found, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
