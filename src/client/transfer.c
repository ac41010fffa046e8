/* SPDX-License-Identifier: Apache-2.0 */
/* Threads: the caller's draws; one makes the call; one serves each stream. They share struct
 * transfer's lock and condition.
 *
 * A byte stream towards the daemon is driven by credits: the daemon sends WindowUpdate messages, at
 * most so many bytes may be on their way. Its thread waits for credits and for its descriptor in
 * turn; a second one receives the credits. */
#include "client/transfer.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/fd.h"
#include "base/str.h"
#include "base/time.h"
#include "client/internal.h"
#include "rpc/rpc.h"

#define CHUNK 32768  /* bytes of one Data message */
#define WINDOW 65536 /* credits that the daemon gets beforehand */
#define WINDOW_MAX (16 << 20)
#define TICK_NS (100 * NSEC_PER_MSEC)
#define DRAIN_NS NSEC_PER_SEC /* for progress that comes after the call's end */

struct client_transfer;

struct side {
	struct client_transfer *t;
	const char *id;
	struct rpc_stream *stream; /* NULL = there is no such side */
	int (*serve)(struct side *s, struct err *err);
	int fd;
	pthread_t thread, credit_thread;
	bool started, credit_started;
	bool ended;	/* under the lock */
	int64_t window; /* credits left, under the lock; -1 = there will be no more */
	struct err err; /* of the thread, once it has ended */
	bool local;	/* what failed is on our side of the stream */
	client_auth_fn auth;
	void *auth_arg;
};

enum { SIDE_PROGRESS, SIDE_AUTH, SIDE_DATA, SIDES };

struct client_transfer {
	struct client *c;
	struct ctx *ctx;
	struct side sides[SIDES];
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct rpc_stream *call;
	int stop_fd; /* readable: stop reading what goes to the daemon */
	PB_TRANSFER(TransferOptions) options;
	bool call_ended;
	struct err call_err;
	const struct client_transfer_view *view;
	struct arena *saved_arena;
	struct labels saved; /* images, under the lock */
};

int client_transfer_any(struct arena *a, const ProtobufCMessage *m, Google__Protobuf__Any *ret,
			struct err *err)
{
	Google__Protobuf__Any any = GOOGLE__PROTOBUF__ANY__INIT;

	any.type_url = (char *)m->descriptor->name;
	any.value.data = rpc_pack(a, m, &any.value.len);
	if (!any.value.data)
		return err_nomem(err);
	*ret = any;
	return 0;
}

static int side_send(struct side *s, struct arena *a, const ProtobufCMessage *m, struct err *err)
{
	Google__Protobuf__Any any;
	int r;

	r = client_transfer_any(a, m, &any, err);
	return r < 0 ? r : rpc_stream_send(s->stream, &any.base, err);
}

/* 1 = a message of type @type, 0 = the daemon has closed. */
static int side_recv(struct side *s, struct arena *a, const ProtobufCMessageDescriptor *type,
		     void *ret, struct err *err)
{
	Google__Protobuf__Any *any;
	const char *slash;
	int r;

	r = rpc_stream_recv(s->stream, a, &google__protobuf__any__descriptor, &any, err);
	if (r <= 0)
		return r;
	slash = strrchr(any->type_url, '/');
	if (!streq(slash ? slash + 1 : any->type_url, type->name))
		return err_set(err, ERR_INTERNAL, "the daemon sent %.100s where %s belongs",
			       any->type_url, type->name);
	r = rpc_unpack(a, type, any->value.data, any->value.len, ret, err);
	return r < 0 ? r : 1;
}

/* ---- Opening streams ---- */

static int too_old(int r, struct err *err)
{
	char text[ERR_TEXT_MAX];

	if (r != -ERR_UNIMPLEMENTED || !err || !strstr(err->text, "unknown service"))
		return r;
	snprintf(text, sizeof(text), "%s", err->text);
	return err_set_raw(err, ERR_UNIMPLEMENTED,
			   "this containerd has no transfer service (it is older than 1.7): %s",
			   text);
}

