/* SPDX-License-Identifier: Apache-2.0 */
/* containerd.services.leases.v1.Leases */
#include "core/lease.h"
#include "services/pb.h"
#include "services/services.h"

#define LE(x) Containerd__Services__Leases__V1__##x
#define DESC(x) containerd__services__leases__v1__##x##__descriptor

static int to_pb(struct arena *a, const struct lease *l, LE(Lease) * *ret, struct err *err)
{
	LE(Lease) *m = pb_new(a, &DESC(lease));
	if (!m)
		return err_nomem(err);
	m->id = pb_str(a, l->id);
	m->created_at = pb_time_put(a, l->created_at);
	int r = pb_labels_put(a, &l->labels, &DESC(lease__labels_entry), &m->labels, &m->n_labels,
			      err);
	if (r == 0)
		*ret = m;
	return r;
}

static int create(struct rpc_call *call, const void *req, struct err *err)
{
	const LE(CreateRequest) *r = req;
	struct ctx *ctx = rpc_ctx(call);
	struct services *s = rpc_data(call);
	struct labels labels;
	struct lease l;
	LE(CreateResponse) resp = CONTAINERD__SERVICES__LEASES__V1__CREATE_RESPONSE__INIT;
	int e = pb_labels_get(ctx->arena, r->labels, r->n_labels, &labels, err);
	if (e == 0)
		e = lease_create(ctx, s->db, r->id, &labels, &l, err);
	if (e == 0)
		e = to_pb(ctx->arena, &l, &resp.lease, err);
	return e < 0 ? e : rpc_send(call, &resp.base, err);
}

static int delete (struct rpc_call *call, const void *req, struct err *err)
{
	const LE(DeleteRequest) *r = req;
	struct ctx *ctx = rpc_ctx(call);
	struct services *s = rpc_data(call);
	if (r->sync && !s->gc)
		return gc_disabled(err);
	int e = lease_delete(ctx, s->db, r->id, err);
	if (e == 0 && r->sync)
		e = gc_scheduler_wait(ctx, s->gc, err);
	return e < 0 ? e : pb_send_empty(call, err);
}

static int list(struct rpc_call *call, const void *req, struct err *err)
{
	const LE(ListRequest) *r = req;
	struct ctx *ctx = rpc_ctx(call);
	struct services *s = rpc_data(call);
	_cleanup_filter_ struct filter *f = NULL;
	struct lease *v;
	size_t n;
	LE(ListResponse) resp = CONTAINERD__SERVICES__LEASES__V1__LIST_RESPONSE__INIT;
	int e = filter_parse(ctx->arena, (const char *const *)r->filters, r->n_filters, &f, err);
	if (e < 0)
		return err_set_raw(err, ERR_INVALID_ARGUMENT, "%s: %s", err->text,
				   err_kind_text(e));
	e = lease_list(ctx, s->db, f, &v, &n, err);
	if (e < 0)
		return e;
	resp.leases = arena_new_array(ctx->arena, LE(Lease) *, n + 1);
	if (!resp.leases)
		return err_nomem(err);
	for (; resp.n_leases < n; resp.n_leases++) {
		e = to_pb(ctx->arena, &v[resp.n_leases], &resp.leases[resp.n_leases], err);
		if (e < 0)
			return e;
	}
	return rpc_send(call, &resp.base, err);
}

static struct lease_resource resource(const LE(Resource) * r)
{
	return r ? (struct lease_resource){r->id, r->type} : (struct lease_resource){"", ""};
}

static int add_resource(struct rpc_call *call, const void *req, struct err *err)
{
	const LE(AddResourceRequest) *r = req;
	struct services *s = rpc_data(call);
	struct lease_resource res = resource(r->resource);
	int e = lease_add_resource(rpc_ctx(call), s->db, r->id, &res, err);
	return e < 0 ? e : pb_send_empty(call, err);
}

static int delete_resource(struct rpc_call *call, const void *req, struct err *err)
{
	const LE(DeleteResourceRequest) *r = req;
	struct services *s = rpc_data(call);
	struct lease_resource res = resource(r->resource);
	int e = lease_delete_resource(rpc_ctx(call), s->db, r->id, &res, err);
	return e < 0 ? e : pb_send_empty(call, err);
}

static int list_resources(struct rpc_call *call, const void *req, struct err *err)
{
	const LE(ListResourcesRequest) *r = req;
	struct ctx *ctx = rpc_ctx(call);
	struct services *s = rpc_data(call);
	struct lease_resource *v;
	size_t n;
	LE(ListResourcesResponse)
	resp = CONTAINERD__SERVICES__LEASES__V1__LIST_RESOURCES_RESPONSE__INIT;
	int e = lease_list_resources(ctx, s->db, r->id, &v, &n, err);
	if (e < 0)
		return e;
	resp.resources = arena_new_array(ctx->arena, LE(Resource) *, n + 1);
	if (!resp.resources)
		return err_nomem(err);
	for (; resp.n_resources < n; resp.n_resources++) {
		LE(Resource) *m = pb_new(ctx->arena, &DESC(resource));
		if (!m)
			return err_nomem(err);
		m->id = (char *)v[resp.n_resources].id;
		m->type = (char *)v[resp.n_resources].type;
		resp.resources[resp.n_resources] = m;
	}
	return rpc_send(call, &resp.base, err);
}

static const struct rpc_method methods[] = {
	{"Create", RPC_UNARY, create},
	{"Delete", RPC_UNARY, delete},
	{"List", RPC_UNARY, list},
	{"AddResource", RPC_UNARY, add_resource},
	{"DeleteResource", RPC_UNARY, delete_resource},
	{"ListResources", RPC_UNARY, list_resources},
};

SERVICE(leases, &DESC(leases), methods)
