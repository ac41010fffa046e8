/* SPDX-License-Identifier: Apache-2.0 */
/* The Kubernetes runtime and image services (runtime.v1), on the daemon's own socket.
 *
 * Pods and containers are containerd's own sandboxes, containers, tasks, snapshots and images in
 * the namespace k8s.io; what the kubelet needs beyond that is kept with them (see pod.h, status.h).
 */
#pragma once

#include "core/db.h"
#include "cri/config.h"
#include "rpc/rpc.h"

struct cri;
struct deprecations;
struct event_exchange;
struct front;
struct gc_scheduler;
struct loop;
struct mount_manager;
struct nri;
struct pool;
struct rdt;
struct runtime;
struct sandbox_controllers;
struct transfer;

struct cri_options {
	struct loop *loop;
	struct pool *pool;
	struct db *db;
	struct event_exchange *events;
	struct gc_scheduler *gc;
	struct runtime *runtime;
	struct mount_manager *mounts;
	struct transfer *transfer;
	const struct cri_config *config;
	struct nri *nri;	  /* NULL = disabled; outlives the CRI */
	const char *root, *state; /* directories of the plugin */
	const char *version;
	/* All sandbox controllers; the CRI's own is added by cri_new(). */
	struct sandbox_controllers *controllers;
	/* Root directory of a snapshotter; NULL when there is none. */
	const char *(*snapshotter_root)(void *arg, const char *name);
	void *snapshotter_arg;
	/* Deprecations that are in use: ids and texts. */
	int (*deprecations)(struct arena *a, void *arg, struct labels *ret, struct err *err);
	void *deprecations_arg;
	const json_t *blockio; /* classes of block I/O (oci/blockio.h); NULL = not enabled */
	const struct rdt *rdt; /* classes of RDT (oci/rdt.h); NULL = not enabled */
	struct deprecations *deprecated; /* gets more of them; NULL = nobody wants to know */
};

/* Makes what does not need the loop. */
int cri_new(const struct cri_options *o, struct cri **ret, struct err *err) _must_check_;
/* Finds pods and containers of an earlier daemon again. Blocks; the loop must run, and tasks must
 * be within reach: what is not is taken for gone.
 *
 * -ERR_CANCELED  @ctx was canceled: the rest was not looked at */
int cri_recover(struct ctx *ctx, struct cri *c, struct err *err) _must_check_;
/* Until it is set every call but Version answers Unavailable. */
void cri_set_ready(struct cri *c);
/* Once cri_recover()'s context was canceled: ends what it waits for besides. Fine when it is over.
 */
void cri_interrupt(struct cri *c);
/* Before the pool ends, and after cri_recover(): streams and event streams are finished, background
 * work stops. */
void cri_stop(struct cri *c);
/* After the pool and the loop. Containers go on running. */
void cri_free(struct cri *c);

/* Appends what operations took, in the text format of Prometheus. */
struct buf;
void cri_timers_render(struct cri *c, struct buf *b);

/* RuntimeService and ImageService. */
void cri_runtime_service(struct cri *c, struct rpc_service *ret);
void cri_image_service(struct cri *c, struct rpc_service *ret);
