/* SPDX-License-Identifier: Apache-2.0 */
/* io.containerd.streaming.v1 manager: streams that a client opens beforehand and names in a later
 * call (transfer's progress, credentials, archives). A stream carries google.protobuf.Any both
 * ways.
 *
 * The client's call lives as long as its stream: streams_serve() holds the handler until the user
 * of the stream closes it or the client goes. One user at a time; sending and receiving may be two
 * threads. */
#pragma once

#include "rpc/rpc.h"

struct streams;
struct stream;

int streams_new(struct streams **ret);
void streams_free(struct streams *s);

/* Handler of the Streaming service: registers the stream under @id in ctx's namespace, tells the
 * client (an Empty), and returns when it is over. -ERR_ALREADY_EXISTS. */
int streams_serve(struct streams *s, struct rpc_call *call, const char *id,
		  struct err *err) _must_check_;

/* Takes the stream for use. -ERR_NOT_FOUND `stream "x"`; -ERR_FAILED_PRECONDITION when in use. */
int stream_get(struct ctx *ctx, struct streams *s, const char *id, struct stream **ret,
	       struct err *err) _must_check_;
/* The waits below end with @ctx, too, which lives until the stream is closed or bound anew; NULL =
 * none, as after stream_get(). */
void stream_bind(struct stream *s, const struct ctx *ctx);
/* Sends @msg packed in an Any of its type's name. Blocks while the client does not read. */
int stream_send(struct stream *s, const ProtobufCMessage *msg, struct err *err) _must_check_;
/* Never blocks: -ERR_RESOURCE_EXHAUSTED when too much waits for the client to read it. */
int stream_offer(struct stream *s, const ProtobufCMessage *msg, struct err *err) _must_check_;
/* 1 = got a message of type @desc in @a, 0 = the client has closed its side. A message of another
 * type is an error. Blocks. */
int stream_recv(struct stream *s, struct arena *a, const ProtobufCMessageDescriptor *desc,
		void *ret, struct err *err) _must_check_;
/* Ends the client's call with OK. NULL is fine. */
void stream_close(struct stream *s);

DEFINE_CLEANUP(struct stream *, stream_close)
