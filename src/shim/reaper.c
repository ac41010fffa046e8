/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/reaper.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "base/time.h"
#include "sys/spawn.h"

#define KEPT_MAX 1024

struct kept {
	pid_t pid;
	int status;
	struct timespec at;
};

struct reaper {
	struct loop_source *signal;
	struct reaper_watch *watches;
	unsigned holds;
	struct kept *kept; /* a ring once it is full; only while held */
	size_t n_kept, next_kept, cap_kept;
};

static void on_child(int signo, void *arg)
{
	reaper_run(arg);
}

int reaper_new(struct loop *l, struct reaper **ret)
{
	struct reaper *r = calloc(1, sizeof(*r));
	int e;

	if (!r)
		return -ENOMEM;
	if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0) {
		e = -errno;
		free(r);
		return e;
	}
	e = loop_add_signal(l, SIGCHLD, on_child, r, &r->signal);
	if (e < 0) {
		free(r);
		return e;
	}
	*ret = r;
	return 0;
}

void reaper_free(struct reaper *r)
{
	if (!r)
		return;
	loop_source_free(r->signal);
	free(r->kept);
	free(r);
}

static bool kept_take(struct reaper *r, pid_t pid, struct kept *ret)
{
	for (size_t i = 0; i < r->n_kept; i++) {
		if (r->kept[i].pid == pid) {
			*ret = r->kept[i];
			r->kept[i].pid = 0;
			return true;
		}
	}
	return false;
}

static void kept_add(struct reaper *r, const struct kept *k)
{
	if (r->n_kept == r->cap_kept && r->cap_kept < KEPT_MAX) {
		size_t cap = r->cap_kept ? r->cap_kept * 2 : 16;
		struct kept *v = realloc(r->kept, cap * sizeof(*v));

		if (!v)
			return;
		r->kept = v;
		r->cap_kept = cap;
	}
	if (r->n_kept < r->cap_kept) {
		r->kept[r->n_kept++] = *k;
		return;
	}
	r->kept[r->next_kept] = *k;
	r->next_kept = (r->next_kept + 1) % r->cap_kept;
}

void reaper_watch(struct reaper *r, struct reaper_watch *w, pid_t pid, reaper_fn fn, void *arg)
{
	struct kept k;

	if (kept_take(r, pid, &k)) {
		w->pid = 0;
		fn(arg, k.status, k.at);
		return;
	}
	*w = (struct reaper_watch){.pid = pid, .fn = fn, .arg = arg, .next = r->watches};
	r->watches = w;
}

void reaper_unwatch(struct reaper *r, struct reaper_watch *w)
{
	if (!w->pid)
		return;
	for (struct reaper_watch **p = &r->watches; *p; p = &(*p)->next) {
		if (*p == w) {
			*p = w->next;
			break;
		}
	}
	w->pid = 0;
}

void reaper_kill(const struct reaper *r, pid_t pid, int sig)
{
	for (size_t i = 0; i < r->n_kept; i++)
		if (r->kept[i].pid == pid)
			return;
	kill(pid, sig);
}

void reaper_hold(struct reaper *r)
{
	r->holds++;
}

void reaper_release(struct reaper *r)
{
	if (--r->holds > 0)
		return;
	free(r->kept);
	r->kept = NULL;
	r->n_kept = r->cap_kept = r->next_kept = 0;
}

static void tell(struct reaper *r, const struct kept *k)
{
	for (struct reaper_watch **p = &r->watches; *p; p = &(*p)->next) {
		struct reaper_watch *w = *p;

		if (w->pid != k->pid)
			continue;
		*p = w->next;
		w->pid = 0;
		w->fn(w->arg, k->status, k->at);
		return;
	}
	if (r->holds)
		kept_add(r, k);
}

void reaper_run(struct reaper *r)
{
	for (;;) {
		siginfo_t si = {0};

		if (waitid(P_ALL, 0, &si, WEXITED | WNOHANG) < 0) {
			if (errno == EINTR)
				continue;
			return;
		}
		if (si.si_pid == 0)
			return;

		struct kept k = {si.si_pid, siginfo_status(&si), time_now()};

		tell(r, &k);
	}
}
