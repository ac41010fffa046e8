/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon's side of the worker's role "front": HTTP and TLS for a server of the daemon, spoken
 * by a confined process.
 *
 * The daemon binds sockets and hands them over. The process accepts, does TLS, takes HTTP/1.1 apart
 * and asks the daemon what to answer; or it hands over the bare stream of a connection (gRPC). It
 * has no files, no capabilities, and can open no connection. When it dies it is started again, with
 * growing pauses; its connections are lost, the listening sockets are not.
 *
 * One struct front is one process. What a process says about its connections is all that the daemon
 * knows of them, so servers that trust their clients differently do not share one.
 *
 * Certificates are read by the daemon and given to the process; when a file changes (directories
 * are watched, nothing is polled) new connections get the new one. A pair that does not fit
 * together is warned about and the old one stays.
 *
 * Threads: each front has one for the messages of its process. Handlers run on threads of the pool
 * and may block; the functions for replies are for any thread. Any number of fronts.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/err.h"

#define FRONT_LISTENERS_MAX 8
#define FRONT_CONNECTIONS_MAX 256  /* unless said otherwise; more are closed at once */
#define FRONT_REQUESTS_MAX 64	   /* without an answer yet; more are answered 503 by themselves */
#define FRONT_HEAD_MAX (32u << 10) /* request line and headers; more: 431 or 414 */
#define FRONT_BODY_MAX (64u << 10) /* of a request; more: 413. UTF-8 without NUL, else: 400 */
#define FRONT_REPLY_HEAD_MAX (16u << 10)
#define FRONT_REPLY_MAX (64u << 20) /* of front_reply(); streams have no limit */
#define FRONT_TLS_MAX (256u << 10)  /* of a file with certificates or a key */
#define FRONT_IDLE_SECONDS 60	    /* an HTTP client that neither sends nor takes is dropped */
#define FRONT_HANDSHAKE_SECONDS 20  /* for TLS */

struct pool;
struct front;
struct front_request;

struct front_header { /* repeatable */
	const char *name;
	const char *value;
};

/* ---- What is served ---- */

enum front_kind {
	FRONT_HTTP,   /* requests go to the routes */
	FRONT_STREAM, /* each connection's bytes, without TLS, go to options.stream */
};

struct front_listener {
	int fd; /* listening, TCP or unix */
	enum front_kind kind;
	/* TLS (1.2 and 1.3) when there is a certificate. Files in PEM; the certificate's may hold
	 * its chain. */
	const char *tls_cert, *tls_key;
	const char *tls_ca; /* clients must show a certificate of these; NULL = they need none */
	bool self_signed;   /* in place of tls_cert: the process makes one for itself */
	const char *alpn;   /* "h2": TLS clients that offer protocols must offer this; NULL = any */
};

/* Runs on a pool thread, exactly one front_reply*() belongs to it; that may come after the return,
 * from any thread. */
typedef void (*front_handler)(struct front_request *q, void *arg);

struct front_route {
	const char *method; /* NULL = any; "GET" takes HEAD too */
	const char
		*path; /* "/v1/metrics"; one that ends in '/' takes all below. The longest wins */
	front_handler fn;
	void *arg;
};

struct front_options {
	const char *name; /* of the server, for the texts of errors and logs: "metrics" */
	struct pool *pool;
	const struct front_listener *listeners;
	size_t n_listeners;
	const struct front_route *routes; /* copied; no route fits: 404, wrong method: 405 */
	size_t n_routes;
	/* FRONT_STREAM: takes @fd (a unix stream socket, does not block) over. On the front's
	 * thread: must not block. */
	void (*stream)(void *arg, int fd);
	void *stream_arg;
	/* What the daemon's administrator should know (the process died, a certificate is no good),
	 * on the front's thread. NULL = nobody is told. */
	void (*warn)(void *arg, const char *text);
	void *warn_arg;
	size_t max_connections; /* 0 = FRONT_CONNECTIONS_MAX */
};

/* Starts the process and waits until it serves. On success the listening sockets are the front's;
 * everything else in @o is copied.
 *
 * -ERR_NOT_FOUND, ... a certificate file cannot be read
 * -ERR_INVALID_ARGUMENT  certificate and key are no good
 * -ERR_UNAVAILABLE       the process could not be started */
int front_start(const struct front_options *o, struct front **ret, struct err *err) _must_check_;

/* Ends the process and with it all connections, closes the listening sockets; handlers that still
 * run reply to nobody. Before the pool is freed. Not on a handler's thread. NULL is fine. */
void front_free(struct front *f);

/* ---- A request: the strings live until the reply ---- */

const char *front_method(const struct front_request *q);
const char *front_path(const struct front_request *q); /* decoded, without the query */
/* First value of a parameter of the query; NULL = absent. */
const char *front_query(const struct front_request *q, const char *key);
/* First value of a header, whose case does not matter; NULL = absent. */
const char *front_request_header(const struct front_request *q, const char *name);
/* The @i-th header; false at the end. For those that are repeated. */
bool front_request_header_at(const struct front_request *q, size_t i, struct front_header *ret);
const char *front_body(const struct front_request *q); /* "" when there is none */
/* Number of the listener that it came through. */
size_t front_request_listener(const struct front_request *q);

/* ---- Replies: each takes @q over, whatever becomes of it. The client may be gone: nobody is
 * told. @type is the content type, NULL = none. Header values must not hold line ends. ---- */

/* The whole answer, copied. A slow client holds neither thread nor memory of the caller's. */
void front_reply(struct front_request *q, int status, const char *type, const void *body, size_t n);
void front_reply_headers(struct front_request *q, int status, const char *type,
			 const struct front_header *headers, size_t n_headers, const void *body,
			 size_t n);
/* An answer of text/plain: "TEXT\n". */
void front_reply_text(struct front_request *q, int status, const char *fmt, ...) _printf_(3, 4);

/* An answer that is written piece by piece: to *@ret_fd, the write end of a pipe (blocking; writes
 * fail with EPIPE when the client has gone), which the caller closes at the end. -errno: no answer
 * was possible and @q is gone. */
int front_reply_stream(struct front_request *q, int status, const char *type,
		       const struct front_header *headers, size_t n_headers,
		       int *ret_fd) _must_check_;

/* Answers "101 Switching Protocols" with @headers (among them Upgrade; Connection is added) and
 * relays from then on bytes between the client and @fd, a stream socket that is taken over; TLS
 * ends in the process. The end of one direction is passed on as such, an error ends both. @fd sees
 * the end of the stream, too, when the process dies. There is no limit of time. */
void front_reply_upgrade(struct front_request *q, const struct front_header *headers,
			 size_t n_headers, int fd);

DEFINE_CLEANUP(struct front *, front_free)
