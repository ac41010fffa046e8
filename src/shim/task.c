/* SPDX-License-Identifier: Apache-2.0 */
/* The task service: unpacks requests and makes operations of them.
 *
 * Versions 2 and 3 of the service differ in their name only: the second is registered with the
 * messages of the first. An operation owns copies of what it needs; requests end with their
 * handler.
 */
#include "shim/shim.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/str.h"
#include "shim/bundle.h"
#include "shim/jscan.h"
#include "shim/options.h"
#include "sys/mount.h"

#define SPEC_MAX (4u << 20)

static struct shim *shim_of(struct rpc_call *call)
{
	struct shim *s = rpc_data(call);

	server_active(s);
	return s;
}

Google__Protobuf__Timestamp *timestamp_of(struct timespec t, Google__Protobuf__Timestamp *storage)
{
	if (t.tv_sec == 0 && t.tv_nsec == 0)
		return NULL;
	google__protobuf__timestamp__init(storage);
	storage->seconds = t.tv_sec;
	storage->nanos = (int32_t)t.tv_nsec;
	return storage;
}

static int send_empty(struct rpc_call *call, struct err *err)
{
	Google__Protobuf__Empty empty = GOOGLE__PROTOBUF__EMPTY__INIT;

	return rpc_send(call, &empty.base, err);
}

static int queue(struct proc *p, struct rpc_call *call, void (*run)(struct op *op), struct err *err)
{
	struct op *op = op_new(p, call, run);

	if (!op)
		return err_nomem(err);
	op_add(op);
	return rpc_defer(call);
}

/* Queues an operation on the container @id. */
static int queue_on(struct rpc_call *call, const char *id, void (*run)(struct op *op),
		    struct err *err)
{
	struct proc *p = proc_find(shim_of(call), id, "", err);

	return p ? queue(p, call, run, err) : -err->kind;
}

static char *any_text(const Google__Protobuf__Any *any)
{
	return any && any->value.len <= SPEC_MAX
		       ? strndup((const char *)any->value.data, any->value.len)
		       : NULL;
}

/* ---- State, Pids, Wait, Connect, Stats ---- */

static Containerd__V1__Types__Status status_of(const struct proc *p)
{
	if (p->state == PROC_STOPPED)
		return CONTAINERD__V1__TYPES__STATUS__STOPPED;
	if (p->c->paused)
		return CONTAINERD__V1__TYPES__STATUS__PAUSED;
	if (p->c->pausing)
		return CONTAINERD__V1__TYPES__STATUS__PAUSING;
	return p->state == PROC_RUNNING ? CONTAINERD__V1__TYPES__STATUS__RUNNING
					: CONTAINERD__V1__TYPES__STATUS__CREATED;
}

static int task_state(struct rpc_call *call, const void *r, struct err *err)
{
	const Containerd__Task__V2__StateRequest *req = r;
	Containerd__Task__V2__StateResponse resp = CONTAINERD__TASK__V2__STATE_RESPONSE__INIT;
	Google__Protobuf__Timestamp at;
	struct proc *p = proc_find(shim_of(call), req->id, req->exec_id, err);

	if (!p)
		return -err->kind;
	resp.id = p->id;
	resp.bundle = p->c->bundle;
	resp.pid = (uint32_t)p->pid;
	resp.status = status_of(p);
	resp.stdin = p->in;
	resp.stdout = p->out;
	resp.stderr = p->err;
	resp.terminal = p->terminal;
	if (p->state == PROC_STOPPED) {
		resp.exit_status = p->status;
		resp.exited_at = timestamp_of(p->exited_at, &at);
	}
	resp.exec_id = req->exec_id;
	return rpc_send(call, &resp.base, err);
}

static int task_pids(struct rpc_call *call, const void *r, struct err *err)
{
	return queue_on(call, ((const Containerd__Task__V2__PidsRequest *)r)->id, pids_run, err);
}

