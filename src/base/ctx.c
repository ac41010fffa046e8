/* SPDX-License-Identifier: Apache-2.0 */
/* Context of a request: see ctx.h. */
#include "base/ctx.h"

#include <limits.h>

#include "base/str.h"
#include "base/time.h"

struct ctx ctx_part(const struct ctx *ctx, struct arena *a)
{
	return (struct ctx){.arena = a,
			    .ns = ctx->ns,
			    .lease = ctx->lease,
			    .deadline = ctx->deadline,
			    .parent = ctx};
}

int ctx_check(const struct ctx *ctx, struct err *err)
{
	if (ctx->parent) {
		int r = ctx_check(ctx->parent, err);
		if (r < 0)
			return r;
	}
	if (atomic_load_explicit(&ctx->canceled, memory_order_relaxed)) {
		if (ctx->deadline && time_mono() >= ctx->deadline)
			return err_set(err, ERR_DEADLINE_EXCEEDED, "%s", "");
		return err_set(err, ERR_CANCELED, "%s", "");
	}
	if (ctx->deadline && time_mono() >= ctx->deadline)
		return err_set(err, ERR_DEADLINE_EXCEEDED, "%s", "");
	return 0;
}

int ctx_namespace(const struct ctx *ctx, const char **ret_ns, struct err *err)
{
	if (str_empty(ctx->ns))
		return err_set(err, ERR_FAILED_PRECONDITION, "namespace is required");
	if (ident_validate(ctx->ns, err) < 0)
		return err_prefix(err, "namespace validation"), -ERR_INVALID_ARGUMENT;
	*ret_ns = ctx->ns;
	return 0;
}

int ctx_poll_ms(const struct ctx *ctx)
{
	if (!ctx->deadline)
		return -1;
	int64_t left = ctx->deadline - time_mono();
	if (left <= 0)
		return 0;
	left = left / NSEC_PER_MSEC + 1;
	return left > INT_MAX ? INT_MAX : (int)left;
}
