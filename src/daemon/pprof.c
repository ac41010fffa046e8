/* SPDX-License-Identifier: Apache-2.0 */
/* The debug server's answers. Where Go has goroutines there are threads here, and for what has no
 * counterpart (blocking, mutexes) an empty profile, which tools read as such. */
#include "daemon/pprof.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <malloc.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"
#include "base/time.h"
#include "base/trace.h"
#include "daemon/daemon_internal.h"
#include "daemon/profile.h"

#define TEXT "text/plain; charset=utf-8"
#define BINARY "application/octet-stream"
#define TRACE_MAX (64u << 20)

static void reply_buf(struct front_request *q, const char *type, const struct buf *b)
{
	if (buf_ok(b))
		front_reply(q, 200, type, b->data, b->len);
	else
		front_reply_text(q, 500, "out of memory");
}

/* False = answered, because it is none. */
static bool take_seconds(struct front_request *q, double otherwise, int64_t *ret_ns)
{
	const char *text = front_query(q, "seconds");
	char *end = NULL;
	double v = str_empty(text) ? otherwise : strtod(text, &end);

	/* As Go's: what is no number means the default. */
	if ((end && *end) || !isfinite(v) || v <= 0)
		v = otherwise;
	if (v > PROFILE_SECONDS_MAX) {
		front_reply_text(q, 400, "seconds: at most %d", PROFILE_SECONDS_MAX);
		return false;
	}
	*ret_ns = (int64_t)(v * 1e9);
	return true;
}

/* ---- what takes its time ---- */

static void on_profile(struct front_request *q, void *arg)
{
	struct daemon *d = arg;
	_cleanup_buf_ struct buf b = BUF_INIT;
	struct err err = ERR_INIT;
	int64_t ns;

	if (!take_seconds(q, 30, &ns))
		return;
	if (profile_cpu(ns, &d->stopping, &b, &err) < 0)
		front_reply_text(q, 500, "Could not enable CPU profiling: %s", err.text);
	else
		reply_buf(q, BINARY, &b);
}

static void wait_for(struct daemon *d, int64_t ns)
{
	int64_t until = time_mono() + ns, left;

	while (!atomic_load(&d->stopping) && (left = until - time_mono()) > 0) {
		struct timespec step = {.tv_nsec = MIN(left, 50 * NSEC_PER_MSEC)};

		(void)nanosleep(&step, NULL);
	}
}

/* A trace of this request's own, into memory. The configuration's is not disturbed. */
static int make_trace(struct daemon *d, int64_t ns, int *ret_fd)
{
	static pthread_mutex_t tracing = PTHREAD_MUTEX_INITIALIZER;
	_cleanup_close_ int fd = memfd_create("trace", MFD_CLOEXEC);
	char path[48];
	int r;

	if (fd < 0)
		return -errno;
	if (pthread_mutex_trylock(&tracing) != 0)
		return -EBUSY;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	r = atomic_load(&trace_on) ? -EBUSY : trace_open(path);
	if (r == 0) {
		wait_for(d, ns);
		trace_close();
		*ret_fd = TAKE_FD(fd);
	}
	pthread_mutex_unlock(&tracing);
	return r;
}

static void on_trace(struct front_request *q, void *arg)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	_cleanup_close_ int fd = -1;
	char *text;
	size_t n;
	int64_t ns;
	int r;

	if (!take_seconds(q, 1, &ns))
		return;
	r = a ? make_trace(arg, ns, &fd) : -ENOMEM;
	if (r == 0 && lseek(fd, 0, SEEK_SET) < 0)
		r = -errno;
	if (r == 0)
		r = fd_read_all(a, fd, TRACE_MAX, &text, &n);
	if (r == -EBUSY)
		front_reply_text(q, 500, "Could not enable tracing: there is a trace already");
	else if (r < 0)
		front_reply_text(q, 500, "Could not enable tracing: %s", strerror(-r));
	else
		front_reply(q, 200, "application/json", text, n);
}

/* ---- what is there at once ---- */

static void on_threads(struct front_request *q, void *arg)
{
	_cleanup_buf_ struct buf b = BUF_INIT;
	struct err err = ERR_INIT;

	(void)arg;
	if (profile_threads(&b, &err) < 0)
		front_reply_text(q, 500, "%s", err.text);
	else
		reply_buf(q, TEXT, &b);
}

