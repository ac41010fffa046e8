/* SPDX-License-Identifier: Apache-2.0 */
/* TOML 1.0 (https://toml.io/en/v1.0.0): parsed into a tree in an arena, with the line and column of
 * each key and value.
 *
 * The input is bytes and need not end in NUL; a document is at most 1 MiB, nesting at most 64.
 * Tables keep the order of their keys. The tree lives as long as the arena. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"

enum toml_type {
	TOML_STRING,
	TOML_INTEGER,
	TOML_FLOAT,
	TOML_BOOL,
	TOML_DATETIME,
	TOML_ARRAY,
	TOML_TABLE
};

struct toml_value;

struct toml_entry {
	const char *key;
	struct toml_value *value;
	int line, column; /* of the key, from 1 */
};

struct toml_value {
	enum toml_type type;
	int line, column;
	union {
		struct {
			const char *s; /* NUL-terminated; @len counts embedded NULs too (TOML
					  forbids them raw, not escaped) */
			size_t len;
		} string; /* TOML_DATETIME too: its text */
		int64_t integer;
		double real;
		bool boolean;
		struct {
			struct toml_value **v;
			size_t n, cap;
		} array;
		struct {
			struct toml_entry *v;
			size_t n, cap;
			bool defined; /* parser's own */
			bool inline_; /* parser's own */
		} table;
	};
};

/* -ERR_INVALID_ARGUMENT, text "line L, column C: what is wrong". *@ret is a TOML_TABLE. */
int toml_parse(struct arena *a, const char *p, size_t n, struct toml_value **ret,
	       struct err *err) _must_check_;

/* NULL when absent or @t is no table. */
struct toml_value *toml_get(const struct toml_value *t, const char *key);
/* Trees are made of values from toml_parse() and toml_new() only (they carry more than is seen
 * here). */
struct toml_value *toml_new(struct arena *a,
			    enum toml_type type); /* zero of its type; NULL = no memory */
/* Adds or replaces (in place); @key is not copied. 0 or -ENOMEM. */
int toml_set(struct arena *a, struct toml_value *t, const char *key, struct toml_value *v);
/* Removes and returns it; NULL when absent. */
struct toml_value *toml_take(struct toml_value *t, const char *key);
int toml_append(struct arena *a, struct toml_value *array, struct toml_value *v); /* 0 or -ENOMEM */
const char *toml_type_name(enum toml_type t);
/* Appends @s quoted as a TOML string: literal quotes 'x' where it can, else "x" with escapes. */
void toml_quote(struct buf *b, const char *s);
/* Appends a key: bare where it can be, else quoted with toml_quote(). */
void toml_quote_key(struct buf *b, const char *s);
