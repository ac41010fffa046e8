/* SPDX-License-Identifier: Apache-2.0 */
/* Strings: see str.h. */
#include "base/str.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

bool str_has_suffix(const char *s, const char *suffix)
{
	size_t n = strlen(s), m = strlen(suffix);
	return n >= m && memcmp(s + n - m, suffix, m) == 0;
}

int str_to_u64(const char *s, int base, uint64_t *ret)
{
	char *end;
	if (*s < '0' || (*s > '9' && base <= 10))
		return -EINVAL;
	errno = 0;
	unsigned long long v = strtoull(s, &end, base);
	if (errno == ERANGE)
		return -ERANGE;
	if (errno || end == s || *end)
		return -EINVAL;
	*ret = v;
	return 0;
}

int str_to_i64(const char *s, int base, int64_t *ret)
{
	char *end;
	const char *digits = *s == '-' || *s == '+' ? s + 1 : s;
	if (*digits < '0' || (*digits > '9' && base <= 10))
		return -EINVAL;
	errno = 0;
	long long v = strtoll(s, &end, base);
	if (errno == ERANGE)
		return -ERANGE;
	if (errno || end == s || *end)
		return -EINVAL;
	*ret = v;
	return 0;
}

char **str_split(struct arena *a, const char *s, char sep, size_t *ret_n)
{
	size_t n = 0;
	if (*s) {
		n = 1;
		for (const char *p = s; *p; p++)
			n += *p == sep;
	}
	char **parts = arena_new_array(a, char *, n + 1);
	char *copy = arena_strdup(a, s);
	if (!parts || !copy)
		return NULL;
	for (size_t i = 0; i < n; i++) {
		parts[i] = copy;
		copy = strchr(copy, sep);
		if (copy)
			*copy++ = 0;
	}
	if (ret_n)
		*ret_n = n;
	return parts;
}

void hex_encode(const void *p, size_t n, char *out)
{
	static const char digits[] = "0123456789abcdef";
	const unsigned char *b = p;
	for (size_t i = 0; i < n; i++) {
		out[2 * i] = digits[b[i] >> 4];
		out[2 * i + 1] = digits[b[i] & 15];
	}
	out[2 * n] = 0;
}

void random_bytes(void *p, size_t n)
{
	unsigned char *b = p;
	while (n > 0) {
		ssize_t r = getrandom(b, n, 0);
		if (r < 0)
			continue; /* EINTR only: the pool is initialised long before anything of
				     ours runs */
		b += r;
		n -= (size_t)r;
	}
}

void str_size_binary(int64_t bytes, char out[32])
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
	double v = (double)bytes;
	size_t u = 0;
	while (v >= 1024 && u + 1 < ARRAY_LEN(units)) {
		v /= 1024;
		u++;
	}
	snprintf(out, 32, "%.1f %s", v, units[u]);
}

void str_size_decimal(int64_t bytes, char out[32])
{
	static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB"};
	double v = (double)bytes;
	size_t u = 0;
	while (v >= 1000 && u + 1 < ARRAY_LEN(units)) {
		v /= 1000;
		u++;
	}
	snprintf(out, 32, "%.4g%s", v, units[u]);
}
