/* SPDX-License-Identifier: Apache-2.0 */
/* trace: what is written is JSON that viewers read. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/trace.h"

static char path[] = "/tmp/test_trace.XXXXXX";

static int setup(void **state)
{
	int fd;

	strcpy(path + sizeof(path) - 7, "XXXXXX");
	fd = mkstemp(path);
	if (fd < 0)
		return -1;
	close(fd);
	return 0;
}

static int teardown(void **state)
{
	trace_close();
	return unlink(path);
}

static json_t *load(void)
{
	json_error_t e;
	json_t *j = json_load_file(path, 0, &e);

	if (!j)
		fail_msg("line %d: %s", e.line, e.text);
	assert_true(json_is_array(j));
	return j;
}

static const char *text(const json_t *event, const char *key)
{
	return json_string_value(json_object_get(event, key));
}

static void without_a_file_nothing_is_traced(void **state)
{
	struct trace_span s = trace_span_begin("test", "unseen", NULL, NULL);

	assert_int_equal(s.begin, 0);
	trace_span_end(&s);
	trace_flush();
	trace_close();
	assert_int_equal(trace_open("/proc/nonexistent/trace"), -ENOENT);
	assert_false(atomic_load(&trace_on));
}

static void spans_become_complete_events(void **state)
{
	assert_int_equal(trace_open(path), 0);
	{
		TRACE_SPAN("outer", "one");
		TRACE_SPAN("inner", "two", "key", "value");
		usleep(2000);
	}
	trace_close();

	json_t *j = load();
	json_t *inner = json_array_get(j, 0), *outer = json_array_get(j, 1);

	assert_int_equal(json_array_size(j), 2);
	assert_string_equal(text(outer, "ph"), "X");
	assert_string_equal(text(outer, "cat"), "outer");
	assert_string_equal(text(outer, "name"), "one");
	assert_null(json_object_get(outer, "args"));
	assert_string_equal(text(inner, "name"), "two");
	assert_string_equal(text(json_object_get(inner, "args"), "key"), "value");
	assert_int_equal(json_integer_value(json_object_get(inner, "pid")), getpid());
	assert_true(json_real_value(json_object_get(inner, "dur")) >= 2000.0);
	assert_true(json_real_value(json_object_get(outer, "ts")) <=
		    json_real_value(json_object_get(inner, "ts")));
	json_decref(j);
}

static void no_text_breaks_the_json(void **state)
{
	char large[4096];

	memset(large, '"', sizeof(large) - 1);
	large[sizeof(large) - 1] = '\0';
	assert_int_equal(trace_open(path), 0);
	for (int i = 0; i < 3; i++) {
		TRACE_SPAN("test", i ? large : "a\\\"\n\x01z", large, i ? large : NULL);
	}
	trace_close();

	json_t *j = load();

	assert_int_equal(json_array_size(j), 3);
	assert_string_equal(text(json_array_get(j, 0), "name"), "a\\\"\n\x01z");
	json_decref(j);
}

static void no_events_are_an_empty_array(void **state)
{
	assert_int_equal(trace_open(path), 0);
	trace_close();

	json_t *j = load();

	assert_int_equal(json_array_size(j), 0);
	json_decref(j);
}

#define THREADS 4
#define SPANS 2000

static void *many(void *arg)
{
	for (int i = 0; i < SPANS; i++) {
		TRACE_SPAN("test", "many", "argument", "of some length to fill the buffer");
	}
	return NULL;
}

static void threads_lose_nothing_when_the_buffer_is_full(void **state)
{
	pthread_t t[THREADS];

	assert_int_equal(trace_open(path), 0);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, many, NULL), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	trace_close();

	json_t *j = load();

	assert_int_equal(json_array_size(j), THREADS * SPANS);
	json_decref(j);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_a_file_nothing_is_traced),
		cmocka_unit_test_setup_teardown(spans_become_complete_events, setup, teardown),
		cmocka_unit_test_setup_teardown(no_text_breaks_the_json, setup, teardown),
		cmocka_unit_test_setup_teardown(no_events_are_an_empty_array, setup, teardown),
		cmocka_unit_test_setup_teardown(threads_lose_nothing_when_the_buffer_is_full, setup,
						teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
