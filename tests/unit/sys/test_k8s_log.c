/* SPDX-License-Identifier: Apache-2.0 */
/* The log's lines, and packets for those who are attached. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "base/path.h"
#include "base/time.h"
#include "sys/attach.h"
#include "sys/k8s_log.h"

struct fixture {
	struct arena *a;
	char dir[32];
	char *path;
	struct k8s_log log;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	setenv("TZ", "UTC", 1);
	f->a = arena_new(0);
	strcpy(f->dir, "/tmp/k8slog-XXXXXX");
	if (!mkdtemp(f->dir))
		return -1;
	f->path = path_join(f->a, f->dir, "pod/c/0.log");
	f->log = K8S_LOG_INIT;
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	k8s_log_done(&f->log);
	rm_rf(AT_FDCWD, f->dir);
	arena_free(f->a);
	free(f);
	return 0;
}

static void open_log(struct fixture *f, int64_t limit)
{
	assert_int_equal(k8s_log_open(&f->log, f->path, limit), 0);
}

static void add(struct fixture *f, int stream, const char *text)
{
	assert_int_equal(k8s_log_add(&f->log, stream, text, strlen(text)), 0);
}

/* The file's lines without their times, which are looked at. */
static const char *content(struct fixture *f, const char *path)
{
	char *text, *out, *o;
	size_t n;

	assert_int_equal(file_read(f->a, AT_FDCWD, path, 64u << 20, &text, &n), 0);
	o = out = arena_alloc(f->a, n + 1);
	for (char *line = text; line < text + n;) {
		char *end = memchr(line, '\n', (size_t)(text + n - line)),
		     *space = memchr(line, ' ', (size_t)(text + n - line));
		struct timespec t;

		assert_non_null(end);
		assert_true(space && space < end);
		*space = '\0';
		assert_int_equal(time_parse_rfc3339(line, &t), 0);
		memcpy(o, space + 1, (size_t)(end - space));
		o += end - space;
		line = end + 1;
	}
	*o = '\0';
	return out;
}

static void expect(struct fixture *f, const char *want)
{
	assert_string_equal(content(f, f->path), want);
}

static void lines_of_both_streams_are_whole(void **state)
{
	struct fixture *f = *state;

	open_log(f, 100);
	add(f, 0, "a\nb");
	add(f, 1, "err");
	add(f, 0, "c\n\n");
	add(f, 1, "or\n");
	expect(f, "stdout F a\nstdout F bc\nstdout F \nstderr F error\n");
}

