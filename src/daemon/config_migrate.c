/* SPDX-License-Identifier: Apache-2.0 */
/* Migration of configuration files. Values move within the tree and keep their line and column, so
 * that later errors still name the place in the file.
 *
 * 1 to 2: short plugin names become full ones. 2 to 3: only plugins change, CRI is split in three.
 * 3 to 4: servers become plugins. A table that a file has already for the new place wins over what
 * would be moved there.
 */
#include "daemon/config_migrate.h"

#include <string.h>

#include "base/str.h"

#define P "io.containerd."
#define CRI P "grpc.v1.cri"

struct migration {
	struct config_sink *sink;
	struct toml_value *root, *plugins;
	struct err *err;
};

/* Trees */

static int set(struct migration *m, struct toml_value *t, const char *key, struct toml_value *v)
{
	if (!v || toml_set(m->sink->arena, t, key, v) < 0)
		return err_nomem(m->err);
	return 0;
}

static int fail_type(struct migration *m, const char *key, const char *wanted,
		     const struct toml_value *v)
{
	return err_set(m->err, ERR_INVALID_ARGUMENT, "%s:%d:%d: key `%s`: want %s, got %s",
		       m->sink->file, v->line, v->column, key, wanted, toml_type_name(v->type));
}

/* *@ret = NULL when absent. */
static int find_table(struct migration *m, const struct toml_value *t, const char *key,
		      struct toml_value **ret)
{
	struct toml_value *v = toml_get(t, key);

	if (v && v->type != TOML_TABLE)
		return fail_type(m, key, "table", v);
	*ret = v;
	return 0;
}

static int make_table(struct migration *m, struct toml_value *t, const char *key,
		      struct toml_value **ret)
{
	struct toml_value *v = NULL;
	int r;

	r = find_table(m, t, key, &v);
	if (r < 0)
		return r;
	if (!v) {
		v = toml_new(m->sink->arena, TOML_TABLE);
		r = set(m, t, key, v);
		if (r < 0)
			return r;
	}
	*ret = v;
	return 0;
}

static struct toml_entry *find_entry(struct toml_value *t, const char *key)
{
	for (size_t i = 0; i < t->table.n; i++)
		if (streq(t->table.v[i].key, key))
			return &t->table.v[i];
	return NULL;
}

/* Sets it with the place of the key that it had in the file. */
static int set_at(struct migration *m, struct toml_value *t, const char *key,
		  const struct toml_entry *old)
{
	struct toml_entry place = *old, *e;
	int r;

	r = set(m, t, key, place.value);
	e = r == 0 ? find_entry(t, key) : NULL;
	if (e) {
		e->line = place.line;
		e->column = place.column;
	}
	return r;
}

/* Moves @key, if there, to @to as @new_key; what is there is replaced. */
static int move(struct migration *m, struct toml_value *from, const char *key,
		struct toml_value *to, const char *new_key)
{
	const struct toml_entry *e = find_entry(from, key);
	struct toml_entry old;

	if (!e)
		return 0;
	old = *e;
	toml_take(from, key);
	return set_at(m, to, new_key, &old);
}

/* A whole plugin table gets another name. */
static int rename_plugin(struct migration *m, const char *from, const char *to)
{
	if (!toml_get(m->plugins, to))
		return move(m, m->plugins, from, m->plugins, to);
	toml_take(m->plugins, from);
	return 0;
}

static const char *string_or_null(const struct toml_value *v)
{
	return v && v->type == TOML_STRING && *v->string.s ? v->string.s : NULL;
}

/* 1 to 2 */

