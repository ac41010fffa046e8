/* SPDX-License-Identifier: Apache-2.0 */
/* The pause process of this project: what a sandbox runs when the configuration names no image for
 * it.
 *
 * A directory below the plugin's root, <root>/pause/, is the root file system of all such
 * sandboxes, mounted read-only: the program and the mount points that a runtime needs. */
#pragma once

#include "cri/internal.h"
#include "oci/descriptor.h"

/* What containerd's configuration has by itself: nobody asked for it. */
#define CRI_PAUSE_IMAGE_DEFAULT "registry.k8s.io/pause:3.10.2"

/* Whether sandboxes of this configuration run our own. */
bool cri_pause_own(const struct cri_config *c);
/* Makes the directory, at start. */
int cri_pause_install(const struct cri *c, struct err *err) _must_check_;
/* The mount of it, and its image config ({"Entrypoint":["/pause"]}), which the caller decrefs. In
 * @a. */
int cri_pause_rootfs(const struct cri *c, struct arena *a, struct mounts *ret, json_t **ret_config,
		     struct err *err) _must_check_;
