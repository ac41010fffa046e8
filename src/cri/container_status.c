/* SPDX-License-Identifier: Apache-2.0 */
/* What is told of containers. */
#include <signal.h>

#include "base/json.h"
#include "base/str.h"
#include "cri/container.h"
#include "cri/image.h"
#include "oci/spec.h"
#include "rpc/pb_json.h"

#define STREAM_CHUNK 100

#define NEW(a, type, NAME)                                            \
	({                                                            \
		CRI(type) *m_ = arena_new_obj(a, CRI(type));          \
		if (m_)                                               \
			*m_ = (CRI(type))RUNTIME__V1__##NAME##__INIT; \
		m_;                                                   \
	})

static bool has_prefix_digest(const char *s)
{
	return str_has_prefix(s, "sha256:");
}

/* How the image is named: its first tag, else its first digest, else its id; and by digest, when
 * one is known. */
static void image_names(struct ctx *ctx, struct cri *c, struct cri_container *k,
			const char **ret_name, const char **ret_ref)
{
	struct cri_image i;
	const char *tag = NULL, *digest = NULL;

	*ret_name = *ret_ref = k->image_ref;
	if (cri_image_resolve(ctx, c->images, k->image_ref, &i, NULL, NULL) < 0)
		return;
	for (const char *const *p = i.references; *p; p++) {
		if (has_prefix_digest(*p))
			continue;
		if (strchr(*p, '@'))
			digest = digest ? digest : *p;
		else
			tag = tag ? tag : *p;
	}
	*ret_name = tag ? tag : digest ? digest : k->image_ref;
	*ret_ref = digest ? digest : k->image_ref;
}

/* What an image may name in ways of its own is told by its number. */
static CRI(Signal) signal_of(const struct cri_container *k)
{
	int want = str_empty(k->stop_signal) ? SIGTERM : cri_signal_number(k->stop_signal);
	const ProtobufCEnumDescriptor *d = &runtime__v1__signal__descriptor;

	if (k->config->stop_signal != RUNTIME__V1__SIGNAL__RUNTIME_DEFAULT)
		return k->config->stop_signal;
	for (unsigned i = 0; want && i < d->n_values; i++)
		if (d->values[i].value != RUNTIME__V1__SIGNAL__RUNTIME_DEFAULT &&
		    cri_signal_number(d->values[i].name) == want)
			return (CRI(Signal))d->values[i].value;
	return RUNTIME__V1__SIGNAL__RUNTIME_DEFAULT;
}

/* Running is recorded before the process starts, but told only then. Under the lock. */
static CRI(ContainerState) told_state(const struct cri_container *k)
{
	CRI(ContainerState) state = cri_status_state(&k->status);
	bool early = state == RUNTIME__V1__CONTAINER_STATE__CONTAINER_RUNNING && k->starting &&
		     !k->begun;

	return early ? RUNTIME__V1__CONTAINER_STATE__CONTAINER_CREATED : state;
}

/* Under the lock. */
static void times_and_reason(const struct cri_container *k, CRI(ContainerStatus) * s)
{
	const struct cri_status *st = &k->status;

	s->state = told_state(k);
	s->created_at = st->created_at;
	s->reason = (char *)str_or(st->reason, "");
	s->message = (char *)str_or(st->message, "");
	if (s->state == RUNTIME__V1__CONTAINER_STATE__CONTAINER_CREATED)
		return;
	s->started_at = st->started_at;
	if (s->state == RUNTIME__V1__CONTAINER_STATE__CONTAINER_RUNNING)
		return;
	s->finished_at = st->finished_at;
	s->exit_code = st->exit_code;
	if (s->state == RUNTIME__V1__CONTAINER_STATE__CONTAINER_EXITED && str_empty(st->reason))
		s->reason = (char *)(st->exit_code ? "Error" : "Completed");
}

int cri_container_status_of(struct ctx *ctx, struct cri *c, struct cri_container *k,
			    CRI(ContainerStatus) * *ret, struct err *err)
{
	CRI(ContainerStatus) *s = NEW(ctx->arena, ContainerStatus, CONTAINER_STATUS);
	CRI(ImageSpec) *image = NEW(ctx->arena, ImageSpec, IMAGE_SPEC);
	CRI(ContainerResources) *res = NEW(ctx->arena, ContainerResources, CONTAINER_RESOURCES);
	CRI(LinuxContainerResources) *none =
		NEW(ctx->arena, LinuxContainerResources, LINUX_CONTAINER_RESOURCES);
	const char *name, *ref;

	if (!s || !image || !res || !none)
		return err_nomem(err);
	image_names(ctx, c, k, &name, &ref);
	*image = *k->config->image;
	image->image = (char *)name;
	if (k->user) {
		s->user = NEW(ctx->arena, ContainerUser, CONTAINER_USER);
		if (!s->user)
			return err_nomem(err);
		s->user->linux = (CRI(LinuxContainerUser) *)k->user;
	}
	MUTEX_GUARD(&k->o.lock);
	s->id = (char *)k->o.id;
	s->metadata = k->config->metadata;
	times_and_reason(k, s);
	s->image = image;
	s->image_ref = (char *)ref;
	s->image_id = (char *)k->image_ref;
	s->labels = (void *)k->config->labels;
	s->n_labels = k->config->n_labels;
	s->annotations = (void *)k->config->annotations;
	s->n_annotations = k->config->n_annotations;
	s->mounts = k->config->mounts;
	s->n_mounts = k->config->n_mounts;
	s->log_path = (char *)k->log_path;
	s->stop_signal = signal_of(k);
	/* Those of a container without limits are empty, but there. */
	res->linux =
		k->status.resources ? (CRI(LinuxContainerResources) *)k->status.resources : none;
	s->resources = res;
	*ret = s;
	return 0;
}

