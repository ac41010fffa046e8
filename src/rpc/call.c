/* SPDX-License-Identifier: Apache-2.0 */
/* Calls of a server, independent of the transport: the table of methods, and the life of a call.
 *
 * References of a call: the stream's (dropped by rpc_call_detach), the running handler's, and the
 * outcome's (dropped by rpc_finish). The request's arena belongs to the thread that runs the
 * handler and is gone when that returns, so a deferred call costs little. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/str.h"
#include "base/time.h"
#include "base/trace.h"
#include "rpc/internal.h"

/* ---- Methods ---- */

static size_t path_hash(const char *s)
{
	uint64_t h = 0xcbf29ce484222325u;

	for (; *s; s++)
		h = (h ^ (unsigned char)*s) * 0x100000001b3u;
	return (size_t)(h ^ (h >> 32));
}

static int table_rebuild(struct rpc_server *s)
{
	size_t size = 16;
	size_t *table;

	while (size < s->n_entries * 2)
		size *= 2;
	table = calloc(size, sizeof(*table));
	if (!table)
		return -ENOMEM;
	for (size_t i = 0; i < s->n_entries; i++) {
		size_t k = path_hash(s->entries[i].path) & (size - 1);

		while (table[k])
			k = (k + 1) & (size - 1);
		table[k] = i + 1;
	}
	free(s->table);
	s->table = table;
	s->table_size = size;
	return 0;
}

static int entry_add(struct rpc_server *s, const struct rpc_service *service,
		     const struct rpc_method *m)
{
	struct rpc_entry *e = &s->entries[s->n_entries];

	*e = (struct rpc_entry){.service = service};
	e->method = rpc_service_method(service, m->name, &e->in, &e->out);
	if (!e->method)
		return -EINVAL;
	if (asprintf(&e->path, "/%s/%s", service->desc->name, m->name) < 0) {
		e->path = NULL;
		return -ENOMEM;
	}
	e->stats = calloc(1, sizeof(*e->stats));
	if (!e->stats) {
		free(e->path);
		return -ENOMEM;
	}
	s->n_entries++;
	return 0;
}

int rpc_server_add(struct rpc_server *s, const struct rpc_service *service)
{
	struct rpc_entry *entries;
	const struct rpc_service **services;

	for (size_t i = 0; i < s->n_services; i++)
		if (streq(s->services[i]->desc->name, service->desc->name))
			return -EEXIST;
	services = reallocarray(s->services, s->n_services + 1, sizeof(const struct rpc_service *));
	if (!services)
		return -ENOMEM;
	s->services = services;
	entries = reallocarray(s->entries, s->n_entries + service->n_methods + 1, sizeof(*entries));
	if (!entries)
		return -ENOMEM;
	s->entries = entries;
	for (size_t i = 0; i < service->n_methods; i++) {
		int r = service->methods[i].fn ? entry_add(s, service, &service->methods[i]) : 0;

		if (r < 0)
			return r;
	}
	s->services[s->n_services++] = service;
	return table_rebuild(s);
}

void rpc_server_done(struct rpc_server *s)
{
	for (size_t i = 0; i < s->n_entries; i++) {
		free(s->entries[i].path);
		free(s->entries[i].stats);
	}
	free(s->entries);
	free(s->services);
	free(s->table);
}

const struct rpc_entry *rpc_server_find(const struct rpc_server *s, const char *path)
{
	if (!s->table_size)
		return NULL;
	for (size_t k = path_hash(path) & (s->table_size - 1); s->table[k];
	     k = (k + 1) & (s->table_size - 1))
		if (streq(s->entries[s->table[k] - 1].path, path))
			return &s->entries[s->table[k] - 1];
	return NULL;
}

int rpc_server_why(const struct rpc_server *s, const char *path, struct err *err)
{
	const char *slash = path[0] == '/' ? strrchr(path, '/') : NULL;
	int n;

	if (!slash || slash == path)
		return err_set_raw(err, ERR_UNIMPLEMENTED, "malformed method name: \"%s\"", path);
	n = (int)MIN(slash - path - 1, 512);
	for (size_t i = 0; i < s->n_services; i++) {
		const ProtobufCServiceDescriptor *d = s->services[i]->desc;

		if (strlen(d->name) != (size_t)(slash - path - 1) ||
		    strncmp(d->name, path + 1, (size_t)n) != 0)
			continue;
		if (protobuf_c_service_descriptor_get_method_by_name(d, slash + 1))
			return err_set_raw(err, ERR_UNIMPLEMENTED,
					   "method %s of %s is not implemented", slash + 1,
					   d->name);
		return err_set_raw(err, ERR_UNIMPLEMENTED, "unknown method %s for service %s",
				   slash + 1, d->name);
	}
	return err_set_raw(err, ERR_UNIMPLEMENTED, "unknown service %.*s", n, path + 1);
}

