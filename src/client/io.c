/* SPDX-License-Identifier: Apache-2.0 */
/* One thread copies in both directions with poll(). Our standard input is read only while the FIFO
 * has taken what was read before, so a process that does not read slows us down and nothing else;
 * our outputs are written with plain blocking writes, so a slow reader slows the process down. */
#include "client/io.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>

#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "client/internal.h"

#define COPY_SIZE 32768

enum { IN, OUT, ERR, STREAMS };

struct client_io {
	struct arena *arena;
	char *path[STREAMS]; /* "" = none */
	int fd[STREAMS];     /* our ends, -1 = none */
	int own[STREAMS];    /* what is copied from and to */
	char *dir;	     /* made by us and removed with the FIFOs; NULL = somebody else's */
	bool terminal, given;
	bool raw; /* saved is to be put back */
	struct termios saved;
	pthread_t thread;
	bool running;
	int stop_fd;		 /* eventfd: copy what is left and end */
	int stdin_ended_fd;	 /* eventfd, written by the thread */
	int failed_fd;		 /* eventfd, written by the thread */
	int failed_errno;	 /* of a write to our output; read after the thread has ended */
	char pending[COPY_SIZE]; /* input that the FIFO has not taken yet */
	size_t pending_len;
};

static int io_alloc(struct client_io **ret, struct err *err)
{
	struct client_io *io = calloc(1, sizeof(*io));

	if (!io)
		return err_nomem(err);
	for (int i = 0; i < STREAMS; i++)
		io->fd[i] = -1;
	io->own[IN] = STDIN_FILENO;
	io->own[OUT] = STDOUT_FILENO;
	io->own[ERR] = STDERR_FILENO;
	io->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	io->stdin_ended_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	io->failed_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	io->arena = arena_new(0);
	for (int i = 0; io->arena && i < STREAMS; i++)
		io->path[i] = arena_strdup(io->arena, "");
	*ret = io;
	if (!io->arena || !io->path[ERR])
		return err_nomem(err);
	if (io->stop_fd < 0 || io->stdin_ended_fd < 0 || io->failed_fd < 0)
		return err_set(err, ERR_RESOURCE_EXHAUSTED, "too many open files");
	return 0;
}

static int make_dir(struct client_io *io, const char *parent, struct err *err)
{
	char *dir;
	int r;

	r = mkdir_p(parent, 0700);
	if (r < 0)
		return err_errno(err, r, "make the FIFO directory `%s`", parent);
	dir = path_join(io->arena, parent, "XXXXXX");
	if (!dir)
		return err_nomem(err);
	if (!mkdtemp(dir))
		return err_errno(err, errno, "make a directory in `%s`", parent);
	io->dir = dir;
	return 0;
}

static int make_fifos(struct client_io *io, const char *id, struct err *err)
{
	static const char *const suffix[] = {"stdin", "stdout", "stderr"};

	for (int i = 0; i < (io->terminal ? ERR : STREAMS); i++) {
		char *p;

		if (io->own[i] < 0)
			continue;
		p = arena_printf(io->arena, "%s/%s-%s", io->dir, id, suffix[i]);
		if (!p)
			return err_nomem(err);
		if (mkfifo(p, 0700) < 0)
			return err_errno(err, errno, "make the FIFO `%s`", p);
		io->path[i] = p;
	}
	return 0;
}

static int open_fifos(struct client_io *io, int in_flags, struct err *err)
{
	for (int i = 0; i < STREAMS; i++) {
		struct stat st;

		if (!*io->path[i])
			continue;
		io->fd[i] =
			open(io->path[i], (i == IN ? in_flags : O_RDONLY) | O_NONBLOCK | O_CLOEXEC);
		if (io->fd[i] < 0)
			return err_errno(err, errno, "open the FIFO `%s`", io->path[i]);
		if (fstat(io->fd[i], &st) < 0 || !S_ISFIFO(st.st_mode))
			return err_set(err, ERR_FAILED_PRECONDITION, "`%s` is no FIFO",
				       io->path[i]);
	}
	return 0;
}

