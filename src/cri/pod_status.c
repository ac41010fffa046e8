/* SPDX-License-Identifier: Apache-2.0 */
/* What is told of pods. */
#include <stdio.h>

#include "base/json.h"
#include "base/str.h"
#include "base/time.h"
#include "core/sandbox.h"
#include "cri/nri.h"
#include "cri/network.h"
#include "cri/podsandbox.h"
#include "cri/spec_internal.h"
#include "rpc/pb_json.h"

#define STREAM_CHUNK 100

bool cri_labels_match(void *want, size_t n_want, void *have, size_t n_have)
{
	CRI(PodSandboxConfig__LabelsEntry) **w = want, **h = have;

	for (size_t i = 0; i < n_want; i++) {
		size_t k = 0;
		while (k < n_have &&
		       !(streq(h[k]->key, w[i]->key) && streq(h[k]->value, w[i]->value)))
			k++;
		if (k == n_have)
			return false;
	}
	return true;
}

static CRI(PodSandboxState) state_of(const struct cri_pod *p)
{
	return p->state == CRI_POD_READY ? RUNTIME__V1__POD_SANDBOX_STATE__SANDBOX_READY
					 : RUNTIME__V1__POD_SANDBOX_STATE__SANDBOX_NOTREADY;
}

#define NEW(a, type, NAME)                                            \
	({                                                            \
		CRI(type) *m_ = arena_new_obj(a, CRI(type));          \
		if (m_)                                               \
			*m_ = (CRI(type))RUNTIME__V1__##NAME##__INIT; \
		m_;                                                   \
	})

/* ---- one ---- */

static int network_status(struct arena *a, struct cri_pod *p, CRI(PodSandboxStatus) * s,
			  struct err *err)
{
	CRI(PodSandboxNetworkStatus) *n =
		NEW(a, PodSandboxNetworkStatus, POD_SANDBOX_NETWORK_STATUS);
	/* The addresses of a pod whose network has gone may be another's by now. */
	bool none = p->host_network || p->netns_closed;
	size_t count = 0;

	if (!n)
		return err_nomem(err);
	s->network = n;
	n->ip = (char *)(none ? "" : str_or(p->ip, ""));
	while (!none && p->additional_ips && p->additional_ips[count])
		count++;
	n->additional_ips = arena_new_array(a, CRI(PodIP) *, count + 1);
	if (!n->additional_ips)
		return err_nomem(err);
	for (; n->n_additional_ips < count; n->n_additional_ips++) {
		CRI(PodIP) *ip = NEW(a, PodIP, POD_IP);
		if (!ip)
			return err_nomem(err);
		ip->ip = (char *)p->additional_ips[n->n_additional_ips];
		n->additional_ips[n->n_additional_ips] = ip;
	}
	return 0;
}

int cri_pod_status(struct ctx *ctx, struct cri *c, struct cri_pod *p, CRI(PodSandboxStatus) * *ret,
		   struct err *err)
{
	CRI(PodSandboxStatus) *s = NEW(ctx->arena, PodSandboxStatus, POD_SANDBOX_STATUS);
	CRI(LinuxPodSandboxStatus) *l =
		NEW(ctx->arena, LinuxPodSandboxStatus, LINUX_POD_SANDBOX_STATUS);
	CRI(Namespace) *n = NEW(ctx->arena, Namespace, NAMESPACE);

	if (!s || !l || !n)
		return err_nomem(err);
	MUTEX_GUARD(&p->o.lock);
	s->id = (char *)p->o.id;
	s->metadata = p->config->metadata;
	s->state = state_of(p);
	s->created_at = p->created_at;
	s->labels = (void *)p->config->labels;
	s->n_labels = p->config->n_labels;
	s->annotations = (void *)p->config->annotations;
	s->n_annotations = p->config->n_annotations;
	s->runtime_handler = (char *)p->handler;
	n->options = (CRI(NamespaceOption) *)cri_namespaces(
		cri_pod_security(p->config)->namespace_options);
	l->namespaces = n;
	s->linux = l;
	int r = network_status(ctx->arena, p, s, err);
	if (r == 0)
		*ret = s;
	return r;
}

