/* SPDX-License-Identifier: Apache-2.0 */
#include "client/process.h"

#include <signal.h>
#include <string.h>

#include "base/str.h"
#include "oci/spec.h"

#define RUNC_OPTIONS "containerd.runc.v1.Options"

static bool needs_options(const struct client_task_options *o)
{
	return o->no_pivot || o->io_uid || o->io_gid;
}

/* The container's options with ours; *@ret NULL when there is nothing to say beyond what the
 * container's record holds. */
static int runtime_options(struct ctx *ctx, const PB_CONTAINERS(Container) * container,
			   const struct client_task_options *o, Google__Protobuf__Any **ret,
			   struct err *err)
{
	PB_RUNC(Options) options = PB_RUNC_INIT(OPTIONS), *given = &options;
	const Google__Protobuf__Any *any = container->runtime ? container->runtime->options : NULL;
	Google__Protobuf__Any *out;
	int r;

	*ret = NULL;
	if (!needs_options(o))
		return 0;
	if (any && streq(any->type_url, RUNC_OPTIONS)) {
		r = rpc_unpack(ctx->arena, &containerd__runc__v1__options__descriptor,
			       any->value.data, any->value.len, &given, err);
		if (r < 0)
			return r;
	}
	given->no_pivot_root = o->no_pivot;
	given->io_uid = o->io_uid;
	given->io_gid = o->io_gid;
	out = arena_alloc(ctx->arena, sizeof(*out));
	if (!out)
		return err_nomem(err);
	google__protobuf__any__init(out);
	out->type_url = (char *)RUNC_OPTIONS;
	out->value.data = rpc_pack(ctx->arena, &given->base, &out->value.len);
	if (!out->value.data)
		return err_nomem(err);
	*ret = out;
	return 0;
}

static int ask_container(struct client *c, struct ctx *ctx, const char *id,
			 const struct client_task_options *o, struct client_mounts *ret_mounts,
			 Google__Protobuf__Any **ret_options, struct err *err)
{
	PB_CONTAINERS(Container) * container;
	int r;

	r = client_container_get(c, ctx, id, &container, err);
	if (r == 0 && *container->snapshot_key)
		r = client_snapshot_mounts(c, ctx, container->snapshotter, container->snapshot_key,
					   ret_mounts, err);
	return r < 0 ? r : runtime_options(ctx, container, o, ret_options, err);
}

int client_task_create(struct client *c, struct ctx *ctx, const char *id,
		       const struct client_task_options *o, uint32_t *ret_pid, struct err *err)
{
	PB_TASKS(CreateTaskRequest) req = PB_TASKS_INIT(CREATE_TASK_REQUEST);
	PB_TASKS(CreateTaskResponse) * resp;
	PB_TYPES(Descriptor) checkpoint = PB_TYPES_INIT(DESCRIPTOR);
	struct client_mounts mounts = {};
	int r = 0;

	if (o->rootfs && !needs_options(o))
		mounts = *o->rootfs;
	else
		r = ask_container(c, ctx, id, o, &mounts, &req.options, err);
	if (r < 0)
		return r;
	req.container_id = (char *)id;
	req.rootfs = mounts.v;
	req.n_rootfs = mounts.n;
	req.stdin = (char *)client_io_stdin(o->io);
	req.stdout = (char *)client_io_stdout(o->io);
	req.stderr = (char *)client_io_stderr(o->io);
	req.terminal = o->terminal;
	if (o->checkpoint) {
		checkpoint.media_type = (char *)o->checkpoint->media_type;
		checkpoint.digest = (char *)o->checkpoint->digest;
		checkpoint.size = o->checkpoint->size;
		req.checkpoint = &checkpoint;
	}
	r = client_call(c, ctx, PB_TASKS_SERVICE, "Create", &req.base, &resp, err);
	if (r == 0)
		*ret_pid = resp->pid;
	return r;
}

int client_task_exec(struct client *c, struct ctx *ctx, const char *id, const char *exec_id,
		     const char *process, size_t len, bool terminal, const struct client_io *io,
		     struct err *err)
{
	PB_TASKS(ExecProcessRequest) req = PB_TASKS_INIT(EXEC_PROCESS_REQUEST);
	Google__Protobuf__Any spec = GOOGLE__PROTOBUF__ANY__INIT;

	spec.type_url = (char *)SPEC_PROCESS_TYPE_URL;
	spec.value.data = (uint8_t *)process;
	spec.value.len = len;
	req.container_id = (char *)id;
	req.exec_id = (char *)exec_id;
	req.stdin = (char *)client_io_stdin(io);
	req.stdout = (char *)client_io_stdout(io);
	req.stderr = (char *)client_io_stderr(io);
	req.terminal = terminal;
	req.spec = &spec;
	return client_call(c, ctx, PB_TASKS_SERVICE, "Exec", &req.base, NULL, err);
}

/* ---- Ending ---- */

static int kill_and_wait(struct client *c, struct ctx *ctx, const char *id, const char *exec_id,
			 struct err *err)
{
	struct client_wait *w _cleanup_(client_wait_freep) = NULL;
	struct err e = ERR_INIT;
	uint32_t status;
	int r;

	r = client_wait_new(c, ctx, id, exec_id, &w, err);
	if (r < 0)
		return r;
	r = client_task_kill(c, ctx, id, exec_id, SIGKILL, !*exec_id, &e);
	if (r < 0 && r != -ERR_NOT_FOUND && r != -ERR_FAILED_PRECONDITION)
		return err_copy(err, &e);
	/* What was never started is not waited for. */
	return r == -ERR_FAILED_PRECONDITION ? 0 : client_wait_result(w, &status, err);
}

int client_task_remove(struct client *c, struct ctx *ctx, const char *id, const char *exec_id,
		       bool force, uint32_t *ret_status, struct err *err)
{
	PB_TASK_TYPES(Process) * process;
	bool paused;
	int r;

	r = client_task_get(c, ctx, id, exec_id, &process, err);
	if (r < 0)
		return r;
	paused = process->status == CONTAINERD__V1__TYPES__STATUS__PAUSED;
	if (paused || process->status == CONTAINERD__V1__TYPES__STATUS__RUNNING) {
		if (!force)
			return err_set_raw(
				err, ERR_FAILED_PRECONDITION,
				"task must be stopped before deletion: %s: failed precondition",
				paused ? "paused" : "running");
		/* A frozen process takes no signal. */
		if (paused)
			r = client_task_resume(c, ctx, id, err);
		if (r == 0)
			r = kill_and_wait(c, ctx, id, exec_id, err);
		if (r < 0)
			return r;
	}
	r = client_task_delete(c, ctx, id, exec_id, ret_status, err);
	if (r == 0)
		client_io_remove_fifos(ctx->arena, process->stdin, process->stdout,
				       process->stderr);
	return r;
}
