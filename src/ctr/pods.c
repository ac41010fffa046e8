/* SPDX-License-Identifier: Apache-2.0 */
/* Pods and containers by the daemon's runtime.v1, for the commands of `ctr pods`: see pods.h. */
#include "ctr/pods.h"

#include <stdlib.h>

#include "ctr/commands.h"

#define NAMES_SHOWN 10

int pods_call(struct ctr *c, const char *method, const ProtobufCMessage *req, void *ret,
	      struct err *err)
{
	int r = client_call(c->client, &c->ctx, &runtime__v1__runtime_service__descriptor, method,
			    req, ret, err);

	if (r == -ERR_UNIMPLEMENTED)
		return err_set_raw(err, ERR_UNIMPLEMENTED,
				   "the daemon serves no CRI: %s (see ctr plugins ls)",
				   arena_strdup(c->ctx.arena, err->text));
	return r;
}

int pods_no_more_args(const struct ctr *c, size_t max, struct err *err)
{
	for (size_t i = 1; i < c->n_args; i++)
		if (ctr_arg(c, i)[0] == '-')
			return err_set_raw(err, ERR_INVALID_ARGUMENT,
					   "\"%s\" comes too late: flags go before the names",
					   ctr_arg(c, i));
	if (c->n_args > max)
		return err_set_raw(err, ERR_INVALID_ARGUMENT, "\"%s\" is one word too many",
				   ctr_arg(c, max));
	return 0;
}

/* ---- in order ---- */

static int metadata_cmp(const CRI(PodSandboxMetadata) * a, const CRI(PodSandboxMetadata) * b)
{
	int r = strcmp(a->namespace_, b->namespace_);

	r = r ? r : strcmp(a->name, b->name);
	return r ? r : (a->attempt < b->attempt) - (a->attempt > b->attempt);
}

static int pod_cmp(const void *a, const void *b)
{
	const CRI(PodSandbox) *const *x = a, *const *y = b;
	int r = metadata_cmp((*x)->metadata, (*y)->metadata);

	return r ? r : strcmp((*x)->id, (*y)->id);
}

/* Names first, the newest of one name before the others. */
static int container_cmp(const void *a, const void *b)
{
	const CRI(Container) *const *x = a, *const *y = b;
	int r = strcmp((*x)->metadata->name, (*y)->metadata->name);

	return r ? r
		 : ((*x)->created_at < (*y)->created_at) - ((*x)->created_at > (*y)->created_at);
}

int pods_get(struct ctr *c, CRI(ListPodSandboxResponse) * *ret, struct err *err)
{
	CRI(ListPodSandboxRequest) req = CRI_INIT(LIST_POD_SANDBOX_REQUEST);
	CRI(ListPodSandboxResponse) * l;
	int r = pods_call(c, "ListPodSandbox", &req.base, &l, err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < l->n_items; i++)
		if (!l->items[i]->metadata)
			return err_set(err, ERR_INTERNAL, "pod %s came without its name",
				       l->items[i]->id);
	if (l->n_items > 0)
		qsort(l->items, l->n_items, sizeof(l->items[0]), pod_cmp);
	*ret = l;
	return 0;
}

int pods_containers_get(struct ctr *c, CRI(ListContainersResponse) * *ret, struct err *err)
{
	CRI(ListContainersRequest) req = CRI_INIT(LIST_CONTAINERS_REQUEST);
	CRI(ListContainersResponse) * l;
	int r = pods_call(c, "ListContainers", &req.base, &l, err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < l->n_containers; i++)
		if (!l->containers[i]->metadata)
			return err_set(err, ERR_INTERNAL, "container %s came without its name",
				       l->containers[i]->id);
	if (l->n_containers > 0)
		qsort(l->containers, l->n_containers, sizeof(l->containers[0]), container_cmp);
	*ret = l;
	return 0;
}

int pods_container_status(struct ctr *c, const char *id, CRI(ContainerStatus) * *ret,
			  struct err *err)
{
	CRI(ContainerStatusRequest) req = CRI_INIT(CONTAINER_STATUS_REQUEST);
	CRI(ContainerStatusResponse) * resp;

	req.container_id = (char *)id;
	int r = pods_call(c, "ContainerStatus", &req.base, &resp, err);
	if (r == 0 && !resp->status)
		return err_set(err, ERR_INTERNAL, "container %s came without a status", id);
	if (r == 0)
		*ret = resp->status;
	return r;
}

/* ---- finding ---- */

/* 3 = that is it, 2 and 1: less surely, 0 = no. */
static int pod_rank(struct arena *a, const CRI(PodSandbox) * p, const char *name)
{
	const char *full = arena_printf(a, "%s/%s", p->metadata->namespace_, p->metadata->name);

	if (streq(p->id, name) || (full && streq(full, name)))
		return 3;
	if (streq(p->metadata->name, name))
		return 2;
	return str_has_prefix(p->id, name);
}

