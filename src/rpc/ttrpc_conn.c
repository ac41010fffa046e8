/* SPDX-License-Identifier: Apache-2.0 */
/* See ttrpc_conn.h. */
#include <errno.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/fd.h"
#include "rpc/ttrpc_conn.h"

#define READ_CHUNK (64u << 10)
#define READS_PER_EVENT 8
#define IOV_BATCH 64
/* A stream's unread bytes before its connection is not read any further. */
#define IN_PAUSE ((size_t)4 << 20)

static void msg_written(struct rpc_msg *m)
{
	struct rpc_pipe *p = m->owner;

	if (p) {
		pthread_mutex_lock(&p->mu);
		p->unsent -= m->size;
		if (p->writers)
			pthread_cond_broadcast(&p->cond);
		pthread_mutex_unlock(&p->mu);
		rpc_pipe_unref(p);
	}
	rpc_msg_free(m);
}

static void conn_events(struct ttrpc_conn *c)
{
	uint32_t ev = (c->paused || c->full ? 0 : EPOLLIN) | (c->want_out ? EPOLLOUT : 0);

	if (loop_source_set_events(c->source, ev) < 0)
		c->dead = true;
}

bool ttrpc_conn_write(struct ttrpc_conn *c)
{
	while (!c->dead && c->out.head) {
		struct iovec iov[IOV_BATCH];
		struct msghdr mh = {.msg_iov = iov};
		ssize_t n;

		for (struct rpc_msg *m = c->out.head; m && mh.msg_iovlen < IOV_BATCH; m = m->next)
			iov[mh.msg_iovlen++] = (struct iovec){m->p, m->n};
		n = sendmsg(c->fd, &mh, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) {
			c->dead = true;
			break;
		}
		while (c->out.head && (size_t)n >= c->out.head->n) {
			n -= (ssize_t)c->out.head->n;
			msg_written(rpc_queue_pop(&c->out));
		}
		if (c->out.head) {
			c->out.head->p += n;
			c->out.head->n -= (size_t)n;
		}
	}
	bool want = c->out.head,
	     full = c->out_max && c->out.bytes + c->out.count * sizeof(struct rpc_msg) > c->out_max;
	if (!c->dead && (want != c->want_out || full != c->full)) {
		c->want_out = want;
		c->full = full;
		conn_events(c);
	}
	return !c->dead;
}

static void conn_feed(struct ttrpc_conn *c, const uint8_t *p, size_t n)
{
	struct ttrpc_header h;
	struct rpc_msg *m;
	int r;

	while (!c->dead && (r = ttrpc_reader_feed(&c->reader, &p, &n, &h, &m)) != 0) {
		if (r < 0)
			c->dead = true;
		else
			c->ops->frame(c, &h, m);
	}
}

static void conn_read(struct ttrpc_conn *c)
{
	uint8_t b[READ_CHUNK];

	for (int i = 0; i < READS_PER_EVENT && !c->dead && !c->paused && !c->full; i++) {
		ssize_t n = recv(c->fd, b, sizeof(b), MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			c->dead = true;
			return;
		}
		conn_feed(c, b, (size_t)n);
		if ((size_t)n < sizeof(b))
			return;
	}
}

static void conn_event(struct loop_source *s, int fd, uint32_t events, void *arg)
{
	struct ttrpc_conn *c = arg;

	if (events & EPOLLIN)
		conn_read(c);
	else if (events & (EPOLLHUP | EPOLLERR))
		c->dead = true;
	if (!ttrpc_conn_write(c))
		c->ops->closed(c);
	else if (!c->out.head && c->ops->written)
		c->ops->written(c);
}

int ttrpc_conn_init(struct ttrpc_conn *c, struct loop *l, int fd, const struct ttrpc_conn_ops *ops)
{
	int r = fd_set_nonblock(fd, true);

	if (r < 0)
		return r;
	c->ops = ops;
	r = loop_add_fd(l, fd, EPOLLIN, conn_event, c, &c->source);
	if (r < 0)
		return r;
	c->fd = fd;
	return 0;
}

void ttrpc_conn_done(struct ttrpc_conn *c)
{
	struct rpc_msg *m;

	c->dead = true;
	loop_source_free(TAKE_PTR(c->source));
	if (c->fd >= 0)
		fd_closep(&c->fd);
	c->fd = -1;
	while ((m = rpc_queue_pop(&c->out)))
		msg_written(m);
	ttrpc_reader_done(&c->reader);
	if (c->paused)
		rpc_pipe_unref(TAKE_PTR(c->paused));
}

void ttrpc_conn_queue(struct ttrpc_conn *c, struct rpc_msg *m)
{
	if (c->dead)
		msg_written(m);
	else
		rpc_queue_push(&c->out, m);
}

void ttrpc_conn_queue_data(struct ttrpc_conn *c, struct rpc_pipe *p, uint32_t id)
{
	for (;;) {
		struct rpc_msg *m;

		pthread_mutex_lock(&p->mu);
		m = rpc_queue_pop(&p->out);
		if (m)
			p->unsent += m->size;
		pthread_mutex_unlock(&p->mu);
		if (!m)
			return;
		m->owner = p;
		rpc_pipe_ref(p);
		ttrpc_frame_wrap(m, id, TTRPC_DATA, 0);
		ttrpc_conn_queue(c, m);
	}
}

int ttrpc_conn_queue_message(struct ttrpc_conn *c, uint32_t id, uint8_t type, uint8_t flags,
			     const ProtobufCMessage *msg)
{
	struct rpc_msg *m = rpc_msg_new(msg ? protobuf_c_message_get_packed_size(msg) : 0);

	if (!m)
		return -ENOMEM;
	if (msg)
		protobuf_c_message_pack(msg, m->p);
	ttrpc_frame_wrap(m, id, type, flags);
	ttrpc_conn_queue(c, m);
	return 0;
}

void ttrpc_conn_pause(struct ttrpc_conn *c, struct rpc_pipe *p)
{
	bool full;

	if (c->paused || c->dead)
		return;
	pthread_mutex_lock(&p->mu);
	full = p->in.bytes > IN_PAUSE && !p->in_closed;
	if (full)
		p->want_drain = true;
	pthread_mutex_unlock(&p->mu);
	if (!full)
		return;
	rpc_pipe_ref(p);
	c->paused = p;
	conn_events(c);
}

void ttrpc_conn_resume(struct ttrpc_conn *c, struct rpc_pipe *p, bool gone)
{
	if (c->paused != p)
		return;
	pthread_mutex_lock(&p->mu);
	gone = gone || !p->in.head || p->in_closed || p->ended;
	if (!gone)
		p->want_drain = true;
	pthread_mutex_unlock(&p->mu);
	if (!gone)
		return;
	rpc_pipe_unref(TAKE_PTR(c->paused));
	if (!c->dead)
		conn_events(c);
}
