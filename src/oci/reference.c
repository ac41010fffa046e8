/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of a reference end up in URLs and file names, so each is held to its alphabet here:
 * whatever this file accepts has no empty or dot components, no escapes, no white space. */
#include "oci/reference.h"

#include <ctype.h>
#include <stdbool.h>

#include "base/digest.h"
#include "base/str.h"

#define REFERENCE_MAX 4096
#define TAG_MAX 128
#define NAME_MAX_LEN 255 /* of host and repository together, when written by people */

static int invalid(struct err *err, const char *text)
{
	return err_set(err, ERR_INVALID_ARGUMENT, "invalid reference format: \"%.256s\"", text);
}

/* ---- Alphabets ---- */

static bool all_in(const char *s, size_t n, const char *more)
{
	for (size_t i = 0; i < n; i++)
		if (!isalnum((unsigned char)s[i]) && (!s[i] || !strchr(more, s[i])))
			return false;
	return n > 0;
}

static bool port_valid(const char *s)
{
	uint64_t port;

	return str_to_u64(s, 10, &port) == 0 && port <= 65535 && isdigit((unsigned char)*s);
}

/* name, name:port, [v6], [v6]:port */
static bool host_valid(const char *host)
{
	const char *end;

	if (*host == '[') {
		end = strchr(host, ']');
		if (!end || end == host + 1)
			return false;
		for (const char *p = host + 1; p < end; p++)
			if (!isxdigit((unsigned char)*p) && *p != ':' && *p != '.')
				return false;
		return !end[1] || (end[1] == ':' && port_valid(end + 2));
	}
	end = host + strcspn(host, ":");
	if (!all_in(host, (size_t)(end - host), ".-_"))
		return false;
	return !*end || port_valid(end + 1);
}

static bool repository_valid(const char *s)
{
	for (;;) {
		size_t n = strcspn(s, "/");

		if (!all_in(s, n, "._-~") || strspn(s, ".") == n)
			return false;
		if (!s[n])
			return true;
		s += n + 1;
	}
}

static bool tag_valid(const char *s)
{
	size_t n = strlen(s);

	return n <= TAG_MAX && all_in(s, n, "_.-") && *s != '.' && *s != '-';
}

/* ---- Full references ---- */

/* Splits what follows the repository, "[:tag][@digest]", in place. */
static bool object_split(struct arena *a, char *rest, struct reference *r)
{
	char *at = strchr(rest, '@');

	r->tag = r->digest = "";
	r->object = arena_strdup(a, *rest == ':' ? rest + 1 : rest);
	if (at) {
		*at = 0;
		r->digest = at + 1;
		if (digest_validate(r->digest, NULL) < 0)
			return false;
	}
	if (*rest == ':') {
		*rest = 0;
		r->tag = rest + 1;
		if (!tag_valid(r->tag))
			return false;
	}
	return true;
}

int reference_parse(struct arena *a, const char *text, struct reference *ret, struct err *err)
{
	struct reference r = {0};
	char *s, *slash, *rest;

	if (strlen(text) > REFERENCE_MAX || strstr(text, "://"))
		return invalid(err, text);
	s = arena_strdup(a, text);
	if (!s)
		return err_nomem(err);
	slash = strchr(s, '/');
	if (!slash) /* a host and nothing else: it names nothing */
		return host_valid(s) ? err_set(err, ERR_INVALID_ARGUMENT, "object required")
				     : invalid(err, text);
	*slash = 0;
	rest = slash + 1 + strcspn(slash + 1, ":@");
	r.locator = arena_strndup(a, text, (size_t)(rest - s));
	if (!object_split(a, rest, &r))
		return invalid(err, text);
	*rest = 0;
	r.host = s;
	r.repository = slash + 1;
	if (!r.locator || !r.object)
		return err_nomem(err);
	if (!host_valid(r.host) || !repository_valid(r.repository))
		return invalid(err, text);
	if (!*r.tag && !*r.digest)
		return err_set(err, ERR_INVALID_ARGUMENT, "object required");
	*ret = r;
	return 0;
}

