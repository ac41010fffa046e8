/* SPDX-License-Identifier: Apache-2.0 */
/* Registry sessions: a worker in the role "fetch", one thread that reads its messages, and callers
 * that wait for theirs.
 *
 * A caller's struct call is on its stack and in the session's list while it waits. The reader puts
 * what comes for it there and wakes it through the call's eventfd; questions for credentials are
 * passed on by the caller itself, so that callbacks run on its thread. A call is left only when the
 * worker has answered it (after a cancellation, too), because until then the worker may ask for
 * credentials in its name.
 *
 * A blob's bytes come through a pipe, which its caller reads. The worker says how many bytes it had
 * written there before a restart and before its answer, and writes nothing more until a restart is
 * acknowledged: so the caller, which takes the bytes first, never mixes up what came when. What a
 * worker says about numbers is checked against the pipe, and nothing is waited for that should be
 * there already.
 */
#include "core/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/json.h"
#include "base/str.h"
#include "base/time.h"
#include "base/trace.h"
#include "rpc/msg.h"

#define TICK_MS 100		     /* how late a cancellation may be noticed */
#define CANCEL_NS (5 * NSEC_PER_SEC) /* then a worker that does not answer is given up */
#define PIPE_SIZE (1 << 20)
#define CHUNK (256 << 10) /* most that a sink gets at once */

struct call {
	struct call *next;
	int64_t id;
	int wake;	 /* eventfd: something has come */
	json_t *answer;	 /* the final message */
	int64_t restart; /* bytes in the pipe before it, -1 = none is waiting */
	int64_t sent;	 /* of a push, -1 = nothing new */
	json_t *auth;	 /* a question */
};

/* A blob on its way, the caller's own. */
struct stream {
	int fd;	       /* the pipe's read end, -1 = at its end */
	int64_t taken; /* bytes out of it, in all */
	int64_t off;   /* where in the blob the next belongs */
	int64_t size;  /* -1 = unknown */
	char *buf;
	size_t cap;
	int (*sink)(void *arg, int64_t offset, const void *p, size_t n, struct err *err);
	void *arg;
};

struct fetch {
	struct worker *worker;
	int (*auth)(void *arg, const char *host, const char *const *challenges,
		    struct fetch_auth *ret, struct err *err);
	void *auth_arg;
	void (*log)(void *arg, const char *line);
	void *log_arg;
	pthread_t reader;
	bool reader_runs;
	pthread_mutex_t send_lock; /* writing to the socket */

	pthread_mutex_t lock; /* what follows */
	struct call *calls;
	int64_t last_id;
	struct err dead; /* kind != 0: the session is over */
};

/* ---- reader ---- */

static void call_wake(const struct call *c)
{
	/* Fails only when it has been woken about 2^64 times. */
	(void)!eventfd_write(c->wake, 1);
}

/* Holds lock. */
static void wake_all(const struct fetch *f)
{
	for (const struct call *c = f->calls; c; c = c->next)
		call_wake(c);
}

static void dispatch(struct fetch *f, json_t *m)
{
	int64_t id = json_int(m, "id", 0);
	const char *line = json_str(m, "log", NULL);

	if (line && f->log)
		f->log(f->log_arg, line);
	MUTEX_GUARD(&f->lock);
	/* An error that is about no call ends the session. */
	if (id == 0 && msg_get_error(m, &f->dead) < 0) {
		wake_all(f);
		return;
	}
	for (struct call *c = f->calls; c; c = c->next) {
		if (c->id != id)
			continue;
		if (json_obj(m, "ok") || json_obj(m, "error")) {
			json_decref(c->answer);
			c->answer = json_incref(m);
		} else if (json_obj(m, "auth")) {
			json_decref(c->auth);
			c->auth = json_incref(json_obj(m, "auth"));
		} else if (json_object_get(m, "sent")) {
			c->sent = MAX(json_int(m, "sent", 0), (int64_t)0);
		} else {
			c->restart = json_int(m, "restart", -1);
		}
		call_wake(c);
	}
}

