/* SPDX-License-Identifier: Apache-2.0 */
#include "ctr/options.h"

#include "base/cleanup.h"
#include "base/str.h"

/* Takes the next comma-separated field of *@p, in CSV quoting ("..." with "" for a quote). NULL =
 * no memory or a bad quote. */
static char *next_field(struct arena *a, const char **p)
{
	const char *s = *p;
	size_t n = 0;
	char *out = arena_alloc(a, strlen(s) + 1);

	if (!out)
		return NULL;
	if (*s == '"') {
		for (s++; *s && !(*s == '"' && s[1] != '"'); s++) {
			out[n++] = *s;
			s += *s == '"';
		}
		if (!*s || (s[1] && s[1] != ','))
			return NULL;
		s++;
	} else
		while (*s && *s != ',')
			out[n++] = *s++;
	out[n] = '\0';
	*p = *s ? s + 1 : s;
	return out;
}

static int mount_field(struct arena *a, const char *field, struct mount *m, struct err *err)
{
	static const char *const sources[] = {"src", "source"};
	static const char *const targets[] = {"dst", "destination", "target"};
	const char *eq = strchr(field, '=');
	size_t n = eq ? (size_t)(eq - field) : strlen(field);
	const char *value = eq ? eq + 1 : "";

	if (!eq)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "invalid mount specification: \"%s\" is not of the form key=value",
			       field);
	for (size_t i = 0; i < ARRAY_LEN(sources); i++)
		if (strlen(sources[i]) == n && memcmp(sources[i], field, n) == 0) {
			m->source = value;
			return 0;
		}
	for (size_t i = 0; i < ARRAY_LEN(targets); i++)
		if (strlen(targets[i]) == n && memcmp(targets[i], field, n) == 0) {
			m->target = value;
			return 0;
		}
	if (n == 4 && memcmp(field, "type", n) == 0)
		m->type = value;
	else if (n == 7 && memcmp(field, "options", n) == 0) {
		m->options = (const char **)str_split(a, value, ':', &m->n_options);
		if (!m->options)
			return err_nomem(err);
	} else
		return err_set(err, ERR_INVALID_ARGUMENT, "mount option \"%.*s\" not supported",
			       (int)MIN(n, 200u), field);
	return 0;
}

int option_mount(struct arena *a, const char *text, struct mount *ret, struct err *err)
{
	struct mount m = {.type = "", .source = "", .target = ""};
	const char *p = text;
	int r;

	while (*p) {
		const char *field = next_field(a, &p);

		if (!field)
			return err_set(err, ERR_INVALID_ARGUMENT,
				       "invalid mount specification \"%s\"", text);
		r = mount_field(a, field, &m, err);
		if (r < 0)
			return r;
	}
	if (!*m.target)
		return err_set(err, ERR_INVALID_ARGUMENT, "mount \"%s\" has no destination (dst=)",
			       text);
	*ret = m;
	return 0;
}

/* Reads exactly @n numbers with ":" between; -1. */
static int split_numbers(const char *text, uint64_t *v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		size_t len = strcspn(text, ":");
		char part[24];

		if (len == 0 || len >= sizeof(part) || (text[len] == ':') != (i + 1 < n))
			return -1;
		memcpy(part, text, len);
		part[len] = '\0';
		if (str_to_u64(part, 10, &v[i]) < 0)
			return -1;
		text += len + 1;
	}
	return 0;
}

int option_idmap(const char *text, struct idmap *ret, struct err *err)
{
	uint64_t v[3];

	if (split_numbers(text, v, 3) < 0 || v[0] > UINT32_MAX || v[1] > UINT32_MAX ||
	    v[2] > UINT32_MAX || v[2] == 0)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "id mapping \"%s\" is not of the form container:host:length", text);
	*ret = (struct idmap){(uint32_t)v[0], (uint32_t)v[1], (uint32_t)v[2]};
	return 0;
}

int option_namespace(struct arena *a, const char *text, const char **ret_type,
		     const char **ret_path, struct err *err)
{
	static const char *const types[][2] = {
		{"pid", "pid"},	      {"network", "network"}, {"net", "network"}, {"ipc", "ipc"},
		{"uts", "uts"},	      {"mount", "mount"},     {"mnt", "mount"},	  {"user", "user"},
		{"cgroup", "cgroup"}, {"time", "time"},
	};
	const char *colon = strchr(text, ':');
	const char *name = colon ? arena_strndup(a, text, (size_t)(colon - text)) : "";

	if (!name)
		return err_nomem(err);
	if (!colon || !colon[1])
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "namespace \"%s\" is not of the form <nstype>:<path>", text);
	for (size_t i = 0; i < ARRAY_LEN(types); i++)
		if (streq(types[i][0], name)) {
			*ret_type = types[i][1];
			*ret_path = colon + 1;
			return 0;
		}
	return err_set(err, ERR_INVALID_ARGUMENT, "namespace type \"%s\"", name);
}

int option_rlimit(const char *text, uint64_t *ret_soft, uint64_t *ret_hard, struct err *err)
{
	uint64_t v[2];

	if (split_numbers(text, v, 1) == 0)
		v[1] = v[0];
	else if (split_numbers(text, v, 2) < 0)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "limit \"%s\" is not of the form soft:hard", text);
	if (v[0] > v[1] || v[1] > INT64_MAX)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "limit \"%s\": the soft limit is above the hard one, or too large",
			       text);
	*ret_soft = v[0];
	*ret_hard = v[1];
	return 0;
}
