/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers of control groups: files of "key value" lines read into structs by tables of name and
 * offset. */
#include "sys/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"

#define STAT_FILE_MAX (1u << 20)
#define ENTRIES_MAX 4096

struct field {
	const char *key;
	size_t offset;
};

static char *text_read(struct arena *a, int dirfd, const char *name)
{
	char *text;
	size_t n;

	return file_read(a, dirfd, name, STAT_FILE_MAX, &text, &n) < 0 ? NULL : text;
}

static uint64_t number(const char *s)
{
	return str_has_prefix(s, "max") ? UINT64_MAX : strtoull(s, NULL, 10);
}

/* One number in a file; @otherwise when the file is missing. */
static uint64_t number_read(struct arena *a, int dirfd, const char *name, uint64_t otherwise)
{
	char *text = text_read(a, dirfd, name);

	return text ? number(text) : otherwise;
}

static void fields_parse(char *text, const struct field *f, size_t n, void *out)
{
	char *save = NULL;

	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char *space = strchr(line, ' ');

		if (!space)
			continue;
		*space = '\0';
		for (size_t i = 0; i < n; i++) {
			if (!streq(f[i].key, line))
				continue;
			*(uint64_t *)((char *)out + f[i].offset) = number(space + 1);
			break;
		}
	}
}

static bool fields_read(struct arena *a, int dirfd, const char *name, const struct field *f,
			size_t n, void *out)
{
	char *text = text_read(a, dirfd, name);

	if (text)
		fields_parse(text, f, n, out);
	return text != NULL;
}

