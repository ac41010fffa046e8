/* SPDX-License-Identifier: Apache-2.0 */
/* Tasks against a shim program of the test's own: see fake_shim.c. */
#include "util.h"

#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/syscall.h>

#include "core/container.h"
#include "core/content.h"
#include "core/db.h"
#include "core/event.h"
#include "event/loop.h"
#include "event/pool.h"
#include "plugins/runtime/metrics.h"
#include "plugins/runtime/runtime.h"
#include "protos.h"

#define WAIT_MS 60000 /* for what must come: the machine may be busy */

#undef assert_ok
#undef assert_err
#define assert_ok(call)                                          \
	do {                                                     \
		rf->err = ERR_INIT;                              \
		if ((call) != 0)                                 \
			fail_msg("%s: %s", #call, rf->err.text); \
	} while (0)

#define assert_err(call, error_kind, error_text)               \
	do {                                                   \
		rf->err = ERR_INIT;                            \
		assert_int_equal((call), -(error_kind));       \
		assert_string_equal(rf->err.text, error_text); \
	} while (0)

struct rfix {
	char dir[64];
	struct arena *arena;
	struct ctx ctx;
	struct err err;
	struct event_exchange *events;
	struct content_store *content;
	struct db *db;
	struct loop *loop;
	pthread_t thread;
	struct pool *pool;
	struct runtime *rt;
	struct runtime_options o;
	char state[96], root[96];
	/* heard */
	struct event_subscription *sub;
	pthread_mutex_t lock;
	sem_t deleted;
	char topics[256];
	uint32_t exit_status, exit_pid;
};

static void hear(void *arg, const struct event *e)
{
	struct rfix *rf = arg;
	if (!str_has_prefix(e->topic, "/tasks/"))
		return;
	pthread_mutex_lock(&rf->lock);
	size_t n = strlen(rf->topics);
	snprintf(rf->topics + n, sizeof(rf->topics) - n, "%s ", e->topic);
	if (streq(e->topic, "/tasks/exit")) {
		Containerd__Events__TaskExit *x =
			containerd__events__task_exit__unpack(NULL, e->payload_len, e->payload);
		rf->exit_status = x->exit_status;
		rf->exit_pid = x->pid;
		containerd__events__task_exit__free_unpacked(x, NULL);
	}
	pthread_mutex_unlock(&rf->lock);
	if (streq(e->topic, "/tasks/delete"))
		sem_post(&rf->deleted);
}

static void *loop_main(void *arg)
{
	loop_run(arg);
	return NULL;
}

static void stop_posted(void *arg)
{
	loop_stop(arg);
}

static void container_put(struct rfix *rf, const char *id, const char *runtime)
{
	struct container c = {.id = id,
			      .image = "",
			      .runtime_name = runtime,
			      .spec = {"types.containerd.io/opencontainers/runtime-spec/1/Spec",
				       "{}", 2},
			      .snapshotter = "",
			      .snapshot_key = "",
			      .sandbox_id = ""},
			 out;
	assert_ok(container_create(&rf->ctx, rf->db, &c, &out, &rf->err));
}

static int setup(void **state)
{
	struct rfix *rf = calloc(1, sizeof(*rf));
	char path[96];
	assert_non_null(rf);
	strcpy(rf->dir, "/tmp/test-runtime-XXXXXX");
	assert_non_null(mkdtemp(rf->dir));
	setenv("FAKE_SHIM_DIR", rf->dir, 1);
	unsetenv("FAKE_SHIM");
	rf->arena = arena_new(0);
	rf->ctx = (struct ctx){.arena = rf->arena, .ns = "default", .lease = ""};
	pthread_mutex_init(&rf->lock, NULL);
	sem_init(&rf->deleted, 0, 0);
	assert_int_equal(event_exchange_new(&rf->events), 0);
	assert_ok(event_subscribe(rf->events, NULL, 0, hear, rf, &rf->sub, &rf->err));
	snprintf(path, sizeof(path), "%s/content", rf->dir);
	assert_ok(content_store_local_new(path, &rf->content, &rf->err));
	snprintf(path, sizeof(path), "%s/meta.db", rf->dir);
	struct db_options o = {
		.path = path, .no_sync = true, .content = rf->content, .events = rf->events};
	assert_ok(db_open(&o, &rf->db, &rf->err));
	container_put(rf, "c1", getenv("FAKE_SHIM_BINARY"));
	assert_int_equal(loop_new(&rf->loop), 0);
	assert_int_equal(pool_new(0, &rf->pool), 0);
	assert_int_equal(pthread_create(&rf->thread, NULL, loop_main, rf->loop), 0);
	snprintf(rf->state, sizeof(rf->state), "%s/state", rf->dir);
	snprintf(rf->root, sizeof(rf->root), "%s/root", rf->dir);
	rf->o = (struct runtime_options){.loop = rf->loop,
					 .pool = rf->pool,
					 .db = rf->db,
					 .events = rf->events,
					 .root = rf->root,
					 .state = rf->state,
					 .address = "/none.sock",
					 .ttrpc_address = "/none.sock.ttrpc",
					 .exe = "/bin/true",
					 .version = "test",
					 .load_timeout_ns = 60 * NSEC_PER_SEC,
					 .cleanup_timeout_ns = 60 * NSEC_PER_SEC,
					 .shutdown_timeout_ns = 60 * NSEC_PER_SEC,
					 .state_timeout_ns = 60 * NSEC_PER_SEC,
					 .stats_timeout_ns = 60 * NSEC_PER_SEC};
	assert_ok(runtime_new(&rf->o, &rf->rt, &rf->err));
	*state = rf;
	return 0;
}

static void sem_posted(void *arg)
{
	sem_post(arg);
}

/* What was posted before has run. */
static void run_on_loop_and_wait(struct rfix *rf)
{
	sem_t s;
	sem_init(&s, 0, 0);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(loop_post(rf->loop, sem_posted, &s), 0);
		sem_wait(&s);
	}
}

