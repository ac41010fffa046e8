/* SPDX-License-Identifier: Apache-2.0 */
/* snapshots/<id>/fs, the top directory of a layer, of the snapshotters that mount overlays: it is
 * what the top of the mounted overlay looks like. */
#pragma once

#include "plugins/snapshotter/storage.h"

#define LABEL_UIDMAP "containerd.io/snapshot/uidmapping"
#define LABEL_GIDMAP "containerd.io/snapshot/gidmapping"

/* @root/snapshots/@id/@leaf; NULL = no memory. */
char *snapdir_path(struct arena *a, const char *root, uint64_t id, const char *leaf);

/* The new layer's top directory @name looks like the parent's, and belongs to whom the labels of
 * id maps say. */
int top_fit(struct ctx *ctx, const char *root, const struct storage_snapshot *s, int dirfd,
	    const char *name, struct err *err) _must_check_;

/* A layer that gets its @parent only now gets what it would have got when it was made. */
int top_rebase(struct ctx *ctx, const char *root, struct storage *st, uint64_t id,
	       const struct labels *labels, const char *parent, struct err *err) _must_check_;
