/* SPDX-License-Identifier: Apache-2.0 */
/* The sandbox service: a shim that stays for the containers that will come into it.
 *
 * The sandbox is this process: it has neither a file system nor a cgroup nor namespaces of its own,
 * which the specs of its containers say, and its pid is the shim's. It is created, ready, and then
 * stopped, with all of its containers. A shim has at most one.
 *
 * A stop sends SIGTERM to the containers when it has time, else SIGKILL at once, and is through
 * with the end of the last one; they stay to be deleted. A sandbox that is shut down takes the shim
 * with it, and leaves what is left of its containers to the daemon.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/log.h"
#include "base/str.h"
#include "base/time.h"
#include "shim/shim.h"

#define SBX(x) Containerd__Runtime__Sandbox__V1__##x
/* SIGKILL is sent once a second: a container may have been in the making the first time. */
#define KILL_NS (1 * NSEC_PER_SEC)
#define KILLS 10
#define STOP_SECS_MAX 86400u

enum sandbox_state { SANDBOX_CREATED, SANDBOX_RUNNING, SANDBOX_STOPPED };

/* A call that is answered when the sandbox has stopped. */
struct sandbox_waiter {
	struct sandbox_waiter *next;
	struct sandbox *sandbox;
	struct rpc_call *call;
	bool shutdown, wait; /* else a stop */
};

struct sandbox {
	struct shim *shim;
	char *id, *bundle, *netns;
	enum sandbox_state state;
	struct timespec created_at, exited_at;
	struct sandbox_waiter *waiters;
	struct loop_source *timer; /* of a stop */
	bool stopping;
	int kills;	   /* so far */
	unsigned runtimes; /* that are at it; they end before the sandbox does */
};

static struct sandbox *sandbox_of(struct rpc_call *call, const char *id, struct err *err)
{
	struct shim *s = rpc_data(call);

	server_active(s);
	if (s->sandbox && streq(s->sandbox->id, id))
		return s->sandbox;
	err_set(err, ERR_NOT_FOUND, "sandbox %s", id);
	return NULL;
}

void sandbox_free(struct sandbox *b)
{
	if (!b)
		return;
	loop_source_free(b->timer);
	free(b->id);
	free(b->bundle);
	free(b->netns);
	free(b);
}

int sandbox_accepts(const struct shim *s, struct err *err)
{
	if (s->sandbox && (s->sandbox->state == SANDBOX_STOPPED || s->sandbox->stopping))
		return err_set(err, ERR_FAILED_PRECONDITION, "sandbox %s is stopped",
			       s->sandbox->id);
	return 0;
}

/* ---- Create, Start ---- */

static int create_check(const struct shim *s, const SBX(CreateSandboxRequest) * req,
			struct err *err)
{
	int r = ident_validate(req->sandbox_id, err);

	if (r < 0)
		return err_prefix(err, "create sandbox id");
	if (s->stopping)
		return err_set(err, ERR_UNAVAILABLE, "the shim is shutting down");
	if (s->sandbox && streq(s->sandbox->id, req->sandbox_id))
		return err_set(err, ERR_ALREADY_EXISTS, "sandbox %s", req->sandbox_id);
	if (s->sandbox)
		return err_set(err, ERR_FAILED_PRECONDITION, "this shim serves sandbox %s already",
			       s->sandbox->id);
	if (req->n_rootfs > 0)
		return err_set(err, ERR_UNIMPLEMENTED,
			       "sandbox %s: sandboxes of this runtime have no root file system",
			       req->sandbox_id);
	return 0;
}

static int sandbox_create(struct rpc_call *call, const void *r, struct err *err)
{
	const SBX(CreateSandboxRequest) *req = r;
	SBX(CreateSandboxResponse)
	resp = CONTAINERD__RUNTIME__SANDBOX__V1__CREATE_SANDBOX_RESPONSE__INIT;
	struct shim *s = rpc_data(call);
	struct sandbox *b;
	int e = create_check(s, req, err);

	if (e < 0)
		return e;
	b = calloc(1, sizeof(*b));
	if (!b)
		return err_nomem(err);
	b->shim = s;
	b->id = strdup(req->sandbox_id);
	b->bundle = strdup(req->bundle_path);
	b->netns = strdup(req->netns_path);
	if (!b->id || !b->bundle || !b->netns) {
		sandbox_free(b);
		return err_nomem(err);
	}
	s->sandbox = b;
	server_held(s);
	server_active(s);
	return rpc_send(call, &resp.base, err);
}

