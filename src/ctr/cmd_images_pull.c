/* SPDX-License-Identifier: Apache-2.0 */
/* ctr images pull, push. The daemon pulls; what is given here goes to it, and its progress comes
 * back. */
#include "ctr/cmd_images.h"
#include "ctr/image.h"
#include "ctr/record.h"
#include "ctr/registry.h"

static const struct ctr_flag pull_flags[] = {
	{"platform", 0, CTR_STRINGS, "pull for this platform only; this host's when not given"},
	{"all-platforms", 0, CTR_BOOL, "pull for all platforms"},
	{"snapshotter", 0, CTR_STRING, "snapshotter; the namespace's default when not given", NULL,
	 "CONTAINERD_SNAPSHOTTER"},
	{"label", 0, CTR_STRINGS, "label of the image, key=value"},
	{"skip-metadata", 0, CTR_BOOL, "leave out the documents of other platforms"},
	{"print-chainid", 0, CTR_BOOL, "print the chain ID of the image's layers"},
	{"local", 0, CTR_BOOL, "accepted as others write it; the daemon always does the work"},
	{"max-concurrent-downloads", 0, CTR_INT,
	 "not implemented: the daemon's configuration says it", "0"},
	{"sync-fs", 0, CTR_BOOL,
	 "accepted as others write it; the daemon's diff-service.sync_fs decides"},
	{}};

/* The message, without its name: labels, platforms, what is to be unpacked. */
static int fill_store(struct ctr *c, PB_TRANSFER_TYPES(ImageStore) * store, struct err *err)
{
	const char **words;
	PB_TYPES(Platform) * *platforms;
	struct labels l = {};
	size_t n;
	int r;

	words = ctr_strings(c, "label", &n);
	r = ctr_parse_labels(c->ctx.arena, words, n, &l, err);
	if (r < 0)
		return r;
	if (PB_LABELS_OUT(c->ctx.arena, &l,
			  &containerd__types__transfer__image_store__labels_entry__descriptor,
			  store->labels, store->n_labels) < 0)
		return err_nomem(err);
	r = registry_platforms(c, &platforms, &n, err);
	if (r == 0)
		r = registry_unpacks(c, platforms, n, store, err);
	if (r < 0)
		return r;
	if (!ctr_bool(c, "all-platforms")) {
		store->platforms = platforms;
		store->n_platforms = n;
	}
	store->all_metadata = !ctr_bool(c, "skip-metadata");
	return 0;
}

static int print_chain_id(struct ctr *c, const char *name, struct err *err)
{
	struct image image _cleanup_image_ = {};
	size_t n;
	const char **platforms = ctr_strings(c, "platform", &n);
	int r;

	r = image_load(c, name, n ? platforms[0] : "", &image, err);
	if (r == 0)
		printf("image chain ID: %s\n", image.chain_id);
	return r;
}

static int pull(struct ctr *c, const char *name, struct registry *reg, struct err *err)
{
	PB_TRANSFER_TYPES(ImageStore) store = PB_TRANSFER_TYPES_INIT(IMAGE_STORE);
	struct transfer *t _cleanup_(transfer_freep) = NULL;
	int r;

	r = transfer_new(c, &t, err);
	if (r == 0)
		r = fill_store(c, &store, err);
	if (r == 0)
		r = registry_attach(reg, t, err);
	if (r < 0)
		return r;
	store.name = (char *)name;
	return transfer_run(t, &reg->message.base, &store.base, stdout, err);
}

static int run_pull(struct ctr *c, struct err *err)
{
	struct registry reg _cleanup_registry_ = {};
	const char *name;
	int r;

	if (ctr_int(c, "max-concurrent-downloads") != 0)
		return err_set(err, ERR_UNIMPLEMENTED,
			       "--max-concurrent-downloads: set max_concurrent_downloads in the "
			       "daemon's configuration");
	r = record_arg(c, 0, "image reference", &name, err);
	if (r == 0)
		r = registry_init(c, name, &reg, err);
	if (r == 0)
		r = pull(c, name, &reg, err);
	if (r == 0 && ctr_bool(c, "print-chainid"))
		r = print_chain_id(c, name, err);
	return r;
}

static const struct ctr_flag push_flags[] = {
	{"platform", 0, CTR_STRINGS, "push this platform only"},
	{"manifest", 0, CTR_STRING, "digest of the manifest to push"},
	{"manifest-type", 0, CTR_STRING, "media type of that manifest",
	 "application/vnd.oci.image.manifest.v1+json"},
	{"max-concurrent-uploaded-layers", 0, CTR_INT, "layers that are uploaded at the same time",
	 "0"},
	{"local", 0, CTR_BOOL, "accepted as others write it"},
	{"allow-non-distributable-blobs", 0, CTR_BOOL,
	 "push layers that are marked as not to be distributed"},
	{}};

const struct ctr_command images_pull = {
	.name = "pull",
	.usage = "pull an image from a registry",
	.args = "[flags] <ref>",
	.description = "   The daemon fetches the image and unpacks it, and the progress is shown. "
		       "Without --user the credentials that `docker login`\n"
		       "   has stored for the registry are used ($DOCKER_CONFIG/config.json or "
		       "~/.docker/config.json), but no credential helpers.",
	.flags = CTR_FLAGS(registry_flags, pull_flags),
	.run = run_pull,
};
const struct ctr_command images_push = {
	.name = "push",
	.usage = "push an image to a registry (not implemented)",
	.args = "[flags] <remote> [<local>]",
	.flags = CTR_FLAGS(registry_flags, push_flags),
	.run = record_unimplemented,
};
