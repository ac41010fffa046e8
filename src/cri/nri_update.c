/* SPDX-License-Identifier: Apache-2.0 */
/* What plugins want changed in containers that are there: resources, or their end.
 *
 * Plugins' wishes are gathered as pieces of spec, one a container, and merged into the containers'
 * specs. One container is waited for no longer than a moment: it may be in an operation that waits
 * for plugins, too. */
#include "base/json.h"
#include "base/log.h"
#include "base/str.h"
#include "base/time.h"
#include "cri/container.h"
#include "cri/nri_internal.h"
#include "oci/spec.h"

#define WAIT_NS (5 * NSEC_PER_SEC)

void nri_updates_done(struct nri_updates *u)
{
	json_decref(u->containers);
	u->containers = NULL;
}

int nri_updates_add(struct nri_updates *u, NRI(ContainerUpdate) *const *v, size_t n,
		    const char *plugin, struct err *err)
{
	if (n > 0 && !u->containers && !(u->containers = json_object()))
		return err_nomem(err);
	for (size_t i = 0; i < n; i++) {
		const char *id = str_or(v[i]->container_id, "");
		struct nri_classes classes = {0};
		struct err own = ERR_INIT;
		int r;

		if (*u->creating && streq(id, u->creating))
			return err_set(
				err, ERR_INVALID_ARGUMENT,
				"plugin \"%s\" asked for an update of container %.64s, which "
				"is being created",
				plugin, id);
		json_t *spec = json_obj_make(u->containers, id);
		if (!spec)
			return err_nomem(err);
		if (!v[i]->ignore_failure)
			json_object_set_new(spec, "must", json_true());
		if (!v[i]->linux || !v[i]->linux->resources)
			continue;
		r = nri_resources_apply(spec, v[i]->linux->resources, u->owners, id, plugin,
					&classes, &own);
		if (r < 0 && v[i]->ignore_failure)
			log_warn("NRI: plugin %s: update of container %.64s: %s", plugin, id,
				 own.text);
		else if (r < 0)
			return err_copy(err, &own);
	}
	return 0;
}

int nri_updates_evict(struct nri_updates *u, NRI(ContainerEviction) *const *v, size_t n,
		      struct err *err)
{
	struct arena *a = u->owners->arena;
	size_t want = u->n_evict + n;

	u->evict = arena_grow(a, u->evict, &u->cap_evict, want, sizeof(*u->evict));
	u->reasons = arena_grow(a, u->reasons, &u->cap_reasons, want, sizeof(*u->reasons));
	if (n > 0 && (!u->evict || !u->reasons))
		return err_nomem(err);
	for (size_t i = 0; i < n; i++) {
		u->evict[u->n_evict] = v[i]->container_id;
		u->reasons[u->n_evict++] = v[i]->reason;
	}
	return 0;
}

/* What plugins say goes into what there is; lists and values replace. */
static int merge(json_t *spec, void *arg, struct err *err)
{
	json_t *from = spec_get(arg, "linux/resources");

	if (!spec_get(spec, "linux/resources")) {
		int r = spec_set(spec, "linux/resources", json_object(), err);
		if (r < 0)
			return r;
	}
	json_t *to = spec_get(spec, "linux/resources"), *rules = json_arr(from, "devices"),
	       *old = json_incref(json_arr(to, "devices"));
	int r = json_object_update_recursive(to, from) < 0 ? err_nomem(err) : 0;
	/* Rules of devices are in an order, and those that are there stay. */
	if (r == 0 && rules && old) {
		json_t *both = json_copy(old);
		r = !both || json_array_extend(both, rules) < 0 ? err_nomem(err) : 0;
		if (r == 0 && json_object_set(to, "devices", both) < 0)
			r = err_nomem(err);
		json_decref(both);
	}
	json_decref(old);
	return r;
}

static bool alive(struct cri_container *k)
{
	MUTEX_GUARD(&k->o.lock);
	Runtime__V1__ContainerState s = cri_status_state(&k->status);
	return !k->removing && (s == RUNTIME__V1__CONTAINER_STATE__CONTAINER_CREATED ||
				s == RUNTIME__V1__CONTAINER_STATE__CONTAINER_RUNNING);
}

static int update_one(struct ctx *ctx, struct cri *c, const char *id, json_t *spec, struct err *err)
{
	_cleanup_container_ struct cri_container *k = NULL;
	int r = cri_table_get(c->containers, id, &k, err);

	if (r < 0)
		return r;
	if (!alive(k))
		return err_set(err, ERR_FAILED_PRECONDITION,
			       "container %.64s neither runs nor is going to", id);
	if (!spec_get(spec, "linux/resources"))
		return 0;
	r = cri_object_begin(ctx, &k->o, err);
	if (r < 0)
		return r;
	r = cri_container_change_resources(ctx, c, k, merge, spec, err);
	cri_object_end(&k->o);
	return r;
}

/* Whoever has begun with it may be the one that asks. */
static void evict(struct ctx *ctx, struct cri *c, const char *id, const char *reason)
{
	_cleanup_container_ struct cri_container *k = NULL;
	struct err err = ERR_INIT;
	int r = cri_table_get(c->containers, id, &k, &err);

	if (r == 0) {
		log_info("NRI: container %s is evicted: %s", k->o.id, str_or(reason, "no reason"));
		r = cri_container_kill(ctx, c, k, &err);
	}
	if (r < 0)
		log_error("NRI: evict container %.64s: %s", str_or(id, ""), err.text);
}

static struct ctx limited(struct ctx *ctx)
{
	return (struct ctx){.arena = ctx->arena,
			    .ns = CRI_NS,
			    .lease = "",
			    .deadline = time_mono() + WAIT_NS,
			    .parent = ctx};
}

void nri_updates_apply(struct ctx *ctx, struct cri *c, struct nri_updates *u, const char *except,
		       char ***ret_failed, size_t *ret_n)
{
	char **failed = arena_new_array(ctx->arena, char *, json_object_size(u->containers) + 1);
	const char *id;
	json_t *spec;
	size_t n = 0;

	json_object_foreach (u->containers, id, spec) {
		struct ctx sub = limited(ctx);
		struct err err = ERR_INIT;
		if (streq(id, except) || update_one(&sub, c, id, spec, &err) == 0)
			continue;
		log_warn("NRI: update of container %.64s: %s", id, err.text);
		if (failed && json_bool(spec, "must", false) &&
		    (failed[n] = arena_strdup(ctx->arena, id)))
			n++;
	}
	for (size_t i = 0; i < u->n_evict; i++) {
		struct ctx sub = limited(ctx);
		evict(&sub, c, u->evict[i], u->reasons[i]);
	}
	if (ret_failed && failed) {
		*ret_failed = failed;
		*ret_n = n;
	}
}
