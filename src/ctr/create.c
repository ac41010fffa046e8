/* SPDX-License-Identifier: Apache-2.0 */
/* Everything that is made for a container is made under a lease, so that no garbage collection
 * takes it before the record names it. */
#include "ctr/create.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>

#include "base/fd.h"
#include "ctr/create_spec.h"
#include "ctr/image.h"
#include "ctr/task.h"
#include "oci/spec.h"

#define LEASE_SECONDS (24 * 60 * 60)
#define STOP_SIGNAL_LABEL "io.containerd.image.config.stop-signal"

int create_args(struct ctr *c, struct create *ret, struct err *err)
{
	struct create k = {.ref = "", .snapshotter = ""};
	char *path;

	if (ctr_is_set(c, "config")) {
		k.id = ctr_arg(c, 0);
		if (c->n_args > 1)
			return err_set_raw(
				err, ERR_INVALID_ARGUMENT,
				"with spec config file, only container id should be provided");
	} else {
		k.ref = ctr_arg(c, 0);
		k.id = ctr_arg(c, 1);
		if (!*k.ref)
			return err_set_raw(err, ERR_INVALID_ARGUMENT, "image ref must be provided");
		if (c->n_args > 2) {
			k.args = c->args + 2;
			k.n_args = c->n_args - 2;
		}
	}
	if (!*k.id)
		return err_set_raw(err, ERR_INVALID_ARGUMENT, "container id must be provided");
	if (ctr_bool(c, "rootfs") && *k.ref) {
		path = arena_alloc(c->ctx.arena, PATH_MAX);
		if (!path)
			return err_nomem(err);
		if (!realpath(k.ref, path))
			return err_errno(err, errno, "root file system `%s`", k.ref);
		k.ref = path;
	}
	*ret = k;
	return 0;
}

/* ---- Runtime ---- */

static int pack_any(struct arena *a, const char *type, const ProtobufCMessage *m,
		    Google__Protobuf__Any *ret, struct err *err)
{
	ret->type_url = (char *)type;
	ret->value.data = rpc_pack(a, m, &ret->value.len);
	return ret->value.data || ret->value.len == 0 ? 0 : err_nomem(err);
}

static int runtime_options(struct ctr *c, Google__Protobuf__Any *ret, struct err *err)
{
	PB_RUNC(Options) runc = PB_RUNC_INIT(OPTIONS);
	Runtimeoptions__V1__Options other = RUNTIMEOPTIONS__V1__OPTIONS__INIT;

	if (streq(ctr_string(c, "runtime"), "io.containerd.runc.v2")) {
		runc.binary_name = (char *)ctr_string(c, "runc-binary");
		runc.root = (char *)ctr_string(c, "runc-root");
		runc.systemd_cgroup = ctr_bool(c, "runc-systemd-cgroup");
		return pack_any(c->ctx.arena, "containerd.runc.v1.Options", &runc.base, ret, err);
	}
	other.config_path = (char *)ctr_string(c, "runtime-config-path");
	if (!*other.config_path)
		return 0;
	return pack_any(c->ctx.arena, "runtimeoptions.v1.Options", &other.base, ret, err);
}

/* ---- Snapshot ---- */

/* Shifted ids need a snapshotter that shifts the files too. */
static int check_remap(struct ctr *c, const char *snapshotter, struct err *err)
{
	PB_INTROSPECTION(PluginsRequest) req = PB_INTROSPECTION_INIT(PLUGINS_REQUEST);
	PB_INTROSPECTION(PluginsResponse) * resp;
	int r;

	r = client_call(c->client, &c->ctx, PB_INTROSPECTION_SERVICE, "Plugins", &req.base, &resp,
			err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < resp->n_plugins; i++) {
		const PB_INTROSPECTION(Plugin) *p = resp->plugins[i];

		if (!streq(p->type, "io.containerd.snapshotter.v1") || !streq(p->id, snapshotter))
			continue;
		for (size_t j = 0; j < p->n_capabilities; j++)
			if (streq(p->capabilities[j], "remap-ids"))
				return 0;
	}
	return err_set(err, ERR_UNIMPLEMENTED,
		       "snapshotter \"%s\" cannot map ids (it has no capability remap-ids); "
		       "--remap-labels tries anyway",
		       snapshotter);
}

static int prepare_snapshot(struct ctr *c, struct create *k, const struct image *image,
			    struct client_mounts *ret, struct err *err)
{
	struct labels labels = {};
	const char **v;
	size_t n;
	int r;

