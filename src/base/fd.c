/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors, small files, unix sockets: see fd.h. */
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/path.h"
#include "base/str.h"

void fd_closep(int *fd)
{
	if (*fd >= 0) {
		int saved = errno;
		close(*fd);
		errno = saved;
	}
}

static int wait_fd(int fd, short events)
{
	struct pollfd p = {.fd = fd, .events = events};
	return poll(&p, 1, -1) < 0 && errno != EINTR ? -errno : 0;
}

ssize_t fd_read_full(int fd, void *p, size_t n)
{
	size_t done = 0;
	while (done < n) {
		ssize_t r = read(fd, (char *)p + done, n - done);
		if (r == 0)
			break;
		if (r > 0)
			done += (size_t)r;
		else if (errno == EAGAIN) {
			int w = wait_fd(fd, POLLIN);
			if (w < 0)
				return w;
		} else if (errno != EINTR)
			return -errno;
	}
	return (ssize_t)done;
}

ssize_t fd_pread_full(int fd, void *p, size_t n, off_t off)
{
	size_t done = 0;
	while (done < n) {
		ssize_t r = pread(fd, (char *)p + done, n - done, off + (off_t)done);
		if (r == 0)
			break;
		if (r > 0)
			done += (size_t)r;
		else if (errno != EINTR)
			return -errno;
	}
	return (ssize_t)done;
}

int fd_write_full(int fd, const void *p, size_t n)
{
	size_t done = 0;
	while (done < n) {
		ssize_t r = write(fd, (const char *)p + done, n - done);
		if (r >= 0)
			done += (size_t)r;
		else if (errno == EAGAIN) {
			int w = wait_fd(fd, POLLOUT);
			if (w < 0)
				return w;
		} else if (errno != EINTR)
			return -errno;
	}
	return 0;
}

int fd_pwrite_full(int fd, const void *p, size_t n, off_t off)
{
	size_t done = 0;
	while (done < n) {
		ssize_t r = pwrite(fd, (const char *)p + done, n - done, off + (off_t)done);
		if (r >= 0)
			done += (size_t)r;
		else if (errno != EINTR)
			return -errno;
	}
	return 0;
}

static int set_flag(int fd, int get, int set, int flag, bool on)
{
	int flags = fcntl(fd, get);
	if (flags < 0)
		return -errno;
	int want = on ? flags | flag : flags & ~flag;
	return want != flags && fcntl(fd, set, want) < 0 ? -errno : 0;
}

int fd_set_nonblock(int fd, bool on)
{
	return set_flag(fd, F_GETFL, F_SETFL, O_NONBLOCK, on);
}

int fd_set_cloexec(int fd, bool on)
{
	return set_flag(fd, F_GETFD, F_SETFD, FD_CLOEXEC, on);
}

int fd_read_all(struct arena *a, int fd, size_t max, char **ret, size_t *ret_len)
{
	_cleanup_buf_ struct buf b = BUF_INIT;
	struct stat st;
	size_t step = 4096;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0)
		step = (size_t)MIN((uint64_t)st.st_size + 1, (uint64_t)max + 1);
	for (;;) {
		if (buf_reserve(&b, step) < 0)
			return -ENOMEM;
		ssize_t r = read(fd, b.data + b.len, MIN(b.cap - b.len - 1, max + 1 - b.len));
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return -errno;
		if (r == 0)
			break;
		b.len += (size_t)r;
		if (b.len > max)
			return -EFBIG;
		step = b.cap - b.len > 1024 ? 1024 : b.cap;
	}
	char *copy = arena_alloc(a, b.len + 1);
	if (!copy)
		return -ENOMEM;
	memcpy(copy, b.data, b.len);
	copy[b.len] = 0;
	*ret = copy;
	if (ret_len)
		*ret_len = b.len;
	return 0;
}

int file_read(struct arena *a, int dirfd, const char *path, size_t max, char **ret, size_t *ret_len)
{
	_cleanup_close_ int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return -errno;
	return fd_read_all(a, fd, max, ret, ret_len);
}

int file_write(int dirfd, const char *path, const void *p, size_t n, mode_t mode)
{
	_cleanup_close_ int fd =
		openat(dirfd, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, mode);
	if (fd < 0)
		return -errno;
	return fd_write_full(fd, p, n);
}