static int sandbox_start(struct rpc_call *call, const void *r, struct err *err)
{
	const SBX(StartSandboxRequest) *req = r;
	SBX(StartSandboxResponse)
	resp = CONTAINERD__RUNTIME__SANDBOX__V1__START_SANDBOX_RESPONSE__INIT;
	Google__Protobuf__Timestamp at;
	struct sandbox *b = sandbox_of(call, req->sandbox_id, err);

	if (!b)
		return -err->kind;
	if (b->state != SANDBOX_CREATED || b->stopping)
		return err_set(err, ERR_FAILED_PRECONDITION, "sandbox %s is %s", b->id,
			       b->state == SANDBOX_RUNNING && !b->stopping ? "started already"
									   : "stopped");
	b->state = SANDBOX_RUNNING;
	b->created_at = time_now();
	resp.pid = (uint32_t)getpid();
	resp.created_at = timestamp_of(b->created_at, &at);
	return rpc_send(call, &resp.base, err);
}

/* ---- the end ---- */

static void waiter_answer(struct sandbox_waiter *w, const struct err *failure)
{
	SBX(WaitSandboxResponse)
	waited = CONTAINERD__RUNTIME__SANDBOX__V1__WAIT_SANDBOX_RESPONSE__INIT;
	SBX(StopSandboxResponse)
	stopped = CONTAINERD__RUNTIME__SANDBOX__V1__STOP_SANDBOX_RESPONSE__INIT;
	SBX(ShutdownSandboxResponse)
	down = CONTAINERD__RUNTIME__SANDBOX__V1__SHUTDOWN_SANDBOX_RESPONSE__INIT;
	Google__Protobuf__Timestamp at;
	const ProtobufCMessage *msg = w->shutdown ? &down.base
				      : w->wait	  ? &waited.base
						  : &stopped.base;
	struct err err = ERR_INIT;

	waited.exited_at = timestamp_of(w->sandbox->exited_at, &at);
	if (!failure && rpc_send(w->call, msg, &err) < 0)
		failure = &err;
	rpc_finish(w->call, failure);
}

/* Those that @which says, in their order. */
static void waiters_answer(struct sandbox *b, bool also_waits, const struct err *failure)
{
	struct sandbox_waiter **p = &b->waiters, *now = NULL, **end = &now;
	bool down = false;

	while (*p) {
		struct sandbox_waiter *w = *p;

		if (w->wait && !also_waits) {
			p = &w->next;
			continue;
		}
		*p = w->next;
		*end = w;
		end = &w->next;
		*end = NULL;
		down = down || w->shutdown;
	}
	/* First: who has the answer may start another shim at the same place. */
	if (down)
		server_stop(b->shim);
	while (now) {
		struct sandbox_waiter *w = now;

		now = w->next;
		waiter_answer(w, w->shutdown ? NULL : failure);
		free(w);
	}
}

static bool containers_live(const struct shim *s)
{
	for (const struct container *c = s->containers; c; c = c->next)
		if (c->init.state != PROC_STOPPED && (c->init.pid > 0 || c->init.ops))
			return true;
	return false;
}

void sandbox_check(struct shim *s)
{
	struct sandbox *b = s->sandbox;

	if (!b || !b->stopping || b->state == SANDBOX_STOPPED || b->runtimes || containers_live(s))
		return;
	loop_source_free(b->timer);
	b->timer = NULL;
	b->state = SANDBOX_STOPPED;
	b->stopping = false;
	b->exited_at = time_now();
	waiters_answer(b, true, NULL);
}

static void on_signalled(void *arg, const struct runtime_result *res)
{
	struct sandbox *b = arg;

	/* One that has just ended is fine, and may be gone already with its log; the rest shows
	 * when the time is over. */
	if (res->status)
		log_debug("signal a container of sandbox %s: exit status %d", b->id, res->status);
	b->runtimes--;
	sandbox_check(b->shim);
}

