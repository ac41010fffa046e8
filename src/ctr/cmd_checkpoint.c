/* SPDX-License-Identifier: Apache-2.0 */
/* ctr tasks checkpoint, ctr containers checkpoint and restore. */
#include "base/time.h"
#include "ctr/checkpoint.h"
#include "ctr/cmd_checkpoint.h"
#include "client/image.h"
#include "ctr/record.h"
#include "ctr/task.h"
#include "oci/manifest.h"
#include "oci/spec.h"

#define OPTIONS_TYPE "containerd.runc.v1.CheckpointOptions"

static int options_pack(struct ctr *c, const PB_RUNC(CheckpointOptions) * o,
			Google__Protobuf__Any *ret, struct err *err)
{
	google__protobuf__any__init(ret);
	ret->type_url = (char *)OPTIONS_TYPE;
	ret->value.data = rpc_pack(c->ctx.arena, &o->base, &ret->value.len);
	return ret->value.data || !ret->value.len ? 0 : err_nomem(err);
}

/* ---- tasks checkpoint ---- */

static const struct ctr_flag task_flags[] = {
	{"exit", 0, CTR_BOOL, "stop the container after the checkpoint"},
	{"image-path", 0, CTR_STRING, "directory for CRIU's image files"},
	{"work-path", 0, CTR_STRING, "directory for CRIU's work files"},
	{}};

static const char *default_name(struct arena *a, const char *id)
{
	time_t now = time(NULL);
	struct tm t;
	char when[40];

	localtime_r(&now, &t);
	strftime(when, sizeof(when), "%m-%d-%Y-%H:%M:%S", &t);
	return arena_printf(a, "containerd.io/checkpoint/%s:%s", id, when);
}

static int task_image(struct ctr *c, const PB_CONTAINERS(Container) * ct,
		      const Google__Protobuf__Any *options, struct err *err)
{
	struct checkpoint k _cleanup_checkpoint_ = {};
	const char *name = default_name(c->ctx.arena, ct->id);
	struct labels labels = {};
	bool files = *ctr_string(c, "image-path");
	int r;

	if (!name || labels_set(c->ctx.arena, &labels, "containerd.io/checkpoint", "true") < 0)
		return err_nomem(err);
	r = checkpoint_init(c, &k, err);
	if (r == 0)
		r = checkpoint_add_task(&k, ct->id, options, err);
	if (r < 0 || files)
		return r;
	if (*ct->image)
		r = checkpoint_add_image(&k, ct->image, err);
	if (r == 0 && *ct->image)
		r = checkpoint_annotate(&k, "image.name", ct->image, err);
	if (r == 0 && *ct->snapshot_key)
		r = checkpoint_add_layer(&k, ct->snapshotter, ct->snapshot_key, err);
	if (r == 0)
		r = checkpoint_commit(&k, ct->id, name, &labels, err);
	if (r == 0)
		puts(name);
	return r;
}

static int run_task(struct ctr *c, struct err *err)
{
	PB_RUNC(CheckpointOptions) o = PB_RUNC_INIT(CHECKPOINT_OPTIONS);
	PB_CONTAINERS(Container) * ct;
	Google__Protobuf__Any options;
	bool paused = false;
	const char *id;
	int r;

	r = record_arg(c, 0, "container id", &id, err);
	o.exit = ctr_bool(c, "exit");
	o.image_path = (char *)ctr_string(c, "image-path");
	o.work_path = (char *)ctr_string(c, "work-path");
	if (r == 0)
		r = options_pack(c, &o, &options, err);
	if (r == 0)
		r = ctr_connect(c, err);
	if (r == 0)
		r = client_container_get(c->client, &c->ctx, id, &ct, err);
	if (r == 0)
		r = record_lease_begin(c, err);
	if (r < 0)
		return r;
	r = checkpoint_pause(c, id, &paused, err);
	if (r == 0)
		r = task_image(c, ct, &options, err);
	/* What was to exit cannot go on. */
	if (paused && (r < 0 || !o.exit))
		checkpoint_resume(c, id);
	record_lease_end(c);
	return r;
}

/* ---- containers checkpoint ---- */

static const struct ctr_flag checkpoint_flags[] = {
	{"rw", 0, CTR_BOOL, "include the writable layer"},
	{"image", 0, CTR_BOOL, "include the image"},
	{"task", 0, CTR_BOOL, "checkpoint the task too"},
	{}};

static int two_args(struct ctr *c, const char **ret_id, const char **ret_ref, struct err *err)
{
	int r;

	r = record_arg(c, 0, "container id", ret_id, err);
	if (r == 0)
		r = record_arg(c, 1, "ref", ret_ref, err);
	return r < 0 ? r : ctr_connect(c, err);
}