static void *reader_main(void *arg)
{
	struct fetch *f = arg;
	struct err err = ERR_INIT;
	json_t *m;
	int r;

	while ((r = msg_recv(worker_sock(f->worker), 0, &m, NULL, NULL, &err)) > 0) {
		dispatch(f, m);
		json_decref(m);
	}
	MUTEX_GUARD(&f->lock);
	if (!f->dead.kind && r < 0)
		err_copy(&f->dead, &err);
	if (!f->dead.kind)
		err_set(&f->dead, ERR_UNAVAILABLE, "containerd-worker ended unexpectedly");
	wake_all(f);
	return NULL;
}

/* ---- messages ---- */

/* Takes @m over; NULL = no memory. */
static int send_message(struct fetch *f, json_t *m, const int *fd, struct err *err)
{
	int r;

	if (!m)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "request to containerd-worker: not UTF-8 or out of memory");
	pthread_mutex_lock(&f->send_lock);
	r = msg_send(worker_sock(f->worker), m, fd, fd ? 1 : 0, err);
	pthread_mutex_unlock(&f->send_lock);
	json_decref(m);
	return r;
}

static json_t *headers_json(const struct fetch_header *h, size_t n)
{
	json_t *a = json_array();

	for (size_t i = 0; i < n; i++)
		json_array_append_new(a, json_pack("[s,s]", h[i].key, h[i].value));
	return a;
}

static json_t *host_json(const struct fetch_host *h)
{
	json_t *ca = json_array(), *certs = json_array();

	for (size_t i = 0; i < h->n_ca; i++)
		json_array_append_new(ca, json_string(h->ca_pem[i]));
	for (size_t i = 0; i < h->n_certs; i++)
		json_array_append_new(
			certs, json_pack("[s,s*]", h->certs[i].cert_pem, h->certs[i].key_pem));
	return json_pack("{s:s,s:s,s:s,s:I,s:b,s:I,s:o,s:o,s:o}", "scheme", h->scheme, "host",
			 h->host, "path", h->path ? h->path : "/v2", "capabilities",
			 (json_int_t)h->capabilities, "skip_verify", (int)h->skip_verify,
			 "dial_timeout", (json_int_t)h->dial_timeout_ns, "ca", ca, "certs", certs,
			 "headers", headers_json(h->headers, h->n_headers));
}

static json_t *session_json(const struct fetch_options *o)
{
	json_t *hosts = json_array(), *mount_from = json_array();

	for (size_t i = 0; i < o->n_hosts; i++)
		json_array_append_new(hosts, host_json(&o->hosts[i]));
	for (size_t i = 0; i < o->n_mount_from; i++)
		json_array_append_new(mount_from, json_string(o->mount_from[i]));
	return json_pack("{s:{s:s,s:s,s:s,s:b,s:o,s:b,s:I,s:o,s:o}}", "session", "original_host",
			 o->original_host ? o->original_host : "", "repository",
			 o->repository ? o->repository : "", "object", o->object ? o->object : "",
			 "push", (int)o->push, "mount_from", mount_from, "debug", o->log != NULL,
			 "silence", (json_int_t)o->silence_ns, "headers",
			 headers_json(o->headers, o->n_headers), "hosts", hosts);
}

/* ---- a blob's bytes ---- */

static int stream_give(struct stream *s, size_t n, struct err *err)
{
	int r;

	if (s->size >= 0 && (int64_t)n > s->size - s->off)
		return err_set(err, ERR_FAILED_PRECONDITION,
			       "containerd-worker sent more than the %lld bytes of the blob",
			       (long long)s->size);
	r = s->sink(s->arg, s->off, s->buf, n, err);
	if (r < 0)
		return r;
	s->taken += (int64_t)n;
	s->off += (int64_t)n;
	return 0;
}

/* What is in the pipe now, but at most one chunk and at most @max bytes. Returns how many. */
static int stream_take(struct stream *s, int64_t max, struct err *err)
{
	ssize_t n;
	int r;

	if (s->fd < 0)
		return 0;
	do
		n = read(s->fd, s->buf, (size_t)MIN((int64_t)s->cap, max));
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		return 0;
	if (n < 0)
		return err_errno(err, errno, "read from containerd-worker");
	if (n == 0) {
		close(TAKE_FD(s->fd));
		return 0;
	}
	r = stream_give(s, (size_t)n, err);
	return r < 0 ? r : (int)n;
}

