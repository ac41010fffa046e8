/* SPDX-License-Identifier: Apache-2.0 */
/* Sandboxes and managed mounts of tasks: see join.h. */
#include "plugins/runtime/join.h"

#include <limits.h>
#include <unistd.h>

#include "base/log.h"
#include "base/path.h"
#include "base/str.h"
#include "core/sandbox.h"
#include "plugins/mounts/manager.h"

#define CONTAINER_REF "containerd.io/gc.bref.container"

/* ---- sandboxes ---- */

/* "ttrpc+unix:///run/x": protocol and address. */
static int address_parse(struct arena *a, const char *text, uint32_t version,
			 struct shim_address *ret, struct err *err)
{
	const char *plus = strchr(text, '+');
	if (!plus || plus == text || !plus[1])
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "the scheme of sandbox address should be in the form of "
			       "<protocol>+<unix|vsock|tcp>, i.e. ttrpc+unix or grpc+vsock");
	char *protocol = arena_strndup(a, text, (size_t)(plus - text));
	char *address = arena_strdup(a, plus + 1);
	if (!protocol || !address)
		return err_nomem(err);
	if (!streq(protocol, "ttrpc"))
		return err_set(err, ERR_UNIMPLEMENTED, "sandbox address %s: protocol %s", text,
			       protocol);
	if (version > SHIM_VERSION_MAX)
		return err_set(err, ERR_UNIMPLEMENTED, "unsupported shim version (%u)", version);
	*ret = (struct shim_address){address, protocol, version ? (int)version : SHIM_VERSION_MAX};
	return 0;
}

/* Bundles that a sandbox's shim may have: of the task of that id, and of the controller. */
static int bundles(struct arena *a, const struct runtime_options *o, const char *ns,
		   const char *sandbox_id, struct bundle ret[2])
{
	int n = 0;
	if (ident_validate(sandbox_id, NULL) < 0)
		return 0;
	if (bundle_at(a, o->root, o->state, ns, sandbox_id, &ret[n], NULL) == 0)
		n++;
	if (o->sandbox_state &&
	    bundle_at(a, o->root, o->sandbox_state, ns, sandbox_id, &ret[n], NULL) == 0)
		n++;
	return n;
}

bool sandbox_has_shim(struct arena *a, const struct runtime_options *o, const char *ns,
		      const char *sandbox_id)
{
	struct bundle b[2];
	int n = bundles(a, o, ns, sandbox_id, b);
	for (int i = 0; i < n; i++)
		if (access(b[i].path, F_OK) == 0)
			return true;
	return false;
}

int sandbox_shim_find(struct ctx *ctx, const struct runtime_options *o, const char *ns,
		      const char *id, const char *sandbox_id, const char *address, uint32_t version,
		      struct shim_address *ret, struct err *err)
{
	struct sandbox record;
	struct shim_address addr;
	struct bundle b[2];
	struct err own = ERR_INIT;
	if (!str_empty(address)) {
		int r = address_parse(ctx->arena, address, version, ret, err);
		return r < 0 ? r : 1;
	}
	if (str_empty(sandbox_id) || streq(sandbox_id, id))
		return 0;
	int r = sandbox_get(ctx, o->db, sandbox_id, &record, &own);
	if (r == -ERR_NOT_FOUND)
		return 0;
	if (r < 0)
		return err_copy(err, &own);
	int n = bundles(ctx->arena, o, ns, sandbox_id, b);
	for (int i = 0; i < n; i++) {
		if (shim_address_load(ctx->arena, &b[i], &addr, NULL) < 0)
			continue;
		if (addr.version < SHIM_VERSION_MAX)
			return 0;
		*ret = addr;
		return 1;
	}
	return err_set(err, ERR_NOT_FOUND, "can't find sandbox %s", sandbox_id);
}

/* ---- mounts ---- */

int rootfs_activate(struct ctx *ctx, const struct runtime_options *o, const char *id,
		    const struct mounts *in, struct mounts *ret, struct err *err)
{
	struct mount_activation act;
	struct labels labels = {0};
	struct err own = ERR_INIT;
	*ret = *in;
	if (!o->mounts || in->n == 0)
		return 0;
	if (labels_set(ctx->arena, &labels, CONTAINER_REF, id) < 0)
		return err_nomem(err);
	int r = mount_activate(ctx, o->mounts, id, in, &labels, &act, &own);
	if (r == -ERR_ALREADY_EXISTS) {
		/* Of an earlier task of this name, which is gone: there is only one at a time. */
		rootfs_deactivate(ctx, o, id);
		own = ERR_INIT;
		r = mount_activate(ctx, o->mounts, id, in, &labels, &act, &own);
	}
	if (r == -ERR_UNIMPLEMENTED)
		return 0;
	if (r == 0)
		r = mount_activation_bind(ctx->arena, &act, &own);
	if (r < 0) {
		err_copy(err, &own);
		return err_prefix(err, "mount root file system of task %s", id);
	}
	*ret = act.system;
	return 0;
}

void rootfs_deactivate(struct ctx *ctx, const struct runtime_options *o, const char *id)
{
	struct mount_activation act;
	struct err err = ERR_INIT;
	/* One that a client made under this name is the client's. */
	if (!o->mounts || mount_activation_info(ctx, o->mounts, id, &act, NULL) < 0 ||
	    !streq(str_or(labels_get(&act.labels, CONTAINER_REF), ""), id))
		return;
	/* What is busy for a moment yet goes with the container. */
	if (mount_deactivate(ctx, o->mounts, id, &err) < 0)
		log_warn("task %s in namespace %s: %s", id, ctx->ns, err.text);
}
