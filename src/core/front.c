/* SPDX-License-Identifier: Apache-2.0 */
/* A front's process: started, told its configuration, started again when it ends; and what it asks
 * for, given to the pool. Replies are in front_reply.c, certificates in front_tls.c.
 *
 * The front's thread alone reads messages and watches files; everybody writes, under the lock, and
 * never for long: a process that does not take its messages is killed. The thread takes a worker
 * out of sight before it frees it. A request belongs to the worker that sent it, by number: a reply
 * for one that is gone goes nowhere.
 *
 * The struct lives as long as the front and its unanswered requests. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"
#include "base/time.h"
#include "core/front_internal.h"
#include "core/worker.h"
#include "event/pool.h"
#include "rpc/msg.h"

#define START_NS (10 * NSEC_PER_SEC)
#define MESSAGE_NS (10 * NSEC_PER_SEC)
#define SEND_MS 5000
#define PAUSE_FIRST_NS (100 * NSEC_PER_MSEC)
#define PAUSE_MAX_NS (30 * NSEC_PER_SEC)
#define STABLE_NS (60 * NSEC_PER_SEC) /* a process that lived so long was a good one */

/* ---- life ---- */

void front_ref(struct front *f)
{
	atomic_fetch_add(&f->refs, 1);
}

void front_unref(struct front *f)
{
	if (atomic_fetch_sub(&f->refs, 1) > 1)
		return;
	for (size_t i = 0; i < f->n_listeners; i++)
		fd_closep(&f->listeners[i].fd);
	fd_closep(&f->wake);
	front_tls_unwatch(f);
	arena_free(f->arena);
	pthread_mutex_destroy(&f->mu);
	free(f);
}

static _printf_(2, 3) void warn(struct front *f, const char *fmt, ...)
{
	char text[ERR_TEXT_MAX];
	va_list ap;

	if (!f->warn)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	f->warn(f->warn_arg, text);
}

void front_warn(struct front *f, const struct err *err)
{
	warn(f, "%s server: %s", f->name, err->text);
}

/* ---- messages ---- */

int front_send_locked(struct front *f, const json_t *m, int fd)
{
	struct pollfd p = {.fd = f->worker ? worker_sock(f->worker) : -1, .events = POLLOUT};

	if (!f->worker)
		return -ERR_UNAVAILABLE;
	/* What fits is at least as much as our messages are long. */
	if (poll(&p, 1, SEND_MS) > 0 && !(p.revents & (POLLHUP | POLLERR)) && m &&
	    msg_send(p.fd, m, &fd, fd >= 0, NULL) == 0)
		return 0;
	worker_kill(f->worker);
	return -ERR_UNAVAILABLE;
}

static json_t *configuration(struct front *f, struct err *err)
{
	json_t *list = json_array(),
	       *m = json_pack("{s:{s:I,s:o}}", "front", "connections",
			      (json_int_t)f->max_connections, "listeners", list);

	if (!m) {
		err_nomem(err);
		return NULL;
	}
	for (size_t i = 0; i < f->n_listeners; i++) {
		const struct front_listener *l = &f->listeners[i];
		json_t *o = json_pack("{s:s,s:s}", "kind",
				      l->kind == FRONT_HTTP ? "http" : "stream", "alpn",
				      l->alpn ? l->alpn : ""),
		       *tls = NULL;
		int r = o ? front_tls_read(f, i, &tls, err) : err_nomem(err);

		if (tls && json_object_set_new(o, "tls", tls) < 0)
			r = err_nomem(err);
		if (r < 0 || json_array_append_new(list, o) < 0) {
			json_decref(o);
			json_decref(m);
			return NULL;
		}
	}
	return m;
}

/* Starts a worker that serves. */
static int start_worker(struct front *f, struct worker **ret, struct err *err)
{
	_cleanup_(worker_freep) struct worker *w = NULL;
	_cleanup_json_ json_t *m = configuration(f, err), *answer = NULL;
	int fds[FRONT_LISTENERS_MAX], r;

	if (!m)
		return -(err ? err->kind : ERR_UNKNOWN);
	for (size_t i = 0; i < f->n_listeners; i++)
		fds[i] = f->listeners[i].fd;
	r = worker_start("front", &w, err);
	if (r == 0)
		r = msg_send(worker_sock(w), m, fds, f->n_listeners, err);
	if (r < 0)
		return r;
	r = msg_recv(worker_sock(w), time_mono() + START_NS, &answer, NULL, NULL, err);
	if (r == 0)
		return err_set(err, ERR_UNAVAILABLE, "the front process ended at its start");
	if (r > 0)
		r = msg_get_error(answer, err);
	if (r == 0 && !json_obj(answer, "ready"))
		r = err_set(err, ERR_UNAVAILABLE, "the front process does not answer");
	if (r < 0)
		return r;
	*ret = TAKE_PTR(w);
	return 0;
}

