/* SPDX-License-Identifier: Apache-2.0 */
#include "ctr/image_stored.h"

#include "client/image.h"

#define LAYER_LABEL "containerd.io/gc.ref.content.l."

static int discard(struct ctr *c, const struct client_image *i, const char *snapshotter,
		   struct err *err)
{
	struct labels have, gone = {};
	PB_SNAPSHOTS(Info) * info;
	struct err e = ERR_INIT;
	int r;

	if (!i->n_layers)
		return 0;
	r = client_snapshot_stat(c->client, &c->ctx, snapshotter, i->chain_id, &info, &e);
	if (r < 0)
		return r == -ERR_NOT_FOUND ? 0 : err_copy(err, &e);
	r = client_content_labels(c->client, &c->ctx, i->manifest_digest, &have, err);
	if (r < 0)
		return r;
	for (size_t n = 0; n < have.n; n++)
		if (str_has_prefix(have.v[n].key, LAYER_LABEL) &&
		    labels_set(c->ctx.arena, &gone, have.v[n].key, "") < 0)
			return err_nomem(err);
	return gone.n ? client_content_set_labels(c->client, &c->ctx, i->manifest_digest, &gone,
						  err)
		      : 0;
}

static int on_platform(struct ctr *c, const char *name, const char *platform,
		       const char *snapshotter, struct err *err)
{
	struct client_image image _cleanup_client_image_ = {};
	struct err e = ERR_INIT;
	int r = client_image_load(c->client, &c->ctx, name, platform, &image, &e);

	if (r == -ERR_NOT_FOUND)
		return 0;
	return r < 0 ? err_copy(err, &e) : discard(c, &image, snapshotter, err);
}

int image_stored_discard_layers(struct ctr *c, const struct labels *names, struct err *err)
{
	size_t n;
	const char **platforms = ctr_strings(c, "platform", &n), *snapshotter;
	bool given = n > 0 && *platforms[0];
	int r = ctr_snapshotter(c, &snapshotter, err);

	for (size_t i = 0; i < names->n; i++)
		for (size_t p = 0; r == 0 && p < (given ? n : 1); p++)
			r = on_platform(c, names->v[i].key, given ? platforms[p] : "", snapshotter,
					err);
	return r;
}
