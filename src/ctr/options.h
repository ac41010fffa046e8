/* SPDX-License-Identifier: Apache-2.0 */
/* Values of flags that have a syntax of their own. Pure: text in, values in the arena. */
#pragma once

#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "oci/descriptor.h"

/* "type=bind,src=/a,dst=/b,options=rbind:ro"; src and source, dst, destination and target are the
 * same; quotes as in CSV keep commas. -ERR_INVALID_ARGUMENT names the option. */
int option_mount(struct arena *a, const char *text, struct mount *ret,
		 struct err *err) _must_check_;

struct idmap {
	uint32_t container, host, size;
};
/* "container:host:length" */
int option_idmap(const char *text, struct idmap *ret, struct err *err) _must_check_;

/* "<type>:<path>"; the type is one of pid, network (net), ipc, uts, mount (mnt), user, cgroup,
 * time. */
int option_namespace(struct arena *a, const char *text, const char **ret_type,
		     const char **ret_path, struct err *err) _must_check_;

/* "limit" or "soft:hard" */
int option_rlimit(const char *text, uint64_t *ret_soft, uint64_t *ret_hard,
		  struct err *err) _must_check_;