static void wait_canceled(void *arg)
{
	struct waiter *w = arg;
	struct err err = ERR_INIT;

	for (struct waiter **p = &w->proc->waiters; *p; p = &(*p)->next) {
		if (*p == w) {
			*p = w->next;
			break;
		}
	}
	err_set_raw(&err, ERR_CANCELED, "context canceled");
	rpc_finish(w->call, &err);
	free(w);
}

static int task_wait(struct rpc_call *call, const void *r, struct err *err)
{
	const Containerd__Task__V2__WaitRequest *req = r;
	Containerd__Task__V2__WaitResponse resp = CONTAINERD__TASK__V2__WAIT_RESPONSE__INIT;
	Google__Protobuf__Timestamp at;
	struct proc *p = proc_find(shim_of(call), req->id, req->exec_id, err);
	struct waiter *w;

	if (!p)
		return -err->kind;
	if (p->state == PROC_STOPPED || p->start_failed) {
		resp.exit_status = p->status;
		resp.exited_at = timestamp_of(p->exited_at, &at);
		return rpc_send(call, &resp.base, err);
	}
	w = malloc(sizeof(*w));
	if (!w)
		return err_nomem(err);
	*w = (struct waiter){.next = p->waiters, .proc = p, .call = call};
	p->waiters = w;
	rpc_on_cancel(call, wait_canceled, w);
	return rpc_defer(call);
}

static int task_connect(struct rpc_call *call, const void *r, struct err *err)
{
	const Containerd__Task__V2__ConnectRequest *req = r;
	Containerd__Task__V2__ConnectResponse resp = CONTAINERD__TASK__V2__CONNECT_RESPONSE__INIT;
	struct shim *s = shim_of(call);
	struct container *c = container_find(s, req->id, NULL);

	resp.shim_pid = (uint32_t)getpid();
	resp.task_pid = c ? (uint32_t)c->init.pid : 0;
	publisher_kick(s->publisher);
	return rpc_send(call, &resp.base, err);
}

static int task_stats(struct rpc_call *call, const void *r, struct err *err)
{
	const Containerd__Task__V2__StatsRequest *req = r;
	Containerd__Task__V2__StatsResponse resp = CONTAINERD__TASK__V2__STATS_RESPONSE__INIT;
	Google__Protobuf__Any any = GOOGLE__PROTOBUF__ANY__INIT;
	struct container *c = container_find(shim_of(call), req->id, err);
	int e;

	if (!c)
		return -err->kind;
	e = container_stats(rpc_ctx(call)->arena, c, &any, err);
	if (e < 0)
		return e;
	resp.stats = &any;
	return rpc_send(call, &resp.base, err);
}

/* ---- Create ---- */

static int options_take(struct container *c, struct rpc_call *call,
			const Containerd__Task__V2__CreateTaskRequest *req, struct err *err)
{
	Containerd__Runc__V1__Options *o;
	int r = options_unpack(rpc_ctx(call)->arena, req->options, &o, err);

	if (r == 0)
		r = options_save(c->bundle, o, err);
	if (r < 0)
		return r;
	r = runtime_init(&c->rt, c->shim->ns, c->bundle, o->binary_name, o->root,
			 o->systemd_cgroup);
	if (r == 0) {
		c->rt.program = c->shim->ahead;
		c->shim->ahead = (struct sealed){};
	}
	c->no_pivot_root = o->no_pivot_root;
	c->no_new_keyring = o->no_new_keyring;
	c->io_uid = o->io_uid;
	c->io_gid = o->io_gid;
	c->criu_work_path = strdup(o->criu_work_path);
	c->checkpoint = *req->checkpoint ? strdup(req->checkpoint) : NULL;
	c->private_pidns = bundle_has_private_pidns(c->bundle);
	if (r < 0 || !c->criu_work_path || (*req->checkpoint && !c->checkpoint))
		return err_nomem(err);
	return 0;
}

