/* SPDX-License-Identifier: Apache-2.0 */
/* Named streams, and the bytes that flow through them. */
#include "harness.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/fd.h"
#include "services/transfer_streams.h"

typedef Google__Protobuf__Any Any;
#define ANY &google__protobuf__any__descriptor
#define TR(x) Containerd__Types__Transfer__##x
#define WINDOW 65536

static int send_any(struct harness *h, struct rpc_stream *st, const ProtobufCMessage *msg)
{
	uint8_t packed[40000];
	Any any = GOOGLE__PROTOBUF__ANY__INIT;
	any.type_url = (char *)msg->descriptor->name;
	any.value =
		(ProtobufCBinaryData){.data = packed, .len = protobuf_c_message_pack(msg, packed)};
	return rpc_stream_send(st, &any.base, &h->err);
}

static int send_init(struct harness *h, struct rpc_stream *st, const char *id)
{
	Containerd__Services__Streaming__V1__StreamInit init =
		CONTAINERD__SERVICES__STREAMING__V1__STREAM_INIT__INIT;
	init.id = (char *)id;
	return send_any(h, st, &init.base);
}

static int send_data(struct harness *h, struct rpc_stream *st, const void *p, size_t n)
{
	TR(Data) d = CONTAINERD__TYPES__TRANSFER__DATA__INIT;
	d.data = (ProtobufCBinaryData){.data = (uint8_t *)p, .len = n};
	return send_any(h, st, &d.base);
}

static int send_credit(struct harness *h, struct rpc_stream *st, int32_t n)
{
	TR(WindowUpdate) w = CONTAINERD__TYPES__TRANSFER__WINDOW_UPDATE__INIT;
	w.update = n;
	return send_any(h, st, &w.base);
}

/* 1 and the message, or how the stream has ended. */
static int recv_any(struct harness *h, struct rpc_stream *st, const char *type, Any **ret)
{
	h->err = ERR_INIT;
	int r = rpc_stream_recv(st, h->arena, ANY, ret, &h->err);
	if (r == 1)
		assert_string_equal((*ret)->type_url, type);
	return r;
}

static int32_t recv_credit(struct harness *h, struct rpc_stream *st)
{
	Any *any;
	TR(WindowUpdate) * w;
	assert_int_equal(recv_any(h, st, "containerd.types.transfer.WindowUpdate", &any), 1);
	assert_ok(rpc_unpack(h->arena, &containerd__types__transfer__window_update__descriptor,
			     any->value.data, any->value.len, &w, &h->err));
	return w->update;
}

static struct rpc_stream *open_raw(struct harness *h)
{
	struct rpc_stream *st;
	assert_ok(rpc_stream_open(h->client, &h->ctx, STREAMING, "Stream", &st, &h->err));
	return st;
}

static struct rpc_stream *open_named(struct harness *h, const char *id)
{
	struct rpc_stream *st = open_raw(h);
	Any *any;
	assert_ok(send_init(h, st, id));
	if (recv_any(h, st, "google.protobuf.Empty", &any) != 1)
		fail_msg("%s", h->err.text);
	return st;
}

static void assert_ended(struct harness *h, struct rpc_stream *st)
{
	Any *any;
	if (recv_any(h, st, "", &any) != 0)
		fail_msg("%s", h->err.text);
	rpc_stream_free(st);
}

/* ---- names ---- */

static void stream_has_one_user_in_its_namespace(void **state)
{
	struct harness *h = *state;
	struct rpc_stream *st = open_named(h, "p1");
	struct stream *s, *other;
	Any *any;
	assert_err(stream_get(&h->ctx, h->s.streams, "p2", &s, &h->err), ERR_NOT_FOUND,
		   "stream \"p2\": not found");
	h->ctx.ns = "other";
	assert_int_equal(stream_get(&h->ctx, h->s.streams, "p1", &s, &h->err), -ERR_NOT_FOUND);
	h->ctx.ns = "default";
	assert_ok(stream_get(&h->ctx, h->s.streams, "p1", &s, &h->err));
	assert_err(stream_get(&h->ctx, h->s.streams, "p1", &other, &h->err),
		   ERR_FAILED_PRECONDITION, "stream \"p1\" is in use: failed precondition");
	TR(Progress) p = CONTAINERD__TYPES__TRANSFER__PROGRESS__INIT;
	p.event = (char *)"saving";
	p.progress = 12;
	assert_ok(stream_send(s, &p.base, &h->err));
	assert_int_equal(recv_any(h, st, "containerd.types.transfer.Progress", &any), 1);
	stream_close(s);
	assert_int_equal(stream_get(&h->ctx, h->s.streams, "p1", &s, &h->err), -ERR_NOT_FOUND);
	assert_ended(h, st);
	/* The name is free again. */
	harness_wait_done(h, 1);
	st = open_named(h, "p1");
	rpc_stream_free(st);
}

