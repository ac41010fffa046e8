/* SPDX-License-Identifier: Apache-2.0 */
/* Time texts: RFC 3339 and Go's durations (https://pkg.go.dev/time#ParseDuration). */
#include "base/time.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct timespec time_now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	return t;
}

int64_t time_mono(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * NSEC_PER_SEC + t.tv_nsec;
}

int time_cmp(struct timespec a, struct timespec b)
{
	if (a.tv_sec != b.tv_sec)
		return a.tv_sec < b.tv_sec ? -1 : 1;
	if (a.tv_nsec != b.tv_nsec)
		return a.tv_nsec < b.tv_nsec ? -1 : 1;
	return 0;
}

void time_format_rfc3339(struct timespec t, char out[40])
{
	struct tm tm;
	gmtime_r(&t.tv_sec, &tm);
	int n = snprintf(out, 40, "%04d-%02d-%02dT%02d:%02d:%02d", tm.tm_year + 1900, tm.tm_mon + 1,
			 tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
	if (n < 0 || n > 25)
		n = 25; /* years beyond 9999 */
	if (t.tv_nsec) {
		n += snprintf(out + n, 40 - (size_t)n, ".%09ld", t.tv_nsec);
		while (out[n - 1] == '0')
			n--;
	}
	memcpy(out + n, "Z", 2);
}

/* @n digits; -1 when there are none. */
static int digits(const char **s, int n)
{
	int v = 0;
	for (int i = 0; i < n; i++, (*s)++) {
		if (**s < '0' || **s > '9')
			return -1;
		v = v * 10 + (**s - '0');
	}
	return v;
}

static int expect(const char **s, char c)
{
	return *(*s)++ == c ? 0 : -1;
}

static long fraction(const char **s)
{
	long ns = 0, unit = 100000000;
	(*s)++;
	if (**s < '0' || **s > '9')
		return -1;
	for (; **s >= '0' && **s <= '9'; (*s)++, unit /= 10)
		ns += (**s - '0') * unit;
	return ns;
}

int time_parse_rfc3339(const char *s, struct timespec *ret)
{
	struct tm tm = {0};
	long ns = 0, offset = 0;
	int y = digits(&s, 4);
	if (y < 0 || expect(&s, '-'))
		return -EINVAL;
	int mon = digits(&s, 2);
	if (mon < 1 || mon > 12 || expect(&s, '-'))
		return -EINVAL;
	int d = digits(&s, 2);
	if (d < 1 || d > 31 || (*s != 'T' && *s != 't' && *s != ' '))
		return -EINVAL;
	s++;
	int h = digits(&s, 2);
	if (h < 0 || h > 23 || expect(&s, ':'))
		return -EINVAL;
	int min = digits(&s, 2);
	if (min < 0 || min > 59 || expect(&s, ':'))
		return -EINVAL;
	int sec = digits(&s, 2);
	if (sec < 0 || sec > 60)
		return -EINVAL;
	if (*s == '.' && (ns = fraction(&s)) < 0)
		return -EINVAL;
	if (*s == 'Z' || *s == 'z') {
		s++;
	} else if (*s == '+' || *s == '-') {
		int sign = *s++ == '-' ? -1 : 1;
		int oh = digits(&s, 2);
		if (oh < 0 || oh > 23 || expect(&s, ':'))
			return -EINVAL;
		int om = digits(&s, 2);
		if (om < 0 || om > 59)
			return -EINVAL;
		offset = sign * (oh * 3600L + om * 60L);
	} else {
		return -EINVAL;
	}
	if (*s)
		return -EINVAL;
	tm.tm_year = y - 1900;
	tm.tm_mon = mon - 1;
	tm.tm_mday = d;
	tm.tm_hour = h;
	tm.tm_min = min;
	tm.tm_sec = sec;
	time_t t = timegm(&tm);
	if (tm.tm_mday != d)
		return -EINVAL; /* 30 February */
	ret->tv_sec = t - offset;
	ret->tv_nsec = ns;
	return 0;
}

static const struct {
	const char *name;
	int64_t ns;
} units[] = {
	{"ns", 1},
	{"us", 1000},
	{"\xc2\xb5s", 1000}, /* micro sign */
	{"\xce\xbcs", 1000}, /* mu */
	{"ms", NSEC_PER_MSEC},
	{"s", NSEC_PER_SEC},
	{"m", 60 * NSEC_PER_SEC},
	{"h", 3600 * NSEC_PER_SEC},
};

static int64_t unit_take(const char **s)
{
	size_t n = strcspn(*s, "0123456789.");
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		if (strlen(units[i].name) == n && memcmp(*s, units[i].name, n) == 0) {
			*s += n;
			return units[i].ns;
		}
	return 0;
}

/* One "12.5ms"; adds to @sum. */
static int duration_part(const char **s, int64_t *sum)
{
	int64_t whole = 0, frac = 0, scale = 1, v;
	int any = 0;
	for (; **s >= '0' && **s <= '9'; (*s)++, any = 1)
		if (__builtin_mul_overflow(whole, (int64_t)10, &whole) ||
		    __builtin_add_overflow(whole, (int64_t)(**s - '0'), &whole))
			return -ERANGE;
	if (**s == '.')
		for ((*s)++; **s >= '0' && **s <= '9'; (*s)++, any = 1)
			if (scale < NSEC_PER_SEC * 100000) {
				frac = frac * 10 + (**s - '0');
				scale *= 10;
			}
	if (!any)
		return -EINVAL;
	int64_t unit = unit_take(s);
	if (!unit)
		return -EINVAL;
	if (__builtin_mul_overflow(whole, unit, &v))
		return -ERANGE;
	int64_t add = (int64_t)((double)frac * ((double)unit / (double)scale) + 0.5);
	if (__builtin_add_overflow(v, add, &v) || __builtin_add_overflow(*sum, v, sum))
		return -ERANGE;
	return 0;
}

int duration_parse(const char *s, int64_t *ret_ns)
{
	int64_t sum = 0;
	int sign = 1;
	if (*s == '-' || *s == '+')
		sign = *s++ == '-' ? -1 : 1;
	if (strcmp(s, "0") == 0) {
		*ret_ns = 0;
		return 0;
	}
	if (!*s)
		return -EINVAL;
	while (*s) {
		int r = duration_part(&s, &sum);
		if (r < 0)
			return r;
	}
	*ret_ns = sign * sum;
	return 0;
}

static int format_fraction(char *out, size_t n, int64_t v, int64_t unit, const char *suffix)
{
	int len = snprintf(out, n, "%lld", (long long)(v / unit));
	int64_t rest = v % unit;
	if (rest) {
		out[len++] = '.';
		for (int64_t u = unit / 10; rest; u /= 10) {
			out[len++] = (char)('0' + rest / u);
			rest %= u;
		}
	}
	return len + snprintf(out + len, n - (size_t)len, "%s", suffix);
}

void duration_format(int64_t ns, char out[40])
{
	char *p = out;
	if (ns == 0) {
		memcpy(out, "0s", 3);
		return;
	}
	if (ns < 0) {
		*p++ = '-';
		ns = ns == INT64_MIN ? INT64_MAX : -ns;
	}
	if (ns < NSEC_PER_SEC) {
		if (ns < 1000)
			format_fraction(p, 30, ns, 1, "ns");
		else if (ns < NSEC_PER_MSEC)
			format_fraction(p, 30, ns, 1000, "\xc2\xb5s");
		else
			format_fraction(p, 30, ns, NSEC_PER_MSEC, "ms");
		return;
	}
	int64_t min = ns / (60 * NSEC_PER_SEC);
	if (min >= 60)
		p += snprintf(p, 12, "%lldh", (long long)(min / 60));
	if (min > 0)
		p += snprintf(p, 6, "%lldm", (long long)(min % 60));
	format_fraction(p, 20, ns % (60 * NSEC_PER_SEC), NSEC_PER_SEC, "s");
}
