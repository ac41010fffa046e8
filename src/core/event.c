/* SPDX-License-Identifier: Apache-2.0 */
/* One lock around the list of subscriptions and the delivery: every subscriber sees events in the
 * same order, and a subscription that was taken back is not called any more. It is recursive, so a
 * subscriber may publish.
 *
 * Filters on event.<field> look into the payload, which is decoded by the first subscriber who asks
 * and only if its type is known here (the table below).
 */
#include "core/event.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/labels.h"
#include "base/str.h"
#include "base/time.h"
#include "protos.h"

struct event_subscription {
	struct event_exchange *exchange;
	struct event_subscription *next;
	struct arena *arena; /* the filter's */
	struct filter *filter;
	event_fn fn;
	void *arg;
};

struct event_exchange {
	pthread_mutex_t lock;
	struct event_subscription *subscriptions;
};

/* ---- what filters see of an event ---- */

#define EVENT(name) &containerd__events__##name##__descriptor
#define IMAGE_EVENT(name) &containerd__services__images__v1__##name##__descriptor

static const ProtobufCMessageDescriptor *const known[] = {
	EVENT(container_create),   EVENT(container_update),   EVENT(container_delete),
	EVENT(content_create),	   EVENT(content_delete),     IMAGE_EVENT(image_create),
	IMAGE_EVENT(image_update), IMAGE_EVENT(image_delete), EVENT(namespace_create),
	EVENT(namespace_update),   EVENT(namespace_delete),   EVENT(sandbox_create),
	EVENT(sandbox_start),	   EVENT(sandbox_exit),	      EVENT(snapshot_prepare),
	EVENT(snapshot_commit),	   EVENT(snapshot_remove),    EVENT(task_create),
	EVENT(task_start),	   EVENT(task_delete),	      EVENT(task_io),
	EVENT(task_exit),	   EVENT(task_oom),	      EVENT(task_exec_added),
	EVENT(task_exec_started),  EVENT(task_paused),	      EVENT(task_resumed),
	EVENT(task_checkpointed),
};

struct event_view {
	const struct event *e;
	bool decoded;
	ProtobufCMessage *msg; /* NULL = type not known, or damaged */
};

static const ProtobufCMessageDescriptor *descriptor_find(const char *type_url)
{
	const char *slash = strrchr(type_url, '/');
	const char *name = slash ? slash + 1 : type_url;

	for (size_t i = 0; i < ARRAY_LEN(known); i++)
		if (streq(known[i]->name, name))
			return known[i];
	return NULL;
}

static ProtobufCMessage *view_message(struct event_view *v)
{
	const ProtobufCMessageDescriptor *d;

	if (!v->decoded) {
		v->decoded = true;
		d = descriptor_find(v->e->type_url);
		if (d)
			v->msg = protobuf_c_message_unpack(d, NULL, v->e->payload_len,
							   v->e->payload);
	}
	return v->msg;
}

static bool is_map(const ProtobufCFieldDescriptor *f)
{
	const ProtobufCMessageDescriptor *d = f->descriptor;

	return f->label == PROTOBUF_C_LABEL_REPEATED && f->type == PROTOBUF_C_TYPE_MESSAGE &&
	       str_has_suffix(d->name, "Entry") && d->n_fields == 2 &&
	       d->fields[0].type == PROTOBUF_C_TYPE_STRING &&
	       d->fields[1].type == PROTOBUF_C_TYPE_STRING;
}

static const char *string_at(const ProtobufCMessage *m, unsigned int offset)
{
	const char *s = *(char *const *)((const char *)m + offset);

	return str_empty(s) ? NULL : s;
}

/* map<string, string>: the rest of the path is the key. */
static const char *map_get(const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f,
			   const char *const *path, size_t n)
{
	size_t count = *(const size_t *)((const char *)m + f->quantifier_offset);
	ProtobufCMessage *const *entries =
		*(ProtobufCMessage *const *const *)((const char *)m + f->offset);

	for (size_t i = 0; i < count; i++) {
		const ProtobufCFieldDescriptor *fields = entries[i]->descriptor->fields;
		const char *key = string_at(entries[i], fields[0].offset);
		struct label l = {key ? key : "", string_at(entries[i], fields[1].offset)};
		const char *v;

		if (!l.value)
			l.value = "";
		v = filter_label(&(struct labels){&l, 1, 1}, path, n);
		if (v)
			return v;
	}
	return NULL;
}

static const char *message_field(const ProtobufCMessage *m, const char *const *path, size_t n)
{
	for (; m && n > 0; path++, n--) {
		const ProtobufCFieldDescriptor *f =
			protobuf_c_message_descriptor_get_field_by_name(m->descriptor, path[0]);

		if (!f)
			return NULL;
		if (is_map(f))
			return map_get(m, f, path + 1, n - 1);
		if (f->label == PROTOBUF_C_LABEL_REPEATED ||
		    (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF))
			return NULL;
		if (f->type == PROTOBUF_C_TYPE_STRING)
			return string_at(m, f->offset);
		if (f->type == PROTOBUF_C_TYPE_BOOL)
			return *(const protobuf_c_boolean *)((const char *)m + f->offset) ? "true"
											  : "false";
		if (f->type != PROTOBUF_C_TYPE_MESSAGE)
			return NULL;
		m = *(ProtobufCMessage *const *)((const char *)m + f->offset);
	}
	return NULL;
}

