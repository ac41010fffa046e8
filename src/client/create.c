/* SPDX-License-Identifier: Apache-2.0 */
#include "client/create.h"

#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "oci/spec.h"

#define LEASE_SECONDS (24 * 60 * 60)
#define STOP_SIGNAL_LABEL "io.containerd.image.config.stop-signal"

static int container_labels(struct ctx *ctx, const struct client_create_options *o,
			    const struct client_image *image, struct labels *ret, struct err *err)
{
	struct labels l = {};

	if (image && (json_labels(ctx->arena, json_obj(image->config, "Labels"), &l) < 0 ||
		      labels_set(ctx->arena, &l, STOP_SIGNAL_LABEL,
				 json_str(image->config, "StopSignal", "SIGTERM")) < 0))
		return err_nomem(err);
	for (size_t i = 0; i < o->labels.n; i++)
		if (labels_set(ctx->arena, &l, o->labels.v[i].key, o->labels.v[i].value) < 0)
			return err_nomem(err);
	*ret = l;
	return 0;
}

static int write_record(struct client *c, struct ctx *ctx, const struct client_create_options *o,
			const struct client_image *image, const json_t *spec, struct err *err)
{
	PB_CONTAINERS(Container) record = PB_CONTAINERS_INIT(CONTAINER);
	PB_CONTAINERS(Container__Runtime) runtime = PB_CONTAINERS_INIT(CONTAINER__RUNTIME);
	Google__Protobuf__Any any = GOOGLE__PROTOBUF__ANY__INIT;
	char *text _cleanup_free_ = json_dumps(spec, JSON_COMPACT);
	struct labels labels;
	int r;

	if (!text)
		return err_nomem(err);
	r = container_labels(ctx, o, image, &labels, err);
	if (r < 0)
		return r;
	if (PB_LABELS_OUT(
		    ctx->arena, &labels,
		    &containerd__services__containers__v1__container__labels_entry__descriptor,
		    record.labels, record.n_labels) < 0)
		return err_nomem(err);
	any.type_url = (char *)SPEC_TYPE_URL;
	any.value.data = (uint8_t *)text;
	any.value.len = strlen(text);
	runtime.name = (char *)o->runtime;
	runtime.options = (Google__Protobuf__Any *)o->runtime_options;
	record.id = (char *)o->id;
	record.image = (char *)(image ? image->name : "");
	record.runtime = &runtime;
	record.spec = &any;
	record.snapshotter = (char *)(image ? o->snapshotter : "");
	record.snapshot_key = (char *)(image ? o->id : "");
	record.sandbox = (char *)o->sandbox;
	return client_container_create(c, ctx, &record, err);
}

static int receive_lease(struct ctx *ctx, struct rpc_stream **lease, struct err *err)
{
	return client_lease_receive(ctx, TAKE_PTR(*lease), &ctx->lease, err);
}

static int prepare_image(struct client *c, struct ctx *ctx, const struct client_create_options *o,
			 struct rpc_stream **lease, struct client_image *ret_image,
			 struct client_mounts *ret_mounts, struct err *err)
{
	int r;

	r = client_image_load(c, ctx, o->image, o->platform, ret_image, err);
	if (r == 0)
		r = receive_lease(ctx, lease, err);
	if (r < 0)
		return r;
	return client_image_prepare(c, ctx, ret_image, o->snapshotter, o->id, false,
				    &o->snapshot_labels, o->sync_fs, ret_mounts, err);
}

static int create_leased(struct client *c, struct ctx *ctx, const struct client_create_options *o,
			 struct rpc_stream **lease, struct client_mounts *ret_mounts,
			 struct err *err)
{
	struct client_image image _cleanup_client_image_ = {}, *has = *o->image ? &image : NULL;
	json_t *spec _cleanup_json_ = NULL;
	struct client_mounts mounts = {};
	struct err e = ERR_INIT;
	int r = 0;

