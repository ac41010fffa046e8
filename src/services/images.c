/* SPDX-License-Identifier: Apache-2.0 */
/* containerd.services.images.v1.Images */
#include "core/image.h"
#include "base/str.h"
#include "core/event.h"
#include "services/pb.h"
#include "services/services.h"

#define IM(x) Containerd__Services__Images__V1__##x
#define DESC(x) containerd__services__images__v1__##x##__descriptor

static int to_pb(struct arena *a, const struct image *i, IM(Image) * *ret, struct err *err)
{
	IM(Image) *m = pb_new(a, &DESC(image));
	if (!m)
		return err_nomem(err);
	m->name = pb_str(a, i->name);
	m->target = pb_descriptor_put(a, &i->target, err);
	m->created_at = pb_time_put(a, i->created_at);
	m->updated_at = pb_time_put(a, i->updated_at);
	int r = pb_labels_put(a, &i->labels, &DESC(image__labels_entry), &m->labels, &m->n_labels,
			      err);
	if (r == 0 && !m->target)
		r = err_nomem(err);
	if (r == 0)
		*ret = m;
	return r;
}

static int from_pb(struct arena *a, const IM(Image) * m, struct image *ret, struct err *err)
{
	if (!m || str_empty(m->name))
		return err_set(err, ERR_INVALID_ARGUMENT, "Image.Name required");
	struct image i = {.name = m->name};
	int r = pb_labels_get(a, m->labels, m->n_labels, &i.labels, err);
	if (r == 0)
		r = pb_descriptor_get(a, m->target, &i.target, err);
	if (r == 0)
		*ret = i;
	return r;
}

static int get(struct rpc_call *call, const void *req, struct err *err)
{
	const IM(GetImageRequest) *r = req;
	struct ctx *ctx = rpc_ctx(call);
	struct services *s = rpc_data(call);
	struct image i;
	IM(GetImageResponse) resp = CONTAINERD__SERVICES__IMAGES__V1__GET_IMAGE_RESPONSE__INIT;
	int e = image_get(ctx, s->db, r->name, &i, err);
	if (e == 0)
		e = to_pb(ctx->arena, &i, &resp.image, err);
	return e < 0 ? e : rpc_send(call, &resp.base, err);
}

static int list(struct rpc_call *call, const void *req, struct err *err)
{
	const IM(ListImagesRequest) *r = req;
	struct ctx *ctx = rpc_ctx(call);
	struct services *s = rpc_data(call);
	_cleanup_filter_ struct filter *f = NULL;
	struct image *v;
	size_t n;
	IM(ListImagesResponse) resp = CONTAINERD__SERVICES__IMAGES__V1__LIST_IMAGES_RESPONSE__INIT;
	int e = filter_parse(ctx->arena, (const char *const *)r->filters, r->n_filters, &f, err);
	if (e < 0)
		return err_set_raw(err, ERR_INVALID_ARGUMENT, "%s: %s", err->text,
				   err_kind_text(e));
	e = image_list(ctx, s->db, f, &v, &n, err);
	if (e < 0)
		return e;
	resp.images = arena_new_array(ctx->arena, IM(Image) *, n + 1);
	if (!resp.images)
		return err_nomem(err);
	for (; resp.n_images < n; resp.n_images++) {
		e = to_pb(ctx->arena, &v[resp.n_images], &resp.images[resp.n_images], err);
		if (e < 0)
			return e;
	}
	return rpc_send(call, &resp.base, err);
}

static int create(struct rpc_call *call, const void *req, struct err *err)
{
	const IM(CreateImageRequest) *r = req;
	struct ctx *ctx = rpc_ctx(call);
	struct services *s = rpc_data(call);
	struct image i;
	IM(CreateImageResponse)
	resp = CONTAINERD__SERVICES__IMAGES__V1__CREATE_IMAGE_RESPONSE__INIT;
	IM(ImageCreate) ev = CONTAINERD__SERVICES__IMAGES__V1__IMAGE_CREATE__INIT;
	int e = from_pb(ctx->arena, r->image, &i, err);
	if (e == 0)
		e = image_create(ctx, s->db, &i, pb_time_get(r->source_date_epoch), &i, err);
	if (e == 0)
		e = to_pb(ctx->arena, &i, &resp.image, err);
	if (e == 0)
		e = pb_labels_put(ctx->arena, &i.labels, &DESC(image_create__labels_entry),
				  &ev.labels, &ev.n_labels, err);
	if (e < 0)
		return e;
	ev.name = resp.image->name;
	e = event_publish(ctx, s->events, "/images/create", &ev.base, err);
	return e < 0 ? e : rpc_send(call, &resp.base, err);
}

static int update(struct rpc_call *call, const void *req, struct err *err)
{
	const IM(UpdateImageRequest) *r = req;
	struct ctx *ctx = rpc_ctx(call);
	struct services *s = rpc_data(call);
	struct image i;
	size_t n;
	char **paths = pb_mask(r->update_mask, &n);
	IM(UpdateImageResponse)
	resp = CONTAINERD__SERVICES__IMAGES__V1__UPDATE_IMAGE_RESPONSE__INIT;
	IM(ImageUpdate) ev = CONTAINERD__SERVICES__IMAGES__V1__IMAGE_UPDATE__INIT;
	int e = from_pb(ctx->arena, r->image, &i, err);
	if (e == 0)
		e = image_update(ctx, s->db, &i, paths, n, pb_time_get(r->source_date_epoch), &i,
				 err);
	if (e == 0)
		e = to_pb(ctx->arena, &i, &resp.image, err);
	if (e == 0)
		e = pb_labels_put(ctx->arena, &i.labels, &DESC(image_update__labels_entry),
				  &ev.labels, &ev.n_labels, err);
	if (e < 0)
		return e;
	ev.name = resp.image->name;
	e = event_publish(ctx, s->events, "/images/update", &ev.base, err);
	return e < 0 ? e : rpc_send(call, &resp.base, err);
}

static int delete (struct rpc_call *call, const void *req, struct err *err)
{
	const IM(DeleteImageRequest) *r = req;
	struct ctx *ctx = rpc_ctx(call);
	struct services *s = rpc_data(call);
	IM(ImageDelete) ev = CONTAINERD__SERVICES__IMAGES__V1__IMAGE_DELETE__INIT;
	if (r->sync && !s->gc)
		return gc_disabled(err);
	int e = image_delete(ctx, s->db, r->name, r->target ? r->target->digest : NULL, err);
	if (e < 0)
		return e;
	ev.name = r->name;
	e = event_publish(ctx, s->events, "/images/delete", &ev.base, err);
	if (e == 0 && r->sync)
		e = gc_scheduler_wait(ctx, s->gc, err);
	return e < 0 ? e : pb_send_empty(call, err);
}

static const struct rpc_method methods[] = {
	{"Get", RPC_UNARY, get},       {"List", RPC_UNARY, list},     {"Create", RPC_UNARY, create},
	{"Update", RPC_UNARY, update}, {"Delete", RPC_UNARY, delete},
};

SERVICE(images, &DESC(images), methods)
