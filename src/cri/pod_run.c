/* SPDX-License-Identifier: Apache-2.0 */
/* RunPodSandbox: name, lease, record, network, sandbox, in this order; a failure undoes what was
 * made. What cannot be undone leaves the pod in the table, not ready, so that the kubelet removes
 * it.
 *
 * Most of the time passes in programs of others: the network's plugins and the runtime. A pause
 * process needs no network, so both run at the same time when nothing that the pod asks for could
 * tell (network_may_overlap()). */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/mount.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/path.h"
#include "base/str.h"
#include "base/time.h"
#include "core/sandbox.h"
#include "cri/event.h"
#include "cri/network.h"
#include "cri/nri.h"
#include "cri/podsandbox.h"
#include "cri/spec_internal.h"
#include "cri/task.h"
#include "cri/timers.h"
#include "sys/mount.h"
#include "sys/userns.h"

#define UNTRUSTED "io.kubernetes.cri.untrusted-workload"

/* Steps that have been done. */
struct run {
	struct ctx *ctx;
	struct cri *c;
	struct cri_pod *p;
	struct sandbox_controller *controller;
	bool reserved, recorded, network, started;
};

static bool host_namespaces(const CRI(PodSandboxConfig) * c)
{
	const CRI(NamespaceOption) *o = cri_namespaces(cri_pod_security(c)->namespace_options);
	return o->network == RUNTIME__V1__NAMESPACE_MODE__NODE ||
	       o->pid == RUNTIME__V1__NAMESPACE_MODE__NODE ||
	       o->ipc == RUNTIME__V1__NAMESPACE_MODE__NODE;
}

/* The handler: by request, or by the annotation of the time before there were runtime classes. */
static int handler_of(const struct cri_config *config, const CRI(PodSandboxConfig) * c,
		      const char **handler, struct err *err)
{
	for (size_t i = 0; i < c->n_annotations; i++)
		if (streq(c->annotations[i]->key, UNTRUSTED) &&
		    streq(c->annotations[i]->value, "true")) {
			if (!str_empty(*handler) && !streq(*handler, "untrusted"))
				return err_set(err, ERR_UNKNOWN,
					       "untrusted workload with explicit runtime handler "
					       "\"%s\" is not allowed",
					       *handler);
			if (host_namespaces(c) || cri_pod_security(c)->privileged)
				return err_set(
					err, ERR_UNKNOWN,
					"untrusted workload with host access is not allowed");
			*handler = "untrusted";
		}
	if (!cri_config_handler(config, *handler))
		return err_set(err, ERR_UNKNOWN, "no runtime for \"%s\" is configured", *handler);
	return 0;
}

static int check(const CRI(PodSandboxConfig) * c, struct err *err)
{
	if (!c || !c->metadata)
		return err_set(err, ERR_UNKNOWN, "sandbox config must include metadata");
	if (str_empty(c->metadata->name) || str_empty(c->metadata->uid) ||
	    str_empty(c->metadata->namespace_))
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "sandbox metadata must have a name, a uid and a namespace");
	return 0;
}

static int record(struct run *r, struct err *err)
{
	struct any_entry ext = {.key = CRI_EXT_SANDBOX};
	struct sandbox s = {.id = r->p->o.id,
			    .runtime_name = r->p->runtime->type,
			    .sandboxer = r->p->runtime->sandboxer,
			    .extensions = &ext,
			    .n_extensions = 1},
		       ret;
	int e = cri_pod_pack(r->ctx->arena, r->p, &ext.value, err);

	if (e == 0)
		e = cri_runtime_options(r->ctx->arena, r->p->runtime, &s.runtime_options, err);
	if (e == 0)
		e = sandbox_create_leased(r->ctx, r->c->o.db, &s, &ret, err);
	r->recorded = e == 0;
	return e;
}

int cri_pod_save(struct ctx *ctx, struct cri *c, struct cri_pod *p, struct err *err)
{
	static char *const paths[] = {(char *)"extensions." CRI_EXT_SANDBOX};
	struct any_entry ext = {.key = CRI_EXT_SANDBOX};
	struct sandbox s = {.id = p->o.id, .extensions = &ext, .n_extensions = 1}, ret;
	int r = cri_pod_pack(ctx->arena, p, &ext.value, err);

	return r < 0 ? r : sandbox_update(ctx, c->o.db, &s, paths, 1, &ret, err);
}

