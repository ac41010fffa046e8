/* SPDX-License-Identifier: Apache-2.0 */
/* ImageService, but for the pull. */
#include <stdlib.h>

#include "base/json.h"
#include "base/log.h"
#include "base/str.h"
#include "base/time.h"
#include "core/event.h"
#include "core/gc.h"
#include "core/image.h"
#include "core/snapshot.h"
#include "cri/image.h"

#define STREAM_CHUNK 100

/* "1000:100" -> 1000, "bob" -> no number. */
static bool uid_of(const char *user, int64_t *ret)
{
	char text[24];
	size_t n = strcspn(user, ":");

	if (n == 0 || n >= sizeof(text))
		return false;
	memcpy(text, user, n);
	text[n] = 0;
	return str_to_i64(text, 10, ret) == 0;
}

/* Names are tags, digests, and the id itself, which is neither. */
static int names(struct arena *a, const struct cri_image *i, CRI(Image) * m, struct err *err)
{
	size_t n = 0;

	while (i->references[n])
		n++;
	m->repo_tags = arena_new_array(a, char *, n + 1);
	m->repo_digests = arena_new_array(a, char *, n + 1);
	if (!m->repo_tags || !m->repo_digests)
		return err_nomem(err);
	for (size_t k = 0; k < n; k++) {
		char *ref = (char *)i->references[k];
		if (str_has_prefix(ref, "sha256:"))
			continue;
		if (strchr(ref, '@'))
			m->repo_digests[m->n_repo_digests++] = ref;
		else
			m->repo_tags[m->n_repo_tags++] = ref;
	}
	return 0;
}

static int message(struct arena *a, const struct cri_image *i, CRI(Image) * *ret, struct err *err)
{
	CRI(Image) *m = arena_new_obj(a, CRI(Image));
	CRI(Int64Value) *uid = arena_new_obj(a, CRI(Int64Value));
	int64_t number;

	if (!m || !uid)
		return err_nomem(err);
	*m = (CRI(Image))CRI_INIT(IMAGE);
	*uid = (CRI(Int64Value))CRI_INIT(INT64_VALUE);
	m->id = (char *)i->id;
	m->size = (uint64_t)i->size;
	m->pinned = i->pinned;
	if (uid_of(i->user, &number)) {
		uid->value = number;
		m->uid = uid;
	} else if (!str_empty(i->user)) {
		m->username = arena_strndup(a, i->user, strcspn(i->user, ":"));
		if (!m->username)
			return err_nomem(err);
	}
	*ret = m;
	return names(a, i, m, err);
}

static int list(struct rpc_call *call, const CRI(ImageFilter) * f, CRI(Image) * **ret,
		size_t *ret_n, struct err *err)
{
	struct ctx *ctx = rpc_ctx(call);
	struct cri_image *v = NULL, one;
	size_t n = 0;
	struct cri *c;
	int r = cri_of(call, &c, err);

	if (r < 0)
		return r;
	if (f && f->image && !str_empty(f->image->image)) {
		v = &one;
		n = cri_image_resolve(ctx, c->images, f->image->image, &one, NULL, NULL) == 0;
	} else
		r = cri_image_list(ctx, c->images, &v, &n, err);
	CRI(Image) **out = arena_new_array(ctx->arena, CRI(Image) *, n + 1);
	if (r == 0 && !out)
		r = err_nomem(err);
	for (size_t i = 0; r == 0 && i < n; i++)
		r = message(ctx->arena, &v[i], &out[i], err);
	*ret = out;
	*ret_n = n;
	return r;
}

int cri_list_images(struct rpc_call *call, const void *req, struct err *err)
{
	const CRI(ListImagesRequest) *q = req;
	CRI(ListImagesResponse) resp = CRI_INIT(LIST_IMAGES_RESPONSE);
	int r = list(call, q->filter, &resp.images, &resp.n_images, err);

	return r < 0 ? r : rpc_send(call, &resp.base, err);
}

int cri_stream_images(struct rpc_call *call, const void *req, struct err *err)
{
	const CRI(StreamImagesRequest) *q = req;
	CRI(Image) **v = NULL;
	size_t n = 0;
	int r = list(call, q->filter, &v, &n, err);

	for (size_t i = 0; r == 0 && i < n; i += STREAM_CHUNK) {
		CRI(StreamImagesResponse) resp = CRI_INIT(STREAM_IMAGES_RESPONSE);
		resp.images = v + i;
		resp.n_images = MIN(n - i, (size_t)STREAM_CHUNK);
		r = rpc_send(call, &resp.base, err);
	}
	return r;
}

int cri_image_status(struct rpc_call *call, const void *req, struct err *err)
{
	const CRI(ImageStatusRequest) *q = req;
	CRI(ImageStatusResponse) resp = CRI_INIT(IMAGE_STATUS_RESPONSE);
	json_t *doc _cleanup_json_ = NULL;
	struct ctx *ctx = rpc_ctx(call);
	struct err own = ERR_INIT;
	struct cri_image i;
	struct cri *c;
	int r = cri_of(call, &c, err);

	if (r < 0)
		return r;
	r = cri_image_resolve(ctx, c->images, q->image ? q->image->image : "", &i,
			      q->verbose ? &doc : NULL, &own);
	if (r == -ERR_NOT_FOUND)
		return rpc_send(call, &resp.base, err);
	if (r < 0)
		return err_copy(err, &own);
	r = message(ctx->arena, &i, &resp.image, err);
	if (r == 0 && q->verbose)
		r = cri_info_entry(ctx->arena,
				   json_pack("{s:s, s:O}", "chainID", i.chain_id, "imageSpec", doc),
				   &resp.info, &resp.n_info, err);
	return r < 0 ? r : rpc_send(call, &resp.base, err);
}

static int remove_name(struct ctx *ctx, struct cri *c, const char *name, struct err *err)
{
	Containerd__Services__Images__V1__ImageDelete ev =
		CONTAINERD__SERVICES__IMAGES__V1__IMAGE_DELETE__INIT;
	struct err own = ERR_INIT;
	int r = image_delete(ctx, c->o.db, name, NULL, &own);

	if (r < 0 && r != -ERR_NOT_FOUND)
		return err_copy(err, &own);
	if (r == 0) {
		ev.name = (char *)name;
		r = event_publish(ctx, c->o.events, "/images/delete", &ev.base, err);
		if (r < 0)
			return r;
	}
	return cri_image_refresh(ctx, c->images, name, err);
}

int cri_remove_image(struct rpc_call *call, const void *req, struct err *err)
{
	const CRI(RemoveImageRequest) *q = req;
	CRI(RemoveImageResponse) resp = CRI_INIT(REMOVE_IMAGE_RESPONSE);
	struct ctx *ctx = rpc_ctx(call);
	struct err own = ERR_INIT;
	struct cri_image i;
	struct cri *c;
	int r = cri_of(call, &c, err);

	if (r < 0)
		return r;
	r = cri_image_resolve(ctx, c->images, q->image ? q->image->image : "", &i, NULL, &own);
	if (r == -ERR_NOT_FOUND)
		return rpc_send(call, &resp.base, err);
	if (r < 0)
		return err_copy(err, &own);
	for (size_t k = 0; r == 0 && i.references[k]; k++)
		r = remove_name(ctx, c, i.references[k], err);
	/* The space is free when the kubelet looks at it. */
	if (r == 0 && c->o.gc)
		r = gc_scheduler_wait(ctx, c->o.gc, err);
	return r < 0 ? r : rpc_send(call, &resp.base, err);
}