/* The daemon goes; shims stay. */
static void daemon_end(struct rfix *rf)
{
	runtime_quiesce(rf->rt);
	pool_free(rf->pool);
	runtime_disconnect(rf->rt);
	run_on_loop_and_wait(rf);
	loop_post(rf->loop, stop_posted, rf->loop);
	pthread_join(rf->thread, NULL);
	runtime_free(rf->rt);
	loop_free(rf->loop);
}

static void daemon_start(struct rfix *rf)
{
	assert_int_equal(loop_new(&rf->loop), 0);
	assert_int_equal(pool_new(0, &rf->pool), 0);
	assert_int_equal(pthread_create(&rf->thread, NULL, loop_main, rf->loop), 0);
	rf->o.loop = rf->loop;
	rf->o.pool = rf->pool;
	assert_ok(runtime_new(&rf->o, &rf->rt, &rf->err));
	struct ctx ctx = {.arena = rf->arena, .ns = "", .lease = ""};
	assert_ok(runtime_load(&ctx, rf->rt, &rf->err));
}

static int log_count(struct rfix *rf, const char *line)
{
	char path[96], *text;
	int n = 0;
	snprintf(path, sizeof(path), "%s/log", rf->dir);
	if (file_read(rf->arena, AT_FDCWD, path, 1 << 20, &text, NULL) < 0)
		return 0;
	for (char *p = text; (p = strstr(p, line)); p += strlen(line))
		n++;
	return n;
}

