/* SPDX-License-Identifier: Apache-2.0 */
/* Starting and stopping one task for the restart monitor: the calls that a client would make,
 * without the wire. */
#include "plugins/restart/task.h"

#include <signal.h>

#include "base/json.h"
#include "base/str.h"
#include "base/time.h"
#include "core/event.h"
#include "core/snapshot.h"
#include "plugins/restart/labels.h"
#include "plugins/runtime/runtime.h"
#include "protos.h"

#define SH(x) Containerd__Task__V3__##x
#define SHD(x) containerd__task__v3__##x##__descriptor
#define EMPTY google__protobuf__empty__descriptor

/* ---- state ---- */

static enum restart_state state_of(Containerd__V1__Types__Status s)
{
	switch (s) {
	case CONTAINERD__V1__TYPES__STATUS__CREATED:
		return TASK_CREATED;
	case CONTAINERD__V1__TYPES__STATUS__STOPPED:
		return TASK_STOPPED;
	case CONTAINERD__V1__TYPES__STATUS__PAUSED:
	case CONTAINERD__V1__TYPES__STATUS__PAUSING:
		return TASK_PAUSED;
	default:
		return TASK_RUNNING;
	}
}

static int ask_state(struct ctx *ctx, struct runtime *rt, struct task *t, const char *id,
		     enum restart_state *ret, uint32_t *ret_exit, struct err *err)
{
	struct ctx timed = {.arena = ctx->arena,
			    .ns = ctx->ns,
			    .lease = "",
			    .deadline = time_mono() + runtime_state_timeout(rt),
			    .parent = ctx};
	SH(StateRequest) req = CONTAINERD__TASK__V3__STATE_REQUEST__INIT;
	SH(StateResponse) * resp;
	req.id = (char *)id;
	int r = task_call(&timed, t, "State", &req.base, &SHD(state_response), &resp, err);
	if (r < 0)
		return r;
	*ret = state_of(resp->status);
	*ret_exit = *ret == TASK_STOPPED ? resp->exit_status : 0;
	return 0;
}

int restart_task_state(struct ctx *ctx, struct runtime *rt, const char *id, enum restart_state *ret,
		       uint32_t *ret_exit, struct err *err)
{
	_cleanup_(task_unrefp) struct task *t = NULL;
	int r = runtime_get(ctx, rt, id, &t, err);
	if (r == -ERR_NOT_FOUND) {
		*ret = TASK_ABSENT;
		*ret_exit = 0;
		return 0;
	}
	return r < 0 ? r : ask_state(ctx, rt, t, id, ret, ret_exit, err);
}

/* ---- stop ---- */

static int kill_and_wait(struct ctx *ctx, struct task *t, const char *id, bool paused,
			 struct err *err)
{
	SH(ResumeRequest) resume = CONTAINERD__TASK__V3__RESUME_REQUEST__INIT;
	SH(KillRequest) kill_ = CONTAINERD__TASK__V3__KILL_REQUEST__INIT;
	SH(WaitRequest) wait = CONTAINERD__TASK__V3__WAIT_REQUEST__INIT;
	SH(WaitResponse) * exit;
	resume.id = kill_.id = wait.id = (char *)id;
	kill_.signal = SIGKILL;
	kill_.all = true;
	int r = task_call(ctx, t, "Kill", &kill_.base, &EMPTY, NULL, err);
	/* What is frozen dies when it thaws. */
	if (r == 0 && paused)
		r = task_call(ctx, t, "Resume", &resume.base, &EMPTY, NULL, err);
	return r < 0 ? r : task_call(ctx, t, "Wait", &wait.base, &SHD(wait_response), &exit, err);
}

int restart_task_stop(struct ctx *ctx, const struct restart_options *o, const char *id,
		      struct err *err)
{
	_cleanup_(task_unrefp) struct task *t = NULL;
	enum restart_state state;
	uint32_t status;
	struct runtime_exit x;
	struct err first = ERR_INIT;
	int r = runtime_get(ctx, o->runtime, id, &t, err), killed = 0;
	if (r == -ERR_NOT_FOUND)
		return 0;
	if (r == 0)
		r = ask_state(ctx, o->runtime, t, id, &state, &status, err);
	if (r < 0)
		return r;
	if (state != TASK_STOPPED)
		killed = kill_and_wait(ctx, t, id, state == TASK_PAUSED, &first);
	/* It may have ended by itself meanwhile; then the kill's failure means nothing. */
	r = runtime_delete(ctx, o->runtime, id, &x, err);
	if (r == 0 || r == -ERR_NOT_FOUND)
		return 0;
	return killed < 0 ? err_copy(err, &first) : r;
}

/* ---- start ---- */

