/* SPDX-License-Identifier: Apache-2.0 */
/* Writing content. A writer is one Write stream; every message has its answer before the next one
 * goes out. The expected digest is not sent along: the daemon then takes a blob that it has already
 * as this one's, and the request's lease holds it, which it does not do when it is told early. */
#include "client/client.h"

#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "base/str.h"
#include "base/time.h"

#define CHUNK ((size_t)1 << 20)
#define TURN_NS (100 * NSEC_PER_MSEC)

struct client_writer {
	struct client *c;
	struct ctx *ctx;
	struct rpc_stream *stream;
	struct arena *arena; /* answers */
	struct hasher *hasher;
	PB_CONTENT(WriteContentRequest) req;
	char *ref;
};

static int exchange(struct client_writer *w, struct err *err)
{
	PB_CONTENT(WriteContentResponse) * resp;
	int r = rpc_stream_send(w->stream, &w->req.base, err);

	/* A daemon that refuses ends the stream: what it says is more than that it did. */
	if (r < 0 && r != -ERR_UNAVAILABLE)
		return r;
	arena_reset(w->arena);
	r = rpc_stream_recv(w->stream, w->arena,
			    &containerd__services__content__v1__write_content_response__descriptor,
			    &resp, err);
	return r == 0  ? err_set(err, ERR_INTERNAL, "the daemon ended the write early")
	       : r < 0 ? r
		       : 0;
}

static int open_stream(struct client_writer *w, struct err *err)
{
	int r = client_stream(w->c, w->ctx, PB_CONTENT_SERVICE, "Write", NULL, &w->stream, err);

	return r < 0 ? r : exchange(w, err);
}

/* An ingest has one writer; another one's turn comes when that has ended. */
static int wait_for_turn(struct client_writer *w, struct err *err)
{
	static const struct timespec pause = {.tv_nsec = TURN_NS};

	for (;;) {
		struct err e = ERR_INIT;
		int r = open_stream(w, &e);

		if (r == 0)
			return 0;
		if (r != -ERR_UNAVAILABLE || !strstr(e.text, " locked"))
			return err_copy(err, &e);
		rpc_stream_free(TAKE_PTR(w->stream));
		nanosleep(&pause, NULL);
		r = ctx_check(w->ctx, err);
		if (r < 0)
			return r;
	}
}

static int start(struct client_writer *w, const char *ref, struct err *err)
{
	w->ref = strdup(ref);
	w->arena = arena_new(0);
	w->hasher = hasher_new(DIGEST_SHA256);
	if (!w->ref || !w->arena || !w->hasher)
		return err_nomem(err);
	w->req = (PB_CONTENT(WriteContentRequest))PB_CONTENT_INIT(WRITE_CONTENT_REQUEST);
	w->req.ref = w->ref;
	/* At offset 0: what an earlier try has left is overwritten. */
	w->req.action = CONTAINERD__SERVICES__CONTENT__V1__WRITE_ACTION__WRITE;
	return wait_for_turn(w, err);
}

int client_writer_open(struct client *c, struct ctx *ctx, const char *ref,
		       struct client_writer **ret, struct err *err)
{
	struct client_writer *w = calloc(1, sizeof(*w));
	int r;

	if (!w)
		return err_nomem(err);
	w->c = c;
	w->ctx = ctx;
	r = start(w, ref, err);
	if (r < 0)
		client_writer_free(w);
	else
		*ret = w;
	return r;
}

void client_writer_free(struct client_writer *w)
{
	if (!w)
		return;
	rpc_stream_free(w->stream);
	hasher_free(w->hasher);
	if (w->arena)
		arena_free(w->arena);
	free(w->ref);
	free(w);
}

int client_writer_write(struct client_writer *w, const void *p, size_t n, struct err *err)
{
	uint8_t *from = (uint8_t *)p;

	hasher_update(w->hasher, p, n);
	while (n > 0) {
		size_t part = MIN(n, CHUNK);
		int r;

		w->req.data = (ProtobufCBinaryData){.data = from, .len = part};
		r = exchange(w, err);
		if (r < 0)
			return r;
		w->req.offset += (int64_t)part;
		from += part;
		n -= part;
	}
	return 0;
}

/* The blob was there: what it lacks of @labels is added. */
static int complete_labels(struct client_writer *w, const char *digest, const struct labels *labels,
			   struct err *err)
{
	struct labels have, missing = {};
	int r = client_content_labels(w->c, w->ctx, digest, &have, err);