static uint32_t task_pid(struct rfix *rf, const char *id)
{
	struct task *t;
	Containerd__Task__V3__ConnectRequest req = CONTAINERD__TASK__V3__CONNECT_REQUEST__INIT;
	Containerd__Task__V3__ConnectResponse *resp;
	assert_ok(runtime_get(&rf->ctx, rf->rt, id, &t, &rf->err));
	req.id = (char *)id;
	assert_ok(task_call(&rf->ctx, t, "Connect", &req.base,
			    &containerd__task__v3__connect_response__descriptor, &resp, &rf->err));
	task_unref(t);
	return resp->task_pid;
}

/* Deletes the task and waits for the end of its shim. */
static void task_end(struct rfix *rf, const char *id)
{
	struct runtime_exit x;
	struct pollfd p = {.events = POLLIN};
	pid_t pid = (pid_t)task_pid(rf, id);

	p.fd = (int)syscall(SYS_pidfd_open, pid, 0);
	assert_true(p.fd >= 0);
	if (runtime_delete(&rf->ctx, rf->rt, id, &x, &rf->err) < 0)
		kill(pid, SIGKILL);
	assert_int_equal(poll(&p, 1, WAIT_MS), 1);
	close(p.fd);
}

static int teardown(void **state)
{
	struct rfix *rf = *state;
	char **ids;
	size_t n;
	unsetenv("FAKE_SHIM");
	/* No shim outlives its test. */
	assert_ok(runtime_list(&rf->ctx, rf->rt, &ids, &n, &rf->err));
	for (size_t i = 0; i < n; i++)
		task_end(rf, ids[i]);
	daemon_end(rf);
	event_unsubscribe(rf->sub);
	db_close(rf->db);
	rf->content->ops->free(rf->content);
	event_exchange_free(rf->events);
	arena_free(rf->arena);
	rm_rf(AT_FDCWD, rf->dir);
	free(rf);
	return 0;
}

static int create(struct rfix *rf, const char *id, uint32_t *ret_pid)
{
	struct mounts none = {0};
	struct runtime_create c = {.id = id,
				   .rootfs = &none,
				   .stdin_path = "",
				   .stdout_path = "",
				   .stderr_path = "",
				   .runtime_path = "",
				   .checkpoint = ""};
	return runtime_create(&rf->ctx, rf->rt, &c, ret_pid, &rf->err);
}

static bool there(struct rfix *rf, const char *base, const char *name)
{
	struct stat st;
	return lstat(arena_printf(rf->arena, "%s/%s", base, name), &st) == 0;
}

static void wait_deleted(struct rfix *rf)
{
	struct timespec ts;
	clock_gettime(CLOCK_REALTIME, &ts);
	ts.tv_sec += WAIT_MS / 1000;
	if (sem_timedwait(&rf->deleted, &ts) < 0)
		fail_msg("no /tasks/delete came");
}

static void wait_gone(struct rfix *rf, const char *base, const char *name)
{
	for (int i = 0; i < WAIT_MS && there(rf, base, name); i++)
		usleep(1000);
	assert_false(there(rf, base, name));
}

/* What a shim writes when it has been told to go, which nobody waits for. */
static void wait_logged(struct rfix *rf, const char *line, int times)
{
	for (int i = 0; i < WAIT_MS && log_count(rf, line) < times; i++)
		usleep(1000);
	assert_int_equal(log_count(rf, line), times);
}

/* ---- */

