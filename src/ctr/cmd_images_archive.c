/* SPDX-License-Identifier: Apache-2.0 */
/* ctr images import, export: archives as standard streams or files of ours; the daemon gets and
 * gives bytes. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/time.h"
#include "ctr/cmd_images.h"
#include "ctr/image_stored.h"
#include "ctr/record.h"
#include "ctr/registry.h"

/* ---- import ---- */

static const struct ctr_flag import_flags[] = {
	{"base-name", 0, CTR_STRING,
	 "name of images that the archive gives only a tag; others are left out"},
	{"digests", 0, CTR_BOOL, "also make an image named after each digest"},
	{"skip-digest-for-named", 0, CTR_BOOL, "with --digests: not for images that have a name"},
	{"index-name", 0, CTR_STRING, "name of an image for the archive's index as a whole"},
	{"all-platforms", 0, CTR_BOOL, "import for all platforms"},
	{"platform", 0, CTR_STRING, "import for this platform only"},
	{"no-unpack", 0, CTR_BOOL, "do not unpack the images"},
	{"local", 0, CTR_BOOL, "accepted as others write it; the daemon always does the work"},
	{"compress-blobs", 0, CTR_BOOL,
	 "compress layers of a docker archive that are not compressed"},
	{"discard-unpacked-layers", 0, CTR_BOOL,
	 "let the layers of what was unpacked be collected as garbage"},
	{"sync-fs", 0, CTR_BOOL,
	 "have each layer on the disk before its snapshot is made, also where the daemon's "
	 "configuration does not ask for it"},
	{"snapshotter", 0, CTR_STRING, "snapshotter; the namespace's default when not given", NULL,
	 "CONTAINERD_SNAPSHOTTER"},
	{"label", 0, CTR_STRINGS, "label of the images, key=value"},
	{}};

/* What names in the archive become: with a prefix of our own making they may say something else
 * entirely. */
static int add_reference(struct ctr *c, PB_TRANSFER_TYPES(ImageStore) * store, struct err *err)
{
	PB_TRANSFER_TYPES(ImageReference) *ref =
		arena_new_obj(c->ctx.arena, PB_TRANSFER_TYPES(ImageReference));
	const char *base = ctr_string(c, "base-name");
	char today[40];

	store->extra_references =
		arena_new_array(c->ctx.arena, PB_TRANSFER_TYPES(ImageReference) *, 1);
	if (!ref || !store->extra_references)
		return err_nomem(err);
	containerd__types__transfer__image_reference__init(ref);
	ref->allow_overwrite = !*base;
	if (!*base) {
		record_local_time(time_now(), today);
		base = arena_printf(c->ctx.arena, "import-%.10s", today);
		if (!base)
			return err_nomem(err);
	}
	ref->name = (char *)base;
	ref->is_prefix = true;
	ref->add_digest = ctr_bool(c, "digests");
	ref->skip_named_digest = ref->add_digest && ctr_bool(c, "skip-digest-for-named");
	store->extra_references[store->n_extra_references++] = ref;
	return 0;
}

static int fill_store(struct ctr *c, PB_TRANSFER_TYPES(ImageStore) * store, struct err *err)
{
	const char **words;
	PB_TYPES(Platform) * *platforms;
	struct labels l = {};
	size_t n;
	int r;

	words = ctr_strings(c, "label", &n);
	r = ctr_parse_labels(c->ctx.arena, words, n, &l, err);
	if (r == 0)
		r = add_reference(c, store, err);
	if (r < 0)
		return r;
	if (PB_LABELS_OUT(c->ctx.arena, &l,
			  &containerd__types__transfer__image_store__labels_entry__descriptor,
			  store->labels, store->n_labels) < 0)
		return err_nomem(err);
	store->name = (char *)ctr_string(c, "index-name");
	r = registry_platforms(c, &platforms, &n, err);
	if (r == 0 && !ctr_bool(c, "no-unpack"))
		r = registry_unpacks(c, platforms, n, store, err);
	/* Nothing said: all that the archive has is stored, what suits this host is unpacked. */
	if (r == 0 && ctr_is_set(c, "platform") && !ctr_bool(c, "all-platforms")) {
		store->platforms = platforms;
		store->n_platforms = n;
	}
	return r;
}

static int import(struct ctr *c, int fd, struct err *err)
{
	PB_TRANSFER_TYPES(ImageImportStream) from = PB_TRANSFER_TYPES_INIT(IMAGE_IMPORT_STREAM);
	PB_TRANSFER_TYPES(ImageStore) store = PB_TRANSFER_TYPES_INIT(IMAGE_STORE);
	struct client_transfer *t _cleanup_(client_transfer_freep) = NULL;
	const char *id;
	int r;

	r = transfer_begin(c, &t, err);
	if (r == 0)
		r = fill_store(c, &store, err);
	if (r == 0)
		r = client_transfer_add_source(t, fd, &id, err);
	if (r < 0)
		return r;
	from.stream = (char *)id;
	from.force_compress = ctr_bool(c, "compress-blobs");
	client_transfer_options(t)->sync_fs = ctr_bool(c, "sync-fs");
	r = transfer_show(t, &from.base, &store.base, stdout, err);
	if (r == 0 && ctr_bool(c, "discard-unpacked-layers"))
		r = image_stored_discard_layers(c, client_transfer_saved(t), err);
	return r;
}

/* When its lease goes, what was discarded is collected. */
static int import_leased(struct ctr *c, int fd, struct err *err)
{
	int r;

	if (!ctr_bool(c, "discard-unpacked-layers"))
		return import(c, fd, err);
	r = ctr_connect(c, err);
	if (r == 0)
		r = record_lease_begin(c, err);
	if (r < 0)
		return r;
	r = import(c, fd, err);
	record_lease_end(c);
	return r;
}

