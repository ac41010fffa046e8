/* SPDX-License-Identifier: Apache-2.0 */
/* containerd.services.streaming.v1.Streaming */
#include "base/str.h"
#include "plugins/streaming/manager.h"
#include "services/pb.h"
#include "services/services.h"

static int stream_(struct rpc_call *call, const void *unused, struct err *err)
{
	struct services *s = rpc_data(call);
	struct ctx *ctx = rpc_ctx(call);
	Google__Protobuf__Any *any;
	Containerd__Services__Streaming__V1__StreamInit *init;
	const ProtobufCMessageDescriptor *desc =
		&containerd__services__streaming__v1__stream_init__descriptor;
	int e = rpc_recv(call, (ProtobufCMessage **)&any, err);
	if (e < 0)
		return e;
	const char *slash = e ? strrchr(any->type_url, '/') : NULL;
	if (e == 0 || !streq(slash ? slash + 1 : any->type_url, desc->name))
		return err_set(err, ERR_INVALID_ARGUMENT, "first message of a stream must be %s",
			       desc->name);
	e = rpc_unpack(ctx->arena, desc, any->value.data, any->value.len, &init, err);
	return e < 0 ? e : streams_serve(s->streams, call, init->id, err);
}

static const struct rpc_method methods[] = {
	{"Stream", RPC_BIDI, stream_},
};

SERVICE(streaming, &containerd__services__streaming__v1__streaming__descriptor, methods)
