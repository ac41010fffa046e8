/* SPDX-License-Identifier: Apache-2.0 */
/* One call of the daemon's transfer service with the streams that belong to it: progress,
 * credentials, an archive's bytes.
 *
 * A stream is opened beforehand under an id of ours and named in the source or the destination of
 * the call. transfer_run() makes the call and serves the streams meanwhile, each on a thread of its
 * own, and shows the progress. Once a transfer; a transfer belongs to one thread. */
#pragma once

#include <stdio.h>

#include "ctr/ctr.h"
#include "ctr/docker_auth.h"

struct transfer;

/* Connects and opens the progress stream. -ERR_UNIMPLEMENTED with a text that says what is wrong,
 * for a daemon without the service. */
int transfer_new(struct ctr *c, struct transfer **ret, struct err *err) _must_check_;
void transfer_free(struct transfer *t);
DEFINE_CLEANUP(struct transfer *, transfer_free)

/* Answers for credentials of @host, for an image @reference. -ERR_NOT_FOUND: none, go on without.
 * On a thread of its own; the strings in @a. */
typedef int (*transfer_auth_fn)(void *arg, struct arena *a, const char *host, const char *reference,
				struct docker_auth *ret, struct err *err);

/* Each gives the id of its stream, which lives in the arena of the command. The descriptor stays
 * the caller's. */
int transfer_add_auth(struct transfer *t, transfer_auth_fn fn, void *arg, const char **ret_id,
		      struct err *err) _must_check_;
/* What is read from @fd goes to the daemon. */
int transfer_add_source(struct transfer *t, int fd, const char **ret_id,
			struct err *err) _must_check_;
/* What comes from the daemon is written to @fd. */
int transfer_add_sink(struct transfer *t, int fd, const char **ret_id,
		      struct err *err) _must_check_;

/* Options of the call, to be filled before it is made; the progress stream is set already. */
PB_TRANSFER(TransferOptions) * transfer_options(struct transfer *t);

/* Makes the call. Progress goes to @out: redrawn when that is a terminal, else a line for each
 * change. */
int transfer_run(struct transfer *t, const ProtobufCMessage *source,
		 const ProtobufCMessage *destination, FILE *out, struct err *err) _must_check_;

/* Names of the images (as keys) that the daemon said it had stored; after transfer_run(), as long
 * as
 * @t. */
const struct labels *transfer_saved(const struct transfer *t);

/* A message as an Any in the arena. */
int transfer_any(struct arena *a, const ProtobufCMessage *m, Google__Protobuf__Any *ret,
		 struct err *err) _must_check_;