static void task_is_created_found_listed_and_deleted(void **state)
{
	struct rfix *rf = *state;
	struct runtime_exit x;
	uint32_t pid;
	char **ids;
	size_t n;
	assert_ok(create(rf, "c1", &pid));
	assert_true(pid > 1);
	assert_true(there(rf, rf->state, "default/c1/config.json"));
	assert_true(there(rf, rf->state, "default/c1/bootstrap.json"));
	assert_true(there(rf, rf->root, "default/c1"));
	assert_ok(runtime_list(&rf->ctx, rf->rt, &ids, &n, &rf->err));
	assert_int_equal(n, 1);
	assert_string_equal(ids[0], "c1");
	assert_int_equal(task_pid(rf, "c1"), pid);
	rf->ctx.ns = "other";
	struct task *t;
	assert_err(runtime_get(&rf->ctx, rf->rt, "c1", &t, &rf->err), ERR_NOT_FOUND,
		   "task c1 not found");
	assert_ok(runtime_list(&rf->ctx, rf->rt, &ids, &n, &rf->err));
	assert_int_equal(n, 0);
	rf->ctx.ns = "default";
	assert_ok(runtime_delete(&rf->ctx, rf->rt, "c1", &x, &rf->err));
	assert_int_equal(x.status, 7);
	assert_int_equal(x.pid, pid);
	assert_int_equal(x.at.tv_sec, 1000);
	assert_false(there(rf, rf->state, "default/c1"));
	assert_false(there(rf, rf->root, "default/c1"));
	assert_err(runtime_get(&rf->ctx, rf->rt, "c1", &t, &rf->err), ERR_NOT_FOUND,
		   "task c1 not found");
	assert_err(runtime_delete(&rf->ctx, rf->rt, "c1", &x, &rf->err), ERR_NOT_FOUND,
		   "task c1 not found");
	/* The events of a deletion are the service's; the runtime tells of deaths only. */
	assert_string_equal(rf->topics, "");
	assert_int_equal(log_count(rf, "delete c1"), 0);
	/* And once more under the same name. */
	assert_ok(create(rf, "c1", &pid));
	assert_ok(runtime_delete(&rf->ctx, rf->rt, "c1", &x, &rf->err));
	wait_logged(rf, "shutdown c1", 2);
}

struct coming {
	struct rfix *rf;
	bool called, shim_was_there, refuse;
};

static int recorded(void *arg, struct err *err)
{
	struct coming *w = arg;
	w->called = true;
	w->shim_was_there = there(w->rf, w->rf->state, "default/c9/bootstrap.json") &&
			    log_count(w->rf, "start c9") == 1;
	return w->refuse ? err_set_raw(err, ERR_INTERNAL, "the disk is full") : 0;
}

static int create_unrecorded(struct rfix *rf, struct coming *w, uint32_t *ret_pid)
{
	struct mounts none = {0};
	struct container c = {
		.id = "c9",
		.runtime_name = getenv("FAKE_SHIM_BINARY"),
		.spec = {"types.containerd.io/opencontainers/runtime-spec/1/Spec", "{}", 2},
		.sandbox_id = ""};
	struct runtime_create rc = {.id = "c9",
				    .rootfs = &none,
				    .stdin_path = "",
				    .stdout_path = "",
				    .stderr_path = "",
				    .runtime_path = "",
				    .container = &c,
				    .recorded = recorded,
				    .recorded_arg = w};
	return runtime_create(&rf->ctx, rf->rt, &rc, ret_pid, &rf->err);
}

static void shim_starts_before_the_record_is_there(void **state)
{
	struct rfix *rf = *state;
	struct coming w = {.rf = rf};
	struct runtime_exit x;
	uint32_t pid;
	assert_ok(create_unrecorded(rf, &w, &pid));
	assert_true(w.called);
	assert_true(w.shim_was_there);
	assert_int_equal(task_pid(rf, "c9"), pid);
	assert_ok(runtime_delete(&rf->ctx, rf->rt, "c9", &x, &rf->err));
	wait_logged(rf, "shutdown c9", 1);
}

static void task_whose_record_fails_leaves_nothing(void **state)
{
	struct rfix *rf = *state;
	struct coming w = {.rf = rf, .refuse = true};
	struct task *t;
	uint32_t pid;
	assert_err(create_unrecorded(rf, &w, &pid), ERR_INTERNAL, "the disk is full");
	assert_int_equal(runtime_get(&rf->ctx, rf->rt, "c9", &t, &rf->err), -ERR_NOT_FOUND);
	assert_false(there(rf, rf->state, "default/c9"));
	assert_false(there(rf, rf->root, "default/c9"));
	wait_logged(rf, "shutdown c9", 1);
	assert_string_equal(rf->topics, "");
}

