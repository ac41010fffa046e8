/* SPDX-License-Identifier: Apache-2.0 */
/* A content store in another process.
 *
 * References are the back end's, "<namespace>/<n>/<ref>". As the local store, this one is not told
 * the digest that is expected before the commit: whether a blob may be shared is decided above.
 * Bytes travel in pieces that every gRPC implementation takes by default. Who needs a blob as a
 * file gets a nameless one in the spool directory; who wants a part of it reads that part only.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "core/pb.h"
#include "plugins/proxy/backends.h"

#define CO(x) Containerd__Services__Content__V1__##x
#define INIT(x) CONTAINERD__SERVICES__CONTENT__V1__##x##__INIT
#define DESC(x) containerd__services__content__v1__##x##__descriptor
#define SERVICE (&DESC(content))
#define ACTION(x) CONTAINERD__SERVICES__CONTENT__V1__WRITE_ACTION__##x

#define PIECE ((size_t)1 << 20)

struct proxy_content {
	struct content_store base;
	struct proxy *proxy;
	char *spool;
};

struct proxy_writer {
	struct content_store_writer base;
	struct proxy *proxy;
	struct proxy_stream *stream;
	struct arena *arena;   /* of what lives as long as the writer */
	struct arena *replies; /* of the last answer */
	struct ctx ctx;
	const char *ref;
	int64_t offset, total;
	struct timespec started, updated;
	struct digest digest; /* of what was written; "" = to be asked for */
};

static struct proxy_content *to_proxy(struct content_store *s)
{
	return (struct proxy_content *)s;
}

static int call(struct ctx *ctx, struct content_store *s, const char *method,
		const ProtobufCMessage *req, int64_t limit_ns, void *ret_resp, struct err *err)
{
	return proxy_call(to_proxy(s)->proxy, ctx, SERVICE, method, req, limit_ns, ret_resp, err);
}

static int senseless(const struct proxy *p, const char *what, struct err *err)
{
	return err_set(err, ERR_INTERNAL, "proxy plugin \"%s\": %s", proxy_name(p), what);
}

/* ---- blobs ---- */

static int info_get(struct arena *a, const CO(Info) * m, struct content_info *ret, struct err *err)
{
	struct content_info i = {.digest = m->digest,
				 .size = m->size,
				 .created_at = pb_time_get(m->created_at),
				 .updated_at = pb_time_get(m->updated_at)};
	int r = pb_labels_get(a, m->labels, m->n_labels, &i.labels, err);

	if (r == 0)
		*ret = i;
	return r;
}

static int content_info_(struct ctx *ctx, struct content_store *s, const char *digest,
			 struct content_info *ret, struct err *err)
{
	CO(InfoRequest) req = INIT(INFO_REQUEST);
	CO(InfoResponse) * resp;
	int r;

	req.digest = (char *)digest;
	r = call(ctx, s, "Info", &req.base, PROXY_QUICK_NS, &resp, err);
	if (r < 0)
		return r;
	if (!resp->info || resp->info->size < 0)
		return senseless(to_proxy(s)->proxy, "answers without a blob", err);
	return info_get(ctx->arena, resp->info, ret, err);
}

static int content_read_(struct ctx *ctx, struct content_store *s, const char *digest,
			 int64_t offset, int64_t size, content_sink *fn, void *arg, struct err *err)
{
	_cleanup_(proxy_stream_freep) struct proxy_stream *st = NULL;
	_cleanup_arena_ struct arena *a = arena_new(0);
	CO(ReadContentRequest) req = INIT(READ_CONTENT_REQUEST);
	CO(ReadContentResponse) * resp;
	int r;

	if (!a)
		return err_nomem(err);
	req.digest = (char *)digest;
	req.offset = offset;
	req.size = size;
	r = size ? proxy_stream_open(to_proxy(s)->proxy, ctx, SERVICE, "Read", &req.base,
				     PROXY_QUICK_NS, &st, err)
		 : 0;
	while (r == 0 && size > 0) {
		arena_reset(a);
		r = proxy_stream_recv(st, a, &resp, err);
		if (r < 0)
			return r;
		if (r == 0)
			return err_set(err, ERR_DATA_LOSS, "content %s is shorter than its record",
				       digest);
		if (resp->data.len > (uint64_t)size)
			return senseless(to_proxy(s)->proxy, "sends more than was asked for", err);
		size -= (int64_t)resp->data.len;
		r = resp->data.len ? fn(arg, resp->data.data, resp->data.len, err) : 0;
	}
	return r;
}

