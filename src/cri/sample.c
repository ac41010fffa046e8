/* SPDX-License-Identifier: Apache-2.0 */
/* Reading control groups: tables say which key of which file is which number. A file that several
 * entries of a table name in a row is read once; one that is missing leaves its numbers unknown. */
#include "cri/sample.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"
#include "base/time.h"

#define FILE_MAX (32u << 10)
#define DEVICES_MAX 1024
#define DEPTH_MAX 32
/* Version 1 has no word for "no limit": the largest number of pages. */
#define LIMIT_NONE (1ull << 62)

struct field {
	const char *file, *key; /* NULL = the file is one number */
	enum sample_number number;
	uint64_t scale;
};

/* ---- version 1 ---- */

#define USER_HZ_NS 10000000 /* cpuacct.stat counts in these on every architecture that we know */

static const struct field cpuacct1[] = {
	{"cpuacct.usage", NULL, SAMPLE_CPU, 1},
	{"cpuacct.stat", "user", SAMPLE_CPU_USER, USER_HZ_NS},
	{"cpuacct.stat", "system", SAMPLE_CPU_SYSTEM, USER_HZ_NS},
};
static const struct field cpu1[] = {
	{"cpu.stat", "nr_periods", SAMPLE_PERIODS, 1},
	{"cpu.stat", "nr_throttled", SAMPLE_THROTTLED_PERIODS, 1},
	{"cpu.stat", "throttled_time", SAMPLE_THROTTLED, 1},
	{"cpu.cfs_period_us", NULL, SAMPLE_CPU_PERIOD, 1},
	{"cpu.shares", NULL, SAMPLE_CPU_SHARES, 1},
};
static const struct field memory1[] = {
	{"memory.stat", "total_inactive_file", SAMPLE_INACTIVE_FILE, 1},
	{"memory.stat", "total_active_file", SAMPLE_ACTIVE_FILE, 1},
	{"memory.stat", "total_rss", SAMPLE_RSS, 1},
	{"memory.stat", "pgfault", SAMPLE_PGFAULT, 1},
	{"memory.stat", "pgmajfault", SAMPLE_PGMAJFAULT, 1},
	{"memory.stat", "total_pgfault", SAMPLE_TREE_PGFAULT, 1},
	{"memory.stat", "total_pgmajfault", SAMPLE_TREE_PGMAJFAULT, 1},
	{"memory.stat", "total_cache", SAMPLE_CACHE, 1},
	{"memory.stat", "total_mapped_file", SAMPLE_MAPPED_FILE, 1},
	{"memory.stat", "total_swap", SAMPLE_SWAPPED, 1},
	{"memory.usage_in_bytes", NULL, SAMPLE_MEMORY, 1},
	{"memory.limit_in_bytes", NULL, SAMPLE_MEMORY_LIMIT, 1},
	{"memory.memsw.usage_in_bytes", NULL, SAMPLE_SWAP, 1},
	{"memory.memsw.limit_in_bytes", NULL, SAMPLE_SWAP_LIMIT, 1},
	{"memory.max_usage_in_bytes", NULL, SAMPLE_MEMORY_MAX, 1},
	{"memory.failcnt", NULL, SAMPLE_MEMORY_FAILCNT, 1},
	{"memory.soft_limit_in_bytes", NULL, SAMPLE_MEMORY_RESERVATION, 1},
	{"memory.kmem.usage_in_bytes", NULL, SAMPLE_KERNEL, 1},
	{"memory.oom_control", "oom_kill", SAMPLE_OOM_KILLS, 1},
};
static const struct field pids[] = {
	{"pids.current", NULL, SAMPLE_THREADS, 1},
	{"pids.max", NULL, SAMPLE_THREADS_MAX, 1},
};

/* ---- version 2 ---- */

