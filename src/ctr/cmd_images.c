/* SPDX-License-Identifier: Apache-2.0 */
/* ctr images: the records, and what can be told about them. Moving images is in cmd_images_pull.c
 * and cmd_images_archive.c. */
#include "ctr/cmd_images.h"

#include "base/time.h"
#include "ctr/cmd_snapshots.h"
#include "ctr/documents.h"
#include "ctr/image_walk.h"
#include "ctr/record.h"
#include "oci/platform.h"
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

static int host_platform(struct ctr *c, struct platform *ret, struct err *err)
{
	return platform_host(c->ctx.arena, ret) < 0 ? err_nomem(err) : 0;
}

/* ---- list ---- */

#define LIST_TOGETHER 128

static const struct ctr_flag list_flags[] = {
	{"quiet", 'q', CTR_BOOL, "print only the names"},
	{"unpacked", 0, CTR_BOOL,
	 "also print what the unpacked layers take on disk, as last column"},
	{"snapshotter", 0, CTR_STRING,
	 "snapshotter of --unpacked; the namespace's default when not given", NULL,
	 "CONTAINERD_SNAPSHOTTER"},
	{}};

/* A cell: the sum over the chain of snapshots, "-" where there is none. */
static int unpacked_size(struct ctr *c, const char *name, const char *snapshotter, char ret[32],
			 struct err *err)
{
	struct image image _cleanup_image_ = {};
	PB_SNAPSHOTS(Info) * info;
	struct err e = ERR_INIT;
	int64_t size, sum = 0;
	int r;

	snprintf(ret, 32, "-");
	r = image_load(c, name, "", &image, &e);
	for (const char *key = r == 0 ? image.chain_id : ""; *key; key = info->parent) {
		r = client_snapshot_stat(c->client, &c->ctx, snapshotter, key, &info, &e);
		if (r == 0)
			r = snapshots_usage(c, snapshotter, key, &size, NULL, &e);
		if (r == 0 && __builtin_add_overflow(sum, size, &sum))
			r = err_set(&e, ERR_OUT_OF_RANGE, "sizes of snapshots");
		if (r < 0)
			break;
	}
	if (r == -ERR_NOT_FOUND)
		return 0;
	if (r < 0)
		return err_copy(err, &e);
	str_size_binary(sum, ret);
	return 0;
}

/* @snapshotter NULL: without the last column. */
static int add_image(struct ctr *c, struct table *t, const PB_IMAGES(Image) * image,
		     const struct platform *host, const char *snapshotter, struct err *err)
{
	const char *labels = record_labels(c->ctx.arena, (struct pb_label *const *)image->labels,
					   image->n_labels);
	struct descriptor target = images_target(image);
	const char *platforms = "-";
	struct err e = ERR_INIT;
	int64_t size = 0;
	char text[32];

	if (!labels)
		return err_nomem(err);
	if (image_walk_size(c, &target, host, &size, &e) < 0)
		ctr_warn("failed calculating size for image %s: %s", image->name, e.text);
	if (image_walk_platforms(c, &target, &platforms, &e) < 0)
		ctr_warn("failed resolving platform for image %s: %s", image->name, e.text);
	str_size_binary(size, text);
	table_printf(t, "%s\t%s\t%s\t%s\t%s\t%s\t", image->name, target.media_type, target.digest,
		     text, platforms, labels);
	if (snapshotter) {
		if (unpacked_size(c, image->name, snapshotter, text, &e) < 0)
			ctr_warn("failed calculating unpacked size of image %s: %s", image->name,
				 e.text);
		table_printf(t, "%s\t", text);
	}
	table_printf(t, "\n");
	return 0;
}

/* Some images, whose documents are forgotten afterwards. */
static int add_images(struct ctr *c, struct table *t, PB_IMAGES(Image) * *images, size_t n,
		      const struct platform *host, const char *snapshotter, struct err *err)
{
	struct arena *a _cleanup_arena_ = arena_new(0), *own = c->ctx.arena;
	struct descriptor targets[LIST_TOGETHER];
	struct documents docs;
	int r = a && documents_init(&docs, a) == 0 ? 0 : err_nomem(err);

	if (r < 0)
		return r;
	c->ctx.arena = a;
	c->documents = &docs;
	for (size_t i = 0; i < n; i++)
		targets[i] = images_target(images[i]);
	r = image_walk_prefetch(c, targets, n, host, err);
	for (size_t i = 0; r == 0 && i < n; i++)
		r = add_image(c, t, images[i], host, snapshotter, err);
	c->documents = NULL;
	c->ctx.arena = own;
	return r;
}

