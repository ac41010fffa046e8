/* SPDX-License-Identifier: Apache-2.0 */
/* Platforms: what an image was built for, and what a host can run. Texts read
 * `os[(version)]/arch[/variant]`. Any thread; results point into the arena, into the arguments or
 * to constants, so they live as long as the shortest of these. */
#pragma once

#include "oci/descriptor.h"

/* A single word is an operating system or an architecture; the host gives the rest.
 * -ERR_INVALID_ARGUMENT. */
int platform_parse(struct arena *a, const char *text, struct platform *ret,
		   struct err *err) _must_check_;
/* One name for each thing: x86_64 becomes amd64, aarch64 arm64, armhf arm/v7; variants that are
 * implied are dropped (arm64/v8) or added (arm/v7). NULL members count as "". -ENOMEM. */
int platform_normalize(struct arena *a, const struct platform *p, struct platform *ret);
/* Of the running kernel and processor, normalized. */
int platform_host(struct arena *a, struct platform *ret);
/* `os/arch/variant`, with the version where there is one; NULL = no memory. */
char *platform_format(struct arena *a, const struct platform *p);

/* How well an image for @have runs where @want is wanted: 0 best, more is worse, -1 not at all.
 * Both are normalized on the way. amd64 runs lower levels and 386; arm64 lower versions and 32-bit
 * arm; arm lower versions down to v5. */
int platform_rank(const struct platform *want, const struct platform *have);
