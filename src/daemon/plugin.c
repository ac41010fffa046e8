/* SPDX-License-Identifier: Apache-2.0 */
/* The plugin graph: order, start, look-up, stop. See plugin.h.
 *
 * Order is depth first in the order of the table: what a plugin requires is put before it, so that
 * a table that is in order already stays as it is, and proxy plugins, which stand at the end, move
 * up before those that require their type.
 */
#include "daemon/plugin.h"

#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/path.h"
#include "base/str.h"
#include "daemon/config.h"

#define NOT_IMPLEMENTED "not implemented in containerd-c yet: skip plugin"

struct plugin_set {
	struct arena *arena;
	const struct config *config;
	void *daemon;
	plugin_init_fn *proxy_init;
	struct plugin_state *states; /* in load order; those below @n have been tried */
	size_t n;
};

struct graph {
	struct plugin_set *set;
	const struct plugin *
		*all; /* candidates: the table's and the proxies, without the disabled ones */
	size_t n, cap;
	enum { NEW, OPEN, DONE } * mark;
	const struct plugin **order;
	size_t order_n;
};

const char *plugin_uri(struct arena *a, const struct plugin *p)
{
	return arena_printf(a, "%s.%s", p->type, p->id);
}

static bool has_uri(const struct plugin *p, const char *uri)
{
	const char *rest = str_skip(uri, p->type);

	return rest && *rest == '.' && streq(rest + 1, p->id);
}

const struct plugin *plugin_find(const struct plugin *table, size_t n, const char *uri)
{
	for (size_t i = 0; i < n; i++)
		if (has_uri(&table[i], uri))
			return &table[i];
	return NULL;
}

/* Candidates */

static int graph_add(struct graph *g, const struct plugin *p, struct err *err)
{
	const struct plugin **grown;

	for (const char *const *d = g->set->config->disabled_plugins; *d; d++)
		if (has_uri(p, *d))
			return !p->essential ? 0
					     : err_set(err, ERR_INVALID_ARGUMENT,
						       "plugin %s cannot be disabled", *d);
	for (size_t i = 0; i < g->n; i++)
		if (streq(g->all[i]->type, p->type) && streq(g->all[i]->id, p->id))
			return err_set(err, ERR_ALREADY_EXISTS, "plugin %s.%s", p->type, p->id);
	grown = arena_grow(g->set->arena, g->all, &g->cap, g->n + 1, sizeof(*grown));
	if (!grown)
		return err_nomem(err);
	g->all = grown;
	grown[g->n++] = p;
	return 0;
}

static const char *proxy_type(const char *type)
{
	static const struct {
		const char *name, *type;
	} types[] = {
		{"snapshot", PLUGIN_TYPE("snapshotter.v1")},
		{"content", PLUGIN_TYPE("content.v1")},
		{"diff", PLUGIN_TYPE("differ.v1")},
		{"sandbox", PLUGIN_TYPE("sandbox.controller.v1")},
	};

	for (size_t i = 0; i < ARRAY_LEN(types); i++)
		if (streq(types[i].name, type) || streq(types[i].type, type))
			return types[i].type;
	return NULL;
}

static int graph_add_proxies(struct graph *g, struct err *err)
{
	const struct toml_value *map = toml_get(g->set->config->tree, "proxy_plugins");
	int r = 0;

	for (size_t i = 0; r == 0 && map && i < map->table.n; i++) {
		const struct toml_value *t = map->table.v[i].value;
		const char *type = proxy_type(config_get_string(t, "type"));
		struct plugin *p;

		if (!type) {
			log_at(LOG_WARN,
			       LOG_FIELDS("type", config_get_string(t, "type"), "id",
					  map->table.v[i].key),
			       "unknown proxy plugin type");
			continue;
		}
		p = arena_new_obj(g->set->arena, struct plugin);
		if (!p)
			return err_nomem(err);
		p->type = type;
		p->id = map->table.v[i].key;
		p->init = g->set->proxy_init;
		p->capabilities = config_get_strings(g->set->arena, t, "capabilities");
		if (!p->capabilities)
			return err_nomem(err);
		r = graph_add(g, p, err);
	}
	return r;
}

/* Order */

static int graph_visit(struct graph *g, size_t i, struct err *err)
{
	const struct plugin *p = g->all[i];
	int r;

	if (g->mark[i] == DONE)
		return 0;
	if (g->mark[i] == OPEN)
		return err_set(err, ERR_INTERNAL, "plugin %s.%s requires itself", p->type, p->id);
	g->mark[i] = OPEN;
	for (const char *const *t = p->requires; t && *t; t++) {
		for (size_t k = 0; k < g->n; k++) {
			if (k == i || !streq(g->all[k]->type, *t))
				continue;
			r = graph_visit(g, k, err);
			if (r < 0)
				return r;
		}
	}
	g->mark[i] = DONE;
	g->order[g->order_n++] = p;
	return 0;
}

