/* SPDX-License-Identifier: Apache-2.0 */
/* What the files about standard streams share.
 *
 * The io directory: `attach`, the socket of a shim that writes the log itself, or the fifos
 * `stdout` and `stderr` for the daemon to copy from; and `stdin`. Which of them are there says
 * which of the two it is. */
#pragma once

#include "cri/io.h"
#include "sys/attach.h"
#include "sys/k8s_log.h"

struct loop_source;

/* An output that is copied. It is either armed (the loop waits for it), or a job of the pool reads
 * from it, or it has ended; while it has not ended it holds a reference. */
struct cri_copy {
	struct cri_io *io;
	int stream;
	int fd;			    /* of whoever has it: loop, job */
	struct loop_source *source; /* loop only */
	bool live;		    /* under the io's lock: it has not ended */
	bool closing;		    /* the same: whoever has it ends it */
};

struct cri_io_reader {
	struct cri_io_reader *next;
	struct attach_reader r;
};

struct cri_io {
	atomic_uint refs;
	struct cri *c;
	char *dir, *id, *in, *out, *err; /* "" = none */
	bool tty, stdin_once, shim;
	pthread_mutex_t lock; /* guards what follows, across writes to the log */
	pthread_cond_t ended; /* CLOCK_MONOTONIC */
	struct k8s_log log;
	struct cri_copy copies[2];
	struct cri_io_reader *readers;
	bool stopped; /* the daemon ends: bytes stay in the fifos */
};

/* How often those who wait look whether they still have to. */
#define CRI_IO_TICK_MS 250

/* The io of a container that runs, with a reference. -ERR_FAILED_PRECONDITION when it does not. */
int cri_io_of(struct cri_container *k, struct cri_io **ret, struct err *err) _must_check_;
/* Waits for a packet; *@ret_n 0 = the other side has hung up. */
int cri_io_packet(struct ctx *ctx, struct cri *c, int fd, char *out, size_t cap, ssize_t *ret_n,
		  struct err *err) _must_check_;

/* io_copy.c: begins to copy from the fifos of @io. @resume: the other ends are open already. */
int cri_io_copy_start(struct cri_io *io, bool resume, struct err *err) _must_check_;
/* The writers should be done: outputs that have none any more, or never had one, end. */
void cri_io_copy_poke(struct cri_io *io);
/* Ends all copying soon; nothing more is read after the return. */
void cri_io_copy_stop(struct cri_io *io);
/* A descriptor on which output comes as packets; its end is the end of the output. */
int cri_io_subscribe(struct cri_io *io, unsigned streams, int *ret_fd,
		     struct err *err) _must_check_;
