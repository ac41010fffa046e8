/* SPDX-License-Identifier: Apache-2.0 */
/* The grammar, one string:
 *
 *     selectors := selector ("," selector)*
 *     selector  := field ("." field)* [operator value]
 *     field     := quoted | [A-Za-z0-9_]+
 *     operator  := "==" | "!=" | "~="
 *     value     := quoted | run of printable characters but white space and ","
 *     quoted    := "..." with Go's escapes; after ~= also /.../ and |...|, with the same
 *
 * The scanner cuts tokens out of the string; where a value is due it takes a longer run than a
 * field is, but one that begins with none of the characters of other tokens. White space may stand
 * before a token; not before "," and "." and at the end, where containerd looks at the next
 * character without a scan. Errors show where the token stands that could not be used.
 */
#include "core/filter.h"

#include <stdint.h>

#include "base/labels.h"
#include "base/str.h"
#include "core/regex.h"

#define SELECTOR_PATH_MAX 256

enum filter_op { OP_PRESENT, OP_EQUAL, OP_NOT_EQUAL, OP_MATCHES };

struct selector {
	const char **path;
	size_t n_path;
	enum filter_op op;
	const char *value;
	struct regex *re; /* NULL: it did not compile, nothing matches */
	struct selector *next;
};

struct filter {
	struct selector *all_of;
	struct filter *next;
};

/* ---- scanner ---- */

enum token {
	TOK_END,
	TOK_FIELD,
	TOK_VALUE,
	TOK_QUOTED,
	TOK_OPERATOR,
	TOK_SEPARATOR,
	TOK_OTHER,
	TOK_ILLEGAL
};

struct parser {
	struct arena *arena;
	const char *text;
	size_t len;
	size_t pos;   /* behind the token */
	size_t start; /* of the token */
	enum token tok;
	const char *why; /* of TOK_ILLEGAL */
	struct err *err;
};

/* Length of the UTF-8 sequence at @p, 0 = not valid. */
static size_t rune_len(const char *s, size_t n)
{
	const uint8_t *p = (const uint8_t *)s;
	size_t len = p[0] < 0x80		    ? 1
		     : p[0] >= 0xc2 && p[0] <= 0xdf ? 2
		     : (p[0] & 0xf0) == 0xe0	    ? 3
		     : p[0] >= 0xf0 && p[0] <= 0xf4 ? 4
						    : 0;

	if (len == 0 || len > n)
		return 0;
	for (size_t i = 1; i < len; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] >= 0xa0) ||
	    (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] >= 0x90))
		return 0;
	return len;
}

static bool is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool is_field(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '_';
}

static bool is_operator(char c)
{
	return c == '=' || c == '!' || c == '~';
}

static enum token illegal(struct parser *p, const char *why)
{
	p->why = why;
	return p->tok = TOK_ILLEGAL;
}

/* From the opening quote at @pos to behind the closing one. */
static enum token scan_quoted(struct parser *p, char quote)
{
	p->pos++;
	while (p->pos < p->len) {
		char c = p->text[p->pos];

		if (c == quote) {
			p->pos++;
			return p->tok = TOK_QUOTED;
		}
		if (c == '\n')
			return illegal(p, "quoted literal not terminated");
		if (c == '\\' && ++p->pos == p->len)
			break;
		p->pos++;
	}
	return illegal(p, "quoted literal not terminated");
}

/* The first character is taken, whatever it is. */
static enum token scan_value(struct parser *p)
{
	while (p->pos < p->len) {
		char c = p->text[p->pos];
		size_t n = rune_len(p->text + p->pos, p->len - p->pos);

		if (!n)
			break;
		if (is_space(c) || c == ',' || (uint8_t)c < 0x20 || c == 0x7f)
			break;
		p->pos += n;
	}
	return p->tok = TOK_VALUE;
}

/* @value: a value is due here. */
static enum token scan(struct parser *p, bool value)
{
	size_t n;
	char c;

	while (p->pos < p->len && is_space(p->text[p->pos]))
		p->pos++;
	p->start = p->pos;
	if (p->pos == p->len)
		return p->tok = TOK_END;
	c = p->text[p->pos];
	n = rune_len(p->text + p->pos, p->len - p->pos);
	if (!n)
		return illegal(p, "rune error");
	if (c == '"' || c == '/' || c == '|')
		return scan_quoted(p, c);
	p->pos += n;
	if (c == ',' || c == '.')
		return p->tok = TOK_SEPARATOR;
	if (is_operator(c)) {
		while (p->pos < p->len && is_operator(p->text[p->pos]))
			p->pos++;
		return p->tok = TOK_OPERATOR;
	}
	if (value)
		return scan_value(p);
	if (!is_field(c))
		return p->tok = TOK_OTHER;
	while (p->pos < p->len && is_field(p->text[p->pos]))
		p->pos++;
	return p->tok = TOK_FIELD;
}

