/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "ctr/commands.h"

static const struct ctr_flag root_flags[] = {
	{"namespace", 'n', CTR_STRING, "namespace", "default", "TEST_CTR_NAMESPACE"},
	{"debug", 0, CTR_BOOL, "debug"},
	{}};
static const struct ctr_flag shared_flags[] = {{"label", 0, CTR_STRINGS, "labels"}, {}};
static const struct ctr_flag run_flags[] = {
	{"tty", 't', CTR_BOOL, "terminal"}, {"count", 'c', CTR_INT, "number", "7"},
	{"limit", 0, CTR_UINT, "limit"},    {"cpus", 0, CTR_FLOAT, "cpus"},
	{"wait", 0, CTR_DURATION, "time"},  {"name", 0, CTR_STRING, "name", NULL, NULL, "NAME"},
	{"b", 0, CTR_BOOL, "bytes"},	    {}};
static const struct ctr_flag need_flags[] = {{"exec-id", 0, CTR_STRING, "id", .required = true},
					     {"namespace", 0, CTR_STRING, "as the group has"},
					     {"debug", 0, CTR_INT, "as ctr has, a number", "2"},
					     {}};

static int run_nothing(struct ctr *c, struct err *err)
{
	(void)c;
	(void)err;
	return 0;
}

static const struct ctr_command run = {
	.name = "run",
	.usage = "run it",
	.args = "[flags] ID [ARG...]",
	.flags = CTR_FLAGS(shared_flags, run_flags),
	.run = run_nothing,
};
static const struct ctr_command need = {.name = "need",
					.usage = "needs a flag",
					.flags = CTR_FLAGS(need_flags),
					.run = run_nothing};
static const struct ctr_command list = {
	.name = "list", .aliases = {"ls"}, .usage = "list them", .run = run_nothing};
static const struct ctr_command hidden = {
	.name = "secret", .usage = "not shown", .run = run_nothing, .hidden = true};
static const struct ctr_command group = {
	.name = "things",
	.aliases = {"thing", "t"},
	.usage = "manage things",
	.subcommands = CTR_COMMANDS(&list, &hidden),
};
static const struct ctr_command root = {
	.name = "ctr",
	.usage = "test",
	.flags = CTR_FLAGS(root_flags),
	.subcommands = CTR_COMMANDS(&run, &group, &need),
};

struct fixture {
	struct ctr c;
	enum ctr_parsed parsed;
	struct err err;
	int r;
};

static void parse_words(struct fixture *f, const char *const *words)
{
	char *argv[32] = {(char *)"ctr"};
	char **copy;
	int n = 1;

	for (; *words; words++)
		argv[n++] = (char *)*words;
	f->c = (struct ctr){.ctx.arena = arena_new(0)};
	f->err = ERR_INIT;
	copy = arena_memdup(f->c.ctx.arena, argv, sizeof(argv));
	f->r = ctr_parse(&f->c, &root, n, copy, &f->parsed, &f->err);
}
#define PARSE(f, ...) parse_words(f, (const char *const[]){__VA_ARGS__, NULL})

static void done(struct fixture *f)
{
	arena_free(f->c.ctx.arena);
}
#define FIXTURE struct fixture f __attribute__((cleanup(done))) = {}

static void flags_of_all_kinds_are_read(void **state)
{
	FIXTURE;

	PARSE(&f, "run", "-t", "--count=-3", "-limit", "0x10", "--cpus", "0.5", "--wait", "1m2s",
	      "--name=a=b", "id", "-x", "arg");
	assert_int_equal(f.r, 0);
	assert_int_equal(f.parsed, CTR_PARSED_RUN);
	assert_ptr_equal(f.c.level->command, &run);
	assert_true(ctr_bool(&f.c, "tty"));
	assert_int_equal(ctr_int(&f.c, "count"), -3);
	assert_int_equal(ctr_uint(&f.c, "limit"), 16);
	assert_true(ctr_float(&f.c, "cpus") == 0.5);
	assert_int_equal(ctr_int(&f.c, "wait"), 62000000000);
	assert_string_equal(ctr_string(&f.c, "name"), "a=b");
	assert_int_equal(f.c.n_args, 3);
	assert_string_equal(ctr_arg(&f.c, 1), "-x");
	assert_string_equal(ctr_arg(&f.c, 3), "");
}

static void defaults_hold_when_nothing_is_given(void **state)
{
	FIXTURE;

	unsetenv("TEST_CTR_NAMESPACE");
	PARSE(&f, "run");
	assert_int_equal(f.r, 0);
	assert_int_equal(ctr_int(&f.c, "count"), 7);
	assert_string_equal(ctr_string(&f.c, "namespace"), "default");
	assert_string_equal(ctr_string(&f.c, "name"), "");
	assert_false(ctr_is_set(&f.c, "count"));
	assert_false(ctr_bool(&f.c, "tty"));
}