static int run_list(struct ctr *c, struct err *err)
{
	struct table t _cleanup_table_ = TABLE_INIT(1, 8, 1, ' ');
	PB_IMAGES(ListImagesResponse) * resp;
	const char *snapshotter = NULL;
	struct platform host;
	int r;

	r = images_list(c, (char *const *)c->args, c->n_args, &resp, err);
	if (r == 0)
		r = host_platform(c, &host, err);
	if (r == 0 && ctr_bool(c, "unpacked"))
		r = ctr_snapshotter(c, &snapshotter, err);
	if (r < 0)
		return r;
	if (ctr_bool(c, "quiet")) {
		for (size_t i = 0; i < resp->n_images; i++)
			puts(resp->images[i]->name);
		return 0;
	}
	table_printf(&t, "REF\tTYPE\tDIGEST\tSIZE\tPLATFORMS\tLABELS\t%s\n",
		     snapshotter ? "UNPACKED SIZE\t" : "");
	for (size_t i = 0; r == 0 && i < resp->n_images; i += LIST_TOGETHER)
		r = add_images(c, &t, resp->images + i,
			       MIN(resp->n_images - i, (size_t)LIST_TOGETHER), &host, snapshotter,
			       err);
	return r < 0 ? r : table_print(&t, err);
}

/* ---- check ---- */

static const struct ctr_flag check_flags[] = {
	{"quiet", 'q', CTR_BOOL, "print only the names of complete images"},
	{"snapshotter", 0, CTR_STRING, "snapshotter; the namespace's default when not given", NULL,
	 "CONTAINERD_SNAPSHOTTER"},
	{}};

struct checker {
	struct ctr *c;
	struct table *table;
	struct platform host;
	const char *snapshotter;
};

static int is_unpacked(struct checker *k, const char *name, bool *ret, struct err *err)
{
	struct image image _cleanup_image_ = {};
	PB_SNAPSHOTS(Info) * info;
	struct err e = ERR_INIT;
	int r;

	r = image_load(k->c, name, "", &image, err);
	if (r < 0)
		return r;
	r = image.n_layers ? client_snapshot_stat(k->c->client, &k->c->ctx, k->snapshotter,
						  image.chain_id, &info, &e)
			   : 0;
	if (r < 0 && r != -ERR_NOT_FOUND)
		return err_copy(err, &e);
	*ret = r == 0;
	return 0;
}

/* Status and size as cells; true when all is there. */
static bool describe_check(struct arena *a, const struct image_check *k, const char **ret_status,
			   const char **ret_size)
{
	char present[32], required[32];
	bool complete = k->available && k->n_present == k->n_required;

	str_size_binary(k->present, present);
	str_size_binary(k->required, required);
	if (k->available) {
		*ret_status = arena_printf(a, "%s (%zu/%zu)", complete ? "complete" : "incomplete",
					   k->n_present, k->n_required);
		*ret_size = arena_printf(a, "%s/%s", present, required);
	} else {
		*ret_status = arena_printf(a, "unavailable (%zu/?)", k->n_present);
		*ret_size = arena_printf(a, "%s/?", present);
	}
	return complete;
}

static int check_image(struct checker *k, const PB_IMAGES(Image) * image, struct err *err)
{
	struct descriptor target = images_target(image);
	const char *status = "error", *size = "-";
	struct image_check check;
	bool complete = false, unpacked = false;
	struct err e = ERR_INIT;
	int r, result = 0;

	r = image_walk_check(k->c, &target, &k->host, &check, err);
	if (r == 0)
		complete = describe_check(k->c->ctx.arena, &check, &status, &size);
	else
		result = err_prefix(err, "unable to check %s", image->name);
	r = is_unpacked(k, image->name, &unpacked, &e);
	if (r < 0 && result == 0) {
		err_copy(err, &e);
		result = err_prefix(err, "unable to check unpack for %s", image->name);
	}
	if (!status || !size)
		return err_nomem(err);
	if (!ctr_bool(k->c, "quiet"))
		table_printf(k->table, "%s\t%s\t%s\t%s\t%s\t%s\n", image->name, target.media_type,
			     target.digest, status, size, unpacked ? "true" : "false");
	else if (complete)
		puts(image->name);
	return result;
}

