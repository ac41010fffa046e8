/* SPDX-License-Identifier: Apache-2.0 */
/* The client library against a gRPC server in the same process that answers as the test says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/fd.h"
#include "base/str.h"
#include "base/time.h"
#include "client/client.h"
#include "event/loop.h"
#include "event/pool.h"
#include "rpc/grpc.h"

static const char blob[] = "the blob";

struct fixture {
	char path[64];
	struct loop *loop;
	struct pool *pool;
	struct grpc_server *server;
	pthread_t thread;
	struct rpc_call *waiting; /* deferred Tasks.Wait */
	int deferred[2];	  /* pipe: one byte for each Wait that arrived */
	struct arena *arena;
	struct ctx ctx;
	struct client *client;
};

static struct fixture *fixture;

static int version_version(struct rpc_call *call, const void *req, struct err *err)
{
	PB_VERSION(VersionResponse) m = PB_VERSION_INIT(VERSION_RESPONSE);

	m.version = (char *)"9.9";
	m.revision = (char *)rpc_ctx(call)->ns;
	return rpc_send(call, &m.base, err);
}

static int content_read(struct rpc_call *call, const void *req, struct err *err)
{
	PB_CONTENT(ReadContentResponse) m = PB_CONTENT_INIT(READ_CONTENT_RESPONSE);
	int r = 0;

	for (size_t i = 0; r == 0 && i < sizeof(blob) - 1; i += 4) {
		m.offset = (int64_t)i;
		m.data.data = (uint8_t *)blob + i;
		m.data.len = MIN(4, sizeof(blob) - 1 - i);
		r = rpc_send(call, &m.base, err);
	}
	return r;
}

static int tasks_wait(struct rpc_call *call, const void *req, struct err *err)
{
	int r;

	fixture->waiting = call;
	r = rpc_defer(call);
	assert_int_equal(write(fixture->deferred[1], "x", 1), 1);
	return r;
}

static const struct rpc_method version_methods[] = {{"Version", RPC_UNARY, version_version}};
static const struct rpc_method content_methods[] = {{"Read", RPC_SERVER_STREAM, content_read}};
static const struct rpc_method tasks_methods[] = {{"Wait", RPC_UNARY, tasks_wait}};
static const struct rpc_service services[] = {
	{&containerd__services__version__v1__version__descriptor, version_methods, 1, NULL},
	{&containerd__services__content__v1__content__descriptor, content_methods, 1, NULL},
	{&containerd__services__tasks__v1__tasks__descriptor, tasks_methods, 1, NULL},
};

static void *serve(void *arg)
{
	loop_run(arg);
	return NULL;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct err err;
	int fd;

	fixture = *state = f;
	snprintf(f->path, sizeof(f->path), "/tmp/test-client-%d.sock", getpid());
	assert_int_equal(pipe(f->deferred), 0);
	assert_int_equal(loop_new(&f->loop), 0);
	assert_int_equal(pool_new(4, &f->pool), 0);
	assert_int_equal(
		grpc_server_new(f->loop, f->pool, &(struct grpc_server_options){}, &f->server), 0);
	for (size_t i = 0; i < ARRAY_LEN(services); i++)
		assert_int_equal(grpc_server_add(f->server, &services[i]), 0);
	assert_int_equal(unix_listen(f->path, getuid(), getgid(), 0600, &fd), 0);
	assert_int_equal(grpc_server_listen(f->server, fd), 0);
	assert_int_equal(pthread_create(&f->thread, NULL, serve, f->loop), 0);
	f->arena = arena_new(0);
	f->ctx = (struct ctx){.arena = f->arena, .ns = "testns", .lease = ""};
	if (client_connect(f->path, 0, &f->client, &err) < 0)
		fail_msg("%s", err.text);
	return 0;
}

static int setup_shared(void **state)
{
	struct err err;

	setup(state);
	return client_share(fixture->client, &err);
}

static void drained(void *arg)
{
	loop_stop(arg);
}

static void drain(void *arg)
{
	struct fixture *f = arg;

	grpc_server_drain(f->server, 1, drained, f->loop);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	if (f->client)
		client_free(f->client);
	assert_int_equal(loop_post(f->loop, drain, f), 0);
	pthread_join(f->thread, NULL);
	pool_free(f->pool);
	grpc_server_free(f->server);
	loop_free(f->loop);
	close(f->deferred[0]);
	close(f->deferred[1]);
	arena_free(f->arena);
	unlink(f->path);
	free(f);
	return 0;
}

static void a_call_carries_the_namespace(void **state)
{
	Google__Protobuf__Empty req = GOOGLE__PROTOBUF__EMPTY__INIT;
	PB_VERSION(VersionResponse) * m;
	struct fixture *f = *state;
	struct err err;

	assert_int_equal(
		client_call(f->client, &f->ctx, PB_VERSION_SERVICE, "Version", &req.base, &m, &err),
		0);
	assert_string_equal(m->version, "9.9");
	assert_string_equal(m->revision, "testns");
	assert_int_equal(
		client_call(f->client, &f->ctx, PB_VERSION_SERVICE, "Nope", &req.base, &m, &err),
		-ERR_UNIMPLEMENTED);
}

