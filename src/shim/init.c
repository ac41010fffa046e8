/* SPDX-License-Identifier: Apache-2.0 */
/* The init process of a container: create, start, delete. */
#include "shim/shim.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <unistd.h>

#include "base/log.h"
#include "base/str.h"
#include "shim/bundle.h"
#include "sys/mount.h"

#define ARGS_MAX 40

/* ---- shared with exec.c ---- */

int op_console_open(struct op *op, struct err *err)
{
	int r;

	if (!op->p->terminal)
		return 0;
	r = console_socket_open(&op->console);
	return r < 0 ? err_errno(err, r, "failed to create OCI runtime console socket") : 0;
}

/* The first ones after a rest. */
static void bytes_moved(void *arg)
{
	struct shim *s = arg;

	if (s->trimmed)
		server_active(s);
}

int op_io_open(struct op *op, pio_ready_fn fn, struct err *err)
{
	struct proc *p = op->p;
	struct container *c = p->c;
	struct pio_options o = {
		.loop = c->shim->loop,
		.reaper = c->shim->reaper,
		.ns = c->shim->ns,
		.id = c->id,
		.in = p->in,
		.out = p->out,
		.err = p->err,
		.terminal = p->terminal,
		.uid = c->io_uid,
		.gid = c->io_gid,
		.active = bytes_moved,
		.active_arg = c->shim,
	};

	return pio_open(&o, fn, op, &p->io, err);
}

int op_io_start(struct op *op, struct err *err)
{
	int master = -1, r;

	if (op->p->terminal) {
		r = console_socket_receive(&op->console, &master);
		if (r < 0)
			return err_errno(err, r, "failed to retrieve console master");
		console_socket_done(&op->console);
	}
	return pio_start(op->p->io, master, err);
}

/* ---- create ---- */

struct release {
	int mount, lock;
};

static void *release_thread(void *arg)
{
	struct release *r = arg;

	close(r->mount);
	fd_closep(&r->lock);
	free(r);
	return NULL;
}

static void release_later(struct release *r)
{
	pthread_attr_t attr;
	pthread_t thread;
	int e = pthread_attr_init(&attr);

	if (e == 0) {
		pthread_attr_setstacksize(&attr, (size_t)PTHREAD_STACK_MIN);
		pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
		e = pthread_create(&thread, &attr, release_thread, r);
		pthread_attr_destroy(&attr);
	}
	if (e != 0)
		release_thread(r);
}

/* The end of an overlay syncs all of the file system below it, which may take long and which nobody
 * needs to wait for: the overlay leaves the tree at once, and ends when a thread gives up the last
 * reference. Whoever mounts its upper directory again waits for the lock on that. */
