/* SPDX-License-Identifier: Apache-2.0 */
/* Network configuration: text -> struct cni_network, a directory -> those that count.
 *
 * A single plugin's configuration is wrapped into a list, so that what runs plugins knows lists
 * only. Every network has an arena of its own, which its texts live in; the JSON is kept beside it
 * and is only read from then on. */
#include "cni/internal.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>

#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"

#define NAMES_MAX 4096 /* files looked at in a directory */

/* ---- Names and versions ---- */

bool cni_name_valid(const char *s)
{
	if (!isalnum((unsigned char)*s))
		return false;
	for (const char *p = s; *p; p++)
		if (!isalnum((unsigned char)*p) && !strchr("_.-", *p))
			return false;
	return strlen(s) <= 255;
}

bool cni_ifname_valid(const char *s)
{
	if (!*s || strlen(s) > 15 || streq(s, ".") || streq(s, ".."))
		return false;
	for (; *s; s++)
		if (*s == '/' || *s == ':' || isspace((unsigned char)*s))
			return false;
	return true;
}

static const char *const versions[] = {"0.1.0", "0.2.0", "0.3.0",	 "0.3.1",
				       "0.4.0", "1.0.0", CNI_VERSION_MAX};

static int version_index(const char *v)
{
	for (size_t i = 0; i < ARRAY_LEN(versions); i++)
		if (streq(versions[i], v))
			return (int)i;
	return -1;
}

bool cni_version_known(const char *v)
{
	return version_index(v) >= 0;
}

int cni_version_cmp(const char *a, const char *b)
{
	int x = version_index(a), y = version_index(b);

	return (x > y) - (x < y);
}

/* The greatest known of cniVersion and cniVersions; a configuration without both is of the first
 * version. */
static int choose_version(const json_t *conf, const char *source, const char **ret, struct err *err)
{
	const char *plain = json_str(conf, "cniVersion", ""), *best = "";
	const json_t *list = json_arr(conf, "cniVersions");
	size_t i;
	json_t *v;

	if (cni_version_known(plain))
		best = plain;
	json_array_foreach ((json_t *)list, i, v) {
		const char *s = str_or(json_string_value(v), "");

		if (cni_version_known(s) && cni_version_cmp(s, best) > 0)
			best = s;
	}
	if (!*best && (*plain || list))
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "%s: CNI version \"%.64s\" is not supported (0.1.0 to %s are)",
			       source, plain, CNI_VERSION_MAX);
	*ret = versions[*best ? version_index(best) : 0];
	return 0;
}

/* ---- One network ---- */

void cni_network_free(struct cni_network *n)
{
	for (size_t i = 0; i < n->n_plugins; i++)
		json_decref(n->plugins[i].conf);
	json_decref(n->conf);
	arena_free(n->arena);
	free(n);
}

void cni_networks_done(struct cni_networks *l)
{
	for (size_t i = 0; i < l->n; i++)
		cni_network_free(l->v[i]);
	free(l->v);
	*l = (struct cni_networks){};
}

static int add_plugin(struct cni_network *n, json_t *conf, struct err *err)
{
	const char *type = json_str(conf, "type", "");

	if (n->n_plugins >= CNI_PLUGINS_MAX)
		return err_set(err, ERR_INVALID_ARGUMENT, "%s: more than %d plugins", n->source,
			       CNI_PLUGINS_MAX);
	if (!json_is_object(conf))
		return err_set(err, ERR_INVALID_ARGUMENT, "%s: plugin %zu is no object", n->source,
			       n->n_plugins + 1);
	if (!*type)
		return err_set(err, ERR_INVALID_ARGUMENT, "%s: plugin %zu has no \"type\"",
			       n->source, n->n_plugins + 1);
	if (strchr(type, '/') || streq(type, ".") || streq(type, "..") || strlen(type) > 255)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "%s: plugin type \"%.64s\" is not the name of a file", n->source,
			       type);
	type = arena_strdup(n->arena, type);
	if (!type)
		return err_nomem(err);
	n->plugins[n->n_plugins++] = (struct cni_plugin){type, json_incref(conf)};
	return 0;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool has_suffix_of(const char *name, const char *const *suffixes)
{
	for (; *suffixes; suffixes++)
		if (str_has_suffix(name, *suffixes))
			return true;
	return false;
}

