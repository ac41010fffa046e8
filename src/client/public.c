/* SPDX-License-Identifier: Apache-2.0 */
/* Handles, errors, results; version, namespaces, leases. */
#include "client/public.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "base/time.h"
#include "version.h"

const char *containerd_library_version(void)
{
	return VERSION;
}

/* ---- Calls ---- */

int call_begin(struct call *k, const struct containerd_client *c)
{
	k->err = ERR_INIT;
	k->ctx.arena = arena_new(0);
	if (!k->ctx.arena)
		return err_nomem(&k->err);
	if (!c)
		return err_set(&k->err, ERR_INVALID_ARGUMENT, "no client is given");
	k->client = c->connection->client;
	k->ctx.ns = c->ns;
	k->ctx.lease = c->lease;
	if (c->timeout_ns > 0)
		k->ctx.deadline = time_mono() + c->timeout_ns;
	return 0;
}

void call_endless(struct call *k)
{
	k->ctx.deadline = 0;
}

void call_done(struct call *k)
{
	arena_free(k->ctx.arena);
}

static int error_out(const struct err *err, struct containerd_error *error)
{
	int code = err_code(err->kind);

	code = code > 0 ? code : CONTAINERD_UNKNOWN;
	if (error) {
		error->code = code;
		snprintf(error->text, sizeof(error->text), "%s", err->text);
	}
	return -code;
}

int call_end(struct call *k, int r, struct containerd_error *error)
{
	return r < 0 ? error_out(&k->err, error) : 0;
}

/* ---- Results ---- */

struct result {
	struct arena *arena;
	max_align_t object[];
};

void *call_result(struct call *k, size_t size)
{
	struct result *r = arena_zalloc(k->ctx.arena, sizeof(*r) + size);

	if (!r)
		return NULL;
	r->arena = k->ctx.arena;
	return r->object;
}

void call_give(struct call *k, const void *result, const void *ret)
{
	if (!ret)
		return;
	memcpy((void *)ret, &result, sizeof(result));
	k->ctx.arena = NULL;
}

void containerd_free(const void *result)
{
	if (result)
		arena_free(((const struct result *)((const char *)result -
						    offsetof(struct result, object)))
				   ->arena);
}

struct any_list {
	size_t n;
	const void *const *v;
};

void *call_list(struct call *k, size_t n, size_t item_size, void *ret_items)
{
	struct any_list *l = call_result(k, sizeof(*l));
	char *items = arena_calloc(k->ctx.arena, n + 1, item_size);
	const void **v = arena_new_array(k->ctx.arena, const void *, n + 1);

	if (!l || !items || !v)
		return NULL;
	for (size_t i = 0; i < n; i++)
		v[i] = items + i * item_size;
	l->n = n;
	l->v = v;
	memcpy(ret_items, &items, sizeof(items));
	return l;
}

/* ---- Arguments ---- */

int options_copy(void *to, size_t size, const void *from, struct err *err)
{
	size_t given = size;

	memset(to, 0, size);
	if (!from)
		return 0;
	memcpy(&given, from, sizeof(given));
	if (given < sizeof(given))
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "options without a size (CONTAINERD_INIT)");
	for (size_t i = size; i < given; i++)
		if (((const char *)from)[i])
			return err_set(err, ERR_INVALID_ARGUMENT,
				       "options that this library is too old for");
	memcpy(to, from, MIN(size, given));
	return 0;
}

int need_text(const char *s, const char *what, struct err *err)
{
	return s && *s ? 0 : err_set(err, ERR_INVALID_ARGUMENT, "no %s is given", what);
}

int labels_from_public(struct arena *a, const struct containerd_label *v, size_t n,
		       struct labels *ret, struct err *err)
{
	struct labels l = {};

	for (size_t i = 0; i < n; i++) {
		if (!v[i].key || !*v[i].key)
			return err_set(err, ERR_INVALID_ARGUMENT, "a label has no key");
		if (labels_set(a, &l, v[i].key, text_or_empty(v[i].value)) < 0)
			return err_nomem(err);
	}
	*ret = l;
	return 0;
}

