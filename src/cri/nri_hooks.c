/* SPDX-License-Identifier: Apache-2.0 */
/* What requests ask plugins. */
#include "base/json.h"
#include "base/log.h"
#include "base/str.h"
#include "cri/container.h"
#include "cri/nri_internal.h"
#include "cri/spec.h"

#define DESC(m) &nri__pkg__api__v1alpha1__##m##__descriptor

/* Whether there is anybody to ask: pods and containers are not described for nobody. */
static bool nobody(struct nri *n)
{
	if (!n)
		return true;
	MUTEX_GUARD(&n->lock);
	return n->n_active == 0;
}

/* ---- events ---- */

static int event(struct ctx *ctx, struct nri *n, int e, struct cri_pod *p, struct cri_container *k,
		 struct err *err)
{
	NRI(PodSandbox) *pod = NULL;
	NRI(Container) *container = NULL;
	struct nri_asking ask;
	int r = nobody(n) ? 1 : nri_pod(ctx, n->c, p, &pod, err);

	if (r == 0 && k)
		r = nri_container(ctx, n->c, k, NULL, &container, err);
	if (r == 0)
		r = nri_ask_begin(ctx, n, &ask, err);
	if (r != 0)
		return MIN(r, 0);
	for (size_t i = 0; r == 0 && i < ask.count; i++)
		r = nri_plugin_event(ctx, ask.v[i], e, pod, container, err);
	nri_ask_end(&ask);
	return r;
}

int nri_run_pod(struct ctx *ctx, struct nri *n, struct cri_pod *p, struct err *err)
{
	return event(ctx, n, NRI_EVENT(RUN_POD_SANDBOX), p, NULL, err);
}

int nri_stop_pod(struct ctx *ctx, struct nri *n, struct cri_pod *p, struct err *err)
{
	struct err own = ERR_INIT;

	/* Once; stopping a pod is asked for again by removing it. */
	pthread_mutex_lock(&p->o.lock);
	bool again = p->nri_stopped;
	p->nri_stopped = true;
	pthread_mutex_unlock(&p->o.lock);
	if (again)
		return 0;
	/* A plugin does not keep a pod from ending. */
	if (event(ctx, n, NRI_EVENT(STOP_POD_SANDBOX), p, NULL, &own) < 0)
		log_error("NRI: pod %s: %s", p->o.id, own.text);
	return 0;
}

int nri_remove_pod(struct ctx *ctx, struct nri *n, struct cri_pod *p, struct err *err)
{
	struct err own = ERR_INIT;

	if (event(ctx, n, NRI_EVENT(REMOVE_POD_SANDBOX), p, NULL, &own) < 0)
		log_error("NRI: pod %s: %s", p->o.id, own.text);
	return 0;
}

void nri_event(struct ctx *ctx, struct nri *n, enum nri_event e, struct cri_pod *p,
	       struct cri_container *k)
{
	static const int numbers[] = {
		[NRI_POST_CREATE_CONTAINER] = NRI_EVENT(POST_CREATE_CONTAINER),
		[NRI_START_CONTAINER] = NRI_EVENT(START_CONTAINER),
		[NRI_POST_START_CONTAINER] = NRI_EVENT(POST_START_CONTAINER),
		[NRI_POST_UPDATE_CONTAINER] = NRI_EVENT(POST_UPDATE_CONTAINER),
		[NRI_REMOVE_CONTAINER] = NRI_EVENT(REMOVE_CONTAINER),
		[NRI_POST_UPDATE_POD] = NRI_EVENT(POST_UPDATE_POD_SANDBOX),
	};
	struct err err = ERR_INIT;

	if (event(ctx, n, numbers[e], p, k, &err) < 0)
		log_error("NRI: %s: %s", k ? k->o.id : p->o.id, err.text);
}

static int resources(struct arena *a, struct cri *c, const CRI(LinuxContainerResources) * r,
		     NRI(LinuxResources) * *ret, struct err *err)
{
	json_t *spec _cleanup_json_ = NULL;
	int e = r ? nri_resources_of_cri(c, r, &spec, err) : 0;
	return e < 0 || !r ? e : nri_resources_of_spec(a, spec, ret, err);
}

