/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/str.h"
#include "ctr/record.h"

static void ages_read_as_people_say_them(void **state)
{
	static const struct {
		int64_t seconds;
		const char *text;
	} cases[] = {
		{-5, "Less than a second"},
		{0, "Less than a second"},
		{1, "1 second"},
		{59, "59 seconds"},
		{60, "About a minute"},
		{119, "About a minute"},
		{120, "2 minutes"},
		{3599, "59 minutes"},
		{3600, "About an hour"},
		{5400, "2 hours"},
		{47 * 3600, "47 hours"},
		{48 * 3600, "2 days"},
		{13 * 86400, "13 days"},
		{14 * 86400, "2 weeks"},
		{59 * 86400, "8 weeks"},
		{60 * 86400, "2 months"},
		{729 * 86400LL, "24 months"},
		{730 * 86400LL, "2 years"},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char text[40];

		record_age(cases[i].seconds, text);
		assert_string_equal(text, cases[i].text);
	}
}

static void local_times_carry_their_offset(void **state)
{
	static const struct {
		const char *zone, *text;
	} cases[] = {
		{"UTC0", "2023-11-14T22:13:20Z"},
		{"XXX-5:30", "2023-11-15T03:43:20+05:30"},
		{"XXX3", "2023-11-14T19:13:20-03:00"},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char text[40];

		setenv("TZ", cases[i].zone, 1);
		tzset();
		record_local_time((struct timespec){.tv_sec = 1700000000, .tv_nsec = 5}, text);
		assert_string_equal(text, cases[i].text);
	}
}

static void label_masks_name_each_label(void **state)
{
	struct arena *a = arena_new(0);
	Google__Protobuf__FieldMask mask;
	struct err err = ERR_INIT;
	struct labels l = {};

	assert_int_equal(labels_set(a, &l, "b", ""), 0);
	assert_int_equal(labels_set(a, &l, "a.x/y", "1"), 0);
	assert_int_equal(record_label_mask(a, &l, &mask, &err), 0);
	assert_int_equal(mask.n_paths, 2);
	assert_string_equal(mask.paths[0], "labels.a.x/y");
	assert_string_equal(mask.paths[1], "labels.b");
	arena_free(a);
}

static int calls;

static int act(struct ctr *c, const char *arg, bool last, struct err *err)
{
	calls++;
	assert_int_equal(last, streq(arg, c->args[c->n_args - 1]));
	if (streq(arg, "absent"))
		return err_set(err, ERR_NOT_FOUND, "x");
	if (streq(arg, "bad"))
		return err_set(err, ERR_INTERNAL, "y");
	return 0;
}

static int each(bool missing_ok, const char *const *args, struct err *err)
{
	struct ctr c = {.args = args};

	while (args[c.n_args])
		c.n_args++;
	calls = 0;
	return record_each(&c, "cannot drop", missing_ok, act, err);
}

static void all_are_tried_and_the_first_error_is_the_result(void **state)
{
	struct err err = ERR_INIT;

	assert_int_equal(each(false, (const char *const[]){"a", "bad", "absent", "b", NULL}, &err),
			 -ERR_INTERNAL);
	assert_string_equal(err.text, "cannot drop \"bad\": y: internal");
	assert_int_equal(calls, 4);
}

static void what_is_missing_may_be_fine(void **state)
{
	struct err err = ERR_INIT;

	assert_int_equal(each(true, (const char *const[]){"absent", NULL}, &err), 0);
	assert_int_equal(each(false, (const char *const[]){"absent", NULL}, &err), -ERR_NOT_FOUND);
	assert_int_equal(each(true, (const char *const[]){"absent", "bad", NULL}, &err),
			 -ERR_INTERNAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ages_read_as_people_say_them),
		cmocka_unit_test(local_times_carry_their_offset),
		cmocka_unit_test(label_masks_name_each_label),
		cmocka_unit_test(all_are_tried_and_the_first_error_is_the_result),
		cmocka_unit_test(what_is_missing_may_be_fine),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
