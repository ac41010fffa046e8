/* SPDX-License-Identifier: Apache-2.0 */
/* container_*: a table of names, and where in the messages of the shims their values are. Names,
 * units and labels are those of containerd. */
#include "services/metrics.h"

#include <inttypes.h>
#include <string.h>

#include "base/str.h"
#include "plugins/runtime/metrics.h"
#include "services/pb.h"

struct metric {
	const char *name, *help;
	const char *path; /* fields from the message on; "[]": all elements of a repeated one */
	/* Beside container_id and namespace: fields of the element that holds the value, or
	 * label=field; for elements that are numbers their index. NULL = none. */
	const char *labels;
};

/* clang-format off */
static const struct metric v1[] = {
	{"blkio_io_merged_recursive_total", "The blkio io merged recursive", "blkio.io_merged_recursive[].value", "op device major minor"},
	{"blkio_io_queued_recursive_total", "The blkio io queued recursive", "blkio.io_queued_recursive[].value", "op device major minor"},
	{"blkio_io_service_bytes_recursive_bytes", "The blkio io service bytes recursive", "blkio.io_service_bytes_recursive[].value", "op device major minor"},
	{"blkio_io_service_time_recursive_total", "The blkio io service time recursive", "blkio.io_service_time_recursive[].value", "op device major minor"},
	{"blkio_io_serviced_recursive_total", "The blkio io serviced recursive", "blkio.io_serviced_recursive[].value", "op device major minor"},
	{"blkio_io_time_recursive_total", "The blkio io time recursive", "blkio.io_time_recursive[].value", "op device major minor"},
	{"blkio_sectors_recursive_total", "The blkio sectors recursive", "blkio.sectors_recursive[].value", "op device major minor"},
	{"cpu_kernel_nanoseconds", "The total kernel cpu time", "cpu.usage.kernel"},
	{"cpu_throttle_periods_total", "The total cpu throttle periods", "cpu.throttling.periods"},
	{"cpu_throttled_periods_total", "The total cpu throttled periods", "cpu.throttling.throttled_periods"},
	{"cpu_throttled_time_nanoseconds", "The total cpu throttled time", "cpu.throttling.throttled_time"},
	{"cpu_total_nanoseconds", "The total cpu time", "cpu.usage.total"},
	{"cpu_user_nanoseconds", "The total user cpu time", "cpu.usage.user"},
	{"hugetlb_failcnt_total", "The hugetlb failcnt", "hugetlb[].failcnt", "page=pagesize"},
	{"hugetlb_max_bytes", "The hugetlb maximum usage", "hugetlb[].max", "page=pagesize"},
	{"hugetlb_usage_bytes", "The hugetlb usage", "hugetlb[].usage", "page=pagesize"},
	{"memory_active_anon_bytes", "The active_anon amount", "memory.active_anon"},
	{"memory_active_file_bytes", "The active_file amount", "memory.active_file"},
	{"memory_cache_bytes", "The cache amount used", "memory.cache"},
	{"memory_dirty_bytes", "The dirty amount", "memory.dirty"},
	{"memory_hierarchical_memory_limit_bytes", "The hierarchical_memory_limit amount", "memory.hierarchical_memory_limit"},
	{"memory_hierarchical_memsw_limit_bytes", "The hierarchical_memsw_limit amount", "memory.hierarchical_swap_limit"},
	{"memory_inactive_anon_bytes", "The inactive_anon amount", "memory.inactive_anon"},
	{"memory_inactive_file_bytes", "The inactive_file amount", "memory.inactive_file"},
	{"memory_kernel_failcnt_total", "The kernel failcnt", "memory.kernel.failcnt"},
	{"memory_kernel_limit_bytes", "The kernel limit", "memory.kernel.limit"},
	{"memory_kernel_max_bytes", "The kernel maximum usage", "memory.kernel.max"},
	{"memory_kernel_usage_bytes", "The kernel usage", "memory.kernel.usage"},
	{"memory_kerneltcp_failcnt_total", "The kerneltcp failcnt", "memory.kernel_tcp.failcnt"},
	{"memory_kerneltcp_limit_bytes", "The kerneltcp limit", "memory.kernel_tcp.limit"},
	{"memory_kerneltcp_max_bytes", "The kerneltcp maximum usage", "memory.kernel_tcp.max"},
	{"memory_kerneltcp_usage_bytes", "The kerneltcp usage", "memory.kernel_tcp.usage"},
	{"memory_mapped_file_bytes", "The mapped_file amount used", "memory.mapped_file"},
	{"memory_oom_total", "The number of times a container has received an oom event", "memory_oom_control.oom_kill"},
	{"memory_pgfault_bytes", "The pgfault amount", "memory.pg_fault"},
	{"memory_pgmajfault_bytes", "The pgmajfault amount", "memory.pg_maj_fault"},
	{"memory_pgpgin_bytes", "The pgpgin amount", "memory.pg_pg_in"},
	{"memory_pgpgout_bytes", "The pgpgout amount", "memory.pg_pg_out"},
	{"memory_rss_bytes", "The rss amount used", "memory.rss"},
	{"memory_rss_huge_bytes", "The rss_huge amount used", "memory.rss_huge"},
	{"memory_swap_failcnt_total", "The swap failcnt", "memory.swap.failcnt"},
	{"memory_swap_limit_bytes", "The swap limit", "memory.swap.limit"},
	{"memory_swap_max_bytes", "The swap maximum usage", "memory.swap.max"},
	{"memory_swap_usage_bytes", "The swap usage", "memory.swap.usage"},
	{"memory_total_active_anon_bytes", "The total_active_anon amount", "memory.total_active_anon"},
	{"memory_total_active_file_bytes", "The total_active_file amount", "memory.total_active_file"},
	{"memory_total_cache_bytes", "The total_cache amount used", "memory.total_cache"},
	{"memory_total_dirty_bytes", "The total_dirty amount", "memory.total_dirty"},
	{"memory_total_inactive_anon_bytes", "The total_inactive_anon amount", "memory.total_inactive_anon"},
	{"memory_total_inactive_file_bytes", "The total_inactive_file amount", "memory.total_inactive_file"},
	{"memory_total_mapped_file_bytes", "The total_mapped_file amount used", "memory.total_mapped_file"},
	{"memory_total_pgfault_bytes", "The total_pgfault amount", "memory.total_pg_fault"},
	{"memory_total_pgmajfault_bytes", "The total_pgmajfault amount", "memory.total_pg_maj_fault"},
	{"memory_total_pgpgin_bytes", "The total_pgpgin amount", "memory.total_pg_pg_in"},
	{"memory_total_pgpgout_bytes", "The total_pgpgout amount", "memory.total_pg_pg_out"},
	{"memory_total_rss_bytes", "The total_rss amount used", "memory.total_rss"},
	{"memory_total_rss_huge_bytes", "The total_rss_huge amount used", "memory.total_rss_huge"},
	{"memory_total_unevictable_bytes", "The total_unevictable amount", "memory.total_unevictable"},
	{"memory_total_writeback_bytes", "The total_writeback amount", "memory.total_writeback"},
	{"memory_unevictable_bytes", "The unevictable amount", "memory.unevictable"},
	{"memory_usage_failcnt_total", "The usage failcnt", "memory.usage.failcnt"},
	{"memory_usage_limit_bytes", "The memory limit", "memory.usage.limit"},
	{"memory_usage_max_bytes", "The memory maximum usage", "memory.usage.max"},
	{"memory_usage_usage_bytes", "The memory usage", "memory.usage.usage"},
	{"memory_writeback_bytes", "The writeback amount", "memory.writeback"},
	{"per_cpu_nanoseconds", "The total cpu time per cpu", "cpu.usage.per_cpu[]", "cpu"},
	{"pids_current", "The current number of pids", "pids.current"},
	{"pids_limit", "The limit to the number of pids allowed", "pids.limit"},
};

