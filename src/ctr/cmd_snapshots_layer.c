/* SPDX-License-Identifier: Apache-2.0 */
/* ctr snapshots unpack, diff: layers into snapshots, and snapshots into layers. */
#include <unistd.h>

#include "base/digest.h"
#include "base/time.h"
#include "ctr/cmd_snapshots.h"
#include "client/image.h"
#include "ctr/record.h"

/* ---- unpack ---- */

static const struct ctr_flag unpack_flags[] = {
	{"sync-fs", 0, CTR_BOOL, "sync the file system after each layer"},
	{"snapshotter", 0, CTR_STRING, "snapshotter; the namespace's default when not given", NULL,
	 "CONTAINERD_SNAPSHOTTER"},
	{}};

static int find_image(struct ctr *c, const char *digest, PB_IMAGES(Image) * *ret, struct err *err)
{
	PB_IMAGES(ListImagesRequest) req = PB_IMAGES_INIT(LIST_IMAGES_REQUEST);
	char *filter = arena_printf(c->ctx.arena, "target.digest==\"%s\"", digest);
	PB_IMAGES(ListImagesResponse) * resp;
	int r;

	if (!filter)
		return err_nomem(err);
	req.filters = &filter;
	req.n_filters = 1;
	r = client_call(c->client, &c->ctx, PB_IMAGES_SERVICE, "List", &req.base, &resp, err);
	if (r < 0)
		return r;
	if (resp->n_images == 0 || !resp->images[0]->target)
		return err_set(err, ERR_NOT_FOUND, "no image has the target %s", digest);
	*ret = resp->images[0];
	return 0;
}

static int unpack_leased(struct ctr *c, const char *name, const char *snapshotter, struct err *err)
{
	struct client_image image _cleanup_client_image_ = {};
	int r;

	r = client_image_load(c->client, &c->ctx, name, "", &image, err);
	if (r == 0)
		r = record_lease_begin(c, err);
	if (r < 0)
		return r;
	r = client_image_unpack(c->client, &c->ctx, &image, snapshotter, ctr_bool(c, "sync-fs"),
				err);
	record_lease_end(c);
	return r;
}

static int run_unpack(struct ctr *c, struct err *err)
{
	const char *snapshotter, *digest;
	PB_IMAGES(Image) * image;
	int r;

	r = record_arg(c, 0, "digest", &digest, err);
	if (r == 0)
		r = digest_validate(digest, err);
	if (r == 0)
		r = snapshots_connect(c, &snapshotter, err);
	if (r == 0)
		r = find_image(c, digest, &image, err);
	if (r < 0)
		return r;
	printf("unpacking %s (%s)...", digest, image->target->media_type);
	fflush(stdout);
	r = unpack_leased(c, image->name, snapshotter, err);
	puts(r < 0 ? "" : "done");
	return r;
}

/* ---- diff ---- */

static const struct ctr_flag diff_flags[] = {
	{"media-type", 0, CTR_STRING, "media type of the layer",
	 "application/vnd.oci.image.layer.v1.tar+gzip"},
	{"ref", 0, CTR_STRING, "key of the ingest; the daemon makes one when not given"},
	{"keep", 0, CTR_BOOL, "keep the layer as content"},
	{"label", 0, CTR_STRINGS, "label of the layer, key=value"},
	{}};

struct side {
	struct client_mounts mounts;
	const char *view; /* key of a view that was made for this, NULL */
};

/* A view on @parent ("" = nothing). */
static int side_view(struct ctr *c, const char *snapshotter, const char *parent, struct side *ret,
		     struct err *err)
{
	unsigned char bytes[6];
	struct side s = {};
	char hex[13];
	int r;

	random_bytes(bytes, sizeof(bytes));
	hex_encode(bytes, sizeof(bytes), hex);
	s.view = arena_printf(c->ctx.arena, "%s-view-%s", *parent ? parent : "empty", hex);
	if (!s.view)
		return err_nomem(err);
	r = client_snapshot_prepare(c->client, &c->ctx, snapshotter, s.view, parent, true, NULL,
				    &s.mounts, err);
	if (r == 0)
		*ret = s;
	return r;
}

/* How to mount @key as it is; only what is not committed has mounts of its own. */
static int side_open(struct ctr *c, const char *snapshotter, const char *key,
		     const PB_SNAPSHOTS(Info) * info, struct side *ret, struct err *err)
{
	struct side s = {};
	int r;

	if (info->kind == CONTAINERD__SERVICES__SNAPSHOTS__V1__KIND__COMMITTED)
		return side_view(c, snapshotter, key, ret, err);
	r = client_snapshot_mounts(c->client, &c->ctx, snapshotter, key, &s.mounts, err);
	if (r == 0)
		*ret = s;
	return r;
}

