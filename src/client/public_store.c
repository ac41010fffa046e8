/* SPDX-License-Identifier: Apache-2.0 */
/* The public interface: records of images, snapshots, content. */
#include "client/public.h"

#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "base/fd.h"
#include "base/str.h"

/* ---- Images ---- */

static int image_fill(struct arena *a, const PB_IMAGES(Image) * m, struct containerd_image *ret)
{
	ret->name = m->name;
	ret->media_type = m->target ? m->target->media_type : "";
	ret->digest = m->target ? m->target->digest : "";
	ret->target_size = m->target ? m->target->size : 0;
	ret->created_s = pb_time(m->created_at).tv_sec;
	ret->updated_s = pb_time(m->updated_at).tv_sec;
	return LABELS_TO_PUBLIC(a, m, ret);
}

int image_give(struct call *k, const char *name, const struct containerd_image **ret)
{
	struct containerd_image *i;
	PB_IMAGES(Image) * m;
	int r = client_image_get(k->client, &k->ctx, name, &m, &k->err);

	if (r < 0)
		return r;
	i = CALL_RESULT(k, struct containerd_image);
	if (!i || image_fill(k->ctx.arena, m, i) < 0)
		return err_nomem(&k->err);
	call_give(k, i, ret);
	return 0;
}

int containerd_image_list(struct containerd_client *client, const char *const *filters,
			  size_t n_filters, const struct containerd_images **ret,
			  struct containerd_error *error)
{
	PB_IMAGES(ListImagesRequest) req = PB_IMAGES_INIT(LIST_IMAGES_REQUEST);
	PB_IMAGES(ListImagesResponse) * resp;
	struct call k _cleanup_call_ = {};
	struct containerd_image *v;
	int r = call_begin(&k, client);
	void *list;

	req.filters = (char **)filters;
	req.n_filters = n_filters;
	if (r == 0)
		r = client_call(k.client, &k.ctx, PB_IMAGES_SERVICE, "List", &req.base, &resp,
				&k.err);
	if (r < 0)
		return call_end(&k, r, error);
	list = call_list(&k, resp->n_images, sizeof(*v), &v);
	for (size_t i = 0; list && i < resp->n_images; i++)
		if (image_fill(k.ctx.arena, resp->images[i], &v[i]) < 0)
			list = NULL;
	if (!list)
		return call_end(&k, err_nomem(&k.err), error);
	call_give(&k, list, ret);
	return 0;
}

int containerd_image_get(struct containerd_client *client, const char *name,
			 const struct containerd_image **ret, struct containerd_error *error)
{
	struct call k _cleanup_call_ = {};
	int r = call_begin(&k, client);

	if (r == 0)
		r = need_text(name, "image", &k.err);
	if (r == 0)
		r = image_give(&k, name, ret);
	return call_end(&k, r, error);
}

int containerd_image_remove(struct containerd_client *client, const char *name, int sync,
			    struct containerd_error *error)
{
	PB_IMAGES(DeleteImageRequest) req = PB_IMAGES_INIT(DELETE_IMAGE_REQUEST);
	struct call k _cleanup_call_ = {};
	int r = call_begin(&k, client);

	if (r == 0)
		r = need_text(name, "image", &k.err);
	req.name = (char *)name;
	req.sync = sync != 0;
	if (r == 0)
		r = client_call(k.client, &k.ctx, PB_IMAGES_SERVICE, "Delete", &req.base, NULL,
				&k.err);
	return call_end(&k, r, error);
}

int containerd_image_tag(struct containerd_client *client, const char *source, const char *target,
			 int force, struct containerd_error *error)
{
	struct call k _cleanup_call_ = {};
	int r = call_begin(&k, client);

	if (r == 0)
		r = need_text(source, "image", &k.err);
	if (r == 0)
		r = need_text(target, "new name", &k.err);
	if (r == 0)
		r = client_image_tag(k.client, &k.ctx, source, target, force != 0, &k.err);
	return call_end(&k, r, error);
}

