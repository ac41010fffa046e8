/* SPDX-License-Identifier: Apache-2.0 */
/* Metrics of a container: the numbers of its control groups as containerd's messages. */
#include "shim/shim.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"

/* Makes an initialised message in the arena and points @at there; leaves NULL when memory is out.
 */
#define NEW(a, var, init)                               \
	do {                                            \
		(var) = arena_alloc(a, sizeof(*(var))); \
		if (!(var))                             \
			return -ENOMEM;                 \
		init(var);                              \
	} while (0)

static int pack(struct arena *a, const ProtobufCMessage *m, Google__Protobuf__Any *ret)
{
	ret->type_url = (char *)m->descriptor->name;
	ret->value.data = rpc_pack(a, m, &ret->value.len);
	return ret->value.data ? 0 : -ENOMEM;
}

/* ---- version 1 ---- */

static int memory1_entry(struct arena *a, const struct cgroup1_memory_entry *e,
			 Io__Containerd__Cgroups__V1__MemoryEntry **ret)
{
	if (!e->present)
		return 0;
	NEW(a, *ret, io__containerd__cgroups__v1__memory_entry__init);
	(*ret)->limit = e->limit;
	(*ret)->usage = e->usage;
	(*ret)->max = e->max;
	(*ret)->failcnt = e->failcnt;
	return 0;
}

static int memory1(struct arena *a, const struct cgroup1_memory *s,
		   Io__Containerd__Cgroups__V1__Metrics *m)
{
	Io__Containerd__Cgroups__V1__MemoryStat *t;

	NEW(a, m->memory, io__containerd__cgroups__v1__memory_stat__init);
	t = m->memory;
	t->cache = s->cache;
	t->rss = s->rss;
	t->rss_huge = s->rss_huge;
	t->mapped_file = s->mapped_file;
	t->dirty = s->dirty;
	t->writeback = s->writeback;
	t->pg_pg_in = s->pgpgin;
	t->pg_pg_out = s->pgpgout;
	t->pg_fault = s->pgfault;
	t->pg_maj_fault = s->pgmajfault;
	t->inactive_anon = s->inactive_anon;
	t->active_anon = s->active_anon;
	t->inactive_file = s->inactive_file;
	t->active_file = s->active_file;
	t->unevictable = s->unevictable;
	t->hierarchical_memory_limit = s->hierarchical_memory_limit;
	t->hierarchical_swap_limit = s->hierarchical_memsw_limit;
	t->total_cache = s->total_cache;
	t->total_rss = s->total_rss;
	t->total_rss_huge = s->total_rss_huge;
	t->total_mapped_file = s->total_mapped_file;
	t->total_dirty = s->total_dirty;
	t->total_writeback = s->total_writeback;
	t->total_pg_pg_in = s->total_pgpgin;
	t->total_pg_pg_out = s->total_pgpgout;
	t->total_pg_fault = s->total_pgfault;
	t->total_pg_maj_fault = s->total_pgmajfault;
	t->total_inactive_anon = s->total_inactive_anon;
	t->total_active_anon = s->total_active_anon;
	t->total_inactive_file = s->total_inactive_file;
	t->total_active_file = s->total_active_file;
	t->total_unevictable = s->total_unevictable;
	NEW(a, m->memory_oom_control, io__containerd__cgroups__v1__memory_oom_control__init);
	m->memory_oom_control->oom_kill_disable = s->oom_kill_disable;
	m->memory_oom_control->under_oom = s->under_oom;
	m->memory_oom_control->oom_kill = s->oom_kill;
	if (memory1_entry(a, &s->usage, &t->usage) < 0 ||
	    memory1_entry(a, &s->swap, &t->swap) < 0 ||
	    memory1_entry(a, &s->kernel, &t->kernel) < 0 ||
	    memory1_entry(a, &s->kernel_tcp, &t->kernel_tcp) < 0)
		return -ENOMEM;
	return 0;
}

