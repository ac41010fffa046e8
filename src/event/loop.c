/* SPDX-License-Identifier: Apache-2.0 */
/* Event loop: see loop.h.
 *
 * Sources are heap objects in a list. A source that is freed while a round of events is being
 * dispatched is only marked dead, so that events of the same round that still point to it are
 * skipped; it goes after the round. Timers are a binary heap by time. Posted work is a list under a
 * mutex, taken over whole when the eventfd fires.
 */
#include "event/loop.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#include "base/time.h"

enum kind { FD, TIMER, SIGNAL, CHILD };

struct loop_source {
	struct loop *loop;
	struct loop_source *prev, *next;
	enum kind kind;
	bool dead;
	int fd; /* watched by epoll; -1 for timers. A signalfd is ours, others are the caller's */
	void *arg;
	union {
		loop_fd_fn fd_fn;
		loop_fn timer_fn;
		void (*signal_fn)(int signo, void *arg);
		loop_child_fn child_fn;
	};
	int64_t at; /* TIMER: 0 = disarmed */
	size_t heap_index;
};

struct post {
	struct post *next;
	loop_fn fn;
	void *arg;
};

struct loop {
	int epoll, wake;
	atomic_bool stop;
	_Atomic pthread_t thread;
	atomic_bool running;
	atomic_bool driven;
	struct loop_source *sources, *dead;
	struct loop_source **heap;
	size_t heap_n, heap_cap;
	size_t timers;	      /* that exist, armed or not */
	pthread_mutex_t lock; /* guards posts */
	struct post *posts, **posts_end;
};

/* ---- timers ---- */

static void heap_place(struct loop *l, size_t i, struct loop_source *s)
{
	l->heap[i] = s;
	s->heap_index = i;
}