static const struct metric v2[] = {
	{"cpu_nr_periods_total", "Current cpu number of periods (only if controller is enabled)", "cpu.nr_periods"},
	{"cpu_nr_throttled_total", "Total number of times tasks have been throttled (only if controller is enabled)", "cpu.nr_throttled"},
	{"cpu_system_usec_microseconds", "Current cpu usage in kernel space (cgroup v2)", "cpu.system_usec"},
	{"cpu_throttled_usec_microseconds", "Total time duration for which tasks have been throttled. (only if controller is enabled)", "cpu.throttled_usec"},
	{"cpu_usage_usec_microseconds", "Total cpu usage (cgroup v2)", "cpu.usage_usec"},
	{"cpu_user_usec_microseconds", "Current cpu usage in user space (cgroup v2)", "cpu.user_usec"},
	{"io_rbytes_bytes", "IO bytes read", "io.usage[].rbytes", "major minor"},
	{"io_rios_total", "Number of read IOs", "io.usage[].rios", "major minor"},
	{"io_wbytes_bytes", "IO bytes written", "io.usage[].wbytes", "major minor"},
	{"io_wios_total", "Number of write IOs", "io.usage[].wios", "major minor"},
	{"memory_active_anon_bytes", "The active_anon amount", "memory.active_anon"},
	{"memory_active_file_bytes", "The active_file amount", "memory.active_file"},
	{"memory_anon_bytes", "The anon amount", "memory.anon"},
	{"memory_anon_thp_bytes", "The anon_thp amount", "memory.anon_thp"},
	{"memory_file_bytes", "The file amount", "memory.file"},
	{"memory_file_dirty_bytes", "The file_dirty amount", "memory.file_dirty"},
	{"memory_file_mapped_bytes", "The file_mapped amount", "memory.file_mapped"},
	{"memory_file_writeback_bytes", "The file_writeback amount", "memory.file_writeback"},
	{"memory_inactive_anon_bytes", "The inactive_anon amount", "memory.inactive_anon"},
	{"memory_inactive_file_bytes", "The inactive_file amount", "memory.inactive_file"},
	{"memory_kernel_stack_bytes", "The kernel_stack amount", "memory.kernel_stack"},
	{"memory_oom_total", "The number of times a container has received an oom event", "memory_events.oom"},
	{"memory_pgactivate_bytes", "The pgactivate amount", "memory.pgactivate"},
	{"memory_pgdeactivate_bytes", "The pgdeactivate amount", "memory.pgdeactivate"},
	{"memory_pgfault_bytes", "The pgfault amount", "memory.pgfault"},
	{"memory_pglazyfree_bytes", "The pglazyfree amount", "memory.pglazyfree"},
	{"memory_pglazyfreed_bytes", "The pglazyfreed amount", "memory.pglazyfreed"},
	{"memory_pgmajfault_bytes", "The pgmajfault amount", "memory.pgmajfault"},
	{"memory_pgrefill_bytes", "The pgrefill amount", "memory.pgrefill"},
	{"memory_pgscan_bytes", "The pgscan amount", "memory.pgscan"},
	{"memory_pgsteal_bytes", "The pgsteal amount", "memory.pgsteal"},
	{"memory_shmem_bytes", "The shmem amount", "memory.shmem"},
	{"memory_slab_bytes", "The slab amount", "memory.slab"},
	{"memory_slab_reclaimable_bytes", "The slab_reclaimable amount", "memory.slab_reclaimable"},
	{"memory_slab_unreclaimable_bytes", "The slab_unreclaimable amount", "memory.slab_unreclaimable"},
	{"memory_sock_bytes", "The sock amount", "memory.sock"},
	{"memory_swap_limit_bytes", "Current swap usage limit (cgroup v2)", "memory.swap_limit"},
	{"memory_swap_usage_bytes", "Current swap usage (cgroup v2)", "memory.swap_usage"},
	{"memory_thp_collapse_alloc_bytes", "The thp_collapse_alloc amount", "memory.thp_collapse_alloc"},
	{"memory_thp_fault_alloc_bytes", "The thp_fault_alloc amount", "memory.thp_fault_alloc"},
	{"memory_unevictable_bytes", "The unevictable amount", "memory.unevictable"},
	{"memory_usage_bytes", "Current memory usage (cgroup v2)", "memory.usage"},
	{"memory_usage_limit_bytes", "Current memory usage limit (cgroup v2)", "memory.usage_limit"},
	{"memory_workingset_activate_bytes", "The workingset_activate amount", "memory.workingset_activate"},
	{"memory_workingset_nodereclaim_bytes", "The workingset_nodereclaim amount", "memory.workingset_nodereclaim"},
	{"memory_workingset_refault_bytes", "The workingset_refault amount", "memory.workingset_refault"},
	{"pids_current", "The current number of pids (cgroup v2)", "pids.current"},
	{"pids_limit", "The limit to the number of pids allowed (cgroup v2)", "pids.limit"},
};
/* clang-format on */

