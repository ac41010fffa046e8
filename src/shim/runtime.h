/* SPDX-License-Identifier: Apache-2.0 */
/* The OCI runtime (runc, crun, or what the options name): command lines, starting it on the loop,
 * and what it says when it fails.
 *
 * A call never blocks: standard input and captured output are memory files, so that only the end of
 * the process has to be awaited. The runtime dies with the shim (parent death signal).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/arena.h"
#include "base/err.h"
#include "shim/reaper.h"
#include "shim/sealed.h"

#define RUNTIME_ROOT_DEFAULT "/run/containerd/runc"

/* How a container's runtime is called; strings on the heap (runtime_done). */
struct runtime {
	char *binary; /* as configured, "" = runc, or crun where runc is not installed */
	char *root;   /* --root, with the namespace */
	char *log;    /* BUNDLE/log.json */
	bool systemd_cgroup;
	struct sealed program; /* what was started last, until runtime_trim() */
};

/* @binary and @root may be "" or NULL. -ENOMEM. */
int runtime_init(struct runtime *rt, const char *ns, const char *bundle, const char *binary,
		 const char *root, bool systemd_cgroup);
void runtime_done(struct runtime *rt);
/* Makes the copy that the first start of @binary will want, where one helps. */
void runtime_ahead(const char *binary, struct sealed *ret);
/* Nothing will be started for a while: gives memory back. */
void runtime_trim(struct runtime *rt);
/* The program to start. */
const char *runtime_program(const struct runtime *rt);

struct runtime_result {
	const struct runtime *rt;
	int status; /* exit code, or 128 + signal */
	int out_fd; /* captured standard output, -1 = not captured; closed after the call back */
	off_t log_from; /* where this run's part of the log begins */
};

typedef void (*runtime_fn)(void *arg, const struct runtime_result *res);

struct runtime_io {
	int fds[3];	/* -1 = /dev/null */
	bool capture;	/* standard output into a memory file */
	const void *in; /* standard input's bytes, NULL = fds[0] */
	size_t in_len;
};

#define RUNTIME_IO_NONE ((struct runtime_io){.fds = {-1, -1, -1}})

/* Starts `PROGRAM --root R --log L --log-format json [--systemd-cgroup] @args...`
 * (NULL-terminated). @rt stays until @fn was called: once, from the loop, unless this fails. */
int runtime_start(struct reaper *r, struct runtime *rt, const struct runtime_io *io,
		  const char *const *args, runtime_fn fn, void *arg, struct err *err) _must_check_;

/* The same, waiting for the end: for programs without a loop. Output is thrown away. */
int runtime_run(const struct runtime *rt, const char *const *args, int64_t deadline,
		struct err *err) _must_check_;

/* Fills @err of kind unknown from the run's last error in the log: "<what>: <message>"; returns
 * -ERR_UNKNOWN. */
int runtime_failure(const struct runtime_result *res, const char *what, struct err *err);

/* Captured output, at most @max bytes. 0 or -errno. */
int runtime_output(struct arena *a, const struct runtime_result *res, size_t max, char **ret,
		   size_t *ret_len);

/* Message of the last line with level error in a JSON log; false when there is none. */
bool runtime_log_last_error(const char *p, size_t n, char *out, size_t cap);
