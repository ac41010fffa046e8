/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "ctr/ctr.h"

static void check(struct table t, const char *in, const char *want)
{
	struct table copy _cleanup_table_ = t;
	struct buf out _cleanup_buf_ = BUF_INIT;

	table_printf(&copy, "%s", in);
	assert_int_equal(table_render(&copy, &out), 0);
	assert_string_equal(out.data ? out.data : "", want);
}

static void columns_are_as_wide_as_their_widest_cell(void **state)
{
	check(TABLE_INIT(4, 8, 4, ' '), "TASK\tPID\tSTATUS\t\nm1\t16757\tRUNNING\t\n",
	      "TASK    PID      STATUS     \nm1      16757    RUNNING    \n");
}

static void text_behind_the_last_tab_is_no_column(void **state)
{
	check(TABLE_INIT(1, 8, 4, ' '), "PID\tINFO\n1\t-\n", "PID    INFO\n1      -\n");
}

static void minimum_width_counts(void **state)
{
	check(TABLE_INIT(6, 8, 1, ' '), "a\tb\t\n", "a     b     \n");
}

static void a_line_without_cells_ends_a_column(void **state)
{
	check(TABLE_INIT(1, 8, 2, ' '), "wide cell\tx\n\na\ty\n", "wide cell  x\n\na  y\n");
}

static void a_shorter_line_ends_only_the_columns_it_lacks(void **state)
{
	check(TABLE_INIT(1, 8, 1, ' '), "a\tlong cell\tx\nbbb\ty\nc\ts\tz\n",
	      "a   long cell x\nbbb y\nc   s z\n");
}

static void tab_padding_fills_to_tab_stops(void **state)
{
	check(TABLE_INIT(1, 8, 1, '\t'), "DIGEST\tSIZE\tAGE\n0123456789\t1\tx\n",
	      "DIGEST\t\tSIZE\tAGE\n0123456789\t1\tx\n");
}

static void width_counts_characters_not_bytes(void **state)
{
	check(TABLE_INIT(1, 8, 1, ' '), "\xc3\xa4\xc3\xb6\tx\nabc\ty\n",
	      "\xc3\xa4\xc3\xb6  x\nabc y\n");
}

static void an_empty_table_is_empty(void **state)
{
	check(TABLE_INIT(1, 8, 1, ' '), "", "");
}

static void labels_are_sorted_and_empty_ones_are_a_dash(void **state)
{
	struct arena *a _cleanup_arena_ = arena_new(0);
	const char *words[] = {"z=1", "a=x=y", "bare"};
	struct labels l = {};
	struct err err;

	assert_string_equal(ctr_format_labels(a, &l), "-");
	assert_int_equal(ctr_parse_labels(a, words, 3, &l, &err), 0);
	assert_string_equal(ctr_format_labels(a, &l), "a=x=y,bare=true,z=1");
	words[0] = "=x";
	assert_int_equal(ctr_parse_labels(a, words, 1, &l, &err), -ERR_INVALID_ARGUMENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(columns_are_as_wide_as_their_widest_cell),
		cmocka_unit_test(text_behind_the_last_tab_is_no_column),
		cmocka_unit_test(minimum_width_counts),
		cmocka_unit_test(a_line_without_cells_ends_a_column),
		cmocka_unit_test(a_shorter_line_ends_only_the_columns_it_lacks),
		cmocka_unit_test(tab_padding_fills_to_tab_stops),
		cmocka_unit_test(width_counts_characters_not_bytes),
		cmocka_unit_test(an_empty_table_is_empty),
		cmocka_unit_test(labels_are_sorted_and_empty_ones_are_a_dash),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
