/* SPDX-License-Identifier: Apache-2.0 */
/* See harness.h. */
#include "harness.h"

struct harness H;

/* ---- The service ---- */

#define METHOD(n)                                                                         \
	{                                                                                 \
		n, &google__protobuf__any__descriptor, &google__protobuf__any__descriptor \
	}
static const ProtobufCMethodDescriptor echo_method_descs[] = {
	METHOD("Block"), METHOD("Chat"),    METHOD("Collect"), METHOD("Count"),
	METHOD("Defer"), METHOD("Missing"), METHOD("Unary"),
};
static const unsigned echo_indices[] = {0, 1, 2, 3, 4, 5, 6};
static const ProtobufCServiceDescriptor echo_desc = {
	PROTOBUF_C__SERVICE_DESCRIPTOR_MAGIC,
	ECHO,
	"Echo",
	"Test__Echo",
	"test",
	7,
	echo_method_descs,
	echo_indices,
};

Any any_of(const char *what, const void *p, size_t n)
{
	Any a = GOOGLE__PROTOBUF__ANY__INIT;

	a.type_url = (char *)what;
	a.value.data = (uint8_t *)p;
	a.value.len = n;
	return a;
}

static int send_text(struct rpc_call *call, const char *text, struct err *err)
{
	Any a = any_of("", text, strlen(text));

	return rpc_send(call, &a.base, err);
}

static int echo_unary(struct rpc_call *call, const void *req, struct err *err)
{
	const Any *r = req;
	struct ctx *ctx = rpc_ctx(call);
	int kind;

	if (sscanf(r->type_url, "fail%d", &kind) == 1)
		return err_set_raw(err, (enum err_kind)kind, "%.*s", (int)r->value.len,
				   (const char *)r->value.data);
	if (strcmp(r->type_url, "silent") == 0)
		return 0;
	if (strcmp(r->type_url, "twice") == 0 && rpc_send(call, &r->base, err) < 0)
		return -err->kind;
	if (strcmp(r->type_url, "ctx") == 0)
		return send_text(call,
				 arena_printf(ctx->arena, "%s|%s|%s", ctx->ns, ctx->lease,
					      ctx->deadline ? "deadline" : ""),
				 err);
	return rpc_send(call, &r->base, err);
}

/* Server stream: value holds count and size. */
static int echo_count(struct rpc_call *call, const void *req, struct err *err)
{
	const Any *r = req;
	size_t v[2];
	uint8_t *p;

	memcpy(v, r->value.data, sizeof(v));
	p = arena_zalloc(rpc_ctx(call)->arena, v[1] + 1);
	for (size_t i = 0; i < v[0]; i++) {
		Any a = any_of("n", p, v[1]);
		int ret = rpc_send(call, &a.base, err);

		if (ret < 0) {
			atomic_store(&H.done_code, -ret);
			sem_post(&H.canceled);
			return ret;
		}
		atomic_fetch_add(&H.sent, 1);
	}
	if (strcmp(r->type_url, "then-fail") == 0)
		return err_set_raw(err, ERR_ABORTED, "after %zu", v[0]);
	return 0;
}

/* Client stream: answers with the sum of the sizes. */
static int echo_collect(struct rpc_call *call, const void *req, struct err *err)
{
	size_t sum = 0;
	ProtobufCMessage *m;
	char text[32];
	int r;

	while ((r = rpc_recv(call, &m, err)) > 0) {
		sum += ((Any *)m)->value.len;
		atomic_fetch_add(&H.received, 1);
		if (strcmp(((Any *)m)->type_url, "stop") == 0)
			return err_set_raw(err, ERR_OUT_OF_RANGE, "stopped");
		while (strcmp(((Any *)m)->type_url, "hold") == 0 && !atomic_load(&H.release))
			usleep(1000);
	}
	if (r < 0) {
		atomic_store(&H.done_code, -r);
		sem_post(&H.canceled);
		return r;
	}
	snprintf(text, sizeof(text), "%zu", sum);
	return send_text(call, text, err);
}

static int echo_chat(struct rpc_call *call, const void *req, struct err *err)
{
	ProtobufCMessage *m;
	int r;

	sem_post(&H.entered);
	while ((r = rpc_recv(call, &m, err)) > 0)
		if ((r = rpc_send(call, m, err)) < 0)
			break;
	if (r < 0) {
		atomic_store(&H.done_code, -r);
		sem_post(&H.canceled);
	}
	return r;
}

/* Until the call is canceled. */
static int echo_block(struct rpc_call *call, const void *req, struct err *err)
{
	sem_post(&H.entered);
	while (!atomic_load(&rpc_ctx(call)->canceled))
		usleep(1000);
	sem_post(&H.canceled);
	return err_set(err, ERR_CANCELED, "blocked");
}

struct deferred {
	struct rpc_call *call;
	sem_t canceled;
	bool wait;
	uint8_t packed[128];
	size_t n;
};

static void *deferred_finish(void *arg)
{
	struct deferred *d = arg;
	struct err err = ERR_INIT;

	if (d->wait) {
		sem_wait(&d->canceled);
		sem_post(&H.canceled);
		err_set_raw(&err, ERR_CANCELED, "gone");
	} else if (rpc_send_packed_nowait(d->call, d->packed, d->n, 1 << 20, &err) < 0) {
		abort();
	}
	rpc_finish(d->call, err.kind ? &err : NULL);
	return NULL;
}

static void deferred_canceled(void *arg)
{
	struct deferred *d = arg;

	sem_post(&d->canceled);
}

static struct deferred deferred[256];
static pthread_t deferred_threads[256];
static atomic_size_t n_deferred;

