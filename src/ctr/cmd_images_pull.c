/* SPDX-License-Identifier: Apache-2.0 */
/* ctr images pull. The daemon pulls; what is given here goes to it, and its progress comes
 * back. */
#include "ctr/cmd_images.h"
#include "client/image.h"
#include "ctr/record.h"
#include "ctr/registry.h"

#define DOWNLOADS_MAX 64

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
	 "layers that are fetched at the same time; 0 = as the daemon is configured", "0"},
	{"sync-fs", 0, CTR_BOOL,
	 "have each layer on the disk before its snapshot is made, also where the daemon's "
	 "configuration does not ask for it"},
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
	struct client_image image _cleanup_client_image_ = {};
	size_t n;
	const char **platforms = ctr_strings(c, "platform", &n);
	int r;

	r = client_image_load(c->client, &c->ctx, name, n ? platforms[0] : "", &image, err);
	if (r == 0)
		printf("image chain ID: %s\n", image.chain_id);
	return r;
}

static int pull(struct ctr *c, const char *name, struct registry *reg, struct err *err)
{
	PB_TRANSFER_TYPES(ImageStore) store = PB_TRANSFER_TYPES_INIT(IMAGE_STORE);
	struct client_transfer *t _cleanup_(client_transfer_freep) = NULL;
	int r;

	r = transfer_begin(c, &t, err);
	if (r == 0)
		r = fill_store(c, &store, err);
	if (r == 0)
		r = registry_attach(reg, t, err);
	if (r < 0)
		return r;
	client_transfer_options(t)->max_concurrent_downloads =
		(uint32_t)ctr_int(c, "max-concurrent-downloads");
	client_transfer_options(t)->sync_fs = ctr_bool(c, "sync-fs");
	store.name = (char *)name;
	return transfer_show(t, &reg->message.base, &store.base, stdout, err);
}

static int run_pull(struct ctr *c, struct err *err)
{
	struct registry reg _cleanup_registry_ = {};
	int64_t downloads = ctr_int(c, "max-concurrent-downloads");
	const char *name;
	int r;

	if (downloads < 0 || downloads > DOWNLOADS_MAX)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "--max-concurrent-downloads must be between 0 and %d",
			       DOWNLOADS_MAX);
	r = record_arg(c, 0, "image reference", &name, err);
	if (r == 0)
		r = registry_init(c, name, &reg, err);
	if (r == 0)
		r = pull(c, name, &reg, err);
	if (r == 0 && ctr_bool(c, "print-chainid"))
		r = print_chain_id(c, name, err);
	return r;
}

const struct ctr_command images_pull = {
	.name = "pull",
	.usage = "pull an image from a registry",
	.args = "[flags] <ref>",
	.description =
		"   The daemon fetches the image and unpacks it, and the progress is shown. "
		"Without --user the credentials that `docker login`,\n"
		"   `podman login` and the like have stored for the registry are used, or what "
		"the credential helpers that they name say: from\n"
		"   $REGISTRY_AUTH_FILE, or $DOCKER_CONFIG/config.json or "
		"~/.docker/config.json, or $XDG_RUNTIME_DIR/containers/auth.json. Mirrors\n"
		"   and certificates are found where the daemon's configuration says, else in "
		"/etc/containerd/certs.d and /etc/docker/certs.d.",
	.flags = CTR_FLAGS(registry_flags, pull_flags),
	.run = run_pull,
};
