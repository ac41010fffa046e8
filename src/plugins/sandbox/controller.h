/* SPDX-License-Identifier: Apache-2.0 */
/* Sandbox controllers: what brings a sandbox to life, of which core/sandbox.h only keeps the
 * record.
 *
 * A controller is a const table of functions with state behind it. Back ends: the shim of a runtime
 * (shim_controller.h), and whoever else fills in the table: a remote plugin, a pod of CRI. A set
 * has them by the names that clients give as `sandboxer`.
 *
 * A controller knows its sandboxes by namespace and id, and publishes nothing: events are the
 * service's. Threads: any, where nothing else is said; results live in ctx's arena; every call
 * needs ctx's namespace.
 */
#pragma once

#include <time.h>

#include "core/sandbox.h"
#include "oci/descriptor.h"

struct sandbox_controller;
struct sandbox_wait;

#define SANDBOX_READY "SANDBOX_READY"
#define SANDBOX_NOTREADY "SANDBOX_NOTREADY"

struct sandbox_create_options {
	struct mounts rootfs;
	struct any options; /* for the back end; type_url NULL = none */
	const char *netns_path;
	struct labels annotations;
};

/* A sandbox that runs. */
struct sandbox_instance {
	const char *id;
	uint32_t pid;
	struct timespec created_at;
	struct labels labels;
	/* Where its shim serves tasks, for Tasks.Create: "ttrpc+unix:///..."; "" = nowhere. */
	const char *address;
	uint32_t version; /* of that API */
	struct any spec;  /* type_url NULL = none */
};

struct sandbox_status {
	const char *id;
	uint32_t pid;
	const char *state; /* SANDBOX_READY, SANDBOX_NOTREADY, or the back end's own */
	struct labels info;
	struct timespec created_at, exited_at; /* zero = not */
	struct any extra;
	const char *address;
	uint32_t version;
};

struct sandbox_exit {
	uint32_t status;
	struct timespec at;
};

/* A containerd.types.Metric. */
struct sandbox_metric {
	const char *id;
	struct timespec at;
	struct any data;
};

/* On the loop; @x is valid during the call, and NULL when there is an @err. */
typedef void (*sandbox_wait_fn)(void *arg, const struct sandbox_exit *x, const struct err *err);

struct sandbox_controller_ops {
	/* Makes what @s describes; its record is the caller's affair. -ERR_ALREADY_EXISTS. */
	int (*create)(struct ctx *ctx, struct sandbox_controller *c, const struct sandbox *s,
		      const struct sandbox_create_options *o, struct err *err);
	int (*start)(struct ctx *ctx, struct sandbox_controller *c, const char *id,
		     struct sandbox_instance *ret, struct err *err);
	int (*platform)(struct ctx *ctx, struct sandbox_controller *c, const char *id,
			struct platform *ret, struct err *err);
	/* @timeout_secs 0 = the back end's own. One that is not there is stopped. */
	int (*stop)(struct ctx *ctx, struct sandbox_controller *c, const char *id,
		    uint32_t timeout_secs, struct err *err);
	/* On the loop's thread, where @fn is called later, once, unless wait_cancel() returned
	 * true. Does not block. -ERR_NOT_FOUND.
	 * @ret  valid until @fn was called or the wait was cancelled */
	int (*wait)(struct sandbox_controller *c, const char *ns, const char *id,
		    sandbox_wait_fn fn, void *arg, struct sandbox_wait **ret, struct err *err);
	/* On the loop's thread. false: @fn is about to be called. */
	bool (*wait_cancel)(struct sandbox_controller *c, struct sandbox_wait *w);
	/* One that is not there is told as not ready, or -ERR_NOT_FOUND, as the back end likes. */
	int (*status)(struct ctx *ctx, struct sandbox_controller *c, const char *id, bool verbose,
		      struct sandbox_status *ret, struct err *err);
	/* Ends it and removes everything of it. -ERR_NOT_FOUND. */
	int (*shutdown)(struct ctx *ctx, struct sandbox_controller *c, const char *id,
			struct err *err);
	int (*metrics)(struct ctx *ctx, struct sandbox_controller *c, const char *id,
		       struct sandbox_metric *ret, struct err *err);
	/* @paths: the fields of @s that have changed, n 0 = all. */
	int (*update)(struct ctx *ctx, struct sandbox_controller *c, const char *id,
		      const struct sandbox *s, char *const *paths, size_t n, struct err *err);
	/* After the loop has ended. */
	void (*free)(struct sandbox_controller *c);
};

struct sandbox_controller {
	const struct sandbox_controller_ops *ops;
};

/* ---- the set: filled before the first request, read by any thread then ---- */

#define SANDBOX_CONTROLLERS_MAX 32

struct sandbox_controllers {
	struct {
		const char *name;		  /* lives as long as the set */
		struct sandbox_controller *value; /* borrowed */
	} v[SANDBOX_CONTROLLERS_MAX];
	size_t n;
};

/* -ERR_ALREADY_EXISTS; -ERR_RESOURCE_EXHAUSTED. */
int sandbox_controllers_add(struct sandbox_controllers *set, const char *name,
			    struct sandbox_controller *c, struct err *err) _must_check_;
/* -ERR_INVALID_ARGUMENT @name is empty; -ERR_NOT_FOUND. */
int sandbox_controllers_get(const struct sandbox_controllers *set, const char *name,
			    struct sandbox_controller **ret, struct err *err) _must_check_;
