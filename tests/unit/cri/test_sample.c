/* SPDX-License-Identifier: Apache-2.0 */
/* Reading control groups of both versions from directories that look like them, finding a group,
 * and interfaces. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "cri/sample.h"
#include "protos.h"
#include "rpc/rpc.h"

struct state {
	char dir[32];
	struct arena *a;
};

static int make(void **state)
{
	struct state *s = calloc(1, sizeof(*s));

	strcpy(s->dir, "/tmp/sample-XXXXXX");
	assert_non_null(mkdtemp(s->dir));
	s->a = arena_new(0);
	*state = s;
	return 0;
}

static int drop(void **state)
{
	struct state *s = *state;

	rm_rf(AT_FDCWD, s->dir);
	arena_free(s->a);
	free(s);
	return 0;
}

/* Writes "<dir>/<path>". */
static void put(struct state *s, const char *path, const char *text)
{
	char *at = path_join(s->a, s->dir, path);

	assert_int_equal(mkdir_p(path_dir(s->a, at), 0755), 0);
	assert_int_equal(file_write(AT_FDCWD, at, text, strlen(text), 0644), 0);
}

static struct cgroup_dirs version1(struct state *s)
{
	struct cgroup_dirs d = {.unified = false};

	d.v1[CGROUP_CPUACCT] = path_join(s->a, s->dir, "cpuacct");
	d.v1[CGROUP_CPU] = path_join(s->a, s->dir, "cpu");
	d.v1[CGROUP_MEMORY] = path_join(s->a, s->dir, "memory");
	d.v1[CGROUP_PIDS] = path_join(s->a, s->dir, "pids");
	d.v1[CGROUP_BLKIO] = path_join(s->a, s->dir, "blkio");
	return d;
}

static void fill1(struct state *s)
{
	put(s, "cpuacct/cpuacct.usage", "123456789\n");
	put(s, "cpuacct/cpuacct.stat", "user 7\nsystem 3\n");
	put(s, "cpu/cpu.stat", "nr_periods 5\nnr_throttled 2\nthrottled_time 1000\n");
	put(s, "cpu/cpu.cfs_period_us", "100000\n");
	put(s, "cpu/cpu.shares", "512\n");
	put(s, "memory/memory.stat",
	    "cache 1\npgfault 11\npgmajfault 12\ninactive_file 5\nhierarchical_memory_limit 9\n"
	    "total_cache 4096\ntotal_rss 8192\ntotal_mapped_file 33\ntotal_pgfault 21\n"
	    "total_pgmajfault 22\ntotal_inactive_file 1000\ntotal_active_file 2000\ntotal_swap "
	    "44\n");
	put(s, "memory/memory.usage_in_bytes", "5000\n");
	put(s, "memory/memory.limit_in_bytes", "10000\n");
	put(s, "memory/memory.memsw.usage_in_bytes", "6000\n");
	put(s, "memory/memory.memsw.limit_in_bytes", "9223372036854771712\n");
	put(s, "memory/memory.max_usage_in_bytes", "7000\n");
	put(s, "memory/memory.failcnt", "3\n");
	put(s, "memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n");
	put(s, "pids/pids.current", "6\n");
	put(s, "pids/pids.max", "max\n");
	put(s, "blkio/blkio.throttle.io_service_bytes",
	    "8:0 Read 100\n8:0 Write 200\n8:0 Total 300\n8:16 Read 5\nTotal 305\n");
	put(s, "blkio/blkio.throttle.io_serviced", "8:0 Read 10\n8:0 Write 20\nTotal 30\n");
}

