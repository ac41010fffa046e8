/* SPDX-License-Identifier: Apache-2.0 */
/* Events through gRPC: who subscribed gets them, who does not read is cut off, who goes leaves
 * nothing behind. */
#include "harness.h"

#include <sched.h>

#define EV(x) Containerd__Services__Events__V1__##x
typedef Containerd__Types__Envelope Envelope;
#define ENVELOPE &containerd__types__envelope__descriptor
#define EMPTY &google__protobuf__empty__descriptor

static struct rpc_stream *subscribe(struct harness *h, struct rpc_client *c, const char *filter)
{
	EV(SubscribeRequest) req = CONTAINERD__SERVICES__EVENTS__V1__SUBSCRIBE_REQUEST__INIT;
	char *filters[] = {(char *)filter};
	struct rpc_stream *st;
	req.filters = filters;
	req.n_filters = filter ? 1 : 0;
	assert_ok(rpc_stream_open(c, &h->ctx, EVENTS, "Subscribe", &st, &h->err));
	assert_ok(rpc_stream_send(st, &req.base, &h->err));
	assert_ok(rpc_stream_close_send(st, &h->err));
	return st;
}

static int publish(struct harness *h, const char *topic, const void *p, size_t n)
{
	return event_publish_any(&h->ctx, h->events, topic, "test", p, n, &h->err);
}

static Envelope *next(struct harness *h, struct rpc_stream *st, const char *topic)
{
	Envelope *e;
	for (;;) {
		int r = rpc_stream_recv(st, h->arena, ENVELOPE, &e, &h->err);
		if (r != 1)
			fail_msg("%d %s", r, h->err.text);
		if (streq(e->topic, topic))
			return e;
	}
}

/* Publishes until the subscriber has got the first: there is no answer to Subscribe itself. */
struct starter {
	struct harness *h;
	const char *topic;
	atomic_bool stop;
};

static void *starter_main(void *arg)
{
	struct starter *s = arg;
	while (!atomic_load(&s->stop)) {
		struct arena *a = arena_new(0);
		struct ctx ctx = {.arena = a, .ns = "default", .lease = ""};
		(void)!event_publish_any(&ctx, s->h->events, s->topic, "test", "", 0, NULL);
		arena_free(a);
		usleep(2000);
	}
	return NULL;
}

static void wait_started(struct harness *h, struct rpc_stream *st)
{
	struct starter s = {.h = h, .topic = "/start"};
	pthread_t t;
	assert_int_equal(pthread_create(&t, NULL, starter_main, &s), 0);
	next(h, st, "/start");
	atomic_store(&s.stop, true);
	pthread_join(t, NULL);
}

static void subscriber_gets_what_is_published_and_forwarded(void **state)
{
	struct harness *h = *state;
	EV(PublishRequest) pr = CONTAINERD__SERVICES__EVENTS__V1__PUBLISH_REQUEST__INIT;
	EV(ForwardRequest) fr = CONTAINERD__SERVICES__EVENTS__V1__FORWARD_REQUEST__INIT;
	Google__Protobuf__Any any = GOOGLE__PROTOBUF__ANY__INIT;
	Google__Protobuf__Timestamp ts = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
	Envelope env = CONTAINERD__TYPES__ENVELOPE__INIT, *e;
	struct rpc_stream *st = subscribe(h, h->client, NULL);
	wait_started(h, st);
	any.type_url = (char *)"type.example/x";
	any.value = (ProtobufCBinaryData){.data = (uint8_t *)"abc", .len = 3};
	pr.topic = (char *)"/a/b";
	pr.event = &any;
	assert_ok(call(h, EVENTS, "Publish", &pr, EMPTY, NULL));
	e = next(h, st, "/a/b");
	assert_string_equal(e->namespace_, "default");
	assert_string_equal(e->event->type_url, "type.example/x");
	assert_memory_equal(e->event->value.data, "abc", 3);
	assert_true(e->timestamp->seconds > 1000000000);
	ts.seconds = 77;
	ts.nanos = 5;
	env.timestamp = &ts;
	env.namespace_ = (char *)"elsewhere";
	env.topic = (char *)"/c";
	env.event = &any;
	fr.envelope = &env;
	assert_ok(call(h, EVENTS, "Forward", &fr, EMPTY, NULL));
	e = next(h, st, "/c");
	assert_string_equal(e->namespace_, "elsewhere");
	assert_int_equal(e->timestamp->seconds, 77);
	assert_int_equal(e->timestamp->nanos, 5);
	rpc_stream_free(st);
}

static void bad_requests_are_refused(void **state)
{
	struct harness *h = *state;
	EV(PublishRequest) pr = CONTAINERD__SERVICES__EVENTS__V1__PUBLISH_REQUEST__INIT;
	EV(ForwardRequest) fr = CONTAINERD__SERVICES__EVENTS__V1__FORWARD_REQUEST__INIT;
	Envelope *e;
	pr.topic = (char *)"no-slash";
	assert_int_equal(call(h, EVENTS, "Publish", &pr, EMPTY, NULL), -ERR_INVALID_ARGUMENT);
	assert_int_equal(call(h, EVENTS, "Forward", &fr, EMPTY, NULL), -ERR_INVALID_ARGUMENT);
	struct rpc_stream *st = subscribe(h, h->client, "a=b");
	assert_int_equal(rpc_stream_recv(st, h->arena, ENVELOPE, &e, &h->err), -ERR_UNKNOWN);
	assert_non_null(
		strstr(h->err.text, "subscription error: failed parsing subscription filters: "));
	assert_null(strstr(h->err.text, "filters: failed parsing subscription"));
	rpc_stream_free(st);
}

