/* SPDX-License-Identifier: Apache-2.0 */
/* UpdateContainerResources: in the spec first, which is put back when the running task refuses. */
#include "base/json.h"
#include "base/log.h"
#include "base/str.h"
#include "cri/container.h"
#include "cri/nri.h"
#include "cri/spec.h"
#include "oci/spec.h"

#define SH(x) Containerd__Task__V3__##x
#define RESOURCES_TYPE_URL "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources"

static int save_spec(struct ctx *ctx, struct cri *c, const char *id, const struct any *spec,
		     struct err *err)
{
	static char *const paths[] = {(char *)"spec"};
	struct container k = {.id = id, .spec = *spec}, ret;

	return container_update(ctx, c->o.db, &k, paths, 1, &ret, err);
}

static int update_task(struct ctx *ctx, struct cri *c, const char *id, const json_t *spec,
		       struct err *err)
{
	_cleanup_(task_unrefp) struct task *t = NULL;
	_cleanup_free_ char *text = json_dumps(spec_get(spec, "linux/resources"), JSON_COMPACT);
	SH(UpdateTaskRequest) req = CONTAINERD__TASK__V3__UPDATE_TASK_REQUEST__INIT;
	Google__Protobuf__Any any = GOOGLE__PROTOBUF__ANY__INIT;
	int r = text ? runtime_get(ctx, c->o.runtime, id, &t, err) : err_nomem(err);

	if (r < 0)
		return r;
	any.type_url = (char *)RESOURCES_TYPE_URL;
	any.value = (ProtobufCBinaryData){.len = strlen(text), .data = (uint8_t *)text};
	req.id = (char *)id;
	req.resources = &any;
	return task_call(ctx, t, "Update", &req.base, &google__protobuf__empty__descriptor, NULL,
			 err);
}

struct change {
	const CRI(LinuxContainerResources) * resources;
};

static void set_resources(struct cri_status *s, void *arg)
{
	const struct change *ch = arg;
	s->resources = ch->resources;
}

int cri_container_change_resources(struct ctx *ctx, struct cri *c, struct cri_container *k,
				   cri_resources_fn fn, void *arg, struct err *err)
{
	struct container record;
	struct change ch;
	bool running;
	int r;

	pthread_mutex_lock(&k->o.lock);
	bool removing = k->removing;
	running = cri_status_state(&k->status) == RUNTIME__V1__CONTAINER_STATE__CONTAINER_RUNNING;
	pthread_mutex_unlock(&k->o.lock);
	if (removing)
		return err_set(err, ERR_UNKNOWN, "container \"%s\" is in removing state", k->o.id);
	r = container_get(ctx, c->o.db, k->o.id, &record, err);
	if (r < 0)
		return r;
	json_t *spec _cleanup_json_ = NULL;
	r = json_parse(record.spec.value, record.spec.len, &spec, err);
	if (r == 0)
		r = fn(spec, arg, err);
	if (r < 0)
		return err_prefix(err, "failed to update resource in spec");
	_cleanup_free_ char *text = json_dumps(spec, JSON_COMPACT);
	if (!text)
		return err_nomem(err);
	struct any fresh = {record.spec.type_url, text, strlen(text)}, old = record.spec;
	r = save_spec(ctx, c, k->o.id, &fresh, err);
	if (r == 0 && running) {
		struct err own = ERR_INIT;
		r = update_task(ctx, c, k->o.id, spec, &own);
		/* It has just ended. */
		r = r == -ERR_NOT_FOUND ? 0 : r < 0 ? err_copy(err, &own) : 0;
	}
	if (r == 0) {
		r = cri_resources_of_spec(k->o.arena, spec, &ch.resources, err);
		return r < 0 ? r : cri_container_change(c, k, set_resources, &ch, err);
	}
	struct err undo = ERR_INIT;
	struct ctx bg = cri_background(c, ctx->arena, c->config->defer_cleanup_timeout_ns);
	if (save_spec(&bg, c, k->o.id, &old, &undo) < 0)
		log_error("container %s: put its spec back: %s", k->o.id, undo.text);
	return err_prefix(err, "failed to update resources of container \"%s\"", k->o.id);
}

