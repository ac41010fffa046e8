/* SPDX-License-Identifier: Apache-2.0 */
/* A snapshotter in another process. Keys are the back end's, "<namespace>/<n>/<key>"; what they
 * mean to clients is core/snapshot's business. */
#include <stdlib.h>

#include "core/pb.h"
#include "plugins/proxy/backends.h"

#define SN(x) Containerd__Services__Snapshots__V1__##x
#define INIT(x) CONTAINERD__SERVICES__SNAPSHOTS__V1__##x##__INIT
#define DESC(x) containerd__services__snapshots__v1__##x##__descriptor
#define SERVICE (&DESC(snapshots))

struct proxy_snapshotter {
	struct snapshotter base;
	struct proxy *proxy;
};

static struct proxy *proxy_of(struct snapshotter *s)
{
	return ((struct proxy_snapshotter *)s)->proxy;
}

static int call(struct ctx *ctx, struct snapshotter *s, const char *method,
		const ProtobufCMessage *req, int64_t limit_ns, void *ret_resp, struct err *err)
{
	return proxy_call(proxy_of(s), ctx, SERVICE, method, req, limit_ns, ret_resp, err);
}

static int info_get(struct arena *a, const SN(Info) * m, struct snapshot_info *ret, struct err *err)
{
	struct snapshot_info i = {.kind = (enum snapshot_kind)m->kind,
				  .name = m->name,
				  .parent = m->parent,
				  .created_at = pb_time_get(m->created_at),
				  .updated_at = pb_time_get(m->updated_at)};
	int r = pb_labels_get(a, m->labels, m->n_labels, &i.labels, err);

	if (r == 0)
		*ret = i;
	return r;
}

/* @m is part of an answer, which a plugin may leave out. */
static int answer_get(struct ctx *ctx, struct snapshotter *s, const SN(Info) * m,
		      struct snapshot_info *ret, struct err *err)
{
	if (!m)
		return err_set(err, ERR_INTERNAL, "snapshotter %s answers without a snapshot",
			       s->name);
	return info_get(ctx->arena, m, ret, err);
}

static int proxy_stat(struct ctx *ctx, struct snapshotter *s, const char *key,
		      struct snapshot_info *ret, struct err *err)
{
	SN(StatSnapshotRequest) req = INIT(STAT_SNAPSHOT_REQUEST);
	SN(StatSnapshotResponse) * resp;
	int r;

	req.snapshotter = (char *)s->name;
	req.key = (char *)key;
	r = call(ctx, s, "Stat", &req.base, PROXY_QUICK_NS, &resp, err);
	return r < 0 ? r : answer_get(ctx, s, resp->info, ret, err);
}

static int proxy_update(struct ctx *ctx, struct snapshotter *s, const struct snapshot_info *info,
			char *const *paths, size_t n, struct snapshot_info *ret, struct err *err)
{
	static char *const all[] = {(char *)"labels"};
	SN(UpdateSnapshotRequest) req = INIT(UPDATE_SNAPSHOT_REQUEST);
	SN(Info) m = INIT(INFO);
	Google__Protobuf__FieldMask mask = GOOGLE__PROTOBUF__FIELD_MASK__INIT;
	SN(UpdateSnapshotResponse) * resp;
	int r = pb_labels_put(ctx->arena, &info->labels, &DESC(info__labels_entry), &m.labels,
			      &m.n_labels, err);

	if (r < 0)
		return r;
	m.name = (char *)info->name;
	mask.paths = (char **)(n ? paths : all);
	mask.n_paths = n ? n : 1;
	req.snapshotter = (char *)s->name;
	req.info = &m;
	req.update_mask = &mask;
	r = call(ctx, s, "Update", &req.base, PROXY_QUICK_NS, &resp, err);
	return r < 0 ? r : answer_get(ctx, s, resp->info, ret, err);
}

static int proxy_usage(struct ctx *ctx, struct snapshotter *s, const char *key,
		       struct snapshot_usage *ret, struct err *err)
{
	SN(UsageRequest) req = INIT(USAGE_REQUEST);
	SN(UsageResponse) * resp;
	int r;

	req.snapshotter = (char *)s->name;
	req.key = (char *)key;
	r = call(ctx, s, "Usage", &req.base, PROXY_SLOW_NS, &resp, err);
	if (r == 0)
		*ret = (struct snapshot_usage){.size = resp->size, .inodes = resp->inodes};
	return r;
}

static int proxy_mounts(struct ctx *ctx, struct snapshotter *s, const char *key, struct mounts *ret,
			struct err *err)
{
	SN(MountsRequest) req = INIT(MOUNTS_REQUEST);
	SN(MountsResponse) * resp;
	int r;

	req.snapshotter = (char *)s->name;
	req.key = (char *)key;
	r = call(ctx, s, "Mounts", &req.base, PROXY_SLOW_NS, &resp, err);
	return r < 0 ? r : pb_mounts_get(ctx->arena, resp->mounts, resp->n_mounts, ret, err);
}