static void second_create_is_refused_and_harms_nothing(void **state)
{
	struct rfix *rf = *state;
	uint32_t pid, again;
	assert_ok(create(rf, "c1", &pid));
	assert_err(create(rf, "c1", &again), ERR_ALREADY_EXISTS, "task c1: already exists");
	assert_true(there(rf, rf->state, "default/c1/config.json"));
	assert_int_equal(task_pid(rf, "c1"), pid);
	assert_int_equal(log_count(rf, "start c1"), 1);
}

struct racer {
	struct rfix *rf;
	int r;
};

static void *race(void *arg)
{
	struct racer *c = arg;
	struct arena *a = arena_new(0);
	struct ctx ctx = {.arena = a, .ns = "default", .lease = ""};
	struct mounts none = {0};
	struct runtime_create rc = {.id = "c1",
				    .rootfs = &none,
				    .stdin_path = "",
				    .stdout_path = "",
				    .stderr_path = "",
				    .runtime_path = "",
				    .checkpoint = ""};
	uint32_t pid;
	c->r = runtime_create(&ctx, c->rf->rt, &rc, &pid, NULL);
	arena_free(a);
	return NULL;
}

static void of_many_creates_at_once_one_wins(void **state)
{
	struct rfix *rf = *state;
	struct racer c[8];
	pthread_t t[8];
	int won = 0;
	for (int i = 0; i < 8; i++) {
		c[i] = (struct racer){.rf = rf};
		assert_int_equal(pthread_create(&t[i], NULL, race, &c[i]), 0);
	}
	for (int i = 0; i < 8; i++) {
		pthread_join(t[i], NULL);
		assert_true(c[i].r == 0 || c[i].r == -ERR_ALREADY_EXISTS);
		won += c[i].r == 0;
	}
	assert_int_equal(won, 1);
	assert_int_equal(log_count(rf, "start c1"), 1);
}

static void what_cannot_be_created_leaves_nothing(void **state)
{
	struct rfix *rf = *state;
	uint32_t pid;
	struct task *t;
	assert_err(create(rf, "c2", &pid), ERR_NOT_FOUND,
		   "container \"c2\" in namespace \"default\": not found");
	container_put(rf, "c2", "io.containerd.nonsense.v9");
	assert_int_equal(create(rf, "c2", &pid), -ERR_NOT_FOUND);
	assert_non_null(
		strstr(rf->err.text, "runtime \"io.containerd.nonsense.v9\" binary not installed"));
	assert_false(there(rf, rf->state, "default/c2"));
	assert_false(there(rf, rf->root, "default/c2"));
	setenv("FAKE_SHIM", "fail-create", 1);
	assert_err(create(rf, "c1", &pid), ERR_ABORTED, "no container today");
	assert_int_equal(runtime_get(&rf->ctx, rf->rt, "c1", &t, &rf->err), -ERR_NOT_FOUND);
	assert_false(there(rf, rf->state, "default/c1"));
	assert_int_equal(log_count(rf, "delete c1"), 1);
	setenv("FAKE_SHIM", "die-create", 1);
	assert_int_equal(create(rf, "c1", &pid), -ERR_UNAVAILABLE);
	assert_false(there(rf, rf->state, "default/c1"));
	assert_int_equal(log_count(rf, "delete c1"), 2);
	assert_string_equal(rf->topics, "");
	unsetenv("FAKE_SHIM");
	assert_ok(create(rf, "c1", &pid));
}

