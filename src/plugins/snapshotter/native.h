/* SPDX-License-Identifier: Apache-2.0 */
/* io.containerd.snapshotter.v1.native */
#pragma once

#include "core/snapshot.h"

/* The snapshotter at @root (absolute; made when absent). Freed by its ops->free. */
int native_new(const char *root, struct snapshotter **ret, struct err *err) _must_check_;
