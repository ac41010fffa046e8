/* SPDX-License-Identifier: Apache-2.0 */
/* ListMetricDescriptors, ListPodSandboxMetrics, StreamPodSandboxMetrics: what the kubelet would
 * otherwise have cAdvisor measure.
 *
 * One table says what metrics there are and where each comes from: descriptors and values are both
 * made from it. Values are whole numbers by the protocol, so seconds are too. A container that does
 * not run has none, and what is not known of one that runs is left out. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>

#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "base/time.h"
#include "cri/image.h"
#include "cri/stats_internal.h"

#define BASE_KEYS 5
#define LABELS_MAX (BASE_KEYS + 4)
#define UNLIMITED (1ull << 62)
#define LIMITS_MAX 8192

#define NEW(a, type, NAME)                                            \
	({                                                            \
		CRI(type) *m_ = arena_new_obj(a, CRI(type));          \
		if (m_)                                               \
			*m_ = (CRI(type))RUNTIME__V1__##NAME##__INIT; \
		m_;                                                   \
	})

static const char *const base_keys[BASE_KEYS] = {"pod", "namespace", "container", "id", "image"};

struct emitter;

struct metric {
	const char *name, *help;
	void (*emit)(struct emitter *e, const struct metric *m);
	size_t arg;	  /* a number of the sample, or an offset: as emit takes it */
	uint64_t divisor; /* 0 = 1 */
	bool gauge;
	const char *keys[4]; /* after the base keys */
};

/* What a container's processes hold. */
struct holdings {
	uint64_t processes, files, sockets;
	uint64_t max_open_files;
	bool has_limit;
};

/* Where a snapshotter keeps its data. */
struct disk {
	const char *snapshotter; /* NULL = not looked at yet */
	const char *device;
	struct statvfs st;
	bool known;
};

/* Of one container, or of a pod's network. */
struct emitter {
	struct stats_round *q;
	struct cri_container *k;
	struct stats_sample *m;
	const CRI(LinuxContainerResources) * resources; /* NULL = none given */
	int64_t started_at;
	struct holdings held;
	struct disk *disk;
	uint64_t layer;
	const struct cri_netdev *netdev;
	size_t n_netdev;
	const char *base[BASE_KEYS];
	int64_t at;
	CRI(Metric) * *v;
	size_t n, cap;
	bool failed; /* no memory */
};

static void put(struct emitter *e, const struct metric *m, uint64_t value, const char *l1,
		const char *l2, const char *l3)
{
	struct arena *a = e->q->ctx->arena;
	CRI(Metric) *x = NEW(a, Metric, METRIC);
	CRI(UInt64Value) *v = NEW(a, UInt64Value, UINT64_VALUE);
	const char *more[] = {l1, l2, l3};

	e->v = arena_grow(a, e->v, &e->cap, e->n + 1, sizeof(*e->v));
	if (!x || !v || !e->v || !(x->label_values = arena_new_array(a, char *, LABELS_MAX))) {
		e->failed = true;
		e->n = 0;
		e->cap = 0;
		return;
	}
	for (; x->n_label_values < BASE_KEYS; x->n_label_values++)
		x->label_values[x->n_label_values] = (char *)e->base[x->n_label_values];
	for (size_t i = 0; i < ARRAY_LEN(more) && more[i]; i++)
		x->label_values[x->n_label_values++] = (char *)more[i];
	v->value = value;
	x->name = (char *)m->name;
	x->timestamp = e->at;
	x->metric_type =
		m->gauge ? RUNTIME__V1__METRIC_TYPE__GAUGE : RUNTIME__V1__METRIC_TYPE__COUNTER;
	x->value = v;
	e->v[e->n++] = x;
}

/* ---- from the control group ---- */

/* @arg: the number. No limit counts as 0. */
static void emit_number(struct emitter *e, const struct metric *m)
{
	uint64_t v = e->m->s.v[m->arg];

	if (!sample_has(&e->m->s, (enum sample_number)m->arg))
		return;
	if (m->gauge && v >= UNLIMITED)
		v = 0;
	put(e, m, v / (m->divisor ? m->divisor : 1), NULL, NULL, NULL);
}

