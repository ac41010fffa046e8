/* SPDX-License-Identifier: Apache-2.0 */
/* Calls about what is stored: images, content, snapshots, containers. */
#include "client/client.h"

#include <string.h>

#include "base/buf.h"
#include "base/digest.h"
#include "base/str.h"
#include "base/time.h"

int client_image_get(struct client *c, struct ctx *ctx, const char *name, PB_IMAGES(Image) * *ret,
		     struct err *err)
{
	PB_IMAGES(GetImageRequest) req = PB_IMAGES_INIT(GET_IMAGE_REQUEST);
	PB_IMAGES(GetImageResponse) * resp;
	int r;

	req.name = (char *)name;
	r = client_call(c, ctx, PB_IMAGES_SERVICE, "Get", &req.base, &resp, err);
	if (r < 0)
		return r;
	if (!resp->image || !resp->image->target)
		return err_set(err, ERR_INTERNAL, "image \"%s\" came without a target", name);
	*ret = resp->image;
	return 0;
}

int client_image_tag(struct client *c, struct ctx *ctx, const char *source, const char *name,
		     bool force, struct err *err)
{
	PB_IMAGES(CreateImageRequest) create = PB_IMAGES_INIT(CREATE_IMAGE_REQUEST);
	PB_IMAGES(UpdateImageRequest) update = PB_IMAGES_INIT(UPDATE_IMAGE_REQUEST);
	struct err e = ERR_INIT;
	PB_IMAGES(Image) * image;
	int r;

	r = client_image_get(c, ctx, source, &image, err);
	if (r < 0)
		return r;
	image->name = (char *)name;
	image->created_at = image->updated_at = NULL;
	create.image = update.image = image;
	r = client_call(c, ctx, PB_IMAGES_SERVICE, "Create", &create.base, NULL, &e);
	if (r == -ERR_ALREADY_EXISTS && force)
		return client_call(c, ctx, PB_IMAGES_SERVICE, "Update", &update.base, NULL, err);
	return r < 0 ? err_copy(err, &e) : 0;
}

/* Collects the data of a Read stream in @b. */
static int read_stream(struct rpc_stream *s, const char *digest, size_t max, struct buf *b,
		       struct err *err)
{
	struct arena *a _cleanup_arena_ = arena_new(0);
	int r;

	if (!a)
		return err_nomem(err);
	for (;;) {
		PB_CONTENT(ReadContentResponse) * m;

		arena_reset(a);
		r = rpc_stream_recv(
			s, a, &containerd__services__content__v1__read_content_response__descriptor,
			&m, err);
		if (r <= 0)
			return r;
		if (m->data.len > max - b->len)
			return err_set(err, ERR_RESOURCE_EXHAUSTED,
				       "content %s is larger than %zu bytes", digest, max);
		if (buf_add(b, m->data.data, m->data.len) < 0)
			return err_nomem(err);
	}
}

int client_content_request(struct client *c, struct ctx *ctx, const char *digest,
			   struct rpc_stream **ret, struct err *err)
{
	PB_CONTENT(ReadContentRequest) req = PB_CONTENT_INIT(READ_CONTENT_REQUEST);
	int r = digest_validate(digest, err);

	if (r < 0)
		return r;
	req.digest = (char *)digest;
	return client_stream(c, ctx, PB_CONTENT_SERVICE, "Read", &req.base, ret, err);
}

int client_content_receive(struct rpc_stream *s, struct ctx *ctx, const char *digest, size_t max,
			   char **ret, size_t *ret_len, struct err *err)
{
	struct rpc_stream *own _cleanup_(rpc_stream_freep) = s;
	struct buf b _cleanup_buf_ = BUF_INIT;
	struct digest got;
	char *copy;
	int r = read_stream(own, digest, max, &b, err);

	if (r < 0)
		return r;
	digest_of(digest_alg(digest), b.data ? b.data : "", b.len, &got);
	if (!streq(got.text, digest))
		return err_set(err, ERR_DATA_LOSS, "content %s has the digest %s", digest,
			       got.text);
	copy = arena_alloc(ctx->arena, b.len + 1);
	if (!copy)
		return err_nomem(err);
	if (b.len)
		memcpy(copy, b.data, b.len);
	copy[b.len] = '\0';
	*ret = copy;
	*ret_len = b.len;
	return 0;
}

