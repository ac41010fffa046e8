/* SPDX-License-Identifier: Apache-2.0 */
/* The whole server in a process of its own, with a shell script as the OCI runtime, and a daemon's
 * part played here: calls and events. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "base/time.h"
#include "shim/shim.h"

#define LONG_NS (60 * NSEC_PER_SEC)

struct fixture {
	struct arena *arena;
	struct loop *loop;
	char dir[32], bundle[64], socket[64], daemon[64], out[64], in[64];
	pid_t shim;
	struct rpc_client *client;
	struct ttrpc_server *events;
	struct rpc_service service;
	char log[65536]; /* "topic id status\n" of each event */
};

/* ---- the daemon's event service ---- */

static void note(struct fixture *f, const char *topic, const char *id, int status)
{
	size_t n = strlen(f->log);

	snprintf(f->log + n, sizeof(f->log) - n, "%s %s %d\n", topic, id, status);
}

static int forward(struct rpc_call *call, const void *r, struct err *err)
{
	const Containerd__Services__Events__Ttrpc__V1__ForwardRequest *req = r;
	Google__Protobuf__Empty empty = GOOGLE__PROTOBUF__EMPTY__INIT;
	const ProtobufCBinaryData *v = &req->envelope->event->value;
	struct fixture *f = rpc_data(call);
	Containerd__Events__TaskExit *e;

	if (streq(req->envelope->topic, "/tasks/exit")) {
		assert_int_equal(rpc_unpack(rpc_ctx(call)->arena,
					    &containerd__events__task_exit__descriptor, v->data,
					    v->len, &e, NULL),
				 0);
		note(f, req->envelope->topic, e->id, (int)e->exit_status);
	} else {
		note(f, req->envelope->topic, "-", 0);
	}
	return rpc_send(call, &empty.base, err);
}

static const struct rpc_method forward_methods[] = {{"Forward", RPC_UNARY, forward}};

/* ---- calls ---- */

struct answer {
	struct fixture *f;
	bool done;
	const ProtobufCMessageDescriptor *desc;
	void *msg;
	struct err err;
};

static void on_answer(void *arg, const uint8_t *p, size_t n, const struct err *err)
{
	struct answer *a = arg;

	a->done = true;
	if (err)
		a->err = *err;
	else
		assert_int_equal(rpc_unpack(a->f->arena, a->desc, p, n, &a->msg, NULL), 0);
}

static void begin(struct fixture *f, struct answer *a, const char *method,
		  const ProtobufCMessage *req, const ProtobufCMessageDescriptor *desc)
{
	*a = (struct answer){.f = f, .desc = desc};
	assert_int_equal(rpc_call_async(f->client, "ns1", "containerd.task.v3.Task", method, req,
					LONG_NS, on_answer, a, NULL, NULL),
			 0);
}

static void finish(struct fixture *f, struct answer *a)
{
	int64_t end = time_mono() + LONG_NS;

	while (!a->done) {
		assert_true(time_mono() < end);
		assert_int_equal(loop_run_once(f->loop, 50), 0);
	}
}

static void *call(struct fixture *f, const char *method, const ProtobufCMessage *req,
		  const ProtobufCMessageDescriptor *desc)
{
	struct answer a;

	begin(f, &a, method, req, desc);
	finish(f, &a);
	if (a.err.kind)
		print_error("%s: %s\n", method, a.err.text);
	assert_int_equal(a.err.kind, 0);
	return a.msg;
}

static void call_fails(struct fixture *f, const char *method, const ProtobufCMessage *req, int kind,
		       const char *text)
{
	struct answer a;

	begin(f, &a, method, req, &google__protobuf__empty__descriptor);
	finish(f, &a);
	assert_int_equal(a.err.kind, kind);
	if (!strstr(a.err.text, text))
		print_error("%s\n", a.err.text);
	assert_non_null(strstr(a.err.text, text));
}

#define REQUEST(type, UPPER, var)                                                 \
	Containerd__Task__V2__##type var = CONTAINERD__TASK__V2__##UPPER##__INIT; \
	var.id = (char *)"c1"
#define EMPTY &google__protobuf__empty__descriptor

static void bundle_write(struct fixture *f, const char *name, const char *text)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", f->bundle, name);
	assert_int_equal(file_write(AT_FDCWD, path, text, strlen(text), 0644), 0);
}

static void create_begin(struct fixture *f, struct answer *a)
{
	Containerd__Runc__V1__Options o = CONTAINERD__RUNC__V1__OPTIONS__INIT;
	Google__Protobuf__Any any = GOOGLE__PROTOBUF__ANY__INIT;

	REQUEST(CreateTaskRequest, CREATE_TASK_REQUEST, req);
	o.binary_name = getenv("FAKE_RUNTIME");
	o.root = f->dir;
	any.type_url = "containerd.runc.v1.Options";
	any.value.data = rpc_pack(f->arena, &o.base, &any.value.len);
	req.bundle = f->bundle;
	req.options = &any;
	req.stdin = f->in;
	req.stdout = f->out;
	begin(f, a, "Create", &req.base, &containerd__task__v2__create_task_response__descriptor);
}