static int cpu1(struct arena *a, const struct cgroup1_stat *s,
		Io__Containerd__Cgroups__V1__Metrics *m)
{
	NEW(a, m->cpu, io__containerd__cgroups__v1__cpustat__init);
	if (s->has[CGROUP_CPUACCT]) {
		NEW(a, m->cpu->usage, io__containerd__cgroups__v1__cpuusage__init);
		m->cpu->usage->total = s->cpu_total;
		m->cpu->usage->kernel = s->cpu_kernel;
		m->cpu->usage->user = s->cpu_user;
		m->cpu->usage->per_cpu = s->cpu_per;
		m->cpu->usage->n_per_cpu = s->n_cpu_per;
	}
	if (s->has[CGROUP_CPU]) {
		NEW(a, m->cpu->throttling, io__containerd__cgroups__v1__throttle__init);
		m->cpu->throttling->periods = s->nr_periods;
		m->cpu->throttling->throttled_periods = s->nr_throttled;
		m->cpu->throttling->throttled_time = s->throttled_time;
	}
	return 0;
}

static int blkio1_list(struct arena *a, const struct cgroup1_blkio_list *l,
		       Io__Containerd__Cgroups__V1__BlkIOEntry ***ret, size_t *ret_n)
{
	*ret = arena_new_array(a, Io__Containerd__Cgroups__V1__BlkIOEntry *, l->n);
	if (!*ret)
		return -ENOMEM;
	for (size_t i = 0; i < l->n; i++) {
		Io__Containerd__Cgroups__V1__BlkIOEntry *e;

		NEW(a, e, io__containerd__cgroups__v1__blk_ioentry__init);
		e->op = (char *)l->v[i].op;
		e->device = arena_printf(a, "%lu:%lu", (unsigned long)l->v[i].major,
					 (unsigned long)l->v[i].minor);
		if (!e->device)
			return -ENOMEM;
		e->major = l->v[i].major;
		e->minor = l->v[i].minor;
		e->value = l->v[i].value;
		(*ret)[(*ret_n)++] = e;
	}
	return 0;
}

static int blkio1(struct arena *a, const struct cgroup1_stat *s,
		  Io__Containerd__Cgroups__V1__Metrics *m)
{
	Io__Containerd__Cgroups__V1__BlkIOStat *b;

	NEW(a, m->blkio, io__containerd__cgroups__v1__blk_iostat__init);
	b = m->blkio;

	const struct {
		Io__Containerd__Cgroups__V1__BlkIOEntry ***v;
		size_t *n;
	} to[BLKIO_N] = {
		[BLKIO_SERVICE_BYTES] = {&b->io_service_bytes_recursive,
					 &b->n_io_service_bytes_recursive},
		[BLKIO_SERVICED] = {&b->io_serviced_recursive, &b->n_io_serviced_recursive},
		[BLKIO_QUEUED] = {&b->io_queued_recursive, &b->n_io_queued_recursive},
		[BLKIO_SERVICE_TIME] = {&b->io_service_time_recursive,
					&b->n_io_service_time_recursive},
		[BLKIO_WAIT_TIME] = {&b->io_wait_time_recursive, &b->n_io_wait_time_recursive},
		[BLKIO_MERGED] = {&b->io_merged_recursive, &b->n_io_merged_recursive},
		[BLKIO_TIME] = {&b->io_time_recursive, &b->n_io_time_recursive},
		[BLKIO_SECTORS] = {&b->sectors_recursive, &b->n_sectors_recursive},
	};

	for (int i = 0; i < BLKIO_N; i++)
		if (s->blkio[i].n && blkio1_list(a, &s->blkio[i], to[i].v, to[i].n) < 0)
			return -ENOMEM;
	return 0;
}

