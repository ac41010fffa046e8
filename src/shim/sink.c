/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/sink.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "sys/attach.h"
#include "sys/k8s_log.h"

#define CLIENTS_MAX 64
#define ROUNDS 8 /* of ATTACH_DATA_MAX bytes, before others get their turn */

struct client {
	struct client *next;
	struct sink *sink;
	struct attach_reader r;
	struct loop_source *source;
};

struct stream {
	struct sink *sink;
	int fd; /* -1: has ended */
	struct loop_source *source;
	void (*fn)(void *arg);
	void *arg;
};

struct sink {
	struct loop *loop;
	bool terminal;
	void (*active)(void *arg);
	void *active_arg;
	struct k8s_log log;
	struct stream streams[2];
	int listen_fd;
	struct loop_source *listen_source;
	struct client *clients;
	size_t n_clients;
	bool ended; /* both streams */
	uint64_t moved;
};

/* ---- those who are attached ---- */

static void client_drop(struct client *c)
{
	struct client **q = &c->sink->clients;

	while (*q != c)
		q = &(*q)->next;
	*q = c->next;
	c->sink->n_clients--;
	loop_source_free(c->source);
	close(c->r.fd);
	free(c);
}

static int request_do(struct client *c, const struct attach_request *q)
{
	char answer[ATTACH_REQUEST_MAX];
	int r = 0;

	if (q->kind == ATTACH_REOPEN)
		r = k8s_log_reopen(&c->sink->log);
	size_t n = attach_answer(q, -r, answer);
	if (send(c->r.fd, answer, n, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		return -errno;
	if (q->kind != ATTACH_BEGIN)
		return 0;
	c->r.streams = q->streams;
	return c->sink->ended ? -EPIPE : 0;
}

static void on_client(struct loop_source *source, int fd, uint32_t events, void *arg)
{
	struct client *c = arg;
	struct attach_request q;
	char packet[ATTACH_REQUEST_MAX];
	ssize_t n = recv(fd, packet, sizeof(packet), MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0 || attach_request_parse(packet, (size_t)n, &q) < 0 || request_do(c, &q) < 0)
		client_drop(c);
}

static void on_connect(struct loop_source *source, int fd, uint32_t events, void *arg)
{
	struct sink *s = arg;
	struct client *c;
	int client_fd;

	if (attach_accept(fd, &client_fd) < 0)
		return;
	c = s->n_clients < CLIENTS_MAX ? calloc(1, sizeof(*c)) : NULL;
	if (!c) {
		close(client_fd);
		return;
	}
	c->sink = s;
	c->r = (struct attach_reader){.fd = client_fd, .skip = s->terminal};
	c->next = s->clients;
	s->clients = c;
	s->n_clients++;
	if (loop_add_fd(s->loop, client_fd, EPOLLIN, on_client, c, &c->source) < 0)
		client_drop(c);
}

static void clients_send(struct sink *s, int stream, const char *p, size_t n)
{
	for (struct client *c = s->clients, *next; c; c = next) {
		next = c->next;
		if (attach_send(&c->r, stream, p, n) < 0)
			client_drop(c);
	}
}

/* ---- streams ---- */

static void log_result(struct sink *s, int r)
{
	if (r < 0) {
		log_warn("write `%s`: %s; output is lost", s->log.path, strerror(-r));
	} else if (r > 0) {
		log_warn("`%s` is written again; %llu bytes are lost", s->log.path,
			 (unsigned long long)s->log.lost);
		s->log.lost = 0;
	}
}

/* Who comes from now on learns that there is nothing more to come. */
static void output_ended(struct sink *s)
{
	s->ended = true;
	while (s->clients)
		client_drop(s->clients);
}

static void stream_end(struct stream *y)
{
	struct sink *s = y->sink;

	if (y->fd < 0)
		return;
	loop_source_free(y->source);
	y->source = NULL;
	close(y->fd);
	y->fd = -1;
	log_result(s, k8s_log_end(&s->log, (int)(y - s->streams)));
	if (!sink_running(s))
		output_ended(s);
}

/* False when the stream has ended. */
static bool stream_read(struct stream *y, bool *ret_more)
{
	struct sink *s = y->sink;
	int i = (int)(y - s->streams);
	char chunk[ATTACH_DATA_MAX];
	ssize_t n = read(y->fd, chunk, sizeof(chunk));

	*ret_more = n > 0;
	if (n <= 0)
		return n < 0 && (errno == EAGAIN || errno == EINTR);
	s->moved += (uint64_t)n;
	log_result(s, k8s_log_add(&s->log, i, chunk, (size_t)n));
	clients_send(s, i, chunk, (size_t)n);
	return true;
}

static void on_output(struct loop_source *source, int fd, uint32_t events, void *arg)
{
	struct stream *y = arg;
	bool more = true;

	if (y->sink->active)
		y->sink->active(y->sink->active_arg);
	for (int i = 0; i < ROUNDS && more; i++) {
		if (stream_read(y, &more))
			continue;
		stream_end(y);
		if (y->fn)
			y->fn(y->arg);
		return;
	}
}

int sink_start(struct sink *s, int stream, int src, void (*fn)(void *arg), void *arg)
{
	struct stream *y = &s->streams[stream];
	int r;

	y->fd = src;
	y->fn = fn;
	y->arg = arg;
	r = fd_set_nonblock(src, true);
	if (r == 0)
		r = loop_add_fd(s->loop, src, EPOLLIN, on_output, y, &y->source);
	if (r < 0) {
		close(src);
		y->fd = -1;
	}
	return r;
}

bool sink_running(const struct sink *s)
{
	return s->streams[0].fd >= 0 || s->streams[1].fd >= 0;
}

uint64_t sink_moved(const struct sink *s)
{
	return s->moved;
}

void sink_stop(struct sink *s)
{
	stream_end(&s->streams[0]);
	stream_end(&s->streams[1]);
	output_ended(s);
}

/* ---- life ---- */

int sink_open(const struct sink_options *o, struct sink **ret, struct err *err)
{
	struct sink *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return err_nomem(err);
	s->loop = o->loop;
	s->terminal = o->terminal;
	s->active = o->active;
	s->active_arg = o->active_arg;
	s->log = K8S_LOG_INIT;
	s->listen_fd = -1;
	for (int i = 0; i < 2; i++)
		s->streams[i] = (struct stream){.sink = s, .fd = -1};
	r = k8s_log_open(&s->log, o->log, o->limit);
	if (r < 0) {
		r = err_errno(err, r, "failed to create container loggers: open `%s`", o->log);
	} else {
		r = attach_listen(o->socket, &s->listen_fd);
		if (r == 0)
			r = loop_add_fd(s->loop, s->listen_fd, EPOLLIN, on_connect, s,
					&s->listen_source);
		if (r < 0)
			r = err_errno(err, r, "listen on `%s`", o->socket);
	}
	if (r < 0) {
		sink_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

void sink_free(struct sink *s)
{
	if (!s)
		return;
	sink_stop(s);
	loop_source_free(s->listen_source);
	if (s->listen_fd >= 0)
		close(s->listen_fd);
	k8s_log_done(&s->log);
	free(s);
}
