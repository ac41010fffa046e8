/* SPDX-License-Identifier: Apache-2.0 */
/* Asks on the terminal for what must not be shown. */
#pragma once

#include "base/arena.h"
#include "base/err.h"

/* Prints @prompt on standard error, reads a line from standard input without echo. ^C is
 * -ERR_CANCELED, and the terminal is put back. -ERR_FAILED_PRECONDITION unless standard input is a
 * terminal. */
int read_secret(struct arena *a, const char *prompt, const char **ret,
		struct err *err) _must_check_;
