/* SPDX-License-Identifier: Apache-2.0 */
/* One sequence of events, packed once; subscribers get copies of the bytes. The lock covers the
 * whole of telling an event, so that all see one order. */
#include "cri/event.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/time.h"
#include "cri/timers.h"
#include "event/loop.h"

#define KEEP_NS (300 * NSEC_PER_SEC)
#define KEEP_MAX 1000
#define KEEP_BYTES (256u << 10)
#define QUEUE_MAX (4u << 20) /* bytes that a subscriber may leave unread */

struct kept {
	int64_t at;
	size_t n;
	uint8_t *p;
};

struct subscriber {
	struct cri_events *e;
	struct rpc_call *call;
	struct subscriber *next;
};

struct cri_events {
	struct cri *c;
	pthread_mutex_t lock; /* guards all below */
	struct subscriber *subscribers;
	struct kept kept[KEEP_MAX]; /* a ring: what nobody was there for */
	size_t first, n_kept, kept_bytes;
	bool stopped;
};

int cri_events_new(struct cri *c, struct cri_events **ret, struct err *err)
{
	struct cri_events *e = calloc(1, sizeof(*e));

	if (!e)
		return err_nomem(err);
	e->c = c;
	pthread_mutex_init(&e->lock, NULL);
	*ret = e;
	return 0;
}

static void drop_oldest(struct cri_events *e)
{
	e->kept_bytes -= e->kept[e->first].n;
	free(e->kept[e->first].p);
	e->first = (e->first + 1) % KEEP_MAX;
	e->n_kept--;
}

static void lose_oldest(struct cri_events *e)
{
	drop_oldest(e);
	cri_count_event_dropped(e->c);
}

static void keep(struct cri_events *e, const uint8_t *p, size_t n)
{
	int64_t now = time_mono();

	while (e->n_kept && (e->n_kept == KEEP_MAX || e->kept_bytes + n > KEEP_BYTES ||
			     now - e->kept[e->first].at > KEEP_NS))
		lose_oldest(e);
	uint8_t *copy = malloc(n + 1);
	if (!copy) {
		cri_count_event_dropped(e->c);
		log_error("CRI events: one is lost: no memory");
		return;
	}
	memcpy(copy, p, n);
	e->kept_bytes += n;
	e->kept[(e->first + e->n_kept++) % KEEP_MAX] = (struct kept){now, n, copy};
}

/* Takes @s out of the list; false: it is not in there any more. Locked. */
static bool take_out(struct cri_events *e, struct subscriber *s)
{
	for (struct subscriber **p = &e->subscribers; *p; p = &(*p)->next)
		if (*p == s) {
			*p = s->next;
			return true;
		}
	return false;
}

static void release(void *arg)
{
	free(arg);
}

/* Out of the list already. A cancellation may be on its way on the loop: the memory goes after it.
 */
static void finish(struct subscriber *s, const struct err *err)
{
	struct loop *loop = s->e->c->o.loop;

	rpc_finish(s->call, err);
	if (loop_post(loop, release, s) < 0)
		log_error("CRI events: no memory");
}

static void cancelled(void *arg)
{
	struct subscriber *s = arg;
	struct err err = ERR_INIT;

	pthread_mutex_lock(&s->e->lock);
	bool mine = take_out(s->e, s);
	pthread_mutex_unlock(&s->e->lock);
	if (!mine)
		return;
	err_set(&err, ERR_CANCELED, "the subscriber is gone");
	finish(s, &err);
}

/* Locked. */
static void tell(struct cri_events *e, const uint8_t *p, size_t n)
{
	struct subscriber **at = &e->subscribers;

	if (!*at) {
		keep(e, p, n);
		return;
	}
	while (*at) {
		struct subscriber *s = *at;
		struct err err = ERR_INIT;
		if (rpc_send_packed_nowait(s->call, p, n, QUEUE_MAX, &err) == 0) {
			at = &s->next;
			continue;
		}
		*at = s->next;
		finish(s, &err);
	}
}

