/* SPDX-License-Identifier: Apache-2.0 */
/* ctr tasks: the running side of containers. */
#include "ctr/commands.h"

#include "ctr/cmd_checkpoint.h"
#include "ctr/cmd_tasks.h"
#include "ctr/create.h"
#include "ctr/listing.h"
#include "client/rootfs.h"
#include "ctr/task.h"
#include "ctr/task_metrics.h"
#include "oci/spec.h"

/* The first argument, a container's id, and a connection. */
static int need_id(struct ctr *c, const char **ret_id, struct err *err)
{
	*ret_id = ctr_arg(c, 0);
	if (!**ret_id)
		return err_set_raw(err, ERR_INVALID_ARGUMENT, "container id must be provided");
	return ctr_connect(c, err);
}

/* ---- start, attach, exec ---- */

static const struct ctr_flag start_flags[] = {
	{"no-pivot", 0, CTR_BOOL, "do not use pivot_root"},
	{"null-io", 0, CTR_BOOL, "connect the process's streams to nothing"},
	{"log-uri", 0, CTR_STRING, "where the output goes (file:///path, binary:///path)"},
	{"fifo-dir", 0, CTR_STRING, "directory for the FIFOs of the streams"},
	{"pid-file", 0, CTR_STRING, "write the process's pid to this file"},
	{"detach", 'd', CTR_BOOL, "do not stay after the start"},
	{}};

/* The container's spec as JSON. */
static int load_spec(struct ctr *c, const char *id, PB_CONTAINERS(Container) * *ret_container,
		     json_t **ret, struct err *err)
{
	PB_CONTAINERS(Container) * container;
	int r;

	r = client_container_get(c->client, &c->ctx, id, &container, err);
	if (r < 0)
		return r;
	if (!container->spec)
		return err_set(err, ERR_FAILED_PRECONDITION, "container \"%s\" has no spec", id);
	r = json_parse((const char *)container->spec->value.data, container->spec->value.len, ret,
		       err);
	if (r < 0)
		return err_prefix(err, "spec of container \"%s\"", id);
	*ret_container = container;
	return 0;
}

static int run_start(struct ctr *c, struct err *err)
{
	PB_CONTAINERS(Container) * container;
	json_t *spec _cleanup_json_ = NULL;
	struct task_options o;
	const char *id;
	int r;

	task_announce();
	r = need_id(c, &id, err);
	if (r == 0)
		r = load_spec(c, id, &container, &spec, err);
	if (r < 0)
		return r;
	task_options_from_flags(c, &o);
	o.terminal = json_is_true(spec_get(spec, "process/terminal"));
	return task_run(c, id, &o, err);
}

/* `containers start`: what is left of an earlier task makes room. */
static int run_start_anew(struct ctr *c, struct err *err)
{
	const char *id;
	int r;

	r = need_id(c, &id, err);
	if (r == 0)
		r = task_clear(c, id, err);
	return r < 0 ? r : run_start(c, err);
}

static const struct ctr_flag stop_flags[] = {
	{"signal", 's', CTR_STRING,
	 "signal to send first; the image's stop signal when not given, else SIGTERM"},
	{"time", 't', CTR_UINT, "seconds after which SIGKILL follows", "10"},
	{}};

/* Prints the ids of those that are stopped. */
static int run_stop(struct ctr *c, struct err *err)
{
	const char *id;
	int r, result = 0;

	r = need_id(c, &id, err);
	for (size_t i = 0; r == 0 && i < c->n_args; i++) {
		struct err e = ERR_INIT;
		int signo, one;

		one = task_stop_signal(c, c->args[i], &signo, &e);
		if (one == 0)
			one = task_stop(c, c->args[i], signo, ctr_uint(c, "time"), &e);
		if (one == 0)
			puts(c->args[i]);
		else if (c->n_args > 1)
			ctr_warn("unable to stop %s: %s", c->args[i], e.text);
		if (one < 0 && result == 0)
			result = err_copy(err, &e);
	}
	return r < 0 ? r : result;
}

static int run_attach(struct ctr *c, struct err *err)
{
	const char *id;
	int r;

	r = need_id(c, &id, err);
	return r < 0 ? r : task_attach(c, id, err);
}

static const struct ctr_flag exec_flags[] = {
	{"cwd", 0, CTR_STRING, "working directory of the process"},
	{"tty", 't', CTR_BOOL, "give the process a terminal"},
	{"detach", 'd', CTR_BOOL, "do not stay after the start"},
	{"exec-id", 0, CTR_STRING, "id for the process", .required = true},
	{"fifo-dir", 0, CTR_STRING, "directory for the FIFOs of the streams"},
	{"log-uri", 0, CTR_STRING, "where the output goes (file:///path, binary:///path)"},
	{"user", 0, CTR_STRING, "user of the process: name or uid, with :group or :gid"},
	{}};

