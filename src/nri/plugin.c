/* SPDX-License-Identifier: Apache-2.0 */
/* See plugin.h.
 *
 * The mux, the client and the server of a plugin live on the loop. References: the owner's, one of
 * the server (dropped when no handler of it can run any more), those of callers. The client is
 * freed on the loop once no call uses it, which closing the mux brings about: its end of the
 * client's socket is closed then, and all calls end. */
#include "nri/plugin.h"

#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/path.h"
#include "base/str.h"
#include "base/time.h"
#include "nri/mux.h"
#include "rpc/ttrpc.h"
#include "sys/spawn.h"

#define PLUGIN_SERVICE "nri.pkg.api.v1alpha1.Plugin"
#define NRI_VERSION "0.11.0"
#define ALL_EVENTS ((1 << (NRI_EVENT(LAST) - 1)) - 1)

struct nri_plugin {
	struct nri_plugin_options o;
	atomic_uint refs;
	bool launched;
	char name[NRI_NAME_MAX + 4], idx[3], *config;
	int fd; /* until it is attached */
	int pidfd;
	struct loop_source *child;
	pthread_mutex_t lock;
	pthread_cond_t changed; /* CLOCK_MONOTONIC */
	/* Under the lock. */
	bool registered, ready, closed, detached, gone;
	unsigned calls;
	struct rpc_client *client;
	/* Fixed once configured, but for legacy, which only ever becomes true. */
	int events;
	atomic_bool legacy;
	/* The loop's. */
	struct nri_mux *mux;
	struct ttrpc_server *server;
	struct rpc_service service;
};

bool nri_plugin_name_valid(const char *idx, const char *base)
{
	if (strlen(idx) != 2 || !isdigit((unsigned char)idx[0]) || !isdigit((unsigned char)idx[1]))
		return false;
	size_t n = strlen(base);
	for (const char *s = base; *s; s++)
		if (!isgraph((unsigned char)*s) || *s == '/')
			return false;
	return n > 0 && n <= NRI_NAME_MAX;
}

void nri_plugin_ref(struct nri_plugin *p)
{
	atomic_fetch_add(&p->refs, 1);
}

void nri_plugin_unref(struct nri_plugin *p)
{
	if (atomic_fetch_sub(&p->refs, 1) > 1)
		return;
	fd_closep(&p->fd);
	fd_closep(&p->pidfd);
	pthread_mutex_destroy(&p->lock);
	pthread_cond_destroy(&p->changed);
	free(p->config);
	free(p);
}

const char *nri_plugin_name(const struct nri_plugin *p)
{
	return p->name;
}

const char *nri_plugin_idx(const struct nri_plugin *p)
{
	return p->idx;
}

const char *nri_plugin_base(const struct nri_plugin *p)
{
	return *p->name ? p->name + 3 : "";
}

bool nri_plugin_closed(struct nri_plugin *p)
{
	MUTEX_GUARD(&p->lock);
	return p->closed;
}

void nri_plugin_set_ready(struct nri_plugin *p)
{
	MUTEX_GUARD(&p->lock);
	p->ready = true;
}

/* ---- the end ---- */

/* On the loop, or when it does not run: no call uses the client and none will. */
static void client_drop(struct nri_plugin *p)
{
	struct rpc_client *c;

	pthread_mutex_lock(&p->lock);
	bool again = p->gone || p->calls > 0 || !p->detached;
	p->gone = p->gone || !again;
	c = again ? NULL : TAKE_PTR(p->client);
	pthread_mutex_unlock(&p->lock);
	if (again)
		return;
	if (c)
		rpc_client_free(c);
	loop_source_free(TAKE_PTR(p->child));
	if (p->o.gone)
		p->o.gone(p->o.arg, p);
}

static void client_drop_posted(void *arg)
{
	struct nri_plugin *p = arg;
	client_drop(p);
	nri_plugin_unref(p);
}