static void side_close(struct ctr *c, const char *snapshotter, const struct side *s)
{
	if (s->view)
		record_undo_snapshot(c, snapshotter, s->view);
}

/* Of the two keys: from the first to the second. Of one: from its parent to it. */
static int open_sides(struct ctr *c, const char *snapshotter, struct side *lower,
		      struct side *upper, struct err *err)
{
	const char *a = ctr_arg(c, 0), *b = ctr_arg(c, 1);
	PB_SNAPSHOTS(Info) * info;
	int r;

	r = client_snapshot_stat(c->client, &c->ctx, snapshotter, a, &info, err);
	if (r < 0)
		return r;
	if (*b)
		r = side_open(c, snapshotter, a, info, lower, err);
	else
		r = side_view(c, snapshotter, info->parent, lower, err);
	if (r == 0 && *b)
		r = client_snapshot_stat(c->client, &c->ctx, snapshotter, b, &info, err);
	return r < 0 ? r : side_open(c, snapshotter, *b ? b : a, info, upper, err);
}

static int make_diff(struct ctr *c, const struct side *lower, const struct side *upper,
		     const struct labels *l, PB_TYPES(Descriptor) * *ret, struct err *err)
{
	PB_DIFF(DiffRequest) req = PB_DIFF_INIT(DIFF_REQUEST);
	PB_DIFF(DiffResponse) * resp;
	int r;

	req.left = lower->mounts.v;
	req.n_left = lower->mounts.n;
	req.right = upper->mounts.v;
	req.n_right = upper->mounts.n;
	req.media_type = (char *)ctr_string(c, "media-type");
	req.ref = (char *)ctr_string(c, "ref");
	if (PB_LABELS_OUT(c->ctx.arena, l,
			  &containerd__services__diff__v1__diff_request__labels_entry__descriptor,
			  req.labels, req.n_labels) < 0)
		return err_nomem(err);
	r = client_call(c->client, &c->ctx, PB_DIFF_SERVICE, "Diff", &req.base, &resp, err);
	if (r < 0)
		return r;
	if (!resp->diff)
		return err_set(err, ERR_INTERNAL, "the diff came without a descriptor");
	*ret = resp->diff;
	return 0;
}

static int diff_leased(struct ctr *c, const char *snapshotter, const struct labels *l,
		       struct err *err)
{
	struct side lower = {}, upper = {};
	PB_TYPES(Descriptor) * d;
	int r;

	r = open_sides(c, snapshotter, &lower, &upper, err);
	if (r == 0)
		r = make_diff(c, &lower, &upper, l, &d, err);
	side_close(c, snapshotter, &upper);
	side_close(c, snapshotter, &lower);
	return r < 0 ? r : record_copy_content(c, d->digest, STDOUT_FILENO, err);
}

static int run_diff(struct ctr *c, struct err *err)
{
	const char *snapshotter, *key, **words;
	struct labels l = {};
	size_t n;
	int r;

	r = record_arg(c, 0, "snapshot key", &key, err);
	words = ctr_strings(c, "label", &n);
	if (r == 0)
		r = ctr_parse_labels(c->ctx.arena, words, n, &l, err);
	/* Without it the layer lives as long as the lease. */
	if (r == 0 && ctr_bool(c, "keep") &&
	    labels_set(c->ctx.arena, &l, "containerd.io/gc.root",
		       str_or(record_utc_time(c->ctx.arena, time_now()), "")) < 0)
		return err_nomem(err);
	if (r == 0)
		r = snapshots_connect(c, &snapshotter, err);
	if (r == 0)
		r = record_lease_begin(c, err);
	if (r < 0)
		return r;
	r = diff_leased(c, snapshotter, &l, err);
	record_lease_end(c);
	return r;
}

const struct ctr_command snapshots_unpack = {
	.name = "unpack",
	.usage = "unpack the layers of an image into snapshots",
	.args = "[flags] <digest>",
	.flags = CTR_FLAGS(unpack_flags),
	.run = run_unpack,
};
const struct ctr_command snapshots_diff = {
	.name = "diff",
	.usage =
		"print what differs between two snapshots, or from a snapshot's parent, as a layer",
	.args = "[flags] <idA> [<idB>]",
	.flags = CTR_FLAGS(diff_flags),
	.names = CTR_NAMES_SNAPSHOTS,
	.more = CTR_NAMES_SNAPSHOTS,
	.run = run_diff,
};
