/* SPDX-License-Identifier: Apache-2.0 */
/* ctr images: the records, and what can be told about them. The listings are in cmd_images_list.c,
 * moving images is in cmd_images_pull.c and cmd_images_archive.c. */
#include "ctr/cmd_images.h"

#include "base/time.h"
#include "ctr/image_walk.h"
#include "ctr/record.h"
#include "oci/reference.h"

#define IMAGE_LABELS (&containerd__services__images__v1__image__labels_entry__descriptor)

int images_list(struct ctr *c, char *const *filters, size_t n, PB_IMAGES(ListImagesResponse) * *ret,
		struct err *err)
{
	PB_IMAGES(ListImagesRequest) req = PB_IMAGES_INIT(LIST_IMAGES_REQUEST);
	PB_IMAGES(ListImagesResponse) * resp;
	int r;

	r = ctr_connect(c, err);
	if (r < 0)
		return r;
	req.filters = (char **)filters;
	req.n_filters = n;
	r = client_call(c->client, &c->ctx, PB_IMAGES_SERVICE, "List", &req.base, &resp, err);
	if (r < 0)
		return err_prefix(err, "failed to list images");
	for (size_t i = 0; i < resp->n_images; i++)
		if (!resp->images[i]->target)
			return err_set(err, ERR_INTERNAL, "image \"%s\" came without a target",
				       resp->images[i]->name);
	*ret = resp;
	return 0;
}

struct descriptor images_target(const PB_IMAGES(Image) * image)
{
	return (struct descriptor){.media_type = image->target->media_type,
				   .digest = image->target->digest,
				   .size = image->target->size};
}

/* ---- inspect ---- */

static const struct ctr_flag inspect_flags[] = {{"content", 0, CTR_BOOL, "print the documents too"},
						{}};

static int run_inspect(struct ctr *c, struct err *err)
{
	char created[40], updated[40];
	struct descriptor target;
	PB_IMAGES(Image) * image;
	const char *name;
	int r;

	r = record_arg(c, 0, "image", &name, err);
	if (r == 0)
		r = ctr_connect(c, err);
	if (r == 0)
		r = client_image_get(c->client, &c->ctx, name, &image, err);
	if (r < 0)
		return r;
	target = images_target(image);
	time_format_rfc3339(pb_time(image->created_at), created);
	time_format_rfc3339(pb_time(image->updated_at), updated);
	printf("%s\n\u2502 Created: %s\n\u2502 Updated: %s\n", image->name, created, updated);
	for (size_t i = 0; i < image->n_labels; i++)
		printf("\u2502 Label %s: %s\n", image->labels[i]->key, image->labels[i]->value);
	return image_walk_print(c, &target, ctr_bool(c, "content"), err);
}

/* ---- delete ---- */

static const struct ctr_flag delete_flags[] = {
	{"sync", 0, CTR_BOOL, "wait until what nobody needs any more is gone"}, {}};

int images_delete(struct ctr *c, const char *name, bool sync, struct err *err)
{
	PB_IMAGES(DeleteImageRequest) req = PB_IMAGES_INIT(DELETE_IMAGE_REQUEST);
	int r;

	req.name = (char *)name;
	req.sync = sync;
	r = client_call(c->client, &c->ctx, PB_IMAGES_SERVICE, "Delete", &req.base, NULL, err);
	if (r == 0)
		puts(name);
	return r;
}

static int delete_one(struct ctr *c, const char *name, bool last, struct err *err)
{
	return images_delete(c, name, last && ctr_bool(c, "sync"), err);
}

static int run_delete(struct ctr *c, struct err *err)
{
	const char *name;
	int r;

	r = record_arg(c, 0, "image", &name, err);
	if (r == 0)
		r = ctr_connect(c, err);
	return r < 0 ? r : record_each(c, "unable to delete", true, delete_one, err);
}

/* ---- tag, label ---- */

static const struct ctr_flag tag_flags[] = {
	{"force", 0, CTR_BOOL, "let the new name replace an image that has it"},
	{"local", 0, CTR_BOOL, "accepted as others write it"},
	{"skip-reference-check", 0, CTR_BOOL, "take any text as the new name"},
	{}};

