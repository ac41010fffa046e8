/* SPDX-License-Identifier: Apache-2.0 */
/* Input is gathered in blocks of BLOCK bytes.
 *
 * gzip: one member. Each block is deflated by itself, by whichever thread is free, with the last
 * bytes of the block before as its dictionary, and ends at a byte boundary (a sync flush), so that
 * the results in their order are one deflate stream. The caller's thread fills slots of a ring one
 * after the other and writes a slot's result before it fills that slot again. So it is the only one
 * that touches the descriptor, and all that the threads share is the slots' states.
 *
 * zstd: one frame, by the library's own threads; it is given at least one of these, because what
 * it makes differs between none and any number.
 */
#include "worker/compressor.h"

#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "base/fd.h"
#include "base/str.h"

#define BLOCK (512u << 10)
#define WINDOW (32u << 10) /* of deflate */
#define THREADS_MAX 4u
#define GZIP_LEVEL 6
#define ZSTD_LEVEL 3

enum slot_state { SLOT_FREE, SLOT_FULL, SLOT_TAKEN, SLOT_DONE };

struct slot {
	enum slot_state state;
	bool last;
	size_t in_len, dict_len, out_len;
	uint32_t crc; /* of in */
	uint8_t *in, *out;
	uint8_t dict[WINDOW];
};

struct compressor {
	enum compression format;
	int fd;
	int64_t max_bytes, size;
	struct hasher *hasher;

	uint8_t *out; /* zstd */
	size_t out_size;
	ZSTD_CCtx *zstd;

	uint32_t crc; /* gzip, of what was written */
	uint64_t filled, written;
	pthread_t threads[THREADS_MAX];
	unsigned n_threads;
	pthread_mutex_t lock; /* what follows, and the states of slots */
	pthread_cond_t cond;
	uint64_t taken;
	bool stop;
	bool failed; /* a thread has no memory */

	size_t n_slots; /* plain and zstd: 1 */
	struct slot slots[2 * THREADS_MAX];
};

int compression_parse(const char *name, enum compression *ret, struct err *err)
{
	static const char *const names[] = {
		[COMPRESSION_NONE] = "none",
		[COMPRESSION_GZIP] = "gzip",
		[COMPRESSION_ZSTD] = "zstd",
	};

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (streq(name, names[i])) {
			*ret = (enum compression)i;
			return 0;
		}
	return err_set(err, ERR_INVALID_ARGUMENT, "unknown compression \"%.40s\"", name);
}

unsigned compressor_threads(void)
{
	cpu_set_t set;
	int n = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;

	return (unsigned)MAX(1, MIN(n, (int)THREADS_MAX));
}

static int write_out(struct compressor *c, const void *p, size_t n, struct err *err)
{
	int r = fd_write_full(c->fd, p, n);

	return r < 0 ? err_errno(err, r, "write layer") : 0;
}

static struct slot *current(struct compressor *c)
{
	return &c->slots[c->filled % c->n_slots];
}

/* ---- gzip ---- */

static size_t out_max(void)
{
	/* zlib's bound for one call, and the sync marker. */
	return compressBound(BLOCK) + 64;
}

static bool slot_deflate(z_stream *z, struct slot *s)
{
	if (deflateReset(z) != Z_OK ||
	    (s->dict_len > 0 && deflateSetDictionary(z, s->dict, (uInt)s->dict_len) != Z_OK))
		return false;
	z->next_in = s->in;
	z->avail_in = (uInt)s->in_len;
	z->next_out = s->out;
	z->avail_out = (uInt)out_max();
	if (deflate(z, s->last ? Z_FINISH : Z_SYNC_FLUSH) != (s->last ? Z_STREAM_END : Z_OK) ||
	    z->avail_in > 0 || z->avail_out == 0)
		return false;
	s->out_len = out_max() - z->avail_out;
	s->crc = (uint32_t)crc32(crc32(0, NULL, 0), s->in, (uInt)s->in_len);
	return true;
}

/* The next full slot, or NULL at the end. */
static struct slot *thread_take(struct compressor *c)
{
	MUTEX_GUARD(&c->lock);
	for (;;) {
		struct slot *s = &c->slots[c->taken % c->n_slots];

		if (c->stop)
			return NULL;
		if (s->state == SLOT_FULL) {
			s->state = SLOT_TAKEN;
			c->taken++;
			return s;
		}
		pthread_cond_wait(&c->cond, &c->lock);
	}
}

