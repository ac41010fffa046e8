/* SPDX-License-Identifier: Apache-2.0 */
/* Deprecated features that were seen in use, for Introspection.Server and CRI's Status. Kept in
 * memory: a daemon that is started again has seen nothing yet. Any thread. */
#pragma once

#include <stddef.h>
#include <time.h>

#include "base/cleanup.h"

enum deprecation {
	DEPRECATION_CRI_REGISTRY_MIRRORS,
	DEPRECATION_CRI_REGISTRY_AUTHS,
	DEPRECATION_CRI_REGISTRY_CONFIGS,
	DEPRECATION_CRI_CNI_BIN_DIR,
	DEPRECATION_TRACING_PROCESSOR_CONFIG,
	DEPRECATION_TRACING_SERVICE_CONFIG,
	DEPRECATION_NRI_V010_PLUGIN,
	DEPRECATION_NRI_PLUGIN_INTERFACE,
	DEPRECATION_CGROUP_V1,
	DEPRECATION_ENABLE_CDI,
	DEPRECATION_RUNC_TASK_API_ADDRESS,
	DEPRECATION_RUNC_TASK_API_VERSION,
	DEPRECATION_CRI_CHECKPOINT_RESTORE,
	DEPRECATIONS_N,
};

struct deprecations;

struct deprecation_warning {
	const char *id;	     /* "io.containerd.deprecation/..." */
	const char *message; /* static, as the id */
	struct timespec last;
};

struct deprecations *deprecations_new(void); /* NULL = no memory */
void deprecations_free(struct deprecations *d);

/* It was used, now. NULL for @d is fine. */
void deprecation_emit(struct deprecations *d, enum deprecation what);
/* Those that were used, in the order of their ids; the count. */
size_t deprecations_list(struct deprecations *d, struct deprecation_warning ret[DEPRECATIONS_N]);

DEFINE_CLEANUP(struct deprecations *, deprecations_free)