/* ---- requests ---- */

static const struct front_route *find_route(struct front *f, const char *method, const char *path,
					    bool *ret_path_known)
{
	const struct front_route *best = NULL;
	size_t best_n = 0;

	for (size_t i = 0; i < f->n_routes; i++) {
		const struct front_route *r = &f->routes[i];
		size_t n = strlen(r->path);
		bool fits = n > 0 && r->path[n - 1] == '/' ? str_has_prefix(path, r->path)
							   : streq(path, r->path);
		bool takes = !r->method || streq(r->method, method) ||
			     (streq(r->method, "GET") && streq(method, "HEAD"));

		if (!fits)
			continue;
		*ret_path_known = true;
		if (takes && n >= best_n) {
			best = r;
			best_n = n;
		}
	}
	return best;
}

static void run(void *arg)
{
	struct front_request *q = arg;

	q->route->fn(q, q->route->arg);
}

/* Takes @m over: no other thread counts its references then. */
static void take_request(struct front *f, json_t *m)
{
	struct front_request *q = calloc(1, sizeof(*q));
	bool known = false;

	if (!q) {
		json_decref(m);
		return;
	}
	front_ref(f);
	q->front = f;
	q->generation = f->generation;
	q->message = m;
	q->m = json_obj(m, "request");
	q->id = json_int(q->m, "id", 0);
	q->route = find_route(f, front_method(q), front_path(q), &known);
	if (atomic_fetch_add(&f->n_requests, 1) >= FRONT_REQUESTS_MAX)
		front_reply_text(q, 503, "too many requests");
	else if (!q->route)
		front_reply_text(q, known ? 405 : 404,
				 known ? "method not allowed" : "404 page not found");
	else if (pool_submit(f->pool, run, q) < 0)
		front_reply_text(q, 503, "out of threads or memory");
}

static void take_stream(struct front *f, const json_t *m, int fd)
{
	int64_t i = json_int(m, "listener", -1);
	int type = 0;
	socklen_t n = sizeof(type);

	/* Only what was agreed upon: the process may be somebody else's by now. */
	if (i < 0 || i >= (int64_t)f->n_listeners || f->listeners[i].kind != FRONT_STREAM ||
	    !f->stream || getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &n) < 0 ||
	    type != SOCK_STREAM || fd_set_nonblock(fd, true) < 0) {
		close(fd);
		return;
	}
	f->stream(f->stream_arg, fd);
}

/* False = the worker is to be ended. */
static bool take_message(struct front *f)
{
	_cleanup_json_ json_t *m = NULL;
	_cleanup_close_ int fd = -1;
	struct err err = ERR_INIT;
	size_t n = 1;
	json_t *o;

	if (msg_recv(worker_sock(f->worker), time_mono() + MESSAGE_NS, &m, &fd, &n, &err) <= 0)
		return false;
	if (n == 0)
		fd = -1;
	if (json_obj(m, "request")) {
		take_request(f, TAKE_PTR(m));
		return true;
	}
	o = json_obj(m, "stream");
	if (o && fd >= 0)
		take_stream(f, o, TAKE_FD(fd));
	if (msg_get_error(m, &err) < 0)
		front_warn(f, &err);
	return true;
}

/* ---- the thread ---- */

static void set_worker(struct front *f, struct worker *w)
{
	MUTEX_GUARD(&f->mu);
	f->worker = w;
	f->generation++;
}

/* Until the worker ends, or the front is to. */
static void serve(struct front *f)
{
	while (!atomic_load(&f->stopping)) {
		struct pollfd p[] = {{.fd = f->wake, .events = POLLIN},
				     {.fd = worker_sock(f->worker), .events = POLLIN},
				     {.fd = f->inotify, .events = POLLIN}};

		if (poll(p, ARRAY_LEN(p), front_tls_wait_ms(f)) < 0 && errno != EINTR)
			return;
		if (p[1].revents && !take_message(f))
			return;
		front_tls_renew(f, p[2].revents & POLLIN);
	}
}

static void end_worker(struct front *f)
{
	struct worker *w = f->worker;

	set_worker(f, NULL);
	worker_free(w);
}

/* Not over before the pause is, unless the front is to end. */
static void pause_for(struct front *f, int64_t ns)
{
	int64_t until = time_mono() + ns, left;

	while (!atomic_load(&f->stopping) && (left = until - time_mono()) > 0) {
		struct pollfd p = {.fd = f->wake, .events = POLLIN};

		(void)poll(&p, 1, (int)(left / NSEC_PER_MSEC + 1));
	}
}

