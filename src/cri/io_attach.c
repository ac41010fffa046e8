/* SPDX-License-Identifier: Apache-2.0 */
/* Attaching to a container that runs. Whoever writes the log sends the output as packets (from a
 * socket of the shim, or from one end of a pair that the daemon's copying sends to); input goes
 * into the container's fifo. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/path.h"
#include "base/str.h"
#include "base/time.h"
#include "cri/io_flow.h"
#include "cri/io_internal.h"
#include "cri/task.h"

#define SH(x) Containerd__Task__V3__##x
#define BEGIN_NS (30 * NSEC_PER_SEC)
#define HUNG_UP_NS (5 * NSEC_PER_SEC)

struct attachment {
	struct ctx *ctx;
	struct cri *c;
	struct cri_container *k;
	struct cri_io *io;
	struct cri_attach *a;
	int packets;
	struct cri_flow in, out[2]; /* of out only the destinations: packets are shared out */
	bool has_output, ended;
};

/* ---- beginning ---- */

static int begin_in_shim(struct attachment *t, unsigned streams, struct err *err)
{
	struct ctx limited = {.deadline = time_mono() + BEGIN_NS, .parent = t->ctx};
	char *path = path_join(t->ctx->arena, t->io->dir, "attach"), request[2], answer[2];
	ssize_t n;
	int r = path ? attach_connect(path, &t->packets) : -ENOMEM;

	request[0] = ATTACH_BEGIN;
	request[1] = (char)streams;
	if (r == 0 && send(t->packets, request, sizeof(request), MSG_NOSIGNAL) < 0)
		r = -errno;
	if (r < 0)
		return err_errno(err, r, "attach to container %s", t->k->o.id);
	r = cri_io_packet(&limited, t->c, t->packets, answer, sizeof(answer), &n, err);
	t->ended = r == 0 && n == 0;
	return r;
}

static int input_open(struct attachment *t, struct err *err)
{
	int fd = str_empty(t->io->in)
			 ? -1
			 : open(t->io->in, O_WRONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);

	/* Not asked for, or closed by an earlier client: who sends to it learns that at once. */
	if (fd < 0)
		return 0;
	return cri_flow_start(&t->in, TAKE_FD(t->a->stdin_fd), fd, true, 0) < 0 ? err_nomem(err)
										: 0;
}

static int begin(struct attachment *t, struct err *err)
{
	int *fds[] = {&t->a->stdout_fd, &t->a->stderr_fd};
	unsigned streams = 0;
	int r = 0;

	for (int i = 0; i < 2 && r == 0; i++) {
		if (*fds[i] < 0)
			continue;
		streams |= ATTACH_STREAM(i);
		t->has_output = true;
		r = cri_flow_start(&t->out[i], -1, TAKE_FD(*fds[i]), false, 0) < 0 ? err_nomem(err)
										   : 0;
		t->out[i].keep = true;
	}
	if (r == 0)
		r = t->io->shim ? begin_in_shim(t, streams, err)
				: cri_io_subscribe(t->io, streams, &t->packets, err);
	if (r == 0 && t->a->stdin_fd >= 0)
		r = input_open(t, err);
	return r;
}

/* ---- moving ---- */

static void packet_take(struct attachment *t)
{
	char packet[1 + ATTACH_DATA_MAX];
	ssize_t n = recv(t->packets, packet, sizeof(packet), 0);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		t->ended = true;
		return;
	}
	struct cri_flow *f = &t->out[packet[0] == ATTACH_STDERR];
	if (f->dst < 0 || n == 1)
		return;
	memcpy(f->buf, packet + 1, (size_t)n - 1);
	f->off = 0;
	f->len = (size_t)n - 1;
	cri_flow_write(f);
}

static bool client_gone(const struct attachment *t)
{
	bool output = t->out[0].dst >= 0 || t->out[1].dst >= 0;

	return t->has_output ? !output : t->in.src < 0;
}

static bool canceled(const struct attachment *t, const struct pollfd *cancel)
{
	return (cancel && cancel->revents) || (t->a->cancel && atomic_load(t->a->cancel)) ||
	       t->c->stopping;
}