static int graph_sort(struct graph *g, struct err *err)
{
	int r = 0;

	g->mark = arena_calloc(g->set->arena, g->n + 1, sizeof(*g->mark));
	g->order = arena_new_array(g->set->arena, const struct plugin *, g->n + 1);
	if (!g->mark || !g->order)
		return err_nomem(err);
	for (size_t i = 0; r == 0 && i < g->n; i++)
		r = graph_visit(g, i, err);
	return r;
}

/* Exports */

static int add_value(struct buf *b, const struct toml_value *v)
{
	switch (v ? v->type : TOML_TABLE) {
	case TOML_STRING:
		return buf_adds(b, v->string.s);
	case TOML_INTEGER:
		return buf_printf(b, "%lld", (long long)v->integer);
	case TOML_FLOAT:
		return buf_printf(b, "%.15g", v->real);
	case TOML_BOOL:
		return buf_adds(b, v->boolean ? "true" : "false");
	default:
		return 0;
	}
}

/* Replaces ${root} and ${path.of.value}. */
static const char *expand(struct plugin_init *in, const char *text)
{
	_cleanup_buf_ struct buf b = BUF_INIT;
	const char *open, *close;
	char path[128];

	while ((open = strstr(text, "${")) && (close = strchr(open, '}')) &&
	       (size_t)(close - open) < sizeof(path)) {
		buf_add(&b, text, (size_t)(open - text));
		memcpy(path, open + 2, (size_t)(close - open) - 2);
		path[close - open - 2] = 0;
		if (streq(path, "root"))
			buf_adds(&b, in->root);
		else
			add_value(&b, config_get(in->values, path));
		text = close + 1;
	}
	buf_adds(&b, text);
	return buf_ok(&b) ? arena_strdup(in->arena, b.data) : NULL;
}

static int tell_exports(struct plugin_init *in, struct err *err)
{
	const struct toml_value *proxy = plugin_proxy_config(in), *map = toml_get(proxy, "exports");
	int r = 0;

	for (const char *const *e = in->plugin->exports; r == 0 && e && *e; e++) {
		const char *eq = strchr(*e, '=');
		const char *key = arena_strndup(in->arena, *e, (size_t)(eq - *e));
		const char *value = expand(in, eq + 1);

		r = key && value ? plugin_export(in, key, value, err) : err_nomem(err);
	}
	for (size_t i = 0; r == 0 && map && i < map->table.n; i++)
		r = plugin_export(in, map->table.v[i].key, map->table.v[i].value->string.s, err);
	return r == 0 && proxy
		       ? plugin_export(in, "address", config_get_string(proxy, "address"), err)
		       : r;
}

/* Start */

static bool is_proxy(const struct plugin_set *set, const struct plugin *p)
{
	const struct toml_value *t = toml_get(toml_get(set->config->tree, "proxy_plugins"), p->id);
	const char *type = t ? proxy_type(config_get_string(t, "type")) : NULL;

	/* a plugin of the table with the same type and id would have been refused */
	return type && streq(type, p->type);
}

static int state_prepare(struct plugin_set *set, const struct plugin *p, struct plugin_state *ret,
			 struct plugin_init *ret_in, struct err *err)
{
	static const char *const none[] = {NULL};
	const char *uri = plugin_uri(set->arena, p);
	struct plugin_init in = {.daemon = set->daemon,
				 .config = set->config,
				 .plugin = p,
				 .set = set,
				 .arena = set->arena};

	if (!uri)
		return err_nomem(err);
	in.self = ret;
	in.values = config_plugin(set->config, uri);
	in.root = path_join(set->arena, set->config->root, uri);
	in.state = path_join(set->arena, set->config->state, uri);
	if (!in.root || !in.state)
		return err_nomem(err);
	*ret = (struct plugin_state){.plugin = p,
				     .capabilities = p->capabilities ? p->capabilities : none};
	if (p->host_platform)
		ret->platform = host_platform();
	if (is_proxy(set, p)) {
		ret->platform = config_get_string(plugin_proxy_config(&in), "platform");
		if (!*ret->platform)
			ret->platform = host_platform();
	}
	*ret_in = in;
	return tell_exports(&in, err);
}

