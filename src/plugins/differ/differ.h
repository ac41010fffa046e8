/* SPDX-License-Identifier: Apache-2.0 */
/* Differs: what unpacks layers and makes them, as back ends behind a table of functions, and a list
 * of them in the order in which they are asked.
 *
 * Any thread but the loop's; results live in ctx's arena.
 */
#pragma once

#include "core/container.h"
#include "plugins/differ/walking.h"

struct differ;

/* For the stream processor @id. */
struct payload {
	const char *id;
	struct any any;
};

struct apply_request {
	const struct descriptor *desc;
	int fd; /* the layer while it is still coming, read to its end; -1 = from the content store
		 */
	const struct mounts *mounts;
	bool sync_fs;
	/* As in walking_apply_alone(); -ERR_ABORTED also from one that can not. */
	bool alone;
	const struct payload *payloads;
	size_t n_payloads;
};

struct differ_ops {
	/* Both: -ERR_UNIMPLEMENTED = not a media type of this one. */
	int (*apply)(struct ctx *ctx, struct differ *d, const struct apply_request *q,
		     struct descriptor *ret, struct err *err);
	int (*diff)(struct ctx *ctx, struct differ *d, const struct mounts *lower,
		    const struct mounts *upper, const struct walking_diff_options *o,
		    struct descriptor *ret, struct err *err);
	void (*free)(struct differ *d);
};

struct differ {
	const struct differ_ops *ops;
	const char *name;
	bool streams; /* takes a layer that is still coming */
};

struct differs {
	struct differ **v; /* borrowed */
	size_t n;
};

/* By the first that knows the media type. With a descriptor only those that can read from it are
 * asked.
 *
 * -ERR_UNIMPLEMENTED  none does */
int differs_apply(struct ctx *ctx, const struct differs *all, const struct apply_request *q,
		  struct descriptor *ret, struct err *err) _must_check_;
int differs_diff(struct ctx *ctx, const struct differs *all, const struct mounts *lower,
		 const struct mounts *upper, const struct walking_diff_options *o,
		 struct descriptor *ret, struct err *err) _must_check_;

struct processors;

/* io.containerd.differ.v1.walking. @processors is borrowed, may be NULL. */
int walking_new(struct db *db, const struct processors *processors, struct differ **ret,
		struct err *err) _must_check_;

struct erofs_differ_options {
	const char *const *mkfs_options; /* NULL-terminated or NULL; outlives the differ */
	bool tar_index; /* images are an index and the layer's tar: see erofs_probe() */
};

/* io.containerd.differ.v1.erofs. */
int erofs_differ_new(struct db *db, const struct erofs_differ_options *o, struct differ **ret,
		     struct err *err) _must_check_;
