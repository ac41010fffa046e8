/* SPDX-License-Identifier: Apache-2.0 */
/* See timers.h. A metric with a label is there once it has counted something, one without from the
 * beginning, as Prometheus' own library has it. Names that end in _total_total or _seconds_seconds
 * are containerd's. */
#include "cri/timers.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/str.h"
#include "base/time.h"

#define BUCKETS_MAX 11
#define MIB (1024.0 * 1024.0)

enum label_kind { NO_LABEL, BY_TYPE, BY_HANDLER };

struct histogram {
	atomic_uint_fast64_t buckets[BUCKETS_MAX + 1];
	atomic_uint_fast64_t sum; /* in billionths */
};

struct bounds {
	const double *v;
	size_t n;
};

static const struct bounds seconds = {rpc_bucket_bounds, RPC_BUCKETS};
static const double rates[] = {0.1, 1, 10, 25, 75, 150, 300, 500, 1000, 2000, 4000};
static const struct bounds wide = {rates, ARRAY_LEN(rates)};
_Static_assert(RPC_BUCKETS <= BUCKETS_MAX && ARRAY_LEN(rates) <= BUCKETS_MAX, "buckets");

static const struct {
	const char *name, *help;
	enum label_kind label;
} timers[CRI_TIMER_N] = {
	[CRI_TIMER_SANDBOX_LIST] = {"sandbox_list", "time to list sandboxes", NO_LABEL},
	[CRI_TIMER_SANDBOX_CREATE_NETWORK] = {"sandbox_create_network",
					      "time to create the network for a sandbox", NO_LABEL},
	[CRI_TIMER_SANDBOX_DELETE_NETWORK] = {"sandbox_delete_network",
					      "time to delete a sandbox's network", NO_LABEL},
	[CRI_TIMER_SANDBOX_RUNTIME_CREATE] = {"sandbox_runtime_create",
					      "time to create a sandbox in the runtime", BY_TYPE},
	[CRI_TIMER_SANDBOX_RUNTIME_STOP] = {"sandbox_runtime_stop", "time to stop a sandbox",
					    BY_HANDLER},
	[CRI_TIMER_SANDBOX_REMOVE] = {"sandbox_remove", "time to remove a sandbox", BY_HANDLER},
	[CRI_TIMER_CONTAINER_LIST] = {"container_list", "time to list containers", NO_LABEL},
	[CRI_TIMER_CONTAINER_REMOVE] = {"container_remove", "time to remove a container", BY_TYPE},
	[CRI_TIMER_CONTAINER_CREATE] = {"container_create", "time to create a container", BY_TYPE},
	[CRI_TIMER_CONTAINER_STOP] = {"container_stop", "time to stop a container", BY_TYPE},
	[CRI_TIMER_CONTAINER_START] = {"container_start", "time to start a container", BY_TYPE},
	[CRI_TIMER_CONTAINER_CHECKPOINT] = {"container_checkpoint",
					    "time to checkpoint a container", BY_TYPE},
};

static const char *const operations[CRI_NETWORK_OP_N] = {"set_up_pod", "tear_down_pod"};
static const char *const statuses[2] = {"success", "failure"};

struct cri_timers {
	size_t n_labels;
	const char **labels[2]; /* types, then names of the handlers; "" is the default's name */
	struct histogram *v;	/* [CRI_TIMER_N][n_labels] */
	struct histogram network[CRI_NETWORK_OP_N], throughput, throughput_wide;
	atomic_uint_fast64_t network_errors[CRI_NETWORK_OP_N], pulls[2], events_dropped;
	atomic_int_fast64_t pulling;
};

struct cri_timers *cri_timers_new(const struct cri_config *c)
{
	struct cri_timers *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->n_labels = c->n_handlers + 1;
	t->v = calloc(CRI_TIMER_N * t->n_labels, sizeof(*t->v));
	for (size_t i = 0; i < 2; i++)
		t->labels[i] = calloc(t->n_labels, sizeof(**t->labels));
	if (!t->v || !t->labels[0] || !t->labels[1]) {
		cri_timers_free(t);
		return NULL;
	}
	t->labels[1][c->n_handlers] = "";
	for (size_t i = 0; i < c->n_handlers; i++) {
		size_t k = 0;
		while (t->labels[0][k] && !streq(t->labels[0][k], c->handlers[i].type))
			k++;
		t->labels[0][k] = c->handlers[i].type;
		t->labels[1][i] = c->handlers[i].name;
	}
	return t;
}

