/* SPDX-License-Identifier: Apache-2.0 */
/* CDI's container edits: checked when a file is read, made in a runtime spec later. */
#include "oci/cdi_internal.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/str.h"
#include "oci/spec.h"

#define LIST_MAX 4096
#define DEPTH_MAX 256 /* of mounts: beyond it the order stays */

static const char *const hook_names[] = {"prestart",	   "createRuntime", "createContainer",
					 "startContainer", "poststart",	    "poststop"};

/* ---- Checks ---- */

static int refuse(struct err *err, const char *what, const char *value)
{
	return err_set(err, ERR_INVALID_ARGUMENT, "containerEdits: %s \"%.64s\"", what, value);
}

static int check_env(const json_t *v, struct err *err)
{
	const char *s = str_or(json_string_value(v), "");

	return strchr(s, '=') && *s != '=' ? 0 : refuse(err, "env is not of the form K=V:", s);
}

static int check_node(const json_t *v, struct err *err)
{
	const char *path = json_str(v, "path", ""), *type = json_str(v, "type", "");
	const char *permissions = json_str(v, "permissions", "");

	if (*path != '/')
		return refuse(err, "a device node's path is not absolute:", path);
	if (*type && (strlen(type) > 1 || !strchr("bcup", *type)))
		return refuse(err, "unknown type of a device node:", type);
	if (permissions[strspn(permissions, "rwm")] && !streq(permissions, "none"))
		return refuse(err, "unknown permissions of a device node:", permissions);
	return 0;
}

static int check_mount(const json_t *v, struct err *err)
{
	const char *to = json_str(v, "containerPath", "");

	if (!*json_str(v, "hostPath", ""))
		return refuse(err, "a mount without hostPath at", to);
	return *to == '/' ? 0 : refuse(err, "a mount's containerPath is not absolute:", to);
}

static int check_hook(const json_t *v, struct err *err)
{
	const char *name = json_str(v, "hookName", "");

	if (*json_str(v, "path", "") != '/')
		return refuse(err, "a hook's path is not absolute:", json_str(v, "path", ""));
	for (size_t i = 0; i < ARRAY_LEN(hook_names); i++)
		if (streq(hook_names[i], name))
			return 0;
	return refuse(err, "unknown hook", name);
}

static int check_gid(const json_t *v, struct err *err)
{
	json_int_t n = json_is_integer(v) ? json_integer_value(v) : -1;

	return n >= 0 && n <= UINT32_MAX ? 0 : refuse(err, "an additional gid is no number", "");
}

static int check_net(const json_t *v, struct err *err)
{
	return *json_str(v, "hostInterfaceName", "") && *json_str(v, "name", "")
		       ? 0
		       : refuse(err, "a network device lacks hostInterfaceName or name:",
				json_str(v, "name", ""));
}

int cdi_edits_check(const json_t *edits, struct err *err)
{
	static const struct {
		const char *key;
		int (*check)(const json_t *v, struct err *err);
	} lists[] = {
		{"env", check_env},    {"deviceNodes", check_node},   {"mounts", check_mount},
		{"hooks", check_hook}, {"additionalGids", check_gid}, {"netDevices", check_net}};
	int r = 0;

	if (edits && !json_is_object(edits))
		return refuse(err, "not an object", "");
	for (size_t i = 0; r == 0 && i < ARRAY_LEN(lists); i++) {
		json_t *list = json_object_get(edits, lists[i].key), *v;
		size_t k;

		if (list && !json_is_null(list) &&
		    (!json_is_array(list) || json_array_size(list) > LIST_MAX))
			return refuse(err, "no list, or too long a one:", lists[i].key);
		json_array_foreach (list, k, v)
			if (r == 0)
				r = lists[i].check(v, err);
	}
	return r;
}

/* ---- Making them ---- */

/* The list at @path of the spec, made when absent. */
static json_t *list_at(json_t *spec, const char *path)
{
	json_t *v = spec_get(spec, path);

	if (!json_is_array(v)) {
		if (spec_set(spec, path, json_array(), NULL) < 0)
			return NULL;
		v = spec_get(spec, path);
	}
	return v;
}