static const struct field unified[] = {
	{"cpu.stat", "usage_usec", SAMPLE_CPU, 1000},
	{"cpu.stat", "user_usec", SAMPLE_CPU_USER, 1000},
	{"cpu.stat", "system_usec", SAMPLE_CPU_SYSTEM, 1000},
	{"cpu.stat", "nr_periods", SAMPLE_PERIODS, 1},
	{"cpu.stat", "nr_throttled", SAMPLE_THROTTLED_PERIODS, 1},
	{"cpu.stat", "throttled_usec", SAMPLE_THROTTLED, 1000},
	{"memory.stat", "inactive_file", SAMPLE_INACTIVE_FILE, 1},
	{"memory.stat", "active_file", SAMPLE_ACTIVE_FILE, 1},
	{"memory.stat", "anon", SAMPLE_RSS, 1},
	{"memory.stat", "pgfault", SAMPLE_PGFAULT, 1},
	{"memory.stat", "pgmajfault", SAMPLE_PGMAJFAULT, 1},
	{"memory.stat", "file", SAMPLE_CACHE, 1},
	{"memory.stat", "kernel", SAMPLE_KERNEL, 1},
	{"memory.stat", "file_mapped", SAMPLE_MAPPED_FILE, 1},
	{"memory.current", NULL, SAMPLE_MEMORY, 1},
	{"memory.max", NULL, SAMPLE_MEMORY_LIMIT, 1},
	{"memory.swap.current", NULL, SAMPLE_SWAP, 1},
	{"memory.swap.max", NULL, SAMPLE_SWAP_LIMIT, 1},
	{"memory.peak", NULL, SAMPLE_MEMORY_MAX, 1},
	{"memory.low", NULL, SAMPLE_MEMORY_RESERVATION, 1},
	{"memory.events", "max", SAMPLE_MEMORY_FAILCNT, 1},
	{"memory.events", "oom_kill", SAMPLE_OOM_KILLS, 1},
	{"cpu.weight", NULL, SAMPLE_CPU_WEIGHT, 1},
	{"pids.current", NULL, SAMPLE_THREADS, 1},
	{"pids.max", NULL, SAMPLE_THREADS_MAX, 1},
};

/* ---- reading ---- */

static void set(struct cri_sample *s, enum sample_number i, uint64_t v, uint64_t scale)
{
	if (__builtin_mul_overflow(v, scale, &s->v[i]))
		s->v[i] = UINT64_MAX;
	s->has |= 1ull << i;
}

/* A number or "max", up to a white space; false when it is neither. */
static bool number(const char *s, uint64_t *ret)
{
	uint64_t v = 0;

	if (str_has_prefix(s, "max")) {
		*ret = UINT64_MAX;
		return true;
	}
	if (*s < '0' || *s > '9')
		return false;
	for (; *s >= '0' && *s <= '9'; s++)
		if (__builtin_mul_overflow(v, 10, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(*s - '0'), &v))
			return false;
	*ret = v;
	return true;
}

/* The whole file or its first @size - 1 bytes, of which a cut line is dropped. */
static ssize_t slurp(int dirfd, const char *name, char *buf, size_t size)
{
	_cleanup_close_ int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -errno : fd_read_full(fd, buf, size - 1);

	if (n < 0)
		return n;
	while ((size_t)n == size - 1 && n > 0 && buf[n - 1] != '\n')
		n--;
	buf[n] = '\0';
	return n;
}

static void keys_parse(const char *text, const struct field *f, size_t n, bool detailed,
		       struct cri_sample *s)
{
	for (const char *line = text; *line;) {
		const char *end = strchrnul(line, '\n'),
			   *space = memchr(line, ' ', (size_t)(end - line));
		size_t len = space ? (size_t)(space - line) : 0;
		uint64_t v;

		for (size_t i = 0; len && i < n; i++) {
			if (strncmp(f[i].key, line, len) != 0 || f[i].key[len])
				continue;
			if ((detailed || f[i].number < SAMPLE_CPU_USER) && number(space + 1, &v))
				set(s, f[i].number, v, f[i].scale);
			break;
		}
		line = *end ? end + 1 : end;
	}
}

static bool wanted(const struct field *f, size_t n, bool detailed)
{
	for (size_t i = 0; i < n; i++)
		if (detailed || f[i].number < SAMPLE_CPU_USER)
			return true;
	return false;
}

static void fields_read(int dirfd, const struct field *f, size_t n, bool detailed,
			struct cri_sample *s)
{
	char text[FILE_MAX];
	uint64_t v;

	for (size_t i = 0, k; i < n; i = k) {
		for (k = i + 1; k < n && f[i].key && streq(f[k].file, f[i].file);)
			k++;
		if (!wanted(f + i, k - i, detailed) ||
		    slurp(dirfd, f[i].file, text, sizeof(text)) < 0)
			continue;
		if (f[i].key)
			keys_parse(text, f + i, k - i, detailed, s);
		else if (number(text, &v))
			set(s, f[i].number, v, f[i].scale);
	}
}

