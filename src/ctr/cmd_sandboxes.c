/* SPDX-License-Identifier: Apache-2.0 */
/* ctr sandboxes: the records of environments that tasks share, and their end. */
#include "base/time.h"
#include "ctr/commands.h"
#include "ctr/record.h"

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

/* ---- list ---- */

static const struct ctr_flag list_flags[] = {
	{"filters", 0, CTR_STRINGS, "show only sandboxes that match one of these"}, {}};

static int run_list(struct ctr *c, struct err *err)
{
	PB_SANDBOX(StoreListRequest) req = PB_SANDBOX_INIT(STORE_LIST_REQUEST);
	struct table t _cleanup_table_ = TABLE_INIT(1, 8, 1, ' ');
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
	table_printf(&t, "ID\tCREATED\tRUNTIME\t\n");
	for (size_t i = 0; i < resp->n_list; i++) {
		const PB_TYPES(Sandbox) *s = resp->list[i];
		const char *when = record_utc_time(c->ctx.arena, pb_time(s->created_at));

		if (!when)
			return err_nomem(err);
		table_printf(&t, "%s\t%s\t%s\t\n", s->sandbox_id, when,
			     s->runtime ? s->runtime->name : "");
	}
	return table_print(&t, err);
}

/* ---- info ---- */

static json_t *any_json(const Google__Protobuf__Any *any)
{
	return any ? pb_json(&any->base) : json_null();
}

static json_t *time_json(const Google__Protobuf__Timestamp *t)
{
	char text[40];

	time_format_rfc3339(pb_time(t), text);
	return json_string(text);
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
			time_json(s->created_at), "UpdatedAt", time_json(s->updated_at),
			"Extensions", extensions_json(s));
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
	PB_SANDBOX(StoreDeleteRequest) req = PB_SANDBOX_INIT(STORE_DELETE_REQUEST);
	PB_TYPES(Sandbox) * s;
	int r;

	r = sandbox_load(c, id, &s, err);
	if (r == 0)
		r = sandbox_shutdown(c, s, err);
	if (r < 0)
		return r;
	req.sandbox_id = (char *)id;
	r = client_call(c->client, &c->ctx, PB_SANDBOX_STORE_SERVICE, "Delete", &req.base, NULL,
			err);
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

static const struct ctr_command list = {
	.name = "list",
	.aliases = {"ls"},
	.usage = "list sandboxes",
	.args = "[flags]",
	.flags = CTR_FLAGS(list_flags),
	.run = run_list,
};
static const struct ctr_command info = {
	.name = "info",
	.aliases = {"i"},
	.usage = "show a sandbox",
	.args = "<sandbox id>",
	.run = run_info,
};
static const struct ctr_command remove_ = {
	.name = "remove",
	.aliases = {"rm"},
	.usage = "shut down and remove sandboxes",
	.args = "[flags] <id> [<id>, ...]",
	.flags = CTR_FLAGS(remove_flags),
	.run = run_remove,
};

const struct ctr_command cmd_sandboxes = {
	.name = "sandboxes",
	.aliases = {"sandbox", "sb", "s"},
	.usage = "manage sandboxes",
	.subcommands = CTR_COMMANDS(&list, &info, &remove_),
};
