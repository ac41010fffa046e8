/* SPDX-License-Identifier: Apache-2.0 */
/* Input and output of one process of a container: fifos, files, a log of Kubernetes, a logger
 * program, or a terminal.
 *
 * Without a terminal the process gets pipes and the shim moves their bytes; a logger gets the other
 * end of the pipes itself. Both ends of output fifos and the writing end of the input fifo stay
 * open here, so that clients may come and go: a process whose output nobody reads stalls when the
 * fifo is full, and its input ends only after pio_close_stdin().
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "event/loop.h"
#include "shim/reaper.h"

struct pio;

struct pio_options {
	struct loop *loop;
	struct reaper *reaper;
	const char *ns, *id; /* of the container: a logger's environment */
	const char *in, *out, *err;
	bool terminal;
	uint32_t uid, gid;	   /* owner of the pipes */
	void (*active)(void *arg); /* bytes go through this process; may be NULL */
	void *active_arg;
};

/* @err NULL = ready. */
typedef void (*pio_ready_fn)(void *arg, const struct err *err);
typedef void (*pio_fn)(void *arg);

/* Opens everything and starts the logger. @fn is called once from the loop (maybe before this
 * returns) when the process may be made, unless pio_free() comes first; not at all when this fails.
 */
int pio_open(const struct pio_options *o, pio_ready_fn fn, void *arg, struct pio **ret,
	     struct err *err) _must_check_;

/* What the process gets as descriptor @i (0..2); -1 = /dev/null. Valid until pio_start(). */
int pio_child_fd(const struct pio *p, int i);
/* The process runs: closes its ends and begins to move. @console: master of its terminal (taken
 * over), -1 = none. */
int pio_start(struct pio *p, int console, struct err *err) _must_check_;
int pio_resize(struct pio *p, unsigned width, unsigned height); /* -ENOTTY without a terminal */
/* Its input ends when clients have closed their ends too and what is buffered was read. */
void pio_close_stdin(struct pio *p);
/* The process has ended: no more input. */
void pio_exited(struct pio *p);

/* Waits until the output is drained and ends the logger (SIGTERM, after 12 s SIGKILL), then frees
 * and calls @fn; maybe before this returns. Somebody else may hold the output open for ever, or
 * nobody read it any more: what has not moved for 2 s, or not come to an end in 10 s, is given up.
 */
void pio_finish(struct pio *p, pio_fn fn, void *arg);
/* At once, killing the logger. NULL is fine. */
void pio_free(struct pio *p);
