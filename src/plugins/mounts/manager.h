/* SPDX-License-Identifier: Apache-2.0 */
/* io.containerd.mount-manager.v1 bolt: mounts what a mount(2) alone cannot, and keeps it mounted
 * under a name.
 *
 * A list of mounts is activated: those whose type has a prefix (see transform.h) are worked on, and
 * those that a later one refers to with format/, or whose type has a handler, are mounted below
 * <state>/t/<id>/, with all before them. What is left of the list (`system`) is for the caller to
 * mount. An activation lives until it is deactivated, or
 * until nothing refers to it: no lease, no label of a live object (containerd.io/gc.ref.mount), and
 * no live object that its own labels name (containerd.io/gc.bref.*).
 *
 *     <state>/mounts.db               schema of containerd's: docs/bolt-schema
 *     <state>/t/<id>/<n>, <n>-type    mount point and type; n counts down to 1
 *
 * Any thread. Results live in ctx's arena. */
#pragma once

#include <time.h>

#include "base/ctx.h"
#include "base/labels.h"
#include "core/gc.h"
#include "oci/descriptor.h"

struct mount_manager;

struct mount_manager_options {
	const char *state; /* directory of the plugin */
	const char *const
		*roots; /* directories below which mkdir/ and mkfs/ may work; NULL-terminated */
	/* Types that are always mounted here (mount handlers); NULL-terminated; NULL = none. */
	const char *const *handled;
	struct db *db; /* whose collections include activations; NULL = none */
};

struct mount_active {
	struct mount mount; /* from the database: its type only */
	struct timespec mounted_at;
	const char *mount_point;
};

struct mount_activation {
	const char *name;
	struct mount_active *active;
	size_t n_active;
	struct mounts system;
	struct labels labels;
	const char *lease; /* "" = none */
	uint64_t id;
	bool done; /* false: under way, or left behind by a daemon that ended meanwhile */
};

/* Removes what an earlier daemon has left half done. */
int mount_manager_open(const struct mount_manager_options *o, struct mount_manager **ret,
		       struct err *err) _must_check_;
/* What is mounted stays. NULL is fine. */
void mount_manager_close(struct mount_manager *m);
/* As it is registered with the database. */
struct gc_collector mount_manager_collector(struct mount_manager *m);

/* -ERR_UNIMPLEMENTED `not implemented`  there is nothing to do but plain mounts
 * -ERR_ALREADY_EXISTS                   @name is taken */
int mount_activate(struct ctx *ctx, struct mount_manager *m, const char *name,
		   const struct mounts *mounts, const struct labels *labels,
		   struct mount_activation *ret, struct err *err) _must_check_;
/* When nothing is left of the list: a bind mount of what was mounted last becomes what is left. */
int mount_activation_bind(struct arena *a, struct mount_activation *act,
			  struct err *err) _must_check_;
/* -ERR_NOT_FOUND; -ERR_FAILED_PRECONDITION while it is being activated. */
int mount_deactivate(struct ctx *ctx, struct mount_manager *m, const char *name,
		     struct err *err) _must_check_;
int mount_activation_info(struct ctx *ctx, struct mount_manager *m, const char *name,
			  struct mount_activation *ret, struct err *err) _must_check_;
int mount_activation_list(struct ctx *ctx, struct mount_manager *m, struct mount_activation **ret,
			  size_t *ret_n, struct err *err) _must_check_;