/* ---- pressure ---- */

static void psi_line(const char *line, struct cgroup2_psi *p)
{
	struct cgroup2_psi_line l = {0}, *to;
	const char *v;

	if ((v = str_skip(line, "some ")))
		to = &p->some;
	else if ((v = str_skip(line, "full ")))
		to = &p->full;
	else
		return;
	unsigned long long total = 0;
	if (sscanf(v, "avg10=%lf avg60=%lf avg300=%lf total=%llu", &l.avg10, &l.avg60, &l.avg300,
		   &total) != 4)
		return;
	if (__builtin_mul_overflow((uint64_t)total, (uint64_t)1000, &l.total))
		l.total = UINT64_MAX;
	*to = l;
	p->present = true;
}

static void psi_read(int dirfd, const char *name, struct cgroup2_psi *p)
{
	char text[512];

	if (slurp(dirfd, name, text, sizeof(text)) < 0)
		return;
	for (const char *line = text; *line;) {
		const char *end = strchrnul(line, '\n');
		psi_line(line, p);
		line = *end ? end + 1 : end;
	}
}

/* ---- devices ---- */

static struct sample_io *device(struct arena *a, struct cri_sample *s, size_t *cap, uint64_t major,
				uint64_t minor)
{
	for (size_t i = 0; i < s->n_io; i++)
		if (s->io[i].major == major && s->io[i].minor == minor)
			return &s->io[i];
	struct sample_io *v =
		s->n_io < DEVICES_MAX ? arena_grow(a, s->io, cap, s->n_io + 1, sizeof(*v)) : NULL;
	if (!v)
		return NULL;
	s->io = v;
	v[s->n_io] = (struct sample_io){.major = major, .minor = minor};
	return &v[s->n_io++];
}

/* "MAJ:MIN rbytes=N wbytes=N rios=N wios=N ..." */
static void io2_read(struct arena *a, int dirfd, struct cri_sample *s)
{
	char text[FILE_MAX], *save = NULL;
	size_t cap = 0;

	if (slurp(dirfd, "io.stat", text, sizeof(text)) < 0)
		return;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char *words = NULL, *w = strtok_r(line, " ", &words);
		unsigned long long major, minor;
		struct sample_io *io;

		if (!w || sscanf(w, "%llu:%llu", &major, &minor) != 2 ||
		    !(io = device(a, s, &cap, major, minor)))
			continue;
		while ((w = strtok_r(NULL, " ", &words))) {
			static const struct {
				const char *key;
				size_t offset;
			} keys[] = {{"rbytes=", offsetof(struct sample_io, read_bytes)},
				    {"wbytes=", offsetof(struct sample_io, write_bytes)},
				    {"rios=", offsetof(struct sample_io, reads)},
				    {"wios=", offsetof(struct sample_io, writes)}};
			const char *v = NULL;
			for (size_t i = 0; !v && i < ARRAY_LEN(keys); i++)
				if ((v = str_skip(w, keys[i].key)))
					number(v, (uint64_t *)((char *)io + keys[i].offset));
		}
	}
}

/* "MAJ:MIN Read N" and so on, and "Total N". */
static bool io1_read(struct arena *a, int dirfd, const char *name, size_t read_at, size_t write_at,
		     size_t *cap, struct cri_sample *s)
{
	char text[FILE_MAX], *save = NULL;

	if (slurp(dirfd, name, text, sizeof(text)) < 0)
		return false;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		unsigned long long major, minor;
		struct sample_io *io;
		const char *v;
		int at = 0;

		if (sscanf(line, "%llu:%llu %n", &major, &minor, &at) != 2 || !at ||
		    !(io = device(a, s, cap, major, minor)))
			continue;
		if ((v = str_skip(line + at, "Read ")))
			number(v, (uint64_t *)((char *)io + read_at));
		else if ((v = str_skip(line + at, "Write ")))
			number(v, (uint64_t *)((char *)io + write_at));
	}
	return true;
}

