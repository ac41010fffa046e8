/* SPDX-License-Identifier: Apache-2.0 */
/* Messages between daemon and worker. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/time.h"
#include "rpc/msg.h"

static int sv[2];

static int setup(void **state)
{
	return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv);
}

static int teardown(void **state)
{
	for (int i = 0; i < 2; i++)
		if (sv[i] >= 0)
			close(sv[i]);
	return 0;
}

static void message_and_descriptors_arrive(void **state)
{
	_cleanup_json_ json_t *out = json_pack("{s:s,s:i}", "op", "fetch", "n", 7);
	_cleanup_json_ json_t *in = NULL;
	struct err err = ERR_INIT;
	int p[2], fds[4];
	size_t n = 4;
	char c;

	assert_int_equal(pipe(p), 0);
	assert_int_equal(msg_send(sv[0], out, p, 2, &err), 0);
	assert_int_equal(msg_recv(sv[1], time_mono() + NSEC_PER_SEC, &in, fds, &n, &err), 1);
	assert_true(json_equal(in, out));
	assert_int_equal(n, 2);
	assert_true(fcntl(fds[0], F_GETFD) & FD_CLOEXEC);
	assert_int_equal(write(fds[1], "x", 1), 1);
	assert_int_equal(read(p[0], &c, 1), 1);
	for (int i = 0; i < 2; i++) {
		close(fds[i]);
		close(p[i]);
	}
}

static void unwanted_descriptors_are_closed(void **state)
{
	_cleanup_json_ json_t *out = json_object();
	_cleanup_json_ json_t *in = NULL;
	json_t *none = NULL;
	struct err err = ERR_INIT;
	int p[2], fd;
	size_t n = 1;
	char c;

	assert_int_equal(pipe(p), 0);
	assert_int_equal(msg_send(sv[0], out, &p[1], 1, &err), 0);
	assert_int_equal(msg_send(sv[0], out, (int[]){p[1], p[1]}, 2, &err), 0);
	close(p[1]);
	assert_int_equal(msg_recv(sv[1], 0, &in, NULL, NULL, &err), 1);
	assert_int_equal(msg_recv(sv[1], 0, &none, &fd, &n, &err), -ERR_INVALID_ARGUMENT);
	/* No writer is left. */
	assert_int_equal(read(p[0], &c, 1), 0);
	close(p[0]);
}

static void *send_large(void *arg)
{
	struct err err;

	return (void *)(intptr_t)msg_send(sv[0], arg, NULL, 0, &err);
}

static void large_message_arrives_and_too_large_is_refused(void **state)
{
	char *text = malloc(MSG_MAX + 1);
	json_t *out, *in = NULL;
	struct err err = ERR_INIT;
	pthread_t t;
	void *r;

	memset(text, 'a', MSG_MAX);
	text[MSG_MAX] = '\0';
	out = json_pack("{s:s%}", "t", text, (size_t)MSG_MAX - 100);
	pthread_create(&t, NULL, send_large, out);
	assert_int_equal(msg_recv(sv[1], 0, &in, NULL, NULL, &err), 1);
	pthread_join(t, &r);
	assert_null(r);
	assert_true(json_equal(in, out));
	json_decref(in);
	json_decref(out);
	out = json_pack("{s:s}", "t", text);
	assert_int_equal(msg_send(sv[0], out, NULL, 0, &err), -ERR_RESOURCE_EXHAUSTED);
	json_decref(out);
	free(text);
}

static void closed_peer_is_end_of_messages(void **state)
{
	struct err err = ERR_INIT;
	json_t *in;

	close(sv[0]);
	sv[0] = -1;
	assert_int_equal(msg_recv(sv[1], 0, &in, NULL, NULL, &err), 0);
}

static void broken_messages_are_errors(void **state)
{
	static const struct {
		const char *bytes;
		size_t n;
		int kind;
	} cases[] = {
		{"\x05\0\0\0{}", 6, ERR_UNAVAILABLE},
		{"\x05", 1, ERR_UNAVAILABLE},
		{"\xff\xff\xff\xff{}", 6, ERR_RESOURCE_EXHAUSTED},
		{"\2\0\0\0{x", 6, ERR_INVALID_ARGUMENT},
		{"\2\0\0\0[]", 6, ERR_INVALID_ARGUMENT},
		{"\0\0\0\0", 4, ERR_INVALID_ARGUMENT},
		{"\5\0\0\0", 4, ERR_UNAVAILABLE},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct err err = ERR_INIT;
		json_t *in;
		int s[2];

		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
		assert_int_equal(fd_write_full(s[0], cases[i].bytes, cases[i].n), 0);
		close(s[0]);
		assert_int_equal(msg_recv(s[1], 0, &in, NULL, NULL, &err), -cases[i].kind);
		close(s[1]);
	}
}

static void silence_ends_at_the_deadline(void **state)
{
	struct err err = ERR_INIT;
	json_t *in;

	assert_int_equal(msg_recv(sv[1], time_mono() + 20 * NSEC_PER_MSEC, &in, NULL, NULL, &err),
			 -ERR_DEADLINE_EXCEEDED);
	/* In the middle of a message too. */
	assert_int_equal(fd_write_full(sv[0], "\2\0", 2), 0);
	assert_int_equal(msg_recv(sv[1], time_mono() + 20 * NSEC_PER_MSEC, &in, NULL, NULL, &err),
			 -ERR_DEADLINE_EXCEEDED);
}

static void errors_travel(void **state)
{
	struct err err = ERR_INIT, got = ERR_INIT;
	json_t *m;

	err_set(&err, ERR_NOT_FOUND, "image \"x\"");
	m = msg_error(&err);
	assert_int_equal(msg_get_error(m, &got), -ERR_NOT_FOUND);
	assert_string_equal(got.text, err.text);
	json_decref(m);
	/* Not UTF-8. */
	err_set_raw(&err, ERR_ABORTED, "\xff\xfe");
	m = msg_error(&err);
	assert_int_equal(msg_get_error(m, &got), -ERR_ABORTED);
	json_decref(m);
	m = json_pack("{s:{s:i}}", "error", "kind", -77);
	assert_int_equal(msg_get_error(m, &got), -ERR_UNKNOWN);
	json_decref(m);
	m = json_pack("{s:i}", "ok", 1);
	assert_int_equal(msg_get_error(m, &got), 0);
	json_decref(m);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(message_and_descriptors_arrive),
		T(unwanted_descriptors_are_closed),
		T(large_message_arrives_and_too_large_is_refused),
		T(closed_peer_is_end_of_messages),
		T(broken_messages_are_errors),
		T(silence_ends_at_the_deadline),
		T(errors_travel),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
