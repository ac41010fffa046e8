/* SPDX-License-Identifier: Apache-2.0 */
/* How long output is waited for at a process's end, with a clock that only the tests move. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/path.h"
#include "base/time.h"
#include "shim/pio.h"

#define SECONDS(s) ((int64_t)((s) * (double)NSEC_PER_SEC))

static int64_t now = NSEC_PER_SEC;

int64_t __wrap_time_mono(void);

int64_t __wrap_time_mono(void)
{
	return now;
}

struct fixture {
	struct loop *loop;
	struct pio *io;
	char dir[32], out[64];
	int fifo; /* the client's end */
	int held; /* the process's output, in somebody else's hands */
	int done;
};

static void ready(void *arg, const struct err *err)
{
	assert_null(err);
}

static void count(void *arg)
{
	(*(int *)arg)++;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct err err = ERR_INIT;

	assert_non_null(f);
	strcpy(f->dir, "/tmp/test_pio.XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->out, sizeof(f->out), "%s/out", f->dir);
	assert_int_equal(mkfifo(f->out, 0600), 0);
	f->fifo = open(f->out, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	assert_true(f->fifo >= 0);
	assert_int_equal(loop_new(&f->loop), 0);
	struct pio_options o = {
		.loop = f->loop, .ns = "ns1", .id = "c1", .in = "", .out = f->out, .err = ""};
	if (pio_open(&o, ready, f, &f->io, &err) < 0)
		fail_msg("%s", err.text);
	f->held = fcntl(pio_child_fd(f->io, 1), F_DUPFD_CLOEXEC, 3);
	assert_true(f->held >= 0);
	assert_int_equal(fcntl(f->held, F_SETFL, O_NONBLOCK), 0);
	assert_int_equal(pio_start(f->io, -1, &err), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	if (f->held >= 0)
		close(f->held);
	close(f->fifo);
	loop_free(f->loop);
	rm_rf(AT_FDCWD, f->dir);
	free(f);
	return 0;
}

/* What there is to do by now is done. */
static void turn(struct fixture *f)
{
	for (int i = 0; i < 20; i++)
		assert_int_equal(loop_run_once(f->loop, 0), 0);
}

static void later(struct fixture *f, double seconds)
{
	for (int64_t end = now + SECONDS(seconds); now < end;) {
		now += MIN(end - now, SECONDS(0.1));
		turn(f);
	}
}

/* Bytes that did go out. */
static size_t fill(int fd)
{
	char chunk[4096] = {0};
	size_t n = 0;

	for (ssize_t w; (w = write(fd, chunk, sizeof(chunk))) > 0;)
		n += (size_t)w;
	assert_int_equal(errno, EAGAIN);
	return n;
}

static size_t take(struct fixture *f, size_t max)
{
	char chunk[4096];
	size_t n = 0;

	for (ssize_t r; n < max && (r = read(f->fifo, chunk, sizeof(chunk))) > 0;)
		n += (size_t)r;
	return n;
}

static void the_end_of_the_output_is_the_end_of_the_wait(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(write(f->held, "abc", 3), 3);
	pio_finish(f->io, count, &f->done);
	turn(f);
	assert_int_equal(f->done, 0);
	close(f->held);
	f->held = -1;
	turn(f);
	assert_int_equal(f->done, 1);
	assert_int_equal(take(f, 10), 3);
}

static void who_holds_the_output_and_is_silent_is_not_waited_for(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(write(f->held, "abc", 3), 3);
	turn(f);
	pio_finish(f->io, count, &f->done);
	later(f, 1.5);
	assert_int_equal(f->done, 0);
	later(f, 1);
	assert_int_equal(f->done, 1);
	assert_int_equal(take(f, 10), 3);
}

static void output_that_goes_on_is_waited_for(void **state)
{
	struct fixture *f = *state;

	pio_finish(f->io, count, &f->done);
	for (int i = 0; i < 6; i++) {
		later(f, 1.5);
		assert_int_equal(f->done, 0);
		assert_int_equal(write(f->held, "x", 1), 1);
	}
	turn(f);
	close(f->held);
	f->held = -1;
	turn(f);
	assert_int_equal(f->done, 1);
	assert_int_equal(take(f, 10), 6);
}

static void output_without_end_is_given_up(void **state)
{
	struct fixture *f = *state;

	pio_finish(f->io, count, &f->done);
	for (int i = 0; i < 9; i++) {
		assert_int_equal(write(f->held, "x", 1), 1);
		later(f, 1);
		assert_int_equal(f->done, 0);
	}
	assert_int_equal(write(f->held, "x", 1), 1);
	later(f, 1.5);
	assert_int_equal(f->done, 1);
}

static void a_reader_that_is_slow_gets_all(void **state)
{
	struct fixture *f = *state;
	size_t written = fill(f->held), got = 0;

	turn(f);
	written += fill(f->held);
	close(f->held);
	f->held = -1;
	pio_finish(f->io, count, &f->done);
	for (int i = 0; i < 5; i++) {
		later(f, 1.5);
		assert_int_equal(f->done, 0);
		got += take(f, 8192);
	}
	for (int i = 0; i < 100 && !f->done; i++) {
		got += take(f, 65536);
		turn(f);
	}
	assert_int_equal(f->done, 1);
	got += take(f, SIZE_MAX);
	assert_int_equal(got, written);
}

static void output_that_nobody_reads_is_given_up(void **state)
{
	struct fixture *f = *state;

	(void)fill(f->held);
	turn(f);
	(void)fill(f->held);
	close(f->held);
	f->held = -1;
	pio_finish(f->io, count, &f->done);
	later(f, 1.5);
	assert_int_equal(f->done, 0);
	later(f, 1);
	assert_int_equal(f->done, 1);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(the_end_of_the_output_is_the_end_of_the_wait),
		T(who_holds_the_output_and_is_silent_is_not_waited_for),
		T(output_that_goes_on_is_waited_for),
		T(output_without_end_is_given_up),
		T(a_reader_that_is_slow_gets_all),
		T(output_that_nobody_reads_is_given_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
