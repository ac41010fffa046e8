/* SPDX-License-Identifier: Apache-2.0 */
/* containerd.services.mounts.v1.Mounts */
#include "plugins/mounts/manager.h"
#include "base/str.h"
#include "services/pb.h"
#include "services/services.h"

#define MO(x) Containerd__Services__Mounts__V1__##x
#define TY(x) Containerd__Types__##x
#define TYD(x) containerd__types__##x##__descriptor

static int active_to_pb(struct arena *a, const struct mount_active *m, TY(ActiveMount) * *ret,
			struct err *err)
{
	struct mounts one = {.v = (struct mount *)&m->mount, .n = 1};
	TY(ActiveMount) *p = pb_new(a, &TYD(active_mount));
	TY(Mount) * *v;
	size_t n;
	if (!p)
		return err_nomem(err);
	int r = pb_mounts_put(a, &one, &v, &n, err);
	if (r < 0)
		return r;
	p->mount = v[0];
	p->mounted_at = pb_time_put(a, m->mounted_at);
	p->mount_point = pb_str(a, m->mount_point);
	*ret = p;
	return 0;
}

static int to_pb(struct arena *a, const struct mount_activation *act, TY(ActivationInfo) * *ret,
		 struct err *err)
{
	TY(ActivationInfo) *p = pb_new(a, &TYD(activation_info));
	if (!p)
		return err_nomem(err);
	p->name = pb_str(a, act->name);
	p->active = arena_new_array(a, TY(ActiveMount) *, act->n_active + 1);
	if (!p->active)
		return err_nomem(err);
	int r = 0;
	for (; r == 0 && p->n_active < act->n_active; p->n_active += r == 0)
		r = active_to_pb(a, &act->active[p->n_active], &p->active[p->n_active], err);
	if (r == 0)
		r = pb_mounts_put(a, &act->system, &p->system, &p->n_system, err);
	if (r == 0)
		r = pb_labels_put(a, &act->labels, &TYD(activation_info__labels_entry), &p->labels,
				  &p->n_labels, err);
	if (r == 0)
		*ret = p;
	return r;
}

static int activate(struct rpc_call *call, const void *req, struct err *err)
{
	const MO(ActivateRequest) *r = req;
	struct ctx *ctx = rpc_ctx(call);
	struct services *s = rpc_data(call);
	struct mounts mounts;
	struct labels labels;
	struct mount_activation act;
	MO(ActivateResponse) resp = CONTAINERD__SERVICES__MOUNTS__V1__ACTIVATE_RESPONSE__INIT;
	int e = pb_mounts_get(ctx->arena, r->mounts, r->n_mounts, &mounts, err);
	if (e == 0)
		e = pb_labels_get(ctx->arena, r->labels, r->n_labels, &labels, err);
	if (e == 0)
		e = mount_activate(ctx, s->mounts, r->name, &mounts, &labels, &act, err);
	if (e == 0 && r->temporary)
		e = mount_activation_bind(ctx->arena, &act, err);
	if (e == 0)
		e = to_pb(ctx->arena, &act, &resp.info, err);
	return e < 0 ? e : rpc_send(call, &resp.base, err);
}

static int deactivate(struct rpc_call *call, const void *req, struct err *err)
{
	const MO(DeactivateRequest) *r = req;
	struct services *s = rpc_data(call);
	int e = mount_deactivate(rpc_ctx(call), s->mounts, r->name, err);
	return e < 0 ? e : pb_send_empty(call, err);
}

static int info(struct rpc_call *call, const void *req, struct err *err)
{
	const MO(InfoRequest) *r = req;
	struct ctx *ctx = rpc_ctx(call);
	struct services *s = rpc_data(call);
	struct mount_activation act;
	MO(InfoResponse) resp = CONTAINERD__SERVICES__MOUNTS__V1__INFO_RESPONSE__INIT;
	int e = mount_activation_info(ctx, s->mounts, r->name, &act, err);
	if (e == 0)
		e = to_pb(ctx->arena, &act, &resp.info, err);
	return e < 0 ? e : rpc_send(call, &resp.base, err);
}

/* Activations do not change; clients of containerd are told so. */
static int update(struct rpc_call *call, const void *req, struct err *err)
{
	return err_set_raw(err, ERR_UNIMPLEMENTED, "not implemented");
}

static int list(struct rpc_call *call, const void *req, struct err *err)
{
	struct ctx *ctx = rpc_ctx(call);
	struct services *s = rpc_data(call);
	struct mount_activation *v;
	size_t n;
	int e = mount_activation_list(ctx, s->mounts, &v, &n, err);
	for (size_t i = 0; e == 0 && i < n; i++) {
		MO(ListMessage) m = CONTAINERD__SERVICES__MOUNTS__V1__LIST_MESSAGE__INIT;
		e = to_pb(ctx->arena, &v[i], &m.info, err);
		if (e == 0)
			e = rpc_send(call, &m.base, err);
	}
	return e;
}

static const struct rpc_method methods[] = {
	{"Activate", RPC_UNARY, activate}, {"Deactivate", RPC_UNARY, deactivate},
	{"Info", RPC_UNARY, info},	   {"Update", RPC_UNARY, update},
	{"List", RPC_SERVER_STREAM, list},
};

SERVICE(mounts, &containerd__services__mounts__v1__mounts__descriptor, methods)
