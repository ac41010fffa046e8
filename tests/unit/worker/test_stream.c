/* SPDX-License-Identifier: Apache-2.0 */
/* Compressed streams, cut into pieces of all sizes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "base/buf.h"
#include "base/digest.h"
#include "worker/inflate.h"
#include "worker/stream.h"

struct source {
	const char *p;
	size_t n, at, chunk;
};

static ssize_t source_read(void *arg, void *p, size_t n)
{
	struct source *s = arg;

	n = MIN(MIN(n, s->chunk), s->n - s->at);
	if (n > 0)
		memcpy(p, s->p + s->at, n);
	s->at += n;
	return (ssize_t)n;
}

/* @head NULL = a short one. */
static void gzip_add_with(struct buf *b, gz_header *head, const void *p, size_t n)
{
	z_stream z = {0};
	static char out[1 << 20];

	assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
	if (head)
		assert_int_equal(deflateSetHeader(&z, head), Z_OK);
	z.next_in = (void *)p;
	z.avail_in = (unsigned)n;
	z.next_out = (void *)out;
	z.avail_out = sizeof(out);
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	buf_add(b, out, sizeof(out) - z.avail_out);
	deflateEnd(&z);
}

static void gzip_add(struct buf *b, const void *p, size_t n)
{
	gzip_add_with(b, NULL, p, n);
}

static void zstd_add(struct buf *b, const void *p, size_t n)
{
	static char out[1 << 20];
	size_t z = ZSTD_compress(out, sizeof(out), p, n, 3);

	assert_false(ZSTD_isError(z));
	buf_add(b, out, z);
}

/* Not compressible to nothing, not random. */
static char *text(size_t n)
{
	char *p = malloc(n);
	unsigned x = 1;

	for (size_t i = 0; i < n; i++) {
		x = x * 1103515245 + 12345;
		p[i] = (char)('a' + (x >> 16) % 7);
	}
	return p;
}

/* Inflates @in; the error's kind, or 0 and the output. */
static int inflate_all(const struct buf *in, size_t chunk, size_t step, struct buf *out,
		       struct err *err)
{
	struct source s = {in->data, in->len, 0, chunk};
	_cleanup_(inflate_freep) struct inflate *f = inflate_new(source_read, &s);
	_cleanup_free_ char *p = malloc(step);
	ssize_t n;

	buf_clear(out);
	while ((n = inflate_read(f, p, step, err)) > 0)
		buf_add(out, p, (size_t)n);
	return n < 0 ? (int)-n : 0;
}

static void assert_inflates(const struct buf *in, size_t chunk, size_t step, const char *p,
			    size_t n)
{
	_cleanup_buf_ struct buf out = BUF_INIT;
	struct err err = ERR_INIT;

	if (inflate_all(in, chunk, step, &out, &err) != 0)
		fail_msg("chunk %zu: %s", chunk, err.text);
	assert_int_equal(out.len, n);
	assert_memory_equal(out.data, p, n);
}

static void members_and_frames_may_be_cut_anywhere(void **state)
{
	size_t n = 3000;
	_cleanup_free_ char *p = text(n);
	_cleanup_buf_ struct buf gz = BUF_INIT, zs = BUF_INIT;

	for (size_t at = 0, part = 0; at < n; at += part) {
		part = MIN(n - at, part * 2 + 1);
		gzip_add(&gz, p + at, part);
		zstd_add(&zs, p + at, part);
	}
	gzip_add(&gz, p, 0);
	for (size_t chunk = 1; chunk < 200; chunk++) {
		assert_inflates(&gz, chunk, 512, p, n);
		assert_inflates(&zs, chunk, 512, p, n);
	}
	assert_inflates(&gz, 1 << 20, 1, p, n);
	assert_inflates(&gz, 3, 1 << 20, p, n);
}

