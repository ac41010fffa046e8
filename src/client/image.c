/* SPDX-License-Identifier: Apache-2.0 */
/* Documents are read whole and checked against their digests by the client library; sizes and depth
 * are limited here. */
#include "client/image.h"

#include <limits.h>

#include "base/digest.h"
#include "base/str.h"
#include "base/time.h"
#include "oci/manifest.h"
#include "oci/platform.h"

#define CONFIG_MAX ((size_t)8 << 20)
#define INDEX_DEPTH_MAX 4
#define LAYERS_MAX 1024

/* Of an index: the child that suits @want best; one without a platform comes last. */
int client_image_choose(const struct manifest *m, const struct platform *want,
			struct descriptor *ret, struct err *err)
{
	const struct manifest_child *best = NULL;
	int best_rank = -1;

	for (size_t i = 0; i < m->n_manifests; i++) {
		const struct manifest_child *child = &m->manifests[i];
		int rank = child->has_platform ? platform_rank(want, &child->platform) : INT_MAX;

		if (rank < 0 || (!media_is_manifest(child->desc.media_type) &&
				 !media_is_index(child->desc.media_type)))
			continue;
		if (!best || rank < best_rank) {
			best = child;
			best_rank = rank;
		}
	}
	if (!best)
		return err_set(err, ERR_NOT_FOUND, "no manifest for platform %s/%s%s%s", want->os,
			       want->arch, *want->variant ? "/" : "", want->variant);
	*ret = best->desc;
	return 0;
}

static int find_manifest(struct client *c, struct ctx *ctx, struct descriptor target,
			 const struct platform *want, struct manifest *ret, const char **ret_digest,
			 struct err *err)
{
	for (int depth = 0; depth < INDEX_DEPTH_MAX; depth++) {
		const char *what = media_is_index(target.media_type) ? "index" : "manifest";
		size_t len;
		char *text;
		int r;

		r = client_content_read(c, ctx, target.digest, MANIFEST_MAX, &text, &len, err);
		if (r < 0)
			return err_prefix(err, "read the %s", what);
		r = manifest_parse(ctx->arena, target.media_type, text, len, ret, err);
		if (r < 0)
			return err_prefix(err, "%s %s", what, target.digest);
		if (!ret->is_index) {
			*ret_digest = target.digest;
			return 0;
		}
		r = client_image_choose(ret, want, &target, err);
		if (r < 0)
			return r;
	}
	return err_set(err, ERR_INVALID_ARGUMENT, "index is nested too deeply");
}

static int load_config(struct client *c, struct ctx *ctx, const struct manifest *m,
		       struct client_image *i, struct err *err)
{
	struct image_config config;
	size_t len;
	char *text;
	int r;

	r = client_content_read(c, ctx, m->config.digest, CONFIG_MAX, &text, &len, err);
	if (r < 0)
		return err_prefix(err, "read the configuration");
	r = image_config_parse(ctx->arena, text, len, &config, err);
	if (r == 0)
		r = json_parse(text, len, &i->document, err);
	if (r < 0)
		return err_prefix(err, "configuration %s", m->config.digest);
	if (m->n_layers != config.n_diff_ids || m->n_layers > LAYERS_MAX)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "manifest has %zu layers, the configuration %zu diff IDs",
			       m->n_layers, config.n_diff_ids);
	i->config_digest = m->config.digest;
	i->config = json_obj(i->document, "config");
	i->layers = m->layers;
	i->diff_ids = config.diff_ids;
	i->n_layers = m->n_layers;
	i->chain_id = i->n_layers ? chain_id(ctx->arena, i->diff_ids, i->n_layers) : "";
	return i->chain_id ? 0 : err_nomem(err);
}

int client_image_load(struct client *c, struct ctx *ctx, const char *name, const char *platform,
		      struct client_image *ret, struct err *err)
{
	struct client_image i _cleanup_client_image_ = {.name = name};
	struct descriptor target;
	PB_IMAGES(Image) * record;
	struct manifest manifest;
	struct platform want;
	int r;

	if (*platform)
		r = platform_parse(ctx->arena, platform, &want, err);
	else
		r = platform_host(ctx->arena, &want) < 0 ? err_nomem(err) : 0;
	if (r == 0)
		r = client_image_get(c, ctx, name, &record, err);
	if (r < 0)
		return r;
	if (PB_LABELS_IN(ctx->arena, record->labels, record->n_labels, &i.labels) < 0)
		return err_nomem(err);
	target = (struct descriptor){.media_type = record->target->media_type,
				     .digest = record->target->digest};
	r = find_manifest(c, ctx, target, &want, &manifest, &i.manifest_digest, err);
	if (r == 0)
		r = load_config(c, ctx, &manifest, &i, err);
	if (r < 0)
		return err_prefix(err, "image \"%s\"", name);
	*ret = i;
	i.document = NULL;
	return 0;
}

void client_image_done(struct client_image *i)
{
	json_decref(i->document);
	i->document = NULL;
}

/* ---- Unpack ---- */

