/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of the TOML parser: its position in the input, for toml.c (structure) and toml_scalar.c
 * (strings, numbers, dates).
 *
 * Functions that parse start at the first byte of their object and stop behind its last one; on
 * failure the position is of no meaning. Input was checked to hold no NUL, so that 0 stands for its
 * end. */
#pragma once

#include <string.h>

#include "base/toml.h"

struct parser {
	struct arena *arena;
	struct err *err;
	const char *p, *end;
	const char *line_start;
	int line;
	struct buf text; /* string under construction */
	struct node **pending;
	size_t pending_n, pending_cap;
};

/* "line L, column C: ..."; -ERR_INVALID_ARGUMENT */
int toml_fail_at(struct parser *ps, int line, int column, const char *fmt, ...) _printf_(4, 5);
/* Names what stands at the position. */
int toml_fail_char(struct parser *ps, const char *where);
/* The position itself. */
#define toml_fail(ps, ...) toml_fail_at(ps, (ps)->line, column_at(ps, (ps)->p), __VA_ARGS__)

/* Any of the four kinds of string; those of several lines only where @multi_allowed. *@ret is in
 * the arena. */
int toml_parse_string(struct parser *ps, bool multi_allowed, const char **ret, size_t *ret_len);
/* Boolean, number or date. Sets the type of @v and its value. */
int toml_parse_scalar(struct parser *ps, struct toml_value *v);

static inline int column_at(const struct parser *ps, const char *p)
{
	return (int)(p - ps->line_start) + 1;
}

static inline bool at_end(const struct parser *ps)
{
	return ps->p == ps->end;
}

/* The byte @i ahead; 0 at the end (a NUL in the input is refused before parsing). */
static inline char peek_at(const struct parser *ps, size_t i)
{
	return (size_t)(ps->end - ps->p) > i ? ps->p[i] : 0;
}

static inline char peek(const struct parser *ps)
{
	return peek_at(ps, 0);
}

static inline bool looking_at(const struct parser *ps, const char *s)
{
	size_t n = strlen(s);

	return (size_t)(ps->end - ps->p) >= n && memcmp(ps->p, s, n) == 0;
}

static inline void newline_passed(struct parser *ps)
{
	ps->line++;
	ps->line_start = ps->p;
}

/* Steps over "\n" or "\r\n". */
static inline bool take_newline(struct parser *ps)
{
	if (peek(ps) == '\n')
		ps->p++;
	else if (peek(ps) == '\r' && peek_at(ps, 1) == '\n')
		ps->p += 2;
	else
		return false;
	newline_passed(ps);
	return true;
}

static inline void skip_blanks(struct parser *ps)
{
	while (peek(ps) == ' ' || peek(ps) == '\t')
		ps->p++;
}

static inline bool is_control(char c)
{
	return ((unsigned char)c < 0x20 && c != '\t') || c == 0x7f;
}
