/* SPDX-License-Identifier: Apache-2.0 */
/* Operations on trees of configuration values: overlay, sort, compare, print. See config_field.h.
 */
#include "daemon/config_field.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"

struct toml_value *tree_string(struct arena *a, const char *s)
{
	struct toml_value *v = toml_new(a, TOML_STRING);

	if (v) {
		v->string.s = s;
		v->string.len = strlen(s);
	}
	return v;
}

int tree_overlay(struct arena *a, const struct toml_value *base, const struct toml_value *over,
		 struct toml_value **ret, struct err *err)
{
	struct toml_value *t = toml_new(a, TOML_TABLE), *v;
	int r;

	if (!t)
		return err_nomem(err);
	for (size_t i = 0; i < base->table.n; i++)
		if (toml_set(a, t, base->table.v[i].key, base->table.v[i].value) < 0)
			return err_nomem(err);
	for (size_t i = 0; i < over->table.n; i++) {
		const struct toml_value *old = toml_get(base, over->table.v[i].key);

		v = over->table.v[i].value;
		if (old && old->type == TOML_TABLE && v->type == TOML_TABLE) {
			r = tree_overlay(a, old, v, &v, err);
			if (r < 0)
				return r;
		}
		if (toml_set(a, t, over->table.v[i].key, v) < 0)
			return err_nomem(err);
	}
	*ret = t;
	return 0;
}

static int entry_cmp(const void *x, const void *y)
{
	return strcmp(((const struct toml_entry *)x)->key, ((const struct toml_entry *)y)->key);
}

int tree_sort(struct arena *a, const struct toml_value *t, bool deep, struct toml_value **ret,
	      struct err *err)
{
	struct toml_entry *v = arena_new_array(a, struct toml_entry, t->table.n + 1);
	struct toml_value *sorted = toml_new(a, TOML_TABLE);
	int r;

	if (!v || !sorted)
		return err_nomem(err);
	if (t->table.n > 0)
		memcpy(v, t->table.v, t->table.n * sizeof(*v));
	qsort(v, t->table.n, sizeof(*v), entry_cmp);
	for (size_t i = 0; i < t->table.n; i++) {
		if (deep && v[i].value->type == TOML_TABLE) {
			r = tree_sort(a, v[i].value, true, &v[i].value, err);
			if (r < 0)
				return r;
		}
		if (toml_set(a, sorted, v[i].key, v[i].value) < 0)
			return err_nomem(err);
	}
	*ret = sorted;
	return 0;
}

static bool tables_equal(const struct toml_value *x, const struct toml_value *y)
{
	if (x->table.n != y->table.n)
		return false;
	for (size_t i = 0; i < x->table.n; i++) {
		const struct toml_value *other = toml_get(y, x->table.v[i].key);

		if (!other || !tree_equal(x->table.v[i].value, other))
			return false;
	}
	return true;
}

static bool arrays_equal(const struct toml_value *x, const struct toml_value *y)
{
	if (x->array.n != y->array.n)
		return false;
	for (size_t i = 0; i < x->array.n; i++)
		if (!tree_equal(x->array.v[i], y->array.v[i]))
			return false;
	return true;
}

bool tree_equal(const struct toml_value *x, const struct toml_value *y)
{
	if (x->type != y->type)
		return false;
	switch (x->type) {
	case TOML_STRING:
	case TOML_DATETIME:
		return x->string.len == y->string.len &&
		       memcmp(x->string.s, y->string.s, x->string.len) == 0;
	case TOML_INTEGER:
		return x->integer == y->integer;
	case TOML_FLOAT:
		return x->real == y->real;
	case TOML_BOOL:
		return x->boolean == y->boolean;
	case TOML_ARRAY:
		return arrays_equal(x, y);
	case TOML_TABLE:
		return tables_equal(x, y);
	}
	return false;
}

bool tree_is_zero(const struct toml_value *v)
{
	switch (v->type) {
	case TOML_STRING:
		return v->string.len == 0;
	case TOML_INTEGER:
		return v->integer == 0;
	case TOML_FLOAT:
		return v->real == 0;
	case TOML_BOOL:
		return !v->boolean;
	case TOML_DATETIME:
		return false;
	case TOML_ARRAY:
		return v->array.n == 0;
	case TOML_TABLE:
		for (size_t i = 0; i < v->table.n; i++)
			if (!tree_is_zero(v->table.v[i].value))
				return false;
		return true;
	}
	return false;
}

