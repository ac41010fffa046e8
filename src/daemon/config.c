/* SPDX-License-Identifier: Apache-2.0 */
/* Loading the configuration. See config.h for the rules.
 *
 * The list of files to read starts with the main one and grows by the imports of each file read; a
 * path is read once.
 */
#include "daemon/config.h"

#include <fcntl.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "base/time.h"
#include "daemon/config_migrate.h"
#include "daemon/plugin.h"

#define FILE_MAX (1024 * 1024)
#define FILES_MAX 1024
#define URI(x) "io.containerd." x

struct loader {
	struct config_sink sink; /* first: found again by the sink's callback */
	struct config *config;
	struct toml_value *merged; /* the defaults and what was read so far */
	const char **files;
	size_t files_n, files_cap;
	int main_version;
};

/* Warnings */

static void add_warning(struct config_sink *sink, int line, const char *text)
{
	struct config *c = ((struct loader *)sink)->config;
	const char *full = text, **grown;

	if (sink->file)
		full = line > 0 ? arena_printf(c->arena, "%s:%d: %s", sink->file, line, text)
				: arena_printf(c->arena, "%s: %s", sink->file, text);
	grown = arena_grow(c->arena, c->warnings, &c->warnings_cap, c->warnings_n + 1,
			   sizeof(*grown));
	if (!full || !grown)
		return;
	c->warnings = grown;
	grown[c->warnings_n++] = full;
}

/* One file */

/* A table that says anything else than the defaults. */
static int differs(struct loader *l, const struct plugin *p, const struct toml_value *table,
		   bool *ret, struct err *err)
{
	struct toml_value *given, *defaults;
	int r;

	r = field_complete(l->sink.arena, p->config, table, &given, err);
	if (r == 0)
		r = field_complete(l->sink.arena, p->config, NULL, &defaults, err);
	if (r == 0)
		*ret = !tree_equal(given, defaults);
	return r;
}

static int check_plugin(struct loader *l, const struct toml_entry *e, const char *key,
			struct err *err)
{
	const struct plugin *p = plugin_find(plugin_table, plugin_table_n, e->key);
	bool effective = false;
	int r;

	if (!p) {
		config_sink_warn(&l->sink, e->line,
				 "`%s`: there is no such plugin, its table is ignored", key);
		return 0;
	}
	if (!p->config) {
		if (e->value->table.n > 0)
			config_sink_warn(
				&l->sink, e->line,
				"`%s`: this plugin has no configuration, its table is ignored",
				key);
		return 0;
	}
	r = field_check(&l->sink, p->config, key, e->value, err);
	if (r == 0 && !p->init)
		r = differs(l, p, e->value, &effective, err);
	if (effective)
		config_sink_warn(
			&l->sink, e->line,
			"`%s`: this plugin is not implemented yet, its table has no effect", key);
	return r;
}

/* Tables of plugins that nobody here knows stay in the tree unread, so that a dump keeps them. */
static int check_plugins(struct loader *l, struct toml_value *plugins, struct err *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < plugins->table.n; i++) {
		const struct toml_entry *e = &plugins->table.v[i];
		const char *key = config_key_join(l->sink.arena, "plugins", e->key);

		if (!key)
			return err_nomem(err);
		if (e->value->type != TOML_TABLE)
			return err_set(err, ERR_INVALID_ARGUMENT,
				       "%s:%d:%d: key `%s`: want table, got %s", l->sink.file,
				       e->line, e->column, key, toml_type_name(e->value->type));
		r = check_plugin(l, e, key, err);
	}
	return r;
}

static int check_version(struct loader *l, int version, struct err *err)
{
	if (l->main_version == 0)
		l->main_version = version;
	if (version > l->main_version)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "%s: drop-in config version %d higher than root config version %d",
			       l->sink.file, version, l->main_version);
	if (version < CONFIG_VERSION)
		config_sink_warn(&l->sink, 0,
				 "migrated from version %d; `containerd config migrate` prints it "
				 "as version %d",
				 version, CONFIG_VERSION);
	return 0;
}

