/* SPDX-License-Identifier: Apache-2.0 */
/* What of an image a pull takes, unpacks and names. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <time.h>

#include "base/str.h"
#include "base/time.h"
#include "plugins/transfer/internal.h"

/* ---- children of an index ---- */

struct candidate {
	size_t at;
	int rank; /* less is better */
};

static int compare(const void *a, const void *b)
{
	const struct candidate *x = a, *y = b;

	if (x->rank != y->rank)
		return x->rank < y->rank ? -1 : 1;
	return x->at < y->at ? -1 : x->at > y->at;
}

/* Platforms in the order in which they were named, then how well they are served. */
static int rank_of(const struct transfer_store *to, const struct manifest_child *c)
{
	if (!c->has_platform)
		return INT_MAX;
	for (size_t w = 0; w < to->n_platforms && w < 1024; w++) {
		int r = platforms_rank(&to->platforms[w], 1, &c->platform);

		if (r >= 0)
			return (int)(w << 20) + MIN(r, (1 << 20) - 1);
	}
	return to->n_platforms ? INT_MAX - 1 : 0;
}

static void mark_best(const struct manifest *m, const struct platform *want, bool *take)
{
	int best = -1;
	size_t at = 0;

	for (size_t i = 0; i < m->n_manifests; i++) {
		const struct manifest_child *c = &m->manifests[i];
		int rank = c->has_platform ? platforms_rank(want, 1, &c->platform) : -1;

		if (rank >= 0 && (best < 0 || rank < best)) {
			best = rank;
			at = i;
		}
	}
	if (best >= 0)
		take[at] = true;
}

int index_choose(struct arena *a, const struct manifest *m, const struct transfer_store *to,
		 bool *ret, size_t *ret_n)
{
	struct candidate *v = arena_new_array(a, struct candidate, m->n_manifests + 1);
	size_t n = 0;

	if (!v)
		return -ENOMEM;
	for (size_t i = 0; i < m->n_manifests; i++)
		/* What names no platform tells it further down. */
		ret[i] = to->n_platforms == 0 || !m->manifests[i].has_platform;
	for (size_t w = 0; w < to->n_platforms; w++)
		mark_best(m, &to->platforms[w], ret);
	for (size_t i = 0; i < m->n_manifests; i++)
		if (ret[i])
			v[n++] = (struct candidate){i, rank_of(to, &m->manifests[i])};
	if (to->manifest_limit && n > to->manifest_limit) {
		qsort(v, n, sizeof(*v), compare);
		while (n > to->manifest_limit)
			ret[v[--n].at] = false;
	}
	*ret_n = n;
	return 0;
}

/* ---- what is unpacked ---- */

int unpack_rule(const struct transfer *t, const struct transfer_unpack *u,
		const struct transfer_unpack_rule **ret, const char **ret_snapshotter,
		struct err *err)
{
	for (size_t i = 0; i < t->o.n_rules; i++) {
		const struct transfer_unpack_rule *r = &t->o.rules[i];
		bool same = t->o.check_platform ? platforms_rank(&r->platform, 1, &u->platform) >= 0
						: streq(r->platform.os, u->platform.os);

		if (!same || (!str_empty(u->snapshotter) && !streq(u->snapshotter, r->snapshotter)))
			continue;
		*ret = r;
		*ret_snapshotter = r->snapshotter;
		return 0;
	}
	if (t->o.n_rules)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "unable to initialize unpacker: no unpack platforms defined (%s/%s "
			       "with snapshotter \"%s\" is not configured)",
			       u->platform.os, u->platform.arch, str_or(u->snapshotter, "any"));
	*ret = NULL;
	*ret_snapshotter = str_or(u->snapshotter, t->o.default_snapshotter);
	return 0;
}

bool unpack_rule_covers(const struct transfer_unpack_rule *rule, const struct manifest *m)
{
	if (!rule)
		return true;
	if (!str_empty(rule->config_type) && !streq(rule->config_type, m->config.media_type))
		return false;
	for (size_t i = 0; rule->n_layer_types && i < m->n_layers; i++) {
		size_t k = 0;

		while (k < rule->n_layer_types &&
		       !streq(rule->layer_types[k], m->layers[i].media_type))
			k++;
		if (k == rule->n_layer_types)
			return false;
	}
	return true;
}

/* ---- names ---- */

int store_pulled(struct ctx *ctx, struct transfer *t, const struct transfer_store *to,
		 const char *name, const struct descriptor *target, struct reporter *rep,
		 struct err *err)
{
	struct timespec now = time_now();
	struct labels labels = {0};
	char text[40];
	struct tm tm;
	int r = store_image(ctx, t, name, target, &to->labels, rep, err);

	if (r < 0 || !to->n_extra)
		return r;
	gmtime_r(&now.tv_sec, &tm);
	strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm);
	if (labels_copy(ctx->arena, &labels, &to->labels) < 0 ||
	    labels_set(ctx->arena, &labels, "containerd.io/gc.bref.image", name) < 0 ||
	    labels_set(ctx->arena, &labels, "containerd.io/gc.expire", text) < 0)
		return err_nomem(err);
	for (size_t i = 0; r == 0 && i < to->n_extra; i++) {
		const struct transfer_reference *e = &to->extra[i];
		const char *full = e->name;

		if (e->is_prefix || streq(full, name))
			continue;
		if (e->add_digest)
			full = arena_printf(ctx->arena, "%s@%s", e->name, target->digest);
		r = full ? store_image(ctx, t, full, target, &labels, rep, err) : err_nomem(err);
	}
	return r;
}