/* Of several with one name the one that is ready. */
int pods_find(struct ctr *c, const char *name, const CRI(PodSandbox) * *ret, struct err *err)
{
	CRI(ListPodSandboxResponse) * all;
	const CRI(PodSandbox) *best = NULL;
	int rank = 0, same = 0, r = pods_get(c, &all, err);

	for (size_t i = 0; r == 0 && i < all->n_items; i++) {
		const CRI(PodSandbox) *p = all->items[i];
		int now = pod_rank(c->ctx.arena, p, name) * 2;
		if (now && p->state == RUNTIME__V1__POD_SANDBOX_STATE__SANDBOX_READY)
			now++;
		/* Earlier sandboxes of the same pod come after its latest. */
		same = now > rank ? 1
				  : same + (now && now == rank &&
					    !streq(p->metadata->uid, best->metadata->uid));
		if (now > rank) {
			rank = now;
			best = p;
		}
	}
	if (r < 0)
		return r;
	if (!best)
		return err_set(err, ERR_NOT_FOUND, "pod %s", name);
	if (same > 1)
		return err_set_raw(
			err, ERR_INVALID_ARGUMENT,
			"there are several pods %s: name one by NAMESPACE/NAME or by its "
			"id (see ctr pods ls)",
			name);
	*ret = best;
	return 0;
}

static int container_rank(const CRI(Container) * k, const char *name)
{
	return streq(k->id, name)		? 3
	       : streq(k->metadata->name, name) ? 2
						: str_has_prefix(k->id, name);
}

/* ", NAME" for each name of @pod's containers; those of one name are neighbours. */
static const char *names_of(struct ctr *c, const CRI(ListContainersResponse) * all,
			    const char *pod_id)
{
	const char *list = "", *last = NULL;
	size_t n = 0;

	for (size_t i = 0; list && i < all->n_containers && n < NAMES_SHOWN; i++) {
		const CRI(Container) *k = all->containers[i];

		if (!streq(k->pod_sandbox_id, pod_id) || (last && streq(last, k->metadata->name)))
			continue;
		last = k->metadata->name;
		list = arena_printf(c->ctx.arena, "%s%s%s", list, n++ ? ", " : "", last);
	}
	return str_or(list, "");
}

/* The latest container of a pod, when all have one name, or of those that are called @name. */
static int find_in_pod(struct ctr *c, const CRI(ListContainersResponse) * all,
		       const CRI(PodSandbox) * p, const char *name, const CRI(Container) * *ret,
		       struct err *err)
{
	const CRI(Container) *best = NULL;
	int rank = 0;

	for (size_t i = 0; i < all->n_containers; i++) {
		const CRI(Container) *k = all->containers[i];
		int now = name ? container_rank(k, name) : 1;

		if (!streq(k->pod_sandbox_id, p->id) || !now)
			continue;
		if (!name && best && !streq(best->metadata->name, k->metadata->name))
			return err_set_raw(err, ERR_INVALID_ARGUMENT,
					   "pod %s has several containers, name one of them: %s",
					   p->metadata->name, names_of(c, all, p->id));
		if (now > rank) {
			rank = now;
			best = k;
		}
	}
	if (!best && name)
		return err_set(err, ERR_NOT_FOUND, "container %s of pod %s (it has: %s)", name,
			       p->metadata->name, names_of(c, all, p->id));
	if (!best)
		return err_set(err, ERR_NOT_FOUND, "pod %s has no container", p->metadata->name);
	*ret = best;
	return 0;
}

static int find_anywhere(struct ctr *c, const CRI(ListContainersResponse) * all, const char *name,
			 const CRI(Container) * *ret, struct err *err)
{
	const CRI(Container) *best = NULL;
	int rank = 0;
	bool several = false;

	for (size_t i = 0; i < all->n_containers; i++) {
		const CRI(Container) *k = all->containers[i];
		int now = container_rank(k, name);

		several = now > rank ? false
				     : several || (now && now == rank &&
						   !streq(k->pod_sandbox_id, best->pod_sandbox_id));
		if (now > rank) {
			rank = now;
			best = k;
		}
	}
	if (!best)
		return err_set(err, ERR_NOT_FOUND, "container or pod %s", name);
	if (several)
		return err_set_raw(err, ERR_INVALID_ARGUMENT,
				   "several pods have a container %s: say which, as in \"%s\"",
				   name, arena_printf(c->ctx.arena, "ctr pods logs POD %s", name));
	*ret = best;
	return 0;
}

int pods_container_find(struct ctr *c, const char *name, const char *of_pod,
			const CRI(Container) * *ret, struct err *err)
{
	CRI(ListContainersResponse) * all;
	const CRI(PodSandbox) * p;
	struct err own = ERR_INIT;
	int r = pods_containers_get(c, &all, err);

	if (r < 0)
		return r;
	if (of_pod) {
		r = pods_find(c, of_pod, &p, err);
		return r < 0 ? r : find_in_pod(c, all, p, name, ret, err);
	}
	r = find_anywhere(c, all, name, ret, &own);
	if (r != -ERR_NOT_FOUND)
		return r < 0 ? err_copy(err, &own) : 0;
	r = pods_find(c, name, &p, err);
	if (r == -ERR_NOT_FOUND)
		return err_copy(err, &own);
	return r < 0 ? r : find_in_pod(c, all, p, NULL, ret, err);
}

int pods_container_before(struct ctr *c, const CRI(Container) * *k, struct err *err)
{
	CRI(ListContainersResponse) * all;
	int r = pods_containers_get(c, &all, err);

	for (size_t i = 0; r == 0 && i < all->n_containers; i++) {
		const CRI(Container) *o = all->containers[i];

		if (streq(o->pod_sandbox_id, (*k)->pod_sandbox_id) &&
		    streq(o->metadata->name, (*k)->metadata->name) &&
		    o->created_at < (*k)->created_at) {
			*k = o;
			return 0;
		}
	}
	if (r < 0)
		return r;
	return err_set_raw(err, ERR_NOT_FOUND, "container %s has no predecessor that is kept",
			   (*k)->metadata->name);
}
