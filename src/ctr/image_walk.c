/* SPDX-License-Identifier: Apache-2.0 */
/* Documents are read as they are needed, each checked against its digest; indexes are followed a
 * few levels deep. */
#include "ctr/image_walk.h"

#include <errno.h>

#include "ctr/documents.h"
#include "oci/platform.h"

#define DEPTH_MAX 4
#define PREFETCH_DEPTH 3 /* index, manifest, configuration */
#define CONFIG_MAX ((size_t)8 << 20)

static int add_size(int64_t *sum, int64_t n, struct err *err)
{
	if (n < 0 || __builtin_add_overflow(*sum, n, sum))
		return err_set(err, ERR_OUT_OF_RANGE, "size %lld of a descriptor", (long long)n);
	return 0;
}

static int read_manifest(struct ctr *c, const struct descriptor *d, struct manifest *ret,
			 struct err *err)
{
	const char *text;
	size_t len;
	int r;

	r = documents_read(c->documents, c, d->digest, MANIFEST_MAX, &text, &len, err);
	return r < 0 ? r : manifest_parse(c->ctx.arena, d->media_type, text, len, ret, err);
}

/* From @target down to the manifest for @want; *@sum grows by what lies on the way. *@ret_image is
 * false where there is none. */
static int descend(struct ctr *c, struct descriptor target, const struct platform *want,
		   int64_t *sum, struct manifest *ret, bool *ret_image, struct err *err)
{
	*ret_image = false;
	for (int depth = 0; depth < DEPTH_MAX; depth++) {
		int r = add_size(sum, target.size, err);

		if (r < 0)
			return r;
		if (!media_is_index(target.media_type) && !media_is_manifest(target.media_type))
			return 0;
		r = read_manifest(c, &target, ret, err);
		if (r < 0)
			return r;
		if (!ret->is_index) {
			*ret_image = true;
			return 0;
		}
		r = client_image_choose(ret, want, &target, err);
		if (r < 0)
			return r;
	}
	return err_set(err, ERR_INVALID_ARGUMENT, "index is nested too deeply");
}

int image_walk_size(struct ctr *c, const struct descriptor *target, const struct platform *want,
		    int64_t *sum, struct err *err)
{
	struct manifest m;
	bool image;
	int r;

	r = descend(c, *target, want, sum, &m, &image, err);
	if (r < 0 || !image)
		return r;
	r = add_size(sum, m.config.size, err);
	for (size_t i = 0; r == 0 && i < m.n_layers; i++)
		r = add_size(sum, m.layers[i].size, err);
	return r;
}

/* ---- Platforms ---- */

static int add_platform(struct arena *a, struct labels *set, const struct platform *p,
			struct err *err)
{
	const char *text;

	if (streq(p->os, "unknown") || streq(p->arch, "unknown"))
		return 0;
	text = platform_format(a, p);
	return !text || labels_set(a, set, text, "") < 0 ? err_nomem(err) : 0;
}

static int config_platform(struct ctr *c, const struct descriptor *d, struct labels *set,
			   struct err *err)
{
	struct image_config config;
	struct platform p;
	const char *text;
	size_t len;
	int r;

	if (!media_is_config(d->media_type))
		return 0;
	r = documents_read(c->documents, c, d->digest, CONFIG_MAX, &text, &len, err);
	if (r == 0)
		r = image_config_parse(c->ctx.arena, text, len, &config, err);
	if (r < 0)
		return r;
	if (platform_normalize(c->ctx.arena, &config.platform, &p) < 0)
		return err_nomem(err);
	return add_platform(c->ctx.arena, set, &p, err);
}

static int collect_platforms(struct ctr *c, const struct descriptor *d, int depth,
			     struct labels *set, struct err *err)
{
	struct manifest m;
	int r;

