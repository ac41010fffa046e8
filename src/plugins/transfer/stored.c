/* SPDX-License-Identifier: Apache-2.0 */
/* Unpacking of an image whose blobs are here already. */
#include "base/digest.h"
#include "plugins/transfer/internal.h"

static int config_of(struct ctx *ctx, struct transfer *t, const struct manifest *m,
		     struct image_config *ret, struct err *err)
{
	char *text;
	size_t n;
	int r = content_read(ctx, t->o.db, m->config.digest, MANIFEST_MAX, &text, &n, err);

	if (r == 0)
		r = image_config_parse(ctx->arena, text, n, ret, err);
	if (r == 0 && ret->n_diff_ids != m->n_layers)
		r = err_set(err, ERR_INVALID_ARGUMENT,
			    "mismatched image rootfs and manifest layers: %zu diff ids, %zu layers",
			    ret->n_diff_ids, m->n_layers);
	return r;
}

int transfer_unpack_manifest(struct ctx *ctx, struct transfer *t, const struct manifest *m,
			     const char *snapshotter, bool no_decryption, struct err *err)
{
	pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
	struct reporter rep;
	struct image_config c;
	int r = config_of(ctx, t, m, &c, err);

	if (r < 0)
		return r;
	struct layer *l = arena_new_array(ctx->arena, struct layer, m->n_layers + 1);
	struct unpack u = {.ctx = ctx,
			   .t = t,
			   .rep = &rep,
			   .snapshotter = snapshotter,
			   .config_digest = m->config.digest,
			   .diff_ids = c.diff_ids,
			   .layers = arena_new_array(ctx->arena, struct layer *, m->n_layers + 1),
			   .n = m->n_layers,
			   .sync_fs = t->o.sync_fs,
			   .no_decryption = no_decryption};
	if (!l || !u.layers)
		return err_nomem(err);
	for (size_t i = 0; i < u.n; i++) {
		l[i] = (struct layer){.desc = m->layers[i],
				      .name = descriptor_ref_key(ctx->arena, &m->layers[i]),
				      .lock = &lock,
				      .changed = &changed,
				      .state = LAYER_DONE,
				      .fd = -1};
		if (!l[i].name)
			return err_nomem(err);
		u.layers[i] = &l[i];
	}
	reporter_init(&rep, &(struct transfer_watch){0});
	r = unpack_image(&u, err);
	reporter_done(&rep);
	return r;
}
