/* SPDX-License-Identifier: Apache-2.0 */
#include "core/image.h"
#include "core/regex.h"
#include "util.h"

static int arena_setup(void **state)
{
	struct fix *f = calloc(1, sizeof(*f));

	f->arena = arena_new(0);
	*state = f;
	return 0;
}

static int arena_teardown(void **state)
{
	struct fix *f = *state;

	arena_free(f->arena);
	free(f);
	return 0;
}

static bool matches(struct fix *f, const struct image *i, const char *text)
{
	struct filter *filter;

	assert_ok(filter_parse(f->arena, &text, 1, &filter, &f->err));
	return filter_match(filter, image_field, i);
}

static struct image sample(struct fix *f)
{
	return (struct image){
		.name = "docker.io/library/busybox:latest",
		.labels = make_labels(f->arena, "foo.bar", "x", "containerd.io/gc.root",
				      "yes, it is", NULL),
		.target = {.digest = "sha256:aa", .media_type = "application/x"},
	};
}

static void no_filter_matches_everything(void **state)
{
	struct fix *f = *state;
	const char *const empty[] = {"name==nothing", ""};
	struct image i = sample(f);
	struct filter *filter;

	assert_ok(filter_parse(f->arena, NULL, 0, &filter, &f->err));
	assert_null(filter);
	assert_true(filter_match(filter, image_field, &i));
	assert_ok(filter_parse(f->arena, empty, 2, &filter, &f->err));
	assert_true(filter_match(filter, image_field, &i));
}

static void selectors_of_one_string_must_all_match(void **state)
{
	struct fix *f = *state;
	struct image i = sample(f);

	assert_true(matches(f, &i, "name~=busybox,target.digest==sha256:aa"));
	assert_false(matches(f, &i, "name~=busybox,target.digest==sha256:bb"));
	assert_true(matches(f, &i, " name ~= busybox, target. mediatype\t== application/x"));
}

static void strings_are_alternatives(void **state)
{
	struct fix *f = *state;
	const char *const either[] = {"name==a", "name~=busybox"};
	const char *const neither[] = {"name==a", "name==b"};
	struct image i = sample(f);
	struct filter *filter;

	assert_ok(filter_parse(f->arena, either, 2, &filter, &f->err));
	assert_true(filter_match(filter, image_field, &i));
	assert_ok(filter_parse(f->arena, neither, 2, &filter, &f->err));
	assert_false(filter_match(filter, image_field, &i));
}

static void presence_and_absence(void **state)
{
	struct fix *f = *state;
	struct image i = sample(f);

	assert_true(matches(f, &i, "labels.foo.bar"));
	assert_false(matches(f, &i, "labels.other"));
	assert_false(matches(f, &i, "labels.other==x"));
	assert_true(matches(f, &i, "labels.other!=x"));
	assert_true(matches(f, &i, "labels.other~=^$"));
	assert_false(matches(f, &i, "nosuchfield"));
}

static void quoted_fields_and_values(void **state)
{
	struct fix *f = *state;
	struct image i = sample(f);

	assert_true(matches(f, &i, "labels.\"containerd.io/gc.root\"==\"yes, it is\""));
	assert_true(matches(f, &i, "labels.\"foo.bar\"==\"\\x78\""));
	assert_true(matches(f, &i, "labels.\"foo.bar\"==\"\\u0078\""));
	assert_true(matches(f, &i, "labels.\"foo.bar\"==\"\\170\""));
	assert_true(matches(f, &i, "name~=/library\\/busybox/"));
	assert_true(matches(f, &i, "name~=|library/busybox|"));
}

static void bad_regular_expression_matches_nothing(void **state)
{
	struct fix *f = *state;
	struct image i = sample(f);

	assert_false(matches(f, &i, "name~=\"(\""));
	assert_false(matches(f, &i, "name~=\"*\""));
}

