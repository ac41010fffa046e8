/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "worker/spdy.h"

/* What the events said, as text. */
struct fixture {
	struct spdy *s;
	struct buf seen;
	struct buf in; /* what the client sends */
	z_stream z;    /* its compression */
};

static int on_open(void *arg, uint32_t id, const struct spdy_header *h, size_t n, bool fin)
{
	struct fixture *f = arg;

	buf_printf(&f->seen, "open %u", id);
	for (size_t i = 0; i < n; i++)
		buf_printf(&f->seen, " %s=%s", h[i].name, h[i].value);
	buf_adds(&f->seen, fin ? " fin\n" : "\n");
	return 0;
}

static int on_data(void *arg, uint32_t id, const void *p, size_t n, bool fin)
{
	struct fixture *f = arg;

	buf_printf(&f->seen, "data %u %.*s%s\n", id, (int)n, (const char *)p, fin ? " fin" : "");
	return 0;
}

static int on_reset(void *arg, uint32_t id)
{
	return buf_printf(&((struct fixture *)arg)->seen, "reset %u\n", id);
}

static int on_window(void *arg, uint32_t id, uint32_t delta)
{
	return buf_printf(&((struct fixture *)arg)->seen, "window %u %u\n", id, delta);
}

static int on_initial(void *arg, uint32_t size)
{
	return buf_printf(&((struct fixture *)arg)->seen, "initial %u\n", size);
}

static int on_ping(void *arg, uint32_t id)
{
	return buf_printf(&((struct fixture *)arg)->seen, "ping %u\n", id);
}

static int on_goaway(void *arg)
{
	return buf_adds(&((struct fixture *)arg)->seen, "goaway\n");
}

static int setup(void **state)
{
	static const struct spdy_events events = {on_open,    on_data, on_reset, on_window,
						  on_initial, on_ping, on_goaway};
	struct fixture *f = calloc(1, sizeof(*f));

	f->s = spdy_new(&events, f);
	assert_non_null(f->s);
	assert_int_equal(deflateInit(&f->z, 9), Z_OK);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	spdy_free(f->s);
	deflateEnd(&f->z);
	buf_done(&f->seen);
	buf_done(&f->in);
	free(f);
	return 0;
}

static void u32(struct buf *b, uint32_t v)
{
	uint8_t p[] = {(uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};

	assert_int_equal(buf_add(b, p, 4), 0);
}

/* A SYN_STREAM with a block of @plain bytes. */
static void syn(struct fixture *f, uint32_t id, const struct buf *plain, int flags)
{
	static uint8_t z[128 << 10];

	f->z.next_in = (Bytef *)plain->data;
	f->z.avail_in = (uInt)plain->len;
	f->z.next_out = z;
	f->z.avail_out = sizeof(z);
	assert_int_equal(deflate(&f->z, Z_SYNC_FLUSH), Z_OK);
	u32(&f->in, 0x80030001);
	u32(&f->in, (uint32_t)flags << 24 | (uint32_t)(10 + sizeof(z) - f->z.avail_out));
	u32(&f->in, id);
	u32(&f->in, 0);
	buf_add(&f->in, "\0", 2);
	buf_add(&f->in, z, sizeof(z) - f->z.avail_out);
}

static void syn1(struct fixture *f, uint32_t id, const char *name, const char *value, int flags)
{
	struct buf b = BUF_INIT;

	u32(&b, 1);
	u32(&b, (uint32_t)strlen(name));
	buf_adds(&b, name);
	u32(&b, (uint32_t)strlen(value));
	buf_adds(&b, value);
	syn(f, id, &b, flags);
	buf_done(&b);
}

static void control(struct fixture *f, unsigned type, const uint32_t *v, size_t n)
{
	u32(&f->in, 0x80030000u | type);
	u32(&f->in, (uint32_t)(4 * n));
	for (size_t i = 0; i < n; i++)
		u32(&f->in, v[i]);
}

static int feed(struct fixture *f, size_t step)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < f->in.len; i += step)
		r = spdy_feed(f->s, f->in.data + i, f->in.len - i < step ? f->in.len - i : step);
	return r;
}

static void all_frames(struct fixture *f)
{
	syn1(f, 1, "streamtype", "error", 0);
	syn1(f, 3, "streamtype", "stdin", 1);
	spdy_data(&f->in, 1, "hello", 5, false);
	spdy_data(&f->in, 1, NULL, 0, true);
	control(f, 3, (uint32_t[]){3, 5}, 2);
	control(f, 4, (uint32_t[]){2, 0x01000004, 100, 7, 9000}, 5);
	control(f, 6, (uint32_t[]){11}, 1);
	control(f, 7, (uint32_t[]){3, 0}, 2);
	control(f, 9, (uint32_t[]){1, 77}, 2);
	control(f, 99, (uint32_t[]){1, 77}, 2);
}