static void version_1_is_read_from_its_controllers(void **state)
{
	struct state *s = *state;
	struct cgroup_dirs d = version1(s);
	struct cri_sample v;

	fill1(s);
	assert_int_equal(cri_sample_read(s->a, &d, false, &v), 0);
	assert_int_equal(v.v[SAMPLE_CPU], 123456789);
	assert_int_equal(v.v[SAMPLE_MEMORY], 5000);
	assert_int_equal(sample_working_set(&v), 4000);
	assert_int_equal(sample_left(v.v[SAMPLE_MEMORY_LIMIT], sample_working_set(&v)), 6000);
	assert_int_equal(sample_left(v.v[SAMPLE_SWAP_LIMIT], v.v[SAMPLE_SWAP]), 0);
	assert_int_equal(v.v[SAMPLE_RSS], 8192);
	assert_int_equal(v.v[SAMPLE_PGFAULT], 11);
	assert_int_equal(v.v[SAMPLE_PGMAJFAULT], 12);
	assert_int_equal(v.v[SAMPLE_SWAP], 6000);
	assert_false(v.cpu_psi.present);
	assert_false(sample_has(&v, SAMPLE_CPU_USER));
	assert_true(v.at > 0 && v.mono > 0);
}

static void version_1_in_detail(void **state)
{
	struct state *s = *state;
	struct cgroup_dirs d = version1(s);
	struct cri_sample v;

	fill1(s);
	assert_int_equal(cri_sample_read(s->a, &d, true, &v), 0);
	assert_int_equal(v.v[SAMPLE_CPU_USER], 70000000);
	assert_int_equal(v.v[SAMPLE_CPU_SYSTEM], 30000000);
	assert_int_equal(v.v[SAMPLE_THROTTLED], 1000);
	assert_int_equal(v.v[SAMPLE_CPU_PERIOD], 100000);
	assert_int_equal(v.v[SAMPLE_CPU_SHARES], 512);
	assert_int_equal(v.v[SAMPLE_TREE_PGFAULT], 21);
	assert_int_equal(v.v[SAMPLE_SWAPPED], 44);
	assert_int_equal(v.v[SAMPLE_OOM_KILLS], 4);
	assert_int_equal(v.v[SAMPLE_THREADS], 6);
	assert_true(v.v[SAMPLE_THREADS_MAX] == UINT64_MAX);
	assert_int_equal(v.n_io, 2);
	assert_int_equal(v.io[0].major, 8);
	assert_int_equal(v.io[0].read_bytes, 100);
	assert_int_equal(v.io[0].write_bytes, 200);
	assert_int_equal(v.io[0].reads, 10);
	assert_int_equal(v.io[0].writes, 20);
	assert_int_equal(v.io[1].minor, 16);
	assert_int_equal(v.io[1].read_bytes, 5);
}

static void fill2(struct state *s)
{
	put(s, "cpu.stat",
	    "usage_usec 1000\nuser_usec 600\nsystem_usec 400\nnr_periods 9\nnr_throttled 1\n"
	    "throttled_usec 50\n");
	put(s, "cpu.max", "50000 100000\n");
	put(s, "cpu.weight", "100\n");
	put(s, "cpu.pressure",
	    "some avg10=1.50 avg60=0.25 avg300=0.10 total=123\n"
	    "full avg10=0.50 avg60=0.00 avg300=0.00 total=7\n");
	put(s, "memory.stat",
	    "anon 8192\nfile 4096\nkernel 77\nfile_mapped 5\ninactive_file 1000\n"
	    "active_file 2000\npgfault 11\npgmajfault 12\n");
	put(s, "memory.current", "5000\n");
	put(s, "memory.max", "max\n");
	put(s, "memory.swap.current", "10\n");
	put(s, "memory.swap.max", "100\n");
	put(s, "memory.peak", "6000\n");
	put(s, "memory.low", "0\n");
	put(s, "memory.events", "low 0\nhigh 0\nmax 3\noom 1\noom_kill 2\n");
	put(s, "memory.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n");
	put(s, "io.stat", "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n259:1\n");
	put(s, "pids.current", "6\n");
	put(s, "pids.max", "50\n");
}

