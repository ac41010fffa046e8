/* SPDX-License-Identifier: Apache-2.0 */
/* ctr images prune, ctr snapshots prune: what nobody uses goes. */
#include <stdlib.h>

#include "ctr/cmd_images.h"
#include "ctr/disk.h"
#include "ctr/record.h"

/* ---- images ---- */

static const struct ctr_flag images_flags[] = {
	{"all", 0, CTR_BOOL,
	 "remove all images that no container uses; without it nothing is done"},
	{"dry-run", 0, CTR_BOOL, "only print what would be removed"},
	{}};

static int prune_image(struct ctr *c, const char *name, bool last, struct err *err)
{
	struct err e = ERR_INIT;
	int r;

	if (ctr_bool(c, "dry-run")) {
		puts(name);
		return 0;
	}
	r = images_delete(c, name, last, &e);
	return r < 0 && r != -ERR_NOT_FOUND ? err_copy(err, &e) : 0;
}

static int run_images(struct ctr *c, struct err *err)
{
	PB_IMAGES(ListImagesResponse) * resp;
	PB_IMAGES(Image) *last = NULL;
	struct disk d;
	int r;

	if (!ctr_bool(c, "all") && !ctr_bool(c, "dry-run")) {
		ctr_warn("no images are removed without --all");
		return 0;
	}
	/* The containers come after the images: one made in between has its image spared. */
	r = images_list(c, (char *const *)c->args, c->n_args, &resp, err);
	if (r == 0)
		r = disk_load(c, &d, err);
	/* One image late, so that the last one is known: its removal waits for the collection. */
	for (size_t i = 0; r == 0 && i < resp->n_images; i++) {
		if (disk_image_used(&d, resp->images[i]))
			continue;
		if (last)
			r = prune_image(c, last->name, false, err);
		last = resp->images[i];
	}
	return r == 0 && last ? prune_image(c, last->name, true, err) : r;
}

const struct ctr_command images_prune = {
	.name = "prune",
	.usage = "remove images that nobody uses",
	.args = "[flags] [<filter>, ...]",
	.flags = CTR_FLAGS(images_flags),
	.run = run_images,
};

/* ---- snapshots ---- */

static const struct ctr_flag snapshots_flags[] = {
	{"dry-run", 0, CTR_BOOL, "only print what would be removed"}, {}};

static int compare_depth(const void *a, const void *b)
{
	const struct disk_snapshot *x = *(const struct disk_snapshot *const *)a;
	const struct disk_snapshot *y = *(const struct disk_snapshot *const *)b;

	return (x->depth < y->depth) - (x->depth > y->depth);
}

/* One that somebody has begun to use meanwhile is refused by the daemon, and stays. */
static int remove_snapshot(struct ctr *c, const char *snapshotter, const char *key, struct err *err)
{
	struct err e = ERR_INIT;
	int r;

	r = ctr_bool(c, "dry-run")
		    ? 0
		    : client_snapshot_remove(c->client, &c->ctx, snapshotter, key, &e);
	if (r == 0)
		puts(key);
	else if (r == -ERR_FAILED_PRECONDITION)
		ctr_warn("%s", e.text);
	else if (r != -ERR_NOT_FOUND)
		return err_copy(err, &e);
	return 0;
}

static int run_snapshots(struct ctr *c, struct err *err)
{
	const struct disk_snapshot **v;
	const char *snapshotter;
	struct disk_snapshots s;
	struct disk d;
	size_t n = 0;
	int r;

	r = snapshots_connect(c, &snapshotter, err);
	if (r == 0)
		r = disk_load(c, &d, err);
	if (r == 0)
		r = disk_load_snapshots(c, &d, snapshotter, &s, err);
	if (r < 0)
		return r;
	v = arena_new_array(c->ctx.arena, const struct disk_snapshot *, s.n + 1);
	if (!v)
		return err_nomem(err);
	for (size_t i = 0; i < s.n; i++)
		if (!s.v[i].needed)
			v[n++] = &s.v[i];
	/* Children before parents. */
	if (n)
		qsort(v, n, sizeof(*v), compare_depth);
	for (size_t i = 0; r == 0 && i < n; i++)
		r = remove_snapshot(c, snapshotter, v[i]->info->name, err);
	return r;
}

const struct ctr_command snapshots_prune = {
	.name = "prune",
	.usage = "remove snapshots that no container, image or lease needs",
	.args = "[flags]",
	.description =
		"   What was made by hand (snapshots prepare, view, commit) goes too, unless a "
		"container or a lease has it.",
	.flags = CTR_FLAGS(snapshots_flags),
	.run = run_snapshots,
};
