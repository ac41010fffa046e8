/* SPDX-License-Identifier: Apache-2.0 */
#define FRONT_LIB_NAMES /* the functions' own */
#include "worker/front_lib.h"

#include <dlfcn.h>
#include <stddef.h>

#include "base/str.h"

#define HTTP_LIBRARY "libmicrohttpd.so.12"
#define TLS_LIBRARY "libgnutls.so.30"

struct front_lib front_lib;

struct entry {
	const char *name;
	size_t at;
};

#define ENTRY(name) {#name, offsetof(struct front_lib, name)},
static const struct entry http_entries[] = {FRONT_LIB_HTTP(ENTRY)};
static const struct entry tls_entries[] = {FRONT_LIB_TLS(ENTRY)};

static int load(const char *library, const struct entry *v, size_t n, struct err *err)
{
	void *h = dlopen(library, RTLD_NOW | RTLD_LOCAL);

	if (!h)
		return err_set(err, ERR_UNAVAILABLE, "load %s: %s", library, dlerror());
	for (size_t i = 0; i < n; i++) {
		void *p = dlsym(h, v[i].name);

		if (!p)
			return err_set(err, ERR_UNAVAILABLE, "%s has no %s", library, v[i].name);
		*(void **)((char *)&front_lib + v[i].at) = p;
	}
	return 0;
}

int front_lib_load(struct err *err)
{
	int r = load(HTTP_LIBRARY, http_entries, ARRAY_LEN(http_entries), err);

	return r < 0 ? r : load(TLS_LIBRARY, tls_entries, ARRAY_LEN(tls_entries), err);
}
