/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/str.h"
#include "base/time.h"
#include "ctr/progress.h"

#define LAYER_A "layer-sha256:aaaaaaaaaaaabbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define LAYER_B "layer-sha256:ccccccccccccbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define MANIFEST "manifest-sha256:ddddddddddddbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

struct screen {
	struct progress p;
	struct buf text;
};

static int setup(void **state)
{
	static struct screen s;

	s = (struct screen){.p.arena = arena_new(0)};
	*state = &s;
	return s.p.arena ? 0 : -1;
}

static int teardown(void **state)
{
	struct screen *s = *state;

	arena_free(s->p.arena);
	buf_done(&s->text);
	return 0;
}

/* True when the event is worth a line. */
static bool add(struct screen *s, const char *event, const char *name, const char *parent,
		int64_t progress, int64_t total)
{
	struct progress_event e = {.event = event,
				   .name = name,
				   .parent = parent,
				   .progress = progress,
				   .total = total};
	bool changed;

	assert_int_equal(progress_add(&s->p, &e, &changed), 0);
	if (changed)
		progress_line(&s->p, &e, &s->text);
	return changed;
}

static const char *render(struct screen *s, int64_t ns, int columns, int rows)
{
	buf_clear(&s->text);
	progress_render(&s->p, ns, columns, rows, &s->text);
	assert_true(buf_ok(&s->text));
	return s->text.data;
}

static void a_line_is_made_for_each_change_of_state_only(void **state)
{
	struct screen *s = *state;

	assert_true(add(s, "Pulling from OCI Registry", "", "", 0, 0));
	assert_true(add(s, "waiting", LAYER_A, "", 0, 2 << 20));
	assert_true(add(s, "downloading", LAYER_A, "", 10, 2 << 20));
	assert_false(add(s, "downloading", LAYER_A, "", 1 << 20, 2 << 20));
	assert_true(add(s, "complete", LAYER_A, "", 2 << 20, 2 << 20));
	assert_true(add(s, "saved", "docker.io/library/x:1", "", 0, 0));
	assert_string_equal(s->text.data, "Pulling from OCI Registry\n"
					  "layer (aaaaaaaaaaaa): waiting\n"
					  "layer (aaaaaaaaaaaa): downloading (2.0 MiB)\n"
					  "layer (aaaaaaaaaaaa): complete (2.0 MiB)\n"
					  "docker.io/library/x:1: saved\n");
}

static void picture_shows_step_objects_below_their_parents_and_the_sum(void **state)
{
	struct screen *s = *state;

	add(s, "fetching image content", "", "", 0, 0);
	add(s, "complete", MANIFEST, "", 500, 500);
	add(s, "downloading", LAYER_A, MANIFEST, 1 << 20, 2 << 20);
	add(s, "waiting", LAYER_B, MANIFEST, 0, 1 << 20);
	assert_string_equal(
		render(s, 2 * NSEC_PER_SEC, 80, 24),
		"fetching image content\n"
		"manifest (dddddddddddd)  complete     [===============]  500.0 B\n"
		"  layer (aaaaaaaaaaaa)   downloading  [======>        ]  1.0 MiB/2.0 MiB\n"
		"  layer (cccccccccccc)   waiting      [               ]  0.0 B/1.0 MiB\n"
		"elapsed: 2.0 s  total: 1.0 MiB (512.0 KiB/s)\n");
}

static void bytes_that_were_there_before_are_not_counted(void **state)
{
	struct screen *s = *state;

	add(s, "already exists", LAYER_A, "", 1 << 20, 1 << 20);
	add(s, "extracted", LAYER_A, "", 1 << 20, 1 << 20);
	add(s, "downloading", LAYER_B, "", 1 << 18, 1 << 19);
	add(s, "complete", LAYER_B, "", 1 << 19, 1 << 19);
	add(s, "extracting", LAYER_B, "", 0, 1 << 19);
	buf_clear(&s->text);
	progress_summary(&s->p, NSEC_PER_SEC, &s->text);
	assert_string_equal(s->text.data, "elapsed: 1.0 s  total: 512.0 KiB (512.0 KiB/s)\n");
}

static size_t widest(const char *text)
{
	size_t max = 0;

	for (; *text; text += strcspn(text, "\n") + (text[strcspn(text, "\n")] != 0))
		max = MAX(max, strcspn(text, "\n"));
	return max;
}

static size_t count_lines(const char *text)
{
	size_t n = 0;

	for (; *text; text++)
		n += *text == '\n';
	return n;
}

static void no_line_is_wider_than_the_terminal(void **state)
{
	struct screen *s = *state;
	static const int widths[] = {20, 30, 40, 60, 79, 200};

	add(s, "a step with quite a long text, longer than many a terminal is wide", "", "", 0, 0);
	add(s, "downloading", LAYER_A, "", 1023LL << 20, 1024LL << 20);
	add(s, "an event that nobody would have expected to be so very long as this", LAYER_B,
	    LAYER_A, 1, 0);
	for (size_t i = 0; i < ARRAY_LEN(widths); i++) {
		const char *text = render(s, NSEC_PER_SEC, widths[i], 24);

		/* The sum has a width of its own. */
		*(strstr(text, "elapsed: ")) = '\0';
		assert_true(widest(text) <= (size_t)widths[i]);
	}
}

static void picture_is_not_higher_than_the_terminal(void **state)
{
	struct screen *s = *state;
	char name[32];

	add(s, "step", "", "", 0, 0);
	for (int i = 0; i < 100; i++) {
		snprintf(name, sizeof(name), "object%d", i);
		add(s, "waiting", name, "", 0, 1);
	}
	assert_true(count_lines(render(s, 0, 80, 24)) < 24);
	assert_non_null(strstr(s->text.data, "object99 "));
	assert_null(strstr(s->text.data, "object1 "));
}

static void control_characters_of_names_are_not_printed(void **state)
{
	struct screen *s = *state;

	add(s, "sa\033[2Jved", "na\nme\033[1m", "", 0, 0);
	add(s, "waiting", "layer-sha256:\033[2Jaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "", 0, 0);
	add(s, "st\033ep", "", "", 0, 0);
	assert_null(strchr(s->text.data, '\033'));
	assert_null(strchr(render(s, 0, 80, 24), '\033'));
	assert_int_equal(count_lines(s->text.data), 4);
}

static void objects_that_are_each_others_parents_do_no_harm(void **state)
{
	struct screen *s = *state;

	add(s, "waiting", "a", "", 0, 0);
	add(s, "waiting", "b", "a", 0, 0);
	add(s, "waiting", "a", "b", 0, 0);
	add(s, "waiting", "c", "c", 0, 0);
	assert_non_null(strstr(render(s, 0, 80, 24), "c "));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_line_is_made_for_each_change_of_state_only, setup,
						teardown),
		cmocka_unit_test_setup_teardown(
			picture_shows_step_objects_below_their_parents_and_the_sum, setup,
			teardown),
		cmocka_unit_test_setup_teardown(bytes_that_were_there_before_are_not_counted, setup,
						teardown),
		cmocka_unit_test_setup_teardown(no_line_is_wider_than_the_terminal, setup,
						teardown),
		cmocka_unit_test_setup_teardown(picture_is_not_higher_than_the_terminal, setup,
						teardown),
		cmocka_unit_test_setup_teardown(control_characters_of_names_are_not_printed, setup,
						teardown),
		cmocka_unit_test_setup_teardown(objects_that_are_each_others_parents_do_no_harm,
						setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
