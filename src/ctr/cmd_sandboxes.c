/* SPDX-License-Identifier: Apache-2.0 */
/* ctr sandboxes: environments that tasks share, their records and their end. */
#include <fcntl.h>

#include "base/fd.h"
#include "ctr/commands.h"
#include "ctr/listing.h"
#include "ctr/record.h"
#include "oci/spec.h"

#define CONTROLLER_SERVICE (&containerd__services__sandbox__v1__controller__descriptor)

static int sandbox_load(struct ctr *c, const char *id, PB_TYPES(Sandbox) * *ret, struct err *err)
{
	PB_SANDBOX(StoreGetRequest) req = PB_SANDBOX_INIT(STORE_GET_REQUEST);
	PB_SANDBOX(StoreGetResponse) * resp;
	int r;

	req.sandbox_id = (char *)id;
	r = client_call(c->client, &c->ctx, PB_SANDBOX_STORE_SERVICE, "Get", &req.base, &resp, err);
	if (r < 0)
		return err_prefix(err, "failed to load sandbox %s", id);
	if (!resp->sandbox)
		return err_set(err, ERR_INTERNAL, "sandbox %s came empty", id);
	*ret = resp->sandbox;
	return 0;
}

/* ---- run ---- */

#define SPEC_MAX (16u << 20)

static const struct ctr_flag run_flags[] = {
	{"runtime", 0, CTR_STRING, "runtime whose shim the sandbox is", "io.containerd.runc.v2"},
	{}};

/* A file of an OCI spec, which is kept as it is. */
static int spec_read(struct ctr *c, const char *path, Google__Protobuf__Any *ret, struct err *err)
{
	json_t *spec _cleanup_json_ = NULL;
	char *text;
	size_t n;
	int r;

	r = file_read(c->ctx.arena, AT_FDCWD, path, SPEC_MAX, &text, &n);
	if (r < 0)
		return err_errno(err, r, "read `%s`", path);
	r = json_parse(text, n, &spec, err);
	if (r < 0)
		return err_prefix(err, "`%s`", path);
	if (!json_is_object(spec))
		return err_set(err, ERR_INVALID_ARGUMENT, "`%s` has no JSON object", path);
	ret->type_url = (char *)SPEC_TYPE_URL;
	ret->value = (ProtobufCBinaryData){n, (uint8_t *)text};
	return 0;
}

/* The namespace's label, else the shim of the runtime. */
static int default_sandboxer(struct ctr *c, const char **ret, struct err *err)
{
	PB_NAMESPACES(GetNamespaceRequest) req = PB_NAMESPACES_INIT(GET_NAMESPACE_REQUEST);
	PB_NAMESPACES(GetNamespaceResponse) * resp;
	struct labels l = {};
	int r;

	req.name = (char *)c->ctx.ns;
	r = client_call(c->client, &c->ctx, PB_NAMESPACES_SERVICE, "Get", &req.base, &resp, err);
	if (r < 0)
		return r;
	if (resp->namespace_ && PB_LABELS_IN(c->ctx.arena, resp->namespace_->labels,
					     resp->namespace_->n_labels, &l) < 0)
		return err_nomem(err);
	*ret = str_or(labels_get(&l, "containerd.io/defaults/sandboxer"), "shim");
	return 0;
}

static int record_create(struct ctr *c, const char *id, const char *sandboxer,
			 Google__Protobuf__Any *spec, PB_TYPES(Sandbox) * *ret, struct err *err)
{
	PB_SANDBOX(StoreCreateRequest) req = PB_SANDBOX_INIT(STORE_CREATE_REQUEST);
	PB_SANDBOX(StoreCreateResponse) * resp;
	PB_TYPES(Sandbox) sandbox = PB_TYPES_INIT(SANDBOX);
	PB_TYPES(Sandbox__Runtime) runtime = PB_TYPES_INIT(SANDBOX__RUNTIME);
	int r;

	runtime.name = (char *)ctr_string(c, "runtime");
	sandbox.sandbox_id = (char *)id;
	sandbox.sandboxer = (char *)sandboxer;
	sandbox.runtime = &runtime;
	sandbox.spec = spec;
	req.sandbox = &sandbox;
	r = client_call(c->client, &c->ctx, PB_SANDBOX_STORE_SERVICE, "Create", &req.base, &resp,
			err);
	if (r < 0)
		return r;
	if (!resp->sandbox)
		return err_set(err, ERR_INTERNAL, "sandbox %s came empty", id);
	*ret = resp->sandbox;
	return 0;
}

