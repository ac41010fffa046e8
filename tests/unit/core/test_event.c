/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>

#include "protos.h"
#include "util.h"

struct seen {
	int n;
	struct timespec timestamp;
	char ns[64], topic[64], type_url[64], payload[64];
	size_t payload_len;
};

static void on_event(void *arg, const struct event *e)
{
	struct seen *s = arg;

	s->n++;
	s->timestamp = e->timestamp;
	snprintf(s->ns, sizeof(s->ns), "%s", e->ns);
	snprintf(s->topic, sizeof(s->topic), "%s", e->topic);
	snprintf(s->type_url, sizeof(s->type_url), "%s", e->type_url);
	assert_true(e->payload_len <= sizeof(s->payload));
	memcpy(s->payload, e->payload, e->payload_len);
	s->payload_len = e->payload_len;
}

static struct event_subscription *subscribe(struct fix *f, const char *filter, struct seen *s)
{
	struct event_subscription *sub;

	memset(s, 0, sizeof(*s));
	assert_ok(event_subscribe(f->events, &filter, filter ? 1 : 0, on_event, s, &sub, &f->err));
	return sub;
}

static void publish_exit(struct fix *f, const char *id)
{
	Containerd__Events__TaskExit e = CONTAINERD__EVENTS__TASK_EXIT__INIT;

	e.container_id = (char *)id;
	e.id = (char *)id;
	e.pid = 7;
	assert_ok(event_publish(&f->ctx, f->events, "/tasks/exit", &e.base, &f->err));
}

static void publish_create(struct fix *f)
{
	Containerd__Events__ContainerCreate e = CONTAINERD__EVENTS__CONTAINER_CREATE__INIT;
	Containerd__Events__ContainerCreate__Runtime r =
		CONTAINERD__EVENTS__CONTAINER_CREATE__RUNTIME__INIT;

	e.id = "c1";
	e.runtime = &r;
	r.name = "runc";
	assert_ok(event_publish(&f->ctx, f->events, "/containers/create", &e.base, &f->err));
}

static void publish_update(struct fix *f)
{
	Containerd__Events__ContainerUpdate e = CONTAINERD__EVENTS__CONTAINER_UPDATE__INIT;
	Containerd__Events__ContainerUpdate__LabelsEntry l =
		CONTAINERD__EVENTS__CONTAINER_UPDATE__LABELS_ENTRY__INIT;
	Containerd__Events__ContainerUpdate__LabelsEntry *labels[] = {&l};

	l.key = "a.b";
	l.value = "x";
	e.id = "c1";
	e.labels = labels;
	e.n_labels = 1;
	assert_ok(event_publish(&f->ctx, f->events, "/containers/update", &e.base, &f->err));
}

static void subscriber_gets_what_is_published(void **state)
{
	struct fix *f = *state;
	struct seen s;
	struct event_subscription *sub = subscribe(f, NULL, &s);

	publish_exit(f, "c1");
	assert_int_equal(s.n, 1);
	assert_string_equal(s.ns, "default");
	assert_string_equal(s.topic, "/tasks/exit");
	assert_string_equal(s.type_url, "containerd.events.TaskExit");
	assert_memory_equal(s.payload,
			    "\x0a\x02"
			    "c1",
			    4);
	assert_false(time_is_zero(s.timestamp));
	event_unsubscribe(sub);
	publish_exit(f, "c1");
	assert_int_equal(s.n, 1);
}

static void filters_look_into_the_payload(void **state)
{
	struct fix *f = *state;
	static const struct {
		const char *filter;
		int exits, creates, updates;
	} t[] = {
		{"topic~=/^\\/tasks\\//", 1, 0, 0},
		{"namespace==default", 1, 1, 1},
		{"namespace==other", 0, 0, 0},
		{"event.container_id==c1", 1, 0, 0},
		{"event.container_id==c2", 0, 0, 0},
		{"event.id==c1,topic==\"/containers/create\"", 0, 1, 0},
		{"event.runtime.name==runc", 0, 1, 0},
		{"event.labels.a.b==x", 0, 0, 1},
		{"event.labels.\"a.b\"==x", 0, 0, 1},
		{"event.nosuch", 0, 0, 0},
		{"timestamp", 0, 0, 0},
	};

	for (size_t i = 0; i < ARRAY_LEN(t); i++) {
		struct seen s;
		struct event_subscription *sub = subscribe(f, t[i].filter, &s);

		publish_exit(f, "c1");
		assert_int_equal(s.n, t[i].exits);
		publish_create(f);
		assert_int_equal(s.n, t[i].exits + t[i].creates);
		publish_update(f);
		if (s.n != t[i].exits + t[i].creates + t[i].updates)
			fail_msg("%s: %d", t[i].filter, s.n);
		event_unsubscribe(sub);
	}
}

