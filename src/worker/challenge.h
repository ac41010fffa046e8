/* SPDX-License-Identifier: Apache-2.0 */
/* WWW-Authenticate values (RFC 9110, 11.6.1). */
#pragma once

#include "base/arena.h"
#include "base/labels.h"

struct challenge {
	const char *scheme;   /* lower case: "bearer", "basic" */
	struct labels params; /* names in lower case */
};

struct challenges {
	struct challenge *v;
	size_t n;
};

/* Appends the challenges of one header value; what cannot be understood is left out. 0 or -ENOMEM.
 */
int challenges_parse(struct arena *a, const char *value, struct challenges *ret);
/* The first of this scheme, or NULL. */
const struct challenge *challenges_find(const struct challenges *c, const char *scheme);
