/* SPDX-License-Identifier: Apache-2.0 */
/* What the daemon says when it starts a shim: flags, environment and standard input; and the
 * answer. */
#pragma once

#include <stddef.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"
#include "protos.h"
#include "shim/args.h"

#define SOCKET_DIR_DEFAULT "/run/containerd/s"
#define SOCKET_PATH_MAX 106

struct bootstrap {
	bool current; /* the daemon sent BootstrapParams: it reads a BootstrapResult; else an
			 address as text */
	const char *id, *ns, *grpc_address, *ttrpc_address;
	const char *socket_dir; /* absolute */
	bool socket_dir_given;
	enum log_level log_level;
	const Google__Protobuf__Any *options; /* NULL = none */
};

/* @in: standard input. @ttrpc_env, @grpc_env: values of TTRPC_ADDRESS and GRPC_ADDRESS, NULL =
 * unset. Lives in the arena (and in @args). */
int bootstrap_parse(struct arena *a, const struct shim_args *args, const void *in, size_t n,
		    const char *ttrpc_env, const char *grpc_env, struct bootstrap *ret,
		    struct err *err) _must_check_;

/* Path of the socket of the shim for @group: <dir>/<sha256 of address/ns/group>.
 * -ERR_INVALID_ARGUMENT when it is too long. */
int bootstrap_socket_path(const struct bootstrap *b, const char *group,
			  char out[SOCKET_PATH_MAX + 1], struct err *err) _must_check_;

/* What goes to standard output. -ENOMEM. */
int bootstrap_answer(const struct bootstrap *b, const char *socket_path, struct buf *out);

/* ---- the program's actions; argv is needed to tidy the server's command line ---- */

/* In the started server this does not return. */
int action_start(const struct shim_args *args, struct err *err) _must_check_;
int action_delete(const struct shim_args *args, struct err *err) _must_check_;
int action_info(const struct shim_args *args, struct err *err) _must_check_;