/* ---- namespaces and network ---- */

static char *id_map(struct arena *a, CRI(IDMapping) * *v, size_t n)
{
	return n == 1 ? arena_printf(a, "%u:%u:%u", v[0]->container_id, v[0]->host_id, v[0]->length)
		      : NULL;
}

static const CRI(UserNamespace) * userns_wanted(const struct run *r)
{
	const CRI(UserNamespace) *u =
		cri_namespaces(cri_pod_security(r->p->config)->namespace_options)->userns_options;

	return u && u->mode == RUNTIME__V1__NAMESPACE_MODE__POD ? u : NULL;
}

/* Where the namespaces will be is recorded before they are made, so that a daemon that dies leaves
 * none that nobody knows. */
static int name_namespaces(struct run *r, struct err *err)
{
	struct cri_pod *p = r->p;
	char *path, *state;
	int e = 0;

	if (userns_wanted(r)) {
		state = cri_pod_state_dir(r->c, r->ctx->arena, p->o.id);
		p->userns_path =
			state ? path_join(p->o.arena, state, "pinned-namespaces/user") : NULL;
		if (!p->userns_path)
			return err_nomem(err);
	}
	if (!p->host_network)
		e = cri_netns_path(r->c, p->o.arena, &path, err);
	if (e == 0 && !p->host_network)
		p->netns_path = path;
	return e;
}

/* A user namespace stays by being mounted at a path, too. */
static int pin_userns(struct run *r, int fd, struct err *err)
{
	const char *path = r->p->userns_path, *dir = path_dir(r->ctx->arena, path);
	char from[32];
	int e = dir ? mkdir_p(dir, 0755) : -ENOMEM;

	if (e == 0)
		e = file_write(AT_FDCWD, path, "", 0, 0444);
	snprintf(from, sizeof(from), "/proc/self/fd/%d", fd);
	if (e == 0 && mount(from, path, "none", MS_BIND, NULL) < 0)
		e = -errno;
	return e < 0 ? err_errno(err, e, "pin the user namespace of the pod") : 0;
}

static int namespaces(struct run *r, struct err *err)
{
	const CRI(UserNamespace) *u = userns_wanted(r);
	_cleanup_close_ int user = -1, net = -1;
	int e = 0;

	if (u) {
		char *uids = id_map(r->ctx->arena, u->uids, u->n_uids),
		     *gids = id_map(r->ctx->arena, u->gids, u->n_gids);
		if (!uids || !gids)
			return err_set(err, ERR_UNKNOWN,
				       "user namespace: %zu uid and %zu gid mappings, where "
				       "exactly one each is supported",
				       u->n_uids, u->n_gids);
		e = userns_open_net(uids, gids, &user, r->p->host_network ? NULL : &net, err);
		if (e == 0)
			e = pin_userns(r, user, err);
	}
	if (e < 0 || r->p->host_network)
		return e;
	return cri_netns_new(r->ctx->arena, r->p->netns_path, net, err);
}

/* ---- the network ---- */

struct attach {
	struct run *r;
	struct ctx ctx;
	struct err err;
	int result;
	pthread_t thread;
	bool running;
};

static void *attach_run(void *arg)
{
	struct attach *a = arg;

	int64_t begin = time_mono();

	a->result = cri_network_setup(&a->ctx, a->r->c, a->r->p, &a->err);
	if (a->result == 0)
		cri_timer_add(a->r->c, CRI_TIMER_SANDBOX_CREATE_NETWORK, begin);
	return NULL;
}

/* Only with the pause process, which uses no network; system controls may name an interface. */
static bool network_may_overlap(const struct run *r)
{
	const CRI(LinuxPodSandboxConfig) *l = r->p->config->linux;

	return r->controller == r->c->podsandbox && (!l || l->n_sysctls == 0) && r->p->runtime;
}

/* Sets the network up, at the same time as what follows when that may be; network_join() has the
 * result. */
static int network_begin(struct run *r, struct attach *a, struct err *err)
{
	*a = (struct attach){.r = r, .err = ERR_INIT};
	if (r->p->host_network)
		return 0;
	a->ctx = ctx_part(r->ctx, arena_new(0));
	if (!a->ctx.arena)
		return err_nomem(err);
	a->running = network_may_overlap(r) && pthread_create(&a->thread, NULL, attach_run, a) == 0;
	if (!a->running)
		attach_run(a);
	if (a->running || a->result == 0)
		return 0;
	return err_copy(err, &a->err);
}