static const char *full_plugin_name(struct migration *m, const char *name)
{
	static const struct {
		const char *name, *type;
	} known[] = {
		{"cri", "grpc.v1"},
		{"cgroups", "monitor.v1"},
		{"linux", "runtime.v1"},
		{"scheduler", "gc.v1"},
		{"bolt", "metadata.v1"},
		{"task", "runtime.v2"},
		{"opt", "internal.v1"},
		{"restart", "internal.v1"},
		{"tracing", "internal.v1"},
		{"aufs", "snapshotter.v1"},
		{"btrfs", "snapshotter.v1"},
		{"devmapper", "snapshotter.v1"},
		{"zfs", "snapshotter.v1"},
		{"native", "snapshotter.v1"},
		{"overlayfs", "snapshotter.v1"},
		{"otlp", "tracing.processor.v1"},
	};
	const char *type = "grpc.v1";
	const char *full;

	if (strchr(name, '.'))
		return name;
	for (size_t i = 0; i < ARRAY_LEN(known); i++)
		if (streq(known[i].name, name))
			return arena_printf(m->sink->arena, P "%s.%s", known[i].type, name);
	if (str_has_suffix(name, "-service"))
		return arena_printf(m->sink->arena, P "service.v1.%s", name);
	if (streq(name, "windows") || streq(name, "windows-lcow"))
		type = "snapshotter.v1";
	full = arena_printf(m->sink->arena, P "%s.%s", type, name);
	if (full)
		config_sink_warn(m->sink, 0,
				 "ambiguous plugin `%s` in a version 1 file, taken as `%s`", name,
				 full);
	return full;
}

static int rename_in_list(struct migration *m, const char *key)
{
	struct toml_value *list = toml_get(m->root, key), *v;

	for (size_t i = 0; list && list->type == TOML_ARRAY && i < list->array.n; i++) {
		v = list->array.v[i];
		if (v->type != TOML_STRING)
			continue;
		v->string.s = full_plugin_name(m, v->string.s);
		if (!v->string.s)
			return err_nomem(m->err);
		v->string.len = strlen(v->string.s);
	}
	return 0;
}

static int migrate_names(struct migration *m)
{
	struct toml_value *plugins = toml_new(m->sink->arena, TOML_TABLE);
	int r = 0;

	if (!plugins)
		return err_nomem(m->err);
	for (size_t i = 0; r == 0 && i < m->plugins->table.n; i++) {
		const char *name = full_plugin_name(m, m->plugins->table.v[i].key);

		r = name ? set_at(m, plugins, name, &m->plugins->table.v[i]) : err_nomem(m->err);
	}
	m->plugins = plugins;
	if (r == 0)
		r = set(m, m->root, "plugins", plugins);
	if (r == 0)
		r = rename_in_list(m, "disabled_plugins");
	return r < 0 ? r : rename_in_list(m, "required_plugins");
}

/* CRI: one table becomes io.containerd.cri.v1.images, io.containerd.cri.v1.runtime and the
 * streaming server's rest. */

static int move_keys(struct migration *m, struct toml_value *from, struct toml_value *to,
		     const char *const *keys)
{
	int r = 0;

	for (; r == 0 && *keys; keys++)
		r = move(m, from, *keys, to, *keys);
	return r;
}

static int migrate_runtime_platform(struct migration *m, struct toml_value *images,
				    const char *runtime, struct toml_value *snapshotter)
{
	struct toml_value *platforms = NULL, *entry = toml_new(m->sink->arena, TOML_TABLE);
	int r;

	if (!string_or_null(snapshotter))
		return 0;
	if (!entry)
		return err_nomem(m->err);
	r = make_table(m, images, "runtime_platform", &platforms);
	if (r == 0)
		r = set(m, entry, "platform", tree_string(m->sink->arena, host_platform()));
	if (r == 0)
		r = set(m, entry, "snapshotter", snapshotter);
	return r < 0 ? r : set(m, platforms, runtime, entry);
}

static int migrate_cri_runtimes(struct migration *m, struct toml_value *containerd,
				struct toml_value *images)
{
	struct toml_value *runtimes = NULL, *runtime;
	int r;

	r = find_table(m, containerd, "runtimes", &runtimes);
	for (size_t i = 0; r == 0 && runtimes && i < runtimes->table.n; i++) {
		runtime = runtimes->table.v[i].value;
		if (runtime->type != TOML_TABLE)
			return fail_type(m, runtimes->table.v[i].key, "table", runtime);
		r = migrate_runtime_platform(m, images, runtimes->table.v[i].key,
					     toml_take(runtime, "snapshot"));
		if (r == 0)
			r = move(m, runtime, "sandbox_mode", runtime, "sandboxer");
	}
	return r;
}

