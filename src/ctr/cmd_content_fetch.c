/* SPDX-License-Identifier: Apache-2.0 */
/* ctr content fetch: an image's content and record, without snapshots. The daemon fetches, but for
 * --metadata-only, which the transfer service does not know: then documents are fetched here and
 * written into the content store. */
#include "ctr/cmd_content.h"
#include "ctr/record.h"
#include "ctr/remote.h"
#include "oci/manifest.h"

#define DEPTH_MAX 4
#define CONFIG_MAX ((size_t)8 << 20)

static const struct ctr_flag fetch_flags[] = {
	{"platform", 0, CTR_STRINGS, "fetch for this platform only; this host's when not given"},
	{"label", 0, CTR_STRINGS, "label of the image, key=value"},
	{"all-platforms", 0, CTR_BOOL, "fetch for all platforms"},
	{"skip-metadata", 0, CTR_BOOL, "leave out the documents of other platforms"},
	{"metadata-only", 0, CTR_BOOL,
	 "fetch the documents of all platforms (indexes, manifests, configurations), no layers"},
	{}};

static int read_labels(struct ctr *c, struct labels *ret, struct err *err)
{
	size_t n;
	const char **words = ctr_strings(c, "label", &n);

	return ctr_parse_labels(c->ctx.arena, words, n, ret, err);
}

/* ---- By the daemon ---- */

static int fill_store(struct ctr *c, const char *name, PB_TRANSFER_TYPES(ImageStore) * store,
		      struct err *err)
{
	PB_TYPES(Platform) * *platforms;
	struct labels l = {};
	size_t n;
	int r;

	r = read_labels(c, &l, err);
	if (r == 0)
		r = registry_platforms(c, &platforms, &n, err);
	if (r < 0)
		return r;
	if (PB_LABELS_OUT(c->ctx.arena, &l,
			  &containerd__types__transfer__image_store__labels_entry__descriptor,
			  store->labels, store->n_labels) < 0)
		return err_nomem(err);
	store->name = (char *)name;
	store->all_metadata = !ctr_bool(c, "skip-metadata");
	if (!ctr_bool(c, "all-platforms")) {
		store->platforms = platforms;
		store->n_platforms = n;
	}
	return 0;
}

static int fetch_all(struct ctr *c, const char *name, struct err *err)
{
	PB_TRANSFER_TYPES(ImageStore) store = PB_TRANSFER_TYPES_INIT(IMAGE_STORE);
	struct registry reg _cleanup_registry_ = {};
	struct client_transfer *t _cleanup_(client_transfer_freep) = NULL;
	int r;

	r = registry_init(c, name, &reg, err);
	if (r == 0)
		r = transfer_begin(c, &t, err);
	if (r == 0)
		r = fill_store(c, name, &store, err);
	if (r == 0)
		r = registry_attach(&reg, t, err);
	return r < 0 ? r : transfer_show(t, &reg.message.base, &store.base, stdout, err);
}

/* ---- Documents alone ---- */

struct document {
	struct buf text;
	size_t max;
};

static int collect(void *arg, const void *p, size_t n, struct err *err)
{
	struct document *d = arg;

	if (n > d->max - d->text.len)
		return err_set(err, ERR_RESOURCE_EXHAUSTED, "document is larger than %zu bytes",
			       d->max);
	return buf_add(&d->text, p, n) < 0 ? err_nomem(err) : 0;
}

static int store_document(struct ctr *c, const struct descriptor *d, const struct document *doc,
			  const struct labels *labels, struct err *err)
{
	const char *ref = descriptor_ref_key(c->ctx.arena, d);
	struct digest stored;
	int r;

	if (!ref)
		return err_nomem(err);
	r = client_content_put(c->client, &c->ctx, ref, doc->text.data ? doc->text.data : "",
			       doc->text.len, labels, &stored, err);
	/* The client digests by SHA-256. */
	if (r == 0 && !streq(stored.text, d->digest))
		return err_set(err, ERR_UNIMPLEMENTED, "--metadata-only with the digest %s",
			       d->digest);
	return r;
}

static int fetch_document(struct remote *remote, const struct descriptor *d, struct document *doc,
			  struct err *err)
{
	struct fetch_descriptor f = {.size = d->size};

	if (strlen(d->media_type) >= sizeof(f.media_type))
		return err_set(err, ERR_INVALID_ARGUMENT, "media type of %s is too long",
			       d->digest);
	snprintf(f.media_type, sizeof(f.media_type), "%s", d->media_type);
	snprintf(f.digest.text, sizeof(f.digest.text), "%s", d->digest);
	return remote_fetch(remote, &f, collect, doc, err);
}

static int fetch_config(struct ctr *c, struct remote *remote, const struct descriptor *d,
			struct err *err)
{
	struct document doc = {.max = CONFIG_MAX};
	int r;