static int hugetlb1(struct arena *a, const struct cgroup1_stat *s,
		    Io__Containerd__Cgroups__V1__Metrics *m)
{
	m->hugetlb = arena_new_array(a, Io__Containerd__Cgroups__V1__HugetlbStat *, s->n_hugetlb);
	if (!m->hugetlb)
		return -ENOMEM;
	for (size_t i = 0; i < s->n_hugetlb; i++) {
		Io__Containerd__Cgroups__V1__HugetlbStat *h;

		NEW(a, h, io__containerd__cgroups__v1__hugetlb_stat__init);
		h->pagesize = (char *)s->hugetlb[i].pagesize;
		h->usage = s->hugetlb[i].usage;
		h->max = s->hugetlb[i].max;
		h->failcnt = s->hugetlb[i].failcnt;
		m->hugetlb[m->n_hugetlb++] = h;
	}
	return 0;
}

static int rdma1_list(struct arena *a, const struct cgroup_rdma *v, size_t n,
		      Io__Containerd__Cgroups__V1__RdmaEntry ***ret, size_t *ret_n)
{
	*ret = arena_new_array(a, Io__Containerd__Cgroups__V1__RdmaEntry *, n);
	if (!*ret)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		Io__Containerd__Cgroups__V1__RdmaEntry *e;

		NEW(a, e, io__containerd__cgroups__v1__rdma_entry__init);
		e->device = (char *)v[i].device;
		e->hca_handles = v[i].handles;
		e->hca_objects = v[i].objects;
		(*ret)[(*ret_n)++] = e;
	}
	return 0;
}

static int rdma1(struct arena *a, const struct cgroup1_stat *s,
		 Io__Containerd__Cgroups__V1__Metrics *m)
{
	NEW(a, m->rdma, io__containerd__cgroups__v1__rdma_stat__init);
	if (s->n_rdma_current && rdma1_list(a, s->rdma_current, s->n_rdma_current,
					    &m->rdma->current, &m->rdma->n_current) < 0)
		return -ENOMEM;
	if (s->n_rdma_max &&
	    rdma1_list(a, s->rdma_max, s->n_rdma_max, &m->rdma->limit, &m->rdma->n_limit) < 0)
		return -ENOMEM;
	return 0;
}

static int metrics1(struct arena *a, const struct cgroup_dirs *dirs, Google__Protobuf__Any *ret)
{
	Io__Containerd__Cgroups__V1__Metrics m = IO__CONTAINERD__CGROUPS__V1__METRICS__INIT;
	struct cgroup1_stat s;
	int r = cgroup1_stat_read(a, dirs, &s);

	if (r < 0)
		return r;
	if (s.has[CGROUP_PIDS]) {
		NEW(a, m.pids, io__containerd__cgroups__v1__pids_stat__init);
		m.pids->current = s.pids_current;
		m.pids->limit = s.pids_limit;
	}
	if ((s.has[CGROUP_CPU] || s.has[CGROUP_CPUACCT]) && cpu1(a, &s, &m) < 0)
		return -ENOMEM;
	if (s.has[CGROUP_MEMORY] && memory1(a, &s.memory, &m) < 0)
		return -ENOMEM;
	if (s.has[CGROUP_BLKIO] && blkio1(a, &s, &m) < 0)
		return -ENOMEM;
	if (s.n_hugetlb && hugetlb1(a, &s, &m) < 0)
		return -ENOMEM;
	if (s.has[CGROUP_RDMA] && rdma1(a, &s, &m) < 0)
		return -ENOMEM;
	return pack(a, &m.base, ret);
}

/* ---- version 2 ---- */

static int psi_line(struct arena *a, const struct cgroup2_psi_line *l,
		    Io__Containerd__Cgroups__V2__PSIData **ret)
{
	NEW(a, *ret, io__containerd__cgroups__v2__psidata__init);
	(*ret)->avg10 = l->avg10;
	(*ret)->avg60 = l->avg60;
	(*ret)->avg300 = l->avg300;
	(*ret)->total = l->total;
	return 0;
}

static int psi(struct arena *a, const struct cgroup2_psi *p,
	       Io__Containerd__Cgroups__V2__PSIStats **ret)
{
	if (!p->present)
		return 0;
	NEW(a, *ret, io__containerd__cgroups__v2__psistats__init);
	if (psi_line(a, &p->some, &(*ret)->some) < 0 || psi_line(a, &p->full, &(*ret)->full) < 0)
		return -ENOMEM;
	return 0;
}

