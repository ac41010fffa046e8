/* SPDX-License-Identifier: Apache-2.0 */
/* See deprecation.h. */
#include "core/deprecation.h"

#include <stdlib.h>
#include <string.h>

#include "base/time.h"

#define PREFIX "io.containerd.deprecation/"
#define REGISTRY "[plugins.\"io.containerd.grpc.v1.cri\".registry]"

static const struct {
	const char *id, *message;
} known[DEPRECATIONS_N] = {
	[DEPRECATION_CRI_REGISTRY_MIRRORS] = {PREFIX "cri-registry-mirrors",
					      "The `mirrors` property of `" REGISTRY
					      "` is deprecated. Use `config_path` instead."},
	[DEPRECATION_CRI_REGISTRY_AUTHS] = {PREFIX "cri-registry-auths",
					    "The `auths` property of `" REGISTRY
					    "` is deprecated. Use `ImagePullSecrets` instead."},
	[DEPRECATION_CRI_REGISTRY_CONFIGS] = {PREFIX "cri-registry-configs",
					      "The `configs` property of `" REGISTRY
					      "` is deprecated. Use `config_path` instead."},
	[DEPRECATION_CRI_CNI_BIN_DIR] = {PREFIX "cri-cni-bin-dir",
					 "The `bin_dir` property of "
					 "`[plugins.\"io.containerd.cri.v1.runtime\".cni]` is "
					 "deprecated. Use `bin_dirs` in the same section instead."},
	[DEPRECATION_TRACING_PROCESSOR_CONFIG] = {PREFIX "tracing-processor-config",
						  "The properties of `[plugins.\"io.containerd."
						  "tracing.processor.v1.otlp\"]` are deprecated. "
						  "Use OTLP environment variables instead."},
	[DEPRECATION_TRACING_SERVICE_CONFIG] = {PREFIX "tracing-service-config",
						"The properties of `[plugins.\"io.containerd."
						"internal.v1.tracing\"]` are deprecated. Use OTEL "
						"environment variables instead."},
	[DEPRECATION_NRI_V010_PLUGIN] = {PREFIX "nri-v010-plugin",
					 "NRI 0.1.0-style plugins are deprecated and should only "
					 "be used through the v010-adapter plugin."},
	[DEPRECATION_NRI_PLUGIN_INTERFACE] = {PREFIX "nri-plugin-interface",
					      "An NRI plugin uses a deprecated part of the plugin "
					      "interface."},
	[DEPRECATION_CGROUP_V1] = {PREFIX "cgroup-v1",
				   "The support for cgroup v1 is deprecated. Use a host with "
				   "cgroup v2 instead."},
	[DEPRECATION_ENABLE_CDI] =
		{PREFIX "enable-cdi",
		 "The `enable_cdi` property of "
		 "`[plugins.\"io.containerd.cri.v1.runtime\"]` is deprecated. CDI "
		 "is always enabled."},
	[DEPRECATION_RUNC_TASK_API_ADDRESS] = {PREFIX "runc-options-task-api-address",
					       "The field `task_api_address` of runc's options is "
					       "deprecated. Use that of the task's creation "
					       "instead."},
	[DEPRECATION_RUNC_TASK_API_VERSION] = {PREFIX "runc-options-task-api-version",
					       "The field `task_api_version` of runc's options is "
					       "deprecated. Use that of the task's creation "
					       "instead."},
	[DEPRECATION_CRI_CHECKPOINT_RESTORE] = {PREFIX "cri-create-container-checkpoint-restore",
						"Restoring a checkpoint through CreateContainer is "
						"deprecated."},
};

struct deprecations {
	pthread_mutex_t lock;
	struct timespec last[DEPRECATIONS_N]; /* zero = never */
};

struct deprecations *deprecations_new(void)
{
	struct deprecations *d = calloc(1, sizeof(*d));

	if (d)
		pthread_mutex_init(&d->lock, NULL);
	return d;
}

void deprecations_free(struct deprecations *d)
{
	if (!d)
		return;
	pthread_mutex_destroy(&d->lock);
	free(d);
}

void deprecation_emit(struct deprecations *d, enum deprecation what)
{
	if (!d || what < 0 || what >= DEPRECATIONS_N)
		return;
	MUTEX_GUARD(&d->lock);
	d->last[what] = time_now();
}

static int by_id(const void *a, const void *b)
{
	return strcmp(((const struct deprecation_warning *)a)->id,
		      ((const struct deprecation_warning *)b)->id);
}

size_t deprecations_list(struct deprecations *d, struct deprecation_warning ret[DEPRECATIONS_N])
{
	size_t n = 0;

	MUTEX_GUARD(&d->lock);
	for (size_t i = 0; i < DEPRECATIONS_N; i++)
		if (!time_is_zero(d->last[i]))
			ret[n++] = (struct deprecation_warning){known[i].id, known[i].message,
								d->last[i]};
	qsort(ret, n, sizeof(*ret), by_id);
	return n;
}
