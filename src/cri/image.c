/* SPDX-License-Identifier: Apache-2.0 */
/* The table of images. Entries are sorted by id; each has its names. Names are few an image, so
 * that who looks for a name walks all of them. */
#include "cri/image.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "base/str.h"
#include "core/content.h"
#include "core/event.h"
#include "core/image.h"
#include "event/pool.h"
#include "oci/manifest.h"
#include "oci/platform.h"
#include "oci/reference.h"
#include "rpc/rpc.h"

#define CONFIG_MAX (8u << 20)

struct entry {
	char *id, *chain_id, *user, *stop_signal;
	char *media_type, *digest; /* of the target */
	int64_t target_size, size;
	bool pinned, checkpoint;
	char **refs;
	size_t n_refs;
};

/* Somebody who looks at the record of a name. */
struct reading {
	const char *name;
	bool stale; /* another one has looked meanwhile, maybe later */
	struct reading *next;
};

struct cri_images {
	struct cri *c;
	pthread_mutex_t lock; /* guards @v and @readings */
	struct reading *readings;
	struct entry **v;
	size_t n, cap;
	struct event_subscription *sub;
};

/* ---- entries ---- */

static void entry_free(struct entry *e)
{
	if (!e)
		return;
	for (size_t i = 0; i < e->n_refs; i++)
		free(e->refs[i]);
	free(e->refs);
	free(e->id);
	free(e->chain_id);
	free(e->user);
	free(e->stop_signal);
	free(e->media_type);
	free(e->digest);
	free(e);
}
DEFINE_CLEANUP(struct entry *, entry_free)

