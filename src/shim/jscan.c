/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/jscan.h"

#include <errno.h>
#include <string.h>

static size_t space_skip(const char *p, size_t n, size_t i)
{
	while (i < n && (p[i] == ' ' || p[i] == '\t' || p[i] == '\n' || p[i] == '\r'))
		i++;
	return i;
}

/* Index after the string that starts at @i, 0 when it does not end. */
static size_t string_end(const char *p, size_t n, size_t i)
{
	for (i++; i < n; i++) {
		if (p[i] == '\\')
			i++;
		else if (p[i] == '"')
			return i + 1;
	}
	return 0;
}

/* Index after the object or array that starts at @i. */
static size_t nest_end(const char *p, size_t n, size_t i)
{
	size_t depth = 0;

	while (i < n) {
		if (p[i] == '"') {
			i = string_end(p, n, i);
			if (i == 0)
				return 0;
			continue;
		}
		if (p[i] == '{' || p[i] == '[')
			depth++;
		else if ((p[i] == '}' || p[i] == ']') && --depth == 0)
			return i + 1;
		i++;
	}
	return 0;
}

static size_t value_end(const char *p, size_t n, size_t i)
{
	if (i >= n)
		return 0;
	if (p[i] == '"')
		return string_end(p, n, i);
	if (p[i] == '{' || p[i] == '[')
		return nest_end(p, n, i);

	size_t start = i;

	while (i < n && !strchr(" \t\r\n,]}:\"[{", p[i]))
		i++;
	return i > start ? i : 0;
}

int jscan_value(const char *p, size_t n, struct jspan *ret)
{
	size_t i = space_skip(p, n, 0), end = value_end(p, n, i);

	if (end == 0)
		return -EINVAL;
	*ret = (struct jspan){p + i, end - i};
	return 0;
}

/* Moves to the next element: 1 = @*pos is at it, 0 = the closing bracket was reached. */
static int next_start(struct jspan v, char open, char close, size_t *pos)
{
	size_t i = *pos;

	if (v.n < 2 || v.p[0] != open || v.p[v.n - 1] != close)
		return -EINVAL;
	if (i == 0) {
		i = space_skip(v.p, v.n, 1);
		if (v.p[i] == close)
			return 0;
	} else {
		i = space_skip(v.p, v.n, i);
		if (i >= v.n)
			return -EINVAL;
		if (v.p[i] == close)
			return 0;
		if (v.p[i] != ',')
			return -EINVAL;
		i = space_skip(v.p, v.n, i + 1);
	}
	*pos = i;
	return 1;
}

int jscan_next_member(struct jspan o, size_t *pos, struct jspan *ret_key, struct jspan *ret_value)
{
	size_t i, end;
	int r = next_start(o, '{', '}', pos);

	if (r <= 0)
		return r;
	i = *pos;
	if (i >= o.n || o.p[i] != '"')
		return -EINVAL;
	end = string_end(o.p, o.n, i);
	if (end == 0)
		return -EINVAL;

	struct jspan key = {o.p + i, end - i};

	i = space_skip(o.p, o.n, end);
	if (i >= o.n || o.p[i] != ':')
		return -EINVAL;
	i = space_skip(o.p, o.n, i + 1);
	end = value_end(o.p, o.n, i);
	if (end == 0)
		return -EINVAL;
	*ret_key = key;
	*ret_value = (struct jspan){o.p + i, end - i};
	*pos = end;
	return 1;
}

int jscan_next_item(struct jspan a, size_t *pos, struct jspan *ret)
{
	size_t end;
	int r = next_start(a, '[', ']', pos);

	if (r <= 0)
		return r;
	end = value_end(a.p, a.n, *pos);
	if (end == 0)
		return -EINVAL;
	*ret = (struct jspan){a.p + *pos, end - *pos};
	*pos = end;
	return 1;
}

int jscan_member(struct jspan o, const char *key, struct jspan *ret)
{
	size_t pos = 0;
	struct jspan k, v;
	int r, found = 0;

	while ((r = jscan_next_member(o, &pos, &k, &v)) > 0) {
		if (jscan_string_is(k, key)) {
			*ret = v;
			found = 1;
		}
	}
	return r < 0 ? r : found;
}

static int hex4(const char *p, size_t n, unsigned *ret)
{
	unsigned v = 0;

	if (n < 4)
		return -EINVAL;
	for (int i = 0; i < 4; i++) {
		char c = p[i];

		if (c >= '0' && c <= '9')
			v = v << 4 | (unsigned)(c - '0');
		else if ((c | 32) >= 'a' && (c | 32) <= 'f')
			v = v << 4 | (unsigned)((c | 32) - 'a' + 10);
		else
			return -EINVAL;
	}
	*ret = v;
	return 0;
}

