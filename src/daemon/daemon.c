/* SPDX-License-Identifier: Apache-2.0 */
/* The running daemon: directories, loop, plugins, servers, and an orderly end.
 *
 * The main thread runs the loop from the start, because starting plugins already needs it (tasks of
 * an earlier daemon are connected to); plugins are started by a thread of its own, which hands the
 * listening sockets to the loop when all is ready. The end: servers drain, the pool finishes what
 * runs, the loop stops, plugins are stopped in reverse order. Containers and shims are not touched.
 */
#include "daemon/daemon.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/path.h"
#include "base/str.h"
#include "base/time.h"
#include "base/trace.h"
#include "cri/cri.h"
#include "daemon/daemon_internal.h"
#include "daemon/servers.h"
#include "plugins/restart/monitor.h"
#include "plugins/runtime/runtime.h"
#include "plugins/sandbox/shim_controller.h"
#include "sys/cgroup.h"
#include "version.h"

#define DRAIN_NS (5 * NSEC_PER_SEC)
#define HEAP_PIECE (128 << 10)
#define LAST_ROUNDS 8
#define CGROUP_ROOT "/sys/fs/cgroup"

/* ---- the process ---- */

static int make_dir(const char *path, mode_t mode, bool force, struct err *err)
{
	int r = mkdir_p(path, mode);
	if (r < 0)
		return err_errno(err, r, "make directory %s", path);
	if (force && chmod(path, mode) < 0 && errno != EPERM)
		return err_errno(err, errno, "set mode of %s", path);
	return 0;
}

static int make_dirs(const struct config *c, struct err *err)
{
	int r = make_dir(c->root, 0700, true, err);
	if (r == 0)
		r = make_dir(c->state, 0711, false, err);
	if (r == 0 && !str_empty(c->temp)) {
		r = make_dir(c->temp, 0700, false, err);
		if (r == 0 && setenv("TMPDIR", c->temp, 1) < 0)
			r = err_nomem(err);
	}
	return r;
}

static void set_oom_score(int score)
{
	char text[16];
	int n = snprintf(text, sizeof(text), "%d", score);
	int r = file_write(AT_FDCWD, "/proc/self/oom_score_adj", text, (size_t)n, 0);
	if (r < 0)
		log_warn("set oom_score_adj to %d: %s", score, strerror(-r));
}

/* Joins @path in the unified hierarchy, or in each controller's. */
static int join_cgroup(const char *path, struct err *err)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	_cleanup_closedir_ DIR *d = NULL;
	char pid[16];
	int len = snprintf(pid, sizeof(pid), "%d", (int)getpid()), joined = 0;
	if (!a)
		return err_nomem(err);
	bool unified = access(CGROUP_ROOT "/cgroup.controllers", F_OK) == 0;
	d = opendir(CGROUP_ROOT);
	for (struct dirent *e; d && (e = readdir(d));) {
		if ((e->d_name[0] == '.' && (!unified || !streq(e->d_name, "."))) ||
		    (unified && !streq(e->d_name, ".")))
			continue;
		char *base = path_join(a, CGROUP_ROOT, e->d_name),
		     *dir = base ? path_join(a, base, path) : NULL;
		char *mark = base ? path_join(a, base, "cgroup.procs") : NULL,
		     *procs = dir ? path_join(a, dir, "cgroup.procs") : NULL;
		if (!mark || !procs)
			return err_nomem(err);
		if (access(mark, F_OK) < 0)
			continue;
		int r = mkdir_p(dir, 0755);
		if (r == 0 && !unified)
			r = cgroup_cpuset_inherit(a, dir);
		_cleanup_close_ int fd = r < 0 ? -1 : open(procs, O_WRONLY | O_CLOEXEC);
		if (fd < 0 || write(fd, pid, (size_t)len) < 0)
			return err_errno(err, r < 0 ? r : errno, "join cgroup %s", dir);
		joined++;
	}
	return joined ? 0
		      : err_set(err, ERR_FAILED_PRECONDITION,
				"join cgroup %s: no cgroup is mounted at " CGROUP_ROOT, path);
}

/* https://www.freedesktop.org/software/systemd/man/sd_notify.html */
static void notify(const char *text)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	if (str_empty(path) || strlen(path) >= sizeof(sa.sun_path))
		return;
	strcpy(sa.sun_path, path);
	size_t len = offsetof(struct sockaddr_un, sun_path) + strlen(path);
	if (sa.sun_path[0] == '@')
		sa.sun_path[0] = 0;
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && sendto(fd, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&sa,
			      (socklen_t)len) < 0)
		log_warn("notify the service manager: %s", strerror(errno));
}

/* ---- the end ---- */

static void finished(void *arg)
{
	struct daemon *d = arg;
	loop_stop(d->loop);
}

/* The pool's last jobs may need the loop, and so does the end of the connections to shims: it goes
 * on until they are done. */