/* ---- Counting ---- */

const double rpc_bucket_bounds[RPC_BUCKETS] = {0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
					       0.5,   1,    2.5,   5,	 10};

static void count(atomic_uint_least64_t *n, uint64_t by)
{
	atomic_fetch_add_explicit(n, by, memory_order_relaxed);
}

static void count_end(const struct rpc_call *c, int code, int64_t ns)
{
	struct rpc_stats *s = c->entry->stats;
	size_t i = 0;

	while (i < RPC_BUCKETS && (double)ns > rpc_bucket_bounds[i] * 1e9)
		i++;
	count(&s->handled[code >= 0 && code < RPC_CODES ? code : ERR_UNKNOWN], 1);
	count(&s->buckets[i], 1);
	count(&s->ns, (uint64_t)ns);
}

/* ---- The transport's side ---- */

int rpc_call_init(struct rpc_call *c, struct rpc_server *s, const struct rpc_pipe_ops *ops)
{
	c->md = calloc(1, sizeof(*c->md));
	if (!c->md)
		return -ENOMEM;
	rpc_pipe_init(&c->pipe, &s->hub, ops);
	c->server = s;
	c->start = time_mono();
	c->ctx.ns = c->ctx.lease = "";
	return 0;
}

void rpc_call_done(struct rpc_call *c)
{
	buf_done(c->md);
	free(c->md);
	free(c->text);
	free(c->path);
	arena_free(c->recv_arena);
	rpc_pipe_done(&c->pipe);
}

int rpc_call_add_metadata(struct rpc_call *c, const char *key, size_t nkey, const char *value,
			  size_t nvalue)
{
	if (nkey > RPC_METADATA_MAX || nvalue > RPC_METADATA_MAX ||
	    c->md->len + nkey + nvalue + 2 > RPC_METADATA_MAX)
		return -E2BIG;
	/* A NUL inside would shift the pairs. */
	if (memchr(key, 0, nkey) || memchr(value, 0, nvalue))
		return 0;
	buf_add(c->md, key, nkey);
	buf_addc(c->md, '\0');
	buf_add(c->md, value, nvalue);
	buf_addc(c->md, '\0');
	return buf_ok(c->md) ? 0 : -ENOMEM;
}

const char *rpc_metadata(struct rpc_call *c, const char *key)
{
	const char *p = c->md->data;
	const char *end = p ? p + c->md->len : NULL;

	while (p < end) {
		const char *value = p + strlen(p) + 1;

		if (streq(p, key))
			return value;
		p = value + strlen(value) + 1;
	}
	return NULL;
}

void rpc_call_set_namespace(struct rpc_call *c, const char *ns_key, const char *lease_key)
{
	const char *ns = rpc_metadata(c, ns_key);
	const char *lease = lease_key ? rpc_metadata(c, lease_key) : NULL;

	c->ctx.ns = ns ? ns : "";
	c->ctx.lease = lease ? lease : "";
}

static void call_deadline(void *arg)
{
	struct rpc_call *c = arg;
	bool finished;

	pthread_mutex_lock(&c->pipe.mu);
	finished = c->finished;
	pthread_mutex_unlock(&c->pipe.mu);
	/* A reply that is on its way goes on. */
	if (finished)
		return;
	rpc_call_cancel(c, ERR_DEADLINE_EXCEEDED, "context deadline exceeded");
	rpc_pipe_mark(&c->pipe);
}

int rpc_call_set_deadline(struct rpc_call *c, int64_t at)
{
	c->ctx.deadline = at;
	return loop_add_timer(c->server->hub.loop, at, call_deadline, c, &c->timer);
}

void rpc_call_cancel(struct rpc_call *c, int kind, const char *text)
{
	void (*fn)(void *arg) = NULL;
	void *arg = NULL;

	if (!rpc_pipe_end(&c->pipe, kind, text, true))
		return;
	atomic_store(&c->ctx.canceled, true);
	pthread_mutex_lock(&c->pipe.mu);
	if (!c->finished) {
		fn = c->cancel_fn;
		arg = c->cancel_arg;
		c->cancel_fn = NULL;
	}
	pthread_mutex_unlock(&c->pipe.mu);
	if (fn)
		fn(arg);
}

