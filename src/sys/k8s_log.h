/* SPDX-License-Identifier: Apache-2.0 */
/* A container's log file in the form that the kubelet reads.
 *
 * A line: `<RFC3339Nano, local time> <stdout|stderr> <F|P> <text>\n`. A line of the application
 * that is longer than the limit is cut into P pieces of exactly that size and an F piece with the
 * rest; a last line without its end is P. "\r\n" loses the \r.
 *
 * Bytes come in as they are read. What ends with a line is written without a copy; only the
 * beginning of a line waits in memory, at most one piece for each stream. The lines of one call go
 * out in as few writes as possible, so that lines of both streams stay whole. A disk that takes
 * nothing makes output be lost, never wait; the next line after that begins on a line of its own.
 *
 * Not thread safe. 0 or -errno. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

/* The largest piece, also of logs without a limit. */
#define K8S_LOG_PIECE_MAX (1u << 20)

struct k8s_log_line {
	char *text; /* the beginning of a line; at most the limit */
	size_t len, cap;
	bool cr; /* a \r behind it, which counts unless \n follows */
};

struct k8s_log {
	char *path; /* NULL = output is thrown away */
	int fd;
	size_t limit;
	struct k8s_log_line line[2]; /* stdout, stderr */
	bool torn;		     /* the file ends within a line */
	bool failing;		     /* the last write lost something */
	uint64_t lost;		     /* bytes of the file, since it fails */
	time_t second;		     /* what @when and @zone are about; 0 = nothing */
	char when[24], zone[8];
};

#define K8S_LOG_INIT ((struct k8s_log){.fd = -1})

/* @path "" = none; missing directories are made. @limit <= 0: none but K8S_LOG_PIECE_MAX. */
int k8s_log_open(struct k8s_log *l, const char *path, int64_t limit);
/* The path anew; the file that is open stays when that fails. */
int k8s_log_reopen(struct k8s_log *l);
/* @stream 0 or 1. -errno: from now on output is lost; 1: it is written again and @lost has been
 * lost (the caller sets it to 0); 0 in between. */
int k8s_log_add(struct k8s_log *l, int stream, const char *p, size_t n);
/* The stream has ended: writes the beginning of a line that is there. */
int k8s_log_end(struct k8s_log *l, int stream);
/* Closes; what waits is dropped. */
void k8s_log_done(struct k8s_log *l);
