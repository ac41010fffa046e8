/* SPDX-License-Identifier: Apache-2.0 */
/* See processor.h. The first program reads the layer itself, each further one the pipe from the one
 * before, and the worker that unpacks reads the last pipe. Standard error is a file in memory that
 * can not grow: beyond its size writes fail, and nobody has to read along. */
#include "plugins/differ/processor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"
#include "base/time.h"
#include "core/content.h"
#include "core/pb.h"
#include "sys/spawn.h"

#define MEDIA_TYPE_TAR "application/vnd.oci.image.layer.v1.tar"
#define CHAIN_MAX 8
#define LIMIT_NS (3600 * NSEC_PER_SEC)
#define END_NS (10 * NSEC_PER_SEC) /* from the end of the output to that of the program */
#define STDERR_MAX 16384
#define STDERR_TOLD 1024

extern char **environ;

struct run {
	const struct processor *p;
	int pidfd, stderr_fd;
	pid_t pid;
	int status; /* -1 = it runs */
};

struct chain {
	struct run v[CHAIN_MAX];
	size_t n;
};

static const struct processor *find(const struct processors *all, const char *media_type)
{
	for (size_t i = all ? all->n : 0; i > 0; i--)
		for (const char *const *t = all->v[i - 1].accepts; *t; t++)
			if (streq(*t, media_type))
				return &all->v[i - 1];
	return NULL;
}

bool processors_take(const struct processors *all, const char *media_type)
{
	return !streq(media_type, MEDIA_TYPE_TAR) && find(all, media_type);
}

/* ---- the programs ---- */

/* Kills those that still run, from the last on: the others follow, or wait for it. */
static void chain_done(struct chain *c)
{
	for (size_t i = c->n; i > 0; i--) {
		struct run *r = &c->v[i - 1];

		if (r->status < 0) {
			(void)kill(-r->pid, SIGKILL);
			(void)pidfd_kill(r->pidfd, SIGKILL);
			(void)pidfd_wait(r->pidfd);
		}
		close(r->pidfd);
		close(r->stderr_fd);
	}
	c->n = 0;
}

