/* SPDX-License-Identifier: Apache-2.0 */
/* Control groups: where they are, and their numbers, from fixture files; console sockets. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "base/path.h"
#include "sys/cgroup.h"
#include "sys/console.h"

struct fixture {
	struct arena *a;
	char dir[40];
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->a = arena_new(0);
	strcpy(f->dir, "/tmp/test_cgroup.XXXXXX");
	*state = f;
	return f->a && mkdtemp(f->dir) ? 0 : -1;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	rm_rf(AT_FDCWD, f->dir);
	arena_free(f->a);
	free(f);
	return 0;
}

static void put(struct fixture *f, const char *name, const char *text)
{
	char *path = path_join(f->a, f->dir, name);

	assert_int_equal(file_write(AT_FDCWD, path, text, strlen(text), 0644), 0);
}

/* ---- where ---- */

static void version_1_has_a_directory_a_controller(void **state)
{
	struct fixture *f = *state;
	struct cgroup_dirs d;

	assert_int_equal(
		cgroup_dirs_parse(
			f->a, "5:cpu,cpuacct:/ns/c1\n4:memory:/other\n3:name=systemd:/x\n0::/y\n",
			"30 20 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
			"31 20 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid - cgroup cgroup "
			"rw,cpu,cpuacct\n"
			"32 20 0:28 / /sys/fs/cgroup/me\\040mory rw shared:9 - cgroup cgroup "
			"rw,memory\n"
			"33 20 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n",
			&d),
		0);
	assert_false(d.unified);
	assert_string_equal(d.v1[CGROUP_CPU], "/sys/fs/cgroup/cpu,cpuacct/ns/c1");
	assert_string_equal(d.v1[CGROUP_CPUACCT], "/sys/fs/cgroup/cpu,cpuacct/ns/c1");
	assert_string_equal(d.v1[CGROUP_MEMORY], "/sys/fs/cgroup/me mory/other");
	assert_null(d.v1[CGROUP_PIDS]);
}

static void version_2_has_one_directory(void **state)
{
	struct fixture *f = *state;
	struct cgroup_dirs d;

	assert_int_equal(cgroup_dirs_parse(f->a, "0::/system.slice/x:y\n",
					   "1 0 8:1 / / rw - ext4 /dev/sda rw\n30 20 0:26 / "
					   "/sys/fs/cgroup rw - cgroup2 cgroup2 rw",
					   &d),
			 0);
	assert_true(d.unified);
	assert_string_equal(d.dir, "/sys/fs/cgroup/system.slice/x:y");
	assert_int_equal(
		cgroup_dirs_parse(f->a, "0::/x\n", "1 0 8:1 / / rw - ext4 /dev/sda rw\n", &d),
		-ENOENT);
}

static void what_a_mount_does_not_show_is_cut_off(void **state)
{
	struct fixture *f = *state;
	struct cgroup_dirs d;
	const char *mounts = "30 20 0:26 /docker/abc /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";

	assert_int_equal(cgroup_dirs_parse(f->a, "0::/docker/abc/inner\n", mounts, &d), 0);
	assert_string_equal(d.dir, "/sys/fs/cgroup/inner");
	assert_int_equal(cgroup_dirs_parse(f->a, "0::/docker/abc\n", mounts, &d), 0);
	assert_string_equal(d.dir, "/sys/fs/cgroup");
	assert_int_equal(cgroup_dirs_parse(f->a, "0::/docker/abcdef\n", mounts, &d), 0);
	assert_string_equal(d.dir, "/sys/fs/cgroup");
}

static void groups_of_this_process_are_found_or_there_are_none(void **state)
{
	struct fixture *f = *state;
	struct cgroup_dirs d;
	char *text;
	int r;

	assert_int_equal(cgroup_text_read(f->a, getpid(), &text), 0);
	r = cgroup_dirs_find(f->a, text, &d);
	assert_true(r == 0 || r == -ENOENT);
	assert_int_equal(cgroup_text_read(f->a, 0, &text), -ENOENT);
}

/* ---- numbers ---- */

