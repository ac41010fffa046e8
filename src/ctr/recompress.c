/* SPDX-License-Identifier: Apache-2.0 */
/* ctr links no decompressor: containerd-worker does the work, confined as it is for the daemon. A
 * thread takes the blob from the daemon and puts it into a pipe to the worker; the caller's thread
 * takes what comes out and gives it to the daemon. */
#include "ctr/recompress.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"
#include "rpc/rpc.h"

struct pump {
	struct rpc_stream *stream;
	struct arena *arena;
	struct hasher *hasher;
	const char *digest;
	int fd; /* closed by the thread */
	int result;
	struct err err;
};

static int pump(struct pump *p, struct err *err)
{
	PB_CONTENT(ReadContentResponse) * m;
	struct digest got;
	int r;

	for (;;) {
		arena_reset(p->arena);
		r = rpc_stream_recv(
			p->stream, p->arena,
			&containerd__services__content__v1__read_content_response__descriptor, &m,
			err);
		if (r <= 0)
			break;
		hasher_update(p->hasher, m->data.data, m->data.len);
		r = fd_write_full(p->fd, m->data.data, m->data.len);
		/* The worker takes no more: what it says is what counts. */
		if (r == -EPIPE)
			return 0;
		if (r < 0)
			return err_errno(err, r, "write to containerd-worker");
	}
	if (r < 0)
		return r;
	hasher_digest(p->hasher, &got);
	if (!streq(got.text, p->digest))
		return err_set(err, ERR_DATA_LOSS, "content %s has the digest %s", p->digest,
			       got.text);
	return 0;
}

static void *pump_main(void *arg)
{
	struct pump *p = arg;

	p->result = pump(p, &p->err);
	fd_closep(&p->fd);
	p->fd = -1;
	return NULL;
}

/* Between @p, which has everything but its thread, and @work. */
static int run(struct pump *p, int input, int (*work)(void *arg, int input, struct err *err),
	       void *arg, struct err *err)
{
	pthread_t thread;
	int r = pthread_create(&thread, NULL, pump_main, p);

	if (r != 0) {
		close(input);
		return err_errno(err, r, "start thread");
	}
	r = work(arg, input, err);
	/* The thread, should it still write, sees the end. */
	close(input);
	if (r < 0)
		rpc_stream_cancel(p->stream);
	pthread_join(thread, NULL);
	if (p->result < 0 && (r == 0 || p->result == -ERR_DATA_LOSS))
		return err_copy(err, &p->err);
	return r;
}

static int open_pump(struct ctr *c, const struct descriptor *d, struct pump *p, int *ret_input,
		     struct err *err)
{
	PB_CONTENT(ReadContentRequest) req = PB_CONTENT_INIT(READ_CONTENT_REQUEST);
	int fds[2], r;

	req.digest = (char *)d->digest;
	p->digest = d->digest;
	p->arena = arena_new(0);
	p->hasher = hasher_new(digest_alg(d->digest));
	if (!p->arena || !p->hasher)
		return err_nomem(err);
	/* The thread reads while the caller writes. */
	r = client_share(c->client, err);
	if (r < 0)
		return r;
	r = client_stream(c->client, &c->ctx, PB_CONTENT_SERVICE, "Read", &req.base, &p->stream,
			  err);
	if (r < 0)
		return r;
	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_errno(err, errno, "make pipe");
	*ret_input = fds[0];
	p->fd = fds[1];
	return 0;
}

static void close_pump(struct pump *p)
{
	fd_closep(&p->fd);
	rpc_stream_free(p->stream);
	hasher_free(p->hasher);
	arena_free(p->arena);
}

int blob_feed(struct ctr *c, const struct descriptor *d,
	      int (*work)(void *arg, int input, struct err *err), void *arg, struct err *err)
{
	struct pump p _cleanup_(close_pump) = {.fd = -1};
	int input, r = open_pump(c, d, &p, &input, err);

	return r < 0 ? r : run(&p, input, work, arg, err);
}

struct recompression {
	struct ctr *c;
	enum pack_compression compression;
	struct client_writer *w;
};

static int take(void *arg, const void *p, size_t n, struct err *err)
{
	return client_writer_write(arg, p, n, err);
}

static int recompress(void *arg, int input, struct err *err)
{
	struct recompression *x = arg;
	struct recompress_request q = {
		.input_fd = input, .compression = x->compression, .write = take, .arg = x->w};
	struct pack_result res;

	return worker_recompress(&x->c->ctx, &q, &res, err);
}

int recompress_blob(struct ctr *c, const struct descriptor *d, enum pack_compression compression,
		    const char *ref, const struct labels *labels, struct digest *ret,
		    int64_t *ret_size, struct err *err)
{
	struct client_writer *w _cleanup_(client_writer_freep) = NULL;
	struct recompression x = {.c = c, .compression = compression};
	struct err unused = ERR_INIT;
	int r;

	r = client_writer_open(c->client, &c->ctx, ref, &w, err);
	if (r < 0)
		return r;
	x.w = w;
	r = blob_feed(c, d, recompress, &x, err);
	if (r == 0)
		r = client_writer_commit(w, labels, ret, ret_size, err);
	if (r < 0) {
		client_writer_free(TAKE_PTR(w));
		(void)!client_content_abort(c->client, &c->ctx, ref, &unused);
		return err_prefix(err, "layer %s", d->digest);
	}
	return 0;
}
