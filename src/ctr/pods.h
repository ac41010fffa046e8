/* SPDX-License-Identifier: Apache-2.0 */
/* Pods and containers by the daemon's runtime.v1, for the commands of `ctr pods`. A pod is named by
 * its id (or the beginning of it), its name, or namespace/name; a container by its id or name. What
 * is returned lives in the command's arena. */
#pragma once

#include "ctr/ctr.h"
#include "runtime/v1/api.pb-c.h"

#define CRI(m) Runtime__V1__##m
#define CRI_INIT(m) RUNTIME__V1__##m##__INIT

int pods_call(struct ctr *c, const char *method, const ProtobufCMessage *req, void *ret,
	      struct err *err) _must_check_;
/* An error when there are more than @max positional arguments. */
int pods_no_more_args(const struct ctr *c, size_t max, struct err *err) _must_check_;
/* By namespace and name, the latest attempt first. */
int pods_get(struct ctr *c, CRI(ListPodSandboxResponse) * *ret, struct err *err) _must_check_;
/* By name, the newest first. */
int pods_containers_get(struct ctr *c, CRI(ListContainersResponse) * *ret,
			struct err *err) _must_check_;
int pods_container_status(struct ctr *c, const char *id, CRI(ContainerStatus) * *ret,
			  struct err *err) _must_check_;
/* -ERR_NOT_FOUND; -ERR_INVALID_ARGUMENT: several have that name. */
int pods_find(struct ctr *c, const char *name, const CRI(PodSandbox) * *ret,
	      struct err *err) _must_check_;
/* The latest container @name of the pod @of_pod; NULL: of any, or the one of the pod @name. */
int pods_container_find(struct ctr *c, const char *name, const char *of_pod,
			const CRI(Container) * *ret, struct err *err) _must_check_;
/* From a container to the one before it of the same pod and name. */
int pods_container_before(struct ctr *c, const CRI(Container) * *k, struct err *err) _must_check_;
/* "48s", "5m", "3h", "2d"; NULL = no memory. */
const char *pods_age(struct arena *a, int64_t since_ns);

extern const struct ctr_command pods_logs; /* cmd_pods_logs.c */
