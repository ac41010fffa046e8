/* SPDX-License-Identifier: Apache-2.0 */
/* The spec of a pod's sandbox: the process that holds the namespaces. */
#include <stdio.h>

#include "base/path.h"
#include "base/str.h"
#include "cri/spec_internal.h"

#define SANDBOX_CPU_SHARES 2
#define SANDBOX_OOM (-998)

/* What the pod's files are shared by: the pause process has the groups, too. */
static int groups(json_t *spec, const CRI(LinuxSandboxSecurityContext) * s, struct err *err)
{
	json_t *v = json_array(), *gid = spec_get(spec, "process/user/gid");
	bool ok = v && json_array_append_new(v, json_integer(json_integer_value(gid))) == 0;

	for (size_t i = 0; ok && i < s->n_supplemental_groups; i++) {
		int64_t g = s->supplemental_groups[i];
		size_t k = 0;
		if (g < 0 || g > UINT32_MAX) {
			json_decref(v);
			return err_set(err, ERR_UNKNOWN, "supplemental group %lld is out of range",
				       (long long)g);
		}
		while (k < json_array_size(v) && json_integer_value(json_array_get(v, k)) < g)
			k++;
		if (k == json_array_size(v) || json_integer_value(json_array_get(v, k)) != g)
			ok = json_array_insert_new(v, k, json_integer(g)) == 0;
	}
	if (!ok) {
		json_decref(v);
		return err_nomem(err);
	}
	return spec_set(spec, "process/user/additionalGids", v, err);
}

static int process(json_t *spec, const struct cri_spec_pod *in, struct err *err)
{
	const CRI(LinuxSandboxSecurityContext) *s = cri_pod_security(in->pod);
	int r = spec_apply_image(spec, in->image.config, NULL, 0, err);

	if (r < 0)
		return err_prefix(err, "sandbox image %s", in->image.name);
	r = spec_set(spec, "root", json_pack("{s:s, s:b}", "path", "rootfs", "readonly", 1), err);
	if (r == 0 && s->run_as_user) {
		int64_t uid = s->run_as_user->value,
			gid = s->run_as_group ? s->run_as_group->value : 0;
		if (uid < 0 || uid > UINT32_MAX || gid < 0 || gid > UINT32_MAX)
			return err_set(err, ERR_UNKNOWN, "sandbox: user %lld:%lld is out of range",
				       (long long)uid, (long long)gid);
		r = spec_set_user(spec, (uint32_t)uid, (uint32_t)gid, NULL, 0, err);
	} else if (r == 0 && s->run_as_group)
		return err_set(err, ERR_UNKNOWN, "user group \"%lld\" is specified without user",
			       (long long)s->run_as_group->value);
	if (r == 0 && s->n_supplemental_groups)
		r = groups(spec, s, err);
	if (r == 0 && !str_empty(in->selinux_label))
		r = spec_set(spec, "process/selinuxLabel", json_string(in->selinux_label), err);
	return r < 0 ? r : spec_part_oom(spec, in->config, SANDBOX_OOM, err);
}

static int namespaces(json_t *spec, const struct cri_spec_pod *in, struct err *err)
{
	const CRI(NamespaceOption) *ns =
		cri_namespaces(cri_pod_security(in->pod)->namespace_options);
	/* With the host's UTS namespace the runtime refuses it, as it should. */
	int r = str_empty(in->pod->hostname)
			? 0
			: spec_set(spec, "hostname", json_string(in->pod->hostname), err);

	if (r < 0)
		return r;
	if (ns->network == RUNTIME__V1__NAMESPACE_MODE__NODE) {
		spec_remove_namespace(spec, "network");
		spec_remove_namespace(spec, "uts");
	} else {
		r = spec_set_namespace(spec, "network", in->netns_path, err);
	}
	if (ns->pid == RUNTIME__V1__NAMESPACE_MODE__NODE)
		spec_remove_namespace(spec, "pid");
	if (ns->ipc == RUNTIME__V1__NAMESPACE_MODE__NODE)
		spec_remove_namespace(spec, "ipc");
	return r < 0 ? r : spec_part_userns(spec, ns->userns_options, in->userns_path, err);
}

static int bind(json_t *spec, const char *target, const char *source, struct err *err)
{
	const char *options[] = {"rbind", "ro", "nosuid", "nodev", "noexec"};
	struct mount m = {.type = "bind",
			  .source = source,
			  .target = target,
			  .options = options,
			  .n_options = ARRAY_LEN(options)};
	return str_empty(source) ? 0 : spec_add_mount(spec, &m, err);
}

static int mounts(json_t *spec, const struct cri_spec_pod *in, struct err *err)
{
	const CRI(NamespaceOption) *ns =
		cri_namespaces(cri_pod_security(in->pod)->namespace_options);
	json_t *v = spec_get(spec, "mounts"), *m;
	bool sys = ns->network == RUNTIME__V1__NAMESPACE_MODE__NODE && ns->userns_options &&
		   ns->userns_options->mode == RUNTIME__V1__NAMESPACE_MODE__POD;
	size_t i;

	for (i = json_array_size(v); i > 0; i--)
		if (streq(json_str(json_array_get(v, i - 1), "destination", ""), "/dev/shm"))
			json_array_remove(v, i - 1);
	json_array_foreach (v, i, m)
		if (sys && streq(json_str(m, "destination", ""), "/sys")) {
			json_t *j = json_pack("{s:s, s:s, s:s, s:[s,s,s,s,s]}", "destination",
					      "/sys", "type", "bind", "source", "/sys", "options",
					      "rbind", "rro", "nosuid", "nodev", "noexec");
			if (!j || json_array_set_new(v, i, j) < 0)
				return err_nomem(err);
		}
	int r = bind(spec, "/dev/shm", in->shm_path, err);
	return r < 0 ? r : bind(spec, "/etc/resolv.conf", in->resolv_conf_path, err);
}

