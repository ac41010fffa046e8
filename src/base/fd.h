/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors and small files. All return 0 (or a count) or -errno. Everything opened here is
 * close-on-exec. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/arena.h"
#include "base/buf.h"

/* Reads until @n bytes or end of file; returns the count. */
ssize_t fd_read_full(int fd, void *p, size_t n);
ssize_t fd_pread_full(int fd, void *p, size_t n, off_t off);
/* Writes all of it or fails. Waits with poll() when @fd does not block. */
int fd_write_full(int fd, const void *p, size_t n);
int fd_pwrite_full(int fd, const void *p, size_t n, off_t off);
int fd_set_nonblock(int fd, bool on);
int fd_set_cloexec(int fd, bool on);

/* Whole file into the arena, NUL-terminated; -EFBIG when larger than @max bytes. @dirfd AT_FDCWD or
 * a directory. */
int file_read(struct arena *a, int dirfd, const char *path, size_t max, char **ret,
	      size_t *ret_len);
/* The same from a descriptor, from its current offset to its end (pipes too). */
int fd_read_all(struct arena *a, int fd, size_t max, char **ret, size_t *ret_len);
/* Replaces @path by a temporary file that is renamed over it; @sync: fsync of file and directory
 * before return. */
int file_write_atomic(int dirfd, const char *path, const void *p, size_t n, mode_t mode, bool sync);
/* Creates or truncates, writes. */
int file_write(int dirfd, const char *path, const void *p, size_t n, mode_t mode);
/* fsync of a directory by path. */
int dir_sync(int dirfd, const char *path);

/* Sends and receives one message with at most @nfds descriptors on a unix socket (SCM_RIGHTS).
 * fd_recv_msg returns the length (0 = end of file); received descriptors are close-on-exec and the
 * caller's; *ret_nfds in: room, out: count. */
int fd_send_msg(int sock, const void *p, size_t n, const int *fds, size_t nfds);
ssize_t fd_recv_msg(int sock, void *p, size_t n, int *ret_fds, size_t *ret_nfds);

/* Listening / connected unix stream sockets; @path as in "/run/x.sock" ("@x" = abstract). A
 * relative or long path works (through a descriptor of its directory). unix_listen removes a stale
 * socket file, makes the parent directory (0711), sets owner and mode. -EADDRINUSE when a live
 * server listens there. */
int unix_listen(const char *path, uid_t uid, gid_t gid, mode_t mode, int *ret_fd);
int unix_connect(const char *path, int *ret_fd);
/* Never waits: -EAGAIN while the listener's queue is full. The socket does not block either. */
int unix_connect_nowait(const char *path, int *ret_fd);
