/* SPDX-License-Identifier: Apache-2.0 */
/* Making, finding again and ending the standard streams of containers. See io_internal.h for the
 * directory, io_copy.c for how output is copied by the daemon. */
#include "cri/io.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/path.h"
#include "base/str.h"
#include "base/time.h"
#include "cri/io_internal.h"
#include "cri/runtime_features.h"
#include "event/loop.h"

#define REOPEN_NS (30 * NSEC_PER_SEC)

bool cri_io_shim_can(struct ctx *ctx, struct cri *c, const struct cri_handler *h)
{
	return h && cri_runtime_features(ctx, c, h).shim_log;
}

/* ---- life ---- */

struct cri_io *cri_io_ref(struct cri_io *io)
{
	atomic_fetch_add(&io->refs, 1);
	return io;
}

void cri_io_unref(struct cri_io *io)
{
	if (atomic_fetch_sub(&io->refs, 1) != 1)
		return;
	k8s_log_done(&io->log);
	pthread_mutex_destroy(&io->lock);
	pthread_cond_destroy(&io->ended);
	free(io->dir);
	free(io->id);
	free(io->in);
	free(io->out);
	free(io->err);
	free(io);
}

static char *name_in(const struct cri_io *io, const char *name)
{
	char *path;

	return asprintf(&path, "%s/%s", io->dir, name) < 0 ? NULL : path;
}

/* What a URI's query may hold as it is. */
static bool is_plain(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       strchr("/-._~:", c);
}

static void uri_add(struct buf *b, const char *s)
{
	for (; *s; s++)
		if (is_plain(*s))
			buf_addc(b, *s);
		else
			buf_printf(b, "%%%02X", (unsigned)(unsigned char)*s);
}

/* k8slog://<socket>?log=<file>&max=<bytes> */
static char *shim_uri(const struct cri_io *io, const struct cri_io_options *o)
{
	_cleanup_buf_ struct buf b = BUF_INIT;

	buf_adds(&b, "k8slog://");
	uri_add(&b, io->dir);
	buf_adds(&b, "/attach?");
	if (!str_empty(o->log_path)) {
		buf_adds(&b, "log=");
		uri_add(&b, o->log_path);
		buf_addc(&b, '&');
	}
	buf_printf(&b, "max=%lld", (long long)o->max_line);
	return buf_take(&b, NULL);
}

static struct cri_io *io_new(struct cri *c, const struct cri_io_options *o, bool shim)
{
	struct cri_io *io = calloc(1, sizeof(*io));
	pthread_condattr_t attr;

	if (!io)
		return NULL;
	io->refs = 1;
	io->c = c;
	io->tty = o->tty;
	io->stdin_once = o->stdin_once;
	io->shim = shim;
	io->log = K8S_LOG_INIT;
	for (int i = 0; i < 2; i++)
		io->copies[i] = (struct cri_copy){.io = io, .stream = i, .fd = -1};
	pthread_mutex_init(&io->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&io->ended, &attr);
	pthread_condattr_destroy(&attr);
	io->dir = strdup(o->dir);
	io->id = strdup(o->id);
	if (io->dir && io->id) {
		io->in = o->stdin_ ? name_in(io, "stdin") : strdup("");
		io->out = shim ? shim_uri(io, o) : name_in(io, "stdout");
		io->err = o->tty ? strdup("") : shim ? shim_uri(io, o) : name_in(io, "stderr");
	}
	if (io->dir && io->id && io->in && io->out && io->err)
		return io;
	cri_io_unref(io);
	return NULL;
}

const char *cri_io_stdin(const struct cri_io *io)
{
	return io->in;
}

const char *cri_io_stdout(const struct cri_io *io)
{
	return io->out;
}

const char *cri_io_stderr(const struct cri_io *io)
{
	return io->err;
}

/* ---- new ---- */

