/* SPDX-License-Identifier: Apache-2.0 */
/* The life of the node resource interface: its socket, its plugins, who may ask them when. */
#include "cri/nri.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/path.h"
#include "base/str.h"
#include "base/time.h"
#include "cri/nri_internal.h"
#include "rpc/listener.h"

#define CONFIG_MAX (1u << 20)
#define TICK_NS (100 * NSEC_PER_MSEC)
#define PREFER_NS (5 * NSEC_PER_SEC)
#define ARENA_MAX ((size_t)256 << 20)

/* ---- who may when ---- */

/* Under the lock: until something has changed, or a moment has passed. */
static void wait_moment(struct nri *n)
{
	int64_t at = time_mono() + TICK_NS;
	struct timespec ts = {at / NSEC_PER_SEC, at % NSEC_PER_SEC};
	pthread_cond_timedwait(&n->changed, &n->lock, &ts);
}

int nri_block(struct ctx *ctx, struct nri *n, struct err *err)
{
	int r = 0;

	if (!n)
		return 0;
	MUTEX_GUARD(&n->lock);
	while (r == 0 && (n->syncing || time_mono() < n->prefer_until)) {
		wait_moment(n);
		r = ctx_check(ctx, err);
	}
	if (r == 0)
		n->blocks++;
	return r;
}

void nri_unblock(struct nri *n)
{
	if (!n)
		return;
	MUTEX_GUARD(&n->lock);
	if (--n->blocks == 0)
		pthread_cond_broadcast(&n->changed);
}

/* Requests come first that are there; new ones wait for a while, so that on a busy node it is a
 * plugin's turn some time, and then are let in again, so that a slow one does not stop the node. */
static int sync_begin(struct nri *n, struct err *err)
{
	MUTEX_GUARD(&n->lock);
	int64_t next = 0;

	while ((n->blocks > 0 || n->syncing) && !n->stopping) {
		if (time_mono() >= next && !n->syncing) {
			n->prefer_until = time_mono() + PREFER_NS;
			next = n->prefer_until + PREFER_NS;
		}
		wait_moment(n);
	}
	if (n->stopping)
		return err_set(err, ERR_UNAVAILABLE, "the daemon stops");
	n->syncing = true;
	n->prefer_until = 0;
	return 0;
}

static void sync_end(struct nri *n)
{
	MUTEX_GUARD(&n->lock);
	n->syncing = false;
	pthread_cond_broadcast(&n->changed);
}

int nri_ask_begin(struct ctx *ctx, struct nri *n, struct nri_asking *ret, struct err *err)
{
	int r = 0;

	*ret = (struct nri_asking){.n = n};
	if (!n)
		return 0;
	MUTEX_GUARD(&n->lock);
	while (r == 0 && n->asking && n->n_active > 0) {
		wait_moment(n);
		r = ctx_check(ctx, err);
	}
	if (r < 0 || n->n_active == 0)
		return r;
	n->asking = true;
	for (size_t i = 0; i < n->n_active; i++) {
		ret->v[i] = n->active[i];
		nri_plugin_ref(ret->v[i]);
	}
	ret->count = n->n_active;
	return 0;
}

void nri_ask_end(struct nri_asking *a)
{
	if (a->count == 0)
		return;
	for (size_t i = 0; i < a->count; i++)
		nri_plugin_unref(a->v[i]);
	a->count = 0;
	MUTEX_GUARD(&a->n->lock);
	a->n->asking = false;
	pthread_cond_broadcast(&a->n->changed);
}

/* ---- plugins ---- */

static bool list_remove(struct nri_plugin **v, size_t *n, struct nri_plugin *p)
{
	for (size_t i = 0; i < *n; i++)
		if (v[i] == p) {
			for (--*n; i < *n; i++)
				v[i] = v[i + 1];
			return true;
		}
	return false;
}

