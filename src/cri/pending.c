/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that are not there yet. */
#include "cri/internal.h"

#define PENDING(name, method)                                                                \
	int cri_##name(struct rpc_call *call, const void *req, struct err *err)              \
	{                                                                                    \
		return err_set(err, ERR_UNIMPLEMENTED, "%s is not implemented yet", method); \
	}

/* pod_run.c, pod_stop.c, pod_status.c */

/* container_*.c */
PENDING(checkpoint_container, "CheckpointContainer")

/* service.c, runtime_status.c, event.c */
PENDING(update_runtime_config, "UpdateRuntimeConfig")

/* image*.c */

/* ---- what others call ---- */

#include "base/str.h"
#include "cri/image.h"
#include "cri/nri.h"
int nri_start(struct nri *n, struct cri *c, struct err *err)
{
	return 0;
}

void nri_stop(struct nri *n)
{
}

int nri_run_pod(struct ctx *ctx, struct nri *n, struct cri_pod *p, struct err *err)
{
	return 0;
}

int nri_stop_pod(struct ctx *ctx, struct nri *n, struct cri_pod *p, struct err *err)
{
	return 0;
}

int nri_remove_pod(struct ctx *ctx, struct nri *n, struct cri_pod *p, struct err *err)
{
	return 0;
}

int nri_update_pod(struct ctx *ctx, struct nri *n, struct cri_pod *p,
		   const CRI(LinuxContainerResources) * overhead,
		   const CRI(LinuxContainerResources) * resources, struct err *err)
{
	return 0;
}

void nri_event(struct ctx *ctx, struct nri *n, enum nri_event e, struct cri_pod *p,
	       struct cri_container *k)
{
}

int nri_create_container(struct ctx *ctx, struct nri *n, struct cri_pod *p, struct cri_container *k,
			 json_t *spec, struct err *err)
{
	return 0;
}

int nri_update_container(struct ctx *ctx, struct nri *n, struct cri_pod *p, struct cri_container *k,
			 const CRI(LinuxContainerResources) * *resources, struct err *err)
{
	return 0;
}

int nri_stop_container(struct ctx *ctx, struct nri *n, struct cri_pod *p, struct cri_container *k,
		       struct err *err)
{
	return 0;
}

int cri_devices_inject(struct ctx *ctx, struct cri *c, struct cri_container *k, json_t *spec,
		       struct err *err)
{
	return 0;
}
