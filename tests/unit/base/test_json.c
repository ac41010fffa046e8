/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/str.h"

#define STACK (128u << 10) /* half of what a pool thread has */

static void nest(struct buf *b, size_t depth, bool objects)
{
	for (size_t i = 0; i < depth; i++)
		buf_adds(b, objects ? "{\"a\":" : "[");
	buf_adds(b, "\"]}]}\\\"[[{{\"");
	for (size_t i = 0; i < depth; i++)
		buf_addc(b, objects ? '}' : ']');
	assert_true(buf_ok(b));
}

static void *read_copy_and_write(void *arg)
{
	const struct buf *b = arg;
	json_t *j _cleanup_json_ = NULL, *copy _cleanup_json_ = NULL;
	char *text;

	if (json_parse(b->data, b->len, &j, NULL) < 0)
		return NULL;
	copy = json_deep_copy(j);
	text = copy && json_equal(copy, j) ? json_dumps(copy, JSON_COMPACT) : NULL;
	return text;
}

static void what_is_read_can_be_written_on_the_stack_of_a_pool_thread(void **state)
{
	pthread_attr_t attr;

	(void)state;
	assert_int_equal(pthread_attr_init(&attr), 0);
	assert_int_equal(pthread_attr_setstacksize(&attr, STACK), 0);
	for (int objects = 0; objects < 2; objects++) {
		struct buf b _cleanup_buf_ = BUF_INIT;
		pthread_t t;
		void *text;

		nest(&b, JSON_DEPTH_MAX, objects);
		assert_int_equal(pthread_create(&t, &attr, read_copy_and_write, &b), 0);
		assert_int_equal(pthread_join(t, &text), 0);
		assert_non_null(text);
		assert_string_equal(text, b.data);
		free(text);
	}
	pthread_attr_destroy(&attr);
}

static void what_is_deeper_is_refused(void **state)
{
	(void)state;
	for (int objects = 0; objects < 2; objects++) {
		struct buf b _cleanup_buf_ = BUF_INIT;
		struct err err = ERR_INIT;
		json_t *j = NULL;

		nest(&b, JSON_DEPTH_MAX + 1, objects);
		assert_int_equal(json_parse(b.data, b.len, &j, &err), -ERR_INVALID_ARGUMENT);
		assert_non_null(strstr(err.text, "depth"));
		assert_null(j);
	}
}

static void what_follows_one_another_is_not_deep(void **state)
{
	struct buf b _cleanup_buf_ = BUF_INIT;
	json_t *j _cleanup_json_ = NULL;

	(void)state;
	buf_addc(&b, '[');
	for (int i = 0; i < 10000; i++)
		buf_adds(&b, "[{}],\"[\",");
	buf_adds(&b, "\"\\\\\"]");
	assert_int_equal(json_parse(b.data, b.len, &j, NULL), 0);
	assert_int_equal(json_array_size(j), 20001);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_read_can_be_written_on_the_stack_of_a_pool_thread),
		cmocka_unit_test(what_is_deeper_is_refused),
		cmocka_unit_test(what_follows_one_another_is_not_deep),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
