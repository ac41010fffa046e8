/* SPDX-License-Identifier: Apache-2.0 */
/* Events on their way to the daemon: a queue that outlives the daemon's absence.
 *
 * Events leave in order, one at a time, over ttrpc to the daemon's events service. The connection
 * is made when there is something to send and closed when it has been idle. While the daemon is
 * away the queue is kept and tried again; when it holds PUBLISHER_MAX events the oldest is lost. An
 * event that the daemon itself refuses several times is dropped.
 *
 * A daemon that comes back takes events before anybody can have subscribed again, and keeps none.
 * So what has waited for it waits some seconds more: gRPC clients reconnect in one to three.
 */
#pragma once

#include <protobuf-c/protobuf-c.h>

#include "base/err.h"
#include "event/loop.h"

#define PUBLISHER_MAX 2048

struct publisher;

/* @address: socket path, "unix://" in front is fine; "" = events are thrown away. Strings are
 * copied. -errno. */
int publisher_new(struct loop *l, const char *address, const char *ns, struct publisher **ret);
void publisher_free(struct publisher *p);
/* Packs @msg now; its type name becomes the type URL. @topic is a literal. Failing (no memory) is
 * logged. */
void publisher_send(struct publisher *p, const char *topic, const ProtobufCMessage *msg);
/* Connects again at once: the daemon is known to be back. */
void publisher_kick(struct publisher *p);
size_t publisher_pending(const struct publisher *p);
/* @fn once when nothing is pending (at once if so already). One at a time. */
void publisher_when_empty(struct publisher *p, loop_fn fn, void *arg);
