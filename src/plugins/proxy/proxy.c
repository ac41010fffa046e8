/* SPDX-License-Identifier: Apache-2.0 */
/* The connection to a plugin: see proxy.h.
 *
 * A connection is counted: who makes a call holds it until the call is over, so that another thread
 * may put a new one in its place. Whether the peer is gone is asked of the socket itself right
 * before a call, because the loop may not have looked yet; so a call does not fail for the sake of
 * an earlier process of the plugin. A call that was sent is never sent again.
 */
#include "plugins/proxy/proxy.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"
#include "rpc/grpc.h"

#define KEEPALIVE_NS (20 * NSEC_PER_SEC)
#define LEAVE_SECONDS 5 /* for calls to end that were canceled */

struct conn {
	struct rpc_client *rpc;
	int probe;	/* the same socket, to see whether the peer is there */
	unsigned users; /* proxy's lock; the proxy itself is one */
};

struct proxy {
	struct loop *loop;
	const char *name;
	char *address, *path;
	pthread_mutex_t lock; /* guards what follows */
	struct conn *conn;    /* NULL = none */
	struct waiter *waiters;
	bool closed;
	pthread_cond_t left; /* a waiter went */
};

/* The context of a call or stream, for proxy_disconnect() to cancel. */
struct waiter {
	struct waiter *next;
	struct ctx ctx;
};

struct proxy_stream {
	struct proxy *proxy;
	struct conn *conn;
	struct rpc_stream *s;
	const ProtobufCMessageDescriptor *out;
	int64_t limit_ns;
	int64_t deadline; /* the caller's */
	struct waiter w;
};

/* ---- connections ---- */

static void conn_free(struct conn *c)
{
	rpc_client_free(c->rpc);
	close(c->probe);
	free(c);
}

/* proxy's lock is held; the caller frees what is returned after it let go. */
static struct conn *conn_drop(struct conn *c)
{
	return --c->users == 0 ? c : NULL;
}

static bool conn_lost(const struct conn *c)
{
	struct pollfd pfd = {.fd = c->probe, .events = POLLRDHUP};

	return rpc_client_lost(c->rpc) || poll(&pfd, 1, 0) != 0;
}

static int way_error(const struct proxy *p, int r, struct err *err)
{
	return err_set(err, ERR_UNAVAILABLE, "proxy plugin \"%s\" at %s: connect: %s", p->name,
		       p->address, strerror(-r));
}

static int conn_new(struct proxy *p, struct conn **ret, struct err *err)
{
	const struct grpc_client_options o = {.keepalive_ns = KEEPALIVE_NS};
	_cleanup_close_ int fd = -1, probe = -1;
	struct conn *c;
	int r = unix_connect_nowait(p->path, &fd);

	if (r < 0)
		return way_error(p, r, err);
	probe = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (probe < 0)
		return err_errno(err, errno, "proxy plugin \"%s\": duplicate a socket", p->name);
	c = calloc(1, sizeof(*c));
	if (!c)
		return err_nomem(err);
	r = grpc_client_new(p->loop, fd, &o, &c->rpc);
	if (r < 0) {
		free(c);
		return err_errno(err, r, "proxy plugin \"%s\": set up the connection", p->name);
	}
	(void)TAKE_FD(fd);
	c->probe = TAKE_FD(probe);
	c->users = 1;
	*ret = c;
	return 0;
}

static void waiter_remove(struct proxy *p, struct waiter *w)
{
	for (struct waiter **at = &p->waiters; *at; at = &(*at)->next) {
		if (*at == w) {
			*at = w->next;
			break;
		}
	}
}

/* What conn_get() began is over. */
static void conn_leave(struct proxy *p, struct conn *c, struct waiter *w)
{
	struct conn *last;

	pthread_mutex_lock(&p->lock);
	waiter_remove(p, w);
	last = conn_drop(c);
	/* Freed before anybody who waits for that goes on. */
	if (last)
		conn_free(last);
	pthread_cond_broadcast(&p->left);
	pthread_mutex_unlock(&p->lock);
}