static int run_tag(struct ctr *c, struct err *err)
{
	const char *source, *name;
	int r;

	r = record_arg(c, 0, "source image", &source, err);
	if (r == 0)
		r = record_arg(c, 1, "new name", &name, err);
	for (size_t i = 1; r == 0 && i < c->n_args && !ctr_bool(c, "skip-reference-check"); i++) {
		char *full;

		r = reference_normalize(c->ctx.arena, c->args[i], &full, err);
	}
	if (r == 0)
		r = ctr_connect(c, err);
	for (size_t i = 1; r == 0 && i < c->n_args; i++) {
		r = client_image_tag(c->client, &c->ctx, source, c->args[i], ctr_bool(c, "force"),
				     err);
		if (r == 0)
			puts(c->args[i]);
	}
	return r;
}

static const struct ctr_flag label_flags[] = {
	{"replace-all", 'r', CTR_BOOL, "drop the labels that are not given"}, {}};

static int run_label(struct ctr *c, struct err *err)
{
	PB_IMAGES(UpdateImageRequest) req = PB_IMAGES_INIT(UPDATE_IMAGE_REQUEST);
	PB_IMAGES(Image) image = PB_IMAGES_INIT(IMAGE);
	Google__Protobuf__FieldMask mask;
	PB_IMAGES(UpdateImageResponse) * resp;
	struct labels l = {};
	const char *name;
	int r;

	r = record_arg(c, 0, "image", &name, err);
	if (r == 0)
		r = record_label_args(c, &l, err);
	if (r == 0)
		r = record_label_mask(c->ctx.arena, &l, &mask, err);
	if (r == 0)
		r = ctr_connect(c, err);
	if (r < 0)
		return r;
	if (ctr_bool(c, "replace-all")) {
		mask.paths[0] = (char *)"labels";
		mask.n_paths = 1;
	}
	image.name = (char *)name;
	if (PB_LABELS_OUT(c->ctx.arena, &l, IMAGE_LABELS, image.labels, image.n_labels) < 0)
		return err_nomem(err);
	req.image = &image;
	req.update_mask = &mask;
	r = client_call(c->client, &c->ctx, PB_IMAGES_SERVICE, "Update", &req.base, &resp, err);
	if (r < 0)
		return r;
	if (!resp->image)
		return err_set(err, ERR_INTERNAL, "image came empty");
	return record_print_labels(c->ctx.arena, (struct pb_label *const *)resp->image->labels,
				   resp->image->n_labels, err);
}

/* ---- Tables ---- */

static const struct ctr_command inspect = {
	.name = "inspect",
	.aliases = {"i"},
	.usage = "show what an image consists of",
	.args = "[flags] <image>",
	.flags = CTR_FLAGS(inspect_flags),
	.names = CTR_NAMES_IMAGES,
	.run = run_inspect,
};
static const struct ctr_command delete = {
	.name = "delete",
	.aliases = {"del", "remove", "rm"},
	.usage = "remove images by name",
	.args = "[flags] <ref> [<ref>, ...]",
	.flags = CTR_FLAGS(delete_flags),
	.names = CTR_NAMES_IMAGES,
	.more = CTR_NAMES_IMAGES,
	.run = run_delete,
};
static const struct ctr_command tag = {
	.name = "tag",
	.usage = "give an image further names",
	.args = "[flags] <source_ref> <target_ref> [<target_ref>, ...]",
	.flags = CTR_FLAGS(tag_flags),
	.names = CTR_NAMES_IMAGES,
	.run = run_tag,
};
static const struct ctr_command label = {
	.name = "label",
	.usage = "set and clear labels of an image",
	.args = "[flags] <name> [<key>=<value>, ...]",
	.flags = CTR_FLAGS(label_flags),
	.names = CTR_NAMES_IMAGES,
	.run = run_label,
};

const struct ctr_command cmd_images = {
	.name = "images",
	.aliases = {"image", "i"},
	.usage = "manage images",
	.subcommands =
		CTR_COMMANDS(&images_check, &images_export, &images_import, &inspect, &images_ls,
			     &images_mount, &images_unmount, &images_pull, &images_push,
			     &images_prune, &delete, &tag, &label, &images_convert, &images_usage),
};
