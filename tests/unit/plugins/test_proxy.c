/* SPDX-License-Identifier: Apache-2.0 */
/* Proxy plugins: the connection, and the sandbox controller behind one. The peer is this project's
 * own gRPC server in the same process; other people's are in the system tests. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"
#include "core/pb.h"
#include "plugins/proxy/backends.h"
#include "rpc/grpc.h"

#define SB(x) Containerd__Services__Sandbox__V1__##x
#define INIT(x) CONTAINERD__SERVICES__SANDBOX__V1__CONTROLLER_##x##__INIT

static struct {
	struct loop *loop;
	struct pool *pool;
	pthread_t thread;
	struct grpc_server *server;
	struct rpc_service service;
	char path[64];
	sem_t done, asked;
	struct rpc_call *waiting; /* a Wait that is to be answered */
	struct proxy *proxy;
	struct sandbox_controller *c;
	struct ctx ctx;
	/* of a finished wait */
	struct sandbox_exit exit;
	int exit_kind;
	char exit_text[256];
} T;

/* ---- the plugin ---- */

static int create(struct rpc_call *call, const void *req, struct err *err)
{
	const SB(ControllerCreateRequest) *r = req;
	SB(ControllerCreateResponse) resp = INIT(CREATE_RESPONSE);

	/* Everything that was given has come. */
	if (!streq(r->sandboxer, "pods") || !streq(rpc_ctx(call)->ns, "space") ||
	    !streq(rpc_ctx(call)->lease, "held") || r->n_rootfs != 1 ||
	    !streq(r->rootfs[0]->type, "bind") || !streq(r->netns_path, "/net") ||
	    r->n_annotations != 1 || !streq(r->options->type_url, "opt") ||
	    !streq(r->sandbox->runtime->name, "rt") || r->sandbox->n_extensions != 1 ||
	    !streq(r->sandbox->extensions[0]->value->type_url, "ext"))
		return err_set(err, ERR_INVALID_ARGUMENT, "something is missing");
	resp.sandbox_id = r->sandbox_id;
	return rpc_send(call, &resp.base, err);
}

static int start(struct rpc_call *call, const void *req, struct err *err)
{
	const SB(ControllerStartRequest) *r = req;
	SB(ControllerStartResponse) resp = INIT(START_RESPONSE);

	if (streq(r->sandbox_id, "refused"))
		return err_set_raw(err, ERR_FAILED_PRECONDITION, "not now");
	resp.sandbox_id = r->sandbox_id;
	resp.pid = 77;
	resp.address = (char *)"ttrpc+unix:///x";
	resp.version = 3;
	return rpc_send(call, &resp.base, err);
}

static int status(struct rpc_call *call, const void *req, struct err *err)
{
	SB(ControllerStatusResponse) resp = INIT(STATUS_RESPONSE);

	resp.state = (char *)SANDBOX_READY;
	resp.pid = 78;
	return rpc_send(call, &resp.base, err);
}

static int wait_(struct rpc_call *call, const void *req, struct err *err)
{
	T.waiting = call;
	sem_post(&T.asked);
	return rpc_defer(call);
}

/* Never answers by itself. */
static int stop(struct rpc_call *call, const void *req, struct err *err)
{
	sem_post(&T.asked);
	while (ctx_check(rpc_ctx(call), NULL) == 0)
		usleep(1000);
	return ctx_check(rpc_ctx(call), err);
}

static const struct rpc_method methods[] = {
	{"Create", RPC_UNARY, create}, {"Start", RPC_UNARY, start}, {"Status", RPC_UNARY, status},
	{"Stop", RPC_UNARY, stop},     {"Wait", RPC_UNARY, wait_},
};

/* ---- around it ---- */

static void *run(void *arg)
{
	loop_run(arg);
	return NULL;
}

struct on_loop {
	void (*fn)(void *arg);
	void *arg;
};

static void on_loop_run(void *arg)
{
	struct on_loop *o = arg;

	o->fn(o->arg);
	sem_post(&T.done);
}

static void on_loop(void (*fn)(void *arg), void *arg)
{
	struct on_loop o = {fn, arg};

	assert_int_equal(loop_post(T.loop, on_loop_run, &o), 0);
	sem_wait(&T.done);
}

static void listen_(void *arg)
{
	int fd;

	assert_int_equal(unix_listen(T.path, getuid(), getgid(), 0600, &fd), 0);
	assert_int_equal(grpc_server_listen(T.server, fd), 0);
}

