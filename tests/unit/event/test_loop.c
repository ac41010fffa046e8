/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/time.h"
#include "event/loop.h"

static int setup(void **state)
{
	struct loop *l;
	assert_int_equal(loop_new(&l), 0);
	*state = l;
	return 0;
}

static int teardown(void **state)
{
	loop_free(*state);
	return 0;
}

/* Runs until *@n reaches @want. */
static void run_until(struct loop *l, const int *n, int want)
{
	for (int i = 0; i < 1000 && *n < want; i++)
		assert_int_equal(loop_run_once(l, 20), 0);
	assert_int_equal(*n, want);
}

/* ---- descriptors ---- */

struct peer {
	struct loop_source *mine, *other;
	int n, fd;
	uint32_t events;
};

static void readable(struct loop_source *s, int fd, uint32_t events, void *arg)
{
	struct peer *p = arg;
	char c;
	assert_ptr_equal(s, p->mine);
	p->events = events;
	p->n += read(fd, &c, 1) == 1;
}

static void descriptor_is_watched_until_its_source_is_freed(void **state)
{
	struct loop *l = *state;
	struct peer p = {0};
	int fds[2];
	assert_int_equal(pipe2(fds, O_NONBLOCK), 0);
	assert_int_equal(loop_add_fd(l, fds[0], EPOLLIN, readable, &p, &p.mine), 0);
	assert_int_equal(write(fds[1], "ab", 2), 2);
	run_until(l, &p.n, 2); /* level-triggered */
	assert_int_equal(loop_source_set_events(p.mine, 0), 0);
	assert_int_equal(write(fds[1], "c", 1), 1);
	assert_int_equal(loop_run_once(l, 10), 0);
	assert_int_equal(p.n, 2);
	assert_int_equal(loop_source_set_events(p.mine, EPOLLIN), 0);
	run_until(l, &p.n, 3);
	loop_source_free(p.mine);
	assert_int_equal(write(fds[1], "d", 1), 1);
	assert_int_equal(loop_run_once(l, 10), 0);
	assert_int_equal(p.n, 3);
	/* The descriptor stays the caller's. */
	assert_true(fcntl(fds[0], F_GETFD) >= 0);
	close(fds[0]);
	close(fds[1]);
}

static void what_epoll_does_not_take_is_an_error(void **state)
{
	struct loop *l = *state;
	struct loop_source *s = NULL;
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC),
	    file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	assert_int_equal(loop_add_fd(l, -1, EPOLLIN, readable, NULL, &s), -EBADF);
	assert_int_equal(loop_add_fd(l, file, EPOLLIN, readable, NULL, &s), -EPERM);
	assert_null(s);
	close(fd);
	close(file);
	assert_int_equal(loop_run_once(l, 0), 0);
}

static void frees_both(struct loop_source *s, int fd, uint32_t events, void *arg)
{
	struct peer *p = arg;
	p->n++;
	loop_source_free(p->mine);
	loop_source_free(p->other);
	/* Anything of the same size that is made now must not be taken for them. */
	free(calloc(1, 128));
}

