/* SPDX-License-Identifier: Apache-2.0 */
/* What holds for calls over both transports. */
#include "harness.h"

#include "base/str.h"

static int setup_grpc(void **state)
{
	harness_start(false, NULL);
	return 0;
}

static int setup_ttrpc(void **state)
{
	harness_start(true, NULL);
	return 0;
}

static int teardown(void **state)
{
	harness_stop();
	return 0;
}

/* ---- Unary ---- */

static void unary_call_returns_reply(void **state)
{
	struct ctx ctx;
	struct err err = ERR_INIT;
	Any *a;

	ctx_start(&ctx, 0);
	assert_int_equal(echo_call(H.client, &ctx, "Unary", "echo", "hello", 5, &a, &err), 0);
	assert_string_equal(a->type_url, "echo");
	assert_memory_equal(a->value.data, "hello", 5);
	/* An empty message is a message. */
	assert_int_equal(echo_call(H.client, &ctx, "Unary", "", NULL, 0, &a, &err), 0);
	assert_int_equal(a->value.len, 0);
	ctx_end(&ctx);
}

static void errors_keep_kind_and_text(void **state)
{
	static const int kinds[] = {ERR_CANCELED,	  ERR_UNKNOWN,
				    ERR_INVALID_ARGUMENT, ERR_NOT_FOUND,
				    ERR_ALREADY_EXISTS,	  ERR_PERMISSION_DENIED,
				    ERR_UNAVAILABLE,	  ERR_DATA_LOSS,
				    ERR_UNAUTHENTICATED,  ERR_FAILED_PRECONDITION,
				    ERR_UNIMPLEMENTED,	  ERR_OUT_OF_RANGE};
	const char *text = "image \"caf\xc3\xa9\" 100%\n\t\x7f: not there";
	struct ctx ctx;

	ctx_start(&ctx, 0);
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		struct err err = ERR_INIT;
		char what[16];

		snprintf(what, sizeof(what), "fail%d", kinds[i]);
		assert_int_equal(
			echo_call(H.client, &ctx, "Unary", what, text, strlen(text), NULL, &err),
			-kinds[i]);
		assert_int_equal(err.kind, kinds[i]);
		assert_string_equal(err.text, text);
	}
	ctx_end(&ctx);
}

static void conflict_travels_as_failed_precondition(void **state)
{
	struct ctx ctx;
	struct err err = ERR_INIT, want = ERR_INIT;

	ctx_start(&ctx, 0);
	err_set(&want, ERR_CONFLICT, "x");
	assert_int_equal(echo_call(H.client, &ctx, "Unary", "fail101", want.text, strlen(want.text),
				   NULL, &err),
			 -ERR_CONFLICT);
	assert_string_equal(err.text, want.text);
	ctx_end(&ctx);
}

static void long_error_text_arrives_whole(void **state)
{
	struct ctx ctx;
	struct err err = ERR_INIT;
	char text[ERR_TEXT_MAX];

	for (size_t i = 0; i < sizeof(text) - 1; i++)
		text[i] = i % 7 ? 'x' : '%';
	text[sizeof(text) - 1] = '\0';
	ctx_start(&ctx, 0);
	assert_int_equal(
		echo_call(H.client, &ctx, "Unary", "fail5", text, strlen(text), NULL, &err),
		-ERR_NOT_FOUND);
	assert_string_equal(err.text, text);
	ctx_end(&ctx);
}

static void unknown_service_and_method_are_unimplemented(void **state)
{
	struct ctx ctx;
	struct err err = ERR_INIT;
	Any a = any_of("", NULL, 0);

	ctx_start(&ctx, 0);
	assert_int_equal(rpc_call(H.client, &ctx, "foo.Bar", "Do", &a.base, NULL, NULL, &err),
			 -ERR_UNIMPLEMENTED);
	assert_string_equal(err.text, H.ttrpc ? "service foo.Bar" : "unknown service foo.Bar");
	assert_int_equal(rpc_call(H.client, &ctx, ECHO, "Do", &a.base, NULL, NULL, &err),
			 -ERR_UNIMPLEMENTED);
	assert_string_equal(err.text,
			    H.ttrpc ? "method Do" : "unknown method Do for service test.Echo");
	assert_int_equal(rpc_call(H.client, &ctx, ECHO, "Missing", &a.base, NULL, NULL, &err),
			 -ERR_UNIMPLEMENTED);
	assert_string_equal(err.text, H.ttrpc ? "method Missing"
					      : "method Missing of test.Echo is not implemented");
	ctx_end(&ctx);
}

