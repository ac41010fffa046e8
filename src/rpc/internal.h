/* SPDX-License-Identifier: Apache-2.0 */
/* What the transports share; private to rpc/.
 *
 * A pipe is one stream of messages in each direction between the loop and other threads. The loop's
 * side (the transport) puts received messages in and takes outgoing ones; the other side (a
 * handler, a client's caller) does the reverse and may block. A pipe belongs to a hub: one server
 * or one client on one loop. Whoever has changed a pipe off the loop marks it; the hub then calls
 * ops->flush(pipe) for each marked pipe on the loop, and ops->flushed(hub) once after them, so that
 * many calls share a write.
 *
 * Locks: pipe.mu, hub.mu; never both at once, never across a callback. Fields without a comment
 * belong to the loop.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "event/loop.h"
#include "event/pool.h"
#include "rpc/rpc.h"

/* Room before each message for what a transport writes in front of it. */
#define RPC_MSG_ROOM 24
/* Bytes that may wait unsent in a stream before a sender blocks. */
#define RPC_STREAM_SHARE ((size_t)1 << 20)
#define RPC_ARENA_MAX ((size_t)64 << 20)
#define RPC_MESSAGE_MAX ((size_t)16 << 20)
#define RPC_METADATA_MAX ((size_t)64 << 10)

struct rpc_pipe;
struct rpc_hub;

struct rpc_msg {
	struct rpc_msg *next;
	struct rpc_pipe *owner; /* in a connection's queue: who is told when it is sent (a
				   reference), or NULL */
	uint8_t *p;		/* what is left of it */
	size_t n;
	size_t size; /* as accounted in its queue */
	bool framed; /* the transport has put its prefix before p */
	uint8_t buf[];
};

struct rpc_queue {
	struct rpc_msg *head, *tail;
	size_t count;
	size_t bytes;
};

/* p points behind RPC_MSG_ROOM bytes; NULL = no memory. */
struct rpc_msg *rpc_msg_new(size_t n);
void rpc_msg_free(struct rpc_msg *m);
void rpc_queue_push(struct rpc_queue *q, struct rpc_msg *m);
struct rpc_msg *rpc_queue_pop(struct rpc_queue *q);
void rpc_queue_clear(struct rpc_queue *q);
DEFINE_CLEANUP(struct rpc_msg *, rpc_msg_free)

struct rpc_hub_ops {
	const char *name; /* of the protocol, for texts */
	void (*flushed)(struct rpc_hub *hub);
	void (*free)(struct rpc_hub *hub);
};

struct rpc_hub {
	const struct rpc_hub_ops *ops;
	struct loop *loop;
	atomic_uint refs;
	pthread_mutex_t mu;
	/* mu: */
	struct rpc_pipe *dirty_head, *dirty_tail;
	size_t n_dirty;
	bool posted;
	bool closed; /* no flush will come any more */
};

void rpc_hub_init(struct rpc_hub *h, struct loop *l, const struct rpc_hub_ops *ops);
void rpc_hub_ref(struct rpc_hub *h);
void rpc_hub_unref(struct rpc_hub *h);
/* Flushes what is marked; the loop's thread. */
void rpc_hub_run(struct rpc_hub *h);
/* Later marks fail; marked pipes are flushed a last time. The loop's thread, or when it does not
 * run. */
void rpc_hub_close(struct rpc_hub *h);
/* Closes a server's hub, whose loop does not run any more, and drops the owner's reference. */
void rpc_hub_abandon(struct rpc_hub *h);

struct rpc_pipe_ops {
	void (*flush)(struct rpc_pipe *p);
	void (*free)(struct rpc_pipe *p); /* last reference gone; any thread */
};

struct rpc_pipe {
	const struct rpc_pipe_ops *ops;
	struct rpc_hub *hub; /* a reference */
	atomic_uint refs;
	pthread_mutex_t mu;
	pthread_cond_t cond;
	/* mu: */
	struct rpc_queue in, out;
	bool in_eof;	  /* no more incoming messages: the end was regular, or see ended */
	bool out_eof;	  /* no more outgoing messages will be queued */
	bool in_closed;	  /* the reader has gone: incoming messages are dropped */
	bool in_whole;	  /* the reader needs the end too: a message alone does not wake it */
	unsigned writers; /* that wait for room in @out */
	bool want_drain;  /* the transport wants a flush when the incoming queue is empty */
	size_t unsent;	  /* bytes of messages that left @out for a connection's queue and are not
			     written yet */
	size_t taken;	  /* bytes taken from the incoming queue since the last mark for it */
	bool ended;	  /* over: with end_kind (0 = OK, clients only) and end_text */
	int end_kind;
	char *end_text; /* set once with ended */
	/* hub->mu: */
	struct rpc_pipe *dirty_next;
	bool dirty;
};

