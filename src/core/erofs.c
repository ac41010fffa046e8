/* SPDX-License-Identifier: Apache-2.0 */
/* mkfs.erofs: see erofs.h.
 *
 *     <dir>/mkfs-<random>/            nobody's, while the program runs; also its TMPDIR
 *     <dir>/mkfs-<random>/layer.erofs becomes <dir>/layer.erofs
 *
 * What a crash leaves of that goes with <dir>. */
#include "core/erofs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "base/time.h"
#include "base/trace.h"
#include "sys/spawn.h"
#include "sys/userns.h"

#define PROGRAM "mkfs.erofs"
#define HELP_MAX (64u << 10)
#define OUTPUT_MAX 1000
#define HELP_NS (30 * NSEC_PER_SEC)
#define TICK_MS 100
#define NOBODY 65534
#define OPTIONS_MAX 64
#define CAP(x) (UINT64_C(1) << (x))

bool erofs_media_type(const char *media_type, bool *ret_zstd)
{
	const char *plus = strchr(media_type, '+');
	size_t n = plus ? (size_t)(plus - media_type) : strlen(media_type);

	*ret_zstd = plus && streq(plus, "+zstd");
	return (!plus || *ret_zstd) &&
	       (str_has_prefix(media_type, "application/vnd.erofs.layer.") ||
		(n >= 6 && memcmp(media_type + n - 6, ".erofs", 6) == 0));
}

int erofs_probe(struct ctx *ctx, bool *ret_tar, struct err *err)
{
	struct spawn_options o = SPAWN_OPTIONS_INIT;
	char *argv[] = {(char *)PROGRAM, (char *)"--help", NULL}, *out;
	int status, r;

	o.path = PROGRAM;
	o.argv = argv;
	r = spawn_run(ctx->arena, &o, NULL, 0, HELP_MAX, time_mono() + HELP_NS, &out, NULL, NULL,
		      &status, err);
	if (r < 0)
		return err_prefix(err, "failed to run " PROGRAM " --help");
	*ret_tar = strstr(out, "--tar=") != NULL;
	return 0;
}

/* ---- One run ---- */

struct run {
	struct ctx *ctx;
	const struct erofs_request *q;
	char *work; /* directory; NULL = not made */
	bool jailed;
	int output; /* what the program says */
	int input;  /* write end of its standard input */
	int pidfd;
	/* Of an index: */
	int (*read)(struct run *x, struct err *err); /* feeds the program; NULL = from a tree */
	int source, tar;			     /* the tar as it comes; a copy of it */
	struct pack_result res;
};

static void run_done(struct run *x)
{
	fd_closep(&x->input);
	if (x->pidfd >= 0) {
		pidfd_kill(x->pidfd, SIGKILL);
		pidfd_wait(x->pidfd);
		close(x->pidfd);
	}
	fd_closep(&x->output);
	fd_closep(&x->tar);
	if (x->work)
		(void)rm_rf(AT_FDCWD, x->work);
}

static int work_make(struct run *x, struct err *err)
{
	char *path = arena_printf(x->ctx->arena, "%s/mkfs-XXXXXX", x->q->dir);

	if (!path)
		return err_nomem(err);
	if (!mkdtemp(path))
		return err_errno(err, errno, "make a directory in `%s`", x->q->dir);
	x->work = path;
	x->jailed = geteuid() == 0 && userns_is_initial(); /* elsewhere nobody may be nobody */
	if (x->jailed && chown(path, NOBODY, NOBODY) < 0)
		return err_errno(err, errno, "chown `%s`", path);
	x->output = memfd_create("mkfs", MFD_CLOEXEC);
	if (x->output < 0)
		return err_errno(err, errno, "make a file in memory");
	return 0;
}

/* Of the digest's first bits, as one of our own making (version 8). */
static char *uuid_option(struct arena *a, const char *digest)
{
	const char *hex = strchr(digest, ':');

	if (!hex || strlen(++hex) < 32)
		return NULL;
	return arena_printf(a, "-U%.8s-%.4s-8%.3s-8%.3s-%.12s", hex, hex + 8, hex + 13, hex + 17,
			    hex + 20);
}

static char **arguments(struct run *x)
{
	const struct erofs_request *q = x->q;
	char **v = arena_new_array(x->ctx->arena, char *, OPTIONS_MAX + 8);
	size_t n = 0;

	if (!v)
		return NULL;
	v[n++] = (char *)PROGRAM;
	v[n++] = (char *)"--quiet";
	if (x->read)
		v[n++] = (char *)"--tar=i";
	v[n++] = (char *)(x->read ? "--aufs" : "-Enoinline_data");
	for (size_t i = 0; q->options && q->options[i] && i < OPTIONS_MAX; i++)
		v[n++] = (char *)q->options[i];
	if (q->uuid_of && (v[n] = uuid_option(x->ctx->arena, q->uuid_of)))
		n++;
	v[n++] = (char *)EROFS_LAYER;
	if (!x->read)
		v[n++] = (char *)q->tree;
	return v;
}

