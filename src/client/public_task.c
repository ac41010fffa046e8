/* SPDX-License-Identifier: Apache-2.0 */
/* The public interface: tasks and processes. */
#include "client/public.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "base/time.h"
#include "client/process.h"
#include "client/rootfs.h"
#include "oci/spec.h"

#define FIFO_DIR "/run/containerd/fifo"

struct containerd_process {
	struct containerd_client *client;
	char *id, *exec_id;
	struct client_io *io; /* NULL = opened, not made here */
	struct client_wait *wait;
	struct arena *arena; /* of the request to wait */
	struct ctx ctx;
	bool terminal, ended;
	uint32_t status;
};

/* ---- Made ---- */

static int process_new(struct containerd_client *client, const char *id, const char *exec_id,
		       struct containerd_process **ret, struct err *err)
{
	struct containerd_process *p = calloc(1, sizeof(*p));

	if (!p)
		return err_nomem(err);
	p->client = client;
	p->id = strdup(id);
	p->exec_id = strdup(exec_id);
	p->arena = arena_new(0);
	if (!p->id || !p->exec_id || !p->arena) {
		containerd_process_free(p);
		return err_nomem(err);
	}
	p->ctx.arena = p->arena;
	p->ctx.ns = client->ns;
	p->ctx.lease = "";
	*ret = p;
	return 0;
}

void containerd_process_free(struct containerd_process *p)
{
	if (!p)
		return;
	if (p->wait)
		client_wait_free(p->wait);
	if (p->io)
		client_io_free(p->io);
	arena_free(p->arena);
	free(p->id);
	free(p->exec_id);
	free(p);
}

static int open_streams(struct containerd_process *p, const struct containerd_streams *s,
			struct err *err)
{
	struct client_io_options o = {
		.dir = FIFO_DIR,
		.id = *p->exec_id ? p->exec_id : p->id,
		.terminal = p->terminal,
		.null = !s || (s->in < 0 && s->out < 0 && s->err < 0),
		.given = true,
		.fds = {-1, -1, -1},
	};

	if (s)
		memcpy(o.fds, (int[]){s->in, s->out, s->err}, sizeof(o.fds));
	return client_io_new(&o, &p->io, err);
}

/* Whether the container's spec asks for a terminal. */
static int load_spec(struct call *k, const char *id, PB_CONTAINERS(Container) * *ret, json_t **spec)
{
	PB_CONTAINERS(Container) * c;
	int r;

	r = client_container_get(k->client, &k->ctx, id, &c, &k->err);
	if (r < 0)
		return r;
	if (!c->spec)
		return err_set(&k->err, ERR_FAILED_PRECONDITION, "container \"%s\" has no spec",
			       id);
	r = json_parse((const char *)c->spec->value.data, c->spec->value.len, spec, &k->err);
	if (r < 0)
		return err_prefix(&k->err, "spec of container \"%s\"", id);
	*ret = c;
	return 0;
}

static int create_task(struct call *k, struct containerd_process *p,
		       const struct containerd_streams *streams)
{
	json_t *spec _cleanup_json_ = NULL;
	PB_CONTAINERS(Container) * container;
	struct client_task_options o = {};
	uint32_t pid;
	int r;

	r = load_spec(k, p->id, &container, &spec);
	if (r < 0)
		return r;
	o.terminal = p->terminal = json_is_true(spec_get(spec, "process/terminal"));
	r = open_streams(p, streams, &k->err);
	if (r < 0)
		return r;
	o.io = p->io;
	return client_task_create(k->client, &k->ctx, p->id, &o, &pid, &k->err);
}

int containerd_task_create(struct containerd_client *client, const char *id,
			   const struct containerd_streams *streams,
			   struct containerd_process **ret, struct containerd_error *error)
{
	struct containerd_process *p = NULL;
	struct call k _cleanup_call_ = {};
	int r = call_begin(&k, client);

	if (r == 0)
		r = need_text(id, "container", &k.err);
	if (r == 0)
		r = process_new(client, id, "", &p, &k.err);
	if (r == 0)
		r = create_task(&k, p, streams);
	if (r < 0)
		containerd_process_free(p);
	else
		*ret = p;
	return call_end(&k, r, error);
}

