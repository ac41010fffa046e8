/* SPDX-License-Identifier: Apache-2.0 */
#include "ctr/task_metrics.h"

#include <inttypes.h>
#include <time.h>

static void put_per_cpu(struct table *t, const uint64_t *v, size_t n)
{
	table_printf(t, "cpuacct.usage_percpu\t[");
	for (size_t i = 0; i < n; i++)
		table_printf(t, "%s%" PRIu64, i ? " " : "", v[i]);
	table_printf(t, "]\t\n");
}

static void put(struct table *t, const char *name, uint64_t v)
{
	table_printf(t, "%s\t%" PRIu64 "\t\n", name, v);
}

static void put_v1(struct table *t, const Io__Containerd__Cgroups__V1__Metrics *m)
{
	if (m->memory) {
		put(t, "memory.usage_in_bytes", m->memory->usage ? m->memory->usage->usage : 0);
		put(t, "memory.limit_in_bytes", m->memory->usage ? m->memory->usage->limit : 0);
		put(t, "memory.stat.cache", m->memory->total_cache);
	}
	if (m->cpu && m->cpu->usage) {
		put(t, "cpuacct.usage", m->cpu->usage->total);
		put_per_cpu(t, m->cpu->usage->per_cpu, m->cpu->usage->n_per_cpu);
	}
	if (m->pids) {
		put(t, "pids.current", m->pids->current);
		put(t, "pids.limit", m->pids->limit);
	}
}

static void put_v2(struct table *t, const Io__Containerd__Cgroups__V2__Metrics *m)
{
	if (m->pids) {
		put(t, "pids.current", m->pids->current);
		put(t, "pids.limit", m->pids->limit);
	}
	if (m->cpu) {
		put(t, "cpu.usage_usec", m->cpu->usage_usec);
		put(t, "cpu.user_usec", m->cpu->user_usec);
		put(t, "cpu.system_usec", m->cpu->system_usec);
		put(t, "cpu.nr_periods", m->cpu->nr_periods);
		put(t, "cpu.nr_throttled", m->cpu->nr_throttled);
		put(t, "cpu.throttled_usec", m->cpu->throttled_usec);
	}
	if (m->memory) {
		put(t, "memory.usage", m->memory->usage);
		put(t, "memory.usage_limit", m->memory->usage_limit);
		put(t, "memory.swap_usage", m->memory->swap_usage);
		put(t, "memory.swap_limit", m->memory->swap_limit);
	}
}

/* "2026-11-22 16:47:46.117478361 +0000 UTC": trailing zeroes of the fraction are dropped. */
static const char *format_time(struct arena *a, const Google__Protobuf__Timestamp *t)
{
	struct timespec ts = pb_time(t);
	char day[32], fraction[16] = "";
	struct tm tm;
	size_t n;

	if (!gmtime_r(&ts.tv_sec, &tm) || !strftime(day, sizeof(day), "%Y-%m-%d %H:%M:%S", &tm))
		return "-";
	if (ts.tv_nsec > 0 && ts.tv_nsec < 1000000000) {
		snprintf(fraction, sizeof(fraction), ".%09ld", ts.tv_nsec);
		for (n = strlen(fraction); n > 1 && fraction[n - 1] == '0'; n--)
			fraction[n - 1] = '\0';
	}
	return str_or(arena_printf(a, "%s%s +0000 UTC", day, fraction), "-");
}

static int print_json(const ProtobufCMessage *data, struct err *err)
{
	json_t *j _cleanup_json_ = pb_json(data);
	char *text _cleanup_free_ = j ? json_dumps(j, JSON_INDENT(2)) : NULL;

	if (!text)
		return err_nomem(err);
	puts(text);
	return 0;
}

int task_metrics_print(struct ctr *c, const char *id, bool json, struct err *err)
{
	struct table t _cleanup_table_ = TABLE_INIT(1, 8, 4, ' ');
	ProtobufCMessage *data;
	PB_TYPES(Metric) * m;
	int r;

	r = client_task_metrics(c->client, &c->ctx, id, &m, &data, err);
	if (r < 0)
		return r;
	if (json)
		return print_json(data, err);
	table_printf(&t, "ID\tTIMESTAMP\t\n%s\t%s\t\n\n", m->id,
		     format_time(c->ctx.arena, m->timestamp));
	table_printf(&t, "METRIC\tVALUE\t\n");
	if (data->descriptor == &io__containerd__cgroups__v1__metrics__descriptor)
		put_v1(&t, (const Io__Containerd__Cgroups__V1__Metrics *)data);
	else
		put_v2(&t, (const Io__Containerd__Cgroups__V2__Metrics *)data);
	return table_print(&t, err);
}