/* "<reason>: skip plugin", without the text of the kind before it. */
static const char *skip_text(struct arena *a, const struct err *err)
{
	const char *kind = err_kind_text(ERR_UNIMPLEMENTED);
	size_t n = strlen(err->text), kind_n = strlen(kind) + 2;

	if (strstr(err->text, "skip plugin"))
		return arena_strdup(a, err->text);
	if (str_has_suffix(err->text, kind) && n > kind_n)
		n -= kind_n;
	return arena_printf(a, "%.*s: skip plugin", (int)n, err->text);
}

/* Turns what init returned into a status. */
static int state_finish(struct plugin_set *set, struct plugin_state *st, int result,
			const struct err *failure, struct err *err)
{
	if (result == 0) {
		st->status = PLUGIN_OK;
		return 0;
	}
	st->status = result == -ERR_UNIMPLEMENTED || strstr(failure->text, "skip plugin")
			     ? PLUGIN_SKIP
			     : PLUGIN_ERROR;
	st->kind = st->status == PLUGIN_SKIP ? ERR_UNKNOWN : (enum err_kind) - result;
	st->error = st->status == PLUGIN_SKIP ? skip_text(set->arena, failure)
					      : arena_strdup(set->arena, failure->text);
	return st->error ? 0 : err_nomem(err);
}

static void state_log(const struct plugin_state *st)
{
	if (st->status == PLUGIN_SKIP)
		log_at(LOG_INFO,
		       LOG_FIELDS("error", st->error, "id", st->plugin->id, "type",
				  st->plugin->type),
		       "skip loading plugin");
	else if (st->status == PLUGIN_ERROR)
		log_at(LOG_WARN,
		       LOG_FIELDS("error", st->error, "id", st->plugin->id, "type",
				  st->plugin->type),
		       "failed to load plugin");
}

static int start_one(struct plugin_set *set, const struct plugin *p, struct err *err)
{
	struct plugin_state *st = &set->states[set->n];
	struct err failure = ERR_INIT;
	struct plugin_init in;
	int r;

	r = state_prepare(set, p, st, &in, err);
	if (r < 0)
		return r;
	if (p->init) {
		log_at(LOG_INFO, LOG_FIELDS("id", p->id, "type", p->type), "loading plugin");
		r = p->init(&in, &failure);
	} else {
		r = err_set_raw(&failure, ERR_UNIMPLEMENTED, NOT_IMPLEMENTED);
	}
	r = state_finish(set, st, r, &failure, err);
	if (r < 0)
		return r;
	if (st->status == PLUGIN_OK) {
		st->instance = in.instance;
		st->stop = in.stop;
	}
	set->n++;
	state_log(st);
	return 0;
}

static bool is_required(const struct plugin_set *set, const struct plugin *p)
{
	for (const char *const *r = set->config->required_plugins; *r; r++)
		if (has_uri(p, *r))
			return true;
	return false;
}

/* Required plugins that were not among the started ones. */
static int check_required(const struct plugin_set *set, struct err *err)
{
	_cleanup_buf_ struct buf missing = BUF_INIT;

	for (const char *const *r = set->config->required_plugins; *r; r++) {
		bool found = false;

		for (size_t i = 0; i < set->n; i++)
			found = found || has_uri(set->states[i].plugin, *r);
		if (!found)
			buf_printf(&missing, "%s%s", missing.len > 0 ? " " : "", *r);
	}
	if (!buf_ok(&missing))
		return err_nomem(err);
	if (missing.len > 0)
		return err_set(err, ERR_NOT_FOUND, "required plugin [%s] not included",
			       missing.data);
	return 0;
}

static int start_all(struct plugin_set *set, const struct graph *g, struct err *err)
{
	int r;

	for (size_t i = 0; i < g->order_n; i++) {
		const struct plugin_state *st = &set->states[set->n];

		r = start_one(set, g->order[i], err);
		if (r < 0)
			return r;
		if ((st->status == PLUGIN_ERROR && st->plugin->essential) ||
		    (st->status != PLUGIN_OK && is_required(set, st->plugin)))
			return err_set(err, ERR_FAILED_PRECONDITION,
				       "load required plugin %s.%s: %s", st->plugin->type,
				       st->plugin->id, st->error);
	}
	return check_required(set, err);
}

void plugins_stop(struct plugin_set *set)
{
	if (!set)
		return;
	while (set->n > 0) {
		struct plugin_state *st = &set->states[--set->n];

		if (st->status == PLUGIN_OK && st->stop)
			st->stop(st->instance);
	}
	arena_free(set->arena);
}

static struct plugin_set *set_new(void)
{
	struct arena *a = arena_new(0);
	struct plugin_set *set = a ? arena_new_obj(a, struct plugin_set) : NULL;

	if (set)
		set->arena = a;
	else
		arena_free(a);
	return set;
}