/* On the loop. */
static void plugin_gone(void *arg, struct nri_plugin *p)
{
	struct nri *n = arg;

	pthread_mutex_lock(&n->lock);
	bool known = list_remove(n->all, &n->n_all, p);
	list_remove(n->active, &n->n_active, p);
	pthread_cond_broadcast(&n->changed);
	pthread_mutex_unlock(&n->lock);
	if (known)
		nri_plugin_unref(p);
}

/* Takes the reference over; false = there are too many, or it is late. */
static bool plugin_add(struct nri *n, struct nri_plugin *p)
{
	MUTEX_GUARD(&n->lock);
	if (n->stopping || n->n_all == NRI_PLUGINS_MAX)
		return false;
	n->all[n->n_all++] = p;
	return true;
}

/* Unless its connection has ended meanwhile. */
static void plugin_activate(struct nri *n, struct nri_plugin *p)
{
	size_t at = 0;
	bool known = false;
	MUTEX_GUARD(&n->lock);

	for (size_t i = 0; i < n->n_all; i++)
		known = known || n->all[i] == p;
	if (!known)
		return;
	while (at < n->n_active && strcmp(nri_plugin_name(n->active[at]), nri_plugin_name(p)) <= 0)
		at++;
	for (size_t i = n->n_active++; i > at; i--)
		n->active[i] = n->active[i - 1];
	n->active[at] = p;
}

/* "NN-name.conf", or "name.conf"; "" without one. */
static int plugin_config(struct nri *n, struct arena *a, const char *name, const char **ret,
			 struct err *err)
{
	*ret = "";
	for (size_t i = 0; i < 2; i++) {
		char *file = arena_printf(a, "%s/%s.conf", n->o.plugin_config_path,
					  i == 0 ? name : name + 3),
		     *text;
		size_t len;
		int r = file ? file_read(a, AT_FDCWD, file, CONFIG_MAX, &text, &len) : -ENOMEM;
		if (r == 0)
			*ret = text;
		if (r == 0)
			return 0;
		if (r != -ENOENT)
			return err_errno(err, r, "read %s", str_or(file, name));
	}
	return 0;
}

/* What a plugin goes through before it is asked. Blocks. */
static int plugin_introduce(struct ctx *ctx, struct nri *n, struct nri_plugin *p, struct err *err)
{
	NRI(SynchronizeResponse) *resp = NULL;
	const char *config = "";
	int r = nri_plugin_wait(p, err);

	if (r == 0)
		r = plugin_config(n, ctx->arena, nri_plugin_name(p), &config, err);
	if (r == 0)
		r = nri_plugin_configure(ctx, p, config, n->o.version, err);
	if (r == 0)
		r = sync_begin(n, err);
	if (r < 0)
		return r;
	r = nri_synchronize(ctx, n, p, &resp, err);
	if (r == 0) {
		nri_plugin_set_ready(p);
		plugin_activate(n, p);
	}
	sync_end(n);
	if (r < 0 || !resp)
		return r;
	struct nri_owners owners = {.arena = ctx->arena};
	struct nri_updates u = {.owners = &owners, .creating = ""};
	r = nri_updates_add(&u, resp->update, resp->n_update, nri_plugin_name(p), err);
	if (r == 0)
		nri_updates_apply(ctx, n->c, &u, "", NULL, NULL);
	nri_updates_done(&u);
	return r;
}

struct introduction {
	struct nri *n;
	struct nri_plugin *p;
};

static void introduce(struct nri *n, struct nri_plugin *p)
{
	_cleanup_arena_ struct arena *a = arena_new(ARENA_MAX);
	struct ctx ctx = {.arena = a, .ns = CRI_NS, .lease = ""};
	struct err err = ERR_INIT;
	int r = a ? plugin_introduce(&ctx, n, p, &err) : err_nomem(&err);

	if (r == 0) {
		log_info("NRI: plugin %s is connected", nri_plugin_name(p));
		return;
	}
	log_error("NRI: plugin %s is closed: %s",
		  str_or(nri_plugin_name(p), "that has not registered"), err.text);
	nri_plugin_close(p);
}

static void introduce_job(void *arg)
{
	struct introduction *j = arg;

	introduce(j->n, j->p);
	nri_plugin_unref(j->p);
	free(j);
}

