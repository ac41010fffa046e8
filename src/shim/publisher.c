/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/publisher.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "base/time.h"
#include "protos.h"
#include "rpc/ttrpc.h"

#define SEND_TIMEOUT_NS (5 * NSEC_PER_SEC)
#define IDLE_NS (10 * NSEC_PER_SEC)
#define RETRY_MIN_NS (100 * NSEC_PER_MSEC)
#define RETRY_MAX_NS (5 * NSEC_PER_SEC)
#define GRACE_NS (3 * NSEC_PER_SEC)
#define REFUSED_MAX 5

struct event {
	struct event *next;
	const char *topic;
	const char *type;
	struct timespec at;
	unsigned refused;
	size_t n;
	uint8_t data[];
};

struct publisher {
	struct loop *loop;
	char *address, *ns;
	struct event *head, **tail;
	size_t n;
	bool sending;	   /* the head is on its way */
	bool head_dropped; /* the queue was full: the event on its way has left it */
	struct rpc_client *client;
	bool client_dead;
	int64_t delay;		   /* before the next try, 0 = none failed */
	struct loop_source *timer; /* next try, or idle */
	loop_fn empty_fn;
	void *empty_arg;
};

static void send_head(struct publisher *p);

static void client_drop(struct publisher *p)
{
	if (p->client)
		rpc_client_free(p->client);
	p->client = NULL;
	p->client_dead = false;
}

/* Never called from the client's call backs. */
static void on_timer(void *arg)
{
	struct publisher *p = arg;

	if (p->sending)
		return;
	if (!p->head || p->client_dead)
		client_drop(p);
	if (p->head)
		send_head(p);
}

static void on_client_close(void *arg)
{
	struct publisher *p = arg;

	p->client_dead = true;
	loop_timer_set(p->timer, time_mono() + (p->delay ? p->delay : 1));
}

static void retry_later(struct publisher *p)
{
	p->delay = p->delay ? MIN(p->delay * 2, RETRY_MAX_NS) : RETRY_MIN_NS;
	loop_timer_set(p->timer, time_mono() + p->delay);
}

static void head_pop(struct publisher *p)
{
	struct event *e = p->head;

	p->head = e->next;
	if (!p->head)
		p->tail = &p->head;
	p->n--;
	free(e);
}

static void next(struct publisher *p)
{
	loop_fn fn = p->empty_fn;

	if (p->head) {
		loop_timer_set(p->timer,
			       time_mono()); /* from the loop, not from within the client */
		return;
	}
	loop_timer_set(p->timer, time_mono() + IDLE_NS);
	p->empty_fn = NULL;
	if (fn)
		fn(p->empty_arg);
}

static bool is_away(const struct err *err)
{
	return err->kind == ERR_UNAVAILABLE || err->kind == ERR_DEADLINE_EXCEEDED ||
	       err->kind == ERR_CANCELED;
}

static void on_sent(void *arg, const uint8_t *resp, size_t n, const struct err *err)
{
	struct publisher *p = arg;

	p->sending = false;
	if (err && is_away(err)) {
		p->client_dead = true;
		p->head_dropped = false;
		retry_later(p);
		return;
	}
	if (err && !p->head_dropped && ++p->head->refused < REFUSED_MAX) {
		retry_later(p);
		return;
	}
	if (err && !p->head_dropped)
		log_warn("event %s was refused: %s", p->head->topic, err->text);
	p->delay = 0;
	if (!p->head_dropped)
		head_pop(p);
	p->head_dropped = false;
	next(p);
}

/* Does not wait for a daemon whose backlog is full. */
static int address_connect(const char *address, int *ret_fd)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	size_t n = strlen(address);

	if (n >= sizeof(sa.sun_path))
		return unix_connect(address, ret_fd);
	memcpy(sa.sun_path, address, n + 1);

	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		return -errno;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

