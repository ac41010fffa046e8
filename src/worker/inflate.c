/* SPDX-License-Identifier: Apache-2.0 */
/* Input is read in blocks of IN_SIZE into in[IN_SLACK...]; in[pos..end) is unread. ISA-L may step
 * back over up to 8 bytes that it had taken into its bit buffer when a member ends, and these may
 * have come from the block before: so the last bytes of a block are kept right before the next one,
 * and pos may become smaller than IN_SLACK.
 *
 * The headers of gzip members are skipped here: ISA-L loses its way in one that has a checksum when
 * it goes on in another block.
 *
 * Behind the last gzip member zero bytes are ignored (tapes and some registries pad), anything else
 * is an error, as in Go's reader.
 */
#include "worker/inflate.h"

#include <isa-l/igzip_lib.h>
#include <stdbool.h>
#include <string.h>
#include <zstd.h>

#define IN_SIZE (256u << 10)
#define IN_SLACK 16u

enum format { FORMAT_UNKNOWN, FORMAT_PLAIN, FORMAT_GZIP, FORMAT_ZSTD };

struct inflate {
	inflate_read_fn fn;
	void *arg;
	enum format format;
	int64_t input;
	bool eof;     /* of the input */
	bool started; /* within a gzip member or a zstd frame */
	size_t pos, end;
	struct inflate_state gz;
	ZSTD_DStream *zstd;
	uint8_t in[IN_SLACK + IN_SIZE];
};

struct inflate *inflate_new(inflate_read_fn fn, void *arg)
{
	struct inflate *f = malloc(sizeof(*f));

	if (!f)
		return NULL;
	/* The input block needs no clearing. */
	memset(f, 0, offsetof(struct inflate, in) + IN_SLACK);
	f->pos = f->end = IN_SLACK;
	f->fn = fn;
	f->arg = arg;
	return f;
}

void inflate_free(struct inflate *f)
{
	if (!f)
		return;
	ZSTD_freeDStream(f->zstd);
	free(f);
}

int64_t inflate_input(const struct inflate *f)
{
	return f->input;
}

static uint8_t *input(struct inflate *f)
{
	return f->in + f->pos;
}

static size_t avail(const struct inflate *f)
{
	return f->end - f->pos;
}

static int read_more(struct inflate *f, struct err *err)
{
	ssize_t n = f->fn(f->arg, f->in + f->end, sizeof(f->in) - f->end);

	if (n < 0)
		return err_errno(err, (int)n, "read layer");
	f->input += n;
	f->end += (size_t)n;
	f->eof = n == 0;
	return n > 0;
}

/* Reads a block when none is left: 1 = there is input, 0 = end. */
static int fill(struct inflate *f, struct err *err)
{
	if (f->pos < f->end)
		return 1;
	if (f->eof)
		return 0;
	memmove(f->in, f->in + f->end - IN_SLACK, IN_SLACK);
	f->pos = f->end = IN_SLACK;
	return read_more(f, err);
}