/* The connection, made when there is none that lives. @w is canceled when the proxy ends. */
static int conn_get(struct proxy *p, struct waiter *w, struct conn **ret, struct err *err)
{
	struct conn *old = NULL;
	int r = 0;

	pthread_mutex_lock(&p->lock);
	if (p->conn && conn_lost(p->conn))
		old = conn_drop(TAKE_PTR(p->conn));
	if (p->closed)
		r = err_set(err, ERR_UNAVAILABLE, "proxy plugin \"%s\": the daemon stops", p->name);
	else if (!p->conn)
		r = conn_new(p, &p->conn, err);
	if (r == 0) {
		p->conn->users++;
		w->next = p->waiters;
		p->waiters = w;
		*ret = p->conn;
	}
	pthread_mutex_unlock(&p->lock);
	if (old)
		conn_free(old);
	return r;
}

int proxy_new(struct loop *l, const char *name, const char *address, struct proxy **ret,
	      struct err *err)
{
	const char *path = str_skip(address, "unix://");
	struct proxy *p;

	path = path ? path : address;
	if (path[0] != '/' && path[0] != '@')
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "proxy plugin \"%s\": address \"%s\" is not that of a unix socket",
			       name, address);
	p = calloc(1, sizeof(*p));
	if (!p)
		return err_nomem(err);
	p->loop = l;
	p->name = name;
	p->address = strdup(address);
	p->path = strdup(path);
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->left, NULL);
	if (!p->address || !p->path) {
		proxy_free(p);
		return err_nomem(err);
	}
	*ret = p;
	return 0;
}

void proxy_disconnect(struct proxy *p)
{
	struct conn *last = NULL;
	struct timespec until;

	pthread_mutex_lock(&p->lock);
	p->closed = true;
	for (struct waiter *w = p->waiters; w; w = w->next)
		atomic_store(&w->ctx.canceled, true);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += LEAVE_SECONDS;
	while (p->waiters && pthread_cond_timedwait(&p->left, &p->lock, &until) == 0)
		;
	if (p->conn)
		last = conn_drop(TAKE_PTR(p->conn));
	pthread_mutex_unlock(&p->lock);
	if (last)
		conn_free(last);
}

void proxy_free(struct proxy *p)
{
	proxy_disconnect(p);
	pthread_cond_destroy(&p->left);
	pthread_mutex_destroy(&p->lock);
	free(p->address);
	free(p->path);
	free(p);
}

const char *proxy_name(const struct proxy *p)
{
	return p->name;
}

/* ---- calls ---- */

/* The caller's, ending with it, and at the limit. */
static void limit(struct ctx *sub, const struct ctx *ctx, int64_t limit_ns)
{
	int64_t end = limit_ns ? time_mono() + limit_ns : 0;

	sub->arena = ctx->arena;
	sub->ns = ctx->ns;
	sub->lease = ctx->lease;
	sub->parent = ctx;
	sub->deadline = ctx->deadline;
	if (end && (!sub->deadline || end < sub->deadline))
		sub->deadline = end;
}

/* What a plugin says about its own matter stays as it is. */
static int call_error(const struct proxy *p, int r, struct err *err)
{
	switch (-r) {
	case ERR_UNAVAILABLE:
	case ERR_DEADLINE_EXCEEDED:
	case ERR_INTERNAL:
	case ERR_UNKNOWN:
		return err_prefix(err, "proxy plugin \"%s\" at %s", p->name, p->address);
	default:
		return r;
	}
}

static const ProtobufCMethodDescriptor *method_of(const ProtobufCServiceDescriptor *service,
						  const char *method)
{
	return protobuf_c_service_descriptor_get_method_by_name(service, method);
}

int proxy_call(struct proxy *p, struct ctx *ctx, const ProtobufCServiceDescriptor *service,
	       const char *method, const ProtobufCMessage *req, int64_t limit_ns, void *ret_resp,
	       struct err *err)
{
	struct waiter w = {.next = NULL};
	struct err why = ERR_INIT;
	struct conn *c;
	int r;

	limit(&w.ctx, ctx, limit_ns);
	r = conn_get(p, &w, &c, &why);
	if (r < 0)
		return err_copy(err, &why);
	r = rpc_call(c->rpc, &w.ctx, service->name, method, req, method_of(service, method)->output,
		     ret_resp, &why);
	if (r < 0)
		(void)call_error(p, r, &why);
	conn_leave(p, c, &w);
	return r < 0 ? err_copy(err, &why) : 0;
}

struct proxy_pending {
	struct proxy *proxy;
	struct conn *conn;
	struct rpc_pending *rpc;
	rpc_done_fn fn;
	void *arg;
	struct waiter w;
};

