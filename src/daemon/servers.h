/* SPDX-License-Identifier: Apache-2.0 */
/* Servers behind fronts: what their plugins' init functions share with the daemon's end. */
#pragma once

#include "core/front.h"
#include "daemon/daemon_internal.h"

struct plugin_init;

/* Registers a service for gRPC over TCP. Without one but health, which is always there, the server
 * serves nothing else. */
int server_tcp_add(struct daemon *d, const struct rpc_service *service,
		   struct err *err) _must_check_;

/* Starts a front that ends with the daemon; @o without pool and warn, which are set here. */
int server_front_start(struct daemon *d, struct front_options *o, struct err *err) _must_check_;

/* Ends all fronts. Not on the loop, before the pool goes. */
void servers_stop(struct daemon *d);

/* init.c: a unix socket that is removed at the end. */
int server_listen_unix(struct plugin_init *in, const char *address, int *ret_fd,
		       struct err *err) _must_check_;
