/* SPDX-License-Identifier: Apache-2.0 */
/* Pods and containers as plugins are told of them. */
#include "base/json.h"
#include "base/str.h"
#include "cri/container.h"
#include "cri/nri_internal.h"
#include "cri/spec.h"
#include "oci/spec.h"

/* A Synchronize request may have that many bytes. */
#define SYNC_MAX (3u << 20)

static void *new_message(struct arena *a, const ProtobufCMessageDescriptor *d)
{
	void *m = arena_zalloc(a, d->sizeof_message);
	if (m)
		message_init(d, m);
	return m;
}

#define DESC(m) &nri__pkg__api__v1alpha1__##m##__descriptor
#define NEW(a, m) new_message(a, DESC(m))

/* A map field of the CRI into one of ours; what is in @more comes last, and wins. */
static int map_copy(struct arena *a, void *entries, size_t n, const json_t *more,
		    const ProtobufCMessageDescriptor *desc, void *ret, size_t *ret_n,
		    struct err *err)
{
	struct nri_entry *const *v = entries;
	json_t *o _cleanup_json_ = json_object();

	for (size_t i = 0; o && i < n; i++)
		json_object_set_new(o, v[i]->key, json_string(str_or(v[i]->value, "")));
	if (!o || (more && json_object_update(o, (json_t *)more) < 0))
		return err_nomem(err);
	return nri_map_of_json(a, o, desc, ret, ret_n, err);
}

static int record_spec(struct ctx *ctx, struct cri *c, const char *id, json_t **ret,
		       struct err *err)
{
	struct container k;
	struct err own = ERR_INIT;
	int r = container_get(ctx, c->o.db, id, &k, &own);

	*ret = NULL;
	if (r == -ERR_NOT_FOUND)
		return 0;
	return r < 0 ? err_copy(err, &own) : json_parse(k.spec.value, k.spec.len, ret, err);
}

/* ---- resources ---- */

int nri_resources_of_cri(struct cri *c, const CRI(LinuxContainerResources) * r, json_t **ret,
			 struct err *err)
{
	json_t *spec = json_pack("{s:{s:{}}}", "linux", "resources");
	int e = spec ? 0 : err_nomem(err);

	if (e == 0 && r)
		e = cri_spec_update_resources(spec, r, c->config, err);
	if (e < 0)
		json_decref(spec);
	else
		*ret = spec;
	return e;
}

static int resources(struct arena *a, struct cri *c, const CRI(LinuxContainerResources) * r,
		     NRI(LinuxResources) * *ret, struct err *err)
{
	json_t *spec _cleanup_json_ = NULL;
	int e = nri_resources_of_cri(c, r, &spec, err);
	return e < 0 ? e : nri_resources_of_spec(a, spec, ret, err);
}

/* ---- pods ---- */

static int pod_linux(struct ctx *ctx, struct cri *c, struct cri_pod *p,
		     const CRI(PodSandboxConfig) * conf, NRI(PodSandbox) * m, struct err *err)
{
	const CRI(LinuxPodSandboxConfig) *from = conf->linux;
	NRI(LinuxPodSandbox) *l = m->linux = NEW(ctx->arena, linux_pod_sandbox);
	json_t *spec _cleanup_json_ = NULL;
	int r = l ? record_spec(ctx, c, p->o.id, &spec, err) : err_nomem(err);

	if (r == 0 && from) {
		l->cgroup_parent = from->cgroup_parent;
		if (from->overhead)
			r = resources(ctx->arena, c, from->overhead, &l->pod_overhead, err);
		if (r == 0 && from->resources)
			r = resources(ctx->arena, c, from->resources, &l->pod_resources, err);
	}
	if (r < 0 || !spec)
		return r;
	l->cgroups_path =
		arena_strdup(ctx->arena, json_str(json_obj(spec, "linux"), "cgroupsPath", ""));
	if (!l->cgroups_path)
		return err_nomem(err);
	r = nri_namespaces_of_spec(ctx->arena, spec, &l->namespaces, &l->n_namespaces, err);
	return r < 0 ? r : nri_resources_of_spec(ctx->arena, spec, &l->resources, err);
}

static int pod_ips(struct arena *a, struct cri_pod *p, NRI(PodSandbox) * m, struct err *err)
{
	size_t n = 1;
	MUTEX_GUARD(&p->o.lock);

	m->pid = p->pid;
	if (str_empty(p->ip))
		return 0;
	for (size_t i = 0; p->additional_ips && p->additional_ips[i]; i++)
		n++;
	m->ips = arena_new_array(a, char *, n);
	if (!m->ips)
		return err_nomem(err);
	m->ips[m->n_ips++] = (char *)p->ip;
	while (m->n_ips < n) {
		m->ips[m->n_ips] = (char *)p->additional_ips[m->n_ips - 1];
		m->n_ips++;
	}
	return 0;
}

