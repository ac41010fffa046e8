/* SPDX-License-Identifier: Apache-2.0 */
/* grpc.health.v1.Health (https://github.com/grpc/grpc/blob/master/doc/health-checking.md): the
 * daemon as a whole, under the name "". */
#include "base/str.h"
#include "services/pb.h"
#include "services/services.h"

#define SERVING GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING

static int check(struct rpc_call *call, const void *req, struct err *err)
{
	const Grpc__Health__V1__HealthCheckRequest *r = req;
	if (!str_empty(r->service))
		return err_set_raw(err, ERR_NOT_FOUND, "unknown service");
	Grpc__Health__V1__HealthCheckResponse resp = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
	resp.status = SERVING;
	return rpc_send(call, &resp.base, err);
}

static int list(struct rpc_call *call, const void *req, struct err *err)
{
	Grpc__Health__V1__HealthListResponse resp = GRPC__HEALTH__V1__HEALTH_LIST_RESPONSE__INIT;
	Grpc__Health__V1__HealthListResponse__StatusesEntry entry =
		GRPC__HEALTH__V1__HEALTH_LIST_RESPONSE__STATUSES_ENTRY__INIT;
	Grpc__Health__V1__HealthCheckResponse status =
		GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
	Grpc__Health__V1__HealthListResponse__StatusesEntry *entries[] = {&entry};
	status.status = SERVING;
	entry.value = &status;
	resp.statuses = entries;
	resp.n_statuses = 1;
	return rpc_send(call, &resp.base, err);
}

/* The end of a watch: it has no state but the call. */
static void watch_end(void *arg)
{
	struct err err = ERR_INIT;
	err_set(&err, ERR_CANCELED, "%s", "");
	rpc_finish(arg, &err);
}

/* The status does not change as long as the daemon answers: one message, then the stream stays
 * open. */
static int watch(struct rpc_call *call, const void *req, struct err *err)
{
	const Grpc__Health__V1__HealthCheckRequest *r = req;
	Grpc__Health__V1__HealthCheckResponse resp = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
	resp.status =
		str_empty(r->service)
			? SERVING
			: GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVICE_UNKNOWN;
	int e = rpc_send(call, &resp.base, err);
	if (e < 0)
		return e;
	rpc_on_cancel(call, watch_end, call);
	return rpc_defer_wait(call);
}

static const struct rpc_method methods[] = {
	{"Check", RPC_UNARY, check},
	{"List", RPC_UNARY, list},
	{"Watch", RPC_SERVER_STREAM, watch},
};

SERVICE(health, &grpc__health__v1__health__descriptor, methods)