int labels_to_public(struct arena *a, struct pb_label *const *entries, size_t n,
		     const struct containerd_label **ret, size_t *ret_n)
{
	struct containerd_label *v = arena_new_array(a, struct containerd_label, n + 1);

	if (!v)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		v[i] = (struct containerd_label){entries[i]->key, entries[i]->value};
	*ret = v;
	*ret_n = n;
	return 0;
}

int choose_snapshotter(struct call *k, const char *given, const char **ret)
{
	if (!given || !*given)
		return client_default_snapshotter(k->client, &k->ctx, ret, &k->err);
	*ret = given;
	return 0;
}

/* ---- Connections ---- */

static struct connection *connection_unref(struct connection *n)
{
	if (n && atomic_fetch_sub(&n->refs, 1) == 1) {
		client_free(n->client);
		free(n);
	}
	return NULL;
}

void containerd_client_free(struct containerd_client *c)
{
	if (!c)
		return;
	connection_unref(c->connection);
	free(c->ns);
	free(c->lease);
	free(c);
}

static int handle_new(struct connection *n, const char *ns, const char *lease, int64_t timeout_ns,
		      struct containerd_client **ret, struct err *err)
{
	struct containerd_client *c = calloc(1, sizeof(*c));

	if (!c)
		return err_nomem(err);
	atomic_fetch_add(&n->refs, 1);
	c->connection = n;
	c->ns = strdup(ns);
	c->lease = strdup(lease);
	c->timeout_ns = timeout_ns;
	if (!c->ns || !c->lease) {
		containerd_client_free(c);
		return err_nomem(err);
	}
	*ret = c;
	return 0;
}

static int milliseconds(int64_t ms, int64_t *ret, struct err *err)
{
	if (ms < 0 || __builtin_mul_overflow(ms, NSEC_PER_MSEC, ret))
		return err_set(err, ERR_INVALID_ARGUMENT, "the timeout is out of range");
	return 0;
}

static int make_connection(const char *address, const char *ns, int64_t timeout_ms,
			   struct containerd_client **ret, struct err *err)
{
	struct connection *n = calloc(1, sizeof(*n));
	int64_t timeout_ns;
	int r;

	if (!n)
		return err_nomem(err);
	r = milliseconds(timeout_ms, &timeout_ns, err);
	if (r == 0)
		r = client_connect(address ? address : CONTAINERD_DEFAULT_ADDRESS, timeout_ns,
				   &n->client, err);
	if (r < 0) {
		free(n);
		return r;
	}
	atomic_init(&n->refs, 1);
	r = client_share(n->client, err);
	if (r == 0)
		r = handle_new(n, ns && *ns ? ns : "default", "", 0, ret, err);
	connection_unref(n);
	return r;
}

int containerd_connect(const char *address, const char *ns, int64_t timeout_ms,
		       struct containerd_client **ret, struct containerd_error *error)
{
	struct err err = ERR_INIT;
	int r = make_connection(address, ns, timeout_ms, ret, &err);

	return r < 0 ? error_out(&err, error) : 0;
}

int containerd_client_derive(struct containerd_client *client,
			     const struct containerd_client_options *options,
			     struct containerd_client **ret, struct containerd_error *error)
{
	struct containerd_client_options o;
	struct err err = ERR_INIT;
	int64_t timeout_ns = 0;
	int r = OPTIONS_COPY(o, options, &err);

	if (r == 0)
		r = milliseconds(o.timeout_ms, &timeout_ns, &err);
	if (r == 0)
		r = handle_new(client->connection, o.ns && *o.ns ? o.ns : client->ns,
			       text_or_empty(o.lease), timeout_ns, ret, &err);
	return r < 0 ? error_out(&err, error) : 0;
}

int containerd_version_get(struct containerd_client *client, const struct containerd_version **ret,
			   struct containerd_error *error)
{
	Google__Protobuf__Empty req = GOOGLE__PROTOBUF__EMPTY__INIT;
	struct call k _cleanup_call_ = {};
	PB_VERSION(VersionResponse) * resp;
	struct containerd_version *v;
	int r = call_begin(&k, client);

