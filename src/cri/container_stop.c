/* SPDX-License-Identifier: Apache-2.0 */
/* StopContainer and RemoveContainer. Both may be repeated until they succeed. */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/path.h"
#include "base/str.h"
#include "base/time.h"
#include "core/snapshot.h"
#include "cri/container.h"
#include "cri/event.h"
#include "cri/io.h"
#include "cri/nri.h"
#include "cri/stats.h"
#include "sys/mount.h"

#define BUSY_TRIES 50
#define BUSY_PAUSE_US 100000

/* "SIGTERM", "term", "15", "SIGRTMIN+3", "SIGRTMINPLUS3"; 0 = none. */
int cri_signal_number(const char *s)
{
	static const struct {
		const char *prefix;
		bool max, minus;
	} rt[] = {{"RTMIN+", false, false},
		  {"RTMINPLUS", false, false},
		  {"RTMAX-", true, true},
		  {"RTMAXMINUS", true, true}};
	uint64_t n;
	char name[32];

	if (str_to_u64(s, 10, &n) == 0)
		return n > 0 && n <= (uint64_t)SIGRTMAX ? (int)n : 0;
	if (strncasecmp(s, "SIG", 3) == 0)
		s += 3;
	for (size_t i = 0; i < ARRAY_LEN(rt); i++) {
		size_t len = strlen(rt[i].prefix);
		if (strncasecmp(s, rt[i].prefix, len) == 0 && str_to_u64(s + len, 10, &n) == 0 &&
		    n <= (uint64_t)(SIGRTMAX - SIGRTMIN))
			return rt[i].max ? SIGRTMAX - (int)n : SIGRTMIN + (int)n;
	}
	if (strcasecmp(s, "RTMIN") == 0)
		return SIGRTMIN;
	if (strcasecmp(s, "RTMAX") == 0)
		return SIGRTMAX;
	if (strcasecmp(s, "IOT") == 0)
		return SIGABRT;
	if (strcasecmp(s, "CLD") == 0)
		return SIGCHLD;
	if (strcasecmp(s, "IO") == 0)
		return SIGIO;
	for (size_t k = 0; s[k] && k < sizeof(name) - 1; k++) {
		name[k] = (char)(s[k] >= 'a' && s[k] <= 'z' ? s[k] - 'a' + 'A' : s[k]);
		name[k + 1] = 0;
	}
	for (int sig = 1; sig < NSIG; sig++)
		if (sigabbrev_np(sig) && *s && streq(sigabbrev_np(sig), name))
			return sig;
	return 0;
}

static bool running(const struct cri_container *k)
{
	CRI(ContainerState) s = cri_status_state(&k->status);
	return s == RUNTIME__V1__CONTAINER_STATE__CONTAINER_RUNNING ||
	       s == RUNTIME__V1__CONTAINER_STATE__CONTAINER_UNKNOWN;
}

/* Until it has ended, or @until (monotonic, 0 = only the request's own limit). 1 = it still runs.
 */
static int wait_end(struct ctx *ctx, struct cri_container *k, int64_t until, struct err *err)
{
	struct ctx limited = {.arena = ctx->arena,
			      .ns = ctx->ns,
			      .lease = ctx->lease,
			      .deadline = until,
			      .parent = ctx};
	MUTEX_GUARD(&k->o.lock);

	while (running(k)) {
		struct err own = ERR_INIT;
		if (cri_object_wait(&limited, &k->o, &own) < 0) {
			int r = ctx_check(ctx, err);
			return r < 0 ? err_prefix(err, "wait for the end of container %s", k->o.id)
				     : 1;
		}
	}
	return 0;
}

static void set_lost(struct cri_status *s, void *arg)
{
	struct timespec now = time_now();

	s->unknown = false;
	if (s->finished_at)
		return;
	s->pid = 0;
	s->finished_at = now.tv_sec * NSEC_PER_SEC + now.tv_nsec;
	s->exit_code = 255;
	s->reason = "Unknown";
}

int cri_container_lost(struct cri *c, struct cri_container *k, struct err *err)
{
	pthread_mutex_lock(&k->o.lock);
	bool ends = k->exits > 0;
	pthread_mutex_unlock(&k->o.lock);
	return ends ? 0 : cri_container_change(c, k, set_lost, NULL, err);
}

static int settle(struct ctx *ctx, struct cri *c, struct cri_container *k, struct err *err)
{
	struct cri_task_info t;
	struct err own = ERR_INIT;
	int r = cri_task_info(ctx, c, k->o.id, &t, &own);

	return r == -ERR_NOT_FOUND ? cri_container_lost(c, k, err) : 0;
}