static int add_options(struct checkpoint *k, const PB_CONTAINERS(Container) * ct, struct err *err)
{
	const Google__Protobuf__Any *o = ct->runtime ? ct->runtime->options : NULL;
	const char *ref = arena_printf(k->c->ctx.arena, "%s-runtime-options", ct->id);

	if (!o || !o->value.len)
		return 0;
	return ref ? checkpoint_add_message(k, CHECKPOINT_RUNTIME_OPTIONS, ref, &o->base, err)
		   : err_nomem(err);
}

/* The task's images come with its spec; without them the spec goes in alone. */
static int add_task_or_spec(struct checkpoint *k, const PB_CONTAINERS(Container) * ct,
			    struct err *err)
{
	PB_RUNC(CheckpointOptions) o = PB_RUNC_INIT(CHECKPOINT_OPTIONS);
	struct ctr *c = k->c;
	const char *spec = arena_printf(c->ctx.arena, "%s-checkpoint-spec", ct->id),
		   *ref = arena_printf(c->ctx.arena, "%s-checkpoint-options", ct->id);
	Google__Protobuf__Any options;
	int r;

	if (!spec || !ref)
		return err_nomem(err);
	if (!ctr_bool(c, "task"))
		return ct->spec ? checkpoint_add_message(k, CHECKPOINT_CONFIG, spec,
							 &ct->spec->base, err)
				: 0;
	r = options_pack(c, &o, &options, err);
	if (r == 0)
		r = checkpoint_add_task(k, ct->id, &options, err);
	return r < 0 ? r : checkpoint_add_message(k, CHECKPOINT_OPTIONS, ref, &options.base, err);
}

static int container_image(struct ctr *c, const PB_CONTAINERS(Container) * ct, const char *name,
			   struct err *err)
{
	struct checkpoint k _cleanup_checkpoint_ = {};
	const char *ref = arena_printf(c->ctx.arena, "%sindex", ct->id);
	struct labels none = {};
	int r;

	if (!ref)
		return err_nomem(err);
	if (!*ct->image || !*ct->snapshot_key)
		return err_set(err, ERR_FAILED_PRECONDITION,
			       "container \"%s\" has no image or no snapshot", ct->id);
	r = checkpoint_init(c, &k, err);
	if (r == 0)
		r = checkpoint_annotate(&k, CHECKPOINT_IMAGE_NAME, ct->image, err);
	if (r == 0)
		r = checkpoint_annotate(&k, CHECKPOINT_RUNTIME,
					ct->runtime ? ct->runtime->name : "", err);
	if (r == 0)
		r = checkpoint_annotate(&k, CHECKPOINT_SNAPSHOTTER, ct->snapshotter, err);
	if (r == 0)
		r = add_options(&k, ct, err);
	if (r == 0 && ctr_bool(c, "image"))
		r = checkpoint_add_image(&k, ct->image, err);
	if (r == 0 && ctr_bool(c, "rw"))
		r = checkpoint_add_layer(&k, ct->snapshotter, ct->snapshot_key, err);
	if (r == 0)
		r = add_task_or_spec(&k, ct, err);
	return r < 0 ? r : checkpoint_commit(&k, ref, name, &none, err);
}

static int run_checkpoint(struct ctr *c, struct err *err)
{
	PB_CONTAINERS(Container) * ct;
	const char *id, *ref;
	bool paused = false;
	int r;

	r = two_args(c, &id, &ref, err);
	if (r == 0)
		r = client_container_get(c->client, &c->ctx, id, &ct, err);
	if (r == 0)
		r = record_lease_begin(c, err);
	if (r < 0)
		return r;
	r = checkpoint_pause(c, id, &paused, err);
	if (r == 0)
		r = container_image(c, ct, ref, err);
	if (paused)
		checkpoint_resume(c, id);
	record_lease_end(c);
	return r;
}

/* ---- containers restore ---- */

static const struct ctr_flag restore_flags[] = {
	{"rw", 0, CTR_BOOL, "restore the writable layer"},
	{"live", 0, CTR_BOOL, "restore the running processes"},
	{}};

static int need_note(const json_t *index, const char *key, const char *what, const char **ret,
		     struct err *err)
{
	*ret = json_str(json_obj(index, "annotations"), key, "");
	return **ret ? 0
		     : err_set(err, ERR_NOT_FOUND, "%s not found in the index of the checkpoint",
			       what);
}

static int restore_snapshot(struct ctr *c, const char *id, const json_t *index,
			    PB_CONTAINERS(Container) * record, struct client_mounts *ret,
			    struct err *err)
{
	struct client_image image _cleanup_client_image_ = {};
	const char *name, *snapshotter;
	int r;

	r = need_note(index, CHECKPOINT_IMAGE_NAME, "image name", &name, err);
	if (r == 0)
		r = need_note(index, CHECKPOINT_SNAPSHOTTER, "snapshotter", &snapshotter, err);
	if (r == 0)
		r = client_image_load(c->client, &c->ctx, name, "", &image, err);
	if (r == 0)
		r = client_image_prepare(c->client, &c->ctx, &image, snapshotter, id, false, NULL,
					 false, ret, err);
	record->image = (char *)name;
	record->snapshotter = (char *)snapshotter;
	record->snapshot_key = (char *)id;
	return r;
}

