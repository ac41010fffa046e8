/* SPDX-License-Identifier: Apache-2.0 */
/* The sandbox controller "podsandbox": a pod's sandbox is a container of its own, which runs a
 * pause process.
 *
 * It knows the pods of the CRI's tables only; a record made by another client cannot be started. */
#pragma once

#include "cri/internal.h"
#include "plugins/sandbox/controller.h"

int cri_podsandbox_new(struct cri *c, struct sandbox_controller **ret,
		       struct err *err) _must_check_;

/* The controller of a pod's handler. -ERR_NOT_FOUND */
int cri_controller_of(struct cri *c, const struct cri_pod *p, struct sandbox_controller **ret,
		      struct err *err) _must_check_;

/* Absent is fine. */
int cri_pod_unmount_shm(struct arena *a, const struct cri *c, const char *id,
			struct err *err) _must_check_;

/* The pod, also while it is being made. */
int cri_pod_find(struct cri *c, const char *id, struct cri_pod **ret, struct err *err) _must_check_;