/* The daemon's first message says that the stream is registered. */
static int side_open(struct client_transfer *t, int which,
		     int (*serve)(struct side *s, struct err *err), struct err *err)
{
	PB_STREAMING(StreamInit) init = PB_STREAMING_INIT(STREAM_INIT);
	Google__Protobuf__Empty *empty;
	struct side *s = &t->sides[which];
	struct arena *a = t->ctx->arena;
	unsigned char bytes[12];
	char hex[25];
	int r;

	random_bytes(bytes, sizeof(bytes));
	hex_encode(bytes, sizeof(bytes), hex);
	s->id = arena_printf(a, "client-%s", hex);
	if (!s->id)
		return err_nomem(err);
	s->t = t;
	s->serve = serve;
	s->err = ERR_INIT;
	init.id = (char *)s->id;
	r = client_stream(t->c, t->ctx, PB_STREAMING_SERVICE, "Stream", NULL, &s->stream, err);
	if (r == 0)
		r = side_send(s, a, &init.base, err);
	if (r < 0)
		return r;
	r = side_recv(s, a, &google__protobuf__empty__descriptor, &empty, err);
	if (r == 0)
		return err_set(err, ERR_INTERNAL, "the daemon closed a stream at once");
	return r < 0 ? too_old(r, err) : 0;
}

/* ---- Progress ---- */

static int show_event(struct client_transfer *t, const PB_TRANSFER_TYPES(Progress) * m)
{
	MUTEX_GUARD(&t->lock);
	if (streq(m->event, "saved") && labels_set(t->saved_arena, &t->saved, m->name, "") < 0)
		return -ENOMEM;
	return t->view && t->view->event ? t->view->event(t->view->arg, m) : 0;
}

static int serve_progress(struct side *s, struct err *err)
{
	struct arena *a _cleanup_arena_ = arena_new(0);
	PB_TRANSFER_TYPES(Progress) * m;
	int r;

	if (!a)
		return err_nomem(err);
	while ((r = side_recv(s, a, &containerd__types__transfer__progress__descriptor, &m, err)) >
	       0) {
		if (show_event(s->t, m) < 0) {
			s->local = true;
			rpc_stream_cancel(s->t->call);
			return err_set(err, ERR_CANCELED, "the transfer was given up");
		}
		arena_reset(a);
	}
	return r;
}

/* ---- Credentials ---- */

static int serve_auth(struct side *s, struct err *err)
{
	struct arena *a _cleanup_arena_ = arena_new(0);
	PB_TRANSFER_TYPES(AuthRequest) * m;
	int r;

	if (!a)
		return err_nomem(err);
	while ((r = side_recv(s, a, &containerd__types__transfer__auth_request__descriptor, &m,
			      err)) > 0) {
		PB_TRANSFER_TYPES(AuthResponse) resp = PB_TRANSFER_TYPES_INIT(AUTH_RESPONSE);
		struct err e = ERR_INIT;
		struct client_auth auth;

		r = s->auth(s->auth_arg, a, m->host, m->reference, &auth, &e);
		if (r < 0 && r != -ERR_NOT_FOUND) {
			s->local = true;
			return err_copy(err, &e);
		}
		if (r == 0) {
			resp.authtype =
				auth.token ? CONTAINERD__TYPES__TRANSFER__AUTH_TYPE__REFRESH
					   : CONTAINERD__TYPES__TRANSFER__AUTH_TYPE__CREDENTIALS;
			resp.username = (char *)auth.username;
			resp.secret = (char *)auth.secret;
		}
		r = side_send(s, a, &resp.base, err);
		if (r < 0)
			return r;
		arena_reset(a);
	}
	return r;
}

/* ---- Bytes to the daemon ---- */

static void *receive_credits(void *arg)
{
	struct side *s = arg;
	struct arena *a _cleanup_arena_ = arena_new(0);
	PB_TRANSFER_TYPES(WindowUpdate) * m;
	struct err e = ERR_INIT;

	while (a && side_recv(s, a, &containerd__types__transfer__window_update__descriptor, &m,
			      &e) > 0) {
		pthread_mutex_lock(&s->t->lock);
		if (m->update > 0)
			s->window = MIN(s->window + m->update, (int64_t)WINDOW_MAX);
		pthread_cond_broadcast(&s->t->changed);
		pthread_mutex_unlock(&s->t->lock);
		arena_reset(a);
	}
	pthread_mutex_lock(&s->t->lock);
	s->window = -1;
	pthread_cond_broadcast(&s->t->changed);
	pthread_mutex_unlock(&s->t->lock);
	return NULL;
}

