/* SPDX-License-Identifier: Apache-2.0 */
/* The tables of RuntimeService and ImageService, and the calls that are about neither pod nor
 * container nor image. */
#include "base/str.h"
#include "base/time.h"
#include "cri/internal.h"
#include "cri/network.h"
#include "cri/nri.h"
#include "cri/timers.h"

int cri_version(struct rpc_call *call, const void *req, struct err *err)
{
	struct cri *c = rpc_data(call);
	CRI(VersionResponse) resp = CRI_INIT(VERSION_RESPONSE);

	resp.version = (char *)"0.1.0"; /* of the kubelet's runtime API */
	resp.runtime_name = (char *)"containerd";
	resp.runtime_version = (char *)c->o.version;
	resp.runtime_api_version = (char *)"v1";
	return rpc_send(call, &resp.base, err);
}

/* Driver of one handler: by its option, 0 = it does not say. */
static int driver_of(const struct cri_handler *h)
{
	const json_t *v = json_object_get(h->options, "SystemdCgroup");

	if (!v)
		v = json_object_get(h->options, "systemd_cgroup");
	if (!json_is_boolean(v))
		return -1;
	return json_is_true(v) ? RUNTIME__V1__CGROUP_DRIVER__SYSTEMD
			       : RUNTIME__V1__CGROUP_DRIVER__CGROUPFS;
}

int cri_runtime_config(struct rpc_call *call, const void *req, struct err *err)
{
	struct cri *c;
	CRI(RuntimeConfigResponse) resp = CRI_INIT(RUNTIME_CONFIG_RESPONSE);
	CRI(LinuxRuntimeConfiguration) conf = CRI_INIT(LINUX_RUNTIME_CONFIGURATION);
	int r = cri_of(call, &c, err), driver = -1;

	if (r < 0)
		return r;
	const struct cri_handler *h = cri_config_handler(c->config, "");
	if (h)
		driver = driver_of(h);
	for (size_t i = 0; driver < 0 && i < c->config->n_handlers; i++)
		driver = driver_of(&c->config->handlers[i]);
	if (driver < 0)
		driver = access("/run/systemd/system", F_OK) == 0
				 ? RUNTIME__V1__CGROUP_DRIVER__SYSTEMD
				 : RUNTIME__V1__CGROUP_DRIVER__CGROUPFS;
	conf.cgroup_driver = (CRI(CgroupDriver))driver;
	resp.linux = &conf;
	return rpc_send(call, &resp.base, err);
}

int cri_update_runtime_config(struct rpc_call *call, const void *req, struct err *err)
{
	const CRI(UpdateRuntimeConfigRequest) *q = req;
	CRI(UpdateRuntimeConfigResponse) resp = CRI_INIT(UPDATE_RUNTIME_CONFIG_RESPONSE);
	const CRI(NetworkConfig) *net =
		q->runtime_config ? q->runtime_config->network_config : NULL;
	struct cri *c;
	int r = cri_of(call, &c, err);

	if (r == 0 && net)
		r = cri_network_set_pod_cidr(rpc_ctx(call), c->network, net->pod_cidr, err);
	return r < 0 ? r : rpc_send(call, &resp.base, err);
}

/* ---- what is timed: calls as a whole, when they succeed ---- */

/* Whose runtime a call is about: of a pod or of a container, looked up before it may be gone. */
static const struct cri_handler *pod_handler(struct cri *c, const char *id)
{
	_cleanup_pod_ struct cri_pod *p = NULL;

	return !str_empty(id) && cri_table_get(c->pods, id, &p, NULL) == 0 ? p->runtime : NULL;
}

/* The name that the pod was made with; "" for the default. */
static const char *pod_handler_name(struct cri *c, const char *id)
{
	_cleanup_pod_ struct cri_pod *p = NULL;

	if (str_empty(id) || cri_table_get(c->pods, id, &p, NULL) < 0 || !p->runtime)
		return NULL;
	return str_empty(p->handler) ? "" : p->runtime->name;
}

