/* SPDX-License-Identifier: Apache-2.0 */
/* What the shim reads from a bundle's config.json (mapped, scanned in place) and how it prepares an
 * exec's process document. */
#pragma once

#include <stdbool.h>

#include "base/err.h"
#include "shim/jscan.h"

/* Value of the first of @keys (NULL-terminated) that is an annotation of @path's config.json, into
 * @out. 1 = found, 0 = none, -errno. */
int bundle_annotation(const char *bundle, const char *const *keys, char *out, size_t cap);
/* Whether the container has a PID namespace of its own: then all its processes end with the first
 * one. False when unsure. */
bool bundle_has_private_pidns(const char *bundle);
/* PID in a file that the runtime wrote. 0 or -errno. */
int bundle_pid_read(const char *path, int *ret);
/* The process document with "terminal" set as asked for. -EINVAL when it is no JSON object,
 * -ENOMEM. */
int process_with_terminal(struct jspan doc, bool terminal, struct buf *out);
