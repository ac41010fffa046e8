/* SPDX-License-Identifier: Apache-2.0 */
/* The shim's command line, as Go's flag package reads it: -x V, -x=V, --x V, --x=V; flags end at
 * the first other word. */
#pragma once

#include <stdbool.h>

#include "base/err.h"

struct shim_args {
	const char *ns;
	const char *id;
	const char *address;
	const char *publish_binary;
	const char *bundle;
	const char *socket;
	bool debug;
	bool info;
	bool version;
	const char *action; /* "" when none */
};

/* Strings point into @argv. -ERR_INVALID_ARGUMENT. */
int shim_args_parse(int argc, char *const *argv, struct shim_args *ret,
		    struct err *err) _must_check_;