/* Bytes that may be sent, at least one; 0 = the daemon takes no more. */
static int64_t wait_for_credit(struct side *s)
{
	MUTEX_GUARD(&s->t->lock);
	while (s->window == 0)
		pthread_cond_wait(&s->t->changed, &s->t->lock);
	return MAX(s->window, (int64_t)0);
}

static void use_credit(struct side *s, int64_t n)
{
	MUTEX_GUARD(&s->t->lock);
	if (s->window >= 0)
		s->window = MAX(s->window - n, (int64_t)0);
}

/* 1 = something can be read (or the end), 0 = told to stop. */
static int wait_for_input(struct side *s, struct err *err)
{
	struct pollfd p[2] = {{.fd = s->t->stop_fd, .events = POLLIN},
			      {.fd = s->fd, .events = POLLIN}};

	while (poll(p, 2, -1) < 0)
		if (errno != EINTR) {
			s->local = true;
			return err_errno(err, errno, "wait for the archive");
		}
	return !p[0].revents;
}

static int send_all(struct side *s, struct arena *a, char *p, struct err *err)
{
	int64_t room;
	int r;

	while ((room = wait_for_credit(s)) > 0) {
		PB_TRANSFER_TYPES(Data) data = PB_TRANSFER_TYPES_INIT(DATA);
		ssize_t n;

		r = wait_for_input(s, err);
		if (r <= 0)
			return r;
		n = read(s->fd, p, (size_t)MIN(room, (int64_t)CHUNK));
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n < 0) {
			s->local = true;
			return err_errno(err, errno, "read the archive");
		}
		if (n == 0)
			return rpc_stream_close_send(s->stream, err);
		data.data = (ProtobufCBinaryData){.data = (uint8_t *)p, .len = (size_t)n};
		r = side_send(s, a, &data.base, err);
		if (r < 0)
			return r;
		use_credit(s, n);
		arena_reset(a);
	}
	return 0;
}

static int serve_source(struct side *s, struct err *err)
{
	struct arena *a _cleanup_arena_ = arena_new(0);
	char *p _cleanup_free_ = malloc(CHUNK);
	int r;

	if (!a || !p)
		return err_nomem(err);
	r = client_thread_start(&s->credit_thread, receive_credits, s);
	if (r != 0)
		return err_errno(err, r, "start a thread");
	s->credit_started = true;
	return send_all(s, a, p, err);
}

/* ---- Bytes from the daemon ---- */

static int give_credit(struct side *s, struct arena *a, int32_t n, struct err *err)
{
	PB_TRANSFER_TYPES(WindowUpdate) update = PB_TRANSFER_TYPES_INIT(WINDOW_UPDATE);

	update.update = n;
	return side_send(s, a, &update.base, err);
}

static int serve_sink(struct side *s, struct err *err)
{
	struct arena *a _cleanup_arena_ = arena_new(0);
	PB_TRANSFER_TYPES(Data) * m;
	struct err late = ERR_INIT;
	int32_t used = 0;
	int r;

	if (!a)
		return err_nomem(err);
	r = give_credit(s, a, WINDOW, err);
	if (r < 0)
		return r;
	while ((r = side_recv(s, a, &containerd__types__transfer__data__descriptor, &m, err)) > 0) {
		r = fd_write_full(s->fd, m->data.data, m->data.len);
		if (r < 0) {
			s->local = true;
			return err_errno(err, r, "write the archive");
		}
		if (m->data.len > WINDOW)
			return err_set(err, ERR_INTERNAL, "the daemon sent %zu bytes at once",
				       m->data.len);
		used += (int32_t)m->data.len;
		/* The daemon may be through and not listen any more while we still read what it has
		 * sent. */
		if (used >= WINDOW / 2 && give_credit(s, a, used, &late) == 0)
			used = 0;
		arena_reset(a);
	}
	return r;
}

/* ---- The call ---- */