static void errors_show_the_place(void **state)
{
	struct fix *f = *state;
	struct filter *filter;
	static const struct {
		const char *text, *error;
	} bad[] = {
		{"name=~x", "filters: parse error: [name >|=|< ~x]: unsupported operator \"=~\": "
			    "invalid argument"},
		{"a=b", "filters: parse error: [a >|=|< b]: unsupported operator \"=\": "
			"invalid argument"},
		{"a==", "filters: parse error: [a==]: expected value or quoted: invalid argument"},
		{",a", "filters: parse error: [ >|,|< a]: expected field or quoted: "
		       "invalid argument"},
		{"a==\"x", "filters: parse error: [a== >|\"|< x]: quoted literal not terminated: "
			   "invalid argument"},
		{"a b", "filters: parse error: [a  >|b|< ]: expected an operator "
			"(\"==\"|\"!=\"|\"~=\"): invalid argument"},
		/* Blanks belong to the token behind them, and these are not scanned for. */
		{"a ,b", "filters: parse error: [a  >|,|< b]: expected an operator "
			 "(\"==\"|\"!=\"|\"~=\"): invalid argument"},
		{"a .b", "filters: parse error: [a  >|.|< b]: expected an operator "
			 "(\"==\"|\"!=\"|\"~=\"): invalid argument"},
		{"a ", "filters: parse error: [a ]: expected an operator "
		       "(\"==\"|\"!=\"|\"~=\"): invalid argument"},
		{"a==b ,c", "filters: parse error: [a==b >| |< ,c]: unexpected input:  : "
			    "invalid argument"},
		{"a==b ", "filters: parse error: [a==b >| |< ]: unexpected input:  : "
			  "invalid argument"},
		{"a==\"b\"c", "filters: parse error: [a==\"b\" >|c|< ]: unexpected input: c: "
			      "invalid argument"},
		{"a,", "filters: parse error: [a,]: expected field or quoted: invalid argument"},
		{"a$", "filters: parse error: [a >|$|< ]: expected an operator "
		       "(\"==\"|\"!=\"|\"~=\"): invalid argument"},
		/* What begins another token begins no value. */
		{"a==.b", "filters: parse error: [a== >|.|< b]: expected value or quoted: "
			  "invalid argument"},
		{"a== =b", "filters: parse error: [a==  >|=|< b]: expected value or quoted: "
			   "invalid argument"},
		{"a==/b/", "filters: parse error: [a== >|/|< b/]: invalid quote encountered: "
			   "invalid argument"},
		{"|a|==b", "filters: parse error: [ >|||< a|==b]: invalid quote encountered: "
			   "invalid argument"},
		{"a~=/\\d/", "filters: parse error: [a~= >|/|< \\d/]: illegal escape sequence: "
			     "invalid argument"},
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_err(filter_parse(f->arena, &bad[i].text, 1, &filter, &f->err),
			   ERR_INVALID_ARGUMENT, bad[i].error);
}

static bool re(struct fix *f, const char *pattern, const char *text)
{
	struct regex *r;

	assert_int_equal(regex_compile(f->arena, pattern, &r), 0);
	return regex_match(r, text);
}

static void regex_matches_as_re2(void **state)
{
	struct fix *f = *state;
	static const struct {
		const char *pattern, *yes, *no;
	} t[] = {
		{"abc", "xxabcxx", "ab"},
		{"^abc$", "abc", "abcd"},
		{"a|b|", "zzz", NULL},
		{"^(a|bc)+$", "abcbca", "abcb"},
		{"^a{2,3}$", "aaa", "aaaa"},
		{"^a{2}$", "aa", "a"},
		{"^a{2,}$", "aaaaa", "a"},
		{"^a{,2}$", "a{,2}", "aa"},
		{"^x*?y$", "xxy", "xxz"},
		{"^[a-c0-9_-]+$", "a-c_9", "d"},
		{"^[^a]$", "\n", "a"},
		{"^[]x]$", "]", "y"},
		{"^.$", "\xc3\xa9", "\n"},
		{"(?s)^.$", "\n", "ab"},
		{"(?i)^hello$", "HeLLo", "hallo"},
		{"^(?i:a)b$", "Ab", "AB"},
		{"^(?P<name>x)(?:y)$", "xy", "x"},
		{"(?m)^b$", "a\nb\nc", "abc"},
		{"\\bfoo\\b", "a foo b", "afoob"},
		{"^\\d+\\.\\w\\s$", "12.x ", "12xx "},
		{"^[[:alpha:]\\d]+$", "ab1", "-"},
		{"^[[:^alpha:]]$", "1", "a"},
		{"^\\Qa.b\\E$", "a.b", "axb"},
		{"^\\x41\\x{e9}$", "A\xc3\xa9", "A"},
		{"^(|a)*$", "aaa", "b"},
		{"\\Aa\\z", "a", "ab"},
	};
	static const char *const bad[] = {"(",
					  ")",
					  "a**",
					  "[b-a]",
					  "[a",
					  "a{3,2}",
					  "\\1",
					  "a{1001}",
					  "(?z)",
					  "\\p{L}",
					  "[[:foo:]]",
					  "x\\",
					  "((((((a{1000}){1000}){1000}){1000}){1000}){1000})",
					  "(((((((){1000}){1000}){1000}){1000}){1000}){1000})"};

	for (size_t i = 0; i < ARRAY_LEN(t); i++) {
		if (!re(f, t[i].pattern, t[i].yes))
			fail_msg("%s does not match %s", t[i].pattern, t[i].yes);
		if (t[i].no && re(f, t[i].pattern, t[i].no))
			fail_msg("%s matches %s", t[i].pattern, t[i].no);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct regex *r;

		if (regex_compile(f->arena, bad[i], &r) != -EINVAL)
			fail_msg("%s compiles", bad[i]);
	}
}

static void regex_takes_no_exponential_time(void **state)
{
	struct fix *f = *state;
	char text[2001];

	memset(text, 'a', 2000);
	text[2000] = 0;
	assert_false(re(f, "^(a*)*(a|a?)*(a+)+$b", text));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, arena_setup, arena_teardown)
		T(no_filter_matches_everything),    T(selectors_of_one_string_must_all_match),
		T(strings_are_alternatives),	    T(presence_and_absence),
		T(quoted_fields_and_values),	    T(bad_regular_expression_matches_nothing),
		T(errors_show_the_place),	    T(regex_matches_as_re2),
		T(regex_takes_no_exponential_time),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
