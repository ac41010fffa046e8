/* SPDX-License-Identifier: Apache-2.0 */
/* containerd.services.diff.v1.Diff, by the configured differs. */
#include "plugins/differ/differ.h"
#include "services/pb.h"
#include "services/services.h"

#define DI(x) Containerd__Services__Diff__V1__##x
#define DESC(x) containerd__services__diff__v1__##x##__descriptor

static const struct differs *differs_of(const struct services *s)
{
	static const struct differs none;
	return s->differs ? s->differs : &none;
}

static int payloads_get(struct arena *a, const DI(ApplyRequest) * r, struct apply_request *q,
			struct err *err)
{
	struct payload *v = arena_new_array(a, struct payload, r->n_payloads + 1);
	if (!v)
		return err_nomem(err);
	for (size_t i = 0; i < r->n_payloads; i++)
		v[i] = (struct payload){.id = r->payloads[i]->key,
					.any = pb_any_get(r->payloads[i]->value)};
	q->payloads = v;
	q->n_payloads = r->n_payloads;
	return 0;
}

static int apply(struct rpc_call *call, const void *req, struct err *err)
{
	const DI(ApplyRequest) *r = req;
	struct ctx *ctx = rpc_ctx(call);
	struct services *s = rpc_data(call);
	struct descriptor d, applied;
	struct mounts m;
	struct apply_request q = {
		.desc = &d, .fd = -1, .mounts = &m, .sync_fs = r->sync_fs || s->diff_sync_fs};
	DI(ApplyResponse) resp = CONTAINERD__SERVICES__DIFF__V1__APPLY_RESPONSE__INIT;
	if (!r->diff)
		return err_set(err, ERR_INVALID_ARGUMENT, "diff is required");
	int e = pb_descriptor_get(ctx->arena, r->diff, &d, err);
	if (e == 0)
		e = pb_mounts_get(ctx->arena, r->mounts, r->n_mounts, &m, err);
	if (e == 0)
		e = payloads_get(ctx->arena, r, &q, err);
	if (e == 0)
		e = differs_apply(ctx, differs_of(s), &q, &applied, err);
	if (e == 0 && !(resp.applied = pb_descriptor_put(ctx->arena, &applied, err)))
		e = -ERR_RESOURCE_EXHAUSTED;
	return e < 0 ? e : rpc_send(call, &resp.base, err);
}

static int diff(struct rpc_call *call, const void *req, struct err *err)
{
	const DI(DiffRequest) *r = req;
	struct ctx *ctx = rpc_ctx(call);
	struct services *s = rpc_data(call);
	struct timespec epoch = pb_time_get(r->source_date_epoch);
	struct walking_diff_options o = {.media_type = r->media_type,
					 .ref = r->ref,
					 .epoch = r->source_date_epoch ? &epoch : NULL};
	struct mounts lower, upper;
	struct descriptor d;
	DI(DiffResponse) resp = CONTAINERD__SERVICES__DIFF__V1__DIFF_RESPONSE__INIT;
	int e = pb_mounts_get(ctx->arena, r->left, r->n_left, &lower, err);
	if (e == 0)
		e = pb_mounts_get(ctx->arena, r->right, r->n_right, &upper, err);
	if (e == 0)
		e = pb_labels_get(ctx->arena, r->labels, r->n_labels, &o.labels, err);
	if (e == 0)
		e = differs_diff(ctx, differs_of(s), &lower, &upper, &o, &d, err);
	if (e == 0 && !(resp.diff = pb_descriptor_put(ctx->arena, &d, err)))
		e = -ERR_RESOURCE_EXHAUSTED;
	return e < 0 ? e : rpc_send(call, &resp.base, err);
}

static const struct rpc_method methods[] = {
	{"Apply", RPC_UNARY, apply},
	{"Diff", RPC_UNARY, diff},
};

SERVICE(diff, &DESC(diff), methods)