/* A plugin that does not know a method has no wish. */
static int known(int r, struct err *own, struct err *err)
{
	return r == -ERR_UNIMPLEMENTED ? 0 : r < 0 ? err_copy(err, own) : r;
}

int nri_update_pod(struct ctx *ctx, struct nri *n, struct cri_pod *p,
		   const CRI(LinuxContainerResources) * overhead,
		   const CRI(LinuxContainerResources) * res, struct err *err)
{
	NRI(UpdatePodSandboxRequest) req = NRI_INIT(UPDATE_POD_SANDBOX_REQUEST);
	NRI(UpdatePodSandboxResponse) * resp;
	struct nri_asking ask;
	int r = nobody(n) ? 1 : nri_pod(ctx, n->c, p, &req.pod, err);

	if (r == 0)
		r = resources(ctx->arena, n->c, overhead, &req.overhead_linux_resources, err);
	if (r == 0)
		r = resources(ctx->arena, n->c, res, &req.linux_resources, err);
	if (r == 0)
		r = nri_ask_begin(ctx, n, &ask, err);
	if (r != 0)
		return MIN(r, 0);
	for (size_t i = 0; r == 0 && i < ask.count; i++) {
		struct err own = ERR_INIT;
		r = nri_plugin_call(ctx, ask.v[i], NRI_EVENT(UPDATE_POD_SANDBOX),
				    "UpdatePodSandbox", &req.base,
				    DESC(update_pod_sandbox_response), &resp, &own);
		r = MIN(known(r, &own, err), 0);
	}
	nri_ask_end(&ask);
	return r;
}

/* ---- creating ---- */

struct create {
	struct ctx *ctx;
	struct nri *n;
	NRI(PodSandbox) * pod;
	struct cri_container *k;
	json_t *spec;
	struct nri_owners owners;
	struct nri_updates updates;
	struct nri_classes classes;
	struct buf adjusted; /* all adjustments, packed one behind the other: their sum */
	const char **cdi;
	size_t n_cdi, cap_cdi;
	bool mounts;
};

static int take_adjustment(struct create *s, const NRI(ContainerAdjustment) * adj,
			   const char *plugin, struct err *err)
{
	int r = nri_adjust(s->spec, adj, &s->owners, s->k->o.id, plugin, &s->classes, err);
	size_t n;

	if (r < 0)
		return r;
	uint8_t *packed = rpc_pack(s->ctx->arena, &adj->base, &n);
	if (!packed || buf_add(&s->adjusted, packed, n) < 0)
		return err_nomem(err);
	s->cdi = arena_grow(s->ctx->arena, s->cdi, &s->cap_cdi, s->n_cdi + adj->n_cdi_devices,
			    sizeof(*s->cdi));
	if (!s->cdi && adj->n_cdi_devices)
		return err_nomem(err);
	for (size_t i = 0; i < adj->n_cdi_devices; i++)
		s->cdi[s->n_cdi++] = adj->cdi_devices[i]->name;
	s->mounts = s->mounts || adj->n_mounts;
	return 0;
}

/* The container as earlier plugins have made it. */
static int ask_create(struct create *s, struct nri_plugin *p, struct err *err)
{
	NRI(CreateContainerRequest) req = NRI_INIT(CREATE_CONTAINER_REQUEST);
	NRI(CreateContainerResponse) * resp;
	const char *name = nri_plugin_name(p);
	int r = nri_container(s->ctx, s->n->c, s->k, s->spec, &req.container, err);

	req.pod = s->pod;
	if (r == 0)
		r = nri_plugin_call(s->ctx, p, NRI_EVENT(CREATE_CONTAINER), "CreateContainer",
				    &req.base, DESC(create_container_response), &resp, err);
	if (r <= 0)
		return r;
	r = nri_message_check(&resp->base, err);
	if (r < 0)
		return err_prefix(err, "NRI plugin %s", name);
	if (resp->adjust)
		r = take_adjustment(s, resp->adjust, name, err);
	if (r == 0)
		r = nri_updates_add(&s->updates, resp->update, resp->n_update, name, err);
	if (r == 0)
		r = nri_updates_evict(&s->updates, resp->evict, resp->n_evict, err);
	return r < 0 ? err_prefix(err, "NRI plugin %s", name) : 0;
}

