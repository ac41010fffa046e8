/* SPDX-License-Identifier: Apache-2.0 */
/* User namespaces (user_namespaces(7)) as descriptors. Any thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/* A user namespace with these maps ("container:host:length[,...]"). The caller closes it.
 * -ERR_INVALID_ARGUMENT */
int userns_open(const char *uidmap, const char *gidmap, int *ret_fd, struct err *err) _must_check_;
/* And a network namespace that belongs to it (@ret_netns_fd may be NULL). */
int userns_open_net(const char *uidmap, const char *gidmap, int *ret_fd, int *ret_netns_fd,
		    struct err *err) _must_check_;

/* True when this process is in the initial user namespace: its root is the host's. To be asked
 * before /proc is out of reach. */
bool userns_is_initial(void);
/* Whether @gid is somebody in this process's user namespace. */
bool userns_has_group(uint32_t gid);
