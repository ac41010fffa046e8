/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "base/time.h"
#include "core/hosts.h"

struct fix {
	char dir[64];
	struct ctx ctx;
	struct err err;
	struct hosts h;
};

static int setup(void **state)
{
	struct fix *f = calloc(1, sizeof(*f));
	assert_non_null(f);
	strcpy(f->dir, "/tmp/test-hosts-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	f->ctx = (struct ctx){.arena = arena_new(0), .ns = "", .lease = ""};
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fix *f = *state;
	rm_rf(AT_FDCWD, f->dir);
	arena_free(f->ctx.arena);
	free(f);
	return 0;
}

static char *in(struct fix *f, const char *name)
{
	return path_join(f->ctx.arena, f->dir, name);
}

static void put(struct fix *f, const char *name, const char *text)
{
	char *path = in(f, name);
	assert_int_equal(mkdir_p(path_dir(f->ctx.arena, path), 0755), 0);
	assert_int_equal(file_write(AT_FDCWD, path, text, strlen(text), 0644), 0);
}

#define assert_ok(call)                                         \
	do {                                                    \
		f->err = ERR_INIT;                              \
		if ((call) != 0)                                \
			fail_msg("%s: %s", #call, f->err.text); \
	} while (0)

static int load(struct fix *f, const char *path, const char *host, const char *scheme)
{
	f->err = ERR_INIT;
	return hosts_load(&f->ctx, path, host, scheme, &f->h, &f->err);
}

static int parse(struct fix *f, const char *text)
{
	f->err = ERR_INIT;
	return hosts_parse(f->ctx.arena, text, strlen(text), NULL, "reg.test", "", &f->h, &f->err);
}

/* ---- without configuration ---- */

static void unconfigured_host_is_itself(void **state)
{
	struct fix *f = *state;
	static const struct {
		const char *name, *scheme, *want_host, *want_scheme;
		bool skip_verify;
	} t[] = {
		{"docker.io", "", "registry-1.docker.io", "https", false},
		{"reg.test", "", "reg.test", "https", false},
		{"reg.test:5000", "", "reg.test:5000", "https", false},
		{"reg.test", "http", "reg.test", "http", false},
		{"10.0.0.1:5000", "", "10.0.0.1:5000", "https", false},
		{"localhost", "", "localhost", "https", true},
		{"localhost:443", "", "localhost:443", "https", true},
		{"localhost:5000", "", "localhost:5000", "http", true},
		{"localhost:80", "", "localhost:80", "http", false},
		{"localhost:5000", "https", "localhost:5000", "https", true},
		{"127.0.0.1:5000", "", "127.0.0.1:5000", "http", true},
		{"127.9.9.9:5000", "", "127.9.9.9:5000", "http", true},
		{"[::1]:5000", "", "[::1]:5000", "http", true},
		{"[::1]", "", "[::1]", "https", true},
		/* Names that only begin like a loopback's */
		{"127.evil.test:5000", "", "127.evil.test:5000", "https", false},
		{"127.0.0.1.nip.test:5000", "", "127.0.0.1.nip.test:5000", "https", false},
		{"localhost.test:5000", "", "localhost.test:5000", "https", false},
		{"[2001:db8::1]:5000", "", "[2001:db8::1]:5000", "https", false},
	};
	for (size_t i = 0; i < ARRAY_LEN(t); i++) {
		assert_ok(load(f, i % 2 ? "" : in(f, "none"), t[i].name, t[i].scheme));
		assert_int_equal(f->h.n, 1);
		const struct fetch_host *h = &f->h.v[0];
		if (!streq(h->host, t[i].want_host) || !streq(h->scheme, t[i].want_scheme) ||
		    h->skip_verify != t[i].skip_verify)
			fail_msg("%s: %s://%s %d", t[i].name, h->scheme, h->host, h->skip_verify);
		assert_string_equal(h->path, "/v2");
		assert_int_equal(h->capabilities,
				 FETCH_PULL | FETCH_RESOLVE | FETCH_PUSH | FETCH_REFERRERS);
	}
}

/* ---- directories ---- */

static const char *mirror_of(struct fix *f, const char *path, const char *host)
{
	assert_ok(load(f, path, host, ""));
	return f->h.n > 1 ? f->h.v[0].host : "none";
}

static void first_directory_that_exists_counts(void **state)
{
	struct fix *f = *state;
	char *one = in(f, "one"), *two = in(f, "two");
	char *both = arena_printf(f->ctx.arena, "%s:%s", one, two);
	put(f, "one/_default/hosts.toml", "[host.\"https://default\"]");
	assert_string_equal(mirror_of(f, one, "reg.test:5000"), "default");
	put(f, "one/reg.test:5000/hosts.toml", "[host.\"https://colon\"]");
	assert_string_equal(mirror_of(f, one, "reg.test:5000"), "colon");
	put(f, "one/reg.test_5000_/hosts.toml", "[host.\"https://underscore\"]");
	assert_string_equal(mirror_of(f, one, "reg.test:5000"), "underscore");
	assert_string_equal(mirror_of(f, one, "reg.test"), "default");
	put(f, "one/reg.test/hosts.toml", "[host.\"https://plain\"]");
	assert_string_equal(mirror_of(f, one, "reg.test"), "plain");
	assert_string_equal(mirror_of(f, one, "other.test"), "default");
	/* The first root with any of them, even if the second has a better one. */
	put(f, "two/other.test/hosts.toml", "[host.\"https://second\"]");
	assert_string_equal(mirror_of(f, both, "other.test"), "default");
	assert_string_equal(
		mirror_of(f, arena_printf(f->ctx.arena, "::%s/missing:%s", one, two), "other.test"),
		"second");
	assert_string_equal(mirror_of(f, two, "third.test"), "none");
}

static void names_do_not_lead_out_of_the_directories(void **state)
{
	struct fix *f = *state;
	put(f, "certs/x", "");
	put(f, "secret/hosts.toml", "[host.\"https://evil\"]");
	static const char *const bad[] = {"..", ".", "../secret", "a/b"};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(load(f, in(f, "certs"), bad[i], ""), -ERR_INVALID_ARGUMENT);
}

/* ---- fields ---- */

static void all_fields_are_taken(void **state)
{
	struct fix *f = *state;
	put(f, "reg.test/ca1.pem", "CA1");
	put(f, "reg.test/sub/ca2.pem", "CA2");
	put(f, "reg.test/c.pem", "CERT");
	put(f, "reg.test/k.pem", "KEY");
	put(f, "abs.pem", "ABS");
	put(f, "reg.test/hosts.toml",
	    arena_printf(f->ctx.arena,
			 "server = \"https://upstream.test/base\"\n"
			 "capabilities = [\"push\"]\n"
			 "ca = \"ca1.pem\"\n"
			 "[host.\"http://mirror.test:5000\"]\n"
			 "  capabilities = [\"pull\", \"resolve\"]\n"
			 "  ca = [\"ca1.pem\", \"sub/ca2.pem\", \"%s\"]\n"
			 "  client = [[\"c.pem\", \"k.pem\"], \"c.pem\", [\"c.pem\", \"\"]]\n"
			 "  skip_verify = true\n"
			 "  dial_timeout = \"1m2s\"\n"
			 "  [host.\"http://mirror.test:5000\".header]\n"
			 "    x-one = \"1\"\n"
			 "    x-two = [\"2\", \"3\"]\n"
			 "[host.\"second.test/v2\"]\n"
			 "[host.\"https://third.test/proxy/\"]\n"
			 "[host.\"https://fourth.test/deep/er\"]\n"
			 "  override_path = true\n"
			 "  client = \"c.pem\"\n",
			 in(f, "abs.pem")));
	assert_ok(load(f, f->dir, "reg.test", ""));
	assert_int_equal(f->h.n, 5);
	const struct fetch_host *h = &f->h.v[0];
	assert_string_equal(h->scheme, "http");
	assert_string_equal(h->host, "mirror.test:5000");
	assert_string_equal(h->path, "/v2");
	assert_int_equal(h->capabilities, FETCH_PULL | FETCH_RESOLVE);
	assert_int_equal(h->n_ca, 3);
	assert_string_equal(h->ca_pem[0], "CA1");
	assert_string_equal(h->ca_pem[1], "CA2");
	assert_string_equal(h->ca_pem[2], "ABS");
	assert_int_equal(h->n_certs, 3);
	assert_string_equal(h->certs[0].cert_pem, "CERT");
	assert_string_equal(h->certs[0].key_pem, "KEY");
	assert_null(h->certs[1].key_pem);
	assert_null(h->certs[2].key_pem);
	assert_true(h->skip_verify);
	assert_true(h->dial_timeout_ns == 62 * NSEC_PER_SEC);
	assert_int_equal(h->n_headers, 3);
	assert_string_equal(h->headers[0].key, "x-one");
	assert_string_equal(h->headers[2].key, "x-two");
	assert_string_equal(h->headers[2].value, "3");
	h++;
	assert_string_equal(h->scheme, "https");
	assert_string_equal(h->host, "second.test");
	assert_string_equal(h->path, "/v2"); /* not twice */
	assert_int_equal(h->capabilities,
			 FETCH_PULL | FETCH_RESOLVE | FETCH_PUSH | FETCH_REFERRERS);
	assert_false(h->skip_verify);
	h++;
	assert_string_equal(h->path, "/proxy/v2");
	h++;
	assert_string_equal(h->path, "/deep/er");
	assert_int_equal(h->n_certs, 1);
	h++; /* the registry itself comes last */
	assert_string_equal(h->host, "upstream.test");
	assert_string_equal(h->path, "/base/v2");
	assert_int_equal(h->capabilities, FETCH_PUSH);
	assert_int_equal(h->n_ca, 1);
}

static void server_left_out_is_the_host_of_the_name(void **state)
{
	struct fix *f = *state;
	put(f, "docker.io/hosts.toml", "server = \"\"\nskip_verify = true\n[host.\"https://m\"]\n");
	assert_ok(load(f, f->dir, "docker.io", ""));
	assert_int_equal(f->h.n, 2);
	assert_string_equal(f->h.v[1].host, "registry-1.docker.io");
	assert_string_equal(f->h.v[1].path, "/v2");
	assert_true(f->h.v[1].skip_verify);
	put(f, "localhost_5000_/hosts.toml", "");
	assert_ok(load(f, f->dir, "localhost:5000", ""));
	assert_int_equal(f->h.n, 1);
	assert_string_equal(f->h.v[0].scheme, "http");
}

static void no_capability_named_is_all(void **state)
{
	struct fix *f = *state;
	assert_ok(parse(f, "[host.\"https://m\"]\ncapabilities = []\n"));
	assert_int_equal(f->h.v[0].capabilities,
			 FETCH_PULL | FETCH_RESOLVE | FETCH_PUSH | FETCH_REFERRERS);
}

/* ---- errors ---- */

static void errors_name_line_and_key(void **state)
{
	struct fix *f = *state;
	static const struct {
		const char *text, *why;
	} t[] = {
		{"server = 7", "line 1: server must be a string"},
		{"host = 7", "line 1: host must be a table"},
		{"\n[host]\n\"https://m\" = 7", "line 3: https://m must be a table, not integer"},
		{"[host.\"https://m\"]\nca = 7",
		 "line 2: ca must be a string or an array of strings, not integer"},
		{"[host.\"https://m\"]\nca = [\"x\", 7]",
		 "line 2: ca must be a string or an array of strings"},
		{"[host.\"https://m\"]\nclient = 7", "line 2: client must be a string, or an array "
						     "of strings or [certificate, key] pairs"},
		{"[host.\"https://m\"]\nclient = [[]]", "line 2: client must be"},
		{"[host.\"https://m\"]\nclient = [[\"a\",\"b\",\"c\"]]", "line 2: client must be"},
		{"[host.\"https://m\"]\nclient = [[\"a\",7]]", "line 2: client must be"},
		{"[host.\"https://m\"]\nskip_verify = \"yes\"",
		 "line 2: skip_verify must be true or false, not string"},
		{"[host.\"https://m\"]\noverride_path = 1",
		 "line 2: override_path must be true or false"},
		{"[host.\"https://m\"]\nheader = \"x\"", "line 2: header must be a table"},
		{"[host.\"https://m\".header]\nx = 7",
		 "line 2: x must be a string or an array of strings"},
		{"[host.\"https://m\"]\ndial_timeout = 5", "line 2: dial_timeout must be a string"},
		{"[host.\"https://m\"]\ndial_timeout = \"soon\"",
		 "line 2: invalid duration \"soon\""},
		{"[host.\"https://m\"]\ndial_timeout = \"-1s\"",
		 "line 2: invalid duration \"-1s\""},
		{"capabilities = [\"fly\"]", "line 1: unknown capability \"fly\""},
		{"[host.\"https://m\"]\nserver = \"x\"", "line 2: unknown key server"},
		{"nonsense = 1", "line 1: unknown key nonsense"},
		{"[host.\"ftp://m\"]", "host \"ftp://m\": unsupported scheme"},
		{"[host.\"https://\"]", "host \"https://\": no valid host name"},
		{"[host.\"\"]", "no valid host name"},
		{"[host.\"https://user@m/x\"]", "no valid host name"},
		{"[host.\"https://m?x=y\"]", "no valid host name"},
		{"server = \"https://a b\"", "no valid host name"},
		{"server = ", "line 1"},
	};
	for (size_t i = 0; i < ARRAY_LEN(t); i++)
		if (parse(f, t[i].text) != -ERR_INVALID_ARGUMENT || !strstr(f->err.text, t[i].why))
			fail_msg("%s: %s", t[i].text, f->err.text);
}

static void error_in_a_file_names_the_file(void **state)
{
	struct fix *f = *state;
	put(f, "reg.test/hosts.toml", "[host.\"https://m\"]\nca = \"missing.pem\"\n");
	assert_int_equal(load(f, f->dir, "reg.test", ""), -ERR_NOT_FOUND);
	assert_true(str_has_prefix(f->err.text, in(f, "reg.test/hosts.toml")));
	assert_non_null(strstr(f->err.text, in(f, "reg.test/missing.pem")));
	put(f, "reg.test/hosts.toml", "x = [");
	assert_int_equal(load(f, f->dir, "reg.test", ""), -ERR_INVALID_ARGUMENT);
	assert_true(str_has_prefix(f->err.text, in(f, "reg.test/hosts.toml")));
	assert_int_equal(rm_rf(AT_FDCWD, in(f, "reg.test/hosts.toml")), 0);
	assert_int_equal(mkdir_p(in(f, "reg.test/hosts.toml"), 0755), 0);
	assert_true(load(f, f->dir, "reg.test", "") < 0);
}

static void hosts_are_limited(void **state)
{
	struct fix *f = *state;
	_cleanup_buf_ struct buf b = BUF_INIT;
	for (int i = 0; i < 65; i++) {
		if (i == 64)
			assert_ok(parse(f, b.data));
		buf_printf(&b, "[host.\"https://m%d\"]\n", i);
	}
	assert_int_equal(f->h.n, 65); /* and the registry itself */
	assert_string_equal(f->h.v[63].host, "m63");
	assert_int_equal(parse(f, b.data), -ERR_INVALID_ARGUMENT);
}

/* ---- without hosts.toml ---- */

static void certificates_in_the_directory_are_used(void **state)
{
	struct fix *f = *state;
	put(f, "reg.test/a.crt", "CA");
	put(f, "reg.test/c.cert", "CERT");
	put(f, "reg.test/c.key", "KEY");
	put(f, "reg.test/other.txt", "x");
	assert_ok(load(f, f->dir, "reg.test", ""));
	assert_int_equal(f->h.n, 1);
	assert_int_equal(f->h.v[0].n_ca, 1);
	assert_string_equal(f->h.v[0].ca_pem[0], "CA");
	assert_int_equal(f->h.v[0].n_certs, 1);
	assert_string_equal(f->h.v[0].certs[0].cert_pem, "CERT");
	assert_string_equal(f->h.v[0].certs[0].key_pem, "KEY");
	put(f, "reg.test/lonely.cert", "x");
	assert_int_equal(load(f, f->dir, "reg.test", ""), -ERR_NOT_FOUND);
	assert_non_null(strstr(f->err.text, "lonely.key"));
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(unconfigured_host_is_itself),
		T(first_directory_that_exists_counts),
		T(names_do_not_lead_out_of_the_directories),
		T(all_fields_are_taken),
		T(server_left_out_is_the_host_of_the_name),
		T(no_capability_named_is_all),
		T(errors_name_line_and_key),
		T(error_in_a_file_names_the_file),
		T(hosts_are_limited),
		T(certificates_in_the_directory_are_used),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
