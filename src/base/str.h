/* SPDX-License-Identifier: Apache-2.0 */
/* Strings. Nothing here allocates but what takes an arena or says so. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/arena.h"

static inline bool streq(const char *a, const char *b)
{
	return strcmp(a, b) == 0;
}

/* NULL counts as "". */
static inline bool str_empty(const char *s)
{
	return !s || !*s;
}

static inline const char *str_or(const char *s, const char *otherwise)
{
	return str_empty(s) ? otherwise : s;
}

/* What follows @prefix in @s, or NULL. */
static inline const char *str_skip(const char *s, const char *prefix)
{
	size_t n = strlen(prefix);
	return strncmp(s, prefix, n) == 0 ? s + n : NULL;
}

static inline bool str_has_prefix(const char *s, const char *prefix)
{
	return str_skip(s, prefix) != NULL;
}

bool str_has_suffix(const char *s, const char *suffix);

/* Whole string as a number; -EINVAL, -ERANGE. */
int str_to_u64(const char *s, int base, uint64_t *ret);
int str_to_i64(const char *s, int base, int64_t *ret);

/* Splits at @sep into a NULL-terminated array in the arena; empty parts are kept; "" gives no part.
 * NULL = no memory. */
char **str_split(struct arena *a, const char *s, char sep, size_t *ret_n);

/* Lower-case hex of @n bytes into @out (2n+1 bytes). */
void hex_encode(const void *p, size_t n, char *out);

/* @n random bytes from the kernel; never fails. */
void random_bytes(void *p, size_t n);

/* "1.2 MiB" as containerd's ctr prints sizes: binary units, one decimal; "12.0 B". @out of 32
 * bytes. */
void str_size_binary(int64_t bytes, char out[32]);
/* "2.058MB": decimal units, four significant digits, "422B". @out of 32 bytes. */
void str_size_decimal(int64_t bytes, char out[32]);

/* 1..76 characters, ^[A-Za-z0-9]+(?:[._-](?:[A-Za-z0-9]+))*$: containerd's identifiers (namespace,
 * container, exec, task, sandbox). */
struct err;
int ident_validate(const char *s, struct err *err) _must_check_;
