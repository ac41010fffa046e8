/* SPDX-License-Identifier: Apache-2.0 */
/* The standard streams of a process in a container, through FIFOs that its shim opens too, and
 * ctr's own terminal.
 *
 * Life: task_io_new() makes the FIFOs and opens ctr's ends, none of which can block: outputs
 * read-only and non-blocking (the end of file is then what it says: the shim has closed), input
 * read-write (there is always a reader, so opening and writing never fail). A detached process
 * needs them too: the shim opens its ends while somebody has the others. task_io_run() starts a
 * thread that copies. After the process has ended task_io_finish() lets the thread copy what is
 * left. task_io_free() joins it, puts the terminal back and removes the FIFOs. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/cleanup.h"
#include "base/err.h"

struct task_io;

struct task_io_options {
	const char *dir;     /* where a directory with the FIFOs is made */
	const char *id;	     /* begins the FIFOs' names */
	bool terminal;	     /* one FIFO for both outputs */
	bool null;	     /* no streams */
	const char *log_uri; /* "" = none: outputs go there, no input */
};

/* -ERR_INVALID_ARGUMENT for a log URI without scheme or together with a terminal. */
int task_io_new(const struct task_io_options *o, struct task_io **ret,
		struct err *err) _must_check_;
/* To FIFOs that are there already ("" = no such stream), of a running process. */
int task_io_attach(const char *in, const char *out, const char *err_path, bool terminal,
		   struct task_io **ret, struct err *err) _must_check_;

/* For the requests: paths or URIs, "" = none. Valid until task_io_free(). */
const char *task_io_stdin(const struct task_io *io);
const char *task_io_stdout(const struct task_io *io);
const char *task_io_stderr(const struct task_io *io);

/* Starts copying. With a terminal it puts ctr's own into raw mode. */
int task_io_run(struct task_io *io, struct err *err) _must_check_;
/* Readable (poll) once our standard input has ended: time for CloseIO. -1 when there is no input.
 * Before task_io_run(). */
int task_io_stdin_ended_fd(const struct task_io *io);
/* Readable once copying to our own outputs has failed. */
int task_io_failed_fd(const struct task_io *io);
/* The process is gone: copies what its FIFOs still hold, then stops. Reports a failed write. */
int task_io_finish(struct task_io *io, struct err *err) _must_check_;
/* The FIFOs stay when @io is freed: a detached process goes on using them. */
void task_io_leave(struct task_io *io);
void task_io_free(struct task_io *io);
DEFINE_CLEANUP(struct task_io *, task_io_free)

/* -ERR_FAILED_PRECONDITION unless standard input is a terminal. */
int task_io_check_terminal(struct err *err) _must_check_;
/* Size of ctr's terminal; false when it has none. */
bool task_io_window(uint32_t *ret_width, uint32_t *ret_height);
/* Removes the FIFOs that a task (from its record) names, and their directory when nothing else is
 * in it. */
void task_io_remove_fifos(struct arena *a, const char *in, const char *out, const char *err_path);