static void emit_working_set(struct emitter *e, const struct metric *m)
{
	if (sample_has(&e->m->s, SAMPLE_MEMORY))
		put(e, m, sample_working_set(&e->m->s), NULL, NULL, NULL);
}

static void emit_failures(struct emitter *e, const struct metric *m)
{
	static const struct {
		enum sample_number number;
		const char *type, *scope;
	} all[] = {{SAMPLE_PGFAULT, "pgfault", "container"},
		   {SAMPLE_TREE_PGFAULT, "pgfault", "hierarchy"},
		   {SAMPLE_PGMAJFAULT, "pgmajfault", "container"},
		   {SAMPLE_TREE_PGMAJFAULT, "pgmajfault", "hierarchy"}};

	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		if (sample_has(&e->m->s, all[i].number))
			put(e, m, e->m->s.v[all[i].number], all[i].type, all[i].scope, NULL);
}

/* ---- disks ---- */

/* "/dev/sda", or "8:0" when the system has no name for it. */
static const char *device_name(struct arena *a, uint64_t major, uint64_t minor)
{
	char path[64], to[512];
	ssize_t n;

	snprintf(path, sizeof(path), "/sys/dev/block/%llu:%llu", (unsigned long long)major,
		 (unsigned long long)minor);
	n = readlink(path, to, sizeof(to) - 1);
	if (n > 0) {
		to[n] = '\0';
		return arena_printf(a, "/dev/%s", path_base(to));
	}
	return arena_printf(a, "%llu:%llu", (unsigned long long)major, (unsigned long long)minor);
}

/* @arg: offset in struct sample_io */
static void emit_io(struct emitter *e, const struct metric *m)
{
	for (size_t i = 0; i < e->m->s.n_io; i++) {
		const struct sample_io *io = &e->m->s.io[i];
		const char *name = device_name(e->q->ctx->arena, io->major, io->minor);
		if (name)
			put(e, m, *(const uint64_t *)((const char *)io + m->arg), name, NULL, NULL);
	}
}

static void emit_blkio(struct emitter *e, const struct metric *m)
{
	struct arena *a = e->q->ctx->arena;

	for (size_t i = 0; i < e->m->s.n_io; i++) {
		const struct sample_io *io = &e->m->s.io[i];
		const char *name = device_name(a, io->major, io->minor);
		char *major = arena_printf(a, "%llu", (unsigned long long)io->major);
		char *minor = arena_printf(a, "%llu", (unsigned long long)io->minor);
		const struct {
			const char *operation;
			uint64_t value;
		} all[] = {{"Read", io->read_bytes}, {"Write", io->write_bytes}};

		for (size_t k = 0; name && major && minor && k < ARRAY_LEN(all); k++) {
			put(e, m, all[k].value, name, major, minor);
			if (!e->failed) {
				CRI(Metric) *x = e->v[e->n - 1];
				x->label_values[x->n_label_values++] = (char *)all[k].operation;
			}
		}
	}
}

enum { DISK_INODES_FREE, DISK_INODES, DISK_BYTES, DISK_USED };

static void emit_disk(struct emitter *e, const struct metric *m)
{
	const struct statvfs *st = &e->disk->st;
	const uint64_t v[] = {[DISK_INODES_FREE] = st->f_ffree,
			      [DISK_INODES] = st->f_files,
			      [DISK_BYTES] = (uint64_t)st->f_blocks * st->f_frsize,
			      [DISK_USED] = e->layer};

	if (e->disk->known)
		put(e, m, v[m->arg], e->disk->device, NULL, NULL);
}

/* ---- networks ---- */

/* @arg: offset in struct cri_netdev */
static void emit_net(struct emitter *e, const struct metric *m)
{
	for (size_t i = 0; i < e->n_netdev; i++)
		put(e, m, *(const uint64_t *)((const char *)&e->netdev[i] + m->arg),
		    e->netdev[i].name, NULL, NULL);
}

/* ---- processes ---- */

/* @arg: offset in struct holdings */
static void emit_held(struct emitter *e, const struct metric *m)
{
	if (e->m->dirs)
		put(e, m, *(const uint64_t *)((const char *)&e->held + m->arg), NULL, NULL, NULL);
}

static void emit_ulimit(struct emitter *e, const struct metric *m)
{
	if (e->held.has_limit)
		put(e, m, e->held.max_open_files, "max_open_files", NULL, NULL);
}