static void namespace_lease_and_deadline_travel(void **state)
{
	struct ctx ctx;
	struct err err = ERR_INIT;
	Any *a;

	ctx_start(&ctx, WAIT_NS);
	ctx.ns = "k8s.io";
	ctx.lease = "l-1";
	assert_int_equal(echo_call(H.client, &ctx, "Unary", "ctx", NULL, 0, &a, &err), 0);
	assert_memory_equal(a->value.data, H.ttrpc ? "k8s.io||deadline" : "k8s.io|l-1|deadline",
			    a->value.len);
	assert_int_equal(a->value.len, H.ttrpc ? 16 : 19);
	ctx_end(&ctx);
	ctx_start(&ctx, 0);
	assert_int_equal(echo_call(H.client, &ctx, "Unary", "ctx", NULL, 0, &a, &err), 0);
	assert_int_equal(a->value.len, 2);
	ctx_end(&ctx);
}

static void unary_without_reply_is_internal(void **state)
{
	struct ctx ctx;
	struct err err = ERR_INIT;

	ctx_start(&ctx, 0);
	assert_int_equal(echo_call(H.client, &ctx, "Unary", "silent", NULL, 0, NULL, &err),
			 -ERR_INTERNAL);
	assert_int_equal(echo_call(H.client, &ctx, "Unary", "twice", NULL, 0, NULL, &err),
			 -ERR_INTERNAL);
	ctx_end(&ctx);
}

static void large_messages_travel(void **state)
{
	size_t n = H.ttrpc ? (4 << 20) - 100 : 10 << 20;
	struct ctx ctx;
	struct err err = ERR_INIT;
	uint8_t *p = malloc(n);
	Any *a;

	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)(i * 31 + (i >> 10));
	ctx_start(&ctx, 0);
	assert_int_equal(echo_call(H.client, &ctx, "Unary", "echo", p, n, &a, &err), 0);
	assert_int_equal(a->value.len, n);
	assert_memory_equal(a->value.data, p, n);
	ctx_end(&ctx);
	free(p);
}

static void too_large_message_is_refused_before_it_is_sent(void **state)
{
	size_t n = H.ttrpc ? 4 << 20 : 16 << 20;
	struct ctx ctx;
	struct err err = ERR_INIT;
	uint8_t *p = calloc(1, n);

	ctx_start(&ctx, 0);
	assert_int_equal(echo_call(H.client, &ctx, "Unary", "echo", p, n, NULL, &err),
			 -ERR_RESOURCE_EXHAUSTED);
	assert_non_null(strstr(err.text, "trying to send message larger than max ("));
	assert_int_equal(echo_call(H.client, &ctx, "Unary", "echo", p, 10, NULL, &err), 0);
	ctx_end(&ctx);
	free(p);
}

/* ---- Time and cancellation ---- */

/* For calls that are to be with the server when their time is over. */
#define REACHED_NS (500 * NSEC_PER_MSEC)

static void deadline_ends_both_sides(void **state)
{
	struct ctx ctx;
	struct err err = ERR_INIT;

	ctx_start(&ctx, REACHED_NS);
	assert_int_equal(echo_call(H.client, &ctx, "Block", "", NULL, 0, NULL, &err),
			 -ERR_DEADLINE_EXCEEDED);
	sem_wait_or_fail(&H.canceled);
	ctx_end(&ctx);
	ctx_start(&ctx, -1);
	assert_int_equal(echo_call(H.client, &ctx, "Block", "", NULL, 0, NULL, &err),
			 -ERR_DEADLINE_EXCEEDED);
	ctx_end(&ctx);
}

static void *cancel_when_entered(void *arg)
{
	sem_wait_or_fail(&H.entered);
	atomic_store(&((struct ctx *)arg)->canceled, true);
	return NULL;
}

static void canceled_context_ends_call(void **state)
{
	struct ctx ctx;
	struct err err = ERR_INIT;
	pthread_t t;

	ctx_start(&ctx, 0);
	pthread_create(&t, NULL, cancel_when_entered, &ctx);
	assert_int_equal(echo_call(H.client, &ctx, "Block", "", NULL, 0, NULL, &err),
			 -ERR_CANCELED);
	pthread_join(t, NULL);
	/* ttrpc has no word for it. */
	if (!H.ttrpc)
		sem_wait_or_fail(&H.canceled);
	ctx_end(&ctx);
}

