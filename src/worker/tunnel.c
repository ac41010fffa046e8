/* SPDX-License-Identifier: Apache-2.0 */
/* The connection of a tunnel and its channels' descriptors. Every event does what it can do at
 * once; settle() then looks what the tunnel waits for. */
#include "worker/tunnel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/str.h"
#include "base/time.h"
#include "rpc/msg.h"

#define LINGER_NS (5 * NSEC_PER_SEC)
#define SIZE_TEXT_MAX 1024 /* of a message with a terminal's size */
#define SENDS 8		   /* of what is in the buffer, before others have their turn */

static void settle(struct tunnel *t);

/* ---- channels ---- */

static struct tunnel *tunnel_of(struct source *s, size_t offset)
{
	return (struct tunnel *)((char *)s - offset);
}

struct channel *channel_by_id(struct tunnel *t, uint32_t id)
{
	struct channel *c = t->channels;

	while (c && c->id != id)
		c = c->next;
	return c;
}

struct channel *channel_by_role(struct tunnel *t, enum channel_role role)
{
	struct channel *c = t->channels;

	while (c && c->role != role)
		c = c->next;
	return c;
}

static void channel_close(struct channel *c)
{
	source_set(c->tunnel->front, &c->source, 0);
	if (c->source.fd >= 0)
		close(c->source.fd);
	c->source.fd = -1;
}

void channel_drop(struct channel *c)
{
	struct tunnel *t = c->tunnel;
	struct channel **p = &t->channels;

	while (*p != c)
		p = &(*p)->next;
	*p = c->next;
	t->n_channels--;
	channel_close(c);
	if (c->role == CHANNEL_STDIN || c->role == CHANNEL_DATA)
		t->framing->consumed(t, NULL, c->pending.len);
	buf_done(&c->pending);
	if (c->peer)
		c->peer->peer = NULL;
	/* An event of this round may still point at it. */
	c->next = t->front->dead_channels;
	t->front->dead_channels = c;
}

void channel_end(struct channel *c)
{
	if (!c->out_done)
		c->tunnel->framing->end(c->tunnel, c);
	c->out_done = true;
}

static void consumed(struct channel *c, size_t n)
{
	if (n > 0)
		c->tunnel->framing->consumed(c->tunnel, c, n);
}

/* Nobody takes any more what the client sends. */
static void channel_refuse(struct channel *c)
{
	consumed(c, c->pending.len);
	buf_done(&c->pending);
	c->in_done = true;
	if (c->role == CHANNEL_STDIN)
		channel_close(c);
}

void channel_shut(struct channel *c)
{
	channel_refuse(c);
	channel_close(c);
}

static void channel_write(struct channel *c)
{
	while (c->pending.len > 0) {
		ssize_t n = write(c->source.fd, c->pending.data, c->pending.len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0) {
			channel_refuse(c);
			break;
		}
		buf_consume(&c->pending, (size_t)n);
		consumed(c, (size_t)n);
		c->tunnel->last = time_mono();
	}
	if (c->in_end && !c->in_done) {
		c->in_done = true;
		if (c->role == CHANNEL_STDIN)
			channel_close(c);
		else
			(void)shutdown(c->source.fd, SHUT_WR);
	}
	if (c->role == CHANNEL_DATA)
		ports_moved(c);
}

static bool channel_reads(const struct channel *c)
{
	return c->source.fd >= 0 && !c->out_done &&
	       (c->role == CHANNEL_STDOUT || c->role == CHANNEL_STDERR || c->role == CHANNEL_DATA);
}

static size_t out_left(const struct tunnel *t)
{
	return t->out.len - t->out_off;
}

static size_t channel_room(const struct channel *c)
{
	const struct tunnel *t = c->tunnel;

	return out_left(t) >= OUT_FULL ? 0 : MIN(t->framing->room(t, c), PIECE_MAX);
}

static void channel_read(struct channel *c)
{
	struct tunnel *t = c->tunnel;
	char b[PIECE_MAX];
	size_t room = channel_room(c);
	ssize_t n;

	if (room == 0)
		return;
	n = read(c->source.fd, b, room);
	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n > 0) {
		t->framing->write(t, c, b, (size_t)n);
	} else {
		channel_end(c);
		if (c->role != CHANNEL_DATA)
			channel_close(c);
		else if (n < 0)
			channel_refuse(c);
	}
	if (c->role == CHANNEL_DATA)
		ports_moved(c);
}

