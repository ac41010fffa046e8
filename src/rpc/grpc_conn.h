/* SPDX-License-Identifier: Apache-2.0 */
/* An HTTP/2 connection on the loop, either side: socket and nghttp2 session. Private to rpc/.
 *
 * The session's callbacks never write to the socket and never free a connection; both happen at the
 * top of an event, of a timer, or after a flush of the hub. */
#pragma once

#include <nghttp2/nghttp2.h>

#include "rpc/grpc_frame.h"

#define H2_STREAM_WINDOW (1 << 20)
#define H2_CONN_WINDOW (4 << 20)

struct h2_conn;

struct h2_conn {
	void (*closed)(struct h2_conn *c); /* broken or finished; frees it or its socket */
	nghttp2_session *session;
	int fd;
	struct loop_source *source;
	struct buf out; /* taken from the session, not written yet */
	size_t out_off;
	bool want_out;
	bool dead;
	int64_t last_recv;
	struct h2_conn *dirty_next; /* for the owner: connections to write after a flush */
	bool dirty;
};

/* Takes @fd over on success; c->session is made by the caller before. -errno. */
int h2_conn_init(struct h2_conn *c, struct loop *l, int fd, void (*closed)(struct h2_conn *c));
/* Closes socket and session, without ->closed. */
void h2_conn_done(struct h2_conn *c);
/* Writes what it can. False = it is to be closed by the caller. */
bool h2_conn_write(struct h2_conn *c);
/* Options and settings that both sides share. NULL = no memory. */
nghttp2_option *h2_options(void);
int h2_submit_settings(nghttp2_session *session, uint32_t max_streams);

/* For a data provider: fills @buf from what waits in @p. -1 = nothing there and more to come, else
 * the count; *@ret_end when nothing will follow. @over: no more messages will be queued, whatever
 * p->out_eof says. */
ssize_t h2_pipe_read(struct rpc_pipe *p, uint8_t *buf, size_t room, bool over, bool *ret_end);

/* Gives back the stream's window for what its reader took: *@held is what was received and not
 * given back, @partial what of it is an unfinished message, @gone: nobody reads any more. */
void h2_credit(struct h2_conn *c, struct rpc_pipe *p, int32_t id, size_t *held, size_t partial,
	       bool gone);

#define H2_NV(n, v)                            \
	((nghttp2_nv){.name = (uint8_t *)(n),  \
		      .namelen = strlen(n),    \
		      .value = (uint8_t *)(v), \
		      .valuelen = strlen(v)})
