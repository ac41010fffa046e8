/* SPDX-License-Identifier: Apache-2.0 */
/* One run of one plugin: its configuration on standard input, the rest in the environment, JSON on
 * standard output. What a plugin prints when it fails is JSON too, if it is well behaved. */
#include "cni/internal.h"

#include <unistd.h>

#include "base/buf.h"
#include "base/str.h"
#include "base/time.h"
#include "base/trace.h"
#include "sys/spawn.h"

#define BUSY_TRIES 5 /* while the plugin's file is being written */

extern char **environ;

static const char *const default_dirs[] = {CNI_BIN_DIR, CNI_BIN_DIR_DEBIAN};

static void bin_dirs(const struct cni *cni, const char *const **ret, size_t *ret_n)
{
	*ret = cni->n_bin_dirs ? cni->bin_dirs : default_dirs;
	*ret_n = cni->n_bin_dirs ? cni->n_bin_dirs : ARRAY_LEN(default_dirs);
}

static int find_plugin(struct arena *a, const struct invocation *v, const char **ret,
		       struct err *err)
{
	struct buf searched _cleanup_buf_ = BUF_INIT;
	const char *const *dirs;
	size_t n;

	bin_dirs(v->cni, &dirs, &n);
	for (size_t i = 0; i < n; i++) {
		const char *path = arena_printf(a, "%s/%s", dirs[i], v->plugin->type);

		if (!path)
			return err_nomem(err);
		if (access(path, X_OK) == 0) {
			*ret = path;
			return 0;
		}
		buf_printf(&searched, "%s%s", i ? ", " : "", dirs[i]);
	}
	return err_set(err, ERR_NOT_FOUND, "plugin \"%s\" " CNI_MISSING " %s", v->plugin->type,
		       searched.data ? searched.data : "no directory");
}

/* ---- Environment ---- */

static bool is_ours(const char *assignment)
{
	static const char *const names[] = {"CNI_COMMAND=", "CNI_CONTAINERID=", "CNI_NETNS=",
					    "CNI_ARGS=",    "CNI_IFNAME=",	"CNI_PATH="};

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (str_has_prefix(assignment, names[i]))
			return true;
	return false;
}

static const char *args_text(struct arena *a, const struct cni_attachment *at)
{
	const char *s = "";

	for (size_t i = 0; at && s && i < at->n_args; i++)
		s = arena_printf(a, "%s%s%s=%s", s, i ? ";" : "", at->args[i].key,
				 at->args[i].value);
	return s;
}

static const char *path_text(struct arena *a, const struct cni *cni)
{
	const char *const *dirs, *s = "";
	size_t n;

	bin_dirs(cni, &dirs, &n);
	for (size_t i = 0; s && i < n; i++)
		s = arena_printf(a, "%s%s%s", s, i ? ":" : "", dirs[i]);
	return s;
}

/* NULL = no memory. */
static char **environment(struct arena *a, const struct invocation *v)
{
	const struct cni_attachment *at = v->at;
	const char *args = args_text(a, at), *path = path_text(a, v->cni);
	size_t n = 0, given = 0;
	char **env;

	while (environ && environ[given])
		given++;
	env = arena_new_array(a, char *, given + 7);
	if (!env || !args || !path)
		return NULL;
	for (size_t i = 0; i < given; i++)
		if (!is_ours(environ[i]))
			env[n++] = environ[i];
	env[n++] = arena_printf(a, "CNI_COMMAND=%s", v->command);
	env[n++] = arena_printf(a, "CNI_CONTAINERID=%s", at ? at->container_id : "");
	env[n++] = arena_printf(a, "CNI_NETNS=%s", at ? at->netns : "");
	env[n++] = arena_printf(a, "CNI_ARGS=%s", args);
	env[n++] = arena_printf(a, "CNI_IFNAME=%s", at ? at->ifname : "");
	env[n++] = arena_printf(a, "CNI_PATH=%s", path);
	for (size_t i = n - 6; i < n; i++)
		if (!env[i])
			return NULL;
	return env;
}

/* ---- Configuration ---- */

/* The capabilities that the plugin has asked for and the caller gives. */
static int set_runtime_config(json_t *conf, const struct cni_attachment *at)
{
	const json_t *wanted = json_obj(conf, "capabilities");
	const char *name;
	json_t *want;

	if (!wanted || !at || !at->capabilities)
		return 0;
	json_object_foreach ((json_t *)wanted, name, want) {
		json_t *value = json_object_get(at->capabilities, name);

		if (json_is_true(want) && value &&
		    json_object_set_new(json_obj_make(conf, "runtimeConfig"), name,
					json_deep_copy(value)) < 0)
			return -1;
	}
	return 0;
}

static char *configuration(const struct invocation *v)
{
	json_t *conf _cleanup_json_ = json_deep_copy(v->plugin->conf);

	if (!conf || json_object_set_new(conf, "name", json_string(v->network->name)) < 0 ||
	    json_object_set_new(conf, "cniVersion", json_string(v->network->version)) < 0)
		return NULL;
	if (v->prev_result &&
	    json_object_set_new(conf, "prevResult", json_deep_copy(v->prev_result)) < 0)
		return NULL;
	if (v->extra && json_object_update(conf, (json_t *)v->extra) < 0)
		return NULL;
	if (set_runtime_config(conf, v->at) < 0)
		return NULL;
	return json_dumps(conf, JSON_COMPACT);
}