/* ---- Snapshots ---- */

static int snapshot_fill(struct arena *a, const PB_SNAPSHOTS(Info) * m,
			 struct containerd_snapshot *ret)
{
	ret->key = m->name;
	ret->parent = m->parent;
	ret->kind = (int)m->kind;
	ret->created_s = pb_time(m->created_at).tv_sec;
	ret->updated_s = pb_time(m->updated_at).tv_sec;
	return LABELS_TO_PUBLIC(a, m, ret);
}

/* The messages' items, in the order in which they come. */
struct items {
	void **v;
	size_t n, cap;
};

static int items_add(struct arena *a, struct items *l, void *const *v, size_t n)
{
	if (n == 0)
		return 0;
	l->v = arena_grow(a, l->v, &l->cap, l->n + n, sizeof(*l->v));
	if (!l->v)
		return -ENOMEM;
	memcpy(l->v + l->n, v, n * sizeof(*v));
	l->n += n;
	return 0;
}

static int snapshots_receive(struct call *k, const char *snapshotter, struct items *ret)
{
	PB_SNAPSHOTS(ListSnapshotsRequest) req = PB_SNAPSHOTS_INIT(LIST_SNAPSHOTS_REQUEST);
	struct rpc_stream *s _cleanup_(rpc_stream_freep) = NULL;
	PB_SNAPSHOTS(ListSnapshotsResponse) * m;
	int r;

	req.snapshotter = (char *)snapshotter;
	r = client_stream(k->client, &k->ctx, PB_SNAPSHOTS_SERVICE, "List", &req.base, &s, &k->err);
	while (r == 0 &&
	       (r = rpc_stream_recv(
			s, k->ctx.arena,
			&containerd__services__snapshots__v1__list_snapshots_response__descriptor,
			&m, &k->err)) > 0)
		r = items_add(k->ctx.arena, ret, (void *const *)m->info, m->n_info) < 0
			    ? err_nomem(&k->err)
			    : 0;
	return r;
}

int containerd_snapshot_list(struct containerd_client *client, const char *snapshotter,
			     const struct containerd_snapshots **ret,
			     struct containerd_error *error)
{
	struct call k _cleanup_call_ = {};
	struct containerd_snapshot *v;
	struct items items = {};
	int r = call_begin(&k, client);
	void *list;

	if (r == 0)
		r = choose_snapshotter(&k, snapshotter, &snapshotter);
	if (r == 0)
		r = snapshots_receive(&k, snapshotter, &items);
	if (r < 0)
		return call_end(&k, r, error);
	list = call_list(&k, items.n, sizeof(*v), &v);
	for (size_t i = 0; list && i < items.n; i++)
		if (snapshot_fill(k.ctx.arena, items.v[i], &v[i]) < 0)
			list = NULL;
	if (!list)
		return call_end(&k, err_nomem(&k.err), error);
	call_give(&k, list, ret);
	return 0;
}

static int mounts_out(struct call *k, const struct client_mounts *m,
		      const struct containerd_mounts **ret)
{
	struct containerd_mounts *l = CALL_RESULT(k, struct containerd_mounts);
	struct containerd_mount *v =
		arena_new_array(k->ctx.arena, struct containerd_mount, m->n + 1);

	if (!l || !v)
		return err_nomem(&k->err);
	for (size_t i = 0; i < m->n; i++)
		v[i] = (struct containerd_mount){
			.type = m->v[i]->type,
			.source = m->v[i]->source,
			.target = m->v[i]->target,
			.options = (const char *const *)m->v[i]->options,
			.n_options = m->v[i]->n_options,
		};
	l->n = m->n;
	l->v = v;
	call_give(k, l, ret);
	return 0;
}

