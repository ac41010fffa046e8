/* SPDX-License-Identifier: Apache-2.0 */
/* What statistics and metrics share: samples of containers and pods, for one question. */
#pragma once

#include "cri/internal.h"
#include "cri/sample.h"

#define STATS_CHUNK 100 /* of a stream's message */

/* One question; on the caller's stack. */
struct stats_round {
	struct ctx *ctx;
	struct cri *c;
	const char *mountinfo; /* read when a group must be found; NULL = not yet */
};

struct stats_sample {
	bool known; /* else nothing below is */
	struct cri_sample s;
	bool has_rate;
	uint64_t nano_cores;
	struct stats_entry *entry;	/* with a reference; NULL = none */
	pthread_mutex_t *lock;		/* of its references */
	const struct cgroup_dirs *dirs; /* NULL = not on this host; while entry is held */
};

void stats_sample_done(struct stats_sample *m);
#define _cleanup_sample_ _cleanup_(stats_sample_done)

/* Of a container that runs; what is not known stays so. */
void stats_container_sample(struct stats_round *q, struct cri_container *k, bool detailed,
			    struct stats_sample *ret);
/* Of the group that a pod's containers are in, when its configuration names one. */
void stats_pod_sample(struct stats_round *q, struct cri_pod *p, bool detailed,
		      struct stats_sample *ret);
/* Interfaces of a pod that has a network of its own; none otherwise. */
void stats_pod_network(struct stats_round *q, struct cri_pod *p, struct cri_netdev **ret,
		       size_t *ret_n);
/* What a container's shim tells, also when its first process has ended and the task is still there.
 * -ENOENT, -EINVAL: it tells nothing */
int cri_stats_of_task(struct ctx *ctx, struct cri *c, const char *id,
		      struct cri_sample *ret) _must_check_;
/* @number of a sample when it is known, else 0. */
static inline uint64_t stats_number(const struct stats_sample *m, enum sample_number i)
{
	return m->known ? m->s.v[i] : 0;
}
const char *stats_mountinfo(struct stats_round *q); /* NULL = cannot be read */
