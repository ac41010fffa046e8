/* SPDX-License-Identifier: Apache-2.0 */
/* Control groups of a process: where they are, what they count, and when one ran out of memory.
 * Version 1 (one directory a controller) and version 2 (one directory).
 *
 * Everything returned lives in the caller's arena. Files that are missing leave their numbers at 0;
 * what a kernel does not count is not an error. All return 0 or -errno. Not thread safe per arena.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"

enum cgroup_controller {
	CGROUP_CPU,
	CGROUP_CPUACCT,
	CGROUP_MEMORY,
	CGROUP_PIDS,
	CGROUP_BLKIO,
	CGROUP_HUGETLB,
	CGROUP_RDMA,
	CGROUP_N
};

/* Absolute directories; NULL where there is none. */
struct cgroup_dirs {
	bool unified; /* version 2 only: @dir; else @v1 */
	const char *dir;
	const char *v1[CGROUP_N];
};

/* Text of /proc/PID/cgroup: keep it while the process lives, to find its groups after it has died
 * too. */
int cgroup_text_read(struct arena *a, int pid, char **ret);
/* @text: from cgroup_text_read(), @mountinfo: of /proc/self/mountinfo. Counts as version 2 when no
 * controller above is mounted as version 1. -ENOENT when nothing matches. */
int cgroup_dirs_parse(struct arena *a, const char *text, const char *mountinfo,
		      struct cgroup_dirs *ret);
/* The same with this process's mountinfo. */
int cgroup_dirs_find(struct arena *a, const char *text, struct cgroup_dirs *ret);

/* Puts @pid into the group @path ("/x/y") of every hierarchy where that group exists. -ENOENT when
 * it exists nowhere. */
int cgroup_join(struct arena *a, const char *path, int pid);

/* Gives the group @dir (a directory) the processors and memory nodes of its parent where it has
 * none of its own, as new groups of version 1 do not, which nobody can join then. Nothing to do for
 * a group of another controller. */
int cgroup_cpuset_inherit(struct arena *a, const char *dir);

/* Moves this process into the group where it is, which changes nothing, but waits for what the next
 * move anywhere would have to wait for: see cgroup_ahead.c. Takes up to 20 ms. For short-lived
 * programs only, which nobody else moves. */
int cgroup_attach_self(void);
/* The same in a thread that nobody waits for. */
void cgroup_attach_ahead(void);
/* The same for a daemon: what it pretends to move is a child that has ended. @procs_fd of
 * cgroup_procs_open(); -ENODEV when its group is gone meanwhile. Any thread. */
int cgroup_attach_dead(int procs_fd);
/* To move processes into the group where this one is; a descriptor or -errno. */
int cgroup_procs_open(void);

/* ---- numbers, version 1 ---- */

struct cgroup_hugetlb {
	const char *pagesize;
	uint64_t usage, max, failcnt;
};

struct cgroup_rdma {
	const char *device;
	uint32_t handles, objects;
};

struct cgroup1_blkio {
	const char *op;
	uint64_t major, minor, value;
};

struct cgroup1_blkio_list {
	struct cgroup1_blkio *v;
	size_t n;
};

enum cgroup1_blkio_kind {
	BLKIO_SERVICE_BYTES,
	BLKIO_SERVICED,
	BLKIO_QUEUED,
	BLKIO_SERVICE_TIME,
	BLKIO_WAIT_TIME,
	BLKIO_MERGED,
	BLKIO_TIME,
	BLKIO_SECTORS,
	BLKIO_N
};

struct cgroup1_memory_entry {
	bool present;
	uint64_t limit, usage, max, failcnt;
};

struct cgroup1_memory {
	uint64_t cache, rss, rss_huge, mapped_file, dirty, writeback, pgpgin, pgpgout, pgfault,
		pgmajfault, inactive_anon, active_anon, inactive_file, active_file, unevictable,
		hierarchical_memory_limit, hierarchical_memsw_limit, total_cache, total_rss,
		total_rss_huge, total_mapped_file, total_dirty, total_writeback, total_pgpgin,
		total_pgpgout, total_pgfault, total_pgmajfault, total_inactive_anon,
		total_active_anon, total_inactive_file, total_active_file, total_unevictable;
	struct cgroup1_memory_entry usage, swap, kernel, kernel_tcp;
	uint64_t oom_kill_disable, under_oom, oom_kill;
};