static void frames_become_events(void **state)
{
	struct fixture *f = *state;

	all_frames(f);
	assert_int_equal(feed(f, 1 << 20), 0);
	assert_string_equal(f->seen.data,
			    "open 1 streamtype=error\nopen 3 streamtype=stdin fin\n"
			    "data 1 hello\ndata 1  fin\nreset 3\ninitial 9000\nping 11\ngoaway\n"
			    "window 1 77\n");
}

static void frames_may_come_byte_by_byte(void **state)
{
	struct fixture *f = *state;

	all_frames(f);
	assert_int_equal(feed(f, 1), 0);
	assert_non_null(strstr(f->seen.data, "open 3 streamtype=stdin fin\ndata 1 h\ndata 1 e\n"));
	assert_non_null(strstr(f->seen.data, "data 1  fin\nreset 3\ninitial 9000\nping 11\n"));
}

static void a_block_that_inflates_to_too_much_is_refused(void **state)
{
	struct fixture *f = *state;
	struct buf b = BUF_INIT;

	u32(&b, 1);
	u32(&b, 1);
	buf_adds(&b, "x");
	u32(&b, SPDY_BLOCK_MAX);
	for (size_t i = 0; i < SPDY_BLOCK_MAX; i++)
		buf_addc(&b, 'y');
	syn(f, 1, &b, 0);
	buf_done(&b);
	assert_true(f->in.len < 1000);
	assert_int_equal(feed(f, 1 << 20), -EPROTO);
}

static void blocks_that_lie_are_refused(void **state)
{
	static const struct {
		size_t n;
		const char *p;
	} bad[] = {
		{3, "\0\0\0"},
		{4, "\0\0\0\1"},
		{4, "\xff\xff\xff\xff"},
		{10, "\0\0\0\1\0\0\0\1xy"},
		{13, "\0\0\0\1\0\0\0\1x\xff\xff\xff\xff"},
		{14, "\0\0\0\1\0\0\0\1x\0\0\0\0y"},
		{12, "\0\0\0\1\0\0\0\0\0\0\0\0"},
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct buf b = BUF_INIT;
		void *f;

		setup(&f);
		buf_add(&b, bad[i].p, bad[i].n);
		syn(f, 1, &b, 0);
		assert_int_equal(feed(f, 1 << 20), -EPROTO);
		buf_done(&b);
		teardown(&f);
	}
	(void)state;
}

static void control_frames_that_are_wrong_are_refused(void **state)
{
	static const uint32_t bad[][3] = {
		{0x80020006, 4, 1},		       /* another version */
		{0x80030006, 0, 0},		       /* a ping of nothing */
		{0x80030003, 4, 1},		       /* a short reset */
		{0x80030001, 4, 1},		       /* a short stream */
		{0x80030004, 4, 1},		       /* settings that are not there */
		{0x80030001, SPDY_CONTROL_MAX + 1, 1}, /* too long */
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct fixture *f;
		void *p;

		setup(&p);
		f = p;
		u32(&f->in, bad[i][0]);
		u32(&f->in, bad[i][1]);
		u32(&f->in, bad[i][2]);
		assert_int_equal(feed(f, 1 << 20), -EPROTO);
		teardown(&p);
	}
	(void)state;
}

/* Every SPDY/3 header block begins so: the dictionary's Adler-32. */
static void replies_begin_with_the_known_dictionary(void **state)
{
	static const uint8_t expected[] = {0x80, 3, 0, 2, 0, 0, 0};
	struct fixture *f = *state;
	struct buf out = BUF_INIT;
	z_stream z = {0};
	uint8_t plain[64];

	spdy_reply(f->s, &out, 5);
	assert_true(buf_ok(&out));
	assert_memory_equal(out.data, expected, sizeof(expected));
	assert_memory_equal(out.data + 8, "\0\0\0\5", 4);
	assert_memory_equal(out.data + 14, "\xe3\xc6\xa7\xc2", 4);
	assert_int_equal((uint8_t)out.data[7], out.len - 8);
	assert_int_equal(inflateInit(&z), Z_OK);
	z.next_in = (Bytef *)out.data + 12;
	z.avail_in = (uInt)out.len - 12;
	z.next_out = plain;
	z.avail_out = sizeof(plain);
	assert_int_equal(inflate(&z, Z_SYNC_FLUSH), Z_NEED_DICT);
	assert_int_equal(z.adler, 0xe3c6a7c2);
	inflateEnd(&z);
	buf_done(&out);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(frames_become_events),
		T(frames_may_come_byte_by_byte),
		T(a_block_that_inflates_to_too_much_is_refused),
		T(blocks_that_lie_are_refused),
		T(control_frames_that_are_wrong_are_refused),
		T(replies_begin_with_the_known_dictionary),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
