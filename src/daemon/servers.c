/* SPDX-License-Identifier: Apache-2.0 */
/* The servers metrics, debug and grpc-tcp: what clients reach over HTTP or TLS, through fronts
 * (core/front.h). Plain gRPC over TCP has nothing that a front could take away: the gRPC server
 * accepts by itself. */
#include "daemon/servers.h"

#include <unistd.h>

#include "base/log.h"
#include "base/str.h"
#include "daemon/metrics.h"
#include "daemon/plugin_inits.h"
#include "daemon/pprof.h"
#include "core/listen.h"

#define METRICS_TYPE "text/plain; version=0.0.4; charset=utf-8"
#define TCP_CONNECTIONS_MAX 1024

static struct daemon *daemon_of(const struct plugin_init *in)
{
	return in->daemon;
}

static void on_warn(void *arg, const char *text)
{
	(void)arg;
	log_warn("%s", text);
}

int server_front_start(struct daemon *d, struct front_options *o, struct err *err)
{
	int r;

	if (d->n_fronts == ARRAY_LEN(d->fronts))
		return err_set(err, ERR_INTERNAL, "more than %zu servers", d->n_fronts);
	o->pool = d->pool;
	o->warn = on_warn;
	r = front_start(o, &d->fronts[d->n_fronts], err);
	if (r == 0)
		d->n_fronts++;
	return r;
}

void servers_stop(struct daemon *d)
{
	while (d->n_fronts > 0)
		front_free(d->fronts[--d->n_fronts]);
}

static int no_address(struct err *err)
{
	return err_set_raw(err, ERR_UNIMPLEMENTED, "skip plugin");
}

/* ---- metrics ---- */

static void on_metrics(struct front_request *q, void *arg)
{
	struct daemon *d = arg;
	_cleanup_buf_ struct buf b = BUF_INIT;

	/* The servers are not to be looked at while they are put together. */
	if (!atomic_load(&d->started)) {
		front_reply_text(q, 503, "starting");
		return;
	}
	metrics_render(d, &b);
	if (buf_ok(&b))
		front_reply(q, 200, METRICS_TYPE, b.data, b.len);
	else
		front_reply_text(q, 500, "out of memory");
}

int plugin_server_metrics_init(struct plugin_init *in, struct err *err)
{
	const char *address = cfg_str(in, "address");
	struct front_listener l = {.fd = -1, .kind = FRONT_HTTP};
	struct front_route route = {"GET", "/v1/metrics", on_metrics, in->daemon};
	struct front_options o = {.name = "metrics",
				  .listeners = &l,
				  .n_listeners = 1,
				  .routes = &route,
				  .n_routes = 1};
	int r;

	if (str_empty(address))
		return no_address(err);
	r = tcp_listen(address, &l.fd, err);
	if (r == 0)
		r = server_front_start(daemon_of(in), &o, err);
	if (r < 0 && l.fd >= 0)
		close(l.fd);
	return r;
}

int plugin_metrics_grpc_prometheus_init(struct plugin_init *in, struct err *err)
{
	(void)err;
	daemon_of(in)->grpc_histogram = cfg_bool(in, "grpc_histogram");
	return 0;
}

int plugin_monitor_task_cgroups_init(struct plugin_init *in, struct err *err)
{
	(void)err;
	daemon_of(in)->container_metrics = !cfg_bool(in, "no_prometheus");
	if (access("/sys/fs/cgroup/cgroup.controllers", F_OK) < 0)
		deprecation_emit(daemon_of(in)->services.deprecations, DEPRECATION_CGROUP_V1);
	return 0;
}

/* ---- debug ---- */

int plugin_http_pprof_init(struct plugin_init *in, struct err *err)
{
	(void)in;
	(void)err;
	return 0;
}

int plugin_server_debug_init(struct plugin_init *in, struct err *err)
{
	const char *address = cfg_str(in, "address");
	struct front_listener l = {.fd = -1, .kind = FRONT_HTTP};
	struct front_options o = {.name = "debug", .listeners = &l, .n_listeners = 1};
	void *pprof;
	int r;

	if (str_empty(address))
		return no_address(err);
	if (plugin_get(in->set, PLUGIN_TYPE("http.v1"), "pprof", &pprof, NULL) < 0)
		return plugin_skip(err, "the plugin io.containerd.http.v1.pprof is not there");
	r = address[0] == '/' || address[0] == '@' ? server_listen_unix(in, address, &l.fd, err)
						   : tcp_listen(address, &l.fd, err);
	o.routes = pprof_routes(in->daemon, in->arena, &o.n_routes);
	if (r == 0)
		r = o.routes ? server_front_start(daemon_of(in), &o, err) : err_nomem(err);
	if (r < 0 && l.fd >= 0)
		close(l.fd);
	return r;
}