static void thread_done(struct compressor *c, struct slot *s, bool ok)
{
	MUTEX_GUARD(&c->lock);
	if (s)
		s->state = SLOT_DONE;
	if (!ok)
		c->failed = true;
	pthread_cond_broadcast(&c->cond);
}

static void *thread_main(void *arg)
{
	struct compressor *c = arg;
	z_stream z = {0};
	struct slot *s;

	if (deflateInit2(&z, GZIP_LEVEL, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
		thread_done(c, NULL, false);
		return NULL;
	}
	while ((s = thread_take(c)))
		thread_done(c, s, slot_deflate(&z, s));
	deflateEnd(&z);
	return NULL;
}

/* Writes the oldest slot's result when there is one to come, which frees it. */
static int gzip_collect(struct compressor *c, struct err *err)
{
	struct slot *s = &c->slots[c->written % c->n_slots];
	int r;

	{
		MUTEX_GUARD(&c->lock);
		while (!c->failed && s->state != SLOT_DONE)
			pthread_cond_wait(&c->cond, &c->lock);
		if (c->failed)
			return err_nomem(err);
	}
	c->crc = (uint32_t)crc32_combine(c->crc, s->crc, (z_off_t)s->in_len);
	r = write_out(c, s->out, s->out_len, err);
	if (r < 0)
		return r;
	c->written++;
	MUTEX_GUARD(&c->lock);
	s->state = SLOT_FREE;
	return 0;
}

static int gzip_submit(struct compressor *c, bool last, struct err *err)
{
	struct slot *s = current(c), *next;

	{
		MUTEX_GUARD(&c->lock);
		s->last = last;
		s->state = SLOT_FULL;
		pthread_cond_broadcast(&c->cond);
	}
	c->filled++;
	next = current(c);
	if (c->filled - c->written == c->n_slots) {
		int r = gzip_collect(c, err);

		if (r < 0)
			return r;
	}
	/* Only the last block is shorter than the window. Its thread does not change s->in. */
	if (!last)
		memcpy(next->dict, s->in + BLOCK - WINDOW, WINDOW);
	next->dict_len = WINDOW;
	next->in_len = 0;
	return 0;
}

static int gzip_finish(struct compressor *c, struct err *err)
{
	uint8_t trailer[8];
	int r = gzip_submit(c, true, err);

	while (r == 0 && c->written < c->filled)
		r = gzip_collect(c, err);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < 4; i++) {
		trailer[i] = (uint8_t)(c->crc >> 8 * i);
		trailer[4 + i] = (uint8_t)((uint64_t)c->size >> 8 * i);
	}
	return write_out(c, trailer, sizeof(trailer), err);
}

static int gzip_start(struct compressor *c, unsigned threads, struct err *err)
{
	/* No name, no time, unknown system. */
	static const uint8_t header[10] = {0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255};

	for (unsigned i = 0; i < threads; i++) {
		int r = pthread_create(&c->threads[i], NULL, thread_main, c);

		if (r != 0)
			return err_errno(err, r, "start thread");
		c->n_threads++;
	}
	return write_out(c, header, sizeof(header), err);
}

/* ---- zstd ---- */

static int zstd_start(struct compressor *c, unsigned threads, struct err *err)
{
	c->out_size = ZSTD_CStreamOutSize();
	c->out = malloc(c->out_size);
	c->zstd = ZSTD_createCCtx();
	if (!c->out || !c->zstd)
		return err_nomem(err);
	if (ZSTD_isError(ZSTD_CCtx_setParameter(c->zstd, ZSTD_c_compressionLevel, ZSTD_LEVEL)) ||
	    ZSTD_isError(ZSTD_CCtx_setParameter(c->zstd, ZSTD_c_checksumFlag, 1)) ||
	    ZSTD_isError(ZSTD_CCtx_setParameter(c->zstd, ZSTD_c_nbWorkers, (int)threads)))
		return err_set(err, ERR_INTERNAL, "zstd library without threads");
	return 0;
}