static int fifo_make(const char *path, const struct cri_io_options *o, struct err *err)
{
	if (str_empty(path))
		return 0;
	if (mkfifo(path, 0600) < 0 || ((o->uid || o->gid) && lchown(path, o->uid, o->gid) < 0))
		return err_errno(err, errno, "make fifo `%s`", path);
	return 0;
}

static int daemon_copies(struct cri_io *io, const struct cri_io_options *o, bool resume,
			 struct err *err)
{
	int r = k8s_log_open(&io->log, str_or(o->log_path, ""), o->max_line);

	if (r < 0)
		return err_errno(err, r, "failed to create container loggers: open `%s`",
				 o->log_path);
	return cri_io_copy_start(io, resume, err);
}

static int io_make(struct cri_io *io, const struct cri_io_options *o, struct err *err)
{
	/* What an earlier try has left. */
	int r = rm_rf(AT_FDCWD, io->dir);

	if (r == 0)
		r = mkdir_p(io->dir, 0700);
	if (r < 0)
		return err_errno(err, r, "make `%s`", io->dir);
	r = fifo_make(io->in, o, err);
	if (r < 0 || io->shim)
		return r;
	r = fifo_make(io->out, o, err);
	if (r == 0)
		r = fifo_make(io->err, o, err);
	return r < 0 ? r : daemon_copies(io, o, false, err);
}

int cri_io_new(struct ctx *ctx, struct cri *c, const struct cri_io_options *o, struct cri_io **ret,
	       struct err *err)
{
	struct cri_io *io = io_new(c, o, o->shim_writes_log);

	if (!io)
		return err_nomem(err);
	int r = io_make(io, o, err);
	if (r < 0)
		cri_io_free(io);
	else
		*ret = io;
	return r;
}

int cri_io_load(struct ctx *ctx, struct cri *c, const struct cri_io_options *o, struct cri_io **ret,
		struct err *err)
{
	char *socket_path = path_join(ctx->arena, o->dir, "attach");
	bool shim = socket_path && access(socket_path, F_OK) == 0;
	struct cri_io *io = socket_path ? io_new(c, o, shim) : NULL;

	if (!io)
		return err_nomem(err);
	int r = shim ? 0 : daemon_copies(io, o, true, err);
	if (r < 0) {
		cri_io_copy_stop(io);
		cri_io_unref(io);
	} else
		*ret = io;
	return r;
}

/* ---- the end ---- */

static void wait_copies(struct ctx *ctx, struct cri_io *io)
{
	struct timespec until = {.tv_sec = ctx->deadline / NSEC_PER_SEC,
				 .tv_nsec = ctx->deadline % NSEC_PER_SEC};
	MUTEX_GUARD(&io->lock);

	while (io->copies[0].live || io->copies[1].live) {
		int r = ctx->deadline ? pthread_cond_timedwait(&io->ended, &io->lock, &until)
				      : pthread_cond_wait(&io->ended, &io->lock);
		if (r == ETIMEDOUT)
			break;
	}
}

int cri_io_packet(struct ctx *ctx, struct cri *c, int fd, char *out, size_t cap, ssize_t *ret_n,
		  struct err *err)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	for (;;) {
		int r = ctx_check(ctx, err);
		if (r < 0)
			return r;
		if (c->stopping)
			return err_set(err, ERR_UNAVAILABLE, "the daemon stops");
		if (poll(&p, 1, CRI_IO_TICK_MS) <= 0)
			continue;
		*ret_n = recv(fd, out, cap, 0);
		if (*ret_n >= 0)
			return 0;
		if (errno != EAGAIN && errno != EINTR)
			return err_errno(err, errno, "receive from the shim");
	}
}

/* The shim hangs up when all output is in the log. */
static void wait_shim(struct ctx *ctx, struct cri_io *io)
{
	static const char request[] = {ATTACH_BEGIN, 0};
	_cleanup_close_ int fd = -1;
	_cleanup_free_ char *path = name_in(io, "attach");
	char packet[2];
	ssize_t n = 1;

	if (!path || attach_connect(path, &fd) < 0 ||
	    send(fd, request, sizeof(request), MSG_NOSIGNAL) < 0)
		return;
	while (n > 0 && cri_io_packet(ctx, io->c, fd, packet, sizeof(packet), &n, NULL) == 0)
		;
}