static void mode_of_the_file_is_the_kubelets(void **state)
{
	struct fixture *f = *state;
	struct stat st;
	mode_t mask = umask(022);

	open_log(f, 100);
	umask(mask);
	assert_int_equal(stat(f->path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0640);
}

static void longer_lines_are_cut_into_pieces_of_the_limit(void **state)
{
	struct fixture *f = *state;

	open_log(f, 4);
	add(f, 0, "1234\n12345\n12345678\n");
	add(f, 0, "12");
	add(f, 0, "34");
	add(f, 0, "5");
	add(f, 0, "6\n");
	expect(f, "stdout F 1234\nstdout P 1234\nstdout F 5\nstdout P 1234\nstdout F 5678\n"
		  "stdout P 1234\nstdout F 56\n");
}

static void pieces_do_not_depend_on_how_bytes_come(void **state)
{
	struct fixture *f = *state;
	static const char text[] = "123456789\r\n\r\n1234\r\n12345\r6\n\r";

	open_log(f, 4);
	add(f, 0, text);
	assert_int_equal(k8s_log_end(&f->log, 0), 0);
	for (const char *p = text; *p; p++)
		assert_int_equal(k8s_log_add(&f->log, 1, p, 1), 0);
	assert_int_equal(k8s_log_end(&f->log, 1), 0);
	expect(f, "stdout P 1234\nstdout P 5678\nstdout F 9\nstdout F \nstdout F 1234\nstdout P "
		  "1234\nstdout F 5\r6\nstdout P \r\n"
		  "stderr P 1234\nstderr P 5678\nstderr F 9\nstderr F \nstderr F 1234\nstderr P "
		  "1234\nstderr F 5\r6\nstderr P \r\n");
}

static void end_of_line_loses_its_carriage_return_only(void **state)
{
	struct fixture *f = *state;

	open_log(f, 100);
	add(f, 0, "a\r\nb\rc\r");
	add(f, 0, "\nd\r");
	add(f, 0, "e\n\r\r\n");
	expect(f, "stdout F a\nstdout F b\rc\nstdout F d\re\nstdout F \r\n");
}

static void unfinished_line_is_partial_at_the_end(void **state)
{
	struct fixture *f = *state;

	open_log(f, 100);
	add(f, 0, "done\nrest");
	assert_int_equal(k8s_log_end(&f->log, 0), 0);
	assert_int_equal(k8s_log_end(&f->log, 0), 0);
	assert_int_equal(k8s_log_end(&f->log, 1), 0);
	expect(f, "stdout F done\nstdout P rest\n");
}

static void line_without_a_limit_has_the_largest_piece(void **state)
{
	struct fixture *f = *state;
	size_t n = K8S_LOG_PIECE_MAX + 10;
	char *text = arena_alloc(f->a, n);

	memset(text, 'x', n);
	open_log(f, -1);
	for (size_t i = 0; i < n; i += 5000)
		assert_int_equal(k8s_log_add(&f->log, 0, text + i, n - i < 5000 ? n - i : 5000), 0);
	add(f, 0, "\n");
	const char *got = content(f, f->path);
	assert_int_equal(strlen(got), n + 2 * strlen("stdout F \n"));
	assert_memory_equal(got, "stdout P x", 10);
	assert_string_equal(got + strlen(got) - 20, "stdout F xxxxxxxxxx\n");
	/* Nothing is kept for lines that are not so long. */
	assert_null(f->log.line[0].text);
}

static void many_lines_of_one_read_are_all_there(void **state)
{
	struct fixture *f = *state;
	char text[4096], *p = text, *want = arena_alloc(f->a, 65536), *w = want;

	for (int i = 0; i < 1000; i++) {
		p += sprintf(p, "%d\n", i);
		w += sprintf(w, "stdout F %d\n", i);
	}
	open_log(f, 16384);
	add(f, 0, text);
	expect(f, want);
}

static void bytes_are_not_touched(void **state)
{
	struct fixture *f = *state;
	char *text;
	size_t n;

	open_log(f, 100);
	assert_int_equal(k8s_log_add(&f->log, 0, "\0\xff\x80\n", 4), 0);
	assert_int_equal(file_read(f->a, AT_FDCWD, f->path, 1000, &text, &n), 0);
	assert_memory_equal(text + n - 4, "\0\xff\x80\n", 4);
}

static void reopened_log_goes_on_in_the_new_file(void **state)
{
	struct fixture *f = *state;
	char *old = path_join(f->a, f->dir, "old");

	open_log(f, 100);
	add(f, 0, "one\nbegin");
	assert_int_equal(rename(f->path, old), 0);
	add(f, 1, "two\n");
	assert_int_equal(k8s_log_reopen(&f->log), 0);
	add(f, 0, "ning\n");
	assert_string_equal(content(f, old), "stdout F one\nstderr F two\n");
	expect(f, "stdout F beginning\n");
}

static void reopen_that_fails_keeps_the_file(void **state)
{
	struct fixture *f = *state;

	open_log(f, 100);
	assert_int_equal(unlink(f->path), 0);
	assert_int_equal(mkdir(f->path, 0700), 0);
	assert_int_equal(k8s_log_reopen(&f->log), -EISDIR);
	add(f, 0, "still\n");
}

static void full_disk_loses_output_and_is_told_once(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(k8s_log_open(&f->log, "/dev/full", 100), 0);
	assert_int_equal(k8s_log_add(&f->log, 0, "lost\n", 5), -ENOSPC);
	assert_int_equal(k8s_log_add(&f->log, 0, "lost\n", 5), 0);
	assert_true(f->log.lost > 10);
}

/* A disk that fills up within a line, by the limit of a file's size. */
static void line_after_a_full_disk_begins_anew(void **state)
{
	struct fixture *f = *state;
	struct rlimit was, small;
	struct stat st;
	char *text;
	size_t n;

	signal(SIGXFSZ, SIG_IGN);
	open_log(f, 1000);
	add(f, 0, "first\n");
	assert_int_equal(stat(f->path, &st), 0);
	getrlimit(RLIMIT_FSIZE, &was);
	small = was;
	small.rlim_cur = (rlim_t)st.st_size + 3;
	setrlimit(RLIMIT_FSIZE, &small);
	int r = k8s_log_add(&f->log, 0, "second\n", 7);
	setrlimit(RLIMIT_FSIZE, &was);
	assert_int_equal(r, -EFBIG);
	assert_true(f->log.lost > 0);
	assert_int_equal(k8s_log_add(&f->log, 0, "third\n", 6), 1);
	f->log.lost = 0;
	add(f, 0, "fourth\n");
	assert_int_equal(file_read(f->a, AT_FDCWD, f->path, 1000, &text, &n), 0);
	assert_int_equal(text[st.st_size + 3], '\n');
	assert_memory_equal(text + st.st_size + 4, "20", 2);
	assert_non_null(strstr(text, " stdout F third\n20"));
	assert_non_null(strstr(text, " stdout F fourth\n"));
}

static void log_without_a_file_takes_everything(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(k8s_log_open(&f->log, "", 10), 0);
	add(f, 0, "123456789012345");
	assert_int_equal(k8s_log_reopen(&f->log), 0);
	assert_null(f->log.line[0].text);
}

static void fifo_as_a_log_never_waits(void **state)
{
	struct fixture *f = *state;

	f->path = path_join(f->a, f->dir, "fifo");
	assert_int_equal(mkfifo(f->path, 0600), 0);
	assert_int_equal(k8s_log_open(&f->log, f->path, 10), -ENXIO);
}

static void time_has_the_offset_of_the_zone(void **state)
{
	struct fixture *f = *state;
	char *text;
	size_t n;

	setenv("TZ", "XXX-05:30", 1);
	tzset();
	open_log(f, 100);
	add(f, 0, "x\n");
	setenv("TZ", "UTC", 1);
	tzset();
	assert_int_equal(file_read(f->a, AT_FDCWD, f->path, 1000, &text, &n), 0);
	assert_non_null(strstr(text, "+05:30 stdout F x\n"));
}

/* ---- attaching ---- */

static void requests_are_parsed_strictly(void **state)
{
	struct attach_request q;

	assert_int_equal(attach_request_parse("b\3", 2, &q), 0);
	assert_int_equal(q.kind, ATTACH_BEGIN);
	assert_int_equal(q.streams, 3);
	assert_int_equal(attach_request_parse("r", 1, &q), 0);
	assert_int_equal(q.kind, ATTACH_REOPEN);
	assert_int_equal(attach_request_parse("b", 1, &q), -EPROTO);
	assert_int_equal(attach_request_parse("b\4", 2, &q), -EPROTO);
	assert_int_equal(attach_request_parse("rr", 2, &q), -EPROTO);
	assert_int_equal(attach_request_parse("", 0, &q), -EPROTO);
}

static void socket_below_a_long_path_is_found(void **state)
{
	struct fixture *f = *state;
	char name[200], packet[8];
	int l, c, s;

	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	char *dir = path_join(f->a, f->dir, name), *path = path_join(f->a, dir, "attach");
	assert_int_equal(mkdir(dir, 0700), 0);
	assert_int_equal(attach_connect(path, &c), -ENOENT);
	assert_int_equal(attach_listen(path, &l), 0);
	close(l);
	assert_int_equal(attach_connect(path, &c), -ECONNREFUSED);
	assert_int_equal(attach_listen(path, &l), 0); /* over the old one */
	assert_int_equal(attach_accept(l, &s), -EAGAIN);
	assert_int_equal(attach_connect(path, &c), 0);
	assert_int_equal(attach_accept(l, &s), 0);
	struct attach_reader r = {.fd = s, .streams = ATTACH_STREAM(1)};
	assert_int_equal(attach_send(&r, 0, "out", 3), 0);
	assert_int_equal(attach_send(&r, 1, "err", 3), 0);
	assert_int_equal(recv(c, packet, sizeof(packet), 0), 4);
	assert_memory_equal(packet, "eerr", 4);
	close(c);
	assert_int_equal(attach_send(&r, 1, "err", 3), -EPIPE);
	close(s);
	close(l);
}

static void slow_reader_is_hung_up(void **state)
{
	static const char block[ATTACH_DATA_MAX];
	int fds[2], n = 0;

	assert_int_equal(attach_pair(fds), 0);
	struct attach_reader r = {.fd = fds[0], .streams = ATTACH_STREAM(0)};
	while (attach_send(&r, 0, block, sizeof(block)) == 0)
		assert_true(++n < 2 * ATTACH_QUEUE_MAX / ATTACH_DATA_MAX);
	assert_true(n > 4);
	close(fds[0]);
	close(fds[1]);
}

static void slow_terminal_misses_a_part_and_is_told(void **state)
{
	static char block[ATTACH_DATA_MAX + 1];
	int fds[2];

	assert_int_equal(attach_pair(fds), 0);
	struct attach_reader r = {.fd = fds[0], .streams = ATTACH_STREAM(0), .skip = true};
	while (!r.skipped)
		assert_int_equal(attach_send(&r, 0, block, ATTACH_DATA_MAX), 0);
	assert_int_equal(attach_send(&r, 0, block, 100), 0);
	while (recv(fds[1], block, sizeof(block), MSG_DONTWAIT) > 0)
		;
	assert_int_equal(attach_send(&r, 0, "x", 1), 0);
	ssize_t n = recv(fds[1], block, sizeof(block), 0);
	block[n] = '\0';
	assert_string_equal(block, "o\r\n[16484 bytes left out]\r\n");
	assert_int_equal(recv(fds[1], block, sizeof(block), 0), 2);
	assert_memory_equal(block, "ox", 2);
	close(fds[0]);
	close(fds[1]);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(lines_of_both_streams_are_whole),
		T(mode_of_the_file_is_the_kubelets),
		T(longer_lines_are_cut_into_pieces_of_the_limit),
		T(pieces_do_not_depend_on_how_bytes_come),
		T(end_of_line_loses_its_carriage_return_only),
		T(unfinished_line_is_partial_at_the_end),
		T(line_without_a_limit_has_the_largest_piece),
		T(many_lines_of_one_read_are_all_there),
		T(bytes_are_not_touched),
		T(reopened_log_goes_on_in_the_new_file),
		T(reopen_that_fails_keeps_the_file),
		T(full_disk_loses_output_and_is_told_once),
		T(line_after_a_full_disk_begins_anew),
		T(log_without_a_file_takes_everything),
		T(fifo_as_a_log_never_waits),
		T(time_has_the_offset_of_the_zone),
		T(requests_are_parsed_strictly),
		T(socket_below_a_long_path_is_found),
		T(slow_reader_is_hung_up),
		T(slow_terminal_misses_a_part_and_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