/* ---- values ---- */

struct writer {
	struct buf *b;
	const struct metric *metric;
	const struct task_metric *task;
	bool head; /* is written */
};

static const void *member(const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f)
{
	return (const char *)m + f->offset;
}

static void put_labels(struct writer *w, const ProtobufCMessage *m, size_t index)
{
	char labels[64], *save = NULL;

	if (!w->metric->labels)
		return;
	snprintf(labels, sizeof(labels), "%s", w->metric->labels);
	for (char *l = strtok_r(labels, " ", &save); l; l = strtok_r(NULL, " ", &save)) {
		char *eq = strchr(l, '=');
		const ProtobufCFieldDescriptor *f;

		if (eq)
			*eq = '\0';
		buf_printf(w->b, ",%s=", l);
		f = m ? protobuf_c_message_descriptor_get_field_by_name(m->descriptor,
									eq ? eq + 1 : l)
		      : NULL;
		if (f && f->type == PROTOBUF_C_TYPE_STRING)
			metrics_label(w->b, *(char *const *)member(m, f));
		else
			buf_printf(w->b, "\"%" PRIu64 "\"",
				   f ? *(const uint64_t *)member(m, f) : (uint64_t)index);
	}
}

static void put_value(struct writer *w, const ProtobufCMessage *m, size_t index, uint64_t value)
{
	const struct metric *t = w->metric;

	if (!w->head)
		buf_printf(w->b, "# HELP container_%s %s\n# TYPE container_%s gauge\n", t->name,
			   t->help, t->name);
	w->head = true;
	buf_printf(w->b, "container_%s{container_id=", t->name);
	metrics_label(w->b, w->task->id);
	buf_adds(w->b, ",namespace=");
	metrics_label(w->b, w->task->ns);
	put_labels(w, m, index);
	buf_printf(w->b, "} %" PRIu64 "\n", value);
}

