/* SPDX-License-Identifier: Apache-2.0 */
/* Regular expressions as RE2 and Go write them, for yes-or-no matching.
 *
 * The expression comes from a client, so the time of a match is at most proportional to the sizes
 * of the expression and of the text: all states are followed at the same time, there is no
 * backtracking. Has: alternation, groups (plain, named, (?:), flags i m s U), * + ? {n,m} and their
 * lazy forms, classes with ranges, [:posix:] and \d \s \w, . ^ $ \A \z \b \B, \Q...\E, escapes. Has
 * not: \p{...} and \C. Any thread; a compiled expression may be shared.
 */
#pragma once

#include <stdbool.h>

#include "base/arena.h"

struct regex; /* in the arena that it was compiled into */

/* 0, -EINVAL (syntax; too large) or -ENOMEM. */
int regex_compile(struct arena *a, const char *pattern, struct regex **ret) _must_check_;
/* True when the expression matches somewhere in @text. */
bool regex_match(const struct regex *re, const char *text);
