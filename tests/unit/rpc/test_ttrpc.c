/* SPDX-License-Identifier: Apache-2.0 */
/* The ttrpc server as the bytes on its socket show it. */
#include <poll.h>
#include <sys/socket.h>

#include "harness.h"

#include "rpc/ttrpc_frame.h"

static int setup(void **state)
{
	harness_start(true, NULL);
	return 0;
}

static int teardown(void **state)
{
	harness_stop();
	return 0;
}

static void frame_send(int fd, uint32_t id, uint8_t type, uint8_t flags,
		       const ProtobufCMessage *msg)
{
	struct rpc_msg *m = rpc_msg_new(msg ? protobuf_c_message_get_packed_size(msg) : 0);

	if (msg)
		protobuf_c_message_pack(msg, m->p);
	ttrpc_frame_wrap(m, id, type, flags);
	assert_int_equal(fd_write_full(fd, m->p, m->n), 0);
	rpc_msg_free(m);
}

/* The next frame; the payload is the caller's. */
static struct rpc_msg *frame_recv(int fd, struct ttrpc_header *h)
{
	struct ttrpc_reader r = {0};
	struct timeval tv = {.tv_sec = 20};
	struct rpc_msg *m = NULL;
	uint8_t b;
	int rc = 0;

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	while (rc == 0) {
		const uint8_t *p = &b;
		size_t n = 1;

		assert_int_equal(read(fd, &b, 1), 1);
		rc = ttrpc_reader_feed(&r, &p, &n, h, &m);
	}
	assert_int_equal(rc, 1);
	return m;
}

static void expect_status(int fd, uint32_t id, int code, const char *text)
{
	struct ttrpc_header h;
	struct rpc_msg *m = frame_recv(fd, &h);
	Ttrpc__Response *resp = ttrpc__response__unpack(NULL, m->n, m->p);

	assert_int_equal(h.type, TTRPC_RESPONSE);
	assert_int_equal(h.id, id);
	assert_non_null(resp);
	assert_non_null(resp->status);
	assert_int_equal(resp->status->code, code);
	if (text)
		assert_string_equal(resp->status->message, text);
	ttrpc__response__free_unpacked(resp, NULL);
	rpc_msg_free(m);
}

/* Reply of "Unary": the packed Any. */
static void expect_reply(int fd, uint32_t id, const void *value, size_t n)
{
	struct ttrpc_header h;
	struct rpc_msg *m = frame_recv(fd, &h);
	Ttrpc__Response *resp = ttrpc__response__unpack(NULL, m->n, m->p);
	Any *a;

	assert_int_equal(h.type, TTRPC_RESPONSE);
	assert_int_equal(h.flags, 0);
	assert_int_equal(h.id, id);
	assert_null(resp->status);
	a = google__protobuf__any__unpack(NULL, resp->payload.len, resp->payload.data);
	assert_int_equal(a->value.len, n);
	assert_memory_equal(a->value.data, value, n);
	google__protobuf__any__free_unpacked(a, NULL);
	ttrpc__response__free_unpacked(resp, NULL);
	rpc_msg_free(m);
}

static void request_send(int fd, uint32_t id, uint8_t flags, const char *method, const char *what)
{
	Ttrpc__Request req = TTRPC__REQUEST__INIT;
	uint8_t packed[256];
	Any a = any_of(what, "v", 1);

	req.service = (char *)ECHO;
	req.method = (char *)method;
	if (what) {
		req.payload.data = packed;
		req.payload.len = protobuf_c_message_pack(&a.base, packed);
	}
	frame_send(fd, id, TTRPC_REQUEST, flags, &req.base);
}

static void stream_ids_must_be_odd_and_rise(void **state)
{
	int fd = harness_connect();

	request_send(fd, 2, 0, "Unary", "x");
	expect_status(fd, 2, 3, NULL);
	request_send(fd, 5, 0, "Unary", "x");
	expect_reply(fd, 5, "v", 1);
	request_send(fd, 3, 0, "Unary", "x");
	expect_status(fd, 3, 3, NULL);
	request_send(fd, 5, 0, "Unary", "x");
	expect_status(fd, 5, 3, NULL);
	frame_send(fd, 9, TTRPC_DATA, 0, NULL);
	expect_status(fd, 9, 3, NULL);
	request_send(fd, 7, 0, "Unary", "x");
	expect_reply(fd, 7, "v", 1);
	close(fd);
}

/* Asks for @fd's buffer full and the server's, without a look at an answer; how many calls that
 * were. @ret_frame is what of the last one is still to be sent. */