	if (r == 0)
		r = client_call(k.client, &k.ctx, PB_VERSION_SERVICE, "Version", &req.base, &resp,
				&k.err);
	if (r < 0)
		return call_end(&k, r, error);
	v = CALL_RESULT(&k, struct containerd_version);
	if (!v)
		return call_end(&k, err_nomem(&k.err), error);
	v->version = resp->version;
	v->revision = resp->revision;
	call_give(&k, v, ret);
	return 0;
}

/* ---- Namespaces ---- */

static int namespaces_out(struct call *k, const PB_NAMESPACES(ListNamespacesResponse) * resp,
			  const struct containerd_namespaces **ret)
{
	struct containerd_namespace *v;
	void *list = call_list(k, resp->n_namespaces, sizeof(*v), &v);

	if (!list)
		return err_nomem(&k->err);
	for (size_t i = 0; i < resp->n_namespaces; i++) {
		v[i].name = resp->namespaces[i]->name;
		if (LABELS_TO_PUBLIC(k->ctx.arena, resp->namespaces[i], &v[i]) < 0)
			return err_nomem(&k->err);
	}
	call_give(k, list, ret);
	return 0;
}

int containerd_namespace_list(struct containerd_client *client,
			      const struct containerd_namespaces **ret,
			      struct containerd_error *error)
{
	PB_NAMESPACES(ListNamespacesRequest) req = PB_NAMESPACES_INIT(LIST_NAMESPACES_REQUEST);
	PB_NAMESPACES(ListNamespacesResponse) * resp;
	struct call k _cleanup_call_ = {};
	int r = call_begin(&k, client);

	if (r == 0)
		r = client_call(k.client, &k.ctx, PB_NAMESPACES_SERVICE, "List", &req.base, &resp,
				&k.err);
	if (r == 0)
		r = namespaces_out(&k, resp, ret);
	return call_end(&k, r, error);
}

int containerd_namespace_create(struct containerd_client *client, const char *name,
				const struct containerd_label *labels, size_t n_labels,
				struct containerd_error *error)
{
	PB_NAMESPACES(CreateNamespaceRequest) req = PB_NAMESPACES_INIT(CREATE_NAMESPACE_REQUEST);
	PB_NAMESPACES(Namespace) ns = PB_NAMESPACES_INIT(NAMESPACE);
	struct call k _cleanup_call_ = {};
	struct labels l = {};
	int r = call_begin(&k, client);

	if (r == 0)
		r = need_text(name, "namespace", &k.err);
	if (r == 0)
		r = labels_from_public(k.ctx.arena, labels, n_labels, &l, &k.err);
	if (r == 0 &&
	    PB_LABELS_OUT(
		    k.ctx.arena, &l,
		    &containerd__services__namespaces__v1__namespace__labels_entry__descriptor,
		    ns.labels, ns.n_labels) < 0)
		r = err_nomem(&k.err);
	ns.name = (char *)name;
	req.namespace_ = &ns;
	if (r == 0)
		r = client_call(k.client, &k.ctx, PB_NAMESPACES_SERVICE, "Create", &req.base, NULL,
				&k.err);
	return call_end(&k, r, error);
}

int containerd_namespace_remove(struct containerd_client *client, const char *name,
				struct containerd_error *error)
{
	PB_NAMESPACES(DeleteNamespaceRequest) req = PB_NAMESPACES_INIT(DELETE_NAMESPACE_REQUEST);
	struct call k _cleanup_call_ = {};
	int r = call_begin(&k, client);

	if (r == 0)
		r = need_text(name, "namespace", &k.err);
	req.name = (char *)name;
	if (r == 0)
		r = client_call(k.client, &k.ctx, PB_NAMESPACES_SERVICE, "Delete", &req.base, NULL,
				&k.err);
	return call_end(&k, r, error);
}

/* ---- Leases ---- */