	if (!media_is_index(d->media_type) && !media_is_manifest(d->media_type))
		return 0;
	if (depth >= DEPTH_MAX)
		return err_set(err, ERR_INVALID_ARGUMENT, "index is nested too deeply");
	r = read_manifest(c, d, &m, err);
	if (r < 0)
		return r;
	if (!m.is_index)
		return config_platform(c, &m.config, set, err);
	for (size_t i = 0; r == 0 && i < m.n_manifests; i++) {
		const struct manifest_child *child = &m.manifests[i];

		if (child->has_platform)
			r = add_platform(c->ctx.arena, set, &child->platform, err);
		else
			r = collect_platforms(c, &child->desc, depth + 1, set, err);
	}
	return r;
}

int image_walk_platforms(struct ctr *c, const struct descriptor *target, const char **ret,
			 struct err *err)
{
	struct buf b _cleanup_buf_ = BUF_INIT;
	struct labels set = {};
	const char *text;
	int r;

	r = collect_platforms(c, target, 0, &set, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < set.n; i++)
		buf_printf(&b, "%s%s", i ? "," : "", set.v[i].key);
	text = buf_ok(&b) ? arena_strdup(c->ctx.arena, set.n ? b.data : "-") : NULL;
	if (!text)
		return err_nomem(err);
	*ret = text;
	return 0;
}

/* ---- Many images ---- */

struct wanted {
	const char **v;
	size_t n, cap;
};

static int want_digest(struct ctr *c, struct wanted *w, const char *digest)
{
	const char **grown = arena_grow(c->ctx.arena, w->v, &w->cap, w->n + 1, sizeof(*grown));

	if (!grown)
		return -ENOMEM;
	w->v = grown;
	w->v[w->n++] = digest;
	return 0;
}

/* What follows from a manifest or index that was read: the configuration, or the manifest for
 * @host. */
static int want_below(struct ctr *c, struct descriptor *d, const struct platform *host,
		      struct wanted *w)
{
	struct manifest m;
	size_t len;
	const char *text = documents_get(c->documents, d->digest, &len);

	d->digest = NULL;
	if (!text || manifest_parse(c->ctx.arena, d->media_type, text, len, &m, NULL) < 0)
		return 0;
	if (!m.is_index)
		return media_is_config(m.config.media_type) ? want_digest(c, w, m.config.digest)
							    : 0;
	if (client_image_choose(&m, host, d, NULL) < 0) {
		d->digest = NULL;
		return 0;
	}
	return want_digest(c, w, d->digest);
}

int image_walk_prefetch(struct ctr *c, struct descriptor *targets, size_t n,
			const struct platform *host, struct err *err)
{
	struct wanted w = {};
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++)
		if (media_is_index(targets[i].media_type) ||
		    media_is_manifest(targets[i].media_type))
			r = want_digest(c, &w, targets[i].digest);
		else
			targets[i].digest = NULL;
	for (int depth = 0; r == 0 && depth < PREFETCH_DEPTH && w.n; depth++) {
		r = documents_fetch(c->documents, c, w.v, w.n, MANIFEST_MAX, err);
		if (r < 0)
			return r;
		w.n = 0;
		for (size_t i = 0; r == 0 && i < n; i++)
			if (targets[i].digest)
				r = want_below(c, &targets[i], host, &w);
	}
	return r < 0 ? err_nomem(err) : 0;
}

/* ---- Completeness ---- */

/* Counts @d; one that is not there is only missing. */
static int check_blob(struct ctr *c, const struct descriptor *d, struct image_check *k,
		      struct err *err)
{
	PB_CONTENT(InfoRequest) req = PB_CONTENT_INIT(INFO_REQUEST);
	struct err e = ERR_INIT;
	int r;

	k->n_required++;
	r = add_size(&k->required, d->size, err);
	if (r < 0)
		return r;
	req.digest = (char *)d->digest;
	r = client_call(c->client, &c->ctx, PB_CONTENT_SERVICE, "Info", &req.base, NULL, &e);
	if (r < 0)
		return r == -ERR_NOT_FOUND ? 0 : err_copy(err, &e);
	k->n_present++;
	k->present += d->size;
	return 0;
}

int image_walk_check(struct ctr *c, const struct descriptor *target, const struct platform *want,
		     struct image_check *ret, struct err *err)
{
	struct image_check k = {};
	struct err e = ERR_INIT;
	struct manifest m;
	int64_t sum = 0;
	bool image;
	int r;

