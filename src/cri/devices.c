/* SPDX-License-Identifier: Apache-2.0 */
/* Devices by name (CDI), classes of block I/O and cache, and the default AppArmor profile: what a
 * container's spec names that must be there before it starts. */
#include "base/log.h"
#include "base/str.h"
#include "cri/nri_internal.h"
#include "oci/apparmor.h"
#include "oci/blockio.h"
#include "oci/cdi.h"
#include "oci/rdt.h"
#include "oci/spec.h"

#define CDI_ANNOTATION "cdi.k8s.io/"
#define DEFAULT_APPARMOR "cri-containerd.apparmor.d"
#define NAMES_MAX 1024

/* ---- CDI ---- */

int cri_cdi_inject(struct cri *c, json_t *spec, const char *const *names, size_t n, struct err *err)
{
	const char *const *dirs = c->config->cdi_spec_dirs;
	_cleanup_(cdi_freep) struct cdi *cdi = NULL;
	size_t n_dirs = 0;

	if (n == 0)
		return 0;
	if (!c->config->enable_cdi)
		return err_set(err, ERR_UNKNOWN,
			       "CDI device %.128s: CDI is disabled by the configuration", names[0]);
	for (size_t i = 0; i < n; i++)
		if (!cdi_name_valid(names[i]))
			return err_set(err, ERR_UNKNOWN, "invalid CDI device name \"%.128s\"",
				       names[i]);
	while (dirs[n_dirs])
		n_dirs++;
	/* Anew each time: vendors write their files when they find devices. */
	int r = cdi_load(dirs, n_dirs, &cdi, err);
	if (r < 0)
		return r;
	if (*cdi_problems(cdi))
		log_debug("CDI: %s", cdi_problems(cdi));
	r = cdi_inject(cdi, spec, names, n, err);
	if (r < 0)
		err_prefix(err, "CDI device injection failed");
	return cri_unknown(r, err);
}

struct names {
	struct arena *a;
	const char *v[NAMES_MAX];
	size_t n;
};

static int name_add(struct names *s, const char *name, struct err *err)
{
	for (size_t i = 0; i < s->n; i++)
		if (streq(s->v[i], name))
			return 0;
	if (s->n == NAMES_MAX)
		return err_set(err, ERR_UNKNOWN, "more than %d CDI devices", NAMES_MAX);
	s->v[s->n++] = name;
	return 0;
}

/* Fields of the request come first; what annotations name again is not injected twice. */
static int cdi_devices_of(struct names *s, const CRI(ContainerConfig) * conf, struct err *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < conf->n_cdi_devices; i++)
		r = name_add(s, conf->cdi_devices[i]->name, err);
	for (size_t i = 0; r == 0 && i < conf->n_annotations; i++) {
		size_t n = 0;
		if (!str_has_prefix(conf->annotations[i]->key, CDI_ANNOTATION))
			continue;
		char **v = str_split(s->a, conf->annotations[i]->value, ',', &n);
		if (!v)
			return err_nomem(err);
		for (size_t k = 0; r == 0 && k < n; k++)
			r = name_add(s, v[k], err);
	}
	return r;
}

/* ---- classes ---- */

static int refuse(const char *what, const char *name, bool ignore, const char *hint,
		  struct err *err)
{
	if (!ignore)
		return err_set(
			err, ERR_UNKNOWN,
			"%s disabled, refusing to set %s class of container to \"%.128s\": %s",
			what, what, name, hint);
	log_debug("%s disabled: class \"%.128s\" is ignored", what, name);
	return 0;
}

static int set_blockio(struct cri *c, json_t *spec, const char *name, struct err *err)
{
	json_t *blockio;

	if (!c->o.blockio)
		return refuse(
			"blockio", name, c->config->ignore_blockio_not_enabled_errors,
			"blockio_config_file of io.containerd.service.v1.tasks-service names no "
			"file that could be read",
			err);
	int r = blockio_class(c->o.blockio, name, &blockio, err);
	if (r == 0)
		return spec_set(spec, "linux/resources/blockIO", blockio, err);
	err_prefix(err, "blockio class of container");
	return cri_unknown(r, err);
}

static int set_rdt(struct cri *c, json_t *spec, const char *name, enum rdt_origin origin,
		   struct err *err)
{
	if (!c->o.rdt)
		return refuse("RDT", name, c->config->ignore_rdt_not_enabled_errors,
			      "rdt_config_file of io.containerd.service.v1.tasks-service names no "
			      "file that could be applied",
			      err);
	int r = rdt_class_check(c->o.rdt, name, origin, err);
	if (r == 0)
		return spec_set(spec, "linux/intelRdt/closID", json_string(name), err);
	return cri_unknown(r, err);
}

int nri_classes_apply(struct cri *c, json_t *spec, const struct nri_classes *classes,
		      struct err *err)
{
	int r = str_empty(classes->blockio) ? 0 : set_blockio(c, spec, classes->blockio, err);

	return r < 0 || str_empty(classes->rdt)
		       ? r
		       : set_rdt(c, spec, classes->rdt, classes->rdt_origin, err);
}

static const char *value_of(void *entries, size_t n, const char *key)
{
	struct nri_entry *const *v = entries;

	for (size_t i = 0; key && i < n; i++)
		if (streq(v[i]->key, key))
			return v[i]->value;
	return NULL;
}

/* The container's own annotation, else the pod's for this container, else the pod's for all. */
static const char *class_of(struct arena *a, const CRI(ContainerConfig) * k,
			    const CRI(PodSandboxConfig) * p, const char *what,
			    enum rdt_origin *ret_origin)
{
	const char *v = value_of(k->annotations, k->n_annotations,
				 arena_printf(a, "io.kubernetes.cri.%s-class", what));

	*ret_origin = v ? RDT_CONTAINER_ANNOTATION : RDT_POD_ANNOTATION;
	if (!v && p)
		v = value_of(p->annotations, p->n_annotations,
			     arena_printf(a, "%s.resources.beta.kubernetes.io/container.%s", what,
					  k->metadata->name));
	if (!v && p)
		v = value_of(p->annotations, p->n_annotations,
			     arena_printf(a, "%s.resources.beta.kubernetes.io/pod", what));
	return v;
}

/* ---- all ---- */

int cri_devices_inject(struct ctx *ctx, struct cri *c, struct cri_container *k, json_t *spec,
		       struct err *err)
{
	struct names *s = arena_new_obj(ctx->arena, struct names);
	_cleanup_pod_ struct cri_pod *p = NULL;
	struct nri_classes classes;
	int r = 0;

	if (!s)
		return err_nomem(err);
	s->a = ctx->arena;
	r = cdi_devices_of(s, k->config, err);
	if (r == 0)
		r = cri_cdi_inject(c, spec, s->v, s->n, err);
	if (r < 0)
		return r;
	if (cri_table_get(c->pods, k->pod_id, &p, NULL) < 0)
		p = NULL;
	classes.blockio = class_of(ctx->arena, k->config, p ? p->config : NULL, "blockio",
				   &classes.rdt_origin);
	classes.rdt =
		class_of(ctx->arena, k->config, p ? p->config : NULL, "rdt", &classes.rdt_origin);
	r = nri_classes_apply(c, spec, &classes, err);
	const char *profile = json_str(json_obj(spec, "process"), "apparmorProfile", "");
	if (r == 0 && streq(profile, DEFAULT_APPARMOR))
		r = apparmor_load_default(ctx, NULL, profile, err);
	return r;
}
