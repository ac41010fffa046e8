/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "base/time.h"

struct fix {
	struct arena *a;
	int p[2];
};

static int setup(void **state)
{
	struct fix *f = calloc(1, sizeof(*f));
	assert_non_null(f);
	f->a = arena_new(0);
	assert_int_equal(pipe2(f->p, O_CLOEXEC | O_NONBLOCK), 0);
	log_set_fd(f->p[1]);
	log_setup(LOG_INFO, false);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fix *f = *state;
	log_set_fd(2);
	close(f->p[0]);
	close(f->p[1]);
	arena_free(f->a);
	free(f);
	return 0;
}

/* The line that was written, without its time. */
static char *line(struct fix *f)
{
	char text[8192];
	ssize_t n = read(f->p[0], text, sizeof(text) - 1);
	if (n <= 0)
		return NULL;
	assert_int_equal(text[n - 1], '\n');
	text[n - 1] = 0;
	assert_null(strchr(text, '\n'));
	return arena_strdup(f->a, text);
}

static char *text_line(struct fix *f)
{
	struct timespec t;
	char *s = line(f);
	assert_non_null(s);
	assert_true(str_has_prefix(s, "time=\""));
	char *end = strchr(s + 6, '"');
	assert_int_equal(time_parse_rfc3339(arena_strndup(f->a, s + 6, (size_t)(end - s - 6)), &t),
			 0);
	return end + 2;
}

static json_t *json_line(struct fix *f)
{
	json_error_t e;
	char *s = line(f);
	assert_non_null(s);
	json_t *j = json_loads(s, JSON_REJECT_DUPLICATES, &e);
	if (!j)
		fail_msg("%s: %s", e.text, s);
	return j;
}

static const char *member(const json_t *j, const char *key)
{
	return json_string_value(json_object_get(j, key));
}

static void text_is_quoted_where_needed(void **state)
{
	struct fix *f = *state;
	log_info("hello");
	assert_string_equal(text_line(f), "level=info msg=hello");
	log_at(LOG_WARN, LOG_FIELDS("id", "a/b-c.d_e@f^g+h", "empty", "", "eq", "a=b"),
	       "two words");
	assert_string_equal(
		text_line(f),
		"level=warning msg=\"two words\" id=a/b-c.d_e@f^g+h empty=\"\" eq=\"a=b\"");
	log_error("say \"x\" \\ and\n\tso\x01on");
	assert_string_equal(text_line(f),
			    "level=error msg=\"say \\\"x\\\" \\\\ and\\n\\tso\\u0001on\"");
}

static void json_says_what_was_said(void **state)
{
	struct fix *f = *state;
	log_setup(LOG_INFO, true);
	log_at(LOG_WARN, LOG_FIELDS("a \"key\"", "v\\", "empty", ""),
	       "q\" b\\ n\n t\t r\r c\x01 d\x7f \xc3\xa9 \xf0\x9f\x98\x80");
	json_t *j = json_line(f);
	struct timespec t;
	assert_string_equal(member(j, "level"), "warning");
	assert_string_equal(member(j, "msg"),
			    "q\" b\\ n\n t\t r\r c\x01 d\x7f \xc3\xa9 \xf0\x9f\x98\x80");
	assert_string_equal(member(j, "a \"key\""), "v\\");
	assert_string_equal(member(j, "empty"), "");
	assert_int_equal(time_parse_rfc3339(member(j, "time"), &t), 0);
	json_decref(j);
}

static void bytes_that_are_not_utf8_do_not_break_json(void **state)
{
	struct fix *f = *state;
	static const char *const bad[] = {"\xff",
					  "\xc3",
					  "\xc0\x80",
					  "\xe0\x80\x80",
					  "\xed\xa0\x80",
					  "\xf4\x90\x80\x80",
					  "\xf0\x80\x80\x80",
					  "\xf5\x80\x80\x80",
					  "\x80",
					  "\xe2\x82",
					  "\xf0\x9f\x98",
					  "a\xc3("};
	log_setup(LOG_INFO, true);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		log_info("<%s>", bad[i]);
		json_t *j = json_line(f);
		assert_non_null(strstr(member(j, "msg"), "\xef\xbf\xbd"));
		assert_true(str_has_suffix(member(j, "msg"), ">"));
		json_decref(j);
	}
}

