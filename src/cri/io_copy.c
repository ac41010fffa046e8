/* SPDX-License-Identifier: Apache-2.0 */
/* Copying from fifos to the log and to whoever is attached.
 *
 * The loop waits for a fifo, a job of the pool reads it until it is empty (or it is the turn of
 * others), writes, and hands it back: no thread waits for a container that is quiet, and the loop
 * never waits for a disk. Lines whose end has not come wait in the log's memory; when the daemon
 * ends they are written as they are, and what is not read yet stays in the fifo. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/str.h"
#include "base/time.h"
#include "cri/io_internal.h"
#include "event/loop.h"
#include "event/pool.h"

#define ROUNDS 64 /* of ATTACH_DATA_MAX bytes, before others get their turn */

static void arm(void *arg);

/* ---- those who are attached ---- */

static void reader_drop(struct cri_io *io, struct cri_io_reader **q)
{
	struct cri_io_reader *r = *q;

	*q = r->next;
	close(r->r.fd);
	free(r);
}

/* Those who went while there was nothing to send. */
static void readers_prune(struct cri_io *io)
{
	for (struct cri_io_reader **q = &io->readers; *q;) {
		struct pollfd p = {.fd = (*q)->r.fd};

		if (poll(&p, 1, 0) > 0)
			reader_drop(io, q);
		else
			q = &(*q)->next;
	}
}

static void readers_send(struct cri_io *io, int stream, const char *p, size_t n)
{
	for (struct cri_io_reader **q = &io->readers; *q;)
		if (attach_send(&(*q)->r, stream, p, n) < 0)
			reader_drop(io, q);
		else
			q = &(*q)->next;
}

int cri_io_subscribe(struct cri_io *io, unsigned streams, int *ret_fd, struct err *err)
{
	struct cri_io_reader *r = calloc(1, sizeof(*r));
	int fds[2], e = r ? attach_pair(fds) : -ENOMEM;

	if (e < 0) {
		free(r);
		return err_errno(err, e, "sockets to attach with");
	}
	r->r = (struct attach_reader){.fd = fds[0], .streams = streams, .skip = io->tty};
	MUTEX_GUARD(&io->lock);
	readers_prune(io);
	if (io->copies[0].live || io->copies[1].live) {
		r->next = io->readers;
		io->readers = r;
	} else {
		close(fds[0]);
		free(r);
	}
	*ret_fd = fds[1];
	return 0;
}

/* ---- copying ---- */

static void log_result(const struct cri_io *io, int r, uint64_t *lost)
{
	if (r < 0)
		log_warn("container %s: write its log: %s; output is lost", io->id, strerror(-r));
	else if (r > 0) {
		log_warn("container %s: its log is written again; %llu bytes are lost", io->id,
			 (unsigned long long)*lost);
		*lost = 0;
	}
}

static void end_locked(struct cri_copy *y)
{
	struct cri_io *io = y->io;

	if (!y->live)
		return;
	y->live = false;
	log_result(io, k8s_log_end(&io->log, y->stream), &io->log.lost);
	while (!io->copies[0].live && !io->copies[1].live && io->readers)
		reader_drop(io, &io->readers);
	pthread_cond_broadcast(&io->ended);
}

/* By whoever has it: nobody reads it any more. */
static void end(struct cri_copy *y)
{
	struct cri_io *io = y->io;

	pthread_mutex_lock(&io->lock);
	end_locked(y);
	close(TAKE_FD(y->fd));
	pthread_mutex_unlock(&io->lock);
	cri_io_unref(io);
}

enum step { MORE, EMPTY, ENDED };

static enum step step(struct cri_copy *y, char *chunk)
{
	struct cri_io *io = y->io;
	MUTEX_GUARD(&io->lock);

	if (y->closing || io->stopped)
		return ENDED;
	ssize_t n = read(y->fd, chunk, ATTACH_DATA_MAX);
	if (n < 0)
		return errno == EAGAIN ? EMPTY : errno == EINTR ? MORE : ENDED;
	if (n == 0)
		return ENDED;
	log_result(io, k8s_log_add(&io->log, y->stream, chunk, (size_t)n), &io->log.lost);
	readers_send(io, y->stream, chunk, (size_t)n);
	return MORE;
}

static void copy(void *arg)
{
	struct cri_copy *y = arg;
	_cleanup_free_ char *chunk = malloc(ATTACH_DATA_MAX);
	enum step s = chunk ? MORE : EMPTY;

	for (int i = 0; i < ROUNDS && s == MORE; i++)
		s = step(y, chunk);
	if (s == ENDED || loop_post(y->io->c->o.loop, arm, y) < 0)
		end(y);
}

static void ready(struct loop_source *src, int fd, uint32_t events, void *arg)
{
	struct cri_copy *y = arg;

	loop_source_free(y->source);
	y->source = NULL;
	if (y->io->c->stopping || pool_submit(y->io->c->o.pool, copy, y) < 0)
		end(y);
}

static void arm(void *arg)
{
	struct cri_copy *y = arg;
	struct cri_io *io = y->io;

	pthread_mutex_lock(&io->lock);
	bool over = y->closing || io->stopped;
	pthread_mutex_unlock(&io->lock);
	if (over || loop_add_fd(io->c->o.loop, y->fd, EPOLLIN, ready, y, &y->source) < 0)
		end(y);
}

static void disarm(void *arg)
{
	struct cri_io *io = arg;

	for (int i = 0; i < 2; i++) {
		struct cri_copy *y = &io->copies[i];
		if (!y->source)
			continue; /* the job ends it, or it has ended */
		loop_source_free(y->source);
		y->source = NULL;
		end(y);
	}
	cri_io_unref(io);
}

/* Looks whether there is anybody left who could write. */
static void poke(void *arg)
{
	struct cri_io *io = arg;

	for (int i = 0; i < 2; i++)
		if (io->copies[i].source)
			ready(io->copies[i].source, io->copies[i].fd, 0, &io->copies[i]);
	cri_io_unref(io);
}

void cri_io_copy_poke(struct cri_io *io)
{
	cri_io_ref(io);
	if (loop_post(io->c->o.loop, poke, io) < 0)
		cri_io_unref(io);
}

void cri_io_copy_stop(struct cri_io *io)
{
	pthread_mutex_lock(&io->lock);
	bool live = false;
	for (int i = 0; i < 2; i++) {
		live |= io->copies[i].fd >= 0;
		io->copies[i].closing = true;
		end_locked(&io->copies[i]);
	}
	pthread_mutex_unlock(&io->lock);
	if (!live)
		return;
	cri_io_ref(io);
	if (loop_post(io->c->o.loop, disarm, io) < 0)
		log_error("container %s: its fifos stay open: no memory", io->id);
}

static int copy_begin(struct cri_io *io, int stream, const char *path, bool resume, struct err *err)
{
	struct cri_copy *y = &io->copies[stream];

	if (str_empty(path))
		return 0;
	y->fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (y->fd < 0)
		return err_errno(err, errno, "open `%s`", path);
	cri_io_ref(io);
	y->live = true;
	/* A job finds out whether there is a writer at all; a new fifo has none yet. */
	int r = resume ? pool_submit(io->c->o.pool, copy, y) : loop_post(io->c->o.loop, arm, y);
	if (r == 0)
		return 0;
	end(y);
	return err_errno(err, r, "copy from `%s`", path);
}

int cri_io_copy_start(struct cri_io *io, bool resume, struct err *err)
{
	int r = copy_begin(io, 0, io->out, resume, err);

	return r < 0 ? r : copy_begin(io, 1, io->err, resume, err);
}
