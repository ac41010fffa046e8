/* SPDX-License-Identifier: Apache-2.0 */
/* Containers of an earlier daemon: from their records and status files, set right by what the tasks
 * say. The subscription to exits stands before the tasks are asked, so that none is missed. */
#include "base/json.h"
#include "base/log.h"
#include "base/str.h"
#include "base/time.h"
#include "cri/container.h"
#include "cri/io.h"

static const struct any *metadata(const struct container *r)
{
	for (size_t i = 0; i < r->n_extensions; i++)
		if (streq(r->extensions[i].key, CRI_EXT_CONTAINER))
			return &r->extensions[i].value;
	return NULL;
}

static void set_running(struct cri_status *s, void *arg)
{
	const struct cri_task_info *t = arg;

	s->pid = t->pid;
	s->unknown = false;
	if (!s->started_at) {
		struct timespec now = time_now();
		s->started_at = now.tv_sec * NSEC_PER_SEC + now.tv_nsec;
	}
}

/* It has run, though nobody had come to write that down. */
static void set_started(struct cri_status *s, void *arg)
{
	const struct cri_task_info *t = arg;

	if (!s->started_at)
		s->started_at = t->exited_at.tv_sec * NSEC_PER_SEC + t->exited_at.tv_nsec;
}

static int resume(struct ctx *ctx, struct cri *c, struct cri_container *k, struct cri_task_info *t,
		  struct err *err)
{
	struct cri_io_options io;
	int r = cri_container_io_options(ctx, c, k, &io, err);

	if (r == 0)
		r = cri_io_load(ctx, c, &io, &k->io, err);
	return r < 0 ? r : cri_container_change(c, k, set_running, t, err);
}

/* The status and the task together say what the container is. */
static int settle(struct ctx *ctx, struct cri *c, struct cri_container *k, struct err *err)
{
	CRI(ContainerState) state = cri_status_state(&k->status);
	struct cri_task_info t;
	struct err own = ERR_INIT;
	int r = cri_task_info(ctx, c, k->o.id, &t, &own);

	if (r < 0 && r != -ERR_NOT_FOUND)
		return err_copy(err, &own);
	if (r == -ERR_NOT_FOUND)
		return state == RUNTIME__V1__CONTAINER_STATE__CONTAINER_RUNNING
			       ? cri_container_lost(c, k, err)
			       : 0;
	switch (t.state) {
	case CRI_TASK_RUNNING:
		return resume(ctx, c, k, &t, err);
	case CRI_TASK_CREATED:
		/* Its start was cut short: as if it had never been. */
		if (state == RUNTIME__V1__CONTAINER_STATE__CONTAINER_RUNNING)
			r = cri_container_lost(c, k, err);
		return r < 0 ? r : cri_task_destroy(ctx, c, k->o.id, err);
	case CRI_TASK_STOPPED:
	default: {
		struct runtime_exit x = {.status = t.exit_status, .at = t.exited_at};
		struct cri_io_options io;
		/* There may be output that nobody has copied. */
		r = cri_container_io_options(ctx, c, k, &io, err);
		if (r == 0 && cri_io_load(ctx, c, &io, &k->io, &own) < 0)
			log_warn("container %s: the rest of its output: %s", k->o.id, own.text);
		if (r == 0)
			r = cri_container_change(c, k, set_started, &t, err);
		if (r < 0)
			return r;
		r = cri_container_exited(c, k, &x);
		return r < 0 ? err_errno(err, r, "handle its exit") : 0;
	}
	}
}

static int recover(struct ctx *ctx, struct cri *c, const struct container *rec,
		   struct cri_container **ret, struct err *err)
{
	_cleanup_container_ struct cri_container *k = NULL;
	struct err own = ERR_INIT;
	struct cri_pod *p;
	int r = cri_container_unpack(metadata(rec), &k, err);

	if (r == 0)
		r = cri_table_reserve(c->containers, k->o.name, k->o.id, err);
	if (r < 0)
		return r;
	char *dir = cri_container_root(c, ctx->arena, k->o.id);
	k->snapshotter = arena_strdup(k->o.arena, str_or(rec->snapshotter, ""));
	k->snapshot_key = arena_strdup(k->o.arena, str_or(rec->snapshot_key, ""));
	if (!dir || !k->snapshotter || !k->snapshot_key)
		return err_nomem(err);
	json_t *spec _cleanup_json_ = json_loadb(rec->spec.value, rec->spec.len, 0, NULL);
	r = spec ? cri_container_set_user(k, spec, err) : 0;
	if (r < 0)
		return r;
	p = cri_container_pod(c, k);
	if (p) {
		k->runtime = p->runtime;
		cri_object_unref(&p->o);
	} else
		k->runtime = cri_config_handler(c->config, "");
	if (cri_status_read(k->o.arena, dir, &k->status, &own) < 0) {
		log_warn("container %s: its status is not known: %s", k->o.id, own.text);
		k->status =
			(struct cri_status){.reason = "",
					    .message = "",
					    .unknown = true,
					    .created_at = rec->created_at.tv_sec * NSEC_PER_SEC +
							  rec->created_at.tv_nsec};
	}
	r = cri_table_add(c->containers, &k->o, err);
	if (r == 0)
		*ret = TAKE_PTR(k);
	return r;
}

int cri_recover_containers(struct ctx *ctx, struct cri *c, struct err *err)
{
	struct container *v;
	size_t n;
	int r = container_list(ctx, c->o.db, NULL, &v, &n, err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++) {
		_cleanup_container_ struct cri_container *k = NULL;
		struct ctx part = cri_recover_part(ctx);
		struct err own = ERR_INIT;
		if (!metadata(&v[i]))
			continue;
		r = recover(&part, c, &v[i], &k, &own);
		if (r == 0)
			r = settle(&part, c, k, &own);
		if (ctx_check(ctx, err) < 0)
			return -ERR_CANCELED;
		if (r < 0)
			log_error("container %s: recover it: %s", v[i].id, own.text);
	}
	cri_recover_dirs(ctx, c, "containers", c->containers);
	return 0;
}