/* The old text format of heap profiles, with one entry for all, and malloc's own account below. */
static void on_heap(struct front_request *q, void *arg)
{
	struct mallinfo2 m = mallinfo2();
	_cleanup_buf_ struct buf b = BUF_INIT;
	_cleanup_free_ char *xml = NULL;
	size_t used = m.uordblks + m.hblkhd, n = 0;
	FILE *f = open_memstream(&xml, &n);

	(void)arg;
	if (f) {
		(void)malloc_info(0, f);
		(void)fclose(f);
	}
	buf_printf(&b, "heap profile: 1: %zu [1: %zu] @ heap/1\n", used, used);
	buf_printf(&b, "1: %zu [1: %zu] @ %p\n\n# malloc\n", used, used, (void *)on_heap);
	buf_printf(&b, "# HeapSys = %zu\n# HeapInuse = %zu\n# HeapIdle = %zu\n", m.arena + m.hblkhd,
		   used, m.fordblks);
	buf_printf(&b, "# HeapReleasable = %zu\n# Mmapped = %zu in %zu\n", m.keepcost, m.hblkhd,
		   m.hblks);
	for (char *line = xml, *next; line && *line; line = next) {
		next = line + strcspn(line, "\n");
		if (*next)
			*next++ = '\0';
		buf_printf(&b, "# %s\n", line);
	}
	reply_buf(q, TEXT, &b);
}

static void on_threadcreate(struct front_request *q, void *arg)
{
	struct daemon *d = arg;
	_cleanup_buf_ struct buf b = BUF_INIT;

	buf_printf(&b, "threadcreate profile: total %zu\n", pool_size(d->pool));
	reply_buf(q, TEXT, &b);
}

static void on_empty(struct front_request *q, void *arg)
{
	static const char text[] = "--- contention:\ncycles/second=1000000000\n";

	(void)arg;
	front_reply(q, 200, TEXT, text, sizeof(text) - 1);
}

static void on_cmdline(struct front_request *q, void *arg)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	char *text;
	size_t n;

	(void)arg;
	if (!a || file_read(a, AT_FDCWD, "/proc/self/cmdline", 1 << 20, &text, &n) < 0)
		front_reply_text(q, 500, "cannot be read");
	else
		front_reply(q, 200, TEXT, text, n > 0 ? n - 1 : 0);
}

/* "0x1+0x2" in the query (GET) or the body (POST); each known one has a line. */
static void on_symbol(struct front_request *q, void *arg)
{
	_cleanup_buf_ struct buf b = BUF_INIT;
	const char *p = front_body(q);

	(void)arg;
	buf_adds(&b, "num_symbols: 1\n");
	while (*p) {
		char *end;
		unsigned long long v = strtoull(p, &end, 0);

		if (v) {
			buf_printf(&b, "0x%llx ", v);
			profile_address(&b, (void *)(uintptr_t)v);
			buf_addc(&b, '\n');
		}
		p = end + strspn(end, "+");
		if (end == p)
			break;
	}
	reply_buf(q, TEXT, &b);
}

static const struct page {
	const char *name;
	front_handler fn;
	const char *help;
} pages[] = {
	{"allocs", on_heap, "the same as heap"},
	{"block", on_empty, "nothing is recorded"},
	{"cmdline", on_cmdline, "the command line of the daemon"},
	{"goroutine", on_threads, "names, states and stacks of all threads"},
	{"heap", on_heap, "what malloc holds"},
	{"mutex", on_empty, "nothing is recorded"},
	{"profile", on_profile, "CPU profile; ?seconds=30"},
	{"symbol", on_symbol, "names of addresses"},
	{"threadcreate", on_threadcreate, "number of pool threads"},
	{"trace", on_trace, "trace for Perfetto; ?seconds=1"},
};

static void on_index(struct front_request *q, void *arg)
{
	_cleanup_buf_ struct buf b = BUF_INIT;

	(void)arg;
	if (!streq(front_path(q), "/debug/pprof/")) {
		front_reply_text(q, 404, "Unknown profile");
		return;
	}
	buf_adds(&b, "<html><head><title>/debug/pprof/</title></head><body>\n<table>\n");
	for (size_t i = 0; i < ARRAY_LEN(pages); i++)
		buf_printf(&b, "<tr><td><a href=\"%s\">%s</a></td><td>%s</td></tr>\n",
			   pages[i].name, pages[i].name, pages[i].help);
	buf_adds(&b, "</table></body></html>\n");
	reply_buf(q, "text/html; charset=utf-8", &b);
}

const struct front_route *pprof_routes(struct daemon *d, struct arena *a, size_t *ret_n)
{
	struct front_route *r = arena_new_array(a, struct front_route, ARRAY_LEN(pages) + 1);

	for (size_t i = 0; r && i < ARRAY_LEN(pages); i++) {
		r[i] = (struct front_route){NULL, arena_printf(a, "/debug/pprof/%s", pages[i].name),
					    pages[i].fn, d};
		if (!r[i].path)
			return NULL;
	}
	if (r)
		r[ARRAY_LEN(pages)] = (struct front_route){NULL, "/debug/pprof/", on_index, d};
	*ret_n = ARRAY_LEN(pages) + 1;
	return r;
}