/* The verbose part: what an administrator wants to see. NULL = no memory. */
static json_t *info(struct ctx *ctx, struct cri *c, struct cri_pod *p)
{
	struct container k = {0};
	bool kept = container_get(ctx, c->o.db, p->o.id, &k, NULL) == 0;
	json_t *spec = kept ? json_loadb(k.spec.value, k.spec.len, 0, NULL) : NULL,
	       *metadata = NULL;
	struct any any;
	if (cri_pod_pack(ctx->arena, p, &any, NULL) == 0)
		metadata = json_loadb(any.value, any.len, 0, NULL);
	MUTEX_GUARD(&p->o.lock);
	json_t *j = json_pack(
		"{s:I, s:s, s:b, s:s, s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:o}", "pid",
		(json_int_t)p->pid, "processStatus", p->pid ? "running" : "deleted",
		"netNamespaceClosed",
		p->netns_closed || (!p->host_network && !cri_netns_exists(p->netns_path)), "image",
		kept ? str_or(k.image, "") : "", "snapshotKey",
		kept ? str_or(k.snapshot_key, "") : "", "snapshotter",
		kept ? str_or(k.snapshotter, "") : "", "runtimeHandler", p->handler, "runtimeType",
		p->runtime ? p->runtime->type : "", "runtimeOptions",
		p->runtime && p->runtime->options ? json_incref((json_t *)p->runtime->options)
						  : json_null(),
		"config", pb_json(&p->config->base), "runtimeSpec", spec ? spec : json_null(),
		"sandboxMetadata", metadata ? metadata : json_null());
	if (j)
		json_object_set_new(j, "cniResult",
				    p->cni_result ? json_incref(p->cni_result) : json_null());
	return j;
}

int cri_info_entry(struct arena *a, json_t *j, void *ret_entries, size_t *ret_n, struct err *err)
{
	CRI(PodSandboxStatusResponse__InfoEntry) *e =
		arena_new_obj(a, CRI(PodSandboxStatusResponse__InfoEntry)),
						 **v = arena_new_array(
							 a,
							 CRI(PodSandboxStatusResponse__InfoEntry) *,
							 1);
	_cleanup_free_ char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;

	json_decref(j);
	if (!e || !v || !text)
		return err_nomem(err);
	*e = (CRI(PodSandboxStatusResponse__InfoEntry))
		RUNTIME__V1__POD_SANDBOX_STATUS_RESPONSE__INFO_ENTRY__INIT;
	e->key = (char *)"info";
	e->value = arena_strdup(a, text);
	v[0] = e;
	*(CRI(PodSandboxStatusResponse__InfoEntry) ***)ret_entries = v;
	*ret_n = 1;
	return e->value ? 0 : err_nomem(err);
}

int cri_pod_sandbox_status(struct rpc_call *call, const void *req, struct err *err)
{
	const CRI(PodSandboxStatusRequest) *q = req;
	CRI(PodSandboxStatusResponse) resp = CRI_INIT(POD_SANDBOX_STATUS_RESPONSE);
	_cleanup_pod_ struct cri_pod *p = NULL;
	struct ctx *ctx = rpc_ctx(call);
	struct cri_container **v = NULL;
	size_t n = 0;
	struct cri *c;
	int r = cri_of(call, &c, err);

	if (r == 0)
		r = cri_table_get(c->pods, q->pod_sandbox_id, &p, err);
	if (r < 0)
		return r < 0 && err->kind ? err_prefix(err, "failed to get pod sandbox status") : r;
	/* Not later than what is told: an event that comes meanwhile must be the newer one. */
	struct timespec now = time_now();
	resp.timestamp = now.tv_sec * NSEC_PER_SEC + now.tv_nsec;
	r = cri_pod_status(ctx, c, p, &resp.status, err);
	if (r == 0)
		r = cri_pod_containers(ctx, c, p->o.id, &v, &n, err);
	if (r == 0 && n) {
		resp.containers_statuses = arena_new_array(ctx->arena, CRI(ContainerStatus) *, n);
		r = resp.containers_statuses ? 0 : err_nomem(err);
	}
	for (size_t i = 0; r == 0 && i < n; i++)
		r = cri_container_status_of(
			ctx, c, v[i], &resp.containers_statuses[resp.n_containers_statuses++], err);
	if (r == 0 && q->verbose)
		r = cri_info_entry(ctx->arena, info(ctx, c, p), &resp.info, &resp.n_info, err);
	if (r == 0)
		r = rpc_send(call, &resp.base, err);
	cri_objects_unref((struct cri_object **)v, n);
	return r;
}

/* ---- lists ---- */

static bool wanted(struct cri_pod *p, const CRI(PodSandboxFilter) * f)
{
	if (!f)
		return true;
	if (!str_empty(f->id) && !str_has_prefix(p->o.id, f->id))
		return false;
	if (f->state && f->state->state != state_of(p))
		return false;
	return cri_labels_match(f->label_selector, f->n_label_selector, p->config->labels,
				p->config->n_labels);
}

