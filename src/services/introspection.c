/* SPDX-License-Identifier: Apache-2.0 */
/* containerd.services.introspection.v1.Introspection: plugins, and who this daemon is. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "core/filter.h"
#include "plugins/runtime/runtime.h"
#include "services/pb.h"
#include "services/services.h"

#define IN(x) Containerd__Services__Introspection__V1__##x
#define DESC(x) containerd__services__introspection__v1__##x##__descriptor

#define UUID_LEN 36

static const char *field(const void *obj, const char *const *path, size_t n)
{
	const struct plugin_info *p = obj;
	if (n == 1 && streq(path[0], "type"))
		return p->type;
	if (n == 1 && streq(path[0], "id"))
		return p->id;
	return NULL;
}

static char **strings(struct arena *a, const char *const *v, size_t *ret_n)
{
	size_t n = 0;
	while (v && v[n])
		n++;
	char **out = arena_new_array(a, char *, n + 1);
	for (size_t i = 0; out && i < n; i++)
		out[i] = (char *)v[i];
	*ret_n = n;
	return out;
}

/* "linux/amd64" */
static Containerd__Types__Platform *platform(struct arena *a, const char *text)
{
	Containerd__Types__Platform *m = pb_new(a, &containerd__types__platform__descriptor);
	char **parts = str_split(a, text, '/', NULL);
	if (!m || !parts)
		return NULL;
	m->os = parts[0];
	if (parts[0] && parts[1]) {
		m->architecture = parts[1];
		if (parts[2])
			m->variant = parts[2];
	}
	return m;
}

static int to_pb(struct arena *a, const struct plugin_info *p, IN(Plugin) * *ret, struct err *err)
{
	IN(Plugin) *m = pb_new(a, &DESC(plugin));
	if (!m)
		return err_nomem(err);
	m->type = (char *)p->type;
	m->id = (char *)p->id;
	m->requires = strings(a, p->requires, &m->n_requires);
	m->capabilities = strings(a, p->capabilities, &m->n_capabilities);
	size_t n;
	char **platforms = strings(a, p->platforms, &n);
	m->platforms = arena_new_array(a, Containerd__Types__Platform *, n + 1);
	if (!m->requires || !m->capabilities || !platforms || !m->platforms)
		return err_nomem(err);
	for (; m->n_platforms < n; m->n_platforms++)
		if (!(m->platforms[m->n_platforms] = platform(a, platforms[m->n_platforms])))
			return err_nomem(err);
	if (p->failed || p->skipped) {
		m->init_err = pb_new(a, &google__rpc__status__descriptor);
		if (!m->init_err)
			return err_nomem(err);
		m->init_err->code = ERR_UNKNOWN;
		m->init_err->message = pb_str(a, p->error);
	}
	int r = pb_labels_put(a, &p->exports, &DESC(plugin__exports_entry), &m->exports,
			      &m->n_exports, err);
	if (r == 0)
		*ret = m;
	return r;
}

static int plugins(struct rpc_call *call, const void *req, struct err *err)
{
	const IN(PluginsRequest) *r = req;
	struct ctx *ctx = rpc_ctx(call);
	struct services *s = rpc_data(call);
	_cleanup_filter_ struct filter *f = NULL;
	struct plugin_info *v;
	size_t n;
	IN(PluginsResponse) resp = CONTAINERD__SERVICES__INTROSPECTION__V1__PLUGINS_RESPONSE__INIT;
	int e = filter_parse(ctx->arena, (const char *const *)r->filters, r->n_filters, &f, err);
	if (e == 0)
		e = s->introspection->plugins(ctx, s->introspection_data, &v, &n, err);
	if (e < 0)
		return e;
	resp.plugins = arena_new_array(ctx->arena, IN(Plugin) *, n + 1);
	if (!resp.plugins)
		return err_nomem(err);
	for (size_t i = 0; i < n; i++) {
		if (!filter_match(f, field, &v[i]))
			continue;
		e = to_pb(ctx->arena, &v[i], &resp.plugins[resp.n_plugins++], err);
		if (e < 0)
			return e;
	}
	return rpc_send(call, &resp.base, err);
}

/* A random UUID of version 4, made when first asked for and kept in the file "uuid". Who asks at
 * the same time gets the same. */
static int server_uuid(struct ctx *ctx, struct services *s, char **ret, struct err *err)
{
	const char *root = s->introspection_root;
	char *path = path_join(ctx->arena, root, "uuid");
	size_t len;
	if (!path)
		return err_nomem(err);
	MUTEX_GUARD(&s->uuid_lock);
	if (file_read(ctx->arena, AT_FDCWD, path, 128, ret, &len) == 0 && len == UUID_LEN)
		return 0;
	unsigned char b[16];
	char h[33];
	random_bytes(b, sizeof(b));
	b[6] = (b[6] & 0x0f) | 0x40;
	b[8] = (b[8] & 0x3f) | 0x80;
	hex_encode(b, sizeof(b), h);
	*ret = arena_printf(ctx->arena, "%.8s-%.4s-%.4s-%.4s-%.12s", h, h + 8, h + 12, h + 16,
			    h + 20);
	if (!*ret)
		return err_nomem(err);
	int e = mkdir_p(root, 0700);
	if (e == 0)
		e = file_write_atomic(AT_FDCWD, path, *ret, UUID_LEN, 0644, true);
	return e < 0 ? err_errno(err, e, "write %s", path) : 0;
}

