/* SPDX-License-Identifier: Apache-2.0 */
/* Where containers are, and what they used when somebody asked last.
 *
 * A tree of entries by id: directories of the control group, and two points in time from which
 * rates are made: the last two questions that were at least the configured period apart. Older ones
 * than the configured retention say nothing any more. An entry holds no descriptor and goes with
 * its container; one whose group has gone is dropped and found anew. */
#include <fcntl.h>
#include <search.h>
#include <stdlib.h>

#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "base/path.h"
#include "base/str.h"
#include "base/time.h"
#include "cri/stats.h"
#include "cri/stats_internal.h"
#include "oci/spec.h"
#include "plugins/runtime/runtime.h"

#define PERIOD_NS NSEC_PER_SEC
#define RETENTION_NS (2 * 60 * NSEC_PER_SEC)
#define SHORTEST_NS (10 * NSEC_PER_MSEC) /* less time than this makes no rate */
#define MOUNTINFO_MAX (16u << 20)

struct point {
	int64_t mono;
	uint64_t cpu;
};

struct stats_entry {
	const char *id;	     /* in @arena */
	struct arena *arena; /* fixed after it was made */
	bool elsewhere;	     /* its group is not on this host: the shim knows */
	struct cgroup_dirs dirs;
	/* Under the lock of cri_stats. */
	unsigned refs;
	struct point before, last;
};

struct cri_stats {
	pthread_mutex_t lock;
	void *entries; /* of tsearch() */
	int64_t period_ns, retention_ns;
};

static int by_id(const void *a, const void *b)
{
	return strcmp(((const struct stats_entry *)a)->id, ((const struct stats_entry *)b)->id);
}

/* Locked, or nobody else has it. */
static void entry_unref(struct stats_entry *e)
{
	if (--e->refs == 0)
		arena_free(e->arena);
}

int cri_stats_new(struct cri *c, struct cri_stats **ret, struct err *err)
{
	struct cri_stats *s = calloc(1, sizeof(*s));

	if (!s)
		return err_nomem(err);
	pthread_mutex_init(&s->lock, NULL);
	s->period_ns = c->config->stats_period_ns > 0 ? c->config->stats_period_ns : PERIOD_NS;
	s->retention_ns =
		c->config->stats_retention_ns > 0 ? c->config->stats_retention_ns : RETENTION_NS;
	*ret = s;
	return 0;
}

/* Nothing runs by itself. */
void cri_stats_stop(struct cri_stats *s)
{
}

static void entry_release(void *e)
{
	entry_unref(e);
}

