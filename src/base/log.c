/* SPDX-License-Identifier: Apache-2.0 */
/* The log: a line is built on the stack and written with one write(2). See log.h. */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/time.h"

#define LINE_MAX_ 4096

static const char *const names[] = {"trace", "debug", "info", "warning", "error", "fatal", "panic"};

static atomic_int current_level = LOG_INFO;
static atomic_bool as_json;
static atomic_int log_fd = 2;

int log_level_parse(const char *s, enum log_level *ret)
{
	if (strcasecmp(s, "warn") == 0)
		s = "warning";
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (strcasecmp(s, names[i]) == 0) {
			*ret = (enum log_level)i;
			return 0;
		}
	return -EINVAL;
}

const char *log_level_name(enum log_level l)
{
	return names[l];
}

void log_setup(enum log_level level, bool json)
{
	current_level = (int)level;
	as_json = json;
}

void log_set_fd(int fd)
{
	log_fd = fd;
}

enum log_level log_level_get(void)
{
	return (enum log_level)atomic_load_explicit(&current_level, memory_order_relaxed);
}

/* Values are cut at ROOM, so that the end of a line always fits and JSON stays JSON. */
struct line {
	char s[LINE_MAX_];
	size_t n;
	bool full;
};

#define ROOM (LINE_MAX_ - 96)

/* Part of a value, as a whole or not at all. */
static void put(struct line *l, const char *s, size_t n)
{
	l->full = l->full || l->n + n > ROOM;
	if (l->full)
		return;
	memcpy(l->s + l->n, s, n);
	l->n += n;
}

/* What holds the values together: short, and always there. */
static void puts_(struct line *l, const char *s)
{
	size_t n = MIN(strlen(s), sizeof(l->s) - 1 - l->n);
	memcpy(l->s + l->n, s, n);
	l->n += n;
}

/* Bytes of the UTF-8 character at @s; 0 = it is none. */
static size_t utf8_len(const unsigned char *s)
{
	size_t n = s[0] < 0x80			  ? 1
		   : s[0] >= 0xf0 && s[0] <= 0xf4 ? 4
		   : s[0] >= 0xe0		  ? 3
		   : s[0] >= 0xc2		  ? 2
						  : 0;
	if (s[0] > 0xf4)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	/* Longer than needed, surrogates, beyond the last one. */
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
	    (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	return n;
}

static size_t put_char(struct line *l, const char *s)
{
	unsigned char c = (unsigned char)*s;
	size_t n = utf8_len((const unsigned char *)s);
	char esc[8];
	if (c == '"' || c == '\\')
		put(l, (char[]){'\\', (char)c}, 2);
	else if (c == '\n')
		put(l, "\\n", 2);
	else if (c == '\t')
		put(l, "\\t", 2);
	else if (c < 0x20 || c == 0x7f) {
		snprintf(esc, sizeof(esc), "\\u%04x", c);
		put(l, esc, 6);
	} else if (n == 0)
		put(l, "\\ufffd", 6);
	else
		put(l, s, n);
	return MAX(n, (size_t)1);
}

/* Quoted, with the escapes that JSON and logfmt share. */
static void put_quoted(struct line *l, const char *s)
{
	puts_(l, "\"");
	while (*s && !l->full)
		s += put_char(l, s);
	puts_(l, "\"");
}

static bool needs_quotes(const char *s)
{
	if (!*s)
		return true;
	return s[strspn(s,
			"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._/@^+")] !=
	       0;
}

static void put_value(struct line *l, const char *s)
{
	if (needs_quotes(s) || l->n + strlen(s) > ROOM)
		put_quoted(l, s);
	else
		put(l, s, strlen(s));
}

static void line_text(struct line *l, enum log_level level, const char *time, const char *msg,
		      const char *const *fields)
{
	puts_(l, "time=\"");
	puts_(l, time);
	puts_(l, "\" level=");
	puts_(l, names[level]);
	puts_(l, " msg=");
	put_value(l, msg);
	for (; fields && fields[0] && !l->full; fields += 2) {
		put(l, " ", 1);
		put(l, fields[0], strlen(fields[0]));
		put(l, "=", 1);
		put_value(l, fields[1]);
	}
}

static void line_json(struct line *l, enum log_level level, const char *time, const char *msg,
		      const char *const *fields)
{
	puts_(l, "{\"level\":\"");
	puts_(l, names[level]);
	puts_(l, "\",\"msg\":");
	put_quoted(l, msg);
	for (; fields && fields[0] && !l->full; fields += 2) {
		puts_(l, ",");
		put_quoted(l, fields[0]);
		puts_(l, ":");
		put_quoted(l, fields[1]);
	}
	puts_(l, ",\"time\":\"");
	puts_(l, time);
	puts_(l, "\"}");
}

void log_write(enum log_level level, const char *const *fields, const char *fmt, ...)
{
	char msg[2400], time[40];
	struct line l;
	int saved = errno;
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	time_format_rfc3339(time_now(), time);
	l.n = 0;
	l.full = false;
	if (as_json)
		line_json(&l, level, time, msg, fields);
	else
		line_text(&l, level, time, msg, fields);
	l.s[l.n++] = '\n';
	if (write(log_fd, l.s, l.n) < 0) {
		/* Nowhere to tell it. */
	}
	errno = saved;
}
