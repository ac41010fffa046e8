/* SPDX-License-Identifier: Apache-2.0 */
/* The operations on a network: each plugin of the list in turn.
 *
 * ADD hands each plugin the result of the one before and keeps the last one on disk; CHECK and DEL
 * hand out what was kept. DEL goes backwards and stops at the first plugin that fails, as libcni
 * does, so that it can be tried again; what was kept goes only when all have succeeded. Who will
 * not try again (cni_del_all()) has all plugins called, so that one that fails does not keep the
 * others from freeing what is theirs. */
#include "cni/internal.h"

#include "base/str.h"

/* ---- Checks ---- */

static int check_args(const struct cni_attachment *at, struct err *err)
{
	for (size_t i = 0; i < at->n_args; i++)
		if (!*at->args[i].key || strpbrk(at->args[i].key, ";=") ||
		    strchr(at->args[i].value, ';'))
			return err_set(err, ERR_INVALID_ARGUMENT, "CNI argument \"%.64s\"",
				       at->args[i].key);
	return 0;
}

static int check_attachment(const struct cni_attachment *at, bool need_netns, struct err *err)
{
	if (!cni_name_valid(at->container_id))
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "container id \"%.64s\" is not valid for CNI", at->container_id);
	if (!cni_ifname_valid(at->ifname))
		return err_set(err, ERR_INVALID_ARGUMENT, "interface name \"%.64s\" is not valid",
			       at->ifname);
	if (need_netns && !*at->netns)
		return err_set(err, ERR_INVALID_ARGUMENT, "no network namespace for \"%s\"",
			       at->container_id);
	return check_args(at, err);
}

/* ---- ADD ---- */

/* A plugin's answer as a result in the network's version. */
static int take_result(const struct cni_network *n, const struct cni_plugin *p, json_t *answer,
		       json_t **ret, struct err *err)
{
	int r;

	if (!json_is_object(answer))
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "network \"%s\": plugin type=\"%s\" printed no result", n->name,
			       p->type);
	if (!*json_str(answer, "cniVersion", "") &&
	    json_object_set_new(answer, "cniVersion", json_string(n->version)) < 0)
		return err_nomem(err);
	r = cni_result_convert(answer, n->version, ret, err);
	return r < 0 ? err_prefix(err, "network \"%s\": plugin type=\"%s\"", n->name, p->type) : 0;
}

/* Whether the last result can be read at all. */
static int check_result(const struct cni_network *n, const json_t *result, struct err *err)
{
	struct arena *a _cleanup_arena_ = arena_new(0);
	struct cni_result read;
	int r;

	if (!a)
		return err_nomem(err);
	r = cni_result_read(a, result, &read, err);
	return r < 0 ? err_prefix(err, "network \"%s\"", n->name) : 0;
}

int cni_add(const struct cni *cni, struct ctx *ctx, const struct cni_network *n,
	    const struct cni_attachment *at, json_t **ret, struct err *err)
{
	json_t *result _cleanup_json_ = NULL;
	int r;

	r = check_attachment(at, true, err);
	for (size_t i = 0; r == 0 && i < n->n_plugins; i++) {
		const struct invocation v = {.cni = cni,
					     .ctx = ctx,
					     .network = n,
					     .plugin = &n->plugins[i],
					     .command = "ADD",
					     .at = at,
					     .prev_result = result};
		json_t *answer _cleanup_json_ = NULL, *next = NULL;

		r = cni_invoke(&v, &answer, err);
		if (r == 0)
			r = take_result(n, v.plugin, answer, &next, err);
		if (r == 0) {
			json_decref(result);
			result = next;
		}
	}
	if (r == 0 && !result)
		return err_set(err, ERR_INVALID_ARGUMENT, "network \"%s\" has no plugins", n->name);
	if (r == 0)
		r = check_result(n, result, err);
	if (r == 0)
		r = cni_cache_save(cni, n, at, result, err);
	if (r < 0)
		return r;
	if (ret)
		*ret = TAKE_PTR(result);
	return 0;
}

/* ---- DEL, CHECK ---- */

/* What ADD has kept. *@ret stays NULL when there is nothing. */
static int load_entry(const struct cni *cni, const struct cni_network *n,
		      const struct cni_attachment *at, json_t **ret, struct err *err)
{
	struct err e = ERR_INIT;
	int r = cni_cached(cni, n->name, at->container_id, at->ifname, ret, &e);

	return r < 0 && r != -ERR_NOT_FOUND ? err_copy(err, &e) : 0;
}