static void on_channel(struct source *s, uint32_t events)
{
	struct channel *c = (struct channel *)s;
	struct tunnel *t = c->tunnel;
	bool bad = events & (EPOLLERR | EPOLLHUP);

	if (c->role == CHANNEL_STDIN && bad)
		channel_refuse(c);
	else if ((events & EPOLLOUT) || (bad && c->pending.len > 0))
		channel_write(c);
	if (channel_reads(c) && (bad || (events & EPOLLIN)))
		channel_read(c);
	settle(t);
}

struct channel *channel_new(struct tunnel *t, uint32_t id, enum channel_role role)
{
	struct channel *c = t->n_channels < CHANNELS_MAX ? calloc(1, sizeof(*c)) : NULL;

	if (!c)
		return NULL;
	c->source = (struct source){.fn = on_channel, .fd = -1};
	c->tunnel = t;
	c->id = id;
	c->role = role;
	c->window = t->first_window;
	c->next = t->channels;
	t->channels = c;
	t->n_channels++;
	return c;
}

void channel_set_fd(struct channel *c, int fd)
{
	/* The client has reset it before it was joined to anything. */
	bool over = c->role == CHANNEL_STDIN ? c->in_done : c->role != CHANNEL_DATA && c->out_done;

	if (over || c->source.fd >= 0 || fd_set_nonblock(fd, true) < 0) {
		close(fd);
		return;
	}
	c->source.fd = fd;
	if (c->role != CHANNEL_STDOUT && c->role != CHANNEL_STDERR)
		channel_write(c);
}

/* ---- the terminal's size ---- */

static void size_send(struct tunnel *t)
{
	if (!t->size_new || t->size_busy)
		return;
	t->size_new = false;
	t->size_busy = true;
	tunnel_send(t, json_pack("{s:{s:i,s:i}}", "resize", "width", (int)t->width, "height",
				 (int)t->height));
}

/* Members' names in any case: clients write both "Width" and "width". */
static int64_t size_member(json_t *j, const char *name)
{
	const char *key;
	json_t *v;

	json_object_foreach (j, key, v)
		if (strcasecmp(key, name) == 0 && json_is_integer(v))
			return json_integer_value(v);
	return 0;
}

/* {"Width":80,"Height":24}, one after another; what is none is dropped. */
static void size_parse(struct channel *c)
{
	struct tunnel *t = c->tunnel;
	json_error_t e;

	while (c->pending.len > 0) {
		_cleanup_json_ json_t *j =
			json_loadb(c->pending.data, c->pending.len, JSON_DISABLE_EOF_CHECK, &e);

		if (!j && json_error_code(&e) == json_error_premature_end_of_input &&
		    c->pending.len < SIZE_TEXT_MAX)
			break;
		if (!j || e.position <= 0) {
			buf_clear(&c->pending);
			break;
		}
		buf_consume(&c->pending, (size_t)e.position);
		int64_t w = size_member(j, "width"), h = size_member(j, "height");
		if (w <= 0 || w > UINT16_MAX || h <= 0 || h > UINT16_MAX)
			continue;
		t->width = (unsigned)w;
		t->height = (unsigned)h;
		t->size_new = true;
	}
	size_send(t);
}

int channel_input(struct channel *c, const void *p, size_t n)
{
	bool data = c->role == CHANNEL_STDIN || c->role == CHANNEL_DATA;

	if (n == 0)
		return 0;
	if (c->in_end || c->in_done || (!data && c->role != CHANNEL_RESIZE)) {
		consumed(c, n);
		return 0;
	}
	if (buf_add(&c->pending, p, n) < 0)
		return -ENOMEM;
	if (!data) {
		consumed(c, n);
		size_parse(c);
	} else if (c->source.fd >= 0) {
		channel_write(c);
	}
	return 0;
}

void channel_input_end(struct channel *c)
{
	if (c->in_end)
		return;
	c->in_end = true;
	if (c->source.fd >= 0 && (c->role == CHANNEL_STDIN || c->role == CHANNEL_DATA))
		channel_write(c);
}

/* ---- messages ---- */