/* ---- Running ---- */

struct output {
	char *out, *errors;
	size_t len;
	int status;
};

static int run(struct arena *a, const struct invocation *v, const char *path, char *const *env,
	       const char *conf, struct output *ret, struct err *err)
{
	const struct timespec pause = {.tv_sec = 1};
	char *argv[] = {(char *)path, NULL};
	struct spawn_options o = SPAWN_OPTIONS_INIT;
	int64_t timeout = v->cni->timeout_ns ? v->cni->timeout_ns : CNI_TIMEOUT_NS;
	TRACE_SPAN("cni", v->command, "type", v->plugin->type);
	int r;

	o.path = path;
	o.argv = argv;
	o.env = env;
	o.new_pgroup = true;
	/* What it would still do when this process is gone, an address that it takes at last,
	 * nobody would know to undo: who comes next may have called DEL by then. */
	o.pdeathsig = SIGKILL;
	o.ctx = v->ctx;
	for (int i = 0;; i++) {
		struct err e = ERR_INIT;
		int64_t end = timeout > 0 ? time_mono() + timeout : 0;

		r = spawn_run(a, &o, conf, strlen(conf), CNI_CONF_MAX, end, &ret->out, &ret->len,
			      &ret->errors, &ret->status, &e);
		if (r == 0 || i >= BUSY_TRIES || !strstr(e.text, strerror(ETXTBSY)))
			return r < 0 ? err_copy(err, &e) : 0;
		nanosleep(&pause, NULL);
	}
}

static size_t trimmed(const char *s)
{
	size_t n = strlen(s);

	while (n && strchr(" \t\r\n", s[n - 1]))
		n--;
	return n;
}

/* Kind of the codes that the specification gives. */
static enum err_kind code_kind(int64_t code)
{
	switch (code) {
	case 1: /* version */
	case 2: /* unsupported field */
	case 4: /* environment */
	case 6: /* cannot decode */
	case 7: /* configuration */
		return ERR_INVALID_ARGUMENT;
	case 3:
		return ERR_NOT_FOUND; /* unknown container */
	case 11:		      /* try again */
	case 50:		      /* STATUS: cannot take containers */
	case 51:		      /* ... and those that are there may be cut off */
		return ERR_UNAVAILABLE;
	default:
		return ERR_UNKNOWN;
	}
}

static int plugin_error(const struct output *o, struct err *err)
{
	json_t *j _cleanup_json_ = json_loadb(o->out, o->len, 0, NULL);
	const char *msg = json_str(j, "msg", ""), *details = json_str(j, "details", "");

	if (*msg)
		return err_set_raw(err, code_kind(json_int(j, "code", 0)), "%.*s%s%.*s",
				   (int)MIN(trimmed(msg), 1000u), msg, *details ? "; " : "",
				   (int)MIN(trimmed(details), 500u), details);
	if (trimmed(o->errors))
		return err_set_raw(err, ERR_UNKNOWN, "exit status %d: %.*s", o->status,
				   (int)MIN(trimmed(o->errors), 1000u), o->errors);
	if (trimmed(o->out))
		return err_set_raw(err, ERR_UNKNOWN, "exit status %d: %.*s", o->status,
				   (int)MIN(trimmed(o->out), 1000u), o->out);
	return err_set_raw(err, ERR_UNKNOWN, "exit status %d and no message", o->status);
}

static int read_output(const struct output *o, json_t **ret, struct err *err)
{
	int r = 0;

	if (o->status != 0)
		return plugin_error(o, err);
	if (o->len >= CNI_CONF_MAX)
		return err_set(err, ERR_INVALID_ARGUMENT, "its result is larger than %u bytes",
			       CNI_CONF_MAX);
	if (!ret)
		return 0;
	*ret = NULL;
	if (trimmed(o->out)) {
		r = json_parse(o->out, o->len, ret, err);
		if (r < 0)
			r = err_prefix(err, "its result");
	}
	return r;
}

int cni_invoke(const struct invocation *v, json_t **ret, struct err *err)
{
	struct arena *a _cleanup_arena_ = arena_new(0);
	char *conf _cleanup_free_ = configuration(v);
	struct err problem = ERR_INIT;
	struct output out = {};
	const char *path;
	char **env;
	int r;

	env = a ? environment(a, v) : NULL;
	if (!env || !conf)
		return err_nomem(err);
	r = find_plugin(a, v, &path, &problem);
	if (r == 0)
		r = run(a, v, path, env, conf, &out, &problem);
	if (r == 0)
		r = read_output(&out, ret, &problem);
	if (r == 0)
		return 0;
	err_copy(err, &problem);
	err_prefix(err, "network \"%s\": plugin type=\"%s\" failed (%s)", v->network->name,
		   v->plugin->type, v->command);
	return r;
}