int nri_pod(struct ctx *ctx, struct cri *c, struct cri_pod *p, NRI(PodSandbox) * *ret,
	    struct err *err)
{
	struct arena *a = ctx->arena;
	NRI(PodSandbox) *m = NEW(a, pod_sandbox);

	if (!m)
		return err_nomem(err);
	pthread_mutex_lock(&p->o.lock);
	const CRI(PodSandboxConfig) *conf = p->config;
	pthread_mutex_unlock(&p->o.lock);
	m->id = (char *)p->o.id;
	m->name = conf->metadata->name;
	m->uid = conf->metadata->uid;
	m->namespace_ = conf->metadata->namespace_;
	m->runtime_handler = (char *)p->handler;
	int r = map_copy(a, conf->labels, conf->n_labels, NULL, DESC(pod_sandbox__labels_entry),
			 &m->labels, &m->n_labels, err);
	if (r == 0)
		r = map_copy(a, conf->annotations, conf->n_annotations, NULL,
			     DESC(pod_sandbox__annotations_entry), &m->annotations,
			     &m->n_annotations, err);
	if (r == 0)
		r = pod_ips(a, p, m, err);
	if (r == 0)
		r = pod_linux(ctx, c, p, conf, m, err);
	if (r == 0)
		*ret = m;
	return r;
}

/* ---- containers ---- */

static NRI(ContainerState) state_of(const struct cri_status *s)
{
	switch (cri_status_state(s)) {
	case RUNTIME__V1__CONTAINER_STATE__CONTAINER_CREATED:
		return NRI__PKG__API__V1ALPHA1__CONTAINER_STATE__CONTAINER_CREATED;
	case RUNTIME__V1__CONTAINER_STATE__CONTAINER_RUNNING:
		return NRI__PKG__API__V1ALPHA1__CONTAINER_STATE__CONTAINER_RUNNING;
	case RUNTIME__V1__CONTAINER_STATE__CONTAINER_EXITED:
		return NRI__PKG__API__V1ALPHA1__CONTAINER_STATE__CONTAINER_STOPPED;
	default:
		return NRI__PKG__API__V1ALPHA1__CONTAINER_STATE__CONTAINER_UNKNOWN;
	}
}

static int container_status(struct arena *a, struct cri_container *k, NRI(Container) * m,
			    const CRI(ContainerConfig) * *ret_conf, struct err *err)
{
	MUTEX_GUARD(&k->o.lock);
	const struct cri_status *s = &k->status;

	*ret_conf = k->config;
	m->state = state_of(s);
	m->pid = s->pid;
	m->created_at = s->created_at;
	m->started_at = s->started_at;
	m->finished_at = s->finished_at;
	m->exit_code = s->exit_code;
	m->status_reason = arena_strdup(a, str_or(s->reason, ""));
	m->status_message = arena_strdup(a, str_or(s->message, ""));
	return m->status_reason && m->status_message ? 0 : err_nomem(err);
}

static int container_cdi(struct arena *a, const CRI(ContainerConfig) * conf, NRI(Container) * m,
			 struct err *err)
{
	m->cdi_devices = arena_new_array(a, NRI(CDIDevice) *, conf->n_cdi_devices + 1);
	if (!m->cdi_devices)
		return err_nomem(err);
	for (size_t i = 0; i < conf->n_cdi_devices; i++) {
		NRI(CDIDevice) *d = NEW(a, cdidevice);
		if (!d)
			return err_nomem(err);
		d->name = conf->cdi_devices[i]->name;
		m->cdi_devices[m->n_cdi_devices++] = d;
	}
	return 0;
}

static int container_profile(struct arena *a, const CRI(ContainerConfig) * conf, NRI(Container) * m,
			     struct err *err)
{
	const CRI(SecurityProfile) *p = conf->linux && conf->linux->security_context
						? conf->linux->security_context->seccomp
						: NULL;
	NRI(SecurityProfile) *out = p ? NEW(a, security_profile) : NULL;

	if (!p)
		return 0;
	if (!out)
		return err_nomem(err);
	/* The numbers are the same. */
	out->profile_type = (NRI(SecurityProfile__ProfileType))p->profile_type;
	out->localhost_ref = p->localhost_ref;
	m->linux->seccomp_profile = out;
	return 0;
}

