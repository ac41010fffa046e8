/* SPDX-License-Identifier: Apache-2.0 */
/* Children of the shim: those that it starts, and those that it inherits as a subreaper (the
 * containers' processes).
 *
 * Everything is reaped on SIGCHLD and told to whoever watches the pid. A container's process may
 * end before its pid is known (the runtime writes it to a file): while somebody holds the reaper (a
 * runtime that makes a process is running), ends of unwatched pids are kept, and a watch that comes
 * late finds them. A pid cannot come back in that time unnoticed, because what was kept is dropped
 * with the last hold.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>
#include <time.h>

#include "event/loop.h"

struct reaper;

/* @status: exit code, or 128 + signal. @at: when it was reaped. */
typedef void (*reaper_fn)(void *arg, int status, struct timespec at);

struct reaper_watch {
	pid_t pid; /* 0 = not watching */
	reaper_fn fn;
	void *arg;
	struct reaper_watch *next;
};

/* Makes this process a subreaper. 0 or -errno. */
int reaper_new(struct loop *l, struct reaper **ret);
void reaper_free(struct reaper *r);

/* @w is the caller's and stays until it was called or reaper_unwatch(); @fn is called once, from
 * the loop. When the process has ended before, @fn is called at once, before this returns. */
void reaper_watch(struct reaper *r, struct reaper_watch *w, pid_t pid, reaper_fn fn, void *arg);
void reaper_unwatch(struct reaper *r, struct reaper_watch *w);

/* Signals a child that is not watched yet, while the reaper is held: one that has been reaped since
 * then is left alone, as its pid may be another's by now. */
void reaper_kill(const struct reaper *r, pid_t pid, int sig);

void reaper_hold(struct reaper *r);
void reaper_release(struct reaper *r);

/* Reaps what has ended by now; done on SIGCHLD by itself. */
void reaper_run(struct reaper *r);
