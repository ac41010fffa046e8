/* SPDX-License-Identifier: Apache-2.0 */
/* The registry of CDI devices: files, checks, who wins.
 *
 * Directories come in rising priority: a device of a later one hides that of an earlier one. Two
 * files of one directory that have the same device make it unusable, since nobody can tell which is
 * meant. How edits are made is in cdi_edit.c. */
#include "oci/cdi_internal.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "oci/yaml_json.h"

struct device {
	const char *name; /* qualified */
	const json_t *spec, *device;
	size_t priority;
	bool conflict;
};

struct cdi {
	struct arena *arena;
	json_t *specs; /* array: holds what the devices borrow */
	struct device *devices;
	size_t n, cap;
	const char **names; /* of the usable ones */
	size_t n_names;
	struct buf problems;
};

/* ---- Names ---- */

/* A letter first (a digit too, @digit), letters, digits and @inner in between, no sign at the end.
 */
static bool is_name(const char *s, size_t n, bool digit, const char *inner)
{
	if (n == 0 || n > 253 ||
	    !(digit ? isalnum((unsigned char)s[0]) : isalpha((unsigned char)s[0])) ||
	    !isalnum((unsigned char)s[n - 1]))
		return false;
	for (size_t i = 0; i < n; i++)
		if (!isalnum((unsigned char)s[i]) && !strchr(inner, s[i]))
			return false;
	return true;
}

static bool is_kind(const char *s, size_t n)
{
	const char *slash = memchr(s, '/', n);
	size_t vendor = slash ? (size_t)(slash - s) : n;

	return slash && is_name(s, vendor, false, "_-.") &&
	       is_name(slash + 1, n - vendor - 1, false, "_-.");
}

static bool is_device_name(const char *s)
{
	return is_name(s, strlen(s), true, "_-.:");
}

bool cdi_name_valid(const char *name)
{
	const char *eq = strchr(name, '=');

	return eq && is_kind(name, (size_t)(eq - name)) && is_device_name(eq + 1);
}

/* ---- One file ---- */

static bool known_version(const char *v)
{
	static const char *const versions[] = {"0.1.0", "0.2.0", "0.3.0", "0.4.0", "0.5.0",
					       "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0"};

	v = *v == 'v' ? v + 1 : v;
	for (size_t i = 0; i < ARRAY_LEN(versions); i++)
		if (streq(versions[i], v))
			return true;
	return false;
}

static int check_device(const json_t *devices, size_t at, struct err *err)
{
	const json_t *d = json_array_get(devices, at);
	const char *name = json_str(d, "name", "");
	int r;

	if (!is_device_name(name))
		return err_set(err, ERR_INVALID_ARGUMENT, "devices: name \"%.64s\" is not valid",
			       name);
	for (size_t i = 0; i < at; i++)
		if (streq(json_str(json_array_get(devices, i), "name", ""), name))
			return err_set(err, ERR_INVALID_ARGUMENT, "devices: two are named \"%s\"",
				       name);
	r = cdi_edits_check(json_object_get(d, "containerEdits"), err);
	return r < 0 ? err_prefix(err, "device \"%s\"", name) : 0;
}

int cdi_spec_check(const json_t *spec, struct err *err)
{
	const char *kind = json_str(spec, "kind", ""), *version = json_str(spec, "cdiVersion", "");
	const json_t *devices = json_arr(spec, "devices");
	int r;

	if (!json_is_object(spec))
		return err_set(err, ERR_INVALID_ARGUMENT, "not an object");
	if (!known_version(version))
		return err_set(err, ERR_INVALID_ARGUMENT, "cdiVersion \"%.32s\" is not known",
			       version);
	if (!is_kind(kind, strlen(kind)))
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "kind \"%.64s\" is not of the form vendor/class", kind);
	if (json_array_size(devices) == 0 || json_array_size(devices) > CDI_DEVICES_MAX)
		return err_set(err, ERR_INVALID_ARGUMENT, "devices: none, or more than %d",
			       CDI_DEVICES_MAX);
	r = json_object_get(spec, "containerEdits")
		    ? cdi_edits_check(json_object_get(spec, "containerEdits"), err)
		    : 0;
	for (size_t i = 0; r == 0 && i < json_array_size(devices); i++)
		r = check_device(devices, i, err);
	return r;
}