/* Without a name, or, where the file system has no such files, soon without one. */
static int spool_file(const char *dir, int *ret)
{
	char path[PATH_MAX];
	int r = mkdir_p(dir, 0700), fd;

	if (r < 0)
		return r;
	fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0 && errno != EOPNOTSUPP)
		return -errno;
	if (fd < 0) {
		if ((size_t)snprintf(path, sizeof(path), "%s/XXXXXX", dir) >= sizeof(path))
			return -ENAMETOOLONG;
		fd = mkostemp(path, O_CLOEXEC);
		if (fd < 0)
			return -errno;
		(void)unlink(path);
	}
	*ret = fd;
	return 0;
}

static int to_file(void *arg, const void *p, size_t n, struct err *err)
{
	int r = fd_write_full(*(int *)arg, p, n);

	return r < 0 ? err_errno(err, r, "write spool file") : 0;
}

static int content_open_(struct ctx *ctx, struct content_store *s, const char *digest, int *ret_fd,
			 int64_t *ret_size, struct err *err)
{
	const char *dir = to_proxy(s)->spool;
	struct content_info info;
	_cleanup_close_ int fd = -1;
	int r = content_info_(ctx, s, digest, &info, err);

	if (r < 0)
		return r;
	r = spool_file(dir, &fd);
	if (r < 0)
		return err_errno(err, r, "make a file in %s", dir);
	r = content_read_(ctx, s, digest, 0, info.size, to_file, &fd, err);
	if (r < 0)
		return r;
	if (lseek(fd, 0, SEEK_SET) < 0)
		return err_errno(err, errno, "read spool file");
	*ret_fd = TAKE_FD(fd);
	*ret_size = info.size;
	return 0;
}

static int content_remove_(struct ctx *ctx, struct content_store *s, const char *digest,
			   struct err *err)
{
	CO(DeleteContentRequest) req = INIT(DELETE_CONTENT_REQUEST);

	req.digest = (char *)digest;
	return call(ctx, s, "Delete", &req.base, PROXY_SLOW_NS, NULL, err);
}

static int content_walk_(struct ctx *ctx, struct content_store *s,
			 int (*fn)(void *arg, const struct content_info *info), void *arg,
			 struct err *err)
{
	_cleanup_(proxy_stream_freep) struct proxy_stream *st = NULL;
	CO(ListContentRequest) req = INIT(LIST_CONTENT_REQUEST);
	CO(ListContentResponse) * resp;
	int r = proxy_stream_open(to_proxy(s)->proxy, ctx, SERVICE, "List", &req.base,
				  PROXY_QUICK_NS, &st, err);

	while (r >= 0 && (r = proxy_stream_recv(st, ctx->arena, &resp, err)) > 0) {
		for (size_t i = 0; i < resp->n_info; i++) {
			struct content_info info;

			r = info_get(ctx->arena, resp->info[i], &info, err);
			if (r == 0)
				r = fn(arg, &info);
			if (r != 0)
				return r;
		}
	}
	return r;
}

/* ---- ingests ---- */

static void status_get(const CO(Status) * m, struct content_status *ret)
{
	*ret = (struct content_status){.ref = m->ref,
				       .offset = m->offset,
				       .total = m->total,
				       .expected = "",
				       .started_at = pb_time_get(m->started_at),
				       .updated_at = pb_time_get(m->updated_at)};
}

static int content_status_(struct ctx *ctx, struct content_store *s, const char *ref,
			   struct content_status *ret, struct err *err)
{
	CO(StatusRequest) req = INIT(STATUS_REQUEST);
	CO(StatusResponse) * resp;
	int r;

	req.ref = (char *)ref;
	r = call(ctx, s, "Status", &req.base, PROXY_QUICK_NS, &resp, err);
	if (r < 0)
		return r;
	if (!resp->status)
		return senseless(to_proxy(s)->proxy, "answers without a status", err);
	status_get(resp->status, ret);
	return 0;
}

static int content_list_status_(struct ctx *ctx, struct content_store *s,
				struct content_status **ret, size_t *ret_n, struct err *err)
{
	CO(ListStatusesRequest) req = INIT(LIST_STATUSES_REQUEST);
	CO(ListStatusesResponse) * resp;
	struct content_status *v;
	int r = call(ctx, s, "ListStatuses", &req.base, PROXY_QUICK_NS, &resp, err);

