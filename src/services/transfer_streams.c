/* SPDX-License-Identifier: Apache-2.0 */
/* Byte streams: see transfer_streams.h. */
#include "services/transfer_streams.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/fd.h"
#include "event/pool.h"
#include "plugins/streaming/manager.h"
#include "protos.h"

#define WINDOW 65536
#define DATA_MAX 32768
#define CREDIT_MAX (1 << 30)
/* Between two looks whether a request has been canceled. */
#define TICK_MS 100

#define TR(x) Containerd__Types__Transfer__##x
#define DESC(x) containerd__types__transfer__##x##__descriptor

/* ---- client to daemon ---- */

/* Freed by whoever is last: the job, or byte_source_close(). */
struct byte_source {
	struct ctx *ctx; /* of the request; not for the job, which may last longer */
	struct stream *stream;
	int read_fd, write_fd;
	pthread_mutex_t lock;
	pthread_cond_t ended;
	bool done, abandoned;
	struct err err;
};

static int grant(struct stream *s, int32_t n, struct err *err)
{
	TR(WindowUpdate) w = CONTAINERD__TYPES__TRANSFER__WINDOW_UPDATE__INIT;
	w.update = n;
	return stream_send(s, &w.base, err);
}

static void source_free(struct byte_source *b)
{
	stream_close(b->stream);
	pthread_cond_destroy(&b->ended);
	pthread_mutex_destroy(&b->lock);
	free(b);
}

/* The pipe's reader sets the pace: credit is given back for what it has taken. What comes after it
 * has gone is dropped, until the client ends its stream. */
static int source_copy(struct byte_source *b, struct arena *a)
{
	TR(Data) * data;
	bool drop = false;
	int r = grant(b->stream, WINDOW, &b->err);
	while (r == 0) {
		arena_reset(a);
		r = stream_recv(b->stream, a, &DESC(data), &data, &b->err);
		if (r <= 0)
			return r;
		int w = drop ? 0 : fd_write_full(b->write_fd, data->data.data, data->data.len);
		if (w == -EPIPE) {
			drop = true;
			w = 0;
		}
		r = w < 0 ? err_errno(&b->err, w, "pass an archive on")
			  : grant(b->stream, (int32_t)data->data.len, &b->err);
	}
	return r;
}

static void source_job(void *arg)
{
	struct byte_source *b = arg;
	struct arena *a = arena_new(0);
	if (!a || source_copy(b, a) < 0)
		b->err.kind = b->err.kind ? b->err.kind : ERR_RESOURCE_EXHAUSTED;
	arena_free(a);
	close(b->write_fd);
	pthread_mutex_lock(&b->lock);
	b->done = true;
	bool mine = b->abandoned;
	pthread_cond_broadcast(&b->ended);
	pthread_mutex_unlock(&b->lock);
	if (mine)
		source_free(b);
}

int byte_source_open(struct ctx *ctx, struct services *s, const char *stream,
		     struct byte_source **ret, struct err *err)
{
	struct byte_source *b = calloc(1, sizeof(*b));
	int p[2], r;
	if (!b)
		return err_nomem(err);
	r = stream_get(ctx, s->streams, stream, &b->stream, err);
	if (r < 0) {
		free(b);
		return r;
	}
	if (pipe2(p, O_CLOEXEC) < 0) {
		r = err_errno(err, errno, "pipe");
		stream_close(b->stream);
		free(b);
		return r;
	}
	b->ctx = ctx;
	b->read_fd = p[0];
	b->write_fd = p[1];
	pthread_mutex_init(&b->lock, NULL);
	pthread_cond_init(&b->ended, NULL);
	r = pool_submit(s->pool, source_job, b);
	if (r < 0) {
		close(p[1]);
		b->done = true;
		byte_source_close(b, true, NULL);
		return err_errno(err, r, "read stream %s", stream);
	}
	*ret = b;
	return 0;
}