static int migrate_cri_images(struct migration *m, struct toml_value *cri,
			      struct toml_value *images)
{
	static const char *const keys[] = {"registry",
					   "image_decryption",
					   "max_concurrent_downloads",
					   "image_pull_progress_timeout",
					   "image_pull_with_sync_fs",
					   "stats_collect_period",
					   NULL};
	static const char *const containerd_keys[] = {"snapshotter", "disable_snapshot_annotations",
						      "discard_unpacked_layers", NULL};
	struct toml_value *pinned = NULL, *containerd = NULL;
	int r = 0;

	if (toml_get(cri, "sandbox_image")) {
		r = make_table(m, images, "pinned_images", &pinned);
		if (r == 0)
			r = move(m, cri, "sandbox_image", pinned, "sandbox");
	}
	if (r == 0)
		r = move_keys(m, cri, images, keys);
	if (r == 0)
		r = find_table(m, cri, "containerd", &containerd);
	if (r == 0 && containerd)
		r = move_keys(m, containerd, images, containerd_keys);
	return r < 0 || !containerd ? r : migrate_cri_runtimes(m, containerd, images);
}

/* The one directory becomes a list of one; both given is left for CRI to refuse. */
static int migrate_cni_bin_dir(struct migration *m, struct toml_value *cri)
{
	struct toml_value *cni = NULL, *dir, *dirs;
	int r;

	r = find_table(m, cri, "cni", &cni);
	if (r < 0 || !cni)
		return r;
	dir = toml_get(cni, "bin_dir");
	if (!dir || dir->type != TOML_STRING || toml_get(cni, "bin_dirs"))
		return 0;
	toml_take(cni, "bin_dir");
	if (!*dir->string.s)
		return 0;
	dirs = toml_new(m->sink->arena, TOML_ARRAY);
	if (!dirs || toml_append(m->sink->arena, dirs, dir) < 0)
		return err_nomem(m->err);
	return set(m, cni, "bin_dirs", dirs);
}

static bool is_streaming_key(const char *key)
{
	return str_has_prefix(key, "stream_") || streq(key, "disable_tcp_service") ||
	       streq(key, "enable_tls_streaming") || streq(key, "x509_key_pair_streaming");
}

static int migrate_cri_runtime(struct migration *m, int version, struct toml_value *cri,
			       struct toml_value *runtime)
{
	const struct toml_value *pair =
		version < 3 ? toml_take(cri, "x509_key_pair_streaming") : NULL;
	size_t i = 0;
	int r;

	if (pair && !tree_is_zero(pair))
		config_sink_warn(m->sink, pair->line,
				 "x509_key_pair_streaming of version 2 is not migrated: give it in "
				 "`plugins.'%s'` of a "
				 "version 3 file",
				 CRI);
	r = migrate_cni_bin_dir(m, cri);
	while (r == 0 && i < cri->table.n) {
		const char *key = cri->table.v[i].key;

		if (is_streaming_key(key))
			i++;
		else
			r = move(m, cri, key, runtime, key);
	}
	return r;
}

static int migrate_cri(struct migration *m, int version)
{
	struct toml_value *cri = NULL, *images = NULL, *runtime = NULL;
	int r;

	r = find_table(m, m->plugins, CRI, &cri);
	if (r < 0 || !cri)
		return r;
	r = make_table(m, m->plugins, P "cri.v1.images", &images);
	if (r == 0)
		r = make_table(m, m->plugins, P "cri.v1.runtime", &runtime);
	if (r == 0)
		r = migrate_cri_images(m, cri, images);
	return r < 0 ? r : migrate_cri_runtime(m, version, cri, runtime);
}

/* containerd 2.3 migrates this one in the step from version 3 only to any effect: from older files
 * the setting is lost there, and so it is here, but not silently. */