/* Entries of maps get all their keys before they replace others. */
static int complete_entries(struct loader *l, const struct toml_value *root, struct err *err)
{
	for (const struct config_field *f = config_fields; f->name; f++) {
		const struct toml_value *map = f->kind == CFG_MAP ? toml_get(root, f->name) : NULL;

		for (size_t i = 0; map && i < map->table.n; i++) {
			int r = field_complete(l->sink.arena, f->fields, map->table.v[i].value,
					       &map->table.v[i].value, err);

			if (r < 0)
				return r;
		}
	}
	return 0;
}

static int read_file(struct loader *l, const char *path, struct toml_value **ret, struct err *err)
{
	struct toml_value *root;
	int version, r;
	size_t n;
	char *p;

	r = file_read(l->sink.arena, AT_FDCWD, path, FILE_MAX, &p, &n);
	if (r < 0)
		return err_errno(err, r, "open `%s`", path);
	l->sink.file = path;
	r = toml_parse(l->sink.arena, p, n, &root, err);
	if (r < 0)
		return err_prefix(err, "%s", path);
	r = config_version(&l->sink, root, &version, err);
	if (r == 0)
		r = check_version(l, version, err);
	if (r == 0)
		r = config_migrate(&l->sink, root, err);
	if (r == 0)
		r = field_check(&l->sink, config_fields, "", root, err);
	if (r == 0)
		r = check_plugins(l, toml_get(root, "plugins"), err);
	if (r == 0)
		r = complete_entries(l, root, err);
	if (r == 0)
		*ret = root;
	return r;
}

/* Merging */

static bool array_has(const struct toml_value *array, const struct toml_value *v)
{
	for (size_t i = 0; i < array->array.n; i++)
		if (tree_equal(array->array.v[i], v))
			return true;
	return false;
}

static int append_new(struct arena *a, const struct toml_value *x, const struct toml_value *y,
		      struct toml_value **ret, struct err *err)
{
	struct toml_value *out = toml_new(a, TOML_ARRAY);

	if (!out)
		return err_nomem(err);
	for (size_t i = 0; i < x->array.n; i++)
		if (toml_append(a, out, x->array.v[i]) < 0)
			return err_nomem(err);
	for (size_t i = 0; i < y->array.n; i++)
		if (!array_has(out, y->array.v[i]) && toml_append(a, out, y->array.v[i]) < 0)
			return err_nomem(err);
	*ret = out;
	return 0;
}

/* Entries are replaced whole: no key of an older entry shines through. */
static int replace_entries(struct arena *a, const struct toml_value *x, const struct toml_value *y,
			   struct toml_value **ret, struct err *err)
{
	struct toml_value *out = toml_new(a, TOML_TABLE);

	if (!out)
		return err_nomem(err);
	for (size_t i = 0; i < x->table.n; i++)
		if (toml_set(a, out, x->table.v[i].key, x->table.v[i].value) < 0)
			return err_nomem(err);
	for (size_t i = 0; i < y->table.n; i++)
		if (toml_set(a, out, y->table.v[i].key, y->table.v[i].value) < 0)
			return err_nomem(err);
	return tree_sort(a, out, false, ret, err);
}

static int merge_field(struct arena *a, const struct config_field *fields,
		       const struct toml_value *x, const struct toml_value *y,
		       struct toml_value **ret, struct err *err);

/* Outside of plugins: @y over @x. */
static int merge_one(struct arena *a, const struct config_field *f, struct toml_value *x,
		     struct toml_value *y, struct toml_value **ret, struct err *err)
{
	if (f->kind == CFG_ANY)
		return tree_overlay(a, x, y, ret, err);
	if (f->kind == CFG_TABLE)
		return merge_field(a, f->fields, x, y, ret, err);
	if (f->kind == CFG_MAP)
		return replace_entries(a, x, y, ret, err);
	if (f->kind == CFG_STRINGS)
		return append_new(a, x, y, ret, err);
	*ret = tree_is_zero(y) ? x : y;
	return 0;
}

