/* SPDX-License-Identifier: Apache-2.0 */
#include "sys/attach.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/path.h"

int attach_request_parse(const void *p, size_t n, struct attach_request *ret)
{
	const unsigned char *b = p;

	if (n == 2 && b[0] == ATTACH_BEGIN && b[1] <= (ATTACH_STREAM(0) | ATTACH_STREAM(1))) {
		*ret = (struct attach_request){.kind = ATTACH_BEGIN, .streams = b[1]};
		return 0;
	}
	if (n == 1 && b[0] == ATTACH_REOPEN) {
		*ret = (struct attach_request){.kind = ATTACH_REOPEN};
		return 0;
	}
	return -EPROTO;
}

size_t attach_answer(const struct attach_request *q, int error, char out[ATTACH_REQUEST_MAX])
{
	int32_t number = error;

	out[0] = q->kind;
	if (q->kind == ATTACH_BEGIN) {
		out[1] = (char)q->streams;
		return 2;
	}
	memcpy(out + 1, &number, sizeof(number));
	return 1 + sizeof(number);
}

/* ---- sockets ---- */

/* A name of any length, through a descriptor of its directory, which has to stay open. */
static int address(const char *path, struct sockaddr_un *ret, int *ret_dir)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	char *dir = a ? path_dir(a, path) : NULL;
	int n;

	if (!dir)
		return -ENOMEM;
	*ret_dir = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (*ret_dir < 0)
		return -errno;
	*ret = (struct sockaddr_un){.sun_family = AF_UNIX};
	n = snprintf(ret->sun_path, sizeof(ret->sun_path), "/proc/self/fd/%d/%s", *ret_dir,
		     path_base(path));
	return n < (int)sizeof(ret->sun_path) ? 0 : -ENAMETOOLONG;
}

static void queue_set(int fd)
{
	int bytes = ATTACH_QUEUE_MAX;

	if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes)) < 0)
		(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
}

static int socket_new(int *ret)
{
	*ret = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (*ret < 0)
		return -errno;
	return 0;
}

int attach_listen(const char *path, int *ret_fd)
{
	_cleanup_close_ int fd = -1, dir = -1;
	struct sockaddr_un sa;
	int r = address(path, &sa, &dir);

	if (r == 0)
		r = socket_new(&fd);
	if (r < 0)
		return r;
	if (unlink(sa.sun_path) < 0 && errno != ENOENT)
		return -errno;
	/* The mode of the name is that of the descriptor. */
	if (fchmod(fd, 0600) < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 ||
	    listen(fd, 64) < 0)
		return -errno;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

int attach_connect(const char *path, int *ret_fd)
{
	_cleanup_close_ int fd = -1, dir = -1;
	struct sockaddr_un sa;
	int r = address(path, &sa, &dir);

	if (r == 0)
		r = socket_new(&fd);
	if (r < 0)
		return r;
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		return -errno;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

int attach_accept(int listen_fd, int *ret_fd)
{
	int fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0)
		return -errno;
	queue_set(fd);
	*ret_fd = fd;
	return 0;
}

int attach_pair(int ret[2])
{
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ret) < 0)
		return -errno;
	queue_set(ret[0]);
	return 0;
}

/* ---- output ---- */

static int packet_send(int fd, const void *head, size_t n_head, const void *p, size_t n)
{
	struct iovec v[] = {{(void *)head, n_head}, {(void *)p, n}};
	struct msghdr m = {.msg_iov = v, .msg_iovlen = 2};

	for (;;) {
		if (sendmsg(fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
			return 0;
		if (errno != EINTR)
			return errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM ? -EAGAIN
										      : -EPIPE;
	}
}

int attach_send(struct attach_reader *r, int stream, const void *p, size_t n)
{
	char kind = stream ? ATTACH_STDERR : ATTACH_STDOUT;
	int e;

	if (!(r->streams & ATTACH_STREAM(stream)) || !n)
		return 0;
	if (r->skipped) {
		char note[64];
		int k = snprintf(note, sizeof(note), "%c\r\n[%llu bytes left out]\r\n", kind,
				 (unsigned long long)r->skipped);

		e = packet_send(r->fd, note, (size_t)k, NULL, 0);
		if (e == 0)
			r->skipped = 0;
		else if (e == -EPIPE)
			return e;
	}
	e = r->skipped ? -EAGAIN : packet_send(r->fd, &kind, 1, p, n);
	if (e != -EAGAIN)
		return e;
	if (!r->skip)
		return -EPIPE;
	r->skipped += n;
	return 0;
}
