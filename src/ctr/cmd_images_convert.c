/* SPDX-License-Identifier: Apache-2.0 */
/* ctr images convert: see convert.h for what is done; here it becomes an image. */
#include "ctr/cmd_images.h"
#include "ctr/convert.h"
#include "ctr/record.h"
#include "oci/platform.h"

static const struct ctr_flag convert_flags[] = {
	{"uncompress", 0, CTR_BOOL, "convert compressed layers to plain tar layers"},
	{"oci", 0, CTR_BOOL, "convert Docker media types to OCI's"},
	{"erofs", 0, CTR_STRING, "convert layers to EROFS images: raw or zstd"},
	{"erofs-compressors", 0, CTR_STRING, "with --erofs: compressors of the file system"},
	{"erofs-mkfs-options", 0, CTR_STRING, "with --erofs: options of mkfs.erofs"},
	{"platform", 0, CTR_STRINGS,
	 "keep this platform of an index only; this host's when not given"},
	{"all-platforms", 0, CTR_BOOL, "keep all platforms; all must be there"},
	{}};

static int read_platforms(struct ctr *c, struct convert_options *o, struct err *err)
{
	size_t n;
	const char **words = ctr_strings(c, "platform", &n);
	struct platform *v = arena_new_array(c->ctx.arena, struct platform, n + 1);
	int r = 0;

	if (!v)
		return err_nomem(err);
	if (ctr_bool(c, "all-platforms"))
		return 0;
	for (size_t i = 0; r == 0 && i < n; i++)
		r = platform_parse(c->ctx.arena, words[i], &v[i], err);
	if (r == 0 && n == 0 && platform_host(c->ctx.arena, &v[0]) < 0)
		r = err_nomem(err);
	o->platforms = v;
	o->n_platforms = MAX(n, 1u);
	return r;
}

static const char *const *words_of(struct arena *a, const char *text, size_t *ret_n)
{
	char *copy = arena_strdup(a, text), *save = NULL;
	const char **v = arena_new_array(a, const char *, strlen(text) / 2 + 2);

	*ret_n = 0;
	if (!copy || !v)
		return NULL;
	for (char *w = strtok_r(copy, " \t\n", &save); w; w = strtok_r(NULL, " \t\n", &save))
		v[(*ret_n)++] = w;
	return v;
}

static int read_options(struct ctr *c, struct convert_options *ret, struct err *err)
{
	const char *erofs = ctr_string(c, "erofs");
	struct convert_options o = {.uncompress = ctr_bool(c, "uncompress"),
				    .oci = ctr_bool(c, "oci")};
	int r;

	if (ctr_is_set(c, "erofs") && !streq(erofs, "raw") && !streq(erofs, "zstd"))
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "unsupported erofs format \"%s\", supported: raw, zstd", erofs);
	o.erofs = ctr_is_set(c, "erofs");
	o.erofs_zstd = o.erofs && streq(erofs, "zstd");
	o.erofs_compressors = ctr_string(c, "erofs-compressors");
	o.erofs_options =
		words_of(c->ctx.arena, ctr_string(c, "erofs-mkfs-options"), &o.n_erofs_options);
	if (!o.erofs_options)
		return err_nomem(err);
	r = read_platforms(c, &o, err);
	if (r == 0)
		*ret = o;
	return r;
}

static int target_from_pb(struct ctr *c, const PB_TYPES(Descriptor) * from, struct descriptor *ret,
			  struct err *err)
{
	struct descriptor d = {
		.media_type = from->media_type, .digest = from->digest, .size = from->size};

	if (PB_LABELS_IN(c->ctx.arena, from->annotations, from->n_annotations, &d.annotations) < 0)
		return err_nomem(err);
	*ret = d;
	return 0;
}

/* The source's record under the new name, in place of what has it. */
static int store(struct ctr *c, const PB_IMAGES(Image) * source, const char *name,
		 const struct descriptor *d, struct err *err)
{
	PB_IMAGES(CreateImageRequest) create = PB_IMAGES_INIT(CREATE_IMAGE_REQUEST);
	PB_IMAGES(UpdateImageRequest) update = PB_IMAGES_INIT(UPDATE_IMAGE_REQUEST);
	PB_TYPES(Descriptor) target = PB_TYPES_INIT(DESCRIPTOR);
	PB_IMAGES(Image) image = *source;
	struct err e = ERR_INIT;
	int r;

	target.media_type = (char *)d->media_type;
	target.digest = (char *)d->digest;
	target.size = d->size;
	if (PB_LABELS_OUT(c->ctx.arena, &d->annotations,
			  &containerd__types__descriptor__annotations_entry__descriptor,
			  target.annotations, target.n_annotations) < 0)
		return err_nomem(err);
	image.name = (char *)name;
	image.target = &target;
	image.created_at = image.updated_at = NULL;
	create.image = update.image = &image;
	r = client_call(c->client, &c->ctx, PB_IMAGES_SERVICE, "Create", &create.base, NULL, &e);
	if (r == -ERR_ALREADY_EXISTS)
		return client_call(c->client, &c->ctx, PB_IMAGES_SERVICE, "Update", &update.base,
				   NULL, err);
	return r < 0 ? err_copy(err, &e) : 0;
}

static int convert_leased(struct ctr *c, const struct convert_options *o, const char *from,
			  const char *to, struct err *err)
{
	struct descriptor target, converted;
	PB_IMAGES(Image) * image;
	int r;

	r = client_image_get(c->client, &c->ctx, from, &image, err);
	if (r == 0)
		r = target_from_pb(c, image->target, &target, err);
	if (r == 0)
		r = convert_image(c, o, &target, &converted, err);
	if (r == 0)
		r = store(c, image, to, &converted, err);
	if (r == 0)
		puts(converted.digest);
	return r;
}

static int run_convert(struct ctr *c, struct err *err)
{
	struct convert_options o;
	int r;

	if (!*ctr_arg(c, 0) || !*ctr_arg(c, 1))
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "src and target image need to be specified");
	r = read_options(c, &o, err);
	if (r == 0)
		r = ctr_connect(c, err);
	if (r == 0)
		r = record_lease_begin(c, err);
	if (r < 0)
		return r;
	r = convert_leased(c, &o, ctr_arg(c, 0), ctr_arg(c, 1), err);
	record_lease_end(c);
	return r;
}

const struct ctr_command images_convert = {
	.name = "convert",
	.usage = "convert an image",
	.args = "[flags] <source_ref> <target_ref>",
	.description =
		"   The new image has what the flags ask for, and of the old one all that they "
		"do not touch; without a change both have the\n"
		"   same digest, which is printed. Layers are decompressed by "
		"containerd-worker, which is looked for beside ctr, then in PATH.",
	.flags = CTR_FLAGS(convert_flags),
	.names = CTR_NAMES_IMAGES,
	.run = run_convert,
};