void tunnel_send(struct tunnel *t, json_t *m)
{
	/* After the daemon's last word it listens no more, but what it has said goes on to the
	 * client. */
	if (t->state < TUNNEL_ENDING &&
	    (!m || t->control.fd < 0 || msg_send(t->control.fd, m, NULL, 0, NULL) < 0))
		t->client_eof = true;
	json_decref(m);
}

void tunnel_check_open(struct tunnel *t)
{
	unsigned have = 0;

	for (struct channel *c = t->channels; c; c = c->next)
		have |= 1u << c->role;
	if (t->state != TUNNEL_OPENING || (have & t->wanted) != t->wanted)
		return;
	t->state = TUNNEL_OPEN;
	t->deadline = 0;
	tunnel_send(t, json_pack("{s:{}}", "opened"));
}

/* Descriptors of a command, in the order of the streams. */
static void on_run(struct tunnel *t, const json_t *m, const int *fds, size_t n)
{
	static const struct {
		const char *name;
		enum channel_role role;
	} roles[] = {
		{"stdin", CHANNEL_STDIN}, {"stdout", CHANNEL_STDOUT}, {"stderr", CHANNEL_STDERR}};
	size_t i = 0;

	for (size_t k = 0; k < ARRAY_LEN(roles); k++) {
		struct channel *c = channel_by_role(t, roles[k].role);

		if (!json_bool(m, roles[k].name, false) || i >= n)
			continue;
		if (c)
			channel_set_fd(c, fds[i++]);
		else
			close(fds[i++]);
	}
	for (; i < n; i++)
		close(fds[i]);
}

static void control_close(struct tunnel *t)
{
	source_set(t->front, &t->control, 0);
	if (t->control.fd >= 0)
		close(t->control.fd);
	t->control.fd = -1;
}

static void on_end(struct tunnel *t, const json_t *m)
{
	if (t->state >= TUNNEL_ENDING)
		return;
	t->status = strdup(json_str(m, "status", ""));
	t->state = TUNNEL_ENDING;
	t->deadline = 0;
	control_close(t);
}

static void on_control(struct source *s, uint32_t events)
{
	struct tunnel *t = tunnel_of(s, offsetof(struct tunnel, control));
	_cleanup_json_ json_t *m = NULL;
	int fds[4];
	size_t n = ARRAY_LEN(fds);
	json_t *o;

	(void)events;
	/* The daemon has given it up. */
	if (msg_recv(t->control.fd, 0, &m, fds, &n, NULL) <= 0) {
		control_close(t);
		tunnel_finish(t, false);
		settle(t);
		return;
	}
	if ((o = json_obj(m, "run"))) {
		on_run(t, o, fds, n);
		n = 0;
	} else if ((o = json_obj(m, "dialed"))) {
		ports_dialed(t, o, n > 0 ? fds[--n] : -1);
	} else if (json_obj(m, "resized")) {
		t->size_busy = false;
		size_send(t);
	} else if ((o = json_obj(m, "end"))) {
		on_end(t, o);
	}
	while (n > 0)
		close(fds[--n]);
	settle(t);
}

/* ---- the client ---- */

static void tunnel_kill(struct tunnel *t)
{
	struct front *f = t->front;

	if (t->dead)
		return;
	t->dead = true;
	while (t->channels)
		channel_drop(t->channels);
	control_close(t);
	source_set(f, &t->client, 0);
	t->closed(t->arg);
	spdy_free(t->spdy);
	t->spdy = NULL;
	buf_done(&t->out);
	free(t->status);
	t->status = NULL;
	if (t->prev)
		t->prev->next = t->next;
	else
		f->tunnels = t->next;
	if (t->next)
		t->next->prev = t->prev;
	t->next = f->dead_tunnels;
	f->dead_tunnels = t;
}

void tunnel_finish(struct tunnel *t, bool fault)
{
	if (t->state >= TUNNEL_LAST)
		return;
	for (struct channel *c = t->channels; c; c = c->next)
		channel_end(c);
	t->framing->finish(t, fault);
	t->state = TUNNEL_LAST;
	t->deadline = 0;
	control_close(t);
	while (t->channels)
		channel_drop(t->channels);
}