	r = descend(c, *target, want, &sum, &m, &image, &e);
	if (r < 0 && r != -ERR_NOT_FOUND)
		return err_copy(err, &e);
	if (r == 0 && image) {
		k.available = true;
		r = check_blob(c, &m.config, &k, err);
		for (size_t i = 0; r == 0 && i < m.n_layers; i++)
			r = check_blob(c, &m.layers[i], &k, err);
		if (r < 0)
			return r;
	}
	*ret = k;
	return 0;
}

/* ---- Tree ---- */

struct printer {
	struct ctr *c;
	bool content;
};

static int print_node(struct printer *p, const struct descriptor *d,
		      const struct platform *platform, const char *prefix, bool last, int depth,
		      struct err *err);

static int print_children(struct printer *p, const struct manifest *m, const char *prefix,
			  int depth, struct err *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < m->n_manifests; i++)
		r = print_node(p, &m->manifests[i].desc,
			       m->manifests[i].has_platform ? &m->manifests[i].platform : NULL,
			       prefix, i + 1 == m->n_manifests, depth + 1, err);
	if (!m->is_index)
		r = print_node(p, &m->config, NULL, prefix, m->n_layers == 0, depth + 1, err);
	for (size_t i = 0; r == 0 && i < m->n_layers; i++)
		r = print_node(p, &m->layers[i], NULL, prefix, i + 1 == m->n_layers, depth + 1,
			       err);
	return r;
}

/* The document's lines, each behind @prefix. */
static int print_document(const char *text, size_t len, const char *prefix, struct err *err)
{
	json_t *j _cleanup_json_ = NULL;
	char *lines _cleanup_free_ = NULL;
	char *save = NULL;
	int r;

	r = json_parse(text, len, &j, err);
	if (r < 0)
		return r;
	lines = json_dumps(j, JSON_INDENT(2));
	if (!lines)
		return err_nomem(err);
	for (char *line = strtok_r(lines, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		printf("%s\u2502 %s\n", prefix, line);
	return 0;
}

static int print_below(struct printer *p, const struct descriptor *d, const char *prefix, int depth,
		       struct err *err)
{
	bool document = media_is_index(d->media_type) || media_is_manifest(d->media_type);
	struct manifest m = {};
	struct err e = ERR_INIT;
	size_t len;
	char *text;
	int r;

	if ((!document && !(p->content && media_is_config(d->media_type))) ||
	    depth >= DEPTH_MAX + 1)
		return 0;
	r = client_content_read(p->c->client, &p->c->ctx, d->digest, CONFIG_MAX, &text, &len, &e);
	if (r == -ERR_NOT_FOUND) {
		printf("%s\u2502 (not in the content store)\n", prefix);
		return 0;
	}
	if (r < 0)
		return err_copy(err, &e);
	if (p->content)
		r = print_document(text, len, prefix, err);
	if (r == 0 && document)
		r = manifest_parse(p->c->ctx.arena, d->media_type, text, len, &m, err);
	return r < 0 || !document ? r : print_children(p, &m, prefix, depth, err);
}

static int print_node(struct printer *p, const struct descriptor *d,
		      const struct platform *platform, const char *prefix, bool last, int depth,
		      struct err *err)
{
	struct arena *a = p->c->ctx.arena;
	const char *below = arena_printf(a, "%s%s  ", prefix, last ? " " : "\u2502");
	const char *text = platform ? platform_format(a, platform) : "";

	if (!below || !text)
		return err_nomem(err);
	printf("%s%s%s @%s (%lld bytes)\n", prefix,
	       last ? "\u2514\u2500\u2500" : "\u251c\u2500\u2500", d->media_type, d->digest,
	       (long long)d->size);
	if (*text)
		printf("%s\u2502 Platform: %s\n", below, text);
	return print_below(p, d, below, depth, err);
}

int image_walk_print(struct ctr *c, const struct descriptor *target, bool content, struct err *err)
{
	struct printer p = {.c = c, .content = content};

	return print_node(&p, target, NULL, "", true, 0, err);
}
