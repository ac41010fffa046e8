/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzz target: any text is a place for a task's stream or an error with a message. What is accepted
 * has a path unless it is nothing, and arguments in pairs, each key once, for loggers only. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "shim/stdio_uri.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void check_args(const struct stdio_uri *u)
{
	check(u->n_args % 2 == 0);
	check(u->n_args == 0 || u->kind == STDIO_BINARY || u->kind == STDIO_K8S_LOG);
	for (size_t i = 0; i < u->n_args; i += 2) {
		check(u->args[i] && u->args[i + 1]);
		for (size_t k = i + 2; k < u->n_args; k += 2)
			check(!streq(u->args[i], u->args[k]));
	}
	if (u->args)
		check(!u->args[u->n_args]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	struct stdio_uri u = {.kind = STDIO_NULL};
	struct err err = ERR_INIT;
	char *text = a ? arena_strndup(a, (const char *)data, size) : NULL;

	if (!text)
		return 0;
	if (stdio_uri_parse(a, text, &u, &err) < 0) {
		check(err.kind != 0 && err.text[0]);
		return 0;
	}
	check((u.kind == STDIO_NULL) == !*text);
	check(u.kind == STDIO_NULL || (u.path && *u.path));
	check(!u.must_say_ready || u.kind == STDIO_BINARY);
	/* A plain path is taken as it is. */
	if (u.kind != STDIO_NULL && !strstr(text, "://"))
		check(u.kind == STDIO_FIFO && streq(u.path, text));
	if (u.kind == STDIO_K8S_LOG)
		check(!*u.log || *u.log == '/');
	check_args(&u);
	return 0;
}
