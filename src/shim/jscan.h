/* SPDX-License-Identifier: Apache-2.0 */
/* Reading JSON in place: no tree, no heap. For the few members that the shim needs out of
 * config.json, of the runtime's log and of its process list, in a server that must stay small.
 *
 * A value is a span of the text. The scanner checks what it walks over, not the whole document (the
 * OCI runtime does that); it never reads outside the span and needs no stack for depth.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

struct jspan {
	const char *p;
	size_t n;
};

/* The first value of a text (leading white space is skipped; what follows is ignored). -EINVAL. */
int jscan_value(const char *p, size_t n, struct jspan *ret);

/* Iterates the members of an object, or the items of an array. *@pos starts at 0. 1 = got one, 0 =
 * end, -EINVAL.
 * @ret_key is the key's span with its quotes. */
int jscan_next_member(struct jspan object, size_t *pos, struct jspan *ret_key,
		      struct jspan *ret_value);
int jscan_next_item(struct jspan array, size_t *pos, struct jspan *ret);

/* Value of a member: 1 = found (the last of equal keys, as Go decides), 0 = absent, -EINVAL = no
 * object or malformed. */
int jscan_member(struct jspan object, const char *key, struct jspan *ret);

static inline bool jscan_is_string(struct jspan v)
{
	return v.n >= 2 && v.p[0] == '"';
}

/* Decodes a string into @out with a NUL. -EINVAL (also when there is a NUL inside: it would end
 * there), -ENAMETOOLONG when it does not fit. */
int jscan_string(struct jspan v, char *out, size_t cap);
bool jscan_string_is(struct jspan v, const char *s);
int jscan_int(struct jspan v, int64_t *ret);

/* Appends @s as a JSON string with its quotes. */
int jscan_quote(struct buf *b, const char *s);
