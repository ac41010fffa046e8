/* SPDX-License-Identifier: Apache-2.0 */
/* A container's status: <root>/containers/<id>/status, a JSON file replaced as a whole at each
 * change, in the format of containerd's CRI. The times decide about the state. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "protos.h"

struct cri_status {
	uint32_t pid;
	int64_t created_at, started_at, finished_at; /* unix ns, 0 = not yet */
	int32_t exit_code;
	const char *reason, *message;
	const Runtime__V1__LinuxContainerResources *resources; /* as they were set; NULL */
	bool restore;					       /* start restores a checkpoint */
	bool unknown; /* what became of it is not known; never written */
};

Runtime__V1__ContainerState cri_status_state(const struct cri_status *s);

/* @dir is made when absent. fsynced, unless the container has not been started: if that is lost
 * with the machine, so is nothing that anybody could still use. */
int cri_status_write(struct arena *a, const char *dir, const struct cri_status *s,
		     struct err *err) _must_check_;
/* -ERR_NOT_FOUND; -ERR_INVALID_ARGUMENT names the file. Strings in @a. */
int cri_status_read(struct arena *a, const char *dir, struct cri_status *ret,
		    struct err *err) _must_check_;