static void containers_signal(struct sandbox *b, int signo)
{
	struct shim *s = b->shim;
	struct runtime_io io = RUNTIME_IO_NONE;
	char number[16];

	snprintf(number, sizeof(number), "%d", signo);
	for (struct container *c = s->containers; c; c = c->next) {
		struct err err = ERR_INIT;

		if (c->init.state == PROC_STOPPED || c->init.pid <= 0)
			continue;
		if (runtime_start(s->reaper, &c->rt, &io,
				  (const char *const[]){"kill", c->id, number, NULL}, on_signalled,
				  b, &err) < 0)
			log_warn("container %s: %s", c->id, err.text);
		else
			b->runtimes++;
	}
}

static void on_stop_time(void *arg)
{
	struct sandbox *b = arg;
	struct err err = ERR_INIT;

	if (b->kills++ < KILLS) {
		loop_timer_set(b->timer, time_mono() + KILL_NS);
		containers_signal(b, SIGKILL);
		return;
	}
	loop_source_free(b->timer);
	b->timer = NULL;
	b->stopping = false;
	err_set(&err, ERR_DEADLINE_EXCEEDED, "sandbox %s: containers of it do not end", b->id);
	waiters_answer(b, false, &err);
}

static int stop_begin(struct sandbox *b, uint32_t secs, struct err *err)
{
	int64_t ns = secs ? MIN(secs, STOP_SECS_MAX) * NSEC_PER_SEC : KILL_NS;

	if (b->stopping || b->state == SANDBOX_STOPPED)
		return 0;
	if (loop_add_timer(b->shim->loop, time_mono() + ns, on_stop_time, b, &b->timer) < 0)
		return err_nomem(err);
	b->stopping = true;
	b->kills = secs == 0;
	containers_signal(b, secs ? SIGTERM : SIGKILL);
	return 0;
}

static void waiter_canceled(void *arg)
{
	struct sandbox_waiter *w = arg;
	struct err err = ERR_INIT;

	for (struct sandbox_waiter **p = &w->sandbox->waiters; *p; p = &(*p)->next) {
		if (*p == w) {
			*p = w->next;
			break;
		}
	}
	err_set_raw(&err, ERR_CANCELED, "context canceled");
	rpc_finish(w->call, &err);
	free(w);
}

/* Answers when the sandbox has stopped. */
static int answer_later(struct rpc_call *call, struct sandbox *b, bool shutdown, bool wait,
			struct err *err)
{
	struct sandbox_waiter *w = malloc(sizeof(*w));
	int r;

	if (!w)
		return err_nomem(err);
	*w = (struct sandbox_waiter){b->waiters, b, call, shutdown, wait};
	b->waiters = w;
	rpc_on_cancel(call, waiter_canceled, w);
	r = rpc_defer(call);
	if (b->state == SANDBOX_STOPPED)
		waiters_answer(b, true, NULL);
	else
		sandbox_check(b->shim);
	return r;
}

static int sandbox_stop(struct rpc_call *call, const void *r, struct err *err)
{
	const SBX(StopSandboxRequest) *req = r;
	struct sandbox *b = sandbox_of(call, req->sandbox_id, err);

	if (!b || stop_begin(b, req->timeout_secs, err) < 0)
		return -err->kind;
	return answer_later(call, b, false, false, err);
}

static int sandbox_wait(struct rpc_call *call, const void *r, struct err *err)
{
	const SBX(WaitSandboxRequest) *req = r;
	struct sandbox *b = sandbox_of(call, req->sandbox_id, err);

	return b ? answer_later(call, b, false, true, err) : -err->kind;
}

static int sandbox_shutdown(struct rpc_call *call, const void *r, struct err *err)
{
	const SBX(ShutdownSandboxRequest) *req = r;
	struct sandbox *b = sandbox_of(call, req->sandbox_id, err);

	if (!b || stop_begin(b, 0, err) < 0)
		return -err->kind;
	return answer_later(call, b, true, false, err);
}

void sandbox_waiters_fail(struct shim *s, const struct err *err)
{
	while (s->sandbox && s->sandbox->waiters) {
		struct sandbox_waiter *w = s->sandbox->waiters;

		s->sandbox->waiters = w->next;
		rpc_finish(w->call, err);
		free(w);
	}
}

/* ---- Status, Ping, Platform, Metrics ---- */