/* ---- times and what was asked for ---- */

static void emit_seen(struct emitter *e, const struct metric *m)
{
	put(e, m, (uint64_t)(e->at / NSEC_PER_SEC), NULL, NULL, NULL);
}

static void emit_start(struct emitter *e, const struct metric *m)
{
	put(e, m, (uint64_t)(e->started_at / NSEC_PER_SEC), NULL, NULL, NULL);
}

/* What was asked for counts, and what the kernel has when nothing was. @arg: offset in
 * LinuxContainerResources; @divisor: the number of the sample. */
static void emit_spec(struct emitter *e, const struct metric *m)
{
	int64_t asked = e->resources ? *(const int64_t *)((const char *)e->resources + m->arg) : 0;
	uint64_t has = e->m->s.v[m->divisor];

	if (asked > 0)
		put(e, m, (uint64_t)asked, NULL, NULL, NULL);
	else if (sample_has(&e->m->s, (enum sample_number)m->divisor))
		put(e, m, has >= UNLIMITED ? 0 : has, NULL, NULL, NULL);
}

/* Version 2 has weights from 1 to 10000 for shares from 2 to 262144. */
static void emit_shares(struct emitter *e, const struct metric *m)
{
	uint64_t weight = e->m->s.v[SAMPLE_CPU_WEIGHT];

	if ((e->resources && e->resources->cpu_shares > 0) ||
	    !sample_has(&e->m->s, SAMPLE_CPU_WEIGHT))
		emit_spec(e, m);
	else if (weight >= 1 && weight <= 10000)
		put(e, m, 2 + (weight - 1) * 262142 / 9999, NULL, NULL, NULL);
}

/* ---- the table ---- */

#define SECONDS ((uint64_t)NSEC_PER_SEC)
#define RESOURCE(m) offsetof(CRI(LinuxContainerResources), m)

