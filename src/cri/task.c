/* SPDX-License-Identifier: Apache-2.0 */
#include "cri/task.h"

#include <ctype.h>
#include <signal.h>
#include <stdlib.h>

#include "base/json.h"
#include "base/str.h"
#include "base/time.h"
#include "rpc/pb_json.h"

#define SH(x) Containerd__Task__V3__##x
#define SHD(x) containerd__task__v3__##x##__descriptor
#define EMPTY google__protobuf__empty__descriptor
#define RUNC_TYPE "io.containerd.runc.v2"
#define RUNC_OPTIONS_URL "containerd.runc.v1.Options"
#define RUNTIME_OPTIONS_URL "runtimeoptions.v1.Options"
#define DESTROY_WAIT_NS (10 * NSEC_PER_SEC)

int cri_task_create(struct ctx *ctx, struct cri *c, const struct cri_task_create *o,
		    uint32_t *ret_pid, struct err *err)
{
	struct runtime_create r = {.id = o->id,
				   .rootfs = o->rootfs,
				   .stdin_path = str_or(o->stdin_path, ""),
				   .stdout_path = str_or(o->stdout_path, ""),
				   .stderr_path = str_or(o->stderr_path, ""),
				   .terminal = o->terminal,
				   .options = o->options,
				   .runtime_path = str_or(o->runtime_path, ""),
				   .checkpoint = str_or(o->checkpoint, ""),
				   .container = o->container,
				   .recorded = o->recorded,
				   .recorded_arg = o->recorded_arg};
	return runtime_create(ctx, c->o.runtime, &r, ret_pid, err);
}

int cri_task_start(struct ctx *ctx, struct cri *c, const char *id, struct err *err)
{
	_cleanup_(task_unrefp) struct task *t = NULL;
	SH(StartRequest) req = CONTAINERD__TASK__V3__START_REQUEST__INIT;
	SH(StartResponse) * resp;
	int r = runtime_get(ctx, c->o.runtime, id, &t, err);

	req.id = (char *)id;
	return r < 0 ? r : task_call(ctx, t, "Start", &req.base, &SHD(start_response), &resp, err);
}

int cri_task_kill(struct ctx *ctx, struct cri *c, const char *id, int signal, bool all,
		  struct err *err)
{
	_cleanup_(task_unrefp) struct task *t = NULL;
	SH(KillRequest) req = CONTAINERD__TASK__V3__KILL_REQUEST__INIT;
	struct err gone = ERR_INIT;
	int r = runtime_get(ctx, c->o.runtime, id, &t, &gone);

	req.id = (char *)id;
	req.signal = (uint32_t)signal;
	req.all = all;
	if (r == 0)
		r = task_call(ctx, t, "Kill", &req.base, &EMPTY, NULL, &gone);
	return r == -ERR_NOT_FOUND ? 0 : r < 0 ? err_copy(err, &gone) : 0;
}

int cri_task_delete(struct ctx *ctx, struct cri *c, const char *id, struct runtime_exit *ret,
		    struct err *err)
{
	return runtime_delete(ctx, c->o.runtime, id, ret, err);
}

int cri_task_info(struct ctx *ctx, struct cri *c, const char *id, struct cri_task_info *ret,
		  struct err *err)
{
	_cleanup_(task_unrefp) struct task *t = NULL;
	SH(StateRequest) req = CONTAINERD__TASK__V3__STATE_REQUEST__INIT;
	SH(StateResponse) * resp;
	int r = runtime_get(ctx, c->o.runtime, id, &t, err);

	req.id = (char *)id;
	if (r == 0)
		r = task_call(ctx, t, "State", &req.base, &SHD(state_response), &resp, err);
	if (r < 0)
		return r;
	ret->state = resp->status == CONTAINERD__V1__TYPES__STATUS__CREATED   ? CRI_TASK_CREATED
		     : resp->status == CONTAINERD__V1__TYPES__STATUS__STOPPED ? CRI_TASK_STOPPED
									      : CRI_TASK_RUNNING;
	ret->pid = resp->pid;
	ret->exit_status = resp->exit_status;
	ret->exited_at = resp->exited_at ? (struct timespec){resp->exited_at->seconds,
							     resp->exited_at->nanos}
					 : (struct timespec){0};
	return 0;
}

int cri_task_destroy(struct ctx *ctx, struct cri *c, const char *id, struct err *err)
{
	_cleanup_(task_unrefp) struct task *t = NULL;
	SH(WaitRequest) req = CONTAINERD__TASK__V3__WAIT_REQUEST__INIT;
	SH(WaitResponse) * resp;
	struct runtime_exit x;
	struct err own = ERR_INIT;
	int r = runtime_get(ctx, c->o.runtime, id, &t, &own);

	if (r == -ERR_NOT_FOUND)
		return 0;
	req.id = (char *)id;
	if (r == 0)
		r = cri_task_kill(ctx, c, id, SIGKILL, true, &own);
	/* One that was to be restored may never have had a process. */
	if (r == 0)
		r = task_call(ctx, t, "Wait", &req.base, &SHD(wait_response), &resp, &own);
	/* A shim that does not answer any more has nothing to wait for. */
	if (r < 0 && r != -ERR_NOT_FOUND && r != -ERR_UNAVAILABLE && r != -ERR_FAILED_PRECONDITION)
		return err_copy(err, &own);
	own = ERR_INIT;
	r = runtime_delete(ctx, c->o.runtime, id, &x, &own);
	return r == -ERR_NOT_FOUND ? 0 : r < 0 ? err_copy(err, &own) : 0;
}

/* ---- options ---- */

/* "BinaryName" -> "binary_name"; names that are in that form already stay. NULL = no memory. */
static char *proto_name(struct arena *a, const char *name)
{
	char *out = arena_alloc(a, strlen(name) * 2 + 1);
	size_t n = 0;

	for (const char *p = name; out && *p; p++) {
		if (isupper((unsigned char)*p) && p != name)
			out[n++] = '_';
		out[n++] = (char)tolower((unsigned char)*p);
	}
	if (out)
		out[n] = 0;
	return out;
}

static int pack(struct arena *a, const json_t *j, const ProtobufCMessageDescriptor *d,
		const char *url, struct any *ret, struct err *err)
{
	ProtobufCMessage *m;
	size_t n;
	int r = json_pb(a, j, d, &m, err);

	if (r < 0)
		return r;
	void *p = rpc_pack(a, m, &n);
	if (!p)
		return err_nomem(err);
	*ret = (struct any){.type_url = url, .value = p, .len = n};
	return 0;
}

int cri_runtime_options(struct arena *a, const struct cri_handler *h, struct any *ret,
			struct err *err)
{
	json_t *o _cleanup_json_ = json_object(), *v;
	const char *key;
	bool runc = streq(h->type, RUNC_TYPE);
	int r;

	*ret = (struct any){0};
	if (!o)
		return err_nomem(err);
	if (!h->options || json_object_size(h->options) == 0)
		return 0;
	json_object_foreach ((json_t *)h->options, key, v) {
		char *name = proto_name(a, key);
		if (!name || json_object_set(o, name, v) < 0)
			return err_nomem(err);
	}
	if (runc)
		r = pack(a, o, &containerd__runc__v1__options__descriptor, RUNC_OPTIONS_URL, ret,
			 err);
	else
		r = pack(a, o, &runtimeoptions__v1__options__descriptor, RUNTIME_OPTIONS_URL, ret,
			 err);
	return r < 0 ? err_prefix(err, "options of runtime %s", h->name) : 0;
}
