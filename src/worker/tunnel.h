/* SPDX-License-Identifier: Apache-2.0 */
/* An upgraded connection in which several streams run (exec, attach, port-forward), taken apart:
 * each stream, here called a channel, is joined to a descriptor that the daemon gave, and what is
 * more than bytes becomes messages on a control socket (protocol.h, "session").
 *
 * tunnel.c        the connection, channels, limits of time and memory
 * tunnel_spdy.c   framing by SPDY/3.1
 * tunnel_ws.c     framing by WebSocket
 * tunnel_ports.c  pairs of channels that forward a port
 *
 * What a descriptor does not take is kept, up to PENDING_MAX of a channel; then the whole
 * connection is not read any more, for the clients that matter (Kubernetes' own) know of no flow
 * control but TCP's. Descriptors are read only while there is little that the client has not
 * taken. Everything else that is kept has a fixed size, so a connection costs a bounded amount of
 * memory, and none but itself waits for its client. */
#pragma once

#include "base/buf.h"
#include "worker/front.h"
#include "worker/spdy.h"
#include "worker/websocket.h"

#define CHANNELS_MAX 512
#define PENDING_MAX (128u << 10)
#define OUT_FULL (64u << 10)  /* no more is read from descriptors */
#define OUT_MAX (256u << 10)  /* nor from the client, whose bytes may need answers */
#define PIECE_MAX (16u << 10) /* of data in a frame of ours */
#define REQUEST_MAX 63
#define PORTS_MAX 64 /* of a WebSocket connection */

enum channel_role {
	CHANNEL_ERROR,
	CHANNEL_STDIN,
	CHANNEL_STDOUT,
	CHANNEL_STDERR,
	CHANNEL_RESIZE,
	CHANNEL_DATA, /* of a forwarded port */
};

struct tunnel;

struct channel {
	struct source source; /* first; its fd may be -1 */
	struct tunnel *tunnel;
	struct channel *next, *peer; /* peer: the other one of a pair */
	uint32_t id;
	enum channel_role role;
	struct buf pending; /* from the client */
	bool in_end;	    /* the client has ended it */
	bool in_done;	    /* and so was told; or nobody takes it any more */
	bool out_done;	    /* we have ended it */
	int64_t deadline;   /* monotonic; of pairs */
	uint16_t port;
	char request[REQUEST_MAX + 1];
	int64_t window;	   /* SPDY: what the client will take */
	uint32_t consumed; /* SPDY: bytes that it was not told of */
	struct base64 base64;
};

enum tunnel_state {
	TUNNEL_OPENING, /* the client must open its streams */
	TUNNEL_OPEN,
	TUNNEL_ENDING, /* the daemon has ended it; output is passed on */
	TUNNEL_LAST,   /* the last words are in the buffer */
	TUNNEL_LINGER, /* and sent: the client may close */
};

struct framing {
	/* The connection is there. -errno */
	int (*start)(struct tunnel *t);
	int (*input)(struct tunnel *t, const void *p, size_t n);
	/* How much may be sent on @c now. */
	size_t (*room)(const struct tunnel *t, const struct channel *c);
	void (*write)(struct tunnel *t, struct channel *c, const void *p, size_t n);
	void (*end)(struct tunnel *t, struct channel *c);
	/* @n bytes of the client are done with; @c NULL: of no channel. */
	void (*consumed)(struct tunnel *t, struct channel *c, size_t n);
	/* Last words; @fault: the client's. */
	void (*finish)(struct tunnel *t, bool fault);
};
extern const struct framing framing_spdy, framing_websocket;

struct tunnel {
	struct source client, control;
	struct front *front;
	struct tunnel *prev, *next;
	void (*closed)(void *arg); /* closes the client's descriptor */
	void *arg;
	const struct framing *framing;
	enum tunnel_state state;
	bool dead, client_eof;
	struct channel *channels;
	size_t n_channels;
	struct buf out;
	size_t out_off;	       /* of it is sent */
	int64_t deadline;      /* monotonic: to open, to linger; 0 = none */
	int64_t idle_ns, last; /* 0 = no limit; when a byte moved */
	/* the session's parameters */
	bool ports;	 /* else a command's streams */
	unsigned wanted; /* bits of roles that the client must open */
	uint16_t port_list[PORTS_MAX];
	size_t n_ports;
	int64_t create_ns;
	char *status; /* for the error stream, at the end */
	/* the terminal's size: the daemon is told one at a time */
	bool size_busy, size_new;
	unsigned width, height;
	/* SPDY */
	struct spdy *spdy;
	bool flow;	      /* the client does flow control */
	int64_t window;	      /* of the session */
	int64_t first_window; /* of new streams */
	uint32_t consumed, last_id;
	size_t n_dials; /* that the daemon has not answered */
	/* WebSocket */
	struct websocket ws;
	bool base64, close_signal;
	int at;	       /* channel of the message that is being read, -1 = its first byte comes */
	bool at_close; /* the message names a channel to end */
};

/* Takes @fd (only with @closed), @control, and the bytes that came already. */
void tunnel_start(struct front *f, int fd, void (*closed)(void *arg), void *arg,
		  const json_t *session, int control, const void *extra, size_t n_extra);
/* Ends what is over; when to look again (monotonic, 0 = not). */
int64_t tunnels_expire(struct front *f, int64_t now);
/* At the end of each round: frees. */
void tunnels_tend(struct front *f);

/* ---- between the files ---- */

/* NULL = too many, or no memory. */
struct channel *channel_new(struct tunnel *t, uint32_t id, enum channel_role role);
struct channel *channel_by_id(struct tunnel *t, uint32_t id);
struct channel *channel_by_role(struct tunnel *t, enum channel_role role);
/* Joins it to @fd, which is taken over. */
void channel_set_fd(struct channel *c, int fd);
/* From the client. -errno */
int channel_input(struct channel *c, const void *p, size_t n);
void channel_input_end(struct channel *c);
/* Ends it towards the client, once. */
void channel_end(struct channel *c);
/* Its descriptor goes: the client wants nothing of it any more. */
void channel_shut(struct channel *c);
/* Leaves the list; nobody is told. */
void channel_drop(struct channel *c);
/* All that the client must open is there? */
void tunnel_check_open(struct tunnel *t);
void tunnel_send(struct tunnel *t, json_t *m); /* to the daemon; takes @m over */
void tunnel_finish(struct tunnel *t, bool fault);

/* tunnel_ports.c */
void ports_opened(struct channel *c);			      /* with port and request */
void ports_dialed(struct tunnel *t, const json_t *m, int fd); /* takes @fd over */
void ports_moved(struct channel *data);			      /* bytes or ends */
void ports_expired(struct channel *c);
void ports_over(struct channel *c); /* the client has ended it by force */