static void server_start(void)
{
	assert_int_equal(
		grpc_server_new(T.loop, T.pool, &(struct grpc_server_options){0}, &T.server), 0);
	T.service = (struct rpc_service){
		.desc = &containerd__services__sandbox__v1__controller__descriptor,
		.methods = methods,
		.n_methods = ARRAY_LEN(methods)};
	assert_int_equal(grpc_server_add(T.server, &T.service), 0);
	on_loop(listen_, NULL);
}

static void drained(void *arg)
{
	sem_post(&T.asked);
}

static void drain(void *arg)
{
	grpc_server_drain(T.server, 0, drained, NULL);
}

static void free_server(void *arg)
{
	grpc_server_free(T.server);
	T.server = NULL;
}

static void server_stop(void)
{
	on_loop(drain, NULL);
	sem_wait(&T.asked);
	unlink(T.path);
	on_loop(free_server, NULL);
}

static int setup(void **state)
{
	memset(&T, 0, sizeof(T));
	snprintf(T.path, sizeof(T.path), "/tmp/test-proxy-%d.sock", (int)getpid());
	sem_init(&T.done, 0, 0);
	sem_init(&T.asked, 0, 0);
	assert_int_equal(loop_new(&T.loop), 0);
	assert_int_equal(pool_new(0, &T.pool), 0);
	pthread_create(&T.thread, NULL, run, T.loop);
	server_start();
	assert_int_equal(proxy_new(T.loop, "pods", T.path, &T.proxy, NULL), 0);
	assert_int_equal(proxy_controller_new(T.proxy, &T.c, NULL), 0);
	T.ctx.arena = arena_new(0);
	T.ctx.ns = "space";
	T.ctx.lease = "held";
	return 0;
}

static void nothing(void *arg)
{
}

static int teardown(void **state)
{
	proxy_disconnect(T.proxy);
	if (T.server)
		server_stop();
	on_loop(nothing, NULL);
	pool_free(T.pool);
	loop_stop(T.loop);
	pthread_join(T.thread, NULL);
	for (int i = 0; i < 4; i++)
		(void)!loop_run_once(T.loop, 0);
	T.c->ops->free(T.c);
	proxy_free(T.proxy);
	loop_free(T.loop);
	arena_free(T.ctx.arena);
	return 0;
}

static int start_one(const char *id, struct sandbox_instance *ret, struct err *err)
{
	return T.c->ops->start(&T.ctx, T.c, id, ret, err);
}

/* ---- tests ---- */

static void sandbox_reaches_the_plugin_whole(void **state)
{
	const char *ro[] = {"ro"};
	struct mount m = {
		.type = "bind", .source = "/s", .target = "", .options = ro, .n_options = 1};
	struct any_entry ext = {.key = "k", .value = {.type_url = "ext"}};
	struct sandbox s = {
		.id = "one", .runtime_name = "rt", .extensions = &ext, .n_extensions = 1};
	struct sandbox_create_options o = {
		.rootfs = {&m, 1}, .options = {.type_url = "opt"}, .netns_path = "/net"};
	struct err err = ERR_INIT;
	struct sandbox_instance in;
	struct sandbox_status st;

	assert_int_equal(labels_set(T.ctx.arena, &o.annotations, "a", "b"), 0);
	assert_int_equal(T.c->ops->create(&T.ctx, T.c, &s, &o, &err), 0);
	assert_int_equal(start_one("one", &in, &err), 0);
	assert_int_equal(in.pid, 77);
	assert_string_equal(in.id, "one");
	assert_string_equal(in.address, "ttrpc+unix:///x");
	assert_int_equal(T.c->ops->status(&T.ctx, T.c, "one", true, &st, &err), 0);
	assert_string_equal(st.state, SANDBOX_READY);
	assert_string_equal(st.id, "one");
	/* The plugin has no such method. */
	assert_int_equal(T.c->ops->shutdown(&T.ctx, T.c, "one", &err), -ERR_UNIMPLEMENTED);
}

static void plugin_s_own_error_is_passed_on_as_it_is(void **state)
{
	struct err err = ERR_INIT;
	struct sandbox_instance in;

	assert_int_equal(start_one("refused", &in, &err), -ERR_FAILED_PRECONDITION);
	assert_string_equal(err.text, "not now");
}

static void nobody_there_is_unavailable_with_name_and_address(void **state)
{
	struct err err = ERR_INIT;
	struct sandbox_instance in;

	server_stop();
	assert_int_equal(start_one("x", &in, &err), -ERR_UNAVAILABLE);
	assert_non_null(strstr(err.text, "proxy plugin \"pods\" at "));
	assert_non_null(strstr(err.text, T.path));
}

