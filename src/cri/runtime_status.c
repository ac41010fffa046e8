/* SPDX-License-Identifier: Apache-2.0 */
/* Status: whether pods can be run here, and what the handlers can do. */
#include <sys/utsname.h>

#include "base/json.h"
#include "base/str.h"
#include "cri/network.h"
#include "cri/runtime_features.h"
#include "cri/task.h"

static CRI(RuntimeCondition) * condition(struct arena *a, const char *type, bool status,
					 const char *reason, const char *message)
{
	CRI(RuntimeCondition) *m = arena_new_obj(a, CRI(RuntimeCondition));

	if (!m)
		return NULL;
	*m = (CRI(RuntimeCondition))CRI_INIT(RUNTIME_CONDITION);
	m->type = (char *)type;
	m->status = status;
	m->reason = (char *)(status ? "" : reason);
	m->message = (char *)(status ? "" : message);
	return m->message ? m : NULL;
}

static CRI(RuntimeCondition) * network(struct ctx *ctx, struct cri *c)
{
	struct err err = ERR_INIT;
	int r = cri_network_ready(ctx, c->network, "", &err);

	return condition(
		ctx->arena, "NetworkReady", r == 0, "NetworkPluginNotReady",
		r == 0 ? ""
		       : arena_printf(ctx->arena, "Network plugin returns error: %s", err.text));
}

static bool ignored(const struct cri_config *config, const char *id)
{
	for (const char *const *p = config->ignore_deprecation_warnings; *p; p++)
		if (streq(*p, id))
			return true;
	return false;
}

static int deprecations(struct ctx *ctx, struct cri *c, CRI(RuntimeCondition) * *ret,
			struct err *err)
{
	json_t *j _cleanup_json_ = json_object();
	struct labels l = {0};
	int r = c->o.deprecations ? c->o.deprecations(ctx->arena, c->o.deprecations_arg, &l, err)
				  : 0;

	if (r < 0)
		return r;
	for (size_t i = 0; j && i < l.n; i++)
		if (!ignored(c->config, l.v[i].key))
			json_object_set_new(j, l.v[i].key, json_string(l.v[i].value));
	_cleanup_free_ char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;
	*ret = text ? condition(ctx->arena, "ContainerdHasNoDeprecationWarnings",
				json_object_size(j) == 0, "ContainerdHasDeprecationWarnings",
				arena_strdup(ctx->arena, text))
		    : NULL;
	return *ret ? 0 : err_nomem(err);
}

static CRI(RuntimeHandler) *
	handler(struct ctx *ctx, struct cri *c, const struct cri_handler *h, const char *name)
{
	CRI(RuntimeHandler) *m = arena_new_obj(ctx->arena, CRI(RuntimeHandler));
	CRI(RuntimeHandlerFeatures) *f = arena_new_obj(ctx->arena, CRI(RuntimeHandlerFeatures));
	struct cri_features has = cri_runtime_features(ctx, c, h);

	if (!m || !f)
		return NULL;
	*m = (CRI(RuntimeHandler))CRI_INIT(RUNTIME_HANDLER);
	*f = (CRI(RuntimeHandlerFeatures))CRI_INIT(RUNTIME_HANDLER_FEATURES);
	f->recursive_read_only_mounts = has.recursive_read_only;
	f->user_namespaces = has.user_namespaces;
	m->name = (char *)name;
	m->features = f;
	return m;
}

/* Sorted, the default one under "" first. */
static int handlers(struct ctx *ctx, struct cri *c, CRI(StatusResponse) * resp, struct err *err)
{
	const struct cri_config *k = c->config;
	CRI(RuntimeHandler) **v =
		arena_new_array(ctx->arena, CRI(RuntimeHandler) *, k->n_handlers + 1);

	if (!v || !(v[0] = handler(ctx, c, cri_config_handler(k, ""), "")))
		return err_nomem(err);
	for (size_t i = 0; i < k->n_handlers; i++)
		if (!(v[i + 1] = handler(ctx, c, &k->handlers[i], k->handlers[i].name)))
			return err_nomem(err);
	resp->runtime_handlers = v;
	resp->n_runtime_handlers = k->n_handlers + 1;
	return 0;
}

