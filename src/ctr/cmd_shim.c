/* SPDX-License-Identifier: Apache-2.0 */
/* ctr shim: speaks with a shim directly, past the daemon.
 *
 * The socket's name is made of the daemon's address, the namespace and the id, as shims make it;
 * those of another group or socket directory are named by --shim-address. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>

#include "base/digest.h"
#include "base/fd.h"
#include "base/time.h"
#include "ctr/commands.h"
#include "client/io.h"
#include "ctr/pprof.h"
#include "ctr/record.h"
#include "oci/spec.h"

#define SOCKET_DIR "/run/containerd/s"
#define SPEC_MAX (16u << 20)
#define TASK(m) Containerd__Task__V3__##m
#define TASK_INIT(m) CONTAINERD__TASK__V3__##m##__INIT
#define V3 "containerd.task.v3.Task"
#define V2 "containerd.task.v2.Task"

static const struct ctr_flag shim_flags[] = {
	{"id", 0, CTR_STRING,
	 "id of the container, or of the group, that the shim was started for"},
	{"shim-address", 0, CTR_STRING, "socket of the shim; computed from the id when not given"},
	{}};

/* ---- the socket ---- */

/* @part: "" or "/debug", which is a socket of its own. */
static int shim_path(struct ctr *c, const char *part, const char **ret, struct err *err)
{
	const char *given = ctr_string(c, "shim-address"), *id = ctr_string(c, "id");
	const char *address = ctr_string(c, "address");
	struct digest d;
	char *text;

	if (*given) {
		const char *path = str_skip(given, "unix://");

		*ret = arena_printf(c->ctx.arena, "%s", path ? path : given);
		return *ret ? 0 : err_nomem(err);
	}
	if (!*id)
		return err_set_raw(err, ERR_INVALID_ARGUMENT, "container id must be specified");
	text = arena_printf(c->ctx.arena, "%s/%s/%s%s", address, c->ctx.ns, id, part);
	if (!text)
		return err_nomem(err);
	digest_of(DIGEST_SHA256, text, strlen(text), &d);
	*ret = arena_printf(c->ctx.arena, SOCKET_DIR "/%s", strchr(d.text, ':') + 1);
	return *ret ? 0 : err_nomem(err);
}

static int shim_reach(struct ctr *c, struct err *err)
{
	const char *path;
	int r = shim_path(c, "", &path, err);

	if (r == 0)
		r = client_connect_ttrpc(path, &c->client, err);
	return r < 0 ? err_prefix(err, "fail to connect to container %s's shim",
				  ctr_string(c, "id"))
		     : 0;
}

/* The version that --api-version says; without that flag the newest one that the shim has. */
static int shim_call(struct ctr *c, const char *method, const ProtobufCMessage *req,
		     const ProtobufCMessageDescriptor *desc, void *ret, struct err *err)
{
	bool fixed = ctr_has_flag(c, "api-version");
	int64_t version = fixed ? ctr_int(c, "api-version") : 3;
	struct rpc_client *rpc = client_rpc(c->client);
	struct err e = ERR_INIT;
	int r;

	if (version != 2 && version != 3)
		return err_set(err, ERR_INVALID_ARGUMENT, "no version %lld of the task API",
			       (long long)version);
	r = rpc_call(rpc, &c->ctx, version == 3 ? V3 : V2, method, req, desc, ret, &e);
	if (r == -ERR_UNIMPLEMENTED && !fixed)
		return rpc_call(rpc, &c->ctx, V2, method, req, desc, ret, err);
	return r < 0 ? err_copy(err, &e) : 0;
}

/* The task: the first argument, or what the shim is called. */
static char *task_of(struct ctr *c)
{
	const char *arg = ctr_arg(c, 0);

	return (char *)(*arg ? arg : ctr_string(c, "id"));
}

/* ---- start, delete, state, shutdown ---- */

static int run_start(struct ctr *c, struct err *err)
{
	TASK(StartRequest) req = TASK_INIT(START_REQUEST);
	TASK(StartResponse) * resp;
	int r = shim_reach(c, err);

	req.id = task_of(c);
	return r < 0 ? r
		     : shim_call(c, "Start", &req.base,
				 &containerd__task__v3__start_response__descriptor, &resp, err);
}

static int run_delete(struct ctr *c, struct err *err)
{
	TASK(DeleteRequest) req = TASK_INIT(DELETE_REQUEST);
	TASK(DeleteResponse) * resp;
	int r = shim_reach(c, err);

	req.id = task_of(c);
	if (r == 0)
		r = shim_call(c, "Delete", &req.base,
			      &containerd__task__v3__delete_response__descriptor, &resp, err);
	if (r == 0)
		printf("container deleted and returned exit status %u\n", resp->exit_status);
	return r;
}