static const struct metric container_metrics[] = {
	{"container_cpu_user_seconds_total", "Time that the container computed in user mode",
	 emit_number, SAMPLE_CPU_USER, SECONDS},
	{"container_cpu_system_seconds_total", "Time that the kernel computed for the container",
	 emit_number, SAMPLE_CPU_SYSTEM, SECONDS},
	{"container_cpu_usage_seconds_total", "Time that the container computed", emit_number,
	 SAMPLE_CPU, SECONDS},
	{"container_cpu_cfs_periods_total", "Periods of the CPU quota that have passed",
	 emit_number, SAMPLE_PERIODS},
	{"container_cpu_cfs_throttled_periods_total", "Periods in which the CPU quota was used up",
	 emit_number, SAMPLE_THROTTLED_PERIODS},
	{"container_cpu_cfs_throttled_seconds_total", "Time that was waited for the CPU quota",
	 emit_number, SAMPLE_THROTTLED, SECONDS},
	{"container_memory_cache", "Bytes of the page cache", emit_number, SAMPLE_CACHE,
	 .gauge = true},
	{"container_memory_rss", "Bytes of anonymous memory", emit_number, SAMPLE_RSS,
	 .gauge = true},
	{"container_memory_kernel_usage", "Bytes that the kernel holds for the container",
	 emit_number, SAMPLE_KERNEL, .gauge = true},
	{"container_memory_mapped_file", "Bytes of mapped files", emit_number, SAMPLE_MAPPED_FILE,
	 .gauge = true},
	{"container_memory_swap", "Bytes that are in swap", emit_number, SAMPLE_SWAPPED,
	 .gauge = true},
	{"container_memory_failcnt", "How often the memory limit was hit", emit_number,
	 SAMPLE_MEMORY_FAILCNT},
	{"container_memory_usage_bytes", "Bytes in use, with everything that could be given back",
	 emit_number, SAMPLE_MEMORY, .gauge = true},
	{"container_memory_max_usage_bytes", "Most bytes that were ever in use", emit_number,
	 SAMPLE_MEMORY_MAX, .gauge = true},
	{"container_memory_working_set_bytes", "Bytes in use but for inactive file pages",
	 emit_working_set, .gauge = true},
	{"container_memory_total_active_file_bytes", "Bytes of active file pages", emit_number,
	 SAMPLE_ACTIVE_FILE, .gauge = true},
	{"container_memory_total_inactive_file_bytes", "Bytes of inactive file pages", emit_number,
	 SAMPLE_INACTIVE_FILE, .gauge = true},
	{"container_memory_failures_total", "Page faults", emit_failures,
	 .keys = {"failure_type", "scope"}},
	{"container_oom_events_total", "Processes killed for want of memory", emit_number,
	 SAMPLE_OOM_KILLS},
	{"container_fs_inodes_free", "Free inodes of the file system with the writable layer",
	 emit_disk, DISK_INODES_FREE, .gauge = true, .keys = {"device"}},
	{"container_fs_inodes_total", "Inodes of the file system with the writable layer",
	 emit_disk, DISK_INODES, .gauge = true, .keys = {"device"}},
	{"container_fs_limit_bytes", "Size of the file system with the writable layer", emit_disk,
	 DISK_BYTES, .gauge = true, .keys = {"device"}},
	{"container_fs_usage_bytes", "Bytes of the writable layer", emit_disk, DISK_USED,
	 .gauge = true, .keys = {"device"}},
	{"container_fs_reads_bytes_total", "Bytes read from the device", emit_io,
	 offsetof(struct sample_io, read_bytes), .keys = {"device"}},
	{"container_fs_reads_total", "Reads from the device", emit_io,
	 offsetof(struct sample_io, reads), .keys = {"device"}},
	{"container_fs_writes_bytes_total", "Bytes written to the device", emit_io,
	 offsetof(struct sample_io, write_bytes), .keys = {"device"}},
	{"container_fs_writes_total", "Writes to the device", emit_io,
	 offsetof(struct sample_io, writes), .keys = {"device"}},
	{"container_blkio_device_usage_total", "Bytes transferred to and from the device",
	 emit_blkio, .keys = {"device", "major", "minor", "operation"}},
	{"container_processes", "Processes", emit_held, offsetof(struct holdings, processes),
	 .gauge = true},
	{"container_file_descriptors", "Open file descriptors", emit_held,
	 offsetof(struct holdings, files), .gauge = true},
	{"container_sockets", "Open sockets", emit_held, offsetof(struct holdings, sockets),
	 .gauge = true},
	{"container_threads_max", "Threads that are allowed, 0 for no limit", emit_number,
	 SAMPLE_THREADS_MAX, .gauge = true},
	{"container_threads", "Threads", emit_number, SAMPLE_THREADS, .gauge = true},
	{"container_ulimits_soft", "Soft limits of the first process", emit_ulimit, .gauge = true,
	 .keys = {"ulimit"}},
	{"container_last_seen", "When these numbers were taken, in Unix time", emit_seen,
	 .gauge = true},
	{"container_start_time_seconds", "When the container was started, in Unix time", emit_start,
	 .gauge = true},
	{"container_spec_cpu_period", "Period of the CPU quota in microseconds", emit_spec,
	 RESOURCE(cpu_period), SAMPLE_CPU_PERIOD, true},
	{"container_spec_cpu_shares", "CPU shares", emit_shares, RESOURCE(cpu_shares),
	 SAMPLE_CPU_SHARES, true},
	{"container_spec_memory_limit_bytes", "Limit of memory, 0 for none", emit_spec,
	 RESOURCE(memory_limit_in_bytes), SAMPLE_MEMORY_LIMIT, true},
	{"container_spec_memory_reservation_limit_bytes", "Memory that is kept for the container",
	 emit_number, SAMPLE_MEMORY_RESERVATION, .gauge = true},
	{"container_spec_memory_swap_limit_bytes", "Limit of swap, 0 for none", emit_spec,
	 RESOURCE(memory_swap_limit_in_bytes), SAMPLE_SWAP_LIMIT, true},
};

#define NETDEV(m) offsetof(struct cri_netdev, m)

