/* SPDX-License-Identifier: Apache-2.0 */
/* A shim without a container: serves just enough of the task API to be created, connected to and
 * deleted.
 *
 * $FAKE_SHIM_DIR holds its sockets and a file "log", one line a start, delete or shutdown.
 * $FAKE_SHIM says what is odd about it: v2           promises version 3 and serves version 2 only
 *   fail-create  Create fails
 *   fail-delete  Delete fails
 *   fail-cleanup the delete command fails
 *   die-create   dies in Create
 *   mute         never answers Connect
 *   empty        knows no task when it is asked for its state
 *   slow         never answers Stats
 *   busy         never answers Shutdown
 *   gate         answers Shutdown when there is a file "gate"
 * Kill ends the process on the spot. It goes by itself after a minute. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"
#include "base/time.h"
#include "protos.h"
#include "rpc/ttrpc.h"

static struct loop *loop;
static const char *dir, *id, *mode;

static bool is(const char *word)
{
	return mode && streq(mode, word);
}

static void note(const char *what)
{
	char path[256], line[256];
	snprintf(path, sizeof(path), "%s/log", dir);
	int n = snprintf(line, sizeof(line), "%s %s\n", what, id);
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (fd < 0 && errno == ENOENT)
		_exit(0); /* the test is over */
	if (fd < 0 || fd_write_full(fd, line, (size_t)n) < 0)
		abort();
	close(fd);
}

static void end(void *arg)
{
	_exit(0);
}

static void gate_wait(void)
{
	char path[256];
	snprintf(path, sizeof(path), "%s/gate", dir);
	/* As long as the test is there. */
	while (access(path, F_OK) < 0 && access(dir, F_OK) == 0)
		usleep(1000);
}

