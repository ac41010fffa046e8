/* SPDX-License-Identifier: Apache-2.0 */
/* Running a command in a container: ExecSync, and the streaming Exec.
 *
 * The shim gets fifos in a directory of this exec; the calling thread moves bytes between them and
 * the caller's descriptors until the process has ended and its output too. The end is told by a
 * Wait call whose answer outlives the caller when it has to: its memory is counted. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"
#include "base/log.h"
#include "base/path.h"
#include "base/str.h"
#include "base/time.h"
#include "core/container.h"
#include "cri/io_flow.h"
#include "cri/io_internal.h"
#include "cri/task.h"

#define SH(x) Containerd__Task__V3__##x
#define SHD(x) containerd__task__v3__##x##__descriptor
#define EMPTY google__protobuf__empty__descriptor
#define PROCESS_URL "types.containerd.io/opencontainers/runtime-spec/1/Process"
#define SYNC_OUTPUT_MAX (16u << 20)	 /* of each stream */
#define MESSAGE_MAX ((16u << 20) - 4096) /* of both, where messages are limited to 16 MiB */
#define BEGIN_NS (60 * NSEC_PER_SEC)
#define KILLED_NS (10 * NSEC_PER_SEC)
#define DELETE_NS (30 * NSEC_PER_SEC)

/* ---- the end of a process ---- */

struct ending {
	atomic_uint refs;
	atomic_bool known;
	int event; /* readable once it is known */
	uint32_t status;
	struct err err;
};

static void ending_unref(struct ending *w)
{
	if (atomic_fetch_sub(&w->refs, 1) != 1)
		return;
	close(w->event);
	free(w);
}

static struct ending *ending_new(void)
{
	struct ending *w = calloc(1, sizeof(*w));

	if (!w)
		return NULL;
	w->refs = 1;
	w->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (w->event >= 0)
		return w;
	free(w);
	return NULL;
}

static void ended(void *arg, const uint8_t *p, size_t n, const struct err *err)
{
	struct ending *w = arg;
	SH(WaitResponse) *resp =
		err ? NULL : containerd__task__v3__wait_response__unpack(NULL, n, p);

	if (err)
		err_copy(&w->err, err);
	else if (!resp)
		err_set(&w->err, ERR_INTERNAL, "the shim's answer to Wait cannot be read");
	else
		w->status = resp->exit_status;
	if (resp)
		containerd__task__v3__wait_response__free_unpacked(resp, NULL);
	atomic_store(&w->known, true);
	if (eventfd_write(w->event, 1) < 0)
		log_error("exec: tell its end: %s", strerror(errno));
	ending_unref(w);
}

/* ---- the process ---- */

struct exec {
	struct ctx *ctx;
	struct cri *c;
	struct cri_container *k;
	struct cri_exec *e;
	struct task *task;
	struct ending *ending;
	char id[CRI_ID_LEN + 1];
	const char *dir, *in, *out, *err;
	struct cri_flow flow[3]; /* stdin, stdout, stderr */
	int64_t deadline, drain_until;
	bool made, started, kill_sent;
	int failed; /* why it was killed; the error is set then */
};

static int env_with_term(json_t *process)
{
	json_t *env = json_arr_make(process, "env"), *v;
	size_t i;

	if (!env)
		return -ENOMEM;
	json_array_foreach (env, i, v)
		if (json_is_string(v) && str_has_prefix(json_string_value(v), "TERM="))
			return json_array_set_new(env, i, json_string("TERM=xterm"));
	return json_array_append_new(env, json_string("TERM=xterm"));
}

