/* SPDX-License-Identifier: Apache-2.0 */
/* See live.h. */
#include "plugins/runtime/live.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/path.h"
#include "base/str.h"
#include "event/loop.h"
#include "event/pool.h"
#include "plugins/runtime/shim_log.h"
#include "rpc/ttrpc.h"

#define BINARY_MAX 4096

/* ---- table ---- */

static size_t bucket(const char *ns, const char *id)
{
	uint32_t h = 2166136261u;

	for (; *ns; ns++)
		h = (h ^ (unsigned char)*ns) * 16777619u;
	for (; *id; id++)
		h = (h ^ (unsigned char)*id) * 16777619u;
	return h % LIVE_SHIM_BUCKETS;
}

static struct live_shim **slot(struct live_shims *all, const char *ns, const char *id)
{
	struct live_shim **p = &all->buckets[bucket(ns, id)];

	while (*p && (!streq((*p)->ns, ns) || !streq((*p)->id, id)))
		p = &(*p)->next;
	return p;
}

static void shim_free(struct live_shim *s)
{
	shim_log_free(s->log);
	if (s->client)
		rpc_client_free(s->client);
	free(s->ns);
	free(s->id);
	free(s->binary);
	free(s->address);
	free(s->sandbox);
	free(s);
}

/* On the loop, or without it. */
static void reap(void *arg)
{
	struct live_shims *all = arg;
	struct live_shim *dead;

	pthread_mutex_lock(&all->lock);
	dead = all->dead;
	all->dead = NULL;
	for (struct live_shim *s = dead; s; s = s->next) {
		*(s->newer ? &s->newer->older : &all->newest) = s->older;
		if (s->older)
			s->older->newer = s->newer;
	}
	pthread_mutex_unlock(&all->lock);
	while (dead) {
		struct live_shim *s = dead;

		dead = s->next;
		shim_free(s);
	}
}

struct live_shim *live_shim_ref(struct live_shim *s)
{
	atomic_fetch_add(&s->refs, 1);
	return s;
}

/* The last reference may go in a callback of the shim's own connection, and its log is the loop's:
 * the end comes in a turn of its own there. */
void live_shim_unref(struct live_shim *s)
{
	struct live_shims *all = s->all;

	if (atomic_fetch_sub(&s->refs, 1) != 1)
		return;
	pthread_mutex_lock(&all->lock);
	s->next = all->dead;
	all->dead = s;
	pthread_mutex_unlock(&all->lock);
	if (atomic_load(&all->stopped))
		reap(all);
	else
		(void)!loop_post(all->o.loop, reap, all); /* without memory: the next one's */
}

int live_shim_add(struct live_shims *all, const char *ns, const char *id, struct live_shim **ret,
		  struct err *err)
{
	struct live_shim *s = calloc(1, sizeof(*s)), **p;

	if (!s)
		return err_nomem(err);
	s->all = all;
	s->refs = 2; /* the table's and the caller's */
	s->state = LIVE_CREATING;
	s->version = SHIM_VERSION_MAX;
	s->ns = strdup(ns);
	s->id = strdup(id);
	s->binary = strdup("");
	s->address = strdup("");
	s->sandbox = strdup("");
	if (!s->ns || !s->id || !s->binary || !s->address || !s->sandbox) {
		shim_free(s);
		return err_nomem(err);
	}
	MUTEX_GUARD(&all->lock);
	p = slot(all, ns, id);
	if (*p) {
		shim_free(s);
		return err_set(err, ERR_ALREADY_EXISTS, "%s %s%s", all->noun, id, all->taken);
	}
	*p = s;
	s->older = all->newest;
	if (s->older)
		s->older->newer = s;
	all->newest = s;
	*ret = s;
	return 0;
}

struct live_shim *live_shim_find(struct live_shims *all, const char *ns, const char *id)
{
	struct live_shim *s;
	MUTEX_GUARD(&all->lock);

	s = *slot(all, ns, id);
	return s ? live_shim_ref(s) : NULL;
}

void live_shim_remove(struct live_shim *s)
{
	struct live_shims *all = s->all;
	struct live_shim **p;
	bool found;

	pthread_mutex_lock(&all->lock);
	p = slot(all, s->ns, s->id);
	found = *p == s;
	if (found)
		*p = s->next;
	pthread_mutex_unlock(&all->lock);
	if (found)
		live_shim_unref(s);
}

