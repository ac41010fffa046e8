/* SPDX-License-Identifier: Apache-2.0 */
/* Looking at the running process: where it spends its time, and where its threads are.
 *
 * Signals interrupt threads and their handlers note the stack. Nothing is prepared or costs
 * anything while nobody looks. One profile at a time. */
#pragma once

#include <stdatomic.h>

#include "base/buf.h"
#include "base/err.h"

#define PROFILE_SECONDS_MAX 600

/* Samples for @ns nanoseconds, or until *@end: 100 times a second of CPU time, all threads. Appends
 * a profile in pprof's format (gzip around a protobuf message), whose addresses are resolved by
 * build ids and mappings.
 *
 * -ERR_FAILED_PRECONDITION  there is a profile already; -ERR_RESOURCE_EXHAUSTED no memory */
int profile_cpu(int64_t ns, const atomic_bool *end, struct buf *b, struct err *err) _must_check_;

/* Appends a text: name, state and stack of all threads. */
int profile_threads(struct buf *b, struct err *err) _must_check_;

/* Appends "symbol+0x12 (file)" or "file+0x1234". */
void profile_address(struct buf *b, const void *address);
