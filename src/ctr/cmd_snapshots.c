/* SPDX-License-Identifier: Apache-2.0 */
/* ctr snapshots, but for what reads and writes layers: see cmd_snapshots_layer.c. */
#include "ctr/cmd_snapshots.h"

#include <errno.h>
#include <limits.h>

#include "base/path.h"
#include "base/time.h"
#include "client/image.h"
#include "ctr/listing.h"
#include "ctr/record.h"
#include "rpc/rpc.h"

#define TEMP_SECONDS 3600
#define SNAPSHOT_LABELS (&containerd__services__snapshots__v1__info__labels_entry__descriptor)

int snapshots_connect(struct ctr *c, const char **ret_snapshotter, struct err *err)
{
	int r;

	r = ctr_connect(c, err);
	return r < 0 ? r : ctr_snapshotter(c, ret_snapshotter, err);
}

static int need_key(struct ctr *c, const char **ret_snapshotter, const char **ret_key,
		    struct err *err)
{
	int r;

	r = record_arg(c, 0, "snapshot key", ret_key, err);
	return r < 0 ? r : snapshots_connect(c, ret_snapshotter, err);
}

/* ---- list, tree ---- */

static const char *kind_text(int kind)
{
	switch (kind) {
	case CONTAINERD__SERVICES__SNAPSHOTS__V1__KIND__VIEW:
		return "View";
	case CONTAINERD__SERVICES__SNAPSHOTS__V1__KIND__ACTIVE:
		return "Active";
	case CONTAINERD__SERVICES__SNAPSHOTS__V1__KIND__COMMITTED:
		return "Committed";
	default:
		return "Unknown";
	}
}

int snapshots_list(struct ctr *c, const char *snapshotter, struct snapshots *ret, struct err *err)
{
	PB_SNAPSHOTS(ListSnapshotsRequest) req = PB_SNAPSHOTS_INIT(LIST_SNAPSHOTS_REQUEST);
	struct rpc_stream *s _cleanup_(rpc_stream_freep) = NULL;
	PB_SNAPSHOTS(ListSnapshotsResponse) * m;
	struct snapshots l = {};
	int r;

	req.snapshotter = (char *)snapshotter;
	r = client_stream(c->client, &c->ctx, PB_SNAPSHOTS_SERVICE, "List", &req.base, &s, err);
	if (r < 0)
		return r;
	while ((r = rpc_stream_recv(
			s, c->ctx.arena,
			&containerd__services__snapshots__v1__list_snapshots_response__descriptor,
			&m, err)) > 0) {
		l.v = arena_grow(c->ctx.arena, l.v, &l.cap, l.n + m->n_info, sizeof(*l.v));
		if (!l.v && m->n_info)
			return err_nomem(err);
		for (size_t i = 0; i < m->n_info; i++)
			l.v[l.n++] = m->info[i];
	}
	if (r == 0)
		*ret = l;
	return r;
}

static json_t *row_json(const char *snapshotter, const PB_SNAPSHOTS(Info) * m)
{
	return json_pack("{s:s,s:s,s:s,s:s,s:o,s:o,s:o}", "Key", m->name, "Parent", m->parent,
			 "Kind", kind_text(m->kind), "Snapshotter", snapshotter, "CreatedAt",
			 listing_time(m->created_at), "UpdatedAt", listing_time(m->updated_at),
			 "Labels", LISTING_LABELS(m));
}

static int run_list(struct ctr *c, struct err *err)
{
	struct listing list _cleanup_listing_ = {.table = TABLE_INIT(1, 8, 1, ' ')};
	const char *snapshotter;
	struct snapshots l;
	int r;

	r = snapshots_connect(c, &snapshotter, err);
	if (r == 0)
		r = snapshots_list(c, snapshotter, &l, err);
	if (r < 0)
		return r;
	r = listing_begin(c, &list, "KEY\tPARENT\tKIND\t\n", err);
	for (size_t i = 0; r == 0 && i < l.n; i++)
		r = listing_add(&list, row_json(snapshotter, l.v[i]), err, "%s\t%s\t%s\t\n",
				l.v[i]->name, l.v[i]->parent, kind_text(l.v[i]->kind));
	return r < 0 ? r : listing_end(&list, err);
}

