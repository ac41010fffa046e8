/* SPDX-License-Identifier: Apache-2.0 */
#include "ctr/pprof.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/fd.h"

#define HEAD_MAX (64u << 10)
#define PIECE (64u << 10)

struct profile {
	struct ctr *c;
	int fd;
	const char *peer;
	struct buf head; /* and what of the body came with it */
};

static int ask(const struct profile *p, const char *page, struct err *err)
{
	const char *text = arena_printf(
		p->c->ctx.arena,
		"GET /debug/pprof/%s HTTP/1.0\r\nHost: .\r\nUser-Agent: ctr\r\n\r\n", page);
	int r = text ? fd_write_full(p->fd, text, strlen(text)) : -ENOMEM;

	return r < 0 ? err_errno(err, r, "ask %s", p->peer) : 0;
}

/* More of the answer, within ctx; 0 = its end. */
static ssize_t read_more(const struct profile *p, void *to, size_t n, struct err *err)
{
	struct pollfd pf = {.fd = p->fd, .events = POLLIN};
	ssize_t k;
	int r;

	do {
		r = ctx_check(&p->c->ctx, err);
		if (r < 0)
			return r;
		r = poll(&pf, 1, ctx_poll_ms(&p->c->ctx));
	} while (r == 0 || (r < 0 && errno == EINTR));
	k = read(p->fd, to, n);
	return k < 0 ? err_errno(err, errno, "read from %s", p->peer) : k;
}

/* Up to the blank line; what follows stays. */
static int read_head(struct profile *p, struct err *err)
{
	struct buf *b = &p->head;
	char piece[4096], *end, *status;

	while (!b->data || !(end = strstr(b->data, "\r\n\r\n"))) {
		ssize_t n = read_more(p, piece, sizeof(piece), err);

		if (n < 0)
			return (int)n;
		if (n == 0 || b->len > HEAD_MAX)
			return err_set(err, ERR_UNAVAILABLE, "%s does not speak HTTP", p->peer);
		if (buf_add(b, piece, (size_t)n) < 0)
			return err_nomem(err);
	}
	status = strchr(b->data, ' ');
	if (!str_has_prefix(b->data, "HTTP/1.") || !status || status > end)
		return err_set(err, ERR_UNAVAILABLE, "%s does not speak HTTP", p->peer);
	if (!str_has_prefix(status, " 200"))
		return err_set_raw(err, ERR_UNKNOWN, "http get failed with status: %.*s",
				   (int)MIN(strcspn(status + 1, "\r\n"), 200), status + 1);
	buf_consume(b, (size_t)(end - b->data) + 4);
	return 0;
}

static int copy_body(struct profile *p, struct err *err)
{
	char *piece _cleanup_free_ = malloc(PIECE);
	int r = fd_write_full(STDOUT_FILENO, p->head.data, p->head.len);
	ssize_t n = 0;

	while (piece && r == 0 && (n = read_more(p, piece, PIECE, err)) > 0)
		r = fd_write_full(STDOUT_FILENO, piece, (size_t)n);
	if (!piece)
		return err_nomem(err);
	if (r < 0)
		return err_errno(err, r, "write standard output");
	return n < 0 ? (int)n : 0;
}

int pprof_copy(struct ctr *c, int fd, const char *peer, const char *page, struct err *err)
{
	struct profile p = {.c = c, .fd = fd, .peer = peer, .head = BUF_INIT};
	int r;

	r = ask(&p, page, err);
	if (r == 0)
		r = read_head(&p, err);
	if (r == 0)
		r = copy_body(&p, err);
	buf_done(&p.head);
	return r;
}