/* The next character, blanks included; NUL at the end. */
static char peek(const struct parser *p)
{
	return p->pos < p->len ? p->text[p->pos] : 0;
}

/* Marks the one character where the token begins. */
static int fail(struct parser *p, const char *msg)
{
	const char *at = p->text + p->start;
	size_t n;

	if (p->start >= p->len)
		return err_set(p->err, ERR_INVALID_ARGUMENT, "filters: parse error: [%s]: %s",
			       p->text, msg);
	n = rune_len(at, p->len - p->start);
	return err_set(p->err, ERR_INVALID_ARGUMENT, "filters: parse error: [%.*s >|%.*s|< %s]: %s",
		       (int)p->start, p->text, (int)(n ? n : 1), at, at + (n ? n : 1), msg);
}

/* ---- quoted text ---- */

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static size_t rune_put(uint32_t r, char *out)
{
	if (r < 0x80) {
		out[0] = (char)r;
		return 1;
	}
	if (r < 0x800) {
		out[0] = (char)(0xc0 | r >> 6);
		out[1] = (char)(0x80 | (r & 0x3f));
		return 2;
	}
	if (r < 0x10000) {
		out[0] = (char)(0xe0 | r >> 12);
		out[1] = (char)(0x80 | (r >> 6 & 0x3f));
		out[2] = (char)(0x80 | (r & 0x3f));
		return 3;
	}
	out[0] = (char)(0xf0 | r >> 18);
	out[1] = (char)(0x80 | (r >> 12 & 0x3f));
	out[2] = (char)(0x80 | (r >> 6 & 0x3f));
	out[3] = (char)(0x80 | (r & 0x3f));
	return 4;
}

/* \x41, \u0041, \U00000041 and \101 at *@s, which points at the first digit; -1 = not valid. NUL
 * can not be in a C string. */
static int64_t escape_number(const char **s, const char *end, int digits, int base)
{
	int64_t v = 0;

	for (int i = 0; i < digits; i++, (*s)++) {
		int d = *s < end ? hex_value(**s) : -1;

		if (d < 0 || d >= base)
			return -1;
		v = v * base + d;
	}
	return v == 0 ? -1 : v;
}

/* One escape behind the backslash; advances both. False = not valid. */
static bool unescape(const char **s, const char *end, char quote, char **out)
{
	static const char from[] = "abfnrtv\\", to[] = "\a\b\f\n\r\t\v\\";
	char c = **s;
	const char *simple = c ? strchr(from, c) : NULL;
	int64_t v;

	if (simple || c == quote) {
		*(*out)++ = simple ? to[simple - from] : c;
		(*s)++;
		return true;
	}
	if (c >= '0' && c <= '7') {
		v = escape_number(s, end, 3, 8);
		if (v < 0 || v > 255)
			return false;
		*(*out)++ = (char)v;
		return true;
	}
	(*s)++;
	if (c == 'x') {
		v = escape_number(s, end, 2, 16);
		if (v < 0)
			return false;
		*(*out)++ = (char)v;
		return true;
	}
	if (c != 'u' && c != 'U')
		return false;
	v = escape_number(s, end, c == 'u' ? 4 : 8, 16);
	if (v < 0 || v > 0x10ffff || (v >= 0xd800 && v < 0xe000))
		return false;
	*out += rune_put((uint32_t)v, *out);
	return true;
}

/* Text of the current TOK_QUOTED. @alt: slashes and bars quote, too. */
static int unquote(struct parser *p, bool alt, const char **ret)
{
	char quote = p->text[p->start];
	const char *s = p->text + p->start + 1, *end = p->text + p->pos - 1;
	char *v = arena_alloc(p->arena, (size_t)(end - s) + 1), *out = v;

	if (!v)
		return err_nomem(p->err);
	if (quote != '"' && !alt)
		return fail(p, "invalid quote encountered");
	while (s < end) {
		if (*s != '\\')
			*out++ = *s++;
		else if (s++, !unescape(&s, end, quote, &out))
			return fail(p, "illegal escape sequence");
	}
	*out = 0;
	*ret = v;
	return 0;
}

/* ---- parser ---- */

/* The token is a text: one of @plain, or quoted. */
static int take_text(struct parser *p, bool plain, bool alt, const char *expected, const char **ret)
{
	if (p->tok == TOK_QUOTED)
		return unquote(p, alt, ret);
	if (!plain)
		return fail(p, p->tok == TOK_ILLEGAL ? p->why : expected);
	*ret = arena_strndup(p->arena, p->text + p->start, p->pos - p->start);
	return *ret ? 0 : err_nomem(p->err);
}

static int parse_path(struct parser *p, struct selector *s)
{
	size_t cap = 0;

	for (;;) {
		int rc;

		scan(p, false);
		if (s->n_path == SELECTOR_PATH_MAX)
			return fail(p, "path too long");
		s->path = arena_grow(p->arena, s->path, &cap, s->n_path + 1, sizeof(*s->path));
		if (!s->path)
			return err_nomem(p->err);
		rc = take_text(p, p->tok == TOK_FIELD, false, "expected field or quoted",
			       &s->path[s->n_path++]);
		if (rc < 0 || peek(p) != '.')
			return rc;
		p->pos++;
	}
}

