/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/str.h"
#include "base/toml.h"

static struct arena *arena;

static int setup(void **state)
{
	(void)state;
	arena = arena_new(0);
	return arena ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	arena_free(arena);
	return 0;
}

static struct toml_value *parse_bytes(const char *p, size_t n)
{
	struct toml_value *v = NULL;
	struct err err = ERR_INIT;

	if (toml_parse(arena, p, n, &v, &err) < 0) {
		print_error("%s\n", err.text);
		fail();
	}
	return v;
}

static struct toml_value *parse(const char *text)
{
	return parse_bytes(text, strlen(text));
}

static void assert_fails(const char *text, const char *message)
{
	struct toml_value *v = (void *)&arena;
	struct err err = ERR_INIT;

	assert_int_equal(toml_parse(arena, text, strlen(text), &v, &err), -ERR_INVALID_ARGUMENT);
	assert_ptr_equal(v, (void *)&arena);
	if (!str_has_prefix(err.text, message)) {
		print_error("got: %s\nnot: %s\n", err.text, message);
		fail();
	}
}

static const char *string_of(const char *text)
{
	const struct toml_value *v = toml_get(parse(text), "k");

	assert_non_null(v);
	assert_int_equal(v->type, TOML_STRING);
	assert_int_equal(v->string.len, strlen(v->string.s));
	return v->string.s;
}

static void strings_of_all_kinds_keep_their_content(void **state)
{
	const struct toml_value *v;

	(void)state;
	assert_string_equal(string_of("k = \"a\\tb\\\"\\u00e9\\U0001F600\""),
			    "a\tb\"\xc3\xa9\xf0\x9f\x98\x80");
	assert_string_equal(string_of("k = 'C:\\dir'"), "C:\\dir");
	assert_string_equal(string_of("k = \"\"\"\nline\nnext \\\n   \n\t more\"\"\"\"\""),
			    "line\nnext more\"\"");
	assert_string_equal(string_of("k = '''\r\na''b\r\n'''"), "a''b\n");
	assert_string_equal(string_of("k = ''"), "");
	v = toml_get(parse("k = \"a\\u0000b\""), "k");
	assert_int_equal(v->string.len, 3);
	assert_memory_equal(v->string.s, "a\0b", 4);
}

static void numbers_keep_type_and_value(void **state)
{
	const struct toml_value *t =
		parse("a = 0xDEAD_beef\nb = 0o755\nc = 0b101\nd = -9223372036854775808\n"
		      "e = 1_000.5e-1\nf = -inf\ng = +nan\nh = 1e3\n");

	(void)state;
	assert_int_equal(toml_get(t, "a")->integer, 0xdeadbeef);
	assert_int_equal(toml_get(t, "b")->integer, 0755);
	assert_int_equal(toml_get(t, "c")->integer, 5);
	assert_true(toml_get(t, "d")->integer == INT64_MIN);
	assert_true(toml_get(t, "e")->real == 100.05);
	assert_true(isinf(toml_get(t, "f")->real) && toml_get(t, "f")->real < 0);
	assert_true(isnan(toml_get(t, "g")->real));
	assert_int_equal(toml_get(t, "h")->type, TOML_FLOAT);
}

static void datetimes_keep_their_text(void **state)
{
	const struct toml_value *t =
		parse("a = 1979-05-27T07:32:00.999-07:00 # x\nb = 1979-05-27 07:32:00\n"
		      "c = 1979-05-27\nd = 07:32:00.5\n");

	(void)state;
	assert_int_equal(toml_get(t, "a")->type, TOML_DATETIME);
	assert_string_equal(toml_get(t, "a")->string.s, "1979-05-27T07:32:00.999-07:00");
	assert_string_equal(toml_get(t, "b")->string.s, "1979-05-27 07:32:00");
	assert_string_equal(toml_get(t, "c")->string.s, "1979-05-27");
	assert_string_equal(toml_get(t, "d")->string.s, "07:32:00.5");
}

static void tables_arrays_and_dotted_keys_nest(void **state)
{
	const struct toml_value *t =
		parse("a.b.c = 1\na.b.d = [1, [2, 'x'],\n # c\n]\n[p.'q.r'.s]\nx = {y.z = true}\n"
		      "[[l]]\nn = 1\n[l.sub]\nm = 2\n[[l]]\n[p]\n");
	const struct toml_value *l = toml_get(t, "l"),
				*d = toml_get(toml_get(toml_get(t, "a"), "b"), "d");

	(void)state;
	assert_int_equal(d->array.n, 2);
	assert_string_equal(d->array.v[1]->array.v[1]->string.s, "x");
	assert_true(
		toml_get(toml_get(toml_get(toml_get(toml_get(toml_get(t, "p"), "q.r"), "s"), "x"),
				  "y"),
			 "z")
			->boolean);
	assert_int_equal(l->array.n, 2);
	assert_int_equal(toml_get(toml_get(l->array.v[0], "sub"), "m")->integer, 2);
	assert_int_equal(l->array.v[1]->table.n, 0);
	assert_null(toml_get(t, "absent"));
	assert_null(toml_get(l, "n"));
}

