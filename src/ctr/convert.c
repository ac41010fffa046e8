/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors are changed where they stand in their parent's JSON, so members that nobody here
 * knows stay. A parent that has changed is written anew with the labels of the old blob, in which
 * the references to changed children are replaced: the garbage collector follows these. */
#include "ctr/convert.h"

#include "core/erofs.h"
#include "ctr/convert_erofs.h"
#include "ctr/recompress.h"
#include "oci/manifest.h"
#include "oci/platform.h"

#define DEPTH_MAX 4
#define DOCKER "application/vnd.docker."
#define GC_REF "containerd.io/gc.ref.content"
#define UNCOMPRESSED_LABEL "containerd.io/uncompressed"

struct converter {
	struct ctr *c;
	const struct convert_options *o;
	struct digest diff_id; /* of the last layer that became an EROFS image; "" = none did */
	struct erofs_trees *trees;
};

struct document {
	json_t *json;
	struct labels labels;
	bool changed;
};

static int convert(struct converter *k, json_t *d, int depth, bool *ret_changed, struct err *err);

/* ---- Media types ---- */

static const struct {
	const char *docker, *oci;
} media_types[] = {
	{MEDIA_DOCKER_LIST, MEDIA_OCI_INDEX},
	{MEDIA_DOCKER_MANIFEST, MEDIA_OCI_MANIFEST},
	{MEDIA_DOCKER_CONFIG, MEDIA_OCI_CONFIG},
	{MEDIA_DOCKER_LAYER, MEDIA_OCI_LAYER},
	{MEDIA_DOCKER_LAYER ".gzip", MEDIA_OCI_LAYER "+gzip"},
	{MEDIA_DOCKER_LAYER ".zstd", MEDIA_OCI_LAYER "+zstd"},
	{"application/vnd.docker.image.rootfs.foreign.diff.tar",
	 "application/vnd.oci.image.layer.nondistributable.v1.tar"},
	{"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
	 "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"},
};

const char *convert_media_type(const char *media_type)
{
	for (size_t i = 0; i < ARRAY_LEN(media_types); i++)
		if (streq(media_type, media_types[i].docker))
			return media_types[i].oci;
	return media_type;
}

const char *convert_uncompressed_type(const char *media_type)
{
	static const char *const plain[] = {
		MEDIA_DOCKER_LAYER,
		MEDIA_OCI_LAYER,
		"application/vnd.docker.image.rootfs.foreign.diff.tar",
		"application/vnd.oci.image.layer.nondistributable.v1.tar",
	};
	static const char *const suffixes[] = {".gzip", "+gzip", ".zstd", "+zstd"};

	for (size_t i = 0; i < ARRAY_LEN(plain); i++) {
		const char *rest = str_skip(media_type, plain[i]);

		for (size_t j = 0; rest && j < ARRAY_LEN(suffixes); j++)
			if (streq(rest, suffixes[j]))
				return plain[i];
	}
	return NULL;
}

/* ---- Documents ---- */

static int set_string(json_t *o, const char *key, const char *value, struct err *err)
{
	return json_object_set_new(o, key, json_string(value)) < 0 ? err_nomem(err) : 0;
}

static int set_target(json_t *d, const char *media_type, const char *digest, int64_t size,
		      struct err *err)
{
	int r = set_string(d, "mediaType", media_type, err);

	if (r == 0)
		r = set_string(d, "digest", digest, err);
	if (r == 0 && json_object_set_new(d, "size", json_integer((json_int_t)size)) < 0)
		r = err_nomem(err);
	return r;
}

/* The labels that lead to @old lead to what the child at @key is now, or nowhere (@digest NULL). */
static int replace_label(struct arena *a, struct labels *l, const char *old, const char *key,
			 const char *digest, struct err *err)
{
	for (size_t i = l->n; i-- > 0;)
		if (streq(l->v[i].value, old) && str_has_prefix(l->v[i].key, GC_REF))
			labels_unset(l, l->v[i].key);
	return digest && labels_set(a, l, key, digest) < 0 ? err_nomem(err) : 0;
}

static int document_read(struct converter *k, const struct descriptor *d, struct document *ret,
			 struct err *err)
{
	struct arena *a = k->c->ctx.arena;
	struct document doc = {};
	struct manifest checked;
	size_t len;
	char *text;
	int r;

