/* SPDX-License-Identifier: Apache-2.0 */
/* Standard streams of containers: the Kubernetes log, attach, and exec.
 *
 * A container's output goes to its log file and to whoever is attached. When the shim is this
 * project's own it writes the log itself and serves attachments on a socket beside it, so that the
 * daemon may stop, be killed or be replaced without stalling the application or losing a byte;
 * other shims get FIFOs, which the daemon copies from. Which of the two is decided when the
 * container is started and remembered in its io directory.
 *
 * Log line: `<RFC3339Nano> <stdout|stderr> <F|P> <text>`; longer lines than the configured size are
 * cut into P pieces; an unterminated last line is P; "\r\n" loses its \r; with a terminal all is
 * stdout. */
#pragma once

#include "cri/internal.h"

struct cri_io;

struct cri_io_options {
	const char *dir; /* of the container's own io, made when absent, 0700 */
	const char *id;
	bool stdin_, stdin_once, tty; /* stdin is a macro */
	const char *log_path;	      /* "" = none */
	int64_t max_line;	      /* -1 = no limit */
	bool shim_writes_log;	      /* the shim can: see cri_io_shim_can() */
	uint32_t uid, gid;	      /* owner of FIFOs (user namespaces) */
};

/* Whether the shim binary of this runtime is one that writes logs itself (asked once a binary, by
 * its info). */
bool cri_io_shim_can(struct ctx *ctx, struct cri *c, const struct cri_handler *h);

/* Before the task is created: makes directory and FIFOs or the log's URI; opens the log where the
 * daemon writes it. */
int cri_io_new(struct ctx *ctx, struct cri *c, const struct cri_io_options *o, struct cri_io **ret,
	       struct err *err) _must_check_;
/* In recovery: of a container whose task lives. */
int cri_io_load(struct ctx *ctx, struct cri *c, const struct cri_io_options *o, struct cri_io **ret,
		struct err *err) _must_check_;
/* What Task.Create is to get; valid as long as @io. */
const char *cri_io_stdin(const struct cri_io *io);
const char *cri_io_stdout(const struct cri_io *io);
const char *cri_io_stderr(const struct cri_io *io);

/* Opens the log's path anew. */
int cri_io_reopen(struct ctx *ctx, struct cri_io *io, struct err *err) _must_check_;
/* The task has ended: waits for the rest of its output (at most until ctx's deadline), ends
 * attachments. */
void cri_io_finish(struct ctx *ctx, struct cri_io *io);
/* Ends copying, removes the directory, drops the caller's reference. */
void cri_io_free(struct cri_io *io);
/* Whoever uses it while others may free it holds a reference. Dropping the last one leaves the
 * directory to the next daemon. */
struct cri_io *cri_io_ref(struct cri_io *io);
void cri_io_unref(struct cri_io *io);
static inline void cri_io_unrefp(struct cri_io **io)
{
	if (*io)
		cri_io_unref(*io);
}
#define _cleanup_io_ _cleanup_(cri_io_unrefp)
/* The daemon stops: what was read is written, what was not stays for the next one. */
void cri_io_suspend(struct cri_io *io);

/* Both directions as descriptors of whoever attaches (pipes or sockets), -1 = not wanted; they are
 * taken over. Blocks until the container has ended or all of the client's descriptors are closed.
 */
struct cri_attach {
	int stdin_fd, stdout_fd, stderr_fd;
	atomic_bool *cancel;
	int cancel_fd; /* readable = give up; -1 */
};
int cri_io_attach(struct ctx *ctx, struct cri *c, struct cri_container *k, struct cri_attach *a,
		  struct err *err) _must_check_;
/* Size of the terminal of a container (exec_id "") or of an exec in it. */
int cri_io_resize(struct ctx *ctx, struct cri *c, struct cri_container *k, const char *exec_id,
		  uint32_t width, uint32_t height, struct err *err) _must_check_;

/* Runs a command in a running container and waits for its end. Output goes to the descriptors
 * (taken over; -1 = dropped). On the deadline, or when @cancel_fd becomes readable, it is killed.
 *
 * @started  (may be NULL) is told the exec's id, for cri_io_resize()
 *
 * -ERR_DEADLINE_EXCEEDED  `timeout 1s exceeded: context deadline exceeded` */
struct cri_exec {
	char *const *argv;
	size_t n_argv;
	bool tty;
	int stdin_fd, stdout_fd, stderr_fd;
	int cancel_fd;
	int64_t timeout_ns; /* 0 = none */
	int64_t drain_ns;   /* how long output is waited for after the end; 0 = for ever */
	uint64_t limit;	    /* bytes of output that are passed on of each stream; 0 = all */
	void (*started)(void *arg, const char *exec_id);
	void *arg;
};
int cri_exec_run(struct ctx *ctx, struct cri *c, struct cri_container *k, struct cri_exec *e,
		 int32_t *ret_code, struct err *err) _must_check_;
