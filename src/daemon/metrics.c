/* SPDX-License-Identifier: Apache-2.0 */
/* The metrics server's text: counters of gRPC's methods, of containers, and of this process.
 * Nothing is collected between two requests but the counters of rpc/. Names are those of
 * containerd; go_*, of which there is nothing to tell, is left out. */
#include "daemon/metrics.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "base/time.h"
#include "cri/cri.h"
#include "daemon/daemon_internal.h"
#include "services/metrics.h"
#include "version.h"

#define METHODS_MAX 512

/* ---- gRPC ---- */

struct method {
	const char *service, *name;
	enum rpc_kind kind;
	uint64_t started, received, sent, handled[RPC_CODES], buckets[RPC_BUCKETS + 1], ns;
};

struct methods {
	struct method v[METHODS_MAX];
	size_t n;
};

/* Of all servers together. */
static void add_method(void *arg, const struct rpc_service *service, const struct rpc_method *m,
		       const struct rpc_stats *s)
{
	struct methods *all = arg;
	struct method *t = NULL;

	for (size_t i = 0; !t && i < all->n; i++)
		if (streq(all->v[i].name, m->name) && streq(all->v[i].service, service->desc->name))
			t = &all->v[i];
	if (!t && all->n == METHODS_MAX)
		return;
	if (!t) {
		t = &all->v[all->n++];
		*t = (struct method){
			.service = service->desc->name, .name = m->name, .kind = m->kind};
	}
	t->started += atomic_load(&s->started);
	t->received += atomic_load(&s->received);
	t->sent += atomic_load(&s->sent);
	t->ns += atomic_load(&s->ns);
	for (size_t i = 0; i < RPC_CODES; i++)
		t->handled[i] += atomic_load(&s->handled[i]);
	for (size_t i = 0; i <= RPC_BUCKETS; i++)
		t->buckets[i] += atomic_load(&s->buckets[i]);
}

