/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "worker/websocket.h"

struct fixture {
	struct websocket w;
	struct buf message, controls; /* controls: as opcode digit and payload */
	size_t n_messages;
};

static int on_message(void *arg, const void *p, size_t n, bool last)
{
	struct fixture *f = arg;

	f->n_messages += last;
	return buf_add(&f->message, p, n);
}

static int on_control(void *arg, enum websocket_opcode opcode, const void *p, size_t n)
{
	struct fixture *f = arg;

	return buf_printf(&f->controls, "%u:%.*s;", opcode, (int)n, (const char *)p);
}

static int setup(void **state)
{
	static const struct websocket_events events = {on_message, on_control};
	struct fixture *f = calloc(1, sizeof(*f));

	f->w.events = &events;
	f->w.arg = f;
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	buf_done(&f->message);
	buf_done(&f->controls);
	free(f);
	return 0;
}

/* A client's frame: as a server's, with a mask. */
static void frame(struct buf *b, unsigned first, const char *p, size_t n)
{
	static const char mask[4] = {1, 2, 3, 4};
	size_t at = b->len;

	websocket_head(b, WEBSOCKET_BINARY, n);
	b->data[at] = (char)first;
	b->data[at + 1] = (char)(b->data[at + 1] | 0x80);
	buf_add(b, mask, 4);
	for (size_t i = 0; i < n; i++)
		buf_addc(b, (char)(p[i] ^ mask[i & 3]));
}

static int feed(struct fixture *f, const struct buf *b, size_t step)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < b->len; i += step)
		r = websocket_feed(&f->w, b->data + i, b->len - i < step ? b->len - i : step);
	return r;
}

static void messages_are_unmasked_and_put_together(void **state)
{
	struct fixture *f = *state;
	struct buf b = BUF_INIT;
	char *big = calloc(1, 70000);
	size_t total = 0;

	memset(big, 'x', 70000);
	frame(&b, 0x02, "one", 3);
	frame(&b, 0x89, "ping", 4);
	frame(&b, 0x00, "", 0);
	frame(&b, 0x80, "two", 3);
	for (size_t n = 125; n <= 70000; n = n == 125			   ? 126
					     : n * 23 > 70000 && n < 70000 ? 70000
									   : n * 23) {
		frame(&b, 0x82, big, n);
		total += n;
	}
	frame(&b, 0x88, "\x03\xe8", 2);
	for (size_t step = 1; step <= b.len; step = step * 7 + 1) {
		buf_clear(&f->message);
		buf_clear(&f->controls);
		assert_int_equal(feed(f, &b, step), 0);
		assert_int_equal(f->message.len, 6 + total);
		assert_memory_equal(f->message.data, "onetwoxxx", 9);
		assert_string_equal(f->controls.data, "9:ping;8:\x03\xe8;");
	}
	free(big);
	buf_done(&b);
}

static void wrong_frames_are_refused(void **state)
{
	static const unsigned first[] = {0xc2, 0x83, 0x8b, 0x09, 0x80, 0x00};
	static const char *const raw[] = {
		"\x82\x01x",		   /* no mask */
		"\x89\xfe\x01\x01mask",	   /* a long ping */
		"\x82\xff\xff\xff\xff\xff" /* longer than anything */
		"\xff\xff\xff\xffmask",
	};

	for (size_t i = 0; i < sizeof(first) / sizeof(first[0]); i++) {
		struct buf b = BUF_INIT;
		void *f;

		setup(&f);
		frame(&b, first[i], "x", 1);
		assert_int_equal(feed(f, &b, 1), -EPROTO);
		buf_done(&b);
		teardown(&f);
	}
	for (size_t i = 0; i < sizeof(raw) / sizeof(raw[0]); i++) {
		struct buf b = BUF_INIT;
		void *f;

		setup(&f);
		buf_adds(&b, raw[i]);
		assert_int_equal(feed(f, &b, 3), -EPROTO);
		buf_done(&b);
		teardown(&f);
	}
	(void)state;
}

static void a_new_message_within_another_is_refused(void **state)
{
	struct fixture *f = *state;
	struct buf b = BUF_INIT;

	frame(&b, 0x02, "a", 1);
	frame(&b, 0x82, "b", 1);
	assert_int_equal(feed(f, &b, 100), -EPROTO);
	buf_done(&b);
}

static void base64_is_the_same_in_any_pieces(void **state)
{
	static const char *const texts[] = {"", "f", "fo", "foo", "foob", "fooba", "foobar"};
	static const char *const codes[] = {"",		"Zg==",	    "Zm8=",    "Zm9v",
					    "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"};

	for (size_t i = 0; i < 7; i++)
		for (size_t step = 1; step < 6; step++) {
			struct buf b = BUF_INIT, all = BUF_INIT;
			struct base64 d = {0};
			uint8_t out[16];
			size_t n;

			base64_encode(&b, texts[i], strlen(texts[i]));
			assert_string_equal(b.data ? b.data : "", codes[i]);
			for (size_t k = 0; k < b.len; k += step) {
				size_t m = b.len - k < step ? b.len - k : step;

				assert_int_equal(base64_decode(&d, b.data + k, m, out, &n), 0);
				assert_true(n <= m + 2);
				buf_add(&all, out, n);
			}
			assert_true(base64_end(&d));
			assert_string_equal(all.data ? all.data : "", texts[i]);
			buf_done(&b);
			buf_done(&all);
		}
	(void)state;
}

static void wrong_base64_is_refused(void **state)
{
	static const char *const bad[] = {"*", "Zg=a", "Z===", "=", "Zg==Zg==", "a b"};
	uint8_t out[16];
	size_t n;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct base64 d = {0};

		assert_int_equal(base64_decode(&d, bad[i], strlen(bad[i]), out, &n), -EINVAL);
	}
	struct base64 d = {0};
	assert_int_equal(base64_decode(&d, "Zm9", 3, out, &n), 0);
	assert_false(base64_end(&d));
	(void)state;
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(messages_are_unmasked_and_put_together),
		T(wrong_frames_are_refused),
		T(a_new_message_within_another_is_refused),
		T(base64_is_the_same_in_any_pieces),
		T(wrong_base64_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