static int cpu2(struct arena *a, const struct cgroup2_stat *s,
		Io__Containerd__Cgroups__V2__Metrics *m)
{
	NEW(a, m->cpu, io__containerd__cgroups__v2__cpustat__init);
	m->cpu->usage_usec = s->cpu.usage_usec;
	m->cpu->user_usec = s->cpu.user_usec;
	m->cpu->system_usec = s->cpu.system_usec;
	m->cpu->nr_periods = s->cpu.nr_periods;
	m->cpu->nr_throttled = s->cpu.nr_throttled;
	m->cpu->throttled_usec = s->cpu.throttled_usec;
	m->cpu->nr_bursts = s->cpu.nr_bursts;
	m->cpu->burst_usec = s->cpu.burst_usec;
	return psi(a, &s->cpu_psi, &m->cpu->psi);
}

static int memory2(struct arena *a, const struct cgroup2_stat *st,
		   Io__Containerd__Cgroups__V2__Metrics *m)
{
	const struct cgroup2_memory *s = &st->memory;
	Io__Containerd__Cgroups__V2__MemoryStat *t;

	NEW(a, m->memory, io__containerd__cgroups__v2__memory_stat__init);
	t = m->memory;
	t->anon = s->anon;
	t->file = s->file;
	t->kernel_stack = s->kernel_stack;
	t->slab = s->slab;
	t->sock = s->sock;
	t->shmem = s->shmem;
	t->file_mapped = s->file_mapped;
	t->file_dirty = s->file_dirty;
	t->file_writeback = s->file_writeback;
	t->anon_thp = s->anon_thp;
	t->inactive_anon = s->inactive_anon;
	t->active_anon = s->active_anon;
	t->inactive_file = s->inactive_file;
	t->active_file = s->active_file;
	t->unevictable = s->unevictable;
	t->slab_reclaimable = s->slab_reclaimable;
	t->slab_unreclaimable = s->slab_unreclaimable;
	t->pgfault = s->pgfault;
	t->pgmajfault = s->pgmajfault;
	t->workingset_refault = s->workingset_refault;
	t->workingset_activate = s->workingset_activate;
	t->workingset_nodereclaim = s->workingset_nodereclaim;
	t->pgrefill = s->pgrefill;
	t->pgscan = s->pgscan;
	t->pgsteal = s->pgsteal;
	t->pgactivate = s->pgactivate;
	t->pgdeactivate = s->pgdeactivate;
	t->pglazyfree = s->pglazyfree;
	t->pglazyfreed = s->pglazyfreed;
	t->thp_fault_alloc = s->thp_fault_alloc;
	t->thp_collapse_alloc = s->thp_collapse_alloc;
	t->usage = s->usage;
	t->usage_limit = s->limit;
	t->swap_usage = s->swap_usage;
	t->swap_limit = s->swap_limit;
	t->max_usage = s->max_usage;
	t->swap_max_usage = s->swap_max_usage;
	NEW(a, m->memory_events, io__containerd__cgroups__v2__memory_events__init);
	m->memory_events->low = st->events.low;
	m->memory_events->high = st->events.high;
	m->memory_events->max = st->events.max;
	m->memory_events->oom = st->events.oom;
	m->memory_events->oom_kill = st->events.oom_kill;
	m->memory_events->oom_group_kill = st->events.oom_group_kill;
	return psi(a, &st->memory_psi, &t->psi);
}