/* Keys hold dots, never slashes as a path in the spec would. */
static int sysctl(json_t *spec, const char *key, const char *value, struct err *err)
{
	json_t *linux_ = json_obj_make(spec, "linux"),
	       *o = linux_ ? json_obj_make(linux_, "sysctl") : NULL;

	return o && json_object_set_new(o, key, json_string(value)) == 0 ? 0 : err_nomem(err);
}

static int sysctls(json_t *spec, const struct cri_spec_pod *in, struct err *err)
{
	const CRI(LinuxPodSandboxConfig) *l = in->pod->linux;
	const CRI(NamespaceOption) *ns =
		cri_namespaces(cri_pod_security(in->pod)->namespace_options);
	bool user =
		ns->userns_options && ns->userns_options->mode == RUNTIME__V1__NAMESPACE_MODE__POD;
	bool ports = in->config->enable_unprivileged_ports,
	     icmp = in->config->enable_unprivileged_icmp && !user;
	int r = 0;

	for (size_t i = 0; l && r == 0 && i < l->n_sysctls; i++) {
		const char *key = l->sysctls[i]->key;
		ports = ports && !streq(key, "net.ipv4.ip_unprivileged_port_start");
		icmp = icmp && !streq(key, "net.ipv4.ping_group_range");
		r = sysctl(spec, key, l->sysctls[i]->value, err);
	}
	if (ns->network == RUNTIME__V1__NAMESPACE_MODE__NODE)
		return r;
	if (r == 0 && ports)
		r = sysctl(spec, "net.ipv4.ip_unprivileged_port_start", "0", err);
	if (r == 0 && icmp)
		r = sysctl(spec, "net.ipv4.ping_group_range", "0 2147483647", err);
	return r;
}

static int number(json_t *spec, const char *key, int64_t v, struct err *err)
{
	char text[24];
	snprintf(text, sizeof(text), "%lld", (long long)v);
	return spec_part_annotate(spec, key, text, err);
}

static int resource_annotations(json_t *spec, const CRI(LinuxPodSandboxConfig) * l, struct err *err)
{
	const CRI(LinuxContainerResources) *res = l ? l->resources : NULL;
	int r;

	if (!res)
		return 0;
	r = number(spec, "io.kubernetes.cri.sandbox-cpu-period", res->cpu_period, err);
	if (r == 0)
		r = number(spec, "io.kubernetes.cri.sandbox-cpu-quota", res->cpu_quota, err);
	if (r == 0)
		r = number(spec, "io.kubernetes.cri.sandbox-cpu-shares", res->cpu_shares, err);
	return r < 0 ? r
		     : number(spec, "io.kubernetes.cri.sandbox-memory", res->memory_limit_in_bytes,
			      err);
}

static int annotations(struct arena *a, json_t *spec, const struct cri_spec_pod *in,
		       struct err *err)
{
	const CRI(PodSandboxMetadata) *m = in->pod->metadata;
	const char *const fixed[][2] = {{"container-type", "sandbox"},
					{"sandbox-id", in->id},
					{"sandbox-name", m->name},
					{"sandbox-namespace", m->namespace_},
					{"sandbox-uid", m->uid},
					{"sandbox-log-directory", in->pod->log_directory},
					{"podsandbox.image-name", in->image.name}};
	struct labels own;
	char key[64];
	int r = cri_labels(a, in->pod->annotations, in->pod->n_annotations, &own, err);

	if (r == 0 && in->runtime)
		r = spec_part_annotations(spec, in->runtime->pod_annotations, &own, err);
	for (size_t i = 0; r == 0 && i < ARRAY_LEN(fixed); i++) {
		snprintf(key, sizeof(key), "io.kubernetes.cri.%s", fixed[i][0]);
		r = spec_part_annotate(spec, key, str_or(fixed[i][1], ""), err);
	}
	return r < 0 ? r : resource_annotations(spec, in->pod->linux, err);
}

static int fill(struct arena *a, json_t *spec, const struct cri_spec_pod *in, struct err *err)
{
	const CRI(LinuxSandboxSecurityContext) *s = cri_pod_security(in->pod);
	int r = process(spec, in, err);

	if (r == 0)
		r = namespaces(spec, in, err);
	if (r == 0)
		r = mounts(spec, in, err);
	if (r == 0)
		r = sysctls(spec, in, err);
	if (r == 0)
		r = spec_set(spec, "linux/resources/cpu/shares", json_integer(SANDBOX_CPU_SHARES),
			     err);
	if (r == 0 && in->pod->linux)
		r = spec_part_cgroup(a, spec, in->pod->linux->cgroup_parent, in->id, err);
	/* The sandbox's own process is ours: it is confined even in a privileged pod. */
	if (r == 0)
		r = spec_part_seccomp(a, spec, s->seccomp, s->seccomp_profile_path, s->privileged,
				      in->config, err);
	return r < 0 ? r : annotations(a, spec, in, err);
}

int cri_spec_pod(struct arena *a, const struct cri_spec_pod *in, json_t **ret, struct err *err)
{
	json_t *spec _cleanup_json_ = NULL;
	/* base_runtime_spec, with its limits and hooks, is for what users run. */
	int r = spec_part_base(a, NULL, in->id, false, &spec, err);

	if (r == 0)
		r = fill(a, spec, in, err);
	if (r == 0)
		*ret = TAKE_PTR(spec);
	return r;
}
