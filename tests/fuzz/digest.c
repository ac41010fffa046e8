/* SPDX-License-Identifier: Apache-2.0 */
/* A digest's text: what validates must be what its parts make, and name a file. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/digest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	char *text = arena_strndup(a, (const char *)data, size), *again;
	struct err err = ERR_INIT;

	if (digest_validate(text, &err) < 0) {
		if (err.kind != ERR_INVALID_ARGUMENT)
			abort();
		return 0;
	}
	again = arena_printf(a, "%s:%s", digest_alg_name(digest_alg(text)), digest_hex(text));
	if (strcmp(again, text) != 0 || strlen(text) >= DIGEST_TEXT_MAX ||
	    strpbrk(digest_hex(text), "/."))
		abort();
	return 0;
}
