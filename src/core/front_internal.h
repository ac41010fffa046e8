/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of a front share: front.c, front_reply.c, front_tls.c. Private to core/. */
#pragma once

#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/arena.h"
#include "base/digest.h"
#include "base/json.h"
#include "core/front.h"

struct worker;

struct front {
	atomic_uint refs;
	atomic_bool stopping;
	atomic_size_t n_requests; /* without an answer */
	struct arena *arena;	  /* of the strings below; nothing is added after the start */
	const char *name;
	struct pool *pool;
	struct front_listener listeners[FRONT_LISTENERS_MAX];
	size_t n_listeners, max_connections;
	const struct front_route *routes;
	size_t n_routes;
	void (*stream)(void *arg, int fd);
	void *stream_arg;
	void (*warn)(void *arg, const char *text);
	void *warn_arg;
	int wake; /* eventfd: stopping was set */
	pthread_t thread;

	pthread_mutex_t mu; /* of the next two; set by the thread only, which reads them freely */
	struct worker *worker; /* NULL = there is none at the moment */
	uint64_t generation;   /* counts workers */

	/* The thread's: certificates. */
	int inotify;
	int64_t renew_at;			/* monotonic; 0 = nothing has changed */
	struct digest tls[FRONT_LISTENERS_MAX]; /* of what the worker was given */
};

struct front_request {
	struct front *front;
	uint64_t generation;
	int64_t id;
	json_t *message, *m; /* the whole; its member "request" */
	const struct front_route *route;
};

/* front.c */
void front_ref(struct front *f);
void front_unref(struct front *f);
void front_warn(struct front *f, const struct err *err);
/* To the worker, with f->mu held; @fd -1 = none, stays the caller's. Never waits for long. -kind.
 */
int front_send_locked(struct front *f, const json_t *m, int fd);

/* front_reply.c */
/* Sends the reply and frees the request; @session is taken over (NULL = none), @fd stays the
 * caller's. */
void front_send_reply(struct front_request *q, int status, const char *type,
		      const struct front_header *h, size_t n, const char *body, json_t *session,
		      int fd);

/* front_tls.c */
/* What the worker is to be told about listener @i: NULL = it has no TLS. The caller decrefs. */
int front_tls_read(struct front *f, size_t i, json_t **ret, struct err *err) _must_check_;
int front_tls_watch(struct front *f, struct err *err) _must_check_;
void front_tls_unwatch(struct front *f);
/* For poll(). */
int front_tls_wait_ms(const struct front *f);
/* Gives the worker what has changed; @event: there is something to read from f->inotify. */
void front_tls_renew(struct front *f, bool event);