static void put_head(struct buf *b, const char *name, const char *type, const char *help)
{
	buf_printf(b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void put_method(struct buf *b, const struct method *m)
{
	static const char *const kinds[] = {[RPC_UNARY] = "unary",
					    [RPC_SERVER_STREAM] = "server_stream",
					    [RPC_CLIENT_STREAM] = "client_stream",
					    [RPC_BIDI] = "bidi_stream"};

	buf_printf(b, "grpc_method=\"%s\",grpc_service=\"%s\",grpc_type=\"%s\"", m->name,
		   m->service, kinds[m->kind]);
}

static void put_handled(struct buf *b, const struct methods *all)
{
	put_head(b, "grpc_server_handled_total", "counter",
		 "Total number of RPCs completed on the server, regardless of success or failure.");
	for (size_t i = 0; i < all->n; i++)
		for (size_t k = 0; k < RPC_CODES; k++) {
			buf_printf(b, "grpc_server_handled_total{grpc_code=\"%s\",",
				   err_code_name((int)k));
			put_method(b, &all->v[i]);
			buf_printf(b, "} %" PRIu64 "\n", all->v[i].handled[k]);
		}
}

static void put_histogram(struct buf *b, const struct method *m)
{
	uint64_t sum = 0;

	for (size_t i = 0; i <= RPC_BUCKETS; i++) {
		sum += m->buckets[i];
		buf_adds(b, "grpc_server_handling_seconds_bucket{");
		put_method(b, m);
		if (i < RPC_BUCKETS)
			buf_printf(b, ",le=\"%g\"} %" PRIu64 "\n", rpc_bucket_bounds[i], sum);
		else
			buf_printf(b, ",le=\"+Inf\"} %" PRIu64 "\n", sum);
	}
	buf_adds(b, "grpc_server_handling_seconds_sum{");
	put_method(b, m);
	buf_printf(b, "} %.9g\n", (double)m->ns / 1e9);
	buf_adds(b, "grpc_server_handling_seconds_count{");
	put_method(b, m);
	buf_printf(b, "} %" PRIu64 "\n", sum);
}

static void put_counter(struct buf *b, const struct methods *all, const char *name,
			const char *help, size_t offset)
{
	put_head(b, name, "counter", help);
	for (size_t i = 0; i < all->n; i++) {
		buf_printf(b, "%s{", name);
		put_method(b, &all->v[i]);
		buf_printf(b, "} %" PRIu64 "\n",
			   *(const uint64_t *)((const char *)&all->v[i] + offset));
	}
}

static void put_grpc(struct daemon *d, struct buf *b)
{
	_cleanup_free_ struct methods *all = calloc(1, sizeof(*all));

	if (!all)
		return;
	if (d->grpc)
		grpc_server_stats(d->grpc, add_method, all);
	if (d->grpc_tcp)
		grpc_server_stats(d->grpc_tcp, add_method, all);
	put_handled(b, all);
	if (d->grpc_histogram) {
		put_head(b, "grpc_server_handling_seconds", "histogram",
			 "Histogram of response latency (seconds) of gRPC that had been "
			 "application-level handled by the server.");
		for (size_t i = 0; i < all->n; i++)
			put_histogram(b, &all->v[i]);
	}
	put_counter(b, all, "grpc_server_msg_received_total",
		    "Total number of RPC stream messages received on the server.",
		    offsetof(struct method, received));
	put_counter(b, all, "grpc_server_msg_sent_total",
		    "Total number of gRPC stream messages sent by the server.",
		    offsetof(struct method, sent));
	put_counter(b, all, "grpc_server_started_total",
		    "Total number of RPCs started on the server.",
		    offsetof(struct method, started));
}

/* ---- this process ---- */

static void put_number(struct buf *b, const char *name, const char *type, const char *help,
		       double value)
{
	char text[32];

	/* As short as it can be read back. */
	snprintf(text, sizeof(text), "%.15g", value);
	if (strtod(text, NULL) != value)
		snprintf(text, sizeof(text), "%.17g", value);
	put_head(b, name, type, help);
	buf_printf(b, "%s %s\n", name, text);
}

static size_t open_files(void)
{
	_cleanup_closedir_ DIR *dir = opendir("/proc/self/fd");
	size_t n = 0;

	for (struct dirent *e; dir && (e = readdir(dir));)
		n += e->d_name[0] != '.';
	return n > 0 ? n - 1 : 0; /* not the directory itself */
}

/* Field @n of /proc/self/stat, as proc(5) counts, from the third on. */
static uint64_t stat_field(const char *stat, int n)
{
	const char *p = strrchr(stat, ')');
	uint64_t v = 0;

	for (int i = 2; p && i < n; i++) {
		p = strchr(p + 1, ' ');
		if (!p)
			return 0;
	}
	return p && sscanf(p, " %" SCNu64, &v) == 1 ? v : 0;
}

/* Seconds since 1970 at which the system began. */
static double boot_time(struct arena *a)
{
	char *text;
	size_t n;
	const char *line;

	if (file_read(a, AT_FDCWD, "/proc/stat", 1 << 20, &text, &n) < 0)
		return 0;
	line = strstr(text, "\nbtime ");
	return line ? strtod(line + 7, NULL) : 0;
}

static double limit_of(int what)
{
	struct rlimit l;

	return getrlimit(what, &l) < 0 || l.rlim_cur == RLIM_INFINITY ? 18446744073709551615.0
								      : (double)l.rlim_cur;
}

static void put_process(struct buf *b)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	double hz = (double)sysconf(_SC_CLK_TCK), page = (double)sysconf(_SC_PAGESIZE);
	char *stat;
	size_t n;

	if (!a || file_read(a, AT_FDCWD, "/proc/self/stat", 4096, &stat, &n) < 0)
		return;
	put_number(b, "process_cpu_seconds_total", "counter",
		   "Total user and system CPU time spent in seconds.",
		   (double)(stat_field(stat, 14) + stat_field(stat, 15)) / hz);
	put_number(b, "process_max_fds", "gauge", "Maximum number of open file descriptors.",
		   limit_of(RLIMIT_NOFILE));
	put_number(b, "process_open_fds", "gauge", "Number of open file descriptors.",
		   (double)open_files());
	put_number(b, "process_resident_memory_bytes", "gauge", "Resident memory size in bytes.",
		   (double)stat_field(stat, 24) * page);
	put_number(b, "process_start_time_seconds", "gauge",
		   "Start time of the process since unix epoch in seconds.",
		   boot_time(a) + (double)stat_field(stat, 22) / hz);
	put_number(b, "process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes.",
		   (double)stat_field(stat, 23));
	put_number(b, "process_virtual_memory_max_bytes", "gauge",
		   "Maximum amount of virtual memory available in bytes.", limit_of(RLIMIT_AS));
}

/* ---- all of it ---- */

static void put_containers(struct daemon *d, struct buf *b)
{
	struct ctx ctx = {.arena = arena_new(0), .ns = "", .lease = ""};
	struct err err = ERR_INIT;

	if (ctx.arena && metrics_tasks(&ctx, d->services.runtime, b, &err) < 0)
		log_warn("metrics of containers: %s", err.text);
	arena_free(ctx.arena);
}

void metrics_render(struct daemon *d, struct buf *b)
{
	if (d->services.runtime && d->container_metrics)
		put_containers(d, b);
	put_head(b, "containerd_build_info_total", "counter", "containerd build information");
	buf_printf(b, "containerd_build_info_total{revision=\"%s\",version=\"%s\"} 1\n", REVISION,
		   VERSION);
	put_grpc(d, b);
	if (d->cri)
		cri_timers_render(d->cri, b);
	put_process(b);
}