static int check_flags(struct ctr *c, struct err *err)
{
	if (ctr_bool(c, "skip-digest-for-named") && !ctr_bool(c, "digests"))
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "--skip-digest-for-named must be specified with --digests option");
	if (ctr_bool(c, "discard-unpacked-layers") && ctr_bool(c, "no-unpack"))
		return err_set(
			err, ERR_INVALID_ARGUMENT,
			"--discard-unpacked-layers and --no-unpack are incompatible options");
	return 0;
}

static int run_import(struct ctr *c, struct err *err)
{
	int fd _cleanup_close_ = -1;
	const char *path;
	int r;

	r = check_flags(c, err);
	if (r == 0)
		r = record_arg(c, 0, "archive", &path, err);
	if (r < 0)
		return r;
	if (streq(path, "-"))
		return import_leased(c, STDIN_FILENO, err);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? err_errno(err, errno, "open `%s`", path) : import_leased(c, fd, err);
}

/* ---- export ---- */

static const struct ctr_flag export_flags[] = {
	{"skip-manifest-json", 0, CTR_BOOL, "leave out what `docker load` reads"},
	{"skip-non-distributable", 0, CTR_BOOL,
	 "leave out layers that are marked as not to be distributed"},
	{"platform", 0, CTR_STRINGS, "export this platform only; this host's when not given"},
	{"all-platforms", 0, CTR_BOOL, "export all platforms"},
	{"local", 0, CTR_BOOL, "accepted as others write it; the daemon always does the work"},
	{}};

/* The images, as further names of a store without a name. */
static int fill_source(struct ctr *c, PB_TRANSFER_TYPES(ImageStore) * store, struct err *err)
{
	struct arena *a = c->ctx.arena;

	store->extra_references =
		arena_new_array(a, PB_TRANSFER_TYPES(ImageReference) *, c->n_args);
	for (size_t i = 1; store->extra_references && i < c->n_args; i++) {
		PB_TRANSFER_TYPES(ImageReference) *ref =
			arena_new_obj(a, PB_TRANSFER_TYPES(ImageReference));

		if (!ref)
			return err_nomem(err);
		containerd__types__transfer__image_reference__init(ref);
		ref->name = (char *)c->args[i];
		store->extra_references[store->n_extra_references++] = ref;
	}
	return store->extra_references ? 0 : err_nomem(err);
}

static int export_to(struct ctr *c, int fd, struct err *err)
{
	PB_TRANSFER_TYPES(ImageExportStream) to = PB_TRANSFER_TYPES_INIT(IMAGE_EXPORT_STREAM);
	PB_TRANSFER_TYPES(ImageStore) store = PB_TRANSFER_TYPES_INIT(IMAGE_STORE);
	struct client_transfer *t _cleanup_(client_transfer_freep) = NULL;
	const char *id;
	int r;

	r = transfer_begin(c, &t, err);
	if (r == 0)
		r = fill_source(c, &store, err);
	if (r == 0)
		r = registry_platforms(c, &to.platforms, &to.n_platforms, err);
	if (r == 0)
		r = client_transfer_add_sink(t, fd, &id, err);
	if (r < 0)
		return r;
	to.stream = (char *)id;
	to.all_platforms = ctr_bool(c, "all-platforms");
	if (to.all_platforms)
		to.n_platforms = 0;
	to.skip_compatibility_manifest = ctr_bool(c, "skip-manifest-json");
	to.skip_non_distributable = ctr_bool(c, "skip-non-distributable");
	/* The archive's bytes and the progress must not meet. */
	return transfer_show(t, &store.base, &to.base, fd == STDOUT_FILENO ? stderr : stdout, err);
}

/* A file that holds half an archive is not left behind, unless it is a device or a pipe. */
static void remove_partial(int fd, const char *path)
{
	struct stat st;

	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && unlink(path) < 0)
		ctr_warn("remove `%s`: %s", path, strerror(errno));
}

static int run_export(struct ctr *c, struct err *err)
{
	int fd _cleanup_close_ = -1;
	const char *path, *image;
	int r;

	r = record_arg(c, 0, "output file", &path, err);
	if (r == 0)
		r = record_arg(c, 1, "image", &image, err);
	if (r < 0)
		return r;
	/* Nothing is written or truncated before the daemon is known to be there and the images
	 * too. */
	r = ctr_connect(c, err);
	for (size_t i = 1; r == 0 && i < c->n_args; i++) {
		PB_IMAGES(Image) * record;

		r = client_image_get(c->client, &c->ctx, c->args[i], &record, err);
	}
	if (r < 0)
		return r;
	if (streq(path, "-"))
		return export_to(c, STDOUT_FILENO, err);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (fd < 0)
		return err_errno(err, errno, "open `%s`", path);
	r = export_to(c, fd, err);
	if (r < 0)
		remove_partial(fd, path);
	return r;
}

const struct ctr_command images_import = {
	.name = "import",
	.usage = "import images from an archive",
	.args = "[flags] <in>",
	.description = "   <in> is a tar archive of an OCI layout or of `docker save`, compressed "
		       "or not; - is standard input. Images that the archive\n"
		       "   names only by a tag get the prefix import-<date>, or --base-name.",
	.flags = CTR_FLAGS(import_flags),
	.names = CTR_NAMES_FILES,
	.run = run_import,
};
const struct ctr_command images_export = {
	.name = "export",
	.usage = "export images as an archive",
	.args = "[flags] <out> <image> ...",
	.description = "   The archive is an OCI layout that `docker load` reads too. - is "
		       "standard output; the progress goes to standard error then.",
	.flags = CTR_FLAGS(export_flags),
	.names = CTR_NAMES_FILES,
	.more = CTR_NAMES_IMAGES,
	.run = run_export,
};