static void environment_replaces_default_and_line_replaces_environment(void **state)
{
	setenv("TEST_CTR_NAMESPACE", "env", 1);
	{
		FIXTURE;

		PARSE(&f, "run");
		assert_string_equal(ctr_string(&f.c, "namespace"), "env");
		assert_true(ctr_is_set(&f.c, "namespace"));
	}
	{
		FIXTURE;

		PARSE(&f, "-n", "line", "run");
		assert_string_equal(ctr_string(&f.c, "namespace"), "line");
	}
	unsetenv("TEST_CTR_NAMESPACE");
}

static void bool_takes_a_value_only_behind_equals(void **state)
{
	FIXTURE;

	PARSE(&f, "run", "--tty=false", "false");
	assert_int_equal(f.r, 0);
	assert_false(ctr_bool(&f.c, "tty"));
	assert_true(ctr_is_set(&f.c, "tty"));
	assert_int_equal(f.c.n_args, 1);
}

static void repeated_flag_collects_values_and_keeps_commas(void **state)
{
	const char **v;
	size_t n;
	FIXTURE;

	PARSE(&f, "run", "--label", "a=b,c", "--label=d", "--name", "x", "--name", "y");
	v = ctr_strings(&f.c, "label", &n);
	assert_int_equal(n, 2);
	assert_string_equal(v[0], "a=b,c");
	assert_string_equal(v[1], "d");
	assert_string_equal(ctr_string(&f.c, "name"), "y");
}

static void double_dash_ends_flags(void **state)
{
	FIXTURE;

	PARSE(&f, "run", "-t", "--", "-c", "--");
	assert_int_equal(f.r, 0);
	assert_int_equal(f.c.n_args, 2);
	assert_string_equal(ctr_arg(&f.c, 0), "-c");
	assert_int_equal(ctr_int(&f.c, "count"), 7);
}

static void a_single_dash_is_an_argument(void **state)
{
	FIXTURE;

	PARSE(&f, "run", "-");
	assert_int_equal(f.r, 0);
	assert_string_equal(ctr_arg(&f.c, 0), "-");
}

static void aliases_name_groups_and_commands(void **state)
{
	FIXTURE;

	PARSE(&f, "--debug", "t", "ls", "filter");
	assert_int_equal(f.parsed, CTR_PARSED_RUN);
	assert_ptr_equal(f.c.level->command, &list);
	assert_ptr_equal(f.c.level->parent->command, &group);
	assert_true(ctr_bool(&f.c, "debug"));
	assert_string_equal(ctr_arg(&f.c, 0), "filter");
}

static void unknown_commands_are_told_apart_from_help(void **state)
{
	{
		FIXTURE;
		PARSE(&f, "things", "nope");
		assert_int_equal(f.parsed, CTR_PARSED_UNKNOWN);
		assert_string_equal(f.c.args[0], "nope");
	}
	{
		FIXTURE;
		PARSE(&f, "things");
		assert_int_equal(f.parsed, CTR_PARSED_HELP);
	}
	{
		FIXTURE;
		PARSE(&f, "help", "things", "list");
		assert_int_equal(f.parsed, CTR_PARSED_HELP);
		assert_ptr_equal(f.c.level->command, &list);
	}
	{
		FIXTURE;
		PARSE(&f, "run", "-h");
		assert_int_equal(f.parsed, CTR_PARSED_HELP);
		assert_ptr_equal(f.c.level->command, &run);
	}
	{
		FIXTURE;
		PARSE(&f, "help", "nope");
		assert_int_equal(f.parsed, CTR_PARSED_UNKNOWN);
	}
}

static void complaints_name_flag_and_value(void **state)
{
	static const struct {
		const char *words[4];
		const char *text;
	} cases[] = {
		{{"run", "--nope"}, "flag provided but not defined: -nope"},
		{{"run", "--nope=1"}, "flag provided but not defined: -nope"},
		{{"run", "--count"}, "flag needs an argument: -count"},
		{{"run", "-c", "x"}, "invalid value \"x\" for flag -c: parse error"},
		{{"run", "--count=99999999999999999999"},
		 "invalid value \"99999999999999999999\" for flag -count: value out of range"},
		{{"run", "--tty=maybe"},
		 "invalid boolean value \"maybe\" for flag -tty: parse error"},
		{{"run", "---tty"}, "bad flag syntax: ---tty"},
		{{"run", "--=x"}, "bad flag syntax: --=x"},
		{{"run", "--limit", "-1"}, "invalid value \"-1\" for flag -limit: parse error"},
		{{"need"}, "Required flag \"exec-id\" not set"},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		FIXTURE;

		parse_words(&f, cases[i].words);
		assert_int_equal(f.r, -ERR_INVALID_ARGUMENT);
		assert_string_equal(f.err.text, cases[i].text);
	}
}

