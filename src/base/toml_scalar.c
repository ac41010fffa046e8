/* SPDX-License-Identifier: Apache-2.0 */
/* TOML's scalars: the four kinds of string, numbers, dates and times; and the errors of the parser.
 */
#include "base/toml_impl.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

int toml_fail_at(struct parser *ps, int line, int column, const char *fmt, ...)
{
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return err_set(ps->err, ERR_INVALID_ARGUMENT, "line %d, column %d: %s", line, column, text);
}

int toml_fail_char(struct parser *ps, const char *where)
{
	if (at_end(ps))
		return toml_fail(ps, "end of file %s", where);
	if (peek(ps) == '\n' || (peek(ps) == '\r' && peek_at(ps, 1) == '\n'))
		return toml_fail(ps, "end of line %s", where);
	if (is_control(peek(ps)) || (peek(ps) & 0x80))
		return toml_fail(ps, "unexpected byte 0x%02x %s", (unsigned char)peek(ps), where);
	return toml_fail(ps, "unexpected character '%c' %s", peek(ps), where);
}

/* Strings */

static int add_code_point(struct parser *ps, uint32_t c)
{
	char u[4];
	size_t n;

	if (c < 0x80) {
		u[0] = (char)c;
		n = 1;
	} else if (c < 0x800) {
		u[0] = (char)(0xc0 | (c >> 6));
		u[1] = (char)(0x80 | (c & 0x3f));
		n = 2;
	} else if (c < 0x10000) {
		u[0] = (char)(0xe0 | (c >> 12));
		u[1] = (char)(0x80 | ((c >> 6) & 0x3f));
		u[2] = (char)(0x80 | (c & 0x3f));
		n = 3;
	} else {
		u[0] = (char)(0xf0 | (c >> 18));
		u[1] = (char)(0x80 | ((c >> 12) & 0x3f));
		u[2] = (char)(0x80 | ((c >> 6) & 0x3f));
		u[3] = (char)(0x80 | (c & 0x3f));
		n = 4;
	}
	return buf_add(&ps->text, u, n);
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* At the 'u' or 'U' of an escape. */
static int parse_unicode_escape(struct parser *ps)
{
	size_t digits = *ps->p == 'u' ? 4 : 8;
	uint32_t c = 0;

	for (size_t i = 1; i <= digits; i++) {
		int d = hex_value(peek_at(ps, i));

		if (d < 0)
			return toml_fail(ps, "\\%c needs %zu hexadecimal digits", *ps->p, digits);
		c = c << 4 | (uint32_t)d;
	}
	if (c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
		return toml_fail(ps, "\\%c%.*s is no Unicode character", *ps->p, (int)digits,
				 ps->p + 1);
	ps->p += digits + 1;
	add_code_point(ps, c);
	return 0;
}

/* After a backslash that may end its line: drops white space up to the next text. */
static int skip_line_continuation(struct parser *ps)
{
	skip_blanks(ps);
	if (!take_newline(ps))
		return toml_fail_char(ps, "after a backslash");
	do
		skip_blanks(ps);
	while (take_newline(ps));
	return 0;
}

static int parse_escape(struct parser *ps, bool multi)
{
	static const char from[] = "btnfr\"\\", to[] = "\b\t\n\f\r\"\\";
	const char *at;

	ps->p++;
	if (peek(ps) == 'u' || peek(ps) == 'U')
		return parse_unicode_escape(ps);
	at = peek(ps) ? strchr(from, peek(ps)) : NULL;
	if (at) {
		ps->p++;
		buf_addc(&ps->text, to[at - from]);
		return 0;
	}
	if (multi && !at_end(ps) && strchr(" \t\r\n", peek(ps)))
		return skip_line_continuation(ps);
	return toml_fail_char(ps, "after a backslash");
}

/* One or three quotes @q are passed; leaves the content in ps->text. */
static int parse_string_body(struct parser *ps, char q, bool multi)
{
	const char close[4] = {q, multi ? q : 0, multi ? q : 0, 0};
	int r;

	while (!at_end(ps)) {
		if (looking_at(ps, close)) {
			/* up to two quotes may stand right before the closing three */
			for (int i = 0; multi && i < 2 && peek_at(ps, 3) == q; i++, ps->p++)
				buf_addc(&ps->text, q);
			ps->p += multi ? 3 : 1;
			return 0;
		}
		if (*ps->p == '\\' && q == '"') {
			r = parse_escape(ps, multi);
			if (r < 0)
				return r;
		} else if (multi && take_newline(ps)) {
			buf_addc(&ps->text, '\n');
		} else if (is_control(*ps->p)) {
			return toml_fail_char(ps, "in a string");
		} else {
			buf_addc(&ps->text, *ps->p++);
		}
	}
	return toml_fail(ps, "end of file in a string");
}

int toml_parse_string(struct parser *ps, bool multi_allowed, const char **ret, size_t *ret_len)
{
	char q = *ps->p;
	bool multi = multi_allowed && peek_at(ps, 1) == q && peek_at(ps, 2) == q;
	char *s;
	int r;

	buf_clear(&ps->text);
	ps->p += multi ? 3 : 1;
	if (multi)
		take_newline(ps);
	r = parse_string_body(ps, q, multi);
	if (r < 0)
		return r;
	if (!buf_ok(&ps->text))
		return err_nomem(ps->err);
	s = arena_alloc(ps->arena, ps->text.len + 1);
	if (!s)
		return err_nomem(ps->err);
	if (ps->text.len > 0)
		memcpy(s, ps->text.data, ps->text.len);
	s[ps->text.len] = 0;
	*ret = s;
	*ret_len = ps->text.len;
	return 0;
}

/* Numbers, dates */

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Length of `d(_?d)*` from @at on, 0 when it does not start with a digit of @base. */
static size_t digits_length(const struct parser *ps, size_t at, int base)
{
	size_t n = 0;

	for (;;) {
		int d = hex_value(peek_at(ps, at + n));

		if (d < 0 || d >= base)
			return n;
		n++;
		d = hex_value(peek_at(ps, at + n + 1));
		if (peek_at(ps, at + n) == '_' && d >= 0 && d < base)
			n++;
	}
}

static int digits_value(struct parser *ps, const char *p, size_t n, int base, bool negative,
			int64_t *ret)
{
	uint64_t v = 0, limit = negative ? (uint64_t)INT64_MAX + 1 : (uint64_t)INT64_MAX;

	for (size_t i = 0; i < n; i++) {
		if (p[i] == '_')
			continue;
		if (__builtin_mul_overflow(v, (uint64_t)base, &v) ||
		    __builtin_add_overflow(v, (uint64_t)hex_value(p[i]), &v) || v > limit)
			return toml_fail(ps, "integer does not fit into 64 bits");
	}
	*ret = negative ? (int64_t)(0 - v) : (int64_t)v;
	return 0;
}

static int parse_based_integer(struct parser *ps, struct toml_value *v)
{
	char kind = peek_at(ps, 1);
	int base = kind == 'x' ? 16 : kind == 'o' ? 8 : 2;
	size_t n = digits_length(ps, 2, base);
	int r;

	if (n == 0) {
		ps->p += 2;
		return toml_fail_char(ps, "where a digit must stand");
	}
	v->type = TOML_INTEGER;
	r = digits_value(ps, ps->p + 2, n, base, false, &v->integer);
	if (r < 0)
		return r;
	ps->p += 2 + n;
	return 0;
}

static int float_value(struct parser *ps, size_t n, double *ret)
{
	buf_clear(&ps->text);
	for (size_t i = 0; i < n; i++)
		if (ps->p[i] != '_')
			buf_addc(&ps->text, ps->p[i]);
	if (!buf_ok(&ps->text))
		return err_nomem(ps->err);
	*ret = strtod(ps->text.data, NULL);
	return 0;
}

static bool parse_special_float(struct parser *ps, struct toml_value *v)
{
	size_t sign = peek(ps) == '+' || peek(ps) == '-';
	const char *start = ps->p;

	ps->p += sign;
	if (looking_at(ps, "inf")) {
		v->real = *start == '-' ? -INFINITY : INFINITY;
	} else if (looking_at(ps, "nan")) {
		v->real = *start == '-' ? -NAN : NAN;
	} else {
		ps->p = start;
		return false;
	}
	ps->p += 3;
	v->type = TOML_FLOAT;
	return true;
}

/* Decimal integer or float. */
static int parse_number(struct parser *ps, struct toml_value *v)
{
	size_t sign = peek(ps) == '+' || peek(ps) == '-';
	size_t whole = digits_length(ps, sign, 10);
	size_t n = sign + whole, more;
	int r;

	if (whole == 0)
		return toml_fail_char(ps, "where a value must stand");
	if (whole > 1 && peek_at(ps, sign) == '0')
		return toml_fail(ps, "number starts with a zero");
	v->type = TOML_INTEGER;
	if (peek_at(ps, n) == '.') {
		more = digits_length(ps, n + 1, 10);
		if (more == 0)
			return toml_fail(ps, "no digit after the decimal point");
		n += 1 + more;
		v->type = TOML_FLOAT;
	}
	if (peek_at(ps, n) == 'e' || peek_at(ps, n) == 'E') {
		size_t exp_sign = peek_at(ps, n + 1) == '+' || peek_at(ps, n + 1) == '-';

		more = digits_length(ps, n + 1 + exp_sign, 10);
		if (more == 0)
			return toml_fail(ps, "no digit in the exponent");
		n += 1 + exp_sign + more;
		v->type = TOML_FLOAT;
	}
	if (v->type == TOML_FLOAT)
		r = float_value(ps, n, &v->real);
	else
		r = digits_value(ps, ps->p + sign, whole, 10, *ps->p == '-', &v->integer);
	if (r < 0)
		return r;
	ps->p += n;
	return 0;
}

/* Do the bytes at @at look like @shape, in which 'd' is a digit? */
static bool has_shape(const struct parser *ps, size_t at, const char *shape)
{
	for (size_t i = 0; shape[i]; i++) {
		char c = peek_at(ps, at + i);

		if (shape[i] == 'd' ? !is_digit(c) : c != shape[i])
			return false;
	}
	return true;
}

static int two_digits(const char *p)
{
	return (p[0] - '0') * 10 + (p[1] - '0');
}

static bool date_valid(const char *p)
{
	static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	int year = two_digits(p) * 100 + two_digits(p + 2);
	int month = two_digits(p + 5), day = two_digits(p + 8);
	bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

	return month >= 1 && month <= 12 && day >= 1 &&
	       day <= days[month - 1] + (month == 2 && leap);
}

/* `hh:mm:ss[.fraction]` at @at: its length, 0 when it is none, -1 when out of range. */
static int time_length(const struct parser *ps, size_t at)
{
	const char *p = ps->p + at;
	size_t n = 8;

	if (!has_shape(ps, at, "dd:dd:dd"))
		return 0;
	if (two_digits(p) > 23 || two_digits(p + 3) > 59 || two_digits(p + 6) > 59)
		return -1;
	if (peek_at(ps, at + 8) == '.' && is_digit(peek_at(ps, at + 9)))
		for (n = 10; is_digit(peek_at(ps, at + n)); n++)
			;
	return (int)n;
}

/* `Z` or `+hh:mm` at @at: as time_length(). */
static int offset_length(const struct parser *ps, size_t at)
{
	const char *p = ps->p + at;

	if (peek_at(ps, at) == 'Z' || peek_at(ps, at) == 'z')
		return 1;
	if (!has_shape(ps, at, "+dd:dd") && !has_shape(ps, at, "-dd:dd"))
		return 0;
	return two_digits(p + 1) > 23 || two_digits(p + 4) > 59 ? -1 : 6;
}

static int parse_datetime(struct parser *ps, struct toml_value *v)
{
	bool dated = has_shape(ps, 0, "dddd-dd-dd");
	size_t n = dated ? 10 : 0;
	char separator = peek_at(ps, n);
	int time_n = 0, offset_n = 0;

	if (dated && !date_valid(ps->p))
		return toml_fail(ps, "no such date");
	if (!dated)
		time_n = time_length(ps, 0);
	else if (separator == 'T' || separator == 't' || separator == ' ')
		time_n = time_length(ps, 11);
	if (time_n < 0)
		return toml_fail(ps, "no such time");
	if (time_n > 0)
		n += (size_t)time_n + dated;
	if (dated && time_n > 0)
		offset_n = offset_length(ps, n);
	if (offset_n < 0)
		return toml_fail(ps, "no such time zone offset");
	n += (size_t)offset_n;
	v->type = TOML_DATETIME;
	v->string.s = arena_strndup(ps->arena, ps->p, n);
	if (!v->string.s)
		return err_nomem(ps->err);
	v->string.len = n;
	ps->p += n;
	return 0;
}

int toml_parse_scalar(struct parser *ps, struct toml_value *v)
{
	char c = peek(ps);

	if (looking_at(ps, "true") || looking_at(ps, "false")) {
		v->type = TOML_BOOL;
		v->boolean = c == 't';
		ps->p += v->boolean ? 4 : 5;
		return 0;
	}
	if (has_shape(ps, 0, "dddd-dd-dd") || has_shape(ps, 0, "dd:dd:dd"))
		return parse_datetime(ps, v);
	if (parse_special_float(ps, v))
		return 0;
	if (c == '0' && (peek_at(ps, 1) == 'x' || peek_at(ps, 1) == 'o' || peek_at(ps, 1) == 'b'))
		return parse_based_integer(ps, v);
	return parse_number(ps, v);
}
