/* SPDX-License-Identifier: Apache-2.0 */
/* pump, reaper, publisher: what runs on the loop. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "base/time.h"
#include "protos.h"
#include "rpc/ttrpc.h"
#include "shim/publisher.h"
#include "shim/pump.h"
#include "shim/reaper.h"
#include "sys/spawn.h"

#define LONG_NS (60 * NSEC_PER_SEC)

static struct loop *new_loop(void)
{
	struct loop *l;

	assert_int_equal(loop_new(&l), 0);
	return l;
}

/* Runs the loop until *@flag; fails when that takes too long. */
static void run_until(struct loop *l, const bool *flag)
{
	int64_t end = time_mono() + LONG_NS;

	while (!*flag) {
		assert_true(time_mono() < end);
		assert_int_equal(loop_run_once(l, 50), 0);
	}
}

static void set_flag(void *arg)
{
	*(bool *)arg = true;
}

/* ---- pump ---- */

struct pipe_ends {
	int r, w;
};

static struct pipe_ends new_pipe(void)
{
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	return (struct pipe_ends){fds[0], fds[1]};
}

static size_t fill(int fd)
{
	char chunk[4096];
	size_t total = 0;
	ssize_t n;

	assert_int_equal(fd_set_nonblock(fd, true), 0);
	memset(chunk, 'x', sizeof(chunk));
	while ((n = write(fd, chunk, sizeof(chunk))) > 0)
		total += (size_t)n;
	return total;
}

static size_t drain(int fd)
{
	char chunk[4096];
	size_t total = 0;
	ssize_t n;

	assert_int_equal(fd_set_nonblock(fd, true), 0);
	while ((n = read(fd, chunk, sizeof(chunk))) > 0)
		total += (size_t)n;
	return total;
}

static void pump_stalls_its_writer_and_loses_nothing(void **state)
{
	struct loop *l = new_loop();
	struct pipe_ends in = new_pipe(), out = new_pipe();
	struct pump p = PUMP_INIT;
	size_t written = 0, got = 0;
	bool ended = false;

	assert_int_equal(pump_start(&p, l, in.r, out.w, set_flag, &ended), 0);
	for (int i = 0; i < 8; i++) {
		written += fill(in.w);
		for (int k = 0; k < 4; k++)
			loop_run_once(l, 0);
	}
	/* Both pipes are full, and no more: the pump holds nothing itself. */
	assert_int_equal(fill(in.w), 0);
	assert_true(written <= (size_t)(fcntl(in.w, F_GETPIPE_SZ) + fcntl(out.r, F_GETPIPE_SZ)));
	assert_false(ended);
	close(in.w);
	for (int64_t end = time_mono() + LONG_NS; !ended; assert_true(time_mono() < end)) {
		got += drain(out.r);
		loop_run_once(l, 10);
	}
	got += drain(out.r);
	assert_int_equal(got, written);
	close(out.r);
	loop_free(l);
}

static void pump_copies_to_files_that_cannot_be_polled(void **state)
{
	struct loop *l = new_loop();
	struct pipe_ends in = new_pipe();
	struct pump p = PUMP_INIT;
	char path[] = "/tmp/test_pump.XXXXXX";
	int fd = mkostemp(path, O_APPEND);
	bool ended = false;
	struct stat st;

	assert_int_equal(write(in.w, "some output", 11), 11);
	close(in.w);
	assert_int_equal(pump_start(&p, l, in.r, fd, set_flag, &ended), 0);
	run_until(l, &ended);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, 11);
	unlink(path);
	loop_free(l);
}

static void pump_ends_when_nobody_reads_any_more(void **state)
{
	struct loop *l = new_loop();
	struct pipe_ends in = new_pipe(), out = new_pipe();
	struct pump p = PUMP_INIT;
	bool ended = false;

	assert_int_equal(pump_start(&p, l, in.r, out.w, set_flag, &ended), 0);
	close(out.r);
	assert_int_equal(write(in.w, "x", 1), 1);
	run_until(l, &ended);
	close(in.w);
	loop_free(l);
}

