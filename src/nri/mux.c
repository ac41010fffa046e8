/* SPDX-License-Identifier: Apache-2.0 */
/* See mux.h.
 *
 * What comes from the trunk is copied to the connection's end as it comes; when that does not take
 * it, the rest waits and the trunk is not read. In the other direction whole ttrpc messages are
 * gathered. A peer written in Go reads through a buffer of 4096 bytes and fails on a frame that
 * does not fit into what it reads into, so a message goes as one frame of at most that size and,
 * when it is longer, a second one with all the rest, which is what such a peer sends itself. */
#include "nri/mux.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/buf.h"
#include "base/fd.h"

#define CHUNK (64u << 10)
#define FIRST_MAX 4096u
#define TTRPC_HEAD 10u
/* Bytes that wait for a side before reading for it stops. */
#define WAIT_MAX (1u << 20)

struct side {
	struct nri_mux *m;
	uint32_t id;
	int fd;
	struct loop_source *source;
	struct buf in;	/* from the peer, for fd */
	struct buf msg; /* from fd, not yet a message */
};

struct nri_mux {
	struct loop *loop;
	int trunk;
	struct loop_source *source;
	struct nri_demux demux;
	struct buf out; /* for the trunk */
	struct side sides[2];
	bool dead;
};

int nri_demux_feed(struct nri_demux *d, const uint8_t **p, size_t *n, uint32_t *ret_id,
		   const uint8_t **ret_p, size_t *ret_n)
{
	while (*n > 0) {
		uint32_t v[2];
		size_t k;

		if (d->left > 0) {
			k = MIN((size_t)d->left, *n);
			*ret_id = d->id;
			*ret_p = *p;
			*ret_n = k;
			d->left -= (uint32_t)k;
			*p += k;
			*n -= k;
			return 1;
		}
		k = MIN(NRI_MUX_HEADER - d->n_head, *n);
		memcpy(d->head + d->n_head, *p, k);
		d->n_head += k;
		*p += k;
		*n -= k;
		if (d->n_head < NRI_MUX_HEADER)
			return 0;
		d->n_head = 0;
		memcpy(v, d->head, sizeof(v));
		d->id = be32toh(v[0]);
		d->left = be32toh(v[1]);
		if (d->left > NRI_MUX_MAX)
			return -EMSGSIZE;
	}
	return 0;
}

static void mux_close(struct nri_mux *m)
{
	m->dead = true;
	loop_source_free(TAKE_PTR(m->source));
	fd_closep(&m->trunk);
	m->trunk = -1;
	for (size_t i = 0; i < 2; i++) {
		loop_source_free(TAKE_PTR(m->sides[i].source));
		fd_closep(&m->sides[i].fd);
		m->sides[i].fd = -1;
	}
}

