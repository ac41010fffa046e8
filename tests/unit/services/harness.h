/* SPDX-License-Identifier: Apache-2.0 */
/* The services on a database in a directory of their own, behind a gRPC server, and a client: what
 * a client of the daemon sees, in one process. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "base/time.h"
#include "core/content.h"
#include "core/event.h"
#include "event/loop.h"
#include "event/pool.h"
#include "plugins/streaming/manager.h"
#include "protos.h"
#include "rpc/grpc.h"
#include "services/pb.h"
#include "services/services.h"

struct harness {
	char dir[64], socket[64];
	struct arena *arena;
	struct ctx ctx; /* of the client: namespace "default" */
	struct err err;
	struct event_exchange *events;
	struct content_store *content;
	struct services s;
	struct loop *loop;
	pthread_t thread;
	struct grpc_server *server;
	struct rpc_client *client;
	bool draining;
	sem_t drained;
	atomic_int done; /* calls whose outcome the server has decided */
};

int harness_setup(void **state);
int harness_teardown(void **state);
/* Ends the server, its clients notwithstanding. */
void harness_drain(struct harness *h);
struct rpc_client *harness_connect(struct harness *h);
/* Waits until @n calls in all have got their outcome. */
void harness_wait_done(struct harness *h, int n);
void sem_wait_or_fail(sem_t *s);

/* Unary call of h->client; the reply in h->arena. */
int call(struct harness *h, const char *service, const char *method, const void *req,
	 const ProtobufCMessageDescriptor *desc, void *ret);

#define assert_ok(c)                                         \
	do {                                                 \
		h->err = ERR_INIT;                           \
		if ((c) != 0)                                \
			fail_msg("%s: %s", #c, h->err.text); \
	} while (0)

#define assert_err(c, error_kind, error_text)                 \
	do {                                                  \
		h->err = ERR_INIT;                            \
		assert_int_equal((c), -(error_kind));         \
		assert_string_equal(h->err.text, error_text); \
	} while (0)

#define IMAGES "containerd.services.images.v1.Images"
#define CONTAINERS "containerd.services.containers.v1.Containers"
#define NAMESPACES "containerd.services.namespaces.v1.Namespaces"
#define LEASES "containerd.services.leases.v1.Leases"
#define CONTENT "containerd.services.content.v1.Content"
#define EVENTS "containerd.services.events.v1.Events"
#define SANDBOXES "containerd.services.sandbox.v1.Store"
#define STREAMING "containerd.services.streaming.v1.Streaming"