static uint32_t ask_until_full(int fd, struct rpc_msg **ret_frame)
{
	static char big[60000];
	Ttrpc__Request req = TTRPC__REQUEST__INIT;
	Any a = any_of("x", big, sizeof(big));
	uint8_t *packed = malloc(sizeof(big) + 256);
	struct pollfd pf = {.fd = fd, .events = POLLOUT};
	uint32_t calls = 0;

	memset(big, 'v', sizeof(big));
	req.service = (char *)ECHO;
	req.method = (char *)"Unary";
	req.payload.data = packed;
	req.payload.len = protobuf_c_message_pack(&a.base, packed);
	for (;;) {
		size_t n = protobuf_c_message_get_packed_size(&req.base);
		struct rpc_msg *m = rpc_msg_new(n);

		protobuf_c_message_pack(&req.base, m->p);
		ttrpc_frame_wrap(m, 2 * calls + 1, TTRPC_REQUEST, 0);
		/* Ten times what the server keeps, and nothing has made it stop. */
		assert_true(++calls < 3000);
		while (m->n > 0) {
			ssize_t k = send(fd, m->p, m->n, MSG_DONTWAIT | MSG_NOSIGNAL);

			if (k < 0 && poll(&pf, 1, 2000) == 0) {
				free(packed);
				*ret_frame = m;
				return calls;
			}
			if (k > 0) {
				m->p += k;
				m->n -= (size_t)k;
			}
		}
		rpc_msg_free(m);
	}
}

static void peer_that_does_not_read_is_not_read_from(void **state)
{
	int fd = harness_connect();
	struct rpc_msg *rest;
	uint32_t calls = ask_until_full(fd, &rest);
	bool *seen = calloc(calls, sizeof(*seen)), whole = false;
	struct ttrpc_reader r = {0};
	static uint8_t chunk[65536];
	uint32_t got = 0;

	/* And goes on where it stopped. */
	while (got < calls) {
		ssize_t k = read(fd, chunk, sizeof(chunk));
		const uint8_t *p = chunk;
		size_t n = (size_t)k;
		struct ttrpc_header h;
		struct rpc_msg *m;

		assert_true(k > 0);
		while (ttrpc_reader_feed(&r, &p, &n, &h, &m) == 1) {
			assert_int_equal(h.type, TTRPC_RESPONSE);
			assert_true(m->n > 60000 && h.id % 2 == 1 && h.id / 2 < calls &&
				    !seen[h.id / 2]);
			seen[h.id / 2] = true;
			rpc_msg_free(m);
			got++;
		}
		if (!whole && got > calls / 2)
			assert_int_equal(fd_write_full(fd, rest->p, rest->n), 0);
		whole = got > calls / 2;
	}
	ttrpc_reader_done(&r);
	rpc_msg_free(rest);
	free(seen);
	close(fd);
}

static void unknown_frame_types_are_ignored(void **state)
{
	int fd = harness_connect();

	frame_send(fd, 1, 9, 0, NULL);
	frame_send(fd, 1, TTRPC_RESPONSE, 0, NULL);
	request_send(fd, 1, 0, "Unary", "x");
	expect_reply(fd, 1, "v", 1);
	close(fd);
}

static void oversized_frame_costs_only_its_stream(void **state)
{
	int fd = harness_connect();
	size_t n = (4 << 20) + 1;
	uint8_t *p = calloc(1, n);
	uint8_t head[TTRPC_HEADER] = {0, 0x40, 0, 1, 0, 0, 0, 1, TTRPC_REQUEST, 0};

	assert_int_equal(fd_write_full(fd, head, sizeof(head)), 0);
	assert_int_equal(fd_write_full(fd, p, n), 0);
	expect_status(fd, 1, 8, NULL);
	request_send(fd, 3, 0, "Unary", "x");
	expect_reply(fd, 3, "v", 1);
	free(p);
	close(fd);
}

static void garbage_request_is_invalid_argument(void **state)
{
	int fd = harness_connect();
	struct rpc_msg *m = rpc_msg_new(3);

	memcpy(m->p, "\x0a\x7fz", 3);
	ttrpc_frame_wrap(m, 1, TTRPC_REQUEST, 0);
	assert_int_equal(fd_write_full(fd, m->p, m->n), 0);
	rpc_msg_free(m);
	expect_status(fd, 1, 3, NULL);
	close(fd);
}

static void server_stream_is_bare_data_then_close(void **state)
{
	Ttrpc__Request req = TTRPC__REQUEST__INIT;
	size_t v[] = {2, 4};
	Any a = any_of("", v, sizeof(v));
	uint8_t packed[64];
	struct ttrpc_header h;
	struct rpc_msg *m;
	int fd = harness_connect();

	req.service = (char *)ECHO;
	req.method = (char *)"Count";
	req.payload.data = packed;
	req.payload.len = protobuf_c_message_pack(&a.base, packed);
	frame_send(fd, 1, TTRPC_REQUEST, TTRPC_REMOTE_CLOSED, &req.base);
	for (int i = 0; i < 2; i++) {
		Any *got;

		m = frame_recv(fd, &h);
		assert_int_equal(h.type, TTRPC_DATA);
		assert_int_equal(h.flags, 0);
		got = google__protobuf__any__unpack(NULL, m->n, m->p);
		assert_non_null(got);
		assert_int_equal(got->value.len, 4);
		google__protobuf__any__free_unpacked(got, NULL);
		rpc_msg_free(m);
	}
	m = frame_recv(fd, &h);
	assert_int_equal(h.type, TTRPC_DATA);
	assert_int_equal(h.flags, TTRPC_REMOTE_CLOSED | TTRPC_NO_DATA);
	assert_int_equal(h.len, 0);
	rpc_msg_free(m);
	close(fd);
}

