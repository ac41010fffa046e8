/* SPDX-License-Identifier: Apache-2.0 */
/* ctr content: blobs, and the ingests that become blobs. */
#include <errno.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/fd.h"
#include "base/time.h"
#include "ctr/cmd_content.h"
#include "ctr/listing.h"
#include "ctr/record.h"
#include "rpc/rpc.h"

#define CONTENT_LABELS (&containerd__services__content__v1__info__labels_entry__descriptor)

int content_need_digest(struct ctr *c, const char **ret, struct err *err)
{
	int r;

	r = record_arg(c, 0, "digest", ret, err);
	if (r == 0)
		r = digest_validate(*ret, err);
	return r == 0 ? ctr_connect(c, err) : r;
}

/* ---- list, active ---- */

static const struct ctr_flag list_flags[] = {{"quiet", 'q', CTR_BOOL, "print only the digests"},
					     {}};

static int64_t age_of(const Google__Protobuf__Timestamp *t)
{
	return time_now().tv_sec - pb_time(t).tv_sec;
}

static int add_blob(struct arena *a, struct listing *list, const PB_CONTENT(Info) * info,
		    struct err *err)
{
	const char *labels =
		record_labels(a, (struct pb_label *const *)info->labels, info->n_labels);
	char size[32], age[40];

	if (!labels)
		return err_nomem(err);
	str_size_decimal(info->size, size);
	record_age(age_of(info->created_at), age);
	return listing_add(list,
			   json_pack("{s:s,s:I,s:o,s:o,s:o}", "Digest", info->digest, "Size",
				     (json_int_t)info->size, "CreatedAt",
				     listing_time(info->created_at), "UpdatedAt",
				     listing_time(info->updated_at), "Labels",
				     LISTING_LABELS(info)),
			   err, "%s\t%s\t%s\t%s\n", info->digest, size, age, labels);
}

static int run_list(struct ctr *c, struct err *err)
{
	PB_CONTENT(ListContentRequest) req = PB_CONTENT_INIT(LIST_CONTENT_REQUEST);
	struct rpc_stream *s _cleanup_(rpc_stream_freep) = NULL;
	struct listing list _cleanup_listing_ = {.table = TABLE_INIT(1, 8, 1, '\t'),
						 .key = "Digest"};
	struct arena *a _cleanup_arena_ = arena_new(0);
	PB_CONTENT(ListContentResponse) * m;
	int r;

	if (!a)
		return err_nomem(err);
	r = ctr_connect(c, err);
	if (r < 0)
		return r;
	req.filters = (char **)c->args;
	req.n_filters = c->n_args;
	r = client_stream(c->client, &c->ctx, PB_CONTENT_SERVICE, "List", &req.base, &s, err);
	if (r < 0)
		return r;
	r = listing_begin(c, &list, "DIGEST\tSIZE\tAGE\tLABELS\n", err);
	while (r >= 0) {
		arena_reset(a);
		r = rpc_stream_recv(
			s, a, &containerd__services__content__v1__list_content_response__descriptor,
			&m, err);
		if (r <= 0)
			break;
		for (size_t i = 0; r >= 0 && i < m->n_info; i++)
			r = add_blob(a, &list, m->info[i], err);
	}
	return r < 0 ? r : listing_end(&list, err);
}

static const struct ctr_flag active_flags[] = {
	{"timeout", 't', CTR_DURATION,
	 "accepted as others write it; --timeout of ctr itself is what counts", "0s",
	 "CONTAINERD_FETCH_TIMEOUT"},
	{"root", 0, CTR_STRING, "accepted as others write it; the daemon knows its directories",
	 "/tmp/content"},
	{}};

static int run_active(struct ctr *c, struct err *err)
{
	PB_CONTENT(ListStatusesRequest) req = PB_CONTENT_INIT(LIST_STATUSES_REQUEST);
	struct listing list _cleanup_listing_ = {.table = TABLE_INIT(1, 8, 1, '\t')};
	PB_CONTENT(ListStatusesResponse) * resp;
	int r;

	r = ctr_connect(c, err);
	if (r < 0)
		return r;
	req.filters = (char **)c->args;
	req.n_filters = MIN(c->n_args, 1u);
	r = client_call(c->client, &c->ctx, PB_CONTENT_SERVICE, "ListStatuses", &req.base, &resp,
			err);
	if (r < 0)
		return r;
	r = listing_begin(c, &list, "REF\tSIZE\tAGE\t\n", err);
	for (size_t i = 0; r == 0 && i < resp->n_statuses; i++) {
		const PB_CONTENT(Status) *s = resp->statuses[i];
		char size[32], age[40];

		str_size_decimal(s->offset, size);
		record_age(age_of(s->started_at), age);
		r = listing_add(&list,
				json_pack("{s:s,s:I,s:I,s:s,s:o,s:o}", "Ref", s->ref, "Size",
					  (json_int_t)s->offset, "Total", (json_int_t)s->total,
					  "Expected", s->expected, "StartedAt",
					  listing_time(s->started_at), "UpdatedAt",
					  listing_time(s->updated_at)),
				err, "%s\t%s\t%s\t\n", s->ref, size, age);
	}
	return r < 0 ? r : listing_end(&list, err);
}

