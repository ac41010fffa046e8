/* SPDX-License-Identifier: Apache-2.0 */
/* A pump waits either for its source or for its destination, never for both: the other descriptor
 * is not in epoll then, because a pipe that has hung up would be reported without end. */
#include "shim/pump.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"

#define CHUNK 8192
#define SPLICE_MAX (1u << 20)
#define ROUNDS 16 /* before others get their turn */

enum step { MOVED, WAIT_SRC, WAIT_DST, ENDED };

static void on_event(struct loop_source *s, int fd, uint32_t events, void *arg);

static void close_all(struct pump *p)
{
	loop_source_free(p->src_source);
	loop_source_free(p->dst_source);
	if (p->src >= 0)
		close(p->src);
	if (p->dst >= 0)
		close(p->dst);
	free(p->pend);
	p->src_source = p->dst_source = NULL;
	p->src = p->dst = -1;
	p->pend = NULL;
	p->pend_len = 0;
	p->running = false;
}

void pump_stop(struct pump *p)
{
	if (p->running)
		close_all(p);
}

/* Writes; what does not fit is kept. */
static enum step put(struct pump *p, const char *data, size_t n)
{
	while (n > 0) {
		ssize_t w = write(p->dst, data, n);

		if (w > 0) {
			data += w;
			n -= (size_t)w;
			p->moved += (uint64_t)w;
		} else if (w < 0 && errno == EINTR) {
			continue;
		} else if (w < 0 && errno == EAGAIN) {
			char *keep = p->pend ? p->pend : malloc(CHUNK);

			if (!keep)
				return ENDED;
			memmove(keep, data, n);
			p->pend = keep;
			p->pend_len = n;
			return WAIT_DST;
		} else if (p->file) {
			/* A full disk must not stop the process that logs: this piece is lost. */
			if (!p->noted)
				log_warn("write output to a file: %s", strerror(errno));
			p->noted = true;
			return MOVED;
		} else {
			return ENDED;
		}
	}
	free(p->pend);
	p->pend = NULL;
	p->pend_len = 0;
	return MOVED;
}

static enum step copy_step(struct pump *p)
{
	char chunk[CHUNK];
	ssize_t n;

	if (p->pend_len)
		return put(p, p->pend, p->pend_len);
	n = read(p->src, chunk, sizeof(chunk));
	if (n < 0)
		return errno == EAGAIN ? WAIT_SRC : errno == EINTR ? MOVED : ENDED;
	if (n == 0)
		return ENDED;
	if (p->dst >= 0)
		return put(p, chunk, (size_t)n);
	p->moved += (uint64_t)n;
	return MOVED;
}

static enum step splice_step(struct pump *p)
{
	ssize_t n =
		splice(p->src, NULL, p->dst, NULL, SPLICE_MAX, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);

	if (n > 0) {
		p->moved += (uint64_t)n;
		return MOVED;
	}
	if (n == 0)
		return ENDED;
	if (errno == EINTR)
		return MOVED;
	if (errno == EINVAL || errno == ENOSYS) {
		p->copy = true;
		return MOVED;
	}
	if (errno != EAGAIN)
		return ENDED;

	/* Which of the two was it? */
	struct pollfd pfd = {.fd = p->src, .events = POLLIN};

	return poll(&pfd, 1, 0) > 0 ? WAIT_DST : WAIT_SRC;
}

static int wait_for(struct pump *p, bool dst)
{
	struct loop_source **on = dst ? &p->dst_source : &p->src_source;
	struct loop_source **off = dst ? &p->src_source : &p->dst_source;

	loop_source_free(*off);
	*off = NULL;
	if (*on)
		return 0;
	return loop_add_fd(p->loop, dst ? p->dst : p->src, dst ? EPOLLOUT : EPOLLIN, on_event, p,
			   on);
}

static void finish(struct pump *p)
{
	close_all(p);
	if (p->fn)
		p->fn(p->arg);
}

static void on_event(struct loop_source *s, int fd, uint32_t events, void *arg)
{
	struct pump *p = arg;
	enum step step = MOVED;

	for (int i = 0; i < ROUNDS && step == MOVED; i++)
		step = p->copy ? copy_step(p) : splice_step(p);
	if (step == ENDED || (step == WAIT_DST && wait_for(p, true) < 0) ||
	    (step == WAIT_SRC && wait_for(p, false) < 0))
		finish(p);
	/* MOVED: more to do; the source that called us is still armed. */
}

int pump_start(struct pump *p, struct loop *l, int src, int dst, pump_fn fn, void *arg)
{
	struct stat st;
	int r = 0;

	*p = (struct pump){
		.loop = l, .src = src, .dst = dst, .running = true, .fn = fn, .arg = arg};
	if (dst >= 0) {
		if (fstat(dst, &st) < 0)
			r = -errno;
		else
			p->file = S_ISREG(st.st_mode);
	}
	p->copy = dst < 0 || p->file || isatty(src) || isatty(dst);
	if (r == 0)
		r = fd_set_nonblock(src, true);
	if (r == 0 && dst >= 0 && !p->file)
		r = fd_set_nonblock(dst, true);
	if (r == 0)
		r = wait_for(p, false);
	if (r < 0)
		close_all(p);
	return r;
}