static const char *event_field(const void *obj, const char *const *path, size_t n)
{
	struct event_view *v = (struct event_view *)obj; /* decodes on demand */

	if (n == 0)
		return NULL;
	if (streq(path[0], "namespace"))
		return str_empty(v->e->ns) ? NULL : v->e->ns;
	if (streq(path[0], "topic"))
		return str_empty(v->e->topic) ? NULL : v->e->topic;
	if (streq(path[0], "event"))
		return message_field(view_message(v), path + 1, n - 1);
	return NULL;
}

/* ---- exchange ---- */

int event_exchange_new(struct event_exchange **ret)
{
	struct event_exchange *x = calloc(1, sizeof(*x));
	pthread_mutexattr_t attr;
	int rc;

	if (!x)
		return -ENOMEM;
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE);
	rc = pthread_mutex_init(&x->lock, &attr);
	pthread_mutexattr_destroy(&attr);
	if (rc) {
		free(x);
		return -rc;
	}
	*ret = x;
	return 0;
}

void event_exchange_free(struct event_exchange *x)
{
	if (!x)
		return;
	while (x->subscriptions)
		event_unsubscribe(x->subscriptions);
	pthread_mutex_destroy(&x->lock);
	free(x);
}

static void deliver(struct event_exchange *x, const struct event *e)
{
	struct event_view view = {.e = e};
	MUTEX_GUARD(&x->lock);

	for (struct event_subscription *s = x->subscriptions; s; s = s->next)
		if (filter_match(s->filter, event_field, &view))
			s->fn(s->arg, e);
	if (view.msg)
		protobuf_c_message_free_unpacked(view.msg, NULL);
}

static int topic_validate(struct arena *a, const char *topic, struct err *err)
{
	char **parts;
	size_t n;

	if (str_empty(topic))
		return err_set(err, ERR_INVALID_ARGUMENT, "envelope topic \"\": must not be empty");
	if (topic[0] != '/')
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "envelope topic \"%s\": must start with '/'", topic);
	if (!topic[1])
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "envelope topic \"%s\": must have at least one component", topic);
	parts = str_split(a, topic + 1, '/', &n);
	if (!parts)
		return err_nomem(err);
	for (size_t i = 0; i < n; i++)
		if (ident_validate(parts[i], err) < 0)
			return err_prefix(err, "envelope topic \"%s\": component \"%s\"", topic,
					  parts[i]);
	return 0;
}

int event_publish_any(struct ctx *ctx, struct event_exchange *x, const char *topic,
		      const char *type_url, const void *p, size_t n, struct err *err)
{
	struct event e = {.timestamp = time_now(),
			  .topic = topic,
			  .type_url = type_url ? type_url : "",
			  .payload = p ? p : "",
			  .payload_len = n};

	if (ctx_namespace(ctx, &e.ns, err) < 0)
		return err_prefix(err, "failed publishing event");
	if (topic_validate(ctx->arena, topic, err) < 0)
		return err ? -err->kind : -ERR_INVALID_ARGUMENT;
	deliver(x, &e);
	return 0;
}

int event_publish(struct ctx *ctx, struct event_exchange *x, const char *topic,
		  const ProtobufCMessage *msg, struct err *err)
{
	size_t n = protobuf_c_message_get_packed_size(msg);
	uint8_t *p = arena_alloc(ctx->arena, n + 1);

	if (!p)
		return err_nomem(err);
	return event_publish_any(ctx, x, topic, msg->descriptor->name, p,
				 protobuf_c_message_pack(msg, p), err);
}

int event_forward(struct ctx *ctx, struct event_exchange *x, const struct event *e, struct err *err)
{
	struct event copy = *e;
	int rc;

	if (ident_validate(e->ns, err) < 0)
		return err_prefix(err, "event envelope has invalid namespace");
	rc = topic_validate(ctx->arena, e->topic, err);
	if (rc < 0)
		return rc;
	if (time_is_zero(e->timestamp))
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "timestamp must be set on forwarded event");
	if (!copy.type_url)
		copy.type_url = "";
	if (!copy.payload)
		copy.payload = "";
	deliver(x, &copy);
	return 0;
}

static void subscription_free(struct event_subscription *s)
{
	filter_free(s->filter);
	arena_free(s->arena);
	free(s);
}

int event_subscribe(struct event_exchange *x, const char *const *filters, size_t n, event_fn fn,
		    void *arg, struct event_subscription **ret, struct err *err)
{
	struct event_subscription *s = calloc(1, sizeof(*s));

	if (!s)
		return err_nomem(err);
	s->exchange = x;
	s->fn = fn;
	s->arg = arg;
	s->arena = arena_new(0);
	if (!s->arena) {
		subscription_free(s);
		return err_nomem(err);
	}
	if (filter_parse(s->arena, filters, n, &s->filter, err) < 0) {
		subscription_free(s);
		return err_prefix(err, "failed parsing subscription filters");
	}
	MUTEX_GUARD(&x->lock);
	s->next = x->subscriptions;
	x->subscriptions = s;
	*ret = s;
	return 0;
}

void event_unsubscribe(struct event_subscription *s)
{
	if (!s)
		return;
	{
		MUTEX_GUARD(&s->exchange->lock);
		struct event_subscription **p = &s->exchange->subscriptions;

		while (*p && *p != s)
			p = &(*p)->next;
		if (*p)
			*p = s->next;
	}
	subscription_free(s);
}
