/* SPDX-License-Identifier: Apache-2.0 */
/* Context of a request: goes first in every call of core and services.
 *
 * Owned by the call (rpc) or by whoever starts work of the daemon's own (ctx_init). @arena is used
 * by the thread that runs the request only; @canceled may be set by any thread. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"

struct ctx {
	struct arena *arena;
	const char *ns;	   /* containerd namespace, "" when the client sent none */
	const char *lease; /* lease id, "" when none */
	int64_t deadline;  /* monotonic ns, 0 = none */
	atomic_bool canceled;
	const struct ctx *parent; /* whose end is this one's, too; it lives longer; NULL = none */
};

/* A part of what @ctx does that has memory of its own, @a: ends with it. */
struct ctx ctx_part(const struct ctx *ctx, struct arena *a);

/* -ERR_CANCELED or -ERR_DEADLINE_EXCEEDED when the request is over; for loops that take long. */
int ctx_check(const struct ctx *ctx, struct err *err) _must_check_;

/* The namespace, checked: -ERR_FAILED_PRECONDITION "namespace is required", -ERR_INVALID_ARGUMENT
 * "namespace validation: ...". */
int ctx_namespace(const struct ctx *ctx, const char **ret_ns, struct err *err) _must_check_;

/* Milliseconds for poll() until the deadline: -1 = none, 0 = over. */
int ctx_poll_ms(const struct ctx *ctx);
