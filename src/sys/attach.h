/* SPDX-License-Identifier: Apache-2.0 */
/* How whoever writes a container's log (the shim, or the daemon) gives its output to those who are
 * attached: a SOCK_SEQPACKET unix socket, one packet a message, whose first byte says what it is.
 *
 * The side that attaches sends ATTACH_BEGIN with a byte of streams and gets it back when it will
 * see what is written from then on; or ATTACH_REOPEN, which is answered with four bytes of errno (0
 * = done). Output comes as ATTACH_STDOUT and ATTACH_STDERR. The end of the connection is the end of
 * the output. Input does not come this way: it has a fifo.
 *
 * All return 0 (or a count) or -errno. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* By this annotation of its RuntimeInfo a shim says that it can write such a log itself: that its
 * outputs may be k8slog:// URIs. */
#define SHIM_LOG_ANNOTATION "io.containerd.shim.kubernetes-log"

#define ATTACH_BEGIN 'b'
#define ATTACH_REOPEN 'r'
#define ATTACH_STDOUT 'o'
#define ATTACH_STDERR 'e'

#define ATTACH_DATA_MAX 16384		       /* bytes of a packet behind the first one */
#define ATTACH_REQUEST_MAX 16		       /* bytes of a request */
#define ATTACH_QUEUE_MAX (4u << 20)	       /* bytes that may wait for a slow reader */
#define ATTACH_STREAM(i) (1u << (unsigned)(i)) /* 0 stdout, 1 stderr */

struct attach_request {
	char kind;	  /* ATTACH_BEGIN or ATTACH_REOPEN */
	unsigned streams; /* ATTACH_BEGIN */
};

/* -EPROTO */
int attach_request_parse(const void *p, size_t n, struct attach_request *ret);
/* Into @out, the length of which is returned. */
size_t attach_answer(const struct attach_request *q, int error, char out[ATTACH_REQUEST_MAX]);

/* Descriptors do not block and are close-on-exec. Paths may be long. A file that is there goes. */
int attach_listen(const char *path, int *ret_fd);
int attach_connect(const char *path, int *ret_fd);
/* -EAGAIN when nobody waits. */
int attach_accept(int listen_fd, int *ret_fd);
/* @ret[0] is the side that sends output. */
int attach_pair(int ret[2]);

/* What somebody who is attached has missed, and how that goes. */
struct attach_reader {
	int fd;
	unsigned streams;
	bool skip; /* too slow: leave out (terminals), rather than hang up */
	uint64_t skipped;
};

/* At most ATTACH_DATA_MAX bytes; never blocks. -EPIPE: gone, or so slow that it is to be hung up.
 */
int attach_send(struct attach_reader *r, int stream, const void *p, size_t n);
