/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzz target: any bytes are a hosts.toml or an error with a message. What is accepted ends in the
 * registry itself, and no host has an address that could not be part of a URL. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "core/hosts.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const names[] = {"docker.io", "localhost:5000", "[::1]:5000"};
	_cleanup_arena_ struct arena *a = arena_new(0);

	if (!a)
		return 0;
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		struct err err = ERR_INIT;
		struct hosts hosts = {0};

		if (hosts_parse(a, (const char *)data, size, NULL, names[i], "", &hosts, &err) <
		    0) {
			if (err.kind == 0 || !err.text[0])
				abort();
			continue;
		}
		if (hosts.n == 0)
			abort();
		for (size_t k = 0; k < hosts.n; k++) {
			const struct fetch_host *h = &hosts.v[k];

			if (!streq(h->scheme, "http") && !streq(h->scheme, "https"))
				abort();
			if (!h->host[0] || strpbrk(h->host, "/ \r\n") || strpbrk(h->path, " \r\n"))
				abort();
		}
	}
	return 0;
}