/* First that is not before @id. */
static size_t entry_at(const struct cri_images *i, const char *id)
{
	size_t lo = 0, hi = i->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		if (strcmp(i->v[mid]->id, id) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static size_t ref_at(const struct entry *e, const char *name)
{
	size_t k = 0;
	while (k < e->n_refs && strcmp(e->refs[k], name) < 0)
		k++;
	return k;
}

static int ref_add(struct entry *e, const char *name)
{
	size_t k = ref_at(e, name);
	char *s;

	if (k < e->n_refs && streq(e->refs[k], name))
		return 0;
	char **v = reallocarray(e->refs, e->n_refs + 1, sizeof(char *));
	if (!v)
		return -ENOMEM;
	e->refs = v;
	if (!(s = strdup(name)))
		return -ENOMEM;
	memmove(v + k + 1, v + k, (e->n_refs - k) * sizeof(char *));
	v[k] = s;
	e->n_refs++;
	return 0;
}

/* Takes the name away from whoever has it, but from @but. Locked. */
static void ref_drop(struct cri_images *i, const char *name, const char *but)
{
	for (size_t k = 0; k < i->n; k++) {
		struct entry *e = i->v[k];
		size_t at = ref_at(e, name);
		if (at == e->n_refs || !streq(e->refs[at], name) || (but && streq(e->id, but)))
			continue;
		free(e->refs[at]);
		memmove(e->refs + at, e->refs + at + 1, (--e->n_refs - at) * sizeof(char *));
		if (e->n_refs == 0) {
			entry_free(e);
			memmove(i->v + k, i->v + k + 1, (--i->n - k) * sizeof(*i->v));
			k--;
		}
	}
}

/* Takes @fresh over. Locked. */
static int entry_put(struct cri_images *i, struct entry *fresh, const char *name)
{
	size_t k;

	ref_drop(i, name, fresh->id);
	k = entry_at(i, fresh->id);
	if (k < i->n && streq(i->v[k]->id, fresh->id)) {
		struct entry *old = i->v[k];
		/* All that was read is as fresh as can be; the names are those that were known. */
		fresh->refs = TAKE_PTR(old->refs);
		fresh->n_refs = old->n_refs;
		fresh->pinned = fresh->pinned || old->pinned;
		old->n_refs = 0;
		entry_free(old);
		i->v[k] = fresh;
		return ref_add(fresh, name);
	}
	if (i->n == i->cap) {
		size_t cap = i->cap ? i->cap * 2 : 16;
		struct entry **v = reallocarray(i->v, cap, sizeof(*v));
		if (!v) {
			entry_free(fresh);
			return -ENOMEM;
		}
		i->v = v;
		i->cap = cap;
	}
	if (ref_add(fresh, name) < 0) {
		entry_free(fresh);
		return -ENOMEM;
	}
	memmove(i->v + k + 1, i->v + k, (i->n - k) * sizeof(*i->v));
	i->v[k] = fresh;
	i->n++;
	return 0;
}

/* ---- reading an image ---- */

/* Whether an index or a manifest says that a container's checkpoint is in it. */
static bool of_checkpoint(const char *p, size_t n)
{
	static const char *const keys[] = {"org.criu.checkpoint.container.name",
					   "io.kubernetes.cri-o.annotations.checkpoint.name"};
	json_t *doc _cleanup_json_ = NULL;
	bool is = false;

	/* Most have not: they are not read twice. */
	if (!memmem(p, n, "checkpoint", strlen("checkpoint")) || json_parse(p, n, &doc, NULL) < 0)
		return false;
	for (size_t i = 0; i < ARRAY_LEN(keys); i++)
		is = is || json_object_get(json_obj(doc, "annotations"), keys[i]);
	return is;
}

/* The manifest for this host; -ERR_NOT_FOUND when there is none, or its blobs are not here. */
static int manifest_of(struct ctx *ctx, struct db *db, const struct descriptor *target, int depth,
		       struct manifest *ret, int64_t *ret_size, bool *ret_checkpoint,
		       struct err *err)
{
	struct platform host;
	char *p;
	size_t n;
	int best = -1, r;

	if (depth > 3)
		return err_set(err, ERR_INVALID_ARGUMENT, "indexes are nested too deeply");
	if (platform_host(ctx->arena, &host) < 0)
		return err_nomem(err);
	r = content_read(ctx, db, target->digest, MANIFEST_MAX, &p, &n, err);
	if (r == 0)
		r = manifest_parse(ctx->arena, target->media_type, p, n, ret, err);
	if (r < 0)
		return r;
	*ret_checkpoint = *ret_checkpoint || of_checkpoint(p, n);
	if (!ret->is_index) {
		*ret_size = (int64_t)n;
		return 0;
	}
	const struct manifest_child *child = NULL;
	for (size_t i = 0; i < ret->n_manifests; i++) {
		const struct manifest_child *m = &ret->manifests[i];
		int rank = m->has_platform ? platform_rank(&host, &m->platform) : 0;
		if (rank >= 0 && (best < 0 || rank < best)) {
			best = rank;
			child = m;
		}
	}
	if (!child)
		return err_set(err, ERR_NOT_FOUND, "index %s has nothing for this platform",
			       target->digest);
	return manifest_of(ctx, db, &child->desc, depth + 1, ret, ret_size, ret_checkpoint, err);
}

int cri_image_manifest(struct ctx *ctx, struct cri *c, const struct descriptor *target,
		       struct manifest *ret, struct err *err)
{
	bool checkpoint = false;
	int64_t size;
	return manifest_of(ctx, c->o.db, target, 0, ret, &size, &checkpoint, err);
}

static int document(struct ctx *ctx, struct db *db, const char *digest, json_t **ret,
		    struct err *err)
{
	char *p;
	size_t n;
	int r = content_read(ctx, db, digest, CONFIG_MAX, &p, &n, err);

	if (r == 0)
		r = json_parse(p, n, ret, err);
	return r < 0 ? err_prefix(err, "config %s", digest) : 0;
}

static int chain_of(struct ctx *ctx, const json_t *doc, const char **ret, struct err *err)
{
	const json_t *ids = json_arr(json_obj(doc, "rootfs"), "diff_ids");
	size_t n = json_array_size(ids);
	const char **v = arena_new_array(ctx->arena, const char *, n + 1);

	if (!v)
		return err_nomem(err);
	for (size_t i = 0; i < n; i++) {
		v[i] = json_string_value(json_array_get(ids, i));
		if (!v[i])
			return err_set(err, ERR_INVALID_ARGUMENT, "a diff ID is no string");
	}
	*ret = n ? chain_id(ctx->arena, v, n) : "";
	return *ret ? 0 : err_nomem(err);
}

static int entry_read(struct ctx *ctx, struct cri_images *i, const struct image *img,
		      struct entry **ret, struct err *err)
{
	_cleanup_(entry_freep) struct entry *e = calloc(1, sizeof(*e));
	json_t *doc _cleanup_json_ = NULL;
	struct db *db = i->c->o.db;
	struct manifest m;
	const char *chain;

	if (!e)
		return err_nomem(err);
	int r = manifest_of(ctx, db, &img->target, 0, &m, &e->size, &e->checkpoint, err);
	if (r == 0)
		r = document(ctx, db, m.config.digest, &doc, err);
	if (r == 0)
		r = chain_of(ctx, doc, &chain, err);
	if (r < 0)
		return r;
	const json_t *config = json_obj(doc, "config");
	const char *pinned = labels_get(&img->labels, CRI_LABEL_PINNED);
	e->size += m.config.size;
	for (size_t k = 0; k < m.n_layers; k++)
		e->size += m.layers[k].size;
	e->id = strdup(m.config.digest);
	e->chain_id = strdup(chain);
	e->user = strdup(json_str(config, "User", ""));
	e->stop_signal = strdup(json_str(config, "StopSignal", ""));
	e->media_type = strdup(img->target.media_type);
	e->digest = strdup(img->target.digest);
	e->target_size = img->target.size;
	e->pinned = pinned && streq(pinned, "pinned");
	if (!e->id || !e->chain_id || !e->user || !e->stop_signal || !e->media_type || !e->digest)
		return err_nomem(err);
	*ret = TAKE_PTR(e);
	return 0;
}

/* *@ret stays NULL when there is no such record. An image without content for this host is none of
 * the kubelet's either. */
static int record_read(struct ctx *ctx, struct cri_images *i, const char *name, struct entry **ret,
		       struct err *err)
{
	struct err own = ERR_INIT;
	struct image img;
	int r = image_get(ctx, i->c->o.db, name, &img, &own);

	if (r == -ERR_NOT_FOUND)
		return 0;
	if (r == 0)
		r = entry_read(ctx, i, &img, ret, &own);
	if (r == -ERR_NOT_FOUND || r == -ERR_INVALID_ARGUMENT || r == -ERR_UNIMPLEMENTED)
		return 0;
	return r < 0 ? err_copy(err, &own) : 0;
}

static void reading_begin(struct cri_images *i, struct reading *d)
{
	MUTEX_GUARD(&i->lock);
	d->stale = false;
	d->next = i->readings;
	i->readings = d;
}

/* Whether what was read is the latest; what others are still reading is not from then on. Locked.
 */
static bool reading_end(struct cri_images *i, struct reading *d)
{
	struct reading **p = &i->readings;

	while (*p != d)
		p = &(*p)->next;
	*p = d->next;
	for (struct reading *o = i->readings; o && !d->stale; o = o->next)
		o->stale = o->stale || streq(o->name, d->name);
	return !d->stale;
}

/* Those who heard of a record at about the same time may have read it before and after it changed:
 * whoever is late in entering what it has read looks again. */
int cri_image_refresh(struct ctx *ctx, struct cri_images *i, const char *name, struct err *err)
{
	struct reading d = {.name = name};
	bool latest = false;
	int r = 0;

	while (r == 0 && !latest) {
		_cleanup_(entry_freep) struct entry *e = NULL;

		reading_begin(i, &d);
		r = record_read(ctx, i, name, &e, err);
		MUTEX_GUARD(&i->lock);
		latest = reading_end(i, &d);
		if (r == 0 && latest && !e)
			ref_drop(i, name, NULL);
		else if (r == 0 && latest && entry_put(i, TAKE_PTR(e), name) < 0)
			r = err_nomem(err);
	}
	return r;
}

/* ---- events ---- */

struct job {
	struct cri_images *i;
	char *name;
};

static int refresh_and_adopt(struct ctx *ctx, struct cri_images *i, const char *name,
			     struct err *err)
{
	struct image img;
	struct err own = ERR_INIT;
	int r = cri_image_refresh(ctx, i, name, err);

	if (r == 0 && image_get(ctx, i->c->o.db, name, &img, &own) == 0)
		r = cri_image_adopt(ctx, i->c, &img, err);
	return r;
}

static void refresh(void *arg)
{
	struct job *j = arg;
	_cleanup_arena_ struct arena *a = arena_new(0);
	struct ctx ctx = cri_background(j->i->c, a, 0);
	struct err err = ERR_INIT;

	if (!a || (!j->i->c->stopping && refresh_and_adopt(&ctx, j->i, j->name, &err) < 0))
		log_error("image %s: %s", j->name, a ? err.text : "no memory");
	free(j->name);
	free(j);
}

/* All image events begin with the name. */
static void on_event(void *arg, const struct event *ev)
{
	struct cri_images *i = arg;
	_cleanup_arena_ struct arena *a = arena_new(0);
	Containerd__Services__Images__V1__ImageDelete *m;
	struct job *j = a ? calloc(1, sizeof(*j)) : NULL;

	if (j && rpc_unpack(a, &containerd__services__images__v1__image_delete__descriptor,
			    ev->payload, ev->payload_len, &m, NULL) == 0) {
		j->i = i;
		j->name = strdup(m->name);
	}
	if (!j || !j->name || pool_submit(i->c->o.pool, refresh, j) < 0) {
		if (j)
			free(j->name);
		free(j);
		log_error("CRI: an event of an image is lost");
	}
}

int cri_images_new(struct cri *c, struct cri_images **ret, struct err *err)
{
	struct cri_images *i = calloc(1, sizeof(*i));

	if (!i)
		return err_nomem(err);
	i->c = c;
	pthread_mutex_init(&i->lock, NULL);
	*ret = i;
	return 0;
}

int cri_images_load(struct ctx *ctx, struct cri_images *i, struct err *err)
{
	static const char *const filters[] = {"namespace==" CRI_NS ",topic~=/images/"};
	_cleanup_arena_ struct arena *a = arena_new(0);
	struct image *v;
	size_t n;
	int r = event_subscribe(i->c->o.events, filters, 1, on_event, i, &i->sub, err);

	if (r == 0)
		r = image_list(ctx, i->c->o.db, NULL, &v, &n, err);
	for (size_t k = 0; r == 0 && k < n; k++) {
		struct ctx one = cri_background(i->c, a, 0);
		struct err own = ERR_INIT;
		if (!a)
			return err_nomem(err);
		if (cri_image_refresh(&one, i, v[k].name, &own) < 0 ||
		    cri_image_adopt(&one, i->c, &v[k], &own) < 0)
			log_error("image %s: %s", v[k].name, own.text);
		arena_reset(a);
		r = ctx_check(ctx, err);
	}
	return r;
}

void cri_images_stop(struct cri_images *i)
{
	if (i->sub)
		event_unsubscribe(TAKE_PTR(i->sub));
}

void cri_images_free(struct cri_images *i)
{
	if (!i)
		return;
	cri_images_stop(i);
	for (size_t k = 0; k < i->n; k++)
		entry_free(i->v[k]);
	free(i->v);
	pthread_mutex_destroy(&i->lock);
	free(i);
}

/* ---- looking up ---- */

static int copy(struct arena *a, const struct entry *e, struct cri_image *ret, struct err *err)
{
	const char **refs = arena_new_array(a, const char *, e->n_refs + 1);
	bool ok = refs != NULL;

	for (size_t i = 0; ok && i < e->n_refs; i++)
		ok = (refs[i] = arena_strdup(a, e->refs[i])) != NULL;
	*ret = (struct cri_image){.id = arena_strdup(a, e->id),
				  .chain_id = arena_strdup(a, e->chain_id),
				  .references = refs,
				  .size = e->size,
				  .user = arena_strdup(a, e->user),
				  .stop_signal = arena_strdup(a, e->stop_signal),
				  .pinned = e->pinned,
				  .checkpoint = e->checkpoint,
				  .target = {.media_type = arena_strdup(a, e->media_type),
					     .digest = arena_strdup(a, e->digest),
					     .size = e->target_size}};
	return ok && ret->id && ret->chain_id && ret->user && ret->stop_signal &&
			       ret->target.media_type && ret->target.digest
		       ? 0
		       : err_nomem(err);
}

/* Locked. NULL = there is none, or more than one. */
static const struct entry *by_id(const struct cri_images *i, struct arena *a, const char *ref)
{
	const char *id = str_has_prefix(ref, "sha256:") ? ref : arena_printf(a, "sha256:%s", ref);
	size_t k = id ? entry_at(i, id) : i->n;

	if (k == i->n || !str_has_prefix(i->v[k]->id, id) || streq(id, "sha256:"))
		return NULL;
	if (!streq(i->v[k]->id, id) && k + 1 < i->n && str_has_prefix(i->v[k + 1]->id, id))
		return NULL;
	return i->v[k];
}

/* Locked. */
static const struct entry *by_name(const struct cri_images *i, const char *name)
{
	for (size_t k = 0; k < i->n; k++) {
		size_t at = ref_at(i->v[k], name);
		if (at < i->v[k]->n_refs && streq(i->v[k]->refs[at], name))
			return i->v[k];
	}
	return NULL;
}

/* @name: @ref normalised, or NULL. */
static int look_up(struct ctx *ctx, struct cri_images *i, const char *name, const char *ref,
		   struct cri_image *ret, struct err *err)
{
	MUTEX_GUARD(&i->lock);
	const struct entry *e = name ? by_name(i, name) : NULL;

	if (!e)
		e = by_name(i, ref);
	if (!e)
		e = by_id(i, ctx->arena, ref);
	return e ? copy(ctx->arena, e, ret, err) : -ERR_NOT_FOUND;
}

int cri_image_resolve(struct ctx *ctx, struct cri_images *i, const char *ref, struct cri_image *ret,
		      json_t **ret_spec, struct err *err)
{
	char *name = NULL;
	int r;

	if (reference_normalize(ctx->arena, ref, &name, NULL) < 0)
		name = NULL;
	r = look_up(ctx, i, name, ref, ret, err);
	/* Its event may be on its way. */
	if (r == -ERR_NOT_FOUND && name && cri_image_refresh(ctx, i, name, NULL) == 0)
		r = look_up(ctx, i, name, ref, ret, err);
	if (r == -ERR_NOT_FOUND)
		return err_set(err, ERR_NOT_FOUND, "image \"%s\"", ref);
	return r < 0 || !ret_spec ? r : document(ctx, i->c->o.db, ret->id, ret_spec, err);
}

const char *cri_image_name(const struct cri_image *i)
{
	const char *digest = NULL;

	for (const char *const *p = i->references; *p; p++) {
		if (str_has_prefix(*p, "sha256:"))
			continue;
		if (!strchr(*p, '@'))
			return *p;
		digest = digest ? digest : *p;
	}
	return digest ? digest : i->id;
}

int cri_image_list(struct ctx *ctx, struct cri_images *i, struct cri_image **ret, size_t *ret_n,
		   struct err *err)
{
	MUTEX_GUARD(&i->lock);
	struct cri_image *v = arena_new_array(ctx->arena, struct cri_image, i->n + 1);
	int r = v ? 0 : err_nomem(err);

	for (size_t k = 0; r == 0 && k < i->n; k++)
		r = copy(ctx->arena, i->v[k], &v[k], err);
	*ret = v;
	*ret_n = r == 0 ? i->n : 0;
	return r;
}
