/* SPDX-License-Identifier: Apache-2.0 */
/* The body of a manifest or blob into the daemon's pipe. Nothing is written beyond the size that
 * the descriptor promises.
 *
 * The pipe carries nothing but the blob's bytes. Where they do not follow each other, because a
 * server could not resume, the daemon is told how many came before and answers when it has taken
 * those; until then the transfer rests. It rests, too, while the pipe is full. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/time.h"
#include "worker/session.h"

static int64_t limit(const struct call *c)
{
	if (c->end >= 0)
		return c->end;
	if (c->size >= 0)
		return c->size;
	return c->steps[c->step].manifests ? MANIFEST_MAX : INT64_MAX;
}

void blob_restart(struct call *c)
{
	if (c->off == 0)
		return;
	c->off = 0;
	c->restarting = true;
	session_send(c->s, json_pack("{s:I,s:I}", "id", (json_int_t)c->id, "restart",
				     (json_int_t)c->piped));
}

void blob_restarted(struct call *c)
{
	c->restarting = false;
	if (c->transfer)
		http_resume(c->transfer);
}

bool blob_on_body(void *arg, const struct http_reply *r)
{
	struct call *c = arg;
	int64_t total = r->length;

	if (r->status == 206) {
		if (r->range_start != c->asked)
			err_set(&c->sink_err, ERR_UNKNOWN,
				"server sent bytes from %lld when asked for %lld",
				(long long)r->range_start, (long long)c->asked);
		total = r->range_size >= 0		   ? r->range_size
			: r->length < 0			   ? -1
			: r->length > INT64_MAX - c->asked ? INT64_MAX
							   : r->length + c->asked;
	}
	/* Nobody reads a gigabyte to find that it is the wrong one. */
	if (!c->sink_err.kind && c->size >= 0 && total >= 0 && total != c->size)
		err_set(&c->sink_err, ERR_FAILED_PRECONDITION,
			"server has %lld bytes, descriptor says %lld", (long long)total,
			(long long)c->size);
	if (r->status != 206 && !c->sink_err.kind && c->end >= 0)
		err_set(&c->sink_err, ERR_UNIMPLEMENTED, "server does not send parts");
	if (r->status != 206 && !c->sink_err.kind)
		blob_restart(c);
	return true;
}

ssize_t blob_on_data(void *arg, const void *p, size_t n, int *ret_fd)
{
	struct call *c = arg;
	int64_t max = limit(c);
	size_t done = 0;

	if (c->sink_err.kind)
		return -1;
	if (c->restarting)
		return 0;
	if ((int64_t)n > max - c->off) {
		err_set(&c->sink_err, ERR_FAILED_PRECONDITION,
			"server sent more than the %lld bytes that it should", (long long)max);
		return -1;
	}
	while (done < n) {
		ssize_t r = write(c->fd, (const char *)p + done, n - done);

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0 && errno == EAGAIN) {
			*ret_fd = c->fd;
			break;
		}
		if (r < 0) {
			c->reader_gone = errno == EPIPE;
			err_errno(&c->sink_err, errno, "write to containerd");
			return -1;
		}
		done += (size_t)r;
		c->off += r;
		c->piped += r;
	}
	c->heard = time_mono();
	return (ssize_t)done;
}

int blob_check(struct call *c, struct err *err)
{
	if (c->sink_err.kind)
		return err_copy(err, &c->sink_err);
	if (c->size < 0 || c->off == limit(c))
		return 0;
	err_set(err, ERR_UNAVAILABLE, "body ended after %lld of %lld bytes", (long long)c->off,
		(long long)limit(c));
	return 1;
}