static void *free_client_when_entered(void *arg)
{
	sem_wait_or_fail(&H.entered);
	rpc_client_free(H.client);
	H.client = NULL;
	return NULL;
}

static void closing_client_ends_its_calls_and_cancels_handlers(void **state)
{
	struct ctx ctx;
	struct err err = ERR_INIT;
	pthread_t t;

	ctx_start(&ctx, 0);
	pthread_create(&t, NULL, free_client_when_entered, NULL);
	assert_int_equal(echo_call(H.client, &ctx, "Block", "", NULL, 0, NULL, &err),
			 -ERR_UNAVAILABLE);
	pthread_join(t, NULL);
	sem_wait_or_fail(&H.canceled);
	ctx_end(&ctx);
}

/* ---- Deferred calls ---- */

static void deferred_call_is_finished_by_another_thread(void **state)
{
	struct ctx ctx;
	struct err err = ERR_INIT;
	Any *a;

	ctx_start(&ctx, 0);
	for (int i = 0; i < 100; i++) {
		assert_int_equal(echo_call(H.client, &ctx, "Defer", "now", &i, sizeof(i), &a, &err),
				 0);
		assert_memory_equal(a->value.data, &i, sizeof(i));
	}
	ctx_end(&ctx);
}

static void deferred_call_learns_that_client_is_gone(void **state)
{
	struct ctx ctx;
	struct err err = ERR_INIT;
	pthread_t t;

	ctx_start(&ctx, 0);
	pthread_create(&t, NULL, free_client_when_entered, NULL);
	assert_int_equal(echo_call(H.client, &ctx, "Defer", "wait", NULL, 0, NULL, &err),
			 -ERR_UNAVAILABLE);
	pthread_join(t, NULL);
	sem_wait_or_fail(&H.canceled);
	ctx_end(&ctx);
}

static void deferred_call_learns_of_its_deadline(void **state)
{
	struct ctx ctx;
	struct err err = ERR_INIT;

	ctx_start(&ctx, REACHED_NS);
	assert_int_equal(echo_call(H.client, &ctx, "Defer", "wait", NULL, 0, NULL, &err),
			 -ERR_DEADLINE_EXCEEDED);
	sem_wait_or_fail(&H.canceled);
	ctx_end(&ctx);
}

/* ---- Streams ---- */

static struct rpc_stream *stream_start(struct ctx *ctx, const char *method)
{
	struct err err = ERR_INIT;
	struct rpc_stream *s;

	assert_int_equal(rpc_stream_open(H.client, ctx, ECHO, method, &s, &err), 0);
	return s;
}

static int stream_put(struct rpc_stream *s, const char *what, const void *p, size_t n,
		      struct err *err)
{
	Any a = any_of(what, p, n);

	return rpc_stream_send(s, &a.base, err);
}

static int stream_get(struct rpc_stream *s, struct ctx *ctx, Any **ret, struct err *err)
{
	return rpc_stream_recv(s, ctx->arena, &google__protobuf__any__descriptor, ret, err);
}

static struct rpc_stream *count_start(struct ctx *ctx, const char *what, size_t n, size_t size)
{
	struct rpc_stream *s = stream_start(ctx, "Count");
	struct err err = ERR_INIT;
	size_t v[] = {n, size};

	assert_int_equal(stream_put(s, what, v, sizeof(v), &err), 0);
	assert_int_equal(rpc_stream_close_send(s, &err), 0);
	return s;
}

static void server_stream_delivers_all_then_ok(void **state)
{
	struct ctx ctx;
	struct err err = ERR_INIT;
	struct rpc_stream *s;
	Any *a;

	ctx_start(&ctx, 0);
	s = count_start(&ctx, "", 1000, 10000);
	for (int i = 0; i < 1000; i++) {
		assert_int_equal(stream_get(s, &ctx, &a, &err), 1);
		assert_int_equal(a->value.len, 10000);
		arena_reset(ctx.arena);
	}
	assert_int_equal(stream_get(s, &ctx, &a, &err), 0);
	rpc_stream_free(s);
	s = count_start(&ctx, "", 0, 0);
	assert_int_equal(stream_get(s, &ctx, &a, &err), 0);
	rpc_stream_free(s);
	ctx_end(&ctx);
}

