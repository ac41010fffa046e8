/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of client/ share. */
#pragma once

#include <pthread.h>
#include <stdbool.h>

#include "client/client.h"
#include "event/loop.h"

struct client {
	struct loop *loop;
	struct rpc_client *rpc;
	pthread_t thread; /* runs the loop */
	bool running;
};