static void blkio1_read(struct arena *a, int dirfd, struct cri_sample *s)
{
	static const char *const names[][2] = {
		{"blkio.throttle.io_service_bytes_recursive",
		 "blkio.throttle.io_serviced_recursive"},
		{"blkio.throttle.io_service_bytes", "blkio.throttle.io_serviced"},
	};
	size_t cap = 0;

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (io1_read(a, dirfd, names[i][0], offsetof(struct sample_io, read_bytes),
			     offsetof(struct sample_io, write_bytes), &cap, s)) {
			io1_read(a, dirfd, names[i][1], offsetof(struct sample_io, reads),
				 offsetof(struct sample_io, writes), &cap, s);
			return;
		}
}

/* ---- all of it ---- */

static int dir_open(const char *dir)
{
	return dir ? open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
}

static int sample1(struct arena *a, const struct cgroup_dirs *d, bool detailed,
		   struct cri_sample *s)
{
	static const struct {
		enum cgroup_controller controller;
		const struct field *f;
		size_t n;
		bool detail;
	} parts[] = {
		{CGROUP_CPUACCT, cpuacct1, ARRAY_LEN(cpuacct1), false},
		{CGROUP_MEMORY, memory1, ARRAY_LEN(memory1), false},
		{CGROUP_CPU, cpu1, ARRAY_LEN(cpu1), true},
		{CGROUP_PIDS, pids, ARRAY_LEN(pids), true},
	};
	bool any = false;

	for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
		if (parts[i].detail && !detailed)
			continue;
		_cleanup_close_ int fd = dir_open(d->v1[parts[i].controller]);
		if (fd < 0)
			continue;
		any = true;
		fields_read(fd, parts[i].f, parts[i].n, detailed, s);
	}
	_cleanup_close_ int blkio = detailed ? dir_open(d->v1[CGROUP_BLKIO]) : -1;
	if (blkio >= 0)
		blkio1_read(a, blkio, s);
	if (!sample_has(s, SAMPLE_KERNEL) && sample_has(s, SAMPLE_MEMORY_MAX))
		set(s, SAMPLE_KERNEL, 0, 1); /* not counted apart any more */
	return any && s->has ? 0 : -ENOENT;
}

static int sample2(struct arena *a, const struct cgroup_dirs *d, bool detailed,
		   struct cri_sample *s)
{
	_cleanup_close_ int fd = dir_open(d->dir);
	char text[128];
	uint64_t v;

	if (fd < 0)
		return -ENOENT;
	fields_read(fd, unified, ARRAY_LEN(unified), detailed, s);
	if (!s->has)
		return -ENOENT;
	psi_read(fd, "cpu.pressure", &s->cpu_psi);
	psi_read(fd, "memory.pressure", &s->memory_psi);
	psi_read(fd, "io.pressure", &s->io_psi);
	if (!detailed)
		return 0;
	io2_read(a, fd, s);
	const char *period =
		slurp(fd, "cpu.max", text, sizeof(text)) > 0 ? strchr(text, ' ') : NULL;
	if (period && number(period + 1, &v))
		set(s, SAMPLE_CPU_PERIOD, v, 1);
	/* What is counted here is the whole tree's already. */
	for (int i = 0; i < 2; i++)
		if (sample_has(s, SAMPLE_PGFAULT + i))
			set(s, SAMPLE_TREE_PGFAULT + i, s->v[SAMPLE_PGFAULT + i], 1);
	if (sample_has(s, SAMPLE_SWAP))
		set(s, SAMPLE_SWAPPED, s->v[SAMPLE_SWAP], 1);
	return 0;
}

int cri_sample_read(struct arena *a, const struct cgroup_dirs *d, bool detailed,
		    struct cri_sample *ret)
{
	struct timespec now = time_now();
	struct cri_sample s = {.at = now.tv_sec * NSEC_PER_SEC + now.tv_nsec, .mono = time_mono()};
	int r = d->unified ? sample2(a, d, detailed, &s) : sample1(a, d, detailed, &s);

	if (r == 0)
		*ret = s;
	return r;
}

uint64_t sample_working_set(const struct cri_sample *s)
{
	uint64_t file = s->v[SAMPLE_INACTIVE_FILE], all = s->v[SAMPLE_MEMORY];

	return all > file ? all - file : 0;
}

uint64_t sample_left(uint64_t limit, uint64_t used)
{
	return limit < LIMIT_NONE && limit > used ? limit - used : 0;
}
