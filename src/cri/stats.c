/* SPDX-License-Identifier: Apache-2.0 */
/* ContainerStats, PodSandboxStats, their lists and streams. */
#include "cri/stats.h"

#include "base/str.h"
#include "base/time.h"
#include "cri/image.h"
#include "cri/stats_internal.h"

#define DEFAULT_INTERFACE "eth0"

#define NEW(a, type, NAME)                                            \
	({                                                            \
		CRI(type) *m_ = arena_new_obj(a, CRI(type));          \
		if (m_)                                               \
			*m_ = (CRI(type))RUNTIME__V1__##NAME##__INIT; \
		m_;                                                   \
	})

/* ---- parts of the messages: NULL = no memory ---- */

static CRI(UInt64Value) * u64(struct arena *a, uint64_t v)
{
	CRI(UInt64Value) *m = NEW(a, UInt64Value, UINT64_VALUE);

	if (m)
		m->value = v;
	return m;
}

static CRI(PsiData) * psi_data(struct arena *a, const struct cgroup2_psi_line *l)
{
	CRI(PsiData) *m = NEW(a, PsiData, PSI_DATA);

	if (m) {
		m->total = l->total;
		m->avg10 = l->avg10;
		m->avg60 = l->avg60;
		m->avg300 = l->avg300;
	}
	return m;
}

/* Present only where the kernel counts it. */
static int psi(struct arena *a, const struct cgroup2_psi *p, CRI(PsiStats) * *ret)
{
	CRI(PsiStats) * m;

	if (!p->present)
		return 0;
	m = NEW(a, PsiStats, PSI_STATS);
	if (!m || !(m->full = psi_data(a, &p->full)) || !(m->some = psi_data(a, &p->some)))
		return -ENOMEM;
	*ret = m;
	return 0;
}

static int cpu(struct arena *a, const struct stats_sample *m, CRI(CpuUsage) * *ret)
{
	CRI(CpuUsage) * u;

	if (!m->known || !sample_has(&m->s, SAMPLE_CPU))
		return 0;
	u = NEW(a, CpuUsage, CPU_USAGE);
	if (!u || !(u->usage_core_nano_seconds = u64(a, m->s.v[SAMPLE_CPU])) ||
	    (m->has_rate && !(u->usage_nano_cores = u64(a, m->nano_cores))))
		return -ENOMEM;
	u->timestamp = m->s.at;
	*ret = u;
	return psi(a, &m->s.cpu_psi, &u->psi);
}

static int memory(struct arena *a, const struct stats_sample *m, CRI(MemoryUsage) * *ret)
{
	const struct cri_sample *s = &m->s;
	CRI(MemoryUsage) * u;

	if (!m->known || !sample_has(s, SAMPLE_MEMORY))
		return 0;
	uint64_t set = sample_working_set(s);
	uint64_t limit =
		sample_has(s, SAMPLE_MEMORY_LIMIT) ? s->v[SAMPLE_MEMORY_LIMIT] : UINT64_MAX;
	u = NEW(a, MemoryUsage, MEMORY_USAGE);
	if (!u || !(u->working_set_bytes = u64(a, set)) ||
	    !(u->available_bytes = u64(a, sample_left(limit, set))) ||
	    !(u->usage_bytes = u64(a, s->v[SAMPLE_MEMORY])) ||
	    !(u->rss_bytes = u64(a, s->v[SAMPLE_RSS])) ||
	    !(u->page_faults = u64(a, s->v[SAMPLE_PGFAULT])) ||
	    !(u->major_page_faults = u64(a, s->v[SAMPLE_PGMAJFAULT])))
		return -ENOMEM;
	u->timestamp = s->at;
	*ret = u;
	return psi(a, &s->memory_psi, &u->psi);
}

static int swap(struct arena *a, const struct stats_sample *m, CRI(SwapUsage) * *ret)
{
	const struct cri_sample *s = &m->s;
	CRI(SwapUsage) * u;

	if (!m->known || !sample_has(s, SAMPLE_SWAP))
		return 0;
	uint64_t limit = sample_has(s, SAMPLE_SWAP_LIMIT) ? s->v[SAMPLE_SWAP_LIMIT] : UINT64_MAX;
	u = NEW(a, SwapUsage, SWAP_USAGE);
	if (!u || !(u->swap_usage_bytes = u64(a, s->v[SAMPLE_SWAP])) ||
	    !(u->swap_available_bytes = u64(a, sample_left(limit, s->v[SAMPLE_SWAP]))))
		return -ENOMEM;
	u->timestamp = s->at;
	*ret = u;
	return 0;
}

