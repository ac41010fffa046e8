/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this folder share. */
#pragma once

#include <stdatomic.h>

#include "cri/cri.h"
#include "cri/pod.h"

struct cri_events;
struct cri_exits;
struct cri_features;
struct cri_images;
struct cri_network;
struct cri_stats;
struct cri_streaming;
struct cri_timers;
struct cri_usage;
struct nri;

struct cri {
	struct cri_options o;
	const struct cri_config *config;
	struct cri_table *pods, *containers;
	struct cri_table *starting; /* pods that are being made: nobody lists them */
	struct sandbox_controller *podsandbox;
	struct cri_events *events;	 /* event.h */
	struct cri_exits *exits;	 /* container.h */
	struct cri_images *images;	 /* image.h */
	struct cri_timers *timers;	 /* timers.h */
	struct cri_usage *usage;	 /* usage.h */
	struct cri_network *network;	 /* network.h */
	struct cri_stats *stats;	 /* stats.h */
	struct cri_streaming *streaming; /* streaming.h */
	struct nri *nri;		 /* nri.h; NULL = disabled */
	const char *registry_dir;	 /* of hosts.toml files from old tables, "" = none */
	struct arena *arena;
	struct watch *watches; /* pod_stop.c's: the loop's */
	atomic_bool ready, stopping;
	pthread_mutex_t features_lock; /* guards the two below: one of each handler */
	struct cri_features *features;
	bool *features_known;
};

/* config_json.c; a new reference, NULL = no memory. */
json_t *cri_config_json(const struct cri *c);

/* The call's cri, once it is ready: -ERR_UNAVAILABLE "server is not initialized yet". Sets the
 * namespace of the call's context. */
int cri_of(struct rpc_call *call, struct cri **ret, struct err *err) _must_check_;

/* <root>/sandboxes/<id> and the like; in @a, NULL = no memory. */
char *cri_pod_root(const struct cri *c, struct arena *a, const char *id);
char *cri_pod_state_dir(const struct cri *c, struct arena *a, const char *id);
char *cri_container_root(const struct cri *c, struct arena *a, const char *id);
char *cri_container_state_dir(const struct cri *c, struct arena *a, const char *id);

/* An error of something that containerd has no class for (networks, devices, references): clients
 * see it as Unknown, unless it is about the request's time. */
static inline int cri_unknown(int r, struct err *err)
{
	if (r >= 0 || r == -ERR_CANCELED || r == -ERR_DEADLINE_EXCEEDED)
		return r;
	if (err)
		err->kind = ERR_UNKNOWN;
	return -ERR_UNKNOWN;
}

/* A context for work that goes on when its request is over: cleanup after a failure (limited by
 * io.containerd.timeout.cri.defercleanup), exits, recovery. The arena is the caller's. */
struct ctx cri_background(const struct cri *c, struct arena *a, int64_t timeout_ns);

/* Handlers, one file each topic; the tables are in service.c. */
#define CRI_HANDLER(name) int cri_##name(struct rpc_call *call, const void *req, struct err *err)

/* pod_run.c, pod_stop.c, pod_status.c */
CRI_HANDLER(run_pod_sandbox);
CRI_HANDLER(stop_pod_sandbox);
CRI_HANDLER(remove_pod_sandbox);
CRI_HANDLER(pod_sandbox_status);
CRI_HANDLER(list_pod_sandbox);
CRI_HANDLER(stream_pod_sandboxes);
CRI_HANDLER(update_pod_sandbox_resources);
/* container_*.c */
CRI_HANDLER(create_container);
CRI_HANDLER(start_container);
CRI_HANDLER(stop_container);
CRI_HANDLER(remove_container);
CRI_HANDLER(list_containers);
CRI_HANDLER(stream_containers);
CRI_HANDLER(container_status);
CRI_HANDLER(update_container_resources);
CRI_HANDLER(checkpoint_container);
/* io.c, exec.c, streaming.c */
CRI_HANDLER(reopen_container_log);
CRI_HANDLER(exec_sync);
CRI_HANDLER(exec);
CRI_HANDLER(attach);
CRI_HANDLER(port_forward);
/* stats.c, metrics.c */
CRI_HANDLER(container_stats);
CRI_HANDLER(list_container_stats);
CRI_HANDLER(stream_container_stats);
CRI_HANDLER(pod_sandbox_stats);
CRI_HANDLER(list_pod_sandbox_stats);
CRI_HANDLER(stream_pod_sandbox_stats);
CRI_HANDLER(list_metric_descriptors);
CRI_HANDLER(list_pod_sandbox_metrics);
CRI_HANDLER(stream_pod_sandbox_metrics);
/* service.c, runtime_status.c, event.c */
CRI_HANDLER(version);
CRI_HANDLER(status);
CRI_HANDLER(runtime_config);
CRI_HANDLER(update_runtime_config);
CRI_HANDLER(get_container_events);
/* image*.c */
CRI_HANDLER(list_images);
CRI_HANDLER(stream_images);
CRI_HANDLER(image_status);
CRI_HANDLER(pull_image);
CRI_HANDLER(remove_image);
CRI_HANDLER(image_fs_info);