static int lease_fill(struct arena *a, const PB_LEASES(Lease) * m, struct containerd_lease *ret)
{
	ret->id = m->id;
	ret->created_s = pb_time(m->created_at).tv_sec;
	return LABELS_TO_PUBLIC(a, m, ret);
}

static int lease_labels(struct call *k, int64_t seconds, PB_LEASES(CreateRequest) * req)
{
	struct timespec end = time_now();
	struct labels l = {};
	char text[40];

	if (seconds == 0)
		return 0;
	if (seconds < 0 || __builtin_add_overflow(end.tv_sec, seconds, &end.tv_sec) ||
	    end.tv_sec > 253402300799)
		return err_set(&k->err, ERR_INVALID_ARGUMENT, "the lease's time is out of range");
	time_format_rfc3339(end, text);
	if (labels_set(k->ctx.arena, &l, "containerd.io/gc.expire", text) < 0 ||
	    PB_LABELS_OUT(
		    k->ctx.arena, &l,
		    &containerd__services__leases__v1__create_request__labels_entry__descriptor,
		    req->labels, req->n_labels) < 0)
		return err_nomem(&k->err);
	return 0;
}

int containerd_lease_create(struct containerd_client *client, const char *id, int64_t seconds,
			    const struct containerd_lease **ret, struct containerd_error *error)
{
	PB_LEASES(CreateRequest) req = PB_LEASES_INIT(CREATE_REQUEST);
	struct call k _cleanup_call_ = {};
	PB_LEASES(CreateResponse) * resp;
	struct containerd_lease *l;
	int r = call_begin(&k, client);

	req.id = (char *)text_or_empty(id);
	if (r == 0)
		r = lease_labels(&k, seconds, &req);
	if (r == 0)
		r = client_call(k.client, &k.ctx, PB_LEASES_SERVICE, "Create", &req.base, &resp,
				&k.err);
	if (r == 0 && !resp->lease)
		r = err_set(&k.err, ERR_INTERNAL, "lease came empty");
	if (r < 0)
		return call_end(&k, r, error);
	l = CALL_RESULT(&k, struct containerd_lease);
	if (!l || lease_fill(k.ctx.arena, resp->lease, l) < 0)
		return call_end(&k, err_nomem(&k.err), error);
	call_give(&k, l, ret);
	return 0;
}

int containerd_lease_remove(struct containerd_client *client, const char *id, int sync,
			    struct containerd_error *error)
{
	PB_LEASES(DeleteRequest) req = PB_LEASES_INIT(DELETE_REQUEST);
	struct call k _cleanup_call_ = {};
	int r = call_begin(&k, client);

	if (r == 0)
		r = need_text(id, "lease", &k.err);
	req.id = (char *)id;
	req.sync = sync != 0;
	if (r == 0)
		r = client_call(k.client, &k.ctx, PB_LEASES_SERVICE, "Delete", &req.base, NULL,
				&k.err);
	return call_end(&k, r, error);
}

static int leases_out(struct call *k, const PB_LEASES(ListResponse) * resp,
		      const struct containerd_leases **ret)
{
	struct containerd_lease *v;
	void *list = call_list(k, resp->n_leases, sizeof(*v), &v);

	if (!list)
		return err_nomem(&k->err);
	for (size_t i = 0; i < resp->n_leases; i++)
		if (lease_fill(k->ctx.arena, resp->leases[i], &v[i]) < 0)
			return err_nomem(&k->err);
	call_give(k, list, ret);
	return 0;
}

int containerd_lease_list(struct containerd_client *client, const struct containerd_leases **ret,
			  struct containerd_error *error)
{
	PB_LEASES(ListRequest) req = PB_LEASES_INIT(LIST_REQUEST);
	struct call k _cleanup_call_ = {};
	PB_LEASES(ListResponse) * resp;
	int r = call_begin(&k, client);

	if (r == 0)
		r = client_call(k.client, &k.ctx, PB_LEASES_SERVICE, "List", &req.base, &resp,
				&k.err);
	if (r == 0)
		r = leases_out(&k, resp, ret);
	return call_end(&k, r, error);
}
