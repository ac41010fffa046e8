/* SPDX-License-Identifier: Apache-2.0 */
/* snapshots/<id>/fs, the top directory of a layer, of the snapshotters that mount overlays: it is
 * what the top of the mounted overlay looks like. */
#pragma once

#include "plugins/snapshotter/local.h"

#define LABEL_UIDMAP "containerd.io/snapshot/uidmapping"
#define LABEL_GIDMAP "containerd.io/snapshot/gidmapping"

/* Makes @temp/fs, and what overlays need: @temp/work for an active snapshot, and a top that looks
 * like the parent's and belongs to whom the labels of id maps say. That is left out where fs is
 * not the upper directory. */
int top_make(struct ctx *ctx, struct local *l, const struct storage_snapshot *s, const char *temp,
	     bool upper, struct err *err) _must_check_;

/* A layer without a parent that gets @parent only now ("" = no) gets what it would have got when it
 * was made. */
int top_rebase(struct ctx *ctx, struct local *l, uint64_t id, const struct snapshot_info *info,
	       const char *parent, struct err *err) _must_check_;

/* What is in fs. */
int top_usage(struct ctx *ctx, struct local *l, uint64_t id, struct snapshot_usage *ret,
	      struct err *err) _must_check_;
