/* SPDX-License-Identifier: Apache-2.0 */
/* The connection: a loop, driven by its callers or on a thread of its own, one gRPC client on it,
 * and calls by service descriptor. */
#include "client/client.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "base/fd.h"
#include "base/str.h"
#include "base/time.h"
#include "client/internal.h"
#include "event/loop.h"
#include "rpc/grpc.h"
#include "rpc/ttrpc.h"

#define LAST_ROUNDS 4

static void *client_thread(void *arg)
{
	loop_run(arg);
	return NULL;
}

int client_thread_start(pthread_t *ret, void *(*fn)(void *arg), void *arg)
{
	sigset_t all, old;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(ret, NULL, fn, arg);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return -r;
}

static int start_thread(struct client *c)
{
	int r = client_thread_start(&c->thread, client_thread, c->loop);

	if (r == 0)
		c->running = true;
	return r;
}

static int wait_for_listener(const char *path, int64_t timeout_ns, int *ret_fd)
{
	const struct timespec pause = {.tv_nsec = 20 * NSEC_PER_MSEC};
	int64_t end = 0;
	int r;

	if (timeout_ns > 0 && __builtin_add_overflow(time_mono(), timeout_ns, &end))
		end = INT64_MAX;

	for (;;) {
		r = unix_connect(path, ret_fd);
		if ((r != -ENOENT && r != -ECONNREFUSED && r != -EAGAIN) || time_mono() >= end)
			return r;
		nanosleep(&pause, NULL);
	}
}

static int connect_error(int r, const char *address, struct err *err)
{
	const char *hint = r == -ENOENT || r == -ECONNREFUSED ? ": is containerd running?"
			   : r == -EACCES || r == -EPERM      ? ": are you root?"
							      : "";
	enum err_kind kind = r == -EACCES || r == -EPERM ? ERR_PERMISSION_DENIED : ERR_UNAVAILABLE;
	const char *why = strerror(-r);

	return err_set_raw(err, kind, "cannot connect to containerd at \"%s\": %c%s%s", address,
			   tolower(*why), why + 1, hint);
}

/* The path in "unix:///abs", "unix://rel", "unix:path", "unix-abstract:name" or in a path itself.
 */
static int socket_path(const char *address, char *out, size_t size, struct err *err)
{
	const char *abstract = str_skip(address, "unix-abstract:");
	const char *path = abstract ? abstract : str_skip(address, "unix://");

	path = path ? path : str_skip(address, "unix:");
	path = path ? path : address;
	if (!*path)
		return err_set(err, ERR_INVALID_ARGUMENT, "the address of containerd is empty");
	if (!abstract && strstr(path, "://"))
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "the address \"%.200s\" of containerd is not that of a unix socket",
			       address);
	if ((size_t)snprintf(out, size, "%s%s", abstract ? "@" : "", path) >= size)
		return err_set(err, ERR_INVALID_ARGUMENT, "the address of containerd is too long");
	return 0;
}

int client_connect(const char *address, int64_t timeout_ns, struct client **ret, struct err *err)
{
	struct client *c _cleanup_(client_freep) = calloc(1, sizeof(*c));
	char path[PATH_MAX];
	int fd _cleanup_close_ = -1;
	int r;

	if (!c)
		return err_nomem(err);
	r = socket_path(address, path, sizeof(path), err);
	if (r < 0)
		return r;
	r = wait_for_listener(path, timeout_ns, &fd);
	if (r < 0)
		return connect_error(r, address, err);
	r = loop_new(&c->loop);
	if (r < 0)
		return err_errno(err, r, "make an event loop");
	r = grpc_client_new(c->loop, fd, &(struct grpc_client_options){}, &c->rpc);
	if (r < 0)
		return err_errno(err, r, "set up the connection to \"%s\"", address);
	TAKE_FD(fd);
	loop_drive(c->loop, true);
	*ret = TAKE_PTR(c);
	return 0;
}

