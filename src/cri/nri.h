/* SPDX-License-Identifier: Apache-2.0 */
/* Node resource interface: plugins that see and adjust pods and containers
 * (https://github.com/containerd/nri). Functions do nothing when @n is NULL (disabled) or no plugin
 * is connected. A plugin that fails or does not answer in time is closed; a request that it refused
 * fails. Any thread. */
#pragma once

#include "cri/internal.h"

/* What the built-in validator refuses. */
struct nri_validator {
	bool enable;
	bool reject_oci_hook, reject_runtime_default_seccomp, reject_unconfined_seccomp,
		reject_custom_seccomp, reject_namespace, reject_sysctl;
	const char *const *required_plugins; /* ends in NULL */
	const char *tolerate_missing_annotation;
};

struct nri_options {
	const char *socket_path, *plugin_path, *plugin_config_path;
	int64_t registration_timeout_ns, request_timeout_ns;
	bool disable_connections;
	struct nri_validator validator;
	const char *version; /* of the runtime, for plugins */
	struct loop *loop;
	struct pool *pool;
};

int nri_new(const struct nri_options *o, struct nri **ret, struct err *err) _must_check_;
/* Starts the plugins that are installed, and accepts others. */
int nri_start(struct nri *n, struct cri *c, struct err *err) _must_check_;
void nri_stop(struct nri *n);
void nri_free(struct nri *n);

/* Around each request that changes pods or containers: it waits while a plugin is being told of
 * what there is, and the other way round, so that no plugin misses anything. Not nested.
 * -ERR_CANCELED, -ERR_DEADLINE_EXCEEDED */
int nri_block(struct ctx *ctx, struct nri *n, struct err *err) _must_check_;
void nri_unblock(struct nri *n);

int nri_run_pod(struct ctx *ctx, struct nri *n, struct cri_pod *p, struct err *err) _must_check_;
int nri_stop_pod(struct ctx *ctx, struct nri *n, struct cri_pod *p, struct err *err) _must_check_;
int nri_remove_pod(struct ctx *ctx, struct nri *n, struct cri_pod *p, struct err *err) _must_check_;
int nri_update_pod(struct ctx *ctx, struct nri *n, struct cri_pod *p,
		   const CRI(LinuxContainerResources) * overhead,
		   const CRI(LinuxContainerResources) * resources, struct err *err) _must_check_;
/* Changes @spec as the plugins want it. */
int nri_create_container(struct ctx *ctx, struct nri *n, struct cri_pod *p, struct cri_container *k,
			 json_t *spec, struct err *err) _must_check_;
/* @resources may be replaced (in ctx's arena). */
int nri_update_container(struct ctx *ctx, struct nri *n, struct cri_pod *p, struct cri_container *k,
			 const CRI(LinuxContainerResources) * *resources,
			 struct err *err) _must_check_;
int nri_stop_container(struct ctx *ctx, struct nri *n, struct cri_pod *p, struct cri_container *k,
		       struct err *err) _must_check_;

/* Those whose answer changes nothing; failures are logged. */
enum nri_event {
	NRI_POST_CREATE_CONTAINER,
	NRI_START_CONTAINER,
	NRI_POST_START_CONTAINER,
	NRI_POST_UPDATE_CONTAINER,
	NRI_REMOVE_CONTAINER,
	NRI_POST_UPDATE_POD
};
void nri_event(struct ctx *ctx, struct nri *n, enum nri_event e, struct cri_pod *p,
	       struct cri_container *k);