/* The container's process with other arguments. */
static int process_spec(struct exec *x, char **ret, struct err *err)
{
	json_t *spec _cleanup_json_ = NULL, *args = json_array();
	struct container record;
	int r = container_get(x->ctx, x->c->o.db, x->k->o.id, &record, err);

	if (r == 0)
		r = json_parse(record.spec.value, record.spec.len, &spec, err);
	json_t *process = r == 0 ? json_obj(spec, "process") : NULL;
	if (r == 0 && !process)
		r = err_set(err, ERR_INVALID_ARGUMENT, "the spec of container %s has no process",
			    x->k->o.id);
	for (size_t i = 0; r == 0 && i < x->e->n_argv; i++) {
		json_t *s = json_string(x->e->argv[i]);
		if (!s)
			r = err_set(err, ERR_INVALID_ARGUMENT, "argument %zu is not UTF-8", i);
		else if (json_array_append_new(args, s) < 0)
			r = err_nomem(err);
	}
	if (r < 0) {
		json_decref(args);
		return r;
	}
	json_object_del(process, "commandLine");
	if (json_object_set_new(process, "args", args) < 0 ||
	    json_object_set_new(process, "terminal", json_boolean(x->e->tty)) < 0 ||
	    (x->e->tty && env_with_term(process) < 0))
		return err_nomem(err);
	*ret = json_dumps(process, JSON_COMPACT);
	return *ret ? 0 : err_nomem(err);
}

/* ---- before the start ---- */

static int fifo(struct exec *x, const char *name, bool wanted, const char **ret, struct err *err)
{
	char *path = wanted ? path_join(x->ctx->arena, x->dir, name) : (char *)"";

	if (!path)
		return err_nomem(err);
	*ret = path;
	return wanted && mkfifo(path, 0600) < 0 ? err_errno(err, errno, "make fifo `%s`", path) : 0;
}

/* The reading ends are open before the shim opens its own, so that no byte is lost. */
static int output_open(struct exec *x, int i, const char *path, int *dst, struct err *err)
{
	if (str_empty(path))
		return 0;
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return err_errno(err, errno, "open `%s`", path);
	return cri_flow_start(&x->flow[i], fd, TAKE_FD(*dst), false, x->e->limit) < 0
		       ? err_nomem(err)
		       : 0;
}

static int fifos(struct exec *x, struct err *err)
{
	struct arena *a = x->ctx->arena;
	char *state = cri_container_state_dir(x->c, a, x->k->o.id),
	     *parent = state ? path_join(a, state, "exec") : NULL;

	x->dir = parent ? path_join(a, parent, x->id) : NULL;
	if (!x->dir)
		return err_nomem(err);
	int r = mkdir_p(x->dir, 0700);
	if (r < 0 && r != -EEXIST)
		return err_errno(err, r, "make `%s`", x->dir);
	r = fifo(x, "stdin", x->e->stdin_fd >= 0, &x->in, err);
	if (r == 0)
		r = fifo(x, "stdout", true, &x->out, err);
	if (r == 0)
		r = fifo(x, "stderr", !x->e->tty, &x->err, err);
	if (r == 0)
		r = output_open(x, 1, x->out, &x->e->stdout_fd, err);
	return r < 0 ? r : output_open(x, 2, x->err, &x->e->stderr_fd, err);
}

/* ---- calls ---- */

/* Who leaves while it begins has it killed when it has begun: it is not left behind half-made. */
static struct ctx beginning(const struct exec *x)
{
	struct ctx ctx = cri_background(x->c, x->ctx->arena, BEGIN_NS);

	ctx.deadline = x->ctx->deadline ? MAX(x->ctx->deadline, ctx.deadline) : 0;
	return ctx;
}

static int call(struct exec *x, struct ctx *ctx, const char *method, const ProtobufCMessage *req,
		struct err *err)
{
	return task_call(ctx, x->task, method, req, &EMPTY, NULL, err);
}

