/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of client/ share. */
#pragma once

#include <pthread.h>
#include <stdbool.h>

#include "client/client.h"
#include "event/loop.h"

/* A thread with all signals blocked, so that they reach the program's own threads, and a write to a
 * pipe that has closed is an error and no more. 0 or -errno. */
int client_thread_start(pthread_t *ret, void *(*fn)(void *arg), void *arg);

struct client {
	struct loop *loop;
	struct rpc_client *rpc;
	pthread_t thread; /* runs the loop */
	bool running;
};
