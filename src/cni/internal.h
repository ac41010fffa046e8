/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of cni/ share. */
#pragma once

#include "cni/cni.h"

#define CNI_WITH_CHECK "0.4.0" /* CHECK, and prevResult on DEL */
#define CNI_WITH_GC "1.1.0"    /* GC, STATUS */

#define CNI_MISSING "is not in" /* of the error when there is no such plugin */

/* One run of one plugin. */
struct invocation {
	const struct cni *cni;
	struct ctx *ctx;
	const struct cni_network *network;
	const struct cni_plugin *plugin;
	const char *command;		 /* "ADD", ... */
	const struct cni_attachment *at; /* NULL for STATUS and GC */
	const json_t *prev_result;	 /* NULL = none */
	const json_t *extra;		 /* further members of the configuration; NULL = none */
};

/* Runs it; *@ret (may be NULL) is the JSON it printed, NULL when it printed nothing. */
int cni_invoke(const struct invocation *v, json_t **ret, struct err *err) _must_check_;

/* ---- cache.c ---- */
int cni_cache_save(const struct cni *cni, const struct cni_network *n,
		   const struct cni_attachment *at, const json_t *result,
		   struct err *err) _must_check_;
/* Absent is fine. */
int cni_cache_remove(const struct cni *cni, const char *network, const char *container_id,
		     const char *ifname, struct err *err) _must_check_;
/* Calls @f for every attachment that is kept of the network; stops at a negative result. */
int cni_cache_each(const struct cni *cni, const char *network,
		   int (*f)(void *arg, const json_t *entry, struct err *err), void *arg,
		   struct err *err) _must_check_;
