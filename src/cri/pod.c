/* SPDX-License-Identifier: Apache-2.0 */
#include "cri/pod.h"

#include <string.h>

#include "base/json.h"
#include "base/str.h"
#include "cri/io.h"
#include "rpc/pb_json.h"
#include "rpc/rpc.h"

#define VERSION_TEXT "v1"

int cri_message_copy(struct arena *a, const ProtobufCMessage *m, void *ret, struct err *err)
{
	size_t n;
	uint8_t *p = rpc_pack(a, m, &n);
	return p ? rpc_unpack(a, m->descriptor, p, n, ret, err) : err_nomem(err);
}

char *cri_pod_name(struct arena *a, const CRI(PodSandboxMetadata) * m)
{
	return arena_printf(a, "%s_%s_%s_%u", m->name, m->namespace_, m->uid, m->attempt);
}

char *cri_container_name(struct arena *a, const CRI(ContainerMetadata) * m,
			 const CRI(PodSandboxMetadata) * pod)
{
	return arena_printf(a, "%s_%s_%s_%s_%u", m->name, pod->name, pod->namespace_, pod->uid,
			    m->attempt);
}

/* {"Version", "Metadata"} as an Any; takes @metadata over. */
static int pack(struct arena *a, const char *type_url, json_t *metadata, struct any *ret,
		struct err *err)
{
	json_t *j _cleanup_json_ =
		json_pack("{s:s, s:o}", "Version", VERSION_TEXT, "Metadata", metadata);
	_cleanup_free_ char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;
	char *copy = text ? arena_strdup(a, text) : NULL;

	if (!copy)
		return err_nomem(err);
	*ret = (struct any){.type_url = type_url, .value = copy, .len = strlen(copy)};
	return 0;
}

int cri_pod_pack(struct arena *a, struct cri_pod *p, struct any *ret, struct err *err)
{
	json_t *ips, *metadata;

	pthread_mutex_lock(&p->o.lock);
	ips = p->additional_ips ? json_array() : json_null();
	for (size_t i = 0; p->additional_ips && p->additional_ips[i]; i++)
		json_array_append_new(ips, json_string(p->additional_ips[i]));
	metadata = json_pack("{s:s, s:s, s:o, s:s, s:s, s:o, s:s, s:O, s:s}", "ID", p->o.id, "Name",
			     p->o.name, "Config", pb_json(&p->config->base), "NetNSPath",
			     str_or(p->netns_path, ""), "IP", str_or(p->ip, ""), "AdditionalIPs",
			     ips, "RuntimeHandler", p->handler, "CNIResult",
			     p->cni_result ? p->cni_result : json_null(), "ProcessLabel",
			     str_or(p->selinux_label, ""));
	pthread_mutex_unlock(&p->o.lock);
	return pack(a, CRI_SANDBOX_TYPE_URL, metadata, ret, err);
}

int cri_container_pack(struct arena *a, struct cri_container *c, struct any *ret, struct err *err)
{
	json_t *metadata;

	pthread_mutex_lock(&c->o.lock);
	metadata = json_pack("{s:s, s:s, s:s, s:o, s:s, s:s, s:s, s:s}", "ID", c->o.id, "Name",
			     c->o.name, "SandboxID", c->pod_id, "Config", pb_json(&c->config->base),
			     "ImageRef", c->image_ref, "LogPath", str_or(c->log_path, ""),
			     "StopSignal", str_or(c->stop_signal, ""), "ProcessLabel",
			     str_or(c->selinux_label, ""));
	pthread_mutex_unlock(&c->o.lock);
	return pack(a, CRI_CONTAINER_TYPE_URL, metadata, ret, err);
}

/* The member "Metadata" of what pack() wrote; borrowed from *@ret_doc. */
static int parse(const struct any *any, const char *type_url, json_t **ret_doc, json_t **ret,
		 struct err *err)
{
	json_t *doc _cleanup_json_ = NULL;

