/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of `ctr snapshots` share; images use it too. */
#pragma once

#include "ctr/commands.h"

extern const struct ctr_command snapshots_diff;	  /* cmd_snapshots_layer.c */
extern const struct ctr_command snapshots_unpack; /* cmd_snapshots_layer.c */

/* Connects, and chooses the snapshotter. */
int snapshots_connect(struct ctr *c, const char **ret_snapshotter, struct err *err) _must_check_;
/* A row KEY SIZE INODES. */
int snapshots_add_usage(struct ctr *c, struct table *t, const char *snapshotter, const char *key,
			bool bytes, struct err *err) _must_check_;
