/* SPDX-License-Identifier: Apache-2.0 */
/* The test plays the shim: it opens the other ends of the FIFOs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/path.h"
#include "client/io.h"

struct fixture {
	char dir[32];
	int saved[2];
	int in[2], out[2]; /* pipes in the places of standard input and output */
};

static int setup(void **state)
{
	static struct fixture f;

	strcpy(f.dir, "/tmp/test-io-XXXXXX");
	assert_non_null(mkdtemp(f.dir));
	assert_int_equal(pipe2(f.in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(f.out, O_CLOEXEC), 0);
	fflush(stdout);
	f.saved[0] = dup(0);
	f.saved[1] = dup(1);
	dup2(f.in[0], 0);
	dup2(f.out[1], 1);
	close(f.in[0]);
	close(f.out[1]);
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	dup2(f->saved[0], 0);
	dup2(f->saved[1], 1);
	close(f->saved[0]);
	close(f->saved[1]);
	fd_closep(&f->in[1]);
	fd_closep(&f->out[0]);
	rm_rf(AT_FDCWD, f->dir);
	return 0;
}

static struct client_io *make(struct fixture *f)
{
	struct client_io *io;
	struct err err;

	if (client_io_new(&(struct client_io_options){.dir = f->dir, .id = "x"}, &io, &err) < 0)
		fail_msg("%s", err.text);
	return io;
}

static size_t entries(const char *dir)
{
	DIR *d = opendir(dir);
	size_t n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n - 2;
}

static void read_exactly(int fd, const char *want)
{
	char got[64] = "";

	assert_int_equal(fd_read_full(fd, got, strlen(want)), (int)strlen(want));
	assert_string_equal(got, want);
}

static void output_that_is_left_at_the_end_is_copied(void **state)
{
	struct fixture *f = *state;
	struct client_io *io = make(f);
	struct err err;
	int out = open(client_io_stdout(io), O_WRONLY);

	assert_true(out >= 0);
	assert_int_equal(client_io_run(io, &err), 0);
	assert_int_equal(write(out, "first ", 6), 6);
	read_exactly(f->out[0], "first ");
	assert_int_equal(write(out, "last", 4), 4);
	close(out);
	assert_int_equal(client_io_finish(io, &err), 0);
	read_exactly(f->out[0], "last");
	client_io_free(io);
	assert_int_equal(entries(f->dir), 0);
}

static void a_shim_that_keeps_its_ends_open_does_not_hold_us(void **state)
{
	struct fixture *f = *state;
	struct client_io *io = make(f);
	struct err err;
	int out = open(client_io_stdout(io), O_RDWR);

	assert_int_equal(client_io_run(io, &err), 0);
	assert_int_equal(write(out, "x", 1), 1);
	assert_int_equal(client_io_finish(io, &err), 0);
	client_io_free(io);
	close(out);
}

static void a_shim_that_never_comes_does_not_hold_us(void **state)
{
	struct client_io *io = make(*state);
	struct err err;

	assert_int_equal(client_io_run(io, &err), 0);
	assert_int_equal(client_io_finish(io, &err), 0);
	client_io_free(io);
}

static void end_of_our_input_is_told_after_its_data(void **state)
{
	struct fixture *f = *state;
	struct client_io *io = make(f);
	struct err err;
	int in = open(client_io_stdin(io), O_RDONLY);
	struct pollfd p = {.fd = client_io_stdin_ended_fd(io), .events = POLLIN};

	assert_true(p.fd >= 0);
	assert_int_equal(client_io_run(io, &err), 0);
	assert_int_equal(write(f->in[1], "hello", 5), 5);
	read_exactly(in, "hello");
	assert_int_equal(poll(&p, 1, 0), 0);
	fd_closep(&f->in[1]);
	f->in[1] = -1;
	assert_int_equal(poll(&p, 1, 60000), 1);
	assert_int_equal(client_io_finish(io, &err), 0);
	client_io_free(io);
	close(in);
}

static void a_closed_output_is_reported(void **state)
{
	struct fixture *f = *state;
	struct client_io *io = make(f);
	struct err err;
	int out = open(client_io_stdout(io), O_WRONLY);
	struct pollfd p = {.fd = client_io_failed_fd(io), .events = POLLIN};

	fd_closep(&f->out[0]);
	f->out[0] = -1;
	assert_int_equal(client_io_run(io, &err), 0);
	assert_int_equal(write(out, "x", 1), 1);
	assert_int_equal(poll(&p, 1, 60000), 1);
	assert_int_equal(client_io_finish(io, &err), -ERR_UNAVAILABLE);
	client_io_free(io);
	close(out);
}

static void left_fifos_stay_until_they_are_removed(void **state)
{
	struct arena *a _cleanup_arena_ = arena_new(0);
	struct fixture *f = *state;
	struct client_io *io = make(f);
	char *in = arena_strdup(a, client_io_stdin(io)),
	     *out = arena_strdup(a, client_io_stdout(io));
	char *errors = arena_strdup(a, client_io_stderr(io));

	client_io_leave(io);
	client_io_free(io);
	assert_int_equal(entries(f->dir), 1);
	assert_int_equal(access(out, F_OK), 0);
	client_io_remove_fifos(a, in, out, errors);
	assert_int_equal(entries(f->dir), 0);
}

static void log_uri_needs_a_scheme_and_no_terminal(void **state)
{
	struct client_io *io;
	struct err err;

	assert_int_equal(client_io_new(&(struct client_io_options){.log_uri = "/x"}, &io, &err),
			 -ERR_INVALID_ARGUMENT);
	assert_int_equal(
		client_io_new(&(struct client_io_options){.log_uri = "file:///x", .terminal = true},
			      &io, &err),
		-ERR_INVALID_ARGUMENT);
	assert_int_equal(
		client_io_new(&(struct client_io_options){.log_uri = "file:///x"}, &io, &err), 0);
	assert_string_equal(client_io_stdin(io), "");
	assert_string_equal(client_io_stdout(io), "file:///x");
	client_io_free(io);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(output_that_is_left_at_the_end_is_copied),
		TEST(a_shim_that_keeps_its_ends_open_does_not_hold_us),
		TEST(a_shim_that_never_comes_does_not_hold_us),
		TEST(end_of_our_input_is_told_after_its_data),
		TEST(a_closed_output_is_reported),
		TEST(left_fifos_stay_until_they_are_removed),
		cmocka_unit_test(log_uri_needs_a_scheme_and_no_terminal),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