static void numbers_of_version_2_are_read(void **state)
{
	struct fixture *f = *state;
	struct cgroup2_stat s;

	put(f, "pids.current", "3\n");
	put(f, "pids.max", "max\n");
	put(f, "cpu.stat",
	    "usage_usec 1000\nuser_usec 600\nsystem_usec 400\nnr_periods 5\nnew_field "
	    "9\nthrottled_usec 7\n");
	put(f, "cpu.pressure",
	    "some avg10=1.50 avg60=0.25 avg300=0.00 total=77\nfull avg10=0.00 avg60=0.00 "
	    "avg300=2.00 total=5\n");
	put(f, "memory.stat", "anon 4096\nfile 8192\npgfault 12\nthp_collapse_alloc 1\n");
	put(f, "memory.current", "12288\n");
	put(f, "memory.max", "1048576\n");
	put(f, "memory.swap.max", "max\n");
	put(f, "memory.events", "low 0\nhigh 1\nmax 2\noom 3\noom_kill 4\noom_group_kill 0\n");
	put(f, "io.stat", "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n254:16\nbad\n");
	put(f, "hugetlb.2MB.current", "2097152\n");
	put(f, "hugetlb.2MB.max", "max\n");
	put(f, "hugetlb.2MB.events", "max 6\n");
	put(f, "rdma.current",
	    "mlx4_0 hca_handle=2 hca_object=2000\nocrdma1 hca_handle=3 hca_object=max\n");
	assert_int_equal(cgroup2_stat_read(f->a, f->dir, &s), 0);
	assert_int_equal(s.pids_current, 3);
	assert_true(s.pids_limit == UINT64_MAX);
	assert_int_equal(s.cpu.usage_usec, 1000);
	assert_int_equal(s.cpu.throttled_usec, 7);
	assert_true(s.cpu_psi.present && s.cpu_psi.some.avg10 == 1.5 &&
		    s.cpu_psi.full.avg300 == 2.0);
	assert_int_equal(s.cpu_psi.some.total, 77);
	assert_false(s.memory_psi.present);
	assert_int_equal(s.memory.anon, 4096);
	assert_int_equal(s.memory.thp_collapse_alloc, 1);
	assert_int_equal(s.memory.usage, 12288);
	assert_int_equal(s.memory.limit, 1048576);
	assert_true(s.memory.swap_limit == UINT64_MAX);
	assert_int_equal(s.events.oom_kill, 4);
	assert_int_equal(s.n_io, 2);
	assert_int_equal(s.io[0].wios, 4);
	assert_int_equal(s.io[1].major, 254);
	assert_int_equal(s.n_hugetlb, 1);
	assert_string_equal(s.hugetlb[0].pagesize, "2MB");
	assert_int_equal(s.hugetlb[0].failcnt, 6);
	assert_int_equal(s.n_rdma_current, 2);
	assert_string_equal(s.rdma_current[1].device, "ocrdma1");
	assert_true(s.rdma_current[1].objects == UINT32_MAX);
}

static void numbers_of_version_1_are_read(void **state)
{
	struct fixture *f = *state;
	struct cgroup_dirs d = {.unified = false};
	struct cgroup1_stat s;
	long tick = sysconf(_SC_CLK_TCK);

	for (int i = 0; i < CGROUP_N; i++)
		d.v1[i] = i == CGROUP_RDMA ? "/proc/nonexistent" : f->dir;
	put(f, "pids.current", "2");
	put(f, "pids.max", "max");
	put(f, "cpuacct.usage", "123456789\n");
	put(f, "cpuacct.stat", "user 10\nsystem 5\n");
	put(f, "cpuacct.usage_percpu", "100 200 \n");
	put(f, "cpu.stat", "nr_periods 1\nnr_throttled 2\nthrottled_time 3\n");
	put(f, "memory.stat", "cache 1\nrss 2\ntotal_unevictable 9\n");
	put(f, "memory.usage_in_bytes", "1000");
	put(f, "memory.failcnt", "4");
	put(f, "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n");
	put(f, "blkio.throttle.io_service_bytes", "8:0 Read 4096\n8:0 Write 0\nTotal 4096\n");
	put(f, "blkio.throttle.io_serviced", "8:0 Read 1\nTotal 1\n");
	put(f, "hugetlb.1GB.usage_in_bytes", "0");
	put(f, "hugetlb.1GB.failcnt", "1");
	put(f, "hugetlb.1GB.rsvd.usage_in_bytes", "0");
	assert_int_equal(cgroup1_stat_read(f->a, &d, &s), 0);
	assert_false(s.has[CGROUP_RDMA]);
	assert_int_equal(s.pids_limit, 0);
	assert_int_equal(s.cpu_total, 123456789);
	assert_int_equal(s.cpu_user, 10 * (1000000000 / tick));
	assert_int_equal(s.n_cpu_per, 2);
	assert_int_equal(s.cpu_per[1], 200);
	assert_int_equal(s.throttled_time, 3);
	assert_int_equal(s.memory.total_unevictable, 9);
	assert_true(s.memory.usage.present);
	assert_false(s.memory.swap.present);
	assert_int_equal(s.memory.usage.failcnt, 4);
	assert_int_equal(s.memory.oom_kill, 2);
	assert_int_equal(s.blkio[BLKIO_SERVICE_BYTES].n, 2);
	assert_string_equal(s.blkio[BLKIO_SERVICE_BYTES].v[0].op, "Read");
	assert_int_equal(s.blkio[BLKIO_SERVICE_BYTES].v[0].value, 4096);
	assert_int_equal(s.blkio[BLKIO_SERVICED].n, 1);
	assert_int_equal(s.n_hugetlb, 1);
	assert_int_equal(s.hugetlb[0].failcnt, 1);
}

