/* SPDX-License-Identifier: Apache-2.0 */
/* Calls, independent of the transport (gRPC: rpc/grpc.h, ttrpc: rpc/ttrpc.h).
 *
 * Server. A service is a table: protobuf-c's service descriptor (names and message types) plus one
 * handler a method. Methods without a handler answer Unimplemented. Handlers run on a pool thread
 * as plain blocking code (or, on a server without a pool, on the loop: then they must not block).
 * Request and reply live in the call's arena and are freed after the call.
 *
 *     static int images_get(struct rpc_call *call, const void *req, struct err *err)
 *     {
 *             const GetImageRequest *r = req;
 *             ...
 *             return rpc_send(call, &resp.base, err);
 *     }
 *
 * A handler returns 0 (the call ends with OK), a negative kind (with that error), or
 * rpc_defer(call): then nobody holds a thread and the call goes on until rpc_finish(). A unary
 * handler that returns 0 must have sent exactly one message.
 */
#pragma once

#include <protobuf-c/protobuf-c.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/ctx.h"
#include "base/err.h"

enum rpc_kind { RPC_UNARY, RPC_SERVER_STREAM, RPC_CLIENT_STREAM, RPC_BIDI };

struct rpc_call;

/* @req: the decoded request (unary, server stream) or NULL (client stream, bidi: use rpc_recv). */
typedef int (*rpc_handler)(struct rpc_call *call, const void *req, struct err *err);

struct rpc_method {
	const char *name;
	enum rpc_kind kind;
	rpc_handler fn;
};

struct rpc_service {
	const ProtobufCServiceDescriptor *desc;
	const struct rpc_method *methods;
	size_t n_methods;
	void *data; /* rpc_data() in handlers */
};

struct ctx *rpc_ctx(struct rpc_call *call);
void *rpc_data(struct rpc_call *call);
/* First value of a metadata key (lower case), NULL when absent. */
const char *rpc_metadata(struct rpc_call *call, const char *key);

/* Next message of a client stream in the call's arena (valid until the next rpc_recv on this call,
 * which resets that message's memory only; everything else in the arena stays). 1 = got one, 0 =
 * the client has finished, negative = error (canceled, deadline, bad message). Blocks. */
int rpc_recv(struct rpc_call *call, ProtobufCMessage **ret, struct err *err) _must_check_;
/* The same in the work of another request: ends with @user, too. */
int rpc_recv_for(struct rpc_call *call, const struct ctx *user, ProtobufCMessage **ret,
		 struct err *err) _must_check_;
/* Encodes now and queues; blocks while more than the stream's share of memory (1 MiB) is unsent.
 * -ERR_CANCELED when the client is gone. On the loop's thread it never blocks: there, and in
 * rpc_send_nowait(), a queue over @limit bytes is -ERR_RESOURCE_EXHAUSTED. */
int rpc_send(struct rpc_call *call, const ProtobufCMessage *msg, struct err *err) _must_check_;
int rpc_send_for(struct rpc_call *call, const struct ctx *user, const ProtobufCMessage *msg,
		 struct err *err) _must_check_;
/* Any thread, never blocks; @packed is one encoded message. @limit: bytes that may wait unsent in
 * this stream. */
int rpc_send_packed_nowait(struct rpc_call *call, const void *packed, size_t n, size_t limit,
			   struct err *err) _must_check_;

/* Value for a handler to return. The call stays valid until rpc_finish(), which any thread calls
 * exactly once (it may even come before the handler has returned). ctx and arena must not be used
 * after the handler's return. */
int rpc_defer(struct rpc_call *call);
#define RPC_DEFERRED 1
/* The same for a call that only waits for something to happen: a server that drains does not wait
 * for it but ends it with ERR_UNAVAILABLE. */
int rpc_defer_wait(struct rpc_call *call);
/* @err NULL = OK. For unary calls rpc_send() comes before. */
void rpc_finish(struct rpc_call *call, const struct err *err);
/* @fn runs once on the loop's thread when the client cancels, goes away, or the deadline passes; at
 * once (posted) if that has already happened. It does not finish the call: whoever deferred it
 * still must. After rpc_finish() returned it is not called any more when rpc_finish() was called on
 * the loop's thread; else it may be in flight: arg must outlive that (use loop_post to free). */
void rpc_on_cancel(struct rpc_call *call, void (*fn)(void *arg), void *arg);

/* ---- What a server has counted about one of its methods ---- */

#define RPC_CODES 17
#define RPC_BUCKETS 11
/* Upper bounds in seconds of the buckets of handling times. */
extern const double rpc_bucket_bounds[RPC_BUCKETS];

