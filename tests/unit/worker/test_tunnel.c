/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions of a command through the real containerd-worker (from $CONTAINERD_WORKER): a client that
 * writes its frames by hand, and the daemon's side of the session's socket in this process. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zlib.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/str.h"
#include "base/time.h"
#include "core/front.h"
#include "core/front_session.h"
#include "event/pool.h"
#include "rpc/msg.h"
#include "worker/spdy.h"
#include "worker/websocket.h"

#define WAIT_MS 60000
#define OUTPUT (1 << 20)

struct fixture {
	struct pool *pool;
	struct front *front;
	struct err err;
	char path[64];
	int handler[2]; /* pipe: the daemon's end of a session's socket */
	int client, session;
	z_stream z; /* SPDY: of the client's headers */
};

/* ---- the daemon ---- */

static void begin(struct front_request *q, void *arg)
{
	static const char *const spdy[] = {"stdin", "stdout", NULL}, *const websocket[] = {
									     "stdout", "error",
									     "resize", NULL};
	struct front_header h[] = {{"Upgrade", front_request_header(q, "Upgrade")}};
	struct front_session s = {.websocket = streq(h[0].value, "websocket"),
				  .create_ms = WAIT_MS};
	struct fixture *f = arg;
	int socks[2];

	s.streams = s.websocket ? websocket : spdy;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socks), 0);
	front_reply_session(q, h, 1, &s, socks[1]);
	assert_int_equal(write(f->handler[1], &socks[0], sizeof(int)), sizeof(int));
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct front_listener l = {.kind = FRONT_HTTP};
	struct front_route route = {NULL, "/session", begin, f};
	struct front_options o = {
		.name = "test", .listeners = &l, .n_listeners = 1, .routes = &route, .n_routes = 1};

	signal(SIGPIPE, SIG_IGN);
	f->client = f->session = -1;
	assert_int_equal(pipe(f->handler), 0);
	assert_int_equal(pool_new(0, &f->pool), 0);
	assert_int_equal(deflateInit(&f->z, Z_BEST_SPEED), Z_OK);
	o.pool = f->pool;
	snprintf(f->path, sizeof(f->path), "/tmp/tunnel.%d", (int)getpid());
	assert_int_equal(unix_listen(f->path, getuid(), getgid(), 0600, &l.fd), 0);
	if (front_start(&o, &f->front, &f->err) < 0) {
		print_error("%s\n", f->err.text);
		return -1;
	}
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	fd_closep(&f->client);
	fd_closep(&f->session);
	front_free(f->front);
	pool_free(f->pool);
	(void)unlink(f->path);
	close(f->handler[0]);
	close(f->handler[1]);
	deflateEnd(&f->z);
	free(f);
	return 0;
}

/* Until the worker says @what. */
static void heard(struct fixture *f, const char *what)
{
	_cleanup_json_ json_t *m = NULL;

	if (msg_recv(f->session, time_mono() + WAIT_MS * NSEC_PER_MSEC, &m, NULL, NULL, &f->err) !=
	    1)
		fail_msg("no \"%s\": %s", what, f->err.text);
	assert_non_null(json_obj(m, what));
}

static void say(struct fixture *f, json_t *m, const int *fds, size_t n)
{
	assert_int_equal(msg_send(f->session, m, fds, n, &f->err), 0);
	json_decref(m);
}

/* ---- the client ---- */

static void readable(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	assert_int_equal(poll(&p, 1, WAIT_MS), 1);
}

/* Connects and asks; both ends of the session are there then. */
static void dial(struct fixture *f, const char *protocol)
{
	char text[512];
	size_t n;

	assert_int_equal(unix_connect(f->path, &f->client), 0);
	n = (size_t)snprintf(text, sizeof(text),
			     "POST /session HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
			     "Upgrade: %s\r\n\r\n",
			     protocol);
	assert_int_equal(fd_write_full(f->client, text, n), 0);
	n = 0;
	do {
		readable(f->client);
		assert_int_equal(read(f->client, text + n, 1), 1);
		text[++n] = '\0';
	} while (!str_has_suffix(text, "\r\n\r\n"));
	assert_true(str_has_prefix(text, "HTTP/1.1 101 "));
	assert_int_equal(read(f->handler[0], &f->session, sizeof(int)), sizeof(int));
}

static void open_stream(struct fixture *f, struct buf *b, uint8_t id, const char *type)
{
	uint8_t head[] = {0x80, 3, 0, 1, 0, 0, 0, 0, 0, 0, 0, id, 0, 0, 0, 0, 0, 0}, block[64],
		packed[128];
	size_t n = (size_t)snprintf((char *)block, sizeof(block),
				    "%c%c%c%c%c%c%c%cstreamtype%c%c%c%c%s", 0, 0, 0, 1, 0, 0, 0, 10,
				    0, 0, 0, (int)strlen(type), type);

	f->z.next_in = block;
	f->z.avail_in = (uInt)n;
	f->z.next_out = packed;
	f->z.avail_out = sizeof(packed);
	assert_int_equal(deflate(&f->z, Z_SYNC_FLUSH), Z_OK);
	n = sizeof(packed) - f->z.avail_out;
	head[7] = (uint8_t)(n + 10);
	buf_add(b, head, sizeof(head));
	buf_add(b, packed, n);
}