int client_content_read(struct client *c, struct ctx *ctx, const char *digest, size_t max,
			char **ret, size_t *ret_len, struct err *err)
{
	struct rpc_stream *s;
	int r = client_content_request(c, ctx, digest, &s, err);

	return r < 0 ? r : client_content_receive(s, ctx, digest, max, ret, ret_len, err);
}

/* ---- Leases ---- */

int client_lease_request(struct client *c, struct ctx *ctx, int64_t seconds,
			 struct rpc_stream **ret, struct err *err)
{
	PB_LEASES(CreateRequest) req = PB_LEASES_INIT(CREATE_REQUEST);
	struct timespec end = time_now();
	struct labels l = {};
	char text[40];

	end.tv_sec += seconds;
	time_format_rfc3339(end, text);
	if (labels_set(ctx->arena, &l, "containerd.io/gc.expire", text) < 0 ||
	    PB_LABELS_OUT(
		    ctx->arena, &l,
		    &containerd__services__leases__v1__create_request__labels_entry__descriptor,
		    req.labels, req.n_labels) < 0)
		return err_nomem(err);
	return client_stream(c, ctx, PB_LEASES_SERVICE, "Create", &req.base, ret, err);
}

int client_lease_receive(struct ctx *ctx, struct rpc_stream *s, const char **ret_id,
			 struct err *err)
{
	PB_LEASES(CreateResponse) * resp;
	int r = client_reply(ctx, s, &containerd__services__leases__v1__create_response__descriptor,
			     &resp, err);

	if (r < 0)
		return r;
	if (!resp->lease)
		return err_set(err, ERR_INTERNAL, "lease came empty");
	*ret_id = resp->lease->id;
	return 0;
}

int client_lease_create(struct client *c, struct ctx *ctx, int64_t seconds, const char **ret_id,
			struct err *err)
{
	struct rpc_stream *s;
	int r = client_lease_request(c, ctx, seconds, &s, err);

	return r < 0 ? r : client_lease_receive(ctx, s, ret_id, err);
}

int client_lease_delete(struct client *c, struct ctx *ctx, const char *id, struct err *err)
{
	PB_LEASES(DeleteRequest) req = PB_LEASES_INIT(DELETE_REQUEST);

	req.id = (char *)id;
	return client_call(c, ctx, PB_LEASES_SERVICE, "Delete", &req.base, NULL, err);
}

/* ---- Snapshots ---- */

int client_default_snapshotter(struct client *c, struct ctx *ctx, const char **ret, struct err *err)
{
	PB_NAMESPACES(GetNamespaceRequest) req = PB_NAMESPACES_INIT(GET_NAMESPACE_REQUEST);
	PB_NAMESPACES(GetNamespaceResponse) * resp;
	struct err e = ERR_INIT;
	struct labels l = {};
	int r;

	req.name = (char *)ctx->ns;
	r = client_call(c, ctx, PB_NAMESPACES_SERVICE, "Get", &req.base, &resp, &e);
	if (r < 0 && r != -ERR_NOT_FOUND)
		return err_copy(err, &e);
	if (r == 0 && resp->namespace_ &&
	    PB_LABELS_IN(ctx->arena, resp->namespace_->labels, resp->namespace_->n_labels, &l) < 0)
		return err_nomem(err);
	*ret = str_or(labels_get(&l, "containerd.io/defaults/snapshotter"), "overlayfs");
	return 0;
}