static int echo_defer(struct rpc_call *call, const void *req, struct err *err)
{
	const Any *r = req;
	size_t i = atomic_fetch_add(&n_deferred, 1) % ARRAY_LEN(deferred);
	struct deferred *d = &deferred[i];

	*d = (struct deferred){.call = call, .wait = strcmp(r->type_url, "wait") == 0};
	sem_init(&d->canceled, 0, 0);
	d->n = protobuf_c_message_pack(&r->base, d->packed);
	if (d->wait)
		rpc_on_cancel(call, deferred_canceled, d);
	sem_post(&H.entered);
	if (pthread_create(&deferred_threads[i], NULL, deferred_finish, d))
		return err_set(err, ERR_INTERNAL, "thread");
	return rpc_defer(call);
}

static const struct rpc_method echo_methods[] = {
	{"Unary", RPC_UNARY, echo_unary},
	{"Count", RPC_SERVER_STREAM, echo_count},
	{"Collect", RPC_CLIENT_STREAM, echo_collect},
	{"Chat", RPC_BIDI, echo_chat},
	{"Block", RPC_UNARY, echo_block},
	{"Defer", RPC_UNARY, echo_defer},
};
static const struct rpc_service echo_service = {&echo_desc, echo_methods, ARRAY_LEN(echo_methods),
						NULL};

/* ---- The harness ---- */

static void *loop_main(void *arg)
{
	loop_run(H.loop);
	return NULL;
}

static void on_done(void *arg, const char *path, int code, const char *text, int64_t ns)
{
	atomic_fetch_add(&H.n_done, 1);
}

int harness_connect(void)
{
	int fd;

	assert_return_code(unix_connect(H.path, &fd), 0);
	return fd;
}

static void client_closed(void *arg)
{
	sem_post(&H.closed);
}

struct rpc_client *harness_client(size_t max_recv)
{
	struct grpc_client_options o = {.max_recv = max_recv};
	struct rpc_client *c;
	int fd = harness_connect();

	assert_return_code(H.ttrpc ? ttrpc_client_new(H.loop, fd, client_closed, NULL, &c)
				   : grpc_client_new(H.loop, fd, &o, &c),
			   0);
	return c;
}

static void stop_posted(void *arg)
{
	loop_stop(arg);
}

void harness_start(bool ttrpc, const struct grpc_server_options *opt)
{
	static int serial;
	struct grpc_server_options o = opt ? *opt : (struct grpc_server_options){0};
	int fd;

	memset(&H, 0, sizeof(H));
	H.ttrpc = ttrpc;
	sem_init(&H.entered, 0, 0);
	sem_init(&H.canceled, 0, 0);
	sem_init(&H.closed, 0, 0);
	atomic_store(&n_deferred, 0);
	o.on_done = on_done;
	snprintf(H.path, sizeof(H.path), "@rpc-test-%d-%d", getpid(), serial++);
	assert_return_code(loop_new(&H.loop), 0);
	assert_return_code(pool_new(0, &H.pool), 0);
	assert_return_code(unix_listen(H.path, getuid(), getgid(), 0600, &fd), 0);
	if (ttrpc) {
		struct ttrpc_server_options to = {.check_peer = true};

		assert_return_code(ttrpc_server_new(H.loop, H.pool, &to, &H.tt), 0);
		assert_return_code(ttrpc_server_add(H.tt, &echo_service), 0);
		assert_return_code(ttrpc_server_listen(H.tt, fd), 0);
	} else {
		assert_return_code(grpc_server_new(H.loop, H.pool, &o, &H.grpc), 0);
		assert_return_code(grpc_server_add(H.grpc, &echo_service), 0);
		assert_return_code(grpc_server_listen(H.grpc, fd), 0);
	}
	assert_int_equal(pthread_create(&H.thread, NULL, loop_main, NULL), 0);
	H.client = harness_client(0);
}

void harness_stop(void)
{
	size_t n = atomic_load(&n_deferred);

	if (H.client)
		rpc_client_free(H.client);
	loop_post(H.loop, stop_posted, H.loop);
	pthread_join(H.thread, NULL);
	/* Calls that clients left behind are canceled by this. */
	H.client = NULL;
	grpc_server_free(H.grpc);
	ttrpc_server_free(H.tt);
	for (size_t i = 0; i < MIN(n, ARRAY_LEN(deferred)); i++)
		pthread_join(deferred_threads[i], NULL);
	pool_free(H.pool);
	loop_free(H.loop);
}

struct on_loop {
	loop_fn fn;
	void *arg;
	sem_t done;
};

static void on_loop_run(void *arg)
{
	struct on_loop *o = arg;

	o->fn(o->arg);
	sem_post(&o->done);
}

void harness_on_loop(loop_fn fn, void *arg)
{
	struct on_loop o = {.fn = fn, .arg = arg};

	sem_init(&o.done, 0, 0);
	assert_return_code(loop_post(H.loop, on_loop_run, &o), 0);
	sem_wait_or_fail(&o.done);
}

void sem_wait_or_fail(sem_t *s)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	ts.tv_sec += 60;
	if (sem_timedwait(s, &ts) < 0)
		fail_msg("the event did not come");
}

void ctx_start(struct ctx *ctx, int64_t timeout)
{
	*ctx = (struct ctx){.arena = arena_new(0), .ns = "", .lease = ""};
	ctx->deadline = timeout ? time_mono() + timeout : 0;
}

void ctx_end(struct ctx *ctx)
{
	arena_free(ctx->arena);
}

int echo_call(struct rpc_client *c, struct ctx *ctx, const char *method, const char *what,
	      const void *p, size_t n, Any **ret, struct err *err)
{
	Any a = any_of(what, p, n);

	return rpc_call(c, ctx, ECHO, method, &a.base, &google__protobuf__any__descriptor, ret,
			err);
}