/* Names in @dir that end in one of @suffixes, sorted. An absent directory is an empty one. */
static int list_files(struct arena *a, const char *dir, const char *const *suffixes, char ***ret,
		      size_t *ret_n, struct err *err)
{
	DIR *d _cleanup_closedir_ = opendir(dir);
	size_t n = 0, cap = 0;
	const struct dirent *e;
	char **v = NULL;

	if (!d && errno != ENOENT)
		return err_errno(err, errno, "open `%s`", dir);
	while (d && (e = readdir(d))) {
		if (!has_suffix_of(e->d_name, suffixes) || e->d_name[0] == '.')
			continue;
		if (n >= NAMES_MAX)
			return err_set(err, ERR_RESOURCE_EXHAUSTED, "`%s`: more than %d files", dir,
				       NAMES_MAX);
		v = arena_grow(a, v, &cap, n + 1, sizeof(*v));
		if (!v || !(v[n++] = arena_strdup(a, e->d_name)))
			return err_nomem(err);
	}
	if (n)
		qsort(v, n, sizeof(*v), compare_names);
	*ret = v;
	*ret_n = n;
	return 0;
}

static int read_conf(struct arena *a, const char *path, char **ret, size_t *ret_len,
		     struct err *err)
{
	int r = file_read(a, AT_FDCWD, path, CNI_CONF_MAX, ret, ret_len);

	return r < 0 ? err_errno(err, r, "read `%s`", path) : 0;
}

/* <directory of the list>/<name of the network>/ *.conf */
static int add_files(struct cni_network *n, struct err *err)
{
	static const char *const suffixes[] = {".conf", NULL};
	const char *dir = path_dir(n->arena, n->source);
	size_t n_names = 0, len;
	char **names, *text;
	int r;

	dir = dir ? path_join(n->arena, dir, n->name) : NULL;
	if (!dir)
		return err_nomem(err);
	r = list_files(n->arena, dir, suffixes, &names, &n_names, err);
	for (size_t i = 0; r == 0 && i < n_names; i++) {
		json_t *conf _cleanup_json_ = NULL;
		const char *path = path_join(n->arena, dir, names[i]);

		if (!path)
			return err_nomem(err);
		r = read_conf(n->arena, path, &text, &len, err);
		if (r == 0 && (r = json_parse(text, len, &conf, err)) < 0)
			r = err_prefix(err, "%s", path);
		if (r == 0)
			r = add_plugin(n, conf, err);
	}
	return r;
}

static int read_bool(const json_t *o, const char *key, const char *source, bool *ret,
		     struct err *err)
{
	const json_t *v = json_object_get(o, key);
	const char *s = json_string_value(v);

	if (!v || json_is_null(v))
		return 0;
	if (json_is_boolean(v))
		*ret = json_is_true(v);
	else if (s && (!strcasecmp(s, "true") || streq(s, "1")))
		*ret = true;
	else if (s && (!strcasecmp(s, "false") || streq(s, "0")))
		*ret = false;
	else
		return err_set(err, ERR_INVALID_ARGUMENT, "%s: \"%s\" is not true or false", source,
			       key);
	return 0;
}

static int fill_list(struct cni_network *n, bool from_file, struct err *err)
{
	json_t *plugins = json_object_get(n->conf, "plugins"), *v;
	bool inlined_only = false;
	int r = 0;
	size_t i;

	if (plugins && !json_is_array(plugins))
		return err_set(err, ERR_INVALID_ARGUMENT, "%s: \"plugins\" is no list", n->source);
	json_array_foreach (plugins, i, v)
		if (r == 0)
			r = add_plugin(n, v, err);
	if (r == 0)
		r = read_bool(n->conf, "disableCheck", n->source, &n->disable_check, err);
	if (r == 0)
		r = read_bool(n->conf, "disableGC", n->source, &n->disable_gc, err);
	if (r == 0)
		r = read_bool(n->conf, "loadOnlyInlinedPlugins", n->source, &inlined_only, err);
	if (r == 0 && from_file && !inlined_only)
		r = add_files(n, err);
	return r;
}

/* @conf of one plugin -> that of a list of one. */
static json_t *wrap(const char *name, const char *version, json_t *conf)
{
	return json_pack("{s:s,s:s,s:[O]}", "name", name, "cniVersion", version, "plugins", conf);
}

