/* SPDX-License-Identifier: Apache-2.0 */
/* Shared pieces of transfers: see internal.h. */
#include <dirent.h>
#include <stdlib.h>

#include "base/path.h"
#include "base/str.h"
#include "oci/platform.h"
#include "plugins/transfer/internal.h"
#include "protos.h"

/* Archives that an earlier daemon was at when it was ended. */
static void leftovers_remove(const char *dir)
{
	_cleanup_closedir_ DIR *d = opendir(dir);
	for (struct dirent *e; d && (e = readdir(d));)
		if (str_has_prefix(e->d_name, IMPORT_PREFIX))
			(void)!rm_rf(dirfd(d), e->d_name);
}

int transfer_new(const struct transfer_options *o, struct transfer **ret, struct err *err)
{
	struct transfer *t = calloc(1, sizeof(*t));
	if (!t)
		return err_nomem(err);
	t->o = *o;
	leftovers_remove(o->temp);
	if (t->o.max_downloads < 1)
		t->o.max_downloads = 1;
	if (t->o.max_uploads < 1)
		t->o.max_uploads = 1;
	*ret = t;
	return 0;
}

void transfer_free(struct transfer *t)
{
	free(t);
}

void reporter_init(struct reporter *r, const struct transfer_watch *watch)
{
	r->watch = watch;
	pthread_mutex_init(&r->lock, NULL);
}

void reporter_done(struct reporter *r)
{
	pthread_mutex_destroy(&r->lock);
}

void report(struct reporter *r, const struct transfer_progress *p)
{
	if (!r->watch || !r->watch->fn)
		return;
	MUTEX_GUARD(&r->lock);
	r->watch->fn(r->watch->arg, p);
}

void report_step(struct reporter *r, const char *event)
{
	report(r, &(struct transfer_progress){.event = event, .name = ""});
}

void report_object(struct reporter *r, const char *event, const char *name,
		   const struct descriptor *d, int64_t progress, int64_t total)
{
	report(r, &(struct transfer_progress){.event = event,
					      .name = name,
					      .progress = progress,
					      .total = total,
					      .desc = d});
}

int content_label(struct ctx *ctx, struct db *db, const char *digest, const char *key,
		  const char *value, struct err *err)
{
	struct content_info info = {.digest = digest}, unused;
	char *path = arena_printf(ctx->arena, "labels.%s", key);
	if (!path || labels_set(ctx->arena, &info.labels, key, value) < 0)
		return err_nomem(err);
	return content_update(ctx, db, &info, &path, 1, &unused, err);
}

int platforms_rank(const struct platform *want, size_t n, const struct platform *p)
{
	int best = n ? -1 : 0;
	for (size_t i = 0; i < n; i++) {
		int r = platform_rank(&want[i], p);
		if (r >= 0 && (best < 0 || r < best))
			best = r;
	}
	return best;
}

static int publish_image(struct ctx *ctx, struct transfer *t, const char *name,
			 const struct labels *labels, bool created, struct err *err)
{
	Containerd__Services__Images__V1__ImageCreate c =
		CONTAINERD__SERVICES__IMAGES__V1__IMAGE_CREATE__INIT;
	Containerd__Services__Images__V1__ImageUpdate u =
		CONTAINERD__SERVICES__IMAGES__V1__IMAGE_UPDATE__INIT;
	size_t n = labels->n;
	Containerd__Services__Images__V1__ImageCreate__LabelsEntry *e = arena_calloc(ctx->arena,
										     n + 1,
										     sizeof(*e)),
								   **v;
	v = arena_calloc(ctx->arena, n + 1, sizeof(*v));
	if (!e || !v)
		return err_nomem(err);
	for (size_t i = 0; i < n; i++) {
		if (created)
			containerd__services__images__v1__image_create__labels_entry__init(&e[i]);
		else
			containerd__services__images__v1__image_update__labels_entry__init((
				Containerd__Services__Images__V1__ImageUpdate__LabelsEntry *)&e[i]);
		e[i].key = (char *)labels->v[i].key;
		e[i].value = (char *)labels->v[i].value;
		v[i] = &e[i];
	}
	c.name = u.name = (char *)name;
	c.labels = v;
	u.labels = (Containerd__Services__Images__V1__ImageUpdate__LabelsEntry **)v;
	c.n_labels = u.n_labels = n;
	return event_publish(ctx, t->o.events, created ? "/images/create" : "/images/update",
			     created ? &c.base : &u.base, err);
}

int store_image(struct ctx *ctx, struct transfer *t, const char *name,
		const struct descriptor *target, const struct labels *labels, struct reporter *rep,
		struct err *err)
{
	struct image i = {.name = name, .labels = *labels, .target = *target}, stored;
	char *paths[] = {(char *)"target", (char *)"labels"};
	bool created = true;
	int r = image_create(ctx, t->o.db, &i, (struct timespec){0}, &stored, err);
	if (r == -ERR_ALREADY_EXISTS) {
		created = false;
		r = image_update(ctx, t->o.db, &i, paths, labels->n ? 2 : 1, (struct timespec){0},
				 &stored, err);
	}
	if (r == 0)
		r = publish_image(ctx, t, name, &stored.labels, created, err);
	if (r == 0)
		report_object(rep, "saved", name, target, 0, 0);
	return r;
}

int transfer_tag(struct ctx *ctx, struct transfer *t, const char *from,
		 const struct transfer_store *to, struct err *err)
{
	struct image i;
	struct reporter rep;
	int r = image_get(ctx, t->o.db, from, &i, err);
	if (r < 0)
		return r;
	reporter_init(&rep, NULL);
	r = store_image(ctx, t, to->name, &i.target, to->labels.n ? &to->labels : &i.labels, &rep,
			err);
	reporter_done(&rep);
	return r;
}
