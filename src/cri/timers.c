/* SPDX-License-Identifier: Apache-2.0 */
/* Timers: histograms of containerd's names, some of them one for each type of runtime. */
#include "cri/timers.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/str.h"
#include "base/time.h"

struct histogram {
	atomic_uint_fast64_t buckets[RPC_BUCKETS + 1], ns;
};

static const struct {
	const char *name, *help;
	bool labeled; /* with the type of the runtime */
} timers[CRI_TIMER_N] = {
	[CRI_TIMER_SANDBOX_LIST] = {"sandbox_list", "time to list sandboxes", false},
	[CRI_TIMER_SANDBOX_CREATE_NETWORK] = {"sandbox_create_network",
					      "time to create the network for a sandbox", false},
	[CRI_TIMER_SANDBOX_DELETE_NETWORK] = {"sandbox_delete_network",
					      "time to delete a sandbox's network", false},
	[CRI_TIMER_SANDBOX_RUNTIME_CREATE] = {"sandbox_runtime_create",
					      "time to create a sandbox in the runtime", true},
	[CRI_TIMER_SANDBOX_RUNTIME_STOP] = {"sandbox_runtime_stop", "time to stop a sandbox", true},
	[CRI_TIMER_SANDBOX_REMOVE] = {"sandbox_remove", "time to remove a sandbox", true},
	[CRI_TIMER_CONTAINER_LIST] = {"container_list", "time to list containers", false},
	[CRI_TIMER_CONTAINER_REMOVE] = {"container_remove", "time to remove a container", true},
	[CRI_TIMER_CONTAINER_CREATE] = {"container_create", "time to create a container", true},
	[CRI_TIMER_CONTAINER_STOP] = {"container_stop", "time to stop a container", true},
	[CRI_TIMER_CONTAINER_START] = {"container_start", "time to start a container", true},
};

struct cri_timers {
	size_t n_types;
	const char **types;  /* of the handlers, each once; the configuration's */
	struct histogram *v; /* [CRI_TIMER_N][n_types] */
};

struct cri_timers *cri_timers_new(const struct cri_config *c)
{
	struct cri_timers *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->types = calloc(c->n_handlers + 1, sizeof(*t->types));
	for (size_t i = 0; t->types && i < c->n_handlers; i++) {
		size_t k = 0;
		while (k < t->n_types && !streq(t->types[k], c->handlers[i].type))
			k++;
		if (k == t->n_types)
			t->types[t->n_types++] = c->handlers[i].type;
	}
	t->v = calloc(CRI_TIMER_N * (t->n_types + 1), sizeof(*t->v));
	if (t->types && t->v)
		return t;
	cri_timers_free(t);
	return NULL;
}

void cri_timers_free(struct cri_timers *t)
{
	if (!t)
		return;
	free(t->types);
	free(t->v);
	free(t);
}

void cri_timer_add(struct cri *c, enum cri_timer which, const struct cri_handler *h, int64_t begin)
{
	struct cri_timers *t = c->timers;
	int64_t ns = time_mono() - begin;
	size_t label = 0, i = 0;

	if (timers[which].labeled) {
		while (h && label < t->n_types && !streq(t->types[label], h->type))
			label++;
		if (!h || label == t->n_types)
			return;
	}
	struct histogram *m = &t->v[which * (t->n_types + 1) + label];
	while (i < RPC_BUCKETS && (double)ns > rpc_bucket_bounds[i] * 1e9)
		i++;
	atomic_fetch_add(&m->buckets[i], 1);
	atomic_fetch_add(&m->ns, (uint64_t)(ns > 0 ? ns : 0));
}

static void put(struct buf *b, const char *name, const char *runtime, struct histogram *m)
{
	char label[256] = "", only[260] = "";
	uint64_t sum = 0;

	if (runtime) {
		snprintf(label, sizeof(label), "runtime=\"%s\",", runtime);
		snprintf(only, sizeof(only), "{runtime=\"%s\"}", runtime);
	}
	for (size_t i = 0; i < RPC_BUCKETS; i++) {
		sum += atomic_load(&m->buckets[i]);
		buf_printf(b, "containerd_cri_%s_seconds_bucket{%sle=\"%g\"} %" PRIu64 "\n", name,
			   label, rpc_bucket_bounds[i], sum);
	}
	sum += atomic_load(&m->buckets[RPC_BUCKETS]);
	buf_printf(b, "containerd_cri_%s_seconds_bucket{%sle=\"+Inf\"} %" PRIu64 "\n", name, label,
		   sum);
	buf_printf(b, "containerd_cri_%s_seconds_sum%s %.9g\n", name, only,
		   (double)atomic_load(&m->ns) / 1e9);
	buf_printf(b, "containerd_cri_%s_seconds_count%s %" PRIu64 "\n", name, only, sum);
}

static bool used(struct histogram *m)
{
	for (size_t i = 0; i <= RPC_BUCKETS; i++)
		if (atomic_load(&m->buckets[i]))
			return true;
	return false;
}

/* A labeled one is there once it has counted something. */
void cri_timers_render(struct cri *c, struct buf *b)
{
	struct cri_timers *t = c->timers;

	for (size_t i = 0; i < CRI_TIMER_N; i++) {
		struct histogram *all = &t->v[i * (t->n_types + 1)];
		buf_printf(b,
			   "# HELP containerd_cri_%s_seconds %s\n"
			   "# TYPE containerd_cri_%s_seconds histogram\n",
			   timers[i].name, timers[i].help, timers[i].name);
		if (!timers[i].labeled)
			put(b, timers[i].name, NULL, all);
		for (size_t k = 0; timers[i].labeled && k < t->n_types; k++)
			if (used(&all[k]))
				put(b, timers[i].name, t->types[k], &all[k]);
	}
}