void cri_timers_free(struct cri_timers *t)
{
	if (!t)
		return;
	free(t->labels[0]);
	free(t->labels[1]);
	free(t->v);
	free(t);
}

/* ---- counting ---- */

static void observe(struct histogram *h, const struct bounds *b, double value)
{
	size_t i = 0;

	while (i < b->n && value > b->v[i])
		i++;
	atomic_fetch_add(&h->buckets[i], 1);
	atomic_fetch_add(&h->sum, value > 0 ? (uint64_t)(value * 1e9) : 0);
}

static double since(int64_t begin)
{
	return (double)(time_mono() - begin) / 1e9;
}

static void add(struct cri_timers *t, enum cri_timer which, const char *label, int64_t begin)
{
	const char **labels = t->labels[timers[which].label == BY_HANDLER];
	size_t i = 0;

	while (label && i < t->n_labels && (!labels[i] || !streq(labels[i], label)))
		i++;
	if (i < t->n_labels)
		observe(&t->v[which * t->n_labels + i], &seconds, since(begin));
}

void cri_timer_add(struct cri *c, enum cri_timer which, int64_t begin)
{
	add(c->timers, which, NULL, begin);
}

void cri_timer_add_runtime(struct cri *c, enum cri_timer which, const struct cri_handler *h,
			   int64_t begin)
{
	if (h)
		add(c->timers, which, h->type, begin);
}

void cri_timer_add_handler(struct cri *c, enum cri_timer which, const char *name, int64_t begin)
{
	if (name)
		add(c->timers, which, name, begin);
}

void cri_count_network(struct cri *c, enum cri_network_op op, int64_t begin, bool failed)
{
	observe(&c->timers->network[op], &seconds, since(begin));
	atomic_fetch_add(&c->timers->network_errors[op], failed);
}

void cri_count_pull_begin(struct cri *c)
{
	atomic_fetch_add(&c->timers->pulling, 1);
}

void cri_count_pull_end(struct cri *c, int64_t begin, uint64_t bytes, bool failed)
{
	struct cri_timers *t = c->timers;
	double s = since(begin);

	atomic_fetch_sub(&t->pulling, 1);
	atomic_fetch_add(&t->pulls[failed], 1);
	if (failed || !bytes || s <= 0)
		return;
	observe(&t->throughput, &seconds, (double)bytes / MIB / s);
	observe(&t->throughput_wide, &wide, (double)bytes / MIB / s);
}

void cri_count_event_dropped(struct cri *c)
{
	if (c->timers)
		atomic_fetch_add(&c->timers->events_dropped, 1);
}

/* ---- telling ---- */

static void head(struct buf *b, const char *name, const char *type, const char *help)
{
	buf_printf(b, "# HELP containerd_cri_%s %s\n# TYPE containerd_cri_%s %s\n", name, help,
		   name, type);
}

/* @key NULL = no label. */
static void put(struct buf *b, const char *name, const char *key, const char *value,
		const struct bounds *bounds, struct histogram *h)
{
	char label[256] = "", only[260] = "";
	uint64_t count = 0;

	if (key) {
		snprintf(label, sizeof(label), "%s=\"%s\",", key, value);
		snprintf(only, sizeof(only), "{%s=\"%s\"}", key, value);
	}
	for (size_t i = 0; i < bounds->n; i++) {
		count += atomic_load(&h->buckets[i]);
		buf_printf(b, "containerd_cri_%s_bucket{%sle=\"%g\"} %" PRIu64 "\n", name, label,
			   bounds->v[i], count);
	}
	count += atomic_load(&h->buckets[bounds->n]);
	buf_printf(b, "containerd_cri_%s_bucket{%sle=\"+Inf\"} %" PRIu64 "\n", name, label, count);
	buf_printf(b, "containerd_cri_%s_sum%s %.9g\n", name, only,
		   (double)atomic_load(&h->sum) / 1e9);
	buf_printf(b, "containerd_cri_%s_count%s %" PRIu64 "\n", name, only, count);
}

