/* SPDX-License-Identifier: Apache-2.0 */
/* Copying from fifos, and attaching to what is copied: with a loop and a pool, without a shim. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "base/time.h"
#include "cri/io_flow.h"
#include "cri/io_internal.h"
#include "event/loop.h"
#include "event/pool.h"

struct fixture {
	struct cri c;
	struct arena *a;
	struct ctx ctx;
	pthread_t thread;
	char top[32];
	struct cri_io_options o;
	struct cri_container *k;
};

static void *loop_thread(void *arg)
{
	struct fixture *f = arg;

	if (loop_run(f->c.o.loop) < 0)
		abort();
	return NULL;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	signal(SIGPIPE, SIG_IGN);
	f->a = arena_new(0);
	f->ctx = (struct ctx){.arena = f->a, .ns = "k8s.io", .lease = ""};
	strcpy(f->top, "/tmp/criio-XXXXXX");
	if (!mkdtemp(f->top) || loop_new(&f->c.o.loop) < 0 || pool_new(0, &f->c.o.pool) < 0)
		return -1;
	f->o = (struct cri_io_options){.dir = path_join(f->a, f->top, "io"),
				       .id = "c",
				       .stdin_ = true,
				       .log_path = path_join(f->a, f->top, "log"),
				       .max_line = 100};
	assert_int_equal(cri_object_new(sizeof(*f->k), "c", "c", NULL, &f->k, NULL), 0);
	f->k->status.created_at = f->k->status.started_at = 1;
	f->k->status.reason = f->k->status.message = "";
	*state = f;
	return pthread_create(&f->thread, NULL, loop_thread, f);
}

static void stop_loop(void *arg)
{
	struct fixture *f = arg;

	loop_stop(f->c.o.loop);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	f->c.stopping = true;
	if (f->k->io)
		cri_io_free(f->k->io);
	pool_free(f->c.o.pool);
	assert_int_equal(loop_post(f->c.o.loop, stop_loop, f), 0);
	pthread_join(f->thread, NULL);
	loop_free(f->c.o.loop);
	cri_object_unref(&f->k->o);
	rm_rf(AT_FDCWD, f->top);
	arena_free(f->a);
	free(f);
	return 0;
}

static void make(struct fixture *f)
{
	struct err err = ERR_INIT;

	if (cri_io_new(&f->ctx, &f->c, &f->o, &f->k->io, &err) < 0)
		fail_msg("%s", err.text);
}

/* The shim's end of an output: it holds both. */
static int writer(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static void put(int fd, const char *text)
{
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

/* Text of the log without times, once there are @lines of it. */
static char *log_text(struct fixture *f, size_t lines)
{
	int64_t until = time_mono() + 60 * NSEC_PER_SEC;

	for (;;) {
		char *text, *out, *o;
		size_t n, have = 0;

		assert_int_equal(file_read(f->a, AT_FDCWD, f->o.log_path, 1 << 20, &text, &n), 0);
		for (size_t i = 0; i < n; i++)
			have += text[i] == '\n';
		if (have < lines) {
			assert_true(time_mono() < until);
			usleep(1000);
			continue;
		}
		o = out = arena_alloc(f->a, n + 1);
		for (char *save, *line = strtok_r(text, "\n", &save); line;
		     line = strtok_r(NULL, "\n", &save))
			o += sprintf(o, "%s|", strchr(line, ' ') + 1);
		return out;
	}
}

static void finish(struct fixture *f)
{
	struct ctx limited = {.arena = f->a, .deadline = time_mono() + 120 * NSEC_PER_SEC};
	int64_t began = time_mono();

	cri_io_finish(&limited, f->k->io);
	assert_true(time_mono() - began < 100 * NSEC_PER_SEC);
}

static void output_of_both_fifos_is_in_the_log(void **state)
{
	struct fixture *f = *state;

	make(f);
	int out = writer(cri_io_stdout(f->k->io)), errors = writer(cri_io_stderr(f->k->io));
	put(out, "one\ntw");
	assert_string_equal(log_text(f, 1), "stdout F one|");
	put(errors, "err\n");
	assert_string_equal(log_text(f, 2), "stdout F one|stderr F err|");
	put(out, "o\nrest");
	close(out);
	close(errors);
	finish(f);
	assert_string_equal(log_text(f, 4),
			    "stdout F one|stderr F err|stdout F two|stdout P rest|");
}

static void streams_that_nobody_ever_opened_do_not_keep_the_end_waiting(void **state)
{
	struct fixture *f = *state;

	make(f);
	finish(f);
}

static void copying_goes_on_in_the_next_daemon(void **state)
{
	struct fixture *f = *state;
	char *dir = path_join(f->a, f->top, "io");
	struct err err = ERR_INIT;

	make(f);
	int out = writer(cri_io_stdout(f->k->io)), errors = writer(cri_io_stderr(f->k->io));
	put(out, "one\ntw");
	log_text(f, 1);
	cri_io_suspend(f->k->io);
	cri_io_unref(TAKE_PTR(f->k->io));
	put(out, "o\nthree\n");
	f->o.dir = dir;
	if (cri_io_load(&f->ctx, &f->c, &f->o, &f->k->io, &err) < 0)
		fail_msg("%s", err.text);
	char *text = log_text(f, 4);
	assert_string_equal(text, "stdout F one|stdout P tw|stdout F o|stdout F three|");
	close(out);
	close(errors);
	finish(f);
}

static void reopened_log_is_the_one_with_the_name(void **state)
{
	struct fixture *f = *state;
	char *old = path_join(f->a, f->top, "old");

	make(f);
	int out = writer(cri_io_stdout(f->k->io));
	put(out, "one\n");
	log_text(f, 1);
	assert_int_equal(rename(f->o.log_path, old), 0);
	assert_int_equal(cri_io_reopen(&f->ctx, f->k->io, NULL), 0);
	put(out, "two\n");
	assert_string_equal(log_text(f, 1), "stdout F two|");
	close(out);
}

/* ---- attaching ---- */

struct attaching {
	struct fixture *f;
	struct cri_attach a;
	pthread_t thread;
	int in, out, err, cancel; /* the client's ends */
	int result;
};

static void *attach_thread(void *arg)
{
	struct attaching *t = arg;
	struct arena *a = arena_new(0);
	struct ctx ctx = {.arena = a, .ns = "k8s.io", .lease = ""};

	t->result = cri_io_attach(&ctx, &t->f->c, t->f->k, &t->a, NULL);
	arena_free(a);
	return NULL;
}

static void pipe_of(int *client, int *ours, bool client_writes)
{
	int p[2];

	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	*client = p[client_writes];
	*ours = p[!client_writes];
}

static void attach(struct fixture *f, struct attaching *t, bool input)
{
	struct cri_io *io = f->k->io;
	size_t before = 0, now = 0;

	*t = (struct attaching){.f = f, .a = {.stdin_fd = -1}, .in = -1};
	pipe_of(&t->out, &t->a.stdout_fd, false);
	pipe_of(&t->err, &t->a.stderr_fd, false);
	pipe_of(&t->cancel, &t->a.cancel_fd, true);
	if (input)
		pipe_of(&t->in, &t->a.stdin_fd, true);
	pthread_mutex_lock(&io->lock);
	for (struct cri_io_reader *r = io->readers; r; r = r->next)
		before++;
	pthread_mutex_unlock(&io->lock);
	assert_int_equal(pthread_create(&t->thread, NULL, attach_thread, t), 0);
	while (now <= before) {
		usleep(1000);
		now = 0;
		pthread_mutex_lock(&io->lock);
		for (struct cri_io_reader *r = io->readers; r; r = r->next)
			now++;
		pthread_mutex_unlock(&io->lock);
	}
}

static int detach(struct attaching *t)
{
	fd_closep(&t->in);
	fd_closep(&t->out);
	fd_closep(&t->err);
	pthread_join(t->thread, NULL);
	fd_closep(&t->cancel);
	fd_closep(&t->a.cancel_fd);
	return t->result;
}

static void expect(int fd, const char *text)
{
	char got[256] = "";
	size_t n = 0;

	while (n < strlen(text)) {
		ssize_t k = read(fd, got + n, sizeof(got) - 1 - n);
		assert_true(k > 0);
		n += (size_t)k;
	}
	assert_string_equal(got, text);
}

static void everybody_who_is_attached_sees_the_output(void **state)
{
	struct fixture *f = *state;
	struct attaching t[3];

	make(f);
	int out = writer(cri_io_stdout(f->k->io)), errors = writer(cri_io_stderr(f->k->io));
	put(out, "before\n");
	log_text(f, 1);
	for (int i = 0; i < 3; i++)
		attach(f, &t[i], false);
	put(out, "hello ");
	put(errors, "oops");
	for (int i = 0; i < 3; i++) {
		expect(t[i].out, "hello ");
		expect(t[i].err, "oops");
	}
	assert_int_equal(detach(&t[0]), 0);
	put(out, "again");
	expect(t[1].out, "again");
	expect(t[2].out, "again");
	/* The end of the container is theirs. */
	put(out, "last");
	close(out);
	close(errors);
	expect(t[1].out, "last");
	for (int i = 1; i < 3; i++) {
		pthread_join(t[i].thread, NULL);
		assert_int_equal(t[i].result, 0);
		char byte;
		if (i == 1)
			assert_int_equal(read(t[i].out, &byte, 1), 0);
		close(t[i].out);
		close(t[i].err);
		close(t[i].cancel);
		close(t[i].a.cancel_fd);
	}
}

static void who_left_a_quiet_container_is_forgotten(void **state)
{
	struct fixture *f = *state;
	struct cri_io_reader *first;
	int fd;

	make(f);
	int out = writer(cri_io_stdout(f->k->io));
	for (int i = 0; i < 5; i++) {
		assert_int_equal(cri_io_subscribe(f->k->io, 3, &fd, NULL), 0);
		close(fd);
	}
	first = f->k->io->readers;
	assert_non_null(first);
	assert_null(first->next);
	close(out);
}

static void input_goes_into_the_container(void **state)
{
	struct fixture *f = *state;
	struct attaching t;
	char byte;

	make(f);
	int out = writer(cri_io_stdout(f->k->io));
	int in = open(cri_io_stdin(f->k->io), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	int hold = open(cri_io_stdin(f->k->io), O_WRONLY | O_CLOEXEC);
	fd_set_nonblock(in, false);
	attach(f, &t, true);
	put(t.in, "typed");
	expect(in, "typed");
	/* The end of a client's input detaches it; the container's input stays open. */
	close(TAKE_FD(t.in));
	assert_int_equal(read(t.out, &byte, 1), 0);
	assert_int_equal(detach(&t), 0);
	fd_set_nonblock(in, true);
	assert_int_equal(read(in, &byte, 1), -1);
	assert_int_equal(errno, EAGAIN);
	close(in);
	close(hold);
	close(out);
}

static void who_attaches_can_be_told_to_leave(void **state)
{
	struct fixture *f = *state;
	struct attaching t;

	make(f);
	int out = writer(cri_io_stdout(f->k->io));
	attach(f, &t, false);
	put(t.cancel, "x");
	pthread_join(t.thread, NULL);
	assert_int_equal(t.result, -ERR_CANCELED);
	t.thread = pthread_self();
	close(t.out);
	close(t.err);
	close(t.cancel);
	close(t.a.cancel_fd);
	close(out);
}

/* Nobody reads what the first one is sent; the log and the second one have it all. */
static void slow_client_holds_nobody_up(void **state)
{
	static char line[1000];
	struct fixture *f = *state;
	struct attaching slow;

	make(f);
	int out = writer(cri_io_stdout(f->k->io));
	attach(f, &slow, false);
	memset(line, 'x', sizeof(line) - 1);
	line[99] = line[sizeof(line) - 1] = '\n';
	for (int i = 0; i < 10000; i++)
		assert_int_equal(write(out, line, sizeof(line)), sizeof(line));
	close(out);
	finish(f);
	struct stat st;
	assert_int_equal(stat(f->o.log_path, &st), 0);
	assert_true(st.st_size > 10000 * (int)sizeof(line));
	detach(&slow);
}

static void container_that_does_not_run_has_nothing_to_attach_to(void **state)
{
	struct fixture *f = *state;
	struct cri_attach a = {
		.stdin_fd = -1, .stdout_fd = dup(1), .stderr_fd = -1, .cancel_fd = -1};
	struct err err = ERR_INIT;

	f->k->status.finished_at = 5;
	assert_int_equal(cri_io_attach(&f->ctx, &f->c, f->k, &a, &err), -ERR_UNKNOWN);
	assert_non_null(strstr(err.text, "container is not running"));
	assert_int_equal(fcntl(a.stdout_fd, F_GETFD), -1); /* taken over */
}

/* ---- flows ---- */

static void round_of(struct cri_flow *f)
{
	struct pollfd v[2];
	nfds_t n = 0;

	cri_flow_poll(f, v, &n);
	assert_true(poll(v, n, 60000) > 0);
	cri_flow_step(f);
}

static void flow_passes_on_no_more_than_its_limit(void **state)
{
	struct cri_flow f;
	int client, src, dst, got;

	pipe_of(&client, &src, true);
	pipe_of(&got, &dst, false);
	assert_int_equal(cri_flow_start(&f, src, dst, false, 5), 0);
	put(client, "1234");
	round_of(&f);
	put(client, "56789");
	round_of(&f);
	put(client, "abc");
	round_of(&f);
	expect(got, "12345");
	close(client);
	round_of(&f);
	assert_true(cri_flow_ended(&f));
	char byte;
	assert_int_equal(read(got, &byte, 1), 0);
	close(got);
	cri_flow_done(&f);
}

static void output_whose_reader_went_is_thrown_away(void **state)
{
	struct cri_flow f;
	int client, src, dst, got;

	pipe_of(&client, &src, true);
	pipe_of(&got, &dst, false);
	assert_int_equal(cri_flow_start(&f, src, dst, false, 0), 0);
	close(got);
	for (int i = 0; i < 3; i++) {
		put(client, "text");
		round_of(&f);
	}
	assert_int_equal(f.dst, -1);
	assert_false(cri_flow_ended(&f));
	close(client);
	while (!cri_flow_ended(&f))
		round_of(&f);
	cri_flow_done(&f);
}

static void input_ends_with_its_reader(void **state)
{
	struct cri_flow f;
	int client, src, dst, got;

	pipe_of(&client, &src, true);
	pipe_of(&got, &dst, false);
	assert_int_equal(cri_flow_start(&f, src, dst, true, 0), 0);
	close(got);
	round_of(&f);
	assert_true(cri_flow_ended(&f));
	close(client);
	cri_flow_done(&f);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(output_of_both_fifos_is_in_the_log),
		T(streams_that_nobody_ever_opened_do_not_keep_the_end_waiting),
		T(copying_goes_on_in_the_next_daemon),
		T(reopened_log_is_the_one_with_the_name),
		T(everybody_who_is_attached_sees_the_output),
		T(who_left_a_quiet_container_is_forgotten),
		T(input_goes_into_the_container),
		T(who_attaches_can_be_told_to_leave),
		T(slow_client_holds_nobody_up),
		T(container_that_does_not_run_has_nothing_to_attach_to),
		cmocka_unit_test(flow_passes_on_no_more_than_its_limit),
		cmocka_unit_test(output_whose_reader_went_is_thrown_away),
		cmocka_unit_test(input_ends_with_its_reader),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