static void subscriber_gets_what_its_filter_lets_through(void **state)
{
	struct harness *h = *state;
	struct rpc_stream *st = subscribe(h, h->client, "topic~=^/start|^/wanted");
	Envelope *e;
	wait_started(h, st);
	assert_ok(publish(h, "/not", "", 0));
	assert_ok(publish(h, "/wanted", "1", 1));
	do
		assert_int_equal(rpc_stream_recv(st, h->arena, ENVELOPE, &e, &h->err), 1);
	while (streq(e->topic, "/start"));
	assert_string_equal(e->topic, "/wanted");
	rpc_stream_free(st);
}

#define BIG ((size_t)1 << 20)

static void who_does_not_read_is_cut_off_and_others_go_on(void **state)
{
	struct harness *h = *state;
	struct rpc_client *other = harness_connect(h);
	struct rpc_stream *slow = subscribe(h, h->client, NULL), *fast = subscribe(h, other, NULL);
	uint8_t *big = calloc(1, BIG);
	Envelope *e;
	int r;
	wait_started(h, slow);
	wait_started(h, fast);
	int done = atomic_load(&h->done);
	/* More than a stream may have unsent, and than windows and sockets hold. */
	for (int i = 0; i < 24; i++) {
		assert_ok(publish(h, "/big", big, BIG));
		assert_int_equal(next(h, fast, "/big")->event->value.len, BIG);
		arena_reset(h->arena);
	}
	harness_wait_done(h, done + 1);
	while ((r = rpc_stream_recv(slow, h->arena, ENVELOPE, &e, &h->err)) == 1)
		arena_reset(h->arena);
	assert_int_equal(r, -ERR_RESOURCE_EXHAUSTED);
	rpc_stream_free(slow);
	assert_ok(publish(h, "/after", "x", 1));
	next(h, fast, "/after");
	rpc_stream_free(fast);
	rpc_client_free(other);
	free(big);
}

static void cancel_and_disconnect_end_the_subscription(void **state)
{
	struct harness *h = *state;
	struct rpc_client *other = harness_connect(h);
	struct rpc_stream *a = subscribe(h, h->client, NULL), *b = subscribe(h, other, NULL);
	wait_started(h, a);
	wait_started(h, b);
	int done = atomic_load(&h->done);
	rpc_stream_cancel(a);
	rpc_stream_free(a);
	harness_wait_done(h, done + 1);
	rpc_client_free(other);
	harness_wait_done(h, done + 2);
	rpc_stream_free(b);
	assert_ok(publish(h, "/nobody", "x", 1));
}

static struct rpc_stream *left;

/* The client is there until the server goes. */
static void server_may_end_before_its_subscriptions(void **state)
{
	struct harness *h = *state;
	left = subscribe(h, h->client, NULL);
	wait_started(h, left);
}

static int teardown_with_stream(void **state)
{
	struct harness *h = *state;
	Envelope *e;
	harness_drain(h);
	while (rpc_stream_recv(left, h->arena, ENVELOPE, &e, &h->err) == 1)
		;
	rpc_stream_free(left);
	return harness_teardown(state);
}

struct storm {
	struct harness *h;
	atomic_bool stop;
};

static void *storm_publish(void *arg)
{
	struct storm *s = arg;
	struct arena *a = arena_new(0);
	struct ctx ctx = {.arena = a, .ns = "default", .lease = ""};
	uint8_t p[4096] = {0};
	while (!atomic_load(&s->stop)) {
		(void)!event_publish_any(&ctx, s->h->events, "/storm", "test", p, sizeof(p), NULL);
		arena_reset(a);
		sched_yield();
	}
	arena_free(a);
	return NULL;
}

static void subscriptions_come_and_go_while_events_flow(void **state)
{
	struct harness *h = *state;
	struct storm s = {.h = h};
	pthread_t t[2];
	Envelope *e;
	int done = atomic_load(&h->done);
	for (size_t i = 0; i < ARRAY_LEN(t); i++)
		assert_int_equal(pthread_create(&t[i], NULL, storm_publish, &s), 0);
	for (int i = 0; i < 100; i++) {
		struct rpc_stream *st = subscribe(h, h->client, NULL);
		if (i % 3)
			assert_int_equal(rpc_stream_recv(st, h->arena, ENVELOPE, &e, &h->err), 1);
		if (i % 2)
			rpc_stream_cancel(st);
		rpc_stream_free(st);
		arena_reset(h->arena);
	}
	atomic_store(&s.stop, true);
	for (size_t i = 0; i < ARRAY_LEN(t); i++)
		pthread_join(t[i], NULL);
	/* Those that were canceled before they were sent have never reached the server. */
	harness_wait_done(h, done + 66);
}

#define T(name) cmocka_unit_test_setup_teardown(name, harness_setup, harness_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(subscriber_gets_what_is_published_and_forwarded),
		T(bad_requests_are_refused),
		T(subscriber_gets_what_its_filter_lets_through),
		T(who_does_not_read_is_cut_off_and_others_go_on),
		T(cancel_and_disconnect_end_the_subscription),
		cmocka_unit_test_setup_teardown(server_may_end_before_its_subscriptions,
						harness_setup, teardown_with_stream),
		T(subscriptions_come_and_go_while_events_flow),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
