/* SPDX-License-Identifier: Apache-2.0 */
/* The shim's server: one process, one thread, any number of containers of a pod, and the processes
 * in them.
 *
 * Everything runs on one loop. What takes time (the OCI runtime, the end of a process, output that
 * drains) is an operation (struct op): it belongs to a process (the init process stands for the
 * container), waits there for the operations before it, and answers its call when it is done. So
 * operations on one process never overlap, and different processes do not wait for each other.
 *
 * Life of a process: created -> running -> stopped, then deleted. An end that comes while the
 * runtime is still starting the process is handled after the start was told; the end of an init
 * process after the ends of all others in its container.
 *
 * Memory: a container and its processes live from Create to the end of Delete, and a round of the
 * loop longer.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "base/err.h"
#include "event/loop.h"
#include "protos.h"
#include "rpc/rpc.h"
#include "rpc/ttrpc.h"
#include "shim/pio.h"
#include "shim/publisher.h"
#include "shim/reaper.h"
#include "shim/runtime.h"
#include "sys/cgroup.h"
#include "sys/console.h"

struct shim {
	struct loop *loop;
	struct reaper *reaper;
	struct publisher *publisher;
	struct ttrpc_server *server;
	ProtobufCServiceDescriptor task_v3;
	struct rpc_service services[3];
	const char *ns, *socket_path;
	struct container *containers;
	struct sandbox *sandbox; /* NULL: a shim of containers only */
	struct sealed ahead;	 /* for the first container that is created */
	struct loop_source *stop_timer, *trim_timer, *empty_timer;
	int64_t empty_ns;
	bool trimmed; /* since it was active */
	bool stopping;
};

enum proc_state { PROC_CREATED, PROC_RUNNING, PROC_STOPPED };

struct waiter {
	struct waiter *next;
	struct proc *proc;
	struct rpc_call *call;
};

struct proc {
	struct proc *next; /* of the container's execs */
	struct container *c;
	char *id; /* exec id; the container's for init */
	enum proc_state state;
	int pid; /* 0 = none yet */
	struct reaper_watch watch;
	bool starting;	   /* the runtime is at it */
	bool ended;	   /* reaped; state follows when it was told */
	bool start_failed; /* exec: nobody needs to wait for it */
	uint32_t status;
	struct timespec exited_at;
	char *in, *out, *err;
	bool terminal;
	char *spec; /* exec: the process document */
	struct pio *io;
	struct waiter *waiters;
	struct op *ops, *ops_last; /* the first one runs */
	bool ops_busy;
};

struct container {
	struct container *next;
	struct shim *shim;
	char *id, *bundle;
	struct runtime rt;
	bool no_pivot_root, no_new_keyring;
	uint32_t io_uid, io_gid;
	char *criu_work_path;
	char *checkpoint; /* restore from it at Start, NULL = none */
	bool visible;	  /* Create is through */
	bool mounted;
	char *rootfs_upper; /* upper directory of the overlay that is mounted there, or NULL */
	bool private_pidns;
	bool paused, pausing;
	bool init_ending; /* init was reaped, its end is not told yet */
	bool killing_all;
	struct loop_source *ending_timer;
	struct proc init;
	struct proc *execs;
	char *cgroup; /* text of /proc/PID/cgroup */
	struct cgroup_oom oom;
	struct loop_source *oom_source;
};

struct op {
	struct op *next;
	struct proc *p;
	struct rpc_call *call;
	void (*run)(struct op *op);
	bool started;
	struct console_socket console;
	/* parameters and progress, as the operation needs them */
	uint32_t signal;
	bool all;
	char *text, *text2;
	char **args;
	bool held, begun;
	unsigned pending;
	struct arena *arena; /* of what follows; NULL = none */
	Containerd__Types__Mount **rootfs;
	size_t n_rootfs;
	struct err failure;
};

static inline bool proc_is_init(const struct proc *p)
{
	return p == &p->c->init;
}

/* ---- container.c ---- */

struct container *container_find(struct shim *s, const char *id,
				 struct err *err); /* NULL: not found */
struct proc *proc_find(struct shim *s, const char *id, const char *exec_id, struct err *err);
/* Not linked, not visible. NULL = no memory. */
struct container *container_new(struct shim *s, const char *id, const char *bundle);
void container_link(struct container *c);
/* Unlinks, answers who still waits with not found, frees after this round. */
void container_remove(struct container *c);
void exec_remove(struct proc *p);
/* A Delete of it has begun: it waits for the operations that its other processes have by then. */
bool container_deleting(const struct container *c);
/* 0 or -ENOMEM. */
int proc_init(struct proc *p, struct container *c, const char *id, const char *in, const char *out,
	      const char *err, bool terminal);
