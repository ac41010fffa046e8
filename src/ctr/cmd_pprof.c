/* SPDX-License-Identifier: Apache-2.0 */
/* ctr pprof: what the debug socket of a containerd tells, copied to standard output. HTTP/1.0, so
 * that the answer's end is that of the connection whoever serves it. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "ctr/commands.h"

#define HEAD_MAX (64u << 10)
#define PIECE (64u << 10)

static int write_request(int fd, struct arena *a, const char *path, struct err *err)
{
	const char *text = arena_printf(
		a, "GET /debug/pprof/%s HTTP/1.0\r\nHost: .\r\nUser-Agent: ctr\r\n\r\n", path);
	int r = text ? fd_write_full(fd, text, strlen(text)) : -ENOMEM;

	return r < 0 ? err_errno(err, r, "ask the debug socket") : 0;
}

/* More of the answer, within ctx; 0 = its end. */
static ssize_t read_more(struct ctr *c, int fd, void *p, size_t n, struct err *err)
{
	struct pollfd pf = {.fd = fd, .events = POLLIN};
	ssize_t k;
	int r;

	do {
		r = ctx_check(&c->ctx, err);
		if (r < 0)
			return r;
		r = poll(&pf, 1, ctx_poll_ms(&c->ctx));
	} while (r == 0 || (r < 0 && errno == EINTR));
	k = read(fd, p, n);
	return k < 0 ? err_errno(err, errno, "read from the debug socket") : k;
}

/* Up to the blank line; what follows stays in @b. */
static int read_head(struct ctr *c, int fd, struct buf *b, struct err *err)
{
	char piece[4096], *end, *status;
	size_t head;

	while (!b->data || !(end = strstr(b->data, "\r\n\r\n"))) {
		ssize_t n = read_more(c, fd, piece, sizeof(piece), err);

		if (n < 0)
			return (int)n;
		if (n == 0 || b->len > HEAD_MAX)
			return err_set(err, ERR_UNAVAILABLE,
				       "the debug socket does not speak HTTP");
		if (buf_add(b, piece, (size_t)n) < 0)
			return err_nomem(err);
	}
	head = (size_t)(end - b->data) + 4;
	status = strchr(b->data, ' ');
	if (!str_has_prefix(b->data, "HTTP/1.") || !status || status > end)
		return err_set(err, ERR_UNAVAILABLE, "the debug socket does not speak HTTP");
	if (!str_has_prefix(status, " 200"))
		return err_set_raw(err, ERR_UNKNOWN, "http get failed with status: %.*s",
				   (int)MIN(strcspn(status + 1, "\r\n"), 200), status + 1);
	buf_consume(b, head);
	return 0;
}

static int copy_body(struct ctr *c, int fd, struct buf *b, struct err *err)
{
	_cleanup_free_ char *piece = malloc(PIECE);
	ssize_t n = 0;
	int r = fd_write_full(STDOUT_FILENO, b->data, b->len);

	while (piece && r == 0 && (n = read_more(c, fd, piece, PIECE, err)) > 0)
		r = fd_write_full(STDOUT_FILENO, piece, (size_t)n);
	if (!piece)
		return err_nomem(err);
	if (r < 0)
		return err_errno(err, r, "write");
	return n < 0 ? (int)n : 0;
}

static int get(struct ctr *c, const char *path, struct err *err)
{
	const char *socket = ctr_string(c, "debug-socket");
	_cleanup_buf_ struct buf b = BUF_INIT;
	_cleanup_close_ int fd = -1;
	int r;

	if (!path)
		return err_nomem(err);
	r = unix_connect(str_has_prefix(socket, "unix://") ? socket + 7 : socket, &fd);
	if (r < 0)
		return err_errno(err, r, "connect to %s", socket);
	r = write_request(fd, c->ctx.arena, path, err);
	if (r == 0)
		r = read_head(c, fd, &b, err);
	return r < 0 ? r : copy_body(c, fd, &b, err);
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