/* 0, or its error, which says more than what may have followed from it. */
static int network_join(struct attach *a, struct err *err)
{
	if (a->running)
		pthread_join(a->thread, NULL);
	a->running = false;
	arena_free(TAKE_PTR(a->ctx.arena));
	a->r->network = a->result == 0 && !a->r->p->host_network;
	return a->result < 0 ? err_copy(err, &a->err) : 0;
}

int cri_pod_drop_namespaces(struct ctx *ctx, struct cri *c, struct cri_pod *p, bool network,
			    struct err *err)
{
	char *state = cri_pod_state_dir(c, ctx->arena, p->o.id),
	     *user = state ? path_join(ctx->arena, state, "pinned-namespaces/user") : NULL;
	int r = user ? 0 : err_nomem(err);

	/* A namespace that is gone, after a reboot, leaves addresses behind that only the plugins
	 * can free. */
	if (r == 0 && network && !str_empty(p->netns_path) && !p->detached) {
		struct err own = ERR_INIT;
		int64_t begin = time_mono();
		r = cri_network_teardown(ctx, c, p, &own);
		/* What never got a result holds nothing that anybody knows of. */
		if (r < 0 && p->cni_result)
			return err_copy(err, &own);
		if (r < 0)
			log_warn("pod %s: take down networks that it never had: %s", p->o.id,
				 own.text);
		else
			cri_timer_add(c, CRI_TIMER_SANDBOX_DELETE_NETWORK, begin);
		/* Else the pod's removal tries once more. Read between begin and end only. */
		p->detached = r == 0;
		r = 0;
	}
	if (r == 0 && !str_empty(p->netns_path)) {
		r = cri_netns_remove(p->netns_path, err);
		if (r == 0) {
			pthread_mutex_lock(&p->o.lock);
			p->netns_closed = true;
			pthread_mutex_unlock(&p->o.lock);
		}
	}
	if (r == 0)
		r = mount_unmount_all(user, MNT_DETACH | UMOUNT_NOFOLLOW, err);
	return r;
}

/* ---- the whole ---- */

static int start(struct run *r, struct err *err)
{
	struct sandbox_create_options o = {.netns_path = r->p->netns_path};
	int64_t begin = time_mono();
	struct sandbox_instance i;
	struct sandbox s;
	int e = sandbox_get(r->ctx, r->c->o.db, r->p->o.id, &s, err);

	if (e == 0)
		e = r->controller->ops->create(r->ctx, r->controller, &s, &o, err);
	if (e < 0)
		return e;
	r->started = true;
	e = r->controller->ops->start(r->ctx, r->controller, r->p->o.id, &i, err);
	if (e < 0)
		return err_prefix(err, "failed to start sandbox \"%s\"", r->p->o.id);
	pthread_mutex_lock(&r->p->o.lock);
	r->p->pid = i.pid;
	pthread_mutex_unlock(&r->p->o.lock);
	cri_timer_add_runtime(r->c, CRI_TIMER_SANDBOX_RUNTIME_CREATE, r->p->runtime, begin);
	return 0;
}

static int networked(struct run *r, struct err *err)
{
	struct attach a;
	int e = network_begin(r, &a, err);

	/* When it is there already it is recorded before a sandbox is made in it. */
	if (e == 0 && !a.running && !r->p->host_network)
		e = cri_pod_save(r->ctx, r->c, r->p, err);
	if (e == 0)
		e = start(r, err);
	int joined = network_join(&a, err);
	return joined < 0 ? joined : e;
}

static int make(struct run *r, struct err *err)
{
	int e = cri_table_reserve(r->c->pods, r->p->o.name, r->p->o.id, err);

	if (e == 0)
		runtime_expect(r->c->o.runtime);

	r->reserved = e == 0;
	if (e == 0)
		e = cri_controller_of(r->c, r->p, &r->controller, err);
	if (e == 0)
		e = name_namespaces(r, err);
	if (e == 0)
		e = record(r, err);
	if (e < 0)
		return e;
	r->ctx->lease = r->p->o.id;
	e = cri_table_add(r->c->starting, &r->p->o, err);
	if (e == 0)
		e = namespaces(r, err);
	if (e == 0)
		e = networked(r, err);
	if (e == 0)
		e = cri_pod_save(r->ctx, r->c, r->p, err);
	if (e == 0)
		e = nri_run_pod(r->ctx, r->c->nri, r->p, err);
	return e;
}

