/* SPDX-License-Identifier: Apache-2.0 */
/* Plugins in other processes ([proxy_plugins]): a gRPC server behind a unix socket takes the place
 * of a snapshotter, content store, differ or sandbox controller.
 *
 * Nothing is connected before the first call. A connection that is gone (the plugin was started
 * anew) is made again by the next call. Namespace and lease of the caller go along; the plugin's
 * errors come back with their codes and texts. What comes of the way to the plugin (nobody listens,
 * the connection broke, no answer in time) names the plugin and its address.
 *
 * Nothing waits for ever: a call ends at its caller's deadline or cancellation, at the limit given
 * here, or when the peer's process does not answer HTTP/2's PING.
 *
 * Any thread but the loop's; results live in ctx's arena.
 */
#pragma once

#include <stdint.h>

#include "base/time.h"
#include "rpc/rpc.h"

struct loop;
struct proxy;
struct proxy_stream;

/* Limits: of what is looked up, and of what may move files. */
#define PROXY_QUICK_NS (30 * NSEC_PER_SEC)
#define PROXY_SLOW_NS (600 * NSEC_PER_SEC)
#define PROXY_UNLIMITED_NS 0

/* @name is borrowed. @address: "/run/x.sock", "unix:///run/x.sock".
 *
 * -ERR_INVALID_ARGUMENT  the address is none of a unix socket */
int proxy_new(struct loop *l, const char *name, const char *address, struct proxy **ret,
	      struct err *err) _must_check_;
/* While the loop runs: ends the calls, closes the connection and makes no other. */
void proxy_disconnect(struct proxy *p);
/* After the loop; nobody calls any more. */
void proxy_free(struct proxy *p);
const char *proxy_name(const struct proxy *p);

/* One message each way. @ret_resp: T ** or NULL. */
int proxy_call(struct proxy *p, struct ctx *ctx, const ProtobufCServiceDescriptor *service,
	       const char *method, const ProtobufCMessage *req, int64_t limit_ns, void *ret_resp,
	       struct err *err) _must_check_;

/* The same without a thread and without a limit: @fn runs on the loop, once, unless
 * proxy_pending_cancel() returned true. Loop's thread, as is the cancelling. */
struct proxy_pending;
int proxy_call_async(struct proxy *p, const char *ns, const ProtobufCServiceDescriptor *service,
		     const char *method, const ProtobufCMessage *req, rpc_done_fn fn, void *arg,
		     struct proxy_pending **ret, struct err *err) _must_check_;
bool proxy_pending_cancel(struct proxy_pending *c);

/* Streams. @req NULL = the caller sends. The limit is that of the wait for one message. Freed by
 * proxy_stream_free() before ctx ends. */
int proxy_stream_open(struct proxy *p, struct ctx *ctx, const ProtobufCServiceDescriptor *service,
		      const char *method, const ProtobufCMessage *req, int64_t limit_ns,
		      struct proxy_stream **ret, struct err *err) _must_check_;
int proxy_stream_send(struct proxy_stream *s, const ProtobufCMessage *msg,
		      struct err *err) _must_check_;
/* 1 = *@ret_resp is in @a; 0 = the end. */
int proxy_stream_recv(struct proxy_stream *s, struct arena *a, void *ret_resp,
		      struct err *err) _must_check_;
void proxy_stream_free(struct proxy_stream *s); /* NULL is fine */

DEFINE_CLEANUP(struct proxy_stream *, proxy_stream_free)