/* ---- get, delete, label ---- */

static int run_get(struct ctr *c, struct err *err)
{
	const char *digest;
	int r;

	r = content_need_digest(c, &digest, err);
	return r < 0 ? r : record_copy_content(c, digest, STDOUT_FILENO, err);
}

static int delete_one(struct ctr *c, const char *digest, bool last, struct err *err)
{
	PB_CONTENT(DeleteContentRequest) req = PB_CONTENT_INIT(DELETE_CONTENT_REQUEST);
	int r;

	r = digest_validate(digest, err);
	if (r < 0)
		return r;
	req.digest = (char *)digest;
	r = client_call(c->client, &c->ctx, PB_CONTENT_SERVICE, "Delete", &req.base, NULL, err);
	if (r == 0)
		puts(digest);
	return r;
}

static int run_delete(struct ctr *c, struct err *err)
{
	const char *digest;
	int r;

	r = record_arg(c, 0, "digest", &digest, err);
	if (r == 0)
		r = ctr_connect(c, err);
	return r < 0 ? r : record_each(c, "could not delete", true, delete_one, err);
}

static int run_label(struct ctr *c, struct err *err)
{
	PB_CONTENT(UpdateRequest) req = PB_CONTENT_INIT(UPDATE_REQUEST);
	PB_CONTENT(Info) info = PB_CONTENT_INIT(INFO);
	Google__Protobuf__FieldMask mask;
	PB_CONTENT(UpdateResponse) * resp;
	struct labels l = {};
	const char *digest;
	int r;

	r = content_need_digest(c, &digest, err);
	if (r == 0)
		r = record_label_args(c, &l, err);
	if (r == 0)
		r = record_label_mask(c->ctx.arena, &l, &mask, err);
	if (r < 0)
		return r;
	info.digest = (char *)digest;
	if (PB_LABELS_OUT(c->ctx.arena, &l, CONTENT_LABELS, info.labels, info.n_labels) < 0)
		return err_nomem(err);
	req.info = &info;
	req.update_mask = &mask;
	r = client_call(c->client, &c->ctx, PB_CONTENT_SERVICE, "Update", &req.base, &resp, err);
	if (r < 0)
		return r;
	if (!resp->info)
		return err_set(err, ERR_INTERNAL, "content came empty");
	return record_print_labels(c->ctx.arena, (struct pb_label *const *)resp->info->labels,
				   resp->info->n_labels, err);
}

/* ---- ingest ---- */

#define INGEST_CHUNK ((size_t)1 << 20)

static const struct ctr_flag ingest_flags[] = {
	{"expected-size", 0, CTR_INT, "size that the data must have", "0"},
	{"expected-digest", 0, CTR_STRING, "digest that the data must have"},
	{}};

/* Every message has its answer before the next one goes out. */
static int exchange(struct rpc_stream *s, struct arena *a,
		    const PB_CONTENT(WriteContentRequest) * req,
		    PB_CONTENT(WriteContentResponse) * *ret, struct err *err)
{
	int r;

	r = rpc_stream_send(s, &req->base, err);
	if (r < 0)
		return r;
	arena_reset(a);
	r = rpc_stream_recv(s, a,
			    &containerd__services__content__v1__write_content_response__descriptor,
			    ret, err);
	return r == 0 ? err_set(err, ERR_INTERNAL, "the daemon ended the write early") : r;
}

/* Data of an earlier try is there already: reads as much from the input and drops it. */
static int skip_input(int64_t n, char *p, struct err *err)
{
	while (n > 0) {
		ssize_t got = fd_read_full(STDIN_FILENO, p, (size_t)MIN(n, (int64_t)INGEST_CHUNK));

		if (got < 0)
			return err_errno(err, (int)got, "read standard input");
		if (got == 0)
			return err_set(
				err, ERR_FAILED_PRECONDITION,
				"standard input is shorter than what an earlier ingest has stored");
		n -= got;
	}
	return 0;
}

