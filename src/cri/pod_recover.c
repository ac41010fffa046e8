/* SPDX-License-Identifier: Apache-2.0 */
/* Pods of an earlier daemon: from their sandbox records, and for those of containerd 1.x, which has
 * none, from the container records of their sandboxes. A record that cannot be read is logged and
 * left. */
#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/log.h"
#include "base/path.h"
#include "base/str.h"
#include "base/time.h"
#include "core/sandbox.h"
#include "cri/network.h"
#include "cri/podsandbox.h"
#include "cri/task.h"

#define LOAD_NS (10 * NSEC_PER_SEC) /* as containerd's */

static const struct any *extension(const struct any_entry *v, size_t n, const char *key)
{
	for (size_t i = 0; i < n; i++)
		if (streq(v[i].key, key))
			return &v[i].value;
	return NULL;
}

/* The user namespace's pin is where it was put. */
static void find_userns(struct ctx *ctx, struct cri *c, struct cri_pod *p)
{
	char *dir = cri_pod_state_dir(c, ctx->arena, p->o.id),
	     *path = dir ? path_join(ctx->arena, dir, "pinned-namespaces/user") : NULL;
	char *kept = path && access(path, F_OK) == 0 ? arena_strdup(p->o.arena, path) : NULL;

	if (kept)
		p->userns_path = kept;
}

/* Its sandbox was started while its network was still being made, and then the daemon died: such a
 * pod is not one that anybody can use. */
static bool half_made(const struct cri_pod *p)
{
	return !p->host_network && str_empty(p->ip) && !p->cni_result;
}

static void find_state(struct ctx *ctx, struct cri *c, struct cri_pod *p)
{
	struct sandbox_controller *controller;
	struct sandbox_status s = {0};
	struct cri_task_info t;
	struct err err = ERR_INIT;
	int r = cri_controller_of(c, p, &controller, &err);

	p->state = CRI_POD_NOTREADY;
	if (r == 0 && controller == c->podsandbox) {
		r = cri_task_info(ctx, c, p->o.id, &t, &err);
		if (r == 0 && half_made(p)) {
			r = cri_task_destroy(ctx, c, p->o.id, &err);
		} else if (r == 0 && t.state == CRI_TASK_RUNNING) {
			p->state = CRI_POD_READY;
			p->pid = t.pid;
		} else if (r == 0) {
			p->exited_at = t.exited_at.tv_sec * NSEC_PER_SEC + t.exited_at.tv_nsec;
			r = cri_task_destroy(ctx, c, p->o.id, &err);
		}
	} else if (r == 0) {
		r = controller->ops->status(ctx, controller, p->o.id, false, &s, &err);
		if (r == 0 && streq(str_or(s.state, ""), SANDBOX_READY)) {
			p->state = CRI_POD_READY;
			p->pid = s.pid;
		}
	}
	if (r < 0 && r != -ERR_NOT_FOUND && r != -ERR_CANCELED)
		log_warn("pod %s: its sandbox's state: %s", p->o.id, err.text);
}

static int recover(struct ctx *ctx, struct cri *c, const struct any *metadata,
		   struct timespec created, struct err *err)
{
	_cleanup_pod_ struct cri_pod *p = NULL;
	int r = cri_pod_unpack(c->config, metadata, &p, err);

	if (r == 0)
		r = cri_table_reserve(c->pods, p->o.name, p->o.id, err);
	if (r < 0)
		return r;
	p->created_at = created.tv_sec * NSEC_PER_SEC + created.tv_nsec;
	p->netns_closed = !p->host_network && !cri_netns_exists(p->netns_path);
	find_userns(ctx, c, p);
	find_state(ctx, c, p);
	r = cri_table_add(c->pods, &p->o, err);
	if (r == 0 && p->state == CRI_POD_READY)
		r = cri_pod_watch(c, p, err);
	return r;
}

struct ctx cri_recover_part(const struct ctx *ctx)
{
	struct ctx part = ctx_part(ctx, ctx->arena);

	part.deadline = time_mono() + LOAD_NS;
	return part;
}

/* One that is there already is no trouble: the second list has it, too. */
static void recover_one(struct ctx *ctx, struct cri *c, const char *id, const struct any *metadata,
			struct timespec created)
{
	_cleanup_pod_ struct cri_pod *known = NULL;
	struct ctx own = cri_recover_part(ctx);
	struct err err = ERR_INIT;

	if (!metadata || cri_table_get(c->pods, id, &known, NULL) == 0)
		return;
	if (recover(&own, c, metadata, created, &err) < 0)
		log_error("pod %s: it is not known any more: %s", id, err.text);
}

/* What could not be taken over is still there for a daemon that can. */
static bool recorded(struct ctx *ctx, struct cri *c, const char *id)
{
	struct container k;
	struct sandbox s;

	return container_get(ctx, c->o.db, id, &k, NULL) != -ERR_NOT_FOUND ||
	       sandbox_get(ctx, c->o.db, id, &s, NULL) != -ERR_NOT_FOUND;
}

void cri_recover_dirs(struct ctx *ctx, struct cri *c, const char *kind, struct cri_table *t)
{
	const char *const tops[] = {c->o.root, c->o.state};

	for (size_t i = 0; i < ARRAY_LEN(tops); i++) {
		char *dir = path_join(ctx->arena, tops[i], kind);
		_cleanup_closedir_ DIR *d = dir ? opendir(dir) : NULL;
		for (struct dirent *e; d && (e = readdir(d));) {
			struct cri_object *o = NULL;
			if (e->d_name[0] == '.')
				continue;
			if (strlen(e->d_name) == CRI_ID_LEN &&
			    cri_table_get(t, e->d_name, &o, NULL) == 0) {
				cri_object_unref(o);
				continue;
			}
			if (recorded(ctx, c, e->d_name))
				continue;
			int r = rm_rf(dirfd(d), e->d_name);
			if (r < 0)
				log_warn("%s/%s belongs to nobody and cannot be removed: %s", dir,
					 e->d_name, strerror(-r));
		}
	}
}

int cri_recover_pods(struct ctx *ctx, struct cri *c, struct err *err)
{
	struct container *k;
	struct sandbox *s;
	size_t n, m;
	int r = sandbox_list(ctx, c->o.db, NULL, &s, &n, err);

	if (r == 0)
		r = container_list(ctx, c->o.db, NULL, &k, &m, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n && ctx_check(ctx, NULL) == 0; i++)
		recover_one(ctx, c, s[i].id,
			    extension(s[i].extensions, s[i].n_extensions, CRI_EXT_SANDBOX),
			    s[i].created_at);
	for (size_t i = 0; i < m && ctx_check(ctx, NULL) == 0; i++)
		recover_one(
			ctx, c, k[i].id,
			extension(k[i].extensions, k[i].n_extensions, CRI_EXT_SANDBOX_CONTAINER),
			k[i].created_at);
	r = ctx_check(ctx, err);
	if (r < 0)
		return r;
	cri_recover_dirs(ctx, c, "sandboxes", c->pods);
	return 0;
}
