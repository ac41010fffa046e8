/* SPDX-License-Identifier: Apache-2.0 */
/* One call of the daemon's transfer service with the streams that belong to it: progress,
 * credentials, an archive's bytes.
 *
 * A stream is opened beforehand under an id of ours and named in the source or the destination of
 * the call. client_client_transfer_run() makes the call and serves the streams meanwhile, each on a
 * thread of its own. Once a transfer; a transfer belongs to one thread. */
#pragma once

#include "client/client.h"

struct client_transfer;

/* What a registry is told. */
struct client_auth {
	const char *username; /* "" with a token */
	const char *secret;
	bool token; /* the secret is an identity token */
};

/* How a transfer goes; both under one lock, the members may be NULL.
 *
 * @event  each message of the daemon, on a thread of the transfer; negative = give the transfer up
 *         (-ERR_CANCELED)
 * @tick   on the thread of client_transfer_run(), about ten times a second and at the start */
struct client_transfer_view {
	int (*event)(void *arg, const PB_TRANSFER_TYPES(Progress) * m);
	void (*tick)(void *arg);
	void *arg;
};

/* Opens the progress stream. @ctx stays until the transfer is freed. The connection is shared from
 * now on (client_share()). -ERR_UNIMPLEMENTED with a text that says what is wrong,
 * for a daemon without the service. */
int client_transfer_new(struct client *c, struct ctx *ctx, struct client_transfer **ret,
			struct err *err) _must_check_;
void client_transfer_free(struct client_transfer *t);
DEFINE_CLEANUP(struct client_transfer *, client_transfer_free)

/* Answers for credentials of @host, for an image @reference. -ERR_NOT_FOUND: none, go on without.
 * On a thread of its own; the strings in @a. */
typedef int (*client_auth_fn)(void *arg, struct arena *a, const char *host, const char *reference,
			      struct client_auth *ret, struct err *err);

/* Each gives the id of its stream, which lives in the arena of @ctx. The descriptor stays
 * the caller's. */
int client_transfer_add_auth(struct client_transfer *t, client_auth_fn fn, void *arg,
			     const char **ret_id, struct err *err) _must_check_;
/* What is read from @fd goes to the daemon. */
int client_transfer_add_source(struct client_transfer *t, int fd, const char **ret_id,
			       struct err *err) _must_check_;
/* What comes from the daemon is written to @fd. */
int client_transfer_add_sink(struct client_transfer *t, int fd, const char **ret_id,
			     struct err *err) _must_check_;

/* Options of the call, to be filled before it is made; the progress stream is set already. */
PB_TRANSFER(TransferOptions) * client_transfer_options(struct client_transfer *t);

/* Makes the call. @view NULL: nobody looks. */
int client_transfer_run(struct client_transfer *t, const ProtobufCMessage *source,
			const ProtobufCMessage *destination,
			const struct client_transfer_view *view, struct err *err) _must_check_;

/* Names of the images (as keys) that the daemon said it had stored; after client_transfer_run(), as
 * long as
 * @t. */
const struct labels *client_transfer_saved(const struct client_transfer *t);

/* A message as an Any in the arena. */
int client_transfer_any(struct arena *a, const ProtobufCMessage *m, Google__Protobuf__Any *ret,
			struct err *err) _must_check_;