static int dir_open(const char *dir)
{
	return open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* "DEVICE hca_handle=N hca_object=N" lines; "max" becomes UINT32_MAX. */
static void rdma_read(struct arena *a, int dirfd, const char *name, struct cgroup_rdma **ret,
		      size_t *ret_n)
{
	char *text = text_read(a, dirfd, name), *save = NULL;
	struct cgroup_rdma *v = NULL;
	size_t n = 0, cap = 0;

	if (!text)
		return;
	for (char *line = strtok_r(text, "\n", &save); line && n < ENTRIES_MAX;
	     line = strtok_r(NULL, "\n", &save)) {
		char *words = NULL, *word = strtok_r(line, " ", &words);
		struct cgroup_rdma r = {.device = word};

		if (!word)
			continue;
		while ((word = strtok_r(NULL, " ", &words))) {
			const char *value;

			if ((value = str_skip(word, "hca_handle=")))
				r.handles = (uint32_t)MIN(number(value), UINT32_MAX);
			else if ((value = str_skip(word, "hca_object=")))
				r.objects = (uint32_t)MIN(number(value), UINT32_MAX);
		}
		v = arena_grow(a, v, &cap, n + 1, sizeof(*v));
		if (!v)
			return;
		v[n++] = r;
	}
	*ret = v;
	*ret_n = n;
}

/* ---- version 1 ---- */

#define F1(k, m)                                      \
	{                                             \
		k, offsetof(struct cgroup1_memory, m) \
	}
static const struct field memory1_fields[] = {
	F1("cache", cache),
	F1("rss", rss),
	F1("rss_huge", rss_huge),
	F1("mapped_file", mapped_file),
	F1("dirty", dirty),
	F1("writeback", writeback),
	F1("pgpgin", pgpgin),
	F1("pgpgout", pgpgout),
	F1("pgfault", pgfault),
	F1("pgmajfault", pgmajfault),
	F1("inactive_anon", inactive_anon),
	F1("active_anon", active_anon),
	F1("inactive_file", inactive_file),
	F1("active_file", active_file),
	F1("unevictable", unevictable),
	F1("hierarchical_memory_limit", hierarchical_memory_limit),
	F1("hierarchical_memsw_limit", hierarchical_memsw_limit),
	F1("total_cache", total_cache),
	F1("total_rss", total_rss),
	F1("total_rss_huge", total_rss_huge),
	F1("total_mapped_file", total_mapped_file),
	F1("total_dirty", total_dirty),
	F1("total_writeback", total_writeback),
	F1("total_pgpgin", total_pgpgin),
	F1("total_pgpgout", total_pgpgout),
	F1("total_pgfault", total_pgfault),
	F1("total_pgmajfault", total_pgmajfault),
	F1("total_inactive_anon", total_inactive_anon),
	F1("total_active_anon", total_active_anon),
	F1("total_inactive_file", total_inactive_file),
	F1("total_active_file", total_active_file),
	F1("total_unevictable", total_unevictable),
};
static const struct field oom1_fields[] = {
	F1("oom_kill_disable", oom_kill_disable),
	F1("under_oom", under_oom),
	F1("oom_kill", oom_kill),
};

static void memory1_entry_read(struct arena *a, int fd, const char *part,
			       struct cgroup1_memory_entry *e)
{
	char name[64];
	char *text;

	snprintf(name, sizeof(name), "memory%s.usage_in_bytes", part);
	text = text_read(a, fd, name);
	if (!text)
		return;
	e->present = true;
	e->usage = number(text);
	snprintf(name, sizeof(name), "memory%s.limit_in_bytes", part);
	e->limit = number_read(a, fd, name, 0);
	snprintf(name, sizeof(name), "memory%s.max_usage_in_bytes", part);
	e->max = number_read(a, fd, name, 0);
	snprintf(name, sizeof(name), "memory%s.failcnt", part);
	e->failcnt = number_read(a, fd, name, 0);
}

static void memory1_read(struct arena *a, int fd, struct cgroup1_stat *st)
{
	fields_read(a, fd, "memory.stat", memory1_fields, ARRAY_LEN(memory1_fields), &st->memory);
	fields_read(a, fd, "memory.oom_control", oom1_fields, ARRAY_LEN(oom1_fields), &st->memory);
	memory1_entry_read(a, fd, "", &st->memory.usage);
	memory1_entry_read(a, fd, ".memsw", &st->memory.swap);
	memory1_entry_read(a, fd, ".kmem", &st->memory.kernel);
	memory1_entry_read(a, fd, ".kmem.tcp", &st->memory.kernel_tcp);
}

static void cpu1_read(struct arena *a, int fd, struct cgroup1_stat *st)
{
	static const struct field f[] = {
		{"nr_periods", offsetof(struct cgroup1_stat, nr_periods)},
		{"nr_throttled", offsetof(struct cgroup1_stat, nr_throttled)},
		{"throttled_time", offsetof(struct cgroup1_stat, throttled_time)},
	};

	fields_read(a, fd, "cpu.stat", f, ARRAY_LEN(f), st);
}

static void cpuacct1_read(struct arena *a, int fd, struct cgroup1_stat *st)
{
	static const struct field f[] = {
		{"user", offsetof(struct cgroup1_stat, cpu_user)},
		{"system", offsetof(struct cgroup1_stat, cpu_kernel)},
	};
	uint64_t tick = 1000000000u / (uint64_t)MAX(sysconf(_SC_CLK_TCK), 1);
	char *text, *save = NULL;
	size_t cap = 0;

	st->cpu_total = number_read(a, fd, "cpuacct.usage", 0);
	fields_read(a, fd, "cpuacct.stat", f, ARRAY_LEN(f), st);
	st->cpu_user *= tick;
	st->cpu_kernel *= tick;
	text = text_read(a, fd, "cpuacct.usage_percpu");
	if (!text)
		return;
	for (char *w = strtok_r(text, " \n", &save); w && st->n_cpu_per < ENTRIES_MAX;
	     w = strtok_r(NULL, " \n", &save)) {
		uint64_t *v = arena_grow(a, st->cpu_per, &cap, st->n_cpu_per + 1, sizeof(*v));

		if (!v)
			return;
		st->cpu_per = v;
		v[st->n_cpu_per++] = number(w);
	}
}

static void pids1_read(struct arena *a, int fd, struct cgroup1_stat *st)
{
	st->pids_current = number_read(a, fd, "pids.current", 0);
	st->pids_limit = number_read(a, fd, "pids.max", 0);
	if (st->pids_limit == UINT64_MAX)
		st->pids_limit = 0;
}

/* "MAJ:MIN Op N", "MAJ:MIN N"; the line "Total N" is left out. */
static size_t blkio1_read(struct arena *a, int fd, const char *name, struct cgroup1_blkio_list *ret)
{
	char *text = text_read(a, fd, name), *save = NULL;
	struct cgroup1_blkio_list l = {NULL, 0};
	size_t cap = 0;

	if (!text)
		return 0;
	for (char *line = strtok_r(text, "\n", &save); line && l.n < ENTRIES_MAX;
	     line = strtok_r(NULL, "\n", &save)) {
		struct cgroup1_blkio e = {.op = ""};
		char *p, *space;

		e.major = strtoull(line, &p, 10);
		if (p == line || *p != ':')
			continue;
		e.minor = strtoull(p + 1, &p, 10);
		if (*p++ != ' ')
			continue;
		space = strchr(p, ' ');
		if (space) {
			*space = '\0';
			e.op = p;
			p = space + 1;
		}
		e.value = strtoull(p, NULL, 10);
		l.v = arena_grow(a, l.v, &cap, l.n + 1, sizeof(*l.v));
		if (!l.v)
			return 0;
		l.v[l.n++] = e;
	}
	*ret = l;
	return l.n;
}

/* The proportional scheduler's files where they count something, else the throttling ones. */
static void blkio1_read_all(struct arena *a, int fd, struct cgroup1_stat *st)
{
	static const char *const names[BLKIO_N] = {
		[BLKIO_SERVICE_BYTES] = "blkio.io_service_bytes_recursive",
		[BLKIO_SERVICED] = "blkio.io_serviced_recursive",
		[BLKIO_QUEUED] = "blkio.io_queued_recursive",
		[BLKIO_SERVICE_TIME] = "blkio.io_service_time_recursive",
		[BLKIO_WAIT_TIME] = "blkio.io_wait_time_recursive",
		[BLKIO_MERGED] = "blkio.io_merged_recursive",
		[BLKIO_TIME] = "blkio.time_recursive",
		[BLKIO_SECTORS] = "blkio.sectors_recursive",
	};

	if (blkio1_read(a, fd, names[BLKIO_SERVICED], &st->blkio[BLKIO_SERVICED]) == 0) {
		blkio1_read(a, fd, "blkio.throttle.io_service_bytes",
			    &st->blkio[BLKIO_SERVICE_BYTES]);
		blkio1_read(a, fd, "blkio.throttle.io_serviced", &st->blkio[BLKIO_SERVICED]);
		return;
	}
	for (int i = 0; i < BLKIO_N; i++)
		if (i != BLKIO_SERVICED)
			blkio1_read(a, fd, names[i], &st->blkio[i]);
}

/* Adds an entry for each page size that has a file "hugetlb.SIZE.<suffix>". */
static void hugetlb_sizes(struct arena *a, int fd, const char *suffix, struct cgroup_hugetlb **ret,
			  size_t *ret_n)
{
	int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_closedir_ DIR *d = copy < 0 ? NULL : fdopendir(copy);
	struct cgroup_hugetlb *v = NULL;
	size_t n = 0, cap = 0;
	struct dirent *e;

	if (!d && copy >= 0)
		close(copy);
	while (d && n < 64 && (e = readdir(d))) {
		const char *size = str_skip(e->d_name, "hugetlb."), *dot;

		if (!size || !(dot = strchr(size, '.')) || !streq(dot, suffix))
			continue;
		v = arena_grow(a, v, &cap, n + 1, sizeof(*v));
		if (!v)
			return;
		v[n] = (struct cgroup_hugetlb){
			.pagesize = arena_strndup(a, size, (size_t)(dot - size))};
		if (!v[n].pagesize)
			return;
		n++;
	}
	*ret = v;
	*ret_n = n;
}

static uint64_t hugetlb_number(struct arena *a, int fd, const char *size, const char *what)
{
	char name[300];

	snprintf(name, sizeof(name), "hugetlb.%s.%s", size, what);
	return number_read(a, fd, name, 0);
}

static void hugetlb1_read(struct arena *a, int fd, struct cgroup1_stat *st)
{
	hugetlb_sizes(a, fd, ".usage_in_bytes", &st->hugetlb, &st->n_hugetlb);
	for (size_t i = 0; i < st->n_hugetlb; i++) {
		struct cgroup_hugetlb *h = &st->hugetlb[i];

		h->usage = hugetlb_number(a, fd, h->pagesize, "usage_in_bytes");
		h->max = hugetlb_number(a, fd, h->pagesize, "max_usage_in_bytes");
		h->failcnt = hugetlb_number(a, fd, h->pagesize, "failcnt");
	}
}

static void rdma1_read(struct arena *a, int fd, struct cgroup1_stat *st)
{
	rdma_read(a, fd, "rdma.current", &st->rdma_current, &st->n_rdma_current);
	rdma_read(a, fd, "rdma.max", &st->rdma_max, &st->n_rdma_max);
}

int cgroup1_stat_read(struct arena *a, const struct cgroup_dirs *dirs, struct cgroup1_stat *ret)
{
	static void (*const readers[CGROUP_N])(struct arena *, int, struct cgroup1_stat *) = {
		[CGROUP_CPU] = cpu1_read,	  [CGROUP_CPUACCT] = cpuacct1_read,
		[CGROUP_MEMORY] = memory1_read,	  [CGROUP_PIDS] = pids1_read,
		[CGROUP_BLKIO] = blkio1_read_all, [CGROUP_HUGETLB] = hugetlb1_read,
		[CGROUP_RDMA] = rdma1_read,
	};
	struct cgroup1_stat st = {.n_hugetlb = 0};
	int found = 0;

	for (int i = 0; i < CGROUP_N; i++) {
		_cleanup_close_ int fd = dirs->v1[i] ? dir_open(dirs->v1[i]) : -1;

		if (fd < 0)
			continue;
		readers[i](a, fd, &st);
		st.has[i] = true;
		found++;
	}
	if (!found)
		return -ENOENT;
	*ret = st;
	return 0;
}

/* ---- version 2 ---- */

#define F2(m)                                          \
	{                                              \
#m, offsetof(struct cgroup2_memory, m) \
	}
static const struct field memory2_fields[] = {
	F2(anon),
	F2(file),
	F2(kernel_stack),
	F2(slab),
	F2(sock),
	F2(shmem),
	F2(file_mapped),
	F2(file_dirty),
	F2(file_writeback),
	F2(anon_thp),
	F2(inactive_anon),
	F2(active_anon),
	F2(inactive_file),
	F2(active_file),
	F2(unevictable),
	F2(slab_reclaimable),
	F2(slab_unreclaimable),
	F2(pgfault),
	F2(pgmajfault),
	F2(workingset_refault),
	F2(workingset_activate),
	F2(workingset_nodereclaim),
	F2(pgrefill),
	F2(pgscan),
	F2(pgsteal),
	F2(pgactivate),
	F2(pgdeactivate),
	F2(pglazyfree),
	F2(pglazyfreed),
	F2(thp_fault_alloc),
	F2(thp_collapse_alloc),
};

#define C2(m)                                       \
	{                                           \
#m, offsetof(struct cgroup2_cpu, m) \
	}
static const struct field cpu2_fields[] = {
	C2(usage_usec),	  C2(user_usec),      C2(system_usec), C2(nr_periods),
	C2(nr_throttled), C2(throttled_usec), C2(nr_bursts),   C2(burst_usec),
};

#define E2(m)                                          \
	{                                              \
#m, offsetof(struct cgroup2_events, m) \
	}
static const struct field events2_fields[] = {
	E2(low), E2(high), E2(max), E2(oom), E2(oom_kill), E2(oom_group_kill),
};

static void psi_line_parse(char *words, struct cgroup2_psi_line *l)
{
	char *save = NULL;

	for (char *w = strtok_r(words, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
		const char *v;

		if ((v = str_skip(w, "avg10=")))
			l->avg10 = strtod(v, NULL);
		else if ((v = str_skip(w, "avg60=")))
			l->avg60 = strtod(v, NULL);
		else if ((v = str_skip(w, "avg300=")))
			l->avg300 = strtod(v, NULL);
		else if ((v = str_skip(w, "total=")))
			l->total = strtoull(v, NULL, 10);
	}
}

static void psi_read(struct arena *a, int fd, const char *name, struct cgroup2_psi *p)
{
	char *text = text_read(a, fd, name), *save = NULL;

	if (!text)
		return;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		if (str_has_prefix(line, "some "))
			psi_line_parse(line + 5, &p->some);
		else if (str_has_prefix(line, "full "))
			psi_line_parse(line + 5, &p->full);
		p->present = true;
	}
}

/* "MAJ:MIN rbytes=N wbytes=N rios=N wios=N ..." */
static void io2_read(struct arena *a, int fd, struct cgroup2_stat *st)
{
	char *text = text_read(a, fd, "io.stat"), *save = NULL;
	size_t cap = 0;

	if (!text)
		return;
	for (char *line = strtok_r(text, "\n", &save); line && st->n_io < ENTRIES_MAX;
	     line = strtok_r(NULL, "\n", &save)) {
		char *words = NULL, *w = strtok_r(line, " ", &words), *p;
		struct cgroup2_io io = {0}, *v;

		if (!w)
			continue;
		io.major = strtoull(w, &p, 10);
		if (p == w || *p != ':')
			continue;
		io.minor = strtoull(p + 1, NULL, 10);
		while ((w = strtok_r(NULL, " ", &words))) {
			const char *x;

			if ((x = str_skip(w, "rbytes=")))
				io.rbytes = strtoull(x, NULL, 10);
			else if ((x = str_skip(w, "wbytes=")))
				io.wbytes = strtoull(x, NULL, 10);
			else if ((x = str_skip(w, "rios=")))
				io.rios = strtoull(x, NULL, 10);
			else if ((x = str_skip(w, "wios=")))
				io.wios = strtoull(x, NULL, 10);
		}
		v = arena_grow(a, st->io, &cap, st->n_io + 1, sizeof(*v));
		if (!v)
			return;
		st->io = v;
		v[st->n_io++] = io;
	}
}

static void hugetlb2_read(struct arena *a, int fd, struct cgroup2_stat *st)
{
	hugetlb_sizes(a, fd, ".current", &st->hugetlb, &st->n_hugetlb);
	for (size_t i = 0; i < st->n_hugetlb; i++) {
		struct cgroup_hugetlb *h = &st->hugetlb[i];
		const struct field f[] = {{"max", 0}};
		char name[300];

		h->usage = hugetlb_number(a, fd, h->pagesize, "current");
		h->max = hugetlb_number(a, fd, h->pagesize, "max");
		snprintf(name, sizeof(name), "hugetlb.%s.events", h->pagesize);
		fields_read(a, fd, name, f, 1, &h->failcnt);
	}
}

int cgroup2_stat_read(struct arena *a, const char *dir, struct cgroup2_stat *ret)
{
	_cleanup_close_ int fd = dir_open(dir);
	struct cgroup2_stat st = {0};

	if (fd < 0)
		return -errno;
	st.pids_current = number_read(a, fd, "pids.current", 0);
	st.pids_limit = number_read(a, fd, "pids.max", 0);
	fields_read(a, fd, "cpu.stat", cpu2_fields, ARRAY_LEN(cpu2_fields), &st.cpu);
	psi_read(a, fd, "cpu.pressure", &st.cpu_psi);
	fields_read(a, fd, "memory.stat", memory2_fields, ARRAY_LEN(memory2_fields), &st.memory);
	st.memory.usage = number_read(a, fd, "memory.current", 0);
	st.memory.limit = number_read(a, fd, "memory.max", 0);
	st.memory.swap_usage = number_read(a, fd, "memory.swap.current", 0);
	st.memory.swap_limit = number_read(a, fd, "memory.swap.max", 0);
	st.memory.max_usage = number_read(a, fd, "memory.peak", 0);
	st.memory.swap_max_usage = number_read(a, fd, "memory.swap.peak", 0);
	psi_read(a, fd, "memory.pressure", &st.memory_psi);
	fields_read(a, fd, "memory.events", events2_fields, ARRAY_LEN(events2_fields), &st.events);
	io2_read(a, fd, &st);
	psi_read(a, fd, "io.pressure", &st.io_psi);
	hugetlb2_read(a, fd, &st);
	rdma_read(a, fd, "rdma.current", &st.rdma_current, &st.n_rdma_current);
	rdma_read(a, fd, "rdma.max", &st.rdma_max, &st.n_rdma_max);
	*ret = st;
	return 0;
}
