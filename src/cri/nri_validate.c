/* SPDX-License-Identifier: Apache-2.0 */
/* The built-in validator: which adjustments an administrator does not want, and which plugins must
 * be there. */
#include <string.h>

#include "base/str.h"
#include "cri/nri_internal.h"

#define REQUIRED "required-plugins.nri.io"
#define LIST_MAX 1024

static int reject(const char *plugin, const char *what, struct err *err)
{
	return err_set(err, ERR_FAILED_PRECONDITION,
		       "validation error: plugin \"%s\" attempted restricted %s", plugin, what);
}

static int seccomp(const struct nri_validator *v, const NRI(Container) * c,
		   const struct nri_owners *o, struct err *err)
{
	const char *w = nri_owner(o, c->id, NRI_FIELD(SeccompPolicy), "");
	const NRI(SecurityProfile) *p = c->linux ? c->linux->seccomp_profile : NULL;

	if (!w)
		return 0;
	if (!p ||
	    p->profile_type == NRI__PKG__API__V1ALPHA1__SECURITY_PROFILE__PROFILE_TYPE__UNCONFINED)
		return v->reject_unconfined_seccomp
			       ? reject(w, "unconfined seccomp policy adjustment", err)
			       : 0;
	if (p->profile_type ==
	    NRI__PKG__API__V1ALPHA1__SECURITY_PROFILE__PROFILE_TYPE__RUNTIME_DEFAULT)
		return v->reject_runtime_default_seccomp
			       ? reject(w, "runtime default seccomp policy adjustment", err)
			       : 0;
	return v->reject_custom_seccomp ? reject(w, "custom seccomp policy adjustment", err) : 0;
}

/* Of an annotation of the pod: for the container, for the pod, or plain. */
static const char *annotation(const NRI(PodSandbox) * pod, const char *container, const char *key)
{
	const char *found = NULL;
	int rank = 0;

	for (size_t i = 0; i < pod->n_annotations; i++) {
		const char *rest = str_skip(pod->annotations[i]->key, key), *name;
		int now = !rest								     ? 0
			  : (name = str_skip(rest, "/container.")) && streq(name, container) ? 3
			  : streq(rest, "/pod")						     ? 2
						: !*rest;
		if (now > rank) {
			rank = now;
			found = pod->annotations[i]->value;
		}
	}
	return found;
}

static bool present(const char *name, size_t len, struct nri_plugin *const *plugins, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const char *base = nri_plugin_base(plugins[i]);
		if (strlen(base) == len && strncmp(base, name, len) == 0 &&
		    !nri_plugin_closed(plugins[i]))
			return true;
	}
	return false;
}

static int missing(const char *name, size_t len, struct err *err)
{
	return err_set(err, ERR_FAILED_PRECONDITION,
		       "validation error: required plugin \"%.*s\" not present", (int)len, name);
}

/* A YAML list of names: [ a, b ], or a "- a" a line. */
static int annotated(const char *list, struct nri_plugin *const *plugins, size_t n, struct err *err)
{
	static const char between[] = " \t\r\n,[]\"'";

	for (const char *s = list; *s && s - list < LIST_MAX;) {
		s += strspn(s, between);
		if (s[0] == '-' && (s[1] == ' ' || s[1] == '\t')) {
			s++;
			continue;
		}
		size_t len = strcspn(s, between);
		if (len > 0 && !present(s, len, plugins, n))
			return missing(s, MIN(len, (size_t)64), err);
		s += len;
	}
	return 0;
}

static int required(const struct nri_validator *v, const NRI(PodSandbox) * pod,
		    const NRI(Container) * c, struct nri_plugin *const *plugins, size_t n,
		    struct err *err)
{
	const char *t = str_empty(v->tolerate_missing_annotation)
				? NULL
				: annotation(pod, c->name, v->tolerate_missing_annotation);

	if (t && (streq(t, "true") || streq(t, "1") || streq(t, "True") || streq(t, "TRUE")))
		return 0;
	for (const char *const *r = v->required_plugins; *r; r++)
		if (!present(*r, strlen(*r), plugins, n))
			return missing(*r, strlen(*r), err);
	t = annotation(pod, c->name, REQUIRED);
	return t ? annotated(t, plugins, n, err) : 0;
}

int nri_validate(const struct nri_validator *v, const NRI(PodSandbox) * pod,
		 const NRI(Container) * container, const struct nri_owners *o,
		 struct nri_plugin *const *plugins, size_t n_plugins, struct err *err)
{
	int r = 0;

	if (!v->enable)
		return 0;
	const char *hooks = nri_owner(o, container->id, NRI_FIELD(OciHooks), "");
	if (v->reject_oci_hook && hooks)
		return reject(hooks, "OCI hook injection", err);
	r = seccomp(v, container, o, err);
	for (size_t i = 0; r == 0 && i < o->n; i++) {
		if (!streq(o->v[i].container, container->id))
			continue;
		if (v->reject_namespace && o->v[i].field == NRI_FIELD(Namespace))
			r = reject(o->v[i].plugin, "namespace adjustment", err);
		else if (v->reject_sysctl && o->v[i].field == NRI_FIELD(Sysctl))
			r = reject(o->v[i].plugin, "sysctl adjustment", err);
	}
	return r < 0 ? r : required(v, pod, container, plugins, n_plugins, err);
}