	if (!any->type_url || !streq(any->type_url, type_url))
		return err_set(err, ERR_INVALID_ARGUMENT, "metadata is of type \"%s\"",
			       str_or(any->type_url, ""));
	int r = json_parse(any->value, any->len, &doc, err);
	if (r < 0)
		return err_prefix(err, "metadata");
	if (!streq(json_str(doc, "Version", ""), VERSION_TEXT) || !json_obj(doc, "Metadata"))
		return err_set(err, ERR_INVALID_ARGUMENT, "metadata of version \"%s\" is not known",
			       json_str(doc, "Version", ""));
	*ret = json_obj(doc, "Metadata");
	*ret_doc = TAKE_PTR(doc);
	return 0;
}

/* Copies of strings of @m; a missing one is "". */
static const char *member(struct arena *a, const json_t *m, const char *key)
{
	return arena_strdup(a, json_str(m, key, ""));
}

static void pod_release(struct cri_object *o)
{
	struct cri_pod *p = (struct cri_pod *)o;
	json_decref(p->cni_result);
}

static int pod_fill(struct cri_pod *p, const struct cri_config *config, const json_t *m,
		    struct err *err)
{
	struct arena *a = p->o.arena;
	const json_t *ips = json_arr(m, "AdditionalIPs");
	const char **v = NULL;
	json_t *result = json_object_get(m, "CNIResult");
	int r = json_pb(a, json_object_get(m, "Config"),
			&runtime__v1__pod_sandbox_config__descriptor, &p->config, err);
	if (r < 0)
		return err_prefix(err, "sandbox %s: Config", p->o.id);
	if (!p->config->metadata)
		return err_set(err, ERR_INVALID_ARGUMENT, "sandbox %s: Config has no metadata",
			       p->o.id);
	if (ips) {
		v = arena_new_array(a, const char *, json_array_size(ips) + 1);
		for (size_t i = 0; v && i < json_array_size(ips); i++) {
			const char *ip = json_string_value(json_array_get(ips, i));
			v[i] = arena_strdup(a, ip ? ip : "");
		}
		if (!v)
			return err_nomem(err);
	}
	p->additional_ips = v;
	p->handler = member(a, m, "RuntimeHandler");
	p->netns_path = member(a, m, "NetNSPath");
	p->ip = member(a, m, "IP");
	p->selinux_label = member(a, m, "ProcessLabel");
	p->image_ref = p->userns_path = "";
	p->cni_result = result && !json_is_null(result) ? json_incref(result) : NULL;
	if (!p->handler || !p->netns_path || !p->ip || !p->selinux_label)
		return err_nomem(err);
	p->runtime = cri_config_handler(config, p->handler);
	p->host_network = p->config->linux && p->config->linux->security_context &&
			  p->config->linux->security_context->namespace_options &&
			  p->config->linux->security_context->namespace_options->network ==
				  RUNTIME__V1__NAMESPACE_MODE__NODE;
	return 0;
}

int cri_pod_unpack(const struct cri_config *config, const struct any *metadata,
		   struct cri_pod **ret, struct err *err)
{
	json_t *doc _cleanup_json_ = NULL, *m;
	_cleanup_pod_ struct cri_pod *p = NULL;
	int r = parse(metadata, CRI_SANDBOX_TYPE_URL, &doc, &m, err);

	if (r == 0)
		r = cri_object_new(sizeof(*p), json_str(m, "ID", ""), json_str(m, "Name", ""),
				   pod_release, &p, err);
	if (r == 0)
		r = pod_fill(p, config, m, err);
	if (r == 0)
		*ret = TAKE_PTR(p);
	return r;
}

int cri_pod_new(const struct cri_config *config, const char *id, const char *name,
		const CRI(PodSandboxConfig) * pod, const char *handler, struct cri_pod **ret,
		struct err *err)
{
	json_t *m _cleanup_json_ =
		json_pack("{s:o, s:s}", "Config", pb_json(&pod->base), "RuntimeHandler", handler);
	_cleanup_pod_ struct cri_pod *p = NULL;
	int r = m ? cri_object_new(sizeof(*p), id, name, pod_release, &p, err) : err_nomem(err);

