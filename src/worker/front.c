/* SPDX-License-Identifier: Apache-2.0 */
/* Role "front": what the daemon says, new connections, and the loop. The configuration with the
 * listening sockets comes first; then the jail; only then connections are accepted.
 *
 * Nothing here waits for the daemon, which may be waiting for us to take its answers: messages that
 * it does not take are kept, one for each connection at most, but for bare streams; of these none
 * is accepted while much is kept. */
#include "worker/front.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/str.h"
#include "base/time.h"
#include "rpc/msg.h"
#include "worker/jail.h"
#include "worker/protocol.h"
#include "worker/roles.h"
#include "worker/tunnel.h"

#define EVENTS 64
#define ACCEPTS 16 /* of a listener in a round */
#define PAUSE_NS (100 * NSEC_PER_MSEC)
#define KEPT_MAX 64 /* messages that are kept, to accept more */

int source_set(struct front *f, struct source *s, uint32_t events)
{
	struct epoll_event e = {.events = events, .data.ptr = s};
	int op = !events ? EPOLL_CTL_DEL : s->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;

	if (events == s->events)
		return 0;
	if (epoll_ctl(f->epoll, op, s->fd, &e) < 0)
		return -errno;
	s->events = events;
	return 0;
}

/* ---- messages to the daemon ---- */

/* Sends what it takes of the first one: 0 = all, -EAGAIN, or another -errno. */
static int send_first(struct front *f)
{
	struct outgoing *o = f->out;

	if (o->fd >= 0) {
		int r = fd_send_msg(f->sock, o->bytes, 1, &o->fd, 1);

		if (r < 0)
			return r;
		fd_closep(&o->fd);
		o->fd = -1;
		o->off = 1;
	}
	while (o->off < o->n) {
		ssize_t n = send(f->sock, o->bytes + o->off, o->n - o->off, MSG_NOSIGNAL);

		if (n < 0 && errno != EINTR)
			return -errno;
		o->off += n < 0 ? 0 : (size_t)n;
	}
	return 0;
}

static void send_all(struct front *f)
{
	int r = 0;

	while (f->out && (r = send_first(f)) == 0) {
		struct outgoing *o = f->out;

		f->out = o->next;
		f->out_end = f->out ? f->out_end : &f->out;
		f->n_out--;
		free(o->bytes);
		free(o);
	}
	if ((r < 0 && r != -EAGAIN) ||
	    source_set(f, &f->control, EPOLLIN | (f->out ? EPOLLOUT : 0)) < 0)
		f->broken = true;
}

void front_send(struct front *f, json_t *msg, int fd)
{
	struct outgoing *o = msg ? calloc(1, sizeof(*o)) : NULL;

	if (!o || msg_encode(msg, &o->bytes, &o->n, NULL) < 0) {
		fd_closep(&fd);
		free(o);
		f->broken = true;
	} else {
		o->fd = fd;
		*f->out_end = o;
		f->out_end = &o->next;
		f->n_out++;
		if (f->out == o)
			send_all(f);
	}
	json_decref(msg);
}

/* ---- connections ---- */

static void accepted(struct listener *l, int fd, const struct sockaddr *addr, socklen_t len)
{
	struct front *f = l->front;
	int on = 1;

	if (addr->sa_family != AF_UNIX) {
		(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	}
	if (l->tls && f->n_relays >= f->max_connections) {
		close(fd);
	} else if (l->tls) {
		tls_accept(l, fd);
	} else if (l->http) {
		web_accept(f, fd, addr, len, l->index);
	} else {
		front_send(f, json_pack("{s:{s:i}}", "stream", "listener", (int)l->index), fd);
	}
}

static void accept_all(struct front *f, bool on)
{
	for (size_t i = 0; i < f->n_listeners; i++)
		if (source_set(f, &f->listeners[i].source, on ? EPOLLIN : 0) < 0)
			f->broken = true;
	f->resume_accept = on ? 0 : time_mono() + PAUSE_NS;
}

static void on_accept(struct source *s, uint32_t events)
{
	struct listener *l = (struct listener *)s;
	struct front *f = l->front;

	(void)events;
	for (int i = 0; i < ACCEPTS; i++) {
		struct sockaddr_storage a = {0};
		socklen_t n = sizeof(a);
		int fd;

		if (f->n_out >= KEPT_MAX) {
			accept_all(f, false);
			return;
		}
		fd = accept4(s->fd, (struct sockaddr *)&a, &n, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd >= 0) {
			accepted(l, fd, (struct sockaddr *)&a, n);
			continue;
		}
		if (errno == EINTR || errno == ECONNABORTED)
			continue;
		/* Out of descriptors or memory: not now. */
		if (errno != EAGAIN)
			accept_all(f, false);
		return;
	}
}

/* ---- messages ---- */

static void renew(struct front *f, const json_t *tls)
{
	int64_t i = json_int(tls, "listener", -1);
	struct credentials *c;
	struct err err = ERR_INIT;

	if (i < 0 || i >= (int64_t)f->n_listeners)
		return;
	if (credentials_new(tls, &c, &err) < 0) {
		front_send(f, msg_error(&err), -1);
		return;
	}
	credentials_unref(f->listeners[i].tls);
	f->listeners[i].tls = c;
}

static void on_message(struct source *s, uint32_t events)
{
	struct front *f = (struct front *)((char *)s - offsetof(struct front, control));
	_cleanup_json_ json_t *m = NULL;
	json_t *o;
	size_t n = 1;
	int fd = -1;

	if (events & EPOLLOUT)
		send_all(f);
	if (!(events & ~(uint32_t)EPOLLOUT))
		return;
	if (msg_recv(f->sock, 0, &m, &fd, &n, NULL) <= 0) {
		f->broken = true;
		return;
	}
	fd = n > 0 ? fd : -1;
	o = json_obj(m, "reply");
	if (o) {
		web_answer(f, o, TAKE_FD(fd));
		return;
	}
	o = json_obj(m, "tls");
	if (o)
		renew(f, o);
	if (fd >= 0)
		close(fd);
}

/* ---- the beginning ---- */

static int listener_init(struct front *f, size_t i, const json_t *o, int fd, struct err *err)
{
	struct listener *l = &f->listeners[i];
	json_t *tls = json_obj(o, "tls");

	l->source = (struct source){.fn = on_accept, .fd = fd};
	l->front = f;
	l->index = i;
	l->http = streq(json_str(o, "kind", ""), "http");
	l->alpn_h2 = streq(json_str(o, "alpn", ""), "h2");
	return tls ? credentials_new(tls, &l->tls, err) : 0;
}

static int configure(struct front *f, const json_t *o, const int *fds, size_t n, struct err *err)
{
	const json_t *list = json_arr(o, "listeners");
	int64_t max = json_int(o, "connections", 0);
	bool http = false;
	int r;

	if (!list || json_array_size(list) != n || n > LISTENERS_MAX || max <= 0 || max > 65536)
		return err_set(err, ERR_INVALID_ARGUMENT, "front: senseless configuration");
	f->max_connections = (size_t)max;
	for (size_t i = 0; i < n; i++) {
		r = listener_init(f, i, json_array_get(list, i), fds[i], err);
		if (r < 0)
			return r;
		f->n_listeners++;
		http = http || f->listeners[i].http;
	}
	if (http) {
		r = web_start(f, err);
		if (r < 0)
			return r;
	}
	if (gnutls_priority_init(&f->priority, "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2", NULL) <
	    0)
		return err_set(err, ERR_UNAVAILABLE, "front: start TLS");
	return 0;
}

/* A connection takes up to four. */
static void raise_files(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) == 0) {
		l.rlim_cur = l.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &l);
	}
}

