/* SPDX-License-Identifier: Apache-2.0 */
/* containerd.services.sandbox.v1.Store: records of sandboxes. Nothing is published about them. */
#include "base/str.h"
#include "core/sandbox.h"
#include "services/pb.h"
#include "services/sandbox_pb.h"
#include "services/services.h"

#define SB(x) Containerd__Services__Sandbox__V1__##x
#define TY(x) Containerd__Types__##x
#define TYD(x) containerd__types__##x##__descriptor

int sandbox_to_pb(struct arena *a, const struct sandbox *s, TY(Sandbox) * *ret, struct err *err)
{
	TY(Sandbox) *m = pb_new(a, &TYD(sandbox));
	TY(Sandbox__Runtime) *rt = pb_new(a, &TYD(sandbox__runtime));
	TY(Sandbox__ExtensionsEntry) **ext =
		arena_new_array(a, TY(Sandbox__ExtensionsEntry) *, s->n_extensions + 1);
	if (!m || !rt || !ext)
		return err_nomem(err);
	m->sandbox_id = pb_str(a, s->id);
	m->sandboxer = pb_str(a, s->sandboxer);
	rt->name = pb_str(a, s->runtime_name);
	rt->options = pb_any_put(a, &s->runtime_options);
	m->runtime = rt;
	m->spec = pb_any_put(a, &s->spec);
	m->created_at = pb_time_put(a, s->created_at);
	m->updated_at = pb_time_put(a, s->updated_at);
	for (size_t i = 0; i < s->n_extensions; i++) {
		ext[i] = pb_new(a, &TYD(sandbox__extensions_entry));
		if (!ext[i])
			return err_nomem(err);
		ext[i]->key = (char *)s->extensions[i].key;
		ext[i]->value = pb_any_put(a, &s->extensions[i].value);
	}
	m->extensions = ext;
	m->n_extensions = s->n_extensions;
	int r = pb_labels_put(a, &s->labels, &TYD(sandbox__labels_entry), &m->labels, &m->n_labels,
			      err);
	if (r == 0)
		*ret = m;
	return r;
}

int sandbox_from_pb(struct arena *a, const TY(Sandbox) * m, struct sandbox *ret, struct err *err)
{
	struct sandbox s = {0};
	if (!m)
		return err_set(err, ERR_INVALID_ARGUMENT, "sandbox is required");
	s.id = m->sandbox_id;
	s.sandboxer = m->sandboxer;
	s.runtime_name = m->runtime ? m->runtime->name : "";
	s.runtime_options = pb_any_get(m->runtime ? m->runtime->options : NULL);
	s.spec = pb_any_get(m->spec);
	s.extensions = arena_new_array(a, struct any_entry, m->n_extensions + 1);
	if (!s.extensions)
		return err_nomem(err);
	for (size_t i = 0; i < m->n_extensions; i++)
		s.extensions[i] = (struct any_entry){m->extensions[i]->key,
						     pb_any_get(m->extensions[i]->value)};
	s.n_extensions = m->n_extensions;
	int r = pb_labels_get(a, m->labels, m->n_labels, &s.labels, err);
	if (r == 0)
		*ret = s;
	return r;
}

static int create(struct rpc_call *call, const void *req, struct err *err)
{
	const SB(StoreCreateRequest) *r = req;
	struct ctx *ctx = rpc_ctx(call);
	struct services *s = rpc_data(call);
	struct sandbox b;
	SB(StoreCreateResponse)
	resp = CONTAINERD__SERVICES__SANDBOX__V1__STORE_CREATE_RESPONSE__INIT;
	int e = sandbox_from_pb(ctx->arena, r->sandbox, &b, err);
	if (e == 0)
		e = sandbox_create(ctx, s->db, &b, &b, err);
	if (e == 0)
		e = sandbox_to_pb(ctx->arena, &b, &resp.sandbox, err);
	return e < 0 ? e : rpc_send(call, &resp.base, err);
}

static int update(struct rpc_call *call, const void *req, struct err *err)
{
	const SB(StoreUpdateRequest) *r = req;
	struct ctx *ctx = rpc_ctx(call);
	struct services *s = rpc_data(call);
	struct sandbox b;
	SB(StoreUpdateResponse)
	resp = CONTAINERD__SERVICES__SANDBOX__V1__STORE_UPDATE_RESPONSE__INIT;
	int e = sandbox_from_pb(ctx->arena, r->sandbox, &b, err);
	if (e == 0)
		e = sandbox_update(ctx, s->db, &b, r->fields, r->n_fields, &b, err);
	if (e == 0)
		e = sandbox_to_pb(ctx->arena, &b, &resp.sandbox, err);
	return e < 0 ? e : rpc_send(call, &resp.base, err);
}

static int delete (struct rpc_call *call, const void *req, struct err *err)
{
	const SB(StoreDeleteRequest) *r = req;
	struct services *s = rpc_data(call);
	SB(StoreDeleteResponse)
	resp = CONTAINERD__SERVICES__SANDBOX__V1__STORE_DELETE_RESPONSE__INIT;
	int e = sandbox_delete(rpc_ctx(call), s->db, r->sandbox_id, err);
	return e < 0 ? e : rpc_send(call, &resp.base, err);
}

static int list(struct rpc_call *call, const void *req, struct err *err)
{
	const SB(StoreListRequest) *r = req;
	struct ctx *ctx = rpc_ctx(call);
	struct services *s = rpc_data(call);
	_cleanup_filter_ struct filter *f = NULL;
	struct sandbox *v;
	SB(StoreListResponse) resp = CONTAINERD__SERVICES__SANDBOX__V1__STORE_LIST_RESPONSE__INIT;
	int e = filter_parse(ctx->arena, (const char *const *)r->filters, r->n_filters, &f, err);
	if (e < 0)
		/* The class text stands there twice, as clients of containerd know it. */
		return err_set_raw(err, ERR_INVALID_ARGUMENT, "%s: %s", err->text,
				   err_kind_text(e));
	e = sandbox_list(ctx, s->db, f, &v, &resp.n_list, err);
	if (e < 0)
		return e;
	resp.list = arena_new_array(ctx->arena, TY(Sandbox) *, resp.n_list + 1);
	if (!resp.list)
		return err_nomem(err);
	for (size_t i = 0; i < resp.n_list && e == 0; i++)
		e = sandbox_to_pb(ctx->arena, &v[i], &resp.list[i], err);
	return e < 0 ? e : rpc_send(call, &resp.base, err);
}

static int get(struct rpc_call *call, const void *req, struct err *err)
{
	const SB(StoreGetRequest) *r = req;
	struct ctx *ctx = rpc_ctx(call);
	struct services *s = rpc_data(call);
	struct sandbox b;
	SB(StoreGetResponse) resp = CONTAINERD__SERVICES__SANDBOX__V1__STORE_GET_RESPONSE__INIT;
	int e = sandbox_get(ctx, s->db, r->sandbox_id, &b, err);
	if (e == 0)
		e = sandbox_to_pb(ctx->arena, &b, &resp.sandbox, err);
	return e < 0 ? e : rpc_send(call, &resp.base, err);
}

static const struct rpc_method methods[] = {
	{"Create", RPC_UNARY, create}, {"Update", RPC_UNARY, update}, {"Delete", RPC_UNARY, delete},
	{"List", RPC_UNARY, list},     {"Get", RPC_UNARY, get},
};

SERVICE(sandbox_store, &containerd__services__sandbox__v1__store__descriptor, methods)
