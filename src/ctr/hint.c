/* SPDX-License-Identifier: Apache-2.0 */
/* What to do about an error: added to its line, or put in its place.
 *
 * The command's table says what its arguments name. When one of them was not found, the other
 * namespaces are asked for it; that takes two seconds at most and changes nothing when it fails.
 * Nothing here can make an error of a success. */
#include "ctr/ctr.h"

#include "base/time.h"
#include "ctr/commands.h"
#include "oci/reference.h"

#define PATIENCE_NS (2 * NSEC_PER_SEC)
#define NAMESPACES_MAX 100
#define CONNECTION_LOST "the connection is closed" /* as rpc/ says it */

static const char *noun(enum ctr_names names)
{
	static const char *const nouns[] = {
		[CTR_NAMES_IMAGES] = "image",	   [CTR_NAMES_CONTAINERS] = "container",
		[CTR_NAMES_TASKS] = "container",   [CTR_NAMES_SNAPSHOTS] = "snapshot",
		[CTR_NAMES_LEASES] = "lease",	   [CTR_NAMES_CONTENT] = "blob",
		[CTR_NAMES_SANDBOXES] = "sandbox",
	};

	return (size_t)names < ARRAY_LEN(nouns) ? nouns[names] : NULL;
}

/* ---- Looking elsewhere ---- */

static int get_lease(struct client *client, struct ctx *ctx, const char *id)
{
	PB_LEASES(ListRequest) req = PB_LEASES_INIT(LIST_REQUEST);
	PB_LEASES(ListResponse) * resp;
	int r;

	r = client_call(client, ctx, PB_LEASES_SERVICE, "List", &req.base, &resp, NULL);
	for (size_t i = 0; r == 0 && i < resp->n_leases; i++)
		if (streq(resp->leases[i]->id, id))
			return 0;
	return r < 0 ? r : -ERR_NOT_FOUND;
}

static int get_snapshot(struct ctr *c, struct ctx *ctx, const char *key)
{
	const char *snapshotter =
		ctr_has_flag(c, "snapshotter") ? ctr_string(c, "snapshotter") : "";
	PB_SNAPSHOTS(Info) * info;
	int r = 0;

	if (!*snapshotter)
		r = client_default_snapshotter(c->client, ctx, &snapshotter, NULL);
	return r < 0 ? r : client_snapshot_stat(c->client, ctx, snapshotter, key, &info, NULL);
}

static int get_sandbox(struct client *client, struct ctx *ctx, const char *id)
{
	PB_SANDBOX(StoreGetRequest) req = PB_SANDBOX_INIT(STORE_GET_REQUEST);

	req.sandbox_id = (char *)id;
	return client_call(client, ctx, PB_SANDBOX_STORE_SERVICE, "Get", &req.base, NULL, NULL);
}

static int get_blob(struct client *client, struct ctx *ctx, const char *digest)
{
	PB_CONTENT(InfoRequest) req = PB_CONTENT_INIT(INFO_REQUEST);

	req.digest = (char *)digest;
	return client_call(client, ctx, PB_CONTENT_SERVICE, "Info", &req.base, NULL, NULL);
}

static bool is_there(struct ctr *c, struct ctx *ctx, enum ctr_names names, const char *name)
{
	PB_CONTAINERS(Container) * container;
	PB_IMAGES(Image) * image;

	switch (names) {
	case CTR_NAMES_IMAGES:
		return client_image_get(c->client, ctx, name, &image, NULL) == 0;
	case CTR_NAMES_CONTAINERS:
	case CTR_NAMES_TASKS:
		return client_container_get(c->client, ctx, name, &container, NULL) == 0;
	case CTR_NAMES_SNAPSHOTS:
		return get_snapshot(c, ctx, name) == 0;
	case CTR_NAMES_LEASES:
		return get_lease(c->client, ctx, name) == 0;
	case CTR_NAMES_CONTENT:
		return get_blob(c->client, ctx, name) == 0;
	case CTR_NAMES_SANDBOXES:
		return get_sandbox(c->client, ctx, name) == 0;
	default:
		return false;
	}
}

/* The namespaces but our own that have @name, as `"a", "b"` in the arena; NULL when none has.
 * *@ret_first is the first one. */
static const char *others(struct ctr *c, struct ctx *ctx, enum ctr_names names, const char *name,
			  const char **ret_first)
{
	PB_NAMESPACES(ListNamespacesRequest) req = PB_NAMESPACES_INIT(LIST_NAMESPACES_REQUEST);
	PB_NAMESPACES(ListNamespacesResponse) * resp;
	const char *list = NULL;

	if (client_call(c->client, ctx, PB_NAMESPACES_SERVICE, "List", &req.base, &resp, NULL) < 0)
		return NULL;
	for (size_t i = 0; i < MIN(resp->n_namespaces, (size_t)NAMESPACES_MAX); i++) {
		ctx->ns = resp->namespaces[i]->name;
		if (streq(ctx->ns, c->ctx.ns) || !is_there(c, ctx, names, name))
			continue;
		*ret_first = list ? *ret_first : ctx->ns;
		list = arena_printf(ctx->arena, "%s%s\"%s\"", list ? list : "", list ? ", " : "",
				    ctx->ns);
		if (!list)
			break;
	}
	ctx->ns = c->ctx.ns;
	return list;
}