static int exec_user(struct call *k, const PB_CONTAINERS(Container) * c, const char *user,
		     json_t *spec)
{
	struct client_mounts mounts = {};
	const char *dir = NULL;
	struct user_ids u;
	int r = 0;

	if (!user || !*user)
		return 0;
	if (*c->snapshot_key)
		r = client_snapshot_mounts(k->client, &k->ctx, c->snapshotter, c->snapshot_key,
					   &mounts, &k->err);
	else
		dir = json_str(json_obj(spec, "root"), "path", "");
	if (r == 0)
		r = client_rootfs_user(k->client, &k->ctx, dir, &mounts, user, &u, &k->err);
	return r < 0 ? r : spec_set_user(spec, u.uid, u.gid, u.gids, u.n_gids, &k->err);
}

/* The container's own process with another command; what is not given stays as the container has
 * it. */
static int exec_process(struct call *k, const char *id, const struct containerd_exec_options *o,
			char **ret)
{
	json_t *spec _cleanup_json_ = NULL;
	PB_CONTAINERS(Container) * container;
	int r;

	if (o->n_args == 0)
		return err_set(&k->err, ERR_INVALID_ARGUMENT, "no command is given");
	r = load_spec(k, id, &container, &spec);
	if (r == 0)
		r = spec_set_args(spec, o->args, o->n_args, &k->err);
	for (size_t i = 0; r == 0 && i < o->n_env; i++)
		r = spec_set_env(spec, o->env[i], &k->err);
	if (r == 0 && o->cwd)
		r = spec_set(spec, "process/cwd", json_string(o->cwd), &k->err);
	if (r == 0)
		r = exec_user(k, container, o->user, spec);
	if (r == 0 && o->terminal)
		r = spec_set_terminal(spec, &k->err);
	else if (r == 0)
		r = spec_set(spec, "process/terminal", json_false(), &k->err);
	if (r < 0)
		return r;
	*ret = json_dumps(spec_get(spec, "process"), JSON_COMPACT);
	return *ret ? 0 : err_nomem(&k->err);
}

static int create_exec(struct call *k, struct containerd_process *p,
		       const struct containerd_exec_options *o,
		       const struct containerd_streams *streams)
{
	char *text _cleanup_free_ = NULL;
	int r;

	p->terminal = o->terminal != 0;
	r = exec_process(k, p->id, o, &text);
	if (r == 0)
		r = open_streams(p, streams, &k->err);
	return r < 0 ? r
		     : client_task_exec(k->client, &k->ctx, p->id, p->exec_id, text, strlen(text),
					p->terminal, p->io, &k->err);
}

int containerd_task_exec(struct containerd_client *client, const char *id, const char *exec_id,
			 const struct containerd_exec_options *options,
			 const struct containerd_streams *streams, struct containerd_process **ret,
			 struct containerd_error *error)
{
	struct containerd_exec_options o;
	struct containerd_process *p = NULL;
	struct call k _cleanup_call_ = {};
	int r = call_begin(&k, client);

	if (r == 0)
		r = OPTIONS_COPY(o, options, &k.err);
	if (r == 0)
		r = need_text(id, "container", &k.err);
	if (r == 0)
		r = need_text(exec_id, "id for the process", &k.err);
	if (r == 0)
		r = process_new(client, id, exec_id, &p, &k.err);
	if (r == 0)
		r = create_exec(&k, p, &o, streams);
	if (r < 0)
		containerd_process_free(p);
	else
		*ret = p;
	return call_end(&k, r, error);
}

int containerd_process_open(struct containerd_client *client, const char *id, const char *exec_id,
			    struct containerd_process **ret, struct containerd_error *error)
{
	struct call k _cleanup_call_ = {};
	struct containerd_process *p;
	PB_TASK_TYPES(Process) * task;
	int r = call_begin(&k, client);

	exec_id = text_or_empty(exec_id);
	if (r == 0)
		r = need_text(id, "container", &k.err);
	if (r == 0)
		r = client_task_get(k.client, &k.ctx, id, exec_id, &task, &k.err);
	if (r == 0)
		r = process_new(client, id, exec_id, &p, &k.err);
	if (r == 0)
		*ret = p;
	return call_end(&k, r, error);
}

/* ---- Life ---- */

static int begin_wait(struct containerd_process *p, struct err *err)
{
	if (p->wait || p->ended)
		return 0;
	return client_wait_new(p->client->connection->client, &p->ctx, p->id, p->exec_id, &p->wait,
			       err);
}

int containerd_process_start(struct containerd_process *p, uint32_t *ret_pid,
			     struct containerd_error *error)
{
	struct call k _cleanup_call_ = {};
	uint32_t pid = 0;
	int r = call_begin(&k, p->client);