	if (r < 0)
		return r;
	for (size_t i = 0; labels && i < labels->n; i++)
		if (!labels_get(&have, labels->v[i].key) &&
		    labels_set(w->ctx->arena, &missing, labels->v[i].key, labels->v[i].value) < 0)
			return err_nomem(err);
	return missing.n ? client_content_set_labels(w->c, w->ctx, digest, &missing, err) : 0;
}

int client_writer_commit(struct client_writer *w, const struct labels *labels,
			 struct digest *ret_digest, int64_t *ret_size, struct err *err)
{
	struct err e = ERR_INIT;
	struct digest digest;
	int r;

	if (labels &&
	    PB_LABELS_OUT(
		    w->ctx->arena, labels,
		    &containerd__services__content__v1__write_content_request__labels_entry__descriptor,
		    w->req.labels, w->req.n_labels) < 0)
		return err_nomem(err);
	hasher_digest(w->hasher, &digest);
	w->req.action = CONTAINERD__SERVICES__CONTENT__V1__WRITE_ACTION__COMMIT;
	w->req.data = (ProtobufCBinaryData){};
	w->req.total = w->req.offset;
	r = exchange(w, &e);
	if (r == -ERR_ALREADY_EXISTS)
		r = complete_labels(w, digest.text, labels, err);
	else if (r < 0)
		err_copy(err, &e);
	if (r < 0)
		return r;
	*ret_digest = digest;
	*ret_size = w->req.offset;
	return 0;
}

int client_content_put(struct client *c, struct ctx *ctx, const char *ref, const void *p, size_t n,
		       const struct labels *labels, struct digest *ret, struct err *err)
{
	struct client_writer *w _cleanup_(client_writer_freep) = NULL;
	int64_t size;
	int r = client_writer_open(c, ctx, ref, &w, err);

	if (r == 0)
		r = client_writer_write(w, p, n, err);
	return r < 0 ? r : client_writer_commit(w, labels, ret, &size, err);
}

int client_content_abort(struct client *c, struct ctx *ctx, const char *ref, struct err *err)
{
	PB_CONTENT(AbortRequest) req = PB_CONTENT_INIT(ABORT_REQUEST);

	req.ref = (char *)ref;
	return client_call(c, ctx, PB_CONTENT_SERVICE, "Abort", &req.base, NULL, err);
}

/* ---- Labels ---- */

int client_content_labels(struct client *c, struct ctx *ctx, const char *digest, struct labels *ret,
			  struct err *err)
{
	PB_CONTENT(InfoRequest) req = PB_CONTENT_INIT(INFO_REQUEST);
	PB_CONTENT(InfoResponse) * resp;
	struct labels l;
	int r;

	req.digest = (char *)digest;
	r = client_call(c, ctx, PB_CONTENT_SERVICE, "Info", &req.base, &resp, err);
	if (r < 0)
		return r;
	if (!resp->info)
		return err_set(err, ERR_INTERNAL, "content %s came empty", digest);
	if (PB_LABELS_IN(ctx->arena, resp->info->labels, resp->info->n_labels, &l) < 0)
		return err_nomem(err);
	*ret = l;
	return 0;
}

int client_content_set_labels(struct client *c, struct ctx *ctx, const char *digest,
			      const struct labels *labels, struct err *err)
{
	PB_CONTENT(UpdateRequest) req = PB_CONTENT_INIT(UPDATE_REQUEST);
	PB_CONTENT(Info) info = PB_CONTENT_INIT(INFO);
	Google__Protobuf__FieldMask mask = GOOGLE__PROTOBUF__FIELD_MASK__INIT;

	mask.paths = arena_new_array(ctx->arena, char *, labels->n + 1);
	if (!mask.paths ||
	    PB_LABELS_OUT(ctx->arena, labels,
			  &containerd__services__content__v1__info__labels_entry__descriptor,
			  info.labels, info.n_labels) < 0)
		return err_nomem(err);
	for (size_t i = 0; i < labels->n; i++) {
		mask.paths[i] = arena_printf(ctx->arena, "labels.%s", labels->v[i].key);
		if (!mask.paths[i])
			return err_nomem(err);
	}
	mask.n_paths = labels->n;
	info.digest = (char *)digest;
	req.info = &info;
	req.update_mask = &mask;
	return client_call(c, ctx, PB_CONTENT_SERVICE, "Update", &req.base, NULL, err);
}
