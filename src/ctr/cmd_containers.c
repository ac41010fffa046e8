/* SPDX-License-Identifier: Apache-2.0 */
/* ctr containers: the records of what tasks are made from. */
#include "ctr/commands.h"

#include "ctr/cmd_checkpoint.h"
#include "ctr/cmd_tasks.h"
#include "ctr/create.h"
#include "ctr/listing.h"
#include "ctr/network.h"
#include "ctr/task.h"

static int need_id(struct ctr *c, const char **ret_id, struct err *err)
{
	*ret_id = ctr_arg(c, 0);
	if (!**ret_id)
		return err_set(err, ERR_INVALID_ARGUMENT, "container id must be provided");
	return ctr_connect(c, err);
}

static int run_create(struct ctr *c, struct err *err)
{
	struct create k;
	int r;

	r = create_args(c, &k, err);
	if (r == 0)
		r = ctr_connect(c, err);
	if (r < 0)
		return r;
	r = create_container(c, &k, err);
	create_done(c, &k);
	return r;
}

/* ---- delete ---- */

static const struct ctr_flag delete_flags[] = {
	{"keep-snapshot", 0, CTR_BOOL, "leave the container's snapshot"}, {}};

/* A task that does not run any more goes too. */
static int delete_one(struct ctr *c, const char *id, struct err *err)
{
	PB_TASK_TYPES(Process) * task;
	struct err e = ERR_INIT;
	int r;

	r = client_task_get(c->client, &c->ctx, id, "", &task, &e);
	if (r == 0 && task->status != CONTAINERD__V1__TYPES__STATUS__STOPPED &&
	    task->status != CONTAINERD__V1__TYPES__STATUS__CREATED)
		return err_set(err, ERR_FAILED_PRECONDITION,
			       "cannot delete container \"%s\": its task has not stopped", id);
	if (r == 0) {
		r = client_task_remove(c->client, &c->ctx, id, "", false, NULL, err);
		if (r < 0)
			return r;
	} else if (r != -ERR_NOT_FOUND)
		return err_copy(err, &e);
	r = create_remove(c, id, ctr_bool(c, "keep-snapshot"), err);
	if (r == 0)
		network_forget(c, id);
	return r;
}

static int run_delete(struct ctr *c, struct err *err)
{
	int r, result = 0;
	const char *id;

	r = need_id(c, &id, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < c->n_args; i++) {
		struct err e = ERR_INIT;

		r = delete_one(c, c->args[i], &e);
		if (r < 0 && c->n_args > 1)
			ctr_warn("failed to delete container \"%s\": %s", c->args[i], e.text);
		if (r < 0 && result == 0)
			result = err_copy(err, &e);
	}
	return result;
}

/* ---- info ---- */

static const struct ctr_flag info_flags[] = {{"spec", 0, CTR_BOOL, "print only the runtime spec"},
					     {}};

/* The JSON inside an Any, or the Any itself when it holds something else. */
static int spec_json(const Google__Protobuf__Any *any, json_t **ret, struct err *err)
{
	struct err e = ERR_INIT;

	if (!any)
		*ret = json_null();
	else if (json_parse((const char *)any->value.data, any->value.len, ret, &e) < 0)
		*ret = pb_json(&any->base);
	return *ret ? 0 : err_nomem(err);
}

static json_t *labels_json(struct arena *a, const PB_CONTAINERS(Container) * m)
{
	json_t *o = json_object();
	struct labels l;

	if (!o || PB_LABELS_IN(a, m->labels, m->n_labels, &l) < 0)
		return o;
	for (size_t i = 0; i < l.n; i++)
		json_object_set_new(o, l.v[i].key, json_string(l.v[i].value));
	return o;
}

static json_t *extensions_json(const PB_CONTAINERS(Container) * m)
{
	json_t *o = m->n_extensions ? json_object() : json_null();

	for (size_t i = 0; i < m->n_extensions; i++)
		json_object_set_new(o, m->extensions[i]->key,
				    m->extensions[i]->value
					    ? pb_json(&m->extensions[i]->value->base)
					    : json_null());
	return o;
}

static json_t *runtime_json(const PB_CONTAINERS(Container) * m)
{
	const PB_CONTAINERS(Container__Runtime) *r = m->runtime;

	return json_pack("{s:s,s:o}", "Name", r ? r->name : "", "Options",
			 r && r->options ? pb_json(&r->options->base) : json_null());
}

static int run_info(struct ctr *c, struct err *err)
{
	PB_CONTAINERS(Container) * m;
	json_t *spec _cleanup_json_ = NULL;
	json_t *out _cleanup_json_ = NULL;
	const char *id;
	int r;

	r = need_id(c, &id, err);
	if (r == 0)
		r = client_container_get(c->client, &c->ctx, id, &m, err);
	if (r == 0)
		r = spec_json(m->spec, &spec, err);
	if (r < 0)
		return r;
	if (ctr_bool(c, "spec"))
		return ctr_print_json(spec, err);
	out = json_pack("{s:s,s:o,s:s,s:o,s:s,s:s,s:o,s:o,s:o,s:s,s:O}", "ID", m->id, "Labels",
			labels_json(c->ctx.arena, m), "Image", m->image, "Runtime", runtime_json(m),
			"SnapshotKey", m->snapshot_key, "Snapshotter", m->snapshotter, "CreatedAt",
			listing_time_always(m->created_at), "UpdatedAt",
			listing_time_always(m->updated_at), "Extensions", extensions_json(m),
			"SandboxID", m->sandbox, "Spec", spec);
	return out ? ctr_print_json(out, err) : err_nomem(err);
}

