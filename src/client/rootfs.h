/* SPDX-License-Identifier: Apache-2.0 */
/* Reads /etc/passwd and /etc/group of a container's root file system: of a directory, or of a
 * snapshot's mounts, which are mounted read-only in a mount namespace that only one short-lived
 * thread sees. What only the daemon's mount manager can mount it does meanwhile. */
#pragma once

#include "base/err.h"
#include "client/client.h"
#include "oci/user.h"

/* See user_resolve(). @dir: a root file system that is there already; NULL = @mounts. Files that
 * are missing count as empty. */
int client_rootfs_user(struct client *c, struct ctx *ctx, const char *dir,
		       const struct client_mounts *mounts, const char *user, struct user_ids *ret,
		       struct err *err) _must_check_;