static void *finish(void *arg)
{
	struct daemon *d = arg;
	servers_stop(d);
	if (d->restart)
		restart_monitor_stop(d->restart);
	/* It may still look for pods: without connections to their shims it would take containers
	 * for gone that run on. */
	atomic_store(&d->recovery.canceled, true);
	if (d->cri)
		cri_interrupt(d->cri);
	pthread_join(d->starter, NULL);
	d->joined = true;
	if (d->cri)
		cri_stop(d->cri);
	pool_free(d->pool);
	d->pool = NULL;
	if (d->services.runtime)
		runtime_disconnect(d->services.runtime);
	if (d->shim_sandboxes)
		shim_controller_disconnect(d->shim_sandboxes);
	proxies_disconnect(d);
	if (loop_post(d->loop, finished, d) < 0)
		loop_stop(d->loop);
	return NULL;
}

static void drained(void *arg)
{
	struct daemon *d = arg;
	pthread_t t;
	if (--d->draining > 0)
		return;
	if (d->services.runtime)
		runtime_quiesce(d->services.runtime);
	if (d->shim_sandboxes)
		shim_controller_quiesce(d->shim_sandboxes);
	if (pthread_create(&t, NULL, finish, d) == 0)
		pthread_detach(t);
	else
		loop_stop(d->loop);
}

static void sockets_remove(struct daemon *d)
{
	for (size_t i = 0; i < d->n_sockets; i++) {
		const struct daemon_socket *s = &d->sockets[i];
		struct stat st;
		if (lstat(s->path, &st) == 0 && st.st_dev == s->dev && st.st_ino == s->ino)
			(void)unlink(s->path);
		free(s->path);
	}
	d->n_sockets = 0;
}

static void stop(struct daemon *d)
{
	if (d->stopping)
		return;
	d->stopping = true;
	notify("STOPPING=1");
	/* Before nobody listens any more: clients try again where there is no socket, and give up
	 * where one refuses them. */
	sockets_remove(d);
	d->draining = 1 + (d->grpc != NULL) + (d->grpc_tcp != NULL) + (d->ttrpc != NULL);
	if (d->grpc)
		grpc_server_drain(d->grpc, DRAIN_NS, drained, d);
	if (d->grpc_tcp)
		grpc_server_drain(d->grpc_tcp, DRAIN_NS, drained, d);
	if (d->ttrpc)
		ttrpc_server_drain(d->ttrpc, drained, d);
	drained(d);
}

static void on_signal(int signo, void *arg)
{
	struct daemon *d = arg;
	log_info("stopping: signal %s", sigabbrev_np(signo));
	/* Once more, or while starting may wait for a lock: now. What is on the disk is whole at
	 * any moment. */
	if (d->stopping || !d->started)
		_exit(EXIT_FAILURE);
	stop(d);
}

/* SIGUSR1: containerd dumps the stacks of its goroutines; what this daemon has to tell is how many
 * threads it holds. */
static void on_usr1(int signo, void *arg)
{
	struct daemon *d = arg;
	/* At the end the pool is somebody else's to free. */
	log_info("%zu worker threads", d->stopping ? 0 : pool_size(d->pool));
	trace_flush();
}

/* ---- the start ---- */

/* On the loop: from here on clients are answered. */
static void serve(void *arg)
{
	struct daemon *d = arg;
	int r = d->grpc_fd >= 0 ? grpc_server_listen(d->grpc, TAKE_FD(d->grpc_fd)) : 0;
	if (r == 0 && d->tcp_fd >= 0)
		r = grpc_server_listen(d->grpc_tcp, TAKE_FD(d->tcp_fd));
	if (r == 0 && d->ttrpc_fd >= 0)
		r = ttrpc_server_listen(d->ttrpc, TAKE_FD(d->ttrpc_fd));
	if (r < 0) {
		err_errno(&d->start_err, r, "listen");
		stop(d);
		return;
	}
	d->started = true;
	notify("READY=1");
}

static void start_failed(void *arg)
{
	stop(arg);
}

/* A daemon that nobody can reach is none. */
static int no_server(struct daemon *d)
{
	for (size_t i = 0; i < plugins_count(d->plugins); i++) {
		const struct plugin_state *s = plugins_at(d->plugins, i);
		if (streq(s->plugin->type, PLUGIN_TYPE("server.v1")) &&
		    streq(s->plugin->id, "grpc") && s->error)
			return err_set_raw(&d->start_err, s->kind ? s->kind : ERR_UNKNOWN, "%s",
					   s->error);
	}
	return err_set(&d->start_err, ERR_FAILED_PRECONDITION, "the gRPC server is disabled");
}

/* Other clients are served meanwhile; a kubelet is told to come again. */
static void recover_pods(struct daemon *d)
{
	struct ctx *ctx = &d->recovery;
	struct err err = ERR_INIT;
	ctx->arena = arena_new(0);
	int r = ctx->arena ? cri_recover(ctx, d->cri, &err) : err_nomem(&err);
	if (r == 0)
		cri_set_ready(d->cri);
	else if (r != -ERR_CANCELED)
		log_error("CRI: recover pods and containers: %s", err.text);
	arena_free(ctx->arena);
}

