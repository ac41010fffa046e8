/* SPDX-License-Identifier: Apache-2.0 */
/* A ttrpc connection on the loop, either side. Private to rpc/.
 *
 * Incoming frames go to ops->frame. Outgoing ones queue here; a message with an owner counts as the
 * owner's until it is written. ops->closed comes once, from the top of an event, and may free the
 * connection. */
#pragma once

#include "rpc/ttrpc_frame.h"

struct ttrpc_conn;

struct ttrpc_conn_ops {
	/* @msg is the callee's; NULL for an oversized payload. */
	void (*frame)(struct ttrpc_conn *c, const struct ttrpc_header *h, struct rpc_msg *msg);
	void (*closed)(struct ttrpc_conn *c);
	/* After an event that left nothing to write; may free the connection. May be NULL. */
	void (*written)(struct ttrpc_conn *c);
};

struct ttrpc_conn {
	const struct ttrpc_conn_ops *ops;
	int fd;
	struct loop_source *source;
	struct ttrpc_reader reader;
	struct rpc_queue out;
	size_t out_max; /* bytes; while more wait nothing is read; 0 = as many as there are. A
			   server's: two peers that both waited would do so for ever */
	bool want_out, full;
	bool dead;		       /* to be closed */
	struct rpc_pipe *paused;       /* whose reader is slow: nothing is read meanwhile */
	struct ttrpc_conn *dirty_next; /* for the owner: connections to write after a flush */
	bool dirty;
};

/* Takes @fd over on success; -errno. */
int ttrpc_conn_init(struct ttrpc_conn *c, struct loop *l, int fd, const struct ttrpc_conn_ops *ops);
/* Closes, without ops->closed. */
void ttrpc_conn_done(struct ttrpc_conn *c);
/* @m is taken over. */
void ttrpc_conn_queue(struct ttrpc_conn *c, struct rpc_msg *m);
/* Moves the pipe's waiting messages as data frames of stream @id. */
void ttrpc_conn_queue_data(struct ttrpc_conn *c, struct rpc_pipe *p, uint32_t id);
/* An empty frame or one with a packed message; -ENOMEM. */
int ttrpc_conn_queue_message(struct ttrpc_conn *c, uint32_t id, uint8_t type, uint8_t flags,
			     const ProtobufCMessage *msg);
/* Writes what it can; false = the connection is broken, the caller closes it at the top of the
 * event. */
bool ttrpc_conn_write(struct ttrpc_conn *c);
/* After a push to @p: stop reading while it holds too much. After a flush or detach of @p: go on.
 */
void ttrpc_conn_pause(struct ttrpc_conn *c, struct rpc_pipe *p);
void ttrpc_conn_resume(struct ttrpc_conn *c, struct rpc_pipe *p, bool gone);
