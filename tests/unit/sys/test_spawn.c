/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <pty.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/ctx.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "base/time.h"
#include "sys/spawn.h"

struct fix {
	struct arena *a;
	struct err err;
	char *out, *errs;
	size_t n;
	int status;
};

static int setup(void **state)
{
	struct fix *f = calloc(1, sizeof(*f));
	assert_non_null(f);
	f->a = arena_new(0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fix *f = *state;
	arena_free(f->a);
	free(f);
	return 0;
}

#define assert_ok(call)                                         \
	do {                                                    \
		f->err = ERR_INIT;                              \
		if ((call) != 0)                                \
			fail_msg("%s: %s", #call, f->err.text); \
	} while (0)

/* Starts something that stays until it is killed. */
static pid_t start_sleep(struct fix *f, struct spawn_options *o, int *pidfd)
{
	char *argv[] = {(char *)"sleep", (char *)"100", NULL};
	pid_t pid;
	o->path = "/bin/sleep";
	o->argv = argv;
	assert_ok(spawn(o, &pid, pidfd, &f->err));
	return pid;
}

static void end(int pidfd)
{
	assert_int_equal(pidfd_kill(pidfd, SIGKILL), 0);
	assert_int_equal(pidfd_wait(pidfd), 128 + SIGKILL);
	close(pidfd);
}

static char *link_of(struct fix *f, pid_t pid, const char *what)
{
	char target[300];
	ssize_t n = readlink(arena_printf(f->a, "/proc/%d/%s", (int)pid, what), target,
			     sizeof(target) - 1);
	return n < 0 ? NULL : arena_strndup(f->a, target, (size_t)n);
}

static int count_fds(struct fix *f, pid_t pid)
{
	DIR *d = opendir(arena_printf(f->a, "/proc/%d/fd", (int)pid));
	int n = -2; /* . and .. */
	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n - (pid == getpid());
}

/* The kernel lets the parent of a vfork go on a moment before it closes what is close-on-exec. */
static void assert_fds(struct fix *f, pid_t pid, int n)
{
	for (int i = 0; i < 5000 && count_fds(f, pid) != n; i++)
		usleep(1000);
	assert_int_equal(count_fds(f, pid), n);
}

static int shell(struct fix *f, const char *script)
{
	char *argv[] = {(char *)"sh", (char *)"-c", (char *)script, NULL};
	struct spawn_options o = SPAWN_OPTIONS_INIT;
	o.path = "/bin/sh";
	o.argv = argv;
	f->err = ERR_INIT;
	return spawn_run(f->a, &o, NULL, 0, 1 << 20, 0, &f->out, &f->n, &f->errs, &f->status,
			 &f->err);
}

/* ---- descriptors ---- */

static void child_has_the_listed_descriptors_and_no_others(void **state)
{
	struct fix *f = *state;
	struct spawn_options o = SPAWN_OPTIONS_INIT;
	int a = memfd_create("a", 0), b = memfd_create("b", MFD_CLOEXEC), c = memfd_create("c", 0),
	    pidfd;
	int stray = memfd_create("stray", 0); /* not close-on-exec */
	/* Their numbers overlap with the targets, the other way round. */
	int fds[] = {c, b, a, a};
	o.fds = fds;
	o.nfds = 4;
	o.stderr_fd = b;
	pid_t pid = start_sleep(f, &o, &pidfd);
	assert_string_equal(link_of(f, pid, "fd/0"), "/dev/null");
	assert_string_equal(link_of(f, pid, "fd/1"), "/dev/null");
	assert_non_null(strstr(link_of(f, pid, "fd/2"), "memfd:b"));
	assert_non_null(strstr(link_of(f, pid, "fd/3"), "memfd:c"));
	assert_non_null(strstr(link_of(f, pid, "fd/4"), "memfd:b"));
	assert_non_null(strstr(link_of(f, pid, "fd/5"), "memfd:a"));
	assert_non_null(strstr(link_of(f, pid, "fd/6"), "memfd:a"));
	assert_fds(f, pid, 7);
	end(pidfd);
	assert_true(fcntl(stray, F_GETFD) >= 0);
	close(a);
	close(b);
	close(c);
	close(stray);
}

static void standard_descriptors_may_be_swapped(void **state)
{
	struct fix *f = *state;
	struct spawn_options o = SPAWN_OPTIONS_INIT;
	int pidfd;
	char *one = link_of(f, getpid(), "fd/1"), *two = link_of(f, getpid(), "fd/2");
	o.stdin_fd = 2;
	o.stdout_fd = 0;
	o.stderr_fd = 1;
	char *zero = link_of(f, getpid(), "fd/0");
	pid_t pid = start_sleep(f, &o, &pidfd);
	assert_string_equal(link_of(f, pid, "fd/0"), two);
	assert_string_equal(link_of(f, pid, "fd/1"), zero);
	assert_string_equal(link_of(f, pid, "fd/2"), one);
	end(pidfd);
}

static void program_may_be_a_descriptor_of_a_low_number(void **state)
{
	struct fix *f = *state;
	struct spawn_options o = SPAWN_OPTIONS_INIT;
	int program = open("/bin/sleep", O_RDONLY | O_CLOEXEC), pidfd;
	int fds[60];
	pid_t pid;
	char *argv[] = {(char *)"renamed", (char *)"100", NULL};
	/* Its number is one of those that the child's descriptors get. */
	for (size_t i = 0; i < ARRAY_LEN(fds); i++)
		fds[i] = STDERR_FILENO;
	o.fds = fds;
	o.nfds = ARRAY_LEN(fds);
	o.path = "sleep";
	o.argv = argv;
	o.exec_fd = program;
	assert_true(program < (int)ARRAY_LEN(fds));
	assert_ok(spawn(&o, &pid, &pidfd, &f->err));
	assert_fds(f, pid, 3 + ARRAY_LEN(fds));
	end(pidfd);
	o.exec_fd = -1;
	o.nfds = 1000;
	assert_int_equal(spawn(&o, NULL, NULL, &f->err), -ERR_INVALID_ARGUMENT);
	o.nfds = 1;
	fds[0] = 9999;
	o.path = "/bin/sleep";
	assert_int_equal(spawn(&o, NULL, NULL, &f->err) < 0, 1);
	assert_non_null(strstr(f->err.text, "set up descriptors: bad file descriptor"));
	close(program);
}

static void nothing_is_left_open(void **state)
{
	struct fix *f = *state;
	struct spawn_options bad = SPAWN_OPTIONS_INIT;
	char *argv[] = {(char *)"x", NULL};
	bad.path = "/proc/nonexistent";
	bad.argv = argv;
	int before = count_fds(f, getpid());
	for (int i = 0; i < 10; i++) {
		assert_int_equal(spawn(&bad, NULL, NULL, &f->err), -ERR_NOT_FOUND);
		assert_ok(shell(f, "exit 0"));
		assert_int_equal(spawn_run(f->a, &bad, "in", 2, 10, 0, &f->out, &f->n, &f->errs,
					   &f->status, &f->err),
				 -ERR_NOT_FOUND);
	}
	assert_int_equal(count_fds(f, getpid()), before);
	/* No zombie of a failed start either. */
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
}

static void *spawner(void *arg)
{
	struct fix own = {.a = arena_new(0)}, *f = &own;
	intptr_t failed = 0;
	for (int i = 0; i < 15 && !failed; i++) {
		/* What other threads have open does not come along. */
		if (shell(f, "ls /proc/self/fd") < 0 || f->status != 0 ||
		    !streq(f->out, "0\n1\n2\n3\n")) /* 3 is the directory itself */
			failed = 1;
		arena_reset(f->a);
	}
	arena_free(f->a);
	return (void *)failed;
}

static void many_threads_may_start_processes(void **state)
{
	pthread_t t[6];
	void *failed;
	for (size_t i = 0; i < ARRAY_LEN(t); i++)
		assert_int_equal(pthread_create(&t[i], NULL, spawner, NULL), 0);
	for (size_t i = 0; i < ARRAY_LEN(t); i++) {
		pthread_join(t[i], &failed);
		assert_null(failed);
	}
}

/* ---- program, environment, place ---- */

static void program_is_found_in_the_path_of_its_environment(void **state)
{
	struct fix *f = *state;
	char dir[] = "/tmp/test-spawn-XXXXXX";
	assert_non_null(mkdtemp(dir));
	char *prog = arena_printf(f->a, "%s/prog", dir),
	     *plain = arena_printf(f->a, "%s/plain", dir);
	assert_int_equal(file_write(AT_FDCWD, prog, "#!/bin/sh\necho $0 $1 $X", 23, 0755), 0);
	assert_int_equal(file_write(AT_FDCWD, plain, "x", 1, 0644), 0);
	char *env[] = {arena_printf(f->a, "PATH=:/proc/nonexistent:%s", dir), (char *)"X=y", NULL};
	char *argv[] = {(char *)"prog", (char *)"arg", NULL};
	struct spawn_options o = SPAWN_OPTIONS_INIT;
	o.path = "prog";
	o.argv = argv;
	o.env = env;
	assert_ok(spawn_run(f->a, &o, NULL, 0, 1000, 0, &f->out, &f->n, &f->errs, &f->status,
			    &f->err));
	assert_string_equal(f->out, arena_printf(f->a, "%s arg y\n", prog));
	o.path = "missing";
	f->err = ERR_INIT;
	assert_int_equal(spawn(&o, NULL, NULL, &f->err), -ERR_NOT_FOUND);
	assert_string_equal(f->err.text,
			    "start \"missing\": executable file not found in $PATH: not found");
	o.path = plain;
	assert_int_equal(spawn(&o, NULL, NULL, &f->err), -ERR_PERMISSION_DENIED);
	o.path = "plain";
	assert_int_equal(spawn(&o, NULL, NULL, &f->err), -ERR_PERMISSION_DENIED);
	o.path = dir;
	assert_int_equal(spawn(&o, NULL, NULL, &f->err), -ERR_PERMISSION_DENIED);
	o.path = "/proc/nonexistent/x";
	assert_int_equal(spawn(&o, NULL, NULL, &f->err), -ERR_NOT_FOUND);
	o.path = prog;
	o.cwd = "/proc/nonexistent";
	assert_int_equal(spawn(&o, NULL, NULL, &f->err), -ERR_NOT_FOUND);
	assert_non_null(strstr(f->err.text, "change directory"));
	o.cwd = dir;
	o.path = "./prog";
	assert_ok(spawn_run(f->a, &o, NULL, 0, 1000, 0, &f->out, &f->n, &f->errs, &f->status,
			    &f->err));
	assert_string_equal(f->out, "./prog arg y\n");
	rm_rf(AT_FDCWD, dir);
}

static char *status_line(struct fix *f, pid_t pid, const char *key)
{
	char *text;
	assert_int_equal(file_read(f->a, AT_FDCWD, arena_printf(f->a, "/proc/%d/status", (int)pid),
				   1 << 16, &text, NULL),
			 0);
	char *p = strstr(text, arena_printf(f->a, "\n%s:\t", key));
	assert_non_null(p);
	p = strchr(p + 1, '\t') + 1;
	return arena_strndup(f->a, p, strcspn(p, "\n"));
}

static void signals_are_as_at_first_in_the_child(void **state)
{
	struct fix *f = *state;
	struct spawn_options o = SPAWN_OPTIONS_INIT;
	sigset_t set, old;
	int pidfd;
	signal(SIGHUP, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &set, &old);
	pid_t pid = start_sleep(f, &o, &pidfd);
	assert_string_equal(status_line(f, pid, "SigBlk"), "0000000000000000");
	assert_string_equal(status_line(f, pid, "SigIgn"), "0000000000000000");
	end(pidfd);
	/* And here they have stayed. */
	struct sigaction sa;
	sigaction(SIGHUP, NULL, &sa);
	assert_ptr_equal(sa.sa_handler, SIG_IGN);
	pthread_sigmask(SIG_SETMASK, &old, &set);
	assert_int_equal(sigismember(&set, SIGTERM), 1);
	signal(SIGHUP, SIG_DFL);
}

static void process_group_and_session_are_its_own(void **state)
{
	struct fix *f = *state;
	struct spawn_options o = SPAWN_OPTIONS_INIT;
	int pidfd, master, slave;
	pid_t pid = start_sleep(f, &o, &pidfd);
	assert_int_equal(getpgid(pid), getpgid(0));
	end(pidfd);
	o.new_pgroup = true;
	pid = start_sleep(f, &o, &pidfd);
	assert_int_equal(getpgid(pid), pid);
	assert_int_equal(getsid(pid), getsid(0));
	end(pidfd);
	if (openpty(&master, &slave, NULL, NULL, NULL) < 0)
		skip();
	o.new_session = true;
	o.stdin_fd = o.stdout_fd = o.stderr_fd = o.ctty_fd = slave;
	pid = start_sleep(f, &o, &pidfd);
	assert_int_equal(getsid(pid), pid);
	assert_int_equal(tcgetpgrp(master), pid);
	/* It hears of its terminal's end. */
	close(slave);
	close(master);
	assert_int_equal(pidfd_wait(pidfd), 128 + SIGHUP);
	close(pidfd);
}

static void child_dies_with_its_parent_when_asked_to(void **state)
{
	struct fix *f = *state;
	int p[2];
	char c;
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	pid_t parent = fork();
	assert_true(parent >= 0);
	if (parent == 0) {
		struct spawn_options o = SPAWN_OPTIONS_INIT;
		char *argv[] = {(char *)"sleep", (char *)"100", NULL};
		o.path = "/bin/sleep";
		o.argv = argv;
		o.fds = &p[1];
		o.nfds = 1;
		o.pdeathsig = SIGKILL;
		_exit(spawn(&o, NULL, NULL, &f->err) < 0);
	}
	close(p[1]);
	int st;
	assert_int_equal(waitpid(parent, &st, 0), parent);
	assert_int_equal(st, 0);
	struct pollfd pf = {.fd = p[0], .events = POLLIN};
	assert_int_equal(poll(&pf, 1, 60000), 1);
	assert_int_equal(read(p[0], &c, 1), 0);
	close(p[0]);
}

/* ---- spawn_run ---- */

static void output_errors_and_status_are_collected(void **state)
{
	struct fix *f = *state;
	assert_ok(shell(f, "echo out; echo err >&2; exit 7"));
	assert_string_equal(f->out, "out\n");
	assert_string_equal(f->errs, "err\n");
	assert_int_equal(f->status, 7);
	assert_ok(shell(f, "kill -TERM $$"));
	assert_int_equal(f->status, 128 + SIGTERM);
	/* Together, in order. */
	char *argv[] = {(char *)"sh", (char *)"-c", (char *)"echo 1; echo 2 >&2; echo 3", NULL};
	struct spawn_options o = SPAWN_OPTIONS_INIT;
	o.path = "/bin/sh";
	o.argv = argv;
	assert_ok(spawn_run(f->a, &o, NULL, 0, 100, 0, &f->out, &f->n, NULL, &f->status, &f->err));
	assert_string_equal(f->out, "1\n2\n3\n");
}

static void megabytes_go_in_and_come_out(void **state)
{
	enum { N = 3 << 20 };
	struct fix *f = *state;
	char *argv[] = {(char *)"cat", NULL}, *in = malloc(N);
	struct spawn_options o = SPAWN_OPTIONS_INIT;
	o.path = "/bin/cat";
	o.argv = argv;
	for (size_t i = 0; i < N; i++)
		in[i] = (char)(i * 13 + i / 1000);
	assert_ok(spawn_run(f->a, &o, in, N, N, 0, &f->out, &f->n, &f->errs, &f->status, &f->err));
	assert_int_equal(f->n, N);
	assert_memory_equal(f->out, in, N);
	/* More than wanted: cut, and the child does not hang. */
	assert_ok(
		spawn_run(f->a, &o, in, N, 1000, 0, &f->out, &f->n, &f->errs, &f->status, &f->err));
	assert_int_equal(f->n, 1000);
	assert_int_equal(f->status, 0);
	/* A child that does not read its input. */
	o.path = "/bin/true";
	assert_ok(
		spawn_run(f->a, &o, in, N, 1000, 0, &f->out, &f->n, &f->errs, &f->status, &f->err));
	assert_int_equal(f->status, 0);
	/* Empty input is an end of file, no input is /dev/null. */
	o.path = "/bin/cat";
	assert_ok(
		spawn_run(f->a, &o, "", 0, 1000, 0, &f->out, &f->n, &f->errs, &f->status, &f->err));
	assert_ok(spawn_run(f->a, &o, NULL, 0, 1000, 0, &f->out, &f->n, &f->errs, &f->status,
			    &f->err));
	assert_int_equal(f->n, 0);
	free(in);
}

static void deadline_kills(void **state)
{
	struct fix *f = *state;
	char *argv[] = {(char *)"sleep", (char *)"100", NULL};
	struct spawn_options o = SPAWN_OPTIONS_INIT;
	o.path = "/bin/sleep";
	o.argv = argv;
	int64_t start = time_mono();
	assert_int_equal(spawn_run(f->a, &o, NULL, 0, 100, start + 50 * NSEC_PER_MSEC, &f->out,
				   &f->n, &f->errs, &f->status, &f->err),
			 -ERR_DEADLINE_EXCEEDED);
	assert_true(time_mono() - start < 90 * NSEC_PER_SEC);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* reaped */
}

static void canceled_context_ends_the_run(void **state)
{
	struct fix *f = *state;
	struct ctx ctx = {.arena = f->a, .ns = "", .lease = ""};
	char *argv[] = {(char *)"sleep", (char *)"100", NULL};
	struct spawn_options o = SPAWN_OPTIONS_INIT;
	atomic_store(&ctx.canceled, true);
	o.path = "/bin/sleep";
	o.argv = argv;
	o.ctx = &ctx;
	assert_int_equal(
		spawn_run(f->a, &o, NULL, 0, 100, 0, &f->out, &f->n, &f->errs, &f->status, &f->err),
		-ERR_CANCELED);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

static void grandchild_that_keeps_the_pipes_does_not_hold_us(void **state)
{
	struct fix *f = *state;
	int64_t start = time_mono();
	assert_ok(shell(f, "sleep 100 & echo $!; exit 3"));
	pid_t left = atoi(f->out);
	assert_true(left > 1);
	assert_int_equal(f->status, 3);
	assert_int_equal(kill(left, SIGKILL), 0);
	/* Nor one that goes on writing. */
	assert_ok(shell(f, "(trap '' TERM; yes) & exit 4"));
	assert_int_equal(f->status, 4);
	assert_true(time_mono() - start < 90 * NSEC_PER_SEC);
}

/* ---- jail ---- */

static int jailed(struct fix *f, const struct spawn_jail *j, const char *script)
{
	char *argv[] = {(char *)"sh", (char *)"-c", (char *)script, NULL};
	struct spawn_options o = SPAWN_OPTIONS_INIT;
	o.path = "/bin/sh";
	o.argv = argv;
	o.jail = j;
	f->err = ERR_INIT;
	return spawn_run(f->a, &o, NULL, 0, 1 << 16, 0, &f->out, &f->n, &f->errs, &f->status,
			 &f->err);
}

static bool has_line(struct fix *f, const char *key, const char *value)
{
	return strstr(f->out, arena_printf(f->a, "%s:\t%s\n", key, value)) != NULL;
}

#define STATUS "cat /proc/self/status"

static void jail_takes_ids_and_capabilities(void **state)
{
	struct fix *f = *state;
	if (geteuid() != 0)
		skip();
	struct spawn_jail j = {.root_fd = -1,
			       .set_ids = true,
			       .uid = 65534,
			       .gid = 65533,
			       .drop_caps = true,
			       .no_new_privs = true};
	assert_ok(jailed(f, &j, STATUS));
	assert_true(has_line(f, "Uid", "65534\t65534\t65534\t65534"));
	assert_true(has_line(f, "Gid", "65533\t65533\t65533\t65533"));
	assert_non_null(strstr(f->out, "\nGroups:\t \n"));
	assert_true(has_line(f, "NoNewPrivs", "1"));
	assert_true(has_line(f, "CapEff", "0000000000000000"));
	assert_true(has_line(f, "CapPrm", "0000000000000000"));
	assert_true(has_line(f, "CapInh", "0000000000000000"));
	/* Lest a program with the set-user-id bit gives them back. */
	assert_true(has_line(f, "CapBnd", "0000000000000000"));
	assert_true(has_line(f, "CapAmb", "0000000000000000"));
	/* Ours are ours still. */
	assert_int_equal(getuid(), 0);
	assert_string_not_equal(status_line(f, getpid(), "CapEff"), "0000000000000000");
}

static void jail_keeps_the_capabilities_it_is_told_to(void **state)
{
	struct fix *f = *state;
	if (geteuid() != 0)
		skip();
	/* CAP_CHOWN and CAP_FOWNER */
	struct spawn_jail j = {.root_fd = -1,
			       .set_ids = true,
			       .uid = 65534,
			       .gid = 65534,
			       .drop_caps = true,
			       .keep_caps = 9};
	assert_ok(jailed(f, &j, STATUS));
	assert_true(has_line(f, "CapEff", "0000000000000009"));
	assert_true(has_line(f, "CapBnd", "0000000000000009"));
	j.set_ids = false;
	assert_ok(jailed(f, &j, STATUS));
	assert_true(has_line(f, "Uid", "0\t0\t0\t0"));
	assert_true(has_line(f, "CapEff", "0000000000000009"));
	assert_true(has_line(f, "CapBnd", "0000000000000009"));
}

static void jail_has_namespaces_and_a_root(void **state)
{
	struct fix *f = *state;
	if (geteuid() != 0)
		skip();
	struct spawn_jail j = {
		.root_fd = -1, .net_ns = true, .ipc_ns = true, .uts_ns = true, .mount_ns = true};
	if (jailed(f, &j, "for n in net ipc uts mnt user; do readlink /proc/self/ns/$n; done") < 0)
		skip(); /* not in this sandbox */
	assert_null(strstr(f->out, link_of(f, getpid(), "ns/net")));
	assert_null(strstr(f->out, link_of(f, getpid(), "ns/ipc")));
	assert_null(strstr(f->out, link_of(f, getpid(), "ns/uts")));
	assert_null(strstr(f->out, link_of(f, getpid(), "ns/mnt")));
	assert_non_null(strstr(f->out, link_of(f, getpid(), "ns/user")));
	/* The program is then one of the new root. Its descriptor's number is one that the child
	 * uses itself. */
	char dir[] = "/tmp/test-spawn-XXXXXX";
	assert_non_null(mkdtemp(dir));
	struct spawn_jail root = {.root_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC)};
	int fds[] = {2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2};
	char *argv[] = {(char *)"sh", NULL};
	struct spawn_options o = SPAWN_OPTIONS_INIT;
	o.path = "/bin/sh";
	o.argv = argv;
	o.jail = &root;
	o.fds = fds;
	o.nfds = ARRAY_LEN(fds);
	assert_int_equal(spawn(&o, NULL, NULL, &f->err), -ERR_NOT_FOUND);
	assert_string_equal(f->err.text, "start \"/bin/sh\": no such file or directory: not found");
	close(root.root_fd);
	rmdir(dir);
}

static void status_of_siginfo(void **state)
{
	siginfo_t si = {.si_code = CLD_EXITED};
	si.si_status = 9;
	assert_int_equal(siginfo_status(&si), 9);
	si.si_code = CLD_DUMPED;
	si.si_status = SIGSEGV;
	assert_int_equal(siginfo_status(&si), 128 + SIGSEGV);
	struct fix *f = *state;
	char *dir = self_exe_dir(f->a);
	assert_non_null(dir);
	assert_int_equal(
		access(arena_printf(f->a, "%s/%s", dir, program_invocation_short_name), X_OK), 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(child_has_the_listed_descriptors_and_no_others),
		T(standard_descriptors_may_be_swapped),
		T(program_may_be_a_descriptor_of_a_low_number),
		T(nothing_is_left_open),
		T(many_threads_may_start_processes),
		T(program_is_found_in_the_path_of_its_environment),
		T(signals_are_as_at_first_in_the_child),
		T(process_group_and_session_are_its_own),
		T(child_dies_with_its_parent_when_asked_to),
		T(output_errors_and_status_are_collected),
		T(megabytes_go_in_and_come_out),
		T(deadline_kills),
		T(canceled_context_ends_the_run),
		T(grandchild_that_keeps_the_pipes_does_not_hold_us),
		T(jail_takes_ids_and_capabilities),
		T(jail_keeps_the_capabilities_it_is_told_to),
		T(jail_has_namespaces_and_a_root),
		T(status_of_siginfo),
	};
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
