/* SPDX-License-Identifier: Apache-2.0 */
/* Samples from what a shim tells, for containers that no control group of this host holds. */
#include <errno.h>

#include "base/str.h"
#include "base/time.h"
#include "cri/sample.h"
#include "protos.h"
#include "rpc/rpc.h"

struct pair {
	enum sample_number number;
	uint64_t value;
};

static void set(struct cri_sample *s, const struct pair *v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		s->v[v[i].number] = v[i].value;
		s->has |= 1ull << v[i].number;
	}
}
#define SET(s, ...)                                \
	set(s, (const struct pair[]){__VA_ARGS__}, \
	    sizeof((const struct pair[]){__VA_ARGS__}) / sizeof(struct pair))

static struct sample_io *device(struct arena *a, struct cri_sample *s, size_t *cap, uint64_t major,
				uint64_t minor)
{
	for (size_t i = 0; i < s->n_io; i++)
		if (s->io[i].major == major && s->io[i].minor == minor)
			return &s->io[i];
	struct sample_io *v = arena_grow(a, s->io, cap, s->n_io + 1, sizeof(*v));
	if (!v)
		return NULL;
	s->io = v;
	v[s->n_io] = (struct sample_io){.major = major, .minor = minor};
	return &v[s->n_io++];
}

/* ---- version 1 ---- */

static void memory1(const Io__Containerd__Cgroups__V1__Metrics *m, struct cri_sample *s)
{
	const Io__Containerd__Cgroups__V1__MemoryStat *t = m->memory;

	SET(s, {SAMPLE_INACTIVE_FILE, t->total_inactive_file},
	    {SAMPLE_ACTIVE_FILE, t->total_active_file}, {SAMPLE_RSS, t->total_rss},
	    {SAMPLE_PGFAULT, t->pg_fault}, {SAMPLE_PGMAJFAULT, t->pg_maj_fault},
	    {SAMPLE_TREE_PGFAULT, t->total_pg_fault},
	    {SAMPLE_TREE_PGMAJFAULT, t->total_pg_maj_fault}, {SAMPLE_CACHE, t->total_cache},
	    {SAMPLE_MAPPED_FILE, t->total_mapped_file});
	if (t->usage)
		SET(s, {SAMPLE_MEMORY, t->usage->usage}, {SAMPLE_MEMORY_LIMIT, t->usage->limit},
		    {SAMPLE_MEMORY_MAX, t->usage->max}, {SAMPLE_MEMORY_FAILCNT, t->usage->failcnt});
	if (t->swap)
		SET(s, {SAMPLE_SWAP, t->swap->usage}, {SAMPLE_SWAP_LIMIT, t->swap->limit});
	if (t->kernel)
		SET(s, {SAMPLE_KERNEL, t->kernel->usage});
	if (m->memory_oom_control)
		SET(s, {SAMPLE_OOM_KILLS, m->memory_oom_control->oom_kill});
}

static void io1(struct arena *a, Io__Containerd__Cgroups__V1__BlkIOEntry *const *v, size_t n,
		size_t read_at, size_t write_at, size_t *cap, struct cri_sample *s)
{
	for (size_t i = 0; i < n; i++) {
		bool w = strcasecmp(v[i]->op, "write") == 0;
		struct sample_io *io = w || strcasecmp(v[i]->op, "read") == 0
					       ? device(a, s, cap, v[i]->major, v[i]->minor)
					       : NULL;
		if (io)
			*(uint64_t *)((char *)io + (w ? write_at : read_at)) = v[i]->value;
	}
}

static int unpack1(struct arena *a, const struct any *stats, struct cri_sample *s)
{
	Io__Containerd__Cgroups__V1__Metrics *m;
	size_t cap = 0;

	if (rpc_unpack(a, &io__containerd__cgroups__v1__metrics__descriptor, stats->value,
		       stats->len, &m, NULL) < 0)
		return -EINVAL;
	if (m->cpu && m->cpu->usage)
		SET(s, {SAMPLE_CPU, m->cpu->usage->total}, {SAMPLE_CPU_USER, m->cpu->usage->user},
		    {SAMPLE_CPU_SYSTEM, m->cpu->usage->kernel});
	if (m->cpu && m->cpu->throttling)
		SET(s, {SAMPLE_PERIODS, m->cpu->throttling->periods},
		    {SAMPLE_THROTTLED_PERIODS, m->cpu->throttling->throttled_periods},
		    {SAMPLE_THROTTLED, m->cpu->throttling->throttled_time});
	if (m->memory)
		memory1(m, s);
	if (m->pids)
		SET(s, {SAMPLE_THREADS, m->pids->current},
		    {SAMPLE_THREADS_MAX, m->pids->limit ? m->pids->limit : UINT64_MAX});
	if (m->blkio) {
		io1(a, m->blkio->io_service_bytes_recursive, m->blkio->n_io_service_bytes_recursive,
		    offsetof(struct sample_io, read_bytes), offsetof(struct sample_io, write_bytes),
		    &cap, s);
		io1(a, m->blkio->io_serviced_recursive, m->blkio->n_io_serviced_recursive,
		    offsetof(struct sample_io, reads), offsetof(struct sample_io, writes), &cap, s);
	}
	return 0;
}

