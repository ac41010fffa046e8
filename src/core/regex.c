/* SPDX-License-Identifier: Apache-2.0 */
/* Three steps: the pattern becomes a tree, the tree a program of a few kinds of instructions, and a
 * match runs the program on all its threads at once (Thompson, Pike): for each character of the
 * text the list of instructions that are alive becomes the next list. An instruction is at most
 * once in a list, which bounds the time; the program is bounded by REGEX_PROG_MAX, the tree's depth
 * by REGEX_DEPTH_MAX.
 */
#include "core/regex.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

#define REGEX_PROG_MAX 20000
#define REGEX_WORK_MAX 1000000 /* nodes compiled: repetitions of nothing emit nothing */
#define REGEX_DEPTH_MAX 200
#define REGEX_REPEAT_MAX 1000
#define REGEX_PATTERN_MAX 65536
#define RUNE_MAX 0x10ffff
#define RUNE_BAD 0xfffd

struct range {
	uint32_t lo, hi;
};

struct set {
	struct range *v;
	size_t n, cap;
	bool negated;
};

enum assertion { AT_TEXT_BEGIN, AT_TEXT_END, AT_LINE_BEGIN, AT_LINE_END, AT_WORD, AT_NO_WORD };
enum node_type { NODE_SET, NODE_ASSERT, NODE_CAT, NODE_ALT, NODE_REPEAT };

struct node {
	enum node_type type;
	struct set set;
	enum assertion assertion;
	int min, max;	    /* NODE_REPEAT; max -1 = without end */
	struct node *child; /* first */
	struct node *next;  /* sibling */
};

enum opcode { OP_SET, OP_ASSERT, OP_SPLIT, OP_JUMP, OP_MATCH };

struct inst {
	enum opcode op;
	uint32_t x, y; /* targets; x of OP_ASSERT: which */
	const struct set *set;
};

struct regex {
	struct inst *prog;
	size_t n, cap;
	size_t work;
};

/* ---- characters ---- */

/* An invalid byte is one bad character. */
static uint32_t rune_next(const char **s, const char *end)
{
	const uint8_t *p = (const uint8_t *)*s;
	size_t left = (size_t)(end - *s), n = 0;
	uint32_t r = p[0], min = 0;

	(*s)++;
	if (r < 0x80)
		return r;
	if (r >= 0xc2 && r <= 0xdf)
		n = 1, r &= 0x1f, min = 0x80;
	else if ((r & 0xf0) == 0xe0)
		n = 2, r &= 0x0f, min = 0x800;
	else if (r >= 0xf0 && r <= 0xf4)
		n = 3, r &= 0x07, min = 0x10000;
	if (n == 0 || left <= n)
		return RUNE_BAD;
	for (size_t i = 1; i <= n; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return RUNE_BAD;
		r = r << 6 | (p[i] & 0x3f);
	}
	if (r < min || r > RUNE_MAX || (r >= 0xd800 && r < 0xe000))
		return RUNE_BAD;
	*s += n;
	return r;
}

static bool is_word(int64_t r)
{
	return (r >= '0' && r <= '9') || (r >= 'A' && r <= 'Z') || (r >= 'a' && r <= 'z') ||
	       r == '_';
}

static bool set_has(const struct set *s, uint32_t r)
{
	bool in = false;

	for (size_t i = 0; i < s->n && !in; i++)
		in = r >= s->v[i].lo && r <= s->v[i].hi;
	return in != s->negated;
}

/* ---- parser ---- */

struct parser {
	struct arena *arena;
	const char *s, *end;
	bool fold, multi_line, dot_newline;
	int depth;
};

static int set_add(struct parser *p, struct set *s, uint32_t lo, uint32_t hi)
{
	s->v = arena_grow(p->arena, s->v, &s->cap, s->n + 1, sizeof(*s->v));
	if (!s->v)
		return -ENOMEM;
	s->v[s->n++] = (struct range){lo, hi};
	return 0;
}