static int merge_field(struct arena *a, const struct config_field *fields,
		       const struct toml_value *x, const struct toml_value *y,
		       struct toml_value **ret, struct err *err)
{
	struct toml_value *out = toml_new(a, TOML_TABLE), *v;
	int r;

	if (!out)
		return err_nomem(err);
	for (const struct config_field *f = fields; f->name; f++) {
		struct toml_value *old = toml_get(x, f->name), *new = toml_get(y, f->name);

		v = old ? old : new;
		if (old && new) {
			r = merge_one(a, f, old, new, &v, err);
			if (r < 0)
				return r;
		}
		if (v && toml_set(a, out, f->name, v) < 0)
			return err_nomem(err);
	}
	*ret = out;
	return 0;
}

/* Files */

static int add_file(struct loader *l, const char *path, struct err *err)
{
	const char **grown;

	for (size_t i = 0; i < l->files_n; i++)
		if (streq(l->files[i], path))
			return 0;
	if (l->files_n == FILES_MAX)
		return err_set(err, ERR_INVALID_ARGUMENT, "more than %d configuration files",
			       FILES_MAX);
	grown = arena_grow(l->sink.arena, l->files, &l->files_cap, l->files_n + 1, sizeof(*grown));
	if (!grown)
		return err_nomem(err);
	l->files = grown;
	path = arena_strdup(l->sink.arena, path);
	if (!path)
		return err_nomem(err);
	grown[l->files_n++] = path;
	return 0;
}

static int add_glob(struct loader *l, const char *pattern, struct err *err)
{
	glob_t g = {0};
	int r = 0;

	switch (glob(pattern, GLOB_PERIOD, NULL, &g)) {
	case 0:
		break;
	case GLOB_NOMATCH:
		return 0;
	case GLOB_NOSPACE:
		return err_nomem(err);
	default:
		return err_set(err, ERR_UNKNOWN, "read the directories of `%s`", pattern);
	}
	for (size_t i = 0; r == 0 && i < g.gl_pathc; i++) {
		const char *name = path_base(g.gl_pathv[i]);

		if (!streq(name, ".") && !streq(name, ".."))
			r = add_file(l, g.gl_pathv[i], err);
	}
	globfree(&g);
	return r;
}

/* Without "//", "/./" and "x/../", by the letters of the path alone, so that a file is known again.
 */
static char *clean_path(struct arena *a, const char *path)
{
	char *out = arena_strdup(a, path);
	size_t n = 0, fixed; /* @fixed: what a ".." must not eat */

	if (!out)
		return NULL;
	if (*path == '/')
		out[n++] = '/';
	fixed = n;
	while (*path) {
		size_t part = strcspn(path, "/");

		if (part == 2 && path[0] == '.' && path[1] == '.' && n > fixed) {
			while (n > fixed && out[n - 1] != '/')
				n--;
			n -= n > fixed;
		} else if (part > 0 && !(part == 1 && *path == '.') &&
			   !(part == 2 && path[0] == '.' && path[1] == '.' && *out == '/')) {
			if (n > 0 && out[n - 1] != '/')
				out[n++] = '/';
			memmove(out + n, path, part);
			n += part;
			if (part == 2 && path[0] == '.' && path[1] == '.')
				fixed = n;
		}
		path += part + strspn(path + part, "/");
	}
	out[n] = 0;
	return n > 0 ? out : arena_strdup(a, ".");
}

static int add_imports(struct loader *l, const char *path, const struct toml_value *imports,
		       struct err *err)
{
	int r = 0;