static void a_blob_is_read_whole_and_checked(void **state)
{
	struct fixture *f = *state;
	struct digest good, bad;
	struct err err;
	size_t len;
	char *text;

	digest_of(DIGEST_SHA256, blob, sizeof(blob) - 1, &good);
	digest_of(DIGEST_SHA256, "x", 1, &bad);
	assert_int_equal(client_content_read(f->client, &f->ctx, good.text, 100, &text, &len, &err),
			 0);
	assert_int_equal(len, sizeof(blob) - 1);
	assert_string_equal(text, blob);
	assert_int_equal(client_content_read(f->client, &f->ctx, bad.text, 100, &text, &len, &err),
			 -ERR_DATA_LOSS);
	assert_int_equal(client_content_read(f->client, &f->ctx, good.text, 7, &text, &len, &err),
			 -ERR_RESOURCE_EXHAUSTED);
	assert_int_equal(client_content_read(f->client, &f->ctx, "sha256:x", 7, &text, &len, &err),
			 -ERR_INVALID_ARGUMENT);
}

/* poll() for @fd as ctr does it, with the connection beside it. */
static bool readable(struct fixture *f, int fd, int timeout_ms)
{
	int64_t end = time_mono() + timeout_ms * NSEC_PER_MSEC;
	struct err err;

	for (;;) {
		struct pollfd p[] = {{.fd = fd, .events = POLLIN},
				     {.fd = client_poll_fd(f->client), .events = POLLIN}};
		int64_t left = (end - time_mono()) / NSEC_PER_MSEC;

		assert_true(poll(p, 2, (int)MAX(left, (int64_t)0)) >= 0);
		if (p[0].revents)
			return true;
		if (left <= 0)
			return false;
		if (p[1].revents)
			assert_int_equal(client_poll(f->client, &err), 0);
	}
}

static struct client_wait *start_wait(struct fixture *f)
{
	struct client_wait *w;
	struct err err;
	char b;

	assert_int_equal(client_wait_new(f->client, &f->ctx, "c", "", &w, &err), 0);
	assert_true(readable(f, f->deferred[0], 60000));
	assert_int_equal(read(f->deferred[0], &b, 1), 1);
	return w;
}

static void a_wait_becomes_readable_with_the_status(void **state)
{
	PB_TASKS(WaitResponse) m = PB_TASKS_INIT(WAIT_RESPONSE);
	struct fixture *f = *state;
	struct client_wait *w = start_wait(f);
	uint32_t status;
	struct err err;

	assert_false(readable(f, client_wait_fd(w), 0));
	m.exit_status = 42;
	assert_int_equal(rpc_send(f->waiting, &m.base, &err), 0);
	rpc_finish(f->waiting, NULL);
	assert_true(readable(f, client_wait_fd(w), 60000));
	assert_int_equal(client_wait_result(w, &status, &err), 0);
	assert_int_equal(status, 42);
	client_wait_free(w);
}

static void a_wait_can_be_given_up(void **state)
{
	struct fixture *f = *state;

	client_wait_free(start_wait(f));
	/* The server's call has to be ended all the same. */
	rpc_finish(f->waiting, NULL);
}

static void a_wait_ends_when_the_connection_does(void **state)
{
	struct fixture *f = *state;
	struct client_wait *w = start_wait(f);
	uint32_t status;
	struct err err;

	client_free(TAKE_PTR(f->client));
	assert_int_equal(client_wait_result(w, &status, &err), -ERR_UNAVAILABLE);
	client_wait_free(w);
	rpc_finish(f->waiting, NULL);
}

static void nobody_listening_is_one_clear_line(void **state)
{
	struct client *c;
	struct err err;

	assert_int_equal(client_connect("/tmp/test-client-nobody.sock", 0, &c, &err),
			 -ERR_UNAVAILABLE);
	assert_string_equal(err.text,
			    "cannot connect to containerd at \"/tmp/test-client-nobody.sock\": no "
			    "such file or directory: is containerd "
			    "running?");
	assert_int_equal(client_connect("", 0, &c, &err), -ERR_INVALID_ARGUMENT);
}

static void unix_urls_are_paths(void **state)
{
	struct fixture *f = *state;
	struct client *c;
	struct err err;
	char url[96];

	snprintf(url, sizeof(url), "unix://%s", f->path);
	assert_int_equal(client_connect(url, NSEC_PER_SEC, &c, &err), 0);
	client_free(c);
}

static void a_wait_is_answered_to_who_blocks(void **state)
{
	PB_TASKS(WaitResponse) m = PB_TASKS_INIT(WAIT_RESPONSE);
	struct fixture *f = *state;
	struct client_wait *w = start_wait(f);
	uint32_t status;
	struct err err;

	m.exit_status = 7;
	assert_int_equal(rpc_send(f->waiting, &m.base, &err), 0);
	rpc_finish(f->waiting, NULL);
	assert_int_equal(client_wait_result(w, &status, &err), 0);
	assert_int_equal(status, 7);
	client_wait_free(w);
}

/* By the thread that made the connection, and by any. */
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
#define TEST_BOTH(f)                                            \
	TEST(f),                                                \
	{                                                       \
#f " (shared)", f, setup_shared, teardown, NULL \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_BOTH(a_call_carries_the_namespace),
		TEST_BOTH(a_blob_is_read_whole_and_checked),
		TEST_BOTH(a_wait_becomes_readable_with_the_status),
		TEST_BOTH(a_wait_is_answered_to_who_blocks),
		TEST_BOTH(a_wait_can_be_given_up),
		TEST_BOTH(a_wait_ends_when_the_connection_does),
		cmocka_unit_test(nobody_listening_is_one_clear_line),
		TEST(unix_urls_are_paths),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
