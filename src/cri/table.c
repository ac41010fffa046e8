/* SPDX-License-Identifier: Apache-2.0 */
/* Tables of pods and containers: an array sorted by id, which makes prefixes a binary search, and
 * one of reserved names. */
#include "cri/table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "base/time.h"

#define WAIT_STEP_NS (100 * NSEC_PER_MSEC)

struct reservation {
	char *name, *id;
};

struct cri_table {
	const char *noun;
	pthread_mutex_t lock; /* guards all below */
	struct cri_object **v;
	size_t n, cap;
	struct reservation *names; /* sorted by name */
	size_t n_names, names_cap;
};

/* ---- objects ---- */

int cri_object_new(size_t size, const char *id, const char *name,
		   void (*release)(struct cri_object *o), void *ret, struct err *err)
{
	struct arena *a = arena_new(0);
	struct cri_object *o = a ? arena_zalloc(a, size) : NULL;
	pthread_condattr_t attr;

	if (!o || !(o->id = arena_strdup(a, id)) || !(o->name = arena_strdup(a, name))) {
		arena_free(a);
		return err_nomem(err);
	}
	o->arena = a;
	o->refs = 1;
	o->release = release;
	pthread_mutex_init(&o->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&o->changed, &attr);
	pthread_condattr_destroy(&attr);
	*(struct cri_object **)ret = o;
	return 0;
}

void cri_object_ref(struct cri_object *o)
{
	atomic_fetch_add(&o->refs, 1);
}

void cri_object_unref(struct cri_object *o)
{
	if (!o || atomic_fetch_sub(&o->refs, 1) != 1)
		return;
	if (o->release)
		o->release(o);
	pthread_cond_destroy(&o->changed);
	pthread_mutex_destroy(&o->lock);
	arena_free(o->arena);
}

int cri_object_wait(struct ctx *ctx, struct cri_object *o, struct err *err)
{
	int64_t at = time_mono() + WAIT_STEP_NS;
	int r = ctx_check(ctx, err);

	if (r < 0)
		return r;
	if (ctx->deadline && ctx->deadline < at)
		at = ctx->deadline;
	struct timespec ts = {.tv_sec = at / NSEC_PER_SEC, .tv_nsec = at % NSEC_PER_SEC};
	(void)pthread_cond_timedwait(&o->changed, &o->lock, &ts);
	return 0;
}

int cri_object_begin(struct ctx *ctx, struct cri_object *o, struct err *err)
{
	MUTEX_GUARD(&o->lock);
	while (o->busy) {
		int r = cri_object_wait(ctx, o, err);
		if (r < 0)
			return err_prefix(err, "wait for another operation on %s", o->name);
	}
	o->busy = true;
	return 0;
}

void cri_object_end(struct cri_object *o)
{
	MUTEX_GUARD(&o->lock);
	o->busy = false;
	pthread_cond_broadcast(&o->changed);
}

/* ---- tables ---- */

struct cri_table *cri_table_new(const char *noun)
{
	struct cri_table *t = calloc(1, sizeof(*t));
	if (!t)
		return NULL;
	t->noun = noun;
	pthread_mutex_init(&t->lock, NULL);
	return t;
}

void cri_table_free(struct cri_table *t)
{
	if (!t)
		return;
	for (size_t i = 0; i < t->n; i++)
		cri_object_unref(t->v[i]);
	for (size_t i = 0; i < t->n_names; i++) {
		free(t->names[i].name);
		free(t->names[i].id);
	}
	free(t->names);
	free(t->v);
	pthread_mutex_destroy(&t->lock);
	free(t);
}