static void bad_openings_are_refused(void **state)
{
	struct harness *h = *state;
	struct rpc_stream *first = open_named(h, "x"), *st = open_raw(h);
	Any *any;
	assert_ok(send_init(h, st, "x"));
	assert_int_equal(recv_any(h, st, "", &any), -ERR_ALREADY_EXISTS);
	assert_string_equal(h->err.text, "stream \"x\": already exists");
	rpc_stream_free(st);
	st = open_raw(h);
	assert_ok(send_init(h, st, ""));
	assert_int_equal(recv_any(h, st, "", &any), -ERR_INVALID_ARGUMENT);
	rpc_stream_free(st);
	st = open_raw(h);
	assert_ok(send_credit(h, st, 1));
	assert_int_equal(recv_any(h, st, "", &any), -ERR_INVALID_ARGUMENT);
	rpc_stream_free(st);
	st = open_raw(h);
	assert_ok(rpc_stream_close_send(st, &h->err));
	assert_int_equal(recv_any(h, st, "", &any), -ERR_INVALID_ARGUMENT);
	rpc_stream_free(st);
	h->ctx.ns = "";
	st = open_raw(h);
	assert_ok(send_init(h, st, "y"));
	assert_int_equal(recv_any(h, st, "", &any), -ERR_FAILED_PRECONDITION);
	rpc_stream_free(st);
	rpc_stream_free(first);
}

static void stream_that_nobody_takes_ends_with_its_client_or_deadline(void **state)
{
	struct harness *h = *state;
	struct rpc_stream *st = open_named(h, "gone");
	struct stream *s;
	rpc_stream_cancel(st);
	rpc_stream_free(st);
	harness_wait_done(h, 1);
	assert_int_equal(stream_get(&h->ctx, h->s.streams, "gone", &s, &h->err), -ERR_NOT_FOUND);
	h->ctx.deadline = time_mono() + 2 * NSEC_PER_SEC; /* for its beginning, too */
	st = open_named(h, "late");
	h->ctx.deadline = 0;
	harness_wait_done(h, 2);
	assert_int_equal(stream_get(&h->ctx, h->s.streams, "late", &s, &h->err), -ERR_NOT_FOUND);
	rpc_stream_free(st);
}

static void user_of_a_stream_sees_that_its_client_has_gone(void **state)
{
	struct harness *h = *state;
	struct rpc_stream *st = open_named(h, "p");
	struct stream *s;
	TR(WindowUpdate) * w;
	TR(Progress) p = CONTAINERD__TYPES__TRANSFER__PROGRESS__INIT;
	assert_ok(stream_get(&h->ctx, h->s.streams, "p", &s, &h->err));
	rpc_stream_cancel(st);
	rpc_stream_free(st);
	assert_int_equal(stream_recv(s, h->arena,
				     &containerd__types__transfer__window_update__descriptor, &w,
				     &h->err),
			 -ERR_CANCELED);
	assert_int_equal(stream_send(s, &p.base, &h->err), -ERR_CANCELED);
	/* The handler waits for its user. */
	usleep(20000);
	assert_int_equal(atomic_load(&h->done), 0);
	stream_close(s);
	harness_wait_done(h, 1);
}

