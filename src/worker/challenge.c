/* SPDX-License-Identifier: Apache-2.0 */
/* A value is a list of "scheme", "scheme token68" or "scheme name=value, name=value"; since
 * parameters are separated by commas as well as challenges, a word after a comma is a parameter's
 * name when "=" and a value follow, else the next scheme. */
#include "worker/challenge.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "base/str.h"

#define CHALLENGES_MAX 32
#define PARAMS_MAX 32

static bool is_token(char c)
{
	return c && (isalnum((unsigned char)c) || strchr("!#$%&'*+-.^_`|~", c));
}

static const char *skip_space(const char *p)
{
	return p + strspn(p, " \t");
}

/* Token in lower case into the arena; *@p moves behind it. NULL = no token or no memory. */
static char *token(struct arena *a, const char **p)
{
	const char *s = *p;
	size_t n = 0;
	char *t;

	while (is_token(s[n]))
		n++;
	if (n == 0 || !(t = arena_strndup(a, s, n)))
		return NULL;
	for (char *c = t; *c; c++)
		*c = (char)tolower((unsigned char)*c);
	*p = s + n;
	return t;
}

/* Quoted string or token; an unclosed string ends with the value. */
static char *param_value(struct arena *a, const char **p)
{
	const char *s = *p;
	char *v = arena_alloc(a, strlen(s) + 1);
	size_t n = 0;

	if (!v)
		return NULL;
	if (*s == '"') {
		for (s++; *s && *s != '"'; s++) {
			if (*s == '\\' && s[1])
				s++;
			v[n++] = *s;
		}
		if (*s)
			s++;
	} else {
		while (*s && *s != ',' && *s != ' ' && *s != '\t')
			v[n++] = *s++;
	}
	v[n] = '\0';
	*p = s;
	return v;
}

/* Length of "name =" at @p, or 0 when there is no parameter. */
static size_t param_name(const char *p)
{
	size_t n = 0, m;

	while (is_token(p[n]))
		n++;
	m = n + strspn(p + n, " \t");
	/* "abc=" and "abc==" at the end of an item are a token68. */
	if (n == 0 || p[m] != '=' || strchr("=,", p[m + 1 + strspn(p + m + 1, " \t")]))
		return 0;
	return m + 1;
}

static int params(struct arena *a, const char **p, struct challenge *c)
{
	for (;;) {
		const char *s = skip_space(*p + strspn(*p, " \t,"));
		size_t n = param_name(s);
		char *name, *value;

		if (n == 0)
			return 0;
		*p = skip_space(s + n);
		name = token(a, &s);
		value = param_value(a, p);
		if (!name || !value)
			return -ENOMEM;
		if (c->params.n < PARAMS_MAX && !labels_get(&c->params, name) &&
		    labels_set(a, &c->params, name, value) < 0)
			return -ENOMEM;
	}
}

int challenges_parse(struct arena *a, const char *value, struct challenges *ret)
{
	const char *p = value;

	if (!ret->v && !(ret->v = arena_calloc(a, CHALLENGES_MAX, sizeof(*ret->v))))
		return -ENOMEM;
	while (ret->n < CHALLENGES_MAX) {
		struct challenge *c = &ret->v[ret->n];

		p += strspn(p, " \t,");
		if (!*p)
			break;
		if (!is_token(*p)) {
			p += strcspn(p, ",");
			continue;
		}
		c->scheme = token(a, &p);
		if (!c->scheme)
			return -ENOMEM;
		p = skip_space(p);
		/* Parameters, or one word that is none: up to the comma. */
		if (*p != ',' && param_name(p) == 0)
			p += strcspn(p, ",");
		else if (*p != ',' && params(a, &p, c) < 0)
			return -ENOMEM;
		ret->n++;
	}
	return 0;
}

const struct challenge *challenges_find(const struct challenges *c, const char *scheme)
{
	for (size_t i = 0; i < c->n; i++)
		if (streq(c->v[i].scheme, scheme))
			return &c->v[i];
	return NULL;
}
