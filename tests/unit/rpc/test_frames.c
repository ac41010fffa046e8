/* SPDX-License-Identifier: Apache-2.0 */
/* Parsers of both wire formats, and the helpers around protobuf-c. */
#include "harness.h"

#include "rpc/grpc_frame.h"
#include "rpc/ttrpc_frame.h"

static void timeouts_are_read(void **state)
{
	static const struct {
		const char *s;
		int64_t ns;
	} good[] = {{"1n", 1},
		    {"20u", 20000},
		    {"100m", 100000000},
		    {"5S", 5 * NSEC_PER_SEC},
		    {"2M", 120 * NSEC_PER_SEC},
		    {"1H", 3600 * NSEC_PER_SEC},
		    {"99999999H", INT64_MAX},
		    {"0n", 0}};
	static const char *const bad[] = {"",	 "n",	"1",   "123456789n", "1x",
					  "1nn", "-1n", " 1n", "1 n"};
	int64_t ns;

	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		assert_int_equal(grpc_timeout_parse(good[i].s, &ns), 0);
		assert_int_equal(ns, good[i].ns);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_true(grpc_timeout_parse(bad[i], &ns) < 0);
}

static void timeouts_are_written_rounded_up(void **state)
{
	static const int64_t values[] = {0,
					 1,
					 99999998,
					 99999999,
					 100000001,
					 NSEC_PER_SEC,
					 3600 * NSEC_PER_SEC,
					 INT64_MAX / 2,
					 INT64_MAX};
	char s[16];
	int64_t ns;

	for (size_t i = 0; i < ARRAY_LEN(values); i++) {
		grpc_timeout_format(values[i], s);
		assert_int_equal(grpc_timeout_parse(s, &ns), 0);
		assert_true(ns >= values[i]);
		assert_true(ns - values[i] <= values[i] / 10000);
	}
	grpc_timeout_format(-5, s);
	assert_string_equal(s, "0n");
}

static void texts_survive_percent_encoding(void **state)
{
	const char *text = "100% caf\xc3\xa9\r\n\x01\x7f end";
	struct buf b = BUF_INIT;

	grpc_message_encode(&b, text);
	assert_string_equal(b.data, "100%25 caf%C3%A9%0D%0A%01%7F end");
	grpc_message_decode(b.data);
	assert_string_equal(b.data, text);
	buf_done(&b);
	char stray[] = "a%b%zz%4%00%41%";
	grpc_message_decode(stray);
	assert_string_equal(stray, "a%b%zz%4%00A%");
}

/* Three messages in steps of each size give the same messages. */
static void grpc_messages_are_assembled_from_any_pieces(void **state)
{
	static const uint8_t wire[] = {0, 0, 0, 0, 3, 'a', 'b', 'c', 0,	 0,
				       0, 0, 0, 0, 0, 0,   0,	1,   'z'};
	static const char *const want[] = {"abc", "", "z"};

	for (size_t step = 1; step <= sizeof(wire); step++) {
		struct grpc_reader r = {.max = 3};
		size_t n_msg = 0;

		for (size_t at = 0; at < sizeof(wire); at += step) {
			const uint8_t *p = wire + at;
			size_t n = MIN(step, sizeof(wire) - at);
			struct rpc_msg *m;

			while (grpc_reader_feed(&r, &p, &n, &m, NULL) == 1) {
				assert_int_equal(m->n, strlen(want[n_msg]));
				assert_memory_equal(m->p, want[n_msg], m->n);
				n_msg++;
				rpc_msg_free(m);
			}
			assert_int_equal(n, 0);
		}
		assert_int_equal(n_msg, 3);
		assert_int_equal(grpc_reader_partial(&r), 0);
	}
}

static void grpc_refuses_large_and_compressed_messages(void **state)
{
	static const uint8_t large[] = {0, 0, 0, 0, 4}, compressed[] = {1, 0, 0, 0, 1},
			     bad[] = {7, 0, 0, 0, 1};
	static const uint8_t *const wires[] = {large, compressed, bad};
	static const int kinds[] = {ERR_RESOURCE_EXHAUSTED, ERR_INTERNAL, ERR_INTERNAL};

	for (size_t i = 0; i < ARRAY_LEN(wires); i++) {
		struct grpc_reader r = {.max = 3};
		struct err err = ERR_INIT;
		const uint8_t *p = wires[i];
		size_t n = 5;
		struct rpc_msg *m;

		assert_int_equal(grpc_reader_feed(&r, &p, &n, &m, &err), -kinds[i]);
		if (i == 0)
			assert_string_equal(err.text,
					    "grpc: received message larger than max (4 vs. 3)");
	}
}

static void ttrpc_frames_are_assembled_from_any_pieces(void **state)
{
	uint8_t wire[64];
	size_t len = 0;

	for (int i = 0; i < 3; i++) {
		struct rpc_msg *m = rpc_msg_new((size_t)i);

		memset(m->p, 'x', (size_t)i);
		ttrpc_frame_wrap(m, (uint32_t)(i * 2 + 1), TTRPC_DATA, (uint8_t)i);
		memcpy(wire + len, m->p, m->n);
		len += m->n;
		rpc_msg_free(m);
	}
	for (size_t step = 1; step <= len; step++) {
		struct ttrpc_reader r = {0};
		uint32_t k = 0;

		for (size_t at = 0; at < len; at += step) {
			const uint8_t *p = wire + at;
			size_t n = MIN(step, len - at);
			struct ttrpc_header h;
			struct rpc_msg *m;

			while (ttrpc_reader_feed(&r, &p, &n, &h, &m) == 1) {
				assert_int_equal(h.len, k);
				assert_int_equal(h.id, k * 2 + 1);
				assert_int_equal(h.type, TTRPC_DATA);
				assert_int_equal(h.flags, k);
				assert_int_equal(m->n, k);
				k++;
				rpc_msg_free(m);
			}
		}
		assert_int_equal(k, 3);
	}
}