	r = fetch_document(remote, d, &doc, err);
	if (r == 0)
		r = store_document(c, d, &doc, NULL, err);
	buf_done(&doc.text);
	return r < 0 ? err_prefix(err, "configuration %s", d->digest) : 0;
}

static int fetch_tree(struct ctr *c, struct remote *remote, const struct descriptor *d, int depth,
		      struct err *err);

static int fetch_children(struct ctr *c, struct remote *remote, const struct manifest *m, int depth,
			  struct err *err)
{
	int r = 0;

	if (!m->is_index)
		return media_is_config(m->config.media_type)
			       ? fetch_config(c, remote, &m->config, err)
			       : 0;
	for (size_t i = 0; r == 0 && i < m->n_manifests; i++)
		if (media_is_manifest(m->manifests[i].desc.media_type) ||
		    media_is_index(m->manifests[i].desc.media_type))
			r = fetch_tree(c, remote, &m->manifests[i].desc, depth + 1, err);
	return r;
}

static int fetch_tree(struct ctr *c, struct remote *remote, const struct descriptor *d, int depth,
		      struct err *err)
{
	struct document doc = {.max = MANIFEST_MAX};
	struct labels labels = {};
	struct manifest m;
	int r;

	if (depth >= DEPTH_MAX)
		return err_set(err, ERR_INVALID_ARGUMENT, "index is nested too deeply");
	r = fetch_document(remote, d, &doc, err);
	if (r == 0)
		r = manifest_parse(c->ctx.arena, d->media_type, doc.text.data ? doc.text.data : "",
				   doc.text.len, &m, err);
	if (r == 0)
		r = fetch_children(c, remote, &m, depth, err);
	if (r == 0 && manifest_gc_labels(c->ctx.arena, &m, &labels) < 0)
		r = err_nomem(err);
	if (r == 0)
		r = store_document(c, d, &doc, &labels, err);
	buf_done(&doc.text);
	return r;
}

static int store_image(struct ctr *c, const char *name, const struct descriptor *d, struct err *err)
{
	PB_IMAGES(CreateImageRequest) create = PB_IMAGES_INIT(CREATE_IMAGE_REQUEST);
	PB_IMAGES(UpdateImageRequest) update = PB_IMAGES_INIT(UPDATE_IMAGE_REQUEST);
	PB_TYPES(Descriptor) target = PB_TYPES_INIT(DESCRIPTOR);
	PB_IMAGES(Image) image = PB_IMAGES_INIT(IMAGE);
	struct err e = ERR_INIT;
	struct labels l = {};
	int r;

	r = read_labels(c, &l, err);
	if (r < 0)
		return r;
	if (PB_LABELS_OUT(c->ctx.arena, &l,
			  &containerd__services__images__v1__image__labels_entry__descriptor,
			  image.labels, image.n_labels) < 0)
		return err_nomem(err);
	target.media_type = (char *)d->media_type;
	target.digest = (char *)d->digest;
	target.size = d->size;
	image.name = (char *)name;
	image.target = &target;
	create.image = update.image = &image;
	r = client_call(c->client, &c->ctx, PB_IMAGES_SERVICE, "Create", &create.base, NULL, &e);
	if (r == -ERR_ALREADY_EXISTS)
		return client_call(c->client, &c->ctx, PB_IMAGES_SERVICE, "Update", &update.base,
				   NULL, err);
	return r < 0 ? err_copy(err, &e) : 0;
}

static int fetch_metadata(struct ctr *c, const char *name, struct err *err)
{
	struct remote remote _cleanup_remote_ = {};
	struct fetch_descriptor f;
	struct descriptor d;
	int r;

	r = remote_open(c, name, "", false, &remote, err);
	if (r == 0)
		r = fetch_resolve(remote.session, &c->ctx, &f, err);
	if (r < 0)
		return r;
	d = (struct descriptor){
		.media_type = f.media_type, .digest = f.digest.text, .size = f.size};
	r = fetch_tree(c, &remote, &d, 0, err);
	if (r == 0)
		r = store_image(c, name, &d, err);
	if (r == 0)
		puts(d.digest);
	return r;
}

static int run_fetch(struct ctr *c, struct err *err)
{
	const char *name;
	int r;

	r = record_arg(c, 0, "remote", &name, err);
	if (r < 0 || !ctr_bool(c, "metadata-only"))
		return r < 0 ? r : fetch_all(c, name, err);
	r = ctr_connect(c, err);
	if (r == 0)
		r = record_lease_begin(c, err);
	if (r < 0)
		return r;
	r = fetch_metadata(c, name, err);
	record_lease_end(c);
	return r;
}

const struct ctr_command content_fetch = {
	.name = "fetch",
	.usage = "fetch an image's content, but do not unpack it",
	.args = "[flags] <remote> <object>",
	.flags = CTR_FLAGS(registry_flags, fetch_flags),
	.run = run_fetch,
};