static int run_check(struct ctr *c, struct err *err)
{
	struct table t _cleanup_table_ = TABLE_INIT(1, 8, 1, ' ');
	struct checker k = {.c = c, .table = &t};
	PB_IMAGES(ListImagesResponse) * resp;
	int r, result = 0;

	r = images_list(c, (char *const *)c->args, c->n_args, &resp, err);
	if (r == 0)
		r = ctr_snapshotter(c, &k.snapshotter, err);
	if (r == 0)
		r = host_platform(c, &k.host, err);
	if (r < 0)
		return r;
	if (!ctr_bool(c, "quiet"))
		table_printf(&t, "REF\tTYPE\tDIGEST\tSTATUS\tSIZE\tUNPACKED\t\n");
	for (size_t i = 0; i < resp->n_images; i++) {
		struct err e = ERR_INIT;

		if (check_image(&k, resp->images[i], &e) < 0 && result == 0)
			result = err_copy(err, &e);
	}
	r = table_print(&t, result < 0 ? NULL : err);
	return result < 0 ? result : r;
}

/* ---- usage, inspect ---- */

static const struct ctr_flag usage_flags[] = {
	{"snapshotter", 0, CTR_STRING, "snapshotter; the namespace's default when not given", NULL,
	 "CONTAINERD_SNAPSHOTTER"},
	{}};

static int run_usage(struct ctr *c, struct err *err)
{
	struct table t _cleanup_table_ = TABLE_INIT(1, 8, 1, ' ');
	struct image image _cleanup_image_ = {};
	const char *name, *snapshotter;
	PB_SNAPSHOTS(Info) * info;
	int r;

	r = record_arg(c, 0, "image", &name, err);
	if (r == 0)
		r = snapshots_connect(c, &snapshotter, err);
	if (r == 0)
		r = image_load(c, name, "", &image, err);
	if (r < 0)
		return r;
	table_printf(&t, "KEY\tSIZE\tINODES\t\n");
	for (const char *key = image.chain_id; *key; key = info->parent) {
		r = client_snapshot_stat(c->client, &c->ctx, snapshotter, key, &info, err);
		if (r == 0)
			r = snapshots_add_usage(c, &t, snapshotter, key, false, err);
		if (r < 0)
			return r;
	}
	return table_print(&t, err);
}

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

/* ---- delete, prune ---- */

static const struct ctr_flag delete_flags[] = {
	{"sync", 0, CTR_BOOL, "wait until what nobody needs any more is gone"}, {}};

static int delete_image(struct ctr *c, const char *name, bool sync, struct err *err)
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
	return delete_image(c, name, last && ctr_bool(c, "sync"), err);
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

static const struct ctr_flag prune_flags[] = {
	{"all", 0, CTR_BOOL,
	 "remove all images that no container uses; without it nothing is done"},
	{}};

static int list_used(struct ctr *c, struct labels *ret, struct err *err)
{
	PB_CONTAINERS(ListContainersRequest) req = PB_CONTAINERS_INIT(LIST_CONTAINERS_REQUEST);
	PB_CONTAINERS(ListContainersResponse) * resp;
	struct labels used = {};
	int r;

	r = client_call(c->client, &c->ctx, PB_CONTAINERS_SERVICE, "List", &req.base, &resp, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < resp->n_containers; i++)
		if (labels_set(c->ctx.arena, &used, resp->containers[i]->image, "") < 0)
			return err_nomem(err);
	*ret = used;
	return 0;
}

static int run_prune(struct ctr *c, struct err *err)
{
	PB_IMAGES(ListImagesResponse) * resp;
	struct labels used = {};
	int r;

	if (!ctr_bool(c, "all")) {
		ctr_warn("no images are removed without --all");
		return 0;
	}
	/* Containers last: one that is made in between has its image spared. */
	r = images_list(c, NULL, 0, &resp, err);
	if (r == 0)
		r = list_used(c, &used, err);
	for (size_t i = 0; r == 0 && i < resp->n_images; i++) {
		const char *name = resp->images[i]->name;
		struct err e = ERR_INIT;

		if (labels_get(&used, name))
			continue;
		r = delete_image(c, name, i + 1 == resp->n_images, &e);
		if (r == -ERR_NOT_FOUND)
			r = 0;
		else if (r < 0)
			err_copy(err, &e);
	}
	return r;
}