	r = client_content_read(k->c->client, &k->c->ctx, d->digest, MANIFEST_MAX, &text, &len,
				err);
	if (r == 0)
		r = manifest_parse(a, d->media_type, text, len, &checked, err);
	if (r == 0)
		r = client_content_labels(k->c->client, &k->c->ctx, d->digest, &doc.labels, err);
	if (r == 0)
		r = json_parse(text, len, &doc.json, err);
	if (r < 0)
		return err_prefix(err, "convert %s", d->digest);
	*ret = doc;
	return 0;
}

static void document_done(struct document *doc)
{
	json_decref(doc->json);
}

/* Writes @doc, should it have changed, and lets @d say where it is. */
static int document_write(struct converter *k, struct document *doc, json_t *d,
			  const char *media_type, bool *ret_changed, struct err *err)
{
	struct arena *a = k->c->ctx.arena;
	char *text _cleanup_free_ = NULL;
	struct digest digest;
	const char *ref;
	int r;

	*ret_changed = doc->changed;
	if (!doc->changed)
		return 0;
	text = json_dumps(doc->json, JSON_COMPACT);
	if (!text)
		return err_nomem(err);
	digest_of(DIGEST_SHA256, text, strlen(text), &digest);
	ref = arena_printf(a, "converter-write-json-%s", digest.text);
	if (!ref)
		return err_nomem(err);
	r = client_content_put(k->c->client, &k->c->ctx, ref, text, strlen(text), &doc->labels,
			       &digest, err);
	return r < 0 ? r : set_target(d, media_type, digest.text, (int64_t)strlen(text), err);
}

/* A document's own word for what it is. */
static int document_type(struct converter *k, struct document *doc, struct err *err)
{
	const char *type = json_str(doc->json, "mediaType", ""), *oci = convert_media_type(type);

	if (!k->o->oci || streq(type, oci))
		return 0;
	doc->changed = true;
	return set_string(doc->json, "mediaType", oci, err);
}

/* Converts the child @d of @doc, which the label @key leads to. */
static int convert_child(struct converter *k, struct document *doc, json_t *d, const char *key,
			 int depth, struct err *err)
{
	struct arena *a = k->c->ctx.arena;
	const char *old = arena_strdup(a, json_str(d, "digest", ""));
	bool changed;
	int r;

	if (!old || !key)
		return err_nomem(err);
	r = convert(k, d, depth, &changed, err);
	if (r < 0 || !changed)
		return r;
	doc->changed = true;
	return replace_label(a, &doc->labels, old, key, json_str(d, "digest", ""), err);
}

/* ---- Kinds of content ---- */

static int layer_labels(struct converter *k, const struct descriptor *d, struct labels *ret,
			struct err *err)
{
	int r = client_content_labels(k->c->client, &k->c->ctx, d->digest, ret, err);

	if (r < 0)
		return err_prefix(err, "layer %s", d->digest);
	labels_unset(ret, UNCOMPRESSED_LABEL);
	return 0;
}

static int convert_layer_erofs(struct converter *k, json_t *j, const struct descriptor *d,
			       struct err *err)
{
	struct digest digest;
	struct labels labels;
	int64_t size;
	int r = layer_labels(k, d, &labels, err);

	if (r == 0)
		r = convert_erofs_layer(k->c, k->o, k->trees, d, &labels, &digest, &size,
					&k->diff_id, err);
	return r < 0 ? r
		     : set_target(j, k->o->erofs_zstd ? EROFS_MEDIA "+zstd" : EROFS_MEDIA,
				  digest.text, size, err);
}

static int convert_layer(struct converter *k, json_t *j, const struct descriptor *d,
			 bool *ret_changed, struct err *err)
{
	const char *type = convert_uncompressed_type(d->media_type), *ref;
	struct digest digest;
	struct labels labels;
	int64_t size;
	int r;

	*ret_changed = k->o->erofs && convert_erofs_takes(d->media_type);
	if (*ret_changed)
		return convert_layer_erofs(k, j, d, err);
	*ret_changed = k->o->uncompress && type;
	if (!*ret_changed)
		return 0;
	ref = arena_printf(k->c->ctx.arena, "convert-uncompress-from-%s", d->digest);
	if (!ref)
		return err_nomem(err);
	r = layer_labels(k, d, &labels, err);
	if (r == 0)
		r = recompress_blob(k->c, d, PACK_NONE, ref, &labels, &digest, &size, err);
	return r < 0 ? r : set_target(j, type, digest.text, size, err);
}

/* ---- What an image of EROFS layers says ---- */