	if (r == 0)
		r = pod_fill(p, config, m, err);
	if (r == 0)
		*ret = TAKE_PTR(p);
	return r;
}

static int container_fill(struct cri_container *c, const json_t *m, struct err *err)
{
	struct arena *a = c->o.arena;
	int r = json_pb(a, json_object_get(m, "Config"), &runtime__v1__container_config__descriptor,
			&c->config, err);
	if (r < 0)
		return err_prefix(err, "container %s: Config", c->o.id);
	if (!c->config->metadata)
		return err_set(err, ERR_INVALID_ARGUMENT, "container %s: Config has no metadata",
			       c->o.id);
	c->pod_id = member(a, m, "SandboxID");
	c->image_ref = member(a, m, "ImageRef");
	c->log_path = member(a, m, "LogPath");
	c->stop_signal = member(a, m, "StopSignal");
	c->selinux_label = member(a, m, "ProcessLabel");
	if (!c->pod_id || !c->image_ref || !c->log_path || !c->stop_signal || !c->selinux_label)
		return err_nomem(err);
	c->snapshotter = "";
	c->snapshot_key = c->o.id;
	c->status.reason = c->status.message = "";
	return 0;
}

static void container_release(struct cri_object *o)
{
	struct cri_container *k = (struct cri_container *)o;

	if (k->io)
		cri_io_unref(k->io);
}

int cri_container_unpack(const struct any *metadata, struct cri_container **ret, struct err *err)
{
	json_t *doc _cleanup_json_ = NULL, *m;
	_cleanup_container_ struct cri_container *c = NULL;
	int r = parse(metadata, CRI_CONTAINER_TYPE_URL, &doc, &m, err);

	if (r == 0)
		r = cri_object_new(sizeof(*c), json_str(m, "ID", ""), json_str(m, "Name", ""),
				   container_release, &c, err);
	if (r == 0)
		r = container_fill(c, m, err);
	if (r == 0)
		*ret = TAKE_PTR(c);
	return r;
}

int cri_container_new(const char *id, const char *name, const CRI(ContainerConfig) * config,
		      const char *pod_id, struct cri_container **ret, struct err *err)
{
	json_t *m _cleanup_json_ =
		json_pack("{s:o, s:s}", "Config", pb_json(&config->base), "SandboxID", pod_id);
	_cleanup_container_ struct cri_container *c = NULL;
	int r = m ? cri_object_new(sizeof(*c), id, name, container_release, &c, err)
		  : err_nomem(err);

	if (r == 0)
		r = container_fill(c, m, err);
	if (r == 0)
		*ret = TAKE_PTR(c);
	return r;
}

int cri_container_set_user(struct cri_container *c, const json_t *spec, struct err *err)
{
	CRI(LinuxContainerUser) *u = arena_new_obj(c->o.arena, CRI(LinuxContainerUser));
	const json_t *user = json_obj(json_obj(spec, "process"), "user"),
		     *gids = json_arr(user, "additionalGids");
	size_t n = json_array_size(gids);

	if (!u)
		return err_nomem(err);
	*u = (CRI(LinuxContainerUser))CRI_INIT(LINUX_CONTAINER_USER);
	u->uid = json_int(user, "uid", 0);
	u->gid = json_int(user, "gid", 0);
	u->supplemental_groups = arena_new_array(c->o.arena, int64_t, n + 1);
	if (!u->supplemental_groups)
		return err_nomem(err);
	for (; u->n_supplemental_groups < n; u->n_supplemental_groups++)
		u->supplemental_groups[u->n_supplemental_groups] =
			json_integer_value(json_array_get(gids, u->n_supplemental_groups));
	c->user = u;
	return 0;
}
