/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "ctr/complete.h"
#include "ctr/man.h"

/* Scans the words of @line (single blanks; one at the end begins a new word). */
static struct complete scan(struct arena *a, const char *line)
{
	struct err err = ERR_INIT;
	struct complete k;
	size_t n;
	char **words = str_split(a, line, ' ', &n);

	if (complete_scan(a, &ctr_root, (const char *const *)words, n, &k, &err) < 0)
		fail_msg("%s", err.text);
	return k;
}

/* Candidates for @line, each in "|"s. */
static void offers(const char *line, const char *want, bool there)
{
	struct arena *a _cleanup_arena_ = arena_new(0);
	struct buf out _cleanup_buf_ = BUF_INIT;
	struct complete k = scan(a, line);

	assert_int_equal(k.kind, COMPLETE_WORDS);
	assert_int_equal(complete_words(&k, &out, NULL), 0);
	for (char *p = out.data; p && (p = strchr(p, '\t')); p++)
		*p = '|';
	if (!strstr(out.data ? out.data : "", want) == there)
		fail_msg("\"%s\": \"%s\" in\n%s", line, want, out.data);
}

static void commands_and_subcommands_are_offered(void **state)
{
	offers("ima", "images|manage images", true);
	offers("ima", "tasks", false);
	offers("", "containers|", true);
	offers("", "__complete", false);
	offers("images ", "list|", true);
	offers("i l", "list|", true);
	offers("i l", "delete|", false);
	offers("help images ", "list|", true);
	offers("-n k8s.io images pu", "pull|", true);
	offers("--namespace=k8s.io images pu", "push|", true);
}

static void flags_are_offered_after_a_dash(void **state)
{
	offers("-", "--namespace|", true);
	offers("--na", "--namespace|", true);
	offers("--na", "--address|", false);
	offers("-", "-n|", true);
	offers("images ls --q", "--quiet|", true);
	offers("images ls -", "--help|", true);
	offers("run --rm --net", "--net-host|", true);
	offers("snapshots usage -", "-b|", true);
}

static void is(const char *line, int kind, int names, const char *word, const char *prefix)
{
	struct arena *a _cleanup_arena_ = arena_new(0);
	struct complete k = scan(a, line);

	if ((int)k.kind != kind)
		fail_msg("\"%s\": kind %d", line, k.kind);
	if (kind == COMPLETE_NAMES)
		assert_int_equal(k.names, names);
	assert_string_equal(k.word, word);
	assert_string_equal(k.prefix, prefix);
}

static void arguments_are_names_of_what_the_table_says(void **state)
{
	is("images rm doc", COMPLETE_NAMES, CTR_NAMES_IMAGES, "doc", "");
	is("images rm a b", COMPLETE_NAMES, CTR_NAMES_IMAGES, "b", "");
	is("run --rm ", COMPLETE_NAMES, CTR_NAMES_IMAGES, "", "");
	is("run --runtime x ", COMPLETE_NAMES, CTR_NAMES_IMAGES, "", "");
	is("run img ", COMPLETE_NOTHING, 0, "", "");
	is("tasks exec --exec-id x ", COMPLETE_NAMES, CTR_NAMES_TASKS, "", "");
	is("tasks start ", COMPLETE_NAMES, CTR_NAMES_CONTAINERS, "", "");
	is("snapshots prepare new ", COMPLETE_NAMES, CTR_NAMES_SNAPSHOTS, "", "");
	is("images import ", COMPLETE_FILES, 0, "", "");
	is("images export f ", COMPLETE_NAMES, CTR_NAMES_IMAGES, "", "");
	is("images rm -- -x", COMPLETE_NAMES, CTR_NAMES_IMAGES, "-x", "");
	is("nosuch x", COMPLETE_NOTHING, 0, "x", "");
	is("version ", COMPLETE_NOTHING, 0, "", "");
}

static void values_of_flags_are_known_by_the_flag(void **state)
{
	is("-n ", COMPLETE_NAMES, CTR_NAMES_NAMESPACES, "", "");
	is("--namespace=k8", COMPLETE_NAMES, CTR_NAMES_NAMESPACES, "k8", "--namespace=");
	is("snapshots --snapshotter ov", COMPLETE_SNAPSHOTTERS, 0, "ov", "");
	is("run --env-file ", COMPLETE_FILES, 0, "", "");
	is("run --hostname ", COMPLETE_NOTHING, 0, "", "");
	is("images ls --quiet=", COMPLETE_NOTHING, 0, "--quiet=", "");
}

static void address_and_namespace_of_the_line_are_kept(void **state)
{
	struct arena *a _cleanup_arena_ = arena_new(0);
	struct complete k =
		scan(a, "-a /x.sock --namespace=y snapshots --snapshotter native info ");

	assert_string_equal(k.address, "/x.sock");
	assert_string_equal(k.ns, "y");
	assert_string_equal(k.snapshotter, "native");
	assert_int_equal(k.names, CTR_NAMES_SNAPSHOTS);
}

static void nothing_typed_is_the_start(void **state)
{
	struct arena *a _cleanup_arena_ = arena_new(0);
	struct complete k;

	assert_int_equal(complete_scan(a, &ctr_root, NULL, 0, &k, NULL), 0);
	assert_int_equal(k.kind, COMPLETE_WORDS);
}

static void pages_escape_what_mdoc_would_read(void **state)
{
	static const struct ctr_flag flags[] = {
		{"x-y", 'x', CTR_STRING, ".Xr is no macro; \\n neither", "\"-\"", "X_Y"}, {}};
	const struct ctr_command leaf = {.name = "leaf",
					 .usage = "do it. Then rest",
					 .args = "<a\\b>",
					 .flags = CTR_FLAGS(flags),
					 .run = (int (*)(struct ctr *, struct err *))abort};
	const struct ctr_command group = {
		.name = "grp", .usage = "things", .subcommands = CTR_COMMANDS(&leaf)};
	const struct ctr_command root = {
		.name = "ctr", .usage = "all", .subcommands = CTR_COMMANDS(&group)};
	struct buf out _cleanup_buf_ = BUF_INIT;

	assert_int_equal(man_page(&root, &group, &out), 0);
	assert_non_null(strstr(out.data, ".Dt CTR-GRP 8\n"));
	assert_non_null(strstr(out.data, "\n\\&.Xr is no macro; \\en neither.\n"));
	assert_non_null(strstr(out.data, ".It Fl -x-y , Fl x Ar \"value\"\n"));
	assert_non_null(strstr(out.data, ".Ql \"\\(dq\\-\\(dq\" .\n"));
	assert_non_null(strstr(out.data, ".Ar \"<a\\eb>\"\n"));
	assert_non_null(strstr(out.data, "Do it.\nThen rest.\n"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(commands_and_subcommands_are_offered),
		cmocka_unit_test(flags_are_offered_after_a_dash),
		cmocka_unit_test(arguments_are_names_of_what_the_table_says),
		cmocka_unit_test(values_of_flags_are_known_by_the_flag),
		cmocka_unit_test(address_and_namespace_of_the_line_are_kept),
		cmocka_unit_test(nothing_typed_is_the_start),
		cmocka_unit_test(pages_escape_what_mdoc_would_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