struct rpc_stats {
	atomic_uint_least64_t started, received, sent;	/* calls; messages */
	atomic_uint_least64_t handled[RPC_CODES];	/* calls that have ended, by status code */
	atomic_uint_least64_t buckets[RPC_BUCKETS + 1]; /* of those, by time; not cumulated */
	atomic_uint_least64_t ns;			/* together */
};

typedef void (*rpc_stats_fn)(void *arg, const struct rpc_service *service,
			     const struct rpc_method *method, const struct rpc_stats *stats);

/* ---- Client: one connection, many calls, any thread ---- */

struct rpc_client;
struct rpc_stream;
struct rpc_pending;

/* Ends all calls with Unavailable and closes. Not from a callback of this client. Any thread but
 * only once. */
void rpc_client_free(struct rpc_client *c);
/* True once the connection is gone or the peer takes no more calls: further calls fail with
 * Unavailable. Any thread. */
bool rpc_client_lost(struct rpc_client *c);

/* Blocking unary call (never on the loop's thread). Namespace, lease and deadline go with it from
 * @ctx; the reply is in ctx->arena.
 * @service "containerd.services.images.v1.Images", @method "Get". Errors: the peer's status as kind
 * and text, raw; -ERR_UNAVAILABLE when the connection is gone, -ERR_DEADLINE_EXCEEDED. */
int rpc_call(struct rpc_client *c, struct ctx *ctx, const char *service, const char *method,
	     const ProtobufCMessage *req, const ProtobufCMessageDescriptor *resp_desc,
	     void *ret_resp /* T ** or NULL */, struct err *err) _must_check_;

/* The same without a thread: @fn runs on the loop with the packed reply (valid during the call) or
 * an error. Exactly once unless rpc_pending_cancel() returned true. *@ret is valid until then (may
 * be NULL when nobody cancels). @timeout_ns 0 = none. */
typedef void (*rpc_done_fn)(void *arg, const uint8_t *resp, size_t n, const struct err *err);
int rpc_call_async(struct rpc_client *c, const char *ns, const char *service, const char *method,
		   const ProtobufCMessage *req, int64_t timeout_ns, rpc_done_fn fn, void *arg,
		   struct rpc_pending **ret, struct err *err) _must_check_;
/* Loop's thread only. */
bool rpc_pending_cancel(struct rpc_pending *p);

/* Streams of all kinds; blocking; one sending and one receiving thread at a time. */
int rpc_stream_open(struct rpc_client *c, struct ctx *ctx, const char *service, const char *method,
		    struct rpc_stream **ret, struct err *err) _must_check_;
int rpc_stream_send(struct rpc_stream *s, const ProtobufCMessage *msg,
		    struct err *err) _must_check_;
int rpc_stream_close_send(struct rpc_stream *s, struct err *err) _must_check_;
/* 1 = got a message (in @arena), 0 = ended with OK, negative = ended with an error. */
int rpc_stream_recv(struct rpc_stream *s, struct arena *arena,
		    const ProtobufCMessageDescriptor *desc, void *ret /* T ** */,
		    struct err *err) _must_check_;
/* From here on waiting in rpc_stream_send() and rpc_stream_recv() ends with @ctx, too, which lives
 * as long as @s. The stream itself goes on. */
void rpc_stream_bind(struct rpc_stream *s, const struct ctx *ctx);
/* Wakes a blocked rpc_stream_recv with -ERR_CANCELED and resets the stream. Any thread. */
void rpc_stream_cancel(struct rpc_stream *s);
void rpc_stream_free(struct rpc_stream *s); /* cancels when it has not ended */

/* ---- protobuf-c helpers ---- */

/* Allocator over an arena: free does nothing. The struct must stay while messages are unpacked. */
ProtobufCAllocator rpc_allocator(struct arena *a);
/* Unpacks into the arena; -ERR_INVALID_ARGUMENT naming the type. */
int rpc_unpack(struct arena *a, const ProtobufCMessageDescriptor *desc, const void *p, size_t n,
	       void *ret /* T ** */, struct err *err) _must_check_;
/* Packs into the arena; NULL = no memory. */
uint8_t *rpc_pack(struct arena *a, const ProtobufCMessage *msg, size_t *ret_n);

/* Method's entry by name, with the descriptors of its messages; NULL. */
const struct rpc_method *rpc_service_method(const struct rpc_service *s, const char *name,
					    const ProtobufCMessageDescriptor **ret_in,
					    const ProtobufCMessageDescriptor **ret_out);

DEFINE_CLEANUP(struct rpc_client *, rpc_client_free)
DEFINE_CLEANUP(struct rpc_stream *, rpc_stream_free)