int client_snapshot_prepare(struct client *c, struct ctx *ctx, const char *snapshotter,
			    const char *key, const char *parent, bool view,
			    const struct labels *labels, struct client_mounts *ret, struct err *err)
{
	/* Prepare and View have messages of the same layout. */
	PB_SNAPSHOTS(PrepareSnapshotRequest) prepare = PB_SNAPSHOTS_INIT(PREPARE_SNAPSHOT_REQUEST);
	PB_SNAPSHOTS(ViewSnapshotRequest) look = PB_SNAPSHOTS_INIT(VIEW_SNAPSHOT_REQUEST);
	PB_SNAPSHOTS(PrepareSnapshotResponse) * prepared;
	PB_SNAPSHOTS(ViewSnapshotResponse) * viewed;
	struct labels none = {};
	int r;

	if (!labels)
		labels = &none;
	if (PB_LABELS_OUT(
		    ctx->arena, labels,
		    &containerd__services__snapshots__v1__prepare_snapshot_request__labels_entry__descriptor,
		    prepare.labels, prepare.n_labels) < 0 ||
	    PB_LABELS_OUT(
		    ctx->arena, labels,
		    &containerd__services__snapshots__v1__view_snapshot_request__labels_entry__descriptor,
		    look.labels, look.n_labels) < 0)
		return err_nomem(err);
	look.snapshotter = prepare.snapshotter = (char *)snapshotter;
	look.key = prepare.key = (char *)key;
	look.parent = prepare.parent = (char *)parent;
	if (view) {
		r = client_call(c, ctx, PB_SNAPSHOTS_SERVICE, "View", &look.base, &viewed, err);
		if (r == 0)
			*ret = (struct client_mounts){viewed->mounts, viewed->n_mounts};
	} else {
		r = client_call(c, ctx, PB_SNAPSHOTS_SERVICE, "Prepare", &prepare.base, &prepared,
				err);
		if (r == 0)
			*ret = (struct client_mounts){prepared->mounts, prepared->n_mounts};
	}
	return r;
}

int client_snapshot_mounts(struct client *c, struct ctx *ctx, const char *snapshotter,
			   const char *key, struct client_mounts *ret, struct err *err)
{
	PB_SNAPSHOTS(MountsRequest) req = PB_SNAPSHOTS_INIT(MOUNTS_REQUEST);
	PB_SNAPSHOTS(MountsResponse) * resp;
	int r;

	req.snapshotter = (char *)snapshotter;
	req.key = (char *)key;
	r = client_call(c, ctx, PB_SNAPSHOTS_SERVICE, "Mounts", &req.base, &resp, err);
	if (r == 0)
		*ret = (struct client_mounts){resp->mounts, resp->n_mounts};
	return r;
}

int client_snapshot_commit(struct client *c, struct ctx *ctx, const char *snapshotter,
			   const char *name, const char *key, const struct labels *labels,
			   struct err *err)
{
	PB_SNAPSHOTS(CommitSnapshotRequest) req = PB_SNAPSHOTS_INIT(COMMIT_SNAPSHOT_REQUEST);

	if (labels &&
	    PB_LABELS_OUT(
		    ctx->arena, labels,
		    &containerd__services__snapshots__v1__commit_snapshot_request__labels_entry__descriptor,
		    req.labels, req.n_labels) < 0)
		return err_nomem(err);
	req.snapshotter = (char *)snapshotter;
	req.name = (char *)name;
	req.key = (char *)key;
	return client_call(c, ctx, PB_SNAPSHOTS_SERVICE, "Commit", &req.base, NULL, err);
}

int client_snapshot_remove(struct client *c, struct ctx *ctx, const char *snapshotter,
			   const char *key, struct err *err)
{
	PB_SNAPSHOTS(RemoveSnapshotRequest) req = PB_SNAPSHOTS_INIT(REMOVE_SNAPSHOT_REQUEST);

	req.snapshotter = (char *)snapshotter;
	req.key = (char *)key;
	return client_call(c, ctx, PB_SNAPSHOTS_SERVICE, "Remove", &req.base, NULL, err);
}

int client_snapshot_stat(struct client *c, struct ctx *ctx, const char *snapshotter,
			 const char *key, PB_SNAPSHOTS(Info) * *ret, struct err *err)
{
	PB_SNAPSHOTS(StatSnapshotRequest) req = PB_SNAPSHOTS_INIT(STAT_SNAPSHOT_REQUEST);
	PB_SNAPSHOTS(StatSnapshotResponse) * resp;
	int r;

	req.snapshotter = (char *)snapshotter;
	req.key = (char *)key;
	r = client_call(c, ctx, PB_SNAPSHOTS_SERVICE, "Stat", &req.base, &resp, err);
	if (r < 0)
		return r;
	if (!resp->info)
		return err_set(err, ERR_INTERNAL, "snapshot \"%s\" came without information", key);
	*ret = resp->info;
	return 0;
}