static int make(struct exec *x, struct err *err)
{
	SH(ExecProcessRequest) req = CONTAINERD__TASK__V3__EXEC_PROCESS_REQUEST__INIT;
	Google__Protobuf__Any spec = GOOGLE__PROTOBUF__ANY__INIT;
	_cleanup_free_ char *text = NULL;
	struct ctx bg = beginning(x);
	int r = process_spec(x, &text, err);

	if (r < 0)
		return r;
	spec.type_url = (char *)PROCESS_URL;
	spec.value = (ProtobufCBinaryData){strlen(text), (uint8_t *)text};
	req.id = (char *)x->k->o.id;
	req.exec_id = x->id;
	req.terminal = x->e->tty;
	req.stdin = (char *)x->in;
	req.stdout = (char *)x->out;
	req.stderr = (char *)x->err;
	req.spec = &spec;
	r = call(x, &bg, "Exec", &req.base, err);
	x->made = r == 0;
	return r < 0 ? err_prefix(err, "failed to create exec \"%s\"", x->id) : 0;
}

static int wait_begin(struct exec *x, struct err *err)
{
	SH(WaitRequest) req = CONTAINERD__TASK__V3__WAIT_REQUEST__INIT;

	req.id = (char *)x->k->o.id;
	req.exec_id = x->id;
	x->ending = ending_new();
	if (!x->ending)
		return err_nomem(err);
	atomic_fetch_add(&x->ending->refs, 1);
	int r = task_call_async(x->task, "Wait", &req.base, 0, ended, x->ending, NULL, err);
	if (r < 0)
		ending_unref(x->ending);
	return r < 0 ? err_prefix(err, "failed to wait for exec \"%s\"", x->id) : 0;
}

static int start(struct exec *x, struct err *err)
{
	SH(StartRequest) req = CONTAINERD__TASK__V3__START_REQUEST__INIT;
	SH(StartResponse) * resp;
	struct ctx bg = beginning(x);

	req.id = (char *)x->k->o.id;
	req.exec_id = x->id;
	int r = task_call(&bg, x->task, "Start", &req.base, &SHD(start_response), &resp, err);
	if (r < 0)
		return err_prefix(err, "failed to start exec \"%s\"", x->id);
	x->started = true;
	if (x->e->started)
		x->e->started(x->e->arg, x->id);
	if (str_empty(x->in))
		return 0;
	/* Nobody reads it any more when the process has ended already. */
	int fd = open(x->in, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return 0;
	return cri_flow_start(&x->flow[0], TAKE_FD(x->e->stdin_fd), fd, true, 0) < 0
		       ? err_nomem(err)
		       : 0;
}

static void kill_it(struct exec *x)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	struct ctx bg = cri_background(x->c, a, KILLED_NS);
	SH(KillRequest) req = CONTAINERD__TASK__V3__KILL_REQUEST__INIT;
	struct err err = ERR_INIT;

	if (x->kill_sent || !a)
		return;
	x->kill_sent = true;
	req.id = (char *)x->k->o.id;
	req.exec_id = x->id;
	req.signal = SIGKILL;
	int r = call(x, &bg, "Kill", &req.base, &err);
	if (r < 0 && r != -ERR_NOT_FOUND)
		log_warn("container %s: kill exec %s: %s", x->k->o.id, x->id, err.text);
}

static void stdin_close(struct exec *x)
{
	SH(CloseIORequest) req = CONTAINERD__TASK__V3__CLOSE_IOREQUEST__INIT;
	struct err err = ERR_INIT;

	cri_flow_done(&x->flow[0]);
	req.id = (char *)x->k->o.id;
	req.exec_id = x->id;
	req.stdin = true;
	int r = call(x, x->ctx, "CloseIO", &req.base, &err);
	if (r < 0 && r != -ERR_NOT_FOUND)
		log_debug("container %s: close input of exec %s: %s", x->k->o.id, x->id, err.text);
}

static void deleted(void *arg, const uint8_t *p, size_t n, const struct err *err)
{
}