static json_t *info(struct ctx *ctx, struct cri *c, struct cri_container *k)
{
	struct container r = {0};
	bool kept = container_get(ctx, c->o.db, k->o.id, &r, NULL) == 0;
	json_t *spec = kept ? json_loadb(r.spec.value, r.spec.len, 0, NULL) : NULL;
	MUTEX_GUARD(&k->o.lock);

	return json_pack(
		"{s:s, s:I, s:b, s:s, s:s, s:s, s:o, s:o, s:o}", "sandboxID", k->pod_id, "pid",
		(json_int_t)k->status.pid, "removing", k->removing, "snapshotKey",
		str_or(k->snapshot_key, ""), "snapshotter", str_or(k->snapshotter, ""),
		"runtimeType", k->runtime ? k->runtime->type : "", "runtimeOptions",
		k->runtime && k->runtime->options ? json_incref((json_t *)k->runtime->options)
						  : json_null(),
		"config", pb_json(&k->config->base), "runtimeSpec", spec ? spec : json_null());
}

int cri_container_status(struct rpc_call *call, const void *req, struct err *err)
{
	const CRI(ContainerStatusRequest) *q = req;
	CRI(ContainerStatusResponse) resp = CRI_INIT(CONTAINER_STATUS_RESPONSE);
	_cleanup_container_ struct cri_container *k = NULL;
	struct ctx *ctx = rpc_ctx(call);
	struct cri *c;
	int r = cri_of(call, &c, err);

	if (r == 0)
		r = cri_table_get(c->containers, q->container_id, &k, err);
	if (r == 0)
		r = cri_container_status_of(ctx, c, k, &resp.status, err);
	if (r == 0 && q->verbose)
		r = cri_info_entry(ctx->arena, info(ctx, c, k), &resp.info, &resp.n_info, err);
	return r < 0 ? r : rpc_send(call, &resp.base, err);
}

/* ---- lists ---- */

/* Under the lock. */
static bool wanted(const struct cri_container *k, const CRI(ContainerFilter) * f)
{
	if (!f)
		return true;
	if (!str_empty(f->id) && !str_has_prefix(k->o.id, f->id))
		return false;
	if (!str_empty(f->pod_sandbox_id) && !str_has_prefix(k->pod_id, f->pod_sandbox_id))
		return false;
	if (f->state && f->state->state != told_state(k))
		return false;
	return cri_labels_match(f->label_selector, f->n_label_selector, k->config->labels,
				k->config->n_labels);
}

static CRI(Container) * item(struct arena *a, const struct cri_container *k)
{
	CRI(Container) *m = NEW(a, Container, CONTAINER);

	if (!m)
		return NULL;
	m->id = (char *)k->o.id;
	m->pod_sandbox_id = (char *)k->pod_id;
	m->metadata = k->config->metadata;
	m->image = k->config->image;
	m->image_ref = (char *)k->image_ref;
	m->image_id = (char *)k->image_ref;
	m->state = told_state(k);
	m->created_at = k->status.created_at;
	m->labels = (void *)k->config->labels;
	m->n_labels = k->config->n_labels;
	m->annotations = (void *)k->config->annotations;
	m->n_annotations = k->config->n_annotations;
	return m;
}

/* The containers stay referenced until the answer is on its way: messages point into them. */
static int list(struct rpc_call *call, const CRI(ContainerFilter) * f, struct cri_object ***ret_v,
		size_t *ret_n, CRI(Container) * **ret_items, size_t *ret_n_items, struct err *err)
{
	struct ctx *ctx = rpc_ctx(call);
	struct cri_object **v = NULL;
	size_t n = 0, kept = 0;
	struct cri *c;
	int r = cri_of(call, &c, err);

	if (r == 0)
		r = cri_table_list(c->containers, ctx->arena, &v, &n, err);
	if (r < 0)
		return r;
	*ret_v = v;
	*ret_n = n;
	CRI(Container) **items = arena_new_array(ctx->arena, CRI(Container) *, n + 1);
	for (size_t i = 0; items && i < n; i++) {
		struct cri_container *k = (struct cri_container *)v[i];
		MUTEX_GUARD(&k->o.lock);
		if (wanted(k, f) && !(items[kept++] = item(ctx->arena, k)))
			return err_nomem(err);
	}
	*ret_items = items;
	*ret_n_items = kept;
	return items ? 0 : err_nomem(err);
}

int cri_list_containers(struct rpc_call *call, const void *req, struct err *err)
{
	const CRI(ListContainersRequest) *q = req;
	CRI(ListContainersResponse) resp = CRI_INIT(LIST_CONTAINERS_RESPONSE);
	struct cri_object **v = NULL;
	size_t n = 0;
	int r = list(call, q->filter, &v, &n, &resp.containers, &resp.n_containers, err);

	if (r == 0)
		r = rpc_send(call, &resp.base, err);
	cri_objects_unref(v, n);
	return r;
}

int cri_stream_containers(struct rpc_call *call, const void *req, struct err *err)
{
	const CRI(StreamContainersRequest) *q = req;
	CRI(Container) **items = NULL;
	struct cri_object **v = NULL;
	size_t n = 0, n_items = 0;
	int r = list(call, q->filter, &v, &n, &items, &n_items, err);

	for (size_t i = 0; r == 0 && i < n_items; i += STREAM_CHUNK) {
		CRI(StreamContainersResponse) resp = CRI_INIT(STREAM_CONTAINERS_RESPONSE);
		resp.containers = items + i;
		resp.n_containers = MIN(n_items - i, (size_t)STREAM_CHUNK);
		r = rpc_send(call, &resp.base, err);
	}
	cri_objects_unref(v, n);
	return r;
}