/* All that the worker wrote before it sent a message: @piped bytes since the beginning. */
static int stream_drain(struct stream *s, int64_t piped, struct err *err)
{
	int r = 1;

	while (r > 0 && s->taken < piped)
		r = stream_take(s, piped - s->taken, err);
	if (r < 0)
		return r;
	if (s->taken != piped)
		return err_set(err, ERR_INTERNAL,
			       "containerd-worker wrote %lld bytes and speaks of %lld",
			       (long long)s->taken, (long long)piped);
	return 0;
}

/* Takes what came before, and lets the worker go on. */
static int stream_restart(struct fetch *f, int64_t id, struct stream *s, int64_t piped,
			  struct err *err)
{
	int r = stream_drain(s, piped, err);

	if (r == 0)
		r = s->sink(s->arg, 0, s->buf, 0, err);
	if (r < 0)
		return r;
	s->off = 0;
	return send_message(f, json_pack("{s:I}", "restarted", (json_int_t)id), NULL, err);
}

/* The answer has come. */
static int stream_end(struct stream *s, const json_t *answer, struct err *err)
{
	int r = stream_drain(s, json_int(answer, "piped", 0), err);

	if (r == 0 && json_obj(answer, "ok") && s->size >= 0 && s->off != s->size)
		r = err_set(err, ERR_INTERNAL, "containerd-worker ended at byte %lld of %lld",
			    (long long)s->off, (long long)s->size);
	return r;
}

static void stream_done(struct stream *s)
{
	if (s->fd >= 0)
		close(s->fd);
	free(s->buf);
}

/* Makes the pipe; *@ret_fd is the worker's end. */
static int stream_open(struct stream *s, int *ret_fd, struct err *err)
{
	int fds[2];

	/* One more than may come, so that too much is seen. */
	s->cap = s->size >= 0 && s->size - s->off < CHUNK ? (size_t)(s->size - s->off) + 1 : CHUNK;
	s->buf = malloc(s->cap);
	if (!s->buf)
		return err_nomem(err);
	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
		return err_errno(err, errno, "make pipe");
	/* Refused to some users and at some limits: it works with the usual size, too. */
	if (s->cap == CHUNK)
		(void)fcntl(fds[1], F_SETPIPE_SZ, PIPE_SIZE);
	s->fd = fds[0];
	*ret_fd = fds[1];
	return 0;
}

/* ---- calls ---- */

static void call_add(struct fetch *f, struct call *c)
{
	MUTEX_GUARD(&f->lock);
	c->id = ++f->last_id;
	c->next = f->calls;
	f->calls = c;
	if (f->dead.kind)
		call_wake(c);
}

static void call_remove(struct fetch *f, struct call *c)
{
	MUTEX_GUARD(&f->lock);
	for (struct call **p = &f->calls; *p; p = &(*p)->next)
		if (*p == c) {
			*p = c->next;
			break;
		}
}

static const char *const auth_types[] = {
	[FETCH_AUTH_NONE] = "none",
	[FETCH_AUTH_CREDENTIALS] = "credentials",
	[FETCH_AUTH_REFRESH] = "refresh",
	[FETCH_AUTH_HEADER] = "header",
};

static json_t *auth_refusal(const char *host, const struct err *err)
{
	return json_pack("{s:{s:s,s:{s:i,s:s}}}", "auth", "host", host, "error", "kind", err->kind,
			 "text", err->text);
}

/* Asks the owner of the session and answers the worker. */
static int answer_auth(struct fetch *f, const json_t *question, bool canceled, struct err *err)
{
	const char *host = json_str(question, "host", ""), *challenges[33] = {NULL};
	struct fetch_auth a = {.type = FETCH_AUTH_NONE};
	struct err why = ERR_INIT;
	size_t n = 0, i;
	json_t *v;
	int r = 0;

	json_array_foreach (json_arr(question, "challenges"), i, v)
		if (n < ARRAY_LEN(challenges) - 1 && json_is_string(v))
			challenges[n++] = json_string_value(v);
	if (canceled)
		r = err_set_raw(&why, ERR_CANCELED, "context canceled");
	else if (f->auth)
		r = f->auth(f->auth_arg, host, challenges, &a, &why);
	if (r < 0)
		return send_message(f, auth_refusal(host, &why), NULL, err);
	return send_message(f,
			    json_pack("{s:{s:s,s:s,s:s,s:s}}", "auth", "host", host, "type",
				      auth_types[a.type], "username", a.username ? a.username : "",
				      "secret", a.secret ? a.secret : ""),
			    NULL, err);
}