static const struct metric pod_metrics[] = {
	{"container_network_receive_bytes_total", "Bytes received", emit_net, NETDEV(rx_bytes),
	 .keys = {"interface"}},
	{"container_network_receive_packets_total", "Packets received", emit_net,
	 NETDEV(rx_packets), .keys = {"interface"}},
	{"container_network_receive_packets_dropped_total", "Received packets that were dropped",
	 emit_net, NETDEV(rx_dropped), .keys = {"interface"}},
	{"container_network_receive_errors_total", "Errors while receiving", emit_net,
	 NETDEV(rx_errors), .keys = {"interface"}},
	{"container_network_transmit_bytes_total", "Bytes sent", emit_net, NETDEV(tx_bytes),
	 .keys = {"interface"}},
	{"container_network_transmit_packets_total", "Packets sent", emit_net, NETDEV(tx_packets),
	 .keys = {"interface"}},
	{"container_network_transmit_packets_dropped_total",
	 "Packets that were dropped instead of sent", emit_net, NETDEV(tx_dropped),
	 .keys = {"interface"}},
	{"container_network_transmit_errors_total", "Errors while sending", emit_net,
	 NETDEV(tx_errors), .keys = {"interface"}},
};

/* ---- descriptors ---- */

static int describe(struct arena *a, const struct metric *m, CRI(MetricDescriptor) * *ret)
{
	CRI(MetricDescriptor) *d = NEW(a, MetricDescriptor, METRIC_DESCRIPTOR);

	if (!d || !(d->label_keys = arena_new_array(a, char *, LABELS_MAX)))
		return -ENOMEM;
	d->name = (char *)m->name;
	d->help = (char *)m->help;
	for (; d->n_label_keys < BASE_KEYS; d->n_label_keys++)
		d->label_keys[d->n_label_keys] = (char *)base_keys[d->n_label_keys];
	for (size_t i = 0; i < ARRAY_LEN(m->keys) && m->keys[i]; i++)
		d->label_keys[d->n_label_keys++] = (char *)m->keys[i];
	*ret = d;
	return 0;
}

int cri_list_metric_descriptors(struct rpc_call *call, const void *req, struct err *err)
{
	CRI(ListMetricDescriptorsResponse) resp = CRI_INIT(LIST_METRIC_DESCRIPTORS_RESPONSE);
	struct arena *a = rpc_ctx(call)->arena;
	size_t total = ARRAY_LEN(container_metrics) + ARRAY_LEN(pod_metrics);
	struct cri *c;
	int r = cri_of(call, &c, err);

	if (r < 0)
		return r;
	resp.descriptors = arena_new_array(a, CRI(MetricDescriptor) *, total);
	for (size_t i = 0; resp.descriptors && i < total; i++) {
		const struct metric *m = i < ARRAY_LEN(container_metrics)
						 ? &container_metrics[i]
						 : &pod_metrics[i - ARRAY_LEN(container_metrics)];
		if (describe(a, m, &resp.descriptors[i]) < 0)
			return err_nomem(err);
		resp.n_descriptors++;
	}
	return resp.descriptors ? rpc_send(call, &resp.base, err) : err_nomem(err);
}

/* ---- values ---- */

static void hold(int pid, void *arg)
{
	struct holdings *h = arg;
	char path[40], to[16];

	h->processes++;
	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	_cleanup_closedir_ DIR *d = opendir(path);
	for (struct dirent *e; d && (e = readdir(d));) {
		if (e->d_name[0] == '.')
			continue;
		h->files++;
		ssize_t n = readlinkat(dirfd(d), e->d_name, to, sizeof(to));
		h->sockets += n > 7 && memcmp(to, "socket:", 7) == 0;
	}
}

/* "Max open files            1024                 4096                 files" */
static void limit_read(struct arena *a, uint32_t pid, struct holdings *h)
{
	char path[40], *text;
	const char *line;
	unsigned long long v;
	size_t n;

	snprintf(path, sizeof(path), "/proc/%u/limits", pid);
	if (file_read(a, AT_FDCWD, path, LIMITS_MAX, &text, &n) < 0 ||
	    !(line = strstr(text, "\nMax open files ")))
		return;
	line += strlen("\nMax open files ");
	if (sscanf(line, "%llu", &v) == 1)
		h->max_open_files = v;
	else if (str_has_prefix(line + strspn(line, " "), "unlimited"))
		h->max_open_files = UINT64_MAX;
	else
		return;
	h->has_limit = true;
}