static void *start_plugins(void *arg)
{
	struct daemon *d = arg;
	int64_t began = time_mono();
	char took[40];
	struct plugin_set *plugins;
	int r = plugins_start(plugin_table, plugin_table_n, d->config, d, plugin_proxy_init,
			      &plugins, &d->start_err);
	d->plugins = plugins;
	if (r == 0 && d->grpc_fd < 0)
		r = no_server(d);
	if (r < 0) {
		/* The loop has connections to shims by now: an end like any other. */
		if (loop_post(d->loop, start_failed, d) < 0)
			loop_stop(d->loop);
		return NULL;
	}
	if (loop_post(d->loop, serve, d) < 0) {
		err_nomem(&d->start_err);
		loop_stop(d->loop);
		return NULL;
	}
	snprintf(took, sizeof(took), "%.6fs", (double)(time_mono() - began) / 1e9);
	log_info("containerd successfully booted in %s", took);
	if (d->cri)
		recover_pods(d);
	return NULL;
}

static int setup(struct daemon *d, struct err *err)
{
	char exe[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	if (n < 0)
		return err_errno(err, errno, "read /proc/self/exe");
	exe[n] = 0;
	d->exe = strdup(exe);
	if (!d->exe)
		return err_nomem(err);
	signal(SIGPIPE, SIG_IGN);
	mallopt(M_ARENA_MAX, 2); /* one heap a thread would cost more than the daemon itself */
	/* Left to itself the allocator raises both when a large piece is freed, and then keeps as
	 * much at the end of each heap, where malloc_trim() does not reach. */
	mallopt(M_MMAP_THRESHOLD, HEAP_PIECE);
	mallopt(M_TRIM_THRESHOLD, HEAP_PIECE);
	int r = loop_new(&d->loop);
	if (r == 0)
		r = pool_new(0, &d->pool);
	if (r == 0)
		r = loop_add_signal(d->loop, SIGTERM, on_signal, d, NULL);
	if (r == 0)
		r = loop_add_signal(d->loop, SIGINT, on_signal, d, NULL);
	if (r == 0)
		r = loop_add_signal(d->loop, SIGUSR1, on_usr1, d, NULL);
	if (r < 0)
		return err_errno(err, r, "set up the event loop");
	d->services.loop = d->loop;
	d->services.pool = d->pool;
	return 0;
}

static void teardown(struct daemon *d)
{
	servers_stop(d);
	if (d->restart && d->pool)
		restart_monitor_stop(d->restart);
	if (d->cri && d->pool)
		cri_stop(d->cri);
	if (d->pool)
		pool_free(d->pool);
	if (d->plugins)
		plugins_stop(d->plugins);
	proxies_free(d);
	if (d->grpc)
		grpc_server_free(d->grpc);
	if (d->grpc_tcp)
		grpc_server_free(d->grpc_tcp);
	if (d->ttrpc)
		ttrpc_server_free(d->ttrpc);
	fd_closep(&d->grpc_fd);
	fd_closep(&d->tcp_fd);
	fd_closep(&d->ttrpc_fd);
	sockets_remove(d);
	loop_free(d->loop);
	free(d->exe);
	trace_close();
}

int daemon_run(const struct config *config, struct err *err)
{
	struct daemon d = {.config = config,
			   .grpc_fd = -1,
			   .ttrpc_fd = -1,
			   .tcp_fd = -1,
			   .recovery = {.ns = "", .lease = ""}};
	log_info("starting containerd, version %s, revision %s", VERSION, REVISION);
	umask(0022);
	int r = make_dirs(config, err);
	if (r == 0 && !str_empty(config->trace)) {
		r = trace_open(config->trace);
		if (r < 0)
			return err_errno(err, r, "open the trace %s", config->trace);
	}
	if (r == 0 && !str_empty(config->cgroup_path))
		r = join_cgroup(config->cgroup_path, err);
	if (r == 0)
		r = setup(&d, err);
	if (r < 0) {
		teardown(&d);
		return r;
	}
	if (config->oom_score)
		set_oom_score(config->oom_score);
	r = -pthread_create(&d.starter, NULL, start_plugins, &d);
	if (r < 0) {
		teardown(&d);
		return err_errno(err, r, "start a thread");
	}
	r = loop_run(d.loop);
	if (!d.joined)
		pthread_join(d.starter, NULL);
	/* What the end of connections has still posted. */
	for (int i = 0; i < LAST_ROUNDS; i++)
		(void)!loop_run_once(d.loop, 0);
	teardown(&d);
	if (d.start_err.kind)
		return err_copy(err, &d.start_err);
	return r < 0 ? err_errno(err, r, "event loop") : 0;
}
