/* SPDX-License-Identifier: Apache-2.0 */
/* See listen.h. */
#include "core/listen.h"

#include <netdb.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "base/str.h"

#define HOST_MAX 256

/* "host:port", "[v6]:port"; *@ret_port points into @address. */
static int split(const char *address, char host[HOST_MAX], const char **ret_port, struct err *err)
{
	const char *colon = strrchr(address, ':');
	size_t n = colon ? (size_t)(colon - address) : 0;
	uint64_t port;

	/* A larger number would lose its upper bits. */
	if (!colon || n >= HOST_MAX || str_to_u64(colon + 1, 10, &port) < 0 || port > 65535)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "listen on %s: want HOST:PORT, with a number of a port", address);
	if (n >= 2 && address[0] == '[' && address[n - 1] == ']') {
		address++;
		n -= 2;
	} else if (memchr(address, ':', n)) {
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "listen on %s: an IPv6 address needs brackets", address);
	}
	memcpy(host, address, n);
	host[n] = '\0';
	*ret_port = colon + 1;
	return 0;
}

static int listen_on(const struct addrinfo *ai, int *ret_fd)
{
	_cleanup_close_ int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int on = 1, off = 0;

	if (fd < 0)
		return -errno;
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (ai->ai_family == AF_INET6)
		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	if (bind(fd, ai->ai_addr, ai->ai_addrlen) < 0 || listen(fd, SOMAXCONN) < 0)
		return -errno;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

/* All interfaces: of both families where there are two. */
static int listen_any(const char *address, const char *port, int *ret_fd, struct err *err)
{
	static const int families[] = {AF_INET6, AF_INET};
	int r = -EAFNOSUPPORT;

	for (size_t i = 0; r < 0 && i < ARRAY_LEN(families); i++) {
		struct addrinfo hints = {.ai_family = families[i],
					 .ai_socktype = SOCK_STREAM,
					 .ai_flags = AI_PASSIVE};
		struct addrinfo *ai;
		int k = getaddrinfo(NULL, port, &hints, &ai);

		if (k != 0)
			return err_set(err, ERR_INVALID_ARGUMENT, "listen on %s: %s", address,
				       gai_strerror(k));
		r = listen_on(ai, ret_fd);
		freeaddrinfo(ai);
		if (r == -EADDRINUSE)
			break;
	}
	return r < 0 ? err_errno(err, r, "listen on %s", address) : 0;
}

int tcp_listen(const char *address, int *ret_fd, struct err *err)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST}, *ai;
	char host[HOST_MAX];
	const char *port;
	int r = split(address, host, &port, err), k;

	if (r < 0)
		return r;
	if (!*host)
		return listen_any(address, port, ret_fd, err);
	k = getaddrinfo(host, port, &hints, &ai);
	if (k == EAI_NONAME) {
		hints.ai_flags = 0;
		k = getaddrinfo(host, port, &hints, &ai);
	}
	if (k != 0)
		return err_set(err, k == EAI_SERVICE ? ERR_INVALID_ARGUMENT : ERR_NOT_FOUND,
			       "listen on %s: %s", address, gai_strerror(k));
	r = listen_on(ai, ret_fd);
	freeaddrinfo(ai);
	return r < 0 ? err_errno(err, r, "listen on %s", address) : 0;
}

int tcp_port(int fd)
{
	struct sockaddr_storage a;
	socklen_t n = sizeof(a);

	if (getsockname(fd, (struct sockaddr *)&a, &n) < 0)
		return -errno;
	if (a.ss_family == AF_INET)
		return ntohs(((struct sockaddr_in *)&a)->sin_port);
	return a.ss_family == AF_INET6 ? ntohs(((struct sockaddr_in6 *)&a)->sin6_port) : -EINVAL;
}