static void *new_message(struct arena *a, const ProtobufCMessageDescriptor *d)
{
	void *m = arena_zalloc(a, d->sizeof_message);
	if (m)
		message_init(d, m);
	return m;
}
#define NEW(a, m) new_message(a, DESC(m))

/* Fields with one owner, and those with one for each key. */
static int owners_add(struct arena *a, NRI(FieldOwners) * f, const struct nri_owner *w,
		      struct err *err)
{
	if (!*w->key) {
		NRI(FieldOwners__SimpleEntry) *e = NEW(a, field_owners__simple_entry);
		if (!e)
			return err_nomem(err);
		e->key = w->field;
		e->value = (char *)w->plugin;
		f->simple[f->n_simple++] = e;
		return 0;
	}
	size_t i = 0;
	while (i < f->n_compound && f->compound[i]->key != w->field)
		i++;
	if (i == f->n_compound) {
		NRI(FieldOwners__CompoundEntry) *e = NEW(a, field_owners__compound_entry);
		if (!e || !(e->value = NEW(a, compound_field_owners)) ||
		    !(e->value->owners = arena_new_array(a, NRI(CompoundFieldOwners__OwnersEntry) *,
							 NRI_OWNERS_MAX)))
			return err_nomem(err);
		e->key = w->field;
		f->compound[f->n_compound++] = e;
	}
	NRI(CompoundFieldOwners__OwnersEntry) *o = NEW(a, compound_field_owners__owners_entry);
	NRI(CompoundFieldOwners) *in = f->compound[i]->value;
	if (!o)
		return err_nomem(err);
	o->key = (char *)w->key;
	o->value = (char *)w->plugin;
	in->owners[in->n_owners++] = o;
	return 0;
}

static int owners_message(struct arena *a, const struct nri_owners *o, const char *container,
			  NRI(OwningPlugins) * *ret, struct err *err)
{
	NRI(OwningPlugins) *m = NEW(a, owning_plugins);
	NRI(OwningPlugins__OwnersEntry) *e = NEW(a, owning_plugins__owners_entry);
	NRI(FieldOwners) *f = NEW(a, field_owners);

	if (!m || !e || !f ||
	    !(m->owners = arena_new_array(a, NRI(OwningPlugins__OwnersEntry) *, 1)) ||
	    !(f->simple = arena_new_array(a, NRI(FieldOwners__SimpleEntry) *, o->n + 1)) ||
	    !(f->compound = arena_new_array(a, NRI(FieldOwners__CompoundEntry) *, o->n + 1)))
		return err_nomem(err);
	e->key = (char *)container;
	e->value = f;
	m->owners[0] = e;
	m->n_owners = 1;
	for (size_t i = 0; i < o->n; i++)
		if (streq(o->v[i].container, container)) {
			int r = owners_add(a, f, &o->v[i], err);
			if (r < 0)
				return r;
		}
	*ret = m;
	return 0;
}

static int plugins_message(struct arena *a, const struct nri_asking *ask,
			   NRI(ValidateContainerAdjustmentRequest) * req, struct err *err)
{
	req->plugins = arena_new_array(a, NRI(PluginInstance) *, ask->count + 1);
	if (!req->plugins)
		return err_nomem(err);
	for (size_t i = 0; i < ask->count; i++) {
		NRI(PluginInstance) *p = NEW(a, plugin_instance);
		if (!p)
			return err_nomem(err);
		p->name = (char *)nri_plugin_base(ask->v[i]);
		p->index = (char *)nri_plugin_idx(ask->v[i]);
		req->plugins[req->n_plugins++] = p;
	}
	return 0;
}

