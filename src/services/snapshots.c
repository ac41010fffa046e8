/* SPDX-License-Identifier: Apache-2.0 */
/* containerd.services.snapshots.v1.Snapshots. Kinds have the same numbers on the wire and in core.
 */
#include "core/snapshot.h"
#include "services/pb.h"
#include "services/services.h"

#define SN(x) Containerd__Services__Snapshots__V1__##x
#define DESC(x) containerd__services__snapshots__v1__##x##__descriptor

#define LIST_BATCH 100

static int info_to_pb(struct arena *a, const struct snapshot_info *i, SN(Info) * *ret,
		      struct err *err)
{
	SN(Info) *m = pb_new(a, &DESC(info));
	if (!m)
		return err_nomem(err);
	m->name = pb_str(a, i->name);
	m->parent = pb_str(a, i->parent);
	m->kind = (SN(Kind))i->kind;
	m->created_at = pb_time_put(a, i->created_at);
	m->updated_at = pb_time_put(a, i->updated_at);
	int r = pb_labels_put(a, &i->labels, &DESC(info__labels_entry), &m->labels, &m->n_labels,
			      err);
	if (r == 0)
		*ret = m;
	return r;
}

static int prepare(struct rpc_call *call, const void *req, struct err *err)
{
	const SN(PrepareSnapshotRequest) *r = req;
	struct ctx *ctx = rpc_ctx(call);
	struct services *s = rpc_data(call);
	struct labels labels;
	struct mounts m;
	SN(PrepareSnapshotResponse)
	resp = CONTAINERD__SERVICES__SNAPSHOTS__V1__PREPARE_SNAPSHOT_RESPONSE__INIT;
	int e = pb_labels_get(ctx->arena, r->labels, r->n_labels, &labels, err);
	if (e == 0)
		e = snapshot_prepare(ctx, s->db, r->snapshotter, SNAPSHOT_ACTIVE, r->key, r->parent,
				     &labels, &m, err);
	if (e == 0)
		e = pb_mounts_put(ctx->arena, &m, &resp.mounts, &resp.n_mounts, err);
	return e < 0 ? e : rpc_send(call, &resp.base, err);
}

static int view(struct rpc_call *call, const void *req, struct err *err)
{
	const SN(ViewSnapshotRequest) *r = req;
	struct ctx *ctx = rpc_ctx(call);
	struct services *s = rpc_data(call);
	struct labels labels;
	struct mounts m;
	SN(ViewSnapshotResponse)
	resp = CONTAINERD__SERVICES__SNAPSHOTS__V1__VIEW_SNAPSHOT_RESPONSE__INIT;
	int e = pb_labels_get(ctx->arena, r->labels, r->n_labels, &labels, err);
	if (e == 0)
		e = snapshot_prepare(ctx, s->db, r->snapshotter, SNAPSHOT_VIEW, r->key, r->parent,
				     &labels, &m, err);
	if (e == 0)
		e = pb_mounts_put(ctx->arena, &m, &resp.mounts, &resp.n_mounts, err);
	return e < 0 ? e : rpc_send(call, &resp.base, err);
}

static int mounts(struct rpc_call *call, const void *req, struct err *err)
{
	const SN(MountsRequest) *r = req;
	struct ctx *ctx = rpc_ctx(call);
	struct services *s = rpc_data(call);
	struct mounts m;
	SN(MountsResponse) resp = CONTAINERD__SERVICES__SNAPSHOTS__V1__MOUNTS_RESPONSE__INIT;
	int e = snapshot_mounts(ctx, s->db, r->snapshotter, r->key, &m, err);
	if (e == 0)
		e = pb_mounts_put(ctx->arena, &m, &resp.mounts, &resp.n_mounts, err);
	return e < 0 ? e : rpc_send(call, &resp.base, err);
}

static int commit(struct rpc_call *call, const void *req, struct err *err)
{
	const SN(CommitSnapshotRequest) *r = req;
	struct ctx *ctx = rpc_ctx(call);
	struct services *s = rpc_data(call);
	struct labels labels;
	int e = pb_labels_get(ctx->arena, r->labels, r->n_labels, &labels, err);
	if (e == 0)
		e = snapshot_commit(ctx, s->db, r->snapshotter, r->name, r->key, r->parent, &labels,
				    err);
	return e < 0 ? e : pb_send_empty(call, err);
}

static int remove_(struct rpc_call *call, const void *req, struct err *err)
{
	const SN(RemoveSnapshotRequest) *r = req;
	struct services *s = rpc_data(call);
	int e = snapshot_remove(rpc_ctx(call), s->db, r->snapshotter, r->key, err);
	return e < 0 ? e : pb_send_empty(call, err);
}