static void what_is_offered_and_not_read_is_left_out(void **state)
{
	struct harness *h = *state;
	struct rpc_stream *st = open_named(h, "p");
	struct stream *s;
	TR(Progress) p = CONTAINERD__TYPES__TRANSFER__PROGRESS__INIT;
	static char name[16384];
	size_t sent = 0;
	Any *any;
	memset(name, 'n', sizeof(name) - 1);
	p.name = name;
	assert_ok(stream_get(&h->ctx, h->s.streams, "p", &s, &h->err));
	while (sent < 10000 && stream_offer(s, &p.base, &h->err) == 0)
		sent++;
	assert_in_range(sent, 64, 9999);
	assert_int_equal(h->err.kind, ERR_RESOURCE_EXHAUSTED);
	stream_close(s);
	for (size_t i = 0; i < sent; i++)
		assert_int_equal(recv_any(h, st, "containerd.types.transfer.Progress", &any), 1);
	assert_ended(h, st);
}

/* ---- client to daemon ---- */

static void bytes_come_through_a_pipe_and_credit_goes_back(void **state)
{
	struct harness *h = *state;
	struct rpc_stream *st = open_named(h, "in");
	struct byte_source *b;
	char buf[16];
	assert_ok(byte_source_open(&h->ctx, &h->s, "in", &b, &h->err));
	assert_int_equal(recv_credit(h, st), WINDOW);
	assert_ok(send_data(h, st, "hello ", 6));
	assert_int_equal(recv_credit(h, st), 6);
	assert_ok(send_data(h, st, "world", 5));
	assert_int_equal(recv_credit(h, st), 5);
	assert_ok(rpc_stream_close_send(st, &h->err));
	assert_int_equal(fd_read_full(byte_source_fd(b), buf, sizeof(buf)), 11);
	assert_memory_equal(buf, "hello world", 11);
	assert_ok(byte_source_close(b, false, &h->err));
	assert_ended(h, st);
}

static void reader_sets_the_pace(void **state)
{
	struct harness *h = *state;
	struct rpc_stream *st = open_named(h, "in");
	struct byte_source *b;
	static uint8_t chunk[32768], back[32768];
	int held;
	for (size_t i = 0; i < sizeof(chunk); i++)
		chunk[i] = (uint8_t)(i * 7);
	assert_ok(byte_source_open(&h->ctx, &h->s, "in", &b, &h->err));
	assert_int_equal(recv_credit(h, st), WINDOW);
	/* The pipe takes two; the third is held until somebody reads, and is not credited. */
	for (int i = 0; i < 3; i++)
		assert_ok(send_data(h, st, chunk, sizeof(chunk)));
	assert_int_equal(recv_credit(h, st), sizeof(chunk));
	assert_int_equal(recv_credit(h, st), sizeof(chunk));
	assert_int_equal(ioctl(byte_source_fd(b), FIONREAD, &held), 0);
	assert_int_equal(held, WINDOW);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(fd_read_full(byte_source_fd(b), back, sizeof(back)), sizeof(back));
		assert_memory_equal(back, chunk, sizeof(back));
	}
	assert_int_equal(recv_credit(h, st), sizeof(chunk));
	assert_ok(rpc_stream_close_send(st, &h->err));
	assert_ok(byte_source_close(b, false, &h->err));
	assert_ended(h, st);
}

static void what_follows_the_archive_is_taken_in(void **state)
{
	struct harness *h = *state;
	struct rpc_stream *st = open_named(h, "in");
	struct byte_source *b;
	static uint8_t chunk[32768];
	assert_ok(byte_source_open(&h->ctx, &h->s, "in", &b, &h->err));
	for (int i = 0; i < 5; i++)
		assert_ok(send_data(h, st, chunk, sizeof(chunk)));
	assert_ok(rpc_stream_close_send(st, &h->err));
	assert_int_equal(read(byte_source_fd(b), chunk, 1), 1);
	assert_ok(byte_source_close(b, false, &h->err));
	for (int i = 0; i < 6; i++)
		recv_credit(h, st);
	assert_ended(h, st);
}

static void abandoned_bytes_are_dropped_until_the_client_ends(void **state)
{
	struct harness *h = *state;
	struct rpc_stream *st = open_named(h, "in");
	struct byte_source *b;
	static uint8_t chunk[32768];
	assert_ok(byte_source_open(&h->ctx, &h->s, "in", &b, &h->err));
	for (int i = 0; i < 4; i++)
		assert_ok(send_data(h, st, chunk, sizeof(chunk)));
	/* Returns at once, although the writer is stuck in a full pipe. */
	assert_ok(byte_source_close(b, true, &h->err));
	for (int i = 0; i < 4; i++)
		assert_ok(send_data(h, st, chunk, sizeof(chunk)));
	for (int i = 0; i < 9; i++)
		recv_credit(h, st);
	assert_ok(rpc_stream_close_send(st, &h->err));
	assert_ended(h, st);
}

