/* SPDX-License-Identifier: Apache-2.0 */
/* containerd.services.content.v1.Content */
#include "core/content.h"
#include "base/str.h"
#include "services/pb.h"
#include "services/services.h"

#define CO(x) Containerd__Services__Content__V1__##x
#define DESC(x) containerd__services__content__v1__##x##__descriptor

#define LIST_BATCH 100
#define MESSAGE_MAX ((size_t)64 << 20) /* memory that one message of a Write takes */

static int info_to_pb(struct arena *a, const struct content_info *i, CO(Info) * *ret,
		      struct err *err)
{
	CO(Info) *m = pb_new(a, &DESC(info));
	if (!m)
		return err_nomem(err);
	m->digest = pb_str(a, i->digest);
	m->size = i->size;
	m->created_at = pb_time_put(a, i->created_at);
	m->updated_at = pb_time_put(a, i->updated_at);
	int r = pb_labels_put(a, &i->labels, &DESC(info__labels_entry), &m->labels, &m->n_labels,
			      err);
	if (r == 0)
		*ret = m;
	return r;
}

static CO(Status) * status_to_pb(struct arena *a, const struct content_status *s)
{
	CO(Status) *m = pb_new(a, &DESC(status));
	if (!m)
		return NULL;
	m->ref = pb_str(a, s->ref);
	m->offset = s->offset;
	m->total = s->total;
	m->expected = pb_str(a, s->expected);
	m->started_at = pb_time_put(a, s->started_at);
	m->updated_at = pb_time_put(a, s->updated_at);
	return m;
}

static int info(struct rpc_call *call, const void *req, struct err *err)
{
	const CO(InfoRequest) *r = req;
	struct ctx *ctx = rpc_ctx(call);
	struct services *s = rpc_data(call);
	struct content_info i;
	CO(InfoResponse) resp = CONTAINERD__SERVICES__CONTENT__V1__INFO_RESPONSE__INIT;
	int e = content_info(ctx, s->db, r->digest, &i, err);
	if (e == 0)
		e = info_to_pb(ctx->arena, &i, &resp.info, err);
	return e < 0 ? e : rpc_send(call, &resp.base, err);
}

static int update(struct rpc_call *call, const void *req, struct err *err)
{
	const CO(UpdateRequest) *r = req;
	struct ctx *ctx = rpc_ctx(call);
	struct services *s = rpc_data(call);
	struct content_info i = {0};
	size_t n;
	char **paths = pb_mask(r->update_mask, &n);
	CO(UpdateResponse) resp = CONTAINERD__SERVICES__CONTENT__V1__UPDATE_RESPONSE__INIT;
	if (!r->info)
		return err_set(err, ERR_INVALID_ARGUMENT, "info is required");
	i.digest = r->info->digest;
	int e = pb_labels_get(ctx->arena, r->info->labels, r->info->n_labels, &i.labels, err);
	if (e == 0)
		e = content_update(ctx, s->db, &i, paths, n, &i, err);
	if (e == 0)
		e = info_to_pb(ctx->arena, &i, &resp.info, err);
	return e < 0 ? e : rpc_send(call, &resp.base, err);
}

static int list(struct rpc_call *call, const void *req, struct err *err)
{
	const CO(ListContentRequest) *r = req;
	struct ctx *ctx = rpc_ctx(call);
	struct services *s = rpc_data(call);
	_cleanup_filter_ struct filter *f = NULL;
	/* There may be more than a call has memory for. */
	_cleanup_arena_ struct arena *all = arena_new(0), *a = arena_new(0);
	struct ctx part = ctx_part(ctx, all);
	struct content_info *v;
	size_t n;
	int e = all && a ? 0 : err_nomem(err);
	if (e == 0)
		e = filter_parse(ctx->arena, (const char *const *)r->filters, r->n_filters, &f,
				 err);
	if (e == 0)
		e = content_list(&part, s->db, f, &v, &n, err);
	for (size_t i = 0; e == 0 && i < n; i += LIST_BATCH) {
		CO(Info) * batch[LIST_BATCH];
		CO(ListContentResponse)
		resp = CONTAINERD__SERVICES__CONTENT__V1__LIST_CONTENT_RESPONSE__INIT;
		resp.info = batch;
		for (; e == 0 && resp.n_info < LIST_BATCH && i + resp.n_info < n; resp.n_info++)
			e = info_to_pb(a, &v[i + resp.n_info], &batch[resp.n_info], err);
		if (e == 0)
			e = rpc_send(call, &resp.base, err);
		arena_reset(a);
	}
	return e;
}

static int delete (struct rpc_call *call, const void *req, struct err *err)
{
	const CO(DeleteContentRequest) *r = req;
	struct services *s = rpc_data(call);
	int e = content_delete(rpc_ctx(call), s->db, r->digest, err);
	return e < 0 ? e : pb_send_empty(call, err);
}

struct read_call {
	struct rpc_call *call;
	int64_t sent;
};