/* The two versions differ in their names only. */
#define HANDLERS(V, v)                                                                             \
	static int create_##v(struct rpc_call *call, const void *req, struct err *err)             \
	{                                                                                          \
		Containerd__Task__##V##__CreateTaskResponse r =                                    \
			CONTAINERD__TASK__##V##__CREATE_TASK_RESPONSE__INIT;                       \
		if (is("die-create"))                                                              \
			_exit(1);                                                                  \
		if (is("fail-create"))                                                             \
			return err_set_raw(err, ERR_ABORTED, "no container today");                \
		r.pid = (uint32_t)getpid();                                                        \
		note("create-" #v);                                                                \
		return rpc_send(call, &r.base, err);                                               \
	}                                                                                          \
	static int connect_##v(struct rpc_call *call, const void *req, struct err *err)            \
	{                                                                                          \
		Containerd__Task__##V##__ConnectResponse r =                                       \
			CONTAINERD__TASK__##V##__CONNECT_RESPONSE__INIT;                           \
		if (is("mute"))                                                                    \
			return rpc_defer(call);                                                    \
		r.shim_pid = r.task_pid = (uint32_t)getpid();                                      \
		return rpc_send(call, &r.base, err);                                               \
	}                                                                                          \
	static int delete_##v(struct rpc_call *call, const void *req, struct err *err)             \
	{                                                                                          \
		Containerd__Task__##V##__DeleteResponse r =                                        \
			CONTAINERD__TASK__##V##__DELETE_RESPONSE__INIT;                            \
		Google__Protobuf__Timestamp at = GOOGLE__PROTOBUF__TIMESTAMP__INIT;                \
		if (is("fail-delete"))                                                             \
			return err_set_raw(err, ERR_FAILED_PRECONDITION, "still running");         \
		r.pid = (uint32_t)getpid();                                                        \
		r.exit_status = 7;                                                                 \
		at.seconds = 1000;                                                                 \
		r.exited_at = &at;                                                                 \
		return rpc_send(call, &r.base, err);                                               \
	}                                                                                          \
	static int state_##v(struct rpc_call *call, const void *req, struct err *err)              \
	{                                                                                          \
		Containerd__Task__##V##__StateResponse r =                                         \
			CONTAINERD__TASK__##V##__STATE_RESPONSE__INIT;                             \
		if (is("empty"))                                                                   \
			return err_set(err, ERR_NOT_FOUND, "container not created");               \
		return rpc_send(call, &r.base, err);                                               \
	}                                                                                          \
	static int stats_##v(struct rpc_call *call, const void *req, struct err *err)              \
	{                                                                                          \
		Containerd__Task__##V##__StatsResponse r =                                         \
			CONTAINERD__TASK__##V##__STATS_RESPONSE__INIT;                             \
		Google__Protobuf__Any any = GOOGLE__PROTOBUF__ANY__INIT;                           \
		if (is("slow"))                                                                    \
			return rpc_defer(call);                                                    \
		any.type_url = (char *)"numbers";                                                  \
		any.value = (ProtobufCBinaryData){strlen(id), (uint8_t *)id};                      \
		r.stats = &any;                                                                    \
		return rpc_send(call, &r.base, err);                                               \
	}                                                                                          \
	static int kill_##v(struct rpc_call *call, const void *req, struct err *err)               \
	{                                                                                          \
		_exit(1);                                                                          \
	}                                                                                          \
	static int shutdown_##v(struct rpc_call *call, const void *req, struct err *err)           \
	{                                                                                          \
		Google__Protobuf__Empty r = GOOGLE__PROTOBUF__EMPTY__INIT;                         \
		note("shutdown");                                                                  \
		if (is("busy"))                                                                    \
			return rpc_defer(call);                                                    \
		if (is("gate"))                                                                    \
			gate_wait();                                                               \
		if (loop_add_timer(loop, time_mono() + 20 * NSEC_PER_MSEC, end, NULL, NULL) < 0)   \
			_exit(1);                                                                  \
		return rpc_send(call, &r.base, err);                                               \
	}                                                                                          \
	static const struct rpc_method methods_##v[] = {                                           \
		{"Create", RPC_UNARY, create_##v},     {"Connect", RPC_UNARY, connect_##v},        \
		{"Delete", RPC_UNARY, delete_##v},     {"Kill", RPC_UNARY, kill_##v},              \
		{"Shutdown", RPC_UNARY, shutdown_##v}, {"State", RPC_UNARY, state_##v},            \
		{"Stats", RPC_UNARY, stats_##v},                                                   \
	};                                                                                         \
	static const struct rpc_service service_##v = {&containerd__task__##v##__task__descriptor, \
						       methods_##v, ARRAY_LEN(methods_##v), NULL};

HANDLERS(V2, v2)
HANDLERS(V3, v3)

static int serve(int fd)
{
	struct ttrpc_server_options o = {.check_peer = true};
	struct ttrpc_server *s;
	setsid();
	int null = open("/dev/null", O_RDWR);
	for (int i = 0; i < 3; i++)
		dup2(null, i);
	if (loop_new(&loop) < 0 ||
	    loop_add_timer(loop, time_mono() + 60 * NSEC_PER_SEC, end, NULL, NULL) < 0 ||
	    ttrpc_server_new(loop, NULL, &o, &s) < 0 ||
	    ttrpc_server_add(s, is("v2") ? &service_v2 : &service_v3) < 0 ||
	    ttrpc_server_listen(s, fd) < 0)
		_exit(2);
	_exit(loop_run(loop) < 0);
}

static int start(void)
{
	char path[200], in[8192];
	int fd;
	note("start");
	if (fd_read_full(0, in, sizeof(in)) <= 0) /* the parameters */
		return 5;
	snprintf(path, sizeof(path), "%s/%s-%d.sock", dir, id,
		 (int)getpid()); /* one may still be on its way out */
	int r = unix_listen(path, getuid(), getgid(), 0600, &fd);
	if (r < 0) {
		fprintf(stderr, "listen %s: %s\n", path, strerror(-r));
		return 6;
	}
	pid_t pid = fork();
	if (pid < 0)
		return 7;
	if (pid == 0)
		serve(fd);
	printf("{\"version\":3,\"address\":\"unix://%s\",\"protocol\":\"ttrpc\"}\n", path);
	fflush(stdout);
	_exit(0);
}

static int cleanup(void)
{
	Containerd__Task__V2__DeleteResponse r = CONTAINERD__TASK__V2__DELETE_RESPONSE__INIT;
	uint8_t out[64];
	note("delete");
	if (is("fail-cleanup")) {
		fprintf(stderr, "cannot clean up\n");
		return 1;
	}
	r.pid = 4321;
	r.exit_status = 137;
	if (fd_write_full(1, out, protobuf_c_message_pack(&r.base, out)) < 0)
		abort();
	return 0;
}

int main(int argc, char **argv)
{
	dir = getenv("FAKE_SHIM_DIR");
	mode = getenv("FAKE_SHIM");
	for (int i = 1; i + 1 < argc; i++)
		if (streq(argv[i], "-id"))
			id = argv[i + 1];
	if (!dir || !id)
		return 4;
	return streq(argv[argc - 1], "delete") ? cleanup() : start();
}
