/* SPDX-License-Identifier: Apache-2.0 */
/* Starting a shim and reaching it: the protocol between containerd and a shim binary (start,
 * delete, bootstrap.json). */
#pragma once

#include "plugins/runtime/bundle.h"
#include "plugins/runtime/runtime.h"

/* Where a shim listens, as its "start" answered and bootstrap.json keeps it. */
struct shim_address {
	const char *address;  /* unix:///run/containerd/s/... */
	const char *protocol; /* ttrpc */
	int version;	      /* of the task API: 2 or 3 */
};

#define SHIM_VERSION_MAX 3

/* Absolute path of the shim of @runtime ("io.containerd.runc.v2", or an absolute path): beside the
 * daemon's own executable, then in PATH. -ERR_NOT_FOUND `runtime "x" binary not installed
 * "containerd-shim-x-y": file does not exist`. */
int shim_binary(struct ctx *ctx, const char *runtime, char **ret, struct err *err) _must_check_;

/* Runs `<binary> ... start` in the bundle and writes bootstrap.json and shim-binary-path. */
int shim_start(struct ctx *ctx, const struct runtime_options *o, const struct bundle *b,
	       const char *ns, const char *id, const char *binary, const struct any *options,
	       struct shim_address *ret, struct err *err) _must_check_;

/* The same for a task that joins the shim of a sandbox: writes bootstrap.json and `sandbox`. */
int shim_join(struct arena *a, const struct bundle *b, const char *sandbox_id,
	      const struct shim_address *addr, struct err *err) _must_check_;

/* Runs `<binary> ... delete`; what it says about the exit, or status 255 and now. */
int shim_delete(struct ctx *ctx, const struct runtime_options *o, const struct bundle *b,
		const char *ns, const char *id, const char *binary, struct runtime_exit *ret,
		struct err *err) _must_check_;

/* Reads bootstrap.json, or the file `address` of old shims. */
int shim_address_load(struct arena *a, const struct bundle *b, struct shim_address *ret,
		      struct err *err) _must_check_;

/* A connected socket. */
int shim_connect(const struct shim_address *addr, int *ret_fd, struct err *err) _must_check_;