/* The offset of an answer counts within the stream, not within the blob. */
static int send_piece(void *arg, const void *p, size_t n, struct err *err)
{
	struct read_call *r = arg;
	CO(ReadContentResponse)
	resp = CONTAINERD__SERVICES__CONTENT__V1__READ_CONTENT_RESPONSE__INIT;
	resp.offset = r->sent;
	resp.data = (ProtobufCBinaryData){.data = (uint8_t *)p, .len = n};
	r->sent += (int64_t)n;
	return rpc_send(r->call, &resp.base, err);
}

static int read_(struct rpc_call *call, const void *req, struct err *err)
{
	const CO(ReadContentRequest) *r = req;
	struct services *s = rpc_data(call);
	struct read_call c = {.call = call};
	return content_read_part(rpc_ctx(call), s->db, r->digest, r->offset, r->size, send_piece,
				 &c, err);
}

static int status(struct rpc_call *call, const void *req, struct err *err)
{
	const CO(StatusRequest) *r = req;
	struct ctx *ctx = rpc_ctx(call);
	struct services *s = rpc_data(call);
	struct content_status st;
	CO(StatusResponse) resp = CONTAINERD__SERVICES__CONTENT__V1__STATUS_RESPONSE__INIT;
	int e = content_status(ctx, s->db, r->ref, &st, err);
	if (e < 0)
		return e;
	resp.status = status_to_pb(ctx->arena, &st);
	return resp.status ? rpc_send(call, &resp.base, err) : err_nomem(err);
}

static int list_statuses(struct rpc_call *call, const void *req, struct err *err)
{
	const CO(ListStatusesRequest) *r = req;
	struct ctx *ctx = rpc_ctx(call);
	struct services *s = rpc_data(call);
	_cleanup_filter_ struct filter *f = NULL;
	struct content_status *v;
	size_t n;
	CO(ListStatusesResponse)
	resp = CONTAINERD__SERVICES__CONTENT__V1__LIST_STATUSES_RESPONSE__INIT;
	int e = filter_parse(ctx->arena, (const char *const *)r->filters, r->n_filters, &f, err);
	if (e == 0)
		e = content_list_status(ctx, s->db, f, &v, &n, err);
	if (e < 0)
		return e;
	resp.statuses = arena_new_array(ctx->arena, CO(Status) *, n + 1);
	if (!resp.statuses)
		return err_nomem(err);
	for (; resp.n_statuses < n; resp.n_statuses++)
		if (!(resp.statuses[resp.n_statuses] =
			      status_to_pb(ctx->arena, &v[resp.n_statuses])))
			return err_nomem(err);
	return rpc_send(call, &resp.base, err);
}

static int abort_(struct rpc_call *call, const void *req, struct err *err)
{
	const CO(AbortRequest) *r = req;
	struct services *s = rpc_data(call);
	int e = content_abort(rpc_ctx(call), s->db, r->ref, err);
	return e < 0 ? e : pb_send_empty(call, err);
}

/* ---- Write ---- */

struct write {
	struct rpc_call *call;
	struct ctx ctx; /* the call's, with memory that lasts until the next message */
	struct db *db;
	struct content_writer *w;
	const char *ref;
	int64_t total;
	struct digest expected;	       /* "" = none was named */
	CO(WriteContentResponse) resp; /* the last answer: sent again at the end */
	bool committed;
};

static void write_done(struct write *wr)
{
	content_writer_close(wr->w);
	arena_free(wr->ctx.arena);
}

/* What an answer says about the state: digest and offset. */
static int write_state(struct write *wr, struct content_status *ret, struct err *err)
{
	struct digest d;
	int e = content_writer_status(wr->w, ret, err);
	if (e == 0)
		e = content_writer_digest(wr->w, &d, err);
	if (e < 0)
		return e;
	wr->resp.offset = ret->offset;
	wr->resp.total = ret->total;
	wr->resp.digest = pb_str(wr->ctx.arena, d.text);
	wr->resp.started_at = NULL;
	wr->resp.updated_at = NULL;
	return wr->resp.digest ? 0 : err_nomem(err);
}

/* Takes what a message says about size and digest; they stay in force for those that follow. */
static int write_expect(struct write *wr, const CO(WriteContentRequest) * r, struct err *err)
{
	if (!str_empty(r->ref) && !streq(r->ref, wr->ref))
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "received different reference than first message: %s != %s", r->ref,
			       wr->ref);
	if (r->total > 0)
		wr->total = r->total;
	if (!str_empty(r->expected)) {
		struct content_info i;
		int e = digest_validate(r->expected, err);
		if (e < 0)
			return e;
		snprintf(wr->expected.text, sizeof(wr->expected.text), "%s", r->expected);
		if (content_info(&wr->ctx, wr->db, r->expected, &i, NULL) == 0) {
			/* While the reference is ours: who waits for it begins anew. */
			(void)!content_abort(&wr->ctx, wr->db, wr->ref, NULL);
			content_writer_close(wr->w);
			wr->w = NULL;
			return err_set_raw(err, ERR_ALREADY_EXISTS,
					   "blob with expected digest %s exists", r->expected);
		}
	}
	return 0;
}