static void version_2_is_read_from_one_directory(void **state)
{
	struct state *s = *state;
	struct cgroup_dirs d = {.unified = true, .dir = s->dir};
	struct cri_sample v;

	fill2(s);
	assert_int_equal(cri_sample_read(s->a, &d, false, &v), 0);
	assert_int_equal(v.v[SAMPLE_CPU], 1000000);
	assert_int_equal(sample_working_set(&v), 4000);
	assert_int_equal(sample_left(v.v[SAMPLE_MEMORY_LIMIT], 4000), 0);
	assert_int_equal(sample_left(v.v[SAMPLE_SWAP_LIMIT], v.v[SAMPLE_SWAP]), 90);
	assert_int_equal(v.v[SAMPLE_RSS], 8192);
	assert_true(v.cpu_psi.present && v.memory_psi.present && !v.io_psi.present);
	assert_true(v.cpu_psi.some.avg10 == 1.5 && v.cpu_psi.full.avg10 == 0.5);
	assert_int_equal(v.cpu_psi.some.total, 123000); /* ns */
	assert_int_equal(v.n_io, 0);
}

static void version_2_in_detail(void **state)
{
	struct state *s = *state;
	struct cgroup_dirs d = {.unified = true, .dir = s->dir};
	struct cri_sample v;

	fill2(s);
	assert_int_equal(cri_sample_read(s->a, &d, true, &v), 0);
	assert_int_equal(v.v[SAMPLE_CPU_USER], 600000);
	assert_int_equal(v.v[SAMPLE_THROTTLED], 50000);
	assert_int_equal(v.v[SAMPLE_CPU_PERIOD], 100000);
	assert_int_equal(v.v[SAMPLE_CPU_WEIGHT], 100);
	assert_int_equal(v.v[SAMPLE_MEMORY_FAILCNT], 3);
	assert_int_equal(v.v[SAMPLE_OOM_KILLS], 2);
	assert_int_equal(v.v[SAMPLE_TREE_PGMAJFAULT], 12);
	assert_int_equal(v.v[SAMPLE_SWAPPED], 10);
	assert_int_equal(v.v[SAMPLE_THREADS_MAX], 50);
	assert_int_equal(v.n_io, 2);
	assert_int_equal(v.io[0].writes, 4);
	assert_int_equal(v.io[1].major, 259);
}

static void group_that_is_gone_is_not_found(void **state)
{
	struct state *s = *state;
	struct cgroup_dirs d = version1(s), e = {.unified = true, .dir = "/proc/nonexistent"};
	struct cri_sample v;

	assert_int_equal(cri_sample_read(s->a, &d, true, &v), -ENOENT);
	assert_int_equal(cri_sample_read(s->a, &e, true, &v), -ENOENT);
	e.dir = s->dir; /* it is being removed: no file is left */
	assert_int_equal(cri_sample_read(s->a, &e, true, &v), -ENOENT);
}

static void nonsense_is_left_out(void **state)
{
	struct state *s = *state;
	struct cgroup_dirs d = {.unified = true, .dir = s->dir};
	struct cri_sample v;

	put(s, "cpu.stat",
	    "usage_usec\nusage_usec x\nusage_usecs 5\n\n \nuser_usec 18446744073709551616\n");
	put(s, "memory.current", "");
	put(s, "memory.max", "-1\n");
	put(s, "pids.current", "18446744073709551615\n");
	put(s, "cpu.pressure", "some avg10=x\nfull\n");
	put(s, "io.stat", "8\n8:x rbytes=1\n:\n8:0 rbytes=-1 wbytes\n");
	assert_int_equal(cri_sample_read(s->a, &d, true, &v), 0);
	assert_false(sample_has(&v, SAMPLE_CPU) || sample_has(&v, SAMPLE_CPU_USER));
	assert_false(sample_has(&v, SAMPLE_MEMORY) || sample_has(&v, SAMPLE_MEMORY_LIMIT));
	assert_true(sample_has(&v, SAMPLE_THREADS) && v.v[SAMPLE_THREADS] == UINT64_MAX);
	assert_false(v.cpu_psi.present);
	assert_int_equal(v.n_io, 1);
	assert_int_equal(v.io[0].read_bytes, 0);
}

