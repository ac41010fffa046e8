/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/time.h"
#include "shim/sink.h"
#include "sys/attach.h"

struct fixture {
	struct arena *a;
	struct loop *loop;
	struct sink *sink;
	char dir[32];
	char *log, *socket;
	int w[2]; /* writing ends */
	int ended;
};

static void count(void *arg)
{
	(*(int *)arg)++;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct sink_options o = {0};

	f->a = arena_new(0);
	strcpy(f->dir, "/tmp/sink-XXXXXX");
	if (!mkdtemp(f->dir) || loop_new(&f->loop) < 0)
		return -1;
	f->log = path_join(f->a, f->dir, "log");
	f->socket = path_join(f->a, f->dir, "attach");
	o = (struct sink_options){
		.loop = f->loop, .socket = f->socket, .log = f->log, .limit = 100};
	assert_int_equal(sink_open(&o, &f->sink, NULL), 0);
	for (int i = 0; i < 2; i++) {
		int p[2];
		assert_int_equal(pipe2(p, O_CLOEXEC), 0);
		f->w[i] = p[1];
		assert_int_equal(sink_start(f->sink, i, p[0], count, &f->ended), 0);
	}
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	fd_closep(&f->w[0]);
	fd_closep(&f->w[1]);
	sink_free(f->sink);
	loop_free(f->loop);
	rm_rf(AT_FDCWD, f->dir);
	arena_free(f->a);
	free(f);
	return 0;
}

/* Until nothing happens. */
static void settle(struct fixture *f)
{
	for (int i = 0; i < 20; i++)
		assert_int_equal(loop_run_once(f->loop, 0), 0);
}

static void put(struct fixture *f, int stream, const char *text)
{
	assert_int_equal(write(f->w[stream], text, strlen(text)), strlen(text));
	settle(f);
}

static void end(struct fixture *f, int stream)
{
	fd_closep(&f->w[stream]);
	f->w[stream] = -1;
	settle(f);
}

static size_t size_of(const char *path)
{
	struct stat st;

	return stat(path, &st) < 0 ? 0 : (size_t)st.st_size;
}

static int attach(struct fixture *f, unsigned streams)
{
	char request[2] = {ATTACH_BEGIN, (char)streams}, answer[2] = "";
	int fd;

	assert_int_equal(attach_connect(f->socket, &fd), 0);
	assert_int_equal(send(fd, request, 2, 0), 2);
	settle(f);
	assert_int_equal(recv(fd, answer, 2, 0), 2);
	assert_memory_equal(answer, request, 2);
	return fd;
}

static void expect(int fd, const char *packet)
{
	char got[256];
	ssize_t n = recv(fd, got, sizeof(got) - 1, 0);

	assert_true(n >= 0);
	got[n] = '\0';
	assert_string_equal(got, packet);
}

static void output_goes_to_the_log_and_to_clients(void **state)
{
	struct fixture *f = *state;
	int both = attach(f, 3), errors = attach(f, 2);
	char *text;
	size_t n;

	put(f, 0, "out\n");
	put(f, 1, "err");
	expect(both, "oout\n");
	expect(both, "eerr");
	expect(errors, "eerr");
	end(f, 1);
	put(f, 0, "more\n");
	expect(both, "omore\n");
	end(f, 0);
	assert_int_equal(f->ended, 2);
	assert_false(sink_running(f->sink));
	expect(both, "");
	expect(errors, "");
	assert_int_equal(file_read(f->a, AT_FDCWD, f->log, 1000, &text, &n), 0);
	assert_non_null(strstr(text, " stdout F out\n"));
	assert_non_null(strstr(text, " stderr P err\n"));
	assert_non_null(strstr(text, " stdout F more\n"));
	close(both);
	close(errors);
}

static void log_is_reopened_when_asked_also_after_the_end(void **state)
{
	struct fixture *f = *state;
	char *old = path_join(f->a, f->dir, "old"), answer[8];
	int fd;

	put(f, 0, "one\n");
	assert_int_equal(rename(f->log, old), 0);
	assert_int_equal(attach_connect(f->socket, &fd), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(send(fd, "r", 1, 0), 1);
		settle(f);
		assert_int_equal(recv(fd, answer, sizeof(answer), 0), 5);
		assert_memory_equal(answer, "r\0\0\0\0", 5);
		if (i == 0) {
			put(f, 0, "two\n");
			assert_true(size_of(f->log) > 0);
			end(f, 0);
			end(f, 1);
			close(fd);
			assert_int_equal(attach_connect(f->socket, &fd), 0);
		}
	}
	close(fd);
}

static void reopen_that_fails_says_why(void **state)
{
	struct fixture *f = *state;
	char answer[8];
	int fd, number;

	assert_int_equal(unlink(f->log), 0);
	assert_int_equal(mkdir(f->log, 0700), 0);
	assert_int_equal(attach_connect(f->socket, &fd), 0);
	assert_int_equal(send(fd, "r", 1, 0), 1);
	settle(f);
	assert_int_equal(recv(fd, answer, sizeof(answer), 0), 5);
	memcpy(&number, answer + 1, 4);
	assert_int_equal(number, EISDIR);
	close(fd);
}

static void client_after_the_end_is_told_so(void **state)
{
	struct fixture *f = *state;

	end(f, 0);
	end(f, 1);
	int fd = attach(f, 3);
	expect(fd, "");
	close(fd);
}

static void nonsense_hangs_up_only_its_sender(void **state)
{
	struct fixture *f = *state;
	static const char *const bad[] = {"x", "b", "rrr", "b\x7f",
					  "a long packet that is no request"};
	int good = attach(f, 3), fd;

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		assert_int_equal(attach_connect(f->socket, &fd), 0);
		assert_true(send(fd, bad[i], strlen(bad[i]), 0) > 0);
		settle(f);
		expect(fd, "");
		close(fd);
	}
	put(f, 0, "x");
	expect(good, "ox");
	close(good);
}

static void clients_are_limited(void **state)
{
	struct fixture *f = *state;
	int fd[64], more;

	for (int i = 0; i < 64; i++)
		fd[i] = attach(f, 1);
	assert_int_equal(attach_connect(f->socket, &more), 0);
	settle(f);
	expect(more, "");
	close(more);
	for (int i = 0; i < 64; i++)
		close(fd[i]);
	settle(f);
	more = attach(f, 1);
	close(more);
}

static void client_that_does_not_read_is_left_behind(void **state)
{
	struct fixture *f = *state;
	static char block[60000];
	int slow = attach(f, 3);
	size_t sent = 0, got = 0;
	ssize_t n;

	memset(block, 'x', sizeof(block));
	for (int i = 0; i < 200; i++) {
		assert_int_equal(write(f->w[0], block, sizeof(block)), sizeof(block));
		sent += sizeof(block);
		settle(f);
	}
	assert_true(size_of(f->log) >= sent - 100);
	while ((n = recv(slow, block, sizeof(block), MSG_DONTWAIT)) > 0)
		got += (size_t)n;
	assert_int_equal(n, 0); /* hung up */
	assert_true(got < sent);
	close(slow);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(output_goes_to_the_log_and_to_clients),
		T(log_is_reopened_when_asked_also_after_the_end),
		T(reopen_that_fails_says_why),
		T(client_after_the_end_is_told_so),
		T(nonsense_hangs_up_only_its_sender),
		T(clients_are_limited),
		T(client_that_does_not_read_is_left_behind),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