void rpc_call_flush(struct rpc_call *c)
{
	void (*fn)(void *arg) = NULL;
	void *arg = NULL;

	pthread_mutex_lock(&c->pipe.mu);
	if (c->cancel_due && !c->finished) {
		fn = c->cancel_fn;
		arg = c->cancel_arg;
		c->cancel_fn = NULL;
	}
	c->cancel_due = false;
	pthread_mutex_unlock(&c->pipe.mu);
	if (fn)
		fn(arg);
}

void rpc_call_detach(struct rpc_call *c)
{
	rpc_call_cancel(c, ERR_CANCELED, "context canceled");
	loop_source_free(TAKE_PTR(c->timer));
	rpc_pipe_unref(&c->pipe);
}

bool rpc_call_status(const struct rpc_call *c, int *ret_code, const char **ret_text)
{
	if (c->pipe.ended) {
		*ret_code = err_code(c->pipe.end_kind);
		*ret_text = c->pipe.end_text ? c->pipe.end_text : "";
		return true;
	}
	if (!c->finished)
		return false;
	*ret_code = c->code;
	*ret_text = c->text ? c->text : "";
	return true;
}

/* ---- The handler's side ---- */

struct ctx *rpc_ctx(struct rpc_call *c)
{
	return &c->ctx;
}

void *rpc_data(struct rpc_call *c)
{
	return c->entry ? c->entry->service->data : NULL;
}

static int request_take(struct rpc_call *c, const void **ret, struct err *err)
{
	_cleanup_(rpc_msg_freep) struct rpc_msg *m = NULL;
	int r = rpc_pipe_take(&c->pipe, NULL, &m, err);

	if (r < 0)
		return r;
	if (r == 0)
		return err_set_raw(err, ERR_INTERNAL, "the request has no message");
	count(&c->entry->stats->received, 1);
	return rpc_unpack(c->ctx.arena, c->entry->in, m->p, m->n, ret, err);
}

static int handler_run(struct rpc_call *c, struct err *err)
{
	const void *req = NULL;
	int r = 0;

	/* Given up before its turn came. */
	pthread_mutex_lock(&c->pipe.mu);
	if (c->pipe.ended)
		r = rpc_pipe_error(&c->pipe, err);
	pthread_mutex_unlock(&c->pipe.mu);
	if (r < 0)
		return r;
	c->ctx.arena = arena_new(RPC_ARENA_MAX);
	if (!c->ctx.arena)
		return err_nomem(err);
	if (!rpc_kind_streams_in(c->entry->method->kind)) {
		r = request_take(c, &req, err);
		if (r < 0)
			return r;
	}
	{
		TRACE_SPAN("rpc", c->entry->path, "namespace", c->ctx.ns);

		r = c->entry->method->fn(c, req, err);
	}
	if (r < 0 && !err->kind)
		err_set(err, -r, "%s", c->entry->method->name);
	return r;
}

static void call_run(void *arg)
{
	struct rpc_call *c = arg;
	struct err err = ERR_INIT;
	struct arena *arena;
	int r = handler_run(c, &err);

	/* The deferred call may be finished any moment, but this thread's reference keeps it. */
	arena = c->ctx.arena;
	if (r != RPC_DEFERRED)
		rpc_finish(c, r < 0 ? &err : NULL);
	arena_free(arena);
	rpc_pipe_unref(&c->pipe);
}

void rpc_call_dispatch(struct rpc_call *c)
{
	struct err err = ERR_INIT;
	int r;

	c->started = true;
	count(&c->entry->stats->started, 1);
	rpc_pipe_ref(&c->pipe); /* the handler's */
	rpc_pipe_ref(&c->pipe); /* the outcome's */
	if (!c->server->pool) {
		call_run(c);
		return;
	}
	r = pool_submit(c->server->pool, call_run, c);
	if (r == 0)
		return;
	err_errno(&err, r, "start the call");
	rpc_finish(c, &err);
	rpc_pipe_unref(&c->pipe);
}

void rpc_call_reject(struct rpc_call *c, const struct err *err)
{
	c->started = true;
	if (c->entry)
		count(&c->entry->stats->started, 1);
	rpc_pipe_ref(&c->pipe);
	rpc_finish(c, err);
}

int rpc_recv(struct rpc_call *c, ProtobufCMessage **ret, struct err *err)
{
	return rpc_recv_for(c, NULL, ret, err);
}

int rpc_recv_for(struct rpc_call *c, const struct ctx *user, ProtobufCMessage **ret,
		 struct err *err)
{
	_cleanup_(rpc_msg_freep) struct rpc_msg *m = NULL;
	int r = rpc_pipe_take(&c->pipe, user, &m, err);

