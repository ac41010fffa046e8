/* SPDX-License-Identifier: Apache-2.0 */
#include "sys/console.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#include "base/cleanup.h"

static int dir_make(char out[CONSOLE_PATH_MAX])
{
	const char *tmp = getenv("TMPDIR");
	int n = -1;

	if (tmp && tmp[0] == '/')
		n = snprintf(out, CONSOLE_PATH_MAX, "%s/ctrd-pty-XXXXXX", tmp);
	if (n < 0 || n >= CONSOLE_PATH_MAX)
		snprintf(out, CONSOLE_PATH_MAX, "/tmp/ctrd-pty-XXXXXX");
	return mkdtemp(out) ? 0 : -errno;
}

int console_socket_open(struct console_socket *ret)
{
	struct console_socket cs = CONSOLE_SOCKET_INIT;
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int r = dir_make(cs.dir);

	if (r < 0)
		return r;
	snprintf(cs.path, sizeof(cs.path), "%s/pty.sock", cs.dir);
	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", cs.path);
	cs.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (cs.fd < 0 || bind(cs.fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 ||
	    listen(cs.fd, 1) < 0) {
		r = -errno;
		console_socket_done(&cs);
		rmdir(cs.dir);
		return r;
	}
	*ret = cs;
	return 0;
}

static int fd_receive(int conn, int *ret_fd)
{
	char data[512], control[CMSG_SPACE(4 * sizeof(int))];
	struct iovec iov = {data, sizeof(data)};
	struct msghdr m = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = control,
			   .msg_controllen = sizeof(control)};
	int fd = -1;

	if (recvmsg(conn, &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT) < 0)
		return -errno;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t off = 0; off + sizeof(int) <= c->cmsg_len - CMSG_LEN(0);
		     off += sizeof(int)) {
			int one;

			memcpy(&one, CMSG_DATA(c) + off, sizeof(one));
			if (fd < 0)
				fd = one;
			else
				close(one);
		}
	}
	if (fd < 0)
		return -EPROTO;
	*ret_fd = fd;
	return 0;
}

int console_socket_receive(struct console_socket *cs, int *ret_master)
{
	_cleanup_close_ int conn = accept4(cs->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	_cleanup_close_ int fd = -1;
	struct termios t;
	int r, flags;

	if (conn < 0)
		return -errno;
	r = fd_receive(conn, &fd);
	if (r < 0)
		return r;
	if (tcgetattr(fd, &t) < 0)
		return -EPROTO;
	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	*ret_master = TAKE_FD(fd);
	return 0;
}

void console_socket_done(struct console_socket *cs)
{
	if (cs->fd < 0)
		return;
	close(cs->fd);
	cs->fd = -1;
	unlink(cs->path);
	rmdir(cs->dir);
}

int console_resize(int master, unsigned width, unsigned height)
{
	struct winsize ws = {.ws_row = (unsigned short)(height > 65535 ? 65535 : height),
			     .ws_col = (unsigned short)(width > 65535 ? 65535 : width)};

	return ioctl(master, TIOCSWINSZ, &ws) < 0 ? -errno : 0;
}