/* The pods stay referenced until the answer is on its way: messages point into them. */
static int list(struct rpc_call *call, const CRI(PodSandboxFilter) * f, struct cri_object ***ret_v,
		size_t *ret_n, CRI(PodSandbox) * **ret_items, size_t *ret_n_items, struct err *err)
{
	struct ctx *ctx = rpc_ctx(call);
	struct cri_object **v = NULL;
	size_t n = 0, k = 0;
	struct cri *c;
	int r = cri_of(call, &c, err);

	if (r == 0)
		r = cri_table_list(c->pods, ctx->arena, &v, &n, err);
	if (r < 0)
		return r;
	CRI(PodSandbox) **items = arena_new_array(ctx->arena, CRI(PodSandbox) *, n + 1);
	*ret_v = v;
	*ret_n = n;
	for (size_t i = 0; items && i < n; i++) {
		struct cri_pod *p = (struct cri_pod *)v[i];
		MUTEX_GUARD(&p->o.lock);
		if (!wanted(p, f))
			continue;
		CRI(PodSandbox) *m = NEW(ctx->arena, PodSandbox, POD_SANDBOX);
		if (!m)
			return err_nomem(err);
		m->id = (char *)p->o.id;
		m->metadata = p->config->metadata;
		m->state = state_of(p);
		m->created_at = p->created_at;
		m->labels = (void *)p->config->labels;
		m->n_labels = p->config->n_labels;
		m->annotations = (void *)p->config->annotations;
		m->n_annotations = p->config->n_annotations;
		m->runtime_handler = (char *)p->handler;
		items[k++] = m;
	}
	*ret_items = items;
	*ret_n_items = k;
	return items ? 0 : err_nomem(err);
}

int cri_list_pod_sandbox(struct rpc_call *call, const void *req, struct err *err)
{
	const CRI(ListPodSandboxRequest) *q = req;
	CRI(ListPodSandboxResponse) resp = CRI_INIT(LIST_POD_SANDBOX_RESPONSE);
	struct cri_object **v = NULL;
	size_t n = 0;
	int r = list(call, q->filter, &v, &n, &resp.items, &resp.n_items, err);

	if (r == 0)
		r = rpc_send(call, &resp.base, err);
	cri_objects_unref(v, n);
	return r;
}

int cri_stream_pod_sandboxes(struct rpc_call *call, const void *req, struct err *err)
{
	const CRI(StreamPodSandboxesRequest) *q = req;
	CRI(PodSandbox) **items = NULL;
	struct cri_object **v = NULL;
	size_t n = 0, n_items = 0;
	int r = list(call, q->filter, &v, &n, &items, &n_items, err);

	for (size_t i = 0; r == 0 && i < n_items; i += STREAM_CHUNK) {
		CRI(StreamPodSandboxesResponse) resp = CRI_INIT(STREAM_POD_SANDBOXES_RESPONSE);
		resp.pod_sandboxes = items + i;
		resp.n_pod_sandboxes = MIN(n_items - i, (size_t)STREAM_CHUNK);
		r = rpc_send(call, &resp.base, err);
	}
	cri_objects_unref(v, n);
	return r;
}

/* ---- resources ---- */

/* The configuration with other resources, in the pod's arena. Begun: nobody else replaces it. */
static int replace_resources(struct cri_pod *p, const CRI(UpdatePodSandboxResourcesRequest) * q,
			     struct err *err)
{
	CRI(PodSandboxConfig) *conf = arena_new_obj(p->o.arena, CRI(PodSandboxConfig));
	CRI(LinuxPodSandboxConfig) *l =
		NEW(p->o.arena, LinuxPodSandboxConfig, LINUX_POD_SANDBOX_CONFIG);
	int r = 0;

	if (!conf || !l)
		return err_nomem(err);
	*conf = *p->config;
	if (conf->linux)
		*l = *conf->linux;
	conf->linux = l;
	MUTEX_GUARD(&p->o.lock);
	if (q->overhead)
		r = cri_message_copy(p->o.arena, &q->overhead->base, &l->overhead, err);
	if (r == 0 && q->resources)
		r = cri_message_copy(p->o.arena, &q->resources->base, &l->resources, err);
	if (r == 0)
		p->config = conf;
	return r;
}

int cri_update_pod_sandbox_resources(struct rpc_call *call, const void *req, struct err *err)
{
	const CRI(UpdatePodSandboxResourcesRequest) *q = req;
	CRI(UpdatePodSandboxResourcesResponse)
	resp = CRI_INIT(UPDATE_POD_SANDBOX_RESOURCES_RESPONSE);
	_cleanup_pod_ struct cri_pod *p = NULL;
	struct sandbox_controller *controller;
	struct ctx *ctx = rpc_ctx(call);
	struct sandbox record;
	struct cri *c;
	int r = cri_of(call, &c, err);

	if (r == 0)
		r = cri_table_get(c->pods, q->pod_sandbox_id, &p, err);
	if (r < 0)
		return r;
	r = cri_object_begin(ctx, &p->o, err);
	if (r < 0)
		return r;
	r = nri_update_pod(ctx, c->nri, p, q->overhead, q->resources, err);
	if (r == 0)
		r = replace_resources(p, q, err);
	if (r == 0)
		r = cri_pod_save(ctx, c, p, err);
	if (r == 0)
		r = cri_controller_of(c, p, &controller, err);
	if (r == 0)
		r = sandbox_get(ctx, c->o.db, p->o.id, &record, err);
	if (r == 0)
		r = controller->ops->update(ctx, controller, p->o.id, &record, NULL, 0, err);
	if (r == 0)
		nri_event(ctx, c->nri, NRI_POST_UPDATE_POD, p, NULL);
	cri_object_end(&p->o);
	return r < 0 ? r : rpc_send(call, &resp.base, err);
}