int containerd_snapshot_prepare(struct containerd_client *client, const char *snapshotter,
				const char *key, const char *parent, int read_only,
				const struct containerd_label *labels, size_t n_labels,
				const struct containerd_mounts **ret,
				struct containerd_error *error)
{
	struct call k _cleanup_call_ = {};
	struct client_mounts mounts = {};
	struct labels l = {};
	int r = call_begin(&k, client);

	if (r == 0)
		r = need_text(key, "snapshot", &k.err);
	if (r == 0)
		r = choose_snapshotter(&k, snapshotter, &snapshotter);
	if (r == 0)
		r = labels_from_public(k.ctx.arena, labels, n_labels, &l, &k.err);
	if (r == 0)
		r = client_snapshot_prepare(k.client, &k.ctx, snapshotter, key,
					    text_or_empty(parent), read_only != 0, &l, &mounts,
					    &k.err);
	if (r == 0)
		r = mounts_out(&k, &mounts, ret);
	return call_end(&k, r, error);
}

int containerd_snapshot_mounts(struct containerd_client *client, const char *snapshotter,
			       const char *key, const struct containerd_mounts **ret,
			       struct containerd_error *error)
{
	struct call k _cleanup_call_ = {};
	struct client_mounts mounts = {};
	int r = call_begin(&k, client);

	if (r == 0)
		r = need_text(key, "snapshot", &k.err);
	if (r == 0)
		r = choose_snapshotter(&k, snapshotter, &snapshotter);
	if (r == 0)
		r = client_snapshot_mounts(k.client, &k.ctx, snapshotter, key, &mounts, &k.err);
	if (r == 0)
		r = mounts_out(&k, &mounts, ret);
	return call_end(&k, r, error);
}

int containerd_snapshot_commit(struct containerd_client *client, const char *snapshotter,
			       const char *name, const char *key,
			       const struct containerd_label *labels, size_t n_labels,
			       struct containerd_error *error)
{
	struct call k _cleanup_call_ = {};
	struct labels l = {};
	int r = call_begin(&k, client);

	if (r == 0)
		r = need_text(name, "snapshot", &k.err);
	if (r == 0)
		r = need_text(key, "active snapshot", &k.err);
	if (r == 0)
		r = choose_snapshotter(&k, snapshotter, &snapshotter);
	if (r == 0)
		r = labels_from_public(k.ctx.arena, labels, n_labels, &l, &k.err);
	if (r == 0)
		r = client_snapshot_commit(k.client, &k.ctx, snapshotter, name, key, &l, &k.err);
	return call_end(&k, r, error);
}

int containerd_snapshot_remove(struct containerd_client *client, const char *snapshotter,
			       const char *key, struct containerd_error *error)
{
	struct call k _cleanup_call_ = {};
	int r = call_begin(&k, client);

	if (r == 0)
		r = need_text(key, "snapshot", &k.err);
	if (r == 0)
		r = choose_snapshotter(&k, snapshotter, &snapshotter);
	if (r == 0)
		r = client_snapshot_remove(k.client, &k.ctx, snapshotter, key, &k.err);
	return call_end(&k, r, error);
}

int containerd_snapshot_usage(struct containerd_client *client, const char *snapshotter,
			      const char *key, struct containerd_usage *ret,
			      struct containerd_error *error)
{
	struct call k _cleanup_call_ = {};
	int64_t bytes, inodes;
	int r = call_begin(&k, client);

	if (r == 0)
		r = need_text(key, "snapshot", &k.err);
	if (r == 0)
		r = choose_snapshotter(&k, snapshotter, &snapshotter);
	if (r == 0)
		r = client_snapshot_usage(k.client, &k.ctx, snapshotter, key, &bytes, &inodes,
					  &k.err);
	if (r == 0)
		*ret = (struct containerd_usage){bytes, inodes};
	return call_end(&k, r, error);
}

/* ---- Content ---- */