/* A start that fails has removed the sandbox already. */
static int sandbox_run(struct ctr *c, PB_TYPES(Sandbox) * s, struct err *err)
{
	PB_SANDBOX(ControllerCreateRequest) create = PB_SANDBOX_INIT(CONTROLLER_CREATE_REQUEST);
	PB_SANDBOX(ControllerStartRequest) start = PB_SANDBOX_INIT(CONTROLLER_START_REQUEST);
	int r;

	create.sandbox_id = start.sandbox_id = s->sandbox_id;
	create.sandboxer = start.sandboxer = s->sandboxer;
	create.sandbox = s;
	r = client_call(c->client, &c->ctx, CONTROLLER_SERVICE, "Create", &create.base, NULL, err);
	if (r == 0)
		r = client_call(c->client, &c->ctx, CONTROLLER_SERVICE, "Start", &start.base, NULL,
				err);
	return r;
}

static int record_delete(struct ctr *c, const char *id, struct err *err)
{
	PB_SANDBOX(StoreDeleteRequest) req = PB_SANDBOX_INIT(STORE_DELETE_REQUEST);

	req.sandbox_id = (char *)id;
	return client_call(c->client, &c->ctx, PB_SANDBOX_STORE_SERVICE, "Delete", &req.base, NULL,
			   err);
}

static int run_run(struct ctr *c, struct err *err)
{
	Google__Protobuf__Any spec = GOOGLE__PROTOBUF__ANY__INIT;
	const char *path, *id, *sandboxer;
	PB_TYPES(Sandbox) * s;
	struct err e = ERR_INIT;
	int r;

	r = record_arg(c, 0, "pod configuration", &path, err);
	if (r == 0)
		r = record_arg(c, 1, "sandbox id", &id, err);
	if (r == 0)
		r = spec_read(c, path, &spec, err);
	if (r == 0)
		r = ctr_connect(c, err);
	if (r == 0)
		r = default_sandboxer(c, &sandboxer, err);
	if (r == 0)
		r = record_create(c, id, sandboxer, &spec, &s, err);
	if (r < 0)
		return r;
	r = sandbox_run(c, s, err);
	if (r == 0) {
		puts(id);
		return 0;
	}
	(void)record_undo_begin(c);
	if (record_delete(c, id, &e) < 0)
		ctr_warn("remove the record of sandbox %s: %s", id, e.text);
	return r;
}

/* ---- list ---- */

static const struct ctr_flag list_flags[] = {
	{"filters", 0, CTR_STRINGS, "show only sandboxes that match one of these"}, {}};

static json_t *row_json(const PB_TYPES(Sandbox) * s)
{
	return json_pack("{s:s,s:s,s:s,s:o,s:o,s:o}", "ID", s->sandbox_id, "Runtime",
			 s->runtime ? s->runtime->name : "", "Sandboxer", s->sandboxer, "CreatedAt",
			 listing_time(s->created_at), "UpdatedAt", listing_time(s->updated_at),
			 "Labels", LISTING_LABELS(s));
}

static int run_list(struct ctr *c, struct err *err)
{
	PB_SANDBOX(StoreListRequest) req = PB_SANDBOX_INIT(STORE_LIST_REQUEST);
	struct listing list _cleanup_listing_ = {.table = TABLE_INIT(1, 8, 1, ' ')};
	PB_SANDBOX(StoreListResponse) * resp;
	int r;

	r = ctr_connect(c, err);
	if (r < 0)
		return r;
	req.filters = (char **)ctr_strings(c, "filters", &req.n_filters);
	r = client_call(c->client, &c->ctx, PB_SANDBOX_STORE_SERVICE, "List", &req.base, &resp,
			err);
	if (r < 0)
		return r;
	r = listing_begin(c, &list, "ID\tCREATED\tRUNTIME\t\n", err);
	for (size_t i = 0; r == 0 && i < resp->n_list; i++) {
		const PB_TYPES(Sandbox) *s = resp->list[i];
		const char *when = record_utc_time(c->ctx.arena, pb_time(s->created_at));

		if (!when)
			return err_nomem(err);
		r = listing_add(&list, row_json(s), err, "%s\t%s\t%s\t\n", s->sandbox_id, when,
				s->runtime ? s->runtime->name : "");
	}
	return r < 0 ? r : listing_end(&list, err);
}

/* ---- info ---- */

static json_t *any_json(const Google__Protobuf__Any *any)
{
	return any ? pb_json(&any->base) : json_null();
}

static json_t *labels_json(const PB_TYPES(Sandbox) * s)
{
	json_t *o = s->n_labels ? json_object() : json_null();

	for (size_t i = 0; i < s->n_labels; i++)
		json_object_set_new(o, s->labels[i]->key, json_string(s->labels[i]->value));
	return o;
}