void cri_stats_free(struct cri_stats *s)
{
	if (!s)
		return;
	tdestroy(s->entries, entry_release);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

void cri_stats_forget(struct cri_stats *s, const char *id)
{
	struct stats_entry key = {.id = id}, **at;

	MUTEX_GUARD(&s->lock);
	at = tfind(&key, &s->entries, by_id);
	if (!at)
		return;
	struct stats_entry *e = *at;
	tdelete(&key, &s->entries, by_id);
	entry_unref(e);
}

/* ---- entries ---- */

const char *stats_mountinfo(struct stats_round *q)
{
	char *text;
	size_t n;

	if (!q->mountinfo && file_read(q->ctx->arena, AT_FDCWD, "/proc/self/mountinfo",
				       MOUNTINFO_MAX, &text, &n) == 0)
		q->mountinfo = text;
	return q->mountinfo;
}

static struct stats_entry *entry_find(struct cri_stats *s, const char *id)
{
	struct stats_entry key = {.id = id}, **at;

	MUTEX_GUARD(&s->lock);
	at = tfind(&key, &s->entries, by_id);
	if (!at)
		return NULL;
	(*at)->refs++;
	return *at;
}

static struct stats_entry *entry_new(const char *id)
{
	struct arena *a = arena_new(0);
	struct stats_entry *e = a ? arena_new_obj(a, struct stats_entry) : NULL;

	if (e && (e->id = arena_strdup(a, id))) {
		e->arena = a;
		e->refs = 1;
		return e;
	}
	arena_free(a);
	return NULL;
}

/* Takes @e over; who was first wins. */
static struct stats_entry *entry_add(struct cri_stats *s, struct stats_entry *e)
{
	struct stats_entry **at;

	MUTEX_GUARD(&s->lock);
	at = tsearch(e, &s->entries, by_id);
	if (!at) { /* no memory: it serves this question */
		return e;
	}
	if (*at != e)
		entry_unref(e);
	(*at)->refs++;
	return *at;
}

/* The group that the specification asks for. */
static char *leaf_of_record(struct ctx *ctx, struct cri *c, const char *id)
{
	struct container record;

	if (container_get(ctx, c->o.db, id, &record, NULL) < 0)
		return NULL;
	json_t *spec _cleanup_json_ = json_loadb(record.spec.value, record.spec.len, 0, NULL);
	const json_t *path = spec ? spec_get(spec, "linux/cgroupsPath") : NULL;
	return json_is_string(path) ? cri_cgroup_leaf(ctx->arena, json_string_value(path)) : NULL;
}

/* A container's group is named after it, in the way of cgroupfs or in systemd's; unless somebody
 * has changed the specification. */
static int locate_container(struct stats_round *q, const char *id, const char *text,
			    struct stats_entry *e)
{
	struct arena *a = q->ctx->arena;
	char *scope = arena_printf(a, "cri-containerd-%s.scope", id);
	int r = scope ? cri_cgroup_locate(e->arena, text, q->mountinfo, id, &e->dirs) : -ENOMEM;

	if (r == -ENOENT)
		r = cri_cgroup_locate(e->arena, text, q->mountinfo, scope, &e->dirs);
	if (r == -ENOENT) {
		const char *leaf = leaf_of_record(q->ctx, q->c, id);
		if (leaf)
			r = cri_cgroup_locate(e->arena, text, q->mountinfo, leaf, &e->dirs);
	}
	return r;
}

/* With a reference; NULL: it cannot be told. @parent: of a pod, NULL = a container's own. */
static struct stats_entry *entry_of(struct stats_round *q, const char *id, uint32_t pid,
				    const char *parent)
{
	struct stats_entry *e = entry_find(q->c->stats, id);
	char *text;
	int r;

	if (e || pid == 0)
		return e;
	if (cgroup_text_read(q->ctx->arena, (int)pid, &text) < 0 || !stats_mountinfo(q))
		return NULL;
	e = entry_new(id);
	if (!e)
		return NULL;
	r = parent ? cri_cgroup_locate(e->arena, text, q->mountinfo, path_base(parent), &e->dirs)
		   : locate_container(q, id, text, e);
	e->elsewhere = r == -ENOENT;
	if (r == 0 || e->elsewhere)
		return entry_add(q->c->stats, e);
	entry_unref(e);
	return NULL;
}

/* ---- samples ---- */

void stats_sample_done(struct stats_sample *m)
{
	struct stats_entry *e = m->entry;

	m->entry = NULL;
	if (!e)
		return;
	pthread_mutex_t *lock = m->lock;
	MUTEX_GUARD(lock);
	entry_unref(e);
}

/* What was used between an earlier question and now, for a second. */
static void rate(struct cri_stats *s, struct stats_entry *e, struct stats_sample *m)
{
	struct point now = {m->s.mono, m->s.v[SAMPLE_CPU]}, from;

	if (!sample_has(&m->s, SAMPLE_CPU))
		return;
	MUTEX_GUARD(&s->lock);
	from = now.mono - e->last.mono < s->period_ns && e->before.mono ? e->before : e->last;
	int64_t t = now.mono - from.mono;
	if (from.mono && t >= SHORTEST_NS && t <= s->retention_ns && now.cpu >= from.cpu) {
		m->has_rate = true;
		m->nano_cores = (uint64_t)((double)(now.cpu - from.cpu) / (double)t * 1e9);
	}
	if (!e->last.mono || now.mono - e->last.mono >= s->period_ns) {
		e->before = e->last;
		e->last = now;
	}
}

int cri_stats_of_task(struct ctx *ctx, struct cri *c, const char *id, struct cri_sample *ret)
{
	Containerd__Task__V3__StatsRequest req = CONTAINERD__TASK__V3__STATS_REQUEST__INIT;
	Containerd__Task__V3__StatsResponse *resp;
	struct task *task _cleanup_(task_unrefp) = NULL;
	struct ctx limited = {.arena = ctx->arena,
			      .ns = CRI_NS,
			      .lease = "",
			      .deadline = time_mono() + runtime_stats_timeout(c->o.runtime),
			      .parent = ctx};
	struct err err = ERR_INIT;
	struct any stats;

	if (runtime_get(&limited, c->o.runtime, id, &task, NULL) < 0)
		return -ENOENT;
	req.id = (char *)id;
	if (task_call(&limited, task, "Stats", &req.base,
		      &containerd__task__v3__stats_response__descriptor, &resp, &err) < 0) {
		log_debug("statistics of container %s: %s", id, err.text);
		return -ENOENT;
	}
	if (!resp->stats)
		return -ENOENT;
	stats = (struct any){resp->stats->type_url, resp->stats->value.data,
			     resp->stats->value.len};
	return cri_sample_unpack(ctx->arena, &stats, ret);
}

/* Takes the reference to @e over. */
static void measure(struct stats_round *q, struct stats_entry *e, bool detailed,
		    struct stats_sample *m)
{
	int r;

	m->entry = e;
	m->lock = &q->c->stats->lock;
	if (e->elsewhere)
		r = cri_stats_of_task(q->ctx, q->c, e->id, &m->s);
	else
		r = cri_sample_read(q->ctx->arena, &e->dirs, detailed, &m->s);
	if (r < 0) {
		/* Ended since, or moved: looked for again next time. */
		if (!e->elsewhere)
			cri_stats_forget(q->c->stats, e->id);
		return;
	}
	m->known = true;
	m->dirs = e->elsewhere ? NULL : &e->dirs;
	rate(q->c->stats, e, m);
}

static uint32_t running_pid(struct cri_container *k)
{
	MUTEX_GUARD(&k->o.lock);
	return cri_status_state(&k->status) == RUNTIME__V1__CONTAINER_STATE__CONTAINER_RUNNING &&
			       !k->removing && !k->removed
		       ? k->status.pid
		       : 0;
}

void stats_container_sample(struct stats_round *q, struct cri_container *k, bool detailed,
			    struct stats_sample *ret)
{
	uint32_t pid = running_pid(k);
	struct stats_entry *e;

	*ret = (struct stats_sample){0};
	if (pid == 0 || !(e = entry_of(q, k->o.id, pid, NULL)))
		return;
	measure(q, e, detailed, ret);
	/* It may have been forgotten before it was entered. */
	if (running_pid(k) == 0)
		cri_stats_forget(q->c->stats, k->o.id);
}

static uint32_t ready_pid(struct cri_pod *p, const char **ret_parent)
{
	MUTEX_GUARD(&p->o.lock);
	*ret_parent = p->config->linux ? str_or(p->config->linux->cgroup_parent, "") : "";
	return p->state == CRI_POD_READY ? p->pid : 0;
}

void stats_pod_sample(struct stats_round *q, struct cri_pod *p, bool detailed,
		      struct stats_sample *ret)
{
	const char *parent;
	uint32_t pid = ready_pid(p, &parent);
	struct stats_entry *e;

	*ret = (struct stats_sample){0};
	if (pid == 0 || str_empty(path_base(parent)) || !(e = entry_of(q, p->o.id, pid, parent)))
		return;
	if (e->elsewhere) { /* its shim knows of the sandbox alone */
		ret->entry = e;
		ret->lock = &q->c->stats->lock;
	} else
		measure(q, e, detailed, ret);
	if (ready_pid(p, &parent) == 0)
		cri_stats_forget(q->c->stats, p->o.id);
}

void stats_pod_network(struct stats_round *q, struct cri_pod *p, struct cri_netdev **ret,
		       size_t *ret_n)
{
	const char *unused;
	uint32_t pid = p->host_network ? 0 : ready_pid(p, &unused);

	if (pid == 0 || cri_netdev_read(q->ctx->arena, pid, ret, ret_n) < 0) {
		*ret = NULL;
		*ret_n = 0;
	}
}
