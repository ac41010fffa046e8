/* SPDX-License-Identifier: Apache-2.0 */
/* The default spec is tables below; everything else is small edits of the JSON tree by path. */
#include "oci/spec.h"

#include <errno.h>
#include <string.h>

#include "base/buf.h"
#include "base/str.h"

#define OCI_VERSION "1.1.0"
#define NOFILE_LIMIT 1024

struct default_mount {
	const char *destination, *type, *source;
	const char *options[8];
};

static const struct default_mount default_mounts[] = {
	{"/proc", "proc", "proc", {"nosuid", "noexec", "nodev"}},
	{"/dev", "tmpfs", "tmpfs", {"nosuid", "strictatime", "mode=755", "size=65536k"}},
	{"/dev/pts",
	 "devpts",
	 "devpts",
	 {"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
	{"/dev/shm", "tmpfs", "shm", {"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
	{"/dev/mqueue", "mqueue", "mqueue", {"nosuid", "noexec", "nodev"}},
	{"/sys", "sysfs", "sysfs", {"nosuid", "noexec", "nodev", "ro"}},
	{"/run", "tmpfs", "tmpfs", {"nosuid", "strictatime", "mode=755", "size=65536k"}},
};

static const char *const masked_paths[] = {
	"/proc/acpi",	       "/proc/asound",
	"/proc/kcore",	       "/proc/keys",
	"/proc/latency_stats", "/proc/timer_list",
	"/proc/timer_stats",   "/proc/sched_debug",
	"/sys/firmware",       "/sys/devices/virtual/powercap",
	"/proc/scsi",
};

static const char *const readonly_paths[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
					     "/proc/sysrq-trigger"};

static const char *const default_caps[] = {
	"CAP_CHOWN",   "CAP_DAC_OVERRIDE", "CAP_FSETID",	   "CAP_FOWNER",
	"CAP_MKNOD",   "CAP_NET_RAW",	   "CAP_SETGID",	   "CAP_SETUID",
	"CAP_SETFCAP", "CAP_SETPCAP",	   "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT",
	"CAP_KILL",    "CAP_AUDIT_WRITE",
};

static const char *const cap_sets[] = {"process/capabilities/bounding",
				       "process/capabilities/effective",
				       "process/capabilities/permitted"};

static const char *const default_namespaces[] = {"pid", "ipc", "uts", "mount", "network"};

static int bad_member(const char *path, struct err *err)
{
	return err_set(err, ERR_INVALID_ARGUMENT, "spec: member \"%s\" has the wrong type", path);
}

/* Array of strings; NULL = no memory. */
static json_t *strings(const char *const *v, size_t n)
{
	json_t *a = json_array();

	for (size_t i = 0; a && i < n; i++)
		if (json_array_append_new(a, json_string(v[i])) < 0) {
			json_decref(a);
			return NULL;
		}
	return a;
}

/* The object that holds the last name of @path, and that name. With @make objects on the way are
 * made. */
static json_t *walk(json_t *spec, const char *path, bool make, const char **ret_last)
{
	json_t *o = spec;

	for (;;) {
		size_t n = strcspn(path, "/");
		json_t *next;
		char key[64];

		if (!path[n]) {
			*ret_last = path;
			return json_is_object(o) ? o : NULL;
		}
		if (n >= sizeof(key))
			return NULL;
		memcpy(key, path, n);
		key[n] = '\0';
		next = json_object_get(o, key);
		if (!next && make) {
			next = json_object();
			if (json_object_set_new(o, key, next) < 0)
				return NULL;
		}
		if (!next)
			return NULL;
		o = next;
		path += n + 1;
	}
}

int spec_set(json_t *spec, const char *path, json_t *value, struct err *err)
{
	const char *last;
	json_t *o;

	if (!value)
		return err_nomem(err);
	o = walk(spec, path, true, &last);
	if (!o) {
		json_decref(value);
		return bad_member(path, err);
	}
	return json_object_set_new(o, last, value) < 0 ? err_nomem(err) : 0;
}

void spec_unset(json_t *spec, const char *path)
{
	const char *last;
	json_t *o = walk(spec, path, false, &last);

	if (o)
		json_object_del(o, last);
}

json_t *spec_get(const json_t *spec, const char *path)
{
	const char *last;
	json_t *o = walk((json_t *)spec, path, false, &last);

	return o ? json_object_get(o, last) : NULL;
}

/* The array at @path, made when absent. */
static int need_array(json_t *spec, const char *path, json_t **ret, struct err *err)
{
	json_t *v = spec_get(spec, path);
	int r;

	if (!v || json_is_null(v)) {
		v = json_array();
		r = spec_set(spec, path, v, err);
		if (r < 0)
			return r;
	}
	if (!json_is_array(v))
		return bad_member(path, err);
	*ret = v;
	return 0;
}

/* Takes @value over. */
static int append(json_t *spec, const char *path, json_t *value, struct err *err)
{
	json_t *a;
	int r;

	if (!value)
		return err_nomem(err);
	r = need_array(spec, path, &a, err);
	if (r < 0) {
		json_decref(value);
		return r;
	}
	return json_array_append_new(a, value) < 0 ? err_nomem(err) : 0;
}

static json_t *make_process(void)
{
	return json_pack("{s:{s:i,s:i},s:s,s:{s:o,s:o,s:o},s:[{s:s,s:i,s:i}],s:b}", "user", "uid",
			 0, "gid", 0, "cwd", "/", "capabilities", "bounding",
			 strings(default_caps, ARRAY_LEN(default_caps)), "effective",
			 strings(default_caps, ARRAY_LEN(default_caps)), "permitted",
			 strings(default_caps, ARRAY_LEN(default_caps)), "rlimits", "type",
			 "RLIMIT_NOFILE", "hard", NOFILE_LIMIT, "soft", NOFILE_LIMIT,
			 "noNewPrivileges", 1);
}

static json_t *make_mounts(void)
{
	json_t *a = json_array();

	for (size_t i = 0; a && i < ARRAY_LEN(default_mounts); i++) {
		const struct default_mount *m = &default_mounts[i];
		size_t n = 0;

		while (n < ARRAY_LEN(m->options) && m->options[n])
			n++;
		if (json_array_append_new(a, json_pack("{s:s,s:s,s:s,s:o}", "destination",
						       m->destination, "type", m->type, "source",
						       m->source, "options",
						       strings(m->options, n))) < 0) {
			json_decref(a);
			return NULL;
		}
	}
	return a;
}

static json_t *make_namespaces(bool unified)
{
	json_t *a = json_array();

	for (size_t i = 0; a && i < ARRAY_LEN(default_namespaces) + unified; i++) {
		const char *type =
			i < ARRAY_LEN(default_namespaces) ? default_namespaces[i] : "cgroup";

		if (json_array_append_new(a, json_pack("{s:s}", "type", type)) < 0) {
			json_decref(a);
			return NULL;
		}
	}
	return a;
}

int spec_new(const char *ns, const char *id, bool unified, json_t **ret, struct err *err)
{
	json_t *cgroup = json_sprintf("/%s%s%s", ns, *id ? "/" : "", id);
	json_t *spec;

	spec = json_pack("{s:s,s:o,s:{s:s},s:o,s:{s:{s:[{s:b,s:s}]},s:o,s:o,s:o,s:o}}",
			 "ociVersion", OCI_VERSION, "process", make_process(), "root", "path",
			 "rootfs", "mounts", make_mounts(), "linux", "resources", "devices",
			 "allow", 0, "access", "rwm", "cgroupsPath", cgroup, "namespaces",
			 make_namespaces(unified), "maskedPaths",
			 strings(masked_paths, ARRAY_LEN(masked_paths)), "readonlyPaths",
			 strings(readonly_paths, ARRAY_LEN(readonly_paths)));
	if (!spec)
		return err_nomem(err);
	*ret = spec;
	return 0;
}

/* ---- Process ---- */

int spec_set_args(json_t *spec, const char *const *args, size_t n, struct err *err)
{
	return spec_set(spec, "process/args", strings(args, n), err);
}

/* Index of the variable @name (@len bytes) in process.env; the array's size when absent. */
static size_t find_env(const json_t *env, const char *name, size_t len)
{
	size_t n = json_array_size(env);

	for (size_t i = 0; i < n; i++) {
		const char *s = json_string_value(json_array_get(env, i));

		if (s && strncmp(s, name, len) == 0 && (s[len] == '=' || !s[len]))
			return i;
	}
	return n;
}

int spec_set_env(json_t *spec, const char *assignment, struct err *err)
{
	const char *eq = strchr(assignment, '=');
	size_t len = eq ? (size_t)(eq - assignment) : strlen(assignment), i;
	json_t *env;
	int r;

	if (len == 0)
		return err_set(err, ERR_INVALID_ARGUMENT, "environment \"%s\" has no name",
			       assignment);
	r = need_array(spec, "process/env", &env, err);
	if (r < 0)
		return r;
	i = find_env(env, assignment, len);
	if (!eq) {
		if (i < json_array_size(env))
			json_array_remove(env, i);
		return 0;
	}
	if (i < json_array_size(env))
		return json_array_set_new(env, i, json_string(assignment)) < 0 ? err_nomem(err) : 0;
	return json_array_append_new(env, json_string(assignment)) < 0 ? err_nomem(err) : 0;
}

const char *spec_env(const json_t *spec, const char *name)
{
	json_t *env = spec_get(spec, "process/env");
	size_t len = strlen(name), i = find_env(env, name, len);
	const char *s = json_string_value(json_array_get(env, i));

	return s && s[len] ? s + len + 1 : NULL;
}

int spec_set_terminal(json_t *spec, struct err *err)
{
	int r;

	r = spec_set(spec, "process/terminal", json_true(), err);
	if (r < 0 || spec_env(spec, "TERM"))
		return r;
	return spec_set_env(spec, "TERM=xterm", err);
}

int spec_set_user(json_t *spec, uint32_t uid, uint32_t gid, const uint32_t *gids, size_t n_gids,
		  struct err *err)
{
	json_t *user = json_pack("{s:I,s:I}", "uid", (json_int_t)uid, "gid", (json_int_t)gid);
	int r;

	r = spec_set(spec, "process/user", user, err);
	for (size_t i = 0; r == 0 && gids && i < n_gids; i++)
		r = append(spec, "process/user/additionalGids", json_integer(gids[i]), err);
	return r;
}

/* Appends the strings of the array @from at @path. */
static int append_all(json_t *spec, const char *path, const json_t *from, struct err *err)
{
	size_t i;
	json_t *v;
	int r = 0;

	json_array_foreach (from, i, v) {
		if (!json_is_string(v))
			return err_set(err, ERR_INVALID_ARGUMENT,
				       "image config: a word of the command is no string");
		r = append(spec, path, json_copy(v), err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int apply_image_args(json_t *spec, const json_t *config, const char *const *args,
			    size_t n_args, struct err *err)
{
	int r;

	r = spec_set(spec, "process/args", json_array(), err);
	if (r < 0)
		return r;
	r = append_all(spec, "process/args", json_arr(config, "Entrypoint"), err);
	if (r == 0 && n_args == 0)
		r = append_all(spec, "process/args", json_arr(config, "Cmd"), err);
	for (size_t i = 0; r == 0 && i < n_args; i++)
		r = append(spec, "process/args", json_string(args[i]), err);
	if (r == 0 && json_array_size(spec_get(spec, "process/args")) == 0)
		return err_set_raw(err, ERR_INVALID_ARGUMENT, "no arguments specified");
	return r;
}

int spec_apply_image(json_t *spec, const json_t *config, const char *const *args, size_t n_args,
		     struct err *err)
{
	static const char default_path[] =
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
	const json_t *env = json_arr(config, "Env");
	const char *cwd = json_str(config, "WorkingDir", "");
	json_t *v;
	size_t i;
	int r = 0;

	json_array_foreach (env, i, v) {
		const char *s = json_string_value(v);

		if (!s || !strchr(s, '='))
			continue;
		r = spec_set_env(spec, s, err);
		if (r < 0)
			return r;
	}
	if (!spec_env(spec, "PATH"))
		r = spec_set_env(spec, default_path, err);
	if (r == 0)
		r = apply_image_args(spec, config, args, n_args, err);
	if (r == 0)
		r = spec_set(spec, "process/cwd", json_string(*cwd ? cwd : "/"), err);
	return r;
}

/* ---- Mounts, namespaces ---- */

int spec_add_mount(json_t *spec, const struct mount *m, struct err *err)
{
	json_t *v = json_pack("{s:s,s:s*,s:s*}", "destination", m->target, "type",
			      str_empty(m->type) ? NULL : m->type, "source",
			      str_empty(m->source) ? NULL : m->source);

	if (v && m->n_options > 0 &&
	    json_object_set_new(v, "options", strings(m->options, m->n_options)) < 0) {
		json_decref(v);
		v = NULL;
	}
	return append(spec, "mounts", v, err);
}

void spec_remove_namespace(json_t *spec, const char *type)
{
	json_t *a = spec_get(spec, "linux/namespaces");

	for (size_t i = json_array_size(a); i > 0; i--)
		if (streq(json_str(json_array_get(a, i - 1), "type", ""), type))
			json_array_remove(a, i - 1);
}

int spec_set_namespace(json_t *spec, const char *type, const char *path, struct err *err)
{
	json_t *v = json_pack("{s:s,s:s*}", "type", type, "path", *path ? path : NULL);
	json_t *a = spec_get(spec, "linux/namespaces");

	for (size_t i = 0; v && i < json_array_size(a); i++)
		if (streq(json_str(json_array_get(a, i), "type", ""), type))
			return json_array_set_new(a, i, v) < 0 ? err_nomem(err) : 0;
	return append(spec, "linux/namespaces", v, err);
}

int spec_add_idmap(json_t *spec, const char *which, uint32_t container, uint32_t host,
		   uint32_t size, struct err *err)
{
	const char *path = streq(which, "uidMappings") ? "linux/uidMappings" : "linux/gidMappings";
	int r;

	r = append(spec, path,
		   json_pack("{s:I,s:I,s:I}", "containerID", (json_int_t)container, "hostID",
			     (json_int_t)host, "size", (json_int_t)size),
		   err);
	return r < 0 ? r : spec_set_namespace(spec, "user", "", err);
}

/* ---- Capabilities ---- */

static size_t find_string(const json_t *a, const char *s)
{
	size_t n = json_array_size(a), i;

	for (i = 0; i < n; i++) {
		const char *v = json_string_value(json_array_get(a, i));

		if (v && streq(v, s))
			break;
	}
	return i;
}

static int check_cap(const char *cap, struct err *err)
{
	if (!str_has_prefix(cap, "CAP_"))
		return err_set(err, ERR_INVALID_ARGUMENT, "capability \"%s\" must start with CAP_",
			       cap);
	return 0;
}

int spec_add_cap(json_t *spec, const char *cap, struct err *err)
{
	int r = check_cap(cap, err);

	for (size_t i = 0; r == 0 && i < ARRAY_LEN(cap_sets); i++) {
		json_t *a = spec_get(spec, cap_sets[i]);

		if (find_string(a, cap) >= json_array_size(a))
			r = append(spec, cap_sets[i], json_string(cap), err);
	}
	return r;
}

int spec_drop_cap(json_t *spec, const char *cap, struct err *err)
{
	int r = check_cap(cap, err);

	for (size_t i = 0; r == 0 && i < ARRAY_LEN(cap_sets); i++) {
		json_t *a = spec_get(spec, cap_sets[i]);
		size_t at = find_string(a, cap);

		if (at < json_array_size(a))
			json_array_remove(a, at);
	}
	return r;
}

int spec_set_privileged(json_t *spec, struct err *err)
{
	json_t *m, *mounts = spec_get(spec, "mounts");
	size_t i;

	spec_unset(spec, "linux/maskedPaths");
	spec_unset(spec, "linux/readonlyPaths");
	spec_unset(spec, "linux/seccomp");
	spec_unset(spec, "process/apparmorProfile");
	spec_unset(spec, "process/selinuxLabel");
	json_array_foreach (mounts, i, m) {
		json_t *options = json_arr(m, "options");
		const char *type = json_str(m, "type", "");
		size_t at = find_string(options, "ro");

		if ((streq(type, "sysfs") || streq(type, "cgroup")) &&
		    at < json_array_size(options) &&
		    json_array_set_new(options, at, json_string("rw")) < 0)
			return err_nomem(err);
	}
	return spec_add_all_caps(spec, err);
}