static int signal_once(struct ctx *ctx, struct cri *c, struct cri_container *k, struct err *err)
{
	bool first;
	int number = SIGTERM;

	pthread_mutex_lock(&k->o.lock);
	first = !k->stop_signaled;
	k->stop_signaled = true;
	pthread_mutex_unlock(&k->o.lock);
	if (!first)
		return 0;
	if (!str_empty(k->stop_signal)) {
		number = cri_signal_number(k->stop_signal);
		if (!number)
			return err_set(err, ERR_UNKNOWN, "container %s: unknown stop signal \"%s\"",
				       k->o.id, k->stop_signal);
	}
	int r = cri_task_kill(ctx, c, k->o.id, number, false, err);
	if (r < 0) {
		pthread_mutex_lock(&k->o.lock);
		k->stop_signaled = false;
		pthread_mutex_unlock(&k->o.lock);
	}
	return r;
}

static bool runs(struct cri_container *k)
{
	MUTEX_GUARD(&k->o.lock);
	return running(k);
}

int cri_container_kill(struct ctx *ctx, struct cri *c, struct cri_container *k, struct err *err)
{
	int r = runs(k) ? settle(ctx, c, k, err) : 0;

	if (r == 0 && runs(k)) {
		r = cri_task_kill(ctx, c, k->o.id, SIGKILL, true, err);
		if (r == 0)
			r = wait_end(ctx, k, 0, err);
	}
	return r < 0 ? err_prefix(err, "failed to stop container \"%s\"", k->o.id) : 0;
}

/* Begun. What runs is killed; @ran: it did when the request came. */
static int stop(struct ctx *ctx, struct cri *c, struct cri_container *k, bool ran, struct err *err)
{
	ran = ran || runs(k);
	int r = cri_container_kill(ctx, c, k, err);
	if (r < 0)
		return r;
	struct cri_pod *p = ran ? cri_container_pod(c, k) : NULL;
	if (p) {
		r = nri_stop_container(ctx, c->nri, p, k, err);
		cri_object_unref(&p->o);
	}
	return r;
}

static int stop_begun(struct ctx *ctx, struct cri *c, struct cri_container *k, bool ran,
		      struct err *err)
{
	int r = cri_object_begin(ctx, &k->o, err);

	if (r < 0)
		return r;
	r = stop(ctx, c, k, ran, err);
	cri_object_end(&k->o);
	return r;
}

int cri_container_stop(struct ctx *ctx, struct cri *c, struct cri_container *k, struct err *err)
{
	return stop_begun(ctx, c, k, false, err);
}

static int ask_to_end(struct ctx *ctx, struct cri *c, struct cri_container *k, struct err *err)
{
	int r = cri_object_begin(ctx, &k->o, err);

	if (r < 0)
		return r;
	if (runs(k))
		r = settle(ctx, c, k, err);
	if (r == 0 && runs(k))
		r = signal_once(ctx, c, k, err);
	cri_object_end(&k->o);
	return r;
}

/* ---- remove ---- */

/* Somebody may still look into a mount below for a moment. */
static int remove_dir(const char *path, struct err *err)
{
	int r = -EBUSY;

	for (int i = 0; i < BUSY_TRIES && r == -EBUSY; i++) {
		if (i)
			usleep(BUSY_PAUSE_US);
		r = rm_rf(AT_FDCWD, path);
	}
	return r < 0 ? err_errno(err, r, "remove %s", path) : 0;
}

int cri_container_destroy(struct ctx *ctx, struct cri *c, const char *id, const char *snapshotter,
			  struct err *err)
{
	char *root = cri_container_root(c, ctx->arena, id),
	     *state = cri_container_state_dir(c, ctx->arena, id);
	struct err own = ERR_INIT;
	int r = root && state ? cri_task_destroy(ctx, c, id, err) : err_nomem(err);

	if (r < 0)
		return r;
	r = container_delete(ctx, c->o.db, id, &own);
	if (r < 0 && r != -ERR_NOT_FOUND)
		return err_copy(err, &own);
	own = ERR_INIT;
	r = str_empty(snapshotter) ? 0 : snapshot_remove(ctx, c->o.db, snapshotter, id, &own);
	if (r < 0 && r != -ERR_NOT_FOUND)
		return err_copy(err, &own);
	r = remove_dir(state, err);
	return r < 0 ? r : remove_dir(root, err);
}