/* Index of the first name that is not before @name. */
static size_t name_at(const struct cri_table *t, const char *name)
{
	size_t lo = 0, hi = t->n_names;
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		if (strcmp(t->names[mid].name, name) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* Room for one more of @size bytes. */
static int grow(void *array, size_t n, size_t *cap, size_t size)
{
	if (n < *cap)
		return 0;
	size_t more = *cap ? *cap * 2 : 16;
	void *p = reallocarray(*(void **)array, more, size);
	if (!p)
		return -ENOMEM;
	*(void **)array = p;
	*cap = more;
	return 0;
}

int cri_table_reserve(struct cri_table *t, const char *name, const char *id, struct err *err)
{
	MUTEX_GUARD(&t->lock);
	size_t i = name_at(t, name);

	if (i < t->n_names && streq(t->names[i].name, name)) {
		if (streq(t->names[i].id, id))
			return 0;
		return err_set(
			err, ERR_UNKNOWN,
			"failed to reserve %s name \"%s\": name \"%s\" is reserved for \"%s\"",
			t->noun, name, name, t->names[i].id);
	}
	_cleanup_free_ char *n = strdup(name), *d = strdup(id);
	if (!n || !d || grow(&t->names, t->n_names, &t->names_cap, sizeof(*t->names)) < 0)
		return err_nomem(err);
	memmove(t->names + i + 1, t->names + i, (t->n_names - i) * sizeof(*t->names));
	t->names[i] = (struct reservation){TAKE_PTR(n), TAKE_PTR(d)};
	t->n_names++;
	return 0;
}

void cri_table_release(struct cri_table *t, const char *id)
{
	MUTEX_GUARD(&t->lock);
	for (size_t i = 0; i < t->n_names; i++)
		if (streq(t->names[i].id, id)) {
			free(t->names[i].name);
			free(t->names[i].id);
			memmove(t->names + i, t->names + i + 1,
				(--t->n_names - i) * sizeof(*t->names));
			return;
		}
}

/* Index of the first object that is not before @id. */
static size_t object_at(const struct cri_table *t, const char *id)
{
	size_t lo = 0, hi = t->n;
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		if (strcmp(t->v[mid]->id, id) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

int cri_table_add(struct cri_table *t, struct cri_object *o, struct err *err)
{
	MUTEX_GUARD(&t->lock);
	size_t i = object_at(t, o->id);

	if (i < t->n && streq(t->v[i]->id, o->id))
		return err_set(err, ERR_ALREADY_EXISTS, "%s \"%s\"", t->noun, o->id);
	if (grow(&t->v, t->n, &t->cap, sizeof(struct cri_object *)) < 0)
		return err_nomem(err);
	memmove(t->v + i + 1, t->v + i, (t->n - i) * sizeof(struct cri_object *));
	t->v[i] = o;
	t->n++;
	cri_object_ref(o);
	return 0;
}

void cri_table_remove(struct cri_table *t, const char *id)
{
	struct cri_object *o = NULL;

	pthread_mutex_lock(&t->lock);
	size_t i = object_at(t, id);
	if (i < t->n && streq(t->v[i]->id, id)) {
		o = t->v[i];
		memmove(t->v + i, t->v + i + 1, (--t->n - i) * sizeof(struct cri_object *));
	}
	pthread_mutex_unlock(&t->lock);
	cri_object_unref(o);
}

int cri_table_get(struct cri_table *t, const char *id, void *ret, struct err *err)
{
	MUTEX_GUARD(&t->lock);

	if (str_empty(id))
		return err_set(err, ERR_UNKNOWN, "%s id must not be empty", t->noun);
	size_t i = object_at(t, id);
	if (i == t->n || !str_has_prefix(t->v[i]->id, id))
		return err_set(err, ERR_NOT_FOUND, "an error occurred when try to find %s \"%s\"",
			       t->noun, id);
	if (!streq(t->v[i]->id, id) && i + 1 < t->n && str_has_prefix(t->v[i + 1]->id, id))
		return err_set(err, ERR_UNKNOWN,
			       "%s id \"%s\" is ambiguous: it begins more than one", t->noun, id);
	cri_object_ref(t->v[i]);
	*(struct cri_object **)ret = t->v[i];
	return 0;
}

int cri_table_list(struct cri_table *t, struct arena *a, struct cri_object ***ret, size_t *ret_n,
		   struct err *err)
{
	MUTEX_GUARD(&t->lock);
	struct cri_object **v = arena_new_array(a, struct cri_object *, t->n + 1);

	if (!v)
		return err_nomem(err);
	for (size_t i = 0; i < t->n; i++) {
		v[i] = t->v[i];
		cri_object_ref(v[i]);
	}
	*ret = v;
	*ret_n = t->n;
	return 0;
}

void cri_objects_unref(struct cri_object **v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		cri_object_unref(v[i]);
}

size_t cri_table_count(struct cri_table *t)
{
	MUTEX_GUARD(&t->lock);
	return t->n;
}

void cri_id_new(char ret[CRI_ID_LEN + 1])
{
	uint8_t bytes[CRI_ID_LEN / 2];
	random_bytes(bytes, sizeof(bytes));
	hex_encode(bytes, sizeof(bytes), ret);
}