static void task_whose_shim_dies_is_buried(void **state)
{
	struct rfix *rf = *state;
	uint32_t pid;
	struct task *t;
	assert_ok(create(rf, "c1", &pid));
	kill((pid_t)pid, SIGKILL);
	wait_deleted(rf);
	assert_string_equal(rf->topics, "/tasks/exit /tasks/delete ");
	assert_int_equal(rf->exit_status, 137); /* as the delete command said */
	assert_int_equal(rf->exit_pid, 4321);
	/* Who hears of it may make it anew at once. */
	assert_int_equal(runtime_get(&rf->ctx, rf->rt, "c1", &t, &rf->err), -ERR_NOT_FOUND);
	assert_false(there(rf, rf->state, "default/c1"));
	assert_ok(create(rf, "c1", &pid));
}

static void death_is_told_even_if_the_cleanup_fails(void **state)
{
	struct rfix *rf = *state;
	uint32_t pid;
	assert_ok(create(rf, "c1", &pid));
	setenv("FAKE_SHIM", "fail-cleanup", 1);
	kill((pid_t)pid, SIGKILL);
	wait_deleted(rf);
	assert_int_equal(rf->exit_status, 255);
	assert_int_equal(rf->exit_pid, pid);
	wait_gone(rf, rf->state, "default/c1");
}

/* A call that is in flight when the shim dies ends, and its task may be held longer than it lives.
 */
static void call_in_flight_ends_with_its_shim(void **state)
{
	struct rfix *rf = *state;
	uint32_t pid;
	struct task *t;
	Containerd__Task__V3__KillRequest req = CONTAINERD__TASK__V3__KILL_REQUEST__INIT;
	assert_ok(create(rf, "c1", &pid));
	assert_ok(runtime_get(&rf->ctx, rf->rt, "c1", &t, &rf->err));
	assert_int_equal(task_call(&rf->ctx, t, "Kill", &req.base,
				   &google__protobuf__empty__descriptor, NULL, &rf->err),
			 -ERR_UNAVAILABLE);
	wait_deleted(rf);
	assert_int_equal(task_call(&rf->ctx, t, "Kill", &req.base,
				   &google__protobuf__empty__descriptor, NULL, &rf->err),
			 -ERR_UNAVAILABLE);
	task_unref(t);
}

static void refused_deletion_leaves_the_task(void **state)
{
	struct rfix *rf = *state;
	uint32_t pid;
	struct runtime_exit x;
	setenv("FAKE_SHIM", "fail-delete", 1);
	assert_ok(create(rf, "c1", &pid));
	assert_err(runtime_delete(&rf->ctx, rf->rt, "c1", &x, &rf->err), ERR_FAILED_PRECONDITION,
		   "still running");
	assert_int_equal(task_pid(rf, "c1"), pid);
	assert_true(there(rf, rf->state, "default/c1/config.json"));
	/* It is still watched over. */
	kill((pid_t)pid, SIGKILL);
	wait_deleted(rf);
}

static void shim_with_version_2_only_is_spoken_to_in_version_2(void **state)
{
	struct rfix *rf = *state;
	uint32_t pid;
	struct runtime_exit x;
	setenv("FAKE_SHIM", "v2", 1);
	assert_ok(create(rf, "c1", &pid));
	assert_int_equal(log_count(rf, "create-v2 c1"), 1);
	assert_int_equal(task_pid(rf, "c1"), pid);
	/* The next daemon finds out as well. */
	daemon_end(rf);
	daemon_start(rf);
	assert_int_equal(task_pid(rf, "c1"), pid);
	assert_ok(runtime_delete(&rf->ctx, rf->rt, "c1", &x, &rf->err));
	assert_int_equal(x.status, 7);
}

static void next_daemon_finds_the_tasks_again(void **state)
{
	struct rfix *rf = *state;
	uint32_t pid;
	assert_ok(create(rf, "c1", &pid));
	daemon_end(rf);
	assert_string_equal(rf->topics, "");
	daemon_start(rf);
	assert_int_equal(task_pid(rf, "c1"), pid);
	assert_string_equal(rf->topics, "");
	assert_true(there(rf, rf->root, "default/c1"));
	/* And hears of its death. */
	kill((pid_t)pid, SIGKILL);
	wait_deleted(rf);
	assert_int_equal(rf->exit_status, 137);
	assert_false(there(rf, rf->state, "default/c1"));
}