int client_connect_ttrpc(const char *path, struct client **ret, struct err *err)
{
	struct client *c _cleanup_(client_freep) = calloc(1, sizeof(*c));
	int fd _cleanup_close_ = -1;
	int r;

	if (!c)
		return err_nomem(err);
	r = unix_connect(path, &fd);
	if (r < 0)
		return err_errno(err, r, "connect to `%s`", path);
	r = loop_new(&c->loop);
	if (r < 0)
		return err_errno(err, r, "make an event loop");
	r = ttrpc_client_new(c->loop, TAKE_FD(fd), NULL, NULL, &c->rpc);
	if (r < 0)
		return err_errno(err, r, "set up the connection to `%s`", path);
	r = start_thread(c);
	if (r < 0)
		return err_errno(err, r, "start a thread");
	*ret = TAKE_PTR(c);
	return 0;
}

int client_share(struct client *c, struct err *err)
{
	int r;

	if (c->running)
		return 0;
	loop_drive(c->loop, false);
	r = start_thread(c);
	if (r == 0)
		return 0;
	loop_drive(c->loop, true);
	return err_errno(err, r, "start a thread");
}

int client_poll_fd(const struct client *c)
{
	return c->running ? -1 : loop_fd(c->loop);
}

int client_poll_timeout(const struct client *c)
{
	return c->running ? -1 : loop_timeout(c->loop);
}

int client_poll(struct client *c, struct err *err)
{
	int r = c->running ? 0 : loop_run_once(c->loop, 0);

	return r < 0 ? err_errno(err, r, "run the connection's loop") : 0;
}

static void stop_loop(void *arg)
{
	loop_stop(arg);
}

void client_free(struct client *c)
{
	if (c->rpc)
		rpc_client_free(c->rpc);
	if (c->running) {
		/* Posted, so that what was posted before still runs. */
		if (loop_post(c->loop, stop_loop, c->loop) < 0)
			loop_stop(c->loop);
		pthread_join(c->thread, NULL);
	}
	/* What the connection has posted while it ended holds references. */
	for (int i = 0; c->rpc && i < LAST_ROUNDS; i++)
		loop_run_once(c->loop, 0);
	if (c->loop)
		loop_free(c->loop);
	free(c);
}

struct rpc_client *client_rpc(struct client *c)
{
	return c->rpc;
}

int client_call(struct client *c, struct ctx *ctx, const ProtobufCServiceDescriptor *service,
		const char *method, const ProtobufCMessage *req, void *ret_resp, struct err *err)
{
	const ProtobufCMethodDescriptor *m =
		protobuf_c_service_descriptor_get_method_by_name(service, method);

	if (!m)
		return err_set(err, ERR_UNIMPLEMENTED, "method %s.%s", service->name, method);
	return rpc_call(c->rpc, ctx, service->name, method, req, m->output, ret_resp, err);
}

int client_reply(struct ctx *ctx, struct rpc_stream *s, const ProtobufCMessageDescriptor *desc,
		 void *ret_resp, struct err *err)
{
	struct rpc_stream *own _cleanup_(rpc_stream_freep) = s;
	void *resp, *more;
	int r = rpc_stream_recv(own, ctx->arena, desc, &resp, err);

	if (r == 0)
		return err_set_raw(err, ERR_INTERNAL, "the peer sent no reply");
	/* The status comes after the message. */
	if (r > 0)
		r = rpc_stream_recv(own, ctx->arena, desc, &more, err);
	if (r > 0)
		return err_set_raw(err, ERR_INTERNAL, "the peer sent more than one reply");
	if (r == 0 && ret_resp)
		*(void **)ret_resp = resp;
	return r;
}

int client_stream(struct client *c, struct ctx *ctx, const ProtobufCServiceDescriptor *service,
		  const char *method, const ProtobufCMessage *req, struct rpc_stream **ret,
		  struct err *err)
{
	struct rpc_stream *s _cleanup_(rpc_stream_freep) = NULL;
	int r;

	r = rpc_stream_open(c->rpc, ctx, service->name, method, &s, err);
	if (r < 0)
		return r;
	if (req) {
		r = rpc_stream_send(s, req, err);
		if (r < 0)
			return r;
		r = rpc_stream_close_send(s, err);
		if (r < 0)
			return r;
	}
	*ret = TAKE_PTR(s);
	return 0;
}