/* Below @parent. No node is on its own path: the walk starts where there is no parent. */
static void print_tree(const struct snapshots *l, const char *parent, int level)
{
	for (size_t i = 0; i < l->n; i++) {
		if (!streq(l->v[i]->parent, parent))
			continue;
		printf("%*s%s %s\n", 2 * level, "", level ? "\\_" : "", l->v[i]->name);
		print_tree(l, l->v[i]->name, level + 1);
	}
}

static int run_tree(struct ctr *c, struct err *err)
{
	const char *snapshotter;
	struct snapshots l;
	int r;

	r = snapshots_connect(c, &snapshotter, err);
	if (r == 0)
		r = snapshots_list(c, snapshotter, &l, err);
	if (r == 0)
		print_tree(&l, "", 0);
	return r;
}

/* ---- info, label ---- */

static int info_json(struct arena *a, const PB_SNAPSHOTS(Info) * info, json_t *o)
{
	struct labels l;
	json_t *labels;

	if (PB_LABELS_IN(a, info->labels, info->n_labels, &l) < 0 ||
	    json_object_set_new(o, "Kind", json_string(kind_text(info->kind))) < 0 ||
	    json_object_set_new(o, "Name", json_string(info->name)) < 0 ||
	    (*info->parent && json_object_set_new(o, "Parent", json_string(info->parent)) < 0))
		return -ENOMEM;
	labels = l.n ? json_obj_make(o, "Labels") : NULL;
	for (size_t i = 0; i < l.n; i++)
		if (json_object_set_new(labels, l.v[i].key, json_string(l.v[i].value)) < 0)
			return -ENOMEM;
	if (json_object_set_new(o, "Created", listing_time_always(info->created_at)) < 0 ||
	    json_object_set_new(o, "Updated", listing_time_always(info->updated_at)) < 0)
		return -ENOMEM;
	return 0;
}

static int run_info(struct ctr *c, struct err *err)
{
	json_t *o _cleanup_json_ = json_object();
	const char *snapshotter, *key;
	PB_SNAPSHOTS(Info) * info;
	int r;

	r = need_key(c, &snapshotter, &key, err);
	if (r == 0)
		r = client_snapshot_stat(c->client, &c->ctx, snapshotter, key, &info, err);
	if (r < 0)
		return r;
	return info_json(c->ctx.arena, info, o) < 0 ? err_nomem(err) : ctr_print_json(o, err);
}

static int run_label(struct ctr *c, struct err *err)
{
	PB_SNAPSHOTS(UpdateSnapshotRequest) req = PB_SNAPSHOTS_INIT(UPDATE_SNAPSHOT_REQUEST);
	PB_SNAPSHOTS(Info) info = PB_SNAPSHOTS_INIT(INFO);
	PB_SNAPSHOTS(UpdateSnapshotResponse) * resp;
	Google__Protobuf__FieldMask mask;
	const char *snapshotter, *key;
	struct labels l = {};
	int r;

	r = need_key(c, &snapshotter, &key, err);
	if (r == 0)
		r = record_label_args(c, &l, err);
	if (r == 0)
		r = record_label_mask(c->ctx.arena, &l, &mask, err);
	if (r < 0)
		return r;
	info.name = (char *)key;
	if (PB_LABELS_OUT(c->ctx.arena, &l, SNAPSHOT_LABELS, info.labels, info.n_labels) < 0)
		return err_nomem(err);
	req.snapshotter = (char *)snapshotter;
	req.info = &info;
	req.update_mask = &mask;
	r = client_call(c->client, &c->ctx, PB_SNAPSHOTS_SERVICE, "Update", &req.base, &resp, err);
	if (r < 0)
		return r;
	if (!resp->info)
		return err_set(err, ERR_INTERNAL, "snapshot \"%s\" came empty", key);
	return record_print_labels(c->ctx.arena, (struct pb_label *const *)resp->info->labels,
				   resp->info->n_labels, err);
}

/* ---- prepare, view, mounts, commit ---- */