int plugins_start(const struct plugin *table, size_t n, const struct config *config, void *daemon,
		  plugin_init_fn *proxy_init, struct plugin_set **ret, struct err *err)
{
	struct plugin_set *set = set_new();
	struct graph g = {.set = set};
	int r = 0;

	*ret = set;
	if (!set)
		return err_nomem(err);
	set->config = config;
	set->daemon = daemon;
	set->proxy_init = proxy_init;
	for (size_t i = 0; r == 0 && i < n; i++)
		r = graph_add(&g, &table[i], err);
	if (r == 0)
		r = graph_add_proxies(&g, err);
	if (r == 0)
		r = graph_sort(&g, err);
	if (r == 0) {
		set->states = arena_new_array(set->arena, struct plugin_state, g.n + 1);
		r = set->states ? start_all(set, &g, err) : err_nomem(err);
	}
	return r;
}

/* Look-up */

size_t plugins_count(const struct plugin_set *set)
{
	return set->n;
}

const struct plugin_state *plugins_at(const struct plugin_set *set, size_t i)
{
	return &set->states[i];
}

const struct plugin_state *plugin_next(const struct plugin_set *set, const char *type,
				       const struct plugin_state *last)
{
	for (size_t i = last ? (size_t)(last - set->states) + 1 : 0; i < set->n; i++)
		if (set->states[i].status == PLUGIN_OK && streq(set->states[i].plugin->type, type))
			return &set->states[i];
	return NULL;
}

static int fail_missing(const char *type, struct err *err)
{
	return err_set(err, ERR_NOT_FOUND, "no plugins registered for %s: plugin", type);
}

int plugin_get(const struct plugin_set *set, const char *type, const char *id, void **ret,
	       struct err *err)
{
	for (size_t i = 0; i < set->n; i++) {
		const struct plugin_state *st = &set->states[i];

		if (!streq(st->plugin->type, type) || !streq(st->plugin->id, id))
			continue;
		if (st->status != PLUGIN_OK)
			return err_set_raw(err, ERR_UNKNOWN, "%s.%s: %s", type, id, st->error);
		*ret = st->instance;
		return 0;
	}
	return fail_missing(type, err);
}

int plugin_get_first(const struct plugin_set *set, const char *type, void **ret, struct err *err)
{
	const struct plugin_state *st = plugin_next(set, type, NULL);

	for (size_t i = 0; !st && i < set->n; i++)
		if (streq(set->states[i].plugin->type, type))
			return plugin_get(set, type, set->states[i].plugin->id, ret, err);
	if (!st)
		return fail_missing(type, err);
	*ret = st->instance;
	return 0;
}

/* For init functions */

int plugin_skip(struct err *err, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return err_set_raw(err, ERR_UNIMPLEMENTED, "%s: skip plugin", text);
}

int plugin_export(struct plugin_init *in, const char *key, const char *value, struct err *err)
{
	return labels_set(in->arena, &in->self->exports, key, value) < 0 ? err_nomem(err) : 0;
}

int plugin_set_capabilities(struct plugin_init *in, const char *const *capabilities, size_t n,
			    struct err *err)
{
	const char **copy = arena_new_array(in->arena, const char *, n + 1);

	for (size_t i = 0; copy && i < n; i++) {
		copy[i] = arena_strdup(in->arena, capabilities[i]);
		if (!copy[i])
			return err_nomem(err);
	}
	if (!copy)
		return err_nomem(err);
	in->self->capabilities = copy;
	return 0;
}

const struct toml_value *plugin_proxy_config(const struct plugin_init *in)
{
	if (!is_proxy(in->set, in->plugin))
		return NULL;
	return toml_get(toml_get(in->config->tree, "proxy_plugins"), in->plugin->id);
}

const char *cfg_str(const struct plugin_init *in, const char *path)
{
	return config_get_string(in->values, path);
}

bool cfg_bool(const struct plugin_init *in, const char *path)
{
	return config_get_bool(in->values, path);
}

int64_t cfg_int(const struct plugin_init *in, const char *path)
{
	return config_get_int(in->values, path);
}

size_t cfg_size(const struct plugin_init *in, const char *path)
{
	int64_t v = cfg_int(in, path);

	return v > 0 ? (size_t)v : 0;
}

double cfg_float(const struct plugin_init *in, const char *path)
{
	return config_get_float(in->values, path);
}

int64_t cfg_duration(const struct plugin_init *in, const char *path)
{
	return config_get_duration(in->values, path);
}

const char *const *cfg_strings(const struct plugin_init *in, const char *path)
{
	return config_get_strings(in->arena, in->values, path);
}
