/* SPDX-License-Identifier: Apache-2.0 */
/* ctr events: a line for each event of the daemon, until it ends or is interrupted. */
#include "base/time.h"
#include "ctr/commands.h"
#include "ctr/listing.h"
#include "ctr/record.h"
#include "rpc/rpc.h"

/* "2006-01-02 15:04:05.999999999 +0000 UTC" */
static void print_time(struct timespec t)
{
	char text[40];

	time_format_rfc3339(t, text);
	printf("%.10s %.*s +0000 UTC", text, (int)strcspn(text + 11, "Z"), text + 11);
}

/* The event as JSON, NULL when its type is not known here; -ERR_RESOURCE_EXHAUSTED. */
static int decode(struct arena *a, const PB_TYPES(Envelope) * e, json_t **ret, struct err *err)
{
	const ProtobufCMessageDescriptor *type =
		e->event ? client_any_type(e->event->type_url) : NULL;
	struct err problem = ERR_INIT;
	ProtobufCMessage *m;

	if (e->event && !type)
		ctr_warn("event of the unknown type \"%s\"", e->event->type_url);
	else if (type &&
		 rpc_unpack(a, type, e->event->value.data, e->event->value.len, &m, &problem) < 0)
		ctr_warn("%s: %s", e->topic, problem.text);
	else if (type) {
		*ret = pb_json(m);
		if (!*ret)
			return err_nomem(err);
	}
	return 0;
}

static int print_plain(const PB_TYPES(Envelope) * e, const json_t *event, struct err *err)
{
	char *text _cleanup_free_ = event ? json_dumps(event, JSON_COMPACT) : NULL;

	if (event && !text)
		return err_nomem(err);
	print_time(pb_time(e->timestamp));
	printf(" %s %s %s\n", e->namespace_, e->topic, text ? text : "");
	return 0;
}

/* One line for each event, whatever the form. */
static int print_event(struct arena *a, struct listing *l, const PB_TYPES(Envelope) * e,
		       struct err *err)
{
	json_t *event _cleanup_json_ = NULL, *row _cleanup_json_ = NULL;
	int r;

	r = decode(a, e, &event, err);
	if (r == 0 && l->form == LISTING_PLAIN)
		r = print_plain(e, event, err);
	else if (r == 0) {
		row = json_pack("{s:o,s:s,s:s,s:s,s:O?}", "Timestamp", listing_time(e->timestamp),
				"Namespace", e->namespace_, "Topic", e->topic, "Type",
				e->event ? e->event->type_url : "", "Event", event);
		r = listing_stream(l, row, err);
	}
	return r < 0 ? r : ctr_flush(err);
}

static int run_events(struct ctr *c, struct err *err)
{
	PB_EVENTS(SubscribeRequest) req = PB_EVENTS_INIT(SUBSCRIBE_REQUEST);
	struct rpc_stream *s _cleanup_(rpc_stream_freep) = NULL;
	struct listing l _cleanup_listing_ = {.table = TABLE_INIT(1, 8, 1, ' ')};
	struct arena *a _cleanup_arena_ = arena_new(0);
	PB_TYPES(Envelope) * e;
	int r;

	if (!a)
		return err_nomem(err);
	r = listing_begin(c, &l, "", err);
	if (r == 0)
		r = ctr_connect(c, err);
	if (r < 0)
		return r;
	req.filters = (char **)c->args;
	req.n_filters = c->n_args;
	r = client_stream(c->client, &c->ctx, PB_EVENTS_SERVICE, "Subscribe", &req.base, &s, err);
	if (r < 0)
		return r;
	for (;;) {
		arena_reset(a);
		r = rpc_stream_recv(s, a, &containerd__types__envelope__descriptor, &e, err);
		if (r <= 0)
			return r;
		r = print_event(a, &l, e, err);
		if (r < 0)
			return r;
	}
}

const struct ctr_command cmd_events = {
	.name = "events",
	.aliases = {"event"},
	.usage = "print events as they happen",
	.args = "[flags] [<filter>, ...]",
	.description =
		"   A filter is as `topic~=\"/tasks/\",namespace==default`; one that matches is "
		"enough. With --format json each line is\n"
		"   an object.",
	.flags = CTR_FLAGS(format_flags),
	.run = run_events,
};