static int io(struct arena *a, const struct stats_sample *m, CRI(IoUsage) * *ret)
{
	CRI(IoUsage) * u;

	if (!m->known || !m->s.io_psi.present)
		return 0;
	u = NEW(a, IoUsage, IO_USAGE);
	if (!u)
		return -ENOMEM;
	u->timestamp = m->s.at;
	*ret = u;
	return psi(a, &m->s.io_psi, &u->psi);
}

/* ---- containers ---- */

static int attributes(struct arena *a, struct cri_container *k, CRI(ContainerAttributes) * *ret)
{
	CRI(ContainerAttributes) *m = NEW(a, ContainerAttributes, CONTAINER_ATTRIBUTES);

	if (!m)
		return -ENOMEM;
	MUTEX_GUARD(&k->o.lock);
	m->id = (char *)k->o.id;
	m->metadata = k->config->metadata;
	m->labels = (void *)k->config->labels;
	m->n_labels = k->config->n_labels;
	m->annotations = (void *)k->config->annotations;
	m->n_annotations = k->config->n_annotations;
	*ret = m;
	return 0;
}

/* What cannot be measured counts as not measured yet. */
static int layer(struct stats_round *q, struct cri_container *k, CRI(FilesystemUsage) * *ret)
{
	struct arena *a = q->ctx->arena;
	CRI(FilesystemUsage) *m = NEW(a, FilesystemUsage, FILESYSTEM_USAGE);
	CRI(FilesystemIdentifier) *id = NEW(a, FilesystemIdentifier, FILESYSTEM_IDENTIFIER);
	const char *snapshotter = str_or(k->snapshotter, q->c->config->snapshotter);
	int64_t bytes = 0, inodes = 0, at = 0;

	if (cri_snapshot_usage(q->ctx, q->c, snapshotter, str_or(k->snapshot_key, k->o.id), &bytes,
			       &inodes, &at, NULL) < 0)
		bytes = inodes = at = 0;
	if (!m || !id || !(m->used_bytes = u64(a, (uint64_t)bytes)) ||
	    !(m->inodes_used = u64(a, (uint64_t)inodes)))
		return -ENOMEM;
	id->mountpoint =
		(char *)str_or(q->c->o.snapshotter_root(q->c->o.snapshotter_arg, snapshotter), "");
	m->fs_id = id;
	m->timestamp = at;
	*ret = m;
	return 0;
}

static int container_stats(struct stats_round *q, struct cri_container *k,
			   const struct stats_sample *m, CRI(ContainerStats) * *ret,
			   struct err *err)
{
	struct arena *a = q->ctx->arena;
	CRI(ContainerStats) *s = NEW(a, ContainerStats, CONTAINER_STATS);

	if (!s || attributes(a, k, &s->attributes) < 0 || cpu(a, m, &s->cpu) < 0 ||
	    memory(a, m, &s->memory) < 0 || swap(a, m, &s->swap) < 0 || io(a, m, &s->io) < 0 ||
	    layer(q, k, &s->writable_layer) < 0)
		return err_nomem(err);
	*ret = s;
	return 0;
}

static int container_measure(struct stats_round *q, struct cri_container *k,
			     CRI(ContainerStats) * *ret, struct err *err)
{
	struct stats_sample m _cleanup_sample_ = {0};

	stats_container_sample(q, k, false, &m);
	return container_stats(q, k, &m, ret, err);
}

/* Who asks for one container is told that there is nothing to measure; lists leave the values out.
 */
static int check_runs(struct cri_container *k, struct err *err)
{
	MUTEX_GUARD(&k->o.lock);

	if (cri_status_state(&k->status) == RUNTIME__V1__CONTAINER_STATE__CONTAINER_RUNNING)
		return 0;
	return err_set_raw(err, ERR_UNKNOWN, "no metrics of container \"%s\": it does not run",
			   k->o.id);
}

int cri_container_stats(struct rpc_call *call, const void *req, struct err *err)
{
	const CRI(ContainerStatsRequest) *rq = req;
	CRI(ContainerStatsResponse) resp = CRI_INIT(CONTAINER_STATS_RESPONSE);
	_cleanup_container_ struct cri_container *k = NULL;
	struct stats_round q = {.ctx = rpc_ctx(call)};
	int r = cri_of(call, &q.c, err);

	if (r == 0)
		r = cri_table_get(q.c->containers, rq->container_id, &k, err);
	if (r == 0)
		r = check_runs(k, err);
	if (r == 0)
		r = container_measure(&q, k, &resp.stats, err);
	return r < 0 ? r : rpc_send(call, &resp.base, err);
}