static void client_read(struct tunnel *t)
{
	char b[PIECE_MAX];
	ssize_t n = recv(t->client.fd, b, sizeof(b), MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		t->client_eof = true;
		for (struct channel *c = t->channels, *next; c; c = next) {
			next = c->next;
			channel_input_end(c);
		}
		return;
	}
	t->last = time_mono();
	/* What comes after the last words is not for anybody. */
	if (t->state < TUNNEL_LAST && t->framing->input(t, b, (size_t)n) < 0)
		tunnel_finish(t, true);
}

/* False = it cannot be reached. */
static bool client_write(struct tunnel *t)
{
	for (int i = 0; i < SENDS && out_left(t) > 0; i++) {
		ssize_t n = send(t->client.fd, t->out.data + t->out_off, out_left(t),
				 MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN;
		t->out_off += (size_t)n;
		t->last = time_mono();
	}
	/* What is sent goes when it is all or much. */
	if (out_left(t) == 0) {
		buf_clear(&t->out);
		t->out_off = 0;
	} else if (t->out_off >= OUT_FULL) {
		buf_consume(&t->out, t->out_off);
		t->out_off = 0;
	}
	return buf_ok(&t->out);
}

static void on_client(struct source *s, uint32_t events)
{
	struct tunnel *t = tunnel_of(s, offsetof(struct tunnel, client));

	if (t->dead)
		return;
	if (events & (EPOLLERR | EPOLLHUP)) {
		tunnel_kill(t);
		return;
	}
	if (events & EPOLLIN)
		client_read(t);
	settle(t);
}

/* ---- what it waits for ---- */

static bool draining(const struct tunnel *t)
{
	for (const struct channel *c = t->channels; c; c = c->next)
		if (channel_reads(c))
			return true;
	return false;
}

static bool pending(const struct tunnel *t, size_t limit)
{
	for (const struct channel *c = t->channels; c; c = c->next)
		if (c->pending.len > limit && c->source.fd >= 0)
			return true;
	return false;
}

static bool blocked(const struct tunnel *t)
{
	if (out_left(t) > OUT_MAX)
		return true;
	for (const struct channel *c = t->channels; c; c = c->next)
		if (c->pending.len > PENDING_MAX)
			return true;
	return false;
}

static uint32_t channel_interest(const struct channel *c)
{
	uint32_t events = 0;

	if (c->source.fd < 0)
		return 0;
	if (channel_reads(c) && channel_room(c) > 0)
		events |= EPOLLIN;
	if (c->pending.len > 0)
		events |= EPOLLOUT;
	/* That its reader goes is always of interest. */
	if (c->role == CHANNEL_STDIN)
		events |= EPOLLERR;
	return events;
}

static int watch(struct tunnel *t)
{
	uint32_t events = EPOLLHUP; /* always */
	int r = 0;

	if (!t->client_eof && (t->state == TUNNEL_LINGER || !blocked(t)))
		events |= EPOLLIN;
	if (out_left(t) > 0)
		events |= EPOLLOUT;
	r = source_set(t->front, &t->client, events);
	for (struct channel *c = t->channels; r == 0 && c; c = c->next)
		if (c->source.fd >= 0)
			r = source_set(t->front, &c->source, channel_interest(c));
	if (r == 0 && t->control.fd >= 0)
		r = source_set(t->front, &t->control, EPOLLIN);
	return r;
}

/* The daemon's last word, when all before it was said. */
static void say_status(struct tunnel *t)
{
	struct channel *c = channel_by_role(t, CHANNEL_ERROR);

	if (c && !c->out_done && !str_empty(t->status))
		t->framing->write(t, c, t->status, strlen(t->status));
	tunnel_finish(t, false);
}

static void settle(struct tunnel *t)
{
	if (t->dead)
		return;
	if (t->state == TUNNEL_ENDING && !draining(t))
		say_status(t);
	if (!client_write(t)) {
		tunnel_kill(t);
		return;
	}
	if (t->state == TUNNEL_LAST && out_left(t) == 0) {
		(void)shutdown(t->client.fd, SHUT_WR);
		t->state = TUNNEL_LINGER;
		t->deadline = time_mono() + LINGER_NS;
	}
	/* Gone; what it has sent is passed on before. */
	if ((t->client_eof && (t->state >= TUNNEL_LAST || !pending(t, 0))) || watch(t) < 0)
		tunnel_kill(t);
}

/* ---- life ---- */

static unsigned roles_of(const json_t *list)
{
	static const char *const names[] = {"error", "stdin", "stdout", "stderr", "resize"};
	unsigned bits = 0;
	size_t i;
	json_t *v;

	json_array_foreach (list, i, v)
		for (unsigned k = 0; k < ARRAY_LEN(names); k++)
			if (streq(json_string_value(v) ? json_string_value(v) : "", names[k]))
				bits |= 1u << k;
	return bits;
}

static void configure(struct tunnel *t, const json_t *o)
{
	size_t i;
	json_t *v;

	t->framing = streq(json_str(o, "protocol", ""), "websocket") ? &framing_websocket
								     : &framing_spdy;
	t->ports = json_bool(o, "forward", false);
	t->base64 = json_bool(o, "base64", false);
	t->close_signal = json_bool(o, "close", false);
	t->wanted = roles_of(json_arr(o, "streams"));
	t->idle_ns = json_int(o, "idle_ms", 0) * NSEC_PER_MSEC;
	t->create_ns = json_int(o, "create_ms", 30000) * NSEC_PER_MSEC;
	json_array_foreach (json_arr(o, "ports"), i, v)
		if (t->n_ports < PORTS_MAX)
			t->port_list[t->n_ports++] = (uint16_t)json_integer_value(v);
}

void tunnel_start(struct front *f, int fd, void (*closed)(void *arg), void *arg,
		  const json_t *session, int control, const void *extra, size_t n_extra)
{
	struct tunnel *t = calloc(1, sizeof(*t));
	int r;

	if (!t || fd_set_nonblock(fd, true) < 0) {
		free(t);
		close(control);
		closed(arg);
		return;
	}
	t->front = f;
	t->closed = closed;
	t->arg = arg;
	t->client = (struct source){.fn = on_client, .fd = fd};
	t->control = (struct source){.fn = on_control, .fd = control};
	t->next = f->tunnels;
	if (t->next)
		t->next->prev = t;
	f->tunnels = t;
	configure(t, session);
	t->last = time_mono();
	if (!t->ports)
		t->deadline = t->last + t->create_ns;
	else
		t->state = TUNNEL_OPEN;
	/* Messages to the daemon are few and short; reading them is made not to wait by it. */
	r = fd_set_nonblock(control, false);
	if (r == 0)
		r = t->framing->start(t);
	if (r == 0 && n_extra > 0 && t->framing->input(t, extra, n_extra) < 0)
		tunnel_finish(t, true);
	if (r < 0)
		tunnel_kill(t);
	else
		settle(t);
}

static int64_t earlier(int64_t a, int64_t b)
{
	return !a || (b && b < a) ? b : a;
}

static int64_t expire(struct tunnel *t, int64_t now)
{
	int64_t first = 0, idle = t->idle_ns > 0 ? t->last + t->idle_ns : 0;
	bool changed = false;

	if (t->state < TUNNEL_LAST && t->deadline && t->deadline <= now) {
		tunnel_finish(t, false);
		changed = true;
	}
	for (struct channel *c = t->channels, *next; c; c = next) {
		next = c->next;
		if (!c->deadline || c->deadline > now) {
			first = earlier(first, c->deadline);
			continue;
		}
		ports_expired(c);
		changed = true;
		next = t->channels; /* two may be gone */
	}
	if ((idle && idle <= now) || (t->state == TUNNEL_LINGER && t->deadline <= now)) {
		tunnel_kill(t);
		return 0;
	}
	if (changed)
		settle(t);
	return t->dead ? 0 : earlier(earlier(first, idle), t->deadline);
}

int64_t tunnels_expire(struct front *f, int64_t now)
{
	int64_t first = 0;

	for (struct tunnel *t = f->tunnels, *next; t; t = next) {
		next = t->next;
		first = earlier(first, expire(t, now));
	}
	return first;
}

void tunnels_tend(struct front *f)
{
	struct channel *c;
	struct tunnel *t;

	while ((c = f->dead_channels)) {
		f->dead_channels = c->next;
		free(c);
	}
	while ((t = f->dead_tunnels)) {
		f->dead_tunnels = t->next;
		free(t);
	}
}