static int stderr_file(struct err *err)
{
	int fd = memfd_create("stderr", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return err_errno(err, errno, "make a file for standard error");
	if (ftruncate(fd, STDERR_MAX) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0) {
		close(fd);
		return err_errno(err, errno, "make a file for standard error");
	}
	return fd;
}

/* -1 = there is none, *@ret. */
static int payload_file(struct arena *a, const struct processor *p, const struct apply_request *q,
			int *ret, struct err *err)
{
	_cleanup_close_ int fd = -1;
	Google__Protobuf__Any *m = NULL;
	uint8_t *packed;
	size_t n;

	for (size_t i = 0; i < q->n_payloads && !m; i++) {
		if (!streq(q->payloads[i].id, p->id))
			continue;
		m = pb_any_put(a, &q->payloads[i].any);
		if (!m)
			return err_nomem(err);
	}
	if (!m)
		return 0;
	n = protobuf_c_message_get_packed_size(&m->base);
	packed = arena_alloc(a, n + 1);
	if (!packed)
		return err_nomem(err);
	protobuf_c_message_pack(&m->base, packed);
	fd = memfd_create("payload", MFD_CLOEXEC);
	if (fd < 0 || fd_write_full(fd, packed, n) < 0 || lseek(fd, 0, SEEK_SET) < 0)
		return err_errno(err, errno, "make a file for the payload");
	*ret = TAKE_FD(fd);
	return 0;
}

static char **strings(struct arena *a, const char *first, const char *const *v)
{
	size_t n = 0, i = 0;
	char **out;

	while (v && v[n])
		n++;
	out = arena_new_array(a, char *, n + 2);
	if (!out)
		return NULL;
	if (first)
		out[i++] = (char *)first;
	for (size_t k = 0; k < n; k++)
		out[i++] = (char *)v[k];
	return out;
}

/* True when @v has a value for the name that @entry begins with. */
static bool replaced(const char *const *v, const char *entry)
{
	const char *eq = strchr(entry, '=');

	for (; eq && v && *v; v++)
		if (!strncmp(*v, entry, (size_t)(eq - entry) + 1))
			return true;
	return false;
}

static char **environment(struct arena *a, const struct processor *p, const char *media_type)
{
	size_t n = 0, i = 0;
	char **out;

	for (char **e = environ; *e; e++)
		n++;
	for (const char *const *e = p->env; e && *e; e++)
		n++;
	out = arena_new_array(a, char *, n + 2);
	if (!out)
		return NULL;
	for (char **e = environ; *e; e++)
		if (!replaced(p->env, *e))
			out[i++] = *e;
	for (const char *const *e = p->env; e && *e; e++)
		out[i++] = (char *)*e;
	out[i] = arena_printf(a, "STREAM_PROCESSOR_MEDIATYPE=%s", media_type);
	return out[i] ? out : NULL;
}

/* *@fd is what it reads (closed), and then what it writes. */
static int start(struct ctx *ctx, struct chain *c, const struct processor *p,
		 const struct apply_request *q, const char *media_type, int *fd, struct err *err)
{
	_cleanup_close_ int out = -1, in = -1, payload = -1, errors = -1;
	struct spawn_options o = SPAWN_OPTIONS_INIT;
	struct run *r = &c->v[c->n];
	int pipe_fds[2], x = payload_file(ctx->arena, p, q, &payload, err);

	if (x < 0)
		return x;
	errors = stderr_file(err);
	if (errors < 0)
		return errors;
	if (pipe2(pipe_fds, O_CLOEXEC) < 0)
		return err_errno(err, errno, "pipe");
	in = pipe_fds[0];
	out = pipe_fds[1];
	o.path = p->path;
	o.argv = strings(ctx->arena, p->path, p->args);
	o.env = environment(ctx->arena, p, media_type);
	if (!o.argv || !o.env)
		return err_nomem(err);
	o.stdin_fd = *fd;
	o.stdout_fd = out;
	o.stderr_fd = errors;
	o.fds = &payload;
	o.nfds = payload >= 0;
	o.new_pgroup = true;
	*r = (struct run){.p = p, .status = -1};
	x = spawn(&o, &r->pid, &r->pidfd, err);
	if (x < 0)
		return x;
	r->stderr_fd = TAKE_FD(errors);
	c->n++;
	close(*fd);
	*fd = TAKE_FD(in);
	return 0;
}

/* What it wrote to standard error, without the line ends around. */
static const char *errors_of(struct arena *a, const struct run *r)
{
	char text[STDERR_TOLD + 1];
	off_t end = lseek(r->stderr_fd, 0, SEEK_CUR);
	ssize_t n = end <= 0 ? 0
			     : fd_pread_full(r->stderr_fd, text, (size_t)MIN(end, STDERR_TOLD),
					     MAX(end - STDERR_TOLD, 0));

	while (n > 0 && strchr(" \n\t\r", text[n - 1]))
		n--;
	return n > 0 ? arena_strndup(a, text, (size_t)n) : NULL;
}

static int run_end(struct ctx *ctx, struct run *r, int64_t until, struct err *err)
{
	struct pollfd pfd = {.fd = r->pidfd, .events = POLLIN};
	int64_t left = MAX(until - time_mono(), (int64_t)0);
	const char *text;

	if (poll(&pfd, 1, (int)(left / NSEC_PER_MSEC)) == 0)
		return err_set(err, ERR_DEADLINE_EXCEEDED,
			       "stream processor %s did not end after its output", r->p->id);
	r->status = pidfd_wait(r->pidfd);
	if (r->status == 0)
		return 0;
	text = errors_of(ctx->arena, r);
	if (r->status > 128)
		return err_set(err, ERR_FAILED_PRECONDITION,
			       "stream processor %s was killed by signal %d%s%s", r->p->id,
			       r->status - 128, text ? ": " : "", text ? text : "");
	return err_set(err, ERR_FAILED_PRECONDITION, "stream processor %s: exit status %d%s%s",
		       r->p->id, r->status, text ? ": " : "", text ? text : "");
}

/* The first that failed is the reason for what the others say. One that was killed by SIGPIPE only
 * found nobody reading. @failed: the unpacking has. */
static int chain_end(struct ctx *ctx, struct chain *c, bool failed, struct err *err)
{
	int64_t until = time_mono() + (failed ? NSEC_PER_SEC : END_NS);

	for (size_t i = 0; i < c->n; i++) {
		struct err why = ERR_INIT;
		int r = run_end(ctx, &c->v[i], until, &why);

		if (r < 0 && c->v[i].status == 128 + SIGPIPE && (failed || i + 1 < c->n))
			continue;
		if (r == -ERR_DEADLINE_EXCEEDED && failed)
			continue;
		if (r < 0)
			return err_copy(err, &why);
	}
	return 0;
}

/* With what the admin can do about it. */
static int start_failed(const struct processor *p, const char *type, int r, struct err *err)
{
	if (r == -ERR_NOT_FOUND && err)
		err_prefix(err, "install it, or set stream_processors.'%s'.path", p->id);
	return err ? err_prefix(err, "stream processor %s for media-type \"%s\"", p->id, type) : r;
}

/* Starts all that it takes; *@fd is the layer and becomes what the last one writes. */
static int chain_start(struct ctx *ctx, const struct processors *all, struct chain *c,
		       const struct apply_request *q, int *fd, const char **ret_type,
		       struct err *err)
{
	const char *type = q->desc->media_type;
	const struct processor *p;

	while (processors_take(all, type)) {
		int r;

		if (c->n == CHAIN_MAX)
			return err_set(err, ERR_INVALID_ARGUMENT,
				       "more than %d stream processors for media-type \"%s\"",
				       CHAIN_MAX, q->desc->media_type);
		p = find(all, type);
		r = start(ctx, c, p, q, type, fd, err);
		if (r < 0)
			return start_failed(p, type, r, err);
		type = p->returns;
	}
	*ret_type = type;
	return 0;
}

/* Whether the types lead to one that can be unpacked is asked before anything is started. */
static int check(const struct processors *all, const char *type, struct err *err)
{
	const char *t = type;

	for (int i = 0; i <= CHAIN_MAX && processors_take(all, t); i++)
		t = find(all, t)->returns;
	if (processors_take(all, t))
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "more than %d stream processors for media-type \"%s\"", CHAIN_MAX,
			       type);
	return walking_supports(t) ? 0 : walking_unknown(t, err);
}