static void sources_freed_in_a_callback_are_not_called_any_more(void **state)
{
	struct loop *l = *state;
	struct peer p = {0};
	int a[2], b[2];
	assert_int_equal(pipe2(a, 0), 0);
	assert_int_equal(pipe2(b, 0), 0);
	/* Both have events in the same round: the first that is called frees the other. */
	assert_int_equal(write(a[1], "x", 1), 1);
	assert_int_equal(write(b[1], "x", 1), 1);
	assert_int_equal(loop_add_fd(l, a[0], EPOLLIN, frees_both, &p, &p.mine), 0);
	assert_int_equal(loop_add_fd(l, b[0], EPOLLIN, frees_both, &p, &p.other), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(loop_run_once(l, 10), 0);
	assert_int_equal(p.n, 1);
	for (int i = 0; i < 2; i++) {
		close(a[i]);
		close(b[i]);
	}
}

struct churn {
	struct loop *l;
	struct loop_source *s;
	int fd, n;
};

/* Frees itself and makes itself anew, on the same descriptor. */
static void churn_fn(struct loop_source *s, int fd, uint32_t events, void *arg)
{
	struct churn *c = arg;
	loop_source_free(s);
	c->n++;
	if (c->n < 100 && loop_add_fd(c->l, fd, EPOLLIN, churn_fn, c, &c->s) < 0)
		c->n = -1;
}

static void source_may_be_made_anew_in_its_own_callback(void **state)
{
	struct churn c = {.l = *state};
	int fds[2];
	assert_int_equal(pipe2(fds, 0), 0);
	assert_int_equal(write(fds[1], "x", 1), 1);
	assert_int_equal(loop_add_fd(c.l, fds[0], EPOLLIN, churn_fn, &c, &c.s), 0);
	run_until(c.l, &c.n, 100);
	close(fds[0]);
	close(fds[1]);
}

/* ---- timers ---- */

struct order {
	int got[128], n;
};

struct tick {
	struct order *o;
	struct loop_source *s, *victim;
	int id;
	int64_t again;
};

static void tick(void *arg)
{
	struct tick *t = arg;
	t->o->got[t->o->n++ % 128] = t->id;
	if (t->victim)
		loop_source_free(t->victim);
	if (t->again)
		loop_timer_set(t->s, t->again);
	t->again = 0;
}

static void timers_fire_in_the_order_of_their_times(void **state)
{
	struct loop *l = *state;
	struct order o = {.n = 0};
	struct tick t[100];
	int64_t now = time_mono();
	for (int i = 0; i < 100; i++) {
		t[i] = (struct tick){.o = &o, .id = i * 37 % 100};
		assert_int_equal(loop_add_timer(l, now - 1000 + t[i].id, tick, &t[i], &t[i].s), 0);
	}
	run_until(l, &o.n, 100);
	for (int i = 0; i < 100; i++)
		assert_int_equal(o.got[i], i);
	/* Once each. */
	assert_int_equal(loop_run_once(l, 0), 0);
	assert_int_equal(o.n, 100);
}

static void timer_waits_for_its_time(void **state)
{
	struct loop *l = *state;
	struct order o = {.n = 0};
	struct tick t = {.o = &o, .id = 1};
	int64_t start = time_mono();
	assert_int_equal(loop_add_timer(l, start + 30 * NSEC_PER_MSEC, tick, &t, &t.s), 0);
	while (o.n == 0)
		assert_int_equal(loop_run_once(l, -1), 0);
	assert_true(time_mono() - start >= 30 * NSEC_PER_MSEC);
}

static void timers_are_moved_disarmed_and_rearmed(void **state)
{
	struct loop *l = *state;
	struct order o = {.n = 0};
	struct tick t[6];
	int64_t now = time_mono(), far = now + 3600 * NSEC_PER_SEC;
	for (int i = 0; i < 6; i++) {
		t[i] = (struct tick){.o = &o, .id = i};
		assert_int_equal(loop_add_timer(l, i == 5 ? 0 : far + i, tick, &t[i], &t[i].s), 0);
	}
	loop_timer_set(t[3].s, now - 3);
	loop_timer_set(t[1].s, now - 2);
	loop_timer_set(t[5].s, now - 1); /* was made disarmed */
	loop_timer_set(t[1].s, 0);
	loop_timer_set(t[1].s, 0);
	t[5].again = now; /* from its own callback */
	for (int i = 0; i < 3; i++)
		assert_int_equal(loop_run_once(l, 0), 0);
	assert_int_equal(o.n, 3);
	assert_int_equal(o.got[0], 3);
	assert_int_equal(o.got[1], 5);
	assert_int_equal(o.got[2], 5);
	loop_source_free(t[0].s);
	loop_source_free(t[4].s);
	loop_timer_set(t[2].s, now);
	assert_int_equal(loop_run_once(l, 0), 0);
	assert_int_equal(o.got[3], 2);
}

static void timer_may_free_itself_and_others(void **state)
{
	struct loop *l = *state;
	struct order o = {.n = 0};
	struct tick t[2] = {{.o = &o, .id = 0}, {.o = &o, .id = 1}};
	int64_t now = time_mono();
	assert_int_equal(loop_add_timer(l, now - 2, tick, &t[0], &t[0].s), 0);
	assert_int_equal(loop_add_timer(l, now - 1, tick, &t[1], &t[1].s), 0);
	t[0].victim = t[1].s;
	assert_int_equal(loop_run_once(l, 0), 0);
	assert_int_equal(o.n, 1);
	t[0].victim = t[0].s;
	loop_timer_set(t[0].s, now);
	assert_int_equal(loop_run_once(l, 0), 0);
	assert_int_equal(o.n, 2);
}

struct eager {
	struct loop_source *s;
	int n;
};

static void eager(void *arg)
{
	struct eager *e = arg;
	e->n++;
	loop_timer_set(e->s, 1); /* long past */
}

static void timer_that_arms_itself_in_the_past_does_not_hold_the_loop(void **state)
{
	struct loop *l = *state;
	struct eager e = {.n = 0};
	assert_int_equal(loop_add_timer(l, 1, eager, &e, &e.s), 0);
	for (int i = 1; i < 4; i++) {
		assert_int_equal(loop_run_once(l, -1), 0);
		assert_int_equal(e.n, i);
	}
}

static void thousands_of_timers_come_and_go(void **state)
{
	enum { N = 20000 };
	struct loop *l = *state;
	struct order o = {.n = 0};
	static struct tick t[N];
	int64_t now = time_mono();
	for (int i = 0; i < N; i++) {
		t[i] = (struct tick){.o = &o, .id = 0};
		assert_int_equal(loop_add_timer(l, now - (i * 7919 % N), tick, &t[i], &t[i].s), 0);
	}
	for (int i = 0; i < N; i += 2)
		loop_source_free(t[i].s);
	run_until(l, &o.n, N / 2);
	for (int i = 1; i < N; i += 2)
		loop_source_free(t[i].s);
}

/* ---- posts ---- */

struct post {
	int thread, n;
};

static struct post posts[8][1000];
static int last[8], out_of_order, received;

static void got_post(void *arg)
{
	struct post *p = arg;
	out_of_order += last[p->thread] != p->n;
	last[p->thread] = p->n + 1;
	received++;
}

struct poster {
	struct loop *l;
	int thread;
};

static void *post_many(void *arg)
{
	struct poster *p = arg;
	for (int i = 0; i < 1000; i++) {
		posts[p->thread][i] = (struct post){p->thread, i};
		if (loop_post(p->l, got_post, &posts[p->thread][i]) < 0)
			return arg;
	}
	return NULL;
}

static void posts_of_each_thread_come_in_order(void **state)
{
	struct loop *l = *state;
	struct poster p[8];
	pthread_t t[8];
	void *failed;
	for (int i = 0; i < 8; i++) {
		p[i] = (struct poster){l, i};
		assert_int_equal(pthread_create(&t[i], NULL, post_many, &p[i]), 0);
	}
	while (received < 8000)
		assert_int_equal(loop_run_once(l, -1), 0);
	for (int i = 0; i < 8; i++) {
		pthread_join(t[i], &failed);
		assert_null(failed);
	}
	assert_int_equal(out_of_order, 0);
}

struct repost {
	struct loop *l;
	int n;
};

static void repost(void *arg)
{
	struct repost *r = arg;
	if (++r->n < 5)
		assert_int_equal(loop_post(r->l, repost, r), 0);
}

static void what_a_post_posts_runs_in_a_later_round(void **state)
{
	struct repost r = {.l = *state};
	assert_int_equal(loop_post(r.l, repost, &r), 0);
	for (int i = 1; i <= 5; i++) {
		assert_int_equal(loop_run_once(r.l, 1000), 0);
		assert_int_equal(r.n, i);
	}
	/* Left over when the loop is freed: dropped. */
	r.n = 0;
	assert_int_equal(loop_post(r.l, repost, &r), 0);
}

/* ---- the end ---- */

struct life {
	struct loop *l;
	atomic_bool current, before;
};

static void look(void *arg)
{
	struct life *s = arg;
	atomic_store(&s->current, loop_is_current(s->l));
	loop_stop(s->l);
}

static void *run(void *arg)
{
	return (void *)(intptr_t)loop_run(arg);
}

static void loop_runs_on_one_thread_until_it_is_stopped(void **state)
{
	struct life s = {.l = *state};
	pthread_t t;
	void *r;
	assert_false(loop_is_current(s.l));
	for (int i = 0; i < 3; i++) { /* again and again */
		atomic_store(&s.current, false);
		assert_int_equal(pthread_create(&t, NULL, run, s.l), 0);
		assert_int_equal(loop_post(s.l, look, &s), 0);
		pthread_join(t, &r);
		assert_null(r);
		assert_true(atomic_load(&s.current));
		assert_false(loop_is_current(s.l));
	}
	/* From another thread, while it sleeps; and before it runs. */
	assert_int_equal(pthread_create(&t, NULL, run, s.l), 0);
	loop_stop(s.l);
	pthread_join(t, &r);
	assert_null(r);
}

/* ---- signals and children ---- */

struct signals {
	int n, signo;
	struct loop_source *s;
	bool free_it;
};

static void got_signal(int signo, void *arg)
{
	struct signals *s = arg;
	s->n++;
	s->signo = signo;
	if (s->free_it)
		loop_source_free(s->s);
}

static void signals_are_delivered_to_the_loop(void **state)
{
	struct loop *l = *state;
	struct signals a = {0}, b = {.free_it = true};
	assert_int_equal(loop_add_signal(l, SIGUSR1, got_signal, &a, &a.s), 0);
	assert_int_equal(loop_add_signal(l, SIGUSR2, got_signal, &b, &b.s), 0);
	assert_int_equal(kill(getpid(), SIGUSR1), 0);
	run_until(l, &a.n, 1);
	assert_int_equal(a.signo, SIGUSR1);
	assert_int_equal(b.n, 0);
	assert_int_equal(kill(getpid(), SIGUSR2), 0);
	run_until(l, &b.n, 1);
	assert_int_equal(kill(getpid(), SIGUSR2),
			 0); /* nobody listens: stays blocked and pending */
	assert_int_equal(loop_run_once(l, 10), 0);
	assert_int_equal(b.n, 1);
	struct timespec now = {0};
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	assert_int_equal(sigtimedwait(&set, NULL, &now), SIGUSR2);
}

struct child {
	int n, code, status;
	pid_t pid;
};

static void child_ended(const siginfo_t *si, void *arg)
{
	struct child *c = arg;
	c->n++;
	c->code = si->si_code;
	c->status = si->si_status;
	c->pid = si->si_pid;
}

static pid_t start(int *pidfd, int status, int *gate)
{
	int p[2];
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		char c;
		close(p[1]);
		(void)!read(p[0], &c, 1);
		_exit(status);
	}
	close(p[0]);
	*gate = p[1];
	*pidfd = pidfd_open(pid, 0);
	assert_true(*pidfd >= 0);
	return pid;
}

