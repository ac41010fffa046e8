/* SPDX-License-Identifier: Apache-2.0 */
/* Image references: `host[:port]/repository[:tag][@digest]`. Any thread; results live in the arena.
 */
#pragma once

#include "base/arena.h"
#include "base/err.h"

struct reference {
	const char *host;	/* docker.io, localhost:5000, [::1]:5000 */
	const char *repository; /* library/busybox */
	const char *locator;	/* host/repository */
	const char *object;	/* latest, @sha256:..., latest@sha256:... */
	const char *tag;	/* "" when none */
	const char *digest;	/* "" when none */
};

/* Takes a full reference apart: nothing is added to it.
 *
 * -ERR_INVALID_ARGUMENT  `invalid reference format`, or `object required` when there is neither tag
 * nor digest */
int reference_parse(struct arena *a, const char *text, struct reference *ret,
		    struct err *err) _must_check_;

/* What people type, as a full reference: `busybox` becomes docker.io/library/busybox:latest.
 * -ERR_INVALID_ARGUMENT. */
int reference_normalize(struct arena *a, const char *text, char **ret,
			struct err *err) _must_check_;
