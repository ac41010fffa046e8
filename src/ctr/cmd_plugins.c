/* SPDX-License-Identifier: Apache-2.0 */
/* ctr plugins: what the daemon is made of. */
#include "base/time.h"
#include "ctr/commands.h"
#include "ctr/listing.h"
#include "ctr/record.h"
#include "oci/platform.h"

static const char *status_text(const PB_INTROSPECTION(Plugin) * p)
{
	if (!p->init_err)
		return "ok";
	return str_has_suffix(p->init_err->message, "skip plugin") ? "skip" : "error";
}

/* "linux/amd64,linux/386", "-" when there are none. */
static const char *platforms_text(struct arena *a, const PB_INTROSPECTION(Plugin) * p)
{
	struct labels set = {};
	struct buf b _cleanup_buf_ = BUF_INIT;

	for (size_t i = 0; i < p->n_platforms; i++) {
		const PB_TYPES(Platform) *m = p->platforms[i];
		struct platform q = {.os = m->os,
				     .arch = m->architecture,
				     .variant = m->variant,
				     .os_version = m->os_version};
		const char *text = platform_format(a, &q);

		if (!text || labels_set(a, &set, text, "") < 0)
			return "-";
	}
	for (size_t i = 0; i < set.n; i++)
		buf_printf(&b, "%s%s", i ? "," : "", set.v[i].key);
	return b.len ? str_or(arena_strdup(a, b.data), "-") : "-";
}

static int add_details(struct arena *a, struct table *t, const PB_INTROSPECTION(Plugin) * p,
		       struct err *err)
{
	struct labels exports;

	if (PB_LABELS_IN(a, p->exports, p->n_exports, &exports) < 0)
		return err_nomem(err);
	if (t->text.len)
		table_printf(t, "\t\t\t\n");
	table_printf(t, "Type:\t %s\nID:\t %s\n", p->type, p->id);
	if (p->n_requires)
		table_printf(t, "Requires:\t\n");
	for (size_t i = 0; i < p->n_requires; i++)
		table_printf(t, "\t %s\n", p->requires[i]);
	if (p->n_platforms)
		table_printf(t, "Platforms:\t %s\n", platforms_text(a, p));
	if (exports.n)
		table_printf(t, "Exports:\t\n");
	for (size_t i = 0; i < exports.n; i++)
		table_printf(t, "\t %s \t %s\n", exports.v[i].key, exports.v[i].value);
	for (size_t i = 0; i < p->n_capabilities; i++)
		table_printf(t, "%s%s%s", i ? "," : "Capabilities:\t ", p->capabilities[i],
			     i + 1 < p->n_capabilities ? "" : "\n");
	if (p->init_err)
		table_printf(t, "Error:\t\n\t Code:\t %s\n\t Message:\t %s\n",
			     err_code_name(p->init_err->code), p->init_err->message);
	return 0;
}

/* The platforms as a list of texts. */
static json_t *platforms_json(struct arena *a, const PB_INTROSPECTION(Plugin) * p)
{
	const char *text = platforms_text(a, p);
	size_t n = 0;
	char **v = streq(text, "-") ? NULL : str_split(a, text, ',', &n);

	return listing_texts(v, n);
}

static json_t *row_json(struct arena *a, const PB_INTROSPECTION(Plugin) * p)
{
	json_t *error = p->init_err
				? json_pack("{s:s,s:s}", "Code", err_code_name(p->init_err->code),
					    "Message", p->init_err->message)
				: json_null();

	return json_pack("{s:s,s:s,s:o,s:s,s:o,s:o,s:o,s:o}", "Type", p->type, "ID", p->id,
			 "Platforms", platforms_json(a, p), "Status", status_text(p), "Requires",
			 listing_texts(p->requires, p->n_requires), "Exports",
			 listing_labels((struct pb_label *const *)p->exports, p->n_exports),
			 "Capabilities", listing_texts(p->capabilities, p->n_capabilities), "Error",
			 error);
}

static const struct ctr_flag list_flags[] = {
	{"quiet", 'q', CTR_BOOL, "print only the plugins' ids"},
	{"detailed", 'd', CTR_BOOL, "print all that is known about each plugin"},
	{}};

static int run_list(struct ctr *c, struct err *err)
{
	PB_INTROSPECTION(PluginsRequest) req = PB_INTROSPECTION_INIT(PLUGINS_REQUEST);
	struct listing list _cleanup_listing_ = {.table = TABLE_INIT(4, 8, 4, ' '), .key = "ID"};
	bool detailed = ctr_bool(c, "detailed");
	PB_INTROSPECTION(PluginsResponse) * resp;
	int r;

	r = ctr_connect(c, err);
	if (r < 0)
		return r;
	req.filters = (char **)c->args;
	req.n_filters = c->n_args;
	r = client_call(c->client, &c->ctx, PB_INTROSPECTION_SERVICE, "Plugins", &req.base, &resp,
			err);
	if (r < 0)
		return r;
	r = listing_begin(c, &list, detailed ? "" : "TYPE\tID\tPLATFORMS\tSTATUS\t\n", err);
	for (size_t i = 0; r == 0 && i < resp->n_plugins; i++) {
		const PB_INTROSPECTION(Plugin) *p = resp->plugins[i];

		if (detailed && list.form == LISTING_PLAIN)
			r = add_details(c->ctx.arena, &list.table, p, err);
		else
			r = listing_add(&list, row_json(c->ctx.arena, p), err, "%s\t%s\t%s\t%s\t\n",
					p->type, p->id, platforms_text(c->ctx.arena, p),
					status_text(p));
	}
	return r < 0 ? r : listing_end(&list, err);
}