static void abandon_after_the_end_frees_at_once(void **state)
{
	struct harness *h = *state;
	struct rpc_stream *st = open_named(h, "in");
	struct byte_source *b;
	char c;
	assert_ok(byte_source_open(&h->ctx, &h->s, "in", &b, &h->err));
	assert_ok(rpc_stream_close_send(st, &h->err));
	assert_int_equal(read(byte_source_fd(b), &c, 1), 0);
	assert_ok(byte_source_close(b, true, &h->err));
	assert_int_equal(recv_credit(h, st), WINDOW);
	assert_ended(h, st);
}

static void wrong_message_in_a_byte_stream_is_told(void **state)
{
	struct harness *h = *state;
	struct rpc_stream *st = open_named(h, "in");
	struct byte_source *b;
	char c;
	assert_ok(byte_source_open(&h->ctx, &h->s, "in", &b, &h->err));
	assert_ok(send_credit(h, st, 1));
	assert_int_equal(read(byte_source_fd(b), &c, 1), 0);
	assert_int_equal(byte_source_close(b, false, &h->err), -ERR_INVALID_ARGUMENT);
	assert_non_null(strstr(h->err.text, "got containerd.types.transfer.WindowUpdate where"));
	assert_int_equal(recv_credit(h, st), WINDOW);
	assert_ended(h, st);
}

static void client_that_goes_ends_the_bytes_with_an_error(void **state)
{
	struct harness *h = *state;
	struct rpc_stream *st = open_named(h, "in");
	struct byte_source *b;
	char buf[4];
	assert_ok(byte_source_open(&h->ctx, &h->s, "in", &b, &h->err));
	assert_int_equal(recv_credit(h, st), WINDOW);
	assert_ok(send_data(h, st, "abc", 3));
	assert_int_equal(recv_credit(h, st), 3);
	rpc_stream_cancel(st);
	rpc_stream_free(st);
	assert_int_equal(fd_read_full(byte_source_fd(b), buf, sizeof(buf)), 3);
	assert_int_equal(byte_source_close(b, false, &h->err), -ERR_CANCELED);
	harness_wait_done(h, 1);
}

static void request_that_ends_does_not_wait_for_the_rest_of_the_bytes(void **state)
{
	struct harness *h = *state;
	struct rpc_stream *st = open_named(h, "in");
	struct byte_source *b;
	assert_ok(byte_source_open(&h->ctx, &h->s, "in", &b, &h->err));
	assert_int_equal(recv_credit(h, st), WINDOW);
	assert_ok(send_data(h, st, "abc", 3));
	assert_int_equal(recv_credit(h, st), 3);
	atomic_store(&h->ctx.canceled, true);
	assert_int_equal(byte_source_close(b, false, &h->err), -ERR_CANCELED);
	/* The client's stream is its own: what it still sends is dropped. */
	atomic_store(&h->ctx.canceled, false);
	assert_ok(send_data(h, st, "def", 3));
	assert_int_equal(recv_credit(h, st), 3);
	assert_ok(rpc_stream_close_send(st, &h->err));
	assert_ended(h, st);
}

static void source_of_an_unknown_stream_is_not_found(void **state)
{
	struct harness *h = *state;
	struct byte_source *b;
	struct byte_sink *k;
	assert_int_equal(byte_source_open(&h->ctx, &h->s, "none", &b, &h->err), -ERR_NOT_FOUND);
	assert_int_equal(byte_sink_open(&h->ctx, &h->s, "none", &k, &h->err), -ERR_NOT_FOUND);
}

/* ---- daemon to client ---- */

struct sinking {
	struct byte_sink *k;
	const uint8_t *p;
	size_t n;
	struct err err;
	int r;
};

static void *sink_main(void *arg)
{
	struct sinking *s = arg;
	s->r = byte_sink_write(s->k, s->p, s->n, &s->err);
	return NULL;
}