int nri_container(struct ctx *ctx, struct cri *c, struct cri_container *k, const json_t *spec,
		  NRI(Container) * *ret, struct err *err)
{
	struct arena *a = ctx->arena;
	NRI(Container) *m = NEW(a, container);
	const CRI(ContainerConfig) * conf;
	json_t *own _cleanup_json_ = NULL;
	int r = m ? container_status(a, k, m, &conf, err) : err_nomem(err);

	if (r == 0 && !spec) {
		r = record_spec(ctx, c, k->o.id, &own, err);
		spec = own;
	}
	if (r < 0)
		return r;
	m->id = (char *)k->o.id;
	m->pod_sandbox_id = (char *)k->pod_id;
	m->name = conf->metadata->name;
	r = map_copy(a, conf->labels, conf->n_labels, NULL, DESC(container__labels_entry),
		     &m->labels, &m->n_labels, err);
	if (r == 0)
		r = map_copy(a, conf->annotations, conf->n_annotations,
			     json_obj(spec, "annotations"), DESC(container__annotations_entry),
			     &m->annotations, &m->n_annotations, err);
	if (r == 0)
		r = nri_container_of_spec(a, spec, m, err);
	if (r == 0)
		r = container_cdi(a, conf, m, err);
	if (r == 0)
		r = container_profile(a, conf, m, err);
	if (r == 0)
		*ret = m;
	return r;
}

/* ---- all of them ---- */

struct picture {
	NRI(PodSandbox) * *pods;
	NRI(Container) * *containers;
	size_t n_pods, n_containers;
};

static int take_picture(struct ctx *ctx, struct cri *c, struct picture *ret, struct err *err)
{
	struct cri_object **pods = NULL, **all = NULL;
	size_t n_pods = 0, n_all = 0;
	int r = cri_table_list(c->pods, ctx->arena, &pods, &n_pods, err);

	if (r == 0)
		r = cri_table_list(c->containers, ctx->arena, &all, &n_all, err);
	ret->pods = arena_new_array(ctx->arena, NRI(PodSandbox) *, n_pods + 1);
	ret->containers = arena_new_array(ctx->arena, NRI(Container) *, n_all + 1);
	if (r == 0 && (!ret->pods || !ret->containers))
		r = err_nomem(err);
	for (size_t i = 0; r == 0 && i < n_pods; i++)
		r = nri_pod(ctx, c, (struct cri_pod *)pods[i], &ret->pods[ret->n_pods++], err);
	for (size_t i = 0; r == 0 && i < n_all; i++) {
		struct cri_container *k = (struct cri_container *)all[i];
		pthread_mutex_lock(&k->o.lock);
		bool over = cri_status_state(&k->status) ==
			    RUNTIME__V1__CONTAINER_STATE__CONTAINER_EXITED;
		pthread_mutex_unlock(&k->o.lock);
		if (!over)
			r = nri_container(ctx, c, k, NULL, &ret->containers[ret->n_containers++],
					  err);
	}
	if (pods)
		cri_objects_unref(pods, n_pods);
	if (all)
		cri_objects_unref(all, n_all);
	return r;
}

int nri_synchronize(struct ctx *ctx, struct nri *n, struct nri_plugin *p,
		    NRI(SynchronizeResponse) * *ret, struct err *err)
{
	struct picture all = {0};
	size_t pod = 0, container = 0;
	int r = take_picture(ctx, n->c, &all, err);

	while (r == 0) {
		NRI(SynchronizeRequest) req = NRI_INIT(SYNCHRONIZE_REQUEST);
		NRI(SynchronizeResponse) * resp;
		size_t bytes = 0;

		req.pods = all.pods + pod;
		req.containers = all.containers + container;
		while (pod < all.n_pods && (bytes == 0 || bytes < SYNC_MAX)) {
			bytes += protobuf_c_message_get_packed_size(&all.pods[pod++]->base);
			req.n_pods++;
		}
		while (container < all.n_containers && (bytes == 0 || bytes < SYNC_MAX)) {
			bytes += protobuf_c_message_get_packed_size(
				&all.containers[container++]->base);
			req.n_containers++;
		}
		req.more = pod < all.n_pods || container < all.n_containers;
		r = nri_plugin_call(ctx, p, 0, "Synchronize", &req.base, DESC(synchronize_response),
				    &resp, err);
		if (r == 0)
			return err_set(err, ERR_UNAVAILABLE,
				       "the plugin could not be synchronised");
		if (r < 0)
			return r;
		r = nri_message_check(&resp->base, err);
		if (r == 0 && !req.more) {
			*ret = resp;
			return 0;
		}
		if (r == 0 && (resp->n_update > 0 || !resp->more))
			return err_set(err, ERR_FAILED_PRECONDITION,
				       "the plugin does not handle split sync requests");
	}
	return r;
}