/* When output is still held open by somebody the shim waits for it: nobody else needs to. */
static void delete_it(struct exec *x, bool wait)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	struct ctx bg = cri_background(x->c, a, DELETE_NS);
	SH(DeleteRequest) req = CONTAINERD__TASK__V3__DELETE_REQUEST__INIT;
	SH(DeleteResponse) * resp;
	struct err err = ERR_INIT;
	int r;

	req.id = (char *)x->k->o.id;
	req.exec_id = x->id;
	if (wait && a)
		r = task_call(&bg, x->task, "Delete", &req.base, &SHD(delete_response), &resp,
			      &err);
	else
		r = task_call_async(x->task, "Delete", &req.base, DELETE_NS, deleted, NULL, NULL,
				    &err);
	if (r < 0 && r != -ERR_NOT_FOUND)
		log_warn("container %s: delete exec %s: %s", x->k->o.id, x->id, err.text);
}

/* ---- moving ---- */

static bool known(const struct exec *x)
{
	return atomic_load(&x->ending->known);
}

static bool drained(const struct exec *x)
{
	return cri_flow_ended(&x->flow[1]) && cri_flow_ended(&x->flow[2]);
}

/* Gives up for a reason that is in @err: the process is killed, its end is waited for a while. */
static void give_up(struct exec *x, int why)
{
	x->failed = why;
	x->drain_until = time_mono() + KILLED_NS;
	kill_it(x);
}

static void check_limits(struct exec *x, const struct pollfd *cancel, struct err *err)
{
	int r = ctx_check(x->ctx, err);
	char text[40];

	if (r == 0 && x->c->stopping)
		r = err_set(err, ERR_UNAVAILABLE, "the daemon stops");
	if (r == 0 && cancel && cancel->revents)
		r = err_set(err, ERR_CANCELED, "exec");
	if (r == 0 && x->deadline && !known(x) && time_mono() >= x->deadline) {
		duration_format(x->e->timeout_ns, text);
		r = err_set_raw(err, ERR_DEADLINE_EXCEEDED,
				"timeout %s exceeded: context deadline exceeded", text);
	}
	if (r < 0)
		give_up(x, r);
}

static int poll_ms(const struct exec *x)
{
	int64_t until = x->drain_until ? x->drain_until : known(x) ? 0 : x->deadline, now;
	int64_t ms = CRI_IO_TICK_MS;

	if (until) {
		now = time_mono();
		ms = until <= now ? 0 : MIN(ms, (until - now) / NSEC_PER_MSEC + 1);
	}
	return (int)ms;
}

static int round_(struct exec *x, struct err *err)
{
	struct pollfd v[8], *cancel = NULL;
	bool input = x->flow[0].buf != NULL;
	nfds_t n = 0;

	for (int i = 0; i < 3; i++)
		cri_flow_poll(&x->flow[i], v, &n);
	if (!known(x))
		v[n++] = (struct pollfd){.fd = x->ending->event, .events = POLLIN};
	if (x->e->cancel_fd >= 0 && !x->failed) {
		cancel = &v[n];
		v[n++] = (struct pollfd){.fd = x->e->cancel_fd, .events = POLLIN};
	}
	if (poll(v, n, poll_ms(x)) < 0 && errno != EINTR)
		return err_errno(err, errno, "wait for streams");
	for (int i = 0; i < 3; i++)
		cri_flow_step(&x->flow[i]);
	if (input && cri_flow_ended(&x->flow[0]))
		stdin_close(x);
	if (!x->failed)
		check_limits(x, cancel, err);
	return 0;
}

static int still_held(struct exec *x, struct err *err)
{
	char text[40];

	duration_format(x->e->drain_ns, text);
	return err_set(err, ERR_UNKNOWN,
		       "failed to drain exec process \"%s\" io in %s because io is still held by "
		       "other processes",
		       x->id, text);
}

/* Until the process and its output have ended. */
static int follow(struct exec *x, int32_t *ret_code, struct err *err)
{
	while (!known(x) || (!drained(x) && !x->failed)) {
		int r = round_(x, err);
		if (r < 0)
			return r;
		if (known(x) && x->ending->err.kind && !x->failed)
			return err_copy(err, &x->ending->err);
		if (known(x) && !x->failed && !x->drain_until && x->e->drain_ns)
			x->drain_until = time_mono() + x->e->drain_ns;
		if (!x->drain_until || time_mono() < x->drain_until)
			continue;
		if (!x->failed && !drained(x))
			return still_held(x, err);
		if (x->failed)
			break;
	}
	if (x->failed)
		return x->failed;
	*ret_code = (int32_t)x->ending->status;
	return 0;
}