static void connection_is_made_again_for_each_new_server(void **state)
{
	struct err err = ERR_INIT;
	struct sandbox_instance in;

	for (int i = 0; i < 10; i++) {
		assert_int_equal(start_one("x", &in, &err), 0);
		server_stop();
		if (i % 2)
			assert_int_equal(start_one("x", &in, &err), -ERR_UNAVAILABLE);
		server_start();
	}
	assert_int_equal(start_one("x", &in, &err), 0);
}

static void call_ends_at_its_deadline(void **state)
{
	struct err err = ERR_INIT;

	T.ctx.deadline = time_mono() + 50 * NSEC_PER_MSEC;
	assert_int_equal(T.c->ops->stop(&T.ctx, T.c, "x", 0, &err), -ERR_DEADLINE_EXCEEDED);
	assert_non_null(strstr(err.text, "proxy plugin \"pods\""));
	T.ctx.deadline = 0;
}

static void *stop_main(void *arg)
{
	struct err *err = arg;

	(void)!T.c->ops->stop(&T.ctx, T.c, "x", 0, err);
	return NULL;
}

static void calls_end_when_the_proxy_is_disconnected(void **state)
{
	struct err err = ERR_INIT;
	struct sandbox_instance in;
	pthread_t t;

	pthread_create(&t, NULL, stop_main, &err);
	sem_wait(&T.asked);
	proxy_disconnect(T.proxy);
	pthread_join(t, NULL);
	assert_int_equal(err.kind, ERR_CANCELED);
	assert_int_equal(start_one("x", &in, &err), -ERR_UNAVAILABLE);
	assert_non_null(strstr(err.text, "the daemon stops"));
}

static void waited(void *arg, const struct sandbox_exit *x, const struct err *err)
{
	if (x)
		T.exit = *x;
	if (err) {
		T.exit_kind = err->kind;
		snprintf(T.exit_text, sizeof(T.exit_text), "%.255s", err->text);
	}
	sem_post(&T.asked);
}

static void begin_wait(void *arg)
{
	struct err err = ERR_INIT;

	assert_int_equal(T.c->ops->wait(T.c, "space", "x", waited, NULL, arg, &err), 0);
}

static void wait_answers_on_the_loop(void **state)
{
	SB(ControllerWaitResponse) resp = INIT(WAIT_RESPONSE);
	struct sandbox_wait *w;
	struct err err = ERR_INIT;

	on_loop(begin_wait, &w);
	sem_wait(&T.asked);
	resp.exit_status = 137;
	assert_int_equal(rpc_send(T.waiting, &resp.base, &err), 0);
	rpc_finish(T.waiting, NULL);
	sem_wait(&T.asked);
	assert_int_equal(T.exit.status, 137);
	assert_int_equal(T.exit_kind, 0);
}

static void cancel_wait(void *arg)
{
	assert_true(T.c->ops->wait_cancel(T.c, arg));
}

static void wait_that_was_cancelled_is_not_answered(void **state)
{
	struct sandbox_wait *w;

	on_loop(begin_wait, &w);
	sem_wait(&T.asked);
	on_loop(cancel_wait, w);
	rpc_finish(T.waiting, &(struct err){.kind = ERR_CANCELED});
	on_loop(nothing, NULL);
	assert_int_equal(T.exit_kind, 0);
}

static void address_must_be_that_of_a_unix_socket(void **state)
{
	struct err err = ERR_INIT;
	struct proxy *p;

	for (const char *const *a =
		     (const char *const[]){"", "host:80", "tcp://host:80", "x.sock", NULL};
	     *a; a++) {
		assert_int_equal(proxy_new(T.loop, "x", *a, &p, &err), -ERR_INVALID_ARGUMENT);
		assert_non_null(strstr(err.text, "proxy plugin \"x\""));
	}
	assert_int_equal(proxy_new(T.loop, "x", "unix:///x", &p, &err), 0);
	proxy_free(p);
}

#define C(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		C(sandbox_reaches_the_plugin_whole),
		C(plugin_s_own_error_is_passed_on_as_it_is),
		C(nobody_there_is_unavailable_with_name_and_address),
		C(connection_is_made_again_for_each_new_server),
		C(call_ends_at_its_deadline),
		C(calls_end_when_the_proxy_is_disconnected),
		C(wait_answers_on_the_loop),
		C(wait_that_was_cancelled_is_not_answered),
		C(address_must_be_that_of_a_unix_socket),
	};

	return cmocka_run_group_tests_name("plugins/proxy", tests, NULL, NULL);
}
