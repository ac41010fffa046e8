/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that are not there yet. */
#include "cri/internal.h"

#define PENDING(name, method)                                                                \
	int cri_##name(struct rpc_call *call, const void *req, struct err *err)              \
	{                                                                                    \
		return err_set(err, ERR_UNIMPLEMENTED, "%s is not implemented yet", method); \
	}

/* pod_run.c, pod_stop.c, pod_status.c */
PENDING(run_pod_sandbox, "RunPodSandbox")
PENDING(stop_pod_sandbox, "StopPodSandbox")
PENDING(remove_pod_sandbox, "RemovePodSandbox")
PENDING(pod_sandbox_status, "PodSandboxStatus")
PENDING(list_pod_sandbox, "ListPodSandbox")
PENDING(stream_pod_sandboxes, "StreamPodSandboxes")
PENDING(update_pod_sandbox_resources, "UpdatePodSandboxResources")

/* container_*.c */
PENDING(create_container, "CreateContainer")
PENDING(start_container, "StartContainer")
PENDING(stop_container, "StopContainer")
PENDING(remove_container, "RemoveContainer")
PENDING(list_containers, "ListContainers")
PENDING(stream_containers, "StreamContainers")
PENDING(container_status, "ContainerStatus")
PENDING(update_container_resources, "UpdateContainerResources")
PENDING(checkpoint_container, "CheckpointContainer")

/* io.c, exec.c, streaming.c */
PENDING(reopen_container_log, "ReopenContainerLog")
PENDING(exec_sync, "ExecSync")
PENDING(exec, "Exec")
PENDING(attach, "Attach")
PENDING(port_forward, "PortForward")

/* stats.c, metrics.c */
PENDING(container_stats, "ContainerStats")
PENDING(list_container_stats, "ListContainerStats")
PENDING(stream_container_stats, "StreamContainerStats")
PENDING(pod_sandbox_stats, "PodSandboxStats")
PENDING(list_pod_sandbox_stats, "ListPodSandboxStats")
PENDING(stream_pod_sandbox_stats, "StreamPodSandboxStats")
PENDING(list_metric_descriptors, "ListMetricDescriptors")
PENDING(list_pod_sandbox_metrics, "ListPodSandboxMetrics")
PENDING(stream_pod_sandbox_metrics, "StreamPodSandboxMetrics")

/* service.c, runtime_status.c, event.c */
PENDING(status, "Status")
PENDING(update_runtime_config, "UpdateRuntimeConfig")
PENDING(get_container_events, "GetContainerEvents")

/* image*.c */
PENDING(list_images, "ListImages")
PENDING(stream_images, "StreamImages")
PENDING(image_status, "ImageStatus")
PENDING(pull_image, "PullImage")
PENDING(remove_image, "RemoveImage")
PENDING(image_fs_info, "ImageFsInfo")