static void what_a_shim_tells_is_a_sample(void **state)
{
	struct state *s = *state;
	Io__Containerd__Cgroups__V2__Metrics m = IO__CONTAINERD__CGROUPS__V2__METRICS__INIT;
	Io__Containerd__Cgroups__V2__CPUStat cpu = IO__CONTAINERD__CGROUPS__V2__CPUSTAT__INIT;
	Io__Containerd__Cgroups__V1__Metrics one = IO__CONTAINERD__CGROUPS__V1__METRICS__INIT;
	Io__Containerd__Cgroups__V1__PidsStat pids = IO__CONTAINERD__CGROUPS__V1__PIDS_STAT__INIT;
	struct any any = {.type_url = "types.containerd.io/io.containerd.cgroups.v2.Metrics"};
	struct cri_sample v;

	cpu.usage_usec = 5;
	m.cpu = &cpu;
	any.value = rpc_pack(s->a, &m.base, &any.len);
	assert_int_equal(cri_sample_unpack(s->a, &any, &v), 0);
	assert_int_equal(v.v[SAMPLE_CPU], 5000);
	assert_false(sample_has(&v, SAMPLE_MEMORY));
	pids.current = 3;
	one.pids = &pids;
	any.type_url = "io.containerd.cgroups.v1.Metrics";
	any.value = rpc_pack(s->a, &one.base, &any.len);
	assert_int_equal(cri_sample_unpack(s->a, &any, &v), 0);
	assert_int_equal(v.v[SAMPLE_THREADS], 3);
	assert_true(v.v[SAMPLE_THREADS_MAX] == UINT64_MAX);
	any.type_url = "other";
	assert_int_equal(cri_sample_unpack(s->a, &any, &v), -EINVAL);
	any = (struct any){"io.containerd.cgroups.v2.Metrics", "\xff\xff", 2};
	assert_int_equal(cri_sample_unpack(s->a, &any, &v), -EINVAL);
}

static void leaf_follows_the_form_of_the_path(void **state)
{
	struct state *s = *state;

	assert_string_equal(cri_cgroup_leaf(s->a, "/kubepods/pod1/abc"), "abc");
	assert_string_equal(cri_cgroup_leaf(s->a, "kubepods-pod1.slice:cri-containerd:abc"),
			    "cri-containerd-abc.scope");
	assert_string_equal(cri_cgroup_leaf(s->a, "system.slice::abc"), "abc.scope");
	assert_string_equal(cri_cgroup_leaf(s->a, "system.slice:x:abc.slice"), "abc.slice");
	assert_string_equal(cri_cgroup_leaf(s->a, "/a:b:c/d"), "d");
}

#define MOUNTS1                                                  \
	"32 31 0:29 / /cg/cpu rw - cgroup cgroup rw,cpu\n"       \
	"35 31 0:32 / /cg/memory rw - cgroup cgroup rw,memory\n" \
	"41 31 0:38 / /cg/unified rw - cgroup2 cgroup2 rw\n"
#define MOUNTS2 "31 23 0:28 / /cg rw - cgroup2 cgroup2 rw\n"