static void put_path(struct writer *w, const ProtobufCMessage *m, const char *path);

static void put_repeated(struct writer *w, const ProtobufCMessage *m,
			 const ProtobufCFieldDescriptor *f, const char *rest)
{
	size_t n = *(const size_t *)((const char *)m + f->quantifier_offset);
	const void *v = *(const void *const *)member(m, f);

	for (size_t i = 0; i < n; i++)
		if (f->type == PROTOBUF_C_TYPE_MESSAGE)
			put_path(w, ((const ProtobufCMessage *const *)v)[i], rest);
		else
			put_value(w, NULL, i, ((const uint64_t *)v)[i]);
}

/* Fields that are not there have no values. */
static void put_path(struct writer *w, const ProtobufCMessage *m, const char *path)
{
	size_t n = strcspn(path, ".[");
	const char *rest = path + n + strspn(path + n, ".[]");
	const ProtobufCFieldDescriptor *f;
	char name[64];

	if (!m || n >= sizeof(name))
		return;
	memcpy(name, path, n);
	name[n] = '\0';
	f = protobuf_c_message_descriptor_get_field_by_name(m->descriptor, name);
	if (!f)
		return;
	if (f->label == PROTOBUF_C_LABEL_REPEATED)
		put_repeated(w, m, f, rest);
	else if (f->type == PROTOBUF_C_TYPE_MESSAGE)
		put_path(w, *(const ProtobufCMessage *const *)member(m, f), rest);
	else if (f->type == PROTOBUF_C_TYPE_UINT64)
		put_value(w, m, 0, *(const uint64_t *)member(m, f));
}

/* ---- all of them ---- */

void metrics_label(struct buf *b, const char *value)
{
	buf_addc(b, '"');
	for (; *value; value++) {
		if (*value == '\n') {
			buf_adds(b, "\\n");
			continue;
		}
		if (*value == '"' || *value == '\\')
			buf_addc(b, '\\');
		buf_addc(b, *value);
	}
	buf_addc(b, '"');
}

struct usage {
	const ProtobufCMessage *m; /* NULL: of neither kind, or damaged */
	bool v2;
};

static struct usage usage_of(struct ctx *ctx, const struct task_metric *t)
{
	const char *slash = strrchr(t->stats.type_url, '/'),
		   *type = slash ? slash + 1 : t->stats.type_url;
	struct usage u = {.v2 = streq(type, io__containerd__cgroups__v2__metrics__descriptor.name)};
	const ProtobufCMessageDescriptor *d =
		u.v2 ? &io__containerd__cgroups__v2__metrics__descriptor
		     : &io__containerd__cgroups__v1__metrics__descriptor;
	ProtobufCMessage *m;

	if (streq(type, d->name) &&
	    rpc_unpack(ctx->arena, d, t->stats.value, t->stats.len, &m, NULL) == 0)
		u.m = m;
	return u;
}

static void put_table(struct buf *b, const struct metric *table, size_t n, bool is_v2,
		      const struct task_metric *tasks, const struct usage *usage, size_t n_tasks)
{
	for (size_t i = 0; i < n; i++) {
		struct writer w = {.b = b, .metric = &table[i]};

		for (size_t k = 0; k < n_tasks; k++) {
			w.task = &tasks[k];
			if (usage[k].m && usage[k].v2 == is_v2)
				put_path(&w, usage[k].m, table[i].path);
		}
	}
}

int metrics_tasks(struct ctx *ctx, struct runtime *rt, struct buf *b, struct err *err)
{
	struct task_metric *tasks;
	struct usage *usage;
	size_t n;
	int r = runtime_metrics(ctx, rt, &tasks, &n, err);

	if (r < 0)
		return r;
	usage = arena_new_array(ctx->arena, struct usage, n + 1);
	if (!usage)
		return err_nomem(err);
	for (size_t i = 0; i < n; i++)
		usage[i] = usage_of(ctx, &tasks[i]);
	/* A host has one of the two. */
	put_table(b, v1, ARRAY_LEN(v1), false, tasks, usage, n);
	put_table(b, v2, ARRAY_LEN(v2), true, tasks, usage, n);
	return buf_ok(b) ? 0 : err_nomem(err);
}
