/* SPDX-License-Identifier: Apache-2.0 */
/* The life of the CRI plugin. */
#include "cri/cri.h"

#include <stdlib.h>

#include "base/path.h"
#include "base/time.h"
#include "cri/container.h"
#include "cri/event.h"
#include "cri/image.h"
#include "cri/io.h"
#include "cri/internal.h"
#include "cri/network.h"
#include "cri/nri.h"
#include "cri/pause.h"
#include "cri/podsandbox.h"
#include "cri/runtime_features.h"
#include "cri/stats.h"
#include "cri/streaming.h"
#include "cri/timers.h"
#include "cri/usage.h"

/* What others get to know of comes last, when all that can fail is there: they would go on with
 * what is freed again. The exits are followed from here on: before anybody asks which tasks run. */
static int make_parts(struct cri *c, struct err *err)
{
	int r = cri_pause_install(c, err);

	if (r == 0)
		r = cri_podsandbox_new(c, &c->podsandbox, err);
	if (r == 0)
		r = cri_events_new(c, &c->events, err);
	if (r == 0)
		r = cri_registry_write(c, c->arena, &c->registry_dir, err);
	if (r == 0)
		r = cri_images_new(c, &c->images, err);
	if (r == 0)
		r = cri_network_new(c, &c->network, err);
	if (r == 0)
		r = cri_stats_new(c, &c->stats, err);
	if (r == 0)
		r = cri_streaming_new(c, &c->streaming, err);
	if (r == 0)
		r = cri_exits_new(c, &c->exits, err);
	if (r == 0)
		r = sandbox_controllers_add(c->o.controllers, "podsandbox", c->podsandbox, err);
	if (r == 0)
		cri_network_watch(c->network);
	return r;
}

int cri_new(const struct cri_options *o, struct cri **ret, struct err *err)
{
	struct cri *c = calloc(1, sizeof(*c));
	size_t n = o->config->n_handlers;

	if (!c)
		return err_nomem(err);
	c->o = *o;
	c->config = o->config;
	c->nri = o->nri;
	pthread_mutex_init(&c->features_lock, NULL);
	c->features = calloc(n + 1, sizeof(*c->features));
	c->features_known = calloc(n + 1, sizeof(*c->features_known));
	c->pods = cri_table_new("sandbox");
	c->starting = cri_table_new("sandbox");
	c->containers = cri_table_new("container");
	c->usage = cri_usage_new(c->config);
	c->timers = cri_timers_new(c->config);
	c->arena = arena_new(0);
	int r = c->features && c->features_known && c->pods && c->starting && c->containers &&
				c->usage && c->timers && c->arena
			? make_parts(c, err)
			: err_nomem(err);
	if (r < 0)
		cri_free(c);
	else
		*ret = c;
	return r;
}

int cri_recover(struct ctx *ctx, struct cri *c, struct err *err)
{
	int r = 0;

	ctx->ns = CRI_NS;
	r = cri_images_load(ctx, c->images, err);
	if (r == 0)
		r = cri_recover_pods(ctx, c, err);
	if (r == 0)
		r = cri_recover_containers(ctx, c, err);
	if (r == 0)
		r = ctx_check(ctx, err);
	if (r == 0 && c->nri)
		r = nri_start(c->nri, c, err);
	return r;
}

void cri_interrupt(struct cri *c)
{
	if (!c->ready && c->nri)
		nri_stop(c->nri);
}

void cri_set_ready(struct cri *c)
{
	c->ready = true;
}

/* Whatever copies output ends between two lines, so to say; the next daemon goes on from there. */
static void suspend_io(struct cri *c)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	struct cri_object **v;
	size_t n;

	if (!a || cri_table_list(c->containers, a, &v, &n, NULL) < 0)
		return;
	for (size_t i = 0; i < n; i++) {
		struct cri_container *k = (struct cri_container *)v[i];
		pthread_mutex_lock(&k->o.lock);
		_cleanup_io_ struct cri_io *io = k->io ? cri_io_ref(k->io) : NULL;
		pthread_mutex_unlock(&k->o.lock);
		if (io)
			cri_io_suspend(io);
	}
	cri_objects_unref(v, n);
}

void cri_stop(struct cri *c)
{
	if (atomic_exchange(&c->stopping, true))
		return;
	cri_pod_watches_stop(c);
	cri_streaming_stop(c->streaming);
	cri_exits_stop(c->exits);
	cri_events_stop(c->events);
	cri_stats_stop(c->stats);
	cri_images_stop(c->images);
	if (c->nri)
		nri_stop(c->nri);
	suspend_io(c);
}

void cri_free(struct cri *c)
{
	if (!c)
		return;
	cri_netns_done(c);
	cri_exits_free(c->exits);
	cri_table_free(c->containers);
	cri_table_free(c->starting);
	cri_table_free(c->pods);
	cri_streaming_free(c->streaming);
	cri_stats_free(c->stats);
	cri_network_free(c->network);
	cri_images_free(c->images);
	cri_events_free(c->events);
	if (c->podsandbox)
		c->podsandbox->ops->free(c->podsandbox);
	pthread_mutex_destroy(&c->features_lock);
	cri_usage_free(c->usage);
	cri_timers_free(c->timers);
	arena_free(c->arena);
	free(c->features);
	free(c->features_known);
	free(c);
}

int cri_of(struct rpc_call *call, struct cri **ret, struct err *err)
{
	struct cri *c = rpc_data(call);

	if (!c->ready)
		return err_set(err, ERR_UNAVAILABLE, "server is not initialized yet");
	rpc_ctx(call)->ns = CRI_NS;
	*ret = c;
	return 0;
}

struct ctx cri_background(const struct cri *c, struct arena *a, int64_t timeout_ns)
{
	return (struct ctx){.arena = a,
			    .ns = CRI_NS,
			    .lease = "",
			    .deadline = timeout_ns ? time_mono() + timeout_ns : 0};
}

static char *below(struct arena *a, const char *dir, const char *kind, const char *id)
{
	char *p = path_join(a, dir, kind);
	return p ? path_join(a, p, id) : NULL;
}

char *cri_pod_root(const struct cri *c, struct arena *a, const char *id)
{
	return below(a, c->o.root, "sandboxes", id);
}

char *cri_pod_state_dir(const struct cri *c, struct arena *a, const char *id)
{
	return below(a, c->o.state, "sandboxes", id);
}

char *cri_container_root(const struct cri *c, struct arena *a, const char *id)
{
	return below(a, c->o.root, "containers", id);
}

char *cri_container_state_dir(const struct cri *c, struct arena *a, const char *id)
{
	return below(a, c->o.state, "containers", id);
}