static void keys_and_values_know_their_place(void **state)
{
	const struct toml_value *t = parse("# x\n\n[a]\n  key = 'v'\n");
	const struct toml_value *a = toml_get(t, "a");

	(void)state;
	assert_int_equal(a->table.v[0].line, 4);
	assert_int_equal(a->table.v[0].column, 3);
	assert_int_equal(a->table.v[0].value->line, 4);
	assert_int_equal(a->table.v[0].value->column, 9);
	assert_int_equal(t->table.v[0].line, 3);
	assert_int_equal(t->table.v[0].column, 2);
}

static void redefinitions_are_refused(void **state)
{
	(void)state;
	assert_fails("a = 1\na = 2\n", "line 2, column 1: key `a` is defined twice");
	assert_fails("[a]\n[a]\n", "line 2, column 2: key `a` is a table that is defined already");
	assert_fails("[a.b.c]\nz = 9\n[a]\nb.c.t = 1\n",
		     "line 4, column 3: key `c` is a table that is defined elsewhere");
	assert_fails("a.b = 1\n[a]\n",
		     "line 2, column 2: key `a` is a table that is defined already");
	assert_fails("a = {b = 1}\n[a.c]\n", "line 2, column 2: key `a` has a value already");
	assert_fails("a = {b = 1}\na.c = 1\n", "line 2, column 1: key `a` has a value already");
	assert_fails("x = {a = {}, a.b = 1}\n", "line 1, column 14: key `a` has a value already");
	assert_fails("a = []\n[[a]]\n", "line 2, column 3: key `a` has a value already");
	assert_fails("[[a]]\n[a]\n", "line 2, column 2: key `a` has a value already");
	assert_fails("[a]\n[[a]]\n", "line 2, column 3: key `a` has a value already");
	assert_fails("[[a.b]]\n[a]\nb.y = 2\n", "line 3, column 1: key `b` has a value already");
	parse("[a.b]\n[a]\nc.d = 1\nc.e = 2\n[a.c.f]\n[a.b.x]\n");
}

static void malformed_input_names_line_and_column(void **state)
{
	(void)state;
	assert_fails("a = \n", "line 1, column 5: end of line where a value must stand");
	assert_fails("a = 1 b = 2\n",
		     "line 1, column 7: unexpected character 'b' where the line must end");
	assert_fails("a = 'x", "line 1, column 7: end of file in a string");
	assert_fails("a = \"x\ny\"", "line 1, column 7: end of line in a string");
	assert_fails("a = [1\n 2]",
		     "line 2, column 2: unexpected character '2' where `,` or `]` must stand");
	assert_fails("a = {b = 1,}",
		     "line 1, column 12: unexpected character '}' where a key must stand");
	assert_fails("a = \"\\q\"", "line 1, column 7: unexpected character 'q' after a backslash");
	assert_fails("a = \"\\ud800\"", "line 1, column 7: \\ud800 is no Unicode character");
	assert_fails("a = 01", "line 1, column 5: number starts with a zero");
	assert_fails("a = 9223372036854775808",
		     "line 1, column 5: integer does not fit into 64 bits");
	assert_fails("a = 2023-02-29", "line 1, column 5: no such date");
	assert_fails("a = 25:00:00", "line 1, column 5: no such time");
	assert_fails("x = 1\na = '\xff'", "line 2, column 6: byte 0xff is not UTF-8");
	assert_fails("x = 1\n# \x01\n", "line 2, column 3: unexpected byte 0x01 in a comment");
	assert_fails("a = 1\rb = 2",
		     "line 1, column 6: unexpected byte 0x0d where the line must end");
	assert_fails("\"a\\u0000\" = 1", "line 1, column 1: NUL in a key");
	assert_fails("[[a]\n", "line 1, column 4: unexpected character ']' where `]]` must stand");
}

static void limits_on_size_and_depth_hold(void **state)
{
	_cleanup_buf_ struct buf b = BUF_INIT;
	struct toml_value *v;
	struct err err = ERR_INIT;

	(void)state;
	buf_adds(&b, "a=");
	for (int i = 0; i < 100; i++)
		buf_addc(&b, '[');
	assert_fails(b.data, "line 1, column 67: nested more than 64 deep");
	buf_clear(&b);
	for (int i = 0; i < 64; i++)
		buf_adds(&b, "a.");
	assert_fails(b.data, "line 1, column 129: key has more than 64 parts");
	buf_clear(&b);
	while (b.len <= 1024 * 1024)
		buf_adds(&b, "# comment\n");
	assert_int_equal(toml_parse(arena, b.data, b.len, &v, &err), -ERR_INVALID_ARGUMENT);
	assert_string_equal(err.text, "document is larger than 1048576 bytes: invalid argument");
	parse_bytes(b.data, 1024 * 1024 - 6);
}