static int add_feature(json_t *o, struct err *err)
{
	json_t *list = json_arr_make(o, "os.features"), *one;
	size_t i;

	if (!list)
		return err_nomem(err);
	json_array_foreach (list, i, one)
		if (json_is_string(one) && streq(json_string_value(one), "erofs"))
			return 0;
	return json_array_append_new(list, json_string("erofs")) < 0 ? err_nomem(err) : 0;
}

/* @diff_ids: one a layer, null for those that did not change. */
static int set_diff_ids(json_t *config, json_t *diff_ids, struct err *err)
{
	json_t *have = json_arr(json_obj(config, "rootfs"), "diff_ids"), *id;
	size_t i;

	if (json_array_size(have) != json_array_size(diff_ids))
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "the configuration has %zu diff IDs for %zu layers",
			       json_array_size(have), json_array_size(diff_ids));
	json_array_foreach (diff_ids, i, id)
		if (!json_is_null(id) && json_array_set(have, i, id) < 0)
			return err_nomem(err);
	return 0;
}

static int config_read(struct converter *k, const char *digest, struct document *ret,
		       struct err *err)
{
	struct document doc = {.changed = true};
	size_t len;
	char *text;
	int r = client_content_read(k->c->client, &k->c->ctx, digest, MANIFEST_MAX, &text, &len,
				    err);

	if (r == 0)
		r = client_content_labels(k->c->client, &k->c->ctx, digest, &doc.labels, err);
	if (r == 0)
		r = json_parse(text, len, &doc.json, err);
	if (r < 0)
		return err_prefix(err, "configuration %s", digest);
	*ret = doc;
	return 0;
}

/* The configuration @d of the manifest @doc. */
static int convert_config(struct converter *k, struct document *doc, json_t *d, json_t *diff_ids,
			  struct err *err)
{
	struct document config _cleanup_(document_done) = {};
	struct arena *a = k->c->ctx.arena;
	const char *old = arena_strdup(a, json_str(d, "digest", "")),
		   *type = arena_strdup(a, json_str(d, "mediaType", ""));
	bool changed;
	int r = old && type ? config_read(k, old, &config, err) : err_nomem(err);

	if (r == 0)
		r = set_diff_ids(config.json, diff_ids, err);
	if (r == 0)
		r = add_feature(config.json, err);
	if (r == 0)
		r = document_write(k, &config, d, type, &changed, err);
	if (r < 0)
		return r;
	return replace_label(a, &doc->labels, old, GC_REF ".config", json_str(d, "digest", ""),
			     err);
}

/* *@ret_erofs: some of them are EROFS images now; @diff_ids gets those. */
static int convert_layers(struct converter *k, struct document *doc, int depth, json_t *diff_ids,
			  bool *ret_erofs, struct err *err)
{
	struct erofs_trees trees _cleanup_(erofs_trees_done) = {};
	json_t *layers = json_arr(doc->json, "layers"), *layer;
	size_t i;

	k->trees = &trees;
	json_array_foreach (layers, i, layer) {
		int r;

		k->diff_id.text[0] = 0;
		r = convert_child(k, doc, layer, arena_printf(k->c->ctx.arena, GC_REF ".l.%zu", i),
				  depth + 1, err);
		if (r < 0)
			return r;
		*ret_erofs |= *k->diff_id.text != 0;
		if (json_array_append_new(diff_ids, *k->diff_id.text ? json_string(k->diff_id.text)
								     : json_null()) < 0)
			return err_nomem(err);
	}
	return 0;
}

static int convert_manifest(struct converter *k, json_t *j, const struct descriptor *d, int depth,
			    bool *ret_changed, struct err *err)
{
	struct document doc _cleanup_(document_done) = {};
	json_t *diff_ids _cleanup_json_ = json_array(), *config;
	bool erofs = false;
	int r = diff_ids ? document_read(k, d, &doc, err) : err_nomem(err);

	if (r == 0)
		r = document_type(k, &doc, err);
	if (r == 0)
		r = convert_layers(k, &doc, depth, diff_ids, &erofs, err);
	if (r < 0)
		return r;
	config = json_obj(doc.json, "config");
	if (erofs)
		r = convert_config(k, &doc, config, diff_ids, err);
	if (r == 0)
		r = convert_child(k, &doc, config, GC_REF ".config", depth + 1, err);
	if (r == 0)
		r = document_write(k, &doc, j, d->media_type, ret_changed, err);
	if (r == 0 && erofs && json_obj(j, "platform"))
		r = add_feature(json_obj(j, "platform"), err);
	return r;
}

