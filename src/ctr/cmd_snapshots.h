/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of `ctr snapshots` share; images use it too. */
#pragma once

#include "ctr/commands.h"
#include "ctr/listing.h"

extern const struct ctr_command snapshots_diff;	  /* cmd_snapshots_layer.c */
extern const struct ctr_command snapshots_unpack; /* cmd_snapshots_layer.c */

/* Connects, and chooses the snapshotter. */
int snapshots_connect(struct ctr *c, const char **ret_snapshotter, struct err *err) _must_check_;
/* A row KEY SIZE INODES. */
int snapshots_add_usage(struct ctr *c, struct listing *list, const char *snapshotter,
			const char *key, bool bytes, struct err *err) _must_check_;
/* Has the daemon's mount manager do its part of @m, under @name and c->ctx's lease; what is left
 * for mount(8) is @m then. Most snapshots need nothing of it: 0, and @m stays. *@ret_active (may be
 * NULL): something was done. */
int snapshots_activate(struct ctr *c, const char *name, struct client_mounts *m, bool *ret_active,
		       struct err *err) _must_check_;
/* All snapshots of a snapshotter, in the arena. */
struct snapshots {
	PB_SNAPSHOTS(Info) * *v;
	size_t n, cap;
};
int snapshots_list(struct ctr *c, const char *snapshotter, struct snapshots *ret,
		   struct err *err) _must_check_;
extern const struct ctr_command snapshots_prune; /* cmd_prune.c */