static void a_group_that_is_gone_is_an_error(void **state)
{
	struct fixture *f = *state;
	struct cgroup_dirs d = {.unified = false, .v1 = {"/proc/nonexistent/a"}};
	struct cgroup1_stat s1;
	struct cgroup2_stat s2;

	assert_int_equal(cgroup1_stat_read(f->a, &d, &s1), -ENOENT);
	assert_int_equal(cgroup2_stat_read(f->a, "/proc/nonexistent/a", &s2), -ENOENT);
}

/* ---- out of memory: a version 2 group is a directory with a file to us ---- */

static void a_rising_count_of_kills_is_an_out_of_memory(void **state)
{
	struct fixture *f = *state;
	struct cgroup_dirs d = {.unified = true, .dir = f->dir};
	struct cgroup_oom o;

	assert_int_equal(cgroup_oom_open(&d, &o), -EOPNOTSUPP);
	put(f, "memory.events", "oom 0\noom_kill 1\n");
	assert_int_equal(cgroup_oom_open(&d, &o), 0);
	assert_int_equal(cgroup_oom_check(&o), 0);
	put(f, "memory.events", "oom 1\noom_kill 2\n");
	assert_int_equal(cgroup_oom_check(&o), 1);
	assert_int_equal(cgroup_oom_check(&o), 0);
	/* What was told is not told again at the end, and what was not is. */
	assert_int_equal(cgroup_oom_last_check(&o), 0);
	put(f, "memory.events", "oom 2\noom_kill 3\n");
	assert_int_equal(cgroup_oom_last_check(&o), 1);
	assert_int_equal(cgroup_oom_last_check(&o), 0);
	unlink(path_join(f->a, f->dir, "memory.events"));
	assert_int_equal(cgroup_oom_check(&o), -ENOENT);
	cgroup_oom_close(&o);
	assert_int_equal(o.fd, -1);
}

/* ---- console ---- */

static void send_fd(const char *path, int fd)
{
	int sock;

	assert_int_equal(unix_connect(path, &sock), 0);
	assert_int_equal(fd_send_msg(sock, "name", 4, &fd, 1), 0);
	close(sock);
}

static void a_terminal_comes_over_the_console_socket(void **state)
{
	struct console_socket cs;
	struct stat st;
	int master = -1, pty = posix_openpt(O_RDWR | O_NOCTTY), null = open("/dev/null", O_RDWR);

	assert_int_equal(console_socket_open(&cs), 0);
	assert_int_equal(console_socket_receive(&cs, &master), -EAGAIN);
	send_fd(cs.path, null);
	assert_int_equal(console_socket_receive(&cs, &master), -EPROTO);
	send_fd(cs.path, pty);
	assert_int_equal(console_socket_receive(&cs, &master), 0);
	assert_true(isatty(master));
	assert_true(fcntl(master, F_GETFL) & O_NONBLOCK);
	assert_int_equal(console_resize(master, 80, 25), 0);
	assert_int_equal(console_resize(null, 80, 25), -ENOTTY);
	console_socket_done(&cs);
	assert_int_equal(stat(cs.dir, &st), -1);
	console_socket_done(&cs);
	close(master);
	close(pty);
	close(null);
}

/* Whether it may or not. */
static void moving_into_the_own_group_changes_nothing(void **state)
{
	struct fixture *f = *state;
	char *before, *after;

	assert_int_equal(cgroup_text_read(f->a, getpid(), &before), 0);
	assert_true(cgroup_attach_self() <= 0);
	assert_int_equal(cgroup_text_read(f->a, getpid(), &after), 0);
	assert_string_equal(before, after);
}

static void moving_a_child_that_has_ended_changes_nothing(void **state)
{
	struct fixture *f = *state;
	char *before, *after;
	int fd = cgroup_procs_open();

	if (fd < 0)
		return; /* it may not */
	assert_int_equal(cgroup_text_read(f->a, getpid(), &before), 0);
	assert_int_equal(cgroup_attach_dead(fd), 0);
	assert_int_equal(cgroup_attach_dead(fd), 0);
	assert_int_equal(cgroup_text_read(f->a, getpid(), &after), 0);
	assert_string_equal(before, after);
	/* Nothing is left of it, not even for who waits for everything. */
	assert_int_equal(waitpid(-1, NULL, __WALL | WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
	close(fd);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(version_1_has_a_directory_a_controller),
		TEST(version_2_has_one_directory),
		TEST(what_a_mount_does_not_show_is_cut_off),
		TEST(groups_of_this_process_are_found_or_there_are_none),
		TEST(moving_into_the_own_group_changes_nothing),
		TEST(moving_a_child_that_has_ended_changes_nothing),
		TEST(numbers_of_version_2_are_read),
		TEST(numbers_of_version_1_are_read),
		TEST(a_group_that_is_gone_is_an_error),
		TEST(a_rising_count_of_kills_is_an_out_of_memory),
		cmocka_unit_test(a_terminal_comes_over_the_console_socket),
	};

	return cmocka_run_group_tests_name("sys cgroup", tests, NULL, NULL);
}
