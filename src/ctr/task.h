/* SPDX-License-Identifier: Apache-2.0 */
/* Running processes in containers from the command line: what run, tasks start, tasks exec and
 * tasks attach share. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "ctr/ctr.h"
#include "client/process.h"
#include "oci/descriptor.h"

struct task_options {
	bool terminal, detach, null_io, no_pivot;
	const char *fifo_dir; /* "" = /run/containerd/fifo */
	const char *log_uri;
	const char *pid_file;		     /* "" = none */
	uint32_t io_uid, io_gid;	     /* owner of the process's ends of its streams */
	const struct client_mounts *rootfs;  /* as just made; NULL = the daemon is asked */
	const struct descriptor *checkpoint; /* restored from it; NULL = started */
	/* Called between the task's creation and its start; NULL = nothing to do. */
	int (*created)(void *arg, uint32_t pid, struct err *err);
	void *created_arg;
};

/* Of the running command's flags; flags that it does not have count as not given. */
void task_options_from_flags(const struct ctr *c, struct task_options *ret);

/* A process is about to be started: the earlier this is said, the sooner it runs. */
void task_announce(void);

/* Makes and starts the task of a container. Attached: stays until it has ended, deletes it, and
 * returns the process's exit status (0..255). Detached: returns 0. When it fails no task is left.
 */
int task_run(struct ctr *c, const char *id, const struct task_options *o,
	     struct err *err) _must_check_;
/* The same for a further process in a running task. @process: the JSON of the OCI process. */
int task_exec(struct ctr *c, const char *id, const char *exec_id, const char *process, size_t len,
	      const struct task_options *o, struct err *err) _must_check_;
/* Joins a running task: copies its streams until it ends, deletes it, returns its exit status. */
int task_attach(struct ctr *c, const char *id, struct err *err) _must_check_;

/* Ends a task: the signal, after @seconds SIGKILL; then deletes it. A task that is not there, or
 * not any more, is stopped. */
int task_stop(struct ctr *c, const char *id, int signal, uint64_t seconds,
	      struct err *err) _must_check_;
/* Deletes a task that has ended; one that is not there is fine, any other is left. */
int task_clear(struct ctr *c, const char *id, struct err *err) _must_check_;

/* --signal, else what the container's image asks for, else SIGTERM. */
int task_stop_signal(struct ctr *c, const char *id, int *ret, struct err *err) _must_check_;

/* "SIGTERM", "term", "15", "RTMIN+3"; -EINVAL. */
int signal_parse(const char *s, int *ret);