/* What has come for a call, taken out of it under the lock. */
struct news {
	json_t *auth, *answer;
	int64_t restart;  /* -1 = none */
	int64_t sent;	  /* -1 = nothing new */
	struct err *dead; /* filled when the session is over */
};

static void take_news(struct fetch *f, struct call *c, struct news *n)
{
	eventfd_t times;

	/* What comes from here on wakes again. */
	(void)!eventfd_read(c->wake, &times);
	MUTEX_GUARD(&f->lock);
	n->restart = c->restart;
	c->restart = -1;
	n->sent = c->sent;
	c->sent = -1;
	n->auth = TAKE_PTR(c->auth);
	n->answer = TAKE_PTR(c->answer);
	if (f->dead.kind)
		err_copy(n->dead, &f->dead);
}

/* One that is sent and waited for. */
struct wait {
	struct fetch *f;
	struct ctx *ctx;
	struct call *c;
	struct stream *stream;		 /* NULL = none */
	const struct push_options *push; /* NULL = it is none */
	int64_t give_up;		 /* != 0: it was canceled, and is waited for until then */
	struct err over;		 /* why it was canceled */
};

/* Ends the call early, for the reason in over: nothing of it is wanted any more but its answer. */
static void wait_cancel(struct wait *w)
{
	w->give_up = time_mono() + CANCEL_NS;
	if (w->stream && w->stream->fd >= 0)
		close(TAKE_FD(w->stream->fd));
	(void)send_message(w->f, json_pack("{s:I}", "cancel", (json_int_t)w->c->id), NULL, NULL);
}

/* Until something has come, or it is time to look at the context. True = there are news. */
static bool wait_some(const struct wait *w)
{
	struct pollfd p[] = {
		{.fd = w->c->wake, .events = POLLIN},
		{.fd = w->stream ? w->stream->fd : -1, .events = POLLIN},
	};
	int left = w->give_up ? -1 : ctx_poll_ms(w->ctx);

	return poll(p, ARRAY_LEN(p), left < 0 || left > TICK_MS ? TICK_MS : left) > 0 &&
	       p[0].revents;
}

/* Deals with a restart and takes what is in the pipe; what fails here ends the call. */
static int wait_step(const struct wait *w, const struct news *n, struct err *err)
{
	struct stream *s = w->stream;
	int r = n->answer ? 0 : ctx_check(w->ctx, err);

	if (r == 0 && s && n->restart >= 0)
		r = stream_restart(w->f, w->c->id, s, n->restart, err);
	if (r < 0 || !s || n->answer)
		return r;
	do
		r = stream_take(s, INT64_MAX, err);
	while (r == (int)s->cap && (r = ctx_check(w->ctx, err)) == 0);
	return r < 0 ? r : 0;
}

/* The answer of a call that was sent. */
static int call_wait(struct wait *w, json_t **ret, struct err *err)
{
	for (;;) {
		struct err dead = ERR_INIT;
		struct news n = {.restart = -1, .sent = -1, .dead = &dead};
		int r = 0;

		if (wait_some(w))
			take_news(w->f, w->c, &n);
		if (n.auth)
			r = answer_auth(w->f, n.auth, w->give_up != 0, err);
		json_decref(n.auth);
		if (n.sent >= 0 && w->push && w->push->progress)
			w->push->progress(w->push->arg, n.sent);
		if (!w->give_up && wait_step(w, &n, &w->over) < 0)
			wait_cancel(w);
		if (n.answer) {
			*ret = n.answer;
			return w->give_up ? err_copy(err, &w->over) : 0;
		}
		if (r < 0)
			return r;
		if (dead.kind)
			return err_copy(err, w->give_up ? &w->over : &dead);
		if (w->give_up && time_mono() > w->give_up) {
			/* Others may wait for what it asks in this call's name: end all. */
			shutdown(worker_sock(w->f->worker), SHUT_RDWR);
			worker_kill(w->f->worker);
			return err_copy(err, &w->over);
		}
	}
}

