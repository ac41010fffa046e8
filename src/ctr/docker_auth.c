/* SPDX-License-Identifier: Apache-2.0 */
#include "ctr/docker_auth.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/json.h"
#include "base/path.h"
#include "base/str.h"
#include "base/time.h"
#include "sys/spawn.h"

#define CONFIG_MAX ((size_t)1 << 20)
#define HELPER_NS (60 * NSEC_PER_SEC)
#define HELPER_OUTPUT_MAX (64u << 10)
#define TOKEN_USER "<token>" /* as whom a helper gives an identity token */

/* What the entry's name and the host are compared as: without scheme and path; Docker Hub has many
 * names. */
static const char *bare_host(struct arena *a, const char *name)
{
	const char *s = str_skip(name, "https://");
	const char *host;

	if (!s)
		s = str_skip(name, "http://");
	if (!s)
		s = name;
	host = arena_strndup(a, s, strcspn(s, "/"));
	if (host && (streq(host, "index.docker.io") || streq(host, "registry-1.docker.io")))
		return "docker.io";
	return host;
}

static int digit64(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Text without NUL; *@ret NULL = not that. */
static int decode64(struct arena *a, const char *s, char **ret)
{
	char *out = arena_alloc(a, strlen(s) / 4 * 3 + 4);
	uint32_t bits = 0;
	size_t n = 0;
	int have = 0;

	*ret = NULL;
	if (!out)
		return -ENOMEM;
	for (; *s && *s != '='; s++) {
		int v = digit64(*s);

		if (v < 0)
			return 0;
		bits = bits << 6 | (uint32_t)v;
		have += 6;
		if (have >= 8) {
			have -= 8;
			out[n++] = (char)(bits >> have & 0xff);
			if (!out[n - 1])
				return 0;
		}
	}
	out[n] = '\0';
	*ret = s[strspn(s, "=")] ? NULL : out;
	return 0;
}

static int read_entry(struct arena *a, const char *host, const json_t *entry,
		      struct client_auth *ret, struct err *err)
{
	const char *token = json_str(entry, "identitytoken", ""),
		   *both = json_str(entry, "auth", "");
	const char *username = json_str(entry, "username", ""),
		   *secret = json_str(entry, "password", "");
	struct client_auth auth = {.token = *token};
	char *text = NULL, *colon;

	if (*token) {
		username = "";
		secret = token;
	} else if (*both) {
		if (decode64(a, both, &text) < 0)
			return err_nomem(err);
		colon = text ? strchr(text, ':') : NULL;
		if (!colon)
			return err_set(err, ERR_INVALID_ARGUMENT,
				       "entry of \"%.200s\" has no valid \"auth\"", host);
		*colon = '\0';
		username = text;
		secret = colon + 1;
	} else if (!*username)
		return err_set(err, ERR_NOT_FOUND, "credentials of \"%.200s\"", host);
	auth.username = arena_strdup(a, username);
	auth.secret = arena_strdup(a, secret);
	if (!auth.username || !auth.secret)
		return err_nomem(err);
	*ret = auth;
	return 0;
}

/* ---- helpers ---- */

static int helper_answer(struct arena *a, const char *text, size_t n, struct client_auth *ret,
			 struct err *err)
{
	json_t *j _cleanup_json_ = NULL;
	struct client_auth auth = {};
	int r = json_parse(text, n, &j, err);

	if (r < 0)
		return r;
	auth.token = streq(json_str(j, "Username", ""), TOKEN_USER);
	auth.username = arena_strdup(a, auth.token ? "" : json_str(j, "Username", ""));
	auth.secret = arena_strdup(a, json_str(j, "Secret", ""));
	if (!auth.username || !auth.secret)
		return err_nomem(err);
	*ret = auth;
	return 0;
}

static int helper_ask(struct arena *a, const char *name, const char *server,
		      struct client_auth *ret, struct err *err)
{
	struct spawn_options o = SPAWN_OPTIONS_INIT;
	char *program = arena_printf(a, "docker-credential-%s", name), *out, *words;
	char *argv[] = {program, (char *)"get", NULL};
	int r, status;
	size_t n;

	if (!program)
		return err_nomem(err);
	if (!*name || strlen(name) > 64 ||
	    name[strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")])
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "\"%.100s\" is no name of a credential helper", name);
	o.path = program;
	o.argv = argv;
	o.new_pgroup = true;
	r = spawn_run(a, &o, server, strlen(server), HELPER_OUTPUT_MAX, time_mono() + HELPER_NS,
		      &out, &n, &words, &status, err);
	if (r < 0)
		return r;
	if (status != 0 && (strstr(out, "credentials not found") || strstr(words, "not found")))
		return err_set(err, ERR_NOT_FOUND, "credentials of \"%.200s\"", server);
	if (status != 0)
		return err_set(err, ERR_INVALID_ARGUMENT, "%s failed (%d): %.300s", program, status,
			       str_or(words, out));
	r = helper_answer(a, out, n, ret, err);
	return r < 0 ? err_prefix(err, "answer of %s", program) : 0;
}

/* Of this host's own helper, or of the one for all hosts. -ERR_NOT_FOUND: go on without. */
static int ask_helpers(struct arena *a, const json_t *config, const char *host,
		       struct client_auth *ret, struct err *err)
{
	const char *helper = json_str(config, "credsStore", ""), *name;
	json_t *v;

	json_object_foreach (json_obj(config, "credHelpers"), name, v) {
		const char *have = bare_host(a, name);

		if (!have)
			return err_nomem(err);
		if (streq(have, host) && json_is_string(v))
			helper = json_string_value(v);
	}
	if (!*helper)
		return err_set(err, ERR_NOT_FOUND, "credentials of \"%.200s\"", host);
	/* Docker Hub has an old name there. */
	return helper_ask(a, helper,
			  streq(host, "docker.io") ? "https://index.docker.io/v1/" : host, ret,
			  err);
}

/* ---- files ---- */

/* How many bytes of "host/repository" an entry's name covers, 0 = it is about something else. An
 * URL's path says nothing about repositories. */
static int entry_rank(struct arena *a, const char *name, const char *host, const char *repository,
		      size_t *ret, struct err *err)
{
	const char *have = bare_host(a, name), *slash = strchr(name, '/'), *rest;
	size_t n = slash ? strlen(slash + 1) : 0;

	*ret = 0;
	if (!have)
		return err_nomem(err);
	if (!streq(have, host))
		return 0;
	*ret = strlen(host);
	if (strstr(name, "://") || n == 0)
		return 0;
	rest = str_skip(repository, slash + 1);
	if (rest && (!*rest || *rest == '/'))
		*ret += 1 + n;
	else
		*ret = 0;
	return 0;
}

static int find_entry(struct arena *a, const json_t *config, const char *host,
		      const char *repository, struct client_auth *ret, struct err *err)
{
	const char *name, *best_name = NULL;
	json_t *entry, *best = NULL;
	size_t most = 0, rank;

	json_object_foreach (json_obj(config, "auths"), name, entry) {
		int r = entry_rank(a, name, host, repository, &rank, err);

		if (r < 0)
			return r;
		if (rank > most) {
			most = rank;
			best = entry;
			best_name = name;
		}
	}
	if (!best)
		return err_set(err, ERR_NOT_FOUND, "credentials of \"%.200s\"", host);
	return read_entry(a, best_name, best, ret, err);
}

int docker_auth_find(struct arena *a, const char *text, size_t n, const char *host,
		     const char *repository, struct client_auth *ret, struct err *err)
{
	json_t *j _cleanup_json_ = NULL;
	const char *want = bare_host(a, host);
	int r;

	if (!want)
		return err_nomem(err);
	r = json_parse(text, n, &j, err);
	if (r == 0)
		r = ask_helpers(a, j, want, ret, err);
	return r == -ERR_NOT_FOUND ? find_entry(a, j, want, repository, ret, err) : r;
}

static int load_file(struct arena *a, const char *path, const char *host, const char *repository,
		     struct client_auth *ret, struct err *err)
{
	char *text;
	size_t len;
	int r;

	if (!path)
		return err_nomem(err);
	r = file_read(a, AT_FDCWD, path, CONFIG_MAX, &text, &len);
	if (r == -ENOTDIR)
		r = -ENOENT;
	if (r < 0)
		return err_errno(err, r, "read `%s`", path);
	r = docker_auth_find(a, text, len, host, repository, ret, err);
	return r < 0 && r != -ERR_NOT_FOUND ? err_prefix(err, "`%s`", path) : r;
}

int docker_auth_load(struct arena *a, const char *host, const char *repository,
		     struct client_auth *ret, struct err *err)
{
	const char *only = getenv("REGISTRY_AUTH_FILE"), *docker = getenv("DOCKER_CONFIG");
	const char *home = getenv("HOME"), *runtime = getenv("XDG_RUNTIME_DIR");
	int r = -ERR_NOT_FOUND;

	if (!str_empty(only))
		return load_file(a, only, host, repository, ret, err);
	if (!str_empty(docker))
		r = load_file(a, path_join(a, docker, "config.json"), host, repository, ret, err);
	else if (!str_empty(home))
		r = load_file(a, path_join(a, home, ".docker/config.json"), host, repository, ret,
			      err);
	if (r == -ERR_NOT_FOUND)
		r = load_file(a,
			      str_empty(runtime)
				      ? arena_printf(a, "/run/containers/%u/auth.json", getuid())
				      : path_join(a, runtime, "containers/auth.json"),
			      host, repository, ret, err);
	if (r == -ERR_NOT_FOUND && !str_empty(home))
		r = load_file(a, path_join(a, home, ".config/containers/auth.json"), host,
			      repository, ret, err);
	return r;
}