static int start(struct run *x, struct err *err)
{
	/* trusted.* attributes, which opaque directories are marked with, need the latter. */
	const uint64_t reading = CAP(CAP_DAC_READ_SEARCH) | CAP(CAP_SYS_ADMIN);
	const struct spawn_jail jail = {.net_ns = true,
					.ipc_ns = true,
					.uts_ns = true,
					.root_fd = -1,
					.set_ids = true,
					.uid = NOBODY,
					.gid = NOBODY,
					.keep_caps = x->read ? 0 : reading,
					.drop_caps = true,
					.no_new_privs = true};
	struct arena *a = x->ctx->arena;
	struct spawn_options o = SPAWN_OPTIONS_INIT;
	char *env[] = {arena_printf(a, "PATH=%s", str_or(getenv("PATH"), "/usr/sbin:/usr/bin")),
		       arena_printf(a, "LD_LIBRARY_PATH=%s", str_or(getenv("LD_LIBRARY_PATH"), "")),
		       (char *)"TMPDIR=.", NULL};
	_cleanup_close_ int theirs = -1;
	int p[2], r;

	o.path = PROGRAM;
	o.argv = arguments(x);
	o.env = env;
	o.cwd = x->work;
	o.stdout_fd = o.stderr_fd = x->output;
	o.jail = x->jailed ? &jail : NULL;
	if (!o.argv || !env[0] || !env[1])
		return err_nomem(err);
	if (x->read) {
		if (pipe2(p, O_CLOEXEC) < 0)
			return err_errno(err, errno, "make pipe");
		o.stdin_fd = theirs = p[0];
		x->input = p[1];
		(void)fcntl(x->input, F_SETFL, O_NONBLOCK);
		(void)fcntl(x->input, F_SETPIPE_SZ, 1 << 20);
	}
	r = spawn(&o, &(pid_t){0}, &x->pidfd, err);
	return r;
}

/* The end of the program, which is to be a good one. */
static int wait_end(struct run *x, struct err *err)
{
	char text[OUTPUT_MAX];
	struct pollfd p = {x->pidfd, POLLIN, 0};
	int status;
	ssize_t n;

	for (;;) {
		int r = ctx_check(x->ctx, err);

		if (r < 0)
			return r;
		if (poll(&p, 1, TICK_MS) > 0)
			break;
	}
	status = pidfd_wait(x->pidfd);
	fd_closep(&x->pidfd);
	x->pidfd = -1;
	if (status == 0)
		return 0;
	n = pread(x->output, text, OUTPUT_MAX, 0);
	while (n > 0 && text[n - 1] == '\n')
		n--;
	return err_set(err, ERR_FAILED_PRECONDITION, PROGRAM ": exit status %d: %.*s", status,
		       (int)MAX(n, (ssize_t)0), text);
}

/* ---- From a tar ---- */