static int open_parent(int dirfd, const char *path)
{
	char dir[4096];
	const char *slash = strrchr(path, '/');
	if (!slash)
		return openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	size_t n = slash == path ? 1 : (size_t)(slash - path);
	if (n >= sizeof(dir))
		return errno = ENAMETOOLONG, -1;
	memcpy(dir, path, n);
	dir[n] = 0;
	return openat(dirfd, dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

int file_write_atomic(int dirfd, const char *path, const void *p, size_t n, mode_t mode, bool sync)
{
	_cleanup_close_ int dir = open_parent(dirfd, path);
	if (dir < 0)
		return -errno;
	const char *name = path_base(path);
	char tmp[300];
	uint64_t r;
	random_bytes(&r, sizeof(r));
	if ((size_t)snprintf(tmp, sizeof(tmp), ".%.200s.%016llx", name, (unsigned long long)r) >=
	    sizeof(tmp))
		return -ENAMETOOLONG;
	_cleanup_close_ int fd = openat(dir, tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
	if (fd < 0)
		return -errno;
	int ret = fd_write_full(fd, p, n);
	if (ret == 0 && sync && fsync(fd) < 0)
		ret = -errno;
	if (ret == 0 && renameat(dir, tmp, dir, name) < 0)
		ret = -errno;
	if (ret < 0) {
		unlinkat(dir, tmp, 0);
		return ret;
	}
	return sync && fsync(dir) < 0 ? -errno : 0;
}

int dir_sync(int dirfd, const char *path)
{
	_cleanup_close_ int fd = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	return fsync(fd) < 0 ? -errno : 0;
}

#define FDS_MAX 253 /* SCM_MAX_FD */

int fd_send_msg(int sock, const void *p, size_t n, const int *fds, size_t nfds)
{
	union {
		char space[CMSG_SPACE(sizeof(int) * FDS_MAX)];
		struct cmsghdr align;
	} control;
	struct iovec iov = {.iov_base = (void *)p, .iov_len = n};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
	if (nfds > FDS_MAX)
		return -EINVAL;
	if (nfds) {
		memset(&control, 0, CMSG_SPACE(sizeof(int) * nfds));
		m.msg_control = &control;
		m.msg_controllen = CMSG_SPACE(sizeof(int) * nfds);
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * nfds);
		memcpy(CMSG_DATA(c), fds, sizeof(int) * nfds);
	}
	for (;;) {
		ssize_t r = sendmsg(sock, &m, MSG_NOSIGNAL);
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return -errno;
		if ((size_t)r == iov.iov_len)
			return 0;
		iov.iov_base = (char *)iov.iov_base + r;
		iov.iov_len -= (size_t)r;
		m.msg_control = NULL;
		m.msg_controllen = 0;
	}
}

ssize_t fd_recv_msg(int sock, void *p, size_t n, int *ret_fds, size_t *ret_nfds)
{
	union {
		char space[CMSG_SPACE(sizeof(int) * FDS_MAX)];
		struct cmsghdr align;
	} control;
	struct iovec iov = {.iov_base = p, .iov_len = n};
	struct msghdr m = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = &control,
			   .msg_controllen = sizeof(control)};
	size_t room = ret_nfds ? *ret_nfds : 0, got = 0;
	ssize_t r;
	do
		r = recvmsg(sock, &m, MSG_CMSG_CLOEXEC);
	while (r < 0 && errno == EINTR);
	if (r < 0)
		return -errno;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		size_t k = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < k; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (got < room)
				ret_fds[got++] = fd;
			else
				close(fd);
		}
	}
	if (ret_nfds)
		*ret_nfds = got;
	return r;
}

/* Address of @path; a path that is too long for sun_path goes through /proc/self/fd/<its
 * directory>. *@ret_dir is to be closed after use. */
static int unix_address(const char *path, struct sockaddr_un *sa, socklen_t *ret_len, int *ret_dir)
{
	*sa = (struct sockaddr_un){.sun_family = AF_UNIX};
	size_t n = strlen(path);
	if (path[0] == '@') {
		if (n > sizeof(sa->sun_path))
			return -ENAMETOOLONG;
		memcpy(sa->sun_path + 1, path + 1, n - 1);
		*ret_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
		return 0;
	}
	*ret_len = sizeof(*sa);
	if (n < sizeof(sa->sun_path)) {
		memcpy(sa->sun_path, path, n + 1);
		return 0;
	}
	int dir = open_parent(AT_FDCWD, path);
	if (dir < 0)
		return -errno;
	*ret_dir = dir;
	if ((size_t)snprintf(sa->sun_path, sizeof(sa->sun_path), "/proc/self/fd/%d/%s", dir,
			     path_base(path)) >= sizeof(sa->sun_path))
		return -ENAMETOOLONG;
	return 0;
}

static int connect_to(const char *path, int flags, int *ret_fd)
{
	struct sockaddr_un sa;
	socklen_t len;
	_cleanup_close_ int dir = -1;
	int r = unix_address(path, &sa, &len, &dir);
	if (r < 0)
		return r;
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
	if (fd < 0)
		return -errno;
	while (connect(fd, (struct sockaddr *)&sa, len) < 0)
		if (errno != EINTR)
			return -errno;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

int unix_connect(const char *path, int *ret_fd)
{
	return connect_to(path, 0, ret_fd);
}

int unix_connect_nowait(const char *path, int *ret_fd)
{
	return connect_to(path, SOCK_NONBLOCK, ret_fd);
}

/* Removes a socket on which nobody listens. One whose queue is full, or that is of another type, is
 * alive. */
static int remove_stale(const char *path)
{
	struct stat st;
	_cleanup_close_ int probe = -1;
	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	int r = connect_to(path, SOCK_NONBLOCK, &probe);
	if (r != -ECONNREFUSED && r != -ENOENT)
		return -EADDRINUSE;
	return unlink(path) < 0 && errno != ENOENT ? -errno : 0;
}

int unix_listen(const char *path, uid_t uid, gid_t gid, mode_t mode, int *ret_fd)
{
	struct sockaddr_un sa;
	socklen_t len;
	_cleanup_close_ int dir = -1;
	_cleanup_arena_ struct arena *a = arena_new(0);
	if (!a)
		return -ENOMEM;
	if (path[0] != '@') {
		char *parent = path_dir(a, path);
		int r = parent ? mkdir_p(parent, 0711) : -ENOMEM;
		if (r < 0)
			return r;
		r = remove_stale(path);
		if (r < 0)
			return r;
	}
	int r = unix_address(path, &sa, &len, &dir);
	if (r < 0)
		return r;
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	/* On Linux the mode of the socket's inode is that of the descriptor less the umask: narrow
	 * from the first moment. */
	if (fchmod(fd, mode) < 0 || bind(fd, (struct sockaddr *)&sa, len) < 0)
		return -errno;
	/* At once: who finds a socket where nobody listens takes the server for dead. */
	if (listen(fd, SOMAXCONN) < 0)
		return -errno;
	if (path[0] != '@' &&
	    (chmod(path, mode) < 0 || (lchown(path, uid, gid) < 0 && errno != EPERM)))
		return -errno;
	*ret_fd = TAKE_FD(fd);
	return 0;
}