	for (size_t i = 0; imports && r == 0 && i < imports->array.n; i++) {
		const char *import = imports->array.v[i]->string.s;

		if (!*import)
			return err_set(err, ERR_INVALID_ARGUMENT, "%s:%d:%d: empty import", path,
				       imports->array.v[i]->line, imports->array.v[i]->column);
		if (*import != '/') {
			const char *dir = path_dir(l->sink.arena, path);

			import = dir ? path_join(l->sink.arena, dir, import) : NULL;
		}
		import = import ? clean_path(l->sink.arena, import) : NULL;
		if (!import)
			return err_nomem(err);
		r = strchr(import, '*') ? add_glob(l, import, err) : add_file(l, import, err);
	}
	return r;
}

static int load_files(struct loader *l, struct err *err)
{
	struct toml_value *tree = NULL;
	int r;

	for (size_t i = 0; i < l->files_n; i++) {
		r = read_file(l, l->files[i], &tree, err);
		if (r < 0)
			return r;
		r = add_imports(l, l->files[i], toml_get(tree, "imports"), err);
		if (r == 0)
			r = merge_field(l->sink.arena, config_fields, l->merged, tree, &l->merged,
					err);
		if (r < 0)
			return r;
	}
	l->sink.file = NULL;
	return 0;
}

/* Flags */

static int set_string(struct config *c, struct toml_value *t, const char *key, const char *value,
		      struct err *err)
{
	struct toml_value *v = value ? tree_string(c->arena, value) : NULL;

	if (!v || toml_set(c->arena, t, key, v) < 0)
		return err_nomem(err);
	return 0;
}

static int get_or_make(struct config *c, struct toml_value *t, const char *key,
		       struct toml_value **ret, struct err *err)
{
	*ret = toml_get(t, key);
	if (*ret)
		return 0;
	*ret = toml_new(c->arena, TOML_TABLE);
	if (!*ret || toml_set(c->arena, t, key, *ret) < 0)
		return err_nomem(err);
	return 0;
}

static int apply_address(struct config *c, struct toml_value *tree, const char *address,
			 struct err *err)
{
	struct toml_value *plugins = NULL, *grpc = NULL;
	int r = get_or_make(c, tree, "plugins", &plugins, err);

	if (r == 0)
		r = get_or_make(c, plugins, URI("server.v1.grpc"), &grpc, err);
	return r < 0 ? r : set_string(c, grpc, "address", address, err);
}

/* The ttrpc socket follows the gRPC one, owner included, unless something is said about it: two
 * daemons with addresses of their own must not meet on it. */
static int follow_address(struct config *c, struct toml_value *tree, struct err *err)
{
	static const char *const owner[] = {"uid", "gid"};
	struct toml_value *plugins = toml_get(tree, "plugins"), *ttrpc = NULL, *v;
	struct toml_value *grpc = plugins ? toml_get(plugins, URI("server.v1.grpc")) : NULL;
	const char *address = grpc ? config_get_string(grpc, "address") : NULL;
	int r;

	if (str_empty(address) || toml_get(plugins, URI("server.v1.ttrpc")))
		return 0;
	r = get_or_make(c, plugins, URI("server.v1.ttrpc"), &ttrpc, err);
	if (r == 0)
		r = set_string(c, ttrpc, "address", arena_printf(c->arena, "%s.ttrpc", address),
			       err);
	for (size_t i = 0; r == 0 && i < ARRAY_LEN(owner); i++) {
		v = toml_get(grpc, owner[i]);
		if (v && toml_set(c->arena, ttrpc, owner[i], v) < 0)
			return err_nomem(err);
	}
	return r;
}

static int apply_flags(struct config *c, struct toml_value *tree, const struct config_flags *flags,
		       struct err *err)
{
	struct toml_value *debug;
	int r = 0;

	if (!str_empty(flags->root))
		r = set_string(c, tree, "root", path_absolute(c->arena, flags->root), err);
	if (r == 0 && !str_empty(flags->state))
		r = set_string(c, tree, "state", path_absolute(c->arena, flags->state), err);
	if (r == 0 && !str_empty(flags->log_level)) {
		r = get_or_make(c, tree, "debug", &debug, err);
		if (r == 0)
			r = set_string(c, debug, "level", flags->log_level, err);
	}
	return r == 0 && !str_empty(flags->address) ? apply_address(c, tree, flags->address, err)
						    : r;
}

