/* SPDX-License-Identifier: Apache-2.0 */
/* Worker processes, and the unpack request. The registry session is in worker_fetch.c. */
#include "core/worker.h"

#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/path.h"
#include "base/time.h"
#include "base/trace.h"
#include "rpc/msg.h"
#include "sys/spawn.h"

#define PROGRAM "containerd-worker"
#define TICK_MS 100 /* how late a cancellation may be noticed */
#define MESSAGE_NS \
	(10 * NSEC_PER_SEC) /* for the rest of a message of which something has arrived */

struct worker {
	int sock;
	int pidfd;
};

/* In the arena, or NULL = no memory. */
static const char *find_program(struct arena *a)
{
	const char *env = getenv("CONTAINERD_WORKER");
	char *dir, *path;

	if (env && *env)
		return arena_strdup(a, env);
	dir = self_exe_dir(a);
	path = dir ? path_join(a, dir, PROGRAM) : NULL;
	return path && access(path, X_OK) == 0 ? path : arena_strdup(a, PROGRAM);
}

int worker_start(const char *role, struct worker **ret, struct err *err)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	_cleanup_free_ struct worker *w = calloc(1, sizeof(*w));
	_cleanup_close_ int ours = -1, theirs = -1;
	char *argv[] = {(char *)PROGRAM, (char *)role, NULL};
	struct spawn_options o = SPAWN_OPTIONS_INIT;
	int socks[2], r;
	pid_t pid;

	if (!a || !w)
		return err_nomem(err);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socks) < 0)
		return err_errno(err, errno, "start %s: make socket pair", PROGRAM);
	ours = socks[0];
	theirs = socks[1];
	o.path = find_program(a);
	if (!o.path)
		return err_nomem(err);
	o.argv = argv;
	o.stderr_fd = STDERR_FILENO;
	o.fds = &theirs;
	o.nfds = 1;
	r = spawn(&o, &pid, &w->pidfd, err);
	if (r < 0)
		return err_prefix(err, "start %s", PROGRAM);
	w->sock = TAKE_FD(ours);
	*ret = TAKE_PTR(w);
	return 0;
}

int worker_sock(const struct worker *w)
{
	return w->sock;
}

void worker_kill(struct worker *w)
{
	pidfd_kill(w->pidfd, SIGKILL);
}

void worker_free(struct worker *w)
{
	if (!w)
		return;
	close(w->sock);
	worker_kill(w);
	pidfd_wait(w->pidfd);
	close(w->pidfd);
	free(w);
}

/* The socket has ended unexpectedly. */
static int died(const struct worker *w, struct err *err)
{
	struct pollfd p = {w->pidfd, POLLIN, 0};
	int status = -1;

	/* It closes its socket by exiting, so this is soon. */
	if (poll(&p, 1, 1000) > 0)
		status = pidfd_wait(w->pidfd);
	if (status > 128)
		return err_set(err, ERR_UNAVAILABLE, "%s was killed by signal %d (%s)", PROGRAM,
			       status - 128, strsignal(status - 128));
	return err_set(err, ERR_UNAVAILABLE, "%s ended without an answer (exit code %d)", PROGRAM,
		       status);
}

int worker_receive(struct ctx *ctx, struct worker *w, json_t **ret, struct err *err)
{
	for (;;) {
		struct pollfd p = {w->sock, POLLIN, 0};
		int left = ctx_poll_ms(ctx), r = ctx_check(ctx, err);

		if (r < 0)
			return r;
		r = poll(&p, 1, left < 0 || left > TICK_MS ? TICK_MS : left);
		if (r < 0 && errno != EINTR)
			return err_errno(err, errno, "wait for %s", PROGRAM);
		if (r <= 0)
			continue;
		r = msg_recv(w->sock, time_mono() + MESSAGE_NS, ret, NULL, NULL, err);
		/* A process that is killed with something unread resets the connection. */
		return r == 0 || r == -ERR_UNAVAILABLE ? died(w, err) : r < 0 ? r : 0;
	}
}

/* ---- unpack ---- */

static int send_unpack(struct worker *w, const struct unpack_request *r, struct err *err)
{
	int fds[MSG_FDS_MAX] = {r->input_fd, r->target_fd};
	size_t n = r->whiteouts == UNPACK_OVERLAY ? MIN(r->n_lowers, MSG_FDS_MAX - 2) : 0;
	_cleanup_json_ json_t *m =
		json_pack("{s:{s:s,s:s,s:b,s:b,s:I,s:I}}", "unpack", "media_type",
			  r->media_type ? r->media_type : "", "whiteouts",
			  r->whiteouts == UNPACK_PLAIN ? "plain" : "overlay", "userxattr",
			  (int)r->userxattr, "alone", (int)r->alone, "max_bytes",
			  (json_int_t)r->max_bytes, "max_entries", (json_int_t)r->max_entries);

	if (!m)
		return err_nomem(err);
	if (n > 0)
		memcpy(fds + 2, r->lower_fds, n * sizeof(*fds));
	return msg_send(w->sock, m, fds, n + 2, err);
}

static int unpack_answer(const json_t *ok, struct unpack_result *ret, struct err *err)
{
	const char *diff_id = json_str(ok, "diff_id", "");
	struct unpack_result res = {
		.size = json_int(ok, "size", -1),
		.entries = json_int(ok, "entries", -1),
	};

	if (digest_validate(diff_id, NULL) < 0 || res.size < 0 || res.entries < 0)
		return err_set(err, ERR_INTERNAL, "%s: senseless answer", PROGRAM);
	snprintf(res.diff_id.text, sizeof(res.diff_id.text), "%s", diff_id);
	*ret = res;
	return 0;
}

static int unpack(struct ctx *ctx, struct worker *w, const struct unpack_request *q,
		  struct unpack_result *ret, struct err *err)
{
	int r = send_unpack(w, q, err);

	if (r < 0)
		return r;
	for (;;) {
		_cleanup_json_ json_t *m = NULL;
		json_t *ok;

		r = worker_receive(ctx, w, &m, err);
		if (r < 0)
			return r;
		r = msg_get_error(m, err);
		if (r < 0)
			return r;
		ok = json_obj(m, "ok");
		if (ok)
			return unpack_answer(ok, ret, err);
		if (q->progress)
			q->progress(q->arg, json_int(m, "progress", 0));
	}
}

int worker_unpack(struct ctx *ctx, const struct unpack_request *r, struct unpack_result *ret,
		  struct err *err)
{
	_cleanup_(worker_freep) struct worker *w = NULL;
	TRACE_SPAN("worker", "unpack", "media type", r->media_type);
	int x = worker_start("unpack", &w, err);

	if (x < 0)
		return x;
	x = unpack(ctx, w, r, ret, err);
	if (x < 0)
		return err_prefix(err, "unpack %s",
				  r->media_type && *r->media_type ? r->media_type : "layer");
	return 0;
}
