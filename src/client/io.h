/* SPDX-License-Identifier: Apache-2.0 */
/* The standard streams of a process in a container, through FIFOs that its shim opens too, and
 * a terminal of ours.
 *
 * Life: client_io_new() makes the FIFOs and opens our ends, none of which can block: outputs
 * read-only and non-blocking (the end of file is then what it says: the shim has closed), input
 * read-write (there is always a reader, so opening and writing never fail). A detached process
 * needs them too: the shim opens its ends while somebody has the others. client_io_run() starts a
 * thread that copies. After the process has ended client_io_finish() lets the thread copy what is
 * left. client_io_free() joins it, puts the terminal back and removes the FIFOs. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/cleanup.h"
#include "base/err.h"

struct client_io;

struct client_io_options {
	const char *dir;     /* where a directory with the FIFOs is made */
	const char *id;	     /* begins the FIFOs' names */
	bool terminal;	     /* one FIFO for both outputs */
	bool null;	     /* no streams */
	const char *log_uri; /* "" = none: outputs go there, no input */
	/* Our ends, {0, 1, 2} when @given is not set; -1 = no such stream. Whoever gives them has
	 * the modes of a terminal in hand, too. */
	bool given;
	int fds[3];
};

/* -ERR_INVALID_ARGUMENT for a log URI without scheme or together with a terminal. */
int client_io_new(const struct client_io_options *o, struct client_io **ret,
		  struct err *err) _must_check_;
/* To FIFOs that are there already ("" = no such stream), of a running process. */
int client_io_attach(const char *in, const char *out, const char *err_path, bool terminal,
		     struct client_io **ret, struct err *err) _must_check_;

/* For the requests: paths or URIs, "" = none. Valid until client_io_free(). */
const char *client_io_stdin(const struct client_io *io);
const char *client_io_stdout(const struct client_io *io);
const char *client_io_stderr(const struct client_io *io);

/* Starts copying. With a terminal, and no descriptors given, it puts our own into raw mode. */
int client_io_run(struct client_io *io, struct err *err) _must_check_;
/* Readable (poll) once our standard input has ended: time for CloseIO. -1 when there is no input.
 * Before client_io_run(). */
int client_io_stdin_ended_fd(const struct client_io *io);
/* Readable once copying to our own outputs has failed. */
int client_io_failed_fd(const struct client_io *io);
/* The process is gone, and nobody opens the FIFOs any more: removes them from the file system. */
void client_io_remove(struct client_io *io);
/* The process is gone: copies what its FIFOs still hold, then stops. Reports a failed write. */
int client_io_finish(struct client_io *io, struct err *err) _must_check_;
/* The FIFOs stay when @io is freed: a detached process goes on using them. */
void client_io_leave(struct client_io *io);
void client_io_free(struct client_io *io);
DEFINE_CLEANUP(struct client_io *, client_io_free)

/* -ERR_FAILED_PRECONDITION unless standard input is a terminal. */
int client_io_check_terminal(struct err *err) _must_check_;
/* Size of our terminal; false when it has none. */
bool client_io_window(uint32_t *ret_width, uint32_t *ret_height);
/* Removes the FIFOs that a task (from its record) names, and their directory when nothing else is
 * in it. */
void client_io_remove_fifos(struct arena *a, const char *in, const char *out, const char *err_path);