static int fill(struct cni_network *n, json_t *conf, bool list, bool from_file, struct err *err)
{
	const char *name = json_str(conf, "name", "");
	int r;

	if (!json_is_object(conf))
		return err_set(err, ERR_INVALID_ARGUMENT, "%s: not an object", n->source);
	if (!cni_name_valid(name))
		return err_set(err, ERR_INVALID_ARGUMENT,
			       *name ? "%s: network name \"%.64s\" is not valid"
				     : "%s: no network \"name\"",
			       n->source, name);
	if (!list && json_object_get(conf, "plugins"))
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "%s: a list of plugins belongs into a file that ends in .conflist",
			       n->source);
	r = choose_version(conf, n->source, &n->version, err);
	if (r < 0)
		return r;
	n->name = arena_strdup(n->arena, name);
	n->plugins = arena_new_array(n->arena, struct cni_plugin, CNI_PLUGINS_MAX);
	n->conf = list ? json_incref(conf) : wrap(name, n->version, conf);
	if (!n->name || !n->plugins || !n->conf)
		return err_nomem(err);
	return list ? fill_list(n, from_file, err) : add_plugin(n, conf, err);
}

int cni_network_parse(const char *text, size_t len, const char *source, bool list,
		      struct cni_network **ret, struct err *err)
{
	struct cni_network *n _cleanup_(cni_network_freep) = calloc(1, sizeof(*n));
	json_t *conf _cleanup_json_ = NULL;
	int r;

	if (!n || !(n->arena = arena_new(0)) ||
	    !(n->source = arena_strdup(n->arena, *source ? source : "network configuration")))
		return err_nomem(err);
	if (len > CNI_CONF_MAX)
		return err_set(err, ERR_INVALID_ARGUMENT, "%s: larger than %u bytes", n->source,
			       CNI_CONF_MAX);
	r = json_parse(text, len, &conf, err);
	if (r < 0)
		return err_prefix(err, "%s", n->source);
	r = fill(n, conf, list, *source == '/', err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(n);
	return 0;
}

int cni_network_load(const char *path, struct cni_network **ret, struct err *err)
{
	struct arena *a _cleanup_arena_ = arena_new(0);
	size_t len;
	char *text;
	int r;

	if (!a)
		return err_nomem(err);
	r = read_conf(a, path, &text, &len, err);
	return r < 0 ? r
		     : cni_network_parse(text, len, path, str_has_suffix(path, ".conflist"), ret,
					 err);
}

int cni_networks_load(const char *dir, size_t max, struct cni_networks *ret, struct err *err)
{
	static const char *const suffixes[] = {".conf", ".conflist", ".json", NULL};
	struct cni_networks l _cleanup_cni_networks_ = {};
	struct arena *a _cleanup_arena_ = arena_new(0);
	size_t n_names = 0;
	char **names;
	int r;

	l.v = calloc(CNI_NETWORKS_MAX, sizeof(*l.v));
	if (!a || !l.v)
		return err_nomem(err);
	r = list_files(a, dir, suffixes, &names, &n_names, err);
	for (size_t i = 0; r == 0 && i < n_names && (max == 0 || l.n < max); i++) {
		const char *path = path_join(a, dir, names[i]);

		if (!path)
			return err_nomem(err);
		if (l.n >= CNI_NETWORKS_MAX)
			return err_set(err, ERR_RESOURCE_EXHAUSTED, "`%s`: more than %d networks",
				       dir, CNI_NETWORKS_MAX);
		r = cni_network_load(path, &l.v[l.n], err);
		if (r < 0)
			return err_prefix(err, "load the CNI configuration");
		if (l.v[l.n]->n_plugins)
			l.n++;
		else
			cni_network_free(TAKE_PTR(l.v[l.n]));
	}
	if (r == 0 && l.n == 0)
		return err_set(err, ERR_NOT_FOUND, "no network config found in %s", dir);
	if (r < 0)
		return r;
	*ret = l;
	l = (struct cni_networks){};
	return 0;
}

int cni_network_loopback(struct cni_network **ret, struct err *err)
{
	static const char text[] = "{\"cniVersion\":\"0.3.1\",\"name\":\"cni-loopback\","
				   "\"plugins\":[{\"type\":\"loopback\"}]}";

	return cni_network_parse(text, sizeof(text) - 1, "", true, ret, err);
}