static bool container_wanted(struct cri_container *k, const CRI(ContainerStatsFilter) * f)
{
	if (!f)
		return true;
	if (!str_empty(f->id) && !str_has_prefix(k->o.id, f->id))
		return false;
	if (!str_empty(f->pod_sandbox_id) && !str_has_prefix(k->pod_id, f->pod_sandbox_id))
		return false;
	return cri_labels_match(f->label_selector, f->n_label_selector, k->config->labels,
				k->config->n_labels);
}

/* A list that is answered: the objects stay referenced until it is on its way, since messages point
 * into them. */
struct answer {
	struct cri_object **v;
	size_t n;
	void **items;
	size_t n_items;
};

static void answer_done(struct answer *l)
{
	cri_objects_unref(l->v, l->n);
}

static int list_containers(struct rpc_call *call, const CRI(ContainerStatsFilter) * f,
			   struct answer *l, struct err *err)
{
	struct stats_round q = {.ctx = rpc_ctx(call)};
	int r = cri_of(call, &q.c, err);

	if (r == 0)
		r = cri_table_list(q.c->containers, q.ctx->arena, &l->v, &l->n, err);
	if (r < 0)
		return r;
	l->items = arena_new_array(q.ctx->arena, void *, l->n + 1);
	if (!l->items)
		return err_nomem(err);
	for (size_t i = 0; r == 0 && i < l->n; i++) {
		CRI(ContainerStats) * s;
		if (!container_wanted((struct cri_container *)l->v[i], f))
			continue;
		r = ctx_check(q.ctx, err);
		if (r == 0)
			r = container_measure(&q, (struct cri_container *)l->v[i], &s, err);
		if (r == 0)
			l->items[l->n_items++] = s;
	}
	return r;
}

int cri_list_container_stats(struct rpc_call *call, const void *req, struct err *err)
{
	const CRI(ListContainerStatsRequest) *rq = req;
	CRI(ListContainerStatsResponse) resp = CRI_INIT(LIST_CONTAINER_STATS_RESPONSE);
	struct answer l _cleanup_(answer_done) = {0};
	int r = list_containers(call, rq->filter, &l, err);

	resp.stats = (CRI(ContainerStats) **)l.items;
	resp.n_stats = l.n_items;
	return r < 0 ? r : rpc_send(call, &resp.base, err);
}

int cri_stream_container_stats(struct rpc_call *call, const void *req, struct err *err)
{
	const CRI(StreamContainerStatsRequest) *rq = req;
	struct answer l _cleanup_(answer_done) = {0};
	int r = list_containers(call, rq->filter, &l, err);

	for (size_t i = 0; r == 0 && i < l.n_items; i += STATS_CHUNK) {
		CRI(StreamContainerStatsResponse) resp = CRI_INIT(STREAM_CONTAINER_STATS_RESPONSE);
		resp.container_stats = (CRI(ContainerStats) **)l.items + i;
		resp.n_container_stats = MIN(l.n_items - i, (size_t)STATS_CHUNK);
		r = rpc_send(call, &resp.base, err);
	}
	return r;
}

/* ---- pods ---- */

static CRI(NetworkInterfaceUsage) * interface(struct arena *a, const struct cri_netdev *d)
{
	CRI(NetworkInterfaceUsage) *m = NEW(a, NetworkInterfaceUsage, NETWORK_INTERFACE_USAGE);

	if (!m || !(m->rx_bytes = u64(a, d->rx_bytes)) || !(m->rx_errors = u64(a, d->rx_errors)) ||
	    !(m->tx_bytes = u64(a, d->tx_bytes)) || !(m->tx_errors = u64(a, d->tx_errors)))
		return NULL;
	m->name = (char *)d->name;
	return m;
}

static int64_t now_ns(void)
{
	struct timespec t = time_now();

	return t.tv_sec * NSEC_PER_SEC + t.tv_nsec;
}

static int network(struct stats_round *q, struct cri_pod *p, CRI(NetworkUsage) * *ret)
{
	struct arena *a = q->ctx->arena;
	CRI(NetworkUsage) * u;
	struct cri_netdev *v;
	size_t n;

	stats_pod_network(q, p, &v, &n);
	if (n == 0)
		return 0;
	u = NEW(a, NetworkUsage, NETWORK_USAGE);
	if (!u || !(u->interfaces = arena_new_array(a, CRI(NetworkInterfaceUsage) *, n)))
		return -ENOMEM;
	u->timestamp = now_ns();
	for (size_t i = 0; i < n; i++) {
		CRI(NetworkInterfaceUsage) *m = interface(a, &v[i]);
		if (!m)
			return -ENOMEM;
		if (streq(v[i].name, DEFAULT_INTERFACE))
			u->default_interface = m;
		else
			u->interfaces[u->n_interfaces++] = m;
	}
	*ret = u;
	return 0;
}