static void *side_thread(void *arg)
{
	struct side *s = arg;
	struct client_transfer *t = s->t;
	int r = s->serve(s, &s->err);

	/* A transfer does not go on without one of its streams, but for the progress. */
	if (r < 0 && s != &t->sides[SIDE_PROGRESS])
		rpc_stream_cancel(s->stream);
	pthread_mutex_lock(&t->lock);
	s->ended = true;
	pthread_cond_broadcast(&t->changed);
	pthread_mutex_unlock(&t->lock);
	return NULL;
}

/* A stream, so that it can be given up. */
static int start_call(struct client_transfer *t, const ProtobufCMessage *source,
		      const ProtobufCMessage *destination, struct err *err)
{
	PB_TRANSFER(TransferRequest) req = PB_TRANSFER_INIT(TRANSFER_REQUEST);
	Google__Protobuf__Any from, to;
	int r;

	r = client_transfer_any(t->ctx->arena, source, &from, err);
	if (r == 0)
		r = client_transfer_any(t->ctx->arena, destination, &to, err);
	if (r < 0)
		return r;
	req.source = &from;
	req.destination = &to;
	req.options = &t->options;
	return client_stream(t->c, t->ctx, PB_TRANSFER_SERVICE, "Transfer", &req.base, &t->call,
			     err);
}

static void *call_thread(void *arg)
{
	struct client_transfer *t = arg;
	Google__Protobuf__Empty *unused;
	struct err e = ERR_INIT;
	int r;

	do
		r = rpc_stream_recv(t->call, t->ctx->arena, &google__protobuf__empty__descriptor,
				    &unused, &e);
	while (r > 0);
	if (r == 0)
		e = ERR_INIT;
	pthread_mutex_lock(&t->lock);
	t->call_err = e;
	t->call_ended = true;
	pthread_cond_broadcast(&t->changed);
	pthread_mutex_unlock(&t->lock);
	return NULL;
}

static struct timespec abstime(int64_t mono)
{
	return (struct timespec){.tv_sec = mono / NSEC_PER_SEC, .tv_nsec = mono % NSEC_PER_SEC};
}

/* Until the call has ended and the progress is complete. Under the lock, which is let go while
 * waiting. */
static void watch(struct client_transfer *t)
{
	int64_t drain = INT64_MAX;

	for (;;) {
		struct timespec until;
		int64_t now = time_mono();

		if (t->call_ended && drain == INT64_MAX)
			drain = now + DRAIN_NS;
		if (t->call_ended && (t->sides[SIDE_PROGRESS].ended || now >= drain))
			return;
		if (t->view && t->view->tick)
			t->view->tick(t->view->arg);
		until = abstime(MIN(drain, now + TICK_NS));
		pthread_cond_timedwait(&t->changed, &t->lock, &until);
	}
}

static int start_sides(struct client_transfer *t, struct err *err)
{
	for (size_t i = 0; i < SIDES; i++) {
		struct side *s = &t->sides[i];
		int r = s->stream ? client_thread_start(&s->thread, side_thread, s) : 0;

		if (r != 0)
			return err_errno(err, r, "start a thread");
		s->started = s->stream != NULL;
	}
	return 0;
}

/* Ends the streams' threads. The data stream of a transfer that went well ends by itself: the
 * archive is read to its end. */
static void stop_sides(struct client_transfer *t, bool failed)
{
	eventfd_write(t->stop_fd, 1);
	for (size_t i = 0; i < SIDES; i++) {
		struct side *s = &t->sides[i];

		if (!s->started)
			continue;
		if (failed || s->serve != serve_sink)
			rpc_stream_cancel(s->stream);
		pthread_join(s->thread, NULL);
		s->started = false;
		if (s->credit_started)
			pthread_join(s->credit_thread, NULL);
		s->credit_started = false;
	}
}

/* What failed on our side is why the call failed. Other errors of streams follow from the call's
 * end, but for an archive that came only in part. */
static int result(struct client_transfer *t, struct err *err)
{
	const struct side *data = &t->sides[SIDE_DATA];

	for (size_t i = 0; i < SIDES; i++)
		if (t->sides[i].local)
			return err_copy(err, &t->sides[i].err);
	if (t->call_err.kind)
		return err_copy(err, &t->call_err);
	return data->serve == serve_sink && data->err.kind ? err_copy(err, &data->err) : 0;
}