/* An earlier mount of this upper directory may still be on its way out: see rootfs_unmount(). */
static int upper_claim(struct container *c, const struct mount_spec *m)
{
	const char *upper = NULL;
	int fd;

	for (size_t i = 0; streq(m->type, "overlay") && i < m->n_options; i++)
		upper = str_or(str_skip(m->options[i], "upperdir="), upper);
	if (!upper)
		return 0;
	c->rootfs_upper = strdup(upper);
	fd = open(upper, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0) {
		while (flock(fd, LOCK_EX) < 0 && errno == EINTR)
			;
		close(fd);
	}
	return c->rootfs_upper ? 0 : -ENOMEM;
}

static int rootfs_mount(struct container *c, struct arena *a,
			const Containerd__Task__V2__CreateTaskRequest *req, struct err *err)
{
	struct mount_spec *specs = arena_new_array(a, struct mount_spec, req->n_rootfs);
	char *root = arena_printf(a, "%s/rootfs", c->bundle);
	int r;

	if (req->n_rootfs == 0)
		return 0;
	if (!specs || !root)
		return err_nomem(err);
	if (mkdir(root, 0711) < 0 && errno != EEXIST)
		return err_errno(err, errno, "make directory `%s`", root);
	for (size_t i = 0; i < req->n_rootfs; i++) {
		const Containerd__Types__Mount *m = req->rootfs[i];

		specs[i] = (struct mount_spec){m->type, m->source, m->target, m->options,
					       m->n_options};
	}
	c->mounted = true;
	r = req->n_rootfs == 1 ? upper_claim(c, &specs[0]) : 0;
	if (r < 0)
		return err_nomem(err);
	r = mount_specs_mount(specs, req->n_rootfs, root, err);
	if (r == 0)
		return 0;
	if (mount_unmount_all(root, MNT_DETACH, NULL) < 0)
		log_warn("container %s: half mounted rootfs stays mounted", c->id);
	return err_prefix(err, "failed to mount rootfs component");
}

/* For the event, which is sent when the request is gone. */
static int mounts_copy(struct op *op, const Containerd__Task__V2__CreateTaskRequest *req)
{
	if (req->n_rootfs == 0)
		return 0;
	op->arena = arena_new(0);
	if (!op->arena)
		return -ENOMEM;
	op->rootfs = arena_new_array(op->arena, Containerd__Types__Mount *, req->n_rootfs);
	for (size_t i = 0; op->rootfs && i < req->n_rootfs; i++) {
		size_t n = protobuf_c_message_get_packed_size(&req->rootfs[i]->base);
		uint8_t *p = arena_alloc(op->arena, n);

		if (!p)
			return -ENOMEM;
		protobuf_c_message_pack(&req->rootfs[i]->base, p);
		if (rpc_unpack(op->arena, &containerd__types__mount__descriptor, p, n,
			       &op->rootfs[i], NULL) < 0)
			return -ENOMEM;
		op->n_rootfs++;
	}
	return op->rootfs ? 0 : -ENOMEM;
}

static int create_check(struct shim *s, const Containerd__Task__V2__CreateTaskRequest *req,
			struct err *err)
{
	int r = ident_validate(req->id, err);

	if (r < 0)
		return err_prefix(err, "create task id");
	if (req->bundle[0] != '/' || strlen(req->bundle) > 3500)
		return err_set(err, ERR_INVALID_ARGUMENT, "bundle `%s` is no absolute path",
			       req->bundle);
	if (s->stopping)
		return err_set(err, ERR_UNAVAILABLE, "the shim is shutting down");
	for (struct container *c = s->containers; c; c = c->next)
		if (streq(c->id, req->id))
			return err_set(err, ERR_ALREADY_EXISTS, "container %s", req->id);
	return sandbox_accepts(s, err);
}