/* A pod whose configuration names no group is the sum of its containers. */
static void add(struct stats_sample *sum, const struct stats_sample *m)
{
	if (!m->known)
		return;
	sum->known = true;
	sum->s.at = m->s.at;
	sum->s.has |= m->s.has;
	for (int i = 0; i < SAMPLE_N; i++)
		if (__builtin_add_overflow(sum->s.v[i], m->s.v[i], &sum->s.v[i]))
			sum->s.v[i] = UINT64_MAX;
	sum->has_rate = sum->has_rate || m->has_rate;
	sum->nano_cores += m->nano_cores;
}

struct pod_parts {
	struct stats_sample sum;
	uint64_t processes;
	CRI(ContainerStats) * *containers;
	size_t n;
};

static int pod_containers(struct stats_round *q, const char *pod, struct cri_object *const *all,
			  size_t n, struct pod_parts *ret, struct err *err)
{
	size_t cap = 0;
	int r = ctx_check(q->ctx, err);

	for (size_t i = 0; r == 0 && i < n; i++) {
		struct cri_container *k = (struct cri_container *)all[i];
		struct stats_sample m _cleanup_sample_ = {0};
		if (!streq(k->pod_id, pod))
			continue;
		stats_container_sample(q, k, false, &m);
		add(&ret->sum, &m);
		if (m.dirs)
			ret->processes += cri_cgroup_processes(m.dirs, NULL, NULL);
		else
			ret->processes += stats_number(&m, SAMPLE_THREADS);
		ret->containers = arena_grow(q->ctx->arena, ret->containers, &cap, ret->n + 1,
					     sizeof(*ret->containers));
		if (!ret->containers)
			return err_nomem(err);
		r = container_stats(q, k, &m, &ret->containers[ret->n], err);
		ret->n += r == 0;
	}
	return r;
}

static int pod_linux(struct stats_round *q, struct cri_pod *p, struct cri_object *const *all,
		     size_t n, CRI(LinuxPodSandboxStats) * *ret, struct err *err)
{
	struct arena *a = q->ctx->arena;
	CRI(LinuxPodSandboxStats) *l = NEW(a, LinuxPodSandboxStats, LINUX_POD_SANDBOX_STATS);
	CRI(ProcessUsage) *processes = NEW(a, ProcessUsage, PROCESS_USAGE);
	struct stats_sample own _cleanup_sample_ = {0};
	struct pod_parts parts = {.n = 0};

	stats_pod_sample(q, p, false, &own);
	int r = pod_containers(q, p->o.id, all, n, &parts, err);
	if (r < 0)
		return r;
	const struct stats_sample *m = own.known ? &own : &parts.sum;
	if (!l || !processes || cpu(a, m, &l->cpu) < 0 || memory(a, m, &l->memory) < 0 ||
	    io(a, m, &l->io) < 0 || network(q, p, &l->network) < 0 ||
	    !(processes->process_count = u64(a, parts.processes)))
		return err_nomem(err);
	/* Limits of containers add up to none of the pod. */
	if (!own.known && l->memory)
		l->memory->available_bytes->value = 0;
	processes->timestamp = now_ns();
	l->process = processes;
	l->containers = parts.containers;
	l->n_containers = parts.n;
	*ret = l;
	return 0;
}

/* -ERR_UNAVAILABLE: the pod is not ready. */
static int pod_stats(struct stats_round *q, struct cri_pod *p, struct cri_object *const *all,
		     size_t n, CRI(PodSandboxStats) * *ret, struct err *err)
{
	struct arena *a = q->ctx->arena;
	CRI(PodSandboxStats) *s = NEW(a, PodSandboxStats, POD_SANDBOX_STATS);
	CRI(PodSandboxAttributes) *m = NEW(a, PodSandboxAttributes, POD_SANDBOX_ATTRIBUTES);

	if (!s || !m)
		return err_nomem(err);
	pthread_mutex_lock(&p->o.lock);
	bool ready = p->state == CRI_POD_READY;
	m->id = (char *)p->o.id;
	m->metadata = p->config->metadata;
	m->labels = (void *)p->config->labels;
	m->n_labels = p->config->n_labels;
	m->annotations = (void *)p->config->annotations;
	m->n_annotations = p->config->n_annotations;
	pthread_mutex_unlock(&p->o.lock);
	if (!ready)
		return err_set(err, ERR_UNAVAILABLE,
			       "failed to get pod sandbox stats since sandbox container \"%s\" is "
			       "not in ready state",
			       p->o.id);
	s->attributes = m;
	int r = pod_linux(q, p, all, n, &s->linux, err);
	if (r == 0)
		*ret = s;
	return r;
}

