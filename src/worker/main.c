/* SPDX-License-Identifier: Apache-2.0 */
/* containerd-worker: the program that talks to registries, reads archives and speaks HTTP and
 * TLS to clients for the daemon (see protocol.h). */
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "worker/protocol.h"
#include "worker/roles.h"

static const struct {
	const char *name;
	int (*run)(int sock);
} roles[] = {
	{"fetch", role_fetch}, {"unpack", role_unpack},		{"pack", role_pack},
	{"front", role_front}, {"recompress", role_recompress},
};

static bool is_socket(int fd)
{
	int type;
	socklen_t n = sizeof(type);

	return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &n) == 0;
}

int main(int argc, char **argv)
{
	if (argc == 2 && is_socket(WORKER_SOCK_FD)) {
		signal(SIGPIPE, SIG_IGN);
		for (size_t i = 0; i < ARRAY_LEN(roles); i++)
			/* Nothing is worth an orderly end: the kernel frees what is left. */
			if (streq(argv[1], roles[i].name))
				_exit(roles[i].run(WORKER_SOCK_FD));
	}
	fprintf(stderr, "containerd-worker is started by containerd\n");
	return 2;
}
