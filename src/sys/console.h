/* SPDX-License-Identifier: Apache-2.0 */
/* Terminals of containers: the OCI runtime makes the pty inside the container and sends its master
 * over a unix socket
 * (--console-socket). All return 0 or -errno. */
#pragma once

#include <stddef.h>

#define CONSOLE_PATH_MAX 64

/* A listening socket in a directory of its own (0700, below $TMPDIR or /tmp). */
struct console_socket {
	char dir[CONSOLE_PATH_MAX];
	char path[CONSOLE_PATH_MAX + 16];
	int fd;
};

#define CONSOLE_SOCKET_INIT ((struct console_socket){.fd = -1})

int console_socket_open(struct console_socket *ret);
/* The master that the runtime sent; never blocks. -EAGAIN when nothing came, -EPROTO when a message
 * came without a terminal.
 * *@ret_master is non-blocking, close-on-exec and the caller's. */
int console_socket_receive(struct console_socket *cs, int *ret_master);
/* Closes and removes; nothing to do when it is not open. */
void console_socket_done(struct console_socket *cs);

int console_resize(int master, unsigned width, unsigned height);
