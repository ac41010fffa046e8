/* SPDX-License-Identifier: Apache-2.0 */
/* See msg.h. */
#include "rpc/msg.h"

#include <endian.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/time.h"

#define HEAD 4

int msg_encode(const json_t *msg, char **ret, size_t *ret_n, struct err *err)
{
	_cleanup_free_ char *b = NULL;
	size_t n = json_dumpb(msg, NULL, 0, JSON_COMPACT);
	uint32_t len;

	if (n == 0)
		return err_set(err, ERR_INVALID_ARGUMENT, "message to worker: not encodable");
	if (n > MSG_MAX)
		return err_set(err, ERR_RESOURCE_EXHAUSTED, "message to worker: %zu bytes", n);
	b = malloc(HEAD + n);
	if (!b)
		return err_nomem(err);
	len = htole32((uint32_t)n);
	memcpy(b, &len, HEAD);
	if (json_dumpb(msg, b + HEAD, n, JSON_COMPACT) != n)
		return err_set(err, ERR_INVALID_ARGUMENT, "message to worker: not encodable");
	*ret = TAKE_PTR(b);
	*ret_n = HEAD + n;
	return 0;
}

int msg_send(int sock, const json_t *msg, const int *fds, size_t nfds, struct err *err)
{
	_cleanup_free_ char *b = NULL;
	size_t n, done = 0;
	int r;

	if (nfds > MSG_FDS_MAX)
		return err_set(err, ERR_RESOURCE_EXHAUSTED, "message to worker: %zu descriptors",
			       nfds);
	r = msg_encode(msg, &b, &n, err);
	if (r < 0)
		return r;
	/* The descriptors go with the first byte, the rest follows without. */
	if (nfds) {
		r = fd_send_msg(sock, b, 1, fds, nfds);
		if (r < 0)
			return err_errno(err, r, "send message");
		done = 1;
	}
	while (done < n) {
		ssize_t k = send(sock, b + done, n - done, MSG_NOSIGNAL);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0 && errno == EAGAIN) {
			struct pollfd p = {.fd = sock, .events = POLLOUT};

			poll(&p, 1, -1);
			continue;
		}
		if (k < 0)
			return err_errno(err, errno, "send message");
		done += (size_t)k;
	}
	return 0;
}

static int wait_readable(int sock, int64_t deadline, struct err *err)
{
	for (;;) {
		struct pollfd p = {.fd = sock, .events = POLLIN};
		int64_t left = deadline ? deadline - time_mono() : 0;
		int ms = -1, r;

		if (deadline && left <= 0)
			return err_set_raw(err, ERR_DEADLINE_EXCEEDED,
					   "receive message: deadline exceeded");
		if (deadline)
			ms = (int)MIN(left / NSEC_PER_MSEC + 1, (int64_t)3600000);
		r = poll(&p, 1, ms);
		if (r > 0)
			return 0;
		if (r < 0 && errno != EINTR)
			return err_errno(err, errno, "receive message");
	}
}

/* 1 = all of it, 0 = end of file before the first byte. */
static int read_all(int sock, int64_t deadline, void *p, size_t n, struct err *err)
{
	size_t got = 0;

	while (got < n) {
		int r = wait_readable(sock, deadline, err);
		ssize_t k;

		if (r < 0)
			return r;
		k = recv(sock, (char *)p + got, n - got, MSG_DONTWAIT);
		if (k < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (k < 0)
			return err_errno(err, errno, "receive message");
		if (k == 0 && got == 0)
			return 0;
		if (k == 0)
			return err_set(err, ERR_UNAVAILABLE,
				       "receive message: the peer closed in the middle");
		got += (size_t)k;
	}
	return 1;
}

struct fd_set_ {
	int v[MSG_FDS_MAX];
	size_t n;
};

static void fds_close(struct fd_set_ *s)
{
	for (size_t i = 0; i < s->n; i++)
		close(s->v[i]);
	s->n = 0;
}

/* The first byte and its descriptors. */
static int read_first(int sock, int64_t deadline, uint8_t *p, struct fd_set_ *fds, struct err *err)
{
	for (;;) {
		int r = wait_readable(sock, deadline, err);
		size_t room = MSG_FDS_MAX;
		ssize_t k;

		if (r < 0)
			return r;
		k = fd_recv_msg(sock, p, 1, fds->v, &room);
		if (k == -EINTR || k == -EAGAIN)
			continue;
		if (k < 0)
			return err_errno(err, (int)k, "receive message");
		fds->n = room;
		return k > 0;
	}
}

static int body_recv(int sock, int64_t deadline, uint32_t len, json_t **ret, struct err *err)
{
	_cleanup_free_ char *b = NULL;
	int r;

	if (len > MSG_MAX)
		return err_set(err, ERR_RESOURCE_EXHAUSTED, "receive message: %u bytes", len);
	b = malloc((size_t)len + 1);
	if (!b)
		return err_nomem(err);
	r = read_all(sock, deadline, b, len, err);
	if (r < 0)
		return r;
	if (r == 0 && len > 0)
		return err_set(err, ERR_UNAVAILABLE,
			       "receive message: the peer closed in the middle");
	return json_parse(b, len, ret, err);
}

int msg_recv(int sock, int64_t deadline, json_t **ret, int *ret_fds, size_t *ret_nfds,
	     struct err *err)
{
	_cleanup_(fds_close) struct fd_set_ fds = {.n = 0};
	_cleanup_json_ json_t *msg = NULL;
	uint8_t head[HEAD];
	uint32_t len;
	int r;

	r = read_first(sock, deadline, head, &fds, err);
	if (r <= 0)
		return r;
	r = read_all(sock, deadline, head + 1, HEAD - 1, err);
	if (r == 0)
		return err_set(err, ERR_UNAVAILABLE,
			       "receive message: the peer closed in the middle");
	if (r < 0)
		return r;
	memcpy(&len, head, HEAD);
	r = body_recv(sock, deadline, le32toh(len), &msg, err);
	if (r < 0)
		return r;
	if (!json_is_object(msg))
		return err_set(err, ERR_INVALID_ARGUMENT, "receive message: not an object");
	if (ret_nfds) {
		if (fds.n > *ret_nfds)
			return err_set(err, ERR_INVALID_ARGUMENT,
				       "receive message: %zu descriptors, at most %zu wanted",
				       fds.n, *ret_nfds);
		memcpy(ret_fds, fds.v, fds.n * sizeof(int));
		*ret_nfds = fds.n;
		fds.n = 0;
	}
	*ret = TAKE_PTR(msg);
	return 1;
}

json_t *msg_error(const struct err *err)
{
	json_t *j = json_pack("{s:{s:i,s:s}}", "error", "kind", err->kind, "text", err->text);

	/* A text that is not UTF-8 must not cost the kind. */
	return j ? j
		 : json_pack("{s:{s:i,s:s}}", "error", "kind", err->kind, "text",
			     err_kind_text(err->kind));
}

int msg_get_error(const json_t *msg, struct err *err)
{
	json_t *e = json_obj(msg, "error");
	int64_t kind;

	if (!e)
		return 0;
	kind = json_int(e, "kind", ERR_UNKNOWN);
	/* The other process may be hostile: only kinds that exist. */
	if (kind < ERR_CANCELED ||
	    (kind > ERR_UNAUTHENTICATED && kind != ERR_CONFLICT && kind != ERR_NOT_MODIFIED))
		kind = ERR_UNKNOWN;
	return err_set_raw(err, (enum err_kind)kind, "%s", json_str(e, "text", "unknown error"));
}