/* @req has ref, total and expected. */
static int ingest_stream(struct rpc_stream *s, struct arena *a,
			 PB_CONTENT(WriteContentRequest) * req, char *p, struct err *err)
{
	PB_CONTENT(WriteContentResponse) * resp;
	ssize_t n;
	int r;

	req->action = CONTAINERD__SERVICES__CONTENT__V1__WRITE_ACTION__STAT;
	r = exchange(s, a, req, &resp, err);
	if (r < 0)
		return r;
	req->offset = resp->offset;
	r = skip_input(resp->offset, p, err);
	if (r < 0)
		return r;
	req->action = CONTAINERD__SERVICES__CONTENT__V1__WRITE_ACTION__WRITE;
	while ((n = fd_read_full(STDIN_FILENO, p, INGEST_CHUNK)) > 0) {
		req->data = (ProtobufCBinaryData){.data = (uint8_t *)p, .len = (size_t)n};
		r = exchange(s, a, req, &resp, err);
		if (r < 0)
			return r;
		req->offset += n;
	}
	if (n < 0)
		return err_errno(err, (int)n, "read standard input");
	req->action = CONTAINERD__SERVICES__CONTENT__V1__WRITE_ACTION__COMMIT;
	req->data = (ProtobufCBinaryData){};
	return exchange(s, a, req, &resp, err);
}

static int run_ingest(struct ctr *c, struct err *err)
{
	PB_CONTENT(WriteContentRequest) req = PB_CONTENT_INIT(WRITE_CONTENT_REQUEST);
	struct rpc_stream *s _cleanup_(rpc_stream_freep) = NULL;
	struct arena *a _cleanup_arena_ = arena_new(0);
	char *p _cleanup_free_ = malloc(INGEST_CHUNK);
	const char *ref;
	int r;

	if (!a || !p)
		return err_nomem(err);
	r = record_arg(c, 0, "key of the ingest", &ref, err);
	req.ref = (char *)ref;
	req.total = ctr_int(c, "expected-size");
	req.expected = (char *)ctr_string(c, "expected-digest");
	if (r == 0 && req.total < 0)
		return err_set(err, ERR_INVALID_ARGUMENT, "--expected-size %lld is negative",
			       (long long)req.total);
	if (r == 0 && *req.expected)
		r = digest_validate(req.expected, err);
	if (r == 0)
		r = ctr_connect(c, err);
	/* Who writes our input may take his time. */
	if (r == 0)
		r = client_share(c->client, err);
	if (r == 0)
		r = client_stream(c->client, &c->ctx, PB_CONTENT_SERVICE, "Write", NULL, &s, err);
	if (r == 0)
		r = ingest_stream(s, a, &req, p, err);
	/* What is wanted is there. */
	return r < 0 && r != -ERR_ALREADY_EXISTS ? r : 0;
}

/* ---- Tables ---- */

static const struct ctr_command active = {
	.name = "active",
	.usage = "list ingests that are not finished",
	.args = "[flags] [<filter>]",
	.flags = CTR_FLAGS(active_flags, format_flags),
	.run = run_active,
};
static const struct ctr_command delete = {
	.name = "delete",
	.aliases = {"del", "remove", "rm"},
	.usage = "delete blobs from the namespace",
	.args = "[<digest>, ...]",
	.names = CTR_NAMES_CONTENT,
	.more = CTR_NAMES_CONTENT,
	.run = run_delete,
};
static const struct ctr_command get = {
	.name = "get",
	.usage = "print a blob",
	.args = "[<digest>, ...]",
	.names = CTR_NAMES_CONTENT,
	.more = CTR_NAMES_CONTENT,
	.run = run_get,
};
static const struct ctr_command ingest = {
	.name = "ingest",
	.usage = "store standard input as a blob",
	.args = "[flags] <key>",
	.description = "   The blob has nothing that keeps it; label it (containerd.io/gc.root) or "
		       "hold a lease.",
	.flags = CTR_FLAGS(ingest_flags),
	.run = run_ingest,
};
static const struct ctr_command list = {
	.name = "list",
	.aliases = {"ls"},
	.usage = "list blobs",
	.args = "[flags] [<filter>, ...]",
	.flags = CTR_FLAGS(list_flags, format_flags),
	.run = run_list,
};
static const struct ctr_command label = {
	.name = "label",
	.usage = "set and clear labels of a blob",
	.args = "<digest> [<label>=<value> ...]",
	.names = CTR_NAMES_CONTENT,
	.run = run_label,
};

const struct ctr_command cmd_content = {
	.name = "content",
	.usage = "manage content",
	.subcommands =
		CTR_COMMANDS(&active, &delete, &content_edit, &content_fetch, &content_fetch_object,
			     &content_fetch_blob, &get, &ingest, &list, &content_push_object,
			     &label, &content_prune, &content_collect),
};