static void detach(struct nri_plugin *p)
{
	bool first;

	pthread_mutex_lock(&p->lock);
	first = !p->detached;
	p->detached = true;
	pthread_mutex_unlock(&p->lock);
	if (!first)
		return;
	nri_plugin_ref(p);
	nri_mux_free(TAKE_PTR(p->mux));
	if (p->server)
		ttrpc_server_free(TAKE_PTR(p->server));
	client_drop(p);
	nri_plugin_unref(p);
}

/* What detach() was posted with: a reference, too. */
static void detach_posted(void *arg)
{
	struct nri_plugin *p = arg;
	detach(p);
	nri_plugin_unref(p);
}

static bool set_closed(struct nri_plugin *p)
{
	MUTEX_GUARD(&p->lock);
	bool first = !p->closed;

	p->closed = true;
	pthread_cond_broadcast(&p->changed);
	return first;
}

void nri_plugin_close(struct nri_plugin *p)
{
	if (!set_closed(p))
		return;
	if (p->pidfd >= 0)
		(void)pidfd_kill(p->pidfd, SIGKILL);
	nri_plugin_ref(p);
	/* Without memory it is done when the daemon ends. */
	if (loop_post(p->o.loop, detach_posted, p) < 0)
		nri_plugin_unref(p);
}

void nri_plugin_finish(struct nri_plugin *p)
{
	if (set_closed(p) && p->pidfd >= 0)
		(void)pidfd_kill(p->pidfd, SIGKILL);
	nri_plugin_ref(p);
	detach(p);
	client_drop(p);
	nri_plugin_unref(p);
}

/* ---- what the plugin calls ---- */

static void name_set(struct nri_plugin *p, const char *idx, const char *base)
{
	snprintf(p->idx, sizeof(p->idx), "%s", idx);
	if (*base)
		snprintf(p->name, sizeof(p->name), "%s-%s", p->idx, base);
}

static int register_plugin(struct rpc_call *call, const void *req, struct err *err)
{
	const NRI(RegisterPluginRequest) *q = req;
	NRI(Empty) resp = NRI_INIT(EMPTY);
	struct nri_plugin *p = rpc_data(call);

	if (!p->launched && !nri_plugin_name_valid(q->plugin_idx, q->plugin_name)) {
		nri_plugin_close(p);
		return err_set(
			err, ERR_INVALID_ARGUMENT,
			"plugin \"%.64s\" with index \"%.16s\": an index has two digits, and "
			"a name at most %d printable characters",
			q->plugin_name, q->plugin_idx, NRI_NAME_MAX);
	}
	pthread_mutex_lock(&p->lock);
	bool again = p->registered;
	if (!again && !p->launched)
		name_set(p, q->plugin_idx, q->plugin_name);
	p->registered = true;
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
	if (again)
		return err_set(err, ERR_FAILED_PRECONDITION, "the plugin has registered before");
	return rpc_send(call, &resp.base, err);
}

static int update_containers(struct rpc_call *call, const void *req, struct err *err)
{
	NRI(UpdateContainersResponse) resp = NRI_INIT(UPDATE_CONTAINERS_RESPONSE);
	struct nri_plugin *p = rpc_data(call);

	pthread_mutex_lock(&p->lock);
	bool ready = p->ready && !p->closed;
	pthread_mutex_unlock(&p->lock);
	if (!ready || !p->o.update)
		return err_set(err, ERR_FAILED_PRECONDITION,
			       "the plugin is not registered and synchronised");
	int r = p->o.update(p->o.arg, p, rpc_ctx(call), req, &resp, err);
	return r < 0 ? r : rpc_send(call, &resp.base, err);
}

static const struct rpc_method runtime_methods[] = {
	{"RegisterPlugin", RPC_UNARY, register_plugin},
	{"UpdateContainers", RPC_UNARY, update_containers},
};

/* ---- the connection ---- */

static void released(void *arg)
{
	nri_plugin_unref(arg);
}