static json_t *extensions_json(const PB_TYPES(Sandbox) * s)
{
	json_t *o = s->n_extensions ? json_object() : json_null();

	for (size_t i = 0; i < s->n_extensions; i++)
		json_object_set_new(o, s->extensions[i]->key, any_json(s->extensions[i]->value));
	return o;
}

static int run_info(struct ctr *c, struct err *err)
{
	PB_TYPES(Sandbox) * s;
	json_t *out _cleanup_json_ = NULL;
	const char *id;
	int r;

	r = record_arg(c, 0, "sandbox id", &id, err);
	if (r == 0)
		r = ctr_connect(c, err);
	if (r == 0)
		r = sandbox_load(c, id, &s, err);
	if (r < 0)
		return r;
	out = json_pack("{s:s,s:o,s:{s:s,s:o},s:o,s:s,s:o,s:o,s:o}", "ID", s->sandbox_id, "Labels",
			labels_json(s), "Runtime", "Name", s->runtime ? s->runtime->name : "",
			"Options", any_json(s->runtime ? s->runtime->options : NULL), "Spec",
			any_json(s->spec), "Sandboxer", s->sandboxer, "CreatedAt",
			listing_time_always(s->created_at), "UpdatedAt",
			listing_time_always(s->updated_at), "Extensions", extensions_json(s));
	return out ? ctr_print_json(out, err) : err_nomem(err);
}

/* ---- remove ---- */

static const struct ctr_flag remove_flags[] = {
	{"force", 'f', CTR_BOOL, "remove the record even if the sandbox cannot be shut down"}, {}};

/* What has no controller, or what its controller does not know any more, is down. */
static int sandbox_shutdown(struct ctr *c, const PB_TYPES(Sandbox) * s, struct err *err)
{
	PB_SANDBOX(ControllerShutdownRequest) req = PB_SANDBOX_INIT(CONTROLLER_SHUTDOWN_REQUEST);
	int r;

	if (!*s->sandboxer)
		return 0;
	req.sandbox_id = s->sandbox_id;
	req.sandboxer = s->sandboxer;
	r = client_call(c->client, &c->ctx, CONTROLLER_SERVICE, "Shutdown", &req.base, NULL, err);
	if (r == 0 || r == -ERR_NOT_FOUND)
		return 0;
	err_prefix(err, "failed to shutdown sandbox %s", s->sandbox_id);
	if (!ctr_bool(c, "force"))
		return r;
	ctr_warn("%s", err->text);
	return 0;
}

static int remove_one(struct ctr *c, const char *id, bool last, struct err *err)
{
	PB_TYPES(Sandbox) * s;
	int r;

	r = sandbox_load(c, id, &s, err);
	if (r == 0)
		r = sandbox_shutdown(c, s, err);
	if (r < 0)
		return r;
	r = record_delete(c, id, err);
	if (r == 0)
		puts(id);
	return r;
}

static int run_remove(struct ctr *c, struct err *err)
{
	const char *id;
	int r;

	r = record_arg(c, 0, "sandbox id", &id, err);
	if (r == 0)
		r = ctr_connect(c, err);
	return r < 0 ? r : record_each(c, "failed to remove sandbox", false, remove_one, err);
}

static const struct ctr_command run_ = {
	.name = "run",
	.aliases = {"create", "c", "r"},
	.usage = "run a sandbox",
	.args = "[flags] <pod-config.json> <sandbox-id>",
	.flags = CTR_FLAGS(run_flags),
	.run = run_run,
};
static const struct ctr_command list = {
	.name = "list",
	.aliases = {"ls"},
	.usage = "list sandboxes",
	.args = "[flags]",
	.flags = CTR_FLAGS(list_flags, format_flags),
	.run = run_list,
};
static const struct ctr_command info = {
	.name = "info",
	.aliases = {"i"},
	.usage = "show a sandbox",
	.args = "<sandbox id>",
	.names = CTR_NAMES_SANDBOXES,
	.run = run_info,
};
static const struct ctr_command remove_ = {
	.name = "remove",
	.aliases = {"rm"},
	.usage = "shut down and remove sandboxes",
	.args = "[flags] <id> [<id>, ...]",
	.flags = CTR_FLAGS(remove_flags),
	.names = CTR_NAMES_SANDBOXES,
	.more = CTR_NAMES_SANDBOXES,
	.run = run_remove,
};

const struct ctr_command cmd_sandboxes = {
	.name = "sandboxes",
	.aliases = {"sandbox", "sb", "s"},
	.usage = "manage sandboxes",
	.subcommands = CTR_COMMANDS(&run_, &list, &remove_, &info),
};