static int restore_layer(struct ctr *c, const json_t *index, const struct client_mounts *mounts,
			 struct err *err)
{
	PB_DIFF(ApplyRequest) req = PB_DIFF_INIT(APPLY_REQUEST);
	PB_TYPES(Descriptor) layer = PB_TYPES_INIT(DESCRIPTOR);
	struct descriptor d;
	int r;

	r = checkpoint_part(c, index, MEDIA_OCI_LAYER "+gzip", &d, err);
	if (r < 0)
		return r;
	layer.media_type = (char *)d.media_type;
	layer.digest = (char *)d.digest;
	layer.size = d.size;
	req.diff = &layer;
	req.mounts = mounts->v;
	req.n_mounts = mounts->n;
	return client_call(c->client, &c->ctx, PB_DIFF_SERVICE, "Apply", &req.base, NULL, err);
}

static int restore_record(struct ctr *c, const char *id, const json_t *index,
			  PB_CONTAINERS(Container) * record, struct err *err)
{
	PB_CONTAINERS(Container__Runtime) runtime = PB_CONTAINERS_INIT(CONTAINER__RUNTIME);
	const char *name;
	struct descriptor d;
	struct err e = ERR_INIT;
	int r;

	r = need_note(index, CHECKPOINT_RUNTIME, "runtime", &name, err);
	if (r == 0)
		r = checkpoint_part(c, index, CHECKPOINT_CONFIG, &d, err);
	if (r == 0)
		r = checkpoint_any(c, &d, &record->spec, err);
	if (r == 0 && checkpoint_part(c, index, CHECKPOINT_RUNTIME_OPTIONS, &d, &e) == 0)
		r = checkpoint_any(c, &d, &runtime.options, err);
	if (r < 0)
		return r;
	runtime.name = (char *)name;
	record->id = (char *)id;
	record->runtime = &runtime;
	r = client_container_create(c->client, &c->ctx, record, err);
	record->runtime = NULL;
	return r;
}

static int restore_container(struct ctr *c, const char *id, const json_t *index,
			     PB_CONTAINERS(Container) * record, struct err *err)
{
	struct client_mounts mounts = {};
	int r;

	r = restore_snapshot(c, id, index, record, &mounts, err);
	if (r < 0)
		return r;
	if (ctr_bool(c, "rw"))
		r = restore_layer(c, index, &mounts, err);
	if (r == 0)
		r = restore_record(c, id, index, record, err);
	if (r < 0)
		record_undo_snapshot(c, record->snapshotter, id);
	return r;
}

/* Without a terminal nobody stays with it. */
static int restore_task(struct ctr *c, const char *id, const json_t *index,
			const PB_CONTAINERS(Container) * record, struct err *err)
{
	json_t *spec _cleanup_json_ = NULL;
	struct task_options o;
	struct descriptor d;
	int r;

	task_options_from_flags(c, &o);
	r = json_parse((const char *)record->spec->value.data, record->spec->value.len, &spec, err);
	if (r < 0)
		return err_prefix(err, "spec of container \"%s\"", id);
	o.terminal = json_is_true(spec_get(spec, "process/terminal"));
	o.detach = !o.terminal;
	if (ctr_bool(c, "live")) {
		r = checkpoint_part(c, index, CHECKPOINT_TASK, &d, err);
		o.checkpoint = &d;
	}
	return r < 0 ? r : task_run(c, id, &o, err);
}

static int run_restore(struct ctr *c, struct err *err)
{
	PB_CONTAINERS(Container) record = PB_CONTAINERS_INIT(CONTAINER);
	json_t *index _cleanup_json_ = NULL;
	const char *id, *ref;
	int r;

	r = two_args(c, &id, &ref, err);
	if (r == 0)
		r = checkpoint_load(c, ref, &index, err);
	if (r == 0)
		r = record_lease_begin(c, err);
	if (r < 0)
		return r;
	r = restore_container(c, id, index, &record, err);
	record_lease_end(c);
	return r < 0 ? r : restore_task(c, id, index, &record, err);
}

const struct ctr_command tasks_checkpoint = {
	.name = "checkpoint",
	.usage = "checkpoint a container",
	.args = "[flags] CONTAINER",
	.flags = CTR_FLAGS(task_flags),
	.names = CTR_NAMES_TASKS,
	.run = run_task,
};
const struct ctr_command containers_checkpoint = {
	.name = "checkpoint",
	.usage = "checkpoint a container",
	.args = "CONTAINER REF",
	.flags = CTR_FLAGS(checkpoint_flags),
	.names = CTR_NAMES_CONTAINERS,
	.run = run_checkpoint,
};
const struct ctr_command containers_restore = {
	.name = "restore",
	.usage = "restore a container from a checkpoint",
	.args = "CONTAINER REF",
	.flags = CTR_FLAGS(restore_flags),
	.more = CTR_NAMES_IMAGES,
	.run = run_restore,
};