static void remove_where(json_t *list, const char *key, const char *value)
{
	for (size_t i = json_array_size(list); i-- > 0;)
		if (streq(json_str(json_array_get(list, i), key, ""), value))
			json_array_remove(list, i);
}

static int copy_member(json_t *to, const char *name, const json_t *from, const char *as)
{
	json_t *v = json_object_get(from, name);

	return !v || json_is_null(v) ? 0 : json_object_set_new(to, as, json_deep_copy(v));
}

/* Type and numbers of the node on the host. */
static int complete_node(json_t *node, const char *host, struct err *err)
{
	struct stat st;

	if (stat(host, &st) < 0)
		return err_errno(err, errno, "device node `%s`", host);
	if (!S_ISCHR(st.st_mode) && !S_ISBLK(st.st_mode) && !S_ISFIFO(st.st_mode))
		return err_set(err, ERR_INVALID_ARGUMENT, "`%s` is no device node", host);
	if (!*json_str(node, "type", "") &&
	    json_object_set_new(node, "type",
				json_string(S_ISBLK(st.st_mode)	  ? "b"
					    : S_ISCHR(st.st_mode) ? "c"
								  : "p")) < 0)
		return err_nomem(err);
	if (S_ISFIFO(st.st_mode))
		return 0;
	if (json_object_set_new(node, "major", json_integer(major(st.st_rdev))) < 0 ||
	    json_object_set_new(node, "minor", json_integer(minor(st.st_rdev))) < 0)
		return err_nomem(err);
	return 0;
}

/* Devices belong to the process's user when the file says nothing else. */
static int own_node(json_t *node, json_t *spec)
{
	static const char *const ids[] = {"uid", "gid"};

	for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
		const json_t *own = json_object_get(spec_get(spec, "process/user"), ids[i]);

		if (!json_object_get(node, ids[i]) && json_is_integer(own) &&
		    json_integer_value(own) > 0 &&
		    json_object_set_new(node, ids[i], json_integer(json_integer_value(own))) < 0)
			return -1;
	}
	return 0;
}

static int allow_node(const json_t *node, const char *permissions, json_t *spec)
{
	json_t *rules, *rule;

	if (streq(json_str(node, "type", ""), "p") || streq(permissions, "none"))
		return 0;
	rules = list_at(spec, "linux/resources/devices");
	rule = json_pack("{s:b,s:s,s:I,s:I,s:s}", "allow", 1, "type", json_str(node, "type", "c"),
			 "major", (json_int_t)json_int(node, "major", 0), "minor",
			 (json_int_t)json_int(node, "minor", 0), "access",
			 str_or(permissions, "rwm"));
	return rules ? json_array_append_new(rules, rule) : -1;
}

static int apply_node(const json_t *v, json_t *spec, struct err *err)
{
	static const char *const members[] = {"path",	  "type", "major", "minor",
					      "fileMode", "uid",  "gid"};
	json_t *node _cleanup_json_ = json_object(), *list = list_at(spec, "linux/devices");
	const char *host = str_or(json_str(v, "hostPath", ""), json_str(v, "path", ""));
	int r = 0;

	for (size_t i = 0; i < ARRAY_LEN(members); i++)
		if (!node || copy_member(node, members[i], v, members[i]) < 0)
			return err_nomem(err);
	if (!*json_str(node, "type", "") ||
	    (json_int(node, "major", 0) == 0 && !streq(json_str(node, "type", ""), "p")))
		r = complete_node(node, host, err);
	if (r < 0)
		return r;
	remove_where(list, "path", json_str(node, "path", ""));
	if (!list || own_node(node, spec) < 0 || json_array_append(list, node) < 0 ||
	    allow_node(node, json_str(v, "permissions", ""), spec) < 0)
		return err_nomem(err);
	return 0;
}

