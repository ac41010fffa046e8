/* SPDX-License-Identifier: Apache-2.0 */
/* Parts of a spec that sandboxes and containers share. Each changes the spec in place. */
#pragma once

#include "cri/spec.h"
#include "oci/spec.h"

/* The spec to start from: base_runtime_spec of @runtime (NULL = none), or the default without /run,
 * and without rlimits. */
int spec_part_base(struct arena *a, const struct cri_handler *runtime, const char *id,
		   bool container, json_t **ret, struct err *err) _must_check_;
/* linux.cgroupsPath below @parent: a slice gives systemd's form. */
int spec_part_cgroup(struct arena *a, json_t *spec, const char *parent, const char *id,
		     struct err *err) _must_check_;
/* Annotations that one of @globs matches. */
int spec_part_annotations(json_t *spec, const char *const *globs, const struct labels *from,
			  struct err *err) _must_check_;
int spec_part_annotate(json_t *spec, const char *key, const char *value,
		       struct err *err) _must_check_;
/* process.oomScoreAdj; raised to the daemon's own where it may not be lowered. */
int spec_part_oom(json_t *spec, const struct cri_config *config, int64_t adj,
		  struct err *err) _must_check_;
/* From the profile, or the deprecated path, or what the configuration says for none. */
int spec_part_seccomp(struct arena *a, json_t *spec, const CRI(SecurityProfile) * profile,
		      const char *path, bool privileged, const struct cri_config *config,
		      struct err *err) _must_check_;
/* process.apparmorProfile. */
int spec_part_apparmor(struct arena *a, json_t *spec, const CRI(SecurityProfile) * profile,
		       const char *path, bool privileged, const struct cri_config *config,
		       struct err *err) _must_check_;
/* A user namespace as the pod has it: the mappings, and the namespace at @path ("" = a new one). */
int spec_part_userns(json_t *spec, const CRI(UserNamespace) * u, const char *path,
		     struct err *err) _must_check_;
/* Capabilities of a container that is not privileged. */
int spec_part_capabilities(json_t *spec, const CRI(Capability) * c, struct err *err) _must_check_;
/* User, group and supplementary groups; image_user is for when none is asked for. */
int spec_part_user(struct arena *a, json_t *spec, const struct cri_spec_container *in,
		   struct err *err) _must_check_;
/* All of a container's mounts. */
int spec_part_mounts(struct arena *a, json_t *spec, const struct cri_spec_container *in,
		     struct err *err) _must_check_;
int spec_part_devices(json_t *spec, const struct cri_spec_container *in,
		      struct err *err) _must_check_;

/* The options of a request that may leave all of it out: never NULL. */
const CRI(NamespaceOption) * cri_namespaces(const CRI(NamespaceOption) * o);
const CRI(LinuxContainerSecurityContext) * cri_security(const CRI(ContainerConfig) * c);
const CRI(LinuxSandboxSecurityContext) * cri_pod_security(const CRI(PodSandboxConfig) * c);
/* Labels of a map field. */
int cri_labels(struct arena *a, void *entries, size_t n, struct labels *ret,
	       struct err *err) _must_check_;
