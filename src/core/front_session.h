/* SPDX-License-Identifier: Apache-2.0 */
/* Upgraded connections with several streams in them, as Kubernetes' exec, attach and port-forward
 * use them: SPDY/3.1 or WebSocket. The front's process takes them apart; the daemon gives it a
 * descriptor for each stream (a pipe's end, or a connection to a port in a pod), so no byte of a
 * stream goes through the daemon, and it parses neither protocol.
 *
 * What is to be done is said by messages on a socket: see "session" in worker/protocol.h. */
#pragma once

#include <stdint.h>

#include "core/front.h"

struct front_session {
	bool websocket;	   /* else SPDY/3.1 */
	bool base64;	   /* WebSocket: messages are text */
	bool close_signal; /* WebSocket: v5.channel.k8s.io's */
	bool forward;	   /* ports; else a command's streams */
	/* Streams that there are: "error", "stdin", "stdout", "stderr", "resize"; ends in NULL.
	 * A SPDY client must open all of them. */
	const char *const *streams;
	const int32_t *ports; /* WebSocket: which are forwarded */
	size_t n_ports;
	int64_t create_ms; /* for the client to open its streams */
	int64_t idle_ms;   /* nothing moves: the connection is closed; 0 = never */
};

/* Answers 101 with @headers; @fd is the other end of the caller's message socket, and is taken
 * over. The caller's end is closed when the client has gone. */
void front_reply_session(struct front_request *q, const struct front_header *headers,
			 size_t n_headers, const struct front_session *s, int fd);