/* The result that was kept in the network's version; NULL when there is none that can be. */
static json_t *kept_result(const struct cni_network *n, const json_t *entry)
{
	const json_t *result = json_obj(entry, "result");
	json_t *out = NULL;

	return result && cni_result_convert(result, n->version, &out, NULL) == 0 ? out : NULL;
}

/* Arguments and capabilities of @entry where @at gives none. */
static int complete(struct arena *a, const json_t *entry, struct cni_attachment *at,
		    struct err *err)
{
	json_t *list = json_arr(entry, "cniArgs"), *v;
	struct cni_arg *args;
	size_t i, n = 0;

	if (!at->capabilities)
		at->capabilities = json_obj(entry, "capabilityArgs");
	if (at->n_args || !list)
		return 0;
	args = arena_new_array(a, struct cni_arg, json_array_size(list) + 1);
	if (!args)
		return err_nomem(err);
	json_array_foreach (list, i, v) {
		const char *key = json_string_value(json_array_get(v, 0));
		const char *value = json_string_value(json_array_get(v, 1));

		if (key && value)
			args[n++] = (struct cni_arg){key, value};
	}
	at->args = args;
	at->n_args = n;
	return 0;
}

/* What is not found is not there any more, as go-cni has it, which looks at the text of a plugin's
 * error in the same way. A plugin that is itself not found is another matter. */
static bool is_gone(const struct cni_attachment *at, int r, const struct err *err)
{
	if (r == -ERR_NOT_FOUND && strstr(err->text, CNI_MISSING))
		return false;
	return strstr(err->text, "not found") ||
	       (!*at->netns && strstr(err->text, "no such file or directory"));
}

static int del_plugins(const struct cni *cni, struct ctx *ctx, const struct cni_network *n,
		       const struct cni_attachment *at, const json_t *entry, bool all,
		       struct err *err)
{
	struct arena *a _cleanup_arena_ = arena_new(0);
	json_t *kept _cleanup_json_ = NULL;
	struct cni_attachment full = *at;
	int r;

	if (!a)
		return err_nomem(err);
	if (cni_version_cmp(n->version, CNI_WITH_CHECK) >= 0)
		kept = kept_result(n, entry);
	r = complete(a, entry, &full, err);
	if (r == 0)
		r = check_args(&full, err);
	for (size_t i = n->n_plugins; (r == 0 || all) && i-- > 0;) {
		const struct invocation v = {.cni = cni,
					     .ctx = ctx,
					     .network = n,
					     .plugin = &n->plugins[i],
					     .command = "DEL",
					     .at = &full,
					     .prev_result = kept};
		struct err own = ERR_INIT;
		int e = cni_invoke(&v, NULL, &own);

		if (e < 0 && !is_gone(at, e, &own) && r == 0)
			r = err_copy(err, &own);
	}
	return r;
}

static int del(const struct cni *cni, struct ctx *ctx, const struct cni_network *n,
	       const struct cni_attachment *at, bool all, struct err *err)
{
	json_t *entry _cleanup_json_ = NULL;
	int r;

	r = check_attachment(at, false, err);
	if (r < 0)
		return r;
	/* A file that cannot be read must not keep the namespace from being detached. */
	if (load_entry(cni, n, at, &entry, NULL) < 0)
		entry = NULL;
	r = del_plugins(cni, ctx, n, at, entry, all, err);
	if (r < 0 && !all)
		return r;
	int e = cni_cache_remove(cni, n->name, at->container_id, at->ifname, r < 0 ? NULL : err);
	return r < 0 ? r : e;
}

int cni_del(const struct cni *cni, struct ctx *ctx, const struct cni_network *n,
	    const struct cni_attachment *at, struct err *err)
{
	return del(cni, ctx, n, at, false, err);
}

int cni_del_all(const struct cni *cni, struct ctx *ctx, const struct cni_network *n,
		const struct cni_attachment *at, struct err *err)
{
	return del(cni, ctx, n, at, true, err);
}