/* The whole tree */

static bool is_disabled(const struct config *c, const char *uri)
{
	for (const char *const *p = c->disabled_plugins; *p; p++)
		if (streq(*p, uri))
			return true;
	return false;
}

/* Every plugin that is loaded and has fields gets its complete table; others keep what files gave.
 */
static int complete_plugins(struct config *c, struct err *err)
{
	const struct toml_value *given = toml_get(c->tree, "plugins");
	struct toml_value *all, *v;
	int r;

	r = tree_sort(c->arena, given, true, &all, err);
	for (size_t i = 0; r == 0 && i < plugin_table_n; i++) {
		const struct plugin *p = &plugin_table[i];
		const char *uri = plugin_uri(c->arena, p);

		if (!uri)
			return err_nomem(err);
		if (!p->config || is_disabled(c, uri))
			continue;
		r = field_complete(c->arena, p->config, toml_get(given, uri), &v, err);
		if (r == 0 && toml_set(c->arena, all, uri, v) < 0)
			return err_nomem(err);
	}
	if (r == 0)
		r = tree_sort(c->arena, all, false, &all, err);
	if (r < 0)
		return r;
	return toml_set(c->arena, c->tree, "plugins", all) < 0 ? err_nomem(err) : 0;
}

static int check_uris(const char *const *uris, const char *what, struct err *err)
{
	for (; *uris; uris++)
		if (!strchr(*uris, '.'))
			return err_set(err, ERR_INVALID_ARGUMENT,
				       "invalid %s plugin URI \"%s\" expect io.containerd.x.vx",
				       what, *uris);
	return 0;
}

static int check_values(const struct config *c, struct err *err)
{
	int r;

	if (!*c->root || !*c->state)
		return err_set(err, ERR_INVALID_ARGUMENT, "%s must be specified",
			       *c->root ? "state" : "root");
	if (streq(c->root, c->state))
		return err_set(err, ERR_INVALID_ARGUMENT, "root and state must be different paths");
	if (*c->log_format && !streq(c->log_format, "text") && !streq(c->log_format, "json"))
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "log format `%s` is neither text nor json", c->log_format);
	r = check_uris(c->disabled_plugins, "disabled", err);
	return r < 0 ? r : check_uris(c->required_plugins, "required", err);
}

/* The members of struct config that are read from the tree. */
static int take_values(struct config *c, struct err *err)
{
	c->root = config_get_string(c->tree, "root");
	c->state = config_get_string(c->tree, "state");
	c->temp = config_get_string(c->tree, "temp");
	c->log_level = config_get_string(c->tree, "debug.level");
	c->log_format = config_get_string(c->tree, "debug.format");
	c->trace = config_get_string(c->tree, "debug.trace");
	c->cgroup_path = config_get_string(c->tree, "cgroup.path");
	c->oom_score = (int)config_get_int(c->tree, "oom_score");
	c->disabled_plugins = config_get_strings(c->arena, c->tree, "disabled_plugins");
	c->required_plugins = config_get_strings(c->arena, c->tree, "required_plugins");
	if (!c->disabled_plugins || !c->required_plugins)
		return err_nomem(err);
	return check_values(c, err);
}

/* With files and flags (both may be none) over the defaults. */
static int load(struct config *c, const struct config_flags *flags, struct err *err)
{
	struct loader l = {.sink = {.arena = c->arena, .warn = add_warning}, .config = c};
	int r;

	r = field_complete(c->arena, config_fields, NULL, &l.merged, err);
	if (r == 0 && c->path)
		r = add_file(&l, c->path, err);
	if (r == 0)
		r = load_files(&l, err);
	if (r == 0 && flags)
		r = apply_flags(c, l.merged, flags, err);
	if (r == 0)
		r = follow_address(c, l.merged, err);
	if (r < 0)
		return r;
	c->tree = l.merged;
	r = take_values(c, err);
	return r < 0 ? r : complete_plugins(c, err);
}