static int layer_open(struct ctx *ctx, struct db *db, const struct apply_request *q, int *ret,
		      struct err *err)
{
	int64_t size;
	int r;

	if (q->fd < 0) {
		r = content_open(ctx, db, q->desc->digest, ret, &size, err);
		return r < 0 && err ? err_prefix(err, "failed to get reader from content store")
				    : r;
	}
	*ret = fcntl(q->fd, F_DUPFD_CLOEXEC, 3);
	return *ret < 0 ? err_errno(err, errno, "duplicate a descriptor") : 0;
}

int processors_apply(struct ctx *ctx, const struct processors *all, struct db *db,
		     const struct apply_request *q, struct descriptor *ret, struct err *err)
{
	_cleanup_(chain_done) struct chain c = {.n = 0};
	_cleanup_close_ int fd = -1;
	struct ctx sub = {.arena = ctx->arena,
			  .ns = ctx->ns,
			  .lease = ctx->lease,
			  .deadline = time_mono() + LIMIT_NS,
			  .parent = ctx};
	struct err why = ERR_INIT, cause = ERR_INIT;
	struct descriptor d;
	const char *type;
	int r = check(all, q->desc->media_type, err), x;

	if (r == 0)
		r = layer_open(ctx, db, q, &fd, err);
	if (r == 0)
		r = chain_start(ctx, all, &c, q, &fd, &type, err);
	if (r < 0)
		return r;
	r = walking_apply_fd(&sub, fd, type, q->mounts, q->sync_fs, &d, &why);
	fd_closep(&fd);
	if (r == -ERR_DEADLINE_EXCEEDED || r == -ERR_CANCELED)
		return err_copy(err, &why);
	x = chain_end(&sub, &c, r < 0, &cause);
	if (x < 0)
		return err_copy(err, &cause);
	if (r < 0)
		return err_copy(err, &why);
	*ret = d;
	return 0;
}