static int use_log(struct client_io *io, const struct client_io_options *o, struct err *err)
{
	if (o->terminal)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "a log URI cannot be used with a terminal");
	if (!strstr(o->log_uri, "://"))
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "log URI \"%s\" has no scheme (file:///path, binary:///path)",
			       o->log_uri);
	io->path[OUT] = io->path[ERR] = arena_strdup(io->arena, o->log_uri);
	return io->path[OUT] ? 0 : err_nomem(err);
}

int client_io_new(const struct client_io_options *o, struct client_io **ret, struct err *err)
{
	struct client_io *io _cleanup_(client_io_freep) = NULL;
	int r;

	r = io_alloc(&io, err);
	if (r < 0)
		return r;
	io->terminal = o->terminal;
	io->given = o->given;
	if (o->given)
		memcpy(io->own, o->fds, sizeof(io->own));
	if (o->log_uri && *o->log_uri)
		r = use_log(io, o, err);
	else if (!o->null) {
		r = make_dir(io, o->dir, err);
		if (r == 0)
			r = make_fifos(io, o->id, err);
		if (r == 0)
			r = open_fifos(io, O_RDWR, err);
	}
	if (r < 0)
		return r;
	*ret = TAKE_PTR(io);
	return 0;
}

int client_io_attach(const char *in, const char *out, const char *err_path, bool terminal,
		     struct client_io **ret, struct err *err)
{
	struct client_io *io _cleanup_(client_io_freep) = NULL;
	int r;