int client_snapshot_usage(struct client *c, struct ctx *ctx, const char *snapshotter,
			  const char *key, int64_t *ret_size, int64_t *ret_inodes, struct err *err)
{
	PB_SNAPSHOTS(UsageRequest) req = PB_SNAPSHOTS_INIT(USAGE_REQUEST);
	PB_SNAPSHOTS(UsageResponse) * resp;
	int r;

	req.snapshotter = (char *)snapshotter;
	req.key = (char *)key;
	r = client_call(c, ctx, PB_SNAPSHOTS_SERVICE, "Usage", &req.base, &resp, err);
	if (r < 0)
		return r;
	*ret_size = resp->size;
	if (ret_inodes)
		*ret_inodes = resp->inodes;
	return 0;
}

/* ---- Containers ---- */

int client_container_get(struct client *c, struct ctx *ctx, const char *id,
			 PB_CONTAINERS(Container) * *ret, struct err *err)
{
	PB_CONTAINERS(GetContainerRequest) req = PB_CONTAINERS_INIT(GET_CONTAINER_REQUEST);
	PB_CONTAINERS(GetContainerResponse) * resp;
	int r;

	req.id = (char *)id;
	r = client_call(c, ctx, PB_CONTAINERS_SERVICE, "Get", &req.base, &resp, err);
	if (r < 0)
		return r;
	if (!resp->container)
		return err_set(err, ERR_INTERNAL, "container \"%s\" came empty", id);
	*ret = resp->container;
	return 0;
}

int client_container_create(struct client *c, struct ctx *ctx, PB_CONTAINERS(Container) * container,
			    struct err *err)
{
	PB_CONTAINERS(CreateContainerRequest) req = PB_CONTAINERS_INIT(CREATE_CONTAINER_REQUEST);

	req.container = container;
	return client_call(c, ctx, PB_CONTAINERS_SERVICE, "Create", &req.base, NULL, err);
}

int client_container_delete(struct client *c, struct ctx *ctx, const char *id, struct err *err)
{
	PB_CONTAINERS(DeleteContainerRequest) req = PB_CONTAINERS_INIT(DELETE_CONTAINER_REQUEST);

	req.id = (char *)id;
	return client_call(c, ctx, PB_CONTAINERS_SERVICE, "Delete", &req.base, NULL, err);
}

int client_container_set_labels(struct client *c, struct ctx *ctx, const char *id,
				const struct labels *labels, PB_CONTAINERS(Container) * *ret,
				struct err *err)
{
	PB_CONTAINERS(UpdateContainerRequest) req = PB_CONTAINERS_INIT(UPDATE_CONTAINER_REQUEST);
	PB_CONTAINERS(Container) container = PB_CONTAINERS_INIT(CONTAINER);
	Google__Protobuf__FieldMask mask = GOOGLE__PROTOBUF__FIELD_MASK__INIT;
	PB_CONTAINERS(UpdateContainerResponse) * resp;
	char **paths = arena_new_array(ctx->arena, char *, labels->n + 1);
	int r;

	if (!paths ||
	    PB_LABELS_OUT(
		    ctx->arena, labels,
		    &containerd__services__containers__v1__container__labels_entry__descriptor,
		    container.labels, container.n_labels) < 0)
		return err_nomem(err);
	for (size_t i = 0; i < labels->n; i++) {
		paths[i] = arena_printf(ctx->arena, "labels.%s", labels->v[i].key);
		if (!paths[i])
			return err_nomem(err);
	}
	container.id = (char *)id;
	mask.paths = paths;
	mask.n_paths = labels->n;
	req.container = &container;
	req.update_mask = &mask;
	r = client_call(c, ctx, PB_CONTAINERS_SERVICE, "Update", &req.base, &resp, err);
	if (r < 0)
		return r;
	if (!resp->container)
		return err_set(err, ERR_INTERNAL, "container \"%s\" came empty", id);
	*ret = resp->container;
	return 0;
}