static bool platform_wanted(const struct converter *k, const json_t *child)
{
	const json_t *p = json_obj(child, "platform");
	const struct platform have = {.os = json_str(p, "os", ""),
				      .arch = json_str(p, "architecture", ""),
				      .variant = json_str(p, "variant", ""),
				      .os_version = json_str(p, "os.version", "")};

	/* The very platform: what its host could run besides is not asked for. */
	for (size_t i = 0; p && i < k->o->n_platforms; i++)
		if (platform_rank(&k->o->platforms[i], &have) == 0)
			return true;
	return !p || !k->o->n_platforms;
}

static int drop_child(struct converter *k, struct document *doc, json_t *manifests, size_t i,
		      struct err *err)
{
	const char *old = json_str(json_array_get(manifests, i), "digest", "");
	int r = replace_label(k->c->ctx.arena, &doc->labels, old, "", NULL, err);

	doc->changed = true;
	if (r == 0 && json_array_remove(manifests, i) < 0)
		r = err_nomem(err);
	return r;
}

static int convert_index(struct converter *k, json_t *j, const struct descriptor *d, int depth,
			 bool *ret_changed, struct err *err)
{
	struct document doc _cleanup_(document_done) = {};
	struct arena *a = k->c->ctx.arena;
	json_t *manifests;
	int r;

	if (depth >= DEPTH_MAX)
		return err_set(err, ERR_INVALID_ARGUMENT, "index %s is nested too deeply",
			       d->digest);
	r = document_read(k, d, &doc, err);
	if (r == 0)
		r = document_type(k, &doc, err);
	if (r < 0)
		return r;
	manifests = json_arr(doc.json, "manifests");
	/* The labels keep the numbers that the children had. */
	for (size_t i = 0, n = 0; r == 0 && i < json_array_size(manifests); n++)
		if (platform_wanted(k, json_array_get(manifests, i))) {
			r = convert_child(k, &doc, json_array_get(manifests, i++),
					  arena_printf(a, GC_REF ".m.%zu", n), depth + 1, err);
		} else {
			r = drop_child(k, &doc, manifests, i, err);
		}
	if (r < 0)
		return r;
	if (json_array_size(manifests) == 0)
		return err_set(err, ERR_NOT_FOUND, "index %s has nothing for the platform",
			       d->digest);
	return document_write(k, &doc, j, d->media_type, ret_changed, err);
}

/* Docker's manifests know no annotations. */
static int drop_annotations(json_t *d, bool *changed)
{
	if (json_object_size(json_object_get(d, "annotations")) == 0)
		return 0;
	*changed = true;
	return json_object_del(d, "annotations");
}

static int convert(struct converter *k, json_t *j, int depth, bool *ret_changed, struct err *err)
{
	struct descriptor d;
	bool changed = false;
	int r;

	r = descriptor_from_json(k->c->ctx.arena, j, &d, err);
	if (r < 0)
		return r;
	if (depth > DEPTH_MAX + 1) /* of manifests that are others' layers, too */
		return err_set(err, ERR_INVALID_ARGUMENT, "%s is nested too deeply", d.digest);
	if (media_is_layer(d.media_type))
		r = convert_layer(k, j, &d, &changed, err);
	else if (media_is_manifest(d.media_type))
		r = convert_manifest(k, j, &d, depth, &changed, err);
	else if (media_is_index(d.media_type))
		r = convert_index(k, j, &d, depth, &changed, err);
	if (r == 0 && str_has_prefix(d.media_type, DOCKER)) {
		const char *type = json_str(j, "mediaType", ""), *oci = convert_media_type(type);

		if (!k->o->oci) {
			r = drop_annotations(j, &changed) < 0 ? err_nomem(err) : 0;
		} else if (!streq(type, oci)) {
			changed = true;
			r = set_string(j, "mediaType", oci, err);
		}
	}
	*ret_changed = changed;
	return r;
}

int convert_image(struct ctr *c, const struct convert_options *o, const struct descriptor *target,
		  struct descriptor *ret, struct err *err)
{
	struct converter k = {.c = c, .o = o};
	json_t *j _cleanup_json_ = json_object(),
		  *notes = j ? json_obj_make(j, "annotations") : NULL;
	bool changed;
	int r = notes ? set_target(j, target->media_type, target->digest, target->size, err)
		      : err_nomem(err);

	for (size_t i = 0; r == 0 && i < target->annotations.n; i++)
		r = set_string(notes, target->annotations.v[i].key, target->annotations.v[i].value,
			       err);
	if (r == 0)
		r = convert(&k, j, 0, &changed, err);
	return r < 0 ? r : descriptor_from_json(c->ctx.arena, j, ret, err);
}
