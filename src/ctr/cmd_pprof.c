/* SPDX-License-Identifier: Apache-2.0 */
/* ctr pprof: what the debug socket of a containerd tells, copied to standard output. */
#include "base/fd.h"
#include "ctr/commands.h"
#include "ctr/pprof.h"

static int get(struct ctr *c, const char *path, struct err *err)
{
	const char *socket = ctr_string(c, "debug-socket");
	int fd _cleanup_close_ = -1;
	int r;

	if (!path)
		return err_nomem(err);
	r = unix_connect(str_has_prefix(socket, "unix://") ? socket + 7 : socket, &fd);
	if (r < 0)
		return err_errno(err, r, "connect to %s", socket);
	return pprof_copy(c, fd, "the debug socket", path, err);
}

/* The path is that of Go's net/http/pprof, which is not always the command's name. */
static int get_page(struct ctr *c, const char *page, struct err *err)
{
	return get(c,
		   arena_printf(c->ctx.arena, "%s?debug=%llu", page,
				(unsigned long long)ctr_uint(c, "debug")),
		   err);
}

static int get_timed(struct ctr *c, const char *page, struct err *err)
{
	return get(c,
		   arena_printf(c->ctx.arena, "%s?seconds=%g&debug=%llu", page,
				(double)ctr_int(c, "seconds") / 1e9,
				(unsigned long long)ctr_uint(c, "debug")),
		   err);
}

static int run_block(struct ctr *c, struct err *err)
{
	return get_page(c, "block", err);
}

static int run_goroutines(struct ctr *c, struct err *err)
{
	return get_page(c, "goroutine", err);
}

static int run_heap(struct ctr *c, struct err *err)
{
	return get_page(c, "heap", err);
}

static int run_threadcreate(struct ctr *c, struct err *err)
{
	return get_page(c, "threadcreate", err);
}

static int run_profile(struct ctr *c, struct err *err)
{
	return get_timed(c, "profile", err);
}

static int run_trace(struct ctr *c, struct err *err)
{
	return get_timed(c, "trace", err);
}

static const struct ctr_flag page_flags[] = {{"debug", 0, CTR_UINT, "level of detail", "0"}, {}};
static const struct ctr_flag goroutines_flags[] = {{"debug", 0, CTR_UINT, "level of detail", "2"},
						   {}};
static const struct ctr_flag profile_flags[] = {{"seconds", 's', CTR_DURATION, "how long", "30s"},
						{"debug", 0, CTR_UINT, "level of detail", "0"},
						{}};
static const struct ctr_flag trace_flags[] = {{"seconds", 's', CTR_DURATION, "how long", "5s"},
					      {"debug", 0, CTR_UINT, "level of detail", "0"},
					      {}};

static const struct ctr_command pprof_block = {
	.name = "block", .usage = "what blocked", .flags = CTR_FLAGS(page_flags), .run = run_block};
static const struct ctr_command pprof_goroutines = {.name = "goroutines",
						    .usage = "stacks of all threads",
						    .flags = CTR_FLAGS(goroutines_flags),
						    .run = run_goroutines};
static const struct ctr_command pprof_heap = {
	.name = "heap", .usage = "memory", .flags = CTR_FLAGS(page_flags), .run = run_heap};
static const struct ctr_command pprof_profile = {.name = "profile",
						 .usage = "CPU profile",
						 .flags = CTR_FLAGS(profile_flags),
						 .run = run_profile};
static const struct ctr_command pprof_threadcreate = {.name = "threadcreate",
						      .usage = "threads",
						      .flags = CTR_FLAGS(page_flags),
						      .run = run_threadcreate};
static const struct ctr_command pprof_trace = {.name = "trace",
					       .usage = "trace of what the daemon does",
					       .flags = CTR_FLAGS(trace_flags),
					       .run = run_trace};

static const struct ctr_flag pprof_flags[] = {{"debug-socket", 'd', CTR_STRING,
					       "debug socket of the daemon",
					       "/run/containerd/debug.sock"},
					      {}};

const struct ctr_command cmd_pprof = {
	.name = "pprof",
	.usage = "look into a running daemon",
	.flags = CTR_FLAGS(pprof_flags),
	.subcommands = CTR_COMMANDS(&pprof_block, &pprof_goroutines, &pprof_heap, &pprof_profile,
				    &pprof_threadcreate, &pprof_trace),
};
