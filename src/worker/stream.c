/* SPDX-License-Identifier: Apache-2.0 */
/* A ring of RING blocks with three counters, all under one lock: blocks made (by the inflating
 * thread), hashed (by the digesting thread) and eaten (by the caller). A block is reused when it
 * was both hashed and eaten. Blocks are small enough that the ring stays in the processor's cache.
 */
#include "worker/stream.h"

#include <poll.h>
#include <stdatomic.h>
#include <sys/eventfd.h>

#include "worker/inflate.h"

#define BLOCK (256u << 10)
#define RING 8u

struct block {
	size_t len;
	uint8_t *p;
};

struct stream {
	int fd, stop_fd;
	int64_t max_bytes, size;
	pthread_t reader, digester;
	bool reader_runs, digester_runs;
	struct inflate *inflate;
	struct hasher *hasher;
	atomic_llong input;

	pthread_mutex_t lock; /* what follows */
	pthread_cond_t cond;
	uint64_t made, hashed, eaten;
	bool holding;	  /* the caller looks at block eaten */
	bool ended, stop; /* ended: no block follows made */
	struct err err;	  /* why it ended, kind 0 = end of data */
	struct block ring[RING];
};

static ssize_t read_input(void *arg, void *p, size_t n)
{
	struct stream *s = arg;

	for (;;) {
		struct pollfd fds[2] = {{s->fd, POLLIN, 0}, {s->stop_fd, POLLIN, 0}};
		ssize_t r;

		if (poll(fds, 2, -1) < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		if (fds[1].revents)
			return -ECANCELED;
		r = read(s->fd, p, n);
		if (r >= 0) {
			atomic_fetch_add(&s->input, r);
			return r;
		}
		if (errno != EINTR && errno != EAGAIN)
			return -errno;
	}
}

/* Waits for a block that may be overwritten; NULL = stopped. */
static struct block *reader_wait(struct stream *s)
{
	MUTEX_GUARD(&s->lock);
	while (!s->stop && s->made - MIN(s->hashed, s->eaten) >= RING)
		pthread_cond_wait(&s->cond, &s->lock);
	return s->stop ? NULL : &s->ring[s->made % RING];
}

static void *reader_main(void *arg)
{
	struct stream *s = arg;
	struct err err = ERR_INIT;
	struct block *b;
	ssize_t n = 0;

	while ((b = reader_wait(s))) {
		n = inflate_read(s->inflate, b->p, BLOCK, &err);
		if (n > 0 && n > s->max_bytes - s->size)
			n = err_set(&err, ERR_RESOURCE_EXHAUSTED,
				    "layer holds more than %lld bytes", (long long)s->max_bytes);
		if (n <= 0)
			break;
		MUTEX_GUARD(&s->lock);
		b->len = (size_t)n;
		s->size += n;
		s->made++;
		pthread_cond_broadcast(&s->cond);
	}
	MUTEX_GUARD(&s->lock);
	s->ended = true;
	s->err = err;
	pthread_cond_broadcast(&s->cond);
	return NULL;
}

static void *digester_main(void *arg)
{
	struct stream *s = arg;

	for (;;) {
		struct block *b;

		{
			MUTEX_GUARD(&s->lock);
			while (!s->stop && !s->ended && s->hashed == s->made)
				pthread_cond_wait(&s->cond, &s->lock);
			if (s->stop || s->hashed == s->made)
				return NULL;
			b = &s->ring[s->hashed % RING];
		}
		hasher_update(s->hasher, b->p, b->len);
		MUTEX_GUARD(&s->lock);
		s->hashed++;
		pthread_cond_broadcast(&s->cond);
	}
}

static int start(struct stream *s, struct err *err)
{
	int r;

	s->stop_fd = eventfd(0, EFD_CLOEXEC);
	if (s->stop_fd < 0)
		return err_errno(err, errno, "eventfd");
	s->inflate = inflate_new(read_input, s);
	s->hasher = hasher_new(DIGEST_SHA256);
	if (!s->inflate || !s->hasher)
		return err_nomem(err);
	for (size_t i = 0; i < RING; i++) {
		s->ring[i].p = malloc(BLOCK);
		if (!s->ring[i].p)
			return err_nomem(err);
	}
	r = pthread_create(&s->reader, NULL, reader_main, s);
	s->reader_runs = r == 0;
	if (r == 0) {
		r = pthread_create(&s->digester, NULL, digester_main, s);
		s->digester_runs = r == 0;
	}
	return r == 0 ? 0 : err_errno(err, r, "start thread");
}

int stream_new(int fd, int64_t max_bytes, struct stream **ret, struct err *err)
{
	struct stream *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return err_nomem(err);
	s->fd = fd;
	s->stop_fd = -1;
	s->max_bytes = max_bytes;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->cond, NULL);
	r = start(s, err);
	if (r < 0) {
		stream_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

static void join(struct stream *s)
{
	if (s->reader_runs)
		pthread_join(s->reader, NULL);
	if (s->digester_runs)
		pthread_join(s->digester, NULL);
	s->reader_runs = s->digester_runs = false;
}

static void stop(struct stream *s)
{
	uint64_t one = 1;
	_unused_ ssize_t r;

	MUTEX_GUARD(&s->lock);
	s->stop = true;
	pthread_cond_broadcast(&s->cond);
	if (s->stop_fd >= 0)
		r = write(s->stop_fd, &one, sizeof(one));
}

void stream_free(struct stream *s)
{
	if (!s)
		return;
	stop(s);
	join(s);
	inflate_free(s->inflate);
	hasher_free(s->hasher);
	for (size_t i = 0; i < RING; i++)
		free(s->ring[i].p);
	fd_closep(&s->stop_fd);
	pthread_cond_destroy(&s->cond);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

ssize_t stream_next(struct stream *s, const void **ret, struct err *err)
{
	const struct block *b;

	MUTEX_GUARD(&s->lock);
	if (s->holding) {
		s->eaten++;
		s->holding = false;
		pthread_cond_broadcast(&s->cond);
	}
	while (!s->ended && s->eaten == s->made)
		pthread_cond_wait(&s->cond, &s->lock);
	if (s->eaten == s->made)
		return s->err.kind ? err_copy(err, &s->err) : 0;
	b = &s->ring[s->eaten % RING];
	s->holding = true;
	*ret = b->p;
	return (ssize_t)b->len;
}

int stream_finish(struct stream *s, struct digest *ret_digest, int64_t *ret_size, struct err *err)
{
	const void *p;
	ssize_t n;

	while ((n = stream_next(s, &p, err)) > 0)
		;
	if (n < 0)
		return (int)n;
	join(s);
	hasher_digest(s->hasher, ret_digest);
	*ret_size = s->size;
	return 0;
}

int64_t stream_input(struct stream *s)
{
	return atomic_load(&s->input);
}