static void accepted(void *arg, int fd)
{
	struct nri *n = arg;
	struct introduction *j = malloc(sizeof(*j));
	struct nri_plugin *p;

	if (!j) {
		close(fd);
		return;
	}
	if (nri_plugin_new(&n->po, fd, NULL, -1, "", &p, NULL) < 0) {
		free(j);
		return;
	}
	nri_plugin_ref(p);
	*j = (struct introduction){n, p};
	if (!plugin_add(n, p)) {
		log_warn("NRI: a connection is refused: there are %d plugins", NRI_PLUGINS_MAX);
		nri_plugin_close(p);
		nri_plugin_unref(p);
		nri_plugin_unref(p);
		free(j);
	} else if (pool_submit(n->o.pool, introduce_job, j) < 0) {
		nri_plugin_close(p);
		nri_plugin_unref(p);
		free(j);
	}
}

/* ---- plugins that are installed ---- */

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int is_plugin(const struct dirent *d)
{
	const char *s = d->d_name;
	char idx[3] = {s[0], s[0] ? s[1] : 0, 0};
	return strlen(s) > 3 && s[2] == '-' && nri_plugin_name_valid(idx, s + 3);
}

static void launch_one(struct nri *n, const char *dir, const char *file)
{
	struct err err = ERR_INIT;
	struct nri_plugin *p;

	if (nri_plugin_launch(&n->po, dir, file, "", &p, &err) < 0) {
		log_error("NRI: start %s: %s", file, err.text);
		return;
	}
	nri_plugin_ref(p);
	if (plugin_add(n, p)) {
		introduce(n, p);
	} else {
		log_error("NRI: %s is not started: there are %d plugins", file, NRI_PLUGINS_MAX);
		nri_plugin_close(p);
		nri_plugin_unref(p);
	}
	nri_plugin_unref(p);
}

static bool is_stopping(struct nri *n)
{
	MUTEX_GUARD(&n->lock);
	return n->stopping;
}

static void launch_all(struct nri *n)
{
	struct dirent **v = NULL;
	int count =
		str_empty(n->o.plugin_path) ? 0 : scandir(n->o.plugin_path, &v, is_plugin, by_name);

	if (count < 0 && errno != ENOENT)
		log_error("NRI: read %s: %s", n->o.plugin_path, strerror(errno));
	for (int i = 0; i < count; i++) {
		_cleanup_arena_ struct arena *a = arena_new(0);
		char *path = a ? path_join(a, n->o.plugin_path, v[i]->d_name) : NULL;
		struct stat st;

		if (path && !is_stopping(n) && stat(path, &st) == 0 && S_ISREG(st.st_mode) &&
		    (st.st_mode & 0111))
			launch_one(n, n->o.plugin_path, v[i]->d_name);
		free(v[i]);
	}
	free(v);
}

/* ---- the whole ---- */

static int update_containers(void *arg, struct nri_plugin *p, struct ctx *ctx,
			     const NRI(UpdateContainersRequest) * req,
			     NRI(UpdateContainersResponse) * ret, struct err *err)
{
	struct nri *n = arg;
	struct nri_owners owners = {.arena = ctx->arena};
	struct nri_updates u = {.owners = &owners, .creating = ""};
	char **failed = NULL;
	size_t n_failed = 0;

	ctx->ns = CRI_NS;
	int r = nri_message_check(&req->base, err);
	if (r == 0)
		r = nri_updates_add(&u, req->update, req->n_update, nri_plugin_name(p), err);
	if (r == 0)
		r = nri_updates_evict(&u, req->evict, req->n_evict, err);
	if (r == 0)
		nri_updates_apply(ctx, n->c, &u, "", &failed, &n_failed);
	nri_updates_done(&u);
	if (r < 0)
		return r;
	ret->failed = arena_new_array(ctx->arena, NRI(ContainerUpdate) *, n_failed + 1);
	if (!ret->failed)
		return err_nomem(err);
	for (size_t i = 0; i < req->n_update; i++)
		for (size_t k = 0; k < n_failed; k++)
			if (streq(req->update[i]->container_id, failed[k]) &&
			    ret->n_failed < n_failed) {
				ret->failed[ret->n_failed++] = req->update[i];
				break;
			}
	return 0;
}

