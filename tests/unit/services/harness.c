/* SPDX-License-Identifier: Apache-2.0 */
/* See harness.h. */
#include "harness.h"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/path.h"

static struct rpc_service table[16];

static void *loop_main(void *arg)
{
	loop_run(arg);
	return NULL;
}

static void stop_posted(void *arg)
{
	loop_stop(arg);
}

static void on_done(void *arg, const char *path, int code, const char *text, int64_t ns)
{
	struct harness *h = arg;
	atomic_fetch_add(&h->done, 1);
}

static void server_start(struct harness *h)
{
	static int serial;
	static void (*const fill[])(struct services *, struct rpc_service *) = {
		service_images,	       service_containers,    service_namespaces, service_leases,
		service_content,       service_events,	      service_streaming,  service_version,
		service_sandbox_store, service_introspection,
	};
	struct grpc_server_options o = {.on_done = on_done, .on_done_arg = h};
	int fd;
	sem_init(&h->drained, 0, 0);
	assert_int_equal(loop_new(&h->loop), 0);
	assert_int_equal(pool_new(0, &h->s.pool), 0);
	h->s.loop = h->loop;
	h->s.events = h->events;
	h->s.introspection_root = h->dir;
	pthread_mutex_init(&h->s.uuid_lock, NULL);
	assert_int_equal(streams_new(&h->s.streams), 0);
	snprintf(h->socket, sizeof(h->socket), "@services-test-%d-%d", (int)getpid(), serial++);
	assert_int_equal(grpc_server_new(h->loop, h->s.pool, &o, &h->server), 0);
	for (size_t i = 0; i < ARRAY_LEN(fill); i++) {
		fill[i](&h->s, &table[i]);
		assert_int_equal(grpc_server_add(h->server, &table[i]), 0);
	}
	assert_int_equal(unix_listen(h->socket, getuid(), getgid(), 0600, &fd), 0);
	assert_int_equal(grpc_server_listen(h->server, fd), 0);
	assert_int_equal(pthread_create(&h->thread, NULL, loop_main, h->loop), 0);
}

int harness_setup(void **state)
{
	struct harness *h = calloc(1, sizeof(*h));
	char path[96], content[96];
	assert_non_null(h);
	strcpy(h->dir, "/tmp/test-services-XXXXXX");
	assert_non_null(mkdtemp(h->dir));
	snprintf(path, sizeof(path), "%s/meta.db", h->dir);
	snprintf(content, sizeof(content), "%s/content", h->dir);
	h->arena = arena_new(0);
	h->ctx = (struct ctx){.arena = h->arena, .ns = "default", .lease = ""};
	assert_int_equal(event_exchange_new(&h->events), 0);
	assert_ok(content_store_local_new(content, &h->content, &h->err));
	struct db_options o = {
		.path = path, .no_sync = true, .content = h->content, .events = h->events};
	assert_ok(db_open(&o, &h->s.db, &h->err));
	struct gc_options gc = {.pause_threshold = 0.02, .mutation_threshold = 100};
	assert_ok(gc_scheduler_start(h->s.db, &gc, &h->s.gc, &h->err));
	server_start(h);
	h->client = harness_connect(h);
	*state = h;
	return 0;
}

static void drained(void *arg)
{
	sem_post(arg);
}

static void drain_posted(void *arg)
{
	struct harness *h = arg;
	grpc_server_drain(h->server, NSEC_PER_MSEC, drained, &h->drained);
}

void harness_drain(struct harness *h)
{
	if (h->draining)
		return;
	h->draining = true;
	loop_post(h->loop, drain_posted, h);
	sem_wait_or_fail(&h->drained);
}

/* In the daemon's order. */
int harness_teardown(void **state)
{
	struct harness *h = *state;
	rpc_client_free(h->client);
	harness_drain(h);
	loop_post(h->loop, stop_posted, h->loop);
	pthread_join(h->thread, NULL);
	pool_free(h->s.pool);
	for (int i = 0; i < 8; i++)
		loop_run_once(h->loop, 0);
	grpc_server_free(h->server);
	streams_free(h->s.streams);
	loop_free(h->loop);
	gc_scheduler_stop(h->s.gc);
	db_close(h->s.db);
	h->content->ops->free(h->content);
	event_exchange_free(h->events);
	arena_free(h->arena);
	rm_rf(AT_FDCWD, h->dir);
	free(h);
	return 0;
}

struct rpc_client *harness_connect(struct harness *h)
{
	struct rpc_client *c;
	int fd;
	assert_int_equal(unix_connect(h->socket, &fd), 0);
	assert_int_equal(grpc_client_new(h->loop, fd, NULL, &c), 0);
	return c;
}

void harness_wait_done(struct harness *h, int n)
{
	for (int i = 0; i < 60000 && atomic_load(&h->done) < n; i++)
		usleep(1000);
	assert_true(atomic_load(&h->done) >= n);
}

void sem_wait_or_fail(sem_t *s)
{
	struct timespec ts;
	clock_gettime(CLOCK_REALTIME, &ts);
	ts.tv_sec += 60;
	if (sem_timedwait(s, &ts) < 0)
		fail_msg("the event did not come");
}

int call(struct harness *h, const char *service, const char *method, const void *req,
	 const ProtobufCMessageDescriptor *desc, void *ret)
{
	return rpc_call(h->client, &h->ctx, service, method, req, desc, ret, &h->err);
}