static const struct ctr_flag state_flags[] = {
	{"task-id", 't', CTR_STRING, "task whose state is shown; the shim's id when not given"},
	{"api-version", 0, CTR_INT, "version of the task API", "3"},
	{}};

static int run_state(struct ctr *c, struct err *err)
{
	json_t *out _cleanup_json_ = NULL;
	TASK(StateRequest) req = TASK_INIT(STATE_REQUEST);
	TASK(StateResponse) * resp;
	const char *id = ctr_string(c, "task-id");
	int r = shim_reach(c, err);

	req.id = (char *)(*id ? id : ctr_string(c, "id"));
	if (r == 0)
		r = shim_call(c, "State", &req.base,
			      &containerd__task__v3__state_response__descriptor, &resp, err);
	if (r < 0)
		return r;
	out = pb_json(&resp->base);
	return out ? ctr_print_json(out, err) : err_nomem(err);
}

static const struct ctr_flag shutdown_flags[] = {
	{"api-version", 0, CTR_INT, "version of the task API", "3"}, {}};

static int run_shutdown(struct ctr *c, struct err *err)
{
	TASK(ShutdownRequest) req = TASK_INIT(SHUTDOWN_REQUEST);
	int r = shim_reach(c, err);

	req.id = (char *)ctr_string(c, "id");
	return r < 0 ? r
		     : shim_call(c, "Shutdown", &req.base, &google__protobuf__empty__descriptor,
				 NULL, err);
}

/* ---- exec ---- */

static const struct ctr_flag exec_flags[] = {
	{"stdin", 0, CTR_STRING, "FIFO of standard input"},
	{"stdout", 0, CTR_STRING, "FIFO of standard output"},
	{"stderr", 0, CTR_STRING, "FIFO of standard error"},
	{"tty", 't', CTR_BOOL, "give the process a terminal"},
	{"attach", 'a', CTR_BOOL, "stay with the process and copy its streams"},
	{"env", 'e', CTR_STRINGS, "further environment variable, NAME=value"},
	{"cwd", 0, CTR_STRING, "working directory of the process"},
	{"spec", 0, CTR_STRING, "file with the OCI process"},
	{}};

static int process_env(struct ctr *c, json_t *process, struct err *err)
{
	size_t n;
	const char **v = ctr_strings(c, "env", &n);
	json_t *env = n ? json_arr_make(process, "env") : NULL;

	for (size_t i = 0; i < n; i++)
		if (!env || json_array_append_new(env, json_string(v[i])) < 0)
			return err_nomem(err);
	return 0;
}

/* The file with what the flags change. */
static int process_load(struct ctr *c, char **ret, struct err *err)
{
	const char *path = ctr_string(c, "spec"), *cwd = ctr_string(c, "cwd");
	json_t *process _cleanup_json_ = NULL;
	char *text;
	size_t n;
	int r;

	if (!*path)
		return err_set_raw(err, ERR_INVALID_ARGUMENT, "--spec must be specified");
	r = file_read(c->ctx.arena, AT_FDCWD, path, SPEC_MAX, &text, &n);
	if (r < 0)
		return err_errno(err, r, "read `%s`", path);
	r = json_parse(text, n, &process, err);
	if (r < 0 || !json_is_object(process))
		return r < 0 ? err_prefix(err, "`%s`", path)
			     : err_set(err, ERR_INVALID_ARGUMENT, "`%s` has no JSON object", path);
	r = process_env(c, process, err);
	if (r < 0)
		return r;
	if ((*cwd && json_object_set_new(process, "cwd", json_string(cwd)) < 0) ||
	    json_object_set_new(process, "terminal", json_boolean(ctr_bool(c, "tty"))) < 0)
		return err_nomem(err);
	*ret = json_dumps(process, JSON_COMPACT);
	return *ret ? 0 : err_nomem(err);
}

/* Tells the shim when our standard input has ended, while the other thread waits for the process.
 */
struct ender {
	struct ctr c; /* with an arena of its own */
	const char *exec_id;
	int ended_fd, stop_fd;
};