	if (r <= 0)
		return r;
	if (!c->recv_arena)
		c->recv_arena = arena_new(RPC_ARENA_MAX);
	else
		arena_reset(c->recv_arena);
	if (!c->recv_arena)
		return err_nomem(err);
	count(&c->entry->stats->received, 1);
	r = rpc_unpack(c->recv_arena, c->entry->in, m->p, m->n, ret, err);
	return r < 0 ? r : 1;
}

static int call_send(struct rpc_call *c, struct rpc_msg *m, size_t limit, bool block,
		     const struct ctx *user, struct err *err)
{
	bool stream = rpc_kind_streams_out(c->entry->method->kind);
	bool second;
	int r;

	pthread_mutex_lock(&c->pipe.mu);
	second = !stream && c->sent > 0;
	c->sent++;
	pthread_mutex_unlock(&c->pipe.mu);
	if (second) {
		rpc_msg_free(m);
		return err_set_raw(err, ERR_INTERNAL, "second reply to a unary call");
	}
	r = rpc_pipe_put(&c->pipe, m, limit, block, user, err);
	if (r < 0)
		return r;
	count(&c->entry->stats->sent, 1);
	/* The only reply leaves together with the status. */
	if (stream)
		rpc_pipe_mark(&c->pipe);
	return 0;
}

int rpc_send(struct rpc_call *c, const ProtobufCMessage *msg, struct err *err)
{
	return rpc_send_for(c, NULL, msg, err);
}

int rpc_send_for(struct rpc_call *c, const struct ctx *user, const ProtobufCMessage *msg,
		 struct err *err)
{
	struct rpc_msg *m;
	int r = rpc_msg_pack(&c->server->hub, msg, c->server->max_send, &m, err);

	return r < 0 ? r : call_send(c, m, RPC_STREAM_SHARE, true, user, err);
}

int rpc_send_packed_nowait(struct rpc_call *c, const void *packed, size_t n, size_t limit,
			   struct err *err)
{
	struct rpc_msg *m;
	int r = rpc_msg_copy(&c->server->hub, packed, n, c->server->max_send, &m, err);

	return r < 0 ? r : call_send(c, m, MAX(limit, 1), false, NULL, err);
}

int rpc_defer(struct rpc_call *c)
{
	return RPC_DEFERRED;
}

int rpc_defer_wait(struct rpc_call *c)
{
	atomic_store(&c->waits, true);
	return RPC_DEFERRED;
}

/* Decides the outcome; pipe.mu held. */
static void outcome_set(struct rpc_call *c, const struct err *err)
{
	bool unary = c->entry && !rpc_kind_streams_out(c->entry->method->kind);

	if (err) {
		c->code = err->kind ? err_code(err->kind) : ERR_UNKNOWN;
		c->text = strdup(err->text);
	} else if (unary && !c->pipe.ended && !c->pipe.out.head) {
		c->code = ERR_INTERNAL;
		c->text = strdup("the method ended without a reply");
	}
	if (unary && c->code)
		rpc_queue_clear(&c->pipe.out);
}

void rpc_finish(struct rpc_call *c, const struct err *err)
{
	struct rpc_server *s = c->server;
	_cleanup_free_ char *text = NULL;
	const char *t = "";
	int64_t took = time_mono() - c->start;
	int code = 0;

	pthread_mutex_lock(&c->pipe.mu);
	if (c->finished) {
		pthread_mutex_unlock(&c->pipe.mu);
		return;
	}
	outcome_set(c, err);
	c->finished = true;
	c->cancel_fn = NULL;
	c->pipe.out_eof = c->pipe.in_closed = true;
	rpc_queue_clear(&c->pipe.in);
	rpc_call_status(c, &code, &t);
	if (s->on_done)
		text = strdup(t);
	pthread_mutex_unlock(&c->pipe.mu);
	if (c->entry)
		count_end(c, code, took);
	if (s->on_done)
		s->on_done(s->on_done_arg, c->entry ? c->entry->path : str_or(c->path, ""), code,
			   text ? text : "", took);
	rpc_pipe_mark(&c->pipe);
	rpc_pipe_unref(&c->pipe);
}

void rpc_on_cancel(struct rpc_call *c, void (*fn)(void *arg), void *arg)
{
	bool due;

	pthread_mutex_lock(&c->pipe.mu);
	if (c->finished) {
		pthread_mutex_unlock(&c->pipe.mu);
		return;
	}
	c->cancel_fn = fn;
	c->cancel_arg = arg;
	due = c->cancel_due = c->pipe.ended;
	pthread_mutex_unlock(&c->pipe.mu);
	if (due)
		rpc_pipe_mark(&c->pipe);
}
