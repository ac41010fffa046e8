/* SPDX-License-Identifier: Apache-2.0 */
/* The FIFO `log` of a bundle: what a shim writes there goes to the daemon's standard error.
 *
 * Both ends are held open, so the shim may come and go, and a FIFO without a writer is quiet. */
#pragma once

#include "plugins/runtime/bundle.h"

struct loop;
struct shim_log;

/* Any thread. */
int shim_log_open(struct loop *loop, struct arena *a, const struct bundle *b, struct shim_log **ret,
		  struct err *err) _must_check_;
/* On the loop's thread, or when the loop has ended. NULL is fine. */
void shim_log_free(struct shim_log *l);