/* ---- gRPC over TCP ---- */

int server_tcp_add(struct daemon *d, const struct rpc_service *service, struct err *err)
{
	if (d->n_tcp_tables == ARRAY_LEN(d->tcp_tables))
		return err_set(err, ERR_INTERNAL, "more than %zu services", d->n_tcp_tables);
	d->tcp_tables[d->n_tcp_tables++] = *service;
	return 0;
}

struct arrival {
	struct daemon *d;
	int fd;
};

/* On the loop. */
static void take_stream(void *arg)
{
	struct arrival *a = arg;

	grpc_server_take(a->d->grpc_tcp, a->fd);
	free(a);
}

static void on_stream(void *arg, int fd)
{
	struct daemon *d = arg;
	struct arrival *a = malloc(sizeof(*a));

	if (a) {
		*a = (struct arrival){d, fd};
		if (loop_post(d->loop, take_stream, a) == 0)
			return;
		free(a);
	}
	close(fd);
}

static int check_tls(struct plugin_init *in, struct err *err)
{
	bool cert = !str_empty(cfg_str(in, "tls_cert")), key = !str_empty(cfg_str(in, "tls_key"));

	if (cert != key)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "tls_cert and tls_key belong together: one is missing");
	/* Clients would not be asked for certificates that somebody counts on. */
	if (!cert && !str_empty(cfg_str(in, "tls_ca")))
		return err_set(err, ERR_INVALID_ARGUMENT, "tls_ca needs tls_cert and tls_key");
	if (!cert && !str_empty(cfg_str(in, "tls_common_name")))
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "tls_common_name names a certificate of Windows' store: on Linux "
			       "use tls_cert and tls_key");
	return 0;
}

static int tcp_server(struct plugin_init *in, struct err *err)
{
	struct daemon *d = daemon_of(in);
	struct grpc_server_options o = {.max_recv = cfg_size(in, "max_recv_message_size"),
					.max_send = cfg_size(in, "max_send_message_size"),
					.max_connections = TCP_CONNECTIONS_MAX,
					.on_done = daemon_call_done};
	int r;

	service_health(&d->services, &d->tcp_health);
	r = grpc_server_new(d->loop, d->pool, &o, &d->grpc_tcp);
	if (r == 0)
		r = grpc_server_add(d->grpc_tcp, &d->tcp_health);
	for (size_t i = 0; r == 0 && i < d->n_tcp_tables; i++)
		r = grpc_server_add(d->grpc_tcp, &d->tcp_tables[i]);
	return r < 0 ? err_errno(err, r, "gRPC server on TCP") : 0;
}

int plugin_server_grpc_tcp_init(struct plugin_init *in, struct err *err)
{
	struct daemon *d = daemon_of(in);
	const char *address = cfg_str(in, "address");
	struct front_listener l = {.fd = -1,
				   .kind = FRONT_STREAM,
				   .tls_cert = cfg_str(in, "tls_cert"),
				   .tls_key = cfg_str(in, "tls_key"),
				   .tls_ca = cfg_str(in, "tls_ca"),
				   .alpn = "h2"};
	struct front_options o = {.name = "gRPC TCP",
				  .listeners = &l,
				  .n_listeners = 1,
				  .stream = on_stream,
				  .stream_arg = d,
				  .max_connections = TCP_CONNECTIONS_MAX};
	int r;

	if (str_empty(address))
		return no_address(err);
	r = check_tls(in, err);
	if (r == 0)
		r = tcp_server(in, err);
	if (r == 0)
		r = tcp_listen(address, &l.fd, err);
	if (r < 0)
		return r;
	if (str_empty(l.tls_cert)) {
		d->tcp_fd = l.fd;
		return 0;
	}
	r = server_front_start(d, &o, err);
	if (r < 0)
		close(l.fd);
	return r;
}