void rpc_pipe_init(struct rpc_pipe *p, struct rpc_hub *h, const struct rpc_pipe_ops *ops);
/* For ops->free. */
void rpc_pipe_done(struct rpc_pipe *p);
void rpc_pipe_ref(struct rpc_pipe *p);
void rpc_pipe_unref(struct rpc_pipe *p);
/* Any thread, pipe.mu not held. False when the hub is closed. */
bool rpc_pipe_mark(struct rpc_pipe *p);
/* Ends it and wakes all; false when it had ended before. Drops what waits unsent, and with @drop_in
 * what was not read; pipe.mu not held. */
bool rpc_pipe_end(struct rpc_pipe *p, int kind, const char *text, bool drop_in);
/* The loop: hands an incoming message over (or frees it when nobody wants it). */
void rpc_pipe_push(struct rpc_pipe *p, struct rpc_msg *m);
void rpc_pipe_push_eof(struct rpc_pipe *p);
/* Waits; 1 = *@ret is the caller's, 0 = end, negative = error. @ctx: a canceled context ends the
 * wait (may be NULL). */
int rpc_pipe_take(struct rpc_pipe *p, const struct ctx *ctx, struct rpc_msg **ret,
		  struct err *err) _must_check_;
/* Queues @m (taken over in any case) once less than @limit bytes wait; @block or
 * -ERR_RESOURCE_EXHAUSTED. Does not mark. */
int rpc_pipe_put(struct rpc_pipe *p, struct rpc_msg *m, size_t limit, bool block,
		 const struct ctx *ctx, struct err *err) _must_check_;
/* Error of an ended pipe; pipe.mu held. */
int rpc_pipe_error(const struct rpc_pipe *p, struct err *err);
/* Encodes, with RPC_MSG_ROOM in front; -ERR_RESOURCE_EXHAUSTED over @max bytes. */
int rpc_msg_pack(const struct rpc_hub *h, const ProtobufCMessage *msg, size_t max,
		 struct rpc_msg **ret, struct err *err) _must_check_;
int rpc_msg_copy(const struct rpc_hub *h, const void *p, size_t n, size_t max, struct rpc_msg **ret,
		 struct err *err) _must_check_;

/* ---- Server ---- */

struct rpc_entry {
	char *path; /* "/service/Method" */
	const struct rpc_service *service;
	const struct rpc_method *method;
	const ProtobufCMessageDescriptor *in, *out;
	struct rpc_stats *stats;
};

struct rpc_server {
	struct rpc_hub hub;
	struct pool *pool; /* NULL = handlers run on the loop */
	size_t max_recv, max_send;
	void (*on_done)(void *arg, const char *path, int code, const char *text, int64_t ns);
	void *on_done_arg;
	/* Unchanged after the first connection: */
	const struct rpc_service **services;
	size_t n_services;
	struct rpc_entry *entries;
	size_t n_entries;
	size_t *table; /* index + 1 into entries; open addressing */
	size_t table_size;
};

/* 0 or -errno: -EEXIST, -ENOMEM, -EINVAL (a method that the descriptor lacks). */
int rpc_server_add(struct rpc_server *s, const struct rpc_service *service);
void rpc_server_done(struct rpc_server *s);
/* NULL when there is none (or none with a handler): rpc_server_why() tells. */
const struct rpc_entry *rpc_server_find(const struct rpc_server *s, const char *path);
/* Fills @err for a path that rpc_server_find() does not know: Unimplemented. */
int rpc_server_why(const struct rpc_server *s, const char *path, struct err *err);

