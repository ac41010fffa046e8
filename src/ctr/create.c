/* SPDX-License-Identifier: Apache-2.0 */
/* The flags, for client/create.h. */
#include "ctr/create.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>

#include "base/fd.h"
#include "ctr/create_spec.h"
#include "client/create.h"

static int check_word(const char *what, const char *word, struct err *err)
{
	json_t *j = json_string(word);

	if (!j)
		return err_set(err, ERR_INVALID_ARGUMENT, "%s \"%s\" is not UTF-8", what, word);
	json_decref(j);
	return 0;
}

int create_check_text(const struct ctr *c, struct err *err)
{
	static const char *const single[] = {"cwd", "hostname", "user", "cgroup"};
	static const char *const many[] = {"env",   "label",   "annotation",
					   "mount", "with-ns", "device"};
	int r = 0;

	for (size_t i = 0; r == 0 && i < c->n_args; i++)
		r = check_word("argument", c->args[i], err);
	for (size_t i = 0; r == 0 && i < ARRAY_LEN(single); i++)
		if (ctr_has_flag(c, single[i]))
			r = check_word(single[i], ctr_string(c, single[i]), err);
	for (size_t i = 0; r == 0 && i < ARRAY_LEN(many); i++) {
		size_t n = 0;
		const char **v = ctr_has_flag(c, many[i]) ? ctr_strings(c, many[i], &n) : NULL;

		for (size_t k = 0; r == 0 && k < n; k++)
			r = check_word(many[i], v[k], err);
	}
	return r;
}

int create_args(struct ctr *c, struct create *ret, struct err *err)
{
	struct create k = {.ref = "", .snapshotter = ""};
	char *path;
	int r = create_check_text(c, err);

	if (r < 0)
		return r;
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

static int snapshot_labels(struct ctr *c, const struct create *k, struct labels *ret,
			   struct err *err)
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
		*ret = labels;
	return r;
}

/* ---- Container ---- */

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

struct maker {
	struct ctr *c;
	struct create *k;
};

static int make_spec(void *arg, const struct client_image *image,
		     const struct client_mounts *mounts, json_t **ret, struct err *err)
{
	struct maker *m = arg;
	json_t *spec _cleanup_json_ = NULL;
	int r;

	if (ctr_is_set(m->c, "config"))
		r = create_spec_from_file(m->c, m->k, &spec, err);
	else
		r = create_spec(m->c, m->k, image, mounts, &spec, err);
	if (r == 0)
		r = dump_spec(m->c, spec, err);
	if (r == 0)
		*ret = TAKE_PTR(spec);
	return r;
}

static int fill_options(struct ctr *c, struct create *k, struct client_create_options *o,
			Google__Protobuf__Any *runtime, struct err *err)
{
	const char **v;
	size_t n;
	int r;

	v = ctr_strings(c, "label", &n);
	r = ctr_parse_labels(c->ctx.arena, v, n, &o->labels, err);
	if (r == 0)
		r = runtime_options(c, runtime, err);
	if (r == 0 && *o->image)
		r = ctr_snapshotter(c, &k->snapshotter, err);
	if (r == 0 && *o->image)
		r = snapshot_labels(c, k, &o->snapshot_labels, err);
	if (*runtime->type_url)
		o->runtime_options = runtime;
	o->snapshotter = k->snapshotter;
	return r;
}

int create_container(struct ctr *c, struct create *k, struct err *err)
{
	bool has_image = !ctr_is_set(c, "config") && !ctr_bool(c, "rootfs");
	Google__Protobuf__Any runtime = GOOGLE__PROTOBUF__ANY__INIT;
	struct maker m = {c, k};
	struct client_create_options o = {
		.id = k->id,
		.image = has_image ? k->ref : "",
		.platform = ctr_has_flag(c, "platform") ? ctr_string(c, "platform") : "",
		.sync_fs = ctr_has_flag(c, "sync-fs") && ctr_bool(c, "sync-fs"),
		.runtime = ctr_string(c, "runtime"),
		.sandbox = ctr_string(c, "sandbox"),
		.spec = make_spec,
		.spec_arg = &m,
	};
	int r;

	r = client_create_begin(c->client, &c->ctx, &k->lease, err);
	if (r == 0)
		r = fill_options(c, k, &o, &runtime, err);
	if (r < 0)
		return r;
	return client_create(c->client, &c->ctx, &o, &k->lease, &k->mounts, err);
}

void create_done(struct ctr *c, struct create *k)
{
	struct err e = ERR_INIT;

	if (client_create_end(c->client, &c->ctx, &k->lease, &e) < 0)
		ctr_warn("delete the lease: %s", e.text);
}

int create_undo(struct ctr *c, const struct create *k, struct err *err)
{
	return client_create_undo(c->client, &c->ctx, k->id, k->snapshotter, err);
}

int create_remove(struct ctr *c, const char *id, bool keep_snapshot, struct err *err)
{
	return client_container_remove(c->client, &c->ctx, id, keep_snapshot, err);
}
