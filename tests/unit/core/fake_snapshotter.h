/* SPDX-License-Identifier: Apache-2.0 */
/* A snapshotter that keeps its snapshots in memory and obeys the rules of the table. One thread at
 * a time. */
#pragma once

#include "core/snapshot.h"
#include "util.h"

#define FAKE_MAX 64

struct fake {
	struct snapshotter base;
	struct arena *arena;
	struct snapshot_info v[FAKE_MAX];
	size_t n;
	int cleanups;
	int n_removed;
	const char *removed[FAKE_MAX];
	bool fail_prepare_exists; /* as a remote snapshotter that has the target already */
};

static inline struct snapshot_info *fake_find(struct fake *f, const char *key)
{
	for (size_t i = 0; i < f->n; i++)
		if (streq(f->v[i].name, key))
			return &f->v[i];
	return NULL;
}

static inline int fake_not_found(const char *key, struct err *err)
{
	return err_set(err, ERR_NOT_FOUND, "snapshot %s does not exist", key);
}

static inline int fake_stat(struct ctx *ctx, struct snapshotter *s, const char *key,
			    struct snapshot_info *ret, struct err *err)
{
	struct snapshot_info *i = fake_find((struct fake *)s, key);

	if (!i)
		return fake_not_found(key, err);
	*ret = *i;
	return 0;
}

static inline int fake_update(struct ctx *ctx, struct snapshotter *s,
			      const struct snapshot_info *info, char *const *paths, size_t n,
			      struct snapshot_info *ret, struct err *err)
{
	struct fake *f = (struct fake *)s;
	struct snapshot_info *i = fake_find(f, info->name);

	if (!i)
		return fake_not_found(info->name, err);
	assert_int_equal(labels_copy(f->arena, &i->labels, &info->labels), 0);
	*ret = *i;
	return 0;
}

static inline int fake_usage(struct ctx *ctx, struct snapshotter *s, const char *key,
			     struct snapshot_usage *ret, struct err *err)
{
	if (!fake_find((struct fake *)s, key))
		return fake_not_found(key, err);
	*ret = (struct snapshot_usage){.size = 42, .inodes = 2};
	return 0;
}

static inline int fake_mounts(struct ctx *ctx, struct snapshotter *s, const char *key,
			      struct mounts *ret, struct err *err)
{
	struct snapshot_info *i = fake_find((struct fake *)s, key);

	if (!i)
		return fake_not_found(key, err);
	if (i->kind == SNAPSHOT_COMMITTED)
		return err_set(err, ERR_FAILED_PRECONDITION,
			       "requested snapshot %s not active or view", key);
	ret->v = arena_new_obj(ctx->arena, struct mount);
	ret->v->type = "bind";
	ret->v->source = arena_strdup(ctx->arena, key);
	ret->n = 1;
	return 0;
}

static inline void fake_add(struct fake *f, enum snapshot_kind kind, const char *key,
			    const char *parent, const struct labels *labels)
{
	struct snapshot_info *i = &f->v[f->n++];

	assert_true(f->n <= FAKE_MAX);
	*i = (struct snapshot_info){.kind = kind,
				    .name = arena_strdup(f->arena, key),
				    .parent = arena_strdup(f->arena, parent)};
	if (labels)
		assert_int_equal(labels_copy(f->arena, &i->labels, labels), 0);
}

static inline int fake_prepare(struct ctx *ctx, struct snapshotter *s, enum snapshot_kind kind,
			       const char *key, const char *parent, const struct labels *labels,
			       struct mounts *ret, struct err *err)
{
	struct fake *f = (struct fake *)s;
	struct snapshot_info *p = *parent ? fake_find(f, parent) : NULL;

	if (f->fail_prepare_exists || fake_find(f, key))
		return err_set(err, ERR_ALREADY_EXISTS, "snapshot %s", key);
	if (*parent && !p)
		return fake_not_found(parent, err);
	if (p && p->kind != SNAPSHOT_COMMITTED)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "failed to create snapshot: parent \"%s\" is not committed snapshot",
			       parent);
	fake_add(f, kind, key, parent, labels);
	return fake_mounts(ctx, s, key, ret, err);
}

static inline int fake_commit(struct ctx *ctx, struct snapshotter *s, const char *name,
			      const char *key, const char *parent, const struct labels *labels,
			      struct err *err)
{
	struct fake *f = (struct fake *)s;
	struct snapshot_info *i = fake_find(f, key);

	if (!i)
		return fake_not_found(key, err);
	if (i->kind != SNAPSHOT_ACTIVE)
		return err_set(err, ERR_FAILED_PRECONDITION, "snapshot %s is not active", key);
	if (fake_find(f, name))
		return err_set(err, ERR_ALREADY_EXISTS, "snapshot %s", name);
	i->kind = SNAPSHOT_COMMITTED;
	i->name = arena_strdup(f->arena, name);
	if (*parent)
		i->parent = arena_strdup(f->arena, parent);
	assert_int_equal(labels_copy(f->arena, &i->labels, labels), 0);
	return 0;
}

static inline int fake_remove(struct ctx *ctx, struct snapshotter *s, const char *key,
			      struct err *err)
{
	struct fake *f = (struct fake *)s;
	struct snapshot_info *i = fake_find(f, key);

	if (!i)
		return fake_not_found(key, err);
	for (size_t k = 0; k < f->n; k++)
		if (streq(f->v[k].parent, key))
			return err_set(err, ERR_FAILED_PRECONDITION,
				       "cannot remove snapshot with child");
	f->removed[f->n_removed++] = i->name;
	*i = f->v[--f->n];
	return 0;
}

static inline int fake_walk(struct ctx *ctx, struct snapshotter *s,
			    int (*fn)(void *arg, const struct snapshot_info *info), void *arg,
			    struct err *err)
{
	struct fake *f = (struct fake *)s;
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < f->n; i++)
		rc = fn(arg, &f->v[i]);
	return rc;
}

static inline int fake_cleanup(struct ctx *ctx, struct snapshotter *s, struct err *err)
{
	((struct fake *)s)->cleanups++;
	return 0;
}

static const struct snapshotter_ops fake_ops = {
	.stat = fake_stat,
	.update = fake_update,
	.usage = fake_usage,
	.mounts = fake_mounts,
	.prepare = fake_prepare,
	.commit = fake_commit,
	.remove = fake_remove,
	.walk = fake_walk,
	.cleanup = fake_cleanup,
};

static inline void fake_init(struct fake *s, struct fix *f)
{
	*s = (struct fake){.base = {.ops = &fake_ops, .name = "fake", .can_rebase = true},
			   .arena = f->arena};
	assert_ok(db_add_snapshotter(f->db, &s->base, &f->err));
}
