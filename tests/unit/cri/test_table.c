/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/str.h"
#include "base/time.h"
#include "cri/table.h"

static struct cri_object *object(const char *id)
{
	struct cri_object *o;
	assert_int_equal(cri_object_new(sizeof(*o), id, id, NULL, &o, NULL), 0);
	return o;
}

static void add(struct cri_table *t, const char *id)
{
	struct cri_object *o = object(id);
	assert_int_equal(cri_table_add(t, o, NULL), 0);
	cri_object_unref(o);
}

static void prefix_that_one_has_finds_it(void **state)
{
	struct cri_table *t = cri_table_new("container");
	struct cri_object *o;
	struct err err = ERR_INIT;

	add(t, "abc1");
	add(t, "abd2");
	add(t, "abd");
	assert_int_equal(cri_table_get(t, "abc", &o, &err), 0);
	assert_string_equal(o->id, "abc1");
	cri_object_unref(o);
	assert_int_equal(cri_table_get(t, "ab", &o, &err), -ERR_UNKNOWN);
	assert_int_equal(cri_table_get(t, "", &o, &err), -ERR_UNKNOWN);
	/* A whole id is never ambiguous. */
	assert_int_equal(cri_table_get(t, "abd", &o, &err), 0);
	assert_string_equal(o->id, "abd");
	cri_object_unref(o);
	assert_int_equal(cri_table_get(t, "x", &o, &err), -ERR_NOT_FOUND);
	assert_string_equal(err.text,
			    "an error occurred when try to find container \"x\": not found");
	cri_table_free(t);
}

static void removed_object_lives_as_long_as_its_references(void **state)
{
	struct cri_table *t = cri_table_new("container");
	struct cri_object *o, **all;
	struct arena *a = arena_new(0);
	size_t n;

	add(t, "b");
	add(t, "a");
	assert_int_equal(cri_table_list(t, a, &all, &n, NULL), 0);
	assert_int_equal(n, 2);
	assert_string_equal(all[0]->id, "a");
	cri_table_remove(t, "a");
	cri_table_remove(t, "a");
	assert_int_equal(cri_table_count(t), 1);
	assert_int_equal(cri_table_get(t, "a", &o, NULL), -ERR_NOT_FOUND);
	assert_string_equal(all[0]->name, "a");
	cri_objects_unref(all, n);
	arena_free(a);
	cri_table_free(t);
}

static void name_belongs_to_one_id_until_released(void **state)
{
	struct cri_table *t = cri_table_new("sandbox");
	struct err err = ERR_INIT;

	assert_int_equal(cri_table_reserve(t, "n", "1", &err), 0);
	assert_int_equal(cri_table_reserve(t, "n", "1", &err), 0);
	assert_int_equal(cri_table_reserve(t, "n", "2", &err), -ERR_UNKNOWN);
	assert_string_equal(
		err.text, "failed to reserve sandbox name \"n\": name \"n\" is reserved for \"1\"");
	cri_table_release(t, "2");
	assert_int_equal(cri_table_reserve(t, "n", "2", &err), -ERR_UNKNOWN);
	cri_table_release(t, "1");
	assert_int_equal(cri_table_reserve(t, "n", "2", &err), 0);
	for (char name[] = "a"; name[0] <= 'z'; name[0]++)
		assert_int_equal(cri_table_reserve(t, name, name, &err),
				 name[0] == 'n' ? -ERR_UNKNOWN : 0);
	cri_table_free(t);
}

static void second_operation_waits_no_longer_than_its_request(void **state)
{
	struct cri_object *o = object("a");
	struct ctx ctx = {.ns = "", .lease = ""};
	struct err err = ERR_INIT;

	assert_int_equal(cri_object_begin(&ctx, o, &err), 0);
	ctx.deadline = time_mono() + 20 * NSEC_PER_MSEC;
	assert_int_equal(cri_object_begin(&ctx, o, &err), -ERR_DEADLINE_EXCEEDED);
	ctx.deadline = 0;
	cri_object_end(o);
	assert_int_equal(cri_object_begin(&ctx, o, &err), 0);
	cri_object_end(o);
	cri_object_unref(o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(prefix_that_one_has_finds_it),
		cmocka_unit_test(removed_object_lives_as_long_as_its_references),
		cmocka_unit_test(name_belongs_to_one_id_until_released),
		cmocka_unit_test(second_operation_waits_no_longer_than_its_request),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
