/* SPDX-License-Identifier: Apache-2.0 */
/* Sandboxes as messages: what store and controller share. In the arena; nothing is copied that the
 * message has already. */
#pragma once

#include "core/sandbox.h"
#include "services/pb.h"

int sandbox_to_pb(struct arena *a, const struct sandbox *s, Containerd__Types__Sandbox **ret,
		  struct err *err) _must_check_;
/* -ERR_INVALID_ARGUMENT @m is NULL */
int sandbox_from_pb(struct arena *a, const Containerd__Types__Sandbox *m, struct sandbox *ret,
		    struct err *err) _must_check_;