/* ---- version 2 ---- */

static uint64_t usec(uint64_t v)
{
	return v > UINT64_MAX / 1000 ? UINT64_MAX : v * 1000;
}

static struct cgroup2_psi_line psi_line(const Io__Containerd__Cgroups__V2__PSIData *d)
{
	return d ? (struct cgroup2_psi_line){d->avg10, d->avg60, d->avg300, usec(d->total)}
		 : (struct cgroup2_psi_line){0};
}

static struct cgroup2_psi psi(const Io__Containerd__Cgroups__V2__PSIStats *p)
{
	return p ? (struct cgroup2_psi){true, psi_line(p->some), psi_line(p->full)}
		 : (struct cgroup2_psi){0};
}

static void memory2(const Io__Containerd__Cgroups__V2__MemoryStat *t, struct cri_sample *s)
{
	SET(s, {SAMPLE_MEMORY, t->usage}, {SAMPLE_MEMORY_LIMIT, t->usage_limit},
	    {SAMPLE_INACTIVE_FILE, t->inactive_file}, {SAMPLE_ACTIVE_FILE, t->active_file},
	    {SAMPLE_RSS, t->anon}, {SAMPLE_PGFAULT, t->pgfault}, {SAMPLE_PGMAJFAULT, t->pgmajfault},
	    {SAMPLE_TREE_PGFAULT, t->pgfault}, {SAMPLE_TREE_PGMAJFAULT, t->pgmajfault},
	    {SAMPLE_CACHE, t->file}, {SAMPLE_MAPPED_FILE, t->file_mapped},
	    {SAMPLE_SWAP, t->swap_usage}, {SAMPLE_SWAPPED, t->swap_usage},
	    {SAMPLE_SWAP_LIMIT, t->swap_limit}, {SAMPLE_MEMORY_MAX, t->max_usage},
	    {SAMPLE_KERNEL, t->kernel_stack + t->slab + t->sock});
	s->memory_psi = psi(t->psi);
}

static int unpack2(struct arena *a, const struct any *stats, struct cri_sample *s)
{
	Io__Containerd__Cgroups__V2__Metrics *m;
	size_t cap = 0;

	if (rpc_unpack(a, &io__containerd__cgroups__v2__metrics__descriptor, stats->value,
		       stats->len, &m, NULL) < 0)
		return -EINVAL;
	if (m->cpu) {
		SET(s, {SAMPLE_CPU, usec(m->cpu->usage_usec)},
		    {SAMPLE_CPU_USER, usec(m->cpu->user_usec)},
		    {SAMPLE_CPU_SYSTEM, usec(m->cpu->system_usec)},
		    {SAMPLE_PERIODS, m->cpu->nr_periods},
		    {SAMPLE_THROTTLED_PERIODS, m->cpu->nr_throttled},
		    {SAMPLE_THROTTLED, usec(m->cpu->throttled_usec)});
		s->cpu_psi = psi(m->cpu->psi);
	}
	if (m->memory)
		memory2(m->memory, s);
	if (m->memory_events)
		SET(s, {SAMPLE_MEMORY_FAILCNT, m->memory_events->max},
		    {SAMPLE_OOM_KILLS, m->memory_events->oom_kill});
	if (m->pids)
		SET(s, {SAMPLE_THREADS, m->pids->current}, {SAMPLE_THREADS_MAX, m->pids->limit});
	for (size_t i = 0; m->io && i < m->io->n_usage; i++) {
		const Io__Containerd__Cgroups__V2__IOEntry *e = m->io->usage[i];
		struct sample_io *io = device(a, s, &cap, e->major, e->minor);
		if (io)
			*io = (struct sample_io){e->major,  e->minor, e->rbytes,
						 e->wbytes, e->rios,  e->wios};
	}
	if (m->io)
		s->io_psi = psi(m->io->psi);
	return 0;
}

int cri_sample_unpack(struct arena *a, const struct any *stats, struct cri_sample *ret)
{
	const char *type = str_or(stats->type_url, "");
	struct timespec now = time_now();
	struct cri_sample s = {.at = now.tv_sec * NSEC_PER_SEC + now.tv_nsec, .mono = time_mono()};
	int r = str_has_suffix(type, "io.containerd.cgroups.v1.Metrics")   ? unpack1(a, stats, &s)
		: str_has_suffix(type, "io.containerd.cgroups.v2.Metrics") ? unpack2(a, stats, &s)
									   : -EINVAL;
	if (r == 0)
		*ret = s;
	return r;
}
