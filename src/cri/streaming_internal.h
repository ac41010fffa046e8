/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the streaming server share.
 *
 * streaming.c          the calls Exec, Attach, PortForward; tokens; life
 * streaming_http.c     the HTTP request that brings a token back
 * streaming_command.c  sessions of commands and attachments
 * portforward.c        sessions of forwarded ports
 *
 * A session has a thread: it waits for messages of the front's process (worker/protocol.h), which
 * has the client's connection, and gives it descriptors. */
#pragma once

#include "core/front_session.h"
#include "cri/streaming.h"

#define STREAM_CREATE_MS 30000
#define STREAM_SESSIONS_MAX 1000
#define STREAM_TOKEN_SECONDS 60

enum stream_kind { STREAM_EXEC, STREAM_ATTACH, STREAM_FORWARD };

/* What a token stands for; in an arena of its own. */
struct stream_request {
	enum stream_kind kind;
	struct arena *arena;
	const char *id; /* of the container or the pod */
	char **argv;
	size_t n_argv;
	bool tty, in, out, err;
	int32_t *ports;
	size_t n_ports;
};
void stream_request_free(struct stream_request *q);

struct stream_session {
	struct cri_streaming *s;
	struct stream_session *prev, *next;
	struct stream_request *q;
	bool json_status; /* of the error stream; else text */
	int control;	  /* messages; -1 = the client has gone */
	int cancel;	  /* eventfd: it is to end */
	int wake;	  /* eventfd: for the thread */
};

struct cri *stream_cri(const struct cri_streaming *s);
int64_t stream_idle_ms(const struct cri_streaming *s);

/* The request of a token, which is used by that; NULL = there is none. */
struct stream_request *stream_token_use(struct cri_streaming *s, const char *token);
/* Starts the session's thread; takes @q and @control over whatever happens.
 * -ERR_RESOURCE_EXHAUSTED, -ERR_UNAVAILABLE (the daemon ends) */
int stream_session_start(struct cri_streaming *s, struct stream_request *q, bool json_status,
			 int control, struct err *err) _must_check_;

/* Handlers of the front's requests; @arg is the streaming server. */
void stream_http_exec(struct front_request *q, void *arg);
void stream_http_attach(struct front_request *q, void *arg);
void stream_http_forward(struct front_request *q, void *arg);

/* The whole of a session, on its thread. */
void stream_command(struct stream_session *x);
void stream_forward(struct stream_session *x);
