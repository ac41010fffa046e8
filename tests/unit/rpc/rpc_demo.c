/* SPDX-License-Identifier: Apache-2.0 */
/* Small server for trying other people's clients by hand: rpc_demo SOCKET [ttrpc]. Serves Version,
 * an echo of the Streaming service, and health. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "protos.h"
#include "rpc/grpc.h"
#include "rpc/ttrpc.h"

static int version_version(struct rpc_call *call, const void *req, struct err *err)
{
	Containerd__Services__Version__V1__VersionResponse resp =
		CONTAINERD__SERVICES__VERSION__V1__VERSION_RESPONSE__INIT;
	const char *fail = rpc_metadata(call, "fail-with");

	if (fail)
		return err_set(err, ERR_NOT_FOUND, "%s", fail);
	resp.version = (char *)"v2.3.4";
	resp.revision = (char *)"demo";
	return rpc_send(call, &resp.base, err);
}

static int streaming_stream(struct rpc_call *call, const void *req, struct err *err)
{
	ProtobufCMessage *m;
	int r;

	while ((r = rpc_recv(call, &m, err)) > 0) {
		r = rpc_send(call, m, err);
		if (r < 0)
			return r;
	}
	return r;
}

static const struct rpc_method version_methods[] = {{"Version", RPC_UNARY, version_version}};
static const struct rpc_method streaming_methods[] = {{"Stream", RPC_BIDI, streaming_stream}};
static const struct rpc_service services[] = {
	{&containerd__services__version__v1__version__descriptor, version_methods, 1, NULL},
	{&containerd__services__streaming__v1__streaming__descriptor, streaming_methods, 1, NULL},
	{&containerd__services__images__v1__images__descriptor, NULL, 0, NULL},
};

static void on_term(int signo, void *arg)
{
	loop_stop(arg);
}

static int serve(struct loop *l, struct pool *p, int fd, bool ttrpc)
{
	struct grpc_server *g = NULL;
	struct ttrpc_server *t = NULL;
	int r = ttrpc ? ttrpc_server_new(l, p, NULL, &t) : grpc_server_new(l, p, NULL, &g);

	for (size_t i = 0; r == 0 && i < ARRAY_LEN(services); i++)
		r = ttrpc ? ttrpc_server_add(t, &services[i]) : grpc_server_add(g, &services[i]);
	if (r == 0)
		r = ttrpc ? ttrpc_server_listen(t, fd) : grpc_server_listen(g, fd);
	if (r == 0)
		r = loop_run(l);
	pool_free(p);
	grpc_server_free(g);
	ttrpc_server_free(t);
	return r;
}

int main(int argc, char **argv)
{
	struct loop_source *s1, *s2;
	struct loop *l;
	struct pool *p;
	int fd, r;

	if (argc < 2)
		return 2;
	r = loop_new(&l);
	if (r == 0)
		r = loop_add_signal(l, SIGTERM, on_term, l, &s1);
	if (r == 0)
		r = loop_add_signal(l, SIGINT, on_term, l, &s2);
	if (r == 0)
		r = pool_new(0, &p);
	if (r == 0)
		r = unix_listen(argv[1], getuid(), getgid(), 0600, &fd);
	if (r == 0)
		r = serve(l, p, fd, argc > 2 && strcmp(argv[2], "ttrpc") == 0);
	if (r < 0)
		fprintf(stderr, "rpc_demo: %s\n", strerror(-r));
	loop_free(l);
	return r < 0;
}