/* Makes the input hold at least @want bytes when it has so many; for looking at the magic. */
static int peek(struct inflate *f, size_t want, struct err *err)
{
	while (avail(f) < want && !f->eof) {
		int r;

		if (f->pos > IN_SLACK) {
			size_t move = f->pos - IN_SLACK;

			memmove(f->in, f->in + move, f->end - move);
			f->pos -= move;
			f->end -= move;
		}
		r = read_more(f, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static bool is_zstd(const uint8_t *p, size_t n)
{
	static const uint8_t magic[4] = {0x28, 0xb5, 0x2f, 0xfd};

	/* Skippable frames may come first: 50..5f 2a 4d 18. */
	return n >= 4 && (memcmp(p, magic, 4) == 0 ||
			  ((p[0] & 0xf0) == 0x50 && p[1] == 0x2a && p[2] == 0x4d && p[3] == 0x18));
}

static int detect(struct inflate *f, struct err *err)
{
	int r = peek(f, 4, err);
	const uint8_t *p = input(f);
	size_t n = avail(f);

	if (r < 0)
		return r;
	if (n >= 3 && p[0] == 0x1f && p[1] == 0x8b && p[2] == 8) {
		f->format = FORMAT_GZIP;
		isal_inflate_init(&f->gz);
	} else if (is_zstd(p, n)) {
		f->format = FORMAT_ZSTD;
		f->zstd = ZSTD_createDStream();
		if (!f->zstd)
			return err_nomem(err);
	} else {
		f->format = FORMAT_PLAIN;
	}
	return 0;
}

/* A byte of a gzip header, or a negative kind. */
static int head_byte(struct inflate *f, struct err *err)
{
	int r = fill(f, err);

	if (r == 0)
		return err_set(err, ERR_INVALID_ARGUMENT, "gzip: unexpected end of file");
	return r < 0 ? r : f->in[f->pos++];
}

/* @n bytes of it, or (@n 0) all up to a NUL. */
static int head_skip(struct inflate *f, unsigned n, struct err *err)
{
	for (unsigned i = 0; n == 0 || i < n; i++) {
		int c = head_byte(f, err);

		if (c < 0)
			return c;
		if (n == 0 && c == 0)
			break;
	}
	return 0;
}

/* 1f 8b 08 flags time:32 level system, then length:16 and so many bytes, a name, a comment, and a
 * checksum:16, each when its flag says so. */
static int gzip_head(struct inflate *f, struct err *err)
{
	enum { CHECKSUM = 2, EXTRA = 4, NAME = 8, COMMENT = 16 };
	int h[10], r = 0;

	for (size_t i = 0; i < ARRAY_LEN(h); i++) {
		h[i] = head_byte(f, err);
		if (h[i] < 0)
			return h[i];
	}
	if (h[2] != 8)
		return err_set(err, ERR_INVALID_ARGUMENT, "gzip: invalid header");
	if (h[3] & EXTRA) {
		int low = head_byte(f, err), high = low < 0 ? low : head_byte(f, err);

		r = high < 0 ? high : 0;
		if (r == 0 && (low || high))
			r = head_skip(f, (unsigned)(high << 8 | low), err);
	}
	if (r == 0 && (h[3] & NAME))
		r = head_skip(f, 0, err);
	if (r == 0 && (h[3] & COMMENT))
		r = head_skip(f, 0, err);
	if (r == 0 && (h[3] & CHECKSUM))
		r = head_skip(f, 2, err);
	return r;
}

/* Before and between gzip members: 1 = another one begins, 0 = the end. */
static int gzip_next(struct inflate *f, struct err *err)
{
	int r = peek(f, 2, err);

	if (r < 0)
		return r;
	if (avail(f) >= 2 && input(f)[0] == 0x1f && input(f)[1] == 0x8b) {
		r = gzip_head(f, err);
		if (r < 0)
			return r;
		isal_inflate_reset(&f->gz);
		f->gz.crc_flag = ISAL_GZIP_NO_HDR_VER;
		return 1;
	}
	for (;;) {
		for (; f->pos < f->end; f->pos++)
			if (*input(f) != 0)
				return err_set(err, ERR_INVALID_ARGUMENT,
					       "gzip: invalid header after the end of the data");
		r = fill(f, err);
		if (r <= 0)
			return r;
	}
}

static const char *gzip_error(int r)
{
	switch (r) {
	case ISAL_INVALID_BLOCK:
		return "invalid block";
	case ISAL_INVALID_SYMBOL:
		return "invalid symbol";
	case ISAL_INVALID_LOOKBACK:
		return "invalid distance";
	case ISAL_INVALID_WRAPPER:
	case ISAL_UNSUPPORTED_METHOD:
		return "invalid header";
	case ISAL_INCORRECT_CHECKSUM:
		return "invalid checksum";
	default:
		return "damaged data";
	}
}

/* Some output into @p: the count, 0 = end. */
static ssize_t gzip_read(struct inflate *f, uint8_t *p, size_t n, struct err *err)
{
	int r;

	for (;;) {
		if (!f->started) {
			r = gzip_next(f, err);
			if (r <= 0)
				return r;
			f->started = true;
		}
		r = fill(f, err);
		if (r < 0)
			return r;
		f->gz.next_in = input(f);
		f->gz.avail_in = (uint32_t)avail(f);
		f->gz.next_out = p;
		f->gz.avail_out = (uint32_t)n;
		size_t before = f->gz.avail_in;
		int end = r == 0;

		r = isal_inflate(&f->gz);
		if (r < 0)
			return err_set(err, ERR_INVALID_ARGUMENT, "gzip: %s", gzip_error(r));
		f->pos = (size_t)(f->gz.next_in - f->in);
		if (f->gz.block_state == ISAL_BLOCK_FINISH)
			f->started = false;
		if (f->gz.avail_out < n)
			return (ssize_t)(n - f->gz.avail_out);
		if (end && f->started && before == f->gz.avail_in)
			return err_set(err, ERR_INVALID_ARGUMENT, "gzip: unexpected end of file");
	}
}

static ssize_t zstd_read(struct inflate *f, uint8_t *p, size_t n, struct err *err)
{
	for (;;) {
		ZSTD_outBuffer out = {p, n, 0};
		ZSTD_inBuffer in;
		size_t z;
		int r = fill(f, err);

		if (r < 0)
			return r;
		if (r == 0 && !f->started)
			return 0;
		in = (ZSTD_inBuffer){input(f), avail(f), 0};
		z = ZSTD_decompressStream(f->zstd, &out, &in);
		if (ZSTD_isError(z))
			return err_set(err, ERR_INVALID_ARGUMENT, "zstd: %s", ZSTD_getErrorName(z));
		f->pos += in.pos;
		f->started = z != 0;
		if (out.pos > 0)
			return (ssize_t)out.pos;
		if (r == 0 && f->started)
			return err_set(err, ERR_INVALID_ARGUMENT, "zstd: unexpected end of file");
	}
}

static ssize_t plain_read(struct inflate *f, uint8_t *p, size_t n, struct err *err)
{
	size_t left = avail(f);
	ssize_t r;

	if (left > 0) {
		left = MIN(left, n);
		memcpy(p, input(f), left);
		f->pos += left;
		return (ssize_t)left;
	}
	if (f->eof)
		return 0;
	r = f->fn(f->arg, p, n);
	if (r < 0)
		return err_errno(err, (int)r, "read layer");
	f->input += r;
	f->eof = r == 0;
	return r;
}

ssize_t inflate_read(struct inflate *f, void *p, size_t n, struct err *err)
{
	size_t done = 0;
	ssize_t r;

	if (f->format == FORMAT_UNKNOWN) {
		r = detect(f, err);
		if (r < 0)
			return r;
	}
	while (done < n) {
		uint8_t *to = (uint8_t *)p + done;

		if (f->format == FORMAT_GZIP)
			r = gzip_read(f, to, n - done, err);
		else if (f->format == FORMAT_ZSTD)
			r = zstd_read(f, to, n - done, err);
		else
			r = plain_read(f, to, n - done, err);
		if (r < 0)
			return r;
		if (r == 0)
			break;
		done += (size_t)r;
	}
	return (ssize_t)done;
}