static int publish_update(struct ctx *ctx, const struct restart_options *o,
			  const struct container *c, struct err *err)
{
	typedef Containerd__Events__ContainerUpdate__LabelsEntry entry;
	Containerd__Events__ContainerUpdate ev = CONTAINERD__EVENTS__CONTAINER_UPDATE__INIT;
	entry *v = arena_new_array(ctx->arena, entry, c->labels.n + 1);
	entry **p = arena_new_array(ctx->arena, entry *, c->labels.n + 1);
	if (!v || !p)
		return err_nomem(err);
	for (size_t i = 0; i < c->labels.n; i++) {
		containerd__events__container_update__labels_entry__init(&v[i]);
		v[i].key = (char *)c->labels.v[i].key;
		v[i].value = (char *)c->labels.v[i].value;
		p[i] = &v[i];
	}
	ev.id = (char *)c->id;
	ev.image = (char *)c->image;
	ev.snapshot_key = (char *)c->snapshot_key;
	ev.labels = p;
	ev.n_labels = c->labels.n;
	return event_publish(ctx, o->events, "/containers/update", &ev.base, err);
}

static int count_up(struct ctx *ctx, const struct restart_options *o, struct container *c,
		    struct err *err)
{
	char *paths[] = {(char *)"labels." RESTART_COUNT};
	struct container set = {.id = c->id};
	char *n = arena_printf(ctx->arena, "%lld", (long long)restart_count(&c->labels) + 1);
	if (!n || labels_set(ctx->arena, &set.labels, RESTART_COUNT, n) < 0)
		return err_nomem(err);
	int r = container_update(ctx, o->db, &set, paths, ARRAY_LEN(paths), c, err);
	return r < 0 ? r : publish_update(ctx, o, c, err);
}

/* Whether the spec asks for a terminal: then the runtime starts with one only. */
static int wants_terminal(const struct container *c, bool *ret, struct err *err)
{
	_cleanup_json_ json_t *spec = NULL;
	int r = json_parse(c->spec.value, c->spec.len, &spec, err);
	if (r < 0)
		return err_prefix(err, "spec of container %s", c->id);
	*ret = json_bool(json_obj(spec, "process"), "terminal", false);
	return 0;
}

static int task_create(struct ctx *ctx, const struct restart_options *o, const struct container *c,
		       struct err *err)
{
	struct mounts rootfs = {0};
	const char *uri = str_or(labels_get(&c->labels, RESTART_LOG_URI), "");
	struct runtime_create rc = {.id = c->id,
				    .rootfs = &rootfs,
				    .stdin_path = "",
				    .stdout_path = uri,
				    .stderr_path = uri,
				    .runtime_path = "",
				    .checkpoint = ""};
	uint32_t pid;
	int r = wants_terminal(c, &rc.terminal, err);
	if (r == 0 && !str_empty(c->snapshot_key))
		r = snapshot_mounts(ctx, o->db, c->snapshotter, c->snapshot_key, &rootfs, err);
	if (r < 0)
		return r;
	if (rc.terminal) {
		/* Somebody must take what the terminal prints. */
		rc.stdout_path = str_or(uri, "file:///dev/null");
		rc.stderr_path = "";
	}
	return runtime_create(ctx, o->runtime, &rc, &pid, err);
}

static int task_run(struct ctx *ctx, const struct restart_options *o, const char *id,
		    struct err *err)
{
	_cleanup_(task_unrefp) struct task *t = NULL;
	SH(StartRequest) req = CONTAINERD__TASK__V3__START_REQUEST__INIT;
	SH(StartResponse) * resp;
	int r = runtime_get(ctx, o->runtime, id, &t, err);
	req.id = (char *)id;
	return r < 0 ? r : task_call(ctx, t, "Start", &req.base, &SHD(start_response), &resp, err);
}

int restart_task_start(struct ctx *ctx, const struct restart_options *o, const char *id,
		       struct err *err)
{
	struct container c;
	struct runtime_exit x;
	int r = container_get(ctx, o->db, id, &c, err);
	/* Between the decision and now somebody may have decided otherwise. */
	if (r == 0 && !streq(str_or(labels_get(&c.labels, RESTART_STATUS), ""), "running"))
		return 0;
	if (r == 0)
		r = count_up(ctx, o, &c, err);
	if (r == 0)
		r = restart_task_stop(ctx, o, id, err);
	if (r == 0)
		r = task_create(ctx, o, &c, err);
	if (r < 0)
		return r;
	r = task_run(ctx, o, id, err);
	if (r < 0)
		/* Best effort: what is left is removed before the next attempt. */
		(void)!runtime_delete(ctx, o->runtime, id, &x, NULL);
	return r;
}
