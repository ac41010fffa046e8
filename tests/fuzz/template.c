/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzz target: any text is a template, or an error that says why; what is one gives text for a row
 * or names a field that the row has not. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "ctr/template.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	json_t *row _cleanup_json_ = json_loads(
		"{\"Name\":\"n\",\"Size\":7,\"List\":[\"x\",{}],\"Labels\":{\"a.b\":\"v\"},"
		"\"None\":null}",
		0, NULL);
	struct buf out _cleanup_buf_ = BUF_INIT;
	struct err err = ERR_INIT;
	struct format *t;
	char *text;

	if (!a || !row || !(text = arena_strndup(a, (const char *)data, size)))
		return 0;
	if (template_parse(a, text, &t, &err) < 0) {
		if (!err.kind || !err.text[0])
			abort();
		return 0;
	}
	if (template_render(t, row, &out, &err) < 0 && (!err.kind || !err.text[0]))
		abort();
	if (template_headings(t, &out) < 0)
		abort();
	return 0;
}
