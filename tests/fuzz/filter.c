/* SPDX-License-Identifier: Apache-2.0 */
/* A filter of arbitrary bytes, parsed and matched against an object that has every field. The first
 * half of the input, cut at the first line break, is the filter, the rest the value of the fields;
 * and the same bytes as a regular expression. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/filter.h"
#include "core/regex.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ARENA_LIMIT (64u << 20)
#define INPUT_MAX 4096

static const char *field(const void *obj, const char *const *path, size_t n)
{
	if (n == 0 || strlen(path[n - 1]) > INPUT_MAX)
		abort();
	return strcmp(path[0], "absent") == 0 ? NULL : obj;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_arena_ struct arena *a = arena_new(ARENA_LIMIT);
	struct err err = ERR_INIT;
	struct regex *re;
	struct filter *f;
	char *text, *value;
	int rc;

	if (size > INPUT_MAX)
		return 0;
	text = arena_strndup(a, (const char *)data, size);
	value = strchr(text, '\n');
	if (value)
		*value++ = 0;
	else
		value = text;
	rc = filter_parse(a, (const char *const[]){text}, 1, &f, &err);
	if (rc == 0) {
		filter_match(f, field, value);
		filter_free(f);
	} else if (err.kind != ERR_INVALID_ARGUMENT && err.kind != ERR_RESOURCE_EXHAUSTED) {
		abort();
	}
	if (regex_compile(a, text, &re) == 0)
		regex_match(re, value);
	return 0;
}