static uint32_t create(struct fixture *f)
{
	Containerd__Task__V2__CreateTaskResponse *resp;
	struct answer a;

	create_begin(f, &a);
	finish(f, &a);
	if (a.err.kind)
		print_error("%s\n", a.err.text);
	assert_int_equal(a.err.kind, 0);
	resp = a.msg;
	assert_true(resp->pid > 0);
	return resp->pid;
}

static void start(struct fixture *f, const char *exec_id)
{
	REQUEST(StartRequest, START_REQUEST, req);
	req.exec_id = (char *)exec_id;
	call(f, "Start", &req.base, &containerd__task__v2__start_response__descriptor);
}

static uint32_t wait_for(struct fixture *f, const char *exec_id)
{
	Containerd__Task__V2__WaitResponse *resp;

	REQUEST(WaitRequest, WAIT_REQUEST, req);
	req.exec_id = (char *)exec_id;
	resp = call(f, "Wait", &req.base, &containerd__task__v2__wait_response__descriptor);
	return resp->exit_status;
}

static uint32_t delete (struct fixture *f, const char *exec_id)
{
	Containerd__Task__V2__DeleteResponse *resp;

	REQUEST(DeleteRequest, DELETE_REQUEST, req);
	req.exec_id = (char *)exec_id;
	resp = call(f, "Delete", &req.base, &containerd__task__v2__delete_response__descriptor);
	return resp->exit_status;
}

/* With a standard error when @err is not NULL. */
static void exec_with(struct fixture *f, const char *exec_id, const char *err)
{
	Google__Protobuf__Any any = GOOGLE__PROTOBUF__ANY__INIT;

	REQUEST(ExecProcessRequest, EXEC_PROCESS_REQUEST, req);
	any.type_url = "types.containerd.io/opencontainers/runtime-spec/1/Process";
	any.value = (ProtobufCBinaryData){14, (uint8_t *)"{\"args\":[\"x\"]}"};
	req.exec_id = (char *)exec_id;
	req.spec = &any;
	if (err)
		req.stderr = (char *)err;
	call(f, "Exec", &req.base, EMPTY);
}

static void exec(struct fixture *f, const char *exec_id)
{
	exec_with(f, exec_id, NULL);
}

/* The server has seen all calls that were made before. */
static void calls_arrived(struct fixture *f)
{
	REQUEST(ConnectRequest, CONNECT_REQUEST, req);
	call(f, "Connect", &req.base, &containerd__task__v2__connect_response__descriptor);
}

/* A fifo of the bundle, at which a script waits until gate_open(). */
static void gate_make(struct fixture *f, const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", f->bundle, name);
	assert_int_equal(mkfifo(path, 0600), 0);
}

static void gate_open(struct fixture *f, const char *name)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", f->bundle, name);
	fd = open(path, O_WRONLY);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "\n", 1), 1);
	close(fd);
}

static void kill_init(struct fixture *f, uint32_t signal)
{
	REQUEST(KillRequest, KILL_REQUEST, req);
	req.signal = signal;
	call(f, "Kill", &req.base, EMPTY);
}