int live_shims_each(struct live_shims *all, const char *ns,
		    int (*fn)(void *arg, struct live_shim *s), void *arg)
{
	int rc = 0;
	MUTEX_GUARD(&all->lock);

	for (size_t i = 0; i < LIVE_SHIM_BUCKETS; i++)
		for (struct live_shim *s = all->buckets[i]; rc == 0 && s; s = s->next)
			if ((!ns || streq(s->ns, ns)) &&
			    (s->state == LIVE_READY || s->state == LIVE_ENDING))
				rc = fn(arg, s);
	return rc;
}

void live_shims_init(struct live_shims *all)
{
	pthread_mutex_init(&all->lock, NULL);
	pthread_cond_init(&all->left, NULL);
}

void live_shims_quiesce(struct live_shims *all)
{
	atomic_store(&all->closing, true);
}

/* On the loop, or without it: ends the connections of those that left the table while a call is
 * under way (nobody waits for Shutdown), and with them the calls, which have a reference. */
static void cut_all(void *arg)
{
	struct live_shims *all = arg;
	struct live_shim *cut = NULL;

	pthread_mutex_lock(&all->lock);
	for (struct live_shim *s = all->newest; s; s = s->older)
		if (atomic_load(&s->refs) > 0) {
			s->next = cut; /* the table is empty */
			cut = live_shim_ref(s);
		}
	pthread_mutex_unlock(&all->lock);
	while (cut) {
		struct live_shim *s = cut;

		cut = s->next;
		if (s->client)
			rpc_client_free(s->client);
		s->client = NULL;
		live_shim_unref(s);
	}
	reap(all);
}

void live_shims_disconnect(struct live_shims *all)
{
	for (size_t i = 0; i < LIVE_SHIM_BUCKETS; i++)
		while (all->buckets[i])
			live_shim_remove(all->buckets[i]);
	if (atomic_load(&all->stopped))
		cut_all(all);
	else if (loop_post(all->o.loop, cut_all, all) < 0)
		log_error("no memory to end the connections of %ss", all->noun);
}

void live_shims_destroy(struct live_shims *all)
{
	atomic_store(&all->stopped, true);
	live_shims_disconnect(all); /* after a start that failed there may be some */
	pthread_cond_destroy(&all->left);
	pthread_mutex_destroy(&all->lock);
}

/* ---- death ---- */

static void death_job(void *arg)
{
	struct live_shim *s = arg;
	struct ctx ctx = {.arena = arena_new(0), .ns = s->ns, .lease = ""};

	if (ctx.arena) {
		log_warn("%s %s in namespace %s: its shim has died; cleaning up", s->all->noun,
			 s->id, s->ns);
		s->all->bury(&ctx, s);
	}
	arena_free(ctx.arena);
	live_shim_unref(s);
}

/* Cleans up after a shim, once, unless its end is under way. */
static void shim_died(struct live_shim *s)
{
	int ready = LIVE_READY;

	if (atomic_load(&s->all->closing) ||
	    !atomic_compare_exchange_strong(&s->state, &ready, LIVE_DEAD))
		return;
	live_shim_ref(s);
	if (pool_submit(s->all->o.pool, death_job, s) < 0) {
		log_error("%s %s in namespace %s: its shim has died, and no thread to clean up",
			  s->all->noun, s->id, s->ns);
		atomic_fetch_sub(&s->refs, 1);
	}
}

/* The connection ended. The shim is there: it frees its client before itself. */
static void shim_closed(void *arg)
{
	struct live_shim *s = arg;

	atomic_store(&s->closed, true);
	shim_died(s);
}

void live_shim_ready(struct live_shim *s)
{
	atomic_store(&s->state, LIVE_READY);
	if (atomic_load(&s->closed))
		shim_died(s);
}

bool live_shim_end(struct live_shim *s)
{
	int ready = LIVE_READY;

	return atomic_compare_exchange_strong(&s->state, &ready, LIVE_ENDING);
}

void live_shim_leaving(struct live_shim *s, bool leaving)
{
	MUTEX_GUARD(&s->all->lock);

	s->leaving = leaving;
	if (leaving) {
		s->all->n_leaving++;
	} else {
		s->all->n_leaving--;
		pthread_cond_broadcast(&s->all->left);
	}
}

static bool is_awaited(const struct live_shim *s)
{
	for (const struct live_shim *o = s->all->n_leaving ? s->all->newest : NULL; o; o = o->older)
		if (o->leaving && streq(o->id, s->id) && streq(o->ns, s->ns))
			return true;
	return false;
}

void live_shim_wait_turn(struct live_shim *s)
{
	MUTEX_GUARD(&s->all->lock);

	while (is_awaited(s))
		pthread_cond_wait(&s->all->left, &s->all->lock);
}

void live_shim_clear(struct ctx *ctx, struct live_shim *s, const struct bundle *b, bool deletes,
		     struct runtime_exit *ret)
{
	struct err err = ERR_INIT;

