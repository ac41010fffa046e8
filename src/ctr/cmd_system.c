/* SPDX-License-Identifier: Apache-2.0 */
/* ctr system df: what a namespace takes on disk, and how much of that could go. */
#include "ctr/disk.h"
#include "ctr/listing.h"

struct usage {
	const char *type;
	size_t total, active;
	int64_t size, reclaimable;
};

static void add(struct usage *u, int64_t size, bool active)
{
	u->total++;
	u->active += active;
	if (size < 0 || __builtin_add_overflow(u->size, size, &u->size))
		u->size = INT64_MAX;
	if (!active && __builtin_add_overflow(u->reclaimable, size, &u->reclaimable))
		u->reclaimable = INT64_MAX;
}

static int add_row(struct listing *list, const struct usage *u, struct err *err)
{
	int percent = u->size > 0 ? (int)((double)u->reclaimable * 100 / (double)u->size) : 0;
	char size[32], reclaimable[32];

	str_size_binary(u->size, size);
	str_size_binary(u->reclaimable, reclaimable);
	return listing_add(list,
			   json_pack("{s:s,s:I,s:I,s:I,s:I}", "Type", u->type, "Total",
				     (json_int_t)u->total, "Active", (json_int_t)u->active, "Size",
				     (json_int_t)u->size, "Reclaimable",
				     (json_int_t)u->reclaimable),
			   err, "%s\t%zu\t%zu\t%s\t%s (%d%%)\t\n", u->type, u->total, u->active,
			   size, reclaimable, percent);
}

/* The blobs of images once each, though several images may have them. */
static struct usage images_usage_of(const struct disk *d)
{
	struct usage u = {.type = "Images"};

	for (size_t i = 0; i < d->n_blobs; i++)
		if (d->blobs[i].of_image)
			add(&u, d->blobs[i].size, d->blobs[i].of_used);
	u.total = d->n_images;
	u.active = 0;
	for (size_t i = 0; i < d->n_images; i++)
		u.active += disk_image_used(d, d->images[i]);
	return u;
}

static struct usage content_usage(const struct disk *d)
{
	struct usage u = {.type = "Content"};

	for (size_t i = 0; i < d->n_blobs; i++)
		add(&u, d->blobs[i].size, d->blobs[i].of_image);
	return u;
}

/* Tasks that run or are paused. */
static int running_tasks(struct ctr *c, struct labels *ret, struct err *err)
{
	PB_TASKS(ListTasksRequest) req = PB_TASKS_INIT(LIST_TASKS_REQUEST);
	PB_TASKS(ListTasksResponse) * resp;
	int r;

	r = client_call(c->client, &c->ctx, PB_TASKS_SERVICE, "List", &req.base, &resp, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < resp->n_tasks; i++)
		if (resp->tasks[i]->status != CONTAINERD__V1__TYPES__STATUS__STOPPED &&
		    labels_set(c->ctx.arena, ret, resp->tasks[i]->id, "") < 0)
			return err_nomem(err);
	return 0;
}

/* Snapshots go away while we count. */
static int64_t size_of(struct ctr *c, const char *snapshotter, const char *key)
{
	struct err e = ERR_INIT;
	int64_t size, inodes;

	return *key && client_snapshot_usage(c->client, &c->ctx, snapshotter, key, &size, &inodes,
					     &e) == 0
		       ? size
		       : 0;
}

static int add_containers(struct ctr *c, const struct disk *d, struct listing *list,
			  struct err *err)
{
	struct usage u = {.type = "Containers"};
	struct labels running = {};
	int r;

	r = running_tasks(c, &running, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < d->n_containers; i++) {
		const PB_CONTAINERS(Container) *m = d->containers[i];

		add(&u, size_of(c, m->snapshotter, m->snapshot_key),
		    labels_get(&running, m->id) != NULL);
	}
	return add_row(list, &u, err);
}

static int add_snapshots(struct ctr *c, const struct disk *d, const char *snapshotter,
			 struct listing *list, struct err *err)
{
	struct disk_snapshots s;
	struct usage u = {};
	int r;

	r = disk_load_snapshots(c, d, snapshotter, &s, err);
	if (r < 0 || s.n == 0)
		return r;
	u.type = arena_printf(c->ctx.arena, "Snapshots (%s)", snapshotter);
	if (!u.type)
		return err_nomem(err);
	for (size_t i = 0; i < s.n; i++)
		add(&u, size_of(c, snapshotter, s.v[i].info->name), s.v[i].of_container);
	return add_row(list, &u, err);
}

static int run_df(struct ctr *c, struct err *err)
{
	struct listing list _cleanup_listing_ = {.table = TABLE_INIT(4, 8, 4, ' ')};
	const char **snapshotters;
	struct usage u;
	struct disk d;
	size_t n;
	int r;

	r = listing_begin(c, &list, "TYPE\tTOTAL\tACTIVE\tSIZE\tRECLAIMABLE\t\n", err);
	if (r == 0)
		r = disk_load(c, &d, err);
	if (r == 0)
		r = disk_snapshotters(c, &snapshotters, &n, err);
	if (r < 0)
		return r;
	u = images_usage_of(&d);
	r = add_row(&list, &u, err);
	u = content_usage(&d);
	if (r == 0)
		r = add_row(&list, &u, err);
	for (size_t i = 0; r == 0 && i < n; i++)
		r = add_snapshots(c, &d, snapshotters[i], &list, err);
	if (r == 0)
		r = add_containers(c, &d, &list, err);
	return r < 0 ? r : listing_end(&list, err);
}

static const struct ctr_command df = {
	.name = "df",
	.usage = "show what the namespace takes on disk",
	.args = "[flags]",
	.description = "   Images: their blobs, active when a container uses the image. Content: "
		       "all blobs, "
		       "active when an image needs them.\n"
		       "   Snapshots: active when a container needs them. Containers: their "
		       "writable layers, "
		       "active while a task runs.",
	.flags = CTR_FLAGS(format_flags),
	.run = run_df,
};

const struct ctr_command cmd_system = {
	.name = "system",
	.usage = "look at the whole of a namespace",
	.subcommands = CTR_COMMANDS(&df),
};