static void *end_input(void *arg)
{
	TASK(CloseIORequest) req = CONTAINERD__TASK__V3__CLOSE_IOREQUEST__INIT;
	struct ender *e = arg;
	struct pollfd p[] = {{.fd = e->stop_fd, .events = POLLIN},
			     {.fd = e->ended_fd, .events = POLLIN}};
	struct err gone = ERR_INIT;

	while (poll(p, ARRAY_LEN(p), -1) < 0 && errno == EINTR)
		;
	req.id = (char *)ctr_string(&e->c, "id");
	req.exec_id = (char *)e->exec_id;
	req.stdin = true;
	/* The process may have ended by now. */
	if (!p[0].revents && shim_call(&e->c, "CloseIO", &req.base,
				       &google__protobuf__empty__descriptor, NULL, &gone) < 0)
		return NULL;
	return NULL;
}

static int wait_for_end(struct ctr *c, const char *exec_id, int ended_fd, uint32_t *ret_status,
			struct err *err)
{
	TASK(WaitRequest) req = TASK_INIT(WAIT_REQUEST);
	TASK(WaitResponse) * resp;
	struct arena *a _cleanup_arena_ = arena_new(0);
	int stop_fd _cleanup_close_ = eventfd(0, EFD_CLOEXEC);
	struct ender e = {.exec_id = exec_id, .ended_fd = ended_fd, .stop_fd = stop_fd};
	pthread_t thread;
	int r;

	if (!a || stop_fd < 0)
		return err_nomem(err);
	e.c.ctx = ctx_part(&c->ctx, a);
	e.c.level = c->level;
	e.c.client = c->client;
	r = pthread_create(&thread, NULL, end_input, &e);
	if (r != 0)
		return err_errno(err, r, "start a thread");
	req.id = (char *)ctr_string(c, "id");
	req.exec_id = (char *)exec_id;
	r = shim_call(c, "Wait", &req.base, &containerd__task__v3__wait_response__descriptor, &resp,
		      err);
	eventfd_write(stop_fd, 1);
	pthread_join(thread, NULL);
	if (r == 0)
		*ret_status = resp->exit_status;
	return r;
}

/* Copies until the process has ended. */
static int attached(struct ctr *c, const char *exec_id, struct client_io *io, struct err *err)
{
	int ended_fd = client_io_stdin_ended_fd(io), r, done;
	uint32_t status = 0;

	r = client_io_run(io, err);
	if (r < 0)
		return r;
	r = wait_for_end(c, exec_id, ended_fd, &status, err);
	done = client_io_finish(io, r < 0 ? NULL : err);
	return r < 0 ? r : done < 0 ? done : (int)(status & 255);
}

static int exec_call(struct ctr *c, const char *exec_id, char *process, struct err *err)
{
	TASK(ExecProcessRequest) req = TASK_INIT(EXEC_PROCESS_REQUEST);
	TASK(StartRequest) start = TASK_INIT(START_REQUEST);
	TASK(StartResponse) * resp;
	Google__Protobuf__Any spec = GOOGLE__PROTOBUF__ANY__INIT;
	int r;

	spec.type_url = (char *)"types.containerd.io/opencontainers/runtime-spec/1/Process";
	spec.value = (ProtobufCBinaryData){strlen(process), (uint8_t *)process};
	req.id = start.id = (char *)ctr_string(c, "id");
	req.exec_id = start.exec_id = (char *)exec_id;
	req.stdin = (char *)ctr_string(c, "stdin");
	req.stdout = (char *)ctr_string(c, "stdout");
	req.stderr = (char *)ctr_string(c, "stderr");
	req.terminal = ctr_bool(c, "tty");
	req.spec = &spec;
	r = shim_call(c, "Exec", &req.base, &google__protobuf__empty__descriptor, NULL, err);
	if (r == 0)
		r = shim_call(c, "Start", &start.base,
			      &containerd__task__v3__start_response__descriptor, &resp, err);
	if (r == 0) {
		printf("exec running with pid %u\n", resp->pid);
		fflush(stdout);
	}
	return r;
}

static int run_exec(struct ctr *c, struct err *err)
{
	struct client_io *io _cleanup_(client_io_freep) = NULL;
	char *process _cleanup_free_ = NULL;
	const char *exec_id;
	int r;

	r = record_arg(c, 0, "exec id", &exec_id, err);
	if (r == 0 && !*ctr_string(c, "id"))
		r = err_set_raw(err, ERR_INVALID_ARGUMENT, "container id must be specified");
	if (r == 0)
		r = process_load(c, &process, err);
	if (r == 0 && ctr_bool(c, "attach") && ctr_bool(c, "tty"))
		r = client_io_check_terminal(err);
	if (r == 0)
		r = shim_reach(c, err);
	if (r == 0 && ctr_bool(c, "attach"))
		r = client_io_attach(ctr_string(c, "stdin"), ctr_string(c, "stdout"),
				     ctr_string(c, "stderr"), ctr_bool(c, "tty"), &io, err);
	if (r == 0)
		r = exec_call(c, exec_id, process, err);
	return r == 0 && io ? attached(c, exec_id, io, err) : r;
}

