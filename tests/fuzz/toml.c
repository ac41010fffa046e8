/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzz target: any bytes either parse or fail with a message; a tree can be walked and its strings
 * and keys written again. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/toml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void walk(struct arena *a, const struct toml_value *v, struct buf *out)
{
	switch (v->type) {
	case TOML_STRING:
		toml_quote(out, v->string.s);
		break;
	case TOML_ARRAY:
		for (size_t i = 0; i < v->array.n; i++)
			walk(a, v->array.v[i], out);
		break;
	case TOML_TABLE:
		for (size_t i = 0; i < v->table.n; i++) {
			const struct toml_entry *e = &v->table.v[i];

			if (toml_get(v, e->key) != e->value)
				abort();
			toml_quote_key(out, e->key);
			walk(a, e->value, out);
		}
		break;
	default:
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	_cleanup_buf_ struct buf out = BUF_INIT;
	struct toml_value *tree;
	struct err err = ERR_INIT;

	if (!a)
		return 0;
	if (toml_parse(a, (const char *)data, size, &tree, &err) < 0) {
		if (err.kind == 0 || !err.text[0])
			abort();
		return 0;
	}
	walk(a, tree, &out);
	return 0;
}