static int write_data(struct write *wr, const CO(WriteContentRequest) * r, struct err *err)
{
	struct content_status st;
	int e = content_writer_status(wr->w, &st, err);
	if (e < 0)
		return e;
	if (r->offset == 0) {
		/* What another namespace has is kept by a commit, not by data. */
		if (st.offset > 0 && (str_empty(st.expected) || r->data.len > 0))
			e = content_writer_truncate(wr->w, err);
	} else if (r->offset != st.offset) {
		return err_set_raw(err, ERR_OUT_OF_RANGE,
				   "write @%lld must occur at current offset %lld",
				   (long long)r->offset, (long long)st.offset);
	}
	if (e == 0 && r->data.len > 0)
		e = content_writer_write(wr->w, r->data.data, r->data.len, err);
	return e;
}

static int write_commit(struct write *wr, const CO(WriteContentRequest) * r, struct err *err)
{
	struct labels labels;
	struct digest d;
	struct content_status st;
	int e = pb_labels_get(wr->ctx.arena, r->labels, r->n_labels, &labels, err);
	if (e == 0)
		e = content_writer_status(wr->w, &st, err);
	if (e == 0)
		e = content_writer_commit(&wr->ctx, wr->w, wr->total, wr->expected.text, &labels,
					  &d, err);
	if (e < 0)
		return e;
	wr->committed = true;
	wr->resp.offset = st.offset;
	wr->resp.total = wr->total;
	wr->resp.digest = pb_str(wr->ctx.arena, d.text);
	return wr->resp.digest ? 0 : err_nomem(err);
}

static int write_message(struct write *wr, const CO(WriteContentRequest) * r, struct err *err)
{
	struct content_status st;
	arena_reset(wr->ctx.arena);
	int e = write_expect(wr, r, err);
	if (e < 0)
		return e;
	wr->resp.action = r->action;
	switch (r->action) {
	case CONTAINERD__SERVICES__CONTENT__V1__WRITE_ACTION__STAT:
		e = write_state(wr, &st, err);
		if (e == 0) {
			wr->resp.started_at = pb_time_put(wr->ctx.arena, st.started_at);
			wr->resp.updated_at = pb_time_put(wr->ctx.arena, st.updated_at);
		}
		break;
	case CONTAINERD__SERVICES__CONTENT__V1__WRITE_ACTION__WRITE:
		e = write_data(wr, r, err);
		if (e == 0)
			e = write_state(wr, &st, err);
		break;
	case CONTAINERD__SERVICES__CONTENT__V1__WRITE_ACTION__COMMIT:
		e = write_data(wr, r, err);
		if (e == 0)
			e = write_commit(wr, r, err);
		break;
	default:
		return err_set(err, ERR_INVALID_ARGUMENT, "unknown write action %d",
			       (int)r->action);
	}
	return e < 0 ? e : rpc_send(wr->call, &wr->resp.base, err);
}

static int write_(struct rpc_call *call, const void *unused, struct err *err)
{
	struct services *s = rpc_data(call);
	struct ctx *ctx = rpc_ctx(call);
	_cleanup_(write_done) struct write wr = {
		.call = call, .ctx = ctx_part(ctx, arena_new(MESSAGE_MAX)), .db = s->db};
	CO(WriteContentRequest) * r;
	const char *ns;
	wr.resp = (CO(WriteContentResponse))
		CONTAINERD__SERVICES__CONTENT__V1__WRITE_CONTENT_RESPONSE__INIT;
	int e = ctx_namespace(ctx, &ns, err);
	if (e == 0)
		e = rpc_recv(call, (ProtobufCMessage **)&r, err);
	if (e < 0)
		return e;
	if (e == 0 || str_empty(r->ref))
		return err_set_raw(err, ERR_INVALID_ARGUMENT,
				   "first message must have a reference");
	wr.ref = arena_strdup(ctx->arena, r->ref);
	if (!wr.ref || !wr.ctx.arena)
		return err_nomem(err);
	wr.total = r->total;
	e = content_writer_open(ctx, s->db, wr.ref, r->total, r->expected, &wr.w, err);
	while (e >= 0) {
		e = write_message(&wr, r, err);
		if (e < 0 || wr.committed)
			break;
		e = rpc_recv(call, (ProtobufCMessage **)&r, err);
		if (e == 0)
			break;
	}
	/* The last answer comes twice: once for its message, once for the end. Clients rely on
	 * neither, but they count. */
	return e < 0 ? e : rpc_send(call, &wr.resp.base, err);
}

static const struct rpc_method methods[] = {
	{"Info", RPC_UNARY, info},
	{"Update", RPC_UNARY, update},
	{"List", RPC_SERVER_STREAM, list},
	{"Delete", RPC_UNARY, delete},
	{"Read", RPC_SERVER_STREAM, read_},
	{"Status", RPC_UNARY, status},
	{"ListStatuses", RPC_UNARY, list_statuses},
	{"Write", RPC_BIDI, write_},
	{"Abort", RPC_UNARY, abort_},
};

SERVICE(content, &DESC(content), methods)
