/* SPDX-License-Identifier: Apache-2.0 */
/* OCI specs of sandboxes and containers from what the kubelet asks for. Nothing is changed on the
 * host but directories made for missing mount sources; whatever else is needed comes in. The caller
 * decrefs the result. -ERR_INVALID_ARGUMENT names the field. */
#pragma once

#include "cri/internal.h"

/* Of an image: what the spec takes from its config document. */
struct cri_spec_image {
	const char *name;
	const json_t *config; /* the "config" object; NULL = none */
};

struct cri_spec_pod {
	const struct cri_config *config;
	const struct cri_handler *runtime;
	const char *id;
	const CRI(PodSandboxConfig) * pod;
	struct cri_spec_image image;
	const char *netns_path;			 /* "" = the host's */
	const char *userns_path;		 /* "" = none */
	const char *shm_path, *resolv_conf_path; /* on the host */
	const char *selinux_label;
};
int cri_spec_pod(struct arena *a, const struct cri_spec_pod *in, json_t **ret,
		 struct err *err) _must_check_;

struct cri_spec_mount {
	const char *container_path, *host_path;
	bool readonly;
};

struct cri_spec_container {
	const struct cri_config *config;
	const struct cri_handler *runtime;
	const char *id, *name;
	const CRI(ContainerConfig) * container;
	const CRI(PodSandboxConfig) * pod;
	const char *pod_id;
	uint32_t pod_pid;	/* whose namespaces are joined */
	uint32_t target_pid;	/* of namespace mode TARGET, 0 = none */
	const char *netns_path; /* the pod's, "" = the host's */
	struct cri_spec_image image;
	const char *passwd, *group; /* text of these files of the container, "" = absent */
	const char *hostname_path, *hosts_path, *resolv_conf_path, *shm_path; /* on the host */
	const struct cri_spec_mount *volumes; /* image volumes with their directories on the host */
	size_t n_volumes;
	/* Directory that a Mount with an image is mounted from, by the mount's index; NULL = that
	 * mount has none. */
	const char *const *image_mounts;
	bool recursive_read_only; /* the handler can */
	const char *selinux_label, *selinux_mount_label;
};
int cri_spec_container(struct arena *a, const struct cri_spec_container *in, json_t **ret,
		       struct err *err) _must_check_;

/* Merges what is set in @r into linux.resources (and oomScoreAdj) of the spec. */
int cri_spec_update_resources(json_t *spec, const CRI(LinuxContainerResources) * r,
			      const struct cri_config *config, struct err *err) _must_check_;

/* The other way: what the spec limits. In @a. */
int cri_resources_of_spec(struct arena *a, const json_t *spec,
			  const CRI(LinuxContainerResources) * *ret, struct err *err) _must_check_;

/* Labels and levels for SELinux; "" when SELinux is off. */
int cri_selinux_labels(struct arena *a, const struct cri_config *config,
		       const CRI(SELinuxOption) * options, const char **ret_process,
		       const char **ret_mount, struct err *err) _must_check_;
