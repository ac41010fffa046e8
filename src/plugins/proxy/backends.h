/* SPDX-License-Identifier: Apache-2.0 */
/* What plugins in other processes stand for. Each of these is a back end over a struct proxy, which
 * it borrows, and which outlives it. */
#pragma once

#include <stdbool.h>

#include "core/content.h"
#include "core/snapshot.h"
#include "plugins/differ/differ.h"
#include "plugins/proxy/proxy.h"
#include "plugins/sandbox/controller.h"

/* containerd.services.snapshots.v1.Snapshots, under the proxy's name.
 * @can_rebase  the plugin has the capability "rebase" */
int proxy_snapshotter_new(struct proxy *p, bool can_rebase, struct snapshotter **ret,
			  struct err *err) _must_check_;

/* containerd.services.content.v1.Content. @spool: directory for blobs that are to be had as a
 * file. */
int proxy_content_new(struct proxy *p, const char *spool, struct content_store **ret,
		      struct err *err) _must_check_;

/* containerd.services.diff.v1.Diff. */
int proxy_differ_new(struct proxy *p, struct differ **ret, struct err *err) _must_check_;

/* containerd.services.sandbox.v1.Controller. */
int proxy_controller_new(struct proxy *p, struct sandbox_controller **ret,
			 struct err *err) _must_check_;