static int task_create(struct rpc_call *call, const void *r, struct err *err)
{
	const Containerd__Task__V2__CreateTaskRequest *req = r;
	struct shim *s = shim_of(call);
	struct container *c;
	struct op *op;
	int e = create_check(s, req, err);

	if (e < 0)
		return e;
	c = container_new(s, req->id, req->bundle);
	if (!c)
		return err_nomem(err);
	e = options_take(c, call, req, err);
	if (e == 0 && proc_init(&c->init, c, req->id, req->stdin, req->stdout, req->stderr,
				req->terminal) < 0)
		e = err_nomem(err);
	op = e == 0 ? op_new(&c->init, call, init_create_run) : NULL;
	if (e == 0 && (!op || mounts_copy(op, req) < 0)) {
		e = err_nomem(err);
		if (op)
			arena_free(op->arena);
		free(op);
	}
	if (e == 0) {
		e = rootfs_mount(c, rpc_ctx(call)->arena, req, err);
		if (e < 0) {
			arena_free(op->arena);
			free(op);
		}
	}
	if (e < 0) {
		container_remove(c);
		return e;
	}
	container_link(c);
	op_add(op);
	return rpc_defer(call);
}

/* ---- Start, Delete, Exec ---- */

static int task_start(struct rpc_call *call, const void *r, struct err *err)
{
	const Containerd__Task__V2__StartRequest *req = r;
	struct proc *p = proc_find(shim_of(call), req->id, req->exec_id, err);

	return p ? queue(p, call, proc_is_init(p) ? init_start_run : exec_start_run, err)
		 : -err->kind;
}

/* A container that is being created can be deleted: that waits until it is created. A daemon that
 * gives up a creation must know that nothing comes of it any more. */
static struct proc *proc_in_creation(struct shim *s, const char *id)
{
	for (struct container *c = s->containers; c; c = c->next)
		if (!c->visible && c->init.ops && streq(c->id, id))
			return &c->init;
	return NULL;
}

static int task_delete(struct rpc_call *call, const void *r, struct err *err)
{
	const Containerd__Task__V2__DeleteRequest *req = r;
	struct shim *s = shim_of(call);
	struct proc *p = *req->exec_id ? NULL : proc_in_creation(s, req->id);

	if (!p)
		p = proc_find(s, req->id, req->exec_id, err);

	return p ? queue(p, call, proc_is_init(p) ? init_delete_run : exec_delete_run, err)
		 : -err->kind;
}

static int exec_check(struct container *c, const Containerd__Task__V2__ExecProcessRequest *req,
		      struct err *err)
{
	struct jspan doc;
	int r = ident_validate(req->exec_id, err);

	if (r < 0)
		return err_prefix(err, "exec id");
	if (streq(req->exec_id, c->id) || streq(req->exec_id, "init") ||
	    proc_find(c->shim, c->id, req->exec_id, NULL))
		return err_set(err, ERR_ALREADY_EXISTS, "id %s", req->exec_id);
	if (c->paused)
		return err_set(err, ERR_UNKNOWN, "cannot exec in a paused state");
	if (c->init.state == PROC_STOPPED || c->init.ended)
		return err_set(err, ERR_UNKNOWN, "cannot exec in a stopped state");
	if (!req->spec || req->spec->value.len > SPEC_MAX)
		return err_set(err, ERR_INVALID_ARGUMENT, "exec %s: process document",
			       req->exec_id);
	if (jscan_value((const char *)req->spec->value.data, req->spec->value.len, &doc) < 0 ||
	    *doc.p != '{')
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "exec %s: process document is no JSON object", req->exec_id);
	return 0;
}

static int task_exec(struct rpc_call *call, const void *r, struct err *err)
{
	const Containerd__Task__V2__ExecProcessRequest *req = r;
	Containerd__Events__TaskExecAdded e = CONTAINERD__EVENTS__TASK_EXEC_ADDED__INIT;
	struct container *c = container_find(shim_of(call), req->id, err);
	struct proc *p;

	if (!c)
		return -err->kind;
	if (exec_check(c, req, err) < 0)
		return -err->kind;
	p = calloc(1, sizeof(*p));
	if (!p)
		return err_nomem(err);
	p->spec = any_text(req->spec);
	p->next = c->execs;
	if (proc_init(p, c, req->exec_id, req->stdin, req->stdout, req->stderr, req->terminal) <
		    0 ||
	    !p->spec) {
		exec_remove(p);
		return err_nomem(err);
	}
	c->execs = p;
	e.container_id = c->id;
	e.exec_id = p->id;
	event_send(c, "/tasks/exec-added", &e.base);
	return send_empty(call, err);
}