static const struct ctr_flag prepare_flags[] = {
	{"target", 't', CTR_STRING, "print the mount commands for this mount point"},
	{"mounts", 0, CTR_BOOL, "print the mounts as JSON"},
	{"image", 0, CTR_STRING, "on the layers of this image, which are unpacked where needed"},
	{}};

/* Lines for a shell: how to mount at @target. */
static int print_mounts(struct arena *a, const struct client_mounts *m, const char *target,
			struct err *err)
{
	for (size_t i = 0; i < m->n; i++) {
		const PB_TYPES(Mount) *v = m->v[i];
		const char *at = *v->target ? path_join(a, target, v->target) : target;

		if (!at)
			return err_nomem(err);
		printf("mount -t %s %s %s -o ", v->type, v->source, at);
		for (size_t j = 0; j < v->n_options; j++)
			printf("%s%s", j ? "," : "", v->options[j]);
		putchar('\n');
	}
	return 0;
}

static int print_mounts_json(const struct client_mounts *m, struct err *err)
{
	json_t *out _cleanup_json_ = json_array();

	for (size_t i = 0; i < m->n; i++) {
		const PB_TYPES(Mount) *v = m->v[i];
		json_t *options = json_array();
		json_t *o = json_pack("{s:s,s:s,s:s,s:o}", "Type", v->type, "Source", v->source,
				      "Target", v->target, "Options", options);

		for (size_t j = 0; o && j < v->n_options; j++)
			json_array_append_new(options, json_string(v->options[j]));
		if (json_array_append_new(out, o) < 0)
			return err_nomem(err);
	}
	return ctr_print_json(out, err);
}

/* What is made by hand is kept until it is removed by hand. */
static int root_label(struct arena *a, struct labels *ret, struct err *err)
{
	const char *now = record_utc_time(a, time_now());

	return !now || labels_set(a, ret, "containerd.io/gc.root", now) < 0 ? err_nomem(err) : 0;
}

/* The top snapshot of --image. */
static int image_parent(struct ctr *c, const char *snapshotter, const char **ret, struct err *err)
{
	struct client_image image _cleanup_client_image_ = {};
	int r;

	if (*ctr_arg(c, 1))
		return err_set(err, ERR_INVALID_ARGUMENT, "either --image or a parent");
	r = client_image_load(c->client, &c->ctx, ctr_string(c, "image"), "", &image, err);
	if (r == 0)
		r = record_lease_begin(c, err);
	if (r < 0)
		return r;
	r = client_image_unpack(c->client, &c->ctx, &image, snapshotter, false, err);
	record_lease_end(c);
	if (r == 0)
		*ret = image.chain_id;
	return r;
}

static int prepare(struct ctr *c, bool view, struct err *err)
{
	const char *snapshotter, *key, *target = ctr_string(c, "target"), *parent = ctr_arg(c, 1);
	struct client_mounts mounts;
	struct labels l = {};
	int r;

	r = need_key(c, &snapshotter, &key, err);
	if (r == 0)
		r = root_label(c->ctx.arena, &l, err);
	if (r == 0 && *ctr_string(c, "image"))
		r = image_parent(c, snapshotter, &parent, err);
	if (r == 0)
		r = client_snapshot_prepare(c->client, &c->ctx, snapshotter, key, parent, view, &l,
					    &mounts, err);
	if (r == 0 && *target)
		r = print_mounts(c->ctx.arena, &mounts, target, err);
	if (r == 0 && ctr_bool(c, "mounts"))
		r = print_mounts_json(&mounts, err);
	return r;
}

static int run_prepare(struct ctr *c, struct err *err)
{
	return prepare(c, false, err);
}

static int run_view(struct ctr *c, struct err *err)
{
	return prepare(c, true, err);
}

static const struct ctr_flag mounts_flags[] = {
	{"temp", 0, CTR_BOOL,
	 "have the daemon make what mount(8) cannot, such as file systems in files, for an hour"},
	{}};

int snapshots_activate(struct ctr *c, const char *name, struct client_mounts *m, bool *ret_active,
		       struct err *err)
{
	PB_MOUNTS(ActivateRequest) req = PB_MOUNTS_INIT(ACTIVATE_REQUEST);
	PB_MOUNTS(ActivateResponse) * resp;
	struct err e = ERR_INIT;
	int r;

