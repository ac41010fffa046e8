/* SPDX-License-Identifier: Apache-2.0 */
/* What the daemon is made of: shared by daemon.c, which runs it, and init.c, which starts its
 * plugins. */
#pragma once

#include <stdatomic.h>
#include <sys/types.h>

#include "base/json.h"
#include "daemon/daemon.h"
#include "daemon/plugin.h"
#include "event/loop.h"
#include "event/pool.h"
#include "plugins/sandbox/controller.h"
#include "rpc/grpc.h"
#include "rpc/ttrpc.h"
#include "services/services.h"

struct cri;
struct cri_config;
struct nri;
struct front;
struct proxy;
struct rdt;
struct restart_monitor;

#define DAEMON_SERVICES_MAX 32
#define DAEMON_FRONTS_MAX 8
#define DAEMON_PROXIES_MAX 64

struct daemon {
	const struct config *config;
	struct loop *loop; /* main's thread */
	struct pool *pool;
	struct plugin_set *plugins; /* NULL while they are being started */
	struct services services;
	struct restart_monitor *restart; /* NULL = there is none */
	json_t *blockio;		 /* classes of block I/O; NULL = not enabled */
	struct rdt *rdt;		 /* classes of RDT; NULL = not enabled */
	struct cri_config *cri_config;	 /* of its plugins, in the set's arena */
	struct sandbox_controllers sandboxers;
	struct sandbox_controller *shim_sandboxes; /* NULL = there are none */
	struct nri *nri;			   /* NULL = disabled */
	struct cri *cri;			   /* NULL = there is none */
	struct proxy *proxies[DAEMON_PROXIES_MAX]; /* of proxy_plugins */
	size_t n_proxies;
	struct rpc_service tables[DAEMON_SERVICES_MAX];
	size_t n_tables;
	struct rpc_service ttrpc_events;
	struct grpc_server *grpc;
	struct ttrpc_server *ttrpc;
	int grpc_fd, ttrpc_fd, tcp_fd; /* listening; handed to the servers when all is ready. -1 =
					  none */
	struct grpc_server *grpc_tcp;  /* NULL = there is none */
	struct rpc_service tcp_tables[DAEMON_SERVICES_MAX]; /* beside health */
	size_t n_tcp_tables;
	struct rpc_service tcp_health;
	struct front *fronts[DAEMON_FRONTS_MAX]; /* see servers.h */
	size_t n_fronts;
	bool grpc_histogram, container_metrics; /* of the metrics server */
	char *exe;				/* this executable */
	int draining;				/* servers that still have connections (loop) */
	atomic_bool started;			/* set by the loop */
	atomic_bool stopping;			/* set by the loop */
	struct daemon_socket { /* a file that goes with the daemon, while it is still the one that
				  it made */
		char *path;
		dev_t dev;
		ino_t ino;
	} sockets[4];
	size_t n_sockets;
	pthread_t starter;
	bool joined;	     /* the starter has been waited for */
	struct ctx recovery; /* of the starter, while it finds the pods of an earlier daemon */
	struct err start_err;
};

/* grpc_server_options.on_done: what went wrong is logged here. */
void daemon_call_done(void *arg, const char *path, int code, const char *text, int64_t ns);
/* Starts a plugin of proxy_plugins. */
plugin_init_fn plugin_proxy_init;
/* While the loop runs; and after it. */
void proxies_disconnect(struct daemon *d);
void proxies_free(struct daemon *d);

/* Introspection's view of the plugin set. */
extern const struct introspection_ops daemon_introspection;