/* Every byte of a terminal's output comes, though nobody reads for a while. */
static void pump_of_a_terminal_keeps_what_did_not_fit(void **state)
{
	struct loop *l = new_loop();
	struct pipe_ends out = new_pipe();
	struct pump p = PUMP_INIT;
	int master = posix_openpt(O_RDWR | O_NOCTTY), slave;
	size_t written = 0, got = 0;
	bool ended = false;

	assert_int_equal(grantpt(master) || unlockpt(master), 0);
	slave = open(ptsname(master), O_RDWR | O_NOCTTY);
	assert_true(slave >= 0);
	assert_int_equal(pump_start(&p, l, master, out.w, set_flag, &ended), 0);
	/* Until the pump holds what the pipe did not take; the kernel carries a terminal's bytes
	 * over when it likes. */
	for (int64_t end = time_mono() + LONG_NS; !p.pend_len; assert_true(time_mono() < end)) {
		written += fill(slave);
		loop_run_once(l, 1);
	}
	written += fill(slave);
	close(slave);
	for (int64_t end = time_mono() + LONG_NS; !ended; assert_true(time_mono() < end)) {
		got += drain(out.r);
		loop_run_once(l, 10);
	}
	got += drain(out.r);
	assert_int_equal(got, written);
	close(out.r);
	loop_free(l);
}

/* ---- reaper ---- */

struct ending {
	bool told;
	int status;
};

static void on_end(void *arg, int status, struct timespec at)
{
	struct ending *e = arg;

	assert_false(e->told);
	e->told = true;
	e->status = status;
}

static pid_t shell(const char *command)
{
	struct spawn_options o = SPAWN_OPTIONS_INIT;
	char *argv[] = {"sh", "-c", (char *)command, NULL};
	pid_t pid;

	o.path = "/bin/sh";
	o.argv = argv;
	assert_int_equal(spawn(&o, &pid, NULL, NULL), 0);
	return pid;
}

static void ends_are_told_to_their_watchers(void **state)
{
	struct loop *l = new_loop();
	struct reaper *r;
	struct reaper_watch w[2] = {{0}};
	struct ending e[2] = {{false, 0}};

	assert_int_equal(reaper_new(l, &r), 0);
	reaper_watch(r, &w[0], shell("exit 7"), on_end, &e[0]);
	reaper_watch(r, &w[1], shell("kill -9 $$"), on_end, &e[1]);
	run_until(l, &e[0].told);
	run_until(l, &e[1].told);
	assert_int_equal(e[0].status, 7);
	assert_int_equal(e[1].status, 137);
	reaper_free(r);
	loop_free(l);
}

static void an_end_before_the_watch_is_kept_while_held(void **state)
{
	struct loop *l = new_loop();
	struct reaper *r;
	struct reaper_watch w = {0};
	struct ending e = {false, 0};
	pid_t pid;

	assert_int_equal(reaper_new(l, &r), 0);
	reaper_hold(r);
	pid = shell("exit 3");
	while (kill(pid, 0) == 0)
		loop_run_once(l, 10);
	reaper_watch(r, &w, pid, on_end, &e);
	assert_true(e.told);
	assert_int_equal(e.status, 3);
	assert_int_equal(w.pid, 0);
	reaper_release(r);
	reaper_free(r);
	loop_free(l);
}

static int kills; /* with SIGKILL */

int __real_kill(pid_t pid, int sig);
int __wrap_kill(pid_t pid, int sig);

int __wrap_kill(pid_t pid, int sig)
{
	kills += sig == SIGKILL;
	return __real_kill(pid, sig);
}

static void what_was_reaped_is_not_killed(void **state)
{
	struct loop *l = new_loop();
	struct reaper *r;
	struct reaper_watch w = {0};
	struct ending e = {false, 0};
	pid_t pid;

	assert_int_equal(reaper_new(l, &r), 0);
	reaper_hold(r);
	pid = shell("exit 3");
	while (kill(pid, 0) == 0)
		loop_run_once(l, 10);
	kills = 0;
	reaper_kill(r, pid, SIGKILL);
	assert_int_equal(kills, 0);
	pid = shell("exec sleep 600");
	reaper_kill(r, pid, SIGKILL);
	assert_int_equal(kills, 1);
	reaper_watch(r, &w, pid, on_end, &e);
	run_until(l, &e.told);
	assert_int_equal(e.status, 137);
	reaper_release(r);
	reaper_free(r);
	loop_free(l);
}