static void tables_of_many_keys_find_each(void **state)
{
	_cleanup_buf_ struct buf b = BUF_INIT;
	const struct toml_value *t;
	char key[16];

	(void)state;
	for (int i = 0; i < 50000; i++)
		buf_printf(&b, "k%d=%d\n", i, i);
	t = parse(b.data);
	assert_int_equal(t->table.n, 50000);
	for (int i = 0; i < 50000; i++) {
		snprintf(key, sizeof(key), "k%d", i);
		assert_int_equal(toml_get(t, key)->integer, i);
	}
	assert_null(toml_get(t, "k50000"));
	buf_adds(&b, "k7=1\n");
	assert_fails(b.data, "line 50001, column 1: key `k7` is defined twice");
}

static void taken_keys_are_gone_and_set_keys_are_found(void **state)
{
	struct toml_value *t = toml_new(arena, TOML_TABLE), *v;

	(void)state;
	for (int i = 0; i < 300; i++) {
		v = toml_new(arena, TOML_INTEGER);
		v->integer = i;
		assert_int_equal(toml_set(arena, t, arena_printf(arena, "k%d", i), v), 0);
	}
	for (int i = 0; i < 300; i += 2)
		assert_int_equal(toml_take(t, arena_printf(arena, "k%d", i))->integer, i);
	assert_null(toml_take(t, "k0"));
	v = toml_new(arena, TOML_BOOL);
	assert_int_equal(toml_set(arena, t, "k2", v), 0);
	assert_int_equal(toml_set(arena, t, "k3", v), 0);
	assert_int_equal(t->table.n, 151);
	for (int i = 5; i < 300; i++) {
		v = toml_get(t, arena_printf(arena, "k%d", i));
		assert_true(i % 2 ? v && v->integer == i : !v);
	}
	assert_ptr_equal(toml_get(t, "k2"), toml_get(t, "k3"));
}

static void quoted_text_reads_back(void **state)
{
	static const char *const texts[] = {
		"",	    "plain",	"with 'quote'", "tab\t", "new\nline \"x\" \\",
		"\x7f\x01", "\xc3\xa9", "a.b"};
	static const char *const keys[] = {"bare-Key_1", "", "a.b", "it's", "x y"};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		_cleanup_buf_ struct buf b = BUF_INIT;

		buf_adds(&b, "k = ");
		toml_quote(&b, texts[i]);
		assert_string_equal(string_of(b.data), texts[i]);
	}
	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		_cleanup_buf_ struct buf b = BUF_INIT;

		toml_quote_key(&b, keys[i]);
		assert_true(i > 0 || streq(b.data, keys[i]));
		buf_adds(&b, " = 1");
		assert_non_null(toml_get(parse(b.data), keys[i]));
	}
}

/* Answers in the form of toml_peer.py */

static void answer_hex(struct buf *b, const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		buf_printf(b, "%02x", (unsigned char)p[i]);
}

static void answer_time(struct buf *b, const char *p)
{
	int h, m, s, digits = 0, fraction = 0, zone_h, zone_m;

	assert_int_equal(sscanf(p, "%2d:%2d:%2d", &h, &m, &s), 3);
	p += 8;
	if (*p == '.') {
		for (p++; *p >= '0' && *p <= '9'; p++) {
			if (digits++ < 6)
				fraction = fraction * 10 + (*p - '0');
		}
		for (; digits < 6; digits++)
			fraction *= 10;
	}
	buf_printf(b, "%02d:%02d:%02d.%06d", h, m, s, fraction);
	if (*p == 'Z' || *p == 'z') {
		buf_adds(b, "+0");
	} else if (*p) {
		assert_int_equal(sscanf(p + 1, "%2d:%2d", &zone_h, &zone_m), 2);
		buf_printf(b, "%+d", (*p == '-' ? -1 : 1) * (zone_h * 60 + zone_m));
	}
}

static void answer_datetime(struct buf *b, const char *p)
{
	buf_addc(b, 't');
	if (strlen(p) >= 10 && p[4] == '-') {
		buf_add(b, p, 10);
		if (!p[10])
			return;
		buf_addc(b, 'T');
		p += 11;
	}
	answer_time(b, p);
}