int cni_check(const struct cni *cni, struct ctx *ctx, const struct cni_network *n,
	      const struct cni_attachment *at, struct err *err)
{
	json_t *entry _cleanup_json_ = NULL, *kept _cleanup_json_ = NULL;
	int r;

	r = check_attachment(at, true, err);
	if (r < 0)
		return r;
	if (cni_version_cmp(n->version, CNI_WITH_CHECK) < 0)
		return err_set(err, ERR_UNIMPLEMENTED,
			       "network \"%s\": version %s has no CHECK (%s and later have)",
			       n->name, n->version, CNI_WITH_CHECK);
	if (n->disable_check)
		return 0;
	r = load_entry(cni, n, at, &entry, err);
	if (r < 0)
		return r;
	kept = kept_result(n, entry);
	if (!kept)
		return err_set(err, ERR_NOT_FOUND, "network \"%s\": no result of %s, %s is kept",
			       n->name, at->container_id, at->ifname);
	for (size_t i = 0; r == 0 && i < n->n_plugins; i++) {
		const struct invocation v = {.cni = cni,
					     .ctx = ctx,
					     .network = n,
					     .plugin = &n->plugins[i],
					     .command = "CHECK",
					     .at = at,
					     .prev_result = kept};

		r = cni_invoke(&v, NULL, err);
	}
	return r;
}

int cni_status(const struct cni *cni, struct ctx *ctx, const struct cni_network *n, struct err *err)
{
	int r = 0;

	if (cni_version_cmp(n->version, CNI_WITH_GC) < 0)
		return 0;
	for (size_t i = 0; r == 0 && i < n->n_plugins; i++) {
		const struct invocation v = {.cni = cni,
					     .ctx = ctx,
					     .network = n,
					     .plugin = &n->plugins[i],
					     .command = "STATUS"};

		r = cni_invoke(&v, NULL, err);
	}
	return r;
}

/* ---- GC ---- */

struct collector {
	const struct cni *cni;
	struct ctx *ctx;
	const struct cni_network *network;
	const struct cni_attachment *valid;
	size_t n_valid;
	struct err first; /* of what failed */
};

static bool is_valid(const struct collector *k, const char *container_id, const char *ifname)
{
	for (size_t i = 0; i < k->n_valid; i++)
		if (streq(k->valid[i].container_id, container_id) &&
		    streq(k->valid[i].ifname, ifname))
			return true;
	return false;
}

static int collect(void *arg, const json_t *entry, struct err *err)
{
	struct collector *k = arg;
	const struct cni_attachment at = {.container_id = json_str(entry, "containerId", ""),
					  .netns = json_str(entry, "netns", ""),
					  .ifname = json_str(entry, "ifName", "")};
	struct err e = ERR_INIT;

	if (is_valid(k, at.container_id, at.ifname))
		return 0;
	if (cni_del(k->cni, k->ctx, k->network, &at, &e) < 0 && !k->first.kind)
		k->first = e;
	return k->ctx ? ctx_check(k->ctx, err) : 0;
}

/* {"cni.dev/valid-attachments": [{"containerID", "ifname"}, ...]}, under its older name too, which
 * the text of the specification had by mistake. NULL = no memory */
static json_t *valid_json(const struct collector *k)
{
	json_t *list = json_array();

	for (size_t i = 0; i < k->n_valid; i++)
		if (json_array_append_new(list, json_pack("{s:s,s:s}", "containerID",
							  k->valid[i].container_id, "ifname",
							  k->valid[i].ifname)) < 0) {
			json_decref(list);
			return NULL;
		}
	return json_pack("{s:O,s:o}", "cni.dev/attachments", list, "cni.dev/valid-attachments",
			 list);
}

static int collect_plugins(struct collector *k, struct err *err)
{
	json_t *extra _cleanup_json_ = valid_json(k);

	if (!extra)
		return err_nomem(err);
	for (size_t i = 0; i < k->network->n_plugins; i++) {
		const struct invocation v = {.cni = k->cni,
					     .ctx = k->ctx,
					     .network = k->network,
					     .plugin = &k->network->plugins[i],
					     .command = "GC",
					     .extra = extra};
		struct err e = ERR_INIT;

		if (cni_invoke(&v, NULL, &e) < 0 && !k->first.kind)
			k->first = e;
	}
	return 0;
}

int cni_gc(const struct cni *cni, struct ctx *ctx, const struct cni_network *n,
	   const struct cni_attachment *valid, size_t n_valid, struct err *err)
{
	struct collector k = {
		.cni = cni, .ctx = ctx, .network = n, .valid = valid, .n_valid = n_valid};
	int r;

	if (n->disable_gc)
		return 0;
	r = cni_cache_each(cni, n->name, collect, &k, err);
	if (r == 0 && cni_version_cmp(n->version, CNI_WITH_GC) >= 0)
		r = collect_plugins(&k, err);
	if (r < 0)
		return r;
	return k.first.kind ? err_copy(err, &k.first) : 0;
}