/* ---- between the topics ---- */

/* Replies, in the arena: what PodSandboxStatus and ContainerStatus answer and events carry. */
int cri_pod_status(struct ctx *ctx, struct cri *c, struct cri_pod *p, CRI(PodSandboxStatus) * *ret,
		   struct err *err) _must_check_;
int cri_container_status_of(struct ctx *ctx, struct cri *c, struct cri_container *k,
			    CRI(ContainerStatus) * *ret, struct err *err) _must_check_;

/* Kills, and waits for the exit to be recorded; fine when it does not run. Removes, stopping by
 * force what runs; all of it is gone afterwards. The object need not be begun: these do. */
int cri_container_stop(struct ctx *ctx, struct cri *c, struct cri_container *k,
		       struct err *err) _must_check_;
int cri_container_remove(struct ctx *ctx, struct cri *c, struct cri_container *k,
			 struct err *err) _must_check_;
/* Containers of a pod, with references (cri_objects_unref). */
int cri_pod_containers(struct ctx *ctx, struct cri *c, const char *pod_id,
		       struct cri_container ***ret, size_t *ret_n, struct err *err) _must_check_;
/* Waits for the end of a pod's sandbox, without a thread, and records it then. After start, and in
 * recovery. */
int cri_pod_watch(struct cri *c, struct cri_pod *p, struct err *err) _must_check_;
/* All of these, when the daemon stops. */
void cri_pod_watches_stop(struct cri *c);

/* Takes the pod's networks down (unless @network is false), and removes its namespaces. Again is
 * fine. */
int cri_pod_drop_namespaces(struct ctx *ctx, struct cri *c, struct cri_pod *p, bool network,
			    struct err *err) _must_check_;
/* A pod's lease and record, in this order: a lease that no record tells of is found by nobody.
 * Absent ones are fine. */
int cri_pod_remove_records(struct ctx *ctx, struct cri *c, const char *id,
			   struct err *err) _must_check_;
/* Unmounts and removes the image volumes of a pod's containers. Absent is fine. */
int cri_pod_drop_image_volumes(struct ctx *ctx, struct cri *c, const char *pod_id,
			       struct err *err) _must_check_;
/* A sandbox has ended (@x NULL: how is not known): records it, tells it. */
struct sandbox_exit;
void cri_pod_exited(struct ctx *ctx, struct cri *c, struct cri_pod *p,
		    const struct sandbox_exit *x);
/* Whether all of @want (a map field of a filter) are among @have. */
bool cri_labels_match(void *want, size_t n_want, void *have, size_t n_have);

/* Devices that a container asks for by name (CDI), and what its runtime handler needs beyond the
 * spec: AppArmor's profile loaded, classes of block I/O and RDT. */
int cri_devices_inject(struct ctx *ctx, struct cri *c, struct cri_container *k, json_t *spec,
		       struct err *err) _must_check_;

/* The CDI devices @names. -ERR_FAILED_PRECONDITION: CDI is off. */
int cri_cdi_inject(struct cri *c, json_t *spec, const char *const *names, size_t n,
		   struct err *err) _must_check_;

/* Labels for the snapshot of a user namespace: how ids are mapped. */
int cri_snapshot_labels(struct arena *a, const CRI(NamespaceOption) * ns, struct labels *ret,
			struct err *err) _must_check_;
/* Labels of a container record: @own, those of the image, and the kind. */
int cri_container_labels(struct arena *a, const struct labels *own, const json_t *image_config,
			 const char *kind, struct labels *ret, struct err *err) _must_check_;
/* Writes the metadata of a pod, as it is now, into its records. */
int cri_pod_save(struct ctx *ctx, struct cri *c, struct cri_pod *p, struct err *err) _must_check_;

/* {"info": <JSON>} for verbose answers; takes @j over. *@ret_entries is a map field. */
int cri_info_entry(struct arena *a, json_t *j, void *ret_entries, size_t *ret_n,
		   struct err *err) _must_check_;

/* Recovery, in this order; a canceled context ends it. Each pod and each container has a part of
 * the context, with a limit of time: a shim that does not answer must not keep all of them waiting.
 */
struct ctx cri_recover_part(const struct ctx *ctx);
int cri_recover_pods(struct ctx *ctx, struct cri *c, struct err *err) _must_check_;
int cri_recover_containers(struct ctx *ctx, struct cri *c, struct err *err) _must_check_;
/* Removes directories below <root>/<kind> and <state>/<kind> that neither an object of @t nor a
 * record has. */
void cri_recover_dirs(struct ctx *ctx, struct cri *c, const char *kind, struct cri_table *t);
