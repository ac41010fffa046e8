/* SPDX-License-Identifier: Apache-2.0 */
/* containerd.services.namespaces.v1.Namespaces. Its events are published in the namespace that they
 * are about. */
#include "base/str.h"
#include "core/event.h"
#include "core/namespace.h"
#include "services/pb.h"
#include "services/services.h"

#define NS(x) Containerd__Services__Namespaces__V1__##x
#define DESC(x) containerd__services__namespaces__v1__##x##__descriptor

static int to_pb(struct arena *a, const struct namespace_info *info, NS(Namespace) * *ret,
		 struct err *err)
{
	NS(Namespace) *m = pb_new(a, &DESC(namespace));
	if (!m)
		return err_nomem(err);
	m->name = (char *)info->name;
	int r = pb_labels_put(a, &info->labels, &DESC(namespace__labels_entry), &m->labels,
			      &m->n_labels, err);
	if (r == 0)
		*ret = m;
	return r;
}

/* A copy of the context that speaks for namespace @name. */
static struct ctx in_namespace(const struct ctx *ctx, const char *name)
{
	return (struct ctx){
		.arena = ctx->arena, .ns = name, .lease = "", .deadline = ctx->deadline};
}

static int get(struct rpc_call *call, const void *req, struct err *err)
{
	const NS(GetNamespaceRequest) *r = req;
	struct ctx *ctx = rpc_ctx(call);
	struct services *s = rpc_data(call);
	struct namespace_info info = {.name = r->name};
	NS(GetNamespaceResponse)
	resp = CONTAINERD__SERVICES__NAMESPACES__V1__GET_NAMESPACE_RESPONSE__INIT;
	int e = namespace_labels(ctx, s->db, r->name, &info.labels, err);
	if (e == 0)
		e = to_pb(ctx->arena, &info, &resp.namespace_, err);
	return e < 0 ? e : rpc_send(call, &resp.base, err);
}

static int list(struct rpc_call *call, const void *req, struct err *err)
{
	struct ctx *ctx = rpc_ctx(call);
	struct services *s = rpc_data(call);
	struct namespace_info *infos;
	size_t n;
	NS(ListNamespacesResponse)
	resp = CONTAINERD__SERVICES__NAMESPACES__V1__LIST_NAMESPACES_RESPONSE__INIT;
	int e = namespace_list(ctx, s->db, &infos, &n, err);
	if (e < 0)
		return e;
	resp.namespaces = arena_new_array(ctx->arena, NS(Namespace) *, n + 1);
	if (!resp.namespaces)
		return err_nomem(err);
	for (; resp.n_namespaces < n; resp.n_namespaces++) {
		e = to_pb(ctx->arena, &infos[resp.n_namespaces],
			  &resp.namespaces[resp.n_namespaces], err);
		if (e < 0)
			return e;
	}
	return rpc_send(call, &resp.base, err);
}

static int create(struct rpc_call *call, const void *req, struct err *err)
{
	const NS(CreateNamespaceRequest) *r = req;
	struct ctx *ctx = rpc_ctx(call);
	struct services *s = rpc_data(call);
	struct namespace_info info = {.name = r->namespace_ ? r->namespace_->name : ""};
	NS(CreateNamespaceResponse)
	resp = CONTAINERD__SERVICES__NAMESPACES__V1__CREATE_NAMESPACE_RESPONSE__INIT;
	Containerd__Events__NamespaceCreate ev = CONTAINERD__EVENTS__NAMESPACE_CREATE__INIT;
	int e = 0;
	if (r->namespace_)
		e = pb_labels_get(ctx->arena, r->namespace_->labels, r->namespace_->n_labels,
				  &info.labels, err);
	if (e == 0)
		e = namespace_create(ctx, s->db, info.name, &info.labels, err);
	if (e == 0)
		e = to_pb(ctx->arena, &info, &resp.namespace_, err);
	ev.name = (char *)info.name;
	if (e == 0)
		e = pb_labels_put(ctx->arena, &info.labels,
				  &containerd__events__namespace_create__labels_entry__descriptor,
				  &ev.labels, &ev.n_labels, err);
	struct ctx there = in_namespace(ctx, info.name);
	if (e == 0)
		e = event_publish(&there, s->events, "/namespaces/create", &ev.base, err);
	return e < 0 ? e : rpc_send(call, &resp.base, err);
}

static int update(struct rpc_call *call, const void *req, struct err *err)
{
	const NS(UpdateNamespaceRequest) *r = req;
	struct ctx *ctx = rpc_ctx(call);
	struct services *s = rpc_data(call);
	if (!r->namespace_)
		return err_set(err, ERR_INVALID_ARGUMENT, "namespace is required");
	struct namespace_info info = {.name = r->namespace_->name};
	struct labels want;
	size_t n;
	char **paths = pb_mask(r->update_mask, &n);
	NS(UpdateNamespaceResponse)
	resp = CONTAINERD__SERVICES__NAMESPACES__V1__UPDATE_NAMESPACE_RESPONSE__INIT;
	Containerd__Events__NamespaceUpdate ev = CONTAINERD__EVENTS__NAMESPACE_UPDATE__INIT;
	int e = pb_labels_get(ctx->arena, r->namespace_->labels, r->namespace_->n_labels, &want,
			      err);
	if (e == 0)
		e = namespace_update(ctx, s->db, info.name, &want, paths, n, &info.labels, err);
	if (e == 0)
		e = to_pb(ctx->arena, &info, &resp.namespace_, err);
	ev.name = (char *)info.name;
	if (e == 0)
		e = pb_labels_put(ctx->arena, &info.labels,
				  &containerd__events__namespace_update__labels_entry__descriptor,
				  &ev.labels, &ev.n_labels, err);
	struct ctx there = in_namespace(ctx, info.name);
	if (e == 0)
		e = event_publish(&there, s->events, "/namespaces/update", &ev.base, err);
	return e < 0 ? e : rpc_send(call, &resp.base, err);
}

static int delete (struct rpc_call *call, const void *req, struct err *err)
{
	const NS(DeleteNamespaceRequest) *r = req;
	struct ctx *ctx = rpc_ctx(call);
	struct services *s = rpc_data(call);
	Containerd__Events__NamespaceDelete ev = CONTAINERD__EVENTS__NAMESPACE_DELETE__INIT;
	int e = namespace_delete(ctx, s->db, r->name, err);
	if (e < 0)
		return e;
	ev.name = r->name;
	struct ctx there = in_namespace(ctx, r->name);
	e = event_publish(&there, s->events, "/namespaces/delete", &ev.base, err);
	return e < 0 ? e : pb_send_empty(call, err);
}

static const struct rpc_method methods[] = {
	{"Get", RPC_UNARY, get},       {"List", RPC_UNARY, list},     {"Create", RPC_UNARY, create},
	{"Update", RPC_UNARY, update}, {"Delete", RPC_UNARY, delete},
};

SERVICE(namespaces, &DESC(namespaces), methods)
