/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the node resource interface share. */
#pragma once

#include "cri/nri.h"
#include "cri/nri_convert.h"
#include "nri/plugin.h"

#define NRI_PLUGINS_MAX 64

struct rpc_listener;

/* Plugins are asked one request at a time, in the order of their indices, as they have always been
 * asked; so a plugin need not think of its own concurrency. What they want changed in other
 * containers is done after that, when others may be asked again: a request that changes one
 * container may wait for a request about another that waits to be asked. */
struct nri {
	struct nri_options o;
	struct nri_plugin_options po;
	struct cri *c;
	struct rpc_listener *listeners; /* the loop's */
	char *socket_path;		/* of our socket, once it is there */
	pthread_mutex_t lock;
	pthread_cond_t changed; /* CLOCK_MONOTONIC */
	/* Under the lock. */
	struct nri_plugin *all[NRI_PLUGINS_MAX]; /* connected, each a reference */
	size_t n_all;
	struct nri_plugin *active[NRI_PLUGINS_MAX]; /* synchronised, by name; borrowed from all */
	size_t n_active;
	unsigned blocks;      /* requests that are in progress */
	bool syncing;	      /* a plugin is told what there is */
	int64_t prefer_until; /* new requests wait until then, for one that waits to be told */
	bool asking;	      /* a request has the plugins */
	bool stopping;
};

/* The plugins to ask, with references, and the right to ask them. 0 plugins: nobody is to be asked,
 * and there is no right to give back. */
struct nri_asking {
	struct nri *n;
	struct nri_plugin *v[NRI_PLUGINS_MAX];
	size_t count;
};
int nri_ask_begin(struct ctx *ctx, struct nri *n, struct nri_asking *ret,
		  struct err *err) _must_check_;
void nri_ask_end(struct nri_asking *a);

/* Messages about pods and containers. @spec NULL: as it is recorded. */
int nri_pod(struct ctx *ctx, struct cri *c, struct cri_pod *p, NRI(PodSandbox) * *ret,
	    struct err *err) _must_check_;
int nri_container(struct ctx *ctx, struct cri *c, struct cri_container *k, const json_t *spec,
		  NRI(Container) * *ret, struct err *err) _must_check_;
/* {"linux": {"resources": ...}} */
int nri_resources_of_cri(struct cri *c, const CRI(LinuxContainerResources) * r, json_t **ret,
			 struct err *err) _must_check_;
/* Tells a plugin all pods and containers; what it wants changed is in *@ret (may have none). */
int nri_synchronize(struct ctx *ctx, struct nri *n, struct nri_plugin *p,
		    NRI(SynchronizeResponse) * *ret, struct err *err) _must_check_;

/* Updates of containers as several plugins want them in one request. */
struct nri_updates {
	struct nri_owners *owners;
	json_t *containers;   /* id -> {"linux": ..., "ignore_failure": bool}; owned */
	const char *creating; /* a container that cannot be updated yet, or "" */
	char **evict, **reasons;
	size_t n_evict, cap_evict, cap_reasons;
};
void nri_updates_done(struct nri_updates *u);
int nri_updates_add(struct nri_updates *u, NRI(ContainerUpdate) *const *v, size_t n,
		    const char *plugin, struct err *err) _must_check_;
int nri_updates_evict(struct nri_updates *u, NRI(ContainerEviction) *const *v, size_t n,
		      struct err *err) _must_check_;
/* Makes them but those of container @except ("" = none); failures are logged, and in *@ret_failed
 * (ids, in the arena; may be NULL) unless they may be ignored. */
void nri_updates_apply(struct ctx *ctx, struct cri *c, struct nri_updates *u, const char *except,
		       char ***ret_failed, size_t *ret_n);

/* Names of classes into what they stand for, in the spec. */
int nri_classes_apply(struct cri *c, json_t *spec, const struct nri_classes *classes,
		      struct err *err) _must_check_;

/* The built-in validator. -ERR_FAILED_PRECONDITION says which plugin did what it must not. */
int nri_validate(const struct nri_validator *v, const NRI(PodSandbox) * pod,
		 const NRI(Container) * container, const struct nri_owners *owners,
		 struct nri_plugin *const *plugins, size_t n_plugins, struct err *err) _must_check_;