static void orphans_are_reaped(void **state)
{
	struct loop *l = new_loop();
	struct reaper *r;
	struct reaper_watch w = {0};
	struct ending e = {false, 0};
	struct pipe_ends p = new_pipe();
	struct spawn_options o = SPAWN_OPTIONS_INIT;
	char *argv[] = {"sh", "-c", "sleep 0.05 & echo $!", NULL}, text[16] = "";
	pid_t pid, orphan;

	assert_int_equal(reaper_new(l, &r), 0);
	o.path = "/bin/sh";
	o.argv = argv;
	o.stdout_fd = p.w;
	assert_int_equal(spawn(&o, &pid, NULL, NULL), 0);
	assert_true(read(p.r, text, sizeof(text) - 1) > 0);
	orphan = atoi(text);
	assert_true(orphan > 0);
	reaper_watch(r, &w, orphan, on_end, &e);
	run_until(l, &e.told);
	assert_int_equal(e.status, 0);
	close(p.r);
	close(p.w);
	reaper_free(r);
	loop_free(l);
}

/* ---- publisher ---- */

struct events {
	struct loop *loop;
	char dir[32], path[64];
	struct ttrpc_server *server;
	struct rpc_service service;
	uint32_t pids[PUBLISHER_MAX + 16];
	size_t n;
	size_t refuse; /* so many calls fail */
	bool enough;
	size_t want;
};

static int forward(struct rpc_call *call, const void *r, struct err *err)
{
	const Containerd__Services__Events__Ttrpc__V1__ForwardRequest *req = r;
	Google__Protobuf__Empty empty = GOOGLE__PROTOBUF__EMPTY__INIT;
	struct events *ev = rpc_data(call);
	Containerd__Events__TaskStart *start;

	if (ev->refuse) {
		ev->refuse--;
		return err_set(err, ERR_INTERNAL, "not now");
	}
	assert_string_equal(req->envelope->namespace_, "ns1");
	assert_string_equal(req->envelope->topic, "/tasks/start");
	assert_string_equal(req->envelope->event->type_url, "containerd.events.TaskStart");
	assert_true(req->envelope->timestamp->seconds > 0);
	assert_int_equal(rpc_unpack(rpc_ctx(call)->arena,
				    &containerd__events__task_start__descriptor,
				    req->envelope->event->value.data,
				    req->envelope->event->value.len, &start, NULL),
			 0);
	ev->pids[ev->n++] = start->pid;
	ev->enough = ev->n >= ev->want;
	return rpc_send(call, &empty.base, err);
}

static const struct rpc_method forward_methods[] = {{"Forward", RPC_UNARY, forward}};

static void events_init(struct events *ev)
{
	memset(ev, 0, sizeof(*ev));
	ev->loop = new_loop();
	strcpy(ev->dir, "/tmp/test_events.XXXXXX");
	assert_non_null(mkdtemp(ev->dir));
	snprintf(ev->path, sizeof(ev->path), "%s/s", ev->dir);
}

static void events_serve(struct events *ev)
{
	struct ttrpc_server_options o = {.check_peer = true};
	int fd;

	ev->service =
		(struct rpc_service){&containerd__services__events__ttrpc__v1__events__descriptor,
				     forward_methods, 1, ev};
	assert_int_equal(unix_listen(ev->path, getuid(), getgid(), 0600, &fd), 0);
	assert_int_equal(ttrpc_server_new(ev->loop, NULL, &o, &ev->server), 0);
	assert_int_equal(ttrpc_server_add(ev->server, &ev->service), 0);
	assert_int_equal(ttrpc_server_listen(ev->server, fd), 0);
}

static void events_done(struct events *ev, struct publisher *p)
{
	publisher_free(p);
	if (ev->server)
		ttrpc_server_free(ev->server);
	loop_run_once(ev->loop, 0);
	loop_free(ev->loop);
	rm_rf(AT_FDCWD, ev->dir);
}

static void publish(struct publisher *p, uint32_t pid)
{
	Containerd__Events__TaskStart e = CONTAINERD__EVENTS__TASK_START__INIT;

	e.container_id = "c";
	e.pid = pid;
	publisher_send(p, "/tasks/start", &e.base);
}

