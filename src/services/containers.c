/* SPDX-License-Identifier: Apache-2.0 */
/* containerd.services.containers.v1.Containers */
#include "core/container.h"
#include "base/str.h"
#include "core/event.h"
#include "services/pb.h"
#include "services/services.h"

#define CT(x) Containerd__Services__Containers__V1__##x
#define DESC(x) containerd__services__containers__v1__##x##__descriptor

static int to_pb(struct arena *a, const struct container *c, CT(Container) * *ret, struct err *err)
{
	CT(Container) *m = pb_new(a, &DESC(container));
	CT(Container__Runtime) *rt = pb_new(a, &DESC(container__runtime));
	CT(Container__ExtensionsEntry) **ext =
		arena_new_array(a, CT(Container__ExtensionsEntry) *, c->n_extensions + 1);
	if (!m || !rt || !ext)
		return err_nomem(err);
	m->id = pb_str(a, c->id);
	m->image = pb_str(a, c->image);
	m->snapshotter = pb_str(a, c->snapshotter);
	m->snapshot_key = pb_str(a, c->snapshot_key);
	m->sandbox = pb_str(a, c->sandbox_id);
	rt->name = pb_str(a, c->runtime_name);
	rt->options = pb_any_put(a, &c->runtime_options);
	m->runtime = rt;
	m->spec = pb_any_put(a, &c->spec);
	m->created_at = pb_time_put(a, c->created_at);
	m->updated_at = pb_time_put(a, c->updated_at);
	for (size_t i = 0; i < c->n_extensions; i++) {
		ext[i] = pb_new(a, &DESC(container__extensions_entry));
		if (!ext[i])
			return err_nomem(err);
		ext[i]->key = (char *)c->extensions[i].key;
		ext[i]->value = pb_any_put(a, &c->extensions[i].value);
	}
	m->extensions = ext;
	m->n_extensions = c->n_extensions;
	int r = pb_labels_put(a, &c->labels, &DESC(container__labels_entry), &m->labels,
			      &m->n_labels, err);
	if (r == 0)
		*ret = m;
	return r;
}

static int from_pb(struct arena *a, const CT(Container) * m, struct container *ret, struct err *err)
{
	struct container c = {0};
	if (!m)
		return err_set(err, ERR_INVALID_ARGUMENT, "container is required");
	c.id = m->id;
	c.image = m->image;
	c.runtime_name = m->runtime ? m->runtime->name : "";
	c.runtime_options = pb_any_get(m->runtime ? m->runtime->options : NULL);
	c.spec = pb_any_get(m->spec);
	c.snapshotter = m->snapshotter;
	c.snapshot_key = m->snapshot_key;
	c.sandbox_id = m->sandbox;
	c.extensions = arena_new_array(a, struct any_entry, m->n_extensions + 1);
	if (!c.extensions)
		return err_nomem(err);
	for (size_t i = 0; i < m->n_extensions; i++)
		c.extensions[i] = (struct any_entry){m->extensions[i]->key,
						     pb_any_get(m->extensions[i]->value)};
	c.n_extensions = m->n_extensions;
	int r = pb_labels_get(a, m->labels, m->n_labels, &c.labels, err);
	if (r == 0)
		*ret = c;
	return r;
}

static int get(struct rpc_call *call, const void *req, struct err *err)
{
	const CT(GetContainerRequest) *r = req;
	struct ctx *ctx = rpc_ctx(call);
	struct services *s = rpc_data(call);
	struct container c;
	CT(GetContainerResponse)
	resp = CONTAINERD__SERVICES__CONTAINERS__V1__GET_CONTAINER_RESPONSE__INIT;
	int e = container_get(ctx, s->db, r->id, &c, err);
	if (e == 0)
		e = to_pb(ctx->arena, &c, &resp.container, err);
	return e < 0 ? e : rpc_send(call, &resp.base, err);
}

static int find(struct rpc_call *call, const CT(ListContainersRequest) * r, CT(Container) * **ret,
		size_t *ret_n, struct err *err)
{
	struct ctx *ctx = rpc_ctx(call);
	struct services *s = rpc_data(call);
	_cleanup_filter_ struct filter *f = NULL;
	struct container *v;
	size_t n;
	int e = filter_parse(ctx->arena, (const char *const *)r->filters, r->n_filters, &f, err);
	if (e < 0)
		/* The class text stands there twice, as clients of containerd know it. */
		return err_set_raw(err, ERR_INVALID_ARGUMENT, "%s: %s", err->text,
				   err_kind_text(e));
	e = container_list(ctx, s->db, f, &v, &n, err);
	if (e < 0)
		return e;
	CT(Container) **out = arena_new_array(ctx->arena, CT(Container) *, n + 1);
	if (!out)
		return err_nomem(err);
	for (size_t i = 0; i < n && e == 0; i++)
		e = to_pb(ctx->arena, &v[i], &out[i], err);
	*ret = out;
	*ret_n = n;
	return e;
}