/* As far as it goes; 0 when nothing is left. */
static int undo(struct run *r, struct err *err)
{
	struct ctx bg = cri_background(r->c, r->ctx->arena, r->c->config->defer_cleanup_timeout_ns);
	struct err own = ERR_INIT;
	int e = 0;

	if (r->started) {
		e = r->controller->ops->shutdown(&bg, r->controller, r->p->o.id, &own);
		if (e == -ERR_NOT_FOUND)
			e = 0;
		else if (e < 0)
			return err_copy(err, &own);
	}
	e = cri_pod_drop_namespaces(&bg, r->c, r->p, r->network, err);
	if (e == 0 && r->recorded)
		e = cri_pod_remove_records(&bg, r->c, r->p->o.id, err);
	if (e == 0) {
		char *state = cri_pod_state_dir(r->c, r->ctx->arena, r->p->o.id);
		e = state ? rm_rf(AT_FDCWD, state) : -ENOMEM;
		if (e < 0)
			return err_errno(err, e, "remove the state directory of the pod");
	}
	return e;
}

static void give_up(struct run *r)
{
	struct err err = ERR_INIT;

	if (r->reserved && undo(r, &err) < 0) {
		log_error("sandbox %s: what failed to start could not be removed: %s", r->p->o.id,
			  err.text);
		pthread_mutex_lock(&r->p->o.lock);
		r->p->state = CRI_POD_NOTREADY;
		pthread_mutex_unlock(&r->p->o.lock);
		if (cri_table_add(r->c->pods, &r->p->o, NULL) == 0)
			r->reserved = false;
	}
	if (r->reserved)
		cri_table_release(r->c->pods, r->p->o.id);
	cri_table_remove(r->c->starting, r->p->o.id);
}

static int ready(struct run *r, struct err *err)
{
	pthread_mutex_lock(&r->p->o.lock);
	r->p->state = CRI_POD_READY;
	pthread_mutex_unlock(&r->p->o.lock);
	int e = cri_table_add(r->c->pods, &r->p->o, err);
	if (e < 0)
		return e;
	cri_table_remove(r->c->starting, r->p->o.id);
	cri_event(r->ctx, r->c, r->p, r->p->o.id,
		  RUNTIME__V1__CONTAINER_EVENT_TYPE__CONTAINER_CREATED_EVENT);
	cri_event(r->ctx, r->c, r->p, r->p->o.id,
		  RUNTIME__V1__CONTAINER_EVENT_TYPE__CONTAINER_STARTED_EVENT);
	/* From here on it is a pod like others: if it cannot be watched, that is found out at the
	 * next start. */
	struct err own = ERR_INIT;
	if (cri_pod_watch(r->c, r->p, &own) < 0)
		log_error("sandbox %s: wait for its end: %s", r->p->o.id, own.text);
	return 0;
}

int cri_run_pod_sandbox(struct rpc_call *call, const void *req, struct err *err)
{
	const CRI(RunPodSandboxRequest) *q = req;
	CRI(RunPodSandboxResponse) resp = CRI_INIT(RUN_POD_SANDBOX_RESPONSE);
	_cleanup_pod_ struct cri_pod *p = NULL;
	const char *handler = q->runtime_handler;
	struct run r = {.ctx = rpc_ctx(call)};
	char id[CRI_ID_LEN + 1];
	int e = cri_of(call, &r.c, err);

	if (e == 0)
		e = check(q->config, err);
	if (e == 0)
		e = handler_of(r.c->config, q->config, &handler, err);
	if (e < 0)
		return e;
	char *name = cri_pod_name(r.ctx->arena, q->config->metadata);
	if (!name)
		return err_nomem(err);
	cri_id_new(id);
	e = cri_pod_new(r.c->config, id, name, q->config, handler, &p, err);
	if (e < 0)
		return e;
	struct timespec now = time_now();
	p->created_at = now.tv_sec * NSEC_PER_SEC + now.tv_nsec;
	r.p = p;
	e = make(&r, err);
	if (e == 0)
		e = ready(&r, err);
	if (e < 0) {
		give_up(&r);
		return e;
	}
	resp.pod_sandbox_id = id;
	return rpc_send(call, &resp.base, err);
}
