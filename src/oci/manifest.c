/* SPDX-License-Identifier: Apache-2.0 */
/* Image documents: see manifest.h. */
#include "oci/manifest.h"

#include <errno.h>

#include "base/digest.h"
#include "base/json.h"
#include "base/str.h"

static bool any_of(const char *t, const char *const *v)
{
	for (; *v; v++)
		if (streq(t, *v))
			return true;
	return false;
}

bool media_is_index(const char *t)
{
	return any_of(t, (const char *const[]){MEDIA_OCI_INDEX, MEDIA_DOCKER_LIST, NULL});
}

bool media_is_manifest(const char *t)
{
	return any_of(t, (const char *const[]){MEDIA_OCI_MANIFEST, MEDIA_DOCKER_MANIFEST, NULL});
}

bool media_is_config(const char *t)
{
	return any_of(t, (const char *const[]){MEDIA_OCI_CONFIG, MEDIA_DOCKER_CONFIG, NULL});
}

bool media_is_layer(const char *t)
{
	return str_has_prefix(t, "application/vnd.oci.image.layer.") ||
	       str_has_prefix(t, MEDIA_DOCKER_LAYER) ||
	       str_has_prefix(t, "application/vnd.docker.image.rootfs.foreign.diff.tar") ||
	       str_has_prefix(t, "application/vnd.erofs.layer.");
}

int descriptor_from_json(struct arena *a, const json_t *j, struct descriptor *ret, struct err *err)
{
	struct descriptor d = {.size = json_int(j, "size", -1)};
	d.media_type = arena_strdup(a, json_str(j, "mediaType", ""));
	d.digest = arena_strdup(a, json_str(j, "digest", ""));
	if (!d.media_type || !d.digest ||
	    json_labels(a, json_obj(j, "annotations"), &d.annotations) < 0)
		return err_nomem(err);
	int r = digest_validate(d.digest, err);
	if (r < 0)
		return err_prefix(err, "descriptor digest \"%.150s\"", d.digest);
	if (d.size < 0)
		return err_set(err, ERR_INVALID_ARGUMENT, "descriptor %s has no valid size",
			       d.digest);
	*ret = d;
	return 0;
}

static int platform_from_json(struct arena *a, const json_t *j, struct platform *ret)
{
	struct platform p = {.os = arena_strdup(a, json_str(j, "os", "")),
			     .arch = arena_strdup(a, json_str(j, "architecture", "")),
			     .variant = arena_strdup(a, json_str(j, "variant", "")),
			     .os_version = arena_strdup(a, json_str(j, "os.version", ""))};
	if (!p.os || !p.arch || !p.variant || !p.os_version)
		return -ENOMEM;
	*ret = p;
	return 0;
}

static int children_limit(const json_t *array, struct err *err)
{
	if (json_array_size(array) > MANIFEST_CHILDREN_MAX)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "manifest names %zu children, more than %d", json_array_size(array),
			       MANIFEST_CHILDREN_MAX);
	return 0;
}

static int parse_index(struct arena *a, const json_t *j, struct manifest *m, struct err *err)
{
	const json_t *array = json_arr(j, "manifests");
	int r = children_limit(array, err);
	if (r < 0)
		return r;
	m->manifests = arena_new_array(a, struct manifest_child, json_array_size(array) + 1);
	if (!m->manifests)
		return err_nomem(err);
	for (; m->n_manifests < json_array_size(array); m->n_manifests++) {
		const json_t *e = json_array_get(array, m->n_manifests);
		struct manifest_child *c = &m->manifests[m->n_manifests];
		r = descriptor_from_json(a, e, &c->desc, err);
		if (r < 0)
			return err_prefix(err, "manifest %zu of the index", m->n_manifests);
		c->has_platform = json_obj(e, "platform") != NULL;
		if (platform_from_json(a, json_obj(e, "platform"), &c->platform) < 0)
			return err_nomem(err);
	}
	return 0;
}

static int parse_image(struct arena *a, const json_t *j, struct manifest *m, struct err *err)
{
	const json_t *array = json_arr(j, "layers");
	if (!json_obj(j, "config") || !array)
		return err_set(err, ERR_INVALID_ARGUMENT, "manifest has no config or no layers");
	int r = children_limit(array, err);
	if (r == 0 && (r = descriptor_from_json(a, json_obj(j, "config"), &m->config, err)) < 0)
		r = err_prefix(err, "config of the manifest");
	if (r < 0)
		return r;
	m->layers = arena_new_array(a, struct descriptor, json_array_size(array) + 1);
	if (!m->layers)
		return err_nomem(err);
	for (; m->n_layers < json_array_size(array); m->n_layers++) {
		r = descriptor_from_json(a, json_array_get(array, m->n_layers),
					 &m->layers[m->n_layers], err);
		if (r < 0)
			return err_prefix(err, "layer %zu of the manifest", m->n_layers);
	}
	return 0;
}

