/* SPDX-License-Identifier: Apache-2.0 */
/* io.containerd.sandbox.controller.v1 shim: sandboxes that are the shim of a runtime, which serves
 * containerd.runtime.sandbox.v1.Sandbox.
 *
 * Create starts the shim (as for a task, in a bundle of its own), Shutdown ends it. The shim
 * outlives the daemon; the next one finds it by the bundle:
 *
 *     <state>/<ns>/<id>/   as of a task: config.json (when the sandbox has a spec),
 * bootstrap.json...
 */
#pragma once

#include "plugins/runtime/runtime.h"
#include "plugins/sandbox/controller.h"

/* @o  root and state are this plugin's; what lies behind its pointers lives as long as the
 * controller */
int shim_controller_new(const struct runtime_options *o, struct sandbox_controller **ret,
			struct err *err) _must_check_;
/* Finds the sandboxes of an earlier daemon again; removes those whose shim is gone, and those of
 * which there is no record any more. Blocks; the loop must run. */
int shim_controller_load(struct ctx *ctx, struct sandbox_controller *c,
			 struct err *err) _must_check_;
/* Before the pool ends: shims that die from here on are left to the next daemon. */
void shim_controller_quiesce(struct sandbox_controller *c);
/* After the pool, while the loop still runs: closes the connections. Shims go on running. */
void shim_controller_disconnect(struct sandbox_controller *c);