static int read_spec(const char *path, json_t **ret, struct err *err)
{
	struct arena *a _cleanup_arena_ = arena_new(0);
	json_t *spec _cleanup_json_ = NULL;
	size_t len;
	char *text;
	int r;

	if (!a)
		return err_nomem(err);
	r = file_read(a, AT_FDCWD, path, CDI_FILE_MAX, &text, &len);
	if (r < 0)
		return err_errno(err, r, "read");
	r = str_has_suffix(path, ".json") ? json_parse(text, len, &spec, err)
					  : yaml_to_json(text, len, &spec, err);
	if (r == 0)
		r = cdi_spec_check(spec, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(spec);
	return 0;
}

/* ---- The registry ---- */

static int add_spec(struct cdi *c, json_t *spec, size_t priority, struct err *err)
{
	const char *kind = json_str(spec, "kind", "");
	json_t *d;
	size_t i;

	if (json_array_append(c->specs, spec) < 0)
		return err_nomem(err);
	json_array_foreach (json_arr(spec, "devices"), i, d) {
		if (c->n >= CDI_DEVICES_MAX)
			return err_set(err, ERR_RESOURCE_EXHAUSTED, "more than %d CDI devices",
				       CDI_DEVICES_MAX);
		c->devices =
			arena_grow(c->arena, c->devices, &c->cap, c->n + 1, sizeof(*c->devices));
		if (!c->devices)
			return err_nomem(err);
		c->devices[c->n] = (struct device){
			.name = arena_printf(c->arena, "%s=%s", kind, json_str(d, "name", "")),
			.spec = spec,
			.device = d,
			.priority = priority};
		if (!c->devices[c->n++].name)
			return err_nomem(err);
	}
	return 0;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int list_dir(struct arena *a, const char *dir, char ***ret, size_t *ret_n, struct err *err)
{
	DIR *d _cleanup_closedir_ = opendir(dir);
	size_t n = 0, cap = 0;
	const struct dirent *e;
	char **v = NULL;

	if (!d && errno != ENOENT)
		return err_errno(err, errno, "open `%s`", dir);
	while (d && (e = readdir(d))) {
		if (!str_has_suffix(e->d_name, ".json") && !str_has_suffix(e->d_name, ".yaml"))
			continue;
		if (n >= CDI_FILES_MAX)
			return err_set(err, ERR_RESOURCE_EXHAUSTED, "`%s`: more than %d files", dir,
				       CDI_FILES_MAX);
		v = arena_grow(a, v, &cap, n + 1, sizeof(*v));
		if (!v || !(v[n++] = path_join(a, dir, e->d_name)))
			return err_nomem(err);
	}
	if (n)
		qsort(v, n, sizeof(*v), compare_names);
	*ret = v;
	*ret_n = n;
	return 0;
}

static int load_dir(struct cdi *c, const char *dir, size_t priority, struct err *err)
{
	size_t n = 0;
	char **paths;
	int r;

	r = list_dir(c->arena, dir, &paths, &n, err);
	for (size_t i = 0; r == 0 && i < n; i++) {
		json_t *spec _cleanup_json_ = NULL;
		struct err e = ERR_INIT;

		if (read_spec(paths[i], &spec, &e) < 0)
			buf_printf(&c->problems, "%s: %s\n", paths[i], e.text);
		else
			r = add_spec(c, spec, priority, err);
	}
	return r;
}

/* By name; the one that counts first. */
static int compare_devices(const void *a, const void *b)
{
	const struct device *x = a, *y = b;
	int r = strcmp(x->name, y->name);

	return r ? r : (x->priority < y->priority) - (x->priority > y->priority);
}

/* Leaves one device of each name. */
static int resolve(struct cdi *c, struct err *err)
{
	size_t n = 0;

	if (c->n)
		qsort(c->devices, c->n, sizeof(*c->devices), compare_devices);
	for (size_t i = 0; i < c->n; i++) {
		struct device *last = n ? &c->devices[n - 1] : NULL;

		if (!last || !streq(last->name, c->devices[i].name))
			c->devices[n++] = c->devices[i];
		else if (last->priority == c->devices[i].priority && !last->conflict) {
			last->conflict = true;
			buf_printf(&c->problems, "%s: two files of one directory have it\n",
				   last->name);
		}
	}
	c->n = n;
	c->names = arena_new_array(c->arena, const char *, n + 1);
	if (!c->names)
		return err_nomem(err);
	for (size_t i = 0; i < n; i++)
		if (!c->devices[i].conflict)
			c->names[c->n_names++] = c->devices[i].name;
	return buf_ok(&c->problems) ? 0 : err_nomem(err);
}

int cdi_load(const char *const *dirs, size_t n_dirs, struct cdi **ret, struct err *err)
{
	static const char *const defaults[] = {"/etc/cdi", "/var/run/cdi"};
	struct cdi *c _cleanup_(cdi_freep) = calloc(1, sizeof(*c));
	int r = 0;

	if (!c || !(c->arena = arena_new(0)) || !(c->specs = json_array()))
		return err_nomem(err);
	if (n_dirs == 0) {
		dirs = defaults;
		n_dirs = ARRAY_LEN(defaults);
	}
	for (size_t i = 0; r == 0 && i < n_dirs; i++)
		r = load_dir(c, dirs[i], i, err);
	if (r == 0)
		r = resolve(c, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(c);
	return 0;
}

void cdi_free(struct cdi *c)
{
	json_decref(c->specs);
	buf_done(&c->problems);
	arena_free(c->arena);
	free(c);
}

static const struct device *find(const struct cdi *c, const char *name)
{
	for (size_t low = 0, high = c->n; low < high;) {
		size_t mid = (low + high) / 2;
		int r = strcmp(name, c->devices[mid].name);

		if (r == 0)
			return c->devices[mid].conflict ? NULL : &c->devices[mid];
		if (r < 0)
			high = mid;
		else
			low = mid + 1;
	}
	return NULL;
}

bool cdi_has_kind(const struct cdi *c, const char *kind)
{
	for (size_t i = 0; i < c->n_names; i++) {
		const char *rest = str_skip(c->names[i], kind);

		if (rest && *rest == '=')
			return true;
	}
	return false;
}

size_t cdi_devices(const struct cdi *c, const char *const **ret)
{
	*ret = c->names;
	return c->n_names;
}

const char *cdi_problems(const struct cdi *c)
{
	return c->problems.data ? c->problems.data : "";
}

/* ---- Injection ---- */

static int check_names(const struct cdi *c, const char *const *names, size_t n, struct err *err)
{
	struct buf missing _cleanup_buf_ = BUF_INIT;

	for (size_t i = 0; i < n; i++)
		if (!find(c, names[i]))
			buf_printf(&missing, "%s%s", missing.len ? ", " : "", names[i]);
	if (missing.len)
		return err_set(err, ERR_NOT_FOUND, "unresolvable CDI devices %.500s%s%.500s",
			       missing.data, c->problems.len ? "; " : "", cdi_problems(c));
	return 0;
}

/* Whether the file of device @at is that of an earlier one. */
static bool seen(const struct cdi *c, const char *const *names, size_t at)
{
	for (size_t i = 0; i < at; i++)
		if (find(c, names[i])->spec == find(c, names[at])->spec)
			return true;
	return false;
}

int cdi_inject(const struct cdi *c, json_t *spec, const char *const *names, size_t n,
	       struct err *err)
{
	int r;

	r = check_names(c, names, n, err);
	for (size_t i = 0; r == 0 && i < n; i++) {
		const struct device *d = find(c, names[i]);

		if (!seen(c, names, i))
			r = cdi_edits_apply(json_obj(d->spec, "containerEdits"), spec, err);
		if (r == 0)
			r = cdi_edits_apply(json_obj(d->device, "containerEdits"), spec, err);
		if (r < 0)
			return err_prefix(err, "CDI device \"%s\"", names[i]);
	}
	return r;
}