	req.name = (char *)name;
	req.mounts = m->v;
	req.n_mounts = m->n;
	req.temporary = true;
	r = client_call(c->client, &c->ctx, PB_MOUNTS_SERVICE, "Activate", &req.base, &resp, &e);
	if (ret_active)
		*ret_active = r == 0;
	if (r < 0)
		return r == -ERR_UNIMPLEMENTED ? 0 : err_copy(err, &e);
	if (!resp->info)
		return err_set(err, ERR_INTERNAL, "activation came empty");
	*m = (struct client_mounts){resp->info->system, resp->info->n_system};
	return 0;
}

/* Under a lease that stays for a while, when it is needed. */
static int activate_for_a_while(struct ctr *c, struct client_mounts *m, struct err *err)
{
	const char *lease;
	bool active = false;
	int r;

	r = client_lease_create(c->client, &c->ctx, TEMP_SECONDS, &lease, err);
	if (r < 0)
		return r;
	c->ctx.lease = lease;
	r = snapshots_activate(c, lease, m, &active, err);
	if (r < 0 || !active)
		record_lease_end(c);
	return r;
}

static int run_mounts(struct ctr *c, struct err *err)
{
	const char *snapshotter, *target, *key;
	struct client_mounts mounts;
	int r;

	r = record_arg(c, 0, "target", &target, err);
	if (r == 0)
		r = record_arg(c, 1, "snapshot key", &key, err);
	if (r == 0)
		r = snapshots_connect(c, &snapshotter, err);
	if (r == 0)
		r = client_snapshot_mounts(c->client, &c->ctx, snapshotter, key, &mounts, err);
	if (r == 0 && ctr_bool(c, "temp"))
		r = activate_for_a_while(c, &mounts, err);
	return r < 0 ? r : print_mounts(c->ctx.arena, &mounts, target, err);
}

static int run_commit(struct ctr *c, struct err *err)
{
	const char *snapshotter, *name, *active;
	struct labels l = {};
	int r;

	r = record_arg(c, 0, "snapshot key", &name, err);
	if (r == 0)
		r = record_arg(c, 1, "active snapshot", &active, err);
	if (r == 0)
		r = root_label(c->ctx.arena, &l, err);
	if (r == 0)
		r = snapshots_connect(c, &snapshotter, err);
	return r < 0 ? r
		     : client_snapshot_commit(c->client, &c->ctx, snapshotter, name, active, &l,
					      err);
}

/* ---- delete, usage ---- */

static int delete_one(struct ctr *c, const char *key, bool last, struct err *err)
{
	const char *snapshotter;
	int r;

	r = snapshots_connect(c, &snapshotter, err);
	return r < 0 ? r : client_snapshot_remove(c->client, &c->ctx, snapshotter, key, err);
}

static int run_delete(struct ctr *c, struct err *err)
{
	const char *key;
	int r;

	r = record_arg(c, 0, "snapshot key", &key, err);
	return r < 0 ? r : record_each(c, "failed to remove", false, delete_one, err);
}

static const struct ctr_flag usage_flags[] = {{"b", 0, CTR_BOOL, "sizes in bytes"}, {}};

int snapshots_add_usage(struct ctr *c, struct listing *list, const char *snapshotter,
			const char *key, bool bytes, struct err *err)
{
	int64_t size, inodes;
	char text[32];
	int r;

	r = client_snapshot_usage(c->client, &c->ctx, snapshotter, key, &size, &inodes, err);
	if (r < 0)
		return r;
	if (bytes)
		snprintf(text, sizeof(text), "%lld", (long long)size);
	else
		str_size_binary(size, text);
	return listing_add(list,
			   json_pack("{s:s,s:I,s:I}", "Key", key, "Size", (json_int_t)size,
				     "Inodes", (json_int_t)inodes),
			   err, "%s\t%s\t%lld\t\n", key, text, (long long)inodes);
}