static int put_deprecations(struct arena *a, struct services *s, IN(ServerResponse) * resp,
			    struct err *err)
{
	struct deprecation_warning v[DEPRECATIONS_N];
	size_t n = s->deprecations ? deprecations_list(s->deprecations, v) : 0;
	resp->deprecations = arena_new_array(a, IN(DeprecationWarning) *, n + 1);
	if (!resp->deprecations)
		return err_nomem(err);
	for (size_t i = 0; i < n; i++) {
		IN(DeprecationWarning) *m = pb_new(a, &DESC(deprecation_warning));
		if (!m || !(m->last_occurrence = pb_time_put(a, v[i].last)))
			return err_nomem(err);
		m->id = (char *)v[i].id;
		m->message = (char *)v[i].message;
		resp->deprecations[resp->n_deprecations++] = m;
	}
	return 0;
}

static int server(struct rpc_call *call, const void *req, struct err *err)
{
	struct ctx *ctx = rpc_ctx(call);
	struct services *s = rpc_data(call);
	struct stat st;
	IN(ServerResponse) resp = CONTAINERD__SERVICES__INTROSPECTION__V1__SERVER_RESPONSE__INIT;
	int e = server_uuid(ctx, s, &resp.uuid, err);
	if (e < 0)
		return e;
	resp.pid = (uint64_t)getpid();
	if (stat("/proc/self/ns/pid", &st) < 0)
		return err_errno(err, errno, "stat /proc/self/ns/pid");
	resp.pidns = st.st_ino;
	e = put_deprecations(ctx->arena, s, &resp, err);
	if (e < 0)
		return e;
	return rpc_send(call, &resp.base, err);
}

/* What a plugin tells beyond its description; only the task runtime does, about a runtime. */
static int plugin_extra(struct ctx *ctx, const struct plugin_info *p,
			const Google__Protobuf__Any *options, Google__Protobuf__Any **ret,
			struct err *err)
{
	Containerd__Types__RuntimeRequest *r;
	struct any any = pb_any_get(options), extra;
	const char *slash = strrchr(options->type_url, '/');
	if (p->failed || p->skipped)
		return err_set(err, ERR_FAILED_PRECONDITION, "plugin %s.%s is not loaded: %s",
			       p->type, p->id, p->error);
	if (!streq(p->type, "io.containerd.runtime.v2") || !streq(p->id, "task"))
		return err_set(err, ERR_UNIMPLEMENTED,
			       "plugin %s.%s does not provide more information", p->type, p->id);
	if (!streq(slash ? slash + 1 : options->type_url,
		   containerd__types__runtime_request__descriptor.name))
		return err_set(err, ERR_UNIMPLEMENTED, "unknown request type %s",
			       options->type_url);
	int e = rpc_unpack(ctx->arena, &containerd__types__runtime_request__descriptor, any.value,
			   any.len, &r, err);
	any = e == 0 ? pb_any_get(r->options) : any;
	if (e == 0)
		e = runtime_info(ctx, r->runtime_path, &any, &extra, err);
	if (e < 0)
		return e;
	*ret = pb_any_put(ctx->arena, &extra);
	return *ret ? 0 : err_nomem(err);
}

static int plugin_info(struct rpc_call *call, const void *req, struct err *err)
{
	const IN(PluginInfoRequest) *r = req;
	struct ctx *ctx = rpc_ctx(call);
	struct services *s = rpc_data(call);
	struct plugin_info *v;
	size_t n;
	IN(PluginInfoResponse)
	resp = CONTAINERD__SERVICES__INTROSPECTION__V1__PLUGIN_INFO_RESPONSE__INIT;
	int e = s->introspection->plugins(ctx, s->introspection_data, &v, &n, err);
	if (e < 0)
		return e;
	for (size_t i = 0; i < n; i++) {
		if (!streq(v[i].type, r->type) || !streq(v[i].id, r->id))
			continue;
		e = to_pb(ctx->arena, &v[i], &resp.plugin, err);
		if (e == 0 && r->options)
			e = plugin_extra(ctx, &v[i], r->options, &resp.extra, err);
		return e < 0 ? e : rpc_send(call, &resp.base, err);
	}
	return err_set(err, ERR_NOT_FOUND, "plugin %s.%s not found", r->type, r->id);
}

static const struct rpc_method methods[] = {
	{"Plugins", RPC_UNARY, plugins},
	{"Server", RPC_UNARY, server},
	{"PluginInfo", RPC_UNARY, plugin_info},
};

SERVICE(introspection, &DESC(introspection), methods)