static int stat_(struct rpc_call *call, const void *req, struct err *err)
{
	const SN(StatSnapshotRequest) *r = req;
	struct ctx *ctx = rpc_ctx(call);
	struct services *s = rpc_data(call);
	struct snapshot_info i;
	SN(StatSnapshotResponse)
	resp = CONTAINERD__SERVICES__SNAPSHOTS__V1__STAT_SNAPSHOT_RESPONSE__INIT;
	int e = snapshot_stat(ctx, s->db, r->snapshotter, r->key, &i, err);
	if (e == 0)
		e = info_to_pb(ctx->arena, &i, &resp.info, err);
	return e < 0 ? e : rpc_send(call, &resp.base, err);
}

static int update(struct rpc_call *call, const void *req, struct err *err)
{
	const SN(UpdateSnapshotRequest) *r = req;
	struct ctx *ctx = rpc_ctx(call);
	struct services *s = rpc_data(call);
	struct snapshot_info i = {0};
	size_t n;
	char **paths = pb_mask(r->update_mask, &n);
	SN(UpdateSnapshotResponse)
	resp = CONTAINERD__SERVICES__SNAPSHOTS__V1__UPDATE_SNAPSHOT_RESPONSE__INIT;
	if (!r->info)
		return err_set(err, ERR_INVALID_ARGUMENT, "info is required");
	i.name = r->info->name;
	int e = pb_labels_get(ctx->arena, r->info->labels, r->info->n_labels, &i.labels, err);
	if (e == 0)
		e = snapshot_update(ctx, s->db, r->snapshotter, &i, paths, n, &i, err);
	if (e == 0)
		e = info_to_pb(ctx->arena, &i, &resp.info, err);
	return e < 0 ? e : rpc_send(call, &resp.base, err);
}

static int list(struct rpc_call *call, const void *req, struct err *err)
{
	const SN(ListSnapshotsRequest) *r = req;
	struct ctx *ctx = rpc_ctx(call);
	struct services *s = rpc_data(call);
	_cleanup_filter_ struct filter *f = NULL;
	/* There may be more than a call has memory for. */
	_cleanup_arena_ struct arena *all = arena_new(0), *a = arena_new(0);
	struct ctx part = ctx_part(ctx, all);
	struct snapshot_info *v;
	struct snapshotter *sn;
	size_t n;
	int e = all && a ? db_snapshotter(s->db, r->snapshotter, &sn, err) : err_nomem(err);
	if (e == 0) {
		e = filter_parse(ctx->arena, (const char *const *)r->filters, r->n_filters, &f,
				 err);
		if (e < 0) /* containerd does not translate this one */
			return err_set_raw(err, ERR_UNKNOWN, "%s", err->text);
	}
	if (e == 0)
		e = snapshot_list(&part, s->db, r->snapshotter, f, &v, &n, err);
	for (size_t i = 0; e == 0 && i < n; i += LIST_BATCH) {
		SN(Info) * batch[LIST_BATCH];
		SN(ListSnapshotsResponse)
		resp = CONTAINERD__SERVICES__SNAPSHOTS__V1__LIST_SNAPSHOTS_RESPONSE__INIT;
		resp.info = batch;
		for (; e == 0 && resp.n_info < LIST_BATCH && i + resp.n_info < n; resp.n_info++)
			e = info_to_pb(a, &v[i + resp.n_info], &batch[resp.n_info], err);
		if (e == 0)
			e = rpc_send(call, &resp.base, err);
		arena_reset(a);
	}
	return e;
}

static int usage(struct rpc_call *call, const void *req, struct err *err)
{
	const SN(UsageRequest) *r = req;
	struct services *s = rpc_data(call);
	struct snapshot_usage u;
	SN(UsageResponse) resp = CONTAINERD__SERVICES__SNAPSHOTS__V1__USAGE_RESPONSE__INIT;
	int e = snapshot_usage(rpc_ctx(call), s->db, r->snapshotter, r->key, &u, err);
	if (e < 0)
		return e;
	resp.size = u.size;
	resp.inodes = u.inodes;
	return rpc_send(call, &resp.base, err);
}

static int cleanup(struct rpc_call *call, const void *req, struct err *err)
{
	const SN(CleanupRequest) *r = req;
	struct services *s = rpc_data(call);
	int e = snapshot_cleanup(rpc_ctx(call), s->db, r->snapshotter, err);
	return e < 0 ? e : pb_send_empty(call, err);
}

static const struct rpc_method methods[] = {
	{"Prepare", RPC_UNARY, prepare}, {"View", RPC_UNARY, view},
	{"Mounts", RPC_UNARY, mounts},	 {"Commit", RPC_UNARY, commit},
	{"Remove", RPC_UNARY, remove_},	 {"Stat", RPC_UNARY, stat_},
	{"Update", RPC_UNARY, update},	 {"List", RPC_SERVER_STREAM, list},
	{"Usage", RPC_UNARY, usage},	 {"Cleanup", RPC_UNARY, cleanup},
};

SERVICE(snapshots, &DESC(snapshots), methods)