/* Writes what it can of @b; false = the connection is gone. */
static bool flush(int fd, struct buf *b)
{
	while (b->len > 0) {
		ssize_t n = send(fd, b->data, b->len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN;
		buf_consume(b, (size_t)n);
	}
	return true;
}

/* Who is read and written follows from what waits. */
static void watch(struct nri_mux *m)
{
	bool full = m->out.len > WAIT_MAX;
	bool stuck = false;
	int r = 0;

	for (size_t i = 0; i < 2; i++) {
		struct side *s = &m->sides[i];
		stuck = stuck || s->in.len > 0;
		if (r == 0)
			r = loop_source_set_events(s->source, (full ? 0u : EPOLLIN) |
								      (s->in.len ? EPOLLOUT : 0u));
	}
	if (r == 0)
		r = loop_source_set_events(m->source,
					   (stuck ? 0u : EPOLLIN) | (m->out.len ? EPOLLOUT : 0u));
	if (r < 0)
		m->dead = true;
}

static void settle(struct nri_mux *m)
{
	if (!m->dead && !flush(m->trunk, &m->out))
		m->dead = true;
	for (size_t i = 0; i < 2 && !m->dead; i++)
		if (!flush(m->sides[i].fd, &m->sides[i].in))
			m->dead = true;
	if (!m->dead)
		watch(m);
	if (m->dead)
		mux_close(m);
}

/* 1 = some, 0 = nothing now, -1 = the end. */
static int receive(int fd, uint8_t *b, size_t size, size_t *ret_n)
{
	for (;;) {
		ssize_t n = recv(fd, b, size, MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n <= 0)
			return -1;
		*ret_n = (size_t)n;
		return 1;
	}
}

static void trunk_feed(struct nri_mux *m, const uint8_t *p, size_t n)
{
	const uint8_t *part;
	uint32_t id;
	size_t len;
	int r;

	while ((r = nri_demux_feed(&m->demux, &p, &n, &id, &part, &len)) > 0)
		for (size_t i = 0; i < 2; i++)
			if (m->sides[i].id == id && buf_add(&m->sides[i].in, part, len) < 0)
				m->dead = true;
	if (r < 0)
		m->dead = true;
}

static void trunk_event(struct loop_source *s, int fd, uint32_t events, void *arg)
{
	struct nri_mux *m = arg;
	uint8_t b[CHUNK];
	size_t n;

	if (events & EPOLLIN) {
		int r = receive(fd, b, sizeof(b), &n);
		if (r > 0)
			trunk_feed(m, b, n);
		else if (r < 0)
			m->dead = true;
	} else if (events & (EPOLLHUP | EPOLLERR)) {
		m->dead = true;
	}
	settle(m);
}

static int frame_add(struct buf *out, uint32_t id, const char *p, size_t n)
{
	uint32_t head[2] = {htobe32(id), htobe32((uint32_t)n)};
	int r = buf_add(out, head, sizeof(head));
	return r < 0 ? r : buf_add(out, p, n);
}

/* Messages that are whole become frames. */
static int side_frames(struct side *s)
{
	int r = 0;

	while (r == 0 && s->msg.len >= TTRPC_HEAD) {
		uint32_t len;

		memcpy(&len, s->msg.data, 4);
		size_t all = (size_t)be32toh(len) + TTRPC_HEAD, first = MIN(all, FIRST_MAX);
		if (all > NRI_MUX_MAX)
			return -EMSGSIZE;
		if (s->msg.len < all)
			break;
		r = frame_add(&s->m->out, s->id, s->msg.data, first);
		if (r == 0 && all > first)
			r = frame_add(&s->m->out, s->id, s->msg.data + first, all - first);
		buf_consume(&s->msg, all);
	}
	return r;
}

static void side_event(struct loop_source *source, int fd, uint32_t events, void *arg)
{
	struct side *s = arg;
	uint8_t b[CHUNK];
	size_t n;

	if (events & EPOLLIN) {
		int r = receive(fd, b, sizeof(b), &n);
		if (r < 0 || (r > 0 && (buf_add(&s->msg, b, n) < 0 || side_frames(s) < 0)))
			s->m->dead = true;
	} else if (events & (EPOLLHUP | EPOLLERR)) {
		s->m->dead = true;
	}
	settle(s->m);
}

int nri_mux_new(struct loop *l, int trunk, struct nri_mux **ret, int *ret_plugin, int *ret_runtime)
{
	static const uint32_t ids[2] = {NRI_CONN_PLUGIN, NRI_CONN_RUNTIME};
	struct nri_mux *m = calloc(1, sizeof(*m));
	int ends[2] = {-1, -1}, r = 0;

	if (!m)
		return -ENOMEM;
	m->loop = l;
	m->trunk = -1;
	m->sides[0].fd = m->sides[1].fd = -1;
	for (size_t i = 0; r == 0 && i < 2; i++) {
		struct side *s = &m->sides[i];
		int pair[2];

		s->m = m;
		s->id = ids[i];
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0) {
			r = -errno;
			break;
		}
		s->fd = pair[0];
		ends[i] = pair[1];
		r = loop_add_fd(l, s->fd, EPOLLIN, side_event, s, &s->source);
	}
	if (r == 0)
		r = fd_set_nonblock(trunk, true);
	if (r == 0)
		r = loop_add_fd(l, trunk, EPOLLIN, trunk_event, m, &m->source);
	if (r < 0) {
		fd_closep(&ends[0]);
		fd_closep(&ends[1]);
		nri_mux_free(m);
		return r;
	}
	m->trunk = trunk;
	*ret = m;
	*ret_plugin = ends[0];
	*ret_runtime = ends[1];
	return 0;
}

void nri_mux_free(struct nri_mux *m)
{
	if (!m)
		return;
	mux_close(m);
	buf_done(&m->out);
	for (size_t i = 0; i < 2; i++) {
		buf_done(&m->sides[i].in);
		buf_done(&m->sides[i].msg);
	}
	free(m);
}