static void answer(struct buf *b, const struct toml_value *v)
{
	uint64_t bits;

	switch (v->type) {
	case TOML_STRING:
		buf_addc(b, 's');
		answer_hex(b, v->string.s, v->string.len);
		break;
	case TOML_INTEGER:
		buf_printf(b, "i%lld", (long long)v->integer);
		break;
	case TOML_FLOAT:
		memcpy(&bits, &v->real, sizeof(bits));
		if (isnan(v->real))
			buf_adds(b, "fnan");
		else
			buf_printf(b, "f%016llx", (unsigned long long)bits);
		break;
	case TOML_BOOL:
		buf_printf(b, "b%d", v->boolean);
		break;
	case TOML_DATETIME:
		answer_datetime(b, v->string.s);
		break;
	case TOML_ARRAY:
		buf_addc(b, '[');
		for (size_t i = 0; i < v->array.n; i++) {
			answer(b, v->array.v[i]);
			buf_addc(b, ',');
		}
		buf_addc(b, ']');
		break;
	case TOML_TABLE:
		buf_addc(b, '{');
		for (size_t i = 0; i < v->table.n; i++) {
			answer_hex(b, v->table.v[i].key, strlen(v->table.v[i].key));
			buf_addc(b, '=');
			answer(b, v->table.v[i].value);
			buf_addc(b, ',');
		}
		buf_addc(b, '}');
		break;
	}
}

/* A document at its end of the page of memory: an over-read is seen by the sanitizer. */
static void compare_document(const char *doc, size_t n, const char *expected)
{
	_cleanup_free_ char *exact = malloc(n ? n : 1);
	_cleanup_buf_ struct buf got = BUF_INIT;
	struct toml_value *v;
	struct err err = ERR_INIT;

	assert_non_null(exact);
	memcpy(exact, doc, n);
	arena_reset(arena);
	if (toml_parse(arena, exact, n, &v, &err) < 0)
		buf_adds(&got, "error");
	else
		answer(&got, v);
	if (!streq(got.data, expected)) {
		print_error("document:\n%.*s\n--- got:\n%s (%s)\n--- tomllib:\n%s\n", (int)n, doc,
			    got.data, err.text, expected);
		fail();
	}
}

static void generated_documents_parse_as_python_does(void **state)
{
	const char *script = getenv("TOML_PEER"), *seed = getenv("TOML_SEED"),
		   *count = getenv("TOML_COUNT");
	unsigned long doc_n, answer_n;
	size_t documents = 0, valid = 0;
	char command[512];
	FILE *f;
	int status;

	(void)state;
	if (!script)
		skip();
	snprintf(command, sizeof(command), "exec /usr/bin/python3 '%s' %s %s", script,
		 seed ? seed : "1", count ? count : "4000");
	f = popen(command, "r");
	assert_non_null(f);
	while (fscanf(f, "%lu %lu", &doc_n, &answer_n) == 2 && fgetc(f) == '\n') {
		_cleanup_free_ char *doc = malloc(doc_n + 1), *expected = calloc(1, answer_n + 1);

		assert_non_null(doc);
		assert_non_null(expected);
		assert_int_equal(fread(doc, 1, doc_n, f), doc_n);
		assert_int_equal(fread(expected, 1, answer_n, f), answer_n);
		compare_document(doc, doc_n, expected);
		documents++;
		valid += !streq(expected, "error");
	}
	status = pclose(f);
	if (documents == 0 && WIFEXITED(status) &&
	    (WEXITSTATUS(status) == 77 || WEXITSTATUS(status) == 127))
		skip();
	assert_int_equal(status, 0);
	assert_true(documents > 100);
	assert_in_range(valid, documents / 5, documents * 9 / 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(strings_of_all_kinds_keep_their_content, setup,
						teardown),
		cmocka_unit_test_setup_teardown(numbers_keep_type_and_value, setup, teardown),
		cmocka_unit_test_setup_teardown(datetimes_keep_their_text, setup, teardown),
		cmocka_unit_test_setup_teardown(tables_arrays_and_dotted_keys_nest, setup,
						teardown),
		cmocka_unit_test_setup_teardown(keys_and_values_know_their_place, setup, teardown),
		cmocka_unit_test_setup_teardown(redefinitions_are_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(malformed_input_names_line_and_column, setup,
						teardown),
		cmocka_unit_test_setup_teardown(limits_on_size_and_depth_hold, setup, teardown),
		cmocka_unit_test_setup_teardown(tables_of_many_keys_find_each, setup, teardown),
		cmocka_unit_test_setup_teardown(taken_keys_are_gone_and_set_keys_are_found, setup,
						teardown),
		cmocka_unit_test_setup_teardown(quoted_text_reads_back, setup, teardown),
		cmocka_unit_test_setup_teardown(generated_documents_parse_as_python_does, setup,
						teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
