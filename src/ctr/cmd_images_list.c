/* SPDX-License-Identifier: Apache-2.0 */
/* ctr images list, check, usage: what there is, whether it is complete, and what it takes. */
#include "ctr/cmd_images.h"

#include "ctr/cmd_snapshots.h"
#include "ctr/documents.h"
#include "ctr/image_walk.h"
#include "ctr/listing.h"
#include "ctr/record.h"
#include "oci/platform.h"

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

struct lister {
	struct ctr *c;
	struct listing list;
	struct platform host;
	const char *snapshotter; /* NULL: unpacked sizes are not asked for */
};

/* Sum over the chain of snapshots; -1 where there is none. */
static int unpacked_size(struct lister *k, const char *name, int64_t *ret, struct err *err)
{
	struct client_image image _cleanup_client_image_ = {};
	int64_t size, sum = 0;
	PB_SNAPSHOTS(Info) * info;
	struct err e = ERR_INIT;
	struct ctr *c = k->c;
	int r;

	r = client_image_load(c->client, &c->ctx, name, "", &image, &e);
	for (const char *key = r == 0 ? image.chain_id : ""; *key; key = info->parent) {
		r = client_snapshot_stat(c->client, &c->ctx, k->snapshotter, key, &info, &e);
		if (r == 0)
			r = client_snapshot_usage(c->client, &c->ctx, k->snapshotter, key, &size,
						  NULL, &e);
		if (r == 0 && __builtin_add_overflow(sum, size, &sum))
			r = err_set(&e, ERR_OUT_OF_RANGE, "sizes of snapshots");
		if (r < 0)
			break;
	}
	if (r < 0 && r != -ERR_NOT_FOUND)
		return err_copy(err, &e);
	*ret = r < 0 ? -1 : sum;
	return 0;
}

static json_t *platforms_json(struct arena *a, const char *text)
{
	size_t n = 0;
	char **v = streq(text, "-") ? NULL : str_split(a, text, ',', &n);

	return listing_texts(v, n);
}

static int add_row(struct lister *k, const PB_IMAGES(Image) * image, int64_t size,
		   const char *platforms, const char *labels, struct err *err)
{
	char text[32], unpacked_text[32] = "-";
	struct err e = ERR_INIT;
	int64_t unpacked = -1;
	json_t *row;

	if (k->snapshotter && unpacked_size(k, image->name, &unpacked, &e) < 0)
		ctr_warn("failed calculating unpacked size of image %s: %s", image->name, e.text);
	str_size_binary(size, text);
	if (unpacked >= 0)
		str_size_binary(unpacked, unpacked_text);
	row = json_pack("{s:s,s:s,s:s,s:I,s:o,s:o,s:o,s:o}", "Name", image->name, "Type",
			image->target->media_type, "Digest", image->target->digest, "Size",
			(json_int_t)size, "Platforms", platforms_json(k->c->ctx.arena, platforms),
			"CreatedAt", listing_time(image->created_at), "UpdatedAt",
			listing_time(image->updated_at), "Labels", LISTING_LABELS(image));
	if (row && k->snapshotter &&
	    json_object_set_new(row, "UnpackedSize",
				unpacked < 0 ? json_null() : json_integer(unpacked)) < 0) {
		json_decref(row);
		return err_nomem(err);
	}
	if (k->snapshotter)
		return listing_add(&k->list, row, err, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n",
				   image->name, image->target->media_type, image->target->digest,
				   text, platforms, labels, unpacked_text);
	return listing_add(&k->list, row, err, "%s\t%s\t%s\t%s\t%s\t%s\t\n", image->name,
			   image->target->media_type, image->target->digest, text, platforms,
			   labels);
}

