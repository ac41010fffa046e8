/* SPDX-License-Identifier: Apache-2.0 */
/* containerd.services.events.v1.Events, and the Forward of the ttrpc socket by which shims report.
 *
 * A subscription holds no thread: its events are queued in the stream. A subscriber that does not
 * read gets as far as QUEUE_MAX unsent bytes behind, then its stream ends with ResourceExhausted;
 * nobody else notices. */
#include "core/event.h"

#include <sched.h>
#include <stdlib.h>

#include "base/str.h"
#include "event/loop.h"
#include "services/pb.h"
#include "services/services.h"

#define EV(x) Containerd__Services__Events__V1__##x

#define QUEUE_MAX (16u << 20)

static int publish(struct rpc_call *call, const void *req, struct err *err)
{
	const EV(PublishRequest) *r = req;
	struct services *s = rpc_data(call);
	struct any any = pb_any_get(r->event);
	int e = event_publish_any(rpc_ctx(call), s->events, r->topic, str_or(any.type_url, ""),
				  any.value, any.len, err);
	return e < 0 ? e : pb_send_empty(call, err);
}

static int forward_envelope(struct rpc_call *call, const Containerd__Types__Envelope *env,
			    struct err *err)
{
	struct services *s = rpc_data(call);
	if (!env)
		return err_set(err, ERR_INVALID_ARGUMENT, "envelope is required");
	struct any any = pb_any_get(env->event);
	struct event e = {.timestamp = pb_time_get(env->timestamp),
			  .ns = env->namespace_,
			  .topic = env->topic,
			  .type_url = str_or(any.type_url, ""),
			  .payload = any.value,
			  .payload_len = any.len};
	int r = event_forward(rpc_ctx(call), s->events, &e, err);
	return r < 0 ? r : pb_send_empty(call, err);
}

static int forward(struct rpc_call *call, const void *req, struct err *err)
{
	return forward_envelope(call, ((const EV(ForwardRequest) *)req)->envelope, err);
}

static int ttrpc_forward(struct rpc_call *call, const void *req, struct err *err)
{
	return forward_envelope(
		call,
		((const Containerd__Services__Events__Ttrpc__V1__ForwardRequest *)req)->envelope,
		err);
}

/* ---- Subscribe ---- */

/* Whoever makes the state READY | ENDING has it ended on the loop; after that it is not touched any
 * more. */
enum { READY = 1, ENDING = 2 };

struct subscriber {
	struct rpc_call *call;
	struct loop *loop;
	struct event_subscription *sub;
	atomic_bool claimed; /* somebody ends it */
	atomic_int state;
	int kind;   /* why it ends; set by who claimed it, before ENDING */
	char *text; /* of that; there are many subscribers, and few that fail: no struct err */
};

/* The loop waits here for a delivery that is under way, whose subscribers do not block. */
static void subscriber_end(void *arg)
{
	struct subscriber *sb = arg;
	struct err err = ERR_INIT;
	event_unsubscribe(sb->sub);
	if (sb->kind != ERR_CANCELED)
		(void)err_set_raw(&err, (enum err_kind)sb->kind, "%s", sb->text ? sb->text : "");
	rpc_finish(sb->call, err.kind ? &err : NULL);
	free(sb->text);
	free(sb);
}

/* From a publisher's thread. Without memory for the post it is tried again at the next event. */
static void subscriber_stop(struct subscriber *sb, const struct err *why)
{
	if (atomic_exchange(&sb->claimed, true))
		return;
	sb->kind = why->kind;
	free(sb->text);
	sb->text = strdup(why->text);
	if (!(atomic_fetch_or(&sb->state, ENDING) & READY) ||
	    loop_post(sb->loop, subscriber_end, sb) == 0)
		return;
	atomic_fetch_and(&sb->state, ~ENDING);
	atomic_store(&sb->claimed, false);
}

/* On the loop. */
static void subscriber_canceled(void *arg)
{
	struct subscriber *sb = arg;
	if (atomic_exchange(&sb->claimed, true))
		return;
	sb->kind = ERR_CANCELED;
	if (atomic_fetch_or(&sb->state, ENDING) & READY)
		subscriber_end(sb);
}

static void subscriber_event(void *arg, const struct event *e)
{
	struct subscriber *sb = arg;
	Containerd__Types__Envelope env = CONTAINERD__TYPES__ENVELOPE__INIT;
	Google__Protobuf__Any any = GOOGLE__PROTOBUF__ANY__INIT;
	Google__Protobuf__Timestamp ts = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
	struct err err = ERR_INIT;
	if (atomic_load(&sb->claimed))
		return;
	ts.seconds = e->timestamp.tv_sec;
	ts.nanos = (int32_t)e->timestamp.tv_nsec;
	any.type_url = (char *)e->type_url;
	any.value = (ProtobufCBinaryData){.data = (uint8_t *)e->payload, .len = e->payload_len};
	env.timestamp = &ts;
	env.namespace_ = (char *)e->ns;
	env.topic = (char *)e->topic;
	env.event = &any;
	size_t n = protobuf_c_message_get_packed_size(&env.base);
	_cleanup_free_ uint8_t *packed = malloc(n);
	if (!packed) {
		err_nomem(&err);
		subscriber_stop(sb, &err);
		return;
	}
	protobuf_c_message_pack(&env.base, packed);
	if (rpc_send_packed_nowait(sb->call, packed, n, QUEUE_MAX, &err) < 0)
		subscriber_stop(sb, &err);
}

static int subscribe(struct rpc_call *call, const void *req, struct err *err)
{
	const EV(SubscribeRequest) *r = req;
	struct services *s = rpc_data(call);
	struct subscriber *sb = calloc(1, sizeof(*sb));
	if (!sb)
		return err_nomem(err);
	sb->call = call;
	sb->loop = s->loop;
	int e = event_subscribe(s->events, (const char *const *)r->filters, r->n_filters,
				subscriber_event, sb, &sb->sub, err);
	if (e < 0) {
		free(sb);
		return err_set_raw(err, ERR_UNKNOWN, "subscription error: %s", err->text);
	}
	int deferred = rpc_defer_wait(call);
	rpc_on_cancel(call, subscriber_canceled, sb);
	if (atomic_fetch_or(&sb->state, READY) & ENDING)
		while (loop_post(s->loop, subscriber_end, sb) < 0)
			sched_yield(); /* no memory for the few bytes of a post: there will be */
	return deferred;
}

static const struct rpc_method methods[] = {
	{"Publish", RPC_UNARY, publish},
	{"Forward", RPC_UNARY, forward},
	{"Subscribe", RPC_SERVER_STREAM, subscribe},
};

static const struct rpc_method ttrpc_methods[] = {
	{"Forward", RPC_UNARY, ttrpc_forward},
};

SERVICE(events, &containerd__services__events__v1__events__descriptor, methods)
SERVICE(ttrpc_events, &containerd__services__events__ttrpc__v1__events__descriptor, ttrpc_methods)