static size_t recv_data(struct harness *h, struct rpc_stream *st, uint8_t *p)
{
	Any *any;
	TR(Data) * d;
	assert_int_equal(recv_any(h, st, "containerd.types.transfer.Data", &any), 1);
	assert_ok(rpc_unpack(h->arena, &containerd__types__transfer__data__descriptor,
			     any->value.data, any->value.len, &d, &h->err));
	memcpy(p, d->data.data, d->data.len);
	return d->data.len;
}

static void sink_sends_within_the_credit(void **state)
{
	struct harness *h = *state;
	struct rpc_stream *st = open_named(h, "out");
	static uint8_t bytes[70000], back[70000];
	struct sinking s = {.p = bytes, .n = sizeof(bytes)};
	pthread_t t;
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 31 + i / 256);
	assert_ok(byte_sink_open(&h->ctx, &h->s, "out", &s.k, &h->err));
	assert_int_equal(pthread_create(&t, NULL, sink_main, &s), 0);
	assert_ok(send_credit(h, st, -5)); /* of no effect */
	assert_ok(send_credit(h, st, 10));
	assert_int_equal(recv_data(h, st, back), 10);
	assert_ok(send_credit(h, st, WINDOW));
	assert_int_equal(recv_data(h, st, back + 10), 32768);
	assert_int_equal(recv_data(h, st, back + 10 + 32768), 32768);
	assert_ok(send_credit(h, st, INT32_MAX));
	assert_ok(send_credit(h, st, INT32_MAX));
	assert_int_equal(recv_data(h, st, back + 10 + WINDOW), sizeof(bytes) - WINDOW - 10);
	pthread_join(t, NULL);
	assert_int_equal(s.r, 0);
	assert_memory_equal(bytes, back, sizeof(bytes));
	byte_sink_close(s.k);
	assert_ended(h, st);
}

static void sink_without_credit_ends_with_its_request(void **state)
{
	struct harness *h = *state;
	struct rpc_stream *st = open_named(h, "out");
	struct byte_sink *k;
	assert_ok(byte_sink_open(&h->ctx, &h->s, "out", &k, &h->err));
	h->ctx.deadline = time_mono() + NSEC_PER_SEC / 10;
	assert_int_equal(byte_sink_write(k, "x", 1, &h->err), -ERR_DEADLINE_EXCEEDED);
	h->ctx.deadline = 0;
	byte_sink_close(k);
	assert_ended(h, st);
}

static void sink_whose_client_closes_gives_up(void **state)
{
	struct harness *h = *state;
	struct rpc_stream *st = open_named(h, "out");
	struct byte_sink *k;
	assert_ok(byte_sink_open(&h->ctx, &h->s, "out", &k, &h->err));
	assert_ok(rpc_stream_close_send(st, &h->err));
	assert_int_equal(byte_sink_write(k, "x", 1, &h->err), -ERR_CANCELED);
	byte_sink_close(k);
	assert_ended(h, st);
	st = open_named(h, "out");
	assert_ok(byte_sink_open(&h->ctx, &h->s, "out", &k, &h->err));
	rpc_stream_cancel(st);
	rpc_stream_free(st);
	assert_int_equal(byte_sink_write(k, "x", 1, &h->err), -ERR_CANCELED);
	byte_sink_close(k);
	harness_wait_done(h, 2);
}

#define T(name) cmocka_unit_test_setup_teardown(name, harness_setup, harness_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(stream_has_one_user_in_its_namespace),
		T(bad_openings_are_refused),
		T(stream_that_nobody_takes_ends_with_its_client_or_deadline),
		T(user_of_a_stream_sees_that_its_client_has_gone),
		T(what_is_offered_and_not_read_is_left_out),
		T(bytes_come_through_a_pipe_and_credit_goes_back),
		T(reader_sets_the_pace),
		T(what_follows_the_archive_is_taken_in),
		T(abandoned_bytes_are_dropped_until_the_client_ends),
		T(abandon_after_the_end_frees_at_once),
		T(wrong_message_in_a_byte_stream_is_told),
		T(client_that_goes_ends_the_bytes_with_an_error),
		T(request_that_ends_does_not_wait_for_the_rest_of_the_bytes),
		T(source_of_an_unknown_stream_is_not_found),
		T(sink_sends_within_the_credit),
		T(sink_without_credit_ends_with_its_request),
		T(sink_whose_client_closes_gives_up),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