/* ---- Pause, Resume, Kill, Update, Checkpoint ---- */

static int task_pause(struct rpc_call *call, const void *r, struct err *err)
{
	return queue_on(call, ((const Containerd__Task__V2__PauseRequest *)r)->id, pause_run, err);
}

static int task_resume(struct rpc_call *call, const void *r, struct err *err)
{
	return queue_on(call, ((const Containerd__Task__V2__ResumeRequest *)r)->id, resume_run,
			err);
}

/* A process of ours that is not reaped yet: its pid is its own. */
static int exec_kill(struct rpc_call *call, struct proc *p, uint32_t signal, struct err *err)
{
	if (p->ended || p->state == PROC_STOPPED)
		return err_set(err, ERR_NOT_FOUND, "process already finished");
	if (!p->pid)
		return err_set(err, ERR_FAILED_PRECONDITION, "process not created");
	if (kill(p->pid, (int)signal) < 0) {
		if (errno == ESRCH)
			return err_set(err, ERR_NOT_FOUND, "process already finished");
		return err_errno(err, errno, "exec kill error");
	}
	return send_empty(call, err);
}

static int task_kill(struct rpc_call *call, const void *r, struct err *err)
{
	const Containerd__Task__V2__KillRequest *req = r;
	struct proc *p = proc_find(shim_of(call), req->id, req->exec_id, err);
	struct op *op;

	if (!p)
		return -err->kind;
	if (req->signal > 64)
		return err_set(err, ERR_INVALID_ARGUMENT, "signal %u", req->signal);
	if (!proc_is_init(p))
		return exec_kill(call, p, req->signal, err);
	op = op_new(p, call, kill_run);
	if (!op)
		return err_nomem(err);
	op->signal = req->signal;
	op->all = req->all;
	op_add(op);
	return rpc_defer(call);
}

static int task_update(struct rpc_call *call, const void *r, struct err *err)
{
	const Containerd__Task__V2__UpdateTaskRequest *req = r;
	struct proc *p = proc_find(shim_of(call), req->id, "", err);
	struct op *op;

	if (!p)
		return -err->kind;
	if (!req->resources || req->resources->value.len > SPEC_MAX)
		return err_set(err, ERR_INVALID_ARGUMENT, "resources of %s", req->id);
	op = op_new(p, call, update_run);
	if (op)
		op->text = any_text(req->resources);
	if (!op || !op->text) {
		free(op);
		return err_nomem(err);
	}
	op_add(op);
	return rpc_defer(call);
}

static int checkpoint_args(struct container *c,
			   const Containerd__Task__V2__CheckpointTaskRequest *req,
			   const Containerd__Runc__V1__CheckpointOptions *o, struct op *op)
{
	const char *args[80];
	size_t n = 0;

	args[n++] = "checkpoint";
	args[n++] = "--image-path";
	args[n++] = *req->path ? req->path : o->image_path;
	args[n++] = "--work-path";
	args[n++] = *o->work_path ? o->work_path : c->bundle;
	if (!o->exit)
		args[n++] = "--leave-running";
	if (o->open_tcp)
		args[n++] = "--tcp-established";
	if (o->external_unix_sockets)
		args[n++] = "--ext-unix-sk";
	if (o->terminal)
		args[n++] = "--shell-job";
	if (o->file_locks)
		args[n++] = "--file-locks";
	if (*o->cgroups_mode) {
		args[n++] = "--manage-cgroups-mode";
		args[n++] = o->cgroups_mode;
	}
	for (size_t i = 0; i < o->n_empty_namespaces && i < 16; i++) {
		args[n++] = "--empty-ns";
		args[n++] = o->empty_namespaces[i];
	}
	args[n++] = c->id;
	op->args = calloc(n + 1, sizeof(*op->args));
	for (size_t i = 0; op->args && i < n; i++) {
		op->args[i] = strdup(args[i]);
		if (!op->args[i])
			return -ENOMEM;
	}
	return op->args ? 0 : -ENOMEM;
}