/* With both cases of ASCII letters when the flag i is set. */
static int set_add_fold(struct parser *p, struct set *s, uint32_t lo, uint32_t hi)
{
	int rc = set_add(p, s, lo, hi);

	for (int i = 0; rc == 0 && p->fold && i < 2; i++) {
		uint32_t a = i ? 'A' : 'a', from = MAX(lo, a), to = MIN(hi, a + 25);

		if (from <= to)
			rc = set_add(p, s, from ^ 0x20, to ^ 0x20);
	}
	return rc;
}

static int set_add_negated(struct parser *p, struct set *s, const struct range *v, size_t n)
{
	uint32_t from = 0;
	int rc = 0;

	/* @v is ascending. */
	for (size_t i = 0; rc == 0 && i < n; i++) {
		if (v[i].lo > from)
			rc = set_add(p, s, from, v[i].lo - 1);
		from = v[i].hi + 1;
	}
	return rc < 0 ? rc : set_add(p, s, from, RUNE_MAX);
}

static const struct named_class {
	const char *name; /* one letter: behind a backslash */
	struct range v[5];
	size_t n;
} classes[] = {
	{"d", {{'0', '9'}}, 1},
	{"s", {{'\t', '\n'}, {'\f', '\r'}, {' ', ' '}}, 3},
	{"w", {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}}, 4},
	{"alnum", {{'0', '9'}, {'A', 'Z'}, {'a', 'z'}}, 3},
	{"alpha", {{'A', 'Z'}, {'a', 'z'}}, 2},
	{"ascii", {{0, 0x7f}}, 1},
	{"blank", {{'\t', '\t'}, {' ', ' '}}, 2},
	{"cntrl", {{0, 0x1f}, {0x7f, 0x7f}}, 2},
	{"digit", {{'0', '9'}}, 1},
	{"graph", {{'!', '~'}}, 1},
	{"lower", {{'a', 'z'}}, 1},
	{"print", {{' ', '~'}}, 1},
	{"punct", {{'!', '/'}, {':', '@'}, {'[', '`'}, {'{', '~'}}, 4},
	{"space", {{'\t', '\r'}, {' ', ' '}}, 2},
	{"upper", {{'A', 'Z'}}, 1},
	{"word", {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}}, 4},
	{"xdigit", {{'0', '9'}, {'A', 'F'}, {'a', 'f'}}, 3},
};

static int set_add_class(struct parser *p, struct set *s, const char *name, size_t len,
			 bool negated)
{
	for (size_t i = 0; i < ARRAY_LEN(classes); i++) {
		const struct named_class *c = &classes[i];
		int rc = 0;

		if (strlen(c->name) != len || memcmp(c->name, name, len) != 0)
			continue;
		if (negated)
			return set_add_negated(p, s, c->v, c->n);
		for (size_t k = 0; rc == 0 && k < c->n; k++)
			rc = set_add_fold(p, s, c->v[k].lo, c->v[k].hi);
		return rc;
	}
	return -EINVAL;
}

