/* SPDX-License-Identifier: Apache-2.0 */
/* A server with an echo service of each kind of call, a client to it, and a loop on its own thread:
 * for both transports. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "base/time.h"
#include "protos.h"
#include "rpc/grpc.h"
#include "rpc/ttrpc.h"

typedef Google__Protobuf__Any Any;

#define ECHO "test.Echo"
#define WAIT_NS (60 * NSEC_PER_SEC)

struct harness {
	bool ttrpc;
	struct loop *loop;
	pthread_t thread;
	struct pool *pool;
	struct grpc_server *grpc;
	struct ttrpc_server *tt;
	struct rpc_client *client;
	char path[64];
	/* What handlers report: */
	sem_t entered, canceled, closed;
	atomic_int done_code, n_done;
	atomic_size_t sent, received;
	atomic_bool release;
};

extern struct harness H;

/* @o NULL: defaults. */
void harness_start(bool ttrpc, const struct grpc_server_options *o);
void harness_stop(void);
int harness_connect(void);
struct rpc_client *harness_client(size_t max_recv);
/* Runs on the loop and waits for it. */
void harness_on_loop(loop_fn fn, void *arg);
void sem_wait_or_fail(sem_t *s);

/* A context with its arena; @timeout 0 = none. */
void ctx_start(struct ctx *ctx, int64_t timeout);
void ctx_end(struct ctx *ctx);
Any any_of(const char *what, const void *p, size_t n);
/* Unary call "method" with type_url @what; *@ret in ctx's arena. */
int echo_call(struct rpc_client *c, struct ctx *ctx, const char *method, const char *what,
	      const void *p, size_t n, Any **ret, struct err *err);