/* With all that a header may have, in each combination. */
static void headers_of_members_may_be_cut_anywhere(void **state)
{
	size_t n = 300;
	_cleanup_free_ char *p = text(n), *extra = text(300);
	_cleanup_buf_ struct buf gz = BUF_INIT, want = BUF_INIT, out = BUF_INIT;
	struct err err;

	for (int i = 0; i < 32; i++) {
		gz_header h = {
			.extra = i & 1 ? (Bytef *)extra : NULL,
			.extra_len = i & 16 ? 300 : 0,
			.name = i & 2 ? (Bytef *)"name" : NULL,
			.comment = i & 4 ? (Bytef *)"" : NULL,
			.hcrc = i & 8 ? 1 : 0,
		};

		gzip_add_with(&gz, &h, p, n);
		buf_add(&want, p, n);
	}
	for (size_t chunk = 1; chunk < 300; chunk++)
		assert_inflates(&gz, chunk, 4096, want.data, want.len);
	assert_inflates(&gz, 1 << 20, 4096, want.data, want.len);
	for (size_t cut = 320; cut >= 4; cut--) {
		_cleanup_buf_ struct buf last = BUF_INIT;
		gz_header h = {.extra = (Bytef *)extra,
			       .extra_len = 300,
			       .name = (Bytef *)"name",
			       .comment = (Bytef *)"comment",
			       .hcrc = 1};

		gzip_add_with(&last, &h, p, n);
		last.len = cut;
		assert_int_equal(inflate_all(&last, 100, 1000, &out, &err), ERR_INVALID_ARGUMENT);
		assert_non_null(strstr(err.text, "unexpected end of file"));
	}
}

static void large_members_cross_the_input_block(void **state)
{
	/* Members of odd sizes, so that their ends fall everywhere around the ends of blocks. */
	size_t n = 200000;
	_cleanup_free_ char *p = text(n);
	_cleanup_buf_ struct buf gz = BUF_INIT, want = BUF_INIT;

	for (int i = 0; i < 40; i++) {
		gzip_add(&gz, p, n - (size_t)i);
		buf_add(&want, p, n - (size_t)i);
	}
	assert_true(gz.len > 2 << 20);
	assert_inflates(&gz, 1 << 20, 256 << 10, want.data, want.len);
	assert_inflates(&gz, 4093, 4099, want.data, want.len);
}

static void plain_data_passes(void **state)
{
	_cleanup_buf_ struct buf in = BUF_INIT;

	assert_inflates(&in, 10, 10, "", 0);
	for (size_t n = 1; n < 10; n++) {
		buf_clear(&in);
		buf_add(&in, "\x1fplain text", n);
		assert_inflates(&in, 1, 3, in.data, n);
	}
}

static void zeroes_behind_gzip_are_padding_and_all_else_is_an_error(void **state)
{
	_cleanup_buf_ struct buf gz = BUF_INIT, out = BUF_INIT;
	struct err err;

	gzip_add(&gz, "data", 4);
	buf_add(&gz, "\0\0\0\0\0", 5);
	assert_inflates(&gz, 7, 100, "data", 4);
	buf_adds(&gz, "x");
	assert_int_equal(inflate_all(&gz, 100, 100, &out, &err), ERR_INVALID_ARGUMENT);
	assert_non_null(strstr(err.text, "invalid header"));
}

static void cut_streams_are_errors(void **state)
{
	size_t n = 5000;
	_cleanup_free_ char *p = text(n);
	_cleanup_buf_ struct buf gz = BUF_INIT, zs = BUF_INIT, out = BUF_INIT;
	struct err err;

	gzip_add(&gz, p, n);
	zstd_add(&zs, p, n);
	for (size_t cut = gz.len - 1; cut >= 4; cut--) {
		gz.len = cut;
		assert_int_equal(inflate_all(&gz, 100, 1000, &out, &err), ERR_INVALID_ARGUMENT);
		assert_non_null(strstr(err.text, "unexpected end of file"));
	}
	for (size_t cut = zs.len - 1; cut >= 5; cut--) {
		zs.len = cut;
		assert_int_equal(inflate_all(&zs, 100, 1000, &out, &err), ERR_INVALID_ARGUMENT);
	}
}