	/* Asked for beforehand, so that no end is missed. */
	if (r == 0)
		r = begin_wait(p, &k.err);
	if (r == 0)
		r = client_task_start(k.client, &k.ctx, p->id, p->exec_id, &pid, &k.err);
	if (r == 0 && p->io)
		r = client_io_run(p->io, &k.err);
	if (r == 0 && ret_pid)
		*ret_pid = pid;
	return call_end(&k, r, error);
}

static void close_stdin(struct containerd_process *p)
{
	struct call k _cleanup_call_ = {};

	/* The process may be gone. */
	if (call_begin(&k, p->client) < 0 ||
	    client_task_close_stdin(k.client, &k.ctx, p->id, p->exec_id, &k.err) < 0)
		return;
}

/* 1 = it has ended, 0 = the time is over. */
static int wait_until(struct containerd_process *p, int64_t end)
{
	int in = p->io ? client_io_stdin_ended_fd(p->io) : -1;

	for (;;) {
		struct pollfd f[] = {
			{.fd = client_wait_fd(p->wait), .events = POLLIN},
			{.fd = in, .events = POLLIN},
		};
		int64_t left = end < 0 ? -1 : MAX(end - time_mono(), (int64_t)0) / NSEC_PER_MSEC;
		int n = poll(f, ARRAY_LEN(f), (int)MIN(left, (int64_t)1000000));

		if (f[0].revents & POLLIN && n > 0)
			return 1;
		if (n > 0 && f[1].revents) {
			close_stdin(p);
			in = -1;
		}
		if (n == 0 && end >= 0 && time_mono() >= end)
			return 0;
	}
}

static int wait_for(struct containerd_process *p, int64_t timeout_ms, struct err *err)
{
	int64_t end = -1;
	int r = begin_wait(p, err);

	if (r < 0)
		return r;
	if (timeout_ms >= 0 && (__builtin_mul_overflow(timeout_ms, NSEC_PER_MSEC, &end) ||
				__builtin_add_overflow(end, time_mono() + 1, &end)))
		end = -1;
	if (!wait_until(p, end))
		return err_set(err, ERR_DEADLINE_EXCEEDED, "process \"%s\" has not ended",
			       *p->exec_id ? p->exec_id : p->id);
	r = client_wait_result(p->wait, &p->status, err);
	client_wait_free(TAKE_PTR(p->wait));
	if (r == 0)
		p->ended = true;
	return r;
}

int containerd_process_wait(struct containerd_process *p, int64_t timeout_ms, uint32_t *ret_status,
			    struct containerd_error *error)
{
	struct call k _cleanup_call_ = {};
	int r = p->ended ? 0 : wait_for(p, timeout_ms, &k.err);

	if (r == 0 && ret_status)
		*ret_status = p->status;
	return call_end(&k, r, error);
}

int containerd_process_kill(struct containerd_process *p, int signal, int all,
			    struct containerd_error *error)
{
	struct call k _cleanup_call_ = {};
	int r = call_begin(&k, p->client);

	if (r == 0)
		r = client_task_kill(k.client, &k.ctx, p->id, p->exec_id, signal, all != 0, &k.err);
	return call_end(&k, r, error);
}

int containerd_process_resize(struct containerd_process *p, uint32_t width, uint32_t height,
			      struct containerd_error *error)
{
	struct call k _cleanup_call_ = {};
	int r = call_begin(&k, p->client);

	if (r == 0)
		r = client_task_resize(k.client, &k.ctx, p->id, p->exec_id, width, height, &k.err);
	return call_end(&k, r, error);
}

int containerd_process_remove(struct containerd_process *p, int force, uint32_t *ret_status,
			      struct containerd_error *error)
{
	struct call k _cleanup_call_ = {};
	uint32_t status = 0;
	int r = call_begin(&k, p->client);

	call_endless(&k);
	if (r == 0)
		r = client_task_remove(k.client, &k.ctx, p->id, p->exec_id, force != 0, &status,
				       &k.err);
	if (r < 0)
		return call_end(&k, r, error);
	if (ret_status)
		*ret_status = status;
	/* The daemon deletes it once all its output is in the FIFOs. */
	if (p->io)
		r = client_io_finish(p->io, &k.err);
	return call_end(&k, r, error);
}

/* ---- What there is ---- */

