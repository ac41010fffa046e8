/* SPDX-License-Identifier: Apache-2.0 */
/* What specs of sandboxes and containers have in common. */
#include "cri/spec.h"

#include <fcntl.h>
#include <fnmatch.h>
#include <linux/capability.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "cri/spec_internal.h"

#define OWN_OOM "/proc/self/oom_score_adj"

const CRI(NamespaceOption) * cri_namespaces(const CRI(NamespaceOption) * o)
{
	static const CRI(NamespaceOption) none = CRI_INIT(NAMESPACE_OPTION);
	return o ? o : &none;
}

const CRI(LinuxContainerSecurityContext) * cri_security(const CRI(ContainerConfig) * c)
{
	static const CRI(LinuxContainerSecurityContext) none =
		CRI_INIT(LINUX_CONTAINER_SECURITY_CONTEXT);
	return c->linux && c->linux->security_context ? c->linux->security_context : &none;
}

const CRI(LinuxSandboxSecurityContext) * cri_pod_security(const CRI(PodSandboxConfig) * c)
{
	static const CRI(LinuxSandboxSecurityContext) none =
		CRI_INIT(LINUX_SANDBOX_SECURITY_CONTEXT);
	return c->linux && c->linux->security_context ? c->linux->security_context : &none;
}

/* All entries of map<string, string> have the layout of this one. */
int cri_labels(struct arena *a, void *entries, size_t n, struct labels *ret, struct err *err)
{
	CRI(PodSandboxConfig__LabelsEntry) **v = entries;

	*ret = (struct labels){0};
	for (size_t i = 0; i < n; i++)
		if (labels_set(a, ret, v[i]->key, v[i]->value) < 0)
			return err_nomem(err);
	return 0;
}

static void drop_mount(json_t *spec, const char *destination)
{
	json_t *mounts = spec_get(spec, "mounts");

	for (size_t i = json_array_size(mounts); i > 0; i--)
		if (streq(json_str(json_array_get(mounts, i - 1), "destination", ""), destination))
			json_array_remove(mounts, i - 1);
}

int spec_part_base(struct arena *a, const struct cri_handler *runtime, const char *id,
		   bool container, json_t **ret, struct err *err)
{
	bool own = runtime && runtime->base_spec;
	json_t *spec;
	int r = 0;

	if (own) {
		char *path = arena_printf(a, "/%s/%s", CRI_NS, id);
		spec = json_deep_copy(runtime->base_spec);
		if (!spec || !path) {
			json_decref(spec);
			return err_nomem(err);
		}
		r = spec_set(spec, "linux/cgroupsPath", json_string(path), err);
	} else
		r = spec_new(CRI_NS, id, spec_host_unified(), &spec, err);
	if (r < 0)
		return r;
	drop_mount(spec, "/run");
	spec_unset(spec, "process/terminal");
	if (!own)
		spec_unset(spec, "process/rlimits");
	if (container)
		drop_mount(spec, "/dev/shm");
	*ret = spec;
	return 0;
}

int spec_part_cgroup(struct arena *a, json_t *spec, const char *parent, const char *id,
		     struct err *err)
{
	const char *path;

	if (str_empty(parent))
		return 0;
	if (str_has_suffix(parent, ".slice"))
		path = arena_printf(a, "%s:cri-containerd:%s", path_base(parent), id);
	else
		path = path_join(a, parent, id);
	return path ? spec_set(spec, "linux/cgroupsPath", json_string(path), err) : err_nomem(err);
}

/* Keys have slashes, so not by path. */
int spec_part_annotate(json_t *spec, const char *key, const char *value, struct err *err)
{
	json_t *o = json_obj_make(spec, "annotations");
	return o && json_object_set_new(o, key, json_string(value)) == 0 ? 0 : err_nomem(err);
}

int spec_part_annotations(json_t *spec, const char *const *globs, const struct labels *from,
			  struct err *err)
{
	for (size_t i = 0; i < from->n; i++)
		for (const char *const *g = globs; *g; g++)
			if (fnmatch(*g, from->v[i].key, FNM_PATHNAME) == 0) {
				int r = spec_part_annotate(spec, from->v[i].key, from->v[i].value,
							   err);
				if (r < 0)
					return r;
				break;
			}
	return 0;
}

/* Lowering needs CAP_SYS_RESOURCE, which a daemon in a container may lack. */
static bool may_lower_oom(void)
{
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct d[2] = {{0}};

	return syscall(SYS_capget, &h, d) == 0 &&
	       d[CAP_TO_INDEX(CAP_SYS_RESOURCE)].effective & CAP_TO_MASK(CAP_SYS_RESOURCE);
}

static int own_oom(int64_t *ret)
{
	char text[16];
	_cleanup_close_ int fd = open(OWN_OOM, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : fd_read_full(fd, text, sizeof(text) - 1);

	if (n <= 0)
		return -EIO;
	text[n] = 0;
	text[strcspn(text, "\n")] = 0;
	return str_to_i64(text, 10, ret);
}

int spec_part_oom(json_t *spec, const struct cri_config *config, int64_t adj, struct err *err)
{
	int64_t own;

	if (config->restrict_oom_score_adj || !may_lower_oom()) {
		int r = own_oom(&own);
		if (r < 0)
			return err_errno(err, r, "read " OWN_OOM);
		adj = MAX(adj, own);
	}
	return spec_set(spec, "process/oomScoreAdj", json_integer(adj), err);
}

static int idmaps(json_t *spec, const char *which, CRI(IDMapping) * *v, size_t n, struct err *err)
{
	if (n != 1)
		return err_set(err, ERR_UNKNOWN,
			       "user namespace: %zu %s, where exactly one is supported", n, which);
	if (v[0]->length == 0)
		return err_set(err, ERR_UNKNOWN, "user namespace: %s of length 0", which);
	return spec_add_idmap(spec, which, v[0]->container_id, v[0]->host_id, v[0]->length, err);
}

int spec_part_userns(json_t *spec, const CRI(UserNamespace) * u, const char *path, struct err *err)
{
	if (!u || u->mode == RUNTIME__V1__NAMESPACE_MODE__NODE) {
		if (u && (u->n_uids || u->n_gids))
			return err_set(err, ERR_UNKNOWN,
				       "user namespace: mappings with the host's namespace");
		return 0;
	}
	if (u->mode != RUNTIME__V1__NAMESPACE_MODE__POD)
		return err_set(err, ERR_UNKNOWN,
			       "user namespace: unsupported mode %d: only POD and NODE are",
			       (int)u->mode);
	int r = idmaps(spec, "uidMappings", u->uids, u->n_uids, err);
	if (r == 0)
		r = idmaps(spec, "gidMappings", u->gids, u->n_gids, err);
	return r < 0 ? r : spec_set_namespace(spec, "user", path, err);
}