/* ---- list, label ---- */

static const struct ctr_flag list_flags[] = {{"quiet", 'q', CTR_BOOL, "print only the ids"}, {}};

static json_t *row_json(const PB_CONTAINERS(Container) * m)
{
	return json_pack("{s:s,s:s,s:s,s:s,s:s,s:s,s:o,s:o,s:o}", "ID", m->id, "Image", m->image,
			 "Runtime", m->runtime ? m->runtime->name : "", "Snapshotter",
			 m->snapshotter, "SnapshotKey", m->snapshot_key, "SandboxID", m->sandbox,
			 "CreatedAt", listing_time(m->created_at), "UpdatedAt",
			 listing_time(m->updated_at), "Labels", LISTING_LABELS(m));
}

static int run_list(struct ctr *c, struct err *err)
{
	PB_CONTAINERS(ListContainersRequest) req = PB_CONTAINERS_INIT(LIST_CONTAINERS_REQUEST);
	struct listing list _cleanup_listing_ = {.table = TABLE_INIT(4, 8, 4, ' '), .key = "ID"};
	PB_CONTAINERS(ListContainersResponse) * resp;
	int r;

	r = ctr_connect(c, err);
	if (r < 0)
		return r;
	req.filters = (char **)c->args;
	req.n_filters = c->n_args;
	r = client_call(c->client, &c->ctx, PB_CONTAINERS_SERVICE, "List", &req.base, &resp, err);
	if (r < 0)
		return r;
	r = listing_begin(c, &list, "CONTAINER\tIMAGE\tRUNTIME\t\n", err);
	for (size_t i = 0; r == 0 && i < resp->n_containers; i++) {
		const PB_CONTAINERS(Container) *m = resp->containers[i];

		r = listing_add(&list, row_json(m), err, "%s\t%s\t%s\t\n", m->id,
				*m->image ? m->image : "-", m->runtime ? m->runtime->name : "");
	}
	return r < 0 ? r : listing_end(&list, err);
}

static int run_label(struct ctr *c, struct err *err)
{
	PB_CONTAINERS(Container) * m;
	struct labels l = {};
	const char *id;
	int r;

	r = need_id(c, &id, err);
	if (r == 0)
		r = ctr_parse_labels(c->ctx.arena, c->args + 1, c->n_args - 1, &l, err);
	if (r == 0)
		r = l.n ? client_container_set_labels(c->client, &c->ctx, id, &l, &m, err)
			: client_container_get(c->client, &c->ctx, id, &m, err);
	if (r < 0)
		return r;
	if (PB_LABELS_IN(c->ctx.arena, m->labels, m->n_labels, &l) < 0)
		return err_nomem(err);
	puts(l.n ? ctr_format_labels(c->ctx.arena, &l) : "");
	return 0;
}

static const struct ctr_command create = {
	.name = "create",
	.usage = "create a container",
	.args = "[flags] Image|RootFS CONTAINER [COMMAND] [ARG...]",
	.flags = CTR_FLAGS(runtime_flags, container_flags),
	.names = CTR_NAMES_IMAGES,
	.run = run_create,
};
static const struct ctr_command delete = {
	.name = "delete",
	.aliases = {"del", "remove", "rm"},
	.usage = "delete one or more containers",
	.args = "[flags] CONTAINER [CONTAINER, ...]",
	.flags = CTR_FLAGS(delete_flags),
	.names = CTR_NAMES_CONTAINERS,
	.more = CTR_NAMES_CONTAINERS,
	.run = run_delete,
};
static const struct ctr_command info = {
	.name = "info",
	.usage = "show a container",
	.args = "CONTAINER",
	.flags = CTR_FLAGS(info_flags),
	.names = CTR_NAMES_CONTAINERS,
	.run = run_info,
};
static const struct ctr_command list = {
	.name = "list",
	.aliases = {"ls"},
	.usage = "list containers",
	.args = "[flags] [<filter>, ...]",
	.flags = CTR_FLAGS(list_flags, format_flags),
	.run = run_list,
};
static const struct ctr_command label = {
	.name = "label",
	.usage = "set and clear labels of a container",
	.args = "[flags] CONTAINER [<key>=<value>, ...]",
	.names = CTR_NAMES_CONTAINERS,
	.run = run_label,
};
const struct ctr_command cmd_containers = {
	.name = "containers",
	.aliases = {"c", "container"},
	.usage = "manage containers",
	.subcommands = CTR_COMMANDS(&create, &delete, &info, &list, &label, &containers_checkpoint,
				    &containers_restore, &containers_start, &containers_stop),
};
