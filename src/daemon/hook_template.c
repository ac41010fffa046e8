/* SPDX-License-Identifier: Apache-2.0 */
/* Templates of hooks: see hook_template.h. */
#include "daemon/hook_template.h"

#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/path.h"
#include "base/str.h"

/* A call: its name, and its argument when it has one. */
struct hook_call {
	const char *name, *argument;
};

static const char *skip_blanks(const char *p)
{
	return p + strspn(p, " \t\r\n");
}

/* "..." with \" and \\, or `...`; what follows it, NULL when it does not end. */
static const char *quoted_read(struct arena *a, const char *p, const char **ret)
{
	char *out = arena_alloc(a, strlen(p) + 1), quote = *p++;
	size_t n = 0;

	for (; out && *p && *p != quote; p++) {
		if (quote == '"' && *p == '\\') {
			p++;
			if (*p != '"' && *p != '\\')
				return NULL;
		}
		out[n++] = *p;
	}
	if (!out || !*p)
		return NULL;
	out[n] = '\0';
	*ret = out;
	return p + 1;
}

/* @p behind the opening braces; what follows the closing ones, NULL when it is none of ours. */
static const char *call_read(struct arena *a, const char *p, struct hook_call *ret)
{
	size_t n;

	p = skip_blanks(p);
	n = strspn(p, "abcdefghijklmnopqrstuvwxyz");
	ret->name = arena_strndup(a, p, n);
	ret->argument = NULL;
	p = skip_blanks(p + n);
	if (*p == '"' || *p == '`')
		p = quoted_read(a, p, &ret->argument);
	if (!p || !ret->name)
		return NULL;
	p = skip_blanks(p);
	return str_skip(p, "}}");
}

static const char *rootfs(struct arena *a, const json_t *state, const json_t *spec)
{
	const char *path = json_str(json_obj(spec, "root"), "path", "");

	return *path == '/' ? path : path_join(a, json_str(state, "bundle", ""), path);
}

/* NULL: there is no such call. */
static const char *call_value(struct arena *a, const struct hook_call *c, const json_t *state,
			      const json_t *spec)
{
	if (streq(c->name, "annotation"))
		return c->argument ? json_str(json_obj(state, "annotations"), c->argument, "")
				   : NULL;
	if (c->argument)
		return NULL;
	if (streq(c->name, "id") || streq(c->name, "bundle") || streq(c->name, "status"))
		return json_str(state, c->name, "");
	if (streq(c->name, "pid"))
		return arena_printf(a, "%lld", (long long)json_int(state, "pid", 0));
	return streq(c->name, "rootfs") ? rootfs(a, state, spec) : NULL;
}

int hook_template_render(struct arena *a, const char *text, const json_t *state, const json_t *spec,
			 const char **ret, struct err *err)
{
	_cleanup_buf_ struct buf b = BUF_INIT;
	const char *open;

	for (; (open = strstr(text, "{{"));) {
		struct hook_call c;
		const char *end = call_read(a, open + 2, &c);
		const char *value = end ? call_value(a, &c, state, spec) : NULL;

		if (!value)
			return err_set(err, ERR_INVALID_ARGUMENT, "template `%.100s`", open);
		buf_add(&b, text, (size_t)(open - text));
		buf_adds(&b, value);
		text = end;
	}
	buf_adds(&b, text);
	*ret = buf_ok(&b) ? arena_strndup(a, b.data, b.len) : NULL;
	return *ret ? 0 : err_nomem(err);
}