static int run_usage(struct ctr *c, struct err *err)
{
	struct listing list _cleanup_listing_ = {.table = TABLE_INIT(1, 8, 1, ' ')};
	const char *snapshotter;
	struct snapshots l = {};
	int r;

	r = snapshots_connect(c, &snapshotter, err);
	if (r == 0 && c->n_args == 0)
		r = snapshots_list(c, snapshotter, &l, err);
	if (r < 0)
		return r;
	r = listing_begin(c, &list, "KEY\tSIZE\tINODES\t\n", err);
	for (size_t i = 0; r == 0 && i < MAX(l.n, c->n_args); i++)
		r = snapshots_add_usage(c, &list, snapshotter,
					c->n_args ? c->args[i] : l.v[i]->name, ctr_bool(c, "b"),
					err);
	return r < 0 ? r : listing_end(&list, err);
}

/* ---- Tables ---- */

static const struct ctr_command commit_command = {
	.name = "commit",
	.usage = "commit an active snapshot under a name",
	.args = "<key> <active>",
	.more = CTR_NAMES_SNAPSHOTS,
	.run = run_commit,
};
static const struct ctr_command info_command = {
	.name = "info",
	.usage = "show a snapshot",
	.args = "<key>",
	.names = CTR_NAMES_SNAPSHOTS,
	.run = run_info,
};
static const struct ctr_command list_command = {
	.name = "list",
	.aliases = {"ls"},
	.usage = "list snapshots",
	.flags = CTR_FLAGS(format_flags),
	.run = run_list,
};
static const struct ctr_command mounts_command = {
	.name = "mounts",
	.aliases = {"m", "mount"},
	.usage = "print the commands that mount a snapshot",
	.args = "<target> <key>",
	.flags = CTR_FLAGS(mounts_flags),
	.names = CTR_NAMES_FILES,
	.more = CTR_NAMES_SNAPSHOTS,
	.run = run_mounts,
};
static const struct ctr_command prepare_command = {
	.name = "prepare",
	.usage = "make an active snapshot on a committed one",
	.args = "[flags] <key> [<parent>]",
	.flags = CTR_FLAGS(prepare_flags),
	.more = CTR_NAMES_SNAPSHOTS,
	.run = run_prepare,
};
static const struct ctr_command delete_command = {
	.name = "delete",
	.aliases = {"del", "remove", "rm"},
	.usage = "remove snapshots",
	.args = "<key> [<key>, ...]",
	.names = CTR_NAMES_SNAPSHOTS,
	.more = CTR_NAMES_SNAPSHOTS,
	.run = run_delete,
};
static const struct ctr_command label_command = {
	.name = "label",
	.usage = "set and clear labels of a snapshot",
	.args = "<name> [<label>=<value> ...]",
	.names = CTR_NAMES_SNAPSHOTS,
	.run = run_label,
};
static const struct ctr_command tree_command = {
	.name = "tree",
	.usage = "show which snapshot stands on which",
	.run = run_tree,
};
static const struct ctr_command usage_command = {
	.name = "usage",
	.usage = "show what snapshots take on disk",
	.args = "[flags] [<key>, ...]",
	.flags = CTR_FLAGS(usage_flags, format_flags),
	.names = CTR_NAMES_SNAPSHOTS,
	.more = CTR_NAMES_SNAPSHOTS,
	.run = run_usage,
};
static const struct ctr_command view_command = {
	.name = "view",
	.usage = "make a read-only snapshot on a committed one",
	.args = "[flags] <key> [<parent>]",
	.flags = CTR_FLAGS(prepare_flags),
	.more = CTR_NAMES_SNAPSHOTS,
	.run = run_view,
};

static const struct ctr_flag group_flags[] = {
	{"snapshotter", 0, CTR_STRING, "snapshotter; the namespace's default when not given", NULL,
	 "CONTAINERD_SNAPSHOTTER"},
	{}};

const struct ctr_command cmd_snapshots = {
	.name = "snapshots",
	.aliases = {"snapshot"},
	.usage = "manage snapshots",
	.flags = CTR_FLAGS(group_flags),
	.subcommands = CTR_COMMANDS(&commit_command, &snapshots_diff, &info_command, &list_command,
				    &mounts_command, &prepare_command, &delete_command,
				    &label_command, &snapshots_prune, &tree_command,
				    &snapshots_unpack, &usage_command, &view_command),
};
