/* SPDX-License-Identifier: Apache-2.0 */
/* Role "recompress": one layer's bytes into another compression. The request comes with the
 * descriptors; then the jail; only then input is read. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "rpc/msg.h"
#include "worker/compressor.h"
#include "worker/inflate.h"
#include "worker/jail.h"
#include "worker/protocol.h"
#include "worker/roles.h"

#define CHUNK (256u << 10)

static ssize_t read_input(void *arg, void *p, size_t n)
{
	const int *fd = arg;
	ssize_t r;

	do
		r = read(*fd, p, n);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : r;
}

static int copy(int input, struct compressor *out, struct err *err)
{
	_cleanup_(inflate_freep) struct inflate *in = inflate_new(read_input, &input);
	_cleanup_free_ char *chunk = malloc(CHUNK);
	ssize_t n;

	if (!in || !chunk)
		return err_nomem(err);
	while ((n = inflate_read(in, chunk, CHUNK, err)) > 0) {
		int r = compressor_write(out, chunk, (size_t)n, err);

		if (r < 0)
			return r;
	}
	return (int)n;
}

static int recompress(const json_t *req, const int *fds, size_t n_fds, json_t **ret,
		      struct err *err)
{
	_cleanup_(compressor_freep) struct compressor *out = NULL;
	int64_t size, max_bytes = json_int(req, "max_bytes", 0);
	unsigned threads = compressor_threads();
	enum compression compression;
	struct digest diff_id;
	int r;

	if (n_fds != 2)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "recompress: wrong number of descriptors");
	r = compression_parse(json_str(req, "compression", ""), &compression, err);
	if (r < 0)
		return r;
	r = jail_recompress(err);
	if (r < 0)
		return err_prefix(err, "confine");
	r = compressor_new(compression, threads, fds[1],
			   max_bytes > 0 ? max_bytes : UNPACK_MAX_BYTES, &out, err);
	if (r == 0)
		r = copy(fds[0], out, err);
	if (r == 0)
		r = compressor_finish(out, &diff_id, &size, err);
	if (r < 0)
		return r;
	*ret = json_pack("{s:{s:s,s:I}}", "ok", "diff_id", diff_id.text, "size", (json_int_t)size);
	return *ret ? 0 : err_nomem(err);
}

int role_recompress(int sock)
{
	_cleanup_json_ json_t *msg = NULL, *answer = NULL;
	int fds[MSG_FDS_MAX];
	size_t n = MSG_FDS_MAX;
	struct err err = ERR_INIT;
	const json_t *req;
	int r;

	if (msg_recv(sock, 0, &msg, fds, &n, &err) <= 0)
		return 1;
	req = json_obj(msg, "recompress");
	r = req ? recompress(req, fds, n, &answer, &err)
		: err_set(&err, ERR_INVALID_ARGUMENT, "no recompress request");
	if (r < 0)
		answer = msg_error(&err);
	/* The end of the output, which the other side reads before the answer. */
	for (size_t i = 0; i < n; i++)
		close(fds[i]);
	return msg_send(sock, answer, NULL, 0, NULL) < 0;
}