static int zstd_block(struct compressor *c, const struct slot *s, bool last, struct err *err)
{
	ZSTD_inBuffer in = {s->in, s->in_len, 0};
	size_t left;
	int r;

	do {
		ZSTD_outBuffer out = {c->out, c->out_size, 0};

		left = ZSTD_compressStream2(c->zstd, &out, &in,
					    last ? ZSTD_e_end : ZSTD_e_continue);
		if (ZSTD_isError(left))
			return err_set(err, ERR_INTERNAL, "compress with zstd: %s",
				       ZSTD_getErrorName(left));
		r = write_out(c, c->out, out.pos, err);
		if (r < 0)
			return r;
	} while (last ? left > 0 : in.pos < in.size);
	return 0;
}

/* ---- all ---- */

static int start(struct compressor *c, unsigned threads, struct err *err)
{
	c->n_slots = c->format == COMPRESSION_GZIP ? 2 * threads : 1;
	c->hasher = hasher_new(DIGEST_SHA256);
	if (!c->hasher)
		return err_nomem(err);
	for (size_t i = 0; i < c->n_slots; i++) {
		c->slots[i].in = malloc(BLOCK);
		if (c->format == COMPRESSION_GZIP)
			c->slots[i].out = malloc(out_max());
		if (!c->slots[i].in || (c->format == COMPRESSION_GZIP && !c->slots[i].out))
			return err_nomem(err);
	}
	switch (c->format) {
	case COMPRESSION_GZIP:
		return gzip_start(c, threads, err);
	case COMPRESSION_ZSTD:
		return zstd_start(c, threads, err);
	default:
		return 0;
	}
}

int compressor_new(enum compression format, unsigned threads, int fd, int64_t max_bytes,
		   struct compressor **ret, struct err *err)
{
	struct compressor *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return err_nomem(err);
	c->format = format;
	c->fd = fd;
	c->max_bytes = max_bytes;
	c->crc = (uint32_t)crc32(0, NULL, 0);
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->cond, NULL);
	r = start(c, MAX(1u, MIN(threads, THREADS_MAX)), err);
	if (r < 0) {
		compressor_free(c);
		return r;
	}
	*ret = c;
	return 0;
}

void compressor_free(struct compressor *c)
{
	if (!c)
		return;
	pthread_mutex_lock(&c->lock);
	c->stop = true;
	pthread_cond_broadcast(&c->cond);
	pthread_mutex_unlock(&c->lock);
	for (unsigned i = 0; i < c->n_threads; i++)
		pthread_join(c->threads[i], NULL);
	for (size_t i = 0; i < c->n_slots; i++) {
		free(c->slots[i].in);
		free(c->slots[i].out);
	}
	ZSTD_freeCCtx(c->zstd);
	free(c->out);
	hasher_free(c->hasher);
	pthread_cond_destroy(&c->cond);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

/* The current block is full, or the last one. */
static int block_out(struct compressor *c, bool last, struct err *err)
{
	struct slot *s = current(c);
	int r = 0;

	hasher_update(c->hasher, s->in, s->in_len);
	if (c->format == COMPRESSION_GZIP)
		return last ? gzip_finish(c, err) : gzip_submit(c, false, err);
	if (c->format == COMPRESSION_ZSTD)
		r = zstd_block(c, s, last, err);
	else
		r = write_out(c, s->in, s->in_len, err);
	s->in_len = 0;
	return r;
}

int compressor_write(struct compressor *c, const void *p, size_t n, struct err *err)
{
	const uint8_t *from = p;

	if ((uint64_t)n > (uint64_t)(c->max_bytes - c->size))
		return err_set(err, ERR_RESOURCE_EXHAUSTED, "layer holds more than %lld bytes",
			       (long long)c->max_bytes);
	c->size += (int64_t)n;
	while (n > 0) {
		struct slot *s = current(c);
		size_t part = MIN(n, BLOCK - s->in_len);

		memcpy(s->in + s->in_len, from, part);
		s->in_len += part;
		from += part;
		n -= part;
		if (s->in_len == BLOCK) {
			int r = block_out(c, false, err);

			if (r < 0)
				return r;
		}
	}
	return 0;
}

int compressor_finish(struct compressor *c, struct digest *ret_digest, int64_t *ret_size,
		      struct err *err)
{
	int r = block_out(c, true, err);

	if (r < 0)
		return r;
	hasher_digest(c->hasher, ret_digest);
	*ret_size = c->size;
	return 0;
}