/* To the program, as it takes it. */
static int feed(struct run *x, const char *p, size_t n, struct err *err)
{
	while (n > 0 && x->input >= 0) {
		struct pollfd out = {x->input, POLLOUT, 0};
		int r = ctx_check(x->ctx, err);
		ssize_t w;

		if (r < 0)
			return r;
		if (poll(&out, 1, TICK_MS) <= 0)
			continue;
		w = write(x->input, p, n);
		if (w < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (w < 0 && errno != EPIPE)
			return err_errno(err, errno, "write to " PROGRAM);
		if (w < 0) { /* it has what it wants, or its exit status says what was wrong */
			fd_closep(&x->input);
			x->input = -1;
			break;
		}
		p += w;
		n -= (size_t)w;
	}
	return 0;
}

static int take(void *arg, const void *p, size_t n, struct err *err)
{
	struct run *x = arg;
	int r = fd_write_full(x->tar, p, n);

	return r < 0 ? err_errno(err, r, "write the tar in `%s`", x->work) : feed(x, p, n, err);
}

static int read_tar(struct run *x, struct err *err)
{
	const struct recompress_request q = {
		.input_fd = x->source, .compression = PACK_NONE, .write = take, .arg = x};
	int r;

	x->tar = open(x->work, O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
	if (x->tar < 0)
		return err_errno(err, errno, "make a file in `%s`", x->work);
	r = worker_recompress(x->ctx, &q, &x->res, err);
	fd_closep(&x->input);
	x->input = -1;
	return r;
}

/* ---- The image ---- */

static int append(int to, int from, struct err *err)
{
	off_t at = 0;
	ssize_t n;

	if (lseek(to, 0, SEEK_END) < 0)
		return err_errno(err, errno, "append the tar");
	while ((n = sendfile(to, from, &at, 1 << 30)) > 0)
		;
	return n < 0 ? err_errno(err, errno, "append the tar") : 0;
}

/* Gives the image its name. The program's uid may have it open yet, should the program not be what
 * it was: then it is not taken. */
static int finish(struct run *x, struct err *err)
{
	struct arena *a = x->ctx->arena;
	char *from = arena_printf(a, "%s/" EROFS_LAYER, x->work),
	     *to = arena_printf(a, "%s/" EROFS_LAYER, x->q->dir);
	_cleanup_close_ int fd = -1;
	struct stat st;
	int r = 0;

	if (!from || !to)
		return err_nomem(err);
	if (chown(x->work, geteuid(), getegid()) < 0)
		return err_errno(err, errno, "chown `%s`", x->work);
	fd = open(from, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(err, errno, "open `%s`", from);
	if (!S_ISREG(st.st_mode) || st.st_nlink != 1 || st.st_size == 0)
		return err_set(err, ERR_FAILED_PRECONDITION, PROGRAM " made no image");
	if (fchown(fd, geteuid(), getegid()) < 0 || fchmod(fd, 0644) < 0)
		return err_errno(err, errno, "chown `%s`", from);
	if (fcntl(fd, F_SETLEASE, F_RDLCK) < 0 && errno == EAGAIN)
		return err_set(err, ERR_FAILED_PRECONDITION, "`%s` is being written", from);
	(void)fcntl(fd, F_SETLEASE, F_UNLCK);
	if (x->tar >= 0) {
		_cleanup_close_ int out = open(from, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);

		r = out < 0 ? err_errno(err, errno, "open `%s`", from) : append(out, x->tar, err);
	}
	if (r == 0 && fdatasync(fd) < 0)
		r = err_errno(err, errno, "sync `%s`", from);
	if (r == 0 && rename(from, to) < 0)
		r = err_errno(err, errno, "rename `%s`", from);
	return r;
}

static int make(struct run *x, struct err *err)
{
	TRACE_SPAN("erofs", "make", "directory", x->q->dir);
	int r = work_make(x, err);

	if (r == 0)
		r = start(x, err);
	if (r == 0 && x->read)
		r = x->read(x, err);
	if (r == 0)
		r = wait_end(x, err);
	if (r == 0)
		r = finish(x, err);
	return r < 0 ? err_prefix(err, "make an EROFS image") : 0;
}

int erofs_make(struct ctx *ctx, const struct erofs_request *q, struct err *err)
{
	_cleanup_(run_done) struct run x = {
		.ctx = ctx, .q = q, .output = -1, .input = -1, .pidfd = -1, .tar = -1};

	return make(&x, err);
}

int erofs_make_index(struct ctx *ctx, const struct erofs_request *q, int input_fd,
		     struct pack_result *ret, struct err *err)
{
	_cleanup_(run_done) struct run x = {.ctx = ctx,
					    .q = q,
					    .output = -1,
					    .input = -1,
					    .pidfd = -1,
					    .tar = -1,
					    .read = read_tar,
					    .source = input_fd};
	int r = make(&x, err);

	if (r == 0)
		*ret = x.res;
	return r;
}

int erofs_copy(const char *dir, int (*fill)(void *arg, int fd, struct err *err), void *arg,
	       struct err *err)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	char *temp = a ? arena_printf(a, "%s/copy-XXXXXX", dir) : NULL,
	     *to = a ? arena_printf(a, "%s/" EROFS_LAYER, dir) : NULL;
	_cleanup_close_ int fd = -1;
	int r;

	if (!temp || !to)
		return err_nomem(err);
	fd = mkostemp(temp, O_CLOEXEC);
	if (fd < 0)
		return err_errno(err, errno, "make a file in `%s`", dir);
	r = fill(arg, fd, err);
	if (r == 0 && (fchmod(fd, 0644) < 0 || fdatasync(fd) < 0))
		r = err_errno(err, errno, "sync `%s`", temp);
	if (r == 0 && rename(temp, to) < 0)
		r = err_errno(err, errno, "rename `%s`", temp);
	if (r < 0)
		(void)unlink(temp);
	return r;
}
