/* SPDX-License-Identifier: Apache-2.0 */
/* /debug/pprof/: what containerd's pprof plugin answers, as far as a C program has it. */
#pragma once

#include "base/arena.h"
#include "core/front.h"

struct daemon;

/* In @a; NULL = no memory. */
const struct front_route *pprof_routes(struct daemon *d, struct arena *a, size_t *ret_n);