static int begin(struct front *f, struct err *err)
{
	_cleanup_json_ json_t *m = NULL;
	int fds[LISTENERS_MAX], r;
	size_t n = LISTENERS_MAX;
	json_t *o;

	r = front_lib_load(err);
	if (r < 0)
		return r;
	f->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (f->epoll < 0)
		return err_errno(err, errno, "front: make an epoll set");
	if (msg_recv(f->sock, 0, &m, fds, &n, err) <= 0)
		return -ERR_UNAVAILABLE;
	o = json_obj(m, "front");
	r = o ? configure(f, o, fds, n, err)
	      : err_set(err, ERR_INVALID_ARGUMENT, "front: no configuration");
	if (r < 0)
		return r;
	raise_files();
	r = jail_front(err);
	if (r < 0)
		return err_prefix(err, "confine");
	f->control = (struct source){.fn = on_message, .fd = f->sock};
	f->out_end = &f->out;
	if (fd_set_nonblock(f->sock, true) < 0 || source_set(f, &f->control, EPOLLIN) < 0)
		return err_errno(err, errno, "front: watch the daemon");
	accept_all(f, true);
	return 0;
}

/* ---- the loop ---- */

/* Those that did not do TLS in time. */
static int64_t handshakes_expire(struct front *f, int64_t now)
{
	struct relay *next;
	int64_t first = 0;

	for (struct relay *r = f->relays; r; r = next) {
		next = r->next;
		if (!r->deadline)
			continue;
		if (r->deadline <= now)
			relay_kill(r);
		else if (!first || r->deadline < first)
			first = r->deadline;
	}
	return first;
}

static int wait_ms(struct front *f, bool hot)
{
	int64_t now = time_mono(), at = handshakes_expire(f, now), tunnels = tunnels_expire(f, now);
	MHD_UNSIGNED_LONG_LONG http_ms;
	int64_t ms = -1;

	if (tunnels && (!at || tunnels < at))
		at = tunnels;
	if (f->resume_accept && (!at || f->resume_accept < at))
		at = f->resume_accept;
	if (at)
		ms = at <= now ? 0 : (at - now) / NSEC_PER_MSEC + 1;
	if (f->http && MHD_get_timeout(f->http, &http_ms) == MHD_YES &&
	    (ms < 0 || http_ms < (MHD_UNSIGNED_LONG_LONG)ms))
		ms = (int64_t)MIN(http_ms, (MHD_UNSIGNED_LONG_LONG)3600000);
	return hot || f->http_touched ? 0 : (int)ms;
}

static void run(struct front *f)
{
	struct epoll_event e[EVENTS];
	bool hot = false;

	while (!f->broken) {
		int timeout = wait_ms(f, hot), n = epoll_wait(f->epoll, e, EVENTS, timeout);

		for (int i = 0; i < n; i++) {
			struct source *s = e[i].data.ptr;

			/* It may have been taken out by what came before. */
			if (s->events)
				s->fn(s, e[i].events);
		}
		/* Also when nothing happened: then one of its timeouts is over. */
		if (f->http && (f->http_touched || n <= 0)) {
			f->http_touched = false;
			(void)MHD_run(f->http);
		}
		hot = relays_tend(f);
		tunnels_tend(f);
		if (f->resume_accept && time_mono() >= f->resume_accept)
			accept_all(f, true);
	}
}

int role_front(int sock)
{
	static struct front front;
	struct err err = ERR_INIT;

	front.sock = sock;
	if (begin(&front, &err) < 0) {
		_cleanup_json_ json_t *m = msg_error(&err);

		return m && msg_send(sock, m, NULL, 0, NULL) == 0 ? 1 : 2;
	}
	front_send(&front, json_pack("{s:{}}", "ready"), -1);
	run(&front);
	return 0;
}