/* ---- Familiar names ---- */

/* The first component is a host when it looks like one. */
static bool is_host(const char *s, size_t n)
{
	if (n == strlen("localhost") && memcmp(s, "localhost", n) == 0)
		return true;
	for (size_t i = 0; i < n; i++)
		if (s[i] == '.' || s[i] == ':' || isupper((unsigned char)s[i]))
			return true;
	return false;
}

/* a-z 0-9, with . _ __ or dashes between: what registries agree on. */
static bool component_strict(const char *s, size_t n)
{
	for (size_t i = 0; i < n;) {
		size_t sep = i;

		while (sep < n &&
		       (islower((unsigned char)s[sep]) || isdigit((unsigned char)s[sep])))
			sep++;
		if (sep == i)
			return false;
		if (sep == n)
			return true;
		i = sep;
		while (i < n && s[i] == s[sep] && strchr("._-", s[i]))
			i++;
		if (i == sep || (s[sep] == '.' && i - sep > 1) || (s[sep] == '_' && i - sep > 2))
			return false;
	}
	return false;
}

static int repository_strict(const char *repository, struct err *err)
{
	const char *s = repository;

	for (const char *p = s; *p; p++)
		if (isupper((unsigned char)*p))
			return err_set(err, ERR_INVALID_ARGUMENT,
				       "invalid reference format: repository name (%.256s) must be "
				       "lowercase",
				       repository);
	for (;;) {
		size_t n = strcspn(s, "/");

		if (!component_strict(s, n))
			return invalid(err, repository);
		if (!s[n])
			return 0;
		s += n + 1;
	}
}

static bool is_image_id(const char *s)
{
	return strlen(s) == 64 && strspn(s, "0123456789abcdef") == 64;
}

/* host/repository of what people type, without tag and digest. */
static char *name_complete(struct arena *a, const char *text)
{
	const char *slash = strchr(text, '/'), *rest = text;
	size_t n = slash ? (size_t)(slash - text) : 0;
	const char *host = "docker.io";

	if (slash && is_host(text, n)) {
		host = arena_strndup(a, text, n);
		rest = slash + 1;
	}
	if (!host)
		return NULL;
	if (streq(host, "index.docker.io"))
		host = "docker.io";
	return arena_printf(a, "%s/%s%s", host,
			    streq(host, "docker.io") && !strpbrk(rest, "/") ? "library/" : "",
			    rest);
}

int reference_normalize(struct arena *a, const char *text, char **ret, struct err *err)
{
	struct reference ref;
	const char *digest;
	char *name, *s;
	bool tagged;
	int r;

	if (strlen(text) > REFERENCE_MAX || !*text)
		return invalid(err, text);
	if (is_image_id(text))
		return err_set(
			err, ERR_INVALID_ARGUMENT,
			"invalid repository name (%s), cannot specify 64-byte hexadecimal strings",
			text);
	/* The digest holds colons and no slash, so it goes first. */
	digest = text + strcspn(text, "@");
	s = arena_strndup(a, text, (size_t)(digest - text));
	if (!s)
		return err_nomem(err);
	name = name_complete(a, s);
	if (!name)
		return err_nomem(err);
	tagged = strchr(strchr(name, '/'), ':');
	s = arena_printf(a, "%s%s%s", name, tagged || *digest ? "" : ":latest", digest);
	if (!s)
		return err_nomem(err);
	r = reference_parse(a, s, &ref, err);
	if (r < 0)
		return r;
	r = repository_strict(ref.repository, err);
	if (r < 0)
		return r;
	if (strlen(ref.locator) > NAME_MAX_LEN)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "repository name must not be more than %d characters", NAME_MAX_LEN);
	*ret = s;
	return 0;
}