	r = io_alloc(&io, err);
	if (r < 0)
		return r;
	if (strstr(out, "://"))
		return err_set(err, ERR_FAILED_PRECONDITION,
			       "the output goes to %s, it cannot be attached to", out);
	io->terminal = terminal;
	io->path[IN] = arena_strdup(io->arena, in);
	io->path[OUT] = arena_strdup(io->arena, out);
	io->path[ERR] = arena_strdup(io->arena, err_path);
	if (!io->path[IN] || !io->path[OUT] || !io->path[ERR])
		return err_nomem(err);
	r = open_fifos(io, O_RDWR, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(io);
	return 0;
}

const char *client_io_stdin(const struct client_io *io)
{
	return io->path[IN];
}

const char *client_io_stdout(const struct client_io *io)
{
	return io->path[OUT];
}

const char *client_io_stderr(const struct client_io *io)
{
	return io->path[ERR];
}

int client_io_stdin_ended_fd(const struct client_io *io)
{
	return io->fd[IN] >= 0 ? io->stdin_ended_fd : -1;
}

int client_io_failed_fd(const struct client_io *io)
{
	return io->failed_fd;
}

/* ---- The thread ---- */

static void end_input(struct client_io *io)
{
	fd_closep(&io->fd[IN]);
	io->fd[IN] = -1;
	io->pending_len = 0;
	eventfd_write(io->stdin_ended_fd, 1);
}

static void flush_input(struct client_io *io)
{
	ssize_t n = write(io->fd[IN], io->pending, io->pending_len);

	if (n < 0) {
		if (errno != EAGAIN && errno != EINTR)
			end_input(io);
		return;
	}
	memmove(io->pending, io->pending + n, io->pending_len - (size_t)n);
	io->pending_len -= (size_t)n;
}

static void copy_input(struct client_io *io)
{
	ssize_t n = read(io->own[IN], io->pending, sizeof(io->pending));

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	/* A terminal that hung up reads as EIO: the end, too. */
	if (n <= 0) {
		end_input(io);
		return;
	}
	io->pending_len = (size_t)n;
	flush_input(io);
}

/* Copies one piece; false when there is nothing now. */
static bool copy_output(struct client_io *io, int stream)
{
	char b[COPY_SIZE];
	ssize_t n = read(io->fd[stream], b, sizeof(b));
	int r;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return errno == EINTR;
	if (n > 0) {
		r = fd_write_full(io->own[stream], b, (size_t)n);
		if (r == 0)
			return true;
		io->failed_errno = -r;
		eventfd_write(io->failed_fd, 1);
	}
	fd_closep(&io->fd[stream]);
	io->fd[stream] = -1;
	return false;
}

static void drain_outputs(struct client_io *io)
{
	for (int i = OUT; i < STREAMS; i++)
		while (io->fd[i] >= 0 && copy_output(io, i))
			;
}

static void *io_thread(void *arg)
{
	struct client_io *io = arg;

	for (;;) {
		bool flushing = io->pending_len > 0;
		struct pollfd p[] = {
			{.fd = io->stop_fd, .events = POLLIN},
			{.fd = io->fd[OUT], .events = POLLIN},
			{.fd = io->fd[ERR], .events = POLLIN},
			{.fd = io->fd[IN] >= 0 ? (flushing ? io->fd[IN] : io->own[IN]) : -1,
			 .events = flushing ? POLLOUT : POLLIN},
		};

		if (poll(p, ARRAY_LEN(p), -1) < 0 && errno != EINTR)
			break;
		if (p[1].revents)
			copy_output(io, OUT);
		if (p[2].revents)
			copy_output(io, ERR);
		if (p[3].revents && flushing)
			flush_input(io);
		else if (p[3].revents)
			copy_input(io);
		if (p[0].revents)
			break;
	}
	drain_outputs(io);
	return NULL;
}

static int make_raw(struct client_io *io, struct err *err)
{
	struct termios t;

	if (tcgetattr(STDIN_FILENO, &io->saved) < 0)
		return err_errno(err, errno, "read the terminal's mode");
	t = io->saved;
	cfmakeraw(&t);
	if (tcsetattr(STDIN_FILENO, TCSANOW, &t) < 0)
		return err_errno(err, errno, "put the terminal into raw mode");
	io->raw = true;
	return 0;
}

static void restore_terminal(struct client_io *io)
{
	if (!io->raw)
		return;
	tcsetattr(STDIN_FILENO, TCSADRAIN, &io->saved);
	io->raw = false;
}

int client_io_run(struct client_io *io, struct err *err)
{
	int r = 0;

	if (io->fd[IN] < 0 && io->fd[OUT] < 0 && io->fd[ERR] < 0)
		return 0;
	if (io->terminal && !io->given)
		r = make_raw(io, err);
	if (r < 0)
		return r;
	r = client_thread_start(&io->thread, io_thread, io);
	if (r < 0)
		return err_errno(err, r, "start a thread");
	io->running = true;
	return 0;
}

static void io_stop(struct client_io *io)
{
	if (io->running) {
		eventfd_write(io->stop_fd, 1);
		pthread_join(io->thread, NULL);
		io->running = false;
	}
	restore_terminal(io);
}

int client_io_finish(struct client_io *io, struct err *err)
{
	io_stop(io);
	return io->failed_errno
		       ? err_errno(err, io->failed_errno, "write the output of the process")
		       : 0;
}

void client_io_leave(struct client_io *io)
{
	io->dir = NULL;
}

void client_io_remove(struct client_io *io)
{
	if (!io->dir)
		return;
	for (int i = 0; i < STREAMS; i++)
		if (*io->path[i])
			unlink(io->path[i]);
	rmdir(io->dir);
	io->dir = NULL;
}

void client_io_free(struct client_io *io)
{
	io_stop(io);
	client_io_remove(io);
	for (int i = 0; i < STREAMS; i++)
		fd_closep(&io->fd[i]);
	fd_closep(&io->stop_fd);
	fd_closep(&io->stdin_ended_fd);
	fd_closep(&io->failed_fd);
	arena_free(io->arena);
	free(io);
}

/* ---- Terminal, leftovers ---- */

int client_io_check_terminal(struct err *err)
{
	if (!isatty(STDIN_FILENO))
		return err_set(err, ERR_FAILED_PRECONDITION,
			       "--tty needs a terminal on standard input");
	return 0;
}

bool client_io_window(uint32_t *ret_width, uint32_t *ret_height)
{
	struct winsize w;

	if (ioctl(STDIN_FILENO, TIOCGWINSZ, &w) < 0 || w.ws_col == 0 || w.ws_row == 0)
		return false;
	*ret_width = w.ws_col;
	*ret_height = w.ws_row;
	return true;
}

void client_io_remove_fifos(struct arena *a, const char *in, const char *out, const char *err_path)
{
	const char *paths[] = {in, out, err_path};
	const char *dir = NULL;

	for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
		struct stat st;

		if (paths[i][0] != '/' || lstat(paths[i], &st) < 0 || !S_ISFIFO(st.st_mode))
			continue;
		unlink(paths[i]);
		dir = path_dir(a, paths[i]);
	}
	if (dir)
		rmdir(dir);
}
