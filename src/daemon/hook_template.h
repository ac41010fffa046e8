/* SPDX-License-Identifier: Apache-2.0 */
/* The templates of `containerd oci-hook`: calls in double braces, as Go's text/template writes them
 * ({{id}}, {{bundle}}, {{rootfs}}, {{pid}}, {{status}}, {{annotation "key"}}). Everything else of
 * that language is refused. */
#pragma once

#include "base/arena.h"
#include "base/err.h"
#include "base/json.h"

/* Replaces the calls in @text by what @state, the OCI state, and @spec, the bundle's config.json,
 * say. *@ret is in the arena. -ERR_INVALID_ARGUMENT names the call. */
int hook_template_render(struct arena *a, const char *text, const json_t *state, const json_t *spec,
			 const char **ret, struct err *err) _must_check_;