static int exec_user(struct ctr *c, const PB_CONTAINERS(Container) * container, json_t *spec,
		     struct err *err)
{
	const char *user = ctr_string(c, "user"), *dir = NULL;
	struct client_mounts mounts = {};
	struct user_ids u;
	int r = 0;

	if (!*user)
		return 0;
	if (*container->snapshot_key)
		r = client_snapshot_mounts(c->client, &c->ctx, container->snapshotter,
					   container->snapshot_key, &mounts, err);
	else
		dir = json_str(json_obj(spec, "root"), "path", "");
	if (r == 0)
		r = client_rootfs_user(c->client, &c->ctx, dir, &mounts, user, &u, err);
	return r < 0 ? r : spec_set_user(spec, u.uid, u.gid, u.gids, u.n_gids, err);
}

/* The container's own process with another command; what is not given stays as the container has
 * it. */
static int exec_process(struct ctr *c, const PB_CONTAINERS(Container) * container, json_t *spec,
			struct err *err)
{
	const char *cwd = ctr_string(c, "cwd");
	int r;

	r = spec_set_args(spec, c->args + 1, c->n_args - 1, err);
	if (r == 0 && *cwd)
		r = spec_set(spec, "process/cwd", json_string(cwd), err);
	if (r == 0)
		r = exec_user(c, container, spec, err);
	if (r == 0 && ctr_bool(c, "tty"))
		r = spec_set_terminal(spec, err);
	else if (r == 0)
		r = spec_set(spec, "process/terminal", json_false(), err);
	return r;
}

static int run_exec(struct ctr *c, struct err *err)
{
	PB_CONTAINERS(Container) * container;
	json_t *spec _cleanup_json_ = NULL;
	char *text _cleanup_free_ = NULL;
	struct task_options o;
	const char *id;
	int r;

	if (c->n_args == 1)
		return err_set_raw(err, ERR_INVALID_ARGUMENT, "a command must be provided");
	r = create_check_text(c, err);
	/* It becomes a part of paths. */
	if (r == 0)
		r = ident_validate(ctr_string(c, "exec-id"), err);
	if (r < 0)
		return r;
	task_announce();
	r = need_id(c, &id, err);
	if (r == 0)
		r = load_spec(c, id, &container, &spec, err);
	if (r == 0)
		r = exec_process(c, container, spec, err);
	if (r < 0)
		return r;
	text = json_dumps(spec_get(spec, "process"), JSON_COMPACT);
	if (!text)
		return err_nomem(err);
	task_options_from_flags(c, &o);
	return task_exec(c, id, ctr_string(c, "exec-id"), text, strlen(text), &o, err);
}

/* ---- delete, kill, pause, resume ---- */

static const struct ctr_flag delete_flags[] = {
	{"force", 'f', CTR_BOOL, "kill a task that runs first"},
	{"exec-id", 0, CTR_STRING, "delete this process of the task"},
	{}};

static int run_delete(struct ctr *c, struct err *err)
{
	const char *exec_id = ctr_string(c, "exec-id"), *id;
	int r, result = 0;

	r = need_id(c, &id, err);
	if (r < 0)
		return r;
	if (*exec_id && c->n_args > 1)
		return err_set_raw(err, ERR_INVALID_ARGUMENT,
				   "with --exec-id only one container can be given");
	for (size_t i = 0; i < c->n_args; i++) {
		struct err e = ERR_INIT;
		uint32_t status = 0;

		r = client_task_remove(c->client, &c->ctx, c->args[i], exec_id,
				       ctr_bool(c, "force"), &status, &e);
		if (r < 0 && c->n_args > 1)
			ctr_warn("unable to delete %s: %s", c->args[i], e.text);
		if (r < 0 && result == 0)
			result = err_copy(err, &e);
		if (r == 0 && status != 0)
			ctr_warn("task %s exit with non-zero exit code %u", c->args[i], status);
	}
	return result;
}

static const struct ctr_flag kill_flags[] = {
	{"signal", 's', CTR_STRING, "signal to send, by name or number"},
	{"exec-id", 0, CTR_STRING, "send it to this process of the task"},
	{"all", 'a', CTR_BOOL, "send it to all processes of the container"},
	{}};