static void next_daemon_removes_a_shim_without_a_task(void **state)
{
	struct rfix *rf = *state;
	uint32_t pid;
	struct task *t;
	setenv("FAKE_SHIM", "empty", 1);
	assert_ok(create(rf, "c1", &pid));
	daemon_end(rf);
	daemon_start(rf);
	assert_int_equal(runtime_get(&rf->ctx, rf->rt, "c1", &t, &rf->err), -ERR_NOT_FOUND);
	assert_false(there(rf, rf->state, "default/c1"));
	assert_string_equal(rf->topics, ""); /* nobody was told of it */
	wait_logged(rf, "shutdown c1", 1);
}

static void metrics_are_of_all_namespaces(void **state)
{
	struct rfix *rf = *state;
	struct task_metric *v;
	uint32_t pid;
	size_t n;
	assert_ok(runtime_metrics(&rf->ctx, rf->rt, &v, &n, &rf->err));
	assert_int_equal(n, 0);
	assert_ok(create(rf, "c1", &pid));
	rf->ctx.ns = "another";
	container_put(rf, "c2", getenv("FAKE_SHIM_BINARY"));
	assert_ok(create(rf, "c2", &pid));
	assert_ok(runtime_metrics(&rf->ctx, rf->rt, &v, &n, &rf->err));
	assert_int_equal(n, 2);
	assert_string_equal(v[0].ns, "another");
	assert_string_equal(v[0].id, "c2");
	assert_string_equal(v[0].stats.type_url, "numbers");
	assert_memory_equal(v[0].stats.value, "c2", v[0].stats.len);
	assert_true(v[0].at.tv_sec > 0);
	assert_string_equal(v[1].ns, "default");
	assert_string_equal(v[1].id, "c1");
	task_end(rf, "c2");
	rf->ctx.ns = "default";
}

static void metrics_do_not_wait_for_a_shim_that_does_not_answer(void **state)
{
	struct rfix *rf = *state;
	struct task_metric *v;
	uint32_t pid;
	size_t n;
	daemon_end(rf);
	rf->o.stats_timeout_ns = 100 * NSEC_PER_MSEC;
	daemon_start(rf);
	setenv("FAKE_SHIM", "slow", 1);
	assert_ok(create(rf, "c1", &pid));
	assert_ok(runtime_metrics(&rf->ctx, rf->rt, &v, &n, &rf->err));
	assert_int_equal(n, 0);
}

/* It would be led to the socket of the one that goes. */
static void shim_is_started_when_the_last_of_its_name_has_been_told_to_go(void **state)
{
	struct rfix *rf = *state;
	struct racer c = {.rf = rf};
	struct runtime_exit x;
	pthread_t t;
	uint32_t pid;
	setenv("FAKE_SHIM", "gate", 1);
	assert_ok(create(rf, "c1", &pid));
	assert_ok(runtime_delete(&rf->ctx, rf->rt, "c1", &x, &rf->err));
	assert_int_equal(pthread_create(&t, NULL, race, &c), 0);
	/* Another's does not wait. */
	container_put(rf, "c2", getenv("FAKE_SHIM_BINARY"));
	assert_ok(create(rf, "c2", &pid));
	usleep(200 * 1000);
	assert_int_equal(log_count(rf, "start c1"), 1);
	assert_int_equal(
		file_write(AT_FDCWD, arena_printf(rf->arena, "%s/gate", rf->dir), "", 0, 0600), 0);
	pthread_join(t, NULL);
	assert_int_equal(c.r, 0);
	assert_int_equal(log_count(rf, "start c1"), 2);
	task_end(rf, "c1");
	task_end(rf, "c2");
}