/* Sends @body as @name and waits. @fd is the worker's end of @s, or the file to push. */
static int call_run(struct fetch *f, struct ctx *ctx, const char *name, json_t *body, int *fd,
		    struct stream *s, const struct push_options *push, json_t **ret,
		    struct err *err)
{
	struct call c = {.restart = -1, .sent = -1};
	struct wait w = {.f = f, .ctx = ctx, .c = &c, .stream = s, .push = push};
	_cleanup_json_ json_t *answer = NULL;
	int r = ctx_check(ctx, err);

	c.wake = r == 0 ? eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) : -1;
	if (r == 0 && c.wake < 0)
		r = err_errno(err, errno, "make eventfd");
	if (r < 0) {
		json_decref(body);
		return r;
	}
	call_add(f, &c);
	r = send_message(f, json_pack("{s:I,s:o}", "id", (json_int_t)c.id, name, body), fd, err);
	/* The pipe ends when the worker's is the only one, and goes. */
	if (fd)
		close(TAKE_FD(*fd));
	if (r == 0)
		r = call_wait(&w, &answer, err);
	call_remove(f, &c);
	close(c.wake);
	json_decref(c.answer);
	json_decref(c.auth);
	if (r == 0 && s)
		r = stream_end(s, answer, err);
	if (r == 0)
		r = msg_get_error(answer, err);
	if (r < 0)
		return r;
	*ret = json_incref(json_obj(answer, "ok"));
	return 0;
}

/* ---- interface ---- */

static int start(struct fetch *f, const struct fetch_options *o, struct err *err)
{
	int r = worker_start("fetch", &f->worker, err);

	if (r < 0)
		return r;
	r = send_message(f, session_json(o), NULL, err);
	if (r < 0)
		return r;
	r = pthread_create(&f->reader, NULL, reader_main, f);
	if (r != 0)
		return err_errno(err, r, "start thread");
	f->reader_runs = true;
	return 0;
}

int fetch_start(struct ctx *ctx, const struct fetch_options *o, struct fetch **ret, struct err *err)
{
	struct fetch *f = calloc(1, sizeof(*f));
	int r;

	if (!f)
		return err_nomem(err);
	f->auth = o->auth;
	f->auth_arg = o->auth_arg;
	f->log = o->log;
	f->log_arg = o->log_arg;
	pthread_mutex_init(&f->lock, NULL);
	pthread_mutex_init(&f->send_lock, NULL);
	r = ctx_check(ctx, err);
	if (r == 0)
		r = start(f, o, err);
	if (r < 0) {
		fetch_free(f);
		return r;
	}
	*ret = f;
	return 0;
}

void fetch_free(struct fetch *f)
{
	if (!f)
		return;
	if (f->reader_runs) {
		shutdown(worker_sock(f->worker), SHUT_RDWR);
		pthread_join(f->reader, NULL);
	}
	worker_free(f->worker);
	pthread_mutex_destroy(&f->lock);
	pthread_mutex_destroy(&f->send_lock);
	free(f);
}

int fetch_resolve(struct fetch *f, struct ctx *ctx, struct fetch_descriptor *ret, struct err *err)
{
	_cleanup_json_ json_t *ok = NULL;
	const char *type, *digest;
	TRACE_SPAN("fetch", "resolve");
	int r = call_run(f, ctx, "resolve", json_object(), NULL, NULL, NULL, &ok, err);
	int64_t size;

	if (r < 0)
		return r;
	type = json_str(ok, "media_type", "");
	digest = json_str(ok, "digest", "");
	size = json_int(ok, "size", -1);
	if (strlen(type) >= sizeof(ret->media_type) || size < 0)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "registry's descriptor: invalid media type or size");
	r = digest_validate(digest, err);
	if (r < 0)
		return err_prefix(err, "registry's descriptor");
	strcpy(ret->media_type, type);
	strcpy(ret->digest.text, digest);
	ret->size = size;
	return 0;
}

typedef int (*sink_fn)(void *arg, int64_t offset, const void *p, size_t n, struct err *err);

