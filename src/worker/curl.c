/* SPDX-License-Identifier: Apache-2.0 */
/* libcurl, loaded when it is wanted.
 *
 * It brings 40 libraries, which take 4 ms to find, map and relocate. A worker that unpacks a layer
 * needs none of them. So the program is not linked with libcurl: here are its functions, as far as
 * the worker calls them, passing on to the real ones. curl_load() comes before all others, and
 * before the jail. */
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>

#include "base/str.h"
#include "worker/http.h"

#define LIBRARY "libcurl.so.4"

#define FUNCTIONS(X)                                                                    \
	X(easy_cleanup, void, (CURL *))                                                 \
	X(easy_escape, char *, (CURL *, const char *, int))                             \
	X(easy_getinfo, CURLcode, (CURL *, CURLINFO, ...))                              \
	X(easy_init, CURL *, (void))                                                    \
	X(easy_pause, CURLcode, (CURL *, int))                                          \
	X(easy_setopt, CURLcode, (CURL *, CURLoption, ...))                             \
	X(easy_strerror, const char *, (CURLcode))                                      \
	X(free, void, (void *))                                                         \
	X(global_init, CURLcode, (long))                                                \
	X(multi_add_handle, CURLMcode, (CURLM *, CURL *))                               \
	X(multi_cleanup, CURLMcode, (CURLM *))                                          \
	X(multi_info_read, CURLMsg *, (CURLM *, int *))                                 \
	X(multi_init, CURLM *, (void))                                                  \
	X(multi_perform, CURLMcode, (CURLM *, int *))                                   \
	X(multi_poll, CURLMcode, (CURLM *, struct curl_waitfd *, unsigned, int, int *)) \
	X(multi_remove_handle, CURLMcode, (CURLM *, CURL *))                            \
	X(multi_strerror, const char *, (CURLMcode))                                    \
	X(slist_append, struct curl_slist *, (struct curl_slist *, const char *))       \
	X(slist_free_all, void, (struct curl_slist *))                                  \
	X(url, CURLU *, (void))                                                         \
	X(url_cleanup, void, (CURLU *))                                                 \
	X(url_get, CURLUcode, (CURLU *, CURLUPart, char **, unsigned))                  \
	X(url_set, CURLUcode, (CURLU *, CURLUPart, const char *, unsigned))

#define POINTER(name, type, args) type(*name) args;
static struct {
	FUNCTIONS(POINTER)
} lib;

#define ENTRY(name, type, args) {"curl_" #name, (void **)&lib.name},
static const struct {
	const char *name;
	void **at;
} entries[] = {FUNCTIONS(ENTRY)};

int curl_load(struct err *err)
{
	void *h = lib.free ? NULL : dlopen(LIBRARY, RTLD_LAZY | RTLD_LOCAL);

	if (lib.free)
		return 0;
	if (!h)
		return err_set(err, ERR_UNAVAILABLE, "load " LIBRARY ": %s", dlerror());
	for (size_t i = 0; i < ARRAY_LEN(entries); i++) {
		void *p = dlsym(h, entries[i].name);

		if (!p)
			return err_set(err, ERR_UNAVAILABLE, LIBRARY " has no %s", entries[i].name);
		*entries[i].at = p;
	}
	return 0;
}

/* ---- the functions; names in brackets, as some are macros too ---- */

void(curl_easy_cleanup)(CURL *e)
{
	lib.easy_cleanup(e);
}

char *(curl_easy_escape)(CURL *e, const char *s, int n)
{
	return lib.easy_escape(e, s, n);
}

CURLcode(curl_easy_getinfo)(CURL *e, CURLINFO info, ...)
{
	va_list args;
	void *p;

	va_start(args, info);
	p = va_arg(args, void *); /* whatever is asked for, it is where to put it */
	va_end(args);
	return lib.easy_getinfo(e, info, p);
}

CURL *(curl_easy_init)(void)
{
	return lib.easy_init();
}

CURLcode(curl_easy_pause)(CURL *e, int bits)
{
	return lib.easy_pause(e, bits);
}

/* An option's number tells the type of its value. */
CURLcode(curl_easy_setopt)(CURL *e, CURLoption option, ...)
{
	va_list args;
	CURLcode c;

	va_start(args, option);
	if (option < CURLOPTTYPE_OBJECTPOINT)
		c = lib.easy_setopt(e, option, va_arg(args, long));
	else if (option >= CURLOPTTYPE_OFF_T && option < CURLOPTTYPE_BLOB)
		c = lib.easy_setopt(e, option, va_arg(args, curl_off_t));
	else
		c = lib.easy_setopt(e, option, va_arg(args, void *));
	va_end(args);
	return c;
}

const char *(curl_easy_strerror)(CURLcode c)
{
	return lib.easy_strerror(c);
}

void(curl_free)(void *p)
{
	lib.free(p);
}

CURLcode(curl_global_init)(long flags)
{
	return lib.global_init(flags);
}

CURLMcode(curl_multi_add_handle)(CURLM *m, CURL *e)
{
	return lib.multi_add_handle(m, e);
}

CURLMcode(curl_multi_cleanup)(CURLM *m)
{
	return lib.multi_cleanup(m);
}

CURLMsg *(curl_multi_info_read)(CURLM *m, int *left)
{
	return lib.multi_info_read(m, left);
}

CURLM *(curl_multi_init)(void)
{
	return lib.multi_init();
}

CURLMcode(curl_multi_perform)(CURLM *m, int *running)
{
	return lib.multi_perform(m, running);
}

CURLMcode(curl_multi_poll)(CURLM *m, struct curl_waitfd *v, unsigned n, int timeout_ms, int *ret)
{
	return lib.multi_poll(m, v, n, timeout_ms, ret);
}

CURLMcode(curl_multi_remove_handle)(CURLM *m, CURL *e)
{
	return lib.multi_remove_handle(m, e);
}

const char *(curl_multi_strerror)(CURLMcode c)
{
	return lib.multi_strerror(c);
}

struct curl_slist *(curl_slist_append)(struct curl_slist *l, const char *s)
{
	return lib.slist_append(l, s);
}

void(curl_slist_free_all)(struct curl_slist *l)
{
	lib.slist_free_all(l);
}

CURLU *(curl_url)(void)
{
	return lib.url();
}

void(curl_url_cleanup)(CURLU *u)
{
	lib.url_cleanup(u);
}

CURLUcode(curl_url_get)(CURLU *u, CURLUPart part, char **ret, unsigned flags)
{
	return lib.url_get(u, part, ret, flags);
}

CURLUcode(curl_url_set)(CURLU *u, CURLUPart part, const char *s, unsigned flags)
{
	return lib.url_set(u, part, s, flags);
}