static int run_kill(struct ctr *c, struct err *err)
{
	const char *exec_id = ctr_string(c, "exec-id"), *id;
	int signo, r;

	if (ctr_bool(c, "all") && *exec_id)
		return err_set_raw(err, ERR_INVALID_ARGUMENT,
				   "specify an exec-id or all; not both");
	r = need_id(c, &id, err);
	if (r == 0)
		r = task_stop_signal(c, id, &signo, err);
	return r < 0 ? r
		     : client_task_kill(c->client, &c->ctx, id, exec_id, signo, ctr_bool(c, "all"),
					err);
}

static int run_pause(struct ctr *c, struct err *err)
{
	PB_TASKS(PauseTaskRequest) req = PB_TASKS_INIT(PAUSE_TASK_REQUEST);
	const char *id;
	int r;

	r = need_id(c, &id, err);
	if (r < 0)
		return r;
	req.container_id = (char *)id;
	return client_call(c->client, &c->ctx, PB_TASKS_SERVICE, "Pause", &req.base, NULL, err);
}

static int run_resume(struct ctr *c, struct err *err)
{
	PB_TASKS(ResumeTaskRequest) req = PB_TASKS_INIT(RESUME_TASK_REQUEST);
	const char *id;
	int r;

	r = need_id(c, &id, err);
	if (r < 0)
		return r;
	req.container_id = (char *)id;
	return client_call(c->client, &c->ctx, PB_TASKS_SERVICE, "Resume", &req.base, NULL, err);
}

/* ---- list, ps, metrics ---- */

static const struct ctr_flag list_flags[] = {{"quiet", 'q', CTR_BOOL, "print only the ids"}, {}};

static const char *status_name(int status)
{
	static const char *const names[] = {"UNKNOWN", "CREATED", "RUNNING",
					    "STOPPED", "PAUSED",  "PAUSING"};

	return status >= 0 && (size_t)status < ARRAY_LEN(names) ? names[status] : names[0];
}

static int run_list(struct ctr *c, struct err *err)
{
	PB_TASKS(ListTasksRequest) req = PB_TASKS_INIT(LIST_TASKS_REQUEST);
	struct listing list _cleanup_listing_ = {.table = TABLE_INIT(4, 8, 4, ' '), .key = "ID"};
	PB_TASKS(ListTasksResponse) * resp;
	int r;

	r = ctr_connect(c, err);
	if (r == 0)
		r = client_call(c->client, &c->ctx, PB_TASKS_SERVICE, "List", &req.base, &resp,
				err);
	if (r < 0)
		return r;
	r = listing_begin(c, &list, "TASK\tPID\tSTATUS\t\n", err);
	for (size_t i = 0; r == 0 && i < resp->n_tasks; i++) {
		const PB_TASK_TYPES(Process) *p = resp->tasks[i];
		const char *status = status_name((int)p->status);

		/* Both daemons leave container_id out of the list. */
		r = listing_add(&list,
				json_pack("{s:s,s:I,s:s}", "ID", p->id, "Pid", (json_int_t)p->pid,
					  "Status", status),
				err, "%s\t%u\t%s\t\n", p->id, p->pid, status);
	}
	return r < 0 ? r : listing_end(&list, err);
}

/* exec_id:"x" for processes that exec has started. */
static const char *process_details(struct arena *a, const Google__Protobuf__Any *info)
{
	PB_RUNC(ProcessDetails) * d;
	struct err e = ERR_INIT;
	const char *text;

	if (!info)
		return "-";
	if (!streq(info->type_url, "containerd.runc.v1.ProcessDetails") ||
	    rpc_unpack(a, &containerd__runc__v1__process_details__descriptor, info->value.data,
		       info->value.len, &d, &e) < 0)
		return info->type_url;
	text = arena_printf(a, "exec_id:\"%s\"", d->exec_id);
	return text ? text : "-";
}

static int run_ps(struct ctr *c, struct err *err)
{
	PB_TASKS(ListPidsRequest) req = PB_TASKS_INIT(LIST_PIDS_REQUEST);
	struct listing list _cleanup_listing_ = {.table = TABLE_INIT(1, 8, 4, ' ')};
	PB_TASKS(ListPidsResponse) * resp;
	const char *id;
	int r;

	r = need_id(c, &id, err);
	if (r < 0)
		return r;
	req.container_id = (char *)id;
	r = client_call(c->client, &c->ctx, PB_TASKS_SERVICE, "ListPids", &req.base, &resp, err);
	if (r < 0)
		return r;
	r = listing_begin(c, &list, "PID\tINFO\n", err);
	for (size_t i = 0; r == 0 && i < resp->n_processes; i++) {
		uint32_t pid = resp->processes[i]->pid;
		const char *info = process_details(c->ctx.arena, resp->processes[i]->info);

		r = listing_add(&list, json_pack("{s:I,s:s}", "Pid", (json_int_t)pid, "Info", info),
				err, "%u\t%s\n", pid, info);
	}
	return r < 0 ? r : listing_end(&list, err);
}