/* Begun. */
static int remove_container(struct ctx *ctx, struct cri *c, struct cri_container *k,
			    struct err *err)
{
	if (k->removed)
		return 0;
	int r = stop(ctx, c, k, false, err);
	if (r < 0)
		return r;
	pthread_mutex_lock(&k->o.lock);
	k->removing = true;
	pthread_mutex_unlock(&k->o.lock);
	struct cri_pod *p = cri_container_pod(c, k);
	if (p)
		nri_event(ctx, c->nri, NRI_REMOVE_CONTAINER, p, k);
	struct ctx leased = {.arena = ctx->arena,
			     .ns = ctx->ns,
			     .lease = k->pod_id,
			     .deadline = ctx->deadline,
			     .parent = ctx};
	r = cri_container_destroy(&leased, c, k->o.id, k->snapshotter, err);
	if (r == 0) {
		pthread_mutex_lock(&k->o.lock);
		k->removed = true;
		struct cri_io *io = TAKE_PTR(k->io);
		pthread_mutex_unlock(&k->o.lock);
		cri_table_remove(c->containers, k->o.id);
		cri_table_release(c->containers, k->o.id);
		if (io)
			cri_io_free(io);
		cri_stats_forget(c->stats, k->o.id);
		if (p)
			cri_event(ctx, c, p, k->o.id,
				  RUNTIME__V1__CONTAINER_EVENT_TYPE__CONTAINER_DELETED_EVENT);
	} else {
		err_prefix(err, "failed to remove container \"%s\"", k->o.id);
		pthread_mutex_lock(&k->o.lock);
		k->removing = false;
		pthread_mutex_unlock(&k->o.lock);
	}
	if (p)
		cri_object_unref(&p->o);
	return r;
}

int cri_container_remove(struct ctx *ctx, struct cri *c, struct cri_container *k, struct err *err)
{
	int r = cri_object_begin(ctx, &k->o, err);

	if (r < 0)
		return r;
	r = remove_container(ctx, c, k, err);
	cri_object_end(&k->o);
	return r;
}

/* ---- calls ---- */

/* NULL when there is none: that is success for both. */
static int find(struct rpc_call *call, const char *id, struct cri **ret_c,
		struct cri_container **ret, struct err *err)
{
	struct err own = ERR_INIT;
	int r = cri_of(call, ret_c, err);

	if (r == 0)
		r = cri_table_get((*ret_c)->containers, id, ret, &own);
	return r == -ERR_NOT_FOUND ? 0 : own.kind ? err_copy(err, &own) : r;
}

/* The signal, and time to end by itself. The container is nobody's while it has that: who is in
 * more of a hurry kills it, who changes its resources does. Nor does a plugin wait that long to be
 * told what there is (nri.h). */
static int stop_gently(struct ctx *ctx, struct cri *c, struct cri_container *k, int64_t timeout_s,
		       struct err *err)
{
	const int64_t max = INT64_MAX / 4 / NSEC_PER_SEC;
	int r = nri_block(ctx, c->nri, err);

	if (r < 0)
		return r;
	r = ask_to_end(ctx, c, k, err);
	nri_unblock(c->nri);
	if (r == 0)
		r = wait_end(ctx, k, time_mono() + MIN(timeout_s, max) * NSEC_PER_SEC, err);
	return r < 0 ? err_prefix(err, "failed to stop container \"%s\"", k->o.id) : 0;
}

static int stop_call(struct ctx *ctx, struct cri *c, struct cri_container *k, int64_t timeout_s,
		     struct err *err)
{
	bool ran = runs(k);
	int r = ran && timeout_s > 0 ? stop_gently(ctx, c, k, timeout_s, err) : 0;

	if (r == 0)
		r = nri_block(ctx, c->nri, err);
	if (r < 0)
		return r;
	r = stop_begun(ctx, c, k, ran, err);
	nri_unblock(c->nri);
	return r;
}

int cri_stop_container(struct rpc_call *call, const void *req, struct err *err)
{
	const CRI(StopContainerRequest) *q = req;
	CRI(StopContainerResponse) resp = CRI_INIT(STOP_CONTAINER_RESPONSE);
	_cleanup_container_ struct cri_container *k = NULL;
	struct cri *c;
	int r = find(call, q->container_id, &c, &k, err);

	if (r == 0 && k)
		r = stop_call(rpc_ctx(call), c, k, q->timeout, err);
	return r < 0 ? r : rpc_send(call, &resp.base, err);
}

int cri_remove_container(struct rpc_call *call, const void *req, struct err *err)
{
	const CRI(RemoveContainerRequest) *q = req;
	CRI(RemoveContainerResponse) resp = CRI_INIT(REMOVE_CONTAINER_RESPONSE);
	_cleanup_container_ struct cri_container *k = NULL;
	struct cri *c;
	int r = find(call, q->container_id, &c, &k, err);

	if (r == 0 && k)
		r = cri_container_remove(rpc_ctx(call), c, k, err);
	return r < 0 ? r : rpc_send(call, &resp.base, err);
}
