/* SPDX-License-Identifier: Apache-2.0 */
/* The public interface: containers. */
#include "client/public.h"

#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "client/create.h"
#include "client/rootfs.h"
#include "oci/spec.h"

#define RUNTIME "io.containerd.runc.v2"

struct maker {
	struct call *k;
	const char *id;
	const struct containerd_container_options *o;
};

/* ---- Spec ---- */

static bool is_spec_only(const struct containerd_container_options *o)
{
	return !o->args && !o->n_args && !o->env && !o->n_env && !o->mounts && !o->n_mounts &&
	       !o->cwd && !o->user && !o->hostname && !o->terminal && !o->read_only &&
	       !o->host_network && !o->privileged && !o->memory_limit;
}

static int given_spec(const struct containerd_container_options *o, json_t **ret, struct err *err)
{
	json_t *spec _cleanup_json_ = NULL;
	int r;

	if (!is_spec_only(o))
		return err_set(err, ERR_INVALID_ARGUMENT, "either a spec, or what makes one");
	r = json_parse(o->spec, strlen(o->spec), &spec, err);
	if (r < 0)
		return err_prefix(err, "the spec");
	if (!json_is_object(spec))
		return err_set(err, ERR_INVALID_ARGUMENT, "the spec is no object");
	*ret = TAKE_PTR(spec);
	return 0;
}

static int apply_mounts(const struct containerd_container_options *o, json_t *spec, struct err *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < o->n_mounts; i++) {
		const struct containerd_mount *m = &o->mounts[i];

		r = need_text(m->target, "target of a mount", err);
		if (r == 0)
			r = spec_add_mount(spec,
					   &(struct mount){
						   .type = text_or_empty(m->type),
						   .source = text_or_empty(m->source),
						   .target = m->target,
						   .options = (const char **)m->options,
						   .n_options = m->n_options,
					   },
					   err);
	}
	return r;
}

static int apply_process(const struct maker *m, json_t *spec, const struct client_image *image,
			 const struct client_mounts *mounts, struct err *err)
{
	const struct containerd_container_options *o = m->o;
	const char *user = text_or_empty(o->user);
	struct user_ids u;
	int r = 0;

	for (size_t i = 0; r == 0 && i < o->n_env; i++)
		r = spec_set_env(spec, o->env[i], err);
	if (r == 0 && o->cwd)
		r = spec_set(spec, "process/cwd", json_string(o->cwd), err);
	if (r == 0 && o->terminal)
		r = spec_set_terminal(spec, err);
	if (r < 0)
		return r;
	r = client_rootfs_user(m->k->client, &m->k->ctx, NULL, mounts,
			       *user ? user : json_str(image->config, "User", ""), &u, err);
	return r < 0 ? r : spec_set_user(spec, u.uid, u.gid, u.gids, u.n_gids, err);
}

static int apply_rest(const struct containerd_container_options *o, json_t *spec, struct err *err)
{
	int r = 0;

	if (o->privileged) {
		r = spec_set_privileged(spec, err);
		if (r == 0)
			r = spec_allow_all_devices(spec, err);
		if (r == 0)
			r = spec_add_device(spec, "/dev", "/dev", NULL, err);
	}
	if (r == 0)
		r = apply_mounts(o, spec, err);
	if (r == 0 && o->host_network)
		r = spec_set_host_network(spec, err);
	if (r == 0 && o->read_only)
		r = spec_set(spec, "root/readonly", json_true(), err);
	if (r == 0 && o->hostname)
		r = spec_set(spec, "hostname", json_string(o->hostname), err);
	if (r == 0 && o->memory_limit > INT64_MAX)
		r = err_set(err, ERR_INVALID_ARGUMENT, "the memory limit is out of range");
	if (r == 0 && o->memory_limit)
		r = spec_set(spec, "linux/resources/memory/limit",
			     json_integer((json_int_t)o->memory_limit), err);
	return r;
}