static int parse_operator(struct parser *p, enum filter_op *ret)
{
	static const struct {
		const char text[3];
		enum filter_op op;
	} ops[] = {{"==", OP_EQUAL}, {"!=", OP_NOT_EQUAL}, {"~=", OP_MATCHES}};

	for (size_t i = 0; i < ARRAY_LEN(ops); i++) {
		if (p->pos - p->start == 2 && memcmp(p->text + p->start, ops[i].text, 2) == 0) {
			*ret = ops[i].op;
			return 0;
		}
	}
	return fail(p, str_or(arena_printf(p->arena, "unsupported operator \"%.*s\"",
					   (int)(p->pos - p->start), p->text + p->start),
			      "unsupported operator"));
}

static int parse_selector(struct parser *p, struct selector *s)
{
	bool regex;
	int rc = parse_path(p, s);

	if (rc < 0 || p->pos == p->len || peek(p) == ',')
		return rc;
	scan(p, false);
	if (p->tok == TOK_ILLEGAL)
		return fail(p, p->why);
	if (p->tok != TOK_OPERATOR)
		return fail(p, "expected an operator (\"==\"|\"!=\"|\"~=\")");
	rc = parse_operator(p, &s->op);
	if (rc < 0)
		return rc;
	regex = s->op == OP_MATCHES;
	scan(p, true);
	rc = take_text(p, p->tok == TOK_VALUE, regex, "expected value or quoted", &s->value);
	if (rc == 0 && regex && regex_compile(p->arena, s->value, &s->re) < 0)
		s->re = NULL;
	return rc;
}

/* What follows a selector and is no separator. */
static int unexpected(struct parser *p)
{
	size_t n = rune_len(p->text + p->pos, p->len - p->pos);
	const char *text =
		n ? arena_printf(p->arena, "unexpected input: %.*s", (int)n, p->text + p->pos)
		  : "unexpected input: \xef\xbf\xbd";

	p->start = p->pos;
	return text ? fail(p, text) : err_nomem(p->err);
}

static int parse_one(struct arena *a, const char *text, struct filter *f, struct err *err)
{
	struct parser p = {.arena = a, .text = text, .len = strlen(text), .err = err};
	struct selector **end = &f->all_of;

	for (;;) {
		struct selector *s = arena_new_obj(a, struct selector);
		int rc;

		if (!s)
			return err_nomem(err);
		rc = parse_selector(&p, s);
		if (rc < 0)
			return rc;
		*end = s;
		end = &s->next;
		if (p.pos == p.len)
			return 0;
		if (peek(&p) != ',')
			return unexpected(&p);
		p.pos++;
	}
}

int filter_parse(struct arena *a, const char *const *filters, size_t n, struct filter **ret,
		 struct err *err)
{
	struct filter *first = NULL, **end = &first;
	bool all = n == 0;

	for (size_t i = 0; i < n; i++) {
		struct filter *f;
		int rc;

		if (!*filters[i]) {
			all = true; /* the others must parse all the same */
			continue;
		}
		f = arena_new_obj(a, struct filter);
		if (!f)
			return err_nomem(err);
		rc = parse_one(a, filters[i], f, err);
		if (rc < 0)
			return rc;
		*end = f;
		end = &f->next;
	}
	*ret = all ? NULL : first;
	return 0;
}

void filter_free(struct filter *f)
{
	(void)f; /* nothing of it lies outside of the arena */
}

/* ---- matching ---- */

static bool selector_match(const struct selector *s, filter_field_fn fn, const void *obj)
{
	const char *v = fn(obj, s->path, s->n_path);

	switch (s->op) {
	case OP_PRESENT:
		return v != NULL;
	case OP_EQUAL:
		return v && streq(v, s->value);
	case OP_NOT_EQUAL:
		return !streq(v ? v : "", s->value); /* what is absent counts as empty */
	case OP_MATCHES:
		return s->re && regex_match(s->re, v ? v : "");
	}
	return false;
}

bool filter_match(const struct filter *f, filter_field_fn fn, const void *obj)
{
	if (!f)
		return true;
	for (; f; f = f->next) {
		const struct selector *s = f->all_of;

		while (s && selector_match(s, fn, obj))
			s = s->next;
		if (!s)
			return true;
	}
	return false;
}

const char *filter_label(const struct labels *l, const char *const *path, size_t n)
{
	for (size_t i = 0; n && i < l->n; i++) {
		const char *rest = l->v[i].key;

		for (size_t part = 0; rest && part < n; part++) {
			if (part && *rest++ != '.')
				rest = NULL;
			rest = rest ? str_skip(rest, path[part]) : NULL;
		}
		if (rest && !*rest)
			return l->v[i].value;
	}
	return NULL;
}