static void heap_up(struct loop *l, size_t i)
{
	struct loop_source *s = l->heap[i];
	while (i > 0 && l->heap[(i - 1) / 2]->at > s->at) {
		heap_place(l, i, l->heap[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
	heap_place(l, i, s);
}

static void heap_down(struct loop *l, size_t i)
{
	struct loop_source *s = l->heap[i];
	for (;;) {
		size_t child = 2 * i + 1;
		if (child >= l->heap_n)
			break;
		if (child + 1 < l->heap_n && l->heap[child + 1]->at < l->heap[child]->at)
			child++;
		if (l->heap[child]->at >= s->at)
			break;
		heap_place(l, i, l->heap[child]);
		i = child;
	}
	heap_place(l, i, s);
}

static void heap_remove(struct loop *l, struct loop_source *s)
{
	size_t i = s->heap_index;
	struct loop_source *last = l->heap[--l->heap_n];
	if (last != s) {
		heap_place(l, i, last);
		heap_up(l, i);
		heap_down(l, last->heap_index);
	}
	s->at = 0;
}

/* Room for every timer that exists is reserved when it is made, so arming cannot fail. */
static int heap_reserve(struct loop *l)
{
	if (l->timers < l->heap_cap)
		return 0;
	size_t cap = l->heap_cap ? l->heap_cap * 2 : 16;
	struct loop_source **heap = realloc(l->heap, cap * sizeof(struct loop_source *));
	if (!heap)
		return -ENOMEM;
	l->heap = heap;
	l->heap_cap = cap;
	return 0;
}

void loop_timer_set(struct loop_source *s, int64_t at_ns)
{
	struct loop *l = s->loop;
	if (s->at)
		heap_remove(l, s);
	if (!at_ns)
		return;
	s->at = at_ns;
	heap_place(l, l->heap_n++, s);
	heap_up(l, s->heap_index);
}

/* ---- sources ---- */

static struct loop_source *source_new(struct loop *l, enum kind kind, int fd, void *arg)
{
	struct loop_source *s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	s->loop = l;
	s->kind = kind;
	s->fd = fd;
	s->arg = arg;
	s->next = l->sources;
	if (s->next)
		s->next->prev = s;
	l->sources = s;
	l->timers += kind == TIMER;
	return s;
}

static int source_watch(struct loop_source *s, uint32_t events)
{
	struct epoll_event e = {.events = events, .data.ptr = s};
	if (epoll_ctl(s->loop->epoll, EPOLL_CTL_ADD, s->fd, &e) == 0)
		return 0;
	int r = -errno;
	s->fd = -1;
	loop_source_free(s);
	return r;
}

void loop_source_free(struct loop_source *s)
{
	if (!s || s->dead)
		return;
	struct loop *l = s->loop;
	if (s->kind == TIMER) {
		l->timers--;
		if (s->at)
			heap_remove(l, s);
	} else if (s->fd >= 0) {
		epoll_ctl(l->epoll, EPOLL_CTL_DEL, s->fd, NULL);
		if (s->kind == SIGNAL)
			close(s->fd);
	}
	if (s->prev)
		s->prev->next = s->next;
	else
		l->sources = s->next;
	if (s->next)
		s->next->prev = s->prev;
	s->dead = true;
	s->next = l->dead;
	l->dead = s;
}

static void bury(struct loop *l)
{
	while (l->dead) {
		struct loop_source *s = l->dead;
		l->dead = s->next;
		free(s);
	}
}

int loop_add_fd(struct loop *l, int fd, uint32_t events, loop_fd_fn fn, void *arg,
		struct loop_source **ret)
{
	struct loop_source *s = source_new(l, FD, fd, arg);
	if (!s)
		return -ENOMEM;
	s->fd_fn = fn;
	int r = source_watch(s, events);
	if (r == 0 && ret)
		*ret = s;
	return r;
}

int loop_source_set_events(struct loop_source *s, uint32_t events)
{
	struct epoll_event e = {.events = events, .data.ptr = s};
	return epoll_ctl(s->loop->epoll, EPOLL_CTL_MOD, s->fd, &e) < 0 ? -errno : 0;
}

int loop_add_timer(struct loop *l, int64_t at_ns, loop_fn fn, void *arg, struct loop_source **ret)
{
	int r = heap_reserve(l);
	struct loop_source *s = r == 0 ? source_new(l, TIMER, -1, arg) : NULL;
	if (!s)
		return -ENOMEM;
	s->timer_fn = fn;
	loop_timer_set(s, at_ns);
	if (ret)
		*ret = s;
	return 0;
}

int loop_add_signal(struct loop *l, int signo, void (*fn)(int signo, void *arg), void *arg,
		    struct loop_source **ret)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, signo);
	int r = pthread_sigmask(SIG_BLOCK, &set, NULL);
	if (r)
		return -r;
	int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		return -errno;
	struct loop_source *s = source_new(l, SIGNAL, fd, arg);
	if (!s) {
		close(fd);
		return -ENOMEM;
	}
	s->signal_fn = fn;
	r = source_watch(s, EPOLLIN);
	if (r < 0)
		close(fd);
	else if (ret)
		*ret = s;
	return r;
}

int loop_add_child(struct loop *l, int pidfd, loop_child_fn fn, void *arg, struct loop_source **ret)
{
	struct loop_source *s = source_new(l, CHILD, pidfd, arg);
	if (!s)
		return -ENOMEM;
	s->child_fn = fn;
	int r = source_watch(s, EPOLLIN);
	if (r == 0 && ret)
		*ret = s;
	return r;
}

/* ---- running ---- */

int loop_post(struct loop *l, loop_fn fn, void *arg)
{
	struct post *p = malloc(sizeof(*p));
	if (!p)
		return -ENOMEM;
	*p = (struct post){.fn = fn, .arg = arg};
	pthread_mutex_lock(&l->lock);
	bool first = !l->posts;
	*l->posts_end = p;
	l->posts_end = &p->next;
	pthread_mutex_unlock(&l->lock);
	if (first)
		eventfd_write(l->wake, 1);
	return 0;
}

static void run_posts(struct loop *l)
{
	eventfd_t n;
	eventfd_read(l->wake, &n);
	pthread_mutex_lock(&l->lock);
	struct post *p = l->posts;
	l->posts = NULL;
	l->posts_end = &l->posts;
	pthread_mutex_unlock(&l->lock);
	while (p) {
		struct post *next = p->next;
		p->fn(p->arg);
		free(p);
		p = next;
	}
}

static void dispatch_signal(struct loop_source *s)
{
	struct signalfd_siginfo si;
	while (!s->dead && read(s->fd, &si, sizeof(si)) == sizeof(si))
		s->signal_fn((int)si.ssi_signo, s->arg);
}

static void dispatch_child(struct loop_source *s)
{
	siginfo_t si = {0};
	if (waitid(P_PIDFD, (id_t)s->fd, &si, WEXITED | WNOHANG) == 0 && si.si_pid == 0)
		return; /* not yet */
	loop_child_fn fn = s->child_fn;
	void *arg = s->arg;
	loop_source_free(s);
	fn(&si, arg);
}

static void dispatch(struct loop_source *s, uint32_t events)
{
	if (s->dead)
		return;
	if (s->kind == FD)
		s->fd_fn(s, s->fd, events, s->arg);
	else if (s->kind == SIGNAL)
		dispatch_signal(s);
	else
		dispatch_child(s);
}

/* No more than were armed when it began: one that arms itself in the past comes again in the next
 * round. */
static void run_timers(struct loop *l)
{
	int64_t now = l->heap_n ? time_mono() : 0;
	for (size_t n = l->heap_n; n > 0 && l->heap_n && l->heap[0]->at <= now; n--) {
		struct loop_source *s = l->heap[0];
		heap_remove(l, s);
		s->timer_fn(s->arg);
	}
}

static int wait_ms(const struct loop *l, int timeout_ms)
{
	if (!l->heap_n)
		return timeout_ms;
	int64_t left = l->heap[0]->at - time_mono();
	int64_t ms = left <= 0 ? 0 : (left + NSEC_PER_MSEC - 1) / NSEC_PER_MSEC;
	if (timeout_ms >= 0 && timeout_ms < ms)
		return timeout_ms;
	return (int)MIN(ms, (int64_t)3600000);
}

int loop_run_once(struct loop *l, int timeout_ms)
{
	struct epoll_event events[64];
	atomic_store(&l->thread, pthread_self());
	atomic_store(&l->running, true);
	int n = epoll_wait(l->epoll, events, ARRAY_LEN(events), wait_ms(l, timeout_ms));
	int r = n < 0 && errno != EINTR ? -errno : 0;
	for (int i = 0; i < n; i++) {
		if (events[i].data.ptr)
			dispatch(events[i].data.ptr, events[i].events);
		else
			run_posts(l);
	}
	if (r == 0)
		run_timers(l);
	bury(l);
	if (atomic_load(&l->driven))
		atomic_store(&l->running, false);
	return r;
}

int loop_run(struct loop *l)
{
	int r = 0;
	while (r == 0 && !atomic_load(&l->stop))
		r = loop_run_once(l, -1);
	atomic_store(&l->stop, false);
	atomic_store(&l->running, false);
	return r;
}

void loop_stop(struct loop *l)
{
	atomic_store(&l->stop, true);
	eventfd_write(l->wake, 1);
}

void loop_drive(struct loop *l, bool driven)
{
	atomic_store(&l->driven, driven);
}

bool loop_is_driven(const struct loop *l)
{
	return atomic_load(&l->driven);
}

int loop_fd(const struct loop *l)
{
	return l->epoll;
}

int loop_timeout(const struct loop *l)
{
	return wait_ms(l, -1);
}

bool loop_is_current(const struct loop *l)
{
	return atomic_load(&l->running) && pthread_equal(atomic_load(&l->thread), pthread_self());
}

int loop_new(struct loop **ret)
{
	struct loop *l = calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	pthread_mutex_init(&l->lock, NULL);
	l->posts_end = &l->posts;
	l->epoll = epoll_create1(EPOLL_CLOEXEC);
	l->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct epoll_event e = {.events = EPOLLIN};
	if (l->epoll < 0 || l->wake < 0 || epoll_ctl(l->epoll, EPOLL_CTL_ADD, l->wake, &e) < 0) {
		int r = -errno;
		loop_free(l);
		return r;
	}
	*ret = l;
	return 0;
}

void loop_free(struct loop *l)
{
	if (!l)
		return;
	while (l->sources)
		loop_source_free(l->sources);
	bury(l);
	while (l->posts) {
		struct post *p = l->posts;
		l->posts = p->next;
		free(p);
	}
	free(l->heap);
	if (l->epoll >= 0)
		close(l->epoll);
	if (l->wake >= 0)
		close(l->wake);
	pthread_mutex_destroy(&l->lock);
	free(l);
}