/* \d \D \s \S \w \W at the letter: 1 = was one, 0 = was none. */
static int parse_perl_class(struct parser *p, struct set *s)
{
	char c = p->s < p->end ? *p->s : 0, lower = (char)(c | 0x20);
	int rc;

	if (lower != 'd' && lower != 's' && lower != 'w')
		return 0;
	p->s++;
	rc = set_add_class(p, s, &lower, 1, c != lower);
	return rc < 0 ? rc : 1;
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* \x41 and \x{41}, behind the x. */
static int parse_hex(struct parser *p, uint32_t *ret)
{
	bool braces = p->s < p->end && *p->s == '{';
	uint32_t v = 0;
	int digits = 0, d;

	if (braces)
		p->s++;
	while (p->s < p->end && (braces || digits < 2) && (d = hex_value(*p->s)) >= 0) {
		v = v * 16 + (uint32_t)d;
		if (v > RUNE_MAX)
			return -EINVAL;
		digits++;
		p->s++;
	}
	if (digits == 0 || (!braces && digits != 2))
		return -EINVAL;
	if (braces && (p->s == p->end || *p->s++ != '}'))
		return -EINVAL;
	*ret = v;
	return 0;
}

/* A character behind a backslash. */
static int parse_escape(struct parser *p, uint32_t *ret)
{
	static const char from[] = "aftnrv", to[] = "\a\f\t\n\r\v";
	const char *simple;
	uint32_t v = 0;
	char c;

	if (p->s == p->end)
		return -EINVAL;
	c = *p->s++;
	simple = c ? strchr(from, c) : NULL;
	if (simple) {
		*ret = (uint8_t)to[simple - from];
		return 0;
	}
	if (c == 'x')
		return parse_hex(p, ret);
	if (c >= '0' && c <= '7') {
		/* A lone digit but 0 would be a back reference. */
		if (c != '0' && (p->s == p->end || *p->s < '0' || *p->s > '7'))
			return -EINVAL;
		v = (uint32_t)(c - '0');
		for (int i = 0; i < 2 && p->s < p->end && *p->s >= '0' && *p->s <= '7'; i++)
			v = v * 8 + (uint32_t)(*p->s++ - '0');
		*ret = v;
		return 0;
	}
	if ((uint8_t)c >= 0x80 || (is_word(c) && c != '_'))
		return -EINVAL;
	*ret = (uint8_t)c;
	return 0;
}

static int parse_set_char(struct parser *p, uint32_t *ret)
{
	if (p->s == p->end)
		return -EINVAL;
	if (*p->s == '\\') {
		p->s++;
		return parse_escape(p, ret);
	}
	*ret = rune_next(&p->s, p->end);
	return 0;
}

/* [:alpha:] and \d inside of brackets: 1 = was one. */
static int parse_set_class(struct parser *p, struct set *s)
{
	if (p->end - p->s > 2 && p->s[0] == '[' && p->s[1] == ':') {
		const char *name = p->s + 2, *close = name;
		bool negated = *name == '^';
		int rc;

		while (p->end - close > 1 && !(close[0] == ':' && close[1] == ']'))
			close++;
		if (p->end - close < 2)
			return 0;
		name += negated;
		rc = set_add_class(p, s, name, (size_t)(close - name), negated);
		p->s = close + 2;
		return rc < 0 ? rc : 1;
	}
	if (p->end - p->s > 1 && p->s[0] == '\\') {
		int rc;

		p->s++;
		rc = parse_perl_class(p, s);
		if (rc == 0)
			p->s--;
		return rc;
	}
	return 0;
}

/* Behind the opening bracket. */
static int parse_set(struct parser *p, struct set *s)
{
	bool first = true;

	if (p->s < p->end && *p->s == '^') {
		s->negated = true;
		p->s++;
	}
	for (; p->s == p->end || *p->s != ']' || first; first = false) {
		uint32_t lo, hi;
		int rc = parse_set_class(p, s);

		if (rc < 0)
			return rc;
		if (rc == 1)
			continue;
		rc = parse_set_char(p, &lo);
		hi = lo;
		if (rc == 0 && p->end - p->s > 1 && p->s[0] == '-' && p->s[1] != ']') {
			p->s++;
			rc = parse_set_char(p, &hi);
		}
		if (rc < 0 || hi < lo)
			return rc < 0 ? rc : -EINVAL;
		rc = set_add_fold(p, s, lo, hi);
		if (rc < 0)
			return rc;
	}
	p->s++;
	return 0;
}

static struct node *node_new(struct parser *p, enum node_type type)
{
	struct node *n = arena_new_obj(p->arena, struct node);

	if (n)
		n->type = type;
	return n;
}

static int parse_alternatives(struct parser *p, struct node **ret);

/* Flags or a group's head, behind "(?". *@ret_group false: only flags, `(?i)`. */
static int parse_group_head(struct parser *p, bool *ret_group)
{
	bool on = true;

	*ret_group = true;
	if (p->end - p->s > 1 && p->s[0] == 'P' && p->s[1] == '<')
		p->s++;
	if (p->s < p->end && *p->s == '<') {
		const char *name = ++p->s;

		while (p->s < p->end && is_word(*p->s))
			p->s++;
		return p->s == name || p->s == p->end || *p->s++ != '>' ? -EINVAL : 0;
	}
	for (; p->s < p->end; p->s++) {
		switch (*p->s) {
		case 'i':
			p->fold = on;
			break;
		case 'm':
			p->multi_line = on;
			break;
		case 's':
			p->dot_newline = on;
			break;
		case 'U':
			break; /* says which match, not whether */
		case '-':
			if (!on)
				return -EINVAL;
			on = false;
			break;
		case ')':
			*ret_group = false;
			/* fall through */
		case ':':
			p->s++;
			return 0;
		default:
			return -EINVAL;
		}
	}
	return -EINVAL;
}

/* Behind "(". *@ret NULL when it only set flags. */
static int parse_group(struct parser *p, struct node **ret)
{
	bool fold = p->fold, multi_line = p->multi_line, dot_newline = p->dot_newline;
	bool group = true;
	int rc = 0;

	*ret = NULL;
	if (p->s < p->end && *p->s == '?') {
		p->s++;
		rc = parse_group_head(p, &group);
	}
	if (rc < 0 || !group)
		return rc;
	if (++p->depth > REGEX_DEPTH_MAX)
		return -EINVAL;
	rc = parse_alternatives(p, ret);
	if (rc < 0)
		return rc;
	p->depth--;
	if (p->s == p->end || *p->s++ != ')')
		return -EINVAL;
	p->fold = fold;
	p->multi_line = multi_line;
	p->dot_newline = dot_newline;
	return 0;
}

static int new_assert(struct parser *p, enum assertion a, struct node **ret)
{
	*ret = node_new(p, NODE_ASSERT);
	if (!*ret)
		return -ENOMEM;
	(*ret)->assertion = a;
	return 0;
}

static int new_literal(struct parser *p, uint32_t r, struct node **ret)
{
	*ret = node_new(p, NODE_SET);
	return *ret ? set_add_fold(p, &(*ret)->set, r, r) : -ENOMEM;
}

/* Behind a backslash outside of brackets. */
static int parse_atom_escape(struct parser *p, struct node **ret)
{
	static const struct {
		char c;
		enum assertion a;
	} asserts[] = {{'A', AT_TEXT_BEGIN}, {'z', AT_TEXT_END}, {'b', AT_WORD}, {'B', AT_NO_WORD}};
	uint32_t r;
	int rc;

	for (size_t i = 0; i < ARRAY_LEN(asserts); i++) {
		if (p->s < p->end && *p->s == asserts[i].c) {
			p->s++;
			return new_assert(p, asserts[i].a, ret);
		}
	}
	*ret = node_new(p, NODE_SET);
	if (!*ret)
		return -ENOMEM;
	rc = parse_perl_class(p, &(*ret)->set);
	if (rc != 0)
		return rc < 0 ? rc : 0;
	rc = parse_escape(p, &r);
	return rc < 0 ? rc : set_add_fold(p, &(*ret)->set, r, r);
}

/* One atom at *p->s; *@ret NULL = nothing that matches (flags). */
static int parse_atom(struct parser *p, struct node **ret)
{
	switch (*p->s) {
	case '(':
		p->s++;
		return parse_group(p, ret);
	case '[':
		p->s++;
		*ret = node_new(p, NODE_SET);
		return *ret ? parse_set(p, &(*ret)->set) : -ENOMEM;
	case '.':
		p->s++;
		*ret = node_new(p, NODE_SET);
		if (!*ret)
			return -ENOMEM;
		(*ret)->set.negated = true;
		return p->dot_newline ? 0 : set_add(p, &(*ret)->set, '\n', '\n');
	case '^':
		p->s++;
		return new_assert(p, p->multi_line ? AT_LINE_BEGIN : AT_TEXT_BEGIN, ret);
	case '$':
		p->s++;
		return new_assert(p, p->multi_line ? AT_LINE_END : AT_TEXT_END, ret);
	case '*':
	case '+':
	case '?':
		return -EINVAL;
	case '\\':
		p->s++;
		return parse_atom_escape(p, ret);
	default:
		return new_literal(p, rune_next(&p->s, p->end), ret);
	}
}

static int parse_count(struct parser *p, const char **s)
{
	int v = 0;

	if (*s == p->end || **s < '0' || **s > '9')
		return -1;
	while (*s < p->end && **s >= '0' && **s <= '9') {
		v = v * 10 + (*(*s)++ - '0');
		if (v > REGEX_REPEAT_MAX)
			v = REGEX_REPEAT_MAX + 1;
	}
	return v;
}

/* * + ? {n} {n,} {n,m} at *p->s: 1 = was one, 0 = was none. */
static int parse_repeat(struct parser *p, int *ret_min, int *ret_max)
{
	char c = p->s < p->end ? *p->s : 0;
	const char *s = p->s + 1;

	if (c == '*' || c == '+' || c == '?') {
		*ret_min = c == '+';
		*ret_max = c == '?' ? 1 : -1;
	} else if (c == '{') {
		*ret_min = *ret_max = parse_count(p, &s);
		if (*ret_min < 0)
			return 0;
		if (s < p->end && *s == ',') {
			s++;
			*ret_max = parse_count(p, &s);
		}
		if (s == p->end || *s++ != '}')
			return 0;
		if (*ret_min > REGEX_REPEAT_MAX || *ret_max > REGEX_REPEAT_MAX ||
		    (*ret_max >= 0 && *ret_max < *ret_min))
			return -EINVAL;
	} else {
		return 0;
	}
	if (s < p->end && *s == '?')
		s++; /* lazy: says which match, not whether */
	p->s = s;
	return 1;
}

/* \Q...\E: literal text behind the Q. */
static int parse_quoted(struct parser *p, struct node ***tail)
{
	while (p->s < p->end) {
		struct node *n;
		int rc;

		if (p->end - p->s > 1 && p->s[0] == '\\' && p->s[1] == 'E') {
			p->s += 2;
			return 0;
		}
		rc = new_literal(p, rune_next(&p->s, p->end), &n);
		if (rc < 0)
			return rc;
		**tail = n;
		*tail = &n->next;
	}
	return 0;
}

static int parse_concat(struct parser *p, struct node **ret)
{
	struct node *cat = node_new(p, NODE_CAT), **tail;

	if (!cat)
		return -ENOMEM;
	tail = &cat->child;
	while (p->s < p->end && *p->s != '|' && *p->s != ')') {
		struct node *n = NULL, *r;
		int min, max, rc;

		if (p->end - p->s > 1 && p->s[0] == '\\' && p->s[1] == 'Q') {
			p->s += 2;
			rc = parse_quoted(p, &tail);
			if (rc < 0)
				return rc;
			continue;
		}
		rc = parse_atom(p, &n);
		if (rc < 0)
			return rc;
		rc = parse_repeat(p, &min, &max);
		if (rc < 0 || (rc == 1 && !n))
			return -EINVAL;
		if (rc == 1) {
			r = node_new(p, NODE_REPEAT);
			if (!r)
				return -ENOMEM;
			r->child = n;
			r->min = min;
			r->max = max;
			n = r;
			/* A repetition of a repetition is an error. */
			if (parse_repeat(p, &min, &max) != 0)
				return -EINVAL;
		}
		if (n) {
			*tail = n;
			tail = &n->next;
		}
	}
	*ret = cat;
	return 0;
}

static int parse_alternatives(struct parser *p, struct node **ret)
{
	struct node *alt = node_new(p, NODE_ALT), **tail;

	if (!alt)
		return -ENOMEM;
	tail = &alt->child;
	for (;;) {
		int rc = parse_concat(p, tail);

		if (rc < 0)
			return rc;
		tail = &(*tail)->next;
		if (p->s == p->end || *p->s != '|')
			break;
		p->s++;
	}
	*ret = alt;
	return 0;
}

/* ---- program ---- */

static int emit(struct arena *a, struct regex *re, struct inst in)
{
	if (re->n == REGEX_PROG_MAX)
		return -EINVAL;
	re->prog = arena_grow(a, re->prog, &re->cap, re->n + 1, sizeof(*re->prog));
	if (!re->prog)
		return -ENOMEM;
	re->prog[re->n++] = in;
	return 0;
}

static int compile(struct arena *a, struct regex *re, const struct node *n);

/* split L1, L2; L1: first alternative; jump end; L2: ... */
static int compile_alt(struct arena *a, struct regex *re, const struct node *n)
{
	size_t last_jump = SIZE_MAX;

	for (const struct node *c = n->child; c; c = c->next) {
		size_t split = re->n;
		int rc = 0;

		if (c->next)
			rc = emit(a, re, (struct inst){.op = OP_SPLIT, .x = (uint32_t)re->n + 1});
		if (rc == 0)
			rc = compile(a, re, c);
		if (rc < 0)
			return rc;
		if (c->next) {
			/* The jumps are chained through y until the end is known. */
			rc = emit(a, re, (struct inst){.op = OP_JUMP, .y = (uint32_t)last_jump});
			if (rc < 0)
				return rc;
			last_jump = re->n - 1;
			re->prog[split].y = (uint32_t)re->n;
		}
	}
	for (uint32_t i = (uint32_t)last_jump; i != UINT32_MAX;) {
		uint32_t next = re->prog[i].y;

		re->prog[i].x = (uint32_t)re->n;
		i = next;
	}
	return 0;
}

static int compile_repeat(struct arena *a, struct regex *re, const struct node *n)
{
	size_t start;
	int rc = 0;

	for (int i = 0; rc == 0 && i < n->min; i++)
		rc = compile(a, re, n->child);
	if (n->max < 0) {
		/* start: split body, end; body; jump start */
		start = re->n;
		if (rc == 0)
			rc = emit(a, re, (struct inst){.op = OP_SPLIT, .x = (uint32_t)start + 1});
		if (rc == 0)
			rc = compile(a, re, n->child);
		if (rc == 0)
			rc = emit(a, re, (struct inst){.op = OP_JUMP, .x = (uint32_t)start});
		if (rc == 0)
			re->prog[start].y = (uint32_t)re->n;
		return rc;
	}
	for (int i = n->min; rc == 0 && i < n->max; i++) {
		start = re->n;
		rc = emit(a, re, (struct inst){.op = OP_SPLIT, .x = (uint32_t)start + 1});
		if (rc == 0)
			rc = compile(a, re, n->child);
		if (rc == 0)
			re->prog[start].y = (uint32_t)re->n;
	}
	return rc;
}

static int compile(struct arena *a, struct regex *re, const struct node *n)
{
	int rc = 0;

	if (++re->work > REGEX_WORK_MAX)
		return -EINVAL;
	switch (n->type) {
	case NODE_SET:
		return emit(a, re, (struct inst){.op = OP_SET, .set = &n->set});
	case NODE_ASSERT:
		return emit(a, re, (struct inst){.op = OP_ASSERT, .x = n->assertion});
	case NODE_CAT:
		for (const struct node *c = n->child; rc == 0 && c; c = c->next)
			rc = compile(a, re, c);
		return rc;
	case NODE_ALT:
		return compile_alt(a, re, n);
	case NODE_REPEAT:
		return compile_repeat(a, re, n);
	}
	return -EINVAL;
}

int regex_compile(struct arena *a, const char *pattern, struct regex **ret)
{
	struct parser p = {.arena = a, .s = pattern, .end = pattern + strlen(pattern)};
	struct regex *re;
	struct node *root;
	int rc;

	if (p.end - p.s > REGEX_PATTERN_MAX)
		return -EINVAL;
	rc = parse_alternatives(&p, &root);
	if (rc == 0 && p.s != p.end)
		rc = -EINVAL; /* a bracket that was not opened */
	if (rc < 0)
		return rc;
	re = arena_new_obj(a, struct regex);
	if (!re)
		return -ENOMEM;
	rc = compile(a, re, root);
	if (rc == 0)
		rc = emit(a, re, (struct inst){.op = OP_MATCH});
	if (rc == 0)
		*ret = re;
	return rc;
}

/* ---- match ---- */

struct list {
	uint32_t *pc;
	size_t n;
};

struct machine {
	const struct regex *re;
	uint32_t *seen; /* step in which an instruction was last added */
	uint32_t *stack;
	uint32_t step;
	bool matched;
};

static bool assertion_holds(enum assertion a, int64_t before, int64_t after)
{
	switch (a) {
	case AT_TEXT_BEGIN:
		return before < 0;
	case AT_TEXT_END:
		return after < 0;
	case AT_LINE_BEGIN:
		return before < 0 || before == '\n';
	case AT_LINE_END:
		return after < 0 || after == '\n';
	case AT_WORD:
		return is_word(before) != is_word(after);
	case AT_NO_WORD:
		return is_word(before) == is_word(after);
	}
	return false;
}

/* Adds @pc and all that is reached from it without reading. @before, @after: the characters around,
 * -1 = none. */
static void add(struct machine *m, struct list *l, uint32_t pc, int64_t before, int64_t after)
{
	size_t n = 0;

#define PUSH(target)                           \
	do {                                   \
		uint32_t t_ = (target);        \
		if (m->seen[t_] != m->step) {  \
			m->seen[t_] = m->step; \
			m->stack[n++] = t_;    \
		}                              \
	} while (0)
	PUSH(pc);
	while (n > 0) {
		uint32_t at = m->stack[--n];
		const struct inst *in = &m->re->prog[at];

		switch (in->op) {
		case OP_SET:
			l->pc[l->n++] = at;
			break;
		case OP_ASSERT:
			if (assertion_holds((enum assertion)in->x, before, after))
				PUSH(at + 1);
			break;
		case OP_SPLIT:
			PUSH(in->x);
			PUSH(in->y);
			break;
		case OP_JUMP:
			PUSH(in->x);
			break;
		case OP_MATCH:
			m->matched = true;
			break;
		}
	}
#undef PUSH
}

bool regex_match(const struct regex *re, const char *text)
{
	const char *s = text, *end = text + strlen(text);
	_cleanup_free_ uint32_t *mem = calloc(re->n, 4 * sizeof(uint32_t));
	struct list now = {mem, 0}, next;
	struct machine m = {.re = re, .step = 1};
	int64_t before = -1, r = s < end ? (int64_t)rune_next(&s, end) : -1;

	if (!mem)
		return false;
	next = (struct list){mem + re->n, 0};
	m.seen = mem + 2 * re->n;
	m.stack = mem + 3 * re->n;
	for (;;) {
		int64_t after;
		struct list t;

		/* A match may begin at every character. */
		add(&m, &now, 0, before, r);
		if (m.matched || r < 0)
			return m.matched;
		after = s < end ? (int64_t)rune_next(&s, end) : -1;
		m.step++;
		next.n = 0;
		for (size_t i = 0; i < now.n; i++) {
			if (set_has(re->prog[now.pc[i]].set, (uint32_t)r))
				add(&m, &next, now.pc[i] + 1, r, after);
		}
		t = now;
		now = next;
		next = t;
		before = r;
		r = after;
	}
}
