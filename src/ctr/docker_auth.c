/* SPDX-License-Identifier: Apache-2.0 */
#include "ctr/docker_auth.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/fd.h"
#include "base/json.h"
#include "base/path.h"
#include "base/str.h"

#define CONFIG_MAX ((size_t)1 << 20)

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
		      struct docker_auth *ret, struct err *err)
{
	const char *token = json_str(entry, "identitytoken", ""),
		   *both = json_str(entry, "auth", "");
	const char *username = json_str(entry, "username", ""),
		   *secret = json_str(entry, "password", "");
	struct docker_auth auth = {.token = *token};
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

int docker_auth_find(struct arena *a, const char *text, size_t n, const char *host,
		     struct docker_auth *ret, struct err *err)
{
	json_t *j _cleanup_json_ = NULL;
	const char *want = bare_host(a, host), *name;
	json_t *entry;
	int r;

	if (!want)
		return err_nomem(err);
	r = json_parse(text, n, &j, err);
	if (r < 0)
		return r;
	json_object_foreach (json_obj(j, "auths"), name, entry) {
		const char *have = bare_host(a, name);

		if (!have)
			return err_nomem(err);
		if (streq(have, want))
			return read_entry(a, name, entry, ret, err);
	}
	return err_set(err, ERR_NOT_FOUND, "credentials of \"%.200s\"", host);
}

int docker_auth_load(struct arena *a, const char *host, struct docker_auth *ret, struct err *err)
{
	const char *dir = getenv("DOCKER_CONFIG"), *home = getenv("HOME");
	char *path, *text;
	size_t len;
	int r;

	if (str_empty(dir) && str_empty(home))
		return err_set(err, ERR_NOT_FOUND, "home directory");
	path = str_empty(dir) ? path_join(a, home, ".docker/config.json")
			      : path_join(a, dir, "config.json");
	if (!path)
		return err_nomem(err);
	r = file_read(a, AT_FDCWD, path, CONFIG_MAX, &text, &len);
	if (r < 0)
		return err_errno(err, r, "read `%s`", path);
	r = docker_auth_find(a, text, len, host, ret, err);
	return r < 0 && r != -ERR_NOT_FOUND ? err_prefix(err, "`%s`", path) : r;
}