/* Events so far, once @last has come. */
static void expect_events(struct fixture *f, const char *const *want, size_t n)
{
	int64_t end = time_mono() + LONG_NS;
	char all[4096] = "";

	for (size_t i = 0; i < n; i++) {
		strcat(all, want[i]);
		strcat(all, "\n");
	}
	while (strlen(f->log) < strlen(all) && time_mono() < end)
		loop_run_once(f->loop, 50);
	assert_string_equal(f->log, all);
}
#define EXPECT_EVENTS(f, ...)                                \
	expect_events(f, (const char *const[]){__VA_ARGS__}, \
		      sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

/* ---- fixture ---- */

/* @empty_ns: 0 = the usual. */
static pid_t server_fork(struct fixture *f, int64_t empty_ns)
{
	struct server_options o = {.ns = "ns1",
				   .id = "c1",
				   .ttrpc_address = f->daemon,
				   .socket_path = f->socket,
				   .empty_ns = empty_ns};
	pid_t pid;

	assert_int_equal(unix_listen(f->socket, getuid(), getgid(), 0600, &o.listen_fd), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		exit(server_run(&o) < 0);
	close(o.listen_fd);
	return pid;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct ttrpc_server_options so = {.check_peer = true};
	int fd;

	strcpy(f->dir, "/tmp/test_server.XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->bundle, sizeof(f->bundle), "%s/c1", f->dir);
	snprintf(f->socket, sizeof(f->socket), "%s/shim", f->dir);
	snprintf(f->daemon, sizeof(f->daemon), "%s/daemon", f->dir);
	snprintf(f->out, sizeof(f->out), "%s/out", f->dir);
	snprintf(f->in, sizeof(f->in), "%s/in", f->dir);
	assert_int_equal(mkdir(f->bundle, 0700), 0);
	assert_int_equal(mkfifo(f->out, 0600), 0);
	assert_int_equal(mkfifo(f->in, 0600), 0);
	bundle_write(f, "config.json", "{\"linux\":{\"namespaces\":[{\"type\":\"pid\"}]}}");
	f->shim = server_fork(f, 0);
	f->arena = arena_new(0);
	assert_int_equal(loop_new(&f->loop), 0);
	assert_int_equal(unix_listen(f->daemon, getuid(), getgid(), 0600, &fd), 0);
	f->service =
		(struct rpc_service){&containerd__services__events__ttrpc__v1__events__descriptor,
				     forward_methods, 1, f};
	assert_int_equal(ttrpc_server_new(f->loop, NULL, &so, &f->events), 0);
	assert_int_equal(ttrpc_server_add(f->events, &f->service), 0);
	assert_int_equal(ttrpc_server_listen(f->events, fd), 0);
	assert_int_equal(unix_connect(f->socket, &fd), 0);
	assert_int_equal(ttrpc_client_new(f->loop, fd, NULL, NULL, &f->client), 0);
	*state = f;
	return 0;
}

/* The shim has to end by itself: nothing is left in it. */
static int teardown(void **state)
{
	struct fixture *f = *state;
	int status = -1;

	if (f->shim) {
		REQUEST(ShutdownRequest, SHUTDOWN_REQUEST, req);
		call(f, "Shutdown", &req.base, EMPTY);
		/* Where it was another may begin, as soon as it has answered. */
		assert_int_equal(access(f->socket, F_OK), -1);
	}
	rpc_client_free(f->client);
	while (f->shim && waitpid(f->shim, &status, WNOHANG) == 0)
		loop_run_once(f->loop, 10);
	ttrpc_server_free(f->events);
	loop_run_once(f->loop, 0);
	loop_free(f->loop);
	arena_free(f->arena);
	if (f->shim) {
		assert_int_equal(status, 0);
		assert_int_equal(access(f->socket, F_OK), -1);
	}
	rm_rf(AT_FDCWD, f->dir);
	free(f);
	return 0;
}

/* ---- tests ---- */

static void a_container_lives_and_its_events_come_in_order(void **state)
{
	struct fixture *f = *state;
	int out = open(f->out, O_RDONLY | O_NONBLOCK);
	Containerd__Task__V2__StateResponse *s;
	struct answer waiting;
	char text[32] = "";

	REQUEST(StateRequest, STATE_REQUEST, req);
	REQUEST(WaitRequest, WAIT_REQUEST, wait);
	bundle_write(f, "init.sh", "echo hello; exit 7");
	create(f);
	s = call(f, "State", &req.base, &containerd__task__v2__state_response__descriptor);
	assert_int_equal(s->status, CONTAINERD__V1__TYPES__STATUS__CREATED);
	assert_null(s->exited_at);
	begin(f, &waiting, "Wait", &wait.base, &containerd__task__v2__wait_response__descriptor);
	start(f, "");
	finish(f, &waiting);
	assert_int_equal(((Containerd__Task__V2__WaitResponse *)waiting.msg)->exit_status, 7);
	assert_int_equal(wait_for(f, ""), 7);
	s = call(f, "State", &req.base, &containerd__task__v2__state_response__descriptor);
	assert_int_equal(s->status, CONTAINERD__V1__TYPES__STATUS__STOPPED);
	assert_int_equal(s->exit_status, 7);
	assert_non_null(s->exited_at);
	assert_int_equal(delete (f, ""), 7);
	assert_int_equal(read(out, text, sizeof(text)), 6);
	assert_string_equal(text, "hello\n");
	assert_int_equal(read(out, text, sizeof(text)), 0);
	close(out);
	call_fails(f, "State", &req.base, ERR_NOT_FOUND, "container not created");
	EXPECT_EVENTS(f, "/tasks/create - 0", "/tasks/start - 0", "/tasks/exit c1 7",
		      "/tasks/delete - 0");
}

static void a_failed_create_tells_the_runtime_s_reason_and_leaves_nothing(void **state)
{
	struct fixture *f = *state;
	struct answer a;
	char path[128];

	bundle_write(f, "init.sh", "exit 0");
	bundle_write(f, "fail", "");
	create_begin(f, &a);
	finish(f, &a);
	assert_int_equal(a.err.kind, ERR_UNKNOWN);
	assert_string_equal(a.err.text, "OCI runtime create failed: no luck");
	snprintf(path, sizeof(path), "%s/fail", f->bundle);
	unlink(path);
	create(f);
	start(f, "");
	assert_int_equal(wait_for(f, ""), 0);
	delete (f, "");
}

static void an_exec_that_ends_before_its_pid_is_known_is_not_lost(void **state)
{
	struct fixture *f = *state;
	int in = open(f->in, O_RDWR);

	bundle_write(f, "init.sh", "read x");
	bundle_write(f, "exec.sh", "exit 5");
	bundle_write(f, "late", "");
	create(f);
	start(f, "");
	exec(f, "e1");
	start(f, "e1");
	assert_int_equal(wait_for(f, "e1"), 5);
	assert_int_equal(delete (f, "e1"), 5);
	kill_init(f, 9);
	assert_int_equal(wait_for(f, ""), 137);
	delete (f, "");
	close(in);
	EXPECT_EVENTS(f, "/tasks/create - 0", "/tasks/start - 0", "/tasks/exec-added - 0",
		      "/tasks/exec-started - 0", "/tasks/exit e1 5", "/tasks/exit c1 137",
		      "/tasks/delete - 0");
}

/* The process whose number is in @name; 0 = none yet. */
static pid_t bundle_pid(struct fixture *f, const char *name)
{
	char path[128], *text;
	size_t n;

	snprintf(path, sizeof(path), "%s/%s", f->bundle, name);
	return file_read(f->arena, AT_FDCWD, path, 32, &text, &n) == 0 ? atoi(text) : 0;
}

static void gone(struct fixture *f, pid_t pid)
{
	assert_true(pid > 0);
	for (int64_t end = time_mono() + LONG_NS; kill(pid, 0) == 0; loop_run_once(f->loop, 10))
		assert_true(time_mono() < end);
}

/* The runtime hands over no terminal. */
static void a_process_whose_output_cannot_be_had_is_ended(void **state)
{
	struct fixture *f = *state;
	int in = open(f->in, O_RDWR);
	Google__Protobuf__Any any = GOOGLE__PROTOBUF__ANY__INIT;

	REQUEST(ExecProcessRequest, EXEC_PROCESS_REQUEST, req);
	REQUEST(StartRequest, START_REQUEST, st);
	bundle_write(f, "init.sh", "read x");
	bundle_write(f, "exec.sh", "exec sleep 600");
	create(f);
	start(f, "");
	any.type_url = "types.containerd.io/opencontainers/runtime-spec/1/Process";
	any.value = (ProtobufCBinaryData){14, (uint8_t *)"{\"args\":[\"x\"]}"};
	req.exec_id = st.exec_id = "e1";
	req.spec = &any;
	req.terminal = true;
	req.stdout = f->out;
	call(f, "Exec", &req.base, EMPTY);
	call_fails(f, "Start", &st.base, ERR_UNKNOWN, "failed to retrieve console master");
	gone(f, bundle_pid(f, "e1.pid"));
	assert_int_equal(delete (f, "e1"), 0);
	kill_init(f, SIGKILL);
	assert_int_equal(wait_for(f, ""), 137);
	assert_int_equal(delete (f, ""), 137);
	close(in);
}

static void a_restored_process_whose_output_cannot_be_had_is_ended(void **state)
{
	struct fixture *f = *state;
	Containerd__Runc__V1__Options o = CONTAINERD__RUNC__V1__OPTIONS__INIT;
	Google__Protobuf__Any any = GOOGLE__PROTOBUF__ANY__INIT;

	REQUEST(CreateTaskRequest, CREATE_TASK_REQUEST, req);
	REQUEST(StartRequest, START_REQUEST, st);
	bundle_write(f, "init.sh", "exec sleep 600");
	o.binary_name = getenv("FAKE_RUNTIME");
	o.root = f->dir;
	any.type_url = "containerd.runc.v1.Options";
	any.value.data = rpc_pack(f->arena, &o.base, &any.value.len);
	req.bundle = f->bundle;
	req.options = &any;
	req.stdout = f->out;
	req.terminal = true;
	req.checkpoint = f->dir;
	call(f, "Create", &req.base, &containerd__task__v2__create_task_response__descriptor);
	call_fails(f, "Start", &st.base, ERR_UNKNOWN, "failed to retrieve console master");
	gone(f, bundle_pid(f, "init.pid"));
	assert_int_equal(delete (f, ""), 0);
}

static void who_waits_for_an_exec_that_cannot_be_started_is_answered(void **state)
{
	struct fixture *f = *state;
	struct answer waiting;
	int in = open(f->in, O_RDWR);

	REQUEST(WaitRequest, WAIT_REQUEST, wait);
	REQUEST(StartRequest, START_REQUEST, st);
	bundle_write(f, "init.sh", "read x");
	bundle_write(f, "exec-fail", "");
	create(f);
	start(f, "");
	exec(f, "e1");
	wait.exec_id = st.exec_id = "e1";
	begin(f, &waiting, "Wait", &wait.base, &containerd__task__v2__wait_response__descriptor);
	call_fails(f, "Start", &st.base, ERR_UNKNOWN, "no such program");
	finish(f, &waiting);
	assert_int_equal(((Containerd__Task__V2__WaitResponse *)waiting.msg)->exit_status, 0);
	assert_int_equal(wait_for(f, "e1"), 0);
	assert_int_equal(delete (f, "e1"), 0);
	kill_init(f, SIGKILL);
	assert_int_equal(wait_for(f, ""), 137);
	assert_int_equal(delete (f, ""), 137);
	close(in);
}

static void a_start_that_waited_for_one_that_failed_counts(void **state)
{
	struct fixture *f = *state;
	struct answer first, second, waiting;
	int in = open(f->in, O_RDWR);
	char text[160];

	REQUEST(WaitRequest, WAIT_REQUEST, wait);
	REQUEST(StartRequest, START_REQUEST, st);
	gate_make(f, "exec-once");
	gate_make(f, "hold");
	bundle_write(f, "init.sh", "read x");
	snprintf(text, sizeof(text), "read x <%s/hold; exit 4", f->bundle);
	bundle_write(f, "exec.sh", text);
	create(f);
	start(f, "");
	exec(f, "e1");
	wait.exec_id = st.exec_id = "e1";
	begin(f, &first, "Start", &st.base, &containerd__task__v2__start_response__descriptor);
	begin(f, &second, "Start", &st.base, &containerd__task__v2__start_response__descriptor);
	calls_arrived(f);
	gate_open(f, "exec-once");
	finish(f, &first);
	assert_int_equal(first.err.kind, ERR_UNKNOWN);
	finish(f, &second);
	assert_int_equal(second.err.kind, 0);
	begin(f, &waiting, "Wait", &wait.base, &containerd__task__v2__wait_response__descriptor);
	calls_arrived(f);
	assert_false(waiting.done);
	gate_open(f, "hold");
	finish(f, &waiting);
	assert_int_equal(((Containerd__Task__V2__WaitResponse *)waiting.msg)->exit_status, 4);
	assert_int_equal(delete (f, "e1"), 4);
	kill_init(f, SIGKILL);
	assert_int_equal(wait_for(f, ""), 137);
	assert_int_equal(delete (f, ""), 137);
	close(in);
}

static void delete_waits_for_the_output_of_an_exec_that_is_deleted_too(void **state)
{
	const ProtobufCMessageDescriptor *desc = &containerd__task__v2__delete_response__descriptor;
	struct fixture *f = *state;
	struct answer all, one;
	int in = open(f->in, O_RDWR), out = open(f->out, O_RDONLY | O_NONBLOCK);
	char text[160];

	REQUEST(DeleteRequest, DELETE_REQUEST, req);
	gate_make(f, "slow");
	gate_make(f, "hold");
	bundle_write(f, "init.sh", "read x");
	/* What it leaves behind keeps its standard error. */
	snprintf(text, sizeof(text), "{ read x <%s/hold; } & exit 3", f->bundle);
	bundle_write(f, "exec.sh", text);
	create(f);
	start(f, "");
	exec_with(f, "e1", f->out);
	start(f, "e1");
	assert_int_equal(wait_for(f, "e1"), 3);
	kill_init(f, SIGKILL);
	assert_int_equal(wait_for(f, ""), 137);
	begin(f, &all, "Delete", &req.base, desc);
	req.exec_id = "e1";
	begin(f, &one, "Delete", &req.base, desc);
	calls_arrived(f);
	gate_open(f, "slow");
	/* The runtime is through, and what the container itself has put out too. */
	snprintf(text, sizeof(text), "%s/go", f->bundle);
	while (access(text, F_OK) == 0)
		loop_run_once(f->loop, 10);
	for (int i = 0; i < 20; i++)
		calls_arrived(f);
	gate_open(f, "hold");
	finish(f, &one);
	finish(f, &all);
	assert_int_equal(one.err.kind, 0);
	assert_int_equal(((Containerd__Task__V2__DeleteResponse *)one.msg)->exit_status, 3);
	assert_int_equal(all.err.kind, 0);
	assert_int_equal(((Containerd__Task__V2__DeleteResponse *)all.msg)->exit_status, 137);
	close(out);
	close(in);
}

static void no_exec_starts_in_a_container_that_is_being_deleted(void **state)
{
	struct fixture *f = *state;
	struct answer all;

	REQUEST(DeleteRequest, DELETE_REQUEST, req);
	REQUEST(StartRequest, START_REQUEST, st);
	gate_make(f, "slow");
	bundle_write(f, "init.sh", "read x");
	bundle_write(f, "exec.sh", "exit 3");
	create(f);
	exec(f, "e1");
	begin(f, &all, "Delete", &req.base, &containerd__task__v2__delete_response__descriptor);
	st.exec_id = "e1";
	call_fails(f, "Start", &st.base, ERR_FAILED_PRECONDITION, "c1 is being deleted");
	gate_open(f, "slow");
	finish(f, &all);
	assert_int_equal(all.err.kind, 0);
}

static void ends_of_execs_are_told_before_the_end_of_init(void **state)
{
	struct fixture *f = *state;
	char text[160];

	bundle_write(f, "init.sh", "read x");
	/* Outlives init: it ends when init has been gone for a moment. */
	snprintf(text, sizeof(text),
		 "while kill -0 $(cat %s/init.pid) 2>/dev/null; do :; done; exit 4", f->bundle);
	bundle_write(f, "exec.sh", text);
	create(f);
	start(f, "");
	exec(f, "e1");
	start(f, "e1");
	kill_init(f, 9);
	assert_int_equal(wait_for(f, ""), 137);
	assert_int_equal(wait_for(f, "e1"), 4);
	delete (f, "");
	EXPECT_EVENTS(f, "/tasks/create - 0", "/tasks/start - 0", "/tasks/exec-added - 0",
		      "/tasks/exec-started - 0", "/tasks/exit e1 4", "/tasks/exit c1 137",
		      "/tasks/delete - 0");
}

static void operations_that_do_not_fit_the_state_are_refused(void **state)
{
	struct fixture *f = *state;

	REQUEST(DeleteRequest, DELETE_REQUEST, del);
	REQUEST(StartRequest, START_REQUEST, st);
	REQUEST(PauseRequest, PAUSE_REQUEST, pause);
	REQUEST(ResumeRequest, RESUME_REQUEST, resume);
	REQUEST(KillRequest, KILL_REQUEST, kill);
	bundle_write(f, "init.sh", "read x");
	create(f);
	call_fails(f, "Pause", &pause.base, ERR_UNKNOWN, "cannot pause task in created state");
	start(f, "");
	call_fails(f, "Delete", &del.base, ERR_UNKNOWN, "cannot delete a running process");
	call_fails(f, "Start", &st.base, ERR_UNKNOWN, "cannot start a running process");
	call_fails(f, "Resume", &resume.base, ERR_UNKNOWN, "cannot resume a running container");
	call_fails(f, "Pause", &pause.base, ERR_UNKNOWN, "OCI runtime pause failed: cannot freeze");
	st.exec_id = "nope";
	call_fails(f, "Start", &st.base, ERR_NOT_FOUND, "process does not exist nope");
	exec(f, "e1");
	kill.exec_id = "e1";
	kill.signal = 9;
	call_fails(f, "Kill", &kill.base, ERR_FAILED_PRECONDITION, "process not created");
	kill_init(f, 15);
	assert_int_equal(wait_for(f, ""), 143);
	kill.exec_id = "";
	call_fails(f, "Kill", &kill.base, ERR_NOT_FOUND, "process already finished");
	st.exec_id = "e1";
	call_fails(f, "Start", &st.base, ERR_FAILED_PRECONDITION,
		   "container c1 init process is not running");
	delete (f, "");
}

static void delete_of_a_created_container_ends_it_first(void **state)
{
	struct fixture *f = *state;

	bundle_write(f, "init.sh", "exit 0");
	create(f);
	assert_int_equal(delete (f, ""), 137);
	EXPECT_EVENTS(f, "/tasks/create - 0", "/tasks/exit c1 137", "/tasks/delete - 0");
}

static void input_ends_with_close_io_after_what_is_buffered(void **state)
{
	struct fixture *f = *state;
	int out = open(f->out, O_RDONLY | O_NONBLOCK), in;
	char text[32] = "";

	REQUEST(CloseIORequest, CLOSE_IOREQUEST, req);
	bundle_write(f, "init.sh", "cat");
	create(f);
	start(f, "");
	in = open(f->in, O_WRONLY);
	assert_int_equal(write(in, "first", 5), 5);
	close(in); /* clients may come and go */
	in = open(f->in, O_WRONLY);
	assert_int_equal(write(in, "second", 6), 6);
	req.stdin = true;
	call(f, "CloseIO", &req.base, EMPTY);
	close(in);
	assert_int_equal(wait_for(f, ""), 0);
	delete (f, "");
	assert_int_equal(read(out, text, sizeof(text)), 11);
	assert_string_equal(text, "firstsecond");
	close(out);
}

static void pids_and_update_go_through_the_runtime(void **state)
{
	struct fixture *f = *state;
	Containerd__Task__V2__PidsResponse *pids;
	Google__Protobuf__Any any = GOOGLE__PROTOBUF__ANY__INIT;
	char path[128], *text;
	size_t n;
	uint32_t pid;

	REQUEST(PidsRequest, PIDS_REQUEST, req);
	REQUEST(UpdateTaskRequest, UPDATE_TASK_REQUEST, up);
	bundle_write(f, "init.sh", "read x");
	pid = create(f);
	start(f, "");
	pids = call(f, "Pids", &req.base, &containerd__task__v2__pids_response__descriptor);
	assert_int_equal(pids->n_processes, 1);
	assert_int_equal(pids->processes[0]->pid, pid);
	any.value = (ProtobufCBinaryData){2, (uint8_t *)"{}"};
	up.resources = &any;
	call(f, "Update", &up.base, EMPTY);
	snprintf(path, sizeof(path), "%s/resources", f->bundle);
	assert_int_equal(file_read(f->arena, AT_FDCWD, path, 64, &text, &n), 0);
	assert_string_equal(text, "{}");
	kill_init(f, 9);
	assert_int_equal(wait_for(f, ""), 137);
	delete (f, "");
}

static void both_versions_of_the_service_answer(void **state)
{
	struct fixture *f = *state;
	struct answer a = {.f = f, .desc = &containerd__task__v2__connect_response__descriptor};
	Containerd__Task__V2__ConnectResponse *resp;

	REQUEST(ConnectRequest, CONNECT_REQUEST, req);
	assert_int_equal(rpc_call_async(f->client, "ns1", "containerd.task.v2.Task", "Connect",
					&req.base, LONG_NS, on_answer, &a, NULL, NULL),
			 0);
	finish(f, &a);
	assert_int_equal(a.err.kind, 0);
	resp = a.msg;
	assert_int_equal(resp->shim_pid, f->shim);
	resp = call(f, "Connect", &req.base, &containerd__task__v2__connect_response__descriptor);
	assert_int_equal(resp->shim_pid, f->shim);
}

static void shutdown_waits_for_the_last_container(void **state)
{
	struct fixture *f = *state;

	REQUEST(ShutdownRequest, SHUTDOWN_REQUEST, req);
	REQUEST(ConnectRequest, CONNECT_REQUEST, connect);
	bundle_write(f, "init.sh", "read x");
	create(f);
	call(f, "Shutdown", &req.base, EMPTY);
	call(f, "Connect", &connect.base, &containerd__task__v2__connect_response__descriptor);
	delete (f, "");
}

/* ---- sandboxes ---- */

#define SANDBOX(type, UPPER, var)                                  \
	Containerd__Runtime__Sandbox__V1__##type var =             \
		CONTAINERD__RUNTIME__SANDBOX__V1__##UPPER##__INIT; \
	var.sandbox_id = (char *)"s1"
#define SANDBOX_DESC(x) containerd__runtime__sandbox__v1__##x##__descriptor

static void sandbox_begin(struct fixture *f, struct answer *a, const char *method,
			  const ProtobufCMessage *req, const ProtobufCMessageDescriptor *desc)
{
	*a = (struct answer){.f = f, .desc = desc};
	assert_int_equal(rpc_call_async(f->client, "ns1", "containerd.runtime.sandbox.v1.Sandbox",
					method, req, LONG_NS, on_answer, a, NULL, NULL),
			 0);
}

static void *sandbox_call(struct fixture *f, int kind, const char *method,
			  const ProtobufCMessage *req, const ProtobufCMessageDescriptor *desc)
{
	struct answer a;

	sandbox_begin(f, &a, method, req, desc);
	finish(f, &a);
	if (a.err.kind != kind)
		print_error("%s: %s\n", method, a.err.text);
	assert_int_equal(a.err.kind, kind);
	return a.msg;
}

static void sandbox_ready(struct fixture *f)
{
	SANDBOX(CreateSandboxRequest, CREATE_SANDBOX_REQUEST, create_req);
	SANDBOX(StartSandboxRequest, START_SANDBOX_REQUEST, start_req);
	Containerd__Runtime__Sandbox__V1__StartSandboxResponse *started;

	create_req.bundle_path = f->bundle;
	sandbox_call(f, 0, "CreateSandbox", &create_req.base,
		     &SANDBOX_DESC(create_sandbox_response));
	started = sandbox_call(f, 0, "StartSandbox", &start_req.base,
			       &SANDBOX_DESC(start_sandbox_response));
	assert_int_equal(started->pid, f->shim);
	assert_non_null(started->created_at);
}

/* The shim goes with it. */
static void sandbox_end(struct fixture *f)
{
	int status;

	SANDBOX(ShutdownSandboxRequest, SHUTDOWN_SANDBOX_REQUEST, req);
	sandbox_call(f, 0, "ShutdownSandbox", &req.base, &SANDBOX_DESC(shutdown_sandbox_response));
	/* As soon as it has answered. */
	assert_int_equal(access(f->socket, F_OK), -1);
	while (waitpid(f->shim, &status, WNOHANG) == 0)
		loop_run_once(f->loop, 10);
	assert_int_equal(status, 0);
	assert_int_equal(access(f->socket, F_OK), -1);
	f->shim = 0;
}

static void a_sandbox_stays_without_containers_and_stop_ends_those_it_has(void **state)
{
	struct fixture *f = *state;
	struct answer wait, stop;

	SANDBOX(WaitSandboxRequest, WAIT_SANDBOX_REQUEST, wait_req);
	SANDBOX(StopSandboxRequest, STOP_SANDBOX_REQUEST, stop_req);
	SANDBOX(SandboxStatusRequest, SANDBOX_STATUS_REQUEST, status_req);
	REQUEST(ShutdownRequest, SHUTDOWN_REQUEST, idle);
	sandbox_ready(f);
	call(f, "Shutdown", &idle.base, EMPTY); /* of the task service: there is a sandbox */
	Containerd__Runtime__Sandbox__V1__SandboxStatusResponse *s = sandbox_call(
		f, 0, "SandboxStatus", &status_req.base, &SANDBOX_DESC(sandbox_status_response));
	assert_string_equal(s->state, "SANDBOX_READY");
	bundle_write(f, "init.sh", "read x");
	create(f);
	start(f, "");
	sandbox_begin(f, &wait, "WaitSandbox", &wait_req.base,
		      &SANDBOX_DESC(wait_sandbox_response));
	sandbox_begin(f, &stop, "StopSandbox", &stop_req.base,
		      &SANDBOX_DESC(stop_sandbox_response));
	finish(f, &stop);
	finish(f, &wait);
	assert_int_equal(stop.err.kind, 0);
	assert_int_equal(wait.err.kind, 0);
	s = sandbox_call(f, 0, "SandboxStatus", &status_req.base,
			 &SANDBOX_DESC(sandbox_status_response));
	assert_string_equal(s->state, "SANDBOX_NOTREADY");
	assert_non_null(s->exited_at);
	delete (f, "");
	sandbox_end(f);
}

static void sandbox_calls_that_do_not_fit_are_refused(void **state)
{
	struct fixture *f = *state;

	SANDBOX(CreateSandboxRequest, CREATE_SANDBOX_REQUEST, again);
	SANDBOX(CreateSandboxRequest, CREATE_SANDBOX_REQUEST, other);
	SANDBOX(StartSandboxRequest, START_SANDBOX_REQUEST, start_req);
	SANDBOX(SandboxMetricsRequest, SANDBOX_METRICS_REQUEST, metrics);
	const ProtobufCMessageDescriptor *created = &SANDBOX_DESC(create_sandbox_response);
	sandbox_call(f, ERR_NOT_FOUND, "StartSandbox", &start_req.base,
		     &SANDBOX_DESC(start_sandbox_response));
	other.sandbox_id = (char *)"a/b";
	sandbox_call(f, ERR_INVALID_ARGUMENT, "CreateSandbox", &other.base, created);
	sandbox_ready(f);
	sandbox_call(f, ERR_ALREADY_EXISTS, "CreateSandbox", &again.base, created);
	other.sandbox_id = (char *)"s2";
	sandbox_call(f, ERR_FAILED_PRECONDITION, "CreateSandbox", &other.base, created);
	sandbox_call(f, ERR_FAILED_PRECONDITION, "StartSandbox", &start_req.base,
		     &SANDBOX_DESC(start_sandbox_response));
	sandbox_call(f, ERR_UNIMPLEMENTED, "SandboxMetrics", &metrics.base,
		     &SANDBOX_DESC(sandbox_metrics_response));
	sandbox_end(f);
}

static void shutdown_of_a_sandbox_ends_the_shim(void **state)
{
	struct fixture *f = *state;

	sandbox_ready(f);
	sandbox_end(f);
}

static void sigterm_ends_the_server_and_the_waits(void **state)
{
	struct fixture *f = *state;
	struct answer a;
	int status;

	REQUEST(WaitRequest, WAIT_REQUEST, wait);
	bundle_write(f, "init.sh", "exit 0");
	uint32_t pid = create(f);
	EXPECT_EVENTS(f, "/tasks/create - 0");
	begin(f, &a, "Wait", &wait.base, &containerd__task__v2__wait_response__descriptor);
	loop_run_once(f->loop, 0);
	kill(f->shim, SIGTERM);
	finish(f, &a);
	assert_int_equal(a.err.kind, ERR_UNAVAILABLE);
	while (waitpid(f->shim, &status, WNOHANG) == 0)
		loop_run_once(f->loop, 10);
	assert_int_equal(status, 0);
	assert_int_equal(access(f->socket, F_OK), -1);
	kill((pid_t)pid, SIGKILL);
	f->shim = 0;
}

/* Another server than the fixture's: ends by itself with 0. */
static void ends(struct fixture *f, pid_t pid)
{
	int64_t end = time_mono() + LONG_NS;
	int status;

	while (waitpid(pid, &status, WNOHANG) == 0) {
		assert_true(time_mono() < end);
		loop_run_once(f->loop, 10);
	}
	assert_int_equal(status, 0);
	assert_int_equal(access(f->socket, F_OK), -1);
}

static void a_server_that_nobody_wants_ends(void **state)
{
	struct fixture *f = *state;

	strcat(f->socket, "2");
	ends(f, server_fork(f, NSEC_PER_MSEC));
	f->socket[strlen(f->socket) - 1] = '\0';
}

static void a_server_ends_some_time_after_its_last_container(void **state)
{
	struct fixture *f = *state;
	struct rpc_client *first = f->client;
	const int64_t empty_ns = 5 * NSEC_PER_SEC;
	int64_t end;
	pid_t pid;
	int fd, status;

	strcat(f->socket, "2");
	pid = server_fork(f, empty_ns);
	assert_int_equal(unix_connect(f->socket, &fd), 0);
	assert_int_equal(ttrpc_client_new(f->loop, fd, NULL, NULL, &f->client), 0);
	bundle_write(f, "init.sh", "read x");
	create(f);
	/* Longer than an empty one lives. */
	for (end = time_mono() + empty_ns + NSEC_PER_SEC; time_mono() < end;)
		loop_run_once(f->loop, 100);
	assert_int_equal(waitpid(pid, &status, WNOHANG), 0);
	delete (f, "");
	ends(f, pid);
	rpc_client_free(f->client);
	f->client = first;
	f->socket[strlen(f->socket) - 1] = '\0';
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_container_lives_and_its_events_come_in_order),
		TEST(a_failed_create_tells_the_runtime_s_reason_and_leaves_nothing),
		TEST(an_exec_that_ends_before_its_pid_is_known_is_not_lost),
		TEST(who_waits_for_an_exec_that_cannot_be_started_is_answered),
		TEST(a_process_whose_output_cannot_be_had_is_ended),
		TEST(a_restored_process_whose_output_cannot_be_had_is_ended),
		TEST(a_start_that_waited_for_one_that_failed_counts),
		TEST(delete_waits_for_the_output_of_an_exec_that_is_deleted_too),
		TEST(no_exec_starts_in_a_container_that_is_being_deleted),
		TEST(ends_of_execs_are_told_before_the_end_of_init),
		TEST(operations_that_do_not_fit_the_state_are_refused),
		TEST(delete_of_a_created_container_ends_it_first),
		TEST(input_ends_with_close_io_after_what_is_buffered),
		TEST(pids_and_update_go_through_the_runtime),
		TEST(both_versions_of_the_service_answer),
		TEST(shutdown_waits_for_the_last_container),
		TEST(a_sandbox_stays_without_containers_and_stop_ends_those_it_has),
		TEST(sandbox_calls_that_do_not_fit_are_refused),
		TEST(shutdown_of_a_sandbox_ends_the_shim),
		TEST(a_server_that_nobody_wants_ends),
		TEST(a_server_ends_some_time_after_its_last_container),
		TEST(sigterm_ends_the_server_and_the_waits),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests_name("shim server", tests, NULL, NULL);
}