static size_t utf8_put(unsigned c, char out[4])
{
	if (c < 0x80) {
		out[0] = (char)c;
		return 1;
	}
	if (c < 0x800) {
		out[0] = (char)(0xc0 | c >> 6);
		out[1] = (char)(0x80 | (c & 0x3f));
		return 2;
	}
	if (c < 0x10000) {
		out[0] = (char)(0xe0 | c >> 12);
		out[1] = (char)(0x80 | (c >> 6 & 0x3f));
		out[2] = (char)(0x80 | (c & 0x3f));
		return 3;
	}
	out[0] = (char)(0xf0 | c >> 18);
	out[1] = (char)(0x80 | (c >> 12 & 0x3f));
	out[2] = (char)(0x80 | (c >> 6 & 0x3f));
	out[3] = (char)(0x80 | (c & 0x3f));
	return 4;
}

/* Decodes the escape after the backslash at @p (of @n bytes): bytes taken, or -EINVAL. */
static int escape_decode(const char *p, size_t n, char out[4], size_t *ret_len)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	unsigned c, low;
	const char *q;

	if (n == 0)
		return -EINVAL;
	if (p[0] != 'u') {
		q = p[0] ? strchr(from, p[0]) : NULL;
		if (!q)
			return -EINVAL;
		out[0] = to[q - from];
		*ret_len = 1;
		return 1;
	}
	if (hex4(p + 1, n - 1, &c) < 0)
		return -EINVAL;
	if (c >= 0xd800 && c < 0xdc00 && n >= 11 && p[5] == '\\' && p[6] == 'u' &&
	    hex4(p + 7, n - 7, &low) == 0 && low >= 0xdc00 && low < 0xe000) {
		*ret_len = utf8_put(0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00), out);
		return 11;
	}
	if (c >= 0xd800 && c < 0xe000)
		c = 0xfffd; /* half a pair, as Go reads it */
	*ret_len = utf8_put(c, out);
	return 5;
}

int jscan_string(struct jspan v, char *out, size_t cap)
{
	size_t o = 0;

	if (!jscan_is_string(v) || v.p[v.n - 1] != '"')
		return -EINVAL;
	for (size_t i = 1; i < v.n - 1; i++) {
		char piece[4] = {v.p[i]};
		size_t len = 1;

		if (v.p[i] == '\\') {
			int r = escape_decode(v.p + i + 1, v.n - 1 - (i + 1), piece, &len);

			if (r < 0)
				return r;
			i += (size_t)r;
		}
		if (piece[0] == '\0')
			return -EINVAL;
		if (o + len >= cap)
			return -ENAMETOOLONG;
		memcpy(out + o, piece, len);
		o += len;
	}
	if (cap == 0)
		return -ENAMETOOLONG;
	out[o] = '\0';
	return 0;
}

bool jscan_string_is(struct jspan v, const char *s)
{
	char text[256];
	size_t n = strlen(s);

	if (jscan_is_string(v) && v.n == n + 2 && memcmp(v.p + 1, s, n) == 0)
		return true;
	if (n >= sizeof(text) || !memchr(v.p, '\\', v.n))
		return false;
	return jscan_string(v, text, sizeof(text)) == 0 && strcmp(text, s) == 0;
}

int jscan_int(struct jspan v, int64_t *ret)
{
	size_t i = 0;
	bool neg = false;
	int64_t x = 0;

	if (i < v.n && v.p[i] == '-') {
		neg = true;
		i++;
	}
	if (i == v.n)
		return -EINVAL;
	for (; i < v.n; i++) {
		if (v.p[i] < '0' || v.p[i] > '9')
			return -EINVAL;
		if (__builtin_mul_overflow(x, 10, &x) ||
		    __builtin_sub_overflow(x, v.p[i] - '0', &x))
			return -ERANGE;
	}
	if (!neg && __builtin_mul_overflow(x, -1, &x))
		return -ERANGE;
	*ret = x;
	return 0;
}

int jscan_quote(struct buf *b, const char *s)
{
	buf_addc(b, '"');
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;

		if (c == '"' || c == '\\') {
			buf_addc(b, '\\');
			buf_addc(b, (char)c);
		} else if (c < 0x20) {
			buf_printf(b, "\\u%04x", c);
		} else {
			buf_addc(b, (char)c);
		}
	}
	buf_addc(b, '"');
	return buf_ok(b) ? 0 : -ENOMEM;
}