static void events_arrive_in_order(void **state)
{
	static struct events ev;
	struct publisher *p;
	char address[80];
	bool empty = false;

	events_init(&ev);
	events_serve(&ev);
	snprintf(address, sizeof(address), "unix://%s", ev.path);
	assert_int_equal(publisher_new(ev.loop, address, "ns1", &p), 0);
	ev.want = 50;
	for (uint32_t i = 1; i <= 50; i++)
		publish(p, i);
	run_until(ev.loop, &ev.enough);
	for (uint32_t i = 0; i < 50; i++)
		assert_int_equal(ev.pids[i], i + 1);
	publisher_when_empty(p, set_flag, &empty);
	run_until(ev.loop, &empty);
	assert_int_equal(publisher_pending(p), 0);
	events_done(&ev, p);
}

static void events_wait_for_a_daemon_that_is_away(void **state)
{
	static struct events ev;
	struct publisher *p;
	bool empty = false;

	events_init(&ev);
	assert_int_equal(publisher_new(ev.loop, ev.path, "ns1", &p), 0);
	publish(p, 1);
	publish(p, 2);
	loop_run_once(ev.loop, 10);
	assert_int_equal(publisher_pending(p), 2);

	int64_t back = time_mono();

	events_serve(&ev);
	publisher_kick(p);
	ev.want = 2;
	run_until(ev.loop, &ev.enough);
	/* Not before those who subscribe have had the time to come back, too. */
	assert_true(time_mono() - back >= 2 * NSEC_PER_SEC);
	assert_int_equal(ev.pids[0], 1);
	assert_int_equal(ev.pids[1], 2);
	/* The daemon goes and comes back, when it has answered all. */
	publisher_when_empty(p, set_flag, &empty);
	run_until(ev.loop, &empty);
	ttrpc_server_free(ev.server);
	unlink(ev.path);
	loop_run_once(ev.loop, 10);
	publish(p, 3);
	loop_run_once(ev.loop, 10);
	events_serve(&ev);
	ev.enough = false;
	ev.want = 3;
	run_until(ev.loop, &ev.enough);
	assert_int_equal(ev.pids[2], 3);
	events_done(&ev, p);
}

static void the_oldest_event_goes_when_the_queue_is_full(void **state)
{
	static struct events ev;
	struct publisher *p;

	events_init(&ev);
	assert_int_equal(publisher_new(ev.loop, ev.path, "ns1", &p), 0);
	for (uint32_t i = 1; i <= PUBLISHER_MAX + 2; i++)
		publish(p, i);
	assert_int_equal(publisher_pending(p), PUBLISHER_MAX);
	events_serve(&ev);
	publisher_kick(p);
	ev.want = PUBLISHER_MAX;
	run_until(ev.loop, &ev.enough);
	assert_int_equal(ev.pids[0], 3);
	assert_int_equal(ev.pids[PUBLISHER_MAX - 1], PUBLISHER_MAX + 2);
	events_done(&ev, p);
}

static void a_refused_event_is_tried_again_and_keeps_its_place(void **state)
{
	static struct events ev;
	struct publisher *p;

	events_init(&ev);
	events_serve(&ev);
	assert_int_equal(publisher_new(ev.loop, ev.path, "ns1", &p), 0);
	ev.refuse = 2;
	ev.want = 2;
	publish(p, 1);
	publish(p, 2);
	run_until(ev.loop, &ev.enough);
	assert_int_equal(ev.pids[0], 1);
	assert_int_equal(ev.pids[1], 2);
	events_done(&ev, p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pump_stalls_its_writer_and_loses_nothing),
		cmocka_unit_test(pump_copies_to_files_that_cannot_be_polled),
		cmocka_unit_test(pump_ends_when_nobody_reads_any_more),
		cmocka_unit_test(pump_of_a_terminal_keeps_what_did_not_fit),
		cmocka_unit_test(ends_are_told_to_their_watchers),
		cmocka_unit_test(an_end_before_the_watch_is_kept_while_held),
		cmocka_unit_test(what_was_reaped_is_not_killed),
		cmocka_unit_test(orphans_are_reaped),
		cmocka_unit_test(events_arrive_in_order),
		cmocka_unit_test(events_wait_for_a_daemon_that_is_away),
		cmocka_unit_test(the_oldest_event_goes_when_the_queue_is_full),
		cmocka_unit_test(a_refused_event_is_tried_again_and_keeps_its_place),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests_name("shim loop", tests, NULL, NULL);
}
