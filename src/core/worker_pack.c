/* SPDX-License-Identifier: Apache-2.0 */
/* The pack and recompress requests: the layer comes through a pipe and is passed on piece by piece;
 * the answer follows when the pipe has ended. A worker that fails says so after its end of the pipe
 * is closed, too, so in any case the pipe is read first. */
#include "core/worker.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/json.h"
#include "base/trace.h"
#include "rpc/msg.h"

#define PROGRAM "containerd-worker"
#define TICK_MS 100 /* how late a cancellation may be noticed */
#define CHUNK (256u << 10)
#define PIPE_SIZE (1 << 20)

static const char *const compressions[] = {
	[PACK_NONE] = "none",
	[PACK_GZIP] = "gzip",
	[PACK_ZSTD] = "zstd",
};

static int send_pack(struct worker *w, const struct pack_request *q, int output, struct err *err)
{
	bool lower = q->lower_fd >= 0, changed = lower && q->changed_fd >= 0;
	int fds[4] = {output, q->upper_fd};
	size_t n = 2;
	_cleanup_json_ json_t *m = json_pack(
		"{s:{s:s,s:b,s:b,s:b,s:I,s:I}}", "pack", "compression",
		compressions[q->compression], "lower", (int)lower, "changed", (int)changed, "epoch",
		q->epoch != NULL, "epoch_sec", (json_int_t)(q->epoch ? q->epoch->tv_sec : 0),
		"epoch_nsec", (json_int_t)(q->epoch ? q->epoch->tv_nsec : 0));

	if (!m)
		return err_nomem(err);
	if (lower)
		fds[n++] = q->lower_fd;
	if (changed)
		fds[n++] = q->changed_fd;
	return msg_send(worker_sock(w), m, fds, n, err);
}

static int send_recompress(struct worker *w, const struct recompress_request *q, int output,
			   struct err *err)
{
	const int fds[2] = {q->input_fd, output};
	_cleanup_json_ json_t *m =
		json_pack("{s:{s:s}}", "recompress", "compression", compressions[q->compression]);

	return m ? msg_send(worker_sock(w), m, fds, 2, err) : err_nomem(err);
}

/* Where the output goes. */
struct target {
	int (*write)(void *arg, const void *p, size_t n, struct err *err);
	void *arg;
};

/* Until the worker has closed its end. */
static int pass_on(struct ctx *ctx, const struct target *to, int input, struct err *err)
{
	_cleanup_free_ char *chunk = malloc(CHUNK);

	if (!chunk)
		return err_nomem(err);
	for (;;) {
		struct pollfd p = {input, POLLIN, 0};
		int left = ctx_poll_ms(ctx), r = ctx_check(ctx, err);
		ssize_t n;

		if (r < 0)
			return r;
		r = poll(&p, 1, left < 0 || left > TICK_MS ? TICK_MS : left);
		if (r < 0 && errno != EINTR)
			return err_errno(err, errno, "wait for %s", PROGRAM);
		if (r <= 0)
			continue;
		n = read(input, chunk, CHUNK);
		if (n < 0 && errno != EINTR)
			return err_errno(err, errno, "read from %s", PROGRAM);
		if (n == 0)
			return 0;
		if (n < 0)
			continue;
		r = to->write(to->arg, chunk, (size_t)n, err);
		if (r < 0)
			return r;
	}
}

static int read_answer(struct ctx *ctx, struct worker *w, bool entries, struct pack_result *ret,
		       struct err *err)
{
	_cleanup_json_ json_t *m = NULL;
	struct pack_result res;
	const char *diff_id;
	const json_t *ok;
	int r = worker_receive(ctx, w, &m, err);

	if (r == 0)
		r = msg_get_error(m, err);
	if (r < 0)
		return r;
	ok = json_obj(m, "ok");
	res = (struct pack_result){
		.size = json_int(ok, "size", -1),
		.entries = entries ? json_int(ok, "entries", -1) : 0,
	};
	diff_id = json_str(ok, "diff_id", "");
	if (digest_validate(diff_id, NULL) < 0 || res.size < 0 || res.entries < 0)
		return err_set(err, ERR_INTERNAL, "%s: senseless answer", PROGRAM);
	snprintf(res.diff_id.text, sizeof(res.diff_id.text), "%s", diff_id);
	*ret = res;
	return 0;
}

static int make_pipe(int *ret_input, int *ret_output, struct err *err)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_errno(err, errno, "make pipe");
	(void)fcntl(fds[0], F_SETPIPE_SZ, PIPE_SIZE);
	*ret_input = fds[0];
	*ret_output = fds[1];
	return 0;
}

static int pack(struct ctx *ctx, struct worker *w, const struct pack_request *q,
		struct pack_result *ret, struct err *err)
{
	const struct target to = {q->write, q->arg};
	_cleanup_close_ int input = -1, output = -1;
	int r = make_pipe(&input, &output, err);

	if (r == 0)
		r = send_pack(w, q, output, err);
	if (r < 0)
		return r;
	fd_closep(&output);
	output = -1;
	r = pass_on(ctx, &to, input, err);
	return r < 0 ? r : read_answer(ctx, w, true, ret, err);
}

static int recompress(struct ctx *ctx, struct worker *w, const struct recompress_request *q,
		      struct pack_result *ret, struct err *err)
{
	const struct target to = {q->write, q->arg};
	_cleanup_close_ int input = -1, output = -1;
	int r = make_pipe(&input, &output, err);

	if (r == 0)
		r = send_recompress(w, q, output, err);
	if (r < 0)
		return r;
	fd_closep(&output);
	output = -1;
	r = pass_on(ctx, &to, input, err);
	return r < 0 ? r : read_answer(ctx, w, false, ret, err);
}

int worker_pack(struct ctx *ctx, const struct pack_request *r, struct pack_result *ret,
		struct err *err)
{
	_cleanup_(worker_freep) struct worker *w = NULL;
	TRACE_SPAN("worker", "pack", "compression", compressions[r->compression]);
	int x = worker_start("pack", &w, err);

	if (x < 0)
		return x;
	x = pack(ctx, w, r, ret, err);
	return x < 0 ? err_prefix(err, "pack layer") : 0;
}

int worker_recompress(struct ctx *ctx, const struct recompress_request *r, struct pack_result *ret,
		      struct err *err)
{
	_cleanup_(worker_freep) struct worker *w = NULL;
	TRACE_SPAN("worker", "recompress", "compression", compressions[r->compression]);
	int x = worker_start("recompress", &w, err);

	if (x < 0)
		return x;
	x = recompress(ctx, w, r, ret, err);
	return x < 0 ? err_prefix(err, "recompress layer") : 0;
}