static int client_connect(struct publisher *p)
{
	int fd, r;

	r = address_connect(p->address, &fd);
	if (r < 0)
		return r;
	p->client_dead = false;
	return ttrpc_client_new(p->loop, fd, on_client_close, p, &p->client);
}

static void send_head(struct publisher *p)
{
	struct event *e = p->head;
	Google__Protobuf__Timestamp at = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
	Google__Protobuf__Any any = GOOGLE__PROTOBUF__ANY__INIT;
	Containerd__Types__Envelope env = CONTAINERD__TYPES__ENVELOPE__INIT;
	Containerd__Services__Events__Ttrpc__V1__ForwardRequest req =
		CONTAINERD__SERVICES__EVENTS__TTRPC__V1__FORWARD_REQUEST__INIT;
	struct err err = ERR_INIT;

	if (!p->client) {
		if (client_connect(p) < 0) {
			retry_later(p);
			return;
		}
		if (p->delay) {
			loop_timer_set(p->timer, time_mono() + GRACE_NS);
			return;
		}
	}
	at.seconds = e->at.tv_sec;
	at.nanos = (int32_t)e->at.tv_nsec;
	any.type_url = (char *)e->type;
	any.value = (ProtobufCBinaryData){e->n, e->data};
	env.timestamp = &at;
	env.namespace_ = p->ns;
	env.topic = (char *)e->topic;
	env.event = &any;
	req.envelope = &env;
	p->sending = true;
	loop_timer_set(p->timer, 0);
	if (rpc_call_async(p->client, p->ns, "containerd.services.events.ttrpc.v1.Events",
			   "Forward", &req.base, SEND_TIMEOUT_NS, on_sent, p, NULL, &err) < 0) {
		p->sending = false;
		p->client_dead = true;
		retry_later(p);
	}
}

void publisher_send(struct publisher *p, const char *topic, const ProtobufCMessage *msg)
{
	size_t n = protobuf_c_message_get_packed_size(msg);
	struct event *e;

	if (!*p->address)
		return;
	e = malloc(sizeof(*e) + n);
	if (!e) {
		log_error("event %s: out of memory", topic);
		return;
	}
	*e = (struct event){
		.topic = topic, .type = msg->descriptor->name, .at = time_now(), .n = n};
	protobuf_c_message_pack(msg, e->data);
	if (p->n == PUBLISHER_MAX) {
		log_warn("event %s is lost: the daemon has not taken events for too long",
			 p->head->topic);
		if (p->sending)
			p->head_dropped = true;
		head_pop(p);
	}
	*p->tail = e;
	p->tail = &e->next;
	p->n++;
	if (!p->sending && !p->delay && p->n == 1 && !p->client_dead)
		send_head(p);
}

void publisher_kick(struct publisher *p)
{
	if (p->head && !p->sending && (!p->client || p->client_dead)) {
		loop_timer_set(p->timer, time_mono());
	}
}

size_t publisher_pending(const struct publisher *p)
{
	return p->n;
}

void publisher_when_empty(struct publisher *p, loop_fn fn, void *arg)
{
	if (!p->head) {
		fn(arg);
		return;
	}
	p->empty_fn = fn;
	p->empty_arg = arg;
}

int publisher_new(struct loop *l, const char *address, const char *ns, struct publisher **ret)
{
	struct publisher *p = calloc(1, sizeof(*p));
	const char *path = str_skip(address, "unix://");
	int r = -ENOMEM;

	if (!p)
		return -ENOMEM;
	p->loop = l;
	p->tail = &p->head;
	p->address = strdup(path ? path : address);
	p->ns = strdup(ns);
	if (p->address && p->ns)
		r = loop_add_timer(l, 0, on_timer, p, &p->timer);
	if (r < 0) {
		publisher_free(p);
		return r;
	}
	*ret = p;
	return 0;
}

void publisher_free(struct publisher *p)
{
	if (!p)
		return;
	client_drop(p);
	while (p->head)
		head_pop(p);
	loop_source_free(p->timer);
	free(p->address);
	free(p->ns);
	free(p);
}
