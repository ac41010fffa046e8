/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/stdio_uri.h"

#include <string.h>

#include "base/str.h"

#define ARGS_MAX 256

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 32;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Percent decoding; @plus: "+" is a space (queries). NULL = malformed or no memory. */
static char *decode(struct arena *a, const char *s, size_t n, bool plus)
{
	char *out = arena_alloc(a, n + 1), *o = out;

	if (!out)
		return NULL;
	for (size_t i = 0; i < n; i++) {
		if (s[i] == '%') {
			int hi = n - i > 2 ? hex_digit(s[i + 1]) : -1;
			int lo = n - i > 2 ? hex_digit(s[i + 2]) : -1;

			if (hi < 0 || lo < 0 || (hi == 0 && lo == 0))
				return NULL;
			*o++ = (char)(hi << 4 | lo);
			i += 2;
		} else {
			*o++ = plus && s[i] == '+' ? ' ' : s[i];
		}
	}
	*o = '\0';
	return out;
}

static bool has_key(const struct stdio_uri *u, const char *key)
{
	for (size_t i = 0; i < u->n_args; i += 2)
		if (streq(u->args[i], key))
			return true;
	return false;
}

static int query_parse(struct arena *a, const char *q, struct stdio_uri *u, struct err *err)
{
	u->args = arena_new_array(a, char *, ARGS_MAX + 1);
	if (!u->args)
		return err_nomem(err);
	while (*q) {
		size_t n = strcspn(q, "&"), key_len = strcspn(q, "=&");
		char *key, *value;

		if (n > 0) {
			key = decode(a, q, key_len, true);
			value = key_len < n ? decode(a, q + key_len + 1, n - key_len - 1, true)
					    : arena_strdup(a, "");
			if (!key || !value)
				return err_set(err, ERR_INVALID_ARGUMENT, "query of STDIO URI `%s`",
					       u->path);
			if (u->n_args + 2 > ARGS_MAX)
				return err_set(err, ERR_INVALID_ARGUMENT,
					       "too many arguments in STDIO URI");
			if (!has_key(u, key)) {
				u->args[u->n_args++] = key;
				u->args[u->n_args++] = value;
			}
		}
		q += n;
		q += *q == '&';
	}
	return 0;
}

static int k8s_log_args(struct stdio_uri *u, struct err *err)
{
	u->log = "";
	for (size_t i = 0; i < u->n_args; i += 2) {
		if (streq(u->args[i], "log"))
			u->log = u->args[i + 1];
		else if (streq(u->args[i], "max") && str_to_i64(u->args[i + 1], 10, &u->max) < 0)
			return err_set(err, ERR_INVALID_ARGUMENT, "max of STDIO URI `%s`", u->path);
	}
	if (*u->log && *u->log != '/')
		return err_set(err, ERR_INVALID_ARGUMENT, "log `%s` is no absolute path", u->log);
	return 0;
}

static int scheme_kind(const char *s, size_t n, struct stdio_uri *u)
{
	static const struct {
		const char *name;
		enum stdio_kind kind;
		bool ready;
	} known[] = {
		{"fifo", STDIO_FIFO, false},	  {"file", STDIO_FILE, false},
		{"binary", STDIO_BINARY, false},  {"binary-v2", STDIO_BINARY, true},
		{"k8slog", STDIO_K8S_LOG, false},
	};

	for (size_t i = 0; i < ARRAY_LEN(known); i++) {
		if (strlen(known[i].name) != n || strncasecmp(known[i].name, s, n) != 0)
			continue;
		u->kind = known[i].kind;
		u->must_say_ready = known[i].ready;
		return 0;
	}
	return -EINVAL;
}

int stdio_uri_parse(struct arena *a, const char *text, struct stdio_uri *ret, struct err *err)
{
	struct stdio_uri u = {.kind = STDIO_NULL};
	const char *sep, *path, *query;

	if (str_empty(text)) {
		*ret = u;
		return 0;
	}
	sep = text[0] == '/' ? NULL : strstr(text, "://");
	if (!sep) {
		u.kind = STDIO_FIFO;
		u.path = arena_strdup(a, text);
		if (!u.path)
			return err_nomem(err);
		*ret = u;
		return 0;
	}
	if (scheme_kind(text, (size_t)(sep - text), &u) < 0)
		return err_set(err, ERR_UNKNOWN, "unknown STDIO scheme %.*s",
			       (int)MIN(sep - text, 64), text);
	path = strchrnul(sep + 3, '/'); /* a host is of no meaning here */
	query = strchrnul(path, '?');
	u.path = decode(a, path, (size_t)(query - path), false);
	if (!u.path || !*u.path)
		return err_set(err, ERR_INVALID_ARGUMENT, "path of STDIO URI `%s`", text);
	if (u.kind == STDIO_BINARY || u.kind == STDIO_K8S_LOG) {
		int r = query_parse(a, *query ? query + 1 : query, &u, err);

		if (r == 0 && u.kind == STDIO_K8S_LOG)
			r = k8s_log_args(&u, err);
		if (r < 0)
			return r;
	}
	*ret = u;
	return 0;
}
