/* SPDX-License-Identifier: Apache-2.0 */
/* Listening TCP sockets, by addresses as configurations write them. */
#pragma once

#include "base/err.h"

/* @address: "127.0.0.1:1338", "[::1]:1338", "localhost:1338", ":1338" (all interfaces, of both
 * families); port 0 is any. A name is looked up. Close-on-exec.
 *
 * -ERR_INVALID_ARGUMENT the address; -ERR_NOT_FOUND the name; else what the system said */
int tcp_listen(const char *address, int *ret_fd, struct err *err) _must_check_;

/* Port of a listening TCP socket; -errno. */
int tcp_port(int fd);