	if (has)
		r = prepare_image(c, ctx, o, lease, &image, &mounts, err);
	if (r < 0)
		return r;
	r = o->spec(o->spec_arg, has, &mounts, &spec, err);
	if (r == 0)
		r = write_record(c, ctx, o, has, spec, err);
	/* One that stays goes with the lease. */
	if (r < 0 && has && client_snapshot_remove(c, ctx, o->snapshotter, o->id, &e) < 0)
		e = ERR_INIT;
	if (r == 0)
		*ret_mounts = mounts;
	return r;
}

int client_create_begin(struct client *c, struct ctx *ctx, struct rpc_stream **ret_lease,
			struct err *err)
{
	return client_lease_request(c, ctx, LEASE_SECONDS, ret_lease, err);
}

/* The lease is asked for while the image is looked up, and given back while the task is made. */
int client_create(struct client *c, struct ctx *ctx, const struct client_create_options *o,
		  struct rpc_stream **lease, struct client_mounts *ret_mounts, struct err *err)
{
	PB_LEASES(DeleteRequest) end = PB_LEASES_INIT(DELETE_REQUEST);
	const char *own = ctx->lease;
	struct err e = ERR_INIT;
	int r = create_leased(c, ctx, o, lease, ret_mounts, err);

	if (*lease && receive_lease(ctx, lease, r < 0 ? &e : err) < 0) {
		ctx->lease = own;
		return r < 0 ? r : -err->kind;
	}
	end.id = (char *)ctx->lease;
	ctx->lease = own;
	/* A lease that stays ends by itself. */
	if (end.id != own &&
	    client_stream(c, ctx, PB_LEASES_SERVICE, "Delete", &end.base, lease, &e) < 0)
		*lease = NULL;
	return r;
}

int client_create_end(struct client *c, struct ctx *ctx, struct rpc_stream **lease, struct err *err)
{
	struct err e = ERR_INIT;
	int r;

	if (!*lease)
		return 0;
	r = client_reply(ctx, TAKE_PTR(*lease), &google__protobuf__empty__descriptor, NULL, &e);
	return r == 0 || r == -ERR_NOT_FOUND || r == -ERR_UNAVAILABLE ? 0 : err_copy(err, &e);
}

/* Both at once: the daemon writes them to its database in one go. A snapshot that fails to go is
 * left to the garbage collector. */
int client_create_undo(struct client *c, struct ctx *ctx, const char *id, const char *snapshotter,
		       struct err *err)
{
	PB_SNAPSHOTS(RemoveSnapshotRequest) req = PB_SNAPSHOTS_INIT(REMOVE_SNAPSHOT_REQUEST);
	struct rpc_stream *removal = NULL;
	struct err e = ERR_INIT;
	int r;

	req.snapshotter = (char *)snapshotter;
	req.key = (char *)id;
	if (*snapshotter) {
		r = client_stream(c, ctx, PB_SNAPSHOTS_SERVICE, "Remove", &req.base, &removal, err);
		if (r < 0)
			return r;
	}
	r = client_container_delete(c, ctx, id, err);
	if (removal &&
	    client_reply(ctx, removal, &google__protobuf__empty__descriptor, NULL, &e) < 0 &&
	    e.kind != ERR_NOT_FOUND && r == 0)
		r = err_copy(err, &e);
	return r;
}

int client_container_remove(struct client *c, struct ctx *ctx, const char *id, bool keep_snapshot,
			    struct err *err)
{
	PB_CONTAINERS(Container) * record;
	struct err e = ERR_INIT;
	int r;

	r = client_container_get(c, ctx, id, &record, err);
	if (r < 0)
		return r;
	if (!keep_snapshot && *record->snapshot_key) {
		r = client_snapshot_remove(c, ctx, record->snapshotter, record->snapshot_key, &e);
		if (r < 0 && r != -ERR_NOT_FOUND)
			return err_copy(err, &e);
	}
	return client_container_delete(c, ctx, id, err);
}