static int entry(struct arena *a, const char *key, char *text,
		 CRI(StatusResponse__InfoEntry) * *ret)
{
	CRI(StatusResponse__InfoEntry) *e = arena_new_obj(a, CRI(StatusResponse__InfoEntry));

	if (!e || !text)
		return -ENOMEM;
	*e = (CRI(StatusResponse__InfoEntry))CRI_INIT(STATUS_RESPONSE__INFO_ENTRY);
	e->key = arena_strdup(a, key);
	e->value = arena_strdup(a, text);
	*ret = e;
	return e->key && e->value ? 0 : -ENOMEM;
}

static int verbose(struct ctx *ctx, struct cri *c, CRI(StatusResponse) * resp, struct err *err)
{
	json_t *net _cleanup_json_ = NULL;
	struct labels loads;
	int r = cri_network_load_status(ctx->arena, c->network, &loads, err);

	if (r == 0)
		r = cri_network_info(ctx, c->network, "", &net, err);
	if (r < 0)
		return r;
	CRI(StatusResponse__InfoEntry) **v =
		arena_new_array(ctx->arena, CRI(StatusResponse__InfoEntry) *, 3 + loads.n);
	if (!v)
		return err_nomem(err);
	json_t *conf _cleanup_json_ = cri_config_json(c);
	_cleanup_free_ char *conf_text = conf ? json_dumps(conf, JSON_COMPACT) : NULL,
			    *net_text = json_dumps(net, JSON_COMPACT);
	if (entry(ctx->arena, "config", conf_text, &v[0]) < 0 ||
	    entry(ctx->arena, "cniconfig", net_text, &v[1]) < 0 ||
	    entry(ctx->arena, "lastCNILoadStatus", (char *)json_str(net, "LastLoadStatus", ""),
		  &v[2]) < 0)
		return err_nomem(err);
	for (size_t i = 0; i < loads.n; i++) {
		char *key = arena_printf(ctx->arena, "lastCNILoadStatus.%s", loads.v[i].key);
		if (!key || entry(ctx->arena, key, (char *)loads.v[i].value, &v[3 + i]) < 0)
			return err_nomem(err);
	}
	resp->info = v;
	resp->n_info = 3 + loads.n;
	return 0;
}

int cri_status(struct rpc_call *call, const void *req, struct err *err)
{
	const CRI(StatusRequest) *q = req;
	CRI(StatusResponse) resp = CRI_INIT(STATUS_RESPONSE);
	CRI(RuntimeStatus) status = CRI_INIT(RUNTIME_STATUS);
	CRI(RuntimeFeatures) features = CRI_INIT(RUNTIME_FEATURES);
	CRI(RuntimeCondition) * v[3];
	struct ctx *ctx = rpc_ctx(call);
	struct cri *c;
	int r = cri_of(call, &c, err);

	if (r < 0)
		return r;
	v[0] = condition(ctx->arena, "RuntimeReady", true, "", "");
	v[1] = network(ctx, c);
	if (!v[0] || !v[1])
		return err_nomem(err);
	r = deprecations(ctx, c, &v[2], err);
	if (r == 0)
		r = handlers(ctx, c, &resp, err);
	if (r == 0 && q->verbose)
		r = verbose(ctx, c, &resp, err);
	if (r < 0)
		return r;
	status.conditions = v;
	status.n_conditions = ARRAY_LEN(v);
	features.supplemental_groups_policy = true;
	features.user_namespaces_host_network = true;
	resp.status = &status;
	resp.features = &features;
	return rpc_send(call, &resp.base, err);
}