static int apply_mount(const json_t *v, json_t *spec, struct err *err)
{
	json_t *list = list_at(spec, "mounts");
	json_t *m _cleanup_json_ = json_pack(
		"{s:s,s:s,s:s}", "destination", json_str(v, "containerPath", ""), "source",
		json_str(v, "hostPath", ""), "type", str_or(json_str(v, "type", ""), "bind"));

	if (!list || !m || copy_member(m, "options", v, "options") < 0)
		return err_nomem(err);
	remove_where(list, "destination", json_str(v, "containerPath", ""));
	return json_array_append(list, m) < 0 ? err_nomem(err) : 0;
}

static int apply_hook(const json_t *v, json_t *spec, struct err *err)
{
	static const char *const members[] = {"path", "args", "env", "timeout"};
	json_t *hook _cleanup_json_ = json_object(), *list;
	char path[64];

	snprintf(path, sizeof(path), "hooks/%s", json_str(v, "hookName", ""));
	list = list_at(spec, path);
	for (size_t i = 0; i < ARRAY_LEN(members); i++)
		if (!hook || copy_member(hook, members[i], v, members[i]) < 0)
			return err_nomem(err);
	return !list || json_array_append(list, hook) < 0 ? err_nomem(err) : 0;
}

static int apply_gid(const json_t *v, json_t *spec, struct err *err)
{
	json_t *list = list_at(spec, "process/user/additionalGids"), *old;
	size_t i;

	json_array_foreach (list, i, old)
		if (json_integer_value(old) == json_integer_value(v))
			return 0;
	if (json_integer_value(v) == 0)
		return 0;
	return !list || json_array_append_new(list, json_integer(json_integer_value(v))) < 0
		       ? err_nomem(err)
		       : 0;
}

/* linux.netDevices: host's name -> {name}. */
static int apply_net(const json_t *v, json_t *spec, struct err *err)
{
	json_t *all = json_obj_make(json_obj_make(spec, "linux"), "netDevices");

	return json_object_set_new(all, json_str(v, "hostInterfaceName", ""),
				   json_pack("{s:s}", "name", json_str(v, "name", ""))) < 0
		       ? err_nomem(err)
		       : 0;
}

static int apply_env(const json_t *v, json_t *spec, struct err *err)
{
	return spec_set_env(spec, json_string_value(v), err);
}

static size_t components(const json_t *mount)
{
	size_t n = 0;

	for (const char *p = json_str(mount, "destination", ""); *p; p++)
		n += *p != '/' && (p[1] == '/' || !p[1]);
	return MIN(n, (size_t)DEPTH_MAX);
}

/* What lies deeper is mounted later; otherwise the order stays. */
static int sort_mounts(json_t *spec, struct err *err)
{
	json_t *list = spec_get(spec, "mounts"), *sorted _cleanup_json_ = json_array(), *v;
	size_t i, most = 0, n = json_array_size(list);

	json_array_foreach (list, i, v)
		most = MAX(most, components(v));
	for (size_t depth = 0; depth <= most; depth++)
		json_array_foreach (list, i, v)
			if (components(v) == depth && json_array_append(sorted, v) < 0)
				return err_nomem(err);
	if (!sorted || json_array_size(sorted) != n)
		return err_nomem(err);
	return spec_set(spec, "mounts", json_incref(sorted), err);
}

int cdi_edits_apply(const json_t *edits, json_t *spec, struct err *err)
{
	static const struct {
		const char *key;
		int (*apply)(const json_t *v, json_t *spec, struct err *err);
	} lists[] = {
		{"env", apply_env},    {"deviceNodes", apply_node},   {"mounts", apply_mount},
		{"hooks", apply_hook}, {"additionalGids", apply_gid}, {"netDevices", apply_net}};
	const json_t *rdt = json_obj(edits, "intelRdt");
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_LEN(lists); i++) {
		json_t *v;
		size_t k;

		json_array_foreach (json_arr(edits, lists[i].key), k, v)
			if (r == 0)
				r = lists[i].apply(v, spec, err);
	}
	if (r == 0 && rdt)
		r = spec_set(spec, "linux/intelRdt", json_deep_copy(rdt), err);
	if (r == 0 && json_array_size(json_arr(edits, "mounts")))
		r = sort_mounts(spec, err);
	return r;
}
