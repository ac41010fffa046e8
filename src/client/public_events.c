/* SPDX-License-Identifier: Apache-2.0 */
/* The public interface: events, on a thread for each subscription. */
#include "client/public.h"

#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "client/internal.h"

struct containerd_subscription {
	struct call call;
	struct rpc_stream *stream;
	containerd_event_fn fn;
	void *arg;
	pthread_t thread;
	atomic_bool stopped;
};

/* "" when the type is not known, or the event is damaged. */
static char *event_json(struct arena *a, const Google__Protobuf__Any *any)
{
	const ProtobufCMessageDescriptor *type = any ? client_any_type(any->type_url) : NULL;
	json_t *j _cleanup_json_ = NULL;
	struct err ignored = ERR_INIT;
	ProtobufCMessage *m;

	if (type && rpc_unpack(a, type, any->value.data, any->value.len, &m, &ignored) == 0)
		j = pb_json(m);
	return j ? json_dumps(j, JSON_COMPACT) : NULL;
}

static void tell(struct containerd_subscription *s, const PB_TYPES(Envelope) * e)
{
	char *text _cleanup_free_ = event_json(s->call.ctx.arena, e->event);
	struct timespec t = pb_time(e->timestamp);
	struct containerd_event event = {
		.time_s = t.tv_sec,
		.time_ns = (int32_t)t.tv_nsec,
		.ns = e->namespace_,
		.topic = e->topic,
		.type = e->event ? e->event->type_url : "",
		.event = text_or_empty(text),
	};

	s->fn(s->arg, &event, NULL);
}

static void *receive(void *arg)
{
	struct containerd_subscription *s = arg;
	struct arena *a = s->call.ctx.arena;
	struct containerd_error end;
	PB_TYPES(Envelope) * e;
	int r;

	while ((r = rpc_stream_recv(s->stream, a, &containerd__types__envelope__descriptor, &e,
				    &s->call.err)) > 0) {
		tell(s, e);
		arena_reset(a);
	}
	if (atomic_load(&s->stopped))
		r = 0;
	call_end(&s->call, r, &end);
	s->fn(s->arg, NULL, r < 0 ? &end : NULL);
	return NULL;
}

static int subscribe(struct containerd_subscription *s, const char *const *filters, size_t n)
{
	PB_EVENTS(SubscribeRequest) req = PB_EVENTS_INIT(SUBSCRIBE_REQUEST);
	struct call *k = &s->call;
	int r;

	req.filters = (char **)filters;
	req.n_filters = n;
	r = client_stream(k->client, &k->ctx, PB_EVENTS_SERVICE, "Subscribe", &req.base, &s->stream,
			  &k->err);
	if (r < 0)
		return r;
	r = client_thread_start(&s->thread, receive, s);
	return r < 0 ? err_errno(&k->err, r, "start a thread") : 0;
}

static void subscription_free(struct containerd_subscription *s)
{
	if (s->stream)
		rpc_stream_free(s->stream);
	call_done(&s->call);
	free(s);
}

int containerd_events_subscribe(struct containerd_client *client, const char *const *filters,
				size_t n_filters, containerd_event_fn fn, void *arg,
				struct containerd_subscription **ret,
				struct containerd_error *error)
{
	struct containerd_subscription *s = calloc(1, sizeof(*s));
	struct call none = {};
	int r;

	if (!s)
		return call_end(&none, err_nomem(&none.err), error);
	s->fn = fn;
	s->arg = arg;
	r = call_begin(&s->call, client);
	call_endless(&s->call);
	if (r == 0)
		r = subscribe(s, filters, n_filters);
	if (r == 0) {
		*ret = s;
		return 0;
	}
	r = call_end(&s->call, r, error);
	subscription_free(s);
	return r;
}

void containerd_subscription_free(struct containerd_subscription *s)
{
	if (!s)
		return;
	atomic_store(&s->stopped, true);
	rpc_stream_cancel(s->stream);
	pthread_join(s->thread, NULL);
	subscription_free(s);
}
