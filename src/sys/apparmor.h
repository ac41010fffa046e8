/* SPDX-License-Identifier: Apache-2.0 */
/* The default AppArmor profile of containers: made here, loaded by apparmor_parser. */
#pragma once

#include <stdbool.h>

#include "base/ctx.h"

/* Whether the kernel enforces AppArmor. */
bool apparmor_enabled(void);
/* The profile's text, for @name. In @a; NULL = no memory. */
char *apparmor_profile_text(struct arena *a, const char *name);
/* Loads the default profile as @name unless the kernel has one of that name.
 * -ERR_NOT_FOUND: there is no apparmor_parser. */
int apparmor_profile_ensure(struct ctx *ctx, const char *name, struct err *err) _must_check_;
