/* SPDX-License-Identifier: Apache-2.0 */
/* Streams by name: see manager.h. A stream is on the stack of its handler, which leaves only when
 * no user holds it. */
#include "plugins/streaming/manager.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/str.h"
#include "protos.h"

/* Bytes that stream_offer() lets wait unread. */
#define OFFER_MAX ((size_t)1 << 20)

struct stream {
	struct streams *owner;
	struct stream *next;
	struct rpc_call *call;
	const char *ns, *id;
	const struct ctx *user; /* of who has taken it, or NULL */
	bool in_use, closed;	/* all under the owner's lock */
};

struct streams {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct stream *list;
};

int streams_new(struct streams **ret)
{
	struct streams *s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->changed, NULL);
	*ret = s;
	return 0;
}

void streams_free(struct streams *s)
{
	if (!s)
		return;
	pthread_cond_destroy(&s->changed);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

static struct stream *find(struct streams *s, const char *ns, const char *id)
{
	struct stream *st = s->list;
	while (st && (!streq(st->ns, ns) || !streq(st->id, id)))
		st = st->next;
	return st;
}

/* May still run when the handler has returned, so it knows the manager only; who waits looks at its
 * own context. */
static void canceled(void *arg)
{
	struct streams *s = arg;
	MUTEX_GUARD(&s->lock);
	pthread_cond_broadcast(&s->changed);
}

static bool over(const struct stream *st)
{
	return st->closed || atomic_load(&rpc_ctx(st->call)->canceled);
}

int streams_serve(struct streams *s, struct rpc_call *call, const char *id, struct err *err)
{
	struct ctx *ctx = rpc_ctx(call);
	const char *ns;
	Google__Protobuf__Empty empty = GOOGLE__PROTOBUF__EMPTY__INIT;
	int r = ctx_namespace(ctx, &ns, err);
	if (r == 0 && str_empty(id))
		r = err_set(err, ERR_INVALID_ARGUMENT, "stream id must not be empty");
	if (r < 0)
		return r;
	struct stream *st = arena_new_obj(ctx->arena, struct stream);
	char *name = arena_strdup(ctx->arena, id);
	if (!st || !name)
		return err_nomem(err);
	*st = (struct stream){.owner = s, .call = call, .ns = ns, .id = name};
	pthread_mutex_lock(&s->lock);
	if (find(s, ns, id)) {
		pthread_mutex_unlock(&s->lock);
		return err_set(err, ERR_ALREADY_EXISTS, "stream \"%s\"", id);
	}
	st->next = s->list;
	s->list = st;
	pthread_mutex_unlock(&s->lock);

	rpc_on_cancel(call, canceled, s);
	r = stream_send(st, &empty.base, err);

	pthread_mutex_lock(&s->lock);
	while (r == 0 && !over(st))
		pthread_cond_wait(&s->changed, &s->lock);
	struct stream **p = &s->list;
	while (*p != st)
		p = &(*p)->next;
	*p = st->next;
	while (st->in_use)
		pthread_cond_wait(&s->changed, &s->lock);
	pthread_mutex_unlock(&s->lock);
	return r;
}

int stream_get(struct ctx *ctx, struct streams *s, const char *id, struct stream **ret,
	       struct err *err)
{
	const char *ns;
	int r = ctx_namespace(ctx, &ns, err);
	if (r < 0)
		return r;
	MUTEX_GUARD(&s->lock);
	struct stream *st = find(s, ns, id);
	if (!st || over(st))
		return err_set(err, ERR_NOT_FOUND, "stream \"%s\"", id);
	if (st->in_use)
		return err_set(err, ERR_FAILED_PRECONDITION, "stream \"%s\" is in use", id);
	st->in_use = true;
	*ret = st;
	return 0;
}

void stream_bind(struct stream *s, const struct ctx *ctx)
{
	s->user = ctx;
}

/* @ret->value is the caller's to free. */
static int any_of(const ProtobufCMessage *msg, Google__Protobuf__Any *ret, struct err *err)
{
	size_t n = protobuf_c_message_get_packed_size(msg);
	uint8_t *packed = malloc(n + 1);
	if (!packed)
		return err_nomem(err);
	protobuf_c_message_pack(msg, packed);
	*ret = (Google__Protobuf__Any)GOOGLE__PROTOBUF__ANY__INIT;
	ret->type_url = (char *)msg->descriptor->name;
	ret->value = (ProtobufCBinaryData){.data = packed, .len = n};
	return 0;
}

int stream_send(struct stream *s, const ProtobufCMessage *msg, struct err *err)
{
	Google__Protobuf__Any any;
	int r = any_of(msg, &any, err);
	if (r < 0)
		return r;
	r = rpc_send_for(s->call, s->user, &any.base, err);
	free(any.value.data);
	return r;
}

int stream_offer(struct stream *s, const ProtobufCMessage *msg, struct err *err)
{
	Google__Protobuf__Any any;
	int r = any_of(msg, &any, err);
	if (r < 0)
		return r;
	size_t n = protobuf_c_message_get_packed_size(&any.base);
	_cleanup_free_ uint8_t *packed = malloc(n);
	if (packed)
		protobuf_c_message_pack(&any.base, packed);
	free(any.value.data);
	return packed ? rpc_send_packed_nowait(s->call, packed, n, OFFER_MAX, err) : err_nomem(err);
}

int stream_recv(struct stream *s, struct arena *a, const ProtobufCMessageDescriptor *desc,
		void *ret, struct err *err)
{
	Google__Protobuf__Any *any;
	int r = rpc_recv_for(s->call, s->user, (ProtobufCMessage **)&any, err);
	if (r <= 0)
		return r;
	const char *slash = strrchr(any->type_url, '/');
	if (!streq(slash ? slash + 1 : any->type_url, desc->name))
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "stream \"%s\": got %.200s where %s belongs", s->id, any->type_url,
			       desc->name);
	r = rpc_unpack(a, desc, any->value.data, any->value.len, ret, err);
	return r < 0 ? r : 1;
}

void stream_close(struct stream *s)
{
	if (!s)
		return;
	MUTEX_GUARD(&s->owner->lock);
	s->closed = true;
	s->in_use = false;
	pthread_cond_broadcast(&s->owner->changed);
}
