/* SPDX-License-Identifier: Apache-2.0 */
/* A directory of the command's own, with all that is in it, which goes also when a signal ends ctr:
 * what a converted image takes there is large, and nobody else would know that it may go.
 *
 * From scratch_make() to scratch_done() SIGHUP, SIGINT and SIGTERM are blocked in the caller's
 * thread, and so in those that it starts; a thread of the directory's own waits for them. When one
 * comes, it removes the directory and lets the signal end the process. One at a time. */
#pragma once

#include <pthread.h>
#include <signal.h>

#include "base/cleanup.h"
#include "base/err.h"

struct scratch {
	char *path; /* NULL = not made */
	sigset_t old;
	pthread_t thread;
	int signal_fd, stop_fd;
};

/* @template: a path for mkdtemp(). @ret must stay where it is until scratch_done(). */
int scratch_make(const char *template, struct scratch *ret, struct err *err) _must_check_;
/* Removes the directory; @s may be all zero. What fails is told as a warning. */
void scratch_done(struct scratch *s);
#define _cleanup_scratch_ _cleanup_(scratch_done)