static void group_is_found_above_where_a_process_has_moved(void **state)
{
	struct state *s = *state;
	struct cgroup_dirs d;

	assert_int_equal(cri_cgroup_locate(s->a, "0::/k/pod/abc/init.scope\n", MOUNTS2, "abc", &d),
			 0);
	assert_true(d.unified);
	assert_string_equal(d.dir, "/cg/k/pod/abc");
	assert_int_equal(cri_cgroup_locate(s->a, "0::/k/pod/abc/init.scope", MOUNTS2, "pod", &d),
			 0);
	assert_string_equal(d.dir, "/cg/k/pod");
	/* The limits that crun sets in systemd's groups are in one more. */
	assert_int_equal(cri_cgroup_locate(s->a, "0::/p.slice/c-1.scope/container/x\n", MOUNTS2,
					   "c-1.scope", &d),
			 0);
	assert_string_equal(d.dir, "/cg/p.slice/c-1.scope/container");
	assert_int_equal(cri_cgroup_locate(s->a, "0::/p.slice/c-1.scope/containers\n", MOUNTS2,
					   "c-1.scope", &d),
			 0);
	assert_string_equal(d.dir, "/cg/p.slice/c-1.scope");
	assert_int_equal(cri_cgroup_locate(s->a, "0::/k/abc/container\n", MOUNTS2, "abc", &d), 0);
	assert_string_equal(d.dir, "/cg/k/abc");
	/* Controllers in which the container has no group of its own are not its. */
	assert_int_equal(
		cri_cgroup_locate(s->a, "4:memory:/k/abc\n1:cpu:/\n0::/\n", MOUNTS1, "abc", &d), 0);
	assert_false(d.unified);
	assert_string_equal(d.v1[CGROUP_MEMORY], "/cg/memory/k/abc");
	assert_null(d.v1[CGROUP_CPU]);
	assert_int_equal(cri_cgroup_locate(s->a, "0::/k/abcd/xabc\n", MOUNTS2, "abc", &d), -ENOENT);
	assert_int_equal(cri_cgroup_locate(s->a, "", MOUNTS2, "abc", &d), -ENOENT);
	assert_int_equal(cri_cgroup_locate(s->a, "0::/k\nx\n:", MOUNTS2, "", &d), -ENOENT);
}

static void seen(int pid, void *arg)
{
	*(int *)arg += pid;
}

static void processes_are_those_of_all_groups_below(void **state)
{
	struct state *s = *state;
	struct cgroup_dirs d = {.unified = true, .dir = s->dir};
	int sum = 0;

	put(s, "cgroup.procs", "1\n20\n");
	put(s, "a/cgroup.procs", "300\n");
	put(s, "a/b/cgroup.procs", "4000\n");
	assert_int_equal(cri_cgroup_processes(&d, seen, &sum), 4);
	assert_int_equal(sum, 4321);
	d.dir = "/proc/nonexistent";
	assert_int_equal(cri_cgroup_processes(&d, NULL, NULL), 0);
}

static void interfaces_are_read_without_the_loopback(void **state)
{
	struct state *s = *state;
	char text[] =
		"Inter-|   Receive                                                |  Transmit\n"
		" face |bytes    packets errs drop fifo frame compressed multicast|bytes    "
		"packets errs drop fifo colls carrier compressed\n"
		"    lo:     100       1    0    0    0     0          0         0      100       "
		"1    0    0    0     0       0          0\n"
		"  eth0:     616       8    2    3    0     0          0         0      546       "
		"7    4    5    0     0       0          0\n"
		"  net1:9 1 0 0 0 0 0 0 8 1 0 0 0 0 0 0\n"
		"  bad0: 1 2\n";
	struct cri_netdev *v;
	size_t n;

	assert_int_equal(cri_netdev_parse(s->a, text, &v, &n), 0);
	assert_int_equal(n, 2);
	assert_string_equal(v[0].name, "eth0");
	assert_int_equal(v[0].rx_bytes, 616);
	assert_int_equal(v[0].rx_packets, 8);
	assert_int_equal(v[0].rx_errors, 2);
	assert_int_equal(v[0].rx_dropped, 3);
	assert_int_equal(v[0].tx_bytes, 546);
	assert_int_equal(v[0].tx_packets, 7);
	assert_int_equal(v[0].tx_errors, 4);
	assert_int_equal(v[0].tx_dropped, 5);
	assert_string_equal(v[1].name, "net1");
	assert_int_equal(v[1].tx_bytes, 8);
}

#define T(f) cmocka_unit_test_setup_teardown(f, make, drop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(version_1_is_read_from_its_controllers),
		T(version_1_in_detail),
		T(version_2_is_read_from_one_directory),
		T(version_2_in_detail),
		T(group_that_is_gone_is_not_found),
		T(nonsense_is_left_out),
		T(what_a_shim_tells_is_a_sample),
		T(leaf_follows_the_form_of_the_path),
		T(group_is_found_above_where_a_process_has_moved),
		T(processes_are_those_of_all_groups_below),
		T(interfaces_are_read_without_the_loopback),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
