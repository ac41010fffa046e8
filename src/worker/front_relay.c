/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes between two sockets. Each flow holds at most one piece that its reader did not take; while
 * it does nothing more is read for it. An end of a stream is passed on after what came before it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "worker/front.h"

#define PIECE (16u << 10)
#define ROUNDS 16 /* of both flows, before others have their turn */

static void end_event(struct source *s, uint32_t events)
{
	struct relay_end *e = (struct relay_end *)s;
	struct relay *r = e->relay;

	if (r->dead)
		return;
	if (events & (EPOLLHUP | EPOLLERR))
		e->gone = true;
	if (r->deadline)
		tls_handshake(r);
	else
		relay_pump(r);
}

struct relay *relay_new(struct front *f, int fd)
{
	struct relay *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	for (int i = 0; i < 2; i++) {
		r->end[i].source = (struct source){.fn = end_event, .fd = -1};
		r->end[i].relay = r;
	}
	r->end[0].source.fd = fd;
	r->front = f;
	r->next = f->relays;
	if (r->next)
		r->next->prev = r;
	f->relays = r;
	f->n_relays++;
	return r;
}

void relay_set_peer(struct relay *r, int fd)
{
	r->end[1].source.fd = fd;
}

/* Keeps what is not written yet. */
static int flow_keep(struct relay_flow *w, const void *p, size_t n)
{
	if (n == 0)
		return 0;
	w->rest = malloc(n);
	if (!w->rest)
		return -ENOMEM;
	memcpy(w->rest, p, n);
	w->off = 0;
	w->n = n;
	return 0;
}

int relay_push(struct relay *r, const void *p, size_t n)
{
	return flow_keep(&r->flow[0], p, n);
}

void relay_kill(struct relay *r)
{
	struct front *f = r->front;

	if (r->dead)
		return;
	r->dead = true;
	for (int i = 0; i < 2; i++) {
		struct relay_end *e = &r->end[i];

		source_set(f, &e->source, 0);
		if (e->tls)
			gnutls_deinit(e->tls);
		e->tls = NULL;
		if (e->source.fd >= 0 && (i == 1 || !r->closed))
			close(e->source.fd);
		e->source.fd = -1;
		free(r->flow[i].rest);
		r->flow[i] = (struct relay_flow){0};
	}
	if (r->closed)
		r->closed(r->arg);
	credentials_unref(r->cred);
	r->cred = NULL;
	if (r->prev)
		r->prev->next = r->next;
	else
		f->relays = r->next;
	if (r->next)
		r->next->prev = r->prev;
	f->n_relays--;
	r->next = f->graves;
	f->graves = r;
}

/* ---- one end: a count, or -EAGAIN or another -errno ---- */

static ssize_t tls_result(ssize_t n)
{
	if (n >= 0)
		return n;
	if (n == GNUTLS_E_PREMATURE_TERMINATION)
		return 0;
	/* Renegotiation is not for us; warnings are not worth more than the next try. */
	if (n == GNUTLS_E_REHANDSHAKE || gnutls_error_is_fatal((int)n))
		return -EIO;
	return -EAGAIN;
}

static ssize_t end_read(struct relay_end *e, void *p, size_t n)
{
	ssize_t k;

	if (e->tls)
		return tls_result(gnutls_record_recv(e->tls, p, n));
	do
		k = recv(e->source.fd, p, n, MSG_DONTWAIT);
	while (k < 0 && errno == EINTR);
	return k < 0 ? -errno : k;
}

static ssize_t end_write(struct relay_end *e, const void *p, size_t n)
{
	ssize_t k;

	if (e->tls) {
		k = tls_result(gnutls_record_send(e->tls, p, n));
		return k == 0 ? -EIO : k;
	}
	do
		k = send(e->source.fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (k < 0 && errno == EINTR);
	return k < 0 ? -errno : k;
}

static int end_shut(struct relay_end *e)
{
	if (e->tls) {
		int r = gnutls_bye(e->tls, GNUTLS_SHUT_WR);

		if (r < 0 && !gnutls_error_is_fatal(r))
			return -EAGAIN;
	}
	(void)shutdown(e->source.fd, SHUT_WR);
	return 0;
}

/* ---- flows ---- */

static int flow_read(struct relay_end *from, struct relay_end *to, struct relay_flow *w)
{
	char piece[PIECE];
	ssize_t n = end_read(from, piece, sizeof(piece)), done;

	if (n == -EAGAIN)
		return 0;
	if (n < 0)
		return (int)n;
	if (n == 0) {
		w->eof = true;
		return 1;
	}
	done = end_write(to, piece, (size_t)n);
	if (done < 0 && done != -EAGAIN)
		return (int)done;
	done = done < 0 ? 0 : done;
	n = flow_keep(w, piece + done, (size_t)(n - done));
	return n < 0 ? (int)n : 1;
}

/* 1 = got on, 0 = must wait, negative = broken. */
static int flow_step(struct relay *r, int i)
{
	struct relay_flow *w = &r->flow[i];
	struct relay_end *from = &r->end[i], *to = &r->end[!i];
	ssize_t n;

	if (w->n > 0) {
		n = end_write(to, w->rest + w->off, w->n);
		if (n < 0)
			return n == -EAGAIN ? 0 : (int)n;
		w->off += (size_t)n;
		w->n -= (size_t)n;
		if (w->n == 0) {
			free(w->rest);
			w->rest = NULL;
		}
		return 1;
	}
	if (w->shut)
		return 0;
	if (w->eof) {
		if (end_shut(to) < 0)
			return 0;
		w->shut = true;
		return 1;
	}
	return flow_read(from, to, w);
}

/* An end that is waited for nothing is not in the set: a hang-up would wake us again and again. */
static int watch(struct relay *r)
{
	for (int i = 0; i < 2; i++) {
		uint32_t events = 0;

		if (r->flow[i].n == 0 && !r->flow[i].eof)
			events |= EPOLLIN;
		if (r->flow[!i].n > 0 || (r->flow[!i].eof && !r->flow[!i].shut))
			events |= EPOLLOUT;
		if (source_set(r->front, &r->end[i].source, events) < 0)
			return -1;
	}
	return 0;
}

void relay_pump(struct relay *r)
{
	int moved = 1;

	for (int i = 0; i < ROUNDS && moved > 0; i++) {
		int a = flow_step(r, 0), b = a < 0 ? a : flow_step(r, 1);

		if (b < 0) {
			relay_kill(r);
			return;
		}
		moved = a + b;
	}
	r->hot = moved > 0;
	/* Over in both directions, or in one while the other has nobody to go to. */
	if ((r->flow[0].shut && (r->flow[1].shut || r->end[0].gone)) ||
	    (r->flow[1].shut && r->end[1].gone) || watch(r) < 0)
		relay_kill(r);
}

bool relays_tend(struct front *f)
{
	struct relay *r, *next;
	bool hot = false;

	for (r = f->relays; r; r = next) {
		next = r->next;
		if (r->hot) {
			relay_pump(r);
			hot = hot || (!r->dead && r->hot);
		}
	}
	while ((r = f->graves)) {
		f->graves = r->next;
		free(r);
	}
	return hot;
}
