/* SPDX-License-Identifier: Apache-2.0 */
/* The runtime's configuration as JSON, which Status shows to those who ask for details. The names
 * are containerd's, where they come from its structures and not from its configuration file. */
#include "base/json.h"
#include "base/str.h"
#include "base/time.h"
#include "cri/internal.h"

static json_t *texts(const char *const *v)
{
	json_t *list = json_array();

	for (; list && *v; v++) {
		if (json_array_append_new(list, json_string(*v)) == 0)
			continue;
		json_decref(list);
		list = NULL;
	}
	return list;
}

static json_t *handler(const struct cri_handler *h)
{
	return json_pack("{s:s, s:s, s:o, s:o, s:O?, s:b, s:b, s:b, s:s, s:s, s:I, s:s, s:s, s:s}",
			 "runtimeType", str_or(h->type, ""), "runtimePath", str_or(h->path, ""),
			 "PodAnnotations", texts(h->pod_annotations), "ContainerAnnotations",
			 texts(h->container_annotations), "options", h->options,
			 "privileged_without_host_devices", h->privileged_without_host_devices,
			 "privileged_without_host_devices_all_devices_allowed",
			 h->privileged_without_host_devices_all_devices_allowed, "cgroupWritable",
			 h->cgroup_writable, "baseRuntimeSpec", str_or(h->base_spec_path, ""),
			 "cniConfDir", str_or(h->cni_conf_dir, ""), "cniMaxConfNum",
			 (json_int_t)h->cni_max_conf_num, "snapshotter", str_or(h->snapshotter, ""),
			 "sandboxer", str_or(h->sandboxer, ""), "io_type", str_or(h->io_type, ""));
}

static json_t *handlers(const struct cri_config *k)
{
	json_t *all = json_object();

	for (size_t i = 0; all && i < k->n_handlers; i++) {
		if (json_object_set_new(all, k->handlers[i].name, handler(&k->handlers[i])) == 0)
			continue;
		json_decref(all);
		all = NULL;
	}
	return all;
}

static json_t *runtimes(const struct cri_config *k)
{
	return json_pack("{s:s, s:o, s:b, s:b}", "defaultRuntimeName",
			 str_or(k->default_handler, ""), "runtimes", handlers(k),
			 "ignoreBlockIONotEnabledErrors", k->ignore_blockio_not_enabled_errors,
			 "ignoreRdtNotEnabledErrors", k->ignore_rdt_not_enabled_errors);
}

static json_t *cni(const struct cri_config *k)
{
	return json_pack("{s:o, s:s, s:I, s:b, s:s, s:s, s:b}", "binDirs", texts(k->cni_bin_dirs),
			 "confDir", str_or(k->cni_conf_dir, ""), "maxConfNum",
			 (json_int_t)k->cni_max_conf_num, "setupSerially", k->cni_setup_serially,
			 "confTemplate", str_or(k->cni_conf_template, ""), "ipPref",
			 str_or(k->cni_ip_pref, ""), "useInternalLoopback",
			 k->cni_internal_loopback);
}

json_t *cri_config_json(const struct cri *c)
{
	const struct cri_config *k = c->config;
	char drain[40];
	const char *slash = strrchr(c->o.root, '/');
	int top = slash ? (int)(slash - c->o.root) : 0; /* the plugin's directory is the daemon's */

	duration_format(k->drain_exec_sync_io_timeout_ns, drain);
	return json_pack(
		"{s:o, s:o, s:b, s:I, s:I, s:b, s:b, s:b, s:s, s:b, s:b, s:b, s:b, s:b, s:b, s:b, "
		"s:b, s:o, s:s, s:o, s:s#, s:s, s:s}",
		"containerd", runtimes(k), "cni", cni(k), "enableSelinux", k->enable_selinux,
		"selinuxCategoryRange", (json_int_t)k->selinux_category_range,
		"maxContainerLogSize", (json_int_t)k->max_container_log_line_size,
		"disableApparmor", k->disable_apparmor, "restrictOOMScoreAdj",
		k->restrict_oom_score_adj, "disableProcMount", k->disable_proc_mount,
		"unsetSeccompProfile", str_or(k->unset_seccomp_profile, ""),
		"tolerateMissingHugetlbController", k->tolerate_missing_hugetlb_controller,
		"disableHugetlbController", k->disable_hugetlb_controller,
		"device_ownership_from_security_context", k->device_ownership_from_security_context,
		"ignoreImageDefinedVolumes", k->ignore_image_defined_volumes,
		"netnsMountsUnderStateDir", k->netns_mounts_under_state_dir,
		"enableUnprivilegedPorts", k->enable_unprivileged_ports, "enableUnprivilegedICMP",
		k->enable_unprivileged_icmp, "enableCDI", k->enable_cdi, "cdiSpecDirs",
		texts(k->cdi_spec_dirs), "drainExecSyncIOTimeout", drain,
		"ignoreDeprecationWarnings", texts(k->ignore_deprecation_warnings),
		"containerdRootDir", c->o.root, top, "rootDir", c->o.root, "stateDir", c->o.state);
}