static int task_checkpoint(struct rpc_call *call, const void *r, struct err *err)
{
	const Containerd__Task__V2__CheckpointTaskRequest *req = r;
	const ProtobufCMessageDescriptor *d = &containerd__runc__v1__checkpoint_options__descriptor;
	Containerd__Runc__V1__CheckpointOptions *o;
	struct proc *p = proc_find(shim_of(call), req->id, "", err);
	const Google__Protobuf__Any *any = req->options;
	struct op *op;
	int e;

	if (!p)
		return -err->kind;
	if (any && *any->type_url && !streq(options_type_name(any->type_url), d->name))
		return err_set(err, ERR_INVALID_ARGUMENT, "options of type %s", any->type_url);
	e = rpc_unpack(rpc_ctx(call)->arena, d, any ? any->value.data : NULL,
		       any ? any->value.len : 0, &o, err);
	if (e < 0)
		return e;
	op = op_new(p, call, checkpoint_run);
	if (!op || checkpoint_args(p->c, req, o, op) < 0) {
		for (char **s = op ? op->args : NULL; s && *s; s++)
			free(*s);
		free(op ? op->args : NULL);
		free(op);
		return err_nomem(err);
	}
	op_add(op);
	return rpc_defer(call);
}

/* ---- ResizePty, CloseIO, Shutdown ---- */

static int task_resize_pty(struct rpc_call *call, const void *r, struct err *err)
{
	const Containerd__Task__V2__ResizePtyRequest *req = r;
	struct proc *p = proc_find(shim_of(call), req->id, req->exec_id, err);
	int e;

	if (!p)
		return -err->kind;
	e = p->io ? pio_resize(p->io, req->width, req->height) : 0;
	if (e < 0 && e != -ENOTTY)
		return err_errno(err, e, "resize terminal");
	return send_empty(call, err);
}

static int task_close_io(struct rpc_call *call, const void *r, struct err *err)
{
	const Containerd__Task__V2__CloseIORequest *req = r;
	struct proc *p = proc_find(shim_of(call), req->id, req->exec_id, err);

	if (!p)
		return -err->kind;
	if (req->stdin && p->io)
		pio_close_stdin(p->io);
	return send_empty(call, err);
}

static int task_shutdown(struct rpc_call *call, const void *r, struct err *err)
{
	struct shim *s = shim_of(call);

	/* First: who has the answer may start another shim at the same place. */
	if (!s->containers && !s->sandbox)
		server_stop(s);
	return send_empty(call, err);
}

static const struct rpc_method methods[] = {
	{"State", RPC_UNARY, task_state},
	{"Create", RPC_UNARY, task_create},
	{"Start", RPC_UNARY, task_start},
	{"Delete", RPC_UNARY, task_delete},
	{"Pids", RPC_UNARY, task_pids},
	{"Pause", RPC_UNARY, task_pause},
	{"Resume", RPC_UNARY, task_resume},
	{"Checkpoint", RPC_UNARY, task_checkpoint},
	{"Kill", RPC_UNARY, task_kill},
	{"Exec", RPC_UNARY, task_exec},
	{"ResizePty", RPC_UNARY, task_resize_pty},
	{"CloseIO", RPC_UNARY, task_close_io},
	{"Update", RPC_UNARY, task_update},
	{"Wait", RPC_UNARY, task_wait},
	{"Stats", RPC_UNARY, task_stats},
	{"Connect", RPC_UNARY, task_connect},
	{"Shutdown", RPC_UNARY, task_shutdown},
};

int task_services_add(struct shim *s)
{
	int r;

	s->task_v3 = containerd__task__v2__task__descriptor;
	s->task_v3.name = "containerd.task.v3.Task";
	s->services[0] = (struct rpc_service){&containerd__task__v2__task__descriptor, methods,
					      ARRAY_LEN(methods), s};
	s->services[1] = (struct rpc_service){&s->task_v3, methods, ARRAY_LEN(methods), s};
	r = ttrpc_server_add(s->server, &s->services[0]);
	return r < 0 ? r : ttrpc_server_add(s->server, &s->services[1]);
}