static const struct cri_handler *container_handler(struct cri *c, const char *id)
{
	_cleanup_container_ struct cri_container *k = NULL;

	return !str_empty(id) && cri_table_get(c->containers, id, &k, NULL) == 0 ? k->runtime
										 : NULL;
}

/* @type of what @of looks up and @add is given besides. */
#define TIMED_BY(name, timer, type, of, add)                                             \
	static int timed_##name(struct rpc_call *call, const void *req, struct err *err) \
	{                                                                                \
		struct cri *c = rpc_data(call);                                          \
		type label = c->ready ? (of) : NULL;                                     \
		int64_t begin = time_mono();                                             \
		int r = cri_##name(call, req, err);                                      \
		if (r == 0)                                                              \
			add(c, CRI_TIMER_##timer, label, begin);                         \
		return r;                                                                \
	}
#define TIMED_RUNTIME(name, timer, of) \
	TIMED_BY(name, timer, const struct cri_handler *, of, cri_timer_add_runtime)
#define TIMED_HANDLER(name, timer, of) \
	TIMED_BY(name, timer, const char *, of, cri_timer_add_handler)
#define TIMED(name, timer)                                                               \
	static int timed_##name(struct rpc_call *call, const void *req, struct err *err) \
	{                                                                                \
		int64_t begin = time_mono();                                             \
		int r = cri_##name(call, req, err);                                      \
		if (r == 0)                                                              \
			cri_timer_add(rpc_data(call), CRI_TIMER_##timer, begin);         \
		return r;                                                                \
	}
#define OF(type, field) (((const CRI(type) *)req)->field)

TIMED(list_pod_sandbox, SANDBOX_LIST)
TIMED(list_containers, CONTAINER_LIST)
TIMED_HANDLER(remove_pod_sandbox, SANDBOX_REMOVE,
	      pod_handler_name(c, OF(RemovePodSandboxRequest, pod_sandbox_id)))
TIMED_RUNTIME(create_container, CONTAINER_CREATE,
	      pod_handler(c, OF(CreateContainerRequest, pod_sandbox_id)))
TIMED_RUNTIME(start_container, CONTAINER_START,
	      container_handler(c, OF(StartContainerRequest, container_id)))
TIMED_RUNTIME(stop_container, CONTAINER_STOP,
	      container_handler(c, OF(StopContainerRequest, container_id)))
TIMED_RUNTIME(remove_container, CONTAINER_REMOVE,
	      container_handler(c, OF(RemoveContainerRequest, container_id)))
TIMED_RUNTIME(checkpoint_container, CONTAINER_CHECKPOINT,
	      container_handler(c, OF(CheckpointContainerRequest, container_id)))

/* What changes pods and containers: not while a plugin is being told of them (nri.h). StopContainer
 * sees to that itself, since it may wait for long. */
#define CHANGES(name, fn)                                                                 \
	static int change_##name(struct rpc_call *call, const void *req, struct err *err) \
	{                                                                                 \
		struct nri *n = ((struct cri *)rpc_data(call))->nri;                      \
		int r = nri_block(rpc_ctx(call), n, err);                                 \
		if (r < 0)                                                                \
			return r;                                                         \
		r = fn(call, req, err);                                                   \
		nri_unblock(n);                                                           \
		return r;                                                                 \
	}
CHANGES(run_pod_sandbox, cri_run_pod_sandbox)
CHANGES(stop_pod_sandbox, cri_stop_pod_sandbox)
CHANGES(remove_pod_sandbox, timed_remove_pod_sandbox)
CHANGES(create_container, timed_create_container)
CHANGES(start_container, timed_start_container)
CHANGES(remove_container, timed_remove_container)
CHANGES(update_container_resources, cri_update_container_resources)
CHANGES(update_pod_sandbox_resources, cri_update_pod_sandbox_resources)
#undef CHANGES

static const struct rpc_method runtime_methods[] = {
	{"Version", RPC_UNARY, cri_version},
	{"RunPodSandbox", RPC_UNARY, change_run_pod_sandbox},
	{"StopPodSandbox", RPC_UNARY, change_stop_pod_sandbox},
	{"RemovePodSandbox", RPC_UNARY, change_remove_pod_sandbox},
	{"PodSandboxStatus", RPC_UNARY, cri_pod_sandbox_status},
	{"ListPodSandbox", RPC_UNARY, timed_list_pod_sandbox},
	{"StreamPodSandboxes", RPC_SERVER_STREAM, cri_stream_pod_sandboxes},
	{"CreateContainer", RPC_UNARY, change_create_container},
	{"StartContainer", RPC_UNARY, change_start_container},
	{"StopContainer", RPC_UNARY, timed_stop_container},
	{"RemoveContainer", RPC_UNARY, change_remove_container},
	{"ListContainers", RPC_UNARY, timed_list_containers},
	{"StreamContainers", RPC_SERVER_STREAM, cri_stream_containers},
	{"ContainerStatus", RPC_UNARY, cri_container_status},
	{"UpdateContainerResources", RPC_UNARY, change_update_container_resources},
	{"ReopenContainerLog", RPC_UNARY, cri_reopen_container_log},
	{"ExecSync", RPC_UNARY, cri_exec_sync},
	{"Exec", RPC_UNARY, cri_exec},
	{"Attach", RPC_UNARY, cri_attach},
	{"PortForward", RPC_UNARY, cri_port_forward},
	{"ContainerStats", RPC_UNARY, cri_container_stats},
	{"ListContainerStats", RPC_UNARY, cri_list_container_stats},
	{"StreamContainerStats", RPC_SERVER_STREAM, cri_stream_container_stats},
	{"PodSandboxStats", RPC_UNARY, cri_pod_sandbox_stats},
	{"ListPodSandboxStats", RPC_UNARY, cri_list_pod_sandbox_stats},
	{"StreamPodSandboxStats", RPC_SERVER_STREAM, cri_stream_pod_sandbox_stats},
	{"UpdateRuntimeConfig", RPC_UNARY, cri_update_runtime_config},
	{"Status", RPC_UNARY, cri_status},
	{"CheckpointContainer", RPC_UNARY, timed_checkpoint_container},
	{"GetContainerEvents", RPC_SERVER_STREAM, cri_get_container_events},
	{"ListMetricDescriptors", RPC_UNARY, cri_list_metric_descriptors},
	{"ListPodSandboxMetrics", RPC_UNARY, cri_list_pod_sandbox_metrics},
	{"StreamPodSandboxMetrics", RPC_SERVER_STREAM, cri_stream_pod_sandbox_metrics},
	{"RuntimeConfig", RPC_UNARY, cri_runtime_config},
	{"UpdatePodSandboxResources", RPC_UNARY, change_update_pod_sandbox_resources},
};

static const struct rpc_method image_methods[] = {
	{"ListImages", RPC_UNARY, cri_list_images},
	{"StreamImages", RPC_SERVER_STREAM, cri_stream_images},
	{"ImageStatus", RPC_UNARY, cri_image_status},
	{"PullImage", RPC_UNARY, cri_pull_image},
	{"RemoveImage", RPC_UNARY, cri_remove_image},
	{"ImageFsInfo", RPC_UNARY, cri_image_fs_info},
};

void cri_runtime_service(struct cri *c, struct rpc_service *ret)
{
	*ret = (struct rpc_service){.desc = &runtime__v1__runtime_service__descriptor,
				    .methods = runtime_methods,
				    .n_methods = ARRAY_LEN(runtime_methods),
				    .data = c};
}

void cri_image_service(struct cri *c, struct rpc_service *ret)
{
	*ret = (struct rpc_service){.desc = &runtime__v1__image_service__descriptor,
				    .methods = image_methods,
				    .n_methods = ARRAY_LEN(image_methods),
				    .data = c};
}
