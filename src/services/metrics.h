/* SPDX-License-Identifier: Apache-2.0 */
/* Metrics in the text format of Prometheus: containers, for the daemon's metrics server. */
#pragma once

#include "base/buf.h"
#include "base/ctx.h"
#include "base/err.h"

struct runtime;

/* A label's value with quotes around it and what is inside escaped. */
void metrics_label(struct buf *b, const char *value);

/* Appends the metrics container_*: what the cgroups of all tasks use. Asks all shims (see
 * plugins/runtime/metrics.h); blocks. */
int metrics_tasks(struct ctx *ctx, struct runtime *rt, struct buf *b, struct err *err) _must_check_;