	if (deletes && !str_empty(s->binary) &&
	    shim_delete(ctx, &s->all->o, b, s->ns, s->id, s->binary, ret, &err) < 0)
		log_warn("%s %s in namespace %s: %s", s->all->noun, s->id, s->ns, err.text);
	if (bundle_remove(ctx->arena, b, &err) < 0)
		log_error("%s %s in namespace %s: %s", s->all->noun, s->id, s->ns, err.text);
}

/* ---- connection ---- */

int live_shim_set(char **to, const char *text, struct err *err)
{
	char *copy = strdup(text);

	if (!copy)
		return err_nomem(err);
	free(*to);
	*to = copy;
	return 0;
}

int live_shim_bundle(struct arena *a, const struct live_shim *s, struct bundle *ret,
		     struct err *err)
{
	return bundle_at(a, s->all->o.root, s->all->o.state, s->ns, s->id, ret, err);
}

int live_shim_reach(struct live_shim *s, const struct shim_address *addr, struct err *err)
{
	_cleanup_close_ int fd = -1;
	_cleanup_free_ char *address = NULL;
	int rc = shim_connect(addr, &fd, err);

	if (rc < 0)
		return rc;
	if (asprintf(&address, "%s+%s", addr->protocol, addr->address) < 0) {
		address = NULL;
		return err_nomem(err);
	}
	free(s->address);
	s->address = TAKE_PTR(address);
	s->version = addr->version;
	rc = ttrpc_client_new(s->all->o.loop, TAKE_FD(fd), shim_closed, s, &s->client);
	return rc < 0 ? err_errno(err, rc, "shim of %s %s", s->all->noun, s->id) : 0;
}

int live_shim_reload(struct arena *a, struct live_shim *s, const struct bundle *b, struct err *err)
{
	struct shim_address addr;
	int rc = shim_address_load(a, b, &addr, err);

	if (rc == 0)
		rc = shim_log_open(s->all->o.loop, a, b, &s->log, err);
	return rc < 0 ? rc : live_shim_reach(s, &addr, err);
}

/* ---- load ---- */

typedef void load_fn(struct ctx *ctx, struct live_shim *s, const struct bundle *b);

static void load_one(struct ctx *ctx, struct live_shims *all, const char *id, load_fn *fn)
{
	_cleanup_live_shim_ struct live_shim *s = NULL;
	struct err err = ERR_INIT;
	struct bundle b;
	char *path, *text;

	if (bundle_at(ctx->arena, all->o.root, all->o.state, ctx->ns, id, &b, &err) < 0)
		return;
	if (rmdir(b.path) == 0) /* made, and never filled */
		return;
	if (live_shim_add(all, ctx->ns, id, &s, &err) < 0) {
		log_error("load %s %s in namespace %s: %s", all->noun, id, ctx->ns, err.text);
		return;
	}
	path = path_join(ctx->arena, b.path, "shim-binary-path");
	if (path && file_read(ctx->arena, AT_FDCWD, path, BINARY_MAX, &text, NULL) == 0)
		(void)!live_shim_set(&s->binary, text, NULL);
	fn(ctx, s, &b);
}

static void load_namespace(struct ctx *ctx, struct live_shims *all, const char *ns, load_fn *fn)
{
	char *path = path_join(ctx->arena, all->o.state, ns);
	_cleanup_closedir_ DIR *d = path ? opendir(path) : NULL;
	struct ctx own = {.arena = ctx->arena, .ns = ns, .lease = ""};

	if (!d && errno != ENOTDIR)
		log_error("load %ss in namespace %s: %m", all->noun, ns);
	for (struct dirent *e; d && (e = readdir(d));) {
		char *id;

		if (streq(e->d_name, ".") || streq(e->d_name, ".."))
			continue;
		if (e->d_name[0] == '.') {
			(void)!rm_rf(dirfd(d), e->d_name); /* a removal that was cut off */
			continue;
		}
		id = arena_strdup(ctx->arena, e->d_name);
		if (id)
			load_one(&own, all, id, fn);
	}
}

int live_shims_load(struct ctx *ctx, struct live_shims *all, load_fn *fn, struct err *err)
{
	_cleanup_closedir_ DIR *d = opendir(all->o.state);

	if (!d)
		return errno == ENOENT ? 0 : err_errno(err, errno, "open %s", all->o.state);
	for (struct dirent *e; (e = readdir(d));) {
		char *ns;

		if (e->d_name[0] == '.')
			continue;
		ns = arena_strdup(ctx->arena, e->d_name);
		if (!ns)
			return err_nomem(err);
		load_namespace(ctx, all, ns, fn);
	}
	return 0;
}