static int io2(struct arena *a, const struct cgroup2_stat *s,
	       Io__Containerd__Cgroups__V2__Metrics *m)
{
	NEW(a, m->io, io__containerd__cgroups__v2__iostat__init);
	m->io->usage = arena_new_array(a, Io__Containerd__Cgroups__V2__IOEntry *, s->n_io + 1);
	if (!m->io->usage)
		return -ENOMEM;
	for (size_t i = 0; i < s->n_io; i++) {
		Io__Containerd__Cgroups__V2__IOEntry *e;

		NEW(a, e, io__containerd__cgroups__v2__ioentry__init);
		e->major = s->io[i].major;
		e->minor = s->io[i].minor;
		e->rbytes = s->io[i].rbytes;
		e->wbytes = s->io[i].wbytes;
		e->rios = s->io[i].rios;
		e->wios = s->io[i].wios;
		m->io->usage[m->io->n_usage++] = e;
	}
	return psi(a, &s->io_psi, &m->io->psi);
}

static int hugetlb2(struct arena *a, const struct cgroup2_stat *s,
		    Io__Containerd__Cgroups__V2__Metrics *m)
{
	m->hugetlb =
		arena_new_array(a, Io__Containerd__Cgroups__V2__HugeTlbStat *, s->n_hugetlb + 1);
	if (!m->hugetlb)
		return -ENOMEM;
	for (size_t i = 0; i < s->n_hugetlb; i++) {
		Io__Containerd__Cgroups__V2__HugeTlbStat *h;

		NEW(a, h, io__containerd__cgroups__v2__huge_tlb_stat__init);
		h->pagesize = (char *)s->hugetlb[i].pagesize;
		h->current = s->hugetlb[i].usage;
		h->max = s->hugetlb[i].max;
		h->failcnt = s->hugetlb[i].failcnt;
		m->hugetlb[m->n_hugetlb++] = h;
	}
	return 0;
}

static int rdma2_list(struct arena *a, const struct cgroup_rdma *v, size_t n,
		      Io__Containerd__Cgroups__V2__RdmaEntry ***ret, size_t *ret_n)
{
	*ret = arena_new_array(a, Io__Containerd__Cgroups__V2__RdmaEntry *, n + 1);
	if (!*ret)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		Io__Containerd__Cgroups__V2__RdmaEntry *e;

		NEW(a, e, io__containerd__cgroups__v2__rdma_entry__init);
		e->device = (char *)v[i].device;
		e->hca_handles = v[i].handles;
		e->hca_objects = v[i].objects;
		(*ret)[(*ret_n)++] = e;
	}
	return 0;
}

static int metrics2(struct arena *a, const struct cgroup_dirs *dirs, Google__Protobuf__Any *ret)
{
	Io__Containerd__Cgroups__V2__Metrics m = IO__CONTAINERD__CGROUPS__V2__METRICS__INIT;
	struct cgroup2_stat s;
	int r = cgroup2_stat_read(a, dirs->dir, &s);

	if (r < 0)
		return r;
	NEW(a, m.pids, io__containerd__cgroups__v2__pids_stat__init);
	m.pids->current = s.pids_current;
	m.pids->limit = s.pids_limit;
	NEW(a, m.rdma, io__containerd__cgroups__v2__rdma_stat__init);
	if (cpu2(a, &s, &m) < 0 || memory2(a, &s, &m) < 0 || io2(a, &s, &m) < 0 ||
	    hugetlb2(a, &s, &m) < 0 ||
	    rdma2_list(a, s.rdma_current, s.n_rdma_current, &m.rdma->current, &m.rdma->n_current) <
		    0 ||
	    rdma2_list(a, s.rdma_max, s.n_rdma_max, &m.rdma->limit, &m.rdma->n_limit) < 0)
		return -ENOMEM;
	return pack(a, &m.base, ret);
}

int container_stats(struct arena *a, const struct container *c, Google__Protobuf__Any *ret,
		    struct err *err)
{
	struct cgroup_dirs dirs;
	int r;

	if (!c->cgroup)
		return err_set(err, ERR_NOT_FOUND, "cgroup does not exist");
	r = cgroup_dirs_find(a, c->cgroup, &dirs);
	if (r == 0)
		r = dirs.unified ? metrics2(a, &dirs, ret) : metrics1(a, &dirs, ret);
	return r < 0 ? err_errno(err, r, "read metrics of %s", c->id) : 0;
}