static int add_image(struct lister *k, const PB_IMAGES(Image) * image, struct err *err)
{
	const char *labels = record_labels(k->c->ctx.arena, (struct pb_label *const *)image->labels,
					   image->n_labels);
	struct descriptor target = images_target(image);
	const char *platforms = "-";
	struct err e = ERR_INIT;
	int64_t size = 0;

	if (!labels)
		return err_nomem(err);
	if (k->list.form == LISTING_QUIET)
		return listing_add(&k->list, json_pack("{s:s}", "Name", image->name), err, "%s",
				   "");
	if (image_walk_size(k->c, &target, &k->host, &size, &e) < 0)
		ctr_warn("failed calculating size for image %s: %s", image->name, e.text);
	if (image_walk_platforms(k->c, &target, &platforms, &e) < 0)
		ctr_warn("failed resolving platform for image %s: %s", image->name, e.text);
	return add_row(k, image, size, platforms, labels, err);
}

/* Some images, whose documents are forgotten afterwards. */
static int add_images(struct lister *k, PB_IMAGES(Image) * *images, size_t n, struct err *err)
{
	struct arena *a _cleanup_arena_ = arena_new(0), *own = k->c->ctx.arena;
	struct descriptor targets[LIST_TOGETHER];
	struct documents docs;
	int r = a && documents_init(&docs, a) == 0 ? 0 : err_nomem(err);

	if (r < 0)
		return r;
	k->c->ctx.arena = a;
	k->c->documents = &docs;
	for (size_t i = 0; i < n; i++)
		targets[i] = images_target(images[i]);
	if (k->list.form != LISTING_QUIET)
		r = image_walk_prefetch(k->c, targets, n, &k->host, err);
	for (size_t i = 0; r == 0 && i < n; i++)
		r = add_image(k, images[i], err);
	k->c->documents = NULL;
	k->c->ctx.arena = own;
	return r;
}

static int list_images(struct lister *k, struct err *err)
{
	struct ctr *c = k->c;
	PB_IMAGES(ListImagesResponse) * resp;
	int r;

	r = images_list(c, (char *const *)c->args, c->n_args, &resp, err);
	if (r == 0)
		r = host_platform(c, &k->host, err);
	if (r == 0 && ctr_bool(c, "unpacked"))
		r = ctr_snapshotter(c, &k->snapshotter, err);
	if (r == 0)
		r = listing_begin(
			c, &k->list,
			k->snapshotter
				? "REF\tTYPE\tDIGEST\tSIZE\tPLATFORMS\tLABELS\tUNPACKED SIZE\t\n"
				: "REF\tTYPE\tDIGEST\tSIZE\tPLATFORMS\tLABELS\t\n",
			err);
	for (size_t i = 0; r == 0 && i < resp->n_images; i += LIST_TOGETHER)
		r = add_images(k, resp->images + i, MIN(resp->n_images - i, (size_t)LIST_TOGETHER),
			       err);
	return r < 0 ? r : listing_end(&k->list, err);
}

static int run_list(struct ctr *c, struct err *err)
{
	struct lister k = {.c = c, .list = {.table = TABLE_INIT(1, 8, 1, ' '), .key = "Name"}};
	int r = list_images(&k, err);

	listing_done(&k.list);
	return r;
}

/* ---- check ---- */

static const struct ctr_flag check_flags[] = {
	{"quiet", 'q', CTR_BOOL, "print only the names of complete images"},
	{"snapshotter", 0, CTR_STRING, "snapshotter; the namespace's default when not given", NULL,
	 "CONTAINERD_SNAPSHOTTER"},
	{}};

struct checker {
	struct ctr *c;
	struct listing *list;
	struct platform host;
	const char *snapshotter;
};