static void messages_before_an_error_are_delivered(void **state)
{
	struct ctx ctx;
	struct err err = ERR_INIT;
	struct rpc_stream *s;
	Any *a;

	ctx_start(&ctx, 0);
	s = count_start(&ctx, "then-fail", 3, 10);
	for (int i = 0; i < 3; i++)
		assert_int_equal(stream_get(s, &ctx, &a, &err), 1);
	assert_int_equal(stream_get(s, &ctx, &a, &err), -ERR_ABORTED);
	assert_string_equal(err.text, "after 3");
	rpc_stream_free(s);
	ctx_end(&ctx);
}

static void client_stream_gets_one_reply(void **state)
{
	struct ctx ctx;
	struct err err = ERR_INIT;
	struct rpc_stream *s;
	uint8_t *p = calloc(1, 100000);
	Any *a;

	ctx_start(&ctx, 0);
	s = stream_start(&ctx, "Collect");
	for (int i = 0; i < 100; i++)
		assert_int_equal(stream_put(s, "x", p, 100000, &err), 0);
	assert_int_equal(rpc_stream_close_send(s, &err), 0);
	assert_int_equal(stream_get(s, &ctx, &a, &err), 1);
	assert_memory_equal(a->value.data, "10000000", 8);
	assert_int_equal(stream_get(s, &ctx, &a, &err), 0);
	rpc_stream_free(s);
	ctx_end(&ctx);
	free(p);
}

static void server_may_end_client_stream_early(void **state)
{
	struct ctx ctx;
	struct err err = ERR_INIT;
	struct rpc_stream *s;
	Any *a;

	ctx_start(&ctx, 0);
	s = stream_start(&ctx, "Collect");
	assert_int_equal(stream_put(s, "stop", NULL, 0, &err), 0);
	assert_int_equal(stream_get(s, &ctx, &a, &err), -ERR_OUT_OF_RANGE);
	assert_int_equal(stream_put(s, "more", NULL, 0, &err), -ERR_OUT_OF_RANGE);
	rpc_stream_free(s);
	ctx_end(&ctx);
}

static void bidi_stream_goes_back_and_forth(void **state)
{
	struct ctx ctx;
	struct err err = ERR_INIT;
	struct rpc_stream *s;
	Any *a;

	ctx_start(&ctx, 0);
	s = stream_start(&ctx, "Chat");
	for (int i = 0; i < 500; i++) {
		assert_int_equal(stream_put(s, "x", &i, sizeof(i), &err), 0);
		assert_int_equal(stream_get(s, &ctx, &a, &err), 1);
		assert_memory_equal(a->value.data, &i, sizeof(i));
	}
	assert_int_equal(rpc_stream_close_send(s, &err), 0);
	assert_int_equal(stream_get(s, &ctx, &a, &err), 0);
	rpc_stream_free(s);
	ctx_end(&ctx);
}

static void *cancel_stream(void *arg)
{
	sem_wait_or_fail(&H.entered);
	rpc_stream_cancel(arg);
	return NULL;
}

static void cancel_wakes_receiver(void **state)
{
	struct ctx ctx;
	struct err err = ERR_INIT;
	struct rpc_stream *s;
	pthread_t t;
	Any *a;

	ctx_start(&ctx, 0);
	s = stream_start(&ctx, "Chat");
	pthread_create(&t, NULL, cancel_stream, s);
	assert_int_equal(stream_get(s, &ctx, &a, &err), -ERR_CANCELED);
	pthread_join(t, NULL);
	if (!H.ttrpc) {
		sem_wait_or_fail(&H.canceled);
		assert_int_equal(atomic_load(&H.done_code), ERR_CANCELED);
	}
	rpc_stream_free(s);
	ctx_end(&ctx);
}

static void stream_deadline_wakes_receiver(void **state)
{
	struct ctx ctx;
	struct err err = ERR_INIT;
	struct rpc_stream *s;
	Any *a;

	ctx_start(&ctx, REACHED_NS);
	s = stream_start(&ctx, "Chat");
	assert_int_equal(stream_get(s, &ctx, &a, &err), -ERR_DEADLINE_EXCEEDED);
	sem_wait_or_fail(&H.canceled);
	rpc_stream_free(s);
	ctx_end(&ctx);
}