static int apply_layer(struct client *c, struct ctx *ctx, const struct client_image *i, size_t n,
		       const struct client_mounts *mounts, bool sync_fs, struct err *err)
{
	PB_DIFF(ApplyRequest) req = PB_DIFF_INIT(APPLY_REQUEST);
	PB_TYPES(Descriptor) layer = PB_TYPES_INIT(DESCRIPTOR);
	PB_DIFF(ApplyResponse) * resp;
	int r;

	layer.media_type = (char *)i->layers[n].media_type;
	layer.digest = (char *)i->layers[n].digest;
	layer.size = i->layers[n].size;
	req.diff = &layer;
	req.mounts = mounts->v;
	req.n_mounts = mounts->n;
	req.sync_fs = sync_fs;
	r = client_call(c, ctx, PB_DIFF_SERVICE, "Apply", &req.base, &resp, err);
	if (r < 0)
		return r;
	if (!resp->applied || !streq(resp->applied->digest, i->diff_ids[n]))
		return err_set(
			err, ERR_DATA_LOSS,
			"wrong diff id \"%s\" calculated on extraction, the image says \"%s\"",
			resp->applied ? resp->applied->digest : "", i->diff_ids[n]);
	return 0;
}

static int layer_labels(struct arena *a, const char *chain, const char *parent, const char *diff,
			struct labels *ret, struct err *err)
{
	if (labels_set(a, ret, "containerd.io/snapshot.ref", chain) < 0 ||
	    labels_set(a, ret, "containerd.io/snapshot/diff-id", diff) < 0 ||
	    (*parent && labels_set(a, ret, "containerd.io/snapshot/parent", parent) < 0))
		return err_nomem(err);
	return 0;
}

static int unpack_layer(struct client *c, struct ctx *ctx, const struct client_image *i, size_t n,
			const char *snapshotter, const char *parent, const char *chain,
			bool sync_fs, struct err *err)
{
	struct timespec now = time_now();
	struct client_mounts mounts;
	struct labels labels = {};
	struct err e = ERR_INIT;
	unsigned char tail[3];
	const char *key;
	int r;

	random_bytes(tail, sizeof(tail));
	key = arena_printf(ctx->arena, "extract-%09ld-%02x%02x%02x %s", now.tv_nsec, tail[0],
			   tail[1], tail[2], chain);
	if (!key)
		return err_nomem(err);
	r = layer_labels(ctx->arena, chain, parent, i->diff_ids[n], &labels, err);
	if (r < 0)
		return r;
	r = client_snapshot_prepare(c, ctx, snapshotter, key, parent, false, &labels, &mounts, err);
	if (r == -ERR_ALREADY_EXISTS)
		return 0; /* by label: the finished snapshot is there */
	if (r < 0)
		return r;
	r = apply_layer(c, ctx, i, n, &mounts, sync_fs, err);
	if (r == 0)
		r = client_snapshot_commit(c, ctx, snapshotter, chain, key, &labels, err);
	/* One that stays goes with the lease. */
	if (r < 0 && client_snapshot_remove(c, ctx, snapshotter, key, &e) < 0)
		e = ERR_INIT;
	/* Somebody else was faster. */
	return r == -ERR_ALREADY_EXISTS ? 0 : r;
}

int client_image_unpack(struct client *c, struct ctx *ctx, const struct client_image *i,
			const char *snapshotter, bool sync_fs, struct err *err)
{
	const char *parent = "";
	PB_SNAPSHOTS(Info) * info;
	struct labels labels = {};
	const char *label;
	int r;

	if (i->n_layers == 0)
		return 0;
	r = client_snapshot_stat(c, ctx, snapshotter, i->chain_id, &info, err);
	if (r != -ERR_NOT_FOUND)
		return r;
	for (size_t n = 0; n < i->n_layers; n++) {
		const char *chain = chain_id(ctx->arena, i->diff_ids, n + 1);

		if (!chain)
			return err_nomem(err);
		r = client_snapshot_stat(c, ctx, snapshotter, chain, &info, err);
		if (r == -ERR_NOT_FOUND)
			r = unpack_layer(c, ctx, i, n, snapshotter, parent, chain, sync_fs, err);
		if (r < 0)
			return err_prefix(err, "unpack layer %s of image \"%s\"",
					  i->layers[n].digest, i->name);
		parent = chain;
	}
	label = arena_printf(ctx->arena, "containerd.io/gc.ref.snapshot.%s", snapshotter);
	if (!label)
		return err_nomem(err);
	/* From now on the image keeps the snapshots. */
	if (labels_set(ctx->arena, &labels, label, i->chain_id) < 0)
		return err_nomem(err);
	return client_content_set_labels(c, ctx, i->config_digest, &labels, err);
}

int client_image_prepare(struct client *c, struct ctx *ctx, const struct client_image *i,
			 const char *snapshotter, const char *key, bool view,
			 const struct labels *labels, bool sync_fs, struct client_mounts *ret,
			 struct err *err)
{
	struct err e = ERR_INIT;
	int r = client_snapshot_prepare(c, ctx, snapshotter, key, i->chain_id, view, labels, ret,
					&e);

	if (r != -ERR_NOT_FOUND)
		return r < 0 ? err_copy(err, &e) : 0;
	r = client_image_unpack(c, ctx, i, snapshotter, sync_fs, err);
	return r < 0 ? r
		     : client_snapshot_prepare(c, ctx, snapshotter, key, i->chain_id, view, labels,
					       ret, err);
}