static uint64_t counted(struct histogram *h)
{
	uint64_t n = 0;

	for (size_t i = 0; i <= BUCKETS_MAX; i++)
		n += atomic_load(&h->buckets[i]);
	return n;
}

static void render_timers(struct cri_timers *t, struct buf *b)
{
	for (size_t i = 0; i < CRI_TIMER_N; i++) {
		struct histogram *h = &t->v[i * t->n_labels];
		char name[64];

		snprintf(name, sizeof(name), "%s_seconds", timers[i].name);
		head(b, name, "histogram", timers[i].help);
		if (timers[i].label == NO_LABEL)
			put(b, name, NULL, NULL, &seconds, h);
		for (size_t k = 0; timers[i].label != NO_LABEL && k < t->n_labels; k++)
			if (counted(&h[k]))
				put(b, name, "runtime", t->labels[timers[i].label == BY_HANDLER][k],
				    &seconds, &h[k]);
	}
}

static void put_counter(struct buf *b, const char *name, const char *key, const char *value,
			uint64_t n)
{
	if (n)
		buf_printf(b, "containerd_cri_%s{%s=\"%s\"} %" PRIu64 "\n", name, key, value, n);
}

static void render_network(struct cri_timers *t, struct buf *b)
{
	static const char
		key[] = "operation_type",
		total[] = "network_plugin_operations_total_total",
		errors[] = "network_plugin_operations_errors_total_total",
		latency[] = "network_plugin_operations_duration_seconds_seconds",
		help[] = "cumulative number of network plugin operations by operation type";

	head(b, total, "counter", help);
	for (size_t i = 0; i < CRI_NETWORK_OP_N; i++)
		put_counter(b, total, key, operations[i], counted(&t->network[i]));
	head(b, errors, "counter", help);
	for (size_t i = 0; i < CRI_NETWORK_OP_N; i++)
		put_counter(b, errors, key, operations[i], atomic_load(&t->network_errors[i]));
	head(b, latency, "histogram",
	     "latency in seconds of network plugin operations. Broken down by operation type");
	for (size_t i = 0; i < CRI_NETWORK_OP_N; i++)
		if (counted(&t->network[i]))
			put(b, latency, key, operations[i], &seconds, &t->network[i]);
}

static void render_pulls(struct cri_timers *t, struct buf *b)
{
	static const char pulls[] = "sandboxed_image_pulls_total",
			  now[] = "sandboxed_in_progress_image_pulls_total",
			  rate[] = "sandboxed_image_pulling_throughput",
			  mibps[] = "sandboxed_image_pulling_throughput_mibps",
			  help[] = "image pull throughput in MiB/s (fetched bytes / pull duration; "
				   "cached layers excluded)";

	head(b, pulls, "counter", "succeeded and failed counters");
	for (size_t i = 0; i < 2; i++)
		put_counter(b, pulls, "status", statuses[i], atomic_load(&t->pulls[i]));
	head(b, now, "gauge", "in progress pulls");
	buf_printf(b, "containerd_cri_%s %" PRIdFAST64 "\n", now, atomic_load(&t->pulling));
	head(b, rate, "histogram", help);
	put(b, rate, NULL, NULL, &seconds, &t->throughput);
	head(b, mibps, "histogram", help);
	put(b, mibps, NULL, NULL, &wide, &t->throughput_wide);
}

void cri_timers_render(struct cri *c, struct buf *b)
{
	static const char dropped[] = "container_events_dropped_total";
	struct cri_timers *t = c->timers;

	render_timers(t, b);
	head(b, dropped, "counter", "count container discarding event total from server start");
	buf_printf(b, "containerd_cri_%s %" PRIuFAST64 "\n", dropped,
		   atomic_load(&t->events_dropped));
	render_network(t, b);
	render_pulls(t, b);
}