/* ---- Not found ---- */

static void hint_image(struct ctr *c, struct ctx *ctx, const char *name, struct err *err)
{
	struct err e = ERR_INIT;
	char *full;

	if (reference_normalize(c->ctx.arena, name, &full, &e) < 0)
		return;
	if (!streq(full, name) && is_there(c, ctx, CTR_NAMES_IMAGES, full))
		err_set_raw(err, ERR_NOT_FOUND,
			    "image \"%s\" is not in namespace \"%s\"; there is \"%s\"", name,
			    c->ctx.ns, full);
	else
		err_set_raw(err, ERR_NOT_FOUND, "%s; pull it: ctr%s%s images pull %s",
			    arena_strdup(c->ctx.arena, err->text),
			    streq(c->ctx.ns, "default") ? "" : " -n ",
			    streq(c->ctx.ns, "default") ? "" : c->ctx.ns, full);
}

static void hint_missing(struct ctr *c, enum ctr_names names, const char *name, struct err *err)
{
	struct ctx ctx = {.arena = c->ctx.arena,
			  .ns = c->ctx.ns,
			  .lease = "",
			  .deadline = time_mono() + PATIENCE_NS};
	const char *first = NULL, *where;

	if (!noun(names) || is_there(c, &ctx, names, name))
		return;
	where = others(c, &ctx, names, name, &first);
	if (where)
		err_set_raw(err, ERR_NOT_FOUND,
			    "%s \"%s\" is not in namespace \"%s\"; it is in %s: use -n %s",
			    noun(names), name, c->ctx.ns, where, first);
	else if (names == CTR_NAMES_IMAGES)
		hint_image(c, &ctx, name, err);
}

/* The first of the arguments that the error is about. */
static void hint_not_found(struct ctr *c, struct err *err)
{
	const struct ctr_command *cmd = c->level->command;

	for (size_t i = 0; i < c->n_args; i++) {
		enum ctr_names names = i ? cmd->more : cmd->names;

		if (names == CTR_NAMES_NONE || !strstr(err->text, c->args[i]))
			continue;
		hint_missing(c, names, c->args[i], err);
		return;
	}
}

/* ---- The others ---- */

static void add(struct ctr *c, struct err *err, const char *hint)
{
	const char *text = arena_strdup(c->ctx.arena, err->text);

	if (text)
		err_set_raw(err, err->kind, "%s%s", text, hint);
}

/* "stop it: ctr -n x tasks kill -s SIGKILL ID" */
static void hint_running(struct ctr *c, struct err *err)
{
	const char *id = NULL, *hint;

	for (size_t i = 0; i < c->n_args && !id; i++)
		if (strstr(err->text, c->args[i]))
			id = c->args[i];
	id = id ? id : ctr_arg(c, 0);
	hint = arena_printf(c->ctx.arena, "; stop it: ctr%s%s tasks kill -s SIGKILL %s",
			    streq(c->ctx.ns, "default") ? "" : " -n ",
			    streq(c->ctx.ns, "default") ? "" : c->ctx.ns, id);
	if (hint)
		add(c, err, hint);
}

static bool is_about_running(const struct ctr_command *cmd, const struct err *err)
{
	return (cmd->names == CTR_NAMES_CONTAINERS || cmd->names == CTR_NAMES_TASKS) &&
	       (strstr(err->text, "has not stopped") ||
		strstr(err->text, "must be stopped before deletion"));
}

void ctr_hint(struct ctr *c, struct err *err)
{
	if (c->unreachable && err->kind == ERR_UNAVAILABLE) {
		bool given = ctr_is_set(c, "address");

		add(c, err,
		    given ? " (--address or $CONTAINERD_ADDRESS names the socket)"
			  : " Start it (systemctl start containerd), or name its socket with "
			    "--address");
	} else if (c->unreachable && err->kind == ERR_PERMISSION_DENIED)
		add(c, err, " (try sudo ctr ...)");
	else if (c->client && streq(err->text, CONNECTION_LOST))
		add(c, err, ": containerd has ended; containers go on without it");
	else if (c->client && err->kind == ERR_NOT_FOUND)
		hint_not_found(c, err);
	else if (c->client && err->kind == ERR_FAILED_PRECONDITION &&
		 is_about_running(c->level->command, err))
		hint_running(c, err);
}
