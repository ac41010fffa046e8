/* SPDX-License-Identifier: Apache-2.0 */
/* The role "front" inside: listening sockets, TLS, HTTP. One thread, one epoll set, into which
 * libmicrohttpd's own is hung.
 *
 * front.c        messages of the daemon, accepting, the loop
 * front_http.c   requests become messages, answers become responses
 * front_lib.c    loads libmicrohttpd and GnuTLS
 * front_tls.c    certificates and handshakes
 * front_relay.c  bytes between two sockets, of which one may be TLS
 * tunnel.h       upgraded connections with several streams
 *
 * Every connection is one of three: plain HTTP is libmicrohttpd's at once; TLS is a relay between
 * the client and one end of a socket pair, whose other end is libmicrohttpd's or the daemon's;
 * plain bytes for the daemon are just handed over. An upgraded request is a relay, too. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/err.h"
#include "worker/front_lib.h"

#define LISTENERS_MAX 8
#define BODY_MAX (64u << 10)
#define HEAD_MAX (32u << 10)
#define IDLE_SECONDS 60
#define HANDSHAKE_NS (20 * NSEC_PER_SEC)

struct channel;
struct front;
struct tunnel;
struct MHD_Daemon;
struct http_request;

/* Something in the epoll set; @fn is called with what happened. */
struct source {
	void (*fn)(struct source *s, uint32_t events);
	int fd;
	uint32_t events; /* as registered; 0 = not in the set */
};

/* Counted: handshakes go on with the ones with which they began. */
struct credentials {
	unsigned refs;
	gnutls_certificate_credentials_t cert;
	bool client_ca;
};

struct listener {
	struct source source; /* first */
	struct front *front;
	size_t index;
	bool http; /* else bare streams */
	struct credentials *tls;
	bool alpn_h2;
};

struct relay_end {
	struct source source; /* first */
	struct relay *relay;
	gnutls_session_t tls;
	bool gone; /* the peer takes nothing any more */
};

struct relay_flow {
	char *rest; /* read and not written yet */
	size_t off, n;
	bool eof, shut; /* the reader's end was seen; it was passed on */
};

struct relay {
	struct front *front;
	struct relay *prev, *next;
	struct relay_end end[2];
	struct relay_flow flow[2]; /* flow[i]: from end[i] */
	bool dead, hot;		   /* hot: there is more to do without a new event */
	/* while there is a handshake to do, with end[0] */
	int64_t deadline;
	struct listener *listener;
	struct credentials *cred;
	void (*closed)(void *arg); /* closes end[0]'s descriptor, which is not ours; may be NULL */
	void *arg;
};

/* A message on its way to the daemon. */
struct outgoing {
	struct outgoing *next;
	int fd; /* goes with the first byte; -1 = none */
	size_t off, n;
	char *bytes;
};

struct front {
	int sock, epoll;
	struct outgoing *out, **out_end; /* what the daemon has not taken; first and last */
	size_t n_out;
	struct source control, http_source;
	struct listener listeners[LISTENERS_MAX];
	size_t n_listeners;
	struct MHD_Daemon *http;
	bool http_touched; /* libmicrohttpd has something to do */
	struct http_request *requests;
	int64_t last_id;
	struct relay *relays, *graves;
	size_t n_relays, max_connections;
	struct tunnel *tunnels, *dead_tunnels;
	struct channel *dead_channels;
	int64_t resume_accept; /* monotonic; 0 = accepting */
	gnutls_priority_t priority;
	bool broken; /* the daemon cannot be reached any more */
};

/* front.c */
/* Registers for @events (0 = takes it out). -errno. */
int source_set(struct front *f, struct source *s, uint32_t events);
/* Takes both over. Never waits: what the daemon does not take is kept. */
void front_send(struct front *f, json_t *msg, int fd);

/* front_http.c */
int web_start(struct front *f, struct err *err) _must_check_;
/* Takes @fd over. */
void web_accept(struct front *f, int fd, const struct sockaddr *addr, socklen_t len,
		size_t listener);
/* The daemon's answer; @fd (-1 = none) is taken over. */
void web_answer(struct front *f, const json_t *reply, int fd);

/* front_tls.c */
/* From {"cert","key","ca"} or {"self_signed"}. */
int credentials_new(const json_t *tls, struct credentials **ret, struct err *err) _must_check_;
void credentials_unref(struct credentials *c);
/* Begins the handshake; takes @fd over. */
void tls_accept(struct listener *l, int fd);
/* Goes on with it. */
void tls_handshake(struct relay *r);

/* front_relay.c */
struct relay *relay_new(struct front *f, int fd); /* end[0]; NULL = no memory, @fd not taken */
void relay_set_peer(struct relay *r, int fd);	  /* end[1]; taken over */
/* What was read from end[0] already. -ENOMEM. */
int relay_push(struct relay *r, const void *p, size_t n);
void relay_pump(struct relay *r);
/* Closes; the memory goes at the end of the round. */
void relay_kill(struct relay *r);
/* At the end of each round: frees, goes on with the hot ones; true = some still are. */
bool relays_tend(struct front *f);
