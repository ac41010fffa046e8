/* SPDX-License-Identifier: Apache-2.0 */
/* ttrpc (https://github.com/containerd/ttrpc/blob/main/PROTOCOL.md): 10-byte frame header, protobuf
 * payloads, at most 4 MiB.
 *
 * Server and client share rpc/rpc.h with gRPC. The namespace travels as metadata
 * "containerd-namespace-ttrpc". */
#pragma once

#include <stdbool.h>

#include "event/loop.h"
#include "event/pool.h"
#include "rpc/rpc.h"

struct ttrpc_server;

struct ttrpc_server_options {
	bool check_peer; /* only peers with our effective uid and gid */
	/* Once nothing of the server is left, after ttrpc_server_free(): no handler runs any more.
	 * Any thread. NULL = none. */
	void (*released)(void *arg);
	void *released_arg;
};

/* @pool NULL: handlers run on the loop, must not block, and use rpc_defer for what takes time. */
int ttrpc_server_new(struct loop *l, struct pool *pool, const struct ttrpc_server_options *o,
		     struct ttrpc_server **ret);
int ttrpc_server_add(struct ttrpc_server *s, const struct rpc_service *service);
int ttrpc_server_listen(struct ttrpc_server *s, int fd); /* takes over */
/* A connection that somebody else has accepted; takes @fd over. The loop's thread. */
void ttrpc_server_adopt(struct ttrpc_server *s, int fd);
/* No new connections; idle ones are closed, others when their calls are done. @fn when none is
 * left. */
void ttrpc_server_drain(struct ttrpc_server *s, loop_fn fn, void *arg);
void ttrpc_server_free(struct ttrpc_server *s);

/* Takes over a connected socket. @on_close (may be NULL) runs on the loop once when the peer has
 * gone, after all calls ended. */
int ttrpc_client_new(struct loop *l, int fd, loop_fn on_close, void *arg, struct rpc_client **ret);