static void wrong_checksums_are_errors(void **state)
{
	_cleanup_buf_ struct buf gz = BUF_INIT, out = BUF_INIT;
	struct err err;

	gzip_add(&gz, "some data", 9);
	gz.data[gz.len - 7] ^= 1;
	assert_int_equal(inflate_all(&gz, 100, 1000, &out, &err), ERR_INVALID_ARGUMENT);
	assert_non_null(strstr(err.text, "checksum"));
}

/* ---- stream ---- */

static int file_of(const struct buf *b)
{
	FILE *f = tmpfile();
	int fd = dup(fileno(f));

	fclose(f);
	assert_int_equal(pwrite(fd, b->data, b->len, 0), b->len);
	return fd;
}

static void stream_gives_all_and_its_digest(void **state)
{
	size_t n = 5 << 20;
	_cleanup_free_ char *p = text(n);
	_cleanup_buf_ struct buf gz = BUF_INIT;
	_cleanup_(stream_freep) struct stream *s = NULL;
	struct digest want, got;
	const void *block;
	int64_t size;
	size_t at = 0;

	for (size_t i = 0; i < n; i += 1 << 18)
		gzip_add(&gz, p + i, 1 << 18);
	_cleanup_close_ int fd = file_of(&gz);
	assert_int_equal(stream_new(fd, 1 << 30, &s, NULL), 0);
	while (at < n / 2) {
		ssize_t r = stream_next(s, &block, NULL);

		assert_true(r > 0);
		assert_memory_equal(block, p + at, r);
		at += (size_t)r;
	}
	/* What the consumer does not want is hashed too. */
	assert_int_equal(stream_finish(s, &got, &size, NULL), 0);
	digest_of(DIGEST_SHA256, p, n, &want);
	assert_string_equal(got.text, want.text);
	assert_int_equal(size, n);
	assert_int_equal(stream_input(s), gz.len);
}

static void stream_stops_at_its_limit(void **state)
{
	_cleanup_buf_ struct buf b = BUF_INIT;
	_cleanup_(stream_freep) struct stream *s = NULL;
	_cleanup_free_ char *p = calloc(1, 1 << 20);
	struct digest d;
	struct err err;
	int64_t size;

	buf_add(&b, p, 1 << 20);
	_cleanup_close_ int fd = file_of(&b);
	assert_int_equal(stream_new(fd, 1000000, &s, NULL), 0);
	assert_int_equal(stream_finish(s, &d, &size, &err), -ERR_RESOURCE_EXHAUSTED);
}

static void stream_can_be_freed_while_it_waits_for_input(void **state)
{
	struct stream *s;
	int fds[2];

	assert_int_equal(pipe(fds), 0);
	assert_int_equal(stream_new(fds[0], 1000, &s, NULL), 0);
	stream_free(s);
	close(fds[0]);
	close(fds[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(members_and_frames_may_be_cut_anywhere),
		cmocka_unit_test(headers_of_members_may_be_cut_anywhere),
		cmocka_unit_test(large_members_cross_the_input_block),
		cmocka_unit_test(plain_data_passes),
		cmocka_unit_test(zeroes_behind_gzip_are_padding_and_all_else_is_an_error),
		cmocka_unit_test(cut_streams_are_errors),
		cmocka_unit_test(wrong_checksums_are_errors),
		cmocka_unit_test(stream_gives_all_and_its_digest),
		cmocka_unit_test(stream_stops_at_its_limit),
		cmocka_unit_test(stream_can_be_freed_while_it_waits_for_input),
	};

	return cmocka_run_group_tests_name("stream", tests, NULL, NULL);
}