static void unread_server_stream_is_bounded_and_blocks_only_itself(void **state)
{
	struct ctx ctx;
	struct err err = ERR_INIT;
	struct rpc_stream *s;
	size_t before;
	Any *a;

	/* ttrpc has no flow control: a slow reader holds the connection, by design of the protocol.
	 */
	if (H.ttrpc)
		skip();
	ctx_start(&ctx, 0);
	s = count_start(&ctx, "", 100000, 100000);
	assert_int_equal(stream_get(s, &ctx, &a, &err), 1);
	for (int i = 0; i < 200; i++)
		assert_int_equal(echo_call(H.client, &ctx, "Unary", "echo", "x", 1, &a, &err), 0);
	/* Until the sender has come to rest. */
	do {
		before = atomic_load(&H.sent);
		usleep(50000);
	} while (before != atomic_load(&H.sent));
	/* The stream's share, the window, and what is in flight. */
	assert_in_range(before * 100000, 1, 4 << 20);
	assert_int_equal(echo_call(H.client, &ctx, "Unary", "echo", "x", 1, &a, &err), 0);
	rpc_stream_free(s);
	sem_wait_or_fail(&H.canceled);
	assert_int_equal(atomic_load(&H.done_code), ERR_CANCELED);
	ctx_end(&ctx);
}

static void unread_client_stream_blocks_only_itself(void **state)
{
	struct ctx ctx;
	struct err err = ERR_INIT;
	struct rpc_stream *s[6];
	uint8_t *p = calloc(1, 400000);
	Any *a;

	ctx_start(&ctx, 0);
	/* More streams than the connection's window could feed; each stays below what its sender
	 * may have unsent. */
	for (size_t i = 0; i < ARRAY_LEN(s); i++) {
		s[i] = stream_start(&ctx, "Collect");
		assert_int_equal(stream_put(s[i], "hold", NULL, 0, &err), 0);
		for (int k = 0; k < 4; k++)
			assert_int_equal(stream_put(s[i], "x", p, 400000, &err), 0);
	}
	for (int i = 0; i < 50; i++)
		assert_int_equal(echo_call(H.client, &ctx, "Unary", "echo", p, 50000, &a, &err), 0);
	atomic_store(&H.release, true);
	for (size_t i = 0; i < ARRAY_LEN(s); i++) {
		assert_int_equal(rpc_stream_close_send(s[i], &err), 0);
		assert_int_equal(stream_get(s[i], &ctx, &a, &err), 1);
		assert_memory_equal(a->value.data, "1600000", 7);
		rpc_stream_free(s[i]);
	}
	ctx_end(&ctx);
	free(p);
}

static void messages_larger_than_the_window_pass_behind_small_ones(void **state)
{
	size_t n = 3 << 20;
	struct ctx ctx;
	struct err err = ERR_INIT;
	struct rpc_stream *s;
	uint8_t *p = calloc(1, n);
	Any *a;

	ctx_start(&ctx, WAIT_NS);
	s = stream_start(&ctx, "Collect");
	for (int i = 0; i < 5; i++) {
		assert_int_equal(stream_put(s, "x", p, 1000, &err), 0);
		assert_int_equal(stream_put(s, "x", p, n, &err), 0);
	}
	assert_int_equal(rpc_stream_close_send(s, &err), 0);
	assert_int_equal(stream_get(s, &ctx, &a, &err), 1);
	assert_memory_equal(a->value.data, "15733640", 8);
	rpc_stream_free(s);
	ctx_end(&ctx);
	free(p);
}

/* ---- Many ---- */

static void *many_calls(void *arg)
{
	struct ctx ctx;
	struct err err = ERR_INIT;
	uintptr_t bad = 0;

	ctx_start(&ctx, 0);
	for (int i = 0; i < 20; i++) {
		Any *a;

		if (echo_call(H.client, &ctx, "Unary", "echo", &i, sizeof(i), &a, &err) < 0 ||
		    memcmp(a->value.data, &i, sizeof(i)) != 0)
			bad++;
	}
	ctx_end(&ctx);
	return (void *)bad;
}

static void two_hundred_threads_share_a_connection(void **state)
{
	pthread_t t[200];
	pthread_attr_t attr;
	void *bad;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 512 << 10);
	for (size_t i = 0; i < ARRAY_LEN(t); i++)
		assert_int_equal(pthread_create(&t[i], &attr, many_calls, NULL), 0);
	for (size_t i = 0; i < ARRAY_LEN(t); i++) {
		pthread_join(t[i], &bad);
		assert_null(bad);
	}
	pthread_attr_destroy(&attr);
}

