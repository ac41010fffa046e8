/* SPDX-License-Identifier: Apache-2.0 */
/* The server's process: what it is made of, and how it ends. */
#include "shim/shim.h"

#include <errno.h>
#include <link.h>
#include <malloc.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/log.h"
#include "base/time.h"

/* A daemon that started it and died cannot end it; one that lives asks for a container at once. */
#define EMPTY_NS (60 * NSEC_PER_SEC)
#define STOP_NS (5 * NSEC_PER_SEC)
#define QUIET_NS (1 * NSEC_PER_SEC)
/* The publisher hangs up when it has had nothing to send for ten seconds, which is work once more.
 */
#define HUNG_UP_NS (11 * NSEC_PER_SEC)
#define STACK_DEPTH ((uintptr_t)256 << 10)

/* ---- memory at rest ---- */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
static void trim(void)
{
}
#else
/* Code and constants come back from the page cache, which all shims share, when they are used
 * again. */
static int code_drop(struct dl_phdr_info *info, size_t size, void *arg)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);

	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *h = &info->dlpi_phdr[i];
		uintptr_t from = info->dlpi_addr + h->p_vaddr, to = from + h->p_memsz;

		from = (from + page - 1) & ~(page - 1);
		to &= ~(page - 1);
		if (h->p_type == PT_LOAD && !(h->p_flags & PF_W) && to > from)
			madvise((void *)from, to - from, MADV_DONTNEED);
	}
	return 1; /* the program itself comes first */
}

static void trim(void)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
	uintptr_t top = ((uintptr_t)__builtin_frame_address(0) & ~(page - 1)) - 4 * page;

	malloc_trim(0);
	/* What deeper calls left behind, below this frame and those that madvise needs. */
	madvise((void *)(top - STACK_DEPTH), STACK_DEPTH, MADV_DONTNEED);
	dl_iterate_phdr(code_drop, NULL);
}
#endif

static void on_quiet(void *arg)
{
	struct shim *s = arg;

	if (!s->trimmed)
		loop_timer_set(s->trim_timer, time_mono() + HUNG_UP_NS);
	for (struct container *c = s->containers; c; c = c->next)
		runtime_trim(&c->rt);
	sealed_drop(&s->ahead);
	s->trimmed = true;
	trim();
}

void server_active(struct shim *s)
{
	s->trimmed = false;
	loop_timer_set(s->trim_timer, time_mono() + QUIET_NS);
}

/* ---- end ---- */

static void stop_now(void *arg)
{
	struct shim *s = arg;

	loop_stop(s->loop);
}

static void on_drained(void *arg)
{
	struct shim *s = arg;

	publisher_when_empty(s->publisher, stop_now, s);
}

void server_stop(struct shim *s)
{
	struct err err = ERR_INIT;

	if (s->stopping)
		return;
	s->stopping = true;
	unlink(s->socket_path);
	err_set(&err, ERR_UNAVAILABLE, "the shim is shutting down");
	for (struct container *c = s->containers; c; c = c->next)
		container_waiters_fail(c, &err);
	sandbox_waiters_fail(s, &err);
	if (loop_add_timer(s->loop, time_mono() + STOP_NS, stop_now, s, &s->stop_timer) < 0)
		stop_now(s);
	else
		ttrpc_server_drain(s->server, on_drained, s);
}

static void on_signal(int signo, void *arg)
{
	server_stop(arg);
}

static void on_empty(void *arg)
{
	log_info("nobody wants anything of this shim: ending");
	server_stop(arg);
}

void server_held(struct shim *s)
{
	bool empty = !s->containers && !s->sandbox;

	loop_timer_set(s->empty_timer, empty ? time_mono() + s->empty_ns : 0);
}

static int server_setup(struct shim *s, const struct server_options *o)
{
	struct ttrpc_server_options so = {.check_peer = true};
	int r = loop_new(&s->loop);

	if (r == 0)
		r = loop_add_timer(s->loop, time_mono() + QUIET_NS, on_quiet, s, &s->trim_timer);
	if (r == 0)
		r = loop_add_timer(s->loop, time_mono() + s->empty_ns, on_empty, s,
				   &s->empty_timer);
	if (r == 0)
		r = reaper_new(s->loop, &s->reaper);
	if (r == 0)
		r = loop_add_signal(s->loop, SIGTERM, on_signal, s, NULL);
	if (r == 0)
		r = loop_add_signal(s->loop, SIGINT, on_signal, s, NULL);
	if (r == 0)
		r = publisher_new(s->loop, o->ttrpc_address, o->ns, &s->publisher);
	if (r == 0)
		r = ttrpc_server_new(s->loop, NULL, &so, &s->server);
	if (r == 0)
		r = task_services_add(s);
	if (r == 0)
		r = sandbox_service_add(s);
	return r == 0 ? ttrpc_server_listen(s->server, o->listen_fd) : r;
}

int server_run(const struct server_options *o)
{
	struct shim s = {.ns = o->ns,
			 .socket_path = o->socket_path,
			 .empty_ns = o->empty_ns ? o->empty_ns : EMPTY_NS};
	int r;

	signal(SIGPIPE, SIG_IGN);
	r = server_setup(&s, o);
	/* While the daemon is told where this shim is, and makes its first call. */
	if (r == 0 && o->binary)
		runtime_ahead(o->binary, &s.ahead);
	if (r == 0)
		r = loop_run(s.loop);
	while (s.containers)
		container_remove(s.containers);
	if (s.loop)
		loop_run_once(s.loop, 0); /* frees what was removed */
	if (s.server)
		ttrpc_server_free(s.server);
	sealed_drop(&s.ahead);
	sandbox_free(s.sandbox);
	publisher_free(s.publisher);
	reaper_free(s.reaper);
	loop_free(s.loop);
	/* A stop has removed it, and by now another shim may have the path. */
	if (!s.stopping)
		unlink(o->socket_path);
	return r;
}
