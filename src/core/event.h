/* SPDX-License-Identifier: Apache-2.0 */
/* Event exchange: what happens in the daemon, to everybody who subscribed.
 *
 * No replay. A subscriber's function runs on the publisher's thread, must not block and must not
 * subscribe or unsubscribe in there. Any thread. */
#pragma once

#include <protobuf-c/protobuf-c.h>
#include <time.h>

#include "base/ctx.h"
#include "core/filter.h"

struct event_exchange;
struct event_subscription;

struct event {
	struct timespec timestamp;
	const char *ns;
	const char *topic;
	const char *type_url; /* of the payload */
	const void *payload;
	size_t payload_len;
};

int event_exchange_new(struct event_exchange **ret);
void event_exchange_free(struct event_exchange *x);

/* Publishes a message in ctx's namespace, now. Topic: "/" and identifiers. -ERR_INVALID_ARGUMENT.
 */
int event_publish(struct ctx *ctx, struct event_exchange *x, const char *topic,
		  const ProtobufCMessage *msg, struct err *err);
/* The same with a packed payload (Events.Publish). */
int event_publish_any(struct ctx *ctx, struct event_exchange *x, const char *topic,
		      const char *type_url, const void *p, size_t n, struct err *err) _must_check_;
/* With its own timestamp and namespace (Events.Forward). */
int event_forward(struct ctx *ctx, struct event_exchange *x, const struct event *e,
		  struct err *err) _must_check_;

/* @filters as of Events.Subscribe: namespace, topic, event.<field>... ; parsed here.
 * @fn gets events that match; the event is valid during the call only. */
typedef void (*event_fn)(void *arg, const struct event *e);
int event_subscribe(struct event_exchange *x, const char *const *filters, size_t n, event_fn fn,
		    void *arg, struct event_subscription **ret, struct err *err) _must_check_;
/* After the return @fn does not run any more. */
void event_unsubscribe(struct event_subscription *s);
