/* SPDX-License-Identifier: Apache-2.0 */
/* See differ.h. */
#include "plugins/differ/differ.h"

#include <stdlib.h>

#include "plugins/differ/processor.h"

static int none(int r, const struct err *last, struct err *err)
{
	return r < 0 ? err_copy(err, last) : err_set(err, ERR_UNIMPLEMENTED, "no differ");
}

int differs_apply(struct ctx *ctx, const struct differs *all, const struct apply_request *q,
		  struct descriptor *ret, struct err *err)
{
	struct err why = ERR_INIT;
	int r = 0;

	for (size_t i = 0; i < all->n; i++) {
		struct differ *d = all->v[i];

		if (q->fd >= 0 && !d->streams)
			break;
		r = d->ops->apply(ctx, d, q, ret, &why);
		if (r != -ERR_UNIMPLEMENTED)
			return r < 0 ? err_copy(err, &why) : 0;
	}
	return none(r, &why, err);
}

int differs_diff(struct ctx *ctx, const struct differs *all, const struct mounts *lower,
		 const struct mounts *upper, const struct walking_diff_options *o,
		 struct descriptor *ret, struct err *err)
{
	struct err why = ERR_INIT;
	int r = 0;

	for (size_t i = 0; i < all->n; i++) {
		struct differ *d = all->v[i];

		r = d->ops->diff(ctx, d, lower, upper, o, ret, &why);
		if (r != -ERR_UNIMPLEMENTED)
			return r < 0 ? err_copy(err, &why) : 0;
	}
	return none(r, &why, err);
}

/* ---- the walking differ ---- */

struct walking {
	struct differ base;
	struct db *db;
	const struct processors *processors;
};

static int apply(struct ctx *ctx, struct differ *d, const struct apply_request *q,
		 struct descriptor *ret, struct err *err)
{
	struct walking *w = (struct walking *)d;

	if (processors_take(w->processors, q->desc->media_type))
		return q->alone ? err_set(err, ERR_ABORTED, "layer of a stream processor")
				: processors_apply(ctx, w->processors, w->db, q, ret, err);
	if (q->alone)
		return walking_apply_alone(ctx, w->db, q->desc, q->fd, q->mounts, q->sync_fs, ret,
					   err);
	if (q->fd >= 0)
		return walking_apply_fd(ctx, q->fd, q->desc->media_type, q->mounts, q->sync_fs, ret,
					err);
	return walking_apply(ctx, w->db, q->desc, q->mounts, q->sync_fs, ret, err);
}

static int diff(struct ctx *ctx, struct differ *d, const struct mounts *lower,
		const struct mounts *upper, const struct walking_diff_options *o,
		struct descriptor *ret, struct err *err)
{
	return walking_diff(ctx, ((struct walking *)d)->db, lower, upper, o, ret, err);
}

static void walking_free(struct differ *d)
{
	free(d);
}

static const struct differ_ops walking_ops = {.apply = apply, .diff = diff, .free = walking_free};

int walking_new(struct db *db, const struct processors *processors, struct differ **ret,
		struct err *err)
{
	struct walking *w = calloc(1, sizeof(*w));

	if (!w)
		return err_nomem(err);
	w->base = (struct differ){.ops = &walking_ops, .name = "walking", .streams = true};
	w->db = db;
	w->processors = processors;
	*ret = &w->base;
	return 0;
}
