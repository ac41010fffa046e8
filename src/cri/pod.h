/* SPDX-License-Identifier: Apache-2.0 */
/* Pod sandboxes and containers as objects in memory, and what of them is kept in meta.db.
 *
 * The records in meta.db (namespace k8s.io) are the truth: a sandbox's metadata is the extension
 * "metadata" of its sandbox record, a container's is the extension
 * io.cri-containerd.container.metadata of its container record. A container's changing status is a
 * file, see status.h. */
#pragma once

#include <stdint.h>

#include "base/labels.h"
#include "core/container.h"
#include "cri/config.h"
#include "cri/status.h"
#include "cri/table.h"
#include "protos.h"

#define CRI_NS "k8s.io"
#define CRI_LABEL_KIND "io.cri-containerd.kind"	    /* sandbox or container */
#define CRI_LABEL_IMAGE "io.cri-containerd.image"   /* managed */
#define CRI_LABEL_PINNED "io.cri-containerd.pinned" /* pinned */
#define CRI_EXT_SANDBOX "metadata"
#define CRI_EXT_SANDBOX_CONTAINER "io.cri-containerd.sandbox.metadata"
#define CRI_EXT_CONTAINER "io.cri-containerd.container.metadata"
#define CRI_SANDBOX_TYPE_URL "github.com/containerd/cri/pkg/store/sandbox/Metadata"
#define CRI_CONTAINER_TYPE_URL "github.com/containerd/cri/pkg/store/container/Metadata"

#define CRI(m) Runtime__V1__##m
#define CRI_INIT(m) RUNTIME__V1__##m##__INIT

enum cri_pod_state { CRI_POD_UNKNOWN, CRI_POD_READY, CRI_POD_NOTREADY };

struct cri_pod {
	struct cri_object o;
	/* Fixed. */
	const CRI(PodSandboxConfig) * config; /* resources and overhead: under the lock */
	const char *handler;		      /* as requested, "" = the default */
	const struct cri_handler *runtime;    /* NULL: not configured any more */
	bool host_network;
	int64_t created_at; /* unix ns */
	/* Under o.lock. */
	enum cri_pod_state state;
	bool removed;
	uint32_t pid; /* of the sandbox's task in the host, 0 = none */
	int64_t exited_at;
	uint32_t exit_status;
	const char *netns_path; /* "" = the host's */
	bool netns_closed;
	bool detached;			   /* from its networks, by this daemon */
	const char *userns_path;	   /* "" = the host's */
	const char *ip;			   /* "" = none yet */
	const char *const *additional_ips; /* NULL-terminated, or NULL */
	json_t *cni_result;		   /* owned; replaced, never changed; NULL */
	const char *selinux_label;	   /* of processes */
	const char *image_ref;		   /* pause image, "" = none is used */
	bool nri_stopped;		   /* plugins know that it has been stopped */
};

struct cri_container {
	struct cri_object o;
	/* Fixed. */
	const CRI(ContainerConfig) * config; /* annotations: under the lock */
	const char *pod_id;
	const char *image_ref;	 /* sha256:<config digest> */
	const char *log_path;	 /* "" = no log */
	const char *stop_signal; /* of the image or the config, "" = SIGTERM */
	const char *selinux_label;
	const char *snapshotter, *snapshot_key;
	const struct cri_handler *runtime;
	const CRI(LinuxContainerUser) * user; /* of its spec; NULL = that could not be read */
	/* Under o.lock. */
	struct cri_status status;
	bool starting;	/* its exit is not told before its start */
	bool begun;	/* the process of it that is starting runs */
	unsigned exits; /* that are being handled: they will be recorded */
	bool removing, removed;
	bool changing;	    /* the status: see cri_container_change() */
	bool oom;	    /* the kernel has killed a process of it for its memory limit */
	bool stop_signaled; /* the stop signal is sent once */
	bool nri_stopped;   /* plugins know that it has ended, or are being told */
	bool nri_telling;   /* they are being told */
	struct cri_io *io;  /* see io.h; NULL once closed */
};

/* Metadata as it is kept, in the arena. */
int cri_pod_pack(struct arena *a, struct cri_pod *p, struct any *ret, struct err *err) _must_check_;
int cri_container_pack(struct arena *a, struct cri_container *c, struct any *ret,
		       struct err *err) _must_check_;
/* New objects from what was kept; state, pid, status are left zero. -ERR_INVALID_ARGUMENT. */
int cri_pod_unpack(const struct cri_config *config, const struct any *metadata,
		   struct cri_pod **ret, struct err *err) _must_check_;
int cri_container_unpack(const struct any *metadata, struct cri_container **ret,
			 struct err *err) _must_check_;

/* New objects of a request: with copies of what it says; all else is zero or "". */
int cri_pod_new(const struct cri_config *config, const char *id, const char *name,
		const CRI(PodSandboxConfig) * pod, const char *handler, struct cri_pod **ret,
		struct err *err) _must_check_;
int cri_container_new(const char *id, const char *name, const CRI(ContainerConfig) * config,
		      const char *pod_id, struct cri_container **ret, struct err *err) _must_check_;

/* A message in the object's arena, the same as @m. Not under the lock: before others see the
 * object. */
int cri_message_copy(struct arena *a, const ProtobufCMessage *m, void *ret /* T ** */,
		     struct err *err) _must_check_;

/* Sets @c->user from the spec, once, before others see the object. */
int cri_container_set_user(struct cri_container *c, const json_t *spec,
			   struct err *err) _must_check_;

/* Names that are reserved. In @a; NULL = no memory. */
char *cri_pod_name(struct arena *a, const CRI(PodSandboxMetadata) * m);
char *cri_container_name(struct arena *a, const CRI(ContainerMetadata) * m,
			 const CRI(PodSandboxMetadata) * pod);

static inline void cri_pod_unrefp(struct cri_pod **p)
{
	if (*p)
		cri_object_unref(&(*p)->o);
}
static inline void cri_container_unrefp(struct cri_container **c)
{
	if (*c)
		cri_object_unref(&(*c)->o);
}
#define _cleanup_pod_ _cleanup_(cri_pod_unrefp)
#define _cleanup_container_ _cleanup_(cri_container_unrefp)