static void thousand_streams_one_after_another(void **state)
{
	struct ctx ctx;
	struct err err = ERR_INIT;
	Any *a;

	ctx_start(&ctx, 0);
	for (int i = 0; i < 1000; i++) {
		struct rpc_stream *s = count_start(&ctx, "", 2, 10);

		assert_int_equal(stream_get(s, &ctx, &a, &err), 1);
		/* Half of them are given up. */
		if (i % 2) {
			assert_int_equal(stream_get(s, &ctx, &a, &err), 1);
			assert_int_equal(stream_get(s, &ctx, &a, &err), 0);
		}
		rpc_stream_free(s);
	}
	assert_int_equal(echo_call(H.client, &ctx, "Unary", "echo", NULL, 0, &a, &err), 0);
	ctx_end(&ctx);
}

/* ---- Async ---- */

struct async {
	sem_t done;
	int kind;
	size_t n;
	char text[128];
	struct rpc_pending *pending;
	bool canceled;
};

static void async_done(void *arg, const uint8_t *resp, size_t n, const struct err *err)
{
	struct async *a = arg;

	a->kind = err ? err->kind : 0;
	if (err)
		snprintf(a->text, sizeof(a->text), "%.*s", (int)sizeof(a->text) - 1, err->text);
	a->n = n;
	sem_post(&a->done);
}

static void async_start(struct async *a, const char *method, const char *what, int64_t timeout)
{
	Any req = any_of(what, "12345", 5);
	struct err err = ERR_INIT;

	memset(a, 0, sizeof(*a));
	sem_init(&a->done, 0, 0);
	assert_int_equal(rpc_call_async(H.client, "ns", ECHO, method, &req.base, timeout,
					async_done, a, &a->pending, &err),
			 0);
}

static void async_cancel(void *arg)
{
	struct async *a = arg;

	a->canceled = rpc_pending_cancel(a->pending);
}

static void async_calls_report_once(void **state)
{
	struct async a;

	async_start(&a, "Unary", "echo", 0);
	sem_wait_or_fail(&a.done);
	assert_int_equal(a.kind, 0);
	assert_int_equal(a.n, 13);
	async_start(&a, "Unary", "fail5", WAIT_NS);
	sem_wait_or_fail(&a.done);
	assert_int_equal(a.kind, ERR_NOT_FOUND);
	assert_string_equal(a.text, "12345");
	async_start(&a, "Block", "", 30 * NSEC_PER_MSEC);
	sem_wait_or_fail(&a.done);
	assert_int_equal(a.kind, ERR_DEADLINE_EXCEEDED);
}

static void canceled_async_call_does_not_report(void **state)
{
	struct async a, b;

	async_start(&a, "Block", "", 0);
	sem_wait_or_fail(&H.entered);
	harness_on_loop(async_cancel, &a);
	assert_true(a.canceled);
	async_start(&b, "Unary", "echo", 0);
	sem_wait_or_fail(&b.done);
	assert_int_equal(sem_trywait(&a.done), -1);
}

static void lost_connection_ends_async_calls(void **state)
{
	struct async a;

	async_start(&a, "Block", "", 0);
	sem_wait_or_fail(&H.entered);
	rpc_client_free(H.client);
	H.client = NULL;
	sem_wait_or_fail(&a.done);
	assert_int_equal(a.kind, ERR_UNAVAILABLE);
}

/* ---- Servers that go ---- */

static void drained(void *arg)
{
	sem_post(arg);
}

static void drain_start(void *arg)
{
	if (H.ttrpc)
		ttrpc_server_drain(H.tt, drained, arg);
	else
		grpc_server_drain(H.grpc, H.release ? 30 * NSEC_PER_MSEC : WAIT_NS, drained, arg);
}

static void *collect_thread(void *arg)
{
	struct ctx ctx;
	struct err err = ERR_INIT;
	struct rpc_stream *s = arg;
	Any *a;
	intptr_t ok;

	ctx_start(&ctx, 0);
	ok = rpc_stream_close_send(s, &err) == 0 && stream_get(s, &ctx, &a, &err) == 1;
	ctx_end(&ctx);
	return (void *)ok;
}

