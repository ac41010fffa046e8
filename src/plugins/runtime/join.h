/* SPDX-License-Identifier: Apache-2.0 */
/* What a task may find instead of making it: the shim of its sandbox, and mounts that the mount
 * manager makes. */
#pragma once

#include "plugins/runtime/shim.h"

/* The shim of the sandbox that container @id belongs to.
 *
 * @address, @version  as the client gave them, "ttrpc+unix:///..."; "" = the sandbox is looked for
 * by its bundle: that of a task, or that of the shim controller
 *
 * 1 = *@ret; 0 = the task gets a shim of its own: it is the sandbox itself, there is no record of
 * the sandbox, or its shim has version 2 of the task API, with which it serves one container only.
 * -ERR_NOT_FOUND `can't find sandbox x` */
int sandbox_shim_find(struct ctx *ctx, const struct runtime_options *o, const char *ns,
		      const char *id, const char *sandbox_id, const char *address, uint32_t version,
		      struct shim_address *ret, struct err *err) _must_check_;
/* True while the sandbox has a bundle, as a task or at the shim controller. */
bool sandbox_has_shim(struct arena *a, const struct runtime_options *o, const char *ns,
		      const char *sandbox_id);

/* Offers the root file system of task @id to the mount manager, which keeps what it mounts until
 * rootfs_deactivate(), and no longer than the container lives.
 * @ret  what is left to mount: *@in when there was nothing to do */
int rootfs_activate(struct ctx *ctx, const struct runtime_options *o, const char *id,
		    const struct mounts *in, struct mounts *ret, struct err *err) _must_check_;
/* What is not there is fine; what fails is logged. */
void rootfs_deactivate(struct ctx *ctx, const struct runtime_options *o, const char *id);