int client_transfer_run(struct client_transfer *t, const ProtobufCMessage *source,
			const ProtobufCMessage *destination,
			const struct client_transfer_view *view, struct err *err)
{
	pthread_t call;
	bool failed;
	int r;

	r = start_call(t, source, destination, err);
	if (r < 0)
		return too_old(r, err);
	t->view = view;
	r = start_sides(t, err);
	if (r == 0) {
		r = client_thread_start(&call, call_thread, t);
		if (r != 0)
			err_errno(err, r, "start a thread");
	}
	if (r != 0) {
		stop_sides(t, true);
		return err ? -err->kind : -ERR_UNKNOWN;
	}
	pthread_mutex_lock(&t->lock);
	watch(t);
	failed = t->call_err.kind != 0;
	pthread_mutex_unlock(&t->lock);
	pthread_join(call, NULL);
	stop_sides(t, failed);
	return too_old(result(t, err), err);
}

/* ---- Life ---- */

int client_transfer_new(struct client *c, struct ctx *ctx, struct client_transfer **ret,
			struct err *err)
{
	struct client_transfer *t _cleanup_(client_transfer_freep) = NULL;
	pthread_condattr_t attr;
	int r;

	r = client_share(c, err);
	if (r < 0)
		return r;
	t = calloc(1, sizeof(*t));
	if (!t)
		return err_nomem(err);
	t->c = c;
	t->ctx = ctx;
	pthread_mutex_init(&t->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&t->changed, &attr);
	pthread_condattr_destroy(&attr);
	t->stop_fd = eventfd(0, EFD_CLOEXEC);
	if (t->stop_fd < 0)
		return err_errno(err, errno, "make an eventfd");
	t->saved_arena = arena_new(0);
	if (!t->saved_arena)
		return err_nomem(err);
	r = side_open(t, SIDE_PROGRESS, serve_progress, err);
	if (r < 0)
		return r;
	containerd__services__transfer__v1__transfer_options__init(&t->options);
	t->options.progress_stream = (char *)t->sides[SIDE_PROGRESS].id;
	*ret = TAKE_PTR(t);
	return 0;
}

PB_TRANSFER(TransferOptions) * client_transfer_options(struct client_transfer *t)
{
	return &t->options;
}

void client_transfer_free(struct client_transfer *t)
{
	if (t->call)
		rpc_stream_free(t->call);
	for (size_t i = 0; i < SIDES; i++)
		if (t->sides[i].stream)
			rpc_stream_free(t->sides[i].stream);
	fd_closep(&t->stop_fd);
	arena_free(t->saved_arena);
	pthread_cond_destroy(&t->changed);
	pthread_mutex_destroy(&t->lock);
	free(t);
}

int client_transfer_add_auth(struct client_transfer *t, client_auth_fn fn, void *arg,
			     const char **ret_id, struct err *err)
{
	int r;

	t->sides[SIDE_AUTH].auth = fn;
	t->sides[SIDE_AUTH].auth_arg = arg;
	r = side_open(t, SIDE_AUTH, serve_auth, err);
	if (r == 0)
		*ret_id = t->sides[SIDE_AUTH].id;
	return r;
}

static int add_data(struct client_transfer *t, int (*serve)(struct side *s, struct err *err),
		    int fd, const char **ret_id, struct err *err)
{
	int r;

	t->sides[SIDE_DATA].fd = fd;
	r = side_open(t, SIDE_DATA, serve, err);
	if (r == 0)
		*ret_id = t->sides[SIDE_DATA].id;
	return r;
}

int client_transfer_add_source(struct client_transfer *t, int fd, const char **ret_id,
			       struct err *err)
{
	return add_data(t, serve_source, fd, ret_id, err);
}

int client_transfer_add_sink(struct client_transfer *t, int fd, const char **ret_id,
			     struct err *err)
{
	return add_data(t, serve_sink, fd, ret_id, err);
}

const struct labels *client_transfer_saved(const struct client_transfer *t)
{
	return &t->saved;
}
