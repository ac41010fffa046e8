/* SPDX-License-Identifier: Apache-2.0 */
#include "cri/io_flow.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"

static void drop(int *fd)
{
	if (*fd >= 0)
		close(TAKE_FD(*fd));
}

int cri_flow_start(struct cri_flow *f, int src, int dst, bool is_input, uint64_t limit)
{
	*f = (struct cri_flow){.src = src,
			       .dst = dst,
			       .is_input = is_input,
			       .room = limit ? limit : UINT64_MAX,
			       .buf = malloc(CRI_FLOW_BUF)};
	if (!f->buf) {
		cri_flow_done(f);
		return -ENOMEM;
	}
	/* A file cannot be made so, and need not. */
	if (src >= 0)
		(void)fd_set_nonblock(src, true);
	if (dst >= 0)
		(void)fd_set_nonblock(dst, true);
	return 0;
}

void cri_flow_done(struct cri_flow *f)
{
	drop(&f->src);
	drop(&f->dst);
	free(f->buf);
	*f = CRI_FLOW_INIT;
}

void cri_flow_poll(struct cri_flow *f, struct pollfd *v, nfds_t *n)
{
	f->src_poll = f->dst_poll = NULL;
	if (f->dst >= 0) {
		f->dst_poll = &v[*n];
		v[(*n)++] = (struct pollfd){.fd = f->dst, .events = f->len ? POLLOUT : 0};
	}
	if (f->src >= 0 && !f->len) {
		f->src_poll = &v[*n];
		v[(*n)++] = (struct pollfd){.fd = f->src, .events = POLLIN};
	}
}

static void dst_broken(struct cri_flow *f)
{
	drop(&f->dst);
	f->len = 0;
	if (f->is_input)
		drop(&f->src);
}

void cri_flow_write(struct cri_flow *f)
{
	while (f->len) {
		ssize_t n = f->dst < 0 ? (ssize_t)f->len : write(f->dst, f->buf + f->off, f->len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			dst_broken(f);
			break;
		}
		f->off += (size_t)n;
		f->len -= (size_t)n;
	}
	f->off = 0;
	if (f->src < 0 && !f->keep)
		drop(&f->dst);
}

static void src_read(struct cri_flow *f)
{
	ssize_t n = read(f->src, f->buf, CRI_FLOW_BUF);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		drop(&f->src);
		drop(&f->dst);
		return;
	}
	f->off = 0;
	f->len = (uint64_t)n < f->room ? (size_t)n : (size_t)f->room;
	f->room -= f->len;
	cri_flow_write(f);
}

void cri_flow_step(struct cri_flow *f)
{
	short src = f->src_poll ? f->src_poll->revents : 0;
	short dst = f->dst_poll ? f->dst_poll->revents : 0;

	if (dst & (POLLERR | POLLHUP | POLLNVAL))
		dst_broken(f);
	else if (dst & POLLOUT)
		cri_flow_write(f);
	if (src && f->src >= 0 && !f->len)
		src_read(f);
}
