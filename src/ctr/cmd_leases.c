/* SPDX-License-Identifier: Apache-2.0 */
/* ctr leases: what keeps resources from the garbage collector. */
#include "base/time.h"
#include "ctr/commands.h"
#include "ctr/listing.h"
#include "ctr/record.h"

static const struct ctr_flag list_flags[] = {{"quiet", 'q', CTR_BOOL, "print only the ids"}, {}};

static int run_list(struct ctr *c, struct err *err)
{
	PB_LEASES(ListRequest) req = PB_LEASES_INIT(LIST_REQUEST);
	struct listing list _cleanup_listing_ = {.table = TABLE_INIT(1, 8, 1, ' '), .key = "ID"};
	PB_LEASES(ListResponse) * resp;
	int r;

	r = ctr_connect(c, err);
	if (r < 0)
		return r;
	req.filters = (char **)c->args;
	req.n_filters = c->n_args;
	r = client_call(c->client, &c->ctx, PB_LEASES_SERVICE, "List", &req.base, &resp, err);
	if (r < 0)
		return r;
	r = listing_begin(c, &list, "ID\tCREATED AT\tLABELS\t\n", err);
	for (size_t i = 0; r == 0 && i < resp->n_leases; i++) {
		const PB_LEASES(Lease) *l = resp->leases[i];
		const char *labels = record_labels(
			c->ctx.arena, (struct pb_label *const *)l->labels, l->n_labels);
		char when[40];

		if (!labels)
			return err_nomem(err);
		record_local_time(pb_time(l->created_at), when);
		r = listing_add(&list,
				json_pack("{s:s,s:o,s:o}", "ID", l->id, "CreatedAt",
					  listing_time(l->created_at), "Labels", LISTING_LABELS(l)),
				err, "%s\t%s\t%s\t\n", l->id, when, labels);
	}
	return r < 0 ? r : listing_end(&list, err);
}

static const struct ctr_flag create_flags[] = {
	{"id", 0, CTR_STRING, "id of the lease; the daemon makes one when not given"},
	{"expires", 'x', CTR_DURATION, "time after which the lease ends by itself; 0 = never",
	 "24h0m0s"},
	{}};

static int run_create(struct ctr *c, struct err *err)
{
	PB_LEASES(CreateRequest) req = PB_LEASES_INIT(CREATE_REQUEST);
	int64_t expires = ctr_int(c, "expires");
	PB_LEASES(CreateResponse) * resp;
	struct timespec end = time_now();
	struct labels l = {};
	int r;

	r = ctr_parse_labels(c->ctx.arena, c->args, c->n_args, &l, err);
	if (r == 0)
		r = ctr_connect(c, err);
	if (r < 0)
		return r;
	end.tv_sec += expires / NSEC_PER_SEC;
	if (expires > 0 && labels_set(c->ctx.arena, &l, "containerd.io/gc.expire",
				      str_or(record_utc_time(c->ctx.arena, end), "")) < 0)
		return err_nomem(err);
	req.id = (char *)ctr_string(c, "id");
	if (PB_LABELS_OUT(
		    c->ctx.arena, &l,
		    &containerd__services__leases__v1__create_request__labels_entry__descriptor,
		    req.labels, req.n_labels) < 0)
		return err_nomem(err);
	r = client_call(c->client, &c->ctx, PB_LEASES_SERVICE, "Create", &req.base, &resp, err);
	if (r < 0)
		return r;
	if (!resp->lease)
		return err_set(err, ERR_INTERNAL, "lease came empty");
	puts(resp->lease->id);
	return 0;
}

static const struct ctr_flag delete_flags[] = {
	{"sync", 0, CTR_BOOL, "wait until what the leases kept is gone"}, {}};

static int delete_one(struct ctr *c, const char *id, bool last, struct err *err)
{
	PB_LEASES(DeleteRequest) req = PB_LEASES_INIT(DELETE_REQUEST);
	int r;

	req.id = (char *)id;
	req.sync = last && ctr_bool(c, "sync");
	r = client_call(c->client, &c->ctx, PB_LEASES_SERVICE, "Delete", &req.base, NULL, err);
	if (r == 0)
		puts(id);
	return r;
}

static int run_delete(struct ctr *c, struct err *err)
{
	const char *id;
	int r;

	r = record_arg(c, 0, "lease id", &id, err);
	if (r == 0)
		r = ctr_connect(c, err);
	return r < 0 ? r : record_each(c, "failed to delete lease", false, delete_one, err);
}

static const struct ctr_command list = {
	.name = "list",
	.aliases = {"ls"},
	.usage = "list leases",
	.args = "[flags] <filter>",
	.flags = CTR_FLAGS(list_flags, format_flags),
	.run = run_list,
};
static const struct ctr_command create = {
	.name = "create",
	.usage = "create a lease",
	.args = "[flags] <label>=<value> ...",
	.flags = CTR_FLAGS(create_flags),
	.run = run_create,
};
static const struct ctr_command delete = {
	.name = "delete",
	.aliases = {"del", "remove", "rm"},
	.usage = "delete leases",
	.args = "[flags] <lease id> ...",
	.flags = CTR_FLAGS(delete_flags),
	.names = CTR_NAMES_LEASES,
	.more = CTR_NAMES_LEASES,
	.run = run_delete,
};

const struct ctr_command cmd_leases = {
	.name = "leases",
	.usage = "manage leases",
	.subcommands = CTR_COMMANDS(&list, &create, &delete),
};
