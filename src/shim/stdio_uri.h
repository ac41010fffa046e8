/* SPDX-License-Identifier: Apache-2.0 */
/* What a task's stdin, stdout and stderr name: a fifo by its path, or a URI. */
#pragma once

#include "base/arena.h"
#include "base/err.h"

/* STDIO_K8S_LOG is a scheme of this project's own, between its daemon and its shim:
 * k8slog://<socket to attach to>?log=<file>&max=<bytes of a line>. */
enum stdio_kind { STDIO_NULL, STDIO_FIFO, STDIO_FILE, STDIO_BINARY, STDIO_K8S_LOG };

struct stdio_uri {
	enum stdio_kind kind;
	bool must_say_ready; /* binary-v2: the logger has to write a byte */
	char *path;	     /* decoded */
	char **args; /* binary: key, value, key, value, ..., NULL; first value of each key */
	size_t n_args;
	const char *log; /* Kubernetes' log: "" = none */
	int64_t max;	 /* the same: <= 0 = no limit */
};

/* In the arena. "" gives STDIO_NULL. -ERR_INVALID_ARGUMENT for what cannot be decoded, -ERR_UNKNOWN
 * "unknown STDIO scheme X". */
int stdio_uri_parse(struct arena *a, const char *text, struct stdio_uri *ret,
		    struct err *err) _must_check_;
