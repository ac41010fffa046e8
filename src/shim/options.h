/* SPDX-License-Identifier: Apache-2.0 */
/* Options of a task (containerd.runc.v1.Options), and the two files that keep them in the bundle
 * for `delete`: options.json and runtime. */
#pragma once

#include "base/arena.h"
#include "base/err.h"
#include "protos.h"

/* Part of a type URL after the last "/". */
const char *options_type_name(const char *type_url);
/* @any NULL, without a type, or with an empty value gives defaults. Lives in the arena.
 * -ERR_INVALID_ARGUMENT for another type. */
int options_unpack(struct arena *a, const Google__Protobuf__Any *any,
		   Containerd__Runc__V1__Options **ret, struct err *err) _must_check_;
int options_save(const char *bundle, const Containerd__Runc__V1__Options *o,
		 struct err *err) _must_check_;
/* Missing files give defaults. 0 or -errno. */
int options_load(struct arena *a, const char *bundle, const char **ret_binary,
		 const char **ret_root, bool *ret_systemd_cgroup);
