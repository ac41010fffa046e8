/* SPDX-License-Identifier: Apache-2.0 */
/* What a runtime says about itself: `<shim> -info`, with options on its standard input and a
 * RuntimeInfo as answer. */
#include "base/str.h"
#include "base/time.h"
#include "plugins/runtime/runtime.h"
#include "plugins/runtime/shim.h"
#include "protos.h"
#include "sys/spawn.h"

#define INFO_MAX (1u << 20)
#define INFO_NS (30 * NSEC_PER_SEC)
#define STDERR_SHOWN 1000

static uint8_t *pack_options(struct arena *a, const struct any *options, size_t *ret_n)
{
	Google__Protobuf__Any any = GOOGLE__PROTOBUF__ANY__INIT;
	if (options->type_url) {
		any.type_url = (char *)options->type_url;
		any.value = (ProtobufCBinaryData){.data = (uint8_t *)options->value,
						  .len = options->len};
	}
	return rpc_pack(a, &any.base, ret_n);
}

int runtime_info(struct ctx *ctx, const char *runtime, const struct any *options, struct any *ret,
		 struct err *err)
{
	struct arena *a = ctx->arena;
	struct spawn_options o = SPAWN_OPTIONS_INIT;
	Containerd__Types__RuntimeInfo *info;
	char *binary, *out, *errs;
	size_t in_len, n;
	int status, r = shim_binary(ctx, runtime, &binary, err);
	if (r < 0)
		return r;
	char *argv[] = {binary, (char *)"-info", NULL};
	uint8_t *in = pack_options(a, options, &in_len);
	if (!in)
		return err_nomem(err);
	o.path = binary;
	o.argv = argv;
	o.new_pgroup = true;
	o.ctx = ctx;
	r = spawn_run(a, &o, in, in_len, INFO_MAX, time_mono() + INFO_NS, &out, &n, &errs, &status,
		      err);
	if (r < 0)
		return r;
	if (status)
		return err_set(err, ERR_UNKNOWN,
			       "failed to run [%s -info]: exit status %d (stderr: \"%.*s\")",
			       binary, status, STDERR_SHOWN, errs);
	r = rpc_unpack(a, &containerd__types__runtime_info__descriptor, out, n, &info, err);
	if (r < 0)
		return err_prefix(err, "answer of [%s -info]", binary);
	*ret = (struct any){"containerd.types.RuntimeInfo", out, n};
	return 0;
}