static int migrate_sched_core(struct migration *m, int version)
{
	struct toml_value *task = NULL, *on, *manager = NULL, *env;
	int r;

	r = find_table(m, m->plugins, P "runtime.v2.task", &task);
	if (r < 0 || !task || !(on = toml_take(task, "sched_core")))
		return r;
	if (on->type != TOML_BOOL)
		return fail_type(m, "sched_core", "boolean", on);
	if (!on->boolean)
		return 0;
	if (version < 3) {
		config_sink_warn(m->sink, on->line,
				 "sched_core of a version %d file has no effect: put SCHED_CORE=1 "
				 "into env of "
				 "`plugins.'" P "shim.v1.manager'`",
				 version);
		return 0;
	}
	r = make_table(m, m->plugins, P "shim.v1.manager", &manager);
	if (r < 0)
		return r;
	env = toml_new(m->sink->arena, TOML_ARRAY);
	if (!env ||
	    toml_append(m->sink->arena, env, tree_string(m->sink->arena, "SCHED_CORE=1")) < 0)
		return err_nomem(m->err);
	return toml_get(manager, "env") ? 0 : set(m, manager, "env", env);
}

static int migrate_plugins(struct migration *m, int version)
{
	int r;

	r = migrate_cri(m, version);
	if (r == 0)
		r = rename_plugin(m, P "internal.v1.restart", P "monitor.container.v1.restart");
	if (r == 0)
		r = rename_plugin(m, P "monitor.v1.cgroups", P "monitor.task.v1.cgroups");
	return r < 0 ? r : migrate_sched_core(m, version);
}

/* 3 to 4 */

struct key_map {
	const char *from, *to;
};

/* Takes the keys of @map out of @from into a new plugin table, or nowhere if the file has that
 * table. Empty strings are "not given". */
static int migrate_server(struct migration *m, struct toml_value *from, const char *plugin,
			  const struct key_map *map, bool exists)
{
	struct toml_value *v, *table;
	int r;

	for (; from && map->from; map++) {
		v = toml_get(from, map->from);
		if (!v)
			continue;
		if (exists || (v->type == TOML_STRING && !*v->string.s)) {
			toml_take(from, map->from);
			continue;
		}
		r = make_table(m, m->plugins, plugin, &table);
		if (r == 0)
			r = move(m, from, map->from, table, map->to);
		if (r < 0)
			return r;
	}
	return 0;
}

/* The ttrpc socket stands beside the gRPC one where it has no address of its own, with the same
 * owner. */
static int migrate_ttrpc(struct migration *m, struct toml_value *grpc, struct toml_value *ttrpc)
{
	static const struct key_map map[] = {
		{"address", "address"}, {"uid", "uid"}, {"gid", "gid"}, {NULL, NULL}};
	const char *grpc_address = string_or_null(toml_get(grpc, "address"));
	bool exists = toml_get(m->plugins, P "server.v1.ttrpc");
	struct toml_value *table;
	const char *address;
	int r;

	if (exists || string_or_null(toml_get(ttrpc, "address")) || !grpc_address)
		return migrate_server(m, ttrpc, P "server.v1.ttrpc", map, exists);
	r = make_table(m, m->plugins, P "server.v1.ttrpc", &table);
	if (r < 0)
		return r;
	for (const struct key_map *k = map; k->from; k++)
		toml_take(ttrpc, k->from);
	address = arena_printf(m->sink->arena, "%s.ttrpc", grpc_address);
	r = address ? set(m, table, "address", tree_string(m->sink->arena, address))
		    : err_nomem(m->err);
	for (int i = 1; r == 0 && i < 3; i++) {
		struct toml_value *v = toml_get(grpc, map[i].from);

		if (v)
			r = set(m, table, map[i].to, v);
	}
	return r;
}

/* A table whose keys have all moved; what is left in it is known to no version. */
static int drop_empty(struct migration *m, const char *name, const struct toml_value *t)
{
	if (t && t->table.n > 0)
		return err_set(m->err, ERR_INVALID_ARGUMENT, "%s:%d:%d: key `%s.%s`: unknown key",
			       m->sink->file, t->table.v[0].line, t->table.v[0].column, name,
			       t->table.v[0].key);
	toml_take(m->root, name);
	return 0;
}