static void connection_lost(void *arg)
{
	struct nri_plugin *p = arg;

	if (set_closed(p) && *p->name)
		log_info("NRI: the connection to plugin %s has ended", p->name);
	if (p->pidfd >= 0)
		(void)pidfd_kill(p->pidfd, SIGKILL);
	/* Not from within the client's own event, which goes on with it. */
	nri_plugin_ref(p);
	if (loop_post(p->o.loop, detach_posted, p) < 0)
		nri_plugin_unref(p);
}

static void exited(const siginfo_t *si, void *arg)
{
	struct nri_plugin *p = arg;

	p->child = NULL;
	if (!nri_plugin_closed(p))
		log_warn("NRI: plugin %s has exited with status %d", p->name, siginfo_status(si));
	nri_plugin_close(p);
}

static int attach(struct nri_plugin *p)
{
	struct ttrpc_server_options so = {.released = released, .released_arg = p};
	_cleanup_close_ int plugin = -1, runtime = -1;
	struct rpc_client *client;
	int r = 0;

	if (p->pidfd >= 0)
		r = loop_add_child(p->o.loop, p->pidfd, exited, p, &p->child);
	if (r == 0)
		r = nri_mux_new(p->o.loop, p->fd, &p->mux, &plugin, &runtime);
	if (r < 0)
		return r;
	p->fd = -1;
	p->service = (struct rpc_service){
		.desc = &nri__pkg__api__v1alpha1__runtime__descriptor,
		.methods = runtime_methods,
		.n_methods = ARRAY_LEN(runtime_methods),
		.data = p,
	};
	r = ttrpc_server_new(p->o.loop, p->o.pool, &so, &p->server);
	if (r < 0)
		return r;
	nri_plugin_ref(p);
	r = ttrpc_server_add(p->server, &p->service);
	if (r == 0)
		r = ttrpc_client_new(p->o.loop, plugin, connection_lost, p, &client);
	if (r < 0)
		return r;
	plugin = -1;
	pthread_mutex_lock(&p->lock);
	p->client = client;
	pthread_mutex_unlock(&p->lock);
	ttrpc_server_adopt(p->server, TAKE_FD(runtime));
	return 0;
}

static void attach_posted(void *arg)
{
	struct nri_plugin *p = arg;

	if (!nri_plugin_closed(p) && attach(p) < 0)
		nri_plugin_close(p);
	nri_plugin_unref(p);
}

int nri_plugin_new(const struct nri_plugin_options *o, int fd, const char *file, int pidfd,
		   const char *config, struct nri_plugin **ret, struct err *err)
{
	struct nri_plugin *p = calloc(1, sizeof(*p));
	pthread_condattr_t attr;

	if (!p || !(p->config = strdup(config))) {
		fd_closep(&fd);
		fd_closep(&pidfd);
		free(p);
		return err_nomem(err);
	}
	p->o = *o;
	atomic_init(&p->refs, 2); /* the caller's, and attach_posted()'s */
	p->fd = fd;
	p->pidfd = pidfd;
	p->launched = file != NULL;
	name_set(p, file ? file : "", file && *file ? file + 3 : "");
	pthread_mutex_init(&p->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&p->changed, &attr);
	pthread_condattr_destroy(&attr);
	if (loop_post(o->loop, attach_posted, p) < 0) {
		nri_plugin_unref(p);
		nri_plugin_unref(p);
		return err_nomem(err);
	}
	*ret = p;
	return 0;
}

int nri_plugin_launch(const struct nri_plugin_options *o, const char *dir, const char *file,
		      const char *config, struct nri_plugin **ret, struct err *err)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	struct spawn_options s = SPAWN_OPTIONS_INIT;
	int pair[2], pidfd;

	if (!a)
		return err_nomem(err);
	char *path = path_join(a, dir, file), *argv[] = {path, NULL},
	     *env[] = {arena_printf(a, "NRI_PLUGIN_NAME=%s", file + 3),
		       arena_printf(a, "NRI_PLUGIN_IDX=%.2s", file), (char *)"NRI_PLUGIN_SOCKET=3",
		       NULL};
	if (!path || !env[0] || !env[1])
		return err_nomem(err);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return err_errno(err, errno, "plugin %s: socket pair", file);
	s.path = path;
	s.argv = argv;
	s.env = env;
	s.fds = &pair[1];
	s.nfds = 1;
	int r = spawn(&s, NULL, &pidfd, err);
	close(pair[1]);
	if (r < 0) {
		close(pair[0]);
		return err_prefix(err, "plugin %s", file);
	}
	return nri_plugin_new(o, pair[0], file, pidfd, config, ret, err);
}

