/* SPDX-License-Identifier: Apache-2.0 */
/* Elastic pool of worker threads for code that blocks.
 *
 * A job never waits behind jobs that are blocked: when the threads do not get on a new one is
 * started (up to @max), and threads that had nothing to do for a while end. Any thread may submit.
 */
#pragma once

#include <stddef.h>

#include "base/cleanup.h"

struct pool;

/* @max threads at most (0 = 4096: what is blocked at the same time). Starts none. 0 or -errno. */
int pool_new(size_t max, struct pool **ret);
/* Waits for running and queued jobs, then frees. */
void pool_free(struct pool *p);
/* 0 or -errno (-ENOMEM; -EAGAIN when no thread runs and none could be started). */
int pool_submit(struct pool *p, void (*fn)(void *arg), void *arg);
/* Threads alive, for tests and metrics. */
size_t pool_size(struct pool *p);

DEFINE_CLEANUP(struct pool *, pool_free)