	if (r < 0)
		return r;
	v = arena_new_array(ctx->arena, struct content_status, resp->n_statuses + 1);
	if (!v)
		return err_nomem(err);
	for (size_t i = 0; i < resp->n_statuses; i++)
		status_get(resp->statuses[i], &v[i]);
	*ret = v;
	*ret_n = resp->n_statuses;
	return 0;
}

static int content_abort_(struct ctx *ctx, struct content_store *s, const char *ref,
			  struct err *err)
{
	CO(AbortRequest) req = INIT(ABORT_REQUEST);

	req.ref = (char *)ref;
	return call(ctx, s, "Abort", &req.base, PROXY_QUICK_NS, NULL, err);
}

/* ---- writing ---- */

static struct proxy_writer *to_writer(struct content_store_writer *w)
{
	return (struct proxy_writer *)w;
}

/* One message and its answer, from which offset and digest are taken. */
static int exchange(struct proxy_writer *w, CO(WriteContentRequest) * req, struct err *err)
{
	CO(WriteContentResponse) * resp;
	int r;

	req->ref = (char *)w->ref;
	req->total = w->total;
	r = proxy_stream_send(w->stream, &req->base, err);
	if (r < 0) {
		/* What the plugin said is the reason why nothing can be sent. */
		struct err why = ERR_INIT;
		int x = proxy_stream_recv(w->stream, w->replies, &resp, &why);

		return x < 0 ? err_copy(err, &why) : r;
	}
	arena_reset(w->replies);
	r = proxy_stream_recv(w->stream, w->replies, &resp, err);
	if (r < 0)
		return r;
	if (r == 0 || resp->offset < 0)
		return senseless(w->proxy, "ends a writer in its midst", err);
	w->offset = resp->offset;
	w->digest.text[0] = 0;
	if (digest_validate(resp->digest, NULL) == 0)
		snprintf(w->digest.text, sizeof(w->digest.text), "%s", resp->digest);
	if (resp->started_at)
		w->started = pb_time_get(resp->started_at);
	w->updated = resp->updated_at ? pb_time_get(resp->updated_at) : time_now();
	if (w->total == 0 && resp->total > 0)
		w->total = resp->total;
	return 0;
}

static int stat_(struct proxy_writer *w, struct err *err)
{
	CO(WriteContentRequest) req = INIT(WRITE_CONTENT_REQUEST);

	req.action = ACTION(STAT);
	return exchange(w, &req, err);
}

static int writer_status(struct content_store_writer *cw, struct content_status *ret,
			 struct err *err)
{
	struct proxy_writer *w = to_writer(cw);

	*ret = (struct content_status){.offset = w->offset,
				       .total = w->total,
				       .expected = "",
				       .started_at = w->started,
				       .updated_at = w->updated};
	return 0;
}

/* @want: what the offset must be afterwards. */
static int write_piece(struct proxy_writer *w, const void *p, size_t n, int64_t want,
		       struct err *err)
{
	CO(WriteContentRequest) req = INIT(WRITE_CONTENT_REQUEST);
	int r;

	req.action = ACTION(WRITE);
	req.offset = want - (int64_t)n;
	req.data = (ProtobufCBinaryData){.data = (uint8_t *)p, .len = n};
	r = exchange(w, &req, err);
	if (r == 0 && w->offset != want)
		r = senseless(w->proxy, "did not write what it was given", err);
	return r;
}

static int writer_write(struct content_store_writer *cw, const void *p, size_t n, struct err *err)
{
	struct proxy_writer *w = to_writer(cw);
	const uint8_t *at = p;
	int r = 0;

	if (n > (size_t)(INT64_MAX - w->offset))
		return err_set(err, ERR_OUT_OF_RANGE, "write beyond the largest size");
	while (r == 0 && n > 0) {
		size_t k = MIN(n, PIECE);

		r = write_piece(w, at, k, w->offset + (int64_t)k, err);
		at += k;
		n -= k;
	}
	return r;
}

/* A write at 0 begins anew. */
static int writer_truncate(struct content_store_writer *cw, int64_t size, struct err *err)
{
	if (size != 0)
		return err_set(err, ERR_INVALID_ARGUMENT, "truncate: unsupported size");
	return write_piece(to_writer(cw), NULL, 0, 0, err);
}