struct request {
	const struct cri_config *config;
	const CRI(LinuxContainerResources) * resources;
};

static int change_spec(json_t *spec, void *arg, struct err *err)
{
	const struct request *q = arg;
	return cri_spec_update_resources(spec, q->resources, q->config, err);
}

static int update(struct ctx *ctx, struct cri *c, struct cri_container *k,
		  const CRI(LinuxContainerResources) * res, struct err *err)
{
	struct request q = {c->config, res};
	return cri_container_change_resources(ctx, c, k, change_spec, &q, err);
}

/* Annotations of the request join those of the container. */
static int merge_annotations(struct cri_container *k,
			     const CRI(UpdateContainerResourcesRequest) * q, struct err *err)
{
	struct arena *a = k->o.arena;
	CRI(ContainerConfig) *conf = arena_new_obj(a, CRI(ContainerConfig));
	size_t n = k->config->n_annotations, m = q->n_annotations;

	if (m == 0)
		return 0;
	MUTEX_GUARD(&k->o.lock);
	CRI(ContainerConfig__AnnotationsEntry) **v =
		arena_new_array(a, CRI(ContainerConfig__AnnotationsEntry) *, n + m);
	if (!conf || !v)
		return err_nomem(err);
	*conf = *k->config;
	for (size_t i = 0; i < n; i++)
		v[i] = k->config->annotations[i];
	for (size_t i = 0; i < m; i++) {
		size_t at = 0;
		while (at < n && !streq(v[at]->key, q->annotations[i]->key))
			at++;
		v[at] = arena_new_obj(a, CRI(ContainerConfig__AnnotationsEntry));
		if (!v[at])
			return err_nomem(err);
		*v[at] = (CRI(ContainerConfig__AnnotationsEntry))CRI_INIT(
			CONTAINER_CONFIG__ANNOTATIONS_ENTRY);
		v[at]->key = arena_strdup(a, q->annotations[i]->key);
		v[at]->value = arena_strdup(a, q->annotations[i]->value);
		if (!v[at]->key || !v[at]->value)
			return err_nomem(err);
		n += at == n;
	}
	conf->annotations = v;
	conf->n_annotations = n;
	k->config = conf;
	return 0;
}

static int save_metadata(struct ctx *ctx, struct cri *c, struct cri_container *k, struct err *err)
{
	static char *const paths[] = {(char *)"extensions." CRI_EXT_CONTAINER};
	struct any_entry ext = {.key = CRI_EXT_CONTAINER};
	struct container rec = {.id = k->o.id, .extensions = &ext, .n_extensions = 1}, ret;
	int r = cri_container_pack(ctx->arena, k, &ext.value, err);

	return r < 0 ? r : container_update(ctx, c->o.db, &rec, paths, 1, &ret, err);
}

int cri_update_container_resources(struct rpc_call *call, const void *req, struct err *err)
{
	const CRI(UpdateContainerResourcesRequest) *q = req;
	CRI(UpdateContainerResourcesResponse) resp = CRI_INIT(UPDATE_CONTAINER_RESOURCES_RESPONSE);
	_cleanup_container_ struct cri_container *k = NULL;
	const CRI(LinuxContainerResources) *res = q->linux;
	struct ctx *ctx = rpc_ctx(call);
	struct cri *c;
	int r = cri_of(call, &c, err);

	if (r == 0)
		r = cri_table_get(c->containers, q->container_id, &k, err);
	if (r == 0)
		r = cri_object_begin(ctx, &k->o, err);
	if (r < 0)
		return r;
	struct cri_pod *p = cri_container_pod(c, k);
	if (p && res)
		r = nri_update_container(ctx, c->nri, p, k, &res, err);
	if (r == 0 && res)
		r = update(ctx, c, k, res, err);
	if (r == 0)
		r = merge_annotations(k, q, err);
	if (r == 0 && q->n_annotations)
		r = save_metadata(ctx, c, k, err);
	if (r == 0 && p)
		nri_event(ctx, c->nri, NRI_POST_UPDATE_CONTAINER, p, k);
	if (p)
		cri_object_unref(&p->o);
	cri_object_end(&k->o);
	return r < 0 ? r : rpc_send(call, &resp.base, err);
}