static void drain_lets_calls_finish(void **state)
{
	struct ctx ctx;
	struct err err = ERR_INIT;
	struct rpc_stream *s;
	pthread_t t;
	sem_t done;
	void *ok;

	sem_init(&done, 0, 0);
	ctx_start(&ctx, 0);
	s = stream_start(&ctx, "Collect");
	assert_int_equal(stream_put(s, "hold", NULL, 0, &err), 0);
	while (atomic_load(&H.received) == 0)
		usleep(1000);
	harness_on_loop(drain_start, &done);
	assert_int_equal(sem_trywait(&done), -1);
	pthread_create(&t, NULL, collect_thread, s);
	atomic_store(&H.release, true);
	pthread_join(t, &ok);
	assert_true((intptr_t)ok);
	sem_wait_or_fail(&done);
	rpc_stream_free(s);
	assert_int_equal(echo_call(H.client, &ctx, "Unary", "echo", NULL, 0, NULL, &err),
			 -ERR_UNAVAILABLE);
	ctx_end(&ctx);
}

static void drain_of_idle_server_is_immediate(void **state)
{
	struct ctx ctx;
	struct err err = ERR_INIT;
	sem_t done;

	sem_init(&done, 0, 0);
	ctx_start(&ctx, 0);
	assert_int_equal(echo_call(H.client, &ctx, "Unary", "echo", NULL, 0, NULL, &err), 0);
	harness_on_loop(drain_start, &done);
	sem_wait_or_fail(&done);
	ctx_end(&ctx);
}

static void *block_call(void *arg)
{
	struct ctx ctx;
	struct err err = ERR_INIT;
	intptr_t r;

	ctx_start(&ctx, 0);
	r = echo_call(H.client, &ctx, "Block", "", NULL, 0, NULL, &err);
	ctx_end(&ctx);
	return (void *)r;
}

static void drain_cuts_off_after_grace(void **state)
{
	pthread_t t;
	sem_t done;
	void *r;

	if (H.ttrpc)
		skip(); /* it has no grace: it waits */
	sem_init(&done, 0, 0);
	atomic_store(&H.release, true);
	pthread_create(&t, NULL, block_call, NULL);
	sem_wait_or_fail(&H.entered);
	harness_on_loop(drain_start, &done);
	sem_wait_or_fail(&done);
	sem_wait_or_fail(&H.canceled);
	pthread_join(t, &r);
	assert_int_equal((intptr_t)r, -ERR_UNAVAILABLE);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
#define TESTS(prefix)                                                                             \
	T(unary_call_returns_reply), T(errors_keep_kind_and_text),                                \
		T(conflict_travels_as_failed_precondition), T(long_error_text_arrives_whole),     \
		T(unknown_service_and_method_are_unimplemented),                                  \
		T(namespace_lease_and_deadline_travel), T(unary_without_reply_is_internal),       \
		T(large_messages_travel), T(too_large_message_is_refused_before_it_is_sent),      \
		T(deadline_ends_both_sides), T(canceled_context_ends_call),                       \
		T(closing_client_ends_its_calls_and_cancels_handlers),                            \
		T(deferred_call_is_finished_by_another_thread),                                   \
		T(deferred_call_learns_that_client_is_gone),                                      \
		T(deferred_call_learns_of_its_deadline), T(server_stream_delivers_all_then_ok),   \
		T(messages_before_an_error_are_delivered), T(client_stream_gets_one_reply),       \
		T(server_may_end_client_stream_early), T(bidi_stream_goes_back_and_forth),        \
		T(cancel_wakes_receiver), T(stream_deadline_wakes_receiver),                      \
		T(unread_server_stream_is_bounded_and_blocks_only_itself),                        \
		T(unread_client_stream_blocks_only_itself),                                       \
		T(messages_larger_than_the_window_pass_behind_small_ones),                        \
		T(two_hundred_threads_share_a_connection), T(thousand_streams_one_after_another), \
		T(async_calls_report_once), T(canceled_async_call_does_not_report),               \
		T(lost_connection_ends_async_calls), T(drain_lets_calls_finish),                  \
		T(drain_of_idle_server_is_immediate), T(drain_cuts_off_after_grace)

int main(void)
{
	int r;
	{
#define setup setup_grpc
		const struct CMUnitTest tests[] = {TESTS(grpc)};

		r = cmocka_run_group_tests_name("grpc", tests, NULL, NULL);
#undef setup
	}
	{
#define setup setup_ttrpc
		const struct CMUnitTest tests[] = {TESTS(ttrpc)};

		r += cmocka_run_group_tests_name("ttrpc", tests, NULL, NULL);
#undef setup
	}
	return r;
}