static void children_are_reaped_with_their_status(void **state)
{
	struct loop *l = *state;
	struct child a = {0}, b = {0}, c = {0};
	int fd[3], gate[3];
	struct loop_source *s;
	pid_t pa = start(&fd[0], 7, &gate[0]), pb = start(&fd[1], 0, &gate[1]),
	      pc = start(&fd[2], 3, &gate[2]);
	assert_int_equal(loop_add_child(l, fd[0], child_ended, &a, NULL), 0);
	assert_int_equal(loop_add_child(l, fd[1], child_ended, &b, NULL), 0);
	assert_int_equal(loop_add_child(l, fd[2], child_ended, &c, &s), 0);
	assert_int_equal(loop_run_once(l, 10), 0);
	assert_int_equal(a.n + b.n, 0);
	assert_int_equal(write(gate[0], "x", 1), 1);
	run_until(l, &a.n, 1);
	assert_int_equal(a.pid, pa);
	assert_int_equal(a.code, CLD_EXITED);
	assert_int_equal(a.status, 7);
	assert_int_equal(waitpid(pa, NULL, 0), -1); /* reaped */
	assert_int_equal(kill(pb, SIGTERM), 0);
	run_until(l, &b.n, 1);
	assert_int_equal(b.code, CLD_KILLED);
	assert_int_equal(b.status, SIGTERM);
	/* One that is not watched any more is not reaped. */
	loop_source_free(s);
	assert_int_equal(write(gate[2], "x", 1), 1);
	int st;
	assert_int_equal(waitpid(pc, &st, 0), pc);
	assert_int_equal(WEXITSTATUS(st), 3);
	assert_int_equal(loop_run_once(l, 0), 0);
	assert_int_equal(c.n, 0);
	for (int i = 0; i < 3; i++) {
		close(fd[i]);
		close(gate[i]);
	}
}