static void unknown_or_damaged_payload_is_delivered_and_matches_no_field(void **state)
{
	struct fix *f = *state;
	struct seen all, some;
	struct event_subscription *a = subscribe(f, NULL, &all),
				  *b = subscribe(f, "event.id", &some);

	assert_ok(
		event_publish_any(&f->ctx, f->events, "/x/y", "my.Event", "\x0a\x01x", 3, &f->err));
	assert_ok(event_publish_any(&f->ctx, f->events, "/x/y", "containerd.events.TaskExit",
				    "\xff\xff", 2, &f->err));
	assert_int_equal(all.n, 2);
	assert_int_equal(some.n, 0);
	event_unsubscribe(a);
	event_unsubscribe(b);
}

static void publish_and_forward_check_the_envelope(void **state)
{
	struct fix *f = *state;
	struct event e = {.timestamp = {5, 0}, .ns = "ns", .topic = "/a/b", .type_url = "t"};
	struct seen s;
	struct event_subscription *sub = subscribe(f, NULL, &s);

	assert_err(event_publish_any(&f->ctx, f->events, "bad", "t", "", 0, &f->err),
		   ERR_INVALID_ARGUMENT,
		   "envelope topic \"bad\": must start with '/': invalid argument");
	assert_int_equal(event_publish_any(&f->ctx, f->events, "/", "t", "", 0, &f->err),
			 -ERR_INVALID_ARGUMENT);
	assert_int_equal(event_publish_any(&f->ctx, f->events, "/a//b", "t", "", 0, &f->err),
			 -ERR_INVALID_ARGUMENT);
	f->ctx.ns = "";
	assert_int_equal(event_publish_any(&f->ctx, f->events, "/a", "t", "", 0, &f->err),
			 -ERR_FAILED_PRECONDITION);
	assert_ok(event_forward(&f->ctx, f->events, &e, &f->err));
	assert_int_equal(s.timestamp.tv_sec, 5);
	assert_string_equal(s.ns, "ns");
	e.timestamp.tv_sec = 0;
	assert_int_equal(event_forward(&f->ctx, f->events, &e, &f->err), -ERR_INVALID_ARGUMENT);
	e.timestamp.tv_sec = 1;
	e.ns = "";
	assert_int_equal(event_forward(&f->ctx, f->events, &e, &f->err), -ERR_INVALID_ARGUMENT);
	assert_int_equal(s.n, 1);
	event_unsubscribe(sub);
}

static void bad_filter_is_no_subscription(void **state)
{
	struct fix *f = *state;
	const char *filter = "a=b";
	struct event_subscription *sub;

	assert_err(event_subscribe(f->events, &filter, 1, on_event, NULL, &sub, &f->err),
		   ERR_INVALID_ARGUMENT,
		   "failed parsing subscription filters: filters: parse error: [a >|=|< b]: "
		   "unsupported operator \"=\": invalid argument");
}

struct chain {
	struct fix *f;
	int n;
};

static void publish_again(void *arg, const struct event *e)
{
	struct chain *c = arg;

	if (++c->n < 3)
		publish_exit(c->f, "again");
}

static void subscriber_may_publish(void **state)
{
	struct fix *f = *state;
	struct chain c = {f, 0};
	struct event_subscription *sub;

	assert_ok(event_subscribe(f->events, NULL, 0, publish_again, &c, &sub, &f->err));
	publish_exit(f, "first");
	assert_int_equal(c.n, 3);
	event_unsubscribe(sub);
}

static void count(void *arg, const struct event *e)
{
	(*(int *)arg)++; /* under the exchange's lock */
}

static void *publish_many(void *arg)
{
	struct fix *f = arg;
	_cleanup_arena_ struct arena *a = arena_new(0);
	struct ctx ctx = {.arena = a, .ns = "default", .lease = ""};

	for (int i = 0; i < 200; i++)
		if (event_publish_any(&ctx, f->events, "/a", "t", "", 0, NULL) < 0)
			return "failed";
	return NULL;
}

static void nothing_is_lost_between_threads(void **state)
{
	struct fix *f = *state;
	struct event_subscription *sub;
	pthread_t t[4];
	int n = 0;

	assert_ok(event_subscribe(f->events, NULL, 0, count, &n, &sub, &f->err));
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&t[i], NULL, publish_many, f), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	event_unsubscribe(sub);
	assert_int_equal(n, 800);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, fix_setup, fix_teardown)
		T(subscriber_gets_what_is_published),
		T(filters_look_into_the_payload),
		T(unknown_or_damaged_payload_is_delivered_and_matches_no_field),
		T(publish_and_forward_check_the_envelope),
		T(bad_filter_is_no_subscription),
		T(subscriber_may_publish),
		T(nothing_is_lost_between_threads),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