static void pending_free(struct proxy_pending *c)
{
	conn_leave(c->proxy, c->conn, &c->w);
	free(c);
}

static void pending_done(void *arg, const uint8_t *resp, size_t n, const struct err *err)
{
	struct proxy_pending *c = arg;
	struct err why = ERR_INIT;

	if (err)
		why = *err;
	if (err)
		(void)call_error(c->proxy, -why.kind, &why);
	c->fn(c->arg, resp, n, err ? &why : NULL);
	pending_free(c);
}

int proxy_call_async(struct proxy *p, const char *ns, const ProtobufCServiceDescriptor *service,
		     const char *method, const ProtobufCMessage *req, rpc_done_fn fn, void *arg,
		     struct proxy_pending **ret, struct err *err)
{
	struct proxy_pending *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return err_nomem(err);
	c->proxy = p;
	c->fn = fn;
	c->arg = arg;
	r = conn_get(p, &c->w, &c->conn, err);
	if (r < 0) {
		free(c);
		return r;
	}
	r = rpc_call_async(c->conn->rpc, ns, service->name, method, req, 0, pending_done, c,
			   &c->rpc, err);
	if (r < 0) {
		pending_free(c);
		return r;
	}
	*ret = c;
	return 0;
}

bool proxy_pending_cancel(struct proxy_pending *c)
{
	if (!rpc_pending_cancel(c->rpc))
		return false;
	pending_free(c);
	return true;
}

/* ---- streams ---- */

static int stream_start(struct proxy_stream *s, const ProtobufCServiceDescriptor *service,
			const char *method, const ProtobufCMessage *req, struct err *err)
{
	int r = rpc_stream_open(s->conn->rpc, &s->w.ctx, service->name, method, &s->s, err);

	if (r == 0)
		rpc_stream_bind(s->s, &s->w.ctx);
	if (r == 0 && req) {
		r = rpc_stream_send(s->s, req, err);
		if (r == 0)
			r = rpc_stream_close_send(s->s, err);
	}
	return r;
}

int proxy_stream_open(struct proxy *p, struct ctx *ctx, const ProtobufCServiceDescriptor *service,
		      const char *method, const ProtobufCMessage *req, int64_t limit_ns,
		      struct proxy_stream **ret, struct err *err)
{
	_cleanup_(proxy_stream_freep) struct proxy_stream *s = calloc(1, sizeof(*s));
	struct err why = ERR_INIT;
	int r;

	if (!s)
		return err_nomem(err);
	s->proxy = p;
	s->out = method_of(service, method)->output;
	s->limit_ns = limit_ns;
	s->deadline = ctx->deadline;
	limit(&s->w.ctx, ctx, 0);
	r = conn_get(p, &s->w, &s->conn, &why);
	if (r == 0) {
		r = stream_start(s, service, method, req, &why);
		if (r < 0)
			(void)call_error(p, r, &why);
	}
	if (r < 0)
		return err_copy(err, &why);
	*ret = TAKE_PTR(s);
	return 0;
}

/* The next wait ends in time. */
static void stream_limit(struct proxy_stream *s)
{
	int64_t end = s->limit_ns ? time_mono() + s->limit_ns : 0;

	s->w.ctx.deadline = end && (!s->deadline || end < s->deadline) ? end : s->deadline;
}

int proxy_stream_send(struct proxy_stream *s, const ProtobufCMessage *msg, struct err *err)
{
	struct err why = ERR_INIT;
	int r;

	stream_limit(s);
	r = rpc_stream_send(s->s, msg, &why);
	if (r < 0) {
		(void)call_error(s->proxy, r, &why);
		return err_copy(err, &why);
	}
	return 0;
}

int proxy_stream_recv(struct proxy_stream *s, struct arena *a, void *ret_resp, struct err *err)
{
	struct err why = ERR_INIT;
	int r;

	stream_limit(s);
	r = rpc_stream_recv(s->s, a, s->out, ret_resp, &why);
	if (r < 0) {
		(void)call_error(s->proxy, r, &why);
		return err_copy(err, &why);
	}
	return r;
}

void proxy_stream_free(struct proxy_stream *s)
{
	if (!s)
		return;
	if (s->s)
		rpc_stream_free(s->s);
	if (s->conn)
		conn_leave(s->proxy, s->conn, &s->w);
	free(s);
}