int manifest_parse(struct arena *a, const char *media_type, const char *p, size_t n,
		   struct manifest *ret, struct err *err)
{
	_cleanup_json_ json_t *j = NULL;
	struct manifest m = {.media_type = media_type, .is_index = media_is_index(media_type)};
	if (n > MANIFEST_MAX)
		return err_set(err, ERR_INVALID_ARGUMENT, "manifest of %zu bytes is larger than %u",
			       n, MANIFEST_MAX);
	int r = json_parse(p, n, &j, err);
	if (r < 0)
		return err_prefix(err, "manifest");
	if (json_int(j, "schemaVersion", 2) == 1 || json_arr(j, "fsLayers"))
		return err_set(err, ERR_UNIMPLEMENTED,
			       "Docker image manifest schema 1 is no longer supported");
	/* What is an index for one reader must not be an image for another. */
	const char *says = json_str(j, "mediaType", media_type);
	if (!streq(says, media_type))
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "manifest says it is %.200s, its descriptor says %.200s", says,
			       media_type);
	if (m.is_index ? json_object_get(j, "layers") || json_object_get(j, "config")
		       : json_object_get(j, "manifests") != NULL)
		return err_set(
			err, ERR_INVALID_ARGUMENT,
			"manifest of type %.200s has both layers and manifests, or the wrong ones",
			media_type);
	r = m.is_index ? parse_index(a, j, &m, err) : parse_image(a, j, &m, err);
	if (r == 0)
		*ret = m;
	return r;
}

int image_config_parse(struct arena *a, const char *p, size_t n, struct image_config *ret,
		       struct err *err)
{
	_cleanup_json_ json_t *j = NULL;
	struct image_config c = {0};
	if (n > MANIFEST_MAX)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "image config of %zu bytes is larger than %u", n, MANIFEST_MAX);
	int r = json_parse(p, n, &j, err);
	if (r < 0)
		return err_prefix(err, "image config");
	const json_t *ids = json_arr(json_obj(j, "rootfs"), "diff_ids");
	r = children_limit(ids, err);
	if (r < 0)
		return r;
	c.diff_ids = arena_new_array(a, const char *, json_array_size(ids) + 1);
	if (!c.diff_ids || platform_from_json(a, j, &c.platform) < 0)
		return err_nomem(err);
	for (; c.n_diff_ids < json_array_size(ids); c.n_diff_ids++) {
		const char *id = json_string_value(json_array_get(ids, c.n_diff_ids));
		r = digest_validate(id, err);
		if (r < 0)
			return err_prefix(err, "image config: diff_id %zu", c.n_diff_ids);
		c.diff_ids[c.n_diff_ids] = arena_strdup(a, id);
		if (!c.diff_ids[c.n_diff_ids])
			return err_nomem(err);
	}
	*ret = c;
	return 0;
}

const char *chain_id(struct arena *a, const char *const *diff_ids, size_t n)
{
	const char *chain = n ? diff_ids[0] : "";
	for (size_t i = 1; chain && i < n; i++) {
		struct digest d;
		char *both = arena_printf(a, "%s %s", chain, diff_ids[i]);
		if (!both)
			return NULL;
		digest_of(DIGEST_SHA256, both, strlen(both), &d);
		chain = arena_strdup(a, d.text);
	}
	return chain;
}

const char *descriptor_ref_key(struct arena *a, const struct descriptor *d)
{
	const char *name = labels_get(&d->annotations, "org.opencontainers.image.ref.name"),
		   *kind = "unknown";
	if (media_is_manifest(d->media_type))
		kind = "manifest";
	else if (media_is_index(d->media_type))
		kind = "index";
	else if (media_is_layer(d->media_type))
		kind = "layer";
	else if (media_is_config(d->media_type))
		kind = "config";
	else if (streq(d->media_type, "application/vnd.in-toto+json"))
		kind = "attestation";
	return str_empty(name) ? arena_printf(a, "%s-%s", kind, d->digest)
			       : arena_printf(a, "%s-%s@%s", kind, name, d->digest);
}

#define GC_REF "containerd.io/gc.ref.content."

int referrer_gc_label(struct arena *a, const char *digest, struct labels *labels)
{
	const char *hex = strchr(digest, ':');
	char *key = hex ? arena_printf(a, GC_REF "referrer.sha256.%.12s", hex + 1) : NULL;
	return key ? labels_set(a, labels, key, digest) : -ENOMEM;
}

static bool is_referrer(const struct descriptor *d)
{
	return labels_get(&d->annotations, ANNOTATION_SUBJECT);
}

/* Children are counted per kind: config, m.0, m.1, ... for manifests, l.0, ... for layers, 0, 1,
 * ... for what has no kind of its own (the config of what is no image, too). What refers to another
 * manifest is named by its digest instead, so that its place in a list does not matter. */
static int gc_label(struct arena *a, struct labels *l, const char *prefix, size_t index,
		    const char *digest)
{
	char *key = arena_printf(a, GC_REF "%s%zu", prefix, index);
	return key ? labels_set(a, l, key, digest) : -ENOMEM;
}

int manifest_gc_labels(struct arena *a, const struct manifest *m, struct labels *labels)
{
	size_t manifests = 0, layers = 0, others = 0;
	int r = 0;
	if (!m->is_index && media_is_config(m->config.media_type))
		r = labels_set(a, labels, GC_REF "config", m->config.digest);
	else if (!m->is_index)
		r = gc_label(a, labels, "", others++, m->config.digest);
	for (size_t i = 0; r == 0 && i < m->n_layers; i++) {
		if (is_referrer(&m->layers[i]))
			r = referrer_gc_label(a, m->layers[i].digest, labels);
		else if (media_is_layer(m->layers[i].media_type))
			r = gc_label(a, labels, "l.", layers++, m->layers[i].digest);
		else
			r = gc_label(a, labels, "", others++, m->layers[i].digest);
	}
	for (size_t i = 0; r == 0 && i < m->n_manifests; i++) {
		const struct descriptor *d = &m->manifests[i].desc;
		if (is_referrer(d))
			r = referrer_gc_label(a, d->digest, labels);
		else if (media_is_manifest(d->media_type))
			r = gc_label(a, labels, "m.", manifests++, d->digest);
		else
			r = gc_label(a, labels, "", others++, d->digest);
	}
	return r;
}