/* The client has nothing more to say. */
static void input_ended(struct attachment *t)
{
	_cleanup_(task_unrefp) struct task *task = NULL;
	SH(CloseIORequest) req = CONTAINERD__TASK__V3__CLOSE_IOREQUEST__INIT;
	struct err unused = ERR_INIT;

	cri_flow_done(&t->in);
	/* A terminal goes on for the next one. */
	if (!t->io->stdin_once || t->io->tty) {
		t->ended = true;
		return;
	}
	req.id = (char *)t->k->o.id;
	req.stdin = true;
	/* A task that has ended has no input either. */
	if (runtime_get(t->ctx, t->c->o.runtime, req.id, &task, &unused) == 0 &&
	    task_call(t->ctx, task, "CloseIO", &req.base, &google__protobuf__empty__descriptor,
		      NULL, &unused) < 0)
		return;
}

static int round_(struct attachment *t, struct err *err)
{
	struct pollfd v[8], *cancel = NULL, *packets = NULL;
	bool waits = t->out[0].len || t->out[1].len, input = t->in.buf != NULL;
	nfds_t n = 0;

	for (int i = 0; i < 2; i++)
		cri_flow_poll(&t->out[i], v, &n);
	if (input)
		cri_flow_poll(&t->in, v, &n);
	if (!waits) {
		packets = &v[n];
		v[n++] = (struct pollfd){.fd = t->packets, .events = POLLIN};
	}
	if (t->a->cancel_fd >= 0) {
		cancel = &v[n];
		v[n++] = (struct pollfd){.fd = t->a->cancel_fd, .events = POLLIN};
	}
	if (poll(v, n, CRI_IO_TICK_MS) < 0 && errno != EINTR)
		return err_errno(err, errno, "wait for streams");
	int r = ctx_check(t->ctx, err);
	if (r < 0)
		return r;
	if (canceled(t, cancel))
		return err_set(err, ERR_CANCELED, "attach");
	for (int i = 0; i < 2; i++)
		cri_flow_step(&t->out[i]);
	if (packets && packets->revents)
		packet_take(t);
	if (input) {
		cri_flow_step(&t->in);
		if (cri_flow_ended(&t->in))
			input_ended(t);
	}
	return 0;
}

/* A client that hangs up has said all it had to say: what of it is under way goes in, and then its
 * input ends as if it had said so. */
static void input_hung_up(struct attachment *t)
{
	int64_t until = time_mono() + HUNG_UP_NS;

	while (!cri_flow_ended(&t->in) && time_mono() < until && !t->c->stopping) {
		struct pollfd v[2];
		nfds_t n = 0;
		cri_flow_poll(&t->in, v, &n);
		if (poll(v, n, CRI_IO_TICK_MS) < 0 && errno != EINTR)
			break;
		cri_flow_step(&t->in);
	}
	input_ended(t);
}

/* What came last goes out although the container has ended; a client that does not take it is not
 * waited for long. */
static void flush_output(struct attachment *t)
{
	int64_t until = time_mono() + 5 * NSEC_PER_SEC;

	while ((t->out[0].len || t->out[1].len) && time_mono() < until && !t->c->stopping) {
		struct pollfd v[4];
		nfds_t n = 0;
		for (int i = 0; i < 2; i++)
			cri_flow_poll(&t->out[i], v, &n);
		if (poll(v, n, CRI_IO_TICK_MS) < 0 && errno != EINTR)
			return;
		for (int i = 0; i < 2; i++)
			cri_flow_step(&t->out[i]);
	}
}

static void close_all(struct attachment *t)
{
	cri_flow_done(&t->in);
	cri_flow_done(&t->out[0]);
	cri_flow_done(&t->out[1]);
	fd_closep(&t->packets);
	fd_closep(&t->a->stdin_fd);
	fd_closep(&t->a->stdout_fd);
	fd_closep(&t->a->stderr_fd);
	if (t->io)
		cri_io_unref(t->io);
}

int cri_io_attach(struct ctx *ctx, struct cri *c, struct cri_container *k, struct cri_attach *a,
		  struct err *err)
{
	struct attachment t = {.ctx = ctx,
			       .c = c,
			       .k = k,
			       .a = a,
			       .packets = -1,
			       .in = CRI_FLOW_INIT,
			       .out = {CRI_FLOW_INIT, CRI_FLOW_INIT}};
	int r = cri_io_of(k, &t.io, err);

	if (r == 0)
		r = begin(&t, err);
	while (r == 0 && !t.ended && !client_gone(&t))
		r = round_(&t, err);
	if (r == 0)
		flush_output(&t);
	if (t.in.buf && !t.ended && !c->stopping)
		input_hung_up(&t);
	close_all(&t);
	return r;
}
