/* SPDX-License-Identifier: Apache-2.0 */
/* See listener.h. */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/time.h"
#include "rpc/listener.h"

#define ACCEPTS_PER_EVENT 64
#define RETRY_NS (100 * NSEC_PER_MSEC)

struct rpc_listener {
	struct rpc_listener *next;
	int fd;
	struct loop_source *source, *timer;
	void (*fn)(void *arg, int fd);
	void *arg;
};

static void listener_retry(void *arg)
{
	struct rpc_listener *l = arg;

	if (loop_source_set_events(l->source, EPOLLIN) < 0)
		loop_timer_set(l->timer, time_mono() + RETRY_NS);
}

static void listener_event(struct loop_source *s, int fd, uint32_t events, void *arg)
{
	struct rpc_listener *l = arg;

	for (int i = 0; i < ACCEPTS_PER_EVENT; i++) {
		int c = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (c >= 0) {
			l->fn(l->arg, c);
			continue;
		}
		if (errno == EINTR || errno == ECONNABORTED)
			continue;
		if (errno != EAGAIN && loop_source_set_events(s, 0) == 0)
			loop_timer_set(l->timer, time_mono() + RETRY_NS);
		return;
	}
}

static void listener_free(struct rpc_listener *l)
{
	loop_source_free(l->source);
	loop_source_free(l->timer);
	fd_closep(&l->fd);
	free(l);
}

DEFINE_CLEANUP(struct rpc_listener *, listener_free)

int rpc_listener_add(struct rpc_listener **list, struct loop *loop, int fd,
		     void (*fn)(void *arg, int fd), void *arg)
{
	_cleanup_(listener_freep) struct rpc_listener *l = calloc(1, sizeof(*l));
	int r;

	if (!l)
		return -ENOMEM;
	l->fd = -1;
	l->fn = fn;
	l->arg = arg;
	r = fd_set_nonblock(fd, true);
	if (r < 0)
		return r;
	r = loop_add_timer(loop, 0, listener_retry, l, &l->timer);
	if (r < 0)
		return r;
	r = loop_add_fd(loop, fd, EPOLLIN, listener_event, l, &l->source);
	if (r < 0)
		return r;
	l->fd = fd;
	l->next = *list;
	*list = TAKE_PTR(l);
	return 0;
}

void rpc_listeners_free(struct rpc_listener **list)
{
	struct rpc_listener *next;

	for (struct rpc_listener *l = *list; l; l = next) {
		next = l->next;
		listener_free(l);
	}
	*list = NULL;
}