/* What is mounted as device @dev; its numbers when mountinfo does not say. */
static const char *mount_source(struct stats_round *q, dev_t dev)
{
	struct arena *a = q->ctx->arena;
	char *want = arena_printf(a, " %u:%u ", major(dev), minor(dev));
	const char *text = stats_mountinfo(q), *at = text && want ? strstr(text, want) : NULL;
	const char *end = at ? strchrnul(at, '\n') : NULL;
	const char *dash = at ? memmem(at, (size_t)(end - at), " - ", 3) : NULL;
	const char *source = dash ? memchr(dash + 3, ' ', (size_t)(end - dash - 3)) : NULL;

	if (!source)
		return device_name(a, major(dev), minor(dev));
	source++;
	return arena_strndup(a, source, strcspn(source, " \n"));
}

static void disk_read(struct emitter *e, struct disk *d)
{
	struct cri *c = e->q->c;
	const char *snapshotter = str_or(e->k->snapshotter, c->config->snapshotter), *root;
	int64_t bytes = 0, inodes, at;
	struct stat st;

	e->disk = d;
	if (cri_snapshot_usage(e->q->ctx, c, snapshotter, str_or(e->k->snapshot_key, e->k->o.id),
			       &bytes, &inodes, &at, NULL) == 0)
		e->layer = (uint64_t)bytes;
	if (d->snapshotter && streq(d->snapshotter, snapshotter))
		return;
	*d = (struct disk){.snapshotter = snapshotter};
	root = c->o.snapshotter_root(c->o.snapshotter_arg, snapshotter);
	d->known = root && statvfs(root, &d->st) == 0 && stat(root, &st) == 0 &&
		   (d->device = mount_source(e->q, st.st_dev));
}

static int64_t now_ns(void)
{
	struct timespec t = time_now();

	return t.tv_sec * NSEC_PER_SEC + t.tv_nsec;
}

static void labels_of_pod(struct emitter *e, const struct cri_pod *p)
{
	const CRI(PodSandboxMetadata) *m = p->config->metadata;

	e->base[0] = m ? str_or(m->name, "") : "";
	e->base[1] = m ? str_or(m->namespace_, "") : "";
	e->base[2] = "";
	e->base[3] = p->o.id;
	e->base[4] = str_or(p->image_ref, "");
}

static int container_values(struct stats_round *q, struct cri_pod *p, struct cri_container *k,
			    struct disk *disk, CRI(ContainerMetrics) * *ret, struct err *err)
{
	struct arena *a = q->ctx->arena;
	CRI(ContainerMetrics) *m = NEW(a, ContainerMetrics, CONTAINER_METRICS);
	struct stats_sample s _cleanup_sample_ = {0};
	struct emitter e = {.q = q, .k = k, .m = &s};
	uint32_t pid;

	*ret = NULL;
	stats_container_sample(q, k, true, &s);
	if (!s.known)
		return 0;
	e.at = s.s.at;
	pthread_mutex_lock(&p->o.lock);
	labels_of_pod(&e, p);
	pthread_mutex_unlock(&p->o.lock);
	pthread_mutex_lock(&k->o.lock);
	e.resources = k->status.resources ? k->status.resources
		      : k->config->linux  ? k->config->linux->resources
					  : NULL;
	e.started_at = k->status.started_at;
	pid = k->status.pid;
	e.base[2] = k->config->metadata ? str_or(k->config->metadata->name, "") : "";
	e.base[3] = k->o.id;
	e.base[4] = k->config->image ? str_or(k->config->image->image, "") : "";
	pthread_mutex_unlock(&k->o.lock);
	if (s.dirs)
		cri_cgroup_processes(s.dirs, hold, &e.held);
	limit_read(a, pid, &e.held);
	disk_read(&e, disk);
	for (size_t i = 0; i < ARRAY_LEN(container_metrics); i++)
		container_metrics[i].emit(&e, &container_metrics[i]);
	if (!m || e.failed)
		return err_nomem(err);
	m->container_id = (char *)k->o.id;
	m->metrics = e.v;
	m->n_metrics = e.n;
	*ret = m;
	return 0;
}

