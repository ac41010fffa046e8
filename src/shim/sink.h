/* SPDX-License-Identifier: Apache-2.0 */
/* Output of a process into a log of Kubernetes, and to whoever is attached to it.
 *
 * It needs nobody else: a daemon that stops, dies or is replaced is not noticed here. Those who are
 * attached come by a socket (sys/attach.h); one that does not keep up is hung up (or misses a part,
 * with a terminal), and is never waited for. A log that cannot be written loses output, the process
 * goes on. Memory at rest: none but the beginning of a line whose end has not come. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "event/loop.h"

struct sink;

struct sink_options {
	struct loop *loop;
	const char *socket; /* where to attach */
	const char *log;    /* file, "" = none */
	int64_t limit;	    /* of a line */
	bool terminal;
	void (*active)(void *arg); /* bytes have come */
	void *active_arg;
};

/* Opens the log and listens. */
int sink_open(const struct sink_options *o, struct sink **ret, struct err *err) _must_check_;
/* Reads from @src (taken over, whatever happens) as stream 0 or 1. @fn is called, from the loop,
 * when it has ended. 0 or -errno. */
int sink_start(struct sink *s, int stream, int src, void (*fn)(void *arg), void *arg);
/* Whether a stream has not ended. */
bool sink_running(const struct sink *s);
/* Bytes that have come. */
uint64_t sink_moved(const struct sink *s);
/* Ends what has not ended, without a call back. */
void sink_stop(struct sink *s);
void sink_free(struct sink *s); /* NULL is fine */