static void client_stream_half_closes(void **state)
{
	int fd = harness_connect();
	Any a = any_of("", "12345", 5);

	request_send(fd, 1, TTRPC_REMOTE_OPEN, "Collect", NULL);
	frame_send(fd, 1, TTRPC_DATA, 0, &a.base);
	frame_send(fd, 1, TTRPC_DATA, 0, &a.base);
	frame_send(fd, 1, TTRPC_DATA, TTRPC_REMOTE_CLOSED | TTRPC_NO_DATA, NULL);
	expect_reply(fd, 1, "10", 2);
	/* A payload in the request is the first message. */
	request_send(fd, 3, TTRPC_REMOTE_OPEN, "Collect", "x");
	frame_send(fd, 3, TTRPC_DATA, TTRPC_REMOTE_CLOSED | TTRPC_NO_DATA, NULL);
	expect_reply(fd, 3, "1", 1);
	/* Data after the half close. */
	request_send(fd, 5, TTRPC_REMOTE_OPEN, "Collect", "hold");
	frame_send(fd, 5, TTRPC_DATA, TTRPC_REMOTE_CLOSED | TTRPC_NO_DATA, NULL);
	frame_send(fd, 5, TTRPC_DATA, 0, &a.base);
	expect_status(fd, 5, 3, NULL);
	atomic_store(&H.release, true);
	close(fd);
}

static void replies_come_in_any_order(void **state)
{
	int fd = harness_connect();

	request_send(fd, 1, TTRPC_REMOTE_OPEN, "Collect", "hold");
	frame_send(fd, 1, TTRPC_DATA, TTRPC_REMOTE_CLOSED | TTRPC_NO_DATA, NULL);
	request_send(fd, 3, 0, "Unary", "x");
	expect_reply(fd, 3, "v", 1);
	atomic_store(&H.release, true);
	expect_reply(fd, 1, "1", 1);
	close(fd);
}

static void pipelined_requests_are_all_answered(void **state)
{
	int fd = harness_connect();
	bool seen[400] = {false};

	for (uint32_t i = 0; i < 200; i++)
		request_send(fd, i * 2 + 1, 0, "Unary", "x");
	for (int i = 0; i < 200; i++) {
		struct ttrpc_header h;

		rpc_msg_free(frame_recv(fd, &h));
		assert_in_range(h.id, 1, 399);
		assert_false(seen[h.id]);
		seen[h.id] = true;
	}
	close(fd);
}

static void client_that_vanishes_mid_frame_is_forgotten(void **state)
{
	struct ctx ctx;
	struct err err = ERR_INIT;

	for (int i = 0; i < 50; i++) {
		int fd = harness_connect();

		request_send(fd, 1, 0, i % 2 ? "Block" : "Unary", "x");
		assert_int_equal(fd_write_full(fd, "\0\0\1", 3), 0);
		if (i % 2)
			sem_wait_or_fail(&H.entered);
		close(fd);
		if (i % 2)
			sem_wait_or_fail(&H.canceled);
	}
	ctx_start(&ctx, 0);
	assert_int_equal(echo_call(H.client, &ctx, "Unary", "x", NULL, 0, NULL, &err), 0);
	ctx_end(&ctx);
}

static void drained(void *arg)
{
	sem_post(arg);
}

static void drain_start(void *arg)
{
	ttrpc_server_drain(H.tt, drained, arg);
}

static void client_learns_that_server_closed(void **state)
{
	struct ctx ctx;
	struct err err = ERR_INIT;
	sem_t done;

	sem_init(&done, 0, 0);
	ctx_start(&ctx, 0);
	assert_int_equal(echo_call(H.client, &ctx, "Unary", "x", NULL, 0, NULL, &err), 0);
	harness_on_loop(drain_start, &done);
	sem_wait_or_fail(&done);
	sem_wait_or_fail(&H.closed);
	assert_int_equal(echo_call(H.client, &ctx, "Unary", "x", NULL, 0, NULL, &err),
			 -ERR_UNAVAILABLE);
	assert_string_equal(err.text, "ttrpc: closed");
	ctx_end(&ctx);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(stream_ids_must_be_odd_and_rise),
		T(peer_that_does_not_read_is_not_read_from),
		T(unknown_frame_types_are_ignored),
		T(oversized_frame_costs_only_its_stream),
		T(garbage_request_is_invalid_argument),
		T(server_stream_is_bare_data_then_close),
		T(client_stream_half_closes),
		T(replies_come_in_any_order),
		T(pipelined_requests_are_all_answered),
		T(client_that_vanishes_mid_frame_is_forgotten),
		T(client_learns_that_server_closed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