/* ---- calls ---- */

int nri_plugin_wait(struct nri_plugin *p, struct err *err)
{
	int64_t at = time_mono() + p->o.registration_timeout_ns;
	struct timespec ts = {at / NSEC_PER_SEC, at % NSEC_PER_SEC};
	MUTEX_GUARD(&p->lock);

	while (!p->registered && !p->closed)
		if (pthread_cond_timedwait(&p->changed, &p->lock, &ts) == ETIMEDOUT)
			break;
	if (p->closed)
		return err_set(err, ERR_UNAVAILABLE, "the plugin has closed its connection");
	if (!p->registered)
		return err_set(err, ERR_DEADLINE_EXCEEDED, "the plugin has not registered in time");
	return 0;
}

static struct rpc_client *client_begin(struct nri_plugin *p)
{
	MUTEX_GUARD(&p->lock);

	if (p->closed || !p->client)
		return NULL;
	p->calls++;
	return p->client;
}

static void client_end(struct nri_plugin *p)
{
	pthread_mutex_lock(&p->lock);
	p->calls--;
	bool last = p->detached && p->calls == 0;
	pthread_mutex_unlock(&p->lock);
	if (!last)
		return;
	nri_plugin_ref(p);
	if (loop_post(p->o.loop, client_drop_posted, p) < 0)
		nri_plugin_unref(p);
}

int nri_plugin_call(struct ctx *ctx, struct nri_plugin *p, int event, const char *method,
		    const ProtobufCMessage *req, const ProtobufCMessageDescriptor *resp_desc,
		    void *ret, struct err *err)
{
	int64_t at = time_mono() + p->o.request_timeout_ns;
	struct ctx sub = {.arena = ctx->arena, .ns = "", .lease = "", .parent = ctx};
	struct err own = ERR_INIT;

	if (event && !(p->events & (1 << (event - 1))))
		return 0;
	sub.deadline = ctx->deadline && ctx->deadline < at ? ctx->deadline : at;
	struct rpc_client *c = client_begin(p);
	if (!c)
		return 0;
	int r = rpc_call(c, &sub, PLUGIN_SERVICE, method, req, resp_desc, ret, &own);
	client_end(p);
	if (r == 0)
		return 1;
	if (ctx_check(ctx, err) < 0)
		return err_prefix(err, "NRI plugin %s: %s", p->name, method);
	if (r == -ERR_UNIMPLEMENTED)
		return err_copy(err, &own);
	if (r == -ERR_DEADLINE_EXCEEDED || r == -ERR_UNAVAILABLE || r == -ERR_RESOURCE_EXHAUSTED ||
	    r == -ERR_CANCELED) {
		if (!nri_plugin_closed(p))
			log_error("NRI: plugin %s is closed, it failed to handle %s: %s", p->name,
				  method, own.text);
		nri_plugin_close(p);
		return 0;
	}
	err_copy(err, &own);
	return err_prefix(err, "NRI plugin %s: %s", p->name, method);
}

int nri_plugin_configure(struct ctx *ctx, struct nri_plugin *p, const char *config,
			 const char *version, struct err *err)
{
	NRI(ConfigureRequest) req = NRI_INIT(CONFIGURE_REQUEST);
	NRI(ConfigureResponse) * resp;

	req.config = (char *)(*p->config ? p->config : config);
	req.runtime_name = (char *)"containerd";
	req.runtime_version = (char *)version;
	req.registration_timeout = p->o.registration_timeout_ns / NSEC_PER_MSEC;
	req.request_timeout = p->o.request_timeout_ns / NSEC_PER_MSEC;
	req.nri_version = (char *)NRI_VERSION;
	int r = nri_plugin_call(ctx, p, 0, "Configure", &req.base,
				&nri__pkg__api__v1alpha1__configure_response__descriptor, &resp,
				err);
	if (r < 0)
		return r;
	if (r == 0)
		return err_set(err, ERR_UNAVAILABLE, "the plugin could not be configured");
	if (resp->events & ~ALL_EVENTS)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "the plugin asks for unknown events: 0x%x",
			       (unsigned)(resp->events & ~ALL_EVENTS));
	p->events = resp->events ? resp->events : ALL_EVENTS;
	return 0;
}

