/* SPDX-License-Identifier: Apache-2.0 */
/* Listening sockets of a server, on the loop. */
#pragma once

#include "event/loop.h"

struct rpc_listener;

/* Takes @fd over on success and calls @fn with each accepted, close-on-exec descriptor (then
 * @fn's). When the process is out of descriptors it pauses for a moment instead of spinning. 0 or
 * -errno. */
int rpc_listener_add(struct rpc_listener **list, struct loop *l, int fd,
		     void (*fn)(void *arg, int fd), void *arg);
/* Closes all. */
void rpc_listeners_free(struct rpc_listener **list);