static void long_lines_are_cut_and_stay_whole(void **state)
{
	struct fix *f = *state;
	static char big[6000], controls[6000], quotes[6000], letters[6000];
	memset(big, 'x', sizeof(big) - 1);
	memset(controls, 1, sizeof(controls) - 1);
	memset(quotes, '"', sizeof(quotes) - 1);
	for (size_t i = 0; i + 3 < sizeof(letters); i += 3)
		memcpy(letters + i, "\xe2\x82\xac", 3);
	const char *const all[] = {big, controls, quotes, letters};
	for (int json = 0; json < 2; json++)
		for (size_t i = 0; i < ARRAY_LEN(all); i++) {
			log_setup(LOG_INFO, json);
			log_at(LOG_INFO, LOG_FIELDS(all[i], all[i], "last", "one"), "%s", all[i]);
			if (!json) {
				char *s = text_line(f);
				assert_true(strlen(s) > 2000 && strlen(s) < 4096);
				continue;
			}
			json_t *j = json_line(f);
			assert_true(strlen(member(j, "msg")) > 500);
			assert_non_null(member(j, "time"));
			json_decref(j);
		}
	/* A crowd of fields. */
	const char *fields[2001];
	for (size_t i = 0; i < 2000; i++)
		fields[i] = i % 2 ? "" : arena_printf(f->a, "f%zu", i);
	fields[2000] = NULL;
	log_write(LOG_INFO, fields, "m");
	json_t *j = json_line(f);
	assert_non_null(member(j, "time"));
	assert_string_equal(member(j, "f0"), "");
	json_decref(j);
}

static void level_is_what_counts(void **state)
{
	struct fix *f = *state;
	enum log_level l;
	log_setup(LOG_WARN, false);
	log_info("not this");
	assert_null(line(f));
	log_warn("this");
	assert_non_null(line(f));
	static const struct {
		const char *name;
		enum log_level l;
	} t[] = {{"trace", LOG_TRACE}, {"DEBUG", LOG_DEBUG},  {"info", LOG_INFO},
		 {"warn", LOG_WARN},   {"Warning", LOG_WARN}, {"WARN", LOG_WARN},
		 {"error", LOG_ERROR}, {"fatal", LOG_FATAL},  {"panic", LOG_PANIC}};
	for (size_t i = 0; i < ARRAY_LEN(t); i++) {
		assert_int_equal(log_level_parse(t[i].name, &l), 0);
		assert_int_equal(l, t[i].l);
	}
	assert_int_equal(log_level_parse("loud", &l), -EINVAL);
	assert_int_equal(log_level_parse("", &l), -EINVAL);
	assert_string_equal(log_level_name(LOG_WARN), "warning");
}

static void errno_survives(void **state)
{
	struct fix *f = *state;
	errno = ENOTTY;
	log_info("x");
	assert_int_equal(errno, ENOTTY);
	assert_non_null(line(f));
	log_set_fd(-1);
	errno = ENOTTY;
	log_info("nowhere");
	assert_int_equal(errno, ENOTTY);
}

static void *chatter(void *arg)
{
	for (int i = 0; i < 20; i++)
		log_info("%s", (const char *)arg);
	return NULL;
}

static void lines_of_threads_do_not_mix(void **state)
{
	struct fix *f = *state;
	pthread_t t[4];
	static char text[4][200];
	char *all = arena_zalloc(f->a, 1 << 16);
	for (int i = 0; i < 4; i++) {
		memset(text[i], 'a' + i, sizeof(text[i]) - 1);
		assert_int_equal(pthread_create(&t[i], NULL, chatter, text[i]), 0);
	}
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	assert_true(read(f->p[0], all, (1 << 16) - 1) > 0);
	int n = 0;
	for (char *p = strtok(all, "\n"); p; p = strtok(NULL, "\n"), n++) {
		char *msg = strstr(p, "msg=");
		assert_non_null(msg);
		assert_int_equal(strlen(msg + 4), 199);
		assert_int_equal(strspn(msg + 4, (char[]){msg[4], 0}), 199);
	}
	assert_int_equal(n, 80);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(text_is_quoted_where_needed),
		T(json_says_what_was_said),
		T(bytes_that_are_not_utf8_do_not_break_json),
		T(long_lines_are_cut_and_stay_whole),
		T(level_is_what_counts),
		T(errno_survives),
		T(lines_of_threads_do_not_mix),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