	v = ctr_strings(c, "snapshotter-label", &n);
	r = ctr_parse_labels(c->ctx.arena, v, n, &labels, err);
	if (r == 0 && ctr_has_flag(c, "uidmap")) {
		size_t before = labels.n;

		r = create_remap_labels(c, &labels, err);
		if (r == 0 && labels.n > before && !ctr_bool(c, "remap-labels"))
			r = check_remap(c, k->snapshotter, err);
	}
	if (r == 0)
		r = image_unpack(c, image, k->snapshotter,
				 ctr_has_flag(c, "sync-fs") && ctr_bool(c, "sync-fs"), err);
	if (r < 0)
		return r;
	return client_snapshot_prepare(c->client, &c->ctx, k->snapshotter, k->id, image->chain_id,
				       false, &labels, ret, err);
}

/* ---- Record ---- */

static int container_labels(struct ctr *c, const struct image *image, struct labels *ret,
			    struct err *err)
{
	struct labels l = {}, given;
	const char **v;
	size_t n;
	int r;

	if (image && (json_labels(c->ctx.arena, json_obj(image->config, "Labels"), &l) < 0 ||
		      labels_set(c->ctx.arena, &l, STOP_SIGNAL_LABEL,
				 json_str(image->config, "StopSignal", "SIGTERM")) < 0))
		return err_nomem(err);
	v = ctr_strings(c, "label", &n);
	r = ctr_parse_labels(c->ctx.arena, v, n, &given, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < given.n; i++)
		if (labels_set(c->ctx.arena, &l, given.v[i].key, given.v[i].value) < 0)
			return err_nomem(err);
	*ret = l;
	return 0;
}

static int write_record(struct ctr *c, const struct create *k, const struct image *image,
			const json_t *spec, struct err *err)
{
	PB_CONTAINERS(Container) record = PB_CONTAINERS_INIT(CONTAINER);
	PB_CONTAINERS(Container__Runtime) runtime = PB_CONTAINERS_INIT(CONTAINER__RUNTIME);
	Google__Protobuf__Any options = GOOGLE__PROTOBUF__ANY__INIT,
			      any = GOOGLE__PROTOBUF__ANY__INIT;
	char *text _cleanup_free_ = json_dumps(spec, JSON_COMPACT);
	struct labels labels;
	int r;

	if (!text)
		return err_nomem(err);
	r = container_labels(c, image, &labels, err);
	if (r == 0)
		r = runtime_options(c, &options, err);
	if (r < 0)
		return r;
	if (PB_LABELS_OUT(
		    c->ctx.arena, &labels,
		    &containerd__services__containers__v1__container__labels_entry__descriptor,
		    record.labels, record.n_labels) < 0)
		return err_nomem(err);
	any.type_url = (char *)SPEC_TYPE_URL;
	any.value.data = (uint8_t *)text;
	any.value.len = strlen(text);
	runtime.name = (char *)ctr_string(c, "runtime");
	runtime.options = *options.type_url ? &options : NULL;
	record.id = (char *)k->id;
	record.image = (char *)(image ? image->name : "");
	record.runtime = &runtime;
	record.spec = &any;
	record.snapshotter = (char *)k->snapshotter;
	record.snapshot_key = (char *)(*k->snapshotter ? k->id : "");
	record.sandbox = (char *)ctr_string(c, "sandbox");
	return client_container_create(c->client, &c->ctx, &record, err);
}

static int dump_spec(struct ctr *c, const json_t *spec, struct err *err)
{
	const char *path = ctr_has_flag(c, "dump-config") ? ctr_string(c, "dump-config") : "";
	char *text _cleanup_free_ = NULL;
	int r;

	if (!*path)
		return 0;
	text = json_dumps(spec, JSON_INDENT(4));
	if (!text)
		return err_nomem(err);
	r = file_write(AT_FDCWD, path, text, strlen(text), 0644);
	return r < 0 ? err_errno(err, r, "write `%s`", path) : 0;
}

static int receive_lease(struct ctr *c, struct create *k, struct err *err)
{
	return client_lease_receive(&c->ctx, TAKE_PTR(k->lease), &c->ctx.lease, err);
}