int containerd_task_list(struct containerd_client *client, const struct containerd_tasks **ret,
			 struct containerd_error *error)
{
	PB_TASKS(ListTasksRequest) req = PB_TASKS_INIT(LIST_TASKS_REQUEST);
	struct call k _cleanup_call_ = {};
	PB_TASKS(ListTasksResponse) * resp;
	struct containerd_task *v;
	int r = call_begin(&k, client);
	void *list;

	if (r == 0)
		r = client_call(k.client, &k.ctx, PB_TASKS_SERVICE, "List", &req.base, &resp,
				&k.err);
	if (r < 0)
		return call_end(&k, r, error);
	list = call_list(&k, resp->n_tasks, sizeof(*v), &v);
	if (!list)
		return call_end(&k, err_nomem(&k.err), error);
	for (size_t i = 0; i < resp->n_tasks; i++)
		v[i] = (struct containerd_task){
			.id = *resp->tasks[i]->container_id ? resp->tasks[i]->container_id
							    : resp->tasks[i]->id,
			.pid = resp->tasks[i]->pid,
			.status = (int)resp->tasks[i]->status,
			.exit_status = resp->tasks[i]->exit_status,
		};
	call_give(&k, list, ret);
	return 0;
}

int containerd_task_pids(struct containerd_client *client, const char *id,
			 const struct containerd_pids **ret, struct containerd_error *error)
{
	PB_TASKS(ListPidsRequest) req = PB_TASKS_INIT(LIST_PIDS_REQUEST);
	struct call k _cleanup_call_ = {};
	PB_TASKS(ListPidsResponse) * resp;
	struct containerd_pids *l;
	int r = call_begin(&k, client);
	uint32_t *v;

	req.container_id = (char *)text_or_empty(id);
	if (r == 0)
		r = client_call(k.client, &k.ctx, PB_TASKS_SERVICE, "ListPids", &req.base, &resp,
				&k.err);
	if (r < 0)
		return call_end(&k, r, error);
	l = CALL_RESULT(&k, struct containerd_pids);
	v = arena_new_array(k.ctx.arena, uint32_t, resp->n_processes + 1);
	if (!l || !v)
		return call_end(&k, err_nomem(&k.err), error);
	for (size_t i = 0; i < resp->n_processes; i++)
		v[i] = resp->processes[i]->pid;
	l->n = resp->n_processes;
	l->v = v;
	call_give(&k, l, ret);
	return 0;
}

static int metrics(struct call *k, const char *id, const struct containerd_text **ret)
{
	char *text _cleanup_free_ = NULL;
	json_t *j _cleanup_json_ = NULL;
	struct containerd_text *t;
	ProtobufCMessage *data;
	PB_TYPES(Metric) * m;
	int r;

	r = client_task_metrics(k->client, &k->ctx, id, &m, &data, &k->err);
	if (r < 0)
		return r;
	j = pb_json(data);
	text = j ? json_dumps(j, JSON_COMPACT) : NULL;
	t = CALL_RESULT(k, struct containerd_text);
	if (!text || !t)
		return err_nomem(&k->err);
	t->text = arena_strdup(k->ctx.arena, text);
	if (!t->text)
		return err_nomem(&k->err);
	call_give(k, t, ret);
	return 0;
}

int containerd_task_metrics(struct containerd_client *client, const char *id,
			    const struct containerd_text **ret, struct containerd_error *error)
{
	struct call k _cleanup_call_ = {};
	int r = call_begin(&k, client);

	if (r == 0)
		r = metrics(&k, text_or_empty(id), ret);
	return call_end(&k, r, error);
}

int containerd_task_pause(struct containerd_client *client, const char *id,
			  struct containerd_error *error)
{
	PB_TASKS(PauseTaskRequest) req = PB_TASKS_INIT(PAUSE_TASK_REQUEST);
	struct call k _cleanup_call_ = {};
	int r = call_begin(&k, client);

	req.container_id = (char *)text_or_empty(id);
	if (r == 0)
		r = client_call(k.client, &k.ctx, PB_TASKS_SERVICE, "Pause", &req.base, NULL,
				&k.err);
	return call_end(&k, r, error);
}

int containerd_task_resume(struct containerd_client *client, const char *id,
			   struct containerd_error *error)
{
	struct call k _cleanup_call_ = {};
	int r = call_begin(&k, client);

	if (r == 0)
		r = client_task_resume(k.client, &k.ctx, text_or_empty(id), &k.err);
	return call_end(&k, r, error);
}