/* Reads until @what has come. */
static void read_until(struct fixture *f, const void *what, size_t n)
{
	_cleanup_buf_ struct buf b = BUF_INIT;
	char p[4096];
	ssize_t k;

	while (b.len < n || !memmem(b.data, b.len, what, n)) {
		readable(f->client);
		k = read(f->client, p, sizeof(p));
		assert_true(k > 0);
		buf_add(&b, p, (size_t)k);
	}
}

/* ---- tests ---- */

static void streams_that_were_reset_early_end_for_the_command(void **state)
{
	static const uint8_t pong[] = {0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1};
	struct fixture *f = *state;
	_cleanup_buf_ struct buf b = BUF_INIT;
	int in[2], out[2];
	struct pollfd p;

	dial(f, "SPDY/3.1");
	open_stream(f, &b, 1, "stdin");
	open_stream(f, &b, 3, "stdout");
	spdy_reset(&b, 1, SPDY_CANCEL);
	spdy_reset(&b, 3, SPDY_CANCEL);
	spdy_ping(&b, 1);
	assert_int_equal(fd_write_full(f->client, b.data, b.len), 0);
	heard(f, "opened");
	read_until(f, pong, sizeof(pong));
	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	say(f, json_pack("{s:{s:b,s:b}}", "run", "stdin", 1, "stdout", 1), (int[]){in[1], out[0]},
	    2);
	close(in[1]);
	close(out[0]);
	readable(in[0]);
	assert_int_equal(read(in[0], (char[1]){0}, 1), 0);
	p = (struct pollfd){.fd = out[1]};
	assert_int_equal(poll(&p, 1, WAIT_MS), 1);
	assert_true(p.revents & POLLERR);
	close(in[0]);
	close(out[1]);
}

/* A message of a masked client whose mask is 0. */
static void send_message(struct fixture *f, char channel, const char *text)
{
	char b[128] = {(char)0x82, (char)(0x80 | (strlen(text) + 1)), 0, 0, 0, 0, channel};

	strcpy(b + 7, text);
	assert_int_equal(fd_write_full(f->client, b, 7 + strlen(text)), 0);
}

/* A pipe that holds all of it, and whose writer has gone. */
static int full_pipe(size_t n)
{
	_cleanup_free_ char *data = calloc(1, n);
	int p[2];

	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	assert_true(fcntl(p[1], F_SETPIPE_SZ, (int)n) >= (int)n);
	assert_int_equal(fd_write_full(p[1], data, n), 0);
	close(p[1]);
	return p[0];
}

/* Bytes of the client's messages by channel, until the connection ends. */
static void read_messages(struct fixture *f, size_t bytes[256])
{
	uint8_t h[4];
	ssize_t n;

	while ((n = fd_read_full(f->client, h, 2)) == 2 && h[0] != (0x80 | WEBSOCKET_CLOSE)) {
		_cleanup_free_ uint8_t *p = NULL;
		size_t len = h[1];

		if (len == 126) {
			assert_int_equal(fd_read_full(f->client, h + 2, 2), 2);
			len = (size_t)h[2] << 8 | h[3];
		}
		p = malloc(len);
		assert_int_equal(fd_read_full(f->client, p, len), (ssize_t)len);
		assert_true(len > 0);
		bytes[p[0]] += len - 1;
	}
	assert_int_equal(n, 2);
}

static void a_terminal_that_grows_at_the_end_costs_no_output(void **state)
{
	struct fixture *f = *state;
	size_t bytes[256] = {0};
	int out;

	dial(f, "websocket");
	heard(f, "opened");
	out = full_pipe(OUTPUT);
	say(f, json_pack("{s:{s:b}}", "run", "stdout", 1), &out, 1);
	close(out);
	say(f, json_pack("{s:{s:s}}", "end", "status", "over"), NULL, 0);
	/* It closes its end when it has heard that. */
	readable(f->session);
	assert_int_equal(read(f->session, (char[1]){0}, 1), 0);
	/* More output is left than sockets hold. */
	send_message(f, 4, "{\"Width\":80,\"Height\":24}");
	send_message(f, 4, "{\"Width\":81,\"Height\":25}");
	read_messages(f, bytes);
	assert_int_equal(bytes[1], OUTPUT);
	assert_int_equal(bytes[3], strlen("over"));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(streams_that_were_reset_early_end_for_the_command),
		T(a_terminal_that_grows_at_the_end_costs_no_output),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
