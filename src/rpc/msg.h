/* SPDX-License-Identifier: Apache-2.0 */
/* Typed messages between the daemon and a containerd-worker over a unix stream socket: u32 length
 * (little endian, at most 8 MiB), then a JSON object; descriptors travel with the first byte
 * (SCM_RIGHTS, at most 64). Blocking, one reader and one writer. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/json.h"

#define MSG_MAX (8u << 20)
#define MSG_FDS_MAX 64

struct msg_sock {
	int fd;
};

/* The bytes of a message with their length before them, for who sends them without waiting. The
 * caller frees. */
int msg_encode(const json_t *msg, char **ret, size_t *ret_n, struct err *err) _must_check_;
int msg_send(int sock, const json_t *msg, const int *fds, size_t nfds,
	     struct err *err) _must_check_;
/* 1 = got one, 0 = the peer has closed, negative = error. @deadline monotonic ns (0 = none).
 * Received descriptors are the caller's;
 * *@ret_nfds in: room, out: count (NULL = none wanted, any that come are closed). */
int msg_recv(int sock, int64_t deadline, json_t **ret, int *ret_fds, size_t *ret_nfds,
	     struct err *err) _must_check_;

/* {"error":{"kind":5,"text":"..."}} */
json_t *msg_error(const struct err *err);
/* Fills @err from such a message and returns -kind; 0 when the message carries no error. */
int msg_get_error(const json_t *msg, struct err *err);