static int make_spec(void *arg, const struct client_image *image,
		     const struct client_mounts *mounts, json_t **ret, struct err *err)
{
	const struct maker *m = arg;
	json_t *spec _cleanup_json_ = NULL;
	int r;

	if (m->o->spec)
		return given_spec(m->o, ret, err);
	if (!image)
		return err_set(err, ERR_INVALID_ARGUMENT, "neither an image nor a spec");
	r = spec_new(m->k->ctx.ns, m->id, spec_host_unified(), &spec, err);
	if (r == 0)
		r = spec_allow_default_devices(spec, err);
	if (r == 0)
		r = spec_apply_image(spec, image->config, m->o->args, m->o->n_args, err);
	if (r == 0)
		r = apply_process(m, spec, image, mounts, err);
	if (r == 0)
		r = apply_rest(m->o, spec, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(spec);
	return 0;
}

/* ---- Create ---- */

static int create(struct call *k, const char *id, const struct containerd_container_options *o)
{
	struct maker m = {k, id, o};
	struct client_create_options create = {
		.id = id,
		.image = text_or_empty(o->image),
		.platform = text_or_empty(o->platform),
		.snapshotter = "",
		.runtime = o->runtime ? o->runtime : RUNTIME,
		.sandbox = "",
		.spec = make_spec,
		.spec_arg = &m,
	};
	struct rpc_stream *lease = NULL;
	struct client_mounts mounts;
	struct err e = ERR_INIT;
	int r;

	r = need_text(id, "container", &k->err);
	if (r == 0)
		r = labels_from_public(k->ctx.arena, o->labels, o->n_labels, &create.labels,
				       &k->err);
	if (r == 0 && *create.image)
		r = choose_snapshotter(k, o->snapshotter, &create.snapshotter);
	if (r == 0)
		r = client_create_begin(k->client, &k->ctx, &lease, &k->err);
	if (r < 0)
		return r;
	r = client_create(k->client, &k->ctx, &create, &lease, &mounts, &k->err);
	/* A lease that stays ends by itself. */
	if (client_create_end(k->client, &k->ctx, &lease, &e) < 0)
		e = ERR_INIT;
	return r;
}

int containerd_container_create(struct containerd_client *client, const char *id,
				const struct containerd_container_options *options,
				struct containerd_error *error)
{
	struct containerd_container_options o;
	struct call k _cleanup_call_ = {};
	int r = call_begin(&k, client);

	if (r == 0)
		r = OPTIONS_COPY(o, options, &k.err);
	if (r == 0)
		r = create(&k, id, &o);
	return call_end(&k, r, error);
}

/* ---- Records ---- */

static int container_fill(struct arena *a, const PB_CONTAINERS(Container) * m,
			  struct containerd_container *ret)
{
	ret->id = m->id;
	ret->image = m->image;
	ret->runtime = m->runtime ? m->runtime->name : "";
	ret->snapshotter = m->snapshotter;
	ret->snapshot_key = m->snapshot_key;
	ret->spec =
		m->spec ? arena_strndup(a, (const char *)m->spec->value.data, m->spec->value.len)
			: "";
	ret->created_s = pb_time(m->created_at).tv_sec;
	ret->updated_s = pb_time(m->updated_at).tv_sec;
	return ret->spec ? LABELS_TO_PUBLIC(a, m, ret) : -ENOMEM;
}

int containerd_container_list(struct containerd_client *client, const char *const *filters,
			      size_t n_filters, const struct containerd_containers **ret,
			      struct containerd_error *error)
{
	PB_CONTAINERS(ListContainersRequest) req = PB_CONTAINERS_INIT(LIST_CONTAINERS_REQUEST);
	PB_CONTAINERS(ListContainersResponse) * resp;
	struct call k _cleanup_call_ = {};
	struct containerd_container *v;
	int r = call_begin(&k, client);
	void *list;

	req.filters = (char **)filters;
	req.n_filters = n_filters;
	if (r == 0)
		r = client_call(k.client, &k.ctx, PB_CONTAINERS_SERVICE, "List", &req.base, &resp,
				&k.err);
	if (r < 0)
		return call_end(&k, r, error);
	list = call_list(&k, resp->n_containers, sizeof(*v), &v);
	for (size_t i = 0; list && i < resp->n_containers; i++)
		if (container_fill(k.ctx.arena, resp->containers[i], &v[i]) < 0)
			list = NULL;
	if (!list)
		return call_end(&k, err_nomem(&k.err), error);
	call_give(&k, list, ret);
	return 0;
}

int containerd_container_get(struct containerd_client *client, const char *id,
			     const struct containerd_container **ret,
			     struct containerd_error *error)
{
	struct call k _cleanup_call_ = {};
	struct containerd_container *c;
	PB_CONTAINERS(Container) * m;
	int r = call_begin(&k, client);

	if (r == 0)
		r = need_text(id, "container", &k.err);
	if (r == 0)
		r = client_container_get(k.client, &k.ctx, id, &m, &k.err);
	if (r < 0)
		return call_end(&k, r, error);
	c = CALL_RESULT(&k, struct containerd_container);
	if (!c || container_fill(k.ctx.arena, m, c) < 0)
		return call_end(&k, err_nomem(&k.err), error);
	call_give(&k, c, ret);
	return 0;
}

/* The daemon removes records of running containers, too: whoever means that says so first. */
static int check_no_task(struct call *k, const char *id)
{
	PB_TASK_TYPES(Process) * task;
	struct err e = ERR_INIT;
	int r = client_task_get(k->client, &k->ctx, id, "", &task, &e);

	if (r == 0)
		return err_set(&k->err, ERR_FAILED_PRECONDITION, "container \"%s\" has a task", id);
	return r == -ERR_NOT_FOUND ? 0 : err_copy(&k->err, &e);
}

int containerd_container_remove(struct containerd_client *client, const char *id, int keep_snapshot,
				struct containerd_error *error)
{
	struct call k _cleanup_call_ = {};
	int r = call_begin(&k, client);

	if (r == 0)
		r = need_text(id, "container", &k.err);
	if (r == 0)
		r = check_no_task(&k, id);
	if (r == 0)
		r = client_container_remove(k.client, &k.ctx, id, keep_snapshot != 0, &k.err);
	return call_end(&k, r, error);
}