/* ---- pprof: HTTP on a socket beside the shim's ---- */

static const struct ctr_flag debug_flags[] = {{"debug", 0, CTR_INT, "how much is told", "0"}, {}};
static const struct ctr_flag goroutine_flags[] = {{"debug", 0, CTR_INT, "how much is told", "2"},
						  {}};
static const struct ctr_flag profile_flags[] = {
	{"seconds", 's', CTR_DURATION, "how long is measured", "30s"},
	{"debug", 0, CTR_INT, "how much is told", "0"},
	{}};
static const struct ctr_flag trace_flags[] = {
	{"seconds", 's', CTR_DURATION, "how long is measured", "5s"},
	{"debug", 0, CTR_INT, "how much is told", "0"},
	{}};

static int profile(struct ctr *c, const char *query, struct err *err)
{
	int fd _cleanup_close_ = -1;
	const char *path;
	int r = shim_path(c, "/debug", &path, err);

	if (r < 0)
		return r;
	r = unix_connect(path, &fd);
	if (r < 0)
		return err_errno(err, r,
				 "no profiles at `%s` (shims of containerd have them when it runs "
				 "with debug logging)",
				 path);
	return pprof_copy(c, fd, "the shim", query, err);
}

static int run_profile(struct ctr *c, struct err *err)
{
	const char *name = c->level->command->name;
	long long debug = (long long)ctr_int(c, "debug");
	char query[128];

	if (streq(name, "goroutines"))
		name = "goroutine";
	if (ctr_has_flag(c, "seconds"))
		snprintf(query, sizeof(query), "%s?seconds=%lld&debug=%lld", name,
			 (long long)(ctr_int(c, "seconds") / NSEC_PER_SEC), debug);
	else
		snprintf(query, sizeof(query), "%s?debug=%lld", name, debug);
	return profile(c, query, err);
}

#define PROFILE(symbol, name_, usage_, flags_)     \
	static const struct ctr_command symbol = { \
		.name = name_,                     \
		.usage = usage_,                   \
		.args = "[flags]",                 \
		.flags = CTR_FLAGS(flags_),        \
		.run = run_profile,                \
	}

PROFILE(block, "block", "profile of where goroutines block", debug_flags);
PROFILE(goroutines, "goroutines", "stacks of all goroutines", goroutine_flags);
PROFILE(heap, "heap", "profile of the heap", debug_flags);
PROFILE(cpu, "profile", "profile of the processor's time", profile_flags);
PROFILE(threads, "threadcreate", "profile of the threads that were made", debug_flags);
PROFILE(trace, "trace", "trace of the execution", trace_flags);

static const struct ctr_command pprof = {
	.name = "pprof",
	.usage = "profiles of a shim that was written in Go",
	.subcommands = CTR_COMMANDS(&block, &goroutines, &heap, &cpu, &threads, &trace),
};
static const struct ctr_command delete = {
	.name = "delete",
	.usage = "delete a container with a shim",
	.args = "[CONTAINER]",
	.run = run_delete,
};
static const struct ctr_command exec = {
	.name = "exec",
	.usage = "start a further process in the shim's container",
	.args = "[flags] EXEC-ID",
	.flags = CTR_FLAGS(exec_flags),
	.run = run_exec,
};
static const struct ctr_command start = {
	.name = "start",
	.usage = "start a container with a shim",
	.args = "[CONTAINER]",
	.run = run_start,
};
static const struct ctr_command state = {
	.name = "state",
	.usage = "show the state of a task of the shim",
	.args = "[flags]",
	.flags = CTR_FLAGS(state_flags),
	.run = run_state,
};
static const struct ctr_command shutdown_ = {
	.name = "shutdown",
	.usage = "shut a shim down that has no containers left",
	.args = "[flags]",
	.flags = CTR_FLAGS(shutdown_flags),
	.run = run_shutdown,
};

const struct ctr_command cmd_shim = {
	.name = "shim",
	.usage = "speak with a shim directly",
	.flags = CTR_FLAGS(shim_flags),
	.subcommands = CTR_COMMANDS(&delete, &exec, &start, &state, &shutdown_, &pprof),
};