struct rpc_call {
	struct rpc_pipe pipe; /* first */
	struct ctx ctx;
	struct rpc_server *server;
	const struct rpc_entry *entry; /* NULL: rejected */
	char *path;		       /* of a rejected call */
	struct buf *md; /* metadata: key NUL value NUL ...; unchanged once dispatched */
	int64_t start;
	struct loop_source *timer;
	bool started;
	atomic_bool waits;	  /* see rpc_defer_wait() */
	struct arena *recv_arena; /* the handler's */
	/* pipe.mu: */
	size_t sent;
	bool finished;
	int code;   /* outcome, once finished */
	char *text; /* of the outcome, NULL = none */
	void (*cancel_fn)(void *arg);
	void *cancel_arg;
	bool cancel_due; /* registered after the end: call it from the flush */
};

static inline bool rpc_kind_streams_in(enum rpc_kind k)
{
	return k == RPC_CLIENT_STREAM || k == RPC_BIDI;
}
static inline bool rpc_kind_streams_out(enum rpc_kind k)
{
	return k == RPC_SERVER_STREAM || k == RPC_BIDI;
}

/* Transports, on the loop. One reference (the stream's) belongs to the caller. */
int rpc_call_init(struct rpc_call *c, struct rpc_server *s, const struct rpc_pipe_ops *ops);
void rpc_call_done(struct rpc_call *c); /* for ops->free */
/* Adds metadata; -ENOMEM, -E2BIG. */
int rpc_call_add_metadata(struct rpc_call *c, const char *key, size_t nkey, const char *value,
			  size_t nvalue);
/* Namespace and lease from metadata. @ns_key: its key. */
void rpc_call_set_namespace(struct rpc_call *c, const char *ns_key, const char *lease_key);
/* Starts the clock; -errno. */
int rpc_call_set_deadline(struct rpc_call *c, int64_t at);
/* Runs the handler. A unary request must have been pushed. */
void rpc_call_dispatch(struct rpc_call *c);
/* Ends a call that was not dispatched with an error. */
void rpc_call_reject(struct rpc_call *c, const struct err *err);
/* Tells the handler that it is over. */
void rpc_call_cancel(struct rpc_call *c, int kind, const char *text);
/* To begin with in flush. */
void rpc_call_flush(struct rpc_call *c);
/* The transport knows it no more: cancels if needed and drops the stream's reference. */
void rpc_call_detach(struct rpc_call *c);
/* pipe.mu held: true when the final status is known. *@ret_text valid while mu is held. */
bool rpc_call_status(const struct rpc_call *c, int *ret_code, const char **ret_text);

/* ---- Client ---- */

struct rpc_client_ops {
	size_t stream_size; /* of the transport's struct, whose first member is struct rpc_stream */
	void (*open)(struct rpc_stream *s);  /* first flush of a stream: sends the request's head;
						may end the stream */
	void (*flush)(struct rpc_stream *s); /* sends what is queued */
	void (*reset)(struct rpc_stream *s); /* ended on this side: forget it */
	void (*done)(struct rpc_stream *s);  /* frees the transport's part, any thread */
	void (*close)(struct rpc_client *c); /* closes the connection; streams were ended */
};

struct rpc_client {
	struct rpc_hub hub; /* first */
	const struct rpc_client_ops *ops;
	size_t max_recv, max_send;
	struct rpc_stream *streams; /* opened and not ended */
	bool dead;		    /* connection gone */
	char dead_text[128];	    /* why */
	atomic_bool lost;	    /* dead, or about to be: takes no more calls */
};

struct rpc_stream {
	struct rpc_pipe pipe; /* first */
	struct rpc_client *client;
	const char *service, *method, *ns, *lease; /* in one block behind names */
	char *names;
	int64_t deadline;
	bool unary;
	rpc_done_fn fn; /* async: called on the loop */
	void *arg;
	struct rpc_stream *next, *prev;
	bool linked, over;
	struct loop_source *timer;
	bool canceled; /* pipe.mu */
	atomic_bool reading;
	const struct ctx *ctx; /* of who waits, or NULL */
};

void rpc_client_init(struct rpc_client *c, struct loop *l, const struct rpc_hub_ops *hops,
		     const struct rpc_client_ops *ops);
/* Loop: outcome of a stream (kind 0 = OK). Runs an async call's callback; drops the loop's
 * reference. */
void rpc_stream_end(struct rpc_stream *s, int kind, const char *text);
/* Loop: the connection has gone, all streams end. */
void rpc_client_die(struct rpc_client *c, const char *text);
