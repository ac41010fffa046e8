/* SPDX-License-Identifier: Apache-2.0 */
/* ctr images push. The daemon pushes; its progress comes back.
 *
 * A manifest that is named by its digest is pushed through an image record of ours, which expires
 * by itself should we not get to remove it: so any daemon can do it. */
#include "base/time.h"
#include "ctr/cmd_images.h"
#include "ctr/record.h"
#include "ctr/registry.h"

#define RECORD_S 86400
#define UPLOADS_MAX 64

static const struct ctr_flag flags[] = {
	{"platform", 0, CTR_STRINGS,
	 "push what an index has for this platform; all of it by default"},
	{"manifest", 0, CTR_STRING, "digest of the manifest to push, no image is needed"},
	{"manifest-type", 0, CTR_STRING, "media type of that manifest",
	 "application/vnd.oci.image.manifest.v1+json"},
	{"max-concurrent-uploaded-layers", 0, CTR_INT,
	 "layers that are uploaded at the same time; 0 = as the daemon is configured", "0"},
	{"local", 0, CTR_BOOL, "accepted as others write it; the daemon always does the work"},
	{"allow-non-distributable-blobs", 0, CTR_BOOL,
	 "push layers, too, that are marked as not to be distributed"},
	{}};

static int delete_record(struct ctr *c, const char *name, struct err *err)
{
	PB_IMAGES(DeleteImageRequest) req = PB_IMAGES_INIT(DELETE_IMAGE_REQUEST);

	req.name = (char *)name;
	return client_call(c->client, &c->ctx, PB_IMAGES_SERVICE, "Delete", &req.base, NULL, err);
}

/* An image for the manifest --manifest; *@ret_name in the arena. */
static int make_record(struct ctr *c, const char *digest, const char **ret_name, struct err *err)
{
	PB_CONTENT(InfoRequest) info = PB_CONTENT_INIT(INFO_REQUEST);
	PB_IMAGES(CreateImageRequest) req = PB_IMAGES_INIT(CREATE_IMAGE_REQUEST);
	PB_IMAGES(Image) image = PB_IMAGES_INIT(IMAGE);
	PB_TYPES(Descriptor) target = PB_TYPES_INIT(DESCRIPTOR);
	PB_CONTENT(InfoResponse) * have;
	struct labels l = {};
	struct timespec until = {.tv_sec = time_now().tv_sec + RECORD_S};
	const char *expires = record_utc_time(c->ctx.arena, until), *name;
	unsigned char id[8];
	char hex[17];
	int r;

	info.digest = (char *)digest;
	r = client_call(c->client, &c->ctx, PB_CONTENT_SERVICE, "Info", &info.base, &have, err);
	if (r < 0)
		return err_prefix(err, "manifest %.100s", digest);
	random_bytes(id, sizeof(id));
	hex_encode(id, sizeof(id), hex);
	name = arena_printf(c->ctx.arena, "ctr-push-%s", hex);
	if (!name || !expires ||
	    labels_set(c->ctx.arena, &l, "containerd.io/gc.expire", expires) < 0 ||
	    PB_LABELS_OUT(c->ctx.arena, &l,
			  &containerd__services__images__v1__image__labels_entry__descriptor,
			  image.labels, image.n_labels) < 0)
		return err_nomem(err);
	target.media_type = (char *)ctr_string(c, "manifest-type");
	target.digest = (char *)digest;
	target.size = have->info ? have->info->size : 0;
	image.name = (char *)name;
	image.target = &target;
	req.image = &image;
	r = client_call(c->client, &c->ctx, PB_IMAGES_SERVICE, "Create", &req.base, NULL, err);
	if (r == 0)
		*ret_name = name;
	return r;
}

static int push(struct ctr *c, const char *name, struct registry *reg, struct err *err)
{
	PB_TRANSFER_TYPES(ImageStore) store = PB_TRANSFER_TYPES_INIT(IMAGE_STORE);
	struct client_transfer *t _cleanup_(client_transfer_freep) = NULL;
	size_t n;
	int r;

	ctr_strings(c, "platform", &n);
	r = transfer_begin(c, &t, err);
	if (r == 0 && n)
		r = registry_platforms(c, &store.platforms, &store.n_platforms, err);
	if (r == 0)
		r = registry_attach(reg, t, err);
	if (r < 0)
		return r;
	client_transfer_options(t)->max_concurrent_uploads =
		(uint32_t)ctr_int(c, "max-concurrent-uploaded-layers");
	client_transfer_options(t)->allow_non_distributable =
		ctr_bool(c, "allow-non-distributable-blobs");
	store.name = (char *)name;
	return transfer_show(t, &store.base, &reg->message.base, stdout, err);
}

static int run_push(struct ctr *c, struct err *err)
{
	struct registry reg _cleanup_registry_ = {};
	const char *remote, *local, *manifest = ctr_string(c, "manifest");
	int64_t uploads = ctr_int(c, "max-concurrent-uploaded-layers");
	int r;

	if (uploads < 0 || uploads > UPLOADS_MAX)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "--max-concurrent-uploaded-layers must be between 0 and %d",
			       UPLOADS_MAX);
	r = record_arg(c, 0, "remote image reference", &remote, err);
	if (r == 0)
		r = registry_init(c, remote, &reg, err);
	if (r == 0)
		r = ctr_connect(c, err);
	if (r < 0)
		return r;
	local = c->n_args > 1 ? c->args[1] : remote;
	if (*manifest)
		r = make_record(c, manifest, &local, err);
	if (r < 0)
		return r;
	r = push(c, local, &reg, err);
	if (*manifest) {
		struct err e = ERR_INIT;

		(void)record_undo_begin(c);
		if (delete_record(c, local, &e) < 0)
			ctr_warn("remove image record \"%s\": %s", local, e.text);
	}
	return r;
}

const struct ctr_command images_push = {
	.name = "push",
	.usage = "push an image to a registry",
	.args = "[flags] <remote> [<local>]",
	.description =
		"   The daemon sends the image <local> (<remote> when not given) to the registry, "
		"blobs first, and the progress is shown.\n"
		"   Layers that the registry has in another repository are not sent again. "
		"Credentials are found as for `ctr images pull`.",
	.flags = CTR_FLAGS(registry_flags, flags),
	.names = CTR_NAMES_IMAGES,
	.more = CTR_NAMES_IMAGES,
	.run = run_push,
};
