/* SPDX-License-Identifier: Apache-2.0 */
/* What mounts describe, mounted where nobody else sees it.
 *
 * The mount is made in a mount namespace of its own, by a short-lived thread: it does not
 * propagate, and when the daemon dies it is gone. Descriptors of the namespace and of the mount's
 * top keep both alive until temp_mount_done().
 *
 * Mounts whose type has a prefix (plugins/mounts/transform.h) are fine: then those before the last
 * are mounted beside it, each at a place of its own.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/ctx.h"
#include "oci/descriptor.h"

struct temp_mount {
	int fd; /* the mount's top, O_RDONLY; may be taken out */
	int ns_fd;
	char dir[128]; /* mount point in that namespace, "" = none */
};

#define TEMP_MOUNT_INIT ((struct temp_mount){.fd = -1, .ns_fd = -1})

/* Mounts one over the other. temp_mount_done() has to follow on failure, too. */
int temp_mount(struct ctx *ctx, const struct mounts *mounts, struct temp_mount *ret,
	       struct err *err) _must_check_;
void temp_mount_done(struct temp_mount *m);

/* The same, but for everybody to see, at @target: a mount like any other, and what lies below it in
 * the list nowhere. */
int temp_mount_attach(struct ctx *ctx, const struct mounts *mounts, const char *target,
		      struct err *err) _must_check_;

/* Runs @fn on a thread in a mount namespace of its own: what it mounts nobody else sees, and it is
 * gone afterwards. */
int mount_ns_run(int (*fn)(void *arg, struct err *err), void *arg, struct err *err) _must_check_;

/* Descriptor of a directory for reading. */
int dir_open(const char *path, struct err *err) _must_check_;

/* What follows @prefix ("upperdir=") in the last option that begins with it; NULL = none. */
const char *mount_option_value(const struct mount *m, const char *prefix);
bool mount_option_given(const struct mount *m, const char *name);
