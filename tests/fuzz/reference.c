/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzz target: any text is a reference or an error with a message. What is accepted consists of its
 * parts, has none that could escape from a path or a URL, and is its own normal form. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "oci/platform.h"
#include "oci/reference.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(struct arena *a, const char *text, const struct reference *r)
{
	char *again =
		arena_printf(a, "%s%s%s", r->locator, *r->object == '@' ? "" : ":", r->object);

	if (again && !streq(again, text))
		abort();
	if (strpbrk(r->repository, " \t\r\n?#%\\:@") || str_has_prefix(r->repository, "/") ||
	    str_has_suffix(r->repository, "/") || strstr(r->repository, "//") ||
	    str_has_prefix(r->repository, "../") || strstr(r->repository, "/../"))
		abort();
	if (strpbrk(r->host, "/@ \n") || strpbrk(r->tag, "/:@ \n"))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	struct err err = ERR_INIT;
	struct platform platform;
	struct reference r;
	char *text, *full, *twice;

	if (!a || !(text = arena_strndup(a, (const char *)data, size)))
		return 0;
	if (reference_parse(a, text, &r, &err) == 0)
		check(a, text, &r);
	else if (err.kind == 0 || !err.text[0])
		abort();
	if (reference_normalize(a, text, &full, &err) == 0) {
		if (reference_parse(a, full, &r, &err) < 0 ||
		    reference_normalize(a, full, &twice, &err) < 0 || !streq(full, twice))
			abort();
		check(a, full, &r);
	}
	if (platform_parse(a, text, &platform, &err) == 0)
		if (platform_rank(&platform, &platform) != 0 || !platform_format(a, &platform))
			abort();
	return 0;
}