static int contents_receive(struct call *k, const char *const *filters, size_t n, struct items *ret)
{
	PB_CONTENT(ListContentRequest) req = PB_CONTENT_INIT(LIST_CONTENT_REQUEST);
	struct rpc_stream *s _cleanup_(rpc_stream_freep) = NULL;
	PB_CONTENT(ListContentResponse) * m;
	int r;

	req.filters = (char **)filters;
	req.n_filters = n;
	r = client_stream(k->client, &k->ctx, PB_CONTENT_SERVICE, "List", &req.base, &s, &k->err);
	while (r == 0 &&
	       (r = rpc_stream_recv(
			s, k->ctx.arena,
			&containerd__services__content__v1__list_content_response__descriptor, &m,
			&k->err)) > 0)
		r = items_add(k->ctx.arena, ret, (void *const *)m->info, m->n_info) < 0
			    ? err_nomem(&k->err)
			    : 0;
	return r;
}

static int content_fill(struct arena *a, const PB_CONTENT(Info) * m, struct containerd_content *ret)
{
	ret->digest = m->digest;
	ret->bytes = m->size;
	ret->created_s = pb_time(m->created_at).tv_sec;
	ret->updated_s = pb_time(m->updated_at).tv_sec;
	return LABELS_TO_PUBLIC(a, m, ret);
}

int containerd_content_list(struct containerd_client *client, const char *const *filters,
			    size_t n_filters, const struct containerd_contents **ret,
			    struct containerd_error *error)
{
	struct call k _cleanup_call_ = {};
	struct containerd_content *v;
	struct items items = {};
	int r = call_begin(&k, client);
	void *list;

	if (r == 0)
		r = contents_receive(&k, filters, n_filters, &items);
	if (r < 0)
		return call_end(&k, r, error);
	list = call_list(&k, items.n, sizeof(*v), &v);
	for (size_t i = 0; list && i < items.n; i++)
		if (content_fill(k.ctx.arena, items.v[i], &v[i]) < 0)
			list = NULL;
	if (!list)
		return call_end(&k, err_nomem(&k.err), error);
	call_give(&k, list, ret);
	return 0;
}

int containerd_content_read(struct containerd_client *client, const char *digest, size_t max,
			    const struct containerd_blob **ret, struct containerd_error *error)
{
	struct call k _cleanup_call_ = {};
	struct containerd_blob *b;
	size_t len = 0;
	char *data;
	int r = call_begin(&k, client);

	if (r == 0)
		r = client_content_read(k.client, &k.ctx, text_or_empty(digest), max, &data, &len,
					&k.err);
	if (r < 0)
		return call_end(&k, r, error);
	b = CALL_RESULT(&k, struct containerd_blob);
	if (!b)
		return call_end(&k, err_nomem(&k.err), error);
	b->data = data;
	b->len = len;
	call_give(&k, b, ret);
	return 0;
}

static int copy_stream(struct call *k, struct rpc_stream *s, const char *digest, int fd)
{
	struct hasher *h _cleanup_hasher_ = hasher_new(digest_alg(digest));
	PB_CONTENT(ReadContentResponse) * m;
	struct digest got;
	int r;

	if (!h)
		return err_nomem(&k->err);
	for (;;) {
		arena_reset(k->ctx.arena);
		r = rpc_stream_recv(
			s, k->ctx.arena,
			&containerd__services__content__v1__read_content_response__descriptor, &m,
			&k->err);
		if (r <= 0)
			break;
		hasher_update(h, m->data.data, m->data.len);
		r = fd_write_full(fd, m->data.data, m->data.len);
		if (r < 0)
			return err_errno(&k->err, r, "write content %s", digest);
	}
	if (r < 0)
		return r;
	hasher_digest(h, &got);
	return streq(got.text, digest) ? 0
				       : err_set(&k->err, ERR_DATA_LOSS,
						 "content %s has the digest %s", digest, got.text);
}