static int migrate_servers(struct migration *m)
{
	static const struct key_map grpc_map[] = {
		{"address", "address"},
		{"uid", "uid"},
		{"gid", "gid"},
		{"max_recv_message_size", "max_recv_message_size"},
		{"max_send_message_size", "max_send_message_size"},
		{NULL, NULL}};
	static const struct key_map tcp_map[] = {{"tcp_address", "address"},
						 {"tcp_tls_ca", "tls_ca"},
						 {"tcp_tls_cert", "tls_cert"},
						 {"tcp_tls_key", "tls_key"},
						 {"tcp_tls_common_name", "tls_common_name"},
						 {NULL, NULL}};
	static const struct key_map debug_map[] = {
		{"address", "address"}, {"uid", "uid"}, {"gid", "gid"}, {NULL, NULL}};
	static const struct key_map metrics_map[] = {{"address", "address"}, {NULL, NULL}};
	static const struct key_map histogram_map[] = {{"grpc_histogram", "grpc_histogram"},
						       {NULL, NULL}};
	static const char *const names[] = {"grpc", "ttrpc", "metrics", "debug"};
	struct toml_value *from[ARRAY_LEN(names)];
	const struct {
		struct toml_value **from;
		const char *plugin;
		const struct key_map *map;
	} steps[] = {
		{&from[0], P "server.v1.grpc", grpc_map},
		{&from[0], P "server.v1.grpc-tcp", tcp_map},
		{&from[2], P "server.v1.metrics", metrics_map},
		{&from[2], P "metrics.v1.grpc-prometheus", histogram_map},
		{&from[3], P "server.v1.debug", debug_map},
	};
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_LEN(names); i++)
		r = find_table(m, m->root, names[i], &from[i]);
	if (r == 0)
		r = migrate_ttrpc(m, from[0], from[1]);
	for (size_t i = 0; r == 0 && i < ARRAY_LEN(steps); i++)
		r = migrate_server(m, *steps[i].from, steps[i].plugin, steps[i].map,
				   toml_get(m->plugins, steps[i].plugin));
	for (size_t i = 0; r == 0 && i < 3; i++)
		r = drop_empty(m, names[i], from[i]);
	return r;
}

int config_version(const struct config_sink *sink, const struct toml_value *root, int *ret,
		   struct err *err)
{
	const struct toml_value *v = toml_get(root, "version");

	if (!v) {
		*ret = 0;
		return 0;
	}
	if (v->type != TOML_INTEGER)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "%s:%d:%d: key `version`: want integer, got %s", sink->file, v->line,
			       v->column, toml_type_name(v->type));
	if (v->integer > CONFIG_VERSION)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "%s:%d:%d: expected containerd config version equal to or less than "
			       "`%d`, got `%lld`",
			       sink->file, v->line, v->column, CONFIG_VERSION,
			       (long long)v->integer);
	if (v->integer < 0)
		return err_set(err, ERR_INVALID_ARGUMENT, "%s:%d:%d: key `version`: less than 0",
			       sink->file, v->line, v->column);
	*ret = (int)v->integer;
	return 0;
}

int config_migrate(struct config_sink *sink, struct toml_value *root, struct err *err)
{
	struct migration m = {.sink = sink, .root = root, .err = err};
	struct toml_value *v;
	int from, r;

	r = config_version(sink, root, &from, err);
	if (r == 0)
		r = make_table(&m, root, "plugins", &m.plugins);
	for (int version = MAX(from, 1); r == 0 && version < CONFIG_VERSION; version++) {
		if (version == 1)
			r = migrate_names(&m);
		else if (version == 3)
			r = migrate_servers(&m);
		if (r == 0)
			r = migrate_plugins(&m, from);
	}
	if (r < 0)
		return r;
	v = toml_new(sink->arena, TOML_INTEGER);
	if (!v)
		return err_nomem(err);
	v->integer = CONFIG_VERSION;
	return set(&m, root, "version", v);
}
