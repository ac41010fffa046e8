/* SPDX-License-Identifier: Apache-2.0 */
/* Commands of the program `containerd` that do not run a daemon. @args: what follows the command's
 * name, NULL-terminated. */
#pragma once

#include "base/err.h"

/* `publish [--namespace N] [--topic T]`: the google.protobuf.Any on standard input as an event, to
 * the daemon at @address. */
int command_publish(const char *address, char **args, struct err *err) _must_check_;
/* `oci-hook COMMAND [ARG...]`: becomes the command, with its templates filled in. Returns when that
 * fails only. */
int command_oci_hook(char **args, struct err *err) _must_check_;