int containerd_content_copy(struct containerd_client *client, const char *digest, int fd,
			    struct containerd_error *error)
{
	struct rpc_stream *s _cleanup_(rpc_stream_freep) = NULL;
	struct call k _cleanup_call_ = {};
	int r = call_begin(&k, client);

	if (r == 0)
		r = client_content_request(k.client, &k.ctx, text_or_empty(digest), &s, &k.err);
	if (r == 0)
		r = copy_stream(&k, s, digest, fd);
	return call_end(&k, r, error);
}

int containerd_content_remove(struct containerd_client *client, const char *digest,
			      struct containerd_error *error)
{
	PB_CONTENT(DeleteContentRequest) req = PB_CONTENT_INIT(DELETE_CONTENT_REQUEST);
	struct call k _cleanup_call_ = {};
	int r = call_begin(&k, client);

	req.digest = (char *)text_or_empty(digest);
	if (r == 0)
		r = client_call(k.client, &k.ctx, PB_CONTENT_SERVICE, "Delete", &req.base, NULL,
				&k.err);
	return call_end(&k, r, error);
}

/* ---- Writing ---- */

/* The call lasts as long as the writer. */
struct containerd_writer {
	struct containerd_client *client;
	struct call call;
	struct client_writer *writer;
	char *ref;
	bool committed;
};

int containerd_writer_open(struct containerd_client *client, const char *ref,
			   struct containerd_writer **ret, struct containerd_error *error)
{
	struct containerd_writer *w = calloc(1, sizeof(*w));
	struct call none = {};
	int r;

	if (!w)
		return call_end(&none, err_nomem(&none.err), error);
	r = call_begin(&w->call, client);
	call_endless(&w->call);
	if (r == 0)
		r = need_text(ref, "name for what is written", &w->call.err);
	if (r == 0) {
		w->ref = strdup(ref);
		r = w->ref ? 0 : err_nomem(&w->call.err);
	}
	if (r == 0)
		r = client_writer_open(w->call.client, &w->call.ctx, ref, &w->writer, &w->call.err);
	if (r == 0) {
		*ret = w;
		return 0;
	}
	r = call_end(&w->call, r, error);
	containerd_writer_free(w);
	return r;
}

int containerd_writer_write(struct containerd_writer *w, const void *data, size_t len,
			    struct containerd_error *error)
{
	w->call.err = ERR_INIT;
	return call_end(&w->call, client_writer_write(w->writer, data, len, &w->call.err), error);
}

int containerd_writer_commit(struct containerd_writer *w, const struct containerd_label *labels,
			     size_t n_labels, const struct containerd_text **ret,
			     struct containerd_error *error)
{
	struct call k _cleanup_call_ = {};
	struct containerd_text *text;
	struct digest digest;
	struct labels l = {};
	int64_t size;
	int r;

	k.ctx.arena = arena_new(0);
	r = k.ctx.arena ? labels_from_public(k.ctx.arena, labels, n_labels, &l, &k.err)
			: err_nomem(&k.err);
	if (r == 0 && w->committed)
		r = err_set(&k.err, ERR_FAILED_PRECONDITION, "it is committed already");
	if (r == 0)
		r = client_writer_commit(w->writer, &l, &digest, &size, &k.err);
	if (r < 0)
		return call_end(&k, r, error);
	w->committed = true;
	text = CALL_RESULT(&k, struct containerd_text);
	if (text)
		text->text = arena_strdup(k.ctx.arena, digest.text);
	if (!text || !text->text)
		return call_end(&k, err_nomem(&k.err), error);
	call_give(&k, text, ret);
	return 0;
}

void containerd_writer_free(struct containerd_writer *w)
{
	struct err ignored = ERR_INIT;

	if (!w)
		return;
	client_writer_free(w->writer);
	/* What stays of it is collected in time. */
	if (w->writer && !w->committed &&
	    client_content_abort(w->call.client, &w->call.ctx, w->ref, &ignored) < 0)
		w->committed = false;
	call_done(&w->call);
	free(w->ref);
	free(w);
}
