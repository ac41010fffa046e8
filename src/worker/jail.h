/* SPDX-License-Identifier: Apache-2.0 */
/* How a worker gives up what it does not need, before it looks at foreign bytes and before it
 * starts threads.
 *
 * Steps that a kernel may lack or that a container around the daemon may refuse (namespaces,
 * chroot, Landlock) are skipped when they are; dropping capabilities, no_new_privs and the system
 * call filter must work, else these return -ERR_*. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

/* User and group nobody, no capability, no exec; files cannot be opened for writing, cut or written
 * at an offset, and none grows: what can be written is pipes and sockets. Reading stays. */
int jail_fetch(struct err *err) _must_check_;

/* Root is @target_fd; namespaces of its own, without network; Landlock: nothing outside of
 * @target_fd and (read only) @lower_fds; capabilities for owners, modes, devices and file
 * capabilities, and @sys_admin (for trusted.* attributes). No sockets, no exec. */
int jail_unpack(int target_fd, const int *lower_fds, size_t n_lowers, bool sys_admin,
		struct err *err) _must_check_;

/* Root is @upper_fd; namespaces as for unpacking; Landlock: @upper_fd and @more_fds may be read,
 * nothing written; of the capabilities the one for reading everything. Opening for reading is all
 * that the filter has of opening; no sockets, no exec. */
int jail_pack(int upper_fd, const int *more_fds, size_t n, struct err *err) _must_check_;

/* As jail_fetch(), with namespaces of its own (listening sockets stay in theirs), nothing of the
 * file system and no executable memory: what is left is accepting, and talking on what is
 * connected. */
int jail_front(struct err *err) _must_check_;
/* User and group nobody, no capability, no network, and no file but those that are open: nothing
 * can be opened at all. */
int jail_recompress(struct err *err) _must_check_;