struct cgroup1_stat {
	bool has[CGROUP_N];
	struct cgroup_hugetlb *hugetlb;
	size_t n_hugetlb;
	uint64_t pids_current, pids_limit;	  /* limit 0 = none */
	uint64_t cpu_total, cpu_kernel, cpu_user; /* ns */
	uint64_t *cpu_per;
	size_t n_cpu_per;
	uint64_t nr_periods, nr_throttled, throttled_time;
	struct cgroup1_memory memory;
	struct cgroup1_blkio_list blkio[BLKIO_N];
	struct cgroup_rdma *rdma_current, *rdma_max;
	size_t n_rdma_current, n_rdma_max;
};

int cgroup1_stat_read(struct arena *a, const struct cgroup_dirs *dirs, struct cgroup1_stat *ret);

/* ---- numbers, version 2 ---- */

struct cgroup2_psi_line {
	double avg10, avg60, avg300;
	uint64_t total;
};

struct cgroup2_psi {
	bool present;
	struct cgroup2_psi_line some, full;
};

struct cgroup2_io {
	uint64_t major, minor, rbytes, wbytes, rios, wios;
};

struct cgroup2_cpu {
	uint64_t usage_usec, user_usec, system_usec, nr_periods, nr_throttled, throttled_usec,
		nr_bursts, burst_usec;
};

struct cgroup2_memory {
	uint64_t anon, file, kernel_stack, slab, sock, shmem, file_mapped, file_dirty,
		file_writeback, anon_thp, inactive_anon, active_anon, inactive_file, active_file,
		unevictable, slab_reclaimable, slab_unreclaimable, pgfault, pgmajfault,
		workingset_refault, workingset_activate, workingset_nodereclaim, pgrefill, pgscan,
		pgsteal, pgactivate, pgdeactivate, pglazyfree, pglazyfreed, thp_fault_alloc,
		thp_collapse_alloc;
	uint64_t usage, limit, swap_usage, swap_limit, max_usage,
		swap_max_usage; /* limits: UINT64_MAX = none */
};

struct cgroup2_events {
	uint64_t low, high, max, oom, oom_kill, oom_group_kill;
};

struct cgroup2_stat {
	uint64_t pids_current, pids_limit; /* UINT64_MAX = none */
	struct cgroup2_cpu cpu;
	struct cgroup2_memory memory;
	struct cgroup2_events events;
	struct cgroup2_psi cpu_psi, memory_psi, io_psi;
	struct cgroup2_io *io;
	size_t n_io;
	struct cgroup_hugetlb *hugetlb; /* usage = current */
	size_t n_hugetlb;
	struct cgroup_rdma *rdma_current, *rdma_max;
	size_t n_rdma_current, n_rdma_max;
};

int cgroup2_stat_read(struct arena *a, const char *dir, struct cgroup2_stat *ret);

/* ---- out of memory ---- */

/* Watches a group: @fd becomes readable when something may have happened (version 1: eventfd,
 * version 2: inotify). */
struct cgroup_oom {
	int fd;
	bool v2;
	char *dir;	/* on the heap */
	uint64_t kills; /* that were told, or were before */
	bool early;	/* one was told before the kernel had counted it (version 1) */
};

#define CGROUP_OOM_INIT ((struct cgroup_oom){.fd = -1})

/* -EOPNOTSUPP when there is no memory controller. */
int cgroup_oom_open(const struct cgroup_dirs *dirs, struct cgroup_oom *ret);
/* After @fd became readable: 1 = the group ran out of memory, 0 = it did not, -ENOENT = the group
 * is gone (close). */
int cgroup_oom_check(struct cgroup_oom *o);
/* At the end of the last process, without an event: 1 = the group has killed since, and that was
 * not told by cgroup_oom_check() before. */
int cgroup_oom_last_check(struct cgroup_oom *o);
void cgroup_oom_close(struct cgroup_oom *o);
