/* SPDX-License-Identifier: Apache-2.0 */
/* Processes with streams: making tasks and further processes in them, and ending them. */
#pragma once

#include "client/client.h"
#include "client/io.h"
#include "oci/descriptor.h"

struct client_task_options {
	const struct client_io *io;
	bool terminal, no_pivot;
	uint32_t io_uid, io_gid;	     /* owner of the process's ends of its streams */
	const struct client_mounts *rootfs;  /* as just made; NULL = the daemon is asked */
	const struct descriptor *checkpoint; /* restored from it; NULL = to be started */
};

/* Makes the task of a container, which client_task_start() starts. */
int client_task_create(struct client *c, struct ctx *ctx, const char *id,
		       const struct client_task_options *o, uint32_t *ret_pid,
		       struct err *err) _must_check_;
/* The same for a further process in a running task. @process: the JSON of the OCI process. */
int client_task_exec(struct client *c, struct ctx *ctx, const char *id, const char *exec_id,
		     const char *process, size_t len, bool terminal, const struct client_io *io,
		     struct err *err) _must_check_;
/* Deletes a process and removes its FIFOs; with @force kills it first when it runs.
 * @ret_status may be NULL. */
int client_task_remove(struct client *c, struct ctx *ctx, const char *id, const char *exec_id,
		       bool force, uint32_t *ret_status, struct err *err) _must_check_;