static int may_exec(struct cri_container *k, struct err *err)
{
	MUTEX_GUARD(&k->o.lock);
	CRI(ContainerState) state = cri_status_state(&k->status);

	if (state == RUNTIME__V1__CONTAINER_STATE__CONTAINER_RUNNING)
		return 0;
	return err_set(err, ERR_UNKNOWN, "container is in %s state",
		       protobuf_c_enum_descriptor_get_value(
			       &runtime__v1__container_state__descriptor, (int)state)
			       ->name);
}

static int run(struct exec *x, int32_t *ret_code, struct err *err)
{
	int r = may_exec(x->k, err);

	if (r < 0)
		return r;
	runtime_expect(x->c->o.runtime);
	r = runtime_get(x->ctx, x->c->o.runtime, x->k->o.id, &x->task, err);
	if (r == 0)
		r = fifos(x, err);
	if (r == 0)
		r = make(x, err);
	if (r == 0)
		r = start(x, err);
	if (r == 0)
		r = wait_begin(x, err);
	if (r == 0)
		r = follow(x, ret_code, err);
	return r;
}

static void cleanup(struct exec *x, bool ok)
{
	if (x->started && !ok && !(x->ending && known(x)))
		kill_it(x);
	for (int i = 0; i < 3; i++)
		cri_flow_done(&x->flow[i]);
	if (x->made)
		delete_it(x, ok || !x->started);
	if (x->dir && rm_rf(AT_FDCWD, x->dir) < 0)
		log_warn("remove `%s`", x->dir);
	if (x->ending)
		ending_unref(x->ending);
	if (x->task)
		task_unref(x->task);
	fd_closep(&x->e->stdin_fd);
	fd_closep(&x->e->stdout_fd);
	fd_closep(&x->e->stderr_fd);
}

int cri_exec_run(struct ctx *ctx, struct cri *c, struct cri_container *k, struct cri_exec *e,
		 int32_t *ret_code, struct err *err)
{
	struct exec x = {.ctx = ctx,
			 .c = c,
			 .k = k,
			 .e = e,
			 .flow = {CRI_FLOW_INIT, CRI_FLOW_INIT, CRI_FLOW_INIT}};
	struct err own = ERR_INIT;

	if (e->timeout_ns > 0)
		x.deadline = time_mono() + MIN(e->timeout_ns, INT64_MAX / 4);
	cri_id_new(x.id);
	int r = run(&x, ret_code, &own);
	cleanup(&x, r == 0);
	return r < 0 ? err_copy(err, &own) : 0;
}

int cri_io_resize(struct ctx *ctx, struct cri *c, struct cri_container *k, const char *exec_id,
		  uint32_t width, uint32_t height, struct err *err)
{
	_cleanup_(task_unrefp) struct task *t = NULL;
	SH(ResizePtyRequest) req = CONTAINERD__TASK__V3__RESIZE_PTY_REQUEST__INIT;
	int r = runtime_get(ctx, c->o.runtime, k->o.id, &t, err);

	req.id = (char *)k->o.id;
	req.exec_id = (char *)exec_id;
	req.width = width;
	req.height = height;
	return r < 0 ? r : task_call(ctx, t, "ResizePty", &req.base, &EMPTY, NULL, err);
}

/* ---- ExecSync ---- */

/* Output in memory outside of the heap, mapped to be sent. */
struct capture {
	int fd;
	void *map;
	size_t n;
};

static void capture_done(struct capture *v)
{
	if (v->map)
		munmap(v->map, v->n);
	fd_closep(&v->fd);
}