/* ---- events ---- */

/* All those requests begin alike: with a pod, and a container where there is one. */
struct event_request {
	ProtobufCMessage base;
	NRI(PodSandbox) * pod;
	NRI(Container) * container;
};
_Static_assert(sizeof(NRI(PostCreateContainerRequest)) == sizeof(struct event_request),
	       "layout of generated messages");

#define REQ(m) &nri__pkg__api__v1alpha1__##m##_request__descriptor
#define RESP(m) &nri__pkg__api__v1alpha1__##m##_response__descriptor

static const struct {
	int event;
	const char *method;
	const ProtobufCMessageDescriptor *req, *resp;
} events[] = {
	{NRI_EVENT(RUN_POD_SANDBOX), "RunPodSandbox", REQ(run_pod_sandbox), RESP(run_pod_sandbox)},
	{NRI_EVENT(STOP_POD_SANDBOX), "StopPodSandbox", REQ(stop_pod_sandbox),
	 RESP(stop_pod_sandbox)},
	{NRI_EVENT(REMOVE_POD_SANDBOX), "RemovePodSandbox", REQ(remove_pod_sandbox),
	 RESP(remove_pod_sandbox)},
	{NRI_EVENT(POST_UPDATE_POD_SANDBOX), "PostUpdatePodSandbox", REQ(post_update_pod_sandbox),
	 RESP(post_update_pod_sandbox)},
	{NRI_EVENT(POST_CREATE_CONTAINER), "PostCreateContainer", REQ(post_create_container),
	 RESP(post_create_container)},
	{NRI_EVENT(START_CONTAINER), "StartContainer", REQ(start_container), RESP(start_container)},
	{NRI_EVENT(POST_START_CONTAINER), "PostStartContainer", REQ(post_start_container),
	 RESP(post_start_container)},
	{NRI_EVENT(POST_UPDATE_CONTAINER), "PostUpdateContainer", REQ(post_update_container),
	 RESP(post_update_container)},
	{NRI_EVENT(REMOVE_CONTAINER), "RemoveContainer", REQ(remove_container),
	 RESP(remove_container)},
};

int nri_plugin_event(struct ctx *ctx, struct nri_plugin *p, int event, NRI(PodSandbox) * pod,
		     NRI(Container) * container, struct err *err)
{
	NRI(StateChangeEvent) old = NRI_INIT(STATE_CHANGE_EVENT);
	struct event_request req = {.pod = pod, .container = container};
	struct err own = ERR_INIT;
	size_t i = 0;
	void *resp;

	while (i < ARRAY_LEN(events) && events[i].event != event)
		i++;
	if (i == ARRAY_LEN(events))
		return err_set(err, ERR_INTERNAL, "event %d is none", event);
	if (!p->legacy) {
		message_init(events[i].req, &req.base);
		req.pod = pod;
		if (events[i].req->n_fields > 1)
			req.container = container;
		int r = nri_plugin_call(ctx, p, event, events[i].method, &req.base, events[i].resp,
					&resp, &own);
		if (r >= 0)
			return 0;
		if (r != -ERR_UNIMPLEMENTED)
			return err_copy(err, &own);
		p->legacy = true;
	}
	old.event = (NRI(Event))event;
	old.pod = pod;
	old.container = container;
	int r = nri_plugin_call(ctx, p, event, "StateChange", &old.base,
				&nri__pkg__api__v1alpha1__empty__descriptor, &resp, err);
	return r < 0 ? r : 0;
}