static const struct ctr_flag metrics_flags[] = {
	{"format", 0, CTR_STRING, "\"table\" or \"json\"", "table"}, {}};

static int run_metrics(struct ctr *c, struct err *err)
{
	const char *format = ctr_string(c, "format"), *id;
	int r;

	if (!streq(format, "table") && !streq(format, "json"))
		return err_set_raw(err, ERR_INVALID_ARGUMENT,
				   "format must be \"table\" or \"json\"");
	r = need_id(c, &id, err);
	return r < 0 ? r : task_metrics_print(c, id, streq(format, "json"), err);
}

/* ---- The table ---- */

static const struct ctr_command attach = {
	.name = "attach",
	.usage = "attach to the streams of a running container",
	.args = "CONTAINER",
	.names = CTR_NAMES_TASKS,
	.run = run_attach,
};
static const struct ctr_command delete = {
	.name = "delete",
	.aliases = {"del", "remove", "rm"},
	.usage = "delete one or more tasks",
	.args = "CONTAINER [CONTAINER, ...]",
	.flags = CTR_FLAGS(delete_flags),
	.names = CTR_NAMES_TASKS,
	.more = CTR_NAMES_TASKS,
	.run = run_delete,
};
static const struct ctr_command exec = {
	.name = "exec",
	.usage = "start a further process in a running container",
	.args = "[flags] CONTAINER CMD [ARG...]",
	.flags = CTR_FLAGS(exec_flags),
	.names = CTR_NAMES_TASKS,
	.run = run_exec,
};
static const struct ctr_command list = {
	.name = "list",
	.aliases = {"ls"},
	.usage = "list tasks",
	.args = "[flags]",
	.flags = CTR_FLAGS(list_flags, format_flags),
	.run = run_list,
};
static const struct ctr_command kill_ = {
	.name = "kill",
	.usage = "send a signal to a container (default: SIGTERM)",
	.args = "[flags] CONTAINER",
	.flags = CTR_FLAGS(kill_flags),
	.names = CTR_NAMES_TASKS,
	.run = run_kill,
};
static const struct ctr_command metrics = {
	.name = "metrics",
	.aliases = {"metric"},
	.usage = "print a single data point of a task's metrics",
	.args = "CONTAINER",
	.flags = CTR_FLAGS(metrics_flags),
	.names = CTR_NAMES_TASKS,
	.run = run_metrics,
};
static const struct ctr_command pause_ = {
	.name = "pause",
	.usage = "pause a container",
	.args = "CONTAINER",
	.names = CTR_NAMES_TASKS,
	.run = run_pause,
};
static const struct ctr_command ps = {
	.name = "ps",
	.usage = "list the processes of a container",
	.args = "CONTAINER",
	.flags = CTR_FLAGS(format_flags),
	.names = CTR_NAMES_TASKS,
	.run = run_ps,
};
static const struct ctr_command resume = {
	.name = "resume",
	.usage = "resume a paused container",
	.args = "CONTAINER",
	.names = CTR_NAMES_TASKS,
	.run = run_resume,
};
static const struct ctr_command start = {
	.name = "start",
	.usage = "start a container that was created",
	.args = "CONTAINER",
	.flags = CTR_FLAGS(start_flags),
	.names = CTR_NAMES_CONTAINERS,
	.run = run_start,
};

const struct ctr_command containers_start = {
	.name = "start",
	.usage = "start a task for a container",
	.args = "[flags] CONTAINER",
	.flags = CTR_FLAGS(start_flags),
	.names = CTR_NAMES_CONTAINERS,
	.run = run_start_anew,
};
const struct ctr_command containers_stop = {
	.name = "stop",
	.usage = "stop the tasks of containers and delete them",
	.args = "[flags] CONTAINER [CONTAINER, ...]",
	.flags = CTR_FLAGS(stop_flags),
	.names = CTR_NAMES_CONTAINERS,
	.more = CTR_NAMES_CONTAINERS,
	.run = run_stop,
};

const struct ctr_command cmd_tasks = {
	.name = "tasks",
	.aliases = {"t", "task"},
	.usage = "manage tasks",
	.subcommands = CTR_COMMANDS(&attach, &tasks_checkpoint, &delete, &exec, &list, &kill_,
				    &metrics, &pause_, &ps, &resume, &start),
};