int nri_new(const struct nri_options *o, struct nri **ret, struct err *err)
{
	struct nri *n = calloc(1, sizeof(*n));
	pthread_condattr_t attr;

	if (!n)
		return err_nomem(err);
	n->o = *o;
	n->po = (struct nri_plugin_options){
		.loop = o->loop,
		.pool = o->pool,
		.request_timeout_ns = o->request_timeout_ns,
		.registration_timeout_ns = o->registration_timeout_ns,
		.update = update_containers,
		.gone = plugin_gone,
		.arg = n,
	};
	pthread_mutex_init(&n->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&n->changed, &attr);
	pthread_condattr_destroy(&attr);
	*ret = n;
	return 0;
}

struct listen_job {
	struct nri *n;
	int fd;
};

static void listen_posted(void *arg)
{
	struct listen_job *j = arg;

	pthread_mutex_lock(&j->n->lock);
	bool stopping = j->n->stopping;
	pthread_mutex_unlock(&j->n->lock);
	if (stopping ||
	    rpc_listener_add(&j->n->listeners, j->n->o.loop, j->fd, accepted, j->n) < 0) {
		log_error("NRI: no connections are accepted");
		close(j->fd);
	}
	free(j);
}

static int listen_on(struct nri *n, struct err *err)
{
	struct listen_job *j = malloc(sizeof(*j));
	int r = j ? unix_listen(n->o.socket_path, 0, 0, 0600, &j->fd) : -ENOMEM;

	if (r < 0) {
		free(j);
		return err_errno(err, r, "NRI: listen on %s", n->o.socket_path);
	}
	j->n = n;
	n->socket_path = strdup(n->o.socket_path);
	if (loop_post(n->o.loop, listen_posted, j) < 0) {
		close(j->fd);
		free(j);
		return err_nomem(err);
	}
	return 0;
}

int nri_start(struct nri *n, struct cri *c, struct err *err)
{
	n->c = c;
	launch_all(n);
	if (n->o.disable_connections || str_empty(n->o.socket_path) || is_stopping(n))
		return 0;
	/* Another daemon may have the socket: pods are run all the same. */
	struct err own = ERR_INIT;
	if (listen_on(n, &own) < 0)
		log_error("%s", own.text);
	return 0;
}

static void unlisten(void *arg)
{
	struct nri *n = arg;
	rpc_listeners_free(&n->listeners);
}

void nri_stop(struct nri *n)
{
	struct nri_plugin *v[NRI_PLUGINS_MAX];
	size_t k;

	pthread_mutex_lock(&n->lock);
	bool again = n->stopping;
	n->stopping = true;
	k = n->n_all;
	for (size_t i = 0; i < k; i++) {
		v[i] = n->all[i];
		nri_plugin_ref(v[i]);
	}
	pthread_cond_broadcast(&n->changed);
	pthread_mutex_unlock(&n->lock);
	if (!again)
		(void)loop_post(n->o.loop, unlisten, n);
	for (size_t i = 0; i < k; i++) {
		nri_plugin_close(v[i]);
		nri_plugin_unref(v[i]);
	}
}

void nri_free(struct nri *n)
{
	if (!n)
		return;
	rpc_listeners_free(&n->listeners);
	if (n->socket_path)
		(void)unlink(n->socket_path);
	while (n->n_all > 0) {
		struct nri_plugin *p = n->all[0];
		nri_plugin_ref(p);
		nri_plugin_finish(p);
		/* It is not among them any more, unless it was gone before it came. */
		plugin_gone(n, p);
		nri_plugin_unref(p);
	}
	free(n->socket_path);
	pthread_mutex_destroy(&n->lock);
	pthread_cond_destroy(&n->changed);
	free(n);
}