/* Nor does its end: the sanitizer would see what is left. */
static void daemon_ends_while_a_shim_is_told_to_go(void **state)
{
	struct rfix *rf = *state;
	uint32_t pid;
	struct runtime_exit x;
	setenv("FAKE_SHIM", "busy", 1);
	assert_ok(create(rf, "c1", &pid));
	assert_ok(runtime_delete(&rf->ctx, rf->rt, "c1", &x, &rf->err));
	wait_logged(rf, "shutdown c1", 1);
	daemon_end(rf);
	kill((pid_t)pid, SIGKILL);
	daemon_start(rf);
}

static void next_daemon_buries_what_has_died_meanwhile(void **state)
{
	struct rfix *rf = *state;
	uint32_t pid;
	struct task *t;
	assert_ok(create(rf, "c1", &pid));
	daemon_end(rf);
	kill((pid_t)pid, SIGKILL);
	/* Leftovers of a removal that was cut off, of a creation, and of a reboot. */
	assert_int_equal(
		mkdir_p(arena_printf(rf->arena, "%s/default/.old/rootfs", rf->state), 0700), 0);
	assert_int_equal(mkdir_p(arena_printf(rf->arena, "%s/default/empty", rf->state), 0700), 0);
	assert_int_equal(mkdir_p(arena_printf(rf->arena, "%s/default/stray", rf->root), 0700), 0);
	assert_int_equal(mkdir_p(arena_printf(rf->arena, "%s/elsewhere/stray", rf->root), 0700), 0);
	daemon_start(rf);
	assert_string_equal(rf->topics, "/tasks/exit /tasks/delete ");
	assert_int_equal(rf->exit_status, 137);
	assert_int_equal(runtime_get(&rf->ctx, rf->rt, "c1", &t, &rf->err), -ERR_NOT_FOUND);
	assert_false(there(rf, rf->state, "default/c1"));
	assert_false(there(rf, rf->state, "default/.old"));
	assert_false(there(rf, rf->state, "default/empty"));
	assert_false(there(rf, rf->root, "default/stray"));
	assert_false(there(rf, rf->root, "elsewhere/stray"));
}

static void next_daemon_does_not_wait_for_ever(void **state)
{
	struct rfix *rf = *state;
	uint32_t pid;
	setenv("FAKE_SHIM", "mute", 1);
	assert_ok(create(rf, "c1", &pid));
	daemon_end(rf);
	rf->o.load_timeout_ns = 100 * NSEC_PER_MSEC;
	daemon_start(rf);
	assert_string_equal(rf->topics, "/tasks/exit /tasks/delete ");
	kill((pid_t)pid, SIGKILL);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(task_is_created_found_listed_and_deleted),
		T(shim_starts_before_the_record_is_there),
		T(task_whose_record_fails_leaves_nothing),
		T(second_create_is_refused_and_harms_nothing),
		T(of_many_creates_at_once_one_wins),
		T(what_cannot_be_created_leaves_nothing),
		T(task_whose_shim_dies_is_buried),
		T(death_is_told_even_if_the_cleanup_fails),
		T(call_in_flight_ends_with_its_shim),
		T(refused_deletion_leaves_the_task),
		T(shim_with_version_2_only_is_spoken_to_in_version_2),
		T(next_daemon_finds_the_tasks_again),
		T(next_daemon_removes_a_shim_without_a_task),
		T(metrics_are_of_all_namespaces),
		T(metrics_do_not_wait_for_a_shim_that_does_not_answer),
		T(shim_is_started_when_the_last_of_its_name_has_been_told_to_go),
		T(daemon_ends_while_a_shim_is_told_to_go),
		T(next_daemon_buries_what_has_died_meanwhile),
		T(next_daemon_does_not_wait_for_ever),
	};
	signal(SIGPIPE, SIG_IGN); /* as the daemon does */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
