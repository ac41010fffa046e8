/* SPDX-License-Identifier: Apache-2.0 */
/* containerd.services.version.v1.Version */
#include "services/pb.h"
#include "services/services.h"
#include "version.h"

static int version(struct rpc_call *call, const void *req, struct err *err)
{
	Containerd__Services__Version__V1__VersionResponse resp =
		CONTAINERD__SERVICES__VERSION__V1__VERSION_RESPONSE__INIT;
	resp.version = (char *)VERSION;
	resp.revision = (char *)REVISION;
	return rpc_send(call, &resp.base, err);
}

static const struct rpc_method methods[] = {
	{"Version", RPC_UNARY, version},
};

SERVICE(version, &containerd__services__version__v1__version__descriptor, methods)