/* What all want together is shown to those that validate. */
static int validate(struct create *s, const struct nri_asking *ask, struct err *err)
{
	NRI(ValidateContainerAdjustmentRequest)
	req = NRI_INIT(VALIDATE_CONTAINER_ADJUSTMENT_REQUEST);
	NRI(ValidateContainerAdjustmentResponse) * resp;
	struct arena *a = s->ctx->arena;
	int r = nri_container(s->ctx, s->n->c, s->k, s->spec, &req.container, err);

	req.pod = s->pod;
	if (r == 0)
		r = nri_validate(&s->n->o.validator, s->pod, req.container, &s->owners, ask->v,
				 ask->count, err);
	if (r == 0)
		r = rpc_unpack(a, DESC(container_adjustment), s->adjusted.data, s->adjusted.len,
			       &req.adjust, err);
	if (r == 0)
		r = owners_message(a, &s->owners, s->k->o.id, &req.owners, err);
	if (r == 0)
		r = plugins_message(a, ask, &req, err);
	for (size_t i = 0; r == 0 && i < ask->count; i++) {
		struct err own = ERR_INIT;
		r = nri_plugin_call(s->ctx, ask->v[i], NRI_EVENT(VALIDATE_CONTAINER_ADJUSTMENT),
				    "ValidateContainerAdjustment", &req.base,
				    DESC(validate_container_adjustment_response), &resp, &own);
		r = known(r, &own, err);
		if (r > 0)
			r = resp->reject
				    ? err_set(err, ERR_FAILED_PRECONDITION,
					      "validator \"%s\" rejected container adjustment, "
					      "reason: %.512s",
					      nri_plugin_name(ask->v[i]), resp->reason)
				    : 0;
	}
	return r;
}

/* A required plugin is missed when there is none at all, too. */
static bool validates(const struct nri *n)
{
	return n && n->o.validator.enable;
}

static int inject(struct create *s, struct err *err)
{
	int r = s->n_cdi ? cri_cdi_inject(s->n->c, s->spec, s->cdi, s->n_cdi, err) : 0;

	if (r == 0)
		r = nri_classes_apply(s->n->c, s->spec, &s->classes, err);
	return r == 0 && s->mounts ? nri_sort_mounts(s->spec, err) : r;
}

int nri_create_container(struct ctx *ctx, struct nri *n, struct cri_pod *p, struct cri_container *k,
			 json_t *spec, struct err *err)
{
	struct create s = {.ctx = ctx, .n = n, .k = k, .spec = spec};
	struct nri_asking ask = {0};
	int r = nobody(n) && !validates(n) ? 1 : nri_pod(ctx, n->c, p, &s.pod, err);

	s.owners.arena = ctx->arena;
	s.updates = (struct nri_updates){.owners = &s.owners, .creating = k->o.id};
	if (r == 0)
		r = nri_ask_begin(ctx, n, &ask, err);
	if (r != 0)
		return MIN(r, 0);
	for (size_t i = 0; r == 0 && i < ask.count; i++)
		r = ask_create(&s, ask.v[i], err);
	if (r == 0)
		r = validate(&s, &ask, err);
	nri_ask_end(&ask);
	if (r == 0)
		r = inject(&s, err);
	if (r == 0)
		nri_updates_apply(ctx, n->c, &s.updates, "", NULL, NULL);
	nri_updates_done(&s.updates);
	buf_done(&s.adjusted);
	return r < 0 ? err_prefix(err, "NRI container adjustment") : 0;
}

/* ---- updating, stopping ---- */

/* The request as earlier plugins have changed it. */
static int ask_update(struct ctx *ctx, struct nri_plugin *p, NRI(UpdateContainerRequest) * req,
		      struct nri_updates *u, struct err *err)
{
	NRI(UpdateContainerResponse) * resp;
	json_t *own = json_obj(u->containers, req->container->id);
	int r = nri_resources_of_spec(ctx->arena, own, &req->linux_resources, err);

	if (r == 0)
		r = nri_plugin_call(ctx, p, NRI_EVENT(UPDATE_CONTAINER), "UpdateContainer",
				    &req->base, DESC(update_container_response), &resp, err);
	if (r <= 0)
		return r;
	r = nri_message_check(&resp->base, err);
	if (r == 0)
		r = nri_updates_add(u, resp->update, resp->n_update, nri_plugin_name(p), err);
	if (r == 0)
		r = nri_updates_evict(u, resp->evict, resp->n_evict, err);
	return r < 0 ? err_prefix(err, "NRI plugin %s", nri_plugin_name(p)) : 0;
}