static int writer_digest(struct content_store_writer *cw, struct digest *ret, struct err *err)
{
	struct proxy_writer *w = to_writer(cw);
	int r = *w->digest.text ? 0 : stat_(w, err);

	if (r < 0)
		return r;
	if (!*w->digest.text)
		return senseless(w->proxy, "tells no digest of what was written", err);
	*ret = w->digest;
	return 0;
}

static int writer_data_fd(struct content_store_writer *cw, struct err *err)
{
	return err_set(err, ERR_UNIMPLEMENTED, "content of proxy plugin \"%s\" has no file",
		       proxy_name(to_writer(cw)->proxy));
}

static int writer_commit(struct content_store_writer *cw, int64_t size, const char *expected,
			 struct digest *ret, struct err *err)
{
	struct proxy_writer *w = to_writer(cw);
	CO(WriteContentRequest) req = INIT(WRITE_CONTENT_REQUEST);
	int64_t had = w->offset;
	int r;

	req.action = ACTION(COMMIT);
	req.offset = w->offset;
	req.expected = (char *)str_or(expected, "");
	if (size > 0)
		w->total = size;
	r = exchange(w, &req, err);
	if (r < 0)
		return r;
	if (w->offset != had || (!str_empty(expected) && !streq(w->digest.text, expected)))
		return err_set(err, ERR_DATA_LOSS,
			       "proxy plugin \"%s\" committed %lld bytes of %s, not %lld of %s",
			       proxy_name(w->proxy), (long long)w->offset, w->digest.text,
			       (long long)had, str_or(expected, "any digest"));
	*ret = w->digest;
	return 0;
}

static void writer_close(struct content_store_writer *cw)
{
	struct proxy_writer *w = to_writer(cw);

	proxy_stream_free(w->stream);
	arena_free(w->arena);
	arena_free(w->replies);
	free(w);
}

static const struct content_store_writer_ops writer_ops = {
	.status = writer_status,
	.write = writer_write,
	.truncate = writer_truncate,
	.digest = writer_digest,
	.data_fd = writer_data_fd,
	.commit = writer_commit,
	.close = writer_close,
};

/* The writer may outlive the context that it is opened in. */
static int writer_start(struct ctx *ctx, struct proxy_writer *w, const char *ref, struct err *err)
{
	int r;

	w->arena = arena_new(0);
	w->replies = arena_new(0);
	if (!w->arena || !w->replies)
		return err_nomem(err);
	w->ctx.arena = w->arena;
	w->ctx.ns = arena_strdup(w->arena, str_or(ctx->ns, ""));
	w->ctx.lease = arena_strdup(w->arena, str_or(ctx->lease, ""));
	w->ref = arena_strdup(w->arena, ref);
	if (!w->ctx.ns || !w->ctx.lease || !w->ref)
		return err_nomem(err);
	r = proxy_stream_open(w->proxy, &w->ctx, SERVICE, "Write", NULL, PROXY_SLOW_NS, &w->stream,
			      err);
	return r < 0 ? r : stat_(w, err);
}

static int content_writer_(struct ctx *ctx, struct content_store *s, const char *ref, int64_t total,
			   const char *expected, struct content_store_writer **ret, struct err *err)
{
	struct proxy_writer *w = calloc(1, sizeof(*w));
	int r;

	if (!w)
		return err_nomem(err);
	w->base.ops = &writer_ops;
	w->proxy = to_proxy(s)->proxy;
	w->total = total;
	w->started = w->updated = time_now();
	r = writer_start(ctx, w, ref, err);
	if (r < 0) {
		writer_close(&w->base);
		return r;
	}
	*ret = &w->base;
	return 0;
}

/* ---- store ---- */

static void content_free_(struct content_store *s)
{
	free(to_proxy(s)->spool);
	free(s);
}

static const struct content_store_ops ops = {
	.info = content_info_,
	.open = content_open_,
	.read = content_read_,
	.remove = content_remove_,
	.walk = content_walk_,
	.status = content_status_,
	.list_status = content_list_status_,
	.abort = content_abort_,
	.writer = content_writer_,
	.free = content_free_,
};

int proxy_content_new(struct proxy *p, const char *spool, struct content_store **ret,
		      struct err *err)
{
	struct proxy_content *s = calloc(1, sizeof(*s));

	if (!s || !(s->spool = strdup(spool))) {
		free(s);
		return err_nomem(err);
	}
	s->base.ops = &ops;
	s->proxy = p;
	*ret = &s->base;
	return 0;
}