static bool overlay_detach(const char *path, const char *upper)
{
	_cleanup_close_ int fd = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct release *r = fd < 0 ? NULL : malloc(sizeof(*r));

	if (!r)
		return false;
	*r = (struct release){.mount = fd, .lock = open(upper, O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
	if (r->lock < 0 || flock(r->lock, LOCK_EX | LOCK_NB) < 0 ||
	    umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) < 0) {
		fd_closep(&r->lock);
		free(r);
		return false;
	}
	TAKE_FD(fd);
	release_later(r);
	return true;
}

static void rootfs_unmount(struct container *c, struct err *err)
{
	_cleanup_free_ char *path = NULL;

	if (!c->mounted)
		return;
	if (asprintf(&path, "%s/rootfs", c->bundle) < 0) {
		path = NULL;
		err_nomem(err);
		return;
	}
	if (c->rootfs_upper && overlay_detach(path, c->rootfs_upper))
		c->mounted = false;
	else if (mount_unmount_all(path, 0, NULL) < 0 &&
		 mount_unmount_all(path, MNT_DETACH, err) < 0)
		err_prefix(err, "failed rootfs umount");
	else
		c->mounted = false;
}

static void create_fail(struct op *op, const struct err *err)
{
	struct container *c = op->p->c;
	struct err ignored = ERR_INIT;

	rootfs_unmount(c, &ignored);
	if (ignored.kind)
		log_warn("container %s: %s", c->id, ignored.text);
	op_fail_last(op, err);
	container_remove(c);
}

static void created_tell(struct op *op)
{
	struct proc *p = op->p;
	struct container *c = p->c;
	Containerd__Events__TaskCreate e = CONTAINERD__EVENTS__TASK_CREATE__INIT;
	Containerd__Events__TaskIO io = CONTAINERD__EVENTS__TASK_IO__INIT;
	Containerd__Task__V2__CreateTaskResponse resp =
		CONTAINERD__TASK__V2__CREATE_TASK_RESPONSE__INIT;

	io.stdin = p->in;
	io.stdout = p->out;
	io.stderr = p->err;
	io.terminal = p->terminal;
	e.container_id = c->id;
	e.bundle = c->bundle;
	e.io = &io;
	e.checkpoint = c->checkpoint ? c->checkpoint : (char *)"";
	e.pid = (uint32_t)p->pid;
	e.n_rootfs = op->n_rootfs;
	e.rootfs = op->rootfs;
	event_send(c, "/tasks/create", &e.base);
	c->visible = true;
	resp.pid = (uint32_t)p->pid;
	op_reply(op, &resp.base);
}

static int init_pid_read(struct container *c, int *ret, struct err *err)
{
	_cleanup_free_ char *path = NULL;
	int r;

	if (asprintf(&path, "%s/init.pid", c->bundle) < 0) {
		path = NULL;
		return err_nomem(err);
	}
	r = bundle_pid_read(path, ret);
	return r < 0 ? err_errno(err, r, "failed to retrieve OCI runtime container pid") : 0;
}

/* The runtime has made the container, but something of ours failed: it goes again. */
static void undo_done(void *arg, const struct runtime_result *res)
{
	struct op *op = arg;

	create_fail(op, &op->failure);
}

static void create_undo(struct op *op)
{
	struct container *c = op->p->c;
	struct runtime_io io = RUNTIME_IO_NONE;

	if (runtime_start(c->shim->reaper, &c->rt, &io,
			  (const char *const[]){"delete", "--force", c->id, NULL}, undo_done, op,
			  NULL) < 0)
		create_fail(op, &op->failure);
}

static void create_done(void *arg, const struct runtime_result *res)
{
	struct op *op = arg;
	struct proc *p = op->p;
	struct container *c = p->c;
	int pid;

	if (res->status) {
		runtime_failure(res, "OCI runtime create failed", &op->failure);
		create_fail(op, &op->failure);
		return;
	}
	if (init_pid_read(c, &pid, &op->failure) < 0 || op_io_start(op, &op->failure) < 0) {
		create_undo(op);
		return;
	}
	p->starting = true; /* its end is told after its creation */
	proc_track(p, pid);
	created_tell(op);
	/* The process begins with a call that comes after this. */
	if (c->visible)
		container_watch_oom(c);
	proc_start_ended(p);
}

static void create_ready(void *arg, const struct err *err)
{
	struct op *op = arg;
	struct proc *p = op->p;
	struct container *c = p->c;
	struct runtime_io io = RUNTIME_IO_NONE;
	char pid_file[PATH_MAX];
	const char *args[ARGS_MAX];
	size_t n = 0;

	if (err) {
		create_fail(op, err);
		return;
	}
	if (c->checkpoint) { /* the runtime's turn comes with Start */
		created_tell(op);
		return;
	}
	snprintf(pid_file, sizeof(pid_file), "%s/init.pid", c->bundle);
	args[n++] = "create";
	args[n++] = "--bundle";
	args[n++] = c->bundle;
	args[n++] = "--pid-file";
	args[n++] = pid_file;
	if (p->terminal) {
		args[n++] = "--console-socket";
		args[n++] = op->console.path;
	}
	if (c->no_pivot_root)
		args[n++] = "--no-pivot";
	if (c->no_new_keyring)
		args[n++] = "--no-new-keyring";
	args[n++] = c->id;
	args[n] = NULL;
	for (int i = 0; i < 3; i++)
		io.fds[i] = pio_child_fd(p->io, i);
	reaper_hold(c->shim->reaper);
	op->held = true;
	if (runtime_start(c->shim->reaper, &c->rt, &io, args, create_done, op, &op->failure) < 0)
		create_fail(op, &op->failure);
}

void init_create_run(struct op *op)
{
	if (op_console_open(op, &op->failure) < 0 || op_io_open(op, create_ready, &op->failure) < 0)
		create_fail(op, &op->failure);
}

/* ---- start ---- */

static void started_tell(struct op *op)
{
	struct proc *p = op->p;
	Containerd__Events__TaskStart e = CONTAINERD__EVENTS__TASK_START__INIT;
	Containerd__Task__V2__StartResponse resp = CONTAINERD__TASK__V2__START_RESPONSE__INIT;

	p->state = PROC_RUNNING;
	e.container_id = p->c->id;
	e.pid = resp.pid = (uint32_t)p->pid;
	event_send(p->c, "/tasks/start", &e.base);
	/* What queued up behind sees the state that the process is in by now. */
	op_reply(op, &resp.base);
	proc_start_ended(p);
}

static void start_failed(struct op *op)
{
	struct proc *p = op->p;

	op_fail_last(op, &op->failure);
	/* What could not be restored has no process whose end could be waited for. */
	if (p->c->checkpoint && !p->pid) {
		p->start_failed = true;
		proc_waiters_tell(p);
	}
	proc_start_ended(p);
	ops_run(p); /* which may be another start, with a state of its own */
}

static void start_done(void *arg, const struct runtime_result *res)
{
	struct op *op = arg;

	if (res->status) {
		runtime_failure(res, "OCI runtime start failed", &op->failure);
		start_failed(op);
		return;
	}
	started_tell(op);
}

static void restore_done(void *arg, const struct runtime_result *res)
{
	struct op *op = arg;
	struct proc *p = op->p;
	int pid = 0;

	if (res->status)
		runtime_failure(res, "OCI runtime restore failed", &op->failure);
	else if (init_pid_read(p->c, &pid, &op->failure) == 0 &&
		 op_io_start(op, &op->failure) == 0) {
		proc_track(p, pid);
		container_watch_oom(p->c);
		started_tell(op);
		return;
	}
	if (pid > 0) /* nobody would know of it */
		reaper_kill(p->c->shim->reaper, pid, SIGKILL);
	start_failed(op);
}

static void restore_start(struct op *op)
{
	struct proc *p = op->p;
	struct container *c = p->c;
	struct runtime_io io = RUNTIME_IO_NONE;
	char pid_file[PATH_MAX];
	const char *args[ARGS_MAX];
	size_t n = 0;

	snprintf(pid_file, sizeof(pid_file), "%s/init.pid", c->bundle);
	args[n++] = "restore";
	args[n++] = "--image-path";
	args[n++] = c->checkpoint;
	if (!str_empty(c->criu_work_path)) {
		args[n++] = "--work-path";
		args[n++] = c->criu_work_path;
	}
	if (p->terminal) {
		args[n++] = "--console-socket";
		args[n++] = op->console.path;
	}
	if (c->no_pivot_root)
		args[n++] = "--no-pivot";
	args[n++] = "--detach";
	args[n++] = "--pid-file";
	args[n++] = pid_file;
	args[n++] = "-no-subreaper";
	args[n++] = "--bundle";
	args[n++] = c->bundle;
	args[n++] = c->id;
	args[n] = NULL;
	for (int i = 0; i < 3; i++)
		io.fds[i] = pio_child_fd(p->io, i);
	reaper_hold(c->shim->reaper);
	op->held = true;
	if (runtime_start(c->shim->reaper, &c->rt, &io, args, restore_done, op, &op->failure) < 0)
		start_failed(op);
}

void init_start_run(struct op *op)
{
	struct proc *p = op->p;
	struct container *c = p->c;
	struct runtime_io io = RUNTIME_IO_NONE;
	const char *what = c->paused				  ? "paused"
			   : p->state == PROC_RUNNING		  ? "running"
			   : p->ended || p->state == PROC_STOPPED ? "stopped"
								  : NULL;

	if (what) {
		err_set(&op->failure, ERR_UNKNOWN, "cannot start a %s %s", what,
			streq(what, "running") ? "process" : "container");
		op_fail(op, &op->failure);
		return;
	}
	p->starting = true;
	p->start_failed = false;
	if (c->checkpoint && !p->pid) {
		if (op_console_open(op, &op->failure) < 0)
			start_failed(op);
		else
			restore_start(op);
		return;
	}
	if (runtime_start(c->shim->reaper, &c->rt, &io, (const char *const[]){"start", c->id, NULL},
			  start_done, op, &op->failure) < 0)
		start_failed(op);
}

/* ---- delete ---- */

static void delete_finish(struct op *op)
{
	struct proc *p = op->p;
	struct container *c = p->c;
	Containerd__Events__TaskDelete e = CONTAINERD__EVENTS__TASK_DELETE__INIT;
	Containerd__Task__V2__DeleteResponse resp = CONTAINERD__TASK__V2__DELETE_RESPONSE__INIT;
	Google__Protobuf__Timestamp at;

	rootfs_unmount(c, &op->failure);
	if (op->failure.kind) {
		op_fail(op, &op->failure);
		return;
	}
	e.container_id = c->id;
	e.pid = resp.pid = (uint32_t)p->pid;
	e.exit_status = resp.exit_status = p->status;
	e.exited_at = resp.exited_at = timestamp_of(p->exited_at, &at);
	event_send(c, "/tasks/delete", &e.base);
	op_reply_last(op, &resp.base);
	container_remove(c);
}

static void delete_step(struct op *op)
{
	struct proc *p = op->p;

	if (op->pending)
		return;
	if (op->failure.kind) {
		op_fail(op, &op->failure);
		return;
	}
	/* A created container's process was just killed: its end comes first (and calls us again).
	 */
	if (p->pid && p->state != PROC_STOPPED)
		return;
	/* So does that of another process's output, when that is being deleted too. */
	for (const struct proc *e = p->c->execs; e; e = e->next)
		if (e->ops)
			return;
	delete_finish(op);
}

static void delete_io_done(void *arg)
{
	struct op *op = arg;

	op->pending--;
	delete_step(op);
}

static void delete_done(void *arg, const struct runtime_result *res)
{
	struct op *op = arg;

	if (res->status) {
		runtime_failure(res, "failed to delete task", &op->failure);
		/* Another one was faster. */
		if (strcasestr(op->failure.text, "does not exist") ||
		    strcasestr(op->failure.text, "no such file"))
			op->failure = ERR_INIT;
	}
	op->pending--;
	delete_step(op);
}

static bool delete_refused(struct op *op)
{
	struct proc *p = op->p;
	struct container *c = p->c;

	if (c->paused || p->state == PROC_RUNNING) {
		err_set(&op->failure, ERR_UNKNOWN, "cannot delete a %s",
			c->paused ? "paused process" : "running process");
		return true;
	}
	for (struct proc *e = c->execs; e; e = e->next) {
		if (!e->starting)
			continue;
		err_set(&op->failure, ERR_FAILED_PRECONDITION, "process %s is being started",
			e->id);
		return true;
	}
	return false;
}

void init_delete_run(struct op *op)
{
	struct proc *p = op->p;
	struct container *c = p->c;
	struct runtime_io io = RUNTIME_IO_NONE;

	if (op->begun) {
		delete_step(op);
		return;
	}
	op->begun = true;
	if (delete_refused(op)) {
		op_fail(op, &op->failure);
		return;
	}
	op->pending = 2; /* the runtime, and this function */
	if (runtime_start(c->shim->reaper, &c->rt, &io,
			  (const char *const[]){"delete", c->id, NULL}, delete_done, op,
			  &op->failure) < 0)
		op->pending--;
	if (p->io) {
		op->pending++;
		pio_finish(TAKE_PTR(p->io), delete_io_done, op);
	}
	op->pending--;
	delete_step(op);
}
