/* SPDX-License-Identifier: Apache-2.0 */
/* Event loop over epoll: descriptors, timers, signals, children, and work posted from other
 * threads.
 *
 * One thread runs a loop (loop_run). Callbacks run on it, must not block, and may add and free any
 * source, their own included. Everything is for the loop's thread only, but loop_post() and
 * loop_stop(). Returns 0 or -errno.
 */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/types.h>

#include "base/cleanup.h"

struct loop;
struct loop_source;

typedef void (*loop_fd_fn)(struct loop_source *s, int fd, uint32_t events, void *arg);
typedef void (*loop_fn)(void *arg);

int loop_new(struct loop **ret);
/* Frees sources that are left (their descriptors are not closed) and drops posted work. */
void loop_free(struct loop *l);
/* Until loop_stop(). */
int loop_run(struct loop *l);
/* One round: waits at most @timeout_ms (-1 = without end). For programs that mix their own waiting.
 */
int loop_run_once(struct loop *l, int timeout_ms);
void loop_stop(struct loop *l);
/* A driven loop has no thread of its own: one thread does all with it, and runs it whenever it
 * waits for something that comes through it. Not while loop_run() is at it. */
void loop_drive(struct loop *l, bool driven);
bool loop_is_driven(const struct loop *l);
/* For a poll() of one's own: readable when there is something to run; how long to wait at most, -1
 * = without end. */
int loop_fd(const struct loop *l);
int loop_timeout(const struct loop *l);
/* True on the thread that runs the loop; of a driven one, while it does. */
bool loop_is_current(const struct loop *l);

/* @events: EPOLLIN, EPOLLOUT, EPOLLET...; level-triggered unless asked. The descriptor stays the
 * caller's. */
int loop_add_fd(struct loop *l, int fd, uint32_t events, loop_fd_fn fn, void *arg,
		struct loop_source **ret);
int loop_source_set_events(struct loop_source *s, uint32_t events);

/* Fires once at monotonic @at_ns (0 = disarmed); rearm with loop_timer_set(). */
int loop_add_timer(struct loop *l, int64_t at_ns, loop_fn fn, void *arg, struct loop_source **ret);
void loop_timer_set(struct loop_source *s, int64_t at_ns);

/* Blocks @signo for the calling thread (call before threads start) and delivers it to @fn. */
int loop_add_signal(struct loop *l, int signo, void (*fn)(int signo, void *arg), void *arg,
		    struct loop_source **ret);

/* Reaps the child behind @pidfd (not closed here) once and calls @fn with its wait status; the
 * source is freed before the call. */
typedef void (*loop_child_fn)(const siginfo_t *si, void *arg);
int loop_add_child(struct loop *l, int pidfd, loop_child_fn fn, void *arg,
		   struct loop_source **ret);

void loop_source_free(struct loop_source *s); /* NULL is fine */

/* Runs @fn on the loop's thread, in order of posting. Any thread. -ENOMEM. */
int loop_post(struct loop *l, loop_fn fn, void *arg);

DEFINE_CLEANUP(struct loop *, loop_free)
