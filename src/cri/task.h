/* SPDX-License-Identifier: Apache-2.0 */
/* Tasks of pods and containers: the runtime's functions in the form that the CRI uses them. The id
 * is the container's, whose record says which runtime it is made with. */
#pragma once

#include "cri/internal.h"
#include "oci/descriptor.h"
#include "plugins/runtime/runtime.h"

struct cri_task_create {
	const char *id;
	const struct mounts *rootfs;
	const char *stdin_path, *stdout_path, *stderr_path; /* NULL = none */
	bool terminal;
	const char *runtime_path; /* of the handler, "" = by its type */
	const char *checkpoint;	  /* directory, NULL = none */
	struct any options;
	/* Of runtime_create: the record that is being made, and who waits for it. */
	const struct container *container; /* NULL = it is recorded */
	int (*recorded)(void *arg, struct err *err);
	void *recorded_arg;
};

/* The pid of the created process. */
int cri_task_create(struct ctx *ctx, struct cri *c, const struct cri_task_create *o,
		    uint32_t *ret_pid, struct err *err) _must_check_;
int cri_task_start(struct ctx *ctx, struct cri *c, const char *id, struct err *err) _must_check_;
/* Fine when it has ended or is not there. @all: every process of the container. */
int cri_task_kill(struct ctx *ctx, struct cri *c, const char *id, int signal, bool all,
		  struct err *err) _must_check_;
/* Of an ended task: removes it and its shim's part. -ERR_NOT_FOUND. */
int cri_task_delete(struct ctx *ctx, struct cri *c, const char *id, struct runtime_exit *ret,
		    struct err *err) _must_check_;
/* Kills, waits, deletes: whatever is left of it. Absent is fine. */
int cri_task_destroy(struct ctx *ctx, struct cri *c, const char *id, struct err *err) _must_check_;

enum cri_task_state { CRI_TASK_CREATED, CRI_TASK_RUNNING, CRI_TASK_STOPPED };
struct cri_task_info {
	enum cri_task_state state; /* a paused one runs */
	uint32_t pid, exit_status;
	struct timespec exited_at;
};
/* -ERR_NOT_FOUND: there is no task. */
int cri_task_info(struct ctx *ctx, struct cri *c, const char *id, struct cri_task_info *ret,
		  struct err *err) _must_check_;

/* A handler's options as what its runtime takes: containerd.runc.v1.Options, or
 * runtimeoptions.v1.Options for other shims. type_url NULL = none. In @a. */
int cri_runtime_options(struct arena *a, const struct cri_handler *h, struct any *ret,
			struct err *err) _must_check_;