static void child_that_has_ended_before_is_reaped_at_once(void **state)
{
	struct loop *l = *state;
	struct child a = {0};
	int fd, gate;
	siginfo_t si;
	pid_t pid = start(&fd, 5, &gate);
	close(gate);
	assert_int_equal(waitid(P_PID, (id_t)pid, &si, WEXITED | WNOWAIT), 0);
	assert_int_equal(loop_add_child(l, fd, child_ended, &a, NULL), 0);
	run_until(l, &a.n, 1);
	assert_int_equal(a.status, 5);
	close(fd);
}

/* Sources of all kinds are left: freed with the loop. */
static void loop_frees_what_is_left(void **state)
{
	struct loop *l = *state;
	struct order o = {.n = 0};
	struct tick t = {.o = &o};
	struct signals sig = {0};
	struct peer p = {0};
	int fds[2];
	assert_int_equal(pipe2(fds, 0), 0);
	assert_int_equal(loop_add_fd(l, fds[0], EPOLLIN, readable, &p, NULL), 0);
	assert_int_equal(loop_add_timer(l, time_mono() + NSEC_PER_SEC * 100, tick, &t, NULL), 0);
	assert_int_equal(loop_add_timer(l, 0, tick, &t, NULL), 0);
	assert_int_equal(loop_add_signal(l, SIGUSR1, got_signal, &sig, NULL), 0);
	close(fds[1]);
	close(fds[0]);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(descriptor_is_watched_until_its_source_is_freed),
		T(what_epoll_does_not_take_is_an_error),
		T(sources_freed_in_a_callback_are_not_called_any_more),
		T(source_may_be_made_anew_in_its_own_callback),
		T(timers_fire_in_the_order_of_their_times),
		T(timer_waits_for_its_time),
		T(timers_are_moved_disarmed_and_rearmed),
		T(timer_may_free_itself_and_others),
		T(timer_that_arms_itself_in_the_past_does_not_hold_the_loop),
		T(thousands_of_timers_come_and_go),
		T(posts_of_each_thread_come_in_order),
		T(what_a_post_posts_runs_in_a_later_round),
		T(loop_runs_on_one_thread_until_it_is_stopped),
		T(signals_are_delivered_to_the_loop),
		T(children_are_reaped_with_their_status),
		T(child_that_has_ended_before_is_reaped_at_once),
		T(loop_frees_what_is_left),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