/* From now on its end is seen; @p->pid is set. */
void proc_track(struct proc *p, int pid);
/* The runtime has finished starting it: what happened in the meantime is told now. */
void proc_start_ended(struct proc *p);
void container_watch_oom(struct container *c);
/* Answers all Wait calls on it with what is known of its end. */
void proc_waiters_tell(struct proc *p);
/* Answers all Wait calls on it with an error. */
void container_waiters_fail(struct container *c, const struct err *err);
void event_send(struct container *c, const char *topic, const ProtobufCMessage *msg);

/* ---- operations ---- */

/* NULL = no memory. */
struct op *op_new(struct proc *p, struct rpc_call *call, void (*run)(struct op *op));
/* Queues; runs at once when nothing is before it. The operation's end comes with one of the two
 * below, from the loop, maybe within. */
void op_add(struct op *op);
/* Answers; frees the operation. @msg NULL = Empty. */
void op_reply(struct op *op, const ProtobufCMessage *msg);
void op_fail(struct op *op, const struct err *err);
/* As op_reply(), but lets nothing after it run, until ops_run(), or because the process is about to
 * be removed. */
void op_reply_last(struct op *op, const ProtobufCMessage *msg);
void op_fail_last(struct op *op, const struct err *err);
/* Runs what is first, and what follows when that ends at once. */
void ops_run(struct proc *p);
/* Starts the runtime for this container; a start that fails ends the operation. @fn's arg is @op.
 */
void op_runtime(struct op *op, const struct runtime_io *io, const char *const *args, runtime_fn fn);

/* init.c, exec.c, ops.c: run functions. */
void init_create_run(struct op *op);
void init_start_run(struct op *op);
void init_delete_run(struct op *op);
void exec_start_run(struct op *op);
void exec_delete_run(struct op *op);
void pause_run(struct op *op);
void resume_run(struct op *op);
void kill_run(struct op *op);
void update_run(struct op *op);
void pids_run(struct op *op);
void checkpoint_run(struct op *op);

/* Opens the console socket when the process has a terminal. */
int op_console_open(struct op *op, struct err *err) _must_check_;
/* After the runtime: takes the terminal and starts moving input and output. */
int op_io_start(struct op *op, struct err *err) _must_check_;
int op_io_open(struct op *op, pio_ready_fn fn, struct err *err) _must_check_;

/* ---- stats.c: metrics of @c packed into the arena. ---- */
int container_stats(struct arena *a, const struct container *c, Google__Protobuf__Any *ret,
		    struct err *err) _must_check_;

/* ---- server.c ---- */

struct server_options {
	int listen_fd; /* taken over */
	const char *ns, *id, *ttrpc_address;
	const char *socket_path;
	const char *binary; /* the runtime that will probably be wanted, NULL = not known */
	int64_t empty_ns;   /* how long it lives without container or sandbox; 0 = a minute */
};

/* Until it is shut down. 0 or -errno. */
int server_run(const struct server_options *o);
/* Stops when the events are out, at the latest in 5 s. */
void server_stop(struct shim *s);

/* A container or the sandbox has come or gone: one that holds nothing for long ends. */
void server_held(struct shim *s);
/* Something happened: gives memory back when it stays quiet after that. */
void server_active(struct shim *s);

/* ---- sandbox.c ---- */

int sandbox_service_add(struct shim *s); /* -errno */
/* -ERR_FAILED_PRECONDITION when the sandbox is stopped: no further containers then. */
int sandbox_accepts(const struct shim *s, struct err *err) _must_check_;
/* After the end of a container. */
void sandbox_check(struct shim *s);
void sandbox_waiters_fail(struct shim *s, const struct err *err);
void sandbox_free(struct sandbox *b); /* NULL is fine */

/* ---- task.c ---- */

/* Containerd.task.v2.Task and its twin v3, whose messages are the same on the wire. -errno. */
int task_services_add(struct shim *s);
/* Fills from the state; NULL when it has not ended. */
Google__Protobuf__Timestamp *timestamp_of(struct timespec t, Google__Protobuf__Timestamp *storage);