static void flag_of_the_group_counts_unless_the_command_has_it_set(void **state)
{
	FIXTURE;

	(void)state;
	PARSE(&f, "--namespace", "outer", "need", "--exec-id", "x");
	assert_string_equal(ctr_string(&f.c, "namespace"), "outer");
	done(&f);
	PARSE(&f, "--namespace", "outer", "need", "--exec-id", "x", "--namespace", "inner");
	assert_string_equal(ctr_string(&f.c, "namespace"), "inner");
}

static void flag_of_another_kind_is_another_flag(void **state)
{
	FIXTURE;

	PARSE(&f, "--debug", "need", "--exec-id", "x");
	assert_true(ctr_bool(&f.c, "debug"));
	assert_int_equal(ctr_int(&f.c, "debug"), 2);
	done(&f);
	PARSE(&f, "need", "--exec-id", "x", "--debug", "1");
	assert_false(ctr_bool(&f.c, "debug"));
	assert_int_equal(ctr_int(&f.c, "debug"), 1);
}

static void help_shows_names_flags_and_defaults(void **state)
{
	struct buf out _cleanup_buf_ = BUF_INIT;
	FIXTURE;

	PARSE(&f, "run", "-h");
	assert_int_equal(ctr_help(f.c.level, &out), 0);
	assert_string_equal(out.data, "NAME:\n   ctr run - run it\n\n"
				      "USAGE:\n   ctr run [command options] [flags] ID [ARG...]\n\n"
				      "OPTIONS:\n"
				      "   --label value [ --label value ]  labels\n"
				      "   --tty, -t                        terminal\n"
				      "   --count value, -c value          number (default: 7)\n"
				      "   --limit value                    limit (default: 0)\n"
				      "   --cpus value                     cpus (default: 0)\n"
				      "   --wait value                     time (default: 0s)\n"
				      "   --name NAME                      name\n"
				      "   -b                               bytes\n"
				      "   --help, -h                       show help\n");
}

static void help_of_a_group_hides_hidden_commands(void **state)
{
	struct buf out _cleanup_buf_ = BUF_INIT;
	FIXTURE;

	PARSE(&f, "things");
	assert_int_equal(ctr_help(f.c.level, &out), 0);
	assert_non_null(strstr(out.data, "   list, ls  list them\n"));
	assert_null(strstr(out.data, "secret"));
}

/* Walks the real table. */
static void check_command(const struct ctr_command *c)
{
	assert_non_null(c->usage);
	assert_true(c->run || c->subcommands);
	for (size_t g = 0; c->flags && c->flags[g]; g++)
		for (const struct ctr_flag *f = c->flags[g]; f->name; f++) {
			size_t same = 0;

			assert_non_null(f->usage);
			for (size_t h = 0; c->flags[h]; h++)
				for (const struct ctr_flag *o = c->flags[h]; o->name; o++)
					same += streq(o->name, f->name) ||
						(f->alias && o->alias == f->alias);
			if (same != 1)
				fail_msg("%s: flag --%s is there twice, or its alias", c->name,
					 f->name);
		}
	for (size_t i = 0; c->subcommands && c->subcommands[i]; i++)
		check_command(c->subcommands[i]);
}

static void every_command_of_ctr_is_well_formed(void **state)
{
	check_command(&ctr_root);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(flags_of_all_kinds_are_read),
		cmocka_unit_test(defaults_hold_when_nothing_is_given),
		cmocka_unit_test(environment_replaces_default_and_line_replaces_environment),
		cmocka_unit_test(bool_takes_a_value_only_behind_equals),
		cmocka_unit_test(repeated_flag_collects_values_and_keeps_commas),
		cmocka_unit_test(double_dash_ends_flags),
		cmocka_unit_test(a_single_dash_is_an_argument),
		cmocka_unit_test(aliases_name_groups_and_commands),
		cmocka_unit_test(unknown_commands_are_told_apart_from_help),
		cmocka_unit_test(complaints_name_flag_and_value),
		cmocka_unit_test(flag_of_the_group_counts_unless_the_command_has_it_set),
		cmocka_unit_test(flag_of_another_kind_is_another_flag),
		cmocka_unit_test(help_shows_names_flags_and_defaults),
		cmocka_unit_test(help_of_a_group_hides_hidden_commands),
		cmocka_unit_test(every_command_of_ctr_is_well_formed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