static int is_unpacked(struct checker *k, const char *name, bool *ret, struct err *err)
{
	struct client_image image _cleanup_client_image_ = {};
	PB_SNAPSHOTS(Info) * info;
	struct err e = ERR_INIT;
	int r;

	r = client_image_load(k->c->client, &k->c->ctx, name, "", &image, err);
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

static json_t *check_json(const PB_IMAGES(Image) * image, const struct image_check *k,
			  const char *status, bool unpacked)
{
	return json_pack("{s:s,s:s,s:s,s:s,s:I,s:I,s:b}", "Name", image->name, "Type",
			 image->target->media_type, "Digest", image->target->digest, "Status",
			 status, "Size", (json_int_t)k->present, "Required",
			 (json_int_t)k->required, "Unpacked", unpacked);
}

static int check_image(struct checker *k, const PB_IMAGES(Image) * image, struct err *err)
{
	struct descriptor target = images_target(image);
	const char *status = "error", *size = "-";
	struct image_check check = {};
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
	r = complete || k->list->form != LISTING_QUIET
		    ? listing_add(k->list, check_json(image, &check, status, unpacked), &e,
				  "%s\t%s\t%s\t%s\t%s\t%s\n", image->name, target.media_type,
				  target.digest, status, size, unpacked ? "true" : "false")
		    : 0;
	return r < 0 && result == 0 ? err_copy(err, &e) : result;
}

static int run_check(struct ctr *c, struct err *err)
{
	struct listing list _cleanup_listing_ = {.table = TABLE_INIT(1, 8, 1, ' '), .key = "Name"};
	struct checker k = {.c = c, .list = &list};
	PB_IMAGES(ListImagesResponse) * resp;
	int r, result = 0;

	r = images_list(c, (char *const *)c->args, c->n_args, &resp, err);
	if (r == 0)
		r = ctr_snapshotter(c, &k.snapshotter, err);
	if (r == 0)
		r = host_platform(c, &k.host, err);
	if (r == 0)
		r = listing_begin(c, &list, "REF\tTYPE\tDIGEST\tSTATUS\tSIZE\tUNPACKED\t\n", err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < resp->n_images; i++) {
		struct err e = ERR_INIT;

		if (check_image(&k, resp->images[i], &e) < 0 && result == 0)
			result = err_copy(err, &e);
	}
	r = listing_end(&list, result < 0 ? NULL : err);
	return result < 0 ? result : r;
}

/* ---- usage ---- */

static const struct ctr_flag usage_flags[] = {
	{"snapshotter", 0, CTR_STRING, "snapshotter; the namespace's default when not given", NULL,
	 "CONTAINERD_SNAPSHOTTER"},
	{}};

static int run_usage(struct ctr *c, struct err *err)
{
	struct listing list _cleanup_listing_ = {.table = TABLE_INIT(1, 8, 1, ' ')};
	struct client_image image _cleanup_client_image_ = {};
	const char *name, *snapshotter;
	PB_SNAPSHOTS(Info) * info;
	int r;

	r = record_arg(c, 0, "image", &name, err);
	if (r == 0)
		r = snapshots_connect(c, &snapshotter, err);
	if (r == 0)
		r = client_image_load(c->client, &c->ctx, name, "", &image, err);
	if (r == 0)
		r = listing_begin(c, &list, "KEY\tSIZE\tINODES\t\n", err);
	if (r < 0)
		return r;
	for (const char *key = image.chain_id; *key; key = info->parent) {
		r = client_snapshot_stat(c->client, &c->ctx, snapshotter, key, &info, err);
		if (r == 0)
			r = snapshots_add_usage(c, &list, snapshotter, key, false, err);
		if (r < 0)
			return r;
	}
	return listing_end(&list, err);
}

/* ---- Tables ---- */

const struct ctr_command images_check = {
	.name = "check",
	.usage = "check that images are complete and unpacked",
	.args = "[flags] [<filter>, ...]",
	.flags = CTR_FLAGS(check_flags, format_flags),
	.run = run_check,
};
const struct ctr_command images_ls = {
	.name = "list",
	.aliases = {"ls"},
	.usage = "list images",
	.args = "[flags] [<filter>, ...]",
	.flags = CTR_FLAGS(list_flags, format_flags),
	.run = run_list,
};
const struct ctr_command images_usage = {
	.name = "usage",
	.usage = "show what an image's snapshots take on disk",
	.args = "[flags] <ref>",
	.flags = CTR_FLAGS(usage_flags, format_flags),
	.names = CTR_NAMES_IMAGES,
	.run = run_usage,
};