void cri_io_finish(struct ctx *ctx, struct cri_io *io)
{
	if (io->shim)
		wait_shim(ctx, io);
	else {
		cri_io_copy_poke(io);
		wait_copies(ctx, io);
		cri_io_copy_stop(io);
	}
}

void cri_io_free(struct cri_io *io)
{
	cri_io_copy_stop(io);
	int r = rm_rf(AT_FDCWD, io->dir);
	if (r < 0)
		log_warn("remove `%s`: %s", io->dir, strerror(-r));
	cri_io_unref(io);
}

void cri_io_suspend(struct cri_io *io)
{
	pthread_mutex_lock(&io->lock);
	io->stopped = true;
	pthread_mutex_unlock(&io->lock);
	cri_io_copy_stop(io);
}

/* ---- reopening ---- */

static int reopen_in_shim(struct ctx *ctx, struct cri_io *io, struct err *err)
{
	struct ctx limited = {.deadline = time_mono() + REOPEN_NS, .parent = ctx};
	_cleanup_free_ char *path = name_in(io, "attach");
	_cleanup_close_ int fd = -1;
	char answer[ATTACH_REQUEST_MAX];
	int32_t number = 0;
	ssize_t n;
	int r = path ? attach_connect(path, &fd) : -ENOMEM;

	if (r == 0 && send(fd, &(char){ATTACH_REOPEN}, 1, MSG_NOSIGNAL) < 0)
		r = -errno;
	if (r < 0)
		return err_errno(err, r, "ask the shim");
	r = cri_io_packet(&limited, io->c, fd, answer, sizeof(answer), &n, err);
	if (r < 0)
		return r;
	if (n != 1 + (ssize_t)sizeof(number) || answer[0] != ATTACH_REOPEN)
		return err_set(err, ERR_UNAVAILABLE, "the shim has hung up");
	memcpy(&number, answer + 1, sizeof(number));
	return number ? err_errno(err, number, "open it in the shim") : 0;
}

int cri_io_reopen(struct ctx *ctx, struct cri_io *io, struct err *err)
{
	int r;

	if (io->shim)
		return reopen_in_shim(ctx, io, err);
	MUTEX_GUARD(&io->lock);
	r = k8s_log_reopen(&io->log);
	return r < 0 ? err_errno(err, r, "open `%s`", io->log.path) : 0;
}

int cri_io_of(struct cri_container *k, struct cri_io **ret, struct err *err)
{
	MUTEX_GUARD(&k->o.lock);

	if (cri_status_state(&k->status) != RUNTIME__V1__CONTAINER_STATE__CONTAINER_RUNNING ||
	    !k->io)
		return err_set(err, ERR_UNKNOWN, "container is not running");
	*ret = cri_io_ref(k->io);
	return 0;
}

int cri_reopen_container_log(struct rpc_call *call, const void *req, struct err *err)
{
	const CRI(ReopenContainerLogRequest) *q = req;
	CRI(ReopenContainerLogResponse) resp = CRI_INIT(REOPEN_CONTAINER_LOG_RESPONSE);
	_cleanup_container_ struct cri_container *k = NULL;
	_cleanup_io_ struct cri_io *io = NULL;
	struct cri *c;
	int r = cri_of(call, &c, err);

	if (r == 0)
		r = cri_table_get(c->containers, q->container_id, &k, err);
	if (r == 0)
		r = cri_io_of(k, &io, err);
	if (r == 0) {
		r = cri_io_reopen(rpc_ctx(call), io, err);
		if (r < 0)
			err_prefix(err, "reopen the log of container %s", k->o.id);
	}
	return r < 0 ? r : rpc_send(call, &resp.base, err);
}