static int pod_values(struct stats_round *q, struct cri_pod *p, struct cri_object *const *all,
		      size_t n, struct disk *disk, CRI(PodSandboxMetrics) * *ret, struct err *err)
{
	struct arena *a = q->ctx->arena;
	CRI(PodSandboxMetrics) *m = NEW(a, PodSandboxMetrics, POD_SANDBOX_METRICS);
	struct emitter e = {.q = q, .at = now_ns()};
	struct cri_netdev *v;
	size_t cap = 0;
	int r = ctx_check(q->ctx, err);

	stats_pod_network(q, p, &v, &e.n_netdev);
	e.netdev = v;
	pthread_mutex_lock(&p->o.lock);
	labels_of_pod(&e, p);
	pthread_mutex_unlock(&p->o.lock);
	for (size_t i = 0; i < ARRAY_LEN(pod_metrics); i++)
		pod_metrics[i].emit(&e, &pod_metrics[i]);
	if (!m || e.failed)
		return err_nomem(err);
	for (size_t i = 0; r == 0 && i < n; i++) {
		struct cri_container *k = (struct cri_container *)all[i];
		CRI(ContainerMetrics) * x;
		if (!streq(k->pod_id, p->o.id))
			continue;
		r = container_values(q, p, k, disk, &x, err);
		if (r < 0 || !x)
			continue;
		m->container_metrics =
			arena_grow(a, m->container_metrics, &cap, m->n_container_metrics + 1,
				   sizeof(*m->container_metrics));
		if (!m->container_metrics)
			return err_nomem(err);
		m->container_metrics[m->n_container_metrics++] = x;
	}
	m->pod_sandbox_id = (char *)p->o.id;
	m->metrics = e.v;
	m->n_metrics = e.n;
	*ret = m;
	return r;
}

/* All pods that are ready; objects stay referenced while messages point into them. */
struct answer {
	struct cri_object **pods, **containers;
	size_t n_pods, n_containers;
	CRI(PodSandboxMetrics) * *items;
	size_t n;
};

static void answer_done(struct answer *l)
{
	cri_objects_unref(l->pods, l->n_pods);
	cri_objects_unref(l->containers, l->n_containers);
}

static int list(struct rpc_call *call, struct answer *l, struct err *err)
{
	struct stats_round q = {.ctx = rpc_ctx(call)};
	struct arena *a = q.ctx->arena;
	struct disk disk = {.known = false};
	int r = cri_of(call, &q.c, err);

	if (r == 0)
		r = cri_table_list(q.c->pods, a, &l->pods, &l->n_pods, err);
	if (r == 0)
		r = cri_table_list(q.c->containers, a, &l->containers, &l->n_containers, err);
	if (r < 0)
		return r;
	l->items = arena_new_array(a, CRI(PodSandboxMetrics) *, l->n_pods + 1);
	if (!l->items)
		return err_nomem(err);
	for (size_t i = 0; r == 0 && i < l->n_pods; i++) {
		struct cri_pod *p = (struct cri_pod *)l->pods[i];
		pthread_mutex_lock(&p->o.lock);
		bool ready = p->state == CRI_POD_READY;
		pthread_mutex_unlock(&p->o.lock);
		if (!ready)
			continue;
		r = pod_values(&q, p, l->containers, l->n_containers, &disk, &l->items[l->n], err);
		l->n += r == 0;
	}
	return r;
}

int cri_list_pod_sandbox_metrics(struct rpc_call *call, const void *req, struct err *err)
{
	CRI(ListPodSandboxMetricsResponse) resp = CRI_INIT(LIST_POD_SANDBOX_METRICS_RESPONSE);
	struct answer l _cleanup_(answer_done) = {0};
	int r = list(call, &l, err);

	resp.pod_metrics = l.items;
	resp.n_pod_metrics = l.n;
	return r < 0 ? r : rpc_send(call, &resp.base, err);
}

int cri_stream_pod_sandbox_metrics(struct rpc_call *call, const void *req, struct err *err)
{
	struct answer l _cleanup_(answer_done) = {0};
	int r = list(call, &l, err);

	for (size_t i = 0; r == 0 && i < l.n; i += STATS_CHUNK) {
		CRI(StreamPodSandboxMetricsResponse)
		resp = CRI_INIT(STREAM_POD_SANDBOX_METRICS_RESPONSE);
		resp.pod_sandbox_metrics = l.items + i;
		resp.n_pod_sandbox_metrics = MIN(l.n - i, (size_t)STATS_CHUNK);
		r = rpc_send(call, &resp.base, err);
	}
	return r;
}