static int sandbox_status(struct rpc_call *call, const void *r, struct err *err)
{
	const SBX(SandboxStatusRequest) *req = r;
	SBX(SandboxStatusResponse)
	resp = CONTAINERD__RUNTIME__SANDBOX__V1__SANDBOX_STATUS_RESPONSE__INIT;
	SBX(SandboxStatusResponse__InfoEntry) info[2], *infos[2] = {&info[0], &info[1]};
	Google__Protobuf__Timestamp created, exited;
	struct sandbox *b = sandbox_of(call, req->sandbox_id, err);
	bool ready = b && b->state == SANDBOX_RUNNING;

	if (!b)
		return -err->kind;
	resp.sandbox_id = b->id;
	resp.pid = b->state == SANDBOX_STOPPED ? 0 : (uint32_t)getpid();
	resp.state = (char *)(ready ? "SANDBOX_READY" : "SANDBOX_NOTREADY");
	resp.created_at = timestamp_of(b->created_at, &created);
	resp.exited_at = timestamp_of(b->exited_at, &exited);
	if (req->verbose) {
		for (size_t i = 0; i < ARRAY_LEN(info); i++)
			containerd__runtime__sandbox__v1__sandbox_status_response__info_entry__init(
				&info[i]);
		info[0].key = (char *)"bundle";
		info[0].value = b->bundle;
		info[1].key = (char *)"netns";
		info[1].value = b->netns;
		resp.info = infos;
		resp.n_info = *b->netns ? 2 : 1;
	}
	return rpc_send(call, &resp.base, err);
}

static int sandbox_ping(struct rpc_call *call, const void *r, struct err *err)
{
	const SBX(PingRequest) *req = r;
	SBX(PingResponse) resp = CONTAINERD__RUNTIME__SANDBOX__V1__PING_RESPONSE__INIT;

	if (!sandbox_of(call, req->sandbox_id, err))
		return -err->kind;
	return rpc_send(call, &resp.base, err);
}

/* The architecture as Go calls it. */
static const char *architecture(const char *machine)
{
	static const char *const names[][2] = {
		{"x86_64", "amd64"},	{"i686", "386"},
		{"aarch64", "arm64"},	{"armv7l", "arm"},
		{"ppc64le", "ppc64le"}, {"riscv64", "riscv64"},
		{"s390x", "s390x"},	{"loongarch64", "loong64"},
	};

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (streq(machine, names[i][0]))
			return names[i][1];
	return machine;
}

static int sandbox_platform(struct rpc_call *call, const void *r, struct err *err)
{
	const SBX(PlatformRequest) *req = r;
	SBX(PlatformResponse) resp = CONTAINERD__RUNTIME__SANDBOX__V1__PLATFORM_RESPONSE__INIT;
	Containerd__Types__Platform p = CONTAINERD__TYPES__PLATFORM__INIT;
	struct utsname u;

	if (!sandbox_of(call, req->sandbox_id, err))
		return -err->kind;
	if (uname(&u) < 0)
		return err_errno(err, errno, "uname");
	p.os = (char *)"linux";
	p.architecture = (char *)architecture(u.machine);
	resp.platform = &p;
	return rpc_send(call, &resp.base, err);
}

static int sandbox_metrics(struct rpc_call *call, const void *r, struct err *err)
{
	const SBX(SandboxMetricsRequest) *req = r;

	if (!sandbox_of(call, req->sandbox_id, err))
		return -err->kind;
	return err_set(err, ERR_UNIMPLEMENTED,
		       "sandbox %s has no cgroup of its own: its tasks have metrics",
		       req->sandbox_id);
}

static const struct rpc_method methods[] = {
	{"CreateSandbox", RPC_UNARY, sandbox_create},
	{"StartSandbox", RPC_UNARY, sandbox_start},
	{"Platform", RPC_UNARY, sandbox_platform},
	{"StopSandbox", RPC_UNARY, sandbox_stop},
	{"WaitSandbox", RPC_UNARY, sandbox_wait},
	{"SandboxStatus", RPC_UNARY, sandbox_status},
	{"PingSandbox", RPC_UNARY, sandbox_ping},
	{"ShutdownSandbox", RPC_UNARY, sandbox_shutdown},
	{"SandboxMetrics", RPC_UNARY, sandbox_metrics},
};

int sandbox_service_add(struct shim *s)
{
	s->services[2] =
		(struct rpc_service){&containerd__runtime__sandbox__v1__sandbox__descriptor,
				     methods, ARRAY_LEN(methods), s};
	return ttrpc_server_add(s->server, &s->services[2]);
}