static struct config *config_new(void)
{
	struct arena *a = arena_new(0);
	struct config *c = a ? arena_new_obj(a, struct config) : NULL;

	if (c)
		c->arena = a;
	else
		arena_free(a);
	return c;
}

void config_free(struct config *c)
{
	if (c)
		arena_free(c->arena);
}

int config_load(const char *path, bool missing_ok, const struct config_flags *flags,
		struct config **ret, struct err *err)
{
	_cleanup_config_ struct config *c = config_new();
	int r;

	if (!c)
		return err_nomem(err);
	c->path = arena_strdup(c->arena, path ? path : CONFIG_PATH_DEFAULT);
	if (!c->path)
		return err_nomem(err);
	if ((missing_ok || !path) && access(c->path, F_OK) < 0 && errno == ENOENT)
		c->path = NULL;
	r = load(c, flags, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(c);
	return 0;
}

int config_default(struct config **ret, struct err *err)
{
	_cleanup_config_ struct config *c = config_new();
	int r;

	if (!c)
		return err_nomem(err);
	r = load(c, NULL, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(c);
	return 0;
}

void config_print(const struct config *c, struct buf *b)
{
	tree_print(b, c->tree);
}

/* Values */

const struct toml_value *config_plugin(const struct config *c, const char *uri)
{
	return toml_get(toml_get(c->tree, "plugins"), uri);
}

/* Whoever adds it to the time of now must get a time. */
static int64_t duration_of(const char *text)
{
	int64_t ns;

	if (duration_parse(text, &ns) < 0)
		return 0;
	return MIN(MAX(ns, -CONFIG_DURATION_MAX), CONFIG_DURATION_MAX);
}

int64_t config_timeout(const struct config *c, const char *name)
{
	const struct toml_value *v = toml_get(toml_get(c->tree, "timeouts"), name);

	return v && v->type == TOML_STRING ? duration_of(v->string.s) : 0;
}

const struct toml_value *config_get(const struct toml_value *t, const char *path)
{
	char key[256];

	while (t) {
		size_t n = strcspn(path, ".");

		if (n >= sizeof(key))
			return NULL;
		memcpy(key, path, n);
		key[n] = 0;
		t = toml_get(t, key);
		if (!path[n])
			return t;
		path += n + 1;
	}
	return NULL;
}

static const struct toml_value *get_typed(const struct toml_value *t, const char *path,
					  enum toml_type type)
{
	const struct toml_value *v = config_get(t, path);

	return v && v->type == type ? v : NULL;
}

const char *config_get_string(const struct toml_value *t, const char *path)
{
	const struct toml_value *v = get_typed(t, path, TOML_STRING);

	return v ? v->string.s : "";
}

bool config_get_bool(const struct toml_value *t, const char *path)
{
	const struct toml_value *v = get_typed(t, path, TOML_BOOL);

	return v && v->boolean;
}

int64_t config_get_int(const struct toml_value *t, const char *path)
{
	const struct toml_value *v = get_typed(t, path, TOML_INTEGER);

	return v ? v->integer : 0;
}

double config_get_float(const struct toml_value *t, const char *path)
{
	const struct toml_value *v = get_typed(t, path, TOML_FLOAT);

	return v ? v->real : 0;
}

int64_t config_get_duration(const struct toml_value *t, const char *path)
{
	return duration_of(config_get_string(t, path));
}

const char *const *config_get_strings(struct arena *a, const struct toml_value *t, const char *path)
{
	return config_strings(a, get_typed(t, path, TOML_ARRAY));
}

const char *const *config_strings(struct arena *a, const struct toml_value *v)
{
	const char **out = arena_new_array(a, const char *, (v ? v->array.n : 0) + 1);
	size_t n = 0;

	for (size_t i = 0; out && v && i < v->array.n; i++)
		if (v->array.v[i]->type == TOML_STRING)
			out[n++] = v->array.v[i]->string.s;
	return out;
}