static int create_leased(struct ctr *c, struct create *k, struct err *err)
{
	struct image image _cleanup_image_ = {};
	json_t *spec _cleanup_json_ = NULL;
	bool has_image = !ctr_is_set(c, "config") && !ctr_bool(c, "rootfs");
	struct err e = ERR_INIT;
	int r = 0;

	if (has_image) {
		r = ctr_snapshotter(c, &k->snapshotter, err);
		if (r == 0)
			r = image_load(c, k->ref,
				       ctr_has_flag(c, "platform") ? ctr_string(c, "platform") : "",
				       &image, err);
		if (r == 0)
			r = receive_lease(c, k, err);
		if (r == 0)
			r = prepare_snapshot(c, k, &image, &k->mounts, err);
		if (r < 0)
			return r;
	}
	if (ctr_is_set(c, "config"))
		r = create_spec_from_file(c, k, &spec, err);
	else
		r = create_spec(c, k, has_image ? &image : NULL, &k->mounts, &spec, err);
	if (r == 0)
		r = dump_spec(c, spec, err);
	if (r == 0)
		r = write_record(c, k, has_image ? &image : NULL, spec, err);
	if (r < 0 && has_image &&
	    client_snapshot_remove(c->client, &c->ctx, k->snapshotter, k->id, &e) < 0)
		ctr_warn("remove snapshot \"%s\": %s", k->id, e.text);
	return r;
}

/* The lease is asked for while the image is looked up, and given back while the task is made. */
int create_container(struct ctr *c, struct create *k, struct err *err)
{
	PB_LEASES(DeleteRequest) end = PB_LEASES_INIT(DELETE_REQUEST);
	struct err e = ERR_INIT;
	int r;

	r = client_lease_request(c->client, &c->ctx, LEASE_SECONDS, &k->lease, err);
	if (r < 0)
		return r;
	r = create_leased(c, k, err);
	if (k->lease && receive_lease(c, k, r < 0 ? &e : err) < 0)
		return r < 0 ? r : -err->kind;
	end.id = (char *)c->ctx.lease;
	c->ctx.lease = "";
	if (*end.id && client_stream(c->client, &c->ctx, PB_LEASES_SERVICE, "Delete", &end.base,
				     &k->lease, &e) < 0)
		ctr_warn("delete lease \"%s\": %s", end.id, e.text);
	return r;
}

void create_done(struct ctr *c, struct create *k)
{
	struct err e = ERR_INIT;

	if (k->lease &&
	    client_reply(&c->ctx, TAKE_PTR(k->lease), &google__protobuf__empty__descriptor, NULL,
			 &e) < 0 &&
	    e.kind != ERR_NOT_FOUND && e.kind != ERR_UNAVAILABLE)
		ctr_warn("delete the lease: %s", e.text);
}

/* Both at once: the daemon writes them to its database in one go. A snapshot that fails to go is
 * left to the garbage collector. */
int create_undo(struct ctr *c, const struct create *k, struct err *err)
{
	PB_SNAPSHOTS(RemoveSnapshotRequest) req = PB_SNAPSHOTS_INIT(REMOVE_SNAPSHOT_REQUEST);
	struct rpc_stream *removal = NULL;
	struct err e = ERR_INIT;
	int r;

	req.snapshotter = (char *)k->snapshotter;
	req.key = (char *)k->id;
	if (*k->snapshotter) {
		r = client_stream(c->client, &c->ctx, PB_SNAPSHOTS_SERVICE, "Remove", &req.base,
				  &removal, err);
		if (r < 0)
			return r;
	}
	r = client_container_delete(c->client, &c->ctx, k->id, err);
	if (removal &&
	    client_reply(&c->ctx, removal, &google__protobuf__empty__descriptor, NULL, &e) < 0 &&
	    e.kind != ERR_NOT_FOUND && r == 0)
		r = err_copy(err, &e);
	return r;
}

int create_remove(struct ctr *c, const char *id, bool keep_snapshot, struct err *err)
{
	PB_CONTAINERS(Container) * record;
	struct err e = ERR_INIT;
	int r;

	r = client_container_get(c->client, &c->ctx, id, &record, err);
	if (r < 0)
		return r;
	if (!keep_snapshot && *record->snapshot_key) {
		r = client_snapshot_remove(c->client, &c->ctx, record->snapshotter,
					   record->snapshot_key, &e);
		if (r < 0 && r != -ERR_NOT_FOUND)
			return err_copy(err, &e);
	}
	return client_container_delete(c->client, &c->ctx, id, err);
}
