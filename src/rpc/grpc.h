/* SPDX-License-Identifier: Apache-2.0 */
/* gRPC over HTTP/2 (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md) on nghttp2,
 * with prior knowledge, without TLS.
 *
 * One loop owns all connections. See rpc/rpc.h for handlers and calls. */
#pragma once

#include <stddef.h>

#include "event/loop.h"
#include "event/pool.h"
#include "rpc/rpc.h"

struct grpc_server;

struct grpc_server_options {
	size_t max_recv; /* bytes of one message; 0 = 16 MiB */
	size_t max_send;
	size_t max_connections;	      /* 0 = 4096 */
	size_t max_streams;	      /* concurrent streams of a connection; 0 = 1000 */
	int64_t handshake_timeout_ns; /* a connection that has not sent its preface by then is
					 closed; 0 = 20 s */
	/* Called once a call with its outcome, on any thread: logging, metrics. May be NULL. */
	void (*on_done)(void *arg, const char *path, int code, const char *text, int64_t ns);
	void *on_done_arg;
};

int grpc_server_new(struct loop *l, struct pool *p, const struct grpc_server_options *o,
		    struct grpc_server **ret);
/* Before the first connection. @services outlive the server. */
int grpc_server_add(struct grpc_server *s, const struct rpc_service *service);
/* Takes over a listening socket. Loop's thread, or before it runs. */
int grpc_server_listen(struct grpc_server *s, int fd);
/* GOAWAY, no new calls, calls in flight get @grace_ns to finish (then canceled); a client without
 * calls that does not go is left after half a second. @fn on the loop when all connections are
 * gone. Loop's thread. */
void grpc_server_drain(struct grpc_server *s, int64_t grace_ns, loop_fn fn, void *arg);
/* After the drain, when the loop does not run any more. */
void grpc_server_free(struct grpc_server *s);
/* Takes over a connected socket as if it had been accepted. Loop's thread. */
void grpc_server_take(struct grpc_server *s, int fd);
/* Calls @fn for each method that has a handler. Any thread. */
void grpc_server_stats(const struct grpc_server *s, rpc_stats_fn fn, void *arg);
/* Services registered, for introspection and coverage. */
const struct rpc_service *const *grpc_server_services(const struct grpc_server *s, size_t *ret_n);

struct grpc_client_options {
	size_t max_recv; /* 0 = 16 MiB */
	/* PING when a call is open and nothing came for so long; the connection counts as dead
	 * after another 20 s. As other servers close a connection that is pinged more often than
	 * they like, a call that stays silent is asked for again only after some minutes. 0 = off
	 */
	int64_t keepalive_ns;
};

/* Takes over a connected socket. The loop must run on another thread than those that make blocking
 * calls. */
int grpc_client_new(struct loop *l, int fd, const struct grpc_client_options *o,
		    struct rpc_client **ret);