/* ---- inspect-runtime ---- */

static const struct ctr_flag inspect_flags[] = {
	{"runtime", 0, CTR_STRING, "runtime name, or path of its binary", "io.containerd.runc.v2"},
	{"runtime-config-path", 0, CTR_STRING, "configuration file that the runtime reads"},
	{"runc-binary", 0, CTR_STRING, "OCI runtime that the runc shim starts"},
	{"runc-root", 0, CTR_STRING, "directory of the OCI runtime's state"},
	{"runc-systemd-cgroup", 0, CTR_BOOL, "the OCI runtime makes cgroups through systemd"},
	{}};

/* Options of the runtime as an Any, when a flag asks for some. */
static int runtime_options(struct ctr *c, Google__Protobuf__Any *any, bool *ret_any,
			   struct err *err)
{
	Runtimeoptions__V1__Options generic = RUNTIMEOPTIONS__V1__OPTIONS__INIT;
	PB_RUNC(Options) runc = PB_RUNC_INIT(OPTIONS);
	const ProtobufCMessage *m = &runc.base;
	const char *config = ctr_string(c, "runtime-config-path");

	runc.binary_name = (char *)ctr_string(c, "runc-binary");
	runc.root = (char *)ctr_string(c, "runc-root");
	runc.systemd_cgroup = ctr_bool(c, "runc-systemd-cgroup");
	generic.config_path = (char *)config;
	if (*config)
		m = &generic.base;
	else if (!*runc.binary_name && !*runc.root && !runc.systemd_cgroup)
		return 0;
	any->type_url = (char *)m->descriptor->name;
	any->value.data = rpc_pack(c->ctx.arena, m, &any->value.len);
	if (!any->value.data)
		return err_nomem(err);
	*ret_any = true;
	return 0;
}

static int ask_runtime(struct ctr *c, PB_TYPES(RuntimeInfo) * *ret, struct err *err)
{
	PB_INTROSPECTION(PluginInfoRequest) req = PB_INTROSPECTION_INIT(PLUGIN_INFO_REQUEST);
	PB_TYPES(RuntimeRequest) runtime = PB_TYPES_INIT(RUNTIME_REQUEST);
	Google__Protobuf__Any any = GOOGLE__PROTOBUF__ANY__INIT,
			      options = GOOGLE__PROTOBUF__ANY__INIT;
	PB_INTROSPECTION(PluginInfoResponse) * resp;
	bool has_options = false;
	int r;

	r = runtime_options(c, &options, &has_options, err);
	if (r < 0)
		return r;
	runtime.runtime_path = (char *)ctr_string(c, "runtime");
	runtime.options = has_options ? &options : NULL;
	any.type_url = (char *)runtime.base.descriptor->name;
	any.value.data = rpc_pack(c->ctx.arena, &runtime.base, &any.value.len);
	if (!any.value.data)
		return err_nomem(err);
	req.type = (char *)"io.containerd.runtime.v2";
	req.id = (char *)"task";
	req.options = &any;
	r = client_call(c->client, &c->ctx, PB_INTROSPECTION_SERVICE, "PluginInfo", &req.base,
			&resp, err);
	if (r < 0)
		return r;
	if (!resp->extra)
		return err_set(err, ERR_UNIMPLEMENTED,
			       "this containerd does not tell about runtimes");
	return rpc_unpack(c->ctx.arena, &containerd__types__runtime_info__descriptor,
			  resp->extra->value.data, resp->extra->value.len, ret, err);
}

/* JSON inside an Any as it is; null when there is none. */
static json_t *any_json(const Google__Protobuf__Any *any)
{
	struct err e = ERR_INIT;
	json_t *j;

	if (!any)
		return json_null();
	return json_parse((const char *)any->value.data, any->value.len, &j, &e) < 0
		       ? pb_json(&any->base)
		       : j;
}

static int run_inspect(struct ctr *c, struct err *err)
{
	json_t *out _cleanup_json_ = json_object();
	PB_TYPES(RuntimeInfo) * info;
	int r;

	r = ctr_connect(c, err);
	if (r == 0)
		r = ask_runtime(c, &info, err);
	if (r < 0)
		return r;
	if (json_object_set_new(out, "Name", json_string(info->name)) < 0 ||
	    json_object_set_new(out, "Version",
				json_pack("{s:s,s:s}", "Version",
					  info->version ? info->version->version : "", "Revision",
					  info->version ? info->version->revision : "")) < 0 ||
	    json_object_set_new(out, "Options",
				info->options ? pb_json(&info->options->base) : json_null()) < 0 ||
	    json_object_set_new(out, "Features", any_json(info->features)) < 0)
		return err_nomem(err);
	for (size_t i = 0; i < info->n_annotations; i++)
		if (json_object_set_new(json_obj_make(out, "Annotations"),
					info->annotations[i]->key,
					json_string(info->annotations[i]->value)) < 0)
			return err_nomem(err);
	return ctr_print_json(out, err);
}

static const struct ctr_command list = {
	.name = "list",
	.aliases = {"ls"},
	.usage = "list the daemon's plugins",
	.args = "[flags] [<filter>, ...]",
	.flags = CTR_FLAGS(list_flags, format_flags),
	.run = run_list,
};
static const struct ctr_command inspect = {
	.name = "inspect-runtime",
	.usage = "show what a runtime says about itself",
	.args = "[flags]",
	.flags = CTR_FLAGS(inspect_flags),
	.run = run_inspect,
};

const struct ctr_command cmd_plugins = {
	.name = "plugins",
	.aliases = {"plugin"},
	.usage = "show plugins",
	.subcommands = CTR_COMMANDS(&list, &inspect),
};