static int list(struct rpc_call *call, const void *req, struct err *err)
{
	CT(ListContainersResponse)
	resp = CONTAINERD__SERVICES__CONTAINERS__V1__LIST_CONTAINERS_RESPONSE__INIT;
	int e = find(call, req, &resp.containers, &resp.n_containers, err);
	return e < 0 ? e : rpc_send(call, &resp.base, err);
}

static int list_stream(struct rpc_call *call, const void *req, struct err *err)
{
	CT(Container) * *v;
	size_t n;
	int e = find(call, req, &v, &n, err);
	for (size_t i = 0; e == 0 && i < n; i++) {
		CT(ListContainerMessage)
		m = CONTAINERD__SERVICES__CONTAINERS__V1__LIST_CONTAINER_MESSAGE__INIT;
		m.container = v[i];
		e = rpc_send(call, &m.base, err);
	}
	return e;
}

static int create(struct rpc_call *call, const void *req, struct err *err)
{
	const CT(CreateContainerRequest) *r = req;
	struct ctx *ctx = rpc_ctx(call);
	struct services *s = rpc_data(call);
	struct container c;
	CT(CreateContainerResponse)
	resp = CONTAINERD__SERVICES__CONTAINERS__V1__CREATE_CONTAINER_RESPONSE__INIT;
	int e = from_pb(ctx->arena, r->container, &c, err);
	if (e == 0)
		e = container_create(ctx, s->db, &c, &c, err);
	if (e == 0)
		e = to_pb(ctx->arena, &c, &resp.container, err);
	if (e < 0)
		return e;
	Containerd__Events__ContainerCreate ev = CONTAINERD__EVENTS__CONTAINER_CREATE__INIT;
	Containerd__Events__ContainerCreate__Runtime rt =
		CONTAINERD__EVENTS__CONTAINER_CREATE__RUNTIME__INIT;
	rt.name = resp.container->runtime->name;
	rt.options = resp.container->runtime->options;
	ev.id = resp.container->id;
	ev.image = resp.container->image;
	ev.runtime = &rt;
	e = event_publish(ctx, s->events, "/containers/create", &ev.base, err);
	return e < 0 ? e : rpc_send(call, &resp.base, err);
}

static int update(struct rpc_call *call, const void *req, struct err *err)
{
	const CT(UpdateContainerRequest) *r = req;
	struct ctx *ctx = rpc_ctx(call);
	struct services *s = rpc_data(call);
	struct container c;
	size_t n;
	char **paths = pb_mask(r->update_mask, &n);
	CT(UpdateContainerResponse)
	resp = CONTAINERD__SERVICES__CONTAINERS__V1__UPDATE_CONTAINER_RESPONSE__INIT;
	if (!r->container || str_empty(r->container->id))
		return err_set(err, ERR_INVALID_ARGUMENT, "Container.ID required");
	int e = from_pb(ctx->arena, r->container, &c, err);
	if (e == 0)
		e = container_update(ctx, s->db, &c, paths, n, &c, err);
	if (e == 0)
		e = to_pb(ctx->arena, &c, &resp.container, err);
	if (e < 0)
		return e;
	Containerd__Events__ContainerUpdate ev = CONTAINERD__EVENTS__CONTAINER_UPDATE__INIT;
	ev.id = resp.container->id;
	ev.image = resp.container->image;
	ev.snapshot_key = resp.container->snapshot_key;
	e = pb_labels_put(ctx->arena, &c.labels,
			  &containerd__events__container_update__labels_entry__descriptor,
			  &ev.labels, &ev.n_labels, err);
	if (e == 0)
		e = event_publish(ctx, s->events, "/containers/update", &ev.base, err);
	return e < 0 ? e : rpc_send(call, &resp.base, err);
}

static int delete (struct rpc_call *call, const void *req, struct err *err)
{
	const CT(DeleteContainerRequest) *r = req;
	struct ctx *ctx = rpc_ctx(call);
	struct services *s = rpc_data(call);
	Containerd__Events__ContainerDelete ev = CONTAINERD__EVENTS__CONTAINER_DELETE__INIT;
	int e = container_delete(ctx, s->db, r->id, err);
	if (e < 0)
		return e;
	ev.id = r->id;
	e = event_publish(ctx, s->events, "/containers/delete", &ev.base, err);
	return e < 0 ? e : pb_send_empty(call, err);
}

static const struct rpc_method methods[] = {
	{"Get", RPC_UNARY, get},
	{"List", RPC_UNARY, list},
	{"ListStream", RPC_SERVER_STREAM, list_stream},
	{"Create", RPC_UNARY, create},
	{"Update", RPC_UNARY, update},
	{"Delete", RPC_UNARY, delete},
};

SERVICE(containers, &DESC(containers), methods)
