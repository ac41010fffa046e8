/* SPDX-License-Identifier: Apache-2.0 */
/* io.containerd.runtime.v2 task: the daemon's side of shims.
 *
 * A task is a container that has a shim. The shim is a process of its own (any program that speaks
 * the shim protocol: ours, the original's, kata, runsc); the daemon starts it, keeps a ttrpc
 * connection to it, finds it again after a restart through the bundle directory, and cleans up when
 * it dies. Calls about a task's processes go to the shim as they are.
 *
 * Bundle: <state>/<namespace>/<id>/, see docs/ARCHITECTURE.md. Any thread; results live in ctx's
 * arena. */
#pragma once

#include <time.h>

#include "core/container.h"
#include "oci/descriptor.h"
#include "rpc/rpc.h"

struct loop;
struct mount_manager;
struct pool;
struct runtime;
struct task;

struct runtime_options {
	struct loop *loop;
	struct pool *pool;
	struct db *db;
	struct event_exchange *events;
	const char *root, *state;     /* the plugin's directories */
	const char *sandbox_state;    /* where the shims of sandboxes are; NULL = nowhere */
	struct mount_manager *mounts; /* NULL = there is none */
	const char *address;	      /* gRPC socket of the daemon */
	const char *ttrpc_address;
	const char *exe;	/* the daemon's executable: -publish-binary */
	const char *const *env; /* extra environment of shims, NULL-terminated or NULL */
	const char *socket_dir; /* "" = the shim's default */
	const char *version;
	bool debug;
	int64_t load_timeout_ns, cleanup_timeout_ns, shutdown_timeout_ns, state_timeout_ns;
	int64_t stats_timeout_ns;
};

int runtime_new(const struct runtime_options *o, struct runtime **ret,
		struct err *err) _must_check_;
/* Finds the shims of an earlier daemon again; those that are gone are cleaned up. Blocks; the loop
 * must run. */
int runtime_load(struct ctx *ctx, struct runtime *rt, struct err *err) _must_check_;
/* Before the pool ends: shims that die from here on are left to the next daemon. */
void runtime_quiesce(struct runtime *rt);
/* After the pool, while the loop still runs: closes the connections. Shims go on running. */
void runtime_disconnect(struct runtime *rt);
/* After the loop. */
void runtime_free(struct runtime *rt);

/* Somebody is about to have a runtime move a process into a cgroup: what that has to wait for in
 * the kernel (sys/cgroup.h) begins now, on a thread of the pool. The sooner the better;
 * runtime_create() does it, too. */
void runtime_expect(struct runtime *rt);

struct runtime_create {
	const char *id;
	const struct mounts *rootfs;
	const char *stdin_path, *stdout_path, *stderr_path;
	bool terminal;
	struct any options;	  /* of the task; absent: the container's runtime options */
	const char *runtime_path; /* overrides the container's runtime, "" = not */
	const char *checkpoint;	  /* directory to restore from, "" = none */
	struct descriptor checkpoint_content; /* the same as content; digest NULL = none */
	const char *task_api_address; /* of the sandbox's shim, "ttrpc+unix:///..."; "" or NULL = it
					 is looked for */
	uint32_t task_api_version;    /* 0 = the newest */
	/* What only the shim's start can do without may still be on its way: with @container, which
	 * is taken for the record that there will be, @recorded is called once the shim is there
	 * and waits for the record and for @rootfs. Not called where something fails before. */
	const struct container *container; /* NULL = it is recorded */
	int (*recorded)(void *arg, struct err *err);
	void *recorded_arg;
};

/* Makes the bundle, starts the shim or joins that of the container's sandbox, creates the task in
 * it.
 * -ERR_NOT_FOUND no such container; -ERR_ALREADY_EXISTS `task x: already exists`; -ERR_NOT_FOUND
 * `runtime "x" binary not installed ...` */
int runtime_create(struct ctx *ctx, struct runtime *rt, const struct runtime_create *c,
		   uint32_t *ret_pid, struct err *err) _must_check_;

struct runtime_exit {
	uint32_t pid;
	uint32_t status;
	struct timespec at;
};

/* Deletes the task of a finished init process, then its shim and bundle. */
int runtime_delete(struct ctx *ctx, struct runtime *rt, const char *id, struct runtime_exit *ret,
		   struct err *err) _must_check_;

/* The task @id of ctx's namespace, with a reference. -ERR_NOT_FOUND `task x not found`. */
int runtime_get(struct ctx *ctx, struct runtime *rt, const char *id, struct task **ret,
		struct err *err) _must_check_;
/* Ids of all tasks of ctx's namespace. */
int runtime_list(struct ctx *ctx, struct runtime *rt, char ***ret, size_t *ret_n,
		 struct err *err) _must_check_;
/* All tasks of all namespaces, each with a reference; ctx needs no namespace. */
int runtime_tasks(struct ctx *ctx, struct runtime *rt, struct task ***ret, size_t *ret_n,
		  struct err *err) _must_check_;
void task_unref(struct task *t);
/* Valid while the reference is held. */
const char *task_namespace(const struct task *t);
const char *task_id(const struct task *t);
DEFINE_CLEANUP(struct task *, task_unref)

/* Calls a method of the task's shim; the error is prefixed with nothing: it is the shim's. */
int task_call(struct ctx *ctx, struct task *t, const char *method, const ProtobufCMessage *req,
	      const ProtobufCMessageDescriptor *resp_desc, void *ret_resp,
	      struct err *err) _must_check_;
/* The same without a thread: see rpc_call_async(). */
int task_call_async(struct task *t, const char *method, const ProtobufCMessage *req,
		    int64_t timeout_ns, rpc_done_fn fn, void *arg, struct rpc_pending **ret,
		    struct err *err) _must_check_;
int64_t runtime_state_timeout(const struct runtime *rt);
struct db *runtime_db(const struct runtime *rt);
int64_t runtime_stats_timeout(const struct runtime *rt);

/* Asks the shim binary of @runtime (a name or an absolute path) about itself and its OCI runtime.
 * @options as of a task, type_url NULL = none; @ret a containerd.types.RuntimeInfo in ctx's arena.
 */
int runtime_info(struct ctx *ctx, const char *runtime, const struct any *options, struct any *ret,
		 struct err *err) _must_check_;
