/* SPDX-License-Identifier: Apache-2.0 */
/* Resources: what the kubelet asks for as the OCI spec says it. Zero means "not said". */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"
#include "cri/spec_internal.h"
#include "rpc/pb_json.h"

#define RES "linux/resources/"
#define CGROUP "/sys/fs/cgroup"

/* The root group of version 2 has no limits: the daemon's own group says whether they exist. */
static bool swap_controller(void)
{
	char text[PATH_MAX], path[PATH_MAX + 64];

	if (!spec_host_unified())
		return access(CGROUP "/memory/memory.memsw.limit_in_bytes", F_OK) == 0;
	_cleanup_close_ int fd = open("/proc/self/cgroup", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : fd_read_full(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return false;
	text[n] = 0;
	text[strcspn(text, "\n")] = 0;
	const char *own = str_skip(text, "0::");
	snprintf(path, sizeof(path), CGROUP "%s/memory.swap.max", own ? own : "/init.scope");
	return access(path, F_OK) == 0;
}

static int set_int(json_t *spec, const char *path, int64_t v, struct err *err)
{
	return v ? spec_set(spec, path, json_integer(v), err) : 0;
}

static int set_string(json_t *spec, const char *path, const char *v, struct err *err)
{
	return str_empty(v) ? 0 : spec_set(spec, path, json_string(v), err);
}

static int cpu(json_t *spec, const CRI(LinuxContainerResources) * r, struct err *err)
{
	int e = set_int(spec, RES "cpu/shares", r->cpu_shares, err);
	if (e == 0)
		e = set_int(spec, RES "cpu/quota", r->cpu_quota, err);
	if (e == 0)
		e = set_int(spec, RES "cpu/period", r->cpu_period, err);
	if (e == 0)
		e = set_string(spec, RES "cpu/cpus", r->cpuset_cpus, err);
	return e < 0 ? e : set_string(spec, RES "cpu/mems", r->cpuset_mems, err);
}

static int memory(json_t *spec, const CRI(LinuxContainerResources) * r, struct err *err)
{
	int64_t swap = r->memory_swap_limit_in_bytes;
	int e = set_int(spec, RES "memory/limit", r->memory_limit_in_bytes, err);

	/* Without a word about swap a container gets none: memory and swap together are limited.
	 * Where the kernel does not count swap no limit can be set. */
	if (!swap)
		swap = r->memory_limit_in_bytes;
	if (swap && !swap_controller())
		swap = 0;
	return e < 0 ? e : set_int(spec, RES "memory/swap", swap, err);
}

static int hugepages(json_t *spec, const CRI(LinuxContainerResources) * r,
		     const struct cri_config *config, struct err *err)
{
	bool there = spec_host_unified() ? access(CGROUP "/cgroup.controllers", F_OK) == 0
					 : access(CGROUP "/hugetlb", F_OK) == 0;

	if (r->n_hugepage_limits == 0 || config->disable_hugetlb_controller)
		return 0;
	if (!there) {
		if (config->tolerate_missing_hugetlb_controller)
			return 0;
		return err_set(err, ERR_UNKNOWN,
			       "huge page limits: the hugetlb controller is missing");
	}
	json_t *v = json_array();
	for (size_t i = 0; v && i < r->n_hugepage_limits; i++)
		if (json_array_append_new(
			    v, json_pack("{s:s, s:I}", "pageSize", r->hugepage_limits[i]->page_size,
					 "limit", (json_int_t)r->hugepage_limits[i]->limit)) < 0) {
			json_decref(v);
			v = NULL;
		}
	return spec_set(spec, RES "hugepageLimits", v, err);
}

static int unified(json_t *spec, const CRI(LinuxContainerResources) * r, struct err *err)
{
	if (r->n_unified == 0)
		return 0;
	if (!spec_get(spec, RES "unified")) {
		int e = spec_set(spec, RES "unified", json_object(), err);
		if (e < 0)
			return e;
	}
	json_t *o = spec_get(spec, RES "unified");
	for (size_t i = 0; i < r->n_unified; i++)
		if (json_object_set_new(o, r->unified[i]->key, json_string(r->unified[i]->value)) <
		    0)
			return err_nomem(err);
	return 0;
}

int cri_spec_update_resources(json_t *spec, const CRI(LinuxContainerResources) * r,
			      const struct cri_config *config, struct err *err)
{
	int e = cpu(spec, r, err);
	if (e == 0)
		e = memory(spec, r, err);
	if (e == 0)
		e = hugepages(spec, r, config, err);
	if (e == 0)
		e = unified(spec, r, err);
	if (e == 0 && r->oom_score_adj)
		e = spec_part_oom(spec, config, r->oom_score_adj, err);
	return e;
}

static json_t *hugepages_of_spec(const json_t *v)
{
	json_t *out = json_array();

	for (size_t i = 0; out && i < json_array_size(v); i++) {
		const json_t *one = json_array_get(v, i);
		if (json_array_append_new(out, json_pack("{s:s, s:I}", "page_size",
							 json_str(one, "pageSize", ""), "limit",
							 json_int(one, "limit", 0))) < 0) {
			json_decref(out);
			return NULL;
		}
	}
	return out;
}

int cri_resources_of_spec(struct arena *a, const json_t *spec,
			  const CRI(LinuxContainerResources) * *ret, struct err *err)
{
	const json_t *res = spec_get(spec, "linux/resources"), *cpu_ = json_obj(res, "cpu"),
		     *memory_ = json_obj(res, "memory");
	json_t *unified_ = json_obj(res, "unified");
	json_t *j _cleanup_json_ = json_pack(
		"{s:I, s:I, s:I, s:s, s:s, s:I, s:I, s:I, s:o, s:O*}", "cpu_period",
		json_int(cpu_, "period", 0), "cpu_quota", json_int(cpu_, "quota", 0), "cpu_shares",
		json_int(cpu_, "shares", 0), "cpuset_cpus", json_str(cpu_, "cpus", ""),
		"cpuset_mems", json_str(cpu_, "mems", ""), "memory_limit_in_bytes",
		json_int(memory_, "limit", 0), "memory_swap_limit_in_bytes",
		json_int(memory_, "swap", 0), "oom_score_adj",
		json_int(json_obj(spec, "process"), "oomScoreAdj", 0), "hugepage_limits",
		hugepages_of_spec(json_arr(res, "hugepageLimits")), "unified", unified_);

	return j ? json_pb(a, j, &runtime__v1__linux_container_resources__descriptor, ret, err)
		 : err_nomem(err);
}