static int proxy_prepare(struct ctx *ctx, struct snapshotter *s, enum snapshot_kind kind,
			 const char *key, const char *parent, const struct labels *labels,
			 struct mounts *ret, struct err *err)
{
	SN(PrepareSnapshotRequest) prep = INIT(PREPARE_SNAPSHOT_REQUEST);
	SN(ViewSnapshotRequest) view = INIT(VIEW_SNAPSHOT_REQUEST);
	SN(PrepareSnapshotResponse) * prepared;
	SN(ViewSnapshotResponse) * viewed;
	int r;

	prep.snapshotter = view.snapshotter = (char *)s->name;
	prep.key = view.key = (char *)key;
	prep.parent = view.parent = (char *)parent;
	if (kind == SNAPSHOT_VIEW) {
		r = pb_labels_put(ctx->arena, labels, &DESC(view_snapshot_request__labels_entry),
				  &view.labels, &view.n_labels, err);
		if (r == 0)
			r = call(ctx, s, "View", &view.base, PROXY_SLOW_NS, &viewed, err);
		return r < 0 ? r
			     : pb_mounts_get(ctx->arena, viewed->mounts, viewed->n_mounts, ret,
					     err);
	}
	r = pb_labels_put(ctx->arena, labels, &DESC(prepare_snapshot_request__labels_entry),
			  &prep.labels, &prep.n_labels, err);
	if (r == 0)
		r = call(ctx, s, "Prepare", &prep.base, PROXY_SLOW_NS, &prepared, err);
	return r < 0 ? r
		     : pb_mounts_get(ctx->arena, prepared->mounts, prepared->n_mounts, ret, err);
}

static int proxy_commit(struct ctx *ctx, struct snapshotter *s, const char *name, const char *key,
			const char *parent, const struct labels *labels, struct err *err)
{
	SN(CommitSnapshotRequest) req = INIT(COMMIT_SNAPSHOT_REQUEST);
	int r = pb_labels_put(ctx->arena, labels, &DESC(commit_snapshot_request__labels_entry),
			      &req.labels, &req.n_labels, err);

	if (r < 0)
		return r;
	req.snapshotter = (char *)s->name;
	req.name = (char *)name;
	req.key = (char *)key;
	req.parent = (char *)parent;
	return call(ctx, s, "Commit", &req.base, PROXY_SLOW_NS, NULL, err);
}

static int proxy_remove(struct ctx *ctx, struct snapshotter *s, const char *key, struct err *err)
{
	SN(RemoveSnapshotRequest) req = INIT(REMOVE_SNAPSHOT_REQUEST);

	req.snapshotter = (char *)s->name;
	req.key = (char *)key;
	return call(ctx, s, "Remove", &req.base, PROXY_SLOW_NS, NULL, err);
}

static int proxy_walk(struct ctx *ctx, struct snapshotter *s,
		      int (*fn)(void *arg, const struct snapshot_info *info), void *arg,
		      struct err *err)
{
	_cleanup_(proxy_stream_freep) struct proxy_stream *st = NULL;
	SN(ListSnapshotsRequest) req = INIT(LIST_SNAPSHOTS_REQUEST);
	SN(ListSnapshotsResponse) * resp;
	int r;

	req.snapshotter = (char *)s->name;
	r = proxy_stream_open(proxy_of(s), ctx, SERVICE, "List", &req.base, PROXY_QUICK_NS, &st,
			      err);
	while (r >= 0 && (r = proxy_stream_recv(st, ctx->arena, &resp, err)) > 0) {
		for (size_t i = 0; i < resp->n_info; i++) {
			struct snapshot_info info;

			r = info_get(ctx->arena, resp->info[i], &info, err);
			if (r == 0)
				r = fn(arg, &info);
			if (r != 0)
				return r;
		}
	}
	return r;
}

static int proxy_cleanup(struct ctx *ctx, struct snapshotter *s, struct err *err)
{
	SN(CleanupRequest) req = INIT(CLEANUP_REQUEST);

	req.snapshotter = (char *)s->name;
	return call(ctx, s, "Cleanup", &req.base, PROXY_SLOW_NS, NULL, err);
}

static void snapshotter_free(struct snapshotter *s)
{
	free(s);
}

static const struct snapshotter_ops ops = {
	.stat = proxy_stat,
	.update = proxy_update,
	.usage = proxy_usage,
	.mounts = proxy_mounts,
	.prepare = proxy_prepare,
	.commit = proxy_commit,
	.remove = proxy_remove,
	.walk = proxy_walk,
	.cleanup = proxy_cleanup,
	.free = snapshotter_free,
};

int proxy_snapshotter_new(struct proxy *p, bool can_rebase, struct snapshotter **ret,
			  struct err *err)
{
	struct proxy_snapshotter *s = calloc(1, sizeof(*s));

	if (!s)
		return err_nomem(err);
	s->base = (struct snapshotter){
		.ops = &ops, .name = proxy_name(p), .can_rebase = can_rebase, .remote = true};
	s->proxy = p;
	*ret = &s->base;
	return 0;
}