/* Printing */

/* The shortest decimal that reads back the same, never with an exponent, always with a point. */
static void print_float(struct buf *b, double v)
{
	char text[400];

	if (isnan(v)) {
		buf_adds(b, "nan");
		return;
	}
	if (isinf(v)) {
		buf_adds(b, v < 0 ? "-inf" : "inf");
		return;
	}
	for (int digits = 1; digits < 340; digits++) {
		snprintf(text, sizeof(text), "%.*f", digits, v);
		if (strtod(text, NULL) == v)
			break;
	}
	buf_adds(b, text);
}

static void print_value(struct buf *b, const struct toml_value *v)
{
	switch (v->type) {
	case TOML_STRING:
		toml_quote(b, v->string.s);
		break;
	case TOML_DATETIME:
		buf_adds(b, v->string.s);
		break;
	case TOML_INTEGER:
		buf_printf(b, "%lld", (long long)v->integer);
		break;
	case TOML_FLOAT:
		print_float(b, v->real);
		break;
	case TOML_BOOL:
		buf_adds(b, v->boolean ? "true" : "false");
		break;
	case TOML_ARRAY:
		buf_addc(b, '[');
		for (size_t i = 0; i < v->array.n; i++) {
			buf_adds(b, i > 0 ? ", " : "");
			print_value(b, v->array.v[i]);
		}
		buf_addc(b, ']');
		break;
	case TOML_TABLE:
		buf_addc(b, '{');
		for (size_t i = 0; i < v->table.n; i++) {
			buf_adds(b, i > 0 ? ", " : "");
			toml_quote_key(b, v->table.v[i].key);
			buf_adds(b, " = ");
			print_value(b, v->table.v[i].value);
		}
		buf_addc(b, '}');
		break;
	}
}

static void print_indent(struct buf *b, int level)
{
	for (int i = 0; i < level; i++)
		buf_adds(b, "  ");
}

/* Written with headers: a table, or an array of nothing but tables. */
static bool is_section(const struct toml_value *v)
{
	if (v->type != TOML_ARRAY || v->array.n == 0)
		return v->type == TOML_TABLE;
	for (size_t i = 0; i < v->array.n; i++)
		if (v->array.v[i]->type != TOML_TABLE)
			return false;
	return true;
}

/* Chain of keys from the root to the table being printed. */
struct header {
	const struct header *parent;
	const char *key;
	int level;
};

static void print_header_key(struct buf *b, const struct header *h)
{
	if (h->parent->key) {
		print_header_key(b, h->parent);
		buf_addc(b, '.');
	}
	toml_quote_key(b, h->key);
}

static void print_table(struct buf *b, const struct header *h, const struct toml_value *t);

static void print_section(struct buf *b, const struct header *h, const struct toml_value *t,
			  bool element)
{
	print_indent(b, h->level);
	buf_adds(b, element ? "[[" : "[");
	print_header_key(b, h);
	buf_adds(b, element ? "]]\n" : "]\n");
	print_table(b, h, t);
}

static void print_table(struct buf *b, const struct header *h, const struct toml_value *t)
{
	int level = h->level + 1;
	bool blank = false;

	for (size_t i = 0; i < t->table.n; i++) {
		const struct toml_entry *e = &t->table.v[i];

		if (is_section(e->value))
			continue;
		print_indent(b, level);
		toml_quote_key(b, e->key);
		buf_adds(b, " = ");
		print_value(b, e->value);
		buf_addc(b, '\n');
		blank = true;
	}
	for (size_t i = 0; i < t->table.n; i++) {
		const struct toml_entry *e = &t->table.v[i];
		const struct header sub = {.parent = h, .key = e->key, .level = level};
		bool array = e->value->type == TOML_ARRAY;

		if (!is_section(e->value))
			continue;
		for (size_t k = 0; k < (array ? e->value->array.n : 1); k++) {
			if (blank)
				buf_addc(b, '\n');
			blank = true;
			print_section(b, &sub, array ? e->value->array.v[k] : e->value, array);
		}
	}
}

void tree_print(struct buf *b, const struct toml_value *root)
{
	const struct header top = {.level = -1};

	print_table(b, &top, root);
}