static int capture_open(struct capture *v, int *ret_writer, struct err *err)
{
	v->fd = memfd_create("exec", MFD_CLOEXEC);
	*ret_writer = v->fd < 0 ? -1 : fcntl(v->fd, F_DUPFD_CLOEXEC, 3);
	return *ret_writer < 0 ? err_errno(err, errno, "memory for output") : 0;
}

static int capture_map(struct capture *v, ProtobufCBinaryData *ret, struct err *err)
{
	struct stat st;

	if (fstat(v->fd, &st) < 0)
		return err_errno(err, errno, "size of output");
	v->n = (size_t)st.st_size;
	if (!v->n)
		return 0;
	void *p = mmap(NULL, v->n, PROT_READ, MAP_PRIVATE, v->fd, 0);
	if (p == MAP_FAILED)
		return err_errno(err, errno, "map output");
	v->map = p;
	*ret = (ProtobufCBinaryData){v->n, p};
	return 0;
}

/* What does not fit into a message of the usual size is left out, rather than all of it refused:
 * the end of standard output first, since errors are shorter. */
static int answer(struct rpc_call *call_, CRI(ExecSyncResponse) * resp, struct err *err)
{
	struct err own = ERR_INIT;
	int r = rpc_send(call_, &resp->base, &own);
	size_t max = MESSAGE_MAX, half = max / 2;

	if (r != -ERR_RESOURCE_EXHAUSTED || resp->stdout.len + resp->stderr.len <= max)
		return r < 0 ? err_copy(err, &own) : r;
	if (resp->stderr.len > half)
		resp->stderr.len = resp->stdout.len > half ? half : max - resp->stdout.len;
	resp->stdout.len = MIN(resp->stdout.len, max - resp->stderr.len);
	return rpc_send(call_, &resp->base, err);
}

static int run_sync(struct rpc_call *call_, struct cri *c, struct cri_container *k,
		    const CRI(ExecSyncRequest) * q, struct err *err)
{
	_cleanup_(capture_done) struct capture out = {.fd = -1}, errors = {.fd = -1};
	CRI(ExecSyncResponse) resp = CRI_INIT(EXEC_SYNC_RESPONSE);
	struct cri_exec e = {.argv = q->cmd,
			     .n_argv = q->n_cmd,
			     .stdin_fd = -1,
			     .stdout_fd = -1,
			     .stderr_fd = -1,
			     .cancel_fd = -1,
			     .timeout_ns = q->timeout > 0
						   ? MIN(q->timeout, INT64_MAX / 4 / NSEC_PER_SEC) *
							     NSEC_PER_SEC
						   : 0,
			     .drain_ns = c->config->drain_exec_sync_io_timeout_ns,
			     .limit = SYNC_OUTPUT_MAX};
	int r = capture_open(&out, &e.stdout_fd, err);

	if (r == 0)
		r = capture_open(&errors, &e.stderr_fd, err);
	if (r < 0) {
		fd_closep(&e.stdout_fd);
		return r;
	}
	r = cri_exec_run(rpc_ctx(call_), c, k, &e, &resp.exit_code, err);
	if (r < 0)
		return err_prefix(err, "failed to exec in container");
	r = capture_map(&out, &resp.stdout, err);
	if (r == 0)
		r = capture_map(&errors, &resp.stderr, err);
	return r < 0 ? r : answer(call_, &resp, err);
}

int cri_exec_sync(struct rpc_call *call_, const void *req, struct err *err)
{
	const CRI(ExecSyncRequest) *q = req;
	_cleanup_container_ struct cri_container *k = NULL;
	struct cri *c;
	int r = cri_of(call_, &c, err);

	if (r == 0 && !q->n_cmd)
		r = err_set(err, ERR_UNKNOWN, "command cannot be empty");
	if (r == 0)
		r = cri_table_get(c->containers, q->container_id, &k, err);
	return r < 0 ? r : run_sync(call_, c, k, q, err);
}
