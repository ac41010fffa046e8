/* SPDX-License-Identifier: Apache-2.0 */
/* Templates of hooks: any text against one container. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/hook_template.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	json_t *state = json_pack("{s:s,s:i,s:s,s:{s:s}}", "id", "c", "pid", 1, "bundle", "/b",
				  "annotations", "k", "v");
	json_t *spec = json_pack("{s:{s:s}}", "root", "path", "rootfs");
	struct arena *a = arena_new(0);
	char *text = a ? arena_strndup(a, (const char *)data, size) : NULL;
	const char *out = NULL;

	if (!state || !spec || !text)
		abort();
	if (hook_template_render(a, text, state, spec, &out, NULL) == 0 && !strstr(text, "{{") &&
	    strcmp(out, text) != 0)
		abort();
	arena_free(a);
	json_decref(state);
	json_decref(spec);
	return 0;
}