static void *front_thread(void *arg)
{
	struct front *f = arg;
	int64_t pause = PAUSE_FIRST_NS, began = time_mono();

	pthread_setname_np(pthread_self(), "front");
	for (;;) {
		struct worker *w = NULL;
		struct err err = ERR_INIT;

		if (f->worker) {
			serve(f);
			end_worker(f);
			if (!atomic_load(&f->stopping))
				warn(f, "%s server: its process has ended; it is started again",
				     f->name);
		}
		pause = time_mono() - began > STABLE_NS ? PAUSE_FIRST_NS : pause;
		pause_for(f, pause);
		pause = MIN(pause * 2, PAUSE_MAX_NS);
		if (atomic_load(&f->stopping))
			return NULL;
		began = time_mono();
		if (start_worker(f, &w, &err) < 0)
			front_warn(f, &err);
		else
			set_worker(f, w);
	}
}

/* ---- beginning and end ---- */

static const char *dup_or_null(struct arena *a, const char *s, bool *ok)
{
	const char *d = s ? arena_strdup(a, s) : NULL;

	*ok = *ok && (!s || d);
	return d;
}

static int copy_options(struct front *f, const struct front_options *o, struct err *err)
{
	struct front_route *routes = arena_new_array(f->arena, struct front_route, o->n_routes + 1);
	bool ok = routes;

	f->name = dup_or_null(f->arena, o->name, &ok);
	for (size_t i = 0; ok && i < o->n_routes; i++) {
		routes[i] = o->routes[i];
		routes[i].method = dup_or_null(f->arena, o->routes[i].method, &ok);
		routes[i].path = dup_or_null(f->arena, o->routes[i].path, &ok);
	}
	for (size_t i = 0; ok && i < o->n_listeners; i++) {
		struct front_listener *l = &f->listeners[i];

		*l = o->listeners[i];
		l->fd = -1;
		l->tls_cert = dup_or_null(f->arena, l->tls_cert, &ok);
		l->tls_key = dup_or_null(f->arena, l->tls_key, &ok);
		l->tls_ca = dup_or_null(f->arena, l->tls_ca, &ok);
		l->alpn = dup_or_null(f->arena, l->alpn, &ok);
	}
	f->routes = routes;
	f->n_routes = o->n_routes;
	f->n_listeners = o->n_listeners;
	f->pool = o->pool;
	f->stream = o->stream;
	f->stream_arg = o->stream_arg;
	f->warn = o->warn;
	f->warn_arg = o->warn_arg;
	f->max_connections = o->max_connections ? o->max_connections : FRONT_CONNECTIONS_MAX;
	return ok ? 0 : err_nomem(err);
}

static int listeners_take(struct front *f, const struct front_options *o, struct err *err)
{
	for (size_t i = 0; i < o->n_listeners; i++) {
		int r = fd_set_nonblock(o->listeners[i].fd, true);

		if (r < 0)
			return err_errno(err, r, "listening socket");
		f->listeners[i].fd = o->listeners[i].fd;
	}
	return 0;
}

static void listeners_give_back(struct front *f)
{
	for (size_t i = 0; i < f->n_listeners; i++)
		f->listeners[i].fd = -1;
}

static int front_setup(struct front *f, const struct front_options *o, struct err *err)
{
	int r = copy_options(f, o, err);

	if (r < 0)
		return r;
	f->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (f->wake < 0)
		return err_errno(err, errno, "make an eventfd");
	r = listeners_take(f, o, err);
	if (r == 0)
		r = front_tls_watch(f, err);
	if (r == 0)
		r = start_worker(f, &f->worker, err);
	if (r < 0)
		return r;
	f->generation = 1;
	r = pthread_create(&f->thread, NULL, front_thread, f);
	if (r != 0) {
		worker_free(TAKE_PTR(f->worker));
		return err_errno(err, r, "start a thread");
	}
	return 0;
}

int front_start(const struct front_options *o, struct front **ret, struct err *err)
{
	struct front *f;
	int r;

	if (o->n_listeners == 0 || o->n_listeners > FRONT_LISTENERS_MAX)
		return err_set(err, ERR_INVALID_ARGUMENT, "%zu listeners", o->n_listeners);
	f = calloc(1, sizeof(*f));
	if (!f)
		return err_nomem(err);
	f->refs = 1;
	f->wake = f->inotify = -1;
	pthread_mutex_init(&f->mu, NULL);
	f->arena = arena_new(0);
	r = f->arena ? front_setup(f, o, err) : err_nomem(err);
	if (r < 0) {
		listeners_give_back(f);
		front_unref(f);
		return r;
	}
	*ret = f;
	return 0;
}

void front_free(struct front *f)
{
	if (!f)
		return;
	atomic_store(&f->stopping, true);
	(void)eventfd_write(f->wake, 1);
	pthread_join(f->thread, NULL);
	for (size_t i = 0; i < f->n_listeners; i++)
		fd_closep(&f->listeners[i].fd);
	for (size_t i = 0; i < f->n_listeners; i++)
		f->listeners[i].fd = -1;
	front_unref(f);
}
