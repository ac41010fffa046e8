/* SPDX-License-Identifier: Apache-2.0 */
/* What GET /v1/metrics answers. */
#pragma once

#include "base/buf.h"

struct daemon;

/* Appends all metrics, in the text format of Prometheus. Blocks (shims are asked). What cannot be
 * told is left out. */
void metrics_render(struct daemon *d, struct buf *b);