/* @length 0 = to the end. */
static int blob_run(struct fetch *f, struct ctx *ctx, const struct fetch_descriptor *d,
		    int64_t offset, int64_t length, sink_fn sink, void *arg, struct err *err)
{
	_cleanup_(stream_done) struct stream s = {
		.fd = -1, .off = offset, .size = d->size, .sink = sink, .arg = arg};
	_cleanup_json_ json_t *ok = NULL;
	_cleanup_close_ int theirs = -1;
	json_t *body;
	int r;

	if (length)
		s.size = offset + length;
	r = stream_open(&s, &theirs, err);
	if (r < 0)
		return r;
	body = json_pack("{s:s,s:s,s:I,s:I,s:I}", "media_type", d->media_type, "digest",
			 d->digest.text, "size", (json_int_t)d->size, "offset", (json_int_t)offset,
			 "length", (json_int_t)length);
	return call_run(f, ctx, "blob", body, &theirs, &s, NULL, &ok, err);
}

int fetch_blob(struct fetch *f, struct ctx *ctx, const struct fetch_descriptor *d, int64_t offset,
	       sink_fn sink, void *arg, struct err *err)
{
	TRACE_SPAN("fetch", "blob", "digest", d->digest.text);

	if (offset < 0 || (d->size >= 0 && offset > d->size))
		return err_set(err, ERR_INVALID_ARGUMENT, "offset %lld is beyond the size %lld",
			       (long long)offset, (long long)d->size);
	return blob_run(f, ctx, d, offset, 0, sink, arg, err);
}

/* A part must not begin anew, whatever the worker says. */
struct part {
	sink_fn sink;
	void *arg;
};

static int part_sink(void *arg, int64_t offset, const void *p, size_t n, struct err *err)
{
	const struct part *part = arg;

	if (n == 0)
		return err_set(err, ERR_INTERNAL, "containerd-worker began a part anew");
	return part->sink(part->arg, offset, p, n, err);
}

int fetch_blob_part(struct fetch *f, struct ctx *ctx, const struct fetch_descriptor *d,
		    int64_t offset, int64_t length, sink_fn sink, void *arg, struct err *err)
{
	struct part part = {sink, arg};
	TRACE_SPAN("fetch", "part", "digest", d->digest.text);

	if (offset < 0 || length <= 0 || d->size < offset || length > d->size - offset)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "%lld bytes from %lld on are beyond the size %lld",
			       (long long)length, (long long)offset, (long long)d->size);
	return blob_run(f, ctx, d, offset, length, part_sink, &part, err);
}

/* A descriptor through which nothing can be changed, and of which what is sent can be sent again.
 */
static int check_file(int fd, struct err *err)
{
	int flags = fcntl(fd, F_GETFL);
	struct stat st;

	if (flags < 0 || fstat(fd, &st) < 0)
		return err_errno(err, errno, "look at content");
	if ((flags & O_ACCMODE) != O_RDONLY || (flags & O_PATH) || !S_ISREG(st.st_mode))
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "content to push must be a file that is open for reading only");
	return 0;
}

int fetch_push(struct fetch *f, struct ctx *ctx, const struct fetch_descriptor *d, int fd,
	       const struct push_options *o, enum push_result *ret, struct err *err)
{
	_cleanup_json_ json_t *ok = NULL;
	_cleanup_close_ int theirs = -1;
	TRACE_SPAN("fetch", "push", "digest", d->digest.text);
	json_t *body;
	int r = check_file(fd, err);

	if (r < 0)
		return r;
	theirs = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (theirs < 0)
		return err_errno(err, errno, "duplicate a descriptor");
	body = json_pack("{s:s,s:s,s:I,s:s,s:s}", "media_type", d->media_type, "digest",
			 d->digest.text, "size", (json_int_t)d->size, "reference",
			 o->reference ? o->reference : "", "mount_from",
			 o->mount_from ? o->mount_from : "");
	r = call_run(f, ctx, "push", body, &theirs, NULL, o, &ok, err);
	if (r < 0)
		return r;
	*ret = json_bool(ok, "mounted", false)	? PUSH_MOUNTED
	       : json_bool(ok, "exists", false) ? PUSH_EXISTS
						: PUSH_SENT;
	return 0;
}