int cri_pod_sandbox_stats(struct rpc_call *call, const void *req, struct err *err)
{
	const CRI(PodSandboxStatsRequest) *rq = req;
	CRI(PodSandboxStatsResponse) resp = CRI_INIT(POD_SANDBOX_STATS_RESPONSE);
	struct answer containers _cleanup_(answer_done) = {0};
	_cleanup_pod_ struct cri_pod *p = NULL;
	struct stats_round q = {.ctx = rpc_ctx(call)};
	int r = cri_of(call, &q.c, err);

	if (r == 0)
		r = cri_table_get(q.c->pods, rq->pod_sandbox_id, &p, err);
	if (r == 0)
		r = cri_table_list(q.c->containers, q.ctx->arena, &containers.v, &containers.n,
				   err);
	if (r == 0)
		r = pod_stats(&q, p, containers.v, containers.n, &resp.stats, err);
	return r < 0 ? r : rpc_send(call, &resp.base, err);
}

static bool pod_wanted(struct cri_pod *p, const CRI(PodSandboxStatsFilter) * f)
{
	return !f || ((str_empty(f->id) || str_has_prefix(p->o.id, f->id)) &&
		      cri_labels_match(f->label_selector, f->n_label_selector, p->config->labels,
				       p->config->n_labels));
}

/* Pods that are not ready are left out. */
static int list_pods(struct rpc_call *call, const CRI(PodSandboxStatsFilter) * f, struct answer *l,
		     struct answer *containers, struct err *err)
{
	struct stats_round q = {.ctx = rpc_ctx(call)};
	int r = cri_of(call, &q.c, err);

	if (r == 0)
		r = cri_table_list(q.c->pods, q.ctx->arena, &l->v, &l->n, err);
	if (r == 0)
		r = cri_table_list(q.c->containers, q.ctx->arena, &containers->v, &containers->n,
				   err);
	if (r < 0)
		return r;
	l->items = arena_new_array(q.ctx->arena, void *, l->n + 1);
	if (!l->items)
		return err_nomem(err);
	for (size_t i = 0; i < l->n; i++) {
		struct cri_pod *p = (struct cri_pod *)l->v[i];
		CRI(PodSandboxStats) * s;
		if (!pod_wanted(p, f))
			continue;
		r = pod_stats(&q, p, containers->v, containers->n, &s, err);
		if (r == 0)
			l->items[l->n_items++] = s;
		else if (r != -ERR_UNAVAILABLE)
			return r;
	}
	return 0;
}

int cri_list_pod_sandbox_stats(struct rpc_call *call, const void *req, struct err *err)
{
	const CRI(ListPodSandboxStatsRequest) *rq = req;
	CRI(ListPodSandboxStatsResponse) resp = CRI_INIT(LIST_POD_SANDBOX_STATS_RESPONSE);
	struct answer l _cleanup_(answer_done) = {0}, containers _cleanup_(answer_done) = {0};
	int r = list_pods(call, rq->filter, &l, &containers, err);

	resp.stats = (CRI(PodSandboxStats) **)l.items;
	resp.n_stats = l.n_items;
	return r < 0 ? r : rpc_send(call, &resp.base, err);
}

int cri_stream_pod_sandbox_stats(struct rpc_call *call, const void *req, struct err *err)
{
	const CRI(StreamPodSandboxStatsRequest) *rq = req;
	struct answer l _cleanup_(answer_done) = {0}, containers _cleanup_(answer_done) = {0};
	int r = list_pods(call, rq->filter, &l, &containers, err);

	for (size_t i = 0; r == 0 && i < l.n_items; i += STATS_CHUNK) {
		CRI(StreamPodSandboxStatsResponse)
		resp = CRI_INIT(STREAM_POD_SANDBOX_STATS_RESPONSE);
		resp.pod_sandbox_stats = (CRI(PodSandboxStats) **)l.items + i;
		resp.n_pod_sandbox_stats = MIN(l.n_items - i, (size_t)STATS_CHUNK);
		r = rpc_send(call, &resp.base, err);
	}
	return r;
}
