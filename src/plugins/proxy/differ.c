/* SPDX-License-Identifier: Apache-2.0 */
/* A differ in another process. It reads and writes blobs as a client of this daemon, or otherwise
 * as it sees fit; namespace and lease go with the call. */
#include <stdlib.h>

#include "base/str.h"
#include "core/pb.h"
#include "plugins/proxy/backends.h"

#define DI(x) Containerd__Services__Diff__V1__##x
#define INIT(x) CONTAINERD__SERVICES__DIFF__V1__##x##__INIT
#define DESC(x) containerd__services__diff__v1__##x##__descriptor
#define SERVICE (&DESC(diff))

struct proxy_differ {
	struct differ base;
	struct proxy *proxy;
};

static struct proxy *proxy_of(struct differ *d)
{
	return ((struct proxy_differ *)d)->proxy;
}

static int result(struct ctx *ctx, struct differ *d, const Containerd__Types__Descriptor *m,
		  struct descriptor *ret, struct err *err)
{
	int r = 0;

	if (!m || digest_validate(m->digest, NULL) < 0 || m->size < 0)
		r = err_set(err, ERR_INTERNAL, "differ %s answers without a descriptor", d->name);
	return r < 0 ? r : pb_descriptor_get(ctx->arena, m, ret, err);
}

static int payloads_put(struct arena *a, const struct apply_request *q, DI(ApplyRequest) * req,
			struct err *err)
{
	size_t n = q->n_payloads;

	req->payloads = arena_new_array(a, DI(ApplyRequest__PayloadsEntry) *, n + 1);
	if (!req->payloads)
		return err_nomem(err);
	for (size_t i = 0; i < n; i++) {
		DI(ApplyRequest__PayloadsEntry) *e =
			pb_new(a, &DESC(apply_request__payloads_entry));

		if (!e)
			return err_nomem(err);
		e->key = (char *)q->payloads[i].id;
		e->value = pb_any_put(a, &q->payloads[i].any);
		req->payloads[req->n_payloads++] = e;
	}
	return 0;
}

static int proxy_apply(struct ctx *ctx, struct differ *d, const struct apply_request *q,
		       struct descriptor *ret, struct err *err)
{
	DI(ApplyRequest) req = INIT(APPLY_REQUEST);
	DI(ApplyResponse) * resp;
	int r;

	if (q->alone)
		return err_set(err, ERR_ABORTED, "differ %s takes layers in their turn", d->name);
	r = pb_mounts_put(ctx->arena, q->mounts, &req.mounts, &req.n_mounts, err);

	if (r == 0)
		r = payloads_put(ctx->arena, q, &req, err);
	if (r < 0)
		return r;
	req.diff = pb_descriptor_put(ctx->arena, q->desc, err);
	if (!req.diff)
		return err_nomem(err);
	req.sync_fs = q->sync_fs;
	r = proxy_call(proxy_of(d), ctx, SERVICE, "Apply", &req.base, PROXY_UNLIMITED_NS, &resp,
		       err);
	return r < 0 ? r : result(ctx, d, resp->applied, ret, err);
}

static int proxy_diff(struct ctx *ctx, struct differ *d, const struct mounts *lower,
		      const struct mounts *upper, const struct walking_diff_options *o,
		      struct descriptor *ret, struct err *err)
{
	DI(DiffRequest) req = INIT(DIFF_REQUEST);
	DI(DiffResponse) * resp;
	int r = pb_mounts_put(ctx->arena, lower, &req.left, &req.n_left, err);

	if (r == 0)
		r = pb_mounts_put(ctx->arena, upper, &req.right, &req.n_right, err);
	if (r == 0)
		r = pb_labels_put(ctx->arena, &o->labels, &DESC(diff_request__labels_entry),
				  &req.labels, &req.n_labels, err);
	if (r < 0)
		return r;
	req.media_type = (char *)str_or(o->media_type, "");
	req.ref = (char *)str_or(o->ref, "");
	if (o->epoch && !(req.source_date_epoch = pb_time_put(ctx->arena, *o->epoch)))
		return err_nomem(err);
	r = proxy_call(proxy_of(d), ctx, SERVICE, "Diff", &req.base, PROXY_UNLIMITED_NS, &resp,
		       err);
	return r < 0 ? r : result(ctx, d, resp->diff, ret, err);
}

static void differ_free(struct differ *d)
{
	free(d);
}

static const struct differ_ops ops = {
	.apply = proxy_apply, .diff = proxy_diff, .free = differ_free};

int proxy_differ_new(struct proxy *p, struct differ **ret, struct err *err)
{
	struct proxy_differ *d = calloc(1, sizeof(*d));

	if (!d)
		return err_nomem(err);
	d->base = (struct differ){.ops = &ops, .name = proxy_name(p)};
	d->proxy = p;
	*ret = &d->base;
	return 0;
}