static int fill(struct ctx *ctx, struct cri *c, struct cri_pod *pod,
		CRI(ContainerEventResponse) * m, struct cri_container **v, size_t n,
		struct err *err)
{
	int r = cri_pod_status(ctx, c, pod, &m->pod_sandbox_status, err);

	m->containers_statuses = arena_new_array(ctx->arena, CRI(ContainerStatus) *, n + 1);
	if (!m->containers_statuses)
		return err_nomem(err);
	for (size_t i = 0; r == 0 && i < n; i++)
		r = cri_container_status_of(
			ctx, c, v[i], &m->containers_statuses[m->n_containers_statuses++], err);
	return r;
}

void cri_event(struct ctx *ctx, struct cri *c, struct cri_pod *pod, const char *id,
	       CRI(ContainerEventType) type)
{
	CRI(ContainerEventResponse) m = CRI_INIT(CONTAINER_EVENT_RESPONSE);
	struct cri_container **v = NULL;
	struct err err = ERR_INIT;
	size_t n = 0, len;
	uint8_t *p = NULL;

	/* Under the lock: an event that comes later shows a state that is not older. */
	MUTEX_GUARD(&c->events->lock);
	struct timespec now = time_now();
	m.container_id = (char *)id;
	m.container_event_type = type;
	m.created_at = now.tv_sec * NSEC_PER_SEC + now.tv_nsec;
	int r = cri_pod_containers(ctx, c, pod->o.id, &v, &n, &err);
	if (r == 0)
		r = fill(ctx, c, pod, &m, v, n, &err);
	if (r == 0) {
		p = rpc_pack(ctx->arena, &m.base, &len);
		r = p ? 0 : err_nomem(&err);
	}
	cri_objects_unref((struct cri_object **)v, n);
	if (r < 0)
		log_error("CRI event of %s: %s", id, err.text);
	else if (!c->events->stopped)
		tell(c->events, p, len);
}

int cri_get_container_events(struct rpc_call *call, const void *req, struct err *err)
{
	struct subscriber *s;
	struct cri *c;
	int r = cri_of(call, &c, err);

	if (r < 0)
		return r;
	struct cri_events *e = c->events;
	s = calloc(1, sizeof(*s));
	if (!s)
		return err_nomem(err);
	*s = (struct subscriber){.e = e, .call = call};
	int deferred = rpc_defer_wait(call);
	pthread_mutex_lock(&e->lock);
	int64_t now = time_mono();
	while (e->n_kept && now - e->kept[e->first].at > KEEP_NS)
		lose_oldest(e);
	for (size_t i = 0; r == 0 && i < e->n_kept; i++) {
		const struct kept *k = &e->kept[(e->first + i) % KEEP_MAX];
		r = rpc_send_packed_nowait(call, k->p, k->n, QUEUE_MAX, err);
	}
	if (r == 0 && e->stopped)
		r = err_set(err, ERR_UNAVAILABLE, "the daemon stops");
	if (r == 0) {
		while (e->n_kept)
			drop_oldest(e);
		s->next = e->subscribers;
		e->subscribers = s;
		/* Under the lock: nobody finishes the call before it can be cancelled. */
		rpc_on_cancel(call, cancelled, s);
	}
	pthread_mutex_unlock(&e->lock);
	if (r < 0)
		finish(s, err);
	return deferred;
}

void cri_events_stop(struct cri_events *e)
{
	struct err err = ERR_INIT;

	err_set(&err, ERR_UNAVAILABLE, "the daemon stops");
	pthread_mutex_lock(&e->lock);
	e->stopped = true;
	while (e->subscribers) {
		struct subscriber *s = e->subscribers;
		e->subscribers = s->next;
		finish(s, &err);
	}
	pthread_mutex_unlock(&e->lock);
}

void cri_events_free(struct cri_events *e)
{
	if (!e)
		return;
	while (e->n_kept)
		drop_oldest(e);
	pthread_mutex_destroy(&e->lock);
	free(e);
}