int nri_update_container(struct ctx *ctx, struct nri *n, struct cri_pod *p, struct cri_container *k,
			 const CRI(LinuxContainerResources) * *res, struct err *err)
{
	NRI(UpdateContainerRequest) req = NRI_INIT(UPDATE_CONTAINER_REQUEST);
	struct nri_owners owners = {.arena = ctx->arena};
	struct nri_updates u = {.owners = &owners, .creating = "", .containers = json_object()};
	const CRI(LinuxContainerResources) *fresh = NULL;
	struct nri_asking ask = {0};
	json_t *own = NULL;
	int r = !u.containers ? err_nomem(err) : nobody(n) ? 1 : 0;

	if (r == 0)
		r = nri_resources_of_cri(n->c, *res, &own, err);
	if (r == 0 && json_object_set_new(u.containers, k->o.id, own) < 0)
		r = err_nomem(err);
	if (r == 0)
		r = nri_pod(ctx, n->c, p, &req.pod, err);
	if (r == 0)
		r = nri_container(ctx, n->c, k, NULL, &req.container, err);
	if (r == 0)
		r = nri_ask_begin(ctx, n, &ask, err);
	for (size_t i = 0; r == 0 && i < ask.count; i++)
		r = ask_update(ctx, ask.v[i], &req, &u, err);
	nri_ask_end(&ask);
	if (r == 0)
		r = cri_resources_of_spec(ctx->arena, own, &fresh, err);
	if (r == 0) {
		*res = fresh;
		nri_updates_apply(ctx, n->c, &u, k->o.id, NULL, NULL);
	}
	nri_updates_done(&u);
	return MIN(r, 0);
}

int nri_stop_container(struct ctx *ctx, struct nri *n, struct cri_pod *p, struct cri_container *k,
		       struct err *err)
{
	NRI(StopContainerRequest) req = NRI_INIT(STOP_CONTAINER_REQUEST);
	NRI(StopContainerResponse) * resp;
	struct nri_owners owners = {.arena = ctx->arena};
	struct nri_updates u = {.owners = &owners, .creating = ""};
	struct nri_asking ask = {0};
	struct err own = ERR_INIT;

	/* Once: a container that is stopped also ends. Who comes second goes on when it is told,
	 * so that plugins hear of nothing that follows before. */
	pthread_mutex_lock(&k->o.lock);
	bool again = k->nri_stopped;
	while (again && k->nri_telling && cri_object_wait(ctx, &k->o, NULL) == 0)
		;
	if (!again)
		k->nri_stopped = k->nri_telling = true;
	pthread_mutex_unlock(&k->o.lock);
	if (again)
		return 0;
	int r = nobody(n) ? 1 : nri_pod(ctx, n->c, p, &req.pod, &own);

	if (r == 0)
		r = nri_container(ctx, n->c, k, NULL, &req.container, &own);
	if (r == 0)
		r = nri_ask_begin(ctx, n, &ask, &own);
	for (size_t i = 0; r == 0 && i < ask.count; i++) {
		r = nri_plugin_call(ctx, ask.v[i], NRI_EVENT(STOP_CONTAINER), "StopContainer",
				    &req.base, DESC(stop_container_response), &resp, &own);
		if (r > 0 && (r = nri_message_check(&resp->base, &own)) == 0)
			r = nri_updates_add(&u, resp->update, resp->n_update,
					    nri_plugin_name(ask.v[i]), &own);
	}
	nri_ask_end(&ask);
	if (r == 0)
		nri_updates_apply(ctx, n->c, &u, k->o.id, NULL, NULL);
	nri_updates_done(&u);
	pthread_mutex_lock(&k->o.lock);
	k->nri_telling = false;
	pthread_cond_broadcast(&k->o.changed);
	pthread_mutex_unlock(&k->o.lock);
	/* It has ended; nobody can refuse that. */
	if (r < 0)
		log_error("NRI: container %s: %s", k->o.id, own.text);
	return 0;
}