int byte_source_fd(const struct byte_source *b)
{
	return b->read_fd;
}

ssize_t byte_source_read(struct byte_source *b, void *p, size_t n, struct err *err)
{
	struct pollfd pfd = {.fd = b->read_fd, .events = POLLIN};
	for (;;) {
		int r = ctx_check(b->ctx, err), ms = ctx_poll_ms(b->ctx);
		if (r < 0)
			return r;
		if (poll(&pfd, 1, ms < 0 ? TICK_MS : MIN(ms, TICK_MS)) <= 0)
			continue;
		ssize_t k = read(b->read_fd, p, n);
		if (k >= 0)
			return k;
		if (errno != EINTR)
			return err_errno(err, errno, "read an archive");
	}
}

int byte_source_close(struct byte_source *b, bool abandon, struct err *err)
{
	/* An archive may go on after what its reader wanted (padding): that is taken in, unless it
	 * failed. */
	struct err own = ERR_INIT;
	char chunk[4096];
	ssize_t n = abandon ? 0 : 1;
	while (n > 0)
		n = byte_source_read(b, chunk, sizeof(chunk), &own);
	abandon = abandon || n < 0;
	close(b->read_fd);
	pthread_mutex_lock(&b->lock);
	while (!abandon && !b->done)
		pthread_cond_wait(&b->ended, &b->lock);
	b->abandoned = true;
	bool mine = b->done;
	pthread_mutex_unlock(&b->lock);
	if (!mine)
		/* The job frees it when the client has seen our answer and gone. */
		return own.kind ? err_copy(err, &own) : 0;
	int r = own.kind ? err_copy(err, &own) : 0;
	if (b->err.kind && !abandon)
		r = err_copy(err, &b->err);
	source_free(b);
	return r;
}

/* ---- daemon to client ---- */

struct byte_sink {
	struct stream *stream;
	struct arena *arena;
	int64_t credit;
};

int byte_sink_open(struct ctx *ctx, struct services *s, const char *stream, struct byte_sink **ret,
		   struct err *err)
{
	struct byte_sink *b = calloc(1, sizeof(*b));
	if (!b || !(b->arena = arena_new(0))) {
		free(b);
		return err_nomem(err);
	}
	int r = stream_get(ctx, s->streams, stream, &b->stream, err);
	if (r < 0) {
		arena_free(b->arena);
		free(b);
		return r;
	}
	stream_bind(b->stream, ctx);
	*ret = b;
	return 0;
}

static int sink_wait(struct byte_sink *b, struct err *err)
{
	TR(WindowUpdate) * w;
	while (b->credit <= 0) {
		int r = stream_recv(b->stream, b->arena, &DESC(window_update), &w, err);
		if (r == 0)
			return err_set(err, ERR_CANCELED, "the client has closed its stream");
		if (r < 0)
			return r;
		if (w->update > 0)
			b->credit = MIN(b->credit + w->update, (int64_t)CREDIT_MAX);
		arena_reset(b->arena);
	}
	return 0;
}

int byte_sink_write(void *sink, const void *p, size_t n, struct err *err)
{
	struct byte_sink *b = sink;
	const uint8_t *at = p;
	while (n > 0) {
		int r = sink_wait(b, err);
		if (r < 0)
			return r;
		size_t k = MIN(MIN(n, (size_t)DATA_MAX), (size_t)b->credit);
		TR(Data) d = CONTAINERD__TYPES__TRANSFER__DATA__INIT;
		d.data = (ProtobufCBinaryData){.data = (uint8_t *)at, .len = k};
		r = stream_send(b->stream, &d.base, err);
		if (r < 0)
			return r;
		b->credit -= (int64_t)k;
		at += k;
		n -= k;
	}
	return 0;
}

void byte_sink_close(struct byte_sink *b)
{
	stream_close(b->stream);
	arena_free(b->arena);
	free(b);
}