/* ---- tag, label ---- */

static const struct ctr_flag tag_flags[] = {
	{"force", 0, CTR_BOOL, "let the new name replace an image that has it"},
	{"local", 0, CTR_BOOL, "accepted as others write it"},
	{"skip-reference-check", 0, CTR_BOOL, "take any text as the new name"},
	{}};

static int tag_one(struct ctr *c, const PB_IMAGES(Image) * source, const char *name,
		   struct err *err)
{
	PB_IMAGES(CreateImageRequest) create = PB_IMAGES_INIT(CREATE_IMAGE_REQUEST);
	PB_IMAGES(UpdateImageRequest) update = PB_IMAGES_INIT(UPDATE_IMAGE_REQUEST);
	PB_IMAGES(Image) image = *source;
	struct err e = ERR_INIT;
	int r;

	image.name = (char *)name;
	image.created_at = image.updated_at = NULL;
	create.image = update.image = &image;
	r = client_call(c->client, &c->ctx, PB_IMAGES_SERVICE, "Create", &create.base, NULL, &e);
	if (r == -ERR_ALREADY_EXISTS && ctr_bool(c, "force"))
		return client_call(c->client, &c->ctx, PB_IMAGES_SERVICE, "Update", &update.base,
				   NULL, err);
	return r < 0 ? err_copy(err, &e) : 0;
}

static int run_tag(struct ctr *c, struct err *err)
{
	const char *source, *name;
	PB_IMAGES(Image) * image;
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
	if (r == 0)
		r = client_image_get(c->client, &c->ctx, source, &image, err);
	for (size_t i = 1; r == 0 && i < c->n_args; i++) {
		r = tag_one(c, image, c->args[i], err);
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

static const struct ctr_command check = {
	.name = "check",
	.usage = "check that images are complete and unpacked",
	.args = "[flags] [<filter>, ...]",
	.flags = CTR_FLAGS(check_flags),
	.run = run_check,
};
static const struct ctr_command inspect = {
	.name = "inspect",
	.aliases = {"i"},
	.usage = "show what an image consists of",
	.args = "[flags] <image>",
	.flags = CTR_FLAGS(inspect_flags),
	.run = run_inspect,
};
static const struct ctr_command list = {
	.name = "list",
	.aliases = {"ls"},
	.usage = "list images",
	.args = "[flags] [<filter>, ...]",
	.flags = CTR_FLAGS(list_flags),
	.run = run_list,
};
static const struct ctr_command prune = {
	.name = "prune",
	.usage = "remove images that nobody uses",
	.args = "[flags]",
	.flags = CTR_FLAGS(prune_flags),
	.run = run_prune,
};
static const struct ctr_command delete = {
	.name = "delete",
	.aliases = {"del", "remove", "rm"},
	.usage = "remove images by name",
	.args = "[flags] <ref> [<ref>, ...]",
	.flags = CTR_FLAGS(delete_flags),
	.run = run_delete,
};
static const struct ctr_command tag = {
	.name = "tag",
	.usage = "give an image further names",
	.args = "[flags] <source_ref> <target_ref> [<target_ref>, ...]",
	.flags = CTR_FLAGS(tag_flags),
	.run = run_tag,
};
static const struct ctr_command label = {
	.name = "label",
	.usage = "set and clear labels of an image",
	.args = "[flags] <name> [<key>=<value>, ...]",
	.flags = CTR_FLAGS(label_flags),
	.run = run_label,
};
static const struct ctr_command usage = {
	.name = "usage",
	.usage = "show what an image's snapshots take on disk",
	.args = "[flags] <ref>",
	.flags = CTR_FLAGS(usage_flags),
	.run = run_usage,
};

const struct ctr_command cmd_images = {
	.name = "images",
	.aliases = {"image", "i"},
	.usage = "manage images",
	.subcommands = CTR_COMMANDS(&check, &images_export, &images_import, &inspect, &list,
				    &images_mount, &images_unmount, &images_pull, &images_push,
				    &prune, &delete, &tag, &label, &images_convert, &usage),
};
