/* SPDX-License-Identifier: Apache-2.0 */
/* What a control group has used: one form for versions 1 and 2 and for what a shim tells.
 *
 * Only the files are read that the answer needs: a question about every container of a host is
 * asked each few seconds. Results live in the caller's arena. Functions return 0 or -errno. */
#pragma once

#include "core/container.h"
#include "sys/cgroup.h"

enum sample_number {
	SAMPLE_CPU, /* ns */
	SAMPLE_MEMORY,
	SAMPLE_MEMORY_LIMIT,
	SAMPLE_ACTIVE_FILE,
	SAMPLE_INACTIVE_FILE,
	SAMPLE_RSS,
	SAMPLE_PGFAULT,
	SAMPLE_PGMAJFAULT,
	SAMPLE_SWAP,
	SAMPLE_SWAP_LIMIT,
	/* Only when asked for in detail. */
	SAMPLE_CPU_USER,   /* ns */
	SAMPLE_CPU_SYSTEM, /* ns */
	SAMPLE_PERIODS,
	SAMPLE_THROTTLED_PERIODS,
	SAMPLE_THROTTLED, /* ns */
	SAMPLE_CPU_PERIOD,
	SAMPLE_CPU_SHARES,
	SAMPLE_CPU_WEIGHT, /* version 2's shares */
	SAMPLE_MEMORY_MAX,
	SAMPLE_MEMORY_FAILCNT,
	SAMPLE_MEMORY_RESERVATION,
	SAMPLE_CACHE,
	SAMPLE_KERNEL,
	SAMPLE_MAPPED_FILE,
	SAMPLE_TREE_PGFAULT, /* with all below it */
	SAMPLE_TREE_PGMAJFAULT,
	SAMPLE_SWAPPED, /* memory that is in swap, which version 1's swap is more than */
	SAMPLE_OOM_KILLS,
	SAMPLE_THREADS,
	SAMPLE_THREADS_MAX,
	SAMPLE_N
};

struct sample_io {
	uint64_t major, minor, read_bytes, write_bytes, reads, writes;
};

struct cri_sample {
	int64_t at, mono;				/* when: unix ns, and monotonic */
	uint64_t has;					/* bits of sample_number */
	uint64_t v[SAMPLE_N];				/* limits: UINT64_MAX = none */
	struct cgroup2_psi cpu_psi, memory_psi, io_psi; /* totals in ns */
	struct sample_io *io;				/* in detail only */
	size_t n_io;
};

static inline bool sample_has(const struct cri_sample *s, enum sample_number i)
{
	return s->has >> i & 1;
}
/* Used and not easily given back. */
uint64_t sample_working_set(const struct cri_sample *s);
/* What is left of a limit, 0 when there is none. */
uint64_t sample_left(uint64_t limit, uint64_t used);

/* -ENOENT: there is no such group (any more). */
int cri_sample_read(struct arena *a, const struct cgroup_dirs *d, bool detailed,
		    struct cri_sample *ret) _must_check_;
/* From io.containerd.cgroups.v1.Metrics or v2.Metrics. -EINVAL: it is neither. */
int cri_sample_unpack(struct arena *a, const struct any *stats,
		      struct cri_sample *ret) _must_check_;

/* Calls @fn for each process of a group and those below it. Returns how many there are. */
size_t cri_cgroup_processes(const struct cgroup_dirs *d, void (*fn)(int pid, void *arg), void *arg);

/* Last component of the group that a specification's cgroupsPath asks for: of a path, or of
 * systemd's "slice:prefix:name". NULL = no memory. */
char *cri_cgroup_leaf(struct arena *a, const char *cgroups_path);
/* Directories of the group whose last component is @leaf and below which a process is, of which
 * @text is the /proc/PID/cgroup. -ENOENT: it is in no such group. */
int cri_cgroup_locate(struct arena *a, const char *text, const char *mountinfo, const char *leaf,
		      struct cgroup_dirs *ret) _must_check_;

/* ---- networks ---- */

struct cri_netdev {
	const char *name;
	uint64_t rx_bytes, rx_packets, rx_errors, rx_dropped;
	uint64_t tx_bytes, tx_packets, tx_errors, tx_dropped;
};

/* Of /proc/PID/net/dev, without the loopback; cuts @text up. -ENOMEM */
int cri_netdev_parse(struct arena *a, char *text, struct cri_netdev **ret,
		     size_t *ret_n) _must_check_;
int cri_netdev_read(struct arena *a, uint32_t pid, struct cri_netdev **ret,
		    size_t *ret_n) _must_check_;
