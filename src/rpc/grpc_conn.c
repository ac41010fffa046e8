/* SPDX-License-Identifier: Apache-2.0 */
/* See grpc_conn.h. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/time.h"
#include "rpc/grpc_conn.h"

#define READ_CHUNK (64u << 10)
#define READS_PER_EVENT 8
/* Taken from the session before it is written. */
#define WRITE_CHUNK (64u << 10)
/* Frames that wait for a peer that does not read. Its calls alone, of which it has a thousand at a
 * time, are far from that; answers to what it has asked above them are not. */
#define QUEUE_MAX 20000
/* Received header lists, as announced. */
#define HEADER_LIST_MAX (64u << 10)

/* Writes c->out; false = not all of it. */
static bool out_write(struct h2_conn *c)
{
	while (c->out_off < c->out.len) {
		ssize_t n = send(c->fd, c->out.data + c->out_off, c->out.len - c->out_off,
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			c->dead = errno != EAGAIN;
			return false;
		}
		c->out_off += (size_t)n;
	}
	c->out_off = 0;
	buf_clear(&c->out);
	return true;
}

/* False = nothing to send, or dead. */
static bool out_collect(struct h2_conn *c)
{
	while (c->out.len < WRITE_CHUNK) {
		const uint8_t *p;
		ssize_t n = nghttp2_session_mem_send(c->session, &p);

		if (n < 0 || (n > 0 && buf_add(&c->out, p, (size_t)n) < 0)) {
			c->dead = true;
			return false;
		}
		if (n == 0)
			break;
	}
	return c->out.len > 0;
}

bool h2_conn_write(struct h2_conn *c)
{
	bool wait = false;

	while (!c->dead) {
		if (!out_write(c)) {
			wait = true;
			break;
		}
		if (!out_collect(c))
			break;
	}
	if (wait && nghttp2_session_get_outbound_queue_size(c->session) > QUEUE_MAX)
		c->dead = true;
	if (c->dead)
		return false;
	if (!wait && c->out.cap)
		buf_done(&c->out);
	if (wait != c->want_out) {
		c->want_out = wait;
		if (loop_source_set_events(c->source, EPOLLIN | (wait ? EPOLLOUT : 0)) < 0)
			c->dead = true;
	}
	if (!wait && !nghttp2_session_want_read(c->session) &&
	    !nghttp2_session_want_write(c->session))
		c->dead = true;
	return !c->dead;
}

static void conn_read(struct h2_conn *c)
{
	uint8_t b[READ_CHUNK];

	for (int i = 0; i < READS_PER_EVENT && !c->dead; i++) {
		ssize_t n = recv(c->fd, b, sizeof(b), MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0 || nghttp2_session_mem_recv(c->session, b, (size_t)n) < 0) {
			c->dead = true;
			return;
		}
		c->last_recv = time_mono();
		if ((size_t)n < sizeof(b))
			return;
	}
}

static void conn_event(struct loop_source *s, int fd, uint32_t events, void *arg)
{
	struct h2_conn *c = arg;

	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		conn_read(c);
	if (!h2_conn_write(c))
		c->closed(c);
}

int h2_conn_init(struct h2_conn *c, struct loop *l, int fd, void (*closed)(struct h2_conn *c))
{
	int r = fd_set_nonblock(fd, true);

	if (r < 0)
		return r;
	c->closed = closed;
	c->last_recv = time_mono();
	r = loop_add_fd(l, fd, EPOLLIN, conn_event, c, &c->source);
	if (r < 0)
		return r;
	c->fd = fd;
	return 0;
}

void h2_conn_done(struct h2_conn *c)
{
	c->dead = true;
	loop_source_free(TAKE_PTR(c->source));
	if (c->fd >= 0)
		fd_closep(&c->fd);
	c->fd = -1;
	nghttp2_session_del(TAKE_PTR(c->session));
	buf_done(&c->out);
}

nghttp2_option *h2_options(void)
{
	nghttp2_option *o;

	if (nghttp2_option_new(&o) != 0)
		return NULL;
	nghttp2_option_set_no_auto_window_update(o, 1);
	nghttp2_option_set_no_closed_streams(o, 1);
	/* Clients that cancel a lot are no attack on a local socket: calls that ended before their
	 * turn do not run. */
	nghttp2_option_set_stream_reset_rate_limit(o, 100000, 10000);
	return o;
}

int h2_submit_settings(nghttp2_session *session, uint32_t max_streams)
{
	nghttp2_settings_entry iv[] = {
		{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, H2_STREAM_WINDOW},
		{NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, HEADER_LIST_MAX},
		{NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
		{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, max_streams},
	};
	/* A client says that it takes no pushes, a server how many streams. */
	bool server = nghttp2_session_check_server_session(session);

	if (server)
		iv[2] = iv[3];
	if (nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, iv, 3) != 0 ||
	    nghttp2_session_set_local_window_size(session, NGHTTP2_FLAG_NONE, 0, H2_CONN_WINDOW) !=
		    0)
		return -ENOMEM;
	return 0;
}

ssize_t h2_pipe_read(struct rpc_pipe *p, uint8_t *buf, size_t room, bool over, bool *ret_end)
{
	size_t total = 0;

	MUTEX_GUARD(&p->mu);
	while (p->out.head && total < room) {
		struct rpc_msg *m = p->out.head;
		size_t n;

		if (!m->framed)
			grpc_frame_wrap(m);
		n = MIN(m->n, room - total);
		memcpy(buf + total, m->p, n);
		m->p += n;
		m->n -= n;
		total += n;
		if (m->n == 0) {
			rpc_msg_free(rpc_queue_pop(&p->out));
			if (p->writers)
				pthread_cond_broadcast(&p->cond);
		}
	}
	*ret_end = !p->out.head && (over || p->out_eof);
	return total == 0 && !*ret_end ? -1 : (ssize_t)total;
}

void h2_credit(struct h2_conn *c, struct rpc_pipe *p, int32_t id, size_t *held, size_t partial,
	       bool gone)
{
	size_t keep = 0;

	pthread_mutex_lock(&p->mu);
	if (!gone && !p->in_closed && !p->ended && p->in.head) {
		keep = p->in.bytes + partial;
		p->want_drain = p->want_drain || partial > 0;
	}
	pthread_mutex_unlock(&p->mu);
	if (*held <= keep)
		return;
	nghttp2_session_consume_stream(c->session, id, *held - keep);
	*held = keep;
}