static void ttrpc_skips_oversized_payload(void **state)
{
	uint8_t head[TTRPC_HEADER] = {0, 0x40, 0, 1, 0, 0, 0, 7, TTRPC_REQUEST, 0};
	uint8_t chunk[65536] = {0};
	struct ttrpc_reader r = {0};
	struct ttrpc_header h;
	struct rpc_msg *m = (struct rpc_msg *)chunk;
	const uint8_t *p = head;
	size_t n = sizeof(head), left = (4 << 20) + 1;
	int rc = ttrpc_reader_feed(&r, &p, &n, &h, &m);

	while (rc == 0) {
		n = MIN(left, sizeof(chunk));
		assert_true(n > 0);
		left -= n;
		p = chunk;
		rc = ttrpc_reader_feed(&r, &p, &n, &h, &m);
	}
	assert_int_equal(rc, 1);
	assert_null(m);
	assert_int_equal(left, 0);
	assert_int_equal(h.id, 7);
}

static void response_wrapper_is_what_protobuf_writes(void **state)
{
	static const size_t sizes[] = {0, 1, 127, 128, 20000, 3000000};

	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		Ttrpc__Response want = TTRPC__RESPONSE__INIT;
		struct rpc_msg *m = rpc_msg_new(sizes[i]);
		uint8_t *packed;

		memset(m->p, 'y', m->n);
		want.payload.data = m->p;
		want.payload.len = m->n;
		packed = malloc(protobuf_c_message_get_packed_size(&want.base) + 1);
		size_t n = protobuf_c_message_pack(&want.base, packed);
		ttrpc_response_wrap(m);
		assert_int_equal(m->n, n);
		assert_memory_equal(m->p, packed, n);
		free(packed);
		rpc_msg_free(m);
	}
}

static void unpack_limits_nesting_and_memory(void **state)
{
	uint8_t *wire = malloc(1 << 20);
	struct arena *a = arena_new(1 << 20);
	struct err err = ERR_INIT;
	size_t n = 0;
	void *m;

	/* google.protobuf.Value inside of ListValue inside of Value ...: built from the inside. */
	uint8_t *p = wire + (1 << 20);
	for (int i = 0; i < 10000; i++) {
		uint8_t head[12];
		size_t k = 0, v = n;

		head[k++] = (uint8_t)((i % 2 ? 6 : 1) << 3 | 2);
		for (; v >= 0x80; v >>= 7)
			head[k++] = (uint8_t)(v | 0x80);
		head[k++] = (uint8_t)v;
		p -= k;
		n += k;
		memcpy(p, head, k);
	}
	assert_int_equal(rpc_unpack(a, &google__protobuf__value__descriptor, p, n, &m, &err),
			 -ERR_INVALID_ARGUMENT);
	assert_non_null(strstr(err.text, "nested"));
	/* Two bytes of input a message: the arena's limit holds. */
	for (size_t i = 0; i < 1 << 20; i += 2) {
		wire[i] = 1 << 3 | 2;
		wire[i + 1] = 0;
	}
	assert_int_equal(
		rpc_unpack(a, &google__protobuf__list_value__descriptor, wire, 1 << 20, &m, &err),
		-ERR_INVALID_ARGUMENT);
	/* A string is UTF-8 without NUL, as proto3 has it. */
	assert_int_equal(
		rpc_unpack(a, &google__protobuf__any__descriptor, "\x0a\x02\xff\xfe", 4, &m, &err),
		-ERR_INVALID_ARGUMENT);
	assert_int_equal(
		rpc_unpack(a, &google__protobuf__any__descriptor, "\x0a\x02x\0", 4, &m, &err),
		-ERR_INVALID_ARGUMENT);
	assert_int_equal(rpc_unpack(a, &google__protobuf__any__descriptor, "\x0a\x7f", 2, &m, &err),
			 -ERR_INVALID_ARGUMENT);
	assert_non_null(strstr(err.text, "google.protobuf.Any"));
	assert_int_equal(rpc_unpack(a, &google__protobuf__any__descriptor, NULL, 0, &m, &err), 0);
	arena_free(a);
	free(wire);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(timeouts_are_read),
		cmocka_unit_test(timeouts_are_written_rounded_up),
		cmocka_unit_test(texts_survive_percent_encoding),
		cmocka_unit_test(grpc_messages_are_assembled_from_any_pieces),
		cmocka_unit_test(grpc_refuses_large_and_compressed_messages),
		cmocka_unit_test(ttrpc_frames_are_assembled_from_any_pieces),
		cmocka_unit_test(ttrpc_skips_oversized_payload),
		cmocka_unit_test(response_wrapper_is_what_protobuf_writes),
		cmocka_unit_test(unpack_limits_nesting_and_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
